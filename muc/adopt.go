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

// Rooms that began without us, and rooms that go on without anybody.
//
// A room that an earlier process knew has affiliations of which we know nothing: of people who left while no usher ran, or who
// were let in by one without a store. So when we come to know a room that is there already, we look through its lists once.
// What somebody has who is outside is taken back at once; what somebody has who is inside, when they leave, as a grant of our own:
// a lobby makes members, too, and no server says who made a member. What is written down as our grant has its own time.
//
// That goes for rooms that the server ends with their last occupant. Only admins of the MUC service create rooms there
// (restrict_room_creation), so usher or Jicofo made them. A room that is persistent when we first see it was made so on purpose:
// by an operator, or by mod_muc_breakout_rooms.lua and mod_persistent_lobby.lua. Its lists are not ours to change; we keep
// strangers out of it, and nothing else.
//
// A room that was temporary and is persistent now was made so by an owner inside. What they gave to others would stay when all
// have left, so it becomes temporary again; not while it has a lobby or may have breakout rooms, which make it persistent for their
// own needs. And when everybody has left, whatever is still there ends: the room itself, or else the rights in it.

// lasting is what becomes of a room that everybody has left, as the ledger has it.
type lasting string

const (
	lastingUnknown lasting = ""
	// temporary is a room that the server ends with its last occupant, or did when we first saw it.
	temporary lasting = "temporary"
	// persistent is a room that was to stay when we first saw it.
	persistent lasting = "persistent"
)

// noteEvery is the interval after which a room is written down again: what is written down ends some days after that.
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

// note has the room itself written down, if that is due, so that the next process knows of it although nobody may hold
// anything there. mu covers gs.
func (gs *grants) note(ctx context.Context, mu *sync.Mutex) error {
	mu.Lock()
	lasts, at := gs.lasts, time.Now()
	if !gs.noteDue() {
		mu.Unlock()
		return nil
	}
	gs.notedAt = at
	mu.Unlock()
	err := gs.ledger.Granted(ctx, Grant{Room: gs.room, Who: gs.room, Affiliation: string(lasts), At: at})
	mu.Lock()
	defer mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	case gs.lasts == lastingUnknown: // it has ended meanwhile
		gs.ledger.Ended(gs.room, gs.room)
	default:
		gs.noted = lasts
	}
	return nil
}

// noteDue reports whether the room is to be written down, or tried to be once more. The caller holds the lock that covers gs.
func (gs *grants) noteDue() bool {
	every := noteEvery
	if gs.lasts != gs.noted {
		every = joinWithin
	}
	return gs.lasts != lastingUnknown && time.Since(gs.notedAt) >= every
}

// isNote reports whether what is written down is about a room itself.
func (g Grant) isNote() bool { return g.Who.Equal(g.Room) }

// remember takes in what an earlier process wrote down of the room itself.
func (gs *grants) remember(g Grant) {
	if l := lasting(g.Affiliation); l == temporary || l == persistent {
		gs.lasts, gs.noted, gs.notedAt = l, l, g.At
	}
}

// claim takes what others have given in the room for grants of ours, except what is not to be touched. at is when they were given.
// It reports whether there were any. The caller holds the lock that covers gs.
func (gs *grants) claim(items []Item, at time.Time, joined, untouched func(who jid.JID) bool) (some bool) {
	for _, i := range items {
		who, ok := i.real()
		if !ok || untouched(who) || gs.live[who.String()] != nil {
			continue
		}
		g := &grant{Grant: Grant{Room: gs.room, Who: who, Affiliation: i.Affiliation, At: at}, state: stateGiven, ledger: found}
		if joined(who) {
			g.on(eventCame)
		}
		gs.live[who.String()] = g
		some = true
	}
	return some
}

// affiliated lists owners, admins and members, each with what they are.
func (o Owner) affiliated(ctx context.Context, room jid.JID) ([]Item, error) {
	lists := []struct {
		affiliation string
		ask         func(context.Context, jid.JID) ([]Item, error)
		items       []Item
	}{{"owner", o.Owners, nil}, {"admin", o.Admins, nil}, {"member", o.Members, nil}}
	var g errgroup.Group // at once, so that who is made something else meanwhile is on one of them
	for i := range lists {
		g.Go(func() (err error) {
			lists[i].items, err = lists[i].ask(ctx, room)
			return err
		})
	}
	err := g.Wait()
	var all []Item
	for _, l := range lists {
		for _, i := range l.items {
			i.Affiliation = l.affiliation // as asked
			all = append(all, i)
		}
	}
	return all, err
}

// occupants lists everybody inside.
func (o Owner) occupants(ctx context.Context, room jid.JID) (all []Item, err error) {
	for _, list := range []func(context.Context, jid.JID) ([]Item, error){o.Moderators, o.Participants, o.Visitors} {
		items, err := list(ctx, room)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
	}
	return all, nil
}

// makeTemporary has the server end the room with its last occupant.
func (o Options) makeTemporary(ctx context.Context, room jid.JID) error {
	err := o.Owner.Session.IQ(ctx, o.Owner.iq(stanza.SetIQ, room), temporaryForm(), nil)
	if err == nil {
		o.Warn(room, "the room is temporary again", errPersistent)
	}
	return err
}

// lobbied reports whether a lobby is at work for the room, and takes one that does not answer to be.
func (o Options) lobbied(ctx context.Context, room jid.JID) bool {
	if o.Lobby == nil {
		return false
	}
	at, err := o.Lobby.At(ctx, room)
	return at || err != nil
}

// since is from when on somebody may take joinWithin to come who has something in a room that we have come to know: they may be on
// their way from a lobby. Without one, that time is over.
func (o Options) since(ctx context.Context, room jid.JID) time.Time {
	if o.lobbied(ctx, room) {
		return time.Now()
	}
	return time.Time{}
}

// isOurs reports whether an address is one of our own.
func (o Options) isOurs(who jid.JID) bool { return who.Domainpart() == o.Owner.JID.Domainpart() }

// listed returns the public rooms of the services. Servers list no others.
func (o Options) listed(ctx context.Context, services []jid.JID) map[string]jid.JID {
	known := make(map[string]jid.JID)
	for _, s := range services {
		var list struct {
			Items []Item `xml:"item"`
		}
		err := o.Owner.Session.IQ(ctx, o.Owner.iq(stanza.GetIQ, s), element.New(disco.NSItems, "query"), &list)
		if err != nil {
			o.Warn(s, "its rooms could not be listed", err)
		}
		for _, i := range list.Items {
			if j, err := jid.ParseUnsafe(i.JID); err == nil && j.Domainpart() == s.Domainpart() && j.Localpart() != "" {
				known[j.Bare().String()] = j.Bare()
			}
		}
	}
	return known
}

// In rooms in which we are.

// search looks through the lists of a room that was there before us, and returns its settings. We have entered it, and who else is
// inside is known.
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
	// Its creator is on a room's list of owners (Prosody's muc.lib.lua, muc-room-pre-create). So either we made this room, or it is
	// another one of the same name.
	ours := slices.ContainsFunc(rights, func(i Item) bool {
		who, ok := i.real()
		return ok && who.Equal(r.Owner.JID) && i.Affiliation == "owner"
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if is.Persistent {
		rm.lasts = map[bool]lasting{true: temporary, false: persistent}[ours]
	}
	rm.learn(is)
	if rm.searched = true; rm.lasts == temporary {
		rm.claim(rights, at, func(who jid.JID) bool { return rm.has(who.String()) }, r.isOurs)
	}
	return is, nil
}

// keep has a room that we are in written down, and makes it temporary if an owner has changed that.
func (r *Rooms) keep(ctx context.Context, rm *room, is Settings) error {
	r.mu.Lock()
	if r.rooms[rm.jid.String()] != rm { // it has ended
		r.mu.Unlock()
		return nil
	}
	rm.learn(is)
	changed := is.Persistent && rm.lasts == temporary
	r.mu.Unlock()
	err := rm.note(ctx, &r.mu)
	if changed && !r.lobbied(ctx, rm.jid) {
		err = errors.Join(err, r.makeTemporary(ctx, rm.jid))
	}
	return err
}

// finish leaves a room that nobody needs and somebody has configured. A temporary room ends with all rights in it. If it has a lobby
// that keeps it, the rights are taken back first. In a persistent room we stay as long as it exists: otherwise an owner outside
// could open it to all, and nobody would notice.
func (r *Rooms) finish(ctx context.Context, j jid.JID) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r.mu.Lock()
	rm := r.rooms[j.String()]
	r.mu.Unlock()
	if rm == nil {
		return
	}
	is, err := r.Owner.Settings(ctx, j)
	end := r.leave // which ends a temporary room
	var rights []Item
	if err == nil {
		r.mu.Lock()
		if r.rooms[j.String()] == rm {
			rm.learn(is)
		}
		changed := is.Persistent && rm.lasts == temporary
		r.mu.Unlock()
		switch {
		case changed && r.lobbied(ctx, j):
			rights, err = r.Owner.affiliated(ctx, j)
		case changed:
			end, err = r.destroy, r.makeTemporary(ctx, j)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rm.finishing = false
	switch {
	case Absent(err): // of which the room itself tells us
		return
	case err != nil:
		r.Warn(j, "the room could not be left", err)
		return
	case r.rooms[j.String()] != rm || !r.needless(rm):
		return // somebody has come
	case rm.lasts == persistent:
		rm.keepUntil = time.Now().Add(joinWithin) // until it is looked at again
		return
	}
	tried := func(who jid.JID) bool { return r.isOurs(who) || rm.tried[who.String()] } // the server may have refused
	if rm.claim(rights, time.Time{}, func(jid.JID) bool { return false }, tried) {
		if rm.tried == nil {
			rm.tried = make(map[string]bool)
		}
		for bare := range rm.live {
			rm.tried[bare] = true
			r.withdraw(rm, bare)
		}
		r.leaveIfNeedless(rm) // once the room has told us of all that: else it would call us back
		return
	}
	r.forget(rm)
	rm.end(nil)
	if err := end(rm); err != nil {
		r.Warn(rm.jid, "the room could not be left", err)
	}
}

// In rooms of another focus.

// search looks through the lists of a room that was there before us, before it is asked who is inside: at the next audit, what
// those have who are not is taken back.
func (g *Guard) search(ctx context.Context, j jid.JID) (rights []Item, since time.Time, err error) {
	rights, err = g.Owner.affiliated(ctx, j)
	if g.people(rights) {
		since = g.since(ctx, j)
	}
	return rights, since, err
}

// searched takes in what a search found. The caller holds mu.
func (g *Guard) searched(rm *guarded, rights []Item, since time.Time) {
	rm.searched = true
	if rm.altered && !slices.ContainsFunc(rights, func(i Item) bool {
		who, ok := i.real()
		return ok && g.isFocus(who) && i.Affiliation == "owner"
	}) {
		rm.lasts, rm.altered = persistent, false // another room of the same name: a creator is on the list of owners
	}
	if rm.lasts != temporary {
		return
	}
	if len(g.of[rm.jid.String()]) > 0 {
		since = time.Now() // people may be on their way from one room to another
	}
	if rm.claim(rights, since, func(jid.JID) bool { return false }, g.isFocus) {
		rm.audit = time.Now()
	}
}

// unsearched reports whether the room's lists are still to be looked through.
func (g *Guard) unsearched(rm *guarded) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !rm.searched && rm.ruled()
}

// keep takes in what a room is, has it written down, and makes it temporary if an owner has changed that.
func (g *Guard) keep(ctx context.Context, rm *guarded, is Settings) error {
	g.mu.Lock()
	if g.rooms[rm.jid.String()] != rm { // it has ended
		g.mu.Unlock()
		return nil
	}
	rm.learn(is)
	changed := is.Persistent && rm.lasts == temporary
	rm.altered = rm.altered || changed
	changed = changed && rm.searched // otherwise it may be another room of the same name
	g.mu.Unlock()
	err := rm.note(ctx, &g.mu)
	// Nobody tells us of breakout rooms that nobody has entered yet.
	if changed && (g.Breakouts == nil || !g.Breakouts()) && !g.lobbied(ctx, rm.jid) {
		err = errors.Join(err, g.makeTemporary(ctx, rm.jid))
	}
	return err
}

// people reports whether somebody is among the occupants who is no focus.
func (g *Guard) people(occupants []Item) bool {
	return slices.ContainsFunc(occupants, func(i Item) bool {
		who, ok := i.real()
		return ok && !g.isFocus(who)
	})
}

// expects reports whether somebody has been admitted, and may be on the way. The caller holds mu.
func (rm *guarded) expects() bool {
	return rm.any(func(gr *grant) bool { return gr.state.asking() || gr.state == stateGiven && gr.ledger != found })
}

// deserted reports whether everybody has left a temporary room for so long that nobody is on the way to it. The caller holds mu.
func (g *Guard) deserted(rm *guarded, occupants []Item, asked time.Time) bool {
	here := g.people(occupants)
	for b := range g.of[rm.jid.String()] {
		here = here || b.peopled
	}
	if rm.peopled = here; here || !rm.ruled() || rm.lasts != temporary {
		rm.left = time.Time{}
		return false
	}
	if rm.left.IsZero() {
		rm.left = asked
	}
	if asked.Sub(rm.left) < auditEvery || rm.expects() {
		return false
	}
	rm.left = asked.Add(joinWithin) // in case something is there again, or was not taken back
	return true
}

// finish ends a room that everybody has left, and that is still there. If the focus is inside, or a lobby is at work, all rights
// are taken back, and the room is left to them.
func (g *Guard) finish(ctx context.Context, rm *guarded) error {
	is, err := g.Owner.Settings(ctx, rm.jid)
	if err != nil {
		return err
	}
	lobbied := g.lobbied(ctx, rm.jid)
	if is.Persistent && !lobbied {
		if err := g.makeTemporary(ctx, rm.jid); err != nil {
			return err
		}
	}
	rights, err := g.Owner.affiliated(ctx, rm.jid)
	if err != nil {
		return err
	}
	occupants, err := g.Owner.occupants(ctx, rm.jid)
	if err != nil || g.people(occupants) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm.expects() {
		return nil
	}
	if !lobbied && len(occupants) == 0 && rm.used {
		return g.Owner.Destroy(rm.jid) // the next look sees that it is gone
	}
	rm.claim(rights, time.Time{}, func(jid.JID) bool { return false }, g.isFocus)
	for _, gr := range rm.live {
		gr.on(eventWithdraw)
	}
	return nil
}

// adopt has a room guarded that is there and that we do not know. The caller holds mu.
func (g *Guard) adopt(j jid.JID) {
	if g.rooms[j.String()] == nil {
		rm := g.room(j)
		rm.inherited, rm.unasked = true, true
		rm.next, rm.audit = time.Now(), time.Now()
	}
}
