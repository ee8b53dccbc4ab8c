package store_test

import (
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// onRedis returns two processes' ways to one Redis.
func onRedis(t testing.TB) (server *redistest.Server, ways [2]store.Store) {
	t.Helper()
	server = redistest.Start(t, redistest.Options{})
	for i := range ways {
		s, err := store.Redis(store.Options{}, store.RedisOptions{URL: server.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		ways[i] = s
	}
	return server, ways
}

// 1,000 tokens that two machines show at the same moment, each over its own connection to one Redis, admit 1,000 of them.
func TestUsedAtOnceOnRedis(t *testing.T) {
	t.Parallel()
	_, ways := onRedis(t)
	usedBy(t, ways, 1000)
}

// What one process takes back, the other refuses and is told of; when Redis is away, neither decides; and nothing is lost when it is
// killed and started again.
func TestTakenBackOnRedis(t *testing.T) {
	t.Parallel()
	server, ways := onRedis(t)
	here, there := store.Revocations{Store: ways[0]}, store.Revocations{Store: ways[1]}
	standup := roomOf(t, "standup")
	p := proofOf("j1", "u1", "", "my_app")
	told := make(chan store.Event, 16)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for e, err := range ways[1].Follow(t.Context()) {
			if err == nil {
				told <- e
			}
		}
	}()
	t.Cleanup(func() { <-followed })
	within := time.After(time.Minute)
	next := func(what string) store.Event {
		t.Helper()
		select {
		case e := <-told:
			return e
		case <-within:
			t.Fatalf("not told: %s", what)
			return store.Event{}
		}
	}
	next("that it has begun")
	put, err := here.Put(t.Context(), auth.Revocation{User: "u1", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	e := next("of the revocation")
	if all, err := there.At(t.Context(), e.Key); e.What != store.EventRevoked || err != nil || len(all) != 1 || all[0] != put {
		t.Errorf("told %+v, which is %+v, %v", e, all, err)
	}
	if barred, err := (store.Bars{Store: ways[0]}).Put(t.Context(), standup, p, time.Time{}); err != nil || !barred {
		t.Fatal(barred, err)
	}
	decides := func(revoked bool) {
		t.Helper()
		refusals := store.Refusals{Store: ways[1]}
		if got, err := refusals.Revoked(t.Context(), p, standup); err != nil || got != revoked {
			t.Errorf("revoked: %t, %v", got, err)
		}
		if _, barred, err := refusals.Barred(t.Context(), p, standup); err != nil || !barred {
			t.Errorf("barred: %t, %v", barred, err)
		}
	}
	decides(true)
	server.Kill()
	if _, err := there.Revoked(t.Context(), p, standup); err == nil {
		t.Error("decided without Redis")
	}
	if _, err := there.Put(t.Context(), auth.Revocation{JTI: "j2"}); err == nil {
		t.Error("revoked without Redis")
	}
	server.Restart()
	decides(true)
	if err := there.Delete(t.Context(), put.ID); err != nil {
		t.Fatal(err)
	}
	decides(false)
}
