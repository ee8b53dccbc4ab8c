// Package component is usher's connection to the server: an external component (XEP-0114) that answers conference
// requests.
//
// A request goes through four verbs, each in one place: focus.Parse reads it, auth.Authorizer decides it, muc.Rooms makes
// the decision true in the room, focus.Reply tells the client. The pipeline is in admit.go. Everything else here
// keeps the connection alive and the requests apart:
//
//   - package stream is the wire: it cuts the stream into stanzas, so that none can end it, sends, and matches answers to questions;
//   - queue.go lets senders have their turns;
//   - relay.go asks Jicofo, where there is one, in the name of those who are admitted;
//   - mapper.go finds out in which spelling Jicofo knows the rooms of tenants;
//   - breakout.go finds out whether a breakout room can be, before Jicofo is asked to open it;
//   - held.go keeps the requests of those who wait for a host, until one is inside;
//   - ledger.go has what is granted written down;
//   - repeats.go keeps the log from being filled by those who are refused;
//   - stranger.go tries whether the server keeps out whom nobody let in;
//   - component.go connects, reads, hands out, reconnects and stops.
//
// # What can get lost
//
// Each request is answered: by this usher, or by the next one if the Store outlives the process. A request is written down when
// it is held (held.go), and when usher stops before it is answered: then those that come until the server has closed the stream,
// those that wait for their turn or are under way when the time is over, and those to which an answer is owed. So a restart
// by SIGTERM loses none that has reached usher. While no usher is connected, Prosody answers: remote-server-timeout.
//
// What is lost:
//
//   - When usher is killed (kill -9, no memory, no power), requests that are not held and not yet answered: those in its socket,
//     in the queue and under way, some milliseconds' worth, or as long as a room, a key server or Jicofo takes to answer.
//     BenchmarkHeldKilled counts them.
//   - When the link is cut or the server killed, answers that are in a socket. Those that the socket has not taken are sent
//     on the next stream.
//   - When the server does not close its side within stream.CloseTimeout, what it sends after that.
//   - When nothing outlives the process, what comes after the last answer of an usher that stops.
//
// The goroutine that reads never waits for anything but the server and never fails because of a stanza: it decodes the
// envelope and hands the rest to a worker, or to muc.Rooms, which does not block.
package component

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
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
	// requestTimeout is how long one request may take from its arrival on, and relayedTimeout where Jicofo is asked, too. A
	// client that hears nothing until then is told to ask again.
	requestTimeout, relayedTimeout = 10 * time.Second, relayTimeout + 8*time.Second
	// stopTimeout is how long requests under way may take once usher is told to stop. Together with stream.CloseTimeout that is less
	// than the 10 s after which "docker stop" kills.
	stopTimeout = 5 * time.Second
	// maxRequest is the size in bytes of the largest request: a token of the largest size, and room for the rest.
	maxRequest = 16 << 10
	// pingEvery is how often the server is asked for a sign of life, and pingWithin how long it may take for one.
	pingEvery, pingWithin = 30 * time.Second, 30 * time.Second
	// maxBackoff is the longest pause between two attempts to connect, and maxRefused where nothing listens: the machine is there
	// and its server is not, as while it restarts, and to ask costs next to nothing.
	maxBackoff, maxRefused = 30 * time.Second, 3 * time.Second
	// settled is how long a connection must have lasted for the pauses to begin anew.
	settled = 10 * time.Second
)

// ErrTakenAway is the cause by which the context of [Component.Run] ends when no other usher is to come.
var ErrTakenAway = errors.New("usher is taken away")

// Options is what a Component needs.
type Options struct {
	// Server is the host and port of the server's component port.
	Server string
	// Domain is our address there.
	Domain jid.JID
	// Secret is what the server knows us by (component_secret).
	Secret []byte
	// Services are the guarded MUC services, and Authorizer decides; see [Component.Use].
	Services   []jid.JID
	Authorizer *auth.Authorizer
	// MembersOnly has all rooms kept members-only. Otherwise the server's mod_muc_affiliated_only keeps out who was not let in.
	MembersOnly bool
	// Jicofo is the bare JID of the focus before which we stand; zero where usher is the focus itself.
	Jicofo jid.JID
	// ForwardToken has Jicofo see the clients' tokens.
	ForwardToken bool
	// EnforceRoles puts owners that Jicofo made back to what they were. Otherwise one warning for each room tells of them.
	EnforceRoles bool
	// GuardInterval is how often rooms are looked at where there is a Jicofo.
	GuardInterval time.Duration
	// Lobby is the service of the rooms' lobbies; zero where there is none.
	Lobby jid.JID
	// WaitHold is how long the request of a waiting client is held at most, for a host to come; WaitHoldJitsi that of a Jitsi
	// client, which sets no time limit on it (focus.Conference.Patient). 0 is not at all, 90 s the most.
	WaitHold, WaitHoldJitsi time.Duration
	// Store keeps sessions, grants and held requests.
	Store store.Store
	// Outlives says that what is in the Store outlives the process: requests without an answer are left to the next usher.
	Outlives bool
	// Now is the clock by which tokens, rights and holds end, as the Store has one for its records; nil for the machine's.
	Now func() time.Time
	// Version is what we answer to those who ask (XEP-0092).
	Version string
	Log     *zap.Logger
}

// Component is the connection and what is done with it. Its one entry is Run.
type Component struct {
	o         Options
	policy    atomic.Pointer[policy]
	rooms     rooms
	occupant  *muc.Rooms // the rooms where usher is the focus itself, else nil
	guard     *muc.Guard // the rooms where there is a Jicofo, else nil
	relay     *relay     // the way to that Jicofo, else nil
	lobby     *muc.Lobby // nil where there is none
	mapper    *mapper    // the spelling in which it knows the rooms of tenants, else nil
	breakouts *breakouts // which breakout rooms can be, else nil
	stranger  *stranger  // nil where rooms are members-only
	sessions  store.Sessions
	ledger    *ledger
	held      *held
	counts    counters
	repeats   *repeats
	stream    atomic.Pointer[stream.Stream]
	work      atomic.Pointer[queue] // of the connection, nil if there is none
	mark      jid.JID               // to whom the marks go; see queue
	stopping  atomic.Bool
	leaving   atomic.Bool   // with stopping: requests without an answer are left to the next usher
	hurried   chan struct{} // closed by Hurry
	hurry     sync.Once
	tended    sync.Map // by domain: services that are guarded, or were, so that there may be people in our rooms still

	// For tests.
	requestTimeout time.Duration
	pingEvery      time.Duration
	pingWithin     time.Duration
	stopTimeout    time.Duration
}

// policy is what may change while the component runs.
type policy struct {
	*auth.Authorizer
	services []jid.JID
}

// Use changes who decides, and which MUC services are guarded. Requests under way are decided by whom they began with;
// nobody's admission is interrupted. It may be called by any goroutine.
func (c *Component) Use(a *auth.Authorizer, services []jid.JID) {
	for _, s := range services {
		c.tended.Store(s.Domainpart(), true)
	}
	c.policy.Store(&policy{a, services})
}

func (c *Component) tends(service string) bool {
	_, ok := c.tended.Load(service)
	return ok
}

// New returns a Component. It starts nothing.
func New(o Options) (*Component, error) {
	owner, err := o.Domain.WithLocal(muc.Nick)
	if err != nil {
		return nil, fmt.Errorf("xmpp.domain: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Component{
		o: o, sessions: store.Sessions{Store: o.Store}, held: newHeld(o.Store), repeats: newRepeats(o.Log),
		hurried:        make(chan struct{}),
		requestTimeout: requestTimeout, pingEvery: pingEvery, pingWithin: pingWithin, stopTimeout: stopTimeout,
	}
	c.ledger = newLedger(o.Store, o.Log, &c.counts)
	if c.mark, err = o.Domain.WithLocal("mark"); err != nil {
		return nil, fmt.Errorf("xmpp.domain: %w", err)
	}
	c.Use(o.Authorizer, o.Services)
	kept := muc.Options{
		Owner:         muc.Owner{Session: c, JID: owner},
		Configuration: muc.Configuration{MembersOnly: o.MembersOnly},
		Hosts:         func(domain string) bool { return c.policy.Load().CountsAsHost(domain) },
		Arrived:       c.arrived,
		Ledger:        c.ledger,
		Now:           o.Now,
		Warn: func(room jid.JID, what string, err error) {
			if errors.Is(err, stream.ErrDisconnected) {
				return // which has been said, and ends all that was under way
			}
			o.Log.Warn(what, zap.Stringer("room", room), zap.Error(err), hint(err))
		},
	}
	if !o.MembersOnly {
		if c.stranger, err = newStranger(kept.Owner, o.Domain); err != nil {
			return nil, fmt.Errorf("xmpp.domain: %w", err)
		}
		kept.Try = c.stranger.tries
	}
	if !o.Lobby.Equal(jid.JID{}) {
		c.lobby = muc.NewLobby(kept.Owner, o.Lobby)
		kept.Lobby = c.lobby
	}
	if o.Jicofo.Equal(jid.JID{}) {
		c.occupant = muc.NewRooms(kept)
		c.rooms = c.occupant
		return c, nil
	}
	c.requestTimeout = relayedTimeout
	c.relay = &relay{session: c, domain: o.Domain, focus: o.Jicofo, log: o.Log, timeout: relayTimeout}
	c.guard = muc.NewGuard(muc.GuardOptions{
		Options: kept, Focus: o.Jicofo, Interval: o.GuardInterval, EnforceRoles: o.EnforceRoles,
		Room:      func(address string) (jid.JID, error) { return c.policy.Load().Room(address) },
		Breakouts: func() bool { return c.policy.Load().HasBreakouts() },
	})
	c.rooms = c.guard
	if c.mapper, err = newMapper(kept.Owner, c.repeats); err != nil {
		return nil, fmt.Errorf("xmpp.domain: %w", err)
	}
	if c.breakouts, err = newBreakouts(kept.Owner); err != nil {
		return nil, fmt.Errorf("xmpp.domain: %w", err)
	}
	return c, nil
}

// rooms makes decisions true: muc.Rooms where usher is the focus itself, muc.Guard where there is another. See there.
type rooms interface {
	State(ctx context.Context, room jid.JID) (exists, host bool, err error)
	HostPresent(ctx context.Context, room jid.JID) (bool, error)
	Open(ctx context.Context, room jid.JID, mayCreate bool) error
	Grant(ctx context.Context, g muc.Grant) error
	Withdraw(room, who jid.JID)
	LeaveToLobby(ctx context.Context, room, who jid.JID) error
	Await(room jid.JID, until time.Time)
	Expect(room jid.JID)

	Restore([]muc.Grant)
	Resume(ctx context.Context, rooms []jid.JID, services ...jid.JID)
	Run(ctx context.Context)
	Leave(ctx context.Context, next bool)
	Reset() []jid.JID
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

// Run connects, and serves until ctx ends; then it finishes what is under way, closes the stream and returns nil. A
// connection that fails or ends is made again, for ever, with pauses that grow to half a minute, or to three seconds as long
// as nothing listens there. All goroutines that
// it starts have ended when it returns. It fails only if the store cannot be read.
//
// Where the Store outlives the process, requests that are held, or come while Run ends, are written down and left without
// an answer: the next usher answers them as soon as it is connected. If ctx ends by the cause [ErrTakenAway], or nothing
// outlives the process, they are answered before Run returns, as long as there is a connection.
func (c *Component) Run(ctx context.Context) error {
	rooms, err := c.restore(ctx)
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	counting, end := context.WithCancel(context.WithoutCancel(ctx))
	var log sync.WaitGroup
	log.Go(func() { c.repeats.run(counting) })
	defer log.Wait()
	defer end()
	var p pauses
	for {
		began := time.Now()
		s, err := stream.Dial(ctx, c.o.Server, c.o.Domain, c.o.Secret)
		if err == nil {
			c.o.Log.Info("connected", zap.String("server", c.o.Server), zap.Stringer("domain", c.o.Domain))
			err = c.serve(ctx, s, rooms)
			rooms = c.rooms.Reset()
		}
		if ctx.Err() != nil {
			c.leave()
			c.repeats.flush(true)
			c.o.Log.Info("stopped", c.counts.fields()...)
			return nil
		}
		pause := p.after(err, time.Since(began))
		c.o.Log.Warn("no connection", zap.String("server", c.o.Server), zap.Error(err), hint(err), zap.Duration("again in", pause.Round(time.Millisecond)))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Hurry has a Run whose context has ended wait for nobody any more: what is under way is broken off, and written down where
// the Store outlives the process. It may be called by any goroutine, and more than once.
func (c *Component) Hurry() { c.hurry.Do(func() { close(c.hurried) }) }

// restore takes in what an earlier process has granted and whom it has left waiting, and returns the rooms.
func (c *Component) restore(ctx context.Context) ([]jid.JID, error) {
	written, err := c.ledger.written(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.inherit(ctx); err != nil {
		return nil, err
	}
	c.rooms.Restore(written)
	known := make(map[string]jid.JID)
	for _, g := range written {
		known[g.Room.String()] = g.Room
	}
	return slices.Collect(maps.Values(known)), nil
}

// pauses are those between attempts to connect.
type pauses struct {
	failures, refused int // in a row
}

// after returns the pause after a connection that lasted so long, or that did not come about.
func (p *pauses) after(err error, lasted time.Duration) time.Duration {
	if lasted > settled {
		*p = pauses{}
	}
	switch {
	case errors.Is(err, xmppstream.Conflict):
		// Somebody else is connected by our name, perhaps another usher. Prosody's component_conflict_resolve
		// decides who stays; fighting over it would help nobody.
		p.failures++
		return maxBackoff/2 + backoff(0, maxBackoff)
	case errors.Is(err, syscall.ECONNREFUSED):
		// What comes after an outage, such as a server that does not know us yet, is the first failure of its kind.
		p.failures = 0
		p.refused++
		return backoff(p.refused-1, maxRefused)
	}
	p.failures++
	return backoff(p.failures-1, maxBackoff)
}

// backoff returns the pause after so many failures: from half a second, doubled each time up to most, the half of it at
// random, so that many do not come back at once.
func backoff(failures int, most time.Duration) time.Duration {
	d := min(500*time.Millisecond<<min(failures, 10), most)
	return d/2 + rand.N(d/2)
}

// serve does everything that is done on one connection, and returns why it ended.
func (c *Component) serve(ctx context.Context, s *stream.Stream, rooms []jid.JID) error {
	c.stream.Store(s)
	defer c.stream.Store(nil)

	// The connection's own context outlives ctx, for what is under way when usher is told to stop.
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, own := errgroup.WithContext(own)
	// That of requests ends before it, if those that are under way then take too long.
	requests, hurry := context.WithCancel(own)
	defer hurry()
	q := newQueue(requests)
	q.mark = func(n uint64) {
		_ = s.Send(stanza.Message{ID: strconv.FormatUint(n, 10), From: c.mark, To: c.mark}.Wrap(nil)) // fails if the stream is ending
	}
	c.work.Store(q)
	defer c.work.Store(nil)
	if c.relay != nil {
		c.relay.reset()
		c.mapper.reset()
	}
	if c.stranger != nil {
		c.stranger.reset()
	}
	g.Go(s.Transmit)
	for range workers {
		g.Go(func() error { q.work(); return nil })
	}
	g.Go(func() error {
		q.tend(func(work func()) { g.Go(func() error { work(); return nil }) })
		return nil
	})
	g.Go(func() error { c.rooms.Run(own); return nil })
	g.Go(func() error { c.rooms.Resume(own, rooms, c.policy.Load().services...); return nil })
	g.Go(func() error { c.expire(own); return nil })
	g.Go(func() error { c.ledger.run(own); return nil })
	if c.relay != nil {
		g.Go(func() error { c.relay.greet(); return nil })
	}
	g.Go(func() error { return c.keepAlive(own) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			c.stop(own, s, q, hurry, c.o.Outlives && !errors.Is(context.Cause(ctx), ErrTakenAway))
		case <-own.Done():
			s.Close()
		}
		q.close()
		return nil
	})
	g.Go(func() error {
		defer end()
		err := c.read(s, q)
		if err != nil {
			s.Stop() // before those who wait for an answer learn of it: what they say now is for the next stream
		}
		return err
	})
	err := g.Wait()
	c.ledger.cross(ctx) // what ended while the connection did
	c.stopping.Store(false)
	c.leaving.Store(false)
	return err
}

// stop ends the connection in good order: no new requests, those under way finished, rooms left, stream closed. With leaving,
// requests without an answer are left to the next usher.
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
	c.rooms.Leave(ctx, leaving)
	s.Finish(ctx)
}

// keepAlive asks our own server for a sign of life: a ping to ourselves passes through it both ways.
func (c *Component) keepAlive(ctx context.Context) error {
	tick := time.NewTicker(c.pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if c.relay != nil {
			c.relay.seek()
		}
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, c.pingWithin)
			defer cancel()
			return c.IQ(ctx, stanza.IQ{Type: stanza.GetIQ, To: c.o.Domain}, element.New(ping.NS, "ping"), nil)
		}()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the server passes nothing on any more: %w", err)
		}
	}
}

// read reads stanzas until the stream ends.
func (c *Component) read(s *stream.Stream, q *queue) error {
	err := s.Receive(func(st stream.Stanza) { c.stanza(s, q, st) }, func(p any) { c.panicked(p, "stanza") })
	if c.stopping.Load() && !errors.As(err, new(xmppstream.Error)) {
		return nil
	}
	return err
}

// stanza looks at the envelope of one stanza and hands it to where it belongs.
func (c *Component) stanza(s *stream.Stream, q *queue, st stream.Stanza) {
	start, d, fault := st.Start, st.Body, st.Fault
	if start.Name.Local == "" {
		c.malformed(stanza.IQ{}, "", fault)
		return
	}
	from, err := jid.ParseUnsafe(element.Attr(start, "from"))
	if err != nil || start.Name.Space != "" {
		c.malformed(stanza.IQ{}, start.Name.Local, errors.Join(errors.New("no sender, or a namespace of its own"), err))
		return
	}

	switch start.Name.Local {
	case "presence", "message":
		if mark := c.mark.String(); element.Attr(start, "to") == mark && element.Attr(start, "from") == mark {
			if n, err := strconv.ParseUint(element.Attr(start, "id"), 10, 64); err == nil {
				q.marked(n)
			}
			return
		}
		if c.mapper != nil && element.Attr(start, "to") == c.mapper.jid.String() {
			if start.Name.Local == "presence" {
				c.mapper.hears(element.Attr(start, "type"), element.Attr(start, "from"))
			}
			return
		}
		if c.breakouts != nil && element.Attr(start, "to") == c.breakouts.jid.String() {
			if start.Name.Local == "presence" {
				c.breakouts.hears(element.Attr(start, "type"), from.JID)
			}
			return
		}
		from = c.service(start, from)
		// Only rooms, and Jicofo, have anything to say to us. Whatever else comes is not answered (RFC 6120 §8.2 asks for no
		// answer to a message or presence).
		switch {
		case c.stranger != nil && element.Attr(start, "to") == c.stranger.jid.String():
			if start.Name.Local == "presence" && fault == nil {
				fault = c.stranger.hears(start, d)
			}
		case c.occupant != nil && c.tends(from.Domainpart()):
			in := c.occupant.Presence
			if start.Name.Local == "message" {
				in = c.occupant.Message
			}
			// Also what is too large or too deep: clients can make their presence so, and must not vanish from sight by that.
			if err := in(start, d); err != nil {
				fault = errors.Join(fault, err)
			} else {
				fault = nil
			}
		case fault != nil:
		case c.relay != nil && start.Name.Local == "presence" && from.Bare().Equal(c.o.Jicofo):
			fault = c.relay.presence(from.JID, stanza.PresenceType(element.Attr(start, "type")))
		}
		if fault != nil {
			c.malformed(stanza.IQ{From: from.JID}, start.Name.Local, fault)
		}
	case "iq":
		to, err := jid.ParseUnsafe(element.Attr(start, "to"))
		if err != nil || to.Domainpart() != c.o.Domain.String() {
			c.malformed(stanza.IQ{From: from.JID}, "iq", errors.New("not addressed to us"))
			return
		}
		iq := stanza.IQ{ID: element.Attr(start, "id"), Type: stanza.IQType(element.Attr(start, "type")), From: from.JID, To: to.JID}
		switch iq.Type {
		case stanza.ResultIQ, stanza.ErrorIQ:
			c.service(start, from)
			if !s.Answer(st) && iq.Type == stanza.ErrorIQ {
				c.counts.add(unasked)
				c.say(zap.DebugLevel, "an error that answers nothing", unasked, from.JID, zap.Stringer("from", from))
			}
		case stanza.GetIQ, stanza.SetIQ:
			if fault == nil && len(st.Raw) > maxRequest {
				fault = stream.ErrTooLarge
			}
			if c.stopping.Load() {
				reason := auth.ReasonStopping
				if fault != nil {
					reason = auth.ReasonRequestMalformed
				}
				c.refuse(iq, reason, fault)
				return
			}
			sender, reason := from.Bare().String(), auth.ReasonRequestMalformed
			if fault == nil {
				in := incoming{iq: iq, raw: bytes.Clone(st.Raw), at: time.Now()}
				reason, fault = auth.ReasonTooManyRequests, q.push(sender, func(ctx context.Context) { c.request(ctx, in) })
			}
			if fault != nil && !q.refuse(sender, len(iq.ID)+len(element.Attr(start, "from")), func() { c.refuse(iq, reason, fault) }) {
				c.counts.add("not-answered")
			}
		default:
			c.malformed(iq, "iq", errors.New("an IQ of no known type"))
		}
	default:
		c.malformed(stanza.IQ{From: from.JID}, start.Name.Local, errors.New("not a stanza"))
	}
}

// service makes the sender of a stanza the room that the MUC service knows. Jitsi's mod_muc_domain_mapper writes the rooms of
// tenants as their clients spell them on all that goes to a component.
func (c *Component) service(start xml.StartElement, from jid.Unsafe) jid.Unsafe {
	if !c.policy.Load().OfTenant(from.Domainpart()) {
		return from
	}
	room, err := c.policy.Load().Room(from.Bare().String())
	if err != nil {
		return from
	}
	address := room.String()
	if nick := from.Resourcepart(); nick != "" {
		address += "/" + nick
	}
	its, err := jid.ParseUnsafe(address)
	if err != nil {
		return from
	}
	for i := range start.Attr {
		if start.Attr[i].Name.Local == "from" && start.Attr[i].Name.Space == "" {
			start.Attr[i].Value = address
		}
	}
	return its
}

// panicked counts and logs a panic, which ends what caused it and nothing else.
func (c *Component) panicked(p any, what string) {
	c.counts.add(panicked)
	// Nothing of the policy is asked, which may be what panics.
	c.repeats.say(zap.ErrorLevel, "a "+what+" caused a panic", panicked, "", jid.JID{}, zap.Any("panic", p), zap.Stack("stack"))
}
