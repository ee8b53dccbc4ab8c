package auth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	// Note marks a step that decided nothing and is worth a look.
	Note bool `json:"note,omitempty"`
}

// trace collects the steps of an explanation. A nil trace collects nothing, and costs little more than the call.
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

// len returns how many steps there are so far.
func (t *trace) len() int {
	if t == nil {
		return 0
	}
	return len(t.steps)
}

// since returns a copy of the steps from a number on; nil for a nil trace.
func (t *trace) since(n int) []Step {
	if t == nil {
		return nil
	}
	return slices.Clone(t.steps[n:])
}

// repeat adds steps of an earlier decision.
func (t *trace) repeat(steps []Step) {
	if t != nil {
		t.steps = append(t.steps, steps...)
	}
}

func (t *trace) time(rule, expected string, claim, at time.Time, ok bool) {
	if t != nil {
		t.found(rule, expected, instants(claim, at), ok)
	}
}

func instants(claim, at time.Time) string {
	b := claim.UTC().AppendFormat(make([]byte, 0, 64), time.RFC3339)
	return string(at.UTC().AppendFormat(append(b, "; now it is "...), time.RFC3339))
}

func (t *trace) list(rule string, expected []string, found string, ok bool) {
	if t != nil {
		t.found(rule, strings.Join(expected, " or "), found, ok)
	}
}

// The methods below are named after the rules of decide, in their order.

func (t *trace) room(req Request, breakouts, ours bool) {
	expected := "a room on a guarded MUC service"
	if breakouts {
		expected = "a room on a guarded MUC service or the breakout service"
	}
	t.found("room", expected, req.Room, ours)
}

func (t *trace) vhost(req Request, known bool) {
	t.found("vhost", "a virtual host of the configuration", req.From.Domainpart(), known)
}

func (t *trace) tokenIgnored() {
	t.found("token", "nothing: this virtual host has no issuers", "a token, ignored", true)
}

func (t *trace) sessionIgnored(why, found string) {
	if t != nil {
		t.found("session", "nothing: "+why, found, true)
	}
}

func (t *trace) session(found string, ok bool) {
	t.found("session", "a live session of this machine", found, ok)
}

// affiliation says what somebody becomes, and who says so if not the token.
func (t *trace) affiliation(a Affiliation, by string, err error) {
	if t == nil {
		return
	}
	found := string(a)
	switch {
	case err != nil:
		found = err.Error()
	case by != "":
		found += " (" + by + ")"
	}
	t.found("affiliation", "owner, admin or member", found, err == nil)
}

func (t *trace) noAnswer(rule string) { t.found(rule, "an answer from the room", "none", false) }

func (t *trace) breakout(s RoomState) {
	found := "no grant in any main room"
	if s.HasGrant {
		found = "a grant in a main room"
	}
	t.found("breakout room", "a person who was let into a main room", found, s.HasGrant)
}

// rule says which of the rules of rooms fits, if there are any.
func (t *trace) rule(rules []Rule, number int) {
	if t == nil || len(rules) == 0 {
		return
	}
	found := "none"
	if number >= 0 {
		found = fmt.Sprintf("rooms.rules[%d]: match %q", number, rules[number].Match)
		if rules[number].Tenant != "" {
			found += fmt.Sprintf(", tenant %q", rules[number].Tenant)
		}
	}
	t.found("room rule", "the first of rooms.rules that fits, or none", found, true)
}

func (t *trace) hours(h *Hours, open bool, opens, closes time.Time) {
	if t == nil {
		return
	}
	found := "open"
	switch {
	case !open && opens.IsZero():
		found = "closed"
	case !open:
		found = "closed until " + h.words(opens)
	case !closes.IsZero():
		found += " until " + h.words(closes)
	}
	t.found("hours", h.String(), found, open)
}

func (t *trace) locked() {
	t.found("locked", "a host, in a room that an operator has locked", "no host", false)
}

// limits says how many people the room takes and how long it may last, if either is limited.
func (t *trace) limits(r RoomRule) {
	if t == nil {
		return
	}
	var limits []string
	if r.MaxOccupants > 0 {
		limits = append(limits, fmt.Sprintf("%d people", r.MaxOccupants))
	}
	if r.MaxDuration > 0 {
		limits = append(limits, plainly(r.MaxDuration))
	}
	if len(limits) > 0 {
		t.found("limits", "what the rule gives, narrowed by the token", strings.Join(limits, ", "), true)
	}
}

// features says what the person may do beside talking, if the token or the rule says anything of it.
func (t *trace) features(d Decision) {
	if t == nil || d.Features == nil {
		return
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(d.Features)) {
		word := "no"
		if d.Features[name] {
			word = "yes"
		}
		if rule := d.Rule.Features[name]; rule == FeatureNever || rule == FeatureOwners {
			word += " (rule: " + string(rule) + ")"
		}
		list = append(list, name+" "+word)
	}
	t.found("features", "what the token says, narrowed by the rule", cmp.Or(strings.Join(list, ", "), "none of all"), true)
}

func (t *trace) first(s RoomState) {
	t.found("first is host", "no host in the room, to become one with this token", s.String(), true)
}

func (t *trace) noToken(found string, ok bool) {
	t.found("nothing shown", "a token, or a virtual host that needs none", found, ok)
}

const openRoom = "a room that somebody opened"

func (t *trace) roomOpen(s RoomState) { t.found("room open", openRoom, s.String(), s.Exists) }

func (t *trace) host(a Affiliation) { t.found("host", "owner or admin", string(a), true) }

func (t *trace) hostInside(s RoomState, waits, ok bool) {
	expected := openRoom
	if waits {
		expected = "a host in the room"
	}
	t.found("host inside", expected, s.String(), ok)
}

func (t *trace) needNotWait() {
	t.found("host inside", "nothing: this person need not wait", "", true)
}

func (t *trace) lobbyForHost(s RoomState) {
	t.found("lobby", "no lobby, or nobody inside to open", s.lobby(), true)
}

func (t *trace) lobby(s RoomState) {
	t.found("lobby", "the lobby to decide, if one is at work", s.lobby(), true)
}

// String returns the state in words.
func (s RoomState) String() string {
	switch {
	case !s.Exists:
		return "the room is not open"
	case s.HostPresent:
		return "a host is inside"
	case s.Opened:
		return "the room is open, and still is for newcomers, although no host is inside"
	default:
		return "the room is open, no host is inside"
	}
}

func (s RoomState) lobby() string {
	switch {
	case !s.lobbyAtWork():
		return "no lobby at work"
	case s.HostPresent:
		return "a lobby at work, a host is inside"
	default:
		return "a lobby at work, no host is inside"
	}
}

// The methods below are named after the checks of a token, in their order.

func (t *trace) form(err error) {
	t.found("form", "a compact JWS with strict JSON", describe(err), err == nil)
}

func (t *trace) issuers(issuers []Issuer, tok *token.Token, ok bool) {
	if t == nil {
		return
	}
	var names []string
	for _, i := range issuers {
		names = append(names, i.Accepted...)
	}
	found := cmp.Or(tok.Issuer(), "no iss")
	if !ok && !tok.Has("iss") {
		found = absent
	}
	t.list("issuer", names, found, ok)
}

// signature says how the signature was judged: by the issuer of the key, or by the first candidate where none verified it.
func (t *trace) signature(i *Issuer, tok *token.Token, no *refusal) {
	if t == nil {
		return
	}
	var names []string
	for _, alg := range i.Algorithms {
		names = append(names, alg.String())
	}
	allowed := no == nil || no.reason != ReasonTokenAlgorithm
	t.list("algorithm", names, tok.Algorithm.String(), allowed)
	switch {
	case no == nil:
		t.found("signature", "made by a key of "+i.Name, describe(nil), true)
	case allowed:
		t.found("signature", "made by a key of "+i.Name, describe(no.err), false)
	}
}

// claims says whether the claims could be read, and what is odd about them.
func (t *trace) claims(i *Issuer, tok *token.Token, c *token.Claims, err error) {
	if t == nil {
		return
	}
	t.found("claims", "claims of the right types", describe(err), err == nil)
	t.notRead(tok, i.Claims)
	if err != nil {
		return
	}
	for _, note := range c.Notes {
		t.note("claims", "claims that can be read", note)
	}
	t.mapped(i.Claims, c)
}

// required lists all claims that this token lacks and the issuer requires, because the rules stop at the first. A breakout
// room requires no room and no tenant.
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

// notRead lists claims that look like a role and decide nothing.
func (t *trace) notRead(tok *token.Token, m token.ClaimMap) {
	if roles := tok.RolesNotRead(m); len(roles) > 0 {
		expected := "context.user.affiliation, context.user.moderator or moderator"
		if !m.Affiliation.IsZero() {
			expected = m.Affiliation.Describe("context.user.affiliation")
		}
		t.note("claims not read", "a role at "+expected, strings.Join(roles, ", "))
	}
}

// mapped lists what the token says at the places, or by the tables, of its issuer's claim map.
func (t *trace) mapped(m token.ClaimMap, c *token.Claims) {
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
