package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// Of many who take one seat at once in two processes, one gets it.
func TestSeatTakenOnce(t *testing.T) {
	t.Parallel()
	s := store.Memory(store.Options{})
	live := func(store.Seat) bool { return false }
	for n := range 50 {
		var got atomic.Int64
		var all sync.WaitGroup
		for who := range 8 {
			all.Go(func() {
				seats := store.Seats{Store: s, Keeper: []string{"a", "b"}[who%2]}
				seat := store.Seat{Room: "r@c", Number: n + 1, Who: string(rune('a' + who)), Visit: 1}
				taken, err := seats.Take(context.Background(), seat, time.Now().Add(time.Hour), live)
				if err != nil {
					t.Error(err)
				}
				if taken {
					got.Add(1)
				}
			})
		}
		if all.Wait(); got.Load() != 1 {
			t.Fatalf("%d have the seat", got.Load())
		}
	}
}

// Who may take a seat that is written down.
func TestSeatTaken(t *testing.T) {
	t.Parallel()
	const room = "r@c"
	here := store.Seat{Room: room, Number: 1, Who: "romeo@a", Visit: 1}
	for name, test := range map[string]struct {
		by    string // the keeper
		seat  store.Seat
		stale bool
		want  bool
	}{
		"another person": {by: "a", seat: store.Seat{Room: room, Number: 1, Who: "juliet@a", Visit: 2}},
		"another person, and the keeper knows it free": {by: "a", seat: store.Seat{Room: room, Number: 1, Who: "juliet@a", Visit: 2}, stale: true, want: true},
		"another person, elsewhere":                    {by: "b", seat: store.Seat{Room: room, Number: 1, Who: "juliet@a", Visit: 2}, stale: true},
		"the same person, elsewhere":                   {by: "b", seat: store.Seat{Room: room, Number: 1, Who: "romeo@a", Visit: 9}, want: true},
		"the same person, by a late call of this one":  {by: "a", seat: store.Seat{Room: room, Number: 1, Who: "romeo@a", Visit: 0}},
		"the same person again, after the first visit": {by: "a", seat: store.Seat{Room: room, Number: 1, Who: "romeo@a", Visit: 2}, stale: true, want: true},
		"another number":                               {by: "b", seat: store.Seat{Room: room, Number: 2, Who: "juliet@a", Visit: 2}, want: true},
		"another room":                                 {by: "b", seat: store.Seat{Room: "s@c", Number: 1, Who: "juliet@a", Visit: 2}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store.Memory(store.Options{})
			a := store.Seats{Store: s, Keeper: "a"}
			until := time.Now().Add(time.Hour)
			if taken, err := a.Take(t.Context(), here, until, nil); err != nil || !taken {
				t.Fatal(taken, err)
			}
			b := store.Seats{Store: s, Keeper: test.by}
			taken, err := b.Take(t.Context(), test.seat, until, func(holder store.Seat) bool {
				if holder != here {
					t.Errorf("asked about %+v", holder)
				}
				return test.stale
			})
			if err != nil || taken != test.want {
				t.Fatal(taken, err)
			}
			// Giving back the first visit ends no other.
			if err := a.Free(t.Context(), here); err != nil {
				t.Fatal(err)
			}
			third := store.Seat{Room: test.seat.Room, Number: test.seat.Number, Who: "nurse@a", Visit: 3}
			free, err := store.Seats{Store: s, Keeper: "c"}.Take(t.Context(), third, until, nil)
			if err != nil || free == test.want {
				t.Error(free, err)
			}
		})
	}
}

// A seat ends by itself, and what another version has written counts until then.
func TestSeatEnds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := store.Memory(store.Options{Now: func() time.Time { return now }})
	seats := store.Seats{Store: s, Keeper: "a"}
	if err := s.Put(t.Context(), store.Record{Kind: store.KindSeat, Key: "r@c 1", Value: []byte("?"), End: now.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	seat := store.Seat{Room: "r@c", Number: 1, Who: "romeo@a", Visit: 1}
	if taken, err := seats.Take(t.Context(), seat, now.Add(time.Hour), func(store.Seat) bool { return true }); err != nil || taken {
		t.Error(taken, err)
	}
	now = now.Add(time.Minute)
	if taken, err := seats.Take(t.Context(), seat, now.Add(time.Hour), nil); err != nil || !taken {
		t.Error(taken, err)
	}
}
