package config_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// rendered returns what docker-jitsi-meet's templates make of its variables, as far as usher reads it
// (prosody/rootfs/defaults/conf.d/jitsi-meet.cfg.lua). main, guest, hidden and muc are more lines of these sections. A section of
// guests or recorders exists only if it has lines.
func rendered(global, main, guest, hidden, muc string, lobby, breakout bool) string {
	var b strings.Builder
	b.WriteString(`admins = { "focus@auth.meet.example.com", "jvb@auth.meet.example.com" }
authentication = "internal_hashed"
recorder_prefixes = { "recorder@hidden.meet.example.com" }
transcriber_prefixes = { "transcriber@hidden.meet.example.com" }
` + global + "\nVirtualHost \"meet.example.com\"\n" + main + "\nmain_muc = \"muc.meet.example.com\"\n")
	if lobby {
		b.WriteString("lobby_muc = \"lobby.meet.example.com\"\n")
		if hidden != "" {
			b.WriteString("muc_lobby_whitelist = { \"hidden.meet.example.com\" }\n")
		}
	}
	if breakout {
		b.WriteString("breakout_rooms_muc = \"breakout.meet.example.com\"\n")
	}
	if guest != "" {
		b.WriteString("VirtualHost \"guest.meet.example.com\"\n" + guest + "\nmain_muc = \"muc.meet.example.com\"\n")
	}
	b.WriteString("VirtualHost \"auth.meet.example.com\"\nauthentication = \"internal_hashed\"\n")
	if hidden != "" {
		b.WriteString("VirtualHost \"hidden.meet.example.com\"\n" + hidden + "\n")
	}
	b.WriteString("Component \"internal-muc.meet.example.com\" \"muc\"\nComponent \"muc.meet.example.com\" \"muc\"\n" + muc + `
Component "focus.meet.example.com" "client_proxy"
target_address = "focus@auth.meet.example.com"
`)
	if lobby {
		b.WriteString("Component \"lobby.meet.example.com\" \"muc\"\n")
	}
	if breakout {
		b.WriteString("Component \"breakout.meet.example.com\" \"muc\"\n")
	}
	return b.String()
}

// Ways to log in, as the templates write them.
const (
	takesTokens    = `authentication = "token" app_id = "my_app" app_secret = "` + secretB + `" allow_empty_token = false enable_domain_verification = false`
	takesAnybody   = `authentication = "jitsi-anonymous"`
	takesPasswords = `authentication = "internal_hashed"`
)

// jwtVariables returns the variables for people with tokens, and more.
func jwtVariables(more ...string) []string {
	return append([]string{"ENABLE_AUTH=1", "AUTH_TYPE=jwt", "JWT_APP_ID=my_app", "JWT_APP_SECRET=" + secretB}, more...)
}

// setUps are set-ups of docker-jitsi-meet, as its variables and as parts of the files that it makes of them.
var setUps = []struct {
	name                              string
	env                               []string
	global, main, guest, hidden, muc  string
	noLobby, noBreakout               bool
	yaml                              string // more of usher.yaml
	problem                           string // what both say; no problem if it is empty
	mainKind, guestKind, kindOfHidden config.Kind
}{
	{name: "nobody logs in", main: takesAnybody, mainKind: config.KindGuest},
	{name: "tokens", env: jwtVariables(), main: takesTokens, mainKind: config.KindToken},
	{name: "tokens and guests", env: jwtVariables("ENABLE_GUESTS=1"), main: takesTokens, guest: takesAnybody, mainKind: config.KindToken, guestKind: config.KindGuest},
	{name: "anonymous guests", env: jwtVariables("ENABLE_GUESTS=1", "PROSODY_GUEST_AUTH_TYPE=anonymous"), main: takesTokens, guest: `authentication = "anonymous"`,
		mainKind: config.KindToken, guestKind: config.KindGuest},
	{name: "all of an issuer", env: jwtVariables("JWT_ACCEPTED_ISSUERS=a,b", "JWT_ACCEPTED_AUDIENCES=c", "JWT_ALLOW_EMPTY=1", "JWT_ENABLE_DOMAIN_VERIFICATION=true",
		"JWT_SIGN_TYPE=HS256"), global: `asap_accepted_issuers = { "a","b" } asap_accepted_audiences = { "c" }`,
		main: `signature_algorithm = "HS256" ` + strings.ReplaceAll(takesTokens, "false", "true"), mainKind: config.KindToken},
	{name: "a key server", env: []string{"ENABLE_AUTH=1", "AUTH_TYPE=jwt", "JWT_APP_ID=my_app", "JWT_ASAP_KEYSERVER=https://keys.example.com"},
		main:     `authentication = "token" app_id = "my_app" asap_key_server = "https://keys.example.com" enable_domain_verification = false`,
		mainKind: config.KindToken},
	{name: "a key server beside a secret", env: jwtVariables("JWT_ASAP_KEYSERVER=https://keys.example.com"),
		main: takesTokens + ` asap_key_server = "https://keys.example.com"`, mainKind: config.KindToken},
	{name: "guests with tokens", env: jwtVariables("ENABLE_GUESTS=1", "PROSODY_GUEST_AUTH_TYPE=token"), main: takesTokens, guest: `authentication = "token"`,
		mainKind: config.KindToken, guestKind: config.KindToken},
	{name: "guests with and without tokens", env: jwtVariables("ENABLE_GUESTS=1", "PROSODY_GUEST_AUTH_TYPE=token", "JWT_ALLOW_EMPTY=1"),
		main: strings.Replace(takesTokens, "allow_empty_token = false", "allow_empty_token = true", 1), guest: `authentication = "token"`,
		mainKind: config.KindToken, guestKind: config.KindToken},
	{name: "an empty app_id", env: jwtVariables("JWT_APP_ID="), main: strings.Replace(takesTokens, "my_app", "", 1), problem: "app_id"},
	{name: "an empty app_id, empty tokens", env: jwtVariables("JWT_APP_ID=", "JWT_ALLOW_EMPTY=1"),
		main: strings.NewReplacer("my_app", "", "allow_empty_token = false", "allow_empty_token = true").Replace(takesTokens), mainKind: config.KindGuest},
	{name: "no app_id, empty tokens", env: []string{"ENABLE_AUTH=1", "AUTH_TYPE=jwt", "JWT_ALLOW_EMPTY=1"},
		main: `authentication = "token" app_id = "" allow_empty_token = true enable_domain_verification = false`, mainKind: config.KindGuest},
	{name: "passwords", env: []string{"ENABLE_AUTH=1"}, main: takesPasswords, yaml: "vhosts: {meet.example.com: {kind: trusted}}", mainKind: config.KindTrusted},
	{name: "a directory and guests", env: []string{"ENABLE_AUTH=1", "AUTH_TYPE=ldap", "ENABLE_GUESTS=1"}, main: `authentication = "cyrus"`, guest: takesAnybody,
		yaml: "vhosts: {meet.example.com: {kind: trusted}}", mainKind: config.KindTrusted, guestKind: config.KindGuest},
	{name: "Matrix", env: []string{"ENABLE_AUTH=1", "AUTH_TYPE=matrix"}, main: `authentication = "matrix_user_verification" app_id = "issuer"`,
		problem: "asks a Matrix server"},
	{name: "Matrix and tokens", env: jwtVariables("AUTH_TYPE=hybrid_matrix_token"), main: strings.Replace(takesTokens, `"token"`, `"hybrid_matrix_token"`, 1),
		problem: "asks a Matrix server"},
	{name: "Matrix, named by usher.yaml", env: jwtVariables("AUTH_TYPE=hybrid_matrix_token"), main: strings.Replace(takesTokens, `"token"`, `"hybrid_matrix_token"`, 1),
		yaml: "vhosts: {meet.example.com: {kind: guest}}", mainKind: config.KindGuest},
	{name: "Matrix as password", env: jwtVariables("AUTH_TYPE=hybrid_matrix_token"), main: strings.Replace(takesTokens, `"token"`, `"hybrid_matrix_token"`, 1),
		yaml: "vhosts: {meet.example.com: {kind: trusted}}", problem: "nobody needs a password"},
	{name: "recorders", env: jwtVariables("ENABLE_RECORDING=1"), main: takesTokens, hidden: takesPasswords, mainKind: config.KindToken, kindOfHidden: config.KindService},
	{name: "transcribers without a lobby", env: jwtVariables("ENABLE_TRANSCRIPTIONS=1", "ENABLE_LOBBY=0"), main: takesTokens, hidden: takesPasswords, noLobby: true,
		mainKind: config.KindToken, kindOfHidden: config.KindService},
	{name: "neither lobby nor breakout rooms", env: jwtVariables("ENABLE_LOBBY=0", "ENABLE_BREAKOUT_ROOMS=0"), main: takesTokens, noLobby: true, noBreakout: true,
		mainKind: config.KindToken},
	{name: "modules that mean something", env: jwtVariables("XMPP_MUC_MODULES=token_affiliation,token_no_wildcard,muc_affiliated_only"), main: takesTokens,
		muc: `modules_enabled = { "token_affiliation"; "token_no_wildcard"; "muc_affiliated_only"; "token_verification" }`, mainKind: config.KindToken},
}

// TestSourcesAlike checks that usher understands docker-jitsi-meet's variables and the files that it makes of them in the same way.
func TestSourcesAlike(t *testing.T) {
	for _, test := range setUps {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			for _, v := range append([]string{"XMPP_DOMAIN=meet.example.com", "XMPP_MUC_DOMAIN=muc.meet.example.com", "XMPP_AUTH_DOMAIN=auth.meet.example.com",
				"XMPP_GUEST_DOMAIN=guest.meet.example.com", "XMPP_HIDDEN_DOMAIN=hidden.meet.example.com",
				"XMPP_INTERNAL_MUC_DOMAIN=internal-muc.meet.example.com"}, test.env...) {
				name, _, _ := strings.Cut(v, "=")
				lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+"=") })
				lines = append(lines, v)
			}
			inFolder(t, "usher.yaml", "xmpp: {secret: "+secretA+"}\n"+test.yaml+"\n", "jitsi.env", strings.Join(lines, "\n")+"\n",
				"prosody.cfg.lua", rendered(test.global, test.main, test.guest, test.hidden, test.muc, !test.noLobby, !test.noBreakout))
			// The server of the container differs, and Prosody's files do not know a login by an address.
			server := regexp.MustCompile(`(?m)^(server|login) = .*\n`)
			var said []string
			for _, source := range []string{"jitsi.env", "prosody.cfg.lua"} {
				c, err := config.Load([]string{"usher.yaml", source}, nil)
				if test.problem != "" {
					if problems, _ := texts(t, c, err); len(problems) != 1 || !strings.Contains(problems[0], test.problem) {
						t.Errorf("%s: problems %q, want %q", source, problems, test.problem)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", source, err)
				}
				slices.SortFunc(c.VHosts, func(a, b config.VHost) int { return strings.Compare(a.Domain.String(), b.Domain.String()) })
				said = append(said, server.ReplaceAllString(reveal(c), ""))
				kinds := map[string]config.Kind{}
				for _, v := range c.VHosts {
					kinds[v.Domain.String()] = v.Kind
				}
				if kinds["meet.example.com"] != test.mainKind || kinds["guest.meet.example.com"] != test.guestKind || kinds["hidden.meet.example.com"] != test.kindOfHidden {
					t.Errorf("%s: kinds %v", source, kinds)
				}
			}
			if len(said) == 2 && said[0] != said[1] {
				t.Errorf("by the variables\n%s\nby the files\n%s", said[0], said[1])
			}
		})
	}
}

// TestDialIn checks that gateways that log in by a token are let in, and are never hosts.
func TestDialIn(t *testing.T) {
	inFolder(t, "usher.yaml", fromProsody, "prosody.cfg.lua", `VirtualHost "jigasi.meet.jitsi"
  authentication = "token"
  app_id = "jitsi"
  asap_key_server = "https://jaas-public-keys.jitsi.net/jitsi-components/prod-8x8"
  asap_accepted_issuers = { "jaas-components" }
`+prosodyFile)
	c := load(t, "usher.yaml")
	if v := c.VHosts[0]; v.Domain.String() != "jigasi.meet.jitsi" || v.Kind != config.KindService || len(v.Issuers) > 0 {
		t.Errorf("got %+v", v)
	}
	if lines := linesOf(t, c); strings.Contains(lines, "authentication = ") {
		t.Errorf("they log in otherwise:\n%s", lines)
	}
	// Without that token everybody could be a gateway.
	write(t, "prosody.cfg.lua", []byte(`VirtualHost "recorder.meet.example.com" authentication = "anonymous"`+"\n"+prosodyFile))
	write(t, "usher.yaml", []byte(fromProsody+"vhosts: {recorder.meet.example.com: {kind: service}}\n"))
	found, err := load(t, "usher.yaml").CompareProsody(nil)
	if err != nil || !slices.ContainsFunc(found, func(f config.Finding) bool {
		return f.Level == config.Defeats && strings.Contains(f.Text, "recorder.meet.example.com") && strings.Contains(f.Text, "everybody is let in")
	}) {
		t.Errorf("findings %v, %v", found, err)
	}
}

// TestRecordersByName checks that recorders get in on Debian, where nothing but the name tells that a virtual host is theirs.
func TestRecordersByName(t *testing.T) {
	const recorders = "VirtualHost \"%s\" authentication = \"internal_plain\"\n"
	for domain, kind := range map[string]config.Kind{
		"recorder.meet.example.com": config.KindService,
		"hidden.meet.example.com":   config.KindService,
		"users.meet.example.com":    "", // all of them would be hosts
	} {
		inFolder(t, "usher.yaml", fromProsody, "prosody.cfg.lua", fmt.Sprintf(recorders, domain)+prosodyFile)
		c, err := config.Load([]string{"usher.yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Domain.String() == domain })
		switch {
		case kind == "" && i >= 0:
			t.Errorf("%s is %s", domain, c.VHosts[i].Kind)
		case kind != "" && (i < 0 || c.VHosts[i].Kind != kind):
			t.Errorf("%s is not %s", domain, kind)
		}
		if !slices.ContainsFunc(c.Notes, func(n config.Problem) bool { return strings.Contains(n.Key+n.Text, domain) }) {
			t.Errorf("no note on %s: %v", domain, c.Notes)
		}
	}
}
