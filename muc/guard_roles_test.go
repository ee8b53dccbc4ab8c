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

// The steps of most stories about owners. No server tells who made the nurse an owner: Jicofo, or a host inside.
var (
	host     = comes(romeo, "owner")
	hostGoes = goes(romeo)
	guest    = comes(nurse, "member")
	promoted = sets(nurse, "owner")
)

// An owner made by usher or by a host stays one; an owner made by Jicofo does not.
func TestEnforceRoles(t *testing.T) {
	for name, tt := range map[string]struct {
		steps    steps
		want     string // the nurse's affiliation in the end
		warnings int
	}{
		"elected, alone":                   {steps{guest, promoted}, "member", 1},
		"elected again and again":          {steps{guest, times(3, promoted, looks(1))}, "member", 3},
		"elected after the host left":      {steps{host, guest, looks(3), hostGoes, promoted}, "member", 1},
		"elected long after the host left": {steps{host, guest, looks(1), hostGoes, looks(2), promoted}, "member", 1},
		"elected after the host left, and another comes at once": {
			steps{host, guest, looks(1), hostGoes, looks(1), promoted, comes(juliet, "owner")}, "member", 1},
		"elected, and a host comes at once": {steps{guest, looks(1), promoted, host}, "member", 1},
		"elected while the host was away between two looks": {steps{host, guest, looks(1), hostGoes, promoted,
			withGuard(func(s guardStage) { s.locked(func() { s.service.join(s.main, romeo+"/2", romeo) }) })}, "member", 1},
		"elected, gone, and back beside a host": {steps{guest, promoted, goes(nurse), host, looks(2), enters(nurse)}, "member", 1},
		"elected while only an admin is inside": {steps{comes(romeo, "admin"), guest, looks(2), promoted}, "member", 1},
		"an admin, elected":                     {steps{comes(nurse, "admin"), promoted}, "admin", 1},
		"made by somebody elected, who is put back": {
			steps{comes(juliet, "member"), guest, sets(juliet, "owner"), promoted, host}, "member", 2},

		"authenticated by Jicofo":      {steps{authenticates, host, looks(2), guest, promoted}, "member", 1},
		"authenticated, and not by us": {steps{authenticates, host, looks(2), promoted, enters(nurse)}, "member", 1},
		"authenticated again":          {steps{authenticates, host, guest, promoted, looks(5), promoted}, "member", 2},
		"authenticated a moment after the join, which a look has seen": {
			steps{authenticates, host, looks(2), guest, untilAsked, promoted}, "member", 1},
		"made by a host where Jicofo authenticates": {steps{authenticates, host, guest, looks(3), promoted}, "owner", 0},

		"made by a host":                      {steps{host, guest, looks(2), promoted}, "owner", 0},
		"made by a host as soon as they came": {steps{host, looks(2), guest, promoted}, "owner", 0},
		"made by a host before they came":     {steps{host, looks(2), promoted, enters(nurse)}, "owner", 0},
		"made by a host who left":             {steps{host, guest, looks(2), promoted, looks(1), hostGoes}, "owner", 0},
		"made admin by a host":                {steps{host, guest, looks(2), sets(nurse, "admin")}, "admin", 0},
		"made by one who was made": {steps{host, comes(juliet, "member"), guest, looks(2), sets(juliet, "owner"), looks(1),
			hostGoes, passes(2 * goneAfter), promoted}, "owner", 0},
		"made, and was in a breakout room": {steps{host, guest, looks(2), promoted, looks(1), moves(nurse), passes(time.Minute),
			withGuard(func(s guardStage) { s.lookout.goes(s.opens(breakout), nurse) }), hostGoes, enters(nurse)}, "owner", 0},
		"made, taken down, and elected": {
			steps{host, guest, looks(2), promoted, looks(1), sets(nurse, "member"), looks(1), hostGoes, looks(1), promoted}, "member", 1},
		"put back, and then made by a host": {steps{guest, promoted, host, looks(3), promoted}, "owner", 1},

		"an admin of the service": {steps{serviceAdmin(nurse), enters(nurse)}, "owner", 0},
		"ours":                    {steps{comes(nurse, "owner")}, "owner", 0},
		"withdrawn":               {steps{comes(nurse, "owner"), looks(1), withdraws(nurse)}, "none", 0},
		"of an earlier process": { // a host before the first look, too
			steps{host, guest, looks(2), promoted, looks(1), hostGoes, succeeds, hosts(true)}, "owner", 0},
		"of an earlier process, elected now": {steps{guest, succeeds, looks(1), promoted}, "member", 1},
		"of an earlier process that wrote nothing down": {
			steps{comes(nurse, "owner"), forgetGrants, succeeds, hosts(true), comes(romeo, "member"), hosts(true)}, "owner", 0},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, enforcing, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
					t.Fatal(err)
				}
				tt.steps.on(guardStage{l, c})
				pass(2 * aLook)
				if got := l.is(c, nurse); got != tt.want || l.insideOf(c, nurse) != (tt.want != "none") {
					t.Errorf("%s, want %s; inside: %t", got, tt.want, l.insideOf(c, nurse))
				}
				juliet := l.is(c, juliet) == "owner" && l.insideOf(c, juliet)
				hosts(tt.want == "owner" || tt.want == "admin" || l.insideOf(c, romeo) || juliet)(guardStage{l, c})
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

// untilAsked passes time until the next look has asked for the participants, and not longer.
func untilAsked(s stage) {
	l := s.(guardStage).lookout
	for l.forgetAsked(); l.asked(standup, "participant") == 0; {
		pass(10 * time.Millisecond)
	}
}

// serviceAdmin makes somebody an admin of the MUC service.
func serviceAdmin(who string) step {
	return withGuard(func(s guardStage) { s.locked(func() { s.main.admins = map[string]bool{who: true} }) })
}

// forgetGrants empties the ledger, except for what it has of rooms.
func forgetGrants(s stage) { clear(s.(guardStage).book.written) }

// Between the election and being put back an elected owner is no host for people who wait.
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

// Invalid JIDs and the focus are neither put back nor in the way. A service is no host, and is put back like everybody.
func TestEnforceRolesOdd(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		l.sets(c, recorder, "owner")
		l.sits(c, recorder)
		l.service.mu.Lock()
		for _, full := range []string{"", "@/", "/", "a@", us + "/other"} {
			c.seats = append(c.seats, &seat{nick: full, full: full, role: "moderator"})
		}
		l.service.mu.Unlock()
		l.comes(standup, nurse, "member")
		l.sets(c, nurse, "owner")
		pass(2 * aLook)
		if l.is(c, nurse) != "member" || l.is(c, recorder) != "member" || l.is(c, jicofo) != "owner" || len(l.warnings) != 2 {
			t.Errorf("the nurse is %s, and told %q", l.is(c, nurse), l.warnings)
		}
		for _, who := range []string{nurse, recorder} {
			if !slices.ContainsFunc(l.warnings, func(w string) bool { return strings.HasPrefix(w, who) }) {
				t.Errorf("%q do not say that %s is put back", l.warnings, who)
			}
		}
	})
}

// If roles are not enforced nobody is put back. One warning for each room says what Jicofo does, if no host can have done it.
func TestWarnsOfJicofo(t *testing.T) {
	const election, authentication = "jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0)",
		"jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)"
	for name, tt := range map[string]struct {
		steps steps
		says  []string // of each warning
	}{
		"elected":                 {steps{guest, promoted}, []string{election}},
		"elected again and again": {steps{guest, comes(juliet, "member"), electedFor(nurse), electedFor(juliet), electedFor(nurse)}, []string{election}},
		"elected in another room of that name": {steps{withGuard(func(s guardStage) {
			for range 2 {
				c := s.lookout.comes(standup, nurse, "member")
				s.lookout.sets(c, nurse, "owner")
				pass(2 * auditEvery)
				s.locked(func() { s.destroy(c) })
				pass(auditEvery)
			}
		})}, []string{election, election}},
		"elected in two rooms": {steps{withGuard(func(s guardStage) {
			for _, address := range roomNames[:2] {
				s.lookout.sets(s.lookout.comes(address, nurse, "member"), nurse, "owner")
			}
		})}, []string{election, election}},
		"authenticated":                     {steps{authenticates, guest, promoted}, []string{authentication}},
		"Jicofo says that it authenticates": {steps{authenticates, host}, []string{authentication}},
		"nobody is more than we gave":       {steps{host, guest}, nil},
		"made by a host":                    {steps{host, guest, passes(2 * auditEvery), promoted}, nil},
		"made by a host who is gone for long": {
			steps{host, guest, passes(2 * auditEvery), promoted, passes(2 * auditEvery), hostGoes, passes(2 * goneAfter)}, nil},
		"made by a host seen by no look":      {steps{guest, passes(2 * auditEvery), host, promoted, hostGoes}, nil},
		"made admin, which Jicofo never does": {steps{guest, sets(nurse, "admin")}, nil},
		"an admin of the service":             {steps{serviceAdmin(nurse), enters(nurse)}, nil},
		"of an earlier process":               {steps{guest, promoted, succeeds}, nil},
		"of an earlier process that wrote nothing down": {
			steps{comes(nurse, "owner"), forgetGrants, succeeds, comes(juliet, "member")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lookOut(t, nil, func(t *testing.T, l *lookout) {
				c := l.opens(standup)
				if err := l.Guard.Open(t.Context(), jid.MustParse(standup), true); err != nil {
					t.Fatal(err)
				}
				tt.steps.on(guardStage{l, c})
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

// electedFor has somebody be an owner for one audit.
func electedFor(who string) step {
	return func(s stage) {
		s.sets(who, "owner")
		s.pass(auditEvery)
		s.sets(who, "member")
	}
}

// election is a Jicofo that elects owners (AutoOwnerRoleManager in ChatRoomRoleManager.kt), in one room, and what is known of
// owners made by a host.
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

// most returns what usher gave.
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

// People come, go, and make others owners in any order and at any time. Two looks later usher or a host has made every owner
// inside.
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

// Somebody who was elected and asks again is put back by that, also in the middle of a look. They do not count as an admin of the
// service: being elected once more before the next look makes nobody an owner for good.
func TestElectedAsksDuringALook(t *testing.T) {
	for at := range 40 {
		lookOut(t, enforcing, func(t *testing.T, l *lookout) {
			c := l.comes(standup, nurse, "member")
			pass(2 * aLook)
			l.locked(func() { l.delay = 10 * time.Millisecond })
			l.sets(c, nurse, "owner")
			pass(time.Duration(at) * 5 * time.Millisecond) // the look begins at some time in these
			for range 40 {
				l.admits(standup, nurse, "member")
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

// What is written down of an owner who was put back may come after what the same person is given meanwhile, and takes nothing from it.
func TestPutBackAndAdmitted(t *testing.T) {
	for _, takes := range []time.Duration{0, 40 * time.Millisecond, 60 * time.Millisecond} {
		lookOut(t, enforcing, func(t *testing.T, l *lookout) {
			c := l.comes(standup, romeo, "owner")
			l.SetAuthenticates(true)
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			l.sits(c, nurse)
			l.book.takes(50 * time.Millisecond)
			isPutBack := func() bool {
				l.Guard.mu.Lock()
				defer l.Guard.mu.Unlock()
				gr := l.Guard.rooms[standup].live[nurse]
				return gr != nil && gr.ledger == unwritten
			}
			for range 10_000 {
				if isPutBack() {
					break
				}
				pass(time.Millisecond)
			}
			if !isPutBack() {
				t.Fatal("the nurse is not put back")
			}
			l.book.takes(takes)
			l.admits(standup, nurse, "member")
			l.book.takes(0)
			pass(2 * aLook)
			if l.live() != 2 {
				t.Errorf("%d are live", l.live())
			}
			pass(2 * aLook)
			l.Guard.mu.Lock()
			defer l.Guard.mu.Unlock()
			if got := l.Guard.rooms[standup].live[nurse].ledger; got != written {
				t.Errorf("the nurse's grant is %v in the ledger", got)
			}
		})
	}
}

// A look at a room that has ended meanwhile finds those inside another room of the same name, and judges nobody there.
func TestGuardJudgesNoOtherRoom(t *testing.T) {
	lookOut(t, enforcing, func(t *testing.T, l *lookout) {
		j := jid.MustParse(standup)
		l.Guard.mu.Lock()
		before := l.Guard.room(j)
		l.Guard.gone(before)
		l.Guard.mu.Unlock()
		c := l.comes(standup, juliet, "owner")
		f, err := l.Guard.find(t.Context(), before, true)
		if err != nil || len(f.moderators) == 0 {
			t.Fatalf("found %v, %v", f.moderators, err)
		}
		l.Guard.conclude(before, f, true)
		if got := l.is(c, juliet); got != "owner" || len(l.warnings) > 0 {
			t.Errorf("the host is %s; told %q", got, l.warnings)
		}
	})
}
