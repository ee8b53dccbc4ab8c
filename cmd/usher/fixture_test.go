package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/secrettest"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// The secrets in the files of staged, and that of a shared store.
const (
	appSecret       = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	componentSecret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
	redisPassword   = "5e1d9c7b3a2f4860b7d5e3c1a9f80246"
)

// secrets are what no output may have, nor an answer to a client: these, tokens, and what clients say that is private.
var secrets = func() *secrettest.Secrets {
	s := new(secrettest.Secrets)
	s.Plant("the secret of the tokens", appSecret)
	s.Plant("the secret of the component", componentSecret)
	s.Plant("the password of Redis", redisPassword)
	return s
}()

// result is the outcome of a command.
type result struct {
	status         int
	stdout, stderr string
}

// command runs a command line. It fails the test if a command other than "token mint" prints a secret or a token.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	r := result{status, stdout.String(), stderr.String()}
	said := r.stdout + r.stderr
	if len(args) > 1 && args[1] == "mint" && status == 0 {
		said = r.stderr
	}
	silent(t, said, append(args, stdin)...)
	return r
}

// silent fails the test if the output has a secret, or a part of one of the tokens.
func silent(t testing.TB, said string, tokens ...string) {
	t.Helper()
	for _, s := range tokens {
		if strings.HasPrefix(s, "eyJ") {
			secrets.PlantTokens(s)
		}
	}
	secrets.Check(t, "the output", said)
}

// staged copies files of testdata into a folder of the test, readable by nobody else, and changes to it.
func staged(t testing.TB) {
	t.Helper()
	to := t.TempDir()
	for _, pattern := range []string{"*.yaml", "*.pem", filepath.Join("..", "..", "..", "testdata", "keys", "*")} {
		names, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, names, err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(to, filepath.Base(name)), string(content))
		}
	}
	if err := os.Mkdir(filepath.Join(to, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "keys", "one.pem"), "no key")
	write(t, filepath.Join(to, "keys", "two.pem"), "-----BEGIN PUBLIC KEY-----\nx\n")
	write(t, filepath.Join(to, "app.secret"), appSecret+"\n")
	write(t, filepath.Join(to, "component.secret"), componentSecret+"\n")
	t.Chdir(to)
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noon is the time at which the tokens of the transcripts were minted.
var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

// minted returns a token of noon, valid for an hour. change, if not nil, changes the claims first.
func minted(t *testing.T, change func(*token.Claims)) string {
	t.Helper()
	c := token.Claims{
		Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup", ID: "jti-1",
		IssuedAt: noon, Expires: noon.Add(time.Hour), User: token.User{ID: "u1", Affiliation: "owner"},
	}
	return tokentest.Mint(t, []byte(appSecret), c, change)
}

// raw returns a token with this payload, signed with the issuer's secret.
func raw(payload string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// golden compares got with a file; with -update it writes the file.
func golden(t testing.TB, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("different from %s from line %s", name, difference(got, string(want)))
	}
}

// difference returns the number of the first line that differs, and up to twenty lines of both from there on.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	n := 0
	for n < len(g) && n < len(w) && g[n] == w[n] {
		n++
	}
	part := func(lines []string) string { return strings.Join(lines[n:min(n+20, len(lines))], "\n") }
	return fmt.Sprintf("%d on:\ngot\n%s\nwant\n%s", n+1, part(g), part(w))
}

// live is the output of a running command. A test can wait for a text in it.
type live struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // has an entry if text was written since until has last looked
}

func newLive() *live { return &live{more: make(chan struct{}, 1)} }

func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *live) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// until waits until the output has the text this many times.
func (l *live) until(t *testing.T, text string, times int) {
	t.Helper()
	late := time.After(time.Minute)
	for strings.Count(l.String(), text) < times {
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("%q does not come %d times:\n%s", text, times, prosodytest.Tail(l.String()))
		}
	}
}

// begin starts a command that does not end by itself. end stops it by its context and returns its exit status. usher serves nobody at
// ops.listen unless the test has said where.
func begin(t *testing.T, stdout, stderr io.Writer, args ...string) (end func() int) {
	t.Helper()
	if os.Getenv(opsListen) == "" {
		t.Setenv(opsListen, "off")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() { done <- run(ctx, args, strings.NewReader(""), stdout, stderr) }()
	end = sync.OnceValue(func() int {
		cancel()
		select {
		case status := <-done:
			return status
		case <-time.After(time.Minute):
			t.Error("usher did not end")
			return -1
		}
	})
	t.Cleanup(func() {
		end()
		for _, w := range []io.Writer{stdout, stderr} {
			if said, ok := w.(*live); ok && args[0] != "demo" { // which prints tokens for people to try
				silent(t, said.String())
			}
		}
	})
	return end
}

// opsListen is the variable of ops.listen.
const opsListen = "USHER_OPS_LISTEN"

// field copies a folder of testdata/vhosts, readable by nobody else, and changes to the copy. It returns the original folder.
func field(t *testing.T, name string) (source string) {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", "..", "testdata", "vhosts", name))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	err = filepath.WalkDir(source, func(path string, entry os.DirEntry, err error) error {
		relative, _ := filepath.Rel(source, path)
		if err != nil || entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o700)
		}
		content, err := os.ReadFile(path)
		if err == nil {
			write(t, filepath.Join(to, relative), string(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(to)
	return source
}

// edit replaces a text in a file.
func edit(t testing.TB, name, old, new string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(content), old) {
		t.Fatalf("%s has no %q (%v):\n%s", name, old, err, content)
	}
	write(t, name, strings.Replace(string(content), old, new, 1))
}

// printed returns the output of a command that prints secrets, which command would not allow.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); status != 0 {
		t.Fatalf("%v: %s", args, stderr.String())
	}
	return stdout.String()
}

// output writes the output of such a command to a file, and returns it.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	content := printed(t, args...)
	write(t, name, content)
	return content
}

// prosodyLines returns the lines for Prosody that "usher config prosody" prints, with the component's secret.
func prosodyLines(t *testing.T, args ...string) string {
	t.Helper()
	return printed(t, append([]string{"config", "prosody", "-c", "usher.yaml"}, args...)...)
}

// configProsodyCommand runs "usher config prosody" with more arguments.
func configProsodyCommand(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, "", append([]string{"config", "prosody", "-c", "usher.yaml"}, args...)...)
}

// workingDir is the folder that the test is in.
func workingDir(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return here
}

// needsProsody skips the test as prosodytest.Start does. It gives the test a folder for temporary files, which must be empty
// in the end.
func needsProsody(t *testing.T) {
	t.Helper()
	prosodytest.Need(t)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Cleanup(func() {
		if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

// served starts the demo's Prosody with this component_secret, and stages a usher.yaml for it. Each change is applied to
// Prosody's configuration.
func served(t testing.TB, secret string, changes ...func(string) string) *prosodytest.Server {
	t.Helper()
	staged(t)
	prosody := strings.ReplaceAll(demoProsody, "{component.secret}", secret)
	for _, change := range changes {
		prosody = change(prosody)
	}
	server := prosodytest.Start(t, prosodytest.Options{Config: prosody})
	server.Tap(secrets.Tap)
	t.Cleanup(func() { secrets.CheckTap(t) })
	write(t, "usher.yaml", strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr))
	return server
}

// playThrough has usher serve by usher.yaml at the server's component port, plays the demo's cast, and stops usher.
func playThrough(t *testing.T, st *stage, resource, server string) {
	t.Helper()
	user, host, _ := strings.Cut(st.account, "@")
	st.jicofo = st.Jicofo(t, prosodytest.JicofoOptions{
		Host: host, User: user, Password: jicofoPassword, Resource: resource, Proxy: st.focus, Service: st.service, AcceptSubscriptions: true,
	})
	stop, err := st.serve(t.Context(), "usher.yaml", "USHER_XMPP_SERVER="+server, opsListen+"=off")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	_, wrong, err := st.play(t.Context(), newTable(&table))
	if err != nil || wrong > 0 {
		t.Errorf("%d went wrong, %v\n%s\n%s", wrong, err, table.String(), prosodytest.Tail(st.log()))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	silent(t, st.log())
}

const jicofoPassword = "jicofo's"

// tokenOf returns the attribute token with a host's token, signed with a secret.
func tokenOf(t testing.TB, secret string) string {
	t.Helper()
	compact, err := token.Mint(token.Claims{
		Issuer: demoScene.issuer, Audience: []string{"jitsi"}, Subject: demoScene.tokens, Room: "*",
		Expires: time.Now().Add(time.Hour), User: token.User{Affiliation: "owner"},
	}, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	secrets.PlantTokens(compact)
	return "token='" + compact + "'"
}

// machine is the machine-uid of those who ask.
const machine = "the-machine-of-all-1f0c"

// asks sends a conference request, and returns "ready", "not ready", or the reason code of the refusal.
func asks(ctx context.Context, c *prosodytest.Client, room, attr string) (string, error) {
	return asksFrom(ctx, c, machine, room, attr)
}

// asksFrom is asks for a machine.
func asksFrom(ctx context.Context, c *prosodytest.Client, machine, room, attr string) (string, error) {
	const focus = "http://jitsi.org/protocol/focus"
	answer, err := c.IQ(ctx, "set", demoScene.focus, fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", focus, room, machine, attr))
	switch {
	case err != nil:
		return "", err
	case answer.Attr["type"] == "error":
		return answer.Find("reason", "urn:usher:0").Attr["code"], nil
	case answer.Child("conference", focus).Attr["ready"] == "true":
		return "ready", nil
	}
	return "not ready", nil
}
