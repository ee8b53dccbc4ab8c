package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/element"
)

// beforeFocus puts a Component before a Jicofo that a test plays.
func beforeFocus(c *Component) {
	c.o.Jicofo = jid.MustParse("focus@auth.meet.example.com")
	c.o.GuardInterval = time.Hour
	_ = c.setMode() // fails only where New does
	c.mode.(*beforeJicofo).relay.timeout = 100 * time.Millisecond
}

// forwarded is the next request that usher asks of that JID, by id and sender.
func (l *link) forwarded(to string) (id, from string) {
	l.t.Helper()
	for {
		start := l.iq("set")
		if element.Attr(start, "to") == to {
			return element.Attr(start, "id"), element.Attr(start, "from")
		}
	}
}

// Jicofo says nothing, somebody else answers in its name, or it answers with something else: the client is told to ask again, and
// the log says why.
func TestJicofoSaysNothing(t *testing.T) {
	const focus = "focus@auth.meet.example.com/jicofo"
	answer := "<iq type='%s' id='%s' from='%s' to='%s'><conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com' ready='true'/></iq>"
	for name, says := range map[string]func(id, asker string) string{
		"nothing": func(string, string) string { return "" },
		"from the bare JID": func(id, asker string) string {
			return fmt.Sprintf(answer, "result", id, "focus@auth.meet.example.com", asker)
		},
		"from another resource": func(id, asker string) string { return fmt.Sprintf(answer, "result", id, focus+"2", asker) },
		"from a client": func(id, asker string) string {
			return fmt.Sprintf(answer, "result", id, "eve@guest.example.com/x", asker)
		},
		"from the room": func(id, asker string) string {
			return fmt.Sprintf(answer, "result", id, theRoom.String()+"/focus", asker)
		},
		"with another id": func(_, asker string) string { return fmt.Sprintf(answer, "result", "guess", focus, asker) },
		"as a question":   func(id, asker string) string { return fmt.Sprintf(answer, "set", id, focus, asker) },
		"something else": func(id, asker string) string {
			return fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'><query xmlns='urn:x' ready='true'/></iq>", id, focus, asker)
		},
		"an empty result": func(id, asker string) string {
			return fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'/>", id, focus, asker)
		},
		"ready spelled otherwise": func(id, asker string) string {
			return strings.Replace(fmt.Sprintf(answer, "result", id, focus, asker), "'true'", "'TRUE'", 1)
		},
		"what is gone": func(id, asker string) string {
			return fmt.Sprintf("<iq type='error' id='%s' from='%s' to='%s'><error type='wait'><recipient-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", id, focus, asker)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, beforeFocus, func(c *Component) {
				p := auth.Policy{Services: []string{theRoom.Domainpart()}, VHosts: map[string]auth.VHost{"guest.example.com": {Kind: auth.KindTrusted}}}
				c.Use(auth.New(p), []jid.JID{theRoom.Domain()})
			})
			l := s.connect()
			l.send("<presence from='" + focus + "' to='focus.meet.example.com'/>")
			s.logged("Jicofo is online")
			l.asks("u", "1")
			id, asker := l.forwarded(focus)
			if asker != "focus.meet.example.com/u@guest.example.com/r" {
				t.Errorf("asked by %s", asker)
			}
			l.send(says(id, asker))
			for element.Attr(l.iq("result"), "id") != "1" {
			}
			if got := element.Attr(l.next("conference"), "ready"); got != "false" {
				t.Errorf("ready=%s", got)
			}
			if e := s.logged("request"); e.ContextMap()["reason"] != "focus-unavailable" || e.ContextMap()["error"] == nil {
				t.Errorf("logged %v", e.ContextMap())
			}
			if m := s.c.mode.(*beforeJicofo); m.Known(theRoom) || len(m.relay.turns) != 0 {
				t.Error("something is left of it")
			}
		})
	}
	if c := testComponent(t); c.requestTimeout <= 0 || relayTimeout > 15*time.Second || relayedTimeout >= 30*time.Second {
		t.Error("a client hears nothing for too long")
	}
}

// nobody is a session that must not be used.
type nobody struct{ t *testing.T }

func (n nobody) IQ(_ context.Context, iq stanza.IQ, _ xml.TokenReader, _ any) error {
	n.t.Errorf("asked by %s", iq.From)
	return nil
}

func (n nobody) Send(xml.TokenReader) error { return nil }

// An address that cannot be passed on exactly is not passed on. That is rare, because the server prepares resources itself, by
// older rules.
func TestAskInSomebodyElsesName(t *testing.T) {
	r := &relay{session: nobody{t}, domain: ours, focus: jid.MustParse("focus@auth.meet.example.com"), log: zap.NewNop(), timeout: time.Second}
	if err := r.hears(jid.MustParse("focus@auth.meet.example.com/r"), stanza.AvailablePresence); err != nil {
		t.Fatal(err)
	}
	for _, resource := range []string{"a\u00a0b", "a\u2003b", "e\u0301", "\u212b", "a\u0000b", "\u0007", strings.Repeat("x", 1010)} {
		from := jid.NewUnsafe("u", "guest.example.com", resource).JID
		err := r.ask(t.Context(), stanza.IQ{Type: stanza.SetIQ, From: from}, func() xml.TokenReader { return nil }, nil)
		if !errors.Is(err, errNotForwarded) {
			t.Errorf("%q: %v", resource, err)
		}
	}
}
