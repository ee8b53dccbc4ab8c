package config_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestLayers sets keys in all layers, and removes one layer after the other.
func TestLayers(t *testing.T) {
	for _, test := range []struct {
		key, docker, file, variable string
		origins, values             []string // from the default on
	}{
		{
			key: "xmpp.server", docker: "XMPP_SERVER=xmpp.meet.jitsi", file: "xmpp: {server: 127.0.0.1:5350}",
			variable: "USHER_XMPP_SERVER=127.0.0.1:5351",
			origins: []string{"default", "prosody prosody.cfg.lua:1", "docker jitsi.env:2 XMPP_SERVER", "usher.yaml:1",
				"environment USHER_XMPP_SERVER"},
			values: []string{"127.0.0.1:5347", "127.0.0.1:5348", "xmpp.meet.jitsi:5347", "127.0.0.1:5350", "127.0.0.1:5351"},
		},
		{
			key: "vhosts.meet.example.com.accepted_audiences", docker: "JWT_ACCEPTED_AUDIENCES=docker",
			file:     "vhosts: {meet.example.com: {accepted_audiences: [file]}}",
			variable: "USHER_VHOSTS_MEET_EXAMPLE_COM_ACCEPTED_AUDIENCES=variable",
			origins: []string{"default", "prosody prosody.cfg.lua:6", "docker jitsi.env:2 JWT_ACCEPTED_AUDIENCES",
				"usher.yaml:1", "environment USHER_VHOSTS_MEET_EXAMPLE_COM_ACCEPTED_AUDIENCES"},
			values: []string{"['*']", "[prosody]", "[docker]", "[file]", "[variable]"},
		},
	} {
		for top := range test.origins {
			t.Run(test.key+" "+test.origins[top], func(t *testing.T) {
				from, docker, file := prosodyFile, "XMPP_DOMAIN=meet.example.com\n", "{}"
				var environ []string
				if top < 1 {
					var kept []string
					for line := range strings.Lines(from) {
						if !strings.Contains(line, "component_ports") && !strings.Contains(line, "audiences") {
							kept = append(kept, line)
						}
					}
					from = strings.Join(kept, "")
				}
				files := []string{"usher.yaml", "prosody.cfg.lua"}
				if top >= 2 {
					docker += test.docker + "\n"
					files = append(files, "jitsi.env")
				}
				docker += "ENABLE_AUTH=1\nAUTH_TYPE=jwt\n"
				if top >= 3 {
					file = test.file
				}
				if top >= 4 {
					environ = append(environ, test.variable)
				}
				inFolder(t, "prosody.cfg.lua", from, "jitsi.env", docker, "usher.yaml", file)
				c, err := config.Load(files, environ)
				if err != nil {
					t.Fatal(err)
				}
				s, _ := setting(c, test.key)
				if s.Value() != test.values[top] || s.Origin != test.origins[top] {
					t.Errorf("%s is %s from %q, want %s from %q", test.key, s.Value(), s.Origin, test.values[top], test.origins[top])
				}
			})
		}
	}
}

// TestInsteadOfSources checks that a key of usher.yaml keeps out another key with the same meaning from Prosody.
func TestInsteadOfSources(t *testing.T) {
	token := strings.NewReplacer("  app_id", "  signature_algorithm = \"HS384\"\n  app_id",
		`"muc"`, `"muc" modules_enabled = { "token_affiliation" }`).Replace(prosodyFile)
	for _, test := range []struct {
		name, vhost string
		without     []string // keys that Prosody has, and that must not have come through
		check       func(t *testing.T, v config.VHost)
	}{
		{"secret in a file", "app_secret_file: app.secret\n    algorithms: [HS256]", []string{"app_secret"}, func(t *testing.T, v config.VHost) {
			if got := v.Issuers[0].AppSecrets; len(got) != 1 || got[0].Reveal() != secretA {
				t.Error("another secret counts")
			}
		}},
		{"secrets", "app_secrets: [" + secretA + "]\n    algorithms: [HS256]", []string{"app_secret"}, nil},
		{"public keys", "jwks_url: https://keys.example.com/jwks", []string{"app_secret"}, func(t *testing.T, v config.VHost) {
			if got := v.Issuers[0].Algorithms; !slices.Equal(got, []string{"RS256"}) {
				t.Errorf("algorithms %v", got)
			}
			if v.Issuers[0].AppID != "prosody_app" {
				t.Errorf("app_id %q", v.Issuers[0].AppID)
			}
		}},
		{"list of issuers", "issuers: [{app_id: one, app_secret_file: app.secret}]",
			[]string{"app_id", "app_secret", "algorithms", "accepted_audiences"}, func(t *testing.T, v config.VHost) {
				if len(v.Issuers) != 1 || v.Issuers[0].AppID != "one" || v.Kind != config.KindToken {
					t.Errorf("vhost %v", v)
				}
				if v.DefaultAffiliation != config.Member { // it is the virtual host's, and not an issuer's
					t.Errorf("by default tokens make a %s", v.DefaultAffiliation)
				}
			}},
		{"guest", "kind: guest", []string{"app_id", "app_secret", "accepted_audiences", "algorithms"}, func(t *testing.T, v config.VHost) {
			if len(v.Issuers) > 0 || v.Kind != config.KindGuest {
				t.Errorf("vhost %v", v)
			}
		}},
		{"service", "kind: service", []string{"app_id", "app_secret"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "prosody.cfg.lua", token, "app.secret", secretA+"\n",
				"usher.yaml", fromProsody+"vhosts:\n  meet.example.com:\n    "+test.vhost+"\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range test.without {
				if s, there := setting(c, "vhosts.meet.example.com."+key); there && strings.HasPrefix(s.Origin, "prosody") {
					t.Errorf("%s is from %s", key, s.Origin)
				}
			}
			if test.check != nil {
				test.check(t, c.VHosts[0])
			}
		})
	}

	t.Run("component's secret in a file", func(t *testing.T) {
		inFolder(t, "prosody.cfg.lua", prosodyFile, "x.secret", secretB, "usher.yaml", fromProsody+"xmpp:\n  secret_file: x.secret\n")
		c, err := config.Load([]string{"usher.yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.XMPP.Secret.Reveal() != secretB {
			t.Error("the secret of Prosody counts")
		}
	})
}

// TestSourcesOfCommandLine checks that files named on the command line count instead of those of usher.yaml and of the
// environment.
func TestSourcesOfCommandLine(t *testing.T) {
	other := strings.ReplaceAll(prosodyFile, "prosody_app", "other_app")
	inFolder(t, "prosody.cfg.lua", prosodyFile, "other.cfg.lua", other, "usher.yaml", fromProsody,
		"jitsi.env", "XMPP_DOMAIN=env.example.com\n")
	for _, test := range []struct {
		files, environ []string
		want           string
	}{
		{[]string{"usher.yaml"}, nil, "prosody_app"},
		{[]string{"usher.yaml"}, []string{"USHER_SOURCES_PROSODY=other.cfg.lua"}, "other_app"},
		{[]string{"usher.yaml", "other.cfg.lua"}, nil, "other_app"},
		{[]string{"other.cfg.lua", "usher.yaml"}, []string{"USHER_SOURCES_PROSODY=prosody.cfg.lua"}, "other_app"},
		{[]string{"other.cfg.lua"}, []string{"USHER_SOURCES_PROSODY=nowhere.cfg.lua"}, "other_app"},
	} {
		c, err := config.Load(test.files, test.environ)
		if err != nil {
			t.Errorf("%v, %v: %v", test.files, test.environ, err)
			continue
		}
		if s, _ := setting(c, "vhosts.meet.example.com.app_id"); s.Value() != test.want {
			t.Errorf("%v, %v: app_id %s, want %s", test.files, test.environ, s.Value(), test.want)
		}
	}
	c, err := config.Load([]string{"usher.yaml", "jitsi.env"}, []string{"USHER_SOURCES_DOCKER=nowhere.env"})
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := setting(c, "xmpp.domain"); s.Value() != "focus.env.example.com" || s.Origin != "docker jitsi.env:1 XMPP_DOMAIN" {
		t.Errorf("xmpp.domain is %s from %q", s.Value(), s.Origin)
	}
}

// TestSourceProblems checks the problems of sources that cannot be read or that contradict usher.yaml.
func TestSourceProblems(t *testing.T) {
	anonymous := strings.NewReplacer(`"token"`, `"anonymous"`, `app_id = "prosody_app"`, "").Replace(prosodyFile)
	for _, test := range []struct {
		name    string
		files   []string
		environ []string
		content []string // of files, by name
		want    string   // what the one problem contains
	}{
		{name: "trusted and anonymous", files: []string{"usher.yaml"},
			content: []string{"prosody.cfg.lua", anonymous, "usher.yaml", fromProsody + "vhosts: {meet.example.com: {kind: trusted}}"},
			want:    `usher.yaml:3: vhosts.meet.example.com.kind: is trusted, but prosody.cfg.lua:3 says authentication = "anonymous"`},
		{name: "no such Prosody file", files: []string{"usher.yaml"}, content: []string{"usher.yaml", fromProsody},
			want: "prosody.cfg.lua"},
		{name: "no such .env file", files: []string{"usher.yaml"}, content: []string{"usher.yaml", "sources: {docker: gone.env}"},
			want: "usher.yaml:1: gone.env cannot be read: no such file or directory"},
		{name: "no such file of the environment", environ: []string{"USHER_SOURCES_DOCKER=gone.env"},
			want: "environment USHER_SOURCES_DOCKER: gone.env cannot be read: no such file or directory"},
		{name: "no such file of the command line", files: []string{"gone.env"},
			want: "command line: gone.env cannot be read: no such file or directory"},
		{name: "two .env files", files: []string{"a.env", "b.env"}, content: []string{"a.env", "", "b.env", ""},
			want: "command line: b.env is a second file of its kind: name one only"},
		{name: "not Lua", files: []string{"prosody.cfg.lua"}, content: []string{"prosody.cfg.lua", "VirtualHost \"a\n"},
			want: "prosody prosody.cfg.lua:1: "},
		{name: "not .env", files: []string{"a.env"}, content: []string{"a.env", "JWT_APP_SECRET " + secretA + "\n"},
			want: "docker a.env:1: is no variable: write NAME=value"},
		{name: "a folder", files: []string{"folder.env"}, want: "command line: folder.env cannot be read: it is a folder, not a file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, test.content...)
			if err := os.Mkdir("folder.env", 0o700); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(test.files, test.environ)
			problems, _ := texts(t, c, err)
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, test.want) }) {
				t.Errorf("problems %q, want %q", problems, test.want)
			}
			if strings.Contains(strings.Join(problems, "\n"), secretA) {
				t.Error("a problem has the secret in it")
			}
		})
	}
}

// TestImport checks that any secret survives the way through a usher.yaml.
func TestImport(t *testing.T) {
	const fill = "0123456789abcdef0123456789abcdef"
	for _, odd := range []string{
		"", "a: b # c", "'", `"`, `\`, "!x", "*y", "&z", "%", "@", "`", "- a", "? a", "[", "{", "|", ">", "~", "null", "#",
		"ünïcödé 日本 🗝", "   ", "\t", "\n", "\r\n", "a\nb\n", "\u2028", "\u0085", "\ufeff", "\x01", "---\n", "$NAME ${NAME}",
		strings.Repeat("long ", 2000), strings.Repeat("x", 10000),
	} {
		for _, secret := range []string{odd + fill, fill + odd, fill[:20] + odd + fill[20:]} {
			inFolder(t)
			write(t, "prosody.cfg.lua", []byte(strings.NewReplacer(secretA, luaText(secret), secretB, luaText(secret),
				`"prosody_app"`, `"`+luaText(secret)+`"`, `{ "prosody" }`, `{ "true", "4711", "null", "*", "`+luaText(secret)+`" }`).Replace(prosodyFile)))
			file, err := config.Import{Prosody: []string{"prosody.cfg.lua"}}.YAML()
			if err != nil {
				t.Errorf("%q: %v", secret, err)
				continue
			}
			write(t, "usher.yaml", file)
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Errorf("%.60q: %v in\n%.2000s", secret, err, file)
				continue
			}
			if got := c.XMPP.Secret.Reveal(); got != secret {
				t.Errorf("xmpp.secret %.60q has become %.60q", secret, got)
			}
			if got := c.VHosts[0].Issuers[0].AppSecrets[0].Reveal(); got != secret {
				t.Errorf("app_secret %.60q has become %.60q", secret, got)
			}
			if i := c.VHosts[0].Issuers[0]; i.AppID != secret || !slices.Equal(i.AcceptedAudiences, []string{"true", "4711", "null", "*", secret}) {
				t.Errorf("app_id and accepted_audiences %.60q have become %.60q and %.60q", secret, i.AppID, i.AcceptedAudiences)
			}
			if c.Settings[0].Origin == "" || !strings.Contains(string(file), "# prosody prosody.cfg.lua:") {
				t.Errorf("the file does not say where its keys are from:\n%.2000s", file)
			}
		}
	}
}

// TestImportDocker checks the same for docker-jitsi-meet's variables. There the component's secret has to be added.
func TestImportDocker(t *testing.T) {
	for _, odd := range []string{"a: b # c", "'", "!x", "*y", "  ", "\n", "ü"} {
		secret := odd + secretB + odd
		environ := dockerEnviron("ENABLE_AUTH=1", "AUTH_TYPE=jwt", "JWT_APP_SECRET="+secret, "TOKEN_AUTH_URL=https://a\n# b")
		inFolder(t)
		file, err := config.Import{Docker: "environment", Environ: environ}.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(file), "# To do: ") || !strings.Contains(string(file), "# Note: ") ||
			!strings.Contains(string(file), "# docker JWT_APP_ID\n") {
			t.Errorf("it does not say what is missing, left out, and where its keys are from:\n%s", file)
		}
		write(t, "usher.yaml", file)
		c, err := config.Load([]string{"usher.yaml"}, []string{"USHER_XMPP_SECRET=" + secretA})
		if err != nil {
			t.Fatalf("%v in\n%s", err, file)
		}
		if got := c.VHosts[0].Issuers[0].AppSecrets[0].Reveal(); got != secret {
			t.Errorf("app_secret %q has become %q", secret, got)
		}
	}
}
