package muc

import (
	"encoding/xml"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// said is the part of a presence or message from a room that matters here.
type said struct {
	from jid.JID // the room, or an occupant JID; as the server wrote it, not as usher would
	to   string
	typ  string
	user user
	err  *stanza.Error
}

// user is what the room says in muc#user (XEP-0045 §17.3).
type user struct {
	items []Item
	codes []string
	ended bool  // the room is destroyed (XEP-0045 §10.9)
	actor *Item // who did it, by nick, real JID or both; nil if nobody is named
}

func (u user) status(code string) bool { return slices.Contains(u.codes, code) }

// hear reads a stanza from a room. start is its first token, d has the rest. It reads tokens because it is called for each presence
// of everybody, and unmarshalling would take a fifth of usher's time.
func hear(start xml.StartElement, d *xml.Decoder) (said, error) {
	from, err := jid.ParseUnsafe(element.Attr(start, "from"))
	s := said{from: from.JID, to: element.Attr(start, "to"), typ: element.Attr(start, "type")}
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
			case t.Name.Local == "error" && s.typ == "error": // in other stanzas a client has put it there
				s.err = new(stanza.Error)
				err = d.DecodeElement(s.err, &t)
			default:
				err = d.Skip()
			}
		}
	}
	return s, err
}

// read reads the content of the element, and its end.
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
			case "destroy":
				u.ended = true
			}
			if err := u.readActor(d); err != nil {
				return err
			}
		}
	}
}

// readActor reads the rest of an element, in which somebody may be named who did it (XEP-0045 §8.2).
func (u *user) readActor(d *xml.Decoder) error {
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if t.Name.Local == "actor" {
				u.actor = &Item{JID: element.Attr(t, "jid"), Nick: element.Attr(t, "nick")}
			}
			if err := d.Skip(); err != nil {
				return err
			}
		}
	}
}

// Presence takes in a presence stanza from a room. start is its first token, d has the rest. The error is for the log. An occupant
// with unreadable presence counts as gone.
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
	switch {
	case p.to == r.seconds:
		r.presenceOfSecond(rm, p)
	case rm == nil:
		r.presenceElsewhere(p)
	case p.typ == "error" && nick != rm.nick && nick != "": // to a join with another nick, which was sent more than once
	case p.typ == "error":
		if p.err == nil {
			p.err = &stanza.Error{Condition: stanza.UndefinedCondition}
		}
		rm.answer(entry{err: *p.err})
	case p.user.status("110"), p.user.ended && nick == rm.nick: // the latter from ejabberd, and in the XEP's example
		r.presenceOfSelf(rm, p)
	case len(p.user.items) == 0 || nick == "":
	case p.typ == "unavailable":
		r.left(rm, nick, p.user)
	case p.typ == "":
		r.came(rm, nick, p.user.items[0])
	}
	return nil
}

// presenceElsewhere takes in a presence from a room that usher is not in as far as it knows. The caller holds mu.
func (r *Rooms) presenceElsewhere(p said) {
	switch {
	case p.typ == "" && p.user.status("201"):
		// usher created it for somebody who did not wait for that, and who perhaps may not create rooms.
		if err := r.Owner.Destroy(p.from.Bare()); err != nil {
			r.Warn(p.from.Bare(), "could not leave the room", err)
		}
	case p.from.Resourcepart() == "": // ejabberd's rooms have presence of their own (XEP-0115)
	case p.typ != "error" && !((p.user.status("110") || p.user.ended) && p.typ == "unavailable"):
		r.stray(p.from.Bare())
	}
}

// presenceOfSelf takes in a presence of usher's own occupant. The caller holds mu.
func (r *Rooms) presenceOfSelf(rm *room, p said) {
	switch {
	case p.typ != "unavailable":
		rm.inside = true
		rm.answer(entry{created: p.user.status("201")})
	case !rm.inside:
		// The end of an earlier stay, and of all that was seen there: the leave was on its way when usher sent the join.
		clear(rm.occupants)
	default: // somebody removed usher, or destroyed the room
		r.forget(rm)
		r.loses(rm)
		r.stray(rm.jid)
	}
}

// answer hands the result of the join to the goroutine that waits for it. Later results do not matter.
func (rm *room) answer(e entry) {
	select {
	case rm.entered <- e:
	default:
	}
}

// unanswered forgets the result of an earlier join, which may have been sent more than once.
func (rm *room) unanswered() {
	select {
	case <-rm.entered:
	default:
	}
}

// stray has a room entered again.
func (r *Rooms) stray(j jid.JID) {
	select {
	case r.strays <- j:
	default: // the queue is full; the next presence from there tries again
	}
}

// came takes in somebody who came, or has another affiliation or role now.
func (r *Rooms) came(rm *room, nick string, i Item) {
	j, err := jid.ParseUnsafe(i.JID)
	if err != nil || i.JID == "" {
		return
	}
	full := j.String()
	bare, _, _ := strings.Cut(full, "/")
	o := occupant{full: full, bare: bare, moderator: i.Role == "moderator"}
	was, ok := rm.occupants[nick]
	if ok && was.bare != bare {
		r.soon(rm) // nobody has told that the other one has left
	}
	rm.occupants[nick] = r.seesOccupant(rm, nick, o)
	r.noteHost(rm)
	if i.Affiliation == "none" && j.Domainpart() != r.Owner.JID.Domainpart() {
		r.strangerIn(rm, !ok)
	}
	rm.keepUntil = time.Time{}
	rm.tried = nil // an owner inside may give what finish has taken back
	g := rm.live[bare]
	if g != nil && i.Affiliation == g.Affiliation {
		g.handed = false
	}
	if g != nil && g.on(eventCame) && g.ended(r.Now()) {
		// The token ended between the answer and the join. Without affiliation the server removes the person (321).
		r.withdraw(rm, bare)
	}
}

// left takes in that somebody is gone. It takes their grant back, and leaves the room after the last one.
func (r *Rooms) left(rm *room, nick string, u user) {
	o, ok := rm.occupants[nick]
	delete(rm.occupants, nick)
	if u.status("303") { // a new nick (XEP-0045 §7.6); a presence with it follows
		rm.occupants[u.items[0].Nick] = o
		return
	}
	r.seesGone(rm, o)
	r.noteHost(rm)
	r.kicked(rm, u, o.bare)
	r.banned(rm, u.items[0], o.bare, r.did(rm, u.actor))
	g := rm.live[o.bare]
	onItsWay := g != nil && g.handed && r.Now().Sub(g.At) < joinWithin // perhaps; the module does not answer
	switch {
	case !ok || g == nil || rm.has(o.bare):
	case g.state.asking(), g.state == stateGiven, onItsWay && !u.status("307"):
		g.on(eventLeft) // perhaps before the server gave it; they may come again
	case u.items[0].Affiliation == g.Affiliation && (rm.ours || rm.lasts == temporary) && !u.status("307"):
		// The next look takes it back, even if they have come again by then without asking. Not at once, because the server
		// announces each affiliation that somebody outside loses to everybody inside, and most people leave when everybody
		// does. Then the room ends, and the grant with it.
		g.on(eventWithdraw)
	case u.items[0].Affiliation == g.Affiliation, onItsWay:
		// The presence tells the affiliation that is left. It is taken back only if it is still the one that was given. Who was kicked may
		// have asked again just before.
		r.withdraw(rm, o.bare)
	default:
		// An owner has changed it since, which is the owner's business, or after a removal nothing is left.
		rm.drop(o.bare)
	}
	r.lacks(rm, o.bare)
}

// lacks does what follows when somebody is inside no more. The caller holds mu.
func (r *Rooms) lacks(rm *room, bare string) {
	now := r.Now()
	if g := rm.live[bare]; g != nil {
		if due := g.due(now); !due.IsZero() {
			r.plan(rm, due)
		}
	}
	if len(rm.occupants) == 0 {
		r.soon(rm)
	}
	r.leaveIfNeedless(rm)
}

// unseen counts an occupant as gone because their presence cannot be read, whether or not they are inside. Clients write most of a
// presence themselves; otherwise a client could keep its rights, or remain a host, by sending garbage.
func (r *Rooms) unseen(rm *room, nick string) {
	o, ok := rm.occupants[nick]
	delete(rm.occupants, nick)
	r.seesGone(rm, o)
	r.noteHost(rm)
	if g := rm.live[o.bare]; ok && g != nil && !rm.has(o.bare) {
		g.on(eventWithdraw) // by the next look: it may have been a ban, which taking the grant back now would lift
	}
	r.change(rm.jid)
	r.lacks(rm, o.bare)
}

// did reports whether usher is the one who did something. A server names its nick, its real JID or both.
func (r *Rooms) did(rm *room, actor *Item) bool {
	if actor == nil {
		return false
	}
	who, ok := actor.real()
	return ok && r.isOurs(who) || actor.Nick == rm.nick
}

// kicked tells of a kick by a moderator. The server itself also kicks, and then names nobody (Jitsi's mod_muc_flip.lua).
func (r *Rooms) kicked(rm *room, u user, bare string) {
	if who, err := jid.ParseUnsafe(bare); err == nil && u.status("307") && u.actor != nil && !r.did(rm, u.actor) && r.Removed != nil {
		r.Removed(rm.jid, who.JID, false)
	}
}

// banned notes whether somebody is banned. That is the person in the item, or who if the item names nobody. byUs says that usher has
// banned them.
func (r *Rooms) banned(rm *room, i Item, who string, byUs bool) {
	if i.JID != "" {
		if j, err := jid.ParseUnsafe(i.JID); err == nil {
			who = j.Bare().String()
		}
	}
	g := rm.live[who]
	if i.Affiliation != "outcast" {
		delete(rm.outcasts, who)
		if g != nil && i.Affiliation == "none" { // other news may be about the grant itself
			g.on(eventUnbanned)
		}
		return
	}
	if !rm.outcasts[who] && !byUs {
		r.toldOfBan(rm, who)
	}
	rm.ban(who)
	if g != nil && !g.on(eventBanned) && !g.state.asking() {
		rm.drop(who) // nothing is left of it, and taking it back would lift the ban
		r.soon(rm)
	}
}

// ban notes that somebody is banned.
func (rm *room) ban(bare string) {
	if rm.outcasts == nil {
		rm.outcasts = make(map[string]bool)
	}
	rm.outcasts[bare] = true
}

// toldOfBan tells of a ban by a moderator. A banned domain is nobody.
func (r *Rooms) toldOfBan(rm *room, bare string) {
	who, err := jid.ParseUnsafe(bare)
	if err == nil && who.Localpart() != "" && r.Removed != nil && !r.removals.underWay(rm.jid, bare) {
		r.Removed(rm.jid, who.JID, true)
	}
}

// Message takes in a message from a room. Messages of its occupants do not matter.
func (r *Rooms) Message(start xml.StartElement, d *xml.Decoder) error {
	m, err := hear(start, d)
	if err != nil || m.typ == "error" || m.to == r.seconds {
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
			r.banned(rm, i, "", r.did(rm, m.user.actor)) // announced for somebody who is not inside (XEP-0045 §9.1)
		}
	}
	if m.user.status("104") || m.user.status("173") { // 173: real JIDs are now shown to moderators only
		rm.ours = false // an owner may have made it persistent
		// The configuration changed, perhaps to open to all.
		if !r.change(rm.jid) { // people who are removed are not announced to the others then, see Owner.Enforce
			// In several forms, because ejabberd refuses all of one with a field that it does not have; see Owner.configure.
			for _, form := range [][]setting{r.Owner.everywhere(r.Configuration), {noInvites}, {noUserInvites}} {
				if err := r.Owner.Session.Send(r.Owner.iq(stanza.SetIQ, rm.jid).Wrap(configuration(form...))); err != nil {
					r.Warn(rm.jid, "could not restore members-only", err)
				}
			}
		}
	}
	return nil
}
