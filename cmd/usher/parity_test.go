package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
)

// parityTables is the file with the tables that compare the portal with others.
const parityTables = "auth/portal/README.md"

// The tables name a test for each row, all of them exist, and no test of the list is left out.
func TestParityTables(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", parityTables))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)` \\(`([a-z/]+)`\\)")
	tests := testsOfModule(t)
	said := make(map[string]bool)
	rows, shown := 0, false
	for n, line := range strings.Split(string(content), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			shown = false
			continue
		case strings.TrimSpace(cells[len(cells)-1]) == "Shown by":
			shown = true
			continue
		case !shown, strings.HasPrefix(line, "|---"):
			continue
		}
		rows++
		all := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(all) == 0 {
			t.Errorf("%s:%d: no test shows this row", parityTables, n+1)
		}
		for _, m := range all {
			if at := m[2] + "." + m[1]; !tests[at] {
				t.Errorf("%s:%d: there is no %s in %s", parityTables, n+1, m[1], m[2])
			} else {
				said[at] = true
			}
		}
	}
	if rows < 50 {
		t.Errorf("%s has %d rows", parityTables, rows)
	}
	for at := range tests {
		if _, name, _ := strings.Cut(at, "."); strings.HasPrefix(name, "TestParity") && name != t.Name() && !said[at] {
			t.Errorf("%s does not name %s", parityTables, at)
		}
	}
}

// testsOfModule returns all tests, as folder and name.
func testsOfModule(t *testing.T) map[string]bool {
	t.Helper()
	root := filepath.Join("..", "..")
	all := make(map[string]bool)
	written(t, func(path string) bool { return strings.HasSuffix(path, "_test.go") }, func(path, content string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, content, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				all[filepath.ToSlash(folder)+"."+f.Name.Name] = true
			}
		}
	})
	return all
}

// mirotalkYAML is a configuration to which variables of MiroTalk add.
const mirotalkYAML = "xmpp: {domain: focus.example.com, secret: 2fb05b9ac1f3a3a8d40be3bd1d7ea9c1502f}\nrooms: {services: [conference.example.com]}\n" +
	"vhosts: {example.com: {kind: token, app_id: app, app_secret: a93b8e0d61cc1a0fb52ffd1a58c04bf97e}, guest.example.com: {kind: guest}}\n" +
	"portal: {listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com]}\n"

// decidedBy returns what is decided about a guest by variables of MiroTalk, with and without a host inside.
func decidedBy(t *testing.T, variables ...string) (alone, withHost string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(file, []byte(mirotalkYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	_, p, err := load([]string{file}, variables, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[bool]string)
	for _, host := range []bool{false, true} {
		r := auth.Request{At: time.Now(), From: jid.MustParse("romeo@guest.example.com/phone"), Room: "standup@conference.example.com"}
		d, _ := auth.New(p).Explain(t.Context(), r, hostInside(host))
		told[host] = fmt.Sprintf("%s %s", d.Verdict, d.Reason)
	}
	return told[false], told[true]
}

// HOST_PROTECTED: guests wait for a host, and come in when one is inside.
func TestParityHostProtected(t *testing.T) {
	alone, withHost := decidedBy(t, "HOST_PROTECTED=true", "HOST_USERS=juliet:a password of hers:Juliet:standup")
	if alone != "wait host-absent" || withHost != "allow guest" {
		t.Errorf("without a host: %s; with one: %s", alone, withHost)
	}
}

// HOST_USER_AUTH: nobody comes in without a login, also beside a host.
func TestParityUserAuth(t *testing.T) {
	alone, withHost := decidedBy(t, "HOST_PROTECTED=true", "HOST_USER_AUTH=true", "HOST_USERS=juliet:a password of hers:Juliet:standup")
	if !strings.HasSuffix(alone, string(auth.ReasonTokenRequired)) || alone != withHost {
		t.Errorf("without a host: %s; with one: %s", alone, withHost)
	}
}

// Known default passwords and secrets refuse to start.
func TestParityDefaultSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usher.yaml")
	for variables, want := range map[string]string{
		"HOST_USERS=admin:admin":                    "HOST_USERS",
		"JWT_SECRET=mirotalksfu_jwt_secret":         "JWT_SECRET",
		"API_KEY_SECRET=mirotalksfu_default_secret": "API_KEY_SECRET",
		"":                        "",
		"app_secret: myappsecret": "app_secret",
	} {
		content := mirotalkYAML
		if strings.Contains(variables, ": ") {
			content, variables = strings.Replace(content, "app_secret: a93b8e0d61cc1a0fb52ffd1a58c04bf97e", variables, 1), ""
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := load([]string{file}, []string{"HOST_PROTECTED=true", variables}, new(keys.Cache))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
