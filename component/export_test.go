package component

import (
	"context"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/muc"
)

// Patient has usher wait for rooms, Jicofo and the server for as long as a test does.
func (c *Component) Patient() {
	c.requestTimeout, c.pingWithin, c.unsureWithin = time.Hour, time.Hour, time.Hour
	if before, ok := c.mode.(*beforeJicofo); ok {
		before.relay.timeout = time.Hour
	}
}

// SlowPerVHost is how many slow requests of one virtual host may be under way.
const SlowPerVHost = slowPerVHost

// Met is what is remembered of the conference in a room.
func (c *Component) Met(room string) conferenceRecord {
	c.conferences.mu.Lock()
	defer c.conferences.mu.Unlock()
	if m := c.conferences.all[room]; m != nil {
		return m.conferenceRecord
	}
	return conferenceRecord{}
}

// Rooms is what the mode does with people and rooms.
type Rooms interface {
	Remove(ctx context.Context, room, who jid.JID, reason string) error
	End(ctx context.Context, room jid.JID, reason string) error
	Say(room, who jid.JID, text string) (bool, error)
}

// Mode returns the mode of the usher.
func (c *Component) Mode() Rooms { return c.mode.(Rooms) }

// Owners returns the owner of rooms that asks the mirror first, and the same one that asks the rooms alone.
func (c *Component) Owners() (mirror, plain muc.Owner) {
	plain = muc.Owner{Session: c, JID: c.stranger.owner.JID}
	mirror = plain
	mirror.Told = c.told
	return mirror, plain
}

// Told is what usher's module tells.
func (c *Component) Told() *muc.Told { return c.told }
