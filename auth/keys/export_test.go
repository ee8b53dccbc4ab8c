package keys

import (
	"testing"
	"time"
)

// Unhurried gives fetches over real connections more time during a test, since a machine may have much else to do.
func Unhurried(t *testing.T) {
	was := fetchTimeout
	fetchTimeout = time.Minute
	t.Cleanup(func() { fetchTimeout = was })
}
