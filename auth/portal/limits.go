package portal

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/xmpp-usher/usher/pkg/serve"
)

// What people without a session may do, each network by itself. Attempts to log in have limits of their own, see account.Directory.
const (
	flowsEvery, flowsBurst = 1, 30  // logins begun at a provider, a second: each is a record in the store
	looksEvery, looksBurst = 5, 200 // questions about rooms, a second: a whole school may be behind one address
	toldEvery, toldBurst   = 1, 20  // calls in the audit log, a second
	// maxNetworks is how many networks are remembered. Beyond that all have one limit together.
	maxNetworks = 4096
)

// limits are the limits of networks.
type limits struct {
	now   func() time.Time
	mu    sync.Mutex
	flows map[netip.Prefix]*rate.Limiter
	looks map[netip.Prefix]*rate.Limiter
	tells map[netip.Prefix]*rate.Limiter
}

func newLimits(now func() time.Time) *limits {
	return &limits{now: now, flows: make(map[netip.Prefix]*rate.Limiter), looks: make(map[netip.Prefix]*rate.Limiter), tells: make(map[netip.Prefix]*rate.Limiter)}
}

func (l *limits) flow(a netip.Addr) bool { return l.allow(l.flows, a, flowsEvery, flowsBurst) }
func (l *limits) look(a netip.Addr) bool { return l.allow(l.looks, a, looksEvery, looksBurst) }
func (l *limits) told(a netip.Addr) bool { return l.allow(l.tells, a, toldEvery, toldBurst) }

func (l *limits) allow(of map[netip.Prefix]*rate.Limiter, a netip.Addr, every rate.Limit, burst int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, at := l.now(), serve.Network(a)
	one := of[at]
	if one == nil && len(of) >= maxNetworks {
		for network, limiter := range of {
			if limiter.TokensAt(now) >= float64(burst) { // as new
				delete(of, network)
			}
		}
		if len(of) >= maxNetworks {
			at = netip.Prefix{}
			one = of[at]
		}
	}
	if one == nil {
		one = rate.NewLimiter(every, burst)
		of[at] = one
	}
	return one.AllowN(now, 1)
}
