package component_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// crowdOf is the people of folk.
type crowdOf struct {
	*gate
	client *prosodytest.Client

	mu      sync.Mutex
	answers map[string]string // outcomes by sender
	order   []string          // of the answers, by sender
}

func (g *gate) crowd() *crowdOf {
	g.t.Helper()
	c := &crowdOf{gate: g, client: g.Component(g.t, folk, componentSecret), answers: map[string]string{}}
	go func() {
		for {
			s, err := c.client.Next(context.Background())
			if err != nil {
				return // the end
			}
			if s.Name != "iq" || s.Attr["type"] != "result" && s.Attr["type"] != "error" {
				continue
			}
			who, _, _ := strings.Cut(s.Attr["to"], "@")
			c.mu.Lock()
			c.answers[who] = outcome(s)
			c.order = append(c.order, who)
			c.mu.Unlock()
		}
	}()
	return c
}

// ask has somebody ask to enter a room, once.
func (c *crowdOf) ask(who, room string) {
	c.t.Helper()
	if err := c.client.Send(fmt.Sprintf("<iq type='set' id='%s' from='%s@%s/x' to='%s'>%s</iq>", who, who, folk, domain, request(room, "", ""))); err != nil {
		c.t.Fatal(err)
	}
}

// outcome waits for the answer.
func (c *crowdOf) outcome(who string) (got string) {
	c.t.Helper()
	c.eventually(who+" is answered", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		got = c.answers[who]
		return got != ""
	})
	return got
}

func (c *crowdOf) answered() int { return len(c.answeredTo()) }

// answeredTo returns those who were answered, in order.
func (c *crowdOf) answeredTo() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.order)
}

// Requests for rooms that never answer, or for which Jicofo never answers, delay nobody else. Their number is bounded: over the bound
// the oldest ones are told to ask again.
func TestSilence(t *testing.T) {
	t.Parallel()
	guests := func(p *auth.Policy) {
		p.VHosts[folk] = auth.VHost{Kind: auth.KindGuest}
		p.GuestRooms = []string{"silent-*"}
	}
	// A silent room is waited for until the test is over, so that whatever is answered meanwhile did not wait for it.
	patient := func(c *component.Component) { c.Patient() }
	silent := map[mode]prosodytest.JitsiOptions{own: {Modules: []string{"prosodytest_silent"}}} // else Jicofo is
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{JitsiOptions: silent[m], policy: guests, tune: patient, server: withFolk})
		if !m.alone() {
			g.jicofo.Behave(prosodytest.JicofoBehavior{Silent: true, Rooms: func(room string) bool { return strings.HasPrefix(room, "silent-") }})
		}
		c := g.crowd()
		t.Cleanup(g.halt) // before those who ask are gone
		host := g.person("meet.example.com")
		asks := func(i int) {
			room := fmt.Sprintf("silent-%d@%s", i, service)
			if i%2 == 0 {
				room = "silent-one@" + service
			}
			c.ask(fmt.Sprint("silent-", i), room)
		}
		const first = 800
		for i := range first {
			asks(i)
		}
		host.enters(room, mint(t, nil))
		c.ask("guest", room)
		if got := c.outcome("guest"); got != "ready" {
			t.Errorf("a guest: %s", got)
		}
		if got := c.answeredTo(); len(got) != 1 {
			t.Fatalf("answered were %q; want those 800 to wait still", got)
		}
		const more = component.SlowPerVHost + 300
		for i := first; i < more; i++ {
			asks(i)
		}
		g.eventually("those who are too many are answered", func() bool { return c.answered() >= 1+more-component.SlowPerVHost })
		c.ask("late", room)
		if got := c.outcome("late"); got != "ready" {
			t.Errorf("a guest later: %s", got)
		}
		// Who gave way had the room opened for others, too: so many more can be answered, but not all.
		if got := c.answered(); got > 2+more/2+300 {
			t.Errorf("%d were answered", got)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for who, got := range c.answers {
			if strings.HasPrefix(who, "silent-") && got != "not ready" {
				t.Errorf("%s: %s", who, got)
			}
		}
		if n := g.log.FilterMessage("request").Filter(func(e observer.LoggedEntry) bool {
			text, _ := e.ContextMap()["error"].(string)
			return strings.Contains(text, "that do not answer")
		}).Len(); n == 0 {
			t.Error("the log does not tell why")
		}
	}, own, relay) // on ejabberd no room is silent
}
