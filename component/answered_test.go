package component_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// waits has people ask for a room a first time, and be told to wait.
func waits(room string, people ...*person) {
	for _, p := range people {
		p.must("asks for the first time", outcome(p.with(room, "")), absent)
	}
}

// ofJitsi is a conference request of Jitsi's client, which may be held for long (focus.Conference.Patient).
func ofJitsi(room, attributes string) string {
	return fmt.Sprintf("<conference xmlns='%s' room='%s' %s><property name='rtcstatsEnabled' value='false'/></conference>", nsFocus, room, attributes)
}

// "I am the host": a guest's page waits. A second connection logs in with a password and gets a session. The guest's own connection
// asks with that session and is let in, but the page joins by the request that is still held (lib-jitsi-meet JitsiConference.ts,
// authenticateAndUpgradeRole). So usher answers the held request, too, with the new rights.
func TestHostLogsInWhileHeld(t *testing.T) {
	t.Parallel()
	const other = "board@" + service
	eachMode(t, func(t *testing.T, m mode) {
		b := m.start(t, setup{server: passwords})
		page, bystander := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
		waits(room, page, bystander)
		waits(other, page)
		held, elsewhere := b.holds(page, ofJitsi(room, "machine-uid='"+machine+"'")), b.holds(page, ofJitsi(other, "machine-uid='"+machine+"'"))
		stranger := b.holds(bystander, ofJitsi(room, "machine-uid='"+machine+"'"))

		id := page.session(b.person("users.example.com").with(room, "machine-uid='"+machine+"'"))
		b.stillHeld(page, 2) // a machine alone lets nobody in
		if again := page.session(page.with(room, "machine-uid='"+machine+"' session-id='"+id+"'")); again != id {
			t.Errorf("another session: %s, not %s", again, id)
		}
		answer := b.answered(held)
		c := answer.Child("conference", nsFocus)
		if outcome(answer) != "ready" || c.Attr["session-id"] != id || c.Attr["identity"] != "romeo@users.example.com" || c.Attr["room"] != room {
			t.Errorf("the request that was held is answered %s", answer)
		}
		b.eventually("it is written down no more", func() bool { return b.count(store.KindHeld, page.JID()) == 1 })
		b.stillHeld(bystander, 1)
		page.must("joins", page.joins(room), "owner moderator")

		// The host is inside, so the other guest is let in, too, and no more than that.
		answer = b.answered(stranger)
		if c := answer.Child("conference", nsFocus); outcome(answer) != "ready" || c.Attr["session-id"] != "" || c.Attr["identity"] != "" {
			t.Errorf("the other guest is answered %s", answer)
		}
		bystander.must("joins", bystander.joins(room), "member participant")
		b.forward(waitHold)
		if got := outcome(b.answered(elsewhere)); got != absent {
			t.Errorf("in the other room: %s", got)
		}
	})
}

// Two connections of one account wait. When a token lets one in, the other is let in, too, because affiliations are by bare JID. Only
// requests of the same machine are told the session.
func TestAccountIsLetInOnce(t *testing.T) {
	t.Parallel()
	accounts := func(p *auth.Policy) {
		p.WaitForHost = auth.MembersWait
		p.VHosts["users.example.com"] = p.VHosts["meet.example.com"]
	}
	eachMode(t, func(t *testing.T, m mode) {
		b := m.start(t, setup{server: passwords, policy: accounts})
		one := b.person("users.example.com")
		two := one.another()
		subject := func(c *token.Claims) { c.Subject = "users.example.com" }
		tok := mint(t, func(c *token.Claims) { subject(c); member(c) })
		one.must("asks for the first time", one.asks(room, tok), absent)
		same := b.holds(one, ofJitsi(room, "machine-uid='"+machine+"' token='"+tok+"'"))
		elsewhere := b.holds(one, ofJitsi(room, "machine-uid='another' token='"+tok+"'"))
		nameless := b.holds(one, ofJitsi(room, "token='"+tok+"'"))

		id := two.session(two.with(room, "machine-uid='"+machine+"' token='"+mint(t, subject)+"'"))
		for name, tt := range map[string]struct {
			held              <-chan prosodytest.Stanza
			session, identity string
		}{
			"the same machine": {same, id, "u1"}, "another machine": {elsewhere, "", ""}, "no machine": {nameless, "", ""},
		} {
			answer := b.answered(tt.held)
			c := answer.Child("conference", nsFocus)
			if outcome(answer) != "ready" || c.Attr["session-id"] != tt.session || c.Attr["identity"] != tt.identity {
				t.Errorf("%s is answered %s", name, answer)
			}
		}
		one.must("joins", one.joins(room), "owner moderator")
	})
}

// When a host comes, a held request is decided again. It answers the older requests of its sender; a newer one, which has a token, is
// decided by itself.
func TestNewerRequestSaysMore(t *testing.T) {
	t.Parallel()
	members := func(p *auth.Policy) {
		p.WaitForHost = auth.MembersWait
		v := p.VHosts["meet.example.com"]
		v.AllowEmptyToken = true
		p.VHosts["meet.example.com"] = v
	}
	eachMode(t, func(t *testing.T, m mode) {
		b := m.start(t, setup{server: passwords, policy: members})
		host, page := b.person("meet.example.com"), b.person("meet.example.com")
		waits(room, page)
		first := b.holds(page, ofJitsi(room, "machine-uid='"+machine+"'"))
		second := b.holds(page, ofJitsi(room, "machine-uid='"+machine+"' token='"+mint(t, member)+"'"))
		host.enters(room, mint(t, nil))
		if got := outcome(b.answered(first)); got != "ready" {
			t.Errorf("the first: %s", got)
		}
		page.session(b.answered(second))
	})
}

// Jicofo sends a visitor to another node, because one request says so. The older request of the same person stays held.
func TestVisitorIsNotLetInHere(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{server: passwords})
	page := b.person("guest.meet.example.com")
	waits(room, page)
	held := b.holds(page, ofJitsi(room, "machine-uid='"+machine+"'"))
	id := page.session(b.person("users.example.com").with(room, "machine-uid='"+machine+"'"))
	b.jicofo.Behave(prosodytest.JicofoBehavior{VNode: "node1"})
	page.must("asks as a visitor", page.shows(room, id), "ready")
	b.stillHeld(page, 1)
	b.forward(waitHold)
	b.told(held, absent)
}

// The request of a Jitsi client is held for as long as wait_hold_jitsi says, that of another client for as long as wait_hold says. It
// does not matter which came first.
func TestHeldAsLongAsTheClientWaits(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{options: func(o *component.Options) { o.WaitHold, o.WaitHoldJitsi = waitHold/6, waitHold }})
	patient, plain := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	waits(room, patient)
	heldPatient := b.holds(patient, ofJitsi(room, "machine-uid='"+machine+"'"))
	held := b.waiting(plain, room, "")
	b.forward(waitHold / 6)
	b.told(held, absent)
	b.stillHeld(patient, 1)
	b.forward(waitHold)
	b.told(heldPatient, absent)
}

// Without a login to offer, somebody without a token is refused with a text, also in the middle of a conference. With one, the client is
// told not-authorized, so that it offers the login.
func TestTokenRequired(t *testing.T) {
	t.Parallel()
	for login, want := range map[auth.Login]string{
		"": "not-authorized token-required", auth.LoginPassword: "not-authorized token-required", auth.LoginURL: "not-authorized token-required",
		auth.LoginNone: "forbidden token-required",
	} {
		t.Run("login "+string(login), func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, m mode) {
				b := m.start(t, setup{server: passwords, policy: func(p *auth.Policy) { p.Login = login }})
				host, stranger := b.person("meet.example.com"), b.person("meet.example.com")
				answer := host.iq("set", domain, request(room, mint(t, nil), ""))
				offered := strings.Contains(answer.String(), "authentication")
				if outcome(answer) != "ready" || offered != (login != auth.LoginNone) {
					t.Errorf("the host is answered %s", answer)
				}
				host.must("joins", host.joins(room), "owner moderator")
				answer = stranger.with(room, "machine-uid='"+machine+"'")
				stops := !answer.Find("reservation-error", nsFocus).IsZero()
				if outcome(answer) != want || stops != (login == auth.LoginNone) || answer.Find("text", "urn:ietf:params:xml:ns:xmpp-stanzas").Text == "" {
					t.Errorf("somebody without a token is answered %s", answer)
				}
				guest := b.person("guest.meet.example.com")
				guest.must("waits all the same", guest.asks("board@"+service, ""), absent)
			}, own, ejabberd, relay)
		})
	}
}
