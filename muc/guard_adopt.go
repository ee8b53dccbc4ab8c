package muc

import (
	"context"
	"errors"
	"time"

	"mellium.im/xmpp/jid"
)

// How Guard treats rooms that began without usher, see adopt.go.

// adopt begins to look after a room that exists, if it is not known. The caller holds mu.
func (g *Guard) adopt(j jid.JID) {
	if g.rooms[j.String()] == nil {
		rm := g.room(j)
		rm.phase, rm.roles.inherited = phaseSighted, true
		rm.nextEnforce, rm.nextAudit = g.Now(), g.Now()
		g.file(rm)
	}
}

// unsearched reports whether the room's lists have yet to be looked through, and how much was told of the room so far.
func (g *Guard) unsearched(rm *guarded) (is bool, news uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !rm.searched && rm.ruled(), rm.news
}

// search lists the affiliations in a room that was there before usher. It must come before the question who is inside: the next
// audit takes back what people outside have. People on the lists may take joinWithin from since on to join.
func (g *Guard) search(ctx context.Context, j jid.JID) (rights []Item, since time.Time, err error) {
	rights, err = g.Owner.affiliated(ctx, j)
	if g.peopleAmong(rights) {
		since = g.since(ctx, j)
	}
	return rights, since, err
}

// claimRights takes in what a search found. The caller holds mu.
func (g *Guard) claimRights(rm *guarded, f findings) {
	if rm.lasts == lastingUnknown {
		return // the question what it is failed; the next look asks and searches again
	}
	since := f.since
	rm.searched = true
	if rm.altered && !ownerAmong(f.rights, g.isFocus) {
		rm.lasts, rm.altered = persistent, false // the focus has not created it: it is another room of the same name
	}
	if rm.lasts != temporary {
		return
	}
	if len(g.of[rm.jid.String()]) > 0 {
		since = g.Now() // people may be on their way from one room to another
	}
	untouched := func(who jid.JID) bool { return g.isFocus(who) || g.removedSince(rm, who.String(), f.asked) }
	if rm.claim(f.rights, since, nobody, untouched) {
		g.auditSoon(rm)
	}
}

// noteSettings takes in what a room is, writes that down, and makes the room temporary if an owner has made it persistent.
func (g *Guard) noteSettings(ctx context.Context, rm *guarded, is Settings) error {
	g.mu.Lock()
	if g.rooms[rm.jid.String()] != rm { // it has ended
		g.mu.Unlock()
		return nil
	}
	rm.learn(is)
	changed := is.Persistent && rm.lasts == temporary
	rm.altered = rm.altered || changed
	if changed || is.loose || g.Configuration.MembersOnly && !is.MembersOnly {
		g.stir(rm)
	}
	changed = changed && rm.searched // otherwise it may be another room of the same name
	g.mu.Unlock()
	err := rm.note(ctx, &g.mu)
	// Nobody tells usher of breakout rooms that nobody has entered yet.
	if changed && (g.Breakouts == nil || !g.Breakouts()) && !g.lobbied(ctx, rm.jid) {
		err = errors.Join(err, g.makeTemporary(ctx, rm.jid))
	}
	return err
}
