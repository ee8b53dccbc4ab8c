package muc

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// awaitTick and roomTick are the intervals at which Run finds out which awaited hosts, and which rooms, are due.
	awaitTick, roomTick = 10 * time.Millisecond, 100 * time.Millisecond
	// auditEvery is the interval at which Guard asks who is inside.
	auditEvery = joinWithin / 2
	// endedEvery is the interval at which Guard asks whether people with an ended right are still inside. A token that has ended
	// admits nobody, also not somebody who leaves and comes again. They may be outside for as long, as during a page reload.
	endedEvery = 5 * time.Second
	// hangingEvery is the interval of looks at a room in which a grant hangs on a host.
	hangingEvery = time.Second
	// askWithin is how long a room may take to answer a question that nobody waits for.
	askWithin = 10 * time.Second
)

// schedule is when a room is looked at. Zero times stand for never.
type schedule struct {
	looking     bool      // a look is under way
	hurry       bool      // something is to be taken back
	nextEnforce time.Time // when to make the room what it must be
	nextAudit   time.Time // when to ask who is inside
	rightEnds   time.Time // when to ask, too, because a right ends; by the clock of the Options
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
		enforce: !now.Before(s.nextEnforce),
		audit:   !now.Before(s.nextAudit) || !s.rightEnds.IsZero() && !now.Before(s.rightEnds),
		hang:    s.hangDue(now),
	}
}

func (s *schedule) hangDue(now time.Time) bool {
	return !s.hang.next.IsZero() && !now.Before(s.hang.next)
}

// hangOnHost has the room looked at often because a grant hangs on a host, also if the last look failed.
func (s *schedule) hangOnHost(now time.Time) {
	if soon := now.Add(hangingEvery); s.hang.next.IsZero() || s.hang.next.After(soon) {
		s.hang.next = soon
	}
}

// isDue reports whether it is time to look at a room. The caller holds mu.
func (g *Guard) isDue(rm *guarded, now time.Time) bool {
	return !rm.looking && (rm.hurry || rm.errand(now) != errand{})
}

// auditInTime has the room audited as soon as a right ends, and every endedEvery while somebody with an ended right is inside: they
// must not enter again by it. The caller holds mu.
func (g *Guard) auditInTime(rm *guarded) {
	now := g.Now()
	for _, gr := range rm.live {
		if !gr.state.held() || gr.Expires.IsZero() {
			continue
		}
		at := gr.Expires
		if gr.state != stateGiven && gr.ended(now) {
			at = now.Add(endedEvery)
		}
		if rm.rightEnds.IsZero() || at.Before(rm.rightEnds) {
			rm.rightEnds = at
		}
	}
}

// reschedule plans the next look after one that ended with err. The caller holds mu.
func (g *Guard) reschedule(rm *guarded, e errand, err error) {
	rm.looking = false
	if e.enforce {
		rm.nextEnforce = g.Now().Add(g.Interval)
	}
	if e.audit {
		rm.nextAudit, rm.rightEnds = g.Now().Add(auditEvery), time.Time{}
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
}

// Run looks at rooms and asks for awaited hosts until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	var jobs errgroup.Group
	var todo agenda
	free, done := atOnce, make(chan struct{}, atOnce)
	tick := time.NewTicker(awaitTick)
	defer tick.Stop()
	var planned time.Time // when it was last found out which rooms are due
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-done:
			free++
		case now := <-tick.C:
			rooms := now.Sub(planned) >= roomTick
			if rooms {
				planned = now
			}
			g.plan(&todo, g.Now(), rooms)
		}
		// A job that finds no free slot takes the next one that becomes free. It does not wait for a tick.
		for free > 0 {
			job := g.next(&todo, g.Now())
			if job == nil {
				break
			}
			free--
			jobs.Go(func() error {
				defer func() { done <- struct{}{} }()
				ctx, cancel := context.WithTimeout(ctx, askWithin)
				defer cancel()
				job(ctx)
				return nil
			})
		}
	}
	_ = jobs.Wait()
}

// agenda is what was due when plan last found out. The lists are taken from their ends.
type agenda struct {
	expected []*awaited // hosts who have been admitted and are about to enter
	urgent   []*guarded // rooms in which something is to be taken back or hangs on a host
	rooms    []*guarded // other rooms that are due
	others   []*awaited // other hosts; there may be more of these than can be asked for
	turn     bool       // it is the turn of the urgent rooms
}

// plan finds out which hosts are due, and with rooms also which rooms.
func (g *Guard) plan(todo *agenda, now time.Time, rooms bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	todo.expected, todo.others = todo.expected[:0], todo.others[:0]
	for key, a := range g.awaited {
		switch {
		case a.asking:
		case g.Now().After(a.until):
			delete(g.awaited, key)
		case !a.isDue(now):
		case a.pause < awaitSeldom:
			todo.expected = append(todo.expected, a)
		default:
			todo.others = append(todo.others, a)
		}
	}
	if !rooms {
		return
	}
	todo.urgent, todo.rooms = todo.urgent[:0], todo.rooms[:0]
	for _, rm := range g.rooms {
		switch {
		case !g.isDue(rm, now):
		case rm.hurry || rm.hangDue(now):
			todo.urgent = append(todo.urgent, rm)
		default:
			todo.rooms = append(todo.rooms, rm)
		}
	}
}

// next takes the most urgent job that is still due, or returns nil. Urgent rooms and other rooms take turns, so that neither keep
// the others waiting.
func (g *Guard) next(todo *agenda, now time.Time) func(context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	await := func(list *[]*awaited) func(context.Context) {
		a := takeLast(list, func(a *awaited) bool { return a.isDue(now) && g.awaited[a.jid.String()] == a })
		if a == nil {
			return nil
		}
		a.asking = true
		return func(ctx context.Context) { g.await(ctx, a) }
	}
	look := func(list *[]*guarded) func(context.Context) {
		rm := takeLast(list, func(rm *guarded) bool { return g.isDue(rm, now) && g.rooms[rm.jid.String()] == rm })
		if rm == nil {
			return nil
		}
		rm.looking = true
		return func(ctx context.Context) { g.look(ctx, rm) }
	}
	if first := await(&todo.expected); first != nil {
		return first
	}
	one, other := &todo.rooms, &todo.urgent
	if todo.turn = !todo.turn; todo.turn {
		one, other = other, one
	}
	for _, list := range []*[]*guarded{one, other} {
		if next := look(list); next != nil {
			return next
		}
	}
	return await(&todo.others)
}

// takeLast takes the last element for which is holds from a list, together with the elements after it. It returns nil if there is
// none.
func takeLast[T any](list *[]*T, is func(*T) bool) *T {
	for n := len(*list); n > 0; n-- {
		x := (*list)[n-1]
		if *list = (*list)[:n-1]; is(x) {
			return x
		}
	}
	return nil
}
