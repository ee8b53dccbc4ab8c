package component

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

// jitsiPause is how long jitsi-meet waits after not-authorized before it asks again (features/authentication/actions.any.ts,
// waitForOwner).
const jitsiPause = 5 * time.Second

// waitingGuest is a guest's page that waits for a host, as lib-jitsi-meet does (moderator.js): it asks, is told not-authorized at
// once or when its request is held no more, and asks again jitsiPause later. Time passes only as the simulation says; what decides
// is usher's own: who is held, for how long, and who is called when a host arrives.
type waitingGuest struct {
	c    *Component
	conf focus.Conference
	now  time.Time
}

func newWaitingGuest(t testing.TB, hold time.Duration) *waitingGuest {
	t.Helper()
	g := &waitingGuest{c: testComponent(t), now: time.Now()}
	g.c.o.Now = func() time.Time { return g.now }
	g.c.o.WaitHold, g.c.o.WaitHoldJitsi = 0, hold
	start, d, err := stream.Open([]byte("<conference xmlns='" + focus.NS + "' room='" + theRoom.String() + "' machine-uid='m'>" +
		"<property name='rtcstatsEnabled' value='false'/><property name='visitors-version' value='1'/></conference>"))
	if err == nil {
		g.conf, err = focus.Parse(start, d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// delay has a guest come, and a host after so long, and returns how much later than the host the guest is let in.
func (g *waitingGuest) delay(from jid.JID, host time.Duration) time.Duration {
	began := g.now
	arrives := began.Add(host)
	d := auth.Decision{Room: auth.Room{JID: theRoom}}.Waiting(auth.ReasonHostAbsent)
	for {
		if !g.now.Before(arrives) {
			return g.now.Sub(arrives)
		}
		iq := stanza.IQ{ID: "1", Type: stanza.SetIQ, From: from, To: ours}
		if g.c.hold(context.Background(), &request{from: from, conf: g.conf, client: iqClient{g.c, iq}, came: g.now}, d) {
			over := g.c.held.order[0].until
			if arrives.Before(over) {
				g.now = arrives
				for _, r := range g.c.held.call(theRoom) {
					g.c.held.take(r)
					g.c.strike(context.Background(), r)
				}
				return 0
			}
			g.now = over
			g.c.strike(context.Background(), g.c.held.over(g.now)...)
		}
		g.now = g.now.Add(jitsiPause)
	}
}

// guests has so many guests come who wait for a host for up to ten minutes, and returns their delays, sorted.
func (g *waitingGuest) guests(n int) []time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for i := range n {
		from := jid.MustParse(fmt.Sprintf("guest%d@guest.example.com/r", i))
		all = append(all, g.delay(from, time.Duration(r.Int64N(int64(10*time.Minute)))))
	}
	slices.Sort(all)
	return all
}

// BenchmarkWaitingGuest says how long a guest with jitsi-meet waits for being let in once the host is inside, who comes at a random
// moment: with requests held for 10 s, as all were before there was rooms.wait_hold_jitsi, and for 60 s, its default. Between two
// requests the page does not ask for 5 s, and a host who comes then finds it so. It does not depend on the machine.
func BenchmarkWaitingGuest(b *testing.B) {
	for _, hold := range []time.Duration{0, 10 * time.Second, 60 * time.Second, 90 * time.Second} {
		b.Run("hold="+hold.String(), func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				all = newWaitingGuest(b, hold).guests(20000)
			}
			once, sum := 0, time.Duration(0)
			for _, d := range all {
				if sum += d; d == 0 {
					once++
				}
			}
			b.ReportMetric(100*float64(once)/float64(len(all)), "%at-once")
			b.ReportMetric(sum.Seconds()/float64(len(all)), "s/mean")
			b.ReportMetric(all[len(all)*99/100].Seconds(), "s/p99")
		})
	}
}

// Each request of a page that waits is held, except its first. Neither the length of the hold nor other clients change that. So the
// only gaps are those between its requests.
func TestWaitingGuestIsHeldEachTime(t *testing.T) {
	t.Parallel()
	const hold = 90 * time.Second // the longest
	g := newWaitingGuest(t, hold)
	all := g.guests(300)
	late := slices.IndexFunc(all, func(d time.Duration) bool { return d > 0 })
	if share := float64(len(all)-late) / float64(len(all)); share > 0.15 {
		t.Errorf("of 300 guests, %.0f %% are not let in at once", 100*share)
	}
	if worst := all[len(all)-1]; worst > jitsiPause {
		t.Errorf("one is let in after %s", worst)
	}
	// In the worst case, what is remembered is dropped right after it was noted.
	h, now := g.c.held, g.now
	for i := range 100 {
		from := jid.MustParse(fmt.Sprintf("other%d@guest.example.com/r", i))
		h.again(from, theRoom, now)
		for ahead := time.Duration(0); ahead < hold+jitsiPause; ahead += hold / 10 {
			h.again(jid.MustParse("somebody@guest.example.com/r"), theRoom, now.Add(ahead))
		}
		if now = now.Add(hold + jitsiPause); !h.again(from, theRoom, now) {
			t.Fatalf("%s is held no more", from)
		}
	}
}
