package component_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// Every row of design's table of answers, as a client sees it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		p := g.person("meet.example.com")
		for name, tt := range map[string]struct {
			room, token, rest string
			want              string
		}{
			"expired":       {token: mint(t, func(c *token.Claims) { c.Expires = time.Now().Add(-time.Hour) }), want: "forbidden token-expired"},
			"another room":  {token: mint(t, func(c *token.Claims) { c.Room = "retro" }), want: "forbidden room-mismatch"},
			"malformed":     {token: "x.y", want: "forbidden token-malformed"},
			"no token":      {want: "not-authorized token-required"},
			"empty token":   {rest: "token=''", want: "not-authorized token-required"},
			"session":       {rest: "session-id='stale'", want: "not-acceptable session-invalid"},
			"unknown room":  {room: "standup@elsewhere.example", want: "forbidden room-unknown"},
			"room no JID":   {room: "@", want: "forbidden room-unknown"},
			"empty room":    {room: " ", want: "forbidden room-unknown"},
			"member enters": {token: mint(t, member), want: "ready"},
		} {
			t.Run(name, func(t *testing.T) {
				r := tt.room
				if r == "" {
					r = room
				}
				s := p.iq("set", domain, request(r, tt.token, tt.rest))
				if got := outcome(s); got != tt.want {
					t.Errorf("got %s, want %s\n%s", got, tt.want, s)
				}
				if c := s.ErrorCondition(); c != "" && s.ErrorText() == "" {
					t.Errorf("no text for the person: %s", s)
				}
				switch s.ErrorCondition() {
				case "forbidden":
					if s.Find("reservation-error", nsFocus).Attr["error-code"] != "403" {
						t.Errorf("a Jitsi client would not show the text: %s", s)
					}
				case "not-acceptable":
					if s.Find("session-invalid", nsFocus).IsZero() {
						t.Errorf("a Jitsi client would not drop its session: %s", s)
					}
				}
				if tt.token != "" && strings.Contains(s.String(), tt.token) {
					t.Errorf("the answer has the token in it")
				}
			})
		}
		for _, e := range g.log.All() {
			line := fmt.Sprint(e.Message, e.ContextMap())
			if tokenLike.MatchString(line) || strings.Contains(line, string(secret)) {
				t.Errorf("a token or secret in the log: %s", line)
			}
		}
	})
}

// What a component is asked beside conference requests.
func TestOtherRequests(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.person("guest.meet.example.com")
	info := p.iq("get", domain, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	if got := info.Find("identity", "").Attr["category"]; got != "component" {
		t.Errorf("identity: %s", info)
	}
	for _, f := range []string{"http://jabber.org/protocol/disco#info", "urn:xmpp:ping", "jabber:iq:version", nsFocus} {
		if ok, _ := info.Matches("<iq type='result'><query xmlns='http://jabber.org/protocol/disco#info'><feature var='" + f + "'/></query></iq>"); !ok {
			t.Errorf("feature %s is missing: %s", f, info)
		}
	}
	for name, tt := range map[string]struct{ typ, to, payload, want string }{
		"items":             {"get", domain, "<query xmlns='http://jabber.org/protocol/disco#items'/>", "result"},
		"ping":              {"get", domain, "<ping xmlns='urn:xmpp:ping'/>", "result"},
		"version":           {"get", domain, "<query xmlns='jabber:iq:version'/>", "result"},
		"a node":            {"get", domain, "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", "service-unavailable"},
		"set instead":       {"set", domain, "<ping xmlns='urn:xmpp:ping'/>", "service-unavailable"},
		"get instead":       {"get", domain, request(room, "", ""), "service-unavailable"},
		"vcard":             {"get", domain, "<vCard xmlns='vcard-temp'/>", "service-unavailable"},
		"to the focus user": {"get", "focus@" + domain, "<ping xmlns='urn:xmpp:ping'/>", "service-unavailable"},
		"request elsewhere": {"set", "focus@" + domain + "/usher", request(room, "", ""), "service-unavailable"},
		"login-url":         {"get", domain, "<login-url xmlns='http://jitsi.org/protocol/focus'/>", "service-unavailable"},
	} {
		s := p.iq(tt.typ, tt.to, tt.payload)
		if got := s.ErrorCondition(); got != tt.want && s.Attr["type"] != tt.want {
			t.Errorf("%s: %s", name, s)
		}
	}
	// No answer to what is an answer, a presence or a message.
	for _, x := range []string{
		"<iq type='result' to='" + domain + "' id='r'/>",
		"<iq type='error' to='" + domain + "' id='e'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
		"<presence to='focus@" + domain + "/usher'/>",
		"<presence type='subscribe' to='focus@" + domain + "'/>",
		"<message to='" + domain + "'><body>hello</body></message>",
		"<message type='error' to='focus@" + domain + "/usher'/>",
	} {
		p.Sends(x)
	}
	p.iq("get", domain, "<ping xmlns='urn:xmpp:ping'/>") // all of it has been read by now
	for _, s := range p.Drain() {
		if strings.HasSuffix(s.Attr["from"], domain) {
			t.Errorf("answered: %s", s)
		}
	}
}

// hostile are payloads of clients that attack usher. Prosody passes on all that is well-formed for expat.
var hostile = map[string]string{
	"two colons in a name":         "<p:a:b:c xmlns:p='urn:p'/>",
	"two colons in an attribute":   "<x xmlns='urn:x' xmlns:p='urn:p' p:a:b='1'/>",
	"colon at the end of a name":   "<p:a: xmlns:p='urn:p'/>",
	"text before the payload":      "text" + request(room, "", ""),
	"text after the payload":       request(room, "", "") + "text",
	"no room":                      "<conference xmlns='http://jitsi.org/protocol/focus'/>",
	"foreign room":                 "<conference xmlns='http://jitsi.org/protocol/focus' xmlns:p='urn:p' p:room='x'/>",
	"text in the conference":       "<conference xmlns='http://jitsi.org/protocol/focus' room='" + room + "'>text</conference>",
	"a prefix for everything":      "<j:conference xmlns:j='http://jitsi.org/protocol/focus' room='" + room + "'/>",
	"astral names":                 "<\U00010400 xmlns='urn:x'/>",
	"odd but legal characters":     request("a&#x85;b&#x2028;\ufdd0@"+service, "", ""),
	"a long attribute":             request(room, strings.Repeat("A", 100_000), ""),
	"many attributes":              "<conference xmlns='http://jitsi.org/protocol/focus' room='" + room + "'" + attributes(2000) + "/>",
	"deep":                         nested(60),
	"deeper":                       nested(500),
	"deep in the conference":       "<conference xmlns='http://jitsi.org/protocol/focus' room='" + room + "'>" + nested(40) + "</conference>",
	"large":                        "<conference xmlns='http://jitsi.org/protocol/focus' room='" + room + "'>" + strings.Repeat("<property name='a' value='b'/>", 5000) + "</conference>",
	"a forged stream error":        "<error xmlns='http://etherx.jabber.org/streams'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></error>",
	"a conference in a conference": "<conference xmlns='http://jitsi.org/protocol/focus' room='" + room + "'>" + request(room, "", "") + "</conference>",
	"not a JID":                    request("a@b@c/d", "", ""),
	"a room of 1023 bytes":         request(strings.Repeat("a", 1023)+"@"+service, "", ""),
	"a room of 1024 bytes":         request(strings.Repeat("a", 1024)+"@"+service, "", ""),
	"entities":                     request("&lt;&amp;&gt;&apos;&quot;@"+service, "", ""),
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d='x'", i)
	}
	return b.String()
}

func nested(n int) string {
	return strings.Repeat("<a xmlns='urn:a'>", n) + strings.Repeat("</a>", n)
}

// Nothing that a client sends ends usher's stream, delays others or goes unanswered.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		bystander := g.person("meet.example.com")
		for name, payload := range hostile {
			t.Run(name, func(t *testing.T) {
				// A client of its own: Prosody may end the stream of one that goes too far. White space follows, because
				// later versions of expat do not look at the end of a long tag before as much has come behind it.
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				p := g.person("guest.meet.example.com")
				if err := p.Send("<iq type='set' id='hostile' to='" + domain + "'>" + payload + "</iq>" + strings.Repeat(" ", len(payload))); err != nil {
					t.Fatal(err)
				}
				s, err := p.Await(ctx, func(s prosodytest.Stanza) bool { return s.Attr["id"] == "hostile" })
				if err == nil && s.Attr["type"] != "error" {
					t.Errorf("got %s", s)
				} else if err != nil && p.Err() == nil {
					t.Errorf("no answer: %v", err)
				}
				if got := bystander.asks(room, mint(t, nil)); got != "ready" {
					t.Errorf("a bystander: %s", got)
				}
			})
		}
		if n := g.log.FilterMessage("connected").Len(); n != 1 {
			t.Errorf("connected %d times", n)
		}
		if n := g.log.FilterMessage("a request caused a panic").Len(); n != 0 {
			t.Errorf("%d panics", n)
		}
	})
}

// A client with any resource is answered: usher takes the server's stamp as it is.
func TestOddResources(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		for _, r := range []string{"a b", "ﬁ", "²", "x\u0085y", "é", "𝕏", "<&>'\"", strings.Repeat("r", 1000)} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, err := g.Dial(ctx, prosodytest.ClientOptions{Host: "meet.example.com", Resource: r})
			if err != nil {
				continue // the server refuses it itself
			}
			p := &person{Client: c, g: g, nick: "odd"}
			if got := p.asks(room, mint(t, nil)); got != "ready" {
				t.Errorf("%q: %s", r, got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A nick that PRECIS refuses does not matter to usher.
func TestOddNicks(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		host := g.person("meet.example.com")
		host.nick = "²ﬁ"
		if got := host.asks(room, mint(t, nil)); got != "ready" {
			t.Fatal(got)
		}
		if got := host.joins(room); got != "owner moderator" {
			t.Fatal(got)
		}
		if got := g.person("guest.meet.example.com").asks(room, ""); got != "ready" {
			t.Errorf("guest: %s", got)
		}
	})
}

// A flood from one sender is bounded, and delays nobody else.
func TestFlood(t *testing.T) {
	t.Parallel()
	g := own.start(t, setup{config: config, options: func(o *component.Options) { o.WaitHold = time.Second }}) // those that are held are answered, too
	flooder, bystander := g.person("guest.meet.example.com"), g.person("meet.example.com")
	const n = 1000
	var answered sync.WaitGroup
	answered.Add(1)
	outcomes := map[string]int{}
	go func() {
		defer answered.Done()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for range n {
			s, err := flooder.Next(ctx)
			if err != nil {
				t.Errorf("after %v: %v", outcomes, err)
				return
			}
			outcomes[outcome(s)]++
		}
	}()
	for i := range n {
		// Each asks about a room that does not exist, which costs a question to the server.
		if err := flooder.Send(fmt.Sprintf("<iq type='set' to='%s' id='f%d'>%s</iq>", domain, i, request(room, "", ""))); err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 {
			if got := bystander.asks(room, mint(t, func(c *token.Claims) { c.Room = "retro" })); got != "forbidden room-mismatch" {
				t.Errorf("bystander: %s", got)
			}
		}
	}
	answered.Wait()
	// Where the machine is busy the room's answers to some come too late, and those are told to ask again.
	if outcomes["not-authorized host-absent"]+outcomes["resource-constraint too-many-requests"]+outcomes["not ready"] != n {
		t.Errorf("got %v", outcomes)
	}
	if got := bystander.asks(room, mint(t, nil)); got != "ready" {
		t.Errorf("bystander afterwards: %s", got)
	}
}

// The reasons that only the component gives are given. The others are rows of auth's table.
func TestComponentReasons(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		g := m.begin(t)
		p := g.person("guest.meet.example.com")
		if got := outcome(p.iq("set", domain, "<conference xmlns='http://jitsi.org/protocol/focus'/>")); got != "bad-request "+string(auth.ReasonRequestMalformed) {
			t.Error(got)
		}
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast' jid='"+guest.BareJID()+"'/></query>")
		guest.Receives("<presence type='unavailable' from='" + room + "/" + guest.nick + "'/>")
		g.eventually("the ban is known", func() bool { return guest.asks(room, "") == "forbidden "+string(auth.ReasonBanned) })
		host.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='none' jid='"+guest.BareJID()+"'/></query>")
		g.eventually("the ban is lifted", func() bool { return guest.asks(room, "") == "ready" })
	})
}

// A token that ends with the year 9999, leeway not included, gives a grant and a session that can be written down. One that was
// made in an hour, says a clock that is ahead, is let in, and the debug log says so.
func TestTimesOfTokens(t *testing.T) {
	t.Parallel()
	g := start(t)
	host := g.person("meet.example.com")
	host.enters(room, mint(t, func(c *token.Claims) {
		c.Expires = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		c.IssuedAt = time.Now().Add(time.Hour)
	}))
	e := g.logged("the token has claims that decided nothing and are odd")
	if e.Level != zapcore.DebugLevel || !strings.Contains(fmt.Sprint(e.ContextMap()["notes"]), "iat: in ") {
		t.Errorf("%s %v", e.Level, e.ContextMap())
	}
	if said := g.logged("request").ContextMap(); said["verdict"] != "allow" || said["notes"] != nil {
		t.Errorf("%v", said)
	}
}
