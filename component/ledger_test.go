package component

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

func granted(room, who int) muc.Granted {
	return muc.Granted{
		Room: jid.MustParse(fmt.Sprintf("r%d@conference.meet.example.com", room)), Who: jid.MustParse(fmt.Sprintf("p%d@meet.example.com", who)),
		Affiliation: "member", At: time.Now().UTC(),
	}
}

// What is written down in the end is what is live, whatever was granted and has ended, in which order, also where the store
// could not be written meanwhile.
func TestLedgerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &refusing{Store: store.Memory(store.Options{})}
		l := newLedger(s, zap.NewNop(), &counters{})
		live := map[string]muc.Granted{}
		who := rapid.Custom(func(t *rapid.T) muc.Granted {
			return granted(rapid.IntRange(0, 1).Draw(t, "room"), rapid.IntRange(0, 2).Draw(t, "who"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"granted": func(t *rapid.T) {
				g := who.Draw(t, "grant")
				g.Affiliation = rapid.SampledFrom([]string{"owner", "member"}).Draw(t, "affiliation")
				if rapid.Bool().Draw(t, "expires") {
					g.Expires = g.At.Add(time.Hour)
				}
				g.NeedsHost = rapid.Bool().Draw(t, "needs a host")
				s.fails(rapid.SampledFrom([]error{nil, nil, errors.New("disk full")}).Draw(t, "error"))
				if err := l.Granted(context.Background(), g); (err != nil) != (s.failure() != nil) {
					t.Fatalf("got %v", err)
				} else if err == nil {
					live[grantKey(g.Room, g.Who)] = g
				}
			},
			"ended": func(t *rapid.T) {
				g := who.Draw(t, "grant")
				l.Ended(g.Room, g.Who)
				delete(live, grantKey(g.Room, g.Who))
			},
			"crossed out": func(*rapid.T) { l.cross(context.Background()) },
		})
		l.cross(context.Background())
		written, err := l.written(context.Background())
		if err != nil || len(written) != len(live) || len(l.ended) != 0 {
			t.Fatalf("%v; written %v, live %v", err, written, live)
		}
		for _, g := range written {
			want := live[grantKey(g.Room, g.Who)]
			if g.Affiliation != want.Affiliation || !g.At.Equal(want.At) || !g.Expires.Equal(want.Expires) || g.NeedsHost != want.NeedsHost || !g.Room.Equal(want.Room) || !g.Who.Equal(want.Who) {
				t.Errorf("written %+v, live %+v", g, want)
			}
		}
	})
}

// What an earlier usher wrote down is read.
func TestLedgerReadsOld(t *testing.T) {
	old := `{"Room":"r1@conference.meet.example.com","Who":"p1@meet.example.com","Affiliation":"member","At":"2026-11-01T10:00:00Z","Expires":"0001-01-01T00:00:00Z"}`
	want := granted(1, 1)
	want.At = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	if got, err := readGrant([]byte(old)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// The same from many goroutines, while run crosses out.
func TestLedgerFromMany(t *testing.T) {
	l := newLedger(store.Memory(store.Options{}), zap.NewNop(), &counters{})
	ctx, cancel := context.WithCancel(t.Context())
	var running, people sync.WaitGroup
	running.Go(func() { l.run(ctx) })
	for who := range 8 { // each person's grants come one after the other
		people.Go(func() {
			for n := range 201 {
				if err := l.Granted(ctx, granted(n%2, who)); err != nil {
					t.Error(err)
				}
				if n < 200 {
					l.Ended(granted(n%2, who).Room, granted(n%2, who).Who)
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
	for i, value := range []string{"", "{", "[]", `{"Room":"/","Who":"a@b"}`, `{"Room":"a@b","Who":"@"}`, `{"Room":1}`} {
		if err := s.Put(t.Context(), store.Record{Kind: store.KindGrant, Key: fmt.Sprint("odd", i), Value: []byte(value), End: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Granted(t.Context(), granted(1, 1)); err != nil {
		t.Fatal(err)
	}
	if all, err := l.written(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v %v", all, err)
	}
}
