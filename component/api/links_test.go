package api

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// makes makes a link with a key, and returns its path.
func (f *fixture) makes(t testing.TB, key, body string) string {
	t.Helper()
	var l Link
	w := f.call(key, "POST", Base+"/links", body)
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 201 {
		t.Fatal(w.Code, w.Body)
	}
	path, ok := strings.CutPrefix(l.URL, "https://usher.example.com")
	if !ok || !strings.HasPrefix(path, "/l/") || !store.IsCode(path[3:]) {
		t.Fatal(l.URL)
	}
	return path
}

// press presses the button of a page, as a browser does.
func (f *fixture) press(path string, headers ...string) *httptest.ResponseRecorder {
	if len(headers) == 0 {
		headers = []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://usher.example.com"}
	}
	return f.call("", "POST", path, "", append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
}

// A link is redeemed by a press of its button, once. What only looks at it changes nothing.
func TestLink(t *testing.T) {
	f := newAPI(t)
	path := f.makes(t, "acme", `{"room":"[Acme]My%20Room","name":"Juliet","affiliation":"member","ttl":600}`)
	mints := len(f.mints)
	for _, method := range []string{"GET", "HEAD", "GET"} {
		w := f.call("", method, path, "")
		if w.Code != 200 || method == "GET" && !strings.Contains(w.Body.String(), `<form method="post"><button type="submit">`) {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
	if len(f.mints) != mints {
		t.Error("a look has minted a token")
	}
	f.change(func() { f.now = noon.Add(23 * time.Hour) })
	w := f.press(path)
	to := w.Header().Get("Location")
	if w.Code != 303 || !strings.HasPrefix(to, "https://meet.example.com/acme/my%20room#jwt=%22eyJ") || !strings.HasSuffix(to, "%22") || w.Body.Len() > 0 {
		t.Errorf("%d %s %s", w.Code, to, w.Body)
	}
	if got := f.mints[len(f.mints)-1]; got.Name != "Juliet" || got.Affiliation != "member" || got.TTL != 600 || got.Room != "[acme]my room" {
		t.Errorf("%+v", got)
	}
	if c := f.last(); c.Key != "acme" || c.Room != "[acme]my room" || c.Who == "" || c.Path != linkPath || c.Status != 303 {
		t.Errorf("told of %+v", c)
	}
	if w := f.press(path); w.Code != 410 || w.Header().Get("Location") != "" || strings.Contains(w.Body.String(), "<button") {
		t.Errorf("again: %d %s", w.Code, w.Body)
	}
	for _, c := range f.calls {
		if strings.Contains(c.Path+c.Room+c.Who, path[3:]) {
			t.Errorf("told of the code: %+v", c)
		}
	}
	for r, err := range f.store.All(t.Context(), store.KindLink) {
		t.Errorf("the store keeps %q, %v", r.Key, err)
	}
}

// The page needs no script, loads nothing, is kept by nobody, and can be read by everybody.
func TestLinkPage(t *testing.T) {
	f := newAPI(t)
	path := f.makes(t, "all", `{"room":"standup"}`)
	for what, w := range map[string]*httptest.ResponseRecorder{
		"button": f.call("", "GET", path, ""), "gone": f.press("/l/" + strings.Repeat("A", store.CodeLength)), "no code": f.call("", "GET", "/l/x", ""),
		"another site": f.press(path, "Sec-Fetch-Site", "cross-site"),
	} {
		h, body := w.Header(), w.Body.String()
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self' https://meet.example.com;", "style-src 'sha256-"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy is %s", what, policy)
			}
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "same-origin" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Robots-Tag") == "" {
			t.Errorf("%s: %v", what, h)
		}
		for _, want := range []string{"<!doctype html>", `<html lang="en">`, "<main>", "<h1>", "<title>", `name="viewport"`} {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %s", what, want)
			}
		}
		for _, no := range []string{"<script", "http:", "https:", "src=", "href=", path[3:], "onclick"} {
			if strings.Contains(body, no) {
				t.Errorf("%s has %s", what, no)
			}
		}
	}
	if w := f.press(path); w.Code != 303 {
		t.Errorf("after a press from another site: %d", w.Code)
	}
}

// A page of another site cannot redeem a link in somebody's browser.
func TestLinkFromElsewhere(t *testing.T) {
	f := newAPI(t)
	path := f.makes(t, "all", `{"room":"standup"}`)
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example.com"}, {"Origin", "null"},
		{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example.com"},
	} {
		if w := f.press(path, headers...); w.Code != 403 || w.Header().Get("Location") != "" {
			t.Errorf("%q: %d %s", headers, w.Code, w.Header().Get("Location"))
		}
	}
	// An old browser, behind a proxy that does not pass the host on.
	if w := f.press(path, "Origin", "https://usher.example.com"); w.Code != 303 {
		t.Errorf("from its own page: %d", w.Code)
	}
}

// A link does no more than its key may do when it is redeemed.
func TestLinkOfKey(t *testing.T) {
	for what, change := range map[string]func(*fixture){
		"removed":      func(f *fixture) { f.keys = f.keys[:1] },
		"made anew":    func(f *fixture) { f.keys[1].Hash[0]++ },
		"expired":      func(f *fixture) { f.keys[1].Expires = noon },
		"no scope":     func(f *fixture) { f.keys[1].Scopes = []Scope{ScopeTokens} },
		"other rooms":  func(f *fixture) { f.keys[1].Rooms = []string{"board"} },
		"shorter time": func(f *fixture) { f.keys[1].MaxTTL = time.Minute },
		"not minted":   func(f *fixture) { f.mintErr = RequestError("no such issuer") },
		"over":         func(f *fixture) { f.now = noon.Add(24 * time.Hour) },
	} {
		f := newAPI(t)
		path := f.makes(t, "acme", `{"room":"standup"}`)
		f.change(func() { change(f) })
		if w := f.press(path); w.Code != 410 || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d %s", what, w.Code, w.Header())
		}
		if c := f.last(); what != "over" && (c.Key != "acme" || c.Room == "") {
			t.Errorf("%s: told of %+v", what, c)
		}
	}
	// While nobody can say, the link still counts.
	f := newAPI(t)
	path := f.makes(t, "acme", `{"room":"standup"}`)
	f.change(func() { f.aside, f.mintErr = true, errStandsBy })
	if w := f.press(path); w.Code != 503 || !strings.Contains(w.Body.String(), "<button") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.change(func() { f.aside, f.mintErr = false, nil })
	if w := f.press(path); w.Code != 303 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Of many who press at the same moment, one enters.
func TestLinkAtOnce(t *testing.T) {
	f := newAPI(t)
	path := f.makes(t, "all", `{"room":"standup"}`)
	begin := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[string]bool{}
	for range 50 {
		all.Go(func() {
			<-begin
			if w := f.press(path); w.Code == 303 {
				mu.Lock()
				defer mu.Unlock()
				got[w.Header().Get("Location")] = true
			}
		})
	}
	close(begin)
	all.Wait()
	if len(got) != 1 {
		t.Errorf("%d got in", len(got))
	}
}

// The token is in the part of the address that browsers send to no server, in JSON, as jitsi-meet reads it.
func TestRoomURL(t *testing.T) {
	s := &server{Options: Options{MeetURL: "https://meet.example.com/base"}}
	for room, path := range map[string]string{
		"standup": "/base/standup", "[acme]standup": "/base/acme/standup", "café": "/base/café", "a%2fb": "/base/a/b", "my room": "/base/my room", "100%25": "/base/100%",
	} {
		at, err := url.Parse(s.roomURL(room, "eyJ.e30.x-_"))
		if err != nil || at.Path != path || at.Fragment != `jwt="eyJ.e30.x-_"` || at.RawQuery != "" {
			t.Errorf("%s: %v, %v", room, at, err)
		}
	}
}

func TestNoLinks(t *testing.T) {
	f := newAPI(t, func(o *Options) { o.PublicURL = "" })
	wants(t, "no public_url", f.call("all", "POST", Base+"/links", `{"room":"standup"}`), 422, "set api.public_url")
	f = newAPI(t)
	wants(t, "every room", f.call("all", "POST", Base+"/links", `{"room":"*"}`), 422, "a link leads to one room")
	wants(t, "too long", f.call("all", "POST", Base+"/links", `{"room":"standup","link_ttl":2592001}`), 422, "body.link_ttl")
}

// Trying codes is slowed down.
func TestCodesTried(t *testing.T) {
	f := newAPI(t)
	for n := 0; ; n++ {
		if w := f.press("/l/" + strings.Repeat("A", store.CodeLength)); w.Code == 429 {
			break
		} else if w.Code != 410 || n > 1000 {
			t.Fatal(n, w.Code)
		}
	}
}
