package muc

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While nothing is due nobody looks what the time is.
func TestSleepsWhileNothingIsDue(t *testing.T) {
	var looks atomic.Int64
	options := Options{Ledger: Forgetful{}, Now: func() time.Time { looks.Add(1); return time.Now() }}
	for name, runs := range map[string]func() interface{ Run(context.Context) }{
		"Guard": func() interface{ Run(context.Context) } {
			return NewGuard(GuardOptions{Interval: time.Second, Options: options})
		},
		"Rooms": func() interface{ Run(context.Context) } { return NewRooms(options) },
	} {
		t.Run(name, func(t *testing.T) {
			looks.Store(0)
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { runs().Run(ctx) })
				time.Sleep(time.Hour)
				end()
				running.Wait()
			})
			if n := looks.Load(); n > 10 {
				t.Errorf("looked %d times in an hour", n)
			}
		})
	}
}
