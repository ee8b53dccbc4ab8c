package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// current is a call that is under way. One goroutine has it.
type current struct {
	Call
	asked, heard bool // whether the limits were asked about it, and what they said
	told         bool
}

type callName struct{}

// callOf returns the call of a context, for what is to be known of it.
func callOf(ctx context.Context) *current { return ctx.Value(callName{}).(*current) }

// heard reports whether a call without a key that counts is heard; see Rate.
func (s *server) heard(c *current) bool {
	if !c.asked {
		c.asked, c.heard = true, s.local || s.limits.stranger(c.Remote)
	}
	return c.heard
}

// outermost is around all: it bounds what a client can cause, and tells of the call.
func (s *server) outermost(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &current{Call: Call{At: s.Now(), Method: serve.Method(r), Remote: s.remote(r)}}
		out := &serve.Recorder{ResponseWriter: w}
		if s.local { // on the network it would help those who look for old versions
			out.Header().Set(versionHeader, s.Status.Version)
		}
		out.Header().Set("Cache-Control", "no-store")
		out.Header().Set("X-Content-Type-Options", "nosniff")
		r = r.WithContext(context.WithValue(r.Context(), callName{}, c))
		r.Body = http.MaxBytesReader(out, r.Body, maxRequest)
		defer func() {
			fault := recover()
			if fault != nil && fault != http.ErrAbortHandler {
				s.Log.Error("a call of the API has failed: this is a bug", zap.String("fault", printable.Text(fmt.Sprint(fault))), zap.Stack("stack"))
				if out.Status == 0 {
					writeProblem(out, http.StatusInternalServerError, "this is a bug of usher; its log has more")
				} else {
					fault = http.ErrAbortHandler // an answer that is cut is not taken for a whole one
				}
			}
			s.ended(c, r, out)
			if fault == http.ErrAbortHandler {
				panic(fault)
			}
		}()
		mux.ServeHTTP(out, r)
	})
}

// ended tells of a call that is over, unless that was done before.
func (s *server) ended(c *current, r *http.Request, out *serve.Recorder) {
	if _, path, ok := strings.Cut(r.Pattern, " "); ok { // "GET /api/v1/usher"; that of all other paths has no method
		c.Path = path
	}
	if c.Status = out.Status; c.Status == 0 {
		c.Status = http.StatusOK
	}
	c.Took = s.Now().Sub(c.At)
	if s.local {
		c.Key = localKey.Name
	}
	// Ushers that stand by ask on the socket twice a second whether this one is active. That is nobody's deed.
	probe := s.local && c.Path == Base+"/usher" && c.Status == http.StatusOK
	if !c.told && !probe && (c.Key != "" || s.heard(c)) {
		s.Called(c.Call)
	}
}

// begun tells of a call that is going on, because it has no end of its own.
func (s *server) begun(ctx context.Context, path string) {
	c := callOf(ctx)
	c.told, c.Path, c.Status = true, path, http.StatusOK
	s.Called(c.Call)
}

// remote returns the address of the caller; empty on a socket. What a header says of it is believed of proxies only.
func (s *server) remote(r *http.Request) string {
	if a := serve.Remote(r, s.Proxies); a.IsValid() && !s.local {
		return a.String()
	}
	return ""
}
