package muc

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

const (
	standup = "standup@" + mucDomain
	romeo   = "romeo@meet.example"
	juliet  = "juliet@meet.example"
	nurse   = "nurse@guest.example"
)

// scene plays in a world of its own that is connected.
func scene(t *testing.T, play func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		play(t, w)
	})
}

// told is what became of somebody's latest request.
func (w *world) told(who string) error { return w.last[[2]string{standup, who}].err }

// enters lets somebody ask and join.
func (w *world) enters(t *testing.T, who, affiliation string) *chat {
	t.Helper()
	w.admit(standup, who, affiliation, true, time.Time{})
	w.settle()
	c := w.chats[standup]
	if err := w.told(who); err != nil || !w.join(c, who+"/1", "nick of "+who) {
		t.Fatalf("%s does not get in: %v", who, err)
	}
	w.settle()
	return c
}

// Who may create a room is not refused because somebody who may not asked first.
func TestOpenAfterAnotherMayNot(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.admit(standup, nurse, "member", false, time.Time{})
		synctest.Wait()
		w.admit(standup, romeo, "owner", true, time.Time{})
		w.settle()
		if err := w.told(romeo); err != nil {
			t.Error(err)
		}
	})
}

// A room that came into being too late, for somebody who may not create it, does not stay.
func TestCreatedTooLate(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.admit(standup, nurse, "member", false, time.Time{})
		<-time.After(11 * time.Second)
		w.settle()
		if w.told(nurse) == nil || w.chats[standup] != nil {
			t.Errorf("%v, and the room is %+v", w.told(nurse), w.chats[standup])
		}
	})
}

// Who leaves while asking again keeps nothing.
func TestLeaveWhileGranted(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, juliet, "owner")
		c := w.enters(t, romeo, "member")
		w.admit(standup, romeo, "owner", true, time.Time{})
		synctest.Wait()
		w.remove(c, c.by(romeo+"/1"))
		w.pass(40 * time.Second)
		if got := c.affiliation(romeo); got != "none" {
			t.Errorf("still %s", got)
		}
	})
}

// Whoever left, or did not come, while we were outside keeps nothing; whoever is still inside is not disturbed.
func TestGrantsOutliveOurStay(t *testing.T) {
	for name, interrupt := range map[string]func(*world, *chat){
		"kicked":       func(w *world, c *chat) { w.remove(c, c.by(ourself), "307") },
		"disconnected": func(w *world, _ *chat) { w.connect(w.disconnected()) },
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				w.enters(t, juliet, "owner")
				c := w.enters(t, romeo, "member")
				w.admit(standup, nurse, "member", false, time.Time{})
				w.settle()
				interrupt(w, c)
				w.remove(c, c.by(romeo+"/1"))
				w.pass(40 * time.Second)
				for who, want := range map[string]string{juliet: "owner", romeo: "none", nurse: "none"} {
					if got := c.affiliation(who); got != want {
						t.Errorf("%s is %s, want %s", who, got, want)
					}
				}
			})
		})
	}
}

// An owner's ban stays, whatever we were about to give or take back.
func TestBanStays(t *testing.T) {
	for name, play := range map[string]func(w *world, c *chat){
		"while it is given": func(w *world, c *chat) {
			w.admit(standup, nurse, "member", false, time.Time{})
			synctest.Wait()
			w.affiliate(c, nurse, "outcast", false)
		},
		"before they came": func(w *world, c *chat) {
			w.admit(standup, nurse, "member", false, time.Time{})
			w.settle()
			w.affiliate(c, nurse, "outcast", false)
		},
		"while inside": func(w *world, c *chat) {
			w.admit(standup, nurse, "member", false, time.Time{})
			w.settle()
			w.join(c, nurse+"/1", "nurse")
			w.affiliate(c, nurse, "outcast", false)
		},
		"while outside": func(w *world, c *chat) { w.affiliate(c, nurse, "outcast", false) },
		"before we entered": func(w *world, c *chat) {
			rooms := w.disconnected()
			w.affiliate(c, nurse, "outcast", false)
			w.connect(rooms)
		},
		"the whole domain": func(w *world, c *chat) {
			w.affiliate(c, "guest.example", "outcast", false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				c := w.enters(t, romeo, "owner")
				play(w, c)
				w.pass(40 * time.Second)
				w.admit(standup, nurse, "member", false, time.Time{})
				w.pass(40 * time.Second)
				if got := c.affiliation(nurse); got != "outcast" || !errors.Is(w.told(nurse), ErrOutcast) {
					t.Errorf("%s, and told %v", got, w.told(nurse))
				}
			})
		})
	}
}
