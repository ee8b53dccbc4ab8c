package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/webhook"
)

// step is one thing that happens in the model.
type step struct {
	do    string
	hook  string
	room  string
	state string        // of an endpoint
	wait  time.Duration // for time to pass
}

var (
	modelHooks = []string{"all", "room-a", "some"}
	modelRooms = []string{"a", "b", "c"}
	states     = []string{"works", "works", "fails", "slow", "hangs", "flaky", "room b fails"}
)

func steps() *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		s := step{do: rapid.SampledFrom([]string{
			"report", "report", "report", "report", "report", "wait", "wait", "wait", "endpoint", "endpoint", "stop", "kill", "freeze", "store",
		}).Draw(t, "do")}
		s.hook = rapid.SampledFrom(modelHooks).Draw(t, "hook")
		s.room = rapid.SampledFrom(modelRooms).Draw(t, "room")
		s.state = rapid.SampledFrom(states).Draw(t, "state")
		s.wait = rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, time.Minute, 3 * time.Hour}).Draw(t, "wait")
		return s
	}), 1, 60)
}

// TestModel: whatever endpoints and the store do, and however usher ends, each hook gets the events that it wants and no others, those of
// a room in order, each at least once and always as the same request. Only what was reported in the last moment before a kill is lost.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := steps().Draw(rt, "steps")
		var wrong error
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range all {
				w.step(s)
			}
			w.end()
			wrong = errors.Join(w.wrong...)
		})
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

// world is the state of the model.
type world struct {
	t     *testing.T
	e     *endpoint
	state map[string]string
	store store.Store
	wrong []error

	b    *webhook.Outbox
	cut  *cutStore
	stop func()

	n        int
	reported []told // in order
}

// told is a report that the model knows.
type told struct {
	n    string
	room string
	at   time.Time
	what component.What
	// risky says that it may be lost: usher was killed before it could write it.
	risky bool
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, state: map[string]string{}, store: store.Memory(store.Options{})}
	w.e = &endpoint{answer: w.answer}
	w.start()
	return w
}

func (w *world) start() {
	a, some := hook(w.t, "room-a"), hook(w.t, "some")
	a.Rooms = []string{"a"}
	some.Events = []webhook.Type{webhook.OccupantLeft}
	w.b = outbox(w.t, w.e, hook(w.t, "all"), a, some)
	w.cut = &cutStore{Store: w.store}
	w.stop = run(w.t, w.b, w.cut)
}

// wants is what the model thinks of the filters.
func wants(hook string, r told) bool {
	switch hook {
	case "room-a":
		return r.room == "a"
	case "some":
		return r.what == component.Left
	}
	return true
}

func (w *world) answer(r request) (status int, takes time.Duration) {
	switch w.state[r.hook] {
	case "fails":
		return 500, 10 * time.Millisecond
	case "slow":
		return 200, 3 * time.Second
	case "hangs":
		return 200, time.Hour
	case "flaky":
		return []int{200, 0, 502}[len(w.e.got)%3], 5 * time.Millisecond
	case "room b fails":
		if strings.HasPrefix(r.room, "b@") {
			return 400, 0
		}
	}
	return 200, time.Millisecond
}

func (w *world) step(s step) {
	switch s.do {
	case "report":
		w.report(s.room)
	case "wait":
		time.Sleep(s.wait)
	case "endpoint":
		w.e.mu.Lock()
		w.state[s.hook] = s.state
		w.e.mu.Unlock()
	case "stop":
		w.cut.set(nil) // a store that cannot be reached at the stop is a crash
		w.stop()
		w.start()
	case "kill":
		w.kill()
	case "freeze": // this usher loses its tenure, and gets it back
		w.stop()
		time.Sleep(s.wait)
		w.stop = run(w.t, w.b, w.cut)
	case "store":
		if w.cut.get() == nil {
			w.cut.set(store.ErrUnreachable)
		} else {
			w.cut.set(nil)
		}
	}
}

func (w *world) report(room string) {
	w.n++
	r := report(room, fmt.Sprint(w.n))
	if w.n%2 == 0 {
		r.What = component.Left
	}
	w.reported = append(w.reported, told{n: r.Text, room: room, at: time.Now(), what: r.What})
	w.b.Report(r)
}

// kill ends usher in the middle of what it does: nothing is written any more, and no answer arrives.
func (w *world) kill() {
	w.risk()
	w.cut.set(errors.New("killed"))
	w.stop()
	w.start()
}

// risk notes what may be lost if usher is killed now: what was reported in the last moment, or while the store was away.
func (w *world) risk() {
	w.cut.mu.Lock()
	since := time.Now()
	switch {
	case w.cut.err != nil:
		since = w.cut.since
	case time.Since(w.cut.mended) < 2*time.Second:
		since = w.cut.began
	}
	w.cut.mu.Unlock()
	for n := range w.reported {
		if r := &w.reported[n]; since.Sub(r.at) <= webhook.Every+time.Millisecond {
			r.risky = true
		}
	}
}

// end lets all hooks work, and looks at what they got.
func (w *world) end() {
	w.cut.set(nil)
	w.e.mu.Lock()
	clear(w.state)
	w.e.mu.Unlock()
	time.Sleep(3 * time.Hour)
	w.stop()
	if n := left(w.t, w.store); n != 0 {
		w.fault("%d events are in the store at the end", n)
	}
	w.e.mu.Lock()
	if w.e.err != nil {
		w.wrong = append(w.wrong, w.e.err)
	}
	w.e.mu.Unlock()
	for _, hook := range modelHooks {
		w.examine(hook)
	}
}

func (w *world) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Errorf(format, args...))
}

func (w *world) examine(hook string) {
	first := map[string][]string{} // by room: what was taken, in order of the first time
	as := map[string]request{}
	got := map[string]bool{}
	for _, r := range w.e.requests(hook) {
		was, again := as[r.n]
		if again && (was.id != r.id || was.body != r.body) {
			w.fault("%s: %s was sent as %s and as %s", hook, r.n, was.id, r.id)
		}
		as[r.n] = r
		if r.ok && !got[r.n] {
			got[r.n] = true
			first[r.room] = append(first[r.room], r.n)
		}
	}
	want := map[string][]string{}
	for _, r := range w.reported {
		room := r.room + "@conference.example.com"
		switch {
		case !wants(hook, r):
			if _, sent := as[r.n]; sent {
				w.fault("%s was told %s of room %s, which it does not want", hook, r.n, r.room)
			}
		case got[r.n]:
			want[room] = append(want[room], r.n)
		case !r.risky:
			w.fault("%s was never told %s", hook, r.n)
		}
	}
	for room, order := range first {
		if !slices.Equal(order, want[room]) {
			w.fault("%s was told of %s in the order %v; want %v", hook, room, order, want[room])
		}
	}
}

// cutStore is a store that can be away.
type cutStore struct {
	store.Store
	mu                   sync.Mutex
	err                  error
	since, began, mended time.Time
}

func (c *cutStore) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && err != nil {
		if c.since = time.Now(); time.Since(c.mended) < 2*time.Second {
			c.since = c.began // it has not caught up
		}
	}
	if c.err != nil && err == nil {
		c.began, c.mended = c.since, time.Now()
	}
	c.err = err
}

func (c *cutStore) get() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *cutStore) Put(ctx context.Context, r ...store.Record) error {
	if err := c.get(); err != nil {
		return err
	}
	return c.Store.Put(ctx, r...)
}

func (c *cutStore) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	if err := c.get(); err != nil {
		return err
	}
	return c.Store.Delete(ctx, k, keys...)
}
