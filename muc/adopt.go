package muc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Rooms that began without usher, and rooms that go on without anybody.
//
// A room that an earlier process knew has affiliations that usher knows nothing about: of people who left while no usher ran, or
// who were let in by an usher without a store. So when usher meets a room that exists already, it looks through the lists once. An
// affiliation of somebody outside is taken back at once. That of somebody inside counts as a grant, and is taken back when they
// leave: a lobby makes members, too, and no server says who made a member. A grant that is in the ledger keeps its own times.
//
// This applies to rooms that the server ends with their last occupant. Only admins of the MUC service create rooms there
// (restrict_room_creation), so usher or Jicofo made them. A room that is persistent when usher first sees it was made so on
// purpose: by an operator, or by mod_muc_breakout_rooms.lua and mod_persistent_lobby.lua. usher keeps strangers out of it, and does
// not change its lists.
//
// If a room was temporary and is persistent now, an owner inside has changed it. What that owner gave to others would stay when all
// have left, so usher makes the room temporary again. It does not while the room has a lobby or may have breakout rooms, which make
// it persistent for their own needs. When everybody has left, the room ends; if it cannot, the rights in it end.
//
// This file has the common part; rooms_adopt.go and guard_adopt.go have the rest.

// lasting is what becomes of a room that everybody has left, as the ledger has it.
type lasting string

const (
	lastingUnknown lasting = ""
	// temporary is a room that the server ends with its last occupant, or did when usher first saw it.
	temporary lasting = "temporary"
	// persistent is a room that was to stay when usher first saw it.
	persistent lasting = "persistent"
)

// noteEvery is the interval after which a room is written down again: the ledger forgets a record after some days.
const noteEvery = 24 * time.Hour

// errPersistent is why a room is made temporary.
var errPersistent = errors.New("somebody made it persistent, so that it would go on with all rights in it when everybody has left. " +
	"A room that is to stay has to be persistent before usher lets anybody into it. " +
	"Set muc_room_allow_persistent = false in Prosody, so that owners cannot do that")

// learn takes in what the room is now.
func (gs *grants) learn(is Settings) {
	switch {
	case is.Temporary:
		gs.lasts = temporary
	case is.Persistent && gs.lasts == lastingUnknown:
		gs.lasts = persistent
	}
}

// note writes the room itself down, if that is due, so that the next process knows the room even if nobody holds anything there.
// mu covers gs.
func (gs *grants) note(ctx context.Context, mu *sync.Mutex) error {
	mu.Lock()
	lasts, at := gs.lasts, gs.Now()
	if !gs.noteDue() {
		mu.Unlock()
		return nil
	}
	gs.notedAt = at
	mu.Unlock()
	err := gs.Ledger.Granted(ctx, &Grant{Room: gs.jid, Who: gs.jid, Affiliation: string(lasts), At: at}, nil)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	case gs.lasts == lastingUnknown: // it has ended meanwhile
		gs.Ledger.Ended(gs.jid, gs.jid)
	default:
		gs.noted = lasts
	}
	return nil
}

// noteDue reports whether it is time to write the room down, or to try again. The caller holds the lock that covers gs.
func (gs *grants) noteDue() bool {
	at := gs.noteAt()
	return !at.IsZero() && !gs.Now().Before(at)
}

// noteAt returns when that is; the zero time for a room that is not written down.
func (gs *grants) noteAt() time.Time {
	switch {
	case gs.lasts == lastingUnknown:
		return time.Time{}
	case gs.lasts != gs.noted:
		return gs.notedAt.Add(joinWithin)
	}
	return gs.notedAt.Add(noteEvery)
}

// isNote reports whether a record of the ledger is about a room itself.
func (g *Grant) isNote() bool { return g.Who.Equal(g.Room) }

// remember takes in what an earlier process wrote down of the room itself.
func (gs *grants) remember(g *Grant) {
	if l := lasting(g.Affiliation); l == temporary || l == persistent {
		gs.lasts, gs.noted, gs.notedAt = l, l, g.At
	}
}

// claim turns affiliations that others have given in the room, at a time, into grants of usher. It passes over people who have a
// grant or are untouched. It reports whether there were any others. The caller holds the lock that covers gs.
func (gs *grants) claim(items []Item, at time.Time, joined, untouched func(who jid.JID) bool) (some bool) {
	for _, i := range items {
		who, ok := i.real()
		if !ok || untouched(who) || gs.live[who.String()] != nil {
			continue
		}
		g := &grant{Grant: &Grant{Room: gs.jid, Who: who, Affiliation: i.Affiliation, At: at}, state: stateGiven, ledger: found}
		if joined(who) {
			g.on(eventCame)
		}
		gs.put(who.String(), g)
		some = true
	}
	return some
}

// affiliated lists owners, admins and members, each with their affiliation.
func (o Owner) affiliated(ctx context.Context, room jid.JID) (all []Item, err error) {
	affiliations := [...]string{"owner", "admin", "member"}
	var lists [len(affiliations)][]Item
	var g errgroup.Group // at once, so that an affiliation that changes meanwhile is on one of them
	for n, affiliation := range affiliations {
		g.Go(func() (err error) {
			lists[n], err = o.WithAffiliation(ctx, room, affiliation)
			return err
		})
	}
	err = g.Wait()
	for n, affiliation := range affiliations {
		for _, i := range lists[n] {
			i.Affiliation = affiliation // as asked
			all = append(all, i)
		}
	}
	return all, err
}

// hasInside reports whether somebody is inside. It stops at the list that has them: that of a large room may fit into no stanza.
func (o Owner) hasInside(ctx context.Context, room, who jid.JID) (bool, error) {
	for _, role := range rolesInside {
		items, err := o.WithRole(ctx, room, role)
		if err != nil || bareJIDs(items)[who.String()] {
			return err == nil, err
		}
	}
	return false, nil
}

// rolesInside are the roles of people inside.
var rolesInside = [...]string{"moderator", "participant", "visitor"}

// occupants lists everybody inside.
func (o Owner) occupants(ctx context.Context, room jid.JID) (all []Item, err error) {
	for _, role := range rolesInside {
		items, err := o.WithRole(ctx, room, role)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}

// makeTemporary has the server end the room with its last occupant.
func (o Options) makeTemporary(ctx context.Context, room jid.JID) error {
	err := o.Owner.submit(ctx, room, temporaryRoom)
	if err == nil {
		o.Warn(room, "the room is temporary again", errPersistent)
	}
	return err
}

// lobbied reports whether the room has a lobby. If the lobby service does not answer, the room counts as having one.
func (o Options) lobbied(ctx context.Context, room jid.JID) bool {
	if o.Lobby == nil {
		return false
	}
	at, err := o.Lobby.At(ctx, room)
	return at || err != nil
}

// since returns the time from which people who have an affiliation in a room that usher meets may take joinWithin to join. Where
// there is a lobby, they may be on their way from it just now; otherwise their time is over.
func (o Options) since(ctx context.Context, room jid.JID) time.Time {
	if o.lobbied(ctx, room) {
		return o.Now()
	}
	return time.Time{}
}

// isOurs reports whether an address is one of usher's own.
func (o Options) isOurs(who jid.JID) bool { return who.Domainpart() == o.Owner.JID.Domainpart() }

// ownerAmong reports whether one of the owners on a room's lists is such a person. The creator of a room is on its list of owners
// (Prosody's muc.lib.lua, muc-room-pre-create).
func ownerAmong(rights []Item, such func(who jid.JID) bool) bool {
	return slices.ContainsFunc(rights, func(i Item) bool {
		who, ok := i.real()
		return ok && i.Affiliation == "owner" && such(who)
	})
}

// nobody is a predicate that holds for no JID.
func nobody(jid.JID) bool { return false }

// listed returns the public rooms of the services. Servers list no others.
func (o Options) listed(ctx context.Context, services []jid.JID) map[string]jid.JID {
	known := make(map[string]jid.JID)
	for _, s := range services {
		var list items
		err := o.Owner.Session.IQ(ctx, o.Owner.iq(stanza.GetIQ, s), element.New(disco.NSItems, "query"), &list)
		if err != nil {
			o.Warn(s, "could not list the rooms of the service", err)
		}
		for _, i := range list {
			if j, err := jid.ParseUnsafe(i.JID); err == nil && j.Domainpart() == s.Domainpart() && j.Localpart() != "" {
				known[j.Bare().String()] = j.Bare()
			}
		}
	}
	return known
}
