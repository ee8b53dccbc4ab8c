package muc

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Nick is the nick by which Jitsi's clients and plugins know the focus; its occupant is not shown to people
// (lib-jitsi-meet JitsiConference.js, onMemberJoined).
const Nick = "focus"

// atOnce is how many rooms are entered at once where nobody waits for it.
const atOnce = 8

// joinWithin is how long somebody who was let in may take to join, and how long a room stays open for them.
const joinWithin = 30 * time.Second

var (
	// ErrAbsent means that there is no such room, and that it was not to be created.
	ErrAbsent = errors.New("the room does not exist")
	// ErrOutcast means that an owner or admin of the room has banned the person.
	ErrOutcast = errors.New("banned from the room")
	// ErrOpen is what Options.Try finds of a room into which strangers come.
	ErrOpen = errors.New("the server let somebody without an affiliation into an open room")
	// errWithdrawn means that what was to be given had to be taken back before it was there.
	errWithdrawn = errors.New("the right ended while it was given")
	// errDisconnected is what waits for a room ends with when the stream does.
	errDisconnected = errors.New("the connection to the server ended")
)

// Rooms is the focus of rooms that have no other: it opens them, stays inside as an occupant as long as somebody else
// is inside or about to come, and knows from the rooms' own presence who that is. It stays in persistent rooms as long as they
// exist.
//
// What others ask of it is in this file, what the rooms tell in presence.go, what is done without anybody asking in
// upkeep.go, and what becomes of rooms that others began or configured in adopt.go.
//
// Presence and Message are called by the goroutine that reads the stream, in the stream's order, and never block;
// everything else may be called by any goroutine.
type Rooms struct {
	Options
	self jid.JID // our real JID as an occupant

	mu    sync.Mutex
	rooms map[string]*room // by bare JID
	// lost are rooms that we are outside of although they may go on: somebody removed us, or the stream ended. What we
	// gave there is still to be taken back, so sweep has them entered again until they are entered or gone.
	lost map[string]*room
	// hanging are rooms, by bare JID, in which a grant may hang on a host. They are looked at every hostTick.
	hanging map[string]bool

	// strays are rooms that sent something though they are not in rooms: an earlier run's occupant is in them, or
	// ours was removed. Run enters them again.
	strays chan jid.JID
	// changed are rooms whose configuration somebody has changed. Run looks at it.
	changed chan jid.JID
	// unneeded are rooms that nobody needs and somebody has configured. Run leaves them, as far as that may be.
	unneeded chan jid.JID
}

// Options say how rooms are kept.
type Options struct {
	Owner Owner
	// Configuration is what rooms are kept to be.
	Configuration Configuration
	// Hosts tells whether a moderator from a domain counts as a host. It may change its mind.
	Hosts func(domain string) bool
	// Arrived is told that a host has entered a room in which none was. It must not block, nor call back.
	Arrived func(room jid.JID)
	// Lobby is the service of the rooms' lobbies; nil if there is none.
	Lobby *Lobby
	// Ledger has what is granted written down.
	Ledger Ledger
	// Now is the clock by which rights and waits end; nil for the machine's.
	Now func() time.Time
	// Try is asked whether a room that has just been opened keeps strangers out, before anybody is let in, and later whether
	// it does still: an owner may have opened one that was members-only. It is nil for a Configuration that sees to it.
	Try func(ctx context.Context, room jid.JID) error
	// Warn is told what went wrong in a room while nobody was waiting for it. It must not call back.
	Warn func(room jid.JID, what string, err error)
}

func (o *Options) clock() {
	if o.Now == nil {
		o.Now = time.Now
	}
}

// room is one room that we are in, or are about to enter.
type room struct {
	jid     jid.JID
	nick    string
	entered chan entry    // the answer to our join, by the reader
	opened  chan struct{} // closed when err is final
	again   bool          // it is lost if it cannot be entered; by enter
	err     error
	open    bool
	inside  bool // the room has shown us ourselves; by the reader
	ours    bool // we created it and nobody has configured it since: it is for us to end

	hostless  time.Time       // since when no host is inside, by the clock of the Options; zero while one is
	searched  bool            // its lists have been looked through, or are all ours; see adopt.go
	finishing bool            // it is on its way to finish
	tried     map[string]bool // by bare JID: finish has taken back what others gave them
	password  string

	keepUntil time.Time           // until then the room waits for the first to come; zero once somebody came
	occupants map[string]occupant // by nick, without ourselves
	outcasts  map[string]bool     // by bare JID
	grants
}

type entry struct {
	created bool
	err     error
}

// occupant is somebody else in the room.
type occupant struct {
	bare      string // real JID
	domain    string // of the real JID
	moderator bool
}

// NewRooms returns Rooms that act as o.Owner.JID.
func NewRooms(o Options) *Rooms {
	o.clock()
	self, _ := o.Owner.JID.WithResource("usher") // an ASCII resource is always valid
	return &Rooms{
		Options:  o,
		self:     self,
		rooms:    make(map[string]*room),
		lost:     make(map[string]*room),
		hanging:  make(map[string]bool),
		strays:   make(chan jid.JID, 1024),
		changed:  make(chan jid.JID, 1024),
		unneeded: make(chan jid.JID, 1024),
	}
}

func (r *Rooms) newRoom(j jid.JID) *room {
	return &room{
		jid: j, nick: Nick,
		entered:   make(chan entry, 1),
		opened:    make(chan struct{}),
		occupants: make(map[string]occupant),
		outcasts:  make(map[string]bool),
		grants:    newGrants(j, r.Options),
	}
}

// Restore takes in what an earlier process has granted, before Run: the rooms are entered by Resume, and what nobody makes
// use of there is then taken back.
func (r *Rooms) Restore(written []Grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range written {
		if g.Affiliation == "" {
			r.Ledger.Ended(g.Room, g.Who) // there are no breakout rooms without another focus
			continue
		}
		rm := r.lost[g.Room.String()]
		if rm == nil {
			rm = r.newRoom(g.Room)
			r.lost[g.Room.String()] = rm
		}
		if g.isNote() {
			rm.remember(g)
			continue
		}
		rm.live[g.Who.String()] = restored(g)
	}
}

// State tells whether the room exists, and whether a host is inside. Of a room that we are in, its own presence has
// told us; any other is asked.
func (r *Rooms) State(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	r.mu.Lock()
	if rm := r.rooms[j.String()]; rm != nil && rm.open {
		defer r.mu.Unlock()
		return true, r.hostPresent(rm), nil
	}
	r.mu.Unlock()
	if exists, host, err = r.state(ctx, j); exists {
		r.stray(j) // an earlier process may have left it
	}
	return exists, host, err
}

// state asks for the state of a room.
func (r *Rooms) state(ctx context.Context, j jid.JID) (exists, host bool, err error) {
	items, err := r.Owner.Moderators(ctx, j)
	if Absent(err) {
		return false, false, nil
	}
	for _, i := range items {
		if o, ok := i.real(); ok && !o.Bare().Equal(r.Owner.JID) && r.Hosts(o.Domainpart()) {
			host = true
		}
	}
	return err == nil, host, err
}

// noteHost notes since when no host is inside, and tells of one who has come. The caller holds mu.
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
}

func (r *Rooms) hostPresent(rm *room) bool {
	for _, o := range rm.occupants {
		if o.moderator && r.Hosts(o.domain) {
			return true
		}
	}
	return false
}

// Open sees to it that the room exists, is members-only and has us inside. A room that does not exist is created only
// if mayCreate; else the error is ErrAbsent. Calls for the same room at the same time lead to one entry.
func (r *Rooms) Open(ctx context.Context, j jid.JID, mayCreate bool) error {
	for {
		r.mu.Lock()
		rm, ok := r.rooms[j.String()]
		if !ok {
			rm = r.newRoom(j)
			if was := r.lost[j.String()]; was != nil {
				rm.again, rm.grants, rm.outcasts, rm.searched = true, was.grants, was.outcasts, was.searched
				delete(r.lost, j.String())
			}
			r.rooms[j.String()] = rm
			r.mu.Unlock()
			return r.enter(ctx, rm, mayCreate)
		}
		r.mu.Unlock()
		select {
		case <-rm.opened:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !mayCreate || !errors.Is(rm.err, ErrAbsent) {
			return rm.err
		}
		// Somebody who may not create the room was first. We may.
	}
}

func (r *Rooms) enter(ctx context.Context, rm *room, mayCreate bool) (err error) {
	var created, ready bool
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil && !ready { // a panic is passing
			err = errors.New("the room was not made ready")
		}
		if rm.err = err; err == nil {
			rm.open, rm.ours = true, created
			rm.keepUntil = time.Now().Add(joinWithin)
			r.takeBack(rm)
			rm.hostless = r.Now()
			r.noteHost(rm)
			r.hanging[rm.jid.String()] = true // perhaps, where the room was there before
		} else {
			r.forget(rm)
			if rm.again && r.rooms[rm.jid.String()] == nil && !errors.Is(err, ErrAbsent) {
				r.lost[rm.jid.String()] = rm
			} else {
				rm.end(nil)
			}
		}
		close(rm.opened)
	}()
	created, err = r.join(ctx, rm)
	if err != nil {
		return err
	}
	var is Settings
	if created {
		r.begin(rm)
	}
	if created && !mayCreate {
		_ = r.leave(rm)
		return ErrAbsent
	}
	if !created {
		rm.again = true
		err := r.learnBans(ctx, rm)
		if err == nil {
			is, err = r.search(ctx, rm)
		}
		if err != nil {
			_ = r.leave(rm)
			return err
		}
	}
	// It is guarded, whatever becomes of that. It is tried again when the room is next looked at.
	var kept errgroup.Group
	kept.Go(func() error {
		if err := r.keep(ctx, rm, is); err != nil && ctx.Err() == nil {
			r.Warn(rm.jid, "the room could not be written down, or made temporary", err)
		}
		return nil
	})
	defer func() { _ = kept.Wait() }()
	// Before anybody is told that the room is there: a new room is locked until its owner has submitted a form
	// (XEP-0045 §10.1.2), and one that was there before may have been opened to all.
	if err := r.Owner.Configure(ctx, rm.jid, r.Configuration); err != nil {
		_ = r.leave(rm)
		return err
	}
	if r.Try != nil {
		if err := r.Try(ctx, rm.jid); err != nil {
			_ = r.leave(rm)
			return err
		}
	}
	ready = true
	return nil
}

// join enters the room and tells whether that created it.
func (r *Rooms) join(ctx context.Context, rm *room) (created bool, err error) {
	for {
		if err := r.Owner.Session.Send(r.joinStanza(rm)); err != nil {
			return false, err
		}
		select {
		case e := <-rm.entered:
			if errors.Is(e.err, stanza.Error{Condition: stanza.Conflict}) && rm.nick == Nick {
				// Somebody has taken the nick. It is nicer to have but nothing depends on it.
				r.mu.Lock()
				rm.nick = Nick + "-" + strings.ToLower(rand.Text()[:8])
				r.mu.Unlock()
				continue
			}
			if errors.Is(e.err, stanza.Error{Condition: stanza.NotAuthorized}) && rm.password == "" {
				// An owner has set a password (XEP-0045 §7.2.6). Owners can read it.
				is, err := r.Owner.Settings(ctx, rm.jid)
				if rm.password = is.Password; err == nil && rm.password != "" {
					continue
				}
			}
			return e.created, e.err
		case <-ctx.Done():
			// The server may let us in later. Then we are a stray there, and enter again or leave.
			return false, ctx.Err()
		}
	}
}

func (r *Rooms) leave(rm *room) error {
	to, _ := rm.jid.WithResource(rm.nick)
	return r.Owner.Session.Send(stanza.Presence{Type: stanza.UnavailablePresence, From: r.self, To: to}.Wrap(nil))
}

func (r *Rooms) joinStanza(rm *room) xml.TokenReader {
	to, _ := rm.jid.WithResource(rm.nick)
	// No history: what people said to each other is none of our business.
	join := []xml.TokenReader{element.Empty("", "history", element.NewAttr("maxstanzas", "0"))}
	if rm.password != "" {
		join = append(join, element.Text("", "password", rm.password))
	}
	return stanza.Presence{From: r.self, To: to}.Wrap(element.New(NS, "x", join...))
}

// begin drops what was in the room of the same name before.
func (r *Rooms) begin(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(rm.outcasts)
	rm.end(func(g *grant) bool {
		g.on(eventLeft)
		return g.state.asking()
	})
	rm.lasts, rm.searched = temporary, true
}

// learnBans learns who was banned while we were not inside. The room tells of any later ban.
func (r *Rooms) learnBans(ctx context.Context, rm *room) error {
	items, err := r.Owner.Outcasts(ctx, rm.jid)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range items {
		i.Affiliation = "outcast" // as asked
		r.banned(rm, i, "")
	}
	return nil
}

// forget drops the room unless another one has taken its place. The caller holds mu.
func (r *Rooms) forget(rm *room) {
	if r.rooms[rm.jid.String()] == rm {
		delete(r.rooms, rm.jid.String())
	}
}

// Grant gives an affiliation in a room that is open. If it returns nil the server has done so; otherwise nothing is left of the
// grant. The affiliation is taken back within seconds after the person has left, at once after a removal, and if the person does
// not join in time. One that needs a host is also taken back if the person has not joined when no host has been inside for
// hostAway. One person's grants must come one after the other.
func (r *Rooms) Grant(ctx context.Context, give Grant) error {
	g, j, who := newGrant(give), give.Room, give.Who
	bare := who.String()
	r.mu.Lock()
	rm := r.rooms[j.String()]
	switch {
	case rm == nil || !rm.open:
		r.mu.Unlock()
		return ErrAbsent
	case rm.outcasts[bare], rm.outcasts[who.Domainpart()]:
		r.mu.Unlock()
		return ErrOutcast
	}
	if rm.has(bare) {
		g.on(eventCame)
	}
	was := rm.live[bare]
	rm.live[bare] = g
	if g.NeedsHost {
		r.hanging[j.String()] = true
	}
	r.mu.Unlock()

	err := rm.write(ctx, g, give.With)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return rm.unwritten(g, was, err)
	}
	owns, err := rm.give(ctx, who, g.Affiliation)
	r.mu.Lock()
	defer r.mu.Unlock()
	rm.crossOut(g)
	g.answer(err)
	switch {
	case owns:
		rm.drop(bare) // nothing was given, so nothing is to be taken back
		return nil
	case Absent(err):
		// The room went away under us, and with it everybody in it.
		r.forget(rm)
		rm.end(nil)
		return ErrAbsent
	case g.state == stateOutcast:
		// Perhaps the ban came first, and what we gave has lifted it.
		rm.drop(bare)
		rm.outcasts[bare] = true
		if err := rm.send(bare, "outcast"); err != nil {
			r.Warn(j, "a ban could not be said again", err)
		}
		return ErrOutcast
	case g.state != stateWithdrawn:
		return nil
	}
	r.withdraw(rm, bare)
	if err == nil {
		err = errWithdrawn
	}
	return err
}

// Withdraw takes back what Grant gave, without waiting for the server.
func (r *Rooms) Withdraw(j, who jid.JID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rooms := range []map[string]*room{r.rooms, r.lost} {
		if rm := rooms[j.String()]; rm != nil {
			r.withdraw(rm, who.String())
		}
	}
}

// LeaveToLobby takes back what Grant gave, as Withdraw does, unless the person is inside.
func (r *Rooms) LeaveToLobby(_ context.Context, j, who jid.JID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.rooms[j.String()]; rm != nil && !rm.has(who.String()) {
		r.withdraw(rm, who.String())
	}
	return nil
}

// Await has Arrived told if a host is inside already. It is told of those who come without it, because rooms tell us.
func (r *Rooms) Await(j jid.JID, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm := r.rooms[j.String()]; rm != nil && rm.open && r.hostPresent(rm) {
		r.Arrived(j)
	}
}

// Expect does nothing: the room tells us who comes.
func (r *Rooms) Expect(jid.JID) {}

// HostPresent tells whether a host is inside a room that is open, as of everything that the server has sent so far.
func (r *Rooms) HostPresent(_ context.Context, j jid.JID) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[j.String()]
	return rm != nil && rm.open && r.hostPresent(rm), nil
}

// withdraw takes the grant of who back. The caller holds mu.
func (r *Rooms) withdraw(rm *room, bare string) {
	if err := rm.take(bare); err != nil {
		r.Warn(rm.jid, "an affiliation could not be taken back yet", err)
	}
}

func (rm *room) has(bare string) bool {
	for _, o := range rm.occupants {
		if o.bare == bare {
			return true
		}
	}
	return false
}

// leaveIfNeedless leaves a room in which nobody else is and to which nobody is about to come. One that is ours it
// ends, with all affiliations in it; of others, what we gave is taken back first, and see finish. The caller holds mu.
func (r *Rooms) leaveIfNeedless(rm *room) {
	switch {
	case !r.needless(rm), rm.finishing:
	case rm.ours:
		r.forget(rm)
		rm.end(nil)
		if err := r.destroy(rm); err != nil {
			r.Warn(rm.jid, "the room could not be left", err)
		}
	default:
		select {
		case r.unneeded <- rm.jid:
			rm.finishing = true
		default: // so many that the next sweep has to remind us
		}
	}
}

// needless reports whether nobody else is in a room, and nobody is about to come.
func (r *Rooms) needless(rm *room) bool {
	if !rm.open || len(rm.occupants) > 0 || time.Now().Before(rm.keepUntil) {
		return false
	}
	return !rm.any(func(g *grant) bool { return !rm.ours || g.state != stateWithdrawn })
}

func (r *Rooms) destroy(rm *room) error { return r.Owner.Destroy(rm.jid) }
