package keys_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth/keys"
)

func TestJWKS(t *testing.T) {
	key := rsaKey(t).Public()
	p256, p384, p521 := newEC(t, elliptic.P256()).Public(), newEC(t, elliptic.P384()).Public(), newEC(t, elliptic.P521()).Public()
	ed := newEd25519(t)
	for name, test := range map[string]struct {
		jwk    member
		public any
		want   []jwa.SignatureAlgorithm
	}{
		"RSA":         {jwkOf(t, key, nil), key, forRSA},
		"RSA for one": {jwkOf(t, key, member{"alg": "PS384", "use": "sig"}), key, []jwa.SignatureAlgorithm{jwa.PS384}},
		"P-256":       {jwkOf(t, p256, member{"key_ops": []string{"verify"}}), p256, es256},
		"P-384":       {jwkOf(t, p384, member{"alg": "ES384"}), p384, es384},
		"P-521":       {jwkOf(t, p521, nil), p521, es512},
		"Ed25519":     {jwkOf(t, ed, member{"alg": "EdDSA"}), ed, eddsa},
		// Members about the place of another key, or the age of this one, are ignored, even wrong ones.
		"elsewhere": {jwkOf(t, p256, member{"x5u": "https://evil.example.com", "jku": 1, "x5c": []string{"no"}, "x5t": 2, "exp": 1}), p256, es256},
	} {
		t.Run(name, func(t *testing.T) {
			test.jwk["kid"] = "k1"
			got, skipped, err := keys.JWKS(jwkSet(t, test.jwk))
			if err != nil || len(skipped) > 0 || len(got) != 1 {
				t.Fatalf("got %v, %v, %v", got, skipped, err)
			}
			if got[0].ID != "k1" || !slices.Equal(got[0].Algorithms, test.want) {
				t.Errorf("got %q for %v, want %v", got[0].ID, got[0].Algorithms, test.want)
			}
			if !test.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(got[0].Material) {
				t.Errorf("got another key, a %T", got[0].Material)
			}
		})
	}
}

// Keys that cannot verify tokens are left out and named, and the others count.
func TestJWKSSkips(t *testing.T) {
	key, p256, ed := rsaKey(t).Public(), newEC(t, elliptic.P256()).Public(), newEd25519(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := jwkOf(t, p256, nil)
	for name, test := range map[string]struct {
		jwk  member
		want string
	}{
		"for encryption":        {jwkOf(t, key, member{"use": "enc"}), `"use"`},
		"use a number":          {jwkOf(t, key, member{"use": 1}), `"use"`},
		"operations":            {jwkOf(t, key, member{"key_ops": []string{"sign"}}), `"key_ops"`},
		"operations no list":    {jwkOf(t, key, member{"key_ops": "verify"}), `"key_ops"`},
		"operation no text":     {jwkOf(t, key, member{"key_ops": []any{"verify", 1}}), `"key_ops"`},
		"alg of encryption":     {jwkOf(t, key, member{"alg": "RSA-OAEP"}), `"alg"`},
		"alg of another type":   {jwkOf(t, key, member{"alg": "ES256"}), `"alg"`},
		"alg of another curve":  {jwkOf(t, p256, member{"alg": "ES384"}), `"alg"`},
		"alg HS256":             {jwkOf(t, key, member{"alg": "HS256"}), `"alg"`},
		"alg none":              {jwkOf(t, key, member{"alg": "none"}), `"alg"`},
		"alg a list":            {jwkOf(t, key, member{"alg": []string{"RS256"}}), `"alg"`},
		"kid a number":          {jwkOf(t, key, member{"kid": 1}), `"kid"`},
		"RSA of 1024 bits":      {jwkOf(t, small.Public(), nil), "1024 bits"},
		"RSA of a megabit":      {jwkOf(t, key, member{"n": encode(slices.Repeat([]byte{255}, 1<<17)...)}), "at most 16384"},
		"RSA exponent 1":        {jwkOf(t, key, member{"e": "AQ"}), "numbers"},
		"RSA exponent even":     {jwkOf(t, key, member{"e": "AQAC"}), "numbers"},
		"RSA exponent long":     {jwkOf(t, key, member{"e": encode(1, 0, 0, 0, 0, 0, 0, 0, 3)}), "numbers"},
		"RSA exponent negative": {jwkOf(t, key, member{"e": encode(255, 255, 255, 255, 255, 255, 255, 255)}), "numbers"},
		"RSA modulus even":      {jwkOf(t, key, member{"n": encode(slices.Repeat([]byte{254}, 256)...)}), "numbers"},
		"RSA without n":         {jwkOf(t, key, member{"n": nil}), `"n" is missing`},
		"RSA with no base64":    {jwkOf(t, key, member{"n": "***"}), "numbers"},
		"EC not on the curve":   {jwkOf(t, p256, member{"x": encode(slices.Repeat([]byte{1}, 32)...)}), "numbers"},
		"EC zero":               {jwkOf(t, p256, member{"x": "AA", "y": "AA"}), "numbers"},
		"EC of another curve":   {jwkOf(t, p256, member{"crv": "secp256k1"}), "curve"},
		"EC of no curve":        {jwkOf(t, p256, member{"crv": "P-257"}), "curve"},
		"EC with a number":      {jwkOf(t, p256, member{"x": 1}), `"x" is missing`},
		"Ed25519 short":         {jwkOf(t, ed, member{"x": "AA"}), "numbers"},
		"Ed448":                 {jwkOf(t, ed, member{"crv": "Ed448"}), "curve"},
		"X25519":                {jwkOf(t, ed, member{"crv": "X25519"}), "make an RSA, EC or Ed25519 key"},
		"other type":            {member{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, "a type of key"},
		"type in small letters": {jwkOf(t, key, member{"kty": "rsa"}), "a type of key"},
		"no type":               {member{}, "a type of key"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.jwk["kid"] == nil {
				test.jwk["kid"] = "bad"
			}
			got, skipped, err := keys.JWKS(jwkSet(t, test.jwk, good))
			if err != nil || len(got) != 1 || len(skipped) != 1 {
				t.Fatalf("got %v, %v, %v", got, skipped, err)
			}
			if s := skipped[0].Error(); !strings.Contains(s, test.want) || test.jwk["kid"] == "bad" && !strings.Contains(s, `kid "bad"`) {
				t.Errorf("told %q, want %q", s, test.want)
			}
			if got, _, err := keys.JWKS(jwkSet(t, test.jwk)); err == nil || got != nil || !strings.Contains(err.Error(), "none of the 1 keys") {
				t.Errorf("alone: got %v, %v", got, err)
			}
		})
	}
}

func TestJWKSRefuses(t *testing.T) {
	p256 := newEC(t, elliptic.P256())
	good := string(jwkSet(t, jwkOf(t, p256.Public(), nil)))
	with := func(m member) string {
		return string(jwkSet(t, jwkOf(t, p256.Public(), nil), m))
	}
	for name, test := range map[string]struct{ set, want string }{
		"nothing":             {"", "not JSON"},
		"HTML":                {"<!DOCTYPE html>", "not JSON"},
		"cut off":             {good[:len(good)-1], "not JSON"},
		"something after it":  {good + "{}", "not JSON"},
		"BOM":                 {"\ufeff" + good, "not JSON"},
		"not UTF-8":           {"{\"a\": \"\xff\"}", "not JSON"},
		"null":                {"null", "not a JSON object"},
		"list":                {"[]", "not a JSON object"},
		"keys missing":        {"{}", "not a JWK Set"},
		"one key":             {string(must(t)(json.Marshal(jwkOf(t, p256.Public(), nil)))), "not a JWK Set"},
		"keys null":           {`{"keys": null}`, "not a JWK Set"},
		"keys an object":      {`{"keys": {}}`, "not a JWK Set"},
		"keys strings":        {`{"keys": ["a"]}`, "not a JWK Set"},
		"keys with null":      {`{"keys": [null]}`, "not a JWK Set"},
		"keys in upper case":  {strings.Replace(good, "keys", "KEYS", 1), "not a JWK Set"},
		"no keys":             {`{"keys": []}`, "none of the 0 keys"},
		"keys twice":          {`{"keys": [], ` + good[1:], "a name twice"},
		"keys twice, escaped": {`{"\u006beys": [], ` + good[1:], "a name twice"},
		"member twice":        {strings.Replace(good, `"kty"`, `"kty":"oct","kty"`, 1), "a name twice"},
		"deep":                {strings.Replace(good, "{", `{"a":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+",", 1), "deeper than 16"},
		"very deep":           {strings.Repeat("[", 500_000), "deeper than 16"},
		"many":                {string(jwkSet(t, slices.Repeat([]member{{"kty": "RSA"}}, 257)...)), "more than 256 keys"},
		"long":                {strings.Repeat(" ", 1<<20) + good, "more than 1024 kB"},
		"private EC":          {with(jwkOf(t, p256, nil)), "key 2 of the JWK Set contains a private key"},
		"private RSA":         {with(jwkOf(t, rsaKey(t), nil)), "contains a private key"},
		"private of any type": {with(member{"kty": "AKP", "priv": "AA"}), "contains a private key"},
		"prime only":          {with(jwkOf(t, rsaKey(t).Public(), member{"p": "AA"})), "contains a private key"},
		"secret":              {with(member{"kty": "oct", "k": "c2VjcmV0"}), "contains a shared secret"},
		"secret of any type":  {with(member{"kty": "OCT", "k": "c2VjcmV0", "use": "enc"}), "contains a shared secret"},
		"no secret":           {with(member{"kty": "oct"}), "contains a shared secret"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := keys.JWKS([]byte(test.set))
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v; want an error with %q", got, err, test.want)
			}
			if strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
}

// A new key may have the name of the old one, and be beside it for a while.
func TestJWKSKeysOfOneName(t *testing.T) {
	set := jwkSet(t,
		jwkOf(t, newEC(t, elliptic.P256()).Public(), member{"kid": "1"}),
		jwkOf(t, newEC(t, elliptic.P384()).Public(), nil),
		jwkOf(t, newEC(t, elliptic.P521()).Public(), member{"kid": "1"}),
		jwkOf(t, newEC(t, elliptic.P256()).Public(), member{"kid": "2"}))
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := keys.JWKSFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for kid, want := range map[string]string{"1": "ES256 ES512", "2": "ES256", "3": "ES384", "": "ES256 ES384 ES512 ES256"} {
		got, err := source.Keys(t.Context(), kid)
		var algorithms []string
		for _, key := range got {
			algorithms = append(algorithms, key.Algorithms[0].String())
		}
		if err != nil || strings.Join(algorithms, " ") != want {
			t.Errorf("kid %q: got %v, %v; want %s", kid, algorithms, err, want)
		}
	}
}

func TestJWKSFileRefuses(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"absent": "", "bad.json": "{", "long.json": strings.Repeat(" ", 1<<20+1), "secret.json": `{"keys":[{"kty":"oct","k":"AA"}]}`,
	} {
		path := filepath.Join(folder, name)
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if source, err := keys.JWKSFile(path); err == nil || source != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v", name, source, err)
		}
	}
}

func TestPEMFolder(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "folder.pem"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(".hidden.pem", []byte("no key"))
	write("README", []byte("no key"))
	write("1.key", readKey(t, "rsa2048.key"))
	write("1.pem~", []byte("no key"))
	source, err := keys.PEMFiles(folder)
	if err == nil || source != nil || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), ".pem, .crt, .cer, .pub") {
		t.Fatalf("no file that counts: got %v, %v", source, err)
	}

	write("b.CRT", certificate(t, newEC(t, elliptic.P384())))
	write("a.pub", readKey(t, "rsa2048.pem"))
	target, err := filepath.Abs(keyFile("ed25519.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(folder, "c.pem")); err != nil {
		t.Fatal(err)
	}
	if source, err = keys.PEMFiles(folder, keyFile("ec256.pem")); err != nil {
		t.Fatal(err)
	}
	got, err := source.Keys(t.Context(), "any")
	if err != nil || len(got) != 4 {
		t.Fatalf("got %d keys, %v", len(got), err)
	}
	for i, want := range [][]jwa.SignatureAlgorithm{forRSA, es384, eddsa, es256} {
		if !slices.Equal(got[i].Algorithms, want) {
			t.Errorf("key %d: %v, want %v", i, got[i].Algorithms, want)
		}
	}

	write("d.cer", []byte("no key"))
	if source, err := keys.PEMFiles(folder); err == nil || source != nil || !strings.Contains(err.Error(), "d.cer") {
		t.Errorf("a bad file: got %v, %v", source, err)
	}
	if err := os.Remove(filepath.Join(folder, "d.cer")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(folder, "e.pem")); err != nil {
		t.Fatal(err)
	}
	if source, err := keys.PEMFiles(folder); err == nil || source != nil || !strings.Contains(err.Error(), "e.pem") {
		t.Errorf("a link to nowhere: got %v, %v", source, err)
	}
	write("long.pem", make([]byte, 1<<20+1))
	if source, err := keys.PEMFiles(filepath.Join(folder, "long.pem")); err == nil || source != nil || !strings.Contains(err.Error(), "long.pem: it has more than 1 MB") {
		t.Errorf("a long file: got %v, %v", source, err)
	}
}

// The example of RFC 7517, appendix A.1, can be read; its key for encryption is left out.
func TestJWKSOfRFC7517(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "rfc7517-a1.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, skipped, err := keys.JWKS(data)
	if err != nil || len(got) != 1 || len(skipped) != 1 {
		t.Fatalf("got %v, %v, %v", got, skipped, err)
	}
	if key, isRSA := got[0].Material.(*rsa.PublicKey); !isRSA || got[0].ID != "2011-04-29" || key.E != 65537 ||
		!slices.Equal(got[0].Algorithms, []jwa.SignatureAlgorithm{jwa.RS256}) {
		t.Errorf("got %+v", got[0])
	}
	if !strings.Contains(fmt.Sprint(skipped), `kid "1"`) {
		t.Errorf("told %v", skipped)
	}
}
