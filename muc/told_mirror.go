package muc

import (
	"slices"
	"strings"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/few"
)

// mirrored is a room as the module told it. There may be very many, so people are in slices, and strings are shared.
type mirrored struct {
	jid      jid.JID
	settings settings
	people   []present
	rights   []right
	// unsettled counts what was sent to the room without waiting for an answer, since the room answered something.
	unsettled uint32
}

// present is an occupant.
type present struct {
	nick, full        string // full is the real JID
	bare              uint16 // the length of the bare JID in it
	role, affiliation rank
}

func (p present) bareJID() string { return p.full[:p.bare] }

// right is an affiliation on a room's lists.
type right struct {
	bare, by    string
	affiliation rank
}

// apply changes the mirror by what was told, and returns that as News. is says whether it is any. The caller holds mu.
func (s *teller) apply(said tell) (n News, is bool) {
	local, ok := localpart(said.room, s.jid.Domainpart())
	if !ok {
		return n, false
	}
	if said.kind == "room" {
		return s.applyRoom(local, said)
	}
	rm := s.rooms[local]
	if rm == nil {
		return s.elsewhere(local, said) // the snapshot will have it
	}
	n = News{Room: rm.jid, Nick: said.nick, By: cutBare(said.by), Why: said.why, Breakouts: said.settings.flags&flagBreakouts != 0}
	switch said.kind {
	case "joined":
		n.Kind, n.full = NewsJoined, said.jid
		said.affiliation = rm.joins(said.words, s.from)
	case "left":
		n.Kind = NewsLeft
		if at := rm.at(said.nick); at >= 0 {
			said.role, said.affiliation = rm.people[at].role, rm.people[at].affiliation
			rm.people = slices.Delete(rm.people, at, at+1)
		}
	case "role":
		n.Kind = NewsRole
		if at := rm.at(said.nick); at >= 0 {
			rm.people[at].role = said.role
			said.affiliation = rm.people[at].affiliation
		}
	case "affiliation":
		n.Kind = NewsAffiliation
		rm.set(said.jid, said.affiliation, cutBare(said.by))
	case "refused":
		n.Kind = NewsRefused
		rm.correct(said.words)
	case "settings":
		n.Kind = NewsSettings
		rm.settings = said.settings
	case "ended":
		n.Kind = NewsEnded
		delete(s.rooms, local)
	default:
		return n, false // of a later version
	}
	n.Role, n.Affiliation = said.role.String(), said.affiliation.String()
	n.Who = parsed(said.jid)
	return n, true
}

// elsewhere returns what was told of a room that is not mirrored: it is refused what was given to it.
func (s *teller) elsewhere(local string, said tell) (n News, is bool) {
	if said.kind != "refused" {
		return n, false
	}
	room, err := s.jid.WithLocal(local)
	n = News{Kind: NewsRefused, Room: room, Who: parsed(said.jid), Affiliation: said.affiliation.String(), Why: said.why}
	return n, err == nil
}

func (s *teller) applyRoom(local string, said tell) (n News, is bool) {
	at, err := jid.ParseUnsafe(said.room)
	if err != nil {
		return n, false
	}
	rm := &mirrored{jid: at.JID, settings: said.settings}
	rm.rights = make([]right, 0, len(said.affiliations))
	rm.people = make([]present, 0, len(said.occupants))
	for _, a := range said.affiliations {
		rm.set(a.jid, a.affiliation, cutBare(a.by))
	}
	for _, o := range said.occupants {
		rm.joins(o, s.from)
	}
	if s.rooms == nil {
		s.rooms = make(map[string]*mirrored)
	}
	if was := s.rooms[local]; was != nil {
		rm.unsettled = was.unsettled
	}
	s.rooms[local] = rm
	return News{Kind: NewsRoom, Room: rm.jid}, true
}

// at returns the index of the occupant with a nick, or -1.
func (rm *mirrored) at(nick string) int {
	return slices.IndexFunc(rm.people, func(p present) bool { return p.nick == nick })
}

// joins adds an occupant, or replaces the one with the same nick, and returns what they are. Perhaps the room told that before it got what
// usher, which is from, gave them, and it will not tell that again: so what usher gave counts.
func (rm *mirrored) joins(w words, from string) rank {
	p := present{nick: w.nick, full: w.jid, role: w.role, affiliation: w.affiliation}
	bare := cutBare(p.full)
	if len(bare) >= 1<<16 {
		return p.affiliation
	}
	p.bare = uint16(len(bare))
	if strings.HasPrefix(p.full, p.nick) {
		p.nick = p.full[:len(p.nick)] // Jitsi's nicks are the beginning of the JID
	}
	for i := range rm.rights {
		r := &rm.rights[i]
		if r.bare != bare {
			continue
		}
		if r.bare = bare; r.by == from {
			p.affiliation = r.affiliation
		}
	}
	if at := rm.at(p.nick); at >= 0 {
		rm.people[at] = p
		return p.affiliation
	}
	rm.people = append(few.WithSpace(rm.people), p)
	return p.affiliation
}

// set gives somebody an affiliation, who may be a whole domain.
func (rm *mirrored) set(bare string, to rank, by string) {
	for i := range rm.people {
		if p := &rm.people[i]; p.bareJID() == bare {
			p.affiliation, bare = to, p.bareJID()
		}
	}
	at := slices.IndexFunc(rm.rights, func(r right) bool { return r.bare == bare })
	switch {
	case to <= rankNone && at >= 0:
		rm.rights = slices.Delete(rm.rights, at, at+1)
	case to <= rankNone:
	case at >= 0:
		rm.rights[at] = right{bare, rm.shared(by), to}
	default:
		rm.rights = append(few.WithSpace(rm.rights), right{bare, rm.shared(by), to})
	}
}

// shared returns the same string, of the room if it has it.
func (rm *mirrored) shared(bare string) string {
	for _, r := range rm.rights {
		if r.by == bare {
			return r.by
		}
		if r.bare == bare {
			return r.bare
		}
	}
	return bare
}

// has returns what somebody is by the room's lists.
func (rm *mirrored) has(bare string) right {
	for _, r := range rm.rights {
		if r.bare == bare {
			return r
		}
	}
	return right{affiliation: rankNone}
}

// banned reports whether somebody, or their domain, is an outcast.
func (rm *mirrored) banned(who jid.JID) bool {
	domain := who.Domainpart()
	bare := who.Bare().String()
	return slices.ContainsFunc(rm.rights, func(r right) bool {
		return r.affiliation == rankOutcast && (r.bare == bare || r.bare == domain)
	})
}

// correct takes a give back that was refused. An admin of the service is an owner inside, whatever the list says.
func (rm *mirrored) correct(w words) {
	is := max(w.is, rankNone)
	if w.affiliation == rankUnsaid { // only what the session was to have was refused
		return
	}
	if rm.has(w.jid).affiliation != is {
		rm.set(w.jid, is, "")
	}
	if w.why != "not-acceptable" {
		return
	}
	for i := range rm.people {
		if p := &rm.people[i]; p.bareJID() == w.jid {
			p.affiliation = rankOwner
		}
	}
}

// answering returns the mirror of a room that can answer for it. told says whether there is one; if that is so and rm is nil, the room
// does not exist. The caller holds mu.
func (t *Told) answering(room jid.JID) (rm *mirrored, told bool) {
	s := t.tellers[room.Domainpart()]
	if s == nil || !s.tells {
		return nil, false
	}
	rm = s.rooms[room.Localpart()]
	return rm, rm == nil || rm.unsettled == 0
}

// reading is answering for those who do not hold mu, and must call done. A nil Told has nothing.
func (t *Told) reading(room jid.JID) (rm *mirrored, told bool, done func()) {
	if t == nil {
		return nil, false, func() {}
	}
	t.mu.RLock()
	rm, told = t.answering(room)
	return rm, told, t.mu.RUnlock
}

// main returns the mirror of a breakout room's main room, if that can answer. The caller holds mu.
func (t *Told) main(rm *mirrored) (*mirrored, bool) {
	address := rm.settings.main
	at, err := jid.ParseUnsafe(address)
	main := at.JID
	if t.o.Room != nil {
		main, err = t.o.Room(address)
	}
	if err != nil {
		return nil, false
	}
	m, told := t.answering(main)
	return m, told && m != nil
}

// errNotFound is what a room answers that does not exist.
var errNotFound = stanza.Error{Type: stanza.Cancel, Condition: stanza.ItemNotFound}

// list answers what Owner.list asks, if it can.
func (t *Told) list(room jid.JID, what, value string) (items []Item, told bool, err error) {
	rm, told, done := t.reading(room)
	defer done()
	switch {
	case !told:
		return nil, false, nil
	case rm == nil:
		return nil, true, errNotFound
	case what == "role":
		items, told = t.withRole(rm, value)
		return items, told, nil
	}
	for _, r := range rm.rights {
		if r.affiliation.String() == value {
			items = append(items, Item{Affiliation: value, JID: r.bare})
		}
	}
	return items, true, nil
}

// withRole lists occupants. In a breakout room they have the affiliations of the main room (mod_muc_breakout_rooms.lua,
// get_affiliation), which change there; only the room knows which owners that are on no list are admins of the service. The caller holds mu.
func (t *Told) withRole(rm *mirrored, role string) (items []Item, told bool) {
	var main *mirrored
	if rm.settings.main != "" {
		if main, told = t.main(rm); !told {
			return nil, false
		}
	}
	for _, p := range rm.people {
		if p.role.String() != role {
			continue
		}
		is := p.affiliation
		if main != nil {
			if is = main.has(p.bareJID()).affiliation; is != rankOwner && p.affiliation == rankOwner {
				return nil, false
			}
		}
		items = append(items, Item{Affiliation: max(is, rankNone).String(), Role: role, JID: p.full, Nick: p.nick})
	}
	return items, true
}

// configured answers what Owner.Settings asks, if it can: the text of a password is not told, nor is which roles' presence is broadcast, which
// matters to an occupant.
func (t *Told) configured(room jid.JID) (is Settings, told bool, err error) {
	rm, told, done := t.reading(room)
	defer done()
	switch {
	case !told:
		return is, false, nil
	case rm == nil:
		return is, true, errNotFound
	}
	on := rm.settings.flags
	is = Settings{
		MembersOnly: on&flagMembersOnly != 0,
		Persistent:  on&flagPersistent != 0,
		Temporary:   on&flagPersistent == 0,
		Breakout:    rm.settings.main != "",
		Main:        rm.settings.main,
		offers:      toldOffers,
		loose:       on&flagPublicJIDs == 0 || on&flagMemberInvites != 0,
	}
	return is, on&flagPassword == 0, nil
}

// toldOffers are the fields of a form of Prosody, the only server that has the module, as far as they matter.
var toldOffers = []string{closed.name, realJID.name, broadcast.name, noInvites.name, fieldPersistent, fieldPassword}

// lobby answers what Lobby.ask asks, if it can.
func (t *Told) lobby(room jid.JID) (at, told bool) {
	rm, told, done := t.reading(room)
	defer done()
	return rm != nil && rm.settings.lobby != "", told
}

// MadeBy returns the bare JID of the person who gave somebody the affiliation that they have in a room; empty if that was the server. known
// says whether the mirror has it.
func (t *Told) MadeBy(room jid.JID, bare string) (by string, known bool) {
	rm, told, done := t.reading(room)
	defer done()
	if !told || rm == nil {
		return "", false
	}
	r := rm.has(bare)
	return r.by, r.affiliation != rankNone
}

// sent has the next question go to the room itself, because something was sent to it without waiting for the answer, or none came in time.
func (t *Told) sent(room jid.JID) {
	t.change(room, func(rm *mirrored) { rm.unsettled++ })
}

// asks begins a question to a room. settled is called when the room has answered: all that was sent before the question has been told by then.
func (t *Told) asks(room jid.JID) (settled func()) {
	var before uint32
	t.of(room, func(rm *mirrored) { before = rm.unsettled })
	return func() {
		t.change(room, func(rm *mirrored) {
			if rm.unsettled == before {
				rm.unsettled = 0
			}
		})
	}
}

// of does something with the mirror of a room, if there is one, and changes nothing.
func (t *Told) of(room jid.JID, do func(*mirrored)) {
	if t == nil {
		return
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if rm := t.mirror(room); rm != nil {
		do(rm)
	}
}

// change changes the mirror of a room, if there is one.
func (t *Told) change(room jid.JID, by func(*mirrored)) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if rm := t.mirror(room); rm != nil {
		by(rm)
	}
}

// mirror returns the mirror of a room, whether it can answer or not; nil if there is none. The caller holds mu.
func (t *Told) mirror(room jid.JID) *mirrored {
	if s := t.tellers[room.Domainpart()]; s != nil {
		return s.rooms[room.Localpart()]
	}
	return nil
}

// cutBare returns the bare JID of a JID as the server wrote it.
func cutBare(full string) string {
	bare, _, _ := strings.Cut(full, "/")
	return bare
}

// parsed returns a JID as the server wrote it, or the zero JID.
func parsed(s string) jid.JID {
	if s == "" {
		return jid.JID{}
	}
	j, err := jid.ParseUnsafe(s)
	if err != nil {
		return jid.JID{}
	}
	return j.JID
}
