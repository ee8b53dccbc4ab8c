package component_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	prosodygate "github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = "focus.meet.example.com"
	service = "conference.meet.example.com"
	room    = "standup@" + service

	componentSecret = "a secret of the component, not short"

	// patience is how long a test waits for what must happen, on a machine with much else to do.
	patience = time.Minute
	// waitHold is how long requests are held, by usher's clock. That is longer than any test takes: see clock.
	waitHold = 10 * time.Minute
	// toJoin is for how long, by usher's clock, somebody who is let in may come; muc has it as joinWithin. Whatever usher does
	// from time to time in a room is due within it.
	toJoin = 30 * time.Second
)

// clock is usher's, and that of its store: the machine's, which a test sets forward where the end of something is to come. So
// nothing ends because the machine is slow.
type clock struct {
	ahead   atomic.Int64
	stopped atomic.Pointer[time.Time] // nil if it runs
}

func (c *clock) now() time.Time {
	at := time.Now()
	if stopped := c.stopped.Load(); stopped != nil {
		at = *stopped
	}
	return at.Add(time.Duration(c.ahead.Load()))
}

// stands has it go on by forward alone.
func (c *clock) stands() {
	now := time.Now()
	c.stopped.Store(&now)
}

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

var secret = []byte("a secret for tests, long enough!")

// config is the server's side of the gate, as operators are told to write it.
var config = prosodygate.Server{
	Domain: "focus.meet.example.com", Secret: componentSecret, Service: service,
	VHosts: []prosodygate.VHost{
		{Domain: "meet.example.com", Authentication: "anonymous"},
		{Domain: "guest.meet.example.com", Authentication: "anonymous"},
		{Domain: "recorder.meet.example.com", Authentication: "anonymous"},
		{Domain: "users.example.com"},
	},
}.Lua()

// gate is a server with usher beside it.
type gate struct {
	*prosodytest.Server
	t    *testing.T
	log  *observer.ObservedLogs
	stop context.CancelFunc
	done chan error
	n    atomic.Int64

	clock
	usher   *component.Component
	written store.Store              // usher's
	options func(*component.Options) // what is changed in them, if anything
	tune    func(*component.Component)
}

func start(t *testing.T, change ...func(*auth.Policy)) *gate {
	t.Helper()
	return startWith(t, config, change...)
}

func startWith(t *testing.T, config string, change ...func(*auth.Policy)) *gate {
	t.Helper()
	g := &gate{
		t: t,
		Server: prosodytest.Start(t, prosodytest.Options{
			Config: config,
			Users:  map[string]string{"romeo@users.example.com": "wherefore"},
		}),
	}
	g.run(policy(change...))
	return g
}

// policy is that of the tests. It panics where it cannot be made, since a process without a test makes it, too.
func policy(change ...func(*auth.Policy)) auth.Policy {
	source, err := keys.Secrets(secret)
	if err != nil {
		panic(err)
	}
	p := auth.Policy{
		Services: []string{service},
		VHosts: map[string]auth.VHost{
			"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{{
				Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"},
				Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Keys: source,
				RequireRoom: true, RequireExp: true, DomainVerification: true, Leeway: 10 * time.Second,
			}}},
			"guest.meet.example.com":    {Kind: auth.KindGuest},
			"recorder.meet.example.com": {Kind: auth.KindService},
			"users.example.com":         {Kind: auth.KindTrusted},
		},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

// options are those of usher beside the server with that component port.
func options(server string, p auth.Policy, log *zap.Logger) component.Options {
	return component.Options{
		Server: server, Domain: jid.MustParse(domain), Secret: []byte(componentSecret),
		Services: []jid.JID{jid.MustParse(service)}, Authorizer: auth.New(p), MembersOnly: true, WaitHold: waitHold, WaitHoldJitsi: waitHold,
		Store: store.Memory(store.Options{}), Version: "test", Log: log,
	}
}

// run starts usher and waits until it is connected.
func (g *gate) run(p auth.Policy) {
	g.t.Helper()
	g.runWith(p, componentSecret)
	g.logged("connected")
}

func (g *gate) runWith(p auth.Policy, secret string) {
	g.t.Helper()
	core, log := observer.New(zap.DebugLevel)
	g.log = log
	o := options(g.ComponentAddr, p, zap.New(core))
	o.Secret, o.Now, o.Store = []byte(secret), g.now, store.Memory(store.Options{Now: g.now})
	if g.options != nil {
		g.options(&o)
	}
	g.written = o.Store
	c, err := component.New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	g.usher = c
	if g.tune != nil {
		g.tune(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	g.stop, g.done = cancel, done
	g.t.Cleanup(func() {
		g.halt()
		if g.t.Failed() {
			var said strings.Builder
			for _, e := range log.All() {
				fmt.Fprintf(&said, "%s %s %v\n", e.Level, e.Message, e.ContextMap())
			}
			g.t.Logf("the end of usher's log:\n%s", prosodytest.Tail(said.String()))
		}
	})
}

// halt stops usher in good order, if it runs.
func (g *gate) halt() {
	g.stop()
	select {
	case err, ok := <-g.done:
		if ok && err != nil {
			g.t.Errorf("Run returned %v", err)
		}
		if ok {
			close(g.done)
		}
	case <-time.After(patience):
		g.t.Error("Run did not return")
	}
}

// eventually waits until ok, and fails the test if that takes too long.
func (g *gate) eventually(what string, ok func() bool) {
	g.t.Helper()
	deadline := time.After(patience)
	for pause := 5 * time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) { // to look costs time, too
		select {
		case <-time.After(pause):
		case <-deadline:
			g.t.Fatalf("did not happen: %s", what)
		}
	}
}

// inTime waits until ok, as eventually does, while usher's clock runs fast: it is for what usher does after some time. Nobody may be
// on the way into a room meanwhile, since the time to join passes, too.
func (g *gate) inTime(what string, ok func() bool) {
	g.t.Helper()
	g.eventually(what, func() bool { g.forward(5 * time.Second); return ok() })
}

// logged waits for a log entry and returns the newest.
func (g *gate) logged(message string) observer.LoggedEntry {
	g.t.Helper()
	g.eventually("log entry "+message, func() bool { return g.log.FilterMessage(message).Len() > 0 })
	all := g.log.FilterMessage(message).All()
	return all[len(all)-1]
}

func mint(t testing.TB, change func(*token.Claims)) string {
	t.Helper()
	c := token.Claims{
		Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup",
		Expires: time.Now().Add(time.Hour), User: token.User{ID: "u1", Affiliation: "owner"},
	}
	if change != nil {
		change(&c)
	}
	s, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func member(c *token.Claims) { c.User.Affiliation = "member" }

// person is a client with the words of a Jitsi client.
type person struct {
	*prosodytest.Client
	g    *gate
	nick string
}

func (g *gate) person(vhost string) *person {
	g.t.Helper()
	o := prosodytest.ClientOptions{Host: vhost}
	if vhost == "users.example.com" {
		o.User, o.Password = "romeo", "wherefore"
	}
	return &person{Client: g.Client(g.t, o), g: g, nick: fmt.Sprintf("nick%d", g.n.Add(1))}
}

func request(room, tok, rest string) string {
	if tok != "" {
		rest += " token='" + tok + "'"
	}
	return fmt.Sprintf("<conference xmlns='http://jitsi.org/protocol/focus' room='%s' machine-uid='0123456789abcdef0123456789abcdef' %s/>", room, rest)
}

// outcome is an answer in one word: "ready", "not ready", or the condition and reason code of the error.
func outcome(s prosodytest.Stanza) string {
	if c := s.Child("conference", "http://jitsi.org/protocol/focus"); !c.IsZero() && s.Attr["type"] == "result" {
		if c.Attr["ready"] == "true" {
			return "ready"
		}
		return "not ready"
	}
	return s.ErrorCondition() + " " + s.Find("reason", "urn:usher:0").Attr["code"]
}

// asks sends a conference request and returns its outcome.
func (p *person) asks(room, tok string) string {
	p.g.t.Helper()
	return outcome(p.iq("set", domain, request(room, tok, "")))
}

func (p *person) iq(typ, to, payload string) prosodytest.Stanza {
	p.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.IQ(ctx, typ, to, payload)
	if err != nil {
		p.g.t.Fatalf("%s asks %s: %v", p.JID(), to, err)
	}
	return s
}

// joins enters the room and returns affiliation and role of the own first presence, or the error's condition.
func (p *person) joins(room string) string {
	p.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.Join(ctx, room, p.nick)
	if err != nil {
		p.g.t.Fatalf("%s joins %s: %v", p.JID(), room, err)
	}
	if s.Attr["type"] == "error" {
		return s.ErrorCondition()
	}
	i := s.Find("item", "")
	return i.Attr["affiliation"] + " " + i.Attr["role"]
}

func (p *person) leaves(room string) {
	p.g.t.Helper()
	p.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'/>", room, p.nick))
	p.Receives(fmt.Sprintf("<presence type='unavailable' from='%s/%s'/>", room, p.nick))
}

// enters asks and joins, and fails the test unless both succeed.
func (p *person) enters(room, tok string) {
	p.g.t.Helper()
	if got := p.asks(room, tok); got != "ready" {
		p.g.t.Fatalf("%s asks to enter %s: %s", p.JID(), room, got)
	}
	if got := p.joins(room); !strings.Contains(got, " ") {
		p.g.t.Fatalf("%s joins %s: %s", p.JID(), room, got)
	}
}

func prosodyResource(r string) prosodytest.ClientOptions {
	return prosodytest.ClientOptions{Host: "meet.example.com", Resource: r}
}
