package muc

import "mellium.im/xmpp/jid"

// What Rooms tell of rooms and people. A room tells of everybody who comes and goes while usher is inside. When usher comes back into a
// room after a while, it tells what has changed since. In a room that it did not know, or knows from an earlier process, it finds people
// who have not come just now.

// enters tells of a room that usher has just entered. The caller holds mu.
func (r *Rooms) enters(rm *room, created bool) {
	rm.told.met = rm.told.met || created
	r.meets(rm.jid, &rm.told)
	was := rm.told.inside
	rm.told.inside = nil
	here := make(map[string]bool)
	for _, o := range rm.occupants {
		here[o.full] = true
	}
	for full, who := range was {
		if !here[full] {
			r.see(Sight{Seen: SeenGone, Room: rm.jid, Who: who, Bare: cutBare(full)})
		}
	}
	for _, o := range rm.occupants {
		if _, ok := was[o.full]; !ok {
			r.see(Sight{Seen: SeenCame, Room: rm.jid, Who: o.who(), Bare: o.bare, Moderator: o.moderator, Before: !rm.told.met})
		} else {
			r.see(Sight{Seen: SeenRole, Room: rm.jid, Who: o.who(), Bare: o.bare, Moderator: o.moderator})
		}
	}
	if !rm.told.met {
		r.hosted(rm.jid, &rm.told, r.hostPresent(rm))
		rm.told.met = true
	}
}

// toldOf returns what was told of a room that usher is in no more.
func (rm *room) toldOf() telling {
	t := rm.told
	if rm.open {
		t.inside = make(map[string]jid.JID, len(rm.occupants))
		for _, o := range rm.occupants {
			t.inside[o.full] = o.who()
		}
	}
	return t
}

// emptied tells that a room is gone, and everybody in it. The caller holds mu.
func (r *Rooms) emptied(rm *room) {
	t := rm.toldOf()
	for full, who := range t.inside {
		r.see(Sight{Seen: SeenGone, Room: rm.jid, Who: who, Bare: cutBare(full)})
	}
	r.hosted(rm.jid, &t, false)
	r.see(Sight{Seen: SeenEnd, Room: rm.jid, Why: t.why})
	rm.told = telling{met: true}
}

// seesOccupant tells of an occupant who has come, or changed, and returns who they are. Several sessions of one person may share a nick;
// they are one occupant, by the JID that came first. The caller holds mu.
func (r *Rooms) seesOccupant(rm *room, nick string, o occupant) occupant {
	was, ok := rm.occupants[nick]
	if ok && was.bare == o.bare {
		o.full, o.bare = was.full, was.bare
		if was.moderator != o.moderator && rm.open {
			r.see(Sight{Seen: SeenRole, Room: rm.jid, Who: o.who(), Bare: o.bare, Moderator: o.moderator})
		}
		return o
	}
	r.seesGone(rm, was)
	if rm.open {
		r.see(Sight{Seen: SeenCame, Room: rm.jid, Who: o.who(), Bare: o.bare, Moderator: o.moderator})
	}
	return o
}

// seesGone tells that an occupant has gone; the zero occupant is nobody. The caller holds mu.
func (r *Rooms) seesGone(rm *room, o occupant) {
	if rm.open && o.bare != "" {
		r.see(Sight{Seen: SeenGone, Room: rm.jid, Who: o.who(), Bare: o.bare})
	}
}

// endsBecause notes why usher ends a room. The caller holds mu.
func (r *Rooms) endsBecause(j jid.JID, why string) {
	for _, rooms := range []map[string]*room{r.rooms, r.lost} {
		if rm := rooms[j.String()]; rm != nil {
			rm.told.why = why
		}
	}
}
