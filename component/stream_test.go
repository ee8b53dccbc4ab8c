package component

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/pkg/element"
)

var (
	ours    = jid.MustParse("focus.meet.example.com")
	theRoom = jid.MustParse("standup@conference.meet.example.com")
)

// header is what a server opens its stream with.
const header = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' id='a>b' xmlns='jabber:component:accept'>"

// wired is the server's side of a connection: what it sends, and what it got.
type wired struct {
	net.Conn
	sends io.Reader
	got   bytes.Buffer
}

func (w *wired) Read(b []byte) (int, error)       { return w.sends.Read(b) }
func (w *wired) Write(b []byte) (int, error)      { return w.got.Write(b) }
func (w *wired) Close() error                     { return nil }
func (w *wired) SetWriteDeadline(time.Time) error { return nil }

// testStream returns a stream on which the server sends that.
func testStream(sends []byte) (*stream.Stream, *wired) {
	w := &wired{sends: bytes.NewReader(sends)}
	return stream.New(w, ours), w
}

func TestBackoff(t *testing.T) {
	for failures := range 100 {
		d := backoff(failures, maxBackoff)
		if d < 250*time.Millisecond || d > maxBackoff {
			t.Errorf("after %d: %s", failures, d)
		}
		if failures > 8 && d < maxBackoff/2 {
			t.Errorf("after %d: only %s", failures, d)
		}
	}
}

// Where nothing listens, as while a server restarts, usher is back within 5 s of it, however long that took, and whatever comes
// first then. Other failures have pauses that grow. Behind a rival usher stands by; displaced by one, it comes back late, so that the two do not
// displace each other all the time.
func TestPauses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, refused := stream.Dial(t.Context(), l.Addr().String(), ours, []byte("secret"))
	other, rival := io.EOF, fmt.Errorf("stream: %w", xmppstream.Conflict)

	var p pauses
	for range 20 {
		p.after(other, true, time.Second)
	}
	for i := range 200 {
		d := p.after(refused, false, time.Second)
		// The attempt after it, and two more that fail otherwise.
		if d += p.after(other, false, 0) + p.after(other, false, 0); d > 5*time.Second {
			t.Fatalf("refused %d times, usher is back %s after the server", i+1, d)
		}
	}
	for range 200 {
		if d := p.after(refused, false, 0); d > maxRefused || d < 250*time.Millisecond {
			t.Fatalf("a pause of %s", d)
		}
	}
	for i, least := range []time.Duration{0, 500, 1000, 2000, 4000, 8000, 15000, 15000} {
		if d := p.after(other, false, 0); d < least*time.Millisecond || d > maxBackoff {
			t.Errorf("after %d other failures: %s", i+1, d)
		}
	}
	for range 3 {
		if d := p.after(rival, false, 0); d != standbyPause {
			t.Errorf("beside a rival that the server keeps: %s", d)
		}
	}
	if d := p.after(rival, true, 0); d < maxBackoff/2 || d > maxBackoff {
		t.Errorf("displaced by a rival: %s", d)
	}
	if d := p.after(other, true, 2*settled); d > time.Second {
		t.Errorf("after a connection that lasted: %s", d)
	}
}

// An usher that loses its connection to another one a second time says what that may mean: two ushers with different stores.
func TestDisplacedAgainIsSaid(t *testing.T) {
	core, log := observer.New(zap.ErrorLevel)
	c := &Component{o: Options{Log: zap.New(core)}}
	rival := fmt.Errorf("stream: %w", xmppstream.Conflict)
	var p pauses
	for _, step := range []struct {
		err  error
		said int
	}{{rival, 0}, {io.EOF, 0}, {rival, 1}, {io.EOF, 1}, {rival, 2}} {
		p.log(c, step.err, true, time.Second)
		if n := log.FilterMessageSnippet("two ushers with different stores").Len(); n != step.said {
			t.Errorf("after %v it is said %d times", step.err, n)
		}
	}
}

func testComponent(t testing.TB) *Component {
	t.Helper()
	source, err := keys.Secrets([]byte("a secret for tests, long enough!"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{
		Domain: ours, Services: []jid.JID{theRoom.Domain()}, Log: zap.NewNop(),
		MembersOnly: true, Store: store.Memory(store.Options{}),
		Authorizer: auth.New(auth.Policy{
			Services: []string{theRoom.Domainpart()},
			VHosts: map[string]auth.VHost{
				"meet.example.com":  {Kind: auth.KindToken, Issuers: []auth.Issuer{{Accepted: []string{"*"}, Keys: source}}},
				"guest.example.com": {Kind: auth.KindGuest},
			},
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzStream feeds the stanza loop raw bytes, as if the server had sent them: it never panics and ends with the bytes,
// what it sends is well-formed, comes from us, and answers only what wants an answer.
func FuzzStream(f *testing.F) {
	conference := "<conference xmlns='" + focus.NS + "' room='standup@conference.meet.example.com'/>"
	for _, s := range []string{
		"<iq type='set' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'>" + conference + "</iq>",
		"<iq type='set' id='1' from='u@meet.example.com/r' to='focus.meet.example.com'>text" + conference + "</iq><a:b:c/>",
		"<iq type='get' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
		"<iq type='get' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<iq type='result' id='1' from='conference.meet.example.com' to='focus@focus.meet.example.com'/>",
		"<iq type='error' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'><error/></iq>",
		"<presence from='standup@conference.meet.example.com/nick' to='focus@focus.meet.example.com/usher'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator' jid='u@meet.example.com/r'/><status code='110'/></x></presence>",
		"<message type='groupchat' from='standup@conference.meet.example.com' to='focus@focus.meet.example.com/usher'><x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x></message>",
		"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
		"<presence/><message/><iq/><iq type='set' from='\U0010ffff'/>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := testComponent(t)
		s, wrote := testStream(in)
		c.stream.Store(s)
		ctx, cancel := context.WithCancel(t.Context())
		q := newQueue(ctx)
		worked, written := make(chan struct{}), make(chan error, 1)
		go func() { q.work(); close(worked) }()
		go func() { written <- s.Transmit() }()
		err := c.read(s, q)
		if err == nil {
			t.Error("the stream ended without an error")
		}
		cancel() // nobody answers our questions
		q.idle()
		q.close()
		<-worked
		s.Finish(t.Context())
		if err := <-written; err != nil {
			t.Error(err)
		}
		out, closed := strings.CutSuffix(wrote.got.String(), "</stream:stream>")
		if !closed {
			t.Errorf("the stream was not closed: %s", out)
		}
		d := xml.NewDecoder(strings.NewReader(out))
		answers := 0
		for depth := 0; ; {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("not well-formed: %v in %s", err, out)
			}
			switch tok := tok.(type) {
			case xml.StartElement:
				if depth++; depth == 1 {
					from, err := jid.ParseUnsafe(element.Attr(tok, "from"))
					if err != nil || from.Domainpart() != ours.String() {
						t.Errorf("from %s", element.Attr(tok, "from"))
					}
					if typ := element.Attr(tok, "type"); typ == "result" || typ == "error" {
						answers++
					}
				}
			case xml.EndElement:
				depth--
			}
		}
		if most := bytes.Count(in, []byte("get")) + bytes.Count(in, []byte("set")); answers > most {
			t.Errorf("%d answers to at most %d questions: %s", answers, most, out)
		}
	})
}

// An usher that is no longer certain to be the active one while it connects, because it was frozen or the server took long, does not finish
// that: the server would end the connection of the one that is.
func TestHandshakeOfActiveOnly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var holds atomic.Bool
	holds.Store(true)
	said := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			said <- err.Error()
			return
		}
		defer conn.Close()
		var first [1]byte
		_, err = io.ReadFull(conn, first[:])
		holds.Store(false)
		if err == nil {
			_, err = io.WriteString(conn, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='"+ours.String()+"' id='1'>")
		}
		rest, _ := io.ReadAll(conn)
		said <- fmt.Sprint(string(rest), err)
	}()
	c := testComponent(t)
	c.o.Server, c.o.Holds, c.shared = l.Addr().String(), holds.Load, true
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var run sync.WaitGroup
	run.Go(func() { _ = c.Run(ctx) })
	defer run.Wait()
	defer end()
	if got := <-said; strings.Contains(got, "handshake") || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("the server is told %q", got)
	}
}
