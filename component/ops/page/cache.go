package page

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops"
)

const (
	// tick is the interval at which a stream says what is new. People should see a change within a second.
	tick = 250 * time.Millisecond
	// roomsIdle is the age at which the list of rooms is asked for again although no report has come in.
	roomsIdle = 2 * time.Second
	// roomsCost limits the list's cost: it is asked for only after so many times the time that it took.
	roomsCost = 50
	// checkEvery is the interval of the checks while somebody looks at the page, and checkWithin how long they may take.
	checkEvery, checkWithin = time.Second, 5 * time.Second
)

// roomsCache keeps the list of rooms for all who look at it.
type roomsCache struct {
	mu      sync.Mutex
	list    []component.RoomSummary
	version uint64 // grows when the list changes
	sum     uint64
	newest  uint64 // entry of the history when the list was taken
	standby bool   // there was no active component
	taken   time.Time
	cost    time.Duration
	seed    maphash.Seed
}

// current returns the list, sorted for the page, and its version. The list must not be changed.
func (p *page) current() ([]component.RoomSummary, uint64) {
	c := &p.rooms
	c.mu.Lock()
	defer c.mu.Unlock()
	source, age, newest := p.o.Active(), time.Since(c.taken), p.o.History.Newest()
	fresh := age < max(tick, roomsCost*c.cost) || newest == c.newest && age < roomsIdle
	if !c.taken.IsZero() && fresh && c.standby == (source == nil) {
		return c.list, c.version
	}
	if c.taken.IsZero() {
		c.seed = maphash.MakeSeed()
	}
	began := time.Now()
	var list []component.RoomSummary
	if source != nil {
		list = slices.Clone(source.Rooms())
	}
	// Rooms with people who wait come first. The rest stays in the order of addresses, so that a list at rest does not move.
	slices.SortStableFunc(list, func(a, b component.RoomSummary) int {
		switch {
		case a.Waiting > 0 && b.Waiting == 0:
			return -1
		case a.Waiting == 0 && b.Waiting > 0:
			return 1
		}
		return 0
	})
	sum := c.hash(list)
	if sum != c.sum || c.version == 0 {
		c.version++
	}
	c.list, c.sum, c.newest, c.standby = list, sum, newest, source == nil
	c.taken, c.cost = began, time.Since(began)
	return c.list, c.version
}

// hash stands for everything that the page shows of the list.
func (c *roomsCache) hash(list []component.RoomSummary) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	var text []byte
	for _, r := range list {
		text = append(text[:0], r.Room.String()...)
		for _, b := range []bool{r.Open, r.HostInside, r.Locked} {
			text = strconv.AppendBool(text, b)
		}
		for _, n := range []int64{r.Since.UnixNano(), int64(r.Hosts), int64(r.Members), int64(r.Guests), int64(r.Waiting)} {
			text = binary.BigEndian.AppendUint64(text, uint64(n))
		}
		_, _ = h.Write(text)
	}
	return h.Sum64()
}

// checksCache keeps what the checks found for all who look at it.
type checksCache struct {
	running sync.Mutex

	mu    sync.Mutex
	found []ops.Check
	taken time.Time
}

// check does the checks, unless somebody else does or has just done so.
func (p *page) check(ctx context.Context) {
	c := &p.checks
	if !c.running.TryLock() {
		return
	}
	defer c.running.Unlock()
	if c.mu.Lock(); time.Since(c.taken) < checkEvery*9/10 {
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	var found []ops.Check
	if p.o.Ready != nil {
		found = p.o.Ready(ctx)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the one who asked has gone: what was found says nothing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found, c.taken = found, time.Now()
}

// checked returns what the checks have found last.
func (p *page) checked() []ops.Check {
	c := &p.checks
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found
}

// failed names the checks that found a fault.
func failed(checks []ops.Check) string {
	var names []string
	for _, c := range checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}
