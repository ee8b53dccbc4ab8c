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
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/pkg/element"
)

var (
	ours    = jid.MustParse("focus.meet.example.com")
	theRoom = jid.MustParse("standup@conference.meet.example.com")
)

func testStream(r io.Reader) (*stream, *conn) {
	c := &conn{Reader: r}
	w := newWire(c)
	w.opened = true
	return newStream(w, ours), c
}

// Every stanza leaves with a sender of our domain, or not at all.
func TestSender(t *testing.T) {
	for name, tt := range map[string]struct {
		from string
		want string // "" for an error
	}{
		"none":           {"", "from=\"focus.meet.example.com\""},
		"our domain":     {"focus.meet.example.com", "from=\"focus.meet.example.com\""},
		"a node of ours": {"focus@focus.meet.example.com/usher", "from=\"focus@focus.meet.example.com/usher\""},
		"somebody else":  {"eve@meet.example.com", ""},
		"the parent":     {"meet.example.com", ""},
		"a subdomain":    {"x.focus.meet.example.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := testStream(strings.NewReader(""))
			m := stanza.Message{To: theRoom}
			if tt.from != "" {
				m.From = jid.MustParse(tt.from)
			}
			err := s.Send(m.Wrap(nil))
			if (err != nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			// What was refused leaves nothing behind.
			if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
				t.Fatal(err)
			}
			if got := string((<-s.unsent).xml); tt.want != "" && strings.Count(got, tt.want) != 1 || strings.Contains(got, "eve") {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A stanza that fails half-way does not spoil the next one.
func TestHalfAStanza(t *testing.T) {
	s, _ := testStream(strings.NewReader(""))
	broken := xmlstream.ReaderFunc(func() (xml.Token, error) { return nil, errors.New("broken") })
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(broken)); err == nil {
		t.Error("no error")
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
		t.Fatal(err)
	}
	if got := string((<-s.unsent).xml); strings.Count(got, "<message") != 1 || !strings.HasSuffix(got, "</message>") {
		t.Errorf("got %s", got)
	}
}

// An answer is taken from whom we asked, once, and while we wait for it.
func TestAnswers(t *testing.T) {
	room := theRoom.String()
	answer := func(from, id, typ, payload string) string {
		return fmt.Sprintf("<iq from='%s' to='focus@focus.meet.example.com' id='%s' type='%s'>%s</iq>", from, id, typ, payload)
	}
	for name, tt := range map[string]struct {
		answers func(id string) []string
		err     error
	}{
		"result": {func(id string) []string { return []string{answer(room, id, "result", "")} }, nil},
		"with payload": {func(id string) []string {
			return []string{answer(room, id, "result", "<query xmlns='x'><item/></query>")}
		}, nil},
		"error": {func(id string) []string {
			return []string{answer(room, id, "error", "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")}
		}, stanza.Error{Condition: stanza.ItemNotFound}},
		"error with the question": {func(id string) []string {
			return []string{answer(room, id, "error", "<query xmlns='x'/><error type='cancel'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")}
		}, stanza.Error{Condition: stanza.Forbidden}},
		"error without error":  {func(id string) []string { return []string{answer(room, id, "error", "")} }, stanza.Error{Condition: stanza.UndefinedCondition}},
		"forged sender":        {func(id string) []string { return []string{answer("eve@meet.example.com/x", id, "result", "")} }, context.Canceled},
		"occupant of the room": {func(id string) []string { return []string{answer(room+"/eve", id, "result", "")} }, context.Canceled},
		"forged id":            {func(string) []string { return []string{answer(room, "guess", "result", "")} }, context.Canceled},
		"a question":           {func(id string) []string { return []string{answer(room, id, "set", "<query xmlns='x'/>")} }, context.Canceled},
		"forged, then real": {func(id string) []string {
			return []string{answer("eve@meet.example.com/x", id, "error", ""), answer(room, id, "result", ""), answer(room, id, "error", "")}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := testStream(strings.NewReader(""))
			c := testComponent(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			q := newQueue(ctx)
			defer q.close()
			result := make(chan error, 1)
			go func() {
				result <- s.IQ(ctx, stanza.IQ{Type: stanza.SetIQ, From: jid.MustParse("focus@focus.meet.example.com"), To: theRoom}, nil, nil)
			}()
			var asked stanza.IQ
			if err := xml.Unmarshal((<-s.unsent).xml, &asked); err != nil {
				t.Fatal(err)
			}
			for _, a := range tt.answers(asked.ID) {
				if err := c.stanza(s, q, []byte(a), nil); err != nil {
					t.Fatal(err)
				}
			}
			if errors.Is(tt.err, context.Canceled) {
				s.mu.Lock()
				if len(s.pending) != 1 {
					t.Error("taken for the answer")
				}
				s.mu.Unlock()
				cancel()
			}
			if err := <-result; !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			if len(s.pending) != 0 {
				t.Errorf("%d questions are still pending", len(s.pending))
			}
		})
	}
}

// Nobody waits for an answer that cannot come any more.
func TestCloseReleasesQuestions(t *testing.T) {
	s, _ := testStream(strings.NewReader(""))
	close(s.finished) // no writer
	result := make(chan error, 1)
	go func() { result <- s.IQ(t.Context(), stanza.IQ{Type: stanza.GetIQ, To: theRoom}, nil, nil) }()
	<-s.unsent
	s.close()
	if err := <-result; !errors.Is(err, errDisconnected) {
		t.Errorf("got %v", err)
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); !errors.Is(err, errDisconnected) {
		t.Errorf("got %v", err)
	}
	close(s.ended) // nor a reader
	s.finish(t.Context())
}

// A server that takes nothing is an error, not a goroutine that hangs.
func TestBacklog(t *testing.T) {
	s, _ := testStream(strings.NewReader(""))
	for range maxUnwritten {
		if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); !errors.Is(err, errBacklog) {
		t.Errorf("got %v", err)
	}
}

func TestStreamErrors(t *testing.T) {
	for raw, want := range map[string]error{
		"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>x</text></stream:error>": xmppstream.Conflict,
		"<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>":                                                    xmppstream.SystemShutdown,
		"<stream:error/>":       xmppstream.Error{},
		"<stream:error><broken": xmppstream.UndefinedCondition,
		"<error/>":              nil,
	} {
		d := decoder([]byte(raw))
		start, err := firstElement(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := streamError(start, d); !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
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
// first then. Other failures have pauses that grow, and so has a rival.
func TestPauses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, refused := dial(t.Context(), l.Addr().String(), ours, []byte("secret"))
	other, rival := io.EOF, fmt.Errorf("stream: %w", xmppstream.Conflict)

	var p pauses
	for range 20 {
		p.after(other, time.Second)
	}
	for i := range 200 {
		d := p.after(refused, time.Second)
		// The attempt after it, and two more that fail otherwise.
		if d += p.after(other, 0) + p.after(other, 0); d > 5*time.Second {
			t.Fatalf("refused %d times, usher is back %s after the server", i+1, d)
		}
	}
	for range 200 {
		if d := p.after(refused, 0); d > maxRefused || d < 250*time.Millisecond {
			t.Fatalf("a pause of %s", d)
		}
	}
	for i, least := range []time.Duration{0, 500, 1000, 2000, 4000, 8000, 15000, 15000} {
		if d := p.after(other, 0); d < least*time.Millisecond || d > maxBackoff {
			t.Errorf("after %d other failures: %s", i+1, d)
		}
	}
	if d := p.after(rival, 0); d < maxBackoff/2 || d > maxBackoff {
		t.Errorf("beside a rival: %s", d)
	}
	if d := p.after(other, 2*settled); d > time.Second {
		t.Errorf("after a connection that lasted: %s", d)
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
		s, wrote := testStream(bytes.NewReader(in))
		c.stream.Store(s)
		ctx, cancel := context.WithCancel(t.Context())
		q := newQueue(ctx)
		worked, written := make(chan struct{}), make(chan error, 1)
		go func() { q.work(); close(worked) }()
		go func() { written <- s.write() }()
		err := c.read(s, q)
		if err == nil {
			t.Error("the stream ended without an error")
		}
		cancel() // nobody answers our questions
		q.idle()
		q.close()
		<-worked
		close(s.ended)
		s.finish(t.Context())
		if err := <-written; err != nil {
			t.Error(err)
		}
		out, closed := strings.CutSuffix(wrote.written.String(), "</stream:stream>")
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
