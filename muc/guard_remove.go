package muc

import (
	"context"
	"slices"
	"time"

	"mellium.im/xmpp/jid"
)

// Remove takes somebody's affiliation, even one that others gave, and puts all their occupants out of the room and of its breakout rooms;
// people inside read the reason. If it returns nil, they are outside or the room is gone, and nothing is left of their grant. It
// returns nil, too, if they had nothing and were not inside. A ban stays. After an error a grant is taken back as soon as that is
// possible. The error is [ErrAdmin] for admins of the service. It waits for grants and removals of the same person that are under
// way.
func (g *Guard) Remove(ctx context.Context, j, who jid.JID, reason string) error {
	who = who.Bare()
	bare := who.String()
	live := func() *grant {
		if rm := g.rooms[j.String()]; rm != nil {
			return rm.live[bare]
		}
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gr, done, err := g.removals.begin(ctx, &g.mu, j, who, live)
	if err != nil {
		return err
	}
	defer done()
	g.mu.Unlock()
	err = g.putOut(ctx, j, who, reason)
	g.mu.Lock()
	rm := g.rooms[j.String()]
	if Absent(err) {
		if err = nil; rm != nil {
			g.gone(rm)
		}
	}
	switch {
	case rm == nil && gr != nil:
		close(gr.taken)
	case rm != nil:
		rm.removed(gr, err)
		g.forgetPerson(rm, bare)
		if err != nil {
			g.hurries(rm)
		}
	}
	return err
}

// putOut takes somebody's affiliation and puts them out of the room, then of its breakout rooms. These take affiliations from the
// main room, so nobody can come back into one of them.
func (g *Guard) putOut(ctx context.Context, j, who jid.JID, reason string) error {
	// The room itself is asked: what happened before the request for this may not be told yet. There may be a ban, which must not be lifted,
	// or the room may be a new one.
	banned, err := g.outcastsNow.of(ctx, j)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(banned, func(i Item) bool { return i.JID == who.String() }) {
		if err := g.Owner.setAffiliation(ctx, j, who, "", reason); err != nil {
			return unremovable(err)
		}
		if err := g.expel(ctx, j, who, reason); err != nil {
			return err
		}
	}
	for _, b := range g.breakouts(j) {
		if err := g.expel(ctx, b, who, reason); err != nil && !Absent(err) {
			return err
		}
	}
	return nil
}

// expel puts somebody out who is inside although they have no affiliation, or none of that room.
func (g *Guard) expel(ctx context.Context, j, who jid.JID, reason string) error {
	if inside, err := g.isInside(ctx, j, who); err != nil || !inside {
		return err
	}
	if err := g.Owner.banBriefly(ctx, j, who, reason); err != nil {
		return unremovable(err)
	}
	inside, err := g.isInside(ctx, j, who)
	if err == nil && inside {
		err = errInside
	}
	return err
}

// isInside asks whether somebody is inside. Many people may be put out of one room at once, so its answers are shared.
func (g *Guard) isInside(ctx context.Context, j, who jid.JID) (bool, error) {
	people, err := g.people.of(ctx, j)
	return people[who.String()], err
}

// removedSince reports whether somebody is being removed, or was removed after a time. What the room said of them before is out of
// date. The caller holds mu.
func (g *Guard) removedSince(rm *guarded, bare string, asked time.Time) bool {
	at, ok := rm.putOut[bare]
	return ok && !at.Before(asked) || g.removals.underWay(rm.jid, bare)
}

// forgetPerson forgets where somebody is and what others have made of them, because they were put out. The caller holds mu.
func (g *Guard) forgetPerson(rm *guarded, bare string) {
	rm.demote(bare)
	g.forgetKnock(rm, bare)
	g.seesGone(rm, bare)
	if rm.putOut == nil {
		rm.putOut = make(map[string]time.Time)
	}
	rm.putOut[bare] = g.Now()
	for b := range g.of[rm.jid.String()] {
		g.seesGone(b, bare)
	}
}

// End destroys the room; people inside read the reason. It returns nil, too, if there is no such room. Jitsi's plugin then destroys
// the room's breakout rooms.
func (g *Guard) End(ctx context.Context, j jid.JID, reason string) error {
	g.endsBecause(j, reason) // the end may be told before the answer comes
	err := g.Owner.End(ctx, j, reason)
	if err != nil && !Absent(err) {
		g.endsBecause(j, "")
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		rm.told.why = reason
		g.gone(rm)
	}
	return nil
}

// endsBecause notes why usher ends a room.
func (g *Guard) endsBecause(j jid.JID, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		rm.told.why = why
	}
}

// Say sends nothing and reports that: Guard has no occupant that could speak.
func (g *Guard) Say(_, _ jid.JID, _ string) (bool, error) { return false, nil }
