package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
)

// Scope is what a key may do.
type Scope string

// All scopes.
const (
	ScopeTokens      Scope = "tokens"         // mint tokens
	ScopeExplain     Scope = "explain"        // ask what would be decided
	ScopeRoomsRead   Scope = "rooms:read"     // see rooms, and who is inside
	ScopeRoomsWrite  Scope = "rooms:write"    // end and lock rooms, remove people
	ScopeGrantsRead  Scope = "grants:read"    // see who is let in by which token
	ScopeRevocations Scope = "revocations"    // take tokens back, and see and end that
	ScopeLinks       Scope = "links"          // make one-time links
	ScopeDecisions   Scope = "decisions:read" // see what was decided
)

// Scopes are all scopes, in the order of the documentation.
var Scopes = []Scope{ScopeTokens, ScopeExplain, ScopeRoomsRead, ScopeRoomsWrite, ScopeGrantsRead, ScopeRevocations, ScopeLinks, ScopeDecisions}

// Key is a key as usher knows it: not the key itself, which only its holder has.
type Key struct {
	Name string
	// Hash is the SHA-256 of the key. A key has 32 random bytes, so a slow hash would protect nothing.
	Hash   [sha256.Size]byte
	Scopes []Scope
	// Rooms are patterns as in auth.MatchRoom; empty means all rooms.
	Rooms []string
	// MaxTTL is how long a token, and a link until it is redeemed, may be valid at most; 0 means as long as any.
	MaxTTL time.Duration
	// Expires is when the key ends; zero means never.
	Expires time.Time
}

// may reports whether the key has a scope.
func (k *Key) may(scope Scope) bool { return slices.Contains(k.Scopes, scope) }

// everywhere reports whether the key is for all rooms.
func (k *Key) everywhere() bool { return len(k.Rooms) == 0 }

// covers reports whether the key may see and touch a room.
func (k *Key) covers(room auth.Room) bool {
	return k.everywhere() || slices.ContainsFunc(k.Rooms, func(pattern string) bool { return auth.MatchRoom(pattern, room) })
}

// sees reports whether the key is shown what happens in a room that usher knows. A breakout room has a name and no tenant of its own,
// whatever its main room is: a key for some rooms is not shown it, as it cannot name it (Usher.Address).
func (k *Key) sees(u Usher, room auth.Room) bool {
	if k.everywhere() {
		return true
	}
	if !k.covers(room) {
		return false
	}
	_, err := u.Address(room.JID.String())
	return err == nil
}

// expired reports whether the key has ended.
func (k *Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// localKey is the key of callers on the socket, which may do all.
var localKey = Key{Name: "local", Scopes: Scopes}

// find returns the key that was presented, nil if there is none. It takes as long for every key that is wrong.
func find(keys []Key, presented string) *Key {
	hash := sha256.Sum256([]byte(presented))
	var found *Key
	for i := range keys {
		if subtle.ConstantTimeCompare(hash[:], keys[i].Hash[:]) == 1 {
			found = &keys[i]
		}
	}
	return found
}

// admit lets a call through that has a key with the operation's scope, as often as its rate allows. The operation finds the key with
// keyOf.
func (s *server) admit(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if ctx.Operation().Metadata[withoutKey] != nil {
			next(ctx)
			return
		}
		key, refused := s.key(ctx)
		if refused != nil {
			for name, value := range refused.headers {
				ctx.SetHeader(name, value)
			}
			_ = huma.WriteErr(api, ctx, refused.status, refused.text) // which only fails if the client has gone
			return
		}
		callOf(ctx.Context()).Key = key.Name
		next(huma.WithValue(ctx, keyName{}, key))
	}
}

// withoutKey marks an operation that everybody may call.
const withoutKey = "without key"

type keyName struct{}

// keyOf returns the key of a call.
func keyOf(ctx context.Context) *Key { return ctx.Value(keyName{}).(*Key) }

// refusal is why a call is not let through.
type refusal struct {
	status  int
	text    string
	headers map[string]string
}

const (
	textNoKey = "this call needs a key: send the header Authorization: Bearer usher_NAME_…, with a key that usher api key add has printed"
	// textWrongKey is for every key that does not count, so that nobody learns which names there are.
	textWrongKey = "no such key: it is misspelled, or was removed"
	textTooMany  = "too many calls: wait a second, and ask less often"
)

// key returns the key of a call, or why it does not count.
func (s *server) key(ctx huma.Context) (*Key, *refusal) {
	if s.local {
		return &localKey, nil
	}
	scope, _ := ctx.Operation().Metadata[scopeOf].(Scope)
	return s.counts(callOf(ctx.Context()), bearer(ctx), scope)
}

// counts returns the key that a call presents, or why it does not count for a scope. Empty is no key.
func (s *server) counts(c *current, presented string, scope Scope) (*Key, *refusal) {
	text := textNoKey
	var key *Key
	if presented != "" {
		key, text = find(s.Keys(), presented), textWrongKey
	}
	switch {
	case key == nil && !s.heard(c):
		return nil, &refusal{http.StatusTooManyRequests, textTooMany, map[string]string{"Retry-After": "1"}}
	case key == nil:
		return nil, &refusal{http.StatusUnauthorized, text, map[string]string{"WWW-Authenticate": `Bearer realm="usher"`}}
	}
	c.Key = key.Name
	switch {
	case key.expired(s.Now()):
		return nil, &refusal{http.StatusUnauthorized, "the key " + key.Name + " has expired: make a new one with usher api key add",
			map[string]string{"WWW-Authenticate": `Bearer realm="usher", error="invalid_token"`}}
	case !s.limits.call(key):
		return nil, &refusal{http.StatusTooManyRequests, textTooMany, map[string]string{"Retry-After": "1"}}
	case scope != "" && !key.may(scope):
		return nil, &refusal{status: http.StatusForbidden, text: fmt.Sprintf("the key %s may not do this: it needs the scope %s, and has %s", key.Name, scope, scopes(key.Scopes))}
	}
	return key, nil
}

func scopes(all []Scope) string {
	if len(all) == 0 {
		return "none"
	}
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// bearer returns the key that a call presents (RFC 6750 §2.1), empty if there is none, or if there are several headers: a proxy could
// read another one.
func bearer(ctx huma.Context) string {
	var all []string
	ctx.EachHeader(func(name, value string) {
		if name == "Authorization" {
			all = append(all, value)
		}
	})
	if len(all) != 1 {
		return ""
	}
	scheme, key, _ := strings.Cut(all[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}
