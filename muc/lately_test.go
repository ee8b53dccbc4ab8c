package muc

import (
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// What usher has written just before the connection ended may never arrive, and nothing says so. After the next connection nobody has what
// was taken back, nor goes a room on that was ended.
func TestSentAndLost(t *testing.T) {
	withdraw := func(w *world, _ *chat) { w.rooms.Withdraw(jid.MustParse(standup), jid.MustParse(juliet)) }
	for name, tt := range map[string]struct {
		act  func(w *world, c *chat)
		ends bool
	}{
		"taken from somebody inside": {act: withdraw},
		"taken from somebody who has left": {act: func(w *world, c *chat) {
			w.service.mu.Lock()
			w.remove(c, c.inside(juliet))
			w.service.mu.Unlock()
			for w.read() {
				continue
			}
			synctest.Wait()
			withdraw(w, c)
		}},
		"the room ended": {ends: true, act: func(w *world, c *chat) {
			w.service.mu.Lock()
			w.remove(c, c.inside(juliet))
			w.remove(c, c.inside(romeo))
			w.service.mu.Unlock()
			for w.read() {
				continue
			}
			synctest.Wait()
		}},
	} {
		for service, module := range map[string]bool{"plain": false, "with the module": true} {
			t.Run(name+"/"+service, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorldWith(module)
					defer func() { w.disconnected() }()
					w.settle()
					c := w.enters(t, romeo, "owner")
					c.hidden = true // as rooms of Jitsi are; others would be looked for
					w.enters(t, juliet, "member")
					tt.act(w, c)
					if len(w.up) == 0 {
						t.Fatal("nothing was sent that could be lost")
					}
					w.connect(w.disconnected())
					w.settle()
					w.pass(2 * joinWithin)
					if got := c.affiliation(juliet); got != "none" && !tt.ends {
						t.Errorf("who had it taken back is %s", got)
					}
					if tt.ends && w.chats[standup] != nil {
						t.Errorf("the room goes on, with %v on its lists", c.affiliations)
					}
				})
			})
		}
	}
}

// What was sent long ago has arrived, and is forgotten.
func TestLately(t *testing.T) {
	var l lately
	one, two, now := jid.MustParse(standup), jid.MustParse(retro), time.Now()
	l.add(sent{room: one, at: now.Add(-2 * lostWithin)})
	l.add(sent{room: one, at: now.Add(-lostWithin)})
	l.add(sent{room: two, at: now})
	if len(l) != 2 {
		t.Errorf("%d are kept, want 2", len(l))
	}
	isOne := func(room jid.JID) bool { return room.Equal(one) }
	if lost := l.cut(now.Add(1), isOne); len(lost) != 0 || len(l) != 1 {
		t.Errorf("lost after its time: %v; kept: %v", lost, l)
	}
	l.add(sent{room: one, at: now})
	if lost := l.cut(now.Add(lostWithin), isOne); len(lost) != 1 || !lost[0].room.Equal(one) {
		t.Errorf("lost: %v", lost)
	}
	if len(l) != 1 || !l[0].room.Equal(two) {
		t.Errorf("kept: %v", l)
	}
}
