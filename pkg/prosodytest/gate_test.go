package prosodytest

import (
	"context"
	"testing"
)

// TestGate shows that a server with the lines of config/gate is a complete gate: with a component of a few lines beside it, nobody
// but the component creates a room, and nobody enters without an affiliation (design §2).
func TestGate(t *testing.T) {
	s := Start(t, Options{Config: gateConfig})
	focus := s.Component(t, "focus.meet.example.com", "secret")
	juliet := s.Client(t, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket})

	join := func(want string) Stanza {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), juliet.timeout)
		defer cancel()
		answer, err := juliet.Join(ctx, room, "juliet")
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.ErrorCondition(); got != want {
			t.Fatalf("joining: %q, want %q: %s", got, want, answer)
		}
		return answer
	}

	refused := join("not-allowed")
	if text := refused.ErrorText(); text != "Room creation is restricted" {
		t.Errorf("the text that Jitsi's clients look for is %q", text)
	}

	createRoom(t, focus)
	join("registration-required")

	setAffiliation(t, focus, juliet.BareJID(), "member")
	join("")
	focus.Receives(`<presence from='` + room + `/juliet'>
		<x xmlns='http://jabber.org/protocol/muc#user'><item jid='` + juliet.JID() + `' affiliation='member' role='participant'/></x></presence>`)

	// Without the affiliation the room removes her (status 321).
	setAffiliation(t, focus, juliet.BareJID(), "none")
	juliet.Receives(`<presence type='unavailable' from='` + room + `/juliet'>
		<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/><status code='321'/></x></presence>`)
}
