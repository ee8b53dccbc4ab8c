package muc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"
)

const aLook = interval + 2*roomTick // by then a room has been looked at

// Who is an owner by us or by a host stays one; who is by Jicofo does not.
func TestEnforceRoles(t *testing.T) {
	for name, tt := range map[string]struct {
		play     func(l *lookout, c *chat)
		want     string // the nurse's affiliation in the end
		warnings int
	}{
		"elected, alone": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"elected again and again": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			for range 3 {
				l.sets(c, nurse, "owner")
				pass(aLook)
			}
		}, "member", 3},
		"elected after the host left": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(3 * aLook)
			l.goes(c, romeo)
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"elected long after the host left": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(aLook)
			l.goes(c, romeo)
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"elected after the host left, and another comes at once": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(aLook)
			l.goes(c, romeo)
			pass(aLook)
			l.sets(c, nurse, "owner")
			l.comes(standup, juliet, "owner")
		}, "member", 1},
		"authenticated by Jicofo": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"authenticated, and not by us": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			l.sits(c, nurse)
		}, "member", 1},
		"authenticated again": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
			pass(5 * aLook)
			l.sets(c, nurse, "owner")
		}, "member", 2},
		"authenticated a moment after the join, which a look has seen": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.comes(standup, nurse, "member")
			for l.forgetAsked(); l.asked(standup, "participant") == 0; { // once
				pass(awaitTick)
			}
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"made by a host where Jicofo authenticates": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(3 * aLook)
			l.sets(c, nurse, "owner")
		}, "owner", 0},
		"made by a host as soon as they came": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, "owner", 0},
		"made by a host before they came": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			l.sits(c, nurse)
		}, "owner", 0},
		"made admin by a host": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "admin")
		}, "admin", 0},
		"put back, and then made by a host": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
			l.comes(standup, romeo, "owner")
			pass(3 * aLook)
			l.sets(c, nurse, "owner")
		}, "owner", 1},
		"elected, and a host comes at once": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			pass(aLook)
			l.sets(c, nurse, "owner")
			l.comes(standup, romeo, "owner")
		}, "member", 1},
		"elected while the host was away between two looks": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(aLook)
			l.goes(c, romeo)
			l.sets(c, nurse, "owner")
			l.locked(func() { l.service.join(c, romeo+"/2", romeo) })
		}, "member", 1},
		"elected, gone, and back beside a host": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
			l.goes(c, nurse)
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.sits(c, nurse)
		}, "member", 1},
		"made by somebody elected, who is put back": {func(l *lookout, c *chat) {
			l.comes(standup, juliet, "member")
			l.comes(standup, nurse, "member")
			l.sets(c, juliet, "owner")
			l.sets(c, nurse, "owner")
			l.comes(standup, romeo, "owner")
		}, "member", 2},
		"an admin of the service": {func(l *lookout, c *chat) {
			l.locked(func() { c.admins = map[string]bool{nurse: true} })
			l.sits(c, nurse)
		}, "owner", 0},
		"an admin, elected": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "admin")
			l.sets(c, nurse, "owner")
		}, "admin", 1},
		"elected while only an admin is inside": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "admin")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"made by a host": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
		}, "owner", 0},
		"made by a host who left": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			pass(aLook)
			l.goes(c, romeo)
		}, "owner", 0},
		"made by one who was made": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, juliet, "member")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, juliet, "owner")
			pass(aLook)
			l.goes(c, romeo)
			pass(2 * goneAfter)
			l.sets(c, nurse, "owner")
		}, "owner", 0},
		"made, and was in a breakout room": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			pass(aLook)
			b := l.opens(breakout)
			l.locked(func() { b.main = c })
			if _, err := l.Main(context.Background(), jid.MustParse(breakout)); err != nil {
				t.Error(err)
			}
			l.goes(c, nurse)
			l.sits(b, nurse)
			pass(time.Minute)
			l.goes(b, nurse)
			l.goes(c, romeo)
			l.sits(c, nurse)
		}, "owner", 0},
		"made, taken down, and elected": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			pass(aLook)
			l.sets(c, nurse, "member")
			pass(aLook)
			l.goes(c, romeo)
			pass(aLook)
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"ours": {func(l *lookout, c *chat) { l.comes(standup, nurse, "owner") }, "owner", 0},
		"of an earlier process": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			pass(aLook)
			l.goes(c, romeo)
			l.succeed()
			if host, err := l.HostPresent(context.Background(), jid.MustParse(standup)); !host || err != nil {
				t.Errorf("before the first look: host %t, %v", host, err)
			}
		}, "owner", 0},
		"of an earlier process, elected now": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.succeed()
			pass(aLook)
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"of an earlier process that wrote nothing down": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "owner")
			clear(l.book.written)
			l.succeed()
			if host, err := l.HostPresent(context.Background(), jid.MustParse(standup)); !host || err != nil {
				t.Errorf("host %t, %v", host, err)
			}
			l.comes(standup, romeo, "member")
			if host, err := l.HostPresent(context.Background(), jid.MustParse(standup)); !host || err != nil {
				t.Errorf("host %t, %v", host, err)
			}
		}, "owner", 0},
		"withdrawn": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "owner")
			pass(aLook)
			l.Withdraw(jid.MustParse(standup), jid.MustParse(nurse))
		}, "none", 0},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, enforcing, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
					t.Fatal(err)
				}
				tt.play(l, c)
				pass(2 * aLook)
				if got := l.is(c, nurse); got != tt.want || l.insideOf(c, nurse) != (tt.want != "none") {
					t.Errorf("%s, want %s; inside: %t", got, tt.want, l.insideOf(c, nurse))
				}
				host, err := l.HostPresent(t.Context(), jid.MustParse(standup))
				juliet := l.is(c, juliet) == "owner" && l.insideOf(c, juliet)
				if want := tt.want == "owner" || tt.want == "admin" || l.insideOf(c, romeo) || juliet; host != want || err != nil {
					t.Errorf("a host is inside: %t, %v", host, err)
				}
				if len(l.warnings) != tt.warnings {
					t.Errorf("told %q", l.warnings)
				}
				l.live()
				for _, who := range people {
					l.goes(c, who)
				}
				pass(goneAfter)
				l.locked(func() { c.admins = nil })
				if l.live() != 0 || l.is(c, nurse) == "member" {
					t.Errorf("everybody is gone, and %d grants are live, the nurse is %s", l.live(), l.is(c, nurse))
				}
			})
		})
	}
}

// Between being elected and being put back one is no host for those who wait.
func TestElectedIsNoHost(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		c := l.comes(standup, nurse, "member")
		pass(aLook)
		l.Await(jid.MustParse(standup), time.Now().Add(time.Minute))
		for range 20 {
			l.sets(c, nurse, "owner")
			if exists, host, err := l.State(t.Context(), jid.MustParse(standup)); !exists || host || err != nil {
				t.Fatalf("%t, %t, %v", exists, host, err)
			}
			pass(time.Second)
		}
		if len(l.arrivals) != 0 {
			t.Errorf("told %v", l.arrivals)
		}
	})
}

// JIDs that are none, and the focus, are neither put back nor in the way. A service is nobody's host, and is put back as
// everybody is.
func TestEnforceRolesOdd(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.sets(c, "tape@recorder.example", "owner")
		l.sits(c, "tape@recorder.example")
		l.service.mu.Lock()
		for _, full := range []string{"", "@/", "/", "a@", us + "/other"} {
			c.seats = append(c.seats, &seat{nick: full, full: full, role: "moderator"})
		}
		l.service.mu.Unlock()
		l.comes(standup, nurse, "member")
		l.sets(c, nurse, "owner")
		pass(2 * aLook)
		if l.is(c, nurse) != "member" || l.is(c, "tape@recorder.example") != "member" || l.is(c, jicofo) != "owner" || len(l.warnings) != 2 {
			t.Errorf("the nurse is %s, and told %q", l.is(c, nurse), l.warnings)
		}
		for _, who := range []string{nurse, "tape@recorder.example"} {
			if !slices.ContainsFunc(l.warnings, func(w string) bool { return strings.HasPrefix(w, who) }) {
				t.Errorf("%q do not say that %s is put back", l.warnings, who)
			}
		}
	})
}

// Where roles are not enforced nobody is put back, and what Jicofo does is said once for each room, if no host can have done it.
func TestWarnsOfJicofo(t *testing.T) {
	const election, authentication = "jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0)",
		"jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)"
	for name, tt := range map[string]struct {
		play func(l *lookout, c *chat)
		says []string // of each warning
	}{
		"elected": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, []string{election}},
		"elected again and again": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.comes(standup, juliet, "member")
			for _, who := range []string{nurse, juliet, nurse} {
				l.sets(c, who, "owner")
				pass(auditEvery)
				l.sets(c, who, "member")
			}
		}, []string{election}},
		"elected in another room of that name": {func(l *lookout, c *chat) {
			for range 2 {
				c := l.comes(standup, nurse, "member")
				l.sets(c, nurse, "owner")
				pass(2 * auditEvery)
				l.locked(func() { l.destroy(c) })
				pass(auditEvery)
			}
		}, []string{election, election}},
		"elected in two rooms": {func(l *lookout, c *chat) {
			for _, address := range roomNames[:2] {
				l.sets(l.comes(address, nurse, "member"), nurse, "owner")
			}
		}, []string{election, election}},
		"authenticated": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, []string{authentication}},
		"Jicofo says that it authenticates": {func(l *lookout, c *chat) {
			l.SetAuthenticates(true)
			l.comes(standup, romeo, "owner")
		}, []string{authentication}},
		"nobody is more than we gave": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
		}, nil},
		"made by a host": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * auditEvery)
			l.sets(c, nurse, "owner")
		}, nil},
		"made by a host who is gone for long": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			l.comes(standup, nurse, "member")
			pass(2 * auditEvery)
			l.sets(c, nurse, "owner")
			pass(2 * auditEvery)
			l.goes(c, romeo)
			pass(2 * goneAfter)
		}, nil},
		"made by a host seen by no look": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			pass(2 * auditEvery)
			l.comes(standup, romeo, "owner")
			l.sets(c, nurse, "owner")
			l.goes(c, romeo)
		}, nil},
		"made admin, which Jicofo never does": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "admin")
		}, nil},
		"an admin of the service": {func(l *lookout, c *chat) {
			l.locked(func() { c.admins = map[string]bool{nurse: true} })
			l.sits(c, nurse)
		}, nil},
		"of an earlier process": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
			l.succeed()
		}, nil},
		"of an earlier process that wrote nothing down": {func(l *lookout, c *chat) {
			l.comes(standup, nurse, "owner")
			clear(l.book.written)
			l.succeed()
			l.comes(standup, juliet, "member")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
					t.Fatal(err)
				}
				tt.play(l, c)
				was := l.is(c, nurse)
				pass(3 * auditEvery)
				if got := l.is(c, nurse); got != was {
					t.Errorf("the nurse was %s and is %s", was, got)
				}
				if len(l.warnings) != len(tt.says) {
					t.Fatalf("told %q", l.warnings)
				}
				for i, says := range tt.says {
					if !strings.Contains(l.warnings[i], says) || !strings.Contains(l.warnings[i], "jicofo.enforce_roles: true") {
						t.Errorf("told %q, want %q and the way to have usher mend it", l.warnings[i], says)
					}
				}
			})
		})
	}
}

// election is a Jicofo that elects owners (AutoOwnerRoleManager in ChatRoomRoleManager.kt), in one room, and what is known of
// who was made owner by a host.
type election struct {
	*lookout
	c        *chat
	owner    string          // the full JID of the owner that Jicofo knows
	byHost   map[string]bool // by bare JID: made owner by a host, and not less since
	sessions int
}

// elects is what Jicofo does when somebody comes or leaves. The caller holds the service's lock.
func (e *election) elects() {
	people := slices.DeleteFunc(slices.Clone(e.c.seats), func(o *seat) bool { return bareOf(o.full) == jicofo })
	if slices.ContainsFunc(people, func(o *seat) bool { return o.full == e.owner }) || len(people) == 0 {
		return
	}
	i := slices.IndexFunc(people, func(o *seat) bool { return e.c.affiliation(o.full) == "owner" })
	if i < 0 {
		i = 0
		e.affiliate(e.c, bareOf(people[0].full), "owner", false)
	}
	e.owner = people[i].full
}

// host reports whether somebody is an owner by usher or by a host.
func (e *election) host(bare string) bool {
	return e.c.affiliation(bare) == "owner" && (e.byHost[bare] || e.most(bare) == "owner")
}

// most is what usher gave.
func (e *election) most(bare string) string {
	e.Guard.mu.Lock()
	defer e.Guard.mu.Unlock()
	if rm := e.Guard.rooms[e.c.address]; rm != nil && rm.live[bare] != nil && !rm.live[bare].state.ending() {
		return rm.live[bare].Affiliation
	}
	return ""
}

func (e *election) actions() map[string]func(*rapid.T) {
	person := func(t *rapid.T) string { return rapid.SampledFrom(people[:3]).Draw(t, "who") } // who may be hosts
	sits := func(who string) {
		e.locked(func() {
			e.sessions++
			if e.service.join(e.c, fmt.Sprintf("%s/%d", who, e.sessions), fmt.Sprint(e.sessions)) {
				e.elects()
			}
		})
	}
	comes := func(t *rapid.T) {
		who := person(t)
		if err := e.lets(e.c.address, who, rapid.SampledFrom([]string{"owner", "member", "member"}).Draw(t, "as"), time.Time{}); err != nil {
			t.Fatalf("%s is not let in: %v", who, err)
		}
		sits(who)
	}
	return map[string]func(*rapid.T){
		"come": comes, "come, too": comes,
		"come without asking": func(t *rapid.T) { sits(person(t)) },
		"go": func(t *rapid.T) {
			e.goes(e.c, person(t))
			e.locked(e.elects)
		},
		"make an owner": func(t *rapid.T) {
			by, who := person(t), person(t)
			e.locked(func() {
				if e.c.inside(by) != nil && e.c.affiliation(by) == "owner" && by != who {
					host := e.host(by)
					e.affiliate(e.c, who, "owner", false)
					e.byHost[who] = e.byHost[who] || host
				}
			})
		},
		"wait": func(t *rapid.T) {
			pass(time.Duration(rapid.IntRange(1, int(2*interval/time.Millisecond)).Draw(t, "ms")) * time.Millisecond)
		},
		"quiet": func(t *rapid.T) {
			pass(3 * aLook)
			e.locked(func() {
				for _, o := range e.c.seats {
					if bare := bareOf(o.full); bare != jicofo && e.c.affiliation(bare) == "owner" && !e.host(bare) {
						t.Fatalf("%s is an owner by Jicofo: told %q", bare, e.warnings)
					}
				}
			})
		},
	}
}

// People come, go, and make others owners in any order and at any time: two looks later every owner inside is one by usher or
// by a host.
func TestElectionModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			e := &election{lookout: newLookout(t, enforcing), byHost: map[string]bool{}}
			e.c = e.opens(standup)
			e.observer = func(_ *chat, bare, event string) {
				if strings.HasPrefix(event, "given ") || event == "set member" {
					delete(e.byHost, bare)
				}
			}
			e.run()
			defer e.stop()
			if err := e.Guard.Open(context.Background(), jid.MustParse(standup), true); err != nil {
				t.Fatal(err)
			}
			t.Repeat(e.actions())
			e.actions()["quiet"](t)
			synctest.Wait()
		})
	})
}

// Somebody who was elected and asks again is put back by that, also in the middle of a look, and is not taken for an admin of the
// service: to be elected once more before the next look makes nobody an owner for good.
func TestElectedAsksDuringALook(t *testing.T) {
	for at := range 40 {
		lookOut(t, enforcing, func(t *testing.T, l *lookout) {
			c := l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.locked(func() { l.delay = 10 * time.Millisecond })
			l.sets(c, nurse, "owner")
			pass(time.Duration(at) * 5 * time.Millisecond) // the look begins at some time in these
			for range 40 {
				if err := l.lets(standup, nurse, "member", time.Time{}); err != nil {
					t.Fatal(err)
				}
				l.sets(c, nurse, "owner")
				pass(time.Duration(at) * time.Millisecond)
			}
			pass(2*aLook + time.Second)
			if got := l.is(c, nurse); got != "member" {
				t.Errorf("%d: the nurse is %s", at, got)
			}
		})
	}
}
