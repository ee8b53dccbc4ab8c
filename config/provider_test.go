package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// providerTest is one way in which the people of a virtual host log in. existing is what Prosody's files say of the virtual host,
// global what they say of all, and vhost what usher.yaml says.
type providerTest struct {
	name, global, existing, vhost, chosen string
	module                                bool     // usher's module is in use
	lines                                 []string // besides those in comments, without the reasons
	costs                                 []string
}

const (
	oneIssuer  = `{kind: token, app_id: my_app, app_secret: ` + secretB + `}`
	verifies   = `authentication = "token" app_id = "my_app" app_secret = "` + secretB + `" `
	asksServer = `authentication = "token" app_id = "my_app" asap_key_server = "https://keys.example.com" `
	keyServer  = `asap_key_server: https://keys.example.com`
)

// What the ways cost, and the line that changes one.
var (
	twice   = []string{"in room Y", "verified twice"}
	once    = []string{"features in tokens have no effect", "verified once", "without a token can connect"}
	twice13 = []string{"verified twice", "1.3 ms of Prosody's one thread"}
	connect = []string{"verified once", "without a token can connect"}
	lost    = []string{"cannot be resumed", "features in tokens have no effect"}
	toJitsi = []string{`authentication = "jitsi-anonymous"`}
)

// tokens is a virtual host with one issuer, and more.
func tokens(more string) string {
	return "{kind: token, app_id: my_app, app_secret: " + secretB + ", " + more + "}"
}

var providerTests = []providerTest{
	// The provider stays.
	{name: "token", existing: verifies, vhost: oneIssuer, costs: twice},
	{name: "jitsi-anonymous", existing: `authentication = "jitsi-anonymous"`, vhost: oneIssuer,
		costs: once},
	{name: "anonymous", existing: `authentication = "anonymous"`, vhost: oneIssuer,
		costs: lost},
	{name: "guests of jitsi-anonymous", existing: `authentication = "jitsi-anonymous"`, vhost: "{kind: guest}"},
	{name: "guests of anonymous", existing: `authentication = "anonymous"`, vhost: "{kind: guest}", costs: []string{"cannot be resumed"}},
	{name: "guests with tokens", existing: verifies + `allow_empty_token = true`,
		vhost: "{kind: guest, app_id: my_app, app_secret: " + secretB + "}", costs: twice},

	// Jitsi's plugin cannot verify what usher accepts.
	{name: "two issuers", existing: verifies, vhost: `{kind: token, issuers: [{app_id: my_app, app_secret: ` + secretB + `}, {app_id: other, app_secret: ` + secretA + `}]}`,
		lines: toJitsi, costs: once},
	{name: "two secrets", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secrets: [` + secretA + `, ` + secretB + `]}`,
		lines: toJitsi, costs: once},
	{name: "two algorithms", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secret: ` + secretA + secretB + `, algorithms: [HS256, HS384]}`,
		lines: toJitsi, costs: once},
	{name: "another family", existing: asksServer, vhost: `{kind: token, app_id: my_app, ` + keyServer + `, algorithms: [ES256]}`,
		lines: toJitsi, costs: once},
	{name: "keys in a file", existing: verifies, vhost: `{kind: token, app_id: my_app, jwks_file: keys.json}`,
		lines: toJitsi, costs: once},
	{name: "keys at an address", existing: verifies, vhost: `{kind: token, app_id: my_app, jwks_url: https://keys.example.com/jwks}`,
		lines: toJitsi, costs: once},
	{name: "a secret beside a key server", existing: asksServer, vhost: oneIssuer,
		lines: toJitsi, costs: once},
	{name: "guests without tokens", existing: verifies, vhost: "{kind: guest}", lines: toJitsi},

	// The plugin can verify them, but would refuse somebody.
	{name: "no issuer", existing: `authentication = "token"`, vhost: oneIssuer,
		lines: []string{`app_id = "my_app"`, `app_secret = "` + secretB + `"`}, costs: twice},
	{name: "no oneIssuer, as docker writes it", existing: `authentication = "token" app_id = "" app_secret = "` + secretB + `"`, vhost: oneIssuer,
		lines: []string{`app_id = "my_app"`}, costs: twice},
	{name: "another secret", existing: strings.Replace(verifies, secretB, secretA, 1), vhost: oneIssuer,
		lines: []string{`app_secret = "` + secretB + `"`}, costs: twice},
	{name: "another app_id", existing: strings.Replace(verifies, "my_app", "other", 1), vhost: oneIssuer,
		lines: []string{`asap_accepted_issuers = { "my_app" }`}, costs: twice},
	{name: "another app_id, accepted", existing: strings.Replace(verifies, "my_app", "other", 1) + `asap_accepted_issuers = { "other", "my_app" }`,
		vhost: oneIssuer, costs: twice},
	{name: "fewer issuers", existing: verifies, vhost: tokens(`accepted_issuers: [my_app, other]`),
		lines: []string{`asap_accepted_issuers = { "my_app", "other" }`}, costs: twice},
	{name: "more issuers", existing: verifies + `asap_accepted_issuers = { "*" }`, vhost: tokens(`accepted_issuers: [my_app, other]`),
		costs: twice},
	{name: "fewer audiences", existing: verifies + `asap_accepted_audiences = { "a" }`, vhost: oneIssuer,
		lines: []string{`asap_accepted_audiences = { "*" }`}, costs: twice},
	{name: "other audiences", existing: verifies + `asap_accepted_audiences = { "a", "b" }`, vhost: tokens(`accepted_audiences: [b, c]`),
		lines: []string{`asap_accepted_audiences = { "b", "c" }`}, costs: twice},
	{name: "more audiences", existing: verifies + `asap_accepted_audiences = { "a", "b" }`, vhost: tokens(`accepted_audiences: [b]`),
		costs: twice},
	{name: "another algorithm", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secret: ` + secretA + secretB + `, algorithms: [HS512]}`,
		lines: []string{`app_secret = "` + secretA + secretB + `"`, `signature_algorithm = "HS512"`}, costs: twice},
	{name: "an algorithm that is too much", existing: verifies + `signature_algorithm = "HS384"`, vhost: oneIssuer,
		lines: []string{`signature_algorithm = "HS256"`}, costs: twice},
	{name: "no room", existing: verifies, vhost: tokens(`require_room: false`),
		lines: []string{`asap_require_room_claim = false`}, costs: twice},
	{name: "the room elsewhere", existing: verifies, vhost: tokens(`claims: {room: lesson}`),
		lines: []string{`asap_require_room_claim = false`}, costs: twice},
	{name: "no room, known", existing: verifies + `asap_require_room_claim = false`, vhost: tokens(`require_room: false`),
		costs: twice},
	{name: "less required", existing: verifies + `asap_require_room_claim = false enable_domain_verification = false allow_empty_token = true`, vhost: oneIssuer,
		costs: twice},
	{name: "any domain", existing: verifies, vhost: tokens(`domain_verification: false`),
		lines: []string{`enable_domain_verification = false`}, costs: []string{"in room Y", "verified twice", "without sub"}},
	{name: "the tenant elsewhere", existing: verifies, vhost: tokens(`claims: {tenant: school}`),
		lines: []string{`enable_domain_verification = false`}, costs: []string{"in room Y", "verified twice", "without sub"}},
	{name: "empty tokens", existing: verifies, vhost: tokens(`allow_empty_token: true`),
		lines: []string{`allow_empty_token = true`}, costs: twice},
	{name: "empty tokens, forbidden", existing: verifies + `allow_empty_token = false`, vhost: tokens(`allow_empty_token: true`),
		lines: []string{`allow_empty_token = true`}, costs: twice},
	{name: "an option of the wrong type", existing: verifies + `asap_require_room_claim = "perhaps"`, vhost: tokens(`require_room: false`),
		lines: []string{`asap_require_room_claim = false`}, costs: twice},
	{name: "guests with tokens, refused without", existing: verifies, vhost: "{kind: guest, app_id: my_app, app_secret: " + secretB + "}",
		lines: []string{`allow_empty_token = true`}, costs: twice},
	{name: "key server", existing: asksServer, vhost: `{kind: token, app_id: my_app, ` + keyServer + `}`, costs: twice},
	{name: "another key server", existing: asksServer, vhost: `{kind: token, app_id: my_app, asap_key_server: "https://other.example.com"}`,
		lines: []string{`asap_key_server = "https://other.example.com"`}, costs: twice},
	{name: "a key server in the place of a secret", existing: verifies + `signature_algorithm = "HS256"`, vhost: `{kind: token, app_id: my_app, ` + keyServer + `}`,
		lines: []string{`asap_key_server = "https://keys.example.com"`, `signature_algorithm = "RS256"`}, costs: twice},
	{name: "certificates", existing: `authentication = "token" app_id = "my_app" cache_keys_url = "https://keys.example.com/map"`,
		vhost: `{kind: token, app_id: my_app, cache_keys_url: https://keys.example.com/map, algorithms: [RS512]}`,
		lines: []string{`signature_algorithm = "RS512"`}, costs: twice},
	{name: "a JWK Set that the plugin reads, too", existing: `authentication = "token" app_id = "my_app" cache_keys_url = "https://keys.example.com/jwks"`,
		vhost: `{kind: token, app_id: my_app, jwks_url: https://keys.example.com/jwks}`, costs: twice},
	{name: "options for all hosts", global: verifies + `allow_empty_token = true asap_accepted_audiences = { "a" }`,
		vhost: tokens(`allow_empty_token: true, accepted_audiences: [b]`),
		lines: []string{`asap_accepted_audiences = { "b" }`}, costs: twice},
	{name: "a key server for all hosts", global: `asap_key_server = "https://keys.example.com"`, existing: verifies, vhost: oneIssuer,
		lines: toJitsi, costs: once},

	// People logged in by other means.
	{name: "passwords", existing: `authentication = "internal_hashed"`, vhost: oneIssuer, lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`},
		costs: lost},
	{name: "nothing said", vhost: oneIssuer, lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`},
		costs: lost},
	{name: "passwords beside Jitsi", existing: `authentication = "ldap" Component "focus.meet.example.com" "client_proxy"`, vhost: "{kind: guest}",
		lines: toJitsi},
	{name: "Matrix", existing: `authentication = "hybrid_matrix_token" app_id = "my_app"`, vhost: oneIssuer,
		lines: toJitsi, costs: once},
	{name: "Matrix alone", existing: `authentication = "matrix_user_verification"`, vhost: "{kind: guest}",
		lines: toJitsi},

	// The operator chooses.
	{name: "chosen", existing: verifies, vhost: tokens(`require_room: false`), chosen: "jitsi-anonymous",
		lines: toJitsi, costs: once},
	{name: "chosen already", existing: `authentication = "jitsi-anonymous"`, vhost: oneIssuer, chosen: "jitsi-anonymous",
		costs: once},
	{name: "chosen against Jitsi", existing: `authentication = "jitsi-anonymous"`, vhost: oneIssuer, chosen: "anonymous",
		lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`}, costs: lost},
	{name: "token is chosen where it is not", existing: `authentication = "jitsi-anonymous"`, vhost: oneIssuer, chosen: "token", costs: once},

	// With usher's module nobody but usher verifies, and features have an effect.
	{name: "the module", existing: verifies, vhost: oneIssuer, module: true, lines: toJitsi, costs: connect},
	{name: "the module, and people without a token", existing: verifies + `allow_empty_token = true`, vhost: tokens(`allow_empty_token: true`), module: true,
		lines: toJitsi, costs: []string{"verified once"}},
	{name: "the module, and guests", existing: verifies + `allow_empty_token = true`, module: true,
		vhost: "{kind: guest, app_id: my_app, app_secret: " + secretB + "}", lines: toJitsi, costs: []string{"verified once"}},
	{name: "the module, and two issuers", existing: verifies, module: true, lines: toJitsi, costs: connect,
		vhost: `{kind: token, issuers: [{app_id: my_app, app_secret: ` + secretB + `}, {app_id: other, app_secret: ` + secretA + `}]}`},
	{name: "the module, and jitsi-anonymous", existing: `authentication = "jitsi-anonymous"`, vhost: oneIssuer, module: true, costs: connect},
	{name: "the module, and anonymous", existing: `authentication = "anonymous"`, vhost: oneIssuer, module: true, costs: []string{"cannot be resumed"}},
	{name: "the module, and token is chosen", existing: verifies, vhost: oneIssuer, module: true, chosen: "token", costs: twice13},
	{name: "the module, and token is chosen for keys of a server", existing: asksServer, module: true, chosen: "token", vhost: `{kind: token, app_id: my_app, ` + keyServer + `}`,
		costs: []string{"verified twice", "5 ms of Prosody's one thread"}},
	{name: "the module, and token is chosen but cannot verify", existing: verifies, module: true, chosen: "token", lines: toJitsi, costs: connect,
		vhost: `{kind: token, app_id: my_app, app_secrets: [` + secretA + `, ` + secretB + `]}`},
	{name: "the module, and one of Jitsi's that needs the token", existing: verifies + `modules_enabled = { "muc_auth_ban" }`, vhost: oneIssuer, module: true,
		costs: append([]string{"muc_auth_ban needs that"}, twice13...)},
	{name: "the module, and one for all hosts that needs the token", global: `modules_enabled = { "saslauth", "muc_auth_ban" }`, existing: verifies, vhost: oneIssuer,
		module: true, costs: append([]string{"muc_auth_ban needs that"}, twice13...)},
}

// TestProvider checks what the lines say about how people log in, what they say that it costs, and that nothing is missing once
// Prosody reads them.
func TestProvider(t *testing.T) {
	for _, test := range providerTests {
		t.Run(test.name, func(t *testing.T) {
			existing := test.global + "\nVirtualHost \"meet.example.com\" " + test.existing + "\nVirtualHost \"auth.meet.example.com\"\n" +
				"Component \"conference.meet.example.com\" \"muc\"\n"
			enforcement := "members-only"
			if test.module {
				enforcement = "module"
			}
			inFolder(t, "prosody.cfg.lua", existing, "keys.json", "{}", "usher.yaml", "xmpp: {domain: focus.meet.example.com, secret: "+secretA+
				"}\nrooms: {services: [conference.meet.example.com], enforcement: "+enforcement+"}\njicofo: {jid: focus@auth.meet.example.com}\n"+
				"vhosts:\n  meet.example.com: "+test.vhost+"\nprosody: {files: [prosody.cfg.lua]}\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			test.checkLines(t, c)
			test.checkFindings(t, c)
		})
	}
}

// checkLines checks the lines of the virtual host, and the costs in their comments.
func (test providerTest) checkLines(t *testing.T, c *config.Config) {
	t.Helper()
	lines, err := c.ProsodyLines(config.Lines{Authentication: test.chosen})
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(lines, "VirtualHost \"meet.example.com\"")
	section, _, _ = strings.Cut(section, "\n\n")
	var got, comments []string
	for _, line := range strings.Split(section, "\n")[1:] {
		text, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if text, _, _ = strings.Cut(text, " -- "); strings.HasPrefix(text, "--") {
			comments = append(comments, strings.TrimLeft(strings.TrimSpace(line), "- "))
		} else {
			got = append(got, text)
		}
	}
	if !slices.Equal(got, test.lines) {
		t.Errorf("it says %q, want %q:\n%s", got, test.lines, section)
	}
	said := strings.Join(comments, " ")
	for _, cost := range []string{"in room Y", "verified twice", "verified once", "features in tokens have no effect", "cannot be resumed", "without sub",
		"without a token can connect", "muc_auth_ban needs that"} {
		if strings.Contains(said, cost) != slices.Contains(test.costs, cost) {
			t.Errorf("the costs %q, want %q", said, test.costs)
		}
	}
	for _, cost := range test.costs {
		if !strings.Contains(said, cost) {
			t.Errorf("the costs %q, want %q", said, test.costs)
		}
	}
}

// checkFindings checks what is missing in the files, that nothing is with the lines, and that the costs are hinted at.
func (test providerTest) checkFindings(t *testing.T, c *config.Config) {
	t.Helper()
	before, err := c.CompareProsody(nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := c.CheckLines(config.Lines{Authentication: test.chosen})
	if err != nil {
		t.Fatal(err)
	}
	missed := func(findings []config.Finding) (mends []string) {
		for _, f := range findings {
			if f.Level != config.Hint && strings.HasPrefix(f.Text, "meet.example.com") {
				mends = append(mends, f.Mend)
			}
			if strings.Contains(f.Text+f.Mend, secretB) {
				t.Errorf("a secret is told: %+v", f)
			}
		}
		return mends
	}
	// Files that have token are not wrong, although the lines of the module change it.
	if got, want := missed(before), test.missing(); test.chosen == "" && !test.module && !slices.Equal(got, want) {
		t.Errorf("of the files it misses %q, want %q", got, want)
	}
	if got := missed(after); len(got) > 0 {
		t.Errorf("with its lines it misses %q", got)
	}
	for _, cost := range test.costs {
		if !slices.ContainsFunc(after, func(f config.Finding) bool { return f.Level == config.Hint && strings.Contains(f.Text, cost) }) {
			t.Errorf("nothing hints at %q: %v", cost, after)
		}
	}
}

// missing is what the files lack of the lines.
func (test providerTest) missing() (want []string) {
	for _, line := range test.lines {
		name, _, _ := strings.Cut(line, " = ")
		if name == "app_id" && strings.HasPrefix(test.lines[0], "authentication") {
			continue // it only marks the virtual host
		}
		if name == "app_secret" {
			line = `app_secret = "..."`
		}
		want = append(want, line)
	}
	return want
}

// People who may log in with any password are no hosts.
func TestAnyPasswordMakesNoHost(t *testing.T) {
	inFolder(t, "usher.yaml", guarded, "existing.cfg.lua", plain+`VirtualHost "staff.meet.example.com" authentication = "insecure"`)
	_, err := config.Load([]string{"existing.cfg.lua", "usher.yaml"}, nil)
	if err == nil || !strings.Contains(err.Error(), `authentication = "insecure", so nobody needs a password`) {
		t.Errorf("%v", err)
	}
}
