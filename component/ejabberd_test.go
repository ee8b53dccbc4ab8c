package component_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// A room that has just ended begins again at once: ejabberd answers nothing that reaches a room while it ends.
func TestRoomBeginsAgain(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host := g.person("meet.example.com")
		for range 30 {
			host.enters(room, mint(t, nil))
			host.leaves(room)
		}
	})
}

// ejabberd and usher are restarted several times, in both orders, while hosts, guests and strangers come at the same moment. Nobody is
// inside without usher's word.
func TestRestartsInBothOrders(t *testing.T) {
	t.Parallel()
	const restarts = 4 // each order and each way once; twenty take a minute and a half
	g := ejabberd.start(t, setup{crashes: true})
	for n := range restarts {
		server := func() {
			before := g.log.FilterMessage("connected").Len()
			ctx, cancel := g.within()
			defer cancel()
			if n%4 < 2 {
				g.Kill()
			}
			if err := g.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			g.eventually("usher is connected", func() bool { return g.log.FilterMessage("connected").Len() > before })
		}
		usher := func() {
			if n%4 < 2 {
				g.crashes()
			} else {
				g.halt()
			}
			g.comesBack()
		}
		people := g.rush()
		if n%2 == 0 {
			server()
			usher()
		} else {
			usher()
			server()
		}
		for _, p := range people {
			p.Kill()
		}
	}
}

// rush has a host, guests, a member and strangers come at the same moment. It checks who is inside then, and returns all of them.
func (g *gate) rush() (all []*person) {
	g.t.Helper()
	host := g.person("meet.example.com")
	let := map[string]bool{host.BareJID(): true, "focus@" + domain: true}
	all = append(all, host)
	var mu sync.Mutex
	var at sync.WaitGroup
	comes := func(p *person, tok string, asks bool) {
		all = append(all, p)
		at.Go(func() {
			ctx, cancel := g.within()
			defer cancel()
			var answer prosodytest.Stanza
			if asks {
				answer, _ = p.IQ(ctx, "set", domain, request(room, tok, ""))
			}
			joined, err := p.Join(ctx, room, p.nick)
			if err != nil {
				g.t.Errorf("%s joins: %v", p.JID(), err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ready := asks && outcome(answer) == "ready"
			if let[p.BareJID()] = ready; ready != (joined.Attr["type"] != "error") {
				g.t.Errorf("%s is told %q and then %s", p.JID(), outcome(answer), joined)
			}
		})
	}
	host.enters(room, mint(g.t, nil))
	for range 3 {
		comes(g.person("guest.meet.example.com"), "", true)
		comes(g.person("meet.example.com"), mint(g.t, member), true)
		comes(g.person("meet.example.com"), "eyJ.bad.token", true)
		comes(g.person("guest.meet.example.com"), "", false)
	}
	at.Wait()
	v := g.sees(room)
	for _, o := range v.Occupants {
		if who, _, _ := strings.Cut(o.JID, "/"); !let[who] {
			g.t.Errorf("%s is inside without usher's word: %s", o.JID, v)
		}
	}
	if len(v.Occupants) != 1+1+6 {
		g.t.Errorf("inside are %s", v)
	}
	return all
}
