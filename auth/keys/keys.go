// Package keys finds the keys that tokens are verified with. Each source is an auth.KeySource; a source that has to
// ask somebody does it here and nowhere else.
package keys

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
)

// Secrets returns a source of shared secrets for HS256, HS384 and HS512. They have no key id, so each is tried for every
// token; several serve to rotate them. How long a secret has to be is not judged here.
//
// A secret that is empty or a PEM file is an error: with a public key for a secret, whoever can read the public key can
// sign (CVE-2021-39215, in Jitsi itself).
func Secrets(secrets ...[]byte) (auth.KeySource, error) {
	var source fixed
	for _, secret := range secrets {
		if len(secret) == 0 {
			return nil, errors.New("a secret is empty")
		}
		if bytes.HasPrefix(bytes.TrimSpace(secret), []byte("-----BEGIN")) {
			return nil, errors.New("a secret is a PEM file: configure it as a public key file")
		}
		source = append(source, auth.Key{
			Algorithms: []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512},
			Material:   slices.Clone(secret),
		})
	}
	return source, nil
}

// fixed is a source whose keys never change and have no id, so that all of them are the answer to every kid.
type fixed []auth.Key

// Keys implements auth.KeySource.
func (f fixed) Keys(context.Context, string) ([]auth.Key, error) {
	return slices.Clone(f), nil
}
