package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

func outlives(c *Component) { c.o.Outlives = true }

// left returns the ids of the requests that are written down.
func left(t *testing.T, s store.Store) (ids []string) {
	t.Helper()
	for r, err := range s.All(context.Background(), store.KindHeld) {
		if err != nil {
			t.Fatal(err)
		}
		iq, err := readHeld(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, iq.ID)
	}
	slices.Sort(ids)
	return ids
}

func (s *server) wantLeft(want ...string) {
	s.t.Helper()
	slices.Sort(want)
	if got := left(s.t, s.c.o.Store); !slices.Equal(got, want) {
		s.t.Errorf("left are %v, want %v", got, want)
	}
}

// succeeds starts the next usher, which answers the requests that are left.
func (s *server) succeeds(want ...string) {
	s.t.Helper()
	next := newServer(s.t, outlives, func(c *Component) { c.o.Store, c.held.store, c.ledger.store = s.c.o.Store, s.c.o.Store, s.c.o.Store })
	l := next.connect()
	answers := l.plays(&playedRoom{})
	got := map[told]int{}
	for range want {
		select {
		case a := <-answers:
			got[a]++
		case <-time.After(patience):
			s.t.Fatalf("the next usher told %v, of %v", got, want)
		}
	}
	for _, id := range want {
		if got[told{id, "stopping"}] != 1 {
			s.t.Errorf("%s: told %v", id, got)
		}
	}
	next.eventually("nothing is written down", func() bool { return count(s.t, s.c.o.Store, store.KindHeld) == 0 })
	l.Close()
	nothingElse(s.t, answers)
}

// usher stops, and another is to come: usher answers neither held requests nor those that come until the server has closed the
// stream. The next usher answers them.
func TestLeftToTheNext(t *testing.T) {
	s, l, _, answers := holding(t, outlives)
	s.stop()
	s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
	l.asks("u", "late")
	l.send("<iq type='get' id='ping' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	l.asks("v", "later")
	l.send("</stream:stream>")
	s.logged("stopped")
	l.Close()
	nothingElse(t, answers)
	s.wantLeft("held", "late", "later", "ping")
	s.succeeds("held", "late", "later", "ping")
}

// When usher has no more time, requests in the queue or under way are left to the next usher. Without one that knows of them,
// their clients are told to ask again, and never that the room is not ready.
func TestStopLeavesWhatIsUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Component)
		stop   func(*server)
		left   bool
	}{
		"restarted":          {outlives, func(s *server) { s.stop() }, true},
		"taken away":         {outlives, func(s *server) { s.away() }, false},
		"nothing outlives":   {func(*Component) {}, func(s *server) { s.stop() }, false},
		"a second signal":    {func(c *Component) { outlives(c); c.stopTimeout = patience }, func(s *server) { s.stop(); s.c.Hurry(); s.c.Hurry() }, true},
		"two, nothing there": {func(c *Component) { c.stopTimeout = patience }, func(s *server) { s.stop(); s.c.Hurry() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(c *Component) { c.stopTimeout = 50 * time.Millisecond }, tt.change)
			l, room := s.connect(), &playedRoom{}
			room.silent.Store(true)
			answers := l.plays(room)
			ids := []string{"0", "1", "2"}
			for _, id := range ids { // one is under way, the others wait for their turn
				l.asks("u", id)
			}
			s.underWay(1, 2)
			tt.stop(s)
			if tt.left {
				s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
				l.send("</stream:stream>")
				s.logged("stopped")
				l.Close()
				nothingElse(t, answers)
				s.wantLeft(ids...)
				s.succeeds(ids...)
				return
			}
			got := map[told]int{}
			for range ids {
				got[<-answers]++
			}
			if want := map[told]int{{"0", "stopping"}: 1, {"1", "stopping"}: 1, {"2", "stopping"}: 1}; !maps.Equal(got, want) {
				t.Errorf("told %v", got)
			}
			l.Close()
			s.logged("stopped")
			s.wantLeft()
		})
	}
}

// usher is taken away: held requests are answered first. Only a request that comes too late for that is left.
func TestTakenAway(t *testing.T) {
	s, l, _, answers := holding(t)
	s.c.o.Outlives = true
	s.away()
	s.told(answers, told{"held", "stopping"})
	s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
	l.asks("u", "late")
	l.send("</stream:stream>")
	s.logged("stopped")
	l.Close()
	nothingElse(t, answers)
	s.wantLeft("late")
}

// usher told twice to stop does not wait for a server that does not close its stream.
func TestHurry(t *testing.T) {
	s := newServer(t, outlives, func(c *Component) { c.stopTimeout = 10 * patience })
	l := s.connect()
	l.asks("u", "first")
	s.logged("connected")
	s.stop()
	s.c.Hurry()
	s.logged("stopped")
}

// Answers that are owed because the link was cut are left to the next usher, if there is no link until usher stops.
func TestOwedIsLeft(t *testing.T) {
	s := newServer(t, outlives)
	l, room := s.connect(), &playedRoom{}
	room.silent.Store(true)
	answers := l.plays(room)
	l.asks("u", "1")
	l.asks("u", "2")
	s.underWay(1, 1)
	l.send("<iq type='result' id='x' from='u@guest.example.com/r' to='focus.meet.example.com'/>")
	l.Close()
	nothingElse(t, answers)
	silent := s.accept() // and no handshake
	silent.Close()
	s.stop()
	s.logged("stopped")
	s.wantLeft("1", "2")
	s.succeeds("1", "2")
}

// usher is told to stop during the handshake. The server may take it for connected already, and send requests.
func TestStopInTheHandshake(t *testing.T) {
	s := newServer(t, outlives)
	l := s.accept()
	l.next("stream")
	l.send(header)
	l.next("handshake")
	s.stop()
	l.send("<handshake/>")
	l.asks("u", "1")
	l.asks("u", "2")
	l.send("</stream:stream>")
	s.logged("stopped")
	s.wantLeft("1", "2")
}

// A store that several ushers share loses its records, and usher stops, or is replaced: what it holds is left to the next usher.
func TestLeftInAStoreThatLostAll(t *testing.T) {
	for name, stop := range map[string]func(s *server){
		"stopped":  func(s *server) { s.stop() },
		"replaced": func(s *server) { s.lose() },
	} {
		t.Run(name, func(t *testing.T) {
			s, l, _, answers := holding(t, outlives, func(c *Component) { c.shared = true })
			s.wantLeft("held")
			var keys []string
			for r, err := range s.c.o.Store.All(t.Context(), store.KindHeld) {
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, r.Key)
			}
			if err := s.c.o.Store.Delete(t.Context(), store.KindHeld, keys...); err != nil {
				t.Fatal(err)
			}
			s.wantLeft()
			stop(s)
			s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
			_, _ = io.WriteString(l, "</stream:stream>") // usher may be gone
			s.logged("stopped")
			l.Close()
			nothingElse(t, answers)
			s.wantLeft("held")
			s.succeeds("held")
		})
	}
}

// busy is a store that fails twice at each kind of write from some moment on.
type busy struct {
	store.Store
	now                 atomic.Bool
	puts, adds, appends atomic.Int64
}

func (b *busy) fails(n *atomic.Int64) error {
	if b.now.Load() && n.Add(1) <= 2 {
		return errors.New("too busy")
	}
	return nil
}

func (b *busy) Put(ctx context.Context, records ...store.Record) error {
	if err := b.fails(&b.puts); err != nil {
		return err
	}
	return b.Store.Put(ctx, records...)
}

func (b *busy) Add(ctx context.Context, r store.Record) (there store.Record, added bool, err error) {
	if err := b.fails(&b.adds); err != nil {
		return store.Record{}, false, err
	}
	return b.Store.Add(ctx, r)
}

func (b *busy) Append(ctx context.Context, e store.Event) error {
	if err := b.fails(&b.appends); err != nil {
		return err
	}
	return b.Store.Append(ctx, e)
}

// A machine that has too much to do delays usher until another one takes its place, and it delays the store as well. What usher cannot
// write down at once is not lost, because this process lives on.
func TestReplacedWhileTheStoreIsBusy(t *testing.T) {
	b := &busy{}
	s, l, _, answers := holding(t, outlives, func(c *Component) {
		c.shared, c.stopTimeout, c.storeAgain = true, patience, time.Millisecond
		b.Store, c.held.store, c.o.Store = c.o.Store, b, b
	})
	b.now.Store(true)
	s.lose()
	s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
	l.asks("v", "late")
	l.Close()
	nothingElse(t, answers)
	s.logged("stopped")
	s.wantLeft("held", "late")
	for what, n := range map[string]*atomic.Int64{"the late one is written down": &b.puts, "the held one": &b.adds, "the other usher is told": &b.appends} {
		if n.Load() < 3 {
			t.Errorf("%s after %d attempts", what, n.Load())
		}
	}
	s.succeeds("held", "late")
}

// A request that cannot be written down ends without an answer, and the log says so.
func TestLeftInVain(t *testing.T) {
	s := newServer(t, outlives)
	l := s.connect()
	s.logged("connected")
	broken := &refusing{Store: s.c.o.Store}
	broken.fails(errors.New("disk full"))
	s.c.held.store = broken
	s.stop()
	s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
	l.asks("u", "1")
	l.send("</stream:stream>")
	e := s.logged("requests end without an answer: usher could neither send one nor write them down for the next usher")
	if n := e.ContextMap()["requests"]; n != int64(1) {
		t.Errorf("%v requests", n)
	}
}

// A request that cannot be written down is answered as long as there is a stream.
func TestStopWithABrokenStore(t *testing.T) {
	broken := &refusing{}
	s := newServer(t, outlives, func(c *Component) {
		broken.Store, c.held.store, c.stopTimeout = c.o.Store, broken, 50*time.Millisecond
	})
	l, room := s.connect(), &playedRoom{}
	room.silent.Store(true)
	answers := l.plays(room)
	l.asks("u", "1")
	s.underWay(1, 0)
	broken.fails(errors.New("disk full"))
	s.stop()
	s.told(answers, told{"1", "stopping"})
	l.Close()
	nothingElse(t, answers)
	s.logged("stopped")
	s.wantLeft()
}

// A sender who asks all the time while usher stops does not use up what others need: only some of the sender's requests are left.
func TestFloodWhileStopping(t *testing.T) {
	s := newServer(t, outlives)
	l := s.connect()
	s.logged("connected")
	s.stop()
	s.eventually("the stream is closed", func() bool { return s.c.Send(stanza.Message{To: theRoom}.Wrap(nil)) != nil })
	for i := range 100 {
		l.asks("flood", fmt.Sprint("flood", i))
	}
	l.asks("long", strings.Repeat("x", maxOwedID+1))
	l.asks("u", "1")
	l.send("</stream:stream>")
	e := s.logged("requests end without an answer: usher could neither send one nor write them down for the next usher")
	if n := e.ContextMap()["requests"]; n != int64(100-owedPerSender+1) {
		t.Errorf("%v requests are lost", n)
	}
	s.logged("stopped")
	// Which of the sender's are left is open, because those that find no place end at once, and others wait for their turn.
	got := left(t, s.c.o.Store)
	floods := 0
	for _, id := range slices.Compact(slices.Clone(got)) {
		if strings.HasPrefix(id, "flood") {
			floods++
		}
	}
	if floods != owedPerSender || len(got) != owedPerSender+1 || !slices.Contains(got, "1") {
		t.Errorf("left are %v, want 1 and %d different ones of the flood", got, owedPerSender)
	}
}

// Grants that end at the same time as the connection are deleted from the store.
func TestEndedLate(t *testing.T) {
	s := newServer(t, outlives)
	l := s.connect()
	s.eventually("connected", func() bool { return s.c.work.Load() != nil })
	w := s.c.work.Load()
	who := func(i int) jid.JID { return jid.MustParse(fmt.Sprintf("u%d@guest.example.com", i)) }
	err := w.push("a", func(ctx context.Context) {
		<-ctx.Done()
		for i := range 1000 { // until nobody crosses out any more
			if err := s.c.ledger.Granted(context.Background(), &muc.Grant{Room: theRoom, Who: who(i), Affiliation: "member", At: time.Now()}, nil); err != nil {
				t.Error(err)
			}
			s.c.ledger.Ended(theRoom, who(i))
			<-time.After(time.Millisecond)
			if count(t, s.c.o.Store, store.KindGrant) > 3 {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s.logged("no connection")
	if n := count(t, s.c.o.Store, store.KindGrant); n != 0 {
		t.Errorf("%d grants that have ended are written down", n)
	}
}
