// Package keys has the keys that verify tokens. Each source is an auth.KeySource; no other package asks a server for keys.
//
// [Secrets], [PEMFiles] and [JWKSFile] read once. A [Cache] makes the sources that ask a server: they ask when a token needs it,
// keep the answer as long as the server allows, and start no goroutine. [Join] makes one source of several.
//
// The configuration alone says where keys come from. usher does not read what a token says about it (jku, x5u, jwk, x5c), nor
// what a JWK says about itself beyond the key (RFC 8725 §3.10).
//
// The library jwx is here to decode the numbers of a JWK (jwk.ParseKey); this package reads the JSON around them and decides which
// keys count. Why tokens are not parsed by jwx is in the documentation of package token.
package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
)

// Secrets returns a source of shared secrets for HS256, HS384 and HS512. They have no key id, so each is tried for every token;
// give several to rotate them. Secrets does not check their length.
//
// A secret that is empty or a PEM file is an error: if a public key is the secret, every reader of the public key can sign
// (CVE-2021-39215, in Jitsi itself).
func Secrets(secrets ...[]byte) (auth.KeySource, error) {
	var keys []auth.Key
	for _, secret := range secrets {
		if len(secret) == 0 {
			return nil, errors.New("a secret is empty")
		}
		if bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN")) {
			return nil, errors.New("a secret is a PEM file: configure it as a public key file")
		}
		keys = append(keys, auth.Key{
			Algorithms: []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512},
			Material:   slices.Clone(secret),
		})
	}
	return configured(keys), nil
}

// Join returns a source of the keys of all these sources. If one fails and another has keys for the kid, the keys count. If none
// has keys, the answer is the error of the first that failed. Join asks the sources one after the other.
func Join(sources ...auth.KeySource) auth.KeySource {
	if len(sources) == 1 {
		return sources[0]
	}
	return joined(sources)
}

type joined []auth.KeySource

// Keys implements auth.KeySource.
func (j joined) Keys(ctx context.Context, kid string) ([]auth.Key, error) {
	var all fixed
	var failed error
	for _, source := range j {
		keys, err := source.Keys(ctx, kid)
		if err != nil && failed == nil {
			failed = err
		}
		all = append(all, keys...)
	}
	if len(all) == 0 {
		return nil, failed
	}
	return all.Keys(ctx, kid) // one source may have the named key, and another only keys without an id
}

// Counts implements auth.KeySource.
func (j joined) Counts(origin string) bool {
	return slices.ContainsFunc(j, func(source auth.KeySource) bool { return source.Counts(origin) })
}

// fixed is a source with keys that never change.
type fixed []auth.Key

// configured returns a source of keys that the configuration names itself.
func configured(keys []auth.Key) fixed {
	for i := range keys {
		keys[i].Origin = fingerprint(keys[i].Material)
	}
	return keys
}

// fingerprint tells keys apart. For a secret it is a MAC, so it gives away no more than a token does.
func fingerprint(material any) string {
	if secret, ok := material.([]byte); ok {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("usher: the sessions of this secret"))
		return hex.EncodeToString(mac.Sum(nil))
	}
	der, err := x509.MarshalPKIXPublicKey(material)
	if err != nil {
		return "" // no source has keys of such a type, and no session lasts by one
	}
	return digest(der)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Counts implements auth.KeySource.
func (f fixed) Counts(origin string) bool {
	return origin != "" && slices.ContainsFunc(f, func(key auth.Key) bool { return key.Origin == origin })
}

// Keys implements auth.KeySource.
func (f fixed) Keys(_ context.Context, kid string) ([]auth.Key, error) {
	if kid == "" {
		return slices.Clone(f), nil
	}
	if named := f.named(kid); named != nil {
		return named, nil
	}
	return f.named(""), nil
}

// named returns the keys with this id. There may be several: issuers sometimes replace a key and keep its id.
func (f fixed) named(kid string) []auth.Key {
	var keys []auth.Key
	for _, key := range f {
		if key.ID == kid {
			keys = append(keys, key)
		}
	}
	return keys
}

// have reports whether a key has this id.
func (f fixed) have(kid string) bool {
	return slices.ContainsFunc(f, func(key auth.Key) bool { return key.ID == kid })
}
