package main

import (
	"encoding/base64"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/component/webhook"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/token"
)

// TestWire gives every field of the configuration a value of its own, and checks that each package's options have it.
func TestWire(t *testing.T) {
	claimMap := config.ClaimMap{
		Affiliation: config.Claim{Path: "a", Values: map[string]string{"x": "owner"}},
		ID:          config.Claim{Path: "b", Values: map[string]string{"x": "2"}},
		Name:        config.Claim{Path: "c", Values: map[string]string{"x": "3"}},
		Group:       config.Claim{Path: "d", Values: map[string]string{"x": "4"}},
		Room:        config.Claim{Path: "e", Values: map[string]string{"x": "5"}},
		Tenant:      config.Claim{Path: "f", Values: map[string]string{"x": "6"}},
	}
	claim := func(path, meaning string) token.Claim {
		c, err := token.NewClaim(path, map[string]string{"x": meaning})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := &config.Config{
		XMPP: config.XMPP{Server: "127.0.0.1:5347", Domain: jid.MustParse("focus.example.com"), Secret: config.NewSecret(componentSecret)},
		Rooms: config.Rooms{
			Services: []jid.JID{jid.MustParse("rooms.example.com")}, WaitForHost: config.WaitMembers,
			GuestRooms: []string{"open-*"}, HostAffiliation: config.Admin,
			Lobby: jid.MustParse("lobby.example.com"), Breakout: jid.MustParse("breakout.example.com"),
			Enforcement: config.MembersOnly, GuardInterval: time.Second, WaitHold: time.Minute, WaitHoldJitsi: time.Hour,
			AfterKick: config.AfterKick{Wait: time.Minute},
			Rules: []config.Rule{{
				Match: "class-*", Tenant: "acme", WaitForHost: config.WaitGuests, Guests: config.GuestsDeny, MaxOccupants: 30,
				Hours:       &config.Hours{Days: []time.Weekday{time.Friday}, From: time.Hour, Until: 2 * time.Hour, Zone: time.UTC},
				MaxDuration: 3 * time.Hour, OnHostLeft: config.LeftEnd, HostGrace: time.Second, FirstIsHost: config.FirstToken,
				Autostart: config.AutostartHost, Bypass: []config.Affiliation{config.Member}, HasBypass: true,
				Features: map[string]config.Feature{"recording": config.FeatureOwners},
			}, {Tenant: "other"}},
		},
		Lobby:    config.Lobby{Autostart: config.AutostartHost, Bypass: []config.Affiliation{config.Owner}},
		Jicofo:   config.Jicofo{JID: jid.MustParse("focus@auth.example.com"), ForwardToken: true, EnforceRoles: true},
		Sessions: true,
		Login:    config.LoginURL,
		VHosts: []config.VHost{{
			Domain: jid.MustParse("example.com"), Kind: config.KindToken, AllowEmptyToken: true, DefaultAffiliation: config.Member,
			Issuers: []config.Issuer{{
				AppID: "my_app", AcceptedIssuers: []string{"a"}, AcceptedAudiences: []string{"b"}, Algorithms: []string{"HS384"},
				AppSecrets:  []config.Secret{config.NewSecret(appSecret), config.NewSecret("another")},
				RequireRoom: true, RequireExp: true, DomainVerification: true, NoWildcard: true, Leeway: time.Second,
				Tenant: "acme", Claims: claimMap, DefaultAffiliation: config.Owner, OneTime: true,
				Ending: config.Ending{OnExpiry: config.ExpiryRemove, ExpiryGrace: time.Minute, Reuse: config.ReuseRefuse, ReuseOf: config.ReuseOfSub},
			}},
		}},
	}
	made := newIssuers(new(keys.Cache))
	for _, v := range c.VHosts {
		for _, i := range v.Issuers {
			if faults := made.add(v.Domain, i); len(faults) > 0 {
				t.Fatal(faults)
			}
		}
	}
	p := policy(c, made)
	i := &p.VHosts["example.com"].Issuers[0]
	all, err := i.Keys.Keys(t.Context(), "")
	if err != nil || len(all) != 2 || string(all[0].Material.([]byte)) != appSecret {
		t.Error(all, err)
	}
	i.Keys = nil
	want := auth.Policy{
		Services: []string{"rooms.example.com"}, WaitForHost: auth.MembersWait, GuestRooms: []string{"open-*"}, HostAffiliation: auth.Admin,
		Breakout: "breakout.example.com", Lobby: true, LobbyBypass: []auth.Affiliation{auth.Owner}, LobbyAutostart: true, Login: auth.LoginURL,
		AfterKick: auth.AfterKick{Then: auth.KickWait, Wait: time.Minute},
		Rules: []auth.Rule{{
			Match: "class-*", Tenant: "acme", WaitForHost: auth.GuestsWait, Guests: auth.GuestsDeny, MaxOccupants: 30,
			Hours:       &auth.Hours{Days: []time.Weekday{time.Friday}, From: time.Hour, Until: 2 * time.Hour, Zone: time.UTC},
			MaxDuration: 3 * time.Hour, OnHostLeft: auth.LeftEnd, HostGrace: time.Second, FirstIsHost: auth.FirstToken,
			LobbyAutostart: new(true), LobbyBypass: []auth.Affiliation{auth.Member}, HasLobbyBypass: true,
			Features: map[string]auth.FeatureRule{"recording": auth.FeatureOwners},
		}, {Match: "*", Tenant: "other"}},
		VHosts: map[string]auth.VHost{"example.com": {
			Kind: auth.KindToken, AllowEmptyToken: true, DefaultAffiliation: auth.Member,
			Issuers: []auth.Issuer{{
				Name: "my_app", Accepted: []string{"a"}, Audiences: []string{"b"}, Algorithms: []jwa.SignatureAlgorithm{jwa.HS384},
				RequireRoom: true, RequireExp: true, DomainVerification: true, NoWildcard: true, Leeway: time.Second,
				OnExpiry: auth.Remove, ExpiryGrace: time.Minute, OneTime: true, Reuse: auth.ReuseRefuse, ReuseOf: auth.ReuseOfSubject,
				DefaultAffiliation: auth.Owner, Tenant: "acme", Claims: token.ClaimMap{
					Affiliation: claim("a", "owner"), ID: claim("b", "2"), Name: claim("c", "3"), Group: claim("d", "4"),
					Room: claim("e", "5"), Tenant: claim("f", "6"),
				},
			}},
		}},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, want %+v", p, want)
	}
	// A new field of these options fails the test until it is wired and has a value here.
	p.Sessions, p.Refusals = store.Sessions{}, store.Refusals{} // authorizer sets them
	filled(t, p)
	filled(t, p.Rules[0])
	filled(t, want.VHosts["example.com"])
	want.VHosts["example.com"].Issuers[0].Keys = fixedKeys{}
	filled(t, want.VHosts["example.com"].Issuers[0])
	o := options(c, p, store.Memory(store.Options{}), zap.NewNop())
	o.Holds, o.Gone = func() bool { return true }, func() bool { return false } // those of a tenure, which serving sets
	o.Report, o.Explain = func(component.Report) {}, true                       // serving sets them, too
	filled(t, o)

	p.VHosts["example.com"].Issuers[0].Keys = fixedKeys{}
	c.Rooms.Enforcement = config.Module
	c.VHosts = append(c.VHosts, config.VHost{Domain: jid.MustParse("guest.example.com"), Kind: config.KindGuest})
	examine := examination(c, p, new(keys.Cache))
	if n := len(examine.Sources); n != 1 || examine.Sources[0].Name != "my_app of example.com" {
		t.Errorf("%d sources of keys: %+v", n, examine.Sources)
	}
	examine.Sources = nil // functions cannot be compared
	if want := (doctor.Options{
		Server: c.XMPP.Server, Domain: c.XMPP.Domain, Secret: []byte(componentSecret),
		Services: c.Rooms.Services, VHosts: []jid.JID{jid.MustParse("example.com"), jid.MustParse("guest.example.com")},
		Lobby: c.Rooms.Lobby, Breakout: c.Rooms.Breakout, Jicofo: c.Jicofo.JID,
		Module: true, ModuleVersion: "1", Autostart: true, EnforceRoles: true,
		Issuers: []doctor.Issuer{{Name: "my_app of example.com", Secrets: []int{len(appSecret), 7}}},
		Leeway:  time.Second,
	}); !reflect.DeepEqual(examine, want) {
		t.Errorf("got %+v, want %+v", examine, want)
	}
}

// TestWireOutside checks that what others see of usher is as the configuration says. A new field of these options fails the test until it is
// wired.
func TestWireOutside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	secret := config.NewSecret("whsec_" + base64.StdEncoding.EncodeToString([]byte(hookKey)))
	c := &config.Config{
		XMPP: config.XMPP{Domain: jid.MustParse("focus.meet.example.com")},
		Ops:  config.Ops{Listen: "127.0.0.1:1", Pprof: true},
		API: config.API{Listen: "127.0.0.1:2", KeysFile: "keys.yaml", PublicURL: "https://a.example", MeetURL: "https://b.example", Rate: 2, Burst: 3, Keys: []config.APIKey{{
			Name: "a", Hash: [32]byte{1}, Scopes: config.APIScopes, Rooms: []string{"x"}, MaxTTL: time.Hour, Expires: noon}}},
		Audit:    config.Audit{To: file, MaxSize: 1 << 20, MaxAge: time.Hour, Keep: 4},
		Webhooks: []config.Webhook{{Name: "a", URL: "https://c.example", Secret: secret, Events: config.HookEvents, Rooms: []string{"y"}, Timeout: time.Second}},
		Portal: config.Portal{
			Listen: "127.0.0.1:3", PublicURL: "https://d.example", MeetURLs: []string{"https://b.example"}, Proxies: []netip.Prefix{netip.MustParsePrefix("::1/128")},
			Sign: config.SignSecret, TokenTTL: time.Hour, Session: time.Hour, UntilHostLeft: true, UsersURL: "https://e.example", MiroTalkAPI: true,
			Users: []config.User{{Name: "a", Hash: hashOf(t, juliet.Hash), Display: "b", Email: "c@d", Rooms: []string{"*"}, Affiliation: config.Admin,
				Groups: []string{"d"}, Disabled: true, Source: "e:1"}},
			Providers: []config.Provider{{Name: "a", Title: "b", Issuer: "https://f.example", ClientID: "c", ClientSecret: secret, Scopes: []string{"openid"},
				IDClaim: "d", NameClaim: "e", DisplayClaim: "f", Leeway: time.Second, Rules: []config.ProviderRule{{
					Claim: "g", Value: "h", Affiliation: config.Admin, Rooms: []string{"i"}, Tenant: "j", Features: []string{"k"}}}}},
		},
	}
	u, err := newServing(c, auth.Policy{}, nil, new(keys.Cache), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	filled(t, u.opsOptions())
	o := u.apiOptions()
	o.Now = time.Now // the machine's
	filled(t, o)
	filled(t, o.Rate)
	if o.PublicURL != "https://a.example" || o.MeetURL != "https://b.example" || o.Rate != (api.Rate{PerSecond: 2, Burst: 3}) {
		t.Errorf("%+v", o)
	}
	key, hook := o.Keys()[0], webhooks(c)[0]
	filled(t, key)
	filled(t, hook)
	if !slices.Equal(key.Scopes, api.Scopes) || !slices.Equal(hook.Events, webhook.Types()) {
		t.Errorf("the configuration knows other scopes or events: %v, %v", key.Scopes, hook.Events)
	}
	if a := auditOptions(c, u.log); a.To != file || a.MaxSize != 1<<20 || a.MaxAge != time.Hour || a.Keep != 4 {
		t.Errorf("%+v", a)
	}
	filled(t, *u.listeners)
	of, err := u.portal.options()
	if err != nil {
		t.Fatal(err)
	}
	filled(t, of)
	filled(t, u.portal.accounts()[0])
	filled(t, providers(c)[0])
	filled(t, providers(c)[0].Rules[0])
}

type fixedKeys struct{ auth.KeySource }

// filled fails the test if a field of the struct has its zero value.
func filled(t *testing.T, v any) {
	t.Helper()
	s := reflect.ValueOf(v)
	for i := range s.NumField() {
		if s.Field(i).IsZero() {
			t.Errorf("%T.%s is not wired", v, s.Type().Field(i).Name)
		}
	}
}

// TestShardNames: ushers have the same lease and the same rooms if they are of one domain, however that is spelled, and of one shard.
func TestShardNames(t *testing.T) {
	name := func(domain, called string) string {
		environ := []string{"USHER_XMPP_DOMAIN=" + domain, "USHER_XMPP_SECRET=" + componentSecret, "USHER_ROOMS_SERVICES=conference.example.com",
			"USHER_STORE_URL=redis://127.0.0.1"}
		if called != "" {
			environ = append(environ, "USHER_STORE_SHARD="+called)
		}
		file := filepath.Join(t.TempDir(), "usher.yaml")
		write(t, file, "vhosts: {example.com: {kind: trusted}}\n")
		c, err := config.Load([]string{file}, environ)
		if err != nil {
			t.Fatal(err)
		}
		return shard(c)
	}
	if a, b := name("focus.example.com", ""), name("Focus.Example.COM", ""); a != b {
		t.Errorf("%q is another one than %q", a, b)
	}
	all := map[string]bool{name("a.example", ""): true, name("b.example", ""): true, name("a.example", "one"): true, name("b.example", "one"): true,
		name("a.example", "two"): true, name("c.example", "a.example"): true}
	if len(all) != 6 {
		t.Errorf("%v are not six", all)
	}
}
