package component_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// strangerJID is of a domain that usher knows nothing of.
const strangerJID = "eve@evil.example.org"

// rightless waits until nobody but usher and Jicofo has an affiliation in the room, or the room has ended.
func (g *gate) rightless(room string) {
	g.t.Helper()
	var v prosodytest.RoomView
	defer func() {
		if g.t.Failed() {
			g.t.Logf("the room is %s", v)
		}
	}()
	g.inTime("nobody has anything there", func() bool {
		v = g.sees(room)
		for who, affiliation := range v.Affiliations {
			if affiliation != "outcast" && !strings.HasPrefix(who, "focus@") {
				return false
			}
		}
		return true
	})
}

// An owner configures a room, makes somebody elsewhere an owner, and leaves: the room ends, and nothing is left of it.
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, m mode) {
				c, host := m.opened(t)
				host.gives(room, strangerJID, "owner")
				host.gives(room, "mallory@evil.example.org", "admin")
				host.gives(room, "trent@evil.example.org", "member")
				for _, f := range fields {
					c.configure(host, room, f[0], f[1])
				}
				host.leaves(room)
				c.roomEnds()
				c.nothingWritten()
			}, own, ejabberd, relay)
		})
	}
}

// The same while usher is away. The next usher ends the room if it knows of it.
func TestOwnerLeavesRoomBehindWithoutUsher(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, m mode, s setup) {
		for _, kept := range []bool{true, false} {
			if !kept && s.file {
				continue
			}
			t.Run(fmt.Sprintf("kept %t", kept), func(t *testing.T) {
				t.Parallel()
				c := m.start(t, s)
				host, guest := c.person("meet.example.com"), c.person("guest.meet.example.com")
				host.enters(room, mint(t, nil))
				c.crashes()
				host.gives(room, strangerJID, "owner")
				c.configure(host, room, persistentField, "1")
				c.configure(host, room, membersOnlyField, "0")
				host.leaves(room)
				if !kept {
					c.forgets()
				}
				c.comesBack()
				if !kept {
					guest.asks(room, "") // which is how usher knows of it
				}
				if !kept && !m.alone() {
					// It may be an operator's.
					c.inTime("the room is guarded", func() bool { return c.sees(room).MembersOnly })
					return
				}
				c.roomEnds()
			})
		}
	})
}

// is waits until the lists of a room have that for each of those people, "" for nothing.
func (g *gate) is(room string, want map[string]string) {
	g.t.Helper()
	var v prosodytest.RoomView
	defer func() {
		if g.t.Failed() {
			g.t.Logf("the room is %s, want %v", v, want)
		}
	}()
	g.inTime("everybody has what they should", func() bool {
		v = g.sees(room)
		for who, affiliation := range want {
			if v.Affiliations[who] != affiliation {
				return false
			}
		}
		return true
	})
}

// The next process looks through a room that it gets to know. People outside lose their affiliations, people inside keep them
// until they leave, and bans stay. A store makes no difference.
func TestAdoptedRoom(t *testing.T) {
	t.Parallel()
	const banned, friend = "banned@evil.example.org", "friend@evil.example.org"
	eachMode(t, func(t *testing.T, m mode) {
		for _, kept := range []bool{true, false} {
			t.Run(fmt.Sprintf("kept %t", kept), func(t *testing.T) {
				t.Parallel()
				c := m.start(t, setup{crashes: true})
				host, gone, guest := c.person("meet.example.com"), c.person("meet.example.com"), c.person("guest.meet.example.com")
				for _, p := range []*person{host, gone} {
					p.enters(room, mint(t, nil))
				}
				guest.enters(room, "")
				host.gives(room, strangerJID, "owner")
				host.gives(room, friend, "member")
				host.gives(room, banned, "outcast")
				host.gives(room, "observer@auth.meet.example.com", "owner")
				c.crashes()
				gone.leaves(room)
				if !kept {
					c.forgets()
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
				c.roomEnds()
				c.nothingWritten()
			})
		}
	}, own, ejabberd, relay)
}

// A room that an operator made persistent is guarded as long as it exists, also while it is empty and after a restart. Its lists
// are the operator's.
func TestOperatorsRoom(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true})
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
		c.crashes()
		c.configure(operator, room, membersOnlyField, "0")
		c.comesBack()
		c.inTime("the room is guarded", func() bool { return c.sees(room).MembersOnly })
		c.guards(operator, room)
		c.is(room, theirs)
		if c.configured(operator, room, persistentField) != "1" {
			t.Error("it is temporary")
		}
		operator.destroys(room)
		c.nothingWritten()
	}, own, ejabberd, relay)
}

// With muc_room_allow_persistent = false owners may not make rooms persistent. If a plugin does, usher undoes it.
func TestMadePersistentByPlugin(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true, JitsiOptions: prosodytest.JitsiOptions{Conference: "muc_room_allow_persistent = false"}})
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
		c.roomEnds()
	}, own, relay)
}

// usher comes back to a room that has got a password, and from which its occupant was removed.
func TestPasswordKeepsUsherNotOut(t *testing.T) {
	t.Parallel()
	c := own.start(t, setup{crashes: true})
	host := c.person("meet.example.com")
	host.enters(room, mint(t, nil))
	c.configure(host, room, "muc#roomconfig_roomsecret", "xyzzy &amp; &lt;more")
	c.crashes()
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
	eachMode(t, func(t *testing.T, m mode) {
		c, host := m.opened(t)
		host.gives(room, strangerJID, "owner")
		c.configure(host, room, "muc#roomconfig_publicroom", "1")
		c.crashes()
		c.configure(host, room, membersOnlyField, "0")
		c.forgets()
		c.comesBack()
		c.is(room, map[string]string{strangerJID: "", host.BareJID(): "owner"})
		c.guards(host, room)
	}, own, ejabberd, relay)
}

// A room that its owner destroys and that is opened again begins anew.
func TestRemadeRoom(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c, host := m.opened(t)
		host.gives(room, strangerJID, "owner")
		c.configure(host, room, persistentField, "1")
		host.destroys(room)
		again := c.person("meet.example.com")
		c.eventually("it can be opened", func() bool { return again.asks(room, mint(t, nil)) == "ready" })
		again.must("joins", again.joins(room), "owner moderator")
		c.is(room, map[string]string{strangerJID: "", again.BareJID(): "owner"})
		again.gives(room, strangerJID, "owner")
		c.configure(again, room, persistentField, "1")
		c.guards(again, room)
		again.leaves(room)
		c.roomEnds()
	}, own, ejabberd, relay)
}

// While people are in breakout rooms, the main room is persistent and empty. They keep their affiliations there over a restart,
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
				b.forgets()
			}
			b.comesBack()
			audited()
			host.moves(cell, room, mint(t, nil), "owner moderator")
			guest.moves(cell, room, "", "member participant")
			b.ends(room, host, guest)
		})
	}
}

// A room with a lobby may go on for those who knock. When everybody has left it, nobody has an affiliation there.
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
