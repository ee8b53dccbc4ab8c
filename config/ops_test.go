package config_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config"
)

// guestsOnly is a usher.yaml of four lines with what must be there.
const guestsOnly = "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com], guest_rooms: ['*']}\n" +
	"vhosts:\n  guest.meet.example.com: {kind: guest}\n"

// Secrets of webhooks: of 24 bytes, of 18, and with a wrong character.
const (
	hookSecret      = "whsec_Q0hJQ0tFTi1TVFJJUFMtT0YtQ0hJLTI0"
	hookSecretShort = "whsec_Q0hJQ0tFTi1TVFJJUFMtT0Yt"
	hookSecretOdd   = "whsec_Q0hJQ0tFTi1TVFJJUFMtT0YtQ0hJLTI!"
)

// keySum is the SHA-256 of an API key, as the file has it.
func keySum(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// TestOutside checks what the keys mean by which others see and steer usher.
func TestOutside(t *testing.T) {
	inFolder(t, "usher.yaml", guestsOnly+`ops: {listen: "unix:ops.sock", pprof: true}
api: {listen: "[::1]:8088", keys_file: keys.yaml, rate: 0.5, burst: 3, public_url: https://usher.example.com/, meet_url: http://localhost:8443}
audit: {to: audit.jsonl, max_size: 1MiB, max_age: 1h, keep: 3}
webhooks:
  - {name: back-end, url: "http://127.0.0.1:9000/hook", secret: `+hookSecret+`, events: [admitted, host-left], rooms: ["class-*"], timeout: 2s}
  - {name: other, url: https://hooks.example.com, secret_file: hook.secret}
`, "hook.secret", hookSecret+"\n", "keys.yaml", `# for the portal
keys:
  - name: portal
    sha256: `+keySum("a")+`
    scopes: [tokens, rooms:read]
    rooms: ["class-*"]
    max_ttl: 90m
    expires: "2027-06-30T12:00:00+02:00"
  - {name: back-end, sha256: `+keySum("b")+`, scopes: [revocations]}
`)
	c, err := config.Load([]string{"usher.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Ops != (config.Ops{Listen: "unix:ops.sock", Pprof: true}) {
		t.Errorf("%+v", c.Ops)
	}
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	want := config.API{Listen: "[::1]:8088", KeysFile: "keys.yaml", PublicURL: "https://usher.example.com", MeetURL: "http://localhost:8443", Rate: 0.5, Burst: 3,
		Keys: []config.APIKey{
			{Name: "portal", Hash: a, Scopes: []string{"tokens", "rooms:read"}, Rooms: []string{"class-*"}, MaxTTL: 90 * time.Minute},
			{Name: "back-end", Hash: b, Scopes: []string{"revocations"}},
		}}
	if until := time.Date(2027, 6, 30, 10, 0, 0, 0, time.UTC); len(c.API.Keys) != 2 || !c.API.Keys[0].Expires.Equal(until) {
		t.Fatalf("keys %+v", c.API.Keys)
	}
	c.API.Keys[0].Expires = time.Time{}
	if !reflect.DeepEqual(c.API, want) {
		t.Errorf("%+v\nwant\n%+v", c.API, want)
	}
	if c.Audit != (config.Audit{To: "audit.jsonl", MaxSize: 1 << 20, MaxAge: time.Hour, Keep: 3}) {
		t.Errorf("%+v", c.Audit)
	}
	for _, h := range c.Webhooks {
		if h.Secret.Reveal() != hookSecret {
			t.Errorf("the secret of %s is another one", h.Name)
		}
	}
	if h := c.Webhooks[0]; h.URL != "http://127.0.0.1:9000/hook" || !slices.Equal(h.Events, []string{"admitted", "host-left"}) || h.Timeout != 2*time.Second {
		t.Errorf("%+v", h)
	}
	if h := c.Webhooks[1]; h.Events != nil || h.Rooms != nil || h.Timeout != 10*time.Second {
		t.Errorf("%+v", h)
	}
	for _, file := range []string{"keys.yaml", "hook.secret"} {
		if !slices.Contains(c.Files, file) {
			t.Errorf("%s is not watched, only %q", file, c.Files)
		}
	}
	shown := string(c.YAML())
	if strings.Contains(shown, hookSecret) || strings.Contains(shown, "9000/hook") {
		t.Errorf("config show has the secret or the path of a webhook:\n%s", shown)
	}
	for _, want := range []string{"listen: unix:ops.sock", "rate: 0.5", "keys_file: keys.yaml", "max_size: 1MiB", "- name: back-end\n", "url: http://127.0.0.1:9000/******\n", "url: https://hooks.example.com\n", "events: [admitted, host-left]", "timeout: 2s"} {
		if !strings.Contains(shown, want) {
			t.Errorf("config show has no %q:\n%s", want, shown)
		}
	}
}

// TestOutsideDefaults checks what holds without these keys, and that the environment can say all of them.
func TestOutsideDefaults(t *testing.T) {
	inFolder(t, "usher.yaml", guestsOnly)
	c := load(t, "usher.yaml")
	if c.Ops != (config.Ops{Listen: "127.0.0.1:8089"}) || c.API.Listen != "" || c.Audit.To != "" || c.Webhooks != nil || len(c.Warnings) > 0 {
		t.Errorf("%+v %+v %+v %v", c.Ops, c.API, c.Audit, c.Warnings)
	}
	c, err := config.Load([]string{"usher.yaml"}, []string{"USHER_OPS_LISTEN=off", "USHER_API_LISTEN=127.0.0.1:1", "USHER_API_RATE=2.5", "USHER_AUDIT_TO=journal",
		"USHER_WEBHOOKS_0_NAME=a", "USHER_WEBHOOKS_0_URL=https://a.example.com", "USHER_WEBHOOKS_0_SECRET=" + hookSecret, "USHER_WEBHOOKS_0_EVENTS=refused, revoked"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Ops.Listen != "" || c.API.Rate != 2.5 || c.Audit.To != config.AuditJournal || len(c.Webhooks) != 1 || len(c.Webhooks[0].Events) != 2 {
		t.Errorf("%+v %+v %+v %+v", c.Ops, c.API, c.Audit, c.Webhooks)
	}
}

// TestOutsideMistakes checks that each mistake in these keys is said, with its place.
func TestOutsideMistakes(t *testing.T) {
	long := "/tmp/" + strings.Repeat("x", 120)
	for name, tt := range map[string]struct {
		yaml string   // from line 5 on
		want []string // problems
		warn []string
	}{
		"ops, no place":          {yaml: "ops: {listen: 8089}", want: []string{`usher.yaml:5: ops.listen: "8089" is no place to listen: write it like 127.0.0.1:8089`}},
		"ops, no port":           {yaml: "ops: {listen: \"127.0.0.1:x\"}", want: []string{`usher.yaml:5: ops.listen: "127.0.0.1:x" is no place to listen`}},
		"ops, a long socket":     {yaml: "ops: {listen: \"unix:" + long + "\"}", want: []string{"usher.yaml:5: ops.listen: " + long + " has 125 bytes, and the name of a socket can have 107"}},
		"ops, no such folder":    {yaml: "ops: {listen: \"unix:/nowhere/ops.sock\"}", want: []string{"usher.yaml:5: ops.listen: the folder /nowhere does not exist: make it"}},
		"ops, for everybody":     {yaml: "ops: {listen: 0.0.0.0:8089}", warn: []string{"usher.yaml:5: ops.listen: 0.0.0.0:8089 can be reached from other machines, and has no TLS"}},
		"ops, all addresses":     {yaml: "ops: {listen: \":8089\"}", warn: []string{"usher.yaml:5: ops.listen: :8089 can be reached from other machines"}},
		"ops, misspelled":        {yaml: "ops: {lisen: off}", want: []string{"usher.yaml:5: ops.lisen: is not a known key; did you mean listen?"}},
		"api, the port of ops":   {yaml: "api: {listen: 127.0.0.1:8089}", want: []string{"usher.yaml:5: api.listen: is ops.listen, too: the API needs an address of its own"}},
		"ops, usher's socket":    {yaml: "admin: {socket: u.sock}\nops: {listen: \"unix:u.sock\"}", want: []string{"usher.yaml:6: ops.listen: is admin.socket, too"}},
		"api, a socket":          {yaml: "api: {listen: \"unix:a.sock\"}", want: []string{`usher.yaml:5: api.listen: "unix:a.sock" is no place to listen: write it like 127.0.0.1:8088, or off`}},
		"webhook, a tenant":      {yaml: hooks(`rooms: ["[acme]*", "[*]class-*"]`)},
		"webhook, no tenant":     {yaml: hooks(`rooms: ["[acme*", "[Acme]*", "[]a"]`), want: []string{`usher.yaml:6: webhooks[0].rooms[0]: "[acme*" is no pattern: write [tenant]name`, `usher.yaml:6: webhooks[0].rooms[1]: "Acme" matches no room`, `usher.yaml:6: webhooks[0].rooms[2]: "[]a" is no pattern`}},
		"webhook, old and new":   {yaml: strings.Replace(hooks("timeout: 2s"), hookSecret, "\""+hookSecret+" "+hookSecret+"\"", 1)},
		"webhook, old and short": {yaml: strings.Replace(hooks("timeout: 2s"), hookSecret, "\""+hookSecret+" "+hookSecretShort+"\"", 1), want: []string{"usher.yaml:6: webhooks[0].secret: has 18 bytes"}},
		"api, nowhere":           {yaml: "api: {rate: 3}", want: []string{"usher.yaml:5: api.rate: has no effect without api.listen: write it, or take this out"}},
		"api, switched off":      {yaml: "api: {listen: off, rate: 3}"},
		"api, rates":             {yaml: "api:\n  listen: off\n  rate: fast\n  burst: 0", want: []string{"usher.yaml:7: api.rate: is no number", "usher.yaml:8: api.burst: is 0, but must be between 1 and 100000"}},
		"api, no rate":           {yaml: "api: {listen: off, rate: 0}", want: []string{"usher.yaml:5: api.rate: is 0, but must be more than 0"}},
		"api, half of a link":    {yaml: "api: {listen: off, meet_url: https://meet.example.com}", want: []string{"usher.yaml:5: api.meet_url: has no effect without api.public_url, because a link needs both"}},
		"api, no address":        {yaml: "api: {listen: off, public_url: usher.example.com, meet_url: \"https://meet.example.com?x=1\"}", want: []string{"usher.yaml:5: api.public_url: is no address of a page", "usher.yaml:5: api.meet_url: is no address of a page"}},
		"api, links by http":     {yaml: "api: {listen: off, public_url: http://usher.example.com, meet_url: https://meet.example.com}", warn: []string{"usher.yaml:5: api.public_url: http:// is not encrypted"}},
		"api, no keys yet":       {yaml: "api: {listen: 127.0.0.1:8088, keys_file: none.yaml}", warn: []string{"usher.yaml:5: api.keys_file: none.yaml does not exist, so nobody can call the API: usher api key add NAME"}},
		"api, empty keys":        {yaml: "api: {listen: 127.0.0.1:8088, keys_file: empty.yaml}", warn: []string{"usher.yaml:5: api.keys_file: empty.yaml has no key in it"}},
		"api, without a name":    {yaml: "api: {listen: 127.0.0.1:8088, keys_file: \"\"}", want: []string{"usher.yaml:5: api.keys_file: is empty: name a file"}},
		"audit, no folder":       {yaml: "audit: {to: /nowhere/audit.jsonl}", want: []string{"usher.yaml:5: audit.to: the folder /nowhere does not exist"}},
		"audit, a folder":        {yaml: "audit: {to: .}", want: []string{"usher.yaml:5: audit.to: . is a folder: name a file in it"}},
		"audit, readable":        {yaml: "audit: {to: empty.yaml}", warn: []string{"usher.yaml:5: audit.to: empty.yaml has what people do in it, and everybody on this machine can read it"}},
		"audit, no effect":       {yaml: "audit: {to: stderr, keep: 3}", want: []string{"usher.yaml:5: audit.keep: has no effect with audit.to: stderr, which is no file"}},
		"audit, not switched on": {yaml: "audit: {keep: 3}", want: []string{"usher.yaml:5: audit.keep: has no effect without audit.to"}},
		"audit, values": {yaml: "audit:\n  to: a.jsonl\n  max_size: 100MB\n  max_age: 1s\n  keep: -1", want: []string{
			"usher.yaml:7: audit.max_size: is no size", "usher.yaml:8: audit.max_age: is 1s, but must be between 1h and 87600h", "usher.yaml:9: audit.keep: is -1, but must be between 1 and 1000"}},
		"webhook, nothing": {yaml: "webhooks:\n  - {}", want: []string{"usher.yaml:6: webhooks[0].name: is missing", "usher.yaml:6: webhooks[0].url: is missing",
			"usher.yaml:6: webhooks[0].secret_file: is missing: a file with the secret that signs its events (or secret: itself); make one with: echo"}},
		"webhook, an event": {yaml: hooks("events: [admited]") + hooks2("events: [admitted, admitted]"), want: []string{
			`usher.yaml:6: webhooks[0].events[0]: "admited" is not known: it must be admitted, refused,`, "usher.yaml:7: webhooks[1].events[1]: names admitted again"}},
		"webhook, what was meant": {yaml: hooks("events: [host_arrived]"), want: []string{`usher.yaml:6: webhooks[0].events[0]: "host_arrived" is not known: it must be admitted, ` +
			"refused, waiting, host-arrived, host-left, room-opened, room-ended, occupant-joined, occupant-left, expired or revoked (did you mean host-arrived?)"}},
		"webhook, mistyped":   {yaml: hooks("events: admitted"), want: []string{"usher.yaml:6: webhooks[0].events: must be a list: write [first, second]"}},
		"webhook, no events":  {yaml: hooks("events: []"), want: []string{"usher.yaml:6: webhooks[0].events: is empty, so this webhook would hear of nothing"}},
		"webhook, rooms":      {yaml: hooks(`rooms: ["Class-*"]`), want: []string{`usher.yaml:6: webhooks[0].rooms[0]: "Class-*" matches no room`}},
		"webhook, no rooms":   {yaml: hooks("rooms: []"), want: []string{"usher.yaml:6: webhooks[0].rooms: is empty, so this webhook would hear of no room"}},
		"webhook, a timeout":  {yaml: hooks("timeout: 2m"), want: []string{"usher.yaml:6: webhooks[0].timeout: is 2m, but must be between 1s and 60s"}},
		"webhook, two names":  {yaml: hooks("timeout: 2s") + strings.Replace(hooks2("timeout: 2s"), "name: two", "name: one", 1), want: []string{"usher.yaml:7: webhooks[1].name: is that of webhooks[0], too (usher.yaml:6): give each a name of its own"}},
		"webhook, a bad name": {yaml: strings.Replace(hooks("timeout: 2s"), "name: one", "name: a b", 1), want: []string{`usher.yaml:6: webhooks[0].name: "a b" is no name: write letters`}},
		"webhook, no address": {yaml: hook("name: one, url: hooks.example.com, secret: " + hookSecret), want: []string{"usher.yaml:6: webhooks[0].url: is no address of a web server"}},
		"webhook, a password": {yaml: hook("name: one, url: \"https://a:" + secretA + "@hooks.example.com\", secret: " + hookSecret), want: []string{"usher.yaml:6: webhooks[0].url: has a user or password in it"}},
		"webhook, by http":    {yaml: hook("name: one, url: http://hooks.example.com, secret: " + hookSecret), warn: []string{"usher.yaml:6: webhooks[0].url: http:// is not encrypted, and hooks.example.com is not this machine"}},
		"webhook, by http on a private network": {yaml: hook("name: one, url: http://10.0.0.2, secret: " + hookSecret), warn: []string{
			"usher.yaml:6: webhooks[0].url: http:// is not encrypted, and 10.0.0.2 is not this machine"}},
		"webhook, two secrets":      {yaml: hooks("secret_file: hook.secret"), want: []string{"usher.yaml:6: webhooks[0].secret_file: contradicts webhooks[0].secret (usher.yaml:6): keep one of them"}},
		"webhook, a short secret":   {yaml: hook("name: one, url: https://hooks.example.com, secret: " + hookSecretShort), want: []string{"usher.yaml:6: webhooks[0].secret: has 18 bytes in base64 after whsec_, and must have 24 to 64"}},
		"webhook, an odd secret":    {yaml: hook("name: one, url: https://hooks.example.com, secret: " + hookSecretOdd), want: []string{"usher.yaml:6: webhooks[0].secret: is not base64 after whsec_"}},
		"webhook, another secret":   {yaml: hook("name: one, url: https://hooks.example.com, secret: " + secretA), want: []string{"usher.yaml:6: webhooks[0].secret: is no secret of a webhook, which begins with whsec_"}},
		"webhook, the example":      {yaml: hook("name: one, url: https://hooks.example.com, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), want: []string{"usher.yaml:6: webhooks[0].secret: is an example that everybody knows: make one with: echo \"whsec_"}},
		"webhook, a file":           {yaml: hook("name: one, url: https://hooks.example.com, secret_file: empty.yaml"), want: []string{"file empty.yaml (named by usher.yaml:6): webhooks[0].secret_file: is empty"}},
		"webhook, a bad file":       {yaml: hook("name: one, url: https://hooks.example.com, secret_file: bad.secret"), want: []string{"file bad.secret (named by usher.yaml:6): webhooks[0].secret_file: is no secret of a webhook"}},
		"webhooks that are no list": {yaml: "webhooks: {name: one}", want: []string{"usher.yaml:5: webhooks: must be a list: begin each of its entries with a dash"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", guestsOnly+tt.yaml+"\n", "empty.yaml", "", "hook.secret", hookSecret, "bad.secret", secretA)
			if name == "audit, readable" {
				if err := os.Chmod("empty.yaml", 0o604); err != nil {
					t.Fatal(err)
				}
			}
			c, err := config.Load([]string{"usher.yaml"}, nil)
			problems, warnings := texts(t, c, err)
			compareTexts(t, problems, tt.want)
			if err == nil {
				compareTexts(t, warnings, tt.warn)
			} else if said := err.Error(); strings.Contains(said, secretA) || strings.Contains(said, hookSecretShort[6:]) || strings.Contains(said, hookSecretOdd[6:]) {
				t.Errorf("the problem quotes a secret: %s", said)
			}
		})
	}
}

// hook is a list with one webhook, hooks one that only lacks some keys, and hooks2 a second entry.
func hook(keys string) string { return "webhooks:\n  - {" + keys + "}" }
func hooks(keys string) string {
	return hook("name: one, url: https://hooks.example.com, secret: " + hookSecret + ", " + keys)
}
func hooks2(keys string) string {
	return strings.TrimPrefix(strings.Replace(hooks(keys), "name: one", "name: two", 1), "webhooks:")
}

// TestAPIKeysMistakes checks that each mistake in a file with keys of the API is said, with its place there.
func TestAPIKeysMistakes(t *testing.T) {
	good := "sha256: " + keySum("a") + ", scopes: [tokens]"
	for name, tt := range map[string]struct{ keys, want string }{
		"no YAML":            {"keys: [", "keys.yaml:1: is not YAML"},
		"an unknown section": {"key: []", "keys.yaml:1: key: is not a known key; did you mean keys?"},
		"an unknown key":     {"keys:\n  - {name: a, " + good + ", scope: tokens}", "keys.yaml:2: keys[0].scope: is not a known key; did you mean scopes?"},
		"a key of usher":     {"keys:\n  - {name: a, " + good + ", domain: x}", "keys.yaml:2: keys[0].domain: is not a known key\n"},
		"a list":             {"keys: {a: b}", "keys.yaml:1: keys: must be a list"},
		"two of a name":      {"keys:\n  - {name: a, " + good + "}\n  - {name: a, sha256: " + keySum("b") + ", scopes: [links]}", "keys.yaml:3: keys[1].name: is that of keys[0], too (keys.yaml:2)"},
		"two of a hash":      {"keys:\n  - {name: a, " + good + "}\n  - {name: b, " + good + "}", "keys.yaml:3: keys[1].sha256: is that of keys[0], too (keys.yaml:2)"},
		"twice in one":       {"keys:\n  - name: a\n    name: b\n    " + strings.ReplaceAll(good, ", ", "\n    "), "keys.yaml:3: keys[0].name: stands here again after line 2"},
		"no name":            {"keys:\n  - {" + good + "}", "keys.yaml:2: keys[0].name: is missing"},
		"a bad name":         {"keys:\n  - {name: a/b, " + good + "}", `keys.yaml:2: keys[0].name: "a/b" is no name`},
		"no hash":            {"keys:\n  - {name: a, scopes: [tokens]}", "keys.yaml:2: keys[0].sha256: is missing"},
		"the key itself":     {"keys:\n  - {name: a, sha256: usher_a_" + strings.Repeat("k", 43) + ", scopes: [tokens]}", "keys.yaml:2: keys[0].sha256: is no SHA-256"},
		"a short hash":       {"keys:\n  - {name: a, sha256: abcd, scopes: [tokens]}", "keys.yaml:2: keys[0].sha256: is no SHA-256"},
		"no scope":           {"keys:\n  - {name: a, sha256: " + keySum("a") + "}", "keys.yaml:2: keys[0].scopes: is missing"},
		"an unknown scope":   {"keys:\n  - name: a\n    sha256: " + keySum("a") + "\n    scopes: [token]", `keys.yaml:4: keys[0].scopes[0]: "token" is not known: it must be tokens, explain, rooms:read, rooms:write, grants:read, revocations, links or decisions:read (did you mean tokens?)`},
		"a scope twice":      {"keys:\n  - {name: a, sha256: " + keySum("a") + ", scopes: [tokens, tokens]}", "keys.yaml:2: keys[0].scopes[1]: names tokens again"},
		"a pattern":          {"keys:\n  - {name: a, " + good + ", rooms: [\"[\"]}", `keys.yaml:2: keys[0].rooms[0]: "[" is no pattern`},
		"no rooms":           {"keys:\n  - {name: a, " + good + ", rooms: []}", "keys.yaml:2: keys[0].rooms: is empty"},
		"a ttl":              {"keys:\n  - {name: a, " + good + ", max_ttl: 1}", "keys.yaml:2: keys[0].max_ttl: is no duration"},
		"a ttl of nothing":   {"keys:\n  - {name: a, sha256: " + keySum("a") + ", scopes: [explain], max_ttl: 1h}", "keys.yaml:2: keys[0].max_ttl: has no effect without the scope tokens or links"},
		"a time":             {"keys:\n  - {name: a, " + good + ", expires: tomorrow}", `keys.yaml:2: keys[0].expires: "tomorrow" is no time: write it like`},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", guestsOnly+"api: {listen: 127.0.0.1:8088, keys_file: keys.yaml}\n", "keys.yaml", tt.keys+"\n")
			_, err := config.Load([]string{"usher.yaml"}, nil)
			if err == nil || !strings.HasPrefix(err.Error()+"\n", tt.want) {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), strings.Repeat("k", 43)) {
				t.Error("the problem quotes the key")
			}
		})
	}
}
