package component_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	persistentField = "muc#roomconfig_persistentroom"

	// stranger is of a domain that usher knows nothing of.
	strangerJID = "eve@evil.example.org"
)

// gives sets an affiliation, as the owner.
func (p *person) gives(room, who, affiliation string) {
	p.g.t.Helper()
	s := p.iq("set", room, fmt.Sprintf("<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='%s' jid='%s'/></query>", affiliation, who))
	if s.Attr["type"] != "result" {
		p.g.t.Fatalf("%s cannot make %s %s: %s", p.JID(), who, affiliation, s)
	}
}

// rightless waits until nobody but usher and Jicofo has anything in the room, or it is gone.
func (b *before) rightless(room string) {
	b.t.Helper()
	var v prosodytest.RoomView
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the room is %s", v)
		}
	}()
	b.inTime("nobody has anything there", func() bool {
		v = b.sees(room)
		for who, affiliation := range v.Affiliations {
			if affiliation != "outcast" && !strings.HasPrefix(who, "focus@") {
				return false
			}
		}
		return true
	})
}

// An owner who configures a room, gives it to somebody elsewhere and leaves, leaves nothing behind.
func TestOwnerLeavesRoomBehind(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][][2]string{
		"as it is":    {},
		"persistent":  {{persistentField, "1"}},
		"open to all": {{membersOnlyField, "0"}},
		"all at once": {
			{"muc#roomconfig_roomsecret", "xyzzy"}, {"muc#roomconfig_moderatedroom", "1"}, {"muc#roomconfig_roomname", "another"},
			{persistentField, "1"}, {membersOnlyField, "0"},
		},
	} {
		for _, m := range []mode{modes()[0], modes()[2]} {
			t.Run(m.name+", "+name, func(t *testing.T) {
				t.Parallel()
				c := m.start(t, nil)
				host := c.person("meet.example.com")
				host.enters(room, mint(t, nil))
				host.gives(room, strangerJID, "owner")
				host.gives(room, "mallory@evil.example.org", "admin")
				host.gives(room, "trent@evil.example.org", "member")
				for _, f := range fields {
					c.configure(host, room, f[0], f[1])
				}
				host.leaves(room)
				c.inTime("the room ends", func() bool { return !c.sees(room).Exists })
				c.inTime("nothing is written down", func() bool { return records(t, c.store, store.KindGrant) == 0 })
			})
		}
	}
}

// The same while usher is away; the next one finds what was left behind, as far as it knows of the room.
func TestOwnerLeavesRoomBehindWithoutUsher(t *testing.T) {
	t.Parallel()
	for _, m := range modes() {
		for _, kept := range []bool{true, false} {
			if !kept && strings.HasSuffix(m.name, "file") {
				continue
			}
			t.Run(fmt.Sprintf("%s, kept %t", m.name, kept), func(t *testing.T) {
				t.Parallel()
				c := m.start(t, nil)
				host, guest := c.person("meet.example.com"), c.person("guest.meet.example.com")
				host.enters(room, mint(t, nil))
				c.crashes(c.cable, c.mortal)
				host.gives(room, strangerJID, "owner")
				c.configure(host, room, persistentField, "1")
				c.configure(host, room, membersOnlyField, "0")
				host.leaves(room)
				if !kept {
					c.store = store.Memory(store.Options{Now: c.now})
				}
				c.comesBack()
				if !kept {
					guest.asks(room, "") // which is how usher knows of it
				}
				if !kept && m.jicofo {
					// It may be an operator's.
					c.inTime("the room is guarded", func() bool { return c.sees(room).MembersOnly })
					return
				}
				c.inTime("the room ends", func() bool { return !c.sees(room).Exists })
			})
		}
	}
}

// operator is an admin of the MUC service.
func (g *gate) operator() *person {
	g.t.Helper()
	o := prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret", Resource: "operator"}
	return &person{Client: g.Client(g.t, o), g: g, nick: "operator"}
}

// is waits until the lists of a room have that for each of those people, "" for nothing.
func (b *before) is(room string, want map[string]string) {
	b.t.Helper()
	var v prosodytest.RoomView
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the room is %s, want %v", v, want)
		}
	}()
	b.inTime("everybody has what they should", func() bool {
		v = b.sees(room)
		for who, affiliation := range want {
			if v.Affiliations[who] != affiliation {
				return false
			}
		}
		return true
	})
}

// A room that the next process comes to know is looked through: what people outside have is taken back; those inside stay until
// they leave, and nobody is let in again who was banned. It makes no difference whether there was a store.
func TestAdoptedRoom(t *testing.T) {
	t.Parallel()
	const banned, friend = "banned@evil.example.org", "friend@evil.example.org"
	for _, m := range []mode{modes()[0], modes()[2]} {
		for _, kept := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, kept %t", m.name, kept), func(t *testing.T) {
				t.Parallel()
				c := m.start(t, nil)
				host, gone, guest := c.person("meet.example.com"), c.person("meet.example.com"), c.person("guest.meet.example.com")
				for _, p := range []*person{host, gone} {
					p.enters(room, mint(t, nil))
				}
				guest.enters(room, "")
				host.gives(room, strangerJID, "owner")
				host.gives(room, friend, "member")
				host.gives(room, banned, "outcast")
				host.gives(room, "observer@auth.meet.example.com", "owner")
				c.crashes(c.cable, c.mortal)
				gone.leaves(room)
				if !kept {
					c.store = store.Memory(store.Options{Now: c.now})
				}
				c.comesBack()
				if !kept {
					late := c.person("guest.meet.example.com")
					late.enters(room, "") // which is how usher knows of it
					late.leaves(room)
				}
				c.is(room, map[string]string{
					gone.BareJID(): "", strangerJID: "", friend: "", banned: "outcast",
					host.BareJID(): "owner", guest.BareJID(): "member", "observer@auth.meet.example.com": "owner",
				})
				if v := c.sees(room); v.Occupant(host.JID()).Role != "moderator" || v.Occupant(guest.JID()).Role != "participant" {
					t.Errorf("who was inside is disturbed: %s", v)
				}
				c.guards(host, room)
				guest.leaves(room)
				c.is(room, map[string]string{guest.BareJID(): "", host.BareJID(): "owner", banned: "outcast"})
				host.leaves(room)
				c.inTime("the room ends", func() bool { return !c.sees(room).Exists })
				c.inTime("nothing is written down", func() bool { return records(t, c.store, store.KindGrant) == 0 })
			})
		}
	}
}

// A room that an operator made persistent is guarded as long as it exists, also when nobody is inside and over a restart. Its
// lists are the operator's.
func TestOperatorsRoom(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modes()[0], modes()[2]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := m.start(t, nil)
			operator := c.operator()
			if got := operator.joins(room); got != "owner moderator" {
				t.Fatalf("the operator: %s", got)
			}
			c.configure(operator, room, persistentField, "1")
			operator.gives(room, "head@school.example", "owner")
			operator.gives(room, "teacher@school.example", "member")
			operator.leaves(room)
			theirs := map[string]string{"head@school.example": "owner", "teacher@school.example": "member"}

			host := c.person("meet.example.com")
			host.enters(room, mint(t, nil))
			host.leaves(room)
			theirs[host.BareJID()] = ""
			c.is(room, theirs)
			c.guards(operator, room)
			c.crashes(c.cable, c.mortal)
			c.configure(operator, room, membersOnlyField, "0")
			c.comesBack()
			c.inTime("the room is guarded", func() bool { return c.sees(room).MembersOnly })
			c.guards(operator, room)
			c.is(room, theirs)
			if c.configured(operator, room, persistentField) != "1" {
				t.Error("it is temporary")
			}
			if s := operator.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>"); s.Attr["type"] != "result" {
				t.Fatal(s)
			}
			c.inTime("nothing is written down", func() bool { return records(t, c.store, store.KindGrant) == 0 })
		})
	}
}

// Owners may not make rooms persistent where muc_room_allow_persistent is false; what does it all the same is undone, too.
func TestMadePersistentByPlugin(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modes()[0], modes()[2]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := m.startOn(t, prosodytest.JitsiOptions{Conference: "muc_room_allow_persistent = false"}, nil)
			host := c.person("meet.example.com")
			host.enters(room, mint(t, nil))
			host.gives(room, strangerJID, "owner")
			c.configure(host, room, persistentField, "1")
			operator := c.operator()
			if c.configured(operator, room, persistentField) != "" {
				t.Fatal("the owner may make it persistent")
			}
			c.configure(operator, room, persistentField, "1") // as an admin may, and a plugin
			c.inTime("it is temporary again", func() bool { return c.configured(operator, room, persistentField) == "" })
			host.leaves(room)
			c.inTime("the room ends", func() bool { return !c.sees(room).Exists })
		})
	}
}

// usher comes back to a room that has been given a password, and in which its occupant is no more.
func TestPasswordKeepsUsherNotOut(t *testing.T) {
	t.Parallel()
	c := modes()[2].start(t, nil)
	host := c.person("meet.example.com")
	host.enters(room, mint(t, nil))
	c.configure(host, room, "muc#roomconfig_roomsecret", "xyzzy &amp; &lt;more")
	c.crashes(c.cable, c.mortal)
	if s := host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='none' nick='focus'/></query>"); s.Attr["type"] != "result" {
		t.Fatal(s)
	}
	c.eventually("usher is out", func() bool { return c.sees(room).Occupant("focus@"+domain).Nick == "" })
	c.comesBack()
	c.inTime("usher is back", func() bool { return c.sees(room).Occupant("focus@"+domain).Nick != "" })
	c.guards(host, room)
	for _, e := range c.log.All() {
		if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), "xyzzy") {
			t.Errorf("the password is in the log: %s %v", e.Message, e.ContextMap())
		}
	}
}

// Without a store, public rooms are guarded at once, because the server lists them.
func TestPublicRoomIsGuardedAtOnce(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modes()[0], modes()[2]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := m.start(t, nil)
			host := c.person("meet.example.com")
			host.enters(room, mint(t, nil))
			host.gives(room, strangerJID, "owner")
			c.configure(host, room, "muc#roomconfig_publicroom", "1")
			c.crashes(c.cable, c.mortal)
			c.configure(host, room, membersOnlyField, "0")
			c.store = store.Memory(store.Options{Now: c.now})
			c.comesBack()
			c.is(room, map[string]string{strangerJID: "", host.BareJID(): "owner"})
			c.guards(host, room)
		})
	}
}

// A room that its owner ends and that is opened again begins anew.
func TestRemadeRoom(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modes()[0], modes()[2]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := m.start(t, nil)
			host := c.person("meet.example.com")
			host.enters(room, mint(t, nil))
			host.gives(room, strangerJID, "owner")
			c.configure(host, room, persistentField, "1")
			if s := host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>"); s.Attr["type"] != "result" {
				t.Fatal(s)
			}
			again := c.person("meet.example.com")
			c.eventually("it can be opened", func() bool { return again.asks(room, mint(t, nil)) == "ready" })
			again.must("joins", again.joins(room), "owner moderator")
			c.is(room, map[string]string{strangerJID: "", again.BareJID(): "owner"})
			again.gives(room, strangerJID, "owner")
			c.configure(again, room, persistentField, "1")
			c.guards(again, room)
			again.leaves(room)
			c.inTime("the room ends", func() bool { return !c.sees(room).Exists })
		})
	}
}

// People in breakout rooms keep what they have in the main room, which is persistent and empty meanwhile, over a restart, too,
// with and without a store.
func TestBreakoutsOutlive(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("kept %t", kept), func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
			host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			guest.enters(room, "")
			cell := host.adds("cell")
			host.moves(room, cell, mint(t, nil), "owner moderator")
			guest.moves(room, cell, "", "member participant")
			// What somebody was given who never comes is taken back after two looks at who is inside.
			audited := func() {
				t.Helper()
				never := b.person("meet.example.com")
				never.must("asks", never.asks(room, mint(t, member)), "ready")
				b.is(room, map[string]string{never.BareJID(): "", host.BareJID(): "owner", guest.BareJID(): "member"})
			}
			b.halt()
			if !kept {
				b.store = store.Memory(store.Options{Now: b.now})
			}
			b.run(policy(breakouts, func(p *auth.Policy) { p.Sessions = store.Sessions{Store: b.store} }))
			b.logged("Jicofo is online")
			audited()
			host.moves(cell, room, mint(t, nil), "owner moderator")
			guest.moves(cell, room, "", "member participant")
			b.ends(room, host, guest)
		})
	}
}

// A room with a lobby may have to go on for those who knock; when everybody has left nobody has anything there.
func TestLobbyOutlives(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withLobby(t)})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.must("asks", host.asks(room, mint(t, nil)), "ready")
	host.must("joins", host.named(room), "owner moderator")
	form := "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>" +
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>" +
		"<field var='" + membersOnlyField + "'><value>1</value></field><field var='" + persistentField + "'><value>1</value></field></x></query>"
	if s := host.iq("set", room, form); s.Attr["type"] != "result" || !b.sees(lobbyRoom).Exists {
		t.Fatalf("no lobby: %s", s)
	}
	host.gives(room, strangerJID, "owner")
	guest.must("asks", guest.asks(room, ""), "ready")
	guest.must("joins", guest.named(room), knock)
	guest.must("knocks", guest.named(lobbyRoom), "none participant")
	host.leaves(room)
	b.rightless(room)
	if v := b.sees(room); !v.Exists || !v.MembersOnly || b.sees(lobbyRoom).Occupant(guest.JID()).Nick == "" {
		t.Errorf("the room is %s, and its lobby %s", v, b.sees(lobbyRoom))
	}
	// The lobby opens as ever.
	again := b.person("meet.example.com")
	again.must("asks", again.asks(room, mint(t, nil)), "ready")
	again.must("joins", again.named(room), "owner moderator")
	again.opensTo(guest, room)
	guest.must("joins", guest.named(room), "member participant")
}
