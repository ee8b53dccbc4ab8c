package portal

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/page"
	"github.com/xmpp-usher/usher/auth/store"
)

// flow is a login under way at a provider: what the store keeps of it, under the hash of its state. It is used once, and only by the
// browser that began it (RFC 9700 §4.7).
type flow struct {
	Flow    oidc.Flow
	Browser string // the hash of the browser's cookie
	// State and Meet say where the person wants to go. JSON in JSON would be too long for a record.
	State []byte
	Meet  string
}

// with begins a login at a provider.
func (p *Portal) with(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	t, err := v.trip(v.r.URL.Query())
	if err != nil {
		v.badTrip(err)
		return
	}
	all := p.providers()
	switch {
	case all == nil:
		v.notice(http.StatusNotFound, page.BadLink, "/login")
		return
	case !p.limits.flow(v.remote):
		v.w.Header().Set("Retry-After", "60")
		v.loginForm(http.StatusTooManyRequests, t, page.Login{Text: page.TooMany})
		return
	}
	address, began, err := all.Begin(ctx, v.r.PathValue("provider"))
	if err == nil {
		err = v.keep(ctx, flow{Flow: began, State: []byte(t.state()), Meet: t.meet})
	}
	if err != nil {
		v.notFinished(err, t)
		return
	}
	if p.UntilHostLeft || v.r.URL.Query().Has(otherwise) { // the provider would let the same person in without a word
		address = oidc.Again(address)
	}
	v.to(address)
}

// otherwise is what an address of a login has by which people want to log in as somebody else.
const otherwise = "again"

// keep keeps a flow, and binds it to the browser by a cookie. A browser may have several, one in each tab, all with the same cookie.
func (v *visit) keep(ctx context.Context, f flow) error {
	cookie := get(v.r, v.cookies.flow)
	if len(cookie) != len(random()) {
		cookie = random()
	}
	f.Browser = hashed(cookie)
	value, err := json.Marshal(f)
	if err != nil {
		return err
	}
	record := store.Record{Kind: store.KindFlow, Key: hashed(f.Flow.State), Value: value, End: v.Now().Add(flowLasts)}
	if err := v.at.Put(ctx, record); err != nil {
		return err
	}
	v.cookies.set(v.w, v.cookies.flow, cookie, flowLasts)
	return nil
}

// errNoFlow means that no login is under way with this state, or that another browser began it.
var errNoFlow = errors.New("no such login is under way")

// take takes the flow of a state out of the store. Of several who do that at once, one gets it.
func (v *visit) take(ctx context.Context, state string) (flow, error) {
	r, err := v.at.Get(ctx, store.KindFlow, hashed(state))
	if errors.Is(err, store.ErrNotFound) {
		return flow{}, errNoFlow
	}
	if err != nil {
		return flow{}, err
	}
	var f flow
	if json.Unmarshal(r.Value, &f) != nil || f.Flow.Provider != v.r.PathValue("provider") ||
		subtle.ConstantTimeCompare([]byte(f.Browser), []byte(hashed(get(v.r, v.cookies.flow)))) == 0 {
		return flow{}, errNoFlow
	}
	over := r
	over.End = time.Unix(1, 0) // has passed by any clock, so the record goes
	if mine, err := v.at.Swap(ctx, r, over); err != nil || !mine {
		return flow{}, errors.Join(err, errNoFlow)
	}
	return f, nil
}

// callback is where a provider sends the browser back.
func (p *Portal) callback(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	v.deed = true
	query := v.r.URL.Query()
	f, err := v.take(ctx, query.Get("state"))
	all := p.providers()
	switch {
	case errors.Is(err, errNoFlow), all == nil:
		v.notice(http.StatusBadRequest, page.LoginOver, "/login")
		return
	case err != nil:
		v.later(err, "its store cannot be asked")
		return
	}
	t, err := v.trip(url.Values{"state": {string(f.State)}, "meet": {f.Meet}})
	if err != nil {
		v.badTrip(err)
		return
	}
	in, err := all.Finish(ctx, f.Flow, query)
	v.call.Who = in.Person.ID
	if in.Person.ID != "" {
		err = cmp.Or(p.lessThan(ctx, v.at, f.Flow.Provider, in.Person), err)
	}
	if err != nil {
		v.notFinished(err, t)
		return
	}
	s := session{Person: in.Person, Provider: f.Flow.Provider, Version: all.Version(f.Flow.Provider), Subject: in.Subject, SID: in.SID, IDToken: in.IDToken, Issued: in.Issued}
	v.loggedIn(ctx, s, t)
}

// lessThan ends the sessions of a person of a provider who has lost something since: the provider says so at the next login only.
func (p *Portal) lessThan(ctx context.Context, at sessions, provider string, now account.Person) error {
	return p.endAll(ctx, at, "the person has fewer rights at the provider", func(s session) bool {
		return s.Provider == provider && s.Person.ID == now.ID && lost(s.Person, now)
	}, now.ID)
}

// lost reports whether somebody may do something no more that they could do before.
func lost(before, now account.Person) bool {
	for feature, on := range before.Features {
		if on && !now.Features[feature] {
			return true
		}
	}
	return lower(before.Affiliation, now.Affiliation) != before.Affiliation || now.Affiliation == auth.None ||
		slices.ContainsFunc(before.Rooms, func(room string) bool { return !slices.Contains(now.Rooms, room) }) ||
		slices.ContainsFunc(before.Groups, func(group string) bool { return !slices.Contains(now.Groups, group) })
}

// notFinished answers to a login at a provider that did not go well.
func (v *visit) notFinished(err error, t trip) {
	again := "/login?" + t.fields().Encode()
	switch {
	case errors.Is(err, oidc.ErrNoProvider):
		v.notice(http.StatusNotFound, page.BadLink, "/login")
		return
	case errors.Is(err, oidc.ErrNoRoom):
		v.notice(http.StatusForbidden, page.NoRoom, again+"&"+otherwise)
	case errors.Is(err, oidc.ErrRefused):
		v.notice(http.StatusForbidden, page.Refused, again+"&"+otherwise)
	default: // oidc.ErrUnavailable, or the store
		v.w.Header().Set("Retry-After", laterSeconds)
		v.notice(http.StatusServiceUnavailable, page.Unavailable, again)
	}
	v.log(zap.InfoLevel, "a login at a provider did not go well", err)
}

// backChannel ends sessions that have ended at their provider (OpenID Connect Back-Channel Logout 1.0 §2.7): those of one session there,
// or all of a person. It answers 200 once their tokens are revoked, otherwise 400 (§2.8). The provider may then send its token again.
func (p *Portal) backChannel(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	v.deed = true
	v.w.Header().Set("Content-Type", "application/json")
	all, err := p.providers(), v.r.ParseForm()
	if all == nil {
		err = oidc.ErrNoProvider
	}
	var out oidc.Out
	if err == nil {
		out, err = all.BackChannel(ctx, v.r.PathValue("provider"), v.r.PostForm.Get("logout_token"))
	}
	if err == nil {
		v.call.Who = out.Provider + ":" + out.Subject
		err = p.loggedOutThere(ctx, v.at, out)
	}
	if err != nil {
		v.log(zap.WarnLevel, "a logout at a provider was not followed", err)
		v.w.WriteHeader(http.StatusBadRequest)
		_, _ = v.w.Write([]byte(`{"error":"invalid_request"}` + "\n")) // fails if the provider has gone
	}
}

// errReplayed means that a logout token was used before.
var errReplayed = errors.New("the logout token was used before")

// loggedOutThere ends the sessions that a logout token is about. The token is used up once they have ended: if that fails, the provider may
// send it again.
func (p *Portal) loggedOutThere(ctx context.Context, at sessions, out oidc.Out) error {
	used := store.Record{Kind: store.KindUsed, Key: "logout " + out.Provider + " jti " + hashed(out.JTI), Value: []byte{1}, End: out.Expires}
	switch _, err := at.Get(ctx, used.Kind, used.Key); {
	case err == nil:
		return errReplayed
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	for _, is := range ended(out) { // before sessions are looked for, see loggedOutMeanwhile
		if err := at.Put(ctx, store.Record{Kind: store.KindUsed, Key: is.key(), Value: is.value(), End: p.Now().Add(flowLasts)}); err != nil {
			return err
		}
	}
	if err := p.endAll(ctx, at, "logged out at the provider", covered(out), out.Subject, out.SID); err != nil {
		return err
	}
	return at.Put(ctx, used)
}

// mark is what the store remembers for a while of sessions that have ended at a provider: of one that has a name, of one of a person that has
// none, or of all of a person.
type mark struct {
	provider, of, id string
	at               time.Time // by the provider's clock
}

const ofSession, ofUnnamed, ofPerson = "sid", "unnamed", "sub"

func (m mark) key() string { return "logout " + m.provider + " " + m.of + " " + hashed(m.id) }

func (m mark) value() []byte { return strconv.AppendInt(nil, m.at.Unix(), 10) }

// ended returns what is to be remembered of a logout token.
func ended(out oidc.Out) (all []mark) {
	if out.SID != "" {
		all = append(all, mark{out.Provider, ofSession, out.SID, out.Issued})
	}
	switch {
	case out.Subject == "":
	case out.SID == "":
		all = append(all, mark{out.Provider, ofPerson, out.Subject, out.Issued})
	default:
		all = append(all, mark{out.Provider, ofUnnamed, out.Subject, out.Issued})
	}
	return all
}

// loggedOutMeanwhile reports whether the session at the provider has ended while somebody was on the way from there. The session here must
// be in the store already: so either the logout finds it, or it finds the logout. A person who has logged in since has a younger ID token.
func (p *Portal) loggedOutMeanwhile(ctx context.Context, at sessions, s session) (bool, error) {
	if s.Provider == "" {
		return false, nil
	}
	marks := []mark{{s.Provider, ofPerson, s.Subject, s.Issued}}
	if s.SID != "" {
		marks = append(marks, mark{s.Provider, ofSession, s.SID, s.Issued})
	} else {
		marks = append(marks, mark{s.Provider, ofUnnamed, s.Subject, s.Issued})
	}
	for _, m := range marks {
		r, err := at.Get(ctx, store.KindUsed, m.key())
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return false, err
		}
		if out, err := strconv.ParseInt(string(r.Value), 10, 64); err != nil || m.of == ofSession || m.at.Unix() <= out {
			return true, nil
		}
	}
	return false, nil
}

// covered reports whether a session ended at its provider by a logout token: the one that the token names, or all of the person if it
// names none. A provider that does not name its sessions in ID tokens may do so here: then all of the person end.
func covered(out oidc.Out) func(session) bool {
	return func(s session) bool {
		named := out.SID != "" && s.SID == out.SID && (out.Subject == "" || s.Subject == out.Subject)
		unnamed := out.Subject != "" && s.Subject == out.Subject && (out.SID == "" || s.SID == "")
		return s.Provider == out.Provider && (named || unnamed)
	}
}
