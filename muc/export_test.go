package muc

import (
	"context"
	"time"

	"mellium.im/xmpp/jid"
)

// Count returns how many rooms usher is in, and how many grants are live there.
func (r *Rooms) Count() (rooms, grants int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		grants += len(rm.live)
	}
	return len(r.rooms), grants
}

// LookAtDue looks at some of the rooms that are due, and reports whether others may be.
func (r *Rooms) LookAtDue() (more bool) { return r.lookAtDue() }

// Look looks at a room as if it were time to make it what it must be, and to ask who is inside if audit is true.
func (g *Guard) Look(ctx context.Context, room jid.JID, audit bool) {
	g.mu.Lock()
	rm := g.rooms[room.String()]
	rm.nextEnforce, rm.nextAudit, rm.rightEnds = time.Now(), time.Now().Add(time.Hour), time.Time{}
	if audit {
		rm.nextAudit = time.Now()
	}
	g.mu.Unlock()
	g.look(ctx, rm)
}

// Granted returns how many grants are live.
func (g *Guard) Granted() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rm := range g.rooms {
		n += len(rm.live)
	}
	return n
}
