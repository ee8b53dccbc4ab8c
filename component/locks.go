package component

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// lockedFor is how long a lock is kept at most: usher may not see the room end.
const lockedFor = 365 * 24 * time.Hour

// locks are the rooms that an operator has locked. They are written down, so that they outlive usher, and end with their rooms.
type locks struct {
	store store.Store
	now   func() time.Time

	mu  sync.Mutex
	all map[string]store.Record // by room
}

func newLocks(s store.Store, now func() time.Time) *locks {
	return &locks{store: s, now: now, all: make(map[string]store.Record)}
}

// lockRecord is what is written down of a lock. Its ID tells it from a later one of the same room.
type lockRecord struct {
	ID string
	At time.Time
}

const lockSuffix = " locked"

// has reports whether a room is locked.
func (l *locks) has(room jid.JID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return false
	}
	_, ok := l.all[room.String()]
	return ok
}

// some reports whether any room is locked.
func (l *locks) some() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all) > 0
}

// add locks a room. From here on it is locked, unless that cannot be written down.
func (l *locks) add(ctx context.Context, room jid.JID) error {
	if l.has(room) {
		return nil
	}
	value, err := json.Marshal(lockRecord{ID: rand.Text(), At: l.now()})
	if err != nil {
		return err
	}
	r := store.Record{Kind: store.KindRoom, Key: room.String() + lockSuffix, Value: value, End: l.now().Add(lockedFor)}
	l.mu.Lock()
	l.all[room.String()] = r
	l.mu.Unlock()
	if err := l.store.Put(ctx, r); err != nil {
		l.forget(room)
		return err
	}
	return nil
}

// remove unlocks a room, once that is written down.
func (l *locks) remove(ctx context.Context, room jid.JID) error {
	l.mu.Lock()
	r, ok := l.all[room.String()]
	l.mu.Unlock()
	if !ok {
		return nil
	}
	if err := l.crossOut(ctx, r); err != nil {
		return err
	}
	l.forget(room)
	return nil
}

// ended forgets the lock of a room that has ended. It returns what is left to do, or nil.
func (l *locks) ended(room jid.JID) func(context.Context) error {
	r, ok := l.forget(room)
	if !ok {
		return nil
	}
	return func(ctx context.Context) error { return l.crossOut(ctx, r) }
}

func (l *locks) forget(room jid.JID) (r store.Record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok = l.all[room.String()]
	delete(l.all, room.String())
	return r, ok
}

// crossOut deletes a lock from the store, and not a later one of the same room.
func (l *locks) crossOut(ctx context.Context, r store.Record) error {
	over := r
	r.End, over.End = l.now().Add(lockedFor), time.Unix(0, 0)
	_, err := l.store.Swap(ctx, r, over)
	return err
}

// locked returns the room at an address, as a client has written it, if it is locked.
func (c *Component) locked(address string) (room jid.JID, is bool) {
	if !c.locks.some() {
		return room, false
	}
	room, err := c.policy.Load().Room(address)
	return room, err == nil && c.locks.has(room)
}

// mayReturn reports whether somebody still has their right in a room that has breakout rooms, or had one until a moment ago. They are
// no newcomer: they have left it for a breakout room, and clients ask again when they come back.
func (c *Component) mayReturn(room, who jid.JID) bool {
	before, ok := c.mode.(*beforeJicofo)
	return ok && c.ledger.of(room, who) != nil && before.Parted(room)
}

// lockedRooms takes in the rooms that an operator has locked in the time of an earlier process. It returns them as the mode restores rooms.
func (c *Component) lockedRooms(ctx context.Context) (notes []*muc.Grant, err error) {
	for r, err := range c.o.Store.All(ctx, store.KindRoom) {
		if err != nil {
			return nil, err
		}
		address, ok := strings.CutSuffix(r.Key, lockSuffix)
		room, err := jid.ParseUnsafe(address)
		if !ok || err != nil || !c.tends(room.Domainpart()) { // other components may share the store
			continue
		}
		c.locks.mu.Lock()
		c.locks.all[room.String()] = r
		c.locks.mu.Unlock()
		notes = append(notes, &muc.Grant{Room: room.JID, Who: room.JID, Affiliation: "locked"})
	}
	return notes, nil
}
