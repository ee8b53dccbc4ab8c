package muc

import (
	"context"
	"errors"
	"slices"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// How Rooms find out that a service makes rooms as they must be, so that they need not be configured.
//
// A form costs the server as much as a person who joins. With the lines of "usher config prosody" a new room is what it must be
// already, so after usher has looked at one of them, it trusts the service to make the next ones alike. A look asks for the form of a
// room that usher has created, before anything is submitted. It also finds out whether the room is locked until a form comes
// (XEP-0045 §10.1.2). Prosody does not say so, but lets nobody in then (muc/lock.lib.lua). So a second resource of usher's tries to
// enter, and leaves at once. Prosody puts it under the nick that usher has already, where nobody sees it. If the room has just ended, it
// makes one that ends at once; a service that makes persistent rooms is never trusted.
//
// Somebody may change the server's configuration and have it read again at any time, and new rooms may be open from then on. So
// trust ends after trustRooms rooms or trustFor, and with the connection, and then usher looks at the next new room. Until that look
// has succeeded, it remembers the rooms that it made on trust. If no room follows, it looks at the last one of those. If a look shows
// anything wrong, or somebody without an affiliation comes into one of these rooms, all of them are made what they must be at once,
// and each later room of this connection is configured. So the rooms that can be wrong are few, and strangers in them are
// noticed as they come in.
//
// This is for Prosody, which is known by its form; see server.go. Rooms on other servers are always configured.

const (
	trustFor   = 10 * time.Second
	trustRooms = 16
)

// errMade is why rooms are configured that were not.
var errMade = errors.New("the server makes rooms now that are not what they must be, so usher configures each room again. " +
	"Has the server's configuration changed? \"usher config prosody\" prints the lines that rooms depend on")

// trust is what usher knows of the rooms that a service makes. The lock of the Rooms covers it.
type trust struct {
	prosody bool      // its form is known to be Prosody's
	never   bool      // on this connection: a new room was not what it must be
	looking bool      // a look is under way
	until   time.Time // rooms that are made until then need not be configured
	left    int       // how many rooms may still be made without a look
	unsure  []*room   // made on trust since the last look
}

// trustIn returns what is known of a room's service. The caller holds mu.
func (r *Rooms) trustIn(room jid.JID) *trust {
	t := r.trusts[room.Domainpart()]
	if t == nil {
		t = new(trust)
		r.trusts[room.Domainpart()] = t
	}
	return t
}

// isMade reports whether a room that usher has just created is what it must be without being configured.
func (r *Rooms) isMade(ctx context.Context, rm *room) bool {
	r.mu.Lock()
	t, now := r.trustIn(rm.jid), r.Now()
	if t.left > 0 && now.Before(t.until) {
		t.left--
		if t.unsure, rm.unsure = append(t.unsure, rm), now; len(t.unsure) == 1 {
			r.wake.Ring()
		}
		r.mu.Unlock()
		return true
	}
	if t.never || t.looking {
		r.mu.Unlock()
		return false
	}
	t.looking = true
	second := t.prosody // only then: other servers may not treat two resources as one occupant
	r.mu.Unlock()
	is, err := r.lookAt(ctx, rm, second)
	r.mu.Lock()
	defer r.mu.Unlock()
	t.looking = false
	if r.trusts[rm.jid.Domainpart()] != t || err != nil {
		return false // nothing is known
	}
	t.prosody = isProsody(is.offers)
	in := rm.wasLetIn()
	switch {
	case !t.prosody, !is.asMust(r.Configuration), is.Persistent, second && !in:
		r.distrust(t)
		return false
	case !second:
		return false
	}
	t.left, t.until = trustRooms, r.Now().Add(trustFor)
	t.sure(len(t.unsure))
	return true
}

// lookAt asks for the form of a room, and has the second resource try to enter if that is wanted. The room answers in order, so
// what it says to the second resource is known when the form is there.
func (r *Rooms) lookAt(ctx context.Context, rm *room, second bool) (Settings, error) {
	if second {
		r.mu.Lock()
		err := r.try(rm)
		r.mu.Unlock()
		if err != nil {
			return Settings{}, err
		}
	}
	return r.Owner.Settings(ctx, rm.jid)
}

// try has the second resource try to enter a room, and leave at once. The caller holds mu.
func (r *Rooms) try(rm *room) error {
	rm.second = trying
	return errors.Join(r.Owner.Session.Send(r.joinStanza(r.second, rm)), r.Owner.Session.Send(r.leaveStanza(r.second, rm)))
}

// tried is what became of the second resource's attempt to enter a room.
type tried uint8

const (
	untried tried = iota
	trying
	letIn
	refused // as a locked room does
)

// wasLetIn reports whether the second resource was let in. If the room has not said anything yet, as with a module that holds people up
// at the door, the resource leaves when it comes in. The caller holds mu.
func (rm *room) wasLetIn() bool {
	in := rm.second == letIn
	rm.second = untried
	return in
}

// presenceOfSecond takes in a presence for the second resource. The caller holds mu.
func (r *Rooms) presenceOfSecond(rm *room, p said) {
	expected := rm != nil && rm.second == trying
	switch {
	case expected && p.typ == "error" && p.err != nil && p.err.Condition == stanza.ItemNotFound:
		rm.second = refused
	case p.typ != "" || expected && !p.user.status("110"):
	case expected:
		rm.second = letIn
	default:
		// It came in late, or an earlier process has left it inside. The room could not end.
		room := &room{grants: grants{jid: p.from.Bare()}, nick: p.from.Resourcepart()}
		if err := r.Owner.Session.Send(r.leaveStanza(r.second, room)); err != nil {
			r.Warn(room.jid, "could not leave the room", err)
		}
	}
}

// sure notes that the first n rooms made on trust are what they must be.
func (t *trust) sure(n int) {
	for _, rm := range t.unsure[:n] {
		rm.unsure = time.Time{}
	}
	t.unsure = slices.Delete(t.unsure, 0, n)
}

// distrust has all rooms made what they must be that were made on trust. The caller holds mu.
func (r *Rooms) distrust(t *trust) {
	if !t.never && len(t.unsure) > 0 {
		r.Warn(t.unsure[0].jid, "new rooms are not what they must be", errMade)
	}
	t.never, t.left = true, 0
	r.doubt(t)
}

// doubt has rooms looked at that were made on trust: all of them after distrust, else the last one if it is time. The caller holds mu.
func (r *Rooms) doubt(t *trust) {
	t.unsure = slices.DeleteFunc(t.unsure, func(rm *room) bool { return r.rooms[rm.jid.String()] != rm || rm.unsure.IsZero() })
	if t.never {
		for _, rm := range t.unsure {
			r.change(rm.jid)
		}
	} else if n := len(t.unsure); n > 0 && r.Now().Sub(t.unsure[0].unsure) >= trustFor && r.change(t.unsure[n-1].jid) {
		_ = r.try(t.unsure[n-1]) // the stream is about to end; on the next connection all rooms are configured
	}
}

// makeSure takes in what a room was when it was looked at; ours says that nobody had configured it. After distrust it configures the room
// in any case, because it may be locked.
func (r *Rooms) makeSure(ctx context.Context, rm *room, is Settings, ours bool) error {
	if !r.learnMade(rm, is, ours) {
		return nil
	}
	err := r.Owner.Configure(ctx, rm.jid, r.Configuration)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		rm.unsure = time.Time{}
	}
	return err
}

// learnMade takes in what a room was when it was looked at. It reports whether the room is to be configured although it is what it
// must be.
func (r *Rooms) learnMade(rm *room, is Settings, ours bool) (configure bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.trustIn(rm.jid)
	switch at := slices.Index(t.unsure, rm); {
	case at < 0:
	case !ours && !t.never: // somebody inside has configured it, which says nothing about the others
		rm.unsure, t.unsure = time.Time{}, slices.Delete(t.unsure, at, at+1)
	case !is.asMust(r.Configuration), rm.second != untried && !rm.wasLetIn():
		r.distrust(t)
	case !t.never:
		t.sure(at + 1)
	}
	return !rm.unsure.IsZero()
}

// strangerIn has rooms looked at that were made on trust, because somebody without an affiliation is in one; came says that they were not
// before. An open room is looked at itself: the module that keeps strangers out may have been unloaded. The caller holds mu.
func (r *Rooms) strangerIn(rm *room, came bool) {
	switch {
	case !r.Configuration.MembersOnly && came:
		r.change(rm.jid)
	case r.Configuration.MembersOnly && !rm.unsure.IsZero():
		r.distrust(r.trustIn(rm.jid))
	}
}
