package component

import (
	"context"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
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
