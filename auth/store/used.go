package store

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// Used keeps in a store which one-time tokens have let somebody in, and which machine that was. It is safe for concurrent use, and
// across processes as far as its store is: of several machines that show a token at the same moment, one gets in.
type Used struct {
	Store Store
}

// Use uses a one-time token up for a machine, until the token's end. It reports whether the machine may use it: it is the first, or
// the same again. Tokens are told apart by issuer and jti, so that a token that is signed anew with its jti is the same one. The
// store gets the hash of the machine, never the machine-uid.
func (s Used) Use(ctx context.Context, p auth.Proof, machine string, until time.Time) (bool, error) {
	if p.ID == "" || machine == "" || until.IsZero() {
		return false, errors.New("a one-time token needs a jti, a machine and an end")
	}
	by := sha256.Sum256([]byte(machine))
	there, added, err := s.Store.Add(ctx, Record{Kind: KindUsed, Key: claimKey(p.Issuer, p.ID), Value: by[:], End: until})
	if err != nil {
		return false, err
	}
	return added || subtle.ConstantTimeCompare(there.Value, by[:]) == 1, nil
}
