// Package storetest has the tests that every implementation of [store.Store] must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth/store"
)

// Clock is a clock that stands still until Forward moves it. It is safe for concurrent use.
type Clock struct {
	at atomic.Pointer[time.Time]
	// Moved, if not nil, is called after Forward has moved the clock, for a store that does not ask the clock.
	Moved func(d time.Duration)
}

// NewClock returns a clock with a fixed time.
func NewClock() *Clock {
	c := &Clock{}
	at := time.Date(2026, 3, 29, 0, 59, 59, 999_999_999, time.UTC)
	c.at.Store(&at)
	return c
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return *c.at.Load() }

// Forward moves the clock forward, or back if d is negative.
func (c *Clock) Forward(d time.Duration) {
	at := c.Now().Add(d)
	c.at.Store(&at)
	if c.Moved != nil {
		c.Moved(d)
	}
}

// Open returns an empty store with these options, the clock's Now among them. The test closes it.
type Open func(t *testing.T, o store.Options, clock *Clock) store.Store

func (open Open) store(t *testing.T, o store.Options) (store.Store, *Clock) {
	t.Helper()
	clock := NewClock()
	o.Now = clock.Now
	s := open(t, o, clock)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, clock
}

// Run runs the tests of what every store promises. Ends are hours away, because a store may count time by itself. The store of small
// has room for at least 20 and at most 1,000 records of a kilobyte.
func Run(t *testing.T, open, small Open) {
	for name, test := range map[string]func(t *testing.T, s store.Store, clock *Clock){
		"put":        put,
		"several":    several,
		"own":        own,
		"bounds":     bounds,
		"end":        end,
		"add":        add,
		"swap":       swap,
		"one winner": oneWinner,
		"events":     events,
		"following":  following,
		"not begun":  notBegun,
		"far end":    farEnd,
		"delete":     remove,
		"all":        all,
		"ranging":    ranging,
		"context":    done,
		"kind":       unknown,
		"closed":     closed,
		"closing":    closing,
		"model":      model,
		"concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) {
			s, clock := open.store(t, store.Options{})
			test(t, s, clock)
		})
	}
	t.Run("no room", func(t *testing.T) {
		s, clock := small.store(t, store.Options{})
		noRoom(t, s, clock)
	})
}

// RunCounting runs the tests of what a store promises, beyond Run, that asks Options.Now for the time and caps its bytes by
// Options.MaxBytes.
func RunCounting(t *testing.T, open Open) {
	t.Run("to the nanosecond", func(t *testing.T) {
		s, clock := open.store(t, store.Options{})
		exactEnd(t, s, clock)
	})
	t.Run("full", func(t *testing.T) {
		s, clock := open.store(t, store.Options{MaxBytes: 64 << 10})
		full(t, s, clock)
	})
	t.Run("full of one kind", func(t *testing.T) {
		s, clock := open.store(t, store.Options{MaxBytes: 256 << 10})
		fullOfOne(t, s, clock)
	})
	t.Run("nearly full", func(t *testing.T) {
		var told []store.Kind
		s, clock := open.store(t, store.Options{MaxBytes: 200 << 10, Warn: func(k store.Kind, bytes, of int64) {
			if told = append(told, k); bytes <= of/5*4 || bytes > of {
				t.Errorf("told of %d bytes of %d", bytes, of)
			}
		}})
		nearlyFull(t, s, clock, &told)
	})
}

var kinds = []store.Kind{
	store.KindBar, store.KindFlow, store.KindGrant, store.KindHeld, store.KindLease, store.KindLink, store.KindLogin, store.KindRevocation,
	store.KindRoom, store.KindSeat, store.KindSession, store.KindUsed, store.KindWebhook,
}

const kind = store.KindGrant

func of(k store.Kind, key, value string, end time.Time) store.Record {
	return store.Record{Kind: k, Key: key, Value: []byte(value), End: end}
}

func mustPut(t testing.TB, s store.Store, k store.Kind, key, value string, end time.Time) {
	t.Helper()
	if err := s.Put(t.Context(), store.Record{Kind: k, Key: key, Value: []byte(value), End: end}); err != nil {
		t.Fatalf("Put(%.20q): %v", key, err)
	}
}

// wantValue checks the value of a key; "" means that there is no record.
func wantValue(t testing.TB, s store.Store, k store.Kind, key, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), k, key)
	switch {
	case want == "" && !errors.Is(err, store.ErrNotFound):
		t.Fatalf("Get(%.20q) = %q, %v; want ErrNotFound", key, got.Value, err)
	case want != "" && (err != nil || string(got.Value) != want || got.Key != key):
		t.Fatalf("Get(%.20q) = %q: %q, %v; want %q", key, got.Key, got.Value, err, want)
	}
}

// keys returns the keys of all records of a kind, in order.
func keys(t testing.TB, s store.Store, k store.Kind) []string {
	t.Helper()
	var found []string
	for r, err := range s.All(t.Context(), k) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		found = append(found, r.Key)
	}
	slices.Sort(found)
	return found
}

func wantKeys(t testing.TB, s store.Store, k store.Kind, want ...string) {
	t.Helper()
	if found := keys(t, s, k); !slices.Equal(found, want) {
		t.Fatalf("All has %q; want %q", found, want)
	}
}

func put(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(time.Hour)
	wantValue(t, s, kind, "a", "")
	for _, k := range kinds {
		mustPut(t, s, k, "a", "of "+string(k), end)
	}
	for _, k := range kinds {
		wantValue(t, s, k, "a", "of "+string(k))
		wantKeys(t, s, k, "a")
	}
	mustPut(t, s, kind, "a", "shorter", end.Add(time.Hour))
	wantValue(t, s, kind, "a", "shorter")
	if r, _ := s.Get(t.Context(), kind, "a"); r.End != end.Add(time.Hour) {
		t.Errorf("the end is %v; want %v", r.End, end.Add(time.Hour))
	}
	wantKeys(t, s, kind, "a")

	mustPut(t, s, kind, "empty", "", end)
	if r, err := s.Get(t.Context(), kind, "empty"); err != nil || len(r.Value) != 0 {
		t.Errorf("Get of an empty value = %q, %v", r.Value, err)
	}
	for _, key := range []string{"\x00", "\xff\xfe", "a\x00b", " ", "ü@meet.example.com", "A"} {
		mustPut(t, s, kind, key, "of "+key, end)
		wantValue(t, s, kind, key, "of "+key)
	}
	wantValue(t, s, kind, "b", "")
	wantValue(t, s, kind, "", "")
}

// own: caller and store do not share the bytes of a value.
func own(t *testing.T, s store.Store, clock *Clock) {
	mustPut(t, s, kind, "z", strings.Repeat("v", store.MaxValue), clock.Now().Add(time.Hour)) // bbolt copies a little by itself
	value := []byte("before")
	if err := s.Put(t.Context(), store.Record{Kind: kind, Key: "a", Value: value, End: clock.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	copy(value, "AFTER!")
	got, err := s.Get(t.Context(), kind, "a")
	if err != nil || string(got.Value) != "before" {
		t.Fatalf("Get = %q, %v", got.Value, err)
	}
	copy(got.Value, "AFTER!")
	for r, err := range s.All(t.Context(), kind) {
		if err != nil || r.Key == "a" && string(r.Value) != "before" {
			t.Fatalf("All has %.20q, %v", r.Value, err)
		}
		copy(r.Value, "AFTER!")
	}
	wantValue(t, s, kind, "a", "before")
}

func bounds(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(time.Hour)
	longest, largest := strings.Repeat("k", store.MaxKey), strings.Repeat("v", store.MaxValue)
	mustPut(t, s, kind, longest, largest, end)
	wantValue(t, s, kind, longest, largest)
	mustPut(t, s, kind, longest[1:], "neighbour", end)
	for what, r := range map[string]store.Record{
		"no key":         {Kind: kind, Value: []byte("SECRET"), End: end},
		"a longer key":   {Kind: kind, Key: longest + "k", Value: []byte("SECRET"), End: end},
		"a larger value": {Kind: kind, Key: "SECRET", Value: []byte(largest + "v"), End: end},
		"no end":         {Kind: kind, Key: "SECRET", Value: []byte("SECRET")},
	} {
		err := s.Put(t.Context(), r)
		if err == nil {
			t.Errorf("Put with %s: no error", what)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("Put with %s: the error has what is in the record: %v", what, err)
		}
	}
	wantValue(t, s, kind, longest+"k", "")
	wantKeys(t, s, kind, longest[1:], longest)
}

func end(t *testing.T, s store.Store, clock *Clock) {
	at := clock.Now().Add(2 * time.Hour)
	mustPut(t, s, kind, "a", "1", at)
	mustPut(t, s, kind, "b", "1", at.Add(2*time.Hour))
	clock.Forward(time.Hour)
	wantValue(t, s, kind, "a", "1")
	wantKeys(t, s, kind, "a", "b")
	clock.Forward(time.Hour)
	wantValue(t, s, kind, "a", "")
	wantKeys(t, s, kind, "b")

	mustPut(t, s, kind, "a", "2", at.Add(2*time.Hour)) // a key may come back
	wantValue(t, s, kind, "a", "2")
	mustPut(t, s, kind, "a", "3", at) // which is now
	wantValue(t, s, kind, "a", "")
	mustPut(t, s, kind, "b", "3", at.Add(-time.Hour))
	mustPut(t, s, kind, "never", "3", at.Add(-time.Hour))
	wantKeys(t, s, kind)
	clock.Forward(-4 * time.Hour) // and what was put with a past end has left nothing
	wantKeys(t, s, kind)
}

// exactEnd: a record is there until the nanosecond before its end.
func exactEnd(t *testing.T, s store.Store, clock *Clock) {
	at := clock.Now().Add(time.Minute)
	mustPut(t, s, kind, "a", "1", at)
	mustPut(t, s, kind, "b", "1", at.Add(1))
	clock.Forward(time.Minute - 1)
	wantValue(t, s, kind, "a", "1")
	wantKeys(t, s, kind, "a", "b")
	wantAdd(t, s, of(kind, "a", "2", at), "1")
	clock.Forward(1) // RFC 7519 §4.1.4: not on or after
	wantValue(t, s, kind, "a", "")
	wantKeys(t, s, kind, "b")
	wantSwap(t, s, of(kind, "a", "1", at), of(kind, "a", "2", at.Add(1)), false)
	wantAdd(t, s, of(kind, "a", "2", at.Add(1)), "")
	wantValue(t, s, kind, "a", "2")
}

// farEnd: tokens may end in the year 9999, which nanoseconds in 64 bits do not reach.
func farEnd(t *testing.T, s store.Store, clock *Clock) {
	at := clock.Now()
	for _, end := range []time.Time{
		at.Add(time.Hour + 1),
		time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("", -12*3600)),
		time.Unix(1<<40, 1),
		time.Now().AddDate(100, 0, 0), // has a monotonic reading
	} {
		mustPut(t, s, kind, "a", "1", end)
		got, err := s.Get(t.Context(), kind, "a")
		if err != nil || got.End != end.Round(0).UTC() {
			t.Errorf("Get has the end %v, %v; want %v", got.End, err, end)
		}
	}
	for _, end := range []time.Time{time.Unix(0, 0), time.Unix(-1, 0), time.Unix(-1<<40, 0), time.Time{}.Add(1)} {
		mustPut(t, s, kind, "a", "1", end)
		wantValue(t, s, kind, "a", "")
		wantAdd(t, s, of(kind, "a", "1", end), "")
		wantValue(t, s, kind, "a", "")
	}
}

func remove(t *testing.T, s store.Store, clock *Clock) {
	for _, key := range []string{"a", "b", "c"} {
		mustPut(t, s, kind, key, "1", clock.Now().Add(time.Hour))
	}
	mustPut(t, s, store.KindHeld, "a", "other", clock.Now().Add(time.Hour))
	for _, keys := range [][]string{nil, {"x"}, {"", strings.Repeat("k", store.MaxKey+1)}, {"a", "x", "c", "a"}, {"a"}} {
		if err := s.Delete(t.Context(), kind, keys...); err != nil {
			t.Errorf("Delete(%.20q): %v", keys, err)
		}
	}
	wantKeys(t, s, kind, "b")
	wantValue(t, s, kind, "a", "")
	wantKeys(t, s, store.KindHeld, "a")
}

func all(t *testing.T, s store.Store, clock *Clock) {
	wantKeys(t, s, kind)
	var want []string
	var wait sync.WaitGroup
	for n := range 1000 {
		key, end := fmt.Sprint(n*7919%1000), clock.Now().Add(2*time.Hour)
		if n%5 == 0 {
			end = clock.Now().Add(time.Hour) // whole stretches of the order have ended
		} else {
			want = append(want, key)
		}
		wait.Go(func() {
			if err := s.Put(t.Context(), store.Record{Kind: kind, Key: key, End: end}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	clock.Forward(time.Hour)
	slices.Sort(want)
	wantKeys(t, s, kind, want...)
	for r := range s.All(t.Context(), kind) {
		if r.Key == want[1] {
			break
		}
	}
	seq := s.All(t.Context(), kind)
	for range 2 { // a sequence may be ranged over again
		n := 0
		for range seq {
			n++
		}
		if n != len(want) {
			t.Errorf("All yields %d; want %d", n, len(want))
		}
	}
}

// ranging: a loop over All may put and delete, and so many records that the store has to grow.
func ranging(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(time.Hour)
	var before []string
	for n := range 300 {
		before = append(before, fmt.Sprintf("m%03d", n))
	}
	var wait sync.WaitGroup
	for _, key := range before {
		wait.Go(func() { mustPut(t, s, kind, key, "1", end) })
	}
	wait.Wait()
	var seen []string
	for r, err := range s.All(t.Context(), kind) {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Key, "m") {
			continue
		}
		seen = append(seen, r.Key)
		if len(seen)%10 == 0 { // the record itself has been yielded
			mustPut(t, s, kind, "a"+r.Key, strings.Repeat("v", store.MaxValue), end)
			mustPut(t, s, kind, "z"+r.Key, strings.Repeat("v", store.MaxValue), end)
			if err := s.Delete(t.Context(), kind, r.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, before) {
		t.Errorf("All yields %d of %d: %.200q", len(seen), len(before), seen)
	}
	if n := len(keys(t, s, kind)); n != 300-30+60 {
		t.Errorf("afterwards there are %d records", n)
	}
}

func done(t *testing.T, s store.Store, clock *Clock) {
	for n := range 3 {
		mustPut(t, s, kind, fmt.Sprint(n), "1", clock.Now().Add(time.Hour))
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("why"))
	for what, err := range calls(over, s, store.Record{Key: "0", Value: []byte("2"), End: clock.Now().Add(time.Hour)}, kind) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that is done: %v", what, err)
		}
	}
	wantValue(t, s, kind, "0", "1")
}

func unknown(t *testing.T, s store.Store, clock *Clock) {
	for _, k := range []store.Kind{"", "format", "usher", "Session", "session\x00"} {
		for what, err := range calls(t.Context(), s, store.Record{Key: "a", End: clock.Now().Add(time.Hour)}, k) {
			if err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s of the kind %q: %v", what, k, err)
			}
		}
	}
}

func closed(t *testing.T, s store.Store, clock *Clock) {
	mustPut(t, s, kind, "a", "1", clock.Now().Add(time.Hour))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	for what, err := range calls(t.Context(), s, store.Record{Key: "a", End: clock.Now().Add(time.Hour)}, kind) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s of a closed store: %v", what, err)
		}
	}
}

// calls returns the error of each method.
func calls(ctx context.Context, s store.Store, r store.Record, k store.Kind) map[string]error {
	said := map[string]error{}
	r.Kind = k
	said["Put"] = s.Put(ctx, r)
	past := r
	past.End = time.Unix(1, 0)
	said["Put with a past end"] = s.Put(ctx, past)
	_, _, said["Add"] = s.Add(ctx, r)
	_, _, said["Add with a past end"] = s.Add(ctx, past)
	_, said["Swap"] = s.Swap(ctx, r, r)
	_, said["Get"] = s.Get(ctx, k, r.Key)
	said["Delete"] = s.Delete(ctx, k, r.Key)
	said["All"] = nil
	n := 0
	for _, err := range s.All(ctx, k) {
		said["All"] = err
		if n++; n > 1 {
			said["All"] = fmt.Errorf("more than an error; the last %v", err)
		}
	}
	return said
}

// closing: a call that has begun before Close is done, or returns ErrClosed; no call waits for ever.
func closing(t *testing.T, s store.Store, clock *Clock) {
	var wait sync.WaitGroup
	begun := make(chan struct{}, 100)
	for n := range 8 {
		wait.Go(func() {
			for m := 0; ; m++ {
				key := fmt.Sprint(n, m)
				if err := s.Put(t.Context(), store.Record{Kind: kind, Key: key, End: clock.Now().Add(time.Hour)}); err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Put: %v", err)
					}
					return
				}
				for _, err := range s.All(t.Context(), kind) {
					if err != nil && !errors.Is(err, store.ErrClosed) {
						t.Errorf("All: %v", err)
					}
				}
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 16 {
		<-begun
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wait.Wait()
}

// several: records of several kinds are put together, or not at all.
func several(t *testing.T, s store.Store, clock *Clock) {
	end := clock.Now().Add(time.Hour)
	of := func(k store.Kind, key string, end time.Time) store.Record { return of(k, key, "of "+key, end) }
	if err := s.Put(t.Context()); err != nil {
		t.Errorf("Put of nothing: %v", err)
	}
	if err := s.Put(t.Context(), of(store.KindSession, "a", end), of(store.KindGrant, "b", end), of(store.KindGrant, "c", end)); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, s, store.KindSession, "a")
	wantKeys(t, s, store.KindGrant, "b", "c")
	for what, r := range map[string]store.Record{
		"no key":          of(store.KindGrant, "", end),
		"no end":          of(store.KindGrant, "x", time.Time{}),
		"an unknown kind": of("other", "x", end),
	} {
		if err := s.Put(t.Context(), of(store.KindSession, "d", end), r); err == nil {
			t.Errorf("Put of one record, and one with %s: no error", what)
		}
	}
	wantKeys(t, s, store.KindSession, "a")
	// One has ended, one is put twice.
	err := s.Put(t.Context(), of(store.KindSession, "a", clock.Now()), of(store.KindGrant, "c", end),
		store.Record{Kind: store.KindGrant, Key: "c", Value: []byte("again"), End: end})
	if err != nil {
		t.Fatal(err)
	}
	wantKeys(t, s, store.KindSession)
	wantKeys(t, s, store.KindGrant, "b", "c")
	wantValue(t, s, store.KindGrant, "c", "again")
}

// size is the value of records that fill a store.
var size = strings.Repeat("v", 1000)

// long returns a key of a fixed length.
func long(what ...any) string { return fmt.Sprintf("%-80s", fmt.Sprint(what...)) }

// fill puts records of a kind until there is no room for more, and returns their keys in order.
func fill(t *testing.T, s store.Store, k store.Kind, clock *Clock) (put []string) {
	t.Helper()
	for {
		r := store.Record{Kind: k, Key: long(clock.Now(), len(put)), Value: []byte(size), End: clock.Now().Add(time.Minute)}
		err := s.Put(t.Context(), r)
		if errors.Is(err, store.ErrFull) {
			wantFull(t, err, k)
			slices.Sort(put)
			return put
		}
		if err != nil || len(put) > 1000 {
			t.Fatalf("Put after %d records: %v", len(put), err)
		}
		put = append(put, r.Key)
	}
}

func wantFull(t *testing.T, err error, k store.Kind) {
	t.Helper()
	var full *store.FullError
	if !errors.Is(err, store.ErrFull) || !errors.As(err, &full) || full.Kind != k {
		t.Fatalf("the error is %v; want that there is no room for the kind %s", err, k)
	}
}

// noRoom: a store that is full says so, changes nothing, and goes on. What is deleted or ends makes room.
func noRoom(t *testing.T, s store.Store, clock *Clock) {
	value := strings.Repeat("v", 1000)
	fill := func() (put []string) {
		t.Helper()
		for {
			r := of(kind, long("k", len(put)), value, clock.Now().Add(time.Hour))
			err := s.Put(t.Context(), r)
			if errors.Is(err, store.ErrFull) {
				slices.Sort(put)
				return put
			}
			if err != nil || len(put) > 1000 {
				t.Fatalf("Put after %d records: %v", len(put), err)
			}
			put = append(put, r.Key)
		}
	}
	put := fill()
	if len(put) < 20 {
		t.Fatalf("there is room for %d records", len(put))
	}
	for range 3 {
		big := of(kind, long("more"), strings.Repeat(value, 16), clock.Now().Add(time.Hour))
		if err := s.Put(t.Context(), of(store.KindSession, "other", "1", clock.Now().Add(time.Hour)), big); !errors.Is(err, store.ErrFull) {
			t.Fatalf("Put into a full store: %v", err)
		}
		if _, added, err := s.Add(t.Context(), big); added || !errors.Is(err, store.ErrFull) {
			t.Fatalf("Add into a full store: %t, %v", added, err)
		}
		wantKeys(t, s, store.KindSession)
		wantKeys(t, s, kind, put...)
	}
	if err := s.Delete(t.Context(), kind, put[:len(put)/2]...); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, kind, put[0], value, clock.Now().Add(time.Hour))
	fill()
	clock.Forward(time.Hour)
	wantKeys(t, s, kind)
	clock.Forward(time.Minute) // a store may look for ended records only now and then
	if again := fill(); len(again) < len(put)/2 {
		t.Errorf("there was room for %d records, and is for %d", len(put), len(again))
	}
}

// full: a store has a limit, and ended records do not count for long.
func full(t *testing.T, s store.Store, clock *Clock) {
	refused := func() {
		t.Helper()
		wantFull(t, s.Put(t.Context(), store.Record{Kind: kind, Key: long("one more"), Value: []byte(size), End: clock.Now().Add(time.Minute)}), kind)
		wantValue(t, s, kind, long("one more"), "")
	}
	put := fill(t, s, kind, clock)
	if len(put) < 5 {
		t.Fatalf("there is room for %d records", len(put))
	}
	for range 3 {
		refused()
	}
	first := put[0]
	mustPut(t, s, kind, first, size, clock.Now().Add(time.Minute)) // not new
	mustPut(t, s, store.KindHeld, "of another kind", "1", clock.Now().Add(time.Minute))
	refused()
	for range 20 { // to count once what went twice would let more in
		if err := s.Delete(t.Context(), kind, first, first, "nobody"); err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, kind, first, size, clock.Now().Add(time.Minute))
		refused()
		mustPut(t, s, kind, first, "gone", clock.Now().Add(-time.Minute))
		mustPut(t, s, kind, first, size, clock.Now().Add(time.Minute))
		refused()
	}
	for range 20 {
		clock.Forward(time.Minute)
		if again := fill(t, s, kind, clock); len(again) != len(put) {
			t.Fatalf("there was room for %d records, and is for %d", len(put), len(again))
		}
		refused()
	}
	clock.Forward(2 * time.Second)
	refused()
	clock.Forward(58 * time.Second)
	mustPut(t, s, kind, long("there again"), size, clock.Now().Add(time.Minute))
	clock.Forward(-24 * time.Hour) // a clock that is put back makes nothing impossible
	for n := range len(put) - 1 {
		mustPut(t, s, kind, long("back", n), size, clock.Now().Add(time.Minute))
	}
	refused()
	clock.Forward(time.Minute)
	for n := range len(put) - 1 {
		mustPut(t, s, kind, long("again", n), size, clock.Now().Add(time.Minute))
	}
}

// fullOfOne: a full kind leaves the others their room, and a Put of several kinds fails as a whole.
func fullOfOne(t *testing.T, s store.Store, clock *Clock) {
	for _, k := range kinds {
		put := fill(t, s, k, clock)
		for _, other := range kinds {
			if other == k {
				continue
			}
			before := keys(t, s, other)
			mustPut(t, s, other, "other", "1", clock.Now().Add(time.Minute))
			if err := s.Delete(t.Context(), other, "other"); err != nil {
				t.Fatal(err)
			}
			wantFull(t, s.Put(t.Context(),
				store.Record{Kind: other, Key: "other", Value: []byte("1"), End: clock.Now().Add(time.Minute)},
				store.Record{Kind: k, Key: long("one more"), Value: []byte(size), End: clock.Now().Add(time.Minute)}), k)
			wantKeys(t, s, other, before...)
			wantKeys(t, s, k, put...)
		}
		clock.Forward(time.Minute)
	}
}

// nearlyFull: Warn is called in time, once, and again the next time that the kind is nearly full.
func nearlyFull(t *testing.T, s store.Store, clock *Clock, told *[]store.Kind) {
	for round := range 3 {
		put := fill(t, s, kind, clock)
		if len(*told) != round+1 {
			t.Fatalf("told of %q in round %d", *told, round)
		}
		// Just below four fifths, and above again.
		for range 3 {
			if err := s.Delete(t.Context(), kind, put[:len(put)/4]...); err != nil {
				t.Fatal(err)
			}
			for _, key := range put[:len(put)/4] {
				mustPut(t, s, kind, key, size, clock.Now().Add(time.Minute))
			}
		}
		if len(*told) != round+1 {
			t.Fatalf("told of %q in round %d", *told, round)
		}
		clock.Forward(time.Minute)
		// Ended records are no reason to warn.
		mustPut(t, s, kind, long("next", round), size, clock.Now().Add(time.Minute))
	}
	fill(t, s, store.KindSession, clock)
	if want := []store.Kind{kind, kind, kind, store.KindSession}; !slices.Equal(*told, want) {
		t.Errorf("told of %q; want %q", *told, want)
	}
}

// model: whatever is done in whichever order, a store is a map of the records that have not ended.
func model(t *testing.T, s store.Store, clock *Clock) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &modelled{t: t, s: s, clock: clock, live: map[store.Kind]map[string]store.Record{}}
		for _, k := range modelKinds {
			if err := s.Delete(t.Context(), k, keys(t, s, k)...); err != nil {
				rt.Fatal(err)
			}
			m.live[k] = map[string]store.Record{}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put":         func(rt *rapid.T) { m.put(rt, 1) },
			"add":         m.add,
			"swap":        m.swap,
			"put several": func(rt *rapid.T) { m.put(rt, rapid.IntRange(0, 4).Draw(rt, "records")) },
			"delete":      m.delete,
			"time passes": m.timePasses,
			"get":         m.get,
			"":            m.check,
		})
	})
}

// modelled is a store beside what it must have.
type modelled struct {
	t     *testing.T
	s     store.Store
	clock *Clock
	live  map[store.Kind]map[string]store.Record
}

// modelKinds are enough of the kinds, which differ in nothing.
var modelKinds = []store.Kind{store.KindSession, store.KindGrant, store.KindLease}

var (
	someKind  = rapid.SampledFrom(modelKinds)
	someKey   = rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "c", "a\x00", "\xff", "ab", "é"}), rapid.StringN(1, 3, 12))
	someWhile = rapid.OneOf(rapid.Int64Range(-3, 10), rapid.Just(int64(1)<<20)) // hours
)

// drop forgets what has ended. Clocks that go back are another test's: the store may have swept.
func (m *modelled) drop() {
	for _, k := range modelKinds {
		maps.DeleteFunc(m.live[k], func(_ string, r store.Record) bool { return !m.clock.Now().Before(r.End) })
	}
}

func (m *modelled) record(rt *rapid.T) store.Record {
	return store.Record{
		Kind: someKind.Draw(rt, "kind"), Key: someKey.Draw(rt, "key"), Value: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "value"),
		End: m.clock.Now().Add(time.Duration(someWhile.Draw(rt, "end")) * time.Hour),
	}
}

// add adds a record.
func (m *modelled) add(rt *rapid.T) {
	r := m.record(rt)
	want, is := m.live[r.Kind][r.Key]
	there, added, err := m.s.Add(m.t.Context(), r)
	if err != nil || added == is || !same(there, want) {
		rt.Fatalf("Add = %v, %t, %v; want %v", there, added, err, want)
	}
	if added {
		m.live[r.Kind][r.Key] = r
	}
	m.drop()
}

// swap puts a record in the place of one that may be there, or may have been.
func (m *modelled) swap(rt *rapid.T) {
	r := m.record(rt)
	old := r
	was, is := m.live[r.Kind][r.Key]
	want := is && rapid.Bool().Draw(rt, "as it is")
	if want {
		old.Value = was.Value
	} else {
		old.Value = append(bytes.Clone(was.Value), 'x')
	}
	swapped, err := m.s.Swap(m.t.Context(), old, r)
	if err != nil || swapped != want {
		rt.Fatalf("Swap = %t, %v; want %t", swapped, err, want)
	}
	if swapped {
		m.live[r.Kind][r.Key] = r
	}
	m.drop()
}

// put puts n records. Of those with one key the last counts.
func (m *modelled) put(rt *rapid.T, n int) {
	var records []store.Record
	for range n {
		records = append(records, m.record(rt))
	}
	if err := m.s.Put(m.t.Context(), records...); err != nil {
		rt.Fatalf("Put: %v", err)
	}
	for _, r := range records {
		m.live[r.Kind][r.Key] = r
	}
	m.drop()
}

func (m *modelled) delete(rt *rapid.T) {
	k, gone := someKind.Draw(rt, "kind"), rapid.SliceOfN(someKey, 0, 3).Draw(rt, "keys")
	if err := m.s.Delete(m.t.Context(), k, gone...); err != nil {
		rt.Fatalf("Delete: %v", err)
	}
	for _, key := range gone {
		delete(m.live[k], key)
	}
}

func (m *modelled) timePasses(rt *rapid.T) {
	m.clock.Forward(time.Duration(rapid.Int64Range(0, 5).Draw(rt, "hours")) * time.Hour)
	m.drop()
}

func (m *modelled) get(rt *rapid.T) {
	k, key := someKind.Draw(rt, "kind"), someKey.Draw(rt, "key")
	got, err := m.s.Get(m.t.Context(), k, key)
	want, there := m.live[k][key]
	if there != (err == nil) || !there && !errors.Is(err, store.ErrNotFound) || !same(got, want) {
		rt.Fatalf("Get(%s, %q) = %v, %v; want %v", k, key, got, err, want)
	}
}

// check compares all that is there.
func (m *modelled) check(rt *rapid.T) {
	for _, k := range modelKinds {
		found := map[string]bool{}
		for got, err := range m.s.All(m.t.Context(), k) {
			if want, is := m.live[k][got.Key]; err != nil || !is || found[got.Key] || !same(got, want) {
				rt.Fatalf("All(%s) has %v, %v; want %v", k, got, err, want)
			}
			found[got.Key] = true
		}
		if len(found) != len(m.live[k]) {
			rt.Fatalf("All(%s) has %d; want %v", k, len(found), m.live[k])
		}
	}
}

func same(a, b store.Record) bool {
	return a.Kind == b.Kind && a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.End.Equal(b.End)
}

// concurrent: many goroutines at once. Each knows the records of its own keys, and all write one common key.
func concurrent(t *testing.T, s store.Store, clock *Clock) {
	stop := make(chan struct{})
	var reading, wait sync.WaitGroup
	reading.Go(func() {
		for {
			found := map[string]bool{}
			for r, err := range s.All(t.Context(), kind) {
				if err != nil || found[r.Key] || string(r.Value) != "of "+r.Key && r.Key != "all" {
					t.Errorf("All: %q with %q, %v; yielded before: %t", r.Key, r.Value, err, found[r.Key])
				}
				found[r.Key] = true
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for n := range 16 {
		wait.Go(func() {
			for m := range 20 {
				key := fmt.Sprintf("%d/%d", n, m%5)
				err := s.Put(t.Context(), store.Record{Kind: kind, Key: key, Value: []byte("of " + key), End: clock.Now().Add(time.Hour)})
				if err != nil {
					t.Errorf("Put: %v", err)
				}
				if got, err := s.Get(t.Context(), kind, key); err != nil || string(got.Value) != "of "+key {
					t.Errorf("Get after Put = %q, %v", got.Value, err)
				}
				err = s.Put(t.Context(), store.Record{Kind: kind, Key: "all", Value: []byte(key), End: clock.Now().Add(time.Hour)})
				if err != nil {
					t.Errorf("Put: %v", err)
				}
				if m%2 == 0 {
					if err := s.Delete(t.Context(), kind, key); err != nil {
						t.Errorf("Delete: %v", err)
					}
					if _, err := s.Get(t.Context(), kind, key); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("Get after Delete: %v", err)
					}
				}
			}
		})
	}
	wait.Wait()
	close(stop)
	reading.Wait()
	var want []string
	for n := range 16 { // of 15 to 19, the last on 5 keys, 15, 17 and 19 stayed
		want = append(want, fmt.Sprintf("%d/0", n), fmt.Sprintf("%d/2", n), fmt.Sprintf("%d/4", n))
	}
	slices.Sort(want)
	wantKeys(t, s, kind, append(want, "all")...)
}
