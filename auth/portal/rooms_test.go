package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
)

// shownRooms returns the rooms of a page, in its order.
func shownRooms(page string) (all []string) {
	for _, m := range regexp.MustCompile(`data-room="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		all = append(all, m[1])
	}
	return all
}

// The page shows the rooms that are open or waited for, as far as the person may open them, whether they have opened them or not.
func TestRoomsOfNow(t *testing.T) {
	f := newFixture(t)
	f.do(func() {
		f.accounts = append(f.accounts, account.Account{Name: "teacher", Rooms: []string{"class-*", "[acme]lab-?", "office"}, Affiliation: auth.Owner})
		f.rooms = map[string]RoomState{
			"class-1": {Waiting: 1}, "class-2": {Open: true, HostInside: true}, "[acme]lab-1": {Open: true}, "[acme]lab-10": {Open: true},
			"standup": {Waiting: 2}, "nursery": {Open: true}, "[acme]ward": {Open: true}, "[evil]class-1": {Waiting: 9}, "office": {Open: true, Locked: true},
		}
	})
	p := f.portal()
	for name, want := range map[string][]string{
		"romeo":   {"class-1", "standup", "[acme]lab-1", "[acme]lab-10", "[acme]ward", "class-2", "nursery", "office"},
		"nurse":   {"nursery", "[acme]ward"},
		"peter":   {"nursery"},
		"teacher": {"class-1", "office", "[acme]lab-1", "class-2"},
	} {
		b := f.browser(p)
		b.begin(p, name)
		w := b.get("/rooms")
		if got := shownRooms(w.Body.String()); !slices.Equal(got, want) {
			t.Errorf("%s sees %q, want %q", name, got, want)
		}
	}
	romeo := f.browser(p)
	romeo.begin(p, "romeo")
	wants(t, "who waits", romeo.get("/rooms"), 200, "3 people wait for a host")
	romeo.get("/logout")
	romeo.begin(p, "romeo")
	wants(t, "logged in again", romeo.get("/rooms"), 200, `data-room="standup"`)
	f.do(func() { f.err = errBroken })
	nurse := f.browser(p)
	nurse.begin(p, "nurse")
	wants(t, "without an answer", nurse.get("/rooms"), 200, "Nobody inside")
}

// A page has 200 rooms at most. Rooms that strangers have made up by waiting do not push out the person's own.
func TestRoomsBounded(t *testing.T) {
	for _, tt := range []struct{ mine, others, wantMine, wantOthers int }{
		{0, 0, 0, 0}, {3, 4, 3, 4}, {0, 5000, 0, maxShown}, {5000, 0, maxShown, 0}, {150, 5000, maxShown / 2, maxShown / 2}, {50, 5000, 50, maxShown - 50}, {5000, 1, maxShown - 1, 1},
	} {
		var mine, others []Listed
		for n := range max(tt.mine, tt.others) {
			if n < tt.mine {
				mine = append(mine, Listed{Room: auth.Room{Name: fmt.Sprint("mine-", n)}})
			}
			if n < tt.others {
				others = append(others, Listed{Room: auth.Room{Name: fmt.Sprint("other-", n)}})
			}
		}
		if tt.mine > 0 {
			mine[tt.mine-1].Waiting = 1
		}
		if tt.others > 0 {
			others[tt.others-1].Waiting = 7
		}
		got, waiting := map[string]int{}, 0
		for _, l := range bounded(mine, others) {
			kind, _, _ := strings.Cut(l.Room.Name, "-")
			got[kind]++
			waiting += min(l.Waiting, 1)
		}
		if got["mine"] != tt.wantMine || got["other"] != tt.wantOthers || waiting != min(tt.mine, 1)+min(tt.others, 1) {
			t.Errorf("%+v: %v, of which people wait in %d", tt, got, waiting)
		}
	}
}

// People are told which names they may use, as they type them, also when another name is refused.
func TestPatternsShown(t *testing.T) {
	for _, tt := range []struct {
		rooms, want []string
		fits        string // a name that fits
	}{
		{[]string{"class-*"}, []string{"class-*"}, "class-1"},
		{[]string{"class-*", "office", "[acme]lab-?", "[*]class-*"}, []string{"class-*", "lab-?"}, "lab-2"},
		{[]string{"[*]board"}, []string{"board"}, "board"},
		{[]string{"[a*]board"}, []string{"[a*]board"}, "[a*]board"},
		{[]string{"*"}, nil, "any"},
		{[]string{"class-*", "[acme]*"}, nil, "any"},
		{[]string{"office"}, nil, "office"},
	} {
		if got := typed(tt.rooms); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.rooms, got, tt.want)
		}
		f := newFixture(t)
		f.do(func() { f.accounts = []account.Account{{Name: "teacher", Rooms: tt.rooms, Affiliation: auth.Owner}} })
		p := f.portal()
		b := f.browser(p)
		b.begin(p, "teacher")
		page, refused := b.get("/rooms"), b.post("/rooms", "room", "[evil]standup")
		wants(t, "a name of another person", refused, http.StatusForbidden, "This room is not one of yours")
		for _, pattern := range tt.want {
			text := `<bdi class="name">` + pattern + `</bdi>`
			if strings.Count(page.Body.String(), text) != 1 || strings.Count(refused.Body.String(), text) != 2 {
				t.Errorf("%q: %s\n%s", tt.rooms, page.Body, refused.Body)
			}
		}
		if told := strings.Contains(page.Body.String(), "Names that you may use"); told != (len(tt.want) > 0) {
			t.Errorf("%q: told of patterns: %v", tt.rooms, told)
		}
		wants(t, "a name that fits", b.post("/rooms", "room", tt.fits), http.StatusSeeOther, meet)
	}
}

// What the page says of names that are none is what is refused.
func TestNamesRefused(t *testing.T) {
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	b.begin(p, "romeo")
	for what, names := range map[string][]string{
		"It is empty,": {"", "   "}, "too long": {strings.Repeat("x", 5000)}, "one or two dots": {".", ".."}, "begins with [ and has no ]": {"[", "[acme"},
		"a character that cannot be shown": {"a\x00b", "a\nb", "a\x7f", "\xff", "\u202e"},
	} {
		for _, name := range names {
			w := b.post("/rooms", "room", name)
			wants(t, fmt.Sprintf("%.20q", name), w, http.StatusBadRequest, "This is not a name for a room")
			wants(t, fmt.Sprintf("%.20q", name), w, http.StatusBadRequest, what)
		}
	}
	for _, name := range []string{"our room", "a/b", "...", "100%", "*", "Größe", "会議", "a@b", "what? & why!", "a]b", "(<>)", "🤷🏽‍♀️", "[acme]x y"} {
		wants(t, name, b.post("/rooms", "room", name), http.StatusSeeOther, meet+"/")
		if got := b.get("/rooms"); !strings.Contains(got.Body.String(), "data-room=") {
			t.Errorf("%s (%s) is not shown", name, url.QueryEscape(name))
		}
	}
}
