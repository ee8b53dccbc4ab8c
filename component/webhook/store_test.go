package webhook_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/webhook"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// TestStores: with each kind of store, what one usher could not send the next one sends, with the same ids, in order.
func TestStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() store.Store{
		"memory": func(*testing.T) func() store.Store {
			s := store.Memory(store.Options{})
			return func() store.Store { return store.Own(s, "shard") }
		},
		"bolt": func(t *testing.T) func() store.Store {
			path := filepath.Join(t.TempDir(), "usher.db")
			var last store.Store
			return func() store.Store {
				if last != nil {
					if err := last.Close(); err != nil {
						t.Fatal(err)
					}
				}
				last = opened(t, path)
				return last
			}
		},
		"redis": func(t *testing.T) func() store.Store {
			r := redistest.Start(t, redistest.Options{})
			return func() store.Store {
				s, err := store.Redis(store.Options{}, store.RedisOptions{URL: r.URL()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return store.Own(s, "shard")
			}
		},
	} {
		t.Run(name, func(t *testing.T) { takenOver(t, open(t)) })
	}
}

func opened(t *testing.T, path string) store.Store {
	t.Helper()
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// collector is a real HTTP server that notes what it is sent.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	works bool
	tried map[string]bool // ids
	got   []string        // ids, in order
	what  []string        // bodies
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{tried: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err := verify(vectorSecret, r.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		id := r.Header.Get("webhook-id")
		c.tried[id] = true
		if !c.works || err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		c.got, c.what = append(c.got, id), append(c.what, string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) hook(t testing.TB) webhook.Hook {
	h := hook(t, "real")
	h.URL, h.Timeout = c.URL, patience
	return h
}

// someReports makes n reports about so many rooms.
func someReports(b *webhook.Outbox, n, rooms int) {
	for i := range n {
		b.Report(report(fmt.Sprint("room", i%rooms), fmt.Sprintf("number %03d", i)))
	}
}

func takenOver(t *testing.T, open func() store.Store) {
	const n, rooms = 60, 5
	c := collect(t)
	one, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{c.hook(t)}})
	if err != nil {
		t.Fatal(err)
	}
	first := open()
	stop := run(t, one, first)
	someReports(one, n, rooms)
	eventually(t, "each room is tried", func() bool { return one.Stats()[0].Failed >= rooms && one.Stats()[0].Queued == n })
	stop()
	if got := left(t, first); got != n {
		t.Fatalf("the store has %d events; want %d", got, n)
	}
	second := open()
	c.finish(t, second, n, rooms)
}

// finish runs an Outbox until a store has no event any more, and looks at what arrives.
func (c *collector) finish(t *testing.T, s store.Store, n, rooms int) {
	t.Helper()
	c.mu.Lock()
	c.works = true
	c.mu.Unlock()
	b, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{c.hook(t)}})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, b, s)
	eventually(t, "all is sent", func() bool { return left(t, s) == 0 })
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]bool{}
	for _, id := range c.got {
		ids[id] = true
	}
	if len(c.got) != n || len(ids) != n || len(c.tried) != n {
		t.Errorf("%d events with %d ids arrive, and %d were tried; want %d", len(c.got), len(ids), len(c.tried), n)
	}
	for room := range rooms {
		var order []string
		for _, body := range c.what {
			if r := unmarshal(t, body); r.Data.RoomName == fmt.Sprint("room", room) {
				order = append(order, r.Data.Text)
			}
		}
		if len(order) != n/rooms || !slices.IsSorted(order) {
			t.Errorf("room%d: %v", room, order)
		}
	}
}

// childEnv makes the test binary an usher with a store in a file, which is killed.
const childEnv = "WEBHOOK_TEST_CHILD"

func init() {
	child = func() {
		path := os.Getenv(childEnv)
		if path == "" {
			return
		}
		err := reportForEver(path, os.Getenv(childEnv+"_URL"))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reportForEver(path, url string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	secrets, err := webhook.ParseSecrets(vectorSecret)
	if err != nil {
		return err
	}
	b, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{{Name: "real", URL: url, Secrets: secrets}}})
	if err != nil {
		return err
	}
	someReports(b, killedReports, killedRooms)
	b.Run(context.Background(), s)
	return nil
}

const killedReports, killedRooms = 200, 10

// TestKilled: after kill -9 the next usher sends what is in the store, and tries again what may have arrived, with the same id.
func TestKilled(t *testing.T) {
	c := collect(t)
	path := filepath.Join(t.TempDir(), "usher.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_URL="+c.URL)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	defer kill()
	eventually(t, "each room is tried", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.tried) == killedRooms
	})
	kill()
	c.finish(t, opened(t, path), killedReports, killedRooms)
}
