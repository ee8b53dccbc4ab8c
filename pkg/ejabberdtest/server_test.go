package ejabberdtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = "focus.meet.example.com"
	service = "conference.meet.example.com"
	room    = "standup@" + service
)

var server = gate.Server{
	Domain: domain, Secret: "a secret of the component", Service: service,
	VHosts: []gate.VHost{{Domain: "meet.example.com", Authentication: "anonymous"}, {Domain: "users.example.com"}},
}

func options() ejabberdtest.Options {
	return ejabberdtest.Options{
		Configure: func(s *prosodytest.Server) string { return server.YAML(s.ComponentAddr) },
		Users:     map[string]string{"romeo@users.example.com": "wherefore"},
	}
}

// People log in by all ways, a component connects, and the observer sees a room and its end. After a restart all this works again.
func TestServer(t *testing.T) {
	s := ejabberdtest.Start(t, options())
	if !strings.HasPrefix(s.Version(), "2") {
		t.Errorf("the version is %q", s.Version())
	}
	observer := ejabberdtest.Observe(s)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		usher := s.Component(t, domain, server.Secret)
		juliet := s.Client(t, prosodytest.ClientOptions{Host: "meet.example.com", Transport: prosodytest.WebSocket})
		romeo := s.Client(t, prosodytest.ClientOptions{Host: "users.example.com", User: "romeo", Password: "wherefore"})
		for _, c := range []*prosodytest.Client{juliet, romeo} {
			if err := c.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
		juliet.Sends("<message to='" + domain + "'><body>Hello</body></message>")
		usher.Receives("<message from='" + juliet.JID() + "'><body>Hello</body></message>")

		usher.Sends("<presence from='focus@" + domain + "/usher' to='" + room + "/focus'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
		usher.Receives("<presence from='" + room + "/focus'><x xmlns='http://jabber.org/protocol/muc#user'><status code='201'/></x></presence>")
		v, err := observer.Room(ctx, room)
		if err != nil || !v.Exists || !v.MembersOnly || v.Occupant("focus@"+domain).Role != "moderator" {
			t.Errorf("the observer sees %s, %v", v, err)
		}
		if got, err := juliet.Join(ctx, room, "juliet"); err != nil || got.ErrorCondition() != "registration-required" {
			t.Errorf("somebody without an affiliation joins: %s, %v", got, err)
		}
		usher.Sends("<presence from='focus@" + domain + "/usher' to='" + room + "/focus' type='unavailable'/>")
		usher.Receives("<presence from='" + room + "/focus' type='unavailable'/>")
		for v.Exists && ctx.Err() == nil {
			if v, err = observer.Room(ctx, room); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := usher.Err(); err == nil {
			t.Error("the component is still connected")
		}
	}
}

// A server that was closed leaves nothing behind, neither a folder nor a process nor epmd.
func TestClose(t *testing.T) {
	ejabberdtest.Start(t, options()).Kill() // skips without ejabberd
	s, err := ejabberdtest.Run(t.Context(), options())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	for _, env := range processes(t) {
		if strings.Contains(env, s.Dir) {
			t.Errorf("a process is left: %q", env)
		}
	}
}

// processes are the environments of all processes that this one may read.
func processes(t *testing.T) (all []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if env, err := os.ReadFile(name); err == nil {
			all = append(all, string(env))
		}
	}
	return all
}

func TestConfigurationIsWrong(t *testing.T) {
	ejabberdtest.Start(t, options()).Kill()
	o := options()
	o.Configure = func(*prosodytest.Server) string { return "modules: 5\n" }
	s, err := ejabberdtest.Run(t.Context(), o)
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "Invalid value of option modules") {
		t.Errorf("got %v", err)
	}
}

// A port that another process takes before ejabberd listens is replaced by another one.
func TestPortTaken(t *testing.T) {
	o := options()
	configure, tries := o.Configure, 0
	o.Configure = func(s *prosodytest.Server) string {
		if tries++; tries == 1 {
			l, err := net.Listen("tcp", s.ComponentAddr)
			if err != nil {
				t.Error(err)
				return ""
			}
			t.Cleanup(func() { l.Close() })
		}
		return configure(s)
	}
	if ejabberdtest.Start(t, o); tries != 2 {
		t.Errorf("%d tries", tries)
	}
}
