// Package ops is the HTTP server for the people who run usher: metrics, health, the live page, and Go's profiles when asked for. Nothing on
// it changes anything. It answers also while this usher stands by for another.
package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/component"
)

// Source is the active usher. component.Component is one.
type Source interface {
	Status() component.Status
	Stats() component.Snapshot
	Rooms() []component.RoomSummary
	Room(ctx context.Context, address string) (component.RoomView, error)
}

// Check is one thing that must be well before usher is ready.
type Check struct {
	Name string `json:"name"` // connection, store, keys
	OK   bool   `json:"ok"`
	// Says is what is not well, or how it is. It holds no secret.
	Says string `json:"says,omitempty"`
}

// Options is what the server needs.
type Options struct {
	// Listen is host:port, or unix:/path.
	Listen string
	// Active returns the active usher, or nil (not a nil pointer in it) while this process stands by.
	Active func() Source
	// Ready returns the checks beside that of the connection, which is made here. It gets some seconds, and is not called more often
	// than every second.
	Ready func(context.Context) []Check
	// Metrics answers /metrics, and Page answers /. Nil leaves the path out.
	Metrics, Page http.Handler
	// Pprof offers /debug/pprof.
	Pprof   bool
	Version string
	// Domain is that of the component. It tells several ushers on one machine apart.
	Domain string
	Log    *zap.Logger
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready bool `json:"ready"`
	// Role is "active" or "standby". An usher that stands by is ready to become the active one.
	Role    string  `json:"role"`
	Version string  `json:"version"`
	Domain  string  `json:"domain,omitempty"`
	Checks  []Check `json:"checks"`
}

const (
	// readyWithin is how long the checks may take, and readyFor how long their outcome counts: so somebody who asks without pause does
	// not load the store. "usher health" and other probes wait for about 5 s, and should hear which check takes so long.
	readyWithin, readyFor = 3 * time.Second, time.Second
	// aliveWithin is how long a request may wait for its turn before usher counts as halted.
	aliveWithin = 4 * time.Second
)

// Handler returns what the server answers.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	alive, ready := newShared(o.liveness), newShared(o.readiness)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		now := alive.get(r.Context())
		answer(w, code(now.Status == "alive"), now)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		now := ready.get(r.Context())
		answer(w, code(now.Ready), now)
	})
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	if o.Page != nil {
		mux.Handle("GET /", o.Page)
	}
	if o.Pprof {
		profiles(mux)
	}
	return guarded(o.Listen, mux)
}

// profiles offers Go's profiles. They may hold parts of this process' memory in names of functions only, but cost time.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

func code(well bool) int {
	if well {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// answer writes an answer that nobody keeps.
func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the client may be gone
}

// shared asks once for all who want to know at the same time.
type shared[T any] struct {
	ask  func(context.Context) T
	turn chan struct{} // has room for the one that may use the rest

	last T
	at   time.Time
}

func newShared[T any](ask func(context.Context) T) *shared[T] {
	return &shared[T]{ask: ask, turn: make(chan struct{}, 1)}
}

// get returns the answer; if ctx ends before it is known, none.
func (s *shared[T]) get(ctx context.Context) (answer T) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return answer
	}
	if now := time.Now(); s.at.IsZero() || now.Sub(s.at) >= readyFor || now.Before(s.at) {
		// Not the request's end: others use the outcome as well.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
		defer cancel()
		s.last, s.at = s.ask(ctx), time.Now()
	}
	return s.last
}

// Liveness is the answer of /healthz.
type Liveness struct {
	// Status is "alive", or "halted": only a new process helps.
	Status  string `json:"status"`
	Version string `json:"version"`
	Says    string `json:"says,omitempty"`
}

// liveness asks the active usher whether its work goes on. One that stands by is alive if it answers.
func (o Options) liveness(ctx context.Context) Liveness {
	now := Liveness{Status: "alive", Version: o.Version}
	if usher, ok := o.Active().(interface{ Alive(context.Context) error }); ok {
		ctx, cancel := context.WithTimeout(ctx, aliveWithin)
		defer cancel()
		if err := usher.Alive(ctx); err != nil {
			now.Status, now.Says = "halted", err.Error()
		}
	}
	return now
}

func (o Options) readiness(ctx context.Context) Readiness {
	now := Readiness{Ready: true, Role: "standby", Version: o.Version, Domain: o.Domain, Checks: []Check{}}
	if usher := o.Active(); usher != nil {
		now.Role = "active"
		now.Checks = append(now.Checks, connection(usher.Status()))
	}
	if o.Ready != nil {
		now.Checks = append(now.Checks, o.Ready(ctx)...)
	}
	for _, c := range now.Checks {
		now.Ready = now.Ready && c.OK
	}
	return now
}

// connection is the check of the connection to the XMPP server.
func connection(s component.Status) Check {
	c := Check{Name: "connection", OK: s.Connected, Says: "connected to " + s.Address}
	if !s.Connected {
		c.Says = "not connected to " + s.Address + ": see usher's log, or run usher doctor"
	}
	if !s.Since.IsZero() {
		c.Says += ", since " + s.Since.UTC().Format(time.RFC3339)
	}
	return c
}
