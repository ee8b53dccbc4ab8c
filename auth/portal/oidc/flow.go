package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// maxSubject caps the id of a person at the provider, in bytes (OpenID Connect Core 1.0 §2).
const maxSubject = 255

func (p *provider) begin(ctx context.Context) (address string, f Flow, err error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", Flow{}, err
	}
	// A verifier is 32 random bytes, and state and nonce want the same.
	f = Flow{Provider: p.Name, State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	return d.oauth.AuthCodeURL(f.State, gooidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), f, nil
}

func (p *provider) finish(ctx context.Context, f Flow, query url.Values) (Login, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return Login{}, err
	}
	code, err := p.codeOf(d, f, query)
	if err != nil {
		return Login{}, err
	}
	tokens, err := d.oauth.Exchange(context.WithValue(ctx, oauth2.HTTPClient, d.client), code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Login{}, p.fail(kindOf(err), fmt.Errorf("code: %w", describe(err)))
	}
	login, person, err := p.identify(ctx, d, f, tokens)
	if err != nil {
		return Login{}, err
	}
	login.Person, err = p.person(person)
	return login, err
}

// kindOf returns what an error of the token endpoint means: an answer in the 400s is about this code or this client, but for 429.
func kindOf(err error) error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) && answer.Response.StatusCode/100 == 4 && answer.Response.StatusCode != http.StatusTooManyRequests {
		return ErrRefused
	}
	return ErrUnavailable
}

// codeOf returns the code of an authorization response (OpenID Connect Core 1.0 §3.1.2.5).
func (p *provider) codeOf(d *discovered, f Flow, query url.Values) (string, error) {
	refuse := func(why string) (string, error) { return "", p.fail(ErrRefused, errors.New(why)) }
	for _, name := range []string{"state", "code", "error", "iss"} {
		if len(query[name]) > 1 {
			return refuse("the answer has a parameter twice") // RFC 6749 §3.1
		}
	}
	if f.State == "" || f.Nonce == "" || f.Verifier == "" || !equal(query.Get("state"), f.State) {
		return refuse("the answer belongs to another login")
	}
	// RFC 9207 §2.4: so that no provider can pass on an answer of another one (mix-up).
	if query.Has("iss") && query.Get("iss") != p.Issuer || d.namesItself && !query.Has("iss") {
		return refuse("the answer is not by this provider")
	}
	if query.Has("error") {
		return "", p.answered(query.Get("error"))
	}
	if query.Get("code") == "" {
		return refuse("the answer has no code")
	}
	return query.Get("code"), nil
}

// answered returns the error that an error code in an authorization response means (RFC 6749 §4.1.2.1, OpenID Connect Core 1.0 §3.1.2.6).
func (p *provider) answered(code string) error {
	const temporarily = "temporarily_unavailable"
	known := []string{
		"access_denied", "invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope", "server_error", temporarily,
		"interaction_required", "login_required", "account_selection_required", "consent_required",
	}
	kind := ErrRefused
	if code == "server_error" || code == temporarily {
		kind = ErrUnavailable
	}
	if !slices.Contains(known, code) {
		code = "of a kind that usher does not know"
	}
	return p.fail(kind, errors.New("the provider answered with the error "+code))
}

// identify verifies the ID token (OpenID Connect Core 1.0 §3.1.3.7), and returns the claims of the person.
func (p *provider) identify(ctx context.Context, d *discovered, f Flow, tokens *oauth2.Token) (Login, person, error) {
	raw, _ := tokens.Extra("id_token").(string)
	token, err := p.verify(ctx, d, raw, p.ClientID)
	if err != nil {
		return Login{}, nil, err
	}
	at, err := checkTimes(token.claims, p.now(), p.Leeway, 0)
	if err == nil {
		err = p.checkID(token, f, tokens.AccessToken)
	}
	if err != nil {
		return Login{}, nil, p.fail(ErrRefused, err)
	}
	login := Login{IDToken: raw, Issued: at.issued, Expires: at.expires}
	login.Subject, _ = token.claims.Text("sub")
	login.SID, _ = token.claims.Text("sid")
	claims, err := p.more(ctx, d, person{token.claims}, tokens.AccessToken, login.Subject)
	return login, claims, err
}

// more asks others for claims that count and that the ID token lacks: first the userinfo endpoint, and then the access token.
func (p *provider) more(ctx context.Context, d *discovered, claims person, access, subject string) (person, error) {
	for _, source := range []func(context.Context, *discovered, string, string) (strictjson.Object, error){p.userinfo, p.accessToken} {
		if p.paths.complete(claims) {
			break
		}
		found, err := source(ctx, d, access, subject)
		if err != nil {
			return nil, err
		}
		claims = append(claims, found)
	}
	return claims, nil
}

// checkID checks what only ID tokens have.
func (p *provider) checkID(token signed, f Flow, access string) error {
	nonce, _ := token.claims.Text("nonce")
	subject, _ := token.claims.Text("sub")
	party, isText := token.claims.Text("azp")
	_, named := token.claims.Get("azp")
	switch {
	case strings.HasSuffix(strings.ToLower(token.typ), "+jwt"):
		return errors.New("the token is of another kind (typ)") // RFC 8725 §3.11
	case !equal(nonce, f.Nonce):
		return errors.New("the ID token belongs to another login (nonce)")
	case named && (!isText || party != p.ClientID):
		return errors.New("the ID token was issued to another client (azp)")
	case !named && len(audience(token.claims)) > 1:
		return errors.New("the ID token is for several clients, and does not say to which it was issued (azp)")
	case subject == "" || len(subject) > maxSubject:
		return errors.New("the ID token has no usable sub")
	case token.id.AccessTokenHash != "" && token.id.VerifyAccessToken(access) != nil:
		return errors.New("the ID token belongs to another access token (at_hash)")
	}
	return nil
}

// accessToken returns the claims of the access token, if it is a token that can be read and was issued to usher for this person; none
// otherwise. A Keycloak that nobody has changed writes roles nowhere else (its client scope "roles").
func (p *provider) accessToken(ctx context.Context, d *discovered, access, subject string) (strictjson.Object, error) {
	token, err := p.verify(ctx, d, access, "")
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err == nil {
		_, err = checkTimes(token.claims, p.now(), p.Leeway, 0)
	}
	party, _ := token.claims.Text("azp")
	client, _ := token.claims.Text("client_id") // RFC 9068 §2.2
	told, _ := token.claims.Text("sub")
	if err != nil || cmp.Or(party, client) != p.ClientID || told != subject {
		return nil, nil
	}
	return token.claims, nil
}

// userinfo asks for the claims of the person (OpenID Connect Core 1.0 §5.3). A provider without the endpoint has none.
func (p *provider) userinfo(ctx context.Context, d *discovered, access, subject string) (strictjson.Object, error) {
	if d.userinfo == "" {
		return nil, nil
	}
	body, contentType, err := get(ctx, d.client, d.userinfo, access)
	if err != nil {
		return nil, p.fail(ErrUnavailable, fmt.Errorf("userinfo: %w", err))
	}
	var claims strictjson.Object
	if kind, _, _ := mime.ParseMediaType(contentType); kind == "application/jwt" {
		token, err := p.verify(ctx, d, strings.TrimSpace(string(body)), p.ClientID)
		if err != nil {
			return nil, fmt.Errorf("userinfo: %w", err)
		}
		claims = token.claims
	} else if claims, err = strictjson.Parse(string(body)); err != nil {
		return nil, p.fail(ErrUnavailable, fmt.Errorf("userinfo: %w", err))
	}
	// §5.3.2: otherwise somebody could put the claims of another person in the place of these.
	if told, _ := claims.Text("sub"); !equal(told, subject) {
		return nil, p.fail(ErrRefused, errors.New("userinfo: it is about another person (sub)"))
	}
	return claims, nil
}
