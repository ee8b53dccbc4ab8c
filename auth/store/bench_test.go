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

// BenchmarkGet looks up one session.
func BenchmarkGet(b *testing.B) {
	each(b, func(b *testing.B, s store.Store) {
		filled(b, s, 10_000)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			if _, err := s.Get(b.Context(), store.KindSession, fmt.Sprint(n%10_000)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAll reads 10,000 records, as at a start.
func BenchmarkAll(b *testing.B) {
	each(b, func(b *testing.B, s store.Store) {
		filled(b, s, 10_000)
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range s.All(b.Context(), store.KindSession) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 10_000 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkOpen opens a full store, which reads the whole file.
func BenchmarkOpen(b *testing.B) {
	path := store.NewPath(b)
	s := open(b, path, store.Options{})
	filled(b, s, 100_000)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := store.Open(path, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
