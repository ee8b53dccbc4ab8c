package muc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// A room is left alone for as long as nothing has happened there, a minute at most. Looks come at the interval again as soon as
// something happens, or somebody wants to come in.
func TestGuardQuiet(t *testing.T) {
	for name, tt := range map[string]struct {
		every time.Duration
		stir  func(t *testing.T, l *lookout, c *chat)
		again bool // looks come at the interval then
		gaps  []time.Duration
	}{
		"nothing":       {every: interval, gaps: []time.Duration{time.Minute, time.Minute}},
		"often":         {every: time.Second, gaps: []time.Duration{quietFactor * time.Second, quietFactor * time.Second}},
		"seldom":        {every: 5 * time.Minute, gaps: []time.Duration{5 * time.Minute}},
		"admitted":      {every: interval, again: true, stir: func(_ *testing.T, l *lookout, _ *chat) { l.admits(standup, romeo, "owner") }},
		"awaits a host": {every: interval, again: true, stir: func(_ *testing.T, l *lookout, _ *chat) { l.Await(jid.MustParse(standup), time.Now().Add(time.Hour)) }},
		"to the lobby": {every: interval, again: true, stir: func(t *testing.T, l *lookout, _ *chat) {
			if err := l.LeaveToLobby(t.Context(), jid.MustParse(standup), jid.MustParse(nurse)); err != nil {
				t.Error(err)
			}
		}},
		"changed": {every: interval, again: true, stir: func(_ *testing.T, l *lookout, c *chat) {
			l.locked(func() { l.configure(c, false) })
			for mended := false; !mended; l.locked(func() { mended = c.membersOnly }) {
				pass(10 * time.Millisecond)
			}
		}},
		"left": {every: interval, again: true, stir: func(_ *testing.T, l *lookout, c *chat) {
			l.goes(c, juliet)
			for l.forgetAsked(); l.asked(standup, "visitor") == 0; { // she is missed
				pass(10 * time.Millisecond)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, func(o *GuardOptions) { o.Interval = tt.every }, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, juliet, "owner")
				pass(20 * time.Minute)
				if tt.stir != nil {
					tt.stir(t, l, c)
				}
				gaps := tt.gaps
				if tt.again {
					gaps = []time.Duration{tt.every, 2 * tt.every} // at once, and then after as long as the room is quiet
				}
				last := l.nextLook(t)
				for _, want := range gaps {
					at := l.nextLook(t)
					if gap := at.Sub(last); gap > want+aMoment || !tt.again && gap < want-aMoment {
						t.Errorf("%s between two looks, want %s", gap, want)
					}
					last = at
				}
			})
		})
	}
}

// nextLook passes time until the room has been asked what it is.
func (l *lookout) nextLook(t *testing.T) time.Time {
	t.Helper()
	l.forgetAsked()
	for end := time.Now().Add(10 * time.Minute); l.asked(standup, "settings") == 0; pass(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody looks")
		}
	}
	return time.Now()
}

// What is to be taken back in time is, however quiet the room was.
func TestGuardQuietInTime(t *testing.T) {
	for name, tt := range map[string]struct {
		steps steps
		after time.Duration
	}{
		"a right that ends while its holder is outside": {steps{admits(nurse, 7*time.Second), passes(7*time.Second + 2*aMoment)}, 0},
		"a right that ends in a quiet room": {
			steps{admits(nurse, 20*time.Minute), enters(nurse), passes(20*time.Minute - time.Second), goes(nurse)}, time.Second + 2*endedEvery + 4*aMoment},
		"a grant that nobody uses": {steps{admits(nurse, 0)}, joinWithin + auditEvery + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				pass(20 * time.Minute)
				tt.steps.on(guardStage{l, c})
				pass(tt.after)
				if got := l.is(c, nurse); got != "none" {
					t.Errorf("the nurse is %s", got)
				}
			})
		})
	}
}

// With EnforceRoles looks stay close to each other: who made an owner is found out by comparing them.
func TestGuardQuietEnforcingRoles(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		l.comes(standup, romeo, "owner")
		pass(20 * time.Minute)
		last := l.nextLook(t)
		if gap := l.nextLook(t).Sub(last); gap > interval+aMoment {
			t.Errorf("%s between two looks", gap)
		}
	})
}

// Two thousand quiet rooms take 133 questions a second. A server that answers 320 keeps up with them, as one that answers 1,600 does
// with ten thousand rooms, which take 667.
func TestGuardManyQuietRooms(t *testing.T) {
	const rooms, takes = 2000, 25 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		session := &lagging{takes: takes, asked: map[string]time.Time{}}
		g := NewGuard(GuardOptions{Interval: interval, Focus: jid.MustParse(jicofo), Options: Options{
			Owner: Owner{Session: session, JID: jid.MustParse(us)}, Configuration: Configuration{MembersOnly: true}, Ledger: Forgetful{},
			Hosts: func(string) bool { return true },
			Warn:  func(room jid.JID, what string, err error) { t.Errorf("%s: %s: %v", room, what, err) },
		}})
		service := jid.MustParse(mucDomain)
		g.mu.Lock()
		for n := range rooms {
			room, err := service.WithLocal(fmt.Sprintf("room-%d", n))
			if err != nil {
				t.Fatal(err)
			}
			// As rooms are that have been quiet for long: persistent, so that nobody inside is nothing to end.
			rm := g.room(room)
			rm.stirred, rm.searched, rm.lasts, rm.noted, rm.notedAt = time.Now().Add(-time.Hour), true, persistent, persistent, time.Now()
			rm.nextEnforce, rm.nextAudit = time.Now().Add(quietEvery*time.Duration(n)/rooms), time.Now().Add(quietEvery*time.Duration(n)/rooms)
			g.file(rm)
		}
		g.mu.Unlock()
		stop := runs(t, g)
		pass(quietEvery)
		session.mu.Lock()
		before := session.all
		session.mu.Unlock()
		pass(quietEvery)
		session.mu.Lock()
		defer stop()
		defer session.mu.Unlock()
		// A form, moderators, participants, and visitors because nobody is inside.
		if asked := session.all - before; asked < 4*rooms-100 || asked > 4*rooms+100 || len(session.asked) != rooms {
			t.Errorf("%d questions in a minute about %d rooms", asked, len(session.asked))
		}
		for room, at := range session.asked {
			if late := time.Since(at); late > quietEvery+time.Second {
				t.Fatalf("%s was last asked %s ago", room, late)
			}
		}
	})
}
