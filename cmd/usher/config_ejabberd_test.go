package main

import (
	"os"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestEjabberdOutput checks that usher writes a file with the lines for ejabberd, again, and over no other file.
func TestEjabberdOutput(t *testing.T) {
	staged(t)
	ejabberd := func(args ...string) result {
		t.Helper()
		return command(t, "", append([]string{"config", "ejabberd", "-c", "usher.yaml"}, args...)...)
	}
	for range 2 {
		if r := ejabberd("--output", "usher.yml"); r.status != 0 || !strings.Contains(r.stdout, "\n  include_config_file: "+workingDir(t)+"/usher.yml\n") {
			t.Errorf("%+v", r)
		}
	}
	is, err := os.ReadFile("usher.yml")
	if err != nil || !config.IsEjabberdLines(string(is)) || !strings.Contains(string(is), componentSecret) {
		t.Errorf("%s, %v", is, err)
	}
	if stat, err := os.Stat("usher.yml"); err != nil || stat.Mode().Perm() != 0o640 {
		t.Error(stat.Mode(), err)
	}
	write(t, "ejabberd.yml", "hosts: [localhost]\n")
	if r := ejabberd("--output", "ejabberd.yml"); r.status != 1 || !strings.Contains(r.stderr, "was not written by usher") {
		t.Errorf("%+v", r)
	}
	if r := ejabberd("--output", ""); r.status != statusUsage {
		t.Errorf("%+v", r)
	}
}

// TestEjabberd has an ejabberd read the printed lines beside its own files, and checks that nobody gets past usher.
func TestEjabberd(t *testing.T) {
	staged(t)
	write(t, "usher.yaml", `xmpp: {domain: focus.meet.example.com, secret_file: component.secret}
rooms: {services: [conference.meet.example.com]}
store: {path: usher.db}
vhosts:
  meet.example.com: {kind: token, app_id: demo, app_secret_file: app.secret}
  guest.meet.example.com: {kind: guest}
`)
	server := ejabberdtest.Start(t, ejabberdtest.Options{Configure: func(s *prosodytest.Server) string {
		t.Setenv("USHER_XMPP_SERVER", s.ComponentAddr)
		if r := command(t, "", "config", "ejabberd", "-c", "usher.yaml", "--output", "usher.yml"); r.status != 0 {
			t.Fatalf("%+v", r)
		}
		lines, err := os.ReadFile("usher.yml")
		if err != nil {
			t.Fatal(err)
		}
		return string(lines) + "modules: {mod_muc: {access_create: all}}\n" // for all other hosts, as Debian's ejabberd.yml has it
	}})
	r := startServing(t, server)
	guest := server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})
	rude := server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})
	joins := func(c *prosodytest.Client, room, nick, refused string) {
		t.Helper()
		if own, err := c.Join(t.Context(), room, nick); err != nil || own.ErrorCondition() != refused {
			t.Errorf("%s joins %s: %s, %v; want %q", nick, room, own, err, refused)
		}
	}
	asked := func(c *prosodytest.Client, attr, want string) {
		t.Helper()
		if got, err := asks(t.Context(), c, demoScene.room(), attr); err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	asked(guest, "", "host-absent")
	joins(rude, "fresh@"+demoScene.service, "rude", "forbidden")
	r.ask(tokenOf(t, appSecret), "ready")
	joins(r.person, demoScene.room(), "host", "")
	joins(rude, demoScene.room(), "rude", "registration-required")
	asked(guest, "", "ready")
	joins(guest, demoScene.room(), "guest", "")
	silent(t, r.log.String())
}
