package account

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func keyOf(text string) key { return nameKey(text, text) }

func networkOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 32)
}

// try is an attempt that ends at once. It returns how long it would have to wait instead, if it was not heard.
func (l *limits) try(a attempt, now time.Time, how outcome) time.Duration {
	t, wait := l.begin(a, now)
	if wait == 0 {
		t.end(how, now)
	}
	return wait
}

// TestLimitsApart lets anybody try anything. What is heard from a device that is known depends on nothing but this device. What is heard
// of strangers depends on what was heard of strangers for this account, and from this network, and on nothing else.
func TestLimitsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, now, alone := newLimits(), start, map[string]*limits{}
		of := func(who string) *limits {
			if alone[who] == nil {
				alone[who] = newLimits()
			}
			return alone[who]
		}
		for i := range rapid.IntRange(1, 200).Draw(t, "attempts") {
			account := rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "account")
			net := rapid.IntRange(0, 2).Draw(t, "network")
			how := rapid.SampledFrom([]outcome{failed, failed, failed, failed, succeeded, dropped}).Draw(t, "outcome")
			a := attempt{account: keyOf(account), network: networkOf(net)}
			var want time.Duration
			if rapid.IntRange(0, 3).Draw(t, "known") == 0 {
				d := keyOf(account + " at home")
				a.device = &d
				want = of("device of "+account).try(a, now, how)
			} else {
				// The account alone: each attempt from a network of its own. The network alone: each attempt at an account of its own.
				byAccount := attempt{account: a.account, network: networkOf(1000 + i)}
				byNetwork := attempt{account: keyOf(fmt.Sprint("other ", i)), network: a.network}
				ofAccount, first := of(account).begin(byAccount, now)
				ofNetwork, second := of(fmt.Sprint(net)).begin(byNetwork, now)
				want = max(first, second)
				for _, one := range []*attempt{ofAccount, ofNetwork} {
					switch {
					case one == nil:
					case want > 0:
						one.end(dropped, now) // the other one has refused it
					default:
						one.end(how, now)
					}
				}
			}
			if got := all.try(a, now, how); got != want {
				t.Fatalf("attempt %d at %s from %d: waits %s, want %s", i, account, net, got, want)
			}
			now = now.Add(rapid.SampledFrom([]time.Duration{0, 0, time.Second, 10 * time.Second, time.Minute, time.Hour}).Draw(t, "pause"))
		}
	})
}

// TestLimitsRate lets somebody try as often as is heard. It is never more than what is free and what is forgotten meanwhile.
func TestLimitsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom([]schedule{ofAccount, ofNetwork, ofDevice}).Draw(t, "schedule")
		l, now, heard := newLimit[string](s), start, 0
		for range rapid.IntRange(1, 400).Draw(t, "attempts") {
			wait := l.wait("x", now)
			if wait < 0 || wait > longestDelay {
				t.Fatalf("waits %s", wait)
			}
			pause := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "pause"))
			if wait > 0 {
				if rapid.Bool().Draw(t, "patient") {
					pause = wait
				}
				now = now.Add(pause)
				continue
			}
			l.begin("x", now)
			l.end("x", now, failed, true)
			heard++
			now = now.Add(pause)
		}
		// The delays double, so that within the first hours a few more are heard than are forgotten.
		if most := s.free + int(now.Sub(start)/s.leak) + int(now.Sub(start)/longestDelay) + 11; heard > most {
			t.Fatalf("heard %d within %s, want %d at most", heard, now.Sub(start), most)
		}
		if wait := l.wait("x", now.Add(longestDelay)); wait > 0 {
			t.Fatalf("waits for %s after the longest delay", wait)
		}
		if quiet := now.Add(time.Duration(l.count("x", now)+1) * s.leak); l.count("x", quiet) != 0 {
			t.Fatalf("%d failures are not forgotten", l.count("x", quiet))
		}
	})
}

func (l *limit[K]) count(key K, now time.Time) int {
	if r := l.of[key]; r != nil {
		return r.count(l.schedule, now)
	}
	return 0
}

// TestDelays shows the delays of somebody who tries whenever they are heard.
func TestDelays(t *testing.T) {
	l, now := newLimit[string](ofAccount), start
	var delays []time.Duration
	for range 20 {
		now = now.Add(l.wait("x", now))
		l.begin("x", now)
		delays = append(delays, l.end("x", now, failed, true))
	}
	want := []time.Duration{0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256}
	for i, d := range want {
		if delays[i] != d*time.Second {
			t.Errorf("%d: %s", i, delays[i])
		}
	}
	if slices.Max(delays) != longestDelay || delays[19] < delays[12] {
		t.Errorf("%s", delays)
	}
	// A clock that goes back makes it no longer.
	if wait := l.wait("x", start.Add(-24*time.Hour)); wait > longestDelay {
		t.Errorf("%s", wait)
	}
}

// TestSuccess forgives the account and the device, but not the network.
func TestSuccess(t *testing.T) {
	l, home := newLimits(), keyOf("home")
	mine, known := attempt{account: keyOf("me"), network: networkOf(1)}, attempt{account: keyOf("me"), network: networkOf(1), device: &home}
	heard := 0
	for i := range 100 { // one try at somebody's password, and one login with an own account
		if l.try(attempt{account: keyOf(fmt.Sprint(i)), network: networkOf(1)}, start, failed) == 0 {
			heard++
		}
		l.try(mine, start, succeeded)
	}
	if heard != ofNetwork.free {
		t.Errorf("heard %d", heard)
	}
	for range 20 {
		for range ofDevice.free - 1 {
			if l.try(known, start, failed) > 0 {
				t.Fatal("a success has not forgiven the failures of a device")
			}
		}
		l.try(known, start, succeeded)
	}
	elsewhere := attempt{account: keyOf("me"), network: networkOf(2)}
	for range 3 {
		for range ofAccount.free - 1 {
			if l.try(elsewhere, start, failed) > 0 {
				t.Fatal("a success has not forgiven the failures of an account")
			}
		}
		l.try(elsewhere, start, succeeded)
	}
	if len(l.accounts.of) > 1+heard || len(l.devices.of) != 0 {
		t.Errorf("what is forgiven is still remembered: %d accounts, %d devices", len(l.accounts.of), len(l.devices.of))
	}
}

// TestAtOnce begins many attempts before any has ended: no more are heard than one after the other.
func TestAtOnce(t *testing.T) {
	l := newLimits()
	var all sync.WaitGroup
	var mu sync.Mutex
	var heard []*attempt
	for i := range 200 {
		all.Go(func() {
			if a, wait := l.begin(attempt{account: keyOf("me"), network: networkOf(i)}, start); wait == 0 {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, a)
			} else if a != nil || wait > longestDelay {
				t.Errorf("%v, %s", a, wait)
			}
		})
	}
	all.Wait()
	if len(heard) != ofAccount.free {
		t.Errorf("heard %d", len(heard))
	}
	for i, a := range heard {
		a.end(dropped, start)
		a.end(failed, start) // has no effect
		if i == 0 && l.try(attempt{account: keyOf("me"), network: networkOf(999)}, start, dropped) != 0 {
			t.Error("what was dropped counts still")
		}
	}
	if len(l.accounts.of)+len(l.networks.of) != 0 {
		t.Errorf("%v, %v", l.accounts.of, l.networks.of)
	}
}

// TestBounded tries more names than are remembered. Those with many failures are remembered longest.
func TestBounded(t *testing.T) {
	l := newLimit[int](ofAccount)
	l.most = 100
	for range 7 {
		l.begin(-1, start)
		l.end(-1, start, failed, true)
	}
	l.begin(-2, start) // is being checked
	for i := range 10000 {
		l.begin(i, start)
		l.end(i, start, failed, true)
		if len(l.of) > l.most {
			t.Fatalf("%d records", len(l.of))
		}
	}
	if l.wait(-1, start) == 0 {
		t.Error("7 failures are forgotten for others with one")
	}
	l.end(-2, start, failed, true)
	// All alike.
	l.of = map[int]*record{}
	for i := range 10000 {
		for range 5 {
			l.begin(i, start)
			l.end(i, start, failed, true)
		}
		if len(l.of) > l.most {
			t.Fatalf("%d records", len(l.of))
		}
	}
	// Those that time has forgotten go first.
	later := start.Add(24 * time.Hour)
	l.begin(-3, later)
	l.end(-3, later, failed, true)
	for i := range l.most {
		l.begin(i+20000, later)
		l.end(i+20000, later, dropped, true)
	}
	if old := slices.Collect(maps.Keys(l.of)); l.count(-3, later) != 1 {
		t.Errorf("%v", old)
	}
}
