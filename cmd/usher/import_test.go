package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestImportProblems checks that the to-do list of an import has problems of keys and secrets, and that --trusted must name an
// existing virtual host.
func TestImportProblems(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "prosody.cfg.lua", `VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "a"
  asap_key_server = "http://keys.example.com"
VirtualHost "staff.meet.example.com"
  authentication = "internal_hashed"
Component "conference.meet.example.com" "muc"
Component "focus.meet.example.com"
  component_secret = "changeme"
`)
	r := command(t, "", "config", "import", "prosody", "prosody.cfg.lua", "--trusted", "staff.meet.example.com")
	for _, want := range []string{
		"# To do: prosody prosody.cfg.lua:4: vhosts.meet.example.com.asap_key_server: want https://",
		"# To do: prosody prosody.cfg.lua:9: xmpp.secret: is an example",
	} {
		if r.status != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("status %d, nothing mentions %s:\n%s%s", r.status, want, r.stdout, r.stderr)
		}
	}
	write(t, ".env", "ENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_ASAP_KEYSERVER=ftp://keys.example.com\n")
	r = command(t, "", "config", "import", "env", ".env")
	if want := "# To do: docker .env:4 JWT_ASAP_KEYSERVER: vhosts.meet.jitsi.asap_key_server: want https://"; !strings.Contains(r.stdout, want) {
		t.Errorf("status %d, nothing mentions %s:\n%s%s", r.status, want, r.stdout, r.stderr)
	}
	r = command(t, "", "config", "import", "prosody", "prosody.cfg.lua", "--trusted", "stuff.meet.example.com")
	want := "command line: --trusted stuff.meet.example.com: Prosody's configuration has no VirtualHost of that name; " +
		"it has these: meet.example.com, staff.meet.example.com\n"
	if r.status != statusFailed || r.stdout != "" || r.stderr != want {
		t.Errorf("status %d, got %s%s, want %s", r.status, r.stdout, r.stderr, want)
	}
}

// TestNoFiles gives the commands a pipe without a writer and a device without an end: each command ends and says why.
func TestNoFiles(t *testing.T) {
	staged(t)
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "/dev/zero"} {
		for _, args := range [][]string{
			{"config", "check", "-c", name}, {"serve", "-c", name}, {"doctor", "-c", name}, {"config", "import", "env", name}, {"config", "import", "prosody", name},
			{"token", "mint", "--app-id", "a", "--room", "r", "--sub", "s", "--secret-file", name},
			{"token", "mint", "--app-id", "a", "--room", "r", "--sub", "s", "--key-file", name},
			{"config", "prosody", "-c", "issuers.yaml", "--output", name},
			{"config", "prosody", "-c", "issuers.yaml", name},
		} {
			r := command(t, "", args...)
			want := "it is a pipe"
			if name != "pipe" {
				want = "it is a device"
			}
			status := statusFailed
			if args[0] == "serve" {
				status = statusMisconfigured
			}
			if r.status != status || !strings.Contains(r.stderr, want) {
				t.Errorf("%q: status %d, %s%s", args, r.status, r.stdout, r.stderr)
			}
		}
	}
	// A running usher takes fingerprints of its files, even if they have become pipes or devices.
	at := time.AfterFunc(time.Minute, func() { panic("the fingerprint of a pipe does not end") })
	defer at.Stop()
	pipe, err := filepath.Abs("pipe")
	if err != nil {
		t.Fatal(err)
	}
	if fingerprint([]string{pipe, "/dev/zero"}) == fingerprint([]string{pipe}) {
		t.Error("the fingerprint leaves a file out")
	}
}
