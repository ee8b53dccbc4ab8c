package component_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// reloader reloads usher's module when anybody says so.
const reloader = `
module:hook("message/host", function (event)
	if event.stanza:get_child_text("body") ~= "reload" then return; end
	assert(require "core.modulemanager".reload(module.host, "usher"));
	module:log("info", "loaded anew");
	return true;
end, 10);`

// told begins with usher's module, which tells, on a server with breakout rooms.
func told(t *testing.T, s setup) *gate {
	s.Breakout, s.crashes = true, true
	s.PluginPaths = append(s.PluginPaths, prosodyModule(t, "reloader", reloader))
	s.Modules = append(s.Modules, "reloader")
	g := module.start(t, s)
	g.mirrors()
	return g
}

// mirrors waits until the mirrors of all services are complete.
func (g *gate) mirrors() {
	g.t.Helper()
	for _, domain := range []string{service, breakoutMUC} {
		g.eventually(domain+" tells", func() bool { return g.usher.Told().Tells(domain) })
	}
}

// everything is what an owner may ask of a room.
func (g *gate) everything(o muc.Owner, room string) string {
	g.t.Helper()
	ctx, cancel := g.within()
	defer cancel()
	at := jid.MustParse(room)
	var all []string
	list := func(what string, items []muc.Item, err error) {
		slices.SortFunc(items, func(a, b muc.Item) int { return cmp.Or(strings.Compare(a.JID, b.JID), strings.Compare(a.Nick, b.Nick)) })
		all = append(all, fmt.Sprint(what, items, muc.Absent(err), err != nil))
	}
	for _, role := range []string{"moderator", "participant", "visitor"} {
		items, err := o.WithRole(ctx, at, role)
		list(role, items, err)
	}
	for _, affiliation := range []string{"owner", "admin", "member", "outcast"} {
		items, err := o.WithAffiliation(ctx, at, affiliation)
		list(affiliation, items, err)
	}
	is, err := o.Settings(ctx, at)
	all = append(all, fmt.Sprint(is.MembersOnly, is.Persistent, is.Temporary, is.Password, is.Breakout, is.Main, muc.Absent(err)))
	return strings.Join(all, "\n")
}

// agrees checks that the mirror has what the room has. usher may act meanwhile, so they may disagree for a moment.
func (g *gate) agrees(what, room string) {
	g.t.Helper()
	mirror, plain := g.usher.Owners()
	var got, want string
	for range 20 {
		want = g.everything(plain, room)
		if got = g.everything(mirror, room); got == want {
			return
		}
	}
	g.t.Fatalf("after %s, the mirror has of %s\n%s\nand the room\n%s", what, room, got, want)
}

// Whatever people do in a room, the mirror has what the room itself says; so it is after the module was reloaded, the server restarted or usher
// killed. Nothing is asked for it.
func TestMirror(t *testing.T) {
	t.Parallel()
	g := told(t, setup{})
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	host.enters(room, mint(t, func(c *token.Claims) { c.Room = "*" }))
	guest.enters(room, "")
	if by, known := g.usher.Told().MadeBy(jid.MustParse(room), guest.BareJID()); by != "focus@"+domain || !known {
		t.Errorf("the guest is a member by %q, %t", by, known)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		g.agrees(g.shuffles(draw, host, guest), room)
	}
	breakout := host.adds("one")
	g.agrees("a breakout room was added", room)
	host.must("asks for the breakout room", host.asks(breakout, mint(t, func(c *token.Claims) { c.Room = "*" })), "ready")
	host.must("joins the breakout room", host.joins(breakout), "owner moderator")
	g.agrees("somebody came", breakout)
	host.Sends("<message to='" + service + "'><body>reload</body></message>")
	g.eventually("the module is loaded anew", func() bool { return strings.Contains(g.Log(), "loaded anew") })
	g.agrees("the reload", room)
	g.mirrors()
	g.agrees("the reload", room)
	g.agrees("the reload", breakout)
	g.crashes()
	g.comesBack()
	g.mirrors()
	g.agrees("usher was killed", room)
	g.agrees("usher was killed", breakout)
	ctx, cancel := g.within()
	defer cancel()
	if err := g.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	g.eventually("the mirror is forgotten, and whole again", func() bool {
		mirror, _ := g.usher.Owners()
		_, err := mirror.Moderators(ctx, jid.MustParse(room))
		return muc.Absent(err) && g.usher.Told().Tells(service)
	})
}

// shuffles has somebody do something in the room, and says what. The host stays an owner.
func (g *gate) shuffles(draw *rand.Rand, host, guest *person) string {
	const admin = "http://jabber.org/protocol/muc#admin"
	pick := func(from ...string) string { return from[draw.IntN(len(from))] }
	switch draw.IntN(6) {
	case 0:
		guest.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'/>", room, guest.nick))
		return "the guest left"
	case 1:
		return "the guest came: " + guest.joins(room)
	case 2:
		to := pick("owner", "admin", "member", "none", "outcast")
		host.iq("set", room, fmt.Sprintf("<query xmlns='%s'><item affiliation='%s' jid='%s'/></query>", admin, to, pick(guest.BareJID(), "x@guest.meet.example.com", "elsewhere.example")))
		return "somebody is " + to
	case 3:
		to := pick("moderator", "participant", "visitor", "none")
		host.iq("set", room, fmt.Sprintf("<query xmlns='%s'><item role='%s' nick='%s'/></query>", admin, to, guest.nick))
		return "the guest is " + to
	case 4:
		field := pick("muc#roomconfig_membersonly", "muc#roomconfig_persistentroom", "{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites")
		value := pick("0", "1")
		g.configure(host, room, field, value)
		return field + " is " + value
	default:
		value := pick("anyone", "moderators")
		g.configure(host, room, "muc#roomconfig_whois", value)
		return "real JIDs are for " + value
	}
}

// Where the module has answered, it keeps strangers out, and usher tries that with nobody.
func TestStrangerIsNotNeeded(t *testing.T) {
	t.Parallel()
	g := told(t, setup{JitsiOptions: prosodytest.JitsiOptions{}})
	host := g.person("meet.example.com")
	host.enters(room, mint(t, nil))
	if n := strings.Count(g.Log(), "from='stranger@"); n != 0 {
		t.Errorf("tried %d times", n)
	}
}
