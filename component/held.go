package component

import (
	"cmp"
	"container/heap"
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

const (
	// heldPerSender, heldPerRoom, heldAtAll and heldBytes bound the requests that are held. Over a bound a request is answered at
	// once.
	heldPerSender, heldPerRoom, heldAtAll, heldBytes = 4, 4 << 10, 32 << 10, 64 << 20
	// owedPerSender and owedAtAll bound the answers that are owed: as many as requests can be held, queued and under way.
	// maxOwedID bounds the length in bytes of their ids.
	owedPerSender, owedAtAll, maxOwedID = heldPerSender + maxPerSender + 1, heldAtAll + full + slowAtAll + workers, 1 << 10
	// remembered is how long, at least, a client that was told to wait is known to be waiting. rememberedAtMost bounds how many are
	// known. A waiting client asks again five seconds after each answer, which is held for 90 s at most.
	remembered, rememberedAtMost = 2 * time.Minute, 64 << 10
	// sweepEvery is the least time between two sweeps for requests with a hold that is over, or an answer that is owed.
	sweepEvery = 100 * time.Millisecond
	// afterHold is how long the answer to a held request may take once its hold is over. With the default of wait_hold the answer
	// arrives before a client gives up that waits for 15 s, such as slixmpp.
	afterHold = 4 * time.Second
)

// held are the requests of clients that wait for a host, and that have been told so before. They are answered when a host is
// inside, or when wait_hold is over. They outlive the connection, and are written down, so that the next usher can answer them.
//
// A request is held until somebody takes it out, and only its taker answers it. An answer that could not be sent is owed, and sent
// on the next stream. What is still owed at the end is written down as well; see left.go.
type held struct {
	store store.Store
	wake  alarm.Alarm // rings when something is owed, or another hold is over first

	mu       sync.Mutex
	rooms    map[string]map[*waiter]bool // by room; true when it is written down
	senders  map[string]int              // by bare JID
	order    byEnd                       // those that are written down
	n, bytes int
	came     uint64 // how many have been held so far
	owed     []*waiter
	owedTo   map[string]int  // how many, by bare JID
	unowed   int             // how many were over a bound, and are not written down
	keys     map[string]bool // of the requests in the store that this usher answers

	// waiting and waitingOld are clients that were told to wait for a room, as a hash of the two.
	waiting, waitingOld map[uint64]bool
	forgotAt            time.Time
}

// waiter is a request that is held, or with an answer that is owed.
type waiter struct {
	request
	d       auth.Decision // what it is told if nothing else happens
	hold    time.Duration // for how long it is held
	until   time.Time     // when its hold is over, by the clock of the Options
	number  uint64        // of those held, in the order in which they came
	index   int           // in held.order
	key     string        // in the store; empty if it is not there
	called  bool          // a host is inside, and it is about to be decided again
	decided bool          // the decision has been counted
}

// size is about how many bytes a waiter keeps because of what its client said.
func (r *waiter) size() int {
	c, record := r.conf, r.client.record()
	n := len(record.ID) + len(record.From) + len(record.To) + len(c.Room) + len(c.Token) + len(c.SessionID) + len(c.MachineUID)
	for _, p := range c.Properties {
		n += len(p.Name) + len(p.Value) + 2*int(unsafe.Sizeof(p)) // a slice that grows is up to twice as long as what is in it
	}
	return n
}

// byEnd is a heap (package container/heap) of held requests, of which the first is over first.
type byEnd []*waiter

func (q byEnd) Len() int           { return len(q) }
func (q byEnd) Less(i, j int) bool { return q[i].until.Before(q[j].until) }
func (q byEnd) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *byEnd) Push(r any)        { r.(*waiter).index = len(*q); *q = append(*q, r.(*waiter)) }
func (q *byEnd) Pop() any {
	last := len(*q) - 1
	r := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return r
}

func newHeld(s store.Store) *held {
	return &held{
		store: s, wake: alarm.New(sweepEvery), rooms: make(map[string]map[*waiter]bool), senders: make(map[string]int),
		owedTo: make(map[string]int), keys: make(map[string]bool), waiting: make(map[uint64]bool), waitingOld: make(map[uint64]bool),
	}
}

var seed = maphash.MakeSeed()

// again reports whether the sender was told to wait for the room before, and remembers that it is told now.
func (h *held) again(from, room jid.JID, now time.Time) bool {
	key := maphash.Comparable(seed, [2]string{from.String(), room.String()})
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.forgotAt) > remembered || len(h.waiting) >= rememberedAtMost {
		h.waiting, h.waitingOld, h.forgotAt = make(map[uint64]bool), h.waiting, now
	}
	again := h.waiting[key] || h.waitingOld[key]
	h.waiting[key] = true
	return again
}

// hold takes in a request, unless there are too many or it cannot be written down.
func (h *held) hold(ctx context.Context, r *waiter) bool {
	room, sender := r.room(), r.sender()
	h.mu.Lock()
	if h.senders[sender] >= heldPerSender || len(h.rooms[room]) >= heldPerRoom || h.n >= heldAtAll || h.bytes+r.size() > heldBytes {
		h.mu.Unlock()
		return false
	}
	h.senders[sender]++
	h.n++
	h.came++
	r.number = h.came
	h.bytes += r.size()
	if h.rooms[room] == nil {
		h.rooms[room] = make(map[*waiter]bool)
	}
	h.rooms[room][r] = false
	h.mu.Unlock()

	err := h.write(ctx, r, r.until)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.takeOut(r)
		return false
	}
	h.rooms[room][r] = true
	if heap.Push(&h.order, r); r.index == 0 {
		h.wake.Ring()
	}
	return true
}

func (r *waiter) room() string { return r.d.Room.JID.String() }

func (r *waiter) sender() string { return r.from.Bare().String() }

// owe has an answer sent as soon as that is possible, unless there are too many.
func (h *held) owe(r *waiter) {
	h.owesStill(r)
	h.wake.Ring()
}

// owesStill is owe for an answer that could not be sent just now.
func (h *held) owesStill(r *waiter) {
	sender := r.sender()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.owed) >= owedAtAll || h.owedTo[sender] >= owedPerSender || len(r.client.record().ID) > maxOwedID {
		if r.key == "" {
			h.unowed++
		}
		return
	}
	r.conf, r.steps = focus.Conference{Room: r.conf.Room}, nil // all that the answer needs
	h.owed = append(h.owed, r)
	h.owedTo[sender]++
}

// take takes one request out, and reports whether it was held.
func (h *held) take(r *waiter) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeOut(r)
}

// takeOut is take for callers that hold mu.
func (h *held) takeOut(r *waiter) bool {
	room, sender := r.room(), r.sender()
	written, ok := h.rooms[room][r]
	if !ok {
		return false
	}
	if written {
		heap.Remove(&h.order, r.index)
	}
	if delete(h.rooms[room], r); len(h.rooms[room]) == 0 {
		delete(h.rooms, room)
	}
	if h.senders[sender]--; h.senders[sender] == 0 {
		delete(h.senders, sender)
	}
	h.n--
	h.bytes -= r.size()
	return true
}

// call returns the requests for a room that have not been called yet. They are still held.
func (h *held) call(room jid.JID) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*waiter
	for r, written := range h.rooms[room.String()] {
		if written && !r.called {
			r.called = true
			all = append(all, r)
		}
	}
	return inOrder(all)
}

// inOrder sorts requests by the order in which they came.
func inOrder(all []*waiter) []*waiter {
	slices.SortFunc(all, func(a, b *waiter) int { return cmp.Compare(a.number, b.number) })
	return all
}

// older takes out and returns the requests of the same bare JID for the room that were held before r. If r is nil it takes all of
// them. They may have been called.
func (h *held) older(from, room jid.JID, r *waiter) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.senders[from.Bare().String()] == 0 {
		return nil
	}
	var all []*waiter
	for other, written := range h.rooms[room.String()] {
		if written && other.from.Bare().Equal(from.Bare()) && (r == nil || other.number < r.number) {
			all = append(all, other)
		}
	}
	for _, other := range all {
		h.takeOut(other)
	}
	return inOrder(all)
}

// over takes out and returns the requests with a hold that is over, or with an answer that is owed; all of them if now is zero.
func (h *held) over(now time.Time) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.owed
	h.owed = nil
	clear(h.owedTo)
	for len(h.order) > 0 && (now.IsZero() || !now.Before(h.order[0].until)) {
		r := h.order[0]
		h.takeOut(r)
		all = append(all, r)
	}
	return all
}

// hold holds a request if its client has to wait and has been told so before, and reports whether it does.
func (c *Component) hold(ctx context.Context, r *request, d auth.Decision) bool {
	hold := c.o.WaitHold
	if r.conf.Patient() {
		hold = c.o.WaitHoldJitsi
	}
	if r.held != nil || d.Verdict != auth.Wait || hold <= 0 || !c.held.again(r.from, d.Room.JID, c.o.Now()) {
		return false
	}
	w := &waiter{request: *r, d: d, hold: hold, until: c.o.Now().Add(hold)}
	w.steps = nil // many are held for long, and the client was told the same before
	if !c.held.hold(ctx, w) {
		return false
	}
	c.watch.waiting(r.from, d.Room, d.Reason, c.o.Now(), w.until.Add(comesBack))
	// A host may have entered since it was decided.
	c.mode.Await(d.Room.JID, w.until)
	return true
}

// arrived has the requests decided again that are held for a room that a host has entered. It does not block.
func (c *Component) arrived(room jid.JID) {
	c.conferences.arrived(room)
	c.watch.arrives(room, c.o.Now())
	c.recall(room)
}

// recall has the requests decided again that are held for a room. It does not block.
func (c *Component) recall(room jid.JID) {
	q := c.work.Load()
	if q == nil {
		return
	}
	for _, r := range c.held.call(room) {
		began := time.Now()
		again := func(ctx context.Context) {
			if c.held.take(r) { // unless its hold was over before its turn came
				c.again(ctx, r, began)
			}
		}
		if err := q.push(r.sender(), again); err != nil && c.held.take(r) {
			c.held.owe(r)
		}
	}
}

// again admits a request that was held. It may take less time than a new one if its client has waited for long.
func (c *Component) again(ctx context.Context, w *waiter, began time.Time) {
	r := w.request
	r.came, r.held = began, w
	r.decide, r.apply = 0, 0
	defer c.recovers(&r)
	deadline := began.Add(c.requestTimeout)
	if last := w.came.Add(w.hold + afterHold); last.Before(deadline) {
		deadline = last
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c.admit(ctx, &r)
}

// admitted answers the older requests of somebody who has just been let in. Affiliations are by bare JID, so the person may enter
// by each of them. In Jitsi's role upgrade the page joins by such an older request only: the guest's own connection asks once
// more, with the session of the login, and does nothing with the answer but close the dialog (lib-jitsi-meet
// JitsiConference.ts, authenticateAndUpgradeRole). The session is told to the machine that it is bound to, and to no other
// client of the same account.
func (c *Component) admitted(ctx context.Context, r *request, d auth.Decision, said *focus.Answer) {
	if said != nil && said.Redirects() {
		return // let in at another node, because of what this one request says
	}
	for _, older := range c.held.older(r.from, d.Room.JID, r.held) {
		its := d
		if older.conf.MachineUID != r.conf.MachineUID {
			its.SessionID, its.Identity = "", ""
		}
		older.held = older // so that a held one is owed, with its key in the store
		its, sent := c.answer(&older.request, its, said)
		if sent {
			c.strike(ctx, older)
		}
		c.decided(&older.request, its, time.Since(older.came))
	}
}

// next returns when something is to be answered; zero for never. What is owed could not be sent just now.
func (h *held) next(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(h.owed) > 0:
		return now
	case len(h.order) > 0:
		return h.order[0].until
	}
	return time.Time{}
}

// expire answers the held requests with a hold that is over, and what is owed, until ctx ends.
func (c *Component) expire(ctx context.Context) {
	for ctx.Err() == nil {
		c.settle(ctx, c.held.over(c.o.Now()))
		now := c.o.Now()
		c.held.wake.Sleep(ctx, now, c.held.next(now))
	}
}

// settle tells clients what was decided when they were held, or what they are owed. What cannot be sent now is owed.
func (c *Component) settle(ctx context.Context, all []*waiter) {
	var answered []*waiter
	for _, r := range all {
		var err error
		if r.d, err = c.tell(&r.request, r.d, nil); later(err) {
			c.held.owesStill(r)
			continue
		}
		answered = append(answered, r)
		if !r.decided {
			c.decided(&r.request, r.d, time.Since(r.came))
		}
	}
	c.strike(ctx, answered...)
}

// strike takes requests that have been answered out of the store.
func (c *Component) strike(ctx context.Context, all ...*waiter) {
	var keys []string
	for _, r := range all {
		if r.key != "" {
			keys = append(keys, r.key)
		}
	}
	if len(keys) == 0 {
		return
	}
	// They have been answered, however late.
	if err := c.o.Store.Delete(context.WithoutCancel(ctx), store.KindHeld, keys...); err != nil {
		// The next usher answers them once more, which harms nobody.
		c.say(zap.WarnLevel, "could not take answered requests out of the store", string(auth.ReasonStoreUnavailable), jid.JID{}, zap.Error(err))
		return
	}
	c.held.forget(keys...)
}
