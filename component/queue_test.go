package component

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// drain does what work does, one job at a time, so that a test sees the order.
func (q *queue) drain() {
	done := make(chan struct{})
	go func() { q.work(); close(done) }()
	q.idle()
	q.close()
	<-done
}

// Senders are served in turn, and each sender's requests in their order.
func TestQueueIsFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(context.Background())
		var got []string
		pushed := map[string]int{}
		refused := map[string]int{}
		n := rapid.IntRange(0, 200).Draw(t, "requests")
		for range n {
			s := rapid.SampledFrom([]string{"a", "a", "a", "a", "b", "c"}).Draw(t, "sender")
			i := pushed[s]
			if err := q.push(s, func(context.Context) { got = append(got, fmt.Sprint(s, i)) }); err != nil {
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
	t.Parallel()
	q := newQueue(context.Background())
	var workers, jobs sync.WaitGroup
	for range 8 {
		workers.Go(q.work)
	}
	var mu sync.Mutex
	under := map[string]int{}
	for _, s := range []string{"a", "b", "c"} {
		for range maxPerSender {
			jobs.Add(1)
			if err := q.push(s, func(context.Context) {
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
	t.Parallel()
	nothing := func(context.Context) {}
	q := newQueue(context.Background())
	accepted := map[string]int{}
	for i := range full {
		for _, vhost := range []string{"a", "b", "c"} {
			if q.push(fmt.Sprint("sender", i, "@", vhost), nothing) == nil {
				accepted[vhost]++
			}
		}
	}
	if accepted["a"]+accepted["b"]+accepted["c"] != full || accepted["c"] < full/3 {
		t.Errorf("%v accepted, want %d", accepted, full)
	}

	q = newQueue(context.Background())
	accepted = map[string]int{}
	for _, vhost := range []string{"a", "b"} {
		for i := range full {
			if q.push(fmt.Sprint("sender", i, "@", vhost), nothing) == nil {
				accepted[vhost]++
			}
		}
	}
	if accepted["a"] != fullPerVHost || accepted["b"] != fullPerVHost {
		t.Errorf("%v accepted, want %d each", accepted, fullPerVHost)
	}

	q = newQueue(context.Background())
	for i := range crowded {
		if err := q.push(fmt.Sprint("sender", i, "@a"), nothing); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.push("sender1@a", nothing); !errors.Is(err, errBusy) {
		t.Error("a second request of a sender was taken though it is crowded")
	}
	if err := q.push("new@a", nothing); err != nil {
		t.Error("a newcomer's first request was refused though there is room")
	}
	for range maxPerSender {
		if err := q.push("elsewhere@b", nothing); err != nil {
			t.Error("a request was refused because another virtual host is crowded")
		}
	}
	q.close()
	if err := q.push("late@a", nothing); !errors.Is(err, errBusy) {
		t.Error("a closed queue took a request")
	}
}

// Virtual hosts have turns, whatever the number of senders there.
func TestQueueServesVHostsInTurn(t *testing.T) {
	q := newQueue(context.Background())
	var got []string
	for _, key := range []string{"1@a", "2@a", "3@a", "1@b", "4@a", "2@b", "3@a"} {
		if err := q.push(key, func(context.Context) { got = append(got, key) }); err != nil {
			t.Fatal(err)
		}
	}
	q.drain()
	if want := []string{"1@a", "1@b", "2@a", "2@b", "3@a", "4@a", "3@a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(q.vhosts) != 0 {
		t.Errorf("left behind: %v", q.vhosts)
	}
}

// places is a queue with some places, and jobs that last until a test ends them.
type places struct {
	t       interface{ Fatalf(string, ...any) }
	q       *queue
	workers sync.WaitGroup
	began   chan string
	mu      sync.Mutex
	end     map[string]chan struct{}
	gone    chan string // those who were told to give way
}

func newPlaces(t interface{ Fatalf(string, ...any) }, n int) *places {
	p := &places{t: t, q: newQueue(context.Background()), began: make(chan string, 64<<10), gone: make(chan string, 64<<10), end: make(map[string]chan struct{})}
	for range n {
		p.workers.Go(p.q.work)
	}
	return p
}

// asks has the sender ask something to which there is no answer until the test says so.
func (p *places) asks(key string) {
	end := make(chan struct{})
	p.mu.Lock()
	p.end[key] = end
	p.mu.Unlock()
	if err := p.q.push(key, func(ctx context.Context) {
		p.began <- key
		select {
		case <-end:
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errGaveWay) {
				p.t.Fatalf("%s ends: %v", key, context.Cause(ctx))
			}
			p.gone <- key
		}
	}); err != nil {
		p.t.Fatalf("%s: %v", key, err)
	}
}

// answered ends what a sender asked.
func (p *places) answered(key string) {
	p.mu.Lock()
	close(p.end[key])
	delete(p.end, key)
	p.mu.Unlock()
}

// next returns the first n who are under way from here on.
func (p *places) next(n int) (keys []string) {
	for range n {
		keys = append(keys, <-p.began)
	}
	return keys
}

// passes looks after that time, which costs none on the clock of a synctest bubble.
func (p *places) passes(d time.Duration) int {
	<-time.After(d)
	return p.look(0)
}

// look looks as after that time.
func (p *places) look(d time.Duration) int {
	free := p.q.demote(time.Now().Add(d))
	for range free {
		p.workers.Go(p.q.work)
	}
	return free
}

func (p *places) close() {
	p.mu.Lock()
	for _, end := range p.end {
		close(end)
	}
	p.mu.Unlock()
	p.q.idle()
	p.q.close()
	p.workers.Wait()
	if q := p.q; q.waiting != 0 || q.active != 0 || q.slow != 0 || q.placed.Len() != 0 || len(q.senders)+len(q.vhosts)+len(q.turn) != 0 {
		p.t.Fatalf("left behind: %+v", q)
	}
}

// While no request ends, others get the places. While requests end, only those that have been under way for long give up theirs.
func TestQueueGivesPlacesFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(t, 4)
		defer p.close()
		for i := range 10 {
			p.asks(fmt.Sprint(i, "@a"))
		}
		p.next(4)
		p.passes(0)
		if free := p.passes(stuckAfter - time.Millisecond); free != 0 {
			t.Errorf("%d places are free too soon", free)
		}
		if free := p.passes(stuckAfter + time.Millisecond); free != 4 {
			t.Errorf("%d places are free though nothing moves", free)
		}
		p.next(4)
		p.answered("4@a")
		p.next(1)
		if free := p.passes(stuckAfter + time.Millisecond); free != 0 {
			t.Errorf("%d places are free though a request has ended", free)
		}
		if free := p.passes(slowAfter + time.Millisecond); free != 4 {
			t.Errorf("%d places are free, want all", free)
		}
		p.next(1)
		if free := p.passes(slowAfter - time.Millisecond); free != 0 {
			t.Errorf("%d places are free though nobody waits", free)
		}
		p.asks("host@b") // there are three places
		if got := p.next(1); got[0] != "host@b" {
			t.Errorf("got %v", got)
		}
	})
}

// While requests end, however many become slow one after the other, others keep their places: a server under load is slow, and not stuck.
func TestQueueIsNotStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const half, every = 128, 3 * time.Millisecond
		ctx, end := context.WithCancel(t.Context())
		q := newQueue(ctx)
		var all sync.WaitGroup
		for range 2 * half {
			all.Go(q.work)
		}
		all.Go(func() { q.tend(func(work func()) { all.Go(work) }) })
		n := 0
		asks := func(vhost string, takes time.Duration) {
			n++
			if err := q.push(fmt.Sprint(n, "@", vhost), func(context.Context) { time.Sleep(takes) }); err != nil {
				t.Fatal(err)
			}
		}
		for range half { // they become slow at different times
			asks("slow", 2*slowAfter)
			time.Sleep(time.Millisecond)
		}
		for i := range half { // the others end one after the other, and those who wait for their places as well
			asks("v", time.Duration(i+1)*every)
		}
		for range 8 * half {
			asks("v", (half+2)*every)
		}
		for range 2 * slowAfter / time.Millisecond {
			time.Sleep(time.Millisecond)
			q.mu.Lock()
			slow := q.vhosts["v"].slow.Len()
			q.mu.Unlock()
			if slow > 0 {
				t.Errorf("%d requests count as slow though others end", slow)
				break
			}
		}
		end()
		q.idle()
		q.close()
		all.Wait()
	})
}

// Slow requests are bounded: over the bound, the oldest one of the virtual host with too many ends.
func TestQueueBoundsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(t, 4)
		defer p.close()
		p.asks("host@b")
		p.next(1)
		p.passes(slowAfter + time.Millisecond)
		for i := range slowPerVHost + 3 {
			p.asks(fmt.Sprint(i, "@a"))
			p.next(1)
			p.passes(slowAfter + time.Millisecond)
		}
		if got := []string{<-p.gone, <-p.gone, <-p.gone}; !slices.Equal(slices.Sorted(slices.Values(got)), []string{"0@a", "1@a", "2@a"}) {
			t.Errorf("%v end", got)
		}
		for v := range slowAtAll/slowPerVHost - 1 { // a has its share
			for i := range slowPerVHost - 1 {
				p.asks(fmt.Sprint(i, "@full", v))
				p.next(1)
				p.passes(slowAfter + time.Millisecond)
			}
		}
		select {
		case key := <-p.gone:
			t.Errorf("%s ends", key)
		default:
		}
		for i := range 4 { // host@b is one of them
			p.asks(fmt.Sprint(i, "@c"))
			p.next(1)
			p.passes(slowAfter + time.Millisecond)
		}
		got := []string{<-p.gone, <-p.gone}
		slices.Sort(got) // first of a, and then of any that has as many
		if !slices.Contains(got, "3@a") || got[1] != "4@a" && !strings.HasPrefix(got[0], "0@full") {
			t.Errorf("%v end", got)
		}
		p.q.mu.Lock()
		if p.q.slow > slowAtAll {
			t.Errorf("%d are slow", p.q.slow)
		}
		p.q.mu.Unlock()
	})
}

// In every order of requests, ends and time: each sender has one request under way at a time, all are served in order, nobody has
// a place too many, and nothing is left.
func TestQueuePlacesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const n = 2
		p := newPlaces(t, n)
		under := map[string]bool{}
		count := 0
		settle := func() { // all who can have a place have one
			for {
				select {
				case key := <-p.began:
					under[key] = true
					continue
				default:
				}
				p.q.mu.Lock()
				done := len(p.q.turn) == 0 || p.q.placed.Len() == n
				done = done && len(p.began) == 0 && p.q.active == len(under)
				tooMany := p.q.placed.Len() > n
				p.q.mu.Unlock()
				if tooMany {
					t.Fatalf("more than %d have places", n)
				}
				if done {
					return
				}
				runtime.Gosched()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"asks": func(t *rapid.T) {
				key := fmt.Sprintf("%d@%s", count, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "vhost"))
				count++
				p.asks(key)
				settle()
			},
			"answered": func(t *rapid.T) {
				if len(under) == 0 {
					t.Skip("nobody is under way")
				}
				key := rapid.SampledFrom(slices.Sorted(maps.Keys(under))).Draw(t, "who")
				delete(under, key)
				p.answered(key)
				settle()
			},
			"time passes": func(t *rapid.T) {
				p.look(rapid.SampledFrom([]time.Duration{0, stuckAfter + time.Millisecond, slowAfter + time.Millisecond}).Draw(t, "time"))
				settle()
			},
		})
		p.close()
	})
}

// For any number of requests and senders, and whenever the server reads: at most maxUnread answers to a sender are on the way,
// requests are answered in order, and all of them are in the end.
func TestQueueAnswersInTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(context.Background())
		var mu sync.Mutex
		var mark uint64
		unread, covered := map[string]int{}, map[string]int{} // since the last mark, and before it
		q.mark = func(n uint64) {
			mu.Lock()
			defer mu.Unlock()
			mark = n
			for s, n := range unread {
				covered[s] += n
			}
			clear(unread)
		}
		asked, answered, inOrder := map[string]int{}, map[string]int{}, map[string]int{}
		answer := func(s string, decided int) {
			mu.Lock()
			defer mu.Unlock()
			answered[s]++
			if unread[s]++; unread[s]+covered[s] > maxUnread {
				t.Fatalf("%d answers to %s are on the way", unread[s]+covered[s], s)
			}
			if decided > 0 {
				if decided <= inOrder[s] {
					t.Fatalf("%s: %d after %d", s, decided, inOrder[s])
				}
				inOrder[s] = decided
			}
		}
		var worker sync.WaitGroup
		worker.Go(q.work)
		reads := func() {
			mu.Lock()
			n := mark
			clear(covered)
			mu.Unlock()
			q.marked(n)
		}
		t.Repeat(map[string]func(*rapid.T){
			"asks": func(t *rapid.T) {
				s := rapid.SampledFrom([]string{"a@v", "a@v", "a@v", "b@v", "c@w"}).Draw(t, "sender")
				for range rapid.IntRange(1, 40).Draw(t, "requests") {
					asked[s]++
					n := asked[s]
					if q.push(s, func(context.Context) { answer(s, n) }) != nil && !q.refuse(s, 0, func() { answer(s, 0) }) {
						t.Fatal("not answered at all")
					}
				}
			},
			"the server reads": func(*rapid.T) { reads() },
			"an old mark":      func(*rapid.T) { q.marked(0) },
		})
		for done := false; !done; runtime.Gosched() {
			reads()
			mu.Lock()
			done = maps.Equal(asked, answered)
			mu.Unlock()
		}
		q.idle()
		q.release()
		q.close()
		worker.Wait()
		if q.waiting != 0 || q.active != 0 || q.refused != 0 || q.refusedSize != 0 || len(q.senders)+len(q.vhosts)+len(q.turn) != 0 {
			t.Fatalf("left behind: %+v", q)
		}
	})
}

// A mark that does not come back delays answers for readWithin at most. The end of the connection ends that wait, too.
func TestQueueWithoutMarks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		q := newQueue(ctx)
		marks := 0
		q.mark = func(uint64) { marks++ }
		var all sync.WaitGroup
		all.Go(q.work)
		all.Go(func() { q.tend(func(work func()) { all.Go(work) }) })
		var answered atomic.Int64
		for range 5 * maxUnread {
			q.refuse("a@v", 0, func() { answered.Add(1) })
		}
		for i := range int64(3) {
			synctest.Wait()
			if got := answered.Load(); got != (i+1)*maxUnread {
				t.Errorf("%d answers are on the way", got)
			}
			<-time.After(readWithin + 2*stuckAfter)
		}
		end()
		q.idle()
		q.close()
		all.Wait()
		if got := answered.Load(); got != 5*maxUnread || marks != 4 {
			t.Errorf("%d answers, %d marks", got, marks)
		}
	})
}

// A queue that is closed withholds no turn any more: what was withheld is done.
func TestQueueClosesWithTurnsWithheld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t.Context())
		q.mark = func(uint64) {}
		var answered atomic.Int64
		for range 3 * maxUnread {
			q.refuse("a@v", 0, func() { answered.Add(1) })
		}
		for range 2 {
			if err := q.push("a@v", func(context.Context) { answered.Add(1) }); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		all.Go(q.work)
		synctest.Wait()
		q.close()
		all.Wait()
		if got := answered.Load(); got != 3*maxUnread+2 {
			t.Errorf("%d answers", got)
		}
	})
}

// Refusals that wait are bounded for each sender, in total, and in bytes.
func TestQueueBoundsRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size int
		key  func(i int) string
		want int
	}{
		"sender": {0, func(int) string { return "a@v" }, maxRefusals},
		"all":    {0, func(i int) string { return fmt.Sprint(i, "@v") }, maxRefusalsAtAll},
		"bytes":  {maxRequest, func(i int) string { return fmt.Sprint(i, "@v") }, maxRefusalBytes / (maxRequest + 200)},
	} {
		q := newQueue(context.Background())
		n := 0
		for i := range maxRefusalsAtAll + 10 {
			if q.refuse(tt.key(i), tt.size, func() {}) {
				n++
			}
		}
		if n != tt.want {
			t.Errorf("%s: %d, want %d", name, n, tt.want)
		}
		q.drain()
		if len(q.senders)+len(q.vhosts)+q.refused+q.refusedSize != 0 {
			t.Errorf("%s: left behind", name)
		}
	}
}
