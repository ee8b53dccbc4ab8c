package muc

import (
	"time"

	"mellium.im/xmpp/jid"
)

// Sight is something that Rooms or Guard have noticed in a room; see Options.Sees.
type Sight struct {
	Seen Seen
	Room jid.JID
	// Who is the person, by full JID as far as it is known; zero if it is about the room. Bare is their bare JID as text, which all who
	// know of them may keep. Moderator says that they moderate now.
	Who       jid.JID
	Bare      string
	Moderator bool
	// Before says that it was so when usher met the room: an earlier process has noticed it, or nobody.
	Before bool
	// Why says why usher ended the room; empty if it did not, or because nobody was inside.
	Why string
}

// Seen says of what a Sight is.
type Seen uint8

const (
	SeenOpen   Seen = iota // a room that exists and was not known
	SeenEnd                // it is gone; everybody in it was said to be gone before
	SeenHost               // a host is inside, and none was
	SeenNoHost             // the last host has gone
	SeenCame               // somebody has come in
	SeenRole               // somebody inside moderates now, or does not any more
	SeenGone               // somebody has gone
)

// see tells of a sight.
func (o *Options) see(s Sight) {
	if o.Sees != nil {
		o.Sees(s)
	}
}

// telling is what was told of a room.
type telling struct {
	open     bool // that it exists
	restored bool // an earlier process has told that
	met      bool // who is inside; otherwise those who are found inside have not come just now
	host     bool // that a host is inside
	why      string
	// inside are the people inside, by full JID: of Rooms only, while the room is lost.
	inside map[string]jid.JID
	at     time.Time // when Guard was last told who is inside
}

// meets tells that a room exists.
func (o *Options) meets(room jid.JID, t *telling) {
	if !t.open {
		t.open = true
		o.see(Sight{Seen: SeenOpen, Room: room, Before: t.restored})
	}
}

// hosted tells whether a host is inside a room, if that has changed.
func (o *Options) hosted(room jid.JID, t *telling, host bool) {
	if t.host == host {
		return
	}
	t.host = host
	s := Sight{Seen: SeenNoHost, Room: room, Before: !t.met}
	if host {
		s.Seen = SeenHost
	}
	o.see(s)
}
