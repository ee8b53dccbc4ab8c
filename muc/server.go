package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// How MUC services differ. The package talks to all of them in one way, which Prosody 0.12 and 13 understand at once. This file has
// what ejabberd (23.01) wants besides; its mod_muc.erl and mod_muc_room.erl are the sources. Nobody configures which server it is:
// the answers show that.
//
//   - It refuses a form with a field that it does not have. Then only those are submitted that the room's form offers.
//   - It has settings of its own by which people get in, or hear what is said: see ejabberds.
//   - It lists occupants only for a moderator inside, by full JID. So role lists are asked for as Owner.Occupant. Whether a room
//     exists is known all the same; who is inside shows once usher has entered. See [Rooms.State].
//   - It takes a muc#owner query to a room that does not exist as a wish to create it. The lines of "usher config ejabberd" let only the
//     occupant create rooms, so ejabberd says forbidden of the bare JID, and Owner.own finds out what that means.
//   - It answers nothing that reaches a room while that one ends. So usher asks again where somebody may be waiting for a new room of
//     the same name: see untilAnswered, and Rooms.join.
//   - It says not-allowed where Prosody says not-acceptable, of the admins of the service: see Owner.protects.
//   - It tells of the end of a room without status 110: see Rooms.Presence.

// setting is a field of a room's configuration (XEP-0045 §10.1.2), and its values.
type setting struct {
	name   string
	values []string
}

const (
	yes = "true"
	no  = "false"
)

// is reports whether a field of the form, with these values, says what the setting says.
func (s setting) is(values []string) bool {
	switch s.values[0] {
	case yes:
		return isYes(values)
	case no:
		return !isYes(values) // Prosody's "no" has no value (util/dataforms.lua)
	}
	return !slices.ContainsFunc(s.values, func(v string) bool { return !slices.Contains(values, v) })
}

func isYes(values []string) bool { return len(values) == 1 && (values[0] == "1" || values[0] == yes) }

var (
	closed  = setting{fieldMembersOnly, []string{yes}}
	realJID = setting{"muc#roomconfig_whois", []string{"anyone"}}
	// broadcast: without the presence of some roles usher would take people inside for gone, and their affiliations back.
	broadcast = setting{"muc#roomconfig_presencebroadcast", []string{"moderator", "participant", "visitor"}}
	// noInvites is Prosody's own, by which its form is known (muc/members_only.lib.lua).
	noInvites = setting{"{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites", []string{no}}
	// noUserInvites is ejabberd's: everybody becomes a member who is invited into a members-only room, so only owners and admins may invite.
	noUserInvites = setting{"muc#roomconfig_allowinvites", []string{no}}
	ejabberds     = []setting{
		noUserInvites,
		// A moderated room keeps everybody's role, and lets them in again by it, although the affiliation was taken back and the room is
		// members-only (seen with 23.01; mod_muc_room.erl, get_occupant_initial_role).
		{"muc#roomconfig_moderatedroom", []string{no}},
		// Who has subscribed (MucSub) goes on getting messages after usher has put them out.
		{"muc#roomconfig_allow_subscription", []string{no}},
		{"allow_subscription", []string{no}}, // the field's name in some versions (mod_muc_room.erl, convert_legacy_fields)
	}
)

// isProsody reports whether a form with these fields is Prosody's.
func isProsody(offers []string) bool { return slices.Contains(offers, noInvites.name) }

// demands returns what every room with a form of these fields must say.
func (o Owner) demands(offers []string) []setting {
	all := slices.Concat([]setting{realJID, broadcast}, ejabberds)
	if isProsody(offers) {
		all = []setting{noInvites, realJID, broadcast}
	}
	return slices.DeleteFunc(all, func(s setting) bool {
		return !slices.Contains(offers, s.name) || s.name == broadcast.name && o.Occupant.Equal(jid.JID{})
	})
}

// everywhere returns what every server understands of c and the demands.
func (o Owner) everywhere(c Configuration) []setting {
	all := o.demands([]string{realJID.name, broadcast.name})
	if c.MembersOnly {
		all = append([]setting{closed}, all...)
	}
	return all
}

// errNoMembersOnly means that a room cannot be closed.
var errNoMembersOnly = errors.New("the room's configuration form has no members-only (" + fieldMembersOnly + ")")

// configure makes a room what it must be. If the server refuses Prosody's fields, the room's form says which ones it has.
func (o Owner) configure(ctx context.Context, room jid.JID, c Configuration) error {
	err := o.submit(ctx, room, append(o.everywhere(c), noInvites)...)
	if !errors.Is(err, stanza.Error{Condition: stanza.BadRequest}) {
		return err
	}
	is, err := o.form(ctx, room)
	if err != nil {
		return err
	}
	all := o.demands(is.offers)
	if c.MembersOnly {
		if !slices.Contains(is.offers, closed.name) {
			return errNoMembersOnly
		}
		all = append(all, closed)
	}
	return o.submit(ctx, room, all...)
}

// submit sets fields of a room's configuration. The other fields keep their values.
func (o Owner) submit(ctx context.Context, room jid.JID, settings ...setting) error {
	return o.own(ctx, stanza.SetIQ, room, configuration(settings...), nil)
}

// own asks a room what only owners may ask (muc#owner). The answer is item-not-found if there is no such room.
func (o Owner) own(ctx context.Context, typ stanza.IQType, room jid.JID, payload xml.TokenReader, v any) error {
	settled := o.Told.asks(room)
	err := o.Session.IQ(ctx, o.iq(typ, room), payload, v)
	switch {
	case answered(err):
		settled()
	case typ == stanza.SetIQ:
		o.Told.sent(room)
	}
	if !isForbidden(err) {
		return err
	}
	if _, asked := o.WithAffiliation(ctx, room, "outcast"); Absent(asked) {
		return asked
	}
	return err
}

// firstWait is how long a room may take to answer before usher asks again. The time doubles with each attempt, up to askWithin.
const firstWait = time.Second / 2

// untilAnswered asks again while there is no answer, until ctx ends. The first answer counts, whichever attempt it belongs to: a server
// that is only slow loses no time by that.
func untilAnswered[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the attempts that are left
	type reply struct {
		answer T
		err    error
	}
	replies := make(chan reply)
	for wait := firstWait; ; wait = min(2*wait, askWithin) {
		go func() {
			answer, err := ask(ctx)
			select {
			case replies <- reply{answer, err}:
			case <-ctx.Done():
			}
		}()
		again := time.NewTimer(wait)
		select {
		case r := <-replies:
			again.Stop()
			return r.answer, r.err
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			var none T
			return none, ctx.Err()
		}
	}
}

func isForbidden(err error) bool { return errors.Is(err, stanza.Error{Condition: stanza.Forbidden}) }

// insider is the JID that asks who is inside.
func (o Owner) insider() jid.JID {
	if o.Occupant.Equal(jid.JID{}) {
		return o.JID
	}
	return o.Occupant
}

// protects reports whether an error means that the server takes nothing away from somebody, because admins of the service own all
// rooms there. Prosody says not-acceptable (plugins/muc/mod_muc.lua, component_admins_as_room_owners). In docker-jitsi-meet
// Jigasi's account is such an admin. ejabberd says not-allowed. So does Jitsi's muc_meeting_id of everybody with the node of the
// focus, which is another matter; that module is known by the form, which is Prosody's.
func (o Owner) protects(ctx context.Context, room jid.JID, err error) bool {
	if !errors.Is(err, stanza.Error{Condition: stanza.NotAllowed}) {
		return errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable})
	}
	is, err := o.Settings(ctx, room)
	return err == nil && !isProsody(is.offers)
}
