package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
)

// users is a user service under test, which says what the test wants.
type users struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string // path and body
	answers map[string]http.HandlerFunc
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func newUsers(t testing.TB, start func(http.Handler) *httptest.Server) *users {
	u := &users{answers: map[string]http.HandlerFunc{
		"/api/v1/user/isAuth":        says(200, `{"message":true}`),
		"/api/v1/user/roomsAllowed":  says(200, `{"message":["*"]}`),
		"/api/v1/user/isRoomAllowed": says(200, `{"message":true}`),
	}}
	u.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.Header, err)
		}
		u.mu.Lock()
		u.asked = append(u.asked, r.URL.Path+" "+string(body))
		answer := u.answers[r.URL.Path]
		u.mu.Unlock()
		if answer == nil {
			answer = http.NotFound
		}
		answer(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

// say sets what the service answers.
func (u *users) say(path string, answer http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers["/api/v1/user/"+path] = answer
}

func (u *users) service(t testing.TB) *Service {
	t.Helper()
	s, err := NewService(u.URL+"/api/v1", "the secret of the service")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// takeAsked returns what the service was asked since the last time.
func (u *users) takeAsked() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := u.asked
	u.asked = nil
	return asked
}

// TestService asks as MiroTalk SFU does.
func TestService(t *testing.T) {
	u := newUsers(t, httptest.NewServer)
	u.say("roomsAllowed", says(201, ` {"message": ["Room1", "*", "a*b", "[acme]x", "q?", "back\\slash"], "other": {}} `))
	o := newOffice(t, u.service(t))
	p, err := o.login(" Carol Q@example.com", `p:a|ss<w>"ürd`)
	if err != nil {
		t.Fatal(err)
	}
	want := Person{
		ID: "service:Carol Q@example.com", Name: "Carol Q@example.com", Display: "Carol Q@example.com", Email: "Carol Q@example.com",
		Rooms: []string{"room1", "*", `a\*b`, "[acme]x", `q\?`, `back\\slash`}, Affiliation: auth.Owner, Version: p.Version,
	}
	if !reflect.DeepEqual(p, want) || p.Version == "" {
		t.Errorf("%+v", p)
	}
	// encoding/json writes < as \u003c: the same text to those that read JSON.
	const who = `{"email":"Carol Q@example.com","username":"Carol Q@example.com","password":"p:a|ss\u003cw\u003e\"ürd","api_secret_key":"the secret of the service"}`
	if asked := u.takeAsked(); !reflect.DeepEqual(asked, []string{"/api/v1/user/isAuth " + who, "/api/v1/user/roomsAllowed " + who}) {
		t.Errorf("%q", asked)
	}
	for name, pattern := range map[string]string{"room1": "room1", "a*b": `a\*b`, "axb": "", "[acme]x": "[acme]x", "qx": "", "q?": `q\?`, `back\slash`: `back\\slash`} {
		room, err := auth.ParseRoomName(name)
		if err != nil {
			t.Fatal(err)
		}
		if some := (Person{Rooms: []string{"room1", `a\*b`, "[acme]x", `q\?`, `back\\slash`}}); some.May(room) != (pattern != "") {
			t.Errorf("%s: %v", name, some.May(room))
		}
	}

	room := auth.Room{Name: "room1"}
	if ok, err := o.Allowed(t.Context(), p, room); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	const mayI = `/api/v1/user/isRoomAllowed {"email":"Carol Q@example.com","username":"Carol Q@example.com","room":"room1","api_secret_key":"the secret of the service"}`
	if asked := u.takeAsked(); !reflect.DeepEqual(asked, []string{mayI}) {
		t.Errorf("%q", asked)
	}
	u.say("isRoomAllowed", says(200, `{"message":false}`))
	if ok, err := o.Allowed(t.Context(), p, room); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	p.Rooms = []string{"room1"}
	if ok, err := o.Allowed(t.Context(), p, auth.Room{Name: "room2"}); ok || err != nil || len(u.takeAsked()) != 1 {
		t.Errorf("the service was asked for a room that it has not listed: %v, %v", ok, err)
	}

	// Accounts come first: their passwords do not go to the service.
	if p, err := o.login("ALICE", passwords["alice"]); err != nil || p.ID != "account:alice" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := o.login("alice", "wrong"); err != ErrRefused || u.takeAsked() != nil {
		t.Errorf("%v, or the service was asked", err)
	}
	o.quiet("p:a", "ürd", "Carol", "the secret")
}

// TestServiceSession ends people of the service when it is another one.
func TestServiceSession(t *testing.T) {
	u := newUsers(t, httptest.NewServer)
	o := newOffice(t, u.service(t))
	p, err := o.login("carol", "password of Carol")
	if err != nil {
		t.Fatal(err)
	}
	if now, ok := o.Current(p); !ok || !reflect.DeepEqual(now, p) {
		t.Errorf("%v, %+v", ok, now)
	}
	home := o.Device(p)
	if home == "" {
		t.Fatal("no device")
	}
	o.open(u.service(t))
	if _, ok := o.Current(p); !ok {
		t.Error("a restart has ended it")
	}
	// A known device is heard although others have tried; on another one, it is not.
	u.say("isAuth", says(200, `{"message":false}`))
	for range ofAccount.free {
		if _, err := o.login("CAROL", "guess"); err != ErrRefused {
			t.Fatal(err)
		}
	}
	u.say("isAuth", says(200, `true`))
	if _, err := o.login("carol", "password of Carol"); err == nil {
		t.Error("too many failures, and yet heard")
	}
	if o.device(o.claim("dave"), home) != nil {
		t.Error("a device of Carol is one of Dave's")
	}
	if p, err := o.Login(t.Context(), Attempt{Name: "carol", Password: "password of Carol", From: o.anywhere(), Device: home}); err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	for _, other := range []*Service{nil, must(NewService(u.URL+"/api/v1", "another secret")), must(NewService(u.URL+"/api/v2", "the secret of the service"))} {
		o.open(other)
		if now, ok := o.Current(p); ok {
			t.Errorf("%+v", now)
		}
	}
	o.open(nil)
	if ok, err := o.Allowed(t.Context(), p, auth.Room{Name: "room1"}); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if d := o.Device(p); d != "" {
		t.Errorf("a device of nobody: %s", d)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestServiceAnswers gives answers of all sorts. Only a yes lets somebody in, and only a list of rooms opens rooms.
func TestServiceAnswers(t *testing.T) {
	redirected := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		redirected = true
		io.WriteString(w, "true")
	}))
	t.Cleanup(elsewhere.Close)
	away := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) }
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "true")
	}
	hang := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	const yes, rooms = `{"message":true}`, `{"message":["*"]}`
	denied := errors.New("ErrUnavailable, and counted")
	all := func(status int, body string) http.HandlerFunc { return says(status, body) }
	for _, tt := range []struct {
		isAuth, roomsAllowed http.HandlerFunc
		want                 error
	}{
		{all(200, yes), all(200, rooms), nil},
		{all(200, "true"), all(200, `["*"]`), nil},
		{all(201, " true\n"), all(200, `{"message":["room1"]}`), nil},
		{all(200, yes), all(200, `{}`), nil}, // no rooms
		{all(200, yes), all(200, `{"message":null}`), nil},
		{all(200, yes), all(200, `[]`), nil},
		{all(200, yes), all(200, `{"message":{}}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":"*"}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":[1]}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":[""]}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":["a\u0000"]}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":["[acme"]}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":[["*"]]}`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":[],"message":["*"]}`), ErrUnavailable},
		{all(200, yes), all(200, `["x"`+strings.Repeat(`,"x"`, maxServiceRooms)+`]`), ErrUnavailable},
		{all(200, yes), all(200, `{"message":["`+strings.Repeat("x", maxAnswer)+`"]}`), ErrUnavailable},
		{all(200, yes), all(200, strings.Repeat("[", maxAnswer)), ErrUnavailable},
		{all(200, yes), all(500, rooms), ErrUnavailable},
		{all(200, yes), all(401, rooms), ErrUnavailable},
		{all(200, yes), away(307), ErrUnavailable},
		{all(200, yes), cut, ErrUnavailable},
		{all(200, yes), nil, ErrUnavailable}, // 404

		{all(200, "false"), all(200, rooms), ErrRefused},
		{all(200, `{"message":false}`), all(200, rooms), ErrRefused},
		{all(200, `{"message":"true"}`), all(200, rooms), ErrRefused},
		{all(200, `{"message":1}`), all(200, rooms), ErrRefused},
		{all(200, `{"message":[true]}`), all(200, rooms), ErrRefused},
		{all(200, `{"message":{"message":true}}`), all(200, rooms), ErrRefused},
		{all(200, `{"Message":true}`), all(200, rooms), ErrRefused},
		{all(200, `{}`), all(200, rooms), ErrRefused},
		{all(200, `"true"`), all(200, rooms), ErrRefused},
		{all(200, `null`), all(200, rooms), ErrRefused},
		{all(401, yes), all(200, rooms), ErrRefused},
		{all(403, ``), all(200, rooms), ErrRefused},

		{all(200, ``), all(200, rooms), ErrUnavailable},
		{all(200, `true,"message":true`), all(200, rooms), ErrUnavailable},
		{all(200, `true}{"message":true`), all(200, rooms), ErrUnavailable},
		{all(200, `{"message":false,"message":true}`), all(200, rooms), ErrUnavailable},
		{all(200, `<html>true</html>`), all(200, rooms), ErrUnavailable},
		{all(200, strings.Repeat(" ", maxAnswer)+"true"), all(200, rooms), ErrUnavailable},
		{all(200, "true"+strings.Repeat(" ", maxAnswer)), all(200, rooms), ErrUnavailable},
		{all(302, yes), all(200, rooms), ErrUnavailable},
		{all(404, yes), all(200, rooms), denied},
		{all(400, `{"message":false}`), all(200, rooms), denied},
		{all(422, ""), all(200, rooms), denied},
		{all(429, yes), all(200, rooms), ErrUnavailable},
		{all(500, yes), all(200, rooms), ErrUnavailable},
		{away(302), all(200, rooms), ErrUnavailable},
		{away(307), all(200, rooms), ErrUnavailable},
		{away(308), all(200, rooms), ErrUnavailable},
		{cut, all(200, rooms), ErrUnavailable},
		{hang, all(200, rooms), ErrUnavailable},
	} {
		u := newUsers(t, httptest.NewServer)
		u.say("isAuth", tt.isAuth)
		u.say("roomsAllowed", tt.roomsAllowed)
		o := newOffice(t, u.service(t))
		p, err := o.login("carol", "password of Carol")
		counts := tt.want == ErrRefused || tt.want == denied
		if tt.want == denied {
			tt.want = ErrUnavailable
		}
		if err != tt.want || (err != nil) != (p.ID == "") {
			t.Errorf("%+v, %v; want %v; the log: %v", p, err, tt.want, o.log.All())
		}
		if n := len(o.limits.accounts.of); counts != (n == 1) {
			t.Errorf("%v: %d failures counted", tt.want, n)
		}
		if tt.want == ErrUnavailable && o.log.FilterMessage("the user service gave no answer that counts").Len() != 1 {
			t.Errorf("the log does not say why: %v", o.log.All())
		}
		o.quiet("password of Carol", "carol", "the secret")
		u.Close()
	}
	if redirected {
		t.Error("a redirect was followed: somebody else got the password")
	}
}

// TestServiceLines: who tries to log in again and again while the service is away does not fill the log.
func TestServiceLines(t *testing.T) {
	u := newUsers(t, httptest.NewServer)
	u.say("isAuth", says(500, ""))
	o := newOffice(t, u.service(t))
	for range 100 {
		if _, err := o.login("carol", "password of Carol"); err != ErrUnavailable {
			t.Fatal(err)
		}
	}
	if n := o.log.Len(); n == 0 || n > complainAtOnce {
		t.Errorf("%d lines", n)
	}
}

// TestServiceSlow gives up on a service that never answers, or never ends to.
func TestServiceSlow(t *testing.T) {
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, answer := range map[string]http.HandlerFunc{"silent": silent, "drip": drip} {
		u := newUsers(t, httptest.NewServer)
		u.say("isAuth", answer)
		s := u.service(t)
		s.client.Timeout = 200 * time.Millisecond
		o := newOffice(t, s)
		if _, err := o.login("carol", "password of Carol"); err != ErrUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		if lines := o.log.All(); len(lines) != 1 || lines[0].ContextMap()["error"] != "isAuth: no whole answer within 5s" {
			t.Errorf("%s: %v", name, lines)
		}
		// The caller has gone: that is no fault of the service.
		s.client.Timeout = deadline
		ctx, cancel := context.WithCancel(t.Context())
		u.say("isAuth", func(w http.ResponseWriter, r *http.Request) {
			cancel()
			answer(w, r)
		})
		if _, err := o.Login(ctx, Attempt{Name: "carol", Password: "x", From: o.anywhere()}); !errors.Is(err, context.Canceled) || o.log.Len() != 1 {
			t.Errorf("%s: %v, %v", name, err, o.log.All())
		}
	}
}

// TestServiceAtOnce asks no more at once than 16 times.
func TestServiceAtOnce(t *testing.T) {
	u := newUsers(t, httptest.NewServer)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	u.say("isAuth", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "true")
	})
	s := u.service(t)
	s.client.Timeout = deadline
	o := newOffice(t, s)
	o.asking.queue = 0
	results := make(chan error, maxAsking)
	for i := range maxAsking {
		a := Attempt{Name: fmt.Sprint("carol", i), Password: "x", From: o.anywhere()}
		go func() {
			_, err := o.Login(context.Background(), a)
			results <- err
		}()
	}
	for range maxAsking {
		<-arrived
	}
	if _, err := o.login("dave", "x"); err != ErrBusy {
		t.Error(err)
	}
	close(release)
	for range maxAsking {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestServiceTLS sends no password to a server with a certificate that does not count.
func TestServiceTLS(t *testing.T) {
	u := newUsers(t, httptest.NewTLSServer)
	o := newOffice(t, u.service(t))
	if _, err := o.login("carol", "x"); err != ErrUnavailable || u.takeAsked() != nil {
		t.Error(err)
	}
	s := u.service(t)
	s.client.Transport = u.Client().Transport
	o.open(s)
	if p, err := o.login("carol", "x"); err != nil || p.ID != "service:carol" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestNewService refuses addresses to which no password may go.
func TestNewService(t *testing.T) {
	for address, want := range map[string]string{
		"https://users.example.com/api/v1":  "",
		"https://users.example.com":         "",
		"https://users.example.com/":        "",
		"http://127.0.0.1:9000/api/v1":      "",
		"http://[::1]:9000/api/v1":          "",
		"http://localhost:9000/api/v1":      "",
		"http://users.example.com/api/v1":   "must begin with https://",
		"http://127.0.0.1.example.com/":     "must begin with https://",
		"http://localhost.example.com/":     "must begin with https://",
		"http://0.0.0.0/":                   "must begin with https://",
		"ftp://users.example.com/":          "must begin with https://",
		"https://user:pw@users.example.com": "without user name",
		"https://users.example.com/?a=b":    "without user name",
		"https://users.example.com/#a":      "without user name",
		"https://":                          "is no address",
		"https://:443/":                     "is no address",
		"users.example.com":                 "is no address",
		"":                                  "is no address",
		"https://users.example.com/\x7f":    "is no address",
	} {
		s, err := NewService(address, "secret")
		switch {
		case want == "" && (err != nil || !strings.HasSuffix(s.base.JoinPath("user", "isAuth").String(), "/user/isAuth")):
			t.Errorf("%s: %v", address, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw")):
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestQuestion has the members that MiroTalk SFU sends, and no others.
func TestQuestion(t *testing.T) {
	text, err := json.Marshal(question{Email: "a", Username: "a", Secret: "s"})
	if err != nil || string(text) != `{"email":"a","username":"a","api_secret_key":"s"}` {
		t.Errorf("%s, %v", text, err)
	}
}
