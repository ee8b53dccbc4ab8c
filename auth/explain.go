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
}

// trace collects the steps of an explanation. A nil trace collects nothing, and costs nothing but the call.
type trace struct{ steps []Step }

func (t *trace) found(rule, expected, found string, ok bool) {
	if t != nil {
		t.steps = append(t.steps, Step{rule, expected, found, ok})
	}
}

func (t *trace) time(rule, expected string, claim, at time.Time, ok bool) {
	if t != nil {
		t.found(rule, expected, claim.UTC().Format(time.RFC3339)+"; now it is "+at.UTC().Format(time.RFC3339), ok)
	}
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
