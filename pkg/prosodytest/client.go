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

// Transport is how a client connects to the server.
type Transport int

const (
	TCP       Transport = iota // RFC 6120, without TLS
	WebSocket                  // RFC 7395
)

// ClientOptions are a client's account and connection.
type ClientOptions struct {
	Host      string // virtual host
	User      string // localpart; empty for SASL ANONYMOUS (RFC 4505)
	Password  string // for SASL PLAIN (RFC 4616)
	Resource  string // if empty, the server chooses one
	Transport Transport

	// Token, Room and Prefix go into the URL of the connection, where Jitsi's client puts them and Jitsi's modules read them:
	// the JSON Web Token, the name of the room, and its tenant. They need WebSocket.
	Token, Room, Prefix string

	// Resumable enables stream management with resumption (XEP-0198 §3), if the server offers it. See [Client.Resume].
	Resumable bool

	untapped bool // see Server.Tap

	// Timeout limits Receives, ReceivesNot and each write. Zero means a minute.
	Timeout time.Duration
}

const (
	defaultTimeout = time.Minute // enough on a busy machine
	closeTimeout   = 2 * time.Second
)

// Client is one connection, of a user or of a component. It answers nothing by itself.
//
// Incoming stanzas wait in a queue, in order. Receives, Await and Join take the first stanza that matches and leave the others
// in the queue: a test says which stanzas must arrive, not in which order those of different senders do. Next takes the
// oldest stanza, Drain all of them.
//
// A Client has one goroutine. Dial and Resume start it, Close and Kill end it. Any goroutine may call the methods, except
// those that fail the test (Sends, Receives, ReceivesNot): only the test's own goroutine may call these, on clients that
// [Server.Client] or [Server.Component] made.
type Client struct {
	t       TB // nil outside of a test
	jid     string
	from    string // attribute of the stanzas that we make; components need it, clients do not
	timeout time.Duration
	server  *Server // for Resume; nil for components
	options ClientOptions

	sending sync.Mutex // held during a write, so that stanzas are counted in the order in which they are sent

	mu      sync.Mutex
	stream  stream
	done    chan struct{} // closed when the reader of stream has ended
	queue   []Stanza
	waiters []*waiter // in the order in which they are served
	err     error     // why the reader ended
	managed *managed  // nil without stream management
}

// managed is a client's state of stream management (XEP-0198 §4).
type managed struct {
	id      string   // of the session; empty if it cannot be resumed
	handled uint32   // number of stanzas received
	acked   uint32   // number of stanzas sent and acknowledged by the server
	unacked []string // stanzas sent and not yet acknowledged, in order
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

// dialStream connects. previd is the session to resume, if any. Jitsi's providers of authentication read it from the URL and
// give the connection the session's user name; with another random name Prosody would find no session.
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
		return nil, errors.New("a token, a room and a prefix need WebSocket")
	}
	return dialTCP(ctx, s.C2SAddr, nsClient, o.Host, o.Timeout)
}

// DialComponent connects as a component (XEP-0114). All stanzas that it sends need a from of its own domain.
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

// begin runs login, which the context can interrupt, and starts the reader.
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

// authenticate logs in (RFC 6120 §6), begins the new stream, and returns its features.
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

// Resume continues the session on a new connection after Kill (XEP-0198 §5): the JID stays, nobody in a room notices, and
// unacknowledged stanzas of both sides come again. A token, if not empty, replaces the token for this connection and those
// after it. The error has the server's condition: item-not-found means that the server does not know the session, or no
// longer.
func (c *Client) Resume(ctx context.Context, token string) error {
	c.mu.Lock()
	m := c.managed
	c.mu.Unlock()
	if m == nil || m.id == "" {
		return errors.New("resuming: the session cannot be resumed")
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

// ack drops the stanzas that the server acknowledges. The caller holds the client's mu.
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

// Err is the reason why the connection ended: nil while it is up, io.EOF if the server closed the stream in good order.
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
// stream management Send keeps the stanzas until the server acknowledges them, even if it returns an error.
func (c *Client) Send(xml string) error {
	if listen := c.listener(); listen != nil {
		(*listen)(c.jid, true, xml)
	}
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

// isStanza reports whether stream management counts the element.
func isStanza(s Stanza) bool {
	return s.NS == nsClient && (s.Name == "message" || s.Name == "presence" || s.Name == "iq")
}

// Next takes the oldest waiting stanza.
func (c *Client) Next(ctx context.Context) (Stanza, error) {
	return c.Await(ctx, func(Stanza) bool { return true })
}

// Await takes the first stanza for which match is true. If none is waiting and the connection has ended, it returns the
// reason of the end. Stream errors (RFC 6120 §4.9) count as stanzas here.
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

// The place of a new waiter in the line.
const (
	first = iota // for the answer to an IQ: it belongs to the caller that asked, not to one that waits for any stanza
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
	select { // the stanza may have come in the meantime
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
		if err != nil {
			c.ended(err)
			return
		}
		if answer, isAck := c.count(s); answer != "" {
			_ = st.send(answer) // if this fails, next returns the reason
		} else if !isAck {
			c.deliver(s)
		}
	}
}

// count keeps the books of stream management (XEP-0198 §4): it counts a stanza, reports whether the element acknowledges ours,
// and returns the answer to a request for an acknowledgement.
func (c *Client) count(s Stanza) (answer string, isAck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.managed == nil:
	case isStanza(s):
		c.managed.handled++
	case s.NS == nsSM && s.Name == "a":
		c.managed.ack(s)
		return "", true
	case s.NS == nsSM && s.Name == "r":
		return fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, c.managed.handled), false
	}
	return "", false
}

// deliver gives a stanza to the first waiter that it matches, or puts it into the queue.
func (c *Client) deliver(s Stanza) {
	if listen := c.listener(); listen != nil {
		(*listen)(c.jid, false, s.String())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.waiters, func(w *waiter) bool { return w.match(s) }); i >= 0 {
		c.waiters[i].found <- s
		c.waiters = slices.Delete(c.waiters, i, i+1)
		return
	}
	c.queue = append(c.queue, s)
}

// listener is the tap of the client's server, or nil.
func (c *Client) listener() *func(who string, sent bool, stanza string) {
	if c.server == nil || c.options.untapped {
		return nil
	}
	return c.server.tap.Load()
}

// ended records why the connection has ended, and releases all waiters.
func (c *Client) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, w := range c.waiters {
		close(w.found)
	}
	c.waiters = nil
}

// Drain takes all waiting stanzas.
func (c *Client) Drain() []Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.queue
	c.queue = nil
	return all
}

// IQ sends a request of type get or set and takes its answer: the one with the same id, from the address of the request
// (RFC 6120 §8.2.3). The answer may be of type error. An empty address means the client's own server.
func (c *Client) IQ(ctx context.Context, typ, to, payload string) (Stanza, error) {
	xml, answer := c.request(typ, to, payload)
	if err := c.Send(xml); err != nil {
		return Stanza{}, err
	}
	return c.result(ctx, answer)
}

// lastID is shared by all clients: Jitsi's muc_domain_mapper takes any stanza with the id of a request for its answer.
var lastID atomic.Uint64

func newID() string { return fmt.Sprintf("iq-%d", lastID.Add(1)) }

// request returns an IQ for the caller to send, and a waiter for its answer.
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

// Sync returns when the client has received all that the server had for it before: it sends the server a request, and a
// stream keeps its order. It does not wait for others, such as a component, that have yet to send something.
func (c *Client) Sync(ctx context.Context) error {
	_, err := c.IQ(ctx, "get", OwnHost, "<ping xmlns='urn:xmpp:ping'/>")
	return err
}

// Join asks to enter the room (XEP-0045 §7.2) and takes the answer: the client's own presence in the room, or the error. It
// is for users only, because a component has many JIDs.
func (c *Client) Join(ctx context.Context, room, nick string) (Stanza, error) {
	presence := Stanza{Name: "presence", Attr: map[string]string{"to": room + "/" + nick}, Children: []Stanza{{Name: "x", NS: nsMUC}}}
	if err := c.Send(presence.String()); err != nil {
		return Stanza{}, err
	}
	return c.Await(ctx, func(s Stanza) bool {
		typ := s.Attr["type"] // a departure has status 110, too, and so has the old nick after a change
		return s.Name == "presence" && bare(s.Attr["from"]) == room && (typ == "error" || typ == "" && s.HasStatus("110"))
	})
}

// Close sends unavailable presence, closes the stream, and waits up to two seconds for the server to close it, too. Its error
// is the reason if the connection ended in another way, now or earlier.
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

// Kill drops the connection, like a client that loses its network.
func (c *Client) Kill() {
	c.mu.Lock()
	st, done := c.stream, c.done
	c.mu.Unlock()
	st.drop()
	<-done
}
