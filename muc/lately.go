package muc

import (
	"time"

	"mellium.im/xmpp/jid"
)

// sent is what was sent to end somebody's right in a room, or the room itself if who is the zero JID. No answer is waited for, so it may be
// lost with the connection.
type sent struct {
	room, who jid.JID
	at        time.Time
}

// lately is what was sent a short time ago, in order.
type lately []sent

// lostWithin is how soon, at most, it shows that something was lost: usher's module gives no sign of life, or the connection ends.
const lostWithin = 2 * (aliveEvery + askWithin)

// add adds something, and forgets what has arrived long since.
func (l *lately) add(s sent) {
	old := 0
	for old < len(*l) && s.at.Sub((*l)[old].at) > lostWithin {
		old++
	}
	*l = append((*l)[old:], s)
}

// cut removes what was sent to such rooms, and returns what of it may be lost.
func (l *lately) cut(now time.Time, such func(room jid.JID) bool) (lost []sent) {
	var rest lately
	for _, s := range *l {
		switch {
		case !such(s.room):
			rest = append(rest, s)
		case now.Sub(s.at) <= lostWithin:
			lost = append(lost, s)
		}
	}
	*l = rest
	return lost
}
