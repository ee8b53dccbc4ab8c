package muc

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

func TestLobbyAt(t *testing.T) {
	for name, tt := range map[string]struct {
		answer error
		at     bool
		err    bool
	}{
		"none":         {answer: stanza.Error{Type: stanza.Cancel, Condition: stanza.ItemNotFound}},
		"an answer":    {at: true},
		"hidden":       {answer: stanza.Error{Type: stanza.Auth, Condition: stanza.Forbidden}, at: true},
		"no service":   {answer: stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}, err: true},
		"unreachable":  {answer: stanza.Error{Type: stanza.Cancel, Condition: stanza.RemoteServerNotFound}, err: true},
		"disconnected": {answer: errCut, err: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{err: tt.answer}
			at, err := NewLobby(Owner{Session: s, JID: jid.MustParse(us)}, jid.MustParse(lobbyDomain)).At(t.Context(), jid.MustParse(standup))
			if at != tt.at || (err != nil) != tt.err || tt.err && !errors.Is(err, tt.answer) {
				t.Errorf("%t, %v", at, err)
			}
			if want := `<iq type="get" to="standup@` + lobbyDomain + `" from="` + us + `"><query xmlns="http://jabber.org/protocol/disco#info"></query></iq>`; s.asked != want {
				t.Errorf("asked\n%s\nwant\n%s", s.asked, want)
			}
		})
	}
}

// Many callers at once lead to two questions at most: one that was perhaps asked before they came, and one after.
func TestLobbyAtTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		l := NewLobby(Owner{Session: s, JID: jid.MustParse(us)}, jid.MustParse(lobbyDomain))
		var askers sync.WaitGroup
		for range 100 {
			askers.Go(func() {
				if at, err := l.At(t.Context(), jid.MustParse(standup)); at || err != nil {
					t.Errorf("%t, %v", at, err)
				}
			})
		}
		s.settle()
		askers.Wait()
		if len(s.iqs) > 2 {
			t.Errorf("asked %d times", len(s.iqs))
		}
	})
}

// Jitsi's plugin ignores a form from the node focus.
func TestLobbyStart(t *testing.T) {
	s := &script{}
	l := NewLobby(Owner{Session: s, JID: jid.MustParse(us)}, jid.MustParse(lobbyDomain))
	if err := l.Start(t.Context(), jid.MustParse(standup)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.asked, `<iq type="set" to="`+standup+`" from="focus.meet.example.com"><query xmlns="`+NSOwner+`">`) ||
		!strings.Contains(s.asked, `var="`+fieldMembersOnly+`"><value>true</value>`) {
		t.Errorf("asked %s", s.asked)
	}
	s.err = stanza.Error{Condition: stanza.Forbidden}
	if err := l.Start(t.Context(), jid.MustParse(standup)); !errors.Is(err, s.err) {
		t.Errorf("told %v", err)
	}
}
