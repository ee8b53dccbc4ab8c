package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmlstream"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
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
	// errWithdrawn means that what was to be given had to be taken back before it was there.
	errWithdrawn = errors.New("the right ended while it was given")
	// errDisconnected is what waits for a room ends with when the stream does.
	errDisconnected = errors.New("the connection to the server ended")
)

// Rooms is the focus of rooms that have no other: it opens them, stays inside as an occupant as long as somebody else
// is inside or about to come, and knows from the rooms' own presence who that is.
//
// Presence and Message are called by the goroutine that reads the stream, in the stream's order, and never block;
// everything else may be called by any goroutine.
type Rooms struct {
	owner Owner
	self  jid.JID // our real JID as an occupant
	hosts func(domain string) bool
	warn  Warn
	now   func() time.Time

	mu    sync.Mutex
	rooms map[string]*room // by bare JID
	// lost are rooms that we are outside of although they may go on: somebody removed us, or the stream ended. What we
	// gave there is still to be taken back, so sweep has them entered again until they are entered or gone.
	lost map[string]*room

	// strays are rooms that sent something though they are not in rooms: an earlier run's occupant is in them, or
	// ours was removed. Run enters them again.
	strays chan jid.JID
}

// Warn is told what went wrong in a room while nobody was waiting for it.
type Warn func(room jid.JID, what string, err error)

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

	keepUntil time.Time           // until then the room waits for the first to come; zero once somebody came
	occupants map[string]occupant // by nick, without ourselves
	grants    map[string]*grant   // by bare JID
	outcasts  map[string]bool     // by bare JID
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

// grant is an affiliation that we gave to a bare JID.
type grant struct {
	affiliation string
	at, expires time.Time // expires is zero for a right without end
	joined      bool
	// asked is true until the server has answered. Only then what is to be taken back is: before, it might arrive first.
	asked, withdrawn bool
	banned           bool // by an owner in the meantime
}

// NewRooms returns Rooms that act as o.JID. hosts tells whether a moderator from a domain counts as a host.
func NewRooms(o Owner, hosts func(domain string) bool, warn Warn) *Rooms {
	self, _ := o.JID.WithResource("usher") // an ASCII resource is always valid
	return &Rooms{
		owner:  o,
		self:   self,
		hosts:  hosts,
		warn:   warn,
		now:    time.Now,
		rooms:  make(map[string]*room),
		lost:   make(map[string]*room),
		strays: make(chan jid.JID, 1024),
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
	items, err := r.owner.Moderators(ctx, j)
	if Absent(err) {
		return false, false, nil
	}
	for _, i := range items {
		if o, err := jid.ParseUnsafe(i.JID); err == nil && !o.Bare().Equal(r.owner.JID) && r.hosts(o.Domainpart()) {
			host = true
		}
	}
	return err == nil, host, err
}

func (r *Rooms) hostPresent(rm *room) bool {
	for _, o := range rm.occupants {
		if o.moderator && r.hosts(o.domain) {
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
			rm = &room{
				jid: j, nick: Nick,
				entered:   make(chan entry, 1),
				opened:    make(chan struct{}),
				occupants: make(map[string]occupant),
				grants:    make(map[string]*grant),
				outcasts:  make(map[string]bool),
			}
			if was := r.lost[j.String()]; was != nil {
				rm.again, rm.grants, rm.outcasts = true, was.grants, was.outcasts
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
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if rm.err = err; err == nil {
			rm.open = true
			rm.keepUntil = r.now().Add(joinWithin)
			r.takeBack(rm)
		} else {
			r.forget(rm)
			if rm.again && r.rooms[rm.jid.String()] == nil && !errors.Is(err, ErrAbsent) {
				r.lost[rm.jid.String()] = rm
			}
		}
		close(rm.opened)
	}()
	created, err := r.join(ctx, rm)
	if err != nil {
		return err
	}
	if created {
		r.begin(rm)
	}
	if created && !mayCreate {
		_ = r.leave(rm)
		return ErrAbsent
	}
	if !created {
		rm.again = true
		if err := r.learnBans(ctx, rm); err != nil {
			_ = r.leave(rm)
			return err
		}
	}
	// Before anybody is told that the room is there: a new room is locked until its owner has submitted a form
	// (XEP-0045 §10.1.2), and one that was there before may have been opened to all.
	if err := r.owner.Configure(ctx, rm.jid); err != nil {
		_ = r.leave(rm)
		return err
	}
	return nil
}

// join enters the room and tells whether that created it.
func (r *Rooms) join(ctx context.Context, rm *room) (created bool, err error) {
	for {
		if err := r.owner.Session.Send(r.presence(rm, "")); err != nil {
			return false, err
		}
		select {
		case e := <-rm.entered:
			if errors.Is(e.err, stanza.Error{Condition: stanza.Conflict}) && rm.nick == Nick {
				// Somebody has taken the nick. It is nicer to have but nothing depends on it.
				r.mu.Lock()
				rm.nick = Nick + "-usher"
				r.mu.Unlock()
				continue
			}
			return e.created, e.err
		case <-ctx.Done():
			// The server may let us in later. Then we are a stray there, and enter again or leave.
			return false, ctx.Err()
		}
	}
}

func (r *Rooms) leave(rm *room) error {
	return r.owner.Session.Send(r.presence(rm, stanza.UnavailablePresence))
}

func (r *Rooms) presence(rm *room, typ stanza.PresenceType) xml.TokenReader {
	to, _ := rm.jid.WithResource(rm.nick)
	// No history: what people said to each other is none of our business.
	join := xmlstream.Wrap(
		xmlstream.Wrap(nil, xml.StartElement{Name: xml.Name{Local: "history"}, Attr: []xml.Attr{{Name: xml.Name{Local: "maxstanzas"}, Value: "0"}}}),
		xml.StartElement{Name: xml.Name{Space: NS, Local: "x"}})
	return stanza.Presence{Type: typ, From: r.self, To: to}.Wrap(join)
}

// begin drops what was in the room of the same name before.
func (r *Rooms) begin(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(rm.outcasts)
	maps.DeleteFunc(rm.grants, func(_ string, g *grant) bool {
		g.joined = false
		return !g.asked
	})
}

// learnBans learns who was banned while we were not inside. The room tells of any later ban.
func (r *Rooms) learnBans(ctx context.Context, rm *room) error {
	items, err := r.owner.Outcasts(ctx, rm.jid)
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

// Grant gives who, a bare JID, the affiliation in a room that is open, until expires if that is not zero. When it returns nil the server
// has done it, else nothing is left of it. It is taken back when the person leaves, or does not join in time. One
// person's grants must come one after the other.
func (r *Rooms) Grant(ctx context.Context, j, who jid.JID, affiliation string, expires time.Time) error {
	g := &grant{affiliation: affiliation, at: r.now(), expires: expires, asked: true}
	r.mu.Lock()
	rm := r.rooms[j.String()]
	switch {
	case rm == nil || !rm.open:
		r.mu.Unlock()
		return ErrAbsent
	case rm.outcasts[who.String()], rm.outcasts[who.Domainpart()]:
		r.mu.Unlock()
		return ErrOutcast
	}
	g.joined = rm.has(who.String())
	rm.grants[who.String()] = g
	r.mu.Unlock()

	err := r.owner.SetAffiliation(ctx, j, who, affiliation)
	r.mu.Lock()
	defer r.mu.Unlock()
	g.asked = false
	switch {
	case Absent(err):
		// The room went away under us, and with it everybody in it.
		r.forget(rm)
		return ErrAbsent
	case g.banned:
		// Perhaps the ban came first, and what we gave has lifted it.
		delete(rm.grants, who.String())
		rm.outcasts[who.String()] = true
		if err := r.owner.Session.Send(r.owner.iq(stanza.SetIQ, j).Wrap(affiliationQuery(who.String(), "outcast"))); err != nil {
			r.warn(j, "a ban could not be said again", err)
		}
		return ErrOutcast
	case err == nil && g.withdrawn:
		err = errWithdrawn
	}
	if err != nil {
		// What the server did of it, if anything, must not stay.
		r.withdraw(rm, who.String())
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

// HostPresent tells whether a host is inside a room that is open, as of everything that the server has sent so far.
func (r *Rooms) HostPresent(j jid.JID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[j.String()]
	return rm != nil && rm.open && r.hostPresent(rm)
}

// withdraw takes the grant of who back. The caller holds mu, so that the order of grants and withdrawals on the stream is that of our records.
func (r *Rooms) withdraw(rm *room, bare string) {
	g := rm.grants[bare]
	if g == nil {
		return
	}
	if g.withdrawn = true; g.asked {
		return
	}
	iq := r.owner.iq(stanza.SetIQ, rm.jid)
	if err := r.owner.Session.Send(iq.Wrap(affiliationQuery(bare, ""))); err != nil {
		r.warn(rm.jid, "an affiliation could not be taken back yet", err)
		return
	}
	delete(rm.grants, bare)
}

func (rm *room) has(bare string) bool {
	for _, o := range rm.occupants {
		if o.bare == bare {
			return true
		}
	}
	return false
}

// user is what the room says in muc#user (XEP-0045 §17.3) beside a presence or message.
type user struct {
	Items  []Item `xml:"item"`
	Status []struct {
		Code string `xml:"code,attr"`
	} `xml:"status"`
}

func (u user) status(code string) bool {
	for _, s := range u.Status {
		if s.Code == code {
			return true
		}
	}
	return false
}

// Presence takes in a presence stanza from a room. start is its first token, d has the rest.
func (r *Rooms) Presence(start xml.StartElement, d *xml.Decoder) error {
	var p struct {
		From  string        `xml:"from,attr"`
		Type  string        `xml:"type,attr"`
		User  user          `xml:"http://jabber.org/protocol/muc#user x"`
		Error *stanza.Error `xml:"error"`
	}
	if err := d.DecodeElement(&p, &start); err != nil {
		return err
	}
	// The server wrote these addresses. They are compared as it wrote them, not as we would.
	from, err := jid.ParseUnsafe(p.From)
	if err != nil {
		return err
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[from.Bare().String()]
	nick := from.Resourcepart()
	self := p.User.status("110")
	switch {
	case rm == nil && p.Type == "" && p.User.status("201"):
		// We created it for somebody who has not waited for that. It is not to be kept: perhaps they may not create rooms.
		if err := r.leave(&room{jid: from.Bare(), nick: nick}); err != nil {
			r.warn(from.Bare(), "the room could not be left", err)
		}
	case rm == nil:
		if p.Type != "error" && !(self && p.Type == "unavailable") {
			r.stray(from.Bare())
		}
	case p.Type == "error":
		if p.Error == nil {
			p.Error = &stanza.Error{Condition: stanza.UndefinedCondition}
		}
		rm.answer(entry{err: *p.Error})
	case self && p.Type == "unavailable" && !rm.inside:
		// The end of an earlier stay, and of all that we saw there: what we sent to leave was on its way when we sent
		// what enters.
		clear(rm.occupants)
	case self && p.Type == "unavailable":
		// Somebody removed us, or destroyed the room.
		r.forget(rm)
		r.lost[rm.jid.String()] = rm
		r.stray(rm.jid)
	case self:
		rm.inside = true
		rm.answer(entry{created: p.User.status("201")})
	case len(p.User.Items) == 0 || nick == "":
	case p.Type == "unavailable":
		r.left(rm, nick, p.User)
	case p.Type == "":
		r.came(rm, nick, p.User.Items[0])
	}
	return nil
}

// answer hands the result of our join to who waits for it; later ones are of no interest.
func (rm *room) answer(e entry) {
	select {
	case rm.entered <- e:
	default:
	}
}

func (r *Rooms) stray(j jid.JID) {
	select {
	case r.strays <- j:
	default: // so many that the next presence from there will have to remind us
	}
}

// came records somebody who came, or whose affiliation or role changed.
func (r *Rooms) came(rm *room, nick string, i Item) {
	j, err := jid.ParseUnsafe(i.JID)
	if err != nil || i.JID == "" {
		return
	}
	bare := j.Bare().String()
	rm.occupants[nick] = occupant{bare: bare, domain: j.Domainpart(), moderator: i.Role == "moderator"}
	rm.keepUntil = time.Time{}
	g := rm.grants[bare]
	if g == nil || g.joined {
		return
	}
	g.joined = true
	if !g.expires.IsZero() && !r.now().Before(g.expires) {
		// The token ended between the answer and the join. Without affiliation the server removes the person (321).
		r.withdraw(rm, bare)
	}
}

// left records that somebody is gone, takes their grant back, and leaves after the last one.
func (r *Rooms) left(rm *room, nick string, u user) {
	o, ok := rm.occupants[nick]
	delete(rm.occupants, nick)
	if u.status("303") { // a new nick (XEP-0045 §7.6); a presence with it follows
		rm.occupants[u.Items[0].Nick] = o
		return
	}
	r.banned(rm, u.Items[0], o.bare)
	switch g := rm.grants[o.bare]; {
	case !ok || g == nil || !g.joined || rm.has(o.bare):
	case g.asked:
		// Perhaps they left before they were given it. They may come again.
		g.joined = false
	case u.Items[0].Affiliation == g.affiliation:
		// The presence tells the affiliation that is left. Only what is still as we gave it is taken back.
		r.withdraw(rm, o.bare)
	default:
		// What an owner has changed since is the owner's affair, and after a removal there is nothing left.
		delete(rm.grants, o.bare)
	}
	r.leaveIfNeedless(rm)
}

// leaveIfNeedless leaves a room in which nobody else is and to which nobody is about to come.
func (r *Rooms) leaveIfNeedless(rm *room) {
	if !rm.open || len(rm.occupants) > 0 || len(rm.grants) > 0 || r.now().Before(rm.keepUntil) {
		return
	}
	r.forget(rm)
	if err := r.leave(rm); err != nil {
		r.warn(rm.jid, "the room could not be left", err)
	}
}

// banned records whether somebody is banned; who is meant unless the item says it.
func (r *Rooms) banned(rm *room, i Item, who string) {
	if i.JID != "" {
		if j, err := jid.ParseUnsafe(i.JID); err == nil {
			who = j.Bare().String()
		}
	}
	g := rm.grants[who]
	if i.Affiliation == "outcast" {
		rm.outcasts[who] = true
		if g != nil && !g.asked {
			delete(rm.grants, who) // nothing is left of it, and taking it back would lift the ban
		}
	} else {
		delete(rm.outcasts, who)
	}
	// Other news than of a ban or its end may be of what we have just given.
	if g != nil && (i.Affiliation == "outcast" || i.Affiliation == "none") {
		g.banned = i.Affiliation == "outcast"
	}
}

// Message takes in a message from a room. Only what the room itself says is of interest, not its occupants.
func (r *Rooms) Message(start xml.StartElement, d *xml.Decoder) error {
	var m struct {
		From string `xml:"from,attr"`
		Type string `xml:"type,attr"`
		User user   `xml:"http://jabber.org/protocol/muc#user x"`
	}
	if err := d.DecodeElement(&m, &start); err != nil {
		return err
	}
	from, err := jid.ParseUnsafe(m.From)
	if err != nil || m.Type == "error" {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[from.Bare().String()]
	if rm == nil {
		r.stray(from.Bare())
		return nil
	}
	if from.Resourcepart() != "" {
		return nil
	}
	for _, i := range m.User.Items {
		if i.JID != "" {
			r.banned(rm, i, "") // announced for somebody who is not inside (XEP-0045 §9.1)
		}
	}
	if m.User.status("104") {
		// The configuration changed, perhaps to open to all. Saying again what it must be changes nothing, and is
		// not announced, if it still is so.
		iq := r.owner.iq(stanza.SetIQ, rm.jid)
		if err := r.owner.Session.Send(iq.Wrap(configuration())); err != nil {
			r.warn(rm.jid, "members-only could not be said again", err)
		}
	}
	return nil
}

// Reset gives all rooms up for lost because the stream ended, and returns their addresses.
func (r *Rooms) Reset() []jid.JID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var was []jid.JID
	for key, rm := range r.rooms {
		rm.answer(entry{err: errDisconnected})
		r.lost[key] = rm
	}
	clear(r.rooms)
	for _, rm := range r.lost {
		was = append(was, rm.jid)
	}
	return was
}

// Resume enters those of the rooms, and of the public rooms of the services, that exist: after a new connection nobody
// else keeps them. Other rooms of an earlier usher become known when they send something to the occupant that it left
// there, or when somebody is admitted to them.
func (r *Rooms) Resume(ctx context.Context, rooms []jid.JID, services ...jid.JID) {
	known := make(map[string]jid.JID)
	for _, j := range rooms {
		known[j.String()] = j
	}
	for _, s := range services {
		var list struct {
			Items []Item `xml:"item"`
		}
		err := r.owner.Session.IQ(ctx, r.owner.iq(stanza.GetIQ, s), query(disco.NSItems, nil), &list)
		if err != nil {
			r.warn(s, "its rooms could not be listed", err)
		}
		for _, i := range list.Items {
			if j, err := jid.ParseUnsafe(i.JID); err == nil && j.Domainpart() == s.Domainpart() {
				known[j.Bare().String()] = j.Bare()
			}
		}
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, j := range slices.Collect(maps.Values(known)) {
		g.Go(func() error { r.adopt(ctx, j); return nil })
	}
	_ = g.Wait()
}

// adopt enters a room that exists, and leaves one alone that does not.
func (r *Rooms) adopt(ctx context.Context, j jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	exists, _, err := r.State(ctx, j)
	switch {
	case err != nil:
	case exists:
		err = r.Open(ctx, j, false)
	default:
		r.mu.Lock()
		delete(r.lost, j.String())
		r.mu.Unlock()
	}
	if err != nil && !errors.Is(err, ErrAbsent) && !errors.Is(err, errDisconnected) {
		r.warn(j, "the room could not be entered again", err)
	}
}

// Run looks after rooms that need it without anybody asking, until ctx ends: rooms that nobody came to, people who did
// not come, strays.
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
				}
			}
		})
	}
	sweep := time.NewTicker(joinWithin / 6)
	defer sweep.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-sweep.C:
			r.sweep()
		}
	}
	_ = g.Wait()
}

// sweep takes back what nobody made use of, leaves rooms that nobody came to, and has lost ones entered again.
func (r *Rooms) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		r.takeBack(rm)
		r.leaveIfNeedless(rm)
	}
	for _, rm := range r.lost {
		r.stray(rm.jid)
	}
}

// takeBack takes back what is not made use of, or could not be taken back before.
func (r *Rooms) takeBack(rm *room) {
	if !rm.open {
		return
	}
	for bare, g := range rm.grants {
		g.joined = g.joined && rm.has(bare) // they may have left while we were not inside
		if g.withdrawn || !g.joined && r.now().Sub(g.at) >= joinWithin {
			r.withdraw(rm, bare)
		}
	}
}

// Count returns how many rooms we are in, and how many grants are live there.
func (r *Rooms) Count() (rooms, grants int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		grants += len(rm.grants)
	}
	return len(r.rooms), grants
}

// Leave leaves the rooms that nobody else is in, because usher stops. In the others its occupant stays, so that the
// next usher hears of what goes on there (see strays); if the room has something to say in the meantime the server
// finds nobody to tell and removes the occupant.
func (r *Rooms) Leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		if len(rm.occupants) == 0 {
			r.forget(rm)
			_ = r.leave(rm) // the stream is about to be closed; there is nobody to tell
		}
	}
}
