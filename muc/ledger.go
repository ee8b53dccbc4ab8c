package muc

import (
	"context"
	"errors"
	"time"

	"mellium.im/xmpp/jid"
)

// Granted is an affiliation that was given, as it is written down. One without affiliation says that Room is a breakout room
// of the room Who. One of the room itself (Who is Room) says that there is such a room, and as its affiliation whether that is
// "temporary" or "persistent"; see adopt.go.
type Granted struct {
	Room, Who   jid.JID // both bare
	Affiliation string
	At, Expires time.Time // Expires is zero for a right without end
	// NeedsHost says that it was given because a host was inside, and ends with the last host unless its holder has come by then.
	NeedsHost bool
	// With is what Grant was given to be written down together with it. It is not read back.
	With any
}

// Ledger keeps what was granted beyond the process, so that the next one can take it back.
type Ledger interface {
	// Granted writes a grant down, in the place of an earlier one of the same person in the same room. It returns when
	// that is safe, or when it has to do without. After an error the grant is not given.
	Granted(ctx context.Context, g Granted) error
	// Ended crosses a grant out. It does not block, and may be late: a grant that is still written down although it has
	// ended is one that the next process looks for in vain.
	Ended(room, who jid.JID)
}

// ErrUnwritten means that a grant was not given because it could not be written down.
var ErrUnwritten = errors.New("the grant could not be written down")

// Forgetful is the Ledger that keeps nothing.
type Forgetful struct{}

func (Forgetful) Granted(context.Context, Granted) error { return nil }
func (Forgetful) Ended(jid.JID, jid.JID)                 {}
