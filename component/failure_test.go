package component_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/token"
)

// After a restart of the server usher serves again, by itself, and everybody has to ask again.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		for name, down := range map[string]func(){"killed": g.Kill, "stopped": g.Server.Stop} {
			t.Run(name, func(t *testing.T) {
				g.person("meet.example.com").enters(room, mint(t, nil))
				n := g.log.FilterMessage("connected").Len()
				down()
				g.logged("no connection")
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := g.Restart(ctx); err != nil {
					t.Fatal(err)
				}
				g.eventually("connected again", func() bool { return g.log.FilterMessage("connected").Len() > n })
				host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
				if got := guest.asks(room, ""); got != "not-authorized host-absent" {
					t.Errorf("guest: %s", got)
				}
				host.enters(room, mint(t, nil))
				guest.enters(room, "")
			})
		}
	})
}

// While the server stands still nobody is admitted. When it goes on, nothing is lost.
func TestServerStandsStill(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host := g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		g.Pause()
		if err := host.Send(fmt.Sprintf("<iq type='set' to='%s' id='late'>%s</iq>", domain, request(room, mint(t, nil), ""))); err != nil {
			t.Error(err)
		}
		g.Resume()
		host.Receives("<iq id='late' type='result'><conference xmlns='http://jitsi.org/protocol/focus' ready='true'/></iq>")
		g.person("guest.meet.example.com").enters(room, "")
	})
}

// For each mistake of an operator the log has a line that helps, and usher tries again.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed := free.Addr().String()
		free.Close()

		g := m.begin(t)
		g.halt()
		open := g.ComponentAddr
		for name, tt := range map[string]struct{ addr, secret, hint string }{
			"wrong secret":         {open, "not the secret", "component_secret"},
			"port closed":          {closed, componentSecret, "is Prosody running"},
			"not a component port": {g.C2SAddr, componentSecret, ""},
		} {
			t.Run(name, func(t *testing.T) {
				g.ComponentAddr = tt.addr
				defer func() { g.ComponentAddr = open }()
				g.setup.options = func(o *component.Options) { o.Secret = []byte(tt.secret) }
				g.begins()
				g.eventually("a second attempt", func() bool { return g.log.FilterMessage("no connection").Len() >= 2 })
				g.halt()
				e := g.logged("no connection")
				if got, _ := e.ContextMap()["hint"].(string); !strings.Contains(got, tt.hint) {
					t.Errorf("hint %q, want something about %q; %v", got, tt.hint, e.ContextMap())
				}
				for _, e := range g.log.All() {
					if strings.Contains(fmt.Sprint(e.ContextMap()), tt.secret) {
						t.Errorf("the secret is in the log: %v", e.ContextMap())
					}
				}
			})
		}
	})
}

// A second usher stands by and does not take the first one's place.
func TestConflict(t *testing.T) {
	t.Parallel()
	g := start(t)
	first, stop, done := g.log, g.stop, g.done
	g.begins()
	e := g.logged("standing by: another component is connected by this name")
	if says := fmt.Sprint(e.ContextMap()); !strings.Contains(says, "conflict") || !strings.Contains(says, "not in this one's store") {
		t.Error(says)
	}
	if got := g.person("meet.example.com").asks(room, mint(t, nil)); got != "ready" {
		t.Errorf("got %s", got)
	}
	if first.FilterMessage("connected").Len() != 1 || first.FilterMessage("no connection").Len() != 0 {
		t.Error("the first one was disturbed")
	}
	second := g.log
	stopSecond, secondDone := g.stop, g.done
	g.stop, g.done = stop, done
	g.halt()
	g.inTime("the second one takes over", func() bool { return second.FilterMessage("connected").Len() == 1 })
	if n := second.FilterMessageSnippet("standing by").Len(); n != 1 {
		t.Errorf("%d lines about standing by", n)
	}
	g.stop, g.done = stopSecond, secondDone
	g.halt()
}

// usher stops, people stay inside, and the next usher takes the room over: when the room first says something, or when the next
// person is admitted.
func TestStopAndStart(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g, host, guest := m.conference(t)
		g.halt()
		if got := host.iq("get", domain, "<ping xmlns='urn:xmpp:ping'/>").ErrorCondition(); got != m.unserved() {
			t.Errorf("the server answers for usher: %s", got)
		}
		g.forgets()
		g.run()
		g.guards(host, room)

		g.halt()
		guest.leaves(room)
		host.Receives("<presence type='unavailable' from='" + room + "/focus'/>")
		g.forgets()
		g.run()
		g.person("guest.meet.example.com").enters(room, "")
		g.guards(host, room)
	})
}

const broadcast = "muc#roomconfig_presencebroadcast"

// openings are the settings of a room by which an owner could let people in, or have them hear what is said, and what usher makes of
// each. Some are for both servers.

var openings = map[mode][]struct{ field, opens, closed string }{
	own: {
		{"muc#roomconfig_whois", "moderators", "anyone"},
		{"{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites", "1", ""},
		{broadcast, "moderator", "moderator participant visitor"},
	},
	ejabberd: {
		{"muc#roomconfig_whois", "moderators", "anyone"},
		{"muc#roomconfig_allowinvites", "1", "0"},
		{"allow_subscription", "1", "0"},
		{"muc#roomconfig_moderatedroom", "1", "0"},
		{broadcast, "moderator", "moderator participant visitor"},
	},
}

// An owner who opens the room to all, or lets members invite, opens it to nobody.
func TestOwnerOpensTheRoom(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g, host, _ := m.conference(t)
		g.guards(host, room)
		if got := g.person("guest.meet.example.com").joins(room); got != "registration-required" {
			t.Errorf("a guest who did not ask: %s", got)
		}
		for _, w := range openings[m] {
			g.configure(host, room, w.field, w.opens)
			g.inTime(w.field+" is "+w.closed, func() bool {
				values := strings.Fields(g.configured(host, room, w.field))
				slices.Sort(values)
				return strings.Join(values, " ") == w.closed
			})
			// Everybody is still inside, with what they had, except that usher takes people for gone if it misses their presence.
			if got := g.affiliations(host, room, "member"); got != 1 && w.field != broadcast {
				t.Errorf("%s: %d members, want 1", w.field, got)
			}
		}
	})
}

// Somebody who leaves has to ask again.
func TestLeavingEndsTheGrant(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g, host, guest := m.conference(t)
		guest.leaves(room)
		g.inTime("the way back is closed", func() bool { return guest.joins(room) == "registration-required" || leave(guest) })
		guest.enters(room, "")
		// A new nick is not a departure.
		guest.Sends("<presence to='" + room + "/renamed'/>")
		guest.Receives("<presence from='" + room + "/renamed'/>")
		if got := g.affiliations(host, room, "member"); got != 1 {
			t.Errorf("%d members, want 1", got)
		}
		// The last one to leave takes the room along.
		host.leaves(room)
		guest.nick = "renamed"
		guest.leaves(room)
		if m == ejabberd {
			g.roomEnds() // meanwhile nobody may join: it loses what is on its way to a room that ends
		}
		g.inTime("the room is gone", func() bool { return guest.joins(room) == m.uncreated() })
	})
}

func leave(p *person) bool { p.leaves(room); return false }

// A token that ends between answer and join lets nobody in.
func TestTokenEndsBeforeTheJoin(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t, func(p *auth.Policy) {
			v := p.VHosts["meet.example.com"]
			v.Issuers[0].Leeway = 0
		})
		host, late := g.person("meet.example.com"), g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		if got := late.asks(room, mint(t, func(c *token.Claims) { member(c); c.Expires = g.now().Add(10 * time.Minute) })); got != "ready" {
			t.Fatal(got)
		}
		g.forward(10 * time.Minute)
		late.Sends("<presence to='" + room + "/late'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
		late.Receives("<presence type='unavailable' from='" + room + "/late'><x xmlns='http://jabber.org/protocol/muc#user'><status code='321'/></x></presence>")
	})
}

// The affiliation is right in the first presence that anybody sees, and does not change.
func TestNoFlicker(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host := g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		for _, tt := range []struct{ vhost, token, want string }{
			{"meet.example.com", mint(t, nil), "owner"},
			{"meet.example.com", mint(t, member), "member"},
			{"guest.meet.example.com", "", "member"},
			{"recorder.meet.example.com", "", "member"},
			{"users.example.com", "", "owner"},
		} {
			p := g.person(tt.vhost)
			host.Drain()
			p.enters(room, tt.token)
			g.person("meet.example.com").asks(room, mint(t, nil)) // whatever usher still does for p, it does before this
			if err := host.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			var seen []string
			for _, s := range host.Drain() {
				if s.Name == "presence" && strings.HasSuffix(s.Attr["from"], p.nick) {
					seen = append(seen, s.Find("item", "").Attr["affiliation"])
				}
			}
			if len(seen) != 1 || seen[0] != tt.want {
				t.Errorf("%s: %v, want one %s", tt.vhost, seen, tt.want)
			}
		}
	})
}

// A recorder is let in but is no host: guests still wait, and a room is not opened for it.
func TestServiceIsNoHost(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		recorder, host, guest := g.person("recorder.meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
		if got := recorder.asks(room, ""); got != "not-authorized host-absent" {
			t.Errorf("recorder before anybody: %s", got)
		}
		host.enters(room, mint(t, nil))
		recorder.enters(room, "")
		host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner' jid='"+recorder.BareJID()+"'/></query>")
		host.leaves(room)
		if got := guest.asks(room, ""); got != "not-authorized host-absent" {
			t.Errorf("guest with a recorder that moderates: %s", got)
		}
	})
}

// Many ask for a new room at once: one entry, and everybody gets an answer.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		const n = 20
		results := make(chan string, n)
		for i := range n {
			p, tok := g.person("meet.example.com"), mint(t, nil)
			if i%2 == 1 {
				p, tok = g.person("guest.meet.example.com"), ""
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				s, err := p.IQ(ctx, "set", domain, request(room, tok, ""))
				if err != nil {
					results <- err.Error()
					return
				}
				results <- outcome(s)
			}()
		}
		for range n {
			if got := <-results; got != "ready" && got != "not-authorized host-absent" {
				t.Error(got)
			}
		}
	})
}

// usher lets nobody into a room that it may not configure, and the log tells the operator what to do.
func TestNotAnAdmin(t *testing.T) {
	t.Parallel()
	g := startWith(t, strings.Replace(config, `admins = { "focus@focus.meet.example.com" }`, "", 1))
	if got := g.person("meet.example.com").asks(room, mint(t, nil)); got != "not ready" {
		t.Errorf("got %s", got)
	}
	if e := g.logged("request"); !strings.Contains(fmt.Sprint(e.ContextMap()["hint"]), "admins = ") {
		t.Errorf("got %v", e.ContextMap())
	}
}

// Somebody who was kicked has to ask again at once. Somebody who comes back without asking is removed.
func TestReturning(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g, host, guest := m.conference(t)
		other := g.person("guest.meet.example.com")
		other.enters(room, "")
		host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item role='none' nick='"+guest.nick+"'/></query>")
		guest.Receives("<presence type='unavailable' from='" + room + "/" + guest.nick + "'><x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></presence>")
		g.eventually("the kicked one is outside", func() bool { return g.affiliations(host, room, "member") == 1 })
		if got := guest.joins(room); got != "registration-required" {
			t.Errorf("kicked, and back without asking: %s", got)
		}

		other.leaves(room)
		if got := other.joins(room); got == "member participant" { // unless usher was quicker
			g.forward(toJoin)
			other.Receives("<presence type='unavailable' from='" + room + "/" + other.nick + "'><x xmlns='http://jabber.org/protocol/muc#user'><status code='321'/></x></presence>")
		}
		g.inTime("no members are left", func() bool { return g.affiliations(host, room, "member") == 0 })
	})
}

// Clients cannot hide that they leave by what they put into their presence: nobody counts as a host for ever, or keeps an
// affiliation.
func TestUnreadablePresence(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"an error with an address that is none": "<error by='@'/>",
		"too deep":                              strings.Repeat("<a xmlns='b'>", 70) + strings.Repeat("</a>", 70),
		"too large":                             "<status>" + strings.Repeat("'", 100<<10) + "</status>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, host, guest := own.conference(t)
			observer := g.person("meet.example.com")
			observer.enters(room, mint(t, nil))
			for _, p := range []*person{guest, host} {
				p.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'>%s</presence>", room, p.nick, content))
				p.Receives(fmt.Sprintf("<presence type='unavailable' from='%s/%s'/>", room, p.nick))
			}
			// Owners are usher and the observer.
			for affiliation, want := range map[string]int{"owner": 2, "member": 0} {
				g.inTime("what they had is taken back", func() bool { return g.affiliations(observer, room, affiliation) == want })
			}
			observer.leaves(room)
			late := g.person("guest.meet.example.com")
			g.eventually("the host counts as gone", func() bool { return late.asks(room, "") == "not-authorized host-absent" })
		})
	}
}

// usher still looks after a service that is taken out of the configuration for a while: nobody is a host there for ever.
func TestServiceTakenOut(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g, host, guest := m.conference(t)
		late := g.person("guest.meet.example.com")
		g.usher.Use(auth.New(policy(func(p *auth.Policy) { p.Services = []string{"rooms.example.com"} })), []jid.JID{jid.MustParse("rooms.example.com")})
		late.must("asks where nobody is let in", late.asks(room, ""), "forbidden room-unknown")
		host.leaves(room)
		guest.leaves(room)
		g.usher.Use(auth.New(policy()), []jid.JID{jid.MustParse(service)})
		g.eventually("the host counts as gone", func() bool { return late.asks(room, "") == "not-authorized host-absent" })
	})
}
