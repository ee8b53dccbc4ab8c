package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
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

// The portal's README begins with a configuration that counts, and with commands that work.
func TestPortalReadme(t *testing.T) {
	base, _, _ := strings.Cut(mirotalkYAML, "portal:")
	yaml, script := base+blocks(t, parityTables, "Begin", "yaml")[0], blocks(t, parityTables, "Begin", "sh")[0]
	provider := blocks(t, parityTables, "OpenID Connect", "yaml")[0]
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", yaml)
	lines := strings.Split(strings.TrimSpace(script), "\n")
	for n, want := range []string{"juliet", "tokenAuthUrl"} {
		line, _, _ := strings.Cut(lines[n], " #")
		r := command(t, "a password of hers\n", strings.Fields(strings.ReplaceAll(line, "'", ""))[1:]...)
		if r.status != 0 || !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%s: %+v", line, r)
		}
	}
	write(t, "school.secret", "the secret of usher at the school 0123\n")
	for _, more := range []string{"", provider} {
		write(t, "usher.yaml", yaml+more)
		if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 {
			t.Errorf("%+v", r)
		}
	}
	c, _, err := load([]string{"usher.yaml"}, nil, new(keys.Cache))
	if err != nil || len(c.Portal.Providers) != 1 || len(c.Portal.Providers[0].Rules) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
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

// TestParityScripts runs MiroTalk's calls as its scripts do, beside Prosody: the token of a link lets a host in, a presenter as owner and
// another as member, and the calls see and end the conference.
func TestParityScripts(t *testing.T) {
	address := freePort(t)
	s := startPortal(t, fmt.Sprintf(", mirotalk_api: true}\napi: {listen: %q, keys_file: api-keys.yaml, burst: 100", address))
	s.log.until(t, "usher answers the API at ", 1)
	r := command(t, "", "api", "key", "add", "script", "--scope", "tokens,links,rooms:read,rooms:write", "-c", "usher.yaml")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	key := strings.TrimSpace(r.stdout)
	secrets.PlantRandom("a key of the API", key[len("usher_script_"):])
	s.log.until(t, "is in force", 1)
	said := new(strings.Builder)
	asks := func(call, body string, status int) (answer struct{ Join, Token, Meeting, Message, Error string }) {
		t.Helper()
		method, path, _ := strings.Cut(call, " ")
		text, got := scripted(t, method, "http://"+address+path, key, body)
		if err := json.Unmarshal([]byte(text), &answer); err != nil && !strings.Contains(text, `"message":`) || got != status {
			t.Fatalf("%s: %d %s", call, got, text)
		}
		secrets.PlantTokens(answer.Token)
		said.WriteString(answer.Error + answer.Meeting)
		return answer
	}
	person := func(u config.User, presenter bool) string {
		return fmt.Sprintf(`{"username":%q,"password":%q,"presenter":%t,"expire":"1h"}`, u.Name, u.Hash, presenter)
	}
	room := demoScene.room()
	at, err := url.Parse(asks("POST /api/v1/join", `{"room":"standup","name":"Mallory","audio":false,"video":true,"token":`+person(juliet, true)+`}`, 200).Join)
	if err != nil || at.Host != "meet.example.com" || at.Path != "/standup" || strings.Contains(at.Fragment, "Mallory") ||
		!strings.HasPrefix(at.Fragment, "config.startWithAudioMuted=true&config.startWithVideoMuted=false") {
		t.Fatalf("the link is %s, %v", at.Redacted(), err)
	}
	compact := at.Query().Get("jwt")
	secrets.PlantTokens(compact)
	if got := enters(t, s.host(), room, compact, "juliet"); got != hostStanding {
		t.Errorf("a presenter is %s", got)
	}
	host := s.host()
	if got := enters(t, host, room, asks("POST /api/v1/token", strings.Replace(person(juliet, false), "{", `{"room":"standup",`, 1), 200).Token, "again"); got != memberStanding {
		t.Errorf("a host without presenter is %s", got)
	}
	asks("POST /api/v1/token", `{"username":"juliet","password":"username","room":"standup"}`, 401)
	asks("POST /api/v1/token", strings.Replace(person(juliet, true), "{", `{"room":"elsewhere",`, 1), 403)
	if got := asks("POST /api/v1/meeting", "", 200).Meeting; !strings.HasPrefix(got, "https://meet.example.com/") {
		t.Errorf("a new room at %s", got)
	}
	for late := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
		text, status := scripted(t, "GET", "http://"+address+"/api/v1/meetings", key, "")
		if status == 200 && strings.Contains(text, `{"meetings":[{"roomId":"standup","peers":[`) && strings.Count(text, `"presenter":`) == 2 {
			break
		} else if time.Now().After(late) {
			t.Fatalf("meetings: %d %s", status, text)
		}
	}
	if text, status := scripted(t, "POST", "http://"+address+"/isRoomActive", key, `{"roomId":"standup"}`); status != 200 || strings.TrimSpace(text) != `{"message":true}` {
		t.Errorf("isRoomActive: %d %s", status, text)
	}
	if text, status := scripted(t, "POST", "http://"+address+"/login", "", person(nurse, true)); status != 200 || !strings.Contains(text, `"allowedRooms":["*"]`) {
		t.Errorf("login: %d %s", status, text)
	}
	asks("DELETE /api/v1/meeting/standup", "", 200)
	isOut(t, host, room, "again")
	asks("DELETE /api/v1/meeting/nothing", "", 404)
	if status := s.end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	audited, err := os.ReadFile("audit.jsonl")
	if err != nil || !strings.Contains(string(audited), `"path":"/api/v1/join"`) {
		t.Errorf("the audit log has no call: %v %s", err, audited)
	}
	silent(t, said.String()+string(audited))
}

// scripted makes a call as MiroTalk's examples do.
func scripted(t *testing.T, method, address, key, body string) (text string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("authorization", key)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	all, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all), answer.StatusCode
}
