package auth_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	stores "github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/token"
)

type features = map[string]bool

// mayUse is what Jitsi's plugins make of a table, as is_feature_allowed of their util.lib.lua does: without one the role decides.
func mayUse(table features, feature string, moderator bool) bool {
	if table == nil {
		return moderator
	}
	return table[feature]
}

// byModerators are the features that Jitsi lets a moderator have who has no table, or gets a table with (mod_jitsi_permissions.lua,
// mod_filesharing_component.lua).
var byModerators = []string{
	"create-polls", "file-upload", "flip", "live-translation", "live-translation-subscribe", "livestreaming", "outbound-call", "recording",
	"send-groupchat", "transcription",
}

// TestFeatures checks what Jitsi's plugins get to read of each kind of person under each kind of rule.
func TestFeatures(t *testing.T) {
	moderators := func(change features) features {
		table := features{}
		for _, f := range byModerators {
			table[f] = true
		}
		maps.Copy(table, change)
		return table
	}
	some := features{"recording": true, "livestreaming": false}
	claims := func(affiliation string, said features) func(*token.Claims) {
		return func(c *token.Claims) { c.User.Affiliation, c.Features = affiliation, said }
	}
	hostSays, hostSilent := claims("owner", some), claims("owner", nil)
	memberSays, memberSilent := claims("member", some), claims("member", nil)
	type rule = map[string]auth.FeatureRule
	never, owners, ofToken := rule{"recording": auth.FeatureNever}, rule{"recording": auth.FeatureOwners}, rule{"recording": auth.FeatureOfToken}
	for name, row := range map[string]struct {
		vhost string
		token func(*token.Claims) // nil for none
		rule  rule
		want  features
	}{
		"host, says":                      {"meet", hostSays, nil, some},
		"host, says nothing":              {"meet", hostSilent, nil, nil},
		"member, says":                    {"meet", memberSays, nil, some},
		"member, says nothing":            {"meet", memberSilent, nil, nil},
		"host, says that nothing is":      {"meet", claims("owner", features{}), nil, features{}},
		"guest":                           {"guest", nil, nil, nil},
		"password":                        {"trusted", nil, nil, nil},
		"service":                         {"recorder", nil, nil, nil},
		"host, says, of token":            {"meet", hostSays, ofToken, some},
		"host, says nothing, of token":    {"meet", hostSilent, ofToken, nil},
		"host, says, never":               {"meet", hostSays, never, features{"recording": false, "livestreaming": false}},
		"host, says nothing, never":       {"meet", hostSilent, never, moderators(features{"recording": false})},
		"member, says, never":             {"meet", memberSays, never, features{"recording": false, "livestreaming": false}},
		"member, says nothing, never":     {"meet", memberSilent, never, features{"recording": false}},
		"guest, never":                    {"guest", nil, never, features{"recording": false}},
		"password, never":                 {"trusted", nil, never, moderators(features{"recording": false})},
		"service, never":                  {"recorder", nil, never, features{"recording": false}},
		"host, says, owners":              {"meet", hostSays, owners, some},
		"host, says no, owners":           {"meet", claims("owner", features{"recording": false}), owners, features{"recording": false}},
		"host, says others, owners":       {"meet", claims("owner", features{"flip": true}), owners, features{"flip": true}},
		"host, says nothing, owners":      {"meet", hostSilent, owners, moderators(nil)},
		"host, unknown feature, owners":   {"meet", hostSilent, rule{"whiteboard": auth.FeatureOwners}, moderators(features{"whiteboard": true})},
		"admin, says nothing, owners":     {"meet", claims("admin", nil), owners, moderators(nil)},
		"member, says, owners":            {"meet", memberSays, owners, features{"recording": false, "livestreaming": false}},
		"guest, owners":                   {"guest", nil, owners, features{"recording": false}},
		"password, owners":                {"trusted", nil, owners, moderators(nil)},
		"member, several":                 {"meet", memberSilent, rule{"recording": "owners", "flip": "never", "x": "token"}, features{"recording": false, "flip": false}},
		"names and texts that break XML":  {"meet", claims("owner", features{"recording": true, "a\x01": true, "\uffff": true}), nil, features{"recording": true}},
		"a name that is longer than 1 kB": {"meet", claims("owner", features{strings.Repeat("a", 1025): true}), nil, features{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			p.WaitForHost = auth.NobodyWaits
			p.Rules = []auth.Rule{{Match: "*", Features: row.rule}}
			compact := ""
			if row.token != nil {
				compact = mint(t, row.token)
			}
			d := decided(t, auth.New(p), asking(row.vhost+".example.com", compact), hostInside)
			if d.Verdict != auth.Allow || !reflect.DeepEqual(d.Features, row.want) {
				t.Errorf("%s %s, features %v, want %v", d.Verdict, d.Reason, d.Features, row.want)
			}
		})
	}
}

// TestFeaturesOfKnockers checks that a host who knocks is no owner, because a moderator lets them in as a member.
func TestFeaturesOfKnockers(t *testing.T) {
	p := policy(t)
	p.Lobby = true
	p.Rules = []auth.Rule{{Match: "*", Features: map[string]auth.FeatureRule{"recording": auth.FeatureOwners}}}
	host := mint(t, func(c *token.Claims) { c.User.Affiliation, c.Features = "owner", features{"recording": true} })
	lobby := hostInside
	lobby.Lobby = true
	d := decided(t, auth.New(p), asking("meet.example.com", host), lobby)
	if d.Verdict != auth.Allow || d.Affiliation != auth.None || !reflect.DeepEqual(d.Features, features{"recording": false}) {
		t.Errorf("got %+v", d)
	}
}

// TestNoFeaturesOfBreakouts checks that a decision about a breakout room says nothing: what the main room has set stays.
func TestNoFeaturesOfBreakouts(t *testing.T) {
	p := policy(t)
	p.Breakout = breakout
	req := asking("meet.example.com", mint(t, func(c *token.Claims) { c.Features, c.Group = features{"recording": true}, "g" }))
	req.Room = "b1@" + breakout
	d := decided(t, auth.New(p), req, auth.RoomState{HasGrant: true})
	if d.Verdict != auth.Allow || !d.Breakout || d.Features != nil || d.User != (token.User{}) || d.Group != "" {
		t.Errorf("got %+v", d)
	}
}

// TestUserForPlugins checks that Jitsi's plugins get the user and the group as the token has them, and nothing that says who moderates: usher
// says that. What would break the connections of everybody inside is left out.
func TestUserForPlugins(t *testing.T) {
	yes := true
	full := token.User{ID: "u1", Name: "Jürgen \U0001F600", Email: "j@example.com", Avatar: "https://example.com/a?b=c&d", Affiliation: "owner", Moderator: &yes, LobbyBypass: &yes, HiddenFromRecorder: true}
	p := policy(t)
	said := func(user token.User, group string) (token.User, string) {
		d := decided(t, auth.New(p), asking("meet.example.com", mint(t, func(c *token.Claims) { c.User, c.Group = user, group })), noRoom)
		if d.Verdict != auth.Allow {
			t.Fatalf("got %+v", d)
		}
		return d.User, d.Group
	}
	user, group := said(full, "team")
	if want := (token.User{ID: full.ID, Name: full.Name, Email: full.Email, Avatar: full.Avatar, HiddenFromRecorder: true}); user != want || group != "team" {
		t.Errorf("got %+v, %q", user, group)
	}
	user, group = said(token.User{ID: "u\x02", Name: "a\x1b[2J", Email: strings.Repeat("e", 1025), Avatar: "\ufffe"}, "\x01")
	if user != (token.User{}) || group != "" {
		t.Errorf("got %+v, %q", user, group)
	}
	if user, group = said(token.User{ID: strings.Repeat("i", 1024), Name: "a\tb\nc"}, ""); len(user.ID) != 1024 || user.Name != "a\tb\nc" || group != "" {
		t.Errorf("got %+v, %q", user, group)
	}
	// A password and a session have neither, and a password goes before a session.
	member := kept()
	member.Features = `{"flip":true}`
	p.Sessions = sessions(member)
	req := asking("trusted.example.com", "")
	req.SessionID, req.MachineUID = sid, machine
	if d := decided(t, auth.New(p), req, noRoom); d.Verdict != auth.Allow || d.Features != nil || d.User != (token.User{}) || d.Group != "" {
		t.Errorf("by password %+v", d)
	}
	req.From = asking("guest.example.com", "").From
	if d := decided(t, auth.New(p), req, noRoom); d.Verdict != auth.Allow || !reflect.DeepEqual(d.Features, features{"flip": true}) || d.User != (token.User{}) {
		t.Errorf("by session %+v", d)
	}
}

func sessions(s auth.Session) auth.Sessions { return store{live: map[string]auth.Session{sid: s}} }

// TestFeaturesOfSessions checks that a session stands for the features of its token, through the store, and that what cannot be read allows
// nothing. An earlier version of usher wrote no features, as a token that says nothing of them does.
func TestFeaturesOfSessions(t *testing.T) {
	p := policy(t)
	p.Sessions = sessions(auth.Session{})
	s := stores.Sessions{Store: stores.Memory(stores.Options{})}
	defer s.Store.Close()
	for _, said := range []features{nil, {}, {"recording": false}, {"recording": true, "flip": false, "a b<&>\"\u2028": true}} {
		first := asking("meet.example.com", mint(t, func(c *token.Claims) { c.Features = said }))
		first.MachineUID = machine
		earned := auth.New(p).Authorize(t.Context(), first, looking(hostInside))
		if earned.Session == nil {
			t.Fatalf("no session for %+v", earned)
		}
		earned.Session.Expires = time.Now().Add(time.Hour)
		id, record, err := s.Begin(*earned.Session)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(record.Value), "Features") != (said != nil) {
			t.Errorf("written down as %s", record.Value)
		}
		if err := s.Store.Put(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		p := p
		p.Sessions = s
		later := asking("guest.example.com", "")
		later.SessionID, later.MachineUID = id, machine
		d := auth.New(p).Authorize(t.Context(), later, looking(hostInside))
		if d.Verdict != auth.Allow || !reflect.DeepEqual(d.Features, said) {
			t.Errorf("%v: got %v by session: %+v", said, d.Features, d)
		}
	}
	for _, damaged := range []string{"x", "null", "[]", `{"recording":1}`} {
		s := kept()
		s.Features = damaged
		p.Sessions = sessions(s)
		later := asking("guest.example.com", "")
		later.SessionID, later.MachineUID = sid, machine
		if d := auth.New(p).Authorize(t.Context(), later, looking(hostInside)); d.Verdict != auth.Allow || d.Features == nil || len(d.Features) > 0 {
			t.Errorf("%s: %+v", damaged, d)
		}
	}
}

// A rule never gives anybody a feature that they would not have without it, takes away what it names and nothing else, and does not change
// what others read in the same token. Nobody has what is never to be, whatever role they get inside.
func TestRulesOnlyNarrowFeatures(t *testing.T) {
	names := append(slices.Clone(byModerators), "whiteboard")
	rapid.Check(t, func(r *rapid.T) {
		said := rapid.Ptr(rapid.MapOf(rapid.SampledFrom(names), rapid.Bool()), true).Draw(r, "said")
		rule := rapid.MapOf(rapid.SampledFrom(names), rapid.SampledFrom([]auth.FeatureRule{auth.FeatureOfToken, auth.FeatureOwners, auth.FeatureNever})).Draw(r, "rule")
		affiliation := rapid.SampledFrom([]string{"owner", "admin", "member"}).Draw(r, "affiliation")
		p := policy(t)
		compact := mint(t, func(c *token.Claims) {
			if c.User.Affiliation = affiliation; said != nil {
				c.Features = *said
			}
		})
		a := auth.New(p)
		before := a.Authorize(r.Context(), asking("meet.example.com", compact), looking(hostInside))
		p.Rules = []auth.Rule{{Match: "*", Features: rule}}
		a = auth.New(p)
		got, steps := a.Explain(r.Context(), asking("meet.example.com", compact), looking(hostInside))
		if again := a.Authorize(r.Context(), asking("meet.example.com", compact), looking(hostInside)); !reflect.DeepEqual(got, again) {
			r.Fatalf("%+v, and then %+v", got, again)
		}
		host := affiliation != "member"
		for _, name := range names {
			has, had := mayUse(got.Features, name, host), mayUse(before.Features, name, host)
			want := had && (rule[name] == "" || rule[name] == auth.FeatureOfToken || rule[name] == auth.FeatureOwners && host)
			if name == "whiteboard" && before.Features == nil && got.Features != nil && rule[name] != auth.FeatureOwners {
				continue // a plugin of others, without a table
			}
			if has != want {
				r.Fatalf("%s: %t, and without the rule %t: %v, rule %v, %s", name, has, had, got.Features, rule, affiliation)
			}
			if rule[name] == auth.FeatureNever && mayUse(got.Features, name, true) {
				r.Fatalf("%s as a moderator: %v", name, got.Features)
			}
		}
		if shown := slices.ContainsFunc(steps, func(s auth.Step) bool { return s.Rule == "features" }); shown != (got.Features != nil) {
			r.Fatalf("%v: %+v", got.Features, steps)
		}
	})
}

// TestExplainFeatures checks what the operator reads.
func TestExplainFeatures(t *testing.T) {
	p := policy(t)
	p.Rules = []auth.Rule{{Match: "*", Features: map[string]auth.FeatureRule{"recording": auth.FeatureOwners, "livestreaming": auth.FeatureNever, "flip": auth.FeatureOfToken}}}
	for said, want := range map[string]string{
		"owner {recording:true flip:true livestreaming:true}":  "flip yes, livestreaming no (rule: never), recording yes (rule: owners)",
		"member {recording:true flip:true livestreaming:true}": "flip yes, livestreaming no (rule: never), recording no (rule: owners)",
	} {
		affiliation, _, _ := strings.Cut(said, " ")
		d, steps := explained(t, p, mint(t, func(c *token.Claims) {
			c.User.Affiliation, c.Features = affiliation, features{"recording": true, "flip": true, "livestreaming": true}
		}))
		last := steps[len(steps)-1]
		if d.Verdict != auth.Allow || last.Rule != "features" || last.Found != want || !last.OK {
			t.Errorf("%s: %s", said, fmt.Sprintf("%+v", last))
		}
	}
	p.Rules = nil
	d, steps := explained(t, p, mint(t, func(c *token.Claims) { c.Features = features{} }))
	if last := steps[len(steps)-1]; d.Verdict != auth.Allow || last.Rule != "features" || last.Found != "none of all" {
		t.Errorf("%+v", last)
	}
}
