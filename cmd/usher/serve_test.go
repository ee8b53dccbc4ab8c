package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// served starts a private Prosody with a usher.yaml for it, in the folder that the test is then in.
func served(t *testing.T, prosodysSecret string) {
	t.Helper()
	staged(t)
	server := prosodytest.Start(t, prosodytest.Options{Config: strings.ReplaceAll(demoProsody, "{component.secret}", prosodysSecret)})
	write(t, "usher.yaml", strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr))
}

func TestServe(t *testing.T) {
	served(t, componentSecret)
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	if !strings.Contains(stderr.String(), "users.example.com: everybody whom the server knows by password is a host") {
		t.Error("the log does not begin with the policy in words")
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

// TestServeWrongSecret checks that usher says what to do about it, and tries again.
func TestServeWrongSecret(t *testing.T) {
	served(t, "what the server knows is another")
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "xmpp.secret must equal component_secret", 2)
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	silent(t, stderr.String())
}

// TestLogFlood checks that a flood is thinned out, warnings never, and that the level counts.
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
	if count("debug") != 0 || count("warn") != flood || count("info") < 100 || count("info") > flood/2 {
		t.Errorf("%d debug, %d info, %d warn", count("debug"), count("info"), count("warn"))
	}
}
