package component_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// asked waits until Jicofo has seen so many requests.
func (g *gate) asked(n int) []prosodytest.JicofoRequest {
	g.t.Helper()
	ctx, cancel := g.within()
	defer cancel()
	if err := g.jicofo.Await(ctx, func(all []prosodytest.JicofoRequest, _ []string) bool { return len(all) >= n }); err != nil {
		g.t.Fatal(err)
	}
	return g.jicofo.Requests()
}

// atJicofo has somebody ask for the room, and returns when Jicofo has the request. It answers once goesOn is called.
func (g *gate) atJicofo(p *person) (answer <-chan prosodytest.Stanza, goesOn func()) {
	g.t.Helper()
	until := make(chan struct{})
	g.jicofo.Behave(prosodytest.JicofoBehavior{Until: until})
	n := len(g.jicofo.Requests())
	answer = p.answerTo(request(room, "", ""))
	g.asked(n + 1)
	return answer, func() { close(until) }
}

// restarts has Jicofo come again, with that resource.
func (g *gate) restarts(resource string) {
	g.t.Helper()
	ctx, cancel := g.within()
	defer cancel()
	n := g.log.FilterMessage("Jicofo is online").Len()
	if err := g.jicofo.Restart(ctx, resource); err != nil {
		g.t.Fatal(err)
	}
	g.eventually("usher knows of the new Jicofo", func() bool { return g.log.FilterMessage("Jicofo is online").Len() > n })
}

// usher asks the Jicofo that is online, and nobody else: before or after usher, subscribed to by the operator or on request, after
// a restart of any of them.
func TestJicofoComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]setup{
		"subscribed by the operator": {away: true},
		"on request": {away: true, JitsiOptions: prosodytest.JitsiOptions{NotSubscribed: true},
			jicofo: func(o *prosodytest.JicofoOptions) { o.AcceptSubscriptions = true }},
	} {
		t.Run(name, func(t *testing.T) {
			b := beforeJicofo(t, s)
			host, tok := b.person("meet.example.com"), mint(t, nil)
			if got := host.asks(room, tok); got != "not ready" {
				t.Errorf("before Jicofo: %s", got)
			}
			if e := b.logged("request"); e.ContextMap()["reason"] != "focus-unavailable" || !strings.Contains(fmt.Sprint(e.ContextMap()["error"]), "no Jicofo is online") {
				t.Errorf("logged %v", e.ContextMap())
			}
			b.comes()
			if got := host.asks(room, tok); got != "ready" {
				t.Errorf("with Jicofo: %s", got)
			}
			gone := b.log.FilterMessage("Jicofo went offline").Len()
			b.jicofo.Close()
			b.eventually("usher knows that it went", func() bool { return b.log.FilterMessage("Jicofo went offline").Len() > gone })
			if got := host.asks(other, mint(t, forRoom("retro"))); got != "not ready" {
				t.Errorf("after Jicofo: %s", got)
			}
			b.restarts("another")
			if got := host.asks(room, tok); got != "ready" {
				t.Errorf("with the new one: %s", got)
			}
			// usher comes back to a Jicofo that is online.
			b.halt()
			b.comesBack()
			if got := host.asks(room, tok); got != "ready" {
				t.Errorf("after usher has come back: %s", got)
			}
			// The whole server, with all in it.
			ctx, cancel := b.within()
			defer cancel()
			if err := b.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			b.eventually("connected again", func() bool { return b.log.FilterMessage("connected").Len() > 1 })
			host = b.person("meet.example.com")
			if got := host.asks(room, tok); got != "not ready" {
				t.Errorf("after the server has come back, without Jicofo: %s", got)
			}
			b.restarts("third")
			if got := host.asks(room, tok); got != "ready" {
				t.Errorf("after all have come back: %s", got)
			}
		})
	}
}

// Of several resources the newest is asked, not the rest of a Jicofo that broke down. When the newest goes, the other is asked.
// Stream management gives up a killed one, and what was sent to it is not answered.
func TestSeveralJicofos(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Hibernation: time.Second}})
	host, tok := b.person("meet.example.com"), mint(t, nil)
	first := b.jicofo
	first.Behave(prosodytest.JicofoBehavior{Silent: true})
	n := b.log.FilterMessage("Jicofo is online").Len()
	o := prosodytest.JitsiOptions{}.Jicofo()
	o.Resource = "second"
	second := b.Jicofo(t, o)
	b.eventually("usher knows of the second", func() bool { return b.log.FilterMessage("Jicofo is online").Len() > n })
	if got := host.asks(room, tok); got != "ready" || len(first.Requests()) != 0 {
		t.Errorf("%s; the first was asked %v", got, first.Requests())
	}
	first.Behave(prosodytest.JicofoBehavior{})
	second.Kill()
	if got := host.asks(other, mint(t, forRoom("retro"))); got != "ready" || len(first.Requests()) != 1 {
		t.Errorf("%s; the first was asked %v", got, first.Requests())
	}
	first.Kill()
	if got := host.asks("third@"+service, mint(t, forRoom("third"))); got != "not ready" {
		t.Errorf("none is left: %s", got)
	}
}

// For each answer of Jicofo: what the client is told, and whether an affiliation is left.
func TestJicofoAnswers(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	eve := b.Client(t, prosodytest.ClientOptions{Host: "guest.meet.example.com"})
	for i, tt := range []struct {
		name     string
		behavior prosodytest.JicofoBehavior
		want     string
		says     string // the answer has this in it
		granted  bool
	}{
		{"slow", prosodytest.JicofoBehavior{Delay: 200 * time.Millisecond}, "ready", "focusjid", true},
		{"twice and more", prosodytest.JicofoBehavior{Copies: 5}, "ready", "focusjid", true},
		{"not ready", prosodytest.JicofoBehavior{NotReady: true}, "not ready", "sipGatewayEnabled", false},
		{"not live", prosodytest.JicofoBehavior{NotLive: true}, "not ready", "live", false},
		{"on another node", prosodytest.JicofoBehavior{VNode: "v1"}, "ready", "vnode", false},
		{"an error", prosodytest.JicofoBehavior{Error: "not-acceptable"}, "not-acceptable focus-refused", "", false},
		{"shutting down", prosodytest.JicofoBehavior{Error: "service-unavailable"}, "not ready", "", false},
		{"forged before", prosodytest.JicofoBehavior{Forger: eve, NotReady: true}, "not ready", b.jicofo.BareJID(), false},
		{"forged, and an error", prosodytest.JicofoBehavior{Forger: eve, Error: "forbidden"}, "forbidden focus-refused", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.jicofo.Behave(tt.behavior)
			name := fmt.Sprintf("room%d", i)
			host := b.person("meet.example.com")
			answer := host.iq("set", domain, request(name+"@"+service, mint(t, forRoom(name)), ""))
			if got := outcome(answer); got != tt.want || !strings.Contains(answer.String(), tt.says) {
				t.Errorf("answered %s", answer)
			}
			if view := b.sees(name + "@" + service); (view.Affiliations[host.BareJID()] != "") != tt.granted {
				t.Errorf("the room is %s", view)
			}
			b.eventually("what is written down is what was given", func() bool {
				n := b.count(store.KindGrant, name+"@"+service+" "+host.BareJID()) + b.count(store.KindSession, `"Room":"`+name+`"`)
				return n == 2 && tt.granted || n == 0 && !tt.granted
			})
			// Nothing of it comes later.
			if err := host.Sync(t.Context()); err != nil {
				t.Error(err)
			}
			for _, s := range host.Drain() {
				t.Errorf("also received %s", s)
			}
		})
	}
}

// late is a store that writes nothing until it is told to.
type late struct {
	store.Store
	began chan struct{} // has an entry for each write that has begun
	goOn  chan struct{} // closed when they go on
}

func (l *late) Put(ctx context.Context, records ...store.Record) error {
	l.began <- struct{}{}
	<-l.goOn
	return l.Store.Put(ctx, records...)
}

// Nothing is given before it is written down.
func TestGivenOnceWritten(t *testing.T) {
	t.Parallel()
	l := &late{began: make(chan struct{}, 16), goOn: make(chan struct{})}
	b := beforeJicofo(t, setup{options: func(o *component.Options) { l.Store, o.Store = o.Store, l }})
	host := b.person("meet.example.com")
	answer := host.answerTo(request(room, mint(t, nil), ""))
	b.eventually("Jicofo has opened the room", func() bool { return b.sees(room).Exists })
	select {
	case <-l.began:
	case <-time.After(patience):
		t.Fatal("nothing is written")
	}
	select {
	case a := <-answer:
		t.Errorf("answered %s before anything is written down", a)
	default:
	}
	if got := b.sees(room).Affiliations[host.BareJID()]; got != "" {
		t.Errorf("is %s before that is written down", got)
	}
	close(l.goOn)
	if got := outcome(<-answer); got != "ready" {
		t.Errorf("got %s", got)
	}
	host.must("joins", host.joins(room), "owner moderator")
}

// Many ask for a new room at once: Jicofo sees one request at a time for it, everybody is answered, and another room does not
// wait.
func TestFirstRequestsOneAtATime(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	until := make(chan struct{})
	b.jicofo.Behave(prosodytest.JicofoBehavior{Until: until})
	var answers []<-chan prosodytest.Stanza
	for range 8 {
		answers = append(answers, b.person("meet.example.com").answerTo(request(room, mint(t, nil), "")))
	}
	b.asked(1)
	b.jicofo.Behave(prosodytest.JicofoBehavior{})
	if got := b.person("meet.example.com").asks(other, mint(t, forRoom("retro"))); got != "ready" {
		t.Errorf("the other room: %s", got)
	}
	if n := len(b.jicofo.Requests()); n != 2 {
		t.Errorf("Jicofo has seen %d requests, for two rooms", n)
	}
	close(until)
	for _, a := range answers {
		if got := outcome(<-a); got != "ready" {
			t.Errorf("got %s", got)
		}
	}
	if n := len(b.jicofo.Requests()); n != 9 {
		t.Errorf("Jicofo has seen %d requests", n)
	}
}

// Jicofo sees the token only with jicofo.forward_token, and never a session id.
func TestForwardToken(t *testing.T) {
	t.Parallel()
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprint(forward), func(t *testing.T) {
			b := beforeJicofo(t, setup{options: func(o *component.Options) { o.ForwardToken = forward }})
			host, tok := b.person("meet.example.com"), mint(t, nil)
			c := host.iq("set", domain, request(room, tok, "")).Child("conference", nsFocus)
			id := c.Attr["session-id"]
			if again := host.iq("set", domain, request(room, "", " session-id='"+id+"'")); id == "" || outcome(again) != "ready" {
				t.Errorf("by session: %s", again)
			}
			host.asks(room, tok)
			all := b.asked(3)
			for i, want := range []string{tok, "", tok} {
				if !forward {
					want = ""
				}
				if all[i].Token != want || all[i].SessionID != "" || strings.Contains(all[i].Stanza.String(), id) {
					t.Errorf("Jicofo was asked %+v", all[i])
				}
			}
		})
	}
}

// usher ignores the rooms of Jicofo's health checks.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	ctx, cancel := b.within()
	defer cancel()
	for range 3 {
		if err := b.jicofo.HealthCheck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	for _, e := range b.log.All() {
		if strings.Contains(fmt.Sprint(e.ContextMap()), "health-check") {
			t.Errorf("usher says %s %v", e.Message, e.ContextMap())
		}
	}
}

// Other requests of clients to Jicofo are passed on unchanged, and so are the answers. A request that usher cannot copy exactly is
// not, nor are those of strangers.
func TestPassedOn(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host := b.person("meet.example.com")
	// The stand-in understands none of these, and says so.
	answer := host.iq("get", domain, "<login-url xmlns='"+nsFocus+"' room='"+room+"' machine-uid='u'><extra a='&lt;1&gt;'>text</extra></login-url>")
	if got := answer.ErrorCondition(); got != "feature-not-implemented" {
		t.Errorf("login-url: %s", answer)
	}
	all := b.asked(1)
	if p := all[0].Stanza.Child("login-url", nsFocus); all[0].User != host.JID() || p.Attr["room"] != room || p.Child("extra", nsFocus).Text != "text" || p.Child("extra", nsFocus).Attr["a"] != "<1>" {
		t.Errorf("Jicofo sees %s", all[0].Stanza)
	}
	host.iq("set", domain, "<mute xmlns='http://jitsi.org/jitmeet/audio'>true</mute>")
	b.asked(2)
	for name, tt := range map[string]struct{ typ, payload string }{
		"a namespaced attribute": {"get", "<login-url xmlns='" + nsFocus + "' xmlns:j='urn:j' j:room='x'/>"},
		"too much":               {"get", "<login-url xmlns='" + nsFocus + "'>" + strings.Repeat("<x/>", 1000) + "</login-url>"},
		"far too much":           {"get", "<login-url xmlns='" + nsFocus + "'>" + strings.Repeat("<x/>", 10_000) + "</login-url>"},
		"two payloads":           {"get", "<login-url xmlns='" + nsFocus + "'/><login-url xmlns='" + nsFocus + "'/>"},
		"text after it":          {"get", "<login-url xmlns='" + nsFocus + "'/>text"},
		"a conference to get":    {"get", request(room, "", "")},
		"a logout to get":        {"get", "<logout xmlns='" + nsFocus + "' session-id='x'/>"},
		"no namespace of theirs": {"get", "<query xmlns='http://jitsi.example/'/>"},
	} {
		if answer := host.iq(tt.typ, domain, tt.payload); answer.Attr["type"] != "error" {
			t.Errorf("%s: %s", name, answer)
		}
	}
	stranger := &person{Client: b.Client(t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret"}), g: b}
	if answer := stranger.iq("get", domain, "<login-url xmlns='"+nsFocus+"'/>"); answer.ErrorCondition() != "service-unavailable" {
		t.Errorf("a stranger: %s", answer)
	}
	if got := b.jicofo.Requests(); len(got) != 2 {
		t.Errorf("Jicofo was asked also %s", got[2].Stanza)
	}
	b.jicofo.Close()
	b.logged("Jicofo went offline")
	if answer := host.iq("get", domain, "<login-url xmlns='"+nsFocus+"'/>"); answer.ErrorCondition() != "service-unavailable" {
		t.Errorf("without Jicofo: %s", answer)
	}
}

// Logging out ends the session. Jicofo never hears of it.
func TestLogoutBeforeJicofo(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host := b.person("meet.example.com")
	id := host.iq("set", domain, request(room, mint(t, nil), "")).Child("conference", nsFocus).Attr["session-id"]
	logout := "<logout xmlns='" + nsFocus + "' session-id='" + id + "'/>"
	if answer := host.iq("set", domain, logout); answer.Attr["type"] != "result" || answer.Child("logout", nsFocus).IsZero() {
		t.Errorf("logout: %s", answer)
	}
	for _, payload := range []string{logout, request(room, "", " session-id='"+id+"'")} {
		if answer := host.iq("set", domain, payload); answer.Find("session-invalid", nsFocus).IsZero() {
			t.Errorf("after it: %s", answer)
		}
	}
	if n := len(b.jicofo.Requests()); n != 1 {
		t.Errorf("Jicofo has seen %d requests", n)
	}
}

// For any resource of a client, Jicofo sees the sender's exact address, or nothing.
func TestOddResourcesBeforeJicofo(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	for _, resource := range []string{
		"a/b", "/", "a//b@c/d", "a b", "a  b ", "\u00a0", "a\u2003b", "\U0001F600", "e\u0301", "\u00e9", "\uff21", "@", "focus@auth.meet.example.com/jicofo",
		"&lt;&amp;&quot;", "\u202egnp", strings.Repeat("x", 300), strings.Repeat("x", 1000), strings.Repeat("\u20ac", 333),
	} {
		ctx, cancel := b.within()
		c, err := b.Dial(ctx, prosodytest.ClientOptions{Host: "meet.example.com", Resource: resource})
		if err != nil {
			cancel()
			continue // the server has none of it
		}
		p := &person{Client: c, g: b}
		n := len(b.jicofo.Requests())
		got := p.asks(room, mint(t, nil))
		switch seen := b.jicofo.Requests()[n:]; {
		case got == "ready":
			// The test's client takes off white space around it.
			if len(seen) != 1 || strings.TrimSpace(seen[0].User) != p.JID() || seen[0].From != domain+"/"+seen[0].User {
				t.Errorf("%q: Jicofo sees %+v", p.JID(), seen)
			}
		case len(seen) != 0 || got != "bad-request request-malformed":
			t.Errorf("%q: %s, and Jicofo sees %v", p.JID(), got, seen)
		}
		_ = c.Close()
		cancel()
	}
	if got := b.person("meet.example.com").asks(room, mint(t, nil)); got != "ready" {
		t.Errorf("afterwards: %s", got)
	}
}

// Nobody else can pass for Jicofo, nor make usher believe that it is gone.
func TestPresenceOfOthers(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	eve := b.person("guest.meet.example.com")
	for _, typ := range []string{"", "type='unavailable'", "type='subscribe'", "type='subscribed'", "type='unsubscribed'", "type='error'", "type='probe'"} {
		eve.Sends("<presence to='" + domain + "' " + typ + "/>")
		eve.Sends("<presence to='focus@" + domain + "' " + typ + "/>")
	}
	o := &person{Client: b.Client(t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret", Resource: "jicofo"}), g: b}
	o.Sends("<presence to='" + domain + "'/>")
	o.Sends("<presence to='" + domain + "' type='subscribe'/>")
	host := b.person("meet.example.com")
	if got := host.asks(room, mint(t, nil)); got != "ready" || len(b.jicofo.Requests()) != 1 {
		t.Errorf("%s; Jicofo has seen %d requests", got, len(b.jicofo.Requests()))
	}
	if n := b.log.FilterMessage("Jicofo is online").Len(); n != 1 {
		t.Errorf("%d are online", n)
	}
	for _, p := range []*person{eve, o} {
		if err := p.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Drain() {
			if s.Name == "presence" && s.Attr["from"] == domain {
				t.Errorf("usher tells %s: %s", p.JID(), s)
			}
		}
	}
}

// Jicofo restarts during a request: the client is told to ask again, is given no affiliation, and people inside stay.
func TestJicofoRestartsInTheMiddle(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	b.jicofo.Behave(prosodytest.JicofoBehavior{Silent: true})
	n := len(b.jicofo.Requests())
	answer := guest.answerTo(request(room, "", ""))
	b.asked(n + 1)
	b.restarts("again")
	if got := outcome(<-answer); got != "not ready" {
		t.Errorf("got %s", got)
	}
	b.jicofo.Behave(prosodytest.JicofoBehavior{})
	b.nothingLeft(room, host)
	late := b.person("guest.meet.example.com")
	late.enters(room, "")
	b.nothingLeft(room, host, late)
}

// The host leaves between the decision and the affiliation: the guest waits, and keeps no affiliation.
func TestHostLeavesInTheMiddle(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	stays := b.person("meet.example.com")
	stays.enters(room, mint(t, member)) // so that the room does
	answer, goesOn := b.atJicofo(guest)
	b.stands() // the affiliation must not end only because nobody joins in time
	host.leaves(room)
	goesOn()
	if got := outcome(<-answer); got != "not-authorized host-absent" {
		t.Errorf("got %s", got)
	}
	b.eventually("nothing is left", func() bool { return b.sees(room).Affiliations[guest.BareJID()] == "" })
	if got := guest.joins(room); got != "registration-required" {
		t.Errorf("joins: %s", got)
	}
}

// The room is destroyed and made anew while a guest is let in: nobody enters by the decision for the old room.
func TestRoomMadeAnewInTheMiddle(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	answer, goesOn := b.atJicofo(guest)
	b.stands() // the affiliation must not end only because nobody joins in time
	host.destroys(room)
	goesOn()
	got := outcome(<-answer)
	if got == "ready" { // never: no host is inside
		t.Error("let in, and no host is inside")
	}
	b.eventually("nothing is left", func() bool { return b.sees(room).Affiliations[guest.BareJID()] == "" })
	b.jicofo.Behave(prosodytest.JicofoBehavior{})
	host.enters(room, mint(t, nil))
	if view := b.sees(room); !view.MembersOnly {
		t.Errorf("the new room is %s", view)
	}
	if got := guest.joins(room); got != "registration-required" {
		t.Errorf("joins: %s", got)
	}
	guest.enters(room, "")
	b.nothingLeft(room, host, guest)
}

// Somebody has taken Jicofo's nick: nobody new enters, and the nick opens no door.
func TestNickOfJicofo(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host, eve, guest := b.person("meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	if got := eve.asks(room, ""); got != "ready" {
		t.Fatal(got)
	}
	b.jicofo.Close()
	b.logged("Jicofo went offline")
	eve.nick = "focus"
	if got := eve.joins(room); got != "member participant" {
		t.Fatalf("eve joins as %s", got)
	}
	b.restarts("again")
	n := len(b.jicofo.Requests())
	answer := guest.answerTo(request(room, "", ""))
	b.asked(n + 1) // the new one, which cannot enter and says nothing
	b.restarts("once more")
	if got := outcome(<-answer); got != "not ready" {
		t.Errorf("asks to enter a room in which Jicofo is not: %s", got)
	}
	b.nothingLeft(room, host, eve)
	eve.leaves(room)
	guest.enters(room, "")
	b.nothingLeft(room, host, eve, guest)
	// A host is who is one, not who has the name of one.
	host.leaves(room)
	eve.nick = host.nick
	eve.joins(room)
	if got := b.person("guest.meet.example.com").asks(room, ""); got != "not-authorized host-absent" {
		t.Errorf("with a namesake of the host: %s", got)
	}
}

// Hosts and guests come and go at once. In the end everybody inside was let in, and nobody else has an affiliation.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{options: func(o *component.Options) { o.WaitHold = 300 * time.Millisecond }})
	first, resident := b.person("meet.example.com"), b.person("meet.example.com")
	first.enters(room, mint(t, nil))
	resident.enters(room, mint(t, member)) // so that the room stays
	first.leaves(room)
	var all sync.WaitGroup
	people := []*person{first, resident}
	for i := range 8 {
		p, tok := b.person("guest.meet.example.com"), ""
		if i < 2 {
			p, tok = b.person("meet.example.com"), mint(t, func(c *token.Claims) { c.User.ID = fmt.Sprint("host", i) })
		}
		people = append(people, p)
		all.Go(func() {
			for n := range 4 {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				s, err := p.IQ(ctx, "set", domain, request(room, tok, ""))
				if err == nil && outcome(s) == "ready" {
					s, err = p.Join(ctx, room, p.nick)
					if err == nil && s.Attr["type"] != "error" && n < 3 {
						err = p.Send("<presence type='unavailable' to='" + room + "/" + p.nick + "'/>")
						if err == nil {
							_, err = p.Await(ctx, func(s prosodytest.Stanza) bool {
								return s.Attr["type"] == "unavailable" && s.Attr["from"] == room+"/"+p.nick
							})
						}
					}
				}
				if cancel(); err != nil {
					t.Errorf("%s: %v", p.JID(), err)
					return
				}
			}
		})
	}
	all.Wait()
	b.nothingLeft(room, people...)
	for _, o := range b.sees(room).Occupants {
		if o.Role == "moderator" && !strings.HasSuffix(strings.Split(o.JID, "/")[0], "@meet.example.com") && !strings.HasPrefix(o.JID, "focus@auth.") {
			t.Errorf("%s is %s", o.JID, o.Role)
		}
	}
}
