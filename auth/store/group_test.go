package store

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// opened opens a store in a new file.
func opened(t *testing.T, o Options) *bolt {
	t.Helper()
	s, err := Open(NewPath(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*bolt)
}

// transaction returns the number of the last written transaction.
func (s *bolt) transaction(t *testing.T) (n int) {
	t.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// together makes changes while a group is written, so that they share the next group.
func (s *bolt) together(changes ...func()) (wait func()) {
	s.writing.Lock()
	var all sync.WaitGroup
	for n, each := range changes {
		all.Go(each)
		for joined := 0; joined <= n; runtime.Gosched() {
			s.mu.Lock()
			if s.next != nil {
				joined = len(s.next.changes)
			}
			s.mu.Unlock()
		}
	}
	s.writing.Unlock()
	return all.Wait
}

// TestGroup: changes that come while the disk is at work share one write, and one that fails does not disturb the others.
func TestGroup(t *testing.T) {
	s := opened(t, Options{MaxBytes: 1 << 20})
	record := func(n int, value int) Record {
		return Record{Kind: KindHeld, Key: fmt.Sprintf("%03d", n), Value: make([]byte, value), End: time.Now().Add(time.Hour)}
	}
	// A change that comes alone is one write, also with two records.
	before := s.transaction(t)
	if err := s.Put(t.Context(), record(0, 10), Record{Kind: KindUsed, Key: "s", End: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if n := s.transaction(t) - before; n != 1 {
		t.Errorf("one Put was %d writes", n)
	}
	var changes []func()
	for n := 1; n < 50; n++ {
		changes = append(changes, func() {
			if err := s.Put(t.Context(), record(n, 10)); err != nil {
				t.Errorf("Put: %v", err)
			}
		})
	}
	var large []Record
	for n := range 20 {
		large = append(large, record(1000+n, MaxValue))
	}
	changes = append(changes,
		func() {
			if err := s.Put(t.Context(), large...); !errors.Is(err, ErrFull) {
				t.Errorf("Put of too much: %v", err)
			}
		},
		func() {
			if err := s.Delete(t.Context(), KindHeld, "000", "nobody"); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	before = s.transaction(t)
	s.together(changes...)()
	if n := s.transaction(t) - before; n != 1 {
		t.Errorf("%d changes were %d writes; want 1", len(changes), n)
	}
	n := 0
	for r, err := range s.All(t.Context(), KindHeld) {
		if n++; err != nil || r.Key != fmt.Sprintf("%03d", n) {
			t.Errorf("All has %q, %v", r.Key, err)
		}
	}
	if n != 49 {
		t.Errorf("there are %d records", n)
	}
	// A change without an effect writes nothing.
	before = s.transaction(t)
	for _, err := range []error{s.Delete(t.Context(), KindHeld, "nobody"), s.Put(t.Context())} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.Put(t.Context(), large...); !errors.Is(err, ErrFull) {
		t.Errorf("Put of too much: %v", err)
	}
	if n := s.transaction(t) - before; n != 0 {
		t.Errorf("nothing was %d writes", n)
	}
}

// TestGroupFails: if a group cannot be written, all of its changes fail and none is written. The store goes on.
func TestGroupFails(t *testing.T) {
	s := opened(t, Options{})
	r := Record{Kind: KindHeld, Key: "a", Value: []byte("1"), End: time.Now().Add(time.Hour)}
	if err := s.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for name, fails := range map[string]func(*writer) error{
		"error": func(*writer) error { return errors.New("bad sector") },
		"panic": func(*writer) error { panic("SECRET") },
	} {
		t.Run(name, func(t *testing.T) {
			bytes := s.accounts[KindHeld].bytes
			var errs [3]error
			s.together(
				func() { errs[0] = s.Put(t.Context(), Record{Kind: KindHeld, Key: "b", End: r.End}) },
				func() { errs[1] = s.write(fails) },
				func() { errs[2] = s.Delete(t.Context(), KindHeld, "a") },
			)()
			for n, err := range errs {
				if err == nil || errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), s.path) || strings.Contains(err.Error(), "SECRET") {
					t.Errorf("change %d: %v", n, err)
				}
			}
			if _, err := s.Get(t.Context(), KindHeld, "a"); err != nil {
				t.Errorf("the record from before: %v", err)
			}
			if _, err := s.Get(t.Context(), KindHeld, "b"); !errors.Is(err, ErrNotFound) {
				t.Errorf("the record that was not written: %v", err)
			}
			if err := s.Put(t.Context(), r); err != nil || s.accounts[KindHeld].bytes != bytes {
				t.Errorf("afterwards: %v; %d bytes and not %d", err, s.accounts[KindHeld].bytes, bytes)
			}
		})
	}
}
