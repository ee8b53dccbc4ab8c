package muc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// grant is a Grant, and what has become of it.
type grant struct {
	Grant
	joined bool
	missed time.Time // since when they are not seen inside any more; by Guard
	// asked is true until the server has answered. Only then what is to be taken back is: before, it might arrive first.
	asked, withdrawn bool
	found            bool          // others gave it, and it is written down nowhere; see adopt.go
	unwritten        bool          // it is still to be written down; by Guard
	banned           bool          // by an owner in the meantime; by Rooms
	taken            chan struct{} // while it is being taken back; closed after that; by Guard
}

// newGrant returns a grant that is about to be given. What it is given with is for the ledger only.
func newGrant(g Grant) *grant {
	g.At, g.With = time.Now(), nil
	return &grant{Grant: g, asked: true}
}

// ended tells whether the right is over.
func (g *grant) ended(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// hostAway is how long the last host must have been away for a grant that hung on a host to end. A page reload takes less.
const hostAway = 5 * time.Second

// hangs reports whether the grant ends with the last host: its holder has not come yet.
func (g *grant) hangs() bool { return g.NeedsHost && !g.joined && !g.withdrawn }

// grants are what we gave in one room, by bare JID.
type grants struct {
	room   jid.JID
	owner  Owner
	ledger Ledger
	live   map[string]*grant

	lasts, noted lasting // what the room is, and what is written down of that
	notedAt      time.Time
}

func newGrants(room jid.JID, o Options) grants {
	return grants{room: room, owner: o.Owner, ledger: o.Ledger, live: make(map[string]*grant)}
}

// write writes the grant down before it is given. What comes to nothing is crossed out by drop.
func (gs *grants) write(ctx context.Context, g *grant, with any) error {
	down := g.Grant
	down.With = with
	return gs.ledger.Granted(ctx, down)
}

// unwritten undoes the record of a grant that could not be written down, so that what was there before counts, and what
// befell it meanwhile.
func (gs *grants) unwritten(g, was *grant, err error) error {
	if bare := g.Who.String(); gs.live[bare] == g {
		if delete(gs.live, bare); was != nil && !g.banned {
			was.withdrawn = was.withdrawn || g.withdrawn
			gs.live[bare] = was
		}
	}
	return fmt.Errorf("%w: %w", ErrUnwritten, err)
}

// take takes the grant back, or has it taken back once it is given. The caller holds the lock that covers gs, so that the
// order of grants and withdrawals on the stream is that of our records.
func (gs *grants) take(bare string) error {
	g := gs.live[bare]
	if g == nil {
		return nil
	}
	if g.withdrawn = true; g.asked {
		return nil
	}
	if err := gs.say(bare, ""); err != nil {
		return err
	}
	gs.drop(bare)
	return nil
}

// give gives an affiliation, and reports whether there was nothing to give: Prosody refuses to make less than an owner of an
// admin of the service, who owns all rooms there (plugins/muc/mod_muc.lua, component_admins_as_room_owners). In
// docker-jitsi-meet Jigasi's account is one.
func (gs *grants) give(ctx context.Context, who jid.JID, affiliation string) (owns bool, err error) {
	err = gs.owner.SetAffiliation(ctx, gs.room, who, affiliation)
	if affiliation != "owner" && errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) {
		return true, nil
	}
	return false, err
}

// say sends an affiliation and does not wait for the answer.
func (gs *grants) say(bare, affiliation string) error {
	return gs.owner.Session.Send(gs.owner.iq(stanza.SetIQ, gs.room).Wrap(affiliationQuery(bare, affiliation)))
}

// drop forgets a grant of which nothing is left.
func (gs *grants) drop(bare string) {
	if g := gs.live[bare]; g != nil {
		delete(gs.live, bare)
		if !g.found {
			gs.ledger.Ended(gs.room, g.Who)
		}
	}
}

// crossOut crosses out what was written down too late: its room is gone already. The caller holds the lock that covers gs.
func (gs *grants) crossOut(g *grant) {
	if gs.live[g.Who.String()] != g {
		gs.ledger.Ended(gs.room, g.Who)
	}
}

// hanging reports whether a grant hangs on a host.
func (gs *grants) hanging() bool {
	for _, g := range gs.live {
		if g.hangs() {
			return true
		}
	}
	return false
}

// end forgets the grants of a room that is gone, for nothing is left of them, but for those that keep says.
func (gs *grants) end(keep func(*grant) bool) {
	for bare, g := range maps.Clone(gs.live) {
		if keep == nil || !keep(g) {
			gs.drop(bare)
		}
	}
	if gs.lasts != lastingUnknown {
		gs.ledger.Ended(gs.room, gs.room)
	}
	gs.lasts, gs.noted, gs.notedAt = lastingUnknown, lastingUnknown, time.Time{}
}

// restored returns a written-down grant as one that was given. Who is inside came in the time of the earlier process, and
// their right may have ended since.
func restored(g Grant) *grant {
	return &grant{Grant: g, joined: true}
}
