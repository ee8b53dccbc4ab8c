package keys_test

import (
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// The cost of asking for keys that are here already: the returned slice, and nothing else.
func BenchmarkWarmKeys(b *testing.B) {
	s := &server{}
	s.publishes(200, ecSet(b, "a", "b", "c", "d"))
	a, server := newASAP(b)
	a.publishes("/base", "d", readKey(b, "ec256.pem"))
	for name, source := range map[string]auth.KeySource{"set": remote(b, s, time.Hour), "asap": server} {
		b.Run(name, func(b *testing.B) {
			has(b, source, "d", 1)
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if keys, err := source.Keys(b.Context(), "d"); err != nil || len(keys) != 1 {
						b.Errorf("got %v, %v", keys, err)
					}
				}
			})
		})
	}
}
