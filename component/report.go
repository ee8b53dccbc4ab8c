package component

import (
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
)

// What says of what a [Report] is. The list is closed.
type What string

const (
	// Decided is each decision that Stats counts. Only such a report has a Verdict.
	Decided What = "decided"
	// HostArrived: the first host of a room is inside. HostLeft: the last one has left.
	HostArrived What = "host-arrived"
	HostLeft    What = "host-left"
	// RoomOpened: usher knows an open room that it did not know before. RoomEnded: the room is gone; Text says why if usher ended it.
	RoomOpened What = "room-opened"
	RoomEnded  What = "room-ended"
	// Joined and Left: an occupant has come into a room, or is gone from it.
	Joined What = "occupant-joined"
	Left   What = "occupant-left"
	// Expired: usher has put somebody out because their right ended.
	Expired What = "expired"
	// RevokedOut: usher has put somebody out because their right was taken back, or because an operator wanted it. Text says why.
	RevokedOut What = "revoked"
)

// Report is something that happened. It holds no token, secret or session id, and its texts are printable.
type Report struct {
	What What
	At   time.Time
	// Room is bare; zero if it cannot be read. Name and Tenant are as auth.Room has them.
	Room         jid.JID
	Name, Tenant string
	// Who is full as far as it is known, and zero in a report about nobody. VHost is the configured virtual host of Who; empty if it
	// is of none.
	Who   jid.JID
	VHost string

	Verdict     auth.Verdict
	Reason      auth.Reason
	Affiliation auth.Affiliation
	// Issuer, JTI and User name the token, as it has them but for what cannot be printed.
	Issuer, JTI, User string

	// Took is the time from the request to the answer. A request that was held counts from when it was decided again, or else from
	// its arrival. Decide and Apply are parts of Took: the rules, and what makes the decision true in the room. Only with Decided.
	Took, Decide, Apply time.Duration
	// Waited is the time from the arrival of the host to the answer, where somebody who had to wait is let in; otherwise 0.
	Waited time.Duration
	// Again says that the same person was told the same about the same room before: people who wait ask every few seconds.
	Again bool
	// Steps explain the decision rule by rule, as "usher token explain" does. They name claims of the token. Only with Decided and
	// Options.Explain.
	Steps []auth.Step
	// Text is what people were told, or why something happened.
	Text string
}
