package muc

import (
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

// reconnects cuts the connection, does something, and connects again.
func (l *lookout) reconnects(t *testing.T, meanwhile func()) {
	l.disconnect()
	meanwhile()
	l.locked(func() { l.cut = false })
	l.silences()
	l.listensAgain()
	l.Resume(t.Context(), l.Reset(), jid.MustParse(mucDomain))
}

func TestGuardToldReconnects(t *testing.T) {
	hearing(t, nil, func(t *testing.T, l *lookout) {
		c := l.comes(standup, romeo, "owner")
		pass(time.Minute)
		l.reconnects(t, func() { l.locked(func() { l.configure(c, false) }) })
		pass(2 * aLook)
		if !c.membersOnly {
			t.Error("open")
		}
	})
}
