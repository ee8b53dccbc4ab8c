package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestMisspelled plays a newcomer who misspells the service to guard, before and after Prosody reads usher's lines: no command says
// that all is well.
func TestMisspelled(t *testing.T) {
	file, err := filepath.Abs(filepath.Join("testdata", "misspelled.golden"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	here := workingDir(t)
	t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
	const prosody = "authentication = \"anonymous\"\nVirtualHost \"meet.example.com\"\nComponent \"conference.meet.example.com\" \"muc\"\n"
	write(t, "prosody.cfg.lua", prosody)
	write(t, "usher.yaml", `xmpp: {domain: focus.meet.example.com, server: 127.0.0.1:1, secret: 00112233445566778899aabbccddeeff}
rooms: {services: [conference.meet.exmaple.com]}
vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: ffeeddccbbaa99887766554433221100}}
prosody: {files: [prosody.cfg.lua]}
`)
	var transcript strings.Builder
	say := func(args ...string) {
		r := command(t, "", append(args, "-c", "usher.yaml")...)
		transcript.WriteString("$ usher " + strings.Join(args, " ") + " -c usher.yaml\n")
		if args[1] == "prosody" && len(args) == 2 {
			r.stdout = "[lines]\n"
		}
		transcript.WriteString(r.stdout + r.stderr + "\n")
	}
	say("config", "check")
	say("config", "prosody")
	say("config", "prosody", "--check")
	say("config", "prosody", "--output", "usher.cfg.lua")
	write(t, "prosody.cfg.lua", prosody+"Include \"usher.cfg.lua\"\n")
	say("config", "check")
	say("config", "prosody", "--check")
	say("config", "prosody", "prosody.cfg.lua")
	r := command(t, "", "doctor", "-c", "usher.yaml", "--watch", "0s")
	for line := range strings.Lines(r.stdout) {
		if strings.HasPrefix(line, "warn  file") {
			transcript.WriteString(line)
		}
	}
	golden(t, file, strings.ReplaceAll(transcript.String(), here, "/etc/prosody"))
}

// TestLockedOut checks that the commands say so if accounts can no longer log in.
func TestLockedOut(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
	write(t, "prosody.cfg.lua", "authentication = \"internal_hashed\"\nVirtualHost \"meet.example.com\"\nComponent \"conference.meet.example.com\" \"muc\"\n")
	write(t, "usher.yaml", `xmpp: {domain: focus.meet.example.com, secret: 00112233445566778899aabbccddeeff}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: ffeeddccbbaa99887766554433221100}}
prosody: {files: [prosody.cfg.lua]}
`)
	const text = "prosody prosody.cfg.lua:1: kind: token makes meet.example.com anonymous: accounts there can no longer log in"
	for lead, args := range map[string][]string{
		"note: ": {"config", "check"}, "\nnote: ": {"config", "prosody"}, "hint     ": {"config", "prosody", "--check"},
	} {
		if r := command(t, "", append(args, "-c", "usher.yaml")...); r.status != 0 || !strings.Contains("\n"+r.stdout+"\n"+r.stderr, lead+text) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
