package component

import (
	"context"
	"errors"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// errRemoved means that a breakout room cannot be opened, because its main room does not list it any more.
var errRemoved = errors.New("the main room has no such breakout room")

// breakouts finds out whether a breakout room can be. A moderator registers breakout rooms with Jitsi's mod_muc_breakout_rooms,
// in the data of the main room, which only people inside hear of. The room itself comes to be when Jicofo enters it. If it is not
// registered, because it has been removed, the module drops Jicofo's presence without a word, and Jicofo never answers.
//
// So usher tries before Jicofo does: it enters a room that is not there, and destroys it. The server handles the two stanzas one
// after the other, so its answer to the second tells what became of the first. It may refuse usher, as the module does with
// everybody who does not come from the main room, or have usher wait for Jicofo, as muc_meeting_id does with everybody: by then
// the room is there, because the module looks at its name first.
type breakouts struct {
	owner muc.Owner
	jid   jid.JID // full

	mu      sync.Mutex
	refused map[string]bool // by room that is being tried: whether the server has refused usher
}

func newBreakouts(o muc.Owner) (*breakouts, error) {
	full, err := o.JID.WithResource("breakout")
	return &breakouts{owner: o, jid: full, refused: make(map[string]bool)}, err
}

// tries returns errRemoved if the room is not there and cannot be. Other errors mean that it could not be found out. Nobody may
// have Jicofo enter the room meanwhile: see relay.begin.
func (b *breakouts) tries(ctx context.Context, room jid.JID) error {
	_, err := b.owner.Settings(ctx, room)
	if !muc.Absent(err) {
		return err
	}
	nick, err := room.WithResource("usher") // not the focus's, for which others may wait in the room
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.refused[room.String()] = false
	b.mu.Unlock()
	err = b.owner.Session.Send(stanza.Presence{From: b.jid, To: nick}.Wrap(element.New(muc.NS, "x")))
	if err == nil {
		err = b.owner.End(ctx, room)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if muc.Absent(err) && !b.refused[room.String()] {
		err = errRemoved
	}
	delete(b.refused, room.String())
	return err
}

// hears takes in a presence for us, by its type and sender.
func (b *breakouts) hears(typ string, from jid.JID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, trying := b.refused[from.Bare().String()]; trying && typ == "error" {
		b.refused[from.Bare().String()] = true
	}
}
