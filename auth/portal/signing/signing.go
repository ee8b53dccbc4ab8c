// Package signing has the keys by which the portal signs tokens, in a file of their own, and publishes their public halves.
//
// The file is a JWK Set (RFC 7517 §5) with Ed25519 keys (RFC 8037). Its member "usher_from" says from when a key signs: a new key is
// published some minutes before, so that others who verify tokens have it by then. A key counts until the last token that it signed
// has ended. The file is read again when it changes, also while usher runs.
package signing

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
)

// Overlap is the time from when a new key is published until it signs. Those who fetch the JWK Set may keep it for half of that.
const Overlap = 10 * time.Minute

// Longest is how long a token may be valid that is signed with one of the keys: a key that does not sign any more counts for so long.
const Longest = 24 * time.Hour

// slack is for the leeway of issuers and for clocks that differ.
const slack = time.Hour

// Keys are the keys in a file. Any goroutine may call its methods.
type Keys struct {
	// Failed is told why a changed file is not used; the keys stay as they were. Nil means that nobody is told. It is set before
	// the first use.
	Failed func(error)

	path string
	now  func() time.Time

	mu   sync.Mutex
	seen fs.FileInfo // as of the content that was read last, good or bad
	all  []pair      // by from
}

// pair is one key.
type pair struct {
	kid     string
	from    time.Time // from when it signs
	private ed25519.PrivateKey
}

// Open reads the keys of a file. If there is no such file, it makes one with one key, which nobody but usher's user can read. A file
// that others can read is an error.
func Open(path string, now func() time.Time) (*Keys, error) {
	if err := ensure(path, now()); err != nil {
		return nil, err
	}
	k := &Keys{path: path, now: now}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k, k.read()
}

// Read reads the keys of a file that need not exist yet: as long as there is none, there are no keys.
func Read(path string, now func() time.Time) (*Keys, error) {
	k := &Keys{path: path, now: now}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return k, nil
}

// Current returns the key that signs now, and its id. There is none as long as there is no file.
func (k *Keys) Current() (kid string, key ed25519.PrivateKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refresh(); len(k.all) == 0 {
		return "", nil
	}
	p := k.all[signs(k.all, k.now())]
	return p.kid, p.private
}

// Public returns the JWK Set of the public keys that count, for others who verify the tokens.
func (k *Keys) Public() []byte {
	set := document{Keys: []jwk{}}
	for _, p := range k.counting() {
		set.Keys = append(set.Keys, public(p))
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // there are only texts in it
	}
	return text
}

// Keys implements auth.KeySource.
func (k *Keys) Keys(_ context.Context, kid string) ([]auth.Key, error) {
	var all []auth.Key
	for _, p := range k.counting() {
		if kid == "" || kid == p.kid {
			all = append(all, auth.Key{
				ID: p.kid, Algorithms: []jwa.SignatureAlgorithm{jwa.EdDSA}, Material: p.private.Public(), Origin: origin(p.kid),
			})
		}
	}
	return all, nil
}

// Counts implements auth.KeySource.
func (k *Keys) Counts(of string) bool {
	return slices.ContainsFunc(k.counting(), func(p pair) bool { return origin(p.kid) == of })
}

// origin is the origin of a key, as of auth.Key.
func origin(kid string) string { return "portal key " + kid }

// Listed is a key as "usher key list" shows it.
type Listed struct {
	ID     string
	From   time.Time // from when it signs; zero: from the beginning
	Signs  bool      // it signs now
	Counts bool      // tokens that it has signed count
}

// List returns the keys of a file, the oldest first, as they are at a time.
func List(path string, now time.Time) ([]Listed, error) {
	all, _, err := load(path)
	if err != nil {
		return nil, err
	}
	current := signs(all, now)
	listed := make([]Listed, len(all))
	for n, p := range all {
		listed[n] = Listed{ID: p.kid, From: p.from, Signs: n == current, Counts: !over(all, n, now)}
	}
	return listed, nil
}

// counting returns the keys with tokens that count now.
func (k *Keys) counting() []pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return living(k.all, k.now())
}

// refresh reads the file if it has changed. The caller holds mu.
func (k *Keys) refresh() {
	info, err := os.Stat(k.path)
	if err == nil && k.seen != nil && os.SameFile(info, k.seen) && info.ModTime().Equal(k.seen.ModTime()) && info.Size() == k.seen.Size() && info.Mode() == k.seen.Mode() {
		return
	}
	if err != nil && k.seen == nil {
		return // it has been told already
	}
	if err := k.read(); err != nil && k.Failed != nil {
		k.Failed(fmt.Errorf("%w; the keys stay as they were", err))
	}
}

// read reads the file. The caller holds mu.
func (k *Keys) read() error {
	all, info, err := load(k.path)
	if k.seen = info; err != nil {
		return err
	}
	k.all = all
	return nil
}

// signs returns the number of the key that signs at a time: the newest that has begun, or else the first.
func signs(all []pair, now time.Time) int {
	for n := len(all) - 1; n > 0; n-- {
		if !all[n].from.After(now) {
			return n
		}
	}
	return 0
}

// over reports whether the last token of a key has ended: another one signs since long.
func over(all []pair, n int, now time.Time) bool {
	return n+1 < len(all) && !all[n+1].from.Add(Longest+slack).After(now)
}

// living returns the keys that are not over.
func living(all []pair, now time.Time) []pair {
	var left []pair
	for n, p := range all {
		if !over(all, n, now) {
			left = append(left, p)
		}
	}
	return left
}
