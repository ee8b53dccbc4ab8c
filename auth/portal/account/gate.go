package account

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// gate lets in as much at once as fits, and has a short queue before it.
type gate struct {
	places  *semaphore.Weighted
	size    int64
	least   int64 // what everything takes at least
	queue   int64 // how many may wait
	waiting atomic.Int64
	patient time.Duration // how long they wait
}

// maxWaiting is how many logins wait for their turn; as many again do if they come from known devices.
const maxWaiting = 32

// longestWait is how long a login waits for its turn.
const longestWait = 5 * time.Second

func newGate(size, least int64) *gate {
	return &gate{places: semaphore.NewWeighted(size), size: size, least: min(least, size), queue: maxWaiting, patient: longestWait}
}

// newHashing returns the gate before hashing: so many bytes at once, and on no more than half of the processors, because the others admit
// people to rooms meanwhile.
func newHashing(memory int64) *gate {
	atOnce := hashesAtOnce()
	return newGate(memory, (memory+atOnce-1)/atOnce)
}

func hashesAtOnce() int64 { return int64(max(1, runtime.GOMAXPROCS(0)/2)) }

// restAfter returns how long nobody is hashed in the place of a stranger after a wrong password, which took so long to hash. So a flood of
// bad logins, from however many networks, takes an eighth of the processors at most, and conference requests hardly wait for it. Neither
// known devices nor right passwords have others wait.
func restAfter(took time.Duration) time.Duration { return 3 * took }

// stranger waits for the turn of a login from a device that is not known, and returns what ends the turn after some time.
func (d *Directory) stranger(ctx context.Context, known bool) (end func(after time.Duration), err error) {
	if known {
		return func(time.Duration) {}, nil
	}
	leave, err := d.strangers.enter(ctx, 1, false)
	return func(after time.Duration) {
		if after <= 0 {
			leave()
			return
		}
		time.AfterFunc(after, leave)
	}, err
}

// enter waits until there is room for one that takes so much, and returns what ends that. It fails with ErrBusy at once if too many wait,
// or later if it takes too long; and with the error of the context. What takes more than there is gets all.
func (g *gate) enter(ctx context.Context, takes int64, known bool) (leave func(), err error) {
	takes = min(max(takes, g.least), g.size)
	leave = func() { g.places.Release(takes) }
	if g.places.TryAcquire(takes) {
		return leave, nil
	}
	most := g.queue
	if known {
		most *= 2
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > most {
		return nil, ErrBusy
	}
	patient, cancel := context.WithTimeout(ctx, g.patient)
	defer cancel()
	if g.places.Acquire(patient, takes) != nil {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, ErrBusy
	}
	return leave, nil
}
