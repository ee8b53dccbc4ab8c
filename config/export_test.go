package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"testing"
	"time"
)

// Update has the tests write what they compare with: the want and warn lines of testdata/config, and README.md.
var Update = flag.Bool("update", false, "write what the tests compare with")

// DockerElsewhere and DockerPrefixes are as in docker.go.
var (
	DockerElsewhere = dockerElsewhere
	DockerPrefixes  = dockerPrefixes
)

// ReadJavaScript is readJavaScript. It returns the lines of the values.
func ReadJavaScript(script string, keys ...string) (map[string]int, error) {
	values, err := readJavaScript(script, keys...)
	lines := map[string]int{}
	for key, v := range values {
		lines[key] = v.line
	}
	return lines, err
}

// KeyPair returns a certificate and its key as PEM.
func KeyPair(t *testing.T) (cert, key string) { return KeyPairUntil(t, time.Now().Add(time.Hour)) }

// KeyPairUntil is the same with a certificate that ends then.
func KeyPairUntil(t *testing.T, end time.Time) (cert, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}, &x509.Certificate{}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
