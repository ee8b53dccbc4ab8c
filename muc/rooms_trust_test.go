package muc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// untilSure is the time after which rooms that were made on trust have been looked at.
const untilSure = trustFor + lookAgain + 2*hostTick

// trusting plays in a connected world with Prosody in which usher trusts the service: it has looked at two rooms.
func trusting(t *testing.T, play func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		w.opensRooms(t, 1, 2)
		play(t, w)
	})
}

func nth(i int) string { return fmt.Sprintf("room-%d@%s", i, mucDomain) }

// opensRooms has somebody admitted to new rooms with these numbers.
func (w *world) opensRooms(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		w.admit(nth(i), romeo, "owner", true, time.Time{})
		w.settle()
		if err := w.last[[2]string{nth(i), romeo}].err; err != nil {
			t.Fatalf("room %d: %v", i, err)
		}
	}
}

// forms counts the forms that were asked for and submitted, and the attempts of usher's second resource, and forgets them.
func (s *service) forms() (asked, submitted, tries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.iqs {
		switch {
		case a.Query.XMLName.Space != NSOwner || a.Query.Destroy != nil:
		case a.Type == "get":
			asked++
		default:
			submitted++
		}
	}
	tries = s.tries
	s.iqs, s.tries = nil, 0
	return asked, submitted, tries
}

func (w *world) wantForms(t *testing.T, what string, asked, submitted, tries int) {
	t.Helper()
	if a, s, n := w.forms(); a != asked || s != submitted || n != tries {
		t.Errorf("%s: %d forms asked for, %d submitted, %d tries of the second resource; want %d, %d and %d", what, a, s, n, asked, submitted, tries)
	}
}

// A room that is made as it must be is not configured. One in trustRooms is looked at, and the first two of a connection.
func TestRoomsMadeAsTheyMustBe(t *testing.T) {
	trusting(t, func(t *testing.T, w *world) {
		w.wantForms(t, "the first two", 2, 1, 1)
		w.opensRooms(t, 3, 2+trustRooms)
		w.wantForms(t, "rooms on trust", 0, 0, 0)
		w.opensRooms(t, 3+trustRooms, 3+trustRooms)
		w.wantForms(t, "the next look", 1, 0, 1)
		w.opensRooms(t, 4+trustRooms, 4+trustRooms)
		w.wantForms(t, "on trust again", 0, 0, 0)
		w.pass(untilSure)
		w.wantForms(t, "the last room, later", 1, 0, 1)
		w.pass(2 * untilSure)
		w.opensRooms(t, 30, 30)
		w.wantForms(t, "after a while", 1, 0, 1)
		w.connect(w.disconnected())
		w.pass(time.Second)
		w.forms()
		w.opensRooms(t, 31, 31)
		w.wantForms(t, "on the next connection", 1, 1, 0)
		if len(w.warned) != 0 {
			t.Errorf("warned of %v", w.warned)
		}
	})
}

// Where rooms are locked, open, or not Prosody's, each is configured.
func TestRoomsThatMustBeConfigured(t *testing.T) {
	for name, tt := range map[string]struct {
		change                  func(*service)
		asked, submitted, tries int // for five rooms
	}{
		"locked":   {func(s *service) { s.locks = true }, 2, 5, 1},
		"open":     {func(s *service) { s.opens = true }, 1, 5, 0},
		"ejabberd": {func(s *service) { s.ejabberd = true }, 1 + 5, 2 * 5, 0}, // which refuses the first form
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				tt.change(w.service)
				defer func() { w.disconnected() }()
				w.settle()
				w.opensRooms(t, 1, 5)
				for i := 1; i <= 5; i++ {
					if c := w.chats[nth(i)]; !c.membersOnly || c.locked {
						t.Errorf("room %d: %+v", i, c)
					}
				}
				if name == "open" { // each room tells that it was configured, and is looked at for that
					tt.asked += 5
				}
				w.wantForms(t, name, tt.asked, tt.submitted, tt.tries)
			})
		})
	}
}

// The server reads another configuration while usher trusts it. Whatever the new rooms are, all of them are made what they must be, and
// from then on each room is configured.
func TestRoomsMadeOtherwiseLater(t *testing.T) {
	open, locked := func(s *service) { s.opens = true }, func(s *service) { s.locks = true }
	for name, tt := range map[string]struct {
		change func(*service)
		then   func(t *testing.T, w *world)
	}{
		"a stranger comes in": {open, func(t *testing.T, w *world) {
			if c := w.chats[nth(4)]; !w.join(c, eve+"/1", "eve") {
				t.Fatal("the stranger cannot come in")
			}
			w.settle()
			if c := w.chats[nth(4)]; c.inside(eve) != nil || w.ghosts > 0 || c.affiliation(eve) != "none" {
				t.Errorf("the stranger is inside: %t, a ghost: %d, and %s", c.inside(eve) != nil, w.ghosts, c.affiliation(eve))
			}
		}},
		"the next look":               {open, func(t *testing.T, w *world) { w.opensRooms(t, 6, 2+trustRooms+1) }},
		"no room follows":             {open, func(t *testing.T, w *world) { w.pass(untilSure) }},
		"locked, and no room follows": {locked, func(t *testing.T, w *world) { w.pass(untilSure) }},
		"locked, the next look":       {locked, func(t *testing.T, w *world) { w.opensRooms(t, 6, 2+trustRooms+1) }},
		"somebody looks at one": {open, func(t *testing.T, w *world) {
			w.rooms.change(jid.MustParse(nth(3)))
			w.settle()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			trusting(t, func(t *testing.T, w *world) {
				tt.change(w.service)
				w.opensRooms(t, 3, 5)
				if c := w.chats[nth(5)]; c.membersOnly && !c.locked {
					t.Fatal("the test is wrong: usher has configured the room")
				}
				tt.then(t, w)
				for address, c := range w.chats {
					if !c.membersOnly || c.locked {
						t.Errorf("%s: %+v", address, c)
					}
				}
				if n := len(slices.DeleteFunc(slices.Clone(w.warned), func(err error) bool { return !errors.Is(err, errMade) })); n != 1 {
					t.Errorf("warned %d times: %v", n, w.warned)
				}
				w.forms()
				w.opensRooms(t, 20, 22)
				if _, submitted, _ := w.forms(); submitted != 3 {
					t.Errorf("then %d of three rooms are configured", submitted)
				}
			})
		})
	}
}

// An owner who opens a room that was made on trust says nothing about the server.
func TestOwnerOpensRoomMadeOnTrust(t *testing.T) {
	trusting(t, func(t *testing.T, w *world) {
		w.opensRooms(t, 3, 4)
		c := w.chats[nth(3)]
		w.join(c, romeo+"/1", "romeo")
		w.configure(c, false)
		w.settle()
		w.forms()
		w.opensRooms(t, 5, 5)
		w.wantForms(t, "the next room", 0, 0, 0)
		if !c.membersOnly || len(w.warned) != 0 {
			t.Errorf("members-only: %t, warned of %v", c.membersOnly, w.warned)
		}
	})
}

// A second resource that an earlier process has left inside leaves as soon as something happens there.
func TestSecondResourceLeftInside(t *testing.T) {
	trusting(t, func(t *testing.T, w *world) {
		w.forms()
		w.hear(fmt.Sprintf("<presence from='%s/focus' to='%s'><x xmlns='%s'><item affiliation='owner' role='moderator'/><status code='110'/></x></presence>", nth(1), secondly, NSUser))
		left := ""
		for _, raw := range w.up {
			left += string(raw)
		}
		if want := fmt.Sprintf(`<presence type="unavailable" to="%s/focus" from="%s"></presence>`, nth(1), secondly); left != want {
			t.Errorf("sent %s, want %s", left, want)
		}
		w.settle()
	})
}

// A module of the server holds people up at the door. The second resource then comes in after it has left, so it leaves again, and rooms
// are configured.
func TestSecondResourceComesInLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		w.rates = true
		w.opensRooms(t, 1, 4)
		w.wantForms(t, "four rooms", 2, 4, 1)
		w.rates = false
		for _, a := range w.waiting {
			w.service.mu.Lock()
			w.second(w.chats[nth(2)], a, "focus")
			w.service.mu.Unlock()
		}
		for w.read() {
			synctest.Wait()
		}
		if left := string(bytes.Join(w.up, nil)); !strings.Contains(left, fmt.Sprintf(`<presence type="unavailable" to="%s/focus" from="%s">`, nth(2), secondly)) {
			t.Errorf("it does not leave: %s", left)
		}
		w.settle()
	})
}
