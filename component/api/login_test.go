package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// accounts logs people in as a portal does that has some accounts.
type accounts struct {
	err   error // of every login
	asked []LoginRequest
}

const password = "correct horse battery"

func (a *accounts) login(_ context.Context, r LoginRequest) (LoggedIn, error) {
	a.asked = append(a.asked, r)
	rooms := map[string][]string{"juliet": {"standup"}, "romeo": {"standup", "class-*", "board"}, "nurse": {"*"}}[r.Username]
	switch {
	case a.err != nil:
		return LoggedIn{}, a.err
	case rooms == nil || r.Password != password:
		return LoggedIn{}, fmt.Errorf("login: %w", ErrLogin)
	case r.Room == "forbidden":
		return LoggedIn{}, ErrNotRoom
	case r.Room == "" && len(rooms) == 1 && rooms[0] != "*":
		r.Room = rooms[0]
	}
	done := LoggedIn{Rooms: rooms, Display: strings.ToUpper(r.Username[:1]) + r.Username[1:], Device: "device of " + r.Username}
	if r.Room == "" {
		return done, nil
	}
	ttl := time.Hour
	if r.TTL > 0 {
		ttl = min(ttl, r.TTL)
	}
	done.Room, done.JTI, done.Expires = r.Room, "session.random", noon.Add(ttl)
	done.Token = "eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9." + r.Room
	if done.Affiliation = r.Affiliation; done.Affiliation == "" {
		done.Affiliation = "owner"
	}
	done.URL = "https://meet.example.com/" + r.Room + "?jwt=" + done.Token
	return done, nil
}

// newLogin returns an API at which people log in.
func newLogin(t testing.TB, change ...func(*Options)) (*fixture, *accounts) {
	t.Helper()
	a := &accounts{}
	return newAPI(t, append([]func(*Options){func(o *Options) { o.Login = a.login }}, change...)...), a
}

// A right password brings a token, and the rooms of its account. It needs no key.
func TestLogin(t *testing.T) {
	for _, tt := range []struct {
		body   string
		err    error
		status int
		want   string
	}{
		{`{"username":"juliet","password":"` + password + `"}`, nil, 200, `"room":"standup","rooms":["standup"],"display_name":"Juliet","affiliation":"owner","expires":"2030-01-31T13:00:00Z","url":"https://meet.example.com/standup?jwt=eyJ`},
		{`{"username":"juliet","password":"` + password + `","room":"standup","ttl":60,"affiliation":"member"}`, nil, 200, `"affiliation":"member","expires":"2030-01-31T12:01:00Z"`},
		{`{"username":"romeo","password":"` + password + `"}`, nil, 200, `{"rooms":["standup","class-*","board"],"display_name":"Romeo","device":"device of romeo"}`},
		{`{"username":"juliet","password":"wrong"}`, nil, 401, `"detail":"` + ErrLogin.Error() + `"`},
		{`{"username":"nobody","password":"` + password + `"}`, nil, 401, `"detail":"` + ErrLogin.Error() + `"`},
		{`{"username":"juliet","password":"` + password + `","room":"forbidden"}`, nil, 403, ErrNotRoom.Error()},
		{`{"username":"juliet","password":"x"}`, &TooManyError{1500 * time.Millisecond}, 429, "try again in 2 s"},
		{`{"username":"juliet","password":"x"}`, errors.New("dial 10.0.0.5:6379"), 503, textUnable},
		{`{"username":"juliet","password":"x"}`, ErrLater, 503, "cannot be checked at the moment: try again in 5 s"},
		{`{"username":"juliet","password":"x"}`, RequestError("room: is no room"), 422, "room: is no room"},
		{`{"username":"juliet"}`, nil, 422, "password"},
		{`{"username":"juliet","password":""}`, nil, 400, "password is empty"},
		{`{"username":"juliet","password":null}`, nil, 400, "password is empty"},
		{`{"username":"juliet","password":"x","password":"y"}`, nil, 400, "each name once"},
		{`{"username":"juliet","password":"x","presenter":true}`, nil, 422, "presenter"},
		{`{"username":"juliet","password":"` + strings.Repeat("x", 1025) + `"}`, nil, 422, "body.password"},
		{`{"username":"juliet","password":"x","room":"eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0"}`, nil, 400, errToken.Error()},
		{`{"username":"juliet","password":"x","ttl":86401}`, nil, 422, "body.ttl"},
		{`{"username":"` + strings.Repeat("x", maxLogin) + `"}`, nil, 413, errTooLong.Error()},
	} {
		f, a := newLogin(t)
		a.err = tt.err
		w := f.call("", "POST", Base+"/login", tt.body)
		wants(t, tt.body, w, tt.status, tt.want)
		if got := w.Header().Get("Retry-After"); (got != "") != (w.Code == 429 || w.Code == 503) || w.Code == 429 && got != "2" {
			t.Errorf("%s: Retry-After is %q", tt.body, got)
		}
		if h := w.Header(); h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", tt.body, h)
		}
		for _, r := range a.asked {
			if r.Remote.String() != "192.0.2.1" {
				t.Errorf("asked from %s", r.Remote)
			}
		}
		c := f.last()
		if c.Status != tt.status || c.Path != Base+"/login" || w.Code == 200 && !strings.HasPrefix(c.Who, "name=") {
			t.Errorf("%s: told of %+v", tt.body, c)
		}
		for _, text := range []string{fmt.Sprint(c), map[bool]string{true: w.Body.String()}[w.Code != 200]} {
			if strings.Contains(text, password) || strings.Contains(text, "eyJ") || strings.Contains(text, "xxxxx") || strings.Contains(text, "10.0.0.5") {
				t.Errorf("%s: said %s", tt.body, text)
			}
		}
	}
	f, a := newLogin(t)
	f.call("", "POST", Base+"/login", `{"username":"juliet","password":"x","device":"device of juliet"}`)
	if len(a.asked) != 1 || a.asked[0].Device != "device of juliet" {
		t.Errorf("asked %+v", a.asked)
	}
	a.asked = nil
	f.aside = true
	wants(t, "standing by", f.call("", "POST", Base+"/login", `{"username":"juliet","password":"x"}`), 503, errStandsBy.Error())
	f = newAPI(t)
	wants(t, "no portal", f.call("", "POST", Base+"/login", `{"username":"juliet","password":"x"}`), 404, "portal.listen")
	if len(a.asked) > 0 {
		t.Errorf("asked %v", a.asked)
	}
}

// Logins that nobody can check do not fill the log.
func TestLoginsAreNotLogged(t *testing.T) {
	core, log := observer.New(zapcore.DebugLevel)
	f, a := newLogin(t, func(o *Options) { o.Log = zap.New(core) })
	a.err = ErrLater
	for range 100 {
		f.call("", "POST", Base+"/login", `{"username":"juliet","password":"x"}`)
	}
	if log.Len() > 0 {
		t.Errorf("%d lines: %v", log.Len(), log.All()[0])
	}
}

// Wrong passwords do not fill the audit log, and right ones are in it however many wrong ones there were.
func TestLoginsAreTold(t *testing.T) {
	f, _ := newLogin(t)
	for range 300 {
		f.call("", "POST", Base+"/login", `{"username":"juliet","password":"wrong"}`)
	}
	told := len(f.calls)
	if told == 0 || told > 2*strangerBurst {
		t.Errorf("told of %d", told)
	}
	f.call("", "POST", Base+"/login", `{"username":"juliet","password":"`+password+`"}`)
	if c := f.last(); len(f.calls) != told+1 || c.Status != 200 || c.Who != "name=juliet jti=session.random" || c.Room != "standup" {
		t.Errorf("told of %+v", c)
	}
}

// The address of a login is that of the caller, also behind a proxy; a caller who is none does not choose it.
func TestLoginBehindProxy(t *testing.T) {
	for proxy, want := range map[string]string{"192.0.2.0/24": "203.0.113.7", "198.51.100.0/24": "192.0.2.1"} {
		f, a := newLogin(t, func(o *Options) { o.Proxies = []netip.Prefix{netip.MustParsePrefix(proxy)} })
		f.call("", "POST", Base+"/login", `{"username":"juliet","password":"wrong"}`, "X-Forwarded-For", "10.1.1.1, 203.0.113.7")
		if len(a.asked) != 1 || a.asked[0].Remote.String() != want || f.last().Remote != want {
			t.Errorf("behind %s: asked %+v, told of %+v", proxy, a.asked, f.last())
		}
	}
}
