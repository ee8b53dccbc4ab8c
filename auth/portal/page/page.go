// Package page is what hosts and guests see of the portal: the pages for logging in, for rooms and for waiting, and short notices. It
// renders what it is given, and decides nothing.
//
// The pages work without a script, and load nothing from elsewhere. Their parts are page.html, page.css, page.js, and one file a language
// in the folder languages: a further language is a further file. Names of rooms and people are written by strangers, so html/template
// escapes them, and the content security policy allows no script within a page.
package page

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options is what the pages need.
type Options struct {
	// Origins are where forms may lead on to, apart from the portal: those of jitsi-meet's pages. Browsers also ask the policy of a page
	// about the redirect that answers a form (Content Security Policy Level 3, §6.4.2).
	Origins []string
}

// Pages renders the pages. Any number of goroutines use it.
type Pages struct {
	policy    string // Content-Security-Policy
	languages languages
}

// appSchemes are the links that Jitsi's apps open: iOS, the desktop, Android.
var appSchemes = []string{"org.jitsi.meet", "jitsi-meet", "intent"}

// New returns the pages.
func New(o Options) *Pages {
	forms := append([]string{"form-action 'self'"}, o.Origins...)
	for _, scheme := range appSchemes {
		forms = append(forms, scheme+":")
	}
	return &Pages{languages: loadLanguages(), policy: strings.Join([]string{
		"default-src 'none'",
		"style-src 'self'",
		"script-src 'self'",
		"connect-src 'self'", // the wait page's events
		"img-src data:",      // the icon of the tab
		"base-uri 'none'",
		"frame-ancestors 'none'",
		strings.Join(forms, " "),
		"require-trusted-types-for 'script'", // no innerHTML
		"trusted-types 'none'",
	}, "; ")}
}

// Choice is another way to log in.
type Choice struct{ Title, Address string }

// Login is the page for logging in: GET /login. Its form is sent to POST /login with the fields "name", "password", and those of Fields.
type Login struct {
	Room      string            // the room that the person is on the way to; may be empty
	Name      string            // what stands in the field for the name
	Password  bool              // there are accounts with passwords
	Providers []Choice          // in this order
	Fields    map[string]string // further fields of the form, hidden
	Wrong     bool              // name or password was wrong
	TooMany   time.Duration     // too many attempts: how long to wait
	Text      Text              // may be empty
}

// Alarm reports whether a text stands above the form. The reader begins there, else in the first empty field.
func (v Login) Alarm() bool { return v.Wrong || v.TooMany > 0 || v.Text != "" }

// Rooms is the page with the rooms of a host: GET /rooms. Its forms have the field "room", and are sent to POST /rooms (open),
// /rooms/lock, /rooms/unlock and /rooms/end.
type Rooms struct {
	Person   string // how the person is called
	Rooms    []Room
	Any      bool     // the person may open rooms with names of their own
	Patterns []string // what such names are like; none if any will do
	Random   string   // a name that stands in the field for such a name
	Text     Text     // may be empty
}

// Refused reports whether a name was refused because none of the patterns fits it.
func (v Rooms) Refused() bool { return v.Text == NotYours && len(v.Patterns) > 0 }

// Waiting returns how many people wait, in all rooms together.
func (v Rooms) Waiting() (n int) {
	for _, r := range v.Rooms {
		n += r.Waiting
	}
	return n
}

// Sorted returns the rooms in the order of the list: those in which people wait, then those that are open, then the others.
func (v Rooms) Sorted() []Room {
	urgency := func(r Room) int {
		switch {
		case r.Waiting > 0:
			return 0
		case r.Open:
			return 1
		}
		return 2
	}
	return slices.SortedStableFunc(slices.Values(v.Rooms), func(a, b Room) int { return urgency(a) - urgency(b) })
}

// Room is a row of the list of rooms.
type Room struct {
	Name, Tenant string
	Value        string // of the field "room"
	Open         bool   // somebody is inside
	HostInside   bool
	Locked       bool // only hosts get in
	Waiting      int  // people who wait for a host
	Since        time.Time
	Guest        string // the address for guests; may be empty
	Steer        bool   // the person may lock and end the room
}

// Wait is the page on which guests wait for a host: GET /wait/…. Events is the address of a stream of server-sent events: a message with
// the data "ready" says that a host is inside, any other that none is. With "ready" the script goes on to Enter. Without a script, the page
// loads itself again every 15 seconds, and goes on once Ready is set.
type Wait struct {
	Room   string
	Events string
	Host   string // where a host logs in: "I am the host"
	Enter  string // the room's address
	Ready  bool   // a host is inside
}

// MessageReady is the data of the message that says that a host is inside, see [Wait]. MessageWait says that none is.
const (
	MessageReady = "ready"
	MessageWait  = "wait"
)

// Notice is a page with nothing but a text.
type Notice struct {
	Text  Text
	Again string // the address of the link below the text; may be empty
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS []byte
	//go:embed page.js
	pageJS []byte
	//go:embed languages
	languageFiles embed.FS
)

var pages = template.Must(template.New("").Funcs(template.FuncMap{"address": address}).Parse(pageHTML))

// address returns an address for a link. html/template takes web addresses only; those of Jitsi's apps are good, too. All others become
// the start page, so that no javascript: gets into a page.
func address(text string) template.URL {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(append([]string{"", "http", "https"}, appSchemes...), u.Scheme) {
		return "/"
	}
	return template.URL(text)
}

// view is what a template gets.
type view struct {
	speech
	Title         string // a key of the catalog
	Style, Script string // addresses of the assets
	Reload        bool   // the page loads itself again after a while
	V             any
}

// Login writes the page for logging in.
func (p *Pages) Login(w http.ResponseWriter, r *http.Request, status int, v Login) {
	p.write(w, r, status, "login", view{Title: "login.title", V: v})
}

// Rooms writes the page with the rooms of a host.
func (p *Pages) Rooms(w http.ResponseWriter, r *http.Request, status int, v Rooms) {
	p.write(w, r, status, "rooms", view{Title: "rooms.title", V: v})
}

// Wait writes the page on which guests wait.
func (p *Pages) Wait(w http.ResponseWriter, r *http.Request, status int, v Wait) {
	title := "wait.title"
	if v.Ready {
		title = "ready.title"
	}
	p.write(w, r, status, "wait", view{Title: title, V: v})
}

// Notice writes a page with nothing but a text. If that is [Later], the page asks again by itself, unless a form was sent.
func (p *Pages) Notice(w http.ResponseWriter, r *http.Request, status int, v Notice) {
	p.write(w, r, status, "notice", view{Title: string(v.Text) + ".title", Reload: v.Text == Later && r.Method == http.MethodGet, V: v})
}

func (p *Pages) write(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.speech, v.Style, v.Script = p.languages.of(r), style.address, script.address
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, v); err != nil {
		// A template that does not fit its view is a fault of this package; its tests render all of them.
		http.Error(w, "This page could not be made.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.Language)
	h.Set("Vary", "Accept-Language")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Cache-Control", "no-store")
	// With no-referrer, browsers would send "Origin: null" with a form (Fetch, "append a request Origin header"), so that it could not be
	// told from a form of another site.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// There is no Cross-Origin-Opener-Policy: jitsi-meet opens the login in a window of its own and closes it
	// (jitsi-meet react/features/authentication/functions.web.ts), which that would prevent.
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // fails if the browser has gone
}
