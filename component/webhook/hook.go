package webhook

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// hook is one hook and what waits for it. Its Outbox's mu guards it.
type hook struct {
	name  string // never changes
	conf  Hook
	stats Stats // without what the fields below say

	lanes  map[string]*lane // by room
	due    lanes            // those without a request under way
	order  []*event         // all that wait, the oldest first; and some that are over
	queued int
	flying int // requests under way

	failures int  // in a row
	gone     bool // by 410 Gone
	buried   int64
	told     time.Time // when dead events were told last
}

// lane has the events of one room, which are sent one after the other.
type lane struct {
	events   []*event // never empty
	next     time.Time
	failures int // of the first event
	at       int // the index among those that are due; -1 while a request is under way
}

func newHook(conf Hook) *hook {
	h := &hook{name: conf.Name, conf: conf}
	h.clear()
	return h
}

// clear forgets all events.
func (h *hook) clear() {
	h.lanes, h.due, h.order, h.queued, h.failures = map[string]*lane{}, nil, nil, 0, 0
}

// add adds an event, in its place.
func (h *hook) add(e *event, now time.Time) {
	h.order = insert(h.order, e)
	h.queued++
	l, there := h.lanes[e.room]
	if there {
		l.events = insert(l.events, e)
		return
	}
	l = &lane{events: []*event{e}, next: now}
	h.lanes[e.room] = l
	heap.Push(&h.due, l)
}

// insert inserts an event into a list that is in order.
func insert(all []*event, e *event) []*event {
	if n := len(all); n == 0 || all[n-1].seq < e.seq {
		return append(all, e)
	}
	n, _ := slices.BinarySearchFunc(all, e, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	return slices.Insert(all, n, e)
}

// has reports whether an event waits.
func (h *hook) has(e *event) bool {
	n, there := slices.BinarySearchFunc(h.order, e, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	return there && !h.order[n].over
}

// remove removes an event that is sent or dead.
func (h *hook) remove(e *event) {
	e.over = true
	h.queued--
	l := h.lanes[e.room]
	if l.events[0] == e {
		l.events, l.failures = l.events[1:], 0
	} else {
		l.events = slices.DeleteFunc(l.events, func(each *event) bool { return each == e })
	}
	if len(l.events) == 0 {
		delete(h.lanes, e.room)
		if l.at >= 0 {
			heap.Remove(&h.due, l.at)
		}
	}
	for len(h.order) > 0 && h.order[0].over {
		h.order = h.order[1:]
	}
	if len(h.order) > 2*h.queued+64 {
		h.order = slices.DeleteFunc(h.order, func(each *event) bool { return each.over })
	}
}

// oldest returns the oldest event that is not under way; nil if there is none.
func (h *hook) oldest() *event {
	for _, e := range h.order {
		if !e.over && !e.flying {
			return e
		}
	}
	return nil
}

// take takes the first event of a room that is due; nil if there is none, and then how long until there may be one. Zero means that an
// answer must come first.
func (h *hook) take(now time.Time) (e *event, wait time.Duration) {
	most := parallel
	if h.failures >= down {
		most = 1
	}
	if h.gone || h.flying >= most || len(h.due) == 0 {
		return nil, 0
	}
	if wait = h.due[0].next.Sub(now); wait > 0 {
		return nil, wait
	}
	l := heap.Pop(&h.due).(*lane)
	e = l.events[0]
	e.flying = true
	h.flying++
	return e, 0
}

// hurry makes all events due.
func (h *hook) hurry(now time.Time) {
	h.failures = 0
	for _, l := range h.due {
		l.next = now
	}
	heap.Init(&h.due)
}

// Bounds of the time between two attempts.
const (
	firstPause = time.Second
	lastPause  = time.Hour
)

// backoff returns the time until the next attempt after so many failures. It is random, so that rooms do not come together.
func backoff(failures int) time.Duration {
	d := lastPause
	if failures <= 12 { // 2^12 seconds are more than an hour
		d = min(lastPause, firstPause<<(failures-1))
	}
	return d/2 + rand.N(d/2+1)
}

// lanes is a heap, the lane first that is due first.
type lanes []*lane

func (l lanes) Len() int           { return len(l) }
func (l lanes) Less(i, j int) bool { return l[i].next.Before(l[j].next) }

func (l lanes) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].at, l[j].at = i, j
}

func (l *lanes) Push(x any) {
	x.(*lane).at = len(*l)
	*l = append(*l, x.(*lane))
}

func (l *lanes) Pop() any {
	n := len(*l) - 1
	last := (*l)[n]
	(*l)[n] = nil
	*l = (*l)[:n]
	last.at = -1
	return last
}
