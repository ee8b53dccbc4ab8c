package portal

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/page"
)

// trip reads where the person wants to go, from a query or a form. jitsi-meet gives the name of the room and a state, or only one of them.
// The state counts: in the other one a % may have been decoded once too often.
func (v *visit) trip(values url.Values) (trip, error) {
	meet := v.meet(values)
	switch state, room := values.Get("state"), values.Get("room"); {
	case state != "":
		t, err := v.reachable(readTrip(meet, state))
		if err == nil {
			v.call.Room = t.room.Claim()
		}
		return t, err
	case room != "":
		return v.roomTrip(meet, "", room)
	}
	return trip{meet: meet}, nil
}

// roomTrip returns a trip into a room of this name.
func (v *visit) roomTrip(meet, tenant, name string) (trip, error) {
	t, err := v.reachable(newTrip(meet, tenant, name))
	if err == nil {
		v.call.Room = t.room.Claim()
	}
	return t, err
}

// reachable returns the trip, or an error if it would end at the portal itself: where that has the host name of jitsi-meet
// (config/deploy/portal.nginx.conf), its pages hide the rooms of their names. Somebody in a hurry to the room logout would be logged out.
func (p *Portal) reachable(t trip, err error) (trip, error) {
	_, host, _ := strings.Cut(t.meet, "://")
	// A proxy compares addresses without their percent-encoding, so an encoded slash parts names, too.
	first, _, _ := strings.Cut(cmp.Or(t.tenant, t.name), "/")
	if err == nil && strings.EqualFold(host, p.host) && p.pagesOwn[first] {
		return trip{}, errTaken
	}
	return t, err
}

// meet returns to which of jitsi-meet's pages the person goes back: the one that they came from. It is one of the configured ones.
func (v *visit) meet(values url.Values) string {
	asked := []string{values.Get("meet")}
	if from, err := url.Parse(v.r.Referer()); err == nil {
		asked = append(asked, from.Scheme+"://"+from.Host)
	}
	for _, one := range asked {
		for _, known := range v.MeetURLs {
			if one == known {
				return known
			}
		}
	}
	return v.MeetURLs[0]
}

// session returns the browser's live session and its person, as they are now. If there is none, the error is errNoSession.
func (v *visit) session(ctx context.Context) (session, account.Person, error) {
	cookie := get(v.r, v.cookies.session)
	if cookie == "" {
		return session{}, account.Person{}, errNoSession
	}
	s, err := v.at.get(ctx, idOf(cookie))
	if err != nil {
		return session{}, account.Person{}, err
	}
	person, ok := v.current(s)
	if !ok {
		if err := v.end(ctx, v.at, s.ID, "the account has changed"); err != nil {
			v.Log.Warn("the session of a changed account could not be ended", zap.Error(err))
		}
		return session{}, account.Person{}, errNoSession
	}
	v.who(person)
	return s, person, nil
}

// member returns the session of the browser. If there is none it sends the browser to the login, and reports false.
func (v *visit) member(ctx context.Context) (session, account.Person, bool) {
	s, person, err := v.session(ctx)
	switch {
	case errors.Is(err, errNoSession):
		v.to("/login")
	case err != nil:
		v.later(err, "its store cannot be asked")
	}
	return s, person, err == nil
}

// front is the first page: the rooms, or the login.
func (p *Portal) front(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	if _, _, ok := v.member(ctx); ok {
		v.to("/rooms")
	}
}

// loginPage is where jitsi-meet leads people who need a token. With a live session it sends them on at once.
func (p *Portal) loginPage(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	t, err := v.trip(v.r.URL.Query())
	if err != nil {
		v.badTrip(err)
		return
	}
	s, person, err := v.session(ctx)
	switch {
	case errors.Is(err, errNoSession):
		v.loginForm(http.StatusOK, t, page.Login{})
	case err != nil:
		v.later(err, "its store cannot be asked")
	case t.room.Name == "":
		v.to("/rooms")
	default:
		v.handOver(ctx, s, person, t)
	}
}

// badTrip answers that an address does not say where to go.
func (v *visit) badTrip(err error) { v.notice(http.StatusBadRequest, badText(err), "/") }

// badText returns the words for a trip that cannot be made.
func badText(err error) page.Text {
	switch {
	case errors.Is(err, errState):
		return page.BadLink
	case errors.Is(err, errTaken):
		return page.Taken
	}
	return page.BadRoom
}

// loginForm shows the page for logging in; l has what is to be said.
func (v *visit) loginForm(status int, t trip, l page.Login) {
	l.Password = v.Accounts != nil && v.Accounts.Open()
	l.Fields = make(map[string]string)
	fields := t.fields()
	for name := range fields {
		l.Fields[name] = fields.Get(name)
	}
	if l.Room = t.name; t.tenant != "" {
		l.Room = t.tenant + "/" + t.name
	}
	asked := fields.Encode()
	if v.r.URL.Query().Has(otherwise) {
		asked += "&" + otherwise
	}
	for _, c := range v.choices() {
		l.Providers = append(l.Providers, page.Choice{Title: c.Title, Address: "/login/with/" + url.PathEscape(c.Name) + "?" + asked})
	}
	v.pages.Login(v.w, v.r, status, l)
}

// handOver sends a person into their room, with a token; or to their rooms, if this is none of them.
func (v *visit) handOver(ctx context.Context, s session, person account.Person, t trip) {
	may, err := v.allowed(ctx, person, t.room)
	switch {
	case err != nil:
		v.unavailable(err)
	case !may:
		v.deed = true
		v.showRooms(ctx, http.StatusForbidden, s, person, page.NotYours)
	default:
		v.hand(ctx, s, person, t)
	}
}

// hand sends a person into a room that they may open.
func (v *visit) hand(ctx context.Context, s session, person account.Person, t trip) {
	v.deed = true
	token, _, _, err := v.mint(ctx, v.at, s, person, t.room, v.TokenTTL)
	switch {
	case errors.Is(err, errNoSession): // it has ended this very moment
		v.loginForm(http.StatusOK, t, page.Login{Text: page.LoginOver})
	case err != nil:
		v.later(err, "no token could be minted")
	default:
		// The token is in this address: jitsi-meet takes it out, and what it loads must not be told.
		v.w.Header().Set("Referrer-Policy", "no-referrer")
		v.to(t.address(token))
	}
}

// unavailable answers that the service cannot be asked that knows the accounts.
func (v *visit) unavailable(err error) {
	v.w.Header().Set("Retry-After", laterSeconds)
	text := page.Unavailable
	if errors.Is(err, account.ErrBusy) {
		text = page.Later
	}
	v.notice(http.StatusServiceUnavailable, text, "")
}

// form returns the fields of a form.
func (v *visit) form() (url.Values, bool) {
	err := v.r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		v.notice(http.StatusRequestEntityTooLarge, page.BadLink, "/")
	case err != nil:
		v.notice(http.StatusBadRequest, page.BadLink, "/")
	}
	return v.r.PostForm, err == nil
}

// login takes the password form.
func (p *Portal) login(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	v.deed = true
	form, ok := v.form()
	if !ok {
		return
	}
	t, err := v.trip(form)
	if err != nil {
		v.badTrip(err)
		return
	}
	if p.Accounts == nil {
		v.loginForm(http.StatusNotFound, t, page.Login{})
		return
	}
	person, err := p.Accounts.Login(ctx, account.Attempt{
		Name: form.Get("name"), Password: form.Get("password"), From: v.remote, Device: get(v.r, p.cookies.device),
	})
	if err != nil {
		v.notLoggedIn(err, t, form.Get("name"))
		return
	}
	if device := p.Accounts.Device(person); device != "" {
		p.cookies.set(v.w, p.cookies.device, device, deviceLasts)
	}
	v.loggedIn(ctx, session{Person: person}, t)
}

// notLoggedIn answers to a login that did not go well. The page says the same of unknown names and wrong passwords.
func (v *visit) notLoggedIn(err error, t trip, name string) {
	l := page.Login{Name: name}
	var many *account.TooManyError
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, account.ErrRefused):
		l.Wrong, status = true, http.StatusUnauthorized
	case errors.As(err, &many):
		l.TooMany, status = many.After, http.StatusTooManyRequests
		v.w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(many.After.Seconds())))))
	case errors.Is(err, account.ErrUnavailable):
		l.Text = page.Unavailable
		v.w.Header().Set("Retry-After", laterSeconds)
	default: // account.ErrBusy, or the time is up
		l.Text = page.Later
		v.w.Header().Set("Retry-After", laterSeconds)
	}
	v.loginForm(status, t, l)
}

// loggedIn begins a session, with a cookie that nobody had before, and sends the person on. Somebody who logs in again, in another tab, goes
// on with the session that they have: if it ended, the first tab would be put out of its room.
func (v *visit) loggedIn(ctx context.Context, s session, t trip) {
	if again, ok := v.again(ctx, s); ok {
		v.who(s.Person)
		v.arrive(ctx, again, t)
		return
	}
	cookie := random()
	s.ID, s.Begun, s.Ends = idOf(cookie), v.Now(), v.Now().Add(v.Session)
	v.who(s.Person)
	if err := v.begin(ctx, v.at, s); err != nil {
		v.later(err, "a session could not be kept")
		return
	}
	switch over, err := v.loggedOutMeanwhile(ctx, v.at, s); {
	case err != nil:
		v.later(err, "its store cannot be asked")
		return
	case over:
		_ = v.end(ctx, v.at, s.ID, "logged out at the provider") // it has no token yet, and nobody its cookie
		v.notice(http.StatusForbidden, page.LoginOver, "/login")
		return
	}
	// The browser forgets the cookie of the session before. Nobody could end that one any more.
	if before := get(v.r, v.cookies.session); before != "" {
		if err := v.end(ctx, v.at, idOf(before), "another login in the same browser"); err != nil {
			v.Log.Warn("the former session of a browser could not be ended", zap.Error(err))
		}
	}
	v.cookies.set(v.w, v.cookies.session, cookie, v.Session)
	v.arrive(ctx, s, t)
}

// again returns the browser's session, if it is one of the same login as a new one, and less than half of it has passed.
func (v *visit) again(ctx context.Context, s session) (session, bool) {
	cookie := get(v.r, v.cookies.session)
	if cookie == "" {
		return session{}, false
	}
	has, err := v.at.get(ctx, idOf(cookie))
	same := err == nil && has.Provider == s.Provider && has.Version == s.Version && has.Subject == s.Subject && has.SID == s.SID &&
		reflect.DeepEqual(has.Person, s.Person) && has.Ends.Sub(v.Now()) > v.Session/2
	has.Person = s.Person
	return has, same
}

// arrive sends somebody on who has logged in.
func (v *visit) arrive(ctx context.Context, s session, t trip) {
	if t.room.Name == "" {
		v.to("/rooms")
		return
	}
	if may, err := v.allowed(ctx, s.Person, t.room); err != nil || !may {
		v.to("/login?" + t.fields().Encode()) // where a page says so that can be loaded again
		return
	}
	v.hand(ctx, s, s.Person, t)
}

// logout ends the session, and sends the browser to its provider, which ends its own (RP-Initiated Logout 1.0). It is Jitsi's
// tokenLogoutUrl, so a GET does it, too: browsers send the cookie only if the whole page goes there, never for an image or a frame. Any site
// can do that with a page, so it asks first if somebody comes from one that is none of ours.
func (p *Portal) logout(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	s, _, err := v.session(ctx)
	if err == nil && v.ledHere() {
		v.notice(http.StatusOK, page.LogOut, "/logout")
		return
	}
	if cookie := get(v.r, p.cookies.session); cookie != "" && (err == nil || errors.Is(err, errNoSession)) {
		v.deed = true
		err = p.end(ctx, v.at, idOf(cookie), "logged out") // also one that is over, with tokens that are still to be revoked
	}
	if err != nil && !errors.Is(err, errNoSession) {
		v.later(err, "a session could not be ended")
		return
	}
	p.cookies.set(v.w, p.cookies.session, "", 0)
	if all := p.providers(); all != nil && s.Provider != "" {
		if address, ok := all.LogoutURL(ctx, s.Provider, s.IDToken, p.PublicURL+"/logout"); ok {
			v.to(address)
			return
		}
	}
	v.notice(http.StatusOK, page.LoggedOut, "/login")
}

// ledHere reports whether another site has led the browser here: neither the portal, nor one of jitsi-meet's pages, nor the person.
func (v *visit) ledHere() bool {
	if v.r.Header.Get("Sec-Fetch-Site") != "cross-site" {
		return false
	}
	from, err := url.Parse(v.r.Referer())
	return err != nil || !slices.Contains(v.MeetURLs, from.Scheme+"://"+from.Host)
}
