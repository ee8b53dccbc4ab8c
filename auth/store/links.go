package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"
)

// Links keeps what one-time links stand for, each under a code that is in the link alone. It is safe for concurrent use, and across
// processes as far as its store is: of many that redeem a link at the same moment, one gets what it stands for.
//
// The store gets the hash of a code, never the code, and no token: that is made when the link is redeemed.
type Links struct {
	Store Store
}

// codeBytes are the random bytes of a code: 128 bits, so nobody finds one by trying, and its hash needs no salt.
const codeBytes = 16

// CodeLength is the length of a code: base64url without padding (RFC 4648 §5).
const CodeLength = (codeBytes*8 + 5) / 6

// ErrNoLink means that no link has the code: it was never made, has been redeemed, or its end has passed.
var ErrNoLink = errors.New("no such link")

// Link is a link that was found by its code. Only its [Links] can make or redeem it.
type Link struct {
	// Value is what the link stands for.
	Value  []byte
	record Record
}

// Put makes a link that stands for a value, until an end, and returns its code.
func (s Links) Put(ctx context.Context, value []byte, end time.Time) (code string, err error) {
	b := make([]byte, codeBytes)
	_, _ = rand.Read(b) // which never fails
	code = base64.RawURLEncoding.EncodeToString(b)
	return code, s.Store.Put(ctx, Record{Kind: KindLink, Key: linkKey(code), Value: value, End: end})
}

// Find returns the link with a code. It does not redeem it. The error is ErrNoLink if there is none.
func (s Links) Find(ctx context.Context, code string) (Link, error) {
	if !IsCode(code) {
		return Link{}, ErrNoLink
	}
	r, err := s.Store.Get(ctx, KindLink, linkKey(code))
	if errors.Is(err, ErrNotFound) {
		return Link{}, ErrNoLink
	}
	return Link{r.Value, r}, err
}

// Redeem uses a link up. It reports whether the caller is the one who did: all others get false. After an error the link may be used
// up, and the caller must act as if it had got false.
func (s Links) Redeem(ctx context.Context, l Link) (bool, error) {
	used := l.record
	used.End = time.Unix(1, 0) // has passed by any clock, so the record goes
	return s.Store.Swap(ctx, l.record, used)
}

// IsCode reports whether a text can be a code, by its form alone.
func IsCode(text string) bool {
	if len(text) != CodeLength {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(text) // one spelling of a code only
	return err == nil
}

func linkKey(code string) string {
	sum := sha256.Sum256([]byte(code))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
