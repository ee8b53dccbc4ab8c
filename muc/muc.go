// Package muc acts on multi-user chat rooms (XEP-0045) as an owner does: it gives and takes affiliations, reads who
// moderates, and keeps rooms what they must be.
//
// There are two ways to do that, which give and take alike. [Rooms] is for where there is no other focus: it opens rooms and
// stays in them, and the rooms tell it what goes on. [Guard] is for where another focus keeps the rooms: it is in none, and
// asks. [Lobby] is the service beside them where people knock.
//
// mellium.im/xmpp has a muc package, too. It cannot be used here: a component must put an address of its own domain
// on every stanza (XEP-0114; Prosody closes the stream otherwise), and mellium's SetAffiliation has no place for one.
// Nor does an owner need to be in the room to set affiliations, which is all that most admissions take.
package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"

	"mellium.im/xmpp/form"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Namespaces of XEP-0045.
const (
	NS      = "http://jabber.org/protocol/muc"
	NSUser  = "http://jabber.org/protocol/muc#user"
	NSAdmin = "http://jabber.org/protocol/muc#admin"
	NSOwner = "http://jabber.org/protocol/muc#owner"
)

// Session is what this package needs of the component's connection.
type Session interface {
	// IQ sends an IQ of type get or set and waits for its answer, at most as long as ctx. A result's payload is
	// decoded into v unless v is nil; an error answer is returned as a stanza.Error. It must not be called from
	// the goroutine that reads the stream.
	IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error
	// Send hands over a stanza and does not wait until it is written, let alone answered. Stanzas are written in
	// the order in which they were handed over.
	Send(stanza xml.TokenReader) error
}

// Owner acts on rooms in which it need not be an occupant. It holds no state.
type Owner struct {
	Session Session
	// JID is the bare JID that the rooms know as an owner: one of the MUC service's admins.
	JID jid.JID
}

// Item is one entry of an affiliation or role list.
type Item struct {
	Affiliation string `xml:"affiliation,attr,omitempty"`
	Role        string `xml:"role,attr,omitempty"`
	JID         string `xml:"jid,attr,omitempty"` // the real JID; full in role lists, bare in affiliation lists
	Nick        string `xml:"nick,attr,omitempty"`
}

// real returns the real JID, as the server wrote it, if there is one.
func (i Item) real() (jid.JID, bool) {
	j, err := jid.ParseUnsafe(i.JID)
	return j.JID, err == nil && j.Domainpart() != "" // it takes the empty string for a JID
}

func (o Owner) iq(typ stanza.IQType, room jid.JID) stanza.IQ {
	return stanza.IQ{Type: typ, From: o.JID, To: room}
}

// affiliationQuery is the payload that gives the bare JID the affiliation (XEP-0045 §9). One item a query: Prosody
// takes no more.
func affiliationQuery(bare, affiliation string) xml.TokenReader {
	if affiliation == "" {
		affiliation = "none"
	}
	return element.New(NSAdmin, "query", element.Empty("", "item", element.NewAttr("affiliation", affiliation), element.NewAttr("jid", bare)))
}

// SetAffiliation gives the bare JID of who the affiliation in the room; "" takes it away. The room must exist.
func (o Owner) SetAffiliation(ctx context.Context, room, who jid.JID, affiliation string) error {
	return o.Session.IQ(ctx, o.iq(stanza.SetIQ, room), affiliationQuery(who.Bare().String(), affiliation), nil)
}

// sendAffiliation gives a bare JID the affiliation as SetAffiliation does, and does not wait for the answer.
func (o Owner) sendAffiliation(room jid.JID, bare, affiliation string) error {
	return o.Session.Send(o.iq(stanza.SetIQ, room).Wrap(affiliationQuery(bare, affiliation)))
}

// Moderators lists the occupants with the role of moderator (XEP-0045 §9.8). The error is item-not-found if there is no such
// room, see [Absent].
func (o Owner) Moderators(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "role", "moderator")
}

// Participants lists the occupants with the role of participant (XEP-0045 §9.6).
func (o Owner) Participants(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "role", "participant")
}

// Visitors lists the occupants with the role of visitor: those from whom a moderator has taken their voice (XEP-0045 §8.4).
// There is no example of this list there, but servers treat all roles alike.
func (o Owner) Visitors(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "role", "visitor")
}

// Admins lists who is an admin of the room (XEP-0045 §10.8), inside or not: bare JIDs.
func (o Owner) Admins(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "affiliation", "admin")
}

// Owners lists who is an owner (XEP-0045 §10.5), inside or not, but for the admins of the service: bare JIDs.
func (o Owner) Owners(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "affiliation", "owner")
}

// Members lists who is a member (XEP-0045 §9.5): bare JIDs.
func (o Owner) Members(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "affiliation", "member")
}

// Outcasts lists who is banned (XEP-0045 §9.2): bare JIDs and domains.
func (o Owner) Outcasts(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.list(ctx, room, "affiliation", "outcast")
}

func (o Owner) list(ctx context.Context, room jid.JID, what, value string) ([]Item, error) {
	var list struct {
		Items []Item `xml:"item"`
	}
	ask := element.New(NSAdmin, "query", element.Empty("", "item", element.NewAttr(what, value)))
	err := o.Session.IQ(ctx, o.iq(stanza.GetIQ, room), ask, &list)
	return list.Items, err
}

// Names of fields of a room's configuration; the second is Prosody's own.
const (
	fieldMembersOnly   = "muc#roomconfig_membersonly"
	fieldPersistent    = "muc#roomconfig_persistentroom"
	fieldPassword      = "muc#roomconfig_roomsecret"
	fieldMemberInvites = "{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites"
)

// Configuration is what a room is configured to be (XEP-0045 §10.1.2): members give no affiliation by inviting, and real
// JIDs are visible, by which Jitsi clients recognise each other. Fields that are not named keep their values.
type Configuration struct {
	// MembersOnly: nobody enters without an affiliation.
	MembersOnly bool
}

func (c Configuration) form() xml.TokenReader {
	var fields []form.Field
	if c.MembersOnly {
		fields = append(fields, form.Boolean(fieldMembersOnly, form.Value("true")))
	}
	return configuration(append(fields,
		form.Boolean(fieldMemberInvites, form.Value("false")),
		form.List("muc#roomconfig_whois", form.Value("anyone")),
	)...)
}

// configuration is the payload that submits fields of the room's form. The other fields keep their values.
func configuration(fields ...form.Field) xml.TokenReader {
	kind := form.Hidden("FORM_TYPE", form.Value("http://jabber.org/protocol/muc#roomconfig"))
	submit, _ := form.New(append([]form.Field{kind}, fields...)...).Submit()
	return element.New(NSOwner, "query", submit)
}

// temporaryForm is the payload that has the server end the room with its last occupant.
func temporaryForm() xml.TokenReader {
	return configuration(form.Boolean(fieldPersistent, form.Value("false")))
}

// Configure makes the room what c says, whatever it was. If it becomes members-only, whoever is inside without an affiliation
// is removed by the server (status 322); if it is so already, nothing happens.
func (o Owner) Configure(ctx context.Context, room jid.JID, c Configuration) error {
	return o.Session.IQ(ctx, o.iq(stanza.SetIQ, room), c.form(), nil)
}

// Enforce makes the room what c says, if it is not. Who has come in meanwhile without an affiliation is put out by a ban, which
// is lifted at once: those whom the server itself puts out in [Owner.Configure] it tells so, but nobody else in the room
// (Prosody 0.12 and 13, muc/members_only.lib.lua), so that people would go on seeing them, and a focus wait for them, for ever.
// It returns what the room was before.
func (o Owner) Enforce(ctx context.Context, room jid.JID, c Configuration) (Settings, error) {
	is, err := o.Settings(ctx, room)
	closed := is.MembersOnly || !c.MembersOnly
	if err != nil || closed && !is.MemberInvites && is.RealJIDs {
		return is, err
	}
	var intruders []jid.JID
	if !closed {
		var participants []Item
		participants, err = o.Participants(ctx, room) // also if that fails, as where there are too many, the room is closed
		for _, i := range participants {
			who, err := jid.ParseUnsafe(i.JID)
			if err != nil || i.Affiliation != "none" || slices.ContainsFunc(intruders, who.Bare().Equal) {
				continue
			}
			intruders = append(intruders, who.Bare())
		}
	}
	// All in one breath, so that nobody comes in because somebody is put out.
	say := func(affiliation string) (err error) {
		for _, who := range intruders {
			err = errors.Join(err, o.sendAffiliation(room, who.String(), affiliation))
		}
		return err
	}
	err = errors.Join(err, say("outcast"))
	err = errors.Join(err, o.Configure(ctx, room, c))
	return is, errors.Join(err, say(""))
}

// Settings are what a room's configuration form tells its owners (XEP-0045 §10.2), as far as it is of interest here.
type Settings struct {
	MembersOnly, MemberInvites bool
	// Persistent tells that the room goes on when nobody is inside, and Temporary that it does not. It may tell neither: Prosody
	// leaves that out for owners who may not change it (muc_room_allow_persistent; its admins may).
	Persistent, Temporary bool
	// Password is asked of everybody who joins; empty for none.
	Password string
	// RealJIDs tells that they are for everybody to see.
	RealJIDs bool
	// Breakout tells that it is a breakout room, and Main names its main room (Jitsi's mod_muc_breakout_rooms.lua).
	Breakout bool
	Main     string
}

// Settings asks for the room's configuration.
func (o Owner) Settings(ctx context.Context, room jid.JID) (Settings, error) {
	var answer struct {
		Form form.Data `xml:"jabber:x:data x"`
	}
	if err := o.Session.IQ(ctx, o.iq(stanza.GetIQ, room), element.New(NSOwner, "query", nil), &answer); err != nil {
		return Settings{}, err
	}
	var s Settings
	answer.Form.ForFields(func(f form.FieldData) {
		if f.Var == fieldPersistent && len(f.Raw) == 0 { // so Prosody says no (util/dataforms.lua), as persistent.lib.lua has it
			s.Temporary = true
		}
		if len(f.Raw) != 1 {
			return
		}
		yes := f.Raw[0] == "1" || f.Raw[0] == "true"
		switch f.Var {
		case fieldMembersOnly:
			s.MembersOnly = yes
		case fieldMemberInvites:
			s.MemberInvites = yes
		case fieldPersistent:
			s.Persistent, s.Temporary = yes, !yes
		case fieldPassword:
			s.Password = f.Raw[0]
		case "muc#roomconfig_whois":
			s.RealJIDs = f.Raw[0] == "anyone"
		case "muc#roominfo_isbreakout":
			s.Breakout = yes
		case "muc#roominfo_breakout_main_room":
			s.Main = f.Raw[0]
		}
	})
	return s, nil
}

// Destroy ends the room (XEP-0045 §10.9). It does not wait for the answer.
func (o Owner) Destroy(room jid.JID) error {
	return o.Session.Send(o.iq(stanza.SetIQ, room).Wrap(destroy()))
}

// End ends the room as Destroy does, and waits for the answer. The error is item-not-found if there was none, see [Absent].
func (o Owner) End(ctx context.Context, room jid.JID) error {
	return o.Session.IQ(ctx, o.iq(stanza.SetIQ, room), destroy(), nil)
}

func destroy() xml.TokenReader {
	return element.New(NSOwner, "query", element.New("", "destroy"))
}

// Absent reports whether err is the server's answer that there is no such room. Of one that was persistent, as main rooms of
// breakout rooms are for a while, Prosody says that it is gone (muc.lib.lua, tombstones).
func Absent(err error) bool {
	return errors.Is(err, stanza.Error{Condition: stanza.ItemNotFound}) || errors.Is(err, stanza.Error{Condition: stanza.Gone})
}
