package component_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// usher is killed while people wait and others are inside. The next process has those who wait ask again. Sessions go on, people
// inside stay, and unused grants are taken back.
func TestCrash(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, m mode, s setup) {
		c := m.start(t, s)
		host, guest, waiter := c.person("meet.example.com"), c.person("guest.meet.example.com"), c.person("guest.meet.example.com")
		id := host.iq("set", domain, request(room, mint(t, nil), "")).Child("conference", nsFocus).Attr["session-id"]
		if host.joins(room) != "owner moderator" || id == "" {
			t.Fatal("the host has no session, or is no host")
		}
		guest.enters(room, "")
		answers := c.waits(waiter, other, 3)
		c.crashes()
		guests := c.grants()
		c.comesBack()
		for _, a := range answers {
			if got := outcome(<-a); got != "not-authorized stopping" {
				t.Errorf("who waited: %s", got)
			}
		}
		c.eventually("no request is written down", func() bool { return c.count(store.KindHeld, "") == 0 })
		if guests != 2 || c.grants() != 2 {
			t.Errorf("%d grants were written down, and %d are", guests, c.grants())
		}
		c.nothingLeft(room, host, guest)
		// The session stands for what it stood for.
		if got := outcome(host.iq("set", domain, request(room, "", " session-id='"+id+"'"))); got != "ready" {
			t.Errorf("by the session: %s", got)
		}
		c.person("guest.meet.example.com").enters(room, "")
		// The new usher does not know that they waited, so it holds only their second request.
		again := c.waits(waiter, other, 1)
		c.forward(waitHold)
		if got := outcome(<-again[0]); got != "not-authorized host-absent" {
			t.Errorf("who waits again: %s", got)
		}
		c.guards(host, room)
		if !m.alone() {
			return
		}
		// usher is inside again, and hears who leaves.
		guest.leaves(room)
		c.inTime("the guest's right has ended", func() bool { return c.sees(room).Affiliations[guest.BareJID()] == "" })
	})
}

// The next process takes back a grant that was not used.
func TestCrashUnusedGrant(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true})
		host, guest, never := c.person("meet.example.com"), c.person("guest.meet.example.com"), c.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		if got := never.asks(room, ""); got != "ready" {
			t.Fatal(got)
		}
		c.crashes()
		c.forward(time.Minute)
		c.comesBack()
		c.inTime("the unused grant is taken back", func() bool { return c.sees(room).Affiliations[never.BareJID()] == "" })
		c.inTime("and crossed out", func() bool { return c.grants() == 2 })
		c.nothingLeft(room, host, guest)
		if view := c.sees(room); view.Affiliations[guest.BareJID()] != "member" || view.Affiliations[host.BareJID()] != "owner" {
			t.Errorf("who is inside has lost: %s", view)
		}
	}, own, ejabberd, relay)
}

// The next process forgets the grants of rooms that ended while usher was away.
func TestCrashRoomGone(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c, host := m.opened(t)
		c.crashes()
		host.destroys(room)
		c.comesBack()
		c.nothingWritten()
	}, own, ejabberd, relay)
}

// waits has somebody be told to wait, and then ask so often that they are held.
func (g *gate) waits(p *person, room string, n int) (answers []<-chan prosodytest.Stanza) {
	g.t.Helper()
	answers = append(answers, g.waiting(p, room, ""))
	for range n - 1 {
		answers = append(answers, g.holds(p, request(room, "", "")))
	}
	return answers
}

// counted counts the writes to a store that may become full.
type counted struct {
	store.Store
	puts  atomic.Int64
	full  store.Store // has no room for anything
	fills atomic.Bool
}

func (c *counted) Put(ctx context.Context, records ...store.Record) error {
	c.puts.Add(1)
	if c.fills.Load() {
		return c.full.Put(ctx, records...)
	}
	return c.Store.Put(ctx, records...)
}

// A full store keeps nobody out: people get their affiliation, and lose it when they leave. A request that would have been held is
// answered at once. While the store has room, an admission with a session is one write, and a new room is one. usher's own rooms are
// written down a few seconds later.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, m mode, s setup) {
		writes := &counted{full: openStore(t, s.file, store.Options{MaxBytes: 1})}
		s.options = func(o *component.Options) { writes.Store, o.Store = o.Store, writes }
		c := m.start(t, s)
		rooms := 1
		if m.alone() {
			c.stands()
			rooms = 0
		}
		host, guest := c.person("meet.example.com"), c.person("guest.meet.example.com")
		host.session(host.iq("set", domain, request(room, mint(t, nil), "")))
		if n := int(writes.puts.Load()); n != 1+rooms {
			t.Errorf("the first admission with a session is %d writes", n)
		}
		host.joins(room)

		writes.fills.Store(true)
		second := c.person("meet.example.com")
		answer := second.iq("set", domain, request(room, mint(t, nil), ""))
		if got := outcome(answer); got != "ready" || answer.Child("conference", nsFocus).Attr["session-id"] != "" {
			t.Errorf("the second host: %s", answer)
		}
		if got := second.joins(room); got != "owner moderator" {
			t.Errorf("the second host is %s", got)
		}
		guest.enters(room, "")
		for range 3 { // held the second time, where there is room
			if got := c.person("guest.meet.example.com").asks(other, ""); got != "not-authorized host-absent" {
				t.Errorf("who waits: %s", got)
			}
		}
		waiter := c.person("guest.meet.example.com")
		for range 3 {
			if got := waiter.asks(other, ""); got != "not-authorized host-absent" {
				t.Errorf("who waits: %s", got)
			}
		}
		for k, want := range map[store.Kind]int{store.KindSession: 1, store.KindGrant: 1 + rooms, store.KindHeld: 0} { // the first host's
			if n := c.count(k, ""); n != want {
				t.Errorf("%d records of kind %s are written down", n, k)
			}
		}
		if n := len(c.log.FilterMessageSnippet("people are let in").All()); n != 2 {
			t.Errorf("the log says %d times that the store is full", n)
		}
		if !m.alone() {
			return
		}
		guest.leaves(room)
		c.inTime("the guest's right has ended", func() bool { return c.sees(room).Affiliations[guest.BareJID()] == "" })
	})
}

// While the store cannot be written, nobody new is admitted, people inside stay, and requests that wait are answered at once.
// Afterwards all is as before.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true})
		host, guest, new := c.person("meet.example.com"), c.person("guest.meet.example.com"), c.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		c.mortal.dies()
		for name, got := range map[string]string{
			"a guest":                new.asks(room, ""),
			"a host":                 c.person("meet.example.com").asks(room, mint(t, nil)),
			"a host of another room": c.person("meet.example.com").asks(other, mint(t, forRoom("retro"))),
			"a guest who is inside":  guest.asks(room, ""),
			"a member without a uid": outcome(c.person("meet.example.com").iq("set", domain, fmt.Sprintf("<conference xmlns='%s' room='%s' token='%s'/>", nsFocus, room, mint(t, member)))),
		} {
			if got != "not ready" {
				t.Errorf("%s: %s", name, got)
			}
		}
		if e := c.logged("request"); e.ContextMap()["reason"] != "store-unavailable" {
			t.Errorf("logged %v", e.ContextMap())
		}
		c.nothingLeft(room, host, guest)
		if view := c.sees(room); view.Occupant(guest.JID()).Affiliation != "member" || view.Occupant(host.JID()).Affiliation != "owner" {
			t.Errorf("who was inside: %s", view)
		}
		if got := new.joins(room); got != "registration-required" {
			t.Errorf("who was not let in joins: %s", got)
		}
		for range 3 { // at once: nothing that is held would be answered
			if got := new.asks("third@"+service, ""); got != "not-authorized host-absent" {
				t.Errorf("who waits: %s", got)
			}
		}
		c.mortal.lives()
		new.enters(room, "")
	}, own, ejabberd, relay)
}

// unreadable is a store from which one kind of records cannot be read.
type unreadable struct {
	store.Store
	kind store.Kind
}

func (u unreadable) All(ctx context.Context, k store.Kind) iter.Seq2[store.Record, error] {
	if k != u.kind {
		return u.Store.All(ctx, k)
	}
	return func(yield func(store.Record, error) bool) { yield(store.Record{}, errors.New("bad sector")) }
}

// usher does not start if it cannot read what the last process left, and says why.
func TestStoreUnreadable(t *testing.T) {
	t.Parallel()
	for _, k := range []store.Kind{store.KindGrant, store.KindHeld} {
		o := options("127.0.0.1:1", policy(), zap.NewNop())
		o.Store = unreadable{store.Memory(store.Options{}), k}
		c, err := component.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "reading the store") || !strings.Contains(err.Error(), "bad sector") {
			t.Errorf("%s: %v", k, err)
		}
	}
}

// When the host is inside, everybody who waits is let in, with one answer to each request.
func TestHeldUntilTheHostComes(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true})
		var guests []*person
		var answers []<-chan prosodytest.Stanza
		for range 3 {
			p := c.person("guest.meet.example.com")
			guests = append(guests, p)
			answers = append(answers, c.waits(p, room, 1)...)
		}
		gone := c.person("guest.meet.example.com")
		if gone.asks(room, "") != "not-authorized host-absent" {
			t.Fatal("not told to wait")
		}
		gone.Sends("<iq type='set' id='x' to='" + domain + "'>" + request(room, "", "") + "</iq>")
		c.eventually("held", func() bool { return c.count(store.KindHeld, "") == 4 })
		_ = gone.Close()
		c.person("guest.meet.example.com").asks(other, "") // somebody else's room is not theirs

		host := c.person("meet.example.com")
		host.enters(room, mint(t, nil))
		second := c.person("meet.example.com")
		second.enters(room, mint(t, func(cl *token.Claims) { cl.User.ID = "u2" }))
		for i, a := range answers {
			if got := outcome(<-a); got != "ready" {
				t.Errorf("guest %d: %s", i, got)
			}
			if got := guests[i].joins(room); got != "member participant" {
				t.Errorf("guest %d joins as %s", i, got)
			}
		}
		c.eventually("nothing is written down", func() bool { return c.count(store.KindHeld, "") == 0 })
		for _, p := range guests {
			if err := p.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Drain() {
				if s.Name == "iq" && s.Attr["type"] != "get" { // Jicofo asks what they can do
					t.Errorf("answered again: %s", s)
				}
			}
		}
	}, own, ejabberd, relay)
}

// The same client asks ten times at once: each request gets one answer, those over the bound at once.
func TestHeldTenTimes(t *testing.T) {
	t.Parallel()
	c := relay.start(t, setup{crashes: true})
	p := c.person("guest.meet.example.com")
	seen := map[string]int{}
	for i := range 10 {
		p.Sends(fmt.Sprintf("<iq type='set' id='ask%d' to='%s'>%s</iq>", i, domain, request(room, "", "")))
	}
	ctx, cancel := c.within()
	defer cancel()
	for n := range 10 {
		if n == 6 { // but for the four that are held, all have been answered
			c.eventually("the others are held", func() bool { return c.count(store.KindHeld, "") == 4 })
			c.forward(waitHold)
		}
		s, err := p.Await(ctx, func(s prosodytest.Stanza) bool { return s.Name == "iq" && strings.HasPrefix(s.Attr["id"], "ask") })
		if err != nil {
			t.Fatalf("%v, after %v", err, seen)
		}
		if seen[s.Attr["id"]]++; outcome(s) != "not-authorized host-absent" {
			t.Errorf("answered %s", s)
		}
	}
	if err := p.Sync(ctx); err != nil || len(seen) != 10 || len(p.Drain()) != 0 {
		t.Errorf("%v; answered %v", err, seen)
	}
}

// A token ends while its holder waits: the holder is told so when the host comes.
func TestTokenEndsWhileHeld(t *testing.T) {
	t.Parallel()
	c := relay.start(t, setup{crashes: true})
	c.halt()
	c.policy.WaitForHost = auth.MembersWait
	c.policy.VHosts["meet.example.com"].Issuers[0].Leeway = 0
	c.comesBack()
	late := c.person("meet.example.com")
	tok := mint(t, func(cl *token.Claims) { member(cl); cl.Expires = c.now().Add(waitHold / 2) })
	if got := late.asks(room, tok); got != "not-authorized host-absent" {
		t.Fatal(got)
	}
	answer := late.answerTo(request(room, tok, ""))
	c.eventually("held", func() bool { return c.count(store.KindHeld, "") == 1 })
	c.forward(waitHold / 2)
	c.person("meet.example.com").enters(room, mint(t, nil))
	if got := outcome(<-answer); got != "forbidden token-expired" {
		t.Errorf("got %s", got)
	}
	if got := c.sees(room).Affiliations[late.BareJID()]; got != "" {
		t.Errorf("is %s", got)
	}
}

// The server restarts while hundreds wait: usher forgets the clients that are gone, and serves those who come.
func TestServerRestartsWithManyWaiting(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true})
		const clients = 100
		var all []*person
		for range clients {
			all = append(all, c.person("guest.meet.example.com"))
		}
		for n, p := range all {
			for i := range 5 { // the first is answered
				if err := p.Send(fmt.Sprintf("<iq type='set' id='%d' to='%s'>%s</iq>", i, domain, request(fmt.Sprintf("r%d@%s", n%100, service), "", ""))); err != nil {
					t.Fatal(err)
				}
			}
			if (n+1)%25 == 0 { // not all at once: usher gives up a request that has to wait long for its turn
				c.eventually("all are held", func() bool { return c.count(store.KindHeld, "") == 4*(n+1) })
			}
		}
		n := c.log.FilterMessage("connected").Len()
		c.cable.Cut()
		c.cable.Mend()
		c.eventually("connected again", func() bool { return c.log.FilterMessage("connected").Len() > n })
		c.forward(waitHold)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for _, p := range all {
			seen := map[string]bool{}
			for range 5 {
				s, err := p.Await(ctx, func(s prosodytest.Stanza) bool { return s.Name == "iq" })
				if err != nil {
					t.Fatalf("%s: %v, after %v", p.JID(), err, seen)
				}
				if got := outcome(s); seen[s.Attr["id"]] || got != "not-authorized host-absent" {
					t.Errorf("answered %s; before: %v", s, seen)
				}
				seen[s.Attr["id"]] = true
			}
		}
		c.eventually("nothing is written down any more", func() bool { return c.count(store.KindHeld, "") == 0 })
		// And with those waiting who go with the server. Those told to wait too long ago are told again at first.
		for i, p := range all[:100] {
			for range 2 {
				p.Sends(fmt.Sprintf("<iq type='set' id='again' to='%s'>%s</iq>", domain, request(fmt.Sprintf("r%d@%s", i, service), "", "")))
			}
		}
		c.eventually("they are held", func() bool { return c.count(store.KindHeld, "") > 50 })
		n = c.log.FilterMessage("connected").Len()
		if err := c.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		c.eventually("connected once more", func() bool { return c.log.FilterMessage("connected").Len() > n })
		c.forward(waitHold)
		c.person("meet.example.com").enters(room, mint(t, nil))
		c.eventually("nobody is held any more", func() bool { return c.count(store.KindHeld, "") == 0 })
	})
}
