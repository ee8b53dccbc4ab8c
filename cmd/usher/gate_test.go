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

// TestDebian follows the README on Debian: it imports Prosody's files, writes the lines into a file that the last line of
// prosody.cfg.lua includes, and checks them. A real Prosody reads the result, and the cast of the demo shows that the gate
// holds. A second run writes the same lines. usher then finds later additions that open the gate.
func TestDebian(t *testing.T) {
	for _, enforcement := range []config.Enforcement{config.MembersOnly, config.Module} {
		t.Run(string(enforcement), func(t *testing.T) {
			field(t, "debian-guests")
			here := workingDir(t)
			os.Remove("usher.yaml")
			modules, lines, main := filepath.Join(here, "modules"), filepath.Join(here, "usher.cfg.lua"), filepath.Join(here, "prosody.cfg.lua")
			vhosts := "conf.d/meet.example.com.cfg.lua"
			edit(t, vhosts, `plugin_paths = { "`, `plugin_paths = { "`+modules+`", "`)

			output(t, "usher.yaml", "config", "import", "prosody", "prosody.cfg.lua")
			edit(t, "usher.yaml", "xmpp:\n", "xmpp:\n  secret: "+componentSecret+"\n")
			edit(t, "usher.yaml", "rooms:\n", "rooms:\n  enforcement: "+string(enforcement)+"\n")
			if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, "Prosody's files do not make the gate") {
				t.Errorf("config check: %+v", r)
			}
			if enforcement == config.Module {
				if r := configProsodyCommand(t, "--module", modules); r.status != 0 {
					t.Fatalf("%+v", r)
				}
			}
			// The cast shows its tokens to usher only; otherwise Prosody would refuse the bad ones first.
			prosody := func(args ...string) result {
				t.Helper()
				return configProsodyCommand(t, args...)
			}
			const provider = "--authentication=jitsi-anonymous"
			if r := prosody("--check", provider); r.status != 0 || !strings.HasSuffix(r.stdout, keepsOut+"They are not in effect yet: "+main+" does not include them.\n") {
				t.Errorf("before they are written: %+v", r)
			}
			if _, err := os.Stat(lines); err == nil {
				t.Error("--check has written the lines")
			}
			if r := prosody("--output", "usher.cfg.lua", provider); r.status != 0 || !strings.Contains(r.stdout, "Include \""+lines+"\"") {
				t.Fatalf("%+v", r)
			}
			written, err := os.ReadFile(lines)
			stat, statErr := os.Stat(lines)
			if err != nil || statErr != nil || stat.Mode().Perm() != 0o640 || !strings.Contains(string(written), "--   Include \""+lines+"\"") {
				t.Fatal(err, stat, string(written))
			}
			before, err := os.ReadFile(main)
			if err != nil {
				t.Fatal(err)
			}
			write(t, main, string(before)+"\nInclude \""+lines+"\"\n")
			for _, files := range [][]string{{main}, {main, lines}, {"--check", provider}} {
				if r := prosody(files...); r.status != 0 {
					t.Errorf("%v: %+v", files, r)
				}
			}
			if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 || !strings.Contains(r.stdout, "Prosody's files make the gate.") {
				t.Errorf("config check: %+v", r)
			}

			st := &stage{scene: scene{
				focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "my_app", audience: "jitsi",
				tokens: "meet.example.com", guests: "guest.meet.example.com", account: "focus@auth.meet.example.com",
				module: enforcement == config.Module,
			}, appSecret: appSecret}
			st.Server = prosodytest.Start(t, prosodytest.Options{
				Config: fmt.Sprintf("Include %q\n", main), Users: map[string]string{st.account: jicofoPassword},
			})
			playThrough(t, st, "", st.ComponentAddr)

			if r := prosody("--output", lines, provider); r.status != 0 {
				t.Errorf("%+v", r)
			}
			if again, err := os.ReadFile(lines); err != nil || !bytes.Equal(again, written) {
				t.Errorf("the second time it writes\n%s\nbefore\n%s (%v)", again, written, err)
			}
			// An upgrade of Jitsi adds a module that decides beside usher.
			edit(t, vhosts, `"muc_wait_for_host";`, `"muc_wait_for_host"; "muc_allowners";`)
			// With usher's module the lines set the whole list of modules, so the new one is not loaded.
			found := enforcement == config.MembersOnly
			if r := prosody(main); (r.status != 0) != found || strings.Contains(r.stdout, "the module muc_allowners is still loaded") != found {
				t.Errorf("with the new module: %+v", r)
			}
			if r := prosody("--check", provider); r.status != 0 {
				t.Errorf("new lines do not help: %+v", r)
			}
			write(t, "conf.d/after.cfg.lua", "Component \"conference.meet.example.com\" \"muc\"\n  restrict_room_creation = false\n")
			write(t, main, string(before)+"\nInclude \""+lines+"\"\nInclude \"conf.d/after.cfg.lua\"\n")
			for _, files := range [][]string{{main}, {"--check", provider}} {
				if r := prosody(files...); r.status != 1 || !strings.Contains(r.stdout, "anybody can create rooms") {
					t.Errorf("%v does not find the file after the lines: %+v", files, r)
				}
			}
		})
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
	stop, err := j.serve(t.Context(), "usher.yaml", "USHER_XMPP_SERVER="+j.ComponentAddr)
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
		name, now, vhost string // what Prosody has now, and what usher.yaml says
		chosen           []string
		change           func(*token.Claims) // of the owner's token
		provider         string
		resumes, knows   bool // a connection, the features
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
				t.Errorf("the others have noticed, or %s has become %s", was, romeo.JID())
			}
		})
	}
}

// TestFeaturesOfAnotherRoom shows what the lines say of the provider token: nobody compares the room of the connection's token,
// so its features count in another room, too, for somebody that usher lets in there otherwise.
func TestFeaturesOfAnotherRoom(t *testing.T) {
	j := startJitsi(t, "token", "{kind: token, app_id: my_app, app_secret: "+appSecret+"}")
	owner, elsewhere := j.token(nil), j.token(func(c *token.Claims) { c.Room = "elsewhere"; forbidsRecording(c) })
	for nick, connects := range map[string]string{"romeo": owner, "juliet": elsewhere} {
		if _, own := j.enters(nick, "meet.example.com", connects, owner); standing(own) != hostStanding || hasPermissions(own) == (connects == elsewhere) {
			t.Errorf("%s: %s", nick, own)
		}
	}
}
