package portal

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/xmpp-usher/usher/pkg/serve"
)

// What strangers may do, each network by itself. Attempts to log in have limits of their own, see account.Directory.
const (
	flowsEvery, flowsBurst = 3, 200 // logins begun at a provider, a second: each is a record in the store, and a school may be behind one address
	linesEvery, linesBurst = 1, 20  // lines in the log, a second
	looksEvery, looksBurst = 5, 200 // questions about rooms of which nothing is known at the moment, a second
	// maxNetworks is how many networks are remembered. Beyond that all have one limit together.
	maxNetworks = 4096
)

// limits are the limits of networks.
type limits struct {
	now                 func() time.Time
	mu                  sync.Mutex
	flows, looks, lines networks
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
		flows: networks{every: flowsEvery, burst: flowsBurst, of: make(map[netip.Prefix]*rate.Limiter)},
		lines: networks{every: linesEvery, burst: linesBurst, of: make(map[netip.Prefix]*rate.Limiter)},
		looks: networks{every: looksEvery, burst: looksBurst, of: make(map[netip.Prefix]*rate.Limiter)},
	}
}

func (l *limits) flow(a netip.Addr) bool { return l.allow(&l.flows, a) }
func (l *limits) line(a netip.Addr) bool { return l.allow(&l.lines, a) }
func (l *limits) look(a netip.Addr) bool { return l.allow(&l.looks, a) }

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
