package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// Somebody who may create a room is not refused because somebody who may not asked first.
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

// A room that is created too late, for somebody who may not create it, does not stay.
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

// Somebody who leaves while asking again keeps nothing.
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

// People who left, or did not come, while usher was outside keep nothing. People who are still inside are not disturbed.
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

// Somebody who leaves while usher is kicked, and asks again before usher knows of either, is let in.
func TestAdmittedAsWeAreKicked(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, juliet, "owner")
		c := w.enters(t, romeo, "member")
		w.remove(c, c.by(ourself), "307")
		w.remove(c, c.by(romeo+"/1"))
		w.admit(standup, romeo, "member", true, time.Time{})
		w.settle()
		if err := w.told(romeo); err != nil || c.affiliation(romeo) != "member" {
			t.Errorf("told %v, and %s", err, c.affiliation(romeo))
		}
	})
}

// An owner's ban stays, whatever usher was about to give or take back.
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

// Somebody who came while usher left does not count as inside when usher enters again.
func TestComesWhileWeLeave(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.admit(standup, romeo, "owner", true, time.Time{})
		w.settle()
		c := w.chats[standup]
		<-time.After(joinWithin + time.Second)
		w.join(c, romeo+"/1", "romeo")
		<-time.After(joinWithin / 6)
		synctest.Wait() // nothing of that has been read, so the room is left
		w.destroy(c)
		w.admit(standup, juliet, "owner", true, time.Time{})
		w.settle()
		if w.told(juliet) != nil || w.hostPresent(jid.MustParse(standup)) {
			t.Errorf("%v, and somebody is taken to be inside", w.told(juliet))
		}
	})
}

// Many callers who open a room at once lead to one entry, and all of them are told when the room is ready.
func TestOpenTogether(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		opened := w.open(50)
		w.settle()
		for range 50 {
			if err := <-opened; err != nil {
				t.Error(err)
			}
		}
		if w.joins != 1 {
			t.Errorf("entered %d times", w.joins)
		}
	})
}

// open has n callers open the room at once, and returns the channel of their results.
func (w *world) open(n int) chan error {
	opened := make(chan error, n)
	for range n {
		w.requests.Go(func() { opened <- w.rooms.Open(w.ctx, jid.MustParse(standup), true) })
	}
	return opened
}

// A caller who waits for a room is released when their own time is over, and when the connection ends.
func TestOpenReleases(t *testing.T) {
	for name, release := range map[string]func(w *world){
		"out of time":               func(w *world) { w.end() },
		"disconnected":              func(w *world) { w.disconnect(); w.rooms.Reset() },
		"disconnected, half inside": func(w *world) { w.serve(); w.read(); synctest.Wait(); w.disconnect(); w.rooms.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				opened := w.open(20)
				synctest.Wait()
				release(w)
				synctest.Wait()
				if len(opened) != 20 {
					t.Fatalf("%d of 20 are released", len(opened))
				}
				for range 20 {
					if <-opened == nil {
						t.Error("told that the room is ready")
					}
				}
			})
		})
	}
}

// A waiter with no time left does not wait for the others.
func TestOpenWaiterGivesUp(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		opened := w.open(1)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.rooms.Open(ctx, jid.MustParse(standup), true); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		w.settle()
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

// Somebody who has taken usher's nick does not keep usher out.
func TestNickTaken(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "owner")
		rooms := w.disconnected()
		w.remove(c, c.by(ourself))
		w.rename(c, c.by(romeo+"/1"), Nick)
		w.connect(rooms)
		w.settle()
		if our := c.by(ourself); our == nil || !w.hostPresent(jid.MustParse(standup)) {
			t.Fatalf("we are %+v", our)
		}
		// Once more, with the nick free again and usher's occupant still inside under the other one.
		rooms = w.disconnected()
		w.rename(c, c.by(romeo+"/1"), "romeo")
		w.connect(rooms)
		w.settle()
		if our := c.by(ourself); our == nil || our.nick != Nick || !w.hostPresent(jid.MustParse(standup)) {
			t.Errorf("we are %+v", our)
		}
	})
}

// Stopping leaves the empty rooms and stays in the others.
func TestLeave(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "owner")
		if err := w.openOther(t); err != nil {
			t.Fatal(err)
		}
		w.rooms.Leave(w.ctx, false)
		w.settle()
		if len(w.chats) != 1 || c.by(ourself) == nil {
			t.Errorf("left are %v", w.chats)
		}
	})
}

// If a next process is to come, rooms stay that somebody is about to enter. The next process ends them if nobody does.
func TestLeaveToTheNext(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.admit(standup, romeo, "owner", true, time.Time{})
		if err := w.openOther(t); err != nil { // nobody was admitted to it
			t.Fatal(err)
		}
		w.settle()
		w.rooms.Leave(w.ctx, true)
		w.settle()
		if c := w.chats[standup]; len(w.chats) != 1 || c.by(ourself) == nil || c.affiliation(romeo) != "owner" {
			t.Fatalf("left are %v", w.chats)
		}
		w.connect(w.disconnected())
		w.pass(2 * joinWithin)
		if len(w.chats) != 0 {
			t.Errorf("nobody came, and left are %v", w.chats)
		}
	})
}

func (w *world) openOther(t *testing.T) error {
	t.Helper()
	opened := make(chan error, 1)
	w.requests.Go(func() { opened <- w.rooms.Open(w.ctx, jid.MustParse(roomNames[1]), true) })
	w.settle()
	return <-opened
}

// Rooms ask for the state of a room that usher is not in.
func TestStateOfOthers(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "owner")
		w.affiliate(c, "tape@recorder.example", "owner", false)
		w.join(c, "tape@recorder.example/1", "tape")
		w.settle()
		other := w.rooms
		ask := func() (exists, host bool) {
			done := make(chan error, 1)
			go func() {
				var err error
				exists, host, err = other.State(t.Context(), jid.MustParse(standup))
				done <- err
			}()
			w.settle()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			return exists, host
		}
		other = NewRooms(other.Options) // has entered nothing
		if exists, host := ask(); !exists || !host {
			t.Errorf("exists %t, host %t", exists, host)
		}
		w.remove(c, c.by(romeo+"/1"))
		if exists, host := ask(); !exists || host {
			t.Errorf("without the host: exists %t, host %t", exists, host)
		}
		w.destroy(c)
		if exists, host := ask(); exists || host {
			t.Errorf("destroyed: exists %t, host %t", exists, host)
		}
	})
}

// Stanzas that make no sense change nothing and are not answered.
func TestHostileStanzas(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "owner")
		const x = "<x xmlns='http://jabber.org/protocol/muc#user'>%s</x>"
		for _, content := range []string{"", x, "<x xmlns='http://jabber.org/protocol/muc#user'/>",
			fmt.Sprintf(x, "<item/>"), fmt.Sprintf(x, "<item jid='@/'/>"), fmt.Sprintf(x, "<item affiliation='outcast' jid='@'/>"),
			fmt.Sprintf(x, "<status code='303'/>"), fmt.Sprintf(x, "<item role='moderator'/><status code='303'/>"), "<error/>"} {
			for _, from := range []string{"", "@", standup, standup + "/nobody", "other@" + mucDomain + "/x"} {
				for _, typ := range []string{"", "unavailable", "error", "groupchat", "odd"} {
					for _, kind := range []string{"presence", "message"} {
						w.hear(fmt.Sprintf("<%s from='%s' type='%s'>%s</%s>", kind, from, typ, content, kind))
					}
				}
			}
		}
		w.hear("<presence from='" + standup + "/x'><x>")
		w.hear("<message from='" + standup + "'><x>")
		w.pass(10 * time.Second)
		if exists, host, err := w.rooms.State(t.Context(), jid.MustParse(standup)); !exists || !host || err != nil || w.joins != 1 {
			t.Errorf("%t, %t, %v, entered %d times", exists, host, err, w.joins)
		}
	})
}

// If the presence of a ban cannot be read, the ban stays: taking the grant back would lift it.
func TestBanUnread(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "owner")
		c := w.enters(t, juliet, "member")
		c.affiliations[juliet] = "outcast"
		w.hear("<presence from='" + standup + "/nick of " + juliet + "' type='unavailable'><x>")
		w.pass(2 * joinWithin)
		if c.affiliation(juliet+"/1") != "outcast" {
			t.Error("the ban is lifted")
		}
	})
}

// Somebody with presence that cannot be read counts as gone: they are no host, and lose their grant at the next look.
func TestUnreadPresence(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, juliet, "member")
		c := w.enters(t, romeo, "owner")
		w.hear("<presence from='" + standup + "/nick of " + romeo + "'><x>")
		if w.hostPresent(jid.MustParse(standup)) {
			t.Error("a host is inside")
		}
		w.pass(lookAgain + 2*hostTick)
		if c.affiliation(romeo) != "none" || c.affiliation(juliet) != "member" {
			t.Errorf("romeo is %s, juliet is %s", c.affiliation(romeo), c.affiliation(juliet))
		}
	})
}

// Somebody who joins after the end of their token is removed. Somebody who joined before it stays.
func TestTokenEndsBeforeTheJoin(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "owner")
		for _, who := range []string{juliet, nurse} {
			w.admit(standup, who, "member", false, time.Now().Add(5*time.Second))
		}
		w.settle()
		w.join(c, juliet+"/1", "juliet")
		w.pass(6 * time.Second)
		w.join(c, nurse+"/1", "nurse")
		w.settle()
		if c.affiliation(nurse) != "none" || c.inside(nurse) != nil || c.affiliation(juliet) != "member" {
			t.Errorf("the nurse is %s, inside: %t; juliet is %s", c.affiliation(nurse), c.inside(nurse) != nil, c.affiliation(juliet))
		}
	})
}

// hear gives a stanza to Rooms, which may refuse it.
func (w *world) hear(raw string) {
	d := xml.NewDecoder(strings.NewReader(raw))
	tok, err := d.Token()
	if err != nil {
		panic(err)
	}
	if start := tok.(xml.StartElement); start.Name.Local == "presence" {
		_ = w.rooms.Presence(start, d)
	} else {
		_ = w.rooms.Message(start, d)
	}
}

// The next process enters the rooms with grants, and takes unused grants back. Grants in rooms that are gone are deleted. People
// inside stay, whatever has become of their right since.
func TestRestore(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.admit(standup, romeo, "owner", true, time.Now().Add(time.Minute))
		w.settle()
		c := w.chats[standup]
		w.join(c, romeo+"/1", "romeo")
		w.enters(t, juliet, "member")
		if err := w.openOther(t); err != nil {
			t.Fatal(err)
		}
		w.admit(retro, nurse, "member", true, time.Time{})
		w.settle()
		if n := len(w.book.all()); n != 3 {
			t.Fatalf("%d are written down", n)
		}
		w.disconnected() // and killed
		<-time.After(time.Minute)
		w.remove(c, c.by(juliet+"/1"))
		w.destroy(w.chats[retro])
		w.service.rooms = w.newRooms()
		w.rooms.Restore(w.book.everything())
		w.connect(w.rooms.Reset())
		w.pass(2 * time.Second)
		if c.by(romeo+"/1") == nil || c.affiliation(romeo) != "owner" || c.affiliation(juliet) != "none" || c.by(ourself) == nil || !w.hostPresent(jid.MustParse(standup)) {
			t.Errorf("romeo is %s, inside: %t; juliet is %s", c.affiliation(romeo), c.by(romeo+"/1") != nil, c.affiliation(juliet))
		}
		if left := w.book.all(); len(left) != 1 || left[0].Who.String() != romeo || w.chats[retro] != nil {
			t.Errorf("still written down are %v", left)
		}
	})
}

// A grant that cannot be written down is not given, and an earlier one stays.
func TestUnwritten(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "member")
		w.book.fails(errors.New("the disk is full"))
		for _, who := range []string{romeo, juliet} {
			granted := make(chan error, 1)
			w.requests.Go(func() {
				granted <- w.rooms.Grant(w.ctx, Grant{Room: jid.MustParse(standup), Who: jid.MustParse(who), Affiliation: "owner"})
			})
			w.settle()
			if err := <-granted; !errors.Is(err, ErrUnwritten) || !errors.Is(err, w.book.err) {
				t.Errorf("%s is told %v", who, err)
			}
		}
		if left := w.book.all(); c.affiliation(romeo) != "member" || c.affiliation(juliet) != "none" || len(left) != 1 || left[0].Affiliation != "member" {
			t.Errorf("romeo is %s, juliet %s, and written down are %v", c.affiliation(romeo), c.affiliation(juliet), left)
		}
	})
}

// An admin of the service, who owns every room, can be let in, and nothing is left to take back.
func TestGrantAdmin(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		w.enters(t, romeo, "member")
		w.admit(standup, admin, "member", false, time.Time{})
		w.settle()
		if err := w.told(admin); err != nil {
			t.Errorf("told %v", err)
		}
		w.rooms.Withdraw(jid.MustParse(standup), jid.MustParse(admin))
		w.pass(time.Minute)
		if left := w.book.all(); len(left) != 1 || left[0].Who.String() != romeo {
			t.Errorf("written down are %v", left)
		}
	})
}

// A grant that is written down only after its room is gone does not stay written down.
func TestWrittenTooLate(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		c := w.enters(t, romeo, "owner")
		w.book.takes(time.Second)
		w.admit(standup, nurse, "member", false, time.Time{})
		w.settle()
		w.destroy(c)
		w.pass(5 * time.Second)
		if left := w.book.all(); len(left) != 0 || w.told(nurse) == nil {
			t.Errorf("told %v, and written down are %v", w.told(nurse), left)
		}
	})
}

// Arrived is called for a host who is inside, or enters, while somebody waits.
func TestArrived(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		told := 0
		w.rooms.Arrived = func(jid.JID) { told++ }
		c := w.enters(t, nurse, "member")
		w.rooms.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
		w.sees(t, &told, 0)
		w.enters(t, romeo, "owner")
		w.sees(t, &told, 1)
		w.enters(t, juliet, "owner")
		w.sees(t, &told, 1)
		w.rooms.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
		w.sees(t, &told, 2)
		w.remove(c, c.by(romeo+"/1"))
		w.remove(c, c.by(juliet+"/1"))
		w.settle()
		w.rooms.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
		w.sees(t, &told, 2)
		w.enters(t, "tape@recorder.example", "owner")
		w.sees(t, &told, 2)
		w.affiliate(c, nurse, "owner", false) // by anybody
		w.sees(t, &told, 3)
	})
}

func (w *world) sees(t *testing.T, told *int, want int) {
	t.Helper()
	if w.settle(); *told != want {
		t.Errorf("told of %d, want %d", *told, want)
	}
}

// A room that usher cannot end any more, because the connection is lost, goes on at the server with usher's occupant inside. It is told
// to have ended only once it has: with its end, bars and locks are lifted.
func TestRoomsEndIsNotToldBeforeItIsSent(t *testing.T) {
	for name, configured := range map[string]bool{"ours": false, "configured by somebody": true} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				c := w.enters(t, romeo, "owner")
				locked := func(do func()) {
					w.service.mu.Lock()
					defer w.service.mu.Unlock()
					do()
				}
				if configured {
					locked(func() { w.configured(c) })
					w.settle()
				}
				locked(func() { w.remove(c, c.inside(romeo)) })
				if configured { // usher asks for the settings first
					w.read()
					synctest.Wait()
					for w.serve() {
						continue
					}
				}
				locked(func() { w.cut = true })
				for w.read() {
					synctest.Wait()
				}
				rooms := w.disconnected()
				if len(w.ended) != 0 || w.chats[standup] != c || len(rooms) != 1 {
					t.Fatalf("told of the ends of %v; at the server is %+v, and entered again are %v", w.ended, w.chats[standup], rooms)
				}
				w.connect(rooms)
				w.pass(joinWithin + 2*lookAgain)
				if len(w.ended) != 1 || w.chats[standup] != nil || len(w.book.everything()) != 0 {
					t.Fatalf("told of the ends of %v; at the server is %+v, and written down are %v", w.ended, w.chats[standup], w.book.everything())
				}
			})
		})
	}
}

// The server makes open rooms, and a stranger comes into one that usher has just created for somebody who may not create it. The room
// ends, with the stranger in it: nobody would guard it.
func TestStrangerInARoomThatMustNotBe(t *testing.T) {
	for name, asked := range map[string]func(w *world){
		"while somebody waits": func(*world) {},
		"too late":             func(w *world) { <-time.After(11 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				w.opens = true
				w.admit(standup, nurse, "member", false, time.Time{})
				synctest.Wait()
				asked(w)
				for w.chats[standup] == nil {
					w.serve()
					synctest.Wait()
				}
				if !w.join(w.chats[standup], eve+"/1", "eve") {
					t.Fatal("the stranger cannot come in")
				}
				w.settle()
				if w.told(nurse) == nil || w.chats[standup] != nil {
					t.Errorf("%v, and the room is %+v", w.told(nurse), w.chats[standup])
				}
				w.pass(2 * lookAgain)
				if rooms, grants := w.rooms.Count(); rooms+grants+len(w.rooms.lost) != 0 {
					t.Errorf("left are %d rooms and %d grants", rooms, grants)
				}
			})
		})
	}
}
