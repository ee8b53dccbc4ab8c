package component_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// Rights that end: by their time, taken back, used once, and after a kick.

// issuer changes the issuer of the tests.
func issuer(change func(*auth.Issuer)) func(*auth.Policy) {
	return func(p *auth.Policy) { change(&p.VHosts["meet.example.com"].Issuers[0]) }
}

// removing has people put out a minute after their token has ended.
var removing = issuer(func(i *auth.Issuer) { i.OnExpiry, i.ExpiryGrace, i.Leeway = auth.Remove, time.Minute, 0 })

// of makes the token of somebody, with an id and a time.
func of(user, jti string) func(*token.Claims) {
	return func(c *token.Claims) { c.User.ID, c.ID, c.User.Affiliation = user, jti, "member" }
}

// isPutOut waits until a person is put out of the room, and returns the reason that they read.
func (p *person) isPutOut(room, status string) (reason string) {
	p.g.t.Helper()
	ctx, cancel := p.g.within()
	defer cancel()
	s, err := p.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.Attr["from"] == room+"/"+p.nick
	})
	if err != nil {
		p.g.t.Fatalf("%s is not put out of %s: %v", p.JID(), room, err)
	}
	if !s.HasStatus(status) {
		p.g.t.Errorf("%s is put out without status %s: %s", p.JID(), status, s)
	}
	return s.Find("reason", "").Text
}

// stays fails the test unless the person is inside.
func (p *person) stays(room string) {
	p.g.t.Helper()
	if view := p.g.sees(room); view.Occupant(p.JID()).JID == "" {
		p.g.t.Fatalf("%s is not inside: %s", p.JID(), view)
	}
}

// hears waits for a message with these words.
func (p *person) hears(words string) {
	p.g.t.Helper()
	ctx, cancel := p.g.within()
	defer cancel()
	if _, err := p.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "message" && strings.Contains(s.Find("body", "").Text, words)
	}); err != nil {
		p.g.t.Fatalf("%s is not told %q: %v", p.JID(), words, err)
	}
}

// The person is told five minutes before the token's end plus grace, where usher can speak, and is put out then. A newer token moves
// the end. Others stay, and those of an issuer that keeps people.
func TestExpiryRemoves(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: removing})
		host, member, renews, guest := g.person("meet.example.com"), g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
		g.stands() // what people are told depends on when usher looks
		ends := func(in time.Duration) func(*token.Claims) {
			return func(c *token.Claims) { c.Expires = g.now().Add(in) }
		}
		long := mint(t, ends(10*time.Hour))
		host.enters(room, long)
		member.enters(room, mint(t, func(c *token.Claims) { of("u2", "j2")(c); ends(30 * time.Minute)(c) }))
		renews.enters(room, mint(t, func(c *token.Claims) { of("u3", "j3")(c); ends(30 * time.Minute)(c) }))
		guest.enters(room, "")

		g.forward(27 * time.Minute) // four minutes before the end
		if m.alone() {
			member.hears("in 4 minutes")
			renews.hears("in 4 minutes")
		}
		if got := renews.asks(room, mint(t, func(c *token.Claims) { of("u3", "j4")(c); ends(time.Hour)(c) })); got != "ready" {
			t.Fatal(got)
		}
		g.forward(4 * time.Minute)
		if reason := member.isPutOut(room, "321"); !strings.Contains(reason, "has ended") {
			t.Errorf("who is put out reads %q", reason)
		}
		g.eventually("only one grant has ended", func() bool { return len(g.listed(room)) == 3 })
		renews.stays(room)
		if got := member.named(room); !strings.HasPrefix(got, "registration-required") {
			t.Errorf("who was put out joins again: %s", got)
		}
		if got := member.asks(room, mint(t, func(c *token.Claims) { of("u2", "j5")(c); ends(time.Hour)(c) })); got != "ready" {
			t.Errorf("with a new token: %s", got)
		}
		member.must("joins", member.joins(room), "member participant")

		g.forward(time.Hour)
		renews.isPutOut(room, "321")
		host.stays(room)
		guest.stays(room)
		g.eventually("both are counted", func() bool { return g.usher.Stats().Events[component.EventPutOut] == 2 })
	})
}

// What one process granted ends in the next, which also learns of an end that came while no usher ran.
func TestExpiryOutlivesUsher(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{crashes: true, policy: removing})
		host, first, second := g.person("meet.example.com"), g.person("meet.example.com"), g.person("meet.example.com")
		host.enters(room, mint(t, func(c *token.Claims) { c.Expires = g.now().Add(10 * time.Hour) }))
		for n, p := range []*person{first, second} {
			p.enters(room, mint(t, func(c *token.Claims) {
				of(fmt.Sprint("u", n), "")(c)
				c.Expires = g.now().Add(time.Duration(n+1) * time.Hour)
			}))
		}
		before := g.listed("")
		g.crashes()
		g.forward(time.Hour + 2*time.Minute)
		g.comesBack()
		first.isPutOut(room, "321")
		second.stays(room)
		g.eventually("one grant has ended", func() bool { return len(g.listed("")) == 2 })
		after := g.listed("")
		if len(before) != 3 || len(after) != 2 {
			t.Fatalf("live were %+v, are %+v", before, after)
		}
		for _, a := range after {
			was := false
			for _, b := range before {
				was = was || b.Who.Equal(a.Who) && b.RemoveAt.Equal(a.RemoveAt) && b.User == a.User && b.Reason == a.Reason && b.Issuer == a.Issuer
			}
			if !was || a.RemoveAt.IsZero() || a.Issuer != "my_app" {
				t.Errorf("live is %+v, which was not", a)
			}
		}
		g.forward(time.Hour)
		second.isPutOut(room, "321")
		host.stays(room)
	}, own, ejabberd, relay)
}

// Somebody with a right that ends while there is no connection is put out when it is back.
func TestExpiryWhileDisconnected(t *testing.T) {
	t.Parallel()
	g := own.start(t, setup{crashes: true, policy: removing})
	host, member := g.person("meet.example.com"), g.person("meet.example.com")
	host.enters(room, mint(t, func(c *token.Claims) { c.Expires = g.now().Add(10 * time.Hour) }))
	member.enters(room, mint(t, func(c *token.Claims) { of("u2", "j2")(c) }))
	n := g.log.FilterMessage("no connection").Len()
	g.cable.Cut()
	g.eventually("the connection is gone", func() bool { return g.log.FilterMessage("no connection").Len() > n })
	g.forward(2 * time.Hour)
	g.cable.Mend()
	member.isPutOut(room, "321")
	host.stays(room)
}

// A revoked token is refused from then on, with its sessions and held requests, and people inside by it are put out by every usher
// with the same store. Afterwards it may be given back.
func TestRevoke(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		shared := store.Memory(store.Options{})
		s := setup{shared: shared, policy: func(p *auth.Policy) { p.WaitForHost = auth.MembersWait }}
		here, there := m.start(t, s), m.start(t, s)
		tok := mint(t, func(c *token.Claims) { of("u2", "j2")(c); c.Room = "*" })
		spared := mint(t, func(c *token.Claims) { of("u3", "j3")(c); c.IssuedAt = time.Now() })
		var inside, others []*person
		session := ""
		for _, g := range []*gate{here, there} {
			host, p, other := g.person("meet.example.com"), g.person("meet.example.com"), g.person("meet.example.com")
			host.enters(room, mint(t, nil))
			session = p.session(p.iq("set", domain, request(room, tok, "")))
			p.must("joins", p.joins(room), "member participant")
			other.enters(room, spared)
			inside, others = append(inside, p), append(others, host, other)
		}
		waits := here.person("meet.example.com")
		held := here.waiting(waits, other, tok)

		ctx, cancel := here.within()
		defer cancel()
		began := time.Now()
		got, err := here.usher.Revoke(ctx, auth.Revocation{User: "u2", Reason: "lost"})
		if err != nil || len(got.Out) != 1 || got.Out[0].JTI != "j2" || len(got.Spared) != 0 || got.Revocation.ID == "" {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, p := range inside {
			if reason := p.isPutOut(room, "321"); !strings.Contains(reason, "withdrawn") {
				t.Errorf("who is put out reads %q", reason)
			}
		}
		t.Logf("out on both after %s", time.Since(began))
		for _, g := range []*gate{here, there} {
			p := g.person("meet.example.com")
			p.must("asks with the revoked token", p.asks(room, tok), "forbidden token-revoked")
			p.must("asks with a session of the token", p.shows(room, session), invalid)
		}
		here.person("meet.example.com").enters(other, mint(t, forRoom("retro"))) // the host that it waits for
		here.told(held, "forbidden token-revoked")
		for _, p := range others {
			p.stays(room)
		}
		all, err := there.usher.Revocations(ctx)
		if err != nil || len(all) != 1 || all[0] != got.Revocation {
			t.Fatalf("%+v, %v", all, err)
		}

		// By time, a token that was minted later is listed as spared; a token without iat is covered.
		late, err := here.usher.Revoke(ctx, auth.Revocation{Issuer: "my_app", Before: time.Now().Add(-time.Hour), Room: room})
		if err != nil || len(late.Spared) != 1 || late.Spared[0].JTI != "j3" || len(late.Out) != 1 {
			t.Errorf("%+v, %v", late, err)
		}
		if err := there.usher.Unrevoke(ctx, got.Revocation.ID); err != nil {
			t.Fatal(err)
		}
		p := there.person("meet.example.com")
		p.must("asks with the token, in another room", p.asks("third@"+service, tok), absent)
	}, own, ejabberd, relay)
}

// kicks has a moderator put somebody out.
func (p *person) kicks(room, nick string) {
	p.g.t.Helper()
	s := p.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='"+nick+"' role='none'/></query>")
	if s.Attr["type"] != "result" {
		p.g.t.Fatalf("%s may not kick: %s", p.JID(), s)
	}
}

// A kick sticks to the person until the room ends: to the token, its sessions, and other tokens of the person. A ban does, too; before
// Jicofo usher sees only bans.
func TestKickSticks(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{crashes: true, policy: func(p *auth.Policy) { p.AfterKick = auth.AfterKick{Then: auth.KickBar} }})
		host, member, twin, innocent, guest := g.person("meet.example.com"), g.person("meet.example.com"), g.person("meet.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
		tok := mint(t, func(c *token.Claims) { of("u2", "j2")(c); c.Room = "*" })
		host.enters(room, mint(t, func(c *token.Claims) { c.Room = "*" }))
		session := member.session(member.iq("set", domain, request(room, tok, "")))
		member.must("joins", member.joins(room), "member participant")
		twin.enters(room, mint(t, of("u2", "j3")))
		innocent.enters(room, mint(t, of("u3", "j4")))
		guest.enters(room, "")
		if m.alone() {
			host.kicks(room, member.nick)
			host.kicks(room, guest.nick)
			member.isPutOut(room, "307")
		} else {
			host.gives(room, member.BareJID(), "outcast")
			member.isPutOut(room, "301")
			guest.leaves(room)
		}
		if reason := twin.isPutOut(room, "321"); !strings.Contains(reason, "cannot come back") {
			t.Errorf("another client of the person reads %q", reason)
		}
		again := func(g *gate) {
			t.Helper()
			for name, got := range map[string]string{
				"with the token":       g.person("meet.example.com").asks(room, tok),
				"with another token":   g.person("meet.example.com").asks(room, mint(t, of("u2", "j5"))),
				"with another user id": g.person("meet.example.com").asks(room, mint(t, of("u9", "j2"))),
				"with the session":     g.person("meet.example.com").shows(room, session),
			} {
				if got != "forbidden barred" {
					t.Errorf("%s: %s", name, got)
				}
			}
		}
		again(g)
		innocent.stays(room)
		member2 := g.person("meet.example.com")
		if got := member2.asks(other, tok); got != "ready" {
			t.Errorf("in another room: %s", got)
		}
		guest2 := g.person("guest.meet.example.com")
		guest2.enters(room, "") // nobody knows a guest again
		g.crashes()
		g.comesBack()
		again(g)
		for _, p := range []*person{host, innocent, guest2} {
			p.leaves(room)
		}
		g.roomEnds()
		g.eventually("the bars are forgotten", func() bool { return g.count(store.KindBar, "") == 0 })
		g.person("meet.example.com").enters(room, mint(t, nil))
		member3 := g.person("meet.example.com")
		member3.enters(room, tok)
	}, own, ejabberd, relay)
}

// after_kick: wait keeps the person out for a while, and ask not at all.
func TestKickForAWhile(t *testing.T) {
	t.Parallel()
	for then, wait := range map[auth.Kick]time.Duration{auth.KickWait: 10 * time.Minute, auth.KickAsk: 0} {
		t.Run(string(then), func(t *testing.T) {
			t.Parallel()
			g := own.start(t, setup{policy: func(p *auth.Policy) { p.AfterKick = auth.AfterKick{Then: then, Wait: wait} }})
			host, member := g.person("meet.example.com"), g.person("meet.example.com")
			host.enters(room, mint(t, nil))
			member.enters(room, mint(t, of("u2", "j2")))
			host.kicks(room, member.nick)
			member.isPutOut(room, "307")
			if then == auth.KickWait {
				g.eventually("it is written down", func() bool { return g.count(store.KindBar, "") == 1 })
				member.must("asks at once", member.asks(room, mint(t, of("u2", "j2"))), "forbidden barred")
				g.forward(wait + time.Second)
			}
			member.enters(room, mint(t, of("u2", "j2")))
		})
	}
}

// token_reuse: the same token, or person, comes into the room twice.
func TestTokenReuse(t *testing.T) {
	t.Parallel()
	from := func(p *person, machine, tok string) string {
		p.g.t.Helper()
		return outcome(p.with(room, fmt.Sprintf("machine-uid='%s' token='%s'", machine, tok)))
	}
	for _, test := range []struct {
		reuse      auth.Reuse
		of         auth.ReuseOf
		otherToken bool // of the same sub
		machine    string
		want       string
		out        bool // the earlier one is put out
	}{
		{auth.ReuseAllow, "", false, "m2", "ready", false},
		{auth.ReuseReplace, "", false, "m2", "ready", true},
		{auth.ReuseReplace, "", true, "m2", "ready", false},
		{auth.ReuseReplace, auth.ReuseOfSubject, true, "m2", "ready", true},
		{auth.ReuseRefuse, "", false, "m2", "forbidden token-used", false},
		{auth.ReuseRefuse, "", false, "m1", "ready", true}, // the page was loaded again
		{auth.ReuseRefuse, auth.ReuseOfSubject, true, "m2", "forbidden token-used", false},
		{auth.ReuseRefuse, auth.ReuseOfSubject, true, "m1", "ready", true},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			t.Parallel()
			g := own.start(t, setup{policy: issuer(func(i *auth.Issuer) { i.Reuse, i.ReuseOf, i.DomainVerification = test.reuse, test.of, false })})
			subject := func(jti string) string {
				return mint(t, func(c *token.Claims) { of("", jti)(c); c.Subject = "juliet" })
			}
			first, second := g.person("meet.example.com"), g.person("meet.example.com")
			g.person("meet.example.com").enters(room, mint(t, func(c *token.Claims) { c.Subject = "romeo" }))
			tok := subject("j1")
			first.must("asks", from(first, "m1", tok), "ready")
			first.must("joins", first.joins(room), "member participant")
			if test.otherToken {
				tok = subject("j2")
			}
			second.must("asks", from(second, test.machine, tok), test.want)
			if test.out {
				if reason := first.isPutOut(room, "321"); !strings.Contains(reason, "another place") {
					t.Errorf("who is put out reads %q", reason)
				}
			}
			if test.want == "ready" {
				second.must("joins", second.joins(room), "member participant")
			} else {
				first.stays(room)
				first.must("asks again", from(first, "m1", subject("j1")), "ready")
				first.leaves(room)
				g.inTime("the grant has ended", func() bool { return len(g.listed(room)) == 1 })
				second.must("asks when the other has left", from(second, test.machine, tok), "ready")
			}
		})
	}
}

// A one-time token admits one machine, which may come again. Of two machines that show it at the same moment to two ushers with the
// same store, one is admitted.
func TestOneTime(t *testing.T) {
	t.Parallel()
	shared := store.Memory(store.Options{})
	s := setup{shared: shared, policy: issuer(func(i *auth.Issuer) { i.OneTime = true })}
	ushers := []*gate{own.start(t, s), own.start(t, s)}
	people := []*person{ushers[0].person("meet.example.com"), ushers[1].person("meet.example.com")}
	const pairs = 25
	for n := range pairs {
		tok := mint(t, func(c *token.Claims) { c.ID, c.Room = fmt.Sprint("j", n), "*" })
		asks := func(i int) string {
			return outcome(people[i].with(fmt.Sprintf("room%d@%s", n, service), fmt.Sprintf("machine-uid='m%d' token='%s'", i, tok)))
		}
		var told [2]string
		var both sync.WaitGroup
		for i := range people {
			both.Go(func() { told[i] = asks(i) })
		}
		both.Wait()
		winner := 0
		if told[1] == "ready" {
			winner = 1
		}
		if told[winner] != "ready" || told[1-winner] != "forbidden token-used" {
			t.Errorf("pair %d is told %v", n, told)
		}
		if n < 3 {
			people[winner].must("comes again", asks(winner), "ready")
			people[1-winner].must("tries again", asks(1-winner), "forbidden token-used")
		}
	}
	p := people[0]
	for name, got := range map[string]string{
		"without jti":     p.asks(room, mint(t, nil)),
		"without machine": outcome(p.with(room, "token='"+mint(t, func(c *token.Claims) { c.ID = "j" })+"'")),
	} {
		if got != "forbidden token-claims" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// listed returns the live grants; of a room that usher does not guard there are none.
func (g *gate) listed(room string) []component.LiveGrant {
	all, _ := g.usher.Grants(room)
	return all
}

// Grants lists who is in as what, and by what.
func TestGrants(t *testing.T) {
	t.Parallel()
	g := own.start(t, setup{policy: removing})
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	end := g.now().Add(time.Hour).Truncate(time.Second)
	host.enters(room, mint(t, func(c *token.Claims) { c.ID, c.Expires = "j\u202e1", end }))
	guest.enters(room, "")
	for _, where := range []string{"", room} {
		all := g.listed(where)
		if len(all) != 2 {
			t.Fatalf("in %q: %+v", where, all)
		}
		h, other := all[0], all[1]
		if h.Who.String() != host.BareJID() || !h.Room.Equal(jid.MustParse(room)) || h.Affiliation != "owner" || h.Reason != auth.ReasonHost ||
			h.Issuer != "my_app" || h.JTI != "j\u202e1" || h.User != "u1" || !h.Expires.Equal(end) || !h.RemoveAt.Equal(end.Add(time.Minute)) || h.At.IsZero() {
			t.Errorf("the host: %+v", h)
		}
		if other.Who.String() != guest.BareJID() || other.Affiliation != "member" || other.Reason != auth.ReasonGuest || other.Issuer != "" || !other.RemoveAt.IsZero() {
			t.Errorf("the guest: %+v", other)
		}
	}
	if all := g.listed(other); len(all) != 0 {
		t.Errorf("in another room: %+v", all)
	}
	guest.leaves(room)
	g.inTime("the guest is gone", func() bool { return len(g.listed(room)) == 1 })
}

// What cannot be revoked is refused with a reason, and a revocation is not taken for written down while the store cannot be written.
func TestRevokeFails(t *testing.T) {
	t.Parallel()
	o := options("127.0.0.1:1", policy(breakouts), zap.NewNop())
	m := &mortal{Store: store.Memory(store.Options{})}
	o.Store = m
	c, err := component.New(o)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, breakout := "standup@meet.example.com", "cell@"+breakoutMUC
	for _, r := range []auth.Revocation{{}, {JTI: "j", Room: "not a room"}, {Room: room}, {JTI: "j", Room: elsewhere}, {JTI: "j", Room: breakout}} {
		if _, err := c.Revoke(context.Background(), r); err == nil || !strings.Contains(err.Error(), "no such revocation is possible") {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, where := range []string{"not a room", "@" + service, elsewhere, breakout} {
		if all, err := c.Grants(where); !errors.Is(err, component.ErrRoom) || len(all) != 0 {
			t.Errorf("grants in %s: %+v, %v", where, all, err)
		}
	}
	// The name alone is enough where there is one MUC service.
	short, _, _ := strings.Cut(room, "@")
	if _, err := c.Grants(short); err != nil {
		t.Error(err)
	}
	if got, err := c.Revoke(context.Background(), auth.Revocation{JTI: "j", Room: short}); err != nil || got.Revocation.Room != room {
		t.Errorf("%+v, %v", got, err)
	}
	c.Use(o.Authorizer, []jid.JID{jid.MustParse(service), jid.MustParse("muc.example.com")})
	if _, err := c.Grants(short); !errors.Is(err, component.ErrRoom) || !strings.Contains(err.Error(), "write the whole address") {
		t.Errorf("with two services: %v", err)
	}
	m.dies()
	if got, err := c.Revoke(context.Background(), auth.Revocation{JTI: "j"}); err == nil || got.Revocation.ID != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Somebody with a token who was left to the lobby, and let in by a moderator, is put out when the token ends or is revoked, also by the
// next usher.
func TestKnockedIsPutOut(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withLobby(t), crashes: true, policy: func(p *auth.Policy) {
		removing(p)
		p.LobbyAutostart, p.LobbyBypass = true, []auth.Affiliation{auth.Owner}
	}})
	host := b.person("meet.example.com")
	host.must("asks", host.asks(room, mint(t, func(c *token.Claims) { c.Expires = b.now().Add(10 * time.Hour) })), "ready")
	host.must("joins", host.named(room), "owner moderator")
	host.must("goes to the lobby", host.named(lobbyRoom), "owner moderator")
	letIn := func(n int) *person {
		t.Helper()
		p := b.person("meet.example.com")
		p.must("asks", p.asks(room, mint(t, of(fmt.Sprint("u", n), fmt.Sprint("j", n)))), "ready")
		p.must("joins", p.named(room), knock)
		p.must("knocks", p.named(lobbyRoom), "none participant")
		host.Receives(fmt.Sprintf("<presence from='%s/%s'/>", lobbyRoom, p.nick))
		host.opensTo(p, room)
		p.must("joins", p.named(room), "member participant")
		return p
	}
	revoked, later, kept := letIn(2), letIn(3), letIn(4)
	if n := len(b.listed(room)); n != 4 {
		t.Errorf("%d are listed", n)
	}
	ctx, cancel := b.within()
	defer cancel()
	if got, err := b.usher.Revoke(ctx, auth.Revocation{JTI: "j2"}); err != nil || len(got.Out) != 1 || got.Out[0].Affiliation != "" {
		t.Errorf("%+v, %v", got, err)
	}
	revoked.isPutOut(room, "321")
	b.eventually("nobody else is", func() bool { return len(b.listed(room)) == 3 })
	b.crashes()
	b.comesBack()
	if got, err := b.usher.Revoke(ctx, auth.Revocation{JTI: "j3"}); err != nil || len(got.Out) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	later.isPutOut(room, "321")
	kept.stays(room)
	b.forward(time.Hour + 2*time.Minute)
	kept.isPutOut(room, "321")
	host.stays(room)
	host.leaves(room)
	b.roomEnds()
	b.nothingWritten()
	if all := b.listed(""); len(all) != 0 {
		t.Errorf("listed are %+v", all)
	}
}

// Who is in a breakout room by a token that is revoked is put out there, and cannot come back into either room.
func TestRevokeInBreakout(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
	host, member, guest := b.person("meet.example.com"), b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	tok := mint(t, of("u2", "j2"))
	member.enters(room, tok)
	guest.enters(room, "")
	cell := host.adds("cell")
	host.moves(room, cell, mint(t, nil), "owner moderator")
	member.moves(room, cell, tok, "member participant")
	guest.moves(room, cell, "", "member participant")
	ctx, cancel := b.within()
	defer cancel()
	if got, err := b.usher.Revoke(ctx, auth.Revocation{JTI: "j2", Room: room}); err != nil || len(got.Out) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	b.eventually("the member is out of the breakout room", func() bool { return b.sees(cell).Occupant(member.JID()).JID == "" })
	member.must("asks for the room", member.asks(room, tok), "forbidden token-revoked")
	member.must("asks for the breakout room", member.asks(cell, tok), "forbidden room-mismatch")
	if view := b.sees(cell); view.Occupant(guest.JID()).JID == "" || view.Occupant(host.JID()).JID == "" {
		t.Errorf("others are out, too: %s", view)
	}
}
