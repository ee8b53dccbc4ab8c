package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops"
)

// source is an active usher that does nothing.
type source struct{ connected bool }

func (s *source) Status() component.Status {
	return component.Status{Connected: s.connected, Address: "127.0.0.1:5347"}
}
func (*source) Stats() component.Snapshot      { return component.Snapshot{} }
func (*source) Rooms() []component.RoomSummary { return nil }
func (*source) Room(context.Context, string) (component.RoomView, error) {
	return component.RoomView{}, component.ErrNoRoom
}

// TestHealth asks ushers in each state, by TCP and by a socket.
func TestHealth(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, tt := range map[string]struct {
		active *source
		checks []ops.Check
		status int
		want   string
	}{
		"ready":         {&source{connected: true}, []ops.Check{{Name: "store", OK: true}}, 0, "usher is ready.\n"},
		"standing by":   {nil, []ops.Check{{Name: "store", OK: true}}, 0, "usher is ready, and stands by for another one.\n"},
		"not connected": {&source{}, nil, 1, "usher: usher is not ready: connection: not connected to 127.0.0.1:5347: see usher's log, or run usher doctor\n"},
		"without a store": {&source{connected: true}, []ops.Check{{Name: "store", Says: "the disk is full"}, {Name: "keys", Says: "no\x1b[2J keys"}}, 1,
			"usher: usher is not ready: store: the disk is full; keys: no\uFFFD[2J keys\n"},
	} {
		t.Run(name, func(t *testing.T) {
			o := ops.Options{Active: func() ops.Source {
				if tt.active == nil {
					return nil
				}
				return tt.active
			}, Ready: func(context.Context) []ops.Check { return tt.checks }, Version: "test"}
			tcp := httptest.NewServer(ops.Handler(o))
			defer tcp.Close()
			socket := filepath.Join(t.TempDir(), "ops.sock")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			o.Listen = "unix:" + socket
			unix := &httptest.Server{Listener: l, Config: &http.Server{Handler: ops.Handler(o)}}
			unix.Start()
			defer unix.Close()
			port := tcp.Listener.Addr().String()
			for _, listen := range []string{port, "unix:" + socket, strings.Replace(port, "127.0.0.1", "0.0.0.0", 1), strings.Replace(port, "127.0.0.1", "", 1)} {
				write(t, "usher.yaml", strings.Replace(apiConfig, "api: {listen: 127.0.0.1:8088, keys_file: keys.yaml}", `ops: {listen: "`+listen+`"}`, 1))
				for _, args := range [][]string{{"-c", "usher.yaml"}, {"--listen", listen}} {
					r := command(t, "", append([]string{"health"}, args...)...)
					if r.status != tt.status || r.stdout+r.stderr != tt.want {
						t.Errorf("%v: %+v", args, r)
					}
				}
			}
			if r := command(t, "", "health", "--alive", "--listen", port); r.status != 0 || r.stdout != "usher is alive.\n" {
				t.Errorf("%+v", r)
			}
			if r := command(t, "", "health", "--json", "--listen", port); r.status != tt.status || !strings.HasPrefix(r.stdout, `{"ready":`) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestHealthOfNone asks where there is no usher, or something else.
func TestHealthOfNone(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", strings.Replace(apiConfig, "api: {listen: 127.0.0.1:8088, keys_file: keys.yaml}", "ops: {listen: off}", 1))
	var answer atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(answer.Load())) }))
	defer other.Close()
	port := other.Listener.Addr().String()
	closed := httptest.NewServer(nil)
	nobody := closed.Listener.Addr().String()
	closed.Close()
	for _, tt := range []struct {
		answer int64
		args   []string
		want   string
	}{
		{200, []string{"-c", "usher.yaml"}, "usher: ops.listen is off, so nobody can ask usher how it is"},
		{200, []string{"--listen", nobody}, "usher: usher does not answer on " + nobody + ": "},
		{200, []string{"--listen", "unix:nowhere.sock"}, "usher: usher does not answer on unix:nowhere.sock: "},
		{200, []string{"--listen", "8089"}, `usher: "8089" is no address: write it like 127.0.0.1:8089, or unix:`},
		{404, []string{"--listen", port}, "usher: what answers on " + port + " says 404 to /healthz: is that usher?"},
		{200, []string{"--listen", port}, "usher: what answers on " + port + " says something else than usher does"},
		{200, []string{"-c", "nowhere.yaml"}, "nowhere.yaml: cannot be read: no such file or directory\n"},
	} {
		answer.Store(tt.answer)
		if r := command(t, "", append([]string{"health"}, tt.args...)...); r.status != statusFailed || !strings.HasPrefix(r.stderr, tt.want) {
			t.Errorf("%v: %+v", tt.args, r)
		}
	}
}

// TestHealthOfAnother asks an usher of another domain, which has the address of this one.
func TestHealthOfAnother(t *testing.T) {
	t.Chdir(t.TempDir())
	for domain, want := range map[string]string{"focus.meet.example.com": "usher is ready", "focus.other.example.com": "usher: the usher of focus.other.example.com answers on "} {
		o := ops.Options{Active: func() ops.Source { return &source{connected: true} }, Domain: domain}
		other := httptest.NewServer(ops.Handler(o))
		write(t, "usher.yaml", strings.Replace(apiConfig, "api: {listen: 127.0.0.1:8088, keys_file: keys.yaml}", `ops: {listen: "`+other.Listener.Addr().String()+`"}`, 1))
		if r := command(t, "", "health", "-c", "usher.yaml"); !strings.HasPrefix(r.stdout+r.stderr, want) {
			t.Errorf("%s: %+v", domain, r)
		}
		other.Close()
	}
}
