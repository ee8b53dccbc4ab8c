package muc

import (
	"context"
	"time"

	"mellium.im/xmpp/jid"
)

// awaitSoon is the first pause between two questions for an awaited host who was just admitted: a host enters within milliseconds
// after the answer to their request. The pause grows to awaitSeldom, which is also the pause for hosts who have not been admitted
// yet.
const awaitSoon, awaitSeldom = 10 * time.Millisecond, time.Second

// awaited is a room in which somebody waits for a host.
type awaited struct {
	turn
	jid    jid.JID
	key    string
	until  time.Time
	asking bool // a question is under way
	next   time.Time
	pause  time.Duration
}

// Await asks for a host in the room until a time, and calls Arrived for one.
func (g *Guard) Await(j jid.JID, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := j.String()
	a, rm := g.awaited[key], g.rooms[key]
	if rm != nil {
		g.stir(rm)
	}
	if a == nil {
		a = &awaited{jid: j, key: key, pause: awaitSeldom, next: g.Now()}
		if rm != nil && g.Now().Sub(rm.expected) < awaitSeldom {
			a.pause = awaitSoon
		}
		g.awaited[key] = a
	}
	if until.After(a.until) {
		a.until = until
	}
	g.fileHost(a)
}

// Expect says that a host has been admitted to the room and is about to enter, so that people who wait there do not wait long.
func (g *Guard) Expect(j jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := j.String()
	if rm := g.rooms[key]; rm != nil {
		rm.expected = g.Now()
	}
	if a := g.awaited[key]; a != nil {
		g.hostQueue(a).out(a)
		a.pause, a.next = awaitSoon, g.Now().Add(awaitSoon)
		g.fileHost(a)
	}
}

// hostQueue returns the queue in which an awaited host is, or is to be.
func (g *Guard) hostQueue(a *awaited) *queue[*awaited] {
	if a.pause < awaitSeldom {
		return &g.queues.expected
	}
	return &g.queues.others
}

// fileHost gives an awaited host a place in a queue, unless a question is under way. The caller holds mu.
func (g *Guard) fileHost(a *awaited) {
	if !a.asking && g.hostQueue(a).put(a, a.next) {
		g.wake.Ring()
	}
}

// unawait forgets an awaited host. The caller holds mu.
func (g *Guard) unawait(a *awaited) {
	delete(g.awaited, a.key)
	g.hostQueue(a).out(a)
}

// awaitAll asks for the hosts who are awaited in the rooms of a service, because what is told of them has changed. The caller holds mu.
func (g *Guard) awaitAll(domain string) {
	for _, a := range g.awaited {
		if a.jid.Domainpart() == domain {
			a.next = g.Now()
			g.fileHost(a)
		}
	}
}

// nextHost takes the next host to ask for that is due, or returns nil. The caller holds mu.
func (g *Guard) nextHost(l *queue[*awaited], now time.Time) func(context.Context) {
	for {
		a, is := l.take(now)
		switch {
		case !is:
			return nil
		case g.Now().After(a.until): // nobody waits any more
			delete(g.awaited, a.key)
			continue
		}
		a.asking = true
		return func(ctx context.Context) { g.await(ctx, a) }
	}
}

// await asks once for a host.
func (g *Guard) await(ctx context.Context, a *awaited) {
	host, err := g.HostPresent(ctx, a.jid)
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.asking = false; g.awaited[a.key] != a {
		return
	}
	if err == nil && host {
		g.unawait(a)
		g.Arrived(a.jid)
		return
	}
	a.next = g.Now().Add(a.pause)
	if g.tells(a.jid) { // it is told when one comes
		a.next = a.until.Add(time.Millisecond)
	}
	a.pause = min(a.pause*3/2, awaitSeldom)
	g.fileHost(a)
}
