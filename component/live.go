package component

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/few"
)

// The ledger's index of live grants, by room and person. It is in memory, and is filled at the start with what an earlier process
// wrote down.

// granted is who somebody was let in as, and why. The By of a muc.Grant is a *granted, which does not change any more: there may be very
// many grants, and all that know of one share it.
type granted struct {
	Proof  *auth.Proof `json:",omitempty"` // nil for a guest
	Reason auth.Reason `json:",omitempty"`
	// RemoveAt is when the person is put out; zero if they stay.
	RemoveAt time.Time `json:",omitzero"`
	Machine  machine   `json:",omitzero"`
	// Knocked says that the person was left to the lobby of the room; see knocked.go.
	Knocked bool `json:",omitempty"`
	// Seat is the person's seat in a room that has only so many; 0 for none.
	Seat int `json:",omitempty"`
}

// proven returns what is kept of a proof; nil for somebody without one.
func proven(p auth.Proof) *auth.Proof {
	if p == (auth.Proof{}) {
		return nil
	}
	kept := p
	return &kept
}

// proof returns by what the person was let in; the zero Proof for a guest.
func (g *granted) proof() auth.Proof {
	if g.Proof == nil {
		return auth.Proof{}
	}
	return *g.Proof
}

// machine is what is kept of a machine-uid, enough to know it again: its SHA-256. It is zero if the client named none.
type machine [sha256.Size]byte

func machineOf(uid string) (m machine) {
	if uid != "" {
		m = sha256.Sum256([]byte(uid))
	}
	return m
}

// MarshalText implements encoding.TextMarshaler.
func (m machine) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, m[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *machine) UnmarshalText(text []byte) error {
	if base64.RawURLEncoding.DecodedLen(len(text)) != len(m) {
		return errors.New("not the fingerprint of a machine")
	}
	_, err := base64.RawURLEncoding.Decode(m[:], text)
	return err
}

// live is a grant that has not ended, the one that package muc has, too. It does not change: a new grant of the same person is another one.
type live muc.Grant

// room returns the room as the rules know it.
func (g *live) room() auth.Room {
	if r, err := auth.ParseRoom(g.Room.String()); err == nil {
		return r
	}
	return auth.Room{JID: g.Room}
}

// by returns who was let in, and why.
func (g *live) by() *granted { return grantedBy((*muc.Grant)(g)) }

// grantedBy returns who was let in with a grant, and why.
func grantedBy(g *muc.Grant) *granted {
	if by, ok := g.By.(*granted); ok {
		return by
	}
	return unknown
}

// index has grants by room and person.
type index map[string]few.Map[*live]

// of returns the grant of a person, or nil.
func (x index) of(room, who string) *live {
	g, _ := x[room].Get(who)
	return g
}

func (x index) put(room, who string, g *live) {
	people := x[room]
	people.Put(who, g)
	x[room] = people
}

func (x index) remove(room, who string) {
	people := x[room]
	if people.Delete(who); len(people) > 0 {
		x[room] = people
	} else {
		delete(x, room)
	}
}

// in appends the grants of a room.
func (x index) in(all []*live, room string) []*live {
	for _, g := range x[room] {
		all = append(all, g.Value)
	}
	return all
}

// everywhere appends the grants of all rooms.
func (x index) everywhere(all []*live) []*live {
	for room := range x {
		all = x.in(all, room)
	}
	return all
}

// unknown is for grants of which nothing is known.
var unknown = &granted{}

// ofPerson reports whether a record of the ledger is about somebody's right, and not about a room; see muc.Grant.
func ofPerson(g *muc.Grant) bool { return g.Affiliation != "" && !g.Room.Equal(g.Who) }

// enter makes a grant the live one of its person, and returns it and the earlier one. The caller holds mu.
func (l *ledger) enter(g *muc.Grant) (now, was *live) {
	if !ofPerson(g) {
		return nil, nil
	}
	room, who := g.Room.String(), g.Who.String()
	now, was = (*live)(g), l.rooms.of(room, who)
	l.forgetKnocked(room, who)
	l.rooms.put(room, who, now)
	l.endings.forget(was)
	l.endings.expect(now)
	return now, was
}

// strikeOut forgets the live grant of a person. The caller holds mu.
func (l *ledger) strikeOut(room, who string) {
	l.endings.forget(l.rooms.of(room, who))
	l.rooms.remove(room, who)
}

// of returns the live grant of a person, or what is known of somebody who was left to a lobby, or nil.
func (l *ledger) of(room, who jid.JID) *live {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, bare := room.String(), who.Bare().String()
	if g := l.rooms.of(at, bare); g != nil {
		return g
	}
	return l.lobby.of(at, bare)
}

// isLive reports whether a grant is still the one of its person.
func (l *ledger) isLive(g *live) bool { return l.of(g.Room, g.Who) == g }

// in returns the live grants of a room, in no order.
func (l *ledger) in(room jid.JID) []*live {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rooms.in(nil, room.String())
}

// all returns all live grants, in no order.
func (l *ledger) all() []*live {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rooms.everywhere(nil)
}

// LiveGrant is the right of somebody to be in a room.
type LiveGrant struct {
	Room, Who   jid.JID     // both bare
	Affiliation string      // empty for somebody that usher left to a lobby
	Reason      auth.Reason // why it was given; empty if an older version of usher gave it
	// Issuer, JTI and User name the token, as it has them. They are empty for people without one.
	Issuer, JTI, User string
	At, Expires       time.Time // when it was given, and when the right ends; Expires is zero for a right without end
	RemoveAt          time.Time // when usher puts the person out; zero if they may stay
}

func (g *live) public() LiveGrant {
	p := g.by().proof()
	return LiveGrant{
		Room: g.Room, Who: g.Who, Affiliation: g.Affiliation, Reason: g.by().Reason,
		Issuer: p.Issuer, JTI: p.ID, User: p.User,
		At: g.At, Expires: g.Expires, RemoveAt: g.by().RemoveAt,
	}
}

// public returns grants as others see them, by room, time and person.
func public(all []*live) []LiveGrant {
	shown := make([]LiveGrant, len(all))
	for i, g := range all {
		shown[i] = g.public()
	}
	slices.SortFunc(shown, func(a, b LiveGrant) int {
		return cmp.Or(cmp.Compare(a.Room.String(), b.Room.String()), a.At.Compare(b.At), cmp.Compare(a.Who.String(), b.Who.String()))
	})
	return shown
}

// Grants returns the live grants of a room, or of all rooms if room is empty. The room's address may be in either spelling of a
// tenant's rooms, see auth.Authorizer.Room. People of a breakout room have their grant in its main room. People with a token that usher
// left to the lobby of a room are listed until it ends, without an affiliation. The error is an ErrRoom. Any goroutine may call it.
func (c *Component) Grants(room string) ([]LiveGrant, error) {
	if room != "" {
		j, err := c.guardedRoom(room)
		if err != nil {
			return nil, err
		}
		room = j.String()
	}
	return public(c.ledger.everybody(room)), nil
}

// ErrRoom means that an operator has named a room in which usher gives nobody a right.
var ErrRoom = errors.New("no room that usher guards")

// Issuers returns the names of the issuers (app_id), sorted. Any goroutine may call it.
func (c *Component) Issuers() []string { return c.policy.Load().Issuers() }

// guardedRoom returns the address of a room that an operator has named: its address or, if usher guards one MUC service, its name. A
// mistake must not look like a room with nobody inside.
func (c *Component) guardedRoom(address string) (jid.JID, error) {
	p := c.policy.Load()
	if address != "" && !strings.Contains(address, "@") {
		if len(p.services) > 1 {
			return jid.JID{}, fmt.Errorf("%w: usher guards several MUC services; write the whole address, such as standup@%s", ErrRoom, p.services[0])
		}
		address += "@" + p.services[0].String()
	}
	room, err := p.Room(address)
	switch {
	case err != nil:
		return room, fmt.Errorf("%w: %w", ErrRoom, err)
	case p.IsBreakout(auth.Room{JID: room}):
		return room, fmt.Errorf("%w: this is a breakout room, and rights there are those in its main room: name that", ErrRoom)
	case !c.tends(room.Domainpart()):
		return room, fmt.Errorf("%w: a room's address is NAME@SERVICE, such as standup@%s", ErrRoom, p.services[0])
	}
	return room, nil
}
