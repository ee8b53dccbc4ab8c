package oidctest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// lifetime is that of ID tokens and access tokens: 5 minutes, as Keycloak has it.
const lifetime = 5 * time.Minute

var errUnknown = errors.New("the provider does not know it")

// storage is what package op asks for.
type storage struct{ *Provider }

var (
	_ op.Storage                        = storage{}
	_ op.CanSetUserinfoFromRequest      = storage{}
	_ op.CanTerminateSessionFromRequest = storage{}
)

// request is a login under way at the provider.
type request struct {
	oidc.AuthRequest
	id      string
	session *session // nil until somebody has logged in
	at      time.Time
}

func (r *request) GetID() string                      { return r.id }
func (r *request) GetACR() string                     { return "" }
func (r *request) GetAMR() []string                   { return []string{"pwd"} }
func (r *request) GetAudience() []string              { return []string{r.ClientID} }
func (r *request) GetAuthTime() time.Time             { return r.at }
func (r *request) GetClientID() string                { return r.ClientID }
func (r *request) GetNonce() string                   { return r.Nonce }
func (r *request) GetRedirectURI() string             { return r.RedirectURI }
func (r *request) GetResponseType() oidc.ResponseType { return r.ResponseType }
func (r *request) GetResponseMode() oidc.ResponseMode { return r.ResponseMode }
func (r *request) GetScopes() []string                { return r.Scopes }
func (r *request) GetState() string                   { return r.State }
func (r *request) Done() bool                         { return r.session != nil }

func (r *request) GetCodeChallenge() *oidc.CodeChallenge {
	if r.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: r.CodeChallenge, Method: r.CodeChallengeMethod}
}

func (r *request) GetSubject() string {
	if r.session == nil {
		return ""
	}
	return r.session.user.subject()
}

// CreateAuthRequest refuses logins without PKCE, state and nonce, because usher's have all three.
func (s storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if r.CodeChallenge == "" || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || r.State == "" || r.Nonce == "" {
		return nil, oidc.ErrInvalidRequest().WithDescription("want PKCE by S256, state and nonce")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	made := &request{AuthRequest: *r, id: rand.Text()}
	s.requests[made.id] = made
	return made, nil
}

func (s storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.requests[id]; r != nil {
		return r, nil
	}
	return nil, errUnknown
}

func (s storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id := s.codes[code]
	delete(s.codes, code)
	s.mu.Unlock()
	return s.AuthRequestByID(ctx, id)
}

func (s storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

func (s storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

func (s storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	made, is := r.(*request)
	if !is {
		return "", time.Time{}, errUnknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := rand.Text()
	s.access[id] = made
	return id, time.Now().Add(lifetime), nil
}

func (s storage) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, _ string) (string, string, time.Time, error) {
	id, end, err := s.CreateAccessToken(ctx, r)
	return id, rand.Text(), end, err
}

func (s storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errUnknown
}

// TerminateSessionFromRequest ends the session that the ID token names, or all of its user.
func (s storage) TerminateSessionFromRequest(ctx context.Context, r *op.EndSessionRequest) (string, error) {
	_, err := s.end(ctx, func(one *session) bool {
		if r.IDTokenHintClaims != nil && r.IDTokenHintClaims.SessionID != "" {
			return one.sid == r.IDTokenHintClaims.SessionID
		}
		return one.user.subject() == r.UserID
	})
	if err != nil {
		s.t.Log(err)
	}
	return r.RedirectURI, nil
}

func (s storage) TerminateSession(ctx context.Context, user, _ string) error {
	_, err := s.end(ctx, func(one *session) bool { return one.user.subject() == user })
	return err
}

func (s storage) RevokeToken(context.Context, string, string, string) *oidc.Error { return nil }

func (s storage) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", op.ErrInvalidRefreshToken
}

// key is one of the provider's keys.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

// newKey makes a key for an algorithm, RS256 if it is empty.
func newKey(algorithm string) (key, error) {
	k := key{id: rand.Text(), algorithm: jose.SignatureAlgorithm(cmp.Or(algorithm, "RS256"))}
	var err error
	switch k.algorithm {
	case jose.RS256:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = errUnknown
	}
	return k, err
}

func (k key) ID() string                                  { return k.id }
func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k key) Algorithm() jose.SignatureAlgorithm          { return k.algorithm }
func (k key) Use() string                                 { return "sig" }

// signing and public are the two halves of a key, as package op wants them.
type (
	signing struct{ key }
	public  struct{ key }
)

func (k signing) Key() any { return k.private }
func (k public) Key() any  { return k.private.Public() }

func (s storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return signing{s.keys[len(s.keys)-1]}, nil
}

func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []jose.SignatureAlgorithm{s.keys[0].algorithm}, nil
}

func (s storage) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []op.Key
	for _, k := range s.keys {
		all = append(all, public{k})
	}
	return all, nil
}

func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, known := s.Provider.clients[id]; known {
		return client{c, s.Issuer, s.o.Roles == AccessToken}, nil
	}
	return nil, errUnknown
}

func (s storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, known := s.Provider.clients[id]; known && subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1 {
		return nil
	}
	return errUnknown
}

func (s storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest says who somebody is in the ID token.
func (s storage) SetUserinfoFromRequest(_ context.Context, to *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	made, is := r.(*request)
	if !is {
		return errUnknown
	}
	tell(to, made.session.user, scopes, s.o.Roles == IDToken || s.o.Roles == "")
	to.AppendClaims("sid", made.session.sid)
	return nil
}

// SetUserinfoFromToken says who somebody is at the userinfo endpoint.
func (s storage) SetUserinfoFromToken(_ context.Context, to *oidc.UserInfo, id, _, _ string) error {
	s.mu.Lock()
	made := s.access[id]
	s.mu.Unlock()
	if made == nil {
		return errUnknown
	}
	tell(to, made.session.user, made.Scopes, s.o.Roles != AccessToken)
	return nil
}

// tell says who a user is, with groups and roles as Keycloak's mappers write them.
func tell(to *oidc.UserInfo, u User, scopes []string, roles bool) {
	to.Subject = u.subject()
	if slices.Contains(scopes, oidc.ScopeProfile) {
		to.PreferredUsername, to.Name = u.Name, u.Display
	}
	if slices.Contains(scopes, oidc.ScopeEmail) && u.Email != "" {
		to.Email, to.EmailVerified = u.Email, true
	}
	if roles {
		for name, value := range u.roles() {
			to.AppendClaims(name, value)
		}
	}
}

// roles are the claims of a user about groups and roles, and more claims.
func (u User) roles() map[string]any {
	all := maps.Clone(u.Claims)
	if all == nil {
		all = make(map[string]any)
	}
	if u.Groups != nil {
		all["groups"] = u.Groups
	}
	if u.RealmRoles != nil {
		all["realm_access"] = map[string]any{"roles": u.RealmRoles}
	}
	if u.ClientRoles != nil {
		of := make(map[string]any)
		for id, list := range u.ClientRoles {
			of[id] = map[string]any{"roles": list}
		}
		all["resource_access"] = of
	}
	return all
}

func (s storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errUnknown
}

// GetPrivateClaimsFromScopes returns the claims of an access token.
func (s storage) GetPrivateClaimsFromScopes(_ context.Context, subject, _ string, _ []string) (map[string]any, error) {
	i := slices.IndexFunc(s.o.Users, func(u User) bool { return u.subject() == subject })
	if i < 0 || s.o.Roles != AccessToken {
		return nil, nil
	}
	return s.o.Users[i].roles(), nil
}

func (s storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnknown
}

func (s storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnknown
}

func (s storage) Health(context.Context) error { return nil }

// client is a Client as package op wants it.
type client struct {
	Client
	issuer   string
	readable bool // its access tokens
}

func (c client) GetID() string                    { return c.ID }
func (c client) RedirectURIs() []string           { return c.Client.RedirectURIs }
func (c client) PostLogoutRedirectURIs() []string { return c.PostLogoutURIs }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) GrantTypes() []oidc.GrantType { return []oidc.GrantType{oidc.GrantTypeCode} }
func (c client) LoginURL(id string) string    { return c.issuer + "/login?id=" + id }
func (c client) AccessTokenType() op.AccessTokenType {
	if c.readable {
		return op.AccessTokenTypeJWT
	}
	return op.AccessTokenTypeBearer
}
func (c client) IDTokenLifetime() time.Duration { return lifetime }
func (c client) IsScopeAllowed(string) bool     { return true }
func (c client) ClockSkew() time.Duration       { return 0 }

// DevMode lets redirects lead to http.
func (c client) DevMode() bool { return true }

// IDTokenUserinfoClaimsAssertion puts name and email into the ID token, as Keycloak does.
func (c client) IDTokenUserinfoClaimsAssertion() bool { return true }

func (c client) ApplicationType() op.ApplicationType {
	if c.Secret == "" {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c client) AuthMethod() oidc.AuthMethod {
	if c.Secret == "" {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string { return unchanged }

func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return unchanged }

func unchanged(scopes []string) []string { return scopes }
