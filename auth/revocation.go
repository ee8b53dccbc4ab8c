package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Proof names what let somebody in: a token or a password. It is kept with the session and the grant, so that the right is found
// again when it is revoked, barred or used twice. Claims are as the token has them: they are for comparison, and for people only
// through token.ForLog. The zero value is the proof of somebody who showed nothing.
type Proof struct {
	// VHost is the virtual host on which the token or password counted, Issuer the issuer's name there (app_id); empty for a
	// password.
	VHost  string `json:",omitempty"`
	Issuer string `json:",omitempty"`
	// ID is jti, Subject is sub, wherever the issuer's claim map has the tenant, and User is context.user.id, or what the claim
	// map has for it.
	ID      string `json:",omitempty"`
	Subject string `json:",omitempty"`
	User    string `json:",omitempty"`
	// Personal says that Subject names a person. In Jitsi's own tokens it names the tenant or the domain, and so everybody there.
	Personal bool `json:",omitempty"`
	// IssuedAt is iat in Unix seconds; 0 without iat.
	IssuedAt int64 `json:",omitempty"`
	// Token is the fingerprint of the compact token: its SHA-256 in base64url. The sessions of a token have the same.
	Token string `json:",omitempty"`
	// Account is the bare JID of somebody who logged in with a password.
	Account string `json:",omitempty"`
}

// Person returns Subject if it names a person, otherwise "".
func (p Proof) Person() string {
	if !p.Personal {
		return ""
	}
	return p.Subject
}

// fingerprintOf returns the fingerprint that a Proof has of a token.
func fingerprintOf(compact string) string {
	sum := sha256.Sum256([]byte(compact))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Revocation says which tokens were taken back.
type Revocation struct {
	ID string
	// JTI, Subject (sub), User (context.user.id) and Issuer (app_id) say which tokens. At least one is given, and all that are
	// given must match.
	JTI, Subject, User, Issuer string
	// Before spares tokens with a later iat; zero spares none.
	Before time.Time
	// At is when the tokens were taken back, Until when that ends.
	At, Until time.Time
	// Room is the bare JID of the only room that it is about, as Room.JID has it; empty for all rooms.
	Room string
	// Reason is what the operator wrote.
	Reason string
}

// Words says what the revocation is about, for the log: a text for each field that is set, cleaned by token.ForLog.
func (r Revocation) Words() (all []string) {
	for _, f := range [][2]string{{"issuer", r.Issuer}, {"user", r.User}, {"sub", r.Subject}, {"jti", r.JTI}, {"room", r.Room}, {"reason", r.Reason}} {
		if f[1] != "" {
			all = append(all, f[0]+" "+token.ForLog(f[1]))
		}
	}
	return all
}

// Refuses returns until when tokens must have been issued, by their iat, to be taken back: some minutes after Before, because clocks
// differ. It is zero if all are.
func (r Revocation) Refuses() time.Time {
	if r.Before.IsZero() {
		return time.Time{}
	}
	return r.Before.Add(clocksDiffer)
}

// clocksDiffer is added to Revocation.Before, because iat is by the issuer's clock.
const clocksDiffer = 5 * time.Minute

// Covers reports whether the revocation takes back the token of a proof in a room. A token without iat is covered whatever Before
// says: otherwise it could never be revoked by time. A password is never covered.
func (r Revocation) Covers(p Proof, room Room) bool {
	if p.Token == "" || r.Room != "" && r.Room != room.JID.String() {
		return false
	}
	matched := false
	for _, claim := range []struct{ want, has string }{{r.JTI, p.ID}, {r.Subject, p.Subject}, {r.User, p.User}, {r.Issuer, p.Issuer}} {
		if claim.want != "" && claim.want != claim.has {
			return false
		}
		matched = matched || claim.want != ""
	}
	return matched && (r.Before.IsZero() || p.IssuedAt == 0 || time.Unix(p.IssuedAt, 0).Before(r.Refuses()))
}

// Refusals knows what was taken back: revoked tokens, and people who were removed and may not come back. An error means that it
// cannot be asked now; nobody is let in on a guess.
type Refusals interface {
	// Revoked reports whether a Revocation covers the proof in the room.
	Revoked(ctx context.Context, p Proof, room Room) (bool, error)
	// Barred reports whether the person of the proof is kept out of the room after a kick or ban; until is zero if that lasts as
	// long as the room.
	Barred(ctx context.Context, p Proof, room Room) (until time.Time, barred bool, err error)
}

// proof returns the proof of a verified token for a room.
func (i *Issuer) proof(req Request, c *token.Claims, room Room) Proof {
	p := Proof{
		VHost: req.From.Domainpart(), Issuer: i.Name,
		ID: c.ID, Subject: c.Subject, User: c.User.ID,
		Token: fingerprintOf(req.Token),
	}
	if !i.Claims.Tenant.IsZero() {
		p.Subject = c.Sub
	}
	if !c.IssuedAt.IsZero() {
		p.IssuedAt = c.IssuedAt.Unix()
	}
	p.Personal = i.personal(p, c.Tenant, room)
	return p
}

// personal reports whether sub names a person: where nothing says that it is the tenant or the domain, and it is none that usher
// knows. Otherwise a person who is barred would take everybody along.
func (i *Issuer) personal(p Proof, tenant string, room Room) bool {
	place := append(subjects(room, p.VHost), i.Tenant, tenant)
	return p.Subject != "" && p.Subject != wildcard && (!i.DomainVerification || !i.Claims.Tenant.IsZero()) &&
		!sameName(p.Subject, place...)
}

// usableOnce refuses a one-time token that cannot be told from another, or that would be remembered for ever, and a request that does
// not name the machine.
func usableOnce(req Request, c *token.Claims, t *trace) *refusal {
	missing := ""
	switch {
	case c.ID == "":
		missing = "jti: " + absent
	case c.Expires.IsZero():
		missing = "exp: " + absent
	case req.MachineUID == "":
		missing = "machine-uid of the request: " + absent
	case len(req.MachineUID) > maxMachine:
		missing = "machine-uid of the request: too long"
	}
	t.found("one time", "jti, exp and a machine-uid", cmp.Or(missing, describe(nil)), missing == "")
	if missing != "" {
		return refuse(ReasonTokenClaims, "one-time token: "+missing)
	}
	return nil
}

// revoked refuses a token, or a session of one, that was taken back.
func (a *Authorizer) revoked(ctx context.Context, d Decision, reason Reason, t *trace) *refusal {
	const rule, expected = "revoked", "a token that was not taken back"
	switch {
	case d.Proof.Token == "": // a password
		return nil
	case a.policy.Refusals == nil:
		t.found(rule, expected, "not asked: this needs the store of the running usher", true)
		return nil
	}
	revoked, err := a.policy.Refusals.Revoked(ctx, d.Proof, d.Room)
	switch {
	case err != nil:
		t.found(rule, expected, "no answer from the store", false)
		return &refusal{ReasonStoreUnavailable, fmt.Errorf("revocations: %w", err)}
	case revoked:
		t.found(rule, expected, "taken back", false)
		return refuse(reason, "the token was taken back")
	}
	t.found(rule, expected, describe(nil), true)
	return nil
}

// barred refuses somebody who was put out of the room and may not come back.
func (a *Authorizer) barred(ctx context.Context, d Decision, t *trace) *refusal {
	const rule, expected = "barred", "a person who was not removed from this room"
	if a.policy.Refusals == nil {
		return nil
	}
	until, barred, err := a.policy.Refusals.Barred(ctx, d.Proof, d.Room)
	switch {
	case err != nil:
		t.found(rule, expected, "no answer from the store", false)
		return &refusal{ReasonStoreUnavailable, fmt.Errorf("bars: %w", err)}
	case !barred:
		t.found(rule, expected, describe(nil), true)
		return nil
	}
	end := "until the room ends"
	if !until.IsZero() {
		end = "until " + until.UTC().Format(time.RFC3339)
	}
	t.found(rule, expected, "removed, and kept out "+end, false)
	return refuse(ReasonBarred, "kept out "+end)
}
