package component_test

import (
	"fmt"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const knock = "registration-required " + lobbyRoom

// opensTo lets somebody in who knocks.
func (p *person) opensTo(who *person, room string) {
	p.g.t.Helper()
	p.Sends("<message to='" + room + "'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='" + who.JID() + "'/></x></message>")
	who.Receives("<message from='" + room + "'><x xmlns='http://jabber.org/protocol/muc#user'><invite from='" + p.JID() + "'/></x></message>")
}

// switches the lobby on or off, as the switch in the client does.
func (g *gate) switches(host *person, on bool) {
	g.t.Helper()
	g.configure(host, room, "muc#roomconfig_membersonly", map[bool]string{true: "1", false: "0"}[on])
	if g.sees(lobbyRoom).Exists != on {
		g.t.Fatalf("the lobby is on: %t", !on)
	}
}

// 9.8: a moderator who turns the lobby on and loses the connection has to knock (jitsi-meet#7561, open since 2020; #7588, #8646,
// #15156). A guest who came too early is let in past the lobby when the host comes (#7676, #13213). With usher every host passes the
// lobby, and guests who waited knock.
func TestLobbyLocksNoModeratorOut(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withLobby(t)})
	host := b.person("meet.example.com")
	host.must("asks", host.asks(room, mint(t, nil)), "ready")
	host.must("joins", host.named(room), "owner moderator")
	allowed := map[string]string{host.BareJID(): "owner"}
	guest := b.person("guest.meet.example.com")
	guest.must("asks", guest.asks(room, ""), "ready")
	guest.must("joins", guest.named(room), "member participant")
	allowed[guest.BareJID()] = "member"
	b.switches(host, true)

	// The network fails: the same person is a new one for the server.
	host.Kill()
	b.eventually("the host is gone", func() bool { return b.sees(room).Occupant(host.JID()).Nick == "" })
	allowed[host.BareJID()] = gone
	again := b.person("meet.example.com")
	again.must("asks", again.asks(room, mint(t, nil)), "ready")
	again.must("comes back", again.named(room), "owner moderator")
	allowed[again.BareJID()] = "owner"
	for affiliation, want := range map[string]string{"admin": "admin moderator", "moderator": "owner moderator", "member": "member participant"} {
		p := b.person("meet.example.com")
		p.must("asks", p.asks(room, mint(t, func(c *token.Claims) { c.User.Affiliation = affiliation })), "ready")
		p.must("passes", p.named(room), want)
		allowed[p.BareJID()] = map[string]string{"admin": "admin", "moderator": "owner", "member": "member"}[affiliation]
		p.leaves(room)
	}
	invariants(b, room, allowed)

	late := b.person("guest.meet.example.com")
	late.must("asks", late.asks(room, ""), "ready")
	late.must("joins", late.named(room), knock)
	invariants(b, room, allowed)
	if !b.sees(lobbyRoom).Exists {
		t.Error("the lobby has ended")
	}
	b.ends(room, again, guest)
}

// The lobby is on from the first host on: a guest who came before waits for the host, is told at once, and knocks.
func TestLobbyFromTheStart(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{
		JitsiOptions: withLobby(t),
		policy:       func(p *auth.Policy) { p.LobbyAutostart = true },
	})
	for round := range 2 { // the next conference in the room begins with a lobby, too
		early, host := b.person("guest.meet.example.com"), b.person("meet.example.com")
		held := b.waiting(early, room, "")
		host.must("asks", host.asks(room, mint(t, nil)), "ready")
		if v := b.sees(room); !b.sees(lobbyRoom).Exists || !v.MembersOnly {
			t.Fatalf("round %d: no lobby when the host is told: %s", round, v)
		}
		select {
		case got := <-held:
			t.Fatalf("the guest is told %s before the host is inside", got)
		default:
		}
		host.must("joins", host.named(room), "owner moderator")
		allowed := map[string]string{host.BareJID(): "owner"}
		b.told(held, "ready")
		early.must("joins", early.named(room), knock)
		early.must("joins without a name", early.joins(room), "not-acceptable")
		invariants(b, room, allowed)
		early.must("knocks", early.named(lobbyRoom), "none participant")
		host.must("goes to the lobby", host.named(lobbyRoom), "owner moderator")
		host.Receives(fmt.Sprintf("<presence from='%s/%s'/>", lobbyRoom, early.nick))
		host.opensTo(early, room)
		early.must("joins", early.named(room), "member participant")
		allowed[early.BareJID()] = "member"
		invariants(b, room, allowed)

		// A second host does not begin it anew; the switch is theirs.
		b.switches(host, false)
		second := b.person("meet.example.com")
		second.must("asks", second.asks(room, mint(t, nil)), "ready")
		second.must("joins", second.named(room), "owner moderator")
		allowed[second.BareJID()] = "owner"
		if b.sees(lobbyRoom).Exists {
			t.Error("the second host has begun the lobby again")
		}
		late := b.person("guest.meet.example.com")
		late.must("asks", late.asks(room, ""), "ready")
		late.must("joins while the lobby is off", late.named(room), "member participant")
		allowed[late.BareJID()] = "member"
		invariants(b, room, allowed)
		b.ends(room, early, late, second, host)
		if b.sees(lobbyRoom).Exists {
			t.Error("the lobby is left")
		}
	}
}

// lobby.bypass says who passes a lobby that is at work, and context.user.lobby_bypass goes before it.
func TestLobbyBypass(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, tt := range map[string]struct {
		bypass        []auth.Affiliation
		owner, member string
	}{
		"owner and member": {[]auth.Affiliation{auth.Owner, auth.Member}, "owner moderator", "member participant"},
		"owner":            {[]auth.Affiliation{auth.Owner}, "owner moderator", knock},
		"member":           {[]auth.Affiliation{auth.Member}, knock, "member participant"},
		"nobody":           {nil, knock, knock},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: withLobby(t), policy: func(p *auth.Policy) { p.LobbyBypass = tt.bypass }})
			host := b.person("meet.example.com")
			host.must("asks, and there is no lobby yet", host.asks(room, mint(t, nil)), "ready")
			host.must("joins", host.named(room), "owner moderator")
			b.switches(host, true)
			allowed := map[string]string{host.BareJID(): "owner"}
			for what, one := range map[string]struct {
				affiliation string
				claim       *bool
				want        string
			}{
				"an owner":                  {"owner", nil, tt.owner},
				"a member":                  {"member", nil, tt.member},
				"an owner who shall pass":   {"owner", &yes, "owner moderator"},
				"a member who shall pass":   {"member", &yes, "member participant"},
				"an owner who shall knock":  {"owner", &no, knock},
				"a member who shall knock":  {"member", &no, knock},
				"an admin, as an owner":     {"admin", nil, map[bool]string{true: knock, false: "admin moderator"}[tt.owner == knock]},
				"an admin who shall knock":  {"admin", &no, knock},
				"a teacher who shall knock": {"teacher", &no, knock},
			} {
				p := b.person("meet.example.com")
				p.must(what+" asks", p.asks(room, mint(t, func(c *token.Claims) {
					c.User.Affiliation, c.User.LobbyBypass = one.affiliation, one.claim
				})), "ready")
				if got := p.named(room); got != one.want {
					t.Errorf("%s: %s, want %s", what, got, one.want)
				}
				if one.want != knock {
					allowed[p.BareJID()] = one.affiliation
					p.leaves(room)
				}
			}
			guest := b.person("guest.meet.example.com")
			guest.must("asks", guest.asks(room, ""), "ready")
			guest.must("joins", guest.named(room), knock)
			invariants(b, room, allowed)
			// Nobody to open: a host who would knock is let in.
			host.leaves(room)
			allowed[host.BareJID()] = gone
			late := b.person("meet.example.com")
			if got := late.asks(room, mint(t, nil)); got == "ready" {
				late.must("joins a room without a host, or opens it", late.named(room), "owner moderator")
				late.leaves(room)
			} else {
				t.Errorf("the only host is told %s", got)
			}
		})
	}
}

// A host's token may turn the room's lobby on or off, and goes before lobby.autostart. A member's token may not.
func TestLobbyClaim(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, tt := range map[string]struct {
		autostart bool
		claim     *bool
		want      bool
	}{
		"on by its claim":                  {false, &yes, true},
		"off by its claim":                 {true, &no, false},
		"on, and by the claim too":         {true, &yes, true},
		"never, and not by the claim":      {false, &no, false},
		"on by autostart, without a claim": {true, nil, true},
		"never, without a claim":           {false, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: withLobby(t), policy: func(p *auth.Policy) { p.LobbyAutostart = tt.autostart }})
			early := b.person("meet.example.com")
			early.must("asks", early.asks(room, mint(t, func(c *token.Claims) { member(c); c.RoomLobby = &yes })), "ready")
			early.must("joins", early.named(room), "member participant")
			if b.sees(lobbyRoom).Exists {
				t.Error("a member's claim turns the lobby on")
			}
			host := b.person("meet.example.com")
			host.must("asks", host.asks(room, mint(t, func(c *token.Claims) { c.RoomLobby = tt.claim })), "ready")
			host.must("joins", host.named(room), "owner moderator")
			if v := b.sees(room); b.sees(lobbyRoom).Exists != tt.want || v.MembersOnly != tt.want {
				t.Errorf("the lobby is on: %t; %s", !tt.want, v)
			}
			guest := b.person("guest.meet.example.com")
			guest.must("asks", guest.asks(room, ""), "ready")
			guest.must("joins", guest.named(room), map[bool]string{true: knock, false: "member participant"}[tt.want])
			allowed := map[string]string{host.BareJID(): "owner", early.BareJID(): "member"}
			if !tt.want {
				allowed[guest.BareJID()] = "member"
				guest.leaves(room)
			}
			invariants(b, room, allowed)
			b.ends(room, host, early)
		})
	}
}

// A guest was let in before the lobby was on, and has not come: the guest knocks like everybody. Guests inside stay.
func TestLobbyAfterAdmission(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withLobby(t)})
	host, inside, slow := b.person("meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	host.must("asks", host.asks(room, mint(t, nil)), "ready")
	host.must("joins", host.named(room), "owner moderator")
	inside.must("asks", inside.asks(room, ""), "ready")
	inside.must("joins", inside.named(room), "member participant")
	slow.must("asks", slow.asks(room, ""), "ready")
	b.switches(host, true)
	slow.must("asks again", slow.asks(room, ""), "ready")
	slow.must("joins", slow.named(room), knock)
	inside.must("asks again", inside.asks(room, ""), "ready")
	allowed := map[string]string{host.BareJID(): "owner", inside.BareJID(): "member"}
	if v := invariants(b, room, allowed); v.Occupant(inside.JID()).Role != "participant" {
		t.Errorf("who was inside is put out: %s", v)
	}
	b.ends(room, host, inside)
}

// If usher cannot find out whether a lobby is at work, a guest who might have to knock is not let in, and asks again. Hosts need no
// answer.
func TestLobbyServiceDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, lobby := range map[string]string{
		"not connected": "silent.meet.example.com",
		"unknown":       "nowhere.example.org",
		"silent":        "silent.meet.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{
				server: func(o *prosodytest.Options) {
					o.Config += "\nComponent \"silent.meet.example.com\"\ncomponent_secret = \"secret\"\n"
				},
				policy:  func(p *auth.Policy) { p.Lobby = true },
				options: func(o *component.Options) { o.Lobby = jid.MustParse(lobby) },
			})
			if name == "silent" {
				b.Component(t, lobby, "secret")
			}
			host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			plain := b.person("meet.example.com")
			plain.enters(room, mint(t, member))
			guest.must("asks", guest.asks(room, ""), "not ready")
			guest.must("joins all the same", guest.joins(room), "registration-required")
			invariants(b, room, map[string]string{host.BareJID(): "owner", plain.BareJID(): "member"})
			if b.count(store.KindGrant, room+" "+guest.BareJID()) != 0 {
				t.Error("something is granted to the guest")
			}
			b.ends(room, host, plain)
		})
	}
}
