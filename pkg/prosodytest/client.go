package prosodytest

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Transport is how a client talks to the server.
type Transport int

const (
	TCP       Transport = iota // RFC 6120, without TLS
	WebSocket                  // RFC 7395
)

// ClientOptions say who connects, and how.
type ClientOptions struct {
	Host      string // virtual host
	User      string // localpart; empty for SASL ANONYMOUS (RFC 4505)
	Password  string // for SASL PLAIN (RFC 4616)
	Resource  string // asked for; empty leaves it to the server
	Transport Transport

	// Token, Room and Prefix are said in the address of the connection, as Jitsi's client says them: the JSON Web Token, the
	// name of the room, and its tenant. Jitsi's modules look for them there. They take WebSocket.
	Token, Room, Prefix string

	// Resumable enables stream management with resumption (XEP-0198 §3), if the server has it. See [Client.Resume].
	Resumable bool

	// Timeout is how long Receives and ReceivesNot wait, and how long a write may take. Zero means a minute.
	Timeout time.Duration
}

const (
	defaultTimeout = time.Minute // a machine may have much else to do
	closeTimeout   = 2 * time.Second
)

// Client is one connection, of a user or of a component. It shows what the server sends and answers nothing by itself.
//
// What arrives waits in a queue, in order. Receives, Await and Join take the first waiting stanza that fits and leave the
// others where they are, so a test says what must arrive and not in which order things of different origin do. Next takes
// the oldest, Drain all.
//
// A Client has one goroutine, which Dial and Resume start and Close or Kill ends. Its methods may be called from any goroutine,
// except those that fail the test (Sends, Receives, ReceivesNot): they are for the test's own, and for clients that
// [Server.Client] or [Server.Component] made.
type Client struct {
	t       TB // nil outside of a test
	jid     string
	from    string // attribute for stanzas we make: components must say it, clients need not
	timeout time.Duration
	server  *Server // to resume on; nil for components
	options ClientOptions

	sending sync.Mutex // held while something is sent, so that it is counted in the order in which it is sent

	mu      sync.Mutex
	stream  stream
	done    chan struct{} // closed when the reader of stream has ended
	queue   []Stanza
	waiters []*waiter // in the order in which they are served
	err     error     // why the reader ended
	managed *managed  // nil without stream management
}

// managed is what a client keeps for stream management (XEP-0198 §4).
type managed struct {
	id      string   // of the session; empty if it cannot be resumed
	handled uint32   // stanzas taken
	acked   uint32   // of the stanzas sent, how many the server has said to have taken
	unacked []string // the others, in order
}

type waiter struct {
	match func(Stanza) bool
	found chan Stanza // takes one; closed when the reader ends
}

// Client connects for the time of the test, as [Server.Dial] does.
func (s *Server) Client(t TB, o ClientOptions) *Client {
	t.Helper()
	return testClient(t, func(ctx context.Context) (*Client, error) { return s.Dial(ctx, o) })
}

// Component connects as the component domain for the time of the test, as [Server.DialComponent] does.
func (s *Server) Component(t TB, domain, secret string) *Client {
	t.Helper()
	return testClient(t, func(ctx context.Context) (*Client, error) { return s.DialComponent(ctx, domain, secret) })
}

func testClient(t TB, dial func(context.Context) (*Client, error)) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	c, err := dial(ctx)
	if err != nil {
		t.Fatalf("prosodytest: %v", err)
	}
	c.t = t
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Dial connects, logs in and binds a resource. It sends no presence. The context bounds these steps only.
func (s *Server) Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	st, err := s.dialStream(ctx, o, "")
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", o.Host, err)
	}
	c := &Client{timeout: o.Timeout, server: s, options: o}
	err = c.begin(ctx, st, func() error {
		features, err := authenticate(st, o)
		if err == nil {
			c.jid, err = bind(st, o.Resource)
		}
		if err == nil && o.Resumable && !features.Child("sm", nsSM).IsZero() {
			c.managed, err = manage(st)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dialStream connects. previd is the session to be resumed, if any: Jitsi's providers of authentication look for it in the
// address, since with another random user name there is nothing to resume.
func (s *Server) dialStream(ctx context.Context, o ClientOptions, previd string) (stream, error) {
	query := url.Values{}
	for name, value := range map[string]string{"token": o.Token, "room": o.Room, "prefix": o.Prefix, "previd": previd} {
		if value != "" {
			query.Set(name, value)
		}
	}
	switch {
	case o.Transport == WebSocket:
		return dialWebSocket(ctx, s.WebSocketURL+"?"+query.Encode(), o.Host, o.Timeout)
	case o.Token != "" || o.Room != "" || o.Prefix != "":
		return nil, errors.New("a token, a room and a prefix take WebSocket")
	}
	return dialTCP(ctx, s.C2SAddr, nsClient, o.Host, o.Timeout)
}

// DialComponent connects as a component (XEP-0114). The component must put a from of its own domain on what it sends.
func (s *Server) DialComponent(ctx context.Context, domain, secret string) (*Client, error) {
	st, err := dialTCP(ctx, s.ComponentAddr, nsComponent, domain, defaultTimeout)
	if err != nil {
		return nil, fmt.Errorf("connecting as %s: %w", domain, err)
	}
	c := &Client{jid: domain, from: domain, timeout: defaultTimeout}
	if err := c.begin(ctx, st, func() error { return handshake(st, secret) }); err != nil {
		return nil, err
	}
	return c, nil
}

// begin runs a login that the context can interrupt, and starts the reader.
func (c *Client) begin(ctx context.Context, st stream, login func() error) error {
	stop := context.AfterFunc(ctx, st.drop)
	err := login()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		st.drop()
		return fmt.Errorf("logging in: %w", errors.Join(ctx.Err(), err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream, c.done, c.err = st, make(chan struct{}), nil
	go c.read(st, c.done)
	return nil
}

// authenticate logs in (RFC 6120 §6) and begins the stream that comes after it, and returns its features.
func authenticate(st stream, o ClientOptions) (features Stanza, err error) {
	if _, err := st.open(); err != nil {
		return Stanza{}, err
	}
	if _, err := expect(st, "features", nsStreams); err != nil {
		return Stanza{}, err
	}
	auth := "mechanism='ANONYMOUS'/>"
	if o.User != "" {
		auth = "mechanism='PLAIN'>" + base64.StdEncoding.EncodeToString([]byte("\x00"+o.User+"\x00"+o.Password)) + "</auth>"
	}
	if err := st.send("<auth xmlns='" + nsSASL + "' " + auth); err != nil {
		return Stanza{}, err
	}
	if _, err := expect(st, "success", nsSASL); err != nil {
		return Stanza{}, err
	}
	if _, err := st.open(); err != nil {
		return Stanza{}, err
	}
	return expect(st, "features", nsStreams)
}

// bind binds a resource (RFC 6120 §7) and returns the full JID.
func bind(st stream, resource string) (string, error) {
	bind := "<bind xmlns='" + nsBind + "'/>"
	if resource != "" {
		bind = "<bind xmlns='" + nsBind + "'><resource>" + escaper.Replace(resource) + "</resource></bind>"
	}
	if err := st.send("<iq type='set' id='bind'>" + bind + "</iq>"); err != nil {
		return "", err
	}
	result, err := expect(st, "iq", nsClient)
	if err != nil {
		return "", err
	}
	jid := result.Child("bind", nsBind).Child("jid", nsBind).Text
	if jid == "" {
		return "", fmt.Errorf("no resource bound: %s", result)
	}
	return jid, nil
}

// manage enables stream management (XEP-0198 §3).
func manage(st stream) (*managed, error) {
	if err := st.send("<enable xmlns='" + nsSM + "' resume='true'/>"); err != nil {
		return nil, err
	}
	enabled, err := expect(st, "enabled", nsSM)
	return &managed{id: enabled.Attr["id"]}, err
}

// Resume goes on with the session on a new connection (XEP-0198 §5), after Kill: the JID is what it was, nobody in a room
// has noticed, and what either side has not taken comes again. A token, if not empty, is that of the new connection and
// those after it; otherwise it is the one of before. The error says what the server said: item-not-found means that it
// knows no such session (any more).
func (c *Client) Resume(ctx context.Context, token string) error {
	c.mu.Lock()
	m := c.managed
	c.mu.Unlock()
	if m == nil || m.id == "" {
		return errors.New("resuming: there is no session that can be resumed")
	}
	if token != "" {
		c.options.Token = token
	}
	c.Kill()
	c.sending.Lock()
	defer c.sending.Unlock()
	st, err := c.server.dialStream(ctx, c.options, m.id)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", c.options.Host, err)
	}
	err = c.begin(ctx, st, func() error {
		if _, err := authenticate(st, c.options); err != nil {
			return err
		}
		c.mu.Lock()
		resume := Stanza{Name: "resume", NS: nsSM, Attr: map[string]string{"previd": m.id, "h": strconv.FormatUint(uint64(m.handled), 10)}}
		c.mu.Unlock()
		if err := st.send(resume.String()); err != nil {
			return err
		}
		resumed, err := expect(st, "resumed", nsSM)
		if err == nil {
			c.mu.Lock()
			m.ack(resumed)
			c.mu.Unlock()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	c.mu.Lock()
	again := strings.Join(m.unacked, "")
	c.mu.Unlock()
	return st.send(again)
}

// ack forgets what the server says to have taken. The caller holds the client's mu.
func (m *managed) ack(s Stanza) {
	h, err := strconv.ParseUint(s.Attr["h"], 10, 32)
	if n := uint32(h) - m.acked; err == nil && n <= uint32(len(m.unacked)) {
		m.acked += n
		m.unacked = m.unacked[n:]
	}
}

// handshake authenticates a component (XEP-0114 §3).
func handshake(st stream, secret string) error {
	id, err := st.open()
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(id + secret))
	if err := st.send("<handshake>" + hex.EncodeToString(sum[:]) + "</handshake>"); err != nil {
		return err
	}
	_, err = expect(st, "handshake", nsClient)
	return err
}

func expect(st stream, name, ns string) (Stanza, error) {
	s, err := st.next()
	if err != nil {
		return Stanza{}, fmt.Errorf("waiting for %s: %w", name, err)
	}
	if s.Name != name || s.NS != ns {
		return Stanza{}, fmt.Errorf("waiting for %s: got %s", name, s)
	}
	return s, nil
}

// JID is the full JID, or a component's domain.
func (c *Client) JID() string { return c.jid }

// BareJID is the JID without its resource.
func (c *Client) BareJID() string { return bare(c.jid) }

func bare(jid string) string {
	jid, _, _ = strings.Cut(jid, "/")
	return jid
}

// Err says why the connection ended: nil as long as it has not, io.EOF if the server ended the stream in good order.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// Send writes any text into the stream, well-formed or not. Over WebSocket each element becomes a message of its own. With
// stream management the stanzas in it are kept until the server has taken them, also if there is an error.
func (c *Client) Send(xml string) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	st := c.stream
	if c.managed != nil {
		for _, frame := range frames(xml) {
			if s, err := parse(frame, nsClient); err == nil && isStanza(s) {
				c.managed.unacked = append(c.managed.unacked, frame)
			}
		}
	}
	c.mu.Unlock()
	return st.send(xml)
}

// isStanza says whether it is one that stream management counts.
func isStanza(s Stanza) bool {
	return s.NS == nsClient && (s.Name == "message" || s.Name == "presence" || s.Name == "iq")
}

// Next takes the oldest waiting stanza.
func (c *Client) Next(ctx context.Context) (Stanza, error) {
	return c.Await(ctx, func(Stanza) bool { return true })
}

// Await takes the first stanza for which match is true. When the connection has ended and none is waiting, it fails with
// the reason of the end. Stream errors (RFC 6120 §4.9) can be awaited as stanzas can.
func (c *Client) Await(ctx context.Context, match func(Stanza) bool) (Stanza, error) {
	c.mu.Lock()
	if i := slices.IndexFunc(c.queue, match); i >= 0 {
		s := c.queue[i]
		c.queue = slices.Delete(c.queue, i, i+1)
		c.mu.Unlock()
		return s, nil
	}
	w := c.wait(match, last)
	c.mu.Unlock()
	return c.result(ctx, w)
}

// Where in the line a waiter stands.
const (
	first = iota // an answer is for who asked, though somebody else may wait for just anything
	last
)

// wait registers a waiter. The caller holds c.mu.
func (c *Client) wait(match func(Stanza) bool, where int) *waiter {
	w := &waiter{match: match, found: make(chan Stanza, 1)}
	switch {
	case c.err != nil:
		close(w.found)
	case where == first:
		c.waiters = slices.Insert(c.waiters, 0, w)
	default:
		c.waiters = append(c.waiters, w)
	}
	return w
}

func (c *Client) result(ctx context.Context, w *waiter) (Stanza, error) {
	select {
	case s, ok := <-w.found:
		if !ok {
			return Stanza{}, fmt.Errorf("connection of %s ended: %w", c.jid, c.Err())
		}
		return s, nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.waiters = slices.DeleteFunc(c.waiters, func(x *waiter) bool { return x == w })
	c.mu.Unlock()
	select { // it may have come in the meantime
	case s, ok := <-w.found:
		if ok {
			return s, nil
		}
	default:
	}
	return Stanza{}, ctx.Err()
}

// read is the reader goroutine.
func (c *Client) read(st stream, done chan<- struct{}) {
	defer close(done)
	defer st.drop()
	for {
		s, err := st.next()
		c.mu.Lock()
		if err == nil && c.managed != nil {
			handled := c.managed.handled
			switch {
			case isStanza(s):
				c.managed.handled++
			case s.NS == nsSM && s.Name == "a":
				c.managed.ack(s)
				c.mu.Unlock()
				continue
			case s.NS == nsSM && s.Name == "r":
				c.mu.Unlock()
				_ = st.send(fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, handled)) // next says what is wrong, if anything
				continue
			}
		}
		if err != nil {
			c.err = err
			for _, w := range c.waiters {
				close(w.found)
			}
			c.waiters = nil
			c.mu.Unlock()
			return
		}
		if i := slices.IndexFunc(c.waiters, func(w *waiter) bool { return w.match(s) }); i >= 0 {
			c.waiters[i].found <- s
			c.waiters = slices.Delete(c.waiters, i, i+1)
		} else {
			c.queue = append(c.queue, s)
		}
		c.mu.Unlock()
	}
}

// Drain takes all that is waiting.
func (c *Client) Drain() []Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.queue
	c.queue = nil
	return all
}

// IQ sends a request of type get or set and takes its answer: the one with the same id that comes from where the request
// went (RFC 6120 §8.2.3). The answer may be of type error. An empty address means one's own server.
func (c *Client) IQ(ctx context.Context, typ, to, payload string) (Stanza, error) {
	xml, answer := c.request(typ, to, payload)
	if err := c.Send(xml); err != nil {
		return Stanza{}, err
	}
	return c.result(ctx, answer)
}

// lastID is of all clients together: Jitsi's muc_domain_mapper takes what has the same id for an answer, also of others.
var lastID atomic.Uint64

func newID() string { return fmt.Sprintf("iq-%d", lastID.Add(1)) }

// request makes an IQ, to be sent by the caller, and a waiter for its answer.
func (c *Client) request(typ, to, payload string) (xml string, answer *waiter) {
	iq := Stanza{Name: "iq", Attr: map[string]string{"type": typ, "id": newID()}}
	if to != "" {
		iq.Attr["to"] = to
	}
	if c.from != "" {
		iq.Attr["from"] = c.from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer = c.wait(func(s Stanza) bool {
		if s.Name != "iq" || s.Attr["id"] != iq.Attr["id"] || (s.Attr["type"] != "result" && s.Attr["type"] != "error") {
			return false
		}
		from := s.Attr["from"]
		return from == to || to == "" && from == c.BareJID()
	}, first)
	return strings.TrimSuffix(iq.String(), "/>") + ">" + payload + "</iq>", answer
}

// Sync returns when all has arrived that the server had for the client before: it asks the server something, and a stream
// keeps its order. It says nothing about what others, such as a component, still mean to send.
func (c *Client) Sync(ctx context.Context) error {
	_, err := c.IQ(ctx, "get", ownHost, "<ping xmlns='urn:xmpp:ping'/>")
	return err
}

// Join asks to enter the room (XEP-0045 §7.2) and takes the answer: the own presence in the room, or the error. It is for
// users; a component has many JIDs to join as.
func (c *Client) Join(ctx context.Context, room, nick string) (Stanza, error) {
	presence := Stanza{Name: "presence", Attr: map[string]string{"to": room + "/" + nick}, Children: []Stanza{{Name: "x", NS: nsMUC}}}
	if err := c.Send(presence.String()); err != nil {
		return Stanza{}, err
	}
	return c.Await(ctx, func(s Stanza) bool {
		return s.Name == "presence" && bare(s.Attr["from"]) == room && (s.Attr["type"] == "error" || s.HasStatus("110"))
	})
}

// Close leaves in good order: unavailable presence, the end of the stream, and the server's answer to it, for which it
// waits two seconds. Its error is why the connection ended otherwise, perhaps before.
func (c *Client) Close() error {
	c.mu.Lock()
	st, done := c.stream, c.done
	c.mu.Unlock()
	if c.Err() == nil {
		timer := time.AfterFunc(closeTimeout, st.drop)
		defer timer.Stop()
		if c.from == "" {
			_ = c.Send("<presence type='unavailable'/>")
		}
		if err := st.end(); err != nil {
			st.drop()
		}
	}
	<-done
	if err := c.Err(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Kill drops the connection, as a client does that loses its network.
func (c *Client) Kill() {
	c.mu.Lock()
	st, done := c.stream, c.done
	c.mu.Unlock()
	st.drop()
	<-done
}
