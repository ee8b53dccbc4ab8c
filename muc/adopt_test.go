package muc

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// A room of an earlier process is looked through. People outside lose what they have at once, people inside when they leave. Bans,
// the focus and admins of the service are left alone.
func TestGuardAdopts(t *testing.T) {
	for name, tt := range map[string]struct {
		options    func(*GuardOptions)
		persistent bool // before usher knew it
		kept       bool // what is written down
		patient    bool // people may be on their way from a lobby
		stays      bool
	}{
		"without a store": {},
		"with a store":    {kept: true},
		"with a lobby at work": {options: func(o *GuardOptions) {
			o.Lobby = NewLobby(o.Owner, jid.MustParse(lobbyDomain))
		}, patient: true},
		"that is persistent": {persistent: true, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, tt.options, func(t *testing.T, l *lookout) {
				c := l.comes(standup, juliet, "owner")
				l.comes(standup, nurse, "member")
				l.comes(standup, romeo, "owner")
				l.locked(func() {
					c.admins = map[string]bool{admin: true}
					c.persistent = tt.persistent
					if l.options.Lobby != nil {
						l.chats[lobbied] = &chat{address: lobbied, affiliations: map[string]string{}}
					}
				})
				l.affiliations(c, map[string]string{eve: "owner", admin: "owner", "banned@evil.example": "outcast", us: "owner"})
				l.goes(c, romeo)
				if tt.kept {
					l.succeed()
				} else {
					l.forgets()
				}
				pass(interval + time.Second)
				want := map[string]string{juliet: "owner", nurse: "member", "banned@evil.example": "outcast", jicofo: "owner"}
				for _, outside := range []string{romeo, eve} {
					if want[outside] = "none"; tt.stays || tt.patient || tt.kept && outside == romeo {
						want[outside] = "owner"
					}
				}
				check := func() {
					t.Helper()
					for who, affiliation := range want {
						if got := l.is(c, who); got != affiliation {
							t.Errorf("%s is %s, want %s", who, got, affiliation)
						}
					}
				}
				check()
				pass(goneAfter)
				if !tt.stays {
					want[romeo], want[eve] = "none", "none"
				}
				check()
				l.goes(c, nurse)
				pass(goneAfter)
				if !tt.stays {
					want[nurse] = "none"
				}
				check()
				if !l.insideOf(c, juliet) || len(l.warnings) != 0 {
					t.Errorf("the host is inside: %t; told %q", l.insideOf(c, juliet), l.warnings)
				}
			})
		})
	}
}

// A room of which the first question gets no answer is looked through at a later look, once it is known what it is.
func TestGuardAdoptsAfterFailure(t *testing.T) {
	var session failing
	lookOut(t, func(o *GuardOptions) {
		session.Session = o.Owner.Session
		o.Owner.Session = &session
	}, func(t *testing.T, l *lookout) {
		c := l.comes(standup, juliet, "owner")
		l.affiliations(c, map[string]string{eve: "member"})
		session.next.Store(true)
		l.forgets()
		pass(goneAfter)
		if session.next.Load() || l.is(c, eve) != "none" || l.is(c, juliet) != "owner" {
			t.Errorf("a question failed: %t; %s outside is %s, the host inside %s", !session.next.Load(), eve, l.is(c, eve), l.is(c, juliet))
		}
	})
}

// failing is a Session with which the next question to a room may fail.
type failing struct {
	Session
	next atomic.Bool
}

func (f *failing) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	if iq.To.Localpart() != "" && f.next.Swap(false) {
		return errCut
	}
	return f.Session.IQ(ctx, iq, payload, v)
}

// People in a breakout room, or on the way there, keep what they have in the main room of an earlier process.
func TestGuardAdoptsWithBreakouts(t *testing.T) {
	lookOut(t, func(o *GuardOptions) { o.Breakouts = func() bool { return true } }, func(t *testing.T, l *lookout) {
		c := l.comes(standup, juliet, "owner")
		l.affiliations(c, map[string]string{nurse: "member", romeo: "member"}) // by the lobby
		l.locked(func() { l.service.persist(c, true) })
		b := l.opens(breakout)
		l.locked(func() { b.main = c })
		if main, err := l.Main(t.Context(), jid.MustParse(breakout)); err != nil || main.String() != standup {
			t.Fatalf("%s, %v", main, err)
		}
		l.sits(b, nurse)
		l.goes(c, juliet)
		l.succeed()
		pass(20 * time.Second)
		l.sits(b, romeo)
		pass(2 * goneAfter)
		if l.is(c, nurse) != "member" || l.is(c, romeo) != "member" || !c.persistent {
			t.Errorf("the nurse is %s, romeo %s, and the room persistent: %t", l.is(c, nurse), l.is(c, romeo), c.persistent)
		}
		l.goes(b, nurse)
		l.goes(b, romeo)
		l.goes(b, jicofo)
		l.goes(c, jicofo)
		pass(goneAfter + auditEvery)
		if l.chats[standup] != nil {
			t.Errorf("the main room goes on: %+v", c)
		}
	})
}

// A room that an owner makes persistent is temporary again at once, except while it has a lobby or may have breakout rooms.
func TestGuardMakesTemporary(t *testing.T) {
	for name, tt := range map[string]struct {
		options func(*GuardOptions)
		open    bool
		late    bool
	}{
		"members-only": {},
		"module":       {options: func(o *GuardOptions) { o.Configuration = Configuration{} }},
		"a lobby that is not at work": {options: func(o *GuardOptions) {
			o.Lobby = NewLobby(o.Owner, jid.MustParse("nowhere."+lobbyDomain))
		}},
		"a lobby": {options: func(o *GuardOptions) { o.Lobby = NewLobby(o.Owner, jid.MustParse(lobbyDomain)) }, late: true},
		"breakout rooms": {options: func(o *GuardOptions) {
			o.Breakouts = func() bool { return true }
		}, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, tt.options, func(t *testing.T, l *lookout) {
				c := l.comes(standup, juliet, "owner")
				pass(auditEvery)
				l.locked(func() {
					l.chats[lobbied] = &chat{address: lobbied, affiliations: map[string]string{}}
					l.service.persist(c, true)
				})
				l.affiliations(c, map[string]string{eve: "owner"})
				pass(auditEvery + interval)
				if c.persistent != tt.late {
					t.Errorf("persistent: %t", c.persistent)
				}
				if (len(l.warnings) == 1) == tt.late {
					t.Errorf("told %q", l.warnings)
				}
				l.goes(c, juliet)
				l.goes(c, jicofo)
				pass(goneAfter)
				if l.is(c, eve) != "none" && l.chats[standup] != nil || l.chats[standup] != nil && l.options.Lobby == nil {
					t.Errorf("everybody has left, and the room is %+v", l.chats[standup])
				}
				l.locked(func() { delete(l.chats, lobbied) })
				pass(goneAfter)
				if l.chats[standup] != nil || l.Known(jid.MustParse(standup)) || l.book.noted(standup) != lastingUnknown {
					t.Errorf("the room goes on: %+v", l.chats[standup])
				}
			})
		})
	}
}

// The next process knows a room that was left behind although nobody holds a grant there. It also guards the operator's rooms, and
// takes nothing there.
func TestGuardKnowsRoomsLeftBehind(t *testing.T) {
	for _, theirs := range []bool{false, true} {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			c := l.opens(standup)
			l.locked(func() { c.persistent = theirs })
			l.comes(standup, juliet, "owner")
			l.affiliations(c, map[string]string{eve: "owner"})
			l.goes(c, juliet)
			pass(goneAfter)
			l.stop()
			l.locked(func() { l.service.persist(c, true); l.configure(c, false) })
			l.goes(c, jicofo)
			if n := len(l.book.all()); n != 0 {
				t.Fatalf("%d grants are written down", n)
			}
			l.run()
			l.succeed()
			pass(interval + time.Second)
			if !c.membersOnly {
				t.Error("the room is open to all")
			}
			pass(goneAfter)
			if gone := l.chats[standup] == nil; gone == theirs || theirs && l.is(c, eve) != "owner" {
				t.Errorf("the operator's: %t; gone: %t, eve is %s", theirs, gone, l.is(c, eve))
			}
		})
	}
}

// A room is written down again each day, because records of the ledger end. If that fails it is tried again.
func TestRoomsAreWrittenDown(t *testing.T) {
	check := func(t *testing.T, book *book, pass func(time.Duration)) {
		t.Helper()
		burns := func() {
			t.Helper()
			book.mu.Lock()
			defer book.mu.Unlock()
			if len(book.notes) != 1 {
				t.Fatalf("written down are %v", book.notes)
			}
			clear(book.notes)
		}
		pass(time.Minute)
		burns()
		pass(noteEvery)
		burns()
	}
	t.Run("Guard", func(t *testing.T) {
		lookOut(t, func(o *GuardOptions) { o.Interval = time.Hour }, func(t *testing.T, l *lookout) {
			l.comes(standup, juliet, "owner")
			check(t, l.book, func(d time.Duration) {
				// A day of looks takes too long, also where time is not real.
				l.Guard.mu.Lock()
				rm := l.Guard.rooms[standup]
				rm.notedAt = rm.notedAt.Add(-d)
				l.Guard.mu.Unlock()
				pass(time.Hour)
			})
		})
	})
	t.Run("Rooms", func(t *testing.T) {
		scene(t, func(t *testing.T, w *world) {
			w.service.mu.Lock()
			w.prompt = true
			w.service.mu.Unlock()
			w.enters(t, juliet, "owner")
			check(t, w.book, func(d time.Duration) { <-time.After(d + time.Minute); w.settle() })
		})
	})
	t.Run("Guard, where that fails", func(t *testing.T) {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			l.book.fails(errors.New("the disk is full"))
			l.opens(standup)
			if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
				t.Error(err)
			}
			l.book.fails(nil)
			pass(joinWithin + 2*interval)
			if l.book.noted(standup) != temporary {
				t.Error("it is not tried again")
			}
		})
	})
	t.Run("Rooms, where that fails", func(t *testing.T) {
		scene(t, func(t *testing.T, w *world) {
			w.book.fails(errors.New("the disk is full"))
			opened := w.open(1)
			w.settle()
			if err := <-opened; err != nil {
				t.Error(err)
			}
			w.book.fails(nil)
			w.enters(t, juliet, "owner")
			w.pass(2 * joinWithin)
			if w.book.noted(standup) != temporary {
				t.Error("it is not tried again")
			}
		})
	})
}

// usher does not ask a server again and again that refuses to take something back.
func TestGuardRefusedTaking(t *testing.T) {
	for _, condition := range []stanza.Condition{stanza.NotAcceptable, stanza.NotAllowed} {
		lookOut(t, func(o *GuardOptions) { o.Owner.Session = refusing{o.Owner.Session, condition} }, func(t *testing.T, l *lookout) {
			c := l.comes(standup, juliet, "owner")
			l.affiliations(c, map[string]string{"focus@evil.example": "owner"})
			l.forgets()
			pass(goneAfter)
			if l.live() != 1 || len(l.warnings) != 0 {
				t.Errorf("%s: %d are live, and told %q", condition, l.live(), l.warnings)
			}
		})
	}
}

// refusing refuses to change the affiliation of focus@evil.example, as mod_muc_meeting_id.lua does for all of that node.
type refusing struct {
	Session
	condition stanza.Condition
}

func (r refusing) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	b, err := encode(payload)
	if err != nil {
		return err
	}
	if bytes.Contains(b, []byte(`affiliation="none" jid="focus@evil.example"`)) {
		return stanza.Error{Condition: r.condition}
	}
	return r.Session.IQ(ctx, iq, xml.NewDecoder(bytes.NewReader(b)), v)
}

// How Rooms treat rooms of an earlier process, of an operator, and with a password.
func TestRoomsAdopt(t *testing.T) {
	for name, tt := range map[string]struct {
		persistent, theirs bool
		password           string
	}{
		"temporary":                   {},
		"made persistent":             {persistent: true},
		"an operator's":               {persistent: true, theirs: true},
		"with a password":             {password: "xyzzy & more"},
		"persistent, with a password": {persistent: true, password: "xyzzy"},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				w.enters(t, juliet, "owner")
				w.enters(t, nurse, "member")
				c := w.enters(t, romeo, "owner")
				w.disconnected()
				w.remove(c, c.by(ourself))
				w.remove(c, c.by(romeo+"/1"))
				c.affiliations[eve], c.affiliations["banned@evil.example"] = "member", "outcast"
				if tt.theirs {
					delete(c.affiliations, us) // usher is on the list because it created the room
				}
				c.persistent, c.password = tt.persistent, tt.password
				w.book.burns()
				w.newRooms()
				w.connect(nil)
				w.pass(2 * time.Second)
				want := map[string]string{juliet: "owner", nurse: "member", romeo: "none", eve: "none", "banned@evil.example": "outcast"}
				if tt.theirs {
					want[romeo], want[eve] = "owner", "member"
				}
				check := func() {
					t.Helper()
					for who, affiliation := range want {
						if got := c.affiliation(who); got != affiliation {
							t.Errorf("%s is %s, want %s", who, got, affiliation)
						}
					}
				}
				check()
				if c.by(ourself) == nil || c.persistent != tt.theirs {
					t.Errorf("we are inside: %t; persistent: %t", c.by(ourself) != nil, c.persistent)
				}
				w.remove(c, c.by(nurse+"/1"))
				w.pass(joinWithin / 3)
				if !tt.theirs {
					want[nurse] = "none"
				}
				check()
				w.remove(c, c.by(juliet+"/1"))
				w.pass(3 * joinWithin)
				if _, open := w.known(standup); (w.chats[standup] != nil) != tt.theirs || open != tt.theirs {
					t.Errorf("the room goes on: %t; known: %t", w.chats[standup] != nil, open)
				}
				if !tt.theirs {
					return
				}
				check()
				w.configure(c, false) // by an owner outside
				w.pass(time.Second)
				if !c.membersOnly {
					t.Error("the room is open to all")
				}
				w.rooms.Leave(t.Context(), true)
				w.settle()
				if c.by(ourself) == nil {
					t.Error("the room is left alone when usher stops")
				}
				w.persist(c, false)
				w.pass(2 * joinWithin)
				if w.chats[standup] != nil {
					t.Error("the room goes on")
				}
			})
		})
	}
}

// keptByLobby returns a room with a lobby in which juliet is. Somebody has made the room persistent and eve an owner.
func (w *world) keptByLobby(t *testing.T) *chat {
	w.rooms.Lobby = NewLobby(w.rooms.Owner, jid.MustParse(lobbyDomain))
	c := w.enters(t, juliet, "owner")
	w.chats[lobbied] = &chat{address: lobbied, affiliations: map[string]string{}}
	w.persist(c, true)
	w.affiliate(c, eve, "owner", false)
	return c
}

// A room with a lobby goes on if something made it persistent, without any rights and without usher.
func TestRoomsLeaveLobby(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.keptByLobby(t)
		w.affiliate(c, "banned@evil.example", "outcast", false)
		w.pass(time.Second)
		if !c.persistent {
			t.Fatal("the lobby's room is temporary")
		}
		w.remove(c, c.by(juliet+"/1"))
		w.pass(2 * joinWithin)
		if w.chats[standup] == nil || len(c.seats) != 0 || c.affiliation(eve) != "none" || c.affiliation(juliet) != "none" || c.affiliation("banned@evil.example") != "outcast" {
			t.Errorf("the room is %+v", c)
		}
		if n := len(w.book.everything()); n != 0 {
			t.Errorf("%d are written down", n)
		}
	})
}

// If somebody comes while such a room is about to be left, gives rights and leaves, no rights remain.
func TestRoomsLeaveLobbyAgain(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.keptByLobby(t)
		w.pass(time.Second)
		w.remove(c, c.by(juliet+"/1"))
		for c.affiliation(eve) != "none" { // one step of the server at a time
			if !w.serve() {
				<-time.After(time.Millisecond)
			}
			for w.read() {
				synctest.Wait()
			}
			synctest.Wait()
		}
		if c.by(ourself) == nil {
			t.Fatal("usher has left already")
		}
		w.affiliate(c, romeo, "owner", false)
		if !w.join(c, romeo+"/1", "romeo") {
			t.Fatal("romeo is kept out")
		}
		w.affiliate(c, eve, "owner", false)
		w.pass(time.Second)
		w.remove(c, c.by(romeo+"/1"))
		w.pass(2 * joinWithin)
		if w.chats[standup] == nil || c.affiliation(eve) != "none" || c.affiliation(romeo) != "none" {
			t.Errorf("the room is %+v", c)
		}
	})
}

// Somebody who comes while an empty room is about to be left stays.
func TestRoomsComesWhileWeFinish(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, juliet, "owner")
		w.persist(c, true)
		w.settle()
		w.affiliate(c, romeo, "member", false)
		w.settle()
		w.remove(c, c.by(juliet+"/1"))
		for w.read() {
			synctest.Wait()
		}
		w.join(c, romeo+"/1", "romeo") // before the service takes the question of finish
		w.pass(2 * time.Second)
		if c.by(romeo+"/1") == nil || w.chats[standup] == nil {
			t.Error("the room is gone")
		}
	})
}

// If a room has ended while no usher ran, an operator's room of the same name is the operator's.
func TestRoomOfTheSameName(t *testing.T) {
	operators := func(c *chat) {
		c.persistent, c.affiliations = true, map[string]string{eve: "owner", juliet: "member"}
	}
	check := func(t *testing.T, c *chat) {
		t.Helper()
		if !c.persistent || c.affiliation(eve) != "owner" || c.affiliation(juliet) != "member" {
			t.Errorf("the room is %+v", c)
		}
	}
	t.Run("Guard", func(t *testing.T) {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			c := l.comes(standup, romeo, "owner")
			pass(interval)
			l.locked(func() { operators(c); l.remove(c, c.inside(romeo)); l.remove(c, c.inside(jicofo)) })
			l.succeed()
			pass(2 * goneAfter)
			check(t, l.chats[standup])
			if l.book.noted(standup) != persistent || l.live() != 0 {
				t.Errorf("written down is %q, and %d are live", l.book.noted(standup), l.live())
			}
		})
	})
	t.Run("Rooms", func(t *testing.T) {
		scene(t, func(t *testing.T, w *world) {
			c := w.enters(t, romeo, "owner")
			w.disconnected()
			operators(c)
			w.remove(c, c.by(romeo+"/1"))
			w.remove(c, c.by(ourself))
			w.newRooms()
			w.rooms.Restore(w.book.everything())
			w.connect(w.rooms.Reset())
			w.pass(3 * joinWithin)
			check(t, w.chats[standup])
		})
	})
}

// A room that was seen before anybody was admitted to it is not of an earlier process: an elected owner is put back there.
func TestGuardSeenBeforeAdmission(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		c := l.opens(standup)
		if exists, _, err := l.State(t.Context(), jid.MustParse(standup)); !exists || err != nil {
			t.Fatal(exists, err)
		}
		l.comes(standup, nurse, "member")
		l.sets(c, nurse, "owner")
		pass(2 * interval)
		if got := l.is(c, nurse); got != "member" {
			t.Errorf("the nurse is %s", got)
		}
	})
}

// If the focus is not inside a room, it has to open the room, although the room exists.
func TestGuardAttended(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		j := jid.MustParse(standup)
		attended := func(want bool) {
			t.Helper()
			if got := l.Attended(j); got != want {
				t.Errorf("attended: %t", got)
			}
		}
		attended(false)
		c := l.comes(standup, romeo, "owner")
		attended(true)
		l.goes(c, jicofo)
		pass(auditEvery + interval)
		attended(false)
		if !l.Known(j) {
			t.Error("the room is not known")
		}
		l.locked(func() { l.service.join(c, jicofo+"/focus", "focus") })
		if err := l.Guard.Open(t.Context(), j, true); err != nil {
			t.Fatal(err)
		}
		attended(true)
		pass(auditEvery + interval)
		attended(true)
	})
}

// usher stops right after everybody has left a room that an owner made persistent: the room ends all the same.
func TestRoomsStopsRightAfter(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, juliet, "owner")
		w.persist(c, true)
		w.affiliate(c, eve, "owner", false)
		w.remove(c, c.by(juliet+"/1"))
		for w.read() {
			synctest.Wait()
		}
		w.rooms.Leave(t.Context(), true)
		w.settle()
		if w.chats[standup] != nil {
			t.Errorf("the room goes on: %+v", c)
		}
	})
}
