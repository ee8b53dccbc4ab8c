// Package page is the live page: one HTML page that shows an operator what usher does, without a way to change anything.
//
// The page is in the binary and loads nothing from elsewhere. Its parts are page.html, page.css and page.js. Its content security policy
// names the one style and the one script by their hashes, and with Trusted Types the browser refuses to make HTML from text: names of
// rooms and people are written by strangers.
//
// The page asks for little at a time: GET page/events is a stream of server-sent events with the state, the counts and what has just
// happened (stream.go). It says when something about the rooms has changed. Then the page asks for the part of the list that it shows,
// and for the one room that is open (views.go). So a thousand rooms cost no more than fifty.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/component/history"
	"github.com/xmpp-usher/usher/component/ops"
)

// maxFollowers is how many pages may be open at the same time.
const maxFollowers = 32

// Options is what a page needs.
type Options struct {
	// Active and Ready are as in ops.Options.
	Active func() ops.Source
	Ready  func(context.Context) []ops.Check
	// History has what happened.
	History *history.History
	Version string
	// Now is the clock; nil for the machine's.
	Now func() time.Time
}

var (
	//go:embed page.html
	pageHTML []byte
	//go:embed page.css
	pageCSS []byte
	//go:embed page.js
	pageJS []byte
)

// page serves the page. Any number of goroutines use it.
type page struct {
	o         Options
	html      []byte
	policy    string // Content-Security-Policy
	followers chan struct{}
	rooms     roomsCache
	checks    checksCache
}

// New returns the handler of the page at "/" and of all that it asks for, below "/page/". It starts nothing. A stream ends with the
// context of its request: the server's BaseContext should end when the server is to stop.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &page{o: o, followers: make(chan struct{}, maxFollowers)}
	p.html, p.policy = assemble(pageHTML, pageCSS, pageJS)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.serveHTML)
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /page/events":      p.serveEvents,
		"GET /page/rooms":       p.serveRooms,
		"GET /page/room":        p.serveRoom,
		"GET /page/decisions":   p.serveDecisions,
		"GET /page/explanation": p.serveExplanation,
	} {
		mux.Handle(pattern, ownPageOnly(h))
	}
	return mux
}

// assemble puts style and script into the page, and returns the policy that allows these and nothing else.
func assemble(html, css, js []byte) (page []byte, policy string) {
	hash := func(text []byte) string {
		sum := sha256.Sum256(text)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	page = bytes.Replace(html, []byte("{style}"), css, 1)
	page = bytes.Replace(page, []byte("{script}"), js, 1)
	return page, strings.Join([]string{
		"default-src 'none'",
		"style-src " + hash(css),
		"script-src " + hash(js),
		"connect-src 'self'",
		"img-src data:", // the icon of the tab
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'", // no innerHTML
		"trusted-types 'none'",
	}, "; ")
}

// guard sets the headers of every answer.
func guard(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func (p *page) serveHTML(w http.ResponseWriter, _ *http.Request) {
	guard(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	_, _ = w.Write(p.html)
}

// ownPageOnly refuses what a page of another site asks for: it could not read the answers, but it could use up the streams.
func ownPageOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard(w.Header())
		// Fetch Metadata Request Headers, §2.3: browsers send it and scripts cannot change it; other clients have none.
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
			h(w, r)
		default:
			http.Error(w, "This is for usher's own page only.", http.StatusForbidden)
		}
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails if the client has gone
}
