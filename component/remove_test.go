package component_test

import (
	"errors"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const revokedText = "your token was revoked"

// putsOut has usher put somebody out of a room.
func (g *gate) putsOut(room string, p *person) {
	g.t.Helper()
	ctx, cancel := g.within()
	defer cancel()
	if err := g.usher.Mode().Remove(ctx, jid.MustParse(room), jid.MustParse(p.BareJID()), revokedText); err != nil {
		g.t.Fatalf("Remove of %s from %s: %v", p.BareJID(), room, err)
	}
}

// seesGone waits until p hears that an occupant was put out of the room, with that status code, and why.
func (p *person) seesGone(room, nick, code string) {
	p.g.t.Helper()
	gone := p.Receives("<presence type='unavailable' from='" + room + "/" + nick + "'/>")
	if why := gone.Find("reason", ""); !gone.HasStatus(code) || why.Text != revokedText {
		p.g.t.Errorf("%s sees %s, want status %s", p.JID(), gone, code)
	}
}

// People who are put out of a room are outside, everybody inside knows, and nothing is left: owners, members and guests, people with
// two clients, and people who have not come yet.
func TestRemove(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host, owner, guest := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		owner.enters(room, mint(t, nil))
		guest.enters(room, "")
		for _, p := range []*person{guest, owner} {
			g.putsOut(room, p)
			for _, sees := range []*person{host, p} {
				sees.seesGone(room, p.nick, "321")
			}
			p.out(room)
		}
		late := g.person("guest.meet.example.com")
		late.must("asks", late.asks(room, ""), "ready")
		g.putsOut(room, late)
		late.out(room)
		g.putsOut(room, late) // once more: nothing to do
		g.nothingLeft(room, host)

		// What a host gave goes, too.
		host.gives(room, late.BareJID(), "owner")
		late.must("joins", late.joins(room), "owner moderator")
		g.putsOut(room, late)
		late.seesGone(room, late.nick, "321")
		late.out(room)
		g.nothingLeft(room, host)

		// They may be let in again.
		guest.enters(room, "")
		g.putsOut(room, guest)
		g.putsOut(room, host) // the last one
		g.putsOut("nobody@"+service, host)
		g.nothingLeft(room)
	})
}

// A ban by a host outlasts a removal.
func TestRemoveKeepsBans(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		host.gives(room, guest.BareJID(), "outcast")
		g.putsOut(room, guest)
		if n := g.affiliations(host, room, "outcast"); n != 1 {
			t.Errorf("%d are banned", n)
		}
		guest.must("asks", guest.asks(room, ""), "forbidden banned")
	})
}

// In an open room without usher's module nobody is removed by losing the affiliation, so usher kicks or bans.
func TestRemoveFromOpenRoom(t *testing.T) {
	t.Parallel()
	// Nobody is kept out but usher's own stranger, so usher takes the rooms for guarded.
	const name = "keeps_out_the_stranger"
	folder := prosodyModule(t, name, `
		local st = require "util.stanza";
		module:hook("muc-occupant-pre-join", function (event)
			if event.stanza.attr.from:match("^stranger@") then
				event.origin.send(st.error_reply(event.stanza, "auth", "registration-required"));
				return true;
			end
		end, 10);
	`)
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{JitsiOptions: prosodytest.JitsiOptions{Open: true, PluginPaths: []string{folder}, Modules: []string{name}}})
		host, guest, intruder := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		intruder.must("joins", intruder.joins(room), "none participant")
		for _, p := range []*person{guest, intruder} {
			g.putsOut(room, p)
			for _, sees := range []*person{host, p} {
				sees.seesGone(room, p.nick, map[mode]string{own: "307", relay: "301"}[m])
			}
			if n := g.affiliations(host, room, "outcast") + g.affiliations(host, room, "member"); n != 0 {
				t.Errorf("%d affiliations are left", n)
			}
		}
		g.nothingLeft(room, host)
	}, relay, own)
}

// In front of Jicofo somebody who is put out of a room is put out of its breakout rooms, and cannot come back into them.
func TestRemoveFromBreakout(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		b := m.start(t, setup{JitsiOptions: withBreakouts})
		host, guest, other := b.person("meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		other.enters(room, "")
		breakout := host.adds("a group")
		other.moves(room, breakout, "", "member participant")
		guest.moves(room, breakout, "", "member participant")
		b.putsOut(room, guest)
		for _, p := range []*person{guest, other} {
			p.seesGone(breakout, guest.nick, "301")
		}
		guest.must("joins the breakout room", guest.joins(breakout), "registration-required")
		guest.must("asks for it", guest.asks(breakout, ""), "forbidden room-mismatch")
		guest.out(room)
		if view := b.sees(breakout); len(view.Occupants) != 2 { // Jicofo and the other one
			t.Errorf("in the breakout room: %s", view)
		}
		// The ban was for a moment.
		guest.enters(room, "")
		guest.moves(room, breakout, "", "member participant")
	}, relay, module)
}

// Nobody takes a right from an admin of the service.
func TestRemoveAdmin(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host := g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		ctx, cancel := g.within()
		defer cancel()
		err := g.usher.Mode().Remove(ctx, jid.MustParse(room), jid.MustParse("focus@"+domain), revokedText)
		if !errors.Is(err, muc.ErrAdmin) {
			t.Errorf("Remove: %v", err)
		}
	})
}

// A room that usher ends is gone for everybody, who read why. It may begin again.
func TestEnd(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		ctx, cancel := g.within()
		defer cancel()
		if err := g.usher.Mode().End(ctx, jid.MustParse(room), revokedText); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*person{host, guest} {
			gone := p.Receives("<presence type='unavailable' from='" + room + "/" + p.nick + "'/>")
			if why := gone.Find("destroy", "http://jabber.org/protocol/muc#user").Find("reason", ""); why.Text != revokedText {
				t.Errorf("%s reads %s", p.JID(), gone)
			}
		}
		g.nothingWritten()
		if err := g.usher.Mode().End(ctx, jid.MustParse(room), revokedText); err != nil {
			t.Errorf("End of a room that is gone: %v", err)
		}
		host.enters(room, mint(t, nil))
	})
}

// The focus speaks to one person, and to all.
func TestSay(t *testing.T) {
	t.Parallel()
	g := own.start(t, setup{})
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	guest.enters(room, "")
	say := func(to *person, text string) {
		t.Helper()
		var who jid.JID
		if to != nil {
			who = jid.MustParse(to.BareJID())
		}
		// The room may tell usher later than it tells them that they are inside.
		g.eventually("usher says "+text, func() bool {
			said, err := g.usher.Mode().Say(jid.MustParse(room), who, text)
			if err != nil {
				t.Fatal(err)
			}
			return said
		})
	}
	hears := func(p *person, typ, text string) {
		t.Helper()
		p.Receives("<message type='" + typ + "' from='" + room + "/focus'><body>" + text + "</body></message>")
	}
	say(guest, "five minutes left")
	hears(guest, "chat", "five minutes left")
	say(nil, "to all")
	for _, p := range []*person{host, guest} {
		hears(p, "groupchat", "to all")
	}
	for _, s := range host.Drain() {
		if s.Name == "message" && s.Attr["type"] == "chat" {
			t.Errorf("the host hears what is for the guest: %s", s)
		}
	}
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{}})
	other := b.person("meet.example.com")
	other.enters(room, mint(t, nil))
	if said, err := b.usher.Mode().Say(jid.MustParse(room), jid.JID{}, "hello"); said || err != nil {
		t.Errorf("in front of Jicofo: %t, %v", said, err)
	}
}
