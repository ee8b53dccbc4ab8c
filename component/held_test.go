package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/pkg/element"
)

// waiting is a request of a person for a room.
func waiting(sender, room string, until time.Time) *waiter {
	d := auth.Decision{Room: auth.Room{JID: jid.MustParse(room + "@conference.meet.example.com")}}
	from := jid.MustParse(sender + "@guest.example.com/r")
	return &waiter{
		request: request{
			from: from, client: iqClient{iq: stanza.IQ{ID: "1", Type: stanza.SetIQ, From: from, To: ours}}, conf: focus.Conference{Token: "x.y.z"},
		},
		d: d.Waiting(auth.ReasonHostAbsent), until: until,
	}
}

// refusing is a store that fails when told so.
type refusing struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (r *refusing) fails(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *refusing) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *refusing) Put(ctx context.Context, records ...store.Record) error {
	if err := r.failure(); err != nil {
		return err
	}
	return r.Store.Put(ctx, records...)
}

// count is how many records of a kind there are.
func count(t interface{ Fatal(...any) }, s store.Store, k store.Kind) int {
	n := 0
	for _, err := range s.All(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// In every order of events a held request is taken out once and none is lost. The counts and the store agree with the requests that are
// held.
func TestHeldModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &refusing{Store: store.Memory(store.Options{})}
		h := newHeld(s)
		now := time.Unix(1e9, 0).Add(100 * 365 * 24 * time.Hour) // of held alone; the store has the machine's clock
		living := map[*waiter]bool{}
		owed := map[*waiter]bool{}
		out := func(r *waiter) {
			if !living[r] && !owed[r] {
				t.Fatalf("%s was taken out a second time", r.from)
			}
			delete(living, r)
			delete(owed, r)
			_ = s.Delete(context.Background(), store.KindHeld, r.key)
		}
		names := rapid.SampledFrom([]string{"a", "b", "c"})
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				hold := rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(t, "hold")
				r := waiting(names.Draw(t, "sender"), names.Draw(t, "room"), now.Add(hold))
				of := 0
				for other := range living {
					if other.from.Equal(r.from) {
						of++
					}
				}
				s.fails(rapid.SampledFrom([]error{nil, nil, nil, errors.New("full")}).Draw(t, "error"))
				want := of < heldPerSender && s.failure() == nil
				if got := h.hold(context.Background(), r); got != want {
					t.Fatalf("hold: %v, with %d of the sender held", got, of)
				}
				if want {
					living[r] = true
				}
			},
			"take": func(t *rapid.T) {
				for r := range living {
					if !h.take(r) || h.take(r) {
						t.Fatal("not to be taken, or twice")
					}
					if out(r); rapid.Bool().Draw(t, "not sent") {
						of := 0
						for other := range owed {
							if other.from.Equal(r.from) {
								of++
							}
						}
						if h.owe(r); of < owedPerSender {
							owed[r] = true
						}
					}
					return
				}
			},
			"call": func(t *rapid.T) {
				room := jid.MustParse(names.Draw(t, "room") + "@conference.meet.example.com")
				for _, r := range h.call(room) {
					if !living[r] || !r.d.Room.JID.Equal(room) {
						t.Fatal("called, and not held")
					}
				}
				if again := h.call(room); len(again) > 0 {
					t.Fatal("called twice")
				}
			},
			"admit": func(t *rapid.T) {
				by := waiting(names.Draw(t, "sender"), names.Draw(t, "room"), now)
				var decided *waiter // a held request that was decided again, if any
				for r := range living {
					if r.from.Equal(by.from) && r.room() == by.room() && rapid.Bool().Draw(t, "decided") {
						decided = r
					}
				}
				if decided != nil {
					h.take(decided)
					out(decided)
				}
				last := uint64(0)
				for _, r := range h.older(by.from, by.d.Room.JID, decided) {
					if r.room() != by.room() || !r.from.Equal(by.from) || decided != nil && r.number > decided.number || r.number <= last {
						t.Fatalf("%d of %s in %s", r.number, r.from, r.room())
					}
					last = r.number
					out(r)
				}
				for r := range living {
					if r.room() == by.room() && r.from.Equal(by.from) && (decided == nil || r.number < decided.number) {
						t.Fatal("left behind")
					}
				}
			},
			"over": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
				for _, r := range h.over(now) {
					if living[r] && now.Before(r.until) {
						t.Fatal("too early")
					}
					out(r)
				}
				for r := range living {
					if !now.Before(r.until) {
						t.Fatal("its time is over, and it is held")
					}
				}
				if len(owed) > 0 {
					t.Fatal("owed, and not given")
				}
			},
			"": func(t *rapid.T) {
				senders, rooms, bytes := map[string]int{}, map[string]int{}, 0
				for r := range living {
					senders[r.from.Bare().String()]++
					rooms[r.room()]++
					bytes += r.size()
				}
				to := 0
				for _, n := range h.owedTo {
					to += n
				}
				if len(h.owed) != len(owed) || to != len(owed) {
					t.Fatalf("owed to %d, and %d by sender, want %d", len(h.owed), to, len(owed))
				}
				if h.n != len(living) || h.bytes != bytes || len(h.senders) != len(senders) || len(h.rooms) != len(rooms) {
					t.Fatalf("counts %d, %d bytes, %v, %d rooms; held are %d", h.n, h.bytes, h.senders, len(h.rooms), len(living))
				}
				for sender, n := range senders {
					if h.senders[sender] != n {
						t.Fatalf("%s: %d, want %d", sender, h.senders[sender], n)
					}
				}
				for room, n := range rooms {
					if len(h.rooms[room]) != n {
						t.Fatalf("%s: %d, want %d", room, len(h.rooms[room]), n)
					}
				}
				if len(h.order) != h.n {
					t.Fatalf("%d are in order of %d", len(h.order), h.n)
				}
				if n := count(t, s, store.KindHeld); n != len(living) {
					t.Fatalf("%d are written down, %d held", n, len(living))
				}
			},
		})
		for _, r := range h.over(time.Time{}) {
			out(r)
		}
		if len(living)+len(owed) > 0 || h.n != 0 || len(h.order) != 0 {
			t.Fatalf("%d were never answered", len(living)+len(owed))
		}
	})
}

// Over each bound no request is held, until one is taken out.
func TestHeldBounds(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	h := newHeld(store.Memory(store.Options{}))
	hold := func(sender, room string, size int) *waiter {
		r := waiting(sender, room, until)
		r.conf.Token = ""
		r.conf.Token = strings.Repeat("x", max(0, size-r.size()))
		if !h.hold(t.Context(), r) {
			return nil
		}
		return r
	}
	for name, tt := range map[string]struct {
		most int
		hold func(i int) *waiter
	}{
		"sender": {heldPerSender, func(i int) *waiter { return hold("a", fmt.Sprint("r", i), 1) }},
		"room":   {heldPerRoom, func(i int) *waiter { return hold(fmt.Sprint("s", i), "r", 1) }},
		"all":    {heldAtAll, func(i int) *waiter { return hold(fmt.Sprint("s", i), fmt.Sprint("r", i/1000), 1) }},
		"bytes":  {heldBytes / maxRequest, func(i int) *waiter { return hold(fmt.Sprint("s", i), fmt.Sprint("r", i/1000), maxRequest) }},
	} {
		t.Run(name, func(t *testing.T) {
			h = newHeld(store.Memory(store.Options{}))
			var first *waiter
			for i := range tt.most {
				r := tt.hold(i)
				if r == nil {
					t.Fatalf("refused at %d", i)
				}
				if first == nil {
					first = r
				}
			}
			if tt.hold(tt.most) != nil {
				t.Fatal("over the bound")
			}
			if !h.take(first) || tt.hold(tt.most) == nil {
				t.Error("a request is refused although one was taken out")
			}
		})
	}
}

// The bound on bytes counts the ids of requests as well: clients choose them.
func TestHeldBoundsIDs(t *testing.T) {
	t.Parallel()
	const size = maxRequest / 2
	h, n := newHeld(store.Memory(store.Options{MaxBytes: store.MaxBytes})), 0
	for i := range heldBytes/size + 1 {
		r := waiting(fmt.Sprint("s", i), fmt.Sprint("r", i/1000), time.Now().Add(time.Hour))
		r.client = iqClient{iq: stanza.IQ{ID: strings.Repeat("i", size), From: r.from, To: ours}}
		if h.hold(t.Context(), r) {
			n++
		}
	}
	if n > heldBytes/size {
		t.Errorf("%d requests with ids of %d bytes are held", n, size)
	}
}

// usher remembers a client that was told to wait for the time of remembered, and at most twice as long. An attacker's address costs a few
// bytes.
func TestTold(t *testing.T) {
	h := newHeld(nil)
	now := time.Now()
	ann, bob := jid.MustParse("ann@guest.example.com/r"), jid.MustParse("bob@guest.example.com/r")
	if h.again(ann, theRoom, now) || !h.again(ann, theRoom, now.Add(remembered)) || h.again(bob, theRoom, now) {
		t.Error("the second time is the second, of each")
	}
	if h.again(ann, theRoom, now.Add(remembered*10)) {
		// Two generations, and each is dropped when the next begins.
		if h.again(bob, theRoom, now.Add(remembered*20)) {
			t.Error("known for ever")
		}
	}
	long := strings.Repeat("x", 1000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 3 * rememberedAtMost {
		h.again(ann, jid.NewUnsafe(fmt.Sprint(long, i), "conference.meet.example.com", "").JID, now.Add(11*remembered))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(h.waiting)+len(h.waitingOld) > 2*rememberedAtMost || int64(after.HeapAlloc)-int64(before.HeapAlloc) > 16<<20 {
		t.Errorf("%d are known, in %d more bytes", len(h.waiting)+len(h.waitingOld), int64(after.HeapAlloc)-int64(before.HeapAlloc))
	}
	runtime.KeepAlive(h)
}

// playedRoom is what a server in the hands of a test says of all rooms.
type playedRoom struct {
	silent atomic.Bool // says nothing
	host   atomic.Bool // a host is inside
}

// told is an answer that usher gives: the reason code if it is an error, else what ready is.
type told struct{ id, outcome string }

// plays has the server answer what it is asked, as a server with an empty room does, and returns what usher tells others. It
// ends with the connection, and closes the channel.
func (l *link) plays(room *playedRoom) <-chan told {
	all := make(chan told, 1000)
	go func() {
		defer close(all)
		var answer *told
		for {
			tok, err := l.in.Token()
			if err != nil {
				return
			}
			start, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			switch typ := element.Attr(start, "type"); {
			case start.Name.Local == "iq" && (typ == "get" || typ == "set"):
				if room.silent.Load() {
					continue
				}
				moderator := ""
				if room.host.Load() {
					moderator = "<item nick='host' role='moderator' affiliation='owner' jid='host@meet.example.com/r'/>"
				}
				_, _ = fmt.Fprintf(l, "<iq type='result' id='%s' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/muc#admin'>%s</query></iq>",
					element.Attr(start, "id"), element.Attr(start, "to"), element.Attr(start, "from"), moderator)
			case start.Name.Local == "iq":
				answer = &told{id: element.Attr(start, "id")}
			case start.Name.Local == "conference" && answer != nil:
				answer.outcome = "ready=" + element.Attr(start, "ready")
				all <- *answer
			case start.Name.Local == "reason" && answer != nil:
				answer.outcome = element.Attr(start, "code")
				all <- *answer
			}
		}
	}()
	return all
}

func (l *link) asks(from, id string) {
	l.t.Helper()
	l.send(fmt.Sprintf("<iq type='set' id='%s' from='%s@guest.example.com/r' to='focus.meet.example.com'>"+
		"<conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/></iq>", id, from))
}

// told waits for the next answer.
func (s *server) told(all <-chan told, want told) {
	s.t.Helper()
	select {
	case got, ok := <-all:
		if got != want {
			s.t.Errorf("got %+v %t, want %+v", got, ok, want)
		}
	case <-time.After(patience):
		s.t.Fatalf("nothing was told, not %+v", want)
	}
}

func (s *server) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("did not happen: %s", what)
		}
	}
}

// underWay waits until so many requests are being decided, and so many wait for their turn.
func (s *server) underWay(active, waiting int) {
	s.t.Helper()
	s.eventually("requests are under way", func() bool {
		q := s.c.work.Load()
		if q == nil {
			return false
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.active == active && q.waiting == waiting
	})
}

func (h *held) length() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n
}

// written returns how many are held and written down: only these are decided again when a host arrives.
func (h *held) written() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, all := range h.rooms {
		for _, written := range all {
			if written {
				n++
			}
		}
	}
	return n
}

// waitHold is how long requests are held, by usher's clock: longer than a test takes.
const waitHold = 10 * time.Minute

// holding is a server, and usher beside it with a request held that has the id "held".
func holding(t *testing.T, change ...func(*Component)) (*server, *link, *playedRoom, <-chan told) {
	t.Helper()
	s := newServer(t, append(change, func(c *Component) { c.o.WaitHold = waitHold })...)
	l, room := s.connect(), &playedRoom{}
	answers := l.plays(room)
	l.asks("u", "first")
	s.told(answers, told{"first", "host-absent"})
	l.asks("u", "held")
	s.eventually("the request is held", func() bool { return s.c.held.written() == 1 })
	return s, l, room, answers
}

func nothingElse(t *testing.T, answers <-chan told) {
	t.Helper()
	for got := range answers {
		t.Errorf("told also %+v", got)
	}
}

// The stream is cut while a request is held: it stays held, and is answered once when its time is over.
func TestHeldOverAReconnection(t *testing.T) {
	s, l, room, answers := holding(t)
	l.Close()
	nothingElse(t, answers)
	l = s.connect()
	answers = l.plays(room)
	s.logged("connected")
	if s.c.held.length() != 1 {
		t.Error("not held any more")
	}
	s.forward(waitHold)
	s.told(answers, told{"held", "host-absent"})
	s.eventually("nothing is written down", func() bool { return count(t, s.c.o.Store, store.KindHeld) == 0 })
	l.Close()
	nothingElse(t, answers)
}

// The hold ends while there is no stream: the request is answered on the next one.
func TestHeldUntilThereIsNoStream(t *testing.T) {
	s, l, room, answers := holding(t)
	l.Close()
	nothingElse(t, answers)
	silent := s.accept() // and no handshake for a while
	s.forward(waitHold)
	if len(s.c.held.orderOver(s.now())) != 1 {
		t.Error("its time is not over")
	}
	silent.Close()
	l = s.connect()
	answers = l.plays(room)
	s.told(answers, told{"held", "host-absent"})
	l.Close()
	nothingElse(t, answers)
}

// orderOver is what over would return, and nothing is taken out.
func (h *held) orderOver(now time.Time) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*waiter
	for _, r := range h.order {
		if !now.Before(r.until) {
			all = append(all, r)
		}
	}
	return all
}

// A host has come, and the stream is cut before the held request is decided: it is answered on the next stream.
func TestReleasedOverAReconnection(t *testing.T) {
	s, l, room, answers := holding(t)
	room.silent.Store(true)
	s.underWay(0, 0)
	s.c.arrived(theRoom)
	s.eventually("it is held no more", func() bool { return s.c.held.length() == 0 })
	s.underWay(1, 0)
	l.Close()
	nothingElse(t, answers)
	room.silent.Store(false)
	l = s.connect()
	answers = l.plays(room)
	s.told(answers, told{"held", "ready=false"})
	s.eventually("nothing is written down", func() bool { return count(t, s.c.o.Store, store.KindHeld) == 0 })
	l.Close()
	nothingElse(t, answers)
}

// The stream is cut while requests are decided: on the next stream their clients are told to ask again.
func TestRequestsOverAReconnection(t *testing.T) {
	for name, end := range map[string]func(*link){
		"cut":           func(l *link) { l.Close() },
		"in good order": func(l *link) { l.send("</stream:stream>") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			l, room := s.connect(), &playedRoom{}
			room.silent.Store(true)
			answers := l.plays(room)
			for i := range 6 { // one is under way, the others wait for their turn
				l.asks("u", fmt.Sprint(i))
			}
			s.underWay(1, 5)
			l.send("<iq type='result' id='x' from='u@guest.example.com/r' to='focus.meet.example.com'/>")
			end(l)
			if name != "cut" {
				s.logged("no connection")
				l.Close()
			}
			nothingElse(t, answers)
			room.silent.Store(false)
			l = s.connect()
			answers = l.plays(room)
			seen := map[told]bool{}
			for range 6 {
				select {
				case got := <-answers:
					if got.outcome != "ready=false" || seen[got] {
						t.Errorf("%+v, seen before: %t", got, seen[got])
					}
					seen[got] = true
				case <-time.After(patience):
					t.Fatalf("told only %v", seen)
				}
			}
			l.asks("u", "again")
			s.told(answers, told{"again", "host-absent"})
			l.Close()
			nothingElse(t, answers)
		})
	}
}

// usher stops: the client of a held request is told to ask again, and the store is empty.
func TestStopWhileHeld(t *testing.T) {
	s, l, _, answers := holding(t)
	s.stop()
	s.told(answers, told{"held", "stopping"})
	l.send("</stream:stream>")
	s.logged("stopped")
	if n := count(t, s.c.o.Store, store.KindHeld); n != 0 {
		t.Errorf("%d are written down", n)
	}
	nothingElse(t, answers)
}

// usher answers a request that is still being decided when it has no more time to stop.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	s := newServer(t, func(c *Component) { c.stopTimeout = 50 * time.Millisecond })
	l, room := s.connect(), &playedRoom{}
	room.silent.Store(true)
	answers := l.plays(room)
	l.asks("u", "1")
	s.underWay(1, 0)
	s.stop()
	s.told(answers, told{"1", "stopping"})
	l.send("</stream:stream>")
}

// A request that cannot be written down is answered at once, and so is every request if none are held.
func TestNotHeld(t *testing.T) {
	broken := &refusing{Store: store.Memory(store.Options{})}
	broken.fails(errors.New("disk full"))
	for name, change := range map[string]func(*Component){
		"store fails": func(c *Component) { c.o.WaitHold, c.held.store = time.Minute, broken },
		"off":         func(c *Component) { c.o.WaitHold = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, change)
			l, room := s.connect(), &playedRoom{}
			answers := l.plays(room)
			for _, id := range []string{"1", "2", "3"} {
				l.asks("u", id)
				s.told(answers, told{id, "host-absent"})
			}
			if s.c.held.length() != 0 {
				t.Error("held")
			}
		})
	}
}

// The queue is full when a host comes: a request that finds no place is not lost, and its client is told to ask again.
func TestReleasedIntoAFullQueue(t *testing.T) {
	s, _, _, answers := holding(t)
	began, busy := make(chan struct{}), make(chan struct{})
	defer close(busy)
	q := s.c.work.Load()
	if err := q.push("u@guest.example.com", func(context.Context) { close(began); <-busy }); err != nil {
		t.Fatal(err)
	}
	<-began // else there is a place again once it does
	for q.push("u@guest.example.com", func(context.Context) { <-busy }) == nil {
	}
	s.c.arrived(theRoom)
	s.told(answers, told{"held", "host-absent"})
	s.eventually("nothing is written down", func() bool { return count(t, s.c.o.Store, store.KindHeld) == 0 })
}

// A held request that is decided again has less time than a new one: its client has waited already.
func TestReleasedHasLessTime(t *testing.T) {
	s, _, room, answers := holding(t, func(c *Component) { c.requestTimeout = time.Hour })
	s.c.held.mu.Lock()
	for r := range s.c.held.rooms[theRoom.String()] {
		r.came = r.came.Add(100*time.Millisecond - r.hold - afterHold)
	}
	s.c.held.mu.Unlock()
	room.silent.Store(true)
	s.c.arrived(theRoom)
	s.told(answers, told{"held", "ready=false"})
}
