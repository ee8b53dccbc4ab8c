package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
)

// wildcard accepts every issuer or audience, and covers every room or tenant.
const wildcard = "*"

// Issuer is a party that signs tokens, with its keys and what its tokens must say.
type Issuer struct {
	// Name is what the operator calls the issuer (app_id). It goes to logs.
	Name string
	// Accepted lists the values of iss that mean this issuer; "*" means any.
	Accepted []string
	// Audiences lists the accepted values of aud. A token must have one of them; "*" means any.
	Audiences []string
	// Algorithms lists what the issuer signs with. The token's header chooses among them and no others.
	Algorithms []jwa.SignatureAlgorithm
	// Keys has the issuer's keys.
	Keys KeySource
	// RequireRoom refuses tokens without a room claim, RequireExp those without an end.
	RequireRoom, RequireExp bool
	// Claims says where the issuer's tokens have the claims that Jitsi has fixed places for, and what the values there mean. If
	// it maps the affiliation, a token that says nothing there makes a member, whatever the virtual host's default is: an
	// issuer that names roles means the people it names.
	Claims token.ClaimMap
	// DefaultAffiliation is for the issuer's tokens that ask for nothing: Owner or Member; None means the virtual host's default.
	DefaultAffiliation Affiliation
	// Tenant is the one tenant that the issuer's tokens open rooms of; empty for any.
	Tenant string
	// DomainVerification requires that sub, or the claim to which Claims maps the tenant, is the domain or tenant.
	DomainVerification bool
	// NoWildcard refuses "*" as room or sub, wherever Claims has them and also by its tables, and a missing room.
	NoWildcard bool
	// Leeway is how far clocks may differ.
	Leeway time.Duration
	// OnExpiry says what happens to people inside when their token has ended: Keep, also if empty, or Remove, ExpiryGrace later.
	OnExpiry    OnExpiry
	ExpiryGrace time.Duration
	// OneTime makes every token of the issuer let in one machine only.
	OneTime bool
	// Reuse says what happens when somebody comes into a room in which the same token, or person, is already; ReuseAllow if empty.
	Reuse Reuse
	// ReuseOf says what counts as the same; ReuseOfToken if empty.
	ReuseOf ReuseOf
}

// OnExpiry says what happens to people inside when their token has ended.
type OnExpiry string

const (
	Keep   OnExpiry = "keep"
	Remove OnExpiry = "remove"
)

// Reuse says what happens when the same token, or person, comes into a room twice.
type Reuse string

const (
	ReuseAllow   Reuse = "allow"
	ReuseReplace Reuse = "replace" // the earlier one is put out
	ReuseRefuse  Reuse = "refuse"  // the later one is refused
)

// ReuseOf says what counts as the same.
type ReuseOf string

const (
	ReuseOfToken   ReuseOf = "token"
	ReuseOfSubject ReuseOf = "sub" // Proof.Person; without one, the token
)

func accepts(accepted []string, value string) bool {
	return slices.Contains(accepted, wildcard) || value != "" && slices.Contains(accepted, value)
}

// latest is the last moment that every format can hold: time.Time has no JSON for a year of five digits.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// aheadMost is how far iat may lie in the future. RFC 7519 §4.1.6 does not make it a time before which a token is invalid, and
// Jitsi ignores it. Libraries set it, and an issuer's clock that is ahead, or writes local time as UTC, must not lock everybody
// out. No clock is wrong by more than a day.
const aheadMost = 24 * time.Hour

// absent is what explanations and the log say of a required claim that the token lacks.
const absent = "required, absent"

// verify checks the token itself: form, issuer, signature, claims, time, audience, in this order, so that without a good
// signature nobody learns what else is wrong with a token.
func (a *Authorizer) verify(ctx context.Context, d *Decision, req Request, issuers []Issuer, t *trace) (*Issuer, *token.Claims, *refusal) {
	v, no := a.signed(ctx, d, req, issuers, t)
	if no != nil {
		return nil, nil, no
	}
	d.Token, d.Expires, d.Notes = v.ref, v.expires, v.claims.Notes
	d.Proof = v.issuer.proof(req, v.claims, d.Room)
	t.required(v.issuer, v.claims, a.IsBreakout(d.Room))
	if no = ended(v, req.At, t); no != nil {
		return nil, nil, no
	}
	if no = notBegun(d, v, req.At, t); no != nil {
		return nil, nil, no
	}
	if no = otherAudience(v, t); no != nil {
		return nil, nil, no
	}
	return v.issuer, v.claims, nil
}

// ended refuses a token that is over, and one without an end where the issuer requires one. RFC 7519 §4.1.4 makes exp
// optional, but jitsi-meet keeps tokens in URLs, which leak.
func ended(v *verified, at time.Time, t *trace) *refusal {
	const rule, expected = "end", "exp in the future"
	exp := v.claims.Expires
	switch {
	case exp.IsZero() && v.issuer.RequireExp:
		t.found(rule, expected, absent, false)
		return refuse(ReasonTokenClaims, "exp: "+absent)
	case exp.IsZero():
		t.found(rule, expected, "no exp", true)
		return nil
	}
	ok := at.Before(v.expires)
	t.time(rule, expected, exp, at, ok)
	if !ok {
		return &refusal{ReasonTokenExpired, fmt.Errorf("exp: %s ago, with a leeway of %s", at.Sub(exp).Round(time.Second), v.issuer.Leeway)}
	}
	return nil
}

// notBegun refuses a token before its nbf, and one with an iat that no clock explains. It notes a smaller iat in the future in d.
func notBegun(d *Decision, v *verified, at time.Time, t *trace) *refusal {
	const rule = "begin"
	leeway := v.issuer.Leeway
	if nbf := v.claims.NotBefore; !nbf.IsZero() {
		ok := !at.Add(leeway).Before(nbf)
		t.time(rule, "nbf in the past", nbf, at, ok)
		if !ok {
			return &refusal{ReasonTokenNotYetValid, fmt.Errorf("nbf: in %s, with a leeway of %s", nbf.Sub(at).Round(time.Second), leeway)}
		}
	}
	iat := v.claims.IssuedAt
	if iat.IsZero() {
		return nil
	}
	const expected = "iat in the past"
	ahead := iat.Sub(at)
	switch in := ahead.Round(time.Second); {
	case ahead > aheadMost:
		t.time(rule, expected+", or within the next 24h", iat, at, false)
		return &refusal{ReasonTokenNotYetValid, fmt.Errorf("iat: in %s, which is more than any clock is ahead", in)}
	case ahead > leeway:
		const clocks = "; the issuer's clock is ahead, or this one is behind"
		t.note(rule, expected, instants(iat, at)+clocks)
		d.Notes = append(slices.Clip(d.Notes), fmt.Sprintf("iat: in %s%s", in, clocks))
	default:
		t.time(rule, expected, iat, at, true)
	}
	return nil
}

// otherAudience refuses a token for another audience. RFC 8725 §3.9 and Jitsi want an aud in any case, even where the issuer
// accepts every one.
func otherAudience(v *verified, t *trace) *refusal {
	aud, accepted := v.claims.Audience, v.issuer.Audiences
	ok := slices.ContainsFunc(aud, func(aud string) bool { return accepts(accepted, aud) })
	t.list("audience", accepted, cmp.Or(strings.Join(aud, " "), absent), ok)
	switch {
	case len(aud) == 0:
		return refuse(ReasonTokenAudience, "aud: "+absent)
	case !ok:
		return refuse(ReasonTokenAudience, "aud: none of the accepted audiences")
	}
	return nil
}

// signed returns the token's claims once a key of one of the issuers has verified them. It remembers what it verified, because
// waiting clients show the same token every few seconds.
func (a *Authorizer) signed(ctx context.Context, d *Decision, req Request, issuers []Issuer, t *trace) (*verified, *refusal) {
	key := fingerprint(req.From.Domainpart(), req.Token)
	if v := a.seen.get(key, req.At); v != nil && (t == nil || v.steps != nil) && v.issuer.Keys.Counts(v.ref.Key) {
		t.repeat(v.steps)
		return v, nil
	}
	before := t.len()
	tok, err := token.Parse(req.Token)
	t.form(err)
	if err != nil {
		return nil, &refusal{ReasonTokenMalformed, err}
	}
	d.Token = TokenRef{ID: tok.ID(), KeyID: token.ForLog(tok.KeyID)}

	candidates := ofIssuer(issuers, tok.Issuer())
	t.issuers(issuers, tok, len(candidates) > 0)
	switch {
	case len(candidates) > 0:
	case !tok.Has("iss"):
		return nil, refuse(ReasonTokenIssuer, "iss: "+absent)
	default:
		return nil, refuse(ReasonTokenIssuer, "iss: not of an issuer of this virtual host")
	}

	issuer, origin, no := signer(ctx, candidates, tok)
	t.signature(issuer, tok, no)
	if no != nil {
		return nil, no
	}
	d.Token.Issuer, d.Token.Key = token.ForLog(tok.Issuer()), origin

	claims, err := tok.Claims(issuer.Claims)
	t.claims(issuer, tok, claims, err)
	if err != nil {
		return nil, &refusal{ReasonTokenClaims, err}
	}
	v := &verified{issuer: issuer, claims: claims, ref: d.Token, steps: t.since(before)}
	if !claims.Expires.IsZero() {
		v.expires = claims.Expires.Add(issuer.Leeway)
		if v.expires.After(latest) {
			v.expires = latest
		}
	}
	a.seen.put(key, v, req.At)
	return v, nil
}

// ofIssuer returns the issuers that the token's iss may mean: first those that name it, then those that take any.
func ofIssuer(issuers []Issuer, iss string) []*Issuer {
	var named, any []*Issuer
	for i := range issuers {
		switch {
		case iss != "" && slices.Contains(issuers[i].Accepted, iss):
			named = append(named, &issuers[i])
		case accepts(issuers[i].Accepted, iss):
			any = append(any, &issuers[i])
		}
	}
	return append(named, any...)
}

// signer finds the issuer with the key that verifies the token, and the key's origin. If there is none, it returns the first
// candidate and why: keys that could not be fetched count for more than a key that does not fit, because with them the token
// might have been good.
func signer(ctx context.Context, candidates []*Issuer, tok *token.Token) (_ *Issuer, origin string, _ *refusal) {
	no := refuse(ReasonTokenAlgorithm, "alg: not one of the issuer's algorithms")
	for _, i := range candidates {
		if !slices.Contains(i.Algorithms, tok.Algorithm) {
			continue
		}
		keys, err := i.Keys.Keys(ctx, tok.KeyID)
		switch {
		case err != nil:
			no = &refusal{ReasonKeysUnavailable, fmt.Errorf("keys of issuer %s: %w", i.Name, err)}
		case no.reason == ReasonKeysUnavailable:
		case len(keys) == 0 && tok.KeyID == "":
			no = refuse(ReasonTokenSignature, "kid: "+absent+"; the issuer's keys have ids")
		default:
			no = refuse(ReasonTokenSignature, "no key of the issuer verifies the signature")
		}
		if err != nil {
			continue
		}
		for _, k := range keys {
			if slices.Contains(k.Algorithms, tok.Algorithm) && tok.Verify(tok.Algorithm, k.Material) == nil {
				return i, k.Origin, nil
			}
		}
	}
	return candidates[0], "", no
}

// covers refuses claims that are not for this room, or not for its tenant. The order is that of the reasons that people see:
// what the issuer never accepts, the room, the tenant.
func covers(i *Issuer, c *token.Claims, room Room, vhost string, t *trace) *refusal {
	if no := neverAccepted(i, c, room, vhost, t); no != nil {
		return no
	}
	tenant, no := otherRoom(c, room, t)
	if no != nil {
		return no
	}
	return otherTenant(i, c, room, vhost, tenant, t)
}

// everyRoom reports whether the claims name no room. Only the claim as it stands can be the wildcard: a name that becomes "*"
// by decoding or normalising is a name.
func everyRoom(c *token.Claims) bool { return c.Room == "" || c.Room == wildcard }

// neverAccepted refuses claims that the issuer's configuration rules out for every room.
func neverAccepted(i *Issuer, c *token.Claims, room Room, vhost string, t *trace) *refusal {
	const rule = "room claim"
	switch {
	case c.RoomRegex:
		// Jitsi matches such a claim as an unanchored Lua pattern (token/util.lib.lua, verify_room), which opens
		// more rooms than issuers mean.
		t.found(rule, "a name or *", "a pattern (context.room.regex)", false)
		return refuse(ReasonRoomMismatch, "context.room.regex: patterns are not accepted")
	case c.Room == "" && i.RequireRoom:
		t.found(rule, "* or "+room.String(), absent, false)
		return refuse(ReasonTokenClaims, i.room()+": "+absent)
	case i.NoWildcard && everyRoom(c):
		t.found(rule, room.String()+" (no_wildcard)", cmp.Or(c.Room, absent), false)
		if c.Room == "" {
			return refuse(ReasonRoomMismatch, i.room()+": "+absent)
		}
		return refuse(ReasonRoomMismatch, i.room()+": a token for every room is not accepted from this issuer")
	case i.NoWildcard && c.Subject == wildcard:
		t.list(i.subject(), subjects(room, vhost), "* (no_wildcard)", false)
		return refuse(ReasonTenantMismatch, i.subject()+": * is not accepted from this issuer")
	}
	return nil
}

// otherRoom refuses claims for another room. It returns the tenant that the room claim names in brackets, or "".
func otherRoom(c *token.Claims, room Room, t *trace) (tenant string, no *refusal) {
	const rule = "room claim"
	ok := everyRoom(c)
	if !ok {
		named, name, err := splitTenant(c.Room)
		if err != nil {
			t.found(rule, room.String(), "not a room name", false)
			return "", &refusal{ReasonRoomMismatch, fmt.Errorf("room claim: %w", err)}
		}
		tenant = named
		ok = name == room.Name && (tenant == "" || tenant == room.Tenant)
	}
	t.found(rule, "* or "+room.String(), c.Room, ok)
	if !ok {
		return "", refuse(ReasonRoomMismatch, "room claim: another room")
	}
	return tenant, nil
}

// otherTenant refuses claims for another domain or tenant, and rooms that are not of the issuer's own tenant. named is the
// tenant in the room claim.
func otherTenant(i *Issuer, c *token.Claims, room Room, vhost, named string, t *trace) *refusal {
	if i.Tenant != "" {
		ok := room.Tenant != "" && sameName(i.Tenant, room.Tenant)
		t.found("issuer tenant", i.Tenant, cmp.Or(room.Tenant, "a room of no tenant"), ok)
		if !ok {
			return refuse(ReasonTenantMismatch, "room: not of the issuer's tenant")
		}
	}
	switch {
	case i.DomainVerification:
		ok := c.Subject == wildcard || sameName(c.Subject, subjects(room, vhost)...)
		t.list(i.subject(), append(subjects(room, vhost), wildcard), cmp.Or(c.Subject, absent), ok)
		switch {
		case c.Subject == "":
			return refuse(ReasonTenantMismatch, i.subject()+": "+absent)
		case !ok:
			return refuse(ReasonTenantMismatch, i.subject()+": neither the domain or tenant nor *")
		}
	case room.Tenant != "" && i.Tenant == "" && named == "" && !everyRoom(c):
		// Without domain verification, Jitsi's plugin lets a bare name open the rooms of that name of every tenant. Here the
		// token or the configuration must name the tenant.
		ok := c.Subject == wildcard || sameName(c.Subject, room.Tenant) || sameName(c.Tenant, room.Tenant)
		t.list("tenant", []string{room.Tenant, wildcard}, cmp.Or(c.Subject, c.Tenant, absent), ok)
		if !ok {
			return refuse(ReasonRoomMismatch, "room claim: the name without the tenant")
		}
	}
	return nil
}

// subject returns the name of the claim that must be the domain or tenant.
func (i *Issuer) subject() string {
	if i.Claims.Tenant.IsZero() {
		return "sub"
	}
	return "claims.tenant"
}

// room returns the name of the claim that must be the room.
func (i *Issuer) room() string {
	if i.Claims.Room.IsZero() {
		return "room"
	}
	return "claims.room"
}

// subjects returns the values of sub that mean this room's domain or tenant.
func subjects(room Room, vhost string) []string {
	if room.Tenant != "" {
		return []string{room.Tenant}
	}
	// Jitsi writes the domain that the MUC service's name is made from ("conference." + domain).
	_, base, _ := strings.Cut(room.Service(), ".")
	if base == vhost {
		return []string{vhost}
	}
	return []string{vhost, base}
}

func sameName(s string, names ...string) bool {
	canonical, err := CanonicalName(s)
	return err == nil && slices.Contains(names, canonical)
}

// requested returns the affiliation that the claims ask for. Claims that ask for nothing get member if the issuer maps the
// affiliation, otherwise the default of the issuer or of the virtual host; by then says which of these it was.
func requested(i *Issuer, c *token.Claims, vhost *VHost) (a Affiliation, by string, err error) {
	if word := c.User.Affiliation; word != "" {
		if a := token.Affiliation(word); a != "" {
			return Affiliation(a), "", nil
		}
		return None, "", token.UnknownAffiliation(word)
	}
	if !i.Claims.Affiliation.IsZero() {
		// An issuer that names roles means the people it names: Keycloak leaves an empty list of roles out.
		return Member, "the token says nothing at claims.affiliation", nil
	}
	for _, moderator := range []*bool{c.User.Moderator, c.Moderator} {
		switch {
		case moderator == nil:
		case *moderator:
			return Owner, "", nil
		default:
			// An issuer that says "not a moderator" means it, whatever the default is.
			return Member, "", nil
		}
	}
	a, by = i.byDefault(vhost)
	return a, by, nil
}

// byDefault returns the affiliation for tokens of the issuer that ask for nothing, if the issuer does not map the affiliation,
// and who says so.
func (i *Issuer) byDefault(vhost *VHost) (_ Affiliation, by string) {
	if i.DefaultAffiliation != None {
		return i.DefaultAffiliation, "default_affiliation of the issuer " + i.Name
	}
	return vhost.DefaultAffiliation, "default_affiliation of the virtual host"
}
