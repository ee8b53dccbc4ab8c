package prosodytest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// JicofoOptions say who a Jicofo is, and how it is configured.
type JicofoOptions struct {
	Host, User, Password string // its account; User is its nick in rooms, too (ChatRoomImpl.join)
	Resource             string // empty means User, as with Jicofo

	Proxy    string // jicofo.xmpp.client.client-proxy: the domain that may ask for others; empty is none
	Service  string // jicofo.xmpp.client.conference-muc-jid: where health checks make rooms
	Breakout string // the service of breakout rooms, which need no authentication; empty is none

	// AcceptSubscriptions lets everybody who asks see its presence. Otherwise it refuses, as Smack does unless it is told
	// otherwise, and who is to see it needs to be in its roster (JitsiOptions.NotSubscribed).
	AcceptSubscriptions bool

	InitialTimeout time.Duration // how long it waits for the first occupant of a room; zero means 15 s
	JoinTimeout    time.Duration // how long it waits for an answer of the MUC service; zero means 15 s

	// AutoOwner is jicofo.conference.enable-auto-owner: the first occupant becomes owner if there is no owner inside; when
	// that owner leaves, the next. Jicofo's own default is true, here it is false.
	AutoOwner bool

	// TrustedDomain is jicofo.authentication.login-url. With it, authentication is on: users of this domain get a session,
	// only a full JID with a session can open a room, and everybody inside with a session becomes owner.
	TrustedDomain string
}

// JicofoBehavior is how a Jicofo answers conference requests. The zero value is a Jicofo in good health.
type JicofoBehavior struct {
	Rooms func(room string) bool // where it behaves so; nil means everywhere

	Until  <-chan struct{} // does nothing with a request before this is closed
	Delay  time.Duration   // does nothing with a request for this long
	Silent bool            // does nothing with a request
	Mute   bool            // enters the room, but answers nothing
	Copies int             // gives the answer this many times more

	// Forger, if not nil, answers every request before Jicofo does: with the right id, from its own JID, and ready=true.
	Forger *Client

	Error    string // answers with this error condition, such as "service-unavailable", and enters no room
	NotReady bool   // enters the room, and answers ready=false
	NotLive  bool   // answers ready=false with the property live=false, and enters no room
	VNode    string // answers with this vnode, as for a visitor
}

// JicofoRequest is a request that a Jicofo has seen: an IQ of type get or set.
type JicofoRequest struct {
	Name, NS string // of the payload; "conference" and "http://jitsi.org/protocol/focus" of a conference request
	From     string // of the stanza
	User     string // who asks: the resource of From if that is of the proxy, otherwise From

	// Of a conference request, empty where there is none.
	Room, Token, SessionID, MachineUID string // Room is as it was said
	Properties                         map[string]string

	Stanza Stanza // all of it
}

// Jicofo behaves towards the server and those who ask it as Jicofo does (reference: jicofo 7ebb13d). It has no media
// bridge and calls nobody: it creates rooms, enters them as their focus, and leaves them when nobody is there.
//
// Who asks first for a room is answered when Jicofo is in it, and never if it cannot enter: there Jicofo throws an
// exception. Who asks while it is entering is told ready=false. It knows a room by the address that it was asked for, and
// recognises what comes from that address only.
//
// It has goroutines, which [Server.DialJicofo] and [Jicofo.Restart] start; Close and Kill end them. Any goroutine may use
// its methods.
type Jicofo struct {
	server *Server
	o      JicofoOptions

	mu       sync.Mutex
	behavior JicofoBehavior
	requests []JicofoRequest
	thrown   []error
	changed  chan struct{} // closed, and made anew, at a new request, and when a room was entered, or not, or left
	run      *jicofoRun    // the current connection, or the last one
}

// Jicofo connects a Jicofo for the time of the test, as [Server.DialJicofo] does.
func (s *Server) Jicofo(t TB, o JicofoOptions) *Jicofo {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	j, err := s.DialJicofo(ctx, o)
	if err != nil {
		t.Fatalf("prosodytest: %v", err)
	}
	t.Cleanup(j.Close)
	return j
}

// DialJicofo connects a Jicofo, which is available and answers when this returns. The context bounds this only. The caller
// closes it.
func (s *Server) DialJicofo(ctx context.Context, o JicofoOptions) (*Jicofo, error) {
	o.Resource = cmp.Or(o.Resource, o.User)
	o.InitialTimeout = cmp.Or(o.InitialTimeout, 15*time.Second)
	o.JoinTimeout = cmp.Or(o.JoinTimeout, 15*time.Second)
	j := &Jicofo{server: s, o: o, changed: make(chan struct{})}
	if err := j.connect(ctx, o.Resource); err != nil {
		return nil, fmt.Errorf("connecting Jicofo: %w", err)
	}
	return j, nil
}

func (j *Jicofo) connect(ctx context.Context, resource string) error {
	c, err := j.server.Dial(ctx, ClientOptions{
		Host: j.o.Host, User: j.o.User, Password: j.o.Password, Resource: cmp.Or(resource, j.o.Resource), Resumable: true,
	})
	if err != nil {
		return err
	}
	// Who has asked for the roster is told of those who want to see their presence (RFC 6121 §2.2, §3.1.3).
	_, err = c.IQ(ctx, "get", "", "<query xmlns='"+nsRoster+"'/>")
	if err == nil {
		err = c.Send("<presence/>")
	}
	if err == nil {
		err = c.Sync(ctx)
	}
	if err != nil {
		c.Kill()
		return err
	}
	life, end := context.WithCancel(context.Background())
	r := &jicofoRun{
		Jicofo: j, client: c, end: end,
		rooms: map[string]*jicofoRoom{}, leaving: map[string]bool{}, sessions: map[string]*jicofoSession{},
		services: map[string]bool{},
	}
	j.mu.Lock()
	j.run = r
	j.mu.Unlock()
	r.goroutines.Go(func() { r.read(life) })
	return nil
}

// JID is the full JID of the current connection, or of the last one.
func (j *Jicofo) JID() string { return j.current().client.JID() }

// BareJID is the focusjid in its answers.
func (j *Jicofo) BareJID() string { return j.current().client.BareJID() }

// Done is closed when the current connection has ended.
func (j *Jicofo) Done() <-chan struct{} { return j.current().client.Done() }

func (j *Jicofo) current() *jicofoRun {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.run
}

// Behave says how to answer from the next request on.
func (j *Jicofo) Behave(b JicofoBehavior) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.behavior = b
}

// Requests are all requests seen so far, through all restarts, in the order in which they came. They are to be read only.
func (j *Jicofo) Requests() []JicofoRequest {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.requests) // which only grows
}

// Exceptions are why rooms could not be entered, through all restarts, in the order in which it gave up. Who asked for them
// is not answered.
func (j *Jicofo) Exceptions() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.thrown)
}

// Rooms are the rooms that it is in, sorted. A room that it leaves is one of them until the server says that it has left.
func (j *Jicofo) Rooms() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.roomsLocked()
}

// roomsLocked is Rooms for who holds j.mu.
func (j *Jicofo) roomsLocked() []string {
	rooms := maps.Clone(j.run.leaving)
	for jid, room := range j.run.rooms {
		if room.inside {
			rooms[jid] = true
		}
	}
	return slices.Sorted(maps.Keys(rooms))
}

// Await waits until what it has seen and where it is are as wanted. It asks again after each change.
func (j *Jicofo) Await(ctx context.Context, wanted func(requests []JicofoRequest, rooms []string) bool) error {
	for {
		j.mu.Lock()
		requests, rooms, changed := slices.Clip(j.requests), j.roomsLocked(), j.changed
		j.mu.Unlock()
		if wanted(requests, rooms) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for Jicofo, which has seen %d requests and is in %v: %w", len(requests), rooms, ctx.Err())
		}
	}
}

// change tells who awaits. The caller holds j.mu.
func (j *Jicofo) change() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// StopWaiting ends the InitialTimeout of all rooms in which nobody is.
func (j *Jicofo) StopWaiting() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, room := range slices.Collect(maps.Values(j.run.rooms)) {
		if room.timer != nil {
			j.run.occupied(room)
			j.run.nobodyCame(room)
		}
	}
}

// HealthCheck does what Jicofo's own does (JicofoHealthChecker): it opens a room with a name that begins with
// __jicofo-health-check-, and leaves it again. The error says what went wrong in between.
func (j *Jicofo) HealthCheck(ctx context.Context) error {
	r := j.current()
	room, _ := r.enter("__jicofo-health-check-" + strings.ToLower(rand.Text()) + "@" + j.o.Service)
	select {
	case <-room.entered:
	case <-ctx.Done():
	}
	j.mu.Lock()
	err := errors.Join(ctx.Err(), room.err)
	r.depart(room)
	j.mu.Unlock()
	return errors.Join(err, j.Await(ctx, func(_ []JicofoRequest, rooms []string) bool { return !slices.Contains(rooms, room.jid) }))
}

// Close leaves in good order: Jicofo is unavailable to everybody and in every room. It returns when all has ended.
func (j *Jicofo) Close() { j.stop(func(c *Client) { _ = c.Close() }) }

// Kill drops the connection. It returns when all has ended here. On a server with stream management Jicofo is online for a
// while yet (JitsiOptions.Hibernation), and nobody answers what is sent to it.
func (j *Jicofo) Kill() { j.stop((*Client).Kill) }

// Restart connects again, as a new process does that knows nothing of what was. Empty means the resource of the options. The
// server may keep the resource of a killed one for a while, and a resource in use is taken away from its holder. If it
// still runs it is closed first.
func (j *Jicofo) Restart(ctx context.Context, resource string) error {
	j.Close()
	return j.connect(ctx, resource)
}

func (j *Jicofo) stop(how func(*Client)) {
	r := j.current()
	r.end()
	how(r.client)
	r.over()
	r.goroutines.Wait()
}

// jicofoRun is what a Jicofo has from one start to the next. The maps, and what is in them, are guarded by Jicofo.mu.
type jicofoRun struct {
	*Jicofo
	client     *Client
	end        context.CancelFunc
	goroutines sync.WaitGroup

	ended    bool                      // no room is entered any more
	services map[string]bool           // known to be MUC services (Smack's KNOWN_MUC_SERVICES)
	rooms    map[string]*jicofoRoom    // by JID; also those that it is still entering
	leaving  map[string]bool           // left, but the server has not said so yet; by JID
	sessions map[string]*jicofoSession // by id
}

// jicofoSession is AuthenticationSession: a bearer's identity, bound to the JID that used it last.
type jicofoSession struct{ id, machineUID, identity, jid string }

type jicofoRoom struct {
	jid     string
	main    string        // the main room of a breakout room
	own     chan Stanza   // takes one: the own presence on entering, or an error
	entered chan struct{} // closed when entering has ended, well or not
	present bool          // the own presence has come
	inside  bool          // and all that belongs to entering is done
	err     error
	timer   *time.Timer // until somebody comes; nil otherwise
	shown   []Stanza    // what its presence has in it

	occupants []jicofoOccupant // but for itself, in the order in which they came
	owner     string           // nick of the owner, as AutoOwner sees it
}

type jicofoOccupant struct{ nick, jid, affiliation, role string }

// read is the goroutine that takes what arrives. What takes time has goroutines of its own.
func (r *jicofoRun) read(ctx context.Context) {
	defer r.over()
	for {
		s, err := r.client.Next(ctx)
		if err != nil {
			return
		}
		switch {
		case s.Name == "iq" && (s.Attr["type"] == "get" || s.Attr["type"] == "set"):
			r.request(ctx, s)
		case s.Name == "presence" && s.Attr["type"] == "subscribe":
			answer := "unsubscribed"
			if r.o.AcceptSubscriptions {
				answer = "subscribed"
			}
			r.send(Stanza{Name: "presence", Attr: map[string]string{"type": answer, "to": bare(s.Attr["from"])}})
		case s.Name == "presence":
			r.presence(s)
		}
	}
}

// over is for when the connection has ended, or is about to.
func (r *jicofoRun) over() {
	r.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for jid := range r.rooms {
		r.forget(jid)
	}
	clear(r.leaving)
	r.change()
}

func (r *jicofoRun) send(s Stanza) { _ = r.client.Send(s.String()) } // the reader sees the end of the connection

// request is ConferenceIqHandler.handleIQRequest, and what is around it.
func (r *jicofoRun) request(ctx context.Context, s Stanza) {
	if len(s.Children) == 0 {
		r.send(errorReply(s, "modify", "bad-request", ""))
		return
	}
	payload := s.Children[0]
	switch from := s.Attr["from"]; {
	case payload.NS == nsRoster, payload.NS == nsPing:
		r.send(reply(s))
		return
	case from == "" || from == r.client.BareJID() || from == r.o.Host:
		r.send(errorReply(s, "cancel", "feature-not-implemented", ""))
		return
	}
	req := JicofoRequest{Name: payload.Name, NS: payload.NS, From: s.Attr["from"], User: s.Attr["from"], Stanza: s}
	domain, resource, _ := strings.Cut(req.From, "/")
	if r.o.Proxy != "" && domain == r.o.Proxy {
		req.User = resource
	}
	isConference := payload.Name == "conference" && payload.NS == nsFocus && s.Attr["type"] == "set"
	if isConference {
		a := payload.Attr
		req.Room, req.Token, req.SessionID, req.MachineUID = a["room"], a["token"], a["session-id"], a["machine-uid"]
		req.Properties = map[string]string{}
		for _, c := range payload.Children {
			if c.Name == "property" {
				req.Properties[c.Attr["name"]] = c.Attr["value"]
			}
		}
	}
	r.mu.Lock()
	r.requests = append(r.requests, req)
	r.change()
	b := r.behavior
	r.mu.Unlock()
	if b.Rooms != nil && !b.Rooms(req.Room) {
		b = JicofoBehavior{}
	}

	switch {
	case isConference:
		r.goroutines.Go(func() { r.conference(ctx, req, b) })
	case payload.Name == "logout" && payload.NS == nsFocus && r.o.TrustedDomain != "":
		r.logout(s, payload.Attr["session-id"])
	default:
		r.send(errorReply(s, "cancel", "feature-not-implemented", ""))
	}
}

// conference is ConferenceIqHandler.handleConferenceIq.
func (r *jicofoRun) conference(ctx context.Context, req JicofoRequest, b JicofoBehavior) {
	if !pause(ctx, b.Delay, b.Until) || b.Silent {
		return
	}
	if b.Forger != nil {
		forged := reply(req.Stanza, Stanza{Name: "conference", NS: nsFocus, Attr: map[string]string{
			"room": req.Room, "ready": "true", "focusjid": b.Forger.BareJID(),
		}})
		delete(forged.Attr, "from")
		if b.Forger.from != "" {
			forged.Attr["from"] = b.Forger.from
		}
		_ = b.Forger.Send(forged.String())
	}
	answer := r.decide(ctx, req, b)
	if b.Mute || answer.IsZero() || ctx.Err() != nil {
		return
	}
	for range 1 + b.Copies {
		r.send(answer)
	}
}

// pause waits for both, and says whether they came before the end of the context.
func pause(ctx context.Context, d time.Duration, until <-chan struct{}) bool {
	if until != nil {
		select {
		case <-until:
		case <-ctx.Done():
		}
	}
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// decide returns the answer, or the zero Stanza for none.
func (r *jicofoRun) decide(ctx context.Context, req JicofoRequest, b JicofoBehavior) Stanza {
	switch {
	case b.Error != "":
		return errorReply(req.Stanza, "cancel", b.Error, "")
	case !strings.Contains(req.User, "@"):
		// Of a domain that is not its proxy, and so in nobody's name.
		return errorReply(req.Stanza, "modify", "bad-request", "Nobody asks.")
	case req.Room == "":
		return errorReply(req.Stanza, "modify", "bad-request", "No 'room' specified.")
	}
	node, service, _ := strings.Cut(strings.ToLower(req.Room), "@") // as jxmpp does it
	if node == "" || service == "" || strings.ContainsAny(service, "@/") {
		return errorReply(req.Stanza, "modify", "bad-request", "Not the address of a room.")
	}
	jid := node + "@" + service
	answer := Stanza{Name: "conference", NS: nsFocus, Attr: map[string]string{"room": jid, "focusjid": r.client.BareJID()}}
	property := func(name, value string) {
		answer.Children = append(answer.Children, Stanza{Name: "property", NS: nsFocus, Attr: map[string]string{"name": name, "value": value}})
	}
	if r.o.TrustedDomain != "" && service != r.o.Breakout {
		if refusal := r.authenticate(req, jid, answer.Attr); !refusal.IsZero() {
			return refusal
		}
	}
	ready := false
	if b.NotLive {
		property("live", "false")
	} else {
		room, first := r.enter(jid)
		if first {
			select {
			case <-room.entered:
			case <-ctx.Done():
			}
		}
		r.mu.Lock()
		ready = room.inside && !b.NotReady
		failed := room.err != nil
		r.mu.Unlock()
		if first && failed {
			return Stanza{}
		}
	}
	answer.Attr["ready"] = fmt.Sprint(ready)
	if b.VNode != "" {
		answer.Attr["vnode"] = b.VNode
	}
	property("authentication", fmt.Sprint(r.o.TrustedDomain != ""))
	if r.o.TrustedDomain != "" {
		property("externalAuth", "false")
	}
	property("sipGatewayEnabled", "true")
	property("visitors-supported", "false")
	return reply(req.Stanza, answer)
}

// authenticate is AbstractAuthAuthority.processAuthentication, and the rule after it that only somebody with an identity
// opens a room. It adds to the attributes of the answer.
func (r *jicofoRun) authenticate(req JicofoRequest, jid string, answer map[string]string) (refusal Stanza) {
	r.mu.Lock()
	defer r.mu.Unlock()
	session := r.sessions[req.SessionID]
	_, domain, _ := strings.Cut(bare(req.User), "@")
	switch {
	case req.SessionID != "" && session == nil:
		return sessionInvalid(req.Stanza)
	case session != nil && session.machineUID != req.MachineUID:
		return errorReply(req.Stanza, "modify", "not-acceptable", "machine UID mismatch or empty")
	case session == nil && domain == r.o.TrustedDomain:
		if req.MachineUID == "" {
			return errorReply(req.Stanza, "modify", "not-acceptable", "Missing mandatory attribute 'machine-uid'")
		}
		session = &jicofoSession{id: rand.Text(), machineUID: req.MachineUID, identity: bare(req.User)}
		r.sessions[session.id] = session
	}
	if session != nil {
		session.jid = req.User
		answer["session-id"], answer["identity"] = session.id, session.identity
		for _, room := range r.rooms {
			r.promoteAuthenticated(room)
		}
		return Stanza{}
	}
	hasBreakout := false
	for _, room := range r.rooms {
		hasBreakout = hasBreakout || room.main == jid
	}
	if r.rooms[jid] == nil && !hasBreakout && !r.isAuthenticated(req.User) {
		return errorReply(req.Stanza, "auth", "not-authorized", "not authorized user domain")
	}
	return Stanza{}
}

func (r *jicofoRun) isAuthenticated(jid string) bool {
	for _, s := range r.sessions {
		if s.jid == jid {
			return true
		}
	}
	return false
}

func (r *jicofoRun) logout(s Stanza, id string) {
	r.mu.Lock()
	_, ok := r.sessions[id]
	delete(r.sessions, id)
	r.mu.Unlock()
	if !ok {
		r.send(sessionInvalid(s))
		return
	}
	r.send(reply(s, Stanza{Name: "logout", NS: nsFocus}))
}

func sessionInvalid(s Stanza) Stanza {
	e := errorReply(s, "modify", "not-acceptable", "invalid session")
	e.Children[0].Children = append(e.Children[0].Children, Stanza{Name: "session-invalid", NS: nsFocus})
	return e
}

// enter returns the room at once; it begins to enter it if it has not yet, and then first is true.
func (r *jicofoRun) enter(jid string) (room *jicofoRoom, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room := r.rooms[jid]; room != nil {
		return room, false
	}
	room = &jicofoRoom{jid: jid, own: make(chan Stanza, 1), entered: make(chan struct{})}
	if r.ended {
		room.err = errors.New("not connected")
		close(room.entered)
		return room, true
	}
	r.rooms[jid] = room
	r.goroutines.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), r.o.JoinTimeout)
		defer cancel()
		main, err := r.join(ctx, room)
		r.mu.Lock()
		defer r.mu.Unlock()
		defer r.change()
		defer close(room.entered)
		if r.rooms[jid] != room {
			err = errors.Join(err, errors.New("left while entering"))
		}
		if room.err = err; err != nil {
			r.depart(room)
			r.thrown = append(r.thrown, err)
			return
		}
		room.main, room.inside = main, true
		r.electOwner(room)
		r.promoteAuthenticated(room)
		r.show(room,
			Stanza{Name: "etherpad", NS: "http://jitsi.org/jitmeet/etherpad", Text: strings.ToLower(rand.Text())},
			Stanza{Name: "versions", NS: nsJitmeet, Children: []Stanza{
				{Name: "component", NS: nsJitmeet, Attr: map[string]string{"name": "focus"}, Text: "1.1.0-SNAPSHOT"},
			}},
			Stanza{Name: "conference-properties", NS: nsFocus, Children: []Stanza{
				{Name: "property", NS: nsFocus, Attr: map[string]string{"key": "support-terminate-restart", "value": "true"}},
			}},
		)
		for i := range room.occupants {
			r.invite(room, room.occupants[:i+1])
		}
		if len(room.occupants) == 0 {
			r.await(room)
		}
	})
	return room, true
}

// show adds to its presence in the room (ChatRoomImpl.addPresenceExtensions). The caller holds r.mu.
func (r *jicofoRun) show(room *jicofoRoom, more ...Stanza) {
	room.shown = append(room.shown, more...)
	r.send(Stanza{Name: "presence", Attr: map[string]string{"to": room.jid + "/" + r.o.User}, Children: room.shown})
}

// invite is JitsiMeetConferenceImpl.onMemberJoined for the last of those who are there: it asks what their client can do, and
// does not mind not to be told. When they are two it looks for a bridge, and shows that there is none. The caller holds r.mu.
func (r *jicofoRun) invite(room *jicofoRoom, there []jicofoOccupant) {
	r.send(Stanza{Name: "iq", NS: nsClient, Children: []Stanza{{Name: "query", NS: nsDiscoInfo}}, Attr: map[string]string{
		"type": "get", "id": newID(), "to": room.jid + "/" + there[len(there)-1].nick,
	}})
	noBridge := Stanza{Name: "bridgeNotAvailable", NS: nsFocus}
	if len(there) >= 2 && !slices.ContainsFunc(room.shown, func(s Stanza) bool { return s.Name == noBridge.Name }) {
		r.show(room, noBridge)
	}
}

// join is ChatRoomImpl.joinAs. It returns the main room of a breakout room.
func (r *jicofoRun) join(ctx context.Context, room *jicofoRoom) (main string, err error) {
	if err := r.knows(ctx, room.jid); err != nil {
		return "", err
	}
	r.send(Stanza{Name: "presence", Attr: map[string]string{"to": room.jid + "/" + r.o.User}, Children: []Stanza{{Name: "x", NS: nsMUC}}})
	select {
	case own := <-room.own:
		if own.Attr["type"] == "error" {
			return "", fmt.Errorf("entering %s: %s", room.jid, own.ErrorCondition())
		}
	case <-r.client.Done():
		return "", r.client.Err()
	case <-ctx.Done():
		return "", fmt.Errorf("entering %s: %w", room.jid, ctx.Err())
	}
	form, err := r.client.IQ(ctx, "get", room.jid, "<query xmlns='"+nsMUCOwner+"'/>")
	if err == nil && form.Attr["type"] != "result" {
		err = errors.New(form.ErrorCondition())
	}
	if err != nil {
		return "", fmt.Errorf("fetching the configuration form of %s: %w", room.jid, err)
	}
	if isTrue(formField(form, "muc#roominfo_isbreakout")) {
		main = formField(form, "muc#roominfo_breakout_main_room")
	}
	result, err := r.client.IQ(ctx, "set", room.jid, "<query xmlns='"+nsMUCOwner+"'><x xmlns='"+nsData+"' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='muc#roomconfig_whois'><value>anyone</value></field></x></query>")
	if err == nil && result.Attr["type"] != "result" {
		err = errors.New(result.ErrorCondition())
	}
	if err != nil {
		return "", fmt.Errorf("submitting the configuration form of %s: %w", room.jid, err)
	}
	return main, nil
}

// knows asks the service of a room whether it is one for rooms, once, as Smack's MultiUserChat.enter does.
func (r *jicofoRun) knows(ctx context.Context, room string) error {
	_, service, _ := strings.Cut(room, "@")
	r.mu.Lock()
	known := r.services[service]
	r.mu.Unlock()
	if known {
		return nil
	}
	answer, err := r.client.IQ(ctx, "get", service, "<query xmlns='"+nsDiscoInfo+"'/>")
	if err != nil {
		return fmt.Errorf("asking %s what it is: %w", service, err)
	}
	if !slices.ContainsFunc(answer.Child("query", nsDiscoInfo).Children, func(s Stanza) bool { return s.Attr["var"] == nsMUC }) {
		return fmt.Errorf("%s is no MUC service: %s", service, answer.ErrorCondition())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[service] = true
	return nil
}

// depart leaves a room that it is in, or is entering. The caller holds r.mu.
func (r *jicofoRun) depart(room *jicofoRoom) {
	if r.rooms[room.jid] != room {
		return
	}
	r.send(Stanza{Name: "presence", Attr: map[string]string{"type": "unavailable", "to": room.jid + "/" + r.o.User}})
	if room.present { // otherwise the server has nothing to say
		r.leaving[room.jid] = true
	}
	r.forget(room.jid)
}

// forget is for when it is in a room no more. The caller holds r.mu.
func (r *jicofoRun) forget(jid string) {
	room := r.rooms[jid]
	delete(r.rooms, jid)
	r.occupied(room)
	room.inside = false
	r.change()
	if main := r.rooms[room.main]; main != nil { // JitsiMeetConferenceImpl.breakoutConferenceEnded
		r.maybeStop(main, false)
	}
}

// await leaves the room if nobody comes. The caller holds r.mu.
func (r *jicofoRun) await(room *jicofoRoom) {
	r.occupied(room)
	r.goroutines.Add(1)
	room.timer = time.AfterFunc(r.o.InitialTimeout, func() {
		defer r.goroutines.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.nobodyCame(room)
	})
}

// nobodyCame is for when it has waited long enough. The caller holds r.mu.
func (r *jicofoRun) nobodyCame(room *jicofoRoom) {
	if len(room.occupants) == 0 && !r.hasBreakouts(room) {
		r.depart(room)
	}
}

// occupied ends await. The caller holds r.mu.
func (r *jicofoRun) occupied(room *jicofoRoom) {
	if room.timer != nil && room.timer.Stop() {
		r.goroutines.Done()
	}
	room.timer = nil
}

func (r *jicofoRun) hasBreakouts(main *jicofoRoom) bool {
	for _, room := range r.rooms {
		if room.main == main.jid {
			return true
		}
	}
	return false
}

// maybeStop is JitsiMeetConferenceImpl.maybeStop: the last one has left, or the last breakout room has ended. Somebody who
// goes to a breakout room is waited for. The caller holds r.mu.
func (r *jicofoRun) maybeStop(room *jicofoRoom, switching bool) {
	switch {
	case !room.inside || len(room.occupants) > 0 || r.hasBreakouts(room):
	case switching:
		r.await(room)
	default:
		r.depart(room)
	}
}

// presence takes a presence from a room.
func (r *jicofoRun) presence(s Stanza) {
	r.mu.Lock()
	defer r.mu.Unlock()
	jid, nick, _ := strings.Cut(s.Attr["from"], "/")
	room := r.rooms[jid]
	typ := s.Attr["type"]
	isOwn := nick == r.o.User && s.HasStatus("110")
	switch {
	case isOwn && typ == "unavailable" && r.leaving[jid]: // and room, if any, is one that it has begun to enter since
		delete(r.leaving, jid)
		r.change()
	case room == nil:
	case typ == "error" || isOwn && typ == "":
		room.present = room.present || isOwn
		select {
		case room.own <- s:
		default: // is in the room already
		}
	case isOwn && typ == "unavailable": // removed, or the room is destroyed
		room.err = errors.New("removed from the room")
		r.forget(jid)
	case nick == r.o.User:
	case typ == "":
		r.joined(room, s, nick)
	case typ == "unavailable":
		room.occupants = slices.DeleteFunc(room.occupants, func(o jicofoOccupant) bool { return o.nick == nick })
		if s.HasStatus("303") { // another nick; the presence with it follows
			return
		}
		if nick == room.owner {
			room.owner = ""
			r.electOwner(room)
		}
		r.maybeStop(room, s.Child("status", nsClient).Text == "switch_room")
	}
}

// joined is somebody's presence in the room, the first or a later one. The caller holds r.mu.
func (r *jicofoRun) joined(room *jicofoRoom, s Stanza, nick string) {
	item := s.Child("x", nsMUCUser).Child("item", nsMUCUser)
	o := jicofoOccupant{nick: nick, jid: item.Attr["jid"], affiliation: item.Attr["affiliation"], role: item.Attr["role"]}
	if i := slices.IndexFunc(room.occupants, func(o jicofoOccupant) bool { return o.nick == nick }); i >= 0 {
		room.occupants[i] = o
		return
	}
	room.occupants = append(room.occupants, o)
	r.occupied(room)
	if room.inside {
		r.electOwner(room)
		r.promoteAuthenticated(room)
		r.invite(room, room.occupants)
	}
}

// electOwner is AutoOwnerRoleManager.electNewOwner. The caller holds r.mu.
func (r *jicofoRun) electOwner(room *jicofoRoom) {
	if !r.o.AutoOwner || r.o.TrustedDomain != "" || room.main != "" || room.owner != "" || !room.inside {
		return
	}
	isOwner := func(o jicofoOccupant) bool { return o.affiliation == "owner" }
	if i := slices.IndexFunc(room.occupants, isOwner); i >= 0 {
		room.owner = room.occupants[i].nick
		return
	}
	hasVoice := func(o jicofoOccupant) bool { return o.role != "visitor" }
	if i := slices.IndexFunc(room.occupants, hasVoice); i >= 0 {
		room.owner = room.occupants[i].nick
		r.grantOwner(room, room.occupants[i])
	}
}

// promoteAuthenticated is AuthenticationRoleManager. The caller holds r.mu.
func (r *jicofoRun) promoteAuthenticated(room *jicofoRoom) {
	if !room.inside {
		return
	}
	for _, o := range room.occupants {
		if o.affiliation != "owner" && r.isAuthenticated(o.jid) {
			r.grantOwner(room, o)
		}
	}
}

// grantOwner waits for no answer; Jicofo only logs one that is an error.
func (r *jicofoRun) grantOwner(room *jicofoRoom, o jicofoOccupant) {
	xml, _ := r.client.request("set", room.jid, "<query xmlns='"+nsMUCAdmin+"'><item affiliation='owner' jid='"+escaper.Replace(bare(o.jid))+"'/></query>")
	_ = r.client.Send(xml)
}

// reply is the result of an IQ.
func reply(iq Stanza, payload ...Stanza) Stanza {
	return Stanza{Name: "iq", NS: nsClient, Children: payload, Attr: map[string]string{
		"type": "result", "id": iq.Attr["id"], "to": iq.Attr["from"], "from": iq.Attr["to"],
	}}
}

func errorReply(iq Stanza, typ, condition, text string) Stanza {
	e := Stanza{Name: "error", NS: nsClient, Attr: map[string]string{"type": typ}, Children: []Stanza{{Name: condition, NS: nsStanzas}}}
	if text != "" {
		e.Children = append(e.Children, Stanza{Name: "text", NS: nsStanzas, Text: text})
	}
	r := reply(iq, e)
	r.Attr["type"] = "error"
	return r
}
