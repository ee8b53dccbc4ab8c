package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
)

// Bars keeps in a store who may not come back into a room after a kick or ban. It is safe for concurrent use, and across processes as
// far as its store is. All bars of a room are one record, which is deleted when the room ends.
type Bars struct {
	Store Store
	// Now is the store's clock; nil for the machine's.
	Now func() time.Time
}

// barredAtMost bounds a bar without an end of its own: usher may not see the room end.
const barredAtMost = 7 * 24 * time.Hour

// maxBars is the number of claims that are barred in one room, those of about a hundred people. With more, those that end first are
// dropped. The record then has less than MaxValue bytes.
const maxBars = 240

// ErrUnreadableBars means that it is not known who is barred in a room, until the room ends.
var ErrUnreadableBars = errors.New("the stored bars of a room are damaged, or of another version of usher")

// bar keeps out people with one of the claims by which a person is known again. Its times are in Unix seconds.
type bar struct {
	Of    string // the claim, as persons has it
	Until int64  `json:",omitempty"` // 0: until the room ends
	End   int64  // when the bar is forgotten
}

// persons returns hashes of the claims of a proof by which the person is known again: the token, the person in it, or the account.
// A guest has none.
func persons(p auth.Proof) (all []string) {
	add := func(of ...string) {
		sum := sha256.Sum256([]byte(strings.Join(of, "\x00")))
		all = append(all, base64.RawURLEncoding.EncodeToString(sum[:16]))
	}
	for _, c := range []struct{ claim, value string }{{"jti", p.ID}, {"user", p.User}, {"sub", p.Person()}} {
		if c.value != "" {
			add(c.claim, p.Issuer, c.value)
		}
	}
	if p.Account != "" {
		add("account", p.Account)
	}
	return all
}

func (s Bars) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// Put keeps the person of a proof out of a room until then; until the room ends if until is zero. It reports whether it does: a proof
// without a person keeps nobody out.
func (s Bars) Put(ctx context.Context, room auth.Room, p auth.Proof, until time.Time) (bool, error) {
	keys := persons(p)
	if len(keys) == 0 {
		return false, nil
	}
	b := bar{End: s.now().Add(barredAtMost).Unix()}
	if !until.IsZero() {
		b.Until = until.Add(time.Second - 1).Unix() // not before
		b.End = b.Until
	}
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		old, all, err := s.of(ctx, room)
		if err != nil {
			return false, err
		}
		for _, key := range keys {
			b.Of = key
			all = slices.DeleteFunc(all, func(old bar) bool { return old.Of == key && !lasts(old, b) })
			if !slices.ContainsFunc(all, func(old bar) bool { return old.Of == key }) {
				all = append(all, b)
			}
		}
		slices.SortStableFunc(all, func(a, b bar) int { return cmp.Compare(a.End, b.End) })
		all = all[max(0, len(all)-maxBars):]
		next := Record{Kind: KindBar, Key: room.JID.String(), End: time.Unix(all[len(all)-1].End, 0)}
		if next.Value, err = json.Marshal(all); err != nil {
			return false, err
		}
		done := false
		if old.Key == "" {
			_, done, err = s.Store.Add(ctx, next)
		} else {
			done, err = s.Store.Swap(ctx, old, next)
		}
		if done || err != nil {
			return done, err
		}
	}
}

// lasts reports whether a bar lasts longer than another one.
func lasts(b, other bar) bool {
	return b.Until == 0 && other.Until != 0 || (b.Until == 0) == (other.Until == 0) && b.End > other.End
}

// Barred implements a method of auth.Refusals.
func (s Bars) Barred(ctx context.Context, p auth.Proof, room auth.Room) (until time.Time, barred bool, err error) {
	if none(s.Store, KindBar) {
		return time.Time{}, false, nil
	}
	keys := persons(p)
	if len(keys) == 0 {
		return time.Time{}, false, nil
	}
	_, all, err := s.of(ctx, room)
	for _, b := range all {
		if !slices.Contains(keys, b.Of) {
			continue
		}
		if b.Until == 0 {
			return time.Time{}, true, nil
		}
		barred = true
		if u := time.Unix(b.Until, 0).UTC(); u.After(until) {
			until = u
		}
	}
	return until, barred, err
}

// Rooms returns the rooms in which people are barred. What is no room is passed over.
func (s Bars) Rooms(ctx context.Context) (rooms []jid.JID, err error) {
	for rec, err := range s.Store.All(ctx, KindBar) {
		if err != nil {
			return rooms, err
		}
		if room, err := jid.ParseUnsafe(rec.Key); err == nil {
			rooms = append(rooms, room.JID)
		}
	}
	return rooms, nil
}

// End forgets the bars of a room that has ended.
func (s Bars) End(ctx context.Context, room auth.Room) error {
	return s.Store.Delete(ctx, KindBar, room.JID.String())
}

// of returns the record of a room, and the bars that have not ended. The record is zero if there is none.
func (s Bars) of(ctx context.Context, room auth.Room) (Record, []bar, error) {
	rec, err := s.Store.Get(ctx, KindBar, room.JID.String())
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, nil, nil
	case err != nil:
		return Record{}, nil, err
	}
	var all []bar
	if err = json.Unmarshal(rec.Value, &all); err != nil {
		return Record{}, nil, ErrUnreadableBars
	}
	if again, err := json.Marshal(all); err != nil || !bytes.Equal(again, rec.Value) {
		return Record{}, nil, ErrUnreadableBars
	}
	at := s.now().Unix()
	return rec, slices.DeleteFunc(all, func(b bar) bool { return b.End <= at }), nil
}

// Refusals knows what was taken back, for auth.Policy.
type Refusals struct {
	Store Store
	// Now is the store's clock; nil for the machine's.
	Now func() time.Time
}

var _ auth.Refusals = Refusals{}

// Revoked implements auth.Refusals.
func (s Refusals) Revoked(ctx context.Context, p auth.Proof, room auth.Room) (bool, error) {
	return Revocations(s).Revoked(ctx, p, room)
}

// Barred implements auth.Refusals.
func (s Refusals) Barred(ctx context.Context, p auth.Proof, room auth.Room) (time.Time, bool, error) {
	return Bars(s).Barred(ctx, p, room)
}

// SamePerson reports whether two proofs are of a person who is known again.
func SamePerson(a, b auth.Proof) bool {
	of := persons(a)
	return slices.ContainsFunc(persons(b), func(key string) bool { return slices.Contains(of, key) })
}
