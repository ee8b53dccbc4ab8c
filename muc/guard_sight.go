package muc

import (
	"time"

	"mellium.im/xmpp/jid"
)

// What Guard tells of rooms and people, as far as it finds them when it looks. It knows people by their bare JID.

// found takes in the moderators of a room that were asked for, and whether a host is inside, there or in a breakout room.
func (g *Guard) found(j jid.JID, moderators []Item, host bool, asked time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	if rm == nil {
		return
	}
	if !asked.Before(rm.told.at) { // otherwise some may have left since
		for _, i := range moderators {
			who, ok := i.real()
			if bare := who.Bare().String(); ok && !rm.occupancy.bare[bare] && !g.removedSince(rm, bare, asked) {
				g.seesCame(rm, who, true)
			}
		}
	}
	g.seesHost(rm, host, asked)
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
	if f.asked.Before(rm.told.at) {
		rm.occupancy = was // of a later audit, which began in another room
		return
	}
	rm.told.at = g.Now()
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
	for _, i := range f.occupants {
		who, ok := i.real()
		switch bare := who.Bare().String(); {
		case !ok || !is.bare[bare]:
		case !was.bare[bare]:
			g.seesCame(rm, who, is.moderators[bare])
		case was.moderators[bare] != is.moderators[bare] && !g.isFocus(who):
			g.see(Sight{Seen: SeenRole, Room: rm.jid, Who: who, Moderator: is.moderators[bare]})
		}
	}
	g.seesHost(rm, g.hereOrBreakout(rm, func(o occupancy) bool { return o.host }), f.asked)
	rm.told.met = true
}

// seesCame tells of somebody inside, once for all their occupants. The caller holds mu.
func (g *Guard) seesCame(rm *guarded, who jid.JID, moderator bool) {
	bare := who.Bare().String()
	if _, told := rm.told.inside[bare]; told || g.isFocus(who) {
		return
	}
	for _, all := range []*map[string]bool{&rm.occupancy.bare, &rm.occupancy.moderators} {
		if *all == nil {
			*all = make(map[string]bool)
		}
	}
	rm.occupancy.bare[bare], rm.occupancy.moderators[bare] = true, moderator
	if rm.told.inside == nil {
		rm.told.inside = make(map[string]jid.JID)
	}
	rm.told.inside[bare] = who
	g.see(Sight{Seen: SeenCame, Room: rm.jid, Who: who, Moderator: moderator, Before: !rm.told.met})
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
	if who, told := rm.told.inside[bare]; told {
		delete(rm.told.inside, bare)
		g.see(Sight{Seen: SeenGone, Room: rm.jid, Who: who})
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
