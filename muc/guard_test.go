package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

func TestGuardOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		open          bool // the room is open to all
		invites       bool
		module        bool // usher does not set members-only
		submitted     int
		invitesIsLeft bool
	}{
		"as it must be":              {},
		"open to all":                {open: true, submitted: 1},
		"members may invite":         {invites: true, submitted: 1},
		"both":                       {open: true, invites: true, submitted: 1},
		"module, open to all":        {open: true, module: true},
		"module, members-only":       {module: true},
		"module, members may invite": {open: true, module: true, invites: true, submitted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, func(o *GuardOptions) { o.Configuration.MembersOnly = !tt.module }, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				l.locked(func() { c.membersOnly, c.invites = !tt.open, tt.invites })
				var opened sync.WaitGroup
				for range 100 {
					opened.Go(func() {
						if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
							t.Error(err)
						}
					})
				}
				opened.Wait()
				if n, m := l.asked(standup, "settings"), l.asked(standup, "form"); n != 1 || m != tt.submitted {
					t.Errorf("looked %d times, submitted %d, want %d", n, m, tt.submitted)
				}
				if want := !tt.open || !tt.module; c.membersOnly != want || c.invites {
					t.Errorf("members-only %t, want %t; members may invite: %t", c.membersOnly, want, c.invites)
				}
				if !l.Known(jid.MustParse(standup)) {
					t.Error("the room is not known")
				}
				if tt.module {
					pass(time.Minute)
					if n := l.asked(standup, "form"); n != tt.submitted {
						t.Errorf("submitted %d forms", n)
					}
				}
			})
		})
	}
}

func TestGuardAbsent(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		if err := l.lets(standup, romeo, "owner", time.Time{}); !errors.Is(err, ErrAbsent) {
			t.Errorf("Open: %v", err)
		}
		if err := l.Guard.Grant(t.Context(), Grant{Room: jid.MustParse(standup), Who: jid.MustParse(romeo), Affiliation: "owner"}); !errors.Is(err, ErrAbsent) {
			t.Errorf("Grant: %v", err)
		}
		if exists, host, err := l.State(t.Context(), jid.MustParse(standup)); exists || host || err != nil {
			t.Errorf("State: %t, %t, %v", exists, host, err)
		}
		if _, err := l.Main(t.Context(), jid.MustParse(standup)); !errors.Is(err, ErrAbsent) {
			t.Errorf("Main: %v", err)
		}
		if len(l.Guard.rooms) != 0 || l.live() != 0 {
			t.Errorf("left are %v", l.Guard.rooms)
		}
	})
}

// A look is one IQ, an audit two more, and a third to tell of bans. Where nothing happens, there is one of each in a minute; where
// somebody asks to come in now and then, a look at each interval.
func TestGuardCost(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		l.comes(standup, romeo, "owner")
		pass(interval)
		l.forgetAsked()
		pass(10 * time.Minute)
		forms, audits, all := l.asked("", "settings"), l.asked("", "moderator"), l.asked("", "")
		if forms < 10 || forms > 18 || audits < 10 || audits > 18 || // the pauses grow from a random one
			all != forms+3*audits {
			t.Errorf("%d forms and %d audits in ten quiet minutes, of %d IQs", forms, audits, all)
		}
		l.forgetAsked()
		for range 150 {
			l.admits(standup, romeo, "owner")
			pass(4 * time.Second)
		}
		forms, audits = l.asked("", "settings"), l.asked("", "moderator")
		if forms < 115 || forms > 125 || audits < 38 || audits > 42 {
			t.Errorf("%d forms and %d audits in ten minutes in which people come", forms, audits)
		}
	})
}

// Members-only is back within an interval, and people who came in meanwhile are out.
func TestGuardMembersOnly(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		for range 5 {
			l.locked(func() { l.configure(c, false) })
			if !l.sits(c, nurse) {
				t.Fatal("the room is not open")
			}
			pass(interval + 2*aMoment)
			if !c.membersOnly || l.insideOf(c, nurse) || !l.insideOf(c, romeo) {
				t.Fatalf("members-only %t, the intruder is inside: %t", c.membersOnly, l.insideOf(c, nurse))
			}
			if l.ghosts > 0 {
				t.Fatal("the others in the room go on seeing the intruder")
			}
		}
	})
}

// unlisted is a service that cannot list participants: too many with long nicks fit into no stanza.
type unlisted struct{ Session }

func (u unlisted) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	tokens, err := xmlstream.ReadAll(payload)
	var again []xml.TokenReader
	for _, tok := range tokens {
		again = append(again, xmlstream.Token(tok))
		if start, ok := tok.(xml.StartElement); ok && element.Attr(start, "role") == "participant" {
			err = errors.New("too large")
		}
	}
	if err != nil {
		return err
	}
	return u.Session.IQ(ctx, iq, xmlstream.MultiReader(again...), v)
}

// A room is closed again although nobody can tell who is inside; otherwise a crowd could keep it open.
func TestGuardMembersOnlyUnlisted(t *testing.T) {
	lookOut(t, func(o *GuardOptions) { o.Owner.Session = unlisted{o.Owner.Session} }, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.locked(func() { l.configure(c, false) })
		l.sits(c, nurse)
		pass(interval + 2*aMoment)
		if !c.membersOnly || l.insideOf(c, nurse) {
			t.Errorf("members-only %t, the intruder is inside: %t", c.membersOnly, l.insideOf(c, nurse))
		}
	})
}

// People inside stay when they are left to the lobby, also if a moderator has taken their voice.
func TestGuardLeavesToLobby(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, nurse, "member")
		for _, role := range []string{"moderator", "participant", "visitor"} {
			l.locked(func() { c.inside(nurse).role = role })
			if err := l.LeaveToLobby(t.Context(), jid.MustParse(standup), jid.MustParse(nurse)); err != nil || !l.insideOf(c, nurse) {
				t.Fatalf("%s: %v, inside: %t", role, err, l.insideOf(c, nurse))
			}
		}
		l.goes(c, nurse)
		if err := l.LeaveToLobby(t.Context(), jid.MustParse(standup), jid.MustParse(nurse)); err != nil || l.is(c, nurse) != "none" {
			t.Errorf("outside: %v, is %s", err, l.is(c, nurse))
		}
	})
}

// A host inside needs no list but that of the moderators to stay.
func TestGuardLeavesToLobbyUnlisted(t *testing.T) {
	lookOut(t, func(o *GuardOptions) { o.Owner.Session = unlisted{o.Owner.Session} }, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		if err := l.LeaveToLobby(t.Context(), jid.MustParse(standup), jid.MustParse(romeo)); err != nil || l.is(c, romeo) != "owner" {
			t.Errorf("%v, is %s", err, l.is(c, romeo))
		}
	})
}

// A grant that is withdrawn while it is renewed ends, also if the new one cannot be written down.
func TestGuardUnwrittenAndWithdrawn(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, nurse, "member")
		l.book.takes(time.Second)
		l.book.fails(errors.New("full"))
		renewed := make(chan error, 1)
		go func() { renewed <- l.lets(standup, nurse, "member", time.Time{}) }()
		pass(time.Second / 2)
		l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
		if err := <-renewed; !errors.Is(err, ErrUnwritten) {
			t.Errorf("got %v", err)
		}
		l.book.takes(0)
		l.book.fails(nil)
		pass(aLook)
		if l.is(c, nurse) != "none" || l.live() != 0 {
			t.Errorf("the nurse is %s", l.is(c, nurse))
		}
	})
}

// A room that is gone is forgotten, together with the grants there.
func TestGuardGone(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.locked(func() { l.destroy(c) })
		pass(interval + 2*aMoment)
		if l.live() != 0 || len(l.Guard.rooms) != 0 || l.Known(jid.MustParse(standup)) || l.HasGrant(jid.JID{}, jid.MustParse(romeo)) {
			t.Errorf("left are %v", l.Guard.rooms)
		}
	})
}

// A thousand rooms that were opened at once are looked at one after the other, each within its interval.
func TestGuardSpread(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		for i := range 1000 {
			l.comes(fmt.Sprintf("room-%d@%s", i, mucDomain), romeo, "owner")
		}
		for _, name := range []string{"opened", "resumed"} { // in this order: later the rooms are quiet, and looked at less often
			if name == "resumed" {
				l.stop()
				pass(time.Minute)
				l.Resume(t.Context(), nil)
				l.run()
			}
			l.forgetAsked()
			l.locked(func() { l.delay = 2 * time.Millisecond })
			last := 0
			for range 60 {
				pass(interval / 50)
				if n := l.asked("", ""); n-last > 100 {
					t.Errorf("%s: %d questions within %s", name, n-last, interval/50)
				} else {
					last = n
				}
			}
			if forms := l.asked("", "settings"); forms < 1000 || forms > 1400 || l.underway > atOnce {
				t.Errorf("%s: %d rooms looked at in an interval, at most %d at once", name, forms, l.underway)
			}
			l.locked(func() { l.delay = 0 })
		}
	})
}

// An owner made by a host stays one after asking again. Nobody else does.
func TestGuardAsksAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		enforce bool
		first   string // what nurse was given before
		ask     string
		want    string
	}{
		"made by a host":                     {false, "member", "member", "owner"},
		"made by a host, roles matter":       {true, "member", "member", "owner"},
		"a host with a token that says less": {false, "owner", "member", "member"},
		"a member with one that says more":   {false, "member", "admin", "admin"},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, func(o *GuardOptions) { o.EnforceRoles = tt.enforce }, func(t *testing.T, l *lookout) {
				l.comes(standup, romeo, "owner")
				c := l.comes(standup, nurse, tt.first)
				pass(2 * interval)
				l.sets(c, nurse, "owner")
				pass(2 * interval)
				if err := l.lets(standup, nurse, tt.ask, time.Time{}); err != nil {
					t.Fatal(err)
				}
				if got := l.is(c, nurse); got != tt.want {
					t.Errorf("is %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// A room that does not answer keeps no other from being looked at, nor do many awaited hosts.
func TestGuardSilentRoom(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		for i := range atOnce - 1 {
			c := l.comes(fmt.Sprintf("silent-%d@%s", i, mucDomain), romeo, "owner")
			l.locked(func() { c.silent = true })
		}
		c := l.comes(standup, romeo, "owner")
		l.locked(func() { l.delay = 2 * time.Millisecond })
		for i := range 1000 {
			l.Await(jid.MustParse(fmt.Sprintf("nowhere-%d@%s", i, mucDomain)), time.Now().Add(time.Hour))
		}
		pass(2 * askWithin)
		l.forgetAsked()
		l.locked(func() { l.configure(c, false) })
		l.Await(jid.MustParse(standup), time.Now().Add(time.Hour)) // so the room is not quiet
		pass(21 * time.Second)
		if n := l.asked(standup, "settings"); n < 3 || !c.membersOnly || l.underway > atOnce {
			t.Errorf("looked at %d times in twenty seconds, %d at once", n, l.underway)
		}
		if len(l.warnings) == 0 {
			t.Error("nobody is told of the silence")
		}
	})
}

// Stopping waits for no room.
func TestGuardStops(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.locked(func() { c.silent = true })
		pass(interval + time.Second)
		began := time.Now()
		l.stop()
		if took := time.Since(began); took != 0 || len(l.warnings) != 0 {
			t.Errorf("took %s, with %v", took, l.warnings)
		}
	})
}

// Unused grants are taken back in time, and nothing else is.
func TestGuardTakesBack(t *testing.T) {
	const tokenEnds = 7 * time.Second
	admitted, arrives, leaves := admits(nurse, 0), enters(nurse), goes(nurse)
	forAWhile := admits(nurse, tokenEnds)
	for name, tt := range map[string]struct {
		steps steps
		after time.Duration // by then it is taken back; zero: never
	}{
		"never came":     {steps{admitted}, joinWithin + auditEvery + time.Second},
		"comes in time":  {steps{admitted, passes(joinWithin - 1), arrives}, 0},
		"inside":         {steps{guest}, 0},
		"a second nick":  {steps{guest, withGuard(func(s guardStage) { s.locked(func() { s.rename(s.main, s.main.inside(nurse), "x") }) })}, 0},
		"lost the voice": {steps{guest, withGuard(func(s guardStage) { s.locked(func() { s.main.inside(nurse).role = "visitor" }) })}, 0},
		"left":           {steps{guest, passes(time.Minute), leaves}, joinWithin + auditEvery},
		"came back":      {steps{guest, passes(time.Minute), leaves, passes(auditEvery - time.Second), arrives}, 0},
		"came back with a new request": {
			steps{guest, passes(time.Minute), leaves, passes(auditEvery + time.Second), admitted, passes(joinWithin - time.Second), arrives}, 0},

		"the token ended before the join":       {steps{forAWhile, passes(tokenEnds + 3*aMoment), arrives}, time.Nanosecond},
		"the token ended just after the answer": {steps{admits(nurse, time.Millisecond), passes(2 * time.Second)}, time.Nanosecond},
		"the token ended after the join":        {steps{forAWhile, arrives}, 0},
		"asked again, and is on the way when the token ends": {
			steps{guest, passes(time.Minute), admits(nurse, 3*time.Second), passes(2 * time.Second), leaves, passes(2 * time.Second), arrives}, 0},
		"left after the end of the token": {steps{forAWhile, arrives, passes(time.Minute), leaves}, 2*endedEvery + 4*aMoment},
		"loads the page anew after the end of the token": {
			steps{forAWhile, arrives, times(20, passes(2*endedEvery-time.Second), leaves, passes(endedEvery/2), arrives)}, 0},
		"the token ended while there was no process": {steps{forAWhile, stops, passes(tokenEnds), succeeds}, 2*endedEvery + 4*aMoment},

		"withdrawn":         {steps{admitted, withdraws(nurse)}, 2 * aMoment},
		"withdrawn, inside": {steps{guest, withdraws(nurse)}, 2 * aMoment},
		"never came, and the process is replaced":                        {steps{admitted, succeeds}, joinWithin + 2*auditEvery},
		"left while there was no process":                                {steps{guest, stops, leaves, succeeds}, joinWithin + 2*auditEvery},
		"inside, and the process is replaced":                            {steps{guest, succeeds}, 0},
		"inside after the end of the token, and the process is replaced": {steps{forAWhile, arrives, passes(time.Minute), succeeds}, 0},
	} {
		for _, every := range []time.Duration{time.Second, interval, 5 * time.Minute} {
			t.Run(fmt.Sprintf("%s, every %s", name, every), func(t *testing.T) {
				lookOut(t, func(o *GuardOptions) { o.Interval = every }, func(t *testing.T, l *lookout) {
					l.comes(standup, romeo, "owner")
					c := l.chats[standup]
					tt.steps.on(guardStage{l, c})
					if tt.after == 0 {
						pass(10 * time.Minute)
						if l.is(c, nurse) != "member" || !l.insideOf(c, nurse) || l.live() != 2 {
							t.Errorf("%s, inside: %t", l.is(c, nurse), l.insideOf(c, nurse))
						}
						return
					}
					pass(tt.after)
					if l.is(c, nurse) != "none" || l.insideOf(c, nurse) || l.live() != 1 {
						t.Errorf("%s, inside: %t", l.is(c, nurse), l.insideOf(c, nurse))
					}
				})
			})
		}
	}
}

// stops ends the process.
func stops(s stage) { s.(guardStage).stop() }

// People in a breakout room keep what they have in its main room, however they move.
func TestGuardBreakout(t *testing.T) {
	for _, every := range []time.Duration{interval, 5 * time.Minute} {
		lookOut(t, func(o *GuardOptions) { o.Interval, o.EnforceRoles = every, true }, func(t *testing.T, l *lookout) {
			c := l.comes(standup, romeo, "owner")
			l.comes(standup, juliet, "owner")
			b := l.opens(breakout)
			l.locked(func() { b.main = c })
			main, err := l.Main(t.Context(), jid.MustParse(breakout))
			if err != nil || main.String() != standup {
				t.Fatalf("Main: %v, %v", main, err)
			}
			for i := range 40 {
				l.goes(c, romeo)
				pass(time.Duration(i) * 29 * time.Millisecond)
				l.sits(b, romeo)
				pass(time.Duration(i) * 3 * time.Second)
				l.goes(b, romeo)
				pass(time.Duration(i) * 29 * time.Millisecond)
				if !l.sits(c, romeo) || l.is(c, romeo) != "owner" {
					t.Fatalf("round %d: %s", i, l.is(c, romeo))
				}
				pass(auditEvery + time.Second + time.Duration(i%3)*7*time.Second) // somebody who is twice on the way may be missed twice
			}
			if host, err := l.HostPresent(t.Context(), jid.MustParse(breakout)); host || err != nil {
				t.Errorf("a host is in the breakout room: %t, %v", host, err)
			}
			l.goes(c, romeo)
			l.sits(b, romeo)
			if host, err := l.HostPresent(t.Context(), jid.MustParse(breakout)); !host || err != nil {
				t.Errorf("a host is in the breakout room: %t, %v", host, err)
			}
			l.succeed()
			pass(5 * time.Minute)
			if l.is(c, romeo) != "owner" || !l.insideOf(b, romeo) {
				t.Errorf("after another process has taken over, who is in the breakout room is %s", l.is(c, romeo))
			}
			l.locked(func() { l.destroy(b) })
			pass(goneAfter + auditEvery)
			if l.is(c, romeo) != "none" || len(l.book.all()) != l.live() || l.Guard.rooms[breakout] != nil || l.asked(breakout, "form")+l.asked(breakout, "set") != 0 {
				t.Errorf("%s, the breakout room is known: %t", l.is(c, romeo), l.Guard.rooms[breakout] != nil)
			}
			if len(l.warnings) != 0 {
				t.Error(l.warnings)
			}
		})
	}
}

// No ban is lifted, by giving or by taking back.
func TestGuardBan(t *testing.T) {
	for name, play := range map[string]func(l *lookout, c *chat) string{
		"before they asked": func(l *lookout, c *chat) string { l.sets(c, nurse, "outcast"); return nurse },
		"the whole domain":  func(l *lookout, c *chat) string { l.sets(c, "guest.example", "outcast"); return "guest.example" },
		"while inside": func(l *lookout, c *chat) string {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "outcast")
			return nurse
		},
		"before they came": func(l *lookout, c *chat) string {
			_ = l.lets(standup, nurse, "member", time.Time{})
			l.sets(c, nurse, "outcast")
			return nurse
		},
		"withdrawn": func(l *lookout, c *chat) string {
			_ = l.lets(standup, nurse, "member", time.Time{})
			l.sets(c, nurse, "outcast")
			l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
			return nurse
		},
		"while it is written down": func(l *lookout, c *chat) string {
			l.book.takes(20 * time.Millisecond)
			time.AfterFunc(19*time.Millisecond, func() { l.sets(c, nurse, "outcast") })
			if err := l.lets(standup, nurse, "member", time.Time{}); !errors.Is(err, ErrOutcast) {
				l.t.Fatalf("told %v", err)
			}
			return nurse
		},
		"and the process is replaced": func(l *lookout, c *chat) string {
			_ = l.lets(standup, nurse, "member", time.Time{})
			l.sets(c, nurse, "outcast")
			l.succeed()
			return nurse
		},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				who := play(l, c)
				for range 3 {
					if err := l.lets(standup, nurse, "member", time.Time{}); !errors.Is(err, ErrOutcast) {
						t.Errorf("told %v", err)
					}
					pass(goneAfter)
				}
				if got := l.is(c, who); got != "outcast" || l.live() != 1 {
					t.Errorf("%s is %s", who, got)
				}
			})
		})
	}
}

// A grant that cannot be written down is not given, and an earlier one stays written down.
func TestGuardUnwritten(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "member")
		l.book.fails(errors.New("the disk is full"))
		for _, who := range []string{romeo, juliet} {
			if err := l.lets(standup, who, "owner", time.Time{}); !errors.Is(err, ErrUnwritten) || !errors.Is(err, l.book.err) {
				t.Errorf("%s is told %v", who, err)
			}
		}
		if l.is(c, romeo) != "member" || l.is(c, juliet) != "none" || l.asked(standup, "set") != 1 || l.live() != 1 {
			t.Errorf("romeo is %s, juliet %s, %d were set", l.is(c, romeo), l.is(c, juliet), l.asked(standup, "set"))
		}
		pass(goneAfter)
		if l.is(c, romeo) != "member" {
			t.Errorf("later %s", l.is(c, romeo))
		}
	})
}

// Somebody who has left the room, so that it is empty, and is let in again, finds it open and keeps the right until they join,
// whenever usher sees to the empty room meanwhile.
func TestGuardLeftAndLetInAgain(t *testing.T) {
	for away := 10 * time.Second; away < 31*time.Second; away += time.Second {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			c := l.comes(standup, juliet, "owner")
			pass(joinWithin)
			l.goes(c, juliet)
			pass(away)
			l.admits(standup, juliet, "owner")
			pass(3 * time.Second)
			if !l.sits(c, juliet) || l.is(c, juliet) != "owner" {
				t.Errorf("away for %s: %s", away, l.is(c, juliet))
			}
		})
	}
}

// An admin of the service, who owns every room, can be let in, and nothing is left to take back.
func TestGuardAdmin(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		l.comes(standup, romeo, "owner")
		for range 2 { // somebody who asks again is let in again
			l.admits(standup, admin, "member")
		}
		if got := l.live(); got != 1 {
			t.Errorf("%d grants, want that of romeo", got)
		}
		set := l.asked(standup, "set")
		l.Withdraw(jid.MustParse(standup), jid.MustParse(admin))
		pass(goneAfter)
		if got := l.asked(standup, "set"); got != set {
			t.Errorf("%d were set later", got-set)
		}
		if err := l.lets(standup, us, "owner", time.Time{}); !errors.Is(err, stanza.Error{Condition: stanza.NotAcceptable}) {
			t.Errorf("an owner who cannot be made: %v", err)
		}
	})
}

// A grant that is withdrawn while it is given does not stay, and Grant fails.
func TestGuardWithdrawnWhileGiven(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.book.takes(10 * time.Millisecond)
		l.locked(func() { l.delay = 10 * time.Millisecond })
		for at := 1; at < 6; at++ { // at once, it could also be before there is anything to withdraw
			time.AfterFunc(time.Duration(at)*5*time.Millisecond, func() { l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse)) })
			err := l.lets(standup, nurse, "member", time.Time{})
			if at < 3 && !errors.Is(err, errWithdrawn) {
				t.Errorf("at %d: %v", at, err)
			}
			pass(time.Second)
			if got := l.is(c, nurse); got != "none" {
				t.Errorf("at %d: %s", at, got)
			}
			l.live()
		}
	})
}

// Somebody who asks while their grant is being taken back has it again when they are told so.
func TestGuardGrantWhileTaken(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.locked(func() { l.delay = 30 * time.Millisecond })
		for at := range 60 {
			for _, who := range []string{nurse, juliet} {
				l.admits(standup, who, "member")
			}
			l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
			l.Withdraw(jid.MustParse(standup), jid.MustParse(juliet)) // perhaps before the nurse's
			pass(time.Duration(at) * 5 * time.Millisecond)
			err := l.lets(standup, nurse, "member", time.Time{})
			pass(time.Second)
			if err != nil || l.is(c, nurse) != "member" || l.live() != 2 {
				t.Fatalf("at %d: told %v, and %s", at, err, l.is(c, nurse))
			}
		}
	})
}

// If a room is destroyed, and perhaps made anew, while a grant is given, nothing of the grant stays.
func TestGuardRemadeWhileGiven(t *testing.T) {
	for _, anew := range []bool{false, true} {
		for at := range 12 {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.book.takes(10 * time.Millisecond)
				l.locked(func() { l.delay = 10 * time.Millisecond })
				time.AfterFunc(time.Duration(at)*3*time.Millisecond, func() {
					l.locked(func() { l.destroy(c) })
					l.Guard.mu.Lock()
					if rm := l.Guard.rooms[standup]; rm != nil { // nil if Guard has noticed by itself in this moment
						l.Guard.gone(rm) // somebody has noticed
					}
					l.Guard.mu.Unlock()
					if anew {
						l.opens(standup)
					}
				})
				err := l.Guard.Grant(t.Context(), Grant{Room: jid.MustParse(standup), Who: jid.MustParse(nurse), Affiliation: "member"})
				if at < 10 && err == nil {
					t.Errorf("at %d: told that it is given", at)
				}
				pass(interval + time.Second)
				if l.live() != 0 || anew && l.is(l.chats[standup], nurse) != "none" {
					t.Errorf("at %d, anew %t: %v", at, anew, l.Guard.rooms)
				}
			})
		}
	}
}

// Arrived is called once for a host who enters, and soon if the host was expected. Looking for a host costs little.
func TestGuardAwait(t *testing.T) {
	for name, tt := range map[string]struct {
		expected bool
		within   time.Duration
	}{
		"admitted just now": {true, 20 * time.Millisecond},
		"out of the blue":   {false, awaitSeldom + 20*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				l.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
				l.Await(jid.MustParse(standup), time.Now().Add(time.Second)) // the longer one counts
				pass(10*time.Second + 350*time.Millisecond)
				l.admits(standup, romeo, "owner")
				if tt.expected {
					l.Expect(jid.MustParse(standup))
				}
				l.sits(c, romeo)
				pass(tt.within)
				for range 2 {
					if !slices.Equal(l.arrivals, []string{standup}) {
						t.Fatalf("told %v", l.arrivals)
					}
					pass(time.Minute)
				}
			})
		})
	}
}

func TestGuardAwaitCost(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		l.opens(standup)
		l.admits(standup, romeo, "owner")
		l.Expect(jid.MustParse(standup))
		l.forgetAsked()
		began := l.asked("", "moderator")
		l.Await(jid.MustParse(standup), time.Now().Add(25*time.Second))
		pass(time.Second)
		if soon := l.asked(standup, "moderator") - began; soon < 8 {
			t.Errorf("looked %d times in the first second", soon)
		}
		pass(24 * time.Second)
		n := l.asked(standup, "moderator")
		if n > 60 {
			t.Errorf("looked %d times", n)
		}
		pass(time.Minute)
		if len(l.awaited) != 0 || l.asked(standup, "moderator") > n+6 {
			t.Errorf("looked %d times afterwards", l.asked(standup, "moderator")-n)
		}
	})
}

// Neither the focus nor usher nor services are hosts.
func TestGuardNoHost(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.opens(standup)
		l.affiliations(c, map[string]string{"tape@recorder.example": "owner"})
		l.sits(c, "tape@recorder.example")
		l.service.mu.Lock()
		c.seats = append(c.seats, &seat{nick: "u", full: us + "/other", role: "moderator"}, &seat{nick: "odd", full: "@/", role: "moderator"},
			&seat{nick: "none", full: "", role: "moderator"})
		l.service.mu.Unlock()
		l.Await(jid.MustParse(standup), time.Now().Add(5*time.Second))
		pass(10 * time.Second)
		exists, host, err := l.State(t.Context(), jid.MustParse(standup))
		if !exists || host || err != nil || len(l.arrivals) != 0 {
			t.Errorf("%t, %t, %v, told %v", exists, host, err, l.arrivals)
		}
		l.comes(standup, romeo, "owner")
		if exists, host, err := l.State(t.Context(), jid.MustParse(standup)); !exists || !host || err != nil {
			t.Errorf("%t, %t, %v", exists, host, err)
		}
	})
}

// If the stream ends while grants are given and taken back, nothing is lost.
func TestGuardCut(t *testing.T) {
	for at := range 40 {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			c := l.comes(standup, romeo, "owner")
			l.admits(standup, nurse, "member")
			l.locked(func() { l.delay = 10 * time.Millisecond })
			l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
			time.AfterFunc(time.Duration(at)*4*time.Millisecond, l.disconnect)
			err := l.lets(standup, juliet, "owner", time.Time{})
			l.sits(c, juliet)
			pass(time.Second)
			l.locked(func() { l.cut, l.delay = false, 0 })
			l.Resume(t.Context(), l.Reset())
			pass(interval + time.Second)
			want, n := "owner", 2
			if err != nil {
				want, n = "none", 1
			}
			if l.is(c, nurse) != "none" || l.is(c, juliet) != want || l.live() != n {
				t.Errorf("cut at %d: told %v; the nurse is %s, juliet is %s", at, err, l.is(c, nurse), l.is(c, juliet))
			}
		})
	}
}

// Grants that are withdrawn when usher stops are taken back before it ends. Otherwise the next process would take them for valid.
func TestGuardLeaves(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.admits(standup, juliet, "member")
		l.admits(standup, nurse, "member")
		l.Withdraw(jid.MustParse(standup), jid.MustParse(juliet))
		l.Leave(context.Background(), true)
		for who, want := range map[string]string{romeo: "owner", juliet: "none", nurse: "member"} {
			if got := l.is(c, who); got != want {
				t.Errorf("%s is %s, want %s", who, got, want)
			}
		}
		if n := l.live(); n != 2 {
			t.Errorf("%d are live", n)
		}
	})
}

// Leave waits for grants that are being taken back, and no longer than it may.
func TestGuardLeavesInTime(t *testing.T) {
	for answered, want := range map[bool]string{true: "none", false: "member"} {
		lookOut(t, nil, func(t *testing.T, l *lookout) {
			c := l.comes(standup, romeo, "owner")
			l.admits(standup, juliet, "member")
			l.locked(func() { l.delay = 2 * time.Second })
			l.Withdraw(jid.MustParse(standup), jid.MustParse(juliet))
			pass(time.Second) // and it is asked who is banned
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if !answered {
				cancel()
			}
			defer cancel()
			l.Leave(ctx, true)
			if got := l.is(c, juliet); got != want {
				t.Errorf("is %s, want %s", got, want)
			}
		})
	}
}

// A look that began before somebody was let in because of a host has found them inside, from where they have gone meanwhile. That does
// not count as having come.
func TestGuardLookFromBeforeTheGrant(t *testing.T) {
	lookOut(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.comes(standup, nurse, "member")
		l.Guard.mu.Lock()
		rm := l.Guard.rooms[standup]
		l.Guard.mu.Unlock()
		f, err := l.Guard.find(t.Context(), rm, true)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Millisecond)
		l.goes(c, nurse)
		l.goes(c, romeo)
		if err := l.letsFor(standup, nurse, "member", time.Time{}, true); err != nil {
			t.Fatal(err)
		}
		l.Guard.conclude(rm, f, true)
		pass(hostGone)
		if got := l.is(c, nurse); got != "none" {
			t.Errorf("no host is inside, and the nurse is %s", got)
		}
	})
}
