package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestProvider checks what the lines say about how the people of a virtual host log in, what they say that it costs, and that
// nothing is missed once they are read. Existing is what Prosody's files say of the virtual host, and vhost what usher.yaml says.
func TestProvider(t *testing.T) {
	const (
		issuer   = `{kind: token, app_id: my_app, app_secret: ` + secretB + `}`
		verifies = `authentication = "token" app_id = "my_app" app_secret = "` + secretB + `" `
		keys     = `authentication = "token" app_id = "my_app" asap_key_server = "https://keys.example.com" `
		server   = `asap_key_server: https://keys.example.com`
	)
	token := func(more string) string {
		return "{kind: token, app_id: my_app, app_secret: " + secretB + ", " + more + "}"
	}
	for _, test := range []struct {
		name, global, existing, vhost, chosen string
		lines                                 []string // besides those in comments, without the reasons
		costs                                 []string
	}{
		// The provider stays.
		{name: "token", existing: verifies, vhost: issuer, costs: []string{"in room Y", "verified twice"}},
		{name: "jitsi-anonymous", existing: `authentication = "jitsi-anonymous"`, vhost: issuer,
			costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "anonymous", existing: `authentication = "anonymous"`, vhost: issuer,
			costs: []string{"cannot be resumed", "features in tokens have no effect"}},
		{name: "guests of jitsi-anonymous", existing: `authentication = "jitsi-anonymous"`, vhost: "{kind: guest}"},
		{name: "guests of anonymous", existing: `authentication = "anonymous"`, vhost: "{kind: guest}", costs: []string{"cannot be resumed"}},
		{name: "guests with tokens", existing: verifies + `allow_empty_token = true`,
			vhost: "{kind: guest, app_id: my_app, app_secret: " + secretB + "}", costs: []string{"in room Y", "verified twice"}},

		// Jitsi's plugin cannot verify what usher takes.
		{name: "two issuers", existing: verifies, vhost: `{kind: token, issuers: [{app_id: my_app, app_secret: ` + secretB + `}, {app_id: other, app_secret: ` + secretA + `}]}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "two secrets", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secrets: [` + secretA + `, ` + secretB + `]}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "two algorithms", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secret: ` + secretA + secretB + `, algorithms: [HS256, HS384]}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "another family", existing: keys, vhost: `{kind: token, app_id: my_app, ` + server + `, algorithms: [ES256]}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "keys in a file", existing: verifies, vhost: `{kind: token, app_id: my_app, jwks_file: keys.json}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "keys at an address", existing: verifies, vhost: `{kind: token, app_id: my_app, jwks_url: https://keys.example.com/jwks}`,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "a secret beside a key server", existing: keys, vhost: issuer,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "guests without tokens", existing: verifies, vhost: "{kind: guest}", lines: []string{`authentication = "jitsi-anonymous"`}},

		// It can, but would refuse somebody.
		{name: "no issuer", existing: `authentication = "token"`, vhost: issuer,
			lines: []string{`app_id = "my_app"`, `app_secret = "` + secretB + `"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "no issuer, as docker writes it", existing: `authentication = "token" app_id = "" app_secret = "` + secretB + `"`, vhost: issuer,
			lines: []string{`app_id = "my_app"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "another secret", existing: strings.Replace(verifies, secretB, secretA, 1), vhost: issuer,
			lines: []string{`app_secret = "` + secretB + `"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "another app_id", existing: strings.Replace(verifies, "my_app", "other", 1), vhost: issuer,
			lines: []string{`asap_accepted_issuers = { "my_app" }`}, costs: []string{"in room Y", "verified twice"}},
		{name: "another app_id, accepted", existing: strings.Replace(verifies, "my_app", "other", 1) + `asap_accepted_issuers = { "other", "my_app" }`,
			vhost: issuer, costs: []string{"in room Y", "verified twice"}},
		{name: "fewer issuers", existing: verifies, vhost: token(`accepted_issuers: [my_app, other]`),
			lines: []string{`asap_accepted_issuers = { "my_app", "other" }`}, costs: []string{"in room Y", "verified twice"}},
		{name: "more issuers", existing: verifies + `asap_accepted_issuers = { "*" }`, vhost: token(`accepted_issuers: [my_app, other]`),
			costs: []string{"in room Y", "verified twice"}},
		{name: "fewer audiences", existing: verifies + `asap_accepted_audiences = { "a" }`, vhost: issuer,
			lines: []string{`asap_accepted_audiences = { "*" }`}, costs: []string{"in room Y", "verified twice"}},
		{name: "other audiences", existing: verifies + `asap_accepted_audiences = { "a", "b" }`, vhost: token(`accepted_audiences: [b, c]`),
			lines: []string{`asap_accepted_audiences = { "b", "c" }`}, costs: []string{"in room Y", "verified twice"}},
		{name: "more audiences", existing: verifies + `asap_accepted_audiences = { "a", "b" }`, vhost: token(`accepted_audiences: [b]`),
			costs: []string{"in room Y", "verified twice"}},
		{name: "another algorithm", existing: verifies, vhost: `{kind: token, app_id: my_app, app_secret: ` + secretA + secretB + `, algorithms: [HS512]}`,
			lines: []string{`app_secret = "` + secretA + secretB + `"`, `signature_algorithm = "HS512"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "an algorithm that is too much", existing: verifies + `signature_algorithm = "HS384"`, vhost: issuer,
			lines: []string{`signature_algorithm = "HS256"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "no room", existing: verifies, vhost: token(`require_room: false`),
			lines: []string{`asap_require_room_claim = false`}, costs: []string{"in room Y", "verified twice"}},
		{name: "the room elsewhere", existing: verifies, vhost: token(`claims: {room: lesson}`),
			lines: []string{`asap_require_room_claim = false`}, costs: []string{"in room Y", "verified twice"}},
		{name: "no room, known", existing: verifies + `asap_require_room_claim = false`, vhost: token(`require_room: false`),
			costs: []string{"in room Y", "verified twice"}},
		{name: "less required", existing: verifies + `asap_require_room_claim = false enable_domain_verification = false allow_empty_token = true`, vhost: issuer,
			costs: []string{"in room Y", "verified twice"}},
		{name: "any domain", existing: verifies, vhost: token(`domain_verification: false`),
			lines: []string{`enable_domain_verification = false`}, costs: []string{"in room Y", "verified twice", "without sub"}},
		{name: "the tenant elsewhere", existing: verifies, vhost: token(`claims: {tenant: school}`),
			lines: []string{`enable_domain_verification = false`}, costs: []string{"in room Y", "verified twice", "without sub"}},
		{name: "empty tokens", existing: verifies, vhost: token(`allow_empty_token: true`),
			lines: []string{`allow_empty_token = true`}, costs: []string{"in room Y", "verified twice"}},
		{name: "empty tokens, forbidden", existing: verifies + `allow_empty_token = false`, vhost: token(`allow_empty_token: true`),
			lines: []string{`allow_empty_token = true`}, costs: []string{"in room Y", "verified twice"}},
		{name: "an option of the wrong type", existing: verifies + `asap_require_room_claim = "perhaps"`, vhost: token(`require_room: false`),
			lines: []string{`asap_require_room_claim = false`}, costs: []string{"in room Y", "verified twice"}},
		{name: "guests with tokens, refused without", existing: verifies, vhost: "{kind: guest, app_id: my_app, app_secret: " + secretB + "}",
			lines: []string{`allow_empty_token = true`}, costs: []string{"in room Y", "verified twice"}},
		{name: "key server", existing: keys, vhost: `{kind: token, app_id: my_app, ` + server + `}`, costs: []string{"in room Y", "verified twice"}},
		{name: "another key server", existing: keys, vhost: `{kind: token, app_id: my_app, asap_key_server: "https://other.example.com"}`,
			lines: []string{`asap_key_server = "https://other.example.com"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "a key server in the place of a secret", existing: verifies + `signature_algorithm = "HS256"`, vhost: `{kind: token, app_id: my_app, ` + server + `}`,
			lines: []string{`asap_key_server = "https://keys.example.com"`, `signature_algorithm = "RS256"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "certificates", existing: `authentication = "token" app_id = "my_app" cache_keys_url = "https://keys.example.com/map"`,
			vhost: `{kind: token, app_id: my_app, cache_keys_url: https://keys.example.com/map, algorithms: [RS512]}`,
			lines: []string{`signature_algorithm = "RS512"`}, costs: []string{"in room Y", "verified twice"}},
		{name: "a JWK Set that the plugin reads, too", existing: `authentication = "token" app_id = "my_app" cache_keys_url = "https://keys.example.com/jwks"`,
			vhost: `{kind: token, app_id: my_app, jwks_url: https://keys.example.com/jwks}`, costs: []string{"in room Y", "verified twice"}},
		{name: "options for all hosts", global: verifies + `allow_empty_token = true asap_accepted_audiences = { "a" }`,
			vhost: token(`allow_empty_token: true, accepted_audiences: [b]`),
			lines: []string{`asap_accepted_audiences = { "b" }`}, costs: []string{"in room Y", "verified twice"}},
		{name: "a key server for all hosts", global: `asap_key_server = "https://keys.example.com"`, existing: verifies, vhost: issuer,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},

		// People logged in otherwise.
		{name: "passwords", existing: `authentication = "internal_hashed"`, vhost: issuer, lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`},
			costs: []string{"cannot be resumed", "features in tokens have no effect"}},
		{name: "nothing said", vhost: issuer, lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`},
			costs: []string{"cannot be resumed", "features in tokens have no effect"}},
		{name: "passwords beside Jitsi", existing: `authentication = "ldap" Component "focus.meet.example.com" "client_proxy"`, vhost: "{kind: guest}",
			lines: []string{`authentication = "jitsi-anonymous"`}},
		{name: "Matrix", existing: `authentication = "hybrid_matrix_token" app_id = "my_app"`, vhost: issuer,
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "Matrix alone", existing: `authentication = "matrix_user_verification"`, vhost: "{kind: guest}",
			lines: []string{`authentication = "jitsi-anonymous"`}},

		// The operator chooses.
		{name: "chosen", existing: verifies, vhost: token(`require_room: false`), chosen: "jitsi-anonymous",
			lines: []string{`authentication = "jitsi-anonymous"`}, costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "chosen already", existing: `authentication = "jitsi-anonymous"`, vhost: issuer, chosen: "jitsi-anonymous",
			costs: []string{"features in tokens have no effect", "verified once"}},
		{name: "chosen against Jitsi", existing: `authentication = "jitsi-anonymous"`, vhost: issuer, chosen: "anonymous",
			lines: []string{`authentication = "anonymous"`, `app_id = "my_app"`}, costs: []string{"cannot be resumed", "features in tokens have no effect"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			existing := test.global + "\nVirtualHost \"meet.example.com\" " + test.existing + "\nVirtualHost \"auth.meet.example.com\"\n" +
				"Component \"conference.meet.example.com\" \"muc\"\n"
			inFolder(t, "prosody.cfg.lua", existing, "keys.json", "{}", "usher.yaml", "xmpp: {domain: focus.meet.example.com, secret: "+secretA+
				"}\nrooms: {services: [conference.meet.example.com]}\njicofo: {jid: focus@auth.meet.example.com}\n"+
				"vhosts:\n  meet.example.com: "+test.vhost+"\nprosody: {files: [prosody.cfg.lua]}\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
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
			for _, cost := range []string{"in room Y", "verified twice", "verified once", "features in tokens have no effect", "cannot be resumed", "without sub"} {
				if strings.Contains(said, cost) != slices.Contains(test.costs, cost) {
					t.Errorf("the costs %q, want %q", said, test.costs)
				}
			}

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
			if test.chosen == "" {
				var want []string
				for _, line := range test.lines {
					name, _, _ := strings.Cut(line, " = ")
					if name == "app_id" && strings.HasPrefix(test.lines[0], "authentication") {
						continue // which only tells
					}
					if name == "app_secret" {
						line = `app_secret = "..."`
					}
					want = append(want, line)
				}
				if got := missed(before); !slices.Equal(got, want) {
					t.Errorf("of the files it misses %q, want %q", got, want)
				}
			}
			if got := missed(after); len(got) > 0 {
				t.Errorf("with its lines it misses %q", got)
			}
			for _, cost := range test.costs {
				if !slices.ContainsFunc(after, func(f config.Finding) bool { return f.Level == config.Hint && strings.Contains(f.Text, cost) }) {
					t.Errorf("nothing hints at %q: %v", cost, after)
				}
			}
		})
	}
}

// People who may log in with any password are no hosts.
func TestAnyPasswordMakesNoHost(t *testing.T) {
	inFolder(t, "usher.yaml", guarded, "existing.cfg.lua", plain+`VirtualHost "staff.meet.example.com" authentication = "insecure"`)
	_, err := config.Load([]string{"existing.cfg.lua", "usher.yaml"}, nil)
	if err == nil || !strings.Contains(err.Error(), `authentication = "insecure", so nobody needs a password`) {
		t.Errorf("%v", err)
	}
}
