package component_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// enforcing is a server with Jitsi's filter of recordings.
var enforcing = prosodytest.JitsiOptions{
	Auth: "jitsi-anonymous", GuestAuth: "jitsi-anonymous", AppID: "my_app", AppSecret: string(secret), AllowEmptyToken: true,
	Permissions: true, Jibri: true,
}

// layouts are the ways in which features of tokens come into the sessions of clients, each with how people log in.
func layouts(t *testing.T) map[string]setup {
	t.Helper()
	jitsi, byToken := enforcing, enforcing
	byToken.Auth = "token"
	return map[string]setup{
		"module":                 {JitsiOptions: keptOutByModule(t, jitsi)},
		"module, by token":       {JitsiOptions: keptOutByModule(t, byToken)},
		"by token, members-only": {JitsiOptions: byToken},
	}
}

// A token is verified once, by usher. Jitsi's provider, where it is kept, verifies it once more, in Lua.
func TestVerifications(t *testing.T) {
	t.Parallel()
	const people = 5
	for name, s := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counted := &countedKeys{}
			s.policy = func(p *auth.Policy) {
				issuer := &p.VHosts["meet.example.com"].Issuers[0]
				counted.KeySource, issuer.Keys = issuer.Keys, counted
			}
			g := relay.start(t, s)
			for n := range people {
				tok := mint(t, func(c *token.Claims) { c.ID = fmt.Sprint("token ", n) })
				g.shower("meet.example.com", tok).enters(room, tok)
			}
			byUsher, byProvider, kept := int(counted.asked.Load()), strings.Count(g.Log(), "verifies a token"), 0
			if s.Auth == "token" {
				kept = 1
			}
			if byUsher != people || byProvider != kept*people {
				t.Errorf("%d people: usher verified %d tokens, the provider %d", people, byUsher, byProvider)
			}
			row(t, fmt.Sprintf("verifications of a token a join, %s (%s)", s.Auth, name), float64(byUsher+byProvider)/people, "", atMost, float64(1+kept))
		})
	}
}

// countedKeys counts how often it is asked for keys: once for each token that is verified.
type countedKeys struct {
	auth.KeySource
	asked atomic.Int64
}

func (k *countedKeys) Keys(ctx context.Context, kid string) ([]auth.Key, error) {
	k.asked.Add(1)
	return k.KeySource.Keys(ctx, kid)
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

// A token that says recording: false is refused by Jitsi's filter, and so is everybody who loses the feature by a rule, whatever happens
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
			if featuresIn(t, relay.start(t, s), s.Open); s.Open {
				t.Run("standalone", func(t *testing.T) { featuresIn(t, own.start(t, s), true) })
			}
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
	check(comes(room, "meet.example.com", says("owner", nil)), "a host without a word about features", room, "recording", "both")
	check(comes(room, "meet.example.com", says("member", both)), "a member with both", room, "neither", "both")
	check(comes(room, "meet.example.com", says("member", nil)), "a member", room, "neither", "neither")
	check(comes(room, "meet.example.com", ""), "a guest among hosts", room, "neither", "neither")
	guest := comes(room, "guest.meet.example.com", "")
	check(guest, "a guest", room, "neither", "neither")

	// Who is made an owner by a host has what the host has, and no more than before when that is taken back. People without features of their
	// own, and Jicofo, pass nothing on.
	host.gives(room, guest.BareJID(), "owner")
	check(guest, "a guest made an owner by the host", room, "recording", "both")
	host.gives(room, guest.BareJID(), "member")
	check(guest, "a guest who is no owner any more", room, "neither", "neither")
	if enforced {
		g.operator().gives(room, guest.BareJID(), "owner")
		check(guest, "a guest made an owner by somebody without features", room, "neither", "")
	}

	// A lost connection that is resumed has what it had.
	again := comes(room, "meet.example.com", says("owner", both))
	again.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := again.Resume(ctx, says("owner", both)); err != nil {
		t.Fatal(err)
	}
	check(again, "a host who has resumed", room, "recording", "both")

	// A session counts as its token.
	upgraded := g.shower("guest.meet.example.com", "")
	second := g.shower("meet.example.com", says("owner", map[string]bool{"recording": true}))
	id := second.session(second.iq("set", domain, request(room, says("owner", map[string]bool{"recording": true}), "")))
	upgraded.must("shows the session", upgraded.shows(room, id), "ready")
	upgraded.must("joins", upgraded.joins(room), "owner moderator")
	check(upgraded, "somebody with the session", room, "recording", "both")

	// Where no rule is, tokens decide alone.
	check(comes(other, "meet.example.com", says("owner", nil)), "a host without a word about features", other, "both", "both")
	check(comes(other, "meet.example.com", says("owner", both)), "a host with both", other, "both", "both")
	check(comes(other, "meet.example.com", says("owner", map[string]bool{"recording": false, "livestreaming": true})), "a host without recording", other, "livestreaming", "livestreaming")

	// What the connection's token says does not count, if another one has been decided about.
	mixed := g.shower("meet.example.com", says("owner", both))
	mixed.enters(other, says("owner", map[string]bool{"recording": false}))
	check(mixed, "a host with two tokens", other, "neither", "both")
}

// Who is left to the lobby has what the token and the rule leave as well, and so has who waited. A breakout room leaves that as it is.
func TestFeaturesByOtherWays(t *testing.T) {
	t.Parallel()
	o := enforcing
	o.Lobby, o.NoDisplayNameCheck, o.Breakout = true, true, true
	g := relay.start(t, setup{JitsiOptions: keptOutByModule(t, o), policy: func(p *auth.Policy) {
		p.Rules = []auth.Rule{{Match: "*", Features: map[string]auth.FeatureRule{"recording": auth.FeatureNever}}}
	}})
	host, early := g.shower("meet.example.com", ""), g.person("guest.meet.example.com")
	held := g.waiting(early, room, "")
	tok := mint(t, func(c *token.Claims) { c.Features = map[string]bool{"recording": true, "livestreaming": true} })
	host.must("asks", host.asks(room, tok), "ready")
	host.must("joins", host.named(room), "owner moderator")
	g.told(held, "ready")
	early.must("joins", early.named(room), "member participant")

	g.switches(host, true)
	late := g.person("guest.meet.example.com")
	late.must("asks", late.asks(room, ""), "ready")
	late.must("knocks", late.named(room), knock)
	host.opensTo(late, room)
	late.must("joins", late.named(room), "member participant")
	for _, p := range []*person{early, late} {
		p.must("may begin", p.may(room), "neither")
		g.operator().gives(room, p.BareJID(), "owner") // and passes no features on
		p.must("may begin as an owner", p.may(room), "neither")
	}

	aside := host.adds("aside")
	host.must("asks for the breakout room", host.asks(aside, ""), "ready")
	host.must("may begin", host.may(room), "livestreaming")
}

// Jitsi's plugins find the user and the group of the token in the session, as with Jitsi's provider, and nothing by which another plugin could
// make a moderator.
func TestUserForPlugins(t *testing.T) {
	t.Parallel()
	const name = "prosodytest_sessions"
	folder := prosodyModule(t, name, `
module:hook("iq-get/host/urn:prosodytest:session", function (event)
	local s, json, st = event.origin, require "util.json", require "util.stanza";
	local all = { user = s.jitsi_meet_context_user, group = s.jitsi_meet_context_group, features = s.jitsi_meet_context_features };
	s.send(st.reply(event.stanza):text_tag("session", json.encode_ordered(all), { xmlns = "urn:prosodytest" }));
	return true;
end);
`)
	o := enforcing
	o.PluginPaths, o.Modules = append(o.PluginPaths, folder), []string{name}
	g := relay.start(t, setup{JitsiOptions: keptOutByModule(t, o)})
	p := g.shower("meet.example.com", "")
	has := func(want string) {
		t.Helper()
		answer := p.iq("get", service, "<session xmlns='urn:prosodytest'/>")
		if got := strings.TrimSpace(answer.Child("session", "urn:prosodytest").Text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	has("{}")
	yes := true
	p.must("asks", p.asks(room, mint(t, func(c *token.Claims) {
		c.User = token.User{ID: "u1", Name: "Jürgen <b>&\"'", Email: "j@example.com", Avatar: "https://example.com/a?b&c", Affiliation: "owner", Moderator: &yes, HiddenFromRecorder: true}
		c.Group, c.Features = "team", map[string]bool{"recording": false, "flip": true}
	})), "ready")
	has(`{"features":{"flip":true,"recording":false},"group":"team","user":{"avatar":"https://example.com/a?b&c","email":"j@example.com","hidden-from-recorder":"true","id":"u1","name":"Jürgen <b>&\"'"}}`)
	p.must("asks with another token", p.asks(room, mint(t, func(c *token.Claims) { c.User = token.User{Affiliation: "member"} })), "ready")
	has("{}")
}
