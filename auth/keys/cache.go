package keys

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
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

	// status returns the state of the source, without its name. It asks no server.
	status() Status
	// ready returns an error if tokens cannot be verified. It may fetch the keys, as Keys does.
	ready(ctx context.Context) error
}

// Status is the state of a source that asks a server.
type Status struct {
	// Source is the address, without its query, which may be a secret.
	Source string
	// Fetched is when the last fetch was successful; zero if none was.
	Fetched time.Time
	// Until is from when on the keys count no more unless they are fetched again; zero if there are none, and for a key server of
	// Jitsi's kind, where each key has an end of its own.
	Until time.Time
	// Keys is the number of keys.
	Keys int
	// Err is why the last fetch failed; nil if it did not.
	Err error
}

// Cache makes the sources that ask a server. For the same kind, address and maxStale it returns the same source, so that a reload
// of the configuration loses no keys. The zero Cache is ready for use. It is safe for concurrent use and starts nothing.
//
// The errors of its methods say what is wrong with the address, without quoting it.
type Cache struct {
	// Transport asks the servers. Nil means one that uses the proxy of the environment and the system's certificates, and closes
	// each connection after its answer. It must not be changed once the Cache is in use.
	Transport http.RoundTripper
	// Fetched, if not nil, is called after each fetch for a token, with the name that Status has for the source, how long it took,
	// and why it failed. It must not block, and must not be changed once the Cache is in use.
	Fetched func(source string, took time.Duration, err error)

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
		return &document{client: c.client(), address: u, maxStale: maxStale, parse: JWKS, origin: originOf(u), tell: c.tell(u)}, nil
	})
}

// KeyMap returns the source of the map at an address: JSON of kid to certificate in PEM, as Firebase publishes it, or a
// JWK Set (Jitsi's cache_keys_url).
func (c *Cache) KeyMap(address string, maxStale time.Duration) (Remote, error) {
	return c.source("map", address, maxStale, func(u *url.URL) (Remote, error) {
		return &document{client: c.client(), address: u, maxStale: maxStale, parse: keyMap, origin: originOf(u), tell: c.tell(u)}, nil
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
			absent: make(map[[sha256.Size]byte]absentKey), asking: make(map[[sha256.Size]byte]chan struct{}), tell: c.tell(u),
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

// tell returns what tells Fetched of the fetches of a source.
func (c *Cache) tell(address *url.URL) func(time.Duration, error) {
	source := shown(address)
	return func(took time.Duration, err error) {
		if c.Fetched != nil {
			c.Fetched(source, took, err)
		}
	}
}

// Status returns the state of each source, sorted by name. Of several with the same name, which differ in what the name does not show, the
// worst of each counts: the oldest fetch, the earliest end, the fewest keys, and an error if there is one. It asks no server.
func (c *Cache) Status() []Status {
	byName := make(map[string]Status)
	for name, sources := range c.named() {
		for i, source := range sources {
			s := source.status()
			if was := byName[name]; i > 0 {
				s = Status{
					Fetched: earlier(s.Fetched, was.Fetched), Until: earlier(s.Until, was.Until),
					Keys: min(s.Keys, was.Keys), Err: cmp.Or(was.Err, s.Err),
				}
			}
			s.Source = name
			byName[name] = s
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b Status) int { return strings.Compare(a.Source, b.Source) })
}

// Ready returns an error if the keys of a source are not at hand, so that its tokens cannot be verified. It fetches keys that are due, as
// a token would: so a server is asked at most once in 30 s, however often Ready is called. A key server of Jitsi's kind is ready unless
// the last fetch failed and no key is kept.
func (c *Cache) Ready(ctx context.Context) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for _, sources := range c.named() {
		for _, source := range sources {
			all.Go(func() {
				if err := source.ready(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
			})
		}
	}
	all.Wait()
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(failed...)
}

// named returns the sources by their names.
func (c *Cache) named() map[string][]Remote {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string][]Remote)
	for id, s := range c.sources {
		name := id.address
		if u, err := url.Parse(name); err == nil {
			name = shown(u)
		}
		all[name] = append(all[name], s.Remote)
	}
	return all
}

// earlier returns the earlier of two times; zero is the earliest.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
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
