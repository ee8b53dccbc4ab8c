// Package portal is where hosts log in: with the password of an account, or at a provider of OpenID Connect. It sends them into their room
// on jitsi-meet with a token, by Jitsi's contract of tokenAuthUrl, and lets guests wait until a host is inside.
//
// A login begins a session. The browser has its cookie: 32 random bytes. The store has its record, under a part of the cookie's hash, so
// all ushers with that store know it, and nobody who reads the store can use it. Tokens are short and never outlive their session. The jti
// of each is the session's id and a random part, and the session knows those that are live: so they end when the session ends by a logout,
// here or at the provider, or because the account was changed.
//
// The portal admits nobody. usher decides by the token, as it does for tokens that others mint.
//
// Nobody is sent anywhere but to the portal itself, to one of Options.MeetURLs, to Jitsi's apps with the host of one of those, or to a
// provider.
package portal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/page"
	"github.com/xmpp-usher/usher/auth/store"
)

// Options are what the portal needs.
type Options struct {
	// PublicURL is where browsers find the portal, MeetURLs are jitsi-meet's pages; the first is where people go who came from none of
	// them. All have a scheme and a host, and nothing behind.
	PublicURL string
	MeetURLs  []string
	// Store returns the store; false while usher stands by.
	Store func() (store.Store, bool)
	// Accounts are those who log in with a password; nil if nobody can. Providers returns the providers of OpenID Connect as they are
	// configured now; nil if there are none.
	Accounts  *account.Directory
	Providers func() *oidc.Providers
	// Mint mints a token.
	Mint func(ctx context.Context, m Mint) (token string, err error)
	// Rooms are asked about rooms, and steer them.
	Rooms Rooms
	// Revoke revokes tokens of the portal, by their jti, and returns when nobody who has one is in a room any more.
	Revoke func(ctx context.Context, jti []string, why string) error
	// Inside returns those of these tokens by which somebody is in a room. Nil: nobody ever is.
	Inside func(ctx context.Context, jti []string) ([]string, error)
	// Called is told of each call that logs somebody in or out, gets a token or does something with a room, or is refused. Strangers cause as
	// many as they like. It must not block.
	Called func(Call)
	// TokenTTL is how long a token lasts, and Session a session; zero for an hour, and for 12 hours. UntilHostLeft ends a session when
	// its tokens' bearer has left all rooms.
	TokenTTL, Session time.Duration
	UntilHostLeft     bool
	// Proxies are believed when they say who a client is.
	Proxies []netip.Prefix
	// JWKS returns the public keys that tokens are signed with, as a JWK Set; nil if there are none.
	JWKS func() []byte
	Now  func() time.Time // nil for time.Now
	Log  *zap.Logger      // nil for none
}

// Mint asks for a token for a person and a room.
type Mint struct {
	Person account.Person // the affiliation is what the token gives
	Room   auth.Room      // without a JID
	ID     string         // jti
	TTL    time.Duration
}

// Rooms are what the portal shows and does about rooms. A room has no JID. It is called from several goroutines at once.
type Rooms interface {
	// State returns the state of a room: the zero value if it is not open.
	State(ctx context.Context, room auth.Room) (RoomState, error)
	// List returns the rooms that are open, or for which people wait: no breakout rooms, and no lobbies.
	List(ctx context.Context) ([]Listed, error)
	// End ends the conference, Lock lets in hosts only, or all again. The error is ErrNotOpen if the room is not open.
	End(ctx context.Context, room auth.Room, reason string) error
	Lock(ctx context.Context, room auth.Room, lock bool) error
}

// RoomState is the state of a room.
type RoomState struct {
	Open, HostInside, Locked bool
	Waiting                  int // people who wait for a host
	Since                    time.Time
}

// Listed is a room with its state.
type Listed struct {
	Room auth.Room // without a JID
	RoomState
}

// ErrNotOpen means that a room is not open.
var ErrNotOpen = errors.New("the room is not open")

// Call is a call of the portal, for the audit log. It has no secrets.
type Call struct {
	At     time.Time
	Who    string // the id of the person; empty if nobody has logged in
	Method string
	Path   string // the pattern, such as /wait/{room}; empty if there is none
	Room   string // spelled as in tokens; empty if the call is about none
	Remote string // the address of the client
	Status int
	Took   time.Duration
}

// The defaults of Options.
const (
	defaultTTL     = time.Hour
	maxTTL         = 24 * time.Hour
	defaultSession = 12 * time.Hour
)

// Portal is an http.Handler. Any number of goroutines use it.
type Portal struct {
	Options
	host     string          // of PublicURL, as browsers send it
	pagesOwn map[string]bool // the first names in the paths of the portal's pages
	pages    *page.Pages
	mux      *http.ServeMux
	guard    *http.CrossOriginProtection
	cookies  cookies
	limits   *limits
	looks    *looks
	watches  *watches
	leaving  chan struct{} // has room for as many departures as are looked after at once
	after    sync.WaitGroup
	away     map[string]time.Time // ids of sessions by which nobody is in a room, and since when; Missing has it
}

// New returns the portal. It starts nothing.
func New(o Options) (*Portal, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.TokenTTL <= 0 {
		o.TokenTTL = defaultTTL
	}
	if o.Session <= 0 {
		o.Session = defaultSession
	}
	if o.Called == nil {
		o.Called = func(Call) {}
	}
	o.TokenTTL = min(o.TokenTTL, maxTTL)
	public, err := origin(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("the portal's address: %w", err)
	}
	if len(o.MeetURLs) == 0 {
		return nil, errors.New("the portal needs the address of jitsi-meet")
	}
	for _, meet := range o.MeetURLs {
		if _, err := origin(meet); err != nil {
			return nil, fmt.Errorf("the address of jitsi-meet: %w", err)
		}
	}
	p := &Portal{
		Options: o, host: strings.ToLower(public.Host), pagesOwn: make(map[string]bool), pages: page.New(page.Options{Origins: o.MeetURLs}),
		guard: http.NewCrossOriginProtection(), cookies: cookiesFor(public), limits: newLimits(o.Now), watches: newWatches(),
		leaving: make(chan struct{}, maxLeaving),
	}
	if err := p.guard.AddTrustedOrigin(o.PublicURL); err != nil { // behind a proxy that ends TLS
		return nil, fmt.Errorf("the portal's address: %w", err)
	}
	p.looks = newLooks(o.Rooms, o.Now)
	p.mux = p.routes()
	return p, nil
}

// origin reads an address that has nothing but a scheme and a host.
func origin(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("not an address")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != address:
		return nil, fmt.Errorf("%q is not a scheme and a host alone, such as https://login.example.com", address)
	}
	return u, nil
}

func (p *Portal) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(*visit){
		"GET /{$}":                            p.front,
		"GET /login":                          p.loginPage,
		"POST /login":                         p.login,
		"GET /login/with/{provider}":          p.with,
		"GET /login/callback/{provider}":      p.callback,
		"GET /logout":                         p.logout,
		"POST /logout":                        p.logout,
		"POST /logout/backchannel/{provider}": p.backChannel,
		"GET /rooms":                          p.rooms,
		"POST /rooms":                         p.open,
		"POST /rooms/lock":                    p.steer(steerLock),
		"POST /rooms/unlock":                  p.steer(steerUnlock),
		"POST /rooms/end":                     p.steer(steerEnd),
		"GET /wait/{room}":                    p.wait,
		"GET /wait/{tenant}/{room}":           p.wait,
		"GET /join":                           p.join,
		"GET /join/{$}":                       p.join,
		"GET /join/{room}":                    p.join,
		"GET /.well-known/jwks.json":          p.jwks,
		"GET /style.css":                      p.asset,
		"GET /portal.js":                      p.asset,
		"/":                                   func(v *visit) { v.notice(http.StatusNotFound, page.BadLink, "/") },
	} {
		if _, path, ok := strings.Cut(pattern, " /"); ok {
			first, _, _ := strings.Cut(path, "/")
			p.pagesOwn[first] = true
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { do(visitOf(r)) })
	}
	return mux
}

// jwks answers with the public keys, for those who verify the portal's tokens.
func (p *Portal) jwks(v *visit) {
	if p.JWKS == nil {
		v.notice(http.StatusNotFound, page.BadLink, "/")
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "public, max-age=300")
	_, _ = v.w.Write(p.JWKS()) // fails if the client has gone
}

func (p *Portal) asset(v *visit) { p.pages.Asset(v.w, v.r) }

// providers returns the providers; nil if there are none.
func (p *Portal) providers() *oidc.Providers {
	if p.Providers == nil {
		return nil
	}
	return p.Providers()
}

// choices returns the providers as pages offer them.
func (p *Portal) choices() []oidc.Choice {
	if all := p.providers(); all != nil {
		return all.List()
	}
	return nil
}

// Login asks to log in with a password, and for a token.
type Login struct {
	account.Attempt
	// Room is spelled as in tokens. Empty means the person's room if they may open just one, and no token otherwise.
	Room string
	TTL  time.Duration
	// Affiliation is the most that the token gives; None for all that the person has.
	Affiliation auth.Affiliation
}

// Entered is a login that went well.
type Entered struct {
	Token, JTI, Room string
	// Rooms are the patterns of rooms that the person may open.
	Rooms       []string
	Display     string
	Affiliation auth.Affiliation
	Expires     time.Time
	// URL is the room on jitsi-meet, with the token.
	URL string
	// Device is for the next Attempt; see account.Directory.Device.
	Device string
}

// What Enter can end with, beside the errors of account.Directory.Login.
var (
	// ErrRoom means that a text is no name of a room.
	ErrRoom = errors.New("not the name of a room")
	// ErrNotRoom means that the person may not open the room.
	ErrNotRoom = errors.New("this person may not open this room")
	// ErrStandsBy means that usher stands by.
	ErrStandsBy = errors.New("usher stands by")
)

// Enter logs somebody in with a password, and returns a token, as a program wants it. No browser has the session; it ends as others do, so
// that somebody who is inside when their token ends can still be put out.
func (p *Portal) Enter(ctx context.Context, l Login) (Entered, error) {
	at, ok := p.sessions()
	if !ok || p.Accounts == nil {
		return Entered{}, ErrStandsBy
	}
	if _, err := auth.ParseRoomName(l.Room); err != nil && l.Room != "" {
		return Entered{}, fmt.Errorf("%w: %w", ErrRoom, err)
	}
	person, err := p.Accounts.Login(ctx, l.Attempt)
	if err != nil {
		return Entered{}, err
	}
	if exact := exactly(person.Rooms); l.Room == "" && len(person.Rooms) == 1 && len(exact) == 1 {
		l.Room = exact[0].Claim()
	}
	if l.Room == "" {
		return Entered{Rooms: person.Rooms, Display: person.Display, Affiliation: person.Affiliation, Device: p.Accounts.Device(person)}, nil
	}
	return p.enter(ctx, at, l, person)
}

func (p *Portal) enter(ctx context.Context, at sessions, l Login, person account.Person) (Entered, error) {
	t, err := p.reachable(newTrip(p.MeetURLs[0], "", l.Room))
	if err != nil {
		return Entered{}, fmt.Errorf("%w: %w", ErrRoom, err)
	}
	if may, err := p.allowed(ctx, person, t.room); err != nil || !may {
		return Entered{}, cmp.Or(err, ErrNotRoom)
	}
	ttl := p.TokenTTL
	if l.TTL > 0 {
		ttl = min(l.TTL, ttl)
	}
	now := p.Now()
	s := session{ID: idOf(random()), Person: person, Program: true, Begun: now, Ends: now.Add(p.Session)}
	if err := p.begin(ctx, at, s); err != nil {
		return Entered{}, err
	}
	person.Affiliation = lower(person.Affiliation, l.Affiliation)
	token, jti, expires, err := p.mint(ctx, at, s, person, t.room, ttl)
	return Entered{
		Token: token, JTI: jti, Room: t.room.Claim(), Rooms: person.Rooms, Display: person.Display, Affiliation: person.Affiliation,
		Expires: expires, URL: t.address(token), Device: p.Accounts.Device(person),
	}, err
}

// lower returns the affiliation, or the most that it may be if that is lower.
func lower(a, most auth.Affiliation) auth.Affiliation {
	order := []auth.Affiliation{auth.Member, auth.Admin, auth.Owner}
	if n := slices.Index(order, most); n >= 0 && n < slices.Index(order, a) {
		return most
	}
	return a
}

// mint promises and mints a token of a session, for at most ttl.
func (p *Portal) mint(ctx context.Context, at sessions, s session, person account.Person, room auth.Room, ttl time.Duration) (token, jti string, expires time.Time, err error) {
	now := p.Now()
	ttl = min(ttl, s.Ends.Sub(now)).Truncate(time.Second)
	if ttl <= 0 {
		return "", "", time.Time{}, errNoSession
	}
	expires = now.Add(ttl)
	if jti, err = p.promise(ctx, at, s.ID, room.Claim(), expires); err != nil {
		return "", "", time.Time{}, err
	}
	token, err = p.Mint(ctx, Mint{Person: person, Room: room, ID: jti, TTL: ttl})
	return token, jti, expires, err
}

// allowed reports whether a person may open a room now.
func (p *Portal) allowed(ctx context.Context, person account.Person, room auth.Room) (bool, error) {
	if p.Accounts == nil {
		return person.May(room), nil
	}
	return p.Accounts.Allowed(ctx, person, room)
}

// sessions returns the sessions; false while usher stands by.
func (p *Portal) sessions() (sessions, bool) {
	s, ok := p.Store()
	return sessions{Store: s, now: p.Now}, ok
}

// Changed says that something has changed in a room: a host has come or left, the room was opened, locked or ended. Wait pages look
// again. The zero Room is all rooms. It does not block.
func (p *Portal) Changed(room auth.Room) {
	p.looks.forget(room)
	p.watches.changed(room)
}

// Reloaded ends the sessions of people who may no longer have one: their account is gone, disabled or changed, or their provider, or what its
// people may do.
// It also revokes what could not be revoked before. Call it when usher becomes active, and when the configuration has been read again.
func (p *Portal) Reloaded(ctx context.Context) {
	at, ok := p.sessions()
	if !ok {
		return
	}
	p.Changed(auth.Room{})
	err := p.endAll(ctx, at, "the account has changed", func(s session) bool {
		_, ok := p.current(s)
		return !ok
	})
	if err != nil {
		p.Log.Warn("sessions of changed accounts could not all be ended; the next reload tries again", zap.Error(err))
	}
}

// current returns the person of a session as they are now. It is false if they may have no session any more.
func (p *Portal) current(s session) (account.Person, bool) {
	if s.Provider != "" {
		all := p.providers()
		return s.Person, all != nil && s.Version != "" && all.Version(s.Provider) == s.Version
	}
	if p.Accounts == nil {
		return account.Person{}, false
	}
	return p.Accounts.Current(s.Person)
}

// maxLeaving is how many arrivals and departures are looked after at once; leftWithin is how long that may take.
const maxLeaving, leftWithin = 64, 30 * time.Second

// Came says that the bearer of a token has come into a room. It does not block: Wait waits for what it began.
func (p *Portal) Came(jti string) {
	p.follow(jti, "it could not be noted that a host has come", func(ctx context.Context, at sessions, id string) error {
		s, err := at.get(ctx, id)
		if err == nil && !s.Entered {
			_, err = at.change(ctx, id, func(s *session) { s.Entered = true })
		}
		return err
	})
}

// Left says that the bearer of a token has left a room. With Options.UntilHostLeft that ends the session of the token, unless somebody is
// in a room by another token of it. It does not block: Wait waits for what it began.
func (p *Portal) Left(jti string) {
	p.follow(jti, "the session of a host who has left could not be ended", func(ctx context.Context, at sessions, id string) error {
		return p.left(ctx, at, id, jti)
	})
}

// follow does something with the session of a token, with Options.UntilHostLeft.
func (p *Portal) follow(jti, failed string, do func(ctx context.Context, at sessions, id string) error) {
	id, ok := ofToken(jti)
	if !p.UntilHostLeft || !ok {
		return
	}
	p.after.Go(func() {
		p.leaving <- struct{}{}
		defer func() { <-p.leaving }()
		ctx, cancel := context.WithTimeout(context.Background(), leftWithin)
		defer cancel()
		at, active := p.sessions()
		if !active {
			return
		}
		if err := do(ctx, at, id); err != nil && !errors.Is(err, errNoSession) {
			p.Log.Warn(failed, zap.Error(err))
		}
	})
}

// Wait waits until all that Came and Left have begun is done.
func (p *Portal) Wait() { p.after.Wait() }

func (p *Portal) left(ctx context.Context, at sessions, id, jti string) error {
	s, err := at.get(ctx, id)
	if err != nil {
		return err
	}
	if p.Inside != nil {
		live, ended := s.tokens(p.Now())
		others := slices.DeleteFunc(append(ended, live...), func(other string) bool { return other == jti })
		if inside, err := p.Inside(ctx, others); err != nil || len(inside) > 0 {
			return err
		}
	}
	return p.end(ctx, at, id, hasLeft)
}

const hasLeft = "the host has left"

// awayFor is how long somebody must be in no room before Missing ends their session.
const awayFor = time.Minute

// Missing ends, with Options.UntilHostLeft, the sessions of hosts who are in no room any more although nobody has said that they left: no usher
// ran at that moment, or the store was away. Call it every minute or so, from one goroutine.
func (p *Portal) Missing(ctx context.Context) {
	at, active := p.sessions()
	if !active || !p.UntilHostLeft || p.Inside == nil {
		return
	}
	entered, err := at.all(ctx, func(s session) bool { return s.Entered && !s.Over })
	if err != nil {
		p.Log.Warn("hosts who have left could not be looked for; this is tried again", zap.Error(err))
		return
	}
	used, err := p.inUse(ctx, entered)
	if err != nil {
		return // usher stands by now
	}
	now, away := p.Now(), make(map[string]time.Time)
	for _, s := range entered {
		since, known := p.away[s.ID]
		switch {
		case used[s.ID]:
			continue
		case !known:
			since = now
		case now.Sub(since) >= awayFor:
			if err := p.end(ctx, at, s.ID, hasLeft); err != nil {
				p.Log.Warn("the session of a host who has left could not be ended; this is tried again", zap.Error(err))
			}
		}
		away[s.ID] = since
	}
	p.away = away
}

// words are syllables for names of rooms that people can say.
const consonants, vowels = "bdfghjklmnprstvz", "aeio"

// randomRoom returns a name for a room that nobody guesses: 54 random bits.
func randomRoom() string {
	b := make([]byte, 9)
	_, _ = rand.Read(b) // which never fails
	var name strings.Builder
	for i, c := range b { // of each byte, four bits and two
		if i > 0 && i%3 == 0 {
			name.WriteByte('-')
		}
		name.WriteByte(consonants[c%16])
		name.WriteByte(vowels[c>>4%4])
	}
	return name.String()
}
