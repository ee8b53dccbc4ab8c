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
	// maxKids caps the kept key ids of one server. Jitsi keeps 128 (jwt_pubkey_cache_size).
	maxKids = 256
	// perSecond is the rate at which the server is asked for key ids that are not kept, after burst at once.
	perSecond, burst = 50, 50
	// longestLine caps the wait of a key id for its turn.
	longestLine = 3 * time.Second
	// maxAbsent caps the remembered key ids without a key. It is more than can be asked for while one is remembered.
	maxAbsent = 2 * perSecond * int(pause/time.Second)
)

var errLine = fmt.Errorf("too many unknown key ids at once: usher asks the key server for %d a second", perSecond)

// asapServer is a key server of Jitsi's kind: one document for each key id (token/util.lib.lua, get_public_key). Anybody can send
// tokens with invented key ids. So ids that have had no key yet wait in a queue, in the order in which they came, and perSecond of
// them are asked for. The component decides one request of a sender at a time, so each sender has one place in the queue, and fewer
// than perSecond times longestLine senders keep nobody out. An id that has had a key is kept, and fetched again without the queue.
// Ids without a key are remembered in a map of their own, so that they push out none with a key.
type asapServer struct {
	client   *http.Client
	folder   *url.URL
	origin   string // of its keys
	maxStale time.Duration
	tell     func(time.Duration, error) // of each fetch

	mu     sync.Mutex
	had    time.Time                           // when the last fetch was successful
	err    error                               // why the last fetch failed, or nil
	kept   map[[sha256.Size]byte]*keptKey      // by digest of the kid
	absent map[[sha256.Size]byte]absentKey     // ids without a key, each for one pause
	asking map[[sha256.Size]byte]chan struct{} // closed when the id was asked for, or given up
	next   time.Time                           // when the next id may be asked for; in the past if the queue is empty
}

type keptKey struct {
	*document
	used time.Time // guarded by the server's mutex
}

type absentKey struct {
	until time.Time
	err   error // the error of the fetch; nil if the server said that there is no key
}

// Keys implements auth.KeySource. The server cannot list its keys: without a kid there are none.
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

// turn takes a place in the queue, and returns the wait. The caller holds mu.
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

// ask waits, and asks for an id for the first time; s.asking has the id. If ctx ends before its turn, ask gives up.
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
	_, _ = d.Keys(ctx, kid) // no other goroutine has d yet, so its fields can be read
}

// document returns the document of a kid. Its address has the digest, so that no kid is part of an address.
func (s *asapServer) document(kid string, digest [sha256.Size]byte) *document {
	return &document{
		client:   s.client,
		address:  s.folder.JoinPath(hex.EncodeToString(digest[:]) + ".pem"),
		maxStale: s.maxStale,
		mayLack:  true,
		origin:   s.origin,
		tell:     s.fetched,
		parse: func(data []byte) ([]auth.Key, []error, error) {
			keys, err := PEM(kid, data)
			if len(keys) > maxKeys {
				return nil, nil, errTooMany
			}
			return keys, nil, err
		},
	}
}

// fetched notes how a fetch ended.
func (s *asapServer) fetched(took time.Duration, err error) {
	s.tell(took, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.had = time.Now()
	}
}

// status implements Remote.
func (s *asapServer) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Fetched: s.had, Keys: len(s.kept), Err: s.err}
}

// ready implements Remote.
func (s *asapServer) ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) > 0 {
		return nil
	}
	return s.err
}

// makeRoom forgets the least recently used id if there are too many. The caller holds mu.
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
