package component

import (
	"container/list"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/pkg/alarm"
)

const (
	// workers is the number of places.
	workers = 256
	// slowAfter is how long a request may have a place. If no request ends for stuckAfter while others wait, it may have one no longer
	// than that.
	stuckAfter, slowAfter = 20 * time.Millisecond, 500 * time.Millisecond
	// slowPerVHost and slowAtAll are how many requests may be under way without a place.
	slowPerVHost, slowAtAll = 1 << 10, 4 << 10
	// maxPerSender is how many requests of one sender may wait.
	maxPerSender = 16
	// crowded is how many requests of one virtual host may wait before each sender there may have only one waiting.
	crowded = 4 << 10
	// fullPerVHost and full are how many requests may wait at all.
	fullPerVHost, full = 8 << 10, 16 << 10
	// maxUnread is how many answers to one sender may be on the way to the server. Without news of them, they count as read after
	// readWithin.
	maxUnread, readWithin = 8, time.Second
	// maxRefusals (of one sender), maxRefusalsAtAll and maxRefusalBytes bound the requests that wait to be refused unread.
	maxRefusals, maxRefusalsAtAll, maxRefusalBytes = 32 << 10, 64 << 10, 16 << 20
)

var (
	errBusy = errors.New("too many requests are waiting")
	// errGaveWay is why a request ends that was under way for longer than all others when there were too many of them.
	errGaveWay = errors.New("too many requests wait for rooms, a Jicofo or key servers that do not answer")
)

// queue holds requests until there is a place for them. It is fair: it serves virtual hosts in turn, on each of them senders in
// turn, whatever the number of their requests, and each sender's requests one at a time. So a sender who asks a thousand times
// delays nobody else, and a sender's requests are decided in the order in which they came.
//
// A request has one of few places while it is under way, so that the server is not asked more at once than it answers soon.
// Most of that time the request waits for the room, for Jicofo or for a key server. Some of them never answer, and the request
// then waits until its time is over; strangers can cause as many such waits as they have addresses. So a request becomes slow after
// slowAfter, or when no request at all has ended for stuckAfter while others wait for a place. Then it gives its place to the next.
// How long the server takes under load does not matter for that: under load, requests still end. Slow requests are bounded, for
// each virtual host and in total. Over that bound the oldest slow request of the virtual host ends (in total: of the virtual host
// with most), and its client is told to ask again.
//
// The server reads our answers one after the other, a few of each connection at a time. So the answers to a sender who asks a
// thousand times a second would delay those to all others. Therefore a sender with maxUnread answers on the way has no turn until
// the server has read them. To learn that, usher sends a stanza to itself behind them, the mark; it comes back when the server has
// read them. Requests that find no place in the queue are refused unread, also in turns of their sender.
type queue struct {
	ctx        context.Context // of all requests
	wake       alarm.Alarm     // has tend look
	mark       func(n uint64)  // sends a mark; nil if there is no server to read it
	readWithin time.Duration   // readWithin, except in tests

	mu      sync.Mutex
	resting []chan struct{} // workers that wait until somebody has a turn, or the queue is closed; the last one begins first
	quiet   *sync.Cond      // nothing waits and nothing is under way, or the queue is closed
	senders map[string]*sender
	vhosts  map[string]*vhost
	turn    []*vhost  // those with a sender that has a turn, in the order of their turns
	placed  list.List // *running: those that have a place, in the order in which they got it
	waiting int
	active  int
	slow    int
	ended   bool      // a request has ended since judged
	judged  time.Time // when demote last found out whether requests end
	due     time.Time // when it is to look next; zero for never
	closed  bool

	marks                uint64    // how many marks have been sent
	marking              bool      // the last one is on its way
	markedAt             time.Time // when it was sent, or when answers last counted as read
	spoke                []*sender // those with answers since then
	flying               []*sender // those with answers before it
	refused, refusedSize int       // of that size in bytes
}

type sender struct {
	key     string
	vhost   *vhost
	jobs    []func(context.Context)
	refused []refusal
	serving bool // one of the jobs is under way
	waits   bool // for its turn

	answers, flying int // on the way to the server: since the last mark, and before it
}

// refusal is a request that waits to be refused unread.
type refusal struct {
	answer func()
	size   int
}

type vhost struct {
	name    string
	senders int
	turn    []*sender // those with something waiting and nothing under way, in the order of their turns
	waiting int
	slow    list.List // *running, in the order in which they became so
}

func (s *sender) unread() int { return s.answers + s.flying }

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
	q := &queue{
		ctx: ctx, wake: alarm.New(0), readWithin: readWithin, markedAt: time.Now(),
		senders: make(map[string]*sender), vhosts: make(map[string]*vhost),
	}
	q.quiet = sync.NewCond(&q.mu)
	return q
}

// push queues a job of the sender, a bare JID, or returns errBusy. It does not block. The job's context ends early if the job is
// slow and others need its place.
func (q *queue) push(key string, job func(context.Context)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sender(key)
	n, v := len(s.jobs), s.vhost
	if q.closed || n >= maxPerSender || n >= 1 && v.waiting >= crowded || v.waiting >= fullPerVHost || q.waiting >= full {
		q.forget(s)
		return errBusy
	}
	s.jobs = append(s.jobs, job)
	q.waiting++
	v.waiting++
	q.takesTurn(s)
	return nil
}

// refuse queues the refusal of a request of the sender, of that size, and reports whether it will be given. It will not if there
// are too many: a client that sends so many without waiting for the answers waits for none.
func (q *queue) refuse(key string, size int, answer func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.mu.Unlock()
		defer q.mu.Lock()
		answer()
		return true
	}
	s := q.sender(key)
	size += 200 // about what a refusal itself takes
	if len(s.refused) >= maxRefusals || q.refused >= maxRefusalsAtAll || q.refusedSize+size > maxRefusalBytes {
		q.forget(s)
		return false
	}
	s.refused = append(s.refused, refusal{answer, size})
	q.refused++
	q.refusedSize += size
	q.takesTurn(s)
	return true
}

// sender returns a sender, a new one if need be. The caller holds mu.
func (q *queue) sender(key string) *sender {
	s := q.senders[key]
	if s != nil {
		return s
	}
	_, domain, ok := strings.Cut(key, "@")
	if !ok {
		domain = key
	}
	v := q.vhosts[domain]
	if v == nil {
		v = &vhost{name: domain}
		q.vhosts[domain] = v
	}
	v.senders++
	s = &sender{key: key, vhost: v}
	q.senders[key] = s
	return s
}

// forget drops a sender with nothing left in the queue or on the way. The caller holds mu.
func (q *queue) forget(s *sender) {
	if s.serving || len(s.jobs)+len(s.refused)+s.unread() > 0 || q.senders[s.key] != s {
		return
	}
	delete(q.senders, s.key)
	if s.vhost.senders--; s.vhost.senders == 0 {
		delete(q.vhosts, s.vhost.name)
	}
}

// takesTurn makes a sender wait for its turn, if it has something waiting and does not wait already. A sender with too many answers
// on the way has to wait for the next mark first. The caller holds mu.
func (q *queue) takesTurn(s *sender) {
	switch v := s.vhost; {
	case s.serving || s.waits || len(s.jobs)+len(s.refused) == 0:
	case s.unread() >= maxUnread && q.mark != nil:
		q.sendMark()
	default:
		s.waits = true
		if v.turn = append(v.turn, s); len(v.turn) == 1 {
			q.turn = append(q.turn, v)
		}
		if len(q.resting) == 0 {
			q.lookBy(time.Now().Add(stuckAfter))
		}
		q.rouse(1)
	}
}

// areUnread reports whether there are answers of which it is not known that the server has read them. The caller holds mu.
func (q *queue) areUnread() bool { return len(q.spoke)+len(q.flying) > 0 }

// sendMark sends a mark behind the answers given so far, unless the last mark is still on its way. The caller holds mu.
func (q *queue) sendMark() {
	if q.marking || q.mark == nil {
		return
	}
	q.marking, q.markedAt = true, time.Now()
	q.fly()
	q.marks++
	q.mark(q.marks)
}

// fly makes the answers given so far those before the mark. The caller holds mu.
func (q *queue) fly() {
	q.flying, q.spoke = q.spoke, nil
	for _, s := range q.flying {
		s.flying, s.answers = s.answers, 0
	}
}

// marked tells the queue that a mark has come back.
func (q *queue) marked(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.marking && n == q.marks {
		q.read()
	}
}

// read counts the answers before the mark as read. The caller holds mu.
func (q *queue) read() {
	read := q.flying
	q.marking, q.markedAt, q.flying = false, time.Now(), nil
	for _, s := range read {
		s.flying = 0
	}
	for _, s := range read {
		q.takesTurn(s)
		q.forget(s)
	}
	for _, s := range q.spoke {
		q.takesTurn(s) // which sends the next mark if it has too many answers on the way
	}
}

// next returns the sender who has the next turn. The caller holds mu.
func (q *queue) next() *sender {
	v := q.turn[0]
	q.turn = q.turn[1:]
	s := v.turn[0]
	if v.turn = v.turn[1:]; len(v.turn) > 0 {
		q.turn = append(q.turn, v)
	}
	s.waits = false
	return s
}

// work runs jobs in one place until the queue is closed, and then the jobs that are left. It also ends after a slow job, because
// another worker has the place by then. Any number of goroutines may work.
func (q *queue) work() {
	q.mu.Lock()
	defer q.mu.Unlock()
	woken := make(chan struct{}, 1)
	for {
		for len(q.turn) == 0 && !q.closed {
			q.resting = append(q.resting, woken)
			q.mu.Unlock()
			<-woken
			q.mu.Lock()
		}
		if len(q.turn) == 0 {
			return
		}
		s := q.next()
		s.serving = true
		slow := len(s.jobs) > 0 && q.run(s)
		q.runRefusals(s)
		s.serving = false
		q.takesTurn(s)
		q.forget(s)
		if q.waiting+q.active+q.refused == 0 {
			q.quiet.Broadcast()
		}
		if slow && !q.closed {
			return
		}
	}
}

// rouse wakes as many workers, as far as that many rest. The one that has worked last comes first: its stack has grown already. The caller
// holds mu.
func (q *queue) rouse(n int) {
	for range min(n, len(q.resting)) {
		last := len(q.resting) - 1
		q.resting[last] <- struct{}{}
		q.resting = q.resting[:last]
	}
}

// run runs the next job of a sender, and reports whether it was slow. The caller holds mu.
func (q *queue) run(s *sender) (slow bool) {
	v, job := s.vhost, s.jobs[0]
	s.jobs = s.jobs[1:]
	q.waiting--
	v.waiting--
	q.active++
	r := &running{vhost: v, began: time.Now()}
	r.at = q.placed.PushBack(r)
	q.lookBy(r.began.Add(slowAfter))
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
	q.answered(s)
	return r.slow
}

// runRefusals gives as many of a sender's refusals as may be on the way. The caller holds mu.
func (q *queue) runRefusals(s *sender) {
	for len(s.refused) > 0 && (s.unread() < maxUnread || q.mark == nil) {
		r := s.refused[0]
		s.refused = s.refused[1:]
		q.mu.Unlock()
		r.answer()
		q.mu.Lock()
		q.refused--
		q.refusedSize -= r.size
		q.answered(s)
	}
}

// answered notes that an answer to a sender is on its way. The caller holds mu.
func (q *queue) answered(s *sender) {
	if q.mark == nil {
		return
	}
	if !q.areUnread() {
		q.markedAt = time.Now()
		q.lookBy(q.markedAt.Add(q.readWithin))
	}
	if s.answers++; s.answers == 1 {
		q.spoke = append(q.spoke, s)
	}
}

// tend looks for slow requests until the context of all ends. It starts another worker for each place that becomes free.
func (q *queue) tend(start func(work func())) {
	for q.ctx.Err() == nil {
		if now, due := time.Now(), q.nextLook(); due.IsZero() || now.Before(due) {
			q.wake.Sleep(q.ctx, now, due)
			continue
		}
		for range q.demote(time.Now()) {
			start(q.work)
		}
	}
	q.release()
}

// lookBy has tend look at that time at the latest. The caller holds mu.
func (q *queue) lookBy(at time.Time) {
	if q.due.IsZero() || at.Before(q.due) {
		q.due = at
		q.wake.Ring()
	}
}

// nextLook returns when tend is to look; zero for never.
func (q *queue) nextLook() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.due
}

// demote makes requests slow that have had a place for too long, and returns how many places that frees. It also counts answers as
// read after readWithin without news of them.
func (q *queue) demote(now time.Time) (free int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.areUnread() && now.Sub(q.markedAt) >= q.readWithin {
		if !q.marking {
			q.fly()
		}
		q.read()
	}
	after := slowAfter
	if now.Sub(q.judged) >= stuckAfter { // there may be many looks, each for a request that becomes slow
		if !q.ended && len(q.turn) > 0 {
			after = stuckAfter
		}
		q.ended, q.judged = false, now
	}
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
	q.due = time.Time{}
	if q.placed.Len() > 0 {
		q.lookBy(q.placed.Front().Value.(*running).began.Add(slowAfter))
	}
	if len(q.turn) > 0 {
		q.lookBy(now.Add(stuckAfter))
	}
	if q.areUnread() {
		q.lookBy(q.markedAt.Add(q.readWithin))
	}
	return free
}

// givesWay ends the oldest slow request of a virtual host. The caller holds mu.
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
	for !q.closed && q.waiting+q.active+q.refused > 0 {
		q.quiet.Wait()
	}
}

// close ends idle, and work when nothing waits any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.letGo() // otherwise the workers would end before senders that wait for a mark have had their turns
	q.rouse(len(q.resting))
	q.quiet.Broadcast()
}

// release lets every sender have its turn without a mark, because the server may read nothing any more.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.letGo()
}

// letGo is release for callers that hold mu.
func (q *queue) letGo() {
	q.mark, q.spoke, q.flying = nil, nil, nil
	for _, s := range q.senders {
		s.answers, s.flying = 0, 0
		q.takesTurn(s)
		q.forget(s)
	}
}
