package muc

import (
	"context"
	"errors"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// How usher puts people out of a room.
//
// Without affiliation nobody stays in a members-only room, nor in one that usher's module guards (mod_muc_affiliated_only.lua): the
// server removes the person and tells everybody inside (status 321). Other rooms keep them, and so do breakout rooms, which take
// affiliations from their main room. There Rooms kick, as their occupant is a moderator. Guard has no occupant, so it bans the
// person and lifts the ban at once. Everybody inside hears of either, so nobody keeps seeing a ghost.

var (
	// ErrAdmin is why a right cannot be taken back.
	ErrAdmin = errors.New("the person is an admin of the MUC service, or has an address that the server protects, and so owns every room. " +
		"Take the address off the service's admins, or block the account")
	// errInside is why a removal has failed although the server accepted all of it.
	errInside = errors.New("the server has taken the right back, and the person is still inside")
	// errOut is why Rooms do not know whether somebody is inside.
	errOut = errors.New("somebody has put usher out of the room just now")
)

// unremovable turns the server's refusal to take somebody's right back into ErrAdmin. Prosody says not-acceptable for admins of the
// service (see grants.give), and muc_meeting_id says not-allowed for people with the node of the focus.
func unremovable(err error) error {
	if errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) || errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
		return ErrAdmin
	}
	return err
}

// removals are the people who are being removed, by room and bare JID. The channel is closed at the end; nobody gives them anything
// before. The lock of the Rooms or the Guard covers it.
type removals map[[2]string]chan struct{}

// wait returns when nobody removes the person. It unlocks mu meanwhile.
func (rs removals) wait(ctx context.Context, mu *sync.Mutex, room, who jid.JID) error {
	for {
		done := rs[[2]string{room.String(), who.String()}]
		if done == nil {
			return nil
		}
		if err := unlocked(ctx, mu, done); err != nil {
			return err
		}
	}
}

// underWay reports whether somebody is being removed.
func (rs removals) underWay(room jid.JID, bare string) bool {
	return rs[[2]string{room.String(), bare}] != nil
}

// begin begins a removal: it waits until no other removal and no request of usher's about the person is under way, and marks their
// grant as being taken back. It returns that grant, or nil; the caller calls done at the end, when it holds mu. live returns the
// person's grant as of now. begin unlocks mu while it waits.
func (rs removals) begin(ctx context.Context, mu *sync.Mutex, room, who jid.JID, live func() *grant) (g *grant, done func(), err error) {
	if err := rs.wait(ctx, mu, room, who); err != nil {
		return nil, nil, err
	}
	key, over := [2]string{room.String(), who.String()}, make(chan struct{})
	rs[key] = over
	done = func() {
		delete(rs, key)
		close(over)
	}
	for g = live(); g != nil; g = live() {
		g.on(eventWithdraw)
		if g.on(eventTake) {
			g.taken = make(chan struct{})
			break
		}
		busy := g.taken
		if g.state.asking() {
			busy = g.settled
		}
		if err := unlocked(ctx, mu, busy); err != nil {
			done()
			return nil, nil, err
		}
	}
	return g, done, nil
}

// removed ends what begin has begun: the grant is dropped, or it is still to be taken back if that failed. The caller holds the lock
// that covers gs.
func (gs *grants) removed(g *grant, err error) {
	if g == nil {
		return
	}
	close(g.taken)
	if err != nil {
		g.on(eventNotTaken)
	} else if gs.live[g.Who.String()] == g {
		gs.drop(g.Who.String())
	}
}

// unlocked waits until a channel is closed, and unlocks mu meanwhile.
func unlocked(ctx context.Context, mu *sync.Mutex, closed <-chan struct{}) error {
	mu.Unlock()
	defer mu.Lock()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// banBriefly puts somebody out by a ban that it lifts at once. Both are sent together, so that nobody takes the ban for one that is
// meant to last.
func (o Owner) banBriefly(ctx context.Context, room, who jid.JID, reason string) error {
	if err := o.sendAffiliation(room, who.Bare().String(), "outcast", reason); err != nil {
		return err
	}
	return o.SetAffiliation(ctx, room, who, "")
}

// kick puts an occupant out (XEP-0045 §8.2). The server asks for the role of who does it, so self is an occupant, by full JID.
func (o Owner) kick(ctx context.Context, room, self jid.JID, nick, reason string) error {
	iq := stanza.IQ{Type: stanza.SetIQ, From: self, To: room}
	return o.Session.IQ(ctx, iq, adminQuery(reason, element.NewAttr("nick", nick), element.NewAttr("role", "none")), nil)
}
