package config_test

import (
	"slices"
	"strings"
	"testing"
)

// jitsiYAML is a usher.yaml with a portal, and with the web page's configuration among its sources.
const jitsiYAML = "sources: {meet: [config.js]}\n" + mirotalkBase

// TestJitsiLines checks that what usher prints for config.js is understood as usher understands config.js, and leads to the portal.
func TestJitsiLines(t *testing.T) {
	inFolder(t, "usher.yaml", mirotalkBase)
	lines, err := load(t, "usher.yaml").JitsiLines()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"config.tokenAuthUrl = 'https://login.example.com/login?state={state}&room={room}';\n", "config.tokenAuthUrlAutoRedirect = true;\n",
		"config.tokenLogoutUrl = 'https://login.example.com/logout';\n", "// TOKEN_AUTH_URL=https://login.example.com/login?state={state}&room={room}\n", "TOKEN_LOGOUT_URL",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is missing in\n%s", want, lines)
		}
	}
	// Behind Jitsi's own file they win, and nothing is left to say.
	inFolder(t, "usher.yaml", jitsiYAML, "config.js", "var config = { tokenAuthUrl: 'https://elsewhere.example.com/{room}' };\n"+lines)
	c := load(t, "usher.yaml")
	if found := c.CompareMeet(); len(found) > 0 {
		t.Errorf("findings %v", found)
	}
	for _, w := range c.Warnings {
		if strings.Contains(w.Text, "portal") && !strings.Contains(w.Text, "nobody can log in") {
			t.Errorf("warning %s", w)
		}
	}
	// docker-jitsi-meet's variable, too.
	_, variable, _ := strings.Cut(lines, "\n// TOKEN_AUTH_URL")
	inFolder(t, "usher.yaml", "xmpp: {secret: "+secretA+"}\n"+strings.SplitAfter(mirotalkBase, "\n")[3],
		"docker.env", "ENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_APP_SECRET="+secretA+"\nTOKEN_AUTH_URL"+variable)
	for _, w := range load(t, "usher.yaml", "docker.env").Warnings {
		if strings.Contains(w.Text, "to log in") {
			t.Errorf("warning %s", w)
		}
	}
	inFolder(t, "usher.yaml", strings.Join(strings.SplitAfter(mirotalkBase, "\n")[:3], ""))
	if _, err := load(t, "usher.yaml").JitsiLines(); err == nil || !strings.Contains(err.Error(), "portal.listen") {
		t.Errorf("without a portal: %v", err)
	}
}

// TestJitsiElsewhere checks the warnings where the web page does not lead to the portal.
func TestJitsiElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		script   string
		findings []string
		warnings []string
	}{
		"nothing": {"var config = {};", []string{"warning meet config.js: there is no tokenAuthUrl", "hint meet config.js: tokenLogoutUrl", "hint meet config.js: tokenAuthUrlAutoRedirect"},
			[]string{"meet config.js: has no tokenAuthUrl"}},
		"elsewhere": {"var config = {\ntokenAuthUrl: 'https://login.example.com.evil.example/login?room={room}',\ntokenLogoutUrl: 'https://a.example.com',\ntokenAuthUrlAutoRedirect: undefined };",
			[]string{"warning meet config.js:2: tokenAuthUrl leads to", "hint meet config.js:3: tokenLogoutUrl", "hint meet config.js: tokenAuthUrlAutoRedirect"},
			[]string{"meet config.js:2: the web page sends people to https://login.example.com.evil.example"}},
		"without the room": {"config.tokenAuthUrl = 'https://login.example.com/login?';\nconfig.tokenAuthUrlAutoRedirect = true; config.tokenLogoutUrl = 'https://login.example.com/logout'",
			[]string{"warning meet config.js:1: tokenAuthUrl leads to"}, []string{"meet config.js:1: the web page sends people to"}},
		"not understood": {"a = 'b\n", nil, []string{"meet config.js:1: is not understood"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", jitsiYAML, "config.js", test.script)
			c := load(t, "usher.yaml")
			var found []string
			for _, f := range c.CompareMeet() {
				found = append(found, string(f.Level)+" "+f.Source+": "+f.Text)
				if !strings.HasPrefix(f.Mend, "config.token") {
					t.Errorf("no remedy in %v", f)
				}
			}
			compareTexts(t, found, test.findings)
			_, warnings := texts(t, c, nil)
			warnings = slices.DeleteFunc(warnings, func(w string) bool { return strings.Contains(w, "nobody can log in") })
			compareTexts(t, warnings, test.warnings)
		})
	}
	inFolder(t, "usher.yaml", mirotalkBase+"login: password\n")
	_, warnings := texts(t, load(t, "usher.yaml"), nil)
	if !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, "usher.yaml:5: login: password contradicts the portal")
	}) {
		t.Errorf("warnings %q", warnings)
	}
}

// TestPortalProvider checks that people do not log in by Jitsi's plugin token where the portal signs with a key, which the plugin cannot verify.
func TestPortalProvider(t *testing.T) {
	for sign, want := range map[string]bool{"app_secret": true, "key": false} {
		yaml := "sources: {prosody: [prosody.cfg.lua]}\n" +
			"portal: {listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com], sign: " + sign + "}\n"
		inFolder(t, "usher.yaml", yaml, "prosody.cfg.lua", prosodyFile)
		c := load(t, "usher.yaml")
		lines := linesOf(t, c)
		if changes := strings.Contains(lines, "verifies no Ed25519 signature"); changes == want || strings.Contains(lines, `authentication = "jitsi-anonymous"`) == want {
			t.Errorf("sign: %s:\n%s", sign, lines)
		}
	}
}
