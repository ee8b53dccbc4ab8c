package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// TestDoctorSeesLease checks that the doctor knows of an usher that holds the lease of the shared store, and of none when it has ended.
func TestDoctorSeesLease(t *testing.T) {
	staged(t)
	server := redistest.Start(t, redistest.Options{})
	c, _, err := load([]string{"usher.yaml"}, []string{"USHER_STORE_URL=" + server.URL()}, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	if runs := runningUsher(t.Context(), c, nil); runs != "" {
		t.Errorf("before: %s", runs)
	}
	s, err := store.Redis(store.Options{}, redisOptions(c.Store))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tenure, err := (&store.Lease{Store: s, Name: shard(c), Self: "one"}).Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { _ = tenure.Keep(ctx) })
	for began := time.Now(); !strings.Contains(runningUsher(t.Context(), c, nil), "one is the active one in the shared store"); {
		if time.Since(began) > time.Minute {
			t.Fatal("the holder is not seen")
		}
	}
	end()
	kept.Wait()
	if runs := runningUsher(t.Context(), c, nil); runs != "" {
		t.Errorf("after: %s", runs)
	}
}

// TestDoctorStore checks what the doctor says of a Redis that several ushers share: one that keeps everything, one that may lose it, and
// one that is away.
func TestDoctorStore(t *testing.T) {
	staged(t)
	examine := func(config string, away bool) (checks []doctor.Check) {
		t.Helper()
		server := redistest.Start(t, redistest.Options{Config: config})
		if away {
			server.Stop()
		}
		c, _, err := load([]string{"usher.yaml"}, []string{"USHER_STORE_URL=" + server.URL()}, new(keys.Cache))
		if err != nil {
			t.Fatal(err)
		}
		examineShared(t.Context(), c, func(c doctor.Check) { checks = append(checks, c) })
		return checks
	}
	const keeps = "appendonly yes\nmaxmemory-policy noeviction"
	for name, test := range map[string]struct {
		config string
		away   bool
		want   doctor.Status
		says   string
	}{
		"keeps everything": {keeps, false, doctor.OK, "keeps what ushers share"},
		"evicts":           {keeps + "\nmaxmemory 64mb\nmaxmemory-policy allkeys-lru", false, doctor.Warn, "allkeys-lru"},
		"away":             {keeps, true, doctor.Fail, "cannot be reached"},
	} {
		checks := examine(test.config, test.away)
		if len(checks) != 1 || checks[0].Code != "store" || checks[0].Status != test.want || !strings.Contains(checks[0].Says, test.says) {
			t.Errorf("%s: %+v", name, checks)
		}
	}
}
