package main

import (
	"strings"
	"testing"
)

// TestConfigJitsi checks that usher warns of a config.js that leads elsewhere, and that its lines mend that.
func TestConfigJitsi(t *testing.T) {
	staged(t)
	write(t, "config.js", "var config = {\n  tokenAuthUrl: 'https://elsewhere.example.com/{room}',\n};\n")
	args := []string{"config", "jitsi", "-c", "portal-secret.yaml"}
	t.Setenv("USHER_SOURCES_MEET", "config.js")
	r := command(t, "", args...)
	if want := "warning: meet config.js:2: tokenAuthUrl leads to https://elsewhere.example.com/{room}, and not to the portal\n" +
		"         -> config.tokenAuthUrl = 'https://login.example.com/login?state={state}&room={room}';\n"; r.status != 0 || !strings.Contains(r.stderr, want) {
		t.Errorf("status %d, got %s, want %s", r.status, r.stderr, want)
	}
	write(t, "config.js", "var config = {\n  tokenAuthUrl: 'https://elsewhere.example.com/{room}',\n};\n"+r.stdout)
	if r := command(t, "", args...); r.status != 0 || r.stderr != "" {
		t.Errorf("with its lines: status %d, %s", r.status, r.stderr)
	}
	if r := command(t, "", "config", "check", "-c", "portal-secret.yaml"); r.status != 0 || strings.Contains(r.stdout, "warning:") {
		t.Errorf("with its lines: status %d, %s", r.status, r.stdout)
	}
}
