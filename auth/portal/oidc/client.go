package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	// timeout caps one request to a provider, from the look-up of the name to the last byte.
	timeout = 5 * time.Second
	// maxAnswer caps an answer of a provider, in bytes.
	maxAnswer = 1 << 20
	// maxRedirects caps the redirects of one request. All of them stay on the same origin.
	maxRedirects = 3
)

// transport is used if the operator's options have none. usher asks providers so rarely that they would cut the connection first.
var transport = &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
	TLSHandshakeTimeout:    timeout,
	DisableKeepAlives:      true,
	MaxResponseHeaderBytes: 64 << 10,
}

// client returns the client that may ask these addresses' origins only.
func client(base *http.Client, addresses ...*url.URL) *http.Client {
	g := guard{base: transport}
	within := timeout
	if base != nil {
		if base.Transport != nil {
			g.base = base.Transport
		}
		if base.Timeout > 0 {
			within = base.Timeout
		}
	}
	for _, a := range addresses {
		g.origins = append(g.origins, origin(a))
	}
	return &http.Client{Transport: g, Timeout: within, CheckRedirect: sameOrigin}
}

// guard is a transport that asks certain origins only, and reads no more than maxAnswer.
type guard struct {
	base    http.RoundTripper
	origins []string
}

// guardError says why a request was not made or its answer not read. It quotes nothing of an answer but an origin.
type guardError struct{ why string }

func (e guardError) Error() string { return e.why }

var errLong = guardError{fmt.Sprintf("an answer of more than %d bytes", maxAnswer)}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if !slices.Contains(g.origins, origin(r.URL)) {
		return nil, guardError{fmt.Sprintf("%.100q is not an address of the provider", origin(r.URL))}
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "usher")
	r.Header.Del("Referer") // net/http puts the query of a redirected address there
	response, err := g.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &limited{ReadCloser: response.Body, left: maxAnswer}
	return response, nil
}

// limited is a body that fails when it is longer than maxAnswer.
type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, errLong
	}
	return n, err
}

// sameOrigin is the CheckRedirect of an http.Client: a redirect may carry a code or an access token elsewhere.
func sameOrigin(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return guardError{fmt.Sprintf("redirected more than %d times", maxRedirects)}
	}
	if was := origin(before[0].URL); origin(next.URL) != was {
		return guardError{fmt.Sprintf("redirected to %.100q: usher follows redirects within %q only", origin(next.URL), was)}
	}
	return nil
}

// origin returns scheme, host and port (RFC 6454 §4).
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// address parses the address of an issuer, or one that its discovery document names.
func address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("not an address: want something like https://login.example.com")
	case u.User != nil:
		return nil, errors.New("an address with a user name or password")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return u, nil
	}
	return nil, errors.New("want https:// (http:// only to this machine: 127.0.0.1, [::1] or localhost), " +
		"because anybody on the way could log in as somebody else")
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// statusError is an answer with another status than 200.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("HTTP status %d", int(s)) }

// get returns the answer of an address and its type. token, if not empty, is the access token.
func get(ctx context.Context, client *http.Client, address, token string) (body []byte, contentType string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", errors.New("not an address that can be asked")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, "", describe(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", statusError(response.StatusCode)
	}
	if body, err = io.ReadAll(response.Body); err != nil {
		return nil, "", describe(err)
	}
	return body, response.Header.Get("Content-Type"), nil
}

// tokenErrors are the error codes of a token endpoint (RFC 6749 §5.2) that a log may quote.
var tokenErrors = []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}

// describe returns the part of an error of net/http or oauth2 that a log may have: some quote the answer, and an answer may quote what
// it was asked.
func describe(err error) error {
	var (
		guarded     guardError
		answer      *oauth2.RetrieveError
		network     *net.OpError
		certificate *tls.CertificateVerificationError
		timed       interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &guarded):
		return guarded
	case errors.As(err, &answer) && slices.Contains(tokenErrors, answer.ErrorCode):
		return fmt.Errorf("%w with the error %s", statusError(answer.Response.StatusCode), answer.ErrorCode)
	case errors.As(err, &answer):
		return statusError(answer.Response.StatusCode)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &timed) && timed.Timeout():
		return errors.New("no whole answer in time")
	case errors.As(err, &network):
		return network
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("usher asked for https, and the server answered in http")
	}
	return errors.New("the answer is cut off, not HTTP, or not what OpenID Connect says")
}
