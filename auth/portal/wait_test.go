package portal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/page"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// stream is a page of waiting, as its script sees it.
type stream struct {
	t        testing.TB
	messages chan string // closed when the stream ends
	close    func()
}

// follow opens a stream.
func follow(t testing.TB, address string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "login.example.com"
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	s := &stream{t: t, messages: make(chan string, 100)}
	var done sync.WaitGroup
	done.Go(func() {
		defer close(s.messages)
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				s.messages <- data
			}
		}
	})
	s.close = sync.OnceFunc(func() {
		cancel()
		res.Body.Close()
		done.Wait()
	})
	t.Cleanup(s.close)
	return s
}

// wants waits for a message; "" for the end of the stream.
func (s *stream) wants(message string) {
	s.t.Helper()
	select {
	case got := <-s.messages:
		if got != message {
			s.t.Fatalf("the stream says %q, want %q", got, message)
		}
	case <-time.After(patience):
		s.t.Fatalf("the stream says nothing, want %q", message)
	}
}

func served(t *testing.T, p *Portal) string {
	t.Helper()
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	})
	return server.URL
}

// set changes the state of a room, and tells the portal.
func (f *fixture) set(p *Portal, room string, to RoomState) {
	f.t.Helper()
	f.do(func() { f.rooms[room] = to })
	is, err := auth.ParseRoomName(room)
	if err != nil {
		f.t.Fatal(err)
	}
	p.Changed(is)
}

// TestEvents: guests who wait are told when a host is inside, and when not any more; guests of other rooms are not.
func TestEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	at := served(t, p)
	one, two, other := follow(t, at+"/wait/standup?events"), follow(t, at+"/wait/StandUp?events"), follow(t, at+"/wait/acme/standup?events")
	for _, s := range []*stream{one, two, other} {
		s.wants(page.MessageWait)
	}
	f.set(p, "standup", RoomState{Open: true, HostInside: true})
	one.wants(page.MessageReady)
	two.wants(page.MessageReady)
	f.set(p, "standup", RoomState{Open: true})
	one.wants(page.MessageWait)
	two.wants(page.MessageWait)
	f.set(p, "standup", RoomState{Open: true, HostInside: true, Locked: true}) // nothing new for a guest
	f.set(p, "standup", RoomState{Open: true, HostInside: true})
	one.wants(page.MessageReady)
	f.set(p, "[acme]standup", RoomState{Open: true, HostInside: true})
	other.wants(page.MessageReady)
	late := follow(t, at+"/wait/standup?events")
	late.wants(page.MessageReady)

	// What cannot be asked is no host; and an usher that stands by ends its streams, so that browsers find the active one.
	f.do(func() { f.err = errBroken })
	p.Changed(auth.Room{})
	one.wants(page.MessageWait)
	late.wants(page.MessageWait)
	f.do(func() { f.aside = true })
	p.Changed(auth.Room{})
	one.wants("")
	late.wants("")
	two.close()
	other.close()
	deadline := time.Now().Add(patience)
	for !idle(p.watches) {
		if time.Now().After(deadline) {
			t.Fatal("streams that have ended are still counted")
		}
		time.Sleep(time.Millisecond)
	}
}

func idle(a *watches) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all == 0 && len(a.rooms) == 0 && len(a.of) == 0
}

// TestStreamsBounded: one network may have some streams, and all together some more.
func TestStreamsBounded(t *testing.T) {
	t.Parallel()
	a := newWatches()
	room := auth.Room{Name: "standup"}
	for n := range maxOfNetwork {
		if _, ok := a.begin(room, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n))); !ok {
			t.Fatalf("no stream %d", n)
		}
	}
	if _, ok := a.begin(room, netip.MustParseAddr("2001:db8::ffff")); ok {
		t.Error("one network has too many streams")
	}
	n := maxOfNetwork
	for ; n < 2*maxStreams; n++ {
		if _, ok := a.begin(room, netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})); !ok {
			break
		}
	}
	if n != maxStreams {
		t.Errorf("%d streams", n)
	}
	a.end(room, netip.MustParseAddr("2001:db8::1"))
	if _, ok := a.begin(room, netip.MustParseAddr("2001:db8::ffff")); !ok {
		t.Error("no stream in the place of another one")
	}
}

// TestLooks: many who ask about a room at once are one question; an answer counts for a moment, and until the room changes; and the number
// of rooms that strangers can ask about is bounded.
func TestLooks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	for range 10 {
		b.get("/wait/standup")
	}
	if f.asked != 1 {
		t.Errorf("asked %d times", f.asked)
	}
	f.set(p, "standup", RoomState{HostInside: true})
	wants(t, "at once", b.get("/wait/standup"), 200, "data-ready")
	f.forward(seenFor)
	b.get("/wait/standup")
	if f.asked != 3 {
		t.Errorf("asked %d times", f.asked)
	}
	for n := range 3 * maxLooks {
		if _, err := p.looks.state(t.Context(), auth.Room{Name: fmt.Sprint(n)}); n < maxLooks/2 && err != nil {
			t.Fatal(err)
		}
	}
	if len(p.looks.known) > maxLooks {
		t.Errorf("%d rooms are remembered", len(p.looks.known))
	}
	f.forward(time.Minute)
	if _, err := p.looks.state(t.Context(), auth.Room{Name: "after"}); err != nil || len(p.looks.known) > 2 {
		t.Errorf("%d rooms are remembered, %v", len(p.looks.known), err)
	}
	p.Wait()

	many := f.browser(p)
	many.from = "198.51.100.1:1"
	for range 3 * looksBurst { // a school waits
		wants(t, "the same room", many.get("/wait/standup"), 200, "standup")
	}
	for n := 0; ; n++ {
		w := many.get(fmt.Sprint("/wait/guess", n))
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "" && strings.Contains(w.Body.String(), `http-equiv="refresh"`) {
			break
		}
		if n > 2*looksBurst {
			t.Fatal("one network asks without end")
		}
	}
	wants(t, "another network", b.get("/wait/standup"), 200, "standup")
	wants(t, "the room that was asked about", many.get("/wait/standup"), 200, "standup")
	wants(t, "its stream, refused for another", many.get("/wait/another?events"), 503, "")
}

// TestManyNames: what is remembered of rooms that networks ask about is bounded.
func TestManyNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := newLimits(f.clock)
	for n := range 2 * maxNetworks {
		at := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		for room := range 2 {
			l.look(at, auth.Room{Name: fmt.Sprint(room)})
		}
	}
	one := netip.AddrFrom4([4]byte{10, 0, 0, 1})
	for room := range 2 * maxFresh {
		l.look(one, auth.Room{Name: fmt.Sprint("one", room)})
	}
	if len(l.fresh) > maxNetworks || len(l.fresh[serve.Network(one)]) > maxFresh {
		t.Errorf("%d networks are remembered, and %d rooms of one", len(l.fresh), len(l.fresh[serve.Network(one)]))
	}
	f.forward(time.Hour)
	l.look(netip.MustParseAddr("192.0.2.1"), auth.Room{Name: "standup"})
	if len(l.fresh) != 1 {
		t.Errorf("%d networks are remembered", len(l.fresh))
	}
}

// TestGlance: guests who get no stream any more are told of a host all the same.
func TestGlance(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	room := auth.Room{Name: "standup"}
	for n := range maxStreams {
		if _, ok := p.watches.begin(room, netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})); !ok {
			t.Fatalf("no stream %d", n)
		}
	}
	b := f.browser(p)
	for _, say := range []string{page.MessageWait, page.MessageReady} {
		w := b.get("/wait/standup?events")
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || !strings.Contains(w.Body.String(), "retry: ") || !strings.HasSuffix(w.Body.String(), "\ndata: "+say+"\n\n") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		f.set(p, "standup", RoomState{Open: true, HostInside: true})
	}
	if maxOfNetwork > Connections/8/2 {
		t.Error("the streams of one network leave no connections for its hosts")
	}
}

// TestSlow: clients that send half of their headers or body, or more than may be, or that do not read, do not last, and keep nobody out.
func TestSlow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		serve.Run(ctx, serve.Options{Name: "the portal", Key: "portal.listen", Listen: address, Handler: p, MaxConnections: 64, Log: f.log})
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	dial := func() net.Conn {
		deadline := time.Now().Add(patience)
		for {
			c, err := net.Dial("tcp", address)
			if err == nil {
				t.Cleanup(func() { c.Close() })
				return c
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	headers := "POST /login HTTP/1.1\r\nHost: login.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	slow := map[string]net.Conn{}
	for name, text := range map[string]string{
		"half of the headers": "GET /login HTTP/1.1\r\nHost: login.exa",
		"half of the body":    headers + "Content-Length: 1000\r\n\r\nname=romeo",
		"nothing":             "",
	} {
		c := dial()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		slow[name] = c
	}
	large := dial()
	if _, err := io.WriteString(large, "GET /login?state="+strings.Repeat("x", 64<<10)+" HTTP/1.1\r\nHost: login.example.com\r\n\r\n"); err != nil {
		t.Log(err) // it may have been closed before all was sent
	}
	answer, _ := io.ReadAll(io.LimitReader(large, 100))
	if len(answer) > 0 && !strings.Contains(string(answer), " 431 ") {
		t.Errorf("large headers: %q", answer)
	}
	quick, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/login", nil)
	if err != nil {
		t.Fatal(err)
	}
	quick.Host = "login.example.com"
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(quick)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", res, err)
	}
	res.Body.Close()
	for name, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays", name)
		}
	}
}
