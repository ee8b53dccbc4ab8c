package api

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"

	"github.com/xmpp-usher/usher/pkg/serve"
)

// Rate is how many calls a second each key may make for long, and how many at once. Zero means the default: 10 and 20.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Callers without a key that counts are heard as often as these say, each address by itself and all of them together. Beyond that
// they get 429, and the audit log does not grow. A good key is never refused for what others at its address do, who may be behind
// the same proxy: nobody finds 32 random bytes by trying.
const (
	strangerEvery, strangerBurst   = 1, 20 // calls a second
	strangersEvery, strangersBurst = 20, 200
	// maxStrangers is how many addresses are remembered.
	maxStrangers = 4096
)

type limits struct {
	rate      Rate
	mu        sync.Mutex
	keys      map[string]*rate.Limiter // by name
	strangers map[netip.Prefix]*rate.Limiter
	together  *rate.Limiter
}

func newLimits(r Rate) *limits {
	if r.PerSecond <= 0 {
		r.PerSecond = 10
	}
	if r.Burst <= 0 {
		r.Burst = 20
	}
	return &limits{
		rate: r, keys: make(map[string]*rate.Limiter), strangers: make(map[netip.Prefix]*rate.Limiter),
		together: rate.NewLimiter(strangersEvery, strangersBurst),
	}
}

// call reports whether a key may make one more call now.
func (l *limits) call(k *Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.keys[k.Name]
	if of == nil {
		of = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
		l.keys[k.Name] = of // as many as there were keys
	}
	return of.Allow()
}

// stranger reports whether somebody at an address without a key that counts is heard once more.
func (l *limits) stranger(remote string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, _ := netip.ParseAddr(remote)
	at := serve.Network(a)
	of := l.strangers[at]
	if of == nil {
		if len(l.strangers) >= maxStrangers {
			clear(l.strangers) // the limit of all together holds on
		}
		of = rate.NewLimiter(strangerEvery, strangerBurst)
		l.strangers[at] = of
	}
	return of.Allow() && l.together.Allow()
}

// maxStreams and maxStreamsOfKey are how many calls of /decisions/stream may be open.
const maxStreams, maxStreamsOfKey = 64, 8

// streams counts open streams.
type streams struct {
	mu   sync.Mutex
	of   map[string]int // by the key's name
	open int
}

func newStreams() *streams { return &streams{of: make(map[string]int)} }

// begin reports whether one more may be open; end must be called then.
func (s *streams) begin(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= maxStreams || s.of[key] >= maxStreamsOfKey {
		return false
	}
	s.open++
	s.of[key]++
	return true
}

func (s *streams) end(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.of[key]--; s.of[key] == 0 {
		delete(s.of, key)
	}
}
