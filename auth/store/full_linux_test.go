package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// TestNoRoomOnDisk: while the disk is full, Put returns a FullError, and the store has the earlier records and no others. When there is
// room again, the store goes on.
func TestNoRoomOnDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small disk here: mounting one needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmounting %s: %v", disk, err)
		}
	})
	path := filepath.Join(disk, "usher.db")
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	record := func(n int) store.Record {
		return store.Record{Kind: store.KindGrant, Key: fmt.Sprintf("%04d", n), Value: make([]byte, 5000), End: time.Now().Add(time.Hour)}
	}
	written := func(want int) {
		t.Helper()
		n := 0
		for r, err := range s.All(t.Context(), store.KindGrant) {
			if err != nil || r.Key != record(n).Key || len(r.Value) != 5000 {
				t.Fatalf("All has %.20q after %d, %v", r.Key, n, err)
			}
			n++
		}
		if n != want {
			t.Fatalf("there are %d records; want %d", n, want)
		}
	}
	isFull := func(err error) {
		t.Helper()
		var full *store.FullError
		if !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &full) || full.Kind != "" || !strings.Contains(err.Error(), path) {
			t.Fatalf("the error is %v", err)
		}
	}
	n := 0
	for ; n < 1000; n++ {
		if err = s.Put(t.Context(), record(n)); err != nil {
			break
		}
	}
	isFull(err)
	for range 5 {
		var many sync.WaitGroup
		for range 20 {
			many.Go(func() {
				if err := s.Put(t.Context(), record(n), store.Record{Kind: store.KindSession, Key: "s", End: time.Now().Add(time.Hour)}); !errors.Is(err, store.ErrFull) {
					t.Errorf("Put on a full disk: %v", err)
				}
			})
		}
		many.Wait()
		written(n)
		if _, err := s.Get(t.Context(), store.KindSession, "s"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("half of a Put is there: %v", err)
		}
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := s.Put(t.Context(), record(n)); err != nil {
			t.Fatalf("Put when there is room again: %v", err)
		}
		n++
	}
	written(n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Open says so if it may not write to the disk.
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err = store.Open(path, store.Options{}); err == nil || !strings.Contains(err.Error(), path) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("the error of a disk that is read-only is %v", err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	written(n)
	if err := errors.Join(s.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
}
