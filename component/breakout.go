package component

import (
	"context"
	"errors"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

// errRemoved means that a breakout room cannot be opened, because its main room does not list it any more.
var errRemoved = errors.New("the main room has no such breakout room")

// breakouts learns whether a breakout room can be opened. A moderator registers breakout rooms with Jitsi's
// mod_muc_breakout_rooms, in the data of the main room, which only people inside hear of. The room itself begins when Jicofo enters
// it. If it is not registered, because it has been removed, the module drops Jicofo's presence without a word, and Jicofo never
// answers.
//
// So usher tries before Jicofo does: it enters a room that does not exist, and destroys it. The server handles the two stanzas one
// after the other, so its answer to the second shows what became of the first. It may refuse usher, as the module does with
// everybody who does not come from the main room. Or it may have usher wait for Jicofo, as muc_meeting_id does with everybody. In
// both cases the room exists by then, because the module looks at its name first.
type breakouts struct {
	probe *probe
	owner muc.Owner
}

func newBreakouts(o muc.Owner) (*breakouts, error) {
	// Its nick is not the focus's: others may wait in the room for that one.
	p, err := newProbe(o.Session, o.JID, "breakout", "usher")
	return &breakouts{probe: p, owner: o}, err
}

// tries returns errRemoved if the room does not exist and cannot be opened. Any other error means that it could not find out.
// Nobody may have Jicofo enter the room meanwhile: see relay.begin.
func (b *breakouts) tries(ctx context.Context, room jid.JID) error {
	_, err := b.owner.Settings(ctx, room)
	if !muc.Absent(err) {
		return err
	}
	said, done, err := b.probe.enter(room)
	if err != nil {
		return err
	}
	defer done()
	if err = b.owner.End(ctx, room, ""); !muc.Absent(err) {
		return err
	}
	select {
	case h := <-said:
		if h.typ == stanza.ErrorPresence {
			return err // refused, so the room may be one that exists for others
		}
	default:
	}
	return errRemoved
}
