package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/redis/go-redis/v9"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

const secret = "SECRET p/a:s@s"

// hour is an end that no test reaches.
func hour() time.Time { return time.Now().Add(time.Hour) }

func grant(key, value string) store.Record {
	return store.Record{Kind: store.KindGrant, Key: key, Value: []byte(value), End: hour()}
}

// tries calls each method that asks the server, and returns the errors.
func tries(t testing.TB, s store.Store) map[string]error {
	t.Helper()
	errs := map[string]error{}
	errs["Put"] = s.Put(t.Context(), grant("tried", "1"))
	errs["Put of two"] = s.Put(t.Context(), grant("tried", "1"), grant("tried too", "1"))
	_, _, errs["Add"] = s.Add(t.Context(), grant("tried", "1"))
	_, errs["Swap"] = s.Swap(t.Context(), grant("tried", "1"), grant("tried", "1"))
	_, errs["Get"] = s.Get(t.Context(), store.KindGrant, "tried")
	errs["Delete"] = s.Delete(t.Context(), store.KindGrant, "tried too")
	for _, err := range s.All(t.Context(), store.KindGrant) {
		errs["All"] = err
	}
	errs["Append"] = s.Append(t.Context(), store.Event{What: "tried"})
	_, errs["Check"] = s.(store.Checker).Check(t.Context())
	return errs
}

func wantWorking(t testing.TB, s store.Store) {
	t.Helper()
	for what, err := range tries(t, s) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// wantUnreachable checks that each call says soon that the server cannot be reached.
func wantUnreachable(t testing.TB, s store.Store) {
	t.Helper()
	began := time.Now()
	errs := tries(t, s)
	t.Logf("%d calls took %v", len(errs), time.Since(began))
	for what, err := range errs {
		if !errors.Is(err, store.ErrUnreachable) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// returns waits until a store works again, and tells how long that took.
func returns(t testing.TB, s store.Store) {
	t.Helper()
	began := time.Now()
	for {
		err := s.Put(t.Context(), grant("back", "1"))
		if err == nil {
			t.Logf("it works again after %v", time.Since(began))
			return
		}
		if !errors.Is(err, store.ErrUnreachable) || time.Since(began) > time.Minute {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	}
}

// busy makes many connections, which are idle afterwards.
func busy(t testing.TB, s store.Store) {
	t.Helper()
	put(t, s, store.KindHeld, 200, hour())
}

// TestRedisRestarted: data and events stay, and no call fails once the server is back, although all connections have ended.
func TestRedisRestarted(t *testing.T) {
	certs := newCertificates(t)
	for name, at := range map[string]struct {
		o   redistest.Options
		url func(s *redistest.Server) string
		ca  []byte
	}{
		"plain": {redistest.Options{}, (*redistest.Server).URL, nil},
		"TLS":   {certs.options(), func(s *redistest.Server) string { return "rediss://" + s.Addr() }, certs.ca},
		"cluster": {redistest.Options{Cluster: true}, func(s *redistest.Server) string {
			return s.URL() + "?addr=" + s.Addr()
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, at.o)
			s := openRedis(t, store.Options{}, store.RedisOptions{URL: at.url(server), CA: at.ca})
			f := storetest.Follow(t, s)
			for n, how := range []func(){server.Stop, server.Kill} {
				if err := s.Put(t.Context(), grant("a", fmt.Sprint(n))); err != nil {
					t.Fatal(err)
				}
				busy(t, s)
				how()
				wantUnreachable(t, s)
				server.Restart()
				wantWorking(t, s)
				busy(t, s)
				server.Restart() // with no call in between
				wantWorking(t, s)
				if r, err := s.Get(t.Context(), store.KindGrant, "a"); err != nil || string(r.Value) != fmt.Sprint(n) {
					t.Errorf("Get = %q, %v", r.Value, err)
				}
				for range 2 {
					if e := f.Next(t); e.What != "tried" {
						t.Errorf("the event is %q", e)
					}
				}
			}
		})
	}
}

// TestRedisLost: a server that has lost its data is used again, and those who follow are told.
func TestRedisLost(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	f := storetest.Follow(t, s)
	for n := range 3 {
		for m := range n * 3 { // the first time nothing at all was appended
			if err := s.Append(t.Context(), store.Event{What: "before", Key: fmt.Sprint(m)}); err != nil {
				t.Fatal(err)
			}
			f.Next(t)
		}
		if err := s.Put(t.Context(), grant("a", "1")); err != nil {
			t.Fatal(err)
		}
		server.Lose()
		server.Restart()
		// Somebody appends before the other one has noticed.
		for range n * 2 {
			if err := s.Append(t.Context(), store.Event{What: "between"}); err != nil {
				t.Fatal(err)
			}
		}
		storetest.Wait(t, "it is told", f.Missed)
		if _, err := s.Get(t.Context(), store.KindGrant, "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get: %v", err)
		}
		if err := s.Append(t.Context(), store.Event{What: "after"}); err != nil {
			t.Fatal(err)
		}
		e := f.Next(t)
		for e.What == "between" { // appended after it was told
			e = f.Next(t)
		}
		if e.What != "after" {
			t.Errorf("the event is %q", e)
		}
	}
}

// TestRedisPaused: a server that is frozen holds nobody up for long.
func TestRedisPaused(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	s := openHasty(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	f := storetest.Follow(t, s)
	returns(t, s)
	server.Pause()
	if err := s.Put(t.Context(), grant("a", "1")); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("Put: %v", err)
	}
	// Many at once wait no longer than one.
	began := time.Now()
	var wait sync.WaitGroup
	for range 300 {
		wait.Go(func() {
			if _, err := s.Get(t.Context(), store.KindGrant, "a"); !errors.Is(err, store.ErrUnreachable) {
				t.Errorf("Get: %v", err)
			}
		})
	}
	wait.Wait()
	t.Logf("300 calls at once took %v", time.Since(began))
	server.Resume()
	returns(t, s)
	patient := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	if err := patient.Append(t.Context(), store.Event{What: "after"}); err != nil {
		t.Fatal(err)
	}
	if e := f.Next(t); e.What != "after" {
		t.Errorf("the event is %q", e)
	}
}

// TestRedisAway: a store may be opened before its server runs.
func TestRedisAway(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	server.Stop()
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	for range 20 { // the library would stop trying after some failures
		wantUnreachable(t, s)
	}
	begun := make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wait sync.WaitGroup
	wait.Go(func() {
		for range s.Follow(ctx) {
			close(begun)
			break
		}
	})
	server.Restart()
	wantWorking(t, s)
	storetest.Wait(t, "Follow begins", begun)
	wait.Wait()
	cancel()
	server.Stop()
	for range s.Follow(ctx) { // ends although the server is away
		t.Error("Follow begins without a server")
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestRedisCut: those who follow read on where they were when the link was cut. Only if that is gone, they are told.
func TestRedisCut(t *testing.T) {
	server := redistest.Start(t, redistest.Options{Config: "appendfsync no"})
	near := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	cable := prosodytest.NewCable(t, server.Addr())
	far := openHasty(t, store.Options{}, store.RedisOptions{URL: "redis://" + cable.Addr()})
	f := storetest.Follow(t, far)
	n := 0
	more := func(many int) {
		t.Helper()
		for range many {
			if err := near.Append(t.Context(), store.Event{What: "more", Key: fmt.Sprint(n)}); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	come := func(many int) {
		t.Helper()
		for m := n - many; m < n; m++ {
			if e := f.Next(t); e.Key != fmt.Sprint(m) {
				t.Fatalf("the event is %q; want number %d", e, m)
			}
		}
	}
	more(3)
	come(3)
	for _, cut := range []func(){cable.Cut, cable.Stall} {
		cut()
		more(3000) // more than are read at a time
		if err := far.Put(t.Context(), grant("a", "1")); !errors.Is(err, store.ErrUnreachable) {
			t.Errorf("Put: %v", err)
		}
		cable.Mend()
		come(3000)
		returns(t, far)
	}
	cable.Cut()
	wantUnreachable(t, far)
	more(10)
	if err := client(t, server).XTrimMaxLen(t.Context(), "{usher}:events", 9).Err(); err != nil {
		t.Fatal(err)
	}
	cable.Mend()
	storetest.Wait(t, "it is told", f.Missed)
	more(1)
	come(1)
	// An old event that was read and is trimmed is no loss.
	if err := client(t, server).XTrimMaxLen(t.Context(), "{usher}:events", 0).Err(); err != nil {
		t.Fatal(err)
	}
	more(1)
	come(1)
	// The server keeps only so many by itself.
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 2000 {
				if err := near.Append(t.Context(), store.Event{What: "many"}); err != nil {
					t.Errorf("Append: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if kept, err := client(t, server).XLen(t.Context(), "{usher}:events").Result(); err != nil || kept < 10_000 || kept > 11_000 {
		t.Errorf("the server keeps %d events, %v", kept, err)
	}
}

// TestRedisRestartedWhileReading: All never yields a part as if it were all.
func TestRedisRestartedWhileReading(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	put(t, s, store.KindGrant, 5000, hour())
	n := 0
	var last error
	for _, err := range s.All(t.Context(), store.KindGrant) {
		if last = err; err != nil {
			break
		}
		if n++; n == 1 {
			server.Restart()
		}
	}
	if !errors.Is(last, store.ErrUnreachable) {
		t.Errorf("after %d of 5000 records: %v", n, last)
	}
	if n := count(t, s, store.KindGrant); n != 5000 {
		t.Errorf("there are %d records", n)
	}
}

// TestRedisOneWinner: of two ushers that add or swap the same, one does, whatever happens to the link of the other.
func TestRedisOneWinner(t *testing.T) {
	server := redistest.Start(t, redistest.Options{Config: "appendfsync no"})
	cable := prosodytest.NewCable(t, server.Addr())
	near := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	far := openRedis(t, store.Options{}, store.RedisOptions{URL: "redis://" + cable.Addr()})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := &two{rt: rt, t: t, near: near, far: far, cable: cable, key: fmt.Sprint(round)}
		cable.Mend()
		returns(t, far)
		rt.Repeat(map[string]func(*rapid.T){
			"add":  m.add,
			"swap": m.swap,
			"cut":  func(*rapid.T) { cable.Cut(); m.cut = true },
			"mend": func(*rapid.T) { cable.Mend(); m.cut = false },
			"":     m.check,
		})
	})
}

// two are two ushers with one key, and what may be its value.
type two struct {
	rt        *rapid.T
	t         *testing.T
	near, far store.Store
	cable     *prosodytest.Cable
	key       string
	cut       bool
	value     string // "" if there is no record
	tried     int
}

// race lets both do something at once, each with a value of its own, and learns what is there now.
func (m *two) race(do func(s store.Store, mine string) (bool, error)) {
	var won [2]bool
	var errs [2]error
	var mine [2]string
	var wait sync.WaitGroup
	if rapid.Bool().Draw(m.rt, "cut meanwhile") {
		m.cut = true
		wait.Go(m.cable.Cut)
	}
	for n, s := range []store.Store{m.near, m.far} {
		m.tried++
		mine[n] = fmt.Sprint(m.tried)
		wait.Go(func() { won[n], errs[n] = do(s, mine[n]) })
	}
	wait.Wait()
	switch {
	case errs[0] != nil:
		m.rt.Fatalf("the near one: %v", errs[0])
	case errs[1] != nil && !(m.cut && errors.Is(errs[1], store.ErrUnreachable)):
		m.rt.Fatalf("the far one: %v", errs[1])
	case won[0] && won[1]:
		m.rt.Fatal("both have won")
	case won[0]:
		m.value = mine[0]
	case won[1]:
		m.value = mine[1]
	case errs[1] != nil: // a cut one may have been faster. The server reads what came earlier before it reads the second question.
		for range 2 {
			r, err := m.near.Get(m.t.Context(), store.KindLease, m.key)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				m.rt.Fatal(err)
			}
			if string(r.Value) == mine[1] {
				m.value = mine[1]
			}
		}
	}
}

func (m *two) record(value string) store.Record {
	return store.Record{Kind: store.KindLease, Key: m.key, Value: []byte(value), End: hour()}
}

func (m *two) add(rt *rapid.T) {
	if m.value != "" && rapid.Bool().Draw(rt, "delete") {
		if err := m.near.Delete(m.t.Context(), store.KindLease, m.key); err != nil {
			rt.Fatal(err)
		}
		m.value = ""
	}
	was := m.value
	m.race(func(s store.Store, mine string) (bool, error) {
		there, added, err := s.Add(m.t.Context(), m.record(mine))
		if err == nil && was != "" && (added || string(there.Value) != was) {
			err = fmt.Errorf("added: %t; there is %q and not %q", added, there.Value, was)
		}
		return added, err
	})
	if m.value == "" {
		rt.Fatal("nobody has won")
	}
}

func (m *two) swap(rt *rapid.T) {
	was := m.value
	m.race(func(s store.Store, mine string) (bool, error) {
		return s.Swap(m.t.Context(), m.record(was), m.record(mine))
	})
	if was != "" && m.value == was {
		rt.Fatal("nobody has won")
	}
}

func (m *two) check(rt *rapid.T) {
	r, err := m.near.Get(m.t.Context(), store.KindLease, m.key)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if err != nil || string(r.Value) != m.value {
		rt.Fatalf("there is %q, %v; want %q", r.Value, err, m.value)
	}
}

// TestRedisClusterMoves: when another node of a cluster has the keys, the store goes on there.
func TestRedisClusterMoves(t *testing.T) {
	from, to := redistest.Start(t, redistest.Options{Cluster: true}), redistest.Start(t, redistest.Options{Cluster: true})
	a, b := client(t, from), client(t, to)
	do := func(c *redis.Client, args ...any) any {
		t.Helper()
		answer, err := c.Do(t.Context(), args...).Result()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return answer
	}
	do(b, "CLUSTER", "FLUSHSLOTS")
	do(b, "CLUSTER", "MEET", "127.0.0.1", from.Port)
	id := do(b, "CLUSTER", "MYID")
	for began := time.Now(); !strings.Contains(fmt.Sprint(do(a, "CLUSTER", "NODES")), id.(string)); {
		if time.Since(began) > time.Minute {
			t.Fatal("the nodes do not meet")
		}
	}
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: from.URL() + "?addr=" + from.Addr()})
	wantWorking(t, s)
	f := storetest.Follow(t, s)
	slot := do(a, "CLUSTER", "KEYSLOT", "{usher}")
	for _, c := range []*redis.Client{b, a} {
		do(a, "FLUSHALL")
		do(c, "CLUSTER", "SETSLOT", slot, "NODE", id)
	}
	returns(t, s) // the node itself waits some seconds
	wantWorking(t, s)
	storetest.Wait(t, "it is told that the events are gone", f.Missed)
	if n, err := b.Exists(t.Context(), "{usher}:grant:back").Result(); n != 1 || err != nil {
		t.Errorf("the other node has %d such records, %v", n, err)
	}
}

// TestRedisSentinel: when a replica takes over, the store goes on there.
func TestRedisSentinel(t *testing.T) {
	password := fmt.Sprintf("requirepass %q\nmasterauth %q\n", secret, secret)
	master := redistest.Start(t, redistest.Options{Config: password})
	replica := redistest.Start(t, redistest.Options{Config: fmt.Sprintf("%sreplicaof 127.0.0.1 %d\nrepl-diskless-sync-delay 0\nreplica-priority 1", password, master.Port)})
	sentinel := redistest.Start(t, redistest.Options{Sentinel: true, Configure: func(*redistest.Server) string {
		return fmt.Sprintf("sentinel monitor usher 127.0.0.1 %d 1\nsentinel auth-pass usher %q\nsentinel down-after-milliseconds usher 1000\n"+
			"sentinel failover-timeout usher 3000", master.Port, secret)
	}})
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: sentinel.URL() + "?master_name=usher", Password: secret})
	f := storetest.Follow(t, s)
	wantWorking(t, s)
	f.Next(t)
	c := redis.NewClient(&redis.Options{Addr: master.Addr(), Password: secret, ReadTimeout: time.Minute})
	defer c.Close()
	if n, err := c.Wait(t.Context(), 1, time.Minute).Result(); n != 1 || err != nil {
		t.Fatalf("%d replicas have the data, %v", n, err)
	}
	// The sentinel must know the replica before it can choose it.
	for began := time.Now(); ; {
		if _, err := sentinel.Do("SENTINEL", "CKQUORUM", "usher"); err == nil {
			if n, err := sentinel.Do("SENTINEL", "REPLICAS", "usher"); err == nil && n == "1" {
				break
			}
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the sentinel finds no replica")
		}
	}
	master.Kill()
	if err := s.Put(t.Context(), grant("a", "1")); !errors.Is(err, store.ErrUnreachable) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("Put: %v", err)
	}
	returns(t, s)
	wantWorking(t, s)
	if e := f.Next(t); e.What != "tried" {
		t.Errorf("the event is %q", e)
	}
	if _, err := replica.Do("PING"); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("the replica needs no password: %v", err)
	}
}

// TestRedisClocks: ushers with different clocks agree on what is there, so that nobody tries for ever to add what Get does not find.
func TestRedisClocks(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	at := func(by time.Duration) store.Store {
		return openRedis(t, store.Options{Now: func() time.Time { return time.Now().Add(by) }}, store.RedisOptions{URL: server.URL()})
	}
	slow, fast := at(-2*time.Hour), at(2*time.Hour)
	r := grant("a", "1")
	r.End = time.Now().Add(-time.Hour) // in an hour, for the slow one
	if _, added, err := slow.Add(t.Context(), r); !added || err != nil {
		t.Fatalf("Add = %t, %v", added, err)
	}
	if got, err := fast.Get(t.Context(), r.Kind, r.Key); err != nil || !got.End.Equal(r.End) {
		t.Errorf("Get = %+v, %v", got, err)
	}
	if n := count(t, fast, r.Kind); n != 1 {
		t.Errorf("All has %d records", n)
	}
	if there, added, err := fast.Add(t.Context(), grant("a", "2")); added || err != nil || string(there.Value) != "1" {
		t.Errorf("Add = %q, %t, %v", there.Value, added, err)
	}
	// Without any change of a clock, the server ends what has ended.
	r.Key, r.End = "b", time.Now().Add(-2*time.Hour).Add(50*time.Millisecond)
	if err := slow.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; {
		if _, err := fast.Get(t.Context(), r.Kind, "b"); errors.Is(err, store.ErrNotFound) {
			break
		} else if err != nil || time.Since(began) > time.Minute {
			t.Fatalf("the record does not end: %v", err)
		}
	}
}

// TestRedisUsers: users, passwords, and what a user of usher's own must be allowed.
func TestRedisUsers(t *testing.T) {
	server := redistest.Start(t, redistest.Options{Configure: func(s *redistest.Server) string {
		return fmt.Sprintf("user default on nopass ~* &* +@all\nuser usher on %s ~{usher}:* +@read +@write +@connection +@scripting +info\n"+
			"user blind on %s ~{usher}:* +@read +@write +@connection +@scripting\nuser other on %s ~other:* +@all",
			`">`+secret+`"`, `">`+secret+`"`, `">`+secret+`"`) + "\nunixsocket " + filepath.Join(s.Dir, "redis.sock")
	}})
	at := func(user, password string) store.RedisOptions {
		return store.RedisOptions{URL: "redis://" + user + "@" + server.Addr(), Password: password}
	}
	escaped := strings.NewReplacer(" ", "%20", "/", "%2F", ":", "%3A", "@", "%40").Replace(secret)
	for name, o := range map[string]store.RedisOptions{
		"a password":        at("usher", secret),
		"one in the URL":    {URL: "redis://usher:" + escaped + "@" + server.Addr() + "/0"},
		"another replaces":  {URL: "redis://usher:wrong@" + server.Addr(), Password: secret},
		"over a socket":     {URL: "unix://usher@" + filepath.Join(server.Dir, "redis.sock") + "?db=0", Password: secret},
		"another data base": {URL: "redis://" + server.Addr() + "/3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openRedis(t, store.Options{}, o)
			f := storetest.Follow(t, s)
			wantWorking(t, s)
			if e := f.Next(t); e.What != "tried" {
				t.Errorf("the event is %q", e)
			}
			if warnings, err := s.(store.Checker).Check(t.Context()); err != nil || len(warnings) > 0 {
				t.Errorf("Check: %q, %v", warnings, err)
			}
		})
	}
	t.Run("of a cluster", func(t *testing.T) {
		server := redistest.Start(t, redistest.Options{Cluster: true, Configure: func(*redistest.Server) string {
			return fmt.Sprintf(`user usher on ">%s" ~{usher}:* +@read +@write +@connection +@scripting +info +cluster|slots`, secret)
		}})
		s := openRedis(t, store.Options{}, store.RedisOptions{URL: "redis://usher@" + server.Addr() + "?addr=" + server.Addr(), Password: secret})
		wantWorking(t, s)
	})
	t.Run("may not see INFO", func(t *testing.T) {
		s := openRedis(t, store.Options{}, at("blind", secret))
		wantWorking(t, s)
		if warnings, err := s.(store.Checker).Check(t.Context()); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "+info") {
			t.Errorf("Check: %q, %v", warnings, err)
		}
	})
	for name, test := range map[string]struct {
		o     store.RedisOptions
		words string
	}{
		"a wrong password": {at("usher", secret+"!"), "correct the user"},
		"no such user":     {at("nobody", secret), "correct the user"},
		"not its keys":     {at("other", secret), "allow the user ~{usher}:*"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openRedis(t, store.Options{}, test.o)
			for what, err := range tries(t, s) {
				if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), test.words) {
					t.Errorf("%s: %v; want %q", what, err, test.words)
				}
			}
		})
	}
}

// TestRedisURL: errors of a URL say what to do, and quote no password.
func TestRedisURL(t *testing.T) {
	for _, test := range []struct {
		o     store.RedisOptions
		words string
	}{
		{store.RedisOptions{}, "redis://"},
		{store.RedisOptions{URL: "http://SECRET@host"}, "redis://"},
		{store.RedisOptions{URL: "redis://:SECRET/x:y@host:6379"}, "percent-encoded"},
		{store.RedisOptions{URL: "redis://u:SECRET%zz@host:6379"}, "percent-encoded"},
		{store.RedisOptions{URL: "redis://u:SECRET@host:6379/x"}, "database"},
		{store.RedisOptions{URL: "redis://u:SECRET@host:6379?databse=3"}, "databse"},
		{store.RedisOptions{URL: "redis://u:SECRET@host:6379?password=SECRET"}, "password"},
		{store.RedisOptions{URL: "redis://host:6379?master_name=m&addr=nonsense&password=SECRET"}, "addr"},
		{store.RedisOptions{URL: "redis://host:6379?master_name=m&replica_only=true"}, "replica"},
		{store.RedisOptions{URL: "redis://u:SECRET@host:6379?addr=nonsense"}, "addr"},
		{store.RedisOptions{URL: "unix://"}, "unix"},
		{store.RedisOptions{URL: "redis://host", CA: []byte("SECRET")}, "rediss://"},
		{store.RedisOptions{URL: "rediss://host", CA: []byte("SECRET")}, "no certificate"},
		{store.RedisOptions{URL: "redis://host", Prefix: "a{b}"}, "prefix"},
	} {
		_, err := store.Redis(store.Options{}, test.o)
		wantError(t, err, test.words)
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", test.o.URL, err)
		}
	}
}

// certificates are those of a server, and of the CA that has signed them.
type certificates struct {
	ca   []byte
	dir  string
	cert string
	key  string
}

func newCertificates(t *testing.T) certificates {
	t.Helper()
	c := certificates{dir: t.TempDir()}
	sign := func(cert, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	ca, caKey := sign(authority, authority, nil)
	cert, key := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, authority, caKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		file := filepath.Join(c.dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c.ca = ca
	c.cert, c.key = write("cert.pem", cert), write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	write("ca.pem", ca)
	return c
}

// options make a server speak TLS only.
func (c certificates) options() redistest.Options {
	return redistest.Options{Configure: func(s *redistest.Server) string {
		return fmt.Sprintf("port 0\ntls-port %d\ntls-cert-file %q\ntls-key-file %q\ntls-ca-cert-file %q\ntls-auth-clients no",
			s.Port, c.cert, c.key, filepath.Join(c.dir, "ca.pem"))
	}}
}

func TestRedisTLS(t *testing.T) {
	certs, others := newCertificates(t), newCertificates(t)
	server := redistest.Start(t, certs.options())
	url := "rediss://" + server.Addr()
	for name, test := range map[string]struct {
		o     store.RedisOptions
		works bool
	}{
		"its CA":          {store.RedisOptions{URL: url, CA: certs.ca}, true},
		"several":         {store.RedisOptions{URL: url, CA: slices.Concat(others.ca, certs.ca)}, true},
		"not verified":    {store.RedisOptions{URL: url + "?skip_verify=true"}, true},
		"another CA":      {store.RedisOptions{URL: url, CA: others.ca}, false},
		"the machine's":   {store.RedisOptions{URL: url}, false},
		"without TLS":     {store.RedisOptions{URL: server.URL()}, false},
		"another's name":  {store.RedisOptions{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CA: certs.ca}, false},
		"TLS in clusters": {store.RedisOptions{URL: url + "?addr=" + server.Addr(), CA: others.ca}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := openRedis(t, store.Options{}, test.o)
			if test.works {
				wantWorking(t, s)
			} else {
				wantUnreachable(t, s)
			}
		})
	}
}

// TestRedisCheck: the operator is told what may be lost.
func TestRedisCheck(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		words  []string // one of each warning
	}{
		"nearly full":      {"", []string{"raise maxmemory"}},
		"as it should be":  {"maxmemory 100mb\nmaxmemory-policy noeviction", nil},
		"no limit":         {"maxmemory-policy allkeys-lru", nil},
		"evicts all":       {"maxmemory 100mb\nmaxmemory-policy allkeys-lru", []string{"noeviction"}},
		"evicts ours, too": {"maxmemory 100mb\nmaxmemory-policy volatile-ttl", []string{"noeviction"}},
		"keeps nothing":    {"appendonly no\nsave \"\"", []string{"appendonly yes"}},
		"only snapshots":   {"appendonly no\nsave 3600 1", []string{"snapshot"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{Config: test.config})
			if test.config == "" {
				full(t, server, 180<<10)
			}
			s := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
			warnings, err := s.(store.Checker).Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != len(test.words) {
				t.Fatalf("the warnings are %q; want %q", warnings, test.words)
			}
			for n, words := range test.words {
				if !strings.Contains(warnings[n], words) {
					t.Errorf("the warning is %q; want %q in it", warnings[n], words)
				}
			}
		})
	}
}

// TestRedisFull: a server without room keeps what it has up to date. So the active usher remains it, and another one can take over.
func TestRedisFull(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	s := openRedis(t, store.Options{}, store.RedisOptions{URL: server.URL()})
	lease := func(self string) *store.Lease {
		return &store.Lease{Store: s, Name: "focus.example.com", Self: self}
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	first, err := lease("first").Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	full(t, server, -1<<10)
	if err := s.Put(t.Context(), grant("a", "1")); !errors.Is(err, store.ErrFull) {
		t.Fatalf("the server is not full: %v", err)
	}
	end()
	if err := first.Keep(ctx); err != nil { // which gives it back
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	second, err := lease("second").Take(ctx)
	if err != nil || second.Number != first.Number+1 {
		t.Errorf("the next usher cannot take over: %v", err)
	}
}
