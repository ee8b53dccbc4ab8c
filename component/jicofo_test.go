package component_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// before is usher before a Jicofo, on a server as it is under a Jitsi Meet.
type before struct {
	*gate
	jicofo   *prosodytest.Jicofo
	observer *prosodytest.Observer
	store    store.Store // outlives usher
}

// setup is what a test changes of that.
type setup struct {
	prosodytest.JitsiOptions
	server  func(*prosodytest.Options)
	jicofo  func(*prosodytest.JicofoOptions)
	options func(*component.Options)
	policy  func(*auth.Policy)
	tune    func(*component.Component)
	away    bool // Jicofo is not there yet
}

// beforeJicofo starts a server, Jicofo and usher, and returns when a request would be answered.
func beforeJicofo(t *testing.T, s setup) *before {
	t.Helper()
	s.Secret = componentSecret
	server := s.Options()
	if s.server != nil {
		s.server(&server)
	}
	b := &before{
		gate: &gate{t: t, Server: prosodytest.Start(t, server)},
	}
	b.tune = s.tune
	b.store = store.Memory(store.Options{Now: b.now})
	t.Cleanup(func() { b.store.Close() })
	b.observer = b.Observe(t, s.Observer())
	b.gate.options = func(o *component.Options) {
		o.Jicofo, o.GuardInterval, o.Store = jid.MustParse("focus@auth.meet.example.com"), 500*time.Millisecond, b.store
		o.MembersOnly = !s.Open
		if s.Lobby {
			o.Lobby = jid.MustParse("lobby.meet.example.com")
		}
		if s.options != nil {
			s.options(o)
		}
	}
	b.run(policy(func(p *auth.Policy) {
		p.Sessions = store.Sessions{Store: b.store}
		p.Lobby, p.LobbyBypass = s.Lobby, []auth.Affiliation{auth.Owner, auth.Member}
		if s.Breakout {
			p.Breakout = "breakout.meet.example.com"
		}
		if s.policy != nil {
			s.policy(p)
		}
	}))
	if !s.away {
		b.comes(s)
	}
	return b
}

// comes has Jicofo come, and returns when usher knows.
func (b *before) comes(s setup) {
	b.t.Helper()
	o := s.Jicofo()
	if s.jicofo != nil {
		s.jicofo(&o)
	}
	b.jicofo = b.Jicofo(b.t, o)
	b.logged("Jicofo is online")
}

// sees is what the observer sees of a room.
func (b *before) sees(room string) prosodytest.RoomView {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	v, err := b.observer.Room(ctx, room)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// Somebody of a service who is an admin of Prosody's, as Jigasi is in docker-jitsi-meet, is let in although the room cannot make
// them a member, as the owner that they are, and is no host.
func TestServiceOfAdmin(t *testing.T) {
	t.Parallel()
	service := func(p *auth.Policy) { p.VHosts["users.example.com"] = auth.VHost{Kind: auth.KindService} }
	const admin = "admins = { \"romeo@users.example.com\" }\n"
	for name, gate := range map[string]func(t *testing.T) *gate{
		"standalone": func(t *testing.T) *gate { return startWith(t, admin+config, service) },
		"Jicofo": func(t *testing.T) *gate {
			return beforeJicofo(t, setup{policy: service, server: func(o *prosodytest.Options) {
				o.Config = admin + o.Config + "\nVirtualHost \"users.example.com\"\n"
				o.Users["romeo@users.example.com"] = "wherefore"
			}}).gate
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate(t)
			jigasi, host, guest := g.person("users.example.com"), g.person("meet.example.com"), g.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			host.Drain()
			jigasi.enters(room, "")
			joined := host.Receives("<presence from='" + room + "/" + jigasi.nick + "'/>")
			if got := joined.Find("item", "").Attr["affiliation"]; got != "owner" {
				t.Errorf("the admin is %s", got)
			}
			host.leaves(room)
			if got := guest.asks(room, ""); got != "not-authorized host-absent" {
				t.Errorf("a guest with nobody but the service inside: %s", got)
			}
		})
	}
}

// A host's request reaches Jicofo, which opens the room; the answer is Jicofo's, with what usher adds.
func TestRelay(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host := b.person("meet.example.com")
	answer := host.iq("set", domain, request(room, mint(t, nil), ""))
	c := answer.Child("conference", "http://jitsi.org/protocol/focus")
	if outcome(answer) != "ready" || c.Attr["focusjid"] == "" || c.Attr["session-id"] == "" || c.Attr["identity"] != "u1" ||
		!strings.Contains(answer.String(), "sipGatewayEnabled") {
		t.Errorf("answered %s", answer)
	}
	asked := b.jicofo.Requests()
	if len(asked) != 1 || asked[0].User != host.JID() || asked[0].Token != "" || asked[0].SessionID != "" || asked[0].MachineUID == "" {
		t.Errorf("Jicofo was asked %+v", asked)
	}
	view := b.sees(room)
	if !view.MembersOnly || view.Occupant("focus@auth.meet.example.com").Role != "moderator" || view.Affiliations[host.BareJID()] != "owner" {
		t.Errorf("the room is %s", view)
	}
	if got := host.joins(room); got != "owner moderator" {
		t.Errorf("joins as %s", got)
	}
	guest := b.person("guest.meet.example.com")
	guest.enters(room, "")
	if a := b.sees(room).Affiliations[guest.BareJID()]; a != "member" {
		t.Errorf("the guest is %s", a)
	}
}

// A service has Jicofo open no room, and is let into one that is open.
func TestServiceBeforeJicofo(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{policy: func(p *auth.Policy) { p.VHosts["guest.meet.example.com"] = auth.VHost{Kind: auth.KindService} }})
	recorder, host := b.person("guest.meet.example.com"), b.person("meet.example.com")
	if got := recorder.asks(room, ""); got != "not-authorized host-absent" || len(b.jicofo.Requests()) != 0 {
		t.Errorf("recorder before anybody: %s, and Jicofo was asked %v", got, b.jicofo.Requests())
	}
	host.enters(room, mint(t, nil))
	recorder.enters(room, "")
	if a := b.sees(room).Affiliations[recorder.BareJID()]; a != "member" {
		t.Errorf("the recorder is %q", a)
	}
}
