package page

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// shown renders a page, and returns the answer.
func shown(t testing.TB, language string, write func(*Pages, http.ResponseWriter, *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	write(New(Options{Origins: []string{"https://meet.example.com"}}), w, r)
	return w
}

// views are the pages in every state, by name.
func views() map[string]func(*Pages, http.ResponseWriter, *http.Request) {
	all := map[string]func(*Pages, http.ResponseWriter, *http.Request){}
	login := func(name string, v Login) {
		all["login "+name] = func(p *Pages, w http.ResponseWriter, r *http.Request) { p.Login(w, r, 200, v) }
	}
	providers := []Choice{{"Example University", "/login/with/uni"}, {"Keycloak", "/login/with/keycloak"}}
	login("plain", Login{Password: true})
	login("room", Login{Password: true, Room: "acme / standup", Name: "kim", Fields: map[string]string{"room": "standup", "state": `{"room":"standup"}`}, Providers: providers})
	login("wrong", Login{Password: true, Name: "kim", Wrong: true})
	login("too many", Login{Password: true, Name: "kim", TooMany: 90 * time.Second})
	login("providers", Login{Providers: providers})
	login("nothing", Login{})
	rooms := func(name string, v Rooms) {
		all["rooms "+name] = func(p *Pages, w http.ResponseWriter, r *http.Request) { p.Rooms(w, r, 200, v) }
	}
	rooms("list", Rooms{Person: "Kim Example", Rooms: someRooms()})
	rooms("any", Rooms{Person: "Kim Example", Rooms: someRooms()[:2], Any: true, Random: "calm-river-42"})
	rooms("patterns", Rooms{Person: "Kim Example", Rooms: someRooms()[:1], Any: true, Patterns: []string{"class-*", "lab-?"}, Random: "class-calm-river"})
	rooms("patterns refused", Rooms{Person: "Kim Example", Any: true, Patterns: []string{"class-*", "<lab>-" + strings.Repeat("x", 200) + "?"}, Random: "class-calm-river", Text: NotYours})
	rooms("none", Rooms{Person: "Kim Example"})
	rooms("none open", Rooms{Person: "Kim Example", Any: true, Random: "calm-river-42"})
	for _, ready := range []bool{false, true} {
		v := Wait{Room: "standup", Events: "/wait/standup/events", Host: "/login?room=standup", Enter: "/meet/standup", Ready: ready}
		all[fmt.Sprint("wait ", ready)] = func(p *Pages, w http.ResponseWriter, r *http.Request) { p.Wait(w, r, 200, v) }
	}
	for _, text := range texts {
		all["notice "+string(text)] = func(p *Pages, w http.ResponseWriter, r *http.Request) {
			p.Notice(w, r, 200, Notice{Text: text, Again: "/"})
		}
		login(string(text), Login{Password: true, Text: text})
		rooms(string(text), Rooms{Person: "Kim Example", Text: text})
	}
	return all
}

func someRooms() []Room {
	meet := "https://meet.example.com/"
	return []Room{
		{Name: "standup", Value: "standup", Open: true, HostInside: true, Since: time.Now().Add(-12 * time.Minute), Guest: meet + "standup", Steer: true},
		{Name: "retro", Value: "retro", Waiting: 3, Guest: meet + "retro", Steer: true},
		{Name: "planning", Tenant: "acme", Value: "[acme]planning", Open: true, Locked: true, Waiting: 1, Since: time.Now().Add(-3 * time.Hour), Guest: meet + "acme/planning", Steer: true},
		{Name: "interview", Value: "interview", Guest: meet + "interview"},
	}
}

// keys returns the catalog of a file of languages.
func keys(t *testing.T, file string) map[string]any {
	t.Helper()
	content, err := languageFiles.ReadFile("languages/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(content, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if n := len(regexp.MustCompile(`(?m)^\t"`).FindAllIndex(content, -1)); n != len(all) {
		t.Errorf("%s: %d lines with a key, %d keys", file, n, len(all))
	}
	return all
}

// Every language has every key, with the same places in the texts, and no key is unused.
func TestLanguages(t *testing.T) {
	used := map[string]bool{}
	for _, text := range []string{pageHTML, sourceOf(t)} {
		for _, m := range regexp.MustCompile(`(?:Say |Say\(|title := |title = |Title: )"([a-z.-]+)"`).FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
		}
	}
	for _, text := range texts {
		used[string(text)], used[string(text)+".title"], used[string(text)+".again"] = true, true, true
	}
	files, err := fs.Glob(languageFiles, "languages/*")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	english := keys(t, "en.json")
	for key := range english {
		if !used[key] {
			t.Errorf("nothing says %s", key)
		}
	}
	places := regexp.MustCompile(`%.`)
	for _, file := range files {
		words := keys(t, strings.TrimPrefix(file, "languages/"))
		for key := range used {
			if words[key] == nil {
				t.Errorf("%s: %s is missing", file, key)
			}
		}
		for key, word := range words {
			if english[key] == nil {
				t.Errorf("%s: %s is unknown", file, key)
				continue
			}
			if _, forms := word.(map[string]any); forms != (fmt.Sprintf("%T", english[key]) == "map[string]interface {}") {
				t.Errorf("%s: %s has plural forms here or in English only", file, key)
			}
			if got, want := places.FindAllString(fmt.Sprint(oneOf(word)), -1), places.FindAllString(fmt.Sprint(oneOf(english[key])), -1); !slices.Equal(got, want) {
				t.Errorf("%s: %s has the places %v, in English %v", file, key, got, want)
			}
		}
	}
}

// oneOf returns a text, or of one with plural forms the form "other".
func oneOf(word any) any {
	if forms, ok := word.(map[string]any); ok {
		return forms["other"]
	}
	return word
}

// Each page fits in 30 kB with style and script, is well formed, has one heading of the first level, labels, and no script within.
func TestPages(t *testing.T) {
	for name, write := range views() {
		for _, language := range []string{"en", "de"} {
			w := shown(t, language, write)
			body := w.Body.String()
			if n := len(body) + len(pageCSS) + len(pageJS); n > 30_000 {
				t.Errorf("%s, %s: %d bytes", name, language, n)
			}
			if !strings.Contains(body, `<html lang="`+language+`" dir="ltr">`) || w.Header().Get("Content-Language") != language {
				t.Errorf("%s: not in %s", name, language)
			}
			if strings.Contains(body, "%!") || strings.Contains(body, "ZgotmplZ") {
				t.Errorf("%s, %s: %s", name, language, body)
			}
			examine(t, name, body)
		}
	}
}

// examine parses a page strictly enough for tags that are not closed, and reports what people with a screen reader would miss.
func examine(t *testing.T, name, body string) {
	t.Helper()
	var open []string
	labels, ids, headings := map[string]bool{}, map[string]bool{}, 0
	var fields []string
	for z := html.NewTokenizer(strings.NewReader(body)); ; {
		kind := z.Next()
		token := z.Token()
		attr := map[string]string{}
		for _, a := range token.Attr {
			attr[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
				t.Errorf("%s: <%s %s>", name, token.Data, a.Key)
			}
		}
		switch kind {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("%s: not closed: %v", name, open)
			}
			if headings != 1 && !strings.HasPrefix(name, "wait") { // which has one for each state, and hides one of them
				t.Errorf("%s: %d headings of the first level", name, headings)
			}
			for _, id := range fields {
				if !labels[id] {
					t.Errorf("%s: the field %q has no label", name, id)
				}
			}
			return
		case html.StartTagToken:
			if id, ok := attr["id"]; ok {
				if ids[id] {
					t.Errorf("%s: two elements #%s", name, id)
				}
				ids[id] = true
			}
			switch token.Data {
			case "label":
				labels[attr["for"]] = true
			case "h1":
				headings++
			case "script":
				if attr["src"] == "" {
					t.Errorf("%s: a script within the page", name)
				}
			case "input":
				if attr["type"] != "hidden" {
					fields = append(fields, attr["id"])
				}
			}
			if !slices.Contains([]string{"meta", "link", "input"}, token.Data) {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("%s: </%s> after %v", name, token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// Every header that keeps a page from being misused.
func TestHeaders(t *testing.T) {
	w := shown(t, "", func(p *Pages, w http.ResponseWriter, r *http.Request) {
		p.Notice(w, r, http.StatusServiceUnavailable, Notice{Text: Later})
	})
	if w.Code != http.StatusServiceUnavailable {
		t.Error(w.Code)
	}
	want := map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "same-origin", "Content-Language": "en", "Vary": "Accept-Language", "Cross-Origin-Opener-Policy": "",
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " +
			"frame-ancestors 'none'; form-action 'self' https://meet.example.com org.jitsi.meet: jitsi-meet: intent:; " +
			"require-trusted-types-for 'script'; trusted-types 'none'",
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := w.Header().Get(name); got != want[name] {
			t.Errorf("%s: %q, want %q", name, got, want[name])
		}
	}
}

// A page that says "later" asks again by itself: another usher may have taken over by then. It never sends a form again.
func TestLaterAsksAgain(t *testing.T) {
	for _, c := range []struct {
		method string
		text   Text
		again  bool
	}{{"GET", Later, true}, {"POST", Later, false}, {"GET", NoRoom, false}} {
		w := httptest.NewRecorder()
		New(Options{}).Notice(w, httptest.NewRequest(c.method, "/rooms/end", nil), http.StatusServiceUnavailable, Notice{Text: c.text})
		if again := strings.Contains(w.Body.String(), `http-equiv="refresh"`); again != c.again {
			t.Errorf("%s %s: asks again: %v", c.method, c.text, again)
		}
	}
}

// Style and script may be kept for a year by the address with their hash, and not at all by another one.
func TestAssets(t *testing.T) {
	p := New(Options{})
	for address, want := range map[string]struct {
		status      int
		kind, cache string
	}{
		style.address:         {200, "text/css; charset=utf-8", "public, max-age=31536000, immutable"},
		script.address:        {200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		"/style.css":          {200, "text/css; charset=utf-8", "no-cache"},
		"/portal.js?an-older": {200, "text/javascript; charset=utf-8", "no-cache"},
		"/else.css":           {404, "text/plain; charset=utf-8", ""},
	} {
		w := httptest.NewRecorder()
		p.Asset(w, httptest.NewRequest("GET", address, nil))
		if h := w.Header(); w.Code != want.status || h.Get("Content-Type") != want.kind || h.Get("Cache-Control") != want.cache || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", address, w.Code, h)
		}
	}
}

// A link leads to a page or into one of Jitsi's apps; nothing that runs gets into a page.
func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"https://meet.example.com/a?jwt=x#config.y=1&z":                "https://meet.example.com/a?jwt=x#config.y=1&amp;z",
		"/login?room=a%20b":                                            "/login?room=a%20b",
		"org.jitsi.meet://meet.example.com/a":                          "org.jitsi.meet://meet.example.com/a",
		"jitsi-meet://meet.example.com/a":                              "jitsi-meet://meet.example.com/a",
		"intent://meet.example.com/a#Intent;scheme=org.jitsi.meet;end": "intent://meet.example.com/a#Intent;scheme=org.jitsi.meet;end",
		"javascript:alert(1)":                                          "/",
		" javascript:alert(1)":                                         "/",
		"java\tscript:alert(1)":                                        "/",
		"data:text/html,x":                                             "/",
		"vbscript:x":                                                   "/",
		`https://meet.example.com/"><script>`:                          "https://meet.example.com/%22%3e%3cscript%3e",
	} {
		w := shown(t, "", func(p *Pages, w http.ResponseWriter, r *http.Request) {
			p.Notice(w, r, 200, Notice{Text: NotYours, Again: address})
		})
		if m := regexp.MustCompile(`class="button primary" href="([^"]*)"`).FindStringSubmatch(w.Body.String()); m == nil || m[1] != want {
			t.Errorf("%q: %q, want %q", address, m, want)
		}
		w = shown(t, "", func(p *Pages, w http.ResponseWriter, r *http.Request) {
			p.Wait(w, r, 200, Wait{Enter: address, Ready: true})
		})
		if want != "/" {
			want = address
		}
		if m := regexp.MustCompile(`content="2;url=([^"]*)"`).FindStringSubmatch(w.Body.String()); m == nil || html.UnescapeString(m[1]) != want {
			t.Errorf("%q without a script: %q, want %q", address, m, want)
		}
	}
}

// The reader's language is chosen as RFC 4647 says, and English for those with none of ours.
func TestLanguageOf(t *testing.T) {
	for accept, want := range map[string]string{
		"": "en", "de": "de", "de-AT,de;q=0.9,en;q=0.5": "de", "fr, de;q=0.5": "de", "ja": "en", "en-GB,de;q=0.9": "en", "\xff\xfe": "en",
		strings.Repeat("de,", 2000): "en",
	} {
		if got := shown(t, accept, views()["login plain"]).Header().Get("Content-Language"); got != want {
			t.Errorf("%.40q: %s, want %s", accept, got, want)
		}
	}
}

// Numbers take the form of the language.
func TestPlurals(t *testing.T) {
	for language, want := range map[string][]string{
		"en": {"1 person waits", "3 people wait", "4 people wait for a host.", "for 12 minutes", "for 3 hours"},
		"de": {"1 Person wartet", "3 Personen warten", "4 Personen warten auf einen Gastgeber.", "seit 12 Minuten", "seit 3 Stunden"},
	} {
		body := shown(t, language, views()["rooms list"]).Body.String()
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s: no %q in\n%s", language, text, body)
			}
		}
	}
}

// People wait for a span to be over, so it is never too short; what has lasted is never too long.
func TestSpans(t *testing.T) {
	s := loadLanguages().of(httptest.NewRequest("GET", "/", nil))
	for d, want := range map[time.Duration]string{
		0: "1 second", time.Millisecond: "1 second", 1001 * time.Millisecond: "2 seconds", 119 * time.Second: "119 seconds", 2 * time.Minute: "2 minutes",
		121 * time.Second: "3 minutes", 2 * time.Hour: "2 hours", 121 * time.Minute: "3 hours",
	} {
		if got := s.Span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Minute: "since a moment ago", time.Minute: "since a moment ago", 179 * time.Second: "for 2 minutes", 119 * time.Minute: "for 119 minutes",
		121 * time.Minute: "for 2 hours", 179 * time.Minute: "for 2 hours", 100 * time.Hour: "for 100 hours",
	} {
		if got := s.Ago(time.Now().Add(-d)); got != want {
			t.Errorf("%v ago: %s, want %s", d, got, want)
		}
	}
}

// sourceOf returns the source of the package, without its tests.
func sourceOf(t *testing.T) (all string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if content, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		} else if !strings.HasSuffix(file, "_test.go") {
			all += string(content)
		}
	}
	return all
}
