package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// certificate returns a certificate as PEM.
func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// redisPassword is a password that no output may have.
const redisPassword = "p0ss3ss10n"

// shared are values of the keys of a shared store, and what usher says about them: problems, or warnings.
var shared = []struct {
	name, store string // of usher.yaml, where it is on line 4
	problems    []string
	warnings    []string
}{
	{"here", `{url: "redis://127.0.0.1:6379/3"}`, nil, nil},
	{"a socket", `{url: "unix:///run/redis/redis.sock"}`, nil, nil},
	{"elsewhere", `{url: "rediss://user@redis.example.com", ca_file: ca.pem, password_file: redis.secret, prefix: meet.1_a-b, shard: eu-1}`, nil, nil},
	{"a container", `{url: "redis://redis:6379"}`, nil, nil},
	{"in the clear", `{url: "redis://redis.example.com"}`, nil, []string{"usher.yaml:4: store.url: redis.example.com may be beyond this machine"}},
	{"nodes in the clear", `{url: "redis://127.0.0.1:6379?addr=redis2.example.com:6379&addr=[2001:db8::1]:6379"}`, nil, []string{
		"usher.yaml:4: store.url: redis2.example.com may be", "usher.yaml:4: store.url: 2001:db8::1 may be"}},
	{"password in it", `{url: "redis://u:` + redisPassword + `@127.0.0.1"}`, nil, nil},
	{"two passwords", `{url: "redis://u:` + redisPassword + `@127.0.0.1", password_file: redis.secret}`,
		[]string{"usher.yaml:4: store.password_file: contradicts the password in store.url (usher.yaml:4): keep one of them"}, nil},
	{"of a sentinel", `{url: "redis://u:` + redisPassword + `@127.0.0.1?master_name=usher", password_file: redis.secret}`, nil, nil},
	{"example password", `{url: "redis://:changeme@127.0.0.1"}`, []string{"usher.yaml:4: store.url: is an example that everybody knows"}, nil},
	{"empty password", `{url: "redis://u:@127.0.0.1"}`, []string{"usher.yaml:4: store.url: is empty"}, nil},
	{"example in an option", `{url: "redis://127.0.0.1?sentinel_password=changeme"}`, []string{"usher.yaml:4: store.url: is an example"}, nil},
	{"http", `{url: "https://` + redisPassword + `@redis.example.com"}`, []string{"usher.yaml:4: store.url: is no address of a Redis"}, nil},
	{"no host", `{url: "redis://"}`, []string{"usher.yaml:4: store.url: is no address of a Redis"}, nil},
	{"no scheme", `{url: "127.0.0.1:6379"}`, []string{"usher.yaml:4: store.url: is no address of a Redis"}, nil},
	{"odd characters", `{url: "redis://u:` + redisPassword + `%zz@h"}`, []string{"usher.yaml:4: store.url: is no address of a Redis"}, nil},
	{"slash in a password", `{url: "redis://:7/` + redisPassword + `@127.0.0.1:6379/0"}`, []string{"usher.yaml:4: store.url: has a # or an @"}, nil},
	{"number sign in a password", `{url: "redis://u:7#` + redisPassword + `@127.0.0.1"}`, []string{"usher.yaml:4: store.url: has a # or an @"}, nil},
	{"question mark in a password", `{url: "redis://u:7?` + redisPassword + `@127.0.0.1"}`, []string{"usher.yaml:4: store.url: has a # or an @"}, nil},
	{"empty", `{url: ""}`, []string{"usher.yaml:4: store.url: is no address of a Redis"}, nil},
	{"beside a file", `{path: memory, url: "redis://127.0.0.1", max_size: 64MiB}`, []string{
		"usher.yaml:4: store.url: contradicts store.path (usher.yaml:4): keep one of them",
		"usher.yaml:4: store.max_size: has no effect with store.url"}, nil},
	{"without", `{password_file: redis.secret, ca_file: ca.pem, prefix: a}`, []string{
		"usher.yaml:4: store.password_file: has no effect without store.url", "usher.yaml:4: store.ca_file: has no effect without store.url",
		"usher.yaml:4: store.prefix: has no effect without store.url"}, nil},
	{"no TLS", `{url: "redis://127.0.0.1", ca_file: ca.pem}`, []string{"usher.yaml:4: store.ca_file: has no effect without TLS"}, nil},
	{"no certificate", `{url: "rediss://127.0.0.1", ca_file: redis.secret}`, []string{
		"file redis.secret (named by usher.yaml:4): store.ca_file: has no certificate in it"}, nil},
	{"no files", `{url: "rediss://127.0.0.1", ca_file: nowhere.pem, password_file: nowhere.secret}`, []string{
		"file nowhere.pem (named by usher.yaml:4): store.ca_file: does not exist",
		"file nowhere.secret (named by usher.yaml:4): store.password_file: does not exist"}, nil},
	{"hash tag", `{url: "redis://127.0.0.1", prefix: "a{b}"}`, []string{`usher.yaml:4: store.prefix: "a{b}" is no prefix`}, nil},
	{"two words", `{url: "redis://127.0.0.1", shard: "shard 1"}`, []string{`usher.yaml:4: store.shard: "shard 1" is no name of a shard`}, nil},
	{"no prefix", `{url: "redis://127.0.0.1", prefix: ""}`, []string{`usher.yaml:4: store.prefix: "" is no prefix`}, nil},
}

// TestShared checks what usher says of a store that several ushers share. It never repeats a password.
func TestShared(t *testing.T) {
	pem := string(certificate(t))
	for _, test := range shared {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "ca.pem", pem, "redis.secret", "s3ntinel-p4ss\n", "usher.yaml", "xmpp: {domain: focus.example.com, secret: "+secretA+
				"}\nrooms: {services: [conference.example.com]}\nvhosts: {example.com: {kind: trusted}}\nstore: "+test.store+"\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			problems, warnings := texts(t, c, err)
			compareTexts(t, problems, test.problems)
			compareTexts(t, warnings, test.warnings)
			said := strings.Join(append(problems, warnings...), "\n")
			if c != nil {
				said += lines(c) + string(c.YAML()) + c.Store.InWords()
				if !c.Store.Shared() {
					t.Error("the store is not shared")
				}
				if file, err := c.StoreFile(nil); file != "" || err != nil {
					t.Errorf("its file is %q, %v", file, err)
				}
			}
			if strings.Contains(said, redisPassword) || strings.Contains(said, "s3ntinel") {
				t.Errorf("usher says a password: %s", said)
			}
		})
	}
}

// TestSharedValues checks what the values of a shared store become.
func TestSharedValues(t *testing.T) {
	pem := certificate(t)
	inFolder(t, "ca.pem", string(pem), "redis.secret", "a-pass\n")
	c, err := config.Load(nil, append([]string{
		"USHER_STORE_URL=rediss://u@redis.example.com", "USHER_STORE_PASSWORD_FILE=redis.secret", "USHER_STORE_CA_FILE=ca.pem", "USHER_STORE_PREFIX=meet",
	}, least...))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Store; s.URL.Reveal() != "rediss://u@redis.example.com" || s.Password.Reveal() != "a-pass" || string(s.CA) != string(pem) || s.Prefix != "meet" {
		t.Errorf("%+v", s)
	}
}

// TestSharedShown checks which part of an address people read.
func TestSharedShown(t *testing.T) {
	for address, want := range map[string]string{
		"rediss://u@redis.example.com:6379/0?addr=b:1": "rediss://u@redis.example.com:6379/0?addr=b:1",
		"redis://u:secret@[::1]:6379/0":                "redis://u:******@[::1]:6379/0",
		"redis://:secret@h?a=1&sentinel_password=x&b=": "redis://:******@h?a=1&b=&sentinel_password=******",
		"redis://u@h?Password=x":                       "redis://u@h?Password=******",
		"redis://u:%zz@h":                              "******",
		"u:secret@h":                                   "******",
	} {
		if got := (config.Store{URL: config.NewSecret(address)}).InWords(); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}

// TestReadablePassword checks that usher warns of a file with the password of the Redis that everybody can read.
func TestReadablePassword(t *testing.T) {
	inFolder(t, "usher.yaml", "xmpp: {domain: focus.example.com, secret_file: s}\nrooms: {services: [conference.example.com]}\n"+
		"vhosts: {example.com: {kind: trusted}}\nstore: {url: \"redis://u:"+redisPassword+"@127.0.0.1\"}\n", "s", secretA, "redis.secret", "x1y2")
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod("usher.yaml", 0o644)
	chmod("redis.secret", 0o644)
	c, err := config.Load([]string{"usher.yaml"}, nil)
	_, warnings := texts(t, c, err)
	compareTexts(t, warnings, []string{"usher.yaml: contains a secret, and everybody on this machine can read it"})
	c, err = config.Load(nil, append([]string{"USHER_STORE_URL=redis://127.0.0.1", "USHER_STORE_PASSWORD_FILE=redis.secret"}, least...))
	_, warnings = texts(t, c, err)
	compareTexts(t, warnings, []string{"file redis.secret (named by environment USHER_STORE_PASSWORD_FILE): store.password_file: contains a secret"})
}

// TestSocket checks where the socket for usher's commands is.
func TestSocket(t *testing.T) {
	inFolder(t, "file", "")
	if err := os.Mkdir("run", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"run/usher.sock": "", "nowhere/usher.sock": "the folder nowhere does not exist: make it", "file/usher.sock": "file is no folder", "run": "run is there, and is no socket",
		"file": "file is there, and is no socket", "run/" + strings.Repeat("x", 200): "run/xxx",
	} {
		c, err := config.Load(nil, append([]string{"USHER_ADMIN_SOCKET=" + name}, least...))
		problems, _ := texts(t, c, err)
		if want == "" {
			if got := c.Socket([]string{"RUNTIME_DIRECTORY=/run/other"}); err != nil || got != filepath.FromSlash(name) {
				t.Errorf("%s is %s, %v", name, got, err)
			}
			continue
		}
		compareTexts(t, problems, []string{"environment USHER_ADMIN_SOCKET: admin.socket: " + want})
	}
	c, err := config.Load(nil, least)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Socket(nil); got != "" {
		t.Errorf("without anything it is %s", got)
	}
	if got := c.Socket([]string{"RUNTIME_DIRECTORY=/run/usher:/run/b"}); got != "/run/usher/usher.sock" {
		t.Errorf("systemd's is %s", got)
	}
}
