package component

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
	// Affiliation is the one that usher gave; empty if it gave none. Issuer, JTI and User name the token, as it has them but for what
	// cannot be printed.
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
func (c *Component) Rooms() []RoomSummary {
	all := c.watch.summaries()
	if c.locks.some() {
		for n := range all {
			all[n].Locked = c.locks.has(all[n].Room)
		}
	}
	return all
}

// summaries returns all rooms, by address. The rooms are sorted when they are no longer locked.
func (w *watch) summaries() []RoomSummary {
	type keyed struct {
		key string
		RoomSummary
	}
	w.mu.Lock()
	rooms := make([]keyed, 0, len(w.rooms))
	for key, rm := range w.rooms {
		rooms = append(rooms, keyed{key, rm.summary()})
	}
	w.mu.Unlock()
	slices.SortFunc(rooms, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	all := make([]RoomSummary, len(rooms))
	for n, rm := range rooms {
		all[n] = rm.RoomSummary
	}
	return all
}

// summary returns what is known of a room, but for its lock. The caller holds mu.
func (rm *watchedRoom) summary() RoomSummary {
	return RoomSummary{
		Room: rm.JID, Name: rm.Name, Tenant: rm.Tenant, Open: rm.open, HostInside: rm.host, Since: rm.since,
		Hosts: rm.inside[classHost], Members: rm.inside[classMember], Guests: rm.inside[classGuest], Waiting: len(rm.waits),
	}
}

// Room returns what is known of a room, which may be a breakout room. Its address may be in either spelling of a tenant's rooms. The error
// is an ErrRoom or an ErrNoRoom. It asks nobody. Any goroutine may call it.
func (c *Component) Room(_ context.Context, address string) (RoomView, error) {
	room, err := c.policy.Load().Room(address)
	if err != nil || !c.policy.Load().IsBreakout(auth.Room{JID: room}) {
		room, err = c.guardedRoom(address)
	}
	if err != nil {
		return RoomView{}, err
	}
	v, ok := c.watch.view(room)
	if !ok {
		return RoomView{}, ErrNoRoom
	}
	v.Locked = c.locks.has(room)
	p := c.policy.Load()
	in := auth.Room{JID: v.Room, Name: v.Name, Tenant: v.Tenant}
	v.Rule, v.RuleNumber = p.RuleFor(in)
	v.Text = p.RuleInWords(v.Rule)
	v.Ends = c.conferences.endOf(in, v.Rule)
	c.occupants(&v)
	return v, nil
}

// view returns a room with the people inside: their addresses, classes and times.
func (w *watch) view(room jid.JID) (v RoomView, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rm := w.rooms[room.String()]
	if rm == nil {
		return v, false
	}
	v.RoomSummary = rm.summary()
	for _, inside := range rm.people {
		who, _ := jid.ParseUnsafe(inside.Key) // as the server wrote it, which has addresses that RFC 7622 refuses
		p := inside.Value
		v.Occupants = append(v.Occupants, Occupant{Who: who.JID, As: p.class.String(), Since: time.Unix(0, p.since), Inside: true})
	}
	for _, its := range rm.waits {
		v.Waits = append(v.Waits, Waiter{Who: its.who, Since: its.since, Reason: its.reason})
	}
	slices.SortFunc(v.Waits, func(a, b Waiter) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Who.String(), b.Who.String()))
	})
	return v, true
}

// occupants adds to a view what the ledger knows of people, and those who are admitted.
func (c *Component) occupants(v *RoomView) {
	right := make(map[string]*live)
	for _, g := range c.ledger.everybody(v.Room.String()) {
		right[g.Who.String()] = g
	}
	for n := range v.Occupants {
		o := &v.Occupants[n]
		o.by(right[o.Who.String()])
		delete(right, o.Who.String())
	}
	for _, g := range right {
		o := Occupant{Who: g.Who, As: admittedAs(g).String(), Since: g.At}
		o.by(g)
		v.Occupants = append(v.Occupants, o)
	}
	slices.SortFunc(v.Occupants, func(a, b Occupant) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Who.String(), b.Who.String()))
	})
}

// by sets what is said of somebody's right; nil is none.
func (o *Occupant) by(g *live) {
	var r Report
	r.by(g)
	o.Affiliation, o.Issuer, o.JTI, o.User = string(r.Affiliation), r.Issuer, r.JTI, r.User
	if g != nil && g.by().Knocked {
		o.As = "lobby"
	}
}

// admittedAs returns as what somebody was let in.
func admittedAs(g *live) class {
	switch g.by().Reason {
	case auth.ReasonHost:
		return classHost
	case auth.ReasonMember:
		return classMember
	case auth.ReasonService:
		return classService
	}
	return classGuest
}

// regards counts somebody anew who was let in and is inside already.
func (c *Component) regards(room, who jid.JID) {
	if inside, moderator := c.watch.isPresent(room, who); inside {
		c.watch.regards(room, who, c.classOf(who, moderator, c.ledger.of(room, who)))
	}
}
