package keys

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// fetchTimeout caps one fetch, from the look-up of the name to the last byte. It leaves a conference request (10 s) time for the
// rest. Tests change it.
var fetchTimeout = 5 * time.Second

const (
	maxRedirects = 3
	// The lifetime that a server gives its answer counts within these bounds; unsaidLifetime counts if it gives none.
	minLifetime    = pause
	unsaidLifetime = time.Hour
	maxLifetime    = 24 * time.Hour
)

// transport keeps no connection open: usher fetches keys so rarely that the server would cut it first.
var transport = &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
	TLSHandshakeTimeout:    fetchTimeout,
	DisableKeepAlives:      true,
	MaxResponseHeaderBytes: 64 << 10,
}

// parseAddress parses the address of a server that publishes keys.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return nil, errors.New("not an address: want something like https://login.example.com/keys")
	}
	if err := checkAddress(u); err != nil {
		return nil, err
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// checkAddress refuses an address if somebody on the way to it could put in keys of their own, and if it has a password, which
// would end up in logs.
func checkAddress(u *url.URL) error {
	switch {
	case u.User != nil:
		return errors.New("an address with a user name or password: keys are public, take it out")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("want https:// (http:// only to this machine: 127.0.0.1, [::1] or localhost), " +
		"because anybody who changes keys on the way can sign tokens")
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// redirectError says why a redirect was not followed. It quotes no more of the server's text than it says itself.
type redirectError struct{ why string }

func (e redirectError) Error() string { return e.why }

// checkRedirect is the CheckRedirect of an http.Client. A remote server must not send usher to this machine's own unencrypted
// ports, so http never follows https.
func checkRedirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return redirectError{fmt.Sprintf("redirected more than %d times", maxRedirects)}
	}
	to := fmt.Sprintf("redirected to %.100q: ", next.URL.Scheme+"://"+next.URL.Host)
	if err := checkAddress(next.URL); err != nil {
		return redirectError{to + err.Error()}
	}
	if next.URL.Scheme == "http" && before[len(before)-1].URL.Scheme == "https" {
		return redirectError{to + "from https to http"}
	}
	next.Header.Del("Referer") // it has the query of the address, which may be a secret
	return nil
}

// errAbsent says that the server has nothing at the address.
var errAbsent = errors.New("HTTP status 404: is this the right address?")

// fetch asks the address once, and returns the answer and for how long it may be kept. Errors quote nothing of the answer.
func fetch(ctx context.Context, client *http.Client, address *url.URL) (body []byte, lifetime time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, 0, errors.New("not an address that can be asked")
	}
	request.Header.Set("User-Agent", "usher")
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, describe(ctx, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, 0, errAbsent
	default:
		return nil, 0, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	if body, err = readAll(response.Body); err != nil {
		return nil, 0, describe(ctx, err)
	}
	return body, lifetimeOf(response.Header, time.Now()), nil
}

// describe returns the part of an error of net/http that may be told: some quote what the server sent, or the whole address.
func describe(ctx context.Context, err error) error {
	var (
		redirect    redirectError
		network     *net.OpError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no whole answer within %s: %w", fetchTimeout, ctx.Err())
	case errors.Is(err, errSize):
		return errSize
	case errors.As(err, &redirect):
		return redirect
	case errors.As(err, &network):
		return network
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("usher asked for https, and the server answered in http")
	}
	return errors.New("the answer is cut off or not HTTP")
}

// lifetimeOf returns how long an answer is fresh (RFC 9111 §4.2.1), within our bounds.
func lifetimeOf(header http.Header, now time.Time) time.Duration {
	lifetime, said := maxAge(strings.Join(header.Values("Cache-Control"), ", "))
	if expires := header.Get("Expires"); !said && expires != "" {
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			now = date
		}
		// A value that is no date means the past; servers often send "0" (RFC 9111 §5.3).
		if end, err := http.ParseTime(expires); err == nil {
			lifetime = end.Sub(now)
		}
		said = true
	}
	if !said {
		lifetime = unsaidLifetime
	}
	// An answer from a cache on the way has aged there (RFC 9111 §4.2.3).
	if age, err := strconv.ParseUint(header.Get("Age"), 10, 32); err == nil {
		lifetime -= time.Duration(age) * time.Second
	}
	return min(max(lifetime, minLifetime), maxLifetime)
}

// directive is one directive of a Cache-Control field, and the comma behind it: a token, with a token or a quoted string as its
// value (RFC 9111 §5.2, RFC 9110 §5.6).
var directive = func() *regexp.Regexp {
	const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	return regexp.MustCompile(`^(` + token + `)(?:=(?:(` + token + `)|"((?:[^"\\]|\\.)*)"))?[ \t]*(?:,|$)`)
}()

// maxAge returns how long a Cache-Control field lets a private cache keep an answer, and whether it says so; s-maxage is for
// shared caches. Of two max-age the first counts. A field that cannot be read says not to keep the answer (RFC 9111 §4.2.1),
// and so does one with a number that is too large: nobody means that.
func maxAge(control string) (lifetime time.Duration, said bool) {
	for rest := strings.TrimLeft(control, " \t,"); rest != ""; rest = strings.TrimLeft(rest, " \t,") {
		d := directive.FindStringSubmatch(rest)
		if d == nil {
			return 0, true
		}
		rest = rest[len(d[0]):]
		switch strings.ToLower(d[1]) {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			// §5.2: a recipient ought to accept both forms of a value.
			seconds, err := strconv.ParseUint(d[2]+d[3], 10, 64)
			if err != nil {
				return 0, true
			}
			if !said {
				lifetime, said = time.Duration(min(seconds, uint64(maxLifetime/time.Second)))*time.Second, true
			}
		}
	}
	return lifetime, said
}
