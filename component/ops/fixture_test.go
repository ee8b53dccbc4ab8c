package ops_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is the time that a loaded machine may take for something that takes none.
const deadline = time.Minute

// source is an active usher with a status.
type source struct{ is component.Status }

func (s source) Status() component.Status     { return s.is }
func (source) Stats() component.Snapshot      { return component.Snapshot{} }
func (source) Rooms() []component.RoomSummary { return nil }
func (source) Room(context.Context, string) (component.RoomView, error) {
	return component.RoomView{}, errors.New("no such room")
}

// standby and active are what Options.Active returns.
func standby() ops.Source { return nil }

func active(s component.Status) func() ops.Source { return func() ops.Source { return source{s} } }

// get asks a handler, as a client that names the host.
func get(t *testing.T, h http.Handler, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// says answers every request with a text.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// running is Run in a goroutine. The test ends it.
type running struct {
	log  *observer.ObservedLogs
	stop func()
}

func run(t *testing.T, o ops.Options) *running {
	t.Helper()
	core, log := observer.New(zapcore.InfoLevel)
	o.Log = zap.New(core)
	if o.Active == nil {
		o.Active = standby
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ops.Run(ctx, o)
	}()
	r := &running{log: log, stop: func() { cancel(); <-done }}
	t.Cleanup(r.stop)
	return r
}

// waits waits until f reports true.
func waits(t *testing.T, what string, f func() bool) {
	t.Helper()
	end := time.After(deadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("within %s: %s does not happen", deadline, what)
		}
	}
}

// address returns where the server is, once it says so.
func (r *running) address(t *testing.T) (address string) {
	t.Helper()
	waits(t, "a line with the address", func() bool {
		for _, line := range r.log.FilterMessageSnippet("usher answers ").All() {
			address = line.ContextMap()["listen"].(string)
		}
		return address != ""
	})
	return address
}

// client returns a client that keeps no connection, for an address as the log has it.
func client(address string) *http.Client {
	t := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	return &http.Client{Transport: t}
}

// fetch asks for a URL, and returns the status and the body.
func fetch(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
