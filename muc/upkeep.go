package muc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// Reset moves all rooms to the lost ones because the stream ended, and returns their addresses. What was sent to rooms last may be lost:
// they are to take it back once more, and those that have ended are returned as well.
func (r *Rooms) Reset() []jid.JID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var was []jid.JID
	for _, s := range r.sent.cut(r.Now(), func(jid.JID) bool { return true }) {
		rm, bare := r.rooms[s.room.String()], s.who.String()
		switch {
		case rm == nil && r.lost[s.room.String()] == nil:
			was = append(was, s.room)
		case rm != nil && rm.live[bare] == nil && !rm.outcasts[bare] && bare != "":
			rm.put(bare, withdrawn(rm.jid, bare))
		}
	}
	for key, rm := range r.rooms {
		rm.answer(entry{err: errDisconnected})
		delete(r.rooms, key)
		r.loses(rm)
	}
	clear(r.trusts)
	for _, rm := range r.lost {
		was = append(was, rm.jid)
	}
	return was
}

// Resume enters the rooms, and the public rooms of the services, if they exist: nobody else keeps them after a new connection.
// Other rooms of an earlier process become known when they send something to the occupant that it left there, or when somebody is
// admitted to them.
func (r *Rooms) Resume(ctx context.Context, rooms []jid.JID, services ...jid.JID) {
	known := make(map[string]jid.JID)
	for _, j := range rooms {
		known[j.String()] = j
	}
	maps.Copy(known, r.listed(ctx, services))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, j := range slices.Collect(maps.Values(known)) {
		g.Go(func() error { r.adopt(ctx, j); return nil })
	}
	_ = g.Wait()
}

// adopt enters a room if it exists, and forgets it otherwise.
func (r *Rooms) adopt(ctx context.Context, j jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	exists, _, err := r.state(ctx, j)
	switch {
	case err != nil && !errors.Is(err, errUnseen):
	case exists:
		err = r.Open(ctx, j, false)
	default:
		r.mu.Lock()
		if was := r.lost[j.String()]; was != nil {
			delete(r.lost, j.String())
			r.due.out(was)
			r.ended(was)
			was.end(nil)
		}
		r.mu.Unlock()
	}
	if err != nil && !errors.Is(err, ErrAbsent) && !errors.Is(err, errDisconnected) {
		r.Warn(j, "could not enter the room again", err)
	}
}

// enforce makes a changed room what it must be. It also asks who is banned, in case the news of a ban could not be read.
func (r *Rooms) enforce(ctx context.Context, j jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	r.mu.Lock()
	rm := r.rooms[j.String()]
	ours := rm != nil && rm.ours // the room tells of what is configured now, too
	r.mu.Unlock()
	var err error
	if rm != nil {
		err = r.learnBans(ctx, rm)
	}
	is, enforced := r.Owner.Enforce(ctx, j, r.Configuration)
	if err = errors.Join(err, enforced); err == nil && rm != nil {
		err = errors.Join(r.noteSettings(ctx, rm, is), r.makeSure(ctx, rm, is, ours))
	}
	if err == nil {
		err = r.tryAgain(ctx, j)
	}
	if err != nil && !Absent(err) {
		r.Warn(j, "could not restore members-only", err)
	}
}

// tryAgain makes a room members-only that strangers can enter, whatever the Configuration says.
func (o Options) tryAgain(ctx context.Context, j jid.JID) error {
	if o.Try == nil {
		return nil
	}
	err := o.Try(ctx, j)
	if errors.Is(err, ErrOpen) {
		o.Warn(j, "the room is made members-only", err)
		_, err = o.Owner.Enforce(ctx, j, Configuration{MembersOnly: true})
	}
	return err
}

// Run does what is due without anybody asking, until ctx ends: it leaves rooms that nobody came to, takes grants back from people
// who did not come, and enters strays.
func (r *Rooms) Run(ctx context.Context) {
	var g errgroup.Group
	for range atOnce {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case j := <-r.strays:
					r.adopt(ctx, j)
				case j := <-r.changed:
					r.enforce(ctx, j)
				case j := <-r.unneeded:
					r.finish(ctx, j)
				case rm := <-r.unnoted:
					r.noteDown(ctx, rm)
				case u := <-r.ungiven:
					r.asksAgain(ctx, u)
				}
			}
		})
	}
	doubted := r.Now()
	for ctx.Err() == nil {
		for r.lookAtDue() {
			continue
		}
		if now := r.Now(); now.Sub(doubted) >= lookAgain {
			doubted = now
			r.doubtAll()
		}
		r.wake.Sleep(ctx, r.Now(), r.nextDue(doubted))
	}
	_ = g.Wait()
}

// nextDue returns when something is due next, or zero if nothing is. Rooms were last doubted at that time.
func (r *Rooms) nextDue(doubted time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.due.first()
	for _, t := range r.trusts {
		if len(t.unsure) > 0 {
			due, _ = earliest(due, doubted.Add(lookAgain))
		}
	}
	return due
}

const (
	// hostTick is the interval at which usher looks at rooms in which grants hang on a host, and the least one between looks at rooms.
	hostTick = time.Second / 2
	// lookAgain is the time after which a room is looked at because of what may just have happened there.
	lookAgain = joinWithin / 6
	// looksAtATime is how many rooms are looked at before others get the lock.
	looksAtATime = 32
)

// Rooms are looked at when something is due there, and not otherwise. So all that changes a room also says when to look at it, by plan or soon.
// A look finds what is due next.

func (rm *room) place() *turn { return &rm.turn }

// plan has a room looked at, at that time at the latest. The caller holds mu.
func (r *Rooms) plan(rm *room, due time.Time) {
	if (rm.nth == 0 || due.Before(rm.turn.due)) && r.due.put(rm, due) {
		r.wake.Ring()
	}
}

// soon has a room looked at because something has happened there. The caller holds mu.
func (r *Rooms) soon(rm *room) { r.plan(rm, r.Now().Add(lookAgain)) }

// lookAtDue looks at some of the rooms that are due, and reports whether others may be.
func (r *Rooms) lookAtDue() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range looksAtATime {
		rm, is := r.due.take(r.Now())
		if !is {
			return false
		}
		r.look(rm)
	}
	return true
}

// look does what is due in a room. The caller holds mu.
func (r *Rooms) look(rm *room) {
	key := rm.jid.String()
	if r.lost[key] == rm {
		r.stray(rm.jid)
		r.soon(rm)
		return
	}
	if r.rooms[key] != rm || !rm.open {
		return // it is gone, or conclude will say when
	}
	r.withoutHost(rm)
	r.takeBack(rm)
	r.leaveIfNeedless(rm)
	if rm.noteDue() {
		select {
		case r.unnoted <- rm:
		default: // the queue is full; the next look tries again
		}
	}
	if r.rooms[key] == rm {
		r.plan(rm, r.nextLook(rm))
	}
}

// noteDown writes down that a room exists.
func (r *Rooms) noteDown(ctx context.Context, rm *room) {
	if err := rm.note(ctx, &r.mu); err != nil && ctx.Err() == nil {
		r.Warn(rm.jid, "could not write down the room", err)
	}
}

// nextLook returns when something is due next in a room that is open. The caller holds mu.
func (r *Rooms) nextLook(rm *room) time.Time {
	now := r.Now()
	next := now.Add(noteEvery)
	sooner := func(t time.Time) {
		if !t.After(now) {
			t = now.Add(lookAgain) // it could not be done now
		}
		if t.Before(next) {
			next = t
		}
	}
	for _, g := range rm.live {
		if due := g.due(now); !due.IsZero() {
			sooner(due)
		}
	}
	if len(rm.occupants) == 0 {
		sooner(rm.keepUntil)
	}
	if due := rm.noteAt(); !due.IsZero() {
		sooner(due)
	}
	return next
}

// due returns when a grant is to be looked at, or the zero time.
func (g *grant) due(now time.Time) time.Time {
	switch {
	case g.hangs():
		return now.Add(hostTick)
	case g.state.ending():
		return now.Add(lookAgain)
	case g.state.awaited():
		return g.At.Add(joinWithin)
	}
	return time.Time{}
}

// doubtAll looks after the rooms that were made on trust.
func (r *Rooms) doubtAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.trusts {
		r.doubt(t)
	}
}

// withoutHost takes back grants that hang on a host if none has been inside for hostAway. The caller holds mu.
func (r *Rooms) withoutHost(rm *room) {
	if !rm.hanging() {
		return
	}
	r.noteHost(rm) // Hosts may answer otherwise now
	if rm.hostless.IsZero() || r.Now().Sub(rm.hostless) < hostAway {
		return
	}
	for bare, g := range rm.live {
		if g.hangs() && g.At.Before(r.Now()) { // as Guard does; a look may be due in the moment in which a grant is given
			r.withdraw(rm, bare)
		}
	}
}

// takeBack takes back grants that are not used, or that could not be taken back before.
func (r *Rooms) takeBack(rm *room) {
	inside := make(map[string]bool, len(rm.occupants))
	for _, o := range rm.occupants {
		inside[o.bare] = true
	}
	for bare, g := range rm.live {
		if !inside[bare] {
			g.on(eventLeft) // perhaps while usher was not inside
		}
		if g.state.ending() || g.state.awaited() && r.Now().Sub(g.At) >= joinWithin {
			r.withdraw(rm, bare)
		}
	}
}

// Leave leaves the rooms that nobody else is in and that end with that, because usher stops. In other rooms its occupant stays, so
// that the next usher hears what goes on there (see strays). If such a room sends something before that, the server finds nobody to
// deliver it to, and removes the occupant. If next is true, a next usher knows the grants. Then the occupant also stays where
// somebody is about to come; without it they would find no room.
func (r *Rooms) Leave(_ context.Context, next bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		if len(rm.occupants) > 0 || rm.lasts != temporary || !rm.ours && r.Lobby != nil || next && rm.open && rm.expects() {
			continue
		}
		if r.forget(rm); !rm.ours {
			_ = r.Owner.Session.Send(r.Owner.iq(stanza.SetIQ, rm.jid).Wrap(configuration(temporaryRoom)))
		}
		_ = r.leave(rm) // the stream is about to be closed; there is nobody to tell
	}
}

// expects reports whether somebody is admitted who may still come.
func (rm *room) expects() bool {
	return rm.any(func(g *grant) bool { return !g.state.ending() })
}
