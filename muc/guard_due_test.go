package muc

import (
	"fmt"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
)

// However many rooms wait for a host of whom nothing is known, a host who is about to enter is looked for first, and the rooms
// with people in them are looked at next.
func TestGuardLooksFirst(t *testing.T) {
	g := NewGuard(GuardOptions{Interval: time.Second})
	service := jid.MustParse("conference.meet.example.com")
	for n := range 1000 {
		room, err := service.WithLocal(fmt.Sprintf("room-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		g.Await(room, time.Now().Add(time.Minute))
	}
	expected, live := jid.MustParse("room-500@conference.meet.example.com"), jid.MustParse("live@conference.meet.example.com")
	g.Expect(expected)
	g.mu.Lock()
	rm := g.room(live)
	g.mu.Unlock()
	later := time.Now().Add(2 * time.Second)
	if n := len(g.due(later, 1, true)); n != 1 || !g.awaited[expected.String()].looking {
		t.Errorf("of %d looks none is for the host who is about to enter", n)
	}
	if n := len(g.due(later, 1, true)); n != 1 || !rm.looking {
		t.Errorf("of %d looks none is at the room with people in it", n)
	}
	if n := len(g.due(later, 8, true)); n != 8 {
		t.Errorf("%d looks for the others", n)
	}
}
