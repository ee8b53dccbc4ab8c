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
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// standalone is usher without a Jicofo, with sessions and a store that outlives it.
func standalone(t *testing.T, change ...func(*auth.Policy)) *before {
	t.Helper()
	o := prosodytest.Options{Config: config, Users: map[string]string{}}
	passwords(&o)
	b := &before{gate: &gate{t: t, Server: prosodytest.Start(t, o)}}
	b.store = store.Memory(store.Options{Now: b.now})
	t.Cleanup(func() { b.store.Close() })
	b.gate.options = func(o *component.Options) { o.Store = b.store }
	b.run(policy(append(change, func(p *auth.Policy) { p.Sessions = store.Sessions{Store: b.store} })...))
	return b
}

// bothModes runs a test without and with a Jicofo.
func bothModes(t *testing.T, test func(t *testing.T, b *before), change ...func(*auth.Policy)) {
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		test(t, standalone(t, change...))
	})
	t.Run("before Jicofo", func(t *testing.T) {
		t.Parallel()
		test(t, beforeJicofo(t, setup{server: passwords, policy: func(p *auth.Policy) {
			for _, c := range change {
				c(p)
			}
		}}))
	})
}

// another is a second connection of the same account.
func (p *person) another() *person {
	o := prosodytest.ClientOptions{Host: "users.example.com", User: "romeo", Password: "wherefore", Resource: "another"}
	return &person{Client: p.g.Client(p.g.t, o), g: p.g, nick: fmt.Sprintf("nick%d", p.g.n.Add(1))}
}

// waits has people ask for a room a first time, and be told to wait.
func waits(room string, people ...*person) {
	for _, p := range people {
		p.must("asks for the first time", outcome(p.with(room, "")), absent)
	}
}

// holds has the person, who has been told to wait, ask with a request that is held. The channel has the answer.
func (b *before) holds(p *person, room, attributes string) <-chan prosodytest.Stanza {
	b.t.Helper()
	payload := fmt.Sprintf("<conference xmlns='http://jitsi.org/protocol/focus' room='%s' %s><property name='rtcstatsEnabled' value='false'/></conference>",
		room, attributes)
	before := b.count(store.KindHeld, p.JID())
	held := make(chan prosodytest.Stanza, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, _ := p.IQ(ctx, "set", domain, payload) // an empty one says all
		held <- answer
	}()
	b.eventually("the request is held", func() bool { return b.count(store.KindHeld, p.JID()) == before+1 })
	return held
}

// answered is the answer to a request that was held.
func (b *before) answered(held <-chan prosodytest.Stanza) prosodytest.Stanza {
	b.t.Helper()
	select {
	case answer := <-held:
		return answer
	case <-time.After(patience):
		b.t.Fatal("who was held is told nothing")
		return prosodytest.Stanza{}
	}
}

// stillHeld checks that requests of a person are held.
func (b *before) stillHeld(p *person, want int) {
	b.t.Helper()
	if n := b.count(store.KindHeld, p.JID()); n != want {
		b.t.Errorf("%d requests of %s are held, want %d", n, p.JID(), want)
	}
}

// "I am the host": a guest's page is waiting, a second connection logs in with a password and gets a session, the guest's own
// connection asks with it, and is let in; but the page joins by the request that is held still (lib-jitsi-meet
// JitsiConference.ts, authenticateAndUpgradeRole). So that is answered, too, and as who they are now.
func TestHostLogsInWhileHeld(t *testing.T) {
	t.Parallel()
	const other = "board@" + service
	bothModes(t, func(t *testing.T, b *before) {
		page, bystander := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
		waits(room, page, bystander)
		waits(other, page)
		held, elsewhere := b.holds(page, room, "machine-uid='"+machine+"'"), b.holds(page, other, "machine-uid='"+machine+"'")
		stranger := b.holds(bystander, room, "machine-uid='"+machine+"'")

		id := page.session(b.person("users.example.com").with(room, "machine-uid='"+machine+"'"))
		b.stillHeld(page, 2) // a machine alone lets nobody in
		if again := page.session(page.with(room, "machine-uid='"+machine+"' session-id='"+id+"'")); again != id {
			t.Errorf("another session: %s, not %s", again, id)
		}
		answer := b.answered(held)
		c := answer.Child("conference", "http://jitsi.org/protocol/focus")
		if outcome(answer) != "ready" || c.Attr["session-id"] != id || c.Attr["identity"] != "romeo@users.example.com" || c.Attr["room"] != room {
			t.Errorf("the request that was held is answered %s", answer)
		}
		b.eventually("it is written down no more", func() bool { return b.count(store.KindHeld, page.JID()) == 1 })
		b.stillHeld(bystander, 1)
		page.must("joins", page.joins(room), "owner moderator")

		// The host is inside, so the other guest is let in, too, and no more than that.
		answer = b.answered(stranger)
		if c := answer.Child("conference", "http://jitsi.org/protocol/focus"); outcome(answer) != "ready" || c.Attr["session-id"] != "" || c.Attr["identity"] != "" {
			t.Errorf("the other guest is answered %s", answer)
		}
		bystander.must("joins", bystander.joins(room), "member participant")
		b.forward(waitHold)
		if got := outcome(b.answered(elsewhere)); got != absent {
			t.Errorf("in the other room: %s", got)
		}
	})
}

// Two connections of one account wait. One is let in, by a token, and with it the other, because affiliations are by bare JID. The
// session is for the machine that it was given to.
func TestAccountIsLetInOnce(t *testing.T) {
	t.Parallel()
	accounts := func(p *auth.Policy) {
		p.WaitForHost = auth.MembersWait
		p.VHosts["users.example.com"] = p.VHosts["meet.example.com"]
	}
	bothModes(t, func(t *testing.T, b *before) {
		one := b.person("users.example.com")
		two := one.another()
		subject := func(c *token.Claims) { c.Subject = "users.example.com" }
		tok := mint(t, func(c *token.Claims) { subject(c); member(c) })
		one.must("asks for the first time", one.asks(room, tok), absent)
		same := b.holds(one, room, "machine-uid='"+machine+"' token='"+tok+"'")
		elsewhere := b.holds(one, room, "machine-uid='another' token='"+tok+"'")
		nameless := b.holds(one, room, "token='"+tok+"'")

		id := two.session(two.with(room, "machine-uid='"+machine+"' token='"+mint(t, subject)+"'"))
		for name, tt := range map[string]struct {
			held              <-chan prosodytest.Stanza
			session, identity string
		}{
			"the same machine": {same, id, "u1"}, "another machine": {elsewhere, "", ""}, "no machine": {nameless, "", ""},
		} {
			answer := b.answered(tt.held)
			c := answer.Child("conference", "http://jitsi.org/protocol/focus")
			if outcome(answer) != "ready" || c.Attr["session-id"] != tt.session || c.Attr["identity"] != tt.identity {
				t.Errorf("%s is answered %s", name, answer)
			}
		}
		one.must("joins", one.joins(room), "owner moderator")
	}, accounts)
}

// A request that is answered for the last time, because a host has come, answers older ones and leaves newer ones to be decided by
// what they say themselves.
func TestNewerRequestSaysMore(t *testing.T) {
	t.Parallel()
	members := func(p *auth.Policy) {
		p.WaitForHost = auth.MembersWait
		v := p.VHosts["meet.example.com"]
		v.AllowEmptyToken = true
		p.VHosts["meet.example.com"] = v
	}
	bothModes(t, func(t *testing.T, b *before) {
		host, page := b.person("meet.example.com"), b.person("meet.example.com")
		waits(room, page)
		first := b.holds(page, room, "machine-uid='"+machine+"'")
		second := b.holds(page, room, "machine-uid='"+machine+"' token='"+mint(t, member)+"'")
		host.enters(room, mint(t, nil))
		if got := outcome(b.answered(first)); got != "ready" {
			t.Errorf("the first: %s", got)
		}
		page.session(b.answered(second))
	}, members)
}

// Jicofo sends somebody to another node, because their request says that they are a visitor. That says nothing of what else they
// asked.
func TestVisitorIsNotLetInHere(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{server: passwords})
	page := b.person("guest.meet.example.com")
	waits(room, page)
	held := b.holds(page, room, "machine-uid='"+machine+"'")
	id := page.session(b.person("users.example.com").with(room, "machine-uid='"+machine+"'"))
	b.jicofo.Behave(prosodytest.JicofoBehavior{VNode: "node1"})
	page.must("asks as a visitor", page.shows(room, id), "ready")
	b.stillHeld(page, 1)
	b.forward(waitHold)
	if got := outcome(b.answered(held)); got != absent {
		t.Errorf("the one that was held: %s", got)
	}
}

// A Jitsi client is held for as long as wait_hold_jitsi says, others for as long as wait_hold says, whoever came first.
func TestHeldAsLongAsTheClientWaits(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{options: func(o *component.Options) { o.WaitHold, o.WaitHoldJitsi = waitHold/6, waitHold }})
	patient, plain := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	waits(room, patient)
	heldPatient := b.holds(patient, room, "machine-uid='"+machine+"'")
	held := b.waiting(plain, room, "")
	b.forward(waitHold / 6)
	b.told(held, absent)
	b.stillHeld(patient, 1)
	b.forward(waitHold)
	if got := outcome(b.answered(heldPatient)); got != absent {
		t.Errorf("a Jitsi client is told %s", got)
	}
}

// Where there is no login, somebody without a token is refused with words, also in the middle of a meeting, and nobody is offered a
// login; otherwise they wait until they have logged in.
func TestTokenRequired(t *testing.T) {
	t.Parallel()
	for login, want := range map[auth.Login]string{
		"": "not-authorized token-required", auth.LoginPassword: "not-authorized token-required", auth.LoginURL: "not-authorized token-required",
		auth.LoginNone: "forbidden token-required",
	} {
		t.Run("login "+string(login), func(t *testing.T) {
			bothModes(t, func(t *testing.T, b *before) {
				host, stranger := b.person("meet.example.com"), b.person("meet.example.com")
				answer := host.iq("set", domain, request(room, mint(t, nil), ""))
				offered := strings.Contains(answer.String(), "authentication")
				if outcome(answer) != "ready" || offered != (login != auth.LoginNone) {
					t.Errorf("the host is answered %s", answer)
				}
				host.must("joins", host.joins(room), "owner moderator")
				answer = stranger.with(room, "machine-uid='"+machine+"'")
				stops := !answer.Find("reservation-error", "http://jitsi.org/protocol/focus").IsZero()
				if outcome(answer) != want || stops != (login == auth.LoginNone) || answer.Find("text", "urn:ietf:params:xml:ns:xmpp-stanzas").Text == "" {
					t.Errorf("somebody without a token is answered %s", answer)
				}
				guest := b.person("guest.meet.example.com")
				guest.must("waits all the same", guest.asks("board@"+service, ""), absent)
			}, func(p *auth.Policy) { p.Login = login })
		})
	}
}
