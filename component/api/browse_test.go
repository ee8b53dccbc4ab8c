package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// In a real browser, the button of a link leads to the room, by keyboard alone and without a script, with the token where jitsi-meet reads
// it, and once.
func TestLinkInBrowser(t *testing.T) {
	t.Parallel()
	// It reads the token as jitsi-meet does (react/features/base/util/parseURLParams.ts), and shows what else it was told.
	meet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>room</title><p id="path">%s</p><p id="from">from %s</p><p id="jwt"></p>`+
			`<script>document.getElementById('jwt').textContent = JSON.parse(decodeURIComponent(location.hash.split('jwt=')[1]))</script>`,
			r.URL.RequestURI(), r.Header.Get("Referer"))
	}))
	t.Cleanup(meet.Close)
	usher := httptest.NewUnstartedServer(nil)
	base := "http://" + usher.Listener.Addr().String()
	f := newAPI(t, func(o *Options) { o.PublicURL, o.MeetURL = base, meet.URL })
	usher.Config.Handler = f
	usher.Start()
	t.Cleanup(usher.Close)
	for _, scheme := range []string{"light", "dark"} {
		var l Link
		if w := f.call("all", "POST", Base+"/links", `{"room":"[acme]My Room"}`); json.Unmarshal(w.Body.Bytes(), &l) != nil || w.Code != 201 {
			t.Fatal(w.Code, w.Body)
		}
		b := deploytest.Browse(t, l.URL, deploytest.BrowserOptions{Scheme: scheme, Width: 400, Height: 700})
		b.See("h1", pageEnter.Title)
		if tree := fmt.Sprint(b.Do("aria", "css", "body")); !strings.Contains(tree, "main:") || !strings.Contains(tree, `heading "`+pageEnter.Title+`" [level=1]`) || !strings.Contains(tree, `button "`+pageEnter.Button+`"`) {
			t.Errorf("a screen reader finds %s", tree)
		}
		if wide := b.Run("document.documentElement.scrollWidth"); wide.(float64) > 400 {
			t.Errorf("the page is %v pixels wide", wide)
		}
		b.Shot("link-" + scheme)
		b.Press("Tab", "Enter")
		b.See("#path", "/acme/my%20room")
		if got := b.See("#jwt", ""); !strings.HasPrefix(got, "eyJ") {
			t.Errorf("the room reads the token %s", got)
		}
		if from := b.See("#from", ""); strings.TrimSpace(from) != "from" {
			t.Errorf("the room is told where the person comes from: %s", from)
		}
		b.Do("open", "url", l.URL)
		b.Click("button")
		b.See("h1", pageGone.Title)
		b.Shot("link-gone-" + scheme)
		for _, complaint := range b.Complaints() {
			if !strings.Contains(complaint, "favicon") && !strings.Contains(complaint, "410") {
				t.Error(complaint)
			}
		}
	}
}
