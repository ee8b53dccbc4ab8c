// Package oidctest runs a private OpenID Connect provider for one test, as net/http/httptest runs a private HTTP server.
//
// It is the provider of github.com/zitadel/oidc (package op) with a port of its own on 127.0.0.1, and what that one leaves to others: a
// login page, sessions that last over several logins, and back-channel logout. Its users have Keycloak's claims. Tests can rotate its
// keys, put its clock wrong, and change what it says.
package oidctest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// realm is the path of the issuer, which looks like one of Keycloak.
const realm = "/realms/school"

// User is somebody who can log in.
type User struct {
	// Name is preferred_username, and what the login page asks for beside Password. Subject is sub, and Name if empty.
	Name, Password, Subject string
	// Display is name. Email is verified.
	Display, Email string
	// Groups is the claim groups, RealmRoles realm_access.roles, and ClientRoles resource_access.CLIENT.roles. Absent if nil.
	Groups, RealmRoles []string
	ClientRoles        map[string][]string
	// Claims are more claims.
	Claims map[string]any
}

func (u User) subject() string {
	if u.Subject != "" {
		return u.Subject
	}
	return u.Name
}

// Client is a program that the provider knows.
type Client struct {
	// Secret is empty for a public client.
	ID, Secret string
	// RedirectURIs and PostLogoutURIs are the addresses to which the provider sends browsers back.
	RedirectURIs, PostLogoutURIs []string
	// BackChannelURI gets logout tokens; empty for none.
	BackChannelURI string
}

// Options say what the provider is like.
type Options struct {
	Users   []User
	Clients []Client
	// Roles is where groups and roles are: IDToken, the default, Userinfo or AccessToken. A Keycloak that nobody has changed writes
	// roles into the access token only.
	Roles Part
	// Algorithm is the one by which the provider signs: RS256, the default, ES256 or EdDSA.
	Algorithm string
	// TLS makes the provider one in https.
	TLS bool
	// NamesItself adds iss to authorization responses (RFC 9207).
	NamesItself bool
}

// Part is something that the provider says. Tests can change it.
type Part string

// The parts.
const (
	Discovery   Part = "/.well-known/openid-configuration"
	Tokens      Part = "/oauth/token"
	Userinfo    Part = "/userinfo"
	Keys        Part = "/keys"
	IDToken     Part = "the ID token in Tokens"
	AccessToken Part = "the access token in Tokens" // cannot be changed
)

// Provider is a provider that runs. Any goroutine may use it.
type Provider struct {
	// Issuer is its address, for the configuration.
	Issuer string
	// Client trusts its certificate.
	Client *http.Client

	t testing.TB
	o Options

	mu       sync.Mutex
	keys     []key // the last one signs
	shift    time.Duration
	changes  map[Part]func(map[string]any)
	instead  map[Part]http.Handler
	asked    map[string]int
	clients  map[string]Client
	requests map[string]*request // by id
	codes    map[string]string   // ids of requests
	access   map[string]*request // by the id of an access token
	sessions map[string]*session // by sid
}

// session is somebody who is logged in at the provider, and the clients to which they have logged in.
type session struct {
	sid     string
	user    User
	clients []string
}

// Start runs a provider until the test ends.
func Start(t testing.TB, o Options) *Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	scheme := map[bool]string{false: "http://", true: "https://"}[o.TLS]
	p := &Provider{
		Issuer: scheme + server.Listener.Addr().String() + realm, t: t, o: o,
		changes: make(map[Part]func(map[string]any)), instead: make(map[Part]http.Handler), asked: make(map[string]int),
		clients: make(map[string]Client), requests: make(map[string]*request), codes: make(map[string]string),
		access: make(map[string]*request), sessions: make(map[string]*session),
	}
	p.Rotate()
	for _, c := range o.Clients {
		p.Register(c)
	}
	handler, err := p.handler()
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = handler
	if o.TLS {
		server.StartTLS()
	} else {
		server.Start()
	}
	p.Client = server.Client()
	t.Cleanup(server.Close)
	return p
}

// Register adds a client, or replaces the one with its id.
func (p *Provider) Register(c Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.ID] = c
}

// Rotate makes a new key, which signs from now on. The one before stays published, the one before that does not.
func (p *Provider) Rotate() {
	p.t.Helper()
	key, err := newKey(p.o.Algorithm)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys = append(p.keys, key); len(p.keys) > 2 {
		p.keys = p.keys[1:]
	}
}

// Shift puts the provider's clock this much ahead of the machine's, as far as its ID tokens and logout tokens show it.
func (p *Provider) Shift(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shift = by
}

// Change changes a part from now on; nil changes it no more. change gets the claims of an ID token, otherwise the whole answer.
func (p *Provider) Change(part Part, change func(map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes[part] = change
}

// Instead lets another handler answer for a part, or for all that has none if the part is empty; nil ends that.
func (p *Provider) Instead(part Part, h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h == nil {
		delete(p.instead, part)
	} else {
		p.instead[part] = h
	}
}

// Asked returns how often a part was asked for, also while another handler answers.
func (p *Provider) Asked(part Part) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[realm+string(part)]
}

// Sign returns a token with these claims, signed as the provider signs. typ is for its header.
func (p *Provider) Sign(typ string, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	key := p.keys[len(p.keys)-1]
	p.mu.Unlock()
	options := new(jose.SignerOptions)
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: key.algorithm, Key: jose.JSONWebKey{Key: key.private, KeyID: key.id}}, options)
	if err != nil {
		p.t.Fatal(err)
	}
	signature, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := signature.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// now returns the time on the provider's clock.
func (p *Provider) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.shift)
}

// LogoutClaims returns the claims of a logout token for a client (Back-Channel Logout 1.0 §2.4). A test may change them and Sign them.
func (p *Provider) LogoutClaims(client, subject, sid string) map[string]any {
	claims := map[string]any{
		"iss": p.Issuer, "aud": client, "jti": rand.Text(), "iat": p.now().Unix(), "exp": p.now().Add(2 * time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	if subject != "" {
		claims["sub"] = subject
	}
	if sid != "" {
		claims["sid"] = sid
	}
	return claims
}

// Logout ends all sessions of a user, as an administrator of the provider can, and sends the logout tokens. It returns how many clients
// have taken theirs.
func (p *Provider) Logout(user string) (sent int) {
	p.t.Helper()
	sent, err := p.end(context.Background(), func(s *session) bool { return s.user.Name == user })
	if err != nil {
		p.t.Error(err)
	}
	return sent
}

// end ends sessions, and sends a logout token to each of their clients.
func (p *Provider) end(ctx context.Context, which func(*session) bool) (sent int, err error) {
	var ended []*session
	clients := make(map[string]Client)
	p.mu.Lock()
	for sid, s := range p.sessions {
		if which(s) {
			delete(p.sessions, sid)
			ended = append(ended, s)
			for _, id := range s.clients {
				clients[id] = p.clients[id]
			}
		}
	}
	p.mu.Unlock()
	var failed []error
	for _, s := range ended {
		for _, id := range s.clients {
			if c := clients[id]; c.BackChannelURI != "" {
				err := p.send(ctx, c, p.Sign("logout+jwt", p.LogoutClaims(c.ID, s.user.subject(), s.sid)))
				if failed = append(failed, err); err == nil {
					sent++
				}
			}
		}
	}
	return sent, errors.Join(failed...)
}

// send sends a logout token (Back-Channel Logout 1.0 §2.5).
func (p *Provider) send(ctx context.Context, c Client, token string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body := strings.NewReader(url.Values{"logout_token": {token}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.BackChannelURI, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return fmt.Errorf("back-channel logout of %s: %w", c.ID, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("back-channel logout of %s: HTTP status %d", c.ID, answer.StatusCode)
	}
	return nil
}

// handler returns the pages and endpoints of the provider.
func (p *Provider) handler() (http.Handler, error) {
	config := &op.Config{
		CodeMethodS256: true, AuthMethodPost: true, BackChannelLogoutSupported: true, BackChannelLogoutSessionSupported: true,
		DefaultLogoutRedirectURI: p.Issuer + "/out", SupportedClaims: []string{"sub", "groups"},
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, err
	}
	provider, err := op.NewProvider(config, storage{p}, op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", p.loginPage)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("GET /out", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "You are logged out.") })
	mux.Handle("/", p.changed(provider))
	inside := http.StripPrefix(realm, mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path]++
		instead := p.instead[Part(strings.TrimPrefix(r.URL.Path, realm))]
		if instead == nil {
			instead = p.instead[""]
		}
		p.mu.Unlock()
		if instead != nil {
			instead.ServeHTTP(w, r)
			return
		}
		inside.ServeHTTP(w, r)
	}), nil
}

// userOf returns the user with this name.
func (p *Provider) userOf(name string) (User, bool) {
	i := slices.IndexFunc(p.o.Users, func(u User) bool { return u.Name == name })
	if i < 0 {
		return User{}, false
	}
	return p.o.Users[i], true
}
