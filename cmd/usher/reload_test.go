package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// reloading is a running usher; a test changes its files.
type reloading struct {
	*testing.T
	*prosodytest.Server
	person *prosodytest.Client
	log    *live
	end    func() int
	read   int // how often usher should have read its files again with success
}

// startReloading starts usher with this usher.yaml.
func startReloading(t *testing.T, server *prosodytest.Server, yaml string) *reloading {
	t.Helper()
	write(t, "usher.yaml", yaml)
	return startServing(t, server)
}

// startServing starts usher with the usher.yaml that is there.
func startServing(t *testing.T, server *prosodytest.Server) *reloading {
	t.Helper()
	r := &reloading{T: t, Server: server, log: newLive(), person: server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})}
	r.end = begin(t, r.log, r.log, "serve", "-c", "usher.yaml")
	r.log.until(t, "connected", 1)
	return r
}

// replaces changes a file, and waits until usher uses the new configuration.
func (r *reloading) replaces(file, content string) {
	r.Helper()
	write(r.T, "next", content)
	if err := os.Rename("next", file); err != nil { // as careful programs replace a file
		r.Fatal(err)
	}
	r.isRead()
}

// isRead waits until usher has read its files once more.
func (r *reloading) isRead() {
	r.Helper()
	r.read++
	r.log.until(r.T, "is in force", r.read)
}

// ask sends a conference request with the attribute, and checks its outcome.
func (r *reloading) ask(attr, want string) {
	r.Helper()
	got, err := asks(r.Context(), r.person, demoScene.room(), attr)
	if err != nil || got != want {
		r.Errorf("got %s, %v; want %s", got, err, want)
	}
}

// session returns the attribute session-id of a session that usher gives for a token.
func (r *reloading) session(token string) string {
	r.Helper()
	answer, err := r.person.IQ(r.Context(), "set", demoScene.focus, fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", nsFocus, demoScene.room(), machine, token))
	if err != nil {
		r.Fatal(err)
	}
	id := answer.Child("conference", nsFocus).Attr["session-id"]
	if id == "" {
		r.Fatalf("no session: %s", answer)
	}
	return "session-id='" + id + "'"
}

// steady asks with a token for one new room after the other, until stop, which fails the test if usher has refused any.
func (r *reloading) steady(token string) (stop func()) {
	r.Helper()
	c := r.Client(r.T, prosodytest.ClientOptions{Host: demoScene.tokens})
	ctx, cancel := context.WithCancel(r.Context())
	asked := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			got, err := asks(ctx, c, fmt.Sprintf("steady%d@%s", n, demoScene.service), token)
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
	return func() {
		r.Helper()
		cancel()
		if err := <-asked; err != nil {
			r.Error(err)
		}
	}
}

// TestReload changes the files of a running usher. Meanwhile a client with a token that every configuration accepts asks
// again and again, and is never refused.
func TestReload(t *testing.T) {
	server := served(t, componentSecret)
	const secondSecret = "ffeeddccbbaa99887766554433221100"
	good := strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr)
	two := strings.ReplaceAll(good, "app_secret_file: app.secret", "app_secrets: ["+appSecret+", "+secondSecret+"]")
	r := startReloading(t, server, two)
	old, young := tokenOf(t, appSecret), tokenOf(t, secondSecret)
	r.ask(old, "ready")
	byOld, byYoung := r.session(old), r.session(young)
	r.ask(byOld, "ready")
	r.ask(byYoung, "ready")
	stop := r.steady(young)

	// An invalid file changes nothing, and the log says why.
	write(t, "usher.yaml", two+"rooms: [oops]\n")
	r.log.until(t, "rooms: stands here again", 1)
	r.log.until(t, "keeping the previous one", 1)
	r.ask(old, "ready")

	// A removed secret no longer counts, not even for a token that was just verified, or for its session.
	write(t, "usher.yaml", strings.ReplaceAll(two, "["+appSecret+", ", "["))
	r.isRead()
	r.ask(old, "token-signature")
	r.ask(young, "ready")
	r.ask(byOld, "session-invalid")
	r.ask(byYoung, "ready")

	// A secret in a file of its own.
	write(t, "app.secret", secondSecret) // usher does not read this file yet
	write(t, "usher.yaml", good)
	r.isRead()
	r.replaces("app.secret", secondSecret+"\n")
	r.ask(young, "ready")

	// The log's level, virtual hosts, and keys that cannot change while usher runs.
	write(t, "usher.yaml", strings.ReplaceAll(good, "  recorder.meet.example.com:\n    kind: service\n", "")+"log: {level: debug, format: json}\n")
	r.isRead()
	r.log.until(t, `a changed key needs a restart	{"key": "log.format"}`, 1)
	if strings.Contains(r.log.String(), "needs a restart	{\"key\": \"xmpp") {
		t.Error("a key that has not changed needs a restart")
	}
	recorder := server.Client(t, prosodytest.ClientOptions{Host: "recorder.meet.example.com"})
	if got, err := asks(t.Context(), recorder, demoScene.room(), ""); err != nil || got != "vhost-unknown" {
		t.Errorf("on a removed virtual host: %s, %v", got, err)
	}

	// SIGHUP reads the files although none has changed.
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.log.until(t, `"because": "SIGHUP"`, 1)
	r.isRead()

	// A file that is not part of the configuration changes nothing.
	write(t, "other.yaml", "x")
	stop()
	if status := r.end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if n := strings.Count(r.log.String(), "is in force"); n != r.read {
		t.Errorf("usher has read its files %d times, want %d", n, r.read)
	}
	silent(t, r.log.String())
}

// TestAPIKeysAreReloadedAlone removes a key of the API while something else in the configuration is wrong.
func TestAPIKeysAreReloadedAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", apiConfig)
	key := func(name, sum string) string {
		return "  - {name: " + name + ", sha256: " + strings.Repeat(sum, 32) + ", scopes: [explain]}\n"
	}
	write(t, "keys.yaml", "keys:\n"+key("kept", "ab")+key("leaked", "cd"))
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	var used []*config.Config
	r := &reloader{files: []string{"usher.yaml"}, remote: new(keys.Cache), watcher: watcher, log: zap.NewNop(), tell: func(error) {},
		use: func(c *config.Config, _ auth.Policy) { used = append(used, c) }}
	if r.current, r.policy, err = r.load(); err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", apiConfig+"nonsense: true\n")
	r.reload("a test")
	if len(used) > 0 {
		t.Errorf("an invalid configuration is in force")
	}
	write(t, "keys.yaml", "keys:\n"+key("kept", "ab"))
	r.reload("a test")
	if len(used) != 1 || len(used[0].API.Keys) != 1 || used[0].API.Keys[0].Name != "kept" || used[0].XMPP.Domain.String() != "focus.meet.example.com" {
		t.Fatalf("in force: %+v", used)
	}
	write(t, "keys.yaml", "keys: [{name: wrong}]\n")
	r.reload("a test")
	if len(used) != 1 {
		t.Errorf("a file of keys with a mistake is in force: %+v", used[1].API.Keys)
	}
}

// TestRestartIsNeeded checks that usher says which keys need a restart for as long as they differ from those that it has begun with.
func TestRestartIsNeeded(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", apiConfig)
	write(t, "keys.yaml", "keys: []\n")
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	core, logs := observer.New(zap.WarnLevel)
	r := &reloader{files: []string{"usher.yaml"}, remote: new(keys.Cache), watcher: watcher, log: zap.New(core), level: zap.NewAtomicLevel(),
		tell: func(error) {}, use: func(*config.Config, auth.Policy) {}}
	if r.current, r.policy, err = r.load(); err != nil {
		t.Fatal(err)
	}
	r.started = r.current
	for i, step := range []struct {
		more string
		want int
	}{{"log: {format: json}\n", 1}, {"log: {format: json, level: debug}\n", 1}, {"log: {level: debug}\n", 0}} {
		write(t, "usher.yaml", apiConfig+step.more)
		r.reload("a test")
		if n := logs.FilterMessage("a changed key needs a restart").Len(); n != step.want {
			t.Errorf("step %d: %d keys need a restart, want %d", i, n, step.want)
		}
		logs.TakeAll()
	}
}

// TestReloadLink checks that usher notices a file that changes because a link in its path changes, as in Kubernetes.
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
		t.Error("the fingerprint stays the same")
	}
}

// TestWatched checks which changes make usher read its files again: those of the files, and of the links that lead to them.
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
	// The watcher reports paths in the same spelling.
	named := map[string]bool{}
	for _, path := range []string{in("usher.db"), in("kept", "1", "usher.yaml"), in("elsewhere", "secret"), in("conf.d", "new.cfg.lua"), in("plain")} {
		write(t, path, "x")
		for !named[path] {
			select {
			case e := <-watcher.Events:
				named[e.Name] = true
			case <-time.After(time.Minute):
				t.Fatalf("the watcher does not report %s", path)
			}
		}
	}
}

// TestRestarts changes each value by which others see and steer usher. All but the keys of the API need a restart, and the log names each.
func TestRestarts(t *testing.T) {
	for section, field := range map[string]string{"ops": "Ops", "api": "API", "audit": "Audit"} {
		kind := reflect.TypeFor[config.Config]()
		f, _ := kind.FieldByName(field)
		for i := range f.Type.NumField() {
			name := f.Type.Field(i).Name
			if name == "Keys" || name == "KeysFile" {
				continue
			}
			var changed config.Config
			switch v := reflect.ValueOf(&changed).Elem().FieldByName(field).Field(i); v.Kind() {
			case reflect.String:
				v.SetString("x")
			case reflect.Bool:
				v.SetBool(true)
			case reflect.Float64:
				v.SetFloat(1)
			default:
				v.SetInt(1)
			}
			keys := restarts(new(config.Config), &changed)
			if len(keys) != 1 || !strings.EqualFold(strings.ReplaceAll(keys[0], "_", ""), section+"."+name) {
				t.Errorf("after a change of %s.%s the log names %v", field, name, keys)
			}
		}
	}
}
