package config_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/config"
)

// jitsi returns a Prosody's configuration with Jitsi's services, and virtual hosts of the kinds token and guest. options are those of
// the guarded service.
func jitsi(rooms, people, options string) string {
	return `main_muc = "conference.meet.example.com"
lobby_muc = "lobby.meet.example.com"
breakout_rooms_muc = "breakout.meet.example.com"
VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "my_app"
  app_secret = "` + secretB + `"
  modules_enabled = { ` + people + ` }
VirtualHost "guest.meet.example.com"
  authentication = "jitsi-anonymous"
VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"
Component "conference.meet.example.com" "muc"
  modules_enabled = { ` + rooms + ` }
  admins = { "focus@auth.meet.example.com" }
  token_verification_allowlist = { "guest.meet.example.com" }
  ` + options + `
Component "lobby.meet.example.com" "muc"
Component "breakout.meet.example.com" "muc"
Component "focus.meet.example.com"
  component_secret = "` + secretA + `"
`
}

// sources load a configuration of Jitsi's with modules on the guarded service and for virtual hosts: from docker-jitsi-meet's
// variables, from Prosody's files, and from Prosody's files with lines of usher that disable the modules.
var sources = map[string]func(t testing.TB, rooms, people []string, option string) *config.Config{
	"docker": func(t testing.TB, rooms, people []string, option string) *config.Config {
		variables := append(slices.Clone(guests), "JWT_TOKEN_AUTH_MODULE=muc_hide_all", "XMPP_MUC_MODULES="+strings.Join(rooms, ","),
			"XMPP_MODULES="+strings.Join(people, ","))
		if option != "" {
			variables = append(variables, strings.ToUpper(option)+"=true")
		}
		c, err := config.Load(nil, dockerEnviron(variables...))
		if err != nil {
			t.Fatal(err)
		}
		return c
	},
	"prosody": func(t testing.TB, rooms, people []string, option string) *config.Config {
		return loadJitsi(t, rooms, people, option, "")
	},
	"prosody, disabled": func(t testing.TB, rooms, people []string, option string) *config.Config {
		return loadJitsi(t, rooms, people, option, "modules_disabled = { "+luaList(rooms)+" }")
	},
}

func loadJitsi(t testing.TB, rooms, people []string, option, options string) *config.Config {
	if option != "" {
		options += "\n  " + option + " = true"
	}
	file := t.TempDir() + "/prosody.cfg.lua"
	if err := os.WriteFile(file, []byte(jitsi(luaList(rooms), luaList(people), options)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestModulesComplete compares the table of modules with the list of those that usher must know.
func TestModulesComplete(t *testing.T) {
	list, err := os.ReadFile("../testdata/modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]config.ProsodyModule{}
	for _, m := range config.Modules() {
		if _, twice := rows[m.Name]; twice {
			t.Errorf("%s is there twice", m.Name)
		}
		rows[m.Name] = m
		if m.Does == "" || strings.ToLower(m.Does[:1]) != m.Does[:1] || strings.HasSuffix(m.Does, ".") {
			t.Errorf("%s does %q", m.Name, m.Does)
		}
		if (m.Verdict == config.Mapped) != (m.Becomes() != "" && m.Verdict != config.Rival && m.Verdict != config.Ours && m.Verdict != config.Harmless) {
			t.Errorf("%s is %s and becomes %q", m.Name, m.Verdict, m.Becomes())
		}
		if m.Verdict == config.Harmless && (len(m.Sets) > 0 || m.Wider != "") {
			t.Errorf("%s stays, but sets something, or something is wider without it", m.Name)
		}
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if name, from, _ := strings.Cut(strings.TrimSpace(line), " "); name != "#" {
			listed[name] = true
			if _, ok := rows[name]; !ok {
				t.Errorf("%s (%s) is not in the table", name, from)
			}
		}
	}
	for name := range rows {
		if !listed[name] {
			t.Errorf("%s is not in the list, so nothing says where it comes from", name)
		}
	}
}

// about returns the notes and warnings that a configuration has, and another one has not.
func about(c, than *config.Config) (notes, warnings []string) {
	more := func(these, those []config.Problem) (texts []string) {
		for _, p := range these {
			if !slices.ContainsFunc(those, func(q config.Problem) bool { return q.Text == p.Text }) {
				texts = append(texts, p.Text)
			}
		}
		return texts
	}
	return more(c.Notes, than.Notes), more(c.Warnings, than.Warnings)
}

// differences returns the keys with different values in two configurations.
func differences(a, b *config.Config) []string {
	values := func(c *config.Config) map[string]string {
		all := map[string]string{}
		for _, s := range c.Settings {
			if !strings.HasPrefix(s.Key, "sources.") {
				all[s.Key] = s.Value()
			}
		}
		return all
	}
	var keys []string
	is, was := values(a), values(b)
	for key, value := range is {
		if was[key] != value {
			keys = append(keys, key)
		}
	}
	for key := range was {
		if _, ok := is[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestModulesMean enables each module alone, by both sources. It checks that the module sets the keys of the table and no others, and
// that usher says what the table says, and nothing else.
func TestModulesMean(t *testing.T) {
	var silent []string
	for _, m := range config.Modules() {
		if m.Verdict == config.Harmless && m.Note == "" {
			silent = append(silent, m.Name)
		}
	}
	for source, load := range sources {
		before := load(t, nil, nil, "")
		c := load(t, silent, silent, "")
		if notes, warnings := about(c, before); len(notes)+len(warnings)+len(differences(c, before)) > 0 {
			t.Errorf("%s: of modules that just stay it says %q and %q and sets %q", source, notes, warnings, differences(c, before))
		}
		for _, m := range config.Modules() {
			if slices.Contains(silent, m.Name) {
				continue
			}
			t.Run(source+"/"+m.Name, func(t *testing.T) {
				var rooms, people []string
				if m.Stands == config.OnMUC {
					rooms = []string{m.Name}
				} else {
					people = []string{m.Name}
				}
				c := load(t, rooms, people, "")
				counts := m.Stands == config.OnMUC || m.Stands == config.OnVHost || m.Stands == config.OnAll
				if m.Verdict != config.Mapped && m.Verdict != config.Rival && m.Stands == config.OnMUC && strings.HasSuffix(source, "disabled") {
					counts = false
				}
				var set []string
				for _, k := range m.Sets {
					key := strings.ReplaceAll(k.Key, "*", "meet.example.com")
					set = append(set, key)
					s, ok := setting(c, key)
					if got := key + ": " + s.Value(); counts && (!ok || got != strings.ReplaceAll(k.String(), "*", "meet.example.com")) {
						t.Errorf("%s, want %s", got, k)
					}
					if counts && s.Origin == "default" {
						t.Errorf("%s is the default", key)
					}
				}
				for _, key := range differences(c, before) {
					if key == "rooms.guard_interval" && m.Verdict == config.Ours {
						continue // the module makes it superfluous
					}
					if !slices.Contains(set, key) || !counts {
						t.Errorf("it sets %s", key)
					}
				}
				notes, warnings := about(c, before)
				silent := m.Note == "" && m.Verdict != config.Rival || !counts
				if silent != (len(notes) == 0) || !silent && !strings.Contains(notes[0], m.Name) || !strings.Contains(strings.Join(notes, " "), m.Note) && counts {
					t.Errorf("notes %q, want %s and %q", notes, m.Name, m.Note)
				}
				if wider := m.Wider != "" && counts; wider != slices.ContainsFunc(warnings, func(w string) bool {
					return strings.HasPrefix(w, "usher allows more than the module "+m.Name+": "+m.Wider)
				}) {
					t.Errorf("warnings %q, want %q", warnings, m.Wider)
				}
			})
		}
	}
}

// TestModuleOptions checks the options of modules, alone and beside their module.
func TestModuleOptions(t *testing.T) {
	for _, m := range config.Modules() {
		for _, o := range m.Options {
			for source, load := range sources {
				t.Run(source+"/"+m.Name+"/"+o.Name, func(t *testing.T) {
					if source == "docker" && o.Name != "wait_for_host_disable_auto_owners" {
						t.Skip("docker-jitsi-meet has no variable for it")
					}
					without := load(t, []string{m.Name}, nil, "")
					c := load(t, []string{m.Name}, nil, o.Name)
					var set []string
					for _, k := range o.Sets {
						set = append(set, strings.ReplaceAll(k.Key, "*", "meet.example.com"))
					}
					got := differences(c, without)
					if slices.Sort(got); !slices.Equal(got, set) {
						t.Errorf("it sets %q, want %q", got, set)
					}
					notes, warnings := about(c, without)
					if !strings.Contains(strings.Join(notes, " "), o.Note) || !strings.Contains(strings.Join(warnings, " "), o.Wider) {
						t.Errorf("notes %q and warnings %q, want %q and %q", notes, warnings, o.Note, o.Wider)
					}
					if got := differences(load(t, nil, nil, o.Name), load(t, nil, nil, "")); len(got) > 0 {
						t.Errorf("without the module it sets %q", got)
					}
				})
			}
		}
	}
}

// TestModulesTogether enables any modules together, by both sources, and compares the keys with a model. People who wait under one of
// the modules wait, and people that one makes members are members. Only people that a module lets pass the lobby pass it.
func TestModulesTogether(t *testing.T) {
	var rooms []string
	for _, m := range config.Modules() {
		if m.Stands == config.OnMUC && m.Verdict != config.Ours {
			rooms = append(rooms, m.Name)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		on := rapid.SliceOfDistinct(rapid.SampledFrom(rooms), rapid.ID[string]).Draw(r, "modules")
		option := rapid.SampledFrom([]string{"", "wait_for_host_disable_auto_owners"}).Draw(r, "option")
		any := func(names string) bool {
			return slices.ContainsFunc(strings.Fields(names), func(name string) bool { return slices.Contains(on, name) })
		}
		wait, affiliation := config.WaitGuests, config.Owner
		if any("token_owner_party lobby_autostart token_lobby_autostart") {
			wait = config.WaitMembers
		}
		if any("token_affiliation token_affiliation_legacy token_moderation token_owner_party matrix_affiliation matrix_power_sync") ||
			any("muc_wait_for_host") && option != "" {
			affiliation = config.Member
		}
		bypass, autostart := []config.Affiliation{config.Owner, config.Member}, config.AutostartNever
		switch {
		case any("secure_domain_lobby_bypass"):
			bypass = []config.Affiliation{config.Owner}
		case any("lobby_autostart token_lobby_autostart lobby_autostart_on_owner token_lobby_bypass token_lobby_bypass_for_initiator token_security_ondemand"):
			bypass = nil
		}
		if any("lobby_autostart token_lobby_autostart lobby_autostart_on_owner") && !any("lobby_deactivate") {
			autostart = config.AutostartHost
		}
		want := fmt.Sprint(wait, affiliation, bypass, autostart, any("token_no_wildcard"))
		for source, load := range sources {
			c := load(t, on, nil, option)
			i := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Kind == config.KindToken })
			v := c.VHosts[i]
			if got := fmt.Sprint(c.Rooms.WaitForHost, v.DefaultAffiliation, c.Lobby.Bypass, c.Lobby.Autostart, v.Issuers[0].NoWildcard); got != want {
				r.Fatalf("%s: %s, want %s", source, got, want)
			}
		}
	})
}

// TestModulesThatDecide enables each module on each of the services. It checks that usher finds those that decide beside it, and that its
// lines disable them, and no others.
func TestModulesThatDecide(t *testing.T) {
	var goes, stays []config.ProsodyModule
	for _, m := range config.Modules() {
		switch m.Verdict {
		case config.Mapped, config.Rival:
			goes = append(goes, m)
		case config.Harmless:
			stays = append(stays, m)
		}
	}
	for _, service := range []string{"conference.meet.example.com", "breakout.meet.example.com", "lobby.meet.example.com"} {
		enable := func(modules []config.ProsodyModule) string {
			var names []string
			for _, m := range modules {
				names = append(names, m.Name)
			}
			return jitsi("", "", "") + fmt.Sprintf("Component %q \"muc\"\n  modules_enabled = { %s }\n", service, luaList(names))
		}
		t.Run(service, func(t *testing.T) {
			checkDecides(t, enable(goes), service, goes)
			checkDecides(t, enable(stays), service, nil)
		})
	}
	t.Run("virtual host", func(t *testing.T) {
		const people = "meet.example.com"
		checkDecides(t, jitsi("", `"test_observer_http", "token_affiliation", "bosh", "odd"`, ""), people,
			slices.DeleteFunc(goes, func(m config.ProsodyModule) bool { return m.Stands != config.OnVHost }))
	})
}

// checkDecides checks that usher finds and disables these modules of a section.
func checkDecides(t *testing.T, text, domain string, want []config.ProsodyModule) {
	t.Helper()
	inFolder(t, "prosody.cfg.lua", text)
	c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := func(text string) map[string]config.Finding {
		all := map[string]config.Finding{}
		for _, f := range compare(t, c, text) {
			if rest, ok := strings.CutPrefix(f.Text, domain+": the module "); ok {
				name, _, _ := strings.Cut(rest, " ")
				all[name] = f
			}
		}
		return all
	}
	all, lines := found(text), linesOf(t, c)
	if len(all) != len(want) {
		t.Errorf("found %v", all)
	}
	var names []string
	for _, m := range want {
		names = append(names, `"`+m.Name+`"`)
	}
	disable := "modules_disabled = { " + strings.Join(names, ", ") + " }"
	for _, m := range want {
		if f := all[m.Name]; f.Level != config.Defeats || !strings.HasSuffix(f.Text, m.Does) || f.Mend != disable {
			t.Errorf("%s: found %+v", m.Name, f)
		}
	}
	if strings.Contains(lines, disable) != (len(want) > 0) {
		t.Errorf("nothing says %s:\n%s", disable, lines)
	}
	if all := found(text + lines); len(all) > 0 {
		t.Errorf("with usher's lines: %v in\n%s", all, lines)
	}
	write(t, "prosody.cfg.lua", []byte(text+lines))
	again, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := linesOf(t, again); got != lines {
		t.Errorf("with its own lines usher writes\n%s\nbefore\n%s", got, lines)
	}
}

// TestArchiveOfOpenRooms checks that usher's lines disable an archive that people outside of open rooms can read.
func TestArchiveOfOpenRooms(t *testing.T) {
	for modules, want := range map[string]bool{`"muc_mam"`: false, `"muc_mam", "muc_affiliated_only"`: true} {
		text := jitsi(modules, "", "")
		inFolder(t, "prosody.cfg.lua", text)
		c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := linesOf(t, c)
		if strings.Contains(lines, `modules_disabled = { "muc_mam" }`) != want {
			t.Errorf("%s:\n%s", modules, lines)
		}
		for _, f := range compare(t, c, text+lines) {
			if f.Level == config.Defeats {
				t.Errorf("%s: %+v", modules, f)
			}
		}
	}
}

// TestUnknownModule checks that usher names an unknown module on one of its services.
func TestUnknownModule(t *testing.T) {
	const unknown = "the module odd is not known to usher: look whether it lets people in"
	named := func(c *config.Config) int {
		n := 0
		for _, note := range c.Notes {
			if strings.HasPrefix(note.Text, unknown) {
				n++
			}
		}
		return n
	}
	for _, test := range []struct {
		variable string
		want     int
	}{
		{"XMPP_MUC_MODULES=muc_hide_all,odd", 1}, {"XMPP_BREAKOUT_MUC_MODULES=odd", 1}, {"XMPP_LOBBY_MUC_MODULES=odd", 1},
		{"JWT_TOKEN_AUTH_MODULE=odd", 1}, {"XMPP_MODULES=odd", 0}, {"GLOBAL_MODULES=odd", 0}, {"XMPP_INTERNAL_MUC_MODULES=odd", 0},
	} {
		if got := named(loadDocker(t, append(slices.Clone(guests), test.variable)...)); got != test.want {
			t.Errorf("%s: named %d times", test.variable, got)
		}
	}
	if got := named(loadDocker(t, "JWT_TOKEN_AUTH_MODULE=odd")); got != 0 {
		t.Error("JWT_TOKEN_AUTH_MODULE is loaded with AUTH_TYPE=jwt only")
	}
	for _, test := range []struct {
		name, more string
		note, hint int
	}{
		{"guarded", `Component "conference.meet.example.com" "muc" modules_enabled = { "odd" }`, 1, 1},
		{"twice", `Component "conference.meet.example.com" "muc" modules_enabled = { "odd" }
			Component "breakout.meet.example.com" "muc" modules_enabled = { "odd" }`, 1, 2},
		{"breakout rooms", `Component "breakout.meet.example.com" "muc" modules_enabled = { "odd" }`, 1, 1},
		{"lobby", `Component "lobby.meet.example.com" "muc" modules_enabled = { "odd" }`, 1, 1},
		{"disabled", `Component "conference.meet.example.com" "muc" modules_enabled = { "odd" } modules_disabled = { "odd" }`, 0, 0},
		{"virtual host", `VirtualHost "meet.example.com" modules_enabled = { "odd" }`, 0, 0},
		{"another service", `Component "internal.meet.example.com" "muc" modules_enabled = { "odd" }`, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := jitsi("", "", "") + test.more
			inFolder(t, "prosody.cfg.lua", text)
			c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			hints := 0
			for _, f := range compare(t, c, text) {
				if strings.Contains(f.Text, unknown) && f.Level == config.Hint {
					hints++
				}
			}
			if notes := named(c); notes != test.note || hints != test.hint {
				t.Errorf("%d notes, %d hints", notes, hints)
			}
			if strings.Contains(linesOf(t, c), "odd") && test.name != "disabled" {
				t.Error("usher's lines name it")
			}
		})
	}
}

// TestModulesBeneath checks that usher.yaml wins over the modules, and that keys of the lobby are set only if there is one.
func TestModulesBeneath(t *testing.T) {
	const all = `"lobby_autostart", "token_affiliation", "token_no_wildcard"`
	const lobbies = "lobby_muc = \"lobby.meet.example.com\"\n"
	without := strings.Replace(strings.Replace(jitsi(all, "", ""), lobbies, "", 1), "Component \"lobby.meet.example.com\" \"muc\"\n", "", 1)
	for _, test := range []struct {
		name, prosody, own string
		lobby              string
		wait               config.WaitForHost
		affiliation        config.Affiliation
	}{
		{"nothing", jitsi(all, "", ""), "{}", "{host []}", config.WaitMembers, config.Member},
		{"all", jitsi(all, "", ""), "{rooms: {wait_for_host: never}, lobby: {autostart: never, bypass: [member]}, " +
			"vhosts: {meet.example.com: {default_affiliation: owner}}}", "{never [member]}", config.WaitNever, config.Owner},
		{"no lobby", without, "{}", "{never [owner member]}", config.WaitMembers, config.Member},
		{"a lobby of its own", without, "{rooms: {lobby: lobby.meet.example.com}}", "{host []}", config.WaitMembers, config.Member},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "prosody.cfg.lua", test.prosody, "usher.yaml", test.own)
			c, err := config.Load([]string{"prosody.cfg.lua", "usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(c.Lobby); got != test.lobby || c.Rooms.WaitForHost != test.wait || c.VHosts[0].DefaultAffiliation != test.affiliation {
				t.Errorf("%s, %s, %s", got, c.Rooms.WaitForHost, c.VHosts[0].DefaultAffiliation)
			}
		})
	}
	if c, err := config.Load(nil, dockerEnviron(append(slices.Clone(jwt), "ENABLE_LOBBY=0", "XMPP_MUC_MODULES=lobby_autostart")...)); err != nil {
		t.Error(err)
	} else if c.Lobby.Autostart != config.AutostartNever {
		t.Error("without a lobby it begins")
	}
}

// TestGuardedByHand checks that the modules of a service count if only usher.yaml names the service.
func TestGuardedByHand(t *testing.T) {
	inFolder(t, "prosody.cfg.lua", jitsi("", "", "")+`Component "rooms.example.org" "muc" modules_enabled = { "token_affiliation" }`,
		"usher.yaml", "{rooms: {services: [rooms.example.org]}}")
	c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil || c.VHosts[0].DefaultAffiliation != config.Owner {
		t.Errorf("a service that is not guarded counts: %v", err)
	}
	c, err = config.Load([]string{"prosody.cfg.lua", "usher.yaml"}, nil)
	if err != nil || c.VHosts[0].DefaultAffiliation != config.Member {
		t.Errorf("a service that is guarded does not count: %v", err)
	}
}

// TestUnsaid checks the notes about defaults of Jitsi that are not usher's, which end when the operator has decided.
func TestUnsaid(t *testing.T) {
	const knock, wait = "hosts and members pass a lobby that is on", "guests wait until a host is inside"
	for _, test := range []struct {
		name, rooms, own string
		want             []string
	}{
		{"nothing", "", "{}", []string{knock, wait}},
		{"decided", "", "{lobby: {bypass: [owner, member]}, rooms: {wait_for_host: guests}}", nil},
		{"modules", `"token_lobby_bypass", "muc_wait_for_host"`, "{}", nil},
		{"no guests", "", "{vhosts: {guest.meet.example.com: {kind: service}}}", []string{knock}},
		{"nobody to pass", "", "{vhosts: {meet.example.com: {kind: service}}}", []string{wait}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "prosody.cfg.lua", jitsi(test.rooms, "", ""), "usher.yaml", test.own)
			c, err := config.Load([]string{"prosody.cfg.lua", "usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range c.Notes {
				for _, text := range []string{knock, wait} {
					if strings.HasPrefix(n.Text, text) {
						got = append(got, text)
					}
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("notes %v", c.Notes)
			}
		})
	}
}

// TestGuestsThatWereRefused checks that usher says so if it lets in guests that token_verification refuses.
func TestGuestsThatWereRefused(t *testing.T) {
	const refused = "usher allows more than the module token_verification: guests of guest.meet.example.com enter"
	warned := func(c *config.Config) bool {
		return slices.ContainsFunc(c.Warnings, func(w config.Problem) bool { return strings.HasPrefix(w.Text, refused) })
	}
	verifies := strings.Replace(jitsi(`"token_verification"`, "", ""), "  token_verification_allowlist = { \"guest.meet.example.com\" }\n", "", 1)
	const app = `  app_id = "my_app"` + "\n"
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"refused":             {verifies, true},
		"without the module":  {strings.Replace(verifies, `"token_verification"`, "", 1), false},
		"exempt":              {jitsi(`"token_verification"`, "", ""), false},
		"no domain":           {strings.Replace(verifies, app, app+"  enable_domain_verification = false\n", 1), false},
		"no room":             {strings.Replace(verifies, app, app+"  asap_require_room_claim = false\n", 1), false},
		"empty tokens":        {strings.Replace(verifies, app, app+"  allow_empty_token = true\n", 1), false},
		"tokens on the other": {strings.Replace(verifies, `"jitsi-anonymous"`, `"token" app_id = "x" app_secret = "`+secretB+`" allow_empty_token = true`, 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "prosody.cfg.lua", test.text)
			c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if warned(c) != test.want {
				t.Errorf("warnings %v", c.Warnings)
			}
		})
	}
	for variable, want := range map[string]bool{
		"": true, "ENABLE_GUESTS=0": false, "JWT_ALLOW_EMPTY=1": false, "JWT_TOKEN_AUTH_MODULE=muc_hide_all": false,
		"JWT_ENABLE_DOMAIN_VERIFICATION=false": false,
	} {
		c := loadDocker(t, append(slices.Clone(guests), "XMPP_GUEST_DOMAIN=guest.meet.example.com", "JWT_ENABLE_DOMAIN_VERIFICATION=true", variable)...)
		if warned(c) != want {
			t.Errorf("docker, %s: warnings %v", variable, c.Warnings)
		}
	}
}

// TestTokensThatWereRefused checks that usher says so if tokens of one virtual host open rooms of another's domain.
func TestTokensThatWereRefused(t *testing.T) {
	other := func(appID string) string {
		return "VirtualHost \"other.example.com\"\n  authentication = \"token\"\n  app_id = \"" + appID + "\"\n  app_secret = \"" + secretB + "\"\n"
	}
	verifies := jitsi(`"token_verification"`, "", "")
	const app = `  app_id = "my_app"` + "\n"
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"another issuer":     {verifies + other("other"), true},
		"the same issuer":    {verifies + other("my_app"), false},
		"one virtual host":   {verifies, false},
		"without the module": {jitsi("", "", "") + other("other"), false},
		"no domain":          {strings.Replace(verifies, app, app+"  enable_domain_verification = false\n", 1) + other("other"), false},
		"exempt":             {strings.Replace(verifies, `allowlist = { `, `allowlist = { "other.example.com", `, 1) + other("other"), false},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "prosody.cfg.lua", test.text)
			c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.ContainsFunc(c.Warnings, func(w config.Problem) bool {
				return strings.Contains(w.Text, "tokens of other.example.com may name that domain as sub, and open rooms on conference.meet.example.com")
			}); got != test.want {
				t.Errorf("warnings %v", c.Warnings)
			}
		})
	}
}

// TestLobbyWhitelist checks that usher finds virtual hosts with people that Jitsi's lobby lets in without it.
func TestLobbyWhitelist(t *testing.T) {
	for name, test := range map[string]struct {
		module, whitelist string
		want              int
	}{
		"recorders":                       {`"muc_lobby_rooms"`, `"recorder.meet.example.com", "jigasi@auth.meet.example.com"`, 0},
		"guests":                          {`"muc_lobby_rooms"`, `"guest.meet.example.com"`, 1},
		"everybody":                       {`"muc_lobby_rooms"`, `"guest.meet.example.com", "meet.example.com"`, 2},
		"without lobby":                   {"", `"guest.meet.example.com"`, 0},
		"people that usher does not know": {`"muc_lobby_rooms"`, `"other.meet.example.com", "auth.meet.example.com"`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", guarded, "existing.cfg.lua", plain)
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			text := plain + linesOf(t, c) + "VirtualHost \"meet.example.com\"\n  modules_enabled = { " + test.module + " }\n" +
				"  muc_lobby_whitelist = { " + test.whitelist + " }\nVirtualHost \"other.meet.example.com\"\n  authentication = \"jitsi-anonymous\"\n"
			findings := butFeatures(compare(t, c, text))
			if len(findings) != test.want {
				t.Fatalf("found %v", findings)
			}
			for _, f := range findings {
				if f.Level != config.Defeats || !strings.Contains(f.Text, "muc_lobby_whitelist has ") {
					t.Errorf("found %+v", f)
				}
			}
		})
	}
}
