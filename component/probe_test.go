package component

import (
	"context"
	"encoding/xml"
	"errors"
	"testing"
	"testing/synctest"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// sent is a session that remembers where presence went, and fails when told so.
type sent struct {
	to   []string
	fail error
}

func (s *sent) IQ(context.Context, stanza.IQ, xml.TokenReader, any) error {
	return errors.ErrUnsupported
}

func (s *sent) Send(r xml.TokenReader) error {
	tok, err := r.Token()
	if err != nil {
		return err
	}
	start := tok.(xml.StartElement)
	s.to = append(s.to, element.Attr(start, "type")+" "+element.Attr(start, "to"))
	return s.fail
}

// A probe hears the first answer of the room that it enters, and of no other. It is in a room once at a time, and nothing is left
// when it is done.
func TestProbe(t *testing.T) {
	s := &sent{}
	p, err := newProbe(s, jid.MustParse("focus@focus.meet.example.com"), "probe", "nick")
	if err != nil || p.jid.String() != "focus@focus.meet.example.com/probe" {
		t.Fatalf("%s %v", p.jid, err)
	}
	said, done, err := p.enter(theRoom)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.enter(theRoom); err == nil {
		t.Error("entered twice at a time")
	}
	p.hears(jid.MustParse("other@conference.meet.example.com/nick"), heard{typ: stanza.ErrorPresence})
	p.hears(jid.MustParse(theRoom.String()+"/nick"), heard{typ: stanza.UnavailablePresence})
	p.hears(jid.MustParse(theRoom.String()+"/nick"), heard{from: "first"})
	p.hears(jid.MustParse(theRoom.String()+"/nick"), heard{from: "second", typ: stanza.ErrorPresence})
	if h := <-said; h.from != "first" || h.typ != stanza.AvailablePresence {
		t.Errorf("heard %v", h)
	}
	p.leave(theRoom)
	done()
	p.hears(theRoom, heard{})
	if s.fail = stream.ErrDisconnected; len(p.entered) != 0 {
		t.Errorf("waits for %v", p.entered)
	}
	if _, _, err := p.enter(theRoom); !errors.Is(err, stream.ErrDisconnected) || len(p.entered) != 0 {
		t.Errorf("%v, waits for %v", err, p.entered)
	}
	nick := theRoom.String() + "/nick"
	if len(s.to) != 3 || s.to[0] != " "+nick || s.to[1] != "unavailable "+nick {
		t.Errorf("sent %q", s.to)
	}
}

// What the server sends to a probe comes to it, in the room's own spelling, and with the one in which it was written.
func TestProbeIsHeard(t *testing.T) {
	c := testComponent(t)
	p, err := newProbe(&sent{}, c.mark, "probe", "nick")
	if err != nil {
		t.Fatal(err)
	}
	c.listens(p)
	for from, want := range map[string]struct {
		body string
		heard
	}{
		"[acme]standup@conference.meet.example.com/nick": {heard: heard{from: "[acme]standup@conference.meet.example.com/nick"}},
		"standup@conference.acme.meet.example.com/nick": {
			"<error type='auth'><registration-required xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
			heard{from: "standup@conference.acme.meet.example.com/nick", typ: stanza.ErrorPresence, err: stanza.Error{Type: stanza.Auth, Condition: stanza.RegistrationRequired}},
		},
	} {
		said, done, err := p.enter(jid.MustParse("[acme]standup@conference.meet.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		x := "<presence from='" + from + "' to='" + p.jid.String() + "' type='" + string(want.typ) + "'>" + want.body + "</presence>"
		st := stream.Stanza{Raw: []byte(x)}
		if st.Start, st.Body, err = stream.Open(st.Raw); err != nil {
			t.Fatal(err)
		}
		c.route(nil, nil, st)
		select {
		case h := <-said:
			if h.from != want.from || h.typ != want.typ || h.err.Condition != want.err.Condition {
				t.Errorf("%s: heard %+v", from, h)
			}
		default:
			t.Errorf("%s: heard nothing", from)
		}
		done()
	}
}

// answering is a session on which a room answers the stranger.
type answering struct {
	probe *probe
	says  heard
	tried int
}

func (a *answering) IQ(context.Context, stanza.IQ, xml.TokenReader, any) error { return nil } // the room is open

func (a *answering) Send(xml.TokenReader) error {
	a.tried++
	a.probe.hears(theRoom, a.says)
	return nil
}

// Only registration-required shows that the service keeps strangers out. Any other answer shows nothing, so nobody is let in and the
// next request tries again.
func TestStrangerLearns(t *testing.T) {
	refused := func(c stanza.Condition) heard {
		return heard{typ: stanza.ErrorPresence, err: stanza.Error{Type: stanza.Auth, Condition: c}}
	}
	for name, tt := range map[string]struct {
		says heard
		out  bool
	}{
		"kept out":          {refused(stanza.RegistrationRequired), true},
		"let in":            {heard{}, false},
		"banned":            {refused(stanza.Forbidden), false},
		"a nick in use":     {refused(stanza.Conflict), false},
		"a locked room":     {refused(stanza.ItemNotFound), false},
		"an unclear error":  {heard{typ: stanza.ErrorPresence}, false},
		"too many, or full": {refused(stanza.ServiceUnavailable), false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answering{says: tt.says}
			s, err := newStranger(muc.Owner{Session: a, JID: jid.MustParse("focus@focus.meet.example.com")})
			if err != nil {
				t.Fatal(err)
			}
			a.probe = s.probe
			if err := s.tries(t.Context(), theRoom); (err == nil) != tt.out {
				t.Errorf("got %v", err)
			}
			n := a.tried
			if err := s.tries(t.Context(), theRoom); (err == nil) != tt.out || (a.tried == n) != tt.out {
				t.Errorf("again: %v, with %d stanzas after %d", err, a.tried, n)
			}
		})
	}
}

// silent is a session on which a room does not answer the stranger.
type silent struct{ tried int }

func (s *silent) IQ(context.Context, stanza.IQ, xml.TokenReader, any) error { return nil } // the room is open

func (s *silent) Send(xml.TokenReader) error { s.tried++; return nil }

// People who are let into the same room at once share the attempt of one of them. When it fails, the next of them tries.
func TestStrangerLearnsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &silent{}
		s, err := newStranger(muc.Owner{Session: a, JID: jid.MustParse("focus@focus.meet.example.com")})
		if err != nil {
			t.Fatal(err)
		}
		impatient, gives := context.WithCancel(t.Context())
		results := make(chan error, 10)
		tries := func(ctx context.Context) { results <- s.tries(ctx, theRoom) }
		go tries(impatient)
		synctest.Wait()
		for range 2 {
			go tries(t.Context())
		}
		go tries(impatient)
		synctest.Wait()
		if len(results) != 0 || a.tried != 1 {
			t.Fatalf("%d have a result after %d attempts, and there is no answer", len(results), a.tried)
		}
		gives()
		synctest.Wait()
		if len(results) != 2 || a.tried != 2 {
			t.Fatalf("two have given up: %d have a result after %d attempts", len(results), a.tried)
		}
		for range 2 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("who has given up is told %v", err)
			}
		}
		s.probe.hears(theRoom, heard{typ: stanza.ErrorPresence, err: stanza.Error{Type: stanza.Auth, Condition: stanza.RegistrationRequired}})
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if a.tried != 2 || len(s.trying) != 0 {
			t.Errorf("%d attempts, and %d under way", a.tried, len(s.trying))
		}
	})
}
