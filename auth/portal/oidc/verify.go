package oidc

import (
	"context"
	"crypto"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// maxToken caps a token, in bytes. A person in hundreds of groups has a long ID token.
const maxToken = 128 << 10

// newKey is how long usher waits for a key that it does not know yet: keys.Remote lets 5 s pass between two fetches, and one takes 5 s at
// most.
const newKey = 10 * time.Second

// maxWaiting is how many tokens may wait for a key: anybody can send a logout token with an invented one.
const maxWaiting = 256

var errCrowd = errors.New("too many tokens wait for keys that are not known yet")

// header is what decides in the header of a token.
type header struct{ alg, kid, typ string }

// parseHeader reads the header of a compact token (RFC 7515 §4.1). It refuses all that says how else to read the token.
func parseHeader(token string) (header, error) {
	if len(token) > maxToken {
		return header{}, errors.New("a token that is too long")
	}
	if strings.Count(token, ".") != 2 {
		return header{}, errors.New("not a signed token: want three parts")
	}
	first, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(first)
	if err != nil {
		return header{}, errors.New("the header of the token is not base64url")
	}
	object, err := strictjson.ParseFolded(string(text))
	if err != nil {
		return header{}, errors.New("the header of the token is not strict JSON")
	}
	var h header
	for name, field := range map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ} {
		if value, present := object.Get(name); present {
			var isText bool
			if *field, isText = value.(string); !isText {
				return header{}, errors.New("the header of the token has a member of the wrong type")
			}
		}
	}
	if _, critical := object.Get("crit"); critical {
		return header{}, errors.New("the header of the token asks for an extension (crit)") // RFC 7515 §4.1.11
	}
	return h, nil
}

// keySet finds the key of one token. It remembers what came of it, because go-oidc makes texts of errors that quote the token.
type keySet struct {
	*discovered
	header
	err     error  // why the keys could not be fetched
	payload []byte // nil unless the signature is good
}

// VerifySignature implements gooidc.KeySet. The algorithm is one of the provider's, as the verifier has checked.
func (k *keySet) VerifySignature(ctx context.Context, token string) (payload []byte, err error) {
	found, err := k.keys.Keys(ctx, k.kid)
	if k.err = err; err != nil {
		return nil, err
	}
	var set gooidc.StaticKeySet
	for _, key := range found {
		if slices.Contains(key.Algorithms, jwa.SignatureAlgorithm(k.alg)) {
			set.PublicKeys = append(set.PublicKeys, crypto.PublicKey(key.Material))
		}
	}
	k.payload, err = set.VerifySignature(ctx, token)
	return k.payload, err
}

// signed is a token with a good signature of this provider.
type signed struct {
	header
	claims strictjson.Object
	id     *gooidc.IDToken
}

// verify verifies what ID tokens and logout tokens have in common, but for the times: go-oidc knows no leeway for them. A key that is
// not known yet is waited for. client is the audience, or empty for tokens that others read, too.
func (p *provider) verify(ctx context.Context, d *discovered, token, client string) (signed, error) {
	h, err := parseHeader(token)
	if err != nil {
		return signed{}, p.fail(ErrRefused, err)
	}
	set := &keySet{discovered: d, header: h}
	config := &gooidc.Config{
		ClientID: client, SkipClientIDCheck: client == "", SupportedSigningAlgs: d.algorithms, SkipExpiryCheck: true,
	}
	verifier := gooidc.NewVerifier(p.Issuer, set, config)
	ctx, cancel := context.WithTimeout(ctx, newKey)
	defer cancel()
	id, err := verifier.Verify(ctx, token)
	if errors.Is(set.err, keys.ErrSoon) {
		defer p.waiting.Add(-1)
		if p.waiting.Add(1) > maxWaiting {
			return signed{}, p.fail(ErrUnavailable, errCrowd)
		}
	}
	for errors.Is(set.err, keys.ErrSoon) && wait(ctx, time.Second/4) {
		id, err = verifier.Verify(ctx, token)
	}
	if set.err != nil {
		return signed{}, p.fail(ErrUnavailable, set.err)
	}
	claims, why := p.claimsOf(set, client)
	if why == nil && err != nil {
		why = errors.New("the token is malformed")
	}
	if why != nil {
		return signed{}, p.fail(ErrRefused, why)
	}
	return signed{header: h, claims: claims, id: id}, nil
}

// decisive are the claims that decide whether a token counts.
var decisive = []string{"iss", "aud", "sub", "azp", "nonce", "sid", "exp", "iat", "nbf", "jti", "events", "at_hash", "client_id"}

// claimsOf reads the claims by their very names, each once: go-oidc takes them in any case, and the last of two.
func (p *provider) claimsOf(set *keySet, client string) (strictjson.Object, error) {
	if !slices.Contains(set.algorithms, set.alg) {
		return nil, errors.New("the token is signed by another algorithm than those that the provider names")
	}
	if set.payload == nil {
		return nil, errors.New("the signature of the token is not by a key of the provider")
	}
	claims, err := strictjson.Parse(string(set.payload))
	if err != nil {
		return nil, fmt.Errorf("the claims of the token: %w", err)
	}
	if !claims.Spells(decisive) {
		return nil, errors.New("a claim of the token is spelled in another case")
	}
	if issuer, _ := claims.Text("iss"); issuer != p.Issuer {
		return nil, errors.New("the token is by another issuer")
	}
	if client != "" && !slices.Contains(audience(claims), client) {
		return nil, errors.New("the token is for another client")
	}
	return claims, nil
}

// audience returns the audience of a token: a text or a list (RFC 7519 §4.1.3).
func audience(claims strictjson.Object) []string {
	if one, isText := claims.Text("aud"); isText {
		return []string{one}
	}
	return texts(claims, "aud")
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// equal compares without telling how much of it is the same.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// instant is the name of a claim that is a time (RFC 7519 §2), and whether it must be there.
type instant struct {
	name string
	must bool
}

// readTime returns the time in a claim: zero if it is absent and need not be there.
func readTime(claims strictjson.Object, i instant) (time.Time, error) {
	value, present := claims.Get(i.name)
	if !present && !i.must {
		return time.Time{}, nil
	}
	number, isNumber := value.(strictjson.Number)
	seconds, err := strconv.ParseFloat(string(number), 64)
	if !isNumber || err != nil || seconds < 0 || seconds > 1<<40 { // older Keycloaks write nbf: 0
		return time.Time{}, errors.New("the token has no " + i.name + ", or not a time there")
	}
	return time.Unix(int64(seconds), 0), nil
}

// times are the times of a token.
type times struct{ issued, expires time.Time }

// checkTimes checks the times of a token against the clock, which may be wrong by leeway. A token without exp ends lasts after iat; with 0
// it must have one.
func checkTimes(claims strictjson.Object, now time.Time, leeway, lasts time.Duration) (t times, err error) {
	if t.issued, err = readTime(claims, instant{"iat", true}); err != nil {
		return t, err
	}
	if t.expires, err = readTime(claims, instant{"exp", lasts == 0}); err != nil {
		return t, err
	}
	if t.expires.IsZero() {
		t.expires = t.issued.Add(lasts)
	}
	from, err := readTime(claims, instant{"nbf", false})
	switch {
	case err != nil:
		return t, err
	case !now.Before(t.expires.Add(leeway)):
		return t, errors.New("the token has expired: compare the clocks, or set leeway")
	case now.Add(leeway).Before(t.issued), now.Add(leeway).Before(from):
		return t, errors.New("the token is of the future: compare the clocks, or set leeway")
	}
	return t, nil
}
