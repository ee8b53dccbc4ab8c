package component

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

const (
	// heldPerSender, heldPerRoom, heldAtAll and heldBytes bound the requests that are held. Over a bound the answer is given at
	// once.
	heldPerSender, heldPerRoom, heldAtAll, heldBytes = 4, 4 << 10, 32 << 10, 64 << 20
	// owedPerSender and owedAtAll bound the answers that are owed: as many as can be held, and wait for their turn in the queue
	// or have it. maxOwedID bounds the length in bytes of their ids.
	owedPerSender, owedAtAll, maxOwedID = heldPerSender + maxPerSender + 1, heldAtAll + full + slowAtAll + workers, 1 << 10
	// remembered is for how long, at least, whoever was told to wait is known to be waiting, and toldAtMost how many of
	// them are known: a waiting client asks five seconds after each answer, which is held for 90 s at most.
	remembered, toldAtMost = 2 * time.Minute, 64 << 10
	// sweepEvery is how often it is looked for requests whose time is over.
	sweepEvery = 100 * time.Millisecond
	// afterHold is how long the answer to a held request may take once its hold is over. With the default of wait_hold it is
	// there before a client gives up that waits for 15 s, such as slixmpp.
	afterHold = 4 * time.Second
)

// held are the requests of those who wait for a host and have been told so before: they are answered when a host is inside,
// or when wait_hold is over. They outlive the connection, and are written down, so that whoever comes after us answers them.
//
// A request is held until somebody takes it out, and only who has taken it out answers it. An answer that there was no
// connection for is owed, and given on the next one. What is owed in the end is written down, too; see leave.
type held struct {
	store store.Store

	mu       sync.Mutex
	rooms    map[string]map[*waiter]bool // by room; true when it is written down
	senders  map[string]int              // by bare JID
	order    byEnd                       // those that are written down
	n, bytes int
	came     uint64 // how many have been held so far
	owed     []*waiter
	owedTo   map[string]int  // how many, by bare JID
	unowed   int             // how many were over a bound, and are not written down
	told     map[uint64]bool // who was told to wait, for which room, as a hash of the two
	toldOld  map[uint64]bool
	forgotAt time.Time
}

// waiter is a request that is held, or to which an answer is owed.
type waiter struct {
	iq      stanza.IQ
	raw     []byte
	asked   string        // the room as the client spells it
	d       auth.Decision // what it is told if nothing else happens
	at      time.Time     // when it came
	machine string        // what the client calls its machine
	hold    time.Duration // for how long
	until   time.Time     // by the clock of the Options: when its time is over
	number  uint64        // of those held, in the order in which they came
	index   int           // in held.order
	key     string        // in the store; none if it is not there
	called  bool          // a host is there, and it is about to be decided again
	decided bool          // the decision has been counted
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

// record is a held request as it is written down: what it takes to answer it.
type record struct{ ID, From, To string }

func newHeld(s store.Store) *held {
	return &held{
		store: s, rooms: make(map[string]map[*waiter]bool), senders: make(map[string]int),
		owedTo: make(map[string]int), told: make(map[uint64]bool), toldOld: make(map[uint64]bool),
	}
}

var seed = maphash.MakeSeed()

// again tells whether the sender was told to wait for the room before, and remembers that they are told now.
func (h *held) again(from, room jid.JID, now time.Time) bool {
	key := maphash.Comparable(seed, [2]string{from.String(), room.String()})
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.forgotAt) > remembered || len(h.told) >= toldAtMost {
		h.told, h.toldOld, h.forgotAt = make(map[uint64]bool), h.told, now
	}
	again := h.told[key] || h.toldOld[key]
	h.told[key] = true
	return again
}

// hold takes in a request, unless there are too many or it cannot be written down.
func (h *held) hold(ctx context.Context, r *waiter) bool {
	room, sender := r.room(), r.iq.From.Bare().String()
	h.mu.Lock()
	if h.senders[sender] >= heldPerSender || len(h.rooms[room]) >= heldPerRoom || h.n >= heldAtAll || h.bytes+len(r.raw) > heldBytes {
		h.mu.Unlock()
		return false
	}
	h.senders[sender]++
	h.n++
	h.came++
	r.number = h.came
	h.bytes += len(r.raw)
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
	heap.Push(&h.order, r)
	return true
}

// write writes a request down, to be answered by the next usher until an hour after the time.
func (h *held) write(ctx context.Context, r *waiter, until time.Time) error {
	value, err := json.Marshal(record{ID: r.iq.ID, From: r.iq.From.String(), To: r.iq.To.String()})
	if err != nil {
		return err
	}
	key := rand.Text()
	if err = h.store.Put(ctx, store.Record{Kind: store.KindHeld, Key: key, Value: value, End: until.Add(time.Hour)}); err == nil {
		r.key = key
	}
	return err
}

func (r *waiter) room() string { return r.d.Room.JID.String() }

// owe has an answer given as soon as there is a connection, unless there are too many.
func (h *held) owe(r *waiter) {
	sender := r.iq.From.Bare().String()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.owed) >= owedAtAll || h.owedTo[sender] >= owedPerSender || len(r.iq.ID) > maxOwedID {
		if r.key == "" {
			h.unowed++
		}
		return
	}
	r.raw = nil
	h.owed = append(h.owed, r)
	h.owedTo[sender]++
}

// take takes one request out, and tells whether it was held.
func (h *held) take(r *waiter) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeOut(r)
}

func (h *held) takeOut(r *waiter) bool {
	room, sender := r.room(), r.iq.From.Bare().String()
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
	h.bytes -= len(r.raw)
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

// older takes out and returns the requests of the same bare JID for the room that were held before r, or all of them if r is
// nil. They may have been called.
func (h *held) older(from, room jid.JID, r *waiter) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.senders[from.Bare().String()] == 0 {
		return nil
	}
	var all []*waiter
	for other, written := range h.rooms[room.String()] {
		if written && other.iq.From.Bare().Equal(from.Bare()) && (r == nil || other.number < r.number) {
			all = append(all, other)
		}
	}
	for _, other := range all {
		h.takeOut(other)
	}
	return inOrder(all)
}

// over takes out and returns the requests whose time is over, or to which an answer is owed; all of them if now is zero.
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
		// Whoever comes after us answers them once more, which nobody minds.
		c.say(zap.WarnLevel, "answered requests could not be taken out of the store", string(auth.ReasonStoreUnavailable), jid.JID{}, zap.Error(err))
	}
}

// wait holds a request whose sender has been told to wait before, and tells whether it does.
func (c *Component) wait(ctx context.Context, in incoming, conf focus.Conference, d auth.Decision) bool {
	room := d.Room.JID
	hold := c.o.WaitHold
	if conf.Patient() {
		hold = c.o.WaitHoldJitsi
	}
	if d.Verdict != auth.Wait || hold <= 0 || !c.held.again(in.iq.From, room, c.o.Now()) {
		return false
	}
	r := &waiter{
		iq: in.iq, raw: in.raw, asked: conf.Room, d: d, at: in.at, machine: conf.MachineUID, hold: hold, until: c.o.Now().Add(hold),
	}
	if !c.held.hold(ctx, r) {
		return false
	}
	// A host may have entered since it was decided.
	c.rooms.Await(room, r.until)
	return true
}

// arrived has the requests decided again that are held for a room which a host has entered. It does not block.
func (c *Component) arrived(room jid.JID) {
	w := c.work.Load()
	if w == nil {
		return
	}
	for _, r := range c.held.call(room) {
		began := time.Now()
		again := func(ctx context.Context) {
			if c.held.take(r) { // unless its time was over before its turn came
				c.request(ctx, incoming{r.iq, r.raw, began, r})
			}
		}
		if err := w.push(r.iq.From.Bare().String(), again); err != nil && c.held.take(r) {
			c.held.owe(r)
		}
	}
}

// admitted answers the older requests of somebody who has just been let in: affiliations are by bare JID, so they may enter by
// each of them. In Jitsi's role upgrade the page joins by such an older request only: the guest's own connection asks once
// more, with the session of the login, and does nothing with the answer but close the dialog (lib-jitsi-meet
// JitsiConference.ts, authenticateAndUpgradeRole). The session is told to the machine to which it is bound, and to no other
// client of the same account.
func (c *Component) admitted(ctx context.Context, in incoming, conf focus.Conference, d auth.Decision, said *focus.Answer) {
	if said != nil && said.Redirects() {
		return // let in elsewhere, because of what this one request says
	}
	for _, r := range c.held.older(in.iq.From, d.Room.JID, in.held) {
		its := d
		if r.machine != conf.MachineUID {
			its.SessionID, its.Identity = "", ""
		}
		told, sent := c.answer(r.iq, focus.Conference{Room: r.asked}, its, said, r)
		if sent {
			c.strike(ctx, r)
		}
		c.decided(r.iq, told, time.Since(r.at))
	}
}

// expire answers the held requests whose time is over, until ctx ends.
func (c *Component) expire(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		c.settle(ctx, c.held.over(c.o.Now()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settle tells those who were held what is known of them. What cannot be sent now is owed.
func (c *Component) settle(ctx context.Context, all []*waiter) {
	var answered []*waiter
	for _, r := range all {
		var err error
		if r.d, err = c.tell(r.iq, focus.Conference{Room: r.asked}, r.d, nil); later(err) {
			c.held.owe(r)
			continue
		}
		answered = append(answered, r)
		if !r.decided {
			c.decided(r.iq, r.d, time.Since(r.at))
		}
	}
	c.strike(ctx, answered...)
}

// later tells whether what could not be sent may be sent on another stream.
func later(err error) bool {
	return errors.Is(err, stream.ErrDisconnected) || errors.Is(err, stream.ErrBacklog) || errors.Is(err, errLeft)
}

var errLeft = errors.New("left to the next usher")

// tell sends what was decided, and returns what the client is told: while usher stops, nobody is told to ask again who can be
// left to the next usher, which answers when it is there. A client that asks while no usher is connected gets an error from
// Prosody, after which it never asks again (moderator.js).
func (c *Component) tell(iq stanza.IQ, conf focus.Conference, d auth.Decision, said *focus.Answer) (auth.Decision, error) {
	if c.stopping.Load() && focus.AsksAgain(d) {
		if c.leaving.Load() {
			return d, errLeft
		}
		if d.Verdict != auth.Wait { // not ready, perhaps because there was no time left
			d = d.Denied(auth.ReasonStopping, d.Err)
		}
	}
	s := c.stream.Load()
	if s == nil {
		return d, stream.ErrDisconnected
	}
	return d, s.Deliver(focus.Reply(iq, conf, d, d.SessionID, said), func() {
		d := d
		if d.Verdict == auth.Allow {
			d = d.Denied(auth.ReasonRoomUnavailable, stream.ErrDisconnected)
		}
		c.owe(iq, conf.Room, d)
	})
}

// owe has a client be told a decision that has been counted, but could not be sent.
func (c *Component) owe(iq stanza.IQ, asked string, d auth.Decision) {
	c.held.owe(&waiter{iq: iq, asked: asked, d: d, at: time.Now(), decided: true})
}

// dismiss answers all held requests because usher stops, and they are not left to the next one.
func (c *Component) dismiss(ctx context.Context) {
	all := c.held.over(time.Time{})
	for _, r := range all {
		r.d = r.d.Denied(auth.ReasonStopping, nil)
	}
	c.settle(ctx, all)
}

// prepare writes down what is owed while the stream is still there, so that what cannot be written down is answered.
func (c *Component) prepare(ctx context.Context) {
	owed := c.held.over(time.Unix(0, 0)) // long before anything that is held is over
	unwritten, err := c.held.writeAll(owed, c.o.Now())
	if len(unwritten) > 0 {
		c.o.Log.Warn("requests cannot be written down for the next usher, and are answered", zap.Int("requests", len(unwritten)), zap.Error(err))
		c.leaving.Store(false)
	}
	for _, r := range owed {
		if r.key != "" {
			c.held.owe(r)
		}
	}
	c.settle(ctx, unwritten)
}

// leave writes down what is without an answer when usher has stopped, for the next one to answer.
func (c *Component) leave() {
	left := c.held.over(time.Time{})
	lost, err := left, error(nil)
	if c.o.Outlives {
		lost, err = c.held.writeAll(left, c.o.Now())
	}
	c.held.mu.Lock()
	n := len(lost) + c.held.unowed
	c.held.mu.Unlock()
	if n > 0 {
		c.o.Log.Warn("requests end without an answer: they could not be sent one, nor be written down for the next usher", zap.Int("requests", n), zap.Error(err))
	}
	if n := len(left) - len(lost); n > 0 {
		c.o.Log.Info("requests are left to the next usher, which answers them", zap.Int("requests", n))
	}
}

// writeAll writes down those that are not written down yet, and returns those that cannot be, and why.
func (h *held) writeAll(all []*waiter, until time.Time) (unwritten []*waiter, err error) {
	var g errgroup.Group
	g.SetLimit(workers) // which share a sync of the disk
	for _, r := range all {
		if r.key == "" {
			g.Go(func() error { return h.write(context.Background(), r, until) })
		}
	}
	err = g.Wait()
	for _, r := range all {
		if r.key == "" {
			unwritten = append(unwritten, r)
		}
	}
	return unwritten, err
}

// inherit takes in the requests that an earlier process has held. Their answers are owed.
func (c *Component) inherit(ctx context.Context) error {
	n := 0
	for rec, err := range c.o.Store.All(ctx, store.KindHeld) {
		if err != nil {
			return err
		}
		iq, err := readRecord(rec.Value)
		if err != nil {
			c.o.Log.Warn("a held request in the store cannot be read and is passed over", zap.Error(err))
			continue
		}
		n++
		c.held.owe(&waiter{iq: iq, d: auth.Decision{}.Denied(auth.ReasonStopping, nil), at: time.Now(), key: rec.Key})
	}
	if n > 0 {
		c.o.Log.Info("an earlier usher has left requests unanswered", zap.Int("requests", n))
	}
	return nil
}

func readRecord(value []byte) (stanza.IQ, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return stanza.IQ{}, err
	}
	from, err := jid.ParseUnsafe(r.From)
	if err != nil {
		return stanza.IQ{}, err
	}
	to, err := jid.ParseUnsafe(r.To)
	if err == nil && (from.Domainpart() == "" || to.Domainpart() == "") {
		err = errors.New("a request of nobody, or to nobody")
	}
	return stanza.IQ{ID: r.ID, Type: stanza.SetIQ, From: from.JID, To: to.JID}, err
}
