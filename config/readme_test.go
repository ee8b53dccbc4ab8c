package config

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The part of README.md between these is made from the table of keys.
const (
	keysBegin = "<!-- keys: made by go generate ./config -->\n"
	keysEnd   = "<!-- end -->\n"
)

// TestReadme checks that README.md has what the table of keys says.
func TestReadme(t *testing.T) {
	is, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, began := strings.Cut(string(is), keysBegin)
	_, tail, ended := strings.Cut(rest, keysEnd)
	if !began || !ended {
		t.Fatal("README.md has no place for the keys")
	}
	want := head + keysBegin + keyTables() + keysEnd + tail
	if *Update {
		err = os.WriteFile("README.md", []byte(want), 0o644)
	} else if string(is) != want {
		t.Error("README.md is not what the table of keys says: go generate ./config")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// keyTables is the part of README.md about the keys.
func keyTables() string {
	var b strings.Builder
	section := ""
	for i, k := range slices.Concat(keys, apiKeyRows, userKeys) {
		in, _, below := strings.Cut(k.name, ".")
		switch {
		case i >= len(keys)+len(apiKeyRows):
			in = "The file of portal.users_file"
		case i >= len(keys):
			in = "The file of api.keys_file"
		case !below:
			in = "Without a section"
		}
		if in != section {
			section = in
			fmt.Fprintf(&b, "\n### %s\n\n", in)
			b.WriteString("| key | meaning | default | example | since |\n|---|---|---|---|---|\n")
		}
		def := k.unset
		if k.def != "" {
			def = strings.TrimSpace("`" + k.asYAML() + "` " + k.unset)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", k.name, k.means, def, k.example, cmp.Or(k.since, "first release"))
	}
	b.WriteByte('\n')
	return b.String()
}

// asYAML is the default of a key as it is written in usher.yaml.
func (k key) asYAML() string {
	value, _ := k.shape().parse(k.def)
	if k.def == "on" {
		return k.def
	}
	return Setting{value: value}.Value()
}

// shape returns the shape of a key of the table, or of a file with accounts.
func (k key) shape() *shape {
	if strings.HasPrefix(k.name, "users.") {
		return shapeNamed(usersTable, k.name)
	}
	return shapeNamed(table, k.name)
}

func shapeNamed(s *shape, name string) *shape {
	for part := range strings.SplitSeq(name, ".") {
		switch {
		case part == "DOMAIN":
			s = s.each
		case s.form == formSections:
			s = s.each.keys[part]
		default:
			s = s.keys[part]
		}
		if s == nil {
			return nil
		}
	}
	return s
}

// TestKeys holds the table of keys against what usher reads, and against usher.example.yaml.
func TestKeys(t *testing.T) {
	var read []string
	var walk func(name string, s *shape)
	walk = func(name string, s *shape) {
		for key, below := range s.keys {
			walk(strings.TrimPrefix(name+"."+key, "."), below)
		}
		switch s.form {
		case formSection:
		case formVHosts:
			walk(name+".DOMAIN", s.each)
		case formSections:
			walk(name, s.each)
		default:
			read = append(read, name)
		}
	}
	walk("", table)
	walk("", apiKeysTable)
	walk("", usersTable)
	rows := slices.Concat(keys, apiKeyRows, userKeys)
	for i, k := range rows {
		if again := slices.ContainsFunc(rows[:i], func(other key) bool { return other.name == k.name }); again || k.means == "" || k.example == "" || k.def+k.unset == "" {
			t.Errorf("the row of %s is there twice, or has an empty column", k.name)
		}
		if !slices.Contains(read, k.name) {
			t.Errorf("usher does not read %s", k.name)
		}
		if i >= len(keys) { // of another file
			continue
		}
		if name := k.name[strings.LastIndex(k.name, ".")+1:]; !bytes.Contains(Example, []byte(name+":")) {
			t.Errorf("usher.example.yaml says nothing of %s", k.name)
		}
	}
	for _, name := range read {
		// The keys of an issuer stand on a virtual host, too.
		below := strings.Replace(name, "vhosts.DOMAIN.", issuersName+".", 1)
		if !slices.ContainsFunc(rows, func(k key) bool { return k.name == name || k.name == below }) {
			t.Errorf("usher reads %s, which is not in the table", name)
		}
	}
}

// allKeys is a usher.yaml in which every key has an effect.
const allKeys = `
xmpp: {domain: focus.meet.example.com, secret: 0123456789abcdef0123456789ABCDEF}
rooms:
  {services: [conference.meet.example.com], breakout: breakout.meet.example.com, lobby: lobby.meet.example.com, enforcement: members-only,
    rules: [{match: "all-*", hours: {zone: UTC}}]}
jicofo: {jid: focus@auth.meet.example.com}
vhosts:
  meet.example.com:
    kind: token
    on_expiry: remove
    token_reuse: refuse
    issuers:
      - {app_id: my_app, jwks_url: "https://login.example.com/keys", domain_verification: false}
store: {url: rediss://redis.example.com}
api: {listen: 127.0.0.1:8088, public_url: https://usher.example.com, meet_url: https://meet.example.com}
audit: {to: audit.jsonl}
portal:
  listen: 127.0.0.1:8087
  public_url: https://login.example.com
  meet_urls: [https://meet.example.org]
  sign: key
  users: [{name: bob, password_hash: "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", rooms: ["*"]}]
  users_url: https://accounts.example.com
  users_secret: 5f0c1d8e7a6b49328170fedcba98765432100123
  providers:
    - {name: sso, issuer: https://sso.example.com, client_id: meet, rules: [{value: staff, rooms: ["*"]}]}
webhooks: [{name: hook, url: https://hooks.example.com, secret: whsec_J5apT6dd3QxJc6Z7nCvPZe55iOyDG0vJhD8LuUly7Gw=}]
`

// loadTree loads a usher.yaml that is this tree.
func loadTree(t *testing.T, tree map[string]any) (*Config, error) {
	t.Helper()
	content, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("usher.yaml", content, 0o600); err != nil {
		t.Fatal(err)
	}
	return Load([]string{"usher.yaml"}, nil)
}

// parseTree is a text of YAML as a tree.
func parseTree(t *testing.T, text string) (tree map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestTableDefaults checks that the defaults of the table are those that Load gives.
func TestTableDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := loadTree(t, parseTree(t, allKeys))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		name := strings.NewReplacer("DOMAIN", "meet.example.com", "issuers", "issuers[0]", "rules", "rules[0]", "webhooks", "webhooks[0]",
			"portal.users.", "portal.users[0].", "providers", "providers[0]").Replace(k.name)
		i := slices.IndexFunc(c.Settings, func(s Setting) bool { return s.Key == name })
		switch {
		case i < 0 && (k.def == "" || strings.HasSuffix(name, "allow_short_secret")): // nothing is said of it
		case i < 0:
			t.Errorf("%s is not among the settings, and its default is %s", name, k.def)
		case c.Settings[i].Origin == byDefault && k.def != "":
			if want, _ := k.shape().parse(k.def); c.Settings[i].Value() != (Setting{value: want}).Value() {
				t.Errorf("%s is %s by default, and %s in the table", name, c.Settings[i].Value(), k.def)
			}
		}
	}
}

// certificate returns a certificate of an authority as PEM.
func certificate(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// TestExamples checks that the example of each key loads, and is not its default. Secrets are refused, because everybody can read them.
func TestExamples(t *testing.T) {
	t.Chdir(t.TempDir())
	cert, key := KeyPair(t)
	for name, content := range map[string]string{
		"portal-cert.pem": cert, "portal-key.pem": key, "users.secret": strings.Repeat("5d", 32), "client.secret": strings.Repeat("6b", 32),
		"component.secret": strings.Repeat("c0", 32), "app.secret": strings.Repeat("a9", 32), "keys.json": `{"keys": []}`,
		"redis.secret": strings.Repeat("4e", 32), "webhook.secret": "whsec_" + strings.Repeat("4e7b", 11), "redis-ca.pem": certificate(t), "portal.pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", ".env": "", "mirotalk.env": "", "prosody.cfg.lua": "", "config.js": "",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The files of the examples are elsewhere.
	here := strings.NewReplacer("/etc/prosody/", "", "/run/usher/", "", "/var/log/usher/", "", "/etc/jitsi/meet/meet.example.com-config.js", "config.js")
	for _, k := range keys {
		tree := parseTree(t, allKeys)
		in, path := tree, strings.Split(k.name, ".")
		for _, part := range path[:len(path)-1] {
			part = strings.Replace(part, "DOMAIN", "meet.example.com", 1)
			if slices.Contains([]string{"issuers", "rules", "webhooks", "users", "providers"}, part) {
				in = in[part].([]any)[0].(map[string]any)
				continue
			}
			if in[part] == nil {
				in[part] = map[string]any{}
			}
			in = in[part].(map[string]any)
		}
		set := path[len(path)-1]
		if k.name == "store.path" || k.name == "store.max_size" { // of a file
			delete(in, "url")
		}
		for _, others := range either {
			if slices.Contains(others, set) || set == "algorithms" && slices.Contains(others, "app_secret") {
				for _, other := range others {
					delete(in, other)
				}
			}
		}
		if strings.HasPrefix(set, "tls_") { // one needs the other
			in["tls_cert_file"], in["tls_key_file"] = "portal-cert.pem", "portal-key.pem"
		}
		if set == "algorithms" {
			in["app_secret_file"] = "app.secret"
		}
		var value any
		if err := yaml.Unmarshal([]byte(here.Replace(k.example)), &value); err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		in[set] = value
		c, err := loadTree(t, tree)
		if slices.Contains([]string{"secret", "app_secret", "app_secrets", "users_secret", "client_secret"}, set) { // nobody may copy it
			if err == nil || !strings.Contains(err.Error(), "is an example that everybody knows") {
				t.Errorf("%s: %s is taken: %v", k.name, k.example, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %s does not load: %v", k.name, k.example, err)
		} else if i := slices.IndexFunc(c.Settings, func(s Setting) bool { return strings.Contains(s.Origin, "usher.yaml:") && last(s.path) == set }); i < 0 {
			t.Errorf("%s: %s sets nothing", k.name, k.example)
		} else if k.def != "" && c.Settings[i].Value() == k.asYAML() {
			t.Errorf("%s: the example is the default", k.name)
		}
	}
}
