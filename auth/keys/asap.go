package keys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

const (
	// maxKids is how many key ids with keys are kept of one server. Jitsi keeps 128 (jwt_pubkey_cache_size).
	maxKids = 256
	// perSecond is how many key ids that are not kept are asked for in a second, after burst at once.
	perSecond, burst = 50, 50
	// longestLine is how long a key id may have to wait for its turn to be asked for.
	longestLine = 3 * time.Second
	// maxAbsent is how many key ids without a key are remembered: more than are asked for while one is.
	maxAbsent = 2 * perSecond * int(pause/time.Second)
)

var errLine = fmt.Errorf("too many unknown key ids at once: %d a second are asked for", perSecond)

// asapServer is a key server of Jitsi's: one document for each key id (token/util.lib.lua, get_public_key). Anybody may
// send tokens with any number of invented key ids, so those that have had no key yet stand in line: perSecond of them are
// asked for, in the order in which they came. The component decides one request of a sender at a time, so each sender has
// one place in that line, and fewer than perSecond times longestLine senders keep nobody out. An id that has had a key is
// kept, and fetched anew without the line; an id without a key is remembered elsewhere, so that it pushes out none that has one.
type asapServer struct {
	client   *http.Client
	folder   *url.URL
	origin   string // of its keys
	maxStale time.Duration

	mu     sync.Mutex
	kept   map[[sha256.Size]byte]*keptKey      // by digest of the kid
	absent map[[sha256.Size]byte]absentKey     // ids without a key, each for one pause
	asking map[[sha256.Size]byte]chan struct{} // closed when the id was asked for, or given up
	next   time.Time                           // when the next id may be asked for; long ago if none was lately
}

type keptKey struct {
	*document
	used time.Time // guarded by the server's mutex
}

type absentKey struct {
	until time.Time
	err   error // what the server answered instead of "there is none"
}

// Keys implements auth.KeySource. The server cannot be asked for all keys: without a kid there are none.
func (s *asapServer) Keys(ctx context.Context, kid string) ([]auth.Key, error) {
	if kid == "" {
		return nil, nil
	}
	digest := sha256.Sum256([]byte(kid))
	for {
		if err := ctx.Err(); err != nil {
			return nil, failure(s.folder, err)
		}
		now := time.Now()
		s.mu.Lock()
		key, absent, asking := s.kept[digest], s.absent[digest], s.asking[digest]
		var err error
		var wait time.Duration
		mine := key == nil && asking == nil && !now.Before(absent.until)
		if mine {
			if wait, err = s.turn(now); err == nil {
				s.asking[digest] = make(chan struct{})
			}
		} else if key != nil {
			key.used = now
		}
		s.mu.Unlock()

		switch {
		case err != nil:
			return nil, failure(s.folder, err)
		case mine:
			s.ask(ctx, kid, digest, wait)
		case key != nil:
			return key.Keys(ctx, kid)
		case asking != nil:
			select {
			case <-asking:
			case <-ctx.Done():
			}
		default:
			return nil, absent.err
		}
	}
}

// Counts implements auth.KeySource.
func (s *asapServer) Counts(origin string) bool { return origin == s.origin }

// turn returns how long the next in line has to wait. The caller holds mu.
func (s *asapServer) turn(now time.Time) (time.Duration, error) {
	at := s.next
	if full := now.Add(-time.Second * burst / perSecond); at.Before(full) {
		at = full
	}
	wait := at.Sub(now)
	if wait > longestLine {
		return 0, errLine
	}
	s.next = at.Add(time.Second / perSecond)
	return wait, nil
}

// ask waits and asks for an id for the first time; s.asking has it. If ctx ends before its turn, it is given up.
func (s *asapServer) ask(ctx context.Context, kid string, digest [sha256.Size]byte, wait time.Duration) {
	d := s.document(kid, digest)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case d.tried.IsZero():
		case len(d.keys) > 0:
			s.makeRoom()
			s.kept[digest] = &keptKey{d, time.Now()}
		default:
			if len(s.absent) >= maxAbsent {
				maps.DeleteFunc(s.absent, func(_ [sha256.Size]byte, a absentKey) bool { return !time.Now().Before(a.until) })
			}
			s.absent[digest] = absentKey{d.tried.Add(pause), d.err}
		}
		close(s.asking[digest])
		delete(s.asking, digest)
	}()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	_, _ = d.Keys(ctx, kid) // nobody else has d yet, so it can be looked at
}

// document returns the document of a kid. The digest names it, so that no kid is part of an address.
func (s *asapServer) document(kid string, digest [sha256.Size]byte) *document {
	return &document{
		client:   s.client,
		address:  s.folder.JoinPath(hex.EncodeToString(digest[:]) + ".pem"),
		maxStale: s.maxStale,
		mayLack:  true,
		origin:   s.origin,
		parse: func(data []byte) ([]auth.Key, []error, error) {
			keys, err := PEM(kid, data)
			if len(keys) > maxKeys {
				return nil, nil, errTooMany
			}
			return keys, nil, err
		},
	}
}

// makeRoom forgets the id that was not used for longest, if there are too many. The caller holds mu.
func (s *asapServer) makeRoom() {
	if len(s.kept) < maxKids {
		return
	}
	var oldest [sha256.Size]byte
	for digest, key := range s.kept {
		if old := s.kept[oldest]; old == nil || key.used.Before(old.used) {
			oldest = digest
		}
	}
	delete(s.kept, oldest)
}

// Check implements Remote: it asks for a key id that nobody has.
func (s *asapServer) Check(ctx context.Context) ([]auth.Key, []error, error) {
	kid := rand.Text()
	return s.document(kid, sha256.Sum256([]byte(kid))).Check(ctx)
}
