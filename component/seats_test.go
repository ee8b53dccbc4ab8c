package component

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// cut is a store that is cut off: a call fails, before it has done something or after.
type cut struct {
	store.Store
	before, after error
	calls         int // it is cut off after so many calls; 0 for never
}

func (c *cut) do(call func() error) error {
	if c.calls > 0 {
		if c.calls--; c.calls == 0 {
			defer func() { c.before = store.ErrStandby }()
		}
	}
	if c.before != nil {
		return c.before
	}
	if err := call(); err != nil {
		return err
	}
	return c.after
}

func (c *cut) Put(ctx context.Context, records ...store.Record) error {
	return c.do(func() error { return c.Store.Put(ctx, records...) })
}

func (c *cut) Add(ctx context.Context, r store.Record) (there store.Record, added bool, err error) {
	err = c.do(func() (err error) { there, added, err = c.Store.Add(ctx, r); return err })
	return there, added && err == nil, err
}

func (c *cut) Swap(ctx context.Context, old, new store.Record) (swapped bool, err error) {
	err = c.do(func() (err error) { swapped, err = c.Store.Swap(ctx, old, new); return err })
	return swapped && err == nil, err
}

func (c *cut) Get(ctx context.Context, k store.Kind, key string) (r store.Record, err error) {
	err = c.do(func() (err error) { r, err = c.Store.Get(ctx, k, key); return err })
	return r, err
}

func (c *cut) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	return c.do(func() error { return c.Store.Delete(ctx, k, keys...) })
}

// Two ushers share a store and let people into one room. Calls of the store fail before or after they are done, ushers are killed or
// freeze and others begin in their places, people leave or never come. There are never more people with a right than seats, and in the end all seats are free.
func TestSeatsModel(t *testing.T) {
	t.Parallel()
	const seatsInRoom, room = 2, "r1@conference.meet.example.com"
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		shared := store.Memory(store.Options{Now: clock})
		type usher struct {
			*ledger
			cut     *cut
			people  int            // the first of its people: nobody is at two servers
			pending map[string]int // admissions under way, by person
		}
		begin := func(people int) *usher {
			u := &usher{cut: &cut{Store: shared}, people: people, pending: map[string]int{}}
			u.ledger = newLedger(u.cut, zap.NewNop(), &counters{})
			u.seats.now = clock
			return u
		}
		ushers := []*usher{begin(0), begin(10)}
		var frozen []*usher               // others have taken their places
		inside := map[string]*muc.Grant{} // people with a right
		who := func(t *rapid.T, u *usher) *muc.Grant {
			g := member1(1, u.people+rapid.IntRange(0, 2).Draw(t, "who"))
			g.At = now
			return g
		}
		one := func(t *rapid.T) *usher { return ushers[rapid.IntRange(0, 1).Draw(t, "usher")] }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if len(inside) > seatsInRoom {
					t.Fatalf("%d people have a right, of %d: %v", len(inside), seatsInRoom, inside)
				}
			},
			"asks": func(t *rapid.T) {
				u := one(t)
				g := who(t, u)
				if u.pending[g.Who.String()] > 0 {
					t.Skip("one after the other")
				}
				if err := u.seats.take(t.Context(), room, g.Who.String(), seatsInRoom, 0); err == nil {
					u.pending[g.Who.String()]++
				}
			},
			"comes": func(t *rapid.T) {
				u := one(t)
				g := who(t, u)
				if u.pending[g.Who.String()] > 0 {
					t.Skip("one after the other")
				}
				if u.seats.take(t.Context(), room, g.Who.String(), seatsInRoom, 0) == nil && u.Granted(t.Context(), g, nil) == nil {
					inside[g.Who.String()] = g
				}
				u.seats.leave(room, g.Who.String())
			},
			"is let in": func(t *rapid.T) {
				u := one(t)
				g := who(t, u)
				if u.pending[g.Who.String()] == 0 {
					t.Skip("has not asked")
				}
				if err := u.Granted(t.Context(), g, nil); err == nil {
					inside[g.Who.String()] = g
				}
				u.seats.leave(room, g.Who.String())
				u.pending[g.Who.String()]--
			},
			"is refused in the end": func(t *rapid.T) {
				u := one(t)
				g := who(t, u)
				if u.pending[g.Who.String()] == 0 {
					t.Skip("has not asked")
				}
				u.seats.leave(room, g.Who.String())
				u.pending[g.Who.String()]--
			},
			"leaves": func(t *rapid.T) {
				u := one(t)
				g := who(t, u)
				u.Ended(g.Room, g.Who)
				delete(inside, g.Who.String())
			},
			"crosses out": func(t *rapid.T) { one(t).cross(t.Context()) },
			"settles":     func(t *rapid.T) { _ = one(t).seats.settle(t.Context()) },
			"is cut": func(t *rapid.T) {
				u := one(t)
				lost := errors.New("the link is cut")
				u.cut.before, u.cut.after = nil, nil
				switch rapid.IntRange(0, 3).Draw(t, "how") {
				case 0:
					u.cut.before = lost
				case 1:
					u.cut.after = lost
				}
			},
			"is killed": func(t *rapid.T) {
				n := rapid.IntRange(0, 1).Draw(t, "usher")
				u := begin(ushers[n].people)
				for r, err := range shared.All(t.Context(), store.KindGrant) {
					if err != nil {
						t.Fatal(err)
					}
					g, err := readGrant(r.Key, r.Value)
					if err != nil {
						t.Fatal(err)
					}
					var number int
					if _, err := fmt.Sscanf(g.Who.Localpart(), "p%d", &number); err != nil {
						t.Fatal(err)
					}
					if number/10 == u.people/10 { // of its server
						u.takesOver(g, r.End)
						if _, is := inside[g.Who.String()]; !is {
							u.Ended(g.Room, g.Who) // muc finds that they are not there
						}
					}
				}
				frozen = append(frozen, ushers[n])
				ushers[n] = u
			},
			"goes on, after it was frozen": func(t *rapid.T) {
				if len(frozen) == 0 {
					t.Skip("none was")
				}
				// The call that is under way reaches the store; store.Fenced keeps everything else from it.
				u := frozen[rapid.IntRange(0, len(frozen)-1).Draw(t, "usher")]
				u.cut.before, u.cut.after, u.cut.calls = nil, nil, 1
				_ = u.seats.settle(t.Context())
			},
			"time passes": func(t *rapid.T) {
				for _, u := range ushers {
					for _, n := range u.pending {
						if n > 0 {
							t.Skip("no request takes so long")
						}
					}
				}
				now = now.Add(seatFor)
			},
		})
		// Everybody leaves, and the store is back.
		for _, u := range ushers {
			u.cut.before, u.cut.after = nil, nil
			for p := range 3 {
				g := member1(1, u.people+p)
				u.Ended(g.Room, g.Who)
				for ; u.pending[g.Who.String()] > 0; u.pending[g.Who.String()]-- {
					u.seats.leave(room, g.Who.String())
				}
			}
			u.cross(t.Context())
			if err := u.seats.settle(t.Context()); err != nil || len(u.seats.free) > 0 || u.seats.taken(room) > 0 {
				t.Fatalf("%v; %d are to be given back, %d taken", err, len(u.seats.free), u.seats.taken(room))
			}
		}
		now = now.Add(seatFor)
		last := begin(20)
		for p := range seatsInRoom {
			if err := last.seats.take(t.Context(), room, member1(1, 20+p).Who.String(), seatsInRoom, 0); err != nil {
				t.Fatalf("a seat has not come back: %v", err)
			}
		}
	})
}

// member1 is a grant as grantOf makes one, of somebody who is let in with a token.
func member1(room, who int) *muc.Grant {
	g := grantOf(room, who)
	g.By = &granted{Reason: auth.ReasonMember}
	return g
}

// Of many who ask two ushers at once, as many get in as there are seats.
func TestSeatsAtOnce(t *testing.T) {
	t.Parallel()
	eachShared(t, func(t *testing.T, open func() store.Store) {
		ushers := []*seats{newLedger(open(), zap.NewNop(), &counters{}).seats, newLedger(open(), zap.NewNop(), &counters{}).seats}
		for n := range 10 {
			room := fmt.Sprintf("r%d@c", n)
			var all sync.WaitGroup
			in := make(chan string, 100)
			for p := range 60 {
				all.Go(func() {
					who := fmt.Sprintf("p%d@a", p)
					switch err := ushers[p%2].take(t.Context(), room, who, 30, 0); {
					case err == nil:
						in <- who
					case !errors.Is(err, errFull):
						t.Error(err)
					}
				})
			}
			all.Wait()
			if len(in) != 30 {
				t.Fatalf("%d are in", len(in))
			}
		}
	})
}

// eachShared runs a test with stores that several ushers share, each with its own view.
func eachShared(t *testing.T, test func(t *testing.T, open func() store.Store)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		s := store.Memory(store.Options{})
		test(t, func() store.Store { return s })
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.Options{})
		test(t, func() store.Store {
			s, err := store.Redis(store.Options{}, store.RedisOptions{URL: server.URL()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		})
	})
}

// A room without a limit costs no call of the store, nor does a full room in which all seats are this usher's.
func TestSeatsCostNothing(t *testing.T) {
	t.Parallel()
	calls := &cut{Store: store.Memory(store.Options{})}
	s := newLedger(calls, zap.NewNop(), &counters{}).seats
	if err := s.take(t.Context(), "r@c", "a@b", 1, 0); err != nil {
		t.Fatal(err)
	}
	calls.before = errors.New("a call of the store")
	if err := s.take(t.Context(), "s@c", "a@b", 0, 0); err != nil {
		t.Error(err)
	}
	if err := s.take(t.Context(), "r@c", "b@b", 1, 0); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := s.take(t.Context(), "r@c", "a@b", 1, 0); err != nil {
		t.Error("who has a seat and asks again:", err)
	}
	if err := s.take(t.Context(), "s@c", "b@b", 1, 0); err == nil || errors.Is(err, errFull) {
		t.Error("without a store:", err)
	}
	if err := s.take(t.Context(), "u@c", "b@b", 2, 2); !errors.Is(err, errFull) {
		t.Error("beside two who were there before the limit:", err)
	}
}

// A store that is full refuses nobody.
func TestSeatsFullStore(t *testing.T) {
	t.Parallel()
	full := &cut{Store: store.Memory(store.Options{}), before: &store.FullError{Kind: store.KindSeat}}
	s := newLedger(full, zap.NewNop(), &counters{}).seats
	if err := s.take(t.Context(), "r@c", "a@b", 1, 0); err != nil {
		t.Error(err)
	}
	if err := s.take(t.Context(), "r@c", "b@b", 1, 0); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// Who takes a seat, and who is refused in a full room.
func TestSeatFor(t *testing.T) {
	t.Parallel()
	room := auth.Room{JID: jid.MustParse("r1@conference.meet.example.com")}
	for name, test := range map[string]struct {
		d       auth.Decision
		refused bool
		seat    bool // where there is one
	}{
		"a guest":             {d: auth.Decision{Reason: auth.ReasonGuest, Affiliation: auth.Member}, refused: true, seat: true},
		"a member":            {d: auth.Decision{Reason: auth.ReasonMember, Affiliation: auth.Member}, refused: true, seat: true},
		"a host":              {d: auth.Decision{Reason: auth.ReasonHost, Affiliation: auth.Owner}, seat: true},
		"a service":           {d: auth.Decision{Reason: auth.ReasonService, Affiliation: auth.Member}},
		"a guest who knocks":  {d: auth.Decision{Reason: auth.ReasonGuest}, refused: true},
		"a member who knocks": {d: auth.Decision{Reason: auth.ReasonMember}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(store.Memory(store.Options{}), zap.NewNop(), &counters{})
			c := &Component{ledger: l, seats: l.seats}
			who := jid.MustParse("juliet@meet.example.com")
			test.d.Verdict, test.d.Room, test.d.Rule.MaxOccupants = auth.Allow, room, 1
			if d := c.seat(t.Context(), who, test.d); d.Verdict != auth.Allow {
				t.Errorf("in an empty room: %s", d.Reason)
			}
			if _, has := c.seats.of(room.JID.String(), who.String()); has != test.seat {
				t.Errorf("has a seat: %v", has)
			}
			c.seats.leave(room.JID.String(), who.String())
			if err := l.Granted(t.Context(), member1(1, 1), nil); err != nil { // before there was a limit
				t.Fatal(err)
			}
			d := c.seat(t.Context(), who, test.d)
			if refused := d.Verdict == auth.Deny && d.Reason == auth.ReasonRoomFull; refused != test.refused || !refused && d.Verdict != auth.Allow {
				t.Errorf("in a full room: %s %s", d.Verdict, d.Reason)
			}
		})
	}
}

// A host who entered a full room without a seat counts: nobody takes the next free seat while as many are inside as the room takes.
func TestSeatlessHost(t *testing.T) {
	t.Parallel()
	room := auth.Room{JID: jid.MustParse("r1@conference.meet.example.com")}
	l := newLedger(store.Memory(store.Options{}), zap.NewNop(), &counters{})
	c := &Component{ledger: l, seats: l.seats}
	for n, affiliation := range []auth.Affiliation{auth.Owner, auth.Admin} {
		g := member1(1, n+1)
		g.Affiliation = string(affiliation)
		if err := l.Granted(t.Context(), g, nil); err != nil {
			t.Fatal(err)
		}
	}
	d := auth.Decision{Reason: auth.ReasonGuest, Affiliation: auth.Member, Room: room, Verdict: auth.Allow}
	for i, reason := range []auth.Reason{auth.ReasonRoomFull, auth.ReasonGuest} {
		most := 2 + i
		d.Rule.MaxOccupants = most
		if got := c.seat(t.Context(), jid.MustParse("juliet@meet.example.com"), d); got.Reason != reason {
			t.Errorf("two hosts are in a room for %d: %s", most, got.Reason)
		}
	}
}
