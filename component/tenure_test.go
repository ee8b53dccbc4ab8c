package component_test

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// dealer is a server that knows no conflict, as ejabberd does: it lets every usher connect, and deals requests to them by turns. An
// answer goes to the usher that asked, and all else to the one that is at home.
type dealer struct {
	t  *testing.T
	l  net.Listener
	up *prosodytest.Client // the component's connection to the real server

	mu    sync.Mutex
	seats []*seat
	turn  int
	home  int
	asked map[string]*seat // by the id of the question
}

// seat is the connection of one usher.
type seat struct {
	conn net.Conn
	mu   sync.Mutex
	said []string // what the usher has sent
}

const dealerHeader = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='" + domain + "' id='1'>"

// newDealer connects to the server in the place of an usher.
func newDealer(t *testing.T, server *prosodytest.Server) *dealer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dealer{t: t, l: l, up: server.Component(t, domain, componentSecret), asked: make(map[string]*seat)}
	var done sync.WaitGroup
	done.Go(func() { d.accept(&done) })
	ctx, cancel := context.WithCancel(context.Background())
	done.Go(func() { d.deal(ctx) })
	t.Cleanup(func() {
		cancel()
		l.Close()
		d.mu.Lock()
		for _, s := range d.seats {
			s.conn.Close()
		}
		d.mu.Unlock()
		done.Wait()
	})
	return d
}

func (d *dealer) accept(done *sync.WaitGroup) {
	for {
		conn, err := d.l.Accept()
		if err != nil {
			return
		}
		done.Go(func() { d.serve(&seat{conn: conn}) })
	}
}

// until reads until the text has come.
func (s *seat) until(text string) bool {
	var read []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(read), text); read = append(read, one...) {
		if _, err := s.conn.Read(one); err != nil {
			return false
		}
	}
	return true
}

// serve does the handshake, and passes on what the usher says.
func (d *dealer) serve(s *seat) {
	defer s.conn.Close()
	if !s.until("<stream:stream ") || !s.until(">") {
		return
	}
	fmt.Fprint(s.conn, dealerHeader)
	if !s.until("</handshake>") {
		return
	}
	d.mu.Lock()
	fmt.Fprint(s.conn, "<handshake/>")
	d.seats = append(d.seats, s)
	d.mu.Unlock()
	_ = stream.New(s.conn, jid.MustParse(domain)).Receive(func(st stream.Stanza) {
		s.mu.Lock()
		s.said = append(s.said, string(st.Raw))
		s.mu.Unlock()
		if typ := st.Attr("type"); typ == "get" || typ == "set" { // an usher also answers, and an answer has the id of its question
			d.mu.Lock()
			d.asked[st.Attr("id")] = s
			d.mu.Unlock()
		}
		_ = d.up.Send(string(st.Raw)) // fails when the test ends
	}, func(any) {})
}

// deal passes on what the server says.
func (d *dealer) deal(ctx context.Context) {
	for {
		s, err := d.up.Next(ctx)
		if err != nil {
			return
		}
		d.mu.Lock()
		if to := d.goesTo(s); to != nil {
			fmt.Fprint(to.conn, strings.Replace(s.String(), " xmlns='"+s.NS+"'", "", 1)) // which is the stream's
		}
		d.mu.Unlock()
	}
}

// goesTo returns the seat for a stanza. The caller holds mu.
func (d *dealer) goesTo(s prosodytest.Stanza) *seat {
	typ := s.Attr["type"]
	switch n := len(d.seats); {
	case n == 0:
		return nil
	case s.Name == "iq" && typ == "set":
		d.turn++
		return d.seats[(d.turn-1)%n]
	case s.Name == "iq" && typ != "get":
		return d.asked[s.Attr["id"]]
	default:
		return d.seats[d.home%n]
	}
}

// seat returns the nth connection.
func (d *dealer) seat(n int) *seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seats[n]
}

// leaves removes the nth connection, which ends by that.
func (d *dealer) leaves(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seats[n].conn.Close()
	d.seats = slices.Delete(d.seats, n, n+1)
}

// next has the next request go to the nth connection, at which the rooms find the component from now on.
func (d *dealer) next(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn, d.home = n, n
}

// ready returns how often the usher has told somebody ready.
func (s *seat) ready() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.said {
		if strings.Contains(x, "<conference ") && (strings.Contains(x, `ready="true"`) || strings.Contains(x, "ready='true'")) {
			n++
		}
	}
	return n
}

// gives returns how often the usher has changed an affiliation.
func (s *seat) gives() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.said {
		if strings.Contains(x, "http://jabber.org/protocol/muc#admin") && strings.Contains(x, "affiliation=") && strings.Contains(x, `"set"`) {
			n++
		}
	}
	return n
}

// tenure is an usher's turn at being the active one, in the hands of a test.
type tenure struct {
	held, gone atomic.Bool

	mu     sync.Mutex
	left   int           // how often an admission may still ask whether the tenure is held, before the process freezes; negative for ever
	frozen chan struct{} // closed when it is
	thaw   chan struct{}
}

func newTenure() *tenure {
	t := &tenure{left: -1, frozen: make(chan struct{}), thaw: make(chan struct{})}
	t.held.Store(true)
	return t
}

// holds reports whether the tenure is held; in an admission it may be frozen before it can tell.
func (t *tenure) holds() bool {
	held := t.held.Load()
	stack := string(debug.Stack())
	if !strings.Contains(stack, "(*Component).admit(") && !strings.Contains(stack, "(*ledger).begin") { // pings, for example, ask as well
		return held
	}
	t.mu.Lock()
	freezes := t.left == 0
	t.left--
	t.mu.Unlock()
	if freezes {
		close(t.frozen)
		<-t.thaw
	}
	return held
}

// freezesAfter freezes the process when it has been asked n times.
func (t *tenure) freezesAfter(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = n
}

// tenures starts an usher with a tenure, which the dealer lets in. The usher stays: else one that is not the active one would leave
// when its pings have no answer for a while.
func (g *gate) tenures(d *dealer, kept store.Store, t *tenure) {
	g.t.Helper()
	g.setup.options = func(o *component.Options) {
		o.Server, o.Outlives = d.l.Addr().String(), true
		o.Store, o.Holds, o.Gone = store.Fenced(kept, t.holds), t.holds, t.gone.Load
	}
	g.setup.tune = func(c *component.Component) { c.Patient() }
	g.run()
}

// dealt starts a server that lets every usher in, with one that is active.
func dealt(t *testing.T) (g *gate, d *dealer, first *tenure) {
	t.Helper()
	g = start(t)
	g.halt()
	g.reports.several = true
	d, first = newDealer(t, g.Server), newTenure()
	g.tenures(d, g.store, first)
	return g, d, first
}

// TestOnlyTheHolderAdmits: where the server lets two ushers in and deals requests to them by turns, only the one that holds the lease
// lets people in. People that the other one answers ask again.
func TestOnlyTheHolderAdmits(t *testing.T) {
	t.Parallel()
	g, d, first := dealt(t)
	stop, done := g.stop, g.done
	second := newTenure()
	g.tenures(d, g.store, second)
	host := g.person("meet.example.com")
	for round, holder := range []*tenure{first, second, first} {
		first.held.Store(holder == first)
		second.held.Store(holder == second)
		d.next(round % 2)
		before := []int{d.seat(0).ready(), d.seat(1).ready()}
		got := map[string]int{}
		for range 10 {
			got[host.asks(room, mint(t, nil))]++
		}
		holds := 0
		if holder == second {
			holds = 1
		}
		now := []int{d.seat(0).ready(), d.seat(1).ready()}
		if got["ready"] != 5 || got["not ready"] != 5 || now[holds]-before[holds] != 5 || now[1-holds] != before[1-holds] {
			t.Errorf("round %d: answered %v; told ready %v, and %v before", round, got, now, before)
		}
	}
	// Neither of them holds it while the store cannot be reached.
	first.held.Store(false)
	for range 4 {
		if got := host.asks(room, mint(t, nil)); got != "not ready" {
			t.Errorf("without a holder: %s", got)
		}
	}
	g.halt()
	g.stop, g.done = stop, done
	g.halt()
}

// TestFrozenInAdmission freezes the active usher at each point of an admission at which it has just found out that it is the active
// one. Another one takes over. When the first one goes on, it lets nobody in and gives nobody anything, and the other one answers.
func TestFrozenInAdmission(t *testing.T) {
	prosodytest.Need(t)
	t.Parallel()
	reached := 0
	for n := 0; ; n++ {
		ended := t.Run(fmt.Sprintf("after %d checks", n), func(t *testing.T) {
			if frozenInAdmission(t, n) {
				reached = n + 1
			}
		})
		if !ended || reached <= n {
			break
		}
	}
	if reached < 3 { // before apply, for the grant, before the answer
		t.Errorf("only %d points are frozen", reached)
	}
}

// frozenInAdmission reports whether there is such a point.
func frozenInAdmission(t *testing.T, n int) bool {
	g, d, first := dealt(t)
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	first.freezesAfter(n)
	thaw := sync.OnceFunc(func() { close(first.thaw) })
	defer thaw()
	answer := make(chan prosodytest.Stanza, 1)
	go func() {
		answer <- guest.iq("set", domain, request(room, "", ""))
	}()
	select {
	case a := <-answer:
		if got := outcome(a); got != "ready" {
			t.Errorf("not frozen, and told %s", got)
		}
		return false
	case <-first.frozen:
	}
	stop, replaced, done := g.stop, g.replaced, g.done
	seat := d.seat(0)
	gives := seat.gives()
	first.held.Store(false)
	first.gone.Store(true)
	d.next(1)
	g.tenures(d, g.store, newTenure())
	replaced()
	thaw()
	if got := outcome(<-answer); got != "not-authorized stopping" { // ask again
		t.Errorf("told %s", got)
	}
	if seat.ready() != 1 || seat.gives() != gives { // that of the host
		t.Errorf("the frozen one has told %d people ready, and changed affiliations %d times, %d of these after it was frozen", seat.ready(), seat.gives(), seat.gives()-gives)
	}
	d.leaves(0)
	guest.enters(room, "")
	guest.leaves(room)
	g.inTime("what was given is taken back", func() bool { g.forward(toJoin); return guest.joins(room) != "member participant" })
	g.halt()
	g.stop, g.done = stop, done
	g.halt()
	return true
}
