package component_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	usherModule "github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// hostsPolicy is that of the tests of who is a host: people without a token come from the virtual host of those with one, too,
// tape.example.com is for services, and of staff.example.com the policy says nothing.
func hostsPolicy(p *auth.Policy) {
	meet := p.VHosts["meet.example.com"]
	meet.AllowEmptyToken = true
	p.VHosts["meet.example.com"] = meet
	p.VHosts["tape.example.com"] = auth.VHost{Kind: auth.KindService}
}

// hostsSetup is that of these tests, with breakout rooms where that is possible.
var hostsSetup = setup{
	JitsiOptions: withBreakouts, policy: hostsPolicy, server: passwords,
	admins:   []string{"jibri@staff.example.com", "jigasi@tape.example.com", "romeo@users.example.com"},
	accounts: []string{"jibri@staff.example.com", "eve@staff.example.com", "jigasi@tape.example.com", "tape@tape.example.com"},
}

// scene is a room in which a host is, and somebody who is none and keeps the room.
type scene struct {
	*gate
	room, name string
	host       *person
	admin      *person // of the MUC service, and not inside
}

func (g *gate) scene(name string) scene {
	g.t.Helper()
	s := scene{gate: g, room: name + "@" + service, name: name, host: g.person("meet.example.com")}
	s.admin = &person{Client: g.Client(g.t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret", Resource: name}), g: g}
	s.host.enters(s.room, s.owner())
	s.person("meet.example.com").enters(s.room, s.plain())
	return s
}

func (s scene) owner() string { return mint(s.t, forRoom(s.name)) }

func (s scene) plain() string {
	return mint(s.t, func(c *token.Claims) { member(c); c.Room = s.name })
}

// comes has somebody ask and join.
func (s scene) comes(p *person, tok string) *person {
	s.t.Helper()
	p.enters(s.room, tok)
	return p
}

// sets has the host set somebody's role or affiliation.
func (s scene) sets(item string) {
	s.t.Helper()
	query := "<query xmlns='http://jabber.org/protocol/muc#admin'><item " + item + "/></query>"
	if answer := s.host.iq("set", s.room, query); answer.Attr["type"] != "result" {
		s.t.Fatalf("%s: %s", item, answer)
	}
}

func (s scene) promotes(p *person, affiliation string) {
	s.t.Helper()
	s.sets("affiliation='" + affiliation + "' jid='" + p.BareJID() + "'")
}

// Nothing is given to an admin of the service, who owns all rooms. Where usher's module takes what is given, it says so afterwards, and
// usher forgets that grant.
func TestNothingGivenToAdmins(t *testing.T) {
	t.Parallel()
	s := hostsSetup
	s.config = moduleTakes(t)
	g := own.start(t, s)
	g.eventually("the module takes what is given", func() bool { return g.usher.Told().Takes(service) })
	g.person("meet.example.com").enters(room, mint(t, nil))
	gateway := g.account("jigasi", "tape.example.com")
	gateway.enters(room, "")
	g.eventually("nothing is written down of the admin", func() bool { return g.count(store.KindGrant, room+" "+gateway.BareJID()) == 0 })
}

// moduleTakes is the configuration of a server where usher's module takes what usher gives, which is the focus itself.
func moduleTakes(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if _, err := usherModule.Write(folder); err != nil {
		t.Fatal(err)
	}
	loaded := "modules_enabled = { \"usher\" }\n  usher_component = \"" + domain + "\"\n  muc_room_locking"
	return fmt.Sprintf("plugin_paths = { %q }\n", folder) + strings.Replace(config, "muc_room_locking", loaded, 1)
}

// Which moderators count as hosts, so that guests are let in: people of virtual hosts that can have hosts, and people promoted by a
// host. Accounts that own all rooms as admins of the MUC do not count on other virtual hosts.
func TestWhoIsHost(t *testing.T) {
	t.Parallel()
	const meet, guest = "meet.example.com", "guest.meet.example.com"
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, hostsSetup)
		n := 0
		for name, tt := range map[string]struct {
			comes func(s scene)
			host  bool
		}{
			"a token of a host":       {func(s scene) { s.comes(s.person(meet), s.owner()) }, true},
			"a password":              {func(s scene) { s.comes(s.person("users.example.com"), "") }, true},
			"a token of a member":     {func(s scene) { s.comes(s.person(meet), s.plain()) }, false},
			"a guest":                 {func(s scene) { s.comes(s.person(guest), "") }, false},
			"nothing, beside tokens":  {func(s scene) { s.comes(s.person(meet), "") }, false},
			"a guest of a host's id":  {func(s scene) { s.upgraded() }, true},
			"a member made owner":     {func(s scene) { s.promotes(s.comes(s.person(meet), s.plain()), "owner") }, true},
			"a guest made owner":      {func(s scene) { s.promotes(s.comes(s.person(guest), ""), "owner") }, true},
			"a guest made admin":      {func(s scene) { s.promotes(s.comes(s.person(guest), ""), "admin") }, true},
			"nothing, and made owner": {func(s scene) { s.promotes(s.comes(s.person(meet), ""), "owner") }, true},
			"a guest made moderator for the visit": {func(s scene) {
				s.sets("role='moderator' nick='" + s.comes(s.person(guest), "").nick + "'")
			}, true},
			"a guest made owner, and member again": {func(s scene) {
				p := s.comes(s.person(guest), "")
				s.promotes(p, "owner")
				s.promotes(p, "member")
			}, false},
			"a recorder": {func(s scene) { s.comes(s.account("tape", "tape.example.com"), "") }, false},
			"a recorder made owner": {func(s scene) {
				s.promotes(s.comes(s.account("tape", "tape.example.com"), ""), "owner")
			}, false},
			"a gateway that is an admin of the service": {func(s scene) {
				s.comes(s.account("jigasi", "tape.example.com"), "")
			}, false},
			"an admin of the service, of no virtual host": {func(s scene) {
				jibri := s.account("jibri", "staff.example.com")
				jibri.must("is refused", jibri.asks(s.room, ""), "forbidden vhost-unknown")
				jibri.must("joins, as an owner of all rooms may", jibri.joins(s.room), "owner moderator")
			}, false},
			"somebody of no virtual host, made owner": {func(s scene) {
				eve := s.account("eve", "staff.example.com")
				s.promotes(eve, "owner")
				eve.must("joins", eve.joins(s.room), "owner moderator")
			}, false},
			"an admin of the service who is a host": {func(s scene) {
				romeo := s.person("users.example.com")
				romeo.must("joins without asking", romeo.joins(s.room), "owner moderator")
			}, true},
		} {
			n++
			s := g.scene(fmt.Sprint("room", n))
			tt.comes(s)
			s.host.leaves(s.room)
			want := absent
			if tt.host {
				want = "ready"
			}
			if got := s.person(guest).asks(s.room, ""); got != want {
				t.Errorf("%s: a guest is told %s, want %s", name, got, want)
			}
		}
	}, own, ejabberd, relay)
}

// upgraded has a guest show the session of somebody who logged in, as Jitsi's role upgrade does.
func (s scene) upgraded() {
	s.t.Helper()
	login, guest := s.person("meet.example.com"), s.person("guest.meet.example.com")
	id := login.session(login.iq("set", domain, request(s.room, s.owner(), "")))
	guest.must("shows the session", guest.shows(s.room, id), "ready")
	guest.must("joins", guest.joins(s.room), "owner moderator")
}

// An owner made by Jicofo is a host only if usher does not put such owners back.
func TestJicofosOwnerIsHost(t *testing.T) {
	t.Parallel()
	for _, enforce := range []bool{false, true} {
		t.Run(fmt.Sprintf("enforce roles %t", enforce), func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{
				jicofo:  func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
				options: func(o *component.Options) { o.EnforceRoles = enforce },
			})
			plain, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
			plain.enters(room, mint(t, member))
			if !enforce {
				b.eventually("Jicofo makes an owner", func() bool { return b.sees(room).Affiliations[plain.BareJID()] == "owner" })
				guest.must("asks", guest.asks(room, ""), "ready")
				return
			}
			for range 5 {
				guest = b.person("guest.meet.example.com") // who asks again is held
				guest.must("asks", guest.asks(room, ""), absent)
			}
			b.logged(plain.BareJID() + " was owner and is member again")
		})
	}
}

// granted counts the grants that are written down in a room.
func (s scene) granted(p *person) (n int) {
	s.t.Helper()
	for r, err := range s.store.All(context.Background(), store.KindGrant) {
		if err != nil {
			s.t.Fatal(err)
		}
		if r.Key == s.room+" "+p.BareJID() {
			n++
		}
	}
	return n
}

// invites returns a guest who is told to come because a host is inside, and has yet to come.
func (s scene) invites() *person {
	s.t.Helper()
	guest := s.person("guest.meet.example.com")
	guest.must("asks while a host is inside", guest.asks(s.room, ""), "ready")
	return guest
}

// joinsLater has somebody come who was invited.
func (s scene) joinsLater(guest *person) {
	s.t.Helper()
	guest.must("joins later", guest.joins(s.room), "member participant")
}

// hostLeaves returns when usher knows.
func (s scene) hostLeaves() {
	s.t.Helper()
	s.host.leaves(s.room)
	knows := s.person("guest.meet.example.com")
	knows.must("asks after the host has left", knows.asks(s.room, ""), absent)
}

// hostAway is the time, by usher's clock, for which the last host must have been away for those to be let in no more who were let in
// because of them.
const hostAway = 5 * time.Second

// slowly waits until ok, while a second of usher's clock passes now and then. One second is enough, unless a look at the room was under
// way, since the next is due so long after its end.
func (s scene) slowly(what string, ok func() bool) {
	s.t.Helper()
	polls := 0
	s.eventually(what, func() bool {
		if polls%8 == 0 {
			s.forward(time.Second)
		}
		polls++
		return ok()
	})
}

// withdrawn lets so much of usher's clock pass as it takes, and waits until a guest has nothing in the room any more. The clock stands:
// others who were let in have toJoin in all.
func (s scene) withdrawn(guest *person) {
	s.t.Helper()
	for range 2 { // looks; the first of them, which finds no host, has ended when the second begins
		s.configure(s.admin, s.room, membersOnlyField, "0")
		s.slowly("the room is members-only again", func() bool { return s.configured(s.admin, s.room, membersOnlyField) == "1" })
	}
	s.forward(hostAway)
	s.slowly("the grant is withdrawn", func() bool { return s.granted(guest) == 0 })
	// It is crossed out when that has been sent, and what is answered now was sent after it.
	asks := s.person("guest.meet.example.com")
	asks.must("asks", asks.asks(s.room, ""), absent)
}

// isOut waits until a guest has lost the grant. The guest then cannot join, waits after asking again, and is let in when the host has
// come back.
func (s scene) isOut(guest *person) {
	s.t.Helper()
	s.withdrawn(guest)
	guest.must("joins all the same", guest.joins(s.room), "registration-required")
	guest.must("asks again", guest.asks(s.room, ""), absent)
	s.host.enters(s.room, s.owner())
	guest.must("asks when the host is back", guest.asks(s.room, ""), "ready")
	guest.must("joins", guest.joins(s.room), "member participant")
}

// A guest was let in because a host was inside. If the guest has not come when the last host has been away for 5 s, the grant is taken
// back. Guests inside stay. A host who reloads the page, or a second host, keeps the grant alive.
func TestHostLeavesBeforeGuestComes(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, hostsSetup)
		g.stands()
		left, reloaded, shared := g.scene("left"), g.scene("reloaded"), g.scene("shared")
		second := shared.comes(g.person("meet.example.com"), shared.owner())
		guests := map[string]*person{"left": left.invites(), "reloaded": reloaded.invites(), "shared": shared.invites()}
		inside := left.invites()
		left.joinsLater(inside)

		reloaded.hostLeaves()
		g.forward(4 * time.Second) // which a page takes
		reloaded.host.enters(reloaded.room, reloaded.owner())
		shared.host.leaves(shared.room)
		left.hostLeaves()
		left.isOut(guests["left"])

		for _, s := range []scene{reloaded, shared} {
			s.joinsLater(guests[s.name])
		}
		inside.must("who was inside asks", inside.asks(left.room, ""), "ready")
		inside.Sends("<message type='groupchat' to='" + left.room + "'><body>still here</body></message>")
		guests["left"].Receives("<message from='" + left.room + "/" + inside.nick + "'/>")
		second.leaves(shared.room)
	}, own, ejabberd, relay)
}

// The next usher knows which grants hang on a host, whether the host left before the restart or after it.
func TestHostLeavesAndUsherIsReplaced(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, hostsSetup)
		g.stands()
		before, after, stays := g.scene("before"), g.scene("after"), g.scene("stays")
		early, late, kept := before.invites(), after.invites(), stays.invites()
		inside := before.invites()
		before.joinsLater(inside)
		before.hostLeaves()
		g.halt()
		g.comesBack()
		after.hostLeaves()
		before.isOut(early)
		after.isOut(late)
		stays.joinsLater(kept)
		inside.Sends("<message type='groupchat' to='" + before.room + "'><body>still here</body></message>")
		early.Receives("<message from='" + before.room + "/" + inside.nick + "'/>")
	}, own, ejabberd, relay)
}

// A host in a breakout room counts as inside: guests may enter the main room. When the host leaves the breakout room, unused grants of
// guests end.
func TestHostInBreakoutRoom(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
	b.stands()
	split, left := b.scene("split"), b.scene("left")
	cell := split.host.adds("cell")
	waiting, canary := split.invites(), left.invites()
	split.host.moves(split.room, cell, split.owner(), "owner moderator")
	guest := b.person("guest.meet.example.com")
	guest.must("asks while the host is in a breakout room", guest.asks(split.room, ""), "ready")
	guest.must("joins", guest.joins(split.room), "member participant")
	left.hostLeaves()
	left.isOut(canary) // which takes longer than 5 s
	split.joinsLater(waiting)

	another := split.invites()
	split.host.leaves(cell)
	split.withdrawn(another)
	another.must("joins all the same", another.joins(split.room), "registration-required")
	another.must("asks again", another.asks(split.room, ""), absent)
}
