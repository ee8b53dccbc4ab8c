package store_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// smallBytes are room for some dozens of grants.
const smallBytes = 256 << 10

func TestMemory(t *testing.T) {
	open := func(_ *testing.T, o store.Options, _ *storetest.Clock) store.Store { return store.Memory(o) }
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o.MaxBytes = smallBytes
		return open(t, o, clock)
	})
	storetest.RunCounting(t, open)
}

func TestBolt(t *testing.T) {
	open := func(t *testing.T, o store.Options, _ *storetest.Clock) store.Store {
		return open(t, store.NewPath(t), o)
	}
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o.MaxBytes = smallBytes
		return open(t, o, clock)
	})
	storetest.RunCounting(t, open)
}

func TestRedis(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	suite(t, s, s.URL())
}

// TestRedisCluster runs the suite with a cluster of one server.
func TestRedisCluster(t *testing.T) {
	s := redistest.Start(t, redistest.Options{Cluster: true})
	suite(t, s, s.URL()+"?addr="+s.Addr())
}

// suite runs the suite at a server.
func suite(t *testing.T, s *redistest.Server, url string) {
	var n atomic.Int32
	open := func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o2 := store.RedisOptions{URL: url, Prefix: fmt.Sprintf(`a*[b]\\?%d`, n.Add(1))}
		opened := openRedis(t, o, o2)
		clock.Moved = func(d time.Duration) { pass(t, s, "{"+o2.Prefix+"}:", d) }
		return opened
	}
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		small := redistest.Start(t, redistest.Options{})
		full(t, small, 512<<10)
		o2 := store.RedisOptions{URL: small.URL()}
		clock.Moved = func(d time.Duration) { pass(t, small, "{usher}:", d) }
		return openRedis(t, o, o2)
	})
}

// openRedis opens a store that waits as long as a busy machine needs.
func openRedis(t testing.TB, o store.Options, r store.RedisOptions) store.Store {
	t.Helper()
	sign := "?"
	if strings.Contains(r.URL, sign) {
		sign = "&"
	}
	r.URL += sign + "dial_timeout=1m&read_timeout=1m&write_timeout=1m&pool_timeout=1m"
	return openHasty(t, o, r)
}

// openHasty opens a store with the timeouts that usher has.
func openHasty(t testing.TB, o store.Options, r store.RedisOptions) store.Store {
	t.Helper()
	s, err := store.Redis(o, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// full leaves a server with room for some bytes.
func full(t testing.TB, s *redistest.Server, bytes int) {
	t.Helper()
	c := client(t, s)
	info, err := c.Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, used, _ := strings.Cut(info, "used_memory:")
	used, _, _ = strings.Cut(used, "\r")
	n, err := strconv.Atoi(used)
	if err == nil {
		err = c.ConfigSet(t.Context(), "maxmemory", strconv.Itoa(n+bytes)).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// client returns a client of a server, for what a store does not do.
func client(t testing.TB, s *redistest.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), Protocol: 2, MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	return c
}

// pass lets time pass for the keys of a server.
func pass(t *testing.T, s *redistest.Server, prefix string, d time.Duration) {
	t.Helper()
	c := client(t, s)
	defer c.Close()
	err := c.Eval(t.Context(), `
for _, key in ipairs(redis.call('KEYS', '*')) do
	local left = redis.call('PTTL', key)
	if left > 0 and string.sub(key, 1, #ARGV[1]) == ARGV[1] then
		redis.call('PEXPIRE', key, left - ARGV[2])
	end
end
`, nil, prefix, d.Milliseconds()).Err()
	if err != nil && err != redis.Nil {
		t.Fatal(err)
	}
}
