package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

func TestServe(t *testing.T) {
	served(t, componentSecret)
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	if !strings.Contains(stderr.String(), "users.example.com: everybody who logged in with a password is a host") {
		t.Error("the log does not have the policy in words")
	}
	if status := end(); status != 0 || !strings.Contains(stderr.String(), "stopped") {
		t.Errorf("ended with %d:\n%s", status, stderr)
	}
	silent(t, stderr.String())
}

func TestServeSignal(t *testing.T) {
	served(t, componentSecret)
	t.Setenv("USHER_LOG_FORMAT", "json")
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, `"msg":"connected"`, 1)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stderr.until(t, `"msg":"stopped"`, 1)
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	for line := range strings.Lines(stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// TestServeLeavesToTheNext checks who answers a held request: after SIGTERM the next usher, after SIGINT usher itself before it
// ends.
func TestServeLeavesToTheNext(t *testing.T) {
	const request = "<conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/>"
	for signal, left := range map[syscall.Signal]bool{syscall.SIGTERM: true, syscall.SIGINT: false} {
		t.Run(signal.String(), func(t *testing.T) {
			server := served(t, componentSecret)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stderr := newLive()
			end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
			stderr.until(t, "connected", 1)
			guest := server.Client(t, prosodytest.ClientOptions{Host: "guest.meet.example.com"})
			if s, err := guest.IQ(ctx, "set", demoScene.focus, request); err != nil || s.ErrorCondition() != "not-authorized" {
				t.Fatal(s, err)
			}
			guest.Sends("<iq type='set' id='held' to='" + demoScene.focus + "'>" + request + "</iq>")
			// usher takes a sender's requests one after the other, so it holds the first one when it answers the ping.
			if _, err := guest.IQ(ctx, "get", demoScene.focus, "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
				t.Fatal(err)
			}
			stderr.until(t, "stopped", 1)
			if status := end(); status != 0 {
				t.Errorf("ended with %d", status)
			}
			if left {
				if err := guest.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				if got := guest.Drain(); len(got) > 0 {
					t.Fatalf("an usher that is restarted answers %s", got)
				}
				begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
			}
			answer, err := guest.Await(ctx, func(s prosodytest.Stanza) bool { return s.Attr["id"] == "held" })
			if code := answer.Find("reason", "urn:usher:0").Attr["code"]; err != nil || answer.ErrorCondition() != "not-authorized" || code != "stopping" {
				t.Errorf("answered %s, %v", answer, err)
			}
		})
	}
}

// TestServeStore checks that usher has a store by default. Only serve creates it, and nobody else can read it.
func TestServeStore(t *testing.T) {
	served(t, componentSecret)
	whole, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bare := strings.Replace(string(whole), "store:\n  path: usher.db # in the temporary folder\n", "", 1)
	state := filepath.Join(t.TempDir(), "state", "usher")
	t.Setenv("STATE_DIRECTORY", state+":/nowhere/else")
	write(t, "usher.yaml", bare)
	file := filepath.Join(state, "focus.meet.example.com.db")
	sentence := "Sessions, grants and waiting requests are kept in " + file

	if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, sentence) {
		t.Errorf("config check: %+v", r)
	}
	if _, err := os.Stat(filepath.Dir(state)); err == nil {
		t.Error("config check has created a folder")
	}
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	if !strings.Contains(stderr.String(), sentence) {
		t.Error("the log does not say where the store is")
	}
	for path, want := range map[string]os.FileMode{state: 0o700, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}

	// The folder cannot be created.
	for _, folder := range []string{"/proc/nowhere", filepath.Join(filepath.Dir(file), "focus.meet.example.com.db")} {
		t.Setenv("STATE_DIRECTORY", folder)
		r := command(t, "", "serve", "-c", "usher.yaml")
		if r.status != 1 || !strings.Contains(r.stderr, "store.path: could not make the folder for the store (mkdir "+folder) {
			t.Errorf("with %s: %+v", folder, r)
		}
	}

	// A store in memory holds no requests.
	write(t, "usher.yaml", strings.Replace(bare, "rooms:\n", "store: {path: memory}\nrooms:\n", 1))
	c, p, err := load([]string{"usher.yaml"}, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	if o := options(c, p, store.Memory(store.Options{}), zap.NewNop()); o.WaitHold != 0 || o.WaitHoldJitsi != 0 {
		t.Errorf("requests are held for %s and %s", o.WaitHold, o.WaitHoldJitsi)
	}
	const lost = "people show their tokens again"
	if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, lost) {
		t.Errorf("config check: %+v", r)
	}
	stderr = newLive()
	end = begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	if !strings.Contains(stderr.String(), lost) {
		t.Error("the log does not say what a restart loses")
	}
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
}

// TestServeWrongSecret checks that usher says how to correct a wrong secret, and tries again.
func TestServeWrongSecret(t *testing.T) {
	served(t, "another secret, which usher does not know")
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "xmpp.secret must equal component_secret", 2)
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	silent(t, stderr.String())
}

// TestLogFlood checks that a busy log loses no line, and that the level counts.
func TestLogFlood(t *testing.T) {
	var b strings.Builder
	log, _, err := logger(config.Log{Level: "info", Format: "json"}, &b)
	if err != nil {
		t.Fatal(err)
	}
	const flood = 5000
	for range flood {
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
	}
	count := func(level string) int { return strings.Count(b.String(), `"level":"`+level+`"`) }
	if count("debug") != 0 || count("warn") != flood || count("info") != flood {
		t.Errorf("%d debug, %d info, %d warn", count("debug"), count("info"), count("warn"))
	}
}
