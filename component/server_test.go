package component

import (
	"bufio"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// patience is how long a test waits for what must happen, on a machine with much else to do.
const patience = time.Minute

// server is the server's end of a component connection, in the hands of a test: for what a real server never does.
type server struct {
	t    *testing.T
	l    net.Listener
	log  *observer.ObservedLogs
	c    *Component
	stop context.CancelFunc
	away context.CancelFunc // stop, and no other usher is to come
	lose context.CancelFunc // stop, because another usher is the active one
	done chan error

	ahead atomic.Int64 // of the machine's clock is usher's, in nanoseconds
}

func newServer(t *testing.T, change ...func(*Component)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, log := observer.New(zap.DebugLevel)
	s := &server{t: t, l: l, log: log, c: testComponent(t), done: make(chan error, 1)}
	s.c.o.Server, s.c.o.Log, s.c.o.Now = l.Addr().String(), zap.New(core), s.now
	s.c.repeats.log = s.c.o.Log
	for _, f := range change {
		f(s.c)
	}
	ctx, end := context.WithCancelCause(context.Background())
	cancel := func() { end(nil) }
	s.stop, s.away, s.lose = cancel, func() { end(ErrTakenAway) }, func() { end(ErrReplaced) }
	go func() { s.done <- s.c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		l.Close()
		if err := <-s.done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		s.done <- nil
		goleak.VerifyNone(t)
	})
	return s
}

// now is usher's clock, and forward sets it forward.
func (s *server) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *server) forward(d time.Duration) { s.ahead.Add(int64(d)) }

// link is one accepted connection.
type link struct {
	t *testing.T
	net.Conn
	in *xml.Decoder
}

// accept takes the next connection, without a handshake.
func (s *server) accept() *link {
	s.t.Helper()
	if err := s.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	c, err := s.l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	return &link{t: s.t, Conn: c, in: xml.NewDecoder(bufio.NewReader(c))}
}

// connect takes the next connection and its handshake.
func (s *server) connect() *link {
	s.t.Helper()
	l := s.accept()
	l.next("stream")
	l.send(header)
	l.next("handshake")
	l.send("<handshake/>")
	return l
}

func (l *link) send(x string) {
	l.t.Helper()
	if _, err := io.WriteString(l, x); err != nil {
		l.t.Fatal(err)
	}
}

// next reads up to the start of an element of that name.
func (l *link) next(name string) xml.StartElement {
	l.t.Helper()
	for {
		tok, err := l.in.Token()
		if err != nil {
			l.t.Fatalf("waiting for %s: %v", name, err)
		}
		if start, ok := tok.(xml.StartElement); ok && start.Name.Local == name {
			return start.Copy()
		}
	}
}

// closes waits until usher has closed its side of the stream, and closes the server's.
func (l *link) closes() {
	l.t.Helper()
	for {
		tok, err := l.in.Token()
		if err != nil {
			l.t.Fatalf("waiting for the end of the stream: %v", err)
		}
		if end, ok := tok.(xml.EndElement); ok && end.Name.Local == "stream" {
			l.send("</stream:stream>")
			return
		}
	}
}

// iq reads up to an IQ of the type.
func (l *link) iq(typ string) xml.StartElement {
	l.t.Helper()
	for {
		if start := l.next("iq"); element.Attr(start, "type") == typ {
			return start
		}
	}
}

func (s *server) logged(message string) observer.LoggedEntry {
	s.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if all := s.log.FilterMessage(message).All(); len(all) > 0 {
			return all[len(all)-1]
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("not logged: %s", message)
		}
	}
}

// However a stream ends, usher says why and comes back.
func TestStreamEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		send string
		want string
	}{
		"text between stanzas": {"text", "XML that RFC 6120 §11.1 forbids"},
		"a comment":            {"<!-- -->", "XML that RFC 6120 §11.1 forbids"},
		"in good order":        {"</stream:stream>", "the server closed the stream"},
		"a stream error":       {"<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", "system-shutdown"},
		"half a stanza":        {"<iq type='set' id='1' from='u@guest.ex", "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			l := s.connect()
			l.send(tt.send)
			if strings.Contains(tt.want, "EOF") {
				// Closing both ways would reset the connection if there is something that we have not read.
				if err := l.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if e := s.logged("no connection"); !strings.Contains(fmt.Sprint(e.ContextMap()["error"]), tt.want) {
				t.Errorf("got %v, want %s", e.ContextMap(), tt.want)
			}
			l = s.connect()
			l.send("<iq type='get' id='alive' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
			l.iq("result")
		})
	}
}

// A stanza that cannot be decoded is lost. Nothing else is.
func TestUndecodableStanzas(t *testing.T) {
	s := newServer(t)
	l := s.connect()
	for _, x := range []string{
		"<a:b:c/>", "<iq type='set' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'><a:b:c/></iq>",
		"<iq a='&nosuch;'/>", "<iq a=b/>", "<presence from='standup@conference.meet.example.com/n'><x></y></presence>",
		"<iq/>", "<iq from='/' to='@' type='get'/>", "<iq type='set' id='1' from='u@guest.example.com/r' to='elsewhere.example'/>",
		"<iq type='odd' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'/>", "<x xmlns='urn:x'/>", "<\x00/>", "<iq \xff='1'/>",
	} {
		l.send(x)
	}
	l.send("<iq type='get' id='alive' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	for element.Attr(l.next("iq"), "id") != "alive" {
	}
	if s.log.FilterMessage("no connection").Len() != 0 {
		t.Error("the stream ended")
	}
	s.stop()
	l.closes()
	s.logged("stopped")
	stopped := s.log.FilterMessage("stopped").All()[0].ContextMap()
	if _, told := tally(s.log); stopped["request-malformed"] != int64(12) || told < 12 {
		t.Errorf("lost in silence: %d things are told of, counters %v", told, stopped)
	}
}

// The secret is proven, not sent. usher gives up a handshake that the server refuses.
func TestHandshake(t *testing.T) {
	s := newServer(t, func(c *Component) { c.o.Secret = []byte("not to be sent") })
	l := s.accept()
	l.next("stream")
	l.send("<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' id='i'>")
	l.next("handshake")
	tok, err := l.in.Token()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tok.(xml.CharData)); len(got) != 40 {
		t.Errorf("got %s", got)
	}
	l.send("<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
	if e := s.logged("no connection"); !strings.Contains(fmt.Sprint(e.ContextMap()["hint"]), "no such component: Prosody's configuration needs Component \"focus.meet.example.com\"") {
		t.Errorf("got %v", e.ContextMap())
	}
	s.connect()
	s.logged("connected")
}

// A request of more than maxRequest bytes is refused, also if only white space makes it so large.
func TestLargeRequest(t *testing.T) {
	s := newServer(t)
	l := s.connect()
	ping := "<iq type='get' id='%d' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/>%s</iq>"
	for n, want := range map[int]string{maxRequest - 200: "result", maxRequest: "error"} {
		l.send(fmt.Sprintf(ping, n, strings.Repeat(" ", n)))
		for answer := l.next("iq"); ; answer = l.next("iq") {
			if element.Attr(answer, "id") == fmt.Sprint(n) {
				if got := element.Attr(answer, "type"); got != want {
					t.Errorf("%d bytes more: %s, want %s", n, got, want)
				}
				break
			}
		}
	}
}

const theRequest = "<iq type='set' id='%s' from='u@guest.example.com/r%[1]s' to='focus.meet.example.com'><conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/></iq>"

// usher told to stop finishes a request under way. A new one is told to come back.
func TestStopFinishesRequests(t *testing.T) {
	s := newServer(t)
	l := s.connect()
	l.send(fmt.Sprintf(theRequest, "early"))
	asked := l.iq("get") // who moderates?
	for element.Attr(asked, "to") != theRoom.String() {
		asked = l.iq("get")
	}
	s.stop()
	// Stopping has begun when a ping from somebody else still is answered but a request is not decided any more.
	var answer xml.StartElement
	for {
		l.send("<iq type='set' id='late' from='v@guest.example.com/r' to='focus.meet.example.com'><conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/></iq>")
		for answer = l.next("iq"); element.Attr(answer, "type") == "get"; answer = l.next("iq") {
			if element.Attr(answer, "to") == theRoom.String() { // it was too early: this one is decided, too
				l.send(fmt.Sprintf("<iq type='error' id='%s' from='%s' to='focus@focus.meet.example.com'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", element.Attr(answer, "id"), theRoom))
			}
		}
		if code := element.Attr(l.next("reason"), "code"); code == "stopping" { // as an error, so that it asks again in 5 s, not in 1
			break
		}
	}
	l.send(fmt.Sprintf("<iq type='error' id='%s' from='%s' to='focus@focus.meet.example.com'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", element.Attr(asked, "id"), theRoom))
	for element.Attr(answer, "id") != "early" {
		answer = l.next("iq")
	}
	if element.Attr(answer, "type") != "error" {
		t.Errorf("the request under way: %v", answer)
	}
	l.send("</stream:stream>")
	s.logged("stopped")
	if n := s.log.FilterField(zap.String("reason", "stopping")).Len(); n != 1 {
		t.Errorf("%d requests refused because of the stop", n)
	}
}

// If the server does not answer, the client is told to ask again, and nobody is let in.
func TestServerDoesNotAnswer(t *testing.T) {
	s := newServer(t, func(c *Component) { c.requestTimeout = 50 * time.Millisecond })
	l := s.connect()
	l.send(fmt.Sprintf(theRequest, "1"))
	if got := l.iq("result"); element.Attr(got, "id") != "1" {
		t.Errorf("got %v", got)
	}
	if got := element.Attr(l.next("conference"), "ready"); got != "false" {
		t.Errorf("ready=%s", got)
	}
	if e := s.logged("request"); e.ContextMap()["reason"] != "room-unavailable" {
		t.Errorf("got %v", e.ContextMap())
	}
}

// A request that never ends does not keep usher from stopping.
func TestStopIsBounded(t *testing.T) {
	s := newServer(t, func(c *Component) { c.stopTimeout = 50 * time.Millisecond })
	l := s.connect()
	l.send(fmt.Sprintf(theRequest, "stuck"))
	for element.Attr(l.iq("get"), "to") != theRoom.String() {
	}
	s.stop()
	l.closes()
	s.logged("stopped")
}

// usher leaves a server that passes nothing on any more, and connects again.
func TestServerPassesNothingOn(t *testing.T) {
	s := newServer(t, func(c *Component) { c.pingEvery, c.pingWithin = 10*time.Millisecond, 100*time.Millisecond })
	s.connect()
	if e := s.logged("no connection"); !strings.Contains(fmt.Sprint(e.ContextMap()["error"]), "passes nothing on") {
		t.Errorf("got %v", e.ContextMap())
	}
	s.connect()
}

// An usher that does not know whether it is the active one leaves as soon as another one gets its pings, and does not connect before
// it is the active one.
func TestLeavesToTheOther(t *testing.T) {
	var holds atomic.Bool
	holds.Store(true)
	s := newServer(t, func(c *Component) {
		c.o.Holds, c.shared, c.pingEvery, c.pingWithin = holds.Load, true, time.Hour, 100*time.Millisecond
	})
	s.connect()
	holds.Store(false)
	s.logged("no connection")
	s.logged("not connecting: the store does not say whether this usher is still the active one")
	if err := s.l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * tenureEvery)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.l.Accept(); err == nil {
		t.Error("it connects without knowing")
	}
	holds.Store(true)
	s.connect()
}

// usher stays while the server passes on its pings to itself.
func TestServerPassesOn(t *testing.T) {
	s := newServer(t, func(c *Component) { c.pingEvery, c.pingWithin = 10*time.Millisecond, patience })
	l := s.connect()
	for range 3 {
		ping := l.iq("get")
		for element.Attr(ping, "to") != ours.String() {
			ping = l.iq("get")
		}
		l.send(fmt.Sprintf("<iq type='get' id='%s' from='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", element.Attr(ping, "id"), ours, ours))
		pong := l.iq("result")
		l.send(fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'/>", element.Attr(pong, "id"), ours, ours))
	}
	if s.log.FilterMessage("no connection").Len() != 0 {
		t.Error("the stream ended")
	}
}

// usher asks for the presence of a Jicofo that does not show itself again and again, because its roster may change. It tells the
// operator once how. It does not ask a Jicofo that is online.
func TestJicofoIsSought(t *testing.T) {
	const jicofo = "focus@auth.meet.example.com"
	s := newServer(t, beforeFocus, func(c *Component) { c.pingEvery, c.pingWithin = 10*time.Millisecond, patience })
	l := s.connect()
	pong := func() {
		ping := l.iq("get")
		l.send(fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'/>", element.Attr(ping, "id"), ours, ours))
	}
	for range 3 {
		for start := l.next("presence"); element.Attr(start, "type") != "subscribe" || element.Attr(start, "to") != jicofo; start = l.next("presence") {
		}
		l.send("<presence type='unsubscribed' from='" + jicofo + "' to='" + ours.String() + "'/>")
		pong()
	}
	e := s.logged("Jicofo does not show whether it is online, so nobody is let in")
	if hint := fmt.Sprint(e.ContextMap()["hint"]); !strings.Contains(hint, "mod_roster_command subscribe focus.meet.example.com "+jicofo) {
		t.Errorf("the hint is %q", hint)
	}
	if n := s.log.FilterMessage(e.Message).Len(); n != 1 {
		t.Errorf("told %d times", n)
	}
	l.send("<presence from='" + jicofo + "/focus' to='" + ours.String() + "'/>")
	s.logged("Jicofo is online")
	pong() // to what was sent before that
	for range 3 {
		for {
			tok, err := l.in.Token()
			if err != nil {
				t.Fatal(err)
			}
			start, ok := tok.(xml.StartElement)
			if ok && start.Name.Local == "presence" {
				t.Fatalf("asks a Jicofo that is online: %v", start)
			}
			if ok && start.Name.Local == "iq" {
				l.send(fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'/>", element.Attr(start, "id"), ours, ours))
				break
			}
		}
	}
}

// What was learned on one stream does not count on the next: another server may be there, or the same one with other modules.
func TestNextStreamBeginsAnew(t *testing.T) {
	s := newServer(t, beforeFocus)
	l := s.connect()
	m, st := s.c.mode.(*beforeJicofo), s.c.stranger
	l.send("<presence from='focus@auth.meet.example.com/focus' to='" + ours.String() + "'/>")
	s.logged("Jicofo is online")
	st.mu.Lock()
	st.refused[theRoom.Domainpart()] = ""
	st.mu.Unlock()
	m.mapper.mu.Lock()
	m.mapper.found[theRoom.Domainpart()] = &finding{done: make(chan struct{})}
	m.mapper.mu.Unlock()
	l.Close()
	s.connect()
	st.mu.Lock()
	m.mapper.mu.Lock()
	m.relay.mu.Lock()
	defer st.mu.Unlock()
	defer m.mapper.mu.Unlock()
	defer m.relay.mu.Unlock()
	if len(st.refused)+len(m.mapper.found)+len(m.relay.online) != 0 {
		t.Errorf("it still counts: %v, %v, %v", st.refused, m.mapper.found, m.relay.online)
	}
}

// An admission that could not be told is owed as a refusal that makes the client ask again: by the next stream the right may have
// ended.
func TestAdmissionIsNotOwed(t *testing.T) {
	allow := auth.Decision{Room: auth.Room{JID: theRoom}, Verdict: auth.Allow, Reason: auth.ReasonGuest}
	from := jid.MustParse("u@guest.example.com/r")
	for name, send := range map[string]func(c *Component, r *request){
		"no stream": func(c *Component, r *request) { c.answer(r, allow, nil) },
		"lost": func(c *Component, r *request) {
			ends, conn := net.Pipe()
			ends.Close()
			s := stream.New(conn, ours)
			c.stream.Store(s)
			if _, sent := c.answer(r, allow, nil); !sent {
				t.Fatal("not handed over")
			}
			if err := s.Transmit(); err == nil {
				t.Fatal("it was written")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := testComponent(t)
			send(c, c.byIQ(stanza.IQ{ID: "1", Type: stanza.SetIQ, From: from, To: ours}))
			owed := c.held.owed
			if len(owed) != 1 || owed[0].d.Verdict != auth.Deny || owed[0].d.Reason != auth.ReasonRoomUnavailable || !owed[0].from.Equal(from) {
				t.Errorf("owed are %+v", owed)
			}
		})
	}
}

// A panic in a request is answered, counted and logged, and ends nothing else.
func TestPanic(t *testing.T) {
	s := newServer(t, func(c *Component) { c.policy.Store(&policy{}); c.mode.(*ownFocus).Rooms = muc.NewRooms(muc.Options{}) })
	l := s.connect()
	l.send(fmt.Sprintf(theRequest, "1"))
	if got := l.iq("error"); element.Attr(got, "id") != "1" {
		t.Errorf("got %v", got)
	}
	s.logged("a request caused a panic")
	l.send("<presence from='standup@conference.meet.example.com/n'><x xmlns='http://jabber.org/protocol/muc#user'><status code='201'/></x></presence>")
	s.logged("a stanza caused a panic")
	l.send("<iq type='get' id='alive' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	l.iq("result")
}
