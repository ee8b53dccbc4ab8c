package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/page"
	"github.com/xmpp-usher/usher/pkg/serve"
)

const (
	// maxBody caps what is sent to the portal, in bytes. The longest is a form with a state, or a logout token.
	maxBody = 16 << 10
	// answeredWithin is how long the work for an answer may take: that of a login, of the store, of the room.
	answeredWithin = 20 * time.Second
	// laterSeconds is when a browser asks again that could not be answered.
	laterSeconds = "5"
)

// visit is one request and its answer. One goroutine has it.
type visit struct {
	*Portal
	w      *serve.Recorder
	r      *http.Request
	call   Call
	remote netip.Addr
	at     sessions
	deed   bool // whether the call does something, or tries to
}

type visitName struct{}

// visitOf returns the visit that a request is of.
func visitOf(r *http.Request) *visit {
	v := r.Context().Value(visitName{}).(*visit)
	v.r = r // with what the pattern has found
	return v
}

// ServeHTTP implements http.Handler.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{Portal: p, w: &serve.Recorder{ResponseWriter: w}, call: Call{At: p.Now(), Method: serve.Method(r)}, remote: serve.Remote(r, p.Proxies)}
	if v.remote.IsValid() {
		v.call.Remote = v.remote.String()
	}
	v.headers()
	r = r.WithContext(context.WithValue(r.Context(), visitName{}, v))
	r.Body = http.MaxBytesReader(v.w, r.Body, maxBody)
	if v.r = r; r.Method == http.MethodHead {
		r.Header.Del("Cookie") // a pattern for GET fits HEAD, too, and nobody is logged out, or gets a token, by that
	}
	defer v.ended()
	if v.admitted() {
		p.mux.ServeHTTP(v.w, r)
	}
}

// Header is a header that every answer of a portal has, so that it can be told from other servers' answers.
const Header = "X-Usher-Portal"

// headers sets what every answer has. A page sets its own policy.
func (v *visit) headers() {
	h := v.w.Header()
	h.Set(Header, "1")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
	// Addresses of the portal have states in them, which other sites must not see. With no-referrer browsers would say "Origin: null" when
	// a form is sent (Fetch, "append a request Origin header"), so that it could not be told from another site's.
	h.Set("Referrer-Policy", "same-origin")
}

// admitted reports whether the request is for this portal, and whether it can be answered now.
func (v *visit) admitted() bool {
	switch at := v.r.URL.Path; {
	case at == "/style.css", at == "/portal.js", at == "/.well-known/jwks.json":
		return true // the same for everybody, whatever the portal is called
	case !v.sameHost():
		v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		v.w.WriteHeader(http.StatusMisdirectedRequest)
		fmt.Fprintf(v.w, "This is %s: the request was for another host. Behind a proxy, pass the header Host on.\n", v.PublicURL)
		return false
	case v.guard.Check(v.r) != nil:
		v.notice(http.StatusForbidden, page.Elsewhere, "/")
		return false
	}
	if at := v.r.URL.EscapedPath(); at != path.Clean(at) && (at == "//" || at != path.Clean(at)+"/") {
		v.notice(http.StatusNotFound, page.BadLink, "/") // http.ServeMux would lead to an address that a stranger has written
		return false
	}
	var ok bool
	if v.at, ok = v.sessions(); !ok {
		v.later(nil, "")
	}
	return ok
}

// sameHost reports whether the Host of the request is the portal's own. A default port may be left out or there.
func (v *visit) sameHost() bool {
	ports := []string{":443", ":80"}
	own, asked := v.host, strings.ToLower(v.r.Host)
	if own == asked {
		return true
	}
	port := ports[0]
	if strings.HasPrefix(v.PublicURL, "http:") {
		port = ports[1]
	}
	return strings.TrimSuffix(own, port) == strings.TrimSuffix(asked, port)
}

// within returns the context in which a request is answered.
func (v *visit) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(v.r.Context(), answeredWithin)
}

// notice answers with a page that has a text, and a link if there is one.
func (v *visit) notice(status int, text page.Text, again string) {
	v.pages.Notice(v.w, v.r, status, page.Notice{Text: text, Again: again})
}

// log logs that a request has failed, unless the network of the client has caused many such lines.
func (v *visit) log(level zapcore.Level, what string, err error) {
	if v.limits.line(v.remote) {
		v.Log.Log(level, what, zap.Error(err), zap.String("remote", v.call.Remote))
	}
}

// later answers that this cannot be done now. What failed is logged.
func (v *visit) later(err error, what string) {
	if err != nil && v.r.Context().Err() == nil {
		v.log(zap.WarnLevel, "the portal could not answer: "+what, err)
	}
	v.w.Header().Set("Retry-After", laterSeconds)
	v.notice(http.StatusServiceUnavailable, page.Later, "")
}

// to sends the browser on, with a GET.
func (v *visit) to(address string) {
	v.w.Header().Set("Location", address)
	v.w.WriteHeader(http.StatusSeeOther)
}

// who notes who calls.
func (v *visit) who(p account.Person) { v.call.Who = p.ID }

// ended tells of a call that is over.
func (v *visit) ended() {
	fault := recover()
	if fault != nil && fault != http.ErrAbortHandler {
		v.Log.Error("a call of the portal has failed: this is a bug", zap.String("fault", fmt.Sprintf("%.200q", fmt.Sprint(fault))), zap.Stack("stack"))
		if v.w.Status == 0 {
			http.Error(v.w, "This is a bug of usher; its log has more.", http.StatusInternalServerError)
		} else {
			fault = http.ErrAbortHandler // an answer that is cut is not taken for a whole one
		}
	}
	v.tell()
	if fault == http.ErrAbortHandler {
		panic(fault)
	}
}

// tell tells of the call. Pages that are only read, some of them every few seconds, are nobody's deed.
func (v *visit) tell() {
	if !v.deed && v.w.Status < http.StatusBadRequest {
		return
	}
	if _, path, ok := strings.Cut(v.r.Pattern, " "); ok {
		v.call.Path = path
	}
	if v.call.Status = v.w.Status; v.call.Status == 0 {
		v.call.Status = http.StatusOK
	}
	v.call.Took = v.Now().Sub(v.call.At)
	v.Called(v.call)
}
