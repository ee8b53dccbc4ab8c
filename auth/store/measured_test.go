package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

// TestMeasuredSuite runs the suite of all stores: what is measured is still a store.
func TestMeasuredSuite(t *testing.T) {
	open := func(_ *testing.T, o store.Options, _ *storetest.Clock) store.Store {
		return store.Measured(store.Memory(o), func(string, time.Duration, error) {})
	}
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o.MaxBytes = smallBytes
		return open(t, o, clock)
	})
}

// calls keeps what Measured tells.
type calls struct {
	mu   sync.Mutex
	ops  []string
	took time.Duration // of the last
	err  error         // of the last
}

func (c *calls) observe(op string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops, c.took, c.err = append(c.ops, op), took, err
}

// TestMeasured calls every method of a store, once with success and once with an error of the store. Each call is told once, by a name
// that is among Ops.
func TestMeasured(t *testing.T) {
	failure := errors.New("no connection")
	r := store.Record{Kind: store.KindGrant, Key: "key", Value: []byte("1"), End: time.Now().Add(time.Hour)}
	for op, call := range map[string]func(ctx context.Context, s store.Store) error{
		"put": func(ctx context.Context, s store.Store) error { return s.Put(ctx, r) },
		"add": func(ctx context.Context, s store.Store) error { _, _, err := s.Add(ctx, r); return err },
		"swap": func(ctx context.Context, s store.Store) error {
			_, err := s.Swap(ctx, r, r)
			return err
		},
		"get": func(ctx context.Context, s store.Store) error {
			_, err := s.Get(ctx, r.Kind, "another")
			if errors.Is(err, store.ErrNotFound) {
				return nil // which is no error of the store
			}
			return err
		},
		"delete": func(ctx context.Context, s store.Store) error { return s.Delete(ctx, r.Kind, "another") },
		"all":    func(ctx context.Context, s store.Store) error { return last(s.All(ctx, r.Kind)) },
		"append": func(ctx context.Context, s store.Store) error { return s.Append(ctx, store.Event{What: "x"}) },
		"follow": func(ctx context.Context, s store.Store) error {
			for _, err := range s.Follow(ctx) {
				return err
			}
			return nil
		},
	} {
		t.Run(op, func(t *testing.T) {
			if !slices.Contains(store.Ops, op) {
				t.Errorf("%q is not among Ops", op)
			}
			for _, want := range []error{nil, failure} {
				var told calls
				inner := store.Memory(store.Options{})
				if err := inner.Put(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if want != nil {
					inner = failing{inner, want}
				}
				err := call(t.Context(), store.Measured(inner, told.observe))
				if !errors.Is(err, want) || !errors.Is(told.err, want) || !slices.Equal(told.ops, []string{op}) || told.took < 0 {
					t.Errorf("with %v the call returns %v, and %q is told with %v", want, err, told.ops, told.err)
				}
			}
		})
	}
}

// TestMeasuredGivesUp counts no error of a caller that goes away, and one of a store that does not answer in time.
func TestMeasuredGivesUp(t *testing.T) {
	for want, err := range map[bool]error{
		false: fmt.Errorf("reading: %w", context.Canceled),
		true:  fmt.Errorf("reading: %w", context.DeadlineExceeded),
	} {
		var told calls
		s := store.Measured(failing{store.Memory(store.Options{}), err}, told.observe)
		_, got := s.Get(t.Context(), store.KindGrant, "key")
		if !errors.Is(got, err) || (told.err != nil) != want {
			t.Errorf("%v: Get returns %v, and %v is told", err, got, told.err)
		}
	}
}

// TestMeasuredAll counts the time that the store takes for all records, and not that of the caller: a caller that takes an hour has a
// slow loop and not a slow store. A caller that ends the loop is told once as well.
func TestMeasuredAll(t *testing.T) {
	var told calls
	inner := store.Memory(store.Options{})
	put(t, inner, store.KindGrant, 3, time.Now().Add(time.Hour))
	var busy time.Duration
	began, n := time.Now(), 0
	for range store.Measured(inner, told.observe).All(t.Context(), store.KindGrant) {
		for at := time.Now(); busy < 20*time.Millisecond; busy = time.Since(at) { // the caller is at work
		}
		n++
		break
	}
	whole := time.Since(began)
	if n != 1 || !slices.Equal(told.ops, []string{"all"}) || told.took > whole-busy {
		t.Errorf("%d records; %q is told, with %s of %s, of which the caller used %s", n, told.ops, told.took, whole, busy)
	}
}

// TestMeasuredFollow tells of the beginning, and of each error in the middle, but not of events.
func TestMeasuredFollow(t *testing.T) {
	var told calls
	missed := errors.New("too slow")
	inner := following{store.Memory(store.Options{}), []error{nil, nil, missed, nil}}
	n := 0
	for range store.Measured(inner, told.observe).Follow(t.Context()) {
		n++
	}
	if n != 4 || !slices.Equal(told.ops, []string{"follow", "follow"}) || !errors.Is(told.err, missed) {
		t.Errorf("%d events; %q is told, with %v", n, told.ops, told.err)
	}
}

// TestMeasuredChecker keeps what callers look for beside Store.
func TestMeasuredChecker(t *testing.T) {
	observe := func(string, time.Duration, error) {}
	if _, is := store.Measured(store.Memory(store.Options{}), observe).(store.Checker); is {
		t.Error("a store in memory is a Checker")
	}
	s, err := store.Redis(store.Options{}, store.RedisOptions{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, is := store.Measured(s, observe).(store.Checker)
	if !is {
		t.Fatal("a measured Redis is no Checker")
	}
	if _, err := c.Check(t.Context()); err == nil {
		t.Error("the check of a Redis that is not there finds nothing")
	}
}

// TestSizes puts and deletes records, and opens the file again: the sizes follow, also through everything that lies around a store.
func TestSizes(t *testing.T) {
	path := store.NewPath(t)
	for name, s := range map[string]store.Store{
		"memory": store.Memory(store.Options{}),
		"file":   open(t, path, store.Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			around := store.Own(store.Fenced(store.Measured(s, func(string, time.Duration, error) {}), func() bool { return true }), "focus")
			size := func(want int64) {
				t.Helper()
				settled(t, around)
				all := store.Sizes(around)
				i := slices.IndexFunc(all, func(s store.Size) bool { return s.Kind == store.KindGrant })
				if i < 0 {
					t.Fatalf("the sizes are %v", all)
				}
				if got := all[i]; got.Records != want || (got.Bytes > 0) != (want > 0) || got.Limit < got.Bytes {
					t.Errorf("the size is %+v; want %d records", got, want)
				}
			}
			size(0)
			put(t, around, store.KindGrant, 5, time.Unix(1<<40, 0))
			size(5)
			if err := around.Delete(t.Context(), store.KindGrant, fmt.Sprint(1<<40, " ", 1), "another"); err != nil {
				t.Fatal(err)
			}
			size(4)
			if name == "file" {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				around = open(t, path, store.Options{})
				size(4)
			}
		})
	}
	if all := store.Sizes(failing{store.Memory(store.Options{}), nil}); all != nil {
		t.Errorf("a store that does not know its size has %v", all)
	}
}

// TestNothingTakenBack: where nothing was taken back the store is not asked, also through everything that lies around it, and it is asked
// as soon as something was. A closed store has an error.
func TestNothingTakenBack(t *testing.T) {
	room, proof := auth.Room{JID: jid.MustParse("standup@conference.example")}, auth.Proof{Issuer: "app", ID: "1", User: "romeo", Token: "x"}
	for name, s := range map[string]store.Store{
		"memory": store.Memory(store.Options{}),
		"file":   open(t, store.NewPath(t), store.Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			gets := 0
			count := func(op string, _ time.Duration, _ error) {
				if op == "get" {
					gets++
				}
			}
			around := store.Own(store.Fenced(store.Measured(s, count), func() bool { return true }), "focus")
			refusals := store.Refusals{Store: around}
			asks := func(want, asked bool) {
				t.Helper()
				gets = 0
				revoked, err := refusals.Revoked(t.Context(), proof, room)
				_, barred, failed := refusals.Barred(t.Context(), proof, room)
				if err != nil || failed != nil || revoked != want || barred != want || gets > 0 != asked {
					t.Errorf("revoked: %t, %v; barred: %t, %v; %d gets", revoked, err, barred, failed, gets)
				}
			}
			asks(false, false)
			now := time.Now()
			r, err := store.Revocations(refusals).Put(t.Context(), auth.Revocation{User: "romeo", At: now, Until: now.Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Bars(refusals).Put(t.Context(), room, proof, time.Time{}); err != nil {
				t.Fatal(err)
			}
			asks(true, true)
			err = errors.Join(store.Revocations(refusals).Delete(t.Context(), r.ID), store.Bars(refusals).End(t.Context(), room))
			if err != nil {
				t.Fatal(err)
			}
			asks(false, false)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := refusals.Revoked(t.Context(), proof, room); !errors.Is(err, store.ErrClosed) {
				t.Errorf("revoked, closed: %v", err)
			}
			if _, _, err := refusals.Barred(t.Context(), proof, room); !errors.Is(err, store.ErrClosed) {
				t.Errorf("barred, closed: %v", err)
			}
		})
	}
}

func last[T any](all iter.Seq2[T, error]) (err error) {
	for _, err = range all {
	}
	return err
}

// failing is a store of which all calls fail.
type failing struct {
	store.Store
	err error
}

func (f failing) Put(context.Context, ...store.Record) error { return f.err }
func (f failing) Add(context.Context, store.Record) (store.Record, bool, error) {
	return store.Record{}, false, f.err
}
func (f failing) Swap(context.Context, store.Record, store.Record) (bool, error) { return false, f.err }
func (f failing) Get(context.Context, store.Kind, string) (store.Record, error) {
	return store.Record{}, f.err
}
func (f failing) Delete(context.Context, store.Kind, ...string) error { return f.err }
func (f failing) All(context.Context, store.Kind) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) { yield(store.Record{}, f.err) }
}
func (f failing) Append(context.Context, store.Event) error { return f.err }
func (f failing) Follow(context.Context) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) { yield(store.Event{}, f.err) }
}

// following is a store that yields these, one after the other.
type following struct {
	store.Store
	yields []error
}

func (f following) Follow(context.Context) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		for _, err := range f.yields {
			if !yield(store.Event{}, err) {
				return
			}
		}
	}
}
