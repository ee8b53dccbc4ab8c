package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
)

const at = "@conference.meet.example.com"

func summaryOf(address string) component.RoomSummary {
	room, err := auth.ParseRoom(address)
	if err != nil {
		panic(err)
	}
	return component.RoomSummary{Room: room.JID, Name: room.Name, Tenant: room.Tenant, Open: true, Hosts: 1}
}

// Each operation asks usher for what it says, in the one spelling of a room.
func TestOperations(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		err                error // of usher
		status             int
		want, asked        string
	}{
		{method: "GET", path: "/usher", status: 200, want: `"active":true`},
		{method: "GET", path: "/rooms", status: 200, want: `{"rooms":[{"room":"standup@conference.meet.example.com","name":"standup","open":true`},
		{method: "GET", path: "/rooms/standup", status: 200, want: `"occupants":[{"id":"romeo@meet.example.com","as":"host"`, asked: "room standup" + at},
		{method: "GET", path: "/rooms/Standup" + at, status: 200, asked: "room standup" + at},
		{method: "GET", path: "/rooms/standup", err: component.ErrNoRoom, status: 404, want: component.ErrNoRoom.Error()},
		{method: "GET", path: "/rooms/standup@elsewhere.example.com", status: 404, want: component.ErrRoom.Error()},
		{method: "GET", path: "/rooms/%5Bacme%5Dstandup" + at, status: 200, asked: "room [acme]standup" + at},
		{method: "GET", path: "/rooms/[acme]standup", status: 200, asked: "room [acme]standup" + at},
		{method: "GET", path: "/rooms/caf%25c3%25a9" + at, status: 200, asked: "room caf%c3%a9" + at}, // as jitsi-meet spells café
		{method: "GET", path: "/rooms/caf%C3%A9", status: 200, asked: "room café" + at},
		{method: "GET", path: "/rooms/my%20room", status: 404, want: component.ErrRoom.Error()},
		{method: "GET", path: "/rooms/a%2Fb", status: 404, want: component.ErrRoom.Error()},
		{method: "GET", path: "/rooms/standup?x=1", status: 422, want: "query.x: unknown query parameter"},
		{method: "DELETE", path: "/rooms/standup?reason=Time+is+up.", status: 204, asked: `end standup` + at + ` "Time is up."`},
		{method: "DELETE", path: "/rooms/standup?reason=a%1Bb", status: 204, asked: `end standup` + at + " \"a\uFFFDb\""},
		{method: "DELETE", path: "/rooms/standup?reason=" + strings.Repeat("x", 201), status: 422, want: "query.reason"},
		{method: "DELETE", path: "/rooms/standup?reason=https://x/?jwt=eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0", status: 400, want: errToken.Error()},
		{method: "DELETE", path: "/rooms/standup/occupants/romeo@meet.example.com", status: 204, asked: `remove romeo@meet.example.com from standup` + at + ` "" false`},
		{method: "DELETE", path: "/rooms/standup/occupants/ann%E2%99%A5@meet.example.com", status: 204, asked: `remove ann♥@meet.example.com from standup` + at + ` "" false`},
		{method: "DELETE", path: "/rooms/standup/occupants/r%E2%80%AEm@meet.example.com", status: 422, want: "bare JID"},
		{method: "DELETE", path: "/rooms/standup/occupants/r%20m@meet.example.com", status: 422, want: "bare JID"},
		{method: "DELETE", path: "/rooms/standup/occupants/romeo@meet.example.com?bar=true&reason=Enough.", status: 204, asked: `remove romeo@meet.example.com from standup` + at + ` "Enough." true`},
		{method: "DELETE", path: "/rooms/standup/occupants/romeo@meet.example.com%2Fphone", status: 422, want: "bare JID"},
		{method: "DELETE", path: "/rooms/standup/occupants/romeo", status: 422, want: "bare JID"},
		{method: "DELETE", path: "/rooms/standup/occupants/romeo@meet.example.com", err: component.ErrNoOccupant, status: 404, want: component.ErrNoOccupant.Error()},
		{method: "POST", path: "/rooms/standup/lock", status: 204, asked: "lock standup" + at + " true"},
		{method: "DELETE", path: "/rooms/standup/lock", status: 204, asked: "lock standup" + at + " false"},
		{method: "GET", path: "/grants", status: 200, want: `"jti":"j1"`, asked: `grants ""`},
		{method: "GET", path: "/grants?room=standup", status: 200, asked: `grants "standup` + at + `"`},
		{method: "GET", path: "/revocations", status: 200, want: `"id":"ID"`},
		{method: "POST", path: "/revocations", body: `{"jti":"j1"}`, status: 200, want: `"out":[{`},
		{method: "DELETE", path: "/revocations/ID", status: 204, asked: "unrevoke ID"},
		{method: "POST", path: "/tokens", body: `{"room":"standup","affiliation":"owner"}`, status: 201, want: `"url":"https://meet.example.com/standup#jwt=%22eyJ`},
		{method: "POST", path: "/tokens", body: `{"room":"*"}`, status: 201, want: `"room":"*"`},
		{method: "POST", path: "/tokens", body: `{"room":"standup","affiliation":"king"}`, status: 422, want: "body.affiliation"},
		{method: "POST", path: "/tokens", body: `{}`, status: 422, want: "room"},
		{method: "POST", path: "/tokens/explain", body: `{"room":"standup"}`, status: 200, want: `"verdict":"deny"`},
		{method: "POST", path: "/links", body: `{"room":"standup"}`, status: 201, want: `"url":"https://usher.example.com/l/`},
		{method: "GET", path: "/decisions", status: 200, want: `{"decisions":[]}`},
		{method: "GET", path: "/rooms", err: errors.New("dial 10.0.0.5:6379"), status: 200},
		{method: "GET", path: "/grants", err: errors.New("dial 10.0.0.5:6379"), status: 503, want: textUnable},
		{method: "GET", path: "/nothing", status: 404, want: errNoSuchPath.Error()},
		{method: "PATCH", path: "/rooms", status: 404, want: errNoSuchPath.Error()},
	} {
		name := tt.method + " " + tt.path
		f := newAPI(t)
		f.err = tt.err
		f.rooms = []component.RoomSummary{summaryOf("standup" + at)}
		f.view = component.RoomView{RoomSummary: f.rooms[0], Occupants: []component.Occupant{{Who: jid.MustParse("romeo@meet.example.com"), As: "host", Inside: true}}}
		w := f.call("all", tt.method, Base+tt.path, tt.body)
		wants(t, name, w, tt.status, tt.want)
		if tt.asked != "" && f.asked != tt.asked || w.Code == 422 && f.asked != "" {
			t.Errorf("%s: asked %q, want %q", name, f.asked, tt.asked)
		}
		if strings.Contains(w.Body.String(), "10.0.0.5") {
			t.Errorf("%s: tells the network where the store is: %s", name, w.Body)
		}
		if c := f.last(); c.Status != tt.status || c.Key != "all" && tt.status != 404 || c.Remote != "192.0.2.1" {
			t.Errorf("%s: told of %+v", name, c)
		}
		f.aside = true
		if w := f.call("all", tt.method, Base+tt.path, tt.body); w.Code < 400 && tt.path != "/usher" {
			t.Errorf("%s: answered while standing by: %d %s", name, w.Code, w.Body)
		}
	}
}

// Nobody does anything without a key that counts and has the scope, and every attempt is told of.
func TestKeys(t *testing.T) {
	f := newAPI(t)
	expired := keyFor("old", Scopes)
	expired.Expires = noon
	f.keys = append(f.keys, expired, keyFor("none", nil), keyFor("reader", []Scope{ScopeRoomsRead, ScopeGrantsRead}))
	for _, tt := range []struct {
		name, key, path string
		headers         []string
		status          int
		want            string
	}{
		{"no key", "", "/rooms", nil, 401, textNoKey},
		{"no key, usher", "", "/usher", nil, 401, textNoKey},
		{"another key", "bob", "/rooms", nil, 401, textWrongKey},
		{"another key of a name", "", "/rooms", []string{"Authorization", "Bearer " + strings.ReplaceAll(secret("all"), "s", "t")}, 401, textWrongKey},
		{"its hash", "", "/rooms", []string{"Authorization", fmt.Sprintf("Bearer %x", f.keys[0].Hash)}, 401, textWrongKey},
		{"another scheme", "", "/rooms", []string{"Authorization", "Basic " + secret("all")}, 401, textNoKey},
		{"two headers", "all", "/rooms", []string{"Authorization", "Bearer " + secret("bob")}, 401, textNoKey},
		{"in the address", "", "/rooms?access_token=" + secret("all"), nil, 401, textNoKey},
		{"in lower case", "", "/rooms", []string{"authorization", "bearer " + secret("all")}, 200, ""},
		{"expired", "old", "/rooms", nil, 401, "has expired"},
		{"no scope", "none", "/rooms", nil, 403, "the key none may not do this: it needs the scope rooms:read, and has none"},
		{"no scope, usher", "none", "/usher", nil, 200, ""},
		{"another scope", "reader", "/decisions", nil, 403, "needs the scope decisions:read, and has rooms:read, grants:read"},
		{"its scope", "reader", "/grants", nil, 200, ""},
	} {
		before := len(f.calls)
		w := f.call(tt.key, "GET", Base+tt.path, "", tt.headers...)
		wants(t, tt.name, w, tt.status, tt.want)
		if (w.Code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: WWW-Authenticate is %q", tt.name, w.Header().Get("WWW-Authenticate"))
		}
		path, _, _ := strings.Cut(tt.path, "?")
		if c := f.last(); len(f.calls) != before+1 || c.Status != tt.status || c.Path != Base+path || c.Method != "GET" {
			t.Errorf("%s: told of %+v", tt.name, c)
		}
	}
	f.change(func() { f.keys = nil })
	wants(t, "removed", f.call("all", "GET", Base+"/rooms", ""), 401, textWrongKey)
	// Every operation needs one, but for the one that asks for a password.
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	b, err := Document()
	if err := errors.Join(err, json.Unmarshal(b, &document)); err != nil || len(document.Paths) < 10 {
		t.Fatal(err)
	}
	for path, operations := range document.Paths {
		for method := range operations {
			if path == "/login" {
				continue
			}
			w := f.call("", strings.ToUpper(method), Base+strings.NewReplacer("{room}", "standup", "{id}", "x").Replace(path), `{"room":"standup"}`)
			if w.Code != 401 && w.Code != 429 || f.asked != "" && f.asked != `grants ""` {
				t.Errorf("%s %s without a key: %d %s, asked %s", method, path, w.Code, w.Body, f.asked)
			}
		}
	}
}

// A key for some rooms sees and touches these, however another room is spelled.
func TestKeyForSomeRooms(t *testing.T) {
	f := newAPI(t)
	for _, tt := range []struct {
		room  string // in a path
		right bool
	}{
		{"standup", true}, {"STANDUP", true}, {"standup" + at, true}, {"%73tandup", true}, {"acme-1", true}, {"[acme]anything", true}, {"%5BACME%5Danything" + at, true},
		{"%2573tandup", true}, // jitsi-meet's spelling of standup
		{"board", false}, {"Board", false}, {"%62oard", false}, {"board" + at, false}, {"[other]standup", false}, {"[standup]board", false},
		{"[acmes]standup", false}, {"xacme-1", false}, {"standup2", false}, {"standup%252f", false}, {"%255Bother%255Dstandup", false},
	} {
		for _, operation := range []struct{ method, path, body string }{
			{"GET", "/rooms/" + tt.room, ""},
			{"DELETE", "/rooms/" + tt.room, ""},
			{"POST", "/rooms/" + tt.room + "/lock", ""},
			{"DELETE", "/rooms/" + tt.room + "/lock", ""},
			{"DELETE", "/rooms/" + tt.room + "/occupants/romeo@meet.example.com", ""},
			{"GET", "/grants?room=" + tt.room, ""},
			{"GET", "/decisions?room=" + tt.room, ""},
			{"POST", "/tokens", tt.room}, {"POST", "/links", tt.room}, {"POST", "/tokens/explain", tt.room}, {"POST", "/revocations", tt.room},
		} {
			f.asked, f.mints = "", nil
			body := operation.body
			if body != "" {
				name := strings.NewReplacer("%25", "%", "%5B", "[", "%5D", "]", "%73", "s", "%62", "b").Replace(body)
				body = `{"room":"` + name + `"}`
				if operation.path == "/revocations" {
					body = `{"issuer":"my_app","room":"` + name + `"}`
				}
			}
			w := f.call("acme", operation.method, Base+operation.path, body)
			switch {
			case tt.right && w.Code >= 300:
				t.Errorf("%s %s %s: %d %s", operation.method, operation.path, body, w.Code, w.Body)
			case !tt.right && (w.Code != 403 && w.Code != 404 || f.asked != "" || len(f.mints) > 0):
				t.Errorf("%s %s %s: %d %s, asked %s", operation.method, operation.path, body, w.Code, w.Body, f.asked)
			}
		}
	}
	for what, body := range map[string]string{
		"every room": `{"room":"*"}`, "an empty room": `{"room":""}`, "the wildcard, encoded": `{"room":"%2A"}`, "a tenant's wildcard": `{"room":"[*]*"}`,
		"no room": `{}`, "a room twice": `{"room":"standup","room":"board"}`, "a room in two cases": `{"room":"standup","Room":"board"}`,
	} {
		for _, path := range []string{"/tokens", "/links"} {
			if w := f.call("acme", "POST", Base+path, body); w.Code < 400 {
				t.Errorf("%s: %s", what, w.Body)
			}
		}
	}
	f.asked = ""
	wants(t, "revoke everywhere", f.call("acme", "POST", Base+"/revocations", `{"issuer":"my_app"}`), 403, "name one of these rooms")
	if f.asked != "" {
		t.Errorf("asked %s", f.asked)
	}
}

// What a key for some rooms is shown is about these only.
func TestListsOfKey(t *testing.T) {
	f := newAPI(t)
	board := jid.MustParse("board" + at)
	f.grants = append(f.grants, component.LiveGrant{Room: board, Who: jid.MustParse("benvolio@meet.example.com"), JTI: "j9"})
	f.all = append(f.all, auth.Revocation{ID: "BOARD", JTI: "j9", Room: board.String()}, auth.Revocation{ID: "EVERYWHERE", JTI: "j8"})
	f.rooms = []component.RoomSummary{summaryOf("board" + at), summaryOf("standup" + at), summaryOf("[acme]x" + at), summaryOf("[other]standup" + at)}
	for path, want := range map[string][2]string{
		"/rooms":       {`"name":"standup"`, "board other"},
		"/grants":      {"romeo", "benvolio j9"},
		"/revocations": {`"id":"ID"`, "BOARD EVERYWHERE j8 j9"},
	} {
		w := f.call("acme", "GET", Base+path, "")
		wants(t, path, w, 200, want[0])
		for _, hidden := range strings.Fields(want[1]) {
			if strings.Contains(w.Body.String(), hidden) {
				t.Errorf("%s has %s: %s", path, hidden, w.Body)
			}
			if w := f.call("all", "GET", Base+path, ""); !strings.Contains(w.Body.String(), hidden) {
				t.Errorf("%s has not %s for all rooms: %s", path, hidden, w.Body)
			}
		}
	}
	for _, id := range []string{"BOARD", "EVERYWHERE", "X"} {
		f.asked = ""
		wants(t, "lift "+id, f.call("acme", "DELETE", Base+"/revocations/"+id, ""), 404, store.ErrNoRevocation.Error())
		if strings.HasPrefix(f.asked, "unrevoke") {
			t.Errorf("asked %s", f.asked)
		}
	}
	wants(t, "lift", f.call("acme", "DELETE", Base+"/revocations/ID", ""), 204, "")
}

// A breakout room has no tenant, whatever its main room is, so a key for the rooms without one is not shown it.
func TestBreakoutsAreHidden(t *testing.T) {
	f := newAPI(t)
	f.keys = append(f.keys, keyFor("plain", Scopes, "*"))
	breakout := summaryOf("9b2e@breakout.meet.example.com")
	f.rooms = []component.RoomSummary{breakout, summaryOf("standup" + at)}
	for _, r := range f.rooms {
		f.history.Add(component.Report{What: component.Decided, Room: r.Room, Name: r.Name, User: "user of " + r.Name, Verdict: auth.Allow})
	}
	for _, path := range []string{"/rooms", "/decisions"} {
		w := f.call("plain", "GET", Base+path, "")
		wants(t, path, w, 200, "standup")
		if strings.Contains(w.Body.String(), "9b2e") {
			t.Errorf("%s: %s", path, w.Body)
		}
		wants(t, path+" for all rooms", f.call("all", "GET", Base+path, ""), 200, "9b2e")
	}
}

// A key with a longest time makes no token, and no link, that is good for longer.
func TestMaxTTL(t *testing.T) {
	f := newAPI(t)
	f.keys[0].MaxTTL = 30 * time.Minute
	for _, tt := range []struct {
		path, body string
		status     int
		ttl        int64
	}{
		{"/tokens", `{"room":"standup"}`, 201, 1800},
		{"/tokens", `{"room":"standup","ttl":1800}`, 201, 1800},
		{"/tokens", `{"room":"standup","ttl":60,"not_before":"2030-01-31T12:29:00Z"}`, 201, 60},
		{"/tokens", `{"room":"standup","ttl":60,"not_before":"2030-01-31T12:29:01Z"}`, 403, 0},
		{"/tokens", `{"room":"standup","ttl":1,"not_before":"9999-12-31T23:59:59Z"}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":1,"not_before":"9999-12-31T23:59:58Z"}`, 403, 0},
		{"/tokens", `{"room":"standup","ttl":1801}`, 403, 0},
		{"/tokens", `{"room":"*","ttl":1801}`, 403, 0},
		{"/tokens", `{"room":"standup","ttl":0}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":-1}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":1.5}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":"1800"}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":18446744073709551617}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":9223372036854775807}`, 422, 0},
		{"/tokens", `{"room":"standup","ttl":1e18}`, 422, 0},
		{"/links", `{"room":"standup"}`, 201, 1800},
		{"/links", `{"room":"standup","link_ttl":1801}`, 403, 0},
		{"/links", `{"room":"standup","ttl":1801}`, 403, 0},
	} {
		f.mints = nil
		w := f.call("all", "POST", Base+tt.path, tt.body)
		if w.Code != tt.status || tt.status == 201 && f.mints[0].TTL != tt.ttl || tt.status != 201 && len(f.mints) > 0 {
			t.Errorf("%s %s: %d %s, %+v", tt.path, tt.body, w.Code, w.Body, f.mints)
		}
	}
}

// Bodies are what they seem to be, and errors repeat nothing of them.
func TestBodies(t *testing.T) {
	const planted = "eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0"
	f := newAPI(t)
	for what, body := range map[string]string{
		"unknown name": `{"room":"standup","` + planted + `":1}`, "wrong type": `{"room":["` + planted + `"]}`, "token as a name": `{"room":"standup","name":"` + planted + `"}`,
		"token as an issuer": `{"room":"standup","issuer":"` + planted + `"}`, "token as a virtual host": `{"room":"standup","vhost":"` + planted + `"}`,
		"token as from": `{"room":"standup","from":"` + planted + `"}`,
		"no object":     `["` + planted + `"]`, "no JSON": planted, "two objects": `{"room":"standup"}{"room":"` + planted + `"}`, "wrong enum": `{"room":"standup","affiliation":"` + planted + `"}`,
		"too long": `{"room":"standup","name":"` + strings.Repeat(planted, 1000) + `"}`, "token as room": `{"room":"` + planted + `"}`, "not UTF-8": "{\"room\":\"\xff" + planted + "\"}",
		"null": `{"room":"standup","name":null}`, "wrong time": `{"room":"standup","not_before":"` + planted + `"}`, "deep": `{"room":` + strings.Repeat("[", 10000) + `}`, "empty": ``,
	} {
		for _, path := range []string{"/tokens", "/links", "/revocations", "/tokens/explain"} {
			f.mints = nil
			w := f.call("all", "POST", Base+path, body)
			wants(t, path+", "+what, w, w.Code, "")
			if w.Code < 400 || w.Code >= 500 || strings.Contains(w.Body.String(), "eyJ") || len(f.mints) > 0 {
				t.Errorf("%s, %s: %d %s", path, what, w.Code, w.Body)
			}
		}
	}
	for _, path := range []string{"/rooms/" + planted, "/grants?room=" + planted, "/grants?" + planted + "=1", "/decisions?verdict=" + planted, "/revocations/" + planted} {
		method := "GET"
		if strings.HasPrefix(path, "/revocations") {
			method, f.err = "DELETE", store.ErrNoRevocation
		}
		if w := f.call("all", method, Base+path, ""); w.Code < 400 || strings.Contains(w.Body.String(), "eyJ") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		f.err = nil
	}
	for _, c := range f.calls {
		if text := fmt.Sprint(c); strings.Contains(text, "eyJ") || strings.Contains(text, "usher_") {
			t.Errorf("told of %s", text)
		}
	}
	wants(t, "another type", f.call("all", "POST", Base+"/tokens", `room=standup`, "Content-Type", "application/x-www-form-urlencoded"), 415,
		"send the body with the header Content-Type: application/json")
}

// A key may ask only so often, and a good key is heard whatever others do at its address.
func TestRate(t *testing.T) {
	f := newAPI(t, func(o *Options) { o.Rate = Rate{PerSecond: 1e-6, Burst: 3} })
	for n := range 5 {
		w := f.call("all", "GET", Base+"/usher", "")
		if want := map[bool]int{true: 200, false: 429}[n < 3]; w.Code != want || w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Errorf("call %d: %d %s", n, w.Code, w.Body)
		}
	}
	if c := f.last(); c.Key != "all" || c.Status != 429 {
		t.Errorf("told of %+v", c)
	}
	refused, told := 0, len(f.calls)
	for range 300 {
		if w := f.call("bob", "GET", Base+"/usher", ""); w.Code == 429 {
			refused++
		}
	}
	if told = len(f.calls) - told; refused == 0 || told != 300-refused {
		t.Errorf("300 calls with a wrong key: %d are refused, %d told of", refused, told)
	}
	wants(t, "a good key", f.call("acme", "GET", Base+"/usher", ""), 200, "")
}

func decided(address, who string, v auth.Verdict) component.Report {
	room, err := auth.ParseRoom(address)
	if err != nil {
		panic(err)
	}
	return component.Report{What: component.Decided, At: noon, Room: room.JID, Name: room.Name, Tenant: room.Tenant, Who: jid.MustParse(who),
		Verdict: v, Reason: auth.ReasonHost, Took: 1500 * time.Microsecond, Steps: []auth.Step{{Rule: "room", OK: true}}}
}

// Decisions come in pages, the newest first, and only those that the key may see.
func TestDecisions(t *testing.T) {
	f := newAPI(t)
	for n := range 7 {
		f.history.Add(decided("standup"+at, fmt.Sprintf("guest%d@guest.example.com/x", n), auth.Wait))
		f.history.Add(decided("board"+at, "benvolio@meet.example.com/x", auth.Deny))
		f.history.Add(component.Report{What: component.Joined, Room: jid.MustParse("standup" + at), Name: "standup"})
	}
	f.history.Add(component.Report{What: component.Decided, Reason: auth.ReasonRoomUnknown}) // of a room that cannot be read
	var seen []string
	for before := uint64(0); ; {
		var page decisionList
		w := f.call("acme", "GET", fmt.Sprintf("%s/decisions?limit=3&before=%d", Base, before), "")
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatal(w.Code, w.Body, err)
		}
		for _, d := range page.Decisions {
			seen = append(seen, d.Who)
			if d.Room != "standup"+at || d.Milliseconds != 1.5 || len(d.Steps) != 1 || strings.Contains(d.Who, "/") {
				t.Errorf("%+v", d)
			}
		}
		if before = page.Next; before == 0 {
			break
		}
	}
	if len(seen) != 7 || seen[0] != "guest6@guest.example.com" || seen[6] != "guest0@guest.example.com" {
		t.Errorf("%q", seen)
	}
	for query, want := range map[string]int{"": 15, "?room=board": 7, "?verdict=wait": 7, "?reason=room-unknown": 1, "?verdict=deny&room=standup": 0, "?limit=500": 15} {
		var page decisionList
		w := f.call("all", "GET", Base+"/decisions"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Decisions) != want {
			t.Errorf("%s: %d of %d: %s", query, len(page.Decisions), want, w.Body)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=501", "?limit=x", "?verdict=perhaps", "?before=-1", "?limit="} {
		if w := f.call("all", "GET", Base+"/decisions"+query, ""); w.Code != 422 && query != "?limit=" {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// heard is a stream that a client hears.
type heard struct {
	*bufio.Scanner
	close func()
}

// hear opens a stream with a key, and returns when it has begun.
func (f *fixture) hear(t *testing.T, base, key, query string, headers ...string) *heard {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	r, err := http.NewRequestWithContext(ctx, "GET", base+Base+"/decisions/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret(key))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(got, err)
	}
	l := &heard{bufio.NewScanner(got.Body), sync.OnceFunc(func() { cancel(); got.Body.Close() })}
	t.Cleanup(l.close)
	if !l.Scan() || l.Text() != ": usher" {
		t.Fatalf("%q", l.Text())
	}
	return l
}

// next returns the next line that begins so.
func (l *heard) next(t *testing.T, begins string) string {
	t.Helper()
	for l.Scan() {
		if rest, ok := strings.CutPrefix(l.Text(), begins); ok {
			return rest
		}
	}
	t.Fatalf("the stream ends before %s: %v", begins, l.Err())
	return ""
}

// The stream has what its key may see from now on, goes on after a cut, and ends with its key.
func TestStream(t *testing.T) {
	f := newAPI(t)
	server := httptest.NewServer(f)
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); server.Close() }) // after the streams
	f.history.Add(decided("standup"+at, "before@guest.example.com/x", auth.Wait))
	acme, all := f.hear(t, server.URL, "acme", ""), f.hear(t, server.URL, "all", "?verdict=deny")
	for n := range 3 {
		f.history.Add(decided("board"+at, fmt.Sprintf("benvolio%d@meet.example.com/x", n), auth.Deny))
		f.history.Add(decided("standup"+at, fmt.Sprintf("romeo%d@meet.example.com/x", n), auth.Allow))
	}
	var id string
	for n := range 3 {
		id = acme.next(t, "id: ")
		if data := acme.next(t, "data: "); !strings.Contains(data, fmt.Sprintf(`"who":"romeo%d@meet.example.com"`, n)) || strings.Contains(data, "\n") {
			t.Errorf("%s", data)
		}
		if data := all.next(t, "data: "); !strings.Contains(data, fmt.Sprintf(`"who":"benvolio%d@meet.example.com"`, n)) {
			t.Errorf("%s", data)
		}
	}
	acme.close()
	f.history.Add(decided("standup"+at, "meanwhile@meet.example.com/x", auth.Allow))
	again := f.hear(t, server.URL, "acme", "", "Last-Event-ID", id)
	if data := again.next(t, "data: "); !strings.Contains(data, "meanwhile@") {
		t.Errorf("%s", data)
	}
	// The key loses its rooms, so nothing more is said, not even about them.
	f.change(func() { f.keys = []Key{f.keys[0], keyFor("acme", Scopes, "board")} })
	f.history.Add(decided("standup"+at, "late@meet.example.com/x", auth.Allow))
	for again.Scan() {
		if strings.Contains(again.Text(), "late@") {
			t.Errorf("said after the key has changed: %s", again.Text())
		}
	}
	// A client that missed something is told.
	late := f.hear(t, server.URL, "all", "?after="+f.history.Name(1)+"&verdict=allow")
	for range 200 {
		f.history.Add(decided("standup"+at, "crowd@meet.example.com/x", auth.Deny))
	}
	late.close()
	missed := f.hear(t, server.URL, "all", "?after="+f.history.Name(1)+"&verdict=wait")
	if event := missed.next(t, "event: "); event != "missed" {
		t.Errorf("%s", event)
	}
	if data := missed.next(t, "data: "); !strings.HasPrefix(data, `{"missed":1`) {
		t.Errorf("%s", data)
	}
	f.change(func() { f.aside = true })
	f.history.Add(decided("standup"+at, "aside@meet.example.com/x", auth.Wait))
	for missed.Scan() {
		if strings.Contains(missed.Text(), "aside@") {
			t.Errorf("said while standing by: %s", missed.Text())
		}
	}
}

// A stream is told of when it begins.
func TestStreamIsToldOf(t *testing.T) {
	f := newAPI(t)
	server := httptest.NewServer(f)
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); server.CloseClientConnections(); server.Close() })
	stream := f.hear(t, server.URL, "all", "")
	if c := f.last(); c.Path != Base+"/decisions/stream" || c.Status != 200 || c.Key != "all" {
		t.Errorf("told of %+v", c)
	}
	f.history.Add(decided("standup"+at, "romeo@meet.example.com/x", auth.Allow))
	if data := stream.next(t, "data: "); !strings.Contains(data, "romeo@") {
		t.Errorf("%s", data)
	}
	stream.close()
	if told := len(f.calls); told != 1 {
		t.Errorf("told of %d calls", told)
	}
}

func TestStreamsAreFew(t *testing.T) {
	s := newStreams()
	for range maxStreamsOfKey {
		if !s.begin("all") {
			t.Fatal("too few")
		}
	}
	if s.begin("all") || !s.begin("acme") {
		t.Error("one key takes the streams of others, or too many")
	}
	s.end("all")
	if !s.begin("all") {
		t.Error("a stream that ended counts")
	}
	for n := range maxStreams {
		s.begin(fmt.Sprint("key", n))
	}
	if s.begin("one more") || s.open != maxStreams {
		t.Errorf("%d are open", s.open)
	}
}

// A client that sends its request slowly, or not at all, is hung up on, and streams end with usher.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("waits as long as slow clients may take")
	}
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	f := newAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx, taken, f, zap.NewNop()) }()
	l.Close() // while Run tries again
	eventually(t, "the API is answered", func() bool {
		c, err := net.Dial("tcp", taken)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for _, sends := range []string{"", "GET /api/v1/usher HTTP/1.1\r\nHost: x\r\nX-Slow: ", "POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret("all") + "\r\nContent-Length: 100\r\n\r\n{"} {
		c, err := net.Dial("tcp", taken)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err = io.WriteString(c, sends); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || bytes.Contains(got, []byte(" 20")) && !bytes.Contains(got, []byte(" 408")) {
			t.Errorf("%q: %s, %v", sends, got, err)
		}
	}
	stream := f.hear(t, "http://"+taken, "all", "")
	defer http.DefaultClient.CloseIdleConnections()
	cancel()
	for stream.Scan() {
	}
	<-done
}

// A bug in one call is no end of usher.
func TestPanic(t *testing.T) {
	f := newAPI(t, func(o *Options) { o.Mint = func(context.Context, MintRequest) (Minted, error) { panic("secret-text") } })
	w := f.call("all", "POST", Base+"/tokens", `{"room":"standup"}`)
	wants(t, "panic", w, 500, "bug")
	if strings.Contains(w.Body.String(), "secret-text") || f.last().Status != 500 {
		t.Errorf("%s, %+v", w.Body, f.last())
	}
	// What has begun is cut: nobody takes it for a whole answer.
	f = newAPI(t, func(o *Options) {
		o.Explain = func(context.Context, ExplainRequest) (Explanation, error) {
			return Explanation{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Steps: []auth.Step{}}, nil // which JSON cannot have
		}
	})
	defer func() {
		if fault := recover(); fault != http.ErrAbortHandler {
			t.Errorf("the server is told %v", fault)
		}
	}()
	t.Errorf("answered %s", f.call("all", "POST", Base+"/tokens/explain", `{"room":"standup"}`).Body)
}

// JSON has no times before the year 0 and after the year 9999, and a time of another zone may be one in UTC.
func TestTimesOutOfReach(t *testing.T) {
	f := newAPI(t)
	for _, at := range []string{"0000-01-01T00:00:00+12:00", "0000-06-01T00:00:00Z", "9999-12-31T23:59:59-12:00"} {
		wants(t, at, f.call("all", "POST", Base+"/tokens/explain", `{"room":"standup","at":"`+at+`"}`), 422, "body.at")
	}
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"room":"standup"}`, `{"room":"*"}`, `{"room":"[acme]x","ttl":60}`, `{"room":"standup","Room":"board"}`, `{"room":"%2A"}`, `{"room":"team-%2541"}`,
		`{"jti":"j1"}`, `{"issuer":"my_app","room":"board@conference.meet.example.com"}`, `{"room":"standup","link_ttl":60}`, `{"room":"standup@conference.meet.example.com"}`,
		`{"room":null}`, `{"room":"standup","not_before":"9999-12-31T23:59:59Z","ttl":315360000}`, `{"room":"\u202estandup"}`, "{\"room\":\"\xff\"}",
	} {
		f.Add(body)
	}
	covered := keyFor("acme", Scopes, "standup", "acme-*", "[acme]*")
	a := newAPI(f)
	f.Fuzz(func(t *testing.T, body string) {
		a.change(func() { a.calls = nil })
		for _, path := range []string{"/tokens", "/links", "/tokens/explain", "/revocations"} {
			a.asked, a.mints = "", nil
			w := a.call("acme", "POST", Base+path, body)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			for _, m := range a.mints {
				room, err := auth.ParseRoomName(m.Room)
				if err != nil || m.Room == "*" || !covered.covers(room) {
					t.Fatalf("%s: minted for %q", path, m.Room)
				}
			}
			if strings.HasPrefix(a.asked, "revoke") && !strings.Contains(a.asked, "Room:standup@") && !strings.Contains(a.asked, "Room:acme-") && !strings.Contains(a.asked, "Room:[acme]") {
				t.Fatalf("%s: %s", path, a.asked)
			}
		}
	})
}

// However a room is spelled in a path, a key for some rooms reaches no other.
func FuzzPaths(f *testing.F) {
	for _, room := range []string{
		"standup", "%2573tandup", "[acme]x", "[other]standup", "board", "..", "%2e%2e", "standup%00", "standup%2Flock", "STANDUP%40conference.meet.example.com",
		"standup@conference.meet.example.com%2Fnick", "standup@conference.acme.meet.example.com", "%5Bacme%5Dboard", "[acme]%255Bother%255Dx", "%ff", "st%C2%ADandup", "ｓｔａｎｄｕｐ", "acme-%252f",
	} {
		f.Add("GET", "/rooms/"+room, "")
		f.Add("DELETE", "/rooms/"+room+"/occupants/romeo@meet.example.com", "bar=true")
		f.Add("POST", "/rooms/"+room+"/lock", "")
		f.Add("GET", "/grants", "room="+room)
		f.Add("GET", "/decisions", "room="+room)
	}
	covered := keyFor("acme", Scopes, "standup", "acme-*", "[acme]*")
	a := newAPI(f)
	f.Fuzz(func(t *testing.T, method, path, query string) {
		if path == "/decisions/stream" {
			return // which has no end
		}
		r, err := http.NewRequest(method, "http://x"+Base+path, nil)
		if err != nil {
			return
		}
		r.URL.RawQuery = query
		r.Header.Set("Authorization", "Bearer "+secret("acme"))
		a.change(func() { a.calls, a.asked = nil, "" })
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %s?%s: %d %s", method, path, query, w.Code, w.Body)
		}
		for _, word := range strings.Fields(a.asked) {
			address, isRoom := strings.CutSuffix(strings.Trim(word, `"`), at)
			if !isRoom {
				continue
			}
			if room, err := auth.ParseRoom(address + at); err != nil || !covered.covers(room) {
				t.Fatalf("%s %s?%s: asked %s", method, path, query, a.asked)
			}
		}
	})
}
