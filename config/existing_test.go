package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// imported returns the usher.yaml of an import, with ours in it.
func imported(t *testing.T) string {
	t.Helper()
	yaml, err := config.Import{Prosody: []string{"prosody.cfg.lua"}}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("xmpp:\n", "xmpp:\n  secret: "+secretA+"\n", "rooms:\n", "rooms:\n  enforcement: module\n").Replace(string(yaml))
}

// TestLinesKeep does what an operator does, by import or with Prosody's files beneath usher.yaml: makes the lines and includes them at
// the end, twice. In each case Jitsi keeps everything that it needs, modules that decide beside usher are disabled, and the second
// lines are like the first.
func TestLinesKeep(t *testing.T) {
	for name, known := range map[string]struct {
		yaml  func(t *testing.T) string
		files []string
	}{
		"imported":     {imported, []string{"usher.yaml"}},
		"source":       {func(*testing.T) string { return ours + fromProsody }, []string{"usher.yaml"}},
		"command line": {func(*testing.T) string { return ours }, []string{"usher.yaml", "prosody.cfg.lua"}},
		"both": {func(*testing.T) string { return ours + fromProsody + "prosody: {files: [prosody.cfg.lua]}\n" },
			[]string{"usher.yaml"}},
	} {
		for _, chosen := range []string{"", "jitsi-anonymous", "token"} {
			t.Run(name+" "+chosen, func(t *testing.T) {
				inDebian(t)
				write(t, "usher.yaml", []byte(known.yaml(t)))
				c := load(t, known.files...)
				o := config.Lines{Authentication: chosen}
				lines, err := c.ProsodyLines(o)
				if err != nil {
					t.Fatal(err)
				}
				if before, err := c.CompareProsody(nil); err != nil || len(wrong(before)) == 0 {
					t.Errorf("nothing is wrong before: %v", err)
				}
				if checked, err := c.CheckLines(o); err != nil || len(wrong(checked)) > 0 {
					t.Errorf("wrong with the lines: %v, %v", wrong(checked), err)
				}
				write(t, "usher.cfg.lua", []byte(lines))
				main := debian[1] + "Include \"usher.cfg.lua\"\n"
				write(t, "prosody.cfg.lua", []byte(main))
				keepsJitsi(t, chosen)

				again := load(t, known.files...)
				if got, want := reveal(again), reveal(c); got != want {
					t.Errorf("with its own lines usher understands\n%s\nbefore\n%s", got, want)
				}
				if len(again.Warnings) > 0 {
					t.Errorf("warnings %v", again.Warnings)
				}
				if got, err := again.ProsodyLines(o); err != nil || got != lines {
					t.Errorf("with its own lines usher writes\n%s\nbefore\n%s (%v)", got, lines, err)
				}
				for _, files := range [][]string{nil, {"prosody.cfg.lua"}, {"prosody.cfg.lua", "usher.cfg.lua"}} {
					if after, err := again.CompareProsody(nil, files...); err != nil || len(wrong(after)) > 0 {
						t.Errorf("%v: wrong after: %v, %v", files, wrong(after), err)
					}
				}
				// A later addition is found, also in the file of usher's lines.
				write(t, "prosody.cfg.lua", []byte(main+"Component \"conference.meet.example.com\" \"muc\"\n  modules_disabled = { }\n"))
				for what, find := range map[string]func() ([]config.Finding, error){
					"CompareProsody": func() ([]config.Finding, error) { return again.CompareProsody(nil, "prosody.cfg.lua") },
					"CheckLines":     func() ([]config.Finding, error) { return again.CheckLines(o, "prosody.cfg.lua") },
				} {
					found, err := find()
					if found = wrong(found); err != nil || len(found) != 2 || found[0].Level != config.Defeats ||
						!strings.Contains(found[0].Text, "token_verification is still loaded") || !strings.Contains(found[1].Text, "token_affiliation is still loaded") {
						t.Errorf("%s of a later rival: %v, %v", what, found, err)
					}
				}
			})
		}
	}
}

// keepsJitsi checks what Prosody makes of the files of debian with usher's lines at their end.
func keepsJitsi(t *testing.T, chosen string) {
	t.Helper()
	p := evaluated(t)
	lists := []struct {
		section, option string
		want            []string
	}{
		{"", "plugin_paths", []string{"/usr/share/jitsi-meet/prosody-plugins/", config.ModuleFolder}},
		{"conference.meet.example.com", "modules_enabled", []string{"muc_hide_all", "muc_meeting_id", "muc_domain_mapper", "usher"}},
		{"conference.meet.example.com", "modules_disabled", []string{"muc_mam", "token_verification", "token_affiliation"}},
		{"conference.meet.example.com", "admins", []string{"focus@focus.meet.example.com", "focus@auth.meet.example.com", "jvb@auth.meet.example.com"}},
		{"", "admins", []string{"root@meet.example.com"}},
		{"breakout.meet.example.com", "modules_enabled", []string{"muc_hide_all", "muc_meeting_id", "muc_domain_mapper", "usher"}},
		{"lobby.meet.example.com", "modules_enabled", []string{"muc_hide_all"}},
		{"meet.example.com", "modules_enabled", []string{"bosh", "websocket", "smacks", "muc_lobby_rooms", "muc_breakout_rooms"}},
	}
	for _, l := range lists {
		s := p.Global
		if l.section != "" {
			s = p.Host(l.section)
		}
		got, _, _, _ := s.Strings(l.option)
		for _, want := range l.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s %s is %q, without %s", l.section, l.option, got, want)
			}
		}
	}
	for _, m := range p.Host("conference.meet.example.com").Modules() {
		if strings.HasPrefix(m.Name, "token_") {
			t.Errorf("%s is loaded", m.Name)
		}
	}
	want := map[string]string{"meet.example.com": "jitsi-anonymous", "guest.meet.example.com": "jitsi-anonymous", "auth.meet.example.com": "internal_hashed"}
	if chosen != "" {
		want["meet.example.com"] = chosen
	}
	for host, provider := range want {
		if got, _, _, _ := p.Host(host).String("authentication"); got != provider {
			t.Errorf("%s has the authentication %s, want %s", host, got, provider)
		}
	}
	if s := p.Host("focus.meet.example.com"); s.Module != "component" {
		t.Errorf("focus.meet.example.com is the module %s", s.Module)
	}
}

// TestOwnLinesElsewhere checks that usher recognises its lines in any file, also those that an older usher wrote into conf.d, and takes
// no keys from them.
func TestOwnLinesElsewhere(t *testing.T) {
	inDebian(t)
	write(t, "usher.yaml", []byte(ours+fromProsody))
	c := load(t, "usher.yaml")
	lines := linesOf(t, c)
	for _, own := range []string{
		lines, strings.Replace(lines, " has written it. Do not edit this file:", " has written it. Prosody must read it last: as", 1),
	} {
		write(t, "conf.d/zz-usher.cfg.lua", []byte(own+`
VirtualHost "meet.example.com"
  authentication = "anonymous"
  app_id = "other"
  allow_empty_token = true
  enable_domain_verification = false
VirtualHost "guest.meet.example.com"
  authentication = "token"
`))
		again := load(t, "usher.yaml")
		if got, want := reveal(again), reveal(c); got != want {
			t.Errorf("with its own lines usher understands\n%s\nbefore\n%s", got, want)
		}
		if got := linesOf(t, again); got != lines {
			t.Errorf("with its own lines usher writes\n%s\nbefore\n%s", got, lines)
		}
	}

	// If the order of the files decides, usher's lines may not be the last.
	found, err := c.CompareProsody(nil, "prosody.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(found, func(f config.Finding) bool {
		return f.Level == config.Missing && f.Mend == `Include "/etc/prosody/usher.cfg.lua"` &&
			strings.Contains(f.Text, "conference.meet.example.com modules_enabled is set differently at conf.d/meet.example.com.cfg.lua:17")
	}) {
		t.Errorf("the order is taken to be certain: %v", wrong(found))
	}

	// How people really log in counts, also if usher's own lines say so: a host must have a password.
	write(t, "usher.yaml", []byte(ours+fromProsody+"vhosts: {guest.meet.example.com: {kind: trusted}}\n"))
	write(t, "conf.d/meet.example.com.cfg.lua", []byte(strings.Replace(debian[3], `"jitsi-anonymous"`, `"internal_hashed"`, 1)))
	if _, err := config.Load([]string{"usher.yaml"}, nil); err == nil || !strings.Contains(err.Error(), "everybody would be a host") {
		t.Errorf("hosts by usher's own lines: %v", err)
	}
}

// TestLinesRefused checks that usher prints no lines that could break files that it does not know.
func TestLinesRefused(t *testing.T) {
	const plainYAML = "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nvhosts: {meet.example.com: {kind: guest}}\n"
	for _, test := range []struct{ name, yaml, refused string }{
		{"a plain server", "rooms: {services: [conference.meet.example.com]}", ""},
		{"Jicofo", "rooms: {services: [conference.meet.example.com]}\njicofo: {jid: focus@auth.meet.example.com}", "does not know"},
		{"lobby", "rooms: {services: [conference.meet.example.com], lobby: lobby.meet.example.com, enforcement: members-only}", "does not know"},
		{"breakout rooms", "rooms: {services: [conference.meet.example.com], breakout: breakout.meet.example.com}", "does not know"},
		{"module", "rooms: {services: [conference.meet.example.com], enforcement: module}", "does not know"},
		{"a file that is gone", "rooms: {services: [conference.meet.example.com]}\nprosody: {files: [gone/prosody.cfg.lua]}", "/gone/prosody.cfg.lua: no such file"},
		{"a file that is not Lua", "rooms: {services: [conference.meet.example.com]}\nprosody: {files: [usher.yaml]}", "usher.yaml:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "usher.yaml", plainYAML+test.yaml+"\n")
			c := load(t, "usher.yaml") // which does not need the files
			lines, err := c.ProsodyLines(config.Lines{})
			module, known, moduleErr := c.ModuleLines(nil, "/opt/usher")
			if test.refused == "" {
				if err != nil || moduleErr != nil {
					t.Fatal(err, moduleErr)
				}
				if want := "plugin_paths = { \"/opt/usher\" }\nComponent \"conference.meet.example.com\" \"muc\"\n  modules_enabled = { \"usher\" }\n" +
					"  usher_component = \"focus.meet.example.com\"\n"; known || module != want {
					t.Errorf("the module: %t,\n%s", known, module)
				}
				// The admins of the rooms are its only list, and a comment says what to add.
				if n := strings.Count(lines, " = {"); n != 1 || !strings.Contains(lines, "Add to admins") {
					t.Errorf("%d lists in\n%s", n, lines)
				}
				return
			}
			_, checkErr := c.CheckLines(config.Lines{})
			for what, err := range map[string]error{"lines": err, "check": checkErr, "module": moduleErr} {
				if err == nil || lines != "" || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), "files: [/etc/prosody/prosody.cfg.lua]") != (test.refused == "does not know") ||
					!strings.Contains(err.Error(), "docker compose exec -T prosody tar -cC /run/prosody/config ") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestLinesThatProsodyRefuses checks that usher prints no lines with which Prosody would not start.
func TestLinesThatProsodyRefuses(t *testing.T) {
	for name, yaml := range map[string]string{
		"a virtual host as usher's address": "xmpp: {domain: auth.meet.example.com, secret: " + secretA + "}\nrooms: {enforcement: module}\njicofo: {jid: focus@other.meet.example.com}\n",
		"a service as virtual host":         ours + "vhosts: {lobby.meet.example.com: {kind: guest}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			inDebian(t)
			if strings.Contains(yaml, "lobby.") {
				yaml = strings.Replace(yaml, "enforcement: module", "enforcement: module, lobby: other.meet.example.com", 1)
			}
			write(t, "usher.yaml", []byte(yaml+fromProsody))
			lines, err := load(t, "usher.yaml").ProsodyLines(config.Lines{})
			if lines != "" || err == nil || !strings.Contains(err.Error(), "clashes with the") || !strings.Contains(err.Error(), "would not start") {
				t.Errorf("%q, %v", lines, err)
			}
		})
	}
}

// TestProsodyFiles checks that prosody.files counts from the folder of usher.yaml, is no source, and is written by an import.
func TestProsodyFiles(t *testing.T) {
	inDebian(t)
	here := folder(t)
	if err := os.Mkdir("usher", 0o700); err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(here, "prosody.cfg.lua")
	write(t, "usher/usher.yaml", []byte(imported(t)))
	if c := load(t, "usher/usher.yaml"); !slices.Equal(c.ProsodyFiles(), []string{main}) || slices.Contains(c.Files, main) {
		t.Errorf("the import names %q, and %q are read", c.ProsodyFiles(), c.Files)
	}
	bare := "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\n" +
		"vhosts: {meet.example.com: {kind: guest}}\n"
	write(t, "usher/usher.yaml", []byte(bare+"prosody: {files: [../prosody.cfg.lua]}\n"))
	c := load(t, "usher/usher.yaml")
	if c.Jicofo.JID.String() != "" || len(c.VHosts) != 1 || !slices.Equal(c.ProsodyFiles(), []string{"prosody.cfg.lua"}) {
		t.Errorf("files %q set %v", c.ProsodyFiles(), c)
	}
	if lines := linesOf(t, c); !strings.Contains(lines, `"jvb@auth.meet.example.com"`) {
		t.Errorf("they are not read:\n%s", lines)
	}
	write(t, "usher/usher.yaml", []byte(bare))
	c, err := config.Load([]string{"usher/usher.yaml"}, []string{"USHER_PROSODY_FILES=prosody.cfg.lua"})
	if err != nil || !slices.Equal(c.ProsodyFiles(), []string{"prosody.cfg.lua"}) {
		t.Errorf("by the environment: %q, %v", c.ProsodyFiles(), err)
	}
	write(t, "usher/usher.yaml", []byte(bare+"prosody: {files: [\"\"]}\n"))
	if _, err := config.Load([]string{"usher/usher.yaml"}, nil); err == nil || !strings.Contains(err.Error(), "prosody.files[0]: is empty") {
		t.Errorf("an empty name: %v", err)
	}
}

// An option that a MUC service has itself is set there again, because it wins over the one for all hosts.
func TestLinesOwnRooms(t *testing.T) {
	for _, service := range []string{"conference", "breakout", "lobby"} {
		t.Run(service, func(t *testing.T) {
			inDebian(t, "conf.d/own.cfg.lua", "Component \""+service+".meet.example.com\" \"muc\"\n  component_admins_as_room_owners = false\n")
			write(t, "usher.yaml", []byte(ours+fromProsody))
			c := load(t, "usher.yaml")
			before, err := c.CompareProsody(nil)
			if err != nil || !slices.ContainsFunc(before, func(f config.Finding) bool {
				return f.Text == "on Prosody 13 usher owns no room on "+service+".meet.example.com" && strings.HasPrefix(f.Source, "prosody conf.d/own.cfg.lua:2")
			}) {
				t.Errorf("before: %v, %v", before, err)
			}
			if after, err := c.CheckLines(config.Lines{}); err != nil || len(wrong(after)) > 0 {
				t.Errorf("with the lines: %v, %v", wrong(after), err)
			}
		})
	}
}

// TestStaleLines checks that usher finds lines that are older than Prosody's files and replace their lists, so that later entries are
// lost. Writing the lines again helps.
func TestStaleLines(t *testing.T) {
	for _, test := range []struct{ name, old, new, says, at string }{
		{"a module", `"muc_domain_mapper", "token_verification"`, `"muc_domain_mapper", "muc_rate_limit", "token_verification"`,
			"conference.meet.example.com: the module muc_rate_limit is lost", "prosody conf.d/meet.example.com.cfg.lua:"},
		{"a module of breakout rooms", `"muc_domain_mapper" }`, `"muc_domain_mapper", "muc_rate_limit" }`,
			"breakout.meet.example.com: the module muc_rate_limit is lost", "prosody conf.d/meet.example.com.cfg.lua:"},
		{"an admin", `"jvb@auth.meet.example.com" }`, `"jvb@auth.meet.example.com", "new@auth.meet.example.com" }`,
			"conference.meet.example.com: the entry of admins new@auth.meet.example.com is lost", "prosody conf.d/meet.example.com.cfg.lua:"},
		{"a folder", `prosody-plugins/" }`, `prosody-plugins/", "/opt/more" }`,
			"for all hosts: the entry of plugin_paths /opt/more is lost", "prosody conf.d/meet.example.com.cfg.lua:1"},
		{"a disabled module", `{ "muc_mam" }`, `{ "muc_mam", "pep" }`,
			"conference.meet.example.com: the entry of modules_disabled pep is lost", "prosody conf.d/meet.example.com.cfg.lua:"},
		{"a rival, which the lines would disable", `"token_affiliation" }`, `"token_affiliation", "muc_allowners" }`, "", ""},
		{"a module of a virtual host, of which they have no list", `"smacks",`, `"smacks", "turncredentials",`, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			inDebian(t)
			write(t, "usher.yaml", []byte(ours+fromProsody))
			write(t, "usher.cfg.lua", []byte(linesOf(t, load(t, "usher.yaml"))))
			write(t, "prosody.cfg.lua", []byte(debian[1]+"Include \"usher.cfg.lua\"\n"))
			changed := strings.Replace(debian[3], test.old, test.new, 1)
			if changed == debian[3] {
				t.Fatal("nothing has changed")
			}
			write(t, "conf.d/meet.example.com.cfg.lua", []byte(changed))
			for _, files := range [][]string{nil, {"prosody.cfg.lua"}} {
				c := load(t, "usher.yaml")
				found, err := c.CompareProsody(nil, files...)
				if found = wrong(found); err != nil || test.says == "" {
					if err != nil || len(found) > 0 {
						t.Errorf("%v, %v", found, err)
					}
					continue
				}
				if len(found) != 1 || found[0].Level != config.Missing || !strings.HasPrefix(found[0].Text, test.says) ||
					!strings.Contains(found[0].Text, "(usher.cfg.lua:") || !strings.HasPrefix(found[0].Source, test.at) ||
					!strings.HasPrefix(found[0].Mend, "write the lines again: usher config prosody ") || !strings.Contains(found[0].Mend, "/usher.cfg.lua, and restart") {
					t.Errorf("%v", found)
				}
				if pending, err := c.LinesPending(config.Lines{}, files...); err != nil || !strings.Contains(pending, "usher.cfg.lua says something else") {
					t.Errorf("pending: %q, %v", pending, err)
				}
			}
			c := load(t, "usher.yaml")
			write(t, "usher.cfg.lua", []byte(linesOf(t, c)))
			if found, err := c.CompareProsody(nil, "prosody.cfg.lua"); err != nil || len(wrong(found)) > 0 {
				t.Errorf("written again: %v, %v", found, err)
			}
			if pending, err := c.LinesPending(config.Lines{}, "prosody.cfg.lua"); err != nil || pending != "" {
				t.Errorf("written again: %q, %v", pending, err)
			}
		})
	}
}
