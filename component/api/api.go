// Package api is the HTTP API by which a back end steers usher, and by which an operator's commands do: who is let in, rooms, tokens,
// one-time links, and what was decided. README.md shows how to begin; testdata/openapi.json is the reference.
//
// [New] is for the network: each call needs a key, and does no more than the key may. [Local] is for a socket of this machine, which
// only usher's user and group can open; a [Server] offers it there, and a [Client] asks it. Both have the same operations.
//
// Tokens, secrets and session ids are in no answer, but for the token that somebody asks to mint. Errors are those of RFC 9457. Their
// detail is for people, and repeats no token.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
)

// Usher is what the API acts on: a *component.Component.
type Usher interface {
	Grants(room string) ([]component.LiveGrant, error)
	Revoke(ctx context.Context, r auth.Revocation) (component.Revoked, error)
	Revocations(ctx context.Context) ([]auth.Revocation, error)
	Unrevoke(ctx context.Context, id string) error
	Issuers() []string

	Address(room string) (jid.JID, error)
	Rooms() []component.RoomSummary
	Room(ctx context.Context, address string) (component.RoomView, error)
	EndRoom(ctx context.Context, address, reason string) error
	RemoveOccupant(ctx context.Context, address, who, reason string, bar bool) error
	LockRoom(ctx context.Context, address string, lock bool) error
}

// Options is what the API needs. Its functions are called by many goroutines at once.
type Options struct {
	// Active returns the usher that is the active one, and nil while this one stands by.
	Active func() Usher
	// History has the latest decisions; nil if nobody keeps them.
	History *history.History
	// Keys returns the keys that count now. Nil means none.
	Keys func() []Key
	// Mint makes a token, and Explain says what would be decided. Their error is a RequestError if the request is at fault.
	Mint    func(context.Context, MintRequest) (Minted, error)
	Explain func(context.Context, ExplainRequest) (Explanation, error)
	// Login checks a password, and mints a token for a room of the account. Its error is ErrLogin, ErrNotRoom, a *TooManyError or a
	// RequestError; any other one says that nobody can tell now. Nil means that nobody logs in here.
	Login func(context.Context, LoginRequest) (LoggedIn, error)
	// MiroTalk adds MiroTalk's calls, which need Login; see mirotalk.go.
	MiroTalk bool
	// Links returns where links are kept, and false while this usher stands by. Nil means that there are no links.
	Links func() (store.Links, bool)
	// PublicURL is where people reach New's handler, and MeetURL where they reach jitsi-meet: without a slash at the end. Empty
	// means that there are no links.
	PublicURL, MeetURL string
	// Proxies are believed when they say who a caller is.
	Proxies []netip.Prefix
	// Called is told of each call, also of one that was refused, when it is over. It must not block. Nil means that nobody is told.
	// Of callers without a key it is told as long as there are not too many; see Rate.
	Called func(Call)
	Rate   Rate
	// Status says what this usher is. Active in it is not read.
	Status Status
	Log    *zap.Logger
	// Now is the clock by which keys and links end; nil for the machine's.
	Now func() time.Time
}

// Status is what an usher says of itself.
type Status struct {
	Active  bool   `json:"active" doc:"False while this usher stands by for another one."`
	Domain  string `json:"domain" doc:"The domain of its component."`
	Version string `json:"version"`
}

// Call is a call of the API, for the audit log. It holds no key, token or code.
type Call struct {
	At     time.Time
	Key    string // the name of the key; "local" on the socket, empty if there was none that counts
	Method string
	Path   string // the pattern, such as /api/v1/rooms/{room}; empty if there is no such path
	Room   string // the room's address, if the call is about one
	Who    string // the bare JID that the call is about, or the claims of tokens that are taken back
	Remote string // the address of the caller; empty on the socket
	Status int    // of HTTP
	Took   time.Duration
}

// RequestError is a fault of a request, in words for its author. It repeats no token.
type RequestError string

func (e RequestError) Error() string { return string(e) }

// Base is the path of all operations.
const Base = "/api/v1"

// versionHeader is in each answer on the socket, by which an usher is known.
const versionHeader = "Usher-Version"

// maxRequest is how long a body may be, in bytes. The longest claims fit into a token, which has 8 kB.
const maxRequest = 40 << 10

// server has what the operations share.
type server struct {
	Options
	local   bool
	limits  *limits
	streams *streams
	devices devices // of MiroTalk's calls
}

// New returns the API for the network, with the page of links. The caller bounds how long a client may take to send its request; see
// [Run].
func New(o Options) http.Handler {
	s := newServer(o, false)
	mux := http.NewServeMux()
	s.register(mux)
	s.linkPage(mux)
	if o.MiroTalk && o.Login != nil {
		s.mirotalk(mux)
	}
	return s.outermost(mux)
}

// Local returns the API for a socket of this machine: everybody who can ask it may do all, by the name "local".
func Local(o Options) http.Handler {
	s := newServer(o, true)
	mux := http.NewServeMux()
	s.register(mux)
	return s.outermost(mux)
}

func newServer(o Options, local bool) *server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keys == nil {
		o.Keys = func() []Key { return nil }
	}
	if o.Called == nil {
		o.Called = func(Call) {}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &server{Options: o, local: local, limits: newLimits(o.Rate), streams: newStreams()}
}

// Document returns the OpenAPI document of the API, in JSON.
func Document() ([]byte, error) {
	api := newServer(Options{}, false).register(http.NewServeMux())
	return json.MarshalIndent(api.OpenAPI(), "", "  ")
}

// huma is told here what its configuration has no field for: a name in another case is another name, and lists are never null.
func init() { huma.ValidateStrictCasing, huma.DefaultArrayNullable = true, false }

// register adds all operations.
func (s *server) register(mux *http.ServeMux) huma.API {
	c := huma.DefaultConfig("usher", "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil // which would put a $schema into each answer
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	c.Formats = map[string]huma.Format{"application/json": format, "json": format}
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{clean}
	c.Info.Description = "Steers usher, which decides who may enter XMPP conference rooms. Each operation names the scope that a key needs for it."
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "http", Scheme: "bearer", Description: "A key made by `usher api key add`."}}
	c.Security = []map[string][]string{{"key": {}}}
	api := humago.NewWithPrefix(mux, Base, c)
	api.UseMiddleware(s.admit(api))
	s.usherOperation(api)
	s.roomOperations(api)
	s.grantOperation(api)
	s.revocationOperations(api)
	s.tokenOperations(api)
	s.linkOperation(api)
	s.loginOperation(api)
	s.decisionOperations(api)
	document, err := json.Marshal(api.OpenAPI())
	if err != nil {
		panic(err) // no input changes the document
	}
	mux.HandleFunc("GET "+Base+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusNotFound, errNoSuchPath.Error())
	})
	return api
}

// operation returns an operation that needs a scope.
func operation(id, method, path, summary string, scope Scope, errs ...int) huma.Operation {
	o := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxRequest,
		Errors:   append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}, errs...),
		Metadata: map[string]any{scopeOf: scope},
	}
	if scope != "" {
		o.Description = "Needs the scope `" + string(scope) + "`."
	}
	slices.Sort(o.Errors)
	return o
}

const scopeOf = "scope"

// usherOperation is the one that is answered while this usher stands by, too.
func (s *server) usherOperation(api huma.API) {
	type out struct{ Body Status }
	huma.Register(api, operation("get-usher", http.MethodGet, "/usher", "Say what this usher is, and whether it is the active one", ""),
		func(context.Context, *struct{}) (*out, error) {
			is := s.Status
			is.Active = s.Active() != nil
			return &out{is}, nil
		})
}

// active returns the usher that is the active one.
func (s *server) active() (Usher, error) {
	if u := s.Active(); u != nil {
		return u, nil
	}
	return nil, errStandsBy
}

// errStandsBy is what an usher says that is not the active one.
var errStandsBy = errors.New("this usher stands by for another one, and knows nobody; ask the usher that is active")
