package component_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// spellings are the two addresses of a tenant's room: as its clients write it, and as the MUC service does.
func spellings(tenant string) (clients, brackets string) {
	return "standup@conference." + tenant + ".meet.example.com", "[" + tenant + "]standup@" + service
}

func ofTenant(t *testing.T, tenant string) string {
	return mint(t, func(c *token.Claims) { c.Subject = tenant })
}

// Behind Jitsi's muc_domain_mapper, rooms of tenants send from addresses as their clients spell them. Jitsi's clients make
// acme_inc of the tenant acme.inc, and docker-jitsi-meet has Prosody take that.
func TestTenantsBehindTheDomainMapper(t *testing.T) {
	t.Parallel()
	mapped := prosodytest.JitsiOptions{Mapper: true, MeetingID: true, Metadata: true, HideAll: true}
	t.Run("before Jicofo", func(t *testing.T) {
		b := beforeJicofo(t, setup{JitsiOptions: mapped})
		for _, tenant := range []string{"acme", "acme_inc"} {
			tenants(t, b, tenant)
		}
		b.askedAs("standup@conference.acme.meet.example.com", "standup@conference.acme_inc.meet.example.com")
		b.looked(1)
		b.halt()
		b.comesBack() // on another server perhaps
		b.person("meet.example.com").enters("standup@conference.other.meet.example.com", ofTenant(t, "other"))
		b.looked(2)
	})
	t.Run("standalone", func(t *testing.T) {
		const mapper = "modules_enabled = { \"prosodytest_domain_mapper\" }\n" // on the last host, which is usher
		g := startWith(t, "muc_mapper_domain_base = \"meet.example.com\"\n"+config+mapper)
		for _, tenant := range []string{"acme", "acme_inc"} {
			tenants(t, g, tenant)
		}
	})
}

// tenants has a host and guests ask for a tenant's room in both spellings, and join as their clients do.
func tenants(t *testing.T, g *gate, tenant string) {
	t.Helper()
	room, brackets := spellings(tenant)
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	tok := ofTenant(t, tenant)
	if got := guest.asks(room, ""); got != "not-authorized host-absent" {
		t.Errorf("the guest is told %s", got)
	}
	for _, asked := range []string{brackets, room} {
		answer := host.iq("set", domain, request(asked, tok, ""))
		if got := answer.Child("conference", nsFocus).Attr["room"]; outcome(answer) != "ready" || got != asked {
			t.Fatalf("the host who asks for %s is told %s", asked, answer)
		}
	}
	if got := host.joins(room); got != "owner moderator" {
		t.Errorf("the host joins as %s", got)
	}
	for _, asked := range []string{room, brackets} {
		if got := guest.asks(asked, ""); got != "ready" { // held until the host is seen
			t.Errorf("the guest who asks for %s is told %s", asked, got)
		}
	}
	if got := guest.joins(room); got != "member participant" {
		t.Errorf("the guest joins as %s", got)
	}
	host.leaves(room)
	other := g.person("guest.meet.example.com")
	g.eventually("the host is gone", func() bool { return other.asks(room, "") == "not-authorized host-absent" })
}

// askedAs fails the test unless Jicofo was asked for these rooms and no others.
func (g *gate) askedAs(rooms ...string) {
	g.t.Helper()
	var asked []string
	for _, r := range g.jicofo.Requests() {
		asked = append(asked, r.Room)
	}
	slices.Sort(asked)
	if asked = slices.Compact(asked); !slices.Equal(asked, rooms) {
		g.t.Errorf("Jicofo was asked for %q, want %q", asked, rooms)
	}
}

// looked fails the test unless usher has made so many rooms to see how they are spelled, and has left none of them.
func (g *gate) looked(times int) {
	g.t.Helper()
	made := regexp.MustCompile(`\[usher\](usher-[a-z0-9]+)@`).FindAllStringSubmatch(g.Log(), -1)
	var names []string
	for _, m := range made {
		names = append(names, m[1])
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != times {
		g.t.Errorf("usher has made %q, want %d", names, times)
	}
	for _, name := range names {
		for _, room := range []string{name + "@conference.usher.meet.example.com", "[usher]" + name + "@" + service} {
			g.eventually("the room is gone", func() bool { return !g.seesAny(room) })
		}
	}
}

// seesAny reports whether there is a room, from whatever address it answers.
func (g *gate) seesAny(room string) bool {
	g.t.Helper()
	admin := g.Client(g.t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret"})
	admin.Sends("<iq type='get' id='any' to='" + room + "'><query xmlns='http://jabber.org/protocol/muc#owner'/></iq>")
	return admin.Receives("<iq id='any'/>").Attr["type"] == "result"
}

// Without the mapper a tenant's room has one address, and Jicofo is asked for that, in whatever spelling a client asks.
func TestTenantsWithoutTheDomainMapper(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	room, brackets := spellings("acme")
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	for _, asked := range []string{room, brackets} {
		if got := host.asks(asked, ofTenant(t, "acme")); got != "ready" {
			t.Fatalf("the host who asks for %s is told %s", asked, got)
		}
	}
	if got := host.joins(brackets); got != "owner moderator" {
		t.Errorf("the host joins as %s", got)
	}
	guest.enters(brackets, "")
	b.askedAs(brackets)
	b.looked(1)
	b.person("meet.example.com").enters("retro@"+service, mint(t, forRoom("retro"))) // of no tenant
	b.looked(1)
}

// If a module lets usher make no room, usher believes each client that it spells rooms as Jicofo does.
func TestTenantsUnseen(t *testing.T) {
	t.Parallel()
	dir := prosodyModule(t, "rooms_of_acme", `
		local st = require "util.stanza";
		module:hook("muc-room-pre-create", function (event)
			if not event.room.jid:find("[acme]", 1, true) then
				event.origin.send(st.error_reply(event.stanza, "cancel", "not-allowed"));
				return true;
			end
		end, 10);
	`)
	room, brackets := spellings("acme")
	for name, tt := range map[string]struct {
		mapper       bool
		asked, joins string
	}{"mapped": {true, room, room}, "not mapped": {false, brackets, brackets}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{
				Mapper: tt.mapper, Modules: []string{"rooms_of_acme"}, PluginPaths: []string{dir},
			}})
			host := b.person("meet.example.com")
			if got := host.asks(tt.asked, ofTenant(t, "acme")); got != "ready" {
				t.Fatalf("told %s", got)
			}
			if got := host.joins(tt.joins); got != "owner moderator" {
				t.Errorf("joins as %s", got)
			}
			b.askedAs(tt.asked)
			e := b.logged("could not find out whether muc_domain_mapper is loaded")
			if err, _ := e.ContextMap()["error"].(string); !strings.Contains(err, "[usher]") {
				t.Errorf("logged %v", e.ContextMap())
			}
		})
	}
}

// With the mapper, a tenant has no rooms if its name is no part of a domain: Jicofo would not recognise them.
func TestTenantUnspelled(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Mapper: true}})
	if got := b.person("meet.example.com").asks("[a.b]standup@"+service, ofTenant(t, "a.b")); got != "forbidden room-unknown" {
		t.Errorf("told %s", got)
	}
	b.askedAs()
}

// The main room of a tenant's breakout room is one room in both spellings.
func TestTenantsBreakout(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Mapper: true, MeetingID: true, Breakout: true}})
	room, _ := spellings("acme_inc")
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, ofTenant(t, "acme_inc"))
	guest.enters(room, "")
	cell := host.adds("cell")
	guest.moves(room, cell, "", "member participant")
	if got := b.person("guest.meet.example.com").asks(cell, ""); got == "ready" {
		t.Error("somebody who was not in the main room is let in")
	}
}
