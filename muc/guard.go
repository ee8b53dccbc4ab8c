package muc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
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
			gr.joined, gr.At = false, time.Now()
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
		gr.withdrawn = gr.asked
		return gr.asked
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

// Grant gives an affiliation in a room that is open. If it returns nil the server has done so; otherwise what the server may
// have done is taken back soon. The affiliation is also taken back if the person does not join within half a minute or so, or is
// outside for that long; being in a breakout room of this room does not count as outside. One that needs a host is also taken
// back if the person has not joined when no host has been inside for hostAway. One person's grants must come one after the other.
func (g *Guard) Grant(ctx context.Context, give Grant) error {
	gr, j, who, affiliation := newGrant(give), give.Room, give.Who, give.Affiliation
	bare := who.String()
	rm, was, err := g.record(ctx, j, gr)
	if err != nil {
		return err
	}
	err = rm.write(ctx, gr, give.With)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		return rm.unwritten(gr, was, err)
	}
	banned, err := g.outcast(ctx, j, who)
	made := false
	if err == nil && !banned && was != nil && !moderates(was.Affiliation) && !moderates(affiliation) {
		made, err = g.madeOwner(ctx, rm, who)
	}
	owns := false
	if err == nil && !banned && !made {
		if affiliation != "owner" {
			g.mu.Lock()
			rm.demote(bare)
			g.mu.Unlock()
		}
		owns, err = rm.give(ctx, who, affiliation)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gr.asked = false
	switch {
	case owns:
		rm.drop(bare) // nothing was given, so nothing is to be taken back
		return nil
	case Absent(err):
		g.gone(rm)
		return ErrAbsent
	case banned:
		rm.drop(bare) // nothing is left of what was given before
		return ErrOutcast
	case err == nil && gr.withdrawn:
		err = errWithdrawn
	}
	if err != nil {
		gr.withdrawn, rm.hurry = true, true // what the server did of it, if anything, must not stay
		return err
	}
	g.auditInTime(rm)
	gr.NeedsHost = gr.NeedsHost && !made // whom a host made one needs none
	if gr.hangs() {
		g.hang(rm)
	}
	return nil
}

// hang has the room looked at often because a grant hangs on a host. The caller holds mu.
func (g *Guard) hang(rm *guarded) {
	if rm.hangs.IsZero() {
		rm.hangs, rm.hostless = time.Now().Add(hangingAhead), time.Time{}
	}
}

// record records a grant that is about to be given, and returns its room and what was there before. If that is just being
// taken back it waits until it is.
func (g *Guard) record(ctx context.Context, j jid.JID, gr *grant) (rm *guarded, was *grant, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		rm = g.rooms[j.String()]
		if rm == nil {
			return nil, nil, ErrAbsent
		}
		was = rm.live[gr.Who.String()]
		if was == nil || was.taken == nil {
			break
		}
		taken := was.taken
		g.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			err = ctx.Err()
		}
		g.mu.Lock()
		if err != nil {
			return nil, nil, err
		}
	}
	if was != nil {
		gr.joined = was.joined && !gr.NeedsHost // which says that they are to come, from wherever they are
	}
	rm.live[gr.Who.String()] = gr
	return rm, was, nil
}

// outcast tells whether somebody, or their domain, is banned from the room.
func (g *Guard) outcast(ctx context.Context, j, who jid.JID) (bool, error) {
	banned, err := g.outcasts.of(ctx, j)
	return slices.ContainsFunc(banned, func(i Item) bool { return i.JID == who.String() || i.JID == who.Domainpart() }), err
}

// madeOwner tells whether a host has made an owner of somebody to whom we gave less. They stay one when they ask again, as
// they do when they come back from a breakout room.
func (g *Guard) madeOwner(ctx context.Context, rm *guarded, who jid.JID) (bool, error) {
	owners, err := g.Owner.Owners(ctx, rm.jid)
	if err != nil || !slices.ContainsFunc(owners, func(i Item) bool { return i.JID == who.String() }) {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.EnforceRoles || rm.mayBe(who.String(), "owner"), nil
}

// Withdraw has what Grant gave taken back, without waiting for that.
func (g *Guard) Withdraw(j, who jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil && rm.live[who.String()] != nil {
		rm.live[who.String()].withdrawn, rm.hurry = true, true
	}
}

// LeaveToLobby takes back what Grant gave, unless the person is inside, so that the room's lobby decides about them. It returns when
// that is done.
func (g *Guard) LeaveToLobby(ctx context.Context, j, who jid.JID) error {
	g.mu.Lock()
	if rm := g.rooms[j.String()]; rm != nil {
		if rm.knocked == nil || len(rm.knocked) >= maxKnocked {
			rm.knocked = make(map[string]bool)
		}
		rm.knocked[who.String()] = true
	}
	g.mu.Unlock()
	if !g.HasGrant(j, who) {
		return nil
	}
	for _, list := range []func(context.Context, jid.JID) ([]Item, error){g.Owner.Moderators, g.Owner.Participants, g.Owner.Visitors} {
		items, err := list(ctx, j)
		if err != nil {
			return err
		}
		if bareJIDs(items)[who.String()] {
			return nil
		}
	}
	g.mu.Lock()
	rm := g.rooms[j.String()]
	if rm == nil || rm.live[who.String()] == nil {
		g.mu.Unlock()
		return nil
	}
	rm.live[who.String()].withdrawn = true
	g.mu.Unlock()
	return g.takeBack(ctx, rm)
}

// HasGrant tells whether who has something from us in the room; in any room if that is zero.
func (g *Guard) HasGrant(j, who jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rm := range g.rooms {
		if gr := rm.live[who.Bare().String()]; gr != nil && !gr.withdrawn && !gr.asked && (j.Equal(jid.JID{}) || rm.jid.Equal(j)) {
			return true
		}
	}
	return false
}

// MayBeIn tells whether who has something in the room: from us, or from whoever has opened to them since we left them to the lobby;
// in any room if that is zero.
func (g *Guard) MayBeIn(ctx context.Context, j, who jid.JID) (bool, error) {
	if g.HasGrant(j, who) {
		return true, nil
	}
	bare := who.Bare().String()
	var at []jid.JID
	g.mu.Lock()
	for _, rm := range g.rooms {
		if rm.knocked[bare] && (j.Equal(jid.JID{}) || rm.jid.Equal(j)) {
			at = append(at, rm.jid)
		}
	}
	g.mu.Unlock()
	for _, room := range at {
		members, err := g.members.of(ctx, room)
		if err != nil && !Absent(err) {
			return false, err
		}
		if slices.ContainsFunc(members, func(i Item) bool { return i.JID == bare }) {
			return true, nil
		}
	}
	return false, nil
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

// Leave takes back what is withdrawn, as far as ctx lasts, because usher stops. The next process takes over what was granted,
// and would not know that it is withdrawn.
func (g *Guard) Leave(ctx context.Context, _ bool) {
	g.mu.Lock()
	withdrawn := make(map[*guarded]bool)
	var underWay []chan struct{}
	for _, rm := range g.rooms {
		for _, gr := range rm.live {
			switch {
			case gr.taken != nil:
				underWay = append(underWay, gr.taken)
			case gr.withdrawn:
				withdrawn[rm] = true
			}
		}
	}
	g.mu.Unlock()
	var takes errgroup.Group
	takes.SetLimit(atOnce)
	for rm := range withdrawn {
		takes.Go(func() error {
			if err := g.takeBack(ctx, rm); err != nil && !Absent(err) {
				g.Warn(rm.jid, "an affiliation could not be taken back yet", err)
			}
			return nil
		})
	}
	_ = takes.Wait()
	for _, taken := range underWay {
		select {
		case <-taken:
		case <-ctx.Done():
		}
	}
}

// Run looks at rooms until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	var looks errgroup.Group
	var todo agenda
	free, done := atOnce, make(chan struct{}, atOnce)
	tick := time.NewTicker(lookAhead)
	defer tick.Stop()
	var rooms time.Time // when those that are due were last looked for
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-done:
			free++
		case now := <-tick.C:
			also := now.Sub(rooms) >= roomsAhead
			if also {
				rooms = now
			}
			g.plan(&todo, now, also)
		}
		// What finds no slot free has the next one that is, not only at the next tick.
		for free > 0 {
			look := g.next(&todo, time.Now())
			if look == nil {
				break
			}
			free--
			looks.Go(func() error {
				defer func() { done <- struct{}{} }()
				ctx, cancel := context.WithTimeout(ctx, askWithin)
				defer cancel()
				look(ctx)
				return nil
			})
		}
	}
	_ = looks.Wait()
}

// agenda is what was due when that was last looked for. It is taken from the end.
type agenda struct {
	expected []*awaited // hosts who have been admitted and are about to enter
	urgent   []*guarded // rooms in which something is to be taken back or hangs on a host
	rooms    []*guarded // other rooms that we look after
	others   []*awaited // hosts of whom nothing is known; there may be more of those waits than looks can be had
	turn     bool       // whether it is the turn of the urgent ones
}

// plan finds out what is due; with rooms, of the rooms that we look after, too.
func (g *Guard) plan(todo *agenda, now time.Time, rooms bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	todo.expected, todo.others = todo.expected[:0], todo.others[:0]
	for key, a := range g.awaited {
		switch {
		case a.looking:
		case g.Now().After(a.until):
			delete(g.awaited, key)
		case !a.isDue(now):
		case a.pause < seldomest:
			todo.expected = append(todo.expected, a)
		default:
			todo.others = append(todo.others, a)
		}
	}
	if !rooms {
		return
	}
	todo.urgent, todo.rooms = todo.urgent[:0], todo.rooms[:0]
	for _, rm := range g.rooms {
		switch {
		case !g.isDue(rm, now):
		case rm.hurry || rm.hangingDue(now):
			todo.urgent = append(todo.urgent, rm)
		default:
			todo.rooms = append(todo.rooms, rm)
		}
	}
}

// next takes the most urgent look that is still due; nil if there is none. Urgent rooms and others have it by turns, so that neither
// keep the others waiting.
func (g *Guard) next(todo *agenda, now time.Time) func(context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	await := func(list *[]*awaited) func(context.Context) {
		a := takeLast(list, func(a *awaited) bool { return a.isDue(now) && g.awaited[a.jid.String()] == a })
		if a == nil {
			return nil
		}
		a.looking = true
		return func(ctx context.Context) { g.await(ctx, a) }
	}
	look := func(list *[]*guarded) func(context.Context) {
		rm := takeLast(list, func(rm *guarded) bool { return g.isDue(rm, now) && g.rooms[rm.jid.String()] == rm })
		if rm == nil {
			return nil
		}
		rm.looking = true
		return func(ctx context.Context) { g.look(ctx, rm) }
	}
	if first := await(&todo.expected); first != nil {
		return first
	}
	one, other := &todo.rooms, &todo.urgent
	if todo.turn = !todo.turn; todo.turn {
		one, other = other, one
	}
	for _, list := range []*[]*guarded{one, other} {
		if next := look(list); next != nil {
			return next
		}
	}
	return await(&todo.others)
}

// takeLast takes the last element that is as asked from a list, with what comes after it; nil if there is none.
func takeLast[T any](list *[]*T, is func(*T) bool) *T {
	for n := len(*list); n > 0; n-- {
		x := (*list)[n-1]
		if *list = (*list)[:n-1]; is(x) {
			return x
		}
	}
	return nil
}

// isDue tells whether it is time to look for a host. The caller holds mu.
func (a *awaited) isDue(now time.Time) bool { return !a.looking && !now.Before(a.next) }

// isDue tells whether it is time to look at a room. The caller holds mu.
func (g *Guard) isDue(rm *guarded, now time.Time) bool {
	return !rm.looking && (rm.hurry || !now.Before(rm.next) || !now.Before(rm.audit) || rm.hangingDue(now) || g.rightEnds(rm))
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

// look looks at one room: what it must be is said again, it is asked who is inside, and things are taken back, each if it is
// time for that.
func (g *Guard) look(ctx context.Context, rm *guarded) {
	g.mu.Lock()
	rm.hurry = false
	again := !time.Now().Before(rm.next)
	audit := again && g.EnforceRoles || !time.Now().Before(rm.audit) || g.rightEnds(rm)
	hangs := rm.hangingDue(time.Now())
	audit = audit || rm.altered
	ours := rm.main.Equal(jid.JID{}) // a breakout room is what its main room is
	asked := ours && (again && g.Configuration.MembersOnly || audit && !g.Configuration.MembersOnly || (audit || hangs) && !rm.searched)
	g.mu.Unlock()
	var is Settings
	var err error
	switch {
	case asked && again && g.Configuration.MembersOnly:
		is, err = g.Owner.Enforce(ctx, rm.jid, g.Configuration)
	case asked:
		is, err = g.Owner.Settings(ctx, rm.jid)
	}
	if asked && err == nil {
		err = g.keep(ctx, rm, is)
	}
	if again && ours && !g.Configuration.MembersOnly && !Absent(err) {
		err = errors.Join(err, g.tryAgain(ctx, rm.jid))
	}
	if (audit || hangs) && !Absent(err) {
		err = errors.Join(err, g.audit(ctx, rm, audit))
	}
	if !Absent(err) {
		err = errors.Join(err, g.takeBack(ctx, rm))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case Absent(err):
		g.gone(rm)
	case err != nil && !errors.Is(ctx.Err(), context.Canceled):
		g.Warn(rm.jid, "the room could not be looked at", err)
	}
	rm.looking = false
	if again {
		rm.next = time.Now().Add(g.Interval)
	}
	if audit {
		rm.audit, rm.ends = time.Now().Add(auditEvery), time.Time{}
	}
	switch {
	case !rm.hanging():
		rm.hangs = time.Time{}
	case err != nil:
		rm.hangs = time.Now().Add(hostAway)
	case audit || hangs:
		rm.hangs = time.Now().Add(hangingAhead)
	}
	if err == nil {
		g.auditInTime(rm)
	}
}

// hangingDue tells whether it is time to ask who is inside because a grant hangs on a host. The caller holds mu.
func (rm *guarded) hangingDue(now time.Time) bool { return !rm.hangs.IsZero() && !now.Before(rm.hangs) }

// auditInTime has the room audited as soon as a right ends, and every endedAhead while somebody is inside whose right has ended:
// whoever comes later has no business there. The caller holds mu.
func (g *Guard) auditInTime(rm *guarded) {
	now := g.Now()
	for _, gr := range rm.live {
		if gr.withdrawn || gr.asked || gr.Expires.IsZero() {
			continue
		}
		at := gr.Expires
		if gr.joined && gr.ended(now) {
			at = now.Add(endedAhead)
		}
		if rm.ends.IsZero() || at.Before(rm.ends) {
			rm.ends = at
		}
	}
}

// rightEnds tells whether it is time for that. The caller holds mu.
func (g *Guard) rightEnds(rm *guarded) bool { return !rm.ends.IsZero() && !g.Now().Before(rm.ends) }

// audit asks who is inside, and draws the consequences; those for owners only if judge is true, which come with the looks at
// every Interval.
func (g *Guard) audit(ctx context.Context, rm *guarded, judge bool) error {
	asked, now := time.Now(), g.Now()
	var rights []Item
	var since time.Time
	var err error
	unsearched := g.unsearched(rm)
	if unsearched {
		// Before the occupants: who comes meanwhile is inside.
		if rights, since, err = g.search(ctx, rm.jid); err != nil {
			return err
		}
	}
	moderators, err := g.Owner.Moderators(ctx, rm.jid)
	if err != nil {
		return err
	}
	participants, err := g.Owner.Participants(ctx, rm.jid)
	if err != nil {
		return err
	}
	occupants := append(moderators, participants...)
	away, breakouts := g.away(rm, occupants)
	if away || g.people(rights) || !g.people(occupants) {
		visitors, err := g.Owner.Visitors(ctx, rm.jid)
		if err != nil {
			return err
		}
		occupants = append(occupants, visitors...)
		for _, b := range breakouts {
			if err := g.audit(ctx, b, judge); Absent(err) {
				g.mu.Lock()
				g.gone(b)
				g.mu.Unlock()
			} else if err != nil {
				return err
			}
		}
	}
	var owners []Item
	if judge && g.needsOwners(rm, occupants) {
		// After the occupants: an owner among them who is not on this list is an admin of the service.
		if owners, err = g.Owner.Owners(ctx, rm.jid); err != nil {
			return err
		}
	}
	g.mu.Lock()
	if unsearched {
		g.searched(rm, rights, since)
	}
	rm.attended = slices.ContainsFunc(moderators, g.attends)
	rm.used = rm.used || len(occupants) > 0
	rm.here, rm.host = bareJIDs(occupants), g.hostIn(rm, moderators)
	for bare, gr := range rm.live {
		if !gr.asked {
			gr.account(g.inside(rm, bare), asked, gr.ended(now))
		}
	}
	if away {
		g.withoutHost(rm, asked, now)
	}
	if judge && rm.ruled() {
		g.judge(rm, occupants, owners)
	}
	deserted := g.deserted(rm, occupants, asked)
	g.mu.Unlock()
	if deserted {
		err = g.finish(ctx, rm)
	}
	return errors.Join(err, g.writeBack(ctx, rm))
}

// withoutHost withdraws what hangs on a host if this look, for which the room and its breakout rooms were asked from then on, has
// found none, and neither has any for hostAway. The caller holds mu.
func (g *Guard) withoutHost(rm *guarded, asked, now time.Time) {
	host := rm.host
	for b := range g.of[rm.jid.String()] {
		host = host || b.host
	}
	switch {
	case host:
		rm.hostless = time.Time{}
	case rm.hostless.IsZero():
		rm.hostless = g.Now() // or earlier: since the answer, not since the question
	case now.Sub(rm.hostless) >= hostAway:
		for _, gr := range rm.live {
			if gr.hangs() && !gr.asked && gr.At.Before(asked) {
				gr.withdrawn = true
			}
		}
	}
}

// away tells whether somebody to whom we gave something is not among the occupants, and returns the breakout rooms.
func (g *Guard) away(rm *guarded, occupants []Item) (away bool, breakouts []*guarded) {
	here := bareJIDs(occupants)
	g.mu.Lock()
	defer g.mu.Unlock()
	for bare := range rm.live {
		away = away || !here[bare]
	}
	if rm.main.Equal(jid.JID{}) {
		breakouts = slices.Collect(maps.Keys(g.of[rm.jid.String()]))
	}
	return away, breakouts
}

func bareJIDs(occupants []Item) map[string]bool {
	here := make(map[string]bool, len(occupants))
	for _, i := range occupants {
		if who, ok := i.real(); ok {
			here[who.Bare().String()] = true
		}
	}
	return here
}

// account notes whether the person was inside when that was asked, and withdraws what is not made use of, or had ended by then.
func (gr *grant) account(inside bool, asked time.Time, ended bool) {
	if inside {
		gr.joined, gr.missed = true, time.Time{}
		return
	}
	if gr.missed.IsZero() {
		gr.missed = asked
	}
	switch {
	case !gr.joined && ended,
		gr.joined && ended && asked.Sub(gr.missed) >= endedAhead,
		!gr.joined && asked.Sub(gr.At) >= joinWithin,
		// Not the first time: they may be on their way from a breakout room.
		gr.joined && asked.Sub(gr.At) >= joinWithin && asked.Sub(gr.missed) >= auditEvery:
		gr.withdrawn = true
	}
}

// takeBack takes back what is withdrawn.
func (g *Guard) takeBack(ctx context.Context, rm *guarded) error {
	g.mu.Lock()
	var take []*grant
	for _, gr := range rm.live {
		if gr.withdrawn && !gr.asked && gr.taken == nil {
			gr.taken = make(chan struct{})
			take = append(take, gr)
		}
	}
	g.mu.Unlock()
	var first error
	for _, gr := range take {
		if err := g.take(ctx, rm, gr); first == nil {
			first = err
		}
	}
	return first
}

// take takes back one grant, unless the person is banned: then nothing is left of it, and it would lift the ban.
func (g *Guard) take(ctx context.Context, rm *guarded, gr *grant) error {
	banned, err := g.outcasts.of(ctx, rm.jid)
	isBanned := slices.ContainsFunc(banned, func(i Item) bool { return i.JID == gr.Who.String() })
	if err == nil && !isBanned {
		err = g.Owner.SetAffiliation(ctx, rm.jid, gr.Who, "")
	}
	if errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) || errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
		// An admin of the service, see grants.give, or a JID that a plugin protects (mod_muc_meeting_id.lua).
		err = nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && rm.live[gr.Who.String()] == gr {
		rm.drop(gr.Who.String())
	}
	close(gr.taken)
	gr.taken = nil
	return err
}

// inside tells whether somebody was in the room, or in one of its breakout rooms, when it was last asked.
func (g *Guard) inside(rm *guarded, bare string) bool {
	if rm.here[bare] {
		return true
	}
	for breakout := range g.of[rm.jid.String()] {
		if breakout.here[bare] {
			return true
		}
	}
	return false
}
