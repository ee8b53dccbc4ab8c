// Package alarm has a loop sleep until something is due, or somebody rings.
package alarm

import (
	"context"
	"time"
)

// AtMost bounds a sleep until a time: somebody may put the clock forward, or the machine may have been asleep.
const AtMost = time.Second / 2

// Bell wakes one loop, which receives from it. Any goroutine may ring it.
type Bell chan struct{}

// NewBell returns a Bell that has not rung.
func NewBell() Bell { return make(Bell, 1) }

// Ring has the loop receive once, at once or when it next waits; what rings meanwhile is one ring. It does not block.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// Still takes a ring away that nobody has received.
func (b Bell) Still() {
	select {
	case <-b:
	default:
	}
}

// Alarm is a Bell that also rings when something is due.
type Alarm struct {
	Bell
	least time.Duration
}

// New returns an Alarm. Unless it rings, a sleep lasts for least, so that what is due about then is done together.
func New(least time.Duration) Alarm { return Alarm{NewBell(), least} }

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
	case <-a.Bell:
	case <-due:
	}
}
