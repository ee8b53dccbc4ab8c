// Package alarm has a loop sleep until something is due.
package alarm

import (
	"context"
	"time"
)

// AtMost bounds a sleep until a time: somebody may put the clock forward, or the machine may have been asleep.
const AtMost = time.Second / 2

// Alarm wakes one loop. Any goroutine may ring it.
type Alarm struct {
	rung  chan struct{}
	least time.Duration
}

// New returns an Alarm. Unless it rings, a sleep lasts for least, so that what is due about then is done together.
func New(least time.Duration) Alarm { return Alarm{make(chan struct{}, 1), least} }

// Ring has Sleep return, or the next Sleep if the loop is awake. It does not block.
func (a Alarm) Ring() {
	select {
	case a.rung <- struct{}{}:
	default:
	}
}

// Sleep returns when it is that time, never if the time is zero, and also after Ring or when ctx ends. It may return early.
func (a Alarm) Sleep(ctx context.Context, now, until time.Time) {
	var due <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(max(a.least, min(until.Sub(now), AtMost)))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-a.rung:
	case <-due:
	}
}
