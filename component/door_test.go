package component

import (
	"context"
	"encoding/xml"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

// otherDoor is a client that asked in another way than by IQ.
type otherDoor struct{ told []auth.Decision }

func (o *otherDoor) tell(_ focus.Conference, d auth.Decision, _ *focus.Answer, _ func()) error {
	o.told = append(o.told, d)
	return nil
}

func (o *otherDoor) fail() error        { return nil }
func (o *otherDoor) record() heldRecord { return heldRecord{} }

// openMode is a mode in which rooms are open, and have a host or not.
type openMode struct {
	mode
	host    bool
	applied int
	awaited int
}

func (m *openMode) look(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
	return auth.RoomState{Exists: true, HostPresent: m.host}, nil
}

func (m *openMode) apply(_ context.Context, _ *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	m.applied++
	return d, nil
}

func (m *openMode) Await(jid.JID, time.Time) { m.awaited++ }

// Admission does not know which door a request came through: it decides, applies and tells each client once, holds those who wait
// again, and needs no connection for that.
func TestAnotherDoor(t *testing.T) {
	c, m := testComponent(t), &openMode{}
	c.mode, c.o.WaitHold = m, time.Minute
	door := &otherDoor{}
	asks := func(from string) {
		c.admit(t.Context(), &request{from: jid.MustParse(from), conf: focus.Conference{Room: theRoom.String()}, client: door, came: time.Now()})
	}
	told := func(verdict auth.Verdict, reason auth.Reason) {
		t.Helper()
		if len(door.told) != 1 || door.told[0].Verdict != verdict || door.told[0].Reason != reason {
			t.Errorf("told %+v, want %s %s once", door.told, verdict, reason)
		}
		door.told = nil
	}
	asks("eve@elsewhere.example/r")
	told(auth.Deny, auth.ReasonVHostUnknown)
	asks("u@guest.example.com/r")
	told(auth.Wait, auth.ReasonHostAbsent)
	asks("u@guest.example.com/r")
	if len(door.told) != 0 || c.held.length() != 1 || m.awaited != 1 || m.applied != 0 {
		t.Errorf("told %v; %d held, %d awaited, %d applied", door.told, c.held.length(), m.awaited, m.applied)
	}
	m.host = true
	w := c.held.call(theRoom)[0]
	c.held.take(w)
	c.again(t.Context(), w, time.Now())
	told(auth.Allow, auth.ReasonGuest)
	if m.applied != 1 {
		t.Errorf("applied %d times", m.applied)
	}
	if got := c.Stats().Reasons; got[auth.ReasonVHostUnknown] != 1 || got[auth.ReasonHostAbsent] != 1 || got[auth.ReasonGuest] != 1 {
		t.Errorf("counted %v", got)
	}
}

// The size of a held request is at least what it keeps in memory because of what its client said: a client that asks in the largest
// way, with many small properties or one large token, does not get past the bound on bytes.
func TestSizeOfHeld(t *testing.T) {
	for name, inside := range map[string]string{
		"properties": strings.Repeat("<property name='a' value='b'/>", 64),
		"a token":    "",
	} {
		attrs := ""
		if inside == "" {
			attrs = " token='" + strings.Repeat("x", 8<<10) + "'"
		}
		const n = 1000
		all, size := make([]*waiter, n), 0
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range all {
			raw := fmt.Sprintf("<conference xmlns='%s' room='r%d@conference.meet.example.com'%s>%s</conference>", focus.NS, i, attrs, inside)
			start, d, err := stream.Open([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = &waiter{request: request{client: iqClient{}, conf: parsed(t, start, d)}}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		for _, r := range all {
			size += r.size()
		}
		// A waiter itself, and what the allocator rounds up, come on top; the number of waiters is bounded, too.
		if keeps := int(after.HeapAlloc) - int(before.HeapAlloc); keeps > size+n*2048 {
			t.Errorf("%s: %d bytes are counted, %d are kept", name, size, keeps)
		}
		runtime.KeepAlive(all)
	}
}

func parsed(t *testing.T, start xml.StartElement, d *xml.Decoder) focus.Conference {
	t.Helper()
	conf, err := focus.Parse(start, d)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}
