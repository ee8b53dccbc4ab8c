//go:build unix

package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// childEnv makes the test binary a child process of a test. Its value says what the child does, and with which file.
const childEnv = "STORE_TEST_CHILD"

func init() { child = another }

func another() {
	what, path, is := strings.Cut(os.Getenv(childEnv), ":")
	if !is {
		return
	}
	s, err := store.Open(path, store.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch what {
	case "write":
		writeForEver(s)
	case "limit":
		err = writeOverLimit(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func startChild(t *testing.T, what, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what+":"+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// kindOf returns the kind of the records of a goroutine: every other one's go through the journal.
func kindOf(n int) store.Kind { return []store.Kind{store.KindGrant, store.KindUsed}[n%2] }

// writeForEver puts records and deletes every third, and prints each that is done.
func writeForEver(s store.Store) {
	ctx, end := context.Background(), time.Now().Add(time.Hour)
	var wait sync.WaitGroup
	for n := range 16 {
		wait.Go(func() {
			for m := 0; ; m++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), n, m)
				value := []byte(key + strings.Repeat("v", m%3000))
				if err := s.Put(ctx, store.Record{Kind: kindOf(n), Key: key, Value: value, End: end}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Printf("+%s\n", key) // one write each: a line is whole, or not there
				if m%3 == 0 {
					if err := s.Delete(ctx, kindOf(n), key); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
					fmt.Printf("-%s\n", key)
				}
			}
		})
	}
	wait.Wait()
}

// TestKilled: whenever the process is killed, the store has the records of finished Puts, and not those of finished Deletes.
func TestKilled(t *testing.T) {
	path := store.NewPath(t)
	there := map[string]bool{}
	for round := range 6 {
		cmd, lines := startChild(t, "write", path)
		n := 0
		for lines.Scan() {
			line := lines.Text()
			there[line[1:]] = line[0] == '+'
			if n++; n == 50+211*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); n < 50 || err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the process ended after %d lines by itself: %v", n, err)
		}
		s := open(t, path, store.Options{})
		lost, left := 0, 0
		for key, is := range there {
			var pid, n int
			if _, err := fmt.Sscanf(key, "%d-%d-", &pid, &n); err != nil {
				t.Fatal(err)
			}
			r, err := s.Get(t.Context(), kindOf(n), key)
			switch {
			case is && errors.Is(err, store.ErrNotFound):
				// The last Delete may be done and not printed.
				if deleted(key) {
					continue
				}
				lost++
			case is && (err != nil || !strings.HasPrefix(string(r.Value), key)):
				t.Errorf("Get(%s) = %.30q, %v", key, r.Value, err)
			case !is && !errors.Is(err, store.ErrNotFound):
				left++
			}
		}
		if lost+left > 0 {
			t.Errorf("killed after %d lines: of %d keys %d that were put are lost, %d that were deleted are left", n, len(there), lost, left)
		}
		put(t, s, store.KindHeld, 10, time.Now().Add(time.Hour))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// deleted reports whether writeForEver deletes the key.
func deleted(key string) bool {
	var pid, n, m int
	_, err := fmt.Sscanf(key, "%d-%d-%d", &pid, &n, &m)
	return err == nil && m%3 == 0
}

// writeOverLimit writes until the file may not grow any more, as if the disk were full, and then checks the records.
func writeOverLimit(s store.Store) error {
	signal.Ignore(syscall.SIGXFSZ) // so that it is an error of the write, as on a full disk
	const limit = 1 << 20
	var may syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &may); err != nil {
		return err
	}
	less := may
	less.Cur = limit
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &less); err != nil {
		return err
	}
	ctx, end, large := context.Background(), time.Now().Add(time.Hour), make([]byte, store.MaxValue)
	n := 0
	var err error
	for ; n < 1000 && err == nil; n++ {
		err = s.Put(ctx, store.Record{Kind: store.KindGrant, Key: fmt.Sprintf("%04d", n), Value: large, End: end})
	}
	if err == nil || n < 10 {
		return fmt.Errorf("put %d records, then %v", n, err)
	}
	fmt.Println(err)
	n-- // the last one is the one that failed
	for range 3 {
		found := 0
		for r, err := range s.All(ctx, store.KindGrant) {
			if err != nil || r.Key != fmt.Sprintf("%04d", found) || len(r.Value) != len(large) {
				return fmt.Errorf("All after the failure: %q after %d, %v", r.Key, found, err)
			}
			found++
		}
		if found != n {
			return fmt.Errorf("after the failure there are %d records of %d", found, n)
		}
		if err := s.Put(ctx, store.Record{Kind: store.KindGrant, Key: "more", Value: large, End: end}); err == nil {
			return errors.New("a Put after the failure says that it is safe")
		}
	}
	if _, err := s.Get(ctx, store.KindGrant, "0000"); err != nil {
		return fmt.Errorf("Get after the failure: %w", err)
	}
	// A Delete makes room.
	for i := range n / 2 {
		if err := s.Delete(ctx, store.KindGrant, fmt.Sprintf("%04d", i)); err != nil {
			return fmt.Errorf("Delete after the failure: %w", err)
		}
	}
	if err := s.Put(ctx, store.Record{Kind: store.KindGrant, Key: "more", Value: large[:100], End: end}); err != nil {
		return fmt.Errorf("Put after room was made: %w", err)
	}
	// So does somebody else who frees the disk.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &may); err != nil {
		return err
	}
	for i := range n {
		if err := s.Put(ctx, store.Record{Kind: store.KindHeld, Key: fmt.Sprintf("%04d", i), Value: large, End: end}); err != nil {
			return fmt.Errorf("Put when there is room again: %w", err)
		}
	}
	fmt.Println(n - n/2 + 1)
	return nil
}

// TestDiskFull: a Put that cannot be written is an error, and this process and the next still have the earlier records.
func TestDiskFull(t *testing.T) {
	path := store.NewPath(t)
	cmd, lines := startChild(t, "limit", path)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if err := cmd.Wait(); err != nil || len(said) != 2 {
		t.Fatalf("the process said %q and ended with %v", said, err)
	}
	wantError(t, errors.New(said[0]), path, "file too large")
	if n := count(t, open(t, path, store.Options{}), store.KindGrant); fmt.Sprint(n) != said[1] {
		t.Errorf("there are %d records; want %s", n, said[1])
	}
}
