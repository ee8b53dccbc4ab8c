package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// BenchmarkPut is one of those that are let in, alone and when many are at once: how long each waits, in µs-each, and
// how long the store needs for each, in ns/op.
func BenchmarkPut(b *testing.B) {
	value, end := make([]byte, 300), time.Now().Add(time.Hour)
	for _, at := range []int{1, 64} {
		b.Run(fmt.Sprintf("parallel=%d", at), func(b *testing.B) {
			each(b, func(b *testing.B, s store.Store) {
				var next atomic.Int64
				var waited atomic.Int64
				var wait sync.WaitGroup
				b.ResetTimer()
				for range at {
					wait.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							began := time.Now()
							// Keys come again, as those who are let in again have the same grant.
							err := s.Put(b.Context(), store.Record{Kind: store.KindGrant, Key: fmt.Sprint(n % 50_000), Value: value, End: end})
							if err != nil {
								b.Error(err)
							}
							waited.Add(int64(time.Since(began)))
						}
					})
				}
				wait.Wait()
				b.ReportMetric(float64(waited.Load())/float64(b.N)/1000, "µs-each")
			})
		})
	}
}

// BenchmarkAdmission is one of those that are let in by a token, whose session and grant are written down: together, and one after the
// other, for comparison.
func BenchmarkAdmission(b *testing.B) {
	value, end := make([]byte, 300), time.Now().Add(time.Hour)
	for _, at := range []int{1, 50} {
		for _, together := range []bool{true, false} {
			b.Run(fmt.Sprintf("parallel=%d/together=%t", at, together), func(b *testing.B) {
				each(b, func(b *testing.B, s store.Store) {
					var next, waited atomic.Int64
					var wait sync.WaitGroup
					b.ResetTimer()
					for range at {
						wait.Go(func() {
							for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
								began := time.Now()
								session := store.Record{Kind: store.KindSession, Key: fmt.Sprint("s", n%50_000), Value: value, End: end}
								grant := store.Record{Kind: store.KindGrant, Key: fmt.Sprint("g", n%50_000), Value: value, End: end}
								writes := [][]store.Record{{session, grant}}
								if !together {
									writes = [][]store.Record{{session}, {grant}}
								}
								for _, records := range writes {
									if err := s.Put(b.Context(), records...); err != nil {
										b.Error(err)
									}
								}
								waited.Add(int64(time.Since(began)))
							}
						})
					}
					wait.Wait()
					b.ReportMetric(float64(waited.Load())/float64(b.N)/1000, "µs-each")
				})
			})
		}
	}
}

// BenchmarkGet is a session that is looked up.
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

// BenchmarkAll is a start with 10,000 records.
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

// BenchmarkOpen is a start with a full store: all that is in the file is read, to know that it is whole.
func BenchmarkOpen(b *testing.B) {
	path := newPath(b)
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
