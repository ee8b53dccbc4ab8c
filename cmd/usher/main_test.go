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
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

var update = flag.Bool("update", false, "rewrite what testdata says")

func TestMain(m *testing.M) {
	if os.Getenv("SIGNALLED") == "1" {
		signalled()
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "USHER_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("STATE_DIRECTORY", "/proc/nowhere") // which nobody can make, so that no test leaves anything on the machine
	goleak.VerifyTestMain(m)
}

// The secrets in the files of stage, and what has been minted with them: none of it may be in any output.
const (
	appSecret       = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	componentSecret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
)

// result is what a command left behind.
type result struct {
	status         int
	stdout, stderr string
}

// command runs a command line, and fails the test if anything but "token mint" tells a secret or a token.
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

// silent fails the test if a secret, or a part of one of the tokens, is in what was said.
func silent(t *testing.T, said string, tokens ...string) {
	t.Helper()
	private := []string{appSecret, componentSecret}
	for _, s := range tokens {
		if strings.Count(s, ".") == 2 && strings.HasPrefix(s, "eyJ") {
			private = append(private, strings.Split(strings.TrimSpace(s), ".")[1:]...)
		}
	}
	for _, p := range private {
		if len(p) > 16 && strings.Contains(said, p) {
			t.Errorf("a secret or a token was told:\n%s", prosodytest.Tail(said[max(0, strings.Index(said, p)-1000):]))
		}
	}
}

// staged puts files of testdata, where nobody else may read them, into a folder of the test, and goes there.
func staged(t *testing.T) {
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

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noon is when the tokens of the transcripts were made.
var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

// minted returns a token of noon, good for an hour.
func minted(t *testing.T, change func(*token.Claims)) string {
	t.Helper()
	c := token.Claims{
		Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup", ID: "jti-1",
		IssuedAt: noon, Expires: noon.Add(time.Hour), User: token.User{ID: "u1", Affiliation: "owner"},
	}
	if change != nil {
		change(&c)
	}
	s, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(appSecret)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw signs any payload as the issuer would.
func raw(payload string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestTranscripts runs the command lines in testdata/*.txt, which begin with "$ usher", and compares what they say.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	source, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	owner := minted(t, nil)
	variables := map[string]string{
		"OWNER":        owner,
		"MEMBER":       minted(t, func(c *token.Claims) { c.User.Affiliation = "member" }),
		"PLAIN":        minted(t, func(c *token.Claims) { c.User.Affiliation = "" }),
		"PORTAL":       minted(t, func(c *token.Claims) { c.Issuer, c.User.Affiliation = "portal", "" }),
		"NOBODY":       minted(t, func(c *token.Claims) { c.Issuer = "evil\x1b[2J" }),
		"ELSEWHERE":    minted(t, func(c *token.Claims) { c.Room = "elsewhere" }),
		"FORGED":       owner[:strings.LastIndex(owner, ".")+1] + strings.Repeat("A", 43),
		"MILLISECONDS": raw(fmt.Sprintf(`{"iss":"my_app","aud":"jitsi","sub":"meet.example.com","room":"standup","exp":%d}`, noon.Add(time.Hour).UnixMilli())),
		"NOTHING":      raw(`{"iss":"my_app","context":{"user":{"affiliation":"owner"}}}`),
		"AHEAD":        minted(t, func(c *token.Claims) { c.IssuedAt = noon.Add(31 * time.Minute) }),
		"YEAR9999":     minted(t, func(c *token.Claims) { c.Expires = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }),
		"ODD": raw(fmt.Sprintf(`{"iss":"my_app","aud":"jitsi","sub":"meet.example.com","room":"standup","exp":%d,"role":"visitor",`+
			`"context":{"moderator":true,"user":{"name":["Juliet"],"moderator":"false"},"features":{"recording":1}}}`, noon.Add(time.Hour).Unix())),
		"SUPERUSER": minted(t, func(c *token.Claims) { c.User.Affiliation = "superuser\x1b[2J" }),
		"LONG":      raw(`{"iss":"my_app","context":{"user":{"name":"` + strings.Repeat("n", 9082) + `"}}}`),
		"UNSIGNED":  strings.TrimSuffix(strings.TrimPrefix(unsigned("token='"+owner+"'"), "token='"), "'"),
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			staged(t)
			t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				if strings.HasPrefix(line, "#") {
					got.WriteString(line + "\n")
				}
				args, ok := strings.CutPrefix(line, "$ usher ")
				if !ok {
					continue
				}
				stdin := ""
				fields := strings.Fields(args)
				if before, after, ok := strings.Cut(args, " < "); ok {
					fields, stdin = strings.Fields(before), os.Expand(after, func(v string) string { return variables[v] })
				}
				for i, f := range fields {
					fields[i] = strings.Trim(os.Expand(f, func(v string) string { return variables[v] }), "'")
				}
				r := command(t, stdin, fields...)
				fmt.Fprintf(&got, "$ usher %s", args)
				got.WriteString(r.stdout)
				for line := range strings.Lines(r.stderr) {
					got.WriteString("! " + line)
				}
				fmt.Fprintf(&got, "= %d\n\n", r.status)
			}
			golden(t, filepath.Join(source, filepath.Base(name)), got.String())
		})
	}
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, name, got string) {
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
		t.Errorf("not as in %s from line %s", name, difference(got, string(want)))
	}
}

// difference is the number of the first line in which they differ, and as much of both from there on as is easily read.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	n := 0
	for n < len(g) && n < len(w) && g[n] == w[n] {
		n++
	}
	part := func(lines []string) string { return strings.Join(lines[n:min(n+20, len(lines))], "\n") }
	return fmt.Sprintf("%d on:\ngot\n%s\nwant\n%s", n+1, part(g), part(w))
}

func TestVersion(t *testing.T) {
	if r := command(t, "", "version"); r.status != 0 || !strings.HasPrefix(r.stdout, "usher ") {
		t.Errorf("%+v", r)
	}
}

// live is the output of a command that stays, which a test can wait for.
type live struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // has an entry if something was written that nobody has looked at
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

// until waits until the text is there as often as that.
func (l *live) until(t *testing.T, text string, times int) {
	t.Helper()
	late := time.After(time.Minute)
	for strings.Count(l.String(), text) < times {
		select {
		case <-l.more:
		case <-late:
			t.Fatalf("%q was not said %d times:\n%s", text, times, prosodytest.Tail(l.String()))
		}
	}
}

// begin runs a command that stays; end stops it by its context and returns its exit status.
func begin(t *testing.T, stdout, stderr io.Writer, args ...string) (end func() int) {
	t.Helper()
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
	t.Cleanup(func() { end() })
	return end
}

// signalled is a process of TestSecondSignal: it hears of the first signal and does not end.
func signalled() {
	ctx, stop := untilSignal(context.Background(), func() { fmt.Println("second") })
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("first")
	select {}
}

// TestSecondSignal checks that the second signal ends a process that does not end by itself.
func TestSecondSignal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SIGNALLED=1")
	stdout := newLive()
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	signal := func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	stdout.until(t, "ready", 1)
	signal()
	signal() // the same once more, as timeout(1) sends it
	stdout.until(t, "first", 1)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	late := time.After(time.Minute)
	for {
		select {
		case <-again.C:
			signal()
		case err := <-ended:
			if cmd.ProcessState.Exited() {
				t.Errorf("not ended by the signal: %v", err)
			}
			return
		case <-late:
			_ = cmd.Process.Kill()
			<-ended
			t.Fatal("the second signal did not end it")
		}
	}
}

// TestWriteModule writes the module for Prosody, and has its lines read by what compares them.
func TestWriteModule(t *testing.T) {
	field(t, "debian-guests")
	t.Setenv("USHER_ROOMS_ENFORCEMENT", "module")
	var lines, stderr bytes.Buffer // which have the secret in them
	if status := run(t.Context(), []string{"config", "prosody", "-c", "usher.yaml"}, strings.NewReader(""), &lines, &stderr); status != 0 {
		t.Fatal(stderr.String())
	}
	write(t, "zz-usher.cfg.lua", lines.String())
	r := command(t, "", "config", "prosody", "-c", "usher.yaml", "--module", ".")
	here, err := os.Getwd()
	if err != nil || r.status != 0 || !strings.Contains(r.stdout, here+"/mod_muc_affiliated_only.lua is written") {
		t.Fatalf("%+v %v", r, err)
	}
	// There is nothing to paste: the lines have it all, but for the folder.
	if !strings.Contains(r.stdout, "--output\" writes load it.\n") || strings.Contains(r.stdout, "modules_enabled") || strings.Count(r.stdout, "plugin_paths = {") != 1 ||
		!strings.Contains(r.stdout, `, "`+here+`" }`) {
		t.Errorf("%s", r.stdout)
	}
	write(t, "all.cfg.lua", "Include \"prosody.cfg.lua\"\nInclude \"zz-usher.cfg.lua\"\n")
	if r := command(t, "", "config", "prosody", "-c", "usher.yaml", "all.cfg.lua"); r.status != 0 || strings.Contains(r.stdout, "plugin_paths") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "config", "prosody", "-c", "usher.yaml", "prosody.cfg.lua"); r.status != 1 ||
		!strings.Contains(r.stdout, "the module muc_affiliated_only is not loaded") {
		t.Errorf("%+v", r)
	}

	edit(t, "prosody.cfg.lua", "admins = { }", "admins = { }\nplugin_paths = { \""+here+"\" }")
	edit(t, "conf.d/meet.example.com.cfg.lua", "plugin_paths = ", "other_paths = ")
	r = command(t, "", "config", "prosody", "-c", "usher.yaml", "--module", ".")
	if want := here + "/mod_muc_affiliated_only.lua is written. The lines that \"usher config prosody --output\" writes load it.\n"; r.status != 0 || r.stdout != want {
		t.Errorf("%+v", r)
	}

	write(t, "mod_muc_affiliated_only.lua", "-- mine\n")
	if r := command(t, "", "config", "prosody", "-c", "usher.yaml", "--module", "."); r.status != 1 || !strings.Contains(r.stderr, "is not usher's") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"--module", ""}, {"--module", ".", "prosody.cfg.lua"}} {
		if r := command(t, "", append([]string{"config", "prosody", "-c", "usher.yaml"}, args...)...); r.status != statusUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
