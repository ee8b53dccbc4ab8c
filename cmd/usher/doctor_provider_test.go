package main

import (
	"os"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/component/doctor"
)

// TestDoctorProvider checks what the doctor says of an OpenID provider: one with all that usher uses, one without, and one that is away.
func TestDoctorProvider(t *testing.T) {
	staged(t)
	p := oidctest.Start(t, oidctest.Options{})
	text, err := os.ReadFile("portal-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with := func(issuer string) []doctor.Check {
		t.Helper()
		write(t, "provider.yaml", strings.Replace(string(text), "https://sso.example.com/realms/a", issuer, 1))
		c, _, err := load([]string{"provider.yaml"}, nil, new(keys.Cache))
		if err != nil {
			t.Fatal(err)
		}
		var checks []doctor.Check
		examineProviders(t.Context(), c, func(c doctor.Check) { checks = append(checks, c) })
		return checks
	}
	want := func(what string, checks []doctor.Check, status doctor.Status, says string) {
		t.Helper()
		if len(checks) != 1 || checks[0].Code != "provider" || checks[0].Of != "keycloak" || checks[0].Status != status ||
			!strings.Contains(checks[0].Says, says) {
			t.Errorf("%s: %+v", what, checks)
		}
	}
	want("all is well", with(p.Issuer), doctor.OK, "it answers")
	want("another issuer", with(p.Issuer+"/"), doctor.Fail, "configure the issuer exactly so")
	p.Change(oidctest.Discovery, func(d map[string]any) { delete(d, "backchannel_logout_supported") })
	want("without logout", with(p.Issuer), doctor.Warn, "back-channel logout")
	c, _, err := load([]string{"usher.yaml"}, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	examineProviders(t.Context(), c, func(c doctor.Check) { t.Errorf("without a portal: %+v", c) })
}
