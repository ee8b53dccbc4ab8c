package muc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"mellium.im/xmpp/jid"
)

// grants are what usher gave in one room, by bare JID, and what the ledger knows of the room itself.
type grants struct {
	*Options // of the Rooms or the Guard: there may be very many rooms
	jid      jid.JID
	live     map[string]*grant // changed by put and remove only
	// holders has these grants, too; nil if nobody asks for them by person. The lock that covers gs covers it.
	holders holders

	lasts, noted lasting // what the room is, and what is written down of that
	notedAt      time.Time
}

func newGrants(room jid.JID, o *Options) grants {
	return grants{Options: o, jid: room, live: make(map[string]*grant)}
}

// put has a person hold a grant, instead of an earlier one.
func (gs *grants) put(bare string, g *grant) {
	gs.remove(bare)
	gs.live[bare] = g
	gs.holders.add(bare, g)
}

// remove removes a person's grant if there is one.
func (gs *grants) remove(bare string) {
	if g := gs.live[bare]; g != nil {
		delete(gs.live, bare)
		gs.holders.remove(bare, g)
	}
}

// holders are the grants of all rooms by person: of each bare JID the first one, which leads to the others.
type holders map[string]*grant

func (h holders) add(bare string, g *grant) {
	if h != nil {
		g.other, h[bare] = h[bare], g
	}
}

func (h holders) remove(bare string, g *grant) {
	first := h[bare]
	for at := &first; *at != nil; at = &(*at).other {
		if *at == g {
			*at, g.other = g.other, nil
			break
		}
	}
	if first != nil {
		h[bare] = first
	} else {
		delete(h, bare)
	}
}

// write writes a grant down before it is given. If it then comes to nothing, drop deletes it from the ledger.
func (gs *grants) write(ctx context.Context, g *grant, with any) error {
	return gs.Ledger.Granted(ctx, g.Grant, with)
}

// unwritten removes a grant that could not be written down. An earlier grant comes back, with what happened to it meanwhile; a ban
// has ended it.
func (gs *grants) unwritten(g, was *grant, err error) error {
	if bare := g.Who.String(); gs.live[bare] == g {
		if gs.remove(bare); was != nil {
			gs.put(bare, was)
			switch g.state {
			case stateAsked:
				was.on(eventLeft) // its holder may have left meanwhile, and would not be missed again
			case stateDoomed:
				was.on(eventWithdraw)
			case stateOutcast:
				gs.drop(bare)
			}
		}
	}
	return fmt.Errorf("%w: %w", ErrUnwritten, err)
}

// take takes a grant back, or has it taken back once the server has answered. It does nothing while that is under way. The caller holds the
// lock that covers gs, so that grants and withdrawals are sent in the order in which they are decided.
func (gs *grants) take(bare string) error {
	g := gs.live[bare]
	if g == nil {
		return nil
	}
	if g.on(eventWithdraw); g.state.asking() || g.state == stateTaking {
		return nil
	}
	if err := gs.takeNow(g.Who); err != nil {
		return err
	}
	gs.drop(bare)
	return nil
}

// takeNow takes somebody's affiliation and does not wait: through usher's module where the service has it, as that tells nobody else.
func (gs *grants) takeNow(who jid.JID) error {
	taken, err := gs.Owner.Told.Give(Given{Room: gs.jid, Who: who, Affiliation: "none"})
	switch {
	case errors.Is(err, ErrAbsent), errors.Is(err, ErrOutcast):
		return nil // nothing is left of it
	case taken, err != nil:
		return err
	}
	return gs.send(who.String(), "")
}

// give gives an affiliation, and reports whether there was nothing to give because the person owns all rooms.
func (gs *grants) give(ctx context.Context, who jid.JID, affiliation string) (owns bool, err error) {
	err = gs.Owner.SetAffiliation(ctx, gs.jid, who, affiliation)
	if err != nil && affiliation != "owner" && gs.Owner.protects(ctx, gs.jid, err) {
		return true, nil
	}
	return false, err
}

// send sends an affiliation and does not wait for the answer.
func (gs *grants) send(bare, affiliation string) error {
	return gs.Owner.sendAffiliation(gs.jid, bare, affiliation, "")
}

// drop forgets a grant that has ended.
func (gs *grants) drop(bare string) {
	if g := gs.live[bare]; g != nil {
		gs.remove(bare)
		if g.ledger != found {
			gs.Ledger.Ended(gs.jid, g.Who)
		}
	}
}

// crossOut deletes from the ledger what was written down too late: its room is gone already. If somebody has a newer grant by now, what
// is written down may be that one or the earlier one, so it is written down once more. The caller holds the lock that covers gs.
func (gs *grants) crossOut(g *grant) {
	switch now := gs.live[g.Who.String()]; {
	case now == g:
	case now == nil || now.ledger == found:
		gs.Ledger.Ended(gs.jid, g.Who)
	default:
		now.ledger = unwritten
	}
}

// any reports whether some grant is such.
func (gs *grants) any(such func(*grant) bool) bool {
	for _, g := range gs.live {
		if such(g) {
			return true
		}
	}
	return false
}

// hanging reports whether a grant hangs on a host.
func (gs *grants) hanging() bool { return gs.any((*grant).hangs) }

// end forgets the grants of a room that is gone, except those that keep names.
func (gs *grants) end(keep func(*grant) bool) {
	for bare, g := range maps.Clone(gs.live) {
		if keep == nil || !keep(g) {
			gs.drop(bare)
		}
	}
	if gs.lasts != lastingUnknown {
		gs.Ledger.Ended(gs.jid, gs.jid)
	}
	gs.lasts, gs.noted, gs.notedAt = lastingUnknown, lastingUnknown, time.Time{}
}
