package keys

import (
	"crypto/sha256"
	"net/url"
	"testing"
	"time"
)

// A kid that somebody is about to ask for is not taken for one without a key: the next who wants it waits for the same
// answer. From outside that moment is too short to be met.
func TestASAPAboutToAsk(t *testing.T) {
	s := &asapServer{folder: &url.URL{}, documents: map[[sha256.Size]byte]*asapKey{}}
	now := time.Now()
	first, err := s.key("k1", now)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := s.key("k1", now); err != nil || second != first {
		t.Errorf("got another document, %v", err)
	}
}
