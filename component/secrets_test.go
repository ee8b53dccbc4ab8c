package component_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/pkg/secrettest"
)

// plants has the gate's secrets planted, and listens to what its people say and are told.
func (g *gate) plants() {
	if g.secrets != nil {
		return
	}
	g.secrets = new(secrettest.Secrets)
	g.secrets.Plant("the secret of the component", componentSecret)
	g.secrets.Plant("the secret of the tokens", string(secret))
	g.secrets.Plant("a machine-uid", machine)
	g.Tap(g.secrets.Tap)
}

// keepsSecrets fails the test if a secret is in usher's log, or in what people have received.
func (g *gate) keepsSecrets(log *observer.ObservedLogs) {
	g.t.Helper()
	g.secrets.Check(g.t, "usher's log", inWords(log))
	g.secrets.Check(g.t, "what usher reports", g.reports.inWords())
	g.secrets.CheckTap(g.t)
}

// inWords is a log as text.
func inWords(log *observer.ObservedLogs) string {
	var said strings.Builder
	for _, e := range log.All() {
		fmt.Fprintf(&said, "%s %s %v\n", e.Level, e.Message, e.ContextMap())
	}
	return said.String()
}

// TestSecretsAreFound shows that every test of a gate fails if usher logs or answers a secret: that of the component, of tokens, the
// token of somebody who asks, their session, their machine-uid.
func TestSecretsAreFound(t *testing.T) {
	g := start(t)
	tok := mint(t, nil)
	host := g.person("meet.example.com")
	session := host.session(host.with(room, fmt.Sprintf("machine-uid='the-machine-of-the-host' token='%s'", tok)))
	for what, private := range map[string]string{
		"the secret of the component": componentSecret, "the secret of the tokens": string(secret), "a token": tok, "a session": session,
		"a machine-uid": "the-machine-of-the-host",
	} {
		core, log := observer.New(zap.DebugLevel)
		zap.New(core).With(zap.String("room", room)).Info("refused", zap.Error(errors.New("reading "+private+": not valid")))
		if found, _ := g.secrets.Find(inWords(log)); found == "" {
			t.Errorf("%s is logged, and not found:\n%s", what, inWords(log))
		}
	}
	if found, line := g.secrets.Find(inWords(g.log)); found != "" {
		t.Errorf("%s: %s", found, line)
	}
	// The tap hears this as an answer, and the machine-uid is another one's.
	host.Sends("<message to='" + host.JID() + "'><body>the-machine-of-the-host</body></message>")
	host.Receives("<message><body>the-machine-of-the-host</body></message>")
	r := &recorder{TB: t}
	g.secrets.CheckTap(r)
	if r.errors != 1 {
		t.Errorf("%d findings in answers", r.errors)
	}
}

// recorder is a test that may fail without this one failing.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Error(...any) { r.errors++ }
