package oidctest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cookie has the sid of a session.
const cookie = "provider_session"

var loginForm = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Provider: log in</title></head><body><h1>Log in at the provider</h1>
{{if .Wrong}}<p role="alert">Wrong name or password</p>{{end}}
<form method="post" action="login"><input type="hidden" name="id" value="{{.ID}}">
<label>Name <input name="username" autofocus></label> <label>Password <input name="password" type="password"></label>
<button>Log in at the provider</button></form></body></html>
`))

// loginPage asks for name and password, unless there is a session.
func (p *Provider) loginPage(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		p.mu.Lock()
		s := p.sessions[c.Value]
		p.mu.Unlock()
		if s != nil {
			p.enter(w, r, r.FormValue("id"), s)
			return
		}
	}
	p.ask(w, http.StatusOK, r.FormValue("id"))
}

func (p *Provider) ask(w http.ResponseWriter, status int, id string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := loginForm.Execute(w, struct {
		ID    string
		Wrong bool
	}{id, status != http.StatusOK}); err != nil {
		p.t.Log(err)
	}
}

func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	user, known := p.userOf(r.PostFormValue("username"))
	if !known || user.Password != r.PostFormValue("password") {
		p.ask(w, http.StatusUnauthorized, r.PostFormValue("id"))
		return
	}
	s := &session{sid: rand.Text(), user: user}
	p.mu.Lock()
	p.sessions[s.sid] = s
	p.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: s.sid, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	p.enter(w, r, r.PostFormValue("id"), s)
}

// enter ends a login, and goes on to the client.
func (p *Provider) enter(w http.ResponseWriter, r *http.Request, id string, s *session) {
	p.mu.Lock()
	request := p.requests[id]
	if request != nil {
		request.session, request.at = s, time.Now()
		s.clients = append(s.clients, request.ClientID)
	}
	p.mu.Unlock()
	if request == nil {
		http.Error(w, "no such login", http.StatusBadRequest)
		return
	}
	http.Redirect(w, r, p.Issuer+"/authorize/callback?"+url.Values{"id": {id}}.Encode(), http.StatusSeeOther)
}

// changed changes what the provider of package op says.
func (p *Provider) changed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		was := httptest.NewRecorder()
		next.ServeHTTP(was, r)
		maps.Copy(w.Header(), was.Header())
		if to, err := url.Parse(w.Header().Get("Location")); err == nil && p.o.NamesItself && r.URL.Path == "/authorize/callback" {
			query := to.Query()
			query.Set("iss", p.Issuer)
			to.RawQuery = query.Encode()
			w.Header().Set("Location", to.String())
		}
		body := was.Body.Bytes()
		var answer map[string]any
		if was.Code == http.StatusOK && decode(body, &answer) == nil {
			p.change(Part(r.URL.Path), answer)
			if again, err := json.Marshal(answer); err == nil {
				body = append(again, '\n')
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(was.Code)
		if _, err := w.Write(body); err != nil {
			p.t.Log(err)
		}
	})
}

// change changes one answer.
func (p *Provider) change(part Part, answer map[string]any) {
	p.mu.Lock()
	change := p.changes[part]
	p.mu.Unlock()
	if part == Discovery {
		answer["authorization_response_iss_parameter_supported"] = p.o.NamesItself
	}
	if token, isText := answer["id_token"].(string); part == Tokens && isText {
		answer["id_token"] = p.again(token)
	}
	if change != nil {
		change(answer)
	}
}

// again returns an ID token as it is by the provider's clock, and changed.
func (p *Provider) again(token string) string {
	claims, err := claimsOf(token)
	if err != nil {
		p.t.Error(err)
		return token
	}
	p.mu.Lock()
	change, shift := p.changes[IDToken], p.shift
	p.mu.Unlock()
	for _, name := range []string{"iat", "exp", "nbf", "auth_time"} {
		at, isNumber := claims[name].(json.Number)
		if seconds, err := at.Int64(); isNumber && err == nil {
			claims[name] = seconds + int64(shift/time.Second)
		}
	}
	if change != nil {
		change(claims)
	}
	return p.Sign("JWT", claims)
}

// claimsOf returns the claims of a token, which it does not verify.
func claimsOf(token string) (claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	return claims, decode(payload, &claims)
}

// decode reads JSON, and keeps numbers as they are.
func decode(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(to)
}

// Browser is a browser as far as the provider needs one: it keeps cookies and follows redirects.
type Browser struct {
	p      *Provider
	client http.Client
}

// Browser returns a browser without cookies.
func (p *Provider) Browser() *Browser {
	jar, _ := cookiejar.New(nil) // cannot fail without options
	return &Browser{p: p, client: http.Client{
		Jar: jar, Transport: p.Client.Transport, Timeout: time.Minute,
		CheckRedirect: func(next *http.Request, _ []*http.Request) error {
			if !strings.HasPrefix(next.URL.String(), p.Issuer+"/") {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}}
}

// Login opens an address of the provider, logs a user in if the provider asks, and returns the address at the client to which the
// provider sends the browser. It does not open that one.
func (b *Browser) Login(t testing.TB, address, user string) *url.URL {
	t.Helper()
	page := b.visit(t, http.MethodGet, address, nil)
	if to := page.Header.Get("Location"); to != "" {
		return parse(t, to)
	}
	who, known := b.p.userOf(user)
	if page.StatusCode != http.StatusOK || !known {
		t.Fatalf("the provider answers %d; it knows the user %s: %t", page.StatusCode, user, known)
	}
	answer := b.visit(t, http.MethodPost, b.p.Issuer+"/login", url.Values{
		"id": {page.Request.URL.Query().Get("id")}, "username": {user}, "password": {who.Password},
	})
	return parse(t, answer.Header.Get("Location"))
}

// Login is that of a browser without cookies.
func (p *Provider) Login(t testing.TB, address, user string) *url.URL {
	t.Helper()
	return p.Browser().Login(t, address, user)
}

// Visit opens an address of the provider, such as that of a logout, and returns the address to which the provider sends the browser.
func (b *Browser) Visit(t testing.TB, address string) *url.URL {
	t.Helper()
	return parse(t, b.visit(t, http.MethodGet, address, nil).Header.Get("Location"))
}

func (b *Browser) visit(t testing.TB, method, address string, form url.Values) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := b.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer
}

func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || address == "" {
		t.Fatalf("the provider sends the browser to %q: %v", address, err)
	}
	return u
}
