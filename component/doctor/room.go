package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/form"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// nick is the occupant JID of one of ours.
func nick(room, who jid.JID) jid.JID {
	j, _ := room.WithResource(who.Localpart()) // which is ASCII
	return j
}

// newRoom invents a room, and notes that it has to be removed.
func (x *examination) newRoom(s subject) jid.JID {
	room, _ := s.jid.WithLocal(random()) // which is ASCII
	x.left[room.String()] = room
	return room
}

// room returns a room that usher or Jicofo has created, if there is one.
func (x *examination) room(s subject) (jid.JID, bool) {
	if room, ok := x.rooms[s.name]; ok {
		return room, true
	}
	o := x.opened[s.name]
	return o.room, o.inside()
}

const noRoom = "neither usher nor Jicofo could create a room"

// gone forgets a room that need not be removed.
func (x *examination) gone(room jid.JID) { delete(x.left, room.String()) }

// sendPresence sends the presence of one of ours to a room. It has a display name (XEP-0172), without which Jitsi's lobby lets
// nobody into a members-only room (mod_muc_lobby_rooms.lua).
func (x *examination) sendPresence(room jid.JID, who jid.JID, typ stanza.PresenceType) error {
	return x.sendPresenceAs("", room, who, typ)
}

func (x *examination) sendPresenceAs(id string, room jid.JID, who jid.JID, typ stanza.PresenceType) error {
	name := element.Text("http://jabber.org/protocol/nick", "nick", "usher doctor")
	return x.conn.Send(stanza.Presence{ID: id, Type: typ, From: who, To: nick(room, who)}.Wrap(xmlstream.MultiReader(element.New(muc.NS, "x"), name)))
}

// join makes one of ours enter the room. The error is the room's, if it answered with one. An error has the id of what was refused
// (RFC 6120 §8.1.3), so that a late answer is not taken for that to the next try.
func (x *examination) join(ctx context.Context, room jid.JID, who jid.JID) (presence, error) {
	id := rand.Text()
	if err := x.sendPresenceAs(id, room, who, stanza.AvailablePresence); err != nil {
		return presence{}, err
	}
	p, err := x.await(ctx, func(p presence) bool {
		return p.from.Equal(nick(room, who)) && p.to.Equal(who) && (p.typ == "error" && p.id == id || p.typ == "" && p.has("110"))
	})
	if err == nil && p.err != nil {
		err = *p.err
	}
	return p, err
}

// remove destroys a room as each of our owners, and leaves it. It waits for no answer.
func (x *examination) remove(room jid.JID) {
	for _, who := range []jid.JID{x.focus, x.stranger} {
		iq := stanza.IQ{Type: stanza.SetIQ, From: who, To: room}
		_ = x.conn.Send(iq.Wrap(element.New(muc.NSOwner, "query", element.New("", "destroy"))))
		_ = x.sendPresence(room, who, stanza.UnavailablePresence)
	}
}

// setAffiliation is the affiliation that usher gives in a room; "" is none.
func (x *examination) setAffiliation(ctx context.Context, room, who jid.JID, affiliation string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.owner.SetAffiliation(ctx, room, who, affiliation)
}

// creation tries to create a room as somebody of our own domain who is no admin. With restrict_room_creation = "local" the
// server refuses that as well, but lets people of the service's parent domain create rooms. From here that cannot be seen.
func (x *examination) creation(ctx context.Context, s subject) finding {
	room := x.newRoom(s)
	_, err := x.join(ctx, room, x.stranger)
	if err == nil {
		return fail(x.rule(ctx, s, gate.OnlyAdmins, creates), "anybody may create rooms, without usher")
	}
	if isCondition(err, stanza.NotAllowed, stanza.Forbidden) {
		x.gone(room)
		return ok("rooms created without usher are refused (but look yourself: %s)",
			x.line(ctx, `restrict_room_creation must be true, not "local"`, "access_create of mod_muc must allow nobody else"))
	}
	return warn("", "a room is not created without usher, but the refusal is an unexpected error: %s", because(err))
}

func (x *examination) create(ctx context.Context, s subject) finding {
	room := x.newRoom(s)
	p, err := x.join(ctx, room, x.focus)
	switch {
	case isCondition(err, stanza.NotAllowed, stanza.Forbidden):
		x.gone(room)
		return fail(x.admins(ctx, s), "usher may not create rooms (%s)", because(err))
	case err != nil:
		return fail("", "usher cannot create rooms: %s", because(err))
	case !p.has("201"):
		return fail("", "a room with a random name exists already (status %v)", p.codes)
	}
	x.rooms[s.name] = room
	return ok("usher creates rooms")
}

// owns finds out whether usher owns the rooms of the service as its admin, and not only the rooms that it created. A room that
// Jicofo has created shows it best. Without one, usher tries to be less than an owner. For an admin of the service Prosody
// refuses that as not-acceptable. For a mere creator, who is the last owner, it is a conflict (XEP-0045 §10.5). Neither changes
// anything.
func (x *examination) owns(ctx context.Context, s subject) finding {
	mend := x.line(ctx, gate.AdminsOwn.Line()+" in the global section", x.admins(ctx, s))
	if x.blame["creation "+s.name] != "" && !x.isEjabberd(ctx) { // usher did not need to be an admin
		mend = x.admins(ctx, s) + "; for Prosody 13 also " + mend
	}
	if o := x.opened[s.name]; o.inside() {
		if _, err := x.configuration(ctx, o.room, x.focus.Bare()); err != nil {
			return fail(mend, "usher does not own the rooms that Jicofo opens (%s)", because(err))
		}
		return ok("usher owns the rooms that Jicofo opens")
	}
	room, created := x.rooms[s.name]
	if !created {
		return skipped(noRoom)
	}
	switch err := x.setAffiliation(ctx, room, x.focus, ""); {
	case isCondition(err, stanza.NotAcceptable):
		return ok("usher owns all rooms of the service")
	case isCondition(err, stanza.Conflict):
		return fail(mend, "usher owns only the rooms that it created")
	case err == nil:
		return fail(mend, "usher does not own the rooms of the service")
	case !isCondition(err, stanza.NotAllowed):
		return fail(mend, "usher does not own the rooms of the service (%s)", because(err))
	}
	// ejabberd says not-allowed of its admins, but Jitsi's muc_meeting_id says it of every JID with the node focus.
	switch _, err := x.configuration(ctx, room, x.focus.Bare()); {
	case err != nil:
		return fail(mend, "usher does not own the rooms of the service (%s)", because(err))
	case x.o.Jicofo.Equal(jid.JID{}):
		return ok("usher owns the rooms that it creates")
	}
	return warn("", "usher owns the rooms that it creates; whether it owns Jicofo's rooms shows only once Jicofo opens one")
}

// switches asks for the form with which usher switches Jitsi's lobby on. usher asks as the bare domain, because the lobby takes
// no configuration from a focus (jitsi-meet mod_muc_lobby_rooms.lua).
func (x *examination) switches(ctx context.Context, s subject) finding {
	if !x.o.Autostart {
		return finding{}
	}
	room, there := x.room(s)
	if !there {
		return skipped(noRoom)
	}
	if err := x.ask(ctx, room, element.New(muc.NSOwner, "query"), nil); err != nil {
		return fail(x.admins(ctx, s), "usher cannot switch the lobby on: %s does not own the rooms (%s)", x.o.Domain, because(err))
	}
	return ok("usher can switch the lobby on")
}

// configuration is a room's form, by field, as the room gives it to one of ours (XEP-0045 §10.2).
func (x *examination) configuration(ctx context.Context, room, who jid.JID) (map[string]string, error) {
	var answer struct {
		Fields []struct {
			Var    string   `xml:"var,attr"`
			Values []string `xml:"value"`
		} `xml:"x>field"`
	}
	err := x.iq(ctx, stanza.IQ{Type: stanza.GetIQ, From: who, To: room}, element.New(muc.NSOwner, "query"), &answer)
	form := make(map[string]string)
	for _, f := range answer.Fields {
		form[f.Var] = strings.Join(f.Values[:min(1, len(f.Values))], "")
	}
	return form, err
}

func membersOnly(form map[string]string) bool {
	return slices.Contains([]string{"1", "true"}, form["muc#roomconfig_membersonly"])
}

func (x *examination) born(ctx context.Context, s subject) finding {
	switch form, err := x.configuration(ctx, x.rooms[s.name], x.focus.Bare()); {
	case err != nil:
		return unreadable(err)
	case x.o.Module && membersOnly(form):
		return warn(below(s, gate.LobbyOff.Line()), "a new room has the lobby switched on")
	case x.o.Module:
		return ok("a new room has the lobby switched off")
	case !membersOnly(form):
		return fail(x.rule(ctx, s, gate.MembersOnly, "members_only: true in default_room_options"), "a new room is open to everybody until somebody closes it")
	}
	return ok("rooms are members-only from the first moment on")
}

func unreadable(err error) finding {
	return fail("", "usher cannot read a room's configuration (%s)", because(err))
}

func (x *examination) configure(ctx context.Context, s subject) finding {
	room := x.rooms[s.name]
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := x.owner.Configure(bounded, room, muc.Configuration{MembersOnly: true}); err != nil {
		return fail("", "usher cannot configure a room (%s)", because(err))
	}
	switch form, err := x.configuration(ctx, room, x.focus.Bare()); {
	case err != nil:
		return unreadable(err)
	case !membersOnly(form):
		return fail("", "a room does not become members-only")
	case form["muc#roomconfig_whois"] != "anyone":
		return fail(x.rule(ctx, s, gate.PublicJIDs, "anonymous: false in default_room_options"), "a room does not show real JIDs to everybody inside")
	}
	return ok("usher configures rooms: members-only, real JIDs visible")
}

// setMembersOnly switches members-only as an owner does.
func (x *examination) setMembersOnly(ctx context.Context, room jid.JID, on bool) error {
	submit, _ := form.New(
		form.Hidden("FORM_TYPE", form.Value("http://jabber.org/protocol/muc#roomconfig")),
		form.Boolean("muc#roomconfig_membersonly", form.Value(strconv.FormatBool(on))),
	).Submit()
	return x.iq(ctx, stanza.IQ{Type: stanza.SetIQ, From: x.focus.Bare(), To: room}, element.New(muc.NSOwner, "query", submit), nil)
}

// keepsOut tries to enter as somebody who was never admitted. With the module it does so while the room is open. The room stays
// open then for the checks that follow.
func (x *examination) keepsOut(ctx context.Context, s subject) finding {
	room, kind := x.rooms[s.name], "a members-only"
	if x.o.Module {
		kind = "an open"
		if err := x.setMembersOnly(ctx, room, false); err != nil {
			return fail("", "usher cannot open a room (%s)", because(err))
		}
	}
	_, err := x.join(ctx, room, x.stranger)
	switch {
	case err == nil && x.o.Module:
		// As without the module, so that the checks that follow can still be made. It puts the stranger out as well.
		if err := x.setMembersOnly(ctx, room, true); err != nil {
			return fail("", "usher cannot close a room (%s)", because(err))
		}
		// A list below the component would replace the global one, and Jitsi's modules with it.
		return fail(below(s, "add "+gate.Quote(gate.Module)+" to modules_enabled")+
			" (usher config prosody --output FILE writes the whole list), and put its file into a folder of plugin_paths (--module DIR)",
			"mod_usher is not loaded on %s: anybody can enter", s.name)
	case err == nil:
		if form, err := x.configuration(ctx, room, x.focus.Bare()); err == nil && !membersOnly(form) {
			return fail("", "somebody without an affiliation enters, because usher cannot make the room members-only")
		}
		return fail("", "somebody without an affiliation enters a members-only room: another module lets them in")
	case isCondition(err, stanza.RegistrationRequired):
		return ok("somebody without an affiliation is kept out of %s room", kind)
	default:
		return warn("", "somebody without an affiliation is kept out, but with an unexpected error: %s", because(err))
	}
}

func (x *examination) letsIn(ctx context.Context, s subject) finding {
	room := x.rooms[s.name]
	if err := x.setAffiliation(ctx, room, x.stranger, "member"); err != nil {
		return fail("", "usher cannot give an affiliation (%s)", because(err))
	}
	p, err := x.join(ctx, room, x.stranger)
	switch {
	case isCondition(err, stanza.ItemNotFound):
		return fail(below(s, gate.NoLocking.Line()), "a room stays locked after it was configured")
	case err != nil:
		return fail("", "a member cannot enter (%s)", because(err))
	case len(p.items) == 0 || p.items[0].Affiliation != "member":
		return fail("", "a member enters with another affiliation")
	}
	return ok("a member enters")
}

// moderators reads the list of moderators as usher does to find hosts: where Jicofo is the focus, as an owner who is not inside. If
// the stranger could not enter, usher stays inside and looks for itself.
func (x *examination) moderators(ctx context.Context, s subject) finding {
	room, host := x.rooms[s.name], x.focus
	if x.blame["room-member "+s.name] == "" {
		host = x.stranger
		if x.outside() {
			if err := x.sendPresence(room, x.focus, stanza.UnavailablePresence); err != nil {
				return fail("", "usher cannot leave: %v", err)
			}
		}
		if err := x.setAffiliation(ctx, room, x.stranger, "owner"); err != nil {
			return fail("", "usher cannot make somebody an owner (%s)", because(err))
		}
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	items, err := x.owner.Moderators(bounded, room)
	where := "inside"
	if x.outside() {
		where = "outside"
	}
	if err != nil {
		return fail(x.admins(ctx, s), "usher cannot see from %s who moderates (%s)", where, because(err))
	}
	if !slices.ContainsFunc(items, func(i muc.Item) bool { return i.JID == host.String() }) {
		return fail("", "a moderator is missing from the list of moderators: usher would not see hosts")
	}
	return ok("usher sees from %s who moderates", where)
}

// outside reports whether usher asks the rooms from outside, because Jicofo is their focus.
func (x *examination) outside() bool { return !x.o.Jicofo.Equal(jid.JID{}) }

// persistent finds out whether an owner who is no admin of the service can make a room persistent. It looks for the field in the
// form that the server gives them (muc/persistent.lib.lua). Prosody 13 has it only for people of the service's parent domain
// (mod_authz_internal.lua, host_user_role); ours is not that domain.
func (x *examination) persistent(ctx context.Context, s subject) finding {
	room := x.rooms[s.name]
	err := x.setAffiliation(ctx, room, x.stranger, "owner")
	form := map[string]string{}
	if err == nil {
		form, err = x.configuration(ctx, room, x.stranger)
	}
	line := gate.NotPersistent.Line()
	switch _, can := form["muc#roomconfig_persistentroom"]; {
	case err != nil:
		return warn("", "the doctor cannot see what owners can configure (%s)", because(err))
	case can:
		return warn(x.rule(ctx, s, gate.NotPersistent, persists), "an owner can make a room persistent: it stays, with all affiliations, when everybody has left")
	case len(x.prosody) == 0 || x.prosody[0] > 0:
		return ok("owners of our own domain can make no room persistent (but look yourself: there must be %s)", x.line(ctx, line, persists))
	}
	return ok("no owner can make a room outlive the people in it")
}

func (x *examination) withdraw(ctx context.Context, s subject) finding {
	room := x.rooms[s.name]
	if err := x.setAffiliation(ctx, room, x.stranger, ""); err != nil {
		return fail("", "usher cannot take an affiliation back (%s)", because(err))
	}
	_, err := x.await(ctx, func(p presence) bool {
		return p.from.Equal(nick(room, x.stranger)) && p.to.Equal(x.stranger) && p.typ == "unavailable" && p.has("321")
	})
	if err != nil {
		return fail("", "an occupant who loses the affiliation stays inside")
	}
	return ok("an occupant who loses the affiliation is removed")
}

// end looks whether the room ends with its last occupant. If all is well ours have left already.
func (x *examination) end(ctx context.Context, s subject) finding {
	room := x.rooms[s.name]
	for _, who := range []jid.JID{x.focus, x.stranger} {
		if err := x.sendPresence(room, who, stanza.UnavailablePresence); err != nil {
			return fail("", "usher cannot leave: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// ejabberd ends a room some moments after the last occupant has left, and does not answer what is asked in these moments.
	gone := func() bool {
		ctx, cancel := context.WithTimeout(ctx, cleanAgain)
		defer cancel()
		_, err := x.owner.Moderators(ctx, room)
		return muc.Absent(err)
	}
	for ctx.Err() == nil && !gone() {
		select {
		case <-time.After(cleanAgain / 10):
		case <-ctx.Done():
		}
	}
	_, err := x.owner.Moderators(ctx, room)
	if !muc.Absent(err) {
		return warn(x.rule(ctx, s, gate.EndsEmpty, "persistent: false in default_room_options"), "a room stays when its last occupant has left")
	}
	x.gone(room)
	return ok("an empty room is gone")
}

// What mod_muc of ejabberd must say, see config/gate.
const (
	creates  = "access_create: a rule that allows usher only"
	persists = "access_persistent: a rule that allows usher only"
)

// line returns the remedy for the server that is there.
func (x *examination) line(ctx context.Context, prosodys, ejabberds string) string {
	if x.isEjabberd(ctx) {
		return ejabberds
	}
	return prosodys
}

// rule returns the remedy for a MUC service: an option of Prosody, or a line of ejabberd's mod_muc.
func (x *examination) rule(ctx context.Context, s subject, prosodys gate.Option, ejabberds string) string {
	return x.line(ctx, below(s, prosodys.Line()), ejabberds+" below mod_muc")
}

// below is a line that belongs to the MUC service.
func below(s subject, line string) string {
	return fmt.Sprintf(`%s below Component %q "muc"`, line, s.name)
}

// admins is the line that names everybody who creates rooms.
func (x *examination) admins(ctx context.Context, s subject) string {
	if x.isEjabberd(ctx) {
		return fmt.Sprintf("access_admin and access_create below mod_muc must allow %q", x.focus.Bare())
	}
	all := fmt.Sprintf("%q", x.focus.Bare())
	if x.o.Autostart {
		all += fmt.Sprintf(", %q", x.o.Domain)
	}
	if !x.o.Jicofo.Equal(jid.JID{}) {
		all += fmt.Sprintf(", %q", x.o.Jicofo.Bare())
	}
	return below(s, "admins = { "+all+" }")
}
