package store_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// put puts n small records of a kind at once.
func put(t testing.TB, s store.Store, k store.Kind, n int, end time.Time) {
	t.Helper()
	putAll(t, s, n, func(i int) store.Record {
		return store.Record{Kind: k, Key: fmt.Sprint(end.Unix(), i), Value: []byte("value"), End: end}
	})
}

// putAll puts n records at once.
func putAll(t testing.TB, s store.Store, n int, record func(i int) store.Record) {
	t.Helper()
	var wait sync.WaitGroup
	at := make(chan struct{}, 1000)
	for i := range n {
		at <- struct{}{}
		wait.Go(func() {
			if err := s.Put(t.Context(), record(i)); err != nil {
				t.Errorf("Put: %v", err)
			}
			<-at
		})
	}
	wait.Wait()
}

// settled returns when the file has what the journal of a store had: it is written together with a change that waits for the disk.
func settled(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Delete(t.Context(), store.KindBar, "nobody"); err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, s store.Store, k store.Kind) (n int) {
	t.Helper()
	for _, err := range s.All(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// reopened closes a store, opens its file by bbolt, and returns that and the bytes of the file in use.
func reopened(t *testing.T, s store.Store, path string) (db *bbolt.DB, used int64) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return db, used
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error is %q; want %q in it", err, word)
		}
	}
}

// written returns the bytes of a store with records.
func written(t testing.TB, records int) []byte {
	t.Helper()
	path := store.NewPath(t)
	s := open(t, path, store.Options{})
	put(t, s, store.KindSession, records, time.Now().Add(time.Hour))
	put(t, s, store.KindGrant, 3, time.Now().Add(time.Hour))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// child turns this process into the child process of a test, and then does not return. It does nothing in any other process.
var child = func() {}

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

// open opens a store, and fails the test if it cannot.
func open(t testing.TB, path string, o store.Options) store.Store {
	t.Helper()
	s, err := store.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func standup(clock *storetest.Clock) auth.Session {
	return auth.Session{
		Machine: "0123456789abcdef0123456789abcdef", VHost: "meet.example.com", Issuer: "portal",
		Room: "standup", Subject: "meet.example.com", Tenant: "tenant", Affiliation: auth.Owner, Identity: "juliet@example.com",
		LobbyBypass: true, Features: `{"recording":true}`, Token: auth.TokenRef{Issuer: "portal", ID: "1", KeyID: "2026"}, Expires: clock.Now().Add(time.Hour),
	}
}

// add begins a session and puts its record.
func add(t *testing.T, s store.Sessions, began auth.Session) (id string, err error) {
	t.Helper()
	id, r, err := s.Begin(began)
	if err == nil {
		err = s.Store.Put(t.Context(), r)
	}
	if err != nil {
		return "", err
	}
	return id, nil
}

func wantNoSession(t *testing.T, s store.Sessions, id string) {
	t.Helper()
	if got, err := s.Session(t.Context(), id); !errors.Is(err, auth.ErrNoSession) || got != (auth.Session{}) {
		t.Errorf("Session(%q) = %+v, %v; want none", id, got, err)
	}
}

// backends are those that are measured. Each returns a function that opens one store, again and again.
var backends = []struct {
	name string
	new  func(b *testing.B) func() store.Store
}{
	{"memory", func(*testing.B) func() store.Store {
		s := store.Memory(store.Options{})
		return func() store.Store { return s }
	}},
	{"bolt", func(b *testing.B) func() store.Store {
		path := store.NewPath(b)
		return func() store.Store { return open(b, path, store.Options{}) }
	}},
	{"redis", func(b *testing.B) func() store.Store {
		// It writes to the disk each second, as Redis does by default. Those who wait for the disk find bolt's figures.
		s := redistest.Start(b, redistest.Options{Config: "appendfsync everysec"})
		return func() store.Store { return openRedis(b, store.Options{}, store.RedisOptions{URL: s.URL()}) }
	}},
}

// each runs a benchmark with each backend.
func each(b *testing.B, run func(b *testing.B, s store.Store)) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) { run(b, backend.new(b)()) })
	}
}

// filled fills a store with records of the size of a session or grant.
func filled(b *testing.B, s store.Store, k store.Kind, n int) {
	b.Helper()
	const together = 100
	for i := 0; i < n; i += together {
		var some []store.Record
		for j := i; j < i+together; j++ {
			some = append(some, store.Record{Kind: k, Key: fmt.Sprint(j), Value: make([]byte, 300), End: time.Now().Add(time.Hour)})
		}
		if err := s.Put(b.Context(), some...); err != nil {
			b.Fatal(err)
		}
	}
}

// oneSession returns a store with one session of standup, and its id.
func oneSession(t *testing.T) (*storetest.Clock, store.Store, store.Sessions, string) {
	t.Helper()
	clock := storetest.NewClock()
	kept := store.Memory(store.Options{Now: clock.Now})
	s := store.Sessions{Store: kept}
	id, err := add(t, s, standup(clock))
	if err != nil {
		t.Fatal(err)
	}
	return clock, kept, s, id
}
