package portal

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// What strangers may do, each network by itself. Attempts to log in have limits of their own, see account.Directory.
const (
	flowsEvery, flowsBurst = 3, 200 // logins begun at a provider, a second: each is a record in the store, and a school may be behind one address
	linesEvery, linesBurst = 1, 20  // lines in the log, a second
	looksEvery, looksBurst = 5, 200 // questions about rooms that the network has not asked about lately, a second
	// maxNetworks is how many networks are remembered. Beyond that all have one limit together.
	maxNetworks = 4096
	// A room counts as asked about lately for freshFor after each question: guests of a whole school ask about the same few rooms all the
	// time, from one address. A network has at most maxFresh such rooms.
	freshFor = 2 * time.Minute
	maxFresh = 100
)

// limits are the limits of networks.
type limits struct {
	now                 func() time.Time
	mu                  sync.Mutex
	flows, looks, lines networks
	fresh               map[netip.Prefix]map[uint64]time.Time // rooms that networks have asked about lately, and when
	seed                maphash.Seed                          // rooms are remembered by a hash: their names are long
	swept               time.Time
}

// networks are the limiters of one thing that is limited.
type networks struct {
	every rate.Limit
	burst int
	of    map[netip.Prefix]*rate.Limiter
	swept time.Time
}

func newLimits(now func() time.Time) *limits {
	return &limits{
		now:   now,
		seed:  maphash.MakeSeed(),
		fresh: make(map[netip.Prefix]map[uint64]time.Time),
		flows: networks{every: flowsEvery, burst: flowsBurst, of: make(map[netip.Prefix]*rate.Limiter)},
		lines: networks{every: linesEvery, burst: linesBurst, of: make(map[netip.Prefix]*rate.Limiter)},
		looks: networks{every: looksEvery, burst: looksBurst, of: make(map[netip.Prefix]*rate.Limiter)},
	}
}

func (l *limits) flow(a netip.Addr) bool { return l.allow(&l.flows, a) }
func (l *limits) line(a netip.Addr) bool { return l.allow(&l.lines, a) }

// look reports whether a network may ask about a room. What is limited is how many rooms somebody can guess at.
func (l *limits) look(a netip.Addr, room auth.Room) bool {
	network, name := serve.Network(a), maphash.Comparable(l.seed, nameOf(room))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	at, lately := l.fresh[network][name]
	if !lately || now.Sub(at) >= freshFor {
		if !l.looks.limiter(network, now).AllowN(now, 1) {
			return false
		}
	}
	l.refresh(network, name, now)
	return true
}

// refresh notes that a network has asked about a room. Where there is no room for more, nothing is noted.
func (l *limits) refresh(network netip.Prefix, name uint64, now time.Time) {
	of := l.fresh[network]
	if of == nil && len(l.fresh) >= maxNetworks || len(of) >= maxFresh {
		l.sweep(now)
		of = l.fresh[network]
	}
	if of == nil {
		if len(l.fresh) >= maxNetworks {
			return
		}
		of = make(map[uint64]time.Time)
		l.fresh[network] = of
	}
	if _, known := of[name]; known || len(of) < maxFresh {
		of[name] = now
	}
}

// sweep forgets rooms that nobody has asked about lately, at most once a second.
func (l *limits) sweep(now time.Time) {
	if now.Sub(l.swept) < sweptEvery {
		return
	}
	l.swept = now
	for network, rooms := range l.fresh {
		for name, at := range rooms {
			if now.Sub(at) >= freshFor {
				delete(rooms, name)
			}
		}
		if len(rooms) == 0 {
			delete(l.fresh, network)
		}
	}
}

func (l *limits) allow(n *networks, a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	return n.limiter(serve.Network(a), now).AllowN(now, 1)
}

// sweptEvery is the interval at which networks are forgotten that have asked for nothing lately, if there are many.
const sweptEvery = time.Second

// limiter returns the limiter of a network; where there are too many networks, the one of all others.
func (n *networks) limiter(at netip.Prefix, now time.Time) *rate.Limiter {
	if n.of[at] == nil && len(n.of) >= maxNetworks && now.Sub(n.swept) >= sweptEvery {
		n.swept = now
		for network, one := range n.of {
			if one.TokensAt(now) >= float64(n.burst) { // as a new one
				delete(n.of, network)
			}
		}
	}
	if n.of[at] == nil && len(n.of) >= maxNetworks {
		at = netip.Prefix{}
	}
	if n.of[at] == nil {
		n.of[at] = rate.NewLimiter(n.every, n.burst)
	}
	return n.of[at]
}
