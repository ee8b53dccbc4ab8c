package muc

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// Grant gives an affiliation in a room that is open. If it returns nil the server has done so; otherwise what the server may
// have done is taken back soon. The affiliation is also taken back if the person does not join within half a minute or so, or is
// outside for that long; being in a breakout room of this room does not count as outside. One that needs a host is also taken
// back if the person has not joined when no host has been inside for hostAway. One person's grants must come one after the other.
func (g *Guard) Grant(ctx context.Context, give Grant) error {
	gr, j, who, affiliation := newGrant(give), give.Room, give.Who, give.Affiliation
	bare := who.String()
	rm, was, err := g.record(ctx, j, gr)
	if err != nil {
		return err
	}
	err = rm.write(ctx, gr, give.With)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		return rm.unwritten(gr, was, err)
	}
	banned, err := g.outcast(ctx, j, who)
	made := false
	if err == nil && !banned && was != nil && !moderates(was.Affiliation) && !moderates(affiliation) {
		made, err = g.madeOwner(ctx, rm, who)
	}
	owns := false
	if err == nil && !banned && !made {
		if affiliation != "owner" {
			g.mu.Lock()
			rm.demote(bare)
			g.mu.Unlock()
		}
		owns, err = rm.give(ctx, who, affiliation)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gr.answer(err)
	switch {
	case owns:
		rm.drop(bare) // nothing was given, so nothing is to be taken back
		return nil
	case Absent(err):
		g.gone(rm)
		return ErrAbsent
	case banned:
		rm.drop(bare) // nothing is left of what was given before
		return ErrOutcast
	}
	if gr.state == stateWithdrawn {
		rm.hurry = true
		if err == nil {
			err = errWithdrawn
		}
		return err
	}
	g.auditInTime(rm)
	gr.NeedsHost = gr.NeedsHost && !made // whom a host made one needs none
	if gr.hangs() {
		g.hang(rm)
	}
	return nil
}

// hang has the room looked at often because a grant hangs on a host. The caller holds mu.
func (g *Guard) hang(rm *guarded) {
	if rm.hangs.IsZero() {
		rm.hangs, rm.hostless = time.Now().Add(hangingAhead), time.Time{}
	}
}

// record records a grant that is about to be given, and returns its room and what was there before. If that is just being
// taken back it waits until it is.
func (g *Guard) record(ctx context.Context, j jid.JID, gr *grant) (rm *guarded, was *grant, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		rm = g.rooms[j.String()]
		if rm == nil {
			return nil, nil, ErrAbsent
		}
		was = rm.live[gr.Who.String()]
		if was == nil || was.state != stateTaking {
			break
		}
		taken := was.taken
		g.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			err = ctx.Err()
		}
		g.mu.Lock()
		if err != nil {
			return nil, nil, err
		}
	}
	// Who needs a host is to come, from wherever they are.
	if was != nil && !gr.NeedsHost && (was.state == stateJoined || was.state == stateAway || was.state == stateWithdrawn && g.inside(rm, gr.Who.String())) {
		gr.on(eventCame)
	}
	rm.live[gr.Who.String()] = gr
	return rm, was, nil
}

// outcast tells whether somebody, or their domain, is banned from the room.
func (g *Guard) outcast(ctx context.Context, j, who jid.JID) (bool, error) {
	banned, err := g.outcasts.of(ctx, j)
	return slices.ContainsFunc(banned, func(i Item) bool { return i.JID == who.String() || i.JID == who.Domainpart() }), err
}

// madeOwner tells whether a host has made an owner of somebody to whom we gave less. They stay one when they ask again, as
// they do when they come back from a breakout room.
func (g *Guard) madeOwner(ctx context.Context, rm *guarded, who jid.JID) (bool, error) {
	owners, err := g.Owner.Owners(ctx, rm.jid)
	if err != nil || !slices.ContainsFunc(owners, func(i Item) bool { return i.JID == who.String() }) {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.EnforceRoles || rm.mayBe(who.String(), "owner"), nil
}

// Withdraw has what Grant gave taken back, without waiting for that.
func (g *Guard) Withdraw(j, who jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm := g.rooms[j.String()]; rm != nil && rm.live[who.String()] != nil {
		rm.live[who.String()].on(eventWithdraw)
		rm.hurry = true
	}
}

// LeaveToLobby takes back what Grant gave, unless the person is inside, so that the room's lobby decides about them. It returns when
// that is done.
func (g *Guard) LeaveToLobby(ctx context.Context, j, who jid.JID) error {
	g.mu.Lock()
	if rm := g.rooms[j.String()]; rm != nil {
		if rm.knocked == nil || len(rm.knocked) >= maxKnocked {
			rm.knocked = make(map[string]bool)
		}
		rm.knocked[who.String()] = true
	}
	g.mu.Unlock()
	if !g.HasGrant(j, who) {
		return nil
	}
	for _, list := range []func(context.Context, jid.JID) ([]Item, error){g.Owner.Moderators, g.Owner.Participants, g.Owner.Visitors} {
		items, err := list(ctx, j)
		if err != nil {
			return err
		}
		if bareJIDs(items)[who.String()] {
			return nil
		}
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

// HasGrant tells whether who has something from us in the room; in any room if that is zero.
func (g *Guard) HasGrant(j, who jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rm := range g.rooms {
		if gr := rm.live[who.Bare().String()]; gr != nil && gr.state.held() && (j.Equal(jid.JID{}) || rm.jid.Equal(j)) {
			return true
		}
	}
	return false
}

// MayBeIn tells whether who has something in the room: from us, or from whoever has opened to them since we left them to the lobby;
// in any room if that is zero.
func (g *Guard) MayBeIn(ctx context.Context, j, who jid.JID) (bool, error) {
	if g.HasGrant(j, who) {
		return true, nil
	}
	bare := who.Bare().String()
	var at []jid.JID
	g.mu.Lock()
	for _, rm := range g.rooms {
		if rm.knocked[bare] && (j.Equal(jid.JID{}) || rm.jid.Equal(j)) {
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

// Leave takes back what is withdrawn, as far as ctx lasts, because usher stops. The next process takes over what was granted,
// and would not know that it is withdrawn.
func (g *Guard) Leave(ctx context.Context, _ bool) {
	g.mu.Lock()
	withdrawn := make(map[*guarded]bool)
	var underWay []chan struct{}
	for _, rm := range g.rooms {
		for _, gr := range rm.live {
			switch {
			case gr.state == stateTaking:
				underWay = append(underWay, gr.taken)
			case gr.state == stateWithdrawn:
				withdrawn[rm] = true
			}
		}
	}
	g.mu.Unlock()
	var takes errgroup.Group
	takes.SetLimit(atOnce)
	for rm := range withdrawn {
		takes.Go(func() error {
			if err := g.takeBack(ctx, rm); err != nil && !Absent(err) {
				g.Warn(rm.jid, "an affiliation could not be taken back yet", err)
			}
			return nil
		})
	}
	_ = takes.Wait()
	for _, taken := range underWay {
		select {
		case <-taken:
		case <-ctx.Done():
		}
	}
}

// takeBack takes back what is withdrawn.
func (g *Guard) takeBack(ctx context.Context, rm *guarded) error {
	g.mu.Lock()
	var take []*grant
	for _, gr := range rm.live {
		if gr.on(eventTake) {
			gr.taken = make(chan struct{})
			take = append(take, gr)
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

// take takes back one grant, unless the person is banned: then nothing is left of it, and it would lift the ban.
func (g *Guard) take(ctx context.Context, rm *guarded, gr *grant) error {
	banned, err := g.outcasts.of(ctx, rm.jid)
	isBanned := slices.ContainsFunc(banned, func(i Item) bool { return i.JID == gr.Who.String() })
	if err == nil && !isBanned {
		err = g.Owner.SetAffiliation(ctx, rm.jid, gr.Who, "")
	}
	if errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) || errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
		// An admin of the service, see grants.give, or a JID that a plugin protects (mod_muc_meeting_id.lua).
		err = nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil:
		gr.on(eventNotTaken)
	case rm.live[gr.Who.String()] == gr:
		rm.drop(gr.Who.String())
	}
	close(gr.taken)
	return err
}
