package history_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func report(text string, verdict auth.Verdict) component.Report {
	return component.Report{What: component.Decided, At: noon, Verdict: verdict, Text: text}
}

// patient ends when something that a test waits for has not happened on a busy machine either.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A History answers as a list of all reports would, of which only the end can be read.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		h := history.New(size)
		var all []string
		kept := func() (first int) { return max(0, len(all)-size) }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if got := h.Newest(); got != uint64(len(all)) {
					t.Fatalf("Newest() = %d, want %d", got, len(all))
				}
			},
			"add": func(t *rapid.T) {
				text := rapid.StringN(0, 3, -1).Draw(t, "text")
				h.Add(report(text, auth.Allow))
				all = append(all, text)
			},
			"last": func(t *rapid.T) {
				n, odd := rapid.IntRange(0, 10).Draw(t, "n"), rapid.Bool().Draw(t, "odd")
				var match func(history.Entry) bool
				if odd {
					match = func(e history.Entry) bool { return e.Number%2 == 1 }
				}
				var want []string
				for i := len(all) - 1; i >= kept() && len(want) < n; i-- {
					if !odd || i%2 == 0 {
						want = append(want, fmt.Sprint(i+1, all[i]))
					}
				}
				var got []string
				for _, e := range h.Last(n, match) {
					got = append(got, fmt.Sprint(e.Number, e.Text))
				}
				if !slices.Equal(got, want) {
					t.Fatalf("Last(%d) = %q, want %q", n, got, want)
				}
			},
			"get": func(t *rapid.T) {
				number := rapid.IntRange(0, len(all)+2).Draw(t, "number")
				e, ok := h.Get(uint64(number))
				if want := number > kept() && number <= len(all); ok != want {
					t.Fatalf("Get(%d) = %v, want %v", number, ok, want)
				}
				if ok && (e.Number != uint64(number) || e.Text != all[number-1]) {
					t.Fatalf("Get(%d) = %d %q", number, e.Number, e.Text)
				}
			},
			"follow": func(t *rapid.T) {
				if len(all) == 0 {
					return
				}
				after := rapid.IntRange(0, len(all)-1).Draw(t, "after")
				next, missed := max(after, kept()), max(0, kept()-after)
				if after == 0 {
					missed = 0
				}
				for e, m := range h.Follow(context.Background(), uint64(after)) {
					if e.Text != all[next] || m != uint64(missed) {
						t.Fatalf("after %d: number %d with %d missed, want %d with %d", after, e.Number, m, next+1, missed)
					}
					if next, missed = next+1, 0; next == len(all) {
						break
					}
				}
			},
		})
	})
}

// People who wait are told so again and again. Only the first time is kept.
func TestWaitingAgain(t *testing.T) {
	h := history.New(10)
	for n := range 5 {
		r := report("wait", auth.Wait)
		r.Again = n > 0
		h.Add(r)
		r.Verdict, r.Text = auth.Deny, "deny"
		h.Add(r)
	}
	waits := h.Last(10, func(e history.Entry) bool { return e.Verdict == auth.Wait })
	if all := h.Last(10, nil); len(waits) != 1 || len(all) != 6 {
		t.Errorf("%d of %d entries say that somebody waits", len(waits), len(all))
	}
}

// Each follower gets every report, in order, or learns how many it has missed, however many add at the same time.
func TestFollowers(t *testing.T) {
	const adding, each = 4, 500
	h := history.New(64)
	ctx := patient(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			seen := uint64(0)
			for e, missed := range h.Follow(ctx, 0) {
				if seen > 0 && e.Number != seen+missed+1 {
					t.Errorf("%d after %d with %d missed", e.Number, seen, missed)
				}
				if seen = e.Number; seen == adding*each {
					return
				}
			}
			t.Errorf("got no further than %d", seen)
		})
	}
	for range adding {
		all.Go(func() {
			for range each {
				h.Add(report("", auth.Allow))
			}
		})
	}
	all.Wait()
}

// A follower that stands still holds nobody up, and then learns how much it has missed.
func TestSlowFollower(t *testing.T) {
	h := history.New(4)
	h.Add(report("first", auth.Allow))
	var got []string
	for e, missed := range h.Follow(patient(t), 0) {
		got = append(got, fmt.Sprint(e.Number, " ", missed))
		if e.Number == 1 {
			for range 10 {
				h.Add(report("", auth.Allow))
			}
		}
		if e.Number == 11 {
			break
		}
	}
	if want := []string{"1 0", "8 6", "9 0", "10 0", "11 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A follower that begins with the newest entry gets the next ones, and ends with its context, also while there is nothing new.
func TestFollowEnds(t *testing.T) {
	h := history.New(4)
	h.Add(report("before", auth.Allow))
	ctx, cancel := context.WithCancel(patient(t))
	newest := h.Newest()
	got, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for e := range h.Follow(ctx, newest) {
			got <- e.Text
		}
	}()
	h.Add(report("after", auth.Allow))
	if text := <-got; text != "after" {
		t.Errorf("got %q", text)
	}
	cancel()
	<-ended
}

// The name of an entry is worth nothing after a restart.
func TestNames(t *testing.T) {
	h, other := history.New(4), history.New(4)
	for range 3 {
		h.Add(report("", auth.Allow))
		other.Add(report("", auth.Allow))
	}
	if got := h.Number(h.Name(2)); got != 2 {
		t.Errorf("the name of 2 leads to %d", got)
	}
	for _, name := range []string{other.Name(2), h.Name(4), "", "2", "-2", h.Name(2) + "x", "\x00-1"} {
		if got := h.Number(name); got != 0 {
			t.Errorf("the name %q leads to %d", name, got)
		}
	}
}

func TestTallies(t *testing.T) {
	h := history.New(1)
	at := func(minute int, verdict auth.Verdict, again bool) {
		r := report("", verdict)
		r.At, r.Again = noon.Add(time.Duration(minute)*time.Minute+59*time.Second), again
		h.Add(r)
	}
	at(-1, auth.Allow, false)
	at(0, auth.Allow, false)
	at(0, auth.Deny, false)
	at(0, auth.Deny, true)
	at(30, auth.Wait, false)
	at(30, auth.Wait, true)
	at(59, auth.Allow, false)
	at(-1, auth.Allow, false) // an hour late
	h.Add(component.Report{What: component.HostArrived, At: noon})
	got := h.Tallies(noon.Add(59*time.Minute + 3*time.Second))
	if len(got) != 60 {
		t.Fatalf("%d minutes", len(got))
	}
	for n, tally := range got {
		want := history.Tally{Minute: noon.Add(time.Duration(n) * time.Minute)}
		switch n {
		case 0:
			want.Admitted, want.Refused = 1, 2
		case 30:
			want.Waited = 1
		case 59:
			want.Admitted = 1
		}
		if tally != want {
			t.Errorf("minute %d: %+v, want %+v", n, tally, want)
		}
	}
	if later := h.Tallies(noon.Add(24 * time.Hour)); later[0].Admitted+later[59].Admitted != 0 {
		t.Errorf("a day later: %+v", later)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, followers := range []int{0, 20} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			h := history.New(2000)
			ctx, cancel := context.WithCancel(b.Context())
			var all sync.WaitGroup
			for range followers {
				all.Go(func() {
					for range h.Follow(ctx, 0) {
					}
				})
			}
			r := report("", auth.Allow)
			b.ReportAllocs()
			for b.Loop() {
				h.Add(r)
			}
			cancel()
			all.Wait()
		})
	}
}
