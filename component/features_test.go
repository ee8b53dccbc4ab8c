package component_test

import (
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// layouts are the ways in which features of tokens come into the sessions of clients, each with how people log in.
func layouts(t *testing.T) map[string]setup {
	t.Helper()
	jitsi := prosodytest.JitsiOptions{
		Auth: "jitsi-anonymous", GuestAuth: "jitsi-anonymous", AppID: "my_app", AppSecret: string(secret), AllowEmptyToken: true,
		Permissions: true, Jibri: true,
	}
	byToken := jitsi
	byToken.Auth = "token"
	return map[string]setup{
		"module":                 {JitsiOptions: keptOutByModule(t, jitsi)},
		"module, by token":       {JitsiOptions: keptOutByModule(t, byToken)},
		"by token, members-only": {JitsiOptions: byToken},
	}
}

// shower is a client that connects with a token, as Jitsi's does.
func (g *gate) shower(host, tok string) *person {
	g.t.Helper()
	o := prosodytest.ClientOptions{Host: host, Token: tok, Room: "standup", Transport: prosodytest.WebSocket, Resumable: true}
	return &person{Client: g.Client(g.t, o), g: g, nick: g.newNick()}
}

// may says which of recording and livestreaming Jitsi's filter lets somebody begin in the room.
func (p *person) may(room string) string {
	p.g.t.Helper()
	var may string
	for mode, feature := range map[string]string{"file": "recording", "stream": "livestreaming"} {
		answer := p.iq("set", room+"/focus", "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='"+mode+"'/>")
		if answer.Attr["type"] == "error" && answer.ErrorCondition() == "forbidden" {
			continue
		}
		if may != "" {
			may = "both"
		} else {
			may = feature
		}
	}
	if may == "" {
		may = "neither"
	}
	return may
}

// A token that says recording: false is refused by Jitsi's filter, and so is everybody from whom a rule takes the feature, whatever happens
// inside. Without usher's module the features of the connection's token hold, and no rule does.
func TestFeatures(t *testing.T) {
	t.Parallel()
	for name, s := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.policy = func(p *auth.Policy) {
				v := p.VHosts["meet.example.com"]
				v.AllowEmptyToken = true
				p.VHosts["meet.example.com"] = v
				p.WaitForHost = auth.NobodyWaits
				p.Rules = []auth.Rule{{Match: "standup", Features: map[string]auth.FeatureRule{"recording": auth.FeatureOwners, "livestreaming": auth.FeatureNever}}}
			}
			featuresIn(t, beforeJicofo(t, s), s.Open)
		})
	}
}

func featuresIn(t *testing.T, g *gate, enforced bool) {
	t.Helper()
	says := func(affiliation string, features map[string]bool) string {
		return mint(t, func(c *token.Claims) { c.Room, c.User.Affiliation, c.Features = "*", affiliation, features })
	}
	both := map[string]bool{"recording": true, "livestreaming": true, "send-groupchat": true}
	comes := func(room, host, tok string) *person {
		p := g.shower(host, tok)
		p.enters(room, tok)
		return p
	}
	check := func(p *person, what, room, want, without string) {
		t.Helper()
		if !enforced {
			want = without
		}
		if got := p.may(room); got != want {
			t.Errorf("%s in %s: may begin %s, want %s", what, room, got, want)
		}
	}

	host := comes(room, "meet.example.com", says("owner", both))
	check(host, "a host with both", room, "recording", "both")
	check(comes(room, "meet.example.com", says("owner", map[string]bool{"recording": false})), "a host without", room, "neither", "neither")
	check(comes(room, "meet.example.com", says("owner", nil)), "a host of whom nothing is said", room, "recording", "both")
	check(comes(room, "meet.example.com", says("member", both)), "a member with both", room, "neither", "both")
	check(comes(room, "meet.example.com", says("member", nil)), "a member", room, "neither", "neither")
	check(comes(room, "meet.example.com", ""), "a guest among hosts", room, "neither", "neither")
	guest := comes(room, "guest.meet.example.com", "")
	check(guest, "a guest", room, "neither", "neither")

	// Who is made an owner by a host has what the host has, and no more than before when that is taken back. Jicofo, or whoever else has no
	// features of their own, passes nothing on.
	host.gives(room, guest.BareJID(), "owner")
	check(guest, "a guest whom the host has made an owner", room, "recording", "both")
	host.gives(room, guest.BareJID(), "member")
	check(guest, "a guest who is no owner any more", room, "neither", "neither")
	if enforced {
		g.operator().gives(room, guest.BareJID(), "owner")
		check(guest, "a guest whom somebody without features has made an owner", room, "neither", "")
	}

	// A session counts as its token.
	upgraded := g.shower("guest.meet.example.com", "")
	second := g.shower("meet.example.com", says("owner", map[string]bool{"recording": true}))
	id := second.session(second.iq("set", domain, request(room, says("owner", map[string]bool{"recording": true}), "")))
	upgraded.must("shows the session", upgraded.shows(room, id), "ready")
	upgraded.must("joins", upgraded.joins(room), "owner moderator")
	check(upgraded, "somebody with the session", room, "recording", "both")

	// Where no rule is, tokens decide alone.
	check(comes(other, "meet.example.com", says("owner", nil)), "a host of whom nothing is said", other, "both", "both")
	check(comes(other, "meet.example.com", says("owner", both)), "a host with both", other, "both", "both")
	check(comes(other, "meet.example.com", says("owner", map[string]bool{"recording": false, "livestreaming": true})), "a host without recording", other, "livestreaming", "livestreaming")

	// What the connection's token says does not count, if another one has been decided about.
	mixed := g.shower("meet.example.com", says("owner", both))
	mixed.enters(other, says("owner", map[string]bool{"recording": false}))
	check(mixed, "a host with two tokens", other, "neither", "both")
}
