// Package oidc logs people in through OpenID Connect providers: authorization code with PKCE (RFC 7636), state and nonce. It maps the
// claims of a person to rooms, an affiliation and features, and knows both kinds of logout that start elsewhere or end there
// (RP-Initiated and Back-Channel Logout 1.0).
//
//	providers := oidc.New(oidc.Options{Providers: …, PublicURL: "https://login.example.com"})
//	address, flow, err := providers.Begin(ctx, "school")   // send the browser to address, keep flow
//	login, err := providers.Finish(ctx, flow, query)       // the browser is back at /login/callback/school
//
// The package keeps no sessions and writes no HTTP answers: the caller does. It asks the configured issuers, and the addresses that
// their discovery documents name, and nobody else: over https, or http within this machine. Addresses in tokens and in claims are never
// followed.
//
// Its errors are for the log. They hold no token, code, secret or claim value, and nothing that a provider has written but error codes of
// RFC 6749.
package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
)

// What an error of this package means for the person who logs in. Compare with errors.Is; the rest of the text is for the log.
var (
	// ErrNoProvider means that no provider of this name is configured.
	ErrNoProvider = errors.New("no such provider")
	// ErrNoRoom means that the login is good, but no rule gives the person any room.
	ErrNoRoom = errors.New("no rule gives this person a room")
	// ErrRefused means that the login or the logout token is not good. Trying again with the same does not help.
	ErrRefused = errors.New("refused")
	// ErrUnavailable means that the provider could not be asked, or answers nonsense. Trying again later may help.
	ErrUnavailable = errors.New("the provider cannot be asked now")
)

// Rule says what people with a value of a claim may do. All rules that match count.
type Rule struct {
	// Claim is the path of a claim as of token.NewClaim, such as realm_access.roles; groups if empty. The claim is a string or a list
	// of strings.
	Claim string
	// Value is what the claim must have. One slash at the beginning makes no difference, because Keycloak names groups by paths.
	// "*" is any user of the provider, with or without the claim.
	Value string
	// Affiliation is the least that the person gets; member if empty. The highest one of all rules that match counts.
	Affiliation auth.Affiliation
	// Rooms are patterns of rooms, as of auth.MatchRoom.
	Rooms []string
	// Tenant, if not empty, puts [tenant] before the patterns that have none.
	Tenant string
	// Features are switched on in the token. If no rule that matches has any, the token says nothing about features.
	Features []string
}

// Provider is one OpenID Connect provider, and what its users may do.
type Provider struct {
	// Name is part of the redirect URI and of the ids of persons. Title is for people.
	Name, Title string
	// Issuer is the issuer's address, exactly as the provider spells it.
	Issuer string
	// ClientID and ClientSecret are usher's at the provider. Without a secret usher is a public client.
	ClientID, ClientSecret string
	// Scopes are openid, profile and email if there are none. openid is always asked for.
	Scopes []string
	// IDClaim, NameClaim and DisplayClaim are the paths of a person's id, name and name for people: sub, preferred_username and name
	// if empty.
	IDClaim, NameClaim, DisplayClaim string
	// Rules say what people may do. A person who gets no room by them is refused.
	Rules []Rule
	// Leeway is how far the clocks of usher and the provider may differ.
	Leeway time.Duration
}

// Options say which providers there are.
type Options struct {
	Providers []Provider
	// PublicURL is the portal's address, without a slash at its end. A provider sends the browser to PublicURL/login/callback/NAME.
	PublicURL string
	// Client asks the providers: its Transport counts, and its Timeout (5 s if it has none). Nil means one with the system's
	// certificates and the proxy of the environment.
	Client *http.Client
	// Now is time.Now if nil.
	Now func() time.Time
	// Log tells when a provider cannot be asked, and when it can be again. Nil for none.
	Log *zap.Logger
}

// Providers are the configured providers. Any goroutine may use them.
type Providers struct {
	list   []*provider
	byName map[string]*provider
}

// New returns the providers. It asks nobody: each provider is discovered when it is needed first, and again after a failure.
func New(o Options) *Providers {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	all := &Providers{byName: make(map[string]*provider)}
	for _, config := range o.Providers {
		p := newProvider(config, o)
		all.list = append(all.list, p)
		all.byName[config.Name] = p
	}
	return all
}

// Choice is a provider as a login page offers it.
type Choice struct{ Name, Title string }

// List returns the providers in the order of the configuration.
func (p *Providers) List() []Choice {
	var all []Choice
	for _, one := range p.list {
		all = append(all, Choice{Name: one.Name, Title: cmp.Or(one.Title, one.Name)})
	}
	return all
}

// Version returns a text that changes with what the configuration says of a provider and of what its people may do; "" if there is no such
// provider. Somebody who logged in with another version may have lost a room since.
func (p *Providers) Version(provider string) string {
	one, err := p.named(provider)
	if err != nil {
		return ""
	}
	of := one.Provider
	of.Title, of.ClientSecret, of.Leeway = "", "", 0
	text, err := json.Marshal(of)
	if err != nil {
		panic(err) // texts and lists of them
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Check asks a provider, for an operator who wants to know whether people can log in there. lacks says in words what usher would use, and the
// provider does not name. The error is ErrNoProvider or ErrUnavailable.
func (p *Providers) Check(ctx context.Context, provider string) (lacks []string, err error) {
	one, err := p.named(provider)
	if err != nil {
		return nil, err
	}
	return one.check(ctx)
}

// Flow is a login under way. The caller keeps it from Begin to Finish, where only the browser that began the login can use it.
type Flow struct{ Provider, State, Nonce, Verifier string }

// Login is a person who has logged in.
type Login struct {
	Person account.Person
	// IDToken is for LogoutURL, and secret.
	IDToken string
	// Subject and SID are the person and the session at the provider, as a logout token names them. SID is empty if the provider does
	// not name its sessions.
	Subject, SID string
	// Issued is when the provider issued the ID token, by its clock. Expires is when that expires; it does not say how long the session at
	// the provider lasts.
	Issued, Expires time.Time
}

// Out is a logout at the provider. All sessions with this SID end or, if it is empty, all of this Subject; if both are there, only those
// with both.
type Out struct {
	Provider, Subject, SID string
	// JTI is the id of the logout token. The caller remembers it until Expires, and does nothing when it comes again.
	JTI string
	// Issued is when the provider issued the logout token, by its clock. Expires is when it is refused for its age anyway.
	Issued, Expires time.Time
}

// Begin returns the address at the provider to which the browser goes, and what Finish needs.
// The error is ErrNoProvider or ErrUnavailable.
func (p *Providers) Begin(ctx context.Context, provider string) (address string, f Flow, err error) {
	one, err := p.named(provider)
	if err != nil {
		return "", Flow{}, err
	}
	return one.begin(ctx)
}

// Again returns an address of Begin at which the provider asks for the login even of those who are logged in there (OpenID Connect Core
// §3.1.2.1, prompt).
func Again(address string) string { return address + "&prompt=login" }

// Finish ends a login with what the provider has put into the query of the redirect URI. The error is ErrNoProvider, ErrRefused,
// ErrUnavailable or ErrNoRoom; with ErrNoRoom the Login is that of the person, for a logout at the provider.
func (p *Providers) Finish(ctx context.Context, f Flow, query url.Values) (Login, error) {
	one, err := p.named(f.Provider)
	if err != nil {
		return Login{}, err
	}
	return one.finish(ctx, f, query)
}

// LogoutURL returns the address at which the provider ends its session and sends the browser back (RP-Initiated Logout 1.0 §2). It is
// false if the provider cannot do that, or cannot be asked now. back must be registered with the provider.
func (p *Providers) LogoutURL(ctx context.Context, provider, idToken, back string) (string, bool) {
	one, err := p.named(provider)
	if err != nil {
		return "", false
	}
	return one.logoutURL(ctx, idToken, back)
}

// BackChannel verifies a logout token that a provider has sent (Back-Channel Logout 1.0 §2.6), all but whether its JTI came before.
// The error is ErrNoProvider, ErrRefused or ErrUnavailable.
func (p *Providers) BackChannel(ctx context.Context, provider, logoutToken string) (Out, error) {
	one, err := p.named(provider)
	if err != nil {
		return Out{}, err
	}
	return one.backChannel(ctx, logoutToken)
}

func (p *Providers) named(name string) (*provider, error) {
	if one := p.byName[name]; one != nil {
		return one, nil
	}
	return nil, ErrNoProvider
}
