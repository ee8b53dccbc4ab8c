package page_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/page"
)

// get asks the page's server.
func (s *stage) get(path string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(body)
}

// ask decodes what an address answers.
func ask[T any](s *stage, path string, parameters ...string) (v T) {
	s.t.Helper()
	q := url.Values{}
	for n := 0; n < len(parameters); n += 2 {
		q.Set(parameters[n], parameters[n+1])
	}
	answer, body := s.get("/page/" + path + "?" + q.Encode())
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %v: %d %s", path, q, answer.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		s.t.Fatalf("%s: %v", body, err)
	}
	return v
}

// The page brings everything along, and its policy allows nothing else.
func TestPolicy(t *testing.T) {
	s := newStage(t)
	answer, html := s.get("/")
	policy := answer.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	for _, part := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+part+`>(.*?)</`+part+`>`).FindAllStringSubmatch(html, -1)
		if len(found) != 1 || len(found[0][1]) < 1000 {
			t.Fatalf("%d parts %s", len(found), part)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := part + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	for name, never := range map[string]string{
		"a handler in an attribute": `(?i)<[^>]*\son[a-z]+\s*=`, "a style in an attribute": `(?i)<[a-z][^>]*\sstyle\s*=`,
		"something from elsewhere": `(?i)(src|href)\s*=\s*"?(https?:)?//|@import|url\(`,
		"HTML from text":           `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment`,
	} {
		if found := regexp.MustCompile(never).FindString(html); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The page only reads, and answers only its own page and programs that are no browser.
func TestReadOnly(t *testing.T) {
	s := newStage(t)
	for _, path := range []string{"/", "/page/rooms", "/page/room", "/page/decisions", "/page/explanation", "/page/events"} {
		answer, err := http.Post(s.url+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, answer.StatusCode)
		}
		for _, site := range []string{"cross-site", "same-site"} {
			want := http.StatusForbidden
			if path == "/" { // a link may lead to the page
				want = http.StatusOK
			}
			if answer, _ := s.get(path, "Sec-Fetch-Site", site); answer.StatusCode != want {
				t.Errorf("GET %s from %s: %d, want %d", path, site, answer.StatusCode, want)
			}
		}
	}
	if answer, _ := s.get("/elsewhere"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("GET /elsewhere: %d", answer.StatusCode)
	}
}

type roomsAnswer struct {
	Version               uint64
	Total, Matching, From int
	Rooms                 []struct {
		Room, Name, Tenant              string
		Open, HostInside, Locked        bool
		Hosts, Members, Guests, Waiting int
	}
}

func (a roomsAnswer) names() string {
	var names []string
	for _, r := range a.Rooms {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

func TestRooms(t *testing.T) {
	s := newStage(t)
	for n := range 250 {
		s.room(fmt.Sprintf("room-%03d", n), 1, 0, 0)
	}
	s.room("zoo", 0, 0, 1)
	s.room("[acme] exercise", 1, 0, 0)
	for name, c := range map[string]struct {
		parameters            []string
		matching, from, shown int
		first                 string
	}{
		"all":          {nil, 252, 0, 100, "zoo"},
		"second page":  {[]string{"from", "100", "n", "50"}, 252, 100, 50, "room-098"}, // after zoo and [acme]exercise
		"last page":    {[]string{"from", "250", "n", "50"}, 252, 250, 2, "room-248"},
		"past the end": {[]string{"from", "900"}, 252, 252, 0, ""},
		"too many":     {[]string{"n", "9999"}, 252, 0, 100, "zoo"},
		"no number":    {[]string{"n", "x", "from", "-3"}, 252, 0, 100, "zoo"},
		"by name":      {[]string{"q", " ROOM-12 "}, 10, 0, 10, "room-120"},
		"by tenant":    {[]string{"q", "acme"}, 1, 0, 1, "exercise"},
		"in capitals":  {[]string{"q", "EXERCISE"}, 1, 0, 1, "exercise"},
		"none":         {[]string{"q", "<script>"}, 0, 0, 0, ""},
	} {
		a := ask[roomsAnswer](s, "rooms", c.parameters...)
		if a.Total != 252 || a.Matching != c.matching || a.From != c.from || len(a.Rooms) != c.shown {
			t.Errorf("%s: %d of %d from %d, %d shown", name, a.Matching, a.Total, a.From, len(a.Rooms))
		}
		if c.first != "" && !strings.EqualFold(a.Rooms[0].Name, c.first) {
			t.Errorf("%s: begins with %s", name, a.names())
		}
	}
}

// However many look, the component is asked for its rooms no more often than a stream says something.
func TestRoomsAreShared(t *testing.T) {
	s := newStage(t)
	s.room("standup", 1, 0, 0)
	began := time.Now()
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 50 {
				s.decide("standup", "kim@meet.example.com", auth.ReasonHost) // something has happened, so that the list may be old
				s.get("/page/rooms")
			}
		}()
	}
	for range 8 {
		<-done
	}
	if most := int(time.Since(began)/page.Tick) + 1; s.asked() > most {
		t.Errorf("400 answers asked the component %d times, want at most %d", s.asked(), most)
	}
}

func TestRoom(t *testing.T) {
	s := newStage(t)
	type answer struct {
		Room, Rule string
		Occupants  []struct {
			Who, As, User string
			Inside        bool
		}
		Waits []struct{ Who, Reason, Since string }
		More  int
	}
	address := s.room("standup", 1, 2, 3)
	a := ask[answer](s, "room", "address", address)
	if a.Room != address || a.Rule == "" || len(a.Occupants) != 3 || len(a.Waits) != 3 || a.More != 0 {
		t.Errorf("%+v", a)
	}
	if a.Waits[0].Reason != "host-absent" || a.Waits[0].Since == "" || a.Occupants[0].As != "host" || a.Occupants[0].User == "" || a.Occupants[1].Inside {
		t.Errorf("%+v", a)
	}
	if a := ask[answer](s, "room", "address", s.room("hall", 1, page.MaxPeople+49, 0)); len(a.Occupants) != page.MaxPeople || a.More != 50 {
		t.Errorf("a full room: %d people, %d more", len(a.Occupants), a.More)
	}
	if got, body := s.get("/page/room?address=nowhere"); got.StatusCode != http.StatusNotFound {
		t.Errorf("a room that is not there: %d %s", got.StatusCode, body)
	}
	s.change(func() { s.failure = errors.New("dial tcp 10.1.2.3: secret detail") })
	if got, body := s.get("/page/room?address=" + address); got.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "secret") {
		t.Errorf("a failure: %d %s", got.StatusCode, body)
	}
	s.change(func() { s.standby = true })
	if got, body := s.get("/page/room?address=" + address); got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "stands by") {
		t.Errorf("on standby: %d %s", got.StatusCode, body)
	}
	if a := ask[roomsAnswer](s, "rooms"); a.Total != 0 {
		t.Errorf("on standby, %d rooms", a.Total)
	}
}

type entry struct{ ID, What, Room, Who, Verdict, Reason, Affiliation string }

type decisionsAnswer struct {
	Entries []entry
	Newest  string
}

func TestDecisions(t *testing.T) {
	s := newStage(t)
	if a := ask[decisionsAnswer](s, "decisions"); a.Entries == nil || len(a.Entries) != 0 {
		t.Errorf("at first: %+v", a)
	}
	s.decide("standup", "ana@guest.meet.example.com", auth.ReasonHostAbsent)
	s.history.Add(component.Report{What: component.HostArrived, At: time.Now(), Room: jid.MustParse("standup@conference.meet.example.com"), Name: "standup"})
	s.history.Add(component.Report{What: component.Joined, At: time.Now(), Room: jid.MustParse("standup@conference.meet.example.com"), Name: "standup"})
	s.decide("standup", "ana@guest.meet.example.com", auth.ReasonGuest)
	s.decide("retro", "lee@meet.example.com", auth.ReasonTokenExpired)
	for name, c := range map[string]struct{ show, q, want string }{
		"everything":  {"", "", "token-expired guest host-arrived host-absent"},
		"decisions":   {"decisions", "", "token-expired guest host-absent"},
		"let in":      {"allow", "", "guest"},
		"waiting":     {"wait", "", "host-absent"},
		"refused":     {"deny", "", "token-expired"},
		"events":      {"events", "", "host-arrived"},
		"by person":   {"", "ANA@", "guest host-absent"},
		"by room":     {"", "retro@", "token-expired"},
		"by reason":   {"", "host-a", "host-arrived host-absent"},
		"by resource": {"", "/tab", ""},
	} {
		var got []string
		for _, e := range ask[decisionsAnswer](s, "decisions", "show", c.show, "q", c.q).Entries {
			what := e.Reason
			if what == "" {
				what = e.What
			}
			got = append(got, what)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if a := ask[decisionsAnswer](s, "decisions", "n", "1"); len(a.Entries) != 1 || a.Newest != a.Entries[0].ID {
		t.Errorf("the last one: %+v", a)
	}
}

func TestExplanation(t *testing.T) {
	s := newStage(t)
	s.decide("retro", "lee@meet.example.com", auth.ReasonTokenExpired)
	newest := ask[decisionsAnswer](s, "decisions").Newest
	x := ask[struct {
		Verdict, Reason, Doc, Do, VHost, Text string
		Took                                  float64
		Steps                                 []auth.Step
	}](s, "explanation", "of", newest)
	if x.Verdict != "deny" || x.Doc == "" || x.Do == "" || x.VHost != "meet.example.com" || x.Took != 3.2 || len(x.Steps) != 3 || x.Steps[2].OK {
		t.Errorf("%+v", x)
	}
	for _, name := range []string{"", "1", "x-1", strings.Replace(newest, "-1", "-2", 1)} {
		if answer, body := s.get("/page/explanation?of=" + url.QueryEscape(name)); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %d %s", name, answer.StatusCode, body)
		}
	}
	s.history.Add(component.Report{What: component.RoomEnded, At: time.Now()})
	if x := ask[struct{ Doc, Verdict string }](s, "explanation", "of", ask[decisionsAnswer](s, "decisions").Newest); x.Doc != "" || x.Verdict != "" {
		t.Errorf("an event: %+v", x)
	}
}

// page.js knows each verdict and each kind of report by a word of its own.
func TestWordsOfReports(t *testing.T) {
	s := newStage(t)
	_, html := s.get("/")
	for _, what := range []component.What{
		component.HostArrived, component.HostLeft, component.RoomOpened, component.RoomEnded, component.Expired, component.RevokedOut,
	} {
		if !regexp.MustCompile(`['\s]` + string(what) + `'?: \['`).MatchString(html) {
			t.Errorf("the page has no word for %s", what)
		}
	}
	for _, v := range []auth.Verdict{auth.Allow, auth.Wait, auth.Deny} {
		if !slices.Contains(strings.FieldsFunc(html, func(r rune) bool { return r == ' ' || r == ':' || r == '\t' }), v.String()) {
			t.Errorf("the page has no word for %s", v)
		}
	}
}

func BenchmarkState(b *testing.B) {
	// What one tick of all streams costs with 5,000 rooms.
	s := &stage{rooms: map[string]component.RoomView{}}
	for n := range 5000 {
		s.rooms[fmt.Sprint(n)] = component.RoomView{RoomSummary: component.RoomSummary{
			Room: jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", n)), Open: true, Hosts: 1}}
	}
	list := s.Rooms()
	b.ReportAllocs()
	for b.Loop() {
		page.Hash(list)
	}
}
