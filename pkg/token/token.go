// Package token is the token format of Jitsi Meet: a compact JWS (RFC 7515) with a payload that holds the claims of
// RFC 7519 and, under "context", what Jitsi adds about the person, the tenant and the room.
//
// A token passes three gates, each with its own error:
//
//	t, err := token.Parse(compact)     // ErrMalformed: not a token by the strict rules below
//	err = t.Verify(alg, key)           // ErrSignature: not made with this key
//	claims, err := t.Claims(claimMap)  // ErrClaims:    a claim of the wrong type
//
// Issuers that were not made for Jitsi put roles, rooms and tenants in other places than Jitsi; a [ClaimMap] says where. Its
// zero value is Jitsi's places.
//
// Types are strict for claims that decide something. Claims that decide nothing refuse no token: an id, name, email, avatar,
// group, jti or feature that cannot be read is passed over, with a note. Habits of issuers are read as they are meant: null is
// absent (Java), an empty array is an empty object (PHP), the texts "true" and "false" are true and false. But null for exp,
// nbf, aud, the room, sub, or a limit of the room is refused: an absent one can mean more than any value does.
//
// The caller decides who may sign, when a token has expired and which room it opens: this package reads and writes tokens,
// trusts nobody, and does no I/O.
//
// The rules are stricter than the RFCs' because the issuer's library, Prosody's plugin, the web page and usher all read the
// same bytes, and a token that two of them read differently is a way in. Refused are: more than [MaxSize] bytes; base64url with
// padding, line breaks or stray bits; all that package strictjson refuses; names that differ only in case, from each other or
// from a name that is read here; "crit", and "b64" other than true; a "typ" other than JWT.
//
// The library jwx is here for its cryptography: verifiers and signers of all algorithms, which work on bytes (package jws), and
// the names of algorithms (package jwa). Its jwt.Parse is not used, because it reads tokens more freely than this package may:
// of a claim that occurs twice it takes the last, it replaces bytes that are not UTF-8, it passes over what follows the object,
// it takes exp as a text and iss as null, and it accepts a "crit" that it does not know (all seen with v2.1.7). Also it refuses
// in one breath what usher tells apart: the form, the algorithm, the key, the claims, the time.
//
// Error texts are for the log. They name the claim and what was expected. They quote nothing of the token but an unknown
// affiliation, cut and cleaned, which the operator needs for a claim map.
package token

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // for saltFits
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// MaxSize caps a compact token, in bytes, for Parse and Mint. jitsi-meet carries tokens in URLs, and web servers refuse URLs of
// about this length.
const MaxSize = 8192

// The errors of the three gates, for errors.Is. They come wrapped with the detail.
var (
	ErrMalformed = errors.New("malformed token")
	ErrSignature = errors.New("signature does not verify")
	ErrClaims    = errors.New("unusable claims")
)

// Token is a token of the right form. Its content is unverified until Verify has returned nil. A Token never changes; goroutines
// may share it.
type Token struct {
	// Algorithm is the "alg" of the header: any non-empty string, also "none". Compare it with the allowed algorithms, but never
	// choose the algorithm of Verify by it (RFC 8725 §3.1).
	Algorithm jwa.SignatureAlgorithm
	// KeyID is the header's "kid", a hint which key to try; empty if absent.
	KeyID string
	// Type is the header's "typ": some spelling of JWT, or empty if absent.
	Type string

	payload   strictjson.Object
	signed    string // what was signed: header and payload in base64url with the dot between them
	signature []byte
}

// The names that this package reads in the objects of a token. It refuses a name that differs from one of them only in case,
// because another program may read it as the real one: encoding/json takes "ROOM" for room, and "\u212Aid", with a Kelvin sign,
// for kid.
var (
	headerNames  = []string{"alg", "kid", "typ", "crit", "b64"}
	payloadNames = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "room", "moderator", "one_time", "context"}
	contextNames = []string{"user", "group", "tenant", "room", "features"}
	userNames    = []string{"id", "name", "email", "avatar", "affiliation", "moderator", "lobby_bypass"}
	roomNames    = []string{"regex", "lobby", "max_occupants", "ends"}
)

// Parse reads a token in compact serialisation (RFC 7515 §7.1) and verifies nothing. Its errors are ErrMalformed.
func Parse(compact string) (*Token, error) {
	// Before anything is split or decoded: 10 MB of dots must cost no more than this (CVE-2025-30204).
	if len(compact) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(compact), MaxSize)
	}
	headerPart, rest, _ := strings.Cut(compact, ".")
	payloadPart, signaturePart, found := strings.Cut(rest, ".")
	if !found || strings.Contains(signaturePart, ".") {
		return nil, fmt.Errorf("%w: not three parts", ErrMalformed)
	}

	t := &Token{signed: compact[:len(headerPart)+1+len(payloadPart)]}
	header, err := decodeObject(headerPart)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if err := t.readHeader(header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if t.payload, err = decodeObject(payloadPart); err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if !t.namesAreExact() {
		return nil, fmt.Errorf("%w: payload: a claim name in another case", ErrMalformed)
	}
	// An unsecured token (RFC 7519 §6) has an empty signature. Parse accepts it, so that the caller can refuse the token for its
	// algorithm. No algorithm verifies an empty signature.
	if t.signature, err = decodeBase64(signaturePart); err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	return t, nil
}

// readHeader reads the parameters that count. It ignores all others, above all keys and addresses of keys (jwk, x5c, jku, x5u): by
// those a sender would vouch for itself (RFC 8725 §3.10).
func (t *Token) readHeader(header strictjson.Object) error {
	if !header.Spells(headerNames) {
		return errors.New("a parameter name in another case")
	}
	// usher understands no extension, so a critical one is always unknown (RFC 7515 §4.1.11).
	if _, present := header.Get("crit"); present {
		return errors.New("crit")
	}
	// b64: false means a payload that is not base64url (RFC 7797 §3).
	if b64, present := header.Get("b64"); present && b64 != true {
		return errors.New("b64 other than true")
	}

	algorithm, _ := header.Get("alg")
	name, _ := algorithm.(string)
	if name == "" {
		return errors.New("alg: want the name of an algorithm")
	}
	t.Algorithm = jwa.SignatureAlgorithm(name)

	if kid, present := header.Get("kid"); present {
		var isText bool
		if t.KeyID, isText = kid.(string); !isText {
			return errors.New("kid: want a string")
		}
	}
	if typ, present := header.Get("typ"); present {
		// An access token of OAuth ("at+jwt") or of another kind is not for rooms (RFC 8725 §3.11). Jitsi wants exactly "JWT";
		// RFC 7519 §5.1 only recommends upper case.
		if t.Type, _ = typ.(string); !strings.EqualFold(t.Type, "JWT") {
			return errors.New("typ: want JWT")
		}
	}
	return nil
}

func (t *Token) namesAreExact() bool {
	context := t.payload.Child("context")
	return t.payload.Spells(payloadNames) &&
		context.Spells(contextNames) &&
		context.Child("user").Spells(userNames) &&
		context.Child("room").Spells(roomNames)
}

// Issuer returns the claim "iss", or "" if it is absent or no string. It is unverified, and good for one thing: finding the keys
// that may verify it.
func (t *Token) Issuer() string {
	value, _ := t.payload.Get("iss")
	issuer, _ := value.(string)
	return issuer
}

// Has reports whether the payload has a claim of this name, of any type, unverified.
func (t *Token) Has(claim string) bool {
	_, present := t.payload.Get(claim)
	return present
}

// ID returns the claim "jti" for the log: unverified, see ForLog; "" if it is absent or neither string nor number.
func (t *Token) ID() string {
	value, _ := t.payload.Get("jti")
	id, _ := labelText(value)
	return ForLog(id)
}

// ForLog makes a text of a token safe for a log or a terminal: it cuts it to 64 characters, and replaces characters that do not
// print by U+FFFD.
func ForLog(text string) string { return printable.Cut(text, 64, "") }

// Verify returns nil if the token was signed with key by alg, otherwise ErrSignature. alg is an algorithm that the caller allows
// for the key, never one chosen by the token's header. The key is []byte for HS*, *rsa.PublicKey for RS* and PS*, *ecdsa.PublicKey
// for ES*, ed25519.PublicKey for EdDSA. A key that does not fit alg does not verify.
func (t *Token) Verify(alg jwa.SignatureAlgorithm, key any) error {
	// The verifier gets bytes and not the token, so that no second JSON parser reads the header.
	verifier, err := jws.NewVerifier(alg)
	if err != nil {
		return fmt.Errorf("%w: no verifier for %q", ErrSignature, string(alg))
	}
	if err := verifier.Verify([]byte(t.signed), t.signature, key); err != nil || !t.saltFits(alg, key) {
		return fmt.Errorf("%w: %s", ErrSignature, alg)
	}
	return nil
}

// saltFits reports whether the salt of a PS* signature is as long as its hash, as RFC 7518 §3.5 demands. The jws package accepts a
// salt of any length. For other algorithms saltFits returns true.
func (t *Token) saltFits(alg jwa.SignatureAlgorithm, key any) bool {
	var hash crypto.Hash
	switch alg {
	case jwa.PS256:
		hash = crypto.SHA256
	case jwa.PS384:
		hash = crypto.SHA384
	case jwa.PS512:
		hash = crypto.SHA512
	default:
		return true
	}
	public, isRSA := key.(*rsa.PublicKey)
	h := hash.New()
	h.Write([]byte(t.signed))
	return isRSA && rsa.VerifyPSS(public, hash, h.Sum(nil), t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

func decodeObject(part string) (strictjson.Object, error) {
	text, err := decodeBase64(part)
	if err != nil {
		return nil, err
	}
	return strictjson.ParseFolded(string(text))
}

var errBase64 = errors.New("not base64url")

// decodeBase64 decodes base64url without padding (RFC 7515 §2). Each result has exactly one spelling: Strict refuses stray bits at
// the end, and decodeBase64 refuses the line breaks that Strict skips.
func decodeBase64(part string) ([]byte, error) {
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return nil, errBase64 // not err: it quotes only the offset today, but may quote more one day
	}
	return bytes, nil
}
