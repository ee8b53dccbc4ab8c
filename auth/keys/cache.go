package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// Remote is a source that asks a server for its keys. It asks when a token needs it, and waits 5 s at most.
//
//   - Keys are kept as long as the server says (Cache-Control, otherwise Expires; 1 h if it says neither), at least 30 s and at
//     most 24 h. Then the next caller that needs them fetches them again, and meanwhile all others use the old ones.
//   - If they cannot be fetched, the old ones count for the source's maxStale more. After that, and if there never were any, Keys
//     returns an error.
//   - A kid that is not among them is a reason to fetch, too, if the last fetch is 5 s ago. Before that, Keys returns an error,
//     because the kid may be new. The same kid is such a reason once in 30 s.
//   - At least 5 s lie between two fetches of one address, and 30 s after one that failed, however many callers ask.
//
// The address is https, or http on this machine. So are its redirects, three at most, and never http after https. An answer has
// at most 1 MB. An answer that is refused leaves the old keys as they are.
type Remote interface {
	auth.KeySource
	// Check asks the server now, without any pause, and keeps nothing of the answer. It returns the keys, and why others are left
	// out, for an operator who wants to know whether the server works. A key server of Jitsi's kind cannot list its keys: it is
	// asked for a random kid, and Check returns no keys if all is well.
	Check(ctx context.Context) (keys []auth.Key, skipped []error, err error)
}

// Cache makes the sources that ask a server. For the same kind, address and maxStale it returns the same source, so that a reload
// of the configuration loses no keys. The zero Cache is ready for use. It is safe for concurrent use and starts nothing.
//
// The errors of its methods say what is wrong with the address, without quoting it.
type Cache struct {
	// Transport asks the servers. Nil means one that uses the proxy of the environment and the system's certificates, and closes
	// each connection after its answer. It must not be changed once the Cache is in use.
	Transport http.RoundTripper

	mu      sync.Mutex
	sources map[sourceID]*madeSource
}

type sourceID struct {
	kind     string
	address  string
	maxStale time.Duration
}

type madeSource struct {
	Remote
	asked bool // since the last Sweep
}

// JWKS returns the source of the JWK Set at an address, read as [JWKS] does.
func (c *Cache) JWKS(address string, maxStale time.Duration) (Remote, error) {
	return c.source("JWKS", address, maxStale, func(u *url.URL) (Remote, error) {
		return &document{client: c.client(), address: u, maxStale: maxStale, parse: JWKS, origin: originOf(u)}, nil
	})
}

// KeyMap returns the source of the map at an address: JSON of kid to certificate in PEM, as Firebase publishes it, or a
// JWK Set (Jitsi's cache_keys_url).
func (c *Cache) KeyMap(address string, maxStale time.Duration) (Remote, error) {
	return c.source("map", address, maxStale, func(u *url.URL) (Remote, error) {
		return &document{client: c.client(), address: u, maxStale: maxStale, parse: keyMap, origin: originOf(u)}, nil
	})
}

// ASAP returns the source of a key server of Jitsi's kind (asap_key_server): the key of a kid, in PEM, is at
// <address>/<hex sha256(kid)>.pem; status 404 says that there is none. A token without a kid finds no key here.
//
// The source keeps at most 256 keys, those used last. Kids that it does not keep wait in a queue: it asks for 50 a second, and Keys
// returns an error if the wait would be more than 3 s. So invented kids delay a new key, but never a kept one. The source asks
// again for a kid without a key after 30 s.
func (c *Cache) ASAP(address string, maxStale time.Duration) (Remote, error) {
	return c.source("ASAP", address, maxStale, func(u *url.URL) (Remote, error) {
		if u.RawQuery != "" || u.ForceQuery {
			return nil, errors.New(`the address of a key server has no "?": usher puts the names of keys behind it`)
		}
		return &asapServer{
			client: c.client(), folder: u, origin: originOf(u), maxStale: maxStale, kept: make(map[[sha256.Size]byte]*keptKey),
			absent: make(map[[sha256.Size]byte]absentKey), asking: make(map[[sha256.Size]byte]chan struct{}),
		}, nil
	})
}

// Sweep ends a round of making sources. It forgets the sources that nobody has made since the last Sweep; they are made again if
// they come back. A caller that still has one may use it on.
func (c *Cache) Sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.sources, func(_ sourceID, s *madeSource) bool { return !s.asked })
	for _, s := range c.sources {
		s.asked = false
	}
}

// source returns the existing source, or a new one.
func (c *Cache) source(kind, address string, maxStale time.Duration, build func(*url.URL) (Remote, error)) (Remote, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := sourceID{kind, u.String(), maxStale}
	s := c.sources[id]
	if s == nil {
		remote, err := build(u)
		if err != nil {
			return nil, err
		}
		if c.sources == nil {
			c.sources = map[sourceID]*madeSource{}
		}
		s = &madeSource{Remote: remote}
		c.sources[id] = s
	}
	s.asked = true
	return s.Remote, nil
}

func (c *Cache) client() *http.Client {
	t := c.Transport
	if t == nil {
		t = transport
	}
	return &http.Client{Transport: t, CheckRedirect: checkRedirect}
}
