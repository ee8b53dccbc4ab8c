package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// stage serves the pages with what a test gives them.
type stage struct {
	t      *testing.T
	url    string
	events chan string   // what the wait page is told
	posts  chan string   // the forms that were sent: path and fields
	open   chan struct{} // one for each stream of events that has begun

	mu    sync.Mutex
	login Login
	rooms Rooms
	wait  Wait

	lost   bool // the login of the page of rooms has ended
	refuse int  // how many streams of events are answered as by a portal that stands by
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, events: make(chan string), posts: make(chan string, 100), open: make(chan struct{}, 100)}
	p := New(Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /style.css", p.Asset)
	mux.HandleFunc("GET /portal.js", p.Asset)
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) { p.Login(w, r, 200, read(s, &s.login)) })
	mux.HandleFunc("GET /rooms", func(w http.ResponseWriter, r *http.Request) {
		if read(s, &s.lost) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		p.Rooms(w, r, 200, read(s, &s.rooms))
	})
	mux.HandleFunc("GET /wait/standup", func(w http.ResponseWriter, r *http.Request) { p.Wait(w, r, 200, read(s, &s.wait)) })
	mux.HandleFunc("GET /wait/standup/events", s.follow)
	mux.HandleFunc("GET /view/{name}", func(w http.ResponseWriter, r *http.Request) { views()[r.PathValue("name")](p, w, r) })
	mux.HandleFunc("GET /meet/{room}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>room</title><link rel="icon" href="data:,"><h1>Room</h1><p>%s`, r.PathValue("room"))
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.posts <- r.URL.Path + " " + r.PostForm.Encode()
		p.Notice(w, r, 200, Notice{Text: LoggedOut, Again: "/login"})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	s.url = server.URL
	s.login = Login{Password: true}
	s.rooms = Rooms{Person: "Kim Example", Rooms: someRooms()}
	s.wait = Wait{Room: "standup", Events: "/wait/standup/events", Host: "/login", Enter: "/meet/standup"}
	return s
}

// read returns what a page shows now.
func read[T any](s *stage, v *T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *v
}

// change changes what the pages show.
func (s *stage) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// follow sends what the test says. The text "away" ends the stream as a portal does that stops.
func (s *stage) follow(w http.ResponseWriter, r *http.Request) {
	refused := false
	s.change(func() {
		if refused = s.refuse > 0; refused {
			s.refuse--
		}
	})
	s.open <- struct{}{}
	if refused {
		http.Error(w, "standing by", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	// Browsers wait so many milliseconds before they follow again.
	fmt.Fprint(w, "retry: 100\n\n")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case text := <-s.events:
			if text == "away" {
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", text)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// at is the path of one of the views.
func at(name string) string { return "/view/" + url.PathEscape(name) }

// quiet fails the test if a page has complained about anything.
func quiet(t *testing.T, b *deploytest.Browser) {
	t.Helper()
	for _, complaint := range b.Complaints() {
		if !strings.Contains(complaint, "status of 503") {
			t.Error(complaint)
		}
	}
}
