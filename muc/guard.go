package muc

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/few"
)

// GuardOptions say how Guard guards, beyond what it has in common with Rooms.
type GuardOptions struct {
	Options
	// Focus is the bare JID of the focus that keeps the rooms. It never counts as a host.
	Focus jid.JID
	// Room returns the room that an address means which is spelled as clients spell it.
	Room func(address string) (jid.JID, error)
	// Breakouts reports whether there is a service of breakout rooms. It is nil if there is none.
	Breakouts func() bool
	// Bans reports whether somebody wants to hear of bans now; see Options.Removed. nil means always. To find them takes a question at
	// each audit.
	Bans func() bool
	// Interval is the time between two looks at a room in which something happens, and that usher's module does not tell of. See
	// Guard.pause for quiet rooms.
	Interval time.Duration
	// Watch has Guard ask at each look who is inside, because somebody wants to see who comes and goes; see Options.Sees. Otherwise it
	// asks every auditEvery or so.
	Watch bool
	// EnforceRoles puts owners back that neither usher nor a host made. Without it a warning names them, once for each room.
	// See guard_roles.go.
	EnforceRoles bool
}

// Guard looks after rooms that another focus keeps. It is no occupant, so no room tells it anything. It acts as an owner from
// outside, and asks; or usher's module tells it (guard_told.go), and it asks nothing.
//
// Guard knows a room from the first admission on, or since it found the room (guard_adopt.go), until the room is gone. Every
// Interval one request restores what the room must be; its answer also tells whether the room still exists. Every auditEvery Guard
// asks who is inside, and takes back what it gave to people who never came or have left. Where nothing happens it asks less and less
// often, up to once in quietEvery. MUC services take one list at a time (Prosody's muc.lib.lua reads the first item only), and the form has
// nobody inside, so these are questions of their own.
//
// Without the module no room tells Guard of a ban, and setting any affiliation lifts one. So Guard asks for the outcasts right before it
// sets one. A ban within the milliseconds between that answer and the setting is lost.
//
// The parts: guard_run.go decides what is looked at and when, guard_audit.go looks at one room, guard_grants.go gives and takes
// back, guard_remove.go puts people out, guard_await.go waits for hosts, guard_breakouts.go knows which rooms belong together, and
// guard_roles.go judges owners.
//
// Everything may be called by any goroutine. Run looks at no more than atOnce rooms at a time.
type Guard struct {
	GuardOptions
	opening                       shared[struct{}]
	moderators, members, outcasts shared[[]Item]
	people                        shared[map[string]bool] // everybody inside, by bare JID
	outcastsNow                   shared[[]Item]          // by the room itself, also where usher's module tells of it
	authenticates                 atomic.Bool             // the focus does; see guard_roles.go

	wake alarm.Alarm // has Run find out what is due

	mu       sync.Mutex
	rooms    map[string]*guarded
	of       map[string]map[*guarded]bool // breakout rooms by their main room
	holders  holders
	knocked  map[string][]*guarded // by bare JID: where people are left to the lobby; see guarded.knocked
	awaited  map[string]*awaited
	handed   lately
	queues   queues
	removals removals
}

// guarded is a room that Guard looks after.
type guarded struct {
	key string // its JID as text
	grants
	life
	schedule
	expected time.Time // when a host was last admitted
	news     uint32    // counts what was told of it; answers from before are out of date
}

// life is what Guard knows of a room between its beginning and its end. Another room of the same name begins with an empty one.
type life struct {
	phase     phase
	known     bool // it has existed; see Options.Ended
	told      telling
	hostSeen  time.Time // when a host was last found inside
	main      jid.JID   // the main room, if this is a breakout room
	parted    time.Time // when a breakout room of this room last ended
	roles     roles
	occupancy occupancy
	emptied   time.Time            // since when nobody is inside; zero if somebody is, in the future if that has been dealt with
	compared  bool                 // it has been audited since it is told of
	searched  bool                 // its affiliation lists have been looked through; see guard_adopt.go
	used      bool                 // somebody has been inside
	altered   bool                 // somebody has made it persistent
	banned    map[string]bool      // by bare JID: at the last audit; only with Options.Removed
	putOut    map[string]time.Time // by bare JID: when Remove last ended; of the last minute or so
	knocked   map[string]bool      // by bare JID: people who are left to its lobby; see LeaveToLobby
}

// phase is how far Guard has come with a room.
type phase uint8

const (
	phaseNamed   phase = iota // an earlier process wrote it down, or another room names it as its breakout room
	phaseSighted              // it exists, and nobody has been admitted to it
	phaseOpened               // it was made what it must be, and people are admitted to it
)

// occupancy is who was inside at the last look.
type occupancy struct {
	focus bool            // the focus was
	host  bool            // a host was
	who   few.Map[person] // everybody but the focus and usher, by bare JID
	// visitors says that some of them were visitors, who are not always asked for.
	visitors bool
}

func (o occupancy) people() bool { return len(o.who) > 0 }
func (o occupancy) hosted() bool { return o.host }

// person is somebody inside: one of their occupants, by full JID, and whether they moderate.
type person struct {
	full      string
	moderator bool
}

// jid returns the full JID.
func (p person) jid() jid.JID {
	j, _ := jid.ParseUnsafe(p.full)
	return j.JID
}

// bare returns the bare JID.
func (p person) bare() string { return cutBare(p.full) }

// NewGuard returns a Guard. It starts nothing.
func NewGuard(o GuardOptions) *Guard {
	o.clock()
	g := &Guard{
		GuardOptions: o, wake: alarm.New(0), rooms: make(map[string]*guarded), of: make(map[string]map[*guarded]bool),
		holders: make(holders), knocked: make(map[string][]*guarded), awaited: make(map[string]*awaited), removals: make(removals),
	}
	g.opening.ask = g.open
	g.moderators.ask = o.Owner.Moderators
	g.members.ask = o.Owner.affiliated
	g.outcasts.ask = func(ctx context.Context, j jid.JID) ([]Item, error) {
		return o.Owner.WithAffiliation(ctx, j, "outcast")
	}
	g.outcastsNow.ask = func(ctx context.Context, j jid.JID) ([]Item, error) {
		itself := o.Owner
		itself.Told = nil
		return itself.WithAffiliation(ctx, j, "outcast")
	}
	g.people.ask = func(ctx context.Context, j jid.JID) (map[string]bool, error) {
		all, err := o.Owner.occupants(ctx, j)
		return bareJIDs(all), err
	}
	return g
}

// room returns what is known of a room that exists, and begins to look after one that is not known. The caller holds mu.
func (g *Guard) room(j jid.JID) *guarded {
	rm := g.named(j)
	g.meets(j, &rm.told)
	return rm
}

// named is room for a room that may not exist any more. The caller holds mu.
func (g *Guard) named(j jid.JID) *guarded {
	key := j.String()
	rm := g.rooms[key]
	if rm == nil {
		rm = &guarded{key: key, grants: newGrants(j, &g.Options)}
		rm.holders = g.holders
		rm.stirred = g.Now()
		g.rooms[key] = rm
		g.spread(rm)
	}
	rm.known = true
	return rm
}

// spread has the room looked at at random times, so that rooms that began together are not looked at together. The caller holds mu.
func (g *Guard) spread(rm *guarded) {
	rm.nextEnforce, rm.nextAudit = g.Now().Add(rand.N(g.Interval)), g.Now().Add(rand.N(auditEvery))
	if rm.roles.inherited && rm.nextEnforce.Before(rm.nextAudit) {
		rm.nextAudit = rm.nextEnforce // nobody has asked for some time
	}
	g.file(rm)
}

// gone forgets a room that is gone, and with it the grants there. Grants that are being given were meant for that room. They are
// taken back if the server gives them in another room of the same name. The caller holds mu.
func (g *Guard) gone(rm *guarded) {
	if g.rooms[rm.key] != rm {
		return
	}
	if rm.known {
		g.emptied(rm)
	}
	rm.end(func(gr *grant) bool {
		if gr.state.asking() {
			gr.on(eventWithdraw)
		}
		return gr.state.asking()
	})
	if !rm.ruled() {
		g.Ledger.Ended(rm.jid, rm.main)
	}
	g.setMain(rm, jid.JID{})
	if rm.known && g.Ended != nil {
		g.Ended(rm.jid)
	}
	for bare := range rm.knocked {
		g.forgetKnock(rm, bare)
	}
	rm.life = life{}
	rm.news++
	if len(rm.live) == 0 {
		delete(g.rooms, rm.key)
		g.file(rm)
	}
}

// Restore takes in what an earlier process has granted. It must be called before Run.
func (g *Guard) Restore(before []*Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range before {
		rm := g.named(w.Room)
		rm.told.restored = true
		rm.roles.inherited = true
		g.spread(rm)
		switch {
		case w.isNote():
			rm.remember(w)
			rm.used = true
		case w.Affiliation == "":
			g.setMain(rm, w.Who)
		default:
			gr := restored(w)
			if w.NeedsHost {
				// The next look shows whether its holder has come. Somebody between two rooms has joinWithin once more.
				anew := *w
				anew.At = g.Now()
				gr.Grant = &anew
				gr.on(eventLeft)
				g.hangOnHost(rm)
			}
			rm.put(w.Who.String(), gr)
			g.auditInTime(rm)
		}
	}
}

// State reports whether the room exists, and whether a host is inside or in one of its breakout rooms.
func (g *Guard) State(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	asked := g.Now()
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
	defer func() {
		if err == nil && !g.tells(j) {
			g.found(j, items, host, asked)
		}
	}()
	if host {
		return true, true, nil
	}
	for _, b := range g.breakouts(j) {
		items, err := g.moderators.of(ctx, b)
		if err != nil && !Absent(err) {
			return true, false, err
		}
		if host = g.hostAmong(b, items); host {
			return true, true, nil
		}
	}
	return true, false, nil
}

// HostPresent reports whether a host is inside.
func (g *Guard) HostPresent(ctx context.Context, j jid.JID) (bool, error) {
	_, host, err := g.State(ctx, j)
	return host, err
}

func (g *Guard) hostAmong(j jid.JID, moderators []Item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hostIn(g.rooms[j.String()], moderators)
}

// hostIn reports whether a host is among the moderators of a room; rm is nil if the room is not known. The caller holds mu.
func (g *Guard) hostIn(rm *guarded, moderators []Item) bool {
	if rm != nil && !rm.ruled() {
		rm = g.rooms[rm.main.String()] // its affiliations count in its breakout rooms
	}
	for _, i := range moderators {
		who, ok := i.real()
		if !ok || !g.countable(who) {
			continue
		}
		// A room that is not known was opened by an earlier process.
		if !g.EnforceRoles || rm == nil || moderates(i.Affiliation) && rm.mayBe(who.Bare().String(), i.Affiliation) {
			return true
		}
	}
	return false
}

// countable reports whether somebody is a host if they moderate.
func (g *Guard) countable(who jid.JID) bool { return !g.isFocus(who) && g.Hosts(who.Domainpart()) }

// isFocus reports whether somebody is the focus, or usher itself.
func (g *Guard) isFocus(who jid.JID) bool {
	return who.Bare().Equal(g.Focus) || g.isOurs(who)
}

// focusAmong reports whether the focus is among the occupants.
func (g *Guard) focusAmong(occupants []Item) bool {
	return slices.ContainsFunc(occupants, func(i Item) bool {
		who, ok := i.real()
		return ok && who.Bare().Equal(g.Focus)
	})
}

// peopleAmong reports whether somebody other than the focus is among the occupants.
func (g *Guard) peopleAmong(occupants []Item) bool {
	return slices.ContainsFunc(occupants, func(i Item) bool {
		who, ok := i.real()
		return ok && !g.isFocus(who)
	})
}

// Open makes a room that the focus has opened what it must be, once for each room; later the look at every Interval does so. The
// error is ErrAbsent if there is no such room.
func (g *Guard) Open(ctx context.Context, j jid.JID, _ bool) error {
	g.mu.Lock()
	rm := g.rooms[j.String()]
	known := rm != nil && rm.phase == phaseOpened
	if known {
		rm.occupancy.focus = true
	}
	g.mu.Unlock()
	if known {
		return nil
	}
	_, err := g.opening.of(ctx, j)
	return err
}

func (g *Guard) open(ctx context.Context, j jid.JID) (none struct{}, err error) {
	if g.Known(j) {
		return none, nil
	}
	is, f, err := g.secure(ctx, j)
	g.mu.Lock()
	if err != nil {
		defer g.mu.Unlock()
		if !Absent(err) {
			return none, err
		}
		if rm := g.rooms[j.String()]; rm != nil {
			g.gone(rm)
		}
		return none, ErrAbsent
	}
	rm := g.named(j)
	g.begin(rm, is, f)
	g.mu.Unlock()
	// The room is guarded, even if this fails. Later looks try again.
	if err := rm.note(ctx, &g.mu); err != nil && ctx.Err() == nil {
		g.Warn(j, "could not write down the room", err)
	}
	return none, nil
}

// secure makes a room what it must be, and asks what it was and what is in it.
func (g *Guard) secure(ctx context.Context, j jid.JID) (is Settings, f findings, err error) {
	f.asked = g.Now()
	if is, err = g.Owner.Enforce(ctx, j, g.Configuration); err != nil {
		return is, f, err
	}
	var asked errgroup.Group
	asked.Go(func() (err error) { f.rights, f.since, err = g.search(ctx, j); return err })
	asked.Go(func() (err error) { f.moderators, err = g.Owner.Moderators(ctx, j); return err })
	if err = asked.Wait(); err == nil && g.Try != nil {
		err = g.Try(ctx, j)
	}
	return is, f, err
}

// begin takes in a room that has just been opened. The caller holds mu.
func (g *Guard) begin(rm *guarded, is Settings, f findings) {
	if rm.phase == phaseSighted {
		rm.roles.inherited = false // as if it had not been known
	}
	rm.phase = phaseOpened
	g.stir(rm)
	rm.occupancy.focus = g.focusAmong(f.moderators)
	rm.used = rm.used || len(f.moderators) > 0
	rm.learn(is)
	rm.altered = rm.altered || is.Persistent && rm.lasts == temporary
	if !rm.searched && rm.ruled() {
		g.claimRights(rm, f)
	}
	g.acceptFound(rm, f.moderators)
	if !rm.told.restored && !g.peopleAmong(f.moderators) && !g.peopleAmong(f.rights) {
		rm.told.met = true // the focus has just made it; somebody who waits for a host may have had it looked at already
	}
	g.meets(rm.jid, &rm.told)
}

// Attended reports whether a room is known and the focus was inside at the last look. Otherwise the focus has to open the room,
// even if the room exists.
func (g *Guard) Attended(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && rm.phase == phaseOpened && rm.occupancy.focus
}

// Known reports whether a room has been opened and still existed at the last look.
func (g *Guard) Known(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && rm.phase == phaseOpened
}

// Reset does nothing when the stream ends: what was under way has failed, and Guard still knows its rooms.
func (g *Guard) Reset() []jid.JID { return nil }

// Resume spreads the looks that are overdue because usher was away, so that they do not come all at once. It also takes in the
// public rooms of the services that are not known. Other rooms of an earlier process become known from the ledger, or when somebody
// is admitted to them.
func (g *Guard) Resume(ctx context.Context, _ []jid.JID, services ...jid.JID) {
	g.mu.Lock()
	for _, rm := range g.rooms {
		if reached(rm.nextEnforce, g.Now()) {
			g.spread(rm)
		}
		if rm.hanging() {
			g.hangOnHost(rm) // the last look failed with the connection
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
