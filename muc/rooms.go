package muc

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"strings"
	"sync"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/element"
)

// Nick is the nick by which Jitsi's clients and plugins know the focus; its occupant is not shown to people
// (lib-jitsi-meet JitsiConference.js, onMemberJoined).
const Nick = "focus"

// Resource is that of the JID as which usher is in rooms. secondResource is for rooms_trust.go.
const (
	Resource       = "usher"
	secondResource = "usher-2"
)

// atOnce is how many rooms are entered or looked at at a time while nobody waits for them.
const atOnce = 8

// joinWithin is how long an admitted person may take to join, and how long a room stays open for them.
const joinWithin = 30 * time.Second

var (
	// ErrAbsent means that the room does not exist, and was not to be created.
	ErrAbsent = errors.New("the room does not exist")
	// ErrOutcast means that an owner or admin of the room has banned the person.
	ErrOutcast = errors.New("banned from the room")
	// ErrOpen is what Options.Try returns for a room that strangers can enter.
	ErrOpen = errors.New("the server let somebody without an affiliation into an open room")
	// errWithdrawn means that a grant was withdrawn before the server had given it.
	errWithdrawn = errors.New("the right ended while it was given")
	// errDisconnected ends the wait for a room when the stream ends.
	errDisconnected = errors.New("the connection to the server ended")
)

// Rooms is the focus of rooms that have no other focus. It opens rooms, and stays inside as an occupant as long as somebody else is
// inside or about to come. The presence that the rooms send tells it who is inside. It stays in persistent rooms as long as they
// exist.
//
// The parts: this file has what others ask of it, presence.go what the rooms tell, upkeep.go what happens without anybody asking,
// rooms_remove.go how people are put out, rooms_adopt.go what becomes of rooms that others began or configured, rooms_trust.go which
// rooms need not be configured, and rooms_told.go what usher's module refuses.
//
// Presence and Message are called by the goroutine that reads the stream, in the stream's order, and never block;
// everything else may be called by any goroutine.
type Rooms struct {
	Options
	self    jid.JID // usher's real JID as an occupant
	second  jid.JID // another resource of it, see rooms_trust.go
	seconds string  // the same as text

	mu    sync.Mutex
	rooms map[string]*room // by bare JID
	// lost are rooms that usher is not in although they may go on: somebody removed it, or the stream ended. Its grants there
	// are still to be taken back, so they are entered again and again until that succeeds or they are gone.
	lost map[string]*room
	// due are rooms of both kinds that are to be looked at some time, see upkeep.go.
	due      queue[*room]
	wake     alarm.Alarm // has Run find out what is due
	removals removals
	trusts   map[string]*trust // by domain of the MUC service; of this connection
	sent     lately            // what was taken back and ended, see Reset

	// strays are rooms that sent something although they are not in rooms: the occupant of an earlier process is in them, or
	// usher's occupant was removed. Run enters them again.
	strays chan jid.JID
	// changed are rooms that somebody has configured. Run makes them what they must be.
	changed chan jid.JID
	// unneeded are rooms that nobody needs and somebody has configured. Run leaves them, unless they are persistent.
	unneeded chan jid.JID
	// unnoted are rooms that are to be written down. Run does so.
	unnoted chan *room
	// ungiven are grants that no module took. Run asks the rooms for them.
	ungiven chan ungiven
}

// Options say how rooms are looked after.
type Options struct {
	Owner Owner
	// Configuration is what rooms must be.
	Configuration Configuration
	// Hosts reports whether a moderator from a domain counts as a host. Its answer may change.
	Hosts func(domain string) bool
	// Arrived is called when a host has entered a room in which there was none. It must not block, and must not call back.
	Arrived func(room jid.JID)
	// Removed is called when a moderator inside, not usher, has kicked or banned somebody; nil if nobody wants to know. Who is a bare
	// JID. Rooms tell of it at once, and of bans that they learn of when they enter a room. Kicks by the server itself, as Jitsi's
	// plugins do, are none. Guard tells of both at once where usher's module tells it. Elsewhere it sees no kicks, and finds bans when it asks for
	// the outcasts, which it does at its audits. A ban that an earlier process has told of may be told again. It must not block, and must not call
	// back.
	Removed func(room, who jid.JID, banned bool)
	// Ended is called once when a room that usher looked after is gone, also if it ended while usher was away; nil if nobody wants to
	// know. A room that Guard looks after and that is made anew between two looks counts as one. It must not block, and must not
	// call back.
	Ended func(room jid.JID)
	// Sees is called with what becomes known of rooms and the people in them, in order for each room; nil if nobody wants to know.
	// Rooms tell of it at once. Guard tells what it finds when it looks, and people who come and go between two looks are not seen. It
	// must not block, and must not call back.
	Sees func(Sight)
	// Lobby is the service of the rooms' lobbies; nil if there is none.
	Lobby *Lobby
	// Ledger writes grants down.
	Ledger Ledger
	// Now is the clock by which everything here ends or becomes due; nil for the machine's. Only the answers of the server are
	// waited for by the machine's. Its times must have a monotonic reading, as those of time.Now have. Without one, a clock that
	// is put back stops all this until it has caught up.
	Now func() time.Time
	// Try finds out whether a room that has just been opened keeps strangers out, before anybody is let in. Later it finds out
	// whether the room still does: an owner may have opened it. It is nil if the Configuration keeps strangers out.
	Try func(ctx context.Context, room jid.JID) error
	// Warn is called with what went wrong in a room while nobody waited for it. It must not call back.
	Warn func(room jid.JID, what string, err error)
}

func (o *Options) clock() {
	if o.Now == nil {
		o.Now = time.Now
	}
}

// room is a room that usher is in, or is about to enter.
type room struct {
	turn    // when it is looked at next
	nick    string
	entered chan entry    // the answer to the join, by the reader
	opened  chan struct{} // closed when err is final
	again   bool          // it was there before, so it is lost if it cannot be entered; by enter
	err     error
	open    bool
	inside  bool // the room has sent usher's own presence; by the reader
	ours    bool // usher created it and nobody has configured it since, so usher may end it

	hostless  time.Time // since when no host is inside, by the clock of the Options; zero while one is
	known     bool      // people could have entered; see Options.Ended
	told      telling
	searched  bool            // its lists have been looked through, or nobody but usher has written them; see rooms_adopt.go
	finishing bool            // it is in unneeded, or with finish
	tried     map[string]bool // by bare JID: finish has taken back what others gave them
	password  string
	unsure    time.Time // when it was made on trust, if nobody has looked since; see rooms_trust.go
	second    tried     // what became of usher's second resource there

	keepUntil time.Time           // until then the room waits for the first person; zero once somebody came
	occupants map[string]occupant // by nick, without usher
	outcasts  map[string]bool     // by bare JID
	grants
}

// entry is how an attempt to join ended.
type entry struct {
	created bool
	err     error
}

// occupant is somebody else in the room.
type occupant struct {
	full, bare string // the real JID; one is the beginning of the other
	moderator  bool
}

// who returns the real JID.
func (o occupant) who() jid.JID {
	if o.full == "" {
		return jid.JID{}
	}
	j, _ := jid.ParseUnsafe(o.full) // it was one
	return j.JID
}

// domain returns that of the real JID.
func (o occupant) domain() string { return o.bare[strings.IndexByte(o.bare, '@')+1:] }

// NewRooms returns Rooms that act as o.Owner.JID.
func NewRooms(o Options) *Rooms {
	o.clock()
	self, _ := o.Owner.JID.WithResource(Resource) // an ASCII resource is always valid
	second, _ := o.Owner.JID.WithResource(secondResource)
	o.Owner.Occupant = self
	return &Rooms{
		Options:  o,
		self:     self,
		second:   second,
		seconds:  second.String(),
		rooms:    make(map[string]*room),
		wake:     alarm.New(hostTick),
		lost:     make(map[string]*room),
		removals: make(removals),
		trusts:   make(map[string]*trust),
		strays:   make(chan jid.JID, 1024),
		changed:  make(chan jid.JID, 1024),
		unneeded: make(chan jid.JID, 1024),
		unnoted:  make(chan *room, 1024),
		ungiven:  make(chan ungiven, 1024),
	}
}

// known returns the room of that address, or nil. The caller must not hold mu.
func (r *Rooms) known(j jid.JID) *room {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rooms[j.String()]
}

func (r *Rooms) newRoom(j jid.JID) *room {
	return &room{
		nick:      Nick,
		entered:   make(chan entry, 1),
		opened:    make(chan struct{}),
		occupants: make(map[string]occupant),
		grants:    newGrants(j, &r.Options),
	}
}

// Restore takes in what an earlier process has granted. It must be called before Run. Resume enters the rooms, and then grants
// that nobody uses are taken back.
func (r *Rooms) Restore(before []*Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range before {
		if g.Affiliation == "" {
			r.Ledger.Ended(g.Room, g.Who) // there are no breakout rooms without another focus
			continue
		}
		rm := r.lost[g.Room.String()]
		if rm == nil {
			rm = r.newRoom(g.Room)
			rm.known, rm.told.restored = true, true
			r.loses(rm)
		}
		if g.isNote() {
			rm.remember(g)
			continue
		}
		rm.put(g.Who.String(), restored(g))
	}
}

// State reports whether the room exists, and whether a host is inside. It asks the room unless usher is in it.
func (r *Rooms) State(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	r.mu.Lock()
	if rm := r.rooms[j.String()]; rm != nil && rm.open {
		defer r.mu.Unlock()
		return true, r.hostPresent(rm), nil
	}
	r.mu.Unlock()
	exists, host, err = r.state(ctx, j)
	if errors.Is(err, errUnseen) {
		if err = r.Open(ctx, j, false); errors.Is(err, ErrAbsent) {
			return false, false, nil // it has just ended
		}
		if err == nil {
			host, err = r.HostPresent(ctx, j)
		}
		return err == nil, host, err
	}
	if exists {
		r.stray(j) // an earlier process may have left it
	}
	return exists, host, err
}

// errUnseen means that a room exists, and does not say who is inside until usher is.
var errUnseen = errors.New("the room does not list its occupants for somebody outside")

// state asks for the state of a room. The error may be errUnseen; then the room exists.
func (r *Rooms) state(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	items, err := untilAnswered(ctx, func(ctx context.Context) ([]Item, error) { return r.Owner.Moderators(ctx, j) })
	switch {
	case Absent(err):
		return false, false, nil
	case isForbidden(err): // ejabberd
		return true, false, errUnseen
	}
	for _, i := range items {
		if o, ok := i.real(); ok && !o.Bare().Equal(r.Owner.JID) && r.Hosts(o.Domainpart()) {
			host = true
		}
	}
	return err == nil, host, err
}

// noteHost notes since when no host is inside, and calls Arrived if one has come. The caller holds mu.
func (r *Rooms) noteHost(rm *room) {
	switch host := r.hostPresent(rm); {
	case !host && rm.hostless.IsZero():
		rm.hostless = r.Now()
	case host && !rm.hostless.IsZero():
		rm.hostless = time.Time{}
		if rm.open {
			r.Arrived(rm.jid)
		}
	}
	if rm.open {
		r.hosted(rm.jid, &rm.told, rm.hostless.IsZero())
	}
}

func (r *Rooms) hostPresent(rm *room) bool {
	for _, o := range rm.occupants {
		if o.moderator && r.Hosts(o.domain()) {
			return true
		}
	}
	return false
}

// Open makes sure that the room exists, is what it must be, and has usher inside. It creates the room only if mayCreate is true;
// otherwise the error is ErrAbsent. Calls for the same room at the same time lead to one entry.
func (r *Rooms) Open(ctx context.Context, j jid.JID, mayCreate bool) error {
	for {
		r.mu.Lock()
		rm, ok := r.rooms[j.String()]
		if !ok {
			rm = r.newRoom(j)
			if was := r.lost[j.String()]; was != nil {
				rm.again, rm.grants, rm.outcasts, rm.searched, rm.known = true, was.grants, was.outcasts, was.searched, was.known
				rm.told = was.toldOf()
				delete(r.lost, j.String())
				r.due.out(was)
			}
			r.rooms[j.String()] = rm
			r.mu.Unlock()
			return r.enter(ctx, rm, mayCreate)
		}
		opened := rm.opened
		r.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !mayCreate || !errors.Is(rm.err, ErrAbsent) {
			return rm.err
		}
		// An earlier caller could not create the room. This one may.
	}
}

// errUnready is what Open returns if the goroutine that entered the room panicked.
var errUnready = errors.New("the room was not made ready")

// enter joins a room, makes it ready, and releases everybody who waits for it.
func (r *Rooms) enter(ctx context.Context, rm *room, mayCreate bool) error {
	created, err := false, errUnready
	defer func() { r.conclude(rm, created, err) }()
	if created, err = r.join(ctx, rm); err == nil {
		err = errUnready // until prepare returns
		err = r.prepare(ctx, rm, created, mayCreate)
	}
	return err
}

// over is a channel that is closed.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// conclude ends an attempt to enter a room.
func (r *Rooms) conclude(rm *room, created bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		close(rm.opened)
		rm.opened, rm.entered = over, nil // nobody needs them any more, and rooms are many
	}()
	if rm.err = err; err == nil {
		if key := rm.jid.String(); r.rooms[key] != rm && r.lost[key] != rm {
			return // it is gone again, or the next room of that name has taken its place
		}
		rm.open, rm.ours, rm.known = true, created, true
		rm.keepUntil = r.Now().Add(joinWithin)
		r.takeBack(rm)
		r.giveLost(rm)
		r.enters(rm, created)
		rm.hostless = r.Now()
		r.noteHost(rm)
		r.plan(rm, r.nextLook(rm))
		return
	}
	r.forget(rm)
	if rm.again && r.rooms[rm.jid.String()] == nil && !errors.Is(err, ErrAbsent) {
		r.loses(rm)
	} else {
		r.ended(rm)
		rm.end(nil)
	}
}

// ended tells of the end of a room, once. It comes before the end of the grants, so that it is still known who the people were. The caller
// holds mu.
func (r *Rooms) ended(rm *room) {
	if !rm.known {
		return
	}
	rm.known = false
	r.emptied(rm)
	if r.Ended != nil {
		r.Ended(rm.jid)
	}
}

// prepare makes a room ready that was joined, or leaves it.
func (r *Rooms) prepare(ctx context.Context, rm *room, created, mayCreate bool) error {
	is, err := r.inspect(ctx, rm, created, mayCreate)
	if err == nil {
		var noted sync.WaitGroup
		defer noted.Wait()
		if !created { // a new room is written down at the next look: usher is its owner, which says as much until then
			noted.Go(func() {
				// The room is guarded, even if this fails. It is tried again when the room is next looked at.
				if err := r.noteSettings(ctx, rm, is); err != nil && ctx.Err() == nil {
					r.Warn(rm.jid, "could not write down the room, or make it temporary", err)
				}
			})
		}
		err = r.secure(ctx, rm, created)
	}
	if err != nil {
		r.undo(ctx, rm, created)
	}
	return err
}

// undo leaves a room that could not be made ready. It ends a new one: on a server that makes open rooms somebody may be inside already, and
// nobody would guard it.
func (r *Rooms) undo(ctx context.Context, rm *room, created bool) {
	if created {
		r.mu.Lock()
		rm.inside = false // the end is no news
		r.mu.Unlock()
		if err := r.Owner.End(ctx, rm.jid, ""); err == nil || Absent(err) {
			return
		}
		_ = r.destroy(rm) // perhaps there was no time for an answer
	}
	_ = r.leave(rm)
}

// inspect finds out what was in the room before. The error is ErrAbsent if there was no room, and none may be created.
func (r *Rooms) inspect(ctx context.Context, rm *room, created, mayCreate bool) (is Settings, err error) {
	if created {
		if r.begin(rm); !mayCreate {
			err = ErrAbsent
		}
		return is, err
	}
	rm.again = true
	if err := r.learnBans(ctx, rm); err != nil {
		return is, err
	}
	return r.search(ctx, rm)
}

// secure makes the room what it must be before anybody is told that it is there, unless the service makes new rooms so. A new room may
// be locked until its owner has submitted a form (XEP-0045 §10.1.2), and one that was there before may have been opened to all.
func (r *Rooms) secure(ctx context.Context, rm *room, created bool) (err error) {
	if !created || !r.isMade(ctx, rm) {
		err = r.Owner.Configure(ctx, rm.jid, r.Configuration)
	}
	if err == nil && r.Try != nil {
		err = r.Try(ctx, rm.jid)
	}
	return err
}

// join enters the room and reports whether that created it.
func (r *Rooms) join(ctx context.Context, rm *room) (created bool, err error) {
	for wait := firstWait; ; {
		if err := r.Owner.Session.Send(r.joinStanza(r.self, rm)); err != nil {
			return false, err
		}
		select {
		case e := <-rm.entered:
			if errors.Is(e.err, stanza.Error{Condition: stanza.Conflict}) && rm.nick == Nick {
				// Somebody has taken the nick. Nothing depends on it.
				r.mu.Lock()
				rm.nick = Nick + "-" + strings.ToLower(rand.Text()[:8])
				rm.unanswered()
				r.mu.Unlock()
				continue
			}
			if errors.Is(e.err, stanza.Error{Condition: stanza.NotAuthorized}) && rm.password == "" {
				// An owner has set a password (XEP-0045 §7.2.6). Owners can read it.
				is, err := r.Owner.Settings(ctx, rm.jid)
				if rm.password = is.Password; err == nil && rm.password != "" {
					rm.unanswered() // the server has answered all joins that were sent before
					continue
				}
			}
			return e.created, e.err
		case <-time.After(wait): // perhaps an earlier room was just ending; to be inside already does no harm
			wait = min(2*wait, askWithin)
		case <-ctx.Done():
			// The server may let usher in later. Then the room is a stray: usher enters it again, or leaves.
			return false, ctx.Err()
		}
	}
}

func (r *Rooms) leave(rm *room) error { return r.Owner.Session.Send(r.leaveStanza(r.self, rm)) }

// leaveStanza is the presence by which a resource of usher's leaves a room (XEP-0045 §7.14).
func (r *Rooms) leaveStanza(self jid.JID, rm *room) xml.TokenReader {
	to, _ := rm.jid.WithResource(rm.nick)
	return stanza.Presence{Type: stanza.UnavailablePresence, From: self, To: to}.Wrap(nil)
}

// joinStanza is the presence by which a resource of usher's enters a room (XEP-0045 §7.2).
func (r *Rooms) joinStanza(self jid.JID, rm *room) xml.TokenReader {
	to, _ := rm.jid.WithResource(rm.nick)
	// No history: what people said to each other is none of usher's business.
	join := []xml.TokenReader{element.Empty("", "history", element.NewAttr("maxstanzas", "0"))}
	if rm.password != "" {
		join = append(join, element.Text("", "password", rm.password))
	}
	return stanza.Presence{From: self, To: to}.Wrap(element.New(NS, "x", join...))
}

// begin drops what was known of an earlier room of the same name.
func (r *Rooms) begin(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(rm.outcasts)
	r.ended(rm)
	rm.end(func(g *grant) bool {
		g.on(eventLeft)
		return g.state.asking()
	})
	rm.lasts, rm.searched = temporary, true
}

// learnBans asks who is banned: usher may not have been inside, or not have heard yet. The room tells of later bans.
func (r *Rooms) learnBans(ctx context.Context, rm *room) error {
	items, err := r.Owner.WithAffiliation(ctx, rm.jid, "outcast")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range items {
		i.Affiliation = "outcast" // as asked
		r.banned(rm, i, "", false)
	}
	return nil
}

// change has a room made what it must be, and reports whether that will happen.
func (r *Rooms) change(j jid.JID) bool {
	select {
	case r.changed <- j:
		return true
	default: // the queue is full
		return false
	}
}

// forget drops the room, unless another one has taken its place. The caller holds mu.
func (r *Rooms) forget(rm *room) {
	if r.rooms[rm.jid.String()] == rm {
		delete(r.rooms, rm.jid.String())
		r.due.out(rm)
	}
}

// loses notes that usher is not in a room that may go on. The caller holds mu.
func (r *Rooms) loses(rm *room) {
	r.lost[rm.jid.String()] = rm
	r.soon(rm)
}

// Grant gives an affiliation in a room that is open. If it returns nil the server has done so, or does so before anything that is sent
// later; otherwise nothing is left of the grant. The affiliation is taken back within seconds after the person has left, at once after a
// removal, and if the person does not join in time. One that needs a host is also taken back if the person has not joined when no host
// has been inside for hostAway. One person's grants must come one after the other.
func (r *Rooms) Grant(ctx context.Context, give Grant) error {
	g := newGrant(give, r.Now())
	defer r.settled(g, g.settled)
	rm, was, err := r.enlist(ctx, g)
	if err != nil {
		return err
	}
	if err := rm.write(ctx, g, give.With); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		defer r.soon(rm)
		return rm.unwritten(g, was, err)
	}
	if given, err := r.handOver(rm, g, give.Context); given {
		return err
	}
	if err := r.ask(ctx, rm, g); err != nil || give.Context == nil {
		return err
	}
	_, err = r.Owner.Told.Give(Given{Room: g.Room, Who: g.Who, Context: give.Context})
	if err != nil {
		r.Withdraw(g.Room, g.Who)
	}
	return err
}

// settled notes that nobody gives a grant any more.
func (r *Rooms) settled(g *grant, over chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if close(over); g.settled == over {
		g.settled = nil // grants are many
	}
}

// handOver has usher's module give something, and reports whether the service has it. The room says only if it refuses, see News. So the
// answer is taken for granted.
func (r *Rooms) handOver(rm *room, g *grant, c *Context) (given bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.Owner.Told.Takes(g.Room.Domainpart()) {
		return false, nil
	}
	defer r.soon(rm)
	rm.crossOut(g)
	switch {
	case rm.live[g.Who.String()] != g: // the room has ended meanwhile
		return true, ErrAbsent
	case g.state == stateOutcast:
		rm.drop(g.Who.String())
		return true, ErrOutcast
	case g.state != stateDoomed:
		if given, err = r.Owner.Told.Give(Given{Room: g.Room, Who: g.Who, Affiliation: g.Affiliation, Context: c}); !given {
			return false, nil // it has been unloaded just now
		}
		g.handed = true
	}
	return true, r.settle(rm, g, err)
}

// ask gives something, and waits until the server has done so.
func (r *Rooms) ask(ctx context.Context, rm *room, g *grant) error {
	owns, err := rm.give(ctx, g.Who, g.Affiliation)
	bare := g.Who.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.soon(rm) // nobody else may be inside
	rm.crossOut(g)
	switch {
	case owns:
		g.answer(err)
		rm.drop(bare) // nothing was given, so nothing is to be taken back
		return nil
	case Absent(err):
		// The room went away meanwhile, and with it everybody in it.
		g.answer(err)
		if rm.live[bare] == g {
			rm.drop(bare)
		}
		r.gone(rm)
		return ErrAbsent
	case g.state == stateOutcast:
		// Perhaps the ban came first, and the grant has lifted it.
		rm.drop(bare)
		rm.ban(bare)
		if err := rm.send(bare, "outcast"); err != nil {
			r.Warn(g.Room, "could not restore a ban", err)
		}
		return ErrOutcast
	}
	return r.settle(rm, g, err)
}

// settle takes in what became of a request to give something. A grant that is to end is taken back. The caller holds mu.
func (r *Rooms) settle(rm *room, g *grant, err error) error {
	if g.answer(err); g.state != stateWithdrawn {
		return err
	}
	if bare := g.Who.String(); !r.removals.underWay(g.Room, bare) { // otherwise Remove waits for this, and takes it back
		r.withdraw(rm, bare)
	}
	if err == nil {
		err = errWithdrawn
	}
	return err
}

// enlist adds a grant that is about to be given to those of its room. It returns the room and the grant that it replaces. If the
// person is being removed, it waits until that is done.
func (r *Rooms) enlist(ctx context.Context, g *grant) (rm *room, was *grant, err error) {
	bare := g.Who.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.removals.wait(ctx, &r.mu, g.Room, g.Who); err != nil {
		return nil, nil, err
	}
	rm = r.rooms[g.Room.String()]
	switch {
	case rm == nil || !rm.open:
		return nil, nil, ErrAbsent
	case rm.outcasts[bare], rm.outcasts[g.Who.Domainpart()]:
		return nil, nil, ErrOutcast
	}
	if rm.has(bare) {
		g.on(eventCame)
	}
	was = rm.live[bare]
	g.Room = rm.jid // the same, once in memory
	rm.put(bare, g)
	r.plan(rm, g.due(r.Now()))
	return rm, was, nil
}

// Withdraw takes a grant back, and does not wait for the server.
func (r *Rooms) Withdraw(j, who jid.JID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rooms := range []map[string]*room{r.rooms, r.lost} {
		if rm := rooms[j.String()]; rm != nil {
			r.withdraw(rm, who.String())
		}
	}
}

// LeaveToLobby takes a grant back, as Withdraw does, unless the person is inside.
func (r *Rooms) LeaveToLobby(_ context.Context, j, who jid.JID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.rooms[j.String()]; rm != nil && !rm.has(who.String()) {
		r.withdraw(rm, who.String())
	}
	return nil
}

// Await calls Arrived if a host is inside already. Arrived is called for later hosts anyway, because the rooms tell of them.
func (r *Rooms) Await(j jid.JID, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.rooms[j.String()]; rm != nil && rm.open && r.hostPresent(rm) {
		r.Arrived(j)
	}
}

// HostPresent reports whether a host is inside a room that is open. It asks nobody.
func (r *Rooms) HostPresent(_ context.Context, j jid.JID) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[j.String()]
	return rm != nil && rm.open && r.hostPresent(rm), nil
}

// withdraw takes a grant back. The caller holds mu.
func (r *Rooms) withdraw(rm *room, bare string) {
	g := rm.live[bare]
	if err := rm.take(bare); err != nil {
		r.Warn(rm.jid, "could not take back an affiliation yet", err)
	} else if g != nil && rm.live[bare] == nil {
		r.sent.add(sent{rm.jid, g.Who, r.Now()})
	}
	r.soon(rm)
}

func (rm *room) has(bare string) bool {
	for _, o := range rm.occupants {
		if o.bare == bare {
			return true
		}
	}
	return false
}

// leaveIfNeedless leaves a room that nobody else is in or about to enter. It ends a room that is usher's, and with it all
// affiliations there. Another room waits for finish. The caller holds mu.
func (r *Rooms) leaveIfNeedless(rm *room) {
	switch {
	case !r.needless(rm), rm.finishing:
	case rm.ours:
		r.quit(rm, r.destroy)
	default:
		select {
		case r.unneeded <- rm.jid:
			rm.finishing = true
		default: // the queue is full
			r.soon(rm)
		}
	}
}

// quit has the server end a room, and forgets it. If that cannot be sent, the stream is about to end, and the room goes on with usher's
// occupant inside. Then it is not gone: Resume enters it again, and it is left later. The caller holds mu.
func (r *Rooms) quit(rm *room, end func(*room) error) {
	if err := end(rm); err != nil {
		r.Warn(rm.jid, "could not leave the room", err)
		return
	}
	r.sent.add(sent{room: rm.jid, at: r.Now()})
	r.gone(rm)
}

// needless reports whether nobody else is in a room, and nobody is about to come.
func (r *Rooms) needless(rm *room) bool {
	if !rm.open || len(rm.occupants) > 0 || r.Now().Before(rm.keepUntil) {
		return false
	}
	return !rm.any(func(g *grant) bool { return g.state != stateWithdrawn })
}

func (r *Rooms) destroy(rm *room) error { return r.Owner.Destroy(rm.jid) }
