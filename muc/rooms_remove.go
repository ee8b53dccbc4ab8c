package muc

import (
	"context"
	"encoding/xml"
	"errors"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Remove takes somebody's affiliation, even one that others gave, and puts all their occupants out; people inside read the reason. If it
// returns nil, they are outside or the room is gone, and nothing is left of their grant. It returns nil, too, if they had nothing
// and were not inside. A ban stays. After an error a grant is taken back as soon as that is possible. The error is [ErrAdmin] for
// admins of the service. It waits for grants and removals of the same person that are under way.
func (r *Rooms) Remove(ctx context.Context, j, who jid.JID, reason string) error {
	who = who.Bare()
	r.mu.Lock()
	defer r.mu.Unlock()
	g, done, err := r.removals.begin(ctx, &r.mu, j, who, func() *grant { return r.grantOf(j, who.String()) })
	if err != nil {
		return err
	}
	defer done()
	r.mu.Unlock()
	rm, err := r.enterIfThere(ctx, j)
	if rm != nil {
		err = r.putOut(ctx, rm, who, reason)
	}
	r.mu.Lock()
	if Absent(err) {
		if err = nil; rm != nil && r.rooms[j.String()] == rm {
			r.gone(rm)
		}
	}
	if gs := r.grantsOf(j); gs != nil {
		gs.removed(g, err)
	} else if g != nil {
		close(g.taken)
	}
	if rm := r.rooms[j.String()]; rm != nil && rm.open {
		r.soon(rm)
		r.leaveIfNeedless(rm)
	}
	return err
}

// enterIfThere returns the room, with usher inside; nil if there is no such room.
func (r *Rooms) enterIfThere(ctx context.Context, j jid.JID) (*room, error) {
	if r.known(j) == nil {
		if exists, _, err := r.state(ctx, j); err != nil || !exists {
			return nil, err
		}
	}
	switch err := r.Open(ctx, j, false); {
	case errors.Is(err, ErrAbsent):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if rm := r.known(j); rm != nil {
		return rm, nil
	}
	return nil, errOut
}

// putOut takes somebody's affiliation and puts them out.
func (r *Rooms) putOut(ctx context.Context, rm *room, who jid.JID, reason string) error {
	j := rm.jid
	// To take an affiliation lifts a ban. The room tells of bans, and of grants that lifted one, before it answers.
	if err := r.learnBans(ctx, rm); err != nil {
		return err
	}
	r.mu.Lock()
	banned := rm.outcasts[who.String()]
	r.mu.Unlock()
	if banned {
		return nil
	}
	// The room tells who has gone before it answers.
	if err := r.Owner.setAffiliation(ctx, j, who, "", reason); err != nil {
		return unremovable(err)
	}
	for _, nick := range r.nicks(rm, who.String()) {
		if err := r.Owner.kick(ctx, j, r.self, nick, reason); Absent(err) && len(r.nicks(rm, who.String())) == 0 {
			break // they went by themselves
		} else if err != nil && !errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
			return err
		}
	}
	if len(r.nicks(rm, who.String())) == 0 {
		return nil
	}
	// They have changed their nick just now, or an owner has taken usher's role.
	if err := r.Owner.banBriefly(ctx, j, who, reason); err != nil {
		return unremovable(err)
	}
	if len(r.nicks(rm, who.String())) > 0 {
		return errInside
	}
	return nil
}

// nicks returns the nicks of somebody's occupants.
func (r *Rooms) nicks(rm *room, bare string) (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for nick, o := range rm.occupants {
		if o.bare == bare {
			all = append(all, nick)
		}
	}
	return all
}

// grantsOf returns the grants in a room that usher is in, or that may go on without it; nil if there is no such room. The caller
// holds mu.
func (r *Rooms) grantsOf(j jid.JID) *grants {
	if rm := r.rooms[j.String()]; rm != nil {
		return &rm.grants
	}
	if rm := r.lost[j.String()]; rm != nil {
		return &rm.grants
	}
	return nil
}

// grantOf returns somebody's grant. The caller holds mu.
func (r *Rooms) grantOf(j jid.JID, bare string) *grant {
	if gs := r.grantsOf(j); gs != nil {
		return gs.live[bare]
	}
	return nil
}

// End destroys the room; people inside read the reason. It returns nil, too, if there is no such room.
func (r *Rooms) End(ctx context.Context, j jid.JID, reason string) error {
	r.mu.Lock()
	was := r.rooms[j.String()]
	open := was != nil && was.open
	r.endsBecause(j, reason)
	r.mu.Unlock()
	err := r.Owner.End(ctx, j, reason)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !Absent(err) {
		r.endsBecause(j, "")
		return err
	}
	if open && r.rooms[j.String()] == was { // and not the next room of that name, which somebody has opened meanwhile
		r.gone(was)
	}
	return nil
}

// Say sends a message from the focus's occupant to one person, or to everybody inside if who is zero. It reports whether anybody
// gets it: usher has to be inside, and the person, too.
func (r *Rooms) Say(j, who jid.JID, text string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[j.String()]
	if rm == nil || !rm.open {
		return false, nil
	}
	body := func() xml.TokenReader { return element.Text("", "body", text) }
	if who.Equal(jid.JID{}) {
		if len(rm.occupants) == 0 {
			return false, nil
		}
		return true, r.Owner.Session.Send(stanza.Message{Type: stanza.GroupChatMessage, From: r.self, To: j}.Wrap(body()))
	}
	said := false
	for nick, o := range rm.occupants {
		to, err := j.WithResource(nick)
		if o.bare != who.Bare().String() || err != nil {
			continue
		}
		m := stanza.Message{Type: stanza.ChatMessage, From: r.self, To: to}
		// The empty element says that it is a private message of the room (XEP-0045 §7.5).
		if err := r.Owner.Session.Send(m.Wrap(xmlstream.MultiReader(body(), element.New(NSUser, "x")))); err != nil {
			return said, err
		}
		said = true
	}
	return said, nil
}

// gone forgets a room that is gone, with everything in it, unless the next one has taken its place and its grants. The caller holds mu.
func (r *Rooms) gone(rm *room) {
	if next := r.rooms[rm.jid.String()]; next != nil && next != rm {
		return
	}
	r.forget(rm)
	r.ended(rm)
	rm.end(nil)
}
