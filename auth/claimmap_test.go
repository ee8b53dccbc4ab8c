package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// several returns issuers on one virtual host that share a value of iss. Each has its own key, algorithm, places of claims and
// tenant. The last takes any iss.
func several(t testing.TB) (auth.Policy, map[string][]byte) {
	t.Helper()
	p := policy(t)
	secrets := map[string][]byte{}
	make := func(name string, alg jwa.SignatureAlgorithm, accepted, affiliation, tenant string) auth.Issuer {
		secrets[name] = []byte(strings.Repeat(name, 64/len(name)+1)[:64])
		source, err := keys.Secrets(secrets[name])
		if err != nil {
			t.Fatal(err)
		}
		return auth.Issuer{
			Name: name, Accepted: []string{accepted}, Audiences: []string{"*"}, Algorithms: []jwa.SignatureAlgorithm{alg}, Keys: source,
			RequireRoom: true, RequireExp: true, Tenant: tenant,
			Claims: token.ClaimMap{Affiliation: tokentest.Claim(t, affiliation, map[string]string{"yes": "owner"})},
		}
	}
	p.VHosts["meet.example.com"] = auth.VHost{Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{
		make("any", jwa.HS256, "*", "any", "any"),
		make("one", jwa.HS256, "shared", "one", "one"),
		make("two", jwa.HS256, "shared", "two.host", "two"),
		make("three", jwa.HS512, "shared", "three", "one"),
	}}
	return p, secrets
}

// The map and the tenant of the issuer with the verifying key count.
func TestSeveralIssuers(t *testing.T) {
	p, secrets := several(t)
	a := auth.New(p)
	const everything = `,"any":"yes","one":"yes","two":{"host":"yes"},"three":"yes"}`
	for _, tt := range []struct {
		what, key string
		alg       jwa.SignatureAlgorithm
		claims    string
		room      string
		want      string
	}{
		{"one", "one", jwa.HS256, `"iss":"shared","one":"yes"}`, "[one]standup", "allow owner"},
		{"one, by the place of two", "one", jwa.HS256, `"iss":"shared","two":{"host":"yes"}}`, "[one]standup", "allow member"},
		{"one, in the tenant of two", "one", jwa.HS256, `"iss":"shared"` + everything, "[two]standup", "deny tenant-mismatch"},
		{"two", "two", jwa.HS256, `"iss":"shared","two":{"host":"yes"}}`, "[two]standup", "allow owner"},
		{"two, by the place of one", "two", jwa.HS256, `"iss":"shared","one":"yes","two":{}}`, "[two]standup", "allow member"},
		{"two, where only one would refuse", "two", jwa.HS256, `"iss":"shared","one":{},"two":{"host":"yes"}}`, "[two]standup", "allow owner"},
		{"two, in the tenant of one", "two", jwa.HS256, `"iss":"shared"` + everything, "[one]standup", "deny tenant-mismatch"},
		{"three", "three", jwa.HS512, `"iss":"shared","three":"yes"}`, "[one]standup", "allow owner"},
		{"three, by the algorithm of one", "three", jwa.HS256, `"iss":"shared"` + everything, "[one]standup", "deny token-signature"},
		{"one, by the algorithm of three", "one", jwa.HS512, `"iss":"shared"` + everything, "[one]standup", "deny token-signature"},
		{"an algorithm of nobody", "one", jwa.HS384, `"iss":"shared"` + everything, "[one]standup", "deny token-algorithm"},
		{"any, by another name", "any", jwa.HS256, `"iss":"somebody","any":"yes"}`, "[any]standup", "allow owner"},
		{"any, by the name of the others", "any", jwa.HS256, `"iss":"shared"` + everything, "[any]standup", "allow owner"},
		{"one, by a name that is not its own", "one", jwa.HS256, `"iss":"somebody"` + everything, "[one]standup", "deny token-signature"},
		{"a room of no tenant", "one", jwa.HS256, `"iss":"shared"` + everything, "standup", "deny tenant-mismatch"},
		{"the tenant in other letters", "one", jwa.HS256, `"iss":"shared"` + everything, "[ONE]standup", "allow owner"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			req := auth.Request{
				At: now, From: jid.MustParse("u@meet.example.com/x"), Room: tt.room + "@" + service,
				Token: signed(t, tt.alg, secrets[tt.key], `{"room":"standup",EXP,`+tt.claims),
			}
			// The second decision comes from memory, and must have the claims from this issuer's places.
			for range 2 {
				if got := outcome(a.Authorize(t.Context(), req, looking(hostInside))); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
		})
	}
}

// Of two issuers with one key the one that names the token's iss goes before one that takes any.
func TestNamedIssuerFirst(t *testing.T) {
	p := policy(t)
	takesAny, named := issuer(t), issuer(t)
	takesAny.Accepted, takesAny.DefaultAffiliation = []string{"*"}, auth.Owner
	named.DefaultAffiliation = auth.Member
	p.VHosts["meet.example.com"] = auth.VHost{Kind: auth.KindToken, Issuers: []auth.Issuer{takesAny, named}}
	for iss, want := range map[string]string{"my_app": "allow member", "somebody": "allow owner"} {
		req := asking("meet.example.com", mint(t, func(c *token.Claims) { c.Issuer, c.User.Affiliation = iss, "" }))
		if got := outcome(auth.New(p).Authorize(t.Context(), req, looking(hostInside))); got != want {
			t.Errorf("%s: got %s, want %s", iss, got, want)
		}
	}
}

// A tenant that cannot be a name opens nothing.
func TestTenantOfNoName(t *testing.T) {
	for _, tenant := range []string{" ", "\x00", "a\u200d"} {
		p := policy(t)
		p.VHosts["meet.example.com"].Issuers[0].Tenant = tenant
		for _, room := range []string{"standup", "[acme]standup"} {
			req := asking("meet.example.com", mint(t, func(c *token.Claims) { c.Subject, c.Room = "*", "*" }))
			req.Room = room + "@" + service
			if d := auth.New(p).Authorize(t.Context(), req, looking(hostInside)); d.Reason != auth.ReasonTenantMismatch {
				t.Errorf("%q, %s: %s", tenant, room, outcome(d))
			}
		}
	}
}

// A tenant's room has two spellings and is one room with one JID.
func TestTenantByDomain(t *testing.T) {
	p := policy(t)
	p.Services = append(p.Services, "conference.taken.meet.example.com", "muc.localhost", "bare")
	p.VHosts["conference.vhost.meet.example.com"] = auth.VHost{Kind: auth.KindGuest}
	a := auth.New(p)
	for address, want := range map[string]string{ // to the JID, or "" if refused
		"standup@conference.acme.meet.example.com":                      "[acme]standup@conference.meet.example.com",
		"StandUp@Conference.ACME.meet.example.com":                      "[acme]standup@conference.meet.example.com",
		"[acme]standup@conference.meet.example.com":                     "[acme]standup@conference.meet.example.com",
		"%c3%bc@conference.acme.meet.example.com":                       "[acme]%c3%bc@conference.meet.example.com",
		"a]b@conference.acme.meet.example.com":                          "[acme]a]b@conference.meet.example.com",
		"standup@conference.acme.meet.example.com.":                     "[acme]standup@conference.meet.example.com",
		"standup@conference.meet.meet.example.com":                      "[meet]standup@conference.meet.example.com",
		"standup@muc.acme.localhost":                                    "[acme]standup@muc.localhost",
		"standup@conference.acme_inc.meet.example.com":                  "[acme_inc]standup@conference.meet.example.com",
		"StandUp@Conference.ACME_Inc.meet.example.com.":                 "[acme_inc]standup@conference.meet.example.com",
		"[acme_inc]standup@conference.meet.example.com":                 "[acme_inc]standup@conference.meet.example.com",
		"%c3%bc@conference._.meet.example.com":                          "[_]%c3%bc@conference.meet.example.com",
		"standup@conference.a--b-.meet.example.com":                     "[a--b-]standup@conference.meet.example.com",
		"standup@conference.a_b.acme.meet.example.com":                  "",
		"[acme]standup@conference.a_b.meet.example.com":                 "",
		"\uff3bacme]standup@conference.a_b.meet.example.com":            "", // a wide bracket, which becomes a narrow one
		"standup@conference.a_b.meet.example.com/x":                     "",
		"stand up@conference.a_b.meet.example.com":                      "",
		"@conference.a_b.meet.example.com":                              "",
		"standup@conference.acme_inc.meet.example.com.attacker.example": "",
		"standup@conference.taken.meet.example.com":                     "standup@conference.taken.meet.example.com",
		"standup@conference.a.taken.meet.example.com":                   "[a]standup@conference.taken.meet.example.com",
		"[acme]standup@conference.taken.meet.example.com":               "[acme]standup@conference.taken.meet.example.com",
		"standup@conference.vhost.meet.example.com":                     "",
		"[acme]standup@conference.acme.meet.example.com":                "",
		"[standup@conference.acme.meet.example.com":                     "",
		"standup@conference.a.acme.meet.example.com":                    "",
		"standup@acme.conference.meet.example.com":                      "",
		"standup@conference..meet.example.com":                          "",
		"standup@conference.acme.example.com":                           "",
		"standup@conference.acme.meet.example.com.attacker.example":     "",
		"standup@meet.example.com":                                      "",
		"standup@xconference.acme.meet.example.com":                     "",
		"standup@conference.b%c3%bc.meet.example.com":                   "",
		"standup@conference.bücher.meet.example.com":                    "",
		"standup@conference.xn--bcher-kva.meet.example.com":             "",
		"standup@conference.xn--zzzz.meet.example.com":                  "",
		"standup@conference.*.meet.example.com":                         "",
		"standup@conference.acme.meet.example.com/x":                    "",
		"@conference.acme.meet.example.com":                             "",
		"standup@bare.acme":                                             "",
		"standup@bare.acme.":                                            "",
		strings.Repeat("a", 1023) + "@conference.acme.meet.example.com": "", // with its tenant it is too long
	} {
		req := auth.Request{At: now, From: jid.MustParse("t@trusted.example.com/x"), Room: address}
		d := a.Authorize(t.Context(), req, looking(noRoom))
		if got := d.Room.JID.String(); got != want || (d.Verdict == auth.Allow) != (want != "") {
			t.Errorf("%.60s: %s of %q, want %q", address, outcome(d), got, want)
		}
		if want == "" && d.Reason != auth.ReasonRoomUnknown {
			t.Errorf("%.60s: %s", address, d.Reason)
		}
	}
}

// A tenant that cannot be part of a domain has no spelling for clients.
func TestSpelled(t *testing.T) {
	p := policy(t)
	p.Services = append(p.Services, "bare", "conference.taken.meet.example.com")
	a := auth.New(p)
	for address, want := range map[string]string{ // or "" if there is none
		"[acme]standup@conference.meet.example.com":                 "standup@conference.acme.meet.example.com",
		"standup@conference.ACME.meet.example.com":                  "standup@conference.acme.meet.example.com",
		"[acme_inc]my%20room@conference.meet.example.com":           "my%20room@conference.acme_inc.meet.example.com",
		"[acme]a]b@conference.meet.example.com":                     "a]b@conference.acme.meet.example.com",
		"standup@conference.meet.example.com":                       "",
		"a]b@conference.meet.example.com":                           "",
		"[a.b]standup@conference.meet.example.com":                  "",
		"[my%20team]standup@conference.meet.example.com":            "",
		"[taken]standup@conference.meet.example.com":                "",
		"[acme][b]standup@conference.meet.example.com":              "",
		"[acme]standup@bare":                                        "",
		"[xn--bcher-kva]standup@conference.meet.example.com":        "",
		"[acme]standup@conference.taken.meet.example.com":           "standup@conference.acme.taken.meet.example.com",
		"[" + strings.Repeat("a", 64) + "]x@conference.example.com": "",
	} {
		d := a.Authorize(t.Context(), auth.Request{At: now, From: jid.MustParse("t@trusted.example.com/x"), Room: address}, looking(noRoom))
		got, ok := a.Spelled(d.Room)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%.60s: %q, want %q", address, got, want)
		}
	}
}

// An explanation says where the claims were read and what they said.
func TestExplainClaimMap(t *testing.T) {
	p := policy(t)
	i := &p.VHosts["meet.example.com"].Issuers[0]
	i.Tenant, i.DomainVerification = "acme", false
	i.Claims = token.ClaimMap{
		Affiliation: tokentest.Claim(t, "realm_access.roles", map[string]string{"host": "owner", "*": "member"}),
		ID:          tokentest.Claim(t, "sub", nil),
		Name:        tokentest.Claim(t, "name", nil),
		Room:        tokentest.Claim(t, "", map[string]string{"daily": "standup"}),
	}
	req := asking("meet.example.com", signed(t, jwa.HS256, secret,
		`{"iss":"my_app","sub":"juliet","room":"daily",EXP,"realm_access":{"roles":["x","host"]}}`))
	req.Room = "standup@conference.acme.meet.example.com"
	d, steps := auth.New(p).Explain(t.Context(), req, looking(noRoom))
	if d.Verdict != auth.Allow || d.Identity != "juliet" {
		t.Errorf("got %+v", d)
	}
	for _, want := range []auth.Step{
		{Rule: "claims.affiliation", Expected: "realm_access.roles (*: member, host: owner)", Found: "owner", OK: true},
		{Rule: "claims.id", Expected: "sub", Found: "juliet", OK: true},
		{Rule: "claims.name", Expected: "name", Found: "nothing", OK: true},
		{Rule: "claims.room", Expected: "room (daily: standup)", Found: "standup", OK: true},
		{Rule: "issuer tenant", Expected: "acme", Found: "acme", OK: true},
	} {
		if !slices.Contains(steps, want) {
			t.Errorf("no step %+v in %+v", want, steps)
		}
	}
	if n := strings.Count(fmt.Sprint(steps), "claims."); n != 4 {
		t.Errorf("%d claims are told of, 4 are mapped", n)
	}
}

func TestClaimMapInWords(t *testing.T) {
	p := policy(t)
	i := &p.VHosts["meet.example.com"].Issuers[0]
	i.Tenant = "acme"
	i.Claims = token.ClaimMap{
		Affiliation: tokentest.Claim(t, "realm_access.roles", map[string]string{"host": "owner"}),
		Room:        tokentest.Claim(t, "meeting", nil), Tenant: tokentest.Claim(t, "", map[string]string{"Acme Inc.": "acme"}),
	}
	const want = "meet.example.com: a person with a token of my_app (HS256) is what the token says at realm_access.roles (host: owner), and a member " +
		"if it says nothing there. Hosts create rooms and enter; members may enter and create at any time. It opens rooms of the tenant " +
		"acme only. The token must name the room at meeting, have an end, name the domain or tenant at sub (Acme Inc.: acme). Without a " +
		"token nobody enters."
	if words := p.Words(); !slices.Contains(words, want) {
		t.Errorf("got %s", strings.Join(words, "\n"))
	}
	i.RequireRoom, i.RequireExp, i.DomainVerification = false, false, false
	if words := strings.Join(p.Words(), "\n"); strings.Contains(words, "opens every room") || !strings.Contains(words, "acme only") {
		t.Errorf("got %s", words)
	}
}
