package component_test

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
)

// A service that is an admin of the MUC service, like Jigasi in docker-jitsi-meet, is let in as the owner that it is, and is no host.
// The room cannot make it a member.
func TestServiceOfAdmin(t *testing.T) {
	t.Parallel()
	service := func(p *auth.Policy) { p.VHosts["users.example.com"] = auth.VHost{Kind: auth.KindService} }
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: service, server: passwords, admins: []string{"romeo@users.example.com"}})
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

// A host's request reaches Jicofo, which opens the room. The answer is Jicofo's, with what usher adds.
func TestRelay(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	host := b.person("meet.example.com")
	answer := host.iq("set", domain, request(room, mint(t, nil), ""))
	c := answer.Child("conference", nsFocus)
	if outcome(answer) != "ready" || c.Attr["focusjid"] == "" || c.Attr["session-id"] == "" || c.Attr["identity"] != "u1" ||
		!strings.Contains(answer.String(), "sipGatewayEnabled") {
		t.Errorf("answered %s", answer)
	}
	asked := b.jicofo.Requests()
	if len(asked) != 1 || asked[0].User != host.JID() || asked[0].Token != "" || asked[0].SessionID != "" || asked[0].MachineUID == "" {
		t.Errorf("Jicofo was asked %+v", asked)
	}
	view := b.sees(room)
	if !view.MembersOnly || view.Occupant(jicofoJID).Role != "moderator" || view.Affiliations[host.BareJID()] != "owner" {
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

// A service opens no room, and is let into one that is open.
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
