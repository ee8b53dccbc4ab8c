package config_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody"
)

const inRooms = "Component \"conference.meet.example.com\" \"muc\"\n"

// breaks break a gate in one place each.
var breaks = []struct {
	name        string
	old, new    string // in the text, where old is not empty
	more        string // at its end
	level       config.FindingLevel
	source, say string
	mend        string
}{
	{name: "rooms for anybody", old: "restrict_room_creation = true", new: "restrict_room_creation = false",
		level: config.Defeats, say: "anybody can create rooms", mend: "restrict_room_creation = true"},
	{name: "rooms by people of the server", old: "restrict_room_creation = true", new: `restrict_room_creation = "local"`,
		level: config.Defeats, say: "restrict_room_creation is something else", mend: "restrict_room_creation = true"},
	{name: "rooms for anybody, by a text", old: "restrict_room_creation = true", new: `restrict_room_creation = "true"`,
		level: config.Defeats, say: "restrict_room_creation is something else", mend: "restrict_room_creation = true"},
	{name: "rooms for anybody, by a number", old: "restrict_room_creation = true", new: `restrict_room_creation = 1`,
		level: config.Defeats, say: "restrict_room_creation is something else", mend: "restrict_room_creation = true"},
	{name: "people of the parent domain as admins", more: inRooms + `host_user_role = "prosody:admin"`, level: config.Defeats,
		say: "host_user_role lets people create rooms", mend: `host_user_role = "prosody:guest"`},
	{name: "people of the server by a role of its own", level: config.Defeats, say: "server_user_role lets people create rooms",
		more: inRooms + "custom_roles = { { name = \"boss\", inherits = { \"prosody:admin\" } } }\nserver_user_role = \"boss\"",
		mend: `server_user_role = "prosody:guest"`},
	{name: "others as what they are", more: inRooms + "server_user_role = \"prosody:registered\"\npublic_user_role = \"prosody:guest\""},
	{name: "rooms by permission", more: inRooms + `add_permissions = { ["prosody:guest"] = { "muc:create-room" } }`, level: config.Defeats,
		say: "add_permissions lets people create rooms", mend: "add_permissions = { }"},
	{name: "a permission for admins", more: inRooms + `add_permissions = { ["prosody:admin"] = { "muc:create-room" } }`},
	{name: "another permission", more: inRooms + `add_permissions = { ["prosody:guest"] = { "muc:list-rooms" } }`},
	{name: "creation not set", old: "restrict_room_creation = true", level: config.Defeats,
		say: "restrict_room_creation is not set", mend: "restrict_room_creation = true"},
	{name: "open rooms", more: inRooms + "muc_room_default_members_only = false", level: config.Defeats,
		say: "anybody can enter", mend: "muc_room_default_members_only = true"},
	{name: "members not set", old: "muc_room_default_members_only = true", level: config.Defeats,
		say: "anybody can enter", mend: "muc_room_default_members_only = true"},
	{name: "hidden JIDs", old: "muc_room_default_public_jids = true", new: "muc_room_default_public_jids = false",
		level: config.Missing, say: "real JIDs", mend: "muc_room_default_public_jids = true"},
	{name: "rooms that stay", old: "muc_room_allow_persistent = false", new: "muc_room_allow_persistent = true",
		level: config.Missing, say: "outlives", mend: "muc_room_allow_persistent = false"},
	{name: "rooms to register in", more: inRooms + "allow_unaffiliated_register = true", level: config.Defeats,
		say: "anybody can register in a room", mend: "allow_unaffiliated_register = false"},
	{name: "locking", old: "muc_room_locking = false", level: config.Missing, say: "muc_room_locking is not set",
		mend: "muc_room_locking = false"},
	{name: "not an admin", more: inRooms + `admins = { "focus@auth.meet.example.com" }`, level: config.Missing,
		say:  "usher (focus@focus.meet.example.com) is not among its admins",
		mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`},
	{name: "another admin", level: config.Hint, say: "root@meet.example.com is an admin as well",
		more: inRooms + `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com", "root@meet.example.com" }`},
	{name: "Jicofo is no admin", more: inRooms + `admins = { "focus@focus.meet.example.com" }`, level: config.Missing,
		say:  "Jicofo (focus@auth.meet.example.com) is not among its admins, so cannot create rooms",
		mend: `admins = { "focus@auth.meet.example.com", "focus@focus.meet.example.com" }`},
	{name: "a second way to Jicofo", more: `Component "old.meet.example.com" "client_proxy"`, level: config.Missing,
		say: "old.meet.example.com is still Jitsi's client_proxy"},
	{name: "a module that knows no usher", more: inRooms + `modules_enabled = { "usher" }`, level: config.Warning,
		say:  "conference.meet.example.com: usher_component is not set, so usher's module tells usher nothing",
		mend: tellsAgain},
	{name: "a module that is of use beside members-only", more: inRooms + `modules_enabled = { "usher" } usher_component = "focus.meet.example.com"`},
	{name: "owns no room", old: "component_admins_as_room_owners = true", level: config.Missing,
		say: "on Prosody 13 usher owns no room", mend: "component_admins_as_room_owners = true"},
	{name: "owns no room, said", old: "component_admins_as_room_owners = true", new: "component_admins_as_room_owners = false",
		level: config.Missing, say: "on Prosody 13 usher owns no room", mend: "component_admins_as_room_owners = true"},
	{name: "another secret", old: secretA, new: secretB, level: config.Missing, say: "component_secret is not the secret",
		mend: `component_secret = "..."`},
	{name: "no secret", old: `component_secret = "` + secretA + `"`, level: config.Missing, say: "has no component_secret",
		mend: `component_secret = "..."`},
	{name: "two ushers that throw each other out", more: "Component \"focus.meet.example.com\"\ncomponent_conflict_resolve = \"kick_old\"",
		level: config.Warning, say: "they throw each other out again and again",
		mend: `component_conflict_resolve = "kick_new"; or write usher's lines again (usher config prosody --output), and restart Prosody`},
	{name: "one usher stays", more: "Component \"focus.meet.example.com\"\ncomponent_conflict_resolve = \"kick_new\""},
	{name: "client_proxy", old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com" "client_proxy"`,
		level: config.Missing, say: "is the module client_proxy", mend: `Component "focus.meet.example.com"`},
	{name: "a virtual host instead", old: `Component "focus.meet.example.com"`, new: `VirtualHost "focus.meet.example.com"`,
		level: config.Missing, say: "must be usher's component", mend: `Component "focus.meet.example.com"`},
	{name: "no component", old: `"focus.meet.example.com"`, new: `"elsewhere.example.com"`, level: config.Missing,
		say: "is not there", mend: `Component "focus.meet.example.com"`},
	{name: "no rooms", old: `"conference.meet.example.com"`, new: `"elsewhere.example.com"`, level: config.Missing,
		say: "is no MUC service", mend: `Component "conference.meet.example.com" "muc"`},
	{name: "no virtual host", old: `VirtualHost "guest.meet.example.com"`, new: `VirtualHost "elsewhere.example.com"`,
		level: config.Missing, say: "guest.meet.example.com is no virtual host", mend: `VirtualHost "guest.meet.example.com"`},
	{name: "hosts without password", more: `VirtualHost "staff.meet.example.com" authentication = "anonymous"`,
		level: config.Defeats, say: "everybody is a host", mend: `authentication = "internal_hashed"`},
	{name: "hosts by Jitsi's token", more: `VirtualHost "staff.meet.example.com" authentication = "token"`,
		level: config.Defeats, say: "everybody is a host", mend: `authentication = "internal_hashed"`},
	{name: "hosts by any password", more: `VirtualHost "staff.meet.example.com" authentication = "insecure"`,
		level: config.Defeats, say: "takes any password, so everybody is a host", mend: `authentication = "internal_hashed"`},
	{name: "hosts who register", more: "VirtualHost \"staff.meet.example.com\"\nmodules_enabled = { \"register\" }\nallow_registration = true",
		level: config.Defeats, say: "anybody can register an account, so everybody is a host", mend: "allow_registration = false"},
	{name: "hosts who may not register", more: "VirtualHost \"staff.meet.example.com\"\nmodules_enabled = { \"register\" }"},
	{name: "recorders who register", more: "VirtualHost \"recorder.meet.example.com\"\nmodules_enabled = { \"register_ibr\" }",
		level: config.Defeats, say: "anybody can register an account, so everybody is let in", mend: `modules_disabled = { "register_ibr" }`},
	{name: "hosts who are invited", more: "VirtualHost \"staff.meet.example.com\"\nmodules_enabled = { \"register_ibr\", \"invites_register\" }"},
	{name: "hosts who need no invitation", level: config.Defeats, say: "anybody can register", mend: `modules_disabled = { "register_ibr" }`,
		more: "VirtualHost \"staff.meet.example.com\"\nmodules_enabled = { \"register_ibr\", \"invites_register\" }\nregistration_invite_only = false"},
	{name: "recorders without password", more: `VirtualHost "recorder.meet.example.com" authentication = "jitsi-anonymous"`,
		level: config.Defeats, say: "asks for no password, so everybody is let in", mend: `authentication = "internal_hashed"`},
	{name: "gateways without token", more: "VirtualHost \"recorder.meet.example.com\"\nauthentication = \"token\"\nallow_empty_token = true",
		level: config.Defeats, say: "people log in without a token, so everybody is let in", mend: "allow_empty_token = false"},
	{name: "gateways with token", more: `VirtualHost "recorder.meet.example.com" authentication = "token"`},
	{name: "guests with password", more: `VirtualHost "guest.meet.example.com" authentication = "ldap"`,
		level: config.Missing, say: "people need a password", mend: `authentication = "anonymous"`},
	{name: "rival", more: inRooms + `modules_enabled = { "token_verification" }`, level: config.Defeats,
		say: "the module token_verification is still loaded", mend: `modules_disabled = { "token_verification" }`},
	{name: "rival for everybody", more: inRooms + `modules_enabled = { "muc_mam", "muc_allowners" }`, level: config.Defeats,
		say: "makes everybody owner", mend: `modules_disabled = { "muc_allowners" }`},
	{name: "rival for hosts", more: inRooms + `modules_enabled = { "muc_wait_for_host" }`, level: config.Defeats,
		say: "decides itself who is a host", mend: `modules_disabled = { "muc_wait_for_host" }`},
	{name: "rival that is disabled", more: inRooms + "modules_enabled = { \"token_affiliation\" }\nmodules_disabled = { \"token_affiliation\" }"},
}

// TestGate breaks a gate in one place at a time.
func TestGate(t *testing.T) {
	c := loadGuarded(t)
	good := plain + linesOf(t, c)
	if findings := compare(t, c, good); len(findings) > 0 {
		t.Fatalf("what ProsodyLines says is not enough: %v in\n%s", findings, good)
	}
	for _, test := range breaks {
		t.Run(test.name, func(t *testing.T) {
			text := good
			if test.old != "" {
				at := len(plain)
				if strings.HasPrefix(test.new, `"`) {
					at = 0 // everywhere
				}
				text = good[:at] + strings.ReplaceAll(good[at:], test.old, test.new)
				if text == good {
					t.Fatal("nothing is broken")
				}
			}
			findings := butFeatures(compare(t, c, text+test.more+"\n"))
			if test.name == "no rooms" { // the name may be misspelled, too
				findings = slices.DeleteFunc(findings, func(f config.Finding) bool { return f.Level == config.Warning })
			}
			if test.level == "" {
				if len(findings) > 0 {
					t.Errorf("findings %v", findings)
				}
				return
			}
			if len(findings) != 1 {
				t.Fatalf("%d findings: %v", len(findings), findings)
			}
			f := findings[0]
			if f.Level != test.level || !strings.Contains(f.Text, test.say) || f.Mend != test.mend {
				t.Errorf("got %+v, want %s %q, mended by %s", f, test.level, test.say, test.mend)
			}
			if strings.Contains(f.Text+f.Mend, secretA) || strings.Contains(f.Text+f.Mend, secretB) {
				t.Error("it has a secret in it")
			}
			if test.more != "" && !strings.HasPrefix(f.Source, "prosody prosody.cfg.lua:") {
				t.Errorf("it is in %q", f.Source)
			}
		})
	}
}

// TestGateOfSeveral: where several ushers share a store, the lines let a standby take the place of a frozen one.
func TestGateOfSeveral(t *testing.T) {
	c := loadGuarded(t)
	alone := linesOf(t, c)
	c.Store.URL = config.NewSecret("redis://127.0.0.1")
	lines := linesOf(t, c)
	const line = `component_conflict_resolve = "kick_old"`
	if strings.Contains(alone, "conflict") || !strings.Contains(lines, "\n  "+line+" ") {
		t.Fatalf("the lines are\n%s\nand without a shared store\n%s", lines, alone)
	}
	if findings := compare(t, c, plain+lines); len(findings) > 0 {
		t.Errorf("they are not enough: %v", findings)
	}
	for _, broken := range []string{alone, strings.ReplaceAll(lines, "kick_old", "kick_new")} {
		findings := compare(t, c, plain+broken)
		if len(findings) != 1 || findings[0].Level != config.Missing || findings[0].Mend != line || !strings.Contains(findings[0].Text, "a standby cannot take over") {
			t.Errorf("without it: %v", findings)
		}
	}
}

// beside is a Prosody with Jitsi's lobby and breakout rooms.
const beside = plain + `VirtualHost "meet.example.com"
  modules_enabled = { "muc_lobby_rooms", "muc_breakout_rooms" }
Component "lobby.meet.example.com" "muc"
Component "breakout.meet.example.com" "muc"
`

const inLobby, inBreakout = "Component \"lobby.meet.example.com\" \"muc\"\n", "Component \"breakout.meet.example.com\" \"muc\"\n"
const bothAdmins = `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`

// tellsAgain is the remedy where usher's module does not know usher, and usher's lines do.
const tellsAgain = `usher_component = "focus.meet.example.com"; or write usher's lines again (usher config prosody --output), and restart Prosody`

// lobbyBreaks break a gate with a lobby and breakout rooms in one place each.
var lobbyBreaks = []struct {
	name, enforcement string
	old, new, more    string
	level             config.FindingLevel
	say, mend         string
}{
	{name: "right", enforcement: "module"},
	{name: "right", enforcement: "members-only"},
	{name: "not loaded", enforcement: "module", more: inRooms + `modules_enabled = { "muc_census" }`, level: config.Defeats,
		say:  "conference.meet.example.com: the module usher is not loaded",
		mend: `add "usher" to modules_enabled`},
	{name: "an archive of open rooms", enforcement: "module", more: inRooms + `modules_enabled = { "usher", "muc_mam" }`,
		level: config.Defeats, say: "the module muc_mam is still loaded: it tells people outside what is said",
		mend: `modules_disabled = { "muc_mam" }`},
	{name: "an archive", enforcement: "members-only", more: inRooms + `modules_enabled = { "muc_mam" }`},
	{name: "disabled", enforcement: "module", more: inRooms + `modules_disabled = { "usher" }`, level: config.Defeats,
		say: "is not loaded", mend: `add "usher" to modules_enabled`},
	{name: "loaded for virtual hosts", enforcement: "module", old: `modules_enabled = { "usher" } -- keeps`, new: "-- keeps",
		more: inBreakout + `modules_enabled = { "usher" }` + "\n" +
			`VirtualHost "meet.example.com" modules_enabled = { "muc_lobby_rooms", "muc_breakout_rooms", "usher" }`,
		level: config.Defeats, say: "conference.meet.example.com: the module usher is not loaded",
		mend: `add "usher" to modules_enabled`},
	{name: "not loaded for breakout rooms", enforcement: "module", more: inBreakout + `modules_enabled = {}`, level: config.Defeats,
		say: "breakout.meet.example.com: the module usher is not loaded", mend: `add "usher" to modules_enabled`},
	{name: "the old name", enforcement: "module", more: inBreakout + `modules_enabled = { "muc_affiliated_only" }`, level: config.Hint,
		say:  "breakout.meet.example.com: muc_affiliated_only is the name that usher's module had before",
		mend: "write usher's module and lines again (usher config prosody --module, --output), and restart Prosody"},
	{name: "both names", enforcement: "module", more: inRooms + `modules_enabled = { "muc_affiliated_only", "usher" }`},
	{name: "another usher", enforcement: "module", more: inRooms + `usher_component = "focus.example.com"`, level: config.Warning,
		say: "conference.meet.example.com: usher_component is not usher's domain", mend: tellsAgain},
	{name: "no usher", enforcement: "module", more: inRooms + `usher_component = nil`, level: config.Warning,
		say: "conference.meet.example.com: usher_component is not set, so usher's module tells usher nothing", mend: tellsAgain},
	{name: "rooms begin with the lobby on", enforcement: "module", more: inRooms + "muc_room_default_members_only = true",
		level: config.Missing, say: "the switch of the lobby", mend: "muc_room_default_members_only = false"},
	{name: "rooms begin as the server lets them", enforcement: "module", old: "muc_room_default_members_only = false"},
	{name: "nowhere to look", enforcement: "module", old: `plugin_paths = {`, new: `elsewhere = {`, level: config.Hint,
		say: "without plugin_paths,", mend: `plugin_paths = { "/usr/local/lib/prosody/modules" }`},
	{name: "open rooms", enforcement: "members-only", more: inRooms + "muc_room_default_members_only = false", level: config.Defeats,
		say: "anybody can enter", mend: "muc_room_default_members_only = true"},
	{name: "breakout rooms that stay", enforcement: "module", more: inBreakout + `muc_room_allow_persistent = true`, level: config.Missing,
		say: "breakout.meet.example.com: muc_room_allow_persistent", mend: "muc_room_allow_persistent = false"},
	{name: "a rival on breakout rooms", enforcement: "module", more: inBreakout + `modules_enabled = { "usher", "token_verification" }`,
		level: config.Defeats, say: "breakout.meet.example.com: the module token_verification is still loaded",
		mend: `modules_disabled = { "token_verification" }`},
	{name: "the lobby is not switched on", enforcement: "module", more: inRooms + bothAdmins, level: config.Missing,
		say:  "usher (focus.meet.example.com) is not among its admins, so cannot switch the lobby on",
		mend: `admins = { "focus.meet.example.com", "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`},
	{name: "breakout rooms are not seen", enforcement: "module", more: inBreakout + `admins = { "focus@auth.meet.example.com" }`,
		level: config.Missing, say: "breakout.meet.example.com: usher (focus@focus.meet.example.com) is not among its admins, so may not ask",
		mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`},
	{name: "lobbies are not seen", enforcement: "module", more: inLobby + `admins = { "focus@auth.meet.example.com" }`, level: config.Missing,
		say:  "lobby.meet.example.com: usher (focus@focus.meet.example.com) is not among its admins, so may not ask",
		mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`},
	{name: "breakout rooms for anybody", enforcement: "module", more: inBreakout + `restrict_room_creation = false`, level: config.Defeats,
		say: "anybody can create rooms", mend: "restrict_room_creation = true"},
	{name: "no lobby", enforcement: "module", old: `"lobby.meet.example.com" "muc"`, new: `"lobby.meet.example.com" "other"`,
		level: config.Missing, say: "lobby.meet.example.com is no MUC service", mend: `Component "lobby.meet.example.com" "muc"`},
}

// TestGateWithLobby breaks gates that have a lobby and breakout rooms, one place at a time, with either enforcement.
func TestGateWithLobby(t *testing.T) {
	for _, test := range lobbyBreaks {
		t.Run(test.name+", "+test.enforcement, func(t *testing.T) {
			inFolder(t, "usher.yaml", strings.Replace(guarded, "rooms: {", "lobby: {autostart: host}\nrooms: {enforcement: "+test.enforcement+
				", lobby: lobby.meet.example.com, breakout: breakout.meet.example.com, ", 1), "existing.cfg.lua", beside)
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			good := regexp.MustCompile(` +-- `).ReplaceAllString(linesOf(t, c), " -- ") // a line can be named with its comment
			text := good
			if test.old != "" {
				if text = strings.ReplaceAll(good, test.old, test.new); text == good {
					t.Fatalf("nothing is broken in\n%s", text)
				}
			}
			write(t, "zz-usher.cfg.lua", []byte(text+test.more))
			findings := compare(t, c, beside+`Include "zz-usher.cfg.lua"`)
			if test.level == "" && len(findings) == 0 {
				return
			}
			if len(findings) != 1 {
				t.Fatalf("%d findings: %v in\n%s", len(findings), findings, text)
			}
			if f := findings[0]; f.Level != test.level || !strings.Contains(f.Text, test.say) || f.Mend != test.mend {
				t.Errorf("got %+v, want %s %q, mended by %s", f, test.level, test.say, test.mend)
			}
		})
	}
}

// TestModuleOfSources checks that the lines lose none of Prosody's modules, and that usher's module among them sets
// rooms.enforcement.
func TestModuleOfSources(t *testing.T) {
	text := strings.Replace(prosodyFile, `"muc"`, `"muc"
  modules_enabled = { "muc_meeting_id", "muc_affiliated_only" }`, 1)
	text = `plugin_paths = { "/usr/share/jitsi-meet/prosody-plugins/" }` + "\n" + text
	inFolder(t, "prosody.cfg.lua", text)
	c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Rooms.Enforcement != config.Module {
		t.Fatalf("rooms.enforcement is %s", c.Rooms.Enforcement)
	}
	lines := linesOf(t, c)
	for _, line := range []string{
		`plugin_paths = { "/usr/share/jitsi-meet/prosody-plugins/", "/usr/local/lib/prosody/modules" }`,
		`modules_enabled = { "muc_meeting_id", "usher" }`,
		`usher_component = "focus.meet.example.com"`,
		`muc_room_default_members_only = false`,
	} {
		if !strings.Contains(lines, line) {
			t.Errorf("nothing says %s:\n%s", line, lines)
		}
	}
	const elsewhere = `plugin_paths = { "/usr/share/jitsi-meet/prosody-plugins/", "/opt/usher" }` + "\n"
	for folder, want := range map[string]string{"/opt/usher": elsewhere, config.ModuleFolder: "", "/usr/share/jitsi-meet/prosody-plugins/": ""} {
		if got, known, err := c.ModuleLines(nil, folder); err != nil || !known || got != want {
			t.Errorf("%s: %q, %t, %v", folder, got, known, err)
		}
	}
	write(t, "zz-usher.cfg.lua", []byte(lines))
	for _, f := range compare(t, c, text+"Include \"zz-usher.cfg.lua\"\n") {
		if f.Level != config.Hint {
			t.Errorf("still there: %+v", f)
		}
	}
	again, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil || linesOf(t, again) != lines {
		t.Errorf("with its own lines usher writes\n%s\nbefore\n%s (%v)", linesOf(t, again), lines, err)
	}
	// usher.yaml wins.
	write(t, "usher.yaml", []byte("rooms: {enforcement: members-only}\n"))
	c, err = config.Load([]string{"prosody.cfg.lua", "usher.yaml"}, nil)
	if err != nil || c.Rooms.Enforcement != config.MembersOnly {
		t.Fatal(c, err)
	}
	// The module is loaded all the same, so it is to know usher.
	if lines := linesOf(t, c); strings.Count(lines, `usher_component = "focus.meet.example.com"`) != 1 || strings.Contains(lines, "modules_enabled") {
		t.Errorf("beside members-only usher writes\n%s", lines)
	}
}

// TestGateOfSources checks that the lines close what is open in a Prosody that is a source.
func TestGateOfSources(t *testing.T) {
	rivals := strings.Replace(prosodyFile, `"muc"`, `"muc"
  modules_enabled = { "token_verification", "token_affiliation", "token_no_wildcard", "muc_mam", "muc_census" }
  modules_disabled = { "muc_mam" }
  admins = { "root@meet.example.com" }`, 1)
	inFolder(t, "prosody.cfg.lua", rivals)
	c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.CompareProsody(nil)
	if err != nil || len(before) == 0 {
		t.Fatalf("findings %v, %v", before, err)
	}
	lines := linesOf(t, c)
	write(t, "zz-usher.cfg.lua", []byte(lines))
	for _, f := range compare(t, c, rivals+"Include \"zz-usher.cfg.lua\"\n") {
		if f.Level != config.Hint {
			t.Errorf("still there: %+v", f)
		}
	}
	// usher reads the lines as well. It must understand and write the same then. Otherwise the next lines would open what these
	// have closed.
	again, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := reveal(again), reveal(c); got != want {
		t.Errorf("with its own lines usher understands\n%s\nbefore\n%s", got, want)
	}
	if got := linesOf(t, again); got != lines {
		t.Errorf("with its own lines usher writes\n%s\nbefore\n%s", got, lines)
	}
	for _, line := range []string{
		`modules_disabled = { "muc_mam", "token_verification", "token_affiliation", "token_no_wildcard" }`,
		`admins = { "focus@focus.meet.example.com", "root@meet.example.com" }`,
	} {
		if !strings.Contains(lines, line) {
			t.Errorf("nothing says %s:\n%s", line, lines)
		}
	}
	if v := again.VHosts[0]; v.DefaultAffiliation != config.Member || !v.Issuers[0].NoWildcard {
		t.Errorf("what the modules meant is lost: %+v", v)
	}

	if _, err := c.CompareProsody(nil, "gone.cfg.lua"); err == nil {
		t.Error("a file that is not there is compared")
	}
	inFolder(t, "usher.yaml", unknowing(guarded))
	if c, err = config.Load([]string{"usher.yaml"}, nil); err != nil {
		t.Fatal(err)
	}
	if findings, err := c.CompareProsody(nil); err != nil || findings != nil {
		t.Errorf("without Prosody's configuration: %v, %v", findings, err)
	}
}

// TestProsodySecret checks that any secret survives Prosody's language.
func TestProsodySecret(t *testing.T) {
	c := loadGuarded(t)
	check := func(t interface {
		Fatalf(format string, args ...any)
	}, secret string) {
		c.XMPP.Secret = config.NewSecret(secret)
		written := fstest.MapFS{"prosody.cfg.lua": {Data: []byte(linesOf(t, c))}}
		p, err := prosody.Read(prosody.Source{FS: written, Names: []string{"prosody.cfg.lua"}})
		if err != nil {
			t.Fatalf("%q: %v", secret, err)
		}
		if got, _, ok, err := p.Host("focus.meet.example.com").String("component_secret"); !ok || err != nil || got != secret {
			t.Fatalf("%q has become %q (%v)", secret, got, err)
		}
	}
	for _, secret := range []string{
		`"`, `'`, `\`, `\\"`, `\n`, "\n7", "\r\n", "\x00", "\x007", "]]", "--", "--[[", "${X}", "%s", "\x7f", "ü", "\xff\xfe", "\u2028",
		`" .. os.exit() .. "`,
	} {
		check(t, secret)
	}
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.String().Draw(t, "secret")) })
}
