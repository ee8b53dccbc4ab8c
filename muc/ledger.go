package muc

import (
	"context"
	"time"

	"mellium.im/xmpp/jid"
)

// Granted is an affiliation that was given, as it is written down.
type Granted struct {
	Room, Who   jid.JID // both bare
	Affiliation string
	At, Expires time.Time // Expires is zero for a right without end
}

// Ledger keeps what was granted beyond the process, so that the next one can take it back.
type Ledger interface {
	// Granted writes a grant down, in the place of an earlier one of the same person in the same room. It returns when
	// that is safe.
	Granted(ctx context.Context, g Granted) error
	// Ended crosses a grant out. It does not block, and may be late: a grant that is still written down although it has
	// ended is one that the next process looks for in vain.
	Ended(room, who jid.JID)
}
