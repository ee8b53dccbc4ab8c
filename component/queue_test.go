package component

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// run does what work does, one job at a time, so that a test sees the order.
func (q *queue) drain() {
	done := make(chan struct{})
	go func() { q.work(); close(done) }()
	q.idle()
	q.close()
	<-done
}

// Senders are served in turn, and each sender's requests in their order.
func TestQueueIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue()
		var got []string
		pushed := map[string]int{}
		refused := map[string]int{}
		n := rapid.IntRange(0, 200).Draw(t, "requests")
		for range n {
			s := rapid.SampledFrom([]string{"a", "a", "a", "a", "b", "c"}).Draw(t, "sender")
			i := pushed[s]
			if err := q.push(s, func() { got = append(got, fmt.Sprint(s, i)) }); err != nil {
				refused[s]++
				continue
			}
			pushed[s]++
		}
		for s, n := range pushed {
			if refused[s] > 0 && n != maxPerSender {
				t.Errorf("%s: refused at %d", s, n)
			}
		}
		q.drain()

		// Round after round, everybody who still waits has one turn, in the order in which they first came.
		var want []string
		var order []string
		for _, g := range got {
			if s := g[:1]; !slices.Contains(order, s) {
				order = append(order, s)
			}
		}
		for round := range maxPerSender {
			for _, s := range order {
				if round < pushed[s] {
					want = append(want, fmt.Sprint(s, round))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if q.waiting != 0 || q.active != 0 || len(q.senders) != 0 || len(q.turn) != 0 {
			t.Errorf("left behind: %+v", q)
		}
	})
}

// A sender has one request under way at a time, whatever the number of workers.
func TestQueueOneAtATime(t *testing.T) {
	q := newQueue()
	var workers, jobs sync.WaitGroup
	for range 8 {
		workers.Go(q.work)
	}
	var mu sync.Mutex
	under := map[string]int{}
	for _, s := range []string{"a", "b", "c"} {
		for range maxPerSender {
			jobs.Add(1)
			if err := q.push(s, func() {
				defer jobs.Done()
				mu.Lock()
				under[s]++
				if under[s] > 1 {
					t.Errorf("%s: %d at once", s, under[s])
				}
				mu.Unlock()
				mu.Lock()
				under[s]--
				mu.Unlock()
			}); err != nil {
				jobs.Done() // more than may wait: fine
			}
		}
	}
	jobs.Wait()
	q.idle()
	q.close()
	workers.Wait()
}

func TestQueueIsBounded(t *testing.T) {
	q := newQueue()
	accepted := 0
	for i := range full + 100 {
		if q.push(fmt.Sprint("sender", i), func() {}) == nil {
			accepted++
		}
	}
	if accepted != full {
		t.Errorf("%d accepted, want %d", accepted, full)
	}

	q = newQueue()
	for i := range crowded {
		if err := q.push(fmt.Sprint("sender", i), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.push("sender1", func() {}); !errors.Is(err, errBusy) {
		t.Error("a second request of a sender was taken though it is crowded")
	}
	if err := q.push("somebody new", func() {}); err != nil {
		t.Error("a newcomer's first request was refused though there is room")
	}
	q.close()
	if err := q.push("late", func() {}); !errors.Is(err, errBusy) {
		t.Error("a closed queue took a request")
	}
}
