package keys

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
)

// FuzzJWKS checks the keys that are read from a server's answer. They must be public, strong, and for the algorithms of their type.
// In use they must neither panic nor verify just anything. The seeds are in testdata/fuzz.
func FuzzJWKS(f *testing.F) {
	const claims = "eyJpc3MiOiJhIn0" // {"iss":"a"}
	unsigned, err := token.Parse("eyJhbGciOiJub25lIn0." + claims + ".")
	if err != nil {
		f.Fatal(err)
	}
	signed, err := token.Parse("eyJhbGciOiJSUzI1NiJ9." + claims + ".AAAA")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, read := range map[string]func([]byte) ([]auth.Key, []error, error){"JWKS": JWKS, "map": keyMap} {
			keys, skipped, err := read(data)
			if (err == nil) != (len(keys) > 0) {
				t.Fatalf("%s: %d keys, %v", name, len(keys), err)
			}
			if len(keys) > maxKeys {
				t.Fatalf("%s: %d keys", name, len(keys))
			}
			for _, err := range skipped {
				if len(err.Error()) > 1000 {
					t.Errorf("%s: a long reason: %v", name, err)
				}
			}
			for _, key := range keys {
				allowed := map[jwa.SignatureAlgorithm]bool{}
				switch public := key.Material.(type) {
				case *rsa.PublicKey:
					for _, alg := range []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512} {
						allowed[alg] = true
					}
					if bits := public.N.BitLen(); bits < 2048 || bits > 16384 || public.E < 3 || public.E%2 == 0 {
						t.Errorf("%s: RSA of %d bits with %d", name, bits, public.E)
					}
				case *ecdsa.PublicKey:
					allowed[map[int]jwa.SignatureAlgorithm{256: jwa.ES256, 384: jwa.ES384, 521: jwa.ES512}[public.Curve.Params().BitSize]] = true
					if _, err := public.Bytes(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				case ed25519.PublicKey:
					allowed[jwa.EdDSA] = true
				default:
					t.Fatalf("%s: a %T", name, public)
				}
				if len(key.Algorithms) == 0 {
					t.Errorf("%s: a key for no algorithm", name)
				}
				for _, alg := range key.Algorithms {
					if !allowed[alg] {
						t.Errorf("%s: a %T for %q", name, key.Material, alg)
					}
					if signed.Verify(alg, key.Material) == nil {
						t.Errorf("%s: %q verifies anything", name, alg)
					}
				}
				if unsigned.Verify(jwa.NoSignature, key.Material) == nil {
					t.Errorf("%s: none verifies", name)
				}
			}
		}
	})
}
