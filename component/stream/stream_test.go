package stream

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/pkg/element"
)

var (
	ours    = jid.MustParse("focus.meet.example.com")
	theRoom = jid.MustParse("standup@conference.meet.example.com")
)

// testStream returns a stream on which the server sends that.
func testStream(sends string) *Stream {
	return New(&conn{sends: strings.NewReader(sends)}, ours)
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
			s := testStream("")
			m := stanza.Message{To: theRoom}
			if tt.from != "" {
				m.From = jid.MustParse(tt.from)
			}
			err := s.Send(m.Wrap(nil))
			if (err != nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			// A refused stanza leaves nothing behind.
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
	s := testStream("")
	broken := xmlstream.ReaderFunc(func() (xml.Token, error) { return nil, errors.New("broken") })
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(broken)); err == nil {
		t.Error("no error")
	}
	unspoilt := testStream("")
	for _, s := range []*Stream{s, unspoilt} {
		if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := string((<-s.unsent).xml), string((<-unspoilt.unsent).xml); got != want || strings.Count(got, "<message") != 1 {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzSend sends texts that others have written: the stanza says what it says when encoding/xml writes it, but quotes in a text are written
// as they are.
func FuzzSend(f *testing.F) {
	f.Add(`{"features":{"recording":true},"user":{"name":"Zoë \"O'Neil\" <&>"}}`, `"'<>&`)
	f.Add("", "")
	f.Add(`"`, "\x00\xff\r\n\t\ufffe")
	f.Add("]]>'", "]]>")
	f.Add("\"\x01\xed\xa0\x80'\r\n</a><b/>", `"/><b a="`)
	f.Fuzz(func(t *testing.T, text, value string) {
		payload := func() xml.TokenReader {
			return xmlstream.Wrap(xmlstream.Token(xml.CharData(text)), xml.StartElement{
				Name: xml.Name{Space: "urn:x", Local: "give"}, Attr: []xml.Attr{element.NewAttr("session", value)}})
		}
		s := testStream("")
		message := stanza.Message{To: theRoom, From: ours}
		if err := s.Send(message.Wrap(payload())); err != nil {
			t.Fatal(err)
		}
		sent := (<-s.unsent).xml
		var oracle bytes.Buffer
		e := xml.NewEncoder(&oracle)
		if _, err := xmlstream.Copy(e, message.Wrap(payload())); err != nil {
			t.Fatal(err)
		}
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
		got, end := read(xml.NewDecoder(bytes.NewReader(sent)))
		want, _ := read(xml.NewDecoder(&oracle))
		if !reflect.DeepEqual(got, want) || !errors.Is(end, io.EOF) {
			t.Errorf("%q: %q, %v; want %q", sent, got, end, want)
		}
		_, written, _ := bytes.Cut(sent, []byte("><give"))
		_, written, _ = bytes.Cut(written, []byte(">"))
		if bytes.Contains(written, []byte("&#3")) {
			t.Errorf("%q has an entity for a quote", sent)
		}
	})
}

// An answer counts once, from the address that was asked, and while we wait for it.
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
			s := testStream("")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() {
				result <- s.IQ(ctx, stanza.IQ{Type: stanza.SetIQ, From: jid.MustParse("focus@focus.meet.example.com"), To: theRoom}, nil, nil)
			}()
			var asked stanza.IQ
			if err := xml.Unmarshal((<-s.unsent).xml, &asked); err != nil {
				t.Fatal(err)
			}
			for _, a := range tt.answers(asked.ID) {
				start, body, err := Open([]byte(a))
				if err != nil {
					t.Fatal(err)
				}
				s.Answer(Stanza{Raw: []byte(a), Start: start, Body: body})
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

// No call waits for an answer that cannot come any more.
func TestCloseReleasesQuestions(t *testing.T) {
	s := testStream("")
	close(s.finished) // no writer
	result := make(chan error, 1)
	go func() { result <- s.IQ(t.Context(), stanza.IQ{Type: stanza.GetIQ, To: theRoom}, nil, nil) }()
	<-s.unsent
	close(s.ended) // nor a reader
	s.Close()
	if err := <-result; !errors.Is(err, ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); !errors.Is(err, ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	s.Finish(t.Context())
}

// What the server sends before it knows of the end is received, also if the stream ends because nothing may be written. The server is told
// of the end, and the connection stays: Prosody would lose what it has not written yet.
func TestCloseReceivesTheRest(t *testing.T) {
	for _, may := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		s := New(client, ours)
		s.While(func() bool { return may })
		if !may {
			if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _ = s.Transmit() }()
		var got []string
		closing := make(chan struct{})
		go func() {
			_ = s.Receive(func(st Stanza) {
				got = append(got, st.Attr("id"))
				<-closing // so that the second one has not been read by then
			}, func(p any) { t.Error(p) })
		}()
		const unread = 64 << 10 // more than is read at once
		if _, err := fmt.Fprintf(server, "<message id='1'>%*s</message><message id='2'/>", unread, ""); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { s.Close(); close(ended) }()
		said := make([]byte, len(streamEnd))
		if _, err := io.ReadFull(server, said); string(said) != streamEnd || err != nil {
			t.Fatalf("the server is told %q, %v", said, err)
		}
		if _, err := io.WriteString(server, "<message id='3'/>"); err != nil {
			t.Fatal(err)
		}
		close(closing)
		server.Close()
		<-ended
		if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("may write: %t: received %q, want %q", may, got, want)
		}
	}
}

// A server with much to do notices late that a stream has ended. Until then it sends requests, which are received.
func TestCloseReceivesFromABusyServer(t *testing.T) {
	for late, want := range map[time.Duration][]string{
		CloseTimeout - time.Millisecond: {"1"},
		CloseTimeout + time.Millisecond: nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			s := New(client, ours)
			go func() { _ = s.Transmit() }()
			var got []string
			go func() {
				_ = s.Receive(func(st Stanza) { got = append(got, st.Attr("id")) }, func(p any) { t.Error(p) })
			}()
			noticed := make(chan struct{})
			go func() {
				defer close(noticed)
				_, _ = io.ReadFull(server, make([]byte, len(streamEnd)))
				time.Sleep(late) // by the clock of synctest
				_, _ = io.WriteString(server, "<message id='1'/>")
				server.Close()
			}()
			s.Close()
			<-s.Ended()
			<-noticed
			if !slices.Equal(got, want) {
				t.Errorf("%s later: received %q, want %q", late, got, want)
			}
		})
	}
}

// If the server takes nothing, Send fails; it does not wait.
func TestBacklog(t *testing.T) {
	s := testStream("")
	for range maxUnwritten {
		if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); !errors.Is(err, ErrBacklog) {
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
		start, d, err := Open([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := streamError(start, d); !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
}

// failing is a connection that takes so many bytes, and then fails.
type failing struct {
	conn
	takes int
}

func (f *failing) Write(b []byte) (int, error) {
	if f.takes -= len(b); f.takes < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(b), nil
}

// lost is called, once, for each stanza that the connection did not take, and for no other.
func TestLostAnswers(t *testing.T) {
	s := New(&failing{takes: 1000}, ours)
	lost := map[int]int{}
	const n = 2000
	for i := range n {
		if err := s.Deliver(stanza.Message{To: theRoom, ID: fmt.Sprint(i)}.Wrap(nil), func() { lost[i]++ }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Transmit(); err == nil {
		t.Fatal("no error")
	}
	for i := range n {
		if lost[i] != 1 {
			t.Fatalf("%d: lost %d times", i, lost[i])
		}
	}
	if err := s.Deliver(stanza.Message{To: theRoom}.Wrap(nil), nil); !errors.Is(err, ErrDisconnected) {
		t.Errorf("after that: %v", err)
	}

	took := &failing{takes: 1 << 20}
	s = New(took, ours)
	_ = s.Deliver(stanza.Message{To: theRoom}.Wrap(nil), func() { t.Error("lost") })
	s.stop(true)
	if err := s.Transmit(); err != nil {
		t.Error(err)
	}
}

// Once a stream may not be written to any more, only its end is written. Those who must know what is lost are told.
func TestWhile(t *testing.T) {
	c := &conn{sends: strings.NewReader("")}
	s, may, lost := New(c, ours), true, 0
	s.While(func() bool { return may })
	send := func() {
		if err := s.Deliver(stanza.Message{To: theRoom}.Wrap(nil), func() { lost++ }); err != nil {
			t.Fatal(err)
		}
	}
	send()
	may = false
	send()
	if err := s.Transmit(); !errors.Is(err, ErrForbidden) || lost != 2 || c.written != len(streamEnd) {
		t.Errorf("Transmit returns %v; %d stanzas are lost, and %d bytes written", err, lost, c.written)
	}
	if err := s.Send(stanza.Message{To: theRoom}.Wrap(nil)); !errors.Is(err, ErrDisconnected) {
		t.Errorf("afterwards Send returns %v", err)
	}
}

// Close writes nothing of what is queued.
func TestCloseDropsWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &conn{sends: strings.NewReader("")}
		s, lost := New(c, ours), 0
		if err := s.Deliver(stanza.Message{To: theRoom}.Wrap(nil), func() { lost++ }); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { s.Close(); close(ended) }()
		synctest.Wait()
		if err := s.Transmit(); !errors.Is(err, ErrForbidden) || lost != 1 || c.written != len(streamEnd) {
			t.Errorf("Transmit returns %v; %d stanzas are lost, and %d bytes written", err, lost, c.written)
		}
		<-ended
	})
}
