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

// JicofoOptions are a Jicofo's account and configuration.
type JicofoOptions struct {
	Host, User, Password string // its account; User is also its nick in rooms (ChatRoomImpl.join)
	Resource             string // empty means User, as in Jicofo

	Proxy    string // jicofo.xmpp.client.client-proxy: the domain that may ask in other users' names; empty means none
	Service  string // jicofo.xmpp.client.conference-muc-jid: the MUC service for the rooms of health checks
	Breakout string // the MUC service of breakout rooms, which need no authentication; empty means none

	// AcceptSubscriptions makes it accept every request to see its presence. If false it refuses, as Smack does by default,
	// and only those in its roster see its presence (JitsiOptions.NotSubscribed).
	AcceptSubscriptions bool

	InitialTimeout time.Duration // how long it waits for the first occupant of a room; zero means 15 s
	JoinTimeout    time.Duration // how long it waits for the MUC service to answer; zero means 15 s

	// AutoOwner is jicofo.conference.enable-auto-owner: if no owner is inside, the first occupant becomes owner; when that
	// owner leaves, the next one does. Jicofo's own default is true; here it is false.
	AutoOwner bool

	// TrustedDomain is jicofo.authentication.login-url. If not empty, authentication is on: users of this domain get a
	// session, only a full JID with a session can open a room, and every occupant with a session becomes owner.
	TrustedDomain string
}

// JicofoBehavior is how a Jicofo answers conference requests. The zero value is a healthy Jicofo.
type JicofoBehavior struct {
	Rooms func(room string) bool // the rooms where it behaves so; nil means all

	Until  <-chan struct{} // it leaves a request alone until this is closed
	Delay  time.Duration   // it leaves a request alone for this long
	Silent bool            // it ignores requests
	Mute   bool            // it enters the room, but does not answer
	Copies int             // it repeats the answer this many times

	// Forger, if not nil, answers every request before Jicofo does: with the right id, from its own JID, and ready=true.
	Forger *Client

	Error    string // it answers with this error condition, such as "service-unavailable", and enters no room
	NotReady bool   // it enters the room, and answers ready=false
	NotLive  bool   // it answers ready=false with the property live=false, and enters no room
	VNode    string // it answers with this vnode, as for a visitor
}

// JicofoRequest is a request that a Jicofo has received: an IQ of type get or set.
type JicofoRequest struct {
	Name, NS string // of the payload; a conference request has "conference" and "http://jitsi.org/protocol/focus"
	From     string // of the stanza
	User     string // the asking user: the resource of From if From is of the proxy, otherwise From

	// The attributes of a conference request, empty where it has none. Room is spelled as in the request.
	Room, Token, SessionID, MachineUID string
	Properties                         map[string]string

	Stanza Stanza // the whole request
}

// Jicofo behaves towards the server and its clients as Jicofo does. It was compared with jicofo 7ebb13d of August 2026;
// README.md lists the differences. It has no media bridge and calls nobody: it creates rooms, enters them as their focus,
// and leaves them when they are empty.
//
// The first request for a room is answered once Jicofo is inside. If it cannot enter, that request is never answered:
// Jicofo throws an exception there. Requests that come while it is entering are answered with ready=false. It knows a room
// by the address in the request, and recognises only stanzas from that address.
//
// [Server.DialJicofo] and [Jicofo.Restart] start goroutines; Close and Kill end them. Any goroutine may use the methods.
type Jicofo struct {
	server *Server
	o      JicofoOptions

	mu       sync.Mutex
	behavior JicofoBehavior
	requests []JicofoRequest
	thrown   []error
	changed  chan struct{} // closed and replaced at each new request, and when entering a room succeeds, fails, or a room is left
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

// DialJicofo connects a Jicofo. When DialJicofo returns, the Jicofo is available and answers. The context bounds
// connecting only. The caller closes the Jicofo.
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
		untapped: true,
	})
	if err != nil {
		return err
	}
	// The server passes subscription requests only to a client that has asked for its roster (RFC 6121 §2.2, §3.1.3).
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

// BareJID is the bare JID, and the focusjid in its answers.
func (j *Jicofo) BareJID() string { return j.current().client.BareJID() }

// Done is closed when the current connection has ended.
func (j *Jicofo) Done() <-chan struct{} { return j.current().client.Done() }

func (j *Jicofo) current() *jicofoRun {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.run
}

// Behave sets how it answers from the next request on.
func (j *Jicofo) Behave(b JicofoBehavior) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.behavior = b
}

// Requests are all requests received so far, over all restarts, oldest first. The caller must not change them.
func (j *Jicofo) Requests() []JicofoRequest {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.requests) // j.requests only grows
}

// Exceptions are the reasons why it could not enter rooms, over all restarts, oldest first. The requests that asked for
// these rooms are not answered.
func (j *Jicofo) Exceptions() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clip(j.thrown)
}

// Rooms are the rooms that it is in, sorted. A room counts until the server confirms that Jicofo has left.
func (j *Jicofo) Rooms() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.roomsLocked()
}

// roomsLocked is Rooms for callers that hold j.mu.
func (j *Jicofo) roomsLocked() []string {
	rooms := maps.Clone(j.run.leaving)
	for jid, room := range j.run.rooms {
		if room.inside {
			rooms[jid] = true
		}
	}
	return slices.Sorted(maps.Keys(rooms))
}

// Await waits until wanted returns true for the requests received and the rooms entered. It calls wanted after each change.
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
			return fmt.Errorf("waiting for Jicofo, which has received %d requests and is in %v: %w", len(requests), rooms, ctx.Err())
		}
	}
}

// change wakes the callers of Await. The caller holds j.mu.
func (j *Jicofo) change() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// StopWaiting ends the InitialTimeout of all empty rooms now.
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

// HealthCheck does what JicofoHealthChecker does: it opens a room with a name that begins with __jicofo-health-check-, and
// leaves it again. The error says why it could not enter or leave.
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

// Close leaves every room, sends unavailable presence and disconnects. It returns when all goroutines have ended.
func (j *Jicofo) Close() { j.stop(func(c *Client) { _ = c.Close() }) }

// Kill drops the connection, and returns when all goroutines have ended. On a server with stream management Jicofo stays
// online for a while (JitsiOptions.Hibernation), and stanzas to it are not answered.
func (j *Jicofo) Kill() { j.stop((*Client).Kill) }

// Restart connects again, as a new process without memory of its rooms and sessions. If Jicofo still runs, Restart closes it
// first. An empty resource means that of the options. The server may keep the resource of a killed Jicofo for a while; a
// new connection with the same resource takes it over.
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

// jicofoRun is one run of a Jicofo, from a start to its end. Jicofo.mu guards the maps and their values.
type jicofoRun struct {
	*Jicofo
	client     *Client
	end        context.CancelFunc
	goroutines sync.WaitGroup

	ended    bool                      // it enters no more rooms
	services map[string]bool           // known MUC services (Smack's KNOWN_MUC_SERVICES)
	rooms    map[string]*jicofoRoom    // by JID, including those that it is entering
	leaving  map[string]bool           // by JID: left, but not yet confirmed by the server
	sessions map[string]*jicofoSession // by id
}

// jicofoSession is AuthenticationSession: an identity, bound to the JID that used the session last.
type jicofoSession struct{ id, machineUID, identity, jid string }

// read is the goroutine that takes incoming stanzas. It starts other goroutines for work that takes time.
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

// over forgets all rooms, when the connection has ended or is about to.
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

func (r *jicofoRun) send(s Stanza) { _ = r.client.Send(s.String()) } // the reader notices when the connection has ended
