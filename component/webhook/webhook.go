// Package webhook tells other programs by HTTP what happens at the door: who was admitted, refused or has to wait, when a host comes and
// goes, when a room begins and ends, and the rest of [Types]. The requests follow the Standard Webhooks specification; README.md has an
// example of each.
//
// # What is promised
//
// Events of one room reach a hook in their order, each at least once: an event that may have arrived is sent again with the same
// webhook-id. The next event of the room waits until the hook has taken the one before. Other rooms and other hooks do not wait for it.
//
// An event is in the store before it is sent, and stays there until the hook has taken it (an answer 2xx). So it outlives usher, also
// after kill -9, and another usher that takes over goes on with it. Events reach the store in groups, [every] at a time. A crash loses
// those of the last quarter of a second; a stop loses none.
//
// A hook that does not take an event gets it again after a second, then after two, four … up to an hour. After a day the event is dead:
// it is dropped, counted in [Stats] and told in the log. So are the oldest events of a hook with more than 10,000 of them. Nothing else
// is dropped.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

// Bounds.
const (
	// maxQueued is the number of events that wait for one hook.
	maxQueued = 10_000
	// maxReports is the number of reports that wait for the store.
	maxReports = 10_000
	// parallel is the number of requests to one hook at a time.
	parallel = 8
	// down is the number of failures in a row after which a hook counts as down. Then one request at a time tries it.
	down = 5
	// life is how long an event is tried.
	life = 24 * time.Hour
	// kept is how long the store keeps an event. It is longer than life, because usher may be stopped meanwhile.
	kept = 3 * life
	// DefaultTimeout bounds a request to a hook that has no timeout of its own.
	DefaultTimeout = 10 * time.Second
)

// every is the interval at which events are written to the store and deleted from it.
const every = 200 * time.Millisecond

// Hook is where events are sent.
type Hook struct {
	// Name names the hook in the log, in metrics and in the store. Letters, digits and . _ - only.
	Name string
	// URL gets the requests: http or https. What it has besides scheme and host may be a secret, and is never told.
	URL string
	// Secrets sign each request. Several let receivers change theirs.
	Secrets []Secret
	// Events are the types that are sent; none means all.
	Events []Type
	// Rooms are patterns of rooms, see auth.MatchRoom. None means all rooms.
	Rooms []string
	// Timeout bounds a request; 0 means DefaultTimeout.
	Timeout time.Duration
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Check returns an error unless the hook can be used. It quotes neither the URL nor a secret.
func (h Hook) Check() error {
	u, err := url.Parse(h.URL)
	switch {
	case !nameRule.MatchString(h.Name):
		return fmt.Errorf("webhook %.64q: its name may have letters, digits and . _ - only, 64 at most", h.Name)
	case err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("webhook %s: its url must be like https://host/path", h.Name)
	case len(h.Secrets) == 0:
		return fmt.Errorf("webhook %s: it needs a secret", h.Name)
	case h.Timeout < 0:
		return fmt.Errorf("webhook %s: its timeout is negative", h.Name)
	}
	for _, t := range h.Events {
		if !slices.Contains(Types(), t) {
			return fmt.Errorf("webhook %s: there is no event %.32q; choose from %s", h.Name, string(t), inWords(Types()))
		}
	}
	for _, pattern := range h.Rooms {
		if auth.CheckPattern(pattern) != nil {
			return fmt.Errorf("webhook %s: the pattern %.64q fits no room", h.Name, pattern)
		}
	}
	return nil
}

// covers reports whether the hook is told of a room.
func (h Hook) covers(tenant, name string) bool {
	return len(h.Rooms) == 0 || slices.ContainsFunc(h.Rooms, func(pattern string) bool {
		return auth.MatchRoom(pattern, auth.Room{Tenant: tenant, Name: name})
	})
}

// wants reports whether the hook is told of a report, which is an event of type t.
func (h Hook) wants(t Type, r component.Report) bool {
	return (len(h.Events) == 0 || slices.Contains(h.Events, t)) && h.covers(r.Tenant, r.Name)
}

// where is what may be told of the hook's URL.
func (h Hook) where() string {
	u, err := url.Parse(h.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Options are the options of an Outbox.
type Options struct {
	Hooks []Hook
	// Breakout is the domain of breakout rooms, for is_breakout; empty if there are none.
	Breakout string
	// Now is the clock; nil means the machine's.
	Now func() time.Time
	// Log is told of hooks that fail and work again, and of dead events; nil for nobody.
	Log *zap.Logger
	// Client sends the requests; nil means one with TLS 1.2 or later, and the proxy of the environment. Redirects are never followed.
	Client *http.Client
}

// Outbox takes reports and sends them to hooks. Any goroutine may call its methods.
type Outbox struct {
	o      Options
	client *http.Client
	run    sync.Mutex // held by Run
	wake   alarm.Bell // there are events to write or to delete
	due    alarm.Bell // there are events to send

	mu      sync.Mutex
	hooks   []*hook
	reports []pending // that are not events yet
	done    []string  // keys of records to delete
	renewed bool      // a hook is new: the store may have events for it

	// Of Run alone.
	seq   uint64   // of the last event
	fresh []*event // that are not in the store yet
}

// pending is a report that is not an event yet, and the hooks that want it.
type pending struct {
	component.Report
	kind Type
	to   []*hook
}

// New returns an Outbox. The error is for the operator: a hook cannot be used.
func New(o Options) (*Outbox, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	b := &Outbox{o: o, client: client(o.Client), wake: alarm.NewBell(), due: alarm.NewBell()}
	return b, b.Configure(o.Hooks)
}

// Configure replaces the hooks. Events that wait for a hook which keeps its name go to its new URL, also if the hook was gone or has
// just failed. Those of a hook that is no more stay in the store for three days, in case it comes back. After an error the hooks are
// as before.
func (b *Outbox) Configure(hooks []Hook) error {
	names := map[string]bool{}
	for _, h := range hooks {
		if err := h.Check(); err != nil {
			return err
		}
		if names[h.Name] {
			return fmt.Errorf("webhook %s: two have this name", h.Name)
		}
		names[h.Name] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.hooks
	b.hooks = nil
	for _, conf := range hooks {
		if conf.Timeout == 0 {
			conf.Timeout = DefaultTimeout
		}
		n := slices.IndexFunc(was, func(h *hook) bool { return h.name == conf.Name })
		if n < 0 {
			b.hooks = append(b.hooks, newHook(conf))
			b.renewed = true
			continue
		}
		h := was[n]
		if h.gone {
			h.gone, b.renewed = false, true
		}
		h.conf = conf
		h.hurry(b.o.Now())
		b.hooks = append(b.hooks, h)
	}
	b.wake.Ring()
	b.due.Ring()
	return nil
}

// Report takes a report. It never blocks, and does nothing if no hook wants it. People who ask again and are told the same again make
// no event.
func (b *Outbox) Report(r component.Report) {
	t := typeOf(r)
	if t == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := pending{Report: r, kind: t}
	for _, h := range b.hooks {
		switch {
		case !h.conf.wants(t, r):
		case h.gone || len(b.reports) >= maxReports:
			h.stats.Dead++
			h.buried++ // for the log, which is written later
		default:
			p.to = append(p.to, h)
		}
	}
	if p.to != nil {
		p.Steps = nil
		b.reports = append(b.reports, p)
		b.wake.Ring()
	}
}

// Stats are the counts of one hook since this process began.
type Stats struct {
	Name   string
	Queued int // events that wait
	Sent   int64
	Failed int64 // requests that failed
	Dead   int64 // events that were dropped
	Gone   bool  // the hook has answered 410 Gone, and gets nothing until the configuration changes
	Down   bool  // the last requests have all failed
}

// Stats returns the counts of the hooks, in the order of the configuration.
func (b *Outbox) Stats() []Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Stats, len(b.hooks))
	for n, h := range b.hooks {
		all[n] = h.stats
		all[n].Name, all[n].Queued, all[n].Gone, all[n].Down = h.name, h.queued, h.gone, h.failures >= down
	}
	return all
}

// grace is the time that requests under way have when Run ends.
const grace = time.Second

// Run writes events to the store and sends them until ctx ends. Only the active usher calls it, with the store of its tenure: events of
// the usher before are in there. End it after the component, which reports until its end, and before the lease is given back, because
// Run then writes what is left. Reports that come while Run is not running wait for it.
func (b *Outbox) Run(ctx context.Context, s store.Store) {
	b.run.Lock()
	defer b.run.Unlock()
	defer b.finish(context.WithoutCancel(ctx), s)
	if !b.begin(ctx, s) {
		return
	}
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var all, requests sync.WaitGroup
	all.Go(func() { b.keep(ctx, s) })
	b.dispatch(ctx, func(f func(context.Context)) { requests.Go(func() { f(sending) }) })
	late := time.AfterFunc(grace, stop)
	defer late.Stop()
	requests.Wait()
	all.Wait()
	b.client.CloseIdleConnections()
}

// begin reads the store, unless there is no hook: a large Redis takes a while. It reports false if ctx ends before it could.
func (b *Outbox) begin(ctx context.Context, s store.Store) bool {
	if len(b.Stats()) == 0 {
		return true
	}
	for told := false; ; told = true {
		err := b.load(ctx, s)
		if err == nil {
			b.wake.Ring() // reports may have come before
			b.due.Ring()
			return true
		}
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return false
		}
		if !told {
			b.o.Log.Warn("webhooks wait: the store cannot be read", zap.Error(err))
		}
		if !pause(ctx, retry) {
			return false
		}
	}
}

// finish writes what is left, and drops what waits: it is in the store, and another usher may send it from now on. What could not be
// written waits for the next Run.
func (b *Outbox) finish(ctx context.Context, s store.Store) {
	if err := b.flush(ctx, s); err != nil {
		b.o.Log.Warn("webhooks: events could not be written at the end; they are lost if this process ends", zap.Int("events", len(b.fresh)), zap.Error(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = nil
	for _, h := range b.hooks {
		h.clear()
	}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
