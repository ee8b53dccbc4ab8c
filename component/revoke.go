package component

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

// Rights that are taken back: by usher revoke in every room, and by a kick or ban in one (rooms.after_kick). Both are written down
// first, so that everybody who asks from then on is refused. Then the live grants are looked through, and the people in question are put out.

// Revoked is what became of a revocation.
type Revoked struct {
	// Revocation is what was written down, with its ID.
	Revocation auth.Revocation
	// Out are those who are put out of rooms here. Other ushers with this store put out those in theirs.
	Out []LiveGrant
	// Spared are those in rooms here by a token that is covered but for a later iat; see auth.Revocation.Before.
	Spared []LiveGrant
}

// Revoke takes tokens back: from now on they and their sessions are refused, by every usher with this store, and people inside by them
// are put out. It returns once that is written down. It sets ID, and At if that is zero. Room may be in either spelling of a tenant's
// rooms. The error is a store.ErrRevocation if r cannot be written down as it is. After an error of store.ErrUntold r is written down,
// and other ushers have not been told: Revoke may be called again. Any goroutine may call it.
func (c *Component) Revoke(ctx context.Context, r auth.Revocation) (Revoked, error) {
	if r.Room != "" {
		room, err := c.guardedRoom(r.Room)
		if err != nil {
			return Revoked{}, fmt.Errorf("%w: %w", store.ErrRevocation, err)
		}
		r.Room = room.String()
	}
	if r.At.IsZero() {
		r.At = c.o.Now()
	}
	r, err := store.Revocations(c.refusals).Put(ctx, r)
	if err != nil && !errors.Is(err, store.ErrUntold) {
		return Revoked{}, err
	}
	all := r
	all.Before = time.Time{}
	var out, spared []*live
	for _, g := range c.ledger.everybody("") {
		switch {
		case r.Covers(g.by().proof(), g.room()):
			out = append(out, g)
		case all.Covers(g.by().proof(), g.room()):
			spared = append(spared, g)
		}
	}
	for _, g := range out {
		c.ledger.endings.out(g, byRevocation)
	}
	c.o.Log.Info("tokens revoked", zap.String("id", r.ID), zap.Int("people put out", len(out)), zap.Strings("tokens", r.Words()))
	return Revoked{Revocation: r, Out: public(out), Spared: public(spared)}, err
}

// Revocations returns what is taken back, the oldest first. If some of it cannot be read, it returns the rest with an error. Any
// goroutine may call it.
func (c *Component) Revocations(ctx context.Context) ([]auth.Revocation, error) {
	all, err := store.Revocations(c.refusals).All(ctx)
	return all.Sorted(), err
}

// Unrevoke ends a revocation: its tokens and sessions count again. The error is store.ErrNoRevocation if there is none. Any goroutine
// may call it.
func (c *Component) Unrevoke(ctx context.Context, id string) error {
	return store.Revocations(c.refusals).Delete(ctx, id)
}

// follow puts out the people that revocations cover, also those of other ushers with this store, and takes over the requests that they leave,
// until ctx ends.
func (c *Component) follow(ctx context.Context) {
	for e, err := range c.o.Store.Follow(ctx) {
		switch {
		case err != nil || e == store.Event{}:
			c.takeLeft(ctx)
			c.enforce(ctx, store.Revocations(c.refusals).All) // what happened before, or was missed
		case e == store.Event{What: EventLeft, Key: c.o.Domain.String()}:
			c.takeLeft(ctx)
		case e.What == store.EventRevoked:
			c.enforce(ctx, func(ctx context.Context) (store.Revoked, error) {
				at, err := store.Revocations(c.refusals).At(ctx, e.Key)
				return store.Revoked{e.Key: at}, err
			})
		}
	}
}

// storeAgain is the pause before a store is asked again that did not answer.
const storeAgain = 500 * time.Millisecond

// enforce puts out the people that revocations cover. It returns when it has been able to read them.
func (c *Component) enforce(ctx context.Context, read func(context.Context) (store.Revoked, error)) {
	c.untilDone(ctx, "could not read revocations", func() error {
		all, err := read(ctx)
		for _, g := range c.ledger.everybody("") {
			if all.Covers(g.by().proof(), g.room()) {
				c.ledger.endings.out(g, byRevocation)
			}
		}
		if errors.Is(err, store.ErrUnreadableRevocation) {
			c.o.Log.Error("a revocation in the store cannot be read; people that it may be about are refused", zap.Error(err))
			return nil
		}
		return err
	})
}

// untilDone tries something that needs the store until it succeeds, which it reports, or ctx ends.
func (c *Component) untilDone(ctx context.Context, failed string, do func() error) bool {
	for warned := false; ; {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err == nil
		}
		if !warned {
			warned = true
			c.o.Log.Warn(failed+"; it is tried again", zap.Error(err), c.hint(err))
		}
		select {
		case <-time.After(c.storeAgain):
		case <-ctx.Done():
		}
	}
}

// kicks are the kicks and bans that are to be written down, and rooms that have ended since.
type kicks struct {
	mu   sync.Mutex
	todo []func(ctx context.Context) error
	some alarm.Bell      // rings when there are any
	in   map[string]bool // rooms in which people may be barred
}

func newKicks() *kicks { return &kicks{some: alarm.NewBell(), in: make(map[string]bool)} }

// add adds something to do. The caller holds mu.
func (k *kicks) add(do func(ctx context.Context) error) {
	k.todo = append(k.todo, do)
	k.some.Ring()
}

// next returns the first thing to do, or nil.
func (k *kicks) next() func(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.todo) == 0 {
		return nil
	}
	do := k.todo[0]
	k.todo = k.todo[1:]
	return do
}

// back puts something back that was not done.
func (k *kicks) back(do func(ctx context.Context) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.todo = append([]func(ctx context.Context) error{do}, k.todo...)
}

// barsKicked reports whether people stay out that a moderator has put out.
func (c *Component) barsKicked() bool {
	after := c.policy.Load().AfterKick().Then
	return after == auth.KickWait || after == auth.KickBar
}

// kicked is called when a moderator has removed somebody from a room. It does not block.
func (c *Component) kicked(room, who jid.JID, _ bool) {
	after := c.policy.Load().AfterKick()
	g := c.ledger.of(room, who)
	if g == nil || !c.barsKicked() {
		return
	}
	var until time.Time
	if after.Then == auth.KickWait {
		until = c.o.Now().Add(after.Wait)
	}
	in, proof := g.room(), g.by().proof()
	c.kicks.mu.Lock()
	defer c.kicks.mu.Unlock()
	c.kicks.in[room.String()] = true
	c.kicks.add(func(ctx context.Context) error {
		err := c.keepsOut(ctx, in, proof, until)
		if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrUnreadableBars) {
			// Trying again would only keep other kicks waiting, and the ends of rooms, which make room.
			c.o.Log.Error("could not write down a kick; the person may come back", zap.Stringer("room", room), zap.Error(err))
			return nil
		}
		return err
	})
}

// keepsOut keeps the person of a proof out of a room until then; until the room ends if until is zero. Those inside by it are put out. A
// proof without a person keeps nobody out.
func (c *Component) keepsOut(ctx context.Context, room auth.Room, proof auth.Proof, until time.Time) error {
	barred, err := store.Bars(c.refusals).Put(ctx, room, proof, until)
	if err != nil || !barred {
		return err
	}
	for _, other := range c.ledger.everybody(room.JID.String()) {
		if store.SamePerson(other.by().proof(), proof) {
			c.ledger.endings.out(other, byBar)
		}
	}
	return nil
}

// roomEnded is called when a room is gone. It does not block.
func (c *Component) roomEnded(room jid.JID) {
	c.conferences.ended(room)
	c.ledger.lobbyEnds(room)
	c.kicks.mu.Lock()
	defer c.kicks.mu.Unlock()
	if unlock := c.locks.ended(room); unlock != nil {
		c.kicks.add(unlock)
	}
	if !c.kicks.in[room.String()] {
		return
	}
	delete(c.kicks.in, room.String())
	c.kicks.add(c.barsEnd(room))
}

// barsEnd returns what forgets the bars of a room.
func (c *Component) barsEnd(room jid.JID) func(context.Context) error {
	return func(ctx context.Context) error { return store.Bars(c.refusals).End(ctx, auth.Room{JID: room}) }
}

// bar writes kicks down, one after the other, until ctx ends. Then it tries once what is left.
func (c *Component) bar(ctx context.Context) {
	for ctx.Err() == nil {
		if do := c.kicks.next(); do != nil {
			if !c.untilDone(ctx, "could not write down a kick", func() error { return do(ctx) }) {
				c.kicks.back(do)
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-c.kicks.some:
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for do := c.kicks.next(); do != nil; do = c.kicks.next() {
		if err := do(last); err != nil {
			c.o.Log.Warn("could not write down a kick; the person may come back", zap.Error(err), c.hint(err))
		}
	}
}

// barredRooms takes in the rooms in which an earlier process has barred people.
func (c *Component) barredRooms(ctx context.Context) error {
	rooms, err := store.Bars(c.refusals).Rooms(ctx)
	c.kicks.mu.Lock()
	defer c.kicks.mu.Unlock()
	for _, room := range rooms {
		c.kicks.in[room.String()] = true
	}
	return err
}
