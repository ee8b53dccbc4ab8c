package oidc

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
	"golang.org/x/oauth2"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

const (
	// kept is how long a discovery document counts before usher asks again. The old one counts on while that fails.
	kept = time.Hour
	// pause is the least time between two discoveries of one provider after one that failed.
	pause = 5 * time.Second
	// maxStaleKeys is for how long keys count that cannot be fetched again.
	maxStaleKeys = time.Hour
)

// signatures are the algorithms of ID tokens that go-oidc verifies. HS256 and none are not among them: with the first one a leaked
// client secret makes tokens, with the other one everybody does.
var signatures = []string{
	gooidc.RS256, gooidc.RS384, gooidc.RS512, gooidc.ES256, gooidc.ES384, gooidc.ES512, gooidc.PS256, gooidc.PS384, gooidc.PS512, gooidc.EdDSA,
}

// provider is one provider, and what is known of it.
type provider struct {
	Provider
	base     *http.Client
	callback string
	paths    paths
	now      func() time.Time
	log      *zap.Logger
	waiting  atomic.Int64 // tokens that wait for a key

	turn   chan struct{} // held by the goroutine that reads or changes what follows
	found  *discovered   // nil until the first discovery
	at     time.Time     // of found
	failed error         // of the last discovery, nil if it did not fail
	tried  time.Time     // when that ended
}

func newProvider(config Provider, o Options) *provider {
	config.IDClaim = cmp.Or(config.IDClaim, "sub")
	config.NameClaim = cmp.Or(config.NameClaim, "preferred_username")
	config.DisplayClaim = cmp.Or(config.DisplayClaim, "name")
	if len(config.Scopes) == 0 {
		config.Scopes = []string{gooidc.ScopeOpenID, gooidc.ScopeProfile, gooidc.ScopeEmail}
	} else if !slices.Contains(config.Scopes, gooidc.ScopeOpenID) {
		config.Scopes = append([]string{gooidc.ScopeOpenID}, config.Scopes...)
	}
	return &provider{
		Provider: config, base: o.Client, callback: o.PublicURL + "/login/callback/" + url.PathEscape(config.Name),
		paths: pathsOf(config), now: o.Now, log: o.Log.With(zap.String("provider", config.Name)), turn: make(chan struct{}, 1),
	}
}

// fail returns an error that names the provider, says which of the package's errors it is, and why.
func (p *provider) fail(kind, why error) error {
	return fmt.Errorf("provider %q: %w: %w", p.Name, kind, why)
}

// discovered is what a discovery document says (OpenID Connect Discovery 1.0 §3), and what follows from it.
type discovered struct {
	userinfo, endSession string
	lacks                []string // for an operator, see Providers.Check
	algorithms           []string
	namesItself          bool // in authorization responses (RFC 9207 §3)
	client               *http.Client
	jwks                 string // the address of keys
	keys                 keys.Remote
	oauth                oauth2.Config
}

// discover returns what the provider says of itself, and asks it if that is not known or old. It asks once at a time, and goes on if ctx
// ends, so that browsers that hang up do not keep the answer from the others.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, p.fail(ErrUnavailable, ctx.Err())
	}
	now := p.now()
	switch {
	case p.found != nil && within(now, p.at, kept):
		return p.found, nil
	case p.failed == nil || !within(now, p.tried, pause):
		p.ask(context.WithoutCancel(ctx), now)
	}
	if p.found == nil {
		return nil, p.fail(ErrUnavailable, p.failed)
	}
	return p.found, nil
}

// within reports whether now is at most d after a time. It is false if the clock was put back.
func within(now, then time.Time, d time.Duration) bool { return !now.Before(then) && now.Sub(then) < d }

// ask asks the provider. The caller has its turn.
func (p *provider) ask(ctx context.Context, now time.Time) {
	found, err := p.fetch(ctx)
	switch {
	case err != nil && p.failed == nil:
		p.log.Warn("could not discover an OpenID Connect provider: nobody can log in there until this works; usher tries again", zap.Error(err))
	case err == nil && p.failed != nil:
		p.log.Info("discovered the OpenID Connect provider after a failure")
	}
	p.failed, p.tried = err, p.now() // it may have taken as long as the pause
	if err == nil {
		p.found, p.at = found, now
	}
}

func (p *provider) fetch(ctx context.Context) (*discovered, error) {
	issuer, err := address(p.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	// §4: the path is put behind that of the issuer.
	body, _, err := get(ctx, client(p.base, issuer), strings.TrimSuffix(p.Issuer, "/")+"/.well-known/openid-configuration", "")
	if err != nil {
		return nil, fmt.Errorf("discovery document of %s: %w", p.Issuer, err)
	}
	document, err := strictjson.Parse(string(body))
	if err != nil {
		return nil, fmt.Errorf("discovery document of %s: %w: is this the right issuer?", p.Issuer, err)
	}
	found, err := p.read(document, issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery document of %s: %w", p.Issuer, err)
	}
	return found, nil
}

// read reads a discovery document.
func (p *provider) read(document strictjson.Object, issuer *url.URL) (*discovered, error) {
	// §4.3: both are the same to the letter, or somebody else's document is at this address.
	if named, _ := document.Text("issuer"); named != p.Issuer {
		return nil, fmt.Errorf("it is of the issuer %.200q: configure the issuer exactly so, if it is the right one", named)
	}
	addresses, origins := make(map[string]string), []*url.URL{issuer}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"} {
		text, _ := document.Text(name)
		if text == "" && (name == "userinfo_endpoint" || name == "end_session_endpoint") {
			continue
		}
		u, err := address(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if issuer.Scheme == "https" && u.Scheme != "https" {
			return nil, fmt.Errorf("%s: an address in http, of an issuer in https", name)
		}
		addresses[name], origins = text, append(origins, u)
	}
	d := &discovered{
		userinfo: addresses["userinfo_endpoint"], endSession: addresses["end_session_endpoint"], client: client(p.base, origins...),
		oauth: oauth2.Config{
			ClientID: p.ClientID, ClientSecret: p.ClientSecret, RedirectURL: p.callback, Scopes: p.Scopes,
			Endpoint: oauth2.Endpoint{
				AuthURL: addresses["authorization_endpoint"], TokenURL: addresses["token_endpoint"], AuthStyle: p.authStyle(document),
			},
		},
	}
	self, _ := document.Get("authorization_response_iss_parameter_supported")
	var err error
	d.namesItself = self == true
	if d.algorithms, err = algorithms(document); err != nil {
		return nil, err
	}
	d.lacks = lacks(document)
	return d, p.readKeys(d, addresses["jwks_uri"])
}

// lacks returns what usher would use, and the provider does not name.
func lacks(document strictjson.Object) (all []string) {
	const methods = "code_challenge_methods_supported"
	if _, says := document.Get(methods); says && !slices.Contains(texts(document, methods), "S256") {
		all = append(all, "it does not name PKCE with S256 ("+methods+"), so it may ignore what protects codes")
	}
	if end, _ := document.Text("end_session_endpoint"); end == "" {
		all = append(all, "it names no end_session_endpoint, so a logout at the portal does not end the login at the provider")
	}
	if out, _ := document.Get("backchannel_logout_supported"); out != true {
		all = append(all, "it does not name back-channel logout, so a logout at the provider does not end the login at the portal")
	}
	return all
}

// check asks the provider for its discovery document, unless it is known, and for its keys.
func (p *provider) check(ctx context.Context) (lacks []string, err error) {
	d, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	if _, _, err := d.keys.Check(ctx); err != nil {
		return nil, p.fail(ErrUnavailable, err)
	}
	return d.lacks, nil
}

// readKeys sets the source of the keys: the one that is there if its address has not changed, because it has the keys.
func (p *provider) readKeys(d *discovered, jwks string) (err error) {
	d.jwks = jwks
	if p.found != nil && p.found.jwks == jwks {
		d.keys = p.found.keys
		return nil
	}
	cache := keys.Cache{Transport: d.client.Transport}
	if d.keys, err = cache.JWKS(jwks, maxStaleKeys); err != nil {
		return fmt.Errorf("jwks_uri: %w", err)
	}
	return nil
}

// algorithms returns by what the provider signs ID tokens: RS256 if it does not say so, which all of them know (OpenID Connect Core 1.0
// §15.1).
func algorithms(document strictjson.Object) ([]string, error) {
	const name = "id_token_signing_alg_values_supported"
	if _, says := document.Get(name); !says {
		return []string{gooidc.RS256}, nil
	}
	all := slices.DeleteFunc(texts(document, name), func(alg string) bool { return !slices.Contains(signatures, alg) })
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no algorithm with a public key: let the provider sign by one of %s", name, strings.Join(signatures, ", "))
	}
	return all, nil
}

// authStyle returns how the token endpoint is told who asks. oauth2 would find out by trying, but a code can be used only once.
func (p *provider) authStyle(document strictjson.Object) oauth2.AuthStyle {
	const name = "token_endpoint_auth_methods_supported"
	_, says := document.Get(name)
	methods := texts(document, name)
	switch {
	case p.ClientSecret == "":
		return oauth2.AuthStyleInParams // a public client says its id in the body (RFC 6749 §4.1.3)
	case !says || slices.Contains(methods, "client_secret_basic") || !slices.Contains(methods, "client_secret_post"):
		return oauth2.AuthStyleInHeader // the default (Discovery 1.0 §3)
	}
	return oauth2.AuthStyleInParams
}

// texts returns the texts in the list of this name.
func texts(o strictjson.Object, name string) (all []string) {
	value, _ := o.Get(name)
	list, _ := value.([]any)
	for _, element := range list {
		if text, is := element.(string); is {
			all = append(all, text)
		}
	}
	return all
}
