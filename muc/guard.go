package muc

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
)

const (
	// lookAhead is how often Guard looks for a host who is awaited and due, and roomsAhead how often for a room that is.
	lookAhead, roomsAhead = 10 * time.Millisecond, 100 * time.Millisecond
	// soonest is the first pause between two looks for an awaited host, who follows the answer to their request within
	// milliseconds; seldomest is what it grows to.
	soonest, seldomest = 10 * time.Millisecond, time.Second
	// auditEvery is how often it is asked who is inside.
	auditEvery = joinWithin / 2
	// askWithin is how long a room may take to answer a question that nobody waits for.
	askWithin = 10 * time.Second
)

// GuardOptions say how Guard guards, beyond what it has in common with Rooms.
type GuardOptions struct {
	Options
	// Focus is the bare JID of the focus that keeps the rooms. It is nobody's host.
	Focus jid.JID
	// Interval is how often a room is looked at.
	Interval time.Duration
	// EnforceRoles has owners whom neither we nor a host have made lose what they are; see guard_roles.go.
	EnforceRoles bool
}

// Guard looks after rooms that another focus keeps. It is no occupant, so no room tells it anything: it acts as an owner
// does from outside, and asks.
//
// A room is known from the first admission on, until it is gone. Every Interval one request says again what the room must
// be, which also tells whether there still is one; now and then it is asked who is inside, and what was given to those who
// never came or have long left is taken back.
//
// Everything may be called by any goroutine. Run asks no more than atOnce questions at a time.
type Guard struct {
	GuardOptions
	moderators, outcasts shared[[]Item]

	mu      sync.Mutex
	rooms   map[string]*guarded
	awaited map[string]*awaited
}

// guarded is a room that we look after.
type guarded struct {
	jid  jid.JID
	main jid.JID // of a breakout room, whose it is
	grants
	roles
	first    sync.Mutex // held while the room is looked at for the first time
	open     atomic.Bool
	expected time.Time       // when a host was last admitted
	looking  bool            // somebody is at it
	next     time.Time       // when to look again
	audited  time.Time       // when it was last asked who is inside
	here     map[string]bool // who was, by bare JID
}

// awaited is a room in which somebody waits for a host.
type awaited struct {
	jid     jid.JID
	until   time.Time
	looking bool
	next    time.Time
	pause   time.Duration
}

// NewGuard returns a Guard. It starts nothing.
func NewGuard(o GuardOptions) *Guard {
	g := &Guard{GuardOptions: o, rooms: make(map[string]*guarded), awaited: make(map[string]*awaited)}
	g.moderators.ask = o.Owner.Moderators
	g.outcasts.ask = o.Owner.Outcasts
	return g
}

// room returns the record of a room, a new one if there is none. The caller holds mu.
func (g *Guard) room(j jid.JID) *guarded {
	rm := g.rooms[j.String()]
	if rm == nil {
		rm = &guarded{jid: j, grants: newGrants(j, g.Options), audited: time.Now()}
		// At random, so that rooms that began together are not looked at together.
		rm.next = time.Now().Add(rand.N(g.Interval))
		g.rooms[j.String()] = rm
	}
	return rm
}

// Restore takes in what an earlier process has granted, before Run.
func (g *Guard) Restore(written []Granted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range written {
		rm := g.room(w.Room)
		rm.inherited = true
		rm.live[w.Who.String()] = restored(w)
	}
}

// State tells whether the room exists, and whether a host is inside.
func (g *Guard) State(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	items, err := g.moderators.of(ctx, j)
	if Absent(err) {
		return false, false, nil
	}
	return err == nil, err == nil && g.hostAmong(j, items), err
}

// HostPresent tells whether a host is inside.
func (g *Guard) HostPresent(ctx context.Context, j jid.JID) (bool, error) {
	_, host, err := g.State(ctx, j)
	return host, err
}

func (g *Guard) hostAmong(j jid.JID, moderators []Item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	for _, i := range moderators {
		who, err := jid.ParseUnsafe(i.JID)
		if err != nil || !g.countable(who.JID) {
			continue
		}
		if !g.EnforceRoles || rm != nil && rm.mayOwn(who.Bare().String()) {
			return true
		}
	}
	return false
}

// countable tells whether somebody is neither a focus nor a service.
func (g *Guard) countable(who jid.JID) bool {
	bare := who.Bare()
	return !bare.Equal(g.Focus) && who.Domainpart() != g.Owner.JID.Domainpart() && g.Hosts(who.Domainpart())
}

// Open sees to it that a room that the focus has opened is what it must be, once for each room: later, the look at every
// Interval does. The error is ErrAbsent if there is no such room.
func (g *Guard) Open(ctx context.Context, j jid.JID, _ bool) error {
	g.mu.Lock()
	rm := g.room(j)
	g.mu.Unlock()
	rm.first.Lock()
	defer rm.first.Unlock()
	if rm.open.Load() {
		return nil
	}
	is, err := g.Owner.Settings(ctx, j)
	switch {
	case Absent(err):
		g.gone(rm)
		return ErrAbsent
	case err != nil:
		return err
	case is.MembersOnly && !is.MemberInvites, !g.Configuration.MembersOnly && !is.MemberInvites:
	default:
		if err := g.Owner.Configure(ctx, j, g.Configuration); err != nil {
			return err
		}
	}
	rm.open.Store(true)
	return nil
}

// Known tells whether a room has been opened and was still there when it was last looked at.
func (g *Guard) Known(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && rm.open.Load()
}

// gone forgets a room that is gone, and with it what was given there.
func (g *Guard) gone(rm *guarded) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rooms[rm.jid.String()] == rm {
		delete(g.rooms, rm.jid.String())
	}
	rm.end(nil)
}

// Grant gives who, a bare JID, the affiliation in a room that is open, until expires if that is not zero. When it returns
// nil the server has done it, else nothing is left of it. It is taken back if the person is not seen inside, or in a breakout
// room of this one, for half a minute or so. One person's grants must come one after the other.
func (g *Guard) Grant(ctx context.Context, j, who jid.JID, affiliation string, expires time.Time) error {
	bare := who.String()
	// What we give would lift a ban (XEP-0045 §9.1), of which nobody tells us.
	banned, err := g.outcasts.of(ctx, j)
	switch {
	case Absent(err):
		return ErrAbsent
	case err != nil:
		return err
	}
	for _, i := range banned {
		if i.JID == bare || i.JID == who.Domainpart() {
			return ErrOutcast
		}
	}
	gr := &grant{who: who, affiliation: affiliation, at: time.Now(), expires: expires, asked: true}
	g.mu.Lock()
	rm := g.rooms[j.String()]
	if rm == nil {
		g.mu.Unlock()
		return ErrAbsent
	}
	was := rm.live[bare]
	if was != nil {
		gr.joined, gr.seen = was.joined, was.seen
	}
	rm.live[bare] = gr
	g.mu.Unlock()

	err = rm.write(ctx, gr)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		return rm.unwritten(gr, was, err)
	}
	err = g.Owner.SetAffiliation(ctx, j, who, affiliation)
	if Absent(err) {
		g.gone(rm)
		return ErrAbsent
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gr.asked = false
	if err == nil && gr.withdrawn {
		err = errWithdrawn
	}
	if err != nil {
		g.withdraw(rm, bare) // what the server did of it, if anything, must not stay
	}
	return err
}

// Withdraw takes back what Grant gave, without waiting for the server.
func (g *Guard) Withdraw(j, who jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		g.withdraw(rm, who.String())
	}
}

// withdraw takes a grant back. The caller holds mu.
func (g *Guard) withdraw(rm *guarded, bare string) {
	if err := rm.take(bare); err != nil {
		g.Warn(rm.jid, "an affiliation could not be taken back yet", err)
	}
}

// Holds tells whether who has something from us in the room; in any room if that is zero.
func (g *Guard) Holds(j, who jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rm := range g.rooms {
		if gr := rm.live[who.Bare().String()]; gr != nil && !gr.withdrawn && !gr.asked && (j.Equal(jid.JID{}) || rm.jid.Equal(j)) {
			return true
		}
	}
	return false
}

// Main returns the main room of a breakout room, as the room's configuration names it to its owners (Jitsi's
// mod_muc_breakout_rooms.lua); the zero JID if it names none.
func (g *Guard) Main(ctx context.Context, breakout jid.JID) (jid.JID, error) {
	is, err := g.Owner.Settings(ctx, breakout)
	switch {
	case Absent(err):
		return jid.JID{}, ErrAbsent
	case err != nil || !is.Breakout:
		return jid.JID{}, err
	}
	main, err := jid.Parse(is.Main)
	if err != nil {
		return jid.JID{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.room(breakout)
	rm.main = main.Bare()
	return rm.main, nil
}

// Await looks for a host in the room until then, and tells Arrived.
func (g *Guard) Await(j jid.JID, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.awaited[j.String()]
	if a == nil {
		a = &awaited{jid: j, pause: seldomest, next: time.Now()}
		if rm := g.rooms[j.String()]; rm != nil && time.Since(rm.expected) < seldomest {
			a.pause = soonest
		}
		g.awaited[j.String()] = a
	}
	if until.After(a.until) {
		a.until = until
	}
}

// Expect says that a host has been admitted to the room and is about to enter: whoever waits for one there shall not wait
// long.
func (g *Guard) Expect(j jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		rm.expected = time.Now()
	}
	if a := g.awaited[j.String()]; a != nil {
		a.pause, a.next = soonest, time.Now().Add(soonest)
	}
}

// Reset gives up what was under way because the stream ended. Rooms are known on.
func (g *Guard) Reset() []jid.JID { return nil }

// Resume has all rooms looked at, which may have changed while we were away.
func (g *Guard) Resume(context.Context, []jid.JID, ...jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rm := range g.rooms {
		rm.next, rm.audited = time.Now().Add(rand.N(g.Interval)), time.Time{}
	}
}

// Leave does nothing: we are in no room, and the next process takes over what was granted.
func (g *Guard) Leave() {}

// Run looks at rooms until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	var looks errgroup.Group
	free := make(chan struct{}, atOnce)
	for range atOnce {
		free <- struct{}{}
	}
	tick := time.NewTicker(lookAhead)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			for _, look := range g.due(now, len(free), n%int(roomsAhead/lookAhead) == 0) {
				<-free
				looks.Go(func() error {
					defer func() { free <- struct{}{} }()
					ctx, cancel := context.WithTimeout(ctx, askWithin)
					defer cancel()
					look(ctx)
					return nil
				})
			}
		}
	}
	_ = looks.Wait()
}

// due returns up to n of the looks that are due: first for hosts who have been admitted and are about to enter, then at rooms
// that we look after, then for hosts of whom nothing is known. There may be more of those waits than looks can be had.
func (g *Guard) due(now time.Time, n int, rooms bool) []func(context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var looks []func(context.Context)
	await := func(expected bool) {
		for key, a := range g.awaited {
			switch {
			case a.looking:
			case now.After(a.until):
				delete(g.awaited, key)
			case len(looks) < n && !now.Before(a.next) && expected == (a.pause < seldomest):
				a.looking = true
				looks = append(looks, func(ctx context.Context) { g.await(ctx, a) })
			}
		}
	}
	await(true)
	if rooms {
		for _, rm := range g.rooms {
			if len(looks) < n && !rm.looking && !now.Before(rm.next) {
				rm.looking = true
				looks = append(looks, func(ctx context.Context) { g.look(ctx, rm) })
			}
		}
	}
	await(false)
	return looks
}

// await looks for a host once.
func (g *Guard) await(ctx context.Context, a *awaited) {
	host, err := g.HostPresent(ctx, a.jid)
	g.mu.Lock()
	defer g.mu.Unlock()
	a.looking = false
	if err == nil && host {
		delete(g.awaited, a.jid.String())
		g.Arrived(a.jid)
		return
	}
	a.next = time.Now().Add(a.pause)
	a.pause = min(a.pause*3/2, seldomest)
}

// look looks at one room: what it must be is said again, and now and then it is asked who is inside.
func (g *Guard) look(ctx context.Context, rm *guarded) {
	g.mu.Lock()
	audit := g.EnforceRoles || time.Since(rm.audited) >= auditEvery || rm.overdue(time.Now())
	ours := rm.main.Equal(jid.JID{}) && g.Configuration.MembersOnly // a breakout room is what its main room is
	g.mu.Unlock()
	var err error
	if ours {
		err = g.Owner.Configure(ctx, rm.jid, g.Configuration)
	}
	if err == nil && audit {
		err = g.audit(ctx, rm)
	}
	if Absent(err) {
		g.gone(rm)
	} else if err != nil {
		g.Warn(rm.jid, "the room could not be looked at", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	rm.looking, rm.next = false, time.Now().Add(g.Interval)
}

// overdue tells whether a right has ended of which it is not known whether it was made use of in time.
func (rm *guarded) overdue(now time.Time) bool {
	for _, gr := range rm.live {
		if !gr.joined && gr.ended(now) {
			return true
		}
	}
	return false
}

// audit asks who is inside, and draws the consequences.
func (g *Guard) audit(ctx context.Context, rm *guarded) error {
	moderators, err := g.Owner.Moderators(ctx, rm.jid)
	if err != nil {
		return err
	}
	participants, err := g.Owner.Participants(ctx, rm.jid)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	rm.here, rm.audited = make(map[string]bool), time.Now()
	for _, i := range append(moderators, participants...) {
		if who, err := jid.ParseUnsafe(i.JID); err == nil {
			rm.here[who.Bare().String()] = true
		}
	}
	g.takeBack(rm)
	if g.EnforceRoles {
		g.judge(rm, moderators, participants)
	}
	return nil
}

// takeBack takes back what is not made use of, or could not be taken back before. The caller holds mu.
func (g *Guard) takeBack(rm *guarded) {
	now := rm.audited
	for bare, gr := range rm.live {
		if g.inside(rm, bare) {
			gr.joined, gr.seen = true, now
			if !gr.withdrawn {
				continue
			}
		}
		last := gr.at
		if gr.seen.After(last) {
			last = gr.seen
		}
		if gr.withdrawn || now.Sub(last) >= joinWithin || !gr.joined && gr.ended(now) {
			g.withdraw(rm, bare)
		}
	}
}

// inside tells whether somebody was in the room, or in one of its breakout rooms, when it was last asked.
func (g *Guard) inside(rm *guarded, bare string) bool {
	if rm.here[bare] {
		return true
	}
	for _, breakout := range g.rooms {
		if breakout.main.Equal(rm.jid) && breakout.here[bare] {
			return true
		}
	}
	return false
}
