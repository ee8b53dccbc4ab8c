package component

import (
	"context"
	"slices"
	"sync"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"

	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// Status is a snapshot of what a Component does. It belongs to the caller.
type Status struct {
	// Connected says whether there is a connection, and Since since when it is so; zero before the first one.
	Connected bool
	Since     time.Time
	// Server is the server's software and version (XEP-0092); empty unless known. Address is where usher connects to, Domain as what.
	Server, Address, Domain string
	// Reconnects is how often usher has connected again. The others count what has come and gone in all connections.
	Reconnects, StanzasIn, StanzasOut, BytesIn, BytesOut int64
	// Queued is how many requests wait in the queue, UnderWay how many are being decided, and Slow how many of those have been for
	// long. Held is how many wait for a host without an answer, Waiting how many people do, with and without one.
	Queued, UnderWay, Slow, Held, Waiting int
	// Rooms, Grants, Hosts and Occupants are how many there are: open rooms, live rights in them, hosts inside, and people inside in all.
	Rooms, Grants, Hosts, Occupants int
	// Modules are how the MUC services stand that have usher's module, and those that are to have it (rooms.enforcement: module), by
	// domain. Where usher is the focus itself, the module takes what usher gives, and is not asked to tell.
	Modules []muc.ToldStatus
	// Behind is "jicofo" where usher stands in front of one, otherwise empty. Jicofo says of it "online", "offline" or "silent" (it is
	// online, and has left the last question without an answer).
	Behind, Jicofo string
}

// Status returns what this usher does now. It asks nobody. Any goroutine may call it.
func (c *Component) Status() Status {
	s := Status{Connected: c.stream.Load() != nil, Address: c.o.Server, Domain: c.o.Domain.String()}
	c.link.status(&s)
	if q := c.work.Load(); q != nil {
		q.status(&s)
	}
	c.held.mu.Lock()
	s.Held = c.held.n
	c.held.mu.Unlock()
	s.Grants = c.ledger.count()
	s.Modules = slices.DeleteFunc(c.told.Services(), func(m muc.ToldStatus) bool { return c.o.MembersOnly && !m.Takes })
	c.watch.status(&s)
	if before, ok := c.mode.(*beforeJicofo); ok {
		s.Behind, s.Jicofo = "jicofo", before.relay.status()
	}
	return s
}

// connections is what is known of the connections so far.
type connections struct {
	mu       sync.Mutex
	now      *stream.Stream // nil without a connection
	since    time.Time
	connects int64
	before   stream.Traffic // of earlier connections
	server   string
}

func (l *connections) begins(s *stream.Stream, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.since = s, now
	l.connects++
}

func (l *connections) ends(s *stream.Stream, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now, l.since = nil, now
	l.before = l.before.Plus(s.Traffic())
}

func (l *connections) status(s *Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.before
	if l.now != nil {
		t = t.Plus(l.now.Traffic())
	}
	s.Since, s.Server, s.Reconnects = l.since, l.server, max(l.connects-1, 0)
	s.StanzasIn, s.StanzasOut, s.BytesIn, s.BytesOut = t.StanzasIn, t.StanzasOut, t.BytesIn, t.BytesOut
}

// asksServer asks the virtual hosts for the server's software, if anybody wants to know, until one answers. MUC services often do not.
func (c *Component) asksServer(ctx context.Context) {
	if c.o.Report == nil {
		return
	}
	for _, host := range c.policy.Load().VHosts() {
		to, err := jid.Parse(host)
		if err != nil {
			continue
		}
		var v version.Query
		asked, cancel := context.WithTimeout(ctx, pingWithin)
		err = c.IQ(asked, stanza.IQ{Type: stanza.GetIQ, To: to}, element.New(version.NS, "query"), &v)
		cancel()
		if err == nil && v.Name != "" {
			c.link.mu.Lock()
			c.link.server = shown(v.Name + " " + v.Version)
			c.link.mu.Unlock()
			return
		}
	}
}

func (q *queue) status(s *Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Queued, s.UnderWay, s.Slow = q.waiting, q.active, q.slow
}

func (w *watch) status(s *Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Waiting, s.Rooms, s.Hosts = w.waits, w.open, w.inside[classHost]
	for _, n := range w.inside {
		s.Occupants += n
	}
}

// count returns how many live grants there are.
func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, room := range l.rooms {
		n += len(room)
	}
	return n
}
