package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"testing"
)

func encode(part string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(part))
}

// hs256 signs any header and payload, however wrong.
func hs256(t testing.TB, header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	mac := hmac.New(sha256.New, secret(t))
	mac.Write([]byte(signed))
	return signed + "." + encode(string(mac.Sum(nil)))
}
