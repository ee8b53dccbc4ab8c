package component

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

func grantOf(room, who int) *muc.Grant {
	return &muc.Grant{
		Room: jid.MustParse(fmt.Sprintf("r%d@conference.meet.example.com", room)), Who: jid.MustParse(fmt.Sprintf("p%d@meet.example.com", who)),
		Affiliation: "member", At: time.Now().UTC(),
	}
}

// In every order of grants and ends, also while the store cannot be written, the store has in the end the grants that are live.
func TestLedgerModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &refusing{Store: store.Memory(store.Options{})}
		l := newLedger(s, zap.NewNop(), &counters{})
		live, sessions := map[string]*muc.Grant{}, 0
		who := rapid.Custom(func(t *rapid.T) *muc.Grant {
			return grantOf(rapid.IntRange(0, 1).Draw(t, "room"), rapid.IntRange(0, 2).Draw(t, "who"))
		})
		drawn := func(t *rapid.T) *muc.Grant {
			g := who.Draw(t, "grant")
			g.Affiliation = rapid.SampledFrom([]string{"owner", "member"}).Draw(t, "affiliation")
			if rapid.Bool().Draw(t, "expires") {
				g.Expires = g.At.Add(time.Hour)
			}
			g.NeedsHost = rapid.Bool().Draw(t, "needs a host")
			if rapid.Bool().Draw(t, "by somebody") {
				by := granted{Proof: &auth.Proof{Issuer: "my_app", ID: rapid.StringMatching("[a-z<\"é]*").Draw(t, "jti")}, Reason: auth.ReasonMember, Machine: machineOf("m")}
				if rapid.Bool().Draw(t, "is put out") {
					by.RemoveAt = g.At.Add(2 * time.Hour)
				}
				g.By = &by
			}
			return g
		}
		gives := func(t *rapid.T, g *muc.Grant, with any) bool {
			err := l.Granted(context.Background(), g, with)
			if want := s.failure(); (err != nil) != (want != nil) {
				t.Fatalf("got %v, want %v", err, want)
			}
			if err == nil {
				live[grantKey(g.Room, g.Who)] = g
			}
			return err == nil
		}
		fails := func(t *rapid.T) {
			s.fails(rapid.SampledFrom([]error{nil, nil, errors.New("disk full")}).Draw(t, "error"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"granted": func(t *rapid.T) {
				g := drawn(t)
				fails(t)
				gives(t, g, nil)
			},
			"granted with a session": func(t *rapid.T) {
				g, began := drawn(t), &session{}
				began.id, began.record, _ = store.Sessions{}.Begin(auth.Session{Affiliation: auth.Member, Expires: g.At.Add(time.Hour)})
				fails(t)
				if gives(t, g, began) {
					if id, err := l.session(context.Background(), began); err != nil || id == "" {
						t.Fatalf("the session is %q, %v", id, err)
					}
					sessions++
				}
			},
			"a room begins": func(t *rapid.T) {
				g := who.Draw(t, "room")
				fails(t)
				gives(t, &muc.Grant{Room: g.Room, Who: g.Room, Affiliation: "temporary", At: g.At}, nil)
			},
			"a room ends": func(t *rapid.T) {
				g := who.Draw(t, "room")
				l.Ended(g.Room, g.Room)
				delete(live, grantKey(g.Room, g.Room))
			},
			"ended": func(t *rapid.T) {
				g := who.Draw(t, "grant")
				l.Ended(g.Room, g.Who)
				delete(live, grantKey(g.Room, g.Who))
			},
			"crossed out": func(*rapid.T) { l.cross(context.Background()) },
			"": func(t *rapid.T) {
				all, ending, people := l.all(), 0, 0
				for _, g := range live {
					if ofPerson(g) {
						people++
					}
				}
				for _, g := range all {
					want := live[grantKey(g.Room, g.Who)]
					by := grantedBy(want)
					if g.Affiliation != want.Affiliation || *g.by() != *by || !l.isLive(g) {
						t.Fatalf("live is %+v, must be %+v", g, want)
					}
					if e := l.endings.of[g]; (e != nil) == by.RemoveAt.IsZero() || e != nil && (e.step != stepTell || !e.at.Equal(by.RemoveAt.Add(-tellBefore))) {
						t.Fatalf("%+v ends by %+v", g, e)
					} else if e != nil {
						ending++
					}
				}
				if len(all) != people || len(l.endings.queue) != ending || len(l.endings.of) != ending {
					t.Fatalf("live are %v, must be %v; %d have an ending, %d are queued", all, live, ending, len(l.endings.queue))
				}
			},
		})
		s.fails(nil)
		l.cross(context.Background())
		if n := count(t, s, store.KindSession); n != sessions {
			t.Fatalf("%d sessions are written down, and %d people were told of one", n, sessions)
		}
		next := newLedger(s, zap.NewNop(), &counters{})
		written, err := next.written(context.Background())
		if n := len(next.all()); n != len(l.all()) {
			t.Fatalf("%d are live for the next process, %d for this one", n, len(l.all()))
		}
		if err != nil || len(written) != len(live) || len(l.ended) != 0 {
			t.Fatalf("%v; written %v, live %v", err, written, live)
		}
		for _, g := range written {
			want := live[grantKey(g.Room, g.Who)]
			if g.Affiliation != want.Affiliation || ofPerson(g) && !g.At.Equal(want.At) || !g.Expires.Equal(want.Expires) || g.NeedsHost != want.NeedsHost || !g.Room.Equal(want.Room) || !g.Who.Equal(want.Who) || !reflect.DeepEqual(grantedBy(g), grantedBy(want)) {
				t.Errorf("written %+v, live %+v", g, want)
			}
		}
	})
}

// Records of an earlier usher can be read.
func TestLedgerReadsOld(t *testing.T) {
	old := `{"Room":"r1@conference.meet.example.com","Who":"p1@meet.example.com","Affiliation":"member","At":"2026-11-01T10:00:00Z","Expires":"0001-01-01T00:00:00Z"}`
	want := grantOf(1, 1)
	want.At = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	if got, err := readGrant(grantKey(want.Room, want.Who), []byte(old)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// The same from many goroutines, while run deletes what has ended.
func TestLedgerFromMany(t *testing.T) {
	t.Parallel()
	l := newLedger(store.Memory(store.Options{}), zap.NewNop(), &counters{})
	ctx, cancel := context.WithCancel(t.Context())
	var running, people sync.WaitGroup
	running.Go(func() { l.run(ctx) })
	for who := range 8 { // each person's grants come one after the other
		people.Go(func() {
			for n := range 201 {
				if err := l.Granted(ctx, grantOf(n%2, who), nil); err != nil {
					t.Error(err)
				}
				if n < 200 {
					l.Ended(grantOf(n%2, who).Room, grantOf(n%2, who).Who)
				}
			}
		})
	}
	people.Wait()
	cancel()
	running.Wait()
	written, err := l.written(t.Context())
	if err != nil || len(written) != 8 {
		t.Fatalf("%v; %d are written, 8 are live", err, len(written))
	}
	for _, g := range written {
		if g.Room.Localpart() != "r0" {
			t.Errorf("%+v has ended", g)
		}
	}
}

// A record that cannot be read does not keep usher from starting, nor the others from being read.
func TestLedgerUnreadable(t *testing.T) {
	s := store.Memory(store.Options{})
	l := newLedger(s, zap.NewNop(), &counters{})
	for key, value := range map[string]string{
		"a@b c@d": "", "a@b d@e": "{", "a@b e@f": "[]", "a@b f@g": `{"At":1}`, "/ a@b": "{}", "a@b @": "{}", "b a@b": "{}", "a@b": "{}",
	} {
		if err := s.Put(t.Context(), store.Record{Kind: store.KindGrant, Key: key, Value: []byte(value), End: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Granted(t.Context(), grantOf(1, 1), nil); err != nil {
		t.Fatal(err)
	}
	if all, err := l.written(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
}

// tight is a store that is full for some kinds of records.
type tight struct {
	store.Store
	full  []store.Kind // "" stands for all, as on a full disk
	puts  int
	fails error
}

func (c *tight) Put(ctx context.Context, records ...store.Record) error {
	c.puts++
	if c.fails != nil {
		return c.fails
	}
	for _, r := range records {
		if slices.Contains(c.full, r.Kind) {
			return &store.FullError{Kind: r.Kind}
		}
	}
	if slices.Contains(c.full, "") {
		return &store.FullError{Err: errors.New("no space left on device")}
	}
	return c.Store.Put(ctx, records...)
}

// What the store has no room for is not written down, and the rest is. A grant and its session are one write. Nobody is refused
// because of it, and the log says so once.
func TestLedgerFull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		full           []store.Kind
		grant, session bool // are written down
		puts           int
	}{
		"room for all":  {grant: true, session: true, puts: 1},
		"of sessions":   {full: []store.Kind{store.KindSession}, grant: true, puts: 2},
		"of grants":     {full: []store.Kind{store.KindGrant}, session: true, puts: 2},
		"of both":       {full: []store.Kind{store.KindGrant, store.KindSession}, puts: 2},
		"the disk":      {full: []store.Kind{""}, puts: 1},
		"of held alone": {full: []store.Kind{store.KindHeld}, grant: true, session: true, puts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &tight{Store: store.Memory(store.Options{}), full: test.full}
			core, logs := observer.New(zap.WarnLevel)
			l := newLedger(s, zap.New(core), &counters{})
			id, r, err := store.Sessions{Store: s}.Begin(auth.Session{Room: "r0", Affiliation: auth.Member, Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			// What is written down of an earlier grant has ended.
			l.Ended(grantOf(0, 0).Room, grantOf(0, 0).Who)
			began := &session{id: id, record: r}
			g := grantOf(0, 0)
			if err := l.Granted(t.Context(), g, began); err != nil {
				t.Fatal(err)
			}
			got, err := l.session(t.Context(), began)
			if err != nil || (got == id) != test.session || (got != "") != test.session {
				t.Errorf("the session is %q, %v", got, err)
			}
			if s.puts != test.puts {
				t.Errorf("it took %d writes; want %d", s.puts, test.puts)
			}
			if n := count(t, s, store.KindGrant); (n == 1) != test.grant {
				t.Errorf("%d grants are written down", n)
			}
			if n := count(t, s, store.KindSession); (n == 1) != test.session {
				t.Errorf("%d sessions are written down", n)
			}
			if l.ended[grantKey(g.Room, g.Who)] == test.grant {
				t.Error("an earlier grant that has ended is not crossed out, or the new one is")
			}
			want := 0
			if !test.grant {
				want++
			}
			if !test.session {
				want++
			}
			for range 3 {
				if err := l.Granted(t.Context(), grantOf(0, 1), nil); err != nil {
					t.Fatal(err)
				}
			}
			if logs.Len() != want {
				t.Errorf("the log says %v", logs.All())
			}
			if n := l.counts.events[EventGrantsFull]; (n == 4) == test.grant {
				t.Errorf("%d grants were counted", n)
			}
		})
	}
}

// A session without a grant is written down alone.
func TestLedgerSessionAlone(t *testing.T) {
	s := &tight{Store: store.Memory(store.Options{})}
	l := newLedger(s, zap.NewNop(), &counters{})
	id, r, err := store.Sessions{Store: s}.Begin(auth.Session{Affiliation: auth.Member, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	s.fails = errors.New("bad sector")
	if got, err := l.session(t.Context(), &session{id: id, record: r}); err == nil {
		t.Errorf("the session is %q though it could not be written down", got)
	}
	s.fails = nil
	if got, err := l.session(t.Context(), &session{id: id, record: r}); err != nil || got != id || count(t, s, store.KindSession) != 1 {
		t.Errorf("the session is %q, %v", got, err)
	}
}
