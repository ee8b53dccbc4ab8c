package muc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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
	// endedAhead is how often it is asked whether those are still inside whose right has ended: a token that has ended admits
	// nobody, also not those who leave and come again. They may be outside for as long, as of a page that is loaded anew.
	endedAhead = 5 * time.Second
	// maxKnocked is how many of those whom a room's lobby decides about are known.
	maxKnocked = 4 << 10
	// hangingAhead is how often a room is looked at in which a grant hangs on a host.
	hangingAhead = time.Second
	// askWithin is how long a room may take to answer a question that nobody waits for.
	askWithin = 10 * time.Second
)

// GuardOptions say how Guard guards, beyond what it has in common with Rooms.
type GuardOptions struct {
	Options
	// Focus is the bare JID of the focus that keeps the rooms. It is nobody's host.
	Focus jid.JID
	// Room tells which room is meant by an address that is written for clients.
	Room func(address string) (jid.JID, error)
	// Breakouts tells whether there is a service of breakout rooms; nil if there is none.
	Breakouts func() bool
	// Interval is how often a room is looked at.
	Interval time.Duration
	// EnforceRoles puts owners back that neither usher nor a host made; otherwise a warning tells of them, once for each room.
	// See guard_roles.go.
	EnforceRoles bool
}

// Guard looks after rooms that another focus keeps. It is no occupant, so no room tells it anything: it acts as an owner
// does from outside, and asks.
//
// A room is known from the first admission on, or since it was found (adopt.go), until it is gone. Every Interval one request says again what the room must
// be, which also tells whether there still is one; every auditEvery it is asked who is inside, and what was given to those
// who never came or have left is taken back.
//
// Nobody tells us of a ban, either, and whatever affiliation we set lifts one. So the outcasts are asked for right before we
// set any; a ban between that answer and what we set, within milliseconds, is lost.
//
// Everything may be called by any goroutine. Run looks at no more than atOnce rooms at a time.
type Guard struct {
	GuardOptions
	opened                        shared[struct{}]
	moderators, members, outcasts shared[[]Item]
	authenticates                 atomic.Bool // the focus does; see guard_roles.go

	mu      sync.Mutex
	rooms   map[string]*guarded
	of      map[string]map[*guarded]bool // breakout rooms by their main room
	awaited map[string]*awaited
}

// guarded is a room that we look after.
type guarded struct {
	jid  jid.JID
	main jid.JID // of a breakout room, whose it is
	grants
	roles
	open        bool
	attended    bool            // the focus was inside when it was last looked at
	searched    bool            // its lists have been looked through; see adopt.go
	peopled     bool            // somebody was inside who is no focus, when that was last asked
	used        bool            // somebody has been inside
	altered     bool            // somebody has made it persistent
	unasked     bool            // it was there, and nobody has been admitted to it yet
	left        time.Time       // since when nobody is, or zero; in the future if that has been seen to
	expected    time.Time       // when a host was last admitted
	looking     bool            // somebody is at it
	hurry       bool            // there is something to be taken back
	next, audit time.Time       // when to say again what it must be, and when to ask who is inside
	ends        time.Time       // by the clock of the Options: when to ask, too, because a right ends; zero for no such time
	here        map[string]bool // who was, by bare JID
	host        bool            // a host was, too
	hangs       time.Time       // when to ask, too, because a grant hangs on a host; zero for no such time
	hostless    time.Time       // by the clock of the Options: since when such looks have found no host; zero if the last one did
	knocked     map[string]bool // by bare JID: whom the room's lobby decides about; see LeaveToLobby
}

// NewGuard returns a Guard. It starts nothing.
func NewGuard(o GuardOptions) *Guard {
	o.clock()
	g := &Guard{GuardOptions: o, rooms: make(map[string]*guarded), of: make(map[string]map[*guarded]bool), awaited: make(map[string]*awaited)}
	g.opened.ask = g.open
	g.moderators.ask = o.Owner.Moderators
	g.members.ask = o.Owner.affiliated
	g.outcasts.ask = o.Owner.Outcasts
	return g
}

// room returns the record of a room, a new one if there is none. The caller holds mu.
func (g *Guard) room(j jid.JID) *guarded {
	rm := g.rooms[j.String()]
	if rm == nil {
		rm = &guarded{jid: j, grants: newGrants(j, g.Options)}
		g.spread(rm)
		g.rooms[j.String()] = rm
	}
	return rm
}

// spread has the room looked at at random times, so that rooms that began together are not looked at together.
func (g *Guard) spread(rm *guarded) {
	rm.next, rm.audit = time.Now().Add(rand.N(g.Interval)), time.Now().Add(rand.N(auditEvery))
	if rm.inherited && rm.next.Before(rm.audit) {
		rm.audit = rm.next // nobody has asked for some time
	}
}

// Restore takes in what an earlier process has granted, before Run.
func (g *Guard) Restore(written []Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range written {
		rm := g.room(w.Room)
		rm.inherited = true
		g.spread(rm)
		if w.isNote() {
			rm.remember(w)
			rm.used = true
			continue
		}
		if w.Affiliation == "" {
			g.belongs(rm, w.Who) // which is a room
			continue
		}
		gr := restored(w)
		if w.NeedsHost {
			// The next look shows whether its holder has come. Whoever is between two rooms just then has their time anew.
			gr.on(eventLeft)
			gr.At = time.Now()
			g.hang(rm)
		}
		rm.live[w.Who.String()] = gr
		g.auditInTime(rm)
	}
}

// State tells whether the room exists, and whether a host is inside, or in one of its breakout rooms.
func (g *Guard) State(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	items, err := g.moderators.of(ctx, j)
	if Absent(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	host = g.hostAmong(j, items)
	g.mu.Lock()
	g.adopt(j)
	g.mu.Unlock()
	if host {
		return true, true, nil
	}
	for _, b := range g.breakouts(j) {
		items, err := g.moderators.of(ctx, b)
		if err != nil && !Absent(err) {
			return true, false, err
		}
		if g.hostAmong(b, items) {
			return true, true, nil
		}
	}
	return true, false, nil
}

// breakouts returns the breakout rooms of a main room that we know.
func (g *Guard) breakouts(main jid.JID) (all []jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for b := range g.of[main.String()] {
		all = append(all, b.jid)
	}
	return all
}

// belongs says whose breakout room a room is; the zero JID if it is none. The caller holds mu.
func (g *Guard) belongs(rm *guarded, main jid.JID) {
	was, is := rm.main.String(), main.String()
	if delete(g.of[was], rm); len(g.of[was]) == 0 {
		delete(g.of, was)
	}
	if rm.main = main; main.Equal(jid.JID{}) {
		return
	}
	if g.of[is] == nil {
		g.of[is] = make(map[*guarded]bool)
	}
	g.of[is][rm] = true
}

// HostPresent tells whether a host is inside.
func (g *Guard) HostPresent(ctx context.Context, j jid.JID) (bool, error) {
	_, host, err := g.State(ctx, j)
	return host, err
}

func (g *Guard) hostAmong(j jid.JID, moderators []Item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hostIn(g.rooms[j.String()], moderators)
}

// hostIn tells whether a host is among the moderators of a room, nil for one that we do not know. The caller holds mu.
func (g *Guard) hostIn(rm *guarded, moderators []Item) bool {
	if rm != nil && !rm.main.Equal(jid.JID{}) {
		rm = g.rooms[rm.main.String()] // whose affiliations count in its breakout rooms
	}
	for _, i := range moderators {
		who, ok := i.real()
		if !ok || !g.countable(who) {
			continue
		}
		// Of a room that we do not know an earlier process did.
		if !g.EnforceRoles || rm == nil || moderates(i.Affiliation) && rm.mayBe(who.Bare().String(), i.Affiliation) {
			return true
		}
	}
	return false
}

// countable tells whether somebody is a host if they moderate.
func (g *Guard) countable(who jid.JID) bool { return !g.isFocus(who) && g.Hosts(who.Domainpart()) }

// isFocus tells whether somebody is the focus, or one of us.
func (g *Guard) isFocus(who jid.JID) bool {
	return who.Bare().Equal(g.Focus) || g.isOurs(who)
}

// Open sees to it that a room that the focus has opened is what it must be, once for each room: later, the look at every
// Interval does. The error is ErrAbsent if there is no such room.
func (g *Guard) Open(ctx context.Context, j jid.JID, _ bool) error {
	g.mu.Lock()
	rm := g.rooms[j.String()]
	known := rm != nil && rm.open
	if known {
		rm.attended = true
	}
	g.mu.Unlock()
	if known {
		return nil
	}
	_, err := g.opened.of(ctx, j)
	return err
}

func (g *Guard) open(ctx context.Context, j jid.JID) (none struct{}, err error) {
	if g.Known(j) {
		return none, nil
	}
	is, err := g.Owner.Enforce(ctx, j, g.Configuration)
	var rights, moderators []Item
	var since time.Time
	if err == nil {
		var asked errgroup.Group
		asked.Go(func() (err error) { rights, since, err = g.search(ctx, j); return err })
		asked.Go(func() (err error) { moderators, err = g.Owner.Moderators(ctx, j); return err })
		err = asked.Wait()
	}
	if err == nil && g.Try != nil {
		err = g.Try(ctx, j)
	}
	g.mu.Lock()
	switch {
	case Absent(err):
		if rm := g.rooms[j.String()]; rm != nil {
			g.gone(rm)
		}
		g.mu.Unlock()
		return none, ErrAbsent
	case err != nil:
		g.mu.Unlock()
		return none, err
	}
	rm := g.room(j)
	rm.open = true
	rm.attended = slices.ContainsFunc(moderators, g.attends)
	rm.used = rm.used || len(moderators) > 0
	rm.inherited, rm.unasked = rm.inherited && !rm.unasked, false // as if we had not known of it
	rm.learn(is)
	rm.altered = rm.altered || is.Persistent && rm.lasts == temporary
	if !rm.searched && rm.ruled() {
		g.searched(rm, rights, since)
	}
	rm.find(moderators)
	g.mu.Unlock()
	// It is guarded, whatever becomes of that. It is tried again at later looks.
	if err := rm.note(ctx, &g.mu); err != nil && ctx.Err() == nil {
		g.Warn(j, "the room could not be written down", err)
	}
	return none, nil
}

// attends reports whether an occupant is the focus.
func (g *Guard) attends(i Item) bool {
	who, ok := i.real()
	return ok && who.Bare().Equal(g.Focus)
}

// Attended tells whether a room is known, and the focus was inside when it was last looked at. Otherwise the focus has to open it,
// although it may be there.
func (g *Guard) Attended(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && rm.open && rm.attended
}

// Known tells whether a room has been opened and was still there when it was last looked at.
func (g *Guard) Known(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && rm.open
}

// gone forgets a room that is gone, and with it what was given there. What is just being given is for a room that was, so
// if it comes to be in one of the same name it is taken back. The caller holds mu.
func (g *Guard) gone(rm *guarded) {
	if g.rooms[rm.jid.String()] != rm {
		return
	}
	rm.end(func(gr *grant) bool {
		if gr.state.asking() {
			gr.on(eventWithdraw)
		}
		return gr.state.asking()
	})
	if !rm.main.Equal(jid.JID{}) {
		g.Ledger.Ended(rm.jid, rm.main)
	}
	g.belongs(rm, jid.JID{})
	rm.open, rm.roles, rm.here, rm.knocked, rm.host = false, roles{}, nil, nil, false
	rm.attended, rm.searched, rm.peopled, rm.used, rm.altered, rm.unasked, rm.left = false, false, false, false, false, false, time.Time{}
	if len(rm.live) == 0 {
		delete(g.rooms, rm.jid.String())
	}
}

// Main returns the main room of a breakout room, as the room's configuration names it to its owners (Jitsi's
// mod_muc_breakout_rooms.lua); the zero JID if it names none.
func (g *Guard) Main(ctx context.Context, breakout jid.JID) (jid.JID, error) {
	is, err := g.Owner.Settings(ctx, breakout)
	switch {
	case Absent(err):
		return jid.JID{}, ErrAbsent
	case err != nil || !is.Breakout || is.Main == "":
		return jid.JID{}, err
	}
	main, err := g.Room(is.Main) // which the plugin spells as clients do
	if err != nil {
		return jid.JID{}, err
	}
	g.mu.Lock()
	known := g.room(breakout).main.Equal(main)
	g.mu.Unlock()
	if !known {
		// The next process has to know, too, or it would take back what people in breakout rooms have in the main room.
		if err := g.Ledger.Granted(ctx, Grant{Room: breakout, Who: main, At: time.Now()}); err != nil {
			return jid.JID{}, fmt.Errorf("%w: %w", ErrUnwritten, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.belongs(g.room(breakout), main)
	return main, nil
}

// Reset gives up what was under way because the stream ended. Rooms are known on.
func (g *Guard) Reset() []jid.JID { return nil }

// Resume has the rooms looked at that were not in time while we were away, but not all at once, and has the public rooms of the
// services guarded that we do not know. Other rooms of an earlier process become known by what is written down of them, or when
// somebody is admitted to them.
func (g *Guard) Resume(ctx context.Context, _ []jid.JID, services ...jid.JID) {
	g.mu.Lock()
	for _, rm := range g.rooms {
		if rm.next.Before(time.Now()) {
			g.spread(rm)
		}
	}
	g.mu.Unlock()
	if len(services) == 0 {
		return
	}
	listed := g.listed(ctx, services)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range listed {
		g.adopt(j)
	}
}
