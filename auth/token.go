package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
)

// any is what accepts every issuer or audience, and covers every room or tenant.
const wildcard = "*"

// Issuer is a party that signs tokens, with its keys and what its tokens must say.
type Issuer struct {
	// Name is what the operator calls the issuer (app_id). It goes to logs.
	Name string
	// Accepted are the values of iss that mean this issuer; "*" means any.
	Accepted []string
	// Audiences are the accepted values of aud, of which a token must have one; "*" means any.
	Audiences []string
	// Algorithms are those that the issuer signs with. The token's header chooses among them and no others.
	Algorithms []jwa.SignatureAlgorithm
	// Keys has the issuer's keys.
	Keys KeySource
	// RequireRoom refuses tokens without a room claim, RequireExp those without an end.
	RequireRoom, RequireExp bool
	// Claims says where the issuer's tokens have what Jitsi has a fixed place for, and what the values there mean. If
	// it maps the affiliation, a token that says nothing there makes a member, whatever the virtual host gives by
	// default: who names roles means those that are named.
	Claims token.ClaimMap
	// DefaultAffiliation is what the issuer's tokens get that ask for nothing, Owner or Member; None means what the virtual host
	// gives.
	DefaultAffiliation Affiliation
	// Tenant is the one tenant whose rooms the issuer's tokens open; empty for any.
	Tenant string
	// DomainVerification asks that sub, or the claim to which Claims maps the tenant, is the domain or tenant.
	DomainVerification bool
	// NoWildcard refuses "*" as room or sub, wherever Claims has them and also by its tables, and no room at all.
	NoWildcard bool
	// Leeway is by how much clocks may differ.
	Leeway time.Duration
}

func accepts(accepted []string, value string) bool {
	return slices.Contains(accepted, wildcard) || value != "" && slices.Contains(accepted, value)
}

// latest is the last moment that is written down everywhere: time.Time has no JSON for a year of five digits.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// aheadMost is by how much iat may lie in the future. It is no time before which a token is not valid (RFC 7519 §4.1.6), and
// Jitsi ignores it: a library sets it, and a backend's clock that is ahead, or gives local time for UTC, must not lock
// everybody out. What is made later than that was not made by a clock.
const aheadMost = 24 * time.Hour

// absent is what explanations and the log say of a claim that there must be.
const absent = "required, absent"

// verify checks the token itself: its form, its issuer, its signature, its claims, its time, its audience, in this
// order, so that nothing but a good signature gives away what else is wrong with a token. The reason is empty if all
// is well.
func (a *Authorizer) verify(ctx context.Context, d *Decision, req Request, issuers []Issuer, t *trace) (*Issuer, *token.Claims, Reason, error) {
	v, reason, err := a.signed(ctx, d, req, issuers, t)
	if reason != "" {
		return nil, nil, reason, err
	}
	d.Token, d.Expires = v.ref, v.expires
	i, c := v.issuer, v.claims
	d.Notes = c.Notes
	t.required(i, c, a.IsBreakout(d.Room))

	if c.Expires.IsZero() {
		if i.RequireExp {
			// A token without exp is refused although RFC 7519 §4.1.4 makes it optional: jitsi-meet keeps tokens in
			// URLs, which leak.
			t.found("end", "exp in the future", absent, false)
			return nil, nil, ReasonTokenClaims, errors.New("exp: " + absent)
		}
		t.found("end", "exp in the future", "no exp", true)
	} else if ok := req.At.Before(v.expires); !ok {
		t.time("end", "exp in the future", c.Expires, req.At, false)
		return nil, nil, ReasonTokenExpired, fmt.Errorf("exp: %s ago, with a leeway of %s", req.At.Sub(c.Expires).Round(time.Second), i.Leeway)
	} else {
		t.time("end", "exp in the future", c.Expires, req.At, true)
	}
	if !c.NotBefore.IsZero() {
		ok := !req.At.Add(i.Leeway).Before(c.NotBefore)
		t.time("begin", "nbf in the past", c.NotBefore, req.At, ok)
		if !ok {
			return nil, nil, ReasonTokenNotYetValid, fmt.Errorf("nbf: in %s, with a leeway of %s", c.NotBefore.Sub(req.At).Round(time.Second), i.Leeway)
		}
	}
	if !c.IssuedAt.IsZero() {
		ahead := c.IssuedAt.Sub(req.At)
		const expected = "iat in the past"
		switch in := ahead.Round(time.Second); {
		case ahead > aheadMost:
			t.time("begin", expected+", or within the next 24h", c.IssuedAt, req.At, false)
			return nil, nil, ReasonTokenNotYetValid, fmt.Errorf("iat: in %s, which is more than any clock is ahead", in)
		case ahead > i.Leeway:
			t.note("begin", expected, instants(c.IssuedAt, req.At)+"; the issuer's clock is ahead, or this one is behind")
			d.Notes = append(slices.Clip(d.Notes), fmt.Sprintf("iat: in %s; the issuer's clock is ahead, or this one is behind", in))
		default:
			t.time("begin", expected, c.IssuedAt, req.At, true)
		}
	}

	// RFC 8725 §3.9 and Jitsi want an aud in any case, even where every one is accepted.
	ok := slices.ContainsFunc(c.Audience, func(aud string) bool { return accepts(i.Audiences, aud) })
	t.list("audience", i.Audiences, cmp.Or(strings.Join(c.Audience, " "), absent), ok)
	switch {
	case len(c.Audience) == 0:
		return nil, nil, ReasonTokenAudience, errors.New("aud: " + absent)
	case !ok:
		return nil, nil, ReasonTokenAudience, errors.New("aud: none of the accepted audiences")
	}
	return i, c, "", nil
}

// signed returns the token's claims once a key of one of the issuers has verified them. What was verified before is
// remembered: waiting clients show the same token every few seconds.
func (a *Authorizer) signed(ctx context.Context, d *Decision, req Request, issuers []Issuer, t *trace) (*verified, Reason, error) {
	key := fingerprint(req.From.Domainpart(), req.Token)
	if v := a.seen.get(key, req.At); v != nil && t == nil {
		return v, "", nil
	}

	tok, err := token.Parse(req.Token)
	t.found("form", "a compact JWS with strict JSON", describe(err), err == nil)
	if err != nil {
		return nil, ReasonTokenMalformed, err
	}
	d.Token = TokenRef{ID: tok.ID(), KeyID: token.ForLog(tok.KeyID)}

	var candidates []*Issuer
	for i := range issuers {
		if accepts(issuers[i].Accepted, tok.Issuer()) {
			candidates = append(candidates, &issuers[i])
		}
	}
	// An issuer that names this iss goes before one that takes any.
	slices.SortStableFunc(candidates, func(x, y *Issuer) int {
		return index(y.Accepted, tok.Issuer()) - index(x.Accepted, tok.Issuer())
	})
	iss := cmp.Or(tok.Issuer(), "no iss")
	switch {
	case len(candidates) > 0:
		t.issuers(issuers, iss, true)
	case !tok.Has("iss"):
		t.issuers(issuers, absent, false)
		return nil, ReasonTokenIssuer, errors.New("iss: " + absent)
	default:
		t.issuers(issuers, iss, false)
		return nil, ReasonTokenIssuer, errors.New("iss: not of an issuer of this virtual host")
	}

	reason := ReasonTokenAlgorithm
	err = errors.New("alg: not one of the issuer's algorithms")
	for _, i := range candidates {
		alg := tok.Algorithm
		if !slices.Contains(i.Algorithms, alg) {
			continue
		}
		keys, kerr := i.Keys.Keys(ctx, tok.KeyID)
		if kerr != nil {
			reason, err = ReasonKeysUnavailable, fmt.Errorf("keys of issuer %s: %w", i.Name, kerr)
			continue
		}
		switch {
		case reason == ReasonKeysUnavailable:
		case len(keys) == 0 && tok.KeyID == "":
			reason, err = ReasonTokenSignature, errors.New("kid: "+absent+"; the issuer's keys are found by it")
		default:
			reason, err = ReasonTokenSignature, errors.New("no key of the issuer verifies the signature")
		}
		for _, k := range keys {
			if !slices.Contains(k.Algorithms, alg) || tok.Verify(alg, k.Material) != nil {
				continue
			}
			t.algorithm(i, tok.Algorithm.String(), true)
			t.found("signature", "made by a key of "+i.Name, "as expected", true)
			d.Token.Issuer, d.Token.Key = token.ForLog(tok.Issuer()), k.Origin
			claims, cerr := tok.Claims(i.Claims)
			t.found("claims", "claims of the right types", describe(cerr), cerr == nil)
			t.notRead(tok, i.Claims)
			if cerr != nil {
				return nil, ReasonTokenClaims, cerr
			}
			t.noted(claims)
			t.mapped(i.Claims, claims)
			v := &verified{issuer: i, claims: claims, ref: d.Token}
			if !claims.Expires.IsZero() {
				v.expires = claims.Expires.Add(i.Leeway)
				if v.expires.After(latest) {
					v.expires = latest
				}
			}
			a.seen.put(key, v, req.At)
			return v, "", nil
		}
	}
	t.algorithm(candidates[0], tok.Algorithm.String(), reason != ReasonTokenAlgorithm)
	if reason != ReasonTokenAlgorithm {
		t.found("signature", "made by a key of "+candidates[0].Name, describe(err), false)
	}
	return nil, reason, err
}

func index(list []string, s string) int {
	if slices.Contains(list, s) {
		return 1
	}
	return 0
}

// covers tells whether the claims are for this room. The reason is empty if they are.
func covers(i *Issuer, c *token.Claims, room Room, vhost string, t *trace) (Reason, error) {
	// Only the claim as it stands can be the wildcard: what becomes one by decoding or normalising is a name.
	every := c.Room == "" || c.Room == wildcard
	switch {
	case c.RoomRegex:
		// Jitsi matches such a claim as an unanchored Lua pattern (token/util.lib.lua, verify_room), which opens
		// more rooms than issuers mean.
		t.found("room claim", "a name or *", "a pattern (context.room.regex)", false)
		return ReasonRoomMismatch, errors.New("context.room.regex: patterns are not accepted")
	case c.Room == "" && i.RequireRoom:
		t.found("room claim", "* or "+room.String(), absent, false)
		return ReasonTokenClaims, errors.New(i.room() + ": " + absent)
	case i.NoWildcard && every:
		t.found("room claim", room.String()+" (no_wildcard)", cmp.Or(c.Room, absent), false)
		if c.Room == "" {
			return ReasonRoomMismatch, errors.New(i.room() + ": " + absent)
		}
		return ReasonRoomMismatch, errors.New(i.room() + ": a token for every room is not accepted from this issuer")
	case i.NoWildcard && c.Subject == wildcard:
		t.list(i.subject(), subjects(room, vhost), "* (no_wildcard)", false)
		return ReasonTenantMismatch, errors.New(i.subject() + ": * is not accepted from this issuer")
	}

	// The tenant of the room, as the token names it: in brackets before the room's name, or in sub.
	var tenant string
	ok := every
	if !every {
		named, name, err := splitTenant(c.Room)
		if err != nil {
			t.found("room claim", room.String(), "not a room name", false)
			return ReasonRoomMismatch, fmt.Errorf("room claim: %w", err)
		}
		tenant = named
		ok = name == room.Name && (tenant == "" || tenant == room.Tenant)
	}
	t.found("room claim", "* or "+room.String(), c.Room, ok)
	if !ok {
		return ReasonRoomMismatch, errors.New("room claim: another room")
	}

	if i.Tenant != "" {
		ok = room.Tenant != "" && sameName(i.Tenant, room.Tenant)
		t.found("issuer tenant", i.Tenant, cmp.Or(room.Tenant, "a room of no tenant"), ok)
		if !ok {
			return ReasonTenantMismatch, errors.New("room: not of the issuer's tenant")
		}
	}
	if i.DomainVerification {
		ok = c.Subject == wildcard || sameName(c.Subject, subjects(room, vhost)...)
		t.list(i.subject(), append(subjects(room, vhost), wildcard), cmp.Or(c.Subject, absent), ok)
		switch {
		case c.Subject == "":
			return ReasonTenantMismatch, errors.New(i.subject() + ": " + absent)
		case !ok:
			return ReasonTenantMismatch, errors.New(i.subject() + ": neither the domain or tenant nor *")
		}
	} else if room.Tenant != "" && i.Tenant == "" && tenant == "" && !every {
		// Without domain verification a bare name still does not open the rooms of that name of every tenant, as it
		// does with Jitsi's plugin: the token or the configuration must name the tenant.
		ok = c.Subject == wildcard || sameName(c.Subject, room.Tenant) || sameName(c.Tenant, room.Tenant)
		t.list("tenant", []string{room.Tenant, wildcard}, cmp.Or(c.Subject, c.Tenant, absent), ok)
		if !ok {
			return ReasonRoomMismatch, errors.New("room claim: the name without the tenant")
		}
	}
	return "", nil
}

// subject is the name of the claim that is to be the domain or tenant.
func (i *Issuer) subject() string {
	if i.Claims.Tenant.IsZero() {
		return "sub"
	}
	return "claims.tenant"
}

// room is the name of the claim that is to be the room.
func (i *Issuer) room() string {
	if i.Claims.Room.IsZero() {
		return "room"
	}
	return "claims.room"
}

// subjects are the values of sub that mean this room's domain or tenant.
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

// requested is the affiliation that the claims ask for, or what those get who ask for nothing: member if the issuer has
// its own place for affiliations, else what the issuer gives, or the virtual host. by says which of these it was; it is empty
// if the claims asked.
func requested(i *Issuer, c *token.Claims, vhost *VHost) (a Affiliation, by string, err error) {
	if word := c.User.Affiliation; word != "" {
		if a := token.Affiliation(word); a != "" {
			return Affiliation(a), "", nil
		}
		return None, "", token.UnknownAffiliation(word)
	}
	if !i.Claims.Affiliation.IsZero() {
		// An issuer that names roles means what it names: Keycloak leaves the list of roles out where it is empty.
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

// byDefault is what a token of the issuer gets that asks for nothing, where it has no place of its own for affiliations, and
// who says so.
func (i *Issuer) byDefault(vhost *VHost) (_ Affiliation, by string) {
	if i.DefaultAffiliation != None {
		return i.DefaultAffiliation, "default_affiliation of the issuer " + i.Name
	}
	return vhost.DefaultAffiliation, "default_affiliation of the virtual host"
}
