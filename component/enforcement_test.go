package component_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	usherModule "github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// ways are the two ways to keep strangers out (rooms.enforcement), each with and without Jitsi's lobby.
func ways(t *testing.T) map[string]prosodytest.JitsiOptions {
	t.Helper()
	return map[string]prosodytest.JitsiOptions{
		"members-only":              {},
		"members-only with a lobby": {Lobby: true, NoDisplayNameCheck: true, HideAll: true},
		"module":                    keptOutByModule(t, prosodytest.JitsiOptions{}),
		"module with a lobby":       withLobby(t),
	}
}

// The module that keeps strangers out is unloaded while a room is open. A stranger who comes in does not stay, and the log says what to do;
// also if usher tried before whether strangers are kept out, because the module did not answer yet.
func TestModuleUnloaded(t *testing.T) {
	t.Parallel()
	unloader := prosodyModule(t, "unloader", `
local mute = module:get_option_boolean("mute_at_first", false);
module:hook("iq-get/host/urn:usher:module:0:listen", function (event)
	if not mute then return; end
	event.origin.send(require "util.stanza".error_reply(event.stanza, "cancel", "service-unavailable"));
	return true;
end, 10);
module:hook("message/host", function (event)
	local what = event.stanza:get_child_text("body");
	if what ~= "unload" and what ~= "reload" then return; end
	mute = false;
	assert(require "core.modulemanager"[what](module.host, "usher"));
	return true;
end, 10);`)
	for name, tt := range map[string]struct {
		mode mode
		mute bool
	}{"own": {mode: own}, "own, tried": {own, true}, "relay": {mode: relay}, "relay, tried": {relay, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := keptOutByModule(t, prosodytest.JitsiOptions{})
			o.PluginPaths, o.Modules = append(o.PluginPaths, unloader), append(o.Modules, "unloader")
			o.Global += fmt.Sprintf("mute_at_first = %t\n", tt.mute)
			g := tt.mode.start(t, setup{JitsiOptions: o})
			host, guest, stranger := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			guest.enters(room, "")
			stranger.out(room)
			if tt.mute {
				host.Sends("<message to='" + service + "'><body>reload</body></message>")
			}
			g.eventually("the module has answered", func() bool { return g.usher.Told().Takes(service) })
			host.Sends("<message to='" + service + "'><body>unload</body></message>")
			g.synced(host)
			stranger.Drain()
			stranger.must("joins", stranger.joins(room), "none participant")
			g.inTime("the stranger is out", func() bool {
				view := g.sees(room)
				return len(view.Occupants) == 3 && view.MembersOnly && view.Affiliations[stranger.BareJID()] == ""
			})
			g.logged("the room is made members-only")
			stranger.Receives("<presence type='unavailable' from='" + room + "/" + stranger.nick + "'/>")
			stranger.out(room)
			host.stays(room)
			guest.stays(room)
		})
	}
}

// A client that has not asked stays outside, whatever it tries, before and after an owner plays with the switch.
func TestEnforcement(t *testing.T) {
	t.Parallel()
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: o})
			host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
			intruders := []*person{b.person("meet.example.com"), b.person("guest.meet.example.com")}
			for _, p := range intruders {
				p.must("joins a room that is not there", p.named(room), "not-allowed")
			}
			host.must("asks", host.asks(room, mint(t, nil)), "ready")
			for _, p := range intruders { // Jicofo is inside, the host is on the way
				p.out(room)
			}
			host.must("joins", host.named(room), "owner moderator")
			guest.must("asks", guest.asks(room, ""), "ready")
			guest.must("joins", guest.named(room), "member participant")
			allowed := map[string]string{host.BareJID(): "owner", guest.BareJID(): "member"}
			for _, p := range intruders {
				p.out(room)
				p.tries(room)
				p.out(room)
			}
			// A member's invitation is worth nothing.
			guest.Sends("<message to='" + room + "'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='" + intruders[0].BareJID() + "'/></x></message>")
			b.synced(guest)
			intruders[0].out(room)
			invariants(b, room, allowed)

			ghosts := 0
			for range 3 {
				b.configure(host, room, membersOnlyField, "0")
				var inside []*person
				for _, p := range intruders {
					if got := p.named(room); strings.HasPrefix(got, "registration-required") {
						continue
					} else if o.Open || got != "none participant" {
						t.Errorf("%s joins after the switch: %s", p.JID(), got)
						continue
					}
					inside = append(inside, p)
				}
				for _, p := range inside {
					gone := "<presence type='unavailable' from='" + room + "/" + p.nick + "'/>"
					if s := p.Receives(gone); s.HasStatus("322") {
						// They came in the moment between who is inside and the switch, and the server has put them out, of
						// which it tells nobody else.
						ghosts++
						continue
					}
					guest.Receives(gone)
				}
				if !o.Open {
					b.inTime("the room is members-only again", func() bool { return b.sees(room).MembersOnly })
				} else if b.sees(room).MembersOnly {
					t.Error("the owner's switch is not theirs")
				}
				for _, p := range intruders {
					p.out(room)
				}
				invariants(b, room, allowed)

				b.configure(host, room, membersOnlyField, "1")
				for _, p := range intruders {
					p.out(room)
				}
				if !b.sees(room).MembersOnly {
					t.Error("the owner's switch is not theirs")
				}
				invariants(b, room, allowed)
			}
			// A guest who asks is let in as before, or knocks if the lobby is on now.
			late := b.person("guest.meet.example.com")
			late.must("asks", late.asks(room, ""), "ready")
			if got, want := late.named(room), map[bool]string{false: "member participant", true: knock}[o.Lobby]; got != want {
				t.Errorf("a guest who asks: %s, want %s", got, want)
			}
			if !o.Lobby {
				allowed[late.BareJID()] = "member"
				late.leaves(room)
			}
			invariants(b, room, allowed)
			if ghosts == 0 { // Jicofo waits for ghosts
				b.ends(room, host, guest)
			}
		})
	}
}

// tries does what a client might do to get itself in, each of which must be refused.
func (p *person) tries(room string) {
	p.g.t.Helper()
	const admin, owner = "http://jabber.org/protocol/muc#admin", "http://jabber.org/protocol/muc#owner"
	for _, one := range []struct{ to, payload string }{
		{room, "<query xmlns='" + admin + "'><item affiliation='member' jid='" + p.BareJID() + "'/></query>"},
		{room, "<query xmlns='" + admin + "'><item affiliation='owner' jid='" + p.BareJID() + "'/></query>"},
		{room, "<query xmlns='" + owner + "'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>" +
			"<field var='" + membersOnlyField + "'><value>0</value></field></x></query>"},
		{room, "<query xmlns='" + owner + "'><destroy/></query>"},
		{room, "<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>" +
			"<field var='muc#register_roomnick'><value>" + p.nick + "</value></field></x></query>"},
	} {
		if answer := p.iq("set", one.to, one.payload); answer.Attr["type"] != "error" {
			p.g.t.Errorf("%s: %s", one.payload, answer)
		}
	}
	if answer := p.iq("get", room, "<query xmlns='"+admin+"'><item role='moderator'/></query>"); answer.Attr["type"] != "error" {
		p.g.t.Errorf("an intruder is told who moderates: %s", answer)
	}
	p.Sends("<message type='groupchat' to='" + room + "'><body>let me in</body></message>")
	p.Receives("<message type='error' from='" + room + "'/>")
	p.Sends("<message to='" + room + "'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='" + p.BareJID() + "'/></x></message>")
	p.Receives("<message type='error' from='" + room + "'/>")
}

// synced returns when the server has handled everything that the person sent.
func (g *gate) synced(p *person) {
	g.t.Helper()
	p.iq("get", room, "<ping xmlns='urn:xmpp:ping'/>")
}

// usher turns no lobby on by keeping rooms members-only. The owner may turn it on, and then it stays.
func TestEnforcementLeavesTheLobbyAlone(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Lobby: true, NoDisplayNameCheck: true}})
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	b.looks(host, room)
	if b.sees(lobbyRoom).Exists {
		t.Fatal("looking after the room has turned its lobby on")
	}
	guest := b.person("guest.meet.example.com")
	guest.must("asks", guest.asks(room, ""), "ready")
	guest.must("joins", guest.named(room), "member participant")
	b.switches(host, true)
	late := b.person("guest.meet.example.com")
	b.configure(host, room, "muc#roomconfig_roomname", "a name") // ends the lobby, as any form does that does not speak of it
	late.must("asks", late.asks(room, ""), "ready")
	late.must("joins", late.named(room), "member participant")
	b.switches(host, true)
	knocks := b.person("guest.meet.example.com")
	knocks.must("asks", knocks.asks(room, ""), "ready")
	knocks.must("joins", knocks.named(room), knock)
	allowed := map[string]string{host.BareJID(): "owner", guest.BareJID(): "member", late.BareJID(): "member"}
	invariants(b, room, allowed)
	b.ends(room, host, guest, late)
}

// The status says how usher's module stands: where rooms are open it is to be there, and otherwise it is named if it is.
func TestStatusOfModule(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]setup{
		"module":                      {JitsiOptions: keptOutByModule(t, prosodytest.JitsiOptions{})},
		"module, and members-only":    {JitsiOptions: keptOutByModule(t, prosodytest.JitsiOptions{}), options: func(o *component.Options) { o.MembersOnly = true }},
		"no module":                   {JitsiOptions: prosodytest.JitsiOptions{Open: true}, options: func(o *component.Options) { o.MembersOnly = false }},
		"no module, and members-only": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, with)
			is := func() muc.ToldStatus {
				all := b.usher.Status().Modules
				i := slices.IndexFunc(all, func(m muc.ToldStatus) bool { return m.Domain == service })
				if i < 0 {
					return muc.ToldStatus{}
				}
				return all[i]
			}
			want := muc.ToldStatus{Domain: service}
			switch name {
			case "no module, and members-only":
				want = muc.ToldStatus{}
			case "module", "module, and members-only":
				want = muc.ToldStatus{Domain: service, Version: usherModule.Version, Takes: true, Tells: true}
			}
			b.eventually("the status is as it should be", func() bool { return is() == want })
		})
	}
}

// In the open rooms of the module, everything else that keeps people out works as in members-only rooms: waiting, a ban, and the end of
// a right.
func TestModuleKeepsOut(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{
		JitsiOptions: keptOutByModule(t, prosodytest.JitsiOptions{}),
		options:      func(o *component.Options) { o.EnforceRoles = true },
		policy:       func(p *auth.Policy) { p.Lobby = false },
	})
	b.eventually("the module tells", func() bool { return b.usher.Told().Tells(service) })
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	held := b.waiting(guest, room, "")
	host.enters(room, mint(t, nil))
	b.told(held, "ready")
	guest.must("joins", guest.joins(room), "member participant")
	invariants(b, room, map[string]string{host.BareJID(): "owner", guest.BareJID(): "member"})

	// Who loses the affiliation is put out, and asks in vain once banned.
	host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='none' jid='"+guest.BareJID()+"'/></query>")
	guest.Receives("<presence type='unavailable' from='" + room + "/" + guest.nick + "'/>")
	guest.out(room)
	guest.enters(room, "")
	host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast' jid='"+guest.BareJID()+"'/></query>")
	guest.Receives("<presence type='unavailable' from='" + room + "/" + guest.nick + "'/>")
	guest.must("asks again", guest.asks(room, ""), "forbidden banned")
	guest.must("joins all the same", guest.joins(room), "forbidden")
	invariants(b, room, map[string]string{host.BareJID(): "owner"})
	b.ends(room, host)
}
