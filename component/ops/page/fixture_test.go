package page_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
	"github.com/xmpp-usher/usher/component/ops"
	"github.com/xmpp-usher/usher/component/ops/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time in which something must happen that a test waits for, on a machine with much else to do.
const patience = time.Minute

// stage is a page with a component that does what the test says.
type stage struct {
	t       testing.TB
	url     string
	history *history.History
	server  *httptest.Server
	stop    context.CancelFunc // as usher does when it is to stop
	ended   chan struct{}      // one for each stream that has ended

	mu      sync.Mutex
	standby bool
	away    bool // every connection is broken off
	status  component.Status
	rooms   map[string]component.RoomView
	checks  []ops.Check
	failure error // of looking into a room
	lists   int   // how often the list of rooms was asked for
}

// asked returns how often the list of rooms was asked for.
func (s *stage) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

// newStage opens the page of an usher with which all is well.
func newStage(t testing.TB) *stage {
	s := &stage{t: t, history: history.New(500), rooms: map[string]component.RoomView{}, ended: make(chan struct{}, 1000)}
	s.status = component.Status{
		Connected: true, Since: time.Now().Add(-3*time.Hour - 12*time.Minute), Server: "Prosody 0.12.3", Address: "127.0.0.1:5347",
		Domain: "focus.meet.example.com",
	}
	s.checks = []ops.Check{
		{Name: "store", OK: true, Says: "answers in 0.2 ms"},
		{Name: "keys", OK: true, Says: "of 2 issuers are at hand"},
	}
	handler := page.New(page.Options{
		Active: func() ops.Source {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.standby {
				return nil
			}
			return s
		},
		Ready: func(context.Context) []ops.Check {
			s.mu.Lock()
			defer s.mu.Unlock()
			return slices.Clone(s.checks)
		},
		History: s.history, Version: "0.1.0",
	})
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		away := s.away
		s.mu.Unlock()
		if away {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
		if r.URL.Path == "/page/events" {
			s.ended <- struct{}{}
		}
	}))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.server.Start()
	t.Cleanup(s.server.Close)
	t.Cleanup(stop)
	t.Cleanup(s.server.CloseClientConnections)
	s.url = s.server.URL
	return s
}

// cut makes usher unreachable, and returns the function that makes it answer again.
func (s *stage) cut() (back func()) {
	s.change(func() { s.away = true })
	s.server.CloseClientConnections()
	return func() { s.change(func() { s.away = false }) }
}

// change changes what the component says.
func (s *stage) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *stage) Status() component.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	for _, r := range s.rooms {
		status.Waiting += r.Waiting
		status.Hosts += r.Hosts
		status.Occupants += r.Hosts + r.Members + r.Guests
		if r.Open {
			status.Rooms++
		}
	}
	return status
}

func (s *stage) Stats() component.Snapshot { return component.Snapshot{} }

func (s *stage) Rooms() []component.RoomSummary {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	all := make([]component.RoomSummary, 0, len(s.rooms))
	for _, r := range s.rooms {
		all = append(all, r.RoomSummary)
	}
	slices.SortFunc(all, func(a, b component.RoomSummary) int { return cmp.Compare(a.Room.String(), b.Room.String()) })
	return all
}

func (s *stage) Room(_ context.Context, address string) (component.RoomView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return component.RoomView{}, s.failure
	}
	if r, ok := s.rooms[address]; ok {
		return r, nil
	}
	return component.RoomView{}, fmt.Errorf("%s: %w", address, component.ErrNoRoom)
}

// room opens a room with a host, so many guests and so many people who wait, and returns its address.
func (s *stage) room(name string, hosts, guests, waiting int) string {
	tenant := ""
	if rest, ok := strings.CutPrefix(name, "["); ok {
		tenant, name, _ = strings.Cut(rest, "]")
		name = strings.TrimSpace(name)
	}
	local := name
	if tenant != "" {
		local = "[" + tenant + "]" + name
	}
	address := jid.MustParse(strings.ReplaceAll(local, " ", "%20") + "@conference.meet.example.com")
	r := component.RoomView{RoomSummary: component.RoomSummary{
		Room: address, Name: name, Tenant: tenant, Open: hosts+guests > 0, HostInside: hosts > 0, Since: time.Now().Add(-7 * time.Minute),
		Hosts: hosts, Guests: guests, Waiting: waiting,
	}, RuleNumber: -1, Text: "Guests wait until a host is inside."}
	person := func(n int) jid.JID { return jid.MustParse(fmt.Sprintf("person-%d@guest.meet.example.com", n)) }
	for n := range hosts {
		r.Occupants = append(r.Occupants, component.Occupant{
			Who: person(n), As: "host", Affiliation: "owner", User: fmt.Sprintf("Host %d", n), Since: time.Now().Add(-6 * time.Minute), Inside: true})
	}
	for n := range guests {
		r.Occupants = append(r.Occupants, component.Occupant{Who: person(100 + n), As: "guest", Affiliation: "member", Since: time.Now().Add(-time.Minute), Inside: n > 0})
	}
	for n := range waiting {
		r.Waits = append(r.Waits, component.Waiter{Who: person(1000 + n), Since: time.Now().Add(-40 * time.Second), Reason: auth.ReasonHostAbsent})
	}
	s.change(func() { s.rooms[address.String()] = r })
	return address.String()
}

// decide reports a decision.
func (s *stage) decide(room, who string, reason auth.Reason) {
	row := reason.Row()
	r := component.Report{
		What: component.Decided, At: time.Now(), Room: jid.MustParse(room + "@conference.meet.example.com"), Name: room,
		Who: jid.MustParse(who + "/tab"), VHost: jid.MustParse(who).Domainpart(), Verdict: row.Verdict, Reason: reason, Text: row.Text,
		Took: 3200 * time.Microsecond,
		Steps: []auth.Step{
			{Rule: "room", Expected: "a room on a guarded MUC service", Found: room, OK: true},
			{Rule: "vhost", Expected: "a virtual host of the configuration", Found: jid.MustParse(who).Domainpart(), OK: true},
			{Rule: "token", Expected: "a token", Found: "none", OK: row.Verdict != auth.Deny},
		},
	}
	if row.Verdict == auth.Allow {
		r.Affiliation = auth.Member
	}
	s.history.Add(r)
}
