package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// Revocations keeps in a store which tokens were taken back. It is safe for concurrent use, and across processes as far as its store
// is.
//
// A revocation lies under one claim that it names, the one that few tokens share: jti, else the user, else sub, else the issuer. All
// revocations with the same claim are one record. So a decision reads one record for each claim of its token, four at most.
type Revocations struct {
	Store Store
	// Now is the store's clock; nil for the machine's.
	Now func() time.Time
}

// EventRevoked is the What of the event that tells of a new revocation. Its Key is for Revocations.At.
const EventRevoked = "revoked"

// maxReason caps the reason of a revocation in bytes, so that a record has room for some fifty.
const maxReason = 100

var (
	// ErrNoRevocation means that no revocation has the id.
	ErrNoRevocation = errors.New("no such revocation")
	// ErrTooManyRevocations means that there is no space for another revocation of the same claim.
	ErrTooManyRevocations = fmt.Errorf("%w: too many name the same claim; name no room and no time, or take some back", ErrRevocation)

	// ErrRevocation means that a revocation cannot be written down as it is.
	ErrRevocation = errors.New("no such revocation is possible")
	// ErrUntold means that a revocation is written down, and that other processes have not been told of it.
	ErrUntold = errors.New("the revocation counts for new requests, but other ushers could not be told to put people out")
	// ErrUnreadableRevocation means that people that the revocation may be about cannot be let in.
	ErrUnreadableRevocation = errors.New("a stored revocation is damaged, or of another version of usher")
)

// forEver is the end of records of revocations without an end.
var forEver = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// claimKey returns the key of the record for a claim. Claims may be as long as a token, so the key has their hash.
func claimKey(claim, value string) string {
	sum := sha256.Sum256([]byte(value))
	return claim + " " + base64.RawURLEncoding.EncodeToString(sum[:])
}

// keysOf returns the keys of the records in which a revocation of the proof's token may be.
func keysOf(p auth.Proof) (keys []string) {
	for _, c := range []struct{ claim, value string }{{"jti", p.ID}, {"user", p.User}, {"sub", p.Subject}, {"issuer", p.Issuer}} {
		if c.value != "" {
			keys = append(keys, claimKey(c.claim, c.value))
		}
	}
	return keys
}

// keyOf returns the key of the record in which a revocation lies.
func keyOf(r auth.Revocation) (string, error) {
	keys := keysOf(auth.Proof{ID: r.JTI, User: r.User, Subject: r.Subject, Issuer: r.Issuer})
	if len(keys) == 0 {
		return "", fmt.Errorf("%w: it must name a jti, sub, user or issuer", ErrRevocation)
	}
	return keys[0], nil
}

// Put writes a revocation down and tells all processes. It returns the revocation with its id. It replaces earlier ones that it
// includes: they have ended, also if this one is deleted later. After ErrUntold it is written down, and may be put again.
func (s Revocations) Put(ctx context.Context, r auth.Revocation) (auth.Revocation, error) {
	key, err := keyOf(r)
	switch {
	case err != nil:
		return r, err
	case len(r.Reason) > maxReason:
		return r, fmt.Errorf("%w: the reason has %d bytes; at most %d are kept", ErrRevocation, len(r.Reason), maxReason)
	case !r.Until.IsZero() && !r.Until.After(r.At):
		return r, fmt.Errorf("%w: it must end after it begins", ErrRevocation)
	}
	r.ID = rand.Text()
	r.Before, r.At, r.Until = r.Before.Round(0).UTC(), r.At.Round(0).UTC(), r.Until.Round(0).UTC()
	value, err := json.Marshal([]auth.Revocation{r})
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrRevocation, err)
	}
	// encoding/json replaces bytes that are not UTF-8, but a revocation must never stand for something else.
	if again, err := readRevocations(value); err != nil || again[0] != r {
		return r, fmt.Errorf("%w: its texts must be UTF-8", ErrRevocation)
	}
	err = s.change(ctx, key, func(all []auth.Revocation) []auth.Revocation {
		all = slices.DeleteFunc(all, func(old auth.Revocation) bool { return includes(r, old) })
		return append(all, r)
	})
	if err != nil {
		return r, err
	}
	if err := s.Store.Append(ctx, Event{What: EventRevoked, Key: key}); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUntold, err)
	}
	return r, nil
}

// Delete ends a revocation. People that it has put out may ask again.
func (s Revocations) Delete(ctx context.Context, id string) error {
	has := func(all []auth.Revocation) bool {
		return slices.ContainsFunc(all, func(r auth.Revocation) bool { return r.ID == id })
	}
	for rec, err := range s.Store.All(ctx, KindRevocation) {
		if err != nil {
			return err
		}
		all, err := readRevocations(rec.Value)
		if err != nil || !has(all) {
			continue // what cannot be read refuses people, and is no reason to keep this one
		}
		return s.change(ctx, rec.Key, func(all []auth.Revocation) []auth.Revocation {
			return slices.DeleteFunc(all, func(r auth.Revocation) bool { return r.ID == id })
		})
	}
	return ErrNoRevocation
}

// change changes the revocations of one record. It tries again if another process changes them, too.
func (s Revocations) change(ctx context.Context, key string, to func([]auth.Revocation) []auth.Revocation) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		old, err := s.Store.Get(ctx, KindRevocation, key)
		missing := errors.Is(err, ErrNotFound)
		if err != nil && !missing {
			return err
		}
		var all []auth.Revocation
		if !missing {
			if all, err = readRevocations(old.Value); err != nil {
				return err
			}
		}
		if all = s.current(to(all)); len(all) == 0 && missing {
			return nil
		}
		next := Record{Kind: KindRevocation, Key: key, End: time.Unix(0, 0)} // with which Swap deletes
		for _, r := range all {
			if end := overAt(r); end.After(next.End) {
				next.End = end
			}
		}
		if next.Value, err = json.Marshal(all); err != nil {
			return fmt.Errorf("revocation: %w", err)
		}
		if len(next.Value) > MaxValue {
			return ErrTooManyRevocations
		}
		done := false
		if missing {
			_, done, err = s.Store.Add(ctx, next)
		} else {
			done, err = s.Store.Swap(ctx, old, next)
		}
		if done || err != nil {
			return err
		}
	}
}

func overAt(r auth.Revocation) time.Time {
	if r.Until.IsZero() {
		return forEver
	}
	return r.Until
}

// includes reports whether a revocation takes back all that another one does.
func includes(r, other auth.Revocation) bool {
	if r.JTI != other.JTI || r.Subject != other.Subject || r.User != other.User || r.Issuer != other.Issuer {
		return false
	}
	before := r.Before.IsZero() || !other.Before.IsZero() && !r.Before.Before(other.Before)
	return before && (r.Room == "" || r.Room == other.Room) && !overAt(r).Before(overAt(other))
}

// current returns the revocations that have not ended.
func (s Revocations) current(all []auth.Revocation) []auth.Revocation {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	at := now()
	return slices.DeleteFunc(all, func(r auth.Revocation) bool { return !at.Before(overAt(r)) })
}

// Revoked implements a method of auth.Refusals.
func (s Revocations) Revoked(ctx context.Context, p auth.Proof, room auth.Room) (bool, error) {
	if none(s.Store, KindRevocation) {
		return false, nil
	}
	for _, key := range keysOf(p) {
		all, err := s.At(ctx, key)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(all, func(r auth.Revocation) bool { return r.Covers(p, room) }) {
			return true, nil
		}
	}
	return false, nil
}

// At returns the revocations under one key; see EventRevoked.
func (s Revocations) At(ctx context.Context, key string) ([]auth.Revocation, error) {
	rec, err := s.Store.Get(ctx, KindRevocation, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	all, err := readRevocations(rec.Value)
	return s.current(all), err
}

// Revoked are all revocations at some time. It holds no connection to the store.
type Revoked map[string][]auth.Revocation

// Covers reports whether a revocation takes back the token of a proof in a room.
func (all Revoked) Covers(p auth.Proof, room auth.Room) bool {
	return slices.ContainsFunc(keysOf(p), func(key string) bool {
		return slices.ContainsFunc(all[key], func(r auth.Revocation) bool { return r.Covers(p, room) })
	})
}

// Sorted returns the revocations, the oldest first.
func (all Revoked) Sorted() []auth.Revocation {
	sorted := slices.Concat(slices.Collect(maps.Values(all))...)
	slices.SortFunc(sorted, func(a, b auth.Revocation) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return sorted
}

// All returns all revocations. If some of them cannot be read, it returns the others with an error.
func (s Revocations) All(ctx context.Context) (Revoked, error) {
	all := make(Revoked)
	var unreadable error
	for rec, err := range s.Store.All(ctx, KindRevocation) {
		if err != nil {
			return all, err
		}
		read, err := readRevocations(rec.Value)
		if err != nil {
			unreadable = err
		} else if read = s.current(read); len(read) > 0 {
			all[rec.Key] = read
		}
	}
	return all, unreadable
}

// readRevocations accepts only what is written, byte for byte: a field of a later version may be a restriction.
func readRevocations(value []byte) ([]auth.Revocation, error) {
	var read []auth.Revocation
	if err := json.Unmarshal(value, &read); err != nil {
		return nil, ErrUnreadableRevocation
	}
	if again, err := json.Marshal(read); err != nil || !bytes.Equal(again, value) {
		return nil, ErrUnreadableRevocation
	}
	return read, nil
}
