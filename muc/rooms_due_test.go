package muc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// A room in which nothing is due is not looked at for hours, however long it is open.
func TestQuietRoomIsNotLookedAt(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "owner")
		c := w.enters(t, juliet, "member")
		next := func() time.Duration {
			w.rooms.mu.Lock()
			defer w.rooms.mu.Unlock()
			return time.Until(w.rooms.rooms[standup].turn.due)
		}
		w.pass(joinWithin + 2*lookAgain)
		if d := next(); d < noteEvery/2 {
			t.Errorf("the next look is in %s", d)
		}
		w.remove(c, c.inside(juliet))
		w.settle()
		if d := next(); d > lookAgain {
			t.Errorf("after somebody has left, the next look is in %s", d)
		}
		w.pass(2*lookAgain + 2*hostTick)
		if d, got := next(), c.affiliation(juliet); d < noteEvery/2 || got != "none" {
			t.Errorf("then the next look is in %s, and who has left is %s", d, got)
		}
	})
}

// However many rooms are due, others get the lock between a few of them.
func TestFewRoomsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		r := s.newRooms()
		const n = 3 * looksAtATime
		for i := range n {
			rm := r.newRoom(jid.MustParse(fmt.Sprintf("room-%d@%s", i, mucDomain)))
			rm.open, rm.ours = true, true
			r.rooms[rm.jid.String()] = rm
			r.soon(rm)
		}
		time.Sleep(lookAgain)
		for turn := 1; turn <= 3; turn++ {
			if more := r.lookAtDue(); !more || len(r.rooms) != n-turn*looksAtATime {
				t.Fatalf("turn %d: more: %t, and %d rooms are left", turn, more, len(r.rooms))
			}
		}
		if r.lookAtDue() || len(r.due) > 0 {
			t.Errorf("rooms are due that are gone: %d", len(r.due))
		}
	})
}
