package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// doubtful is a usher.yaml beside Prosody's files, with these MUC services, other keys of rooms after a semicolon, and more virtual
// hosts.
func doubtful(services, more string) string {
	services, beside, _ := strings.Cut(services, ";")
	return "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [" + services + "]" + beside + "}\n" +
		"vhosts:\n  meet.example.com: {kind: token, app_id: my_app, app_secret: " + secretB + "}\n" + more +
		"prosody: {files: [prosody.cfg.lua]}\n"
}

const (
	roomsOf  = "Component \"conference.meet.example.com\" \"muc\"\n"
	tokensOf = "VirtualHost \"meet.example.com\"\n  authentication = \"token\"\n"
	openTo   = ": anybody may enter and create rooms there. Add it to rooms.services if that is not meant"
	creates  = ", and usher's lines create it. "
	typo     = "usher.yaml:2: rooms.services: Prosody's files have no MUC service conference.meet.exmaple.com" + creates
	unlocked = "usher does not guard rooms on conference.meet.example.com" + openTo
)

// TestDoubts checks what usher says of names that Prosody's files do not have, and of MUC services that it does not guard.
func TestDoubts(t *testing.T) {
	for _, test := range []struct {
		name, services, more string
		prosody              string
		want                 []string
	}{
		{name: "right", services: "conference.meet.example.com", prosody: tokensOf + roomsOf},
		{name: "misspelled", services: "conference.meet.exmaple.com", prosody: tokensOf + roomsOf,
			want: []string{typo + "Did you mean conference.meet.example.com?", "prosody prosody.cfg.lua:3: " + unlocked}},
		{name: "without a dot", services: "conference.meet.examplecom", prosody: tokensOf + roomsOf, want: []string{
			"usher.yaml:2: rooms.services: Prosody's files have no MUC service conference.meet.examplecom" + creates + "Did you mean conference.meet.example.com?",
			"prosody prosody.cfg.lua:3: " + unlocked}},
		{name: "another name", services: "muc.meet.example.com", prosody: tokensOf + roomsOf, want: []string{
			"usher.yaml:2: rooms.services: Prosody's files have no MUC service muc.meet.example.com" + creates + "The files have conference.meet.example.com",
			"prosody prosody.cfg.lua:3: " + unlocked}},
		{name: "no rooms yet", services: "conference.meet.example.com", prosody: tokensOf},
		{name: "in a comment", services: "conference.meet.exmaple.com", prosody: tokensOf + "-- " + roomsOf},
		{name: "in a long comment", services: "conference.meet.exmaple.com", prosody: tokensOf + "--[[ " + roomsOf + "]]\n"},
		{name: "upper case", services: "Conference.Meet.EXAMPLE.com", prosody: tokensOf + `Component "CONFERENCE.meet.example.com" "muc"`},
		{name: "international", services: "konferenz.xn--mnchen-3ya.example", prosody: tokensOf + `Component "konferenz.münchen.example" "muc"`},
		{name: "misspelled international", services: "konferenz.münchn.example", prosody: tokensOf + `Component "konferenz.xn--mnchen-3ya.example" "muc"`,
			want: []string{"usher.yaml:2: rooms.services: Prosody's files have no MUC service konferenz.münchn.example" + creates +
				"Did you mean konferenz.münchen.example?", "prosody prosody.cfg.lua:3: usher does not guard rooms on konferenz.münchen.example" + openTo}},
		{name: "included", services: "conference.meet.exmaple.com", prosody: tokensOf + `Include "rooms.cfg.lua"`,
			want: []string{typo + "Did you mean conference.meet.example.com?", "prosody rooms.cfg.lua:1: " + unlocked}},
		{name: "one of several", services: "conference.meet.example.com, conference.two.exmaple.com",
			prosody: tokensOf + roomsOf + "Component \"conference.two.example.com\" \"muc\"\n", want: []string{
				"usher.yaml:2: rooms.services: Prosody's files have no MUC service conference.two.exmaple.com" + creates + "Did you mean conference.two.example.com?",
				"prosody prosody.cfg.lua:4: usher does not guard rooms on conference.two.example.com" + openTo}},
		{name: "forgotten", services: "conference.meet.example.com", prosody: tokensOf + roomsOf + "Component \"chat.example.org\" \"muc\"\n  modules_enabled = { \"muc_mam\" }\n",
			want: []string{"prosody prosody.cfg.lua:4: usher does not guard rooms on chat.example.org" + openTo}},
		{name: "only admins create", services: "conference.meet.example.com",
			prosody: tokensOf + roomsOf + "Component \"chat.example.org\" \"muc\"\n  restrict_room_creation = true\n", want: []string{
				"prosody prosody.cfg.lua:4: usher does not guard rooms on chat.example.org: anybody may enter rooms there. Add it to rooms.services if that is not meant"}},
		{name: "another usher's", services: "conference.meet.example.com",
			prosody: tokensOf + roomsOf + "Component \"chat.example.org\" \"muc\"\n  restrict_room_creation = true\n  muc_room_default_members_only = true\n"},
		{name: "another usher's, with the module", services: "conference.meet.example.com",
			prosody: tokensOf + roomsOf + "Component \"chat.example.org\" \"muc\"\n  restrict_room_creation = true\n  modules_enabled = { \"muc_affiliated_only\" }\n"},
		{name: "no MUC service", services: "conference.meet.example.com", prosody: tokensOf + roomsOf +
			"Component \"irc.example.org\"\n  modules_enabled = { \"muc_mam\" }\nComponent \"speakerstats.meet.example.com\" \"speakerstats_component\"\n"},
		{name: "Jitsi's own", services: "conference.meet.example.com", prosody: tokensOf + `lobby_muc = "foyer.example.com"
breakout_rooms_muc = "groups.example.com"
main_muc = "conference.meet.example.com"
` + roomsOf + "Component \"internal.auth.meet.example.com\" \"muc\"\nComponent \"foyer.example.com\" \"muc\"\nComponent \"groups.example.com\" \"muc\"\n" +
			"Component \"internal-muc.meet.example.com\" \"muc\"\nComponent \"lobby.meet.example.com\" \"muc\"\nComponent \"breakout.meet.example.com\" \"muc\"\n"},
		{name: "a main_muc", services: "conference.meet.exmaple.com", prosody: tokensOf + "main_muc = \"lobby.rooms.example.com\"\n" +
			"Component \"lobby.rooms.example.com\" \"muc\"\n", want: []string{typo + "The files have lobby.rooms.example.com",
			"prosody prosody.cfg.lua:4: usher does not guard rooms on lobby.rooms.example.com" + openTo}},
		{name: "bridges", services: "conference.meet.example.com", prosody: tokensOf + roomsOf + "VirtualHost \"auth.example.com\"\n" +
			"authentication = \"internal_hashed\"\nComponent \"brewery.example.com\" \"muc\"\n" +
			"modules_enabled = { \"muc_filter_access\" }\nmuc_filter_whitelist = \"auth.example.com\"\n"},
		{name: "no bridges", services: "conference.meet.example.com", prosody: tokensOf + roomsOf + "Component \"brewery.example.com\" \"muc\"\n" +
			"modules_enabled = { \"muc_filter_access\" }\nmuc_filter_whitelist = \"meet.example.com\"\n",
			want: []string{"prosody prosody.cfg.lua:4: usher does not guard rooms on brewery.example.com" + openTo}},
		{name: "lobby", services: "conference.meet.example.com;, enforcement: module, lobby: loby.meet.example.com, breakout: groups.meet.example.com",
			prosody: tokensOf + roomsOf + "Component \"lobby.meet.example.com\" \"muc\"\n", want: []string{
				"usher.yaml:2: rooms.lobby: Prosody's files have no MUC service loby.meet.example.com" + creates + "Did you mean lobby.meet.example.com?"}},
		{name: "virtual host", services: "conference.meet.example.com", more: "  gest.meet.example.com: {kind: guest}\n",
			prosody: tokensOf + "VirtualHost \"guest.meet.example.com\"\n" + roomsOf, want: []string{
				"usher.yaml:5: vhosts.gest.meet.example.com.kind: Prosody's files have no virtual host gest.meet.example.com" + creates + "Did you mean guest.meet.example.com?"}},
		{name: "new virtual host", services: "conference.meet.example.com", more: "  guest.meet.example.com: {kind: guest}\n",
			prosody: tokensOf + "VirtualHost \"auth.meet.example.com\"\nVirtualHost \"example.com\"\n" + roomsOf},
		{name: "a tenant more", services: "conference.meet.example.com", more: "  acme2.example.com: {kind: guest}\n  acme1.example.com: {kind: guest}\n",
			prosody: tokensOf + "VirtualHost \"acme1.example.com\"\nauthentication = \"anonymous\"\n" + roomsOf},
		{name: "own address", services: "conference.meet.example.com", prosody: tokensOf + roomsOf + "Component \"focus.meet.exmaple.com\"\n",
			want: []string{"usher.yaml:1: xmpp.domain: Prosody's files have no component focus.meet.example.com" + creates +
				"Did you mean focus.meet.exmaple.com, which the files have?"}},
		{name: "gateway", services: "conference.meet.example.com", prosody: tokensOf + roomsOf + "Component \"gateway.meet.example.com\"\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "usher.yaml", doubtful(test.services, test.more), "prosody.cfg.lua", test.prosody, "rooms.cfg.lua", roomsOf)
			c := load(t, "usher.yaml")
			doubts := doubtsOf(t, c)
			if !slices.Equal(doubts, test.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(doubts, "\n\t"), strings.Join(test.want, "\n\t"))
			}
			// usher's own lines have created what was misspelled.
			write(t, "usher.cfg.lua", []byte(linesOf(t, c)))
			write(t, "prosody.cfg.lua", []byte(test.prosody+"\nInclude \"usher.cfg.lua\"\n"))
			if doubts := doubtsOf(t, load(t, "usher.yaml")); !slices.Equal(doubts, test.want) {
				t.Errorf("with usher's lines\n\t%s\nwant\n\t%s", strings.Join(doubts, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
}

// doubtsOf returns the warnings about Prosody's files, which must be those of all comparisons.
func doubtsOf(t *testing.T, c *config.Config) []string {
	t.Helper()
	texts := func(findings []config.Finding, err error) (all []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if f.Level == config.Warning {
				all = append(all, f.Source+": "+f.Text)
			}
		}
		return all
	}
	doubts := texts(c.Doubts(config.Lines{}))
	for what, others := range map[string][]string{
		"CompareProsody":           texts(c.CompareProsody(nil)),
		"CompareProsody of a file": texts(c.CompareProsody(nil, "prosody.cfg.lua")),
		"CheckLines":               texts(c.CheckLines(config.Lines{})),
		"CheckLines of a file":     texts(c.CheckLines(config.Lines{}, "prosody.cfg.lua")),
	} {
		if !slices.Equal(others, doubts) {
			t.Errorf("%s says\n\t%s\nand Doubts\n\t%s", what, strings.Join(others, "\n\t"), strings.Join(doubts, "\n\t"))
		}
	}
	return doubts
}

// TestAccountsLockedOut checks that usher says so if its lines make a virtual host with accounts anonymous.
func TestAccountsLockedOut(t *testing.T) {
	const note = " makes meet.example.com anonymous: accounts there can no longer log in, as they do with authentication = "
	for _, test := range []struct{ kind, prosody, want string }{
		{"token, app_id: my_app, app_secret: " + secretB, `authentication = "internal_hashed"`, "prosody prosody.cfg.lua:2: kind: token" + note +
			`"internal_hashed". Use another virtual host for tokens, or kind: trusted to keep their login`},
		{"guest", `authentication = "internal_plain"`, "prosody prosody.cfg.lua:2: kind: guest" + note +
			`"internal_plain". Use another virtual host for guests, or kind: trusted to keep their login`},
		{"guest", `authentication = "ldap"`, "prosody prosody.cfg.lua:2: kind: guest" + note + `"ldap"`},
		{"guest", `authentication = "cyrus"`, "prosody prosody.cfg.lua:2: kind: guest" + note + `"cyrus"`},
		{"guest", "-- Prosody's default", "prosody prosody.cfg.lua:1: kind: guest" + note + `"internal_hashed"`},
		{"guest", "VirtualHost \"other.example.com\"\nauthentication = \"anonymous\"", "prosody prosody.cfg.lua:1: kind: guest" + note + `"internal_hashed"`},
		{"trusted", `authentication = "internal_hashed"`, ""},
		{"service", `authentication = "internal_hashed"`, ""},
		{"guest", `authentication = "anonymous"`, ""},
		{"guest", `authentication = "jitsi-anonymous"`, ""},
		{"token, app_id: my_app, app_secret: " + secretB, `authentication = "token"`, ""},
		{"token, app_id: my_app, algorithms: [ES256], jwks_url: 'https://keys.example.com/'", `authentication = "token"`, ""},
		{"guest", `authentication = "insecure"`, ""},
	} {
		t.Run(test.kind+", "+test.prosody, func(t *testing.T) {
			inFolder(t, "usher.yaml", "xmpp: {domain: focus.meet.example.com, secret: "+secretA+"}\nrooms: {services: [conference.meet.example.com]}\n"+
				"vhosts:\n  meet.example.com: {kind: "+test.kind+"}\nprosody: {files: [prosody.cfg.lua]}\n",
				"prosody.cfg.lua", "VirtualHost \"meet.example.com\"\n"+test.prosody+"\n"+roomsOf)
			c := load(t, "usher.yaml")
			for what, find := range map[string]func() ([]config.Finding, error){
				"Doubts":     func() ([]config.Finding, error) { return c.Doubts(config.Lines{}) },
				"CheckLines": func() ([]config.Finding, error) { return c.CheckLines(config.Lines{}) },
			} {
				findings, err := find()
				if err != nil {
					t.Fatal(err)
				}
				var said []string
				for _, f := range findings {
					if strings.Contains(f.Text, "can no longer log in") {
						said = append(said, f.Source+": "+f.Text)
					}
				}
				if test.want == "" && len(said) > 0 || test.want != "" && (len(said) != 1 || !strings.HasPrefix(said[0], test.want)) {
					t.Errorf("%s: %q, want %q", what, said, test.want)
				}
			}
		})
	}
}

// TestMisspelledMends checks that no remedy tells the operator to write a misspelled name into Prosody's files.
func TestMisspelledMends(t *testing.T) {
	inFolder(t, "usher.yaml", doubtful("conference.meet.exmaple.com", "  guest.meet.exmaple.com: {kind: guest}\n"),
		"prosody.cfg.lua", tokensOf+"VirtualHost \"guest.meet.example.com\"\n"+roomsOf+"Component \"fokus.meet.example.com\"\n")
	findings, err := load(t, "usher.yaml").CompareProsody(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"did you mean conference.meet.example.com, which Prosody's files have? Write that in usher.yaml (rooms)",
		"did you mean guest.meet.example.com, which Prosody's files have? Write that in usher.yaml (vhosts)",
		"did you mean fokus.meet.example.com, which Prosody's files have? Write that in usher.yaml (xmpp.domain)",
	} {
		if !slices.ContainsFunc(findings, func(f config.Finding) bool { return f.Mend == want }) {
			t.Errorf("no remedy is %q", want)
		}
	}
	for _, f := range findings {
		if strings.Contains(f.Mend, "exmaple") || strings.Contains(f.Mend, "focus.meet") || strings.Contains(f.Text, "lines are not read") {
			t.Errorf("%+v", f)
		}
	}
}

// TestJicofoHints checks that a hint about Jicofo's own file names that file, and no line of Prosody's.
func TestJicofoHints(t *testing.T) {
	hints := func(c *config.Config) (all []string) {
		findings, err := c.CheckLines(config.Lines{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if strings.Contains(f.Text, "because otherwise") {
				all = append(all, f.Source+": "+f.Text)
			}
		}
		return all
	}
	want := []string{
		`jicofo.conf: set jicofo.xmpp.client.client-proxy = "focus.meet.example.com", because otherwise Jicofo does not believe usher who asks`,
		"jicofo.conf: set jicofo.conference.enable-auto-owner = false, because otherwise Jicofo makes the first person in a room its owner",
		"jicofo.conf: set jicofo.authentication.enabled = false, because otherwise Jicofo decides as well who opens a room",
	}
	if got := hints(loadGuarded(t)); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	inFolder(t, "usher.yaml", guarded, "existing.cfg.lua", image+plain)
	want = []string{
		".env: set ENABLE_AUTO_OWNER=0, because otherwise Jicofo makes the first person in a room its owner",
		".env: set JICOFO_ENABLE_AUTH=0, because otherwise Jicofo decides as well who opens a room",
	}
	if got := hints(load(t, "usher.yaml")); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
