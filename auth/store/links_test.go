package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

// redeemers has many redeem each of some links at the same moment, over two ways to the store, and wants one of them to get it.
func redeemers(t *testing.T, ways [2]store.Store) {
	t.Helper()
	const links, many = 50, 16
	for n := range links {
		value := fmt.Sprint("value ", n)
		code, err := store.Links{Store: ways[n%2]}.Put(t.Context(), []byte(value), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		begin := make(chan struct{})
		var got atomic.Int64
		var all sync.WaitGroup
		for i := range many {
			s := store.Links{Store: ways[i%2]}
			all.Go(func() {
				<-begin
				l, err := s.Find(t.Context(), code)
				if errors.Is(err, store.ErrNoLink) {
					return // somebody was faster
				}
				if err != nil || string(l.Value) != value {
					t.Errorf("found %q, %v", l.Value, err)
					return
				}
				won, err := s.Redeem(t.Context(), l)
				if err != nil {
					t.Error(err)
				}
				if won {
					got.Add(1)
				}
			})
		}
		close(begin)
		all.Wait()
		if got.Load() != 1 {
			t.Errorf("link %d: %d got it", n, got.Load())
		}
		if _, err := (store.Links{Store: ways[0]}).Find(t.Context(), code); !errors.Is(err, store.ErrNoLink) {
			t.Errorf("found again: %v", err)
		}
	}
}

func TestLinksAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		s := store.Memory(store.Options{})
		redeemers(t, [2]store.Store{s, s})
	})
	t.Run("file", func(t *testing.T) {
		s := open(t, filepath.Join(t.TempDir(), "store"), store.Options{})
		redeemers(t, [2]store.Store{s, s})
	})
	t.Run("redis", func(t *testing.T) {
		_, ways := onRedis(t)
		redeemers(t, ways)
	})
}

func TestLinks(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	shared := store.Memory(store.Options{Now: clock.Now})
	s := store.Links{Store: store.Own(shared, "focus.meet.example.com")}
	elsewhere := store.Links{Store: store.Own(shared, "focus.other.example.com")} // links are common to all shards
	code, err := s.Put(t.Context(), []byte("value"), clock.Now().Add(time.Hour))
	if err != nil || !store.IsCode(code) {
		t.Fatal(code, err)
	}
	for r := range shared.All(t.Context(), store.KindLink) {
		if strings.Contains(r.Key+string(r.Value), code) {
			t.Error("the store has the code")
		}
	}
	for _, wrong := range []string{"", code[:21], code + "A", strings.ToUpper(code) + "=", code[:21] + "\n", code[:21] + "B", "../../../../../../../.."} {
		if _, err := s.Find(t.Context(), wrong); !errors.Is(err, store.ErrNoLink) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if l, err := elsewhere.Find(t.Context(), code); err != nil || string(l.Value) != "value" {
		t.Errorf("%q, %v", l.Value, err)
	}
	clock.Forward(time.Hour)
	if _, err := s.Find(t.Context(), code); !errors.Is(err, store.ErrNoLink) {
		t.Errorf("after its end: %v", err)
	}

	// If the answer to a redemption is lost, nobody has the link, and nobody gets it twice.
	l := &link{Store: shared}
	cut := store.Links{Store: l}
	if code, err = cut.Put(t.Context(), []byte("value"), clock.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	found, err := cut.Find(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	l.cut(false, true, 0)
	if got, err := cut.Redeem(t.Context(), found); got || err == nil {
		t.Errorf("%t, %v", got, err)
	}
	l.mend()
	if got, err := cut.Redeem(t.Context(), found); got || err != nil {
		t.Errorf("%t, %v", got, err)
	}
}
