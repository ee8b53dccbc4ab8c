package muc

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run looks at rooms until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	var looks errgroup.Group
	var todo agenda
	free, done := atOnce, make(chan struct{}, atOnce)
	tick := time.NewTicker(lookAhead)
	defer tick.Stop()
	var rooms time.Time // when those that are due were last looked for
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-done:
			free++
		case now := <-tick.C:
			also := now.Sub(rooms) >= roomsAhead
			if also {
				rooms = now
			}
			g.plan(&todo, now, also)
		}
		// What finds no slot free has the next one that is, not only at the next tick.
		for free > 0 {
			look := g.next(&todo, time.Now())
			if look == nil {
				break
			}
			free--
			looks.Go(func() error {
				defer func() { done <- struct{}{} }()
				ctx, cancel := context.WithTimeout(ctx, askWithin)
				defer cancel()
				look(ctx)
				return nil
			})
		}
	}
	_ = looks.Wait()
}

// agenda is what was due when that was last looked for. It is taken from the end.
type agenda struct {
	expected []*awaited // hosts who have been admitted and are about to enter
	urgent   []*guarded // rooms in which something is to be taken back or hangs on a host
	rooms    []*guarded // other rooms that we look after
	others   []*awaited // hosts of whom nothing is known; there may be more of those waits than looks can be had
	turn     bool       // whether it is the turn of the urgent ones
}

// plan finds out what is due; with rooms, of the rooms that we look after, too.
func (g *Guard) plan(todo *agenda, now time.Time, rooms bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	todo.expected, todo.others = todo.expected[:0], todo.others[:0]
	for key, a := range g.awaited {
		switch {
		case a.looking:
		case g.Now().After(a.until):
			delete(g.awaited, key)
		case !a.isDue(now):
		case a.pause < seldomest:
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
		case rm.hurry || rm.hangingDue(now):
			todo.urgent = append(todo.urgent, rm)
		default:
			todo.rooms = append(todo.rooms, rm)
		}
	}
}

// next takes the most urgent look that is still due; nil if there is none. Urgent rooms and others have it by turns, so that neither
// keep the others waiting.
func (g *Guard) next(todo *agenda, now time.Time) func(context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	await := func(list *[]*awaited) func(context.Context) {
		a := takeLast(list, func(a *awaited) bool { return a.isDue(now) && g.awaited[a.jid.String()] == a })
		if a == nil {
			return nil
		}
		a.looking = true
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

// takeLast takes the last element that is as asked from a list, with what comes after it; nil if there is none.
func takeLast[T any](list *[]*T, is func(*T) bool) *T {
	for n := len(*list); n > 0; n-- {
		x := (*list)[n-1]
		if *list = (*list)[:n-1]; is(x) {
			return x
		}
	}
	return nil
}

// isDue tells whether it is time to look at a room. The caller holds mu.
func (g *Guard) isDue(rm *guarded, now time.Time) bool {
	return !rm.looking && (rm.hurry || !now.Before(rm.next) || !now.Before(rm.audit) || rm.hangingDue(now) || g.rightEnds(rm))
}
