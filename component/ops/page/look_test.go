package page_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
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
	b := browse(t, s.url, look{Height: 900, Width: 1440})
	all := func(name string) {
		for _, scheme := range []string{"light", "dark"} {
			b.do("media", "scheme", scheme)
			for width, word := range map[int]string{1440: "wide", 320: "narrow"} {
				b.do("size", "width", width, "height", 900)
				if wide := b.run(`document.documentElement.scrollWidth - innerWidth`).(float64); wide > 0 {
					t.Errorf("%s: with a width of %d the page is %.0f pixels too wide", name, width, wide)
				}
				b.shot(name + "-" + word + "-" + scheme)
			}
		}
		b.do("size", "width", 1440, "height", 900)
	}
	b.see("h1", "All is well")
	b.see("#rooms", "standup")
	all("well")
	b.do("click", "css", "#rooms .opener:has-text('retro')")
	b.see("#rooms .detail", "Waiting: 2")
	b.do("click", "css", "#decisions .opener")
	b.see("#decisions .detail", "Rule by rule")
	all("open")
	s.change(func() {
		s.status.Connected, s.status.Since = false, time.Now().Add(-12*time.Second)
	})
	b.see("h1", "Trouble: connection")
	all("trouble")
	s.change(func() { s.standby = true })
	b.see("h1", "Standing by")
	all("standby")
	b.quiet()
	s.cut()
	b.see("h1", "does not answer")
	all("gone")
}
