package oidc_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
)

// TestLogin goes all the way with a provider: the group decides who gets rooms.
func TestLogin(t *testing.T) {
	for name, o := range map[string]oidctest.Options{
		"claims in the ID token":          {},
		"claims at the userinfo endpoint": {Roles: oidctest.Userinfo},
		"claims in the access token":      {Roles: oidctest.AccessToken},
		"iss in the answer":               {NamesItself: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, o)
			all := providers(school(p))
			got, err := login(t, p, all, "alice")
			if err != nil {
				t.Fatal(err)
			}
			want := account.Person{
				ID: "school:f3b1-alice", Name: "alice", Display: "Alice A.", Email: "alice@example.com",
				Rooms: []string{"class-*"}, Affiliation: auth.Owner, Groups: []string{"teachers"},
			}
			if !reflect.DeepEqual(got.Person, want) {
				t.Errorf("got  %+v\nwant %+v", got.Person, want)
			}
			if got.Subject != "f3b1-alice" || got.SID == "" || got.IDToken == "" || time.Until(got.Expires) <= 0 {
				t.Errorf("subject %q, sid %q, expires %s", got.Subject, got.SID, got.Expires)
			}
			if asked := p.Asked(oidctest.Userinfo); (asked > 0) != (o.Roles != "") {
				t.Errorf("usher asked the userinfo endpoint %d times", asked)
			}
			none, err := login(t, p, all, "bob")
			if !errors.Is(err, oidc.ErrNoRoom) || none.IDToken == "" {
				t.Errorf("a pupil: %v, ID token %q", err, none.IDToken)
			}
		})
	}
}
