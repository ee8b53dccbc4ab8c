package muc

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// maxKnocked caps the people left to its lobby that Guard remembers for each room.
const maxKnocked = 4 << 10

// Grant gives an affiliation in a room that is open. If it returns nil the server has done so; otherwise what the server may
// have done is taken back soon. The affiliation is also taken back if the person does not join within half a minute or so, or is
// outside for that long; being in a breakout room of this room does not count as outside. One that needs a host is also taken
// back if the person has not joined when no host has been inside for hostAway. One person's grants must come one after the other.
func (g *Guard) Grant(ctx context.Context, give Grant) error {
	gr := newGrant(give, g.Now())
	defer gr.settle(&g.mu)
	rm, was, err := g.enlist(ctx, gr)
	if err != nil {
		return err
	}
	if err := rm.write(ctx, gr, give.With); err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if gr.refused != isGiven { // that was the earlier grant
			gr.on(eventWithdraw)
		}
		err = rm.unwritten(gr, was, err)
		if g.tells(rm.jid) {
			g.auditBy(rm, g.wants(rm))
		}
		return err
	}
	result, err := g.give(ctx, rm, gr, was, give.Context)
	g.mu.Lock()
	defer g.mu.Unlock()
	if result == isGiven && err == nil {
		if result = gr.refused; result == isRefused {
			err = errRefused
		}
	}
	gr.answer(err)
	switch {
	case gr.state == stateOutcast, gr.refused == isBanned: // meanwhile, and nothing is left of it
		rm.drop(gr.Who.String())
		g.looksAgain(rm) // perhaps the room has ended, too
		return ErrOutcast
	case result == isAbsent: // the room that has taken its place, if there is one, is not gone
		rm.drop(gr.Who.String())
		g.looksAgain(rm)
		return ErrAbsent
	case result == ownsRooms:
		rm.drop(gr.Who.String()) // nothing was given, so nothing is to be taken back
		return nil
	case Absent(err):
		g.gone(rm)
		return ErrAbsent
	case result == isBanned:
		rm.drop(gr.Who.String()) // nothing is left of an earlier grant
		g.metBan(rm, gr.Who)
		return ErrOutcast
	case gr.state == stateWithdrawn:
		g.hurries(rm)
		if err == nil {
			err = errWithdrawn
		}
		return err
	}
	g.auditInTime(rm)
	if g.tells(rm.jid) {
		g.auditBy(rm, gr.At.Add(joinWithin))
	}
	gr.freed = result == isOwner
	if gr.hangs() {
		g.hangOnHost(rm)
	}
	return nil
}

// enlist adds a grant that is about to be given to those of its room. It returns the room and the grant that it replaces. If
// that one is being taken back, or the person is being removed, enlist waits until the server has answered.
func (g *Guard) enlist(ctx context.Context, gr *grant) (rm *guarded, was *grant, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bare := gr.Who.String()
	for {
		if err := g.removals.wait(ctx, &g.mu, gr.Room, gr.Who); err != nil {
			return nil, nil, err
		}
		rm = g.rooms[gr.Room.String()]
		if rm == nil {
			return nil, nil, ErrAbsent
		}
		was = rm.live[bare]
		if was == nil || was.state != stateTaking {
			break
		}
		if err := unlocked(ctx, &g.mu, was.taken); err != nil {
			return nil, nil, err
		}
	}
	if was != nil && !gr.NeedsHost { // otherwise they have to come, from wherever they are
		// Where nobody tells, they are taken to be where the last look or an earlier process had them. Somebody away who is told of has yet
		// to come: no look would miss them again.
		told := rm.compared && g.isTold(rm)
		if g.inside(rm, bare) || !told && (was.state == stateJoined || was.state == stateAway) {
			gr.on(eventCame)
		}
	}
	gr.Room = rm.jid // the same, once in memory
	rm.put(bare, gr)
	g.stir(rm)
	return rm, was, nil
}

// giving is how Guard.give ended.
type giving uint8

const (
	isGiven   giving = iota // or failed, as the error says
	isOwner                 // a host has made an owner of the person, who stays one
	isBanned                // the person, or their domain, is banned
	ownsRooms               // an admin of the service owns all rooms
	isAbsent                // there was no room any more, as usher's module said
	isRefused               // the room has refused it for another reason, as usher's module said
)

// give gives an affiliation, unless that would lift a ban or make less of somebody than a host has made of them. was is the earlier
// grant, if there is one. c is what the person's session is to have, if usher's module is there.
func (g *Guard) give(ctx context.Context, rm *guarded, gr, was *grant, c *Context) (giving, error) {
	g.mu.Lock()
	gr.refused = isGiven // what was refused until now was the earlier grant
	g.mu.Unlock()
	told := g.tells(gr.Room)
	if !told { // otherwise the mirror knows it when something is given
		if banned, err := g.outcast(ctx, gr.Room, gr.Who); err != nil {
			return isGiven, err
		} else if banned {
			return isBanned, nil
		}
	}
	if was != nil && !moderates(was.Affiliation) && !moderates(gr.Affiliation) {
		made, err := g.madeOwner(ctx, rm, gr.Who)
		if err != nil {
			return isGiven, err
		}
		if made {
			return isOwner, g.equip(gr, c)
		}
	}
	if gr.Affiliation != "owner" {
		g.mu.Lock()
		rm.demote(gr.Who.String())
		g.mu.Unlock()
	}
	if told {
		sent, err := g.Owner.Told.Give(Given{Room: gr.Room, Who: gr.Who, Affiliation: gr.Affiliation, Context: c})
		switch {
		case errors.Is(err, ErrOutcast):
			return isBanned, nil
		case errors.Is(err, ErrAbsent):
			return isGiven, errNotFound
		case sent || err != nil:
			return isGiven, err
		}
	}
	if err := g.equip(gr, c); err != nil {
		return isGiven, err
	}
	owns, err := rm.give(ctx, gr.Who, gr.Affiliation)
	if owns {
		return ownsRooms, nil
	}
	return isGiven, err
}

// equip has usher's module set what Jitsi's plugins read in the person's session, and nothing else, if there is something to set and the
// module is there.
func (g *Guard) equip(gr *grant, c *Context) error {
	if c == nil {
		return nil
	}
	_, err := g.Owner.Told.Give(Given{Room: gr.Room, Who: gr.Who, Context: c})
	if errors.Is(err, ErrAbsent) {
		return errNotFound
	}
	return err
}

// outcast reports whether somebody, or their domain, is banned from the room.
func (g *Guard) outcast(ctx context.Context, j, who jid.JID) (bool, error) {
	banned, err := g.outcasts.of(ctx, j)
	return slices.ContainsFunc(banned, func(i Item) bool { return i.JID == who.String() || i.JID == who.Domainpart() }), err
}

// madeOwner reports whether a host has made somebody an owner who had less from usher. They stay an owner when they ask again, as
// they do when they come back from a breakout room.
func (g *Guard) madeOwner(ctx context.Context, rm *guarded, who jid.JID) (bool, error) {
	owners, err := g.Owner.WithAffiliation(ctx, rm.jid, "owner")
	if err != nil || !slices.ContainsFunc(owners, func(i Item) bool { return i.JID == who.String() }) {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.EnforceRoles || rm.mayBe(who.String(), "owner"), nil
}

// Withdraw has a grant taken back, and does not wait for that.
func (g *Guard) Withdraw(j, who jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil && rm.live[who.String()] != nil {
		rm.live[who.String()].on(eventWithdraw)
		g.hurries(rm)
	}
}

// LeaveToLobby takes a grant back unless the person is inside, so that the room's lobby decides about them. It returns when that
// is done.
func (g *Guard) LeaveToLobby(ctx context.Context, j, who jid.JID) error {
	g.mu.Lock()
	if rm := g.rooms[j.String()]; rm != nil {
		g.knocks(rm, who.String())
		g.stir(rm)
	}
	g.mu.Unlock()
	if !g.HasGrant(j, who) {
		return nil
	}
	if inside, err := g.Owner.hasInside(ctx, j, who); err != nil || inside {
		return err
	}
	g.mu.Lock()
	rm := g.rooms[j.String()]
	if rm == nil || rm.live[who.String()] == nil {
		g.mu.Unlock()
		return nil
	}
	rm.live[who.String()].on(eventWithdraw)
	g.mu.Unlock()
	return g.takeBack(ctx, rm)
}

// knocks notes that somebody is left to a room's lobby. The caller holds mu.
func (g *Guard) knocks(rm *guarded, bare string) {
	if rm.knocked[bare] {
		return
	}
	if len(rm.knocked) >= maxKnocked {
		for old := range rm.knocked {
			g.forgetKnock(rm, old)
		}
	}
	if rm.knocked == nil {
		rm.knocked = make(map[string]bool)
	}
	rm.knocked[bare] = true
	g.knocked[bare] = append(g.knocked[bare], rm)
}

// forgetKnock forgets that somebody was left to a room's lobby. The caller holds mu.
func (g *Guard) forgetKnock(rm *guarded, bare string) {
	delete(rm.knocked, bare)
	if left := slices.DeleteFunc(g.knocked[bare], func(at *guarded) bool { return at == rm }); len(left) > 0 {
		g.knocked[bare] = left
	} else {
		delete(g.knocked, bare)
	}
}

// HasGrant reports whether somebody holds a grant in the room, or in any room if j is zero.
func (g *Guard) HasGrant(j, who jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for gr := g.holders[who.Bare().String()]; gr != nil; gr = gr.other {
		if gr.state.held() && (j.Equal(jid.JID{}) || gr.Room.Equal(j)) {
			return true
		}
	}
	return false
}

// MayBeIn reports whether somebody may be in the room, or in any room if j is zero: by a grant, or let in from the lobby by a
// moderator.
func (g *Guard) MayBeIn(ctx context.Context, j, who jid.JID) (bool, error) {
	if g.HasGrant(j, who) {
		return true, nil
	}
	bare := who.Bare().String()
	var at []jid.JID
	g.mu.Lock()
	for _, rm := range g.knocked[bare] {
		if j.Equal(jid.JID{}) || rm.jid.Equal(j) {
			at = append(at, rm.jid)
		}
	}
	g.mu.Unlock()
	for _, room := range at {
		members, err := g.members.of(ctx, room)
		if err != nil && !Absent(err) {
			return false, err
		}
		if slices.ContainsFunc(members, func(i Item) bool { return i.JID == bare }) {
			return true, nil
		}
	}
	return false, nil
}

// takeBack takes back what is withdrawn.
func (g *Guard) takeBack(ctx context.Context, rm *guarded) error {
	g.mu.Lock()
	var take []*grant
	for _, gr := range rm.live {
		if gr.on(eventTake) {
			gr.taken, gr.refused = make(chan struct{}), isGiven
			take = append(take, gr)
			g.hands(gr)
		}
	}
	g.mu.Unlock()
	var first error
	for _, gr := range take {
		if err := g.take(ctx, rm, gr); first == nil {
			first = err
		}
	}
	return first
}

// take takes back one grant, unless the person is banned: then nothing is left of the grant, and taking it back would lift the ban.
func (g *Guard) take(ctx context.Context, rm *guarded, gr *grant) error {
	handed := g.tells(rm.jid)
	isBanned, err := g.strip(ctx, rm.jid, gr.Who)
	if errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) || errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
		// An admin of the service, see grants.give, or a JID that a plugin protects (mod_muc_meeting_id.lua).
		err = nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if isBanned {
		g.metBan(rm, gr.Who)
	}
	if err == nil && gr.refused == isRefused {
		err = errRefused
	}
	switch {
	case err != nil:
		gr.on(eventNotTaken)
	case handed && !isBanned && !g.Owner.Told.Takes(rm.jid.Domainpart()): // the module may have gone before it had that
		gr.on(eventNotTaken)
		g.hurries(rm)
	case rm.live[gr.Who.String()] == gr:
		rm.drop(gr.Who.String())
	}
	close(gr.taken)
	return err
}

// strip takes somebody's affiliation, unless that is a ban, and reports whether it is one.
func (g *Guard) strip(ctx context.Context, room, who jid.JID) (isBanned bool, err error) {
	if g.tells(room) {
		sent, err := g.Owner.Told.Give(Given{Room: room, Who: who, Affiliation: "none"})
		switch {
		case errors.Is(err, ErrOutcast):
			return true, nil
		case errors.Is(err, ErrAbsent):
			return false, errNotFound
		case sent || err != nil:
			return false, err
		}
	}
	banned, err := g.outcasts.of(ctx, room)
	if isBanned = slices.ContainsFunc(banned, func(i Item) bool { return i.JID == who.String() }); err != nil || isBanned {
		return isBanned, err
	}
	return false, g.Owner.SetAffiliation(ctx, room, who, "")
}

// Leave takes back what is withdrawn, as long as ctx lasts, because usher stops. The next process takes over the grants, and
// cannot know that they are withdrawn.
func (g *Guard) Leave(ctx context.Context, _ bool) {
	g.mu.Lock()
	withdrawn := make(map[*guarded]bool)
	for _, rm := range g.rooms {
		if rm.any(func(gr *grant) bool { return gr.state == stateWithdrawn }) {
			withdrawn[rm] = true
		}
	}
	g.mu.Unlock()
	var takes errgroup.Group
	takes.SetLimit(atOnce)
	for rm := range withdrawn {
		takes.Go(func() error {
			if err := g.takeBack(ctx, rm); err != nil && !Absent(err) {
				g.Warn(rm.jid, "could not take back an affiliation yet", err)
			}
			return nil
		})
	}
	_ = takes.Wait()
	g.mu.Lock()
	var underWay []chan struct{} // by a look
	for _, rm := range g.rooms {
		for _, gr := range rm.live {
			if gr.state == stateTaking {
				underWay = append(underWay, gr.taken)
			}
		}
	}
	g.mu.Unlock()
	for _, taken := range underWay {
		select {
		case <-taken:
		case <-ctx.Done():
		}
	}
}
