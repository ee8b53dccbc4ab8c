package muc

import (
	"slices"
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
	is := &rm.occupancy
	for _, i := range slices.Clone(is.who) {
		if _, before := was.who.Get(i.Key); !before && g.removedSince(rm, i.Key, f.asked) {
			is.who.Delete(i.Key) // they were put out after they were found
		}
	}
	for _, i := range was.who {
		if _, still := is.who.Get(i.Key); !still {
			change = true
			g.seeGone(rm, i.Value)
		}
	}
	for n := range is.who {
		p := is.who[n].Value
		switch before, met := was.who.Get(is.who[n].Key); {
		case !met:
			change = true
			g.seeCame(rm, p, !rm.told.met)
		case before.moderator != p.moderator:
			change = true
			g.see(Sight{Seen: SeenRole, Room: rm.jid, Who: p.jid(), Bare: p.bare(), Moderator: p.moderator})
			fallthrough
		default:
			is.who[n].Value.full = before.full // the occupant that was told of
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
	if _, told := rm.occupancy.who.Get(bare); told || g.isFocus(who) {
		return
	}
	p := person{full: full, moderator: moderator}
	rm.occupancy.who.Put(bare, p)
	g.seeCame(rm, p, before)
}

func (g *Guard) seeCame(rm *guarded, p person, before bool) {
	g.see(Sight{Seen: SeenCame, Room: rm.jid, Who: p.jid(), Bare: p.bare(), Moderator: p.moderator, Before: before})
}

// seesGone tells that somebody has gone. The caller holds mu.
func (g *Guard) seesGone(rm *guarded, bare string) {
	if p, told := rm.occupancy.who.Get(bare); told {
		rm.occupancy.who.Delete(bare)
		g.seeGone(rm, p)
	}
}

func (g *Guard) seeGone(rm *guarded, p person) {
	g.see(Sight{Seen: SeenGone, Room: rm.jid, Who: p.jid(), Bare: p.bare()})
}

// emptied tells that a room is gone, and everybody in it. The caller holds mu.
func (g *Guard) emptied(rm *guarded) {
	gone := rm.occupancy.who
	rm.occupancy.who = nil
	for _, p := range gone {
		g.seeGone(rm, p.Value)
	}
	g.hosted(rm.jid, &rm.told, false)
	g.see(Sight{Seen: SeenEnd, Room: rm.jid, Why: rm.told.why})
}
