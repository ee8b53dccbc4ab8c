package muc

import (
	"context"
	"errors"
	"time"

	"mellium.im/xmpp/jid"
)

// How Rooms treat rooms that began without usher, or that others configured, see adopt.go.

// search looks through the lists of a room that was there before usher, and returns its settings. usher has entered it, and knows
// who else is inside.
func (r *Rooms) search(ctx context.Context, rm *room) (Settings, error) {
	is, err := r.Owner.Settings(ctx, rm.jid)
	if err != nil || rm.searched {
		return is, err
	}
	rights, err := r.Owner.affiliated(ctx, rm.jid)
	if err != nil {
		return is, err
	}
	at := r.since(ctx, rm.jid)
	r.mu.Lock()
	defer r.mu.Unlock()
	if is.Persistent {
		if rm.lasts = persistent; ownerAmong(rights, r.Owner.JID.Equal) {
			rm.lasts = temporary // usher has created it; otherwise it is another room of the same name
		}
	}
	rm.learn(is)
	if rm.searched = true; rm.lasts == temporary {
		rm.claim(rights, at, func(who jid.JID) bool { return rm.has(who.String()) }, r.isOurs)
	}
	return is, nil
}

// noteSettings takes in what a room is, writes that down, and makes the room temporary if an owner has made it persistent.
func (r *Rooms) noteSettings(ctx context.Context, rm *room, is Settings) error {
	known, changed := r.learn(rm, is)
	if !known {
		return nil
	}
	err := rm.note(ctx, &r.mu)
	if changed && !r.lobbied(ctx, rm.jid) {
		err = errors.Join(err, r.makeTemporary(ctx, rm.jid))
	}
	return err
}

// learn takes in what a room is now. It reports whether the room is still known, and whether an owner has made it persistent.
func (r *Rooms) learn(rm *room, is Settings) (known, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known = r.rooms[rm.jid.String()] == rm; known {
		rm.learn(is)
	}
	return known, is.Persistent && rm.lasts == temporary
}

// finish leaves a room that nobody needs and somebody has configured. A temporary room ends, with all rights in it. If a lobby
// keeps the room, the rights are taken back first. In a persistent room usher stays as long as the room exists; otherwise an owner
// outside could open it to all, and nobody would notice.
func (r *Rooms) finish(ctx context.Context, j jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	rm := r.known(j)
	if rm == nil {
		return
	}
	kept, rights, err := r.unneed(ctx, rm)
	r.mu.Lock()
	defer r.mu.Unlock()
	rm.finishing = false
	switch {
	case Absent(err): // the room tells that itself
	case err != nil:
		r.Warn(j, "could not leave the room", err)
	case r.rooms[j.String()] != rm || !r.needless(rm): // somebody has come
	case rm.lasts == persistent:
		rm.keepUntil = r.Now().Add(joinWithin) // until it is looked at again
	case kept && r.takeAll(rm, rights):
		r.leaveIfNeedless(rm) // once the room has told of all that; otherwise it would call usher back
	case kept, len(rm.live) == 0:
		r.quit(rm, r.leave) // which ends a temporary room
	default:
		r.quit(rm, r.destroy) // nobody enters it any more by what they had
	}
}

// unneed prepares the end of a room. It reports whether a lobby keeps the room, and which rights there are then.
func (r *Rooms) unneed(ctx context.Context, rm *room) (kept bool, rights []Item, err error) {
	is, err := r.Owner.Settings(ctx, rm.jid)
	if err != nil {
		return false, nil, err
	}
	switch _, changed := r.learn(rm, is); {
	case changed && r.lobbied(ctx, rm.jid):
		rights, err = r.Owner.affiliated(ctx, rm.jid)
		return true, rights, err
	case changed:
		err = r.makeTemporary(ctx, rm.jid)
	}
	return false, nil, err
}

// takeAll takes back what usher has given in a room, and what others have, once each, because the server may refuse. It reports whether
// there was anything. The caller holds mu.
func (r *Rooms) takeAll(rm *room, rights []Item) bool {
	tried := func(who jid.JID) bool { return r.isOurs(who) || rm.tried[who.String()] }
	rm.claim(rights, time.Time{}, nobody, tried)
	if len(rm.live) == 0 {
		return false
	}
	if rm.tried == nil {
		rm.tried = make(map[string]bool)
	}
	for bare := range rm.live {
		rm.tried[bare] = true
		r.withdraw(rm, bare)
	}
	return true
}
