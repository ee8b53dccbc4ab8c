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
			if ok && !g.removedSince(rm, who.Bare().String(), asked) {
				g.seesCame(rm, who, i.JID, true, !rm.told.met)
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
		if a := g.awaited[rm.key]; a != nil {
			g.unawait(a)
			g.Arrived(rm.jid)
		}
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

// sees tells what an audit has found in a room that was like that before, and reports whether that is a change. The caller holds mu.
func (g *Guard) sees(rm *guarded, was occupancy, f findings) (change bool) {
	if g.rooms[rm.key] != rm || !rm.known {
		rm.occupancy = occupancy{} // it has ended meanwhile
		return false
	}
	if f.asked.Before(rm.told.at) {
		rm.occupancy = was // of a later audit, which began in another room
		return false
	}
	rm.told.at = g.Now()
	g.meets(rm.jid, &rm.told)
	is := rm.occupancy
	for bare := range is.who {
		if _, before := was.who[bare]; !before && g.removedSince(rm, bare, f.asked) {
			delete(is.who, bare) // they were put out after they were found
		}
	}
	for bare, p := range was.who {
		if _, still := is.who[bare]; !still {
			change = true
			g.see(Sight{Seen: SeenGone, Room: rm.jid, Who: p.jid()})
		}
	}
	for bare, p := range is.who {
		switch before, met := was.who[bare]; {
		case !met:
			change = true
			g.seeCame(rm, p, !rm.told.met)
		case before.moderator != p.moderator:
			change = true
			g.see(Sight{Seen: SeenRole, Room: rm.jid, Who: p.jid(), Moderator: p.moderator})
			fallthrough
		default:
			is.who[bare] = person{full: before.full, moderator: p.moderator} // the occupant that was told of
		}
	}
	g.seesHost(rm, g.hereOrBreakout(rm, occupancy.hosted), f.asked)
	rm.told.met = true
	return change
}

// seesCame tells of somebody inside, once for all their occupants; before says that they have not come just now. full is who as text, which
// is kept. The caller holds mu.
func (g *Guard) seesCame(rm *guarded, who jid.JID, full string, moderator, before bool) {
	bare := cutBare(full)
	if _, told := rm.occupancy.who[bare]; told || g.isFocus(who) {
		return
	}
	if rm.occupancy.who == nil {
		rm.occupancy.who = make(map[string]person)
	}
	p := person{full: full, moderator: moderator}
	rm.occupancy.who[bare] = p
	g.seeCame(rm, p, before)
}

func (g *Guard) seeCame(rm *guarded, p person, before bool) {
	g.see(Sight{Seen: SeenCame, Room: rm.jid, Who: p.jid(), Moderator: p.moderator, Before: before})
}

// seesGone tells that somebody has gone. The caller holds mu.
func (g *Guard) seesGone(rm *guarded, bare string) {
	if p, told := rm.occupancy.who[bare]; told {
		delete(rm.occupancy.who, bare)
		g.see(Sight{Seen: SeenGone, Room: rm.jid, Who: p.jid()})
	}
}

// emptied tells that a room is gone, and everybody in it. The caller holds mu.
func (g *Guard) emptied(rm *guarded) {
	for bare := range rm.occupancy.who {
		g.seesGone(rm, bare)
	}
	g.hosted(rm.jid, &rm.told, false)
	g.see(Sight{Seen: SeenEnd, Room: rm.jid, Why: rm.told.why})
}
