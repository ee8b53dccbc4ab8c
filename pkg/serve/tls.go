package serve

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// maxPEM caps the files of a certificate, in bytes.
const maxPEM = 1 << 20

// certificate is that of two files. It is read again when one of them changes, as when a certificate is renewed.
type certificate struct {
	files [2]string // the certificate's and the key's
	log   *zap.Logger

	mu   sync.Mutex
	pair *tls.Certificate
	is   [2]fs.FileInfo // the files when pair was read
	said string         // the last fault
}

// certificate reads the certificate; nil without TLS.
func (o Options) certificate() (*certificate, error) {
	if o.CertFile == "" {
		return nil, nil
	}
	c := &certificate{files: [2]string{o.CertFile, o.KeyFile}, log: o.Log}
	return c, c.read()
}

// config is TLS 1.2 or later (RFC 9325 §3.1.1) with the certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil }}
}

// current returns the certificate as its files have it, or as they had it while they cannot be used: between the writing of one and that
// of the other they do not fit.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed() {
		if err := c.read(); err == nil {
			c.said = ""
			c.log.Info("the certificate has changed", zap.String("file", c.files[0]))
		} else if err.Error() != c.said {
			c.said = err.Error()
			c.log.Warn("the certificate that was read before stays in use", zap.Error(err))
		}
	}
	return c.pair
}

func (c *certificate) changed() bool {
	for n, file := range c.files {
		now, err := os.Stat(file)
		if was := c.is[n]; err != nil || !now.ModTime().Equal(was.ModTime()) || now.Size() != was.Size() || !os.SameFile(now, was) {
			return true
		}
	}
	return false
}

// read reads both files.
func (c *certificate) read() error {
	var is [2]fs.FileInfo
	var content [2][]byte
	for n, file := range c.files {
		var err error
		if is[n], err = os.Stat(file); err != nil { // before it is read: what is written meanwhile is read again
			return err
		}
		if content[n], err = smallfile.Read(file, maxPEM); err != nil {
			return err
		}
	}
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.files[0], c.files[1], err)
	}
	c.pair, c.is = &pair, is
	return nil
}
