package account

import (
	"net/netip"
	"sync"
	"time"
)

// The delay after one failure too many, which doubles with each more.
const firstDelay, longestDelay = time.Second, 15 * time.Minute

// maxRecords is how many accounts, networks and devices are remembered, of each.
const maxRecords = 8192

// schedule is how failures count.
type schedule struct {
	free int           // how many cost nothing
	leak time.Duration // one failure is forgotten each time this has passed
}

// In the long run, as many passwords can be tried as are forgotten: 144 a day for an account, and 1440 a day from a network, in which many
// people may sit behind one address.
var (
	ofAccount = schedule{free: 5, leak: 10 * time.Minute}
	ofNetwork = schedule{free: 20, leak: time.Minute}
	ofDevice  = schedule{free: 5, leak: 10 * time.Minute}
)

// record is what is known of the failures of one key.
type record struct {
	failures int       // when the last one happened
	last     time.Time // of the failures
	pending  int       // attempts that are being checked; each may be one more failure
}

// count returns how many failures are not forgotten.
func (r record) count(s schedule, now time.Time) int {
	return max(0, r.failures-int(max(0, now.Sub(r.last))/s.leak))
}

// wait returns how long it takes until one more attempt is heard; 0 for now. Attempts that are being checked count as failures: otherwise
// many at once would be heard for the price of one.
func (r record) wait(s schedule, now time.Time) time.Duration {
	count := r.count(s, now)
	if count+r.pending < s.free {
		return 0
	}
	if r.pending > 0 {
		return delay(count + r.pending - s.free)
	}
	d := delay(r.failures - s.free)
	return min(d, max(0, r.last.Add(d).Sub(now))) // no longer, should the clock go back
}

// delay returns how long to wait after so many failures beyond those that cost nothing.
func delay(beyond int) time.Duration {
	if beyond > 10 { // 1024 s
		return longestDelay
	}
	return min(firstDelay<<max(0, beyond), longestDelay)
}

// limit counts the failures of keys of one kind.
type limit[K comparable] struct {
	schedule
	most int
	of   map[K]*record
}

func newLimit[K comparable](s schedule) *limit[K] {
	return &limit[K]{schedule: s, most: maxRecords, of: make(map[K]*record)}
}

func (l *limit[K]) wait(key K, now time.Time) time.Duration {
	if r := l.of[key]; r != nil {
		return r.wait(l.schedule, now)
	}
	return 0
}

// begin counts an attempt that is being checked; end must be called then.
func (l *limit[K]) begin(key K, now time.Time) {
	r := l.of[key]
	if r == nil {
		l.makeRoom(now)
		r = new(record)
		l.of[key] = r
	}
	r.pending++
}

// end says how an attempt ended, and returns how long the next one has to wait.
func (l *limit[K]) end(key K, now time.Time, how outcome, forgives bool) time.Duration {
	r := l.of[key]
	r.pending--
	switch {
	case how == failed:
		r.failures, r.last = r.count(l.schedule, now)+1, now
	case how == succeeded && forgives:
		r.failures = 0
	}
	if r.pending == 0 && r.count(l.schedule, now) == 0 {
		delete(l.of, key)
	}
	return r.wait(l.schedule, now)
}

// makeRoom drops records if there are too many: those with the fewest failures, because somebody who tries one name after the other leaves
// one failure at each.
func (l *limit[K]) makeRoom(now time.Time) {
	if len(l.of) < l.most {
		return
	}
	having := make(map[int]int) // how many records have so many failures
	highest := 0
	for _, r := range l.of {
		n := r.count(l.schedule, now)
		having[n]++
		highest = max(highest, n)
	}
	left, below := len(l.of), 0
	for ; below <= highest && left > l.most*3/4; below++ {
		left -= having[below]
	}
	for key, r := range l.of {
		if r.pending == 0 && r.count(l.schedule, now) < below {
			delete(l.of, key)
		}
	}
}

// outcome is how an attempt ended.
type outcome int

const (
	dropped outcome = iota // nothing was found out
	failed
	succeeded
)

// limits say whether an attempt to log in is heard.
type limits struct {
	mu       sync.Mutex
	accounts *limit[key]
	networks *limit[netip.Prefix]
	devices  *limit[key]
}

// key is the hash of a name, or of a name and a device: of the same size, however long these are.
type key [32]byte

func newLimits() *limits {
	return &limits{accounts: newLimit[key](ofAccount), networks: newLimit[netip.Prefix](ofNetwork), devices: newLimit[key](ofDevice)}
}

// attempt is one that is being checked.
type attempt struct {
	limits  *limits
	account key
	network netip.Prefix
	device  *key // a device on which somebody has logged in to this account before; nil if it is none
	done    bool
}

// begin returns the attempt, of which end must be called, or how long to wait until one is heard. A known device is counted by itself, so
// that the failures of others keep nobody out.
func (l *limits) begin(a attempt, now time.Time) (*attempt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.limits = l
	if a.device != nil {
		if wait := l.devices.wait(*a.device, now); wait > 0 {
			return nil, wait
		}
		l.devices.begin(*a.device, now)
		return &a, 0
	}
	if wait := max(l.accounts.wait(a.account, now), l.networks.wait(a.network, now)); wait > 0 {
		return nil, wait
	}
	l.accounts.begin(a.account, now)
	l.networks.begin(a.network, now)
	return &a, 0
}

// end says how the attempt ended, and returns how long the next one has to wait. Only the first call counts. A success forgives the
// failures of the account and of the device, but not those of the network: there, somebody with an account of their own could try the
// passwords of all others.
func (a *attempt) end(how outcome, now time.Time) time.Duration {
	a.limits.mu.Lock()
	defer a.limits.mu.Unlock()
	if a.done {
		return 0
	}
	a.done = true
	if a.device != nil {
		return a.limits.devices.end(*a.device, now, how, true)
	}
	return max(a.limits.accounts.end(a.account, now, how, true), a.limits.networks.end(a.network, now, how, false))
}
