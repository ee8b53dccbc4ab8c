package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestDemo plays the cast. From run to run only the times may differ.
func TestDemo(t *testing.T) {
	testDemo(t, "testdata/demo.jsonl", "as its component focus.meet.example.com")
}

func TestDemoJicofo(t *testing.T) {
	testDemo(t, "testdata/demo-jicofo.jsonl", "a stand-in for Jicofo, focus@auth.meet.example.com", "--jicofo")
}

// TestDemoEjabberd plays the same cast on an ejabberd: the table is that of TestDemo but for what the server itself says.
func TestDemoEjabberd(t *testing.T) {
	ejabberdtest.Start(t, ejabberdtest.Options{Configure: func(s *prosodytest.Server) string { return demoGate.YAML(s.ComponentAddr) }}).Kill() // skips without one
	testDemo(t, "testdata/demo-ejabberd.jsonl", "as its component focus.meet.example.com", "--server", "ejabberd")
	if r := command(t, "", "demo", "--server", "ejabberd", "--jicofo"); r.status != statusUsage || !strings.Contains(r.stderr, "needs Prosody") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "demo", "--server", "exchange"); r.status != statusUsage || !strings.Contains(r.stderr, `"exchange"`) {
		t.Errorf("%+v", r)
	}
}

func testDemo(t *testing.T, file, present string, flags ...string) {
	needsProsody(t)
	r := command(t, "", append([]string{"demo", "--once", "--json"}, flags...)...)
	if r.status != 0 {
		t.Error(r.status, r.stderr)
	}
	var got bytes.Buffer
	table := newTable(new(strings.Builder))
	for line := range strings.Lines(r.stdout) {
		var x row
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatal(err, line)
		}
		if x.MS <= 0 {
			t.Errorf("%s took no time", x.Who)
		}
		x.MS = 0
		if err := (jsonRows{&got}).row(x); err != nil {
			t.Fatal(err)
		}
		if err := table.row(x); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, file, got.String())
	if !strings.Contains(r.stderr, "All as expected.") || !strings.Contains(r.stderr, present) || strings.Contains(r.stderr, "token explain") {
		t.Error(r.stderr)
	}
	for line := range strings.Lines(table.w.(*strings.Builder).String()) {
		if utf8.RuneCountInString(line)-1 > 120 || strings.Contains(line, "\x1b") {
			t.Errorf("not for 120 columns without colour: %q", line)
		}
	}
}

// TestDemoStays tries the command that the demo offers after the table.
func TestDemoStays(t *testing.T) { testDemoStays(t, "demo") }

func TestDemoJicofoStays(t *testing.T) { testDemoStays(t, "demo", "--jicofo") }

func testDemoStays(t *testing.T, args ...string) {
	needsProsody(t)
	stdout, stderr := newLive(), newLive()
	end := begin(t, stdout, stderr, args...)
	stdout.until(t, "token explain -c", 1)
	_, line, _ := strings.Cut(stdout.String(), os.Args[0]+" token explain ")
	line, _, _ = strings.Cut(line, "\n")
	if r := command(t, "", append([]string{"token", "explain"}, strings.Fields(line)...)...); r.status != 0 {
		t.Errorf("%s: %d\n%s%s", line, r.status, r.stdout, r.stderr)
	}
	for label, want := range map[string]string{"live page": "<!doctype html>", "metrics": "usher_connected 1\n", "API": `"openapi":"3.1.0"`, "portal": `type="password"`} {
		_, address, _ := strings.Cut(stdout.String(), "\n  "+label+" ")
		address, _, _ = strings.Cut(strings.TrimSpace(address), "\n")
		if said := fetched(t, address, ""); !strings.Contains(strings.ToLower(said), strings.ToLower(want)) {
			t.Errorf("%s at %q says %.300s", label, address, said)
		}
	}
	_, line, _ = strings.Cut(stdout.String(), "curl -H 'Authorization: ")
	key, address, _ := strings.Cut(line, "' ")
	address, _, _ = strings.Cut(address, "\n")
	if said := fetched(t, address, key); !strings.HasPrefix(said, `{"rooms":[`) {
		t.Errorf("the API says %s", said)
	}
	if status := end(); status != 0 || stderr.String() != "" {
		t.Errorf("ended with %d: %s", status, stderr)
	}
}

// fetched is what a web server answers to somebody with this key.
func fetched(t *testing.T, address, authorization string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	req.Close = true
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, answer.Status, err)
	}
	return string(said)
}

// TestDemoWrong checks that the table shows both what happened and what was expected, in colour on a terminal.
func TestDemoWrong(t *testing.T) {
	var b strings.Builder
	table := &table{w: &b, colour: true}
	if err := table.row(row{Who: "forged token", Expected: "deny: token-signature", Happened: hostEnters, before: "the host leaves"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{hostEnters, "\x1b[1;31mNO\x1b[m", "\x1b[1;31m    expected deny: token-signature\x1b[m", "(the host leaves)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q", want, b.String())
		}
	}
}

// TestDemoTells lets anybody create rooms in the server's configuration, and checks that the demo reports it.
func TestDemoTells(t *testing.T) {
	needsProsody(t)
	whole := demoProsody
	t.Cleanup(func() { demoProsody = whole })
	demoProsody = strings.Replace(whole, "restrict_room_creation = true", "restrict_room_creation = false", 1)
	r := command(t, "", "demo", "--once", "--json")
	want := `"who":"creates by joining","vhost":"guest.meet.example.com","token":"none","expected":"Prosody: not-allowed","happened":"allow: owner, moderator"`
	if r.status != 1 || !strings.Contains(r.stdout, want) || strings.Count(r.stdout, `"ok":false`) != 1 {
		t.Errorf("%d\n%s", r.status, r.stdout)
	}
	if !strings.Contains(r.stderr, "usher: 1 of 14 did not go as expected; usher's log:") || !strings.Contains(r.stderr, "connected") {
		t.Error(r.stderr)
	}
}

// TestDemoJicofoTells lets usher hold no requests, and checks that the demo reports it.
func TestDemoJicofoTells(t *testing.T) {
	needsProsody(t)
	whole := demoUsherJicofo
	t.Cleanup(func() { demoUsherJicofo = whole })
	demoUsherJicofo = strings.Replace(whole, "rooms:\n", "rooms:\n  wait_hold: 0s\n", 1)
	r := command(t, "", "demo", "--jicofo", "--once", "--json")
	want := `"who":"the same guest, held","vhost":"guest.meet.example.com","token":"none","expected":"allow: member, participant","happened":"wait: host-absent"`
	if r.status != 1 || !strings.Contains(r.stdout, want) || strings.Count(r.stdout, `"ok":false`) != 1 {
		t.Errorf("%d\n%s", r.status, r.stdout)
	}
}

func TestDemoWithoutProsody(t *testing.T) {
	t.Setenv("PROSODYTEST_PROSODY", "no-such-prosody")
	if r := command(t, "", "demo", "--once"); r.status != 1 || !strings.Contains(r.stderr, "make deps") || !strings.Contains(r.stderr, "apt-get install prosody") {
		t.Errorf("%+v", r)
	}
}
