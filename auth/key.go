package auth

import (
	"context"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// Key verifies the tokens that an issuer signs with it.
type Key struct {
	// ID is the key id ("kid") by which a token's header may name the key. A key without an id is tried for every token of its
	// issuer.
	ID string
	// Algorithms lists what the type of the key allows. The issuer's configured algorithms narrow the list; the token's header
	// never widens it (RFC 8725 §3.1).
	Algorithms []jwa.SignatureAlgorithm
	// Material is []byte for HS*, *rsa.PublicKey for RS* and PS*, *ecdsa.PublicKey for ES*, and
	// ed25519.PublicKey for EdDSA.
	Material any
	// Origin is a fingerprint of what the configuration names: the secret, the key in a file, or the address that publishes the
	// key (there keys change without the operator). Sessions end when the origin no longer counts.
	Origin string
}

// KeySource has the keys of one issuer. The decision knows nothing else about where keys come from.
type KeySource interface {
	// Keys returns the keys that may have signed a token with this kid: those with this id, or, if there are none, those
	// without an id. An empty kid asks for all keys that the source can list. No key is not an error. An error means that the
	// source could not be asked (ReasonKeysUnavailable), and is for the log only. The caller may change the slice, but not the
	// material in it.
	//
	// Keys is called by many goroutines at once.
	Keys(ctx context.Context, kid string) ([]Key, error)
	// Counts reports whether keys of this origin still count. It asks no server.
	Counts(origin string) bool
}
