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

// Reset moves all rooms to the lost ones because the stream ended, and returns their addresses.
func (r *Rooms) Reset() []jid.JID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var was []jid.JID
	for key, rm := range r.rooms {
		rm.answer(entry{err: errDisconnected})
		r.lost[key] = rm
	}
	clear(r.rooms)
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
	rm := r.known(j)
	var err error
	if rm != nil {
		err = r.learnBans(ctx, rm)
	}
	is, enforced := r.Owner.Enforce(ctx, j, r.Configuration)
	if err = errors.Join(err, enforced); err == nil && rm != nil {
		err = errors.Join(r.noteSettings(ctx, rm, is), r.makeSure(ctx, rm, is))
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
				}
			}
		})
	}
	tick, swept := time.NewTicker(hostTick), r.Now()
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			r.withoutHost()
			if now := r.Now(); now.Sub(swept) >= sweepEvery {
				swept = now
				r.sweep()
			}
		}
	}
	_ = g.Wait()
}

// sweep takes back unused grants, leaves rooms that nobody came to, and has lost rooms entered again.
func (r *Rooms) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		r.takeBack(rm)
		r.leaveIfNeedless(rm)
		if rm.open && rm.noteDue() {
			r.change(rm.jid) // enforce writes it down
		}
	}
	for _, rm := range r.lost {
		r.stray(rm.jid)
	}
	for _, t := range r.trusts {
		r.doubt(t)
	}
}

const (
	// hostTick is the interval at which rooms are looked at in which grants hang on a host.
	hostTick = time.Second / 2
	// sweepEvery is the interval of the sweep, by the clock of the Options.
	sweepEvery = joinWithin / 6
)

// withoutHost takes back grants that hang on a host in rooms where no host has been for hostAway.
func (r *Rooms) withoutHost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.hanging {
		rm := r.rooms[key]
		if rm != nil && rm.open {
			r.noteHost(rm) // Hosts may answer otherwise now
			if !rm.hostless.IsZero() && r.Now().Sub(rm.hostless) >= hostAway {
				for bare, g := range rm.live {
					if g.hangs() {
						r.withdraw(rm, bare)
					}
				}
			}
		}
		if rm == nil || !rm.hanging() {
			delete(r.hanging, key)
		}
	}
}

// takeBack takes back grants that are not used, or that could not be taken back before.
func (r *Rooms) takeBack(rm *room) {
	if !rm.open {
		return
	}
	for bare, g := range rm.live {
		if !rm.has(bare) {
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
