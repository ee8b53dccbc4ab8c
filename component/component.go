// Package component is usher's connection to the server: an external component (XEP-0114) that answers conference requests.
//
// A request passes four steps, each in one place: focus.Parse reads it, auth.Authorizer decides it, a mode makes the decision
// true in the room, and focus.Reply tells the client. admit.go is that walk. The rest keeps the connection alive and the
// requests apart:
//
//   - package stream is the wire: it cuts the server's stream into stanzas, so that none can end it, sends, and matches answers;
//   - component.go connects, serves a connection, reconnects and stops;
//   - tenure.go is for ushers that take turns at being the active one;
//   - route.go hands each stanza to its handler, and answers the IQs that every entity answers;
//   - queue.go gives senders their turns, and alive.go shows a watchdog that they have them;
//   - admit.go admits: parse, decide, apply, reply;
//   - mode.go makes decisions true where usher is the focus itself; rights.go gives and takes back rights in rooms, with package muc;
//   - jicofo.go makes them true before a Jicofo: relay.go asks it on behalf of the client, copied.go passes other IQs on to it;
//   - probe.go enters rooms to learn how the server behaves: stranger.go learns whether it keeps strangers out, mapper.go in which
//     spelling Jicofo knows the rooms of tenants, breakout.go whether a breakout room can be opened;
//   - answer.go sends an answer, or owes it, and logs the decision;
//   - held.go holds the requests of people who wait for a host until one is inside;
//   - left.go leaves requests without an answer to the next usher;
//   - ledger.go writes grants and sessions down; live.go knows which grants are live, and knocked.go who was left
//     to a lobby;
//   - once.go keeps a one-time token, or one that may be in a room once, from doing more; endings.go puts people out when their right
//     ends, and revoke.go when it is taken back;
//   - conferences.go remembers what the rules of rooms depend on, and ends rooms by their rules; seats.go counts people in rooms that
//     take only so many;
//   - repeats.go keeps refused clients from filling the log, and hints.go tells an operator what to do about an error;
//   - counters.go counts decisions and events, status.go says what usher does at the moment, and report.go tells others what happens;
//   - view.go shows the rooms, and steer.go does to them what an operator wants.
//
// # What can get lost
//
// Every request is answered: by this usher, or by the next one if the Store outlives the process. A request is written down when
// it is held (held.go), and when usher stops before it has answered. Then three kinds are written down: requests that arrive
// until the server has closed the stream; requests that are queued or under way when the time is over; and requests with an answer
// that could not be sent. So a restart by SIGTERM loses no request that has reached usher. While no usher is connected, Prosody
// answers with remote-server-timeout.
//
// These are lost:
//
//   - When usher is killed (kill -9, no memory, no power): requests that are neither held nor answered. They are in its socket,
//     in the queue or under way: some milliseconds' worth, or as long as a room, a key server or Jicofo takes to answer.
//     BenchmarkHeldKilled counts them.
//   - When the link is cut or the server killed: answers that the socket has taken and the server has not read. Answers that the
//     socket has not taken are sent on the next stream.
//   - When the server does not close its side within stream.CloseTimeout: requests that it sends after that. A busy server is such a one.
//   - When nothing outlives the process: requests that arrive after the last answer of an usher that stops.
//
// The goroutine that reads waits for nothing but the server, and no stanza makes it fail. It decodes the envelope and hands the
// rest to a worker, or to muc.Rooms, which does not block.
package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// requestTimeout is how long one request may take from its arrival on, and relayedTimeout where Jicofo is asked as well. Then
	// the client is told to ask again.
	requestTimeout, relayedTimeout = 10 * time.Second, relayTimeout + 8*time.Second
	// stopTimeout is how long requests under way may take once usher is told to stop. Together with stream.CloseTimeout that is less
	// than the 10 s after which "docker stop" kills.
	stopTimeout = 5 * time.Second
	// maxRequest is the size in bytes of the largest request: a token of the largest size, and space for the rest.
	maxRequest = 16 << 10
	// pingEvery is the interval of pings to the server, and pingWithin how long it may take for one.
	pingEvery, pingWithin = 30 * time.Second, 30 * time.Second
	// unsureEvery and unsureWithin are the same while this usher does not know whether it is the active one; see tenure.go.
	unsureEvery, unsureWithin = time.Second, 5 * time.Second
)

// ErrReplaced is the cause by which the context of [Component.Run] ends when another usher has become the active one.
var ErrReplaced = errors.New("another usher is the active one now")

// ErrTakenAway is the cause by which the context of [Component.Run] ends when no other usher will follow.
var ErrTakenAway = errors.New("usher is taken away")

// Options is what a Component needs.
type Options struct {
	// Server is the host and port of the server's component port.
	Server string
	// Domain is usher's address there.
	Domain jid.JID
	// Secret proves to the server that this is the component (component_secret).
	Secret []byte
	// Services are the guarded MUC services, and Authorizer decides; see [Component.Use].
	Services   []jid.JID
	Authorizer *auth.Authorizer
	// MembersOnly keeps all rooms members-only. Without it, the server's mod_muc_affiliated_only keeps out people without an
	// affiliation.
	MembersOnly bool
	// Jicofo is the bare JID of the focus that usher stands before; zero where usher is the focus itself.
	Jicofo jid.JID
	// ForwardToken shows the clients' tokens to Jicofo.
	ForwardToken bool
	// EnforceRoles puts owners that Jicofo made back to what they were. Without it, one warning for each room reports them.
	EnforceRoles bool
	// GuardInterval is how often usher looks at rooms where there is a Jicofo.
	GuardInterval time.Duration
	// Lobby is the service of the rooms' lobbies; zero where there is none.
	Lobby jid.JID
	// WaitHold is how long a waiting client's request is held at most, for a host to come. WaitHoldJitsi is the same for a Jitsi
	// client, which sets no time limit on it (focus.Conference.Patient). 0 holds none; 90 s is the most.
	WaitHold, WaitHoldJitsi time.Duration
	// Store keeps sessions, grants and held requests.
	Store store.Store
	// Outlives says that the Store outlives the process: requests without an answer are left to the next usher.
	Outlives bool
	// Holds reports whether this usher is the active one now; nil means that it always is. Nobody is let in unless it does, and usher
	// does not connect. It must not block.
	Holds func() bool
	// Gone reports whether this usher will never be the active one again; nil means that it always may be. Then no more stanza is
	// written to the server. It must not block.
	Gone func() bool
	// Now is the clock by which tokens, rights and holds end, as the Store has one for its records; nil for the machine's.
	Now func() time.Time
	// Report is called with all that happens: see Report. nil means that nobody wants to know. It is called by many goroutines, also by
	// the one that reads from the server and while rooms are locked. So it must not block, and must not call the Component. What it is
	// told of one room is in order.
	Report func(Report)
	// Explain has decisions explained in reports.
	Explain bool
	// Version is the answer to a question for the software's version (XEP-0092).
	Version string
	Log     *zap.Logger
}

// Component is the connection, and everything that is done on it. Its one entry is Run.
type Component struct {
	o           Options
	policy      atomic.Pointer[policy]
	shared      bool // other ushers may have the Store, too
	mode        mode
	told        *muc.Told
	probes      map[string]*probe // by full JID
	stranger    *stranger
	sessions    store.Sessions
	ledger      *ledger
	refusals    store.Refusals
	used        store.Used
	kicks       *kicks
	turns       turns
	seats       *seats
	conferences *conferences
	held        *held
	counts      counters
	watch       *watch
	link        connections
	locks       *locks
	repeats     *repeats
	stream      atomic.Pointer[stream.Stream]
	work        atomic.Pointer[queue] // of the connection, nil if there is none
	mark        jid.JID               // the address of the marks; see queue
	stopping    atomic.Bool
	leaving     atomic.Bool   // with stopping: requests without an answer are left to the next usher
	hurried     chan struct{} // closed by Hurry
	hurry       sync.Once
	pulse       pulse
	tended      sync.Map // by domain: every service ever guarded; its rooms may still be occupied

	// For tests.
	requestTimeout time.Duration
	pingEvery      time.Duration
	pingWithin     time.Duration
	unsureWithin   time.Duration
	stopTimeout    time.Duration
	storeAgain     time.Duration
}

// policy is what may change while the component runs.
type policy struct {
	*auth.Authorizer
	services []jid.JID
}

// Use changes the Authorizer, and which MUC services are guarded. A request under way is decided by the Authorizer that it began
// with; nobody's admission is interrupted. Any goroutine may call it.
func (c *Component) Use(a *auth.Authorizer, services []jid.JID) {
	for _, s := range services {
		c.tended.Store(s.Domainpart(), true)
	}
	p := &policy{a, services}
	c.policy.Store(p)
	c.told.Use(p.telling())
	c.conferences.changes()
}

// telling returns the services that usher's module may be on.
func (p *policy) telling() []jid.JID {
	all := slices.Clone(p.services)
	if p.HasBreakouts() {
		if b, err := jid.Parse(p.BreakoutService()); err == nil {
			all = append(all, b)
		}
	}
	return all
}

func (c *Component) tends(service string) bool {
	_, ok := c.tended.Load(service)
	return ok
}

// New returns a Component. It starts nothing.
func New(o Options) (*Component, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	shared := o.Holds != nil
	if !shared {
		o.Holds = func() bool { return true }
	}
	c := &Component{
		o: o, shared: shared, sessions: store.Sessions{Store: o.Store}, held: newHeld(o.Store), repeats: newRepeats(o.Log),
		watch: newWatch(), locks: newLocks(o.Store, o.Now),
		refusals: store.Refusals{Store: o.Store, Now: o.Now}, used: store.Used{Store: o.Store}, kicks: newKicks(),
		hurried:        make(chan struct{}),
		requestTimeout: requestTimeout, pingEvery: pingEvery, pingWithin: pingWithin, unsureWithin: unsureWithin,
		stopTimeout: stopTimeout, storeAgain: storeAgain,
	}
	c.ledger = newLedger(o.Store, o.Log, &c.counts)
	c.seats = c.ledger.seats
	c.seats.now = o.Now
	c.conferences = newConferences(c)
	c.Use(o.Authorizer, o.Services)
	var err error
	if c.mark, err = o.Domain.WithLocal("mark"); err == nil {
		err = c.setMode()
	}
	if err != nil {
		return nil, fmt.Errorf("xmpp.domain: %w", err)
	}
	return c, nil
}

// IQ implements muc.Session on the connection of the moment.
func (c *Component) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	if s := c.stream.Load(); s != nil {
		return s.IQ(ctx, iq, payload, v)
	}
	return stream.ErrDisconnected
}

// Send implements muc.Session on the connection of the moment.
func (c *Component) Send(r xml.TokenReader) error {
	if s := c.stream.Load(); s != nil {
		return s.Send(r)
	}
	return stream.ErrDisconnected
}

// Run connects, and serves until ctx ends. Then it finishes what is under way, closes the stream and returns nil. It connects
// again, for ever, when a connection fails or ends; the pauses grow to half a minute, or to three seconds while nothing listens
// there. All goroutines that it starts have ended when it returns. It fails only if the store cannot be read.
//
// Where the Store outlives the process, Run writes down the requests that are held or that arrive while it ends, and leaves them
// without an answer: the next usher answers them as soon as it is connected. If ctx ends by the cause [ErrTakenAway], or nothing
// outlives the process, they are answered before Run returns, as long as there is a connection.
//
// If ctx ends by the cause [ErrReplaced], Run closes the connection at once. It answers nobody, and takes nothing back: the other
// usher does both. Run writes down the requests that it has not answered, and tells the other usher of them.
func (c *Component) Run(ctx context.Context) error {
	rooms, err := c.restore(ctx)
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	counting, end := context.WithCancel(context.WithoutCancel(ctx))
	var log sync.WaitGroup
	log.Go(func() { c.repeats.run(counting) })
	log.Go(func() { c.follow(counting) })
	log.Go(func() { c.bar(counting) })
	defer log.Wait()
	defer end()
	var p pauses
	for {
		c.awaitTenure(ctx)
		c.pulse.beat()
		began := time.Now()
		s, err := stream.DialWhile(ctx, c.o.Server, c.o.Domain, c.o.Secret, c.o.Holds)
		connected := err == nil
		if connected {
			p.connected(c)
			c.o.Log.Info("connected", zap.String("server", c.o.Server), zap.Stringer("domain", c.o.Domain))
			err = c.serve(ctx, s, rooms)
			c.told.Reset()
			c.stranger.reset()
			rooms = c.mode.Reset()
		}
		if ctx.Err() != nil {
			c.leave(ctx)
			c.repeats.flush(true)
			c.o.Log.Info("stopped", c.Stats().fields()...)
			return nil
		}
		pause := p.after(err, connected, time.Since(began))
		p.log(c, err, connected, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Hurry makes a Run that is stopping wait for nothing any more: it breaks off what is under way, and writes it down where the
// Store outlives the process. Any goroutine may call it, more than once.
func (c *Component) Hurry() { c.hurry.Do(func() { close(c.hurried) }) }

// restore takes over the grants of an earlier process and the requests that it left waiting, and returns the rooms.
func (c *Component) restore(ctx context.Context) ([]jid.JID, error) {
	written, err := c.ledger.written(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.inherit(ctx); err != nil {
		return nil, err
	}
	if err := c.barredRooms(ctx); err != nil {
		return nil, err
	}
	locked, err := c.lockedRooms(ctx)
	if err != nil {
		return nil, err
	}
	written = append(written, locked...) // so that usher hears when they end
	c.mode.Restore(written)
	if err := c.conferences.takeIn(ctx); err != nil {
		return nil, err
	}
	known := make(map[string]jid.JID)
	for _, g := range written {
		known[g.Room.String()] = g.Room
	}
	return slices.Collect(maps.Values(known)), nil
}

// serve does everything that is done on one connection, and returns why it ended.
func (c *Component) serve(ctx context.Context, s *stream.Stream, rooms []jid.JID) error {
	if c.o.Gone != nil {
		s.While(func() bool { return !c.o.Gone() })
	}
	c.stream.Store(s)
	defer c.stream.Store(nil)
	c.link.begins(s, c.o.Now())
	defer func() { c.link.ends(s, c.o.Now()) }()

	// The connection's own context outlives ctx, for what is under way when usher is told to stop.
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, own := errgroup.WithContext(own)
	run := func(f func()) { g.Go(func() error { f(); return nil }) }
	// The context of requests ends before it, if those under way then take too long.
	requests, hurry := context.WithCancel(own)
	defer hurry()
	q := newQueue(requests)
	q.mark = func(n uint64) {
		_ = s.Send(stanza.Message{ID: strconv.FormatUint(n, 10), From: c.mark, To: c.mark}.Wrap(nil)) // fails if the stream is ending
	}
	c.work.Store(q)
	defer c.work.Store(nil)
	g.Go(s.Transmit)
	for range workers {
		run(q.work)
	}
	run(func() { q.tend(run) })
	run(func() { c.told.Listen(own) })
	run(func() { c.mode.Run(own) })
	run(func() { c.mode.Resume(own, rooms, c.policy.Load().services...) })
	run(func() { c.expire(own) })
	run(func() { c.watch.run(own, c.o.Now) })
	run(func() { c.end(own) })
	run(func() { c.conferences.run(own) })
	run(func() { c.ledger.run(own) })
	run(func() { c.asksServer(own) })
	g.Go(func() error { return c.keepAlive(own) })
	run(func() {
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), ErrReplaced) {
				c.drop(s, hurry)
				break
			}
			c.stop(own, s, q, hurry, c.o.Outlives && !errors.Is(context.Cause(ctx), ErrTakenAway))
		case <-own.Done():
			s.Close()
		}
		q.close()
	})
	g.Go(func() error {
		err := c.read(s, q)
		if err == nil {
			end()
			return nil
		}
		s.Stop()   // before requests that wait for the server learn of it, so that their answers go to the next stream
		return err // which ends own, but not before this is why: Transmit fails as soon as the stream is closed
	})
	err := g.Wait()
	c.ledger.cross(ctx) // grants that ended while the connection did
	c.stopping.Store(false)
	c.leaving.Store(false)
	return err
}

// stop ends the connection in good order: it takes no new requests, finishes those under way, leaves the rooms and closes the
// stream. With leaving, requests without an answer are left to the next usher.
func (c *Component) stop(ctx context.Context, s *stream.Stream, q *queue, hurry func(), leaving bool) {
	c.leaving.Store(leaving)
	c.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, c.stopTimeout+stream.CloseTimeout)
	defer cancel()
	var clock sync.WaitGroup
	defer clock.Wait()
	done := make(chan struct{})
	defer close(done)
	clock.Go(func() {
		select {
		case <-time.After(c.stopTimeout):
			hurry()
		case <-c.hurried:
			hurry()
		case <-done:
		}
		select {
		case <-c.hurried:
			cancel()
		case <-done:
		}
	})
	q.idle()
	if leaving {
		c.prepare(ctx)
	} else {
		c.dismiss(ctx)
	}
	c.mode.Leave(ctx, leaving)
	s.Finish(ctx)
}

// drop ends the connection at once, and leaves requests without an answer to the usher that is the active one now.
func (c *Component) drop(s *stream.Stream, hurry func()) {
	c.leaving.Store(true)
	c.stopping.Store(true)
	s.Close()
	hurry()
}

// keepAlive pings ourselves, because such a ping passes through the server both ways, and looks for Jicofo. It returns an error when
// the server passes nothing on any more.
func (c *Component) keepAlive(ctx context.Context) error {
	every := c.pingEvery
	if c.shared {
		every = min(every, unsureEvery)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	c.mode.seek()
	for pinged := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		within := c.pingWithin
		if !c.o.Holds() {
			within = min(within, c.unsureWithin)
		} else if c.shared && time.Since(pinged) < c.pingEvery { // alone, each tick is one
			continue
		}
		pinged = time.Now()
		c.mode.seek()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			return c.IQ(ctx, stanza.IQ{Type: stanza.GetIQ, To: c.o.Domain}, element.New(ping.NS, "ping"), nil)
		}()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the server passes nothing on any more: %w", err)
		}
	}
}

// read reads stanzas until the stream ends, and returns why it did; nil if it was to end.
func (c *Component) read(s *stream.Stream, q *queue) error {
	err := s.Receive(func(st stream.Stanza) { c.route(s, q, st) }, func(p any) { c.panicked(p, "stanza") })
	if c.stopping.Load() && !errors.As(err, new(xmppstream.Error)) {
		return nil
	}
	return err
}
