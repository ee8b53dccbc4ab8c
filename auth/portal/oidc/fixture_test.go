package oidc_test

import (
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID = "usher"
	secret   = "client-secret-of-usher/+="
	public   = "https://login.example.com"
	callback = public + "/login/callback/school"
)

var users = []oidctest.User{
	{
		Name: "alice", Password: "alice-password", Subject: "f3b1-alice", Display: "Alice A.", Email: "alice@example.com",
		Groups: []string{"/teachers", "/staff"}, RealmRoles: []string{"offline_access", "host"},
		ClientRoles: map[string][]string{clientID: {"moderate"}, "account": {"view-profile"}},
	},
	{Name: "bob", Password: "bob-password", Groups: []string{"/pupils"}},
}

// start runs a provider that knows usher.
func start(t *testing.T, o oidctest.Options) *oidctest.Provider {
	t.Helper()
	o.Users = append(o.Users, users...)
	o.Clients = append(o.Clients, oidctest.Client{
		ID: clientID, Secret: secret, RedirectURIs: []string{callback}, PostLogoutURIs: []string{public + "/logged-out"},
	})
	return oidctest.Start(t, o)
}

// school is the provider as usher is configured for it: teachers open classes.
func school(p *oidctest.Provider) oidc.Provider {
	return oidc.Provider{
		Name: "school", Issuer: p.Issuer, ClientID: clientID, ClientSecret: secret, Leeway: 10 * time.Second,
		Rules: []oidc.Rule{{Value: "teachers", Affiliation: auth.Owner, Rooms: []string{"class-*"}}},
	}
}

func providers(p ...oidc.Provider) *oidc.Providers {
	return oidc.New(oidc.Options{Providers: p, PublicURL: public})
}

// begin begins a login.
func begin(t *testing.T, all *oidc.Providers) (string, oidc.Flow) {
	t.Helper()
	address, flow, err := all.Begin(t.Context(), "school")
	if err != nil {
		t.Fatal(err)
	}
	return address, flow
}

// login lets somebody log in.
func login(t *testing.T, p *oidctest.Provider, all *oidc.Providers, user string) (oidc.Login, error) {
	t.Helper()
	address, flow := begin(t, all)
	return all.Finish(t.Context(), flow, p.Login(t, address, user).Query())
}

func query(pairs ...string) url.Values {
	values := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return values
}
