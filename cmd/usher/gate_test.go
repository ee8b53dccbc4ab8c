package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// debian is a Debian install of Jitsi with an operator who follows the README.
type debian struct {
	*testing.T
	enforcement    config.Enforcement
	main, lines    string // prosody.cfg.lua, and the file with usher's lines
	before         string // prosody.cfg.lua before it includes the lines
	modules, vhost string // a folder in plugin_paths, and the file of the main virtual host
}

// jitsiAnonymous leaves the cast's tokens to usher; otherwise Prosody would refuse the bad ones first.
const jitsiAnonymous = "--authentication=jitsi-anonymous"

// TestDebian follows the README on Debian: it imports Prosody's files, writes the lines into a file that the last line of
// prosody.cfg.lua includes, and checks them. A real Prosody reads the result, and the cast of the demo shows that the gate
// holds. A second run writes the same lines. usher then finds later additions that open the gate.
func TestDebian(t *testing.T) {
	for _, enforcement := range []config.Enforcement{config.MembersOnly, config.Module} {
		t.Run(string(enforcement), func(t *testing.T) {
			field(t, "debian-guests")
			here := workingDir(t)
			d := &debian{
				T: t, enforcement: enforcement, main: filepath.Join(here, "prosody.cfg.lua"), lines: filepath.Join(here, "usher.cfg.lua"),
				modules: filepath.Join(here, "modules"), vhost: "conf.d/meet.example.com.cfg.lua",
			}
			d.imports()
			written := d.writes()
			d.includes()
			d.plays()
			d.writesAgain(written)
			d.findsLaterChanges()
		})
	}
}

// imports makes usher.yaml from Prosody's files, and writes usher's module if it is chosen.
func (d *debian) imports() {
	d.Helper()
	os.Remove("usher.yaml")
	edit(d.T, d.vhost, `plugin_paths = { "`, `plugin_paths = { "`+d.modules+`", "`)
	output(d.T, "usher.yaml", "config", "import", "prosody", "prosody.cfg.lua")
	edit(d.T, "usher.yaml", "xmpp:\n", "xmpp:\n  secret: "+componentSecret+"\n")
	edit(d.T, "usher.yaml", "rooms:\n", "rooms:\n  enforcement: "+string(d.enforcement)+"\n")
	if r := command(d.T, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, "Prosody's files do not make the gate") {
		d.Errorf("config check: %+v", r)
	}
	if d.enforcement == config.Module {
		if r := configProsodyCommand(d.T, "--module", d.modules); r.status != 0 {
			d.Fatalf("%+v", r)
		}
	}
}

// writes writes the lines to their file, and returns them.
func (d *debian) writes() []byte {
	d.Helper()
	if r := configProsodyCommand(d.T, "--check", jitsiAnonymous); r.status != 0 || !strings.HasSuffix(r.stdout, keepsOut+"They are not in effect yet: "+d.main+" does not include them.\n") {
		d.Errorf("before they are written: %+v", r)
	}
	if _, err := os.Stat(d.lines); err == nil {
		d.Error("--check has written the lines")
	}
	if r := configProsodyCommand(d.T, "--output", "usher.cfg.lua", jitsiAnonymous); r.status != 0 || !strings.Contains(r.stdout, "Include \""+d.lines+"\"") {
		d.Fatalf("%+v", r)
	}
	written, err := os.ReadFile(d.lines)
	stat, statErr := os.Stat(d.lines)
	if err != nil || statErr != nil || stat.Mode().Perm() != 0o640 || !strings.Contains(string(written), "--   Include \""+d.lines+"\"") {
		d.Fatal(err, stat, string(written))
	}
	return written
}

// includes adds the lines at the end of prosody.cfg.lua, and checks that usher misses nothing then.
func (d *debian) includes() {
	d.Helper()
	before, err := os.ReadFile(d.main)
	if err != nil {
		d.Fatal(err)
	}
	d.before = string(before)
	write(d.T, d.main, d.before+"\nInclude \""+d.lines+"\"\n")
	for _, files := range [][]string{{d.main}, {d.main, d.lines}, {"--check", jitsiAnonymous}} {
		if r := configProsodyCommand(d.T, files...); r.status != 0 {
			d.Errorf("%v: %+v", files, r)
		}
	}
	if r := command(d.T, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, "Prosody's files make the gate.") {
		d.Errorf("config check: %+v", r)
	}
}

// plays starts Prosody with these files, and plays the cast.
func (d *debian) plays() {
	d.Helper()
	st := &stage{scene: scene{
		focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "my_app", audience: "jitsi",
		tokens: "meet.example.com", guests: "guest.meet.example.com", account: "focus@auth.meet.example.com",
		module: d.enforcement == config.Module,
	}, appSecret: appSecret}
	st.Server = prosodytest.Start(d.T, prosodytest.Options{
		Config: fmt.Sprintf("Include %q\n", d.main), Users: map[string]string{st.account: jicofoPassword},
	})
	playThrough(d.T, st, "", st.ComponentAddr)
}

// writesAgain checks that a second run writes the same lines.
func (d *debian) writesAgain(written []byte) {
	d.Helper()
	if r := configProsodyCommand(d.T, "--output", d.lines, jitsiAnonymous); r.status != 0 {
		d.Errorf("%+v", r)
	}
	if again, err := os.ReadFile(d.lines); err != nil || !bytes.Equal(again, written) {
		d.Errorf("the second time it writes\n%s\nbefore\n%s (%v)", again, written, err)
	}
}

// findsLaterChanges adds to Prosody's files what opens the gate, and checks that usher finds it.
func (d *debian) findsLaterChanges() {
	d.Helper()
	// An upgrade of Jitsi adds a module that decides beside usher.
	edit(d.T, d.vhost, `"muc_wait_for_host";`, `"muc_wait_for_host"; "muc_allowners";`)
	// With usher's module the lines set the whole list of modules, so the new one is not loaded.
	found := d.enforcement == config.MembersOnly
	if r := configProsodyCommand(d.T, d.main); (r.status != 0) != found || strings.Contains(r.stdout, "the module muc_allowners is still loaded") != found {
		d.Errorf("with the new module: %+v", r)
	}
	if r := configProsodyCommand(d.T, "--check", jitsiAnonymous); r.status != 0 {
		d.Errorf("new lines do not help: %+v", r)
	}
	write(d.T, "conf.d/after.cfg.lua", "Component \"conference.meet.example.com\" \"muc\"\n  restrict_room_creation = false\n")
	write(d.T, d.main, d.before+"\nInclude \""+d.lines+"\"\nInclude \"conf.d/after.cfg.lua\"\n")
	for _, files := range [][]string{{d.main}, {"--check", jitsiAnonymous}} {
		if r := configProsodyCommand(d.T, files...); r.status != 1 || !strings.Contains(r.stdout, "anybody can create rooms") {
			d.Errorf("%v does not find the file after the lines: %+v", files, r)
		}
	}
}

// keepsOut is the report of --check on correct lines.
const keepsOut = "With usher's lines, Prosody keeps out everybody that usher has not let in.\n"

// TestStale checks that the commands report lines that lack a later change of Prosody's files.
func TestStale(t *testing.T) {
	field(t, "debian-guests")
	check := func(pending string) {
		t.Helper()
		if r := configProsodyCommand(t, "--check"); r.status != 0 || !strings.HasSuffix(r.stdout, keepsOut+pending) {
			t.Errorf("--check: %+v", r)
		}
	}
	here := workingDir(t)
	check("They are not in effect yet: " + here + "/prosody.cfg.lua does not include them.\n")
	unread := "usher's lines are not read: the last line of " + here + "/prosody.cfg.lua must be this one; "
	if r := configProsodyCommand(t, "prosody.cfg.lua"); r.status != 1 ||
		!strings.HasPrefix(r.stdout, "missing  prosody: "+unread) || !strings.Contains(r.stdout, "         -> Include \""+here+"/usher.cfg.lua\"\n") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "doctor", "-c", "usher.yaml", "--watch", "0s"); !strings.HasPrefix(r.stdout, "warn  file             prosody: "+unread) {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "config", "check", "-c", "usher.yaml"); !strings.Contains(r.stdout, unread) {
		t.Errorf("%+v", r)
	}
	output(t, "usher.cfg.lua", "config", "prosody", "-c", "usher.yaml")
	main, err := os.ReadFile("prosody.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "prosody.cfg.lua", string(main)+"\nInclude \"usher.cfg.lua\"\n")
	if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, "Prosody's files make the gate.") {
		t.Fatalf("%+v", r)
	}
	// The lines are those of an usher that shared a store, and does so no more.
	own, err := os.ReadFile("usher.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	edit(t, "usher.cfg.lua", "component_secret =", "component_conflict_resolve = \"kick_old\"\n  component_secret =")
	if r := command(t, "", "config", "check", "-c", "usher.yaml"); !strings.Contains(r.stdout, "they throw each other out again and again") ||
		!strings.Contains(r.stdout, "-> component_conflict_resolve = \"kick_new\"") || !strings.HasSuffix(r.stdout, "Prosody's files make the gate.\n") {
		t.Errorf("%+v", r)
	}
	write(t, "usher.cfg.lua", string(own))
	edit(t, "conf.d/meet.example.com.cfg.lua", `admins = { "`, `admins = { "new@auth.meet.example.com", "`)
	const says, mend = "the entry of admins new@auth.meet.example.com is lost", "-> write the lines again: usher config prosody -c "
	for _, args := range [][]string{{"config", "check"}, {"config", "prosody", "prosody.cfg.lua"}, {"doctor", "--watch", "0s"}} {
		if r := command(t, "", append(args, "-c", "usher.yaml")...); !strings.Contains(r.stdout, says) || !strings.Contains(r.stdout, mend) ||
			!strings.Contains(r.stdout, "/usher.cfg.lua, and restart Prosody") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	check("They are not in effect yet: " + here + "/usher.cfg.lua says something else. Write them again (--output), and restart Prosody.\n")
	if r := configProsodyCommand(t, "--output", "usher.cfg.lua"); r.status != 0 {
		t.Errorf("%+v", r)
	}
	check("")
}

// TestLinesOutput checks that usher writes a file with the lines completely or not at all.
func TestLinesOutput(t *testing.T) {
	field(t, "debian-guests")
	for _, args := range [][]string{
		{"--output", ""}, {"--output", "x", "prosody.cfg.lua"}, {"--output", "x", "--check"}, {"--authentication", "ldap"},
		{"--authentication", "anonymous", "prosody.cfg.lua"}, {"--module", ".", "--check"}, {"--module", ".", "--output", "x"},
	} {
		if r := configProsodyCommand(t, args...); r.status != statusUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
	write(t, "usher.cfg.lua", "-- as it was\n")
	if r := configProsodyCommand(t, "--output", "usher.cfg.lua"); r.status != 1 || !strings.Contains(r.stderr, "was not written by usher") {
		t.Errorf("over another file: %+v", r)
	}
	write(t, "empty.cfg.lua", "")
	for range 2 {
		if r := configProsodyCommand(t, "--output", "empty.cfg.lua"); r.status != 0 {
			t.Errorf("over an empty file, and its own: %+v", r)
		}
	}
	edit(t, "usher.yaml", "sources:\n  prosody: [prosody.cfg.lua]", `rooms: {services: [conference.meet.example.com]}
jicofo: {jid: focus@auth.meet.example.com}
vhosts: {guest.meet.example.com: {kind: guest}}`)
	edit(t, "usher.yaml", "xmpp:\n", "xmpp:\n  domain: focus.meet.example.com\n")
	r := configProsodyCommand(t, "--output", "usher.cfg.lua")
	if r.status != 1 || r.stdout != "" || !strings.Contains(r.stderr, "files: [/etc/prosody/prosody.cfg.lua]") {
		t.Errorf("%+v", r)
	}
	if is, err := os.ReadFile("usher.cfg.lua"); err != nil || string(is) != "-- as it was\n" {
		t.Errorf("it has become %q, %v", is, err)
	}
	if r := configProsodyCommand(t, "--output", "nowhere/usher.cfg.lua"); r.status != 1 {
		t.Errorf("%+v", r)
	}
	if left, _ := filepath.Glob(".usher-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// jitsiWithUsher is a server with stand-ins for Jitsi's providers of authentication and the lines of "usher config prosody". usher
// stands before a stand-in for Jicofo.
type jitsiWithUsher struct {
	*stage
	t     *testing.T
	lines string
}

const besideJitsi = "standup@conference.meet.example.com"

// startJitsi starts one. provider is the provider of the main virtual host before usher's lines, vhost is this virtual host in
// usher.yaml, and chosen are more arguments of "usher config prosody".
func startJitsi(t *testing.T, provider, vhost string, chosen ...string) *jitsiWithUsher {
	t.Helper()
	t.Chdir(t.TempDir())
	jitsi := prosodytest.JitsiOptions{
		Auth: provider, GuestAuth: "jitsi-anonymous", AppID: "my_app", AppSecret: appSecret, Permissions: true, Secret: componentSecret,
	}
	write(t, "prosody.cfg.lua", prosodytest.JitsiConfig(jitsi))
	write(t, "usher.yaml", "xmpp: {domain: focus.meet.example.com, secret: "+componentSecret+`}
rooms: {services: [conference.meet.example.com]}
jicofo: {jid: focus@auth.meet.example.com}
vhosts:
  meet.example.com: `+vhost+`
  guest.meet.example.com: {kind: guest}
prosody: {files: [prosody.cfg.lua]}
`)
	j := &jitsiWithUsher{stage: &stage{scene: jicofoScene, appSecret: appSecret}, t: t}
	j.issuer = "my_app"
	j.lines = output(t, "usher.cfg.lua", append([]string{"config", "prosody", "-c", "usher.yaml"}, chosen...)...)
	if r := configProsodyCommand(t, "prosody.cfg.lua", "usher.cfg.lua"); r.status != 0 {
		t.Errorf("%+v", r)
	}
	here := workingDir(t)
	o := jitsi.Options()
	o.Config = fmt.Sprintf("Include %q\nInclude %q\n", filepath.Join(here, "prosody.cfg.lua"), filepath.Join(here, "usher.cfg.lua"))
	j.Server = prosodytest.Start(t, o)
	j.jicofo = j.Jicofo(t, jitsi.Jicofo())
	stop, err := j.serve(t.Context(), "usher.yaml", "USHER_XMPP_SERVER="+j.ComponentAddr, opsListen+"=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(j.log())
		}
	})
	return j
}

// token returns a token, valid for an hour.
func (j *jitsiWithUsher) token(change func(*token.Claims)) string {
	j.t.Helper()
	compact, err := j.mint(appSecret, change)
	if err != nil {
		j.t.Fatal(err)
	}
	return compact
}

// enters connects a client with a token, asks usher with the same token or another, and joins. It returns the client and its own
// presence.
func (j *jitsiWithUsher) enters(nick, host, connects, shows string) (*prosodytest.Client, prosodytest.Stanza) {
	j.t.Helper()
	c := j.Client(j.t, prosodytest.ClientOptions{Host: host, Token: connects, Room: "standup", Transport: prosodytest.WebSocket, Resumable: true})
	attr := ""
	if shows != "" {
		attr = "token='" + shows + "'"
	}
	answer, err := c.IQ(j.t.Context(), "set", j.focus,
		"<conference xmlns='"+nsFocus+"' room='"+besideJitsi+"' machine-uid='"+nick+"' "+attr+"/>")
	if err != nil || answer.Child("conference", nsFocus).Attr["ready"] != "true" {
		j.t.Fatalf("%s gets %s, %v", nick, answer, err)
	}
	own, err := c.Join(j.t.Context(), besideJitsi, nick)
	if err != nil || own.Attr["type"] == "error" {
		j.t.Fatalf("%s gets %s, %v", nick, own, err)
	}
	return c, own
}

// hasPermissions reports whether an own presence lists the permissions of moderators. It does not if the session has features from
// a token: then the client reads its own token.
func hasPermissions(own prosodytest.Stanza) bool {
	return !own.Child("permissions", "http://jitsi.org/jitmeet").IsZero()
}

func forbidsRecording(c *token.Claims) { c.Features = map[string]bool{"recording": false} }

// TestProviders shows which provider the lines choose for each way to log in, whether a lost connection can then be resumed, and
// whether the features of a token reach the session.
func TestProviders(t *testing.T) {
	const oneIssuer = "{kind: token, app_id: my_app, app_secret: " + appSecret + "}"
	for _, test := range []struct {
		name, now, vhost string              // now is Prosody's provider before the lines, vhost the virtual host in usher.yaml
		chosen           []string            // arguments of "usher config prosody"
		change           func(*token.Claims) // of the owner's token
		provider         string              // the provider with the lines
		resumes, knows   bool                // a connection can be resumed; the session knows the features
	}{
		{"token stays", "token", oneIssuer, nil, forbidsRecording, "token", true, true},
		{"token stays, with what it would refuse", "token", "{kind: token, app_id: my_app, app_secret: " + appSecret +
			", accepted_issuers: [other, my_app], require_room: false}", nil,
			func(c *token.Claims) { c.Issuer, c.Room = "other", ""; forbidsRecording(c) }, "token", true, true},
		{"two issuers", "token", "{kind: token, issuers: [{app_id: my_app, app_secret: " + appSecret + "}, {app_id: other, app_secret: " +
			componentSecret + "}]}", nil, forbidsRecording, "jitsi-anonymous", true, false},
		{"chosen", "token", oneIssuer, []string{"--authentication", "jitsi-anonymous"}, forbidsRecording, "jitsi-anonymous", true, false},
		{"jitsi-anonymous stays", "jitsi-anonymous", oneIssuer, nil, forbidsRecording, "jitsi-anonymous", true, false},
		{"anonymous stays", "anonymous", oneIssuer, nil, forbidsRecording, "anonymous", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := startJitsi(t, test.now, test.vhost, test.chosen...)
			if says := `authentication = "` + test.provider + `"`; strings.Contains(j.lines, says) != (test.provider != test.now) {
				t.Errorf("the lines say\n%s", j.lines)
			}
			owner := j.token(test.change)
			romeo, own := j.enters("romeo", "meet.example.com", owner, owner)
			if standing(own) != hostStanding || hasPermissions(own) == test.knows {
				t.Errorf("the owner with a token that forbids recording: %s", own)
			}
			juliet, own := j.enters("juliet", "guest.meet.example.com", "", "")
			if standing(own) != memberStanding || hasPermissions(own) {
				t.Errorf("the guest: %s", own)
			}

			was := romeo.JID()
			juliet.Drain()
			romeo.Kill()
			if err := romeo.Resume(t.Context(), ""); !test.resumes {
				if err == nil || !strings.Contains(err.Error(), "item-not-found") {
					t.Errorf("resuming: %v", err)
				}
				return
			} else if err != nil {
				t.Fatalf("resuming: %v", err)
			}
			romeo.Sends("<message to='" + besideJitsi + "' type='groupchat'><body>Here I am</body></message>")
			juliet.Receives("<message from='" + besideJitsi + "/romeo'><body>Here I am</body></message>")
			if gone := slices.ContainsFunc(juliet.Drain(), func(s prosodytest.Stanza) bool {
				return s.Name == "presence" && s.Attr["from"] == besideJitsi+"/romeo"
			}); gone || romeo.JID() != was {
				t.Errorf("the others have noticed, or the JID %s has changed to %s", was, romeo.JID())
			}
		})
	}
}

// TestFeaturesOfAnotherRoom shows a limit of the provider token, which the lines mention: nobody compares the room of the
// connection's token. Its features count in every room that usher allows by another token.
func TestFeaturesOfAnotherRoom(t *testing.T) {
	j := startJitsi(t, "token", "{kind: token, app_id: my_app, app_secret: "+appSecret+"}")
	owner, elsewhere := j.token(nil), j.token(func(c *token.Claims) { c.Room = "elsewhere"; forbidsRecording(c) })
	for nick, connects := range map[string]string{"romeo": owner, "juliet": elsewhere} {
		if _, own := j.enters(nick, "meet.example.com", connects, owner); standing(own) != hostStanding || hasPermissions(own) == (connects == elsewhere) {
			t.Errorf("%s: %s", nick, own)
		}
	}
}
