package auth

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

var errNoLook = errors.New("the room was not asked")

// Step is one rule as it was applied.
type Step struct {
	Rule     string `json:"rule"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	OK       bool   `json:"ok"`
	// Note says that the step decided nothing and is worth a look.
	Note bool `json:"note,omitempty"`
}

// trace collects the steps of an explanation. A nil trace collects nothing, and costs nothing but the call.
type trace struct{ steps []Step }

func (t *trace) found(rule, expected, found string, ok bool) {
	if t != nil {
		t.steps = append(t.steps, Step{Rule: rule, Expected: expected, Found: found, OK: ok})
	}
}

func (t *trace) note(rule, expected, found string) {
	if t != nil {
		t.steps = append(t.steps, Step{Rule: rule, Expected: expected, Found: found, OK: true, Note: true})
	}
}

func (t *trace) time(rule, expected string, claim, at time.Time, ok bool) {
	if t != nil {
		t.found(rule, expected, instants(claim, at), ok)
	}
}

func instants(claim, at time.Time) string {
	return claim.UTC().Format(time.RFC3339) + "; now it is " + at.UTC().Format(time.RFC3339)
}

// affiliation tells what somebody becomes, and by whose word if not by the token's.
func (t *trace) affiliation(a Affiliation, by string) {
	if t == nil {
		return
	}
	found := string(a)
	if by != "" {
		found += " (" + by + ")"
	}
	t.found("affiliation", "owner, admin or member", found, true)
}

func (t *trace) list(rule string, expected []string, found string, ok bool) {
	if t != nil {
		t.found(rule, strings.Join(expected, " or "), found, ok)
	}
}

func (t *trace) algorithm(i *Issuer, found string, ok bool) {
	if t != nil {
		var names []string
		for _, alg := range i.Algorithms {
			names = append(names, alg.String())
		}
		t.list("algorithm", names, found, ok)
	}
}

func (t *trace) issuers(issuers []Issuer, found string, ok bool) {
	if t != nil {
		var names []string
		for _, i := range issuers {
			names = append(names, i.Accepted...)
		}
		t.list("issuer", names, found, ok)
	}
}

// required lists all claims that the issuer's tokens must have and this one has not, since the rules stop at the first.
// A breakout room asks for no room and no tenant.
func (t *trace) required(i *Issuer, c *token.Claims, breakout bool) {
	if t == nil {
		return
	}
	var missing []string
	for _, claim := range []struct {
		name             string
		required, absent bool
	}{
		{"exp", i.RequireExp, c.Expires.IsZero()},
		{"aud", true, len(c.Audience) == 0},
		{i.room(), !breakout && (i.RequireRoom || i.NoWildcard), c.Room == ""},
		{i.subject(), !breakout && i.DomainVerification, c.Subject == ""},
	} {
		if claim.required && claim.absent {
			missing = append(missing, claim.name+": "+absent)
		}
	}
	if len(missing) > 0 {
		t.note("claims", "all that this issuer's tokens must have", strings.Join(missing, "; "))
	}
}

// noted tells what is odd about the claims and decides nothing.
func (t *trace) noted(c *token.Claims) {
	for _, note := range c.Notes {
		t.note("claims", "claims that can be read", note)
	}
}

// notRead tells which claims look like a role and are none.
func (t *trace) notRead(tok *token.Token, m token.ClaimMap) {
	if t == nil {
		return
	}
	if roles := tok.RolesNotRead(m); len(roles) > 0 {
		expected := "context.user.affiliation, context.user.moderator or moderator"
		if !m.Affiliation.IsZero() {
			expected = m.Affiliation.Describe("context.user.affiliation")
		}
		t.note("claims not read", "a role at "+expected, strings.Join(roles, ", "))
	}
}

// mapped tells what the claims said that the issuer has at places, or by tables, of its own.
func (t *trace) mapped(m token.ClaimMap, c *token.Claims) {
	if t == nil {
		return
	}
	for _, row := range []struct {
		claim token.Claim
		key   string
		jitsi string // Jitsi's place
		said  string
	}{
		{m.Affiliation, "affiliation", "context.user.affiliation", c.User.Affiliation},
		{m.ID, "id", "context.user.id", c.User.ID},
		{m.Name, "name", "context.user.name", c.User.Name},
		{m.Group, "group", "context.group", c.Group},
		{m.Room, "room", "room", c.Room},
		{m.Tenant, "tenant", "sub", c.Subject},
	} {
		if !row.claim.IsZero() {
			t.found("claims."+row.key, row.claim.Describe(row.jitsi), cmp.Or(row.said, "nothing"), true)
		}
	}
}

func describe(err error) string {
	if err == nil {
		return "as expected"
	}
	return err.Error()
}
