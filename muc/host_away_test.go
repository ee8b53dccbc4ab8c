package muc

import (
	"context"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
)

// stage is a room in which people are let in, by Rooms or by a Guard.
type stage interface {
	// comes has somebody let in who needs no host, and join, as after a page reload; enters has them join alone.
	comes(who, affiliation string)
	// invites has somebody let in because a host is inside, who has yet to come.
	invites(who string)
	enters(who string) bool
	goes(who string)
	sets(who, affiliation string) // as an owner inside does
	is(who string) string
	pass(d time.Duration)
	succeed() // has another process take over
}

// ownStage is a room that Rooms keep.
type ownStage struct {
	*testing.T
	*world
}

func (s ownStage) comes(who, affiliation string) { s.world.enters(s.T, who, affiliation) }

func (s ownStage) invites(who string) {
	s.Helper()
	s.admitFor(standup, who, "member", false, time.Time{}, true)
	s.settle()
	if err := s.told(who); err != nil {
		s.Fatalf("%s is not let in: %v", who, err)
	}
}

func (s ownStage) enters(who string) bool {
	c := s.chats[standup]
	in := c != nil && s.join(c, who+"/1", who)
	s.settle()
	return in
}

func (s ownStage) goes(who string) {
	s.remove(s.chats[standup], s.chats[standup].inside(who))
	s.settle()
}

func (s ownStage) sets(who, affiliation string) {
	s.affiliate(s.chats[standup], who, affiliation, false)
	s.settle()
}

func (s ownStage) is(who string) string {
	if c := s.chats[standup]; c != nil {
		return c.affiliation(who)
	}
	return "none" // a room in which nobody is ends
}

func (s ownStage) pass(d time.Duration) { // as world does, but to the millisecond
	for end := time.Now().Add(d); time.Now().Before(end); s.settle() {
		<-time.After(min(50*time.Millisecond, time.Until(end)))
	}
}

func (s ownStage) succeed() {
	s.disconnected()
	s.service.rooms = s.newRooms()
	s.rooms.Restore(s.book.all())
	s.connect(s.rooms.Reset())
	s.settle()
}

// guardStage is a room that a Guard looks after.
type guardStage struct {
	*lookout
	main *chat
}

func (s guardStage) comes(who, affiliation string) { s.lookout.comes(standup, who, affiliation) }

func (s guardStage) invites(who string) {
	s.t.Helper()
	if err := s.letsFor(standup, who, "member", time.Time{}, true); err != nil {
		s.t.Fatalf("%s is not let in: %v", who, err)
	}
}

func (s guardStage) enters(who string) bool       { return s.sits(s.main, who) }
func (s guardStage) goes(who string)              { s.lookout.goes(s.main, who) }
func (s guardStage) sets(who, affiliation string) { s.lookout.sets(s.main, who, affiliation) }
func (s guardStage) is(who string) string         { return s.lookout.is(s.main, who) }
func (s guardStage) pass(d time.Duration)         { pass(d) }

// moves has somebody go to the breakout room, and there be one, or back.
func (s guardStage) moves(who string, back bool) {
	s.t.Helper()
	from, to := s.main, s.opens(breakout)
	s.locked(func() { to.main = from })
	if _, err := s.Main(context.Background(), jid.MustParse(breakout)); err != nil {
		s.t.Fatalf("Main: %v", err)
	}
	if back {
		from, to = to, from
	}
	s.lookout.goes(from, who)
	pass(time.Second)
	if !s.sits(to, who) {
		s.t.Fatalf("%s cannot move", who)
	}
}

// by then what hangs on a host is taken back, once the last one is away.
const hostGone = hostAway + 2*hangingEvery

// What was given because a host was inside ends when the last one has been away for so long, unless its holder has come before.
// A page reload is no leaving, nor is a breakout room.
func TestLastHostLeaves(t *testing.T) {
	for name, tt := range map[string]struct {
		play func(s stage)
		want string // the nurse's affiliation in the end
	}{
		"and the guest never comes": {func(s stage) {
			s.invites(nurse)
			s.goes(romeo)
		}, "none"},
		"while the guest is inside": {func(s stage) {
			s.invites(nurse)
			s.pass(3 * time.Second)
			s.enters(nurse)
			s.pass(time.Second)
			s.goes(romeo)
		}, "member"},
		"and the guest comes in time": {func(s stage) {
			s.invites(nurse)
			s.goes(romeo)
			s.pass(hostAway - time.Second)
			s.enters(nurse)
		}, "member"},
		"for a page reload": {func(s stage) {
			s.invites(nurse)
			s.pass(2 * time.Second)
			s.goes(romeo)
			s.pass(hostAway - time.Second)
			s.comes(romeo, "owner")
		}, "member"},
		"for several page reloads": {func(s stage) {
			s.invites(nurse)
			for range 4 {
				s.goes(romeo)
				s.pass(hostAway - 2*time.Second)
				s.comes(romeo, "owner")
				s.pass(2 * time.Second)
			}
		}, "member"},
		"after a page reload": {func(s stage) {
			s.invites(nurse)
			s.goes(romeo)
			s.pass(hostAway - time.Second)
			s.comes(romeo, "owner")
			s.pass(2 * time.Second)
			s.goes(romeo)
		}, "none"},
		"and another host is inside": {func(s stage) {
			s.comes(juliet, "owner")
			s.invites(nurse)
			s.goes(romeo)
		}, "member"},
		"and nobody else, but a service": {func(s stage) {
			s.comes("tape@recorder.example", "owner")
			s.invites(nurse)
			s.goes(romeo)
		}, "none"},
		"and somebody whom they promoted is inside": {func(s stage) {
			s.comes("ann@guest.example", "member")
			s.pass(3 * aLook) // so that it is certain who promotes them
			s.sets("ann@guest.example", "owner")
			s.pass(aLook)
			s.invites(nurse)
			s.goes(romeo)
		}, "member"},
		"by losing what made them one": {func(s stage) {
			s.comes(juliet, "owner")
			s.invites(nurse)
			s.goes(juliet)
			s.sets(romeo, "member")
		}, "none"},
		"and the guest did not need them": {func(s stage) {
			s.comes(nurse, "member")
			s.goes(nurse)
			s.pass(time.Second)
			s.comes(nurse, "member")
			s.goes(romeo)
		}, "member"},
		"and the guest, who was inside before, never comes back": {func(s stage) {
			s.invites(nurse)
			s.enters(nurse)
			s.pass(2 * time.Second)
			s.goes(nurse)
			s.pass(time.Second)
			s.invites(nurse)
			s.goes(romeo)
		}, "none"},
		"and the guest has become a host": {func(s stage) {
			s.invites(nurse)
			s.goes(romeo)
			s.pass(time.Second)
			s.comes(nurse, "owner")
		}, "owner"},
		"and the next process knows that": {func(s stage) {
			s.invites(nurse)
			s.goes(romeo)
			s.succeed()
		}, "none"},
		"from the next process": {func(s stage) {
			s.invites(nurse)
			s.succeed()
			s.pass(2 * time.Second)
			s.goes(romeo)
		}, "none"},
		"and whoever is inside stays, for the next process, too": {func(s stage) {
			s.invites(nurse)
			s.enters(nurse)
			s.pass(time.Second)
			s.goes(romeo)
			s.succeed()
		}, "member"},
		"not, for the next process": {func(s stage) {
			s.invites(nurse)
			s.succeed()
		}, "member"},
	} {
		play := func(t *testing.T, s stage) {
			s.comes(romeo, "owner")
			tt.play(s)
			s.pass(hostGone)
			if got := s.is(nurse); got != tt.want || got == "none" && s.enters(nurse) {
				t.Errorf("the nurse is %s, want %s", got, tt.want)
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Run("own", func(t *testing.T) { scene(t, func(t *testing.T, w *world) { play(t, ownStage{t, w}) }) })
			for _, enforce := range []bool{false, true} {
				t.Run("Jicofo", func(t *testing.T) {
					lookOut(t, func(o *GuardOptions) { o.EnforceRoles = enforce }, func(t *testing.T, l *lookout) {
						play(t, guardStage{l, l.opens(standup)})
					})
				})
			}
		})
	}
}

// A host who is in a breakout room is inside, for those who have been let in and for those who ask.
func TestHostInBreakout(t *testing.T) {
	for name, tt := range map[string]struct {
		play func(s guardStage)
		want string // the nurse's affiliation in the end
		host bool
	}{
		"went there":                           {func(s guardStage) { s.moves(romeo, false) }, "member", true},
		"went there, and another process came": {func(s guardStage) { s.moves(romeo, false); s.succeed() }, "member", true},
		"went there and came back":             {func(s guardStage) { s.moves(romeo, false); pass(3 * time.Second); s.moves(romeo, true) }, "member", true},
		"left from there": {func(s guardStage) {
			s.moves(romeo, false)
			pass(3 * time.Second)
			s.lookout.goes(s.opens(breakout), romeo)
		}, "none", false},
		"left from there, with the breakout room": {func(s guardStage) { s.moves(romeo, false); s.locked(func() { s.destroy(s.chats[breakout]) }) }, "none", false},
		"left after they came back": {func(s guardStage) {
			s.moves(romeo, false)
			pass(3 * time.Second)
			s.moves(romeo, true)
			pass(time.Second)
			s.goes(romeo)
		}, "none", false},
		"left, and a guest is in a breakout room": {func(s guardStage) {
			s.comes("ann@guest.example", "member")
			s.moves("ann@guest.example", false)
			s.goes(romeo)
		}, "none", false},
		"is in that of another room": {func(s guardStage) {
			other := s.opens(retro)
			s.lookout.comes(retro, juliet, "owner")
			b := s.opens("b@breakout.meet.example.com")
			s.locked(func() { b.main = other })
			if _, err := s.Main(context.Background(), jid.MustParse(b.address)); err != nil {
				s.t.Fatalf("Main: %v", err)
			}
			s.sits(b, juliet)
			s.goes(romeo)
		}, "none", false},
		"left while the guest was in one": {func(s guardStage) {
			s.enters(nurse)
			pass(2 * time.Second)
			s.moves(nurse, false)
			s.goes(romeo)
		}, "member", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, enforce := range []bool{false, true} {
				lookOut(t, func(o *GuardOptions) { o.EnforceRoles = enforce }, func(t *testing.T, l *lookout) {
					s := guardStage{l, l.opens(standup)}
					s.comes(romeo, "owner")
					s.invites(nurse)
					tt.play(s)
					pass(hostGone)
					if got := s.is(nurse); got != tt.want {
						t.Errorf("the nurse is %s, want %s", got, tt.want)
					}
					if exists, host, err := s.State(t.Context(), jid.MustParse(standup)); !exists || host != tt.host || err != nil {
						t.Errorf("State: %t, %t, %v", exists, host, err)
					}
					l.arrivals = nil
					s.Await(jid.MustParse(standup), time.Now().Add(3*time.Second))
					pass(4 * time.Second)
					if told := len(l.arrivals) > 0; told != tt.host {
						t.Errorf("who waits is told: %t", told)
					}
				})
			}
		})
	}
}

// A breakout room that cannot be asked lets nobody in, nor is anything taken back because of it.
func TestHostInSilentBreakout(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		s.invites(nurse)
		s.moves(romeo, false)
		l.locked(func() { l.chats[breakout].silent = true })
		if _, host, err := s.State(t.Context(), jid.MustParse(standup)); host || err == nil {
			t.Errorf("State: %t, %v", host, err)
		}
		pass(hostGone)
		if got := s.is(nurse); got != "member" {
			t.Errorf("the nurse is %s", got)
		}
	})
}

// Rooms are looked at often only while something hangs on a host there.
func TestGuardHangingCost(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		s.invites(nurse)
		pass(interval)
		l.forgetAsked()
		pass(10 * time.Second)
		if n := l.asked(standup, "moderator"); n < 5 || n > 12 {
			t.Errorf("asked %d times in 10 s", n)
		}
		s.enters(nurse)
		pass(2 * hangingEvery)
		l.forgetAsked()
		pass(time.Minute)
		if n := l.asked(standup, "moderator"); n > 5 {
			t.Errorf("asked %d times in a minute after the guest has come", n)
		}
	})
}
