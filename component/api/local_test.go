package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// *component.Component is what the API is for.
var _ Usher = (*component.Component)(nil)

// What the commands grants, revoke and revocations ask.
func TestCommands(t *testing.T) {
	const grant1 = `{"room":"standup@conference.meet.example.com","who":"romeo@meet.example.com","affiliation":"owner","reason":"host","issuer":"my_app",` +
		`"jti":"j1","user":"u1","at":"2030-01-31T12:00:00Z","expires":"2030-01-31T13:00:00Z","remove_at":"2030-01-31T14:00:00Z"}`
	const grant2 = `{"room":"standup@conference.meet.example.com","who":"juliet@guest.example.com","affiliation":"member","reason":"guest","at":"2030-01-31T12:00:00Z"}`
	for name, tt := range map[string]struct {
		method, path, body string
		err                error // of usher
		standsBy           bool
		status             int
		want, asked        string
	}{
		"status":            {path: Base + "/usher", status: 200, want: `{"active":true,"domain":"focus.meet.example.com","version":"v1"}`},
		"status, aside":     {path: Base + "/usher", standsBy: true, status: 200, want: `{"active":false,"domain":"focus.meet.example.com","version":"v1"}`},
		"grants":            {path: Base + "/grants", status: 200, want: `{"grants":[` + grant1 + `,` + grant2 + `]}`, asked: `grants ""`},
		"grants of one":     {path: Base + "/grants?room=Standup", status: 200, want: `{"grants":[` + grant1 + `,` + grant2 + `]}`, asked: `grants "standup@conference.meet.example.com"`},
		"grants of no room": {path: Base + "/grants?room=a%40b", err: component.ErrRoom, status: 404, want: component.ErrRoom.Error()},
		"grants, aside":     {path: Base + "/grants", standsBy: true, status: 503, want: errStandsBy.Error()},
		"revoke, aside":     {method: "POST", path: Base + "/revocations", body: `{"jti":"j"}`, standsBy: true, status: 503, want: errStandsBy.Error()},
		"revocations":       {path: Base + "/revocations", status: 200, want: `{"revocations":[{"id":"ID","jti":"j1","at":"2030-01-31T12:00:00Z","room":"standup@conference.meet.example.com","reason":"lost <phone>"}]}`, asked: "revocations"},
		"some are wrong":    {path: Base + "/revocations", err: store.ErrUnreadableRevocation, status: 200, want: `{"revocations":[{"id":"ID","jti":"j1","at":"2030-01-31T12:00:00Z","room":"standup@conference.meet.example.com","reason":"lost <phone>"}],"warning":"` + store.ErrUnreadableRevocation.Error() + `"}`},
		"no store":          {path: Base + "/revocations", err: errors.New("no\x1b[2J answer"), status: 503, want: "no�[2J answer"},
		"revoke": {method: "POST", path: Base + "/revocations", body: `{"jti":"j1","sub":"s","user":"u","issuer":"i","before":"2030-01-31T11:00:00+01:00","until":"2030-02-01T12:00:00Z","room":"r@b","reason":"why"}`, status: 200,
			want: `{"revocation":{"id":"ID","jti":"j1","sub":"s","user":"u","issuer":"i","before":"2030-01-31T11:00:00+01:00","at":"2030-01-31T12:00:00Z","until":"2030-02-01T12:00:00Z","room":"r@b","reason":"why"},"out":[` + grant1 + `],"spared":[` + grant2 + `],"refuses":"2030-01-31T11:05:00+01:00",` +
				`"notes":["no issuer of the configuration has the name i (app_id); it has my_app, portal. Lift this revocation if it is a mistake"]}`},
		"revoke in the future": {method: "POST", path: Base + "/revocations", body: `{"issuer":"portal","before":"2030-01-31T12:00:01Z"}`, status: 200,
			want: `{"revocation":{"id":"ID","issuer":"portal","before":"2030-01-31T12:00:01Z","at":"2030-01-31T12:00:00Z"},"out":[` + grant1 + `],"spared":[` + grant2 + `],` +
				`"refuses":"2030-01-31T12:05:01Z","notes":["the time lies in the future, so tokens that are issued until then are refused, too"]}`},
		"revoke, untold": {method: "POST", path: Base + "/revocations", body: `{"jti":"j1"}`, err: store.ErrUntold, status: 200,
			want: `{"revocation":{"id":"ID","jti":"j1","at":"2030-01-31T12:00:00Z"},"out":[` + grant1 + `],"spared":[` + grant2 + `],"warning":"` + store.ErrUntold.Error() + `"}`},
		"revoke nothing":    {method: "POST", path: Base + "/revocations", body: `{}`, err: store.ErrRevocation, status: 400, want: store.ErrRevocation.Error()},
		"a field twice":     {method: "POST", path: Base + "/revocations", body: `{"jti":"a","jti":"b"}`, status: 400},
		"another spelling":  {method: "POST", path: Base + "/revocations", body: `{"jti":"a","Room":"r@b"}`, status: 422},
		"an unknown field":  {method: "POST", path: Base + "/revocations", body: `{"jti":"a","rooms":"r@b"}`, status: 422},
		"an id of its own":  {method: "POST", path: Base + "/revocations", body: `{"jti":"a","id":"x"}`, status: 422},
		"a number":          {method: "POST", path: Base + "/revocations", body: `{"jti":1}`, status: 422},
		"null":              {method: "POST", path: Base + "/revocations", body: `{"jti":"a","room":null}`, status: 400},
		"no time":           {method: "POST", path: Base + "/revocations", body: `{"jti":"a","before":"yesterday"}`, status: 422},
		"an empty jti":      {method: "POST", path: Base + "/revocations", body: `{"jti":"","issuer":"i"}`, status: 400, want: errEmpty.Error()},
		"an empty room":     {method: "POST", path: Base + "/revocations", body: `{"jti":"a","room":""}`, status: 400},
		"an empty time":     {method: "POST", path: Base + "/revocations", body: `{"jti":"a","before":""}`, status: 400},
		"a zero time":       {method: "POST", path: Base + "/revocations", body: `{"jti":"a","before":"0001-01-01T00:00:00Z"}`, status: 422},
		"two objects":       {method: "POST", path: Base + "/revocations", body: `{"jti":"a"}{}`, status: 400},
		"no JSON":           {method: "POST", path: Base + "/revocations", body: `jti=a`, status: 400},
		"too long":          {method: "POST", path: Base + "/revocations", body: `{"jti":"` + strings.Repeat("x", maxRequest) + `"}`, status: 413},
		"a token":           {method: "POST", path: Base + "/revocations", body: `{"jti":"eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0"}`, status: 400, want: errToken.Error()},
		"a link":            {method: "POST", path: Base + "/revocations", body: `{"jti":"https://meet.example.com/standup?jwt=eyJhbGciOiJIUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0"}`, status: 400, want: errToken.Error()},
		"a link's end":      {method: "POST", path: Base + "/revocations", body: `{"jti":"https://meet.example.com/standup#jwt=x"}`, status: 400, want: errToken.Error()},
		"a jti with dots":   {method: "POST", path: Base + "/revocations", body: `{"jti":"https://idp.example.com/t/7.1.2"}`, status: 200},
		"lift":              {method: "DELETE", path: Base + "/revocations/ID", status: 204, asked: "unrevoke ID"},
		"lift what is not":  {method: "DELETE", path: Base + "/revocations/X", err: store.ErrNoRevocation, status: 404, want: "no such revocation"},
		"no such path":      {path: "/api/v2/grants", status: 404, want: errNoSuchPath.Error()},
		"no such method":    {method: "PUT", path: Base + "/grants", status: 404, want: errNoSuchPath.Error()},
		"lift without name": {method: "DELETE", path: Base + "/revocations/", status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUsher()
			u.err = tt.err
			h := Local(Options{Active: func() Usher {
				if tt.standsBy {
					return nil
				}
				return u
			}, Status: Status{Domain: "focus.meet.example.com", Version: "v1"}})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
			got := strings.TrimSpace(w.Body.String())
			if w.Code < 400 && tt.want != "" && got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			wants(t, name, w, tt.status, tt.want)
			if tt.status >= 400 && tt.err == nil && !tt.standsBy && u.asked != "" {
				t.Errorf("usher was asked: %s", u.asked)
			}
			if tt.asked != "" && u.asked != tt.asked {
				t.Errorf("asked %s, want %s", u.asked, tt.asked)
			}
			if tt.body != "" && len(tt.body) > 60 && w.Code >= 400 && strings.Contains(got, "eyJ") {
				t.Error("a token is repeated")
			}
		})
	}
}

// The claims of tokens are whole, as usher revoke needs them, and harm no terminal.
func TestClaimsAreWhole(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20)
	if got := shown([]component.LiveGrant{{JTI: long, User: "u\u009b2J", Issuer: "a\nb"}})[0]; got.JTI != long || got.User != "u\ufffd2J" || got.Issuer != "a\ufffdb" {
		t.Errorf("%+v", got)
	}
}

// serving is a Server that runs.
type serving struct {
	*Server
	log  *observer.ObservedLogs
	stop func()
}

func listenOn(t *testing.T, path string, u Usher, change ...func(*Server)) *serving {
	t.Helper()
	core, log := observer.New(zap.DebugLevel)
	s := &Server{path, Options{Active: func() Usher { return u }, Status: Status{Domain: "focus.meet.example.com", Version: "v1"}, Log: zap.New(core)}}
	for _, c := range change {
		c(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return &serving{s, log, stop}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (s *serving) listens(t *testing.T) {
	t.Helper()
	eventually(t, "the server listens", func() bool { return s.log.FilterMessageSnippet("usher answers the commands at ").Len() > 0 })
}

// warned waits for a warning with a text.
func (s *serving) warned(t *testing.T, want string) {
	t.Helper()
	s.told(t, zap.WarnLevel, want)
}

// told waits for a line of this level with an error that has a text.
func (s *serving) told(t *testing.T, level zapcore.Level, want string) {
	t.Helper()
	eventually(t, level.String()+": "+want, func() bool {
		for _, e := range s.log.FilterLevelExact(level).All() {
			if err, _ := e.ContextMap()["error"].(string); strings.Contains(err, want) {
				return true
			}
		}
		return false
	})
}

// Calls on the socket are told of, but not the question whether usher is active: ushers that stand by ask it twice a second.
func TestLocalCalls(t *testing.T) {
	var told []Call
	h := Local(Options{Active: func() Usher { return newUsher() }, Called: func(c Call) { told = append(told, c) }})
	for _, path := range []string{"/usher", "/usher?x=1", "/grants", "/nothing"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", Base+path, nil))
	}
	if len(told) != 3 || told[0].Status != 422 || told[1].Path != Base+"/grants" || told[2].Status != 404 {
		t.Errorf("told of %+v", told)
	}
	for _, c := range told {
		if c.Key != "local" {
			t.Errorf("told of %+v", c)
		}
	}
}

// Client and Server understand each other.
func TestClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	u := newUsher()
	s := listenOn(t, path, u)
	s.listens(t)
	c := Client{Path: path}
	grants, err := c.Grants(t.Context(), "standup")
	if err != nil || !reflect.DeepEqual(grants, shown(u.grants)) || u.asked != `grants "standup@conference.meet.example.com"` {
		t.Errorf("%+v, %v, asked %s", grants, err, u.asked)
	}
	all, warning, err := c.Revocations(t.Context())
	if err != nil || warning != "" || !reflect.DeepEqual(all, []Revocation{written(u.all[0])}) {
		t.Errorf("%+v, %q, %v", all, warning, err)
	}
	asked := Revocation{JTI: "j1", Before: noon, Until: noon.Add(time.Hour)}
	done, err := c.Revoke(t.Context(), asked)
	asked.ID, asked.At = "ID", noon
	if err != nil || done.Revocation != asked || len(done.Out) != 1 || len(done.Spared) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	u.rooms = []component.RoomSummary{summaryOf("[acme]standup" + at)}
	if rooms, err := c.Rooms(t.Context()); err != nil || len(rooms) != 1 || rooms[0].Tenant != "acme" {
		t.Errorf("%+v, %v", rooms, err)
	}
	if _, err := c.Room(t.Context(), "[acme]caf%c3%a9"); err != nil || u.asked != "room [acme]caf%c3%a9"+at {
		t.Errorf("%v, asked %s", err, u.asked)
	}
	for want, do := range map[string]func() error{
		"end standup" + at + ` "Why? & so"`: func() error { return c.EndRoom(t.Context(), "standup", "Why? & so") },
		"remove romeo@meet.example.com from standup" + at + ` "Enough." true`: func() error {
			return c.RemoveOccupant(t.Context(), "standup", "romeo@meet.example.com", "Enough.", true)
		},
		"lock standup" + at + " true":  func() error { return c.LockRoom(t.Context(), "standup", true) },
		"lock standup" + at + " false": func() error { return c.LockRoom(t.Context(), "standup", false) },
	} {
		if err := do(); err != nil || u.asked != want {
			t.Errorf("%v, asked %s, want %s", err, u.asked, want)
		}
	}
	if err := c.Lift(t.Context(), "a/b c"); err != nil || u.asked != "unrevoke a/b c" {
		t.Errorf("%v, asked %s", err, u.asked)
	}
	u.err = store.ErrNoRevocation
	var refused *RefusedError
	if err := c.Lift(t.Context(), "x"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || err.Error() != "no such revocation" {
		t.Errorf("%v", err)
	}
}

// Only usher's user and group may connect, and at the end nothing is left.
func TestSocket(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "usher.sock")
	s := listenOn(t, path, newUsher())
	s.listens(t)
	is, err := os.Lstat(path)
	if err != nil || is.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", is.Mode(), err)
	}
	s.stop()
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// stale leaves the socket of a process that was killed.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	stale(t, path)
	s := listenOn(t, path, newUsher())
	s.listens(t)
	if is, err := (Client{path}).Status(t.Context()); err != nil || !is.Active {
		t.Errorf("%+v, %v", is, err)
	}
	// A socket that somebody removes is made again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket is back", func() bool { _, err := Client{path}.Status(t.Context()); return err == nil })
}

func TestAnotherUshersSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	first := listenOn(t, path, newUsher())
	first.listens(t)
	second := listenOn(t, path, newUsher())
	second.warned(t, "another usher has the socket")
	elsewhere := listenOn(t, path, newUsher(), func(s *Server) { s.Status.Domain = "focus.other.example.com" })
	elsewhere.warned(t, "the usher of focus.meet.example.com has the socket")
	elsewhere.stop()
	first.stop()
	second.listens(t) // the next one takes over
	first.stop()
	if is, err := (Client{path}).Status(t.Context()); err != nil || !is.Active {
		t.Errorf("%+v, %v", is, err)
	}
}

// An usher that becomes the active one takes the socket from one that stands by, and from one that is frozen.
func TestActiveUsherTakesTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	var mu sync.Mutex
	var active Usher
	aside := listenOn(t, path, nil, func(s *Server) { s.Active = func() Usher { return nil } })
	aside.listens(t)
	var refused *RefusedError
	if _, err := (Client{path}).Grants(t.Context(), ""); !errors.As(err, &refused) || err.Error() != errStandsBy.Error() {
		t.Errorf("%v", err)
	}
	second := listenOn(t, path, nil, func(s *Server) {
		s.Active = func() Usher { mu.Lock(); defer mu.Unlock(); return active }
	})
	second.told(t, zap.InfoLevel, "another usher has the socket")
	mu.Lock()
	active = newUsher()
	mu.Unlock()
	second.listens(t)
	if _, err := (Client{path}).Grants(t.Context(), ""); err != nil {
		t.Error(err)
	}
	aside.told(t, zap.InfoLevel, "another usher has the socket")
	second.stop()

	// Frozen: the kernel accepts connections, and nobody answers.
	aside.stop()
	frozen, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	third := listenOn(t, path, newUsher())
	third.listens(t)
}

func TestNoSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usher.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := listenOn(t, path, newUsher())
	s.warned(t, "is no socket")
	s.stop()
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	if warnings := s.log.FilterLevelExact(zap.WarnLevel).Len(); warnings != 1 {
		t.Errorf("%d warnings", warnings)
	}
	nowhere := listenOn(t, filepath.Join(t.TempDir(), "missing", "usher.sock"), newUsher())
	nowhere.warned(t, "no such file or directory")
}

// Errors say what to do.
func TestClientErrors(t *testing.T) {
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	stale(t, file("stale"))
	other := func(name string, h http.HandlerFunc) {
		l, err := net.Listen("unix", file(name))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: h}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
	}
	other("nobody", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	other("next", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(versionHeader, "v9")
		w.WriteHeader(404)
		fmt.Fprintln(w, `{"error":"`+errNoSuchPath.Error()+`"}`)
	})
	other("gibberish", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(versionHeader, "v9")
		fmt.Fprintln(w, `[`)
	})
	for name, want := range map[string]string{
		"missing":   "no usher runs with the socket " + file("missing"),
		"stale":     "the usher of the socket " + file("stale") + " runs no more",
		"nobody":    "something listens on " + file("nobody") + " that is no usher",
		"next":      "has another version, v9",
		"gibberish": "has another version, v9",
	} {
		if _, err := (Client{file(name)}).Grants(t.Context(), ""); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "http://") {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	denied := Client{file("x")}.explained(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if !strings.Contains(denied.Error(), "is for usher's user and group only") {
		t.Errorf("%v", denied)
	}
}
