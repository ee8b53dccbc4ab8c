package component_test

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// If the module that keeps strangers out is not loaded, nobody is let in, and the log says what to do.
func TestUnguarded(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{JitsiOptions: prosodytest.JitsiOptions{Open: true}})
		host := g.person("meet.example.com")
		for range 2 {
			if got := host.asks(room, mint(t, nil)); got != "not ready" {
				t.Errorf("the host is told %s", got)
			}
		}
		if said := g.logged("request").ContextMap(); said["reason"] != "room-unavailable" || !strings.Contains(said["error"].(string), "mod_usher") {
			t.Errorf("the log says %v", said)
		}
	}, own, relay)
}

// If it is loaded, but was not told which component is usher, usher tries with one stranger for all rooms.
func TestStrangerIsTurnedAway(t *testing.T) {
	t.Parallel()
	o := keptOutByModule(t, prosodytest.JitsiOptions{})
	o.Global = ""
	b := beforeJicofo(t, setup{JitsiOptions: o})
	host := b.person("meet.example.com")
	for _, name := range []string{room, "other@" + service} {
		if got := host.asks(name, mint(t, func(c *token.Claims) { c.Room = "*" })); got != "ready" {
			t.Fatalf("the host is told %s", got)
		}
		if v := b.sees(name); v.MembersOnly || len(v.Occupants) != 1 {
			t.Errorf("the room is %s", v)
		}
	}
	if n := strings.Count(b.Log(), "from='stranger@"); n != 1 {
		t.Errorf("tried %d times", n)
	}
}

// Rooms begin as members-only, and an owner opens one: usher closes it again.
func TestUnguardedLater(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{options: func(o *component.Options) { o.MembersOnly = false }})
		host, intruder := g.person("meet.example.com"), g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		for range 2 {
			g.configure(host, room, membersOnlyField, "0")
			g.inTime("the room is members-only again", func() bool { return g.configured(host, room, membersOnlyField) == "1" })
			intruder.out(room)
		}
		if said := g.logged("the room is made members-only").ContextMap(); !strings.Contains(said["error"].(string), "mod_usher") {
			t.Errorf("the log says %v", said)
		}
	}, own, ejabberd, relay)
}
