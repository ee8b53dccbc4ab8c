package keys_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
)

// fetches keeps what a Cache tells of its fetches.
type fetches []string

func (f *fetches) told(source string, took time.Duration, err error) {
	*f = append(*f, fmt.Sprint(source, " ", took, " ", err != nil))
}

// TestCacheTells follows a source from the first fetch to the end of its keys: each fetch is told, and Status and Ready know whether its
// tokens can be verified. The query of an address, which may be a secret, is nowhere.
func TestCacheTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, told := &server{}, fetches{}
		s.publishes(200, ecSet(t, "a", "b"))
		cache := &keys.Cache{Transport: s, Fetched: told.told}
		if _, err := cache.JWKS(address+"?api_key=hush", time.Hour); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		status := func(want keys.Status) {
			t.Helper()
			want.Source = address
			got := cache.Status()
			if len(got) == 1 && got[0].Err != nil && want.Err != nil {
				if strings.Contains(got[0].Err.Error(), "hush") {
					t.Errorf("the error shows the query: %v", got[0].Err)
				}
				got[0].Err = want.Err
			}
			if !slices.Equal(got, []keys.Status{want}) {
				t.Errorf("after %s the status is %+v; want %+v", time.Since(began), got, want)
			}
		}
		status(keys.Status{})
		s.wasAsked(t, 0)
		ready := func(want bool) {
			t.Helper()
			if err := cache.Ready(t.Context()); (err == nil) != want || err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("after %s Ready returns %v", time.Since(began), err)
			}
		}
		ready(true)
		ready(true)
		s.wasAsked(t, 1)
		good := keys.Status{Fetched: began, Until: began.Add(2 * time.Hour), Keys: 2}
		status(good)

		s.publishes(503, nil)
		pass(time.Hour)
		ready(true) // the old keys still count
		good.Err = errors.New("status")
		status(good)
		pass(time.Hour)
		ready(false)
		ready(false)
		s.wasAsked(t, 3)
		if want := (fetches{address + " 0s false", address + " 0s true", address + " 0s true"}); !slices.Equal(told, want) {
			t.Errorf("%q is told; want %q", told, want)
		}

		s.publishes(200, ecSet(t, "a"))
		pass(30 * time.Second)
		ready(true)
		now := time.Now()
		status(keys.Status{Fetched: now, Until: now.Add(2 * time.Hour), Keys: 1})
	})
}

// TestCacheStatusOfSeveral has two sources with one name, and one that is forgotten: a name has one status, the worse, and a source that
// the configuration no longer has has none.
func TestCacheStatusOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.publishes(200, ecSet(t, "a"))
		cache := &keys.Cache{Transport: s}
		for _, a := range []string{address, address + "?other", "https://another.example.com/set"} {
			source, err := cache.JWKS(a, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if a == address {
				has(t, source, "a", 1)
			}
		}
		names := func() (all []string) {
			for _, s := range cache.Status() {
				all = append(all, s.Source)
				if !s.Fetched.IsZero() || s.Keys != 0 {
					t.Errorf("of two sources, of which one has no keys, the status is %+v", s)
				}
			}
			return all
		}
		if got := names(); !slices.Equal(got, []string{"https://another.example.com/set", address}) {
			t.Errorf("there is a status of %q", got)
		}
		cache.Sweep()
		if _, err := cache.JWKS("https://another.example.com/set", time.Hour); err != nil {
			t.Fatal(err)
		}
		cache.Sweep()
		if got := names(); !slices.Equal(got, []string{"https://another.example.com/set"}) {
			t.Errorf("after a reload there is a status of %q", got)
		}
	})
}

// TestASAPTells has a key server that goes away: it is ready as long as a key is kept.
func TestASAPTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kept := range []bool{false, true} {
			a, told := &asap{keys: map[string][]byte{}}, fetches{}
			cache := &keys.Cache{Transport: a, Fetched: told.told}
			source, err := cache.ASAP("https://keys.example.com/base/", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if err := cache.Ready(t.Context()); err != nil || a.asked.Load() != 0 {
				t.Errorf("before any token: %v", err)
			}
			if kept {
				a.publishes("/base", "kid", readKey(t, "ec256.pem"))
			}
			_, _ = source.Keys(t.Context(), "kid")
			a.err = errors.New("away")
			fails(t, source, "another", "not HTTP")
			if err := cache.Ready(t.Context()); (err == nil) != kept {
				t.Errorf("with a kept key %t: %v", kept, err)
			}
			want := fetches{"https://keys.example.com/base/ 0s false", "https://keys.example.com/base/ 0s true"}
			if !slices.Equal(told, want) {
				t.Errorf("%q is told; want %q", told, want)
			}
			if all := cache.Status(); len(all) != 1 || all[0].Err == nil || all[0].Fetched.IsZero() || (all[0].Keys == 1) != kept {
				t.Errorf("with a kept key %t the status is %+v", kept, all)
			}
		}
	})
}
