package component_test

import (
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// Rooms with rules, beside a real Prosody.

// ruled is a policy with one rule for the room of the tests.
func ruled(r auth.Rule) func(*auth.Policy) {
	return func(p *auth.Policy) {
		r.Match = "standup"
		p.Rules = []auth.Rule{r}
	}
}

// people are those inside a room, without usher and Jicofo.
func (g *gate) inside(room string) (n int) {
	g.t.Helper()
	for _, o := range g.sees(room).Occupants {
		if !strings.HasPrefix(o.JID, "focus@") {
			n++
		}
	}
	return n
}

// Thirty people come at once to a room for ten. Ten get in, and somebody else when one of them has left; a host always does.
func TestRuleSeats(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		const seats = 10
		g := m.start(t, setup{policy: ruled(auth.Rule{MaxOccupants: seats})})
		host := g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		crowd := make([]*person, 30)
		for n := range crowd {
			crowd[n] = g.person("guest.meet.example.com")
		}
		answers := make([]<-chan prosodytest.Stanza, len(crowd))
		for n, p := range crowd {
			// Each with a machine of its own.
			answers[n] = p.answerTo(strings.Replace(request(room, "", ""), machine, strings.Repeat(string(rune('a'+n)), 32), 1))
		}
		var in, out []*person
		for n, a := range answers {
			switch got := outcome(g.answered(a)); got {
			case "ready":
				crowd[n].must("joins", crowd[n].joins(room), "member participant")
				in = append(in, crowd[n])
			case "forbidden room-full":
				out = append(out, crowd[n])
			default:
				t.Fatalf("somebody is told %s", got)
			}
			if n := g.inside(room); n > seats {
				t.Fatalf("%d people are inside", n)
			}
		}
		if len(in) != seats-1 {
			t.Fatalf("%d were let in beside the host", len(in))
		}
		out[0].out(room)
		another := g.person("meet.example.com")
		another.enters(room, mint(t, nil))
		another.leaves(room)
		in[0].leaves(room)
		g.inTime("a seat is free", func() bool { return g.usherLets(out[0]) })
		out[0].must("joins", out[0].joins(room), "member participant")
		in[1].leaves(room)
		g.inTime("a seat is free", func() bool { return g.usherLets(out[1]) })
		g.inTime("who was let in has not come, and their seat is free", func() bool { return g.usherLets(out[2]) })
		out[2].must("joins", out[2].joins(room), "member participant")
		if n := g.inside(room); n != seats {
			t.Errorf("%d people are inside", n)
		}
	}, own, ejabberd, relay)
}

// usherLets reports whether a guest is let in now.
func (g *gate) usherLets(p *person) bool {
	g.t.Helper()
	return outcome(p.with(room, "machine-uid='ffffffffffffffffffffffffffffffff'")) == "ready"
}

// reads waits until somebody's room is destroyed, and returns the reason that they read.
func (p *person) reads() string {
	p.g.t.Helper()
	ctx, cancel := p.g.within()
	defer cancel()
	s, err := p.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["type"] == "unavailable" && !s.Find("destroy", nsMUCUser).IsZero()
	})
	if err != nil {
		p.g.t.Fatalf("%s reads nothing: %v", p.JID(), err)
	}
	return s.Find("destroy", nsMUCUser).Find("reason", "").Text
}

const nsMUCUser = "http://jabber.org/protocol/muc#user"

// A room ends when its host has been away for longer than host_grace, and people read why. A host who comes back in time keeps it.
func TestRuleEndsWithHost(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		const grace = 2 * time.Minute
		g := m.start(t, setup{policy: ruled(auth.Rule{OnHostLeft: auth.LeftEnd, HostGrace: grace})})
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		g.eventually("the host is seen", func() bool { return g.usher.Met(room).HostCame })
		host.leaves(room)
		g.eventually("the host is missed", func() bool { return !g.usher.Met(room).HostLeft.IsZero() })
		g.forward(grace - 10*time.Second)
		again := g.person("meet.example.com")
		again.enters(room, mint(t, nil))
		g.eventually("the host is seen again", func() bool { return g.usher.Met(room).HostLeft.IsZero() })
		g.forward(grace)
		if g.inside(room) != 2 {
			t.Fatalf("with the host back, the room is %s", g.sees(room))
		}
		again.leaves(room)
		g.inTime("the room ends", func() bool { return !g.sees(room).Exists })
		guest.must("reads", guest.reads(), "The host has left, and the conference has ended.")
		guest.must("asks then", guest.asks(room, ""), absent)
		again.enters(room, mint(t, nil))
	}, own, ejabberd, relay)
}

// Once a host has been in the conference, newcomers are let in as long as it lasts, and no longer.
func TestRuleKeeps(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: ruled(auth.Rule{OnHostLeft: auth.LeftKeep}), crashes: true})
		host, guest, late := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		guest.must("asks before the host", guest.asks(room, ""), absent)
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		g.eventually("the host is seen", func() bool { return g.usher.Met(room).HostCame })
		host.leaves(room)
		g.eventually("it is written down", func() bool { return g.count(store.KindRoom, "HostLeft") == 1 })
		g.crashes()
		g.comesBack()
		g.eventually("the late one is let in", func() bool { return late.asks(room, "") == "ready" })
		late.must("joins", late.joins(room), "member participant")
		late.leaves(room)
		guest.leaves(room)
		g.roomEnds()
		g.eventually("the conference is over", func() bool { return g.count(store.KindRoom, "") == 0 })
		late.must("asks then", late.asks(room, ""), absent)
	}, own, ejabberd, relay)
}

// A conference lasts as long as its rule says. Where usher is inside, people are told five minutes before.
func TestRuleDuration(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: ruled(auth.Rule{MaxDuration: 20 * time.Minute})})
		host := g.person("meet.example.com")
		g.stands() // what people are told depends on when usher looks
		host.enters(room, mint(t, nil))
		g.forward(15 * time.Minute)
		if m.alone() {
			g.eventually("people are to be told", func() bool { return !g.usher.Met(room).Warned.IsZero() })
			host.Receives("<message type='groupchat' from='" + room + "/focus'><body>This conference ends in 5 minutes.</body></message>")
		}
		g.inTime("the room ends", func() bool { return !g.sees(room).Exists })
		host.must("reads", host.reads(), "This conference has reached its longest duration.")
		host.enters(room, mint(t, nil))
	}, own, ejabberd, relay)
}

// Among equals, the first one with a token is host, and the next one once they have left.
func TestRuleFirstIsHost(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: ruled(auth.Rule{FirstIsHost: auth.FirstToken})})
		crowd := make([]*person, 8)
		answers := make([]<-chan prosodytest.Stanza, len(crowd))
		for n := range crowd {
			crowd[n] = g.person("meet.example.com")
		}
		for n, p := range crowd {
			answers[n] = p.answerTo(strings.Replace(request(room, mint(t, member), ""), machine, strings.Repeat(string(rune('a'+n)), 32), 1))
		}
		var host *person
		for n, a := range answers {
			crowd[n].must("asks", outcome(g.answered(a)), "ready")
			switch got := crowd[n].joins(room); {
			case got == "owner moderator" && host == nil:
				host = crowd[n]
			case got != "member participant":
				t.Fatalf("one of them joins as %s: %s", got, g.sees(room))
			}
		}
		if host == nil {
			t.Fatalf("nobody is host: %s", g.sees(room))
		}
		late := g.person("meet.example.com")
		late.enters(room, mint(t, member))
		late.leaves(room)
		host.leaves(room)
		next := g.person("meet.example.com")
		g.inTime("the next one is host", func() bool {
			next.enters(room, mint(t, member))
			is := g.sees(room).Affiliations[next.BareJID()] == "owner"
			if !is {
				next.leaves(room)
			}
			return is
		})
	}, own, ejabberd, relay)
}

// usher is killed beside a full room. The next one knows who has which seat, and gives none away twice.
func TestRuleSeatsCrash(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, m mode, s setup) {
		s.policy = ruled(auth.Rule{MaxOccupants: 3})
		g := m.start(t, s)
		host, mem, guest, late := g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		mem.enters(room, mint(t, member))
		guest.enters(room, "")
		if g.usherLets(late) {
			t.Fatal("four are let in to a room for three")
		}
		g.crashes()
		g.forward(time.Hour / 2) // longer than any request takes
		g.comesBack()
		if g.usherLets(late) || g.inside(room) != 3 {
			t.Fatalf("after a crash, one is let in to a full room: %s", g.sees(room))
		}
		late.out(room)
		mem.leaves(room)
		g.inTime("a seat is free", func() bool { return g.usherLets(late) })
		late.must("joins", late.joins(room), "member participant")
		for _, p := range []*person{host, guest, late} {
			p.leaves(room)
		}
		g.inTime("no seat is left", func() bool { return g.count(store.KindSeat, "") == 0 })
	})
}
