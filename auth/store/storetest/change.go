package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// wantAdd adds a record, and checks the value that is there; "" means that it is added.
func wantAdd(t testing.TB, s store.Store, r store.Record, want string) {
	t.Helper()
	there, added, err := s.Add(t.Context(), r)
	if err != nil || added != (want == "") || string(there.Value) != want || !added && (there.Key != r.Key || there.Kind != r.Kind || there.End.IsZero()) {
		t.Fatalf("Add(%.20q) = %+v, %t, %v; want %q", r.Key, there, added, err, want)
	}
}

func wantSwap(t testing.TB, s store.Store, old, new store.Record, want bool) {
	t.Helper()
	if swapped, err := s.Swap(t.Context(), old, new); err != nil || swapped != want {
		t.Fatalf("Swap(%.20q) = %t, %v; want %t", old.Key, swapped, err, want)
	}
}

func add(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(2 * time.Hour)
	wantAdd(t, s, of(kind, "a", "1", end), "")
	wantAdd(t, s, of(kind, "a", "2", end.Add(time.Hour)), "1")
	wantAdd(t, s, of(store.KindUsed, "a", "of another kind", end), "")
	if there, _, _ := s.Add(t.Context(), of(kind, "a", "2", end.Add(time.Hour))); !there.End.Equal(end) {
		t.Errorf("the end is %v; want %v", there.End, end)
	} else if there.Value[0] = 'x'; there.Kind != kind { // the value is the caller's
		t.Errorf("the kind is %q", there.Kind)
	}
	wantValue(t, s, kind, "a", "1")
	wantAdd(t, s, of(kind, "a", "2", clock.Now().Add(-time.Hour)), "1") // one that has ended does not replace
	wantAdd(t, s, of(kind, "b", "2", clock.Now().Add(-time.Hour)), "")  // and is not written
	wantKeys(t, s, kind, "a")
	clock.Forward(time.Hour)
	wantAdd(t, s, of(kind, "a", "2", end.Add(time.Hour)), "1")
	clock.Forward(time.Hour)
	wantAdd(t, s, of(kind, "a", "2", end.Add(time.Hour)), "")
	wantValue(t, s, kind, "a", "2")
	if err := s.Delete(t.Context(), kind, "a"); err != nil {
		t.Fatal(err)
	}
	wantAdd(t, s, of(kind, "a", "3", end.Add(time.Hour)), "")
	for what, r := range map[string]store.Record{
		"no key":   of(kind, "", "1", end),
		"no end":   of(kind, "c", "1", time.Time{}),
		"too long": of(kind, "c", string(make([]byte, store.MaxValue+1)), end.Add(time.Hour)),
	} {
		if _, added, err := s.Add(t.Context(), r); added || err == nil {
			t.Errorf("Add with %s: %t, %v", what, added, err)
		}
	}
	wantKeys(t, s, kind, "a")
}

func swap(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(2 * time.Hour)
	one, two := of(kind, "a", "1", end), of(kind, "a", "2\x00\xff", end.Add(time.Hour))
	wantSwap(t, s, one, two, false) // nothing is there
	wantKeys(t, s, kind)
	mustPut(t, s, kind, "a", "1", end)
	wantSwap(t, s, of(kind, "a", "", end), two, false)
	wantSwap(t, s, of(kind, "a", "10", end), two, false)
	wantSwap(t, s, of(kind, "a", "1", time.Time{}), two, true) // the end does not matter
	wantSwap(t, s, one, two, false)
	got, err := s.Get(t.Context(), kind, "a")
	if err != nil || !same(got, two) {
		t.Fatalf("Get = %+v, %v; want %+v", got, err, two)
	}
	clock.Forward(2 * time.Hour) // the end of two counts
	wantSwap(t, s, two, of(kind, "a", "", end.Add(time.Hour)), true)
	wantSwap(t, s, of(kind, "a", "", end), of(kind, "a", "3", clock.Now()), true)
	wantKeys(t, s, kind)
	mustPut(t, s, kind, "a", "4", clock.Now().Add(time.Hour))
	clock.Forward(time.Hour)
	wantSwap(t, s, of(kind, "a", "4", end), of(kind, "a", "5", clock.Now().Add(time.Hour)), false)
	wantKeys(t, s, kind)

	mustPut(t, s, kind, "a", "6", clock.Now().Add(time.Hour))
	for what, new := range map[string]store.Record{
		"another key":  of(kind, "b", "7", clock.Now().Add(time.Hour)),
		"another kind": of(store.KindSeat, "a", "7", clock.Now().Add(time.Hour)),
		"no end":       of(kind, "a", "7", time.Time{}),
	} {
		if swapped, err := s.Swap(t.Context(), of(kind, "a", "6", end), new); swapped || err == nil {
			t.Errorf("Swap with %s: %t, %v", what, swapped, err)
		}
	}
	wantValue(t, s, kind, "a", "6")
}

// oneWinner: of those who add or swap the same at once, exactly one does.
func oneWinner(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(time.Hour)
	const many, rounds = 8, 20
	for round := range rounds {
		key := fmt.Sprint("add ", round)
		var won atomic.Int32
		var wait sync.WaitGroup
		for n := range many {
			wait.Go(func() {
				mine := fmt.Sprint(n)
				there, added, err := s.Add(t.Context(), of(kind, key, mine, end))
				switch {
				case err != nil:
					t.Errorf("Add: %v", err)
				case added:
					won.Add(1)
				case string(there.Value) == mine:
					t.Errorf("Add did not add %s, but it is there", mine)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of %d have added the same", won.Load(), many)
		}
	}
	// Each counts up by Swap; nothing that one has counted is lost.
	mustPut(t, s, kind, "count", "0", end)
	var wait sync.WaitGroup
	for range many {
		wait.Go(func() {
			for counted := 0; counted < rounds; {
				was, err := s.Get(t.Context(), kind, "count")
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				var n int
				if _, err := fmt.Sscan(string(was.Value), &n); err != nil {
					t.Errorf("the count is %q", was.Value)
					return
				}
				swapped, err := s.Swap(t.Context(), was, of(kind, "count", fmt.Sprint(n+1), end))
				if err != nil {
					t.Errorf("Swap: %v", err)
					return
				}
				if swapped {
					counted++
				}
			}
		})
	}
	wait.Wait()
	wantValue(t, s, kind, "count", fmt.Sprint(many*rounds))
}

// Follower follows a store in a goroutine of its own.
type Follower struct {
	// Begun is closed when events are not missed any more.
	Begun chan struct{}
	// Events has the events, and Missed the errors. Both are large enough for a test.
	Events chan store.Event
	Missed chan error
	// Ended is closed when the loop has ended.
	Ended chan struct{}
	stop  func()
}

// Follow follows a store until the test ends, or Stop is called.
func Follow(t testing.TB, s store.Store) *Follower {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &Follower{
		Begun: make(chan struct{}), Events: make(chan store.Event, 100_000), Missed: make(chan error, 1000), Ended: make(chan struct{}), stop: cancel,
	}
	go func() {
		defer close(f.Ended)
		first := true
		for e, err := range s.Follow(ctx) {
			switch {
			case first:
				if first = false; err != nil || e != (store.Event{}) {
					t.Errorf("Follow begins with %v, %v", e, err)
				}
				close(f.Begun)
			case err != nil:
				f.Missed <- err
			default:
				f.Events <- e
			}
		}
	}()
	t.Cleanup(f.Stop)
	Wait(t, "Follow begins", f.Begun)
	return f
}

// Stop ends the loop, and waits for its end.
func (f *Follower) Stop() {
	f.stop()
	<-f.Ended
}

// Next returns the next event. It fails the test if something was missed.
func (f *Follower) Next(t testing.TB) store.Event {
	t.Helper()
	select {
	case e := <-f.Events:
		return e
	case err := <-f.Missed:
		t.Fatalf("missed: %v", err)
	case <-time.After(deadline):
		t.Fatal("no event")
	}
	return store.Event{}
}

// deadline is for what happens at once, but perhaps on a busy machine.
const deadline = time.Minute

// Wait waits until a channel is closed or has something.
func Wait[T any](t testing.TB, what string, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(deadline):
		t.Fatalf("it does not happen: %s", what)
	}
	return got
}

func mustAppend(t testing.TB, s store.Store, what, key string) {
	t.Helper()
	if err := s.Append(t.Context(), store.Event{What: what, Key: key}); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// events: all who follow see the same events in the same order, each once, and none from before.
func events(t *testing.T, s store.Store, clock *Clock) {
	mustAppend(t, s, "before", "1")
	first := Follow(t, s)
	mustAppend(t, s, "between", "\x00\xff ü")
	second := Follow(t, s)
	if e := first.Next(t); e != (store.Event{What: "between", Key: "\x00\xff ü"}) {
		t.Fatalf("the first event is %q", e)
	}
	const writers, each = 8, 50
	var wait sync.WaitGroup
	for n := range writers {
		wait.Go(func() {
			for m := range each {
				mustAppend(t, s, fmt.Sprint(n), fmt.Sprint(m))
			}
		})
	}
	next := map[string]int{}
	for n := range writers * each {
		a, b := first.Next(t), second.Next(t)
		if a != b || a.Key != fmt.Sprint(next[a.What]) {
			t.Fatalf("event %d is %q for one and %q for another; want number %d", n, a, b, next[a.What])
		}
		next[a.What]++
	}
	wait.Wait()
	first.Stop()
	mustAppend(t, s, "after", "")
	if e := second.Next(t); e != (store.Event{What: "after"}) || len(first.Events) > 0 {
		t.Fatalf("the last event is %q; %d for somebody who has left", e, len(first.Events))
	}
	if err := s.Append(t.Context(), store.Event{Key: "x"}); err == nil {
		t.Error("Append of an event without What: no error")
	}
	if err := s.Append(t.Context(), store.Event{What: "x", Key: string(make([]byte, store.MaxKey))}); err == nil {
		t.Error("Append of a large event: no error")
	}
	mustPut(t, s, kind, "a", "1", clock.Now().Add(time.Hour)) // records and events do not mix
	for _, k := range kinds {
		if k == kind {
			wantKeys(t, s, k, "a")
		} else {
			wantKeys(t, s, k)
		}
	}
}

// following: a loop may use the store, may be left, and ends when the store is closed.
func following(t *testing.T, s store.Store, clock *Clock) {
	n := 0
	for e, err := range s.Follow(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && e.Key != fmt.Sprint(n) {
			t.Errorf("event %d is %q", n, e)
		}
		if n++; n == 5 {
			break
		}
		mustPut(t, s, kind, fmt.Sprint(n), "1", clock.Now().Add(time.Hour))
		mustAppend(t, s, "put", fmt.Sprint(n))
	}
	f := Follow(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	Wait(t, "the loop ends", f.Ended)
	if err := s.Append(t.Context(), store.Event{What: "x"}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Append to a closed store: %v", err)
	}
	for e, err := range s.Follow(t.Context()) {
		t.Errorf("Follow of a closed store yields %q, %v", e, err)
	}
}

// notBegun: with a context that is done there is nothing.
func notBegun(t *testing.T, s store.Store, _ *Clock) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	for e, err := range s.Follow(ctx) {
		t.Errorf("Follow yields %q, %v", e, err)
	}
	if err := s.Append(ctx, store.Event{What: "x"}); err == nil {
		t.Error("Append: no error")
	}
}
