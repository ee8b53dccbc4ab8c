package auth

import (
	"context"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// Key is one key that an issuer signs tokens with, as far as verifying needs it.
type Key struct {
	// ID is the key id ("kid") by which a token's header may name the key. Empty means that the key has no name:
	// it is then tried for every token of its issuer.
	ID string
	// Algorithms are those that the key may be used with: what its type allows. The issuer's configured
	// algorithms narrow them further; the token's header never widens them (RFC 8725 §3.1).
	Algorithms []jwa.SignatureAlgorithm
	// Material is []byte for HS*, *rsa.PublicKey for RS* and PS*, *ecdsa.PublicKey for ES*, and
	// ed25519.PublicKey for EdDSA.
	Material any
	// Origin names what the configuration has the key by: a fingerprint of a secret or of a key in a file, or of the address that
	// a key was fetched from, where keys change without the operator. Sessions end when it does not count any more.
	Origin string
}

// KeySource holds the keys of one issuer. It is all that the decision knows of where keys come from.
type KeySource interface {
	// Keys returns the keys that a token with this kid may have been signed with: the one so named, if there is
	// one, else those without a name. An empty kid asks for all that the source can list. No key is not an error; an
	// error means that the source could not be asked (ReasonKeysUnavailable), and is for the log only. The slice is
	// the caller's, the material in it is not.
	//
	// Keys is called by many goroutines at once.
	Keys(ctx context.Context, kid string) ([]Key, error)
	// Counts tells, without asking anybody, whether keys of this origin still count.
	Counts(origin string) bool
}
