package page

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// TestLook takes pictures of each page: light and dark, wide and narrow, as people see it. They fit a window of 320 pixels, and one with
// the text twice as large.
func TestLook(t *testing.T) {
	t.Parallel()
	shots := map[string]string{
		"login room": "login", "login wrong": "login-wrong", "login too many": "login-too-many", "login providers": "login-providers", "rooms list": "rooms", "rooms any": "rooms-any", "rooms locked": "rooms-locked", "rooms patterns refused": "rooms-refused",
		"wait false": "wait", "notice logged-out": "logged-out", "notice no-room": "no-room",
	}
	for _, o := range []deploytest.BrowserOptions{
		{Scheme: "light", Width: 1280, Height: 900}, {Scheme: "dark", Width: 1280, Height: 900},
		{Scheme: "light", Width: 320, Height: 800}, {Scheme: "dark", Width: 320, Height: 800, Locale: "de-DE"},
	} {
		s := newStage(t)
		b := deploytest.Browse(t, s.url+at("login plain"), o)
		for name := range views() {
			b.Do("open", "url", s.url+at(name))
			b.See("h1", "")
			fits(t, b, fmt.Sprint(name, " ", o.Width))
			if shot, ok := shots[name]; ok {
				kind := "wide"
				if o.Width < 500 {
					kind = "narrow"
				}
				if b.Count("summary") > 0 {
					b.Click("summary")
				}
				b.Shot(strings.Join([]string{"portal", shot, o.Scheme, kind}, "-"))
			}
			b.Run(`document.documentElement.style.fontSize = '200%'`)
			fits(t, b, fmt.Sprint(name, " ", o.Width, " with large text"))
		}
		quiet(t, b)
	}
}

// fits fails the test if the page is wider than the window, or something is cut off.
func fits(t *testing.T, b *deploytest.Browser, name string) {
	t.Helper()
	if wide := b.Run(`document.documentElement.scrollWidth - innerWidth`).(float64); wide > 0 {
		t.Errorf("%s: %.0f pixels too wide", name, wide)
	}
}
