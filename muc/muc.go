// Package muc acts on multi-user chat rooms (XEP-0045) as an owner does. It gives and takes affiliations, reads who moderates, and
// makes rooms what they must be.
//
// There are two ways to look after rooms, which give and take affiliations alike. [Rooms] is for rooms without another focus: it
// opens them and stays inside, and the rooms tell it what happens. [Guard] is for rooms that another focus (Jicofo) keeps: it stays
// outside, and asks. Both act through [Owner]. Where usher's module is loaded, [Told] has a mirror of the rooms, which answers what they
// would be asked, and the module takes what is given. [Lobby] is Jitsi's service where people knock. A [Grant] is an affiliation with an
// end, and a [Ledger] keeps grants beyond the process.
//
// mellium.im/xmpp has a muc package, too, which a component cannot use. A component must put an address of its own domain on every
// stanza (XEP-0114; otherwise Prosody closes the stream), and mellium's SetAffiliation has no parameter for one. That package also
// joins rooms, but an owner can set affiliations from outside, and most admissions need nothing else.
//
// The package does not decide who may enter, and it does no I/O of its own: a [Session] sends and receives.
package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"

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

// Session is the part of the component's connection that this package uses.
type Session interface {
	// IQ sends an IQ of type get or set and waits for its answer, at most as long as ctx. A result's payload is
	// decoded into v unless v is nil; an error answer is returned as a stanza.Error. It must not be called from
	// the goroutine that reads the stream.
	IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error
	// Send hands over a stanza. It waits neither until the stanza is written nor for an answer. Stanzas are written in the
	// order in which they were handed over.
	Send(stanza xml.TokenReader) error
}

// Owner acts on rooms in which it need not be an occupant. It holds no state.
type Owner struct {
	Session Session
	// JID is the bare JID that the rooms know as an owner: one of the MUC service's admins.
	JID jid.JID
	// Occupant is the full JID as which the owner may be inside. It is zero if the owner never is.
	Occupant jid.JID
	// Told answers questions instead of the room, as far as it can; nil if there is none.
	Told *Told
}

// Item is one item of an affiliation or role list.
type Item struct {
	Affiliation string `xml:"affiliation,attr,omitempty"`
	Role        string `xml:"role,attr,omitempty"`
	JID         string `xml:"jid,attr,omitempty"` // the real JID; full in role lists, bare in affiliation lists
	Nick        string `xml:"nick,attr,omitempty"`
}

// real returns the real JID as the server wrote it, and whether there is a valid one.
func (i Item) real() (jid.JID, bool) {
	j, err := jid.ParseUnsafe(i.JID)
	return j.JID, err == nil && j.Domainpart() != "" // it takes the empty string for a JID
}

func (o Owner) iq(typ stanza.IQType, room jid.JID) stanza.IQ {
	return stanza.IQ{Type: typ, From: o.JID, To: room}
}

// affiliationQuery is the payload that gives the bare JID the affiliation (XEP-0045 §9), for a reason that everybody inside reads
// unless it is empty.
func affiliationQuery(bare, affiliation, reason string) xml.TokenReader {
	if affiliation == "" {
		affiliation = "none"
	}
	return adminQuery(reason, element.NewAttr("affiliation", affiliation), element.NewAttr("jid", bare))
}

// adminQuery is the payload that sets an affiliation or a role. It has one item because Prosody takes no more.
func adminQuery(reason string, item ...xml.Attr) xml.TokenReader {
	return element.New(NSAdmin, "query", element.Wrap(xml.StartElement{Name: xml.Name{Local: "item"}, Attr: item}, because(reason)))
}

// because is the element that tells people a reason, or nothing if there is none.
func because(reason string) xml.TokenReader {
	if reason == "" {
		return nil
	}
	return element.Text("", "reason", reason)
}

// SetAffiliation gives somebody an affiliation in a room that exists, by bare JID. The empty affiliation takes theirs away.
func (o Owner) SetAffiliation(ctx context.Context, room, who jid.JID, affiliation string) error {
	return o.setAffiliation(ctx, room, who, affiliation, "")
}

func (o Owner) setAffiliation(ctx context.Context, room, who jid.JID, affiliation, reason string) error {
	return o.set(ctx, o.iq(stanza.SetIQ, room), affiliationQuery(who.Bare().String(), affiliation, reason))
}

// set changes something at a room, and waits for the answer.
func (o Owner) set(ctx context.Context, iq stanza.IQ, payload xml.TokenReader) error {
	err := o.Session.IQ(ctx, iq, payload, nil)
	if !answered(err) {
		o.Told.sent(iq.To)
	}
	return err
}

// answered reports whether an error of an IQ, or nil, is the answer of the room.
func answered(err error) bool { return err == nil || errors.As(err, new(stanza.Error)) }

// send changes something at a room, and does not wait for the answer.
func (o Owner) send(room jid.JID, payload xml.TokenReader) error {
	err := o.Session.Send(o.iq(stanza.SetIQ, room).Wrap(payload))
	o.Told.sent(room)
	return err
}

// sendAffiliation gives a bare JID the affiliation as SetAffiliation does, and does not wait for the answer.
func (o Owner) sendAffiliation(room jid.JID, bare, affiliation, reason string) error {
	return o.send(room, affiliationQuery(bare, affiliation, reason))
}

// Moderators lists the occupants with the role moderator, as WithRole does.
func (o Owner) Moderators(ctx context.Context, room jid.JID) ([]Item, error) {
	return o.WithRole(ctx, room, "moderator")
}

// WithRole lists the occupants with a role: moderators (XEP-0045 §9.8), participants (§9.6), or visitors, who have lost their voice
// (§8.4; the XEP has no example of that list, but servers treat all roles alike). If the room does not exist,
// [Absent] holds for the error.
func (o Owner) WithRole(ctx context.Context, room jid.JID, role string) ([]Item, error) {
	return o.list(ctx, room, "role", role)
}

// WithAffiliation lists by bare JID who has an affiliation, inside or not: owners (XEP-0045 §10.5), admins (§10.8), members (§9.5)
// or outcasts (§9.2). Admins of the MUC service are not on the list of owners, and an outcast may be a domain.
func (o Owner) WithAffiliation(ctx context.Context, room jid.JID, affiliation string) ([]Item, error) {
	return o.list(ctx, room, "affiliation", affiliation)
}

func (o Owner) list(ctx context.Context, room jid.JID, what, value string) ([]Item, error) {
	iq := o.iq(stanza.GetIQ, room)
	if what == "role" {
		iq.From = o.insider()
	}
	if iq.From.Equal(o.JID) {
		if items, told, err := o.Told.list(room, what, value); told {
			return items, err
		}
	}
	ask := element.New(NSAdmin, "query", element.Empty("", "item", element.NewAttr(what, value)))
	settled := o.Told.asks(room)
	var list items
	err := o.Session.IQ(ctx, iq, ask, &list)
	if answered(err) {
		settled()
	}
	return list, err
}

// Names of fields of a room's configuration.
const (
	fieldMembersOnly = "muc#roomconfig_membersonly"
	fieldPersistent  = "muc#roomconfig_persistentroom"
	fieldPassword    = "muc#roomconfig_roomsecret"
)

// Configuration is the part of a room's configuration that usher sets (XEP-0045 §10.1.2). Members never give an affiliation by
// inviting, and real JIDs are visible, because Jitsi clients recognise each other by them. Other fields keep their values.
type Configuration struct {
	// MembersOnly: nobody enters without an affiliation.
	MembersOnly bool
}

// temporaryRoom is the setting that has the server end the room with its last occupant.
var temporaryRoom = setting{fieldPersistent, []string{no}}

// Configure makes the room what c says, whatever it was. If the room becomes members-only, the server removes everybody inside who
// has no affiliation (status 322). If it was members-only before, nothing happens.
func (o Owner) Configure(ctx context.Context, room jid.JID, c Configuration) error {
	return o.configure(ctx, room, c)
}

// Enforce makes the room what c says, if it is not, and returns what it was before. People who came in meanwhile without an
// affiliation are put out by a ban, which is lifted at once. [Owner.Configure] alone is not enough: Prosody notifies only the
// removed occupant (0.12 and 13, muc/members_only.lib.lua), so others would keep seeing a ghost, and a focus would wait for it.
func (o Owner) Enforce(ctx context.Context, room jid.JID, c Configuration) (Settings, error) {
	is, err := o.Settings(ctx, room)
	if err != nil || is.asMust(c) {
		return is, err
	}
	var intruders []jid.JID
	if c.MembersOnly && (!is.MembersOnly || !isProsody(is.offers)) { // ejabberd has another way in, see ejabberds
		var participants []Item
		participants, err = o.WithRole(ctx, room, "participant") // if that fails, perhaps because there are too many, the room is closed all the same
		for _, i := range participants {
			who, err := jid.ParseUnsafe(i.JID)
			if err != nil || i.Affiliation != "none" || slices.ContainsFunc(intruders, who.Bare().Equal) {
				continue
			}
			intruders = append(intruders, who.Bare())
		}
	}
	// Sent together, so that nobody can come in between.
	send := func(affiliation string) (err error) {
		for _, who := range intruders {
			err = errors.Join(err, o.sendAffiliation(room, who.String(), affiliation, ""))
		}
		return err
	}
	err = errors.Join(err, send("outcast"))
	err = errors.Join(err, o.Configure(ctx, room, c))
	return is, errors.Join(err, send(""))
}

// Settings are the part of a room's configuration form that matters here, as the room shows it to owners (XEP-0045 §10.2).
type Settings struct {
	MembersOnly bool
	// Persistent says that the room goes on when nobody is inside, and Temporary that it ends then. Both are false if the form does
	// not say: Prosody leaves the field out for owners who may not change it (muc_room_allow_persistent; its admins may).
	Persistent, Temporary bool
	// Password is asked of everybody who joins. It is empty if there is none.
	Password string
	// Breakout says that it is a breakout room, and Main names its main room (Jitsi's mod_muc_breakout_rooms.lua).
	Breakout bool
	Main     string

	offers []string // the names of all fields
	loose  bool     // some demand is not met
}

// asMust reports whether a room with these settings is what c says.
func (s Settings) asMust(c Configuration) bool { return !s.loose && (s.MembersOnly || !c.MembersOnly) }

// Settings returns the room's configuration.
func (o Owner) Settings(ctx context.Context, room jid.JID) (Settings, error) {
	if o.Occupant.Equal(jid.JID{}) {
		if is, told, err := o.Told.configured(room); told {
			return is, err
		}
	}
	return o.form(ctx, room)
}

// form asks for the room's configuration.
func (o Owner) form(ctx context.Context, room jid.JID) (Settings, error) {
	var form fields
	if err := o.own(ctx, stanza.GetIQ, room, element.New(NSOwner, "query", nil), &form); err != nil {
		return Settings{}, err
	}
	var s Settings
	for _, f := range form {
		s.offers = append(s.offers, f.name)
		s.read(f)
	}
	s.loose = !slices.Contains(s.offers, realJID.name) ||
		slices.ContainsFunc(o.demands(s.offers), func(d setting) bool { return !d.is(form.values(d.name)) })
	return s, nil
}

// read takes in a field of the form.
func (s *Settings) read(f setting) {
	if f.name == fieldPersistent && len(f.values) == 0 { // Prosody's "no" has no value (util/dataforms.lua, persistent.lib.lua)
		s.Temporary = true
	}
	if len(f.values) != 1 {
		return
	}
	switch f.name {
	case fieldMembersOnly:
		s.MembersOnly = isYes(f.values)
	case fieldPersistent:
		s.Persistent, s.Temporary = isYes(f.values), !isYes(f.values)
	case fieldPassword:
		s.Password = f.values[0]
	case "muc#roominfo_isbreakout":
		s.Breakout = isYes(f.values)
	case "muc#roominfo_breakout_main_room":
		s.Main = f.values[0]
	}
}

// Destroy ends the room (XEP-0045 §10.9). It does not wait for the answer.
func (o Owner) Destroy(room jid.JID) error {
	return o.send(room, destroy(""))
}

// End ends the room as Destroy does, and waits for the answer. People inside read the reason, unless it is empty. If the room does
// not exist, [Absent] holds for the error.
func (o Owner) End(ctx context.Context, room jid.JID, reason string) error {
	return o.own(ctx, stanza.SetIQ, room, destroy(reason), nil)
}

func destroy(reason string) xml.TokenReader {
	return element.New(NSOwner, "query", element.New("", "destroy", because(reason)))
}

// Absent reports whether err is the server's answer that the room does not exist. If the room was persistent, as main rooms of
// breakout rooms are for a while, Prosody says that it is gone (muc.lib.lua, tombstones).
func Absent(err error) bool {
	return errors.Is(err, stanza.Error{Condition: stanza.ItemNotFound}) || errors.Is(err, stanza.Error{Condition: stanza.Gone})
}
