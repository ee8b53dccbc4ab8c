package muc

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// hearing plays with a Guard that runs, on a service with usher's module.
func hearing(t *testing.T, change func(*GuardOptions), play func(t *testing.T, l *lookout)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, change)
		defer func() { l.stop() }()
		l.loads()
		l.run()
		synctest.Wait()
		play(t, l)
	})
}

// as has somebody do something in a room: the JID that the module names; empty for the server or a plugin.
func (l *lookout) as(by string, do func()) {
	l.locked(func() {
		l.by = by
		do()
		l.service.tells()
		l.by = ""
	})
	synctest.Wait()
}

// What happens in a room that is told of costs no question, neither while nothing happens nor while people come and go.
func TestGuardToldAsksNothing(t *testing.T) {
	hearing(t, func(o *GuardOptions) { o.Watch = true }, func(t *testing.T, l *lookout) {
		l.forgetAsked()
		c := l.comes(standup, romeo, "owner")
		l.comes(standup, nurse, "member")
		pass(time.Hour)
		l.goes(c, nurse)
		pass(soonTaken + time.Second)
		if l.is(c, nurse) != "none" || l.live() != 1 {
			t.Errorf("the nurse has left and is %s", l.is(c, nurse))
		}
		l.comes(standup, nurse, "member")
		l.sets(c, nurse, "owner")
		l.goes(c, romeo)
		pass(time.Hour)
		if n := l.asked(standup, ""); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// What others do is known at once.
func TestGuardToldAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(l *lookout, c *chat)
		want func(l *lookout, c *chat) bool
	}{
		"members-only switched off": {
			func(l *lookout, c *chat) { l.as(romeo, func() { l.configure(c, false) }) },
			func(l *lookout, c *chat) bool { return c.membersOnly }},
		"banned": {
			func(l *lookout, c *chat) { l.as(romeo, func() { l.affiliate(c, nurse, "outcast", false) }) },
			func(l *lookout, c *chat) bool {
				return slices.Equal(l.removed, []string{fmt.Sprintf("%s %s true", standup, nurse)}) && l.live() == 1 && l.is(c, nurse) == "outcast"
			}},
		"kicked": {
			func(l *lookout, c *chat) { l.as(romeo, func() { l.remove(c, c.inside(nurse), "307") }) },
			func(l *lookout, c *chat) bool {
				return slices.Equal(l.removed, []string{fmt.Sprintf("%s %s false", standup, nurse)}) && !l.HasGrant(jid.JID{}, jid.MustParse(nurse))
			}},
		"kicked by a plugin": {
			func(l *lookout, c *chat) { l.as("", func() { l.remove(c, c.inside(nurse), "307") }) },
			func(l *lookout, c *chat) bool { return len(l.removed) == 0 }},
		"a host comes": {
			func(l *lookout, c *chat) {
				l.goes(c, romeo)
				l.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
				pass(10 * time.Second)
				l.comes(standup, romeo, "owner")
				synctest.Wait()
			},
			func(l *lookout, c *chat) bool { return len(l.arrivals) == 1 && l.asked(standup, "moderator") == 0 }},
		"the room ends": {
			func(l *lookout, c *chat) { l.as(romeo, func() { l.destroy(c) }) },
			func(l *lookout, c *chat) bool { return len(l.ended) == 1 && l.live() == 0 }},
		"the last one leaves a room that ends": {
			func(l *lookout, c *chat) {
				l.forgetAsked()
				l.as("", func() {
					for len(c.seats) > 0 {
						l.remove(c, c.seats[0])
					}
				})
				pass(time.Minute)
			},
			func(l *lookout, c *chat) bool { return l.asked(standup, "") == 0 && l.live() == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				tt.do(l, c)
				if !tt.want(l, c) {
					t.Errorf("it is not: removed %q, ended %q, arrivals %q, %d live", l.removed, l.ended, l.arrivals, l.live())
				}
			})
		})
	}
}

// Who made an owner is told, so nobody guesses.
func TestGuardToldWhoMadeOwners(t *testing.T) {
	for name, tt := range map[string]struct {
		by       string
		want     string
		warnings int
	}{
		"a host":                  {romeo, "owner", 0},
		"Jicofo":                  {jicofo, "member", 1},
		"a plugin":                {"", "member", 1},
		"an admin of the service": {admin, "owner", 0},
		"somebody made by Jicofo": {juliet, "member", 2},
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, enforcing, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, juliet, "member")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				if tt.by == juliet {
					l.locked(func() {
						l.by = jicofo
						l.affiliate(c, juliet, "owner", false)
						l.service.tells()
						l.by = juliet
						l.affiliate(c, nurse, "owner", false)
						l.service.tells()
						l.by = ""
					})
				} else {
					l.as(tt.by, func() { l.affiliate(c, nurse, "owner", false) })
				}
				if tt.by == romeo {
					l.goes(c, romeo) // which changes nothing: they were told of as a host
				}
				pass(time.Second)
				if got := l.is(c, nurse); got != tt.want || len(l.warnings) != tt.warnings {
					t.Errorf("the nurse is %s, want %s; told %q", got, tt.want, l.warnings)
				}
				if tt.want == "owner" {
					hosts(true)(guardStage{l, c})
				}
			})
		})
	}
}

// Who made an owner counts as what they were then, and not as an admin of the service because they are on no list any more.
func TestGuardToldMakerGone(t *testing.T) {
	hearing(t, enforcing, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.comes(standup, juliet, "member")
		l.comes(standup, nurse, "member")
		pass(time.Minute)
		l.locked(func() {
			for _, does := range []struct{ by, who, affiliation string }{
				{jicofo, juliet, "owner"}, {juliet, nurse, "owner"}, {juliet, "friar@example.com", "owner"}, {juliet, juliet, "none"},
			} {
				l.by = does.by
				l.affiliate(c, does.who, does.affiliation, false)
				l.service.tells()
			}
			l.by = ""
		})
		pass(time.Second)
		l.sits(c, "friar@example.com")
		pass(time.Second)
		if n, f := l.is(c, nurse), l.is(c, "friar@example.com"); n != "member" || f != "member" {
			t.Errorf("the nurse is %s, the friar %s", n, f)
		}
	})
}

// What was missed while nothing was told is made good, and rooms are asked meanwhile.
func TestGuardToldAgain(t *testing.T) {
	for name, meanwhile := range map[string]func(l *lookout){
		"reconnect": func(l *lookout) {
			l.disconnect()
			l.silences()
			l.locked(func() {
				l.configure(l.chats[standup], false)
				l.remove(l.chats[standup], l.chats[standup].inside(nurse))
			})
			l.locked(func() { l.cut = false })
			l.listensAgain()
			l.Resume(l.t.(*testing.T).Context(), l.Reset(), jid.MustParse(mucDomain))
		},
		"a gap": func(l *lookout) {
			l.locked(func() { l.modules[mucDomain].loses = 2 })
			l.locked(func() { l.configure(l.chats[standup], false) })
			l.goes(l.chats[standup], nurse)
		},
		"the module is unloaded": func(l *lookout) {
			l.unload(mucDomain)
			l.locked(func() { l.configure(l.chats[standup], false) })
			l.goes(l.chats[standup], nurse)
		},
		"another process": func(l *lookout) {
			l.stop()
			l.locked(func() { l.configure(l.chats[standup], false) })
			l.goes(l.chats[standup], nurse)
			l.succeed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				meanwhile(l)
				pass(aliveEvery + askWithin + goneAfter)
				if !c.membersOnly || l.is(c, nurse) != "none" || l.live() != 1 || !l.insideOf(c, romeo) {
					t.Errorf("members-only %t, the nurse is %s, %d live", c.membersOnly, l.is(c, nurse), l.live())
				}
			})
		})
	}
}

// arrives has everything arrive that was sent.
func (l *lookout) arrives() {
	l.locked(func() { l.prompt = true })
	synctest.Wait()
}

// A grant that the room refuses is nothing that usher goes on with. Whether the refusal is heard before or after Grant returns makes no
// difference to the room; but before, the person is told.
func TestGuardToldRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		who      string
		play     func(l *lookout, c *chat) // after usher has sent it, before the module takes it
		early    error                     // of Grant, if the refusal is heard first
		warnings int
		is       string // in the end
	}{
		"an admin of the service": {admin, func(*lookout, *chat) {}, nil, 0, "owner"},
		"banned":                  {nurse, func(l *lookout, c *chat) { l.affiliate(c, nurse, "outcast", false) }, ErrOutcast, 0, "outcast"},
		"the domain is banned": {nurse, func(l *lookout, c *chat) {
			l.affiliate(c, jid.MustParse(nurse).Domainpart(), "outcast", false)
		}, ErrOutcast, 0, "outcast"},
		"the room has ended":      {nurse, func(l *lookout, c *chat) { l.destroy(c) }, ErrAbsent, 0, "none"},
		"a plugin protects it":    {nurse, func(_ *lookout, c *chat) { c.refuses = []string{"not-allowed"} }, errRefused, 1, "none"},
		"a plugin throws at that": {nurse, func(_ *lookout, c *chat) { c.refuses = []string{"undefined-condition"} }, errRefused, 1, "none"},
	} {
		for when, early := range map[string]bool{"before Grant returns": true, "after": false} {
			t.Run(name+", heard "+when, func(t *testing.T) {
				hearing(t, nil, func(t *testing.T, l *lookout) {
					c := l.comes(standup, romeo, "owner")
					heard := func() {
						l.locked(func() { tt.play(l, c) })
						l.arrives()
					}
					l.locked(func() {
						c.admins = map[string]bool{admin: true}
						if l.prompt = false; early {
							l.afterSend = heard
						}
					})
					err := l.lets(standup, tt.who, "member", time.Time{})
					want, warnings := tt.early, tt.warnings
					if !early {
						heard()
						want = nil
						if name == "a plugin protects it" {
							warnings = 0
						}
					}
					if !errors.Is(err, want) {
						t.Errorf("told %v, want %v", err, want)
					}
					pass(time.Minute)
					if l.HasGrant(jid.JID{}, jid.MustParse(tt.who)) || l.is(c, tt.who) != tt.is || len(l.warnings) != warnings {
						t.Errorf("is %s, want %s, told %q, want %d", l.is(c, tt.who), tt.is, l.warnings, warnings)
					}
					if live, written := l.live(), len(l.book.all()); live != written {
						t.Errorf("%d are live, %d are written down", live, written)
					}
					if ended := l.chats[standup] == nil; ended != (len(l.ended) > 0) || ended && len(l.Guard.rooms) != 0 {
						t.Errorf("ended %q, known are %d rooms", l.ended, len(l.Guard.rooms))
					}
				})
			})
		}
	}
}

// An earlier grant that the room has refused, as usher hears while a later one is written down, does not end the later one. It does not
// come back if that fails.
func TestGuardToldRefusedBefore(t *testing.T) {
	for name, full := range map[string]error{"written down": nil, "not written down": errors.New("full")} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.locked(func() { l.prompt, c.refuses = false, []string{"undefined-condition"} })
				l.admits(standup, nurse, "member")
				l.book.takes(time.Second)
				l.book.fails(full)
				asked := make(chan error)
				go func() { asked <- l.lets(standup, nurse, "member", time.Time{}) }()
				pass(time.Second / 2)
				l.arrives()
				err, want, live := <-asked, "member", 2
				if full != nil {
					want, live = "none", 1
				}
				if (full == nil) != (err == nil) {
					t.Errorf("asked again: %v", err)
				}
				l.book.takes(0)
				l.book.fails(nil)
				pass(soonTaken + time.Second)
				if l.is(c, nurse) != want || l.live() != live {
					t.Errorf("the nurse is %s, %d live", l.is(c, nurse), l.live())
				}
			})
		})
	}
}

// What the room refuses to take back is taken back later, also if usher hears of that at once.
func TestGuardToldTakingRefused(t *testing.T) {
	for name, early := range map[string]bool{"heard at once": true, "heard later": false} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				l.goes(c, nurse)
				synctest.Wait()
				l.locked(func() {
					c.refuses = []string{"undefined-condition"}
					if l.prompt = false; early {
						l.afterSend = l.arrives
					}
				})
				pass(soonTaken + time.Second)
				l.arrives()
				if len(l.warnings) == 0 {
					t.Error("nobody is told")
				}
				pass(interval + time.Second)
				if l.is(c, nurse) != "none" || l.live() != 1 {
					t.Errorf("the nurse is %s, %d live", l.is(c, nurse), l.live())
				}
			})
		})
	}
}

// Somebody who is banned between usher's give and the end of Grant is told so, and nothing is left of the grant.
func TestGuardToldBannedMeanwhile(t *testing.T) {
	for name, end := range map[string]bool{"the room goes on": false, "the room ends": true} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				pass(time.Minute)
				l.locked(func() {
					l.afterSend = func() {
						l.as(romeo, func() { l.affiliate(c, nurse, "outcast", false) })
						if end {
							l.as(romeo, func() { l.destroy(c) })
						}
					}
				})
				if err := l.lets(standup, nurse, "member", time.Time{}); !errors.Is(err, ErrOutcast) {
					t.Errorf("the nurse is let in: %v", err)
				}
				pass(time.Minute)
				want := 1
				if end {
					want = 0
				}
				if written := len(l.book.everything()); l.live() != want || !end && l.is(c, nurse) != "outcast" || end && written != 0 {
					t.Errorf("%d live, want %d, %d written", l.live(), want, written)
				}
			})
		})
	}
}

// What is to be taken back is taken back, also if the module goes away before it has that.
func TestGuardToldTakesLost(t *testing.T) {
	for name, lose := range map[string]func(l *lookout){
		"with the connection": func(l *lookout) {
			l.locked(func() { l.modules[mucDomain].mute = true })
			pass(soonTaken + time.Second)
			l.disconnect()
			l.silences()
			l.locked(func() { l.cut, l.modules[mucDomain].mute = false, false })
			l.listensAgain()
			l.Resume(l.t.(*testing.T).Context(), l.Reset(), jid.MustParse(mucDomain))
		},
		"with the module": func(l *lookout) {
			l.locked(func() { delete(l.modules, mucDomain) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				l.goes(c, nurse)
				synctest.Wait()
				lose(l)
				pass(aliveEvery + askWithin + goneAfter)
				if l.is(c, nurse) != "none" || l.live() != 1 || !l.insideOf(c, romeo) {
					t.Errorf("the nurse is %s, %d live", l.is(c, nurse), l.live())
				}
			})
		})
	}
}

// People who change their nick keep what they have.
func TestGuardToldRenamed(t *testing.T) {
	hearing(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.comes(standup, nurse, "member")
		pass(time.Minute)
		for _, who := range []string{romeo, nurse} {
			l.locked(func() { l.rename(c, c.inside(who), who+" again") })
		}
		pass(time.Minute)
		if l.is(c, nurse) != "member" || l.is(c, romeo) != "owner" || l.live() != 2 {
			t.Errorf("the nurse is %s, romeo %s, %d live", l.is(c, nurse), l.is(c, romeo), l.live())
		}
		hosts(true)(guardStage{l, c})
	})
}

// A grant that overtakes an owner's wish to take the earlier one is a grant like any other.
func TestGuardToldOvertakes(t *testing.T) {
	for name, end := range map[string]func(l *lookout, c *chat){
		"and is used": func(l *lookout, c *chat) {
			l.sits(c, nurse)
			pass(time.Minute)
			if l.live() != 2 || l.is(c, nurse) != "member" {
				t.Errorf("%d live", l.live())
			}
			l.goes(c, nurse)
			pass(soonTaken + time.Second)
		},
		"and is not used": func(l *lookout, _ *chat) { pass(joinWithin + auditEvery) },
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.admits(standup, nurse, "member")
				l.locked(func() {
					l.prompt, l.by = false, romeo
					l.affiliate(c, nurse, "none", false)
					l.service.tells()
					l.by = ""
				})
				l.admits(standup, nurse, "member")
				l.locked(func() { l.prompt = true })
				pass(time.Second)
				if !l.HasGrant(jid.MustParse(standup), jid.MustParse(nurse)) || l.is(c, nurse) != "member" {
					t.Errorf("the nurse is %s, %d live", l.is(c, nurse), l.live())
				}
				end(l, c)
				if l.is(c, nurse) != "none" || l.live() != 1 {
					t.Errorf("the nurse is %s, %d live", l.is(c, nurse), l.live())
				}
			})
		})
	}
}

// Somebody who was inside asks to be let in once more while they are outside, and does not come.
func TestGuardToldAskedAgainAndAway(t *testing.T) {
	for name, again := range map[string]func(t *testing.T, l *lookout, c *chat){
		"on the way to a breakout room": func(t *testing.T, l *lookout, c *chat) {
			s := guardStage{l, c}
			s.moves(romeo, false)
			l.goes(c, nurse)
			pass(time.Second)
			l.admits(standup, nurse, "member")
		},
		"after a restart": func(t *testing.T, l *lookout, c *chat) {
			l.silences()
			l.goes(c, nurse)
			l.succeed()
			pass(aLook)
			l.admits(standup, nurse, "member")
		},
		"left before that was written down, which failed": func(t *testing.T, l *lookout, c *chat) {
			l.book.takes(time.Second)
			l.book.fails(errors.New("full"))
			asked := make(chan error)
			go func() { asked <- l.lets(standup, nurse, "member", time.Time{}) }()
			pass(time.Second / 2)
			l.goes(c, nurse)
			if err := <-asked; !errors.Is(err, ErrUnwritten) {
				t.Errorf("asked again: %v", err)
			}
			l.book.takes(0)
			l.book.fails(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			hearing(t, nil, func(t *testing.T, l *lookout) {
				c := l.comes(standup, romeo, "owner")
				l.comes(standup, nurse, "member")
				pass(time.Minute)
				again(t, l, c)
				pass(joinWithin + aLook)
				if got := l.is(c, nurse); got != "none" {
					t.Errorf("the nurse has not come and is %s", got)
				}
			})
		})
	}
}

// A room that is not told of yet, because the connection is about to end, is not taken for gone when somebody is to be put out of it.
func TestGuardToldRemovesFromNewRoom(t *testing.T) {
	hearing(t, nil, func(t *testing.T, l *lookout) {
		l.disconnect()
		c := l.opens(standup)
		l.sets(c, juliet, "member")
		if !l.sits(c, juliet) {
			t.Fatal("juliet cannot join")
		}
		if err := l.Remove(t.Context(), jid.MustParse(standup), jid.MustParse(juliet), revoked); err == nil {
			t.Error("juliet is inside and taken for removed")
		}
	})
}
