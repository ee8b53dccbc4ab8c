package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/webhook"
)

// TestOrder: a hook gets the events of a room in their order and one after the other, within a fraction of a second. Then the store is
// empty.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(r request) (int, time.Duration) { return 204, 50 * time.Millisecond }}
		b, s := outbox(t, e, hook(t, "one"), hook(t, "two")), store.Memory(store.Options{})
		stop := run(t, b, s)
		var want []string
		for n := range 20 {
			b.Report(report("standup", fmt.Sprint(n)))
			want = append(want, fmt.Sprint(n))
		}
		time.Sleep(webhook.Every + time.Millisecond)
		synctest.Wait()
		if n := left(t, s); n != 40 || e.told("one") != nil {
			t.Errorf("the store has %d events after %v", n, webhook.Every)
		}
		time.Sleep(2 * time.Second)
		wantTold(t, e, "one", want...)
		wantTold(t, e, "two", want...)
		ids := map[string]int{}
		for _, hook := range []string{"one", "two"} {
			for _, r := range e.requests(hook) {
				ids[r.id]++
			}
		}
		if len(ids) != 20 {
			t.Errorf("20 events have %d ids", len(ids))
		}
		if n := left(t, s); n != 0 {
			t.Errorf("%d events are in the store at the end", n)
		}
		stop()
		for _, stats := range b.Stats() {
			if stats.Sent != 20 || stats.Queued != 0 || stats.Failed != 0 || stats.Dead != 0 {
				t.Errorf("%+v", stats)
			}
		}
	})
}

// TestRoomsDoNotWait: an event that a hook does not take holds up the later ones of its room, and nothing else.
func TestRoomsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(r request) (int, time.Duration) {
			if r.hook == "one" && r.n == "bad" {
				return 500, 0
			}
			return 200, 0
		}}
		b := outbox(t, e, hook(t, "one"), hook(t, "two"))
		run(t, b, store.Memory(store.Options{}))
		for _, r := range []component.Report{report("a", "1"), report("b", "2"), report("b", "bad"), report("b", "3"), report("a", "4")} {
			b.Report(r)
		}
		time.Sleep(time.Minute)
		for hook, want := range map[string][]string{"one": {"1", "2", "4"}, "two": {"1", "2", "bad", "3", "4"}} {
			got := e.told(hook)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s was told %v; want %v", hook, got, want)
			}
		}
	})
}

// TestBackoff: the pauses double from about a second to an hour, and after a day the event is dead. The next one of the room is then
// tried.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(r request) (int, time.Duration) {
			if r.n == "bad" {
				return 503, 0
			}
			return 200, 0
		}}
		core, logs := observer.New(zap.InfoLevel)
		b, s := logging(t, zap.New(core), e, hook(t, "one")), store.Memory(store.Options{})
		run(t, b, s)
		began := time.Now()
		b.Report(report("a", "bad"))
		b.Report(report("a", "good"))
		time.Sleep(webhook.Life - time.Second)
		if st := b.Stats()[0]; st.Dead != 0 || st.Queued != 2 || st.Sent != 0 || !st.Down {
			t.Errorf("before the day is over: %+v", st)
		}
		time.Sleep(time.Hour + time.Second)
		if st := b.Stats()[0]; st.Dead != 1 || st.Queued != 0 || st.Sent != 1 || st.Down || int(st.Failed) != len(e.requests("one"))-1 {
			t.Errorf("after the day: %+v", st)
		}
		time.Sleep(time.Second)
		if n := left(t, s); n != 0 {
			t.Errorf("%d events are in the store", n)
		}
		all := e.requests("one")
		last := began.Add(webhook.Every)
		for n, r := range all[:len(all)-1] {
			pause := min(time.Hour, time.Second<<min(max(n-1, 0), 20))
			if got := r.at.Sub(last); n > 0 && (got < pause/2 || got > pause+time.Millisecond) {
				t.Errorf("pause %d is %v, and should be half of %v to all", n, got, pause)
			}
			if r.id != all[0].id || r.body != all[0].body {
				t.Errorf("attempt %d is %+v, and the first was %+v", n, r, all[0])
			}
			last = r.at
		}
		for message, n := range map[string]int{"webhook failed, and is tried again": 2, "webhook: events were dropped, because it did not take them": 1, "webhook works again": 1} {
			if got := logs.FilterMessage(message).Len(); got != n {
				t.Errorf("the log says %q %d times; want %d", message, got, n)
			}
		}
	})
}

// TestRetryAfter: a hook that asks for a pause gets it, an hour at most.
func TestRetryAfter(t *testing.T) {
	for text, want := range map[string][2]time.Duration{
		"120":                           {2 * time.Minute, 2 * time.Minute},
		"Sat, 01 Jan 2000 00:10:00 GMT": {10*time.Minute - time.Second, 10 * time.Minute},
		"1000000000":                    {time.Hour, time.Hour},
		"-5":                            {time.Second / 2, time.Second},
		"soon":                          {time.Second / 2, time.Second},
		"Sat, 01 Jan 1999 00:10:00 GMT": {time.Second / 2, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &endpoint{header: http.Header{"Retry-After": {text}}, answer: func(request) (int, time.Duration) { return 429, 0 }}
			b := outbox(t, e, hook(t, "one"))
			run(t, b, store.Memory(store.Options{}))
			b.Report(report("a", "1"))
			time.Sleep(2 * time.Hour)
			all := e.requests("one")
			if got := all[1].at.Sub(all[0].at); got < want[0] || got > want[1]+time.Millisecond {
				t.Errorf("%q: the pause is %v", text, got)
			}
		})
	}
}

// TestWorksAgain: a hook that was away for hours gets all that waits as soon as it is back, in order, and is not flooded meanwhile.
func TestWorksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		e := &endpoint{}
		e.answer = func(request) (int, time.Duration) {
			if !away {
				return 200, 0
			}
			if n := e.now["one"]; n > 1 && len(e.got) >= webhook.Down+webhook.Parallel {
				e.err = fmt.Errorf("%d requests at a time to a hook that is down", n)
			}
			return 0, 2 * time.Second
		}
		b := outbox(t, e, hook(t, "one"))
		run(t, b, store.Memory(store.Options{}))
		for n := range 500 {
			b.Report(report(fmt.Sprint("room", n%100), fmt.Sprint(n/100)))
		}
		time.Sleep(6 * time.Hour)
		e.set(&away, false)
		began := time.Now()
		for time.Since(began) < time.Hour && b.Stats()[0].Queued > 0 {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		took := time.Since(began)
		if st := b.Stats()[0]; st.Queued != 0 || st.Sent != 500 || st.Dead != 0 || took > 10*time.Minute {
			t.Errorf("%v after it is back: %+v", took, st)
		}
		byRoom := map[string]string{}
		for _, r := range e.requests("one") {
			if r.ok {
				byRoom[r.room] += r.n
			}
		}
		for room, got := range byRoom {
			if got != "01234" {
				t.Errorf("%s: %s", room, got)
			}
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.err != nil {
			t.Error(e.err)
		}
	})
}

// TestGone: after 410 a hook gets nothing more, until the configuration changes. What it does not get is counted.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := true
		e := &endpoint{answer: func(r request) (int, time.Duration) {
			if r.hook == "one" && gone {
				return 410, 0
			}
			return 200, 0
		}}
		b, s := outbox(t, e, hook(t, "one"), hook(t, "two")), store.Memory(store.Options{})
		run(t, b, s)
		for n := range 5 {
			b.Report(report("a", fmt.Sprint(n)))
		}
		time.Sleep(time.Second)
		b.Report(report("b", "5"))
		time.Sleep(48 * time.Hour)
		if st := b.Stats()[0]; !st.Gone || st.Dead != 6 || st.Sent != 0 || st.Queued != 0 || len(e.requests("one")) != 1 {
			t.Errorf("%+v after %d requests", st, len(e.requests("one")))
		}
		wantTold(t, e, "two", "0", "1", "2", "3", "4", "5")
		if n := left(t, s); n != 0 {
			t.Errorf("%d events are in the store", n)
		}
		e.set(&gone, false)
		if err := b.Configure([]webhook.Hook{hook(t, "two"), hook(t, "one")}); err != nil {
			t.Fatal(err)
		}
		b.Report(report("a", "6"))
		time.Sleep(time.Second)
		wantTold(t, e, "one", "6")
		if st := b.Stats()[1]; st.Name != "one" || st.Gone || st.Dead != 6 || st.Sent != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestFilter: a hook gets the events and rooms that it wants, and no others.
func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		some, rooms, both := hook(t, "some"), hook(t, "rooms"), hook(t, "both")
		some.Events = []webhook.Type{webhook.Waiting, webhook.Refused}
		rooms.Rooms = []string{"stand*"}
		both.Events, both.Rooms = []webhook.Type{webhook.OccupantJoined}, []string{"[acme]*", "other"}
		b := outbox(t, e, some, rooms, both)
		run(t, b, store.Memory(store.Options{}))
		b.Report(decided(auth.Allow, false))
		b.Report(decided(auth.Wait, false))
		for range 5 {
			b.Report(decided(auth.Wait, true))
		}
		b.Report(decided(auth.Deny, false))
		b.Report(decided(auth.Deny, true))
		tenant := report("standup", "tenant")
		tenant.Tenant = "acme"
		b.Report(tenant)
		time.Sleep(time.Second)
		b.Report(report("other", "other"))
		b.Report(component.Report{What: "unheard of", Name: "standup"})
		time.Sleep(time.Second)
		wantTold(t, e, "some", "wait", "deny")
		wantTold(t, e, "rooms", "allow", "wait", "deny")
		wantTold(t, e, "both", "tenant", "other")
	})
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		pattern, tenant, name string
		want                  bool
	}{
		{"standup", "", "standup", true},
		{"standup", "acme", "standup", false},
		{"stand*", "", "standup", true},
		{"*", "", "a/b", true},
		{"a?b", "", "a/b", true},
		{"[acme]*", "acme", "x", true},
		{"[acme]*", "other", "x", false},
		{"[acme]*", "", "a", false},
		{"[*]x", "acme", "x", true},
		{"[*]x", "", "x", true},
		{"*", "", "", false},
	} {
		h := webhook.Hook{Rooms: []string{"never", tt.pattern}}
		if got := h.Covers(tt.tenant, tt.name); got != tt.want {
			t.Errorf("%q, [%s]%s: %t", tt.pattern, tt.tenant, tt.name, got)
		}
	}
	if h := (webhook.Hook{}); !h.Covers("", "") {
		t.Error("a hook for all rooms misses one without a name")
	}
}

func TestCheck(t *testing.T) {
	good := hook(t, "good")
	for says, change := range map[string]func(*webhook.Hook){
		"letters":          func(h *webhook.Hook) { h.Name = "a b" },
		"64 at most":       func(h *webhook.Hook) { h.Name = strings.Repeat("x", 65) },
		"https://host":     func(h *webhook.Hook) { h.URL = "ftp://secretsecret@host/" },
		"its url":          func(h *webhook.Hook) { h.URL = "https:///secretsecret" },
		"must be":          func(h *webhook.Hook) { h.URL = "secretsecret:// \x00" },
		"secret":           func(h *webhook.Hook) { h.Secrets = nil },
		"negative":         func(h *webhook.Hook) { h.Timeout = -1 },
		"no event \"x\"":   func(h *webhook.Hook) { h.Events = []webhook.Type{webhook.Admitted, "x"} },
		`the pattern "["`:  func(h *webhook.Hook) { h.Rooms = []string{"["} },
		`the pattern "a["`: func(h *webhook.Hook) { h.Rooms = []string{"a["} },
		`the pattern "[]`:  func(h *webhook.Hook) { h.Rooms = []string{"[]x"} },
		`the pattern ""`:   func(h *webhook.Hook) { h.Rooms = []string{""} },
	} {
		h := good
		change(&h)
		_, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{good, h}})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secretsecret") {
			t.Errorf("%q: %v", says, err)
		}
	}
	if _, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{good, good}}); err == nil || !strings.Contains(err.Error(), "good: two have this name") {
		t.Error(err)
	}
}

// TestBound: at most 10,000 events wait for a hook. The oldest are dropped and counted, and the other hooks get all.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(r request) (int, time.Duration) {
			if r.hook == "one" {
				return 500, 0
			}
			return 200, 0
		}}
		b, s := outbox(t, e, hook(t, "one"), hook(t, "two")), store.Memory(store.Options{})
		run(t, b, s)
		const more = 100
		for n := range webhook.MaxQueued + more {
			b.Report(report(fmt.Sprint("room", n%10), fmt.Sprint(n)))
			if n%1000 == 0 {
				time.Sleep(time.Second)
			}
		}
		time.Sleep(10 * time.Second)
		one, two := b.Stats()[0], b.Stats()[1]
		if one.Queued != webhook.MaxQueued || one.Dead != more || two.Sent != webhook.MaxQueued+more || two.Dead != 0 {
			t.Errorf("%+v\n%+v", one, two)
		}
		if n := left(t, s); n != webhook.MaxQueued {
			t.Errorf("the store has %d events", n)
		}
		for r := range s.All(t.Context(), store.KindWebhook) {
			if strings.Contains(string(r.Value), `"text":"50"`) {
				t.Error("an old event is still there")
			}
		}
	})
}

// TestFullStore: when the events' share of the store is full, the oldest ones make room. When the disk is full, events wait.
func TestFullStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		e := &endpoint{answer: func(request) (int, time.Duration) {
			if away {
				return 500, 0
			}
			return 200, 0
		}}
		b, s := outbox(t, e, hook(t, "one")), store.Memory(store.Options{MaxBytes: 4 << 20}) // a share of 256 kB
		run(t, b, s)
		for n := range 3000 {
			b.Report(report("a", fmt.Sprintf("%04d", n)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		st := b.Stats()[0]
		if st.Dead == 0 || int(st.Dead)+st.Queued != 3000 || st.Queued != left(t, s) || st.Queued < 100 {
			t.Errorf("%+v, and %d in the store", st, left(t, s))
		}
		e.set(&away, false)
		time.Sleep(2 * time.Hour)
		got := e.told("one")
		if len(got) != st.Queued || !slices.IsSorted(got) || got[len(got)-1] != "2999" {
			t.Errorf("%d arrive, from %s to %s", len(got), got[0], got[len(got)-1])
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		broken := &breaking{Store: store.Memory(store.Options{}), err: &store.FullError{Err: errors.New("no space left on device")}}
		b := outbox(t, e, hook(t, "one"))
		run(t, b, broken)
		for n := range webhook.MaxReports * 3 {
			b.Report(report("a", fmt.Sprint(n)))
			if n%1000 == 0 {
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Minute)
		if st := b.Stats()[0]; st.Sent != 0 || st.Dead == 0 {
			t.Errorf("%+v", st)
		}
		broken.mend()
		time.Sleep(time.Minute)
		if st := b.Stats()[0]; int(st.Sent+st.Dead) != webhook.MaxReports*3 || st.Sent < webhook.MaxReports {
			t.Errorf("%+v", st)
		}
	})
}

// breaking is a store of which each call fails until it is mended.
type breaking struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (b *breaking) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = nil
}

func (b *breaking) fails() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *breaking) Put(ctx context.Context, r ...store.Record) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.Store.Put(ctx, r...)
}

func (b *breaking) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.Store.Delete(ctx, k, keys...)
}

// TestConfigure: hooks that keep their name keep what waits for them. What waited for one that was taken out is there when it comes back,
// and goes before what happens then.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		e := &endpoint{answer: func(r request) (int, time.Duration) {
			if away && r.hook != "new" {
				return 500, 0
			}
			return 200, 0
		}}
		b, s := outbox(t, e, hook(t, "one"), hook(t, "two")), store.Memory(store.Options{})
		run(t, b, s)
		b.Report(report("a", "1"))
		b.Report(report("a", "2"))
		time.Sleep(time.Hour)
		moved := hook(t, "one")
		moved.URL = "https://new/"
		if err := b.Configure([]webhook.Hook{moved}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantTold(t, e, "new", "1", "2")
		if n := left(t, s); n != 2 {
			t.Errorf("the store has %d events for a hook that is no more", n)
		}
		b.Report(report("a", "3"))
		time.Sleep(time.Second)
		if err := b.Configure([]webhook.Hook{hook(t, "bad"), hook(t, "bad")}); err == nil || len(b.Stats()) != 1 {
			t.Error("bad hooks are taken", err)
		}
		e.set(&away, false)
		if err := b.Configure([]webhook.Hook{hook(t, "two")}); err != nil {
			t.Fatal(err)
		}
		b.Report(report("a", "4"))
		time.Sleep(time.Second)
		wantTold(t, e, "two", "1", "2", "4")
		if n := left(t, s); n != 0 {
			t.Errorf("the store has %d events", n)
		}
	})
}

// TestStandby: reports wait in memory while Run does not run. A stop loses none.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		b, s := outbox(t, e, hook(t, "one")), store.Memory(store.Options{})
		b.Report(report("a", "1"))
		time.Sleep(time.Hour)
		stop := run(t, b, s)
		time.Sleep(time.Second)
		b.Report(report("a", "2"))
		stop()
		wantTold(t, e, "one", "1")
		if n := left(t, s); n != 1 {
			t.Errorf("the store has %d events after the stop", n)
		}
		run(t, outbox(t, e, hook(t, "one")), s)
		time.Sleep(time.Second)
		wantTold(t, e, "one", "1", "2")
	})
}

// TestStopIsQuick: a stop does not wait for a hook that does not answer.
func TestStopIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(r request) (int, time.Duration) { return 200, 9 * time.Second }}
		b, s := outbox(t, e, hook(t, "one")), store.Memory(store.Options{})
		stop := run(t, b, s)
		b.Report(report("a", "1"))
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > webhook.Grace {
			t.Errorf("the stop took %v", took)
		}
		if n := left(t, s); n != 1 {
			t.Errorf("the store has %d events after the stop", n)
		}
	})
}

// TestFirstHook: without a hook the store is not read. A hook that comes later gets what waits for it there.
func TestFirstHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{answer: func(request) (int, time.Duration) { return 500, 0 }}
		kept := store.Memory(store.Options{})
		b := outbox(t, e, hook(t, "one"))
		stop := run(t, b, kept)
		b.Report(report("a", "1"))
		time.Sleep(time.Second)
		stop()
		e = &endpoint{}
		b = outbox(t, e)
		s := &counted{Store: kept}
		run(t, b, s)
		b.Report(report("a", "nobody wants it"))
		time.Sleep(time.Hour)
		if n := s.n.Load(); n != 0 {
			t.Errorf("the store was read %d times", n)
		}
		if err := b.Configure([]webhook.Hook{hook(t, "one")}); err != nil {
			t.Fatal(err)
		}
		b.Report(report("a", "2"))
		time.Sleep(time.Second)
		wantTold(t, e, "one", "1", "2")
	})
}

// counted counts how often the store is read.
type counted struct {
	store.Store
	n atomic.Int64
}

func (c *counted) All(ctx context.Context, k store.Kind) iter.Seq2[store.Record, error] {
	c.n.Add(1)
	return c.Store.All(ctx, k)
}

// TestDamagedEvent: an event that cannot be read is told in the log, and holds up no other one.
func TestDamagedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.Memory(store.Options{})
		for _, key := range []string{"one", "one 00000000000000000001 msg_1", "one x msg_2"} {
			if err := s.Put(t.Context(), store.Record{Kind: store.KindWebhook, Key: key, Value: []byte("?"), End: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		e := &endpoint{}
		core, logs := observer.New(zap.InfoLevel)
		b := logging(t, zap.New(core), e, hook(t, "one"))
		run(t, b, s)
		b.Report(report("a", "1"))
		time.Sleep(time.Second)
		wantTold(t, e, "one", "1")
		if all := logs.All(); len(all) != 1 || all[0].ContextMap()["events"] != int64(3) {
			t.Errorf("%v", all)
		}
	})
}

// TestNotWritten: what the store does not take at the end is told in the log, and waits for the next Run.
func TestNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoint{}
		core, logs := observer.New(zap.InfoLevel)
		b := logging(t, zap.New(core), e, hook(t, "one"))
		s := store.Memory(store.Options{})
		stop := run(t, b, &breaking{Store: s, err: store.ErrStandby})
		b.Report(report("a", "1"))
		stop()
		if n := logs.FilterMessageSnippet("could not be written at the end").Len(); n != 1 {
			t.Errorf("%v", logs.All())
		}
		run(t, b, s)
		time.Sleep(time.Second)
		wantTold(t, e, "one", "1")
	})
}
