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
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/smallfile"
	"github.com/xmpp-usher/usher/pkg/strictjson"
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

// JWKS reads the public signature keys of a JWK Set (RFC 7517 §5): RSA, EC and Ed25519 keys as in [PEM]. A JWK's "alg" narrows the
// algorithms of the key. JWKS ignores certificates (x5c), and follows no address (x5u, jku).
//
// JWKS leaves out keys that cannot verify tokens: keys for encryption ("use", "key_ops", "alg"), of other types or curves, and weak
// ones. skipped says why, for the operator; each error names the kid. Several keys of one kid are all returned.
//
// The whole set is refused if it has a private key or a shared secret, with which every reader of the set could sign; if it
// is not strict JSON (see package strictjson); if it has more than 256 keys or 1 MB; and if no key is left.
func JWKS(data []byte) (keys []auth.Key, skipped []error, err error) {
	set, err := decodeObject(data)
	if err != nil {
		return nil, nil, err
	}
	list, err := jwks(set)
	if err != nil {
		return nil, nil, err
	}
	// Before any key is used: somebody who publishes one private key may well have published all.
	for i, jwk := range list {
		if what := confidential(jwk); what != "" {
			return nil, nil, fmt.Errorf("key %d of the JWK Set contains a %s: take it out, and replace it where tokens are signed, "+
				"since others may have read it", i+1, what)
		}
	}
	for i, jwk := range list {
		key, err := parseJWK(jwk)
		if err != nil {
			kid, _ := jwk.Text("kid")
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

// jwks returns the members of a JWK Set.
func jwks(set strictjson.Object) ([]strictjson.Object, error) {
	errSet := errors.New(`not a JWK Set: want {"keys": [{...}, ...]}`)
	value, _ := set.Get("keys")
	list, isList := value.([]any)
	if !isList {
		return nil, errSet
	}
	if len(list) > maxKeys {
		return nil, errTooMany
	}
	all := make([]strictjson.Object, len(list))
	for i, value := range list {
		var isObject bool
		if all[i], isObject = value.(strictjson.Object); !isObject {
			return nil, errSet
		}
	}
	return all, nil
}

// keyMap reads a JSON object of kid to PEM, as Firebase publishes its certificates, or a JWK Set. Otherwise it is as strict as
// JWKS.
func keyMap(data []byte) (keys []auth.Key, skipped []error, err error) {
	object, err := decodeObject(data)
	if err != nil {
		return nil, nil, err
	}
	// Jitsi tells them apart by this name, too (token/util.lib.lua); with a string it is a kid like any other.
	if keys, present := object.Get("keys"); present && !isText(keys) {
		return JWKS(data)
	}
	slices.SortFunc(object, func(a, b strictjson.Member) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range object {
		kid := m.Name
		value, isText := m.Value.(string)
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

// confidential names what is secret in a JWK, or returns "". Only names count, whatever the type of key: a type that usher does
// not know has its secrets under the same names (RFC 7518 §6, and "priv" of the newer types).
func confidential(jwk strictjson.Object) string {
	has := func(name string) bool {
		_, present := jwk.Get(name)
		return present
	}
	if kty, _ := jwk.Text("kty"); kty == string(jwa.OctetSeq) || has("k") {
		return `shared secret (kty "oct")`
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		if has(name) {
			return fmt.Sprintf("private key (member %q)", name)
		}
	}
	return ""
}

// parseJWK reads one public signature key.
func parseJWK(object strictjson.Object) (auth.Key, error) {
	if use, present := object.Get("use"); present && use != string(jwk.ForSignature) {
		return auth.Key{}, errors.New(`not for signatures: its "use" is not "sig"`)
	}
	if operations, present := object.Get("key_ops"); present {
		list, _ := operations.([]any)
		if !slices.Contains(list, any(string(jwk.KeyOpVerify))) || slices.ContainsFunc(list, isNoOperation) {
			return auth.Key{}, errors.New(`not for verifying: its "key_ops" are without "verify"`)
		}
	}
	kid, isText := object.Text("kid")
	if _, present := object.Get("kid"); present && !isText {
		return auth.Key{}, errors.New(`its "kid" is not a string`)
	}
	public, err := parsePublicJWK(object)
	if err != nil {
		return auth.Key{}, err
	}
	algorithms, err := algorithmsOf(public)
	if err != nil {
		return auth.Key{}, err
	}
	if _, present := object.Get("alg"); present {
		alg, _ := object.Text("alg")
		if !slices.Contains(algorithms, jwa.SignatureAlgorithm(alg)) {
			return auth.Key{}, errors.New(`its "alg" is not one that a key of its type verifies tokens with`)
		}
		algorithms = []jwa.SignatureAlgorithm{jwa.SignatureAlgorithm(alg)}
	}
	return auth.Key{ID: kid, Algorithms: algorithms, Material: public}, nil
}

// jwkMembers are what makes a key of each type (RFC 7518 §6, RFC 8037 §2). jwx gets these and no others, so that it does not
// interpret certificates and addresses.
var jwkMembers = map[jwa.KeyType][]string{
	jwa.RSA: {"kty", "n", "e"},
	jwa.EC:  {"kty", "crv", "x", "y"},
	jwa.OKP: {"kty", "crv", "x"},
}

// parsePublicJWK returns the key itself. jwx decodes it, but does not check that the numbers make a key: parsePublicJWK and
// algorithmsOf do.
func parsePublicJWK(object strictjson.Object) (any, error) {
	kty, _ := object.Text("kty")
	names, isUsed := jwkMembers[jwa.KeyType(kty)]
	if !isUsed {
		return nil, errors.New("a type of key that no algorithm uses: want RSA, EC or OKP")
	}
	only := make(map[string]string, len(names))
	for _, name := range names {
		if only[name], _ = object.Text(name); only[name] == "" {
			return nil, fmt.Errorf("its %q is missing", name)
		}
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

func isText(value any) bool {
	_, is := value.(string)
	return is
}

// isNoOperation reports whether a value cannot stand in "key_ops". A null counts as nothing.
func isNoOperation(value any) bool { return value != nil && !isText(value) }

// decodeObject reads a JSON object strictly: somebody who checked the set with another parser must have seen the same set.
func decodeObject(data []byte) (strictjson.Object, error) {
	if len(data) > maxSize {
		return nil, errSize
	}
	object, err := strictjson.Parse(string(data))
	switch {
	case errors.Is(err, strictjson.ErrSyntax), errors.Is(err, strictjson.ErrNoObject), errors.Is(err, strictjson.ErrTrailing):
		return nil, fmt.Errorf("%w: is this the right address or file?", err)
	case err != nil:
		return nil, err
	}
	return object, nil
}
