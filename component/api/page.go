package api

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/store"
)

// linkPath is where links are redeemed.
const linkPath = "/l/{code}"

// linkPage adds the page of links. A GET changes nothing and asks nobody, because programs that show previews fetch what they see.
func (s *server) linkPage(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	if at, err := url.Parse(s.PublicURL); err == nil && at.Host != "" {
		_ = guard.AddTrustedOrigin(at.Scheme + "://" + at.Host) // behind a proxy the Host of a request may be another one
	}
	mux.HandleFunc("GET "+linkPath, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.Links == nil || s.MeetURL == "":
			s.showPage(w, http.StatusNotFound, pageNone)
		case !store.IsCode(r.PathValue("code")):
			s.showPage(w, http.StatusNotFound, pageGone)
		default:
			s.showPage(w, http.StatusOK, pageEnter)
		}
	})
	mux.HandleFunc("POST "+linkPath, func(w http.ResponseWriter, r *http.Request) {
		// Another page must not make somebody enter with a link that its author chose.
		if guard.Check(r) != nil {
			s.showPage(w, http.StatusForbidden, pageElsewhere)
			return
		}
		s.redeemed(w, r)
	})
}

// redeemed redeems the link of a request, and sends the browser on.
func (s *server) redeemed(w http.ResponseWriter, r *http.Request) {
	if s.Links == nil || s.MeetURL == "" {
		s.showPage(w, http.StatusNotFound, pageNone)
		return
	}
	minted, err := s.redeem(r.Context(), r.PathValue("code"))
	var asked RequestError
	switch {
	case err == nil && minted.URL != "":
		pageHeaders(w, s.MeetURL)
		w.Header().Set("Location", minted.URL)
		w.WriteHeader(http.StatusSeeOther)
	case errors.Is(err, store.ErrNoLink) && !s.heard(callOf(r.Context())):
		w.Header().Set("Retry-After", "60")
		s.showPage(w, http.StatusTooManyRequests, pageTooMany)
	case errors.Is(err, store.ErrNoLink):
		s.showPage(w, http.StatusGone, pageGone)
	case errors.Is(err, errLinkOver), errors.As(err, &asked):
		s.Log.Warn("a link could not be redeemed: what it stands for is no longer allowed", zap.String("key", callOf(r.Context()).Key), zap.Error(err))
		s.showPage(w, http.StatusGone, pageGone)
	default:
		if err != nil && !errors.Is(err, errStandsBy) {
			s.Log.Warn("a link could not be redeemed", zap.Error(err))
		}
		w.Header().Set("Retry-After", "5")
		s.showPage(w, http.StatusServiceUnavailable, pageLater)
	}
}

// page is what a person reads.
type page struct {
	Title, Text, Button string
}

var (
	pageEnter     = page{"You are invited", "This link lets one person enter. Press the button when you are ready: it works once.", "Enter the room"}
	pageGone      = page{"This link no longer works", "It was used already, has ended, or is incomplete. Ask the person who invited you for a new one.", ""}
	pageNone      = page{"There are no links here", "Ask the person who invited you for another way to enter.", ""}
	pageLater     = page{"Please try again", "The server cannot let you in at the moment. Wait a little, then press the button again.", "Try again"}
	pageTooMany   = page{"Please wait", "There were too many attempts. Wait a minute, and open your link again.", ""}
	pageElsewhere = page{"Please open your link again", "This page was opened from another site. Open the link that you were sent, and press the button there.", ""}
)

// pageStyle follows the light or dark colours of the reader. Contrast is above 7:1 in both.
const pageStyle = `:root{color-scheme:light dark}` +
	`body{margin:0;font:1.125rem/1.6 system-ui,sans-serif;background:#fff;color:#1b1b1f}` +
	`main{max-width:32rem;margin:12vh auto 0;padding:0 1.25rem}` +
	`h1{font-size:1.75rem;line-height:1.25}` +
	`button{font:inherit;font-weight:600;padding:.75rem 1.5rem;border:2px solid transparent;border-radius:.5rem;background:#0b4a8f;color:#fff;cursor:pointer}` +
	`button:hover{background:#083a70}` +
	`button:focus-visible{outline:3px solid #0b4a8f;outline-offset:3px}` +
	`@media(prefers-color-scheme:dark){body{background:#16161a;color:#ececf1}button{background:#a8cbf5;color:#0c1a2b}button:hover{background:#c6ddf9}button:focus-visible{outline-color:#a8cbf5}}`

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{- if .Button}}
<form method="post"><button type="submit">{{.Button}}</button></form>
{{- end}}
</main>
</body>
</html>
`))

// showPage shows a page. It has no script, and nothing from elsewhere.
func (s *server) showPage(w http.ResponseWriter, status int, p page) {
	pageHeaders(w, s.MeetURL)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, p) // fails if the browser has gone
}

func pageHeaders(w http.ResponseWriter, meetURL string) {
	sum := sha256.Sum256([]byte(pageStyle))
	forms := "'self'"
	if at, err := url.Parse(meetURL); err == nil && at.Host != "" {
		forms += " " + at.Scheme + "://" + at.Host // Chromium also asks form-action about where a form is sent on to
	}
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; form-action "+forms+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	// The code is in the page's address. With no-referrer, browsers would say "Origin: null" when the button is pressed (Fetch, "append a
	// request Origin header"), so that the page could not be told from another one.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
