package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// Sessions keeps sessions in a store. A session id is as good as the token that it stands for, so the store gets its SHA-256 and
// never the id. Sessions is safe for concurrent use, and across processes as far as its store is.
type Sessions struct {
	Store Store
}

var _ auth.Sessions = Sessions{}

var errUnreadable = errors.New("the stored session is damaged, or of another version of usher")

// Begin returns the id of a new session, 130 bits from crypto/rand, and its record. The session is live once the caller has put the
// record, perhaps together with others. It ends at began.Expires. A record of a session without an end cannot be put.
func (Sessions) Begin(began auth.Session) (id string, r Record, err error) {
	written := began
	written.Expires = time.Time{} // it is the end of the record
	value, err := json.Marshal(written)
	if err != nil {
		return "", Record{}, fmt.Errorf("session: %w", err)
	}
	// encoding/json replaces bytes that are not UTF-8, but a session must never stand for something else than the token did.
	if bytes.Contains(value, replaced) || !affiliates(began.Affiliation) {
		if read, err := readSession(value); err != nil || read != written {
			return "", Record{}, errors.New("session: it cannot be stored as it is")
		}
	}
	id = rand.Text()
	return id, Record{Kind: KindSession, Key: sessionKey(id), Value: value, End: began.Expires}, nil
}

// Session implements auth.Sessions. It returns auth.ErrNoSession with a detail also for a session that it cannot read: a damaged
// one, or one of a later version with a field that this version does not know. Such a field may be a restriction.
func (s Sessions) Session(ctx context.Context, id string) (auth.Session, error) {
	r, err := s.Store.Get(ctx, KindSession, sessionKey(id))
	if errors.Is(err, ErrNotFound) {
		return auth.Session{}, auth.ErrNoSession
	}
	if err != nil {
		return auth.Session{}, err
	}
	read, err := readSession(r.Value)
	if err != nil {
		return auth.Session{}, fmt.Errorf("%w: %w", auth.ErrNoSession, err)
	}
	read.Expires = r.End
	return read, nil
}

// End ends a session early, as a logout does. An id without a session is no error.
func (s Sessions) End(ctx context.Context, id string) error {
	return s.Store.Delete(ctx, KindSession, sessionKey(id))
}

func sessionKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// readSession accepts only what Begin writes, byte for byte: nothing more, nothing less, nothing twice.
func readSession(value []byte) (auth.Session, error) {
	var read auth.Session
	if err := json.Unmarshal(value, &read); err != nil {
		return auth.Session{}, errUnreadable
	}
	if again, err := json.Marshal(read); err != nil || !bytes.Equal(again, value) {
		return auth.Session{}, errUnreadable
	}
	if !affiliates(read.Affiliation) {
		return auth.Session{}, errUnreadable
	}
	return read, nil
}

func affiliates(a auth.Affiliation) bool {
	return a == auth.None || a == auth.Member || a == auth.Admin || a == auth.Owner
}

// replaced is what encoding/json writes for a byte that is not UTF-8. A U+FFFD that was there it writes as it is.
var replaced = []byte(`\ufffd`)
