package page_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/deploytest"
	"mellium.im/xmpp/jid"
)

// busy fills the stage with an ordinary afternoon.
func busy(s *stage) {
	s.room("standup", 1, 3, 0)
	s.room("retro", 0, 0, 2)
	s.room("[acme] planning", 2, 14, 0)
	s.room("all-hands", 1, 212, 1)
	s.room("interview with kim", 1, 0, 0)
	for n := range 9 {
		s.room(fmt.Sprintf("desk-%d", n), 1, n%4, 0)
	}
	reasons := []auth.Reason{
		auth.ReasonHost, auth.ReasonGuest, auth.ReasonGuest, auth.ReasonHostAbsent, auth.ReasonTokenExpired, auth.ReasonGuest, auth.ReasonRoomMismatch,
		auth.ReasonMember, auth.ReasonService, auth.ReasonHostAbsent, auth.ReasonTokenSignature, auth.ReasonHost,
	}
	for n := range 420 {
		if n%7%3 != 0 && n%11 > 3 {
			continue
		}
		r := reasons[(n*5+n/9)%len(reasons)]
		row := r.Row()
		s.history.Add(component.Report{
			What: component.Decided, At: time.Now().Add(-time.Duration(420-n) * 8 * time.Second), Room: jid.MustParse("standup@conference.meet.example.com"),
			Name: "standup", Who: jid.MustParse(fmt.Sprintf("p%d@guest.meet.example.com", n)), Verdict: row.Verdict, Reason: r, Text: row.Text,
		})
	}
	s.history.Add(component.Report{What: component.HostArrived, At: time.Now().Add(-4 * time.Second), Room: jid.MustParse("standup@conference.meet.example.com"), Name: "standup"})
	s.decide("standup", "kim@meet.example.com", auth.ReasonHost)
	s.decide("standup", "ana@guest.meet.example.com", auth.ReasonGuest)
	s.decide("retro", "lee@guest.meet.example.com", auth.ReasonHostAbsent)
	s.decide("standup", "mallory@meet.example.com", auth.ReasonTokenExpired)
}

// TestLooks takes pictures of the page in its states, light and dark, wide and narrow, for people to look at.
func TestLooks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	busy(s)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{Height: 900, Width: 1440})
	all := func(name string) {
		for _, scheme := range []string{"light", "dark"} {
			b.Do("media", "scheme", scheme)
			for width, word := range map[int]string{1440: "wide", 320: "narrow"} {
				b.Do("size", "width", width, "height", 900)
				if wide := b.Run(`document.documentElement.scrollWidth - innerWidth`).(float64); wide > 0 {
					t.Errorf("%s: with a width of %d the page is %.0f pixels too wide", name, width, wide)
				}
				b.Shot(name + "-" + word + "-" + scheme)
			}
		}
		b.Do("size", "width", 1440, "height", 900)
	}
	b.See("h1", "All is well")
	b.See("#rooms", "standup")
	all("well")
	b.Click("#rooms .opener:has-text('retro')")
	b.See("#rooms .detail", "Waiting: 2")
	b.Click("#decisions .opener")
	b.See("#decisions .detail", "Rule by rule")
	all("open")
	b.Do("size", "width", 320, "height", 900)
	for part, css := range map[string]string{"rooms": "#rooms-title", "decisions": "#decisions-title"} {
		b.Run(`document.querySelector('` + css + `').scrollIntoView()`)
		b.Shot("open-narrow-" + part)
	}
	b.Run(`scrollTo(0, 0)`)
	s.change(func() {
		s.status.Connected, s.status.Since = false, time.Now().Add(-12*time.Second)
	})
	b.See("h1", "Trouble: connection")
	all("trouble")
	s.change(func() { s.standby = true })
	b.See("h1", "Standing by")
	all("standby")
	quiet(t, b)
	s.cut()
	b.See("h1", "does not answer")
	all("gone")
}
