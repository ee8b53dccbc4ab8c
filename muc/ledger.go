package muc

import (
	"context"
	"errors"
	"time"

	"mellium.im/xmpp/jid"
)

// Grant is an affiliation to give, and what a [Ledger] writes down of it. The ledger keeps two kinds of records about rooms in the
// same form. A record without affiliation says that Room is a breakout room of the room Who. A record with the same Room and Who
// says that the room exists; its affiliation is then "temporary" or "persistent", see adopt.go.
type Grant struct {
	Room, Who   jid.JID // both bare
	Affiliation string
	At          time.Time // when it was given; set by the Grant methods
	Expires     time.Time // zero for a right without end
	// NeedsHost says that it was given because a host was inside. It ends with the last host if Who has not joined by then.
	NeedsHost bool
	// By is who let the person in and why, as the caller has it. The ledger writes it down and reads it back; this package hands
	// it on and never looks inside.
	By any
	// With is written down by the ledger together with the grant, and neither kept nor read back.
	With any
	// Context is what Jitsi's plugins shall read in the person's session, where usher's module takes it; nil leaves that as it is. It is
	// given together with the affiliation, and neither kept nor written down.
	Context *Context
}

// Ledger keeps what was granted beyond the process, so that the next one can take it back.
type Ledger interface {
	// Granted writes a grant down, and what goes with it. It replaces an earlier one of the same person in the same room. It returns
	// when that is safe, or when it has to do without. After an error the grant is not given. The grant does not change any more, so
	// that all who know of it can keep the same one: there may be very many.
	Granted(ctx context.Context, g *Grant, with any) error
	// Ended deletes a grant. It does not block, and may be late: if an ended grant is still written down, the next process
	// takes back what is no longer there, which does no harm.
	Ended(room, who jid.JID)
}

// ErrUnwritten means that a grant was not given because it could not be written down.
var ErrUnwritten = errors.New("the grant could not be written down")

// Forgetful is the Ledger that keeps nothing.
type Forgetful struct{}

func (Forgetful) Granted(context.Context, *Grant, any) error { return nil }
func (Forgetful) Ended(jid.JID, jid.JID)                     {}
