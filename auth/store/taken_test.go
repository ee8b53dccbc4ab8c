package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

// What is taken back: revocations, one-time tokens that were used, and bars.

// link is one process's way to a store that several share. It can be cut, before or behind what is done, and it can be frozen.
type link struct {
	store.Store
	mu     sync.Mutex
	before bool // nothing is done, and the process is told so
	behind bool // what is asked for is done, and the process is not told
	calls  int  // how many come through before that
	failed int  // how many have not
}

var errCut = errors.New("the link is cut")

// cut cuts the link when that many calls have come through.
func (l *link) cut(before, behind bool, calls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.behind, l.calls = before, behind, calls
}

func (l *link) mend() { l.cut(false, false, 0) }

// next reports what becomes of a call.
func (l *link) next() (before, behind bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls > 0 {
		l.calls--
		return false, false
	}
	if l.before || l.behind {
		l.failed++
	}
	return l.before, l.behind
}

// failures is how many calls have not come through so far.
func (l *link) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// over does something over the link.
func (l *link) over(do func() error) error {
	before, behind := l.next()
	if before {
		return errCut
	}
	err := do()
	if behind {
		return errCut
	}
	return err
}

func (l *link) Get(ctx context.Context, k store.Kind, key string) (r store.Record, err error) {
	err = l.over(func() (err error) { r, err = l.Store.Get(ctx, k, key); return err })
	return r, err
}

func (l *link) Add(ctx context.Context, r store.Record) (there store.Record, added bool, err error) {
	err = l.over(func() (err error) { there, added, err = l.Store.Add(ctx, r); return err })
	if err != nil {
		return store.Record{}, false, err
	}
	return there, added, nil
}

func (l *link) Swap(ctx context.Context, old, new store.Record) (swapped bool, err error) {
	err = l.over(func() (err error) { swapped, err = l.Store.Swap(ctx, old, new); return err })
	return swapped && err == nil, err
}

func (l *link) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	return l.over(func() error { return l.Store.Delete(ctx, k, keys...) })
}

func (l *link) All(ctx context.Context, k store.Kind) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.over(func() error { return nil }); err != nil {
			yield(store.Record{}, err)
			return
		}
		l.Store.All(ctx, k)(yield)
	}
}

func (l *link) Append(ctx context.Context, e store.Event) error {
	return l.over(func() error { return l.Store.Append(ctx, e) })
}

func proofOf(jti, user, sub, issuer string) auth.Proof {
	return auth.Proof{VHost: "meet.example.com", Issuer: issuer, ID: jti, User: user, Subject: sub, Token: "t-" + jti + user, IssuedAt: 1000}
}

func roomOf(t interface{ Fatal(...any) }, name string) auth.Room {
	r, err := auth.ParseRoom(name + "@conference.meet.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// covering reports whether a revocation takes back all that another one does, so that it takes its place.
func covering(r, other auth.Revocation) bool {
	same := r.JTI == other.JTI && r.User == other.User && r.Subject == other.Subject && r.Issuer == other.Issuer
	rooms := r.Room == "" || r.Room == other.Room
	times := r.Before.IsZero() || !other.Before.IsZero() && !other.Before.After(r.Before)
	return same && rooms && times && (r.Until.IsZero() || !other.Until.IsZero() && !other.Until.After(r.Until))
}

// Whatever two processes revoke and take back, with links that are cut: a decision is refused if a revocation covers the token for
// sure, is not refused if none may, and is none if the store cannot be asked.
func TestRevocationsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := storetest.NewClock()
		shared := store.Memory(store.Options{Now: clock.Now})
		defer shared.Close()
		links := []*link{{Store: shared}, {Store: shared}}
		process := func() (store.Revocations, *link) {
			l := links[rapid.IntRange(0, 1).Draw(t, "process")]
			return store.Revocations{Store: l, Now: clock.Now}, l
		}
		some := func(what string, more ...string) string {
			return rapid.SampledFrom(append([]string{"", what + "1", what + "2"}, more...)).Draw(t, what)
		}
		type known struct {
			auth.Revocation
			sure bool
		}
		var all []known
		t.Repeat(map[string]func(*rapid.T){
			"revoke": func(t *rapid.T) {
				s, _ := process()
				r := auth.Revocation{JTI: some("j"), User: some("u"), Subject: some("s"), Issuer: some("i"), At: clock.Now()}
				if rapid.Bool().Draw(t, "one room") {
					r.Room = roomOf(t, "standup").JID.String()
				}
				if rapid.Bool().Draw(t, "before") {
					r.Before = time.Unix(int64(rapid.SampledFrom([]int{500, 900, 2000}).Draw(t, "iat")), 0)
				}
				if rapid.Bool().Draw(t, "for") {
					r.Until = clock.Now().Add(time.Minute)
				}
				put, err := s.Put(t.Context(), r)
				switch {
				case r.JTI+r.User+r.Subject+r.Issuer == "":
					if !errors.Is(err, store.ErrRevocation) {
						t.Fatalf("a revocation of nothing: %v", err)
					}
				case err == nil, errors.Is(err, store.ErrUntold):
					// The earlier ones are gone also when this one is taken back.
					all = slices.DeleteFunc(all, func(k known) bool { return covering(put, k.Revocation) })
					all = append(all, known{put, true})
				case errors.Is(err, errCut):
					for n, k := range all {
						all[n].sure = k.sure && !covering(put, k.Revocation)
					}
					all = append(all, known{put, false})
				default:
					t.Fatal(err)
				}
			},
			"take back": func(t *rapid.T) {
				s, _ := process()
				sure := slices.DeleteFunc(slices.Clone(all), func(k known) bool { return !k.sure })
				if len(sure) == 0 {
					if err := s.Delete(t.Context(), "nothing"); !errors.Is(err, store.ErrNoRevocation) && !errors.Is(err, errCut) {
						t.Fatalf("an id that nothing has: %v", err)
					}
					return
				}
				k := rapid.SampledFrom(sure).Draw(t, "which")
				err := s.Delete(t.Context(), k.ID)
				n := slices.IndexFunc(all, func(other known) bool { return other.ID == k.ID })
				switch {
				case err == nil:
					all = slices.Delete(all, n, n+1)
				case errors.Is(err, errCut):
					all[n].sure = false
				case errors.Is(err, store.ErrNoRevocation) && !k.Until.IsZero() && !clock.Now().Before(k.Until):
					all = slices.Delete(all, n, n+1)
				default:
					t.Fatal(err)
				}
			},
			"cut": func(t *rapid.T) {
				_, l := process()
				l.cut(rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "behind"), rapid.IntRange(0, 3).Draw(t, "calls"))
			},
			"mend":  func(t *rapid.T) { _, l := process(); l.mend() },
			"later": func(*rapid.T) { clock.Forward(40 * time.Second) },
			"": func(t *rapid.T) {
				s, l := process()
				p := proofOf(some("j"), some("u"), some("s"), some("i"))
				room := roomOf(t, rapid.SampledFrom([]string{"standup", "retro"}).Draw(t, "room"))
				failed := l.failures()
				got, err := s.Revoked(t.Context(), p, room)
				if failed = l.failures() - failed; failed > 0 && err == nil {
					t.Fatal("decided without the store")
				} else if failed == 0 && err != nil {
					t.Fatal(err)
				}
				if err != nil {
					return
				}
				sure, maybe := false, false
				for _, k := range all {
					if (k.Until.IsZero() || clock.Now().Before(k.Until)) && k.Covers(p, room) {
						maybe, sure = true, sure || k.sure
					}
				}
				if sure && !got || got && !maybe {
					t.Fatalf("%+v in %s is revoked: %t; it must be %t, may be %t, by %+v", p, room, got, sure, maybe, all)
				}
			},
		})
		// What is listed is what decides.
		for _, l := range links {
			l.mend()
		}
		listed, err := store.Revocations{Store: shared, Now: clock.Now}.All(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range listed.Sorted() {
			if p, room := proofOf(r.JTI, r.User, r.Subject, r.Issuer), roomOf(t, "standup"); r.Covers(p, room) && !listed.Covers(p, room) {
				t.Fatalf("%+v is listed and covers nothing", r)
			}
		}
	})
}

// A revocation that includes an earlier one takes its place, so that repeating one costs nothing.
func TestRevocationsRepeated(t *testing.T) {
	clock := storetest.NewClock()
	s := store.Revocations{Store: store.Memory(store.Options{Now: clock.Now}), Now: clock.Now}
	for range 500 {
		if _, err := s.Put(t.Context(), auth.Revocation{Issuer: "my_app", Before: clock.Now(), At: clock.Now()}); err != nil {
			t.Fatal(err)
		}
		clock.Forward(time.Second)
	}
	if all, err := s.All(t.Context()); err != nil || len(all.Sorted()) != 1 {
		t.Errorf("%v; %v", all, err)
	}
	// There is space for some fifty of one claim; then an error says what to do.
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Put(t.Context(), auth.Revocation{User: "u1", Room: fmt.Sprintf("room%d@conference.meet.example.com", n), At: clock.Now(), Reason: strings.Repeat("x", 100)})
	}
	if !errors.Is(err, store.ErrTooManyRevocations) || !errors.Is(err, store.ErrRevocation) || n < 40 {
		t.Errorf("after %d: %v", n, err)
	}
	everywhere, err := s.Put(t.Context(), auth.Revocation{User: "u1", At: clock.Now()})
	if err != nil {
		t.Errorf("for all rooms: %v", err)
	}
	if all, err := s.All(t.Context()); err != nil || len(all.Sorted()) != 2 {
		t.Errorf("%v; %v", all, err)
	}
	// With the one that has taken their place, the earlier ones have ended.
	if err := s.Delete(t.Context(), everywhere.ID); err != nil {
		t.Error(err)
	}
	if revoked, err := s.Revoked(t.Context(), proofOf("", "u1", "", ""), roomOf(t, "room0")); revoked || err != nil {
		t.Errorf("revoked: %t, %v", revoked, err)
	}
}

// What cannot be a revocation is refused, with a reason for who asked.
func TestRevocationsRefused(t *testing.T) {
	s := store.Revocations{Store: store.Memory(store.Options{})}
	for name, r := range map[string]auth.Revocation{
		"of nothing":         {Room: "standup@conference.meet.example.com"},
		"ends at once":       {JTI: "j", At: time.Now(), Until: time.Now().Add(-time.Second)},
		"a long reason":      {JTI: "j", Reason: strings.Repeat("x", 101)},
		"not UTF-8":          {JTI: "j\xff"},
		"a year of 5 digits": {JTI: "j", Before: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := s.Put(t.Context(), r); !errors.Is(err, store.ErrRevocation) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A record that cannot be read refuses people that it may be about, and is told of when all are listed.
func TestRevocationsUnreadable(t *testing.T) {
	shared := store.Memory(store.Options{})
	s := store.Revocations{Store: shared}
	put, err := s.Put(t.Context(), auth.Revocation{JTI: "j1", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), auth.Revocation{JTI: "j2", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for r, err := range shared.All(t.Context(), store.KindRevocation) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(r.Value), put.ID) {
			r.Value = []byte(strings.Replace(string(r.Value), `"JTI"`, `"Only":"on Mondays","JTI"`, 1))
			if err := shared.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Revoked(t.Context(), proofOf("j1", "", "", ""), roomOf(t, "standup")); !errors.Is(err, store.ErrUnreadableRevocation) {
		t.Errorf("decided: %v", err)
	}
	if all, err := s.All(t.Context()); !errors.Is(err, store.ErrUnreadableRevocation) || len(all.Sorted()) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	// The store has no claims in its keys, and no event has any.
	for r := range shared.All(t.Context(), store.KindRevocation) {
		if strings.Contains(r.Key, "j1") || strings.Contains(r.Key, "j2") {
			t.Errorf("the key is %s", r.Key)
		}
	}
}

// usedBy has many pairs of machines show one token each at the same moment, over two ways to the store.
func usedBy(t *testing.T, ways [2]store.Store, pairs int) {
	t.Helper()
	var first, admitted, failed atomic.Int64
	for n := range pairs {
		p := proofOf(fmt.Sprint("j", n), "", "", "my_app")
		begin := make(chan struct{})
		var both sync.WaitGroup
		var in [2]bool
		for i := range ways {
			both.Go(func() {
				<-begin
				ok, err := store.Used{Store: ways[i]}.Use(t.Context(), p, fmt.Sprint("machine", i), time.Now().Add(time.Hour))
				if err != nil {
					failed.Add(1)
					t.Error(err)
				}
				if in[i] = ok; ok {
					admitted.Add(1)
				}
			})
		}
		close(begin)
		both.Wait()
		if in[0] {
			first.Add(1)
		}
		for i := range ways { // and once more, over the other way: the same machine may come again, the other may not
			ok, err := store.Used{Store: ways[1-i]}.Use(t.Context(), p, fmt.Sprint("machine", i), time.Now().Add(time.Hour))
			if err != nil || ok != in[i] {
				t.Errorf("pair %d, machine %d: first %t, then %t, %v", n, i, in[i], ok, err)
			}
		}
	}
	if int(admitted.Load()) != pairs || failed.Load() > 0 {
		t.Errorf("%d pairs: %d admissions, %d failures", pairs, admitted.Load(), failed.Load())
	}
	t.Logf("of %d, the first way got %d", pairs, first.Load())
}

// A token that two machines show at the same moment admits one of them.
func TestUsedAtOnce(t *testing.T) {
	t.Parallel()
	shared := store.Memory(store.Options{})
	usedBy(t, [2]store.Store{shared, shared}, 1000)
}

// Whatever two processes ask, with links that are cut: a token admits one machine until its end. If the link is cut, nobody is
// admitted, and the machine that was to be may come again.
func TestUsedModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := storetest.NewClock()
		shared := store.Memory(store.Options{Now: clock.Now})
		defer shared.Close()
		links := []*link{{Store: shared}, {Store: shared}}
		end := clock.Now().Add(time.Hour) // of all tokens; afterwards nobody gets as far as this
		admitted, maybe := map[string]string{}, map[string][]string{}
		t.Repeat(map[string]func(*rapid.T){
			"use": func(t *rapid.T) {
				l := links[rapid.IntRange(0, 1).Draw(t, "process")]
				p := proofOf(rapid.SampledFrom([]string{"j1", "j2"}).Draw(t, "jti"), "", "", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "issuer"))
				machine := rapid.SampledFrom([]string{"m1", "m2", "m3"}).Draw(t, "machine")
				key := p.Issuer + " " + p.ID
				ok, err := store.Used{Store: l}.Use(t.Context(), p, machine, end)
				was := admitted[key]
				other := func(of string) bool { return of != machine }
				switch {
				case err != nil && (ok || !errors.Is(err, errCut)):
					t.Fatal(ok, err)
				case err != nil:
					maybe[key] = append(maybe[key], machine)
				case ok && was != "" && was != machine:
					t.Fatalf("%s admits %s and %s", key, was, machine)
				case ok:
					admitted[key] = machine
				case was == machine, was == "" && !slices.ContainsFunc(maybe[key], other):
					t.Fatalf("%s admits nobody: %s asks, %q was admitted, perhaps %q", key, machine, was, maybe[key])
				}
			},
			"cut": func(t *rapid.T) {
				links[rapid.IntRange(0, 1).Draw(t, "process")].cut(rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "behind"), 0)
			},
			"mend":  func(t *rapid.T) { links[rapid.IntRange(0, 1).Draw(t, "process")].mend() },
			"later": func(*rapid.T) { clock.Forward(time.Minute / 4) },
		})
	})
}

// Whatever two processes bar, with links that are cut: somebody is kept out of a room as long as a bar of a claim of theirs lasts for sure,
// and is not if none may; until its end, or until the room ends. After an error nobody is decided about.
func TestBarsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := storetest.NewClock()
		shared := store.Memory(store.Options{Now: clock.Now})
		defer shared.Close()
		links := []*link{{Store: shared}, {Store: shared}}
		one := func(t *rapid.T) (store.Bars, *link) {
			l := links[rapid.IntRange(0, 1).Draw(t, "process")]
			return store.Bars{Store: l, Now: clock.Now}, l
		}
		// claims are of a person: the issuer, and what they are known by again.
		type claims struct{ issuer, jti, user, account string }
		person := func(t *rapid.T) claims {
			some := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
			return claims{some("issuer", "a", "b"), some("jti", "", "x", "y"), some("user", "", "x", "y"), some("account", "", "", "x")}
		}
		proof := func(c claims) auth.Proof {
			p := proofOf(c.jti, c.user, "tenant", c.issuer)
			p.Account = c.account
			return p
		}
		known := func(a, b claims) bool {
			same := func(x, y string) bool { return x != "" && x == y }
			return a.issuer == b.issuer && (same(a.jti, b.jti) || same(a.user, b.user)) || same(a.account, b.account)
		}
		room := func(t *rapid.T) auth.Room {
			return roomOf(t, rapid.SampledFrom([]string{"standup", "retro"}).Draw(t, "room"))
		}
		type bar struct {
			claims
			room  string
			until time.Time // zero: until the room ends
			sure  bool
		}
		var all []bar
		t.Repeat(map[string]func(*rapid.T){
			"bar": func(t *rapid.T) {
				s, l := one(t)
				b := bar{claims: person(t)}
				in := room(t)
				b.room = in.JID.String()
				if wait := rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, time.Hour}).Draw(t, "wait"); wait > 0 {
					b.until = clock.Now().Add(wait)
				}
				failed := l.failures()
				done, err := s.Put(t.Context(), in, proof(b.claims), b.until)
				failed = l.failures() - failed
				if is := b.jti+b.user+b.account != ""; done != (is && failed == 0) || (err != nil) != (failed > 0) {
					t.Fatalf("barred %t, %v, with %d failures", done, err, failed)
				}
				b.sure = done
				all = append(all, b)
			},
			"the room ends": func(t *rapid.T) {
				s, _ := one(t)
				in := room(t)
				err := s.End(t.Context(), in)
				for n, b := range all {
					if b.room == in.JID.String() && err != nil {
						all[n].sure = false
					}
				}
				if err == nil {
					all = slices.DeleteFunc(all, func(b bar) bool { return b.room == in.JID.String() })
				}
			},
			"cut": func(t *rapid.T) {
				_, l := one(t)
				l.cut(rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "behind"), rapid.IntRange(0, 2).Draw(t, "calls"))
			},
			"mend": func(t *rapid.T) { _, l := one(t); l.mend() },
			"later": func(t *rapid.T) {
				clock.Forward(rapid.SampledFrom([]time.Duration{time.Second / 3, 40 * time.Second, time.Hour}).Draw(t, "by"))
			},
			"": func(t *rapid.T) {
				s, l := one(t)
				who, in := person(t), room(t)
				failed := l.failures()
				until, got, err := s.Barred(t.Context(), proof(who), in)
				if failed = l.failures() - failed; (err != nil) != (failed > 0) {
					t.Fatalf("%v, with %d failures", err, failed)
				}
				if err != nil {
					return
				}
				const second = time.Second // the ends are full ones, and never too early
				must, may, earliest, latest, forEver, never := false, false, time.Time{}, time.Time{}, false, true
				for _, b := range all {
					switch over := !b.until.IsZero() && !clock.Now().Before(b.until.Add(second)); {
					case b.room != in.JID.String() || !known(b.claims, who) || over:
						continue
					case b.until.IsZero():
						may, never, forEver = true, false, forEver || b.sure
						must = must || b.sure
					default:
						may = true
						must = must || b.sure && clock.Now().Before(b.until)
						if latest.Before(b.until.Add(second)) {
							latest = b.until.Add(second)
						}
						if b.sure && earliest.Before(b.until) && clock.Now().Before(b.until) {
							earliest = b.until
						}
					}
				}
				switch {
				case must && !got, got && !may:
					t.Fatalf("%+v in %s is barred: %t; must be %t, may be %t, by %+v", who, in, got, must, may, all)
				case got && until.IsZero() && never, got && !until.IsZero() && (forEver || until.Before(earliest) || until.After(latest)):
					t.Fatalf("%+v in %s is barred until %s; not between %s and %s, or for ever %t, by %+v", who, in, until, earliest, latest, forEver, all)
				}
			},
		})
	})
}

// A token without what makes it one-time is used by nobody, and the store gets no machine-uid.
func TestUsed(t *testing.T) {
	shared := store.Memory(store.Options{})
	s := store.Used{Store: shared}
	until := time.Now().Add(time.Hour)
	for name, use := range map[string]func() (bool, error){
		"without jti":     func() (bool, error) { return s.Use(t.Context(), auth.Proof{Issuer: "a"}, "m", until) },
		"without machine": func() (bool, error) { return s.Use(t.Context(), proofOf("j", "", "", "a"), "", until) },
		"without end":     func() (bool, error) { return s.Use(t.Context(), proofOf("j", "", "", "a"), "m", time.Time{}) },
	} {
		if ok, err := use(); ok || err == nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if ok, err := s.Use(t.Context(), proofOf("j", "", "", "a"), "the-machine", until); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for r := range shared.All(t.Context(), store.KindUsed) {
		if strings.Contains(r.Key+string(r.Value), "the-machine") {
			t.Error("the store has the machine-uid")
		}
	}
}

func TestBars(t *testing.T) {
	clock := storetest.NewClock()
	shared := store.Memory(store.Options{Now: clock.Now})
	s := store.Bars{Store: shared, Now: clock.Now}
	standup, retro := roomOf(t, "standup"), roomOf(t, "retro")
	person := proofOf("j1", "u1", "s1", "my_app")
	person.Personal = true
	put := func(p auth.Proof, wait time.Duration, want bool) {
		t.Helper()
		until := time.Time{}
		if wait > 0 {
			until = clock.Now().Add(wait)
		}
		if barred, err := s.Put(t.Context(), standup, p, until); err != nil || barred != want {
			t.Fatalf("%t, %v", barred, err)
		}
	}
	barred := func(p auth.Proof, room auth.Room, want bool) {
		t.Helper()
		if _, got, err := s.Barred(t.Context(), p, room); err != nil || got != want {
			t.Errorf("%+v in %s is barred: %t, %v", p, room, got, err)
		}
	}
	put(auth.Proof{}, 0, false) // a guest
	put(auth.Proof{Issuer: "my_app", Subject: "meet.example.com", Token: "t"}, 0, false)
	put(person, time.Minute, true)
	for name, p := range map[string]auth.Proof{
		"the same":        person,
		"the token":       proofOf("j1", "", "", "my_app"),
		"another token":   proofOf("j2", "u1", "", "my_app"),
		"the same person": {Issuer: "my_app", Subject: "s1", Personal: true, Token: "other"},
	} {
		if _, got, err := s.Barred(t.Context(), p, standup); !got || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
		if !store.SamePerson(p, person) {
			t.Errorf("%s is nobody", name)
		}
		barred(p, retro, false)
	}
	for name, p := range map[string]auth.Proof{
		"a guest":                {},
		"another person":         proofOf("j2", "u2", "s1", "my_app"), // s1 is the tenant here
		"of another issuer":      proofOf("j1", "u1", "s1", "other_app"),
		"claims of another kind": proofOf("u1", "j1", "", "my_app"),
	} {
		if _, got, err := s.Barred(t.Context(), p, standup); got || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if until, _, _ := s.Barred(t.Context(), person, standup); until.Before(clock.Now().Add(time.Minute)) {
		t.Errorf("until %s", until)
	}
	clock.Forward(2 * time.Minute)
	barred(person, standup, false)

	// A longer bar is not shortened by a shorter one.
	account := auth.Proof{VHost: "users.example.com", Account: "romeo@users.example.com"}
	put(account, 0, true)
	put(account, time.Minute, true)
	clock.Forward(24 * time.Hour)
	barred(account, standup, true)
	if rooms, err := s.Rooms(t.Context()); err != nil || len(rooms) != 1 || !rooms[0].Equal(standup.JID) {
		t.Errorf("%v, %v", rooms, err)
	}
	if err := s.End(t.Context(), standup); err != nil {
		t.Fatal(err)
	}
	barred(account, standup, false)

	// Many: the newest count.
	for n := range 400 {
		put(proofOf(fmt.Sprint("many", n), fmt.Sprint("person", n), "", "my_app"), 0, true)
		clock.Forward(time.Second)
	}
	barred(proofOf("many399", "", "", "my_app"), standup, true)
	barred(proofOf("many300", "", "", "my_app"), standup, true)

	// Damaged: nobody is let in on a guess.
	for r := range shared.All(t.Context(), store.KindBar) {
		r.Value = r.Value[1:]
		if err := shared.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Barred(t.Context(), person, standup); err == nil {
		t.Error("decided by a damaged record")
	}
	if _, _, err := s.Barred(t.Context(), auth.Proof{}, standup); err != nil {
		t.Errorf("a guest: %v", err)
	}
}
