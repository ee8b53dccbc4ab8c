package muc

import (
	"context"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
)

// A grant that was given because a host was inside ends when the last host has been away for a while, unless its holder has joined
// before. A page reload is no leaving, nor is a breakout room.
func TestLastHostLeaves(t *testing.T) {
	const reload = hostAway - time.Second
	invited, guestEnters := invites(nurse), enters(nurse)
	for name, tt := range map[string]struct {
		steps steps
		want  string // the nurse's affiliation in the end
	}{
		"and the guest never comes":   {steps{invited, hostGoes}, "none"},
		"while the guest is inside":   {steps{invited, passes(3 * time.Second), guestEnters, passes(time.Second), hostGoes}, "member"},
		"and the guest comes in time": {steps{invited, hostGoes, passes(reload), guestEnters}, "member"},
		"for a page reload":           {steps{invited, passes(2 * time.Second), hostGoes, passes(reload), host}, "member"},
		"for several page reloads": {
			steps{invited, times(4, hostGoes, passes(hostAway-2*time.Second), host, passes(2*time.Second))}, "member"},
		"after a page reload":            {steps{invited, hostGoes, passes(reload), host, passes(2 * time.Second), hostGoes}, "none"},
		"and another host is inside":     {steps{comes(juliet, "owner"), invited, hostGoes}, "member"},
		"and nobody else, but a service": {steps{comes(recorder, "owner"), invited, hostGoes}, "none"},
		"and somebody they promoted is inside": { // after looks, so that it is certain who promotes them
			steps{comes(ann, "member"), looks(3), sets(ann, "owner"), looks(1), invited, hostGoes}, "member"},
		"by losing what made them one": {steps{comes(juliet, "owner"), invited, goes(juliet), sets(romeo, "member")}, "none"},
		"and the guest did not need them": {
			steps{guest, goes(nurse), passes(time.Second), guest, hostGoes}, "member"},
		"and the guest, who was inside before, never comes back": {
			steps{invited, guestEnters, passes(2 * time.Second), goes(nurse), passes(time.Second), invited, hostGoes}, "none"},
		"and the guest has become a host": {steps{invited, hostGoes, passes(time.Second), comes(nurse, "owner")}, "owner"},
		"and the next process knows that": {steps{invited, hostGoes, succeeds}, "none"},
		"from the next process":           {steps{invited, succeeds, passes(2 * time.Second), hostGoes}, "none"},
		"and people inside stay, for the next process, too": {
			steps{invited, guestEnters, passes(time.Second), hostGoes, succeeds}, "member"},
		"not, for the next process": {steps{invited, succeeds}, "member"},
	} {
		play := func(t *testing.T, s stage) {
			host(s)
			tt.steps.on(s)
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

// A host in a breakout room counts as inside, for people who have been let in and for people who ask.
func TestHostInBreakout(t *testing.T) {
	for name, tt := range map[string]struct {
		steps steps
		want  string // the nurse's affiliation in the end
		host  bool
	}{
		"went there":                           {steps{moves(romeo)}, "member", true},
		"went there, and another process came": {steps{moves(romeo), succeeds}, "member", true},
		"went there and came back":             {steps{moves(romeo), passes(3 * time.Second), returns(romeo)}, "member", true},
		"left from there": {steps{moves(romeo), passes(3 * time.Second),
			withGuard(func(s guardStage) { s.lookout.goes(s.opens(breakout), romeo) })}, "none", false},
		"left from there, with the breakout room": {steps{moves(romeo),
			withGuard(func(s guardStage) { s.locked(func() { s.destroy(s.chats[breakout]) }) })}, "none", false},
		"left after they came back": {
			steps{moves(romeo), passes(3 * time.Second), returns(romeo), passes(time.Second), hostGoes}, "none", false},
		"left, and a guest is in a breakout room": {steps{comes(ann, "member"), moves(ann), hostGoes}, "none", false},
		"is in that of another room":              {steps{withGuard(hostInOthersBreakout), hostGoes}, "none", false},
		"left while the guest was in one":         {steps{enters(nurse), passes(2 * time.Second), moves(nurse), hostGoes}, "member", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, enforce := range []bool{false, true} {
				lookOut(t, func(o *GuardOptions) { o.EnforceRoles = enforce }, func(t *testing.T, l *lookout) {
					s := guardStage{l, l.opens(standup)}
					s.comes(romeo, "owner")
					s.invites(nurse)
					tt.steps.on(s)
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

// hostInOthersBreakout has a host in a breakout room of another main room.
func hostInOthersBreakout(s guardStage) {
	other := s.opens(retro)
	s.lookout.comes(retro, juliet, "owner")
	b := s.opens("b@breakout.meet.example.com")
	s.locked(func() { b.main = other })
	if _, err := s.Main(context.Background(), jid.MustParse(b.address)); err != nil {
		s.t.Fatalf("Main: %v", err)
	}
	s.sits(b, juliet)
}

// If a breakout room does not answer, nobody is let in because of it, and nothing is taken back.
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

// Rooms are looked at often only while a grant hangs on a host there.
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

// A look that failed, because the connection had ended, puts nothing off: neither for people who had been let in before, nor for those
// who are let in once the connection is back.
func TestLastHostLeavesWhileCut(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		s := guardStage{l, l.opens(standup)}
		s.comes(romeo, "owner")
		s.invites(nurse)
		l.disconnect()
		for range 3 { // whenever it fails
			pass(hostAway/2 + hangingEvery)
			l.locked(func() { l.cut = false })
			l.Resume(t.Context(), l.Reset(), jid.MustParse(mucDomain))
			s.invites(ann)
			s.goes(romeo)
			pass(hostAway + 3*hangingEvery)
			if nurses, anns := s.is(nurse), s.is(ann); nurses != "none" || anns != "none" {
				t.Errorf("the nurse is %s, Ann is %s", nurses, anns)
			}
			s.comes(romeo, "owner")
			s.invites(nurse)
			l.disconnect()
		}
	})
}
