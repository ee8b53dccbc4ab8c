package keys_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth/keys"
)

func TestPEM(t *testing.T) {
	key := rsaKey(t)
	p384, p521 := newEC(t, elliptic.P384()), newEC(t, elliptic.P521())
	for name, test := range map[string]struct {
		data   []byte
		public interface{ Equal(crypto.PublicKey) bool }
		want   []jwa.SignatureAlgorithm
	}{
		"RSA":               {readKey(t, "rsa2048.pem"), &key.PublicKey, forRSA},
		"RSA in PKCS1":      {inPEM("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)), &key.PublicKey, forRSA},
		"RSA certificate":   {certificate(t, key), &key.PublicKey, forRSA},
		"P-256":             {readKey(t, "ec256.pem"), nil, es256},
		"P-384":             {inPEM("PUBLIC KEY", must(t)(x509.MarshalPKIXPublicKey(p384.Public()))), &p384.PublicKey, es384},
		"P-384 certificate": {certificate(t, p384), &p384.PublicKey, es384},
		"P-521":             {inPEM("PUBLIC KEY", must(t)(x509.MarshalPKIXPublicKey(p521.Public()))), &p521.PublicKey, es512},
		"Ed25519":           {readKey(t, "ed25519.pem"), nil, eddsa},
		"text around it":    {slices.Concat([]byte("a key:\n"), readKey(t, "ec256.pem"), []byte("\nthat was it\n")), nil, es256},
		"CRLF":              {[]byte(strings.ReplaceAll(string(readKey(t, "ec256.pem")), "\n", "\r\n")), nil, es256},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := keys.PEM("k1", test.data)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].ID != "k1" || !slices.Equal(got[0].Algorithms, test.want) {
				t.Fatalf("got %+v", got)
			}
			if test.public != nil && !test.public.Equal(got[0].Material) {
				t.Errorf("got another key, a %T", got[0].Material)
			}
		})
	}
}

func TestPEMRefuses(t *testing.T) {
	small, x25519 := weak(t)
	good := string(readKey(t, "ec256.pem"))
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "no key in PEM found"},
		"text":                {[]byte("secret"), "no key in PEM found"},
		"DER":                 {must(t)(x509.MarshalPKIXPublicKey(newEC(t, elliptic.P256()).Public())), "no key in PEM found"},
		"damaged":             {[]byte(strings.Replace(good, "\n", "\n*", 1)), "damaged"},
		"cut off":             {[]byte(good[:len(good)/2]), "damaged"},
		"damaged before good": {[]byte(good[:len(good)/2] + "\n" + good), "damaged"},
		"private":             {readKey(t, "rsa2048.key"), "a private key where a public one belongs"},
		"private in PKCS1":    {inPEM("RSA PRIVATE KEY", []byte("secret")), "a private key where a public one belongs"},
		"private of OpenSSH":  {inPEM("OPENSSH PRIVATE KEY", []byte("secret")), "a private key where a public one belongs"},
		"public and private":  {slices.Concat(readKey(t, "ec256.pem"), readKey(t, "ec256.key")), "a private key where a public one belongs"},
		"other type":          {inPEM("DH PARAMETERS", []byte("secret")), `want "PUBLIC KEY"`},
		"wrong bytes":         {inPEM("PUBLIC KEY", []byte("secret")), "copy the whole of it again"},
		"wrong PKCS1":         {inPEM("RSA PUBLIC KEY", []byte("secret")), "copy the whole of it again"},
		"wrong certificate":   {inPEM("CERTIFICATE", []byte("secret")), "copy the whole of it again"},
		"RSA of 1024 bits":    {inPEM("PUBLIC KEY", must(t)(x509.MarshalPKIXPublicKey(small.Public()))), "an RSA key of 1024 bits"},
		"P-224":               {inPEM("PUBLIC KEY", must(t)(x509.MarshalPKIXPublicKey(newEC(t, elliptic.P224()).Public()))), "P-256, P-384 or P-521"},
		"X25519":              {inPEM("PUBLIC KEY", must(t)(x509.MarshalPKIXPublicKey(x25519.PublicKey()))), "make an RSA, EC or Ed25519 key"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := keys.PEM("", test.data)
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v; want an error with %q", got, err, test.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "MI") {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
}

func TestPEMFiles(t *testing.T) {
	both := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(both, slices.Concat(readKey(t, "ec256.pem"), readKey(t, "ed25519.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := keys.PEMFiles(keyFile("rsa2048.pem"), both)
	if err != nil {
		t.Fatal(err)
	}
	for _, kid := range []string{"", "anything"} {
		got, err := source.Keys(t.Context(), kid)
		if err != nil || len(got) != 3 {
			t.Fatalf("kid %q: got %d keys, %v", kid, len(got), err)
		}
		for i, want := range [][]jwa.SignatureAlgorithm{forRSA, es256, eddsa} {
			if got[i].ID != "" || !slices.Equal(got[i].Algorithms, want) {
				t.Errorf("key %d: got %q, %v", i, got[i].ID, got[i].Algorithms)
			}
		}
	}

	for _, path := range []string{keyFile("rsa2048.key"), filepath.Join(t.TempDir(), "absent.pem")} {
		source, err := keys.PEMFiles(keyFile("rsa2048.pem"), path)
		if err == nil || source != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v", path, source, err)
		}
	}
}

func TestParsePrivate(t *testing.T) {
	rsaPrivate, p384 := rsaKey(t), newEC(t, elliptic.P384())
	sec1 := inPEM("EC PRIVATE KEY", must(t)(x509.MarshalECPrivateKey(p384)))
	for name, test := range map[string]struct {
		data []byte
		want []jwa.SignatureAlgorithm
	}{
		"RSA":                   {readKey(t, "rsa2048.key"), forRSA},
		"P-256":                 {readKey(t, "ec256.key"), es256},
		"Ed25519":               {readKey(t, "ed25519.key"), eddsa},
		"PKCS1":                 {inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaPrivate)), forRSA},
		"SEC1":                  {sec1, es384},
		"SEC1 after parameters": {slices.Concat(inPEM("EC PARAMETERS", []byte{5, 0}), sec1), es384},
	} {
		t.Run(name, func(t *testing.T) {
			signer, got, err := keys.ParsePrivate(test.data)
			if err != nil {
				t.Fatal(err)
			}
			if signer == nil || !slices.Equal(got, test.want) {
				t.Errorf("got %T, %v; want %v", signer, got, test.want)
			}
		})
	}

	small, x25519 := weak(t)
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":         {nil, "no key in PEM found"},
		"public":          {readKey(t, "rsa2048.pem"), `want "PRIVATE KEY"`},
		"two":             {slices.Concat(readKey(t, "ec256.key"), readKey(t, "ed25519.key")), "one private key"},
		"parameters only": {inPEM("EC PARAMETERS", []byte{5, 0}), "one private key"},
		"encrypted":       {inPEM("ENCRYPTED PRIVATE KEY", []byte("secret")), "decrypt it"},
		"wrong bytes":     {inPEM("PRIVATE KEY", []byte("secret")), "copy the whole of it again"},
		"wrong PKCS1":     {inPEM("RSA PRIVATE KEY", []byte("secret")), "copy the whole of it again"},
		"wrong SEC1":      {inPEM("EC PRIVATE KEY", []byte("secret")), "copy the whole of it again"},
		"small":           {inPEM("PRIVATE KEY", must(t)(x509.MarshalPKCS8PrivateKey(small))), "1024 bits"},
		"X25519":          {inPEM("PRIVATE KEY", must(t)(x509.MarshalPKCS8PrivateKey(x25519))), "cannot sign"},
	} {
		t.Run(name, func(t *testing.T) {
			signer, algorithms, err := keys.ParsePrivate(test.data)
			if err == nil || signer != nil || algorithms != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v, %v; want an error with %q", signer, algorithms, err, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
}
