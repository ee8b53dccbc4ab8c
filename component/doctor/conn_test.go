package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// connected runs a conn for the time of the test; ended gets what run returned.
func connected(t *testing.T, config string) (c *conn, server *prosodytest.Server, ended chan error) {
	t.Helper()
	server = prosodytest.Start(t, prosodytest.Options{Config: `
		VirtualHost "example.com"
		  authentication = "anonymous"
		Component "focus.example.com"
		  component_secret = "secret"
		` + config})
	c, err := dial(t.Context(), server.ComponentAddr, jid.MustParse("focus.example.com"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() { ended <- c.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return c, server, ended
}

// A conn admits nobody, and leaves no client waiting.
func TestConnAnswers(t *testing.T) {
	_, server, _ := connected(t, "")
	guest := server.Client(t, prosodytest.ClientOptions{Host: "example.com"})
	for payload, want := range map[string]string{
		"<ping xmlns='urn:xmpp:ping'/>":                                    "result",
		"<conference xmlns='http://jitsi.org/protocol/focus' room='r@c'/>": "code='stopping'",
		"text<a/>": "code='stopping'",
		"<query xmlns='http://jabber.org/protocol/disco#info'/>": "service-unavailable",
	} {
		answer, err := guest.IQ(t.Context(), "set", "focus.example.com", payload)
		if err != nil || !strings.Contains(answer.String(), want) {
			t.Errorf("%s: %s %v", payload, answer, err)
		}
	}
}

// The latest presences are kept until somebody awaits them, and await finds the right one among others.
func TestConnAwaits(t *testing.T) {
	c, server, _ := connected(t, "")
	guest := server.Client(t, prosodytest.ClientOptions{Host: "example.com"})
	const n = 1500
	for i := range n {
		guest.Sends(fmt.Sprintf("<presence to='u%d@focus.example.com'/>", i))
	}
	to := func(i int) func(presence) bool {
		return func(p presence) bool { return p.to.Localpart() == fmt.Sprintf("u%d", i) }
	}
	for _, i := range []int{n - 1, n - 2, n - 1000} {
		if p, err := c.await(t.Context(), to(i)); err != nil || p.from.String() != guest.JID() {
			t.Errorf("%d: %v %v", i, p, err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.await(over, to(n-1)); !errors.Is(err, context.Canceled) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := c.await(over, to(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("the first of too many is still there: %v", err)
	}
}

// Somebody who sends many presences pushes out none but their own, whether they come before the doctor waits for another one or after.
func TestConnKeepsOthers(t *testing.T) {
	c, _, _ := connected(t, "")
	room := func(p presence) bool { return p.from.Domainpart() == "conference.example.com" }
	floods := func() {
		for range 3 * maxHeard {
			c.hear(presence{from: jid.MustParse("guest@example.com/1"), to: c.domain})
		}
	}
	says := func() { c.hear(presence{from: jid.MustParse("room@conference.example.com/doctor"), to: c.domain}) }
	says()
	floods()
	if _, err := c.await(t.Context(), room); err != nil {
		t.Error(err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := c.await(t.Context(), room)
		waits <- err
	}()
	floods()
	says()
	floods()
	if err := <-waits; err != nil {
		t.Error(err)
	}
	if len(c.heard) != maxHeard || len(c.of) != 1 || c.of["example.com"] != maxHeard {
		t.Errorf("%d are kept, %v", len(c.heard), c.of)
	}
}

// A room's answer that comes after the doctor has given up waiting is not taken for that to the next try.
func TestJoinHearsItsAnswer(t *testing.T) {
	c, _, _ := connected(t, `Component "conference.example.com" "muc"`)
	x := &examination{conn: c, stranger: jid.MustParse("stranger@focus.example.com/doctor")}
	room := jid.MustParse("room@conference.example.com")
	c.hear(presence{id: "earlier", from: nick(room, x.stranger), to: x.stranger, typ: "error", err: &stanza.Error{Condition: stanza.RegistrationRequired}})
	if _, err := x.join(t.Context(), room, x.stranger); err != nil {
		t.Error(err)
	}
}

// When the stream ends, every call that waits returns, and Err says why.
func TestConnEnds(t *testing.T) {
	c, server, ended := connected(t, `component_conflict_resolve = "kick_old"`)
	if c.Err() != nil {
		t.Error(c.Err())
	}
	waits := make(chan error, 1)
	go func() {
		_, err := c.await(context.Background(), func(presence) bool { return false })
		waits <- err
	}()
	server.Component(t, "focus.example.com", "secret")
	if err := <-waits; err == nil || !errors.Is(c.Err(), xmppstream.Conflict) {
		t.Errorf("%v, %v", err, c.Err())
	}
	if err := c.IQ(t.Context(), stanza.IQ{Type: stanza.GetIQ, To: jid.MustParse("example.com")}, nil, nil); err == nil {
		t.Error("an answer from nowhere")
	}
	if err := <-ended; !errors.Is(err, xmppstream.Conflict) {
		t.Errorf("run: %v", err)
	}
}
