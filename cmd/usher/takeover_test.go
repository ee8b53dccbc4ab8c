//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// crowd are people who ask all the time, and what they are told.
type crowd struct {
	p      *pair
	wrong  atomic.Int64 // let in without a right
	told   atomic.Int64 // answers
	caught atomic.Int64 // requests that kill -9 has caught on the way: nobody has them any more

	mu    sync.Mutex
	kills [][2]time.Time // from the kill until the next one admits people
	late  []string       // requests without an answer in time
}

// one asks once, and records the answer. Nobody is to be told ready unless may.
func (c *crowd) one(ctx context.Context, v *prosodytest.Client, room, attr string, may bool) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	sent := time.Now()
	got, err := asks(ctx, v, room, attr)
	switch {
	case err != nil:
		c.unanswered(sent, room)
	case got == "ready" && !may:
		c.wrong.Add(1)
	default:
		c.told.Add(1)
	}
}

// unanswered records a request without an answer, unless a kill has caught it.
func (c *crowd) unanswered(sent time.Time, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.kills {
		if sent.After(k[0].Add(-time.Second)) && (k[1].IsZero() || sent.Before(k[1])) {
			c.caught.Add(1)
			return
		}
	}
	c.late = append(c.late, fmt.Sprintf("%s, asked at %s", what, sent.Format(time.TimeOnly)))
}

// asks50 asks fifty times a second until ctx ends: hosts, guests beside a host, guests without one, and people with a forged token.
func (c *crowd) asks50(ctx context.Context, wait *sync.WaitGroup) {
	host, forged := c.p.token, tokenOf(c.p, strings.Repeat("another secret, ", 3))
	kinds := []struct {
		host, attr string
		room       func() string
		may        bool
	}{
		{demoScene.tokens, host, func() string { return fmt.Sprintf("room%d@%s", rand.IntN(10), demoScene.service) }, true},
		{demoScene.guests, "", demoScene.room, true},
		{demoScene.guests, "", func() string { return elsewhere }, false},
		{demoScene.tokens, forged, demoScene.room, false},
	}
	next := make(chan bool)
	for n := range 100 { // a guest without a host waits for some seconds
		kind := kinds[n%len(kinds)]
		v := c.p.person(kind.host)
		wait.Go(func() {
			for range next {
				c.one(context.WithoutCancel(ctx), v.Client, kind.room(), kind.attr, kind.may)
			}
		})
	}
	wait.Go(func() {
		defer close(next)
		tick := time.NewTicker(time.Second / 50)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case next <- true:
			default: // all of them wait for an answer
			}
		}
	})
}

// TestTakeoverUnderLoad kills the active usher TAKEOVERS times while fifty people a second ask. Nobody is let in without a right, and
// nobody stays without an answer. How soon people are let in again is printed.
func TestTakeoverUnderLoad(t *testing.T) {
	times, _ := strconv.Atoi(os.Getenv("TAKEOVERS"))
	if times <= 0 {
		t.Skip("set TAKEOVERS to the number of kills, or run make takeover")
	}
	p := newPair(t, shared, shared)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times)*time.Minute)
	defer cancel()
	p.ctx = ctx
	active, standby := p.standsBy(byLease)
	host, probe := p.host(), p.host()
	host.enters(demoScene.room(), p.token)
	c := &crowd{p: p}
	asking, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	c.asks50(asking, &wait)
	var all []time.Duration
	for range times {
		waiting := p.guest()
		waiting.waits(elsewhere)
		held := time.Now()
		active.ends(syscall.SIGKILL)
		killed := time.Now()
		c.mu.Lock()
		c.kills = append(c.kills, [2]time.Time{killed})
		c.mu.Unlock()
		probe.gets("ready", demoScene.room(), p.token)
		all = append(all, time.Since(killed))
		c.mu.Lock()
		c.kills[len(c.kills)-1][1] = time.Now()
		c.mu.Unlock()
		waiting.answered()
		t.Logf("let in again after %s; the held request is answered after %s", all[len(all)-1].Round(time.Millisecond), time.Since(held).Round(time.Millisecond))
		active.starts().has(byLease, 1)
		active, standby = standby, active
	}
	stop()
	wait.Wait()
	host.stays(demoScene.room())
	slices.Sort(all)
	t.Logf("%d kills, %d answers, %d requests caught on the way; let in again after %s (median), %s (p95)", times, c.told.Load(), c.caught.Load(),
		all[len(all)/2].Round(time.Millisecond), all[len(all)*95/100].Round(time.Millisecond))
	if n := c.wrong.Load(); n > 0 {
		t.Errorf("%d people were let in without a right", n)
	}
	if len(c.late) > 0 {
		t.Errorf("without an answer: %d\n%s", len(c.late), strings.Join(c.late, "\n"))
	}
}
