package muc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

var errCut = errors.New("the test cut the connection")

// service is a MUC service and the stream to it. It does what Prosody does (modules/muc/muc.lib.lua and
// members_only.lib.lua) as far as Rooms can see or cause it. Only usher creates rooms, and they are members-only by default.
//
// Nothing happens by itself: what Rooms writes waits in up until the service takes it, and what the service writes waits in
// down until Rooms reads it. So a test can let things cross on the way.
type service struct {
	rooms  *Rooms
	book   *book // of rooms
	sights *sights

	told     *Told // what usher's module tells goes to it; nil if it is not loaded
	reading  sync.Mutex
	stirred  chan struct{}
	modules  map[string]*module // by domain
	by       string             // who does what happens, by bare JID, if that is nobody inside
	quiet    bool               // nothing is announced of people who are not inside
	contexts []string           // what sessions were given

	mu             stepping
	down           []string
	up             [][]byte
	cut            bool
	asked          map[string]chan []byte // by id
	asks           int
	joins          int      // presences by which usher entered, or tried to
	tries          int      // those of its second resource
	gaves          int      // what was handed to modules
	ghosts         int      // people who were put out without the others in the room being told
	arrivals       int      // people who came so far
	actor          *seat    // who does what happens; nil if nobody is named
	removed, ended []string // what usher told of
	warned         []error  // what usher warned of
	messages       []arrived
	out            map[string][]string // by full JID: the status codes with which somebody was last taken out
	chats          map[string]*chat
	rates          bool                              // people who join are held up at the door
	waiting        []arrived                         // who
	opens, locks   bool                              // new rooms are open to all, or locked until they are configured (lock.lib.lua)
	ejabberd       bool                              // it does what ejabberd does instead; see server.go
	observer       func(c *chat, bare, event string) // what happened to a room, or to somebody's place or affiliation in it

	// prompt has the service take and answer stanzas at once, or after delay.
	prompt bool
	delay  time.Duration
	iqs    []arrived // all that were taken
	// afterSend is done once, after usher has sent something for which it does not wait, and before it goes on.
	afterSend func()
	underway  int // the most that were waited for at a time
}

// chat is a room. Its seats are in the order in which they were taken.
type chat struct {
	address      string
	membersOnly  bool
	module       bool // mod_muc_affiliated_only guards it
	invites      bool // members may invite
	persistent   bool
	hidden       bool              // the service does not list it
	password     string            // usher is asked for it
	main         *chat             // of a breakout room; its affiliations count (mod_muc_breakout_rooms.lua)
	silent       bool              // answers nothing
	refuses      []string          // by which conditions usher's module refuses what it is given next
	locked       bool              // until it is configured
	made         time.Time         // by usher
	affiliations map[string]string // by bare JID
	admins       map[string]bool   // by bare JID: admins of the service, who are owners and on no list
	seats        []*seat

	given map[string]time.Time // by bare JID: affiliations that usher gave, and since when
}

type seat struct {
	nick, full, role string
	since            time.Time // zero if nobody saw them come
	number           int       // of the arrival
}

func newService() *service {
	s := &service{book: newBook(), chats: map[string]*chat{}, asked: map[string]chan []byte{}, out: map[string][]string{}}
	s.observer = func(*chat, string, string) {}
	return s
}

// newRooms returns Rooms on the service. Recorders are no hosts.
func (s *service) newRooms() *Rooms {
	s.sights = newSights()
	s.rooms = NewRooms(Options{
		Sees:          s.sights.sees,
		Owner:         Owner{Session: s, JID: jid.MustParse(us), Told: s.told},
		Configuration: Configuration{MembersOnly: true},
		Hosts:         func(domain string) bool { return domain != "recorder.example" },
		Arrived:       func(jid.JID) {},
		Ledger:        s.book,
		Removed:       s.noteRemoved,
		Ended:         s.noteEnded,
		Warn:          s.noteWarned,
	})
	return s.rooms
}

// noteRemoved is an Options.Removed.
func (s *service) noteRemoved(room, who jid.JID, banned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = append(s.removed, fmt.Sprintf("%s %s %t", room, who, banned))
}

// noteWarned is an Options.Warn.
func (s *service) noteWarned(_ jid.JID, _ string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warned = append(s.warned, err)
}

// noteEnded is an Options.Ended.
func (s *service) noteEnded(room jid.JID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, room.String())
}

func bareOf(full string) string {
	bare, _, _ := strings.Cut(full, "/")
	return bare
}

// Send implements Session.
func (s *service) Send(r xml.TokenReader) error {
	s.mu.Lock()
	err, prompt, after := s.send(r), s.prompt, s.afterSend
	s.afterSend = nil
	s.mu.Unlock()
	for prompt && s.serve() {
		continue
	}
	if after != nil {
		after()
	}
	return err
}

func (s *service) send(r xml.TokenReader) error {
	if s.cut {
		return errCut
	}
	b, err := encode(r)
	if err == nil {
		s.up = append(s.up, b)
	}
	return err
}

func encode(r xml.TokenReader) ([]byte, error) {
	var b bytes.Buffer
	enc := xml.NewEncoder(&b)
	_, err := xmlstream.Copy(enc, r)
	err = errors.Join(err, enc.Flush())
	return b.Bytes(), err
}

// IQ implements Session.
func (s *service) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	s.mu.Lock()
	s.asks++
	iq.ID = fmt.Sprint(s.asks)
	answer := make(chan []byte, 1)
	if err := s.send(iq.Wrap(payload)); err != nil {
		s.mu.Unlock()
		return err
	}
	s.asked[iq.ID] = answer
	s.underway = max(s.underway, len(s.asked))
	prompt, delay := s.prompt, s.delay
	s.mu.Unlock()
	if prompt {
		if delay > 0 {
			<-time.After(delay)
		}
		for s.serve() || s.read() {
			continue
		}
	}
	select {
	case raw, ok := <-answer:
		if !ok {
			return errCut
		}
		return decodeAnswer(raw, v)
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.asked, iq.ID)
		return ctx.Err()
	}
}

// decodeAnswer reads the one child of an answer: an error, or a payload for v.
func decodeAnswer(raw []byte, v any) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	for {
		tok, err := d.Token()
		start, ok := tok.(xml.StartElement)
		switch {
		case err != nil || !ok:
			return err
		case start.Name.Local == "error":
			var e stanza.Error
			return errors.Join(d.DecodeElement(&e, &start), e)
		case start.Name.Local == "iq":
		case v != nil:
			return d.DecodeElement(v, &start)
		default:
			return nil
		}
	}
}

// settle lets everything that is on its way arrive.
func (s *service) settle() {
	for {
		synctest.Wait()
		if !s.read() && !s.serve() {
			return
		}
	}
}

// read lets Rooms take the next stanza off the stream, and reports whether there was one.
func (s *service) read() bool {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	if len(s.down) == 0 {
		s.mu.Unlock()
		return false
	}
	raw := []byte(s.down[0])
	s.down = s.down[1:]
	s.mu.Unlock()
	d := xml.NewDecoder(bytes.NewReader(raw))
	tok, err := d.Token()
	if err == nil {
		start := tok.(xml.StartElement)
		switch start.Name.Local {
		case "presence":
			err = s.rooms.Presence(start, d)
		case "message":
			if from := element.Attr(start, "from"); !strings.Contains(from, "@") {
				_, err = s.told.Hear(jid.MustParse(from), start, d)
				break
			}
			err = s.rooms.Message(start, d)
		default:
			s.mu.Lock()
			id := start.Attr[0].Value
			if answer := s.asked[id]; answer != nil {
				delete(s.asked, id)
				answer <- raw
			}
			s.mu.Unlock()
		}
	}
	if err != nil {
		panic(fmt.Sprintf("%s: %v", raw, err))
	}
	return true
}

// disconnect ends the stream; what was on its way is lost.
func (s *service) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut, s.up, s.down = true, nil, nil
	for _, answer := range s.asked {
		close(answer)
	}
	clear(s.asked)
}

// arrived is a stanza as the service takes it.
type arrived struct {
	XMLName  xml.Name
	ID       string `xml:"id,attr"`
	Type     string `xml:"type,attr"`
	From     string `xml:"from,attr"`
	To       string `xml:"to,attr"`
	Password string `xml:"x>password"`
	Body     string `xml:"body"`
	Give     *give  `xml:"urn:usher:module:0 give"`
	Listen   *struct {
		Tell string `xml:"tell,attr"`
	} `xml:"urn:usher:module:0 listen"`
	Alive *struct {
		Boot string `xml:"boot,attr"`
	} `xml:"urn:usher:module:0 alive"`
	Query struct {
		XMLName xml.Name
		Items   []struct {
			Item
			Reason string `xml:"reason"`
		} `xml:"item"`
		Destroy *struct {
			Reason string `xml:"reason"`
		} `xml:"destroy"`
		Form *struct {
			Fields []field `xml:"field"`
		} `xml:"jabber:x:data x"`
	} `xml:"query"`
}

type field struct {
	Var   string `xml:"var,attr"`
	Value string `xml:"value"`
}

// serve lets the service take the next stanza off the stream, and reports whether there was one.
func (s *service) serve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.up) == 0 {
		return s.snap()
	}
	raw := s.up[0]
	s.up = s.up[1:]
	var a arrived
	if err := xml.Unmarshal(raw, &a); err != nil {
		panic(fmt.Sprintf("%s: %v", raw, err))
	}
	if _, domain, _ := strings.Cut(us, "@"); bareOf(a.From) != us && a.From != domain {
		panic(fmt.Sprintf("the server closes the stream because of the sender of %s", raw))
	}
	address, nick, _ := strings.Cut(a.To, "/")
	c := s.chats[address]
	if a.XMLName.Local == "iq" {
		s.iqs = append(s.iqs, a)
	}
	if c != nil {
		s.actor = c.find(func(o *seat) bool { return bareOf(o.full) == bareOf(a.From) })
		defer func() { s.actor = nil }()
	}
	if a.Type == "set" {
		s.by = bareOf(a.From)
		defer func() { s.tells(); s.by = "" }()
	}
	switch {
	case s.asModule(a):
	case c != nil && c.silent:
	case a.XMLName.Local == "message":
		s.messages = append(s.messages, a)
	case a.XMLName.Local == "presence" && a.From == secondly:
		s.second(c, a, nick)
	case a.XMLName.Local == "presence" && a.Type == "unavailable":
		if c != nil {
			if our := c.by(ourself); our != nil {
				s.remove(c, our)
			}
		}
	case a.XMLName.Local == "presence":
		s.joins++
		s.enter(c, address, nick, a.Password)
	case address == mucDomain:
		items := ""
		for address, c := range s.chats {
			if !c.hidden {
				items += fmt.Sprintf("<item jid='%s'/>", address)
			}
		}
		s.result(a, items)
	case c == nil && s.ejabberd && a.Query.XMLName.Space == NSOwner: // mod_muc.erl, is_create_request
		s.refuse("iq", a, "auth", "forbidden")
	case c == nil:
		s.refuse("iq", a, "cancel", "item-not-found")
	case s.ejabberd && a.Query.Form != nil && slices.ContainsFunc(a.Query.Form.Fields, func(f field) bool { return f.Var == noInvites.name }):
		s.refuse("iq", a, "modify", "bad-request")
	case a.Query.Destroy != nil:
		s.destroy(c)
		s.result(a, "")
	case a.Query.XMLName.Space == NSOwner && a.Type == "get":
		s.result(a, c.form(s.ejabberd))
	case a.Query.XMLName.Space == NSOwner:
		c.locked = false
		for _, f := range a.Query.Form.Fields {
			switch f.Var {
			case fieldMembersOnly:
				s.configure(c, f.Value == "true")
			case noInvites.name, noUserInvites.name:
				c.invites = f.Value == "true"
			case fieldPersistent:
				s.persist(c, f.Value == "true")
			}
		}
		s.result(a, "")
	case len(a.Query.Items) == 0: // disco#info
		s.result(a, "")
	case a.Type == "set" && a.Query.Items[0].Role != "":
		switch o := c.named(a.Query.Items[0].Nick); {
		case o == nil:
			s.refuse("iq", a, "modify", "item-not-found")
		case s.actor == nil || s.actor.full != a.From || s.actor.role != "moderator":
			s.refuse("iq", a, "cancel", "not-allowed")
		default:
			s.remove(c, o, "307")
			s.result(a, "")
		}
	case a.Type == "set":
		if i := a.Query.Items[0]; i.JID == us || (i.JID == admin || c.admins[i.JID]) && i.Affiliation != "owner" { // mod_muc.lua
			s.refuse("iq", a, "modify", map[bool]string{true: "not-allowed", false: "not-acceptable"}[s.ejabberd])
		} else {
			s.affiliate(c, i.JID, i.Affiliation, true)
			s.result(a, "")
		}
	case a.Query.Items[0].Affiliation != "":
		items := ""
		for bare, affiliation := range c.affiliations {
			if affiliation == a.Query.Items[0].Affiliation {
				items += fmt.Sprintf("<item affiliation='%s' jid='%s'/>", affiliation, bare)
			}
		}
		s.result(a, items)
	case s.ejabberd && c.by(a.From) == nil:
		s.refuse("iq", a, "auth", "forbidden")
	default:
		items := ""
		for _, o := range c.seats {
			if o.role == a.Query.Items[0].Role {
				items += fmt.Sprintf("<item affiliation='%s' role='%s' jid='%s' nick='%s'/>", c.affiliation(o.full), o.role, o.full, o.nick)
			}
		}
		s.result(a, items)
	}
	return true
}

// form is the room's configuration as its owners get it; booleans as Prosody's util.dataforms writes them, or as ejabberd does.
func (c *chat) form(ejabberd bool) string {
	fields := ""
	add := func(name, typ, value string) {
		fields += fmt.Sprintf("<field var='%s' type='%s'><value>%s</value></field>", name, typ, html.EscapeString(value))
	}
	yes := map[bool]string{true: "1", false: "0"}
	add("FORM_TYPE", "hidden", "http://jabber.org/protocol/muc#roomconfig")
	add(fieldMembersOnly, "boolean", yes[c.membersOnly])
	add("muc#roomconfig_whois", "list-single", "anyone")
	add(fieldPassword, "text-private", c.password)
	if ejabberd {
		add(fieldPersistent, "boolean", yes[c.persistent])
		add(noUserInvites.name, "boolean", yes[c.invites])
		return "<x xmlns='jabber:x:data' type='form'>" + fields + "</x>"
	}
	add(noInvites.name, "boolean", yes[c.invites])
	if fields += "<field var='" + fieldPersistent + "' type='boolean'/>"; c.persistent { // an empty one means no
		fields = strings.TrimSuffix(fields, "/>") + "><value>1</value></field>"
	}
	if c.main != nil {
		add("muc#roominfo_isbreakout", "boolean", "1")
		add("muc#roominfo_breakout_main_room", "text-single", c.main.address)
	}
	return "<x xmlns='jabber:x:data' type='form'>" + fields + "</x>"
}

func (s *service) say(format string, args ...any) {
	if s.tells(); !s.cut {
		s.down = append(s.down, fmt.Sprintf(format, args...))
	}
}

func (s *service) result(a arrived, items string) {
	s.say("<iq id='%s' type='result' from='%s' to='%s'><query>%s</query></iq>", a.ID, a.To, a.From, items)
}

func (s *service) refuse(kind string, a arrived, typ, condition string) {
	s.say("<%s id='%s' type='error' from='%s' to='%s'><error type='%s'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></%s>",
		kind, a.ID, a.To, a.From, typ, condition, kind)
}

// enter is usher's way in.
func (s *service) enter(c *chat, address, nick, password string) {
	created := c == nil
	if created {
		c = &chat{address: address, membersOnly: !s.opens, locked: s.locks && !s.ejabberd, made: time.Now(), affiliations: map[string]string{us: "owner"}, given: map[string]time.Time{}}
		s.chats[address] = c
	}
	our := c.by(ourself)
	if our == nil && c.password != "" && c.password != password { // password.lib.lua
		s.refuse("presence", arrived{From: ourself, To: address + "/" + nick}, "auth", "not-authorized")
		return
	}
	if o := c.named(nick); o != nil && o != our {
		s.refuse("presence", arrived{From: ourself, To: address + "/" + nick}, "cancel", "conflict")
		return
	}
	if our == nil {
		our = &seat{nick: nick, full: ourself, role: "moderator"}
		c.seats = append(c.seats, our)
	} else if our.nick != nick {
		s.presence(c, our, true, nick, "303")
		our.nick = nick
	}
	for _, o := range c.seats {
		if o != our {
			s.presence(c, o, false, "")
		}
	}
	if created {
		s.presence(c, our, false, "", "201")
	} else {
		s.presence(c, our, false, "")
	}
}

// second is what a room does with usher's second resource, which leaves as soon as it has entered. It shares a nick with the first
// (muc.lib.lua, handle_normal_presence). If the room has just ended, it makes one that ends at once.
func (s *service) second(c *chat, a arrived, nick string) {
	var our, taken *seat
	if a.Type == "" {
		s.tries++
	}
	if c != nil {
		our, taken = c.by(ourself), c.named(nick)
	}
	switch {
	case s.ejabberd:
		panic("two resources of usher's in a room of ejabberd")
	case s.rates: // the presence waits, and the leave does not (Jitsi's mod_muc_rate_limit.lua)
		if a.Type == "" {
			s.waiting = append(s.waiting, a)
		}
	case a.Type == "" && c != nil && c.locked:
		s.refuse("presence", a, "cancel", "item-not-found")
	case taken != nil && taken != our:
		if a.Type == "" {
			s.refuse("presence", a, "cancel", "conflict")
		}
	default:
		s.say("<presence from='%s' to='%s' type='%s'><x xmlns='%s'><item affiliation='owner' role='moderator'/><status code='110'/></x></presence>", a.To, secondly, a.Type, NSUser)
		if our != nil {
			s.presence(c, our, false, "")
		}
	}
}

// presence tells usher how somebody is there, or that they are gone, if usher is inside or is that somebody.
func (s *service) presence(c *chat, o *seat, gone bool, newNick string, codes ...string) {
	if o.full != ourself && c.by(ourself) == nil {
		return
	}
	typ, nick, status, role, actor := "", "", "", o.role, ""
	if gone {
		typ = " type='unavailable'"
	}
	if gone && newNick == "" {
		role = "none"
	}
	if newNick != "" {
		nick = fmt.Sprintf(" nick='%s'", newNick)
	}
	if o.full == ourself {
		codes = append(codes, "110")
	}
	if s.actor != nil && gone {
		actor = fmt.Sprintf("<actor jid='%s' nick='%s'/>", s.actor.full, s.actor.nick)
	}
	for _, code := range codes {
		status += fmt.Sprintf("<status code='%s'/>", code)
	}
	s.say("<presence from='%s/%s' to='%s'%s><x xmlns='%s'><item affiliation='%s' role='%s' jid='%s'%s>%s</item>%s</x></presence>",
		c.address, o.nick, ourself, typ, NSUser, c.affiliation(o.full), role, o.full, nick, actor, status)
}

func (c *chat) affiliation(full string) string {
	switch a := c.affiliations[bareOf(full)]; {
	case c.main != nil:
		return c.main.affiliation(full)
	case bareOf(full) == us, c.admins[bareOf(full)]:
		return "owner"
	case a == "":
		_, domain, _ := strings.Cut(bareOf(full), "@")
		if c.affiliations[domain] == "outcast" {
			return "outcast"
		}
		return "none"
	default:
		return a
	}
}

func (c *chat) role(affiliation string) string {
	switch {
	case affiliation == "owner" || affiliation == "admin":
		return "moderator"
	case affiliation == "outcast" || affiliation == "none" && (c.membersOnly || c.module):
		return "none"
	default:
		return "participant"
	}
}

func (c *chat) by(full string) *seat { return c.find(func(o *seat) bool { return o.full == full }) }

func (c *chat) named(nick string) *seat { return c.find(func(o *seat) bool { return o.nick == nick }) }

// inside returns somebody's oldest seat.
func (c *chat) inside(bare string) *seat {
	return c.find(func(o *seat) bool { return bareOf(o.full) == bare })
}

func (c *chat) find(is func(*seat) bool) *seat {
	if i := slices.IndexFunc(c.seats, is); i >= 0 {
		return c.seats[i]
	}
	return nil
}

// others is how many people are inside.
func (c *chat) others() int {
	n := len(c.seats)
	if c.by(ourself) != nil {
		n--
	}
	return n
}

func (c *chat) hostPresent(hosts func(domain string) bool) bool {
	return c.find(func(o *seat) bool {
		_, domain, _ := strings.Cut(bareOf(o.full), "@")
		return o.full != ourself && o.role == "moderator" && hosts(domain)
	}) != nil
}

// remove takes somebody out; the codes say why. An empty room is destroyed.
func (s *service) remove(c *chat, o *seat, codes ...string) {
	c.seats = slices.DeleteFunc(c.seats, func(x *seat) bool { return x == o })
	s.out[o.full] = codes
	s.presence(c, o, true, "", codes...)
	if c.inside(bareOf(o.full)) == nil {
		s.observer(c, bareOf(o.full), "left")
	}
	if len(c.seats) == 0 && !c.persistent {
		s.end(c)
	}
}

func (s *service) end(c *chat) {
	delete(s.chats, c.address)
	s.observer(c, "", "ended")
}

var ranks = []string{"outcast", "none", "member", "admin", "owner"}

// affiliate sets an affiliation (set_affiliation in muc.lib.lua). ours says whether usher sets it, or an owner inside.
func (s *service) affiliate(c *chat, bare, affiliation string, ours bool) {
	was := c.affiliation(bare)
	if c.main != nil { // by its own list
		was = cmp.Or(c.affiliations[bare], "none")
	}
	down := slices.Index(ranks, affiliation) < slices.Index(ranks, was)
	delete(c.affiliations, bare)
	delete(c.given, bare)
	if affiliation != "none" {
		c.affiliations[bare] = affiliation
	}
	if ours {
		s.observer(c, bare, "given "+affiliation)
	} else {
		s.observer(c, bare, "set "+affiliation)
	}
	if ours && affiliation != "none" && affiliation != "outcast" {
		c.given[bare] = time.Now()
	}
	if !strings.Contains(bare, "@") && affiliation == "outcast" { // a domain: everybody from there goes, also members
		for _, o := range slices.Clone(c.seats) {
			if strings.HasSuffix(bareOf(o.full), "@"+bare) {
				s.remove(c, o, "301")
			}
		}
	}
	if c.inside(bare) == nil {
		if c.by(ourself) != nil && !s.quiet {
			s.say("<message from='%s' to='%s'><x xmlns='%s'><item affiliation='%s' jid='%s'/></x></message>", c.address, ourself, NSUser, affiliation, bare)
		}
		return
	}
	role := c.role(affiliation)
	for _, o := range slices.Clone(c.seats) {
		switch {
		case bareOf(o.full) != bare:
		case role == "none" && affiliation == "outcast":
			s.remove(c, o, "301")
		case role == "none" && down:
			s.remove(c, o, "321")
		case role == "none": // the room tells of a change that is none
			s.presence(c, o, false, "", "321")
		default:
			if down || o.role != "moderator" {
				o.role = role
			}
			s.presence(c, o, false, "")
		}
	}
}

// persist makes a room persistent, or temporary (persistent.lib.lua): an empty one then goes on until the next last occupant
// leaves.
func (s *service) persist(c *chat, persistent bool) {
	if c.persistent == persistent {
		return
	}
	c.persistent = persistent
	s.configured(c)
}

// configured tells usher of a change.
func (s *service) configured(c *chat) {
	if c.by(ourself) != nil {
		s.say("<message from='%s' to='%s' type='groupchat'><x xmlns='%s'><status code='104'/></x></message>", c.address, ourself, NSUser)
	}
}

// configure switches members-only on or off, with what follows (members_only.lib.lua).
func (s *service) configure(c *chat, membersOnly bool) {
	if c.membersOnly == membersOnly {
		return
	}
	c.membersOnly = membersOnly
	for _, o := range slices.Clone(c.seats) {
		if membersOnly && c.affiliation(o.full) == "none" {
			s.ghosts++
			s.remove(c, o, "322")
		}
	}
	s.configured(c)
}

// join is anybody else's way in; it reports whether they got in.
func (s *service) join(c *chat, full, nick string) bool {
	role := c.role(c.affiliation(full))
	if role == "none" || c.locked || c.named(nick) != nil || c.by(full) != nil {
		return false
	}
	s.arrivals++
	o := &seat{nick: nick, full: full, role: role, since: time.Now(), number: s.arrivals}
	if first := c.inside(bareOf(full)); first != nil {
		o.since = first.since // a visit may have several sessions
	}
	if c.by(ourself) == nil {
		o.since = time.Time{}
	}
	c.seats = append(c.seats, o)
	s.presence(c, o, false, "")
	return true
}

// rename gives an occupant a new nick if that is free.
func (s *service) rename(c *chat, o *seat, nick string) {
	if c.named(nick) != nil {
		return
	}
	s.presence(c, o, true, nick, "303")
	o.nick = nick
	s.presence(c, o, false, "")
}

// destroy ends a room for everybody.
func (s *service) destroy(c *chat) {
	seats := c.seats
	c.seats = nil
	for _, o := range seats {
		switch {
		case o.full != ourself:
		case s.ejabberd:
			s.say("<presence from='%s/%s' to='%s' type='unavailable'><x xmlns='%s'><item affiliation='none' role='none'/><destroy/></x></presence>", c.address, o.nick, ourself, NSUser)
		default:
			s.presence(c, o, true, "")
		}
	}
	s.end(c)
}

func (s *service) hostPresent(j jid.JID) bool {
	host, _ := s.rooms.HostPresent(context.Background(), j) // this asks nobody
	return host
}
