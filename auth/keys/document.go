package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

const (
	// pause is the least time between two fetches of one address after one that failed, and for one kid.
	pause = 30 * time.Second
	// soon is the least time between two fetches of one address for kids that are not in the document. A token with an invented
	// kid causes a fetch; a key that is new after that is found by the next fetch.
	soon = 5 * time.Second
	// maxWanted caps the remembered kids that are not in the document.
	maxWanted = 4 << 10
)

// ErrSoon says that the kid may be that of a new key, but that it is too soon to ask the server again.
var ErrSoon = fmt.Errorf("a key id that is not known yet, and the last fetch was less than %s ago", soon)

// document is what one address publishes. It is fetched when a caller needs it, is fresh for as long as the server says, and stale
// for at most maxStale more while it cannot be fetched. All sources that ask a server cache in documents.
//
// A caller that needs a new document fetches it in its own goroutine, one at a time. Meanwhile callers that can use the old one
// use it, and the others wait.
type document struct {
	client   *http.Client
	address  *url.URL
	parse    func([]byte) ([]auth.Key, []error, error)
	maxStale time.Duration
	// mayLack means that status 404 is no error, but no keys.
	mayLack bool
	origin  string                     // of its keys
	tell    func(time.Duration, error) // of each fetch

	mu     sync.Mutex
	keys   fixed
	until  time.Time                       // when the keys stop being fresh; zero if there never were any
	tried  time.Time                       // when the last fetch began
	had    time.Time                       // when the last fetch was successful
	err    error                           // why the last fetch failed, or nil
	busy   chan struct{}                   // closed at the end of the fetch under way; nil if there is none
	wanted map[[sha256.Size]byte]time.Time // when kids that are not in the document were first asked for, by digest
}

// Keys implements auth.KeySource. A kid that is not in the document is a reason to fetch it, too: so a new key is found.
func (d *document) Keys(ctx context.Context, kid string) ([]auth.Key, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, failure(d.address, err)
		}
		now := time.Now()
		d.mu.Lock()
		fresh := now.Before(d.until)
		usable := fresh || !d.until.IsZero() && now.Before(d.until.Add(d.maxStale))
		known := usable && (kid == "" || d.keys.have(kid))
		keys, err, busy := d.keys, d.err, d.busy
		mine := busy == nil && !(fresh && known) && now.Sub(d.tried) >= pause
		if fresh && !known {
			// The last fetch knows about this kid if it began after the kid was first asked for.
			if told := !d.want(kid, now).After(d.tried); !told && err == nil {
				mine, err = busy == nil && now.Sub(d.tried) >= soon, failure(d.address, ErrSoon)
			}
		}
		if mine {
			d.busy, d.tried = make(chan struct{}), now
		}
		d.mu.Unlock()

		switch {
		case mine:
			d.refresh(ctx)
		case known:
			return keys.Keys(ctx, kid)
		case busy != nil:
			select {
			case <-busy:
			case <-ctx.Done():
			}
		case usable:
			// The last fetch has failed, so the kid may be a new one. It may also be that of a key without an id.
			found, _ := keys.Keys(ctx, kid)
			if len(found) > 0 {
				err = nil
			}
			return found, err
		default:
			return nil, err
		}
	}
}

// want returns when a kid that is not in the document was first asked for. The caller holds mu.
func (d *document) want(kid string, now time.Time) time.Time {
	digest := sha256.Sum256([]byte(kid))
	first, ok := d.wanted[digest]
	if !ok {
		first = now
		if d.wanted == nil || len(d.wanted) >= maxWanted {
			d.wanted = make(map[[sha256.Size]byte]time.Time)
		}
		d.wanted[digest] = now
	}
	return first
}

// refresh fetches the document; the caller has set d.busy. It goes on if ctx ends, for fetchTimeout at most: otherwise clients that
// hang up in time could keep the keys from everybody.
func (d *document) refresh(ctx context.Context) {
	keys, lifetime, err := []auth.Key(nil), time.Duration(0), errors.New("reading the answer failed")
	began := time.Now()
	defer func() {
		now := time.Now()
		d.tell(now.Sub(began), err)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.err = err; err == nil {
			d.keys, d.until, d.had = keys, now.Add(lifetime), now
		}
		close(d.busy)
		d.busy = nil
	}()
	keys, _, lifetime, err = d.fetch(context.WithoutCancel(ctx))
}

// fetch fetches the document once and keeps nothing.
func (d *document) fetch(ctx context.Context) (keys []auth.Key, skipped []error, lifetime time.Duration, err error) {
	body, lifetime, err := fetch(ctx, d.client, d.address)
	if d.mayLack && errors.Is(err, errAbsent) {
		return nil, nil, pause, nil
	}
	if err == nil {
		keys, skipped, err = d.parse(body)
	}
	if err != nil {
		return nil, skipped, 0, failure(d.address, err)
	}
	for i := range keys {
		keys[i].Origin = d.origin
	}
	return keys, skipped, lifetime, nil
}

// Counts implements auth.KeySource.
func (d *document) Counts(origin string) bool { return origin == d.origin }

// originOf returns a digest, because the query of an address may be a secret.
func originOf(address *url.URL) string { return digest([]byte(address.String())) }

// status implements Remote.
func (d *document) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{Fetched: d.had, Keys: len(d.keys), Err: d.err}
	if !d.until.IsZero() {
		s.Until = d.until.Add(d.maxStale)
	}
	return s
}

// ready implements Remote.
func (d *document) ready(ctx context.Context) error {
	_, err := d.Keys(ctx, "")
	return err
}

// Check implements Remote.
func (d *document) Check(ctx context.Context) (keys []auth.Key, skipped []error, err error) {
	keys, skipped, _, err = d.fetch(ctx)
	return keys, skipped, err
}

// failure names the address in an error, without the query, which may be a secret.
func failure(address *url.URL, err error) error {
	return fmt.Errorf("keys from %s: %w", shown(address), err)
}

// shown returns an address without the query.
func shown(address *url.URL) string {
	u := url.URL{Scheme: address.Scheme, Host: address.Host, Path: address.Path, RawPath: address.RawPath}
	return u.String()
}
