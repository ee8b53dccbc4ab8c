package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
)

// usher is an Usher that does as it is told.
type usher struct {
	mu     sync.Mutex
	grants []component.LiveGrant
	asked  string // the latest question
	all    []auth.Revocation
	err    error
	rooms  []component.RoomSummary
	view   component.RoomView
}

func (u *usher) is(err error, asked string, args ...any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = fmt.Sprintf(asked, args...)
	return errors.Join(u.err, err)
}

func (u *usher) Grants(room string) ([]component.LiveGrant, error) {
	return u.grants, u.is(nil, "grants %q", room)
}

func (u *usher) Revoke(_ context.Context, r auth.Revocation) (component.Revoked, error) {
	err := u.is(nil, "revoke %+v", r)
	r.ID, r.At = "ID", noon
	return component.Revoked{Revocation: r, Out: u.grants[:1], Spared: u.grants[1:]}, err
}

func (u *usher) Revocations(context.Context) ([]auth.Revocation, error) {
	return u.all, u.is(nil, "revocations")
}

func (u *usher) Issuers() []string { return []string{"my_app", "portal"} }

func (u *usher) Unrevoke(_ context.Context, id string) error { return u.is(nil, "unrevoke %s", id) }

var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

func newUsher() *usher {
	room := jid.MustParse("standup@conference.meet.example.com")
	return &usher{
		grants: []component.LiveGrant{
			{Room: room, Who: jid.MustParse("romeo@meet.example.com"), Affiliation: "owner", Reason: auth.ReasonHost, Issuer: "my_app",
				JTI: "j1", User: "u1", At: noon, Expires: noon.Add(time.Hour), RemoveAt: noon.Add(2 * time.Hour)},
			{Room: room, Who: jid.MustParse("juliet@guest.example.com"), Affiliation: "member", Reason: auth.ReasonGuest, At: noon},
		},
		all: []auth.Revocation{{ID: "ID", JTI: "j1", At: noon, Room: room.String(), Reason: "lost <phone>"}},
	}
}

var guarded = auth.New(auth.Policy{Services: []string{"conference.meet.example.com"}})

// Address is as in a component that guards one MUC service.
func (u *usher) Address(room string) (jid.JID, error) {
	if !strings.Contains(room, "@") {
		room += "@conference.meet.example.com"
	}
	j, err := guarded.Room(room)
	if err != nil || j.Domainpart() != "conference.meet.example.com" {
		return j, fmt.Errorf("%w: %v", component.ErrRoom, err)
	}
	return j, nil
}

func (u *usher) Rooms() []component.RoomSummary { return u.rooms }

func (u *usher) Room(_ context.Context, address string) (component.RoomView, error) {
	return u.view, u.is(nil, "room %s", address)
}

func (u *usher) EndRoom(_ context.Context, address, reason string) error {
	return u.is(nil, "end %s %q", address, reason)
}

func (u *usher) RemoveOccupant(_ context.Context, address, who, reason string, bar bool) error {
	return u.is(nil, "remove %s from %s %q %t", who, address, reason, bar)
}

func (u *usher) LockRoom(_ context.Context, address string, lock bool) error {
	return u.is(nil, "lock %s %t", address, lock)
}

// secret is the key of a name, as its holder has it.
func secret(name string) string { return "usher_" + name + "_" + strings.Repeat("s", 43) }

func keyFor(name string, scopes []Scope, rooms ...string) Key {
	return Key{Name: name, Hash: sha256.Sum256([]byte(secret(name))), Scopes: scopes, Rooms: rooms}
}

// fixture is an API, and all that it asks and tells.
type fixture struct {
	*usher
	http.Handler
	mu       sync.Mutex
	keys     []Key
	calls    []Call
	mints    []MintRequest
	explains []ExplainRequest
	mintErr  error
	aside    bool
	now      time.Time
	store    store.Store
	history  *history.History
}

// newAPI returns an API for the network with the keys "all", which may do all, and "acme", which may do all in some rooms.
func newAPI(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{usher: newUsher(), now: noon, history: history.New(100), keys: []Key{
		keyFor("all", Scopes), keyFor("acme", Scopes, "standup", "acme-*", "[acme]*"),
	}}
	f.store = store.Memory(store.Options{Now: f.clock})
	o := f.options()
	for _, c := range change {
		c(&o)
	}
	f.Handler = New(o)
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fixture) options() Options {
	return Options{
		Active: func() Usher {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.aside {
				return nil
			}
			return f.usher
		},
		History: f.history,
		Keys: func() []Key {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.keys
		},
		Mint: func(_ context.Context, r MintRequest) (Minted, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.mints = append(f.mints, r)
			return Minted{
				Token: fmt.Sprintf("eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.%d", len(f.mints)), JTI: fmt.Sprint("jti", len(f.mints)),
				Room: r.Room, Expires: r.Ends(f.now), Affiliation: "member", Issuer: "my_app", VHost: "meet.example.com",
			}, f.mintErr
		},
		Explain: func(_ context.Context, r ExplainRequest) (Explanation, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.explains = append(f.explains, r)
			return Explanation{Room: r.Room, Verdict: "deny", Steps: []auth.Step{}}, nil
		},
		Links:     func() (store.Links, bool) { return store.Links{Store: f.store}, true },
		PublicURL: "https://usher.example.com", MeetURL: "https://meet.example.com",
		Called: func(c Call) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls = append(f.calls, c)
		},
		Rate:   Rate{1e9, 1e9},
		Status: Status{Domain: "focus.meet.example.com", Version: "v1"},
		Now:    f.clock,
	}
}

// last returns the latest call that was told of.
func (f *fixture) last() Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return Call{}
	}
	return f.calls[len(f.calls)-1]
}

// call makes a call with the key of a name; none if that is empty.
func (f *fixture) call(key, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+secret(key))
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// wants fails unless an answer has a status and, in its JSON, a text.
func wants(t testing.TB, what string, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	body := w.Body.String()
	if w.Code != status || !strings.Contains(body, text) {
		t.Errorf("%s: %d %s\nwant %d %s", what, w.Code, body, status, text)
	}
	if w.Code >= 400 && strings.HasPrefix(w.Header().Get("Content-Type"), "application") {
		var p huma.ErrorModel
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" || p.Title == "" ||
			w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: no problem by RFC 9457: %s, %v", what, body, err)
		}
	}
}
