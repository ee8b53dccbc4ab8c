package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
)

// minRSABits is what RFC 7518 §3.3 and §3.5 ask for.
const minRSABits = 2048

// PEMFiles reads public keys from files once, and returns a source of them. The keys have no id, since PEM has no place
// for one: each is tried for every token of the issuer, of whatever "kid". A file may hold several keys. An error names
// the file and what to do about it.
func PEMFiles(paths ...string) (auth.KeySource, error) {
	var source fixed
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("public key file: %w", err) // err names the file
		}
		keys, err := PEM("", data)
		if err != nil {
			return nil, fmt.Errorf("public key file %s: %w", path, err)
		}
		source = append(source, keys...)
	}
	return source, nil
}

// PEM reads the public keys in data (RFC 7468) and gives each the id kid. It takes PKIX and PKCS #1 keys and the keys
// of certificates; of a certificate nothing but the key counts, neither its dates nor its issuer. Keys are RSA of 2048
// bits or more, EC on P-256, P-384 or P-521, and Ed25519. Anything else in data is an error, a private key above all.
func PEM(kid string, data []byte) ([]auth.Key, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	var keys []auth.Key
	for _, block := range blocks {
		public, err := parsePublic(block)
		if err != nil {
			return nil, err
		}
		algorithms, err := algorithmsOf(public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, auth.Key{ID: kid, Algorithms: algorithms, Material: public})
	}
	return keys, nil
}

// ParsePrivate reads the one private key in data, to mint tokens with: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC),
// unencrypted. It also returns the algorithms that the key can sign with.
func ParsePrivate(data []byte) (crypto.Signer, []jwa.SignatureAlgorithm, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, nil, err
	}
	// "openssl ecparam -genkey" puts the curve before the key, which names it again.
	if blocks[0].Type == "EC PARAMETERS" {
		blocks = blocks[1:]
	}
	if len(blocks) != 1 {
		return nil, nil, errors.New("want one private key in PEM and nothing else")
	}
	signer, err := parsePrivate(blocks[0])
	if err != nil {
		return nil, nil, err
	}
	algorithms, err := algorithmsOf(signer.Public())
	if err != nil {
		return nil, nil, err
	}
	return signer, algorithms, nil
}

// decodePEM returns the blocks of data, at least one. Text around them is allowed (RFC 7468 §2). A block that is damaged
// is an error, where pem.Decode goes on to the next.
func decodePEM(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks = append(blocks, block)
	}
	begun := bytes.Count(data, []byte("-----BEGIN "))
	if begun == 0 {
		return nil, errors.New(`no key in PEM found: it begins with a line like "-----BEGIN PUBLIC KEY-----"`)
	}
	if begun != len(blocks) {
		return nil, errors.New("a key in PEM is damaged: copy the whole of it again, line by line")
	}
	return blocks, nil
}

// The errors of crypto/x509 say what is wrong with the bytes and quote none.

func parsePublic(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("a private key where a public one belongs: " +
			`keep it with who signs, and put here what "openssl pkey -pubout" makes of it`)
	}
	return nil, errors.New(`want "PUBLIC KEY", "RSA PUBLIC KEY" or "CERTIFICATE"`)
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		signer, isSigner := key.(crypto.Signer)
		if !isSigner {
			return nil, errors.New("a key that cannot sign")
		}
		return signer, nil
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New(`an encrypted private key: decrypt it with "openssl pkey"`)
	}
	return nil, errors.New(`want "PRIVATE KEY", "RSA PRIVATE KEY" or "EC PRIVATE KEY"`)
}

// algorithmsOf returns the algorithms that a key may be used with: for RSA both paddings with every hash, for EC
// the one that RFC 7518 §3.4 ties to the curve.
func algorithmsOf(public crypto.PublicKey) ([]jwa.SignatureAlgorithm, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits: make one of at least %d", bits, minRSABits)
		}
		return []jwa.SignatureAlgorithm{jwa.RS256, jwa.RS384, jwa.RS512, jwa.PS256, jwa.PS384, jwa.PS512}, nil
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return []jwa.SignatureAlgorithm{jwa.ES256}, nil
		case elliptic.P384():
			return []jwa.SignatureAlgorithm{jwa.ES384}, nil
		case elliptic.P521():
			return []jwa.SignatureAlgorithm{jwa.ES512}, nil
		}
		return nil, errors.New("an EC key on a curve that no algorithm uses: make one on P-256, P-384 or P-521")
	case ed25519.PublicKey:
		return []jwa.SignatureAlgorithm{jwa.EdDSA}, nil
	}
	return nil, errors.New("a key of a type that no algorithm uses: make an RSA, EC or Ed25519 key")
}
