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
	jid    jid.JID
	until  time.Time
	asking bool // a question is under way
	next   time.Time
	pause  time.Duration
}

// Await asks for a host in the room until a time, and calls Arrived for one.
func (g *Guard) Await(j jid.JID, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.awaited[j.String()]
	if a == nil {
		a = &awaited{jid: j, pause: awaitSeldom, next: g.Now()}
		if rm := g.rooms[j.String()]; rm != nil && g.Now().Sub(rm.expected) < awaitSeldom {
			a.pause = awaitSoon
		}
		g.awaited[j.String()] = a
	}
	if until.After(a.until) {
		a.until = until
	}
}

// Expect says that a host has been admitted to the room and is about to enter, so that people who wait there do not wait long.
func (g *Guard) Expect(j jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		rm.expected = g.Now()
	}
	if a := g.awaited[j.String()]; a != nil {
		a.pause, a.next = awaitSoon, g.Now().Add(awaitSoon)
	}
}

// isDue reports whether it is time to ask for a host. The caller holds mu.
func (a *awaited) isDue(now time.Time) bool { return !a.asking && !now.Before(a.next) }

// await asks once for a host.
func (g *Guard) await(ctx context.Context, a *awaited) {
	host, err := g.HostPresent(ctx, a.jid)
	g.mu.Lock()
	defer g.mu.Unlock()
	a.asking = false
	if err == nil && host {
		delete(g.awaited, a.jid.String())
		g.Arrived(a.jid)
		return
	}
	a.next = g.Now().Add(a.pause)
	a.pause = min(a.pause*3/2, awaitSeldom)
}
