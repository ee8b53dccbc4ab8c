package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// apiConfig is a usher.yaml with an API, for the folder of the test.
const apiConfig = `xmpp: {domain: focus.meet.example.com, secret: 00112233445566778899aabbccddeeff}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: ffeeddccbbaa99887766554433221100}}
api: {listen: 127.0.0.1:8088, keys_file: keys.yaml}
`

var apiKey = regexp.MustCompile(`^usher_([A-Za-z0-9._-]+)_[A-Za-z0-9_-]{43}\n$`)

// TestAPIKeys makes, lists and removes keys of the API.
func TestAPIKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", apiConfig)
	write(t, "keys.yaml", "# Ours.\nkeys:\n  # of the old portal\n  - {name: old, sha256: "+strings.Repeat("ab", 32)+", scopes: [explain]} # until spring\n# The end.\n")
	add := func(args ...string) result {
		return command(t, "", append(append([]string{"api", "key", "add"}, args...), "-c", "usher.yaml")...)
	}
	r := add("portal", "--scope", "tokens,links", "--rooms", "class-*", "--max-ttl", "2h", "--expires", "2999-06-30")
	if name := apiKey.FindStringSubmatch(r.stdout); r.status != 0 || name == nil || name[1] != "portal" || strings.Contains(r.stderr, r.stdout) {
		t.Fatalf("%+v", r)
	}
	key := strings.TrimSpace(r.stdout)
	content, err := os.ReadFile("keys.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"# Ours.", "# of the old portal", "# until spring", "# The end."} {
		if !strings.Contains(string(content), kept) {
			t.Errorf("the comment %q is gone from\n%s", kept, content)
		}
	}
	if sum := sha256.Sum256([]byte(key)); strings.Contains(string(content), key) || !strings.Contains(string(content), hex.EncodeToString(sum[:])) {
		t.Errorf("the file has the key, or not its hash:\n%s", content)
	}
	if stat, err := os.Stat("keys.yaml"); err != nil || stat.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
	const table = "NAME    SCOPES        ROOMS    MAX-TTL  EXPIRES\n" +
		"old     explain       all      -        never\n" +
		"portal  tokens,links  class-*  2h       2999-06-30T00:00:00Z\n"
	if r := command(t, "", "api", "key", "list", "-c", "usher.yaml"); r.stdout != table {
		t.Errorf("%+v", r)
	}
	const inJSON = `{"keys":[{"name":"old","scopes":["explain"]},{"name":"portal","scopes":["tokens","links"],"rooms":["class-*"],"max_ttl_seconds":7200,"expires":"2999-06-30T00:00:00Z"}]}` + "\n"
	if r := command(t, "", "api", "key", "list", "--keys-file", "keys.yaml", "--json"); r.stdout != inJSON {
		t.Errorf("%+v", r)
	}
	if c, err := config.Load([]string{"usher.yaml"}, nil); err != nil || len(c.API.Keys) != 2 || c.API.Keys[1].Hash != sha256.Sum256([]byte(key)) {
		t.Errorf("usher reads other keys: %v", err)
	}

	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"add", "portal", "--scope", "tokens"}, statusFailed, "usher: keys.yaml: there is a key of the name portal already: choose another name, or remove it first\n"},
		{[]string{"add", "new", "--scope", "token"}, statusUsage, `usher: --scope: "token" is not known: it must be tokens, explain,`},
		{[]string{"add", "new"}, statusUsage, "usher: --scope: is missing: what this key is for, such as [tokens]\n"},
		{[]string{"add", "a/b", "--scope", "explain", "--max-ttl", "1h"}, statusUsage, "usher: NAME: \"a/b\" is no name: write letters, digits, dots, dashes and underscores, 64 at most\n" +
			"--max-ttl: has no effect without the scope tokens or links: take it out\n"},
		{[]string{"add", "new", "--scope", "tokens", "--max-ttl", "-1h"}, statusUsage, "usher: --max-ttl: is -1h, but must be"},
		{[]string{"add", "new", "--scope", "tokens", "--rooms", "Class-*"}, statusUsage, `usher: --rooms: "Class-*" matches no room`},
		{[]string{"add", "new", "--scope", "tokens", "--expires", "tomorrow"}, statusUsage, `usher: --expires: "tomorrow" is no time: write it like`},
		{[]string{"add", "new", "--scope", "tokens", "--expires", "2020-01-01"}, statusUsage, "usher: --expires: 2020-01-01 is over\n"},
		{[]string{"add", "new", "--scope", "tokens", "--rooms", ""}, statusUsage, "usher: --rooms is empty: say what it limits, or leave it out\n"},
		{[]string{"add", "new", "--scope", "tokens", "--rooms="}, statusUsage, "usher: --rooms is empty"},
		{[]string{"add", "new", "--scope", "tokens", "--expires", ""}, statusUsage, "usher: --expires is empty"},
		{[]string{"add", "new", "--scope", "tokens", "--max-ttl", "0"}, statusUsage, "usher: --max-ttl is empty"},
		{[]string{"add"}, statusUsage, "usher: which one? Write the name of a key: usher api key add NAME"},
		{[]string{"remove", "portl"}, statusFailed, `usher: keys.yaml: there is no key of the name "portl"; did you mean portal?`},
		{[]string{"remove", key}, statusFailed, "usher: keys.yaml: there is no key of that name\n"},
	} {
		r := command(t, "", append(append([]string{"api", "key"}, tt.args...), "-c", "usher.yaml")...)
		if r.status != tt.status || !strings.HasPrefix(r.stderr, tt.want) || r.stdout != "" || strings.Contains(r.stderr, key) {
			t.Errorf("%v: %+v\nwant %s", tt.args, r, tt.want)
		}
	}

	if r := command(t, "", "api", "key", "remove", "portal", "-c", "usher.yaml"); r.status != 0 || r.stdout != "The key portal is removed.\n" {
		t.Errorf("%+v", r)
	}
	if content, err := os.ReadFile("keys.yaml"); err != nil || strings.Contains(string(content), "name: portal") || !strings.Contains(string(content), "# until spring") {
		t.Errorf("%s, %v", content, err)
	}
	if r := command(t, "", "api", "key", "list"); r.status != statusUsage || !strings.Contains(r.stderr, "which file?") {
		t.Errorf("%+v", r)
	}
}

// TestFirstAPIKey makes keys where there is no file yet, or one with nothing but comments, while others do the same.
func TestFirstAPIKey(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", strings.Replace(apiConfig, "listen: 127.0.0.1:8088", "listen: off", 1))
	if r := command(t, "", "api", "key", "list", "-c", "usher.yaml"); r.stdout != "keys.yaml has no key.\n" {
		t.Errorf("%+v", r)
	}
	r := command(t, "", "api", "key", "add", "first", "--scope", "explain", "-c", "usher.yaml")
	if r.status != 0 || !strings.HasSuffix(r.stderr, "\napi.listen is off, so nobody can call the API yet.\n") {
		t.Errorf("%+v", r)
	}
	for _, content := range []string{"", "# Ours.", "keys:\n", "keys: []\n", "keys: # ours\n", "{}\n", "{keys: []}\n"} {
		write(t, "some.yaml", content)
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			all.Go(func() {
				if r := command(t, "", "api", "key", "add", name, "--scope", "explain", "--keys-file", "some.yaml"); r.status != 0 {
					t.Errorf("%q: %+v", content, r)
				}
			})
		}
		all.Wait()
		is, err := os.ReadFile("some.yaml")
		if err != nil {
			t.Fatal(err)
		}
		keys, err := config.ParseAPIKeys("some.yaml", is)
		if err != nil || len(keys) != 4 || strings.Contains(content, "urs") && !strings.Contains(strings.ToLower(string(is)), "# ours") {
			t.Errorf("%q has become %q: %v", content, is, err)
		}
	}
}
