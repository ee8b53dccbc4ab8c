package keys

import (
	"testing"
	"time"
)

// MaxAge is maxAge.
var MaxAge = maxAge

// Unhurried gives fetches over real connections more time during a test, since a machine may have much else to do.
func Unhurried(t *testing.T) {
	was := fetchTimeout
	fetchTimeout = time.Minute
	t.Cleanup(func() { fetchTimeout = was })
}

// Remembered is how many kids the source of a key server of Jitsi's knows of.
func Remembered(source Remote) int {
	s := source.(*asapServer)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept) + len(s.absent) + len(s.asking)
}
