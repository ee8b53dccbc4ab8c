package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// atOnce runs do b.N times, by so many goroutines, and reports how long each call took, in µs-each.
func atOnce(b *testing.B, goroutines int, do func(n int64) error) {
	var next, waited atomic.Int64
	var wait sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wait.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				began := time.Now()
				if err := do(n); err != nil {
					b.Error(err)
				}
				waited.Add(int64(time.Since(began)))
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(waited.Load())/float64(b.N)/1000, "µs-each")
}

// BenchmarkPut puts the grant of one person, alone and when many come at once: how long each waits, in µs-each, and how long the
// store needs for each, in ns/op.
func BenchmarkPut(b *testing.B) {
	value, end := make([]byte, 300), time.Now().Add(time.Hour)
	for _, at := range []int{1, 64} {
		b.Run(fmt.Sprintf("parallel=%d", at), func(b *testing.B) {
			each(b, func(b *testing.B, s store.Store) {
				atOnce(b, at, func(n int64) error {
					// Keys come again, as people who are let in again have the same grant.
					return s.Put(b.Context(), store.Record{Kind: store.KindGrant, Key: fmt.Sprint(n % 50_000), Value: value, End: end})
				})
			})
		})
	}
}

// BenchmarkAdmission puts the session and the grant of one person: together and, for comparison, one after the other.
func BenchmarkAdmission(b *testing.B) {
	value, end := make([]byte, 300), time.Now().Add(time.Hour)
	for _, at := range []int{1, 50} {
		for _, together := range []bool{true, false} {
			b.Run(fmt.Sprintf("parallel=%d/together=%t", at, together), func(b *testing.B) {
				each(b, func(b *testing.B, s store.Store) {
					atOnce(b, at, func(n int64) error {
						session := store.Record{Kind: store.KindSession, Key: fmt.Sprint("s", n%50_000), Value: value, End: end}
						grant := store.Record{Kind: store.KindGrant, Key: fmt.Sprint("g", n%50_000), Value: value, End: end}
						if together {
							return s.Put(b.Context(), session, grant)
						}
						return errors.Join(s.Put(b.Context(), session), s.Put(b.Context(), grant))
					})
				})
			})
		}
	}
}

// BenchmarkGet looks up one session, alone and while many do.
func BenchmarkGet(b *testing.B) {
	for _, at := range []int{1, 50} {
		b.Run(fmt.Sprintf("parallel=%d", at), func(b *testing.B) {
			each(b, func(b *testing.B, s store.Store) {
				filled(b, s, store.KindSession, 10_000)
				b.ReportAllocs()
				atOnce(b, at, func(n int64) error {
					_, err := s.Get(b.Context(), store.KindSession, fmt.Sprint(n%10_000))
					return err
				})
			})
		})
	}
}

// BenchmarkAdd uses up one-time tokens, of which nobody has seen any before.
func BenchmarkAdd(b *testing.B) {
	each(b, func(b *testing.B, s store.Store) {
		value, end := make([]byte, 100), time.Now().Add(time.Hour)
		atOnce(b, 50, func(n int64) error {
			_, _, err := s.Add(b.Context(), store.Record{Kind: store.KindUsed, Key: fmt.Sprint(n), Value: value, End: end})
			return err
		})
	})
}

// BenchmarkPairs has two machines show each one-time token at the same moment, over two connections to one Redis. It reports how many are
// admitted of 1,000 pairs, which must be 1,000.
func BenchmarkPairs(b *testing.B) {
	_, ways := onRedis(b)
	var admitted atomic.Int64
	atOnce(b, 50, func(n int64) error {
		var errs [2]error
		var both sync.WaitGroup
		begin := make(chan struct{})
		for i := range ways {
			both.Go(func() {
				<-begin
				ok, err := store.Used{Store: ways[i]}.Use(b.Context(), proofOf(fmt.Sprint(b.N, "-", n), "", "", "my_app"), fmt.Sprint(i), time.Now().Add(time.Hour))
				if errs[i] = err; ok {
					admitted.Add(1)
				}
			})
		}
		close(begin)
		both.Wait()
		return errors.Join(errs[:]...)
	})
	if n := admitted.Load(); n != int64(b.N) {
		b.Errorf("%d pairs: %d admissions", b.N, n)
	}
	b.ReportMetric(float64(admitted.Load())*1000/float64(b.N), "admitted/1000")
}

// BenchmarkStart opens a store with 100,000 sessions and 100,000 grants, and reads all, as usher does when it starts.
func BenchmarkStart(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			open := backend.new(b)
			s := open()
			filled(b, s, store.KindSession, 100_000)
			filled(b, s, store.KindGrant, 100_000)
			for b.Loop() {
				if backend.name != "memory" { // which would forget them
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
				s = open()
				for _, k := range []store.Kind{store.KindSession, store.KindGrant} {
					n := 0
					for _, err := range s.All(b.Context(), k) {
						if err != nil {
							b.Fatal(err)
						}
						n++
					}
					if n != 100_000 {
						b.Fatal(n)
					}
				}
			}
		})
	}
}
