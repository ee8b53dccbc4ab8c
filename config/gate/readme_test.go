package gate_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config/gate"
)

var update = flag.Bool("update", false, "write README.md")

// TestReadme checks that README.md is what the table says.
func TestReadme(t *testing.T) {
	want := readme()
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile("README.md")
	if err != nil || string(is) != want {
		t.Errorf("README.md is not what the table says (%v): go generate ./config/gate", err)
	}
}

// TestOption checks that the lines hold nothing twice, and that each option says where it is from.
func TestOption(t *testing.T) {
	for name, options := range map[string][]gate.Option{
		"rooms": gate.Rooms(false), "rooms with the module": gate.Rooms(true), "breakout": gate.Breakout(), "lobby": gate.Lobby(),
	} {
		seen := map[string]bool{}
		for _, o := range options {
			if seen[o.Name] || o.Why == "" || o.Source == "" {
				t.Errorf("%s: %+v", name, o)
			}
			seen[o.Name] = true
		}
	}
}

// TestDefeats checks which values defeat the gate.
func TestDefeats(t *testing.T) {
	is := func(option string, value any) bool {
		for _, d := range gate.Defeats() {
			if d.Option == option && d.Is != nil && d.Is(value) {
				return true
			}
		}
		return false
	}
	for _, test := range []struct {
		option string
		value  any
		want   bool
	}{
		{"host_user_role", "prosody:admin", true},
		{"host_user_role", "prosody:guest", false},
		{"server_user_role", []any{"prosody:guest", "prosody:admin"}, true},
		{"public_user_role", "prosody:member", false},
		{"add_permissions", map[string]any{"prosody:guest": []any{"muc:create-room"}}, true},
		{"add_permissions", map[string]any{"prosody:guest": "muc:automatic-ownership"}, true},
		{"add_permissions", map[string]any{"prosody:registered": []any{"x", "usher:enter-open-rooms"}}, true},
		{"add_permissions", map[string]any{"prosody:registered": []any{"x", "muc_affiliated_only:enter-open-rooms"}}, true},
		{"add_permissions", map[string]any{"prosody:admin": []any{"muc:create-room"}}, false},
		{"add_permissions", map[string]any{"prosody:guest": []any{"muc:list-rooms"}}, false},
		{"add_permissions", []any{}, false},
		{"authentication", "anonymous", true},
		{"authentication", "jitsi-anonymous", true},
		{"authentication", "token", true},
		{"authentication", "hybrid_matrix_token", true},
		{"authentication", "insecure", true},
		{"authentication", "internal_hashed", false},
		{"authentication", "ldap", false},
	} {
		if got := is(test.option, test.value); got != test.want {
			t.Errorf("%s = %v: %v", test.option, test.value, got)
		}
	}
}

func readme() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# What Prosody must say")
	p("")
	p("<!-- Made from the table in this folder: go generate ./config/gate -->")
	p("")
	p("usher needs no plugin. A stock Prosody, 0.12 or 13, is a gate with configuration alone: only usher creates rooms, and only a JID")
	p("to which usher, or an owner inside, gave an affiliation enters one. `usher config prosody` writes these lines for your Prosody,")
	p("`usher config prosody --check` compares, and `usher doctor` tries them out.")
	p("")
	p("```lua")
	b.WriteString(gate.Server{
		Domain: "focus.meet.example.com", Secret: "32 bytes or more, the same as in usher's xmpp.secret",
		VHosts: []gate.VHost{
			{Domain: "meet.example.com", Authentication: "anonymous", Why: "people with a token; beside Jitsi, its own stays"},
			{Domain: "guest.meet.example.com", Authentication: "anonymous", Why: "guests"},
		},
		Service: "conference.meet.example.com",
	}.Lua())
	p("```")
	p("")
	p("In front of Jicofo, its JID is among the admins of the rooms, too.")
	p("")
	p("## Options")
	p("")
	p("Below the guarded MUC service, except `%s`, which is for all hosts. Without an option that has an entry", gate.AdminsOwn.Name)
	p("under “without it”, the gate is open. Without one of the others, usher cannot work as it should.")
	p("")
	p("| option | why | without it | where Prosody reads it |")
	p("|---|---|---|---|")
	for _, o := range append([]gate.Option{gate.AdminsOwn}, gate.Rooms(false)...) {
		line := "`" + o.Line() + "`"
		if o.Default {
			line += " (the default)"
		}
		p("| %s | %s | %s | %s |", line, o.Why, o.Open, o.Source)
	}
	o := gate.LobbyOff
	p("")
	tells := gate.TellsTo("focus.meet.example.com")
	p("With `rooms.enforcement: module`, `%s` (%s), `%s` is in `modules_enabled`, and there is `%s`", o.Line(), o.Why, gate.Module, tells.Line())
	p("(%s). Without that option, or with another domain, the module keeps out strangers all the same; usher asks the rooms instead.", tells.Why)
	p("`%s`, its name in earlier versions, still loads it. Jitsi's breakout service has the module and the option, too.", gate.ModuleAlias)
	p("Jitsi's service of breakout rooms needs %s. That of lobbies needs %s.", lines(gate.Breakout()), lines(gate.Lobby()))
	p("")
	p("Where several ushers share a store (`store.url`), usher's own component needs `%s`: %s (%s).", gate.KickOld.Line(), gate.KickOld.Why, gate.KickOld.Source)
	p("Without a shared store it must not be set: two ushers that run at once would displace each other again and again.")
	p("")
	p("## What defeats them")
	p("")
	p("| where | option | set to | what happens | write instead | source |")
	p("|---|---|---|---|---|---|")
	for _, d := range gate.Defeats() {
		p("| %s | `%s` | %s | %s | `%s` | %s |", d.On, d.Option, d.Set, d.Means, d.Instead, d.Source)
	}
	p("")
	p("Modules that decide beside usher defeat them as well: `usher config modules` lists them.")
	p("")
	p("## Jicofo")
	p("")
	p("| jicofo.conf | docker-jitsi-meet, `.env` | otherwise |")
	p("|---|---|---|")
	for _, j := range []gate.JicofoSetting{gate.ClientProxy("focus.meet.example.com"), gate.NoAutoOwner, gate.NoJicofoAuth} {
		docker := "set by the image"
		if j.Docker != "" {
			docker = "`" + j.Docker + "`"
		}
		p("| `%s` | %s | %s |", j.Conf, docker, j.Otherwise)
	}
	return b.String()
}

func lines(options []gate.Option) string {
	var all []string
	for _, o := range options {
		all = append(all, "`"+o.Line()+"`")
	}
	return strings.Join(all, ", ")
}
