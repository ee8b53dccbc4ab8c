package component_test

import (
	"testing"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Beside Jitsi's muc_domain_mapper all that the rooms of tenants say comes from addresses as their clients spell them.
func TestTenantsBehindTheDomainMapper(t *testing.T) {
	const mapper = "modules_enabled = { \"prosodytest_domain_mapper\" }\n" // on the last host, which is usher
	t.Run("standalone", func(t *testing.T) {
		tenants(t, startWith(t, "muc_mapper_domain_base = \"meet.example.com\"\n"+config+mapper))
	})
}

func tenants(t *testing.T, g *gate) {
	const asked = "standup@conference.acme.meet.example.com"
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	acme := mint(t, func(c *token.Claims) { c.Subject = "acme" })
	if got := guest.asks(asked, ""); got != "not-authorized host-absent" {
		t.Errorf("the guest is told %s", got)
	}
	if got := host.asks(asked, acme); got != "ready" {
		t.Fatalf("the host is told %s", got)
	}
	if got := host.joins(asked); got != "owner moderator" {
		t.Errorf("the host joins as %s", got)
	}
	if got := guest.asks(asked, ""); got != "ready" { // held until the host is seen
		t.Errorf("the guest is told %s", got)
	}
	if got := guest.joins(asked); got != "member participant" {
		t.Errorf("the guest joins as %s", got)
	}
	host.leaves(asked)
	other := g.person("guest.meet.example.com")
	g.eventually("the host is gone", func() bool { return other.asks(asked, "") == "not-authorized host-absent" })
}
