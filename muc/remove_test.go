package muc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// onBoth tells a story on a stage of Rooms and on one of a Guard, each with a host inside. open has usher leave rooms open.
func onBoth(t *testing.T, open bool, play func(t *testing.T, s stage)) {
	t.Helper()
	t.Run("own", func(t *testing.T) {
		scene(t, func(t *testing.T, w *world) {
			w.rooms.Configuration.MembersOnly = !open
			s := ownStage{t, w}
			s.comes(romeo, "owner")
			w.chats[standup].membersOnly = !open
			play(t, s)
		})
	})
	t.Run("before Jicofo", func(t *testing.T) {
		lookOut(t, func(o *GuardOptions) { o.Configuration.MembersOnly = !open }, func(t *testing.T, l *lookout) {
			s := guardStage{l, l.opens(standup)}
			s.main.membersOnly = !open
			s.comes(romeo, "owner")
			play(t, s)
		})
	})
}

// Remove takes what somebody has, even one that others gave, and puts them out so that everybody inside knows.
func TestRemove(t *testing.T) {
	for name, tt := range map[string]struct {
		open, module bool
		before       steps
		who          string // juliet if empty
		want         error
		is           string // none if empty
		code         string // with which the last of them is put out
	}{
		"a member":                         {before: steps{comes(juliet, "member")}, code: "321"},
		"an owner":                         {before: steps{comes(juliet, "owner")}, code: "321"},
		"an owner made by a host":          {before: steps{comes(juliet, "member"), looks(3), sets(juliet, "owner"), looks(3)}, code: "321"},
		"somebody who has not come yet":    {before: steps{comes(juliet, "member"), goes(juliet), invites(juliet)}},
		"somebody who has left":            {before: steps{comes(juliet, "member"), goes(juliet)}},
		"somebody let in from the lobby":   {before: steps{sets(juliet, "member"), func(s stage) { s.enters(juliet) }}, code: "321"},
		"somebody on a list only":          {before: steps{sets(juliet, "admin")}},
		"nobody":                           {},
		"somebody with two occupants":      {before: steps{comes(juliet, "member"), again(juliet)}, code: "321"},
		"somebody banned":                  {before: steps{comes(juliet, "member"), sets(juliet, "outcast")}, is: "outcast", code: "301"},
		"by the module":                    {open: true, module: true, before: steps{comes(juliet, "member")}, code: "321"},
		"from an open room":                {open: true, before: steps{comes(juliet, "member"), again(juliet)}, code: "out"},
		"from an open room, without right": {open: true, before: steps{func(s stage) { s.enters(juliet) }}, code: "out"},
		"an admin of the service":          {before: steps{func(s stage) { s.room().admins = map[string]bool{admin: true} }}, who: admin, want: ErrAdmin, is: "owner"},
		"after another process":            {before: steps{comes(juliet, "member"), succeeds}, code: "321"},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, tt.open, func(t *testing.T, s stage) {
				who := tt.who
				if who == "" {
					who = juliet
				}
				s.room().module = tt.module
				s.comes(nurse, "member")
				tt.before.on(s)
				clear(s.on().out)
				s.on().removed = nil
				bans := tt.is == "outcast"
				if err := s.removes(who); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
					t.Fatalf("Remove: %v, want %v", err, tt.want)
				}
				w := s.on()
				w.mu.Lock()
				c := w.chats[standup]
				want, code := tt.is, tt.code
				if want == "" {
					want = "none"
				}
				if got := c.affiliation(who); got != want || c.inside(who) != nil {
					t.Errorf("is %s, and inside: %t", got, c.inside(who) != nil)
				}
				if code == "out" { // Rooms kick, Guard bans
					code = map[bool]string{true: "307", false: "301"}[c.by(ourself) != nil]
				}
				if got := strings.Join(w.out[who+"/1"], " "); got != code && !bans {
					t.Errorf("put out with %q, want %q", got, code)
				}
				if c.affiliation(nurse) != "member" || c.inside(nurse) == nil || c.inside(romeo) == nil || w.ghosts != 0 {
					t.Error("it has touched somebody else")
				}
				if len(w.removed) != 0 && !bans {
					t.Errorf("usher takes what it does for a moderator's doing: %q", w.removed)
				}
				w.mu.Unlock()
				if all := s.on().book.all(); tt.want == nil && slices.ContainsFunc(all, func(g *Grant) bool { return g.Who.String() == who }) {
					t.Errorf("still written down: %v", all)
				}
				s.pass(goneAfter)
				if got := s.is(who); got != want {
					t.Errorf("later %s", got)
				}
				if len(s.on().removed) != 0 && !bans {
					t.Errorf("usher takes what it did for a moderator's doing: %q", s.on().removed)
				}
			})
		})
	}
}

// again has somebody join a second time, from another client of the same account.
func again(who string) step {
	return func(s stage) {
		w := s.on()
		w.mu.Lock()
		ok := w.join(w.chats[standup], who+"/2", "again")
		w.mu.Unlock()
		if !ok {
			panic("cannot join again")
		}
		s.pass(0)
	}
}

// People who are put out read why, and so do people in a room that ends.
func TestReasonIsTold(t *testing.T) {
	onBoth(t, true, func(t *testing.T, s stage) {
		s.comes(juliet, "member")
		w := s.on()
		w.mu.Lock()
		w.iqs = nil
		w.mu.Unlock()
		if err := errors.Join(s.removes(juliet), s.ends()); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		told := 0
		for _, a := range w.iqs {
			switch {
			case a.Query.Destroy != nil && a.Query.Destroy.Reason == revoked:
				told += 100
			case a.Type == "set" && len(a.Query.Items) == 1 && a.Query.Items[0].Reason == revoked:
				told++
			}
		}
		if told != 102 { // the affiliation, then the kick or the ban
			t.Errorf("told %d", told)
		}
	})
}

// A grant that is under way when its holder is removed comes to nothing. One that is asked for after that is given.
func TestRemoveWhileGranted(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		scene(t, func(t *testing.T, w *world) {
			s := ownStage{t, w}
			s.comes(romeo, "owner")
			w.admit(standup, juliet, "member", true, time.Time{})
			synctest.Wait() // the request for the grant is on its way
			removed, granted := make(chan error, 1), make(chan error, 1)
			go func() { removed <- w.rooms.Remove(w.ctx, jid.MustParse(standup), jid.MustParse(juliet), revoked) }()
			synctest.Wait()
			go func() {
				granted <- w.rooms.Grant(w.ctx, Grant{Room: jid.MustParse(standup), Who: jid.MustParse(juliet), Affiliation: "owner"})
			}()
			w.settle()
			if err := <-removed; err != nil {
				t.Errorf("Remove: %v", err)
			}
			if err := w.told(juliet); !errors.Is(err, errWithdrawn) {
				t.Errorf("the first request: %v", err)
			}
			if err := <-granted; err != nil || s.is(juliet) != "owner" {
				t.Errorf("the second: %v, %s", err, s.is(juliet))
			}
		})
	})
	t.Run("before Jicofo", func(t *testing.T) {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			s := guardStage{l, l.opens(standup)}
			s.comes(romeo, "owner")
			l.locked(func() { l.delay = time.Second })
			grant := func(affiliation string) chan error {
				done := make(chan error, 1)
				go func() {
					done <- l.Grant(context.Background(), Grant{Room: jid.MustParse(standup), Who: jid.MustParse(juliet), Affiliation: affiliation})
				}()
				return done
			}
			first := grant("member")
			pass(time.Millisecond)
			removed := make(chan error, 1)
			go func() { removed <- s.removes(juliet) }()
			pass(time.Millisecond)
			second := grant("owner")
			if err := <-first; !errors.Is(err, errWithdrawn) {
				t.Errorf("the first request: %v", err)
			}
			if err := <-removed; err != nil {
				t.Errorf("Remove: %v", err)
			}
			if err := <-second; err != nil || s.is(juliet) != "owner" {
				t.Errorf("the second: %v, %s", err, s.is(juliet))
			}
		})
	})
}

// A removal that gets no answer is made up for.
func TestRemoveWithoutAnswer(t *testing.T) {
	onBoth(t, false, func(t *testing.T, s stage) {
		s.comes(juliet, "member")
		w := s.on()
		w.mu.Lock()
		w.chats[standup].silent = true
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.keeper().Remove(ctx, jid.MustParse(standup), jid.MustParse(juliet), revoked) }()
		s.pass(2 * time.Second)
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Remove: %v", err)
		}
		w.mu.Lock()
		w.chats[standup].silent = false
		w.mu.Unlock()
		s.pass(goneAfter)
		if got := s.is(juliet); got != "none" || s.room().inside(juliet) != nil {
			t.Errorf("is %s", got)
		}
	})
}

// Somebody in a breakout room has their right from the main room, and is put out of both.
func TestRemoveFromBreakouts(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		s.comes(juliet, "member")
		s.comes(nurse, "member")
		s.moves(juliet, false)
		s.moves(nurse, false)
		if err := s.removes(juliet); err != nil {
			t.Fatal(err)
		}
		there := l.opens(breakout)
		if l.insideOf(there, juliet) || s.is(juliet) != "none" || l.sits(there, juliet) || l.sits(s.main, juliet) {
			t.Error("still inside")
		}
		if !l.insideOf(there, nurse) || l.HasGrant(jid.JID{}, jid.MustParse(juliet)) || l.live() != 2 {
			t.Errorf("%d grants are live", l.live())
		}
		if l.is(there, juliet) != "none" || there.affiliations[juliet] != "" {
			t.Error("a ban is left in the breakout room")
		}
	})
}

// Many people are put out of one room at once, and the room is not asked about each of them who is inside.
func TestRemoveMany(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		const many = 100
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		who := func(n int) string { return fmt.Sprintf("%d@guest.example", n) }
		for n := range many {
			s.comes(who(n), "member")
		}
		l.locked(func() { l.delay = 10 * time.Millisecond })
		l.forgetAsked()
		began := time.Now()
		var removals sync.WaitGroup
		for n := range many {
			removals.Go(func() {
				if err := s.removes(who(n)); err != nil {
					t.Error(err)
				}
			})
		}
		removals.Wait()
		if took, asked := time.Since(began), l.asked(standup, "participant"); took > time.Second || asked > 20 {
			t.Errorf("it took %s, and %d questions who is inside", took, asked)
		}
		if n := l.live(); n != 1 || len(s.main.seats) != 2 {
			t.Errorf("%d grants are live, %d people are inside", n, len(s.main.seats)-1)
		}
	})
}

// A removal from one room changes nothing in another.
func TestRemoveFromOneRoom(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		s := ownStage{t, w}
		s.comes(juliet, "owner")
		s.comes(romeo, "owner")
		w.admit(retro, juliet, "owner", true, time.Time{})
		w.settle()
		w.join(w.chats[retro], juliet+"/2", "juliet")
		if err := s.removes(juliet); err != nil || w.chats[retro].inside(juliet) == nil || w.chats[retro].affiliation(juliet) != "owner" {
			t.Errorf("Remove: %v, %+v", err, w.chats[retro])
		}
	})
}

// The last person who is put out takes the room along.
func TestRemoveTheLast(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		s := ownStage{t, w}
		s.comes(juliet, "owner")
		if err := s.removes(juliet); err != nil {
			t.Fatal(err)
		}
		s.pass(joinWithin + 2*lookAgain)
		if w.chats[standup] != nil || !slices.Equal(w.ended, []string{standup}) {
			t.Errorf("the room: %+v, ended: %q", w.chats[standup], w.ended)
		}
	})
}

// Rooms tell of kicks and bans by moderators, once, and of nobody else's.
func TestRemovedIsTold(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		s := ownStage{t, w}
		s.comes(romeo, "owner")
		for _, who := range []string{juliet, nurse, ann, recorder} {
			s.comes(who, "member")
		}
		c := s.room()
		by := func(actor *seat, do func()) {
			w.actor = actor
			do()
			w.actor = nil
			w.settle()
		}
		by(c.inside(romeo), func() { w.remove(c, c.inside(juliet), "307") })
		by(nil, func() { w.remove(c, c.inside(recorder), "307") })                       // the server itself, as mod_muc_flip does
		by(nil, func() { w.remove(c, c.inside(nurse)) })                                 // of their own accord
		by(c.inside(romeo), func() { w.affiliate(c, ann, "outcast", false) })            // inside
		by(c.inside(romeo), func() { w.affiliate(c, "evil.example", "outcast", false) }) // a whole domain
		by(nil, func() { w.affiliate(c, eve, "outcast", false) })                        // outside
		by(nil, func() { w.affiliate(c, eve, "outcast", false) })
		want := []string{standup + " " + juliet + " false", standup + " " + ann + " true", standup + " " + eve + " true"}
		if !slices.Equal(w.removed, want) {
			t.Errorf("told of %q", w.removed)
		}
		// usher itself puts out people who came into a room that an owner has opened.
		w.configure(c, false)
		const late = "late@guest.example"
		came := w.join(c, late+"/1", "late")
		w.settle()
		if !slices.Equal(w.removed, want) || !came || c.inside(late) != nil || w.out[late+"/1"][0] != "301" {
			t.Errorf("told of %q; the intruder came: %t, is inside: %t", w.removed, came, c.inside(late) != nil)
		}
	})
}

// Guard tells of bans when it finds them, once each.
func TestGuardTellsBans(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		s.comes(juliet, "member")
		s.comes(nurse, "member")
		s.sets(juliet, "outcast")
		pass(auditEvery + interval)
		want := []string{standup + " " + juliet + " true"}
		if !slices.Equal(l.removed, want) {
			t.Fatalf("told of %q", l.removed)
		}
		// Somebody who asks again brings the next audit on.
		s.sets(nurse, "outcast")
		if err := l.lets(standup, nurse, "member", time.Time{}); !errors.Is(err, ErrOutcast) {
			t.Fatal(err)
		}
		pass(time.Second)
		if want = append(want, standup+" "+nurse+" true"); !slices.Equal(l.removed, want) {
			t.Fatalf("told of %q", l.removed)
		}
		pass(goneAfter)
		s.sets(nurse, "none")
		pass(goneAfter)
		s.sets(nurse, "outcast")
		pass(goneAfter)
		if want = append(want, want[1]); !slices.Equal(l.removed, want) {
			t.Errorf("told of %q", l.removed)
		}
	})
}

// End ends a room for everybody, and is told once, as any other end is.
func TestEnd(t *testing.T) {
	onBoth(t, false, func(t *testing.T, s stage) {
		s.comes(juliet, "member")
		if err := s.ends(); err != nil || s.room() != nil {
			t.Fatalf("End: %v, %+v", err, s.room())
		}
		if err := s.ends(); err != nil {
			t.Errorf("End of a room that is gone: %v", err)
		}
		s.pass(goneAfter)
		if ended := s.on().ended; !slices.Equal(ended, []string{standup}) || len(s.on().book.everything()) != 0 {
			t.Errorf("ended: %q, written down: %v", ended, s.on().book.everything())
		}
		if err := s.removes(juliet); err != nil {
			t.Errorf("Remove from a room that is gone: %v", err)
		}
	})
}

// A room's end is told once, however it ends.
func TestEnded(t *testing.T) {
	for name, end := range map[string]step{
		"everybody leaves": goes(romeo),
		"an owner destroys it": func(s stage) {
			w := s.on()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.destroy(w.chats[standup])
		},
		"while usher is away": func(s stage) {
			w := s.on()
			w.mu.Lock()
			w.destroy(w.chats[standup])
			w.down = nil
			w.mu.Unlock()
			s.succeed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, false, func(t *testing.T, s stage) {
				if g, ok := s.(guardStage); ok {
					g.lookout.goes(g.main, jicofo)
				}
				end(s)
				s.pass(goneAfter)
				if ended := s.on().ended; s.room() != nil || !slices.Equal(ended, []string{standup}) {
					t.Errorf("the room: %+v, ended: %q", s.room(), ended)
				}
			})
		})
	}
}

// The focus speaks to one person, or to all.
func TestSay(t *testing.T) {
	scene(t, func(t *testing.T, w *world) {
		s := ownStage{t, w}
		room := jid.MustParse(standup)
		if said, err := w.rooms.Say(room, jid.JID{}, "hello"); said || err != nil {
			t.Errorf("to nobody: %t, %v", said, err)
		}
		s.comes(juliet, "member")
		again(juliet)(s)
		s.comes(nurse, "member")
		for who, want := range map[string]bool{juliet: true, "": true, romeo: false} {
			var to jid.JID
			if who != "" {
				to = jid.MustParse(who)
			}
			if said, err := w.rooms.Say(room, to, "five <minutes> left"); said != want || err != nil {
				t.Errorf("to %q: %t, %v", who, said, err)
			}
		}
		w.settle()
		var got []string
		for _, m := range w.messages {
			got = append(got, m.Type+" "+m.From+" "+m.To+" "+m.Body)
		}
		slices.Sort(got)
		want := []string{
			"chat " + ourself + " " + standup + "/again five <minutes> left",
			"chat " + ourself + " " + standup + "/nick of " + juliet + " five <minutes> left",
			"groupchat " + ourself + " " + standup + " five <minutes> left",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		l.comes(standup, romeo, "owner")
		if said, err := l.Say(jid.MustParse(standup), jid.JID{}, "hello"); said || err != nil {
			t.Errorf("before Jicofo: %t, %v", said, err)
		}
	})
}

// What the caller keeps with a grant is written down, and is the next process's again.
func TestByIsKept(t *testing.T) {
	for name, play := range map[string]func(t *testing.T){
		"own": func(t *testing.T) {
			scene(t, func(t *testing.T, w *world) {
				give := func(by any) {
					w.requests.Go(func() {
						err := w.rooms.Open(w.ctx, jid.MustParse(standup), true)
						if err == nil {
							err = w.rooms.Grant(w.ctx, Grant{Room: jid.MustParse(standup), Who: jid.MustParse(romeo), Affiliation: "owner", By: by})
						}
						if err != nil {
							t.Error(err)
						}
					})
					w.settle()
				}
				give("a token")
				w.join(w.chats[standup], romeo+"/1", "romeo")
				ownStage{t, w}.succeed()
				g := w.rooms.grantOf(jid.MustParse(standup), romeo)
				if g == nil || g.By != "a token" || w.book.all()[0].By != "a token" {
					t.Errorf("%+v, and written down %v", g, w.book.all())
				}
				give("another")
				if all := w.book.all(); len(all) != 1 || all[0].By != "another" {
					t.Errorf("%v", all)
				}
			})
		},
		"before Jicofo": func(t *testing.T) {
			lookOut(t, enforcing, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				l.admits(standup, nurse, "member")
				room, who := jid.MustParse(standup), jid.MustParse(romeo)
				if err := l.Grant(t.Context(), Grant{Room: room, Who: who, Affiliation: "member", By: "a token"}); err != nil {
					t.Fatal(err)
				}
				l.sits(c, romeo)
				l.sets(c, romeo, "owner") // elected by Jicofo, so usher puts them back
				pass(2 * auditEvery)
				l.succeed()
				pass(2 * auditEvery)
				if l.is(c, romeo) != "member" || l.Guard.rooms[room.String()].live[romeo].By != "a token" {
					t.Errorf("%s by %v", l.is(c, romeo), l.Guard.rooms[room.String()].live[romeo].By)
				}
				for _, g := range l.book.all() {
					if g.Who.Equal(who) && g.By != "a token" {
						t.Errorf("written down %v", g)
					}
				}
			})
		},
	} {
		t.Run(name, play)
	}
}

// Nobody is asked for bans that nobody wants to hear of.
func TestBansThatNobodyWants(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		lookOut(t, func(o *GuardOptions) { o.Bans = func() bool { return wanted } }, func(t *testing.T, l *lookout) {
			c := l.comes(standup, juliet, "owner")
			l.comes(standup, romeo, "member")
			l.forgetAsked()
			pass(3 * auditEvery)
			if n := l.asked(standup, "outcast"); (n > 0) != wanted {
				t.Errorf("wanted: %t; asked %d times", wanted, n)
			}
			l.sets(c, romeo, "outcast")
			pass(2 * auditEvery)
			if told := len(l.removed) > 0; told != wanted {
				t.Errorf("wanted: %t; told of %q", wanted, l.removed)
			}
		})
	}
}
