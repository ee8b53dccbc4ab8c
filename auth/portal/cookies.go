package portal

import (
	"net/http"
	"net/url"
	"time"
)

// cookies are the portal's cookies. With https their names begin with __Host-, so that no other host and no page without TLS can set
// them (RFC 6265bis §4.1.3.2). Browsers take such cookies, and Secure, over https alone; so the portal of a demo, over http on this
// machine, has neither.
type cookies struct {
	session, flow, device string
	secure                bool
}

func cookiesFor(public *url.URL) cookies {
	prefix, secure := "", public.Scheme == "https"
	if secure {
		prefix = "__Host-"
	}
	return cookies{session: prefix + "usher", flow: prefix + "usher-flow", device: prefix + "usher-device", secure: secure}
}

// How long the cookies last of a login that is under way at a provider, and of a device on which somebody has logged in.
const (
	flowLasts   = 10 * time.Minute
	deviceLasts = 365 * 24 * time.Hour
)

// set sets a cookie; with an empty value, the browser forgets it.
func (c cookies) set(w http.ResponseWriter, name, value string, lasts time.Duration) {
	cookie := &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(lasts / time.Second), Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// get returns the value of a cookie; empty if there is none, or two: then somebody else has set one of them.
func get(r *http.Request, name string) string {
	if all := r.CookiesNamed(name); len(all) == 1 {
		return all[0].Value
	}
	return ""
}
