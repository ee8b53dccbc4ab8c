package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// JWKSFile reads a JWK Set from a file once, as [JWKS] does, and returns a source of its keys. An error is an *[fs.PathError].
func JWKSFile(path string) (auth.KeySource, error) {
	data, err := smallfile.Read(path, maxSize)
	if err != nil {
		return nil, err
	}
	keys, _, err := JWKS(data)
	if err != nil {
		return nil, &fs.PathError{Op: "JWKS file", Path: path, Err: err}
	}
	return configured(keys), nil
}

// JWKS reads the public signature keys of a JWK Set (RFC 7517 §5): RSA, EC and Ed25519 keys as [PEM] takes them. A JWK's
// "alg" narrows the algorithms that the key may be used with. Its certificates (x5c) are not looked at, and no address in
// it (x5u, jku) is followed.
//
// Keys of the set that cannot verify tokens are left out, and skipped says why, for the operator: each error names the
// kid. Such are keys for encryption ("use", "key_ops", "alg"), of other types or curves, and too weak ones. Keys of one
// kid are all returned.
//
// The whole set is refused if it has a private key or a shared secret, with which every reader of the set could sign; if it
// is not strict JSON (a name twice, nesting deeper than 16, text that is not UTF-8); if it has more than 256 keys or 1 MB;
// and if no key is left.
func JWKS(data []byte) (keys []auth.Key, skipped []error, err error) {
	set, err := decodeObject(data)
	if err != nil {
		return nil, nil, err
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(set["keys"], &list); err != nil || list == nil || slices.ContainsFunc(list, isNull) {
		return nil, nil, errors.New(`not a JWK Set: want {"keys": [{...}, ...]}`)
	}
	if len(list) > maxKeys {
		return nil, nil, errTooMany
	}
	// Before any key is used: who publishes one private key may well have published all.
	for i, member := range list {
		if what := confidential(member); what != "" {
			return nil, nil, fmt.Errorf("key %d of the JWK Set contains a %s: take it out, and replace it where tokens are signed, "+
				"since others may have read it", i+1, what)
		}
	}
	for i, member := range list {
		key, err := parseJWK(member)
		if err != nil {
			kid, _ := text(member, "kid")
			skipped = append(skipped, fmt.Errorf("key %d (kid %.64q): %w", i+1, kid, err))
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, skipped, fmt.Errorf("none of the %d keys of the JWK Set can verify tokens: "+
			"want public RSA, EC or Ed25519 keys for signatures", len(list))
	}
	return keys, skipped, nil
}

// keyMap reads a JSON object of kid to PEM, as Firebase publishes its certificates, or a JWK Set. The rules are those of
// JWKS.
func keyMap(data []byte) (keys []auth.Key, skipped []error, err error) {
	object, err := decodeObject(data)
	if err != nil {
		return nil, nil, err
	}
	// Jitsi, too, tells them apart by this name (token/util.lib.lua); with a string it is a kid like any other.
	if _, isKid := text(object, "keys"); object["keys"] != nil && !isKid {
		return JWKS(data)
	}
	for _, kid := range slices.Sorted(maps.Keys(object)) {
		value, isText := text(object, kid)
		if !isText {
			return nil, nil, errors.New(`neither a map of kid to certificate, {"kid": "-----BEGIN CERTIFICATE-----..."}, nor a JWK Set`)
		}
		if kid == "" {
			skipped = append(skipped, errors.New("a key without a name"))
			continue
		}
		named, err := PEM(kid, []byte(value))
		switch {
		case errors.Is(err, errPrivate):
			return nil, nil, err
		case err != nil:
			skipped = append(skipped, fmt.Errorf("kid %.64q: %w", kid, err))
			continue
		}
		if keys = append(keys, named...); len(keys) > maxKeys {
			return nil, nil, errTooMany
		}
	}
	if len(keys) == 0 {
		return nil, skipped, fmt.Errorf("none of the %d members of the map is a key that can verify tokens: "+
			"want RSA, EC or Ed25519 certificates or public keys in PEM", len(object))
	}
	return keys, skipped, nil
}

var errTooMany = fmt.Errorf("more than %d keys", maxKeys)

// confidential names what is secret in a JWK, or returns "". Only names are looked at, whatever the type of key: a type
// that is not known here has its secrets under the same names (RFC 7518 §6, and "priv" of the newer types).
func confidential(member map[string]json.RawMessage) string {
	if kty, _ := text(member, "kty"); kty == string(jwa.OctetSeq) || member["k"] != nil {
		return `shared secret (kty "oct")`
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		if member[name] != nil {
			return fmt.Sprintf("private key (member %q)", name)
		}
	}
	return ""
}

// parseJWK reads one public signature key.
func parseJWK(member map[string]json.RawMessage) (auth.Key, error) {
	if use, isText := text(member, "use"); member["use"] != nil && (!isText || use != string(jwk.ForSignature)) {
		return auth.Key{}, errors.New(`not for signatures: its "use" is not "sig"`)
	}
	if operations := member["key_ops"]; operations != nil {
		var list []string
		if err := json.Unmarshal(operations, &list); err != nil || !slices.Contains(list, string(jwk.KeyOpVerify)) {
			return auth.Key{}, errors.New(`not for verifying: its "key_ops" are without "verify"`)
		}
	}
	kid, isText := text(member, "kid")
	if member["kid"] != nil && !isText {
		return auth.Key{}, errors.New(`its "kid" is not a string`)
	}
	public, err := parsePublicJWK(member)
	if err != nil {
		return auth.Key{}, err
	}
	algorithms, err := algorithmsOf(public)
	if err != nil {
		return auth.Key{}, err
	}
	if member["alg"] != nil {
		alg, _ := text(member, "alg")
		if !slices.Contains(algorithms, jwa.SignatureAlgorithm(alg)) {
			return auth.Key{}, errors.New(`its "alg" is not one that a key of its type verifies tokens with`)
		}
		algorithms = []jwa.SignatureAlgorithm{jwa.SignatureAlgorithm(alg)}
	}
	return auth.Key{ID: kid, Algorithms: algorithms, Material: public}, nil
}

// jwkMembers are what makes a key of each type (RFC 7518 §6, RFC 8037 §2). jwx gets these and no others, so that it has
// no opinion on certificates and addresses.
var jwkMembers = map[jwa.KeyType][]string{
	jwa.RSA: {"kty", "n", "e"},
	jwa.EC:  {"kty", "crv", "x", "y"},
	jwa.OKP: {"kty", "crv", "x"},
}

// parsePublicJWK returns the key itself. jwx decodes it, and does not check that the numbers are a key's: that is done
// here and in algorithmsOf.
func parsePublicJWK(member map[string]json.RawMessage) (any, error) {
	kty, _ := text(member, "kty")
	names, isUsed := jwkMembers[jwa.KeyType(kty)]
	if !isUsed {
		return nil, errors.New("a type of key that no algorithm uses: want RSA, EC or OKP")
	}
	only := make(map[string]json.RawMessage, len(names))
	for _, name := range names {
		if value, isText := text(member, name); !isText || value == "" {
			return nil, fmt.Errorf("its %q is missing", name)
		}
		only[name] = member[name]
	}
	plain, err := json.Marshal(only)
	if err != nil {
		return nil, errDamaged
	}
	key, err := jwk.ParseKey(plain)
	if err != nil {
		return nil, errDamaged // and not err, which quotes
	}
	var public any
	if err := key.Raw(&public); err != nil {
		return nil, errors.New("a curve that no algorithm uses: want P-256, P-384, P-521 or Ed25519")
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		// jwx takes the lower bits of an exponent that is too long.
		if e := key.(jwk.RSAPublicKey).E(); len(bytes.TrimLeft(e, "\x00")) > 4 {
			return nil, errDamaged
		}
	case *ecdsa.PublicKey:
		if _, err := algorithmsOf(public); err != nil {
			return nil, err
		}
		if _, err := public.ECDH(); err != nil { // not a point of the curve
			return nil, errDamaged
		}
	case ed25519.PublicKey:
		if len(public) != ed25519.PublicKeySize { // Verify would panic
			return nil, errDamaged
		}
	}
	return public, nil
}

var errDamaged = errors.New("its numbers are not those of a key")

// text returns the string that a member of a JSON object is, if it is one.
func text(object map[string]json.RawMessage, name string) (value string, isText bool) {
	raw := object[name]
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return value, json.Unmarshal(raw, &value) == nil
}

func isNull(object map[string]json.RawMessage) bool { return object == nil }

// maxDepth is the deepest nesting of JSON that is read, as in tokens.
const maxDepth = 16

var errJSON = errors.New("not JSON: is this the right address or file?")

// decodeObject reads a JSON object strictly. encoding/json takes the last of two members of one name, and replaces what
// is not UTF-8: who checked the set with another parser then saw another set.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	if len(data) > maxSize {
		return nil, errSize
	}
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, errJSON
	}
	if err := checkNames(json.NewDecoder(bytes.NewReader(data)), maxDepth); err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return nil, errors.New("not a JSON object: is this the right address or file?")
	}
	return object, nil
}

// checkNames reads one value that holds at most depth levels, and refuses a name that occurs twice in one object.
func checkNames(decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	if err != nil {
		return errJSON
	}
	open, isOpen := token.(json.Delim)
	if !isOpen {
		return nil
	}
	if depth == 0 {
		return fmt.Errorf("JSON nested deeper than %d", maxDepth)
	}
	seen := map[json.Token]bool{}
	for decoder.More() {
		if open == '{' {
			name, err := decoder.Token()
			if err != nil {
				return errJSON
			}
			if seen[name] {
				return errors.New("JSON with a name twice in one object")
			}
			seen[name] = true
		}
		if err := checkNames(decoder, depth-1); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errJSON
	}
	return nil
}
