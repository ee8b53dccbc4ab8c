package component

import (
	"errors"
	"sync"
)

const (
	// maxPerSender is how many requests of one sender may wait.
	maxPerSender = 16
	// crowded is how many requests may wait before each sender may have only one.
	crowded = 4 << 10
	// full is how many requests may wait at all.
	full = 16 << 10
)

var errBusy = errors.New("too many requests are waiting")

// queue holds requests until a worker is free for them. It is fair: senders are served in turn, whatever the number of
// their requests, and one at a time, so that a sender who asks a thousand times delays only himself, and so that a
// sender's requests are decided in the order in which they came.
type queue struct {
	mu      sync.Mutex
	ready   *sync.Cond // somebody has a turn, or the queue is closed
	quiet   *sync.Cond // nothing waits and nothing is under way, or the queue is closed
	senders map[string]*sender
	turn    []*sender // those with a request waiting and none under way, in the order of their turns
	waiting int
	active  int
	closed  bool
}

type sender struct {
	key     string
	jobs    []func()
	serving bool
}

func newQueue() *queue {
	q := &queue{senders: make(map[string]*sender)}
	q.ready, q.quiet = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	return q
}

// push queues a job of the sender, or returns errBusy. It does not block.
func (q *queue) push(key string, job func()) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.senders[key]
	if s == nil {
		s = &sender{key: key}
	}
	if n := len(s.jobs); q.closed || n >= maxPerSender || n >= 1 && q.waiting >= crowded || q.waiting >= full {
		return errBusy
	}
	q.senders[key] = s
	s.jobs = append(s.jobs, job)
	q.waiting++
	if !s.serving && len(s.jobs) == 1 {
		q.turn = append(q.turn, s)
		q.ready.Signal()
	}
	return nil
}

// work runs jobs until the queue is closed, and then those that are left. Any number of goroutines may work.
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
		s := q.turn[0]
		q.turn = q.turn[1:]
		job := s.jobs[0]
		s.jobs = s.jobs[1:]
		s.serving = true
		q.waiting--
		q.active++
		q.mu.Unlock()
		job()
		q.mu.Lock()
		q.active--
		s.serving = false
		if len(s.jobs) > 0 {
			q.turn = append(q.turn, s)
		} else {
			delete(q.senders, s.key)
		}
		if q.waiting+q.active == 0 {
			q.quiet.Broadcast()
		}
	}
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
