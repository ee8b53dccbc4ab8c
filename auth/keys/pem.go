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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// minRSABits is the minimum of RFC 7518 §3.3 and §3.5.
const minRSABits = 2048

// maxRSABits caps the cost of verifying. Nobody uses larger keys.
const maxRSABits = 16384

// maxSize caps files and answers in bytes, and maxKeys the keys in one of them.
const (
	maxSize = 1 << 20
	maxKeys = 256
)

// pemEndings are the endings of the files that count in a folder.
var pemEndings = []string{".pem", ".crt", ".cer", ".pub"}

// PEMFiles reads public keys from files once, and returns a source of them. The keys have no id, because PEM has no place for one:
// each is tried for every token of the issuer, whatever its "kid" is. A file may hold several keys.
//
// A folder stands for its files that end in .pem, .crt, .cer or .pub and do not begin with a dot, in the order of their names. It
// must have at least one and at most 256; folders in it do not count. The error joins one *[fs.PathError] for each wrong file,
// which says what to do.
func PEMFiles(paths ...string) (auth.KeySource, error) {
	var all []auth.Key
	var failed []error
	for _, path := range paths {
		files, errs := pemFiles(path)
		failed = append(failed, errs...)
		for _, file := range files {
			keys, err := pemFile(file)
			failed = append(failed, err)
			all = append(all, keys...)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return configured(all), nil
}

func pemFile(file string) ([]auth.Key, error) {
	data, err := smallfile.Read(file, maxSize)
	if err != nil {
		return nil, wrong(file, err)
	}
	keys, err := PEM("", data)
	if err != nil {
		return nil, wrong(file, err)
	}
	return keys, nil
}

// wrong turns any error into that of a public key file, or of a folder of such files.
func wrong(file string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return &fs.PathError{Op: "public key file", Path: file, Err: err}
}

// pemFiles returns the file at a path, or the files in the folder there.
func pemFiles(path string) (files []string, failed []error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, []error{wrong(path, err)}
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, []error{wrong(path, err)}
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains(pemEndings, strings.ToLower(filepath.Ext(name))) {
			continue
		}
		// os.Stat follows links: Kubernetes mounts files as links.
		file := filepath.Join(path, name)
		info, err := os.Stat(file)
		if err != nil {
			failed = append(failed, wrong(file, err))
		} else if info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	switch {
	case len(files) > maxKeys:
		return nil, []error{wrong(path, fmt.Errorf("more than %d files: each token would be tried with all of them", maxKeys))}
	case len(files)+len(failed) == 0:
		return nil, []error{wrong(path, fmt.Errorf("no file in this folder ends in %s: put one there, or name a file", strings.Join(pemEndings, ", ")))}
	}
	return files, failed
}

var errSize = fmt.Errorf("more than %d kB: no set of keys is that long", maxSize>>10)

// readAll reads at most maxSize bytes; more is errSize.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, errSize
	}
	return data, nil
}

// PEM reads the public keys in data (RFC 7468) and gives each the id kid. It reads PKIX and PKCS #1 keys and the keys of
// certificates; the dates and the issuer of a certificate do not count. Keys are RSA of 2048 to 16384 bits, EC on P-256, P-384 or
// P-521, and Ed25519. Anything else in data is an error, above all a private key.
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

// ParsePrivate reads the one private key in data, for minting tokens: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC), unencrypted. It also
// returns the algorithms that the key can sign with.
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

// decodePEM returns the blocks of data, at least one. Text around them is allowed (RFC 7468 §2). A damaged block is an error;
// pem.Decode would go on to the next.
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

var errPrivate = errors.New("a private key where a public one belongs: " +
	`leave it where tokens are signed, and put here the output of "openssl pkey -pubout"`)

// parsePublic reads the public key in a block.
func parsePublic(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return whole(x509.ParsePKIXPublicKey(block.Bytes))
	case "RSA PUBLIC KEY":
		return whole(x509.ParsePKCS1PublicKey(block.Bytes))
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errUnreadable
		}
		return certificate.PublicKey, nil
	}
	if strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errPrivate
	}
	return nil, errors.New(`want "PUBLIC KEY", "RSA PUBLIC KEY" or "CERTIFICATE"`)
}

var errUnreadable = errors.New("a key in PEM cannot be read: copy the whole of it again")

// whole returns a parsed key. It replaces the errors of crypto/x509, which are for programmers.
func whole[K any](key K, err error) (K, error) {
	if err != nil {
		err = errUnreadable
	}
	return key, err
}

func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "PRIVATE KEY":
		key, err := whole(x509.ParsePKCS8PrivateKey(block.Bytes))
		if err != nil {
			return nil, err
		}
		signer, isSigner := key.(crypto.Signer)
		if !isSigner {
			return nil, errors.New("a key that cannot sign")
		}
		return signer, nil
	case "RSA PRIVATE KEY":
		return whole(x509.ParsePKCS1PrivateKey(block.Bytes))
	case "EC PRIVATE KEY":
		return whole(x509.ParseECPrivateKey(block.Bytes))
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New(`an encrypted private key: decrypt it with "openssl pkey"`)
	}
	return nil, errors.New(`want "PRIVATE KEY", "RSA PRIVATE KEY" or "EC PRIVATE KEY"`)
}

// algorithmsOf returns the algorithms of a key: for RSA both paddings with every hash, for EC the one that RFC 7518 §3.4 ties to
// the curve.
func algorithmsOf(public crypto.PublicKey) ([]jwa.SignatureAlgorithm, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits: make one of at least %d", bits, minRSABits)
		} else if bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits: make one of at most %d", bits, maxRSABits)
		}
		// With an exponent of 1 anybody can sign, and an even one has no private key.
		if public.N.Bit(0) == 0 || public.E < 3 || public.E%2 == 0 {
			return nil, errors.New("an RSA key with numbers that cannot be right: make a new one")
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
