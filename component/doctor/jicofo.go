package doctor

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// opening and electing are the defaults of Options.Opening, as long as usher waits, and Options.Electing.
	opening, electing = 15 * time.Second, 3 * time.Second
	// starting is the default of Options.Starting. A Jicofo that systemd has just started, together with Prosody, is online
	// after one or two seconds, on a slow machine after up to 20.
	starting = 20 * time.Second
	// leaving is how long Jicofo may take to leave a room in which nobody else is left.
	leaving = 3 * time.Second
	// lookEvery is how often we look whether it has.
	lookEvery = 100 * time.Millisecond
)

// What mends a Jicofo that decides beside usher.
const (
	noAuthentication = "take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0), and restart Jicofo"
	noElection       = "jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0), and restart Jicofo"
	enforce          = "; or jicofo.enforce_roles: true here, and usher puts such owners back"
)

// jicofo subscribes to Jicofo's presence as usher does, by which usher knows its full JID, as Jitsi's client_proxy does.
// Where usher may see that Jicofo is offline, Jicofo has x.o.Starting to come online. Where usher may not see it, waiting does
// not help.
func (x *examination) jicofo(ctx context.Context, s subject) finding {
	send := func(typ stanza.PresenceType) error {
		return x.conn.Send(stanza.Presence{Type: typ, From: x.o.Domain, To: s.jid}.Wrap(nil))
	}
	if err := send(stanza.SubscribePresence); err != nil {
		return fail("", "usher cannot ask for Jicofo's presence: %v", err)
	}
	account := fmt.Sprintf("VirtualHost %q, and on it the account %s; or the right jicofo.jid here", s.jid.Domainpart(), s.jid.Bare())
	shown := false // somebody has let us see Jicofo: the server, where that is known, or Jicofo
	for {
		p, err := x.await(ctx, func(p presence) bool { return x.ofJicofo(s, p) })
		switch {
		case err != nil, p.typ == "unsubscribed":
			// To an unknown account the server says nothing.
			return fail(fmt.Sprintf("%s (if there is no such account: prosodyctl register %s %s PASSWORD)",
				focus.HowToSubscribe(x.o.Domain, s.jid), s.jid.Localpart(), s.jid.Domainpart()),
				"usher may not see whether Jicofo is online, or there is no such account")
		case p.err != nil:
			return fail(account, "Jicofo's presence is refused (%s)", p.err.Condition)
		case available(p):
			return x.isOnline(p)
		case p.typ == "subscribed" && !shown:
			shown = true
			if err := send(stanza.ProbePresence); err != nil {
				return fail("", "usher cannot ask for Jicofo's presence: %v", err)
			}
		case p.typ == "unavailable" && shown: // before, it only acknowledges our request (mod_presence.lua)
			return x.jicofoStarts(ctx, s)
		}
	}
}

// jicofoStarts waits for a Jicofo that is not online yet. The server tells us when it is, without being asked again.
func (x *examination) jicofoStarts(ctx context.Context, s subject) finding {
	wait, cancel := context.WithTimeout(ctx, x.o.Starting)
	defer cancel()
	p, err := x.conn.await(wait, func(p presence) bool { return x.ofJicofo(s, p) && available(p) })
	switch {
	case err == nil:
		return x.isOnline(p)
	case ctx.Err() != nil:
		return skipped("there was no time left")
	}
	return fail("start Jicofo, and see its log (systemctl status jicofo)", "Jicofo is not online, and did not come within %s", x.o.Starting)
}

// isOnline keeps the full JID of a Jicofo that is online.
func (x *examination) isOnline(p presence) finding {
	x.online = p.from
	return ok("Jicofo is online as %q", p.from.Resourcepart())
}

// ofJicofo tells whether a presence is Jicofo's, or the server's in its name, and for usher.
func (x *examination) ofJicofo(s subject, p presence) bool {
	return p.from.Bare().Equal(s.jid.Bare()) && p.to.Equal(x.o.Domain)
}

func available(p presence) bool { return p.typ == "" && p.from.Resourcepart() != "" }

// opened is what Jicofo did when it was asked to open a room.
type opened struct {
	room   jid.JID
	vhost  string // it was asked in the name of somebody there
	answer conferenceAnswer
	err    error
}

// conferenceAnswer is Jicofo's answer to a conference request (ConferenceIqHandler.kt).
type conferenceAnswer struct {
	focus.Answer
	session string
}

// UnmarshalXML implements xml.Unmarshaler.
func (a *conferenceAnswer) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	a.session = element.Attr(start, "session-id")
	return a.Answer.UnmarshalXML(d, start)
}

// inside reports whether Jicofo is in the room.
func (o opened) inside() bool { return o.err == nil && o.answer.Ready }

// authenticates reports whether Jicofo decides itself who may open a room. Only then it answers not-authorized.
func (o opened) authenticates() bool {
	return isCondition(o.err, stanza.NotAuthorized) || o.err == nil && o.answer.Authenticates()
}

// asks has Jicofo open a room of the service, in the name of somebody on the first virtual host who does not exist.
func (x *examination) asks(ctx context.Context, s subject) opened {
	o := opened{room: x.newRoom(s), vhost: x.o.Domain.String()}
	if len(x.o.VHosts) > 0 {
		o.vhost = x.o.VHosts[0].String()
	}
	from, err := x.o.Domain.WithResource("nobody-" + strings.ToLower(rand.Text()) + "@" + o.vhost + "/doctor")
	if err != nil {
		o.err = err
		return o
	}
	bounded, cancel := context.WithTimeout(ctx, x.o.Opening)
	defer cancel()
	request := focus.Forward(focus.Conference{MachineUID: "0123456789abcdef0123456789abcdef"}, o.room.String(), false)
	o.err = x.conn.IQ(bounded, stanza.IQ{Type: stanza.SetIQ, From: from, To: x.online}, request, &o.answer)
	if o.answer.session != "" { // which Jicofo would keep for a day
		logout := element.Empty(focus.LogoutName.Space, focus.LogoutName.Local, element.NewAttr("session-id", o.answer.session))
		_ = x.conn.Send(stanza.IQ{Type: stanza.SetIQ, From: from, To: x.online}.Wrap(logout))
	}
	return o
}

// jicofoOpens has Jicofo open a room. Where it does not, the list of admins may tell why.
func (x *examination) jicofoOpens(ctx context.Context, s subject) finding {
	if x.o.Jicofo.Equal(jid.JID{}) {
		return finding{}
	}
	var o opened
	if !x.online.Equal(jid.JID{}) {
		o = x.asks(ctx, s)
		x.opened[s.name] = o
	}
	if o.inside() {
		return ok("Jicofo opens rooms")
	}
	is, known := x.jicofoIsAdmin(ctx, s)
	asked := !o.room.Equal(jid.JID{})
	switch {
	case known && !is:
		return fail(x.admins(s), "Jicofo is no admin of the service and may not create rooms")
	case is && (!asked || o.authenticates()):
		return ok("Jicofo is an admin of the service, too")
	case !asked:
		return warn("", "whether Jicofo may create rooms is seen only while it is online")
	case o.authenticates():
		return warn("", "whether Jicofo may create rooms is seen only once it does not authenticate people itself")
	case errors.Is(o.err, context.DeadlineExceeded): // ConferenceIqHandler.kt: an exception, and no answer
		return fail(x.admins(s)+", and Jicofo's log", "Jicofo does not answer a request for a room: it cannot enter rooms of the service")
	case o.err != nil:
		return fail("see Jicofo's log", "Jicofo does not open a room (%s)", because(o.err))
	}
	return fail("see Jicofo's log", "Jicofo is not ready to open a room")
}

// jicofoIsAdmin tries to make less than an owner of Jicofo, which a room refuses for admins of its service. The answer is known
// only where the room refuses it for usher, too, and in the same words: Jitsi's muc_meeting_id refuses it for every JID with
// the node focus, in others.
func (x *examination) jicofoIsAdmin(ctx context.Context, s subject) (is, known bool) {
	room, created := x.rooms[s.name]
	if !created {
		return false, false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !isCondition(x.owner.SetAffiliation(ctx, room, x.focus, ""), stanza.NotAcceptable) {
		return false, false
	}
	err := x.owner.SetAffiliation(ctx, room, x.o.Jicofo, "")
	is = isCondition(err, stanza.NotAcceptable)
	return is, is || err == nil
}

// jicofoAuthenticates tells by Jicofo's answer whether it authenticates people itself. By default it does where
// docker-jitsi-meet has AUTH_TYPE=jwt.
func (x *examination) jicofoAuthenticates(_ context.Context, s subject) finding {
	switch o, asked := x.opened[s.name]; {
	case x.o.Jicofo.Equal(jid.JID{}):
		return finding{}
	case isCondition(o.err, stanza.NotAuthorized):
		return fail(noAuthentication, "Jicofo authenticates people itself, and opens no room for people of %s", o.vhost)
	case !asked || o.err != nil:
		return skipped("Jicofo has not answered a request for a room")
	case o.authenticates() && x.o.EnforceRoles:
		return warn(noAuthentication, "Jicofo authenticates people itself and makes owners of them; usher puts them back")
	case o.authenticates():
		return fail(noAuthentication+enforce, "Jicofo authenticates people itself and makes owners of them, whatever usher decided")
	}
	return ok("Jicofo leaves it to usher who may open a room")
}

// jicofoElects lets somebody who is no host into the room that Jicofo has opened, and looks whether Jicofo makes an owner of
// them, as it does by default (AutoOwnerRoleManager in ChatRoomRoleManager.kt). After that Jicofo is alone, and leaves.
func (x *examination) jicofoElects(ctx context.Context, s subject) finding {
	o, asked := x.opened[s.name]
	switch {
	case x.o.Jicofo.Equal(jid.JID{}):
		return finding{}
	case !asked || !o.inside():
		return skipped("Jicofo has opened no room")
	case o.authenticates():
		return skipped("Jicofo elects nobody while it authenticates people itself")
	}
	defer x.ends(ctx, o.room)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := x.owner.SetAffiliation(bounded, o.room, x.stranger, "member")
	if err == nil {
		_, err = x.join(ctx, o.room, x.stranger)
	}
	if err != nil {
		return warn("", "whether Jicofo makes owners cannot be seen, because nobody can enter the room that it opened (%s)", because(err))
	}
	// Whatever it answers, it has then been told that somebody has come.
	if err := x.ask(ctx, x.online, element.New(ping.NS, "ping"), nil); err != nil && !errors.As(err, new(stanza.Error)) {
		return warn("", "whether Jicofo makes owners cannot be seen, because it answers nothing any more (%s)", because(err))
	}
	elected, cancel := context.WithTimeout(ctx, x.o.Electing)
	defer cancel()
	_, err = x.conn.await(elected, func(p presence) bool {
		return p.from.Equal(nick(o.room, x.stranger)) && p.to.Equal(x.stranger) &&
			slices.ContainsFunc(p.items, func(i muc.Item) bool { return i.Affiliation == "owner" })
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return ok("Jicofo makes nobody an owner")
	case err != nil:
		return warn("", "whether Jicofo makes owners cannot be seen (%s)", because(err))
	case x.o.EnforceRoles:
		return warn(noElection, "Jicofo makes an owner of the first who comes; usher puts them back")
	}
	return fail(noElection+enforce, "Jicofo makes an owner, and so a host, of the first who comes, whatever usher decided")
}

// ends takes ours out of a room that Jicofo has opened, and returns when the room is gone. One that Jicofo does not leave is
// left to clean.
func (x *examination) ends(ctx context.Context, room jid.JID) {
	if x.sendPresence(room, x.stranger, stanza.UnavailablePresence) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaving)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		switch _, err := x.owner.Moderators(ctx, room); {
		case muc.Absent(err):
			x.gone(room)
			return
		case err != nil:
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
