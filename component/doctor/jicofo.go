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
	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// opening and electing are the defaults of Options.Opening and Options.Electing. usher waits as long as opening, too.
	opening, electing = 15 * time.Second, 3 * time.Second
	// starting is the default of Options.Starting. When systemd starts Jicofo together with Prosody, Jicofo is online after one or
	// two seconds, on a slow machine after up to 20.
	starting = 20 * time.Second
	// leaving is how long Jicofo may take to leave a room that everybody else has left.
	leaving = 3 * time.Second
	// lookEvery is the pause between two looks whether Jicofo has left.
	lookEvery = 100 * time.Millisecond
)

// What mends a Jicofo that makes its own decisions beside usher.
var (
	noAuthentication = gate.NoJicofoAuth.Mend + ", and restart Jicofo"
	noElection       = gate.NoAutoOwner.Mend + ", and restart Jicofo"
)

const enforce = "; or jicofo.enforce_roles: true here, and usher takes ownership back from such owners"

// jicofo subscribes to Jicofo's presence. usher learns Jicofo's full JID that way, as Jitsi's client_proxy does. If usher may see
// that Jicofo is offline, Jicofo has x.o.Starting to come online. If usher may not see it, waiting does not help.
func (x *examination) jicofo(ctx context.Context, s subject) finding {
	send := func(typ stanza.PresenceType) error {
		return x.conn.Send(stanza.Presence{Type: typ, From: x.o.Domain, To: s.jid}.Wrap(nil))
	}
	if err := send(stanza.SubscribePresence); err != nil {
		return fail("", "usher cannot ask for Jicofo's presence: %v", err)
	}
	account := fmt.Sprintf("VirtualHost %q, and on it the account %s; or set the right jicofo.jid here", s.jid.Domainpart(), s.jid.Bare())
	shown := false // the server, or Jicofo itself, has let us see Jicofo's presence
	for {
		p, err := x.await(ctx, func(p presence) bool { return x.ofJicofo(s, p) })
		switch {
		case err != nil, p.typ == "unsubscribed":
			// The server does not answer for an unknown account.
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
		case p.typ == "unavailable" && shown: // without shown, it only acknowledges our request (mod_presence.lua)
			return x.jicofoStarts(ctx, s)
		}
	}
}

// jicofoStarts waits for a Jicofo that is not online yet. The server tells us when it is; we need not ask again.
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
	return fail("start Jicofo, and read its log (systemctl status jicofo)", "Jicofo is not online, and did not come within %s", x.o.Starting)
}

// isOnline keeps the full JID of a Jicofo that is online.
func (x *examination) isOnline(p presence) finding {
	x.online = p.from
	return ok("Jicofo is online as %q", p.from.Resourcepart())
}

// ofJicofo reports whether a presence is for usher, and from Jicofo or from the server in Jicofo's name.
func (x *examination) ofJicofo(s subject, p presence) bool {
	return p.from.Bare().Equal(s.jid.Bare()) && p.to.Equal(x.o.Domain)
}

func available(p presence) bool { return p.typ == "" && p.from.Resourcepart() != "" }

// opened is what Jicofo did when it was asked to open a room.
type opened struct {
	room   jid.JID
	vhost  string // that of the person named as the asker
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

// authenticates reports whether Jicofo itself decides who may open a room. Only then does it answer not-authorized.
func (o opened) authenticates() bool {
	return isCondition(o.err, stanza.NotAuthorized) || o.err == nil && o.answer.Authenticates()
}

// asks makes Jicofo open a room of the service, in the name of a person on the first virtual host who does not exist.
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
	if o.answer.session != "" { // Jicofo would keep the session for a day
		logout := element.Empty(focus.LogoutName.Space, focus.LogoutName.Local, element.NewAttr("session-id", o.answer.session))
		_ = x.conn.Send(stanza.IQ{Type: stanza.SetIQ, From: from, To: x.online}.Wrap(logout))
	}
	return o
}

// jicofoOpens makes Jicofo open a room. If Jicofo does not, the list of admins may show why.
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
		return fail(x.admins(ctx, s), "Jicofo is no admin of the service and may not create rooms")
	case is && (!asked || o.authenticates()):
		return ok("Jicofo is an admin of the service, too")
	case !asked:
		return warn("", "whether Jicofo may create rooms shows only while it is online")
	case o.authenticates():
		return warn("", "whether Jicofo may create rooms shows only once it has stopped authenticating people itself")
	case errors.Is(o.err, context.DeadlineExceeded): // ConferenceIqHandler.kt: an exception, and no answer
		return fail(x.admins(ctx, s)+"; and read Jicofo's log", "Jicofo does not answer a request for a room: it cannot enter rooms of the service")
	case o.err != nil:
		return fail("read Jicofo's log", "Jicofo does not open a room (%s)", because(o.err))
	}
	return fail("read Jicofo's log", "Jicofo is not ready to open a room")
}

// jicofoIsAdmin tries to make Jicofo less than an owner. A room refuses that for admins of its service. The answer is known only
// if the room refuses it for usher as well, with the same condition: Jitsi's muc_meeting_id refuses it for every JID with the
// node focus, with another condition.
func (x *examination) jicofoIsAdmin(ctx context.Context, s subject) (is, known bool) {
	room, created := x.rooms[s.name]
	if !created {
		return false, false
	}
	if !isCondition(x.setAffiliation(ctx, room, x.focus, ""), stanza.NotAcceptable) {
		return false, false
	}
	err := x.setAffiliation(ctx, room, x.o.Jicofo, "")
	is = isCondition(err, stanza.NotAcceptable)
	return is, is || err == nil
}

// jicofoAuthenticates sees in Jicofo's answer whether Jicofo authenticates people itself. With AUTH_TYPE=jwt in
// docker-jitsi-meet it does by default.
func (x *examination) jicofoAuthenticates(_ context.Context, s subject) finding {
	switch o, asked := x.opened[s.name]; {
	case x.o.Jicofo.Equal(jid.JID{}):
		return finding{}
	case isCondition(o.err, stanza.NotAuthorized):
		return fail(noAuthentication, "Jicofo authenticates people itself, and opens no room for people of %s", o.vhost)
	case !asked || o.err != nil:
		return skipped("Jicofo has not answered a request for a room")
	case o.authenticates() && x.o.EnforceRoles:
		return warn(noAuthentication, "Jicofo authenticates people itself and makes them owners; usher takes ownership back")
	case o.authenticates():
		return fail(noAuthentication+enforce, "Jicofo authenticates people itself and makes them owners, whatever usher decided")
	}
	return ok("Jicofo leaves it to usher who may open a room")
}

// jicofoElects lets a person who is no host into the room that Jicofo has opened, and looks whether Jicofo makes them an owner.
// By default it does (AutoOwnerRoleManager in ChatRoomRoleManager.kt). After that Jicofo is alone, and leaves.
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
	err := x.setAffiliation(ctx, o.room, x.stranger, "member")
	if err == nil {
		_, err = x.join(ctx, o.room, x.stranger)
	}
	if err != nil {
		return warn("", "whether Jicofo makes owners does not show, because nobody can enter the room that it opened (%s)", because(err))
	}
	// Whatever Jicofo answers, the server has told it before that somebody has come.
	if err := x.ask(ctx, x.online, element.New(ping.NS, "ping"), nil); err != nil && !errors.As(err, new(stanza.Error)) {
		return warn("", "whether Jicofo makes owners does not show, because it has stopped answering (%s)", because(err))
	}
	switch elected, err := x.becomesOwner(ctx, o.room); {
	case err != nil:
		return warn("", "whether Jicofo makes owners does not show (%s)", because(err))
	case !elected:
		return ok("Jicofo makes nobody an owner")
	case x.o.EnforceRoles:
		return warn(noElection, "Jicofo makes the first newcomer an owner; usher takes ownership back")
	}
	return fail(noElection+enforce, "Jicofo makes the first newcomer an owner, and so a host, whatever usher decided")
}

// becomesOwner waits x.o.Electing for our stranger in the room to become an owner, and reports whether that happened.
func (x *examination) becomesOwner(ctx context.Context, room jid.JID) (bool, error) {
	bounded, cancel := context.WithTimeout(ctx, x.o.Electing)
	defer cancel()
	_, err := x.conn.await(bounded, func(p presence) bool {
		return p.from.Equal(nick(room, x.stranger)) && p.to.Equal(x.stranger) &&
			slices.ContainsFunc(p.items, func(i muc.Item) bool { return i.Affiliation == "owner" })
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// ends takes ours out of a room that Jicofo has opened, and returns when the room is gone. If Jicofo does not leave it, clean
// removes it.
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
