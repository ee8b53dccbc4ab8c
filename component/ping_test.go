package component

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// slowSeeker is a mode that takes a moment to look for Jicofo.
type slowSeeker struct {
	mode
	n int
}

func (s *slowSeeker) seek() {
	s.n++
	time.Sleep(time.Millisecond)
}

// The server is pinged, and Jicofo looked for, at each pingEvery, whatever that takes and whether other ushers may have the store.
func TestPingsAtItsInterval(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testComponent(t)
				seeks := &slowSeeker{mode: c.mode}
				c.mode, c.shared = seeks, shared
				takes := time.Millisecond
				c.o.Holds = func() bool {
					time.Sleep(takes)
					takes = time.Millisecond - takes // the first tick, the third and so on are late
					return true
				}
				ctx, end := context.WithTimeout(t.Context(), time.Hour)
				defer end()
				if err := c.keepAlive(ctx); err != nil {
					t.Fatal(err)
				}
				// One comes at the beginning. A shared store makes for a second more between two.
				if least := int(time.Hour / (pingEvery + unsureEvery)); seeks.n < least {
					t.Errorf("looked for Jicofo %d times in an hour; want %d at least", seeks.n, least)
				}
			})
		})
	}
}
