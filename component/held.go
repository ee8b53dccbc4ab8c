package component

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
)

const (
	// heldPerSender, heldPerRoom and heldAtAll bound the requests that are held. Over a bound the answer is given at once.
	heldPerSender, heldPerRoom, heldAtAll = 4, 4 << 10, 32 << 10
	// remembered is for how long, at least, whoever was told to wait is known to be waiting, and toldAtMost how many of
	// them are known: a waiting client asks every five seconds.
	remembered, toldAtMost = 30 * time.Second, 64 << 10
	// sweepEvery is how often it is looked for requests whose time is over.
	sweepEvery = 100 * time.Millisecond
)

// held are the requests of those who wait for a host and have been told so before: they are answered when a host is inside,
// or when wait_hold is over. They outlive the connection, and are written down, so that whoever comes after us answers them.
type held struct {
	store store.Store

	mu       sync.Mutex
	rooms    map[string]map[*waiter]bool // by room
	senders  map[string]int              // by bare JID
	order    []*waiter                   // all of them, and some that are not held any more, in the order in which they came
	n        int
	told     map[[2]string]bool // who was told to wait, by full JID and room
	toldOld  map[[2]string]bool
	forgotAt time.Time
}

// waiter is a request that is held.
type waiter struct {
	iq    stanza.IQ
	raw   []byte
	room  jid.JID
	at    time.Time // when it came
	until time.Time
}

// record is a held request as it is written down: what it takes to answer it.
type record struct{ ID, From, To string }

func newHeld(s store.Store) *held {
	return &held{
		store: s, rooms: make(map[string]map[*waiter]bool), senders: make(map[string]int),
		told: make(map[[2]string]bool), toldOld: make(map[[2]string]bool),
	}
}

// again tells whether the sender was told to wait for the room before, and remembers that they are told now.
func (h *held) again(from, room jid.JID, now time.Time) bool {
	key := [2]string{from.String(), room.String()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.forgotAt) > remembered || len(h.told) >= toldAtMost {
		h.told, h.toldOld, h.forgotAt = make(map[[2]string]bool), h.told, now
	}
	again := h.told[key] || h.toldOld[key]
	h.told[key] = true
	return again
}

// hold takes in a request, unless there are too many or it cannot be written down.
func (h *held) hold(ctx context.Context, r *waiter) bool {
	value, err := json.Marshal(record{ID: r.iq.ID, From: r.iq.From.String(), To: r.iq.To.String()})
	if err != nil {
		return false
	}
	key, sender := r.room.String(), r.iq.From.Bare().String()
	h.mu.Lock()
	if h.senders[sender] >= heldPerSender || len(h.rooms[key]) >= heldPerRoom || h.n >= heldAtAll {
		h.mu.Unlock()
		return false
	}
	h.senders[sender]++
	h.n++
	h.mu.Unlock()

	err = h.store.Put(ctx, store.KindHeld, store.Record{Key: r.key(), Value: value, End: r.until.Add(time.Hour)})
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.letGo(r)
		return false
	}
	if h.rooms[key] == nil {
		h.rooms[key] = make(map[*waiter]bool)
	}
	h.rooms[key][r] = true
	h.order = append(h.order, r)
	return true
}

// key is the request's key in the store.
func (r *waiter) key() string { return r.iq.From.String() + " " + r.iq.ID }

// letGo takes a request out of the counts. The caller holds mu.
func (h *held) letGo(r *waiter) {
	sender := r.iq.From.Bare().String()
	if h.senders[sender]--; h.senders[sender] == 0 {
		delete(h.senders, sender)
	}
	h.n--
}

// take takes one request out, and tells whether it was held.
func (h *held) take(r *waiter) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeOut(r)
}

func (h *held) takeOut(r *waiter) bool {
	key := r.room.String()
	if !h.rooms[key][r] {
		return false
	}
	if delete(h.rooms[key], r); len(h.rooms[key]) == 0 {
		delete(h.rooms, key)
	}
	h.letGo(r)
	return true
}

// of takes out and returns the requests for a room.
func (h *held) of(room jid.JID) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*waiter
	for r := range h.rooms[room.String()] {
		all = append(all, r)
	}
	for _, r := range all {
		h.takeOut(r)
	}
	return all
}

// over takes out and returns the requests whose time is over; all of them if now is zero.
func (h *held) over(now time.Time) []*waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*waiter
	for len(h.order) > 0 && (now.IsZero() || !now.Before(h.order[0].until)) {
		r := h.order[0]
		h.order[0] = nil
		h.order = h.order[1:]
		if h.takeOut(r) {
			all = append(all, r)
		}
	}
	return all
}

// strike takes requests that have been answered out of the store.
func (c *Component) strike(ctx context.Context, all ...*waiter) {
	if len(all) == 0 {
		return
	}
	keys := make([]string, len(all))
	for i, r := range all {
		keys[i] = r.key()
	}
	if err := c.o.Store.Delete(ctx, store.KindHeld, keys...); err != nil {
		// Whoever comes after us answers them once more, which nobody minds.
		c.o.Log.Warn("answered requests could not be taken out of the store", zap.Error(err))
	}
}

// wait holds a request whose sender has been told to wait before, and tells whether it does.
func (c *Component) wait(ctx context.Context, in incoming, d auth.Decision) bool {
	now := time.Now()
	if d.Verdict != auth.Wait || in.held || c.o.WaitHold <= 0 || !c.held.again(in.iq.From, d.Room.JID, now) {
		return false
	}
	r := &waiter{iq: in.iq, raw: in.raw, room: d.Room.JID, at: in.at, until: now.Add(c.o.WaitHold)}
	if !c.held.hold(ctx, r) {
		return false
	}
	// A host may have entered since it was decided.
	c.rooms.Await(r.room, r.until)
	if c.stopping.Load() && c.held.take(r) {
		c.strike(ctx, r)
		return false
	}
	return true
}

// arrived has the requests decided again that are held for a room which a host has entered. It does not block.
func (c *Component) arrived(room jid.JID) {
	w := c.work.Load()
	if w == nil {
		return
	}
	for _, r := range c.held.of(room) {
		began := time.Now()
		again := func() {
			c.request(w.ctx, incoming{iq: r.iq, raw: r.raw, at: began, held: true})
			c.strike(w.ctx, r)
		}
		if err := w.push(r.iq.From.Bare().String(), again); err != nil {
			c.hostAbsent(r)
		}
	}
}

// expire answers the held requests whose time is over, until ctx ends.
func (c *Component) expire(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			over := c.held.over(now)
			for _, r := range over {
				c.hostAbsent(r)
			}
			c.strike(ctx, over...)
		}
	}
}

// hostAbsent answers a held request for which no host came.
func (c *Component) hostAbsent(r *waiter) {
	d := auth.Decision{Room: auth.Room{JID: r.room}}.Waiting(auth.ReasonHostAbsent)
	c.decided(r.iq, c.answer(r.iq, focus.Conference{Room: r.room.String()}, d, nil), time.Since(r.at))
}

// dismiss answers all held requests because usher stops. Whoever comes after us is asked again.
func (c *Component) dismiss(ctx context.Context) {
	all := c.held.over(time.Time{})
	for _, r := range all {
		d := auth.Decision{Room: auth.Room{JID: r.room}}.Denied(auth.ReasonStopping, nil)
		c.decided(r.iq, c.answer(r.iq, focus.Conference{Room: r.room.String()}, d, nil), time.Since(r.at))
	}
	c.strike(ctx, all...)
}

// answerInherited answers the requests that an earlier process has held.
func (c *Component) answerInherited(ctx context.Context) error {
	var keys []string
	for rec, err := range c.o.Store.All(ctx, store.KindHeld) {
		if err != nil {
			return err
		}
		if iq, err := readRecord(rec.Value); err == nil {
			c.answer(iq, focus.Conference{}, auth.Decision{}.Waiting(auth.ReasonHostAbsent), nil)
		}
		keys = append(keys, rec.Key)
	}
	if len(keys) > 0 {
		c.o.Log.Info("requests that an earlier usher has left unanswered were answered", zap.Int("requests", len(keys)))
	}
	return c.o.Store.Delete(ctx, store.KindHeld, keys...)
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
	return stanza.IQ{ID: r.ID, Type: stanza.SetIQ, From: from.JID, To: to.JID}, err
}
