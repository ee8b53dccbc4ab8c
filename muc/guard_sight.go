package muc

import (
	"time"

	"mellium.im/xmpp/jid"
)

// What Guard tells of rooms and people, as far as it finds them when it looks. It knows people by their bare JID.

// found takes in whether a host was inside a room, or one of its breakout rooms, when it was asked.
func (g *Guard) found(j jid.JID, host bool, asked time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil {
		g.seesHost(rm, host, asked)
	}
}

// seesHost tells whether a host is inside. An answer to a question from before a host was found says nothing. The caller holds mu.
func (g *Guard) seesHost(rm *guarded, host bool, asked time.Time) {
	switch {
	case !rm.ruled():
	case host:
		rm.hostSeen = g.Now()
		g.hosted(rm.jid, &rm.told, true)
	case !asked.Before(rm.hostSeen):
		g.hosted(rm.jid, &rm.told, false)
	}
}

// hasVisitors reports whether visitors were inside at the last look.
func (g *Guard) hasVisitors(rm *guarded) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return rm.occupancy.visitors
}

// sees tells what an audit has found in a room that was like that before. The caller holds mu.
func (g *Guard) sees(rm *guarded, was occupancy, f findings) {
	if g.rooms[rm.jid.String()] != rm || !rm.known {
		rm.occupancy = occupancy{} // it has ended meanwhile
		return
	}
	g.meets(rm.jid, &rm.told)
	is := rm.occupancy
	for bare := range is.bare {
		if !was.bare[bare] && g.removedSince(rm, bare, f.asked) {
			delete(is.bare, bare) // they were put out after they were found
		}
	}
	for bare := range was.bare {
		if !is.bare[bare] {
			g.seeGone(rm, bare)
		}
	}
	seen := make(map[string]bool)
	for _, i := range f.occupants {
		who, ok := i.real()
		bare := who.Bare().String()
		if !ok || g.isFocus(who) || !is.bare[bare] || seen[bare] {
			continue
		}
		seen[bare] = true
		switch s := (Sight{Room: rm.jid, Who: who, Moderator: is.moderators[bare]}); {
		case !was.bare[bare]:
			s.Seen, s.Before = SeenCame, !rm.told.met
			g.see(s)
		case was.moderators[bare] != s.Moderator:
			s.Seen = SeenRole
			g.see(s)
		}
	}
	g.seesHost(rm, g.hereOrBreakout(rm, func(o occupancy) bool { return o.host }), f.asked)
	rm.told.met = true
}

// seesGone notes that somebody was put out. The caller holds mu.
func (g *Guard) seesGone(rm *guarded, bare string) {
	if rm.occupancy.bare[bare] {
		delete(rm.occupancy.bare, bare)
		g.seeGone(rm, bare)
	}
}

// seeGone tells that somebody has gone. The caller holds mu.
func (g *Guard) seeGone(rm *guarded, bare string) {
	if who, err := jid.ParseUnsafe(bare); err == nil && !g.isFocus(who.JID) {
		g.see(Sight{Seen: SeenGone, Room: rm.jid, Who: who.JID})
	}
}

// emptied tells that a room is gone, and everybody in it. The caller holds mu.
func (g *Guard) emptied(rm *guarded) {
	for bare := range rm.occupancy.bare {
		g.seeGone(rm, bare)
	}
	g.hosted(rm.jid, &rm.told, false)
	g.see(Sight{Seen: SeenEnd, Room: rm.jid, Why: rm.told.why})
}
