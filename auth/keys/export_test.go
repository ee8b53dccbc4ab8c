package keys

import (
	"testing"
	"time"
)

// MaxAge is maxAge.
var MaxAge = maxAge

// Unhurried gives fetches over real connections more time during a test, because the machine may be busy.
func Unhurried(t *testing.T) {
	was := fetchTimeout
	fetchTimeout = time.Minute
	t.Cleanup(func() { fetchTimeout = was })
}

// Remembered returns the number of kids that the source of a key server of Jitsi's kind remembers.
func Remembered(source Remote) int {
	s := source.(*asapServer)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept) + len(s.absent) + len(s.asking)
}
