package store

import (
	"path/filepath"
	"testing"
	"time"
)

// NewPath returns a path at which there is no store yet.
func NewPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "usher.db")
}

// SetClock gives a Lease the clocks of a machine.
func (l *Lease) SetClock(wall func() time.Time, mono func() time.Duration, after func(time.Duration) <-chan time.Time) {
	l.clock = &clock{wall, mono, after}
}
