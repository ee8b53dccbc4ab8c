package muc

import (
	"errors"
	"math/rand/v2"
	"time"

	"mellium.im/xmpp/jid"
)

// How Guard looks after rooms that usher's module tells of (see [Told]).
//
// Nothing is looked at by an interval there. What is told changes what Guard knows at once, where that is simple: who has come and
// gone, hosts, kicks and bans. After any other news, and when something becomes due, Guard looks at the room as at any other; the answers
// come from the mirror, and cost nothing. So both ways end alike. News may come between the answers and their conclusions: then Guard
// looks once more, see guarded.news.
//
// A grant is given by one message. It is taken back when its holder leaves, unless they may be on the way to a breakout room or
// back. When a service falls silent, all its rooms are looked at as any other.

// soonTaken is the time after which a grant is taken back of somebody who has left. If everybody leaves, the room ends meanwhile, and
// nothing has to be sent. What is taken back counts no more for usher from the beginning.
const soonTaken = time.Second

// tells reports whether the service of a room tells of it.
func (g *Guard) tells(room jid.JID) bool { return g.Owner.Told.Tells(room.Domainpart()) }

// isTold reports whether a room is told of, and all its breakout rooms are. The caller holds mu.
func (g *Guard) isTold(rm *guarded) bool {
	if !g.tells(rm.jid) {
		return false
	}
	for b := range g.of[rm.key] {
		if !g.tells(b.jid) {
			return false
		}
	}
	return true
}

// News takes in what usher's module told, in order, after the mirror has changed. It does not wait for anything.
func (g *Guard) News(n News) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch n.Kind {
	case NewsTells:
		g.beginTold(n.Room.Domainpart())
		return
	case NewsSilent:
		g.endTold(n.Room.Domainpart())
		return
	case NewsRefused:
		g.refused(n)
		return
	}
	if !g.tells(n.Room) {
		return // the mirror is not complete
	}
	rm := g.rooms[n.Room.String()]
	if rm == nil {
		// A room is opened by the first request. Until then only the focus is inside. Breakout rooms are known from their first request on.
		if n.Kind != NewsEnded && g.Owner.Told.begun(n.Room, g.Configuration, g.notFocus) {
			g.adopt(n.Room)
		}
		return
	}
	rm.news++
	switch n.Kind {
	case NewsRoom, NewsSettings:
		g.looksAgain(rm)
	case NewsEnded:
		g.gone(rm)
	case NewsJoined:
		g.heardJoined(rm, n)
	case NewsLeft:
		g.heardLeft(rm, n)
	case NewsRole:
		bare := n.Who.Bare().String()
		p, _ := rm.occupancy.who.Get(bare)
		g.hasRole(rm, n.Who, bare, p.moderator)
	case NewsAffiliation:
		g.heardAffiliation(rm, n)
	}
}

// beginTold has each room of a service compared with the mirror once, and the rooms there that are not known adopted. The caller holds mu.
func (g *Guard) beginTold(domain string) {
	for _, j := range g.Owner.Told.all(domain, g.Configuration, g.notFocus) {
		g.adopt(j)
	}
	for _, rm := range g.rooms {
		if rm.jid.Domainpart() == domain {
			rm.roles.judged, rm.compared = false, false
			soon := g.Now().Add(rand.N(g.Interval))
			rm.nextEnforce, rm.nextAudit = soon, soon
			if rm.looking { // what that look asked may be out of date, and its end plans the next one
				rm.news++
				rm.again = true
			}
			g.file(rm)
		}
	}
	g.awaitAll(domain)
}

// endTold has the rooms of a service looked at as if there were no module. The caller holds mu.
func (g *Guard) endTold(domain string) {
	for _, rm := range g.rooms {
		if rm.jid.Domainpart() != domain {
			continue
		}
		g.asksAgain(rm)
		if main := g.holder(rm); main != rm {
			g.asksAgain(main)
		}
	}
	if !g.Owner.Told.Takes(domain) {
		g.takeLost(domain)
	}
	g.awaitAll(domain)
}

// hands notes that the module is about to be handed a grant to be taken back. The caller holds mu.
func (g *Guard) hands(gr *grant) {
	if g.tells(gr.Room) {
		g.handed.add(sent{gr.Room, gr.Who, g.Now()})
	}
}

// takeLost takes back once more what was handed to the module of a service, which is gone, a short time ago. The caller holds mu.
func (g *Guard) takeLost(domain string) {
	for _, s := range g.handed.cut(g.Now(), func(room jid.JID) bool { return room.Domainpart() == domain }) {
		if rm := g.rooms[s.room.String()]; rm != nil && g.takeAgain(rm, s.who.String()) {
			g.hurries(rm)
		}
	}
}

// takeAgain notes that somebody still has what the module was to take back, and reports whether there is no later grant. The caller holds
// mu.
func (g *Guard) takeAgain(rm *guarded, bare string) bool {
	if rm.live[bare] != nil || rm.banned[bare] {
		return false
	}
	rm.put(bare, withdrawn(rm.jid, bare))
	return true
}

// asksAgain has a room looked at at the interval that was told of until now. The caller holds mu.
func (g *Guard) asksAgain(rm *guarded) {
	rm.stirred, rm.compared = g.Now(), false
	g.spread(rm)
	g.auditInTime(rm)
	if rm.hanging() {
		g.hangOnHost(rm)
	}
}

// notFocus reports whether a full JID, as text, is of somebody other than the focus and usher.
func (g *Guard) notFocus(full string) bool {
	who, ok := Item{JID: full}.real()
	return ok && !g.isFocus(who)
}

// looksAgain has a room looked at as a whole as soon as possible. The caller holds mu.
func (g *Guard) looksAgain(rm *guarded) {
	rm.again = true
	g.file(rm)
}

// holder returns the room of which a room has its affiliations: its main room, if that is known, or itself. The caller holds mu.
func (g *Guard) holder(rm *guarded) *guarded {
	if rm.ruled() {
		return rm
	}
	if main := g.rooms[rm.main.String()]; main != nil {
		return main
	}
	return rm
}

// heardJoined takes in that somebody has come, perhaps for the second time. The caller holds mu.
func (g *Guard) heardJoined(rm *guarded, n News) {
	if g.isFocus(n.Who) {
		rm.occupancy.focus = rm.occupancy.focus || n.Who.Bare().Equal(g.Focus)
		return
	}
	bare, holder := cutBare(n.full), g.holder(rm)
	rm.used, rm.emptied, holder.emptied = true, time.Time{}, time.Time{}
	rm.occupancy.visitors = rm.occupancy.visitors || n.Role == "visitor"
	g.meets(rm.jid, &rm.told)
	before, _ := rm.occupancy.who.Get(bare)
	g.seesCame(rm, n.Who, n.full, n.Role == "moderator", false)
	if gr := holder.live[bare]; gr != nil {
		gr.on(eventCame)
	}
	g.hasRole(rm, n.Who, bare, before.moderator)
	if rm.ruled() && !rm.mayBe(bare, n.Affiliation) {
		g.looksAgain(rm)
	}
}

// heardLeft takes in that somebody has left, perhaps with one of their occupants only. The caller holds mu.
func (g *Guard) heardLeft(rm *guarded, n News) {
	if n.Why == "renamed" {
		return // with the next thing that is told they are inside again, by another nick
	}
	if g.isFocus(n.Who) {
		rm.occupancy.focus = g.Owner.Told.inside(rm.jid, g.Focus.String()) > rankNone
		return
	}
	bare := n.Who.Bare().String()
	before, _ := rm.occupancy.who.Get(bare)
	if g.Owner.Told.inside(rm.jid, bare) == rankUnsaid {
		g.seesGone(rm, bare)
		g.leaves(rm, bare, n)
	}
	g.hasRole(rm, n.Who, bare, before.moderator)
	if by, err := jid.ParseUnsafe(n.By); n.Why == "kicked" && n.By != "" && err == nil && !g.isFocus(by.JID) && g.Removed != nil {
		g.Removed(rm.jid, n.Who.Bare(), false) // a server or a plugin that kicks names nobody
	}
}

// leaves has a grant end of which the holder has left a room. The caller holds mu.
func (g *Guard) leaves(rm *guarded, bare string, n News) {
	holder := g.holder(rm)
	defer func() {
		if holder.lasts == temporary && holder.emptied.IsZero() && !g.hereOrBreakout(holder, occupancy.people) {
			holder.emptied = g.Now()
		}
		g.auditBy(holder, g.wants(holder))
		g.auditInTime(holder)
	}()
	gr := holder.live[bare]
	if gr == nil || g.inside(holder, bare) {
		return
	}
	fresh := g.Now().Sub(gr.At) < joinWithin && n.Why != "kicked"
	switch {
	case gr.state.asking(), gr.state == stateGiven:
		gr.on(eventLeft)
	case fresh: // they were admitted once more, or are quick to leave
		gr.on(eventLeft)
	case n.Breakouts, !rm.ruled(), g.parted(holder):
		if gr.on(eventMissed) {
			gr.since = g.Now()
		}
	default:
		gr.on(eventWithdraw)
	}
}

// hasRole compares what Guard knows of the role of somebody with the mirror, and whether a host is inside. before says whether they
// moderated until now. The caller holds mu.
func (g *Guard) hasRole(rm *guarded, who jid.JID, bare string, before bool) {
	moderator := g.Owner.Told.inside(rm.jid, bare) == rankModerator
	if p, is := rm.occupancy.who.Get(bare); is && p.moderator != moderator {
		rm.occupancy.who.Put(bare, person{full: p.full, moderator: moderator})
		g.see(Sight{Seen: SeenRole, Room: rm.jid, Who: p.jid(), Bare: p.bare(), Moderator: moderator})
	}
	if host := rm.occupancy.host; g.countable(who) && (moderator && !host || before && !moderator && host) {
		g.findHost(rm)
	}
}

// findHost finds out from the mirror whether a host is inside. The caller holds mu.
func (g *Guard) findHost(rm *guarded) {
	moderators, told, err := g.Owner.Told.list(rm.jid, "role", "moderator")
	if !told || err != nil {
		g.looksAgain(rm)
		return
	}
	rm.occupancy.host = g.hostIn(rm, moderators)
	holder := g.holder(rm)
	host := g.hereOrBreakout(holder, occupancy.hosted)
	g.meets(holder.jid, &holder.told)
	g.seesHost(holder, host, g.Now())
	switch {
	case host:
		holder.hang.hostless = time.Time{}
	case holder.hang.hostless.IsZero() && holder.hanging():
		holder.hang.hostless, holder.hang.next = g.Now(), g.Now().Add(hostAway)
		g.file(holder)
	}
}

// heardAffiliation takes in that somebody has another affiliation, whether they are inside or not. The caller holds mu.
func (g *Guard) heardAffiliation(rm *guarded, n News) {
	bare := n.Who.String()
	by, _ := jid.ParseUnsafe(n.By)
	ours := g.isOurs(by.JID)
	gr := rm.live[bare]
	if n.Affiliation == "outcast" {
		if !ours {
			g.heardBan(rm, n.Who)
		}
		return
	}
	delete(rm.banned, bare)
	if gr != nil && n.Affiliation == "none" {
		gr.on(eventUnbanned)
		if !ours && !gr.state.asking() && gr.state != stateTaking && !g.inside(rm, bare) {
			rm.drop(bare) // an owner has taken it
		}
	}
	if ours && gr == nil && n.Affiliation != "none" && rm.ruled() {
		g.strays(rm, n)
	}
	switch {
	case !rm.above(bare, n.Affiliation):
		delete(rm.roles.made, bare)
	case ours:
	case g.rules(rm, n.By):
		rm.accept(bare)
		g.findHost(rm) // they count as one from now on
	default:
		rm.rejects(bare)
		g.looksAgain(rm)
	}
}

// strays takes in that somebody has what usher gave, although the grant has ended: an owner took an earlier one in that moment, and the
// room had the later one afterwards. It is a grant again. The caller holds mu.
func (g *Guard) strays(rm *guarded, n News) {
	bare := n.Who.String()
	gr := &grant{Grant: &Grant{Room: rm.jid, Who: n.Who, Affiliation: n.Affiliation, At: g.Now()}, state: stateGiven, ledger: found}
	if g.inside(rm, bare) {
		gr.on(eventCame)
	}
	rm.put(bare, gr)
	g.auditBy(rm, g.wants(rm))
}

// heardBan takes in that somebody else than usher has banned somebody, or a whole domain. The caller holds mu.
func (g *Guard) heardBan(rm *guarded, who jid.JID) {
	bare := who.String()
	if !rm.banned[bare] && g.Removed != nil {
		if rm.banned == nil {
			rm.banned = make(map[string]bool)
		}
		rm.banned[bare] = true
		if who.Localpart() != "" && !g.removals.underWay(rm.jid, bare) {
			g.Removed(rm.jid, who, true)
		}
	}
	if gr := rm.live[bare]; gr != nil && !gr.on(eventBanned) && !gr.state.asking() {
		rm.drop(bare) // nothing is left of it
	}
}

// errRefused is why something was not given.
var errRefused = errors.New("the MUC service refuses it")

// refused takes in that a room has refused something. That may be heard before the method that gave or took it goes on: then the
// grant carries it there, as if the method had waited for the answer. The caller holds mu.
func (g *Guard) refused(n News) {
	rm := g.rooms[n.Room.String()]
	if rm == nil {
		return
	}
	rm.news++
	bare := n.Who.Bare().String()
	gr, why := rm.live[bare], errors.Join(errRefused, errors.New(n.Why))
	switch {
	case n.Affiliation == "none":
		switch {
		case nothingGiven(n.Why):
		case gr != nil && gr.state == stateTaking:
			gr.refused = isRefused
			g.Warn(rm.jid, "could not take back an affiliation yet", why)
		case g.takeAgain(rm, bare):
			g.Warn(rm.jid, "could not take back an affiliation yet", why)
			g.auditBy(rm, g.Now().Add(g.Interval))
		}
	case gr == nil, gr.Affiliation != n.Affiliation: // that one has ended, or a later one has replaced it
	case gr.state.asking():
		if gr.refused = refusal(n.Why); gr.refused == isRefused {
			g.Warn(rm.jid, "could not give "+n.Affiliation+" to "+bare, why)
		}
	case !gr.state.held():
	case nothingGiven(n.Why):
		rm.drop(bare)
	default:
		g.Warn(rm.jid, "could not give "+n.Affiliation+" to "+bare, why)
		gr.on(eventWithdraw)
		g.hurries(rm)
	}
}

// refusal returns how something has ended that a room has refused.
func refusal(why string) giving {
	switch why {
	case "outcast":
		return isBanned
	case "item-not-found":
		return isAbsent
	case "not-acceptable":
		return ownsRooms
	}
	return isRefused
}

// nothingGiven reports whether a room that refuses something so has nothing of usher's: the person is banned, the room is gone, or it is
// an admin of the service, or an address that a plugin protects (mod_muc_meeting_id.lua).
func nothingGiven(why string) bool { return refusal(why) != isRefused || why == "not-allowed" }

// auditBy has a room audited at a time at the latest, unless that is never. The caller holds mu.
func (g *Guard) auditBy(rm *guarded, at time.Time) {
	if at.IsZero() {
		return
	}
	if rm.nextAudit.IsZero() || at.Before(rm.nextAudit) {
		rm.nextAudit = at
		g.file(rm)
	}
}

// wants returns when a room that is told of has to be audited although nothing is told, or zero for never: something is to be taken
// back then, or written down. The caller holds mu.
func (g *Guard) wants(rm *guarded) time.Time {
	var all []time.Time
	for _, gr := range rm.live {
		switch {
		case gr.state == stateAway:
			since := gr.since.Add(auditEvery)
			if late := gr.At.Add(joinWithin); late.After(since) {
				since = late
			}
			all = append(all, since)
		case gr.state == stateWithdrawn:
			all = append(all, g.Now().Add(soonTaken))
		case gr.state == stateTaking:
		case gr.state != stateJoined:
			all = append(all, gr.At.Add(joinWithin))
		case gr.ledger == unwritten:
			all = append(all, g.Now().Add(auditEvery))
		}
	}
	if !rm.emptied.IsZero() {
		all = append(all, rm.emptied.Add(auditEvery))
	}
	if due := rm.noteAt(); !due.IsZero() {
		all = append(all, due)
	}
	first, _ := earliest(all...)
	return first
}

// rescheduleTold plans the next look at a room that is told of. The caller holds mu.
func (g *Guard) rescheduleTold(rm *guarded, e errand, err error) {
	now := g.Now()
	if e.enforce {
		rm.nextEnforce = time.Time{}
	}
	if e.audit {
		rm.nextAudit, rm.rightEnds = time.Time{}, time.Time{}
	}
	if err != nil {
		rm.nextEnforce, rm.nextAudit = now.Add(g.Interval), now.Add(g.Interval)
	} else if at := g.wants(rm); !at.IsZero() {
		g.auditBy(rm, later(at, now.Add(time.Second)))
	}
	switch {
	case !rm.hanging():
		rm.hang = hang{}
	case err != nil:
		rm.hang.next = now.Add(hostAway)
	case g.hereOrBreakout(rm, occupancy.hosted):
		rm.hang.next = time.Time{} // it is told when the last one leaves
	default:
		rm.hang.next = later(rm.hang.hostless.Add(hostAway), now.Add(hangingEvery))
	}
	if err == nil {
		g.auditInTime(rm)
	}
	g.file(rm)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// needless reports whether a look would find nothing to do, because everybody has come by now who was waited for. The caller
// holds mu.
func (g *Guard) needless(rm *guarded, e errand) bool {
	pending := rm.again || rm.hurry || e.enforce || e.hang || reached(rm.rightEnds, g.Now()) || !rm.emptied.IsZero() || rm.noteDue() || rm.altered
	return !pending && rm.compared && g.isTold(rm) && !rm.any(func(gr *grant) bool { return gr.state != stateJoined || gr.ledger == unwritten })
}

// rules reports whether somebody may make owners: a host, or an admin of the service, who is on no list. Jicofo may not, and neither may
// a plugin, which names nobody, or an owner made by one of these. The caller holds mu.
func (g *Guard) rules(rm *guarded, by string) bool {
	who, ok := Item{JID: by}.real()
	if !ok || g.isFocus(who) {
		return false
	}
	bare := who.Bare().String()
	return rm.mayBe(bare, "owner") || g.Owner.Told.affiliation(rm.jid, bare) <= rankNone
}

// inside returns the role of somebody in a room by its mirror, the highest one of their occupants; rankUnsaid if they are not inside.
func (t *Told) inside(room jid.JID, bare string) (role rank) {
	t.of(room, func(rm *mirrored) {
		for _, p := range rm.people {
			if p.bareJID() == bare {
				role = max(role, p.role)
			}
		}
	})
	return role
}

// affiliation returns what somebody is on a room's lists by its mirror.
func (t *Told) affiliation(room jid.JID, bare string) (is rank) {
	t.of(room, func(rm *mirrored) { is = rm.has(bare).affiliation })
	return is
}

// begun reports whether a room that is no breakout room has such an occupant, by full JID, or is not what it must be.
func (t *Told) begun(room jid.JID, c Configuration, such func(full string) bool) (is bool) {
	t.of(room, func(rm *mirrored) { is = rm.begun(c, such) })
	return is
}

func (rm *mirrored) begun(c Configuration, such func(full string) bool) bool {
	switch {
	case rm.settings.main != "":
		return false
	case c.MembersOnly && rm.settings.flags&flagMembersOnly == 0:
		return true
	}
	for _, p := range rm.people {
		if such(p.full) {
			return true
		}
	}
	return false
}

// all returns the rooms of a service for which begun holds.
func (t *Told) all(domain string, c Configuration, such func(full string) bool) (rooms []jid.JID) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s := t.tellers[domain]; s != nil {
		for _, rm := range s.rooms {
			if rm.begun(c, such) {
				rooms = append(rooms, rm.jid)
			}
		}
	}
	return rooms
}
