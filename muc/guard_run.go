package muc

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// auditEvery is the interval at which Guard asks who is inside.
	auditEvery = joinWithin / 2
	// endedEvery is the interval at which Guard asks whether people with an ended right are still inside. A token that has ended
	// admits nobody, also not somebody who leaves and comes again. They may be outside for as long, as during a page reload.
	endedEvery = 5 * time.Second
	// hangingEvery is the interval of looks at a room in which a grant hangs on a host.
	hangingEvery = time.Second
	// quietEvery is the interval of looks at a room in which nothing has happened for as long, see pause. It is shorter where Interval
	// is below five seconds: quietFactor times Interval.
	quietEvery, quietFactor = time.Minute, 12
	// lookPause is the time from the end of a look at a room to the next one at the least.
	lookPause = 20 * time.Millisecond
	// askWithin is how long a room may take to answer a question that nobody waits for.
	askWithin = 10 * time.Second
)

// schedule is when a room is looked at. Zero times stand for never.
type schedule struct {
	turn
	looking     bool      // a look is under way
	hurry       bool      // something is to be taken back
	again       bool      // everything is to be looked at, because of what was told
	urgent      bool      // it is in the queue of the urgent rooms
	looked      time.Time // when the last look ended
	nextEnforce time.Time // when to make the room what it must be
	nextAudit   time.Time // when to ask who is inside
	rightEnds   time.Time // when to ask, too, because a right ends; by the clock of the Options
	stirred     time.Time // when something last happened in the room, or somebody asked usher about it
	hang        hang
}

// hang is the part of a schedule that counts while a grant hangs on a host.
type hang struct {
	next     time.Time // when to ask who is inside
	hostless time.Time // since when such looks have found no host, by the clock of the Options; zero if the last one did
}

// errand is what one look at a room is for.
type errand struct {
	enforce bool // make the room what it must be
	audit   bool // ask who is inside
	hang    bool // ask who is inside, because a grant hangs on a host
}

// errand returns what is due.
func (s *schedule) errand(now time.Time) errand {
	return errand{
		enforce: s.again || reached(s.nextEnforce, now),
		audit:   s.again || reached(s.nextAudit, now) || reached(s.rightEnds, now),
		hang:    reached(s.hang.next, now),
	}
}

// reached reports whether a time that may be never has come.
func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// earliest returns the earliest of times that may be never, and whether there is one.
func earliest(all ...time.Time) (first time.Time, some bool) {
	for _, at := range all {
		if !at.IsZero() && (!some || at.Before(first)) {
			first, some = at, true
		}
	}
	return first, some
}

// next returns when the next look is due, and whether there is to be one. Between two looks there is a pause, whatever the reasons for
// them are.
func (s *schedule) next() (at time.Time, some bool) {
	if some = s.hurry || s.again; !some {
		at, some = earliest(s.nextEnforce, s.nextAudit, s.rightEnds, s.hang.next)
	}
	return later(at, s.looked.Add(lookPause)), some
}

// hangOnHost has the room looked at often because a grant hangs on a host, also if the last look failed. The caller holds mu.
func (g *Guard) hangOnHost(rm *guarded) {
	if soon := g.Now().Add(hangingEvery); rm.hang.next.IsZero() || rm.hang.next.After(soon) {
		rm.hang.next = soon
		g.file(rm)
	}
}

// file gives a room its place in one of the two queues, or in none while a look is under way. It must be called whenever the schedule
// has changed. The caller holds mu.
func (g *Guard) file(rm *guarded) {
	at, some := rm.next()
	urgent := rm.hurry || !rm.hang.next.IsZero()
	if gone := g.rooms[rm.key] != rm; gone || rm.looking || !some || urgent != rm.urgent {
		g.queueOf(rm).out(rm)
		if gone || rm.looking || !some {
			return
		}
	}
	rm.urgent = urgent
	if g.queueOf(rm).put(rm, at) {
		g.wake.Ring()
	}
}

// queueOf returns the queue in which a room is, or is to be.
func (g *Guard) queueOf(rm *guarded) *queue[*guarded] {
	if rm.urgent {
		return &g.queues.urgent
	}
	return &g.queues.rooms
}

// hurries has a room looked at as soon as possible. The caller holds mu.
func (g *Guard) hurries(rm *guarded) {
	rm.hurry = true
	g.file(rm)
}

// auditSoon has a room audited as soon as possible. The caller holds mu.
func (g *Guard) auditSoon(rm *guarded) {
	rm.nextAudit = g.Now()
	g.file(rm)
}

// auditInTime has the room audited as soon as a right ends, and every endedEvery while somebody with an ended right is inside: they
// must not enter again by it. The caller holds mu.
func (g *Guard) auditInTime(rm *guarded) {
	now, told := g.Now(), g.isTold(rm)
	for _, gr := range rm.live {
		if !gr.state.held() || gr.Expires.IsZero() || told && gr.state == stateJoined {
			continue // it is told when they leave
		}
		at := gr.Expires
		if gr.state != stateGiven && gr.ended(now) {
			at = now.Add(endedEvery)
		}
		if rm.rightEnds.IsZero() || at.Before(rm.rightEnds) {
			rm.rightEnds = at
		}
	}
	g.file(rm)
}

// stir notes that something happens in a room, or that somebody asks usher about it. Looks come at the interval again. The caller holds
// mu.
func (g *Guard) stir(rm *guarded) {
	now := g.Now()
	rm.stirred = now
	bring := func(at *time.Time, within time.Duration) {
		if at.After(now.Add(within)) {
			*at = now.Add(rand.N(within))
		}
	}
	bring(&rm.nextEnforce, g.Interval)
	bring(&rm.nextAudit, auditEvery)
	g.file(rm)
}

// pause returns the time until the next look at a room, of a kind that comes at an interval. A room is left alone for as long as
// nothing has happened there, up to quietEvery. With EnforceRoles the interval stays, because who made an owner is found out by
// comparing looks that are close to each other. It also stays until the room is written down.
func (g *Guard) pause(rm *guarded, every time.Duration) time.Duration {
	if g.EnforceRoles || rm.lasts != rm.noted {
		return every
	}
	most := max(every, min(quietEvery, quietFactor*g.Interval))
	return min(max(every, g.Now().Sub(rm.stirred)), most)
}

// auditPause returns the time until the next audit. It stays short while somebody is on the way, or the last one has left: what they
// have is to be taken back in time. The caller holds mu.
func (g *Guard) auditPause(rm *guarded) time.Duration {
	unsettled := rm.any(func(gr *grant) bool { return gr.state != stateJoined }) ||
		!rm.emptied.IsZero() && rm.emptied.Before(g.Now())
	if unsettled {
		return auditEvery
	}
	return g.pause(rm, auditEvery)
}

// reschedule plans the next look after one that ended with err. The caller holds mu.
func (g *Guard) reschedule(rm *guarded, e errand, err error) {
	rm.looking, rm.looked = false, g.Now()
	if g.isTold(rm) {
		g.rescheduleTold(rm, e, err)
		return
	}
	if e.enforce || rm.nextEnforce.IsZero() {
		rm.nextEnforce = g.Now().Add(g.pause(rm, g.Interval))
	}
	if e.audit || rm.nextAudit.IsZero() {
		rm.nextAudit, rm.rightEnds = g.Now().Add(g.auditPause(rm)), time.Time{}
	}
	switch {
	case !rm.hanging():
		rm.hang = hang{}
	case err != nil:
		rm.hang.next = g.Now().Add(hostAway)
	case e.audit || e.hang:
		rm.hang.next = g.Now().Add(hangingEvery)
	}
	if err == nil {
		g.auditInTime(rm)
	}
	g.file(rm)
}

// queues are what Run has to do, each in the order in which it is due.
type queues struct {
	expected queue[*awaited] // hosts who have been admitted and are about to enter
	urgent   queue[*guarded] // rooms in which something is to be taken back or hangs on a host
	rooms    queue[*guarded] // other rooms
	others   queue[*awaited] // other hosts; there may be more of these than can be asked for
	turn     bool            // it is the turn of the urgent rooms
}

// Run looks at rooms and asks for awaited hosts until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	var jobs sync.WaitGroup
	var underWay atomic.Int32
	for ctx.Err() == nil {
		var due time.Time
		for underWay.Load() < atOnce {
			job := g.next(g.Now())
			if job == nil {
				due = g.due()
				break
			}
			underWay.Add(1)
			jobs.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, askWithin)
				defer cancel()
				job(ctx)
				if underWay.Add(-1) == atOnce-1 { // Run may wait for that
					g.wake.Ring()
				}
			})
		}
		g.wake.Sleep(ctx, g.Now(), due)
	}
	jobs.Wait()
}

// due returns when the first job is due, or zero if there is none. Since next looked, a job may have become due at once, but then the alarm
// has rung.
func (g *Guard) due() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := &g.queues
	first, _ := earliest(q.expected.first(), q.urgent.first(), q.rooms.first(), q.others.first())
	return first
}

// next takes the most urgent job that is due, or returns nil. Urgent rooms and other rooms take turns, so that neither keep the
// others waiting.
func (g *Guard) next(now time.Time) func(context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first := g.nextHost(&g.queues.expected, now); first != nil {
		return first
	}
	one, other := &g.queues.rooms, &g.queues.urgent
	if g.queues.turn = !g.queues.turn; g.queues.turn {
		one, other = other, one
	}
	for _, l := range []*queue[*guarded]{one, other} {
		if rm, is := l.take(now); is {
			rm.looking = true
			return func(ctx context.Context) { g.look(ctx, rm) }
		}
	}
	return g.nextHost(&g.queues.others, now)
}
