package component

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
)

// What an operator does to a room, by the API. Rights that are taken back in all rooms are in revoke.go.

// ErrNoOccupant means that somebody is neither in a room nor admitted to it.
var ErrNoOccupant = errors.New("this person is neither in the room nor admitted to it")

// steers returns the room at an address, if this usher is the active one.
func (c *Component) steers(address string) (jid.JID, error) {
	room, err := c.guardedRoom(address)
	if err == nil && !c.o.Holds() {
		err = store.ErrStandby
	}
	return room, err
}

// exists returns ErrNoRoom if a room is not open. It asks the room.
func (c *Component) exists(ctx context.Context, room jid.JID) error {
	exists, _, err := c.mode.State(ctx, room)
	switch {
	case err != nil:
		return fmt.Errorf("%s does not answer: %w", room, err)
	case !exists:
		return ErrNoRoom
	}
	return nil
}

// EndRoom ends a room: everybody inside is put out, and reads the reason. The error is an ErrRoom, or an ErrNoRoom if the room is not
// open. Any goroutine may call it.
func (c *Component) EndRoom(ctx context.Context, address, reason string) error {
	room, err := c.steers(address)
	if err == nil {
		err = c.exists(ctx, room)
	}
	if err != nil {
		return err
	}
	reason = cmp.Or(reason, "This conference was ended.")
	if err := c.mode.End(ctx, room, reason); err != nil {
		return fmt.Errorf("could not end %s: %w", room, err)
	}
	c.o.Log.Info("room ended by an operator", zap.Stringer("room", room), zap.String("why", shown(reason)))
	return nil
}

// RemoveOccupant takes somebody's right in a room back, and puts them out; they read the reason. With bar they stay out until the room
// ends, as after a kick with after_kick: bar; guests have no name to know them by, and may ask again. Who is a JID; its resource does
// not count. The error is an ErrRoom, or an ErrNoOccupant. Any goroutine may call it.
func (c *Component) RemoveOccupant(ctx context.Context, address, who, reason string, bar bool) error {
	room, err := c.steers(address)
	if err != nil {
		return err
	}
	person, err := jid.ParseUnsafe(who)
	if err != nil || person.Localpart() == "" {
		return fmt.Errorf("%w: %s is not the JID of a person", ErrNoOccupant, shown(who))
	}
	done, err := c.turns.take(ctx, turnOf(room, person.Bare()))
	if err != nil {
		return err
	}
	defer done()
	g := c.ledger.of(room, person.JID)
	if inside, _ := c.watch.isPresent(room, person.JID); g == nil && !inside {
		return ErrNoOccupant
	}
	if g == nil {
		g = &live{Room: room, Who: person.Bare()} // others have let the person in
	}
	if bar {
		if err := c.bars(ctx, g); err != nil {
			return fmt.Errorf("could not write down that this person may not come back: %w", err)
		}
	}
	reason = cmp.Or(reason, "You have been removed from this conference.")
	if err := c.mode.Remove(ctx, room, person.Bare(), reason); err != nil {
		return fmt.Errorf("could not put %s out of %s: %w", person.Bare(), room, err)
	}
	c.isOut(g, byOperator, reason)
	return nil
}

// bars keeps somebody out of a room until it ends, as a kick does with after_kick: bar.
func (c *Component) bars(ctx context.Context, g *live) error {
	room := g.Room.String()
	c.kicks.mu.Lock()
	c.kicks.in[room] = true
	c.kicks.mu.Unlock()
	err := c.keepsOut(ctx, g.room(), g.by().proof(), time.Time{})
	c.kicks.mu.Lock()
	defer c.kicks.mu.Unlock()
	if !c.kicks.in[room] {
		c.kicks.add(c.barsEnd(g.Room)) // it has ended meanwhile, perhaps before this was written down
	}
	return err
}

// LockRoom locks an open room, or unlocks it. Into a locked room only hosts are let in; those inside stay, and those who have been told
// that they may enter still come, as long as that holds: see muc.Rooms.Grant and muc.Guard.Grant. It is locked until it ends or is
// unlocked, also when usher is started again meanwhile. The error is an ErrRoom, or an ErrNoRoom if the room is not open. Any
// goroutine may call it.
func (c *Component) LockRoom(ctx context.Context, address string, lock bool) error {
	room, err := c.steers(address)
	if err != nil {
		return err
	}
	done, err := c.turns.take(ctx, "lock "+room.String())
	if err != nil {
		return err
	}
	defer done()
	if !lock && c.locks.has(room) {
		if err = c.locks.remove(ctx, room); err == nil {
			c.o.Log.Info("room unlocked by an operator", zap.Stringer("room", room))
		}
		return err
	}
	if err := c.exists(ctx, room); err != nil || !lock {
		return err
	}
	if err := c.locks.add(ctx, room); err != nil {
		return fmt.Errorf("could not write down that %s is locked: %w", room, err)
	}
	// It may have ended before it was locked; then nothing would tell usher of that.
	if err := c.exists(ctx, room); err != nil {
		return errors.Join(err, c.locks.remove(context.WithoutCancel(ctx), room))
	}
	c.o.Log.Info("room locked by an operator", zap.Stringer("room", room))
	c.recall(room) // those who wait for it are told
	return nil
}
