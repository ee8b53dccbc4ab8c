package muc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// handing plays in a connected world, on a service with usher's module. The module only takes what is given.
func handing(t *testing.T, play func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(true)
		defer func() { w.disconnected() }()
		w.settle()
		play(t, w)
	})
}

// sent counts what usher has sent so far: affiliations by the plain path, and what it has handed to the module.
func (w *world) sent() (plain, handed int) {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for _, a := range w.iqs {
		if a.Type == "set" && len(a.Query.Items) > 0 {
			plain++
		}
	}
	return plain, w.gaves
}

// Where the module takes it, what usher gives and takes goes to the module. Nobody inside hears of it, and usher waits for no answer.
func TestRoomsGiveThroughModule(t *testing.T) {
	handing(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "owner")
		w.admit(standup, juliet, "member", false, time.Time{})
		synctest.Wait()
		if a := w.last[[2]string{standup, juliet}]; !a.done || a.err != nil {
			t.Fatalf("it is not given before the service has answered: %+v", a)
		}
		heard := len(w.down)
		w.settle()
		c := w.chats[standup]
		if heard != 0 || c.affiliation(juliet) != "member" || !w.join(c, juliet+"/1", "juliet") {
			t.Fatalf("%s, and %d stanzas were read for it", c.affiliation(juliet), heard)
		}
		w.settle()
		w.remove(c, c.inside(juliet))
		w.pass(2 * lookAgain)
		if got := c.affiliation(juliet); got != "none" {
			t.Errorf("who has left is %s", got)
		}
		if plain, handed := w.sent(); plain != 0 || handed != 3 {
			t.Errorf("%d affiliations were set by the plain path, and %d things were handed to the module", plain, handed)
		}
	})
}

// What the module refuses is no grant, whatever the reason. A ban stays.
func TestRoomsRefusedByModule(t *testing.T) {
	for name, tt := range map[string]struct {
		who  string
		play func(w *world, c *chat) // after usher has sent it, before the service takes it
		want string                  // what the person is then
	}{
		"banned meanwhile":        {nurse, func(w *world, c *chat) { w.affiliate(c, nurse, "outcast", false) }, "outcast"},
		"the domain is banned":    {nurse, func(w *world, c *chat) { w.affiliate(c, "guest.example", "outcast", false) }, "outcast"},
		"an admin of the service": {admin, func(*world, *chat) {}, "none"},
		"the room has ended":      {nurse, func(w *world, c *chat) { w.destroy(c) }, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			handing(t, func(t *testing.T, w *world) {
				c := w.enters(t, romeo, "owner")
				w.admit(standup, tt.who, "member", false, time.Time{})
				synctest.Wait()
				tt.play(w, c)
				w.pass(2 * lookAgain)
				if got := c.affiliation(tt.who); got != tt.want {
					t.Errorf("is %s, want %s", got, tt.want)
				}
				for _, g := range w.book.all() {
					if g.Who.String() == tt.who {
						t.Errorf("written down is %v", g)
					}
				}
				if live, written := w.live(), len(w.book.all()); live != written {
					t.Errorf("%d are live, %d are written down", live, written)
				}
			})
		})
	}
}

// A plugin throws while the module gives or takes something. Nothing is left of it, and a warning says so.
func TestRoomsModuleFails(t *testing.T) {
	for _, what := range []string{"gives", "takes"} {
		t.Run(what, func(t *testing.T) {
			handing(t, func(t *testing.T, w *world) {
				c := w.enters(t, romeo, "owner")
				if what == "gives" {
					c.refuses = []string{"undefined-condition"}
				}
				w.admit(standup, nurse, "member", false, time.Time{})
				w.settle()
				if what == "takes" {
					c.refuses = []string{"undefined-condition"}
					w.rooms.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
				}
				w.pass(2 * lookAgain)
				if got := c.affiliation(nurse); got != "none" || w.live() != 1 || len(w.warned) != 1 || len(c.refuses) != 0 {
					t.Errorf("is %s, %d live, told %v", got, w.live(), w.warned)
				}
			})
		})
	}
}

// The module is unloaded while something is on its way to it. Then the room is asked, and what must not be given is not given.
func TestRoomsGiveAfterModuleIsUnloaded(t *testing.T) {
	t.Run("a grant", func(t *testing.T) {
		handing(t, func(t *testing.T, w *world) {
			c := w.enters(t, romeo, "owner")
			w.admit(standup, nurse, "member", false, time.Time{})
			synctest.Wait()
			w.unload(mucDomain)
			w.settle()
			if got := c.affiliation(nurse); got != "member" || w.live() != 2 {
				t.Errorf("is %s, and %d grants are live", got, w.live())
			}
			w.pass(joinWithin + 2*lookAgain)
			if got := c.affiliation(nurse); got != "none" || w.live() != 1 {
				t.Errorf("who did not come is %s, and %d grants are live", got, w.live())
			}
		})
	})
	t.Run("a grant to somebody who is banned meanwhile", func(t *testing.T) {
		handing(t, func(t *testing.T, w *world) {
			c := w.enters(t, romeo, "owner")
			w.admit(standup, nurse, "member", false, time.Time{})
			synctest.Wait()
			w.unload(mucDomain)
			w.serve() // the module is not there
			for w.read() {
				synctest.Wait()
			}
			w.affiliate(c, nurse, "outcast", false) // before the room is asked
			w.settle()
			if got := c.affiliation(nurse); got != "outcast" || w.live() != 1 {
				t.Errorf("is %s, and %d grants are live", got, w.live())
			}
		})
	})
	t.Run("a taking back", func(t *testing.T) {
		handing(t, func(t *testing.T, w *world) {
			c := w.enters(t, romeo, "owner")
			w.admit(standup, nurse, "member", false, time.Time{})
			w.settle()
			w.rooms.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
			w.unload(mucDomain)
			w.settle()
			if got := c.affiliation(nurse); got != "none" {
				t.Errorf("is %s", got)
			}
		})
	})
}

// What a grant says of the person's session goes with it.
func TestRoomsGiveContext(t *testing.T) {
	handing(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "owner")
		session := jid.MustParse(nurse + "/1")
		given := make(chan error, 1)
		w.requests.Go(func() {
			given <- w.rooms.Grant(w.ctx, Grant{Room: jid.MustParse(standup), Who: session.Bare(), Affiliation: "member",
				Context: &Context{Session: session, Features: map[string]bool{"recording": false}}})
		})
		w.settle()
		if err := <-given; err != nil || !slices.ContainsFunc(w.contexts, func(s string) bool {
			return strings.HasPrefix(s, session.String()+" ") && strings.Contains(s, "recording")
		}) {
			t.Errorf("%v; %v", err, w.contexts)
		}
	})
}

// Nothing is taken back in a room that ends anyway, also if somebody has configured it.
func TestNothingIsSentToARoomThatEnds(t *testing.T) {
	for name, configured := range map[string]bool{"ours": false, "configured by somebody": true} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				w.enters(t, romeo, "owner")
				for i := range 5 {
					w.enters(t, fmt.Sprintf("guest-%d@guest.example", i), "member")
				}
				c := w.chats[standup]
				if configured {
					w.configured(c)
					w.settle()
				}
				before, _ := w.sent()
				for c.others() > 0 {
					w.remove(c, c.find(func(o *seat) bool { return o.full != ourself }))
				}
				w.settle()
				if after, _ := w.sent(); after != before || w.chats[standup] != nil || w.live() != 0 {
					t.Errorf("%d affiliations were taken back; the room is %+v; %d grants are live", after-before, w.chats[standup], w.live())
				}
			})
		})
	}
}

// A room that a lobby keeps when everybody has left keeps nobody's rights.
func TestRightsInARoomKeptByItsLobby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		w.rooms.Lobby = NewLobby(w.rooms.Owner, jid.MustParse(lobbyDomain))
		c := w.enters(t, romeo, "owner")
		w.enters(t, juliet, "member")
		w.chats[lobbied] = &chat{address: lobbied, affiliations: map[string]string{}}
		w.persist(c, true)
		w.settle()
		for c.others() > 0 {
			w.remove(c, c.find(func(o *seat) bool { return o.full != ourself }))
		}
		w.pass(2 * lookAgain)
		if c.affiliation(romeo) != "none" || c.affiliation(juliet) != "none" || c.by(ourself) != nil || w.chats[standup] != c {
			t.Errorf("the room is %+v", c)
		}
		if err := errors.Join(w.told(romeo), w.told(juliet)); err != nil {
			t.Error(err)
		}
	})
}

// Somebody leaves and asks again before usher has read that they left. What it hands to the module then is not taken back because of that.
// Who was kicked has to ask once more: perhaps the moderator kicked them after it was given.
func TestRoomsGiveCrossesLeave(t *testing.T) {
	for name, tt := range map[string]struct{ was, code, want string }{
		"left":                 {"member", "", "member"},
		"left, was more":       {"owner", "", "member"},
		"was kicked":           {"member", "307", "none"},
		"was kicked, was more": {"owner", "307", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			handing(t, func(t *testing.T, w *world) {
				c := w.enters(t, romeo, "owner")
				w.enters(t, juliet, tt.was)
				w.pass(joinWithin)
				w.remove(c, c.inside(juliet), tt.code)
				w.admit(standup, juliet, "member", false, time.Time{})
				synctest.Wait()
				w.pass(3 * lookAgain)
				if got := c.affiliation(juliet); got != tt.want {
					t.Errorf("who has asked again is %s, want %s", got, tt.want)
				}
				w.pass(joinWithin)
				if got := c.affiliation(juliet); got != "none" {
					t.Errorf("who has not come is %s", got)
				}
			})
		})
	}
}
