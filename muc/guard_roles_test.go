package muc

import (
	"context"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
)

const aLook = interval + 2*roomsAhead // by then a room has been looked at

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
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.comes(standup, nurse, "member")
			l.sets(c, nurse, "owner")
		}, "member", 1},
		"authenticated, and not by us": {func(l *lookout, c *chat) {
			l.comes(standup, romeo, "owner")
			pass(2 * aLook)
			l.sets(c, nurse, "owner")
			l.sits(c, nurse)
		}, "member", 1},
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
				if want := tt.want == "owner" || tt.want == "admin" || l.insideOf(c, romeo) || l.insideOf(c, juliet); host != want || err != nil {
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

// JIDs that are none, services, and the focus are neither put back nor in the way.
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
		if l.is(c, nurse) != "member" || l.is(c, "tape@recorder.example") != "owner" || l.is(c, jicofo) != "owner" || len(l.warnings) != 1 {
			t.Errorf("the nurse is %s, and told %q", l.is(c, nurse), l.warnings)
		}
		if !strings.HasPrefix(l.warnings[0], nurse) {
			t.Errorf("%q does not say who", l.warnings[0])
		}
	})
}
