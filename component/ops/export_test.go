package ops

import (
	"testing"
	"time"
)

// TryEvery changes the interval at which a taken address is tried, for a test.
func TryEvery(t *testing.T, d time.Duration) {
	was := listenEvery
	listenEvery = d
	t.Cleanup(func() { listenEvery = was })
}
