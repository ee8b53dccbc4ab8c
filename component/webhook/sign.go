package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Secret is a key that signs requests. It prints as nothing.
type Secret struct{ key []byte }

// Format keeps the secret out of texts, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(secret)") }

// The bytes of a secret, by the specification (Signature scheme).
const minSecret, maxSecret = 24, 64

// ParseSecrets reads one or more secrets with white space between them. Each is "whsec_" and 24 to 64 random bytes in base64. Errors do
// not quote them.
func ParseSecrets(text string) (all []Secret, err error) {
	for n, each := range strings.Fields(text) {
		encoded, is := strings.CutPrefix(each, "whsec_")
		if !is {
			return nil, fmt.Errorf("the %d. secret does not begin with whsec_", n+1)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("what follows whsec_ in the %d. secret is not base64", n+1)
		}
		if len(key) < minSecret || len(key) > maxSecret {
			return nil, fmt.Errorf("the %d. secret has %d bytes; %d to %d are needed", n+1, len(key), minSecret, maxSecret)
		}
		all = append(all, Secret{key})
	}
	if len(all) == 0 {
		return nil, errors.New("there is no secret; write whsec_ and 24 to 64 random bytes in base64")
	}
	return all, nil
}

// sign returns the header webhook-signature: a signature by each secret.
func sign(secrets []Secret, id, timestamp string, body []byte) string {
	var all []string
	for _, s := range secrets {
		mac := hmac.New(sha256.New, s.key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}
