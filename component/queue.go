package component

import (
	"container/list"
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

const (
	// workers is how many places there are.
	workers = 256
	// stuckAfter is how long no request may end before places are given free, and slowAfter how long a request may have one.
	stuckAfter, slowAfter = 20 * time.Millisecond, 500 * time.Millisecond
	// slowPerVHost and slowAtAll are how many requests may be under way without a place.
	slowPerVHost, slowAtAll = 1 << 10, 4 << 10
	// maxPerSender is how many requests of one sender may wait.
	maxPerSender = 16
	// crowded is how many requests of one virtual host may wait before each sender there may have only one.
	crowded = 4 << 10
	// fullPerVHost and full are how many requests may wait at all.
	fullPerVHost, full = 8 << 10, 16 << 10
)

var (
	errBusy = errors.New("too many requests are waiting")
	// errGaveWay is why a request ends that was under way for longer than all others when there were too many of them.
	errGaveWay = errors.New("too many requests wait for rooms, a Jicofo or key servers that do not answer")
)

// queue holds requests until there is a place for them. It is fair: virtual hosts are served in turn, on each of them senders
// in turn, whatever the number of their requests, and each sender's requests one at a time. So a sender who asks a thousand
// times delays only himself, and a sender's requests are decided in the order in which they came.
//
// A request has one of few places while it is under way, so that the server is not asked more at once than it answers soon.
// Most of that time it waits for somebody: the room, Jicofo, a key server. Some of them never answer, and the request then
// waits until its time is over; strangers can cause as many such waits as they have addresses. So a request is slow, and gives
// its place to the next, when it has had it for slowAfter, or when no request at all has ended for stuckAfter while others
// wait for a place. How long the server takes under load does not matter for that: there, requests end. Slow requests are
// bounded, for each virtual host and in total. Where one is too many, the one of its virtual host (in total: of the virtual host
// with most) that has been under way for longest ends, and its client is told to ask again.
type queue struct {
	ctx context.Context // of all requests

	mu      sync.Mutex
	ready   *sync.Cond // somebody has a turn, or the queue is closed
	quiet   *sync.Cond // nothing waits and nothing is under way, or the queue is closed
	senders map[string]*sender
	vhosts  map[string]*vhost
	turn    []*vhost  // those with a sender that has a turn, in the order of their turns
	placed  list.List // *running: those who have a place, in the order in which they got it
	waiting int
	active  int
	slow    int
	ended   bool // a request has ended since the last look
	closed  bool
}

type sender struct {
	key     string
	vhost   *vhost
	jobs    []func(context.Context)
	serving bool
}

type vhost struct {
	name    string
	turn    []*sender // those with a request waiting and none under way, in the order of their turns
	waiting int
	active  int
	slow    list.List // *running, in the order in which they became so
}

// running is a request under way.
type running struct {
	vhost *vhost
	began time.Time
	end   context.CancelCauseFunc
	at    *list.Element // in placed, or in slow; nil if it has given way
	slow  bool
}

// newQueue returns a queue. Requests end when ctx does.
func newQueue(ctx context.Context) *queue {
	q := &queue{ctx: ctx, senders: make(map[string]*sender), vhosts: make(map[string]*vhost)}
	q.ready, q.quiet = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	return q
}

// push queues a job of the sender, a bare JID, or returns errBusy. It does not block. The job's context ends when its time is
// over for others' sake.
func (q *queue) push(key string, job func(context.Context)) error {
	_, domain, ok := strings.Cut(key, "@")
	if !ok {
		domain = key
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s, v := q.senders[key], q.vhosts[domain]
	if v == nil {
		v = &vhost{name: domain}
	}
	if s == nil {
		s = &sender{key: key, vhost: v}
	}
	n := len(s.jobs)
	if q.closed || n >= maxPerSender || n >= 1 && v.waiting >= crowded || v.waiting >= fullPerVHost || q.waiting >= full {
		return errBusy
	}
	q.senders[key], q.vhosts[domain] = s, v
	s.jobs = append(s.jobs, job)
	q.waiting++
	v.waiting++
	if !s.serving && n == 0 {
		q.takesTurn(s)
	}
	return nil
}

// takesTurn has a sender wait for their turn. The caller holds mu.
func (q *queue) takesTurn(s *sender) {
	v := s.vhost
	if v.turn = append(v.turn, s); len(v.turn) == 1 {
		q.turn = append(q.turn, v)
	}
	q.ready.Signal()
}

// next returns the sender who has the next turn. The caller holds mu.
func (q *queue) next() *sender {
	v := q.turn[0]
	q.turn = q.turn[1:]
	s := v.turn[0]
	if v.turn = v.turn[1:]; len(v.turn) > 0 {
		q.turn = append(q.turn, v)
	}
	return s
}

// work runs jobs in one place until the queue is closed, and then those that are left. It ends, too, when a job of its was slow:
// the place is somebody else's then. Any number of goroutines may work.
func (q *queue) work() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.turn) == 0 && !q.closed {
			q.ready.Wait()
		}
		if len(q.turn) == 0 {
			return
		}
		s := q.next()
		if slow := q.run(s, s.vhost); slow {
			return
		}
	}
}

// run runs the next job of a sender, and tells whether it was slow. The caller holds mu.
func (q *queue) run(s *sender, v *vhost) (slow bool) {
	job := s.jobs[0]
	s.jobs = s.jobs[1:]
	s.serving = true
	q.waiting--
	v.waiting--
	q.active++
	v.active++
	r := &running{vhost: v, began: time.Now()}
	r.at = q.placed.PushBack(r)
	ctx, end := context.WithCancelCause(q.ctx)
	r.end = end
	q.mu.Unlock()
	job(ctx)
	end(nil)
	q.mu.Lock()
	q.ended = true
	switch {
	case !r.slow:
		q.placed.Remove(r.at)
	case r.at != nil:
		q.slow--
		v.slow.Remove(r.at)
	}
	q.active--
	v.active--
	s.serving = false
	if len(s.jobs) > 0 {
		q.takesTurn(s)
	} else {
		delete(q.senders, s.key)
	}
	if v.waiting+v.active == 0 {
		delete(q.vhosts, v.name)
	}
	if q.waiting+q.active == 0 {
		q.quiet.Broadcast()
	}
	return r.slow
}

// tend looks for requests that are slow until ctx ends. Each place that becomes free it gives to another worker, by start.
func (q *queue) tend(ctx context.Context, start func(work func())) {
	tick := time.NewTicker(stuckAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for range q.look(now) {
				start(q.work)
			}
		}
	}
}

// look makes those requests slow that are, and returns how many places are free because of that.
func (q *queue) look(now time.Time) (free int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	after := slowAfter
	if !q.ended && len(q.turn) > 0 {
		after = stuckAfter
	}
	q.ended = false
	for q.placed.Len() > 0 {
		r := q.placed.Front().Value.(*running)
		if now.Sub(r.began) < after {
			break
		}
		q.placed.Remove(r.at)
		r.slow, r.at = true, r.vhost.slow.PushBack(r)
		q.slow++
		free++
		if r.vhost.slow.Len() > slowPerVHost {
			q.givesWay(r.vhost)
		} else if q.slow > slowAtAll {
			most := r.vhost
			for _, v := range q.vhosts {
				if v.slow.Len() > most.slow.Len() {
					most = v
				}
			}
			q.givesWay(most)
		}
	}
	return free
}

// givesWay ends the request of a virtual host that is slow for longest. The caller holds mu.
func (q *queue) givesWay(v *vhost) {
	r := v.slow.Remove(v.slow.Front()).(*running)
	q.slow--
	r.at = nil
	r.end(errGaveWay)
}

// idle blocks until nothing waits and nothing is under way, or the queue is closed.
func (q *queue) idle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && q.waiting+q.active > 0 {
		q.quiet.Wait()
	}
}

// close ends idle, and work when nothing waits any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Broadcast()
	q.quiet.Broadcast()
}
