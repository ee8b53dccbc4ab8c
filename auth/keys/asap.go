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
	// maxKids is how many key ids of one server are kept. Jitsi keeps 128 (jwt_pubkey_cache_size).
	maxKids = 256
	// maxUnknown is how many key ids that are not kept may be asked for in one pause.
	maxUnknown = 10
)

// asapServer is a key server of Jitsi's: one document for each key id (token/util.lib.lua, get_public_key). Anybody may
// send tokens with any number of key ids. Hence at most maxUnknown of those that are not kept are asked for in one pause,
// and ids without a key are forgotten after it, so that they never push out those that have one.
type asapServer struct {
	client   *http.Client
	folder   *url.URL
	maxStale time.Duration

	mu        sync.Mutex
	documents map[[sha256.Size]byte]*asapKey // by digest of the kid
	asked     [maxUnknown]time.Time          // when ids that were not kept were asked for last; a ring
	next      int                            // the oldest of them
}

type asapKey struct {
	*document
	used time.Time // guarded by the server's mutex
}

// Keys implements auth.KeySource. The server cannot be asked for all keys: without a kid there are none.
func (s *asapServer) Keys(ctx context.Context, kid string) ([]auth.Key, error) {
	if kid == "" {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, failure(s.folder, err)
	}
	key, err := s.key(kid, time.Now())
	if err != nil {
		return nil, err
	}
	return key.Keys(ctx, kid)
}

// Counts implements auth.KeySource.
func (s *asapServer) Counts(origin string) bool { return origin == originOf(s.folder) }

// key returns the document of a key id, a new one if the pause allows.
func (s *asapServer) key(kid string, now time.Time) (*asapKey, error) {
	digest := sha256.Sum256([]byte(kid))
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.documents[digest]
	if key == nil || key.over(now) {
		if now.Sub(s.asked[s.next]) < pause {
			return nil, failure(s.folder, fmt.Errorf("%d unknown key ids within %s: no more are asked for", maxUnknown, pause))
		}
		s.asked[s.next] = now
		s.next = (s.next + 1) % maxUnknown
		s.makeRoom(now)
		key = &asapKey{document: s.document(kid, digest)}
		s.documents[digest] = key
	}
	key.used = now
	return key, nil
}

// document returns the document of a kid, whose digest names it: a kid has no part in the address.
func (s *asapServer) document(kid string, digest [sha256.Size]byte) *document {
	return &document{
		client:   s.client,
		address:  s.folder.JoinPath(hex.EncodeToString(digest[:]) + ".pem"),
		maxStale: s.maxStale,
		mayLack:  true,
		origin:   originOf(s.folder),
		parse: func(data []byte) ([]auth.Key, []error, error) {
			keys, err := PEM(kid, data)
			if len(keys) > maxKeys {
				return nil, nil, errTooMany
			}
			return keys, nil, err
		},
	}
}

// makeRoom forgets the ids without a key, and if need be the one that was not used for longest.
func (s *asapServer) makeRoom(now time.Time) {
	maps.DeleteFunc(s.documents, func(_ [sha256.Size]byte, key *asapKey) bool { return key.over(now) })
	if len(s.documents) < maxKids {
		return
	}
	var oldest [sha256.Size]byte
	for digest, key := range s.documents {
		if old := s.documents[oldest]; old == nil || key.used.Before(old.used) {
			oldest = digest
		}
	}
	delete(s.documents, oldest)
}

// over tells whether the server was asked and gave no key, and the time is over in which it need not be asked again.
func (k *asapKey) over(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.keys) == 0 && k.busy == nil && !k.tried.IsZero() && now.Sub(k.tried) >= pause
}

// Check implements Remote: it asks for a key id that nobody has.
func (s *asapServer) Check(ctx context.Context) ([]auth.Key, []error, error) {
	kid := rand.Text()
	return s.document(kid, sha256.Sum256([]byte(kid))).Check(ctx)
}
