package component_test

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// Where a module is to keep strangers out and is not loaded, nobody is let in, and the log says what to do.
func TestUnguarded(t *testing.T) {
	t.Parallel()
	t.Run("before Jicofo", func(t *testing.T) {
		b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Open: true}})
		unguarded(t, b.gate)
	})
	t.Run("standalone", func(t *testing.T) {
		open := strings.ReplaceAll(config, "muc_room_default_members_only = true", "muc_room_default_members_only = false")
		g := &gate{t: t, Server: prosodytest.Start(t, prosodytest.Options{Config: open})}
		g.options = func(o *component.Options) { o.MembersOnly = false }
		g.run(policy())
		unguarded(t, g)
	})
}

func unguarded(t *testing.T, g *gate) {
	host := g.person("meet.example.com")
	for range 2 {
		if got := host.asks(room, mint(t, nil)); got != "not ready" {
			t.Errorf("the host is told %s", got)
		}
	}
	if said := g.logged("request").ContextMap(); said["reason"] != "room-unavailable" || !strings.Contains(said["error"].(string), "mod_muc_affiliated_only") {
		t.Errorf("the log says %v", said)
	}
}

// Where it is loaded, one stranger is turned away for all rooms.
func TestStrangerIsTurnedAway(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if _, err := module.Write(folder); err != nil {
		t.Fatal(err)
	}
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{
		Open: true, Modules: []string{module.Name}, PluginPaths: []string{folder},
	}})
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

// Where rooms begin as members-only and an owner opens one, it is not open for long.
func TestUnguardedLater(t *testing.T) {
	t.Parallel()
	open := func(o *component.Options) { o.MembersOnly = false }
	opens := func(t *testing.T, g *gate) {
		host, intruder := g.person("meet.example.com"), g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		for range 2 {
			g.configure(host, room, membersOnlyField, "0")
			g.inTime("the room is members-only again", func() bool { return g.configured(host, room, membersOnlyField) == "1" })
			intruder.out(room)
		}
		if said := g.logged("the room is made members-only").ContextMap(); !strings.Contains(said["error"].(string), "mod_muc_affiliated_only") {
			t.Errorf("the log says %v", said)
		}
	}
	t.Run("before Jicofo", func(t *testing.T) {
		opens(t, beforeJicofo(t, setup{options: open}).gate)
	})
	t.Run("standalone", func(t *testing.T) {
		g := &gate{t: t, Server: prosodytest.Start(t, prosodytest.Options{Config: config}), options: open}
		g.run(policy())
		opens(t, g)
	})
}
