package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/page"
	"github.com/xmpp-usher/usher/muc"
)

// follower reads the stream of events, as a page does.
type follower struct {
	t      testing.TB
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

type stateEvent struct {
	Level, Headline, Version, Domain, Server string
	Connected                                bool
	Waiting, Rooms                           int
	RoomsVersion                             uint64
	Checks                                   []struct {
		Name, Says string
		OK         bool
	}
}

type entriesEvent struct {
	Entries []entry
	Missed  uint64
	id      string
}

// follow opens the stream. It returns nil if there are too many.
func (s *stage) follow(header ...string) *follower {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/page/events", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); answer.Body.Close() })
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") != "" {
		return nil
	}
	if got := answer.Header.Get("Content-Type"); got != "text/event-stream" {
		s.t.Fatalf("%d, %s", answer.StatusCode, got)
	}
	f := &follower{t: s.t, lines: bufio.NewScanner(answer.Body), cancel: cancel}
	f.lines.Buffer(nil, 1<<20)
	return f
}

// next returns the next event of a kind, with its id.
func next[T any](f *follower, kind string) (v T, id string) {
	f.t.Helper()
	is := ""
	for f.lines.Scan() {
		name, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch name {
		case "event":
			is, id = value, ""
		case "id":
			id = value
		case "data":
			if is == kind {
				if err := json.Unmarshal([]byte(value), &v); err != nil {
					f.t.Fatalf("%s: %v", value, err)
				}
				return v, id
			}
		}
	}
	f.t.Fatalf("no event %s: %v", kind, f.lines.Err())
	return v, id
}

// until reads states until one fits.
func (f *follower) until(what string, fits func(stateEvent) bool) stateEvent {
	f.t.Helper()
	for {
		if s, _ := next[stateEvent](f, "state"); fits(s) {
			return s
		}
	}
}

func (f *follower) entries() entriesEvent {
	f.t.Helper()
	e, id := next[entriesEvent](f, "entries")
	e.id = id
	return e
}

func TestState(t *testing.T) {
	s := newStage(t)
	f := s.follow()
	first := f.until("the first state", func(stateEvent) bool { return true })
	if first.Level != "well" || first.Server != "Prosody 0.12.3" || first.Version != "0.1.0" || len(first.Checks) != 3 || !first.Connected {
		t.Errorf("%+v", first)
	}
	s.room("standup", 0, 0, 2)
	f.until("people who wait", func(e stateEvent) bool { return e.Waiting == 2 && e.RoomsVersion != first.RoomsVersion })
	s.change(func() { s.checks[0].OK, s.checks[0].Says = false, "does not answer" })
	f.until("the store fails", func(e stateEvent) bool {
		return e.Level == "trouble" && e.Headline == "Trouble: store" && e.Checks[1].Says == "does not answer"
	})
	s.change(func() { s.status.Connected = false })
	f.until("no connection", func(e stateEvent) bool { return e.Headline == "Trouble: connection, store" && !e.Checks[0].OK })
	s.change(func() {
		s.status.Behind, s.status.Jicofo, s.status.Connected, s.checks[0].OK = "jicofo", "silent", true, true
	})
	f.until("Jicofo", func(e stateEvent) bool {
		return e.Headline == "Trouble: jicofo" && strings.Contains(e.Checks[1].Says, "without an answer")
	})
	s.change(func() { s.status.Jicofo = "online" })
	f.until("all is well", func(e stateEvent) bool { return e.Level == "well" && e.Checks[1].OK })
	s.change(func() { s.status.Modules = []muc.ToldStatus{{Domain: "conference.meet.example.com"}} })
	f.until("a module that is not there", func(e stateEvent) bool {
		return e.Headline == "Trouble: module" && strings.Contains(e.Checks[2].Says, "does not answer on conference.meet.example.com")
	})
	s.change(func() { s.status.Since = time.Now() })
	f.until("a module that was not asked yet", func(e stateEvent) bool { return e.Level == "well" })
	s.change(func() {
		s.status.Since = time.Unix(1000, 0)
		s.status.Modules = []muc.ToldStatus{{Domain: "conference.meet.example.com", Version: "1", Takes: true}}
	})
	f.until("a module that does not tell", func(e stateEvent) bool {
		return e.Level == "well" && strings.Contains(e.Checks[2].Says, "does not tell")
	})
	s.change(func() {
		s.status.Modules = []muc.ToldStatus{{Domain: "conference.meet.example.com", Version: "1", Takes: true, Tells: true, Rooms: 3}}
	})
	f.until("a module that tells", func(e stateEvent) bool { return strings.Contains(e.Checks[2].Says, "tells of 3 rooms") })
	s.change(func() { s.status.Modules, s.standby = nil, true })
	f.until("standby", func(e stateEvent) bool { return e.Level == "standby" && e.Domain == "" && e.Waiting == 0 })
	s.change(func() { s.checks[0].OK = false })
	f.until("standby without a store", func(e stateEvent) bool { return e.Headline == "Trouble: store" })
}

// Who comes sees what comes next; who comes back sees what has happened meanwhile.
func TestEntries(t *testing.T) {
	s := newStage(t)
	s.decide("standup", "before@guest.meet.example.com", auth.ReasonGuest)
	f := s.follow()
	f.until("the stream is there", func(stateEvent) bool { return true })
	s.history.Add(component.Report{What: component.Joined, At: time.Now()}) // has no row
	s.decide("standup", "ana@guest.meet.example.com", auth.ReasonHostAbsent)
	e := f.entries()
	if len(e.Entries) != 1 || e.Entries[0].Who != "ana@guest.meet.example.com" || e.Entries[0].Verdict != "wait" || e.id != e.Entries[0].ID || e.Missed != 0 {
		t.Errorf("%+v", e)
	}
	f.cancel()
	s.decide("standup", "meanwhile@guest.meet.example.com", auth.ReasonGuest)
	if e := s.follow("Last-Event-ID", e.id).entries(); len(e.Entries) != 1 || e.Entries[0].Who != "meanwhile@guest.meet.example.com" {
		t.Errorf("back again: %+v", e)
	}
	for n := range page.Batch + 9 {
		s.decide("standup", fmt.Sprintf("p%d@guest.meet.example.com", n), auth.ReasonGuest)
	}
	again := s.follow("Last-Event-ID", e.id)
	got, missed := 0, uint64(0)
	for got+int(missed) < page.Batch+10 {
		e := again.entries()
		got += len(e.Entries)
		missed += e.Missed
	}
	if got+int(missed) != page.Batch+10 {
		t.Errorf("got %d, missed %d", got, missed)
	}
	// After a restart of usher, the id is of another history: everything that there is comes.
	if e := s.follow("Last-Event-ID", "other-1").entries(); len(e.Entries)+int(e.Missed) != page.Batch+12 {
		t.Errorf("after a restart: %d and %d missed", len(e.Entries), e.Missed)
	}
}

func TestRates(t *testing.T) {
	s := newStage(t)
	type rates struct{ Admitted, Refused, Waited []int }
	f := s.follow()
	s.decide("standup", "ana@guest.meet.example.com", auth.ReasonGuest)
	s.decide("standup", "lee@guest.meet.example.com", auth.ReasonHostAbsent)
	s.decide("standup", "kim@guest.meet.example.com", auth.ReasonTokenExpired)
	for {
		r, _ := next[rates](f, "rates")
		if len(r.Admitted) != 60 || len(r.Refused) != 60 || len(r.Waited) != 60 {
			t.Fatalf("%+v", r)
		}
		// In two minutes, if the minute has just changed.
		if last := func(n []int) int { return n[59] + n[58] }; last(r.Admitted) == 1 && last(r.Refused) == 1 && last(r.Waited) == 1 {
			return
		}
	}
}

// Only so many pages are served; a page that is closed makes room.
func TestFollowersAreBounded(t *testing.T) {
	s := newStage(t)
	var all []*follower
	for range page.MaxFollowers {
		f := s.follow()
		if f == nil {
			t.Fatalf("refused after %d", len(all))
		}
		all = append(all, f)
	}
	if s.follow() != nil {
		t.Errorf("more than %d pages", page.MaxFollowers)
	}
	if a, _ := s.get("/page/rooms"); a.StatusCode != http.StatusOK {
		t.Errorf("the rest does not answer: %d", a.StatusCode)
	}
	all[3].cancel()
	for s.follow() == nil { // until the server has noticed; the test's own deadline is the end of patience
		if s.t.Context().Err() != nil {
			t.Fatal("nobody can come any more")
		}
	}
}

// A client that reads nothing loses its stream.
func TestSilentFollower(t *testing.T) {
	t.Cleanup(page.WriteWithin(200 * time.Millisecond))
	s := newStage(t)
	s.change(func() { s.status.Domain = strings.Repeat("long", 4<<20) }) // more than the buffers of the system take
	c, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(c, "GET /page/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
}

// A stream ends with the server's context, so that usher can stop.
func TestStreamEndsWithServer(t *testing.T) {
	s := newStage(t)
	f := s.follow()
	f.until("the stream is there", func(stateEvent) bool { return true })
	s.stop()
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
}

// What a decision costs with pages open.
func BenchmarkReports(b *testing.B) {
	for _, pages := range []int{0, 1, 8} {
		b.Run(fmt.Sprintf("pages=%d", pages), func(b *testing.B) {
			s := newStage(b)
			for n := range 1000 {
				s.room(fmt.Sprintf("room-%d", n), 1, 2, 0)
			}
			for range pages {
				f := s.follow()
				f.until("the stream is there", func(stateEvent) bool { return true })
				go func() {
					for f.lines.Scan() {
					}
				}()
			}
			b.ReportAllocs()
			for b.Loop() {
				s.decide("standup", "kim@meet.example.com", auth.ReasonHost)
			}
		})
	}
}
