package component_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/token"
)

// reports are what the ushers of a test have reported, one process after the other. They also judge the order of what is reported of
// each room.
type reports struct {
	mu    sync.Mutex
	all   []component.Report
	rooms map[string]*reported
	wrong []string
	// several says that several processes report at once, so that there is no order.
	several bool
	// others says that others make rooms as well. usher may find people inside, who then are not reported as having come.
	others bool
}

// reported is how a room is, by the reports so far.
type reported struct {
	open, host bool
	inside     map[string]bool // occupants; false if they have gone
	taken      bool            // from an earlier process, or found: people may be inside who were not reported
}

func newReports() *reports { return &reports{rooms: make(map[string]*reported)} }

// restarts says that another process reports from now on. People may come and go meanwhile, and rooms end.
func (rs *reports) restarts() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, rm := range rs.rooms {
		rm.taken, rm.inside = true, make(map[string]bool)
	}
}

// shared says that others make rooms from now on.
func (rs *reports) shared() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.others = true
}

func (rs *reports) add(r component.Report) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.all = append(rs.all, r)
	if wrong := rs.judge(r); wrong != "" && !rs.several {
		rs.wrong = append(rs.wrong, fmt.Sprintf("%s: %s", line(r), wrong))
	}
}

// inOrder fails the test if something was reported out of order.
func (rs *reports) inOrder(t *testing.T) {
	t.Helper()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, wrong := range rs.wrong {
		t.Errorf("reported out of order: %s", wrong)
	}
	rs.wrong = nil
}

// inWords is all that was reported, as text.
func (rs *reports) inWords() string {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var said strings.Builder
	for _, r := range rs.all {
		fmt.Fprintf(&said, "%+v\n", r)
	}
	return said.String()
}

// judge returns why a report must not come now, or nothing.
func (rs *reports) judge(r component.Report) string {
	rm := rs.rooms[r.Room.String()]
	if rm == nil {
		rm = &reported{inside: make(map[string]bool)}
		rs.rooms[r.Room.String()] = rm
	}
	who := r.Who.String()
	inside, known := rm.inside[who]
	switch r.What {
	case component.RoomOpened:
		if rm.open && !rm.taken {
			return "it is open"
		}
		*rm = reported{open: true, inside: make(map[string]bool), taken: rm.open || rs.others} // rm.open: a process that knew nothing of it has found it
		return ""
	case component.RoomEnded:
		was := *rm
		*rm = reported{}
		if !was.open || !was.taken && was.host {
			return fmt.Sprintf("open %t, host %t", was.open, was.host)
		}
		for other, still := range was.inside {
			if still {
				return other + " is inside"
			}
		}
		return ""
	case component.Decided, component.Expired, component.RevokedOut:
		return ""
	}
	if !rm.open {
		return "it is not open"
	}
	switch r.What {
	case component.Joined:
		if inside {
			return "they are inside"
		}
		rm.inside[who] = true
	case component.Left:
		if !inside && (known || !rm.taken) {
			return "they are not inside"
		}
		rm.inside[who] = false
	case component.HostArrived, component.HostLeft:
		arrived := r.What == component.HostArrived
		if rm.host == arrived && !rm.taken {
			return fmt.Sprintf("a host is inside: %t", rm.host)
		}
		rm.host = arrived
	default:
		return "an unknown What"
	}
	return ""
}

// line is a report in words, without what changes from run to run.
func line(r component.Report) string {
	s := string(r.What)
	if r.Room.Localpart() != "" {
		s += " " + r.Room.Localpart()
	}
	if r.Who.Localpart() != "" {
		s += " " + r.Who.String()
	}
	if r.What == component.Decided {
		s += " " + string(r.Reason)
	}
	return s
}

// of returns the reports about a room so far that are no decisions, each in words: with names for people.
func (rs *reports) of(room string, people ...*person) (lines []string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.all {
		if r.Room.String() != room || r.What == component.Decided {
			continue
		}
		s := string(r.What)
		for n, p := range people {
			if r.Who.Bare().String() == p.BareJID() {
				s += fmt.Sprintf(" %d", n)
			}
		}
		lines = append(lines, s)
	}
	return lines
}

// find returns the newest report that is such.
func (rs *reports) find(such func(component.Report) bool) (component.Report, bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range slices.Backward(rs.all) {
		if such(r) {
			return r, true
		}
	}
	return component.Report{}, false
}

// reported waits for a report and returns the newest: decisions, of which there may be an earlier one, have decided.
func (g *gate) reported(what component.What, about *person) (r component.Report) {
	g.t.Helper()
	g.eventually(string(what), func() (ok bool) {
		r, ok = g.reports.find(func(r component.Report) bool {
			return r.What == what && (about == nil || r.Who.Bare().String() == about.BareJID())
		})
		return ok
	})
	return r
}

// empties has Jicofo leave rooms to which nobody comes, if there is one.
func (g *gate) empties() {
	if g.jicofo != nil {
		g.jicofo.StopWaiting()
	}
}

// tells waits until exactly that was reported of a room.
func (g *gate) tells(room string, people []*person, want ...string) {
	g.t.Helper()
	var got []string
	defer func() {
		if g.t.Failed() {
			g.t.Logf("reported: %s", strings.Join(got, ", "))
		}
	}()
	g.eventually(strings.Join(want, ", "), func() bool {
		got = g.reports.of(room, people...)
		return slices.Equal(got, want)
	})
}

// What happens in a room is reported once each, and in order.
func TestReports(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{})
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		people := []*person{host, guest}
		guest.must("asks", guest.asks(room, ""), absent)
		if r := g.decided(guest, 1); r.Verdict != auth.Wait || r.Reason != auth.ReasonHostAbsent || r.Again || r.Waited != 0 ||
			r.VHost != "guest.meet.example.com" || r.Name != "standup" || r.Text == "" || len(r.Steps) == 0 || r.Took < r.Decide || r.Decide <= 0 {
			t.Errorf("who waits is reported as %+v", r)
		}
		if got := g.usher.Rooms(); len(got) != 1 || got[0].Open || got[0].Waiting != 1 || got[0].Name != "standup" {
			t.Errorf("rooms while a guest waits: %+v", got)
		}
		held := g.holds(guest, request(room, "", ""))
		host.enters(room, mint(t, func(c *token.Claims) { c.ID = "the jti" }))
		g.tells(room, people, "room-opened", "occupant-joined 0", "host-arrived")
		g.told(held, "ready")
		r := g.decided(guest, 2) // the answer is sent before it is reported
		if r.Verdict != auth.Allow || r.Waited <= 0 || r.Waited > patience || r.Affiliation != auth.Member || r.Again || r.Apply <= 0 {
			t.Errorf("who has waited is reported as %+v", r)
		}
		if r := g.reported(component.Joined, host); r.JTI != "the jti" || r.Affiliation != auth.Owner || r.VHost != "meet.example.com" {
			t.Errorf("the host is reported as %+v", r)
		}
		guest.joins(room)
		g.tells(room, people, "room-opened", "occupant-joined 0", "host-arrived", "occupant-joined 1")
		g.eventually("the room is shown", func() bool {
			got := g.usher.Rooms()
			return len(got) == 1 && got[0].Open && got[0].HostInside && got[0].Hosts == 1 && got[0].Guests == 1 && got[0].Waiting == 0
		})
		host.leaves(room)
		g.tells(room, people, "room-opened", "occupant-joined 0", "host-arrived", "occupant-joined 1", "occupant-left 0", "host-left")
		if r := g.reported(component.Left, host); r.JTI != "the jti" || r.Issuer == "" {
			t.Errorf("the host's leaving is reported as %+v", r) // the portal ends sessions by it
		}
		guest.leaves(room)
		g.empties()
		g.tells(room, people, "room-opened", "occupant-joined 0", "host-arrived", "occupant-joined 1", "occupant-left 0", "host-left",
			"occupant-left 1", "room-ended")
		if got := g.usher.Rooms(); len(got) != 0 {
			t.Errorf("rooms at the end: %+v", got)
		}
	})
}

// People who wait and ask again are told the same again.
func TestReportsAgain(t *testing.T) {
	g := own.start(t, setup{config: config, options: func(o *component.Options) { o.WaitHold, o.WaitHoldJitsi = 0, 0 }})
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	for n := range 3 {
		guest.must("asks", guest.asks(room, ""), absent)
		if r := g.decided(guest, n+1); r.Again != (n > 0) {
			t.Errorf("question %d: again %t", n, r.Again)
		}
	}
	host.enters(room, mint(t, nil))
	g.reported(component.HostArrived, nil)
	guest.must("asks", guest.asks(room, ""), "ready")
	if r := g.decided(guest, 4); r.Again || r.Waited <= 0 {
		t.Errorf("let in: %+v", r)
	}
	if r := g.decided(host, 1); r.Waited != 0 {
		t.Errorf("the host: %+v", r)
	}
	g.forward(time.Hour)
	g.eventually("nobody waits", func() bool { return g.usher.Status().Waiting == 0 })
}

// decided waits for the n-th decision about somebody and returns it.
func (g *gate) decided(p *person, n int) (r component.Report) {
	g.t.Helper()
	g.eventually(fmt.Sprintf("decision %d", n), func() bool {
		g.reports.mu.Lock()
		defer g.reports.mu.Unlock()
		left := n
		for _, r = range g.reports.all {
			if r.What == component.Decided && r.Who.Bare().String() == p.BareJID() {
				if left--; left == 0 {
					return true
				}
			}
		}
		return false
	})
	return r
}

// The next process does not report again what an earlier one has, and goes on from there.
func TestReportsAfterCrash(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode, s setup) {
		g := m.start(t, s)
		host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
		people := []*person{host, guest}
		so := []string{"room-opened", "occupant-joined 0", "host-arrived", "occupant-joined 1"}
		host.enters(room, mint(t, nil))
		g.tells(room, people, so[:3]...) // before the guest's question whether a host is inside
		guest.enters(room, "")
		g.tells(room, people, so...)
		g.crashes()
		g.comesBack()
		g.eventually("the room is shown", func() bool {
			got := g.usher.Rooms()
			return len(got) == 1 && got[0].Hosts == 1 && got[0].Guests == 1 && got[0].HostInside
		})
		g.tells(room, people, so...)
		host.leaves(room)
		g.tells(room, people, append(so, "occupant-left 0", "host-left")...)
		guest.leaves(room)
		g.empties()
		g.tells(room, people, append(so, "occupant-left 0", "host-left", "occupant-left 1", "room-ended")...)
	})
}

// A room that ended while no usher was there is reported as ended by the next one, and then opens again.
func TestReportsOfEndWhileAway(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g, host := m.opened(t)
		g.reported(component.HostArrived, nil)
		g.crashes()
		host.leaves(room)
		g.empties()
		g.eventually("the room ends", func() bool { g.empties(); return !g.sees(room).Exists })
		g.comesBack()
		g.tells(room, nil, "room-opened", "occupant-joined", "host-arrived", "room-ended")
		host.enters(room, mint(t, nil))
		g.tells(room, nil, "room-opened", "occupant-joined", "host-arrived", "room-ended", "room-opened", "occupant-joined", "host-arrived")
	}, relay)
}

// While the connection is away people come and go; the same process reports that when it is back.
func TestReportsOfTheTimeAway(t *testing.T) {
	alone(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{crashes: true})
		host, guest, other := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
		people := []*person{host, guest, other}
		host.enters(room, mint(t, nil))
		guest.enters(room, "")
		other.must("asks", other.asks(room, ""), "ready")
		so := []string{"room-opened", "occupant-joined 0", "host-arrived", "occupant-joined 1"}
		g.tells(room, people, so...)
		g.cable.Cut()
		guest.leaves(room)
		other.joins(room)
		g.cable.Mend()
		g.eventually("a second connection", func() bool { return g.usher.Status().Reconnects == 1 })
		g.tells(room, people, append(so, "occupant-left 1", "occupant-joined 2")...)
	})
}

// People who are put out are reported, and why.
func TestReportsOfPutOut(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		g := m.start(t, setup{policy: removing})
		host, other := g.person("meet.example.com"), g.person("meet.example.com")
		host.enters(room, mint(t, nil))
		other.enters(room, mint(t, func(c *token.Claims) { member(c); c.ID = "to revoke" }))
		g.reported(component.Joined, other)
		if _, err := g.usher.Revoke(t.Context(), auth.Revocation{JTI: "to revoke", Until: g.now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if r := g.reported(component.RevokedOut, other); r.JTI != "to revoke" || r.Text != auth.ReasonTokenRevoked.Text() {
			t.Errorf("revoked: %+v", r)
		}
		g.reported(component.Left, other)
		g.forward(2 * time.Hour)
		if r := g.reported(component.Expired, host); r.Text == "" {
			t.Errorf("expired: %+v", r)
		}
		g.reported(component.Left, host)
	}, own, relay)
}

// A report never names a room or a person that cannot be read, and its texts can be printed.
func TestReportsOfNonsense(t *testing.T) {
	g := start(t)
	p := g.person("meet.example.com")
	p.asks("no room", "")
	if r := g.decided(p, 1); !r.Room.Equal(jid.JID{}) || r.Reason != auth.ReasonRoomUnknown || r.Name != "" {
		t.Errorf("%+v", r)
	}
}
