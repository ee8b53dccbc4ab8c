package muc

import (
	"encoding/xml"
	"slices"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// said is what is of interest here in a presence or message from a room.
type said struct {
	from jid.JID // the room, or an occupant JID; compared as the server wrote it, not as we would
	typ  string
	user user
	err  *stanza.Error
}

// user is what the room says in muc#user (XEP-0045 §17.3).
type user struct {
	items []Item
	codes []string
}

func (u user) status(code string) bool { return slices.Contains(u.codes, code) }

// hear reads a stanza from a room. start is its first token, d has the rest. It goes by tokens because unmarshalling
// would be a fifth of all that usher does, and is done for each presence of everybody.
func hear(start xml.StartElement, d *xml.Decoder) (said, error) {
	from, err := jid.ParseUnsafe(element.Attr(start, "from"))
	s := said{from: from.JID, typ: element.Attr(start, "type")}
	for err == nil {
		var tok xml.Token
		if tok, err = d.Token(); err != nil {
			break
		}
		switch t := tok.(type) {
		case xml.EndElement:
			return s, nil
		case xml.StartElement:
			switch {
			case t.Name.Space == NSUser && t.Name.Local == "x":
				err = s.user.read(d)
			case t.Name.Local == "error" && s.typ == "error": // in others it is what a client has put there
				s.err = new(stanza.Error)
				err = d.DecodeElement(s.err, &t)
			default:
				err = d.Skip()
			}
		}
	}
	return s, err
}

// read reads what is in the element, and its end.
func (u *user) read(d *xml.Decoder) error {
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			switch t.Name.Local {
			case "item":
				u.items = append(u.items, Item{
					Affiliation: element.Attr(t, "affiliation"), Role: element.Attr(t, "role"), JID: element.Attr(t, "jid"), Nick: element.Attr(t, "nick"),
				})
			case "status":
				u.codes = append(u.codes, element.Attr(t, "code"))
			}
			if err := d.Skip(); err != nil {
				return err
			}
		}
	}
}

// Presence takes in a presence stanza from a room. start is its first token, d has the rest. The error is for the log; who is
// in the room, and cannot be read, is taken to have left.
func (r *Rooms) Presence(start xml.StartElement, d *xml.Decoder) error {
	p, err := hear(start, d)
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[p.from.Bare().String()]
	if err != nil {
		if rm != nil {
			r.unseen(rm, p.from.Resourcepart())
		}
		return err
	}
	nick := p.from.Resourcepart()
	self := p.user.status("110")
	switch {
	case rm == nil && p.typ == "" && p.user.status("201"):
		// We created it for somebody who has not waited for that, and who may not have been one who may create rooms.
		if err := r.leave(&room{jid: p.from.Bare(), nick: nick}); err != nil {
			r.Warn(p.from.Bare(), "the room could not be left", err)
		}
	case rm == nil:
		if p.typ != "error" && !(self && p.typ == "unavailable") {
			r.stray(p.from.Bare())
		}
	case p.typ == "error":
		if p.err == nil {
			p.err = &stanza.Error{Condition: stanza.UndefinedCondition}
		}
		rm.answer(entry{err: *p.err})
	case self && p.typ == "unavailable" && !rm.inside:
		// The end of an earlier stay, and of all that we saw there: what we sent to leave was on its way when we sent
		// what enters.
		clear(rm.occupants)
	case self && p.typ == "unavailable":
		// Somebody removed us, or destroyed the room.
		r.forget(rm)
		r.lost[rm.jid.String()] = rm
		r.stray(rm.jid)
	case self:
		rm.inside = true
		rm.answer(entry{created: p.user.status("201")})
	case len(p.user.items) == 0 || nick == "":
	case p.typ == "unavailable":
		r.left(rm, nick, p.user)
	case p.typ == "":
		r.came(rm, nick, p.user.items[0])
	}
	return nil
}

// answer hands the result of our join to who waits for it; later ones are of no interest.
func (rm *room) answer(e entry) {
	select {
	case rm.entered <- e:
	default:
	}
}

func (r *Rooms) stray(j jid.JID) {
	select {
	case r.strays <- j:
	default: // so many that the next presence from there will have to remind us
	}
}

// came records somebody who came, or whose affiliation or role changed.
func (r *Rooms) came(rm *room, nick string, i Item) {
	j, err := jid.ParseUnsafe(i.JID)
	if err != nil || i.JID == "" {
		return
	}
	bare := j.Bare().String()
	rm.occupants[nick] = occupant{bare: bare, domain: j.Domainpart(), moderator: i.Role == "moderator"}
	r.noteHost(rm)
	rm.keepUntil = time.Time{}
	rm.tried = nil // an owner inside may give again what finish has taken back
	if g := rm.live[bare]; g != nil && g.on(eventCame) && g.ended(r.Now()) {
		// The token ended between the answer and the join. Without affiliation the server removes the person (321).
		r.withdraw(rm, bare)
	}
}

// left records that somebody is gone, takes their grant back, and leaves after the last one.
func (r *Rooms) left(rm *room, nick string, u user) {
	o, ok := rm.occupants[nick]
	delete(rm.occupants, nick)
	if u.status("303") { // a new nick (XEP-0045 §7.6); a presence with it follows
		rm.occupants[u.items[0].Nick] = o
		return
	}
	r.noteHost(rm)
	r.banned(rm, u.items[0], o.bare)
	switch g := rm.live[o.bare]; {
	case !ok || g == nil || rm.has(o.bare):
	case g.state.asking(), g.state == stateGiven:
		g.on(eventLeft) // perhaps before the server gave it; they may come again
	case u.items[0].Affiliation == g.Affiliation && rm.ours && !u.status("307"):
		// The next sweep takes it back, also if they have come again by then without asking. The server tells everybody
		// inside of each affiliation that somebody outside loses, and most people leave when everybody does: then the
		// room ends, and this with it.
		g.on(eventWithdraw)
	case u.items[0].Affiliation == g.Affiliation:
		// The presence tells the affiliation that is left. Only what is still as we gave it is taken back.
		r.withdraw(rm, o.bare)
	default:
		// What an owner has changed since is the owner's affair, and after a removal there is nothing left.
		rm.drop(o.bare)
	}
	r.leaveIfNeedless(rm)
}

// unseen counts an occupant as gone whose presence cannot be read, be they inside or not: nobody can tell. Most of what is in a
// presence is the client's own, so that nobody keeps anything, or is a host on, by what they put there.
func (r *Rooms) unseen(rm *room, nick string) {
	o, ok := rm.occupants[nick]
	delete(rm.occupants, nick)
	r.noteHost(rm)
	if g := rm.live[o.bare]; ok && g != nil && !rm.has(o.bare) {
		g.on(eventWithdraw) // by the next sweep: it may have been a ban that cannot be read, which that would lift
	}
	select {
	case r.changed <- rm.jid:
	default:
	}
	r.leaveIfNeedless(rm)
}

// banned records whether somebody is banned; who is meant unless the item says it.
func (r *Rooms) banned(rm *room, i Item, who string) {
	if i.JID != "" {
		if j, err := jid.ParseUnsafe(i.JID); err == nil {
			who = j.Bare().String()
		}
	}
	g := rm.live[who]
	if i.Affiliation != "outcast" {
		delete(rm.outcasts, who)
		if g != nil && i.Affiliation == "none" { // other news may be of what we have just given
			g.on(eventUnbanned)
		}
		return
	}
	rm.outcasts[who] = true
	if g != nil && !g.on(eventBanned) && !g.state.asking() {
		rm.drop(who) // nothing is left of it, and taking it back would lift the ban
	}
}

// Message takes in a message from a room. Only what the room itself says is of interest, not its occupants.
func (r *Rooms) Message(start xml.StartElement, d *xml.Decoder) error {
	m, err := hear(start, d)
	if err != nil || m.typ == "error" {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[m.from.Bare().String()]
	if rm == nil {
		r.stray(m.from.Bare())
		return nil
	}
	if m.from.Resourcepart() != "" {
		return nil
	}
	for _, i := range m.user.items {
		if i.JID != "" {
			r.banned(rm, i, "") // announced for somebody who is not inside (XEP-0045 §9.1)
		}
	}
	if m.user.status("104") || m.user.status("173") { // 173: real JIDs are now shown to moderators only
		rm.ours = false // an owner may have made it last
		// The configuration changed, perhaps to open to all.
		select {
		case r.changed <- rm.jid:
		default: // so many that whoever is removed is not announced; see Owner.Enforce
			iq := r.Owner.iq(stanza.SetIQ, rm.jid)
			if err := r.Owner.Session.Send(iq.Wrap(r.Configuration.form())); err != nil {
				r.Warn(rm.jid, "members-only could not be said again", err)
			}
		}
	}
	return nil
}
