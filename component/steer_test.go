package component_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const locked = "forbidden room-locked"

// EndRoom puts everybody out, with the reason, and says so in the report.
func TestEndRoom(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		if err := g.usher.EndRoom(t.Context(), room, ""); !errors.Is(err, component.ErrNoRoom) {
			t.Errorf("a room that is not open: %v", err)
		}
		if err := g.usher.EndRoom(t.Context(), "standup@elsewhere.example.com", ""); !errors.Is(err, component.ErrRoom) {
			t.Errorf("a room elsewhere: %v", err)
		}
		host := g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		g.reported(component.HostArrived, nil)
		if err := g.usher.EndRoom(t.Context(), "standup", "The building closes."); err != nil {
			t.Fatal(err)
		}
		g.tells(room, nil, "room-opened", "occupant-joined", "host-arrived", "occupant-left", "host-left", "room-ended")
		if r := g.reported(component.RoomEnded, nil); r.Text != "The building closes." {
			t.Errorf("the end is reported with %q", r.Text)
		}
		ctx, cancel := g.within()
		defer cancel()
		gone, err := host.Await(ctx, func(s prosodytest.Stanza) bool { return s.Name == "presence" && !s.Find("destroy", "").IsZero() })
		if err != nil || gone.Find("reason", "").Text != "The building closes." {
			t.Errorf("the host reads %s, %v", gone, err)
		}
	})
}

// RemoveOccupant puts somebody out. With bar they may not come back, in this room, until it ends.
func TestRemoveOccupant(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host, other, guest := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		tok := mint(t, of("u2", "a jti"))
		other.enters(room, tok)
		guest.enters(room, "")
		remove := func(p *person, bar bool) {
			t.Helper()
			if err := g.usher.RemoveOccupant(t.Context(), room, p.JID(), "You are too loud.", bar); err != nil {
				t.Fatal(err)
			}
			if got := p.isPutOut(room, "321"); got != "You are too loud." {
				t.Errorf("%s reads %q", p.JID(), got)
			}
			if r := g.reported(component.RevokedOut, p); r.Text != "You are too loud." {
				t.Errorf("reported as %+v", r)
			}
		}
		remove(other, false)
		other.enters(room, tok)
		remove(guest, true) // who has no name
		guest.enters(room, "")
		remove(other, true)
		other.must("asks", other.asks(room, tok), "forbidden barred")
		other.must("asks for another room", other.asks("another@"+service, mint(t, func(c *token.Claims) { of("u2", "a jti")(c); c.Room = "*" })), "ready")
		for _, nobody := range []string{other.BareJID(), "nobody@meet.example.com", "meet.example.com", "", "\x00@@"} {
			if err := g.usher.RemoveOccupant(t.Context(), room, nobody, "", false); !errors.Is(err, component.ErrNoOccupant) {
				t.Errorf("%q: %v", nobody, err)
			}
		}
		if err := g.usher.EndRoom(t.Context(), room, ""); err != nil {
			t.Fatal(err)
		}
		g.eventually("the bar ends with the room", func() bool { return g.count(store.KindBar, "") == 0 })
		other.must("asks", other.asks(room, tok), "ready")
	}, own, ejabberd, relay)
}

// Into a locked room nobody comes but hosts, also nobody who was inside. Those inside stay. The lock outlives usher, and ends with the room.
func TestLockRoom(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode, s setup) {
		g := m.start(t, s)
		lock := func(is bool) {
			t.Helper()
			if err := g.usher.LockRoom(t.Context(), room, is); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.usher.LockRoom(t.Context(), room, true); !errors.Is(err, component.ErrNoRoom) {
			t.Errorf("a room that is not open: %v", err)
		}
		host, second, guest, late := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		tok := mint(t, of("u2", ""))
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		lock(true)
		lock(true)
		late.must("asks a locked room", late.asks(room, ""), locked)
		second.must("asks a locked room", second.asks(room, tok), locked)
		late.must("asks another room", late.asks(other, ""), absent)
		guest.stays(room)

		g.crashes()
		g.comesBack()
		late.must("asks the next usher", late.asks(room, ""), locked)
		g.eventually("the room is shown as locked", func() bool {
			v, err := g.usher.Room(t.Context(), room)
			return err == nil && v.Locked
		})
		host.leaves(room)
		guest.leaves(room)
		guest.must("comes back", guest.asks(room, ""), locked)
		host.must("comes back", host.asks(room, mint(t, nil)), "ready")
		host.joins(room)
		lock(false)
		late.must("asks an unlocked room", late.asks(room, ""), "ready")

		lock(true)
		if err := g.usher.EndRoom(t.Context(), room, ""); err != nil {
			t.Fatal(err)
		}
		g.eventually("the lock ends with the room", func() bool { return g.count(store.KindRoom, room) == 0 })
		second.must("opens the next room", second.asks(room, mint(t, nil)), "ready")
		second.joins(room)
		g.eventually("the next room is not locked", func() bool { return late.asks(room, "") == "ready" })
	})
}

// The server knows names that RFC 7622 refuses. Who has one is shown like others, and can be put out.
func TestViewOfOddName(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{accounts: []string{"ann♥@users.example.com"}, policy: func(p *auth.Policy) {
		p.VHosts["users.example.com"] = auth.VHost{Kind: auth.KindTrusted}
	}})
	ann := b.account("ann♥", "users.example.com")
	ann.enters(room, "")
	var v component.RoomView
	b.eventually("one is shown inside", func() (ok bool) {
		var err error
		v, err = b.usher.Room(t.Context(), room)
		return err == nil && v.Hosts == 1
	})
	if len(v.Occupants) != 1 || v.Occupants[0].Who.String() != ann.BareJID() || !v.Occupants[0].Inside || v.Occupants[0].Affiliation != "owner" {
		t.Errorf("shown: %+v", v.Occupants)
	}
	if err := b.usher.RemoveOccupant(t.Context(), room, ann.BareJID(), "", false); err != nil || b.sees(room).Affiliations[ann.BareJID()] != "" {
		t.Errorf("put out: %v, %s", err, b.sees(room))
	}
}

// The room is locked while a guest is let in, which Jicofo takes its time for: the guest is refused, and keeps no affiliation.
func TestLockInTheMiddle(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	answer, goesOn := b.atJicofo(guest)
	if err := b.usher.LockRoom(t.Context(), room, true); err != nil {
		t.Fatal(err)
	}
	goesOn()
	if got := outcome(<-answer); got != locked {
		t.Errorf("got %s", got)
	}
	b.eventually("nothing is left", func() bool { return b.sees(room).Affiliations[guest.BareJID()] == "" })
	if got := guest.joins(room); got != "registration-required" {
		t.Errorf("joins: %s", got)
	}
	host.stays(room)
}

// Who is in a breakout room when the main room is locked comes back into the main room; newcomers do not.
func TestLockBreakouts(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
	host, guest, late := b.person("meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	guest.enters(room, "")
	cell := host.adds("cell")
	guest.moves(room, cell, "", "member participant")
	if err := b.usher.LockRoom(t.Context(), room, true); err != nil {
		t.Fatal(err)
	}
	late.must("asks for the locked room", late.asks(room, ""), locked)
	late.must("asks for the breakout room", late.asks(cell, ""), "forbidden room-mismatch")
	guest.moves(cell, room, "", "member participant")
	guest.moves(room, cell, "", "member participant")
	host.removes(cell)
	guest.must("asks for the main room, because the breakout room is closed", guest.asks(room, ""), "ready")
	guest.joins(room)
	late.must("asks again", late.asks(room, ""), locked)
}

// A room that ends while no usher is there is not locked when it opens again.
func TestLockEndsWhileAway(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g, host := m.opened(t)
		if err := g.usher.LockRoom(t.Context(), room, true); err != nil {
			t.Fatal(err)
		}
		for r, err := range g.store.All(t.Context(), store.KindGrant) { // what tells of the room is lost
			if err == nil {
				err = g.store.Delete(t.Context(), store.KindGrant, r.Key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		g.crashes()
		host.leaves(room)
		if !m.alone() { // otherwise usher's own occupant may keep the room
			g.eventually("the room ends", func() bool { g.empties(); return !g.sees(room).Exists })
		}
		g.comesBack()
		g.inTime("the lock ends", func() bool { return g.count(store.KindRoom, room) == 0 })
	}, own, relay)
}

// People who wait for a room that is locked are told at once.
func TestLockTellsWaiting(t *testing.T) {
	g := own.start(t, setup{config: config})
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	host.must("opens the room", host.asks(room, mint(t, of("u1", ""))), "ready")
	held := g.waiting(guest, room, "")
	if err := g.usher.LockRoom(t.Context(), room, true); err != nil {
		t.Fatal(err)
	}
	g.told(held, locked)
}

// A lock that cannot be written down is none.
func TestLockUnwritten(t *testing.T) {
	g, host := own.opened(t)
	g.mortal.dies()
	if err := g.usher.LockRoom(t.Context(), room, true); err == nil {
		t.Error("locked, and not written down")
	}
	g.mortal.lives()
	guest := g.person("guest.meet.example.com")
	guest.enters(room, "")
	host.stays(room)
}

// Room shows who is inside, who is admitted and who waits.
func TestRoomView(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: func(p *auth.Policy) {
			p.Rules = []auth.Rule{{Match: "other"}, {Match: "standup", MaxDuration: time.Hour, MaxOccupants: 9}}
		}})
		host, second, guest, waiting := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		waiting.must("asks", waiting.asks(other, ""), absent)
		host.enters(room, mint(t, func(c *token.Claims) { c.User.ID, c.ID = "h", "the jti" }))
		second.enters(room, mint(t, of("m", "")))
		guest.must("asks", guest.asks(room, ""), "ready")
		var v component.RoomView
		g.eventually("two are shown inside", func() bool {
			var err error
			if v, err = g.usher.Room(t.Context(), "standup"); err != nil {
				t.Fatal(err)
			}
			return v.Hosts == 1 && v.Members == 1
		})
		as := make(map[string]component.Occupant)
		for _, o := range v.Occupants {
			as[o.Who.String()] = o
		}
		if o := as[host.BareJID()]; o.As != "host" || !o.Inside || o.JTI != "the jti" || o.User != "h" || o.Affiliation != "owner" || o.Since.IsZero() {
			t.Errorf("the host is %+v", o)
		}
		if o := as[second.BareJID()]; o.As != "member" || !o.Inside {
			t.Errorf("the member is %+v", o)
		}
		if o := as[guest.BareJID()]; o.As != "guest" || o.Inside || len(as) != 3 {
			t.Errorf("the guest is %+v, of %d", o, len(as))
		}
		if v.RuleNumber != 1 || v.Rule.MaxOccupants != 9 || !strings.Contains(v.Text, "9 people at most") || !v.Open || !v.HostInside ||
			v.Ends.IsZero() || v.Since.IsZero() || v.Name != "standup" {
			t.Errorf("the room is %+v", v)
		}
		if v, err := g.usher.Room(t.Context(), other); err != nil || v.Open || len(v.Waits) != 1 || v.Waits[0].Reason != auth.ReasonHostAbsent ||
			v.Waits[0].Who.String() != waiting.BareJID() || len(v.Occupants) != 0 {
			t.Errorf("the other room is %+v, %v", v, err)
		}
		if _, err := g.usher.Room(t.Context(), "nothing"); !errors.Is(err, component.ErrNoRoom) {
			t.Errorf("a room that is not open: %v", err)
		}
		if all := g.usher.Rooms(); len(all) != 2 || all[0].Name != "retro" || all[1].Name != "standup" || all[0].Waiting != 1 {
			t.Errorf("the rooms are %+v", all)
		}
		s := g.usher.Status()
		if !s.Connected || s.Since.IsZero() || s.Rooms != 1 || s.Grants != 3 || s.Hosts != 1 || s.Occupants != 2 || s.Waiting != 1 ||
			s.StanzasIn == 0 || s.StanzasOut == 0 || s.BytesIn == 0 || s.BytesOut == 0 || s.Domain != domain || s.Reconnects != 0 {
			t.Errorf("the status is %+v", s)
		}
		if jicofo := !m.alone(); jicofo && (s.Behind != "jicofo" || s.Jicofo != "online") || !jicofo && s.Behind+s.Jicofo != "" {
			t.Errorf("of Jicofo the status is %+v", s)
		}
		g.eventually("the server's version", func() bool { return g.usher.Status().Server != "" || m == ejabberd })
	}, own, ejabberd, relay)
}
