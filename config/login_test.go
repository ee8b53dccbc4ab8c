package config_test

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// The login follows from other keys and sources, and "usher config show --origin" says from which.
func TestLogin(t *testing.T) {
	const (
		base    = "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\n"
		tokens  = "vhosts:\n  meet.example.com: {kind: token, app_id: a, app_secret: " + secretA + "}\n"
		trusted = tokens + "  users.example.com: {kind: trusted}\n"
		meet    = "sources: {meet: [a.js, b.js]}\n"
		docker  = "sources: {docker: jitsi.env}\n"
		url     = "var config = {\n  tokenAuthUrl: 'https://login.example.com/{room}' };\n"
		none    = "var config = { hosts: { authdomain: 'meet.example.com' } };\n"
		broken  = none + "a = 'b\n"
		jwt     = "ENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_APP_SECRET=" + secretA + "\n"
		passw   = "ENABLE_AUTH=1\n"
		byURL   = jwt + "TOKEN_AUTH_URL=https://login.example.com/{room}\n"
	)
	for name, tt := range map[string]struct {
		yaml, a, b, env string
		environ         []string
		want            config.Login
		shown, origin   string
	}{
		"nothing is known":              {yaml: base + tokens, shown: "password", origin: "default"},
		"a trusted virtual host":        {yaml: base + trusted, want: config.LoginPassword, origin: "usher.yaml:5"},
		"the page has an address":       {yaml: meet + base + tokens, a: none, b: url, want: config.LoginURL, origin: "meet b.js:2"},
		"the page has none":             {yaml: meet + base + tokens, a: none, b: none, want: config.LoginNone, origin: "meet a.js"},
		"one page is not understood":    {yaml: meet + base + tokens, a: none, b: broken, shown: "password", origin: "default"},
		"an address before passwords":   {yaml: meet + base + trusted, a: url, b: broken, want: config.LoginURL, origin: "meet a.js:2"},
		"passwords without an address":  {yaml: meet + base + trusted, a: none, b: none, want: config.LoginPassword, origin: "usher.yaml:6"},
		"docker, an address":            {yaml: docker + base, env: byURL, want: config.LoginURL, origin: "docker jitsi.env:5 TOKEN_AUTH_URL"},
		"docker, no address":            {yaml: docker + base, env: jwt, want: config.LoginNone, origin: "docker default of TOKEN_AUTH_URL"},
		"docker, an empty one":          {yaml: docker + base, env: jwt + "TOKEN_AUTH_URL=\n", want: config.LoginNone, origin: "docker jitsi.env:5 TOKEN_AUTH_URL"},
		"docker, passwords":             {yaml: docker + base, env: passw, want: config.LoginPassword, origin: "docker default of AUTH_TYPE"},
		"docker, and a page that has":   {yaml: "sources: {docker: jitsi.env, meet: [a.js]}\n" + base, env: jwt, a: url, want: config.LoginURL, origin: "meet a.js:2"},
		"docker, and a page that hides": {yaml: "sources: {docker: jitsi.env, meet: [a.js]}\n" + base, env: jwt, a: broken, shown: "password", origin: "default"},
		"written down":                  {yaml: meet + base + trusted + "login: none\n", a: url, b: url, want: config.LoginNone, origin: "usher.yaml:7"},
		"by the environment":            {yaml: base + trusted, environ: []string{"USHER_LOGIN=url"}, want: config.LoginURL, origin: "environment USHER_LOGIN"},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", tt.yaml, "a.js", tt.a, "b.js", tt.b, "jitsi.env", tt.env)
			c, err := config.Load([]string{"usher.yaml"}, tt.environ)
			if err != nil {
				t.Fatal(err)
			}
			if tt.shown == "" {
				tt.shown = string(tt.want)
			}
			if s, ok := setting(c, "login"); c.Login != tt.want || !ok || s.Value() != tt.shown || s.Origin != tt.origin {
				t.Errorf("login %q, shown as %q from %q; want %q, %q from %q", c.Login, s.Value(), s.Origin, tt.want, tt.shown, tt.origin)
			}
		})
	}
	inFolder(t, "usher.yaml", base+tokens+"login: pasword\n")
	c, err := config.Load([]string{"usher.yaml"}, nil)
	if problems, _ := texts(t, c, err); len(problems) != 1 || problems[0] != `usher.yaml:5: login: "pasword" is not known: it must be none, password or url (did you mean password?)` {
		t.Errorf("problems %q", problems)
	}
}

// An import writes the login that follows from docker-jitsi-meet's variables, because the result does not name them. A login that
// follows from the rest is left to it.
func TestImportLogin(t *testing.T) {
	for name, tt := range map[string]struct {
		env, want string
	}{
		"an address": {"ENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_APP_SECRET=" + secretA + "\nTOKEN_AUTH_URL=https://login.example.com/{room}\n",
			"\nlogin: url # docker jitsi.env:5 TOKEN_AUTH_URL\n"},
		"no address": {"ENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_APP_SECRET=" + secretA + "\n", "\nlogin: none # docker default of TOKEN_AUTH_URL\n"},
	} {
		inFolder(t, "jitsi.env", tt.env)
		yaml, err := config.Import{Docker: "jitsi.env"}.YAML()
		if err != nil || !strings.Contains(string(yaml), tt.want) {
			t.Errorf("%s: %v, no %q in\n%s", name, err, tt.want, yaml)
		}
	}
	inFolder(t, "prosody.cfg.lua", strings.Replace(prosodyFile, `"token"`, `"internal_hashed"`, 1))
	yaml, err := config.Import{Prosody: []string{"prosody.cfg.lua"}, Trusted: []string{"meet.example.com"}, MeetFolder: t.TempDir()}.YAML()
	if err != nil || strings.Contains(string(yaml), "login:") {
		t.Errorf("%v, a login in\n%s", err, yaml)
	}
}
