package prosodytest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// event is a line that testdata/node/join.mjs writes.
type event struct {
	Event                   string
	JID, Nick               string
	Ready                   bool
	SessionID               string
	Condition, Text, Reason string
	ReservationError        string
	Affiliation, Role       string
}

// TestNodeClient shows that testdata/node/join.mjs asks as design §3 says, asks again while it has to wait, and joins. It uses a
// library that Jitsi's own clients use.
func TestNodeClient(t *testing.T) {
	script := filepath.Join("..", "..", "testdata", "node")
	_, err := exec.LookPath("node")
	if _, statErr := os.Stat(filepath.Join(script, "node_modules")); err != nil || statErr != nil {
		if os.Getenv("PROSODYTEST_REQUIRED") == "1" {
			t.Fatal("make deps:", errors.Join(err, statErr))
		}
		t.Skip("make deps:", errors.Join(err, statErr))
	}
	s := Start(t, Options{Config: gateConfig})
	ctx, cancel := context.WithTimeout(t.Context(), defaultTimeout)
	defer cancel()
	focus := s.Component(t, "focus.meet.example.com", "secret")
	createRoom(t, focus)

	input, err := json.Marshal(map[string]any{
		"service": s.WebSocketURL, "domain": "guest.meet.example.com", "room": room, "focus": "focus.meet.example.com",
		"token": "a.b.c", "retryMs": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "node", filepath.Join(script, "join.mjs"), string(input))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	next := func() (e event) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the script has ended:", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	expect := func(want event) {
		t.Helper()
		if got := next(); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	request := `<iq type='set' to='focus.meet.example.com'><conference xmlns='http://jitsi.org/protocol/focus' room='` + room + `'
		machine-uid='{scansion:any}' token='a.b.c'><property name='rtcstatsEnabled' value='false'/></conference></iq>`

	online := next()
	if online.Event != "online" {
		t.Fatalf("got %+v", online)
	}
	asked := focus.Receives(request)
	if asked.Attr["from"] != online.JID {
		t.Fatalf("asked as %s, not %s", asked.Attr["from"], online.JID)
	}
	focus.Sends(fmt.Sprintf(`<iq type='error' id='%s' from='focus.meet.example.com' to='%s'><error type='auth'>
		<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Wait.</text>
		<reason xmlns='urn:usher:0' code='host-absent'/></error></iq>`, asked.Attr["id"], online.JID))
	expect(event{Event: "conference", Condition: "not-authorized", Text: "Wait.", Reason: "host-absent"})

	asked = focus.Receives(request)
	setAffiliation(t, focus, bare(online.JID), "member")
	focus.Sends(fmt.Sprintf(`<iq type='result' id='%s' from='focus.meet.example.com' to='%s'>
		<conference xmlns='http://jitsi.org/protocol/focus' room='%s' ready='true' session-id='s1'/></iq>`, asked.Attr["id"], online.JID, room))
	expect(event{Event: "conference", Ready: true, SessionID: "s1"})
	expect(event{Event: "joined", Nick: online.JID[:8], Affiliation: "member", Role: "participant"})

	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	expect(event{Event: "disconnected"})
	if lines.Scan() {
		t.Errorf("after the end: %s", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
