package page_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/page"
	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// quiet fails the test if the page has complained.
func quiet(t *testing.T, b *deploytest.Browser) {
	t.Helper()
	for _, line := range b.Complaints() {
		t.Error(line)
	}
}

// Everything can be done by keyboard, and what has the focus keeps it while the page changes.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.room("alpha", 1, 1, 0)
	s.room("beta", 1, 1, 0)
	s.decide("alpha", "kim@meet.example.com", auth.ReasonTokenExpired)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("#rooms", "beta")
	focus := func() string {
		return b.Run(`(e => e.id || e.getAttribute('href') || e.textContent)(document.activeElement)`).(string)
	}
	var order []string
	for range 9 {
		b.Press("Tab")
		if b.Run(`getComputedStyle(document.activeElement).outlineStyle`) == "none" {
			t.Errorf("the focus on %s cannot be seen", focus())
		}
		order = append(order, focus())
	}
	want := "#rooms-title #decisions-title rooms-filter alpha beta pause decisions-show decisions-filter"
	if got := strings.Join(order[:8], " "); got != want || !strings.Contains(order[8], "explain") {
		t.Errorf("Tab leads to %q, want %q and the first decision", order, want)
	}
	b.Press("Enter")
	b.See("#decisions .detail", "not met: token")
	if b.Run(`document.activeElement.getAttribute('aria-expanded')`) != "true" {
		t.Error("the button does not say that it is open")
	}
	b.Press("Escape")
	b.Gone("#decisions .detail", "")
	if !strings.Contains(focus(), "explain") {
		t.Errorf("Escape leaves the focus on %s", focus())
	}
	b.Run(`[...document.querySelectorAll('#rooms .opener')].find(e => e.textContent === 'beta').focus()`)
	b.Press(" ")
	b.See("#rooms .detail", "beta@conference.meet.example.com")
	s.room("beta", 1, 1, 1) // now somebody waits, and it comes first
	b.See("#rooms tr.row:first-child", "beta")
	b.See("#rooms .detail", "Waiting: 1")
	if focus() != "beta" {
		t.Errorf("when the room moved, the focus went to %s", focus())
	}
	s.change(func() { delete(s.rooms, "beta@conference.meet.example.com") })
	b.Gone("#rooms .opener", "beta")
	if focus() != "rooms-title" {
		t.Errorf("when the room ended, the focus went to %s", focus())
	}
	quiet(t, b)
}

// Names of rooms and people, and everything else that strangers write, show as the text that they are.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	texts := []string{
		`<img src=x onerror="document.title='broken'">`, `"><script>document.title='broken'</script>`, `</td></table><h1>All is well`,
		`javascript:alert(1)`, "{{7*7}}${7*7}", "\u202egnp.exe", "a\u0300" + strings.Repeat("\u0301\u0316", 200), strings.Repeat("long", 2000), "\U0001F9D1\u200D\U0001F680 'q' & <b>",
	}
	for n, text := range texts {
		address := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", n))
		who := jid.MustParse(fmt.Sprintf("who-%d@guest.meet.example.com", n))
		v := component.RoomView{
			RoomSummary: component.RoomSummary{Room: address, Name: text, Tenant: text, Open: true, Hosts: 1, Since: time.Now()},
			Text:        text, Occupants: []component.Occupant{{Who: who, As: text, User: text, Issuer: text, JTI: text}},
			Waits: []component.Waiter{{Who: who, Reason: auth.Reason(text)}},
		}
		s.change(func() { s.rooms[address.String()] = v })
		s.history.Add(component.Report{
			What: component.Decided, At: time.Now(), Room: address, Name: text, Tenant: text, Who: who, VHost: text, Issuer: text, JTI: text, User: text, Text: text,
			Reason: auth.Reason(text), Steps: []auth.Step{{Rule: text, Expected: text, Found: text}},
		})
	}
	s.change(func() { s.checks[0].Says, s.status.Server = texts[0], texts[1] })
	for _, width := range []int{320, 1280} {
		b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{Width: width})
		b.See("#rooms", texts[0])
		for n := range texts {
			b.Click(fmt.Sprintf("#rooms tr[data-key='room-%d@conference.meet.example.com'] .opener", n))
			b.See("#rooms .detail", fmt.Sprintf("room-%d@", n))
			b.Click(fmt.Sprintf("#decisions tr.row >> nth=%d >> .opener", len(texts)-1-n))
			b.See("#decisions .detail", fmt.Sprintf("who-%d@", n))
			if found := b.Run(`[...document.querySelectorAll('#decisions .detail bdi, #rooms .detail bdi')].map(e => e.textContent).join('\n')`).(string); !strings.Contains(found, texts[n]) {
				t.Errorf("%q is not shown as it is", texts[n])
			}
			if n == 0 {
				b.Shot(fmt.Sprintf("hostile-%d", width))
			}
		}
		if n := b.Count("img, script, iframe, b, td h1"); n != 0 {
			t.Errorf("%d elements came from texts", n)
		}
		if title := b.Run(`document.title`); title != "✓ usher" {
			t.Errorf("the title is %q", title)
		}
		if wide := b.Run(`document.documentElement.scrollWidth - innerWidth`).(float64); wide > 0 {
			t.Errorf("with a width of %d the page is %.0f pixels too wide", width, wide)
		}
		quiet(t, b)
	}
}

// A thousand rooms cost the page no more than fifty.
func TestManyRooms(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for n := range 1000 {
		s.room(fmt.Sprintf("room-%03d", n), 1, 2, 0)
	}
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("#rooms-count", "1,000 rooms")
	b.See("#rooms-range", "1–50 of 1,000")
	if n := b.Count("#rooms tr.row"); n != 50 {
		t.Errorf("%d rows", n)
	}
	if n := b.Run(`document.querySelectorAll('*').length`).(float64); n > 1500 {
		t.Errorf("%.0f elements", n)
	}
	b.Click("#rooms-after")
	b.See("#rooms-range", "51–100 of 1,000")
	b.See("#rooms", "room-099")
	s.room("room-700", 1, 2, 3)
	b.Click("#rooms-before")
	b.See("#rooms tr.row:first-child", "room-700")
	b.Do("fill", "css", "#rooms-filter", "text", "ROOM-99")
	b.See("#rooms-count", "10 of 1,000 rooms")
	b.Gone("#rooms-pages", "")
	b.Do("fill", "css", "#rooms-filter", "text", "nothing like it")
	b.See("#rooms-none", "No room fits the filter.")
	b.Do("fill", "css", "#rooms-filter", "text", "")
	b.See("#rooms-count", "1,000 rooms")
	b.Click("#rooms-after")
	b.See("#rooms-range", "51–100")
	s.change(func() { clear(s.rooms) })
	b.See("#rooms-none", "No room is open, and nobody waits.")
	quiet(t, b)
}

// The page says when usher is gone, and goes on by itself when it is back.
func TestGone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.room("standup", 1, 0, 0)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("h1", "All is well")
	b.See("#announcer", "All is well")
	back := s.cut()
	b.See("h1", "usher does not answer")
	b.See("#subline", "Everything below is from then.")
	if title := b.Run(`document.title`); title != "✕ usher does not answer – usher" {
		t.Errorf("the title is %q", title)
	}
	b.See("#announcer", "usher does not answer")
	s.decide("standup", "meanwhile@guest.meet.example.com", auth.ReasonGuest)
	s.room("retro", 1, 0, 0)
	back()
	b.See("h1", "All is well")
	b.See("#decisions", "meanwhile@guest.meet.example.com")
	b.See("#rooms", "retro")
	s.change(func() { s.standby = true })
	b.See("h1", "Standing by: another usher is active")
	b.See("#rooms-none", "The active usher knows the rooms.")
	b.See("#count-waiting", "–")
	quiet(t, b)
}

// The page says when there are too many, and comes when another one is closed.
func TestTooManyPages(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var open []*follower
	for range page.MaxFollowers {
		open = append(open, s.follow())
	}
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("h1", "Too many pages are open")
	open[0].cancel()
	b.See("h1", "All is well")
	quiet(t, b)
}

// A list that somebody reads does not move away under their eyes.
func TestListStandsStill(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.decide("standup", "first@guest.meet.example.com", auth.ReasonGuest)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.Click("#decisions .opener")
	b.See("#decisions .detail", "Rule by rule")
	b.See("h1", "All is well")
	s.decide("standup", "second@guest.meet.example.com", auth.ReasonGuest)
	b.See("#newer", "Show 1 newer")
	if n := b.Count("#decisions tr.row"); n != 1 {
		t.Errorf("%d rows", n)
	}
	b.Click("#newer")
	b.See("#decisions tr.row:first-child", "second@")
	b.Click("#pause")
	for n := range 70 {
		s.decide("standup", fmt.Sprintf("p%d@guest.meet.example.com", n), auth.ReasonGuest)
	}
	b.See("#newer", "Show 70 newer")
	if got := b.See("#decisions tr.row:first-child", ""); !strings.Contains(got, "second@") {
		t.Errorf("paused, the list begins with %s", got)
	}
	b.Click("#pause")
	b.See("#decisions tr.row:first-child", "p69@")
	if n := b.Count("#decisions tr.row"); n > 50 {
		t.Errorf("%d rows", n)
	}
	b.Do("select", "css", "#decisions-show", "text", "deny")
	b.See("#decisions-none", "Nothing fits the filter.")
	s.decide("standup", "allowed@guest.meet.example.com", auth.ReasonGuest)
	s.decide("standup", "refused@guest.meet.example.com", auth.ReasonTokenExpired)
	b.See("#decisions tr.row:first-child", "refused@")
	if n := b.Count("#decisions tr.row"); n != 1 {
		t.Errorf("%d rows of refused people", n)
	}
	quiet(t, b)
}

// What comes faster than it can be shown is counted.
func TestFlood(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("h1", "All is well")
	for n := range 400 {
		s.decide("standup", fmt.Sprintf("p%d@guest.meet.example.com", n), auth.ReasonGuest)
	}
	b.See("#decisions tr.row", "p399@")
	b.See("#count-admitted", "400")
	b.Click("#pause")
	for n := range 400 {
		s.decide("standup", fmt.Sprintf("q%d@guest.meet.example.com", n), auth.ReasonGuest)
	}
	b.See("#newer", "Show 400 newer")
	b.Click("#pause")
	b.See("#decisions tr.row:first-child", "q399@")
	b.See("#decisions .missed", "350 entries came too fast to be shown here.")
	s.decide("standup", "last@guest.meet.example.com", auth.ReasonGuest)
	b.See("#decisions tr.row:first-child", "last@")
	if n := b.Count("#decisions tr.row"); n > 50 {
		t.Errorf("%d rows", n)
	}
	quiet(t, b)
}

// Every text can be read against its ground: WCAG 2.2, 1.4.3 and 1.4.11 in part.
func TestContrast(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	busy(s)
	s.change(func() { s.checks[0].OK, s.checks[0].Says, s.status.Slow = false, "does not answer", 3 })
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{})
	b.See("h1", "Trouble")
	b.Click("#rooms .opener")
	b.See("#rooms .detail", "Address")
	b.Click("#decisions .opener")
	b.See("#decisions .detail", "Rule by rule")
	b.Click("#pause")
	for _, scheme := range []string{"light", "dark"} {
		b.Do("media", "scheme", scheme)
		for _, level := range []string{"well", "standby", "trouble", "connecting"} {
			b.Run(`document.body.dataset.level = '` + level + `'`)
			for _, faint := range b.Run(contrastScript).([]any) {
				t.Errorf("%s, %s: %s", scheme, level, faint)
			}
		}
	}
}

// contrastScript returns the elements with a text that has too little contrast, with the contrast.
const contrastScript = `(() => {
	const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
	const over = (grounds) => {
		pen.clearRect(0, 0, 1, 1);
		for (const [colour, alpha] of grounds) { pen.globalAlpha = alpha; pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
		return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
	const faint = [];
	for (const e of document.querySelectorAll('body *:not(script, style, option)')) {
		const own = [...e.childNodes].some(c => c.nodeType === 3 && c.data.trim());
		if (!own || !e.checkVisibility() || e.closest('.unseen, .skip, :disabled')) continue;
		const style = getComputedStyle(e), grounds = [];
		let opacity = 1;
		for (let up = e; up; up = up.parentElement) {
			grounds.unshift([getComputedStyle(up).backgroundColor, 1]);
			opacity *= Number(getComputedStyle(up).opacity);
		}
		const [a, b] = [light(over(grounds)), light(over([...grounds, [style.color, opacity]]))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), size = parseFloat(style.fontSize);
		const enough = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
		if (ratio < enough) faint.push(e.textContent.trim().slice(0, 30) + ' (' + (e.className || e.tagName) + '): ' + ratio.toFixed(2));
	}
	return [...new Set(faint)];
})()`

// A screen reader finds its way, and is told of what matters only.
func TestScreenReader(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.room("[acme] planning", 1, 2, 0)
	s.decide("standup", "kim@meet.example.com", auth.ReasonTokenExpired)
	b := deploytest.Browse(t, s.url, deploytest.BrowserOptions{Motion: "reduce"})
	b.See("#rooms", "planning")
	tree := b.Do("aria", "css", "body").(string)
	for _, want := range []string{
		"- banner:", "- main:", "- contentinfo:", `heading "All is well" [level=1]`, `region "Rooms"`, `region "Last decisions"`, `heading "Rooms" [level=2]`,
		`table "Rooms that are open`, `columnheader "Waiting"`, `rowheader "acme / planning"`, `searchbox "Filter rooms by name"`, `button "Pause"`,
		`img "People let in in the last hour: 0.`, `, well: Prosody 0.12.3`, "✕ refused", `combobox "Show"`,
	} {
		if !strings.Contains(tree, want) {
			t.Errorf("no %s in\n%s", want, tree)
		}
	}
	b.See("#announcer", "All is well")
	b.Run(`new MutationObserver(() => window.spoken = (window.spoken || 0) + 1).observe(document.getElementById('announcer'), { childList: true, subtree: true, characterData: true })`)
	for n := range 30 {
		s.decide("standup", fmt.Sprintf("p%d@guest.meet.example.com", n), auth.ReasonGuest)
	}
	b.See("#decisions", "p29@")
	if n := b.Run(`window.spoken || 0`).(float64); n != 0 {
		t.Errorf("%.0f announcements for 30 decisions", n)
	}
	s.room("retro", 0, 0, 2)
	b.See("#announcer", "2 people wait for a host.")
	if b.Run(`getComputedStyle(document.querySelector('tr.new')).animationName`) != "none" {
		t.Error("something moves although the person wants none of it")
	}
	quiet(t, b)
}
