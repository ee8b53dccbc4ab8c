package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops"
)

// TestReadiness covers what makes an usher ready: all of connection, store and keys, and while it stands by the last two.
func TestReadiness(t *testing.T) {
	on, off := component.Status{Connected: true, Address: "127.0.0.1:5347"}, component.Status{Address: "127.0.0.1:5347"}
	well := []ops.Check{{Name: "store", OK: true}, {Name: "keys", OK: true}}
	for name, test := range map[string]struct {
		active func() ops.Source
		checks []ops.Check
		code   int
		role   string
		not    string // the check that is not well
	}{
		"active":            {active(on), well, 200, "active", ""},
		"not connected":     {active(off), well, 503, "active", "connection"},
		"store away":        {active(on), []ops.Check{{Name: "store", Says: "no answer"}, well[1]}, 503, "active", "store"},
		"no keys":           {active(on), []ops.Check{well[0], {Name: "keys", Says: "HTTP status 503"}}, 503, "active", "keys"},
		"standby":           {standby, well, 200, "standby", ""},
		"standby, no store": {standby, []ops.Check{{Name: "store"}, well[1]}, 503, "standby", "store"},
	} {
		t.Run(name, func(t *testing.T) {
			h := ops.Handler(ops.Options{Active: test.active, Version: "v1", Ready: func(context.Context) []ops.Check { return test.checks }})
			w := get(t, h, "localhost", "/readyz")
			var got ops.Readiness
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if w.Code != test.code || got.Ready != (test.code == 200) || got.Role != test.role || got.Version != "v1" {
				t.Errorf("status %d, %+v; want %d and role %s", w.Code, got, test.code, test.role)
			}
			for _, c := range got.Checks {
				if c.OK != (c.Name != test.not) {
					t.Errorf("the check is %+v; want %q alone not to be well", c, test.not)
				}
			}
			if w := get(t, h, "localhost", "/healthz"); w.Code != 200 || !strings.Contains(w.Body.String(), "alive") {
				t.Errorf("/healthz has status %d: %s", w.Code, w.Body)
			}
		})
	}
}

// TestHalted has an usher of which the work has come to a halt: it is not alive, although it answers.
func TestHalted(t *testing.T) {
	for want, err := range map[int]error{200: nil, 503: errors.New("no request has had its turn")} {
		h := ops.Handler(ops.Options{Version: "v1", Active: func() ops.Source { return halted{err: err} }})
		if w := get(t, h, "localhost", "/healthz"); w.Code != want || strings.Contains(w.Body.String(), "no request") != (err != nil) {
			t.Errorf("with %v /healthz has status %d: %s", err, w.Code, w.Body)
		}
	}
}

// halted is a source that says whether its work goes on.
type halted struct {
	source
	err error
}

func (h halted) Alive(context.Context) error { return h.err }

// TestReadinessIsShared has many ask at once, and without pause: the store is asked once a second, and a client that gives up takes the
// answer from nobody.
func TestReadinessIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := ops.Handler(ops.Options{Active: standby, Ready: func(ctx context.Context) []ops.Check {
			asked++
			<-time.After(time.Second)
			return []ops.Check{{Name: "store", OK: ctx.Err() == nil}}
		}})
		gone, leave := context.WithCancel(t.Context())
		first, err := http.NewRequestWithContext(gone, http.MethodGet, "/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		first.Host = "localhost"
		go h.ServeHTTP(discard{}, first)
		synctest.Wait()
		leave()
		for range 3 {
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if w := get(t, h, "localhost", "/readyz"); w.Code != 200 {
						t.Errorf("status %d: %s", w.Code, w.Body)
					}
				})
			}
			all.Wait()
		}
		if asked != 1 {
			t.Errorf("the store is asked %d times", asked)
		}
		<-time.After(time.Second)
		get(t, h, "localhost", "/readyz")
		if asked != 2 {
			t.Errorf("a second later the store has been asked %d times", asked)
		}
	})
}

// discard is the way to a client that has gone.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// TestHosts covers which names usher answers to. A page under a name that is made to mean 127.0.0.1 sends that name.
func TestHosts(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		listen, host string
		ok           bool
	}{
		{"127.0.0.1:8089", "127.0.0.1:8089", true},
		{"127.0.0.1:8089", "127.0.0.1", true},
		{"127.0.0.1:8089", "[::1]:8089", true},
		{"127.0.0.1:8089", "[::1]", true},
		{"127.0.0.1:8089", "[fe80::1%25eth0]", true},
		{"127.0.0.1:8089", "192.0.2.7:8089", true},
		{"127.0.0.1:8089", "localhost:8089", true},
		{"127.0.0.1:8089", "LocalHost.", true},
		{"127.0.0.1:8089", own, true},
		{"127.0.0.1:8089", strings.ToUpper(own) + ":8089", true},
		{"0.0.0.0:8089", "usher:8089", true}, // what containers call each other
		{"monitor.example.com:8089", "monitor.example.com:8089", true},
		{"127.0.0.1:8089", "monitor.example.com:8089", false},
		{"127.0.0.1:8089", "evil.example", false},
		{"127.0.0.1:8089", "evil.example:8089", false},
		{"127.0.0.1:8089", "127.0.0.1.evil.example", false},
		{"127.0.0.1:8089", "localhost.evil.example", false},
		{"127.0.0.1:8089", "evil.example:127.0.0.1", false},
		{"127.0.0.1:8089", "", true}, // HTTP/1.0, as HAProxy's httpchk; no browser leaves it out
		{"127.0.0.1:8089", ":8089", false},
		{":8089", ":8089", false},
		{"unix:/run/usher/ops.sock", "evil.example", true}, // no browser comes here
		{"unix:/run/usher/ops.sock", "", true},
	} {
		h := ops.Handler(ops.Options{Listen: test.listen, Active: standby, Metrics: says("metrics"), Page: says("page"), Pprof: true})
		for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/debug/pprof/cmdline", "/nothing"} {
			w := get(t, h, test.host, path)
			if refused := w.Code == http.StatusForbidden; refused == test.ok {
				t.Errorf("listening on %s: Host %q at %s has status %d", test.listen, test.host, path, w.Code)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: a browser may guess what this is", path)
			}
		}
	}
}

// TestPaths covers what is where, and that nothing can be changed.
func TestPaths(t *testing.T) {
	everything := ops.Options{Active: standby, Metrics: says("metrics"), Page: says("page"), Pprof: true}
	nothing := ops.Options{Active: standby}
	for path, want := range map[string]string{
		"/": "page", "/anything": "page", "/metrics": "metrics", "/debug/pprof/": "goroutine", "/debug/pprof/cmdline": "ops.test", "/debug/pprof/heap?debug=1": "heap",
	} {
		if w := get(t, ops.Handler(everything), "localhost", path); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s has status %d: %.100s", path, w.Code, w.Body)
		}
		if w := get(t, ops.Handler(nothing), "localhost", path); w.Code != 404 {
			t.Errorf("%s has status %d although it is switched off", path, w.Code)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/debug/pprof/symbol"} {
			r, err := http.NewRequestWithContext(t.Context(), method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "localhost"
			w := httptest.NewRecorder()
			ops.Handler(everything).ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s has status %d", method, path, w.Code)
			}
		}
	}
}

// TestRun serves on a port of the system's choice until it is stopped, also a request that lasts.
func TestRun(t *testing.T) {
	here := make(chan struct{})
	follow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		close(here)
		<-r.Context().Done() // as a live page does
	})
	r := run(t, ops.Options{Listen: "127.0.0.1:0", Page: follow, Metrics: says("metrics")})
	at := r.address(t)
	if code, body := fetch(t, client(at), at+"/metrics"); code != 200 || body != "metrics" {
		t.Errorf("status %d: %s", code, body)
	}
	var following sync.WaitGroup
	following.Go(func() { fetch(t, client(at), at+"/") })
	<-here
	r.stop()
	following.Wait()
	if c, err := net.Dial("tcp", strings.TrimPrefix(at, "http://")); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

// TestRunTakenPort has another process on the port. usher says so once, and serves when the port is free.
func TestRunTakenPort(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := run(t, ops.Options{Listen: other.Addr().String(), Metrics: says("metrics")})
	complaints := func() int { return r.log.FilterMessageSnippet("cannot be answered").Len() }
	waits(t, "a warning", func() bool { return complaints() > 0 })
	other.Close()
	at := r.address(t)
	if code, _ := fetch(t, client(at), at+"/metrics"); code != 200 {
		t.Errorf("status %d", code)
	}
	if n := complaints(); n != 1 {
		t.Errorf("it is said %d times that the port is taken", n)
	}
}

// TestRunSocket serves on a Unix socket that usher's group may use. The socket of a killed usher is replaced, one that is in use is not,
// and nor is a file that is no socket. In the end the socket is gone.
func TestRunSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ops.sock")
	listen := "unix:" + path
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, ops.Options{Listen: listen, Metrics: says("one")})
	waits(t, "a warning", func() bool { return r.log.FilterMessageSnippet("cannot be answered").Len() > 0 })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		left.SetUnlinkOnClose(false)
		left.Close() // as after kill -9
	} // else usher was faster
	if at := r.address(t); at != listen {
		t.Errorf("the log says %q", at)
	}
	if code, body := fetch(t, client(listen), "http://anything.example/metrics"); code != 200 || body != "one" {
		t.Errorf("status %d: %s", code, body)
	}
	is, err := os.Lstat(path)
	if err != nil || is.Mode().Perm() != 0o660 {
		t.Errorf("the socket has mode %v, %v", is, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waits(t, "the socket that somebody removed is made again", func() bool { _, err := os.Lstat(path); return err == nil })
	if code, body := fetch(t, client(listen), "http://localhost/metrics"); code != 200 || body != "one" {
		t.Errorf("after the socket was removed: status %d: %s", code, body)
	}
	second := run(t, ops.Options{Listen: listen, Metrics: says("two")})
	waits(t, "a warning", func() bool { return second.log.FilterMessageSnippet("cannot be answered").Len() > 0 })
	if _, body := fetch(t, client(listen), "http://localhost/metrics"); body != "one" {
		t.Errorf("the second usher has taken the socket: %s", body)
	}
	r.stop()
	second.address(t)
	if _, body := fetch(t, client(listen), "http://localhost/metrics"); body != "two" {
		t.Errorf("after the first has ended: %s", body)
	}
	second.stop()
	if _, err := os.Lstat(path); err == nil || !os.IsNotExist(err) {
		t.Errorf("in the end the socket is there: %v", err)
	}
	if left, err := fs.Glob(os.DirFS(filepath.Dir(path)), "*"); err != nil || len(left) > 0 {
		t.Errorf("%q is left, %v", left, err)
	}
}
