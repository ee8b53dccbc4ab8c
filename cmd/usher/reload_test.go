package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// tokenOf returns the attribute of a request with a host's token, signed with a secret.
func tokenOf(t *testing.T, secret string) string {
	t.Helper()
	compact, err := token.Mint(token.Claims{
		Issuer: demoScene.issuer, Audience: []string{"jitsi"}, Subject: demoScene.tokens, Room: "*",
		Expires: time.Now().Add(time.Hour), User: token.User{Affiliation: "owner"},
	}, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	return "token='" + compact + "'"
}

// asks returns "ready", "not ready", or the reason why not.
func asks(ctx context.Context, c *prosodytest.Client, room, attr string) (string, error) {
	const focus = "http://jitsi.org/protocol/focus"
	answer, err := c.IQ(ctx, "set", demoScene.focus, fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='m' %s/>", focus, room, attr))
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

// TestReload changes files under a running usher. All the while somebody asks to enter and is never turned away.
func TestReload(t *testing.T) {
	staged(t)
	server := prosodytest.Start(t, prosodytest.Options{Config: strings.ReplaceAll(demoProsody, "{component.secret}", componentSecret)})
	const secondSecret = "ffeeddccbbaa99887766554433221100"
	good := strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr)
	two := strings.ReplaceAll(good, "app_secret_file: app.secret", "app_secrets: ["+appSecret+", "+secondSecret+"]")
	write(t, "usher.yaml", two)
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)

	person := server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	ask := func(attr, want string) {
		t.Helper()
		got, err := asks(t.Context(), person, demoScene.room(), attr)
		if err != nil || got != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	old, young := tokenOf(t, appSecret), tokenOf(t, secondSecret)
	ask(old, "ready")
	session := func(token string) string {
		t.Helper()
		const focus = "http://jitsi.org/protocol/focus"
		answer, err := person.IQ(t.Context(), "set", demoScene.focus, fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='m' %s/>", focus, demoScene.room(), token))
		if err != nil {
			t.Fatal(err)
		}
		id := answer.Child("conference", focus).Attr["session-id"]
		if id == "" {
			t.Fatalf("no session: %s", answer)
		}
		return "session-id='" + id + "'"
	}
	byOld, byYoung := session(old), session(young)
	ask(byOld, "ready")
	ask(byYoung, "ready")

	// Somebody whose token is good by every configuration.
	steady := server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			got, err := asks(ctx, steady, fmt.Sprintf("steady%d@%s", n, demoScene.service), young)
			if ctx.Err() != nil {
				asked <- nil
				return
			}
			if err != nil || got != "ready" {
				asked <- fmt.Errorf("request %d during reloads: %s, %v", n, got, err)
				return
			}
		}
	}()

	// A file that is not valid changes nothing, and the log says why.
	write(t, "usher.yaml", two+"rooms: [oops]\n")
	stderr.until(t, "rooms: stands here again", 1)
	stderr.until(t, "keeping the previous one", 1)
	ask(old, "ready")

	// A secret that is taken out does not count any more, not even for a token that has just been seen, or a session.
	one := strings.ReplaceAll(two, "["+appSecret+", ", "[")
	write(t, "usher.yaml", one)
	stderr.until(t, "is in force", 1)
	ask(old, "token-signature")
	ask(young, "ready")
	ask(byOld, "session-invalid")
	ask(byYoung, "ready")

	// A secret in a file of its own, replaced as careful programs do: written beside it and renamed.
	write(t, "app.secret", secondSecret) // of no concern yet
	write(t, "usher.yaml", good)
	stderr.until(t, "is in force", 2)
	write(t, "next", secondSecret+"\n")
	if err := os.Rename("next", "app.secret"); err != nil {
		t.Fatal(err)
	}
	stderr.until(t, "is in force", 3)
	ask(young, "ready")

	// SIGHUP, the log's level, virtual hosts, and keys that cannot change while usher runs.
	write(t, "usher.yaml", strings.ReplaceAll(good, "  recorder.meet.example.com:\n    kind: service\n", "")+"log: {level: debug, format: json}\n")
	stderr.until(t, "is in force", 4)
	stderr.until(t, `a changed key needs a restart	{"key": "log.format"}`, 1)
	if strings.Contains(stderr.String(), "needs a restart	{\"key\": \"xmpp") {
		t.Error("a key that has not changed needs a restart")
	}
	guest := server.Client(t, prosodytest.ClientOptions{Host: "recorder.meet.example.com"})
	if got, err := asks(t.Context(), guest, demoScene.room(), ""); err != nil || got != "vhost-unknown" {
		t.Errorf("on a virtual host that was taken out: %s, %v", got, err)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	stderr.until(t, `"because": "SIGHUP"`, 1)
	stderr.until(t, "is in force", 5)

	// What is no file of the configuration is of no concern.
	write(t, "other.yaml", "x")
	stop()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if n := strings.Count(stderr.String(), "is in force"); n != 5 {
		t.Errorf("read %d times", n)
	}
	silent(t, stderr.String())
}

// TestReloadLink checks that a file is noticed that changes because a link in its path does, as in Kubernetes.
func TestReloadLink(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "usher.yaml"), name+"\n")
	}
	link := func(to string) {
		if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("1")
	file := filepath.Join(dir, "usher.yaml")
	if err := os.Symlink(filepath.Join("..data", "usher.yaml"), file); err != nil {
		t.Fatal(err)
	}
	before := fingerprint([]string{file})
	link("2")
	if fingerprint([]string{file}) == before {
		t.Error("not noticed")
	}
}

// TestWatched checks which changes have the files read again: of the files themselves, and of the links that lead to them.
func TestWatched(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name ...string) string { return filepath.Join(append([]string{dir}, name...)...) }
	for _, folder := range []string{in("kept", "1"), in("conf.d"), in("elsewhere")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, in("kept", "1", "usher.yaml"), "")
	write(t, in("elsewhere", "secret"), "")
	for from, to := range map[string]string{
		in("kept", "..data"): "1", in("kept", "usher.yaml"): "..data/usher.yaml", in("app.secret"): "../" + filepath.Base(dir) + "/elsewhere/secret",
		in("loop"): "loop",
	} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	r := &reloader{watcher: watcher, watched: []string{in("kept", "usher.yaml"), in("conf.d"), in("app.secret"), in("plain"), in("loop")}}
	r.watch()
	if r.blind != nil {
		t.Error(r.blind)
	}
	for path, want := range map[string]bool{
		in("kept", "usher.yaml"): true, in("kept", "..data"): true, in("kept", "1", "usher.yaml"): true, in("conf.d", "new.cfg.lua"): true,
		in("app.secret"): true, in("elsewhere", "secret"): true, in("plain"): true, in("loop"): true,
		in("usher.db"): false, in("kept", "1", "usher.db"): false, in("elsewhere", "usher.db"): false,
	} {
		if r.concerns(path) != want {
			t.Errorf("%s: %t", path, !want)
		}
	}
	// The watcher names paths as they are named here.
	named := map[string]bool{}
	for _, path := range []string{in("usher.db"), in("kept", "1", "usher.yaml"), in("elsewhere", "secret"), in("conf.d", "new.cfg.lua"), in("plain")} {
		write(t, path, "x")
		for !named[path] {
			select {
			case e := <-watcher.Events:
				named[e.Name] = true
			case <-time.After(time.Minute):
				t.Fatalf("nothing was told of %s", path)
			}
		}
	}
}
