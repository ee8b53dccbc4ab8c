package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
)

// newMiro returns an API with MiroTalk's calls, and the keys "all", "acme" (some rooms) and "reader" (sees rooms).
func newMiro(t testing.TB, change ...func(*Options)) (*fixture, *accounts) {
	t.Helper()
	f, a := newLogin(t, append([]func(*Options){func(o *Options) { o.MiroTalk = true }}, change...)...)
	f.keys = append(f.keys, keyFor("reader", []Scope{ScopeRoomsRead}))
	f.rooms = []component.RoomSummary{summaryOf("standup" + at), summaryOf("[other]board" + at), {Room: jid.MustParse("later" + at), Name: "later", Waiting: 2}}
	f.rooms[1].Members, f.rooms[1].Guests = 2, 3
	f.view = component.RoomView{RoomSummary: f.rooms[0], Occupants: []component.Occupant{
		{Who: jid.MustParse("1a2b@meet.example.com"), As: "host", User: "juliet", Inside: true},
		{Who: jid.MustParse("3c4d@guest.example.com"), As: "guest", Inside: true},
		{Who: jid.MustParse("5e6f@guest.example.com"), As: "guest"},
		{Who: jid.MustParse("rec@recorder.meet.example.com"), As: "service", Inside: true},
	}}
	return f, a
}

// miro makes a call as MiroTalk's examples do: the key is in the header as it is.
func (f *fixture) miro(key, method, path, body string) *httptest.ResponseRecorder {
	var headers []string
	if key != "" {
		headers = []string{"authorization", secret(key), "Content-Type", "application/json"}
	}
	return f.call("", method, path, body, headers...)
}

// says fails unless an answer has a status and exactly this JSON, or begins with it where that ends with an ellipsis.
func says(t testing.TB, what string, w *httptest.ResponseRecorder, status int, want string) {
	t.Helper()
	got := strings.TrimSpace(w.Body.String())
	begin, open := strings.CutSuffix(want, "…")
	if w.Code != status || !open && got != want || !strings.HasPrefix(got, begin) || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: %d %s\nwant %d %s", what, w.Code, got, status, want)
	}
}

const asJuliet = `"username":"juliet","password":"` + password + `"`

// MiroTalk's POST /token, but the password is checked, the token is for one room, and its life is capped.
func TestParityRESTToken(t *testing.T) {
	for _, tt := range []struct {
		body   string
		status int
		want   string
		asked  LoginRequest
	}{
		{`{` + asJuliet + `,"presenter":"true","expire":"1h"}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "owner", TTL: time.Hour}},
		{`{` + asJuliet + `,"presenter":true}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "owner"}},
		{`{` + asJuliet + `,"presenter":1,"expire":90}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "owner", TTL: 90 * time.Second}},
		{`{` + asJuliet + `}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "member"}},
		{`{` + asJuliet + `,"presenter":"yes","expire":"2 days","room":"Standup","more":[1]}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "member", TTL: 48 * time.Hour, Room: "standup"}},
		{`{"username":"nurse","password":"` + password + `"}`, 400, `{"error":"room: name it, because a token is for one room…`, LoginRequest{Affiliation: "member"}},
		{`{"username":"nurse","password":"` + password + `","room":"[acme]x"}`, 200, `{"token":"eyJ…`, LoginRequest{Affiliation: "member", Room: "[acme]x"}},
		{`{` + asJuliet + `,"room":"forbidden"}`, 403, `{"error":"` + ErrNotRoom.Error() + `"}`, LoginRequest{Affiliation: "member", Room: "forbidden"}},
		{`{"username":"juliet","password":"password","presenter":true}`, 401, `{"error":"unauthorized"}`, LoginRequest{Affiliation: "owner"}},
		{`{` + asJuliet + `,"expire":"soon"}`, 400, `{"error":"expire: say how long…`, LoginRequest{}},
		{`{` + asJuliet + `,"room":"a@b"}`, 404, `{"error":"…`, LoginRequest{}},
		{`{"presenter":true}`, 400, `{"error":"Missing username or password"}`, LoginRequest{}},
		{`{"username":"juliet","password":false}`, 400, `{"error":"Missing username or password"}`, LoginRequest{}},
		{``, 400, `{"error":"Missing username or password"}`, LoginRequest{}},
		{`{"username":"juliet","password":"x","password":"y"}`, 400, `{"error":"the body must…`, LoginRequest{}},
		{`[]`, 400, `{"error":"the body must…`, LoginRequest{}},
		{`{"x":"` + strings.Repeat("x", maxRequest) + `"}`, 413, `{"error":"` + errTooLong.Error() + `"}`, LoginRequest{}},
	} {
		f, a := newMiro(t)
		says(t, tt.body, f.miro("all", "POST", Base+"/token", tt.body), tt.status, tt.want)
		if tt.asked == (LoginRequest{}) != (len(a.asked) == 0) {
			t.Errorf("%s: asked %+v", tt.body, a.asked)
			continue
		}
		if len(a.asked) > 0 {
			r := a.asked[0]
			if r.Affiliation != tt.asked.Affiliation || r.TTL != tt.asked.TTL || r.Room != tt.asked.Room {
				t.Errorf("%s: asked %+v", tt.body, r)
			}
		}
		c := f.last()
		if c.Status != tt.status || c.Key != "all" || c.Path != Base+"/token" || strings.Contains(fmt.Sprint(c), "eyJ") || strings.Contains(fmt.Sprint(c), password) {
			t.Errorf("%s: told of %+v", tt.body, c)
		}
	}
}

// A token is valid for no longer than the key may have it, whatever is asked for.
func TestMiroTalkLifetimes(t *testing.T) {
	f, a := newMiro(t)
	f.keys[0].MaxTTL = 30 * time.Minute
	for body, want := range map[string]time.Duration{
		`{` + asJuliet + `}`:                 30 * time.Minute,
		`{` + asJuliet + `,"expire":"10y"}`:  30 * time.Minute,
		`{` + asJuliet + `,"expire":"5m"}`:   5 * time.Minute,
		`{` + asJuliet + `,"expire":"5000"}`: 5 * time.Second,
	} {
		a.asked = nil
		if w := f.miro("all", "POST", Base+"/token", body); w.Code != 200 || a.asked[0].TTL != want {
			t.Errorf("%s: %d %s, %+v", body, w.Code, w.Body, a.asked)
		}
	}
}

// A script is known once it has logged somebody in, by its key: what others try does not slow it down.
func TestMiroTalkDevices(t *testing.T) {
	f, a := newMiro(t)
	for _, tt := range []struct{ key, path, body, want string }{
		{"all", "/token", `{"username":"juliet","password":"wrong"}`, ""},
		{"all", "/token", `{` + asJuliet + `}`, ""},
		{"all", "/token", `{` + asJuliet + `}`, "device of juliet"},
		{"all", "/join", `{"room":"x","token":{` + asJuliet + `}}`, "device of juliet"},
		{"all", "/token", `{"username":"romeo","password":"` + password + `","room":"x"}`, ""},
		{"acme", "/token", `{` + asJuliet + `,"room":"standup"}`, ""},
	} {
		a.asked = nil
		if w := f.miro(tt.key, "POST", Base+tt.path, tt.body); len(a.asked) != 1 || a.asked[0].Device != tt.want || strings.Contains(w.Body.String(), "device") {
			t.Errorf("%s %s: %d %s, asked %+v", tt.key, tt.body, w.Code, w.Body, a.asked)
		}
	}
	var d devices
	for n := range maxDevices + 10 {
		d.keep(&f.keys[0], fmt.Sprint(n), "x")
	}
	if len(d.known) != 10 {
		t.Errorf("%d are remembered", len(d.known))
	}
}

// MiroTalk's POST /join makes a link of jitsi-meet, with its media settings, and with a token for a right password.
func TestParityRESTJoin(t *testing.T) {
	const token, example = "eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.", `"roomPassword":false,"name":"Juliet","avatar":false,"audio":false,"video":true,"screen":false,"chat":false,"hide":false,"notify":true`
	for _, tt := range []struct {
		key, body string
		status    int
		want      string
	}{
		{"all", `{"room":"test",` + example + `,"duration":"unlimited","token":{` + asJuliet + `,"presenter":true,"expire":"1h"}}`, 200,
			`{"join":"https://meet.example.com/test?jwt=` + token + `test#config.startWithAudioMuted=true&config.startWithVideoMuted=false&config.prejoinConfig.enabled=false"}`},
		{"all", `{"room":"[acme]My%20Room",` + example + `}`, 200,
			`{"join":"https://meet.example.com/acme/my%20room#config.startWithAudioMuted=true&config.startWithVideoMuted=false&userInfo.displayName=%22Juliet%22&config.prejoinConfig.enabled=false"}`},
		{"all", `{"room":"test","screen":1,"hide":"1","audio":"true"}`, 200,
			`{"join":"https://meet.example.com/test#config.startWithAudioMuted=false&config.startWithVideoMuted=true&config.startScreenSharing=true&config.disableSelfView=true"}`},
		{"all", `{"room":"test","token":{"username":"juliet","password":"wrong"}}`, 401, `{"error":"unauthorized"}`},
		{"all", `{"room":"test","token":{}}`, 400, `{"error":"Missing username or password"}`},
		{"all", `{"room":"test","token":false}`, 200, `{"join":"https://meet.example.com/test#…`},
		{"all", `{"room":"forbidden","token":{` + asJuliet + `}}`, 403, `{"error":"` + ErrNotRoom.Error() + `"}`},
		{"all", `{"room":"a b"}`, 200, `{"join":"https://meet.example.com/a%20b#…`},
		{"all", `{"room":"*"}`, 200, `{"join":"https://meet.example.com/%2A#…`}, // which is a name, and not every room
		{"all", `{"room":"../evil"}`, 200, `{"join":"https://meet.example.com/..%2Fevil#…`},
		{"acme", `{"room":"acme-1"}`, 200, `{"join":"https://meet.example.com/acme-1#…`},
		{"acme", `{"room":"board"}`, 403, `{"error":"the key acme is not for this room…`},
	} {
		f, _ := newMiro(t)
		says(t, tt.body, f.miro(tt.key, "POST", Base+"/join", tt.body), tt.status, tt.want)
	}
	// A room that is not named is a new one, and a duration ends the token.
	f, a := newMiro(t)
	for key, want := range map[string]string{"all": `^https://meet\.example\.com/[a-z2-7]{26}#`, "acme": `^https://meet\.example\.com/acme-[a-z2-7]{26}#`} {
		var got struct{ Join string }
		w := f.miro(key, "POST", Base+"/join", `{}`)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || !regexp.MustCompile(want).MatchString(got.Join) {
			t.Errorf("%s: %s", key, w.Body)
		}
	}
	f.miro("all", "POST", Base+"/join", `{"room":"test","duration":"00:10:00","token":{`+asJuliet+`,"expire":"1h"}}`)
	if len(a.asked) != 1 || a.asked[0].TTL != 10*time.Minute || a.asked[0].Room != "test" {
		t.Errorf("asked %+v", a.asked)
	}
	f, _ = newMiro(t, func(o *Options) { o.MeetURL = "" })
	says(t, "no meet_url", f.miro("all", "POST", Base+"/join", `{"room":"test"}`), 400, `{"error":"this usher makes no links…`)
}

// MiroTalk's POST /meeting makes a link to a new room, which the key is for.
func TestParityRESTMeeting(t *testing.T) {
	f, _ := newMiro(t)
	f.keys = append(f.keys, keyFor("shop", Scopes, "[shop]sale-*"), keyFor("all-rooms", Scopes, "[*]*"), keyFor("one", Scopes, "board"))
	for key, want := range map[string]string{
		"all": `/[a-z2-7]{26}`, "acme": `/acme-[a-z2-7]{26}`, "shop": `/shop/sale-[a-z2-7]{26}`, "all-rooms": `/[a-z2-7]{26}`,
	} {
		w := f.miro(key, "POST", Base+"/meeting", "")
		if !regexp.MustCompile(`^\{"meeting":"https://meet\.example\.com`+want+`"\}\s*$`).MatchString(w.Body.String()) || w.Code != 200 {
			t.Errorf("%s: %d %s", key, w.Code, w.Body)
		}
	}
	says(t, "one room", f.miro("one", "POST", Base+"/meeting", ""), 403, `{"error":"the key one is not for this room…`)
}

// MiroTalk's GET /meetings and /stats list open rooms and count people, as far as the key sees them.
func TestParityRESTMeetings(t *testing.T) {
	f, _ := newMiro(t)
	const standup = `{"roomId":"standup","peers":[{"name":"juliet","presenter":true},{"name":"3c4d","presenter":false}]}`
	says(t, "meetings", f.miro("acme", "GET", Base+"/meetings", ""), 200, `{"meetings":[`+standup+`]}`)
	says(t, "meetings of all", f.miro("all", "GET", Base+"/meetings", ""), 200, `{"meetings":[`+standup+`,{"roomId":"[other]board"…`)
	says(t, "stats", f.miro("reader", "GET", Base+"/stats", ""), 200,
		`{"success":true,"timestamp":"2030-01-31T12:00:00.000Z","totalPeers":7,"totalRooms":2,"totalUsers":7}`)
	says(t, "stats of some rooms", f.miro("acme", "GET", Base+"/stats", ""), 200, `{"success":true,"timestamp":"2030-01-31T12:00:00.000Z","totalPeers":1,"totalRooms":1,"totalUsers":1}`)
	f.rooms = nil
	says(t, "no room", f.miro("all", "GET", Base+"/meetings", ""), 200, `{"meetings":[]}`)
	f.rooms, f.err = []component.RoomSummary{summaryOf("standup" + at)}, component.ErrNoRoom
	says(t, "a room that has ended", f.miro("all", "GET", Base+"/meetings", ""), 200, `{"meetings":[]}`)
}

// MiroTalk's DELETE /meeting/:room ends a room.
func TestParityEndMeeting(t *testing.T) {
	for _, tt := range []struct {
		key, room string
		err       error
		status    int
		want      string
	}{
		{"all", "standup", nil, 200, `{"message":"Meeting ended","room":"standup","success":true}`},
		{"all", "%5Bacme%5Dstandup", nil, 200, `{"message":"Meeting ended","room":"[acme]standup","success":true}`},
		{"all", "standup", component.ErrNoRoom, 404, `{"error":"Room not found","success":false}`},
		{"all", "a%20b", nil, 404, `{"error":"Room not found","success":false}`},
		{"acme", "board", nil, 403, `{"error":"the key acme is not for this room…`},
		{"reader", "standup", nil, 403, `{"error":"` + miroDisabled + `","success":false}`},
		{"all", "standup", errors.New("dial 10.0.0.5:6379"), 503, `{"error":"` + textUnable + `","success":false}`},
	} {
		f, _ := newMiro(t)
		f.err = tt.err
		says(t, tt.room, f.miro(tt.key, "DELETE", Base+"/meeting/"+tt.room, `{"redirect":"https://example.com"}`), tt.status, tt.want)
		if asked := strings.HasPrefix(f.asked, "end "); asked != (tt.status == 200 || tt.err != nil) {
			t.Errorf("%s: asked %q", tt.room, f.asked)
		}
	}
	f, _ := newMiro(t)
	says(t, "no body", f.miro("all", "DELETE", Base+"/meeting/standup", ""), 200, `{"message":"Meeting ended","room":"standup","success":true}`)
}

// MiroTalk's POST /isRoomActive, but only for a key, and only for its rooms.
func TestParityRoomActive(t *testing.T) {
	for _, tt := range []struct {
		key, body string
		status    int
		want      string
	}{
		{"reader", `{"roomId":"standup"}`, 200, `{"message":true}`},
		{"reader", `{"roomId":"STANDUP"}`, 200, `{"message":true}`},
		{"reader", `{"roomId":"[other]board"}`, 200, `{"message":true}`},
		{"reader", `{"roomId":"later"}`, 200, `{"message":false}`},
		{"reader", `{"roomId":"nothing"}`, 200, `{"message":false}`},
		{"reader", `{"roomId":"a b"}`, 200, `{"message":false}`},
		{"reader", `{}`, 400, `{"message":"Unauthorized"}`},
		{"acme", `{"roomId":"board"}`, 403, `{"message":"the key acme is not for this room…`},
		{"", `{"roomId":"standup"}`, 400, `{"message":"Unauthorized"}`},
		{"bob", `{"roomId":"standup"}`, 400, `{"message":"Unauthorized"}`},
	} {
		f, _ := newMiro(t)
		says(t, tt.body, f.miro(tt.key, "POST", "/isRoomActive", tt.body), tt.status, tt.want)
	}
}

// MiroTalk's POST /login with its status codes. It needs no key.
func TestParityLoginStatuses(t *testing.T) {
	for _, tt := range []struct {
		body   string
		err    error
		status int
		want   string
	}{
		{`{` + asJuliet + `}`, nil, 200, `{"allowedRooms":["standup"],"displayname":"Juliet","message":"eyJ…`},
		{`{"username":"nurse","password":"` + password + `"}`, nil, 200, `{"allowedRooms":["*"],"displayname":"Nurse","message":""}`},
		{`{"username":"nurse","password":"` + password + `","room":"standup"}`, nil, 200, `{"allowedRooms":["*"],"displayname":"Nurse","message":"eyJ…`},
		{`{"username":"juliet"}`, nil, 400, `{"message":"Missing username or password"}`},
		{`{"username":"","password":""}`, nil, 400, `{"message":"Missing username or password"}`},
		{`{"username":"juliet","password":"wrong"}`, nil, 401, `{"message":"unauthorized"}`},
		{`{"username":"nobody","password":"` + password + `"}`, nil, 401, `{"message":"unauthorized"}`},
		{`{` + asJuliet + `}`, &TooManyError{90 * time.Second}, 429, `{"message":"Too many login attempts. Please try again after 2 minutes."}`},
		{`{` + asJuliet + `}`, &TooManyError{time.Second}, 429, `{"message":"Too many login attempts. Please try again after 1 minute."}`},
		{`{` + asJuliet + `}`, errors.New("dial 10.0.0.5:6379"), 503, `{"message":"` + textUnable + `"}`},
		{`username=juliet&password=x`, nil, 400, `{"message":"the body must…`},
	} {
		f, a := newMiro(t)
		a.err = tt.err
		w := f.miro("", "POST", "/login", tt.body)
		says(t, tt.body, w, tt.status, tt.want)
		if (w.Header().Get("Retry-After") != "") != (w.Code == 429 || w.Code == 503) {
			t.Errorf("%s: Retry-After is %q", tt.body, w.Header().Get("Retry-After"))
		}
		for _, r := range a.asked {
			if r.Affiliation != "" || r.Remote.String() != "192.0.2.1" {
				t.Errorf("%s: asked %+v", tt.body, r)
			}
		}
		if c := f.last(); c.Status != tt.status || c.Path != "/login" {
			t.Errorf("%s: told of %+v", tt.body, c)
		}
	}
}

// What MiroTalk switches for each endpoint, the scopes of a key switch here, with the same answer.
func TestParityEndpointSwitches(t *testing.T) {
	calls := []struct {
		method, path, body string
		needs              Scope
	}{
		{"POST", Base + "/token", `{` + asJuliet + `}`, ScopeTokens},
		{"POST", Base + "/join", `{"room":"standup"}`, ScopeLinks},
		{"POST", Base + "/meeting", "", ScopeLinks},
		{"GET", Base + "/meetings", "", ScopeRoomsRead},
		{"GET", Base + "/stats", "", ScopeRoomsRead},
		{"DELETE", Base + "/meeting/standup", "", ScopeRoomsWrite},
		{"POST", "/isRoomActive", `{"roomId":"standup"}`, ScopeRoomsRead},
	}
	f, a := newMiro(t)
	expired := keyFor("old", Scopes)
	expired.Expires = noon
	f.keys = append(f.keys, expired)
	for _, scope := range Scopes {
		f.keys = append(f.keys, keyFor(string(scope), []Scope{scope}))
	}
	for _, c := range calls {
		for _, scope := range Scopes {
			w := f.miro(string(scope), c.method, c.path, c.body)
			if scope == c.needs {
				if w.Code != 200 {
					t.Errorf("%s with %s: %d %s", c.path, scope, w.Code, w.Body)
				}
			} else if w.Code != 403 || !strings.Contains(w.Body.String(), miroDisabled) {
				t.Errorf("%s with %s: %d %s", c.path, scope, w.Code, w.Body)
			}
		}
		for _, key := range []string{"", "bob", "old"} {
			if w := f.miro(key, c.method, c.path, c.body); c.path != "/isRoomActive" && (w.Code != 403 || !strings.Contains(w.Body.String(), `"error":"Unauthorized!"`)) {
				t.Errorf("%s with the key %q: %d %s", c.path, key, w.Code, w.Body)
			}
		}
		// The key of the API's own calls works, too, and two keys are none.
		if w := f.call("all", c.method, c.path, c.body); w.Code != 200 {
			t.Errorf("%s as the API has it: %d %s", c.path, w.Code, w.Body)
		}
		if w := f.call("all", c.method, c.path, c.body, "Authorization", secret("all")); w.Code == 200 {
			t.Errorf("%s with two keys: %d %s", c.path, w.Code, w.Body)
		}
	}
	a.asked = nil
	says(t, "a link with a token", f.miro("links", "POST", Base+"/join", `{"room":"standup","token":{`+asJuliet+`}}`), 403, `{"error":"`+miroDisabled+`"}`)
	f.change(func() { f.aside = true })
	for _, c := range calls {
		if w := f.miro("all", c.method, c.path, c.body); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s while standing by: %d %s", c.path, w.Code, w.Body)
		}
	}
	if len(a.asked) > 0 {
		t.Errorf("asked %+v", a.asked)
	}
}

// Without its switch, and on the socket, there is nothing of MiroTalk.
func TestMiroTalkIsOff(t *testing.T) {
	f, a := newLogin(t)
	o := f.options()
	o.Login, o.MiroTalk = a.login, true
	local := &fixture{usher: f.usher, Handler: Local(o)}
	for _, path := range []string{Base + "/token", Base + "/join", Base + "/meeting", "/isRoomActive", "/login"} {
		for what, g := range map[string]*fixture{"off": f, "socket": local} {
			if w := g.miro("all", "POST", path, `{}`); w.Code != 404 {
				t.Errorf("%s, %s: %d %s", what, path, w.Code, w.Body)
			}
		}
	}
}

// Strangers are slowed down.
func TestMiroTalkStrangers(t *testing.T) {
	f, _ := newMiro(t)
	refused := 0
	for range 300 {
		if w := f.miro("bob", "POST", Base+"/token", `{}`); w.Code == 429 && w.Header().Get("Retry-After") != "" {
			refused++
		}
	}
	if refused < 200 {
		t.Errorf("%d of 300 are refused", refused)
	}
}

// Whatever a script sends, a key for some rooms reaches no other, no link leads elsewhere, and nothing is a bug.
func FuzzMiroTalk(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `{"room":"standup","token":{` + asJuliet + `,"presenter":true,"expire":"1h"}}`, `{"room":"board"}`, `{"room":"%62oard"}`, `{"room":"[acme]x","name":"a\"&config.x=1"}`,
		`{"room":"//evil.example.com"}`, `{"room":"standup@conference.meet.example.com","audio":1}`, `{"room":null,"token":null}`, `{"roomId":"board"}`, `{"roomId":12}`, `{"expire":1e99,` + asJuliet + `,"room":"standup"}`,
		`{"username":"juliet","password":"x","room":"%2e%2e","ttl":1,"device":"x"}`, `{"room":"..","duration":"99:59:59"}`, "{\"room\":\"\xff\"}", `{"room":"[*]*"}`, `{"room":"*"}`,
	} {
		f.Add(body)
	}
	covered := keyFor("acme", Scopes, "standup", "acme-*", "[acme]*")
	var asked []LoginRequest
	a, _ := newMiro(f, func(o *Options) {
		login := o.Login
		o.Login = func(ctx context.Context, r LoginRequest) (LoggedIn, error) {
			asked = append(asked, r)
			return login(ctx, r)
		}
	})
	f.Fuzz(func(t *testing.T, body string) {
		a.change(func() { a.calls, asked = nil, nil })
		for _, call := range []string{"POST " + Base + "/token", "POST " + Base + "/join", "POST " + Base + "/meeting", "DELETE " + Base + "/meeting/standup", "POST /isRoomActive", "POST /login", "POST " + Base + "/login"} {
			method, path, _ := strings.Cut(call, " ")
			asked = nil
			w := a.miro("acme", method, path, body)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			for _, r := range asked {
				room, err := auth.ParseRoomName(r.Room)
				if !strings.HasSuffix(path, "/login") && (err != nil || !covered.covers(room)) || r.Password == "" || r.TTL < 0 {
					t.Fatalf("%s: asked %+v", path, r)
				}
			}
			var got struct{ Join, Meeting string }
			if w.Code == 200 && json.Unmarshal(w.Body.Bytes(), &got) == nil && got.Join+got.Meeting != "" {
				if at, err := url.Parse(got.Join + got.Meeting); err != nil || at.Scheme != "https" || at.Host != "meet.example.com" || at.User != nil {
					t.Fatalf("%s: leads to %s", path, w.Body)
				}
			}
		}
	})
}
