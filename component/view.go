package component

import (
	"context"
	"errors"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
)

// ErrNoRoom means that a room is not open, and that nobody waits for it.
var ErrNoRoom = errors.New("this room is not open, and nobody waits for it")

// RoomSummary is a room as usher knows it.
type RoomSummary struct {
	Room         jid.JID // bare
	Name, Tenant string  // as auth.Room has them
	// Open says that the room exists; otherwise people only wait for it. Since is since when usher knows of it.
	Open, HostInside, Locked bool
	Since                    time.Time
	// Hosts, Members and Guests are how many people are inside; recorders and gateways are none of them. Waiting is how many wait.
	Hosts, Members, Guests, Waiting int
}

// RoomView is all that usher knows of a room.
type RoomView struct {
	RoomSummary
	// Rule is what holds in the room, by the rule with RuleNumber (-1: none fits), and Text says it in words.
	Rule       auth.RoomRule
	RuleNumber int
	Text       string
	Occupants  []Occupant // by the time at which they came
	Waits      []Waiter   // the longest first
	Ends       time.Time  // when the conference ends by its rule or by a host's token; zero if it does not
}

// Occupant is somebody who is in a room, or admitted to it.
type Occupant struct {
	Who jid.JID // bare
	As  string  // host, member, guest, service, or lobby for somebody who was left to the lobby
	// Affiliation is the one that usher gave; empty if it gave none. Issuer, JTI and User name the token, as it has them.
	Affiliation, Issuer, JTI, User string
	Since                          time.Time
	// Inside is false for somebody who is admitted and has not been seen inside yet.
	Inside bool
}

// Waiter is somebody who was told to wait.
type Waiter struct {
	Who    jid.JID // bare
	Since  time.Time
	Reason auth.Reason
}

// Rooms returns the rooms that are open or waited for, by address. It asks nobody, and is cheap with thousands of them. In front of a
// Jicofo it shows what usher saw at its last look, see Options.GuardInterval. Any goroutine may call it.
func (c *Component) Rooms() []RoomSummary { return nil }

// Room returns what is known of a room. Its address may be in either spelling of a tenant's rooms. The error is an ErrRoom or an
// ErrNoRoom. It asks nobody. Any goroutine may call it.
func (c *Component) Room(_ context.Context, address string) (RoomView, error) {
	if _, err := c.guardedRoom(address); err != nil {
		return RoomView{}, err
	}
	return RoomView{}, ErrNoRoom
}
