package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// A world has one store with the records of one lease, and machines that reach it over a network. Its true time is that of the
// synctest bubble; the clocks of the machines differ from it.
type world struct {
	random *rand.Rand
	mu     sync.Mutex

	record  store.Record // without a value if there is none
	expires time.Time    // by the server's clock
	down    bool

	procs   []*proc
	holder  string   // the id of the last tenure
	highest uint64   // of the tenures since the store lost its records
	wrong   []string // what must not happen, and has
}

// proc is one usher on a machine of its own, from its start to its end.
type proc struct {
	w    *world
	name string

	mu        sync.Mutex
	thaw      chan struct{} // closed when it goes on; nil if it runs
	dead      bool
	cut       bool
	jumped    time.Duration // the wall clock, from the true time
	suspended time.Duration // the time that the monotonic clock has missed
	resumed   time.Time     // when that was last
	putBack   time.Time     // when the wall clock was last
	tenure    *store.Tenure
	disturbed bool      // something has happened to it in its tenure that may displace it
	touched   time.Time // when something has last happened to it
	end       context.CancelFunc
}

// gate is where a process stops while it is frozen, and ends if it was killed.
func (p *proc) gate() {
	for {
		p.mu.Lock()
		dead, thaw := p.dead, p.thaw
		p.mu.Unlock()
		if dead {
			runtime.Goexit()
		}
		if thaw == nil {
			return
		}
		<-thaw
	}
}

func (p *proc) wall() time.Time {
	p.gate()
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Round(0).Add(p.jumped)
}

var beginning = time.Now()

func (p *proc) mono() time.Duration {
	p.gate()
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(beginning) - p.suspended
}

func (p *proc) after(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	go func() {
		time.Sleep(d)
		p.gate()
		c <- time.Now()
	}()
	return c
}

// call does something to the record, over the network. It may fail before or after it is done, and may be done later than it fails.
func call[T any](ctx context.Context, p *proc, do func() T) (answer T, err error) {
	errCut := errors.New("cut")
	var none T
	p.gate()
	defer p.gate()
	w := p.w
	w.mu.Lock()
	there, back, timeout, late := w.latency(), w.latency(), time.Duration(w.random.IntN(1000))*time.Millisecond, w.random.IntN(4)
	w.mu.Unlock()
	unreachable := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		return w.down || p.cut
	}
	done := func() T {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.record.Value != nil && !time.Now().Before(w.expires) {
			w.record = store.Record{}
		}
		return do()
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	time.Sleep(there)
	if unreachable() {
		if late == 0 {
			go func() { // it is on its way
				time.Sleep(timeout * 3)
				done()
			}()
		}
		time.Sleep(timeout)
		return none, errCut
	}
	answer = done()
	time.Sleep(back)
	if unreachable() {
		time.Sleep(timeout)
		return none, errCut
	}
	return answer, nil
}

func (w *world) latency() time.Duration { return time.Duration(1+w.random.IntN(30)) * time.Millisecond }

func (p *proc) Get(ctx context.Context, _ store.Kind, _ string) (store.Record, error) {
	r, err := call(ctx, p, func() store.Record { return p.w.record })
	if err == nil && r.Value == nil {
		err = store.ErrNotFound
	}
	return r, err
}

func (p *proc) put(r store.Record) func() {
	life := r.End.Sub(p.wall()) // PX
	return func() {
		p.w.record, p.w.expires = r, time.Now().Add(life)
		p.w.count(r.Value)
	}
}

// count sees to it that each tenure has a higher number than the one before. The caller holds mu.
func (w *world) count(value []byte) {
	var v struct {
		ID     string
		Number uint64
	}
	if err := json.Unmarshal(value, &v); err != nil {
		w.fault("unreadable: %v", err)
	}
	if v.ID != "" && v.ID != w.holder && v.Number <= w.highest {
		w.fault("number %d comes after %d", v.Number, w.highest)
	}
	w.highest = max(w.highest, v.Number)
	if v.ID != "" {
		w.holder = v.ID
	}
}

func (p *proc) Add(ctx context.Context, r store.Record) (there store.Record, added bool, err error) {
	put := p.put(r)
	there, err = call(ctx, p, func() store.Record {
		was := p.w.record
		if was.Value == nil {
			put()
		}
		return was
	})
	return there, err == nil && there.Value == nil, err
}

func (p *proc) Swap(ctx context.Context, old, r store.Record) (swapped bool, err error) {
	put := p.put(r)
	return call(ctx, p, func() bool {
		is := p.w.record.Value != nil && bytes.Equal(p.w.record.Value, old.Value)
		if is {
			put()
		}
		return is
	})
}

// starts starts a process, which stands by and is active in turns until it is stopped or killed.
func (w *world) starts(n int, jumped time.Duration, wait *sync.WaitGroup) *proc {
	ctx, end := context.WithCancel(context.Background())
	p := &proc{w: w, name: fmt.Sprint("usher ", n), jumped: jumped, end: end}
	l := &store.Lease{Store: p, Name: "focus.meet.example.com", Self: p.name}
	l.SetClock(p.wall, p.mono, p.after)
	wait.Go(func() {
		for {
			t, err := l.Take(ctx)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.tenure, p.disturbed = t, time.Since(p.touched) < time.Second // while it took the lease, perhaps
			p.mu.Unlock()
			err = t.Keep(ctx)
			p.mu.Lock()
			disturbed := p.disturbed
			p.mu.Unlock()
			switch {
			case err == nil && ctx.Err() != nil:
				return
			case !errors.Is(err, store.ErrLost):
				w.faulty("%s: Keep returned %v", p.name, err)
			case !disturbed:
				w.faulty("%s was displaced, and nothing had happened to it", p.name)
			}
		}
	})
	return p
}

func (w *world) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *world) faulty(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault(format, args...)
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wrong) > 0
}

// holders returns the processes that would admit somebody now. A frozen one does nothing.
func (w *world) holders() (all []string) {
	for _, p := range w.procs {
		p.mu.Lock()
		t, runs := p.tenure, p.thaw == nil && !p.dead
		p.mu.Unlock()
		if runs && t != nil && t.Held() {
			all = append(all, p.name)
		}
	}
	return all
}

// happening is something that happens to a process, or to all.
type happening struct {
	What string
	Who  int
	Wait int // milliseconds after the one before
	Long int // milliseconds
}

var kindsOfHappenings = []string{"freeze", "suspend", "jump", "cut", "down", "kill", "stop", "lose"}

func drawHappening(t *rapid.T) happening {
	return happening{
		What: rapid.SampledFrom(kindsOfHappenings).Draw(t, "what"),
		Who:  rapid.IntRange(0, 2).Draw(t, "who"),
		Wait: rapid.SampledFrom([]int{0, 1, 20, 100, 400, 900, 1400, 1600, 5000}).Draw(t, "wait"),
		Long: rapid.SampledFrom([]int{5, 90, 500, 1000, 1450, 1550, 2500, 6000}).Draw(t, "long"),
	}
}

// live has things happen to processes with one lease, and returns what went wrong.
func live(procs int, seed uint64, all []happening) []string {
	w := &world{random: rand.New(rand.NewPCG(seed, 0))}
	var wait sync.WaitGroup
	jumps := []time.Duration{0, -time.Hour, 90 * time.Minute}
	started := 0
	start := func() *proc {
		started++
		return w.starts(started, jumps[started%len(jumps)], &wait)
	}
	for range procs {
		w.procs = append(w.procs, start())
	}
	calm := time.Now() // since when nothing happens
	var lost time.Time // when the store last lost its records
	pass := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(11 * time.Millisecond) {
			switch h := w.holders(); {
			case len(h) > 1:
				w.faulty("%v hold the lease", h)
			case len(h) == 0 && time.Since(calm) > 2*store.LeaseLife+time.Second:
				w.faulty("nobody holds the lease")
			}
			if w.failed() {
				return
			}
		}
	}
	// set changes something of a process.
	set := func(p *proc, do func()) {
		p.mu.Lock()
		defer p.mu.Unlock()
		do()
	}
	for _, h := range all {
		pass(time.Duration(h.Wait) * time.Millisecond)
		n, long := h.Who%procs, time.Duration(h.Long)*time.Millisecond
		p := w.procs[n]
		disturbs := !slices.Contains([]string{"jump", "down", "lose"}, h.What)
		// A holder that does not know whether it still holds the lease does not trust a store without records.
		together := h.What == "lose" && time.Since(calm) < 2*store.LeaseLife || time.Since(lost) < 2*store.LeaseLife
		for _, each := range w.procs {
			if together || disturbs && each == p {
				set(each, func() { each.disturbed, each.touched = true, time.Now().Add(long) })
			}
		}
		calm = time.Now().Add(long)
		switch h.What {
		case "freeze", "suspend":
			set(p, func() { p.thaw = make(chan struct{}) })
			pass(long)
			set(p, func() {
				if h.What == "suspend" && time.Since(p.putBack) > store.LeaseLife+long {
					p.suspended += long
					p.resumed = time.Now()
				}
				close(p.thaw)
				p.thaw = nil
			})
		case "jump":
			set(p, func() {
				// Only the wall clock knows of a suspension. If it is put back at the same time, nothing does.
				by := time.Duration(h.Long-1000) * time.Second
				if by < 0 && time.Since(p.resumed) < store.LeaseLife {
					return
				}
				p.jumped += by
				if by < 0 {
					p.putBack = time.Now()
				}
			})
		case "cut":
			set(p, func() { p.cut = true })
			pass(long)
			set(p, func() { p.cut = false })
		case "down":
			w.mu.Lock()
			w.down = true
			w.mu.Unlock()
			pass(long)
			w.mu.Lock()
			w.down = false
			w.mu.Unlock()
		case "kill":
			set(p, func() { p.dead = true })
			p.end()
			w.procs[n] = start()
		case "stop":
			p.end()
			w.procs[n] = start()
		case "lose":
			w.mu.Lock()
			w.record, w.highest = store.Record{}, 0
			w.mu.Unlock()
			lost = time.Now()
		}
		calm = time.Now()
	}
	pass(2*store.LeaseLife + 1100*time.Millisecond)
	for _, p := range w.procs {
		set(p, func() { p.dead = true })
		p.end()
	}
	wait.Wait()
	time.Sleep(time.Minute) // no goroutine waits for longer, and none goes on when this one has ended
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clip(w.wrong)
}

// TestLeases: whatever happens to ushers, their clocks and the store, never two hold the lease, numbers grow, somebody holds it soon
// after all is calm, and nobody is displaced without a cause.
func TestLeases(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		procs := rapid.IntRange(2, 3).Draw(rt, "ushers")
		seed := rapid.Uint64().Draw(rt, "seed")
		all := rapid.SliceOfN(rapid.Custom(drawHappening), 1, 20).Draw(rt, "happenings")
		var wrong []string
		synctest.Test(t, func(*testing.T) { wrong = live(procs, seed, all) })
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

// eachShared runs a test with each backend that two ushers can share, in one process or in several.
func eachShared(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, store.Memory(store.Options{})) })
	t.Run("redis", func(t *testing.T) {
		s, err := store.Redis(store.Options{}, store.RedisOptions{URL: redistest.Start(t, redistest.Options{}).URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		test(t, s)
	})
}

// flaky is a store that fails as long as it has an error.
type flaky struct {
	store.Store
	err atomic.Pointer[error]
}

func (f *flaky) failure() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, k store.Kind, key string) (store.Record, error) {
	if err := f.failure(); err != nil {
		return store.Record{}, err
	}
	return f.Store.Get(ctx, k, key)
}

func (f *flaky) Swap(ctx context.Context, old, next store.Record) (bool, error) {
	if err := f.failure(); err != nil {
		return false, err
	}
	return f.Store.Swap(ctx, old, next)
}

// TestLeaseSaysThatStoreIsAway checks that the holder hears once that the store is gone, and once that it is back.
func TestLeaseSaysThatStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{Store: store.Memory(store.Options{})}
		var said []string
		l := &store.Lease{Store: f, Name: "focus", Self: "one", Away: func(err error) { said = append(said, fmt.Sprint(err)) }}
		began := time.Now()
		l.SetClock(time.Now, func() time.Duration { return time.Since(began) }, time.After)
		tenure, err := l.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		var kept sync.WaitGroup
		kept.Go(func() { _ = tenure.Keep(ctx) })
		during := func(d time.Duration, err error) {
			f.err.Store(nil)
			if err != nil {
				f.err.Store(&err)
			}
			time.Sleep(d) // of the bubble
		}
		during(time.Minute, nil)
		during(store.LeaseLife/3, errors.New("a hiccup"))
		during(time.Minute, nil)
		during(time.Minute, errors.New("gone"))
		during(time.Minute, nil)
		end()
		kept.Wait()
		if want := []string{"gone", "<nil>"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	})
}

// TestLease has two ushers take turns: by giving back, and by dying.
func TestLease(t *testing.T) {
	eachShared(t, func(t *testing.T, s store.Store) {
		const life = 15 * time.Second // longer than the machine is ever busy with something else
		free := store.Record{Kind: store.KindLease, Key: "focus", Value: []byte(`{"number":7,"beat":0}`), End: time.Now().Add(time.Hour)}
		if err := s.Put(t.Context(), free); err != nil { // as after a tenure, so that nobody waits for a life
			t.Fatal(err)
		}
		all, endAll := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		defer wait.Wait()
		defer endAll()
		take := func(self string, waits func(string, error)) (*store.Tenure, context.CancelFunc) {
			tenure, err := (&store.Lease{Store: s, Name: "focus", Self: self, Life: life, Waits: waits}).Take(all)
			if err != nil {
				t.Error(err)
				return nil, endAll
			}
			ctx, end := context.WithCancel(all)
			wait.Go(func() { _ = tenure.Keep(ctx) }) // until it ends
			return tenure, end
		}
		first, giveBack := take("one", nil)
		var said []string
		standing := make(chan struct{})
		var once sync.Once
		taken := make(chan *store.Tenure)
		wait.Go(func() {
			second, _ := take("two", func(active string, err error) {
				said = append(said, fmt.Sprint(active, err))
				once.Do(func() { close(standing) })
			})
			taken <- second
		})
		<-standing
		if !first.Held() || first.Gone() || first.Number != 8 {
			t.Error("the first one does not hold it")
		}
		giveBack()
		second := <-taken
		if !second.Held() || first.Held() || !first.Gone() || second.Number <= first.Number {
			t.Errorf("the second one does not hold it alone, or has number %d after %d", second.Number, first.Number)
		}
		if want := []string{"one<nil>"}; !slices.Equal(said, want) {
			t.Errorf("said why it waits: %q", said)
		}
	})
}

// TestFenced: an usher that does not hold the lease writes nothing but requests that it leaves to the other one.
func TestFenced(t *testing.T) {
	held, kept := true, store.Memory(store.Options{})
	s, ctx := store.Fenced(kept, func() bool { return held }), t.Context()
	record := func(k store.Kind, value string) store.Record {
		return store.Record{Kind: k, Key: "key", Value: []byte(value), End: time.Now().Add(time.Hour)}
	}
	grant := record(store.KindGrant, "1")
	writes := map[string]func() error{
		"Put":    func() error { return s.Put(ctx, record(store.KindHeld, "1"), grant) },
		"Add":    func() error { _, _, err := s.Add(ctx, record(store.KindSeat, "1")); return err },
		"Swap":   func() error { _, err := s.Swap(ctx, grant, record(store.KindGrant, "2")); return err },
		"Delete": func() error { return s.Delete(ctx, store.KindGrant, "key") },
	}
	for name, write := range writes {
		if err := write(); err != nil {
			t.Errorf("%s by the holder: %v", name, err)
		}
	}
	if err := kept.Put(ctx, grant); err != nil {
		t.Fatal(err)
	}
	held = false
	for name, write := range writes {
		if err := write(); !errors.Is(err, store.ErrStandby) {
			t.Errorf("%s by another one: %v", name, err)
		}
	}
	if r, err := s.Get(ctx, store.KindGrant, "key"); err != nil || string(r.Value) != "1" {
		t.Errorf("the grant is %q, %v", r.Value, err)
	}
	if err := errors.Join(s.Put(ctx, record(store.KindHeld, "2")), s.Delete(ctx, store.KindHeld, "key"), s.Append(ctx, store.Event{What: "left"})); err != nil {
		t.Errorf("what is left to the other one: %v", err)
	}
}

// A store that has lost its last writes, as after the end of a Redis with a replica that lagged behind, may show the tenure of an usher
// that another one has replaced since. The first one has seen that, and does not take the lease at once: the other one has it still.
func TestLeaseOfYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.Memory(store.Options{})
		defer s.Close()
		a, b := &store.Lease{Store: s, Name: "focus.example.com", Self: "a"}, &store.Lease{Store: s, Name: "focus.example.com", Self: "b"}
		if _, err := a.Take(t.Context()); err != nil { // and is frozen
			t.Fatal(err)
		}
		was, err := s.Get(t.Context(), store.KindLease, "focus.example.com")
		if err != nil {
			t.Fatal(err)
		}
		active, err := b.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		keeping, end := context.WithCancel(t.Context())
		var kept sync.WaitGroup
		kept.Go(func() { _ = active.Keep(keeping) })
		defer kept.Wait()
		defer end()
		a.Waits = func(string, error) {
			a.Waits = nil
			if err := s.Put(t.Context(), was); err != nil {
				t.Error(err)
			}
		}
		if _, err := a.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if active.Held() {
			t.Error("two ushers are the active one")
		}
	})
}
