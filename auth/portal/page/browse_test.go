package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// patience is the time in which something must happen that a test waits for, on a machine with much else to do.
const patience = time.Minute

// posted returns the next form that was sent.
func (s *stage) posted() string {
	s.t.Helper()
	select {
	case post := <-s.posts:
		return post
	case <-time.After(patience):
		s.t.Fatal("no form was sent")
		return ""
	}
}

// tell sends a message to the wait page.
func (s *stage) tell(text string) {
	s.t.Helper()
	select {
	case s.events <- text:
	case <-time.After(patience):
		s.t.Fatalf("nobody follows, to be told %s", text)
	}
}

// followed waits until a page follows.
func (s *stage) followed() {
	s.t.Helper()
	select {
	case <-s.open:
	case <-time.After(patience):
		s.t.Fatal("no page follows")
	}
}

// A person logs in by the keyboard alone. What is wrong has the focus, and the fields say it, too.
func TestLoginByKeyboard(t *testing.T) {
	t.Parallel()
	for _, script := range []bool{true, false} {
		s := newStage(t)
		s.change(func() {
			s.login = Login{Password: true, Fields: map[string]string{"room": "standup"}, Providers: []Choice{{"Keycloak", "/login/with/keycloak"}}}
		})
		b := deploytest.Browse(t, s.url+"/login", deploytest.BrowserOptions{NoScript: !script})
		b.Press("k", "i", "m", "Tab", "1", "2", "3")
		if shown := b.Count("#show") == 1; shown != script {
			t.Errorf("with a script %v: the button that shows the password shows: %v", script, shown)
		}
		if script {
			b.Press("Tab", "Enter")
			b.See("#show[aria-pressed=true]", "Show")
			if kind := b.Run(`password.type`); kind != "text" {
				t.Errorf("the password is a field of the kind %s", kind)
			}
		}
		b.Press("Tab", "Enter")
		if post := s.posted(); post != "/login name=kim&password=123&room=standup" {
			t.Error(post)
		}
		b.See("h1", "logged out")

		s.change(func() { s.login.Wrong, s.login.Name = true, "kim" })
		b.Do("open", "url", s.url+"/login")
		b.See(".banner:focus", "The name or the password is not right.")
		if tree := fmt.Sprint(b.Do("aria", "css", "body")); !strings.Contains(tree, `textbox "Password"`) || !strings.Contains(tree, "That did not work") {
			t.Errorf("a screen reader finds %s", tree)
		}
		if said := b.Run(`document.getElementById(password.getAttribute('aria-describedby')).textContent`).(string); !strings.Contains(said, "not right") {
			t.Errorf("the field says %q", said)
		}
		b.Press("Tab", "Tab", "4", "Enter")
		if post := s.posted(); post != "/login name=kim&password=4&room=standup" {
			t.Error(post)
		}
		quiet(t, b)
	}
}

// A guest waits, loses the portal twice, and is taken into the room once a host is inside. The page says so to a screen reader.
func TestWaitInBrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+"/wait/standup", deploytest.BrowserOptions{Motion: "reduce"})
	b.See("[role=status] h1", "Please wait for the host")
	if b.Run(`getComputedStyle(document.querySelector('.pulse i')).animationName`) != "none" {
		t.Error("something moves although the person wants none of it")
	}
	s.followed()
	s.tell(MessageWait)
	s.tell("away") // the browser follows again by itself
	s.followed()
	s.tell("away")
	s.followed()
	b.See("[role=status] h1", "Please wait for the host")
	s.tell(MessageReady)
	b.See("p", "standup")
	if at := b.Run(`location.pathname`); at != "/meet/standup" {
		t.Errorf("the guest is at %v", at)
	}
	// Back leads out of the room, not into the wait page that would lead here again.
	if n := b.Run(`history.length`).(float64); n > 2 {
		t.Errorf("%.0f entries of history", n)
	}

	// Where a portal stands by, the page asks it again.
	s.change(func() { s.refuse = 2 })
	b.Do("open", "url", s.url+"/wait/standup")
	s.followed()
	s.followed()
	s.followed()
	s.tell(MessageReady)
	b.See("h1", "Room")

	s.change(func() { s.wait.Ready = true })
	b.Do("open", "url", s.url+"/wait/standup")
	b.See("h1", "Room")
	quiet(t, b)
}

// Without a script, a guest is taken into the room, too.
func TestWaitWithoutScript(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+"/wait/standup", deploytest.BrowserOptions{NoScript: true, Locale: "de-DE"})
	b.See("h1", "Bitte warten Sie auf den Gastgeber")
	if n := b.Count("#enter"); n != 0 {
		t.Error("the link into the room shows before the host is there")
	}
	s.change(func() { s.wait.Ready = true })
	b.See("h1", "Room")
	quiet(t, b)
}

// The list of rooms: opening, the link for guests, locking, and ending after a question.
func TestRoomsInBrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.change(func() { s.rooms.Any, s.rooms.Random = true, "calm-river" })
	b := deploytest.Browse(t, s.url+"/rooms", deploytest.BrowserOptions{})
	row := func(room string) string { return `li[data-room="` + room + `"] ` }
	send := func(want string, click ...string) {
		t.Helper()
		b.Do("open", "url", s.url+"/rooms")
		for _, css := range click {
			b.Click(css)
		}
		if post := s.posted(); post != want {
			t.Errorf("%s: %s", click, post)
		}
		b.See("h1", "logged out")
	}
	send("/rooms room=calm-river", ".new button")
	send("/rooms room=%5Bacme%5Dplanning", row("[acme]planning")+".primary")
	send("/rooms/unlock room=%5Bacme%5Dplanning", row("[acme]planning")+"summary", row("[acme]planning")+".menu button")
	send("/rooms/lock room=standup", row("standup")+"summary", row("standup")+".menu button")
	if asked := fmt.Sprint(b.Do("asked")); asked != "[]" {
		t.Errorf("asked %s", asked)
	}
	send("/rooms/end room=standup", row("standup")+"summary", row("standup")+".danger")
	if asked := fmt.Sprint(b.Do("asked")); asked != "[End the conference for everybody?]" {
		t.Errorf("asked %s", asked)
	}
	// Enter in the field for a name opens that room, and does not press the first button of the list.
	b.Do("open", "url", s.url+"/rooms")
	b.Do("fill", "css", "#room", "text", "Our room")
	b.Press("Enter")
	if post := s.posted(); post != "/rooms room=Our+room" {
		t.Error(post)
	}
	b.See("h1", "logged out")
	b.Do("open", "url", s.url+"/rooms")
	// What shows for a moment only is noted by the page itself.
	b.Run(`for (const [note, e] of [['seen', document.querySelector('li[data-room=retro] .guest')], ['heard', document.querySelector('#said[role=status]')]]) {
		new MutationObserver(() => { if (e.textContent) document.body.dataset[note] = document.body.dataset[note] || e.textContent; }).observe(e, { childList: true });
	}`)
	b.Click(row("retro") + ".guest")
	b.See("body[data-seen=Copied][data-heard=Copied]", "")
	b.Do("fill", "css", "#room", "text", "")
	b.Press("Control+V")
	if link := b.Run(`room.value`); link != "https://meet.example.com/retro" {
		t.Errorf("copied %v", link)
	}
	quiet(t, b)
}

// Only one menu is open. Escape closes it, and the focus stays with it; so does a click elsewhere.
func TestMenus(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+"/rooms", deploytest.BrowserOptions{})
	b.Click("li[data-room=standup] summary")
	b.See("li[data-room=standup] .menu", "Lock")
	b.Press("Tab", "Tab", "Escape")
	b.Gone(".menu", "")
	b.See("li[data-room=standup] summary:focus", "More")
	b.Press("Enter")
	b.See("li[data-room=standup] .menu", "Lock")
	b.Press("Shift+Tab", "Shift+Tab", "Shift+Tab", "Enter") // the menu of the room above
	b.See("li[data-room='[acme]planning'] .menu", "Unlock")
	if n := b.Count(".menu"); n != 1 {
		t.Errorf("%d menus are open", n)
	}
	b.Click("h1")
	b.Gone(".menu", "")
	quiet(t, b)
}

// The list is up to date without anything that the person does, and leaves alone what they are doing.
func TestRoomsKeepUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+"/rooms", deploytest.BrowserOptions{})
	b.See("li", "Nobody inside")
	s.change(func() { s.rooms.Rooms = append(someRooms(), Room{Name: "new", Value: "new", Waiting: 2}) })
	b.See(`li[data-room="new"]`, "2 people wait")
	b.See("#waiting", "6 people wait for a host.")
	b.Click("li[data-room=standup] summary")
	s.change(func() { s.rooms.Rooms[0].Waiting = 7 })
	b.See("li[data-room=standup] .state", "7 people wait")
	b.See("li[data-room=standup] .menu", "End for everybody")
	b.Press("Enter") // closes the menu
	b.Run(`document.activeElement.blur()`)
	b.See("li:first-child", "standup")
	s.change(func() { s.lost = true }) // the login has ended
	b.See("h1", "Log in")
	quiet(t, b)
}

// Without a script, rooms are opened, steered and shared all the same.
func TestRoomsWithoutScript(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+"/rooms", deploytest.BrowserOptions{NoScript: true})
	b.See("li[data-room=retro] a.guest[href='https://meet.example.com/retro']", "Guest link")
	b.Click("li[data-room=standup] summary")
	b.Click("li[data-room=standup] .danger")
	if post := s.posted(); post != "/rooms/end room=standup" {
		t.Error(post)
	}
	quiet(t, b)
}

// Names of rooms and people are written by strangers: they are shown as they are, in their place, and do nothing.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	hostile := []string{
		`<img src=x onerror=alert(1)>`, `"><script>alert(1)</script>`, `' onfocus=alert(1) autofocus '`, "{{.}}", "${1}", "\u202Egnitteem\u202C", "שלום עולם", "🤷🏽‍♀️",
		strings.Repeat("x", 500), strings.Repeat("long name ", 50), "Z" + strings.Repeat("\u0335\u0321\u0313", 100),
	}
	var rooms []Room
	for _, text := range hostile {
		rooms = append(rooms, Room{Name: text, Tenant: text, Value: text, Open: true, Steer: true, Guest: "https://meet.example.com/" + text})
	}
	b := deploytest.Browse(t, s.url+"/login", deploytest.BrowserOptions{Width: 320, Height: 700})
	for _, text := range hostile {
		s.change(func() {
			s.login = Login{Password: true, Room: text, Name: text, Fields: map[string]string{"state": text}, Providers: []Choice{{text, "/login/with/x"}}}
			s.rooms = Rooms{Person: text, Rooms: rooms, Any: true, Random: text}
			s.wait = Wait{Room: text, Events: "/wait/standup/events", Host: "/login", Enter: "/meet/x"}
		})
		for _, path := range []string{"/login", "/rooms", "/wait/standup"} {
			b.Do("open", "url", s.url+path)
			b.See("h1", "")
			fits(t, b, fmt.Sprintf("%s with %.20q", path, text))
			if n := b.Run(`document.querySelectorAll('img, body script, [onerror], [onfocus]').length`).(float64); n > 0 {
				t.Errorf("%s: %q is markup", path, text)
			}
		}
		if got := b.Run(`document.querySelector('bdi').textContent`); got != text {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
	s.change(func() { s.rooms = Rooms{Person: hostile[0], Rooms: rooms} })
	b.Do("open", "url", s.url+"/rooms")
	b.See("li", "onerror")
	b.Shot("portal-hostile")
	if asked := fmt.Sprint(b.Do("asked")); asked != "[]" {
		t.Errorf("a name ran: %s", asked)
	}
	quiet(t, b)
}

// With 200 rooms a person finds theirs, with and without a script, and the page comes in one piece.
func TestManyRooms(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var rooms []Room
	for n := range 200 {
		rooms = append(rooms, Room{Name: fmt.Sprintf("class-%d", n), Value: fmt.Sprintf("class-%d", n), Guest: fmt.Sprintf("https://meet.example.com/class-%d", n), Waiting: n / 199})
	}
	s.change(func() { s.rooms = Rooms{Person: "Kim Example", Rooms: rooms} })
	b := deploytest.Browse(t, s.url+"/rooms", deploytest.BrowserOptions{})
	b.See("li:first-child", "class-199") // somebody waits there
	if n := b.Count("li"); n != 200 {
		t.Errorf("%d rooms", n)
	}
	fits(t, b, "200 rooms")
	b.Shot("portal-rooms-many")
	b.Do("fill", "css", "input[type=search]", "text", "CLASS-17")
	b.Gone("li", "class-9")
	if n := b.Count("li"); n != 11 {
		t.Errorf("%d rooms with class-17", n)
	}
	b.Click(`li[data-room="class-173"] .primary`)
	if post := s.posted(); post != "/rooms room=class-173" {
		t.Error(post)
	}
	quiet(t, b)
}

// A screen reader finds its way: landmarks, headings, labels, and buttons that say of which room they are.
func TestScreenReader(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+at("login room"), deploytest.BrowserOptions{})
	for name, wants := range map[string][]string{
		"login room": {"- main:", `heading "Log in" [level=1]`, `textbox "Name": kim`, `textbox "Password"`, `button "Show"`, `button "Log in"`, `link "Log in with Keycloak"`, "acme / standup"},
		"rooms any": {
			"- banner:", "- main:", `heading "Your rooms" [level=1]`, `textbox "Open a room"`, `heading "standup" [level=2]`, `button "Enter standup"`, `button "Open retro"`,
			`button "Copy guest link retro"`, "- list:", "- listitem:", "Host inside", `link "Log out"`,
		},
		"rooms list":        {`heading "acme / planning" [level=2]`, `button "Enter acme / planning"`},
		"wait false":        {"- main:", "- status:", `heading "Please wait for the host" [level=1]`, `link "Log in"`},
		"notice logged-out": {"- main:", `heading "You are logged out" [level=1]`, `link "Log in again"`},
	} {
		b.Do("open", "url", s.url+at(name))
		b.See("h1", "")
		tree := b.Do("aria", "css", "body").(string)
		for _, want := range wants {
			if !strings.Contains(tree, want) {
				t.Errorf("%s: no %s in\n%s", name, want, tree)
			}
		}
	}
	quiet(t, b)
}

// Every text can be read: contrast 7:1 (WCAG 2.2, 1.4.6). What has the focus shows it, and is large enough for a finger (2.4.13, 2.5.8).
func TestContrastAndFocus(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := deploytest.Browse(t, s.url+at("login plain"), deploytest.BrowserOptions{})
	for name := range views() {
		if name == "wait true" {
			continue // which is left at once
		}
		b.Do("open", "url", s.url+at(name))
		b.See("h1", "")
		b.Run(`document.querySelectorAll('details').forEach(d => { d.open = true; })`)
		for _, scheme := range []string{"light", "dark"} {
			b.Do("media", "scheme", scheme)
			for _, faint := range b.Run(contrastScript).([]any) {
				t.Errorf("%s, %s: %s", name, scheme, faint)
			}
		}
		b.Press("Tab") // from here on the browser shows the focus
		for _, hidden := range b.Run(focusScript).([]any) {
			t.Errorf("%s: %s", name, hidden)
		}
	}
	quiet(t, b)
}

// contrastScript returns the elements with a text of too little contrast, with the contrast.
const contrastScript = `(() => {
	const rgb = colour => colour.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
	const faint = [];
	for (const e of document.querySelectorAll('body *')) {
		const own = e.matches('input') || [...e.childNodes].some(c => c.nodeType === 3 && c.data.trim());
		if (!own || !e.checkVisibility() || e.closest('.unseen')) continue;
		let ground = null;
		for (let up = e; up && !ground; up = up.parentElement) {
			const colour = rgb(getComputedStyle(up).backgroundColor);
			if (colour.length === 3) ground = colour;
			else if (colour[3] > 0) faint.push(up.className + ' is translucent');
		}
		const [a, b] = [light(ground || [255, 255, 255]), light(rgb(getComputedStyle(e).color))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 7) faint.push(e.textContent.trim().slice(0, 30) + ' (' + (e.className || e.tagName) + '): ' + ratio.toFixed(2));
	}
	return [...new Set(faint)];
})()`

// focusScript returns the elements that do not show that they have the focus, and those that are too small.
const focusScript = `(() => {
	const bad = [];
	for (const e of document.querySelectorAll('a[href], button, input:not([type=hidden]), summary')) {
		if (!e.checkVisibility()) continue;
		e.focus();
		const style = getComputedStyle(e), box = e.getBoundingClientRect();
		if (style.outlineStyle !== 'solid' || parseFloat(style.outlineWidth) < 2) bad.push(e.outerHTML.slice(0, 60) + ' does not show the focus');
		if (box.width < 24 || box.height < 22) bad.push(e.outerHTML.slice(0, 60) + ' is too small: ' + box.width + ' x ' + box.height);
	}
	return bad;
})()`
