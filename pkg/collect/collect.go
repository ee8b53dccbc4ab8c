// Package collect sets how often Go's garbage collector runs in a server.
package collect

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// headroom is how many bytes are allocated between two runs, about.
	headroom = 24 << 20
	// least and most are the limits of GOGC, in percent. With very much alive, a run takes long, and must not come too often; with little
	// alive, the heap must not grow to many times that.
	least, most = 15, 400
	// littleElse is a change of GOGC that is not worth stopping all goroutines for, in percent.
	littleElse = 5
)

// Pace has the collector run each time that so many bytes were allocated, whatever is alive. By Go's default the pause grows with what is alive:
// usher with a few rooms would collect every few hundred requests, and with ten thousand full ones use twice the memory that it needs. GOGC in
// the environment goes first. It lasts until the process ends; more calls change nothing.
func Pace() { pace() }

var pace = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		again(debug.SetGCPercent(most))
	}
})

// again sets GOGC now, and after each run of the collector, by what it has left alive.
func again(was int) {
	now := percent(alive())
	if now < was-littleElse || now > was+littleElse {
		debug.SetGCPercent(now)
	} else {
		now = was
	}
	runtime.AddCleanup(new(mark), again, now) // runs when the collector has found the mark
}

// mark is garbage at once. It has a pointer, so that it has an allocation of its own.
type mark struct{ _ *mark }

// alive is how many bytes the last run of the collector has left on the heap.
func alive() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// percent is the GOGC with which there is the headroom.
func percent(alive uint64) int { return int(min(max(headroom*100/max(alive, 1), least), most)) }
