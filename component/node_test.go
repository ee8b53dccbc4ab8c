package component_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/xmpp-usher/usher/auth/store"
)

// strophe is a client that others wrote: strophe.js under Node, over WebSocket (testdata/node/join.mjs).
type strophe struct {
	t      *testing.T
	stdin  io.Closer
	events chan event
}

// event is a line that join.mjs prints.
type event struct {
	Event, Condition, Reason, Affiliation, Role, Text string
	Ready                                             bool
}

func (g *gate) strophe(vhost, token string) *strophe {
	g.t.Helper()
	const modules = "../testdata/node/node_modules"
	if _, err := os.Stat(modules); err != nil {
		if os.Getenv("PROSODYTEST_REQUIRED") == "1" {
			g.t.Fatalf("%v: run make deps", err)
		}
		g.t.Skipf("%v: run make deps", err)
	}
	options, err := json.Marshal(map[string]any{
		"service": g.WebSocketURL, "domain": vhost, "room": room, "focus": domain, "token": token, "retryMs": 50,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, "node", "join.mjs", string(options))
	cmd.Dir = "../testdata/node"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	s := &strophe{t: g.t, stdin: in, events: make(chan event, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.events)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				g.t.Errorf("%v: %s", err, lines.Text())
			}
			s.events <- e
		}
		_ = cmd.Wait()
	}()
	g.t.Cleanup(func() { in.Close(); <-ended; cancel() })
	return s
}

// until returns the first event of the kind that ok accepts.
func (s *strophe) until(kind string, ok func(event) bool) event {
	s.t.Helper()
	for e := range s.events {
		if e.Event == kind && ok(e) {
			return e
		}
	}
	s.t.Fatalf("ended without the event %s", kind)
	return event{}
}

func anyEvent(event) bool   { return true }
func ready(e event) bool    { return e.Ready }
func notReady(e event) bool { return !e.Ready }

// Owner, member and waiting guest with strophe.js.
func TestStrophe(t *testing.T) {
	t.Parallel()
	g := start(t)
	guest := g.strophe("guest.meet.example.com", "")
	for n := range 2 { // it asks again
		if n == 1 {
			g.eventually("the request is held", func() bool { return g.count(store.KindHeld, "") == 1 })
			g.forward(waitHold)
		}
		if e := guest.until("conference", notReady); e.Condition != "not-authorized" || e.Reason != "host-absent" || e.Text == "" {
			t.Errorf("guest before the host: %+v", e)
		}
	}
	owner := g.strophe("meet.example.com", mint(t, nil))
	owner.until("conference", ready)
	if e := owner.until("joined", anyEvent); e.Affiliation != "owner" || e.Role != "moderator" {
		t.Errorf("owner: %+v", e)
	}
	mem := g.strophe("meet.example.com", mint(t, member))
	mem.until("conference", ready)
	if e := mem.until("joined", anyEvent); e.Affiliation != "member" || e.Role != "participant" {
		t.Errorf("member: %+v", e)
	}
	guest.until("conference", ready)
	if e := guest.until("joined", anyEvent); e.Affiliation != "member" || e.Role != "participant" {
		t.Errorf("guest: %+v", e)
	}
	refused := g.strophe("meet.example.com", mint(t, forRoom("retro")))
	if e := refused.until("conference", notReady); e.Condition != "forbidden" || e.Reason != "room-mismatch" {
		t.Errorf("token of another room: %+v", e)
	}
}
