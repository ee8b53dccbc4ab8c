package keys_test

import (
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
)

func TestRemoteIsAskedWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "a", "b"))
		s.wasAsked(t, 0)
		has(t, source, "a", 1)
		has(t, source, "b", 1)
		has(t, source, "", 2)
		s.wasAsked(t, 1)
		pass(time.Hour - time.Nanosecond)
		has(t, source, "a", 1)
		s.wasAsked(t, 1)
		pass(time.Nanosecond)
		has(t, source, "a", 1)
		s.wasAsked(t, 2)
	})
}

// A new key is found by its kid. At the same moment the key that it replaces is gone.
func TestRemoteRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "old"))
		has(t, source, "old", 1)
		s.publishes(200, ecSet(t, "new"))
		pass(5*time.Second - time.Nanosecond)
		fails(t, source, "new", "not known yet") // too soon to ask again, so the kid may exist
		s.wasAsked(t, 1)
		pass(time.Nanosecond)
		has(t, source, "new", 1)
		has(t, source, "old", 0)
		s.wasAsked(t, 2)
	})
}

// Invented kids delay a new key for at most 5 s, and the same kid is asked for once in 30 s.
func TestRemoteInventedKids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "a"))
		for i := range int64(20) {
			has(t, source, fmt.Sprint("invented ", i), 0)
			has(t, source, fmt.Sprint("invented ", i), 0)
			s.wasAsked(t, i+1)
			has(t, source, "a", 1)
			pass(5 * time.Second)
		}
		has(t, source, "invented 20", 0)
		s.publishes(200, ecSet(t, "a", "new"))
		pass(time.Nanosecond)
		fails(t, source, "new", "not known yet")
		pass(4 * time.Second) // so does a Jitsi client, which asks again after 1, 2, 4 s
		fails(t, source, "new", "not known yet")
		pass(time.Second)
		has(t, source, "invented 21", 0) // it comes first, and finds the new key, too
		s.wasAsked(t, 22)
		has(t, source, "new", 1)
		s.wasAsked(t, 22)
	})
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "a"))
		for i := range int64(5) {
			for range 30 {
				has(t, source, "gone", 0)
				pass(time.Second)
			}
			s.wasAsked(t, i+1)
		}
	})
}

// The server is asked once in 5 s, however many kids are invented.
func TestRemoteKidFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "a"))
		for round := range int64(5) {
			var all sync.WaitGroup
			for g := range 100 {
				all.Go(func() {
					for i := range 100 {
						keys, err := source.Keys(t.Context(), fmt.Sprint("random", round, g, i))
						if len(keys) != 0 || err != nil && !strings.Contains(err.Error(), "not known yet") {
							t.Errorf("got %v, %v", keys, err)
						}
					}
				})
			}
			all.Wait()
			s.wasAsked(t, round+1)
			pass(5 * time.Second)
		}
	})
}

func TestRemoteKeepsStaleKeys(t *testing.T) {
	for name, broken := range map[string]func(*testing.T, *server){
		"no answer":   func(_ *testing.T, s *server) { s.err = errors.New("secret") },
		"status":      func(_ *testing.T, s *server) { s.publishes(503, nil) },
		"absent":      func(_ *testing.T, s *server) { s.publishes(404, nil) },
		"HTML":        func(_ *testing.T, s *server) { s.publishes(200, []byte("<html>secret")) },
		"no keys":     func(_ *testing.T, s *server) { s.publishes(200, []byte(`{"keys": []}`)) },
		"long":        func(_ *testing.T, s *server) { s.publishes(200, make([]byte, 2<<20)) },
		"private key": func(t *testing.T, s *server) { s.publishes(200, jwkSet(t, jwkOf(t, newEC(t, elliptic.P256()), nil))) },
		"secret":      func(t *testing.T, s *server) { s.publishes(200, jwkSet(t, jwkOf(t, []byte("secret"), nil))) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, source := published(t, time.Hour, ecSet(t, "a"), "Cache-Control", "max-age=600")
				has(t, source, "a", 1)
				broken(t, s)

				pass(10 * time.Minute)
				has(t, source, "a", 1)
				s.wasAsked(t, 2)
				has(t, source, "a", 1)                                // the pause after an error
				fails(t, source, "b", "https://keys.example.com/set") // an unknown kid
				s.wasAsked(t, 2)
				pass(time.Hour - time.Nanosecond)
				has(t, source, "a", 1)
				s.wasAsked(t, 3)
				pass(time.Nanosecond)
				fails(t, source, "a", "https://keys.example.com/set: ")
				fails(t, source, "", "https://keys.example.com/set: ")
				s.wasAsked(t, 3)
				if _, err := source.Keys(t.Context(), "a"); strings.Contains(err.Error(), "secret") && name != "secret" {
					t.Errorf("the error quotes the answer: %v", err)
				}

				s.publishes(200, ecSet(t, "a"))
				pass(30 * time.Second)
				has(t, source, "a", 1)
				s.wasAsked(t, 4)
			})
		})
	}
}

// At the beginning all callers wait for the one that asks. If the answer is refused, all get the error.
func TestRemoteFirstFetch(t *testing.T) {
	for name, test := range map[string]struct {
		set     []byte
		refused bool
	}{
		"keys":   {ecSet(t, "a"), false},
		"secret": {jwkSet(t, jwkOf(t, []byte("secret"), member{"kid": "a", "alg": "HS256"})), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{hang: make(chan struct{})}
				s.publishes(200, test.set)
				source := remote(t, s, time.Hour)
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						if test.refused {
							fails(t, source, "a", "shared secret")
						} else {
							has(t, source, "a", 1)
						}
					})
				}
				s.goesOn(&all)
				s.wasAsked(t, 1)
			})
		})
	}
}

// While one caller asks again, the others use the old keys; only callers with another kid wait.
func TestRemoteOthersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, source := published(t, time.Hour, ecSet(t, "a"))
		has(t, source, "a", 1)
		pass(time.Hour)
		s.publishes(200, ecSet(t, "a", "b"))
		s.hang = make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { has(t, source, "a", 1) })
		synctest.Wait()
		start := time.Now()
		has(t, source, "a", 1)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %s", waited)
		}
		all.Go(func() { has(t, source, "b", 1) })
		s.goesOn(&all)
		s.wasAsked(t, 2)
	})
}

// A server that does not answer costs 5 s. A caller that waits for another one leaves when its own time is over.
func TestRemoteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{hang: make(chan struct{})}
		source := remote(t, s, time.Hour)
		start := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			fails(t, source, "a", "no whole answer within 5s")
			if waited := time.Since(start); waited != 5*time.Second {
				t.Errorf("waited %s", waited)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := source.Keys(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		all.Wait()
		s.wasAsked(t, 1)
	})
}

// A caller that hangs up does not keep the keys from the others.
func TestRemoteWhoAskedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{hang: make(chan struct{})}
		s.publishes(200, ecSet(t, "a"))
		source := remote(t, s, time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := source.Keys(ctx, "a"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { has(t, source, "a", 1) })
		cancel()
		s.goesOn(&all)
		if _, err := source.Keys(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("later: got %v", err)
		}
		s.wasAsked(t, 1)
	})
}

func TestRemoteLifetime(t *testing.T) {
	date := func(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
	synctest.Test(t, func(t *testing.T) {
		set := ecSet(t, "a")
		now := time.Now()
		for _, test := range []struct {
			header []string
			want   time.Duration
		}{
			{nil, time.Hour},
			{[]string{"Cache-Control", "max-age=600"}, 10 * time.Minute},
			{[]string{"Cache-Control", "public, MAX-AGE=600, must-revalidate, no-transform"}, 10 * time.Minute},
			{[]string{"Cache-Control", "public", "Cache-Control", "max-age=600"}, 10 * time.Minute},
			{[]string{"Cache-Control", "s-maxage=600"}, time.Hour},
			{[]string{"Cache-Control", "max-age=600", "Age", "60"}, 9 * time.Minute},
			{[]string{"Cache-Control", "max-age=600", "Age", "6000"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age=600", "Age", "-1"}, 10 * time.Minute},
			{[]string{"Cache-Control", "max-age=600", "Expires", "0"}, 10 * time.Minute},
			{[]string{"Cache-Control", "public", "Expires", date(now.Add(time.Minute))}, time.Minute},
			{[]string{"Cache-Control", "max-age=0"}, 30 * time.Second},
			{[]string{"Cache-Control", "no-store, max-age=600"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age=600, no-cache"}, 30 * time.Second},
			{[]string{"Cache-Control", `no-cache="Set-Cookie"`}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age=31536000"}, 24 * time.Hour},
			{[]string{"Cache-Control", "max-age=18446744073709551615"}, 24 * time.Hour},
			{[]string{"Cache-Control", "max-age=18446744073709551616"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age=-1"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age=1e9"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age"}, 30 * time.Second},
			{[]string{"Cache-Control", "max-age="}, 30 * time.Second},
			{[]string{"Cache-Control", "x= , max-age=600"}, 30 * time.Second},
			{[]string{"Cache-Control", ",,,="}, 30 * time.Second},
			{[]string{"Expires", date(now.Add(20 * time.Minute))}, 20 * time.Minute},
			{[]string{"Expires", date(now.Add(20 * time.Minute)), "Date", date(now.Add(10 * time.Minute))}, 10 * time.Minute},
			{[]string{"Expires", date(now.Add(-time.Minute))}, 30 * time.Second},
			{[]string{"Expires", "0"}, 30 * time.Second},
			{[]string{"Expires", date(now.AddDate(1000, 0, 0))}, 24 * time.Hour},
		} {
			s := &server{}
			// The dates above are of the time when the test began.
			if len(test.header) > 0 && strings.Contains(fmt.Sprint(test.header), "Expires") && !strings.Contains(fmt.Sprint(test.header), "Date") {
				test.header = append(test.header, "Date", date(now))
			}
			s.publishes(200, set, test.header...)
			source := remote(t, s, 0)
			has(t, source, "a", 1)
			pass(test.want - time.Nanosecond)
			has(t, source, "a", 1)
			if s.asked.Load() != 1 {
				t.Errorf("%q: asked before %s", test.header, test.want)
			}
			pass(time.Nanosecond)
			has(t, source, "a", 1)
			if s.asked.Load() != 2 {
				t.Errorf("%q: not asked after %s", test.header, test.want)
			}
		}
	})
}

func TestKeyMap(t *testing.T) {
	p256 := newEC(t, elliptic.P256())
	cert := string(certificate(t, p256))
	other := string(certificate(t, newEC(t, elliptic.P384())))
	private := string(readKey(t, "rsa2048.key"))
	text := func(v any) string { return string(must(t)(json.Marshal(v))) }
	for name, test := range map[string]struct {
		body, want string
		kids       []string
	}{
		"Firebase":         {text(map[string]string{"k1": cert, "k2": other}), "", []string{"k1", "k2"}},
		"public key":       {text(map[string]string{"k1": string(readKey(t, "rsa2048.pem"))}), "", []string{"k1"}},
		"JWK Set":          {string(ecSet(t, "k1", "k3")), "", []string{"k1", "k3"}},
		"kid keys":         {text(map[string]string{"keys": cert}), "", []string{"keys"}},
		"one damaged":      {text(map[string]string{"k1": cert, "k2": other[:99]}), "", []string{"k1"}},
		"one without name": {text(map[string]string{"k1": cert, "": other}), "", []string{"k1"}},
		"error":            {`{"error": "no"}`, "none of the 1 members", nil},
		"error in full":    {`{"error": {"code": 404}}`, "neither a map of kid", nil},
		"keys no list":     {`{"keys": 1}`, "not a JWK Set", nil},
		"empty":            {`{}`, "none of the 0 members", nil},
		"twice":            {`{"k1": "a", "k1": "b"}`, "a name twice", nil},
		"private":          {text(map[string]string{"k1": cert, "k2": private}), "a private key", nil},
		"JWK Set, private": {string(jwkSet(t, jwkOf(t, p256, nil))), "a private key", nil},
		"many":             {text(map[string]string{"k1": strings.Repeat(string(readKey(t, "ec256.pem")), 257)}), "more than 256", nil},
		"HTML":             {"<html>", "not JSON", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{}
			s.publishes(200, []byte(test.body))
			cache := &keys.Cache{Transport: s}
			source, err := cache.KeyMap(address, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				fails(t, source, "k1", test.want)
				return
			}
			has(t, source, "", len(test.kids))
			for _, kid := range test.kids {
				has(t, source, kid, 1)
			}
			s.wasAsked(t, 1)
		})
	}
}

func TestASAP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		pem := readKey(t, "rsa2048.pem")
		a.publishes("/base", "k1", pem)
		has(t, source, "k1", 1)
		has(t, source, "k1", 1)
		has(t, source, "", 0)
		a.wasAsked(t, 1)
		for _, kid := range []string{"k2", "../../dev/null", "\x00", "*", strings.Repeat("k", 8000)} {
			has(t, source, kid, 0)
			has(t, source, kid, 0)
		}
		a.wasAsked(t, 6)
		if got, _ := source.Keys(t.Context(), "k1"); got[0].ID != "k1" {
			t.Errorf("the key is called %q", got[0].ID)
		}

		// An id without a key is asked for again after the pause.
		a.publishes("/base", "k2", pem)
		pass(30*time.Second - time.Nanosecond)
		has(t, source, "k2", 0)
		pass(time.Nanosecond)
		has(t, source, "k2", 1)
		a.wasAsked(t, 7)

		// A key that the server withdraws is gone when it is asked again.
		delete(a.keys, fmt.Sprintf("/base/%x.pem", sha256.Sum256([]byte("k1"))))
		pass(time.Hour)
		has(t, source, "k1", 0)
		a.wasAsked(t, 8)
	})
}

func TestASAPRefuses(t *testing.T) {
	for want, pem := range map[string][]byte{
		"a private key": readKey(t, "rsa2048.key"),
		"no key in PEM": []byte("<html>"),
		"more than 256": []byte(strings.Repeat(string(readKey(t, "ec256.pem")), 257)),
		"more than 102": make([]byte, 2<<20),
	} {
		a, source := newASAP(t)
		a.publishes("/base", "k1", pem)
		fails(t, source, "k1", want)
		fails(t, source, "k1", want)
		a.wasAsked(t, 1)
	}
}

// From a cold start on, invented kids delay real ones by moments and cost a bounded number of fetches. They do not affect a key that
// was found before.
func TestASAPKidFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		a.header.Set("Cache-Control", "max-age=30")
		for i := range 10 {
			a.publishes("/base", fmt.Sprint(i), readKey(t, "rsa2048.pem"))
		}
		start := time.Now()
		stop := flood(t, source, 100)
		synctest.Wait()
		for i := range 10 {
			asked := time.Now()
			has(t, source, fmt.Sprint(i), 1)
			if waited := time.Since(asked); waited > 3*time.Second {
				t.Errorf("key %d: waited %s", i, waited)
			}
			pass(time.Second)
		}
		for range 3 {
			asked := time.Now()
			for i := range 10 {
				has(t, source, fmt.Sprint(i), 1)
			}
			if waited := time.Since(asked); waited != 0 {
				t.Errorf("a key that is kept: waited %s", waited)
			}
			pass(30 * time.Second) // it is fetched anew
		}
		if n := stop(); n > 0 {
			t.Errorf("%d times nobody was asked", n)
		}
		if n, most := a.asked.Load(), 50*int64(time.Since(start)/time.Second)+100; n > most {
			t.Errorf("asked %d times, want %d at most", n, most)
		}
	})
}

// If more strangers ask than the queue can take, callers get an error, also one with a real kid; the next time it may have more luck.
func TestASAPKidFloodOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		a.publishes("/base", "real", readKey(t, "rsa2048.pem"))
		start := time.Now()
		stop := flood(t, source, 300)
		synctest.Wait()
		tries := 0
		for {
			tries++
			if keys, err := source.Keys(t.Context(), "real"); err == nil && len(keys) == 1 {
				break
			} else if len(keys) > 0 || err == nil {
				t.Fatalf("got %v, %v", keys, err)
			}
			pass(700 * time.Millisecond)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("found after %s", took)
		}
		pass(time.Minute)
		if stop() == 0 {
			t.Error("the line was never full")
		}
		if n, most := a.asked.Load(), 50*int64(time.Since(start)/time.Second)+100; n > most {
			t.Errorf("asked %d times, want %d at most", n, most)
		}
		if n := keys.Remembered(source); n > 3000+256 {
			t.Errorf("%d kids are remembered", n)
		}
	})
}

// If a caller gives up in the queue, the next caller with the same kid takes over.
func TestASAPGivesUpInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		a.publishes("/base", "real", readKey(t, "rsa2048.pem"))
		stop := flood(t, source, 50)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := source.Keys(ctx, "real"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { has(t, source, "real", 1) })
		synctest.Wait()
		cancel()
		all.Wait()
		stop()
	})
}

// A kid without a key is asked for again after the pause, once for all callers.
func TestASAPSameKidsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		for round := range int64(3) {
			for range 3 {
				for i := range 10 {
					has(t, source, fmt.Sprint(i), 0)
				}
			}
			a.wasAsked(t, 10*(round+1))
			pass(30 * time.Second)
		}
	})
}

// Many callers with one new kid at once cause one request. There is no synctest here, because it runs one goroutine after the other.
func TestASAPManyAskForOne(t *testing.T) {
	for range 20 {
		a, source := newASAP(t)
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				<-start
				has(t, source, "k1", 0)
			})
		}
		close(start)
		all.Wait()
		a.wasAsked(t, 1)
	}
}

func TestASAPAskerIsGone(t *testing.T) {
	a, source := newASAP(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		if _, err := source.Keys(ctx, fmt.Sprint(i)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	has(t, source, "k1", 0)
	a.wasAsked(t, 1)
}

// Of many real keys the most recently used are kept.
func TestASAPKeepsWhatIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, source := newASAP(t)
		a.header.Set("Cache-Control", "max-age=86400")
		pem := readKey(t, "ec256.pem")
		for i := range 300 {
			a.publishes("/base", fmt.Sprint(i), pem)
			has(t, source, fmt.Sprint(i), 1)
			has(t, source, "0", 1)
			pass(3 * time.Second)
		}
		a.wasAsked(t, 300)
		has(t, source, "0", 1)
		has(t, source, "299", 1)
		has(t, source, "45", 1)
		a.wasAsked(t, 300)
		has(t, source, "44", 1)
		a.wasAsked(t, 301)
	})
}

func TestCheck(t *testing.T) {
	s := &server{}
	source := remote(t, s, time.Hour)
	s.publishes(200, jwkSet(t, jwkOf(t, newEC(t, elliptic.P256()).Public(), member{"kid": "a"}),
		jwkOf(t, rsaKey(t).Public(), member{"kid": "b", "use": "enc"})))
	for range 2 { // a person who asks is not held back
		found, skipped, err := source.Check(t.Context())
		if err != nil || len(found) != 1 || found[0].ID != "a" || len(skipped) != 1 || !strings.Contains(skipped[0].Error(), `"b"`) {
			t.Errorf("got %v, %v, %v", found, skipped, err)
		}
	}
	s.wasAsked(t, 2)
	s.publishes(500, nil)
	if found, _, err := source.Check(t.Context()); err == nil || found != nil || err.Error() != "keys from "+address+": HTTP status 500" {
		t.Errorf("got %v, %v", found, err)
	}

	a, source := newASAP(t)
	if found, _, err := source.Check(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("ASAP: got %v, %v", found, err)
	}
	a.err = errors.New("secret")
	if _, _, err := source.Check(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("ASAP: got %v", err)
	}
}

func TestCache(t *testing.T) {
	s := &server{}
	s.publishes(200, ecSet(t, "a"))
	cache := &keys.Cache{Transport: s}
	made := func(source keys.Remote, err error) keys.Remote {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return source
	}
	first := made(cache.JWKS(address, time.Hour))
	has(t, first, "a", 1)
	if made(cache.JWKS(address, time.Hour)) != first || made(cache.JWKS(address+"#part", time.Hour)) != first {
		t.Error("the same again is another source")
	}
	for _, other := range []keys.Remote{
		made(cache.JWKS(address+"?", time.Hour)), made(cache.JWKS(address, time.Minute)),
		made(cache.KeyMap(address, time.Hour)), made(cache.ASAP(address, time.Hour)),
	} {
		if other == first {
			t.Error("another is the same source")
		}
	}
	kept := made(cache.KeyMap(address, time.Hour))
	cache.Sweep()
	if made(cache.KeyMap(address, time.Hour)) != kept {
		t.Error("what was asked for is gone")
	}
	cache.Sweep()
	if made(cache.KeyMap(address, time.Hour)) != kept {
		t.Error("what was asked for in the second round is gone")
	}
	has(t, first, "a", 1)
	s.wasAsked(t, 1)
	again := made(cache.JWKS(address, time.Hour))
	if again == first {
		t.Error("what nobody asked for in the second round is still there")
	}
	has(t, again, "a", 1)
	s.wasAsked(t, 2)
}

func TestAddresses(t *testing.T) {
	var cache keys.Cache
	for _, address := range []string{
		"https://keys.example.com", "https://keys.example.com:8443/a/b?c=d", "HTTPS://[2001:db8::1]/", "http://127.0.0.1:8080/keys",
		"http://127.255.255.254/", "http://[::1]/", "http://localhost:1", "http://LOCALHOST/",
	} {
		if _, err := cache.JWKS(address, 0); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	const noAddress, noHTTPS = "not an address", "want https://"
	for address, want := range map[string]string{
		"":                              noAddress,
		"keys.example.com":              noAddress,
		"https:///keys":                 noAddress,
		"https://:443/keys":             noAddress,
		"https:keys.example.com":        noAddress,
		"https://keys.example.com:x":    noAddress,
		"https://keys.example.com/%zz":  noAddress,
		"file:///etc/passwd":            noAddress,
		"file://localhost/etc/passwd":   noHTTPS,
		"ftp://127.0.0.1/":              noHTTPS,
		"http://keys.example.com":       noHTTPS,
		"http://localhost.example.com":  noHTTPS,
		"http://127.0.0.1.example.com":  noHTTPS,
		"http://127.1/":                 noHTTPS,
		"http://0.0.0.0/":               noHTTPS,
		"http://169.254.169.254/":       noHTTPS,
		"http://10.0.0.1/":              noHTTPS,
		"https://me:pw@keys.example":    "user name or password",
		"http://127.0.0.1@evil.example": "user name or password",
	} {
		source, err := cache.KeyMap(address, 0)
		if err == nil || source != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: got %v; want an error with %q", address, err, want)
		}
	}
	for _, address := range []string{"https://keys.example.com/?a=b", "https://keys.example.com/?"} {
		if source, err := cache.ASAP(address, 0); err == nil || source != nil {
			t.Errorf("%s: accepted", address)
		}
	}
}

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, err := keys.PEMFiles(keyFile("rsa2048.pem"))
		if err != nil {
			t.Fatal(err)
		}
		s, down := &server{}, &server{err: errors.New("down")}
		s.publishes(200, ecSet(t, "a"))
		all := keys.Join(files, remote(t, down, 0), remote(t, s, 0), failing{})
		has(t, all, "a", 1) // as the contract of KeySource says, without those that have no name
		has(t, all, "b", 1)
		has(t, all, "", 2)
		s.wasAsked(t, 1)
		down.wasAsked(t, 1)
		if got, _ := all.Keys(t.Context(), "a"); got[0].ID != "a" {
			t.Errorf("got %+v", got)
		}

		fails(t, keys.Join(failing{}, remote(t, down, 0)), "a", "failed")
		fails(t, keys.Join(remote(t, down, 0), failing{}), "a", "keys from "+address)
		fails(t, keys.Join(remote(t, s, 0), failing{}), "b", "failed")
		has(t, keys.Join(remote(t, s, 0), remote(t, s, 0)), "a", 2)
		has(t, keys.Join(remote(t, s, 0), remote(t, s, 0)), "b", 0)
		has(t, keys.Join(), "a", 0)
		if keys.Join(files) == nil {
			t.Error("one source is none")
		}
	})
}
