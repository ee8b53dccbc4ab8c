package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/signing"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/component/audit"
	"github.com/xmpp-usher/usher/component/ops/metrics"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/passhash"
	web "github.com/xmpp-usher/usher/pkg/serve"
	"github.com/xmpp-usher/usher/pkg/token"
)

// What the portal needs of the configuration and of the running usher: who may log in, tokens, and what happens in rooms.

// portalIssuer is the name of the issuer of tokens that the portal signs with keys of its own.
const portalIssuer = "usher-portal"

// ownIssuer is that issuer, as the configuration would have it.
var ownIssuer = config.Issuer{AppID: portalIssuer, AcceptedIssuers: []string{portalIssuer}, AcceptedAudiences: []string{"jitsi"}}

// withPortal adds to a policy the issuer of tokens that the portal signs with keys of its own. A file with keys that cannot be read is a
// problem of the configuration; one that does not exist is made when usher serves.
func withPortal(c *config.Config, environ []string, p auth.Policy) []config.Problem {
	if c.Portal.Listen == "" || c.Portal.Sign != config.SignKey {
		return nil
	}
	file, err := c.PortalKeyFile(environ)
	var all *signing.Keys
	if err == nil {
		all, err = signing.Read(file, time.Now)
	}
	if err != nil {
		return []config.Problem{{Key: "portal.key_file", Text: err.Error(), Source: sourceOf(c, "portal.key_file")}}
	}
	name := c.Portal.VHost.String()
	vhost := p.VHosts[name]
	var ending config.Ending
	for _, v := range c.VHosts {
		if v.Domain.Equal(c.Portal.VHost) {
			ending = v.Ending
		}
	}
	vhost.Issuers = append(slices.Clip(vhost.Issuers), auth.Issuer{
		Name: portalIssuer, Accepted: ownIssuer.AcceptedIssuers, Audiences: ownIssuer.AcceptedAudiences,
		Algorithms: []jwa.SignatureAlgorithm{jwa.EdDSA}, Keys: all,
		RequireRoom: true, RequireExp: true, DomainVerification: true, NoWildcard: true, Leeway: 10 * time.Second,
		// The claim sub of these tokens is the domain or a tenant, so people are told apart by their token.
		OnExpiry: auth.OnExpiry(ending.OnExpiry), ExpiryGrace: ending.ExpiryGrace, Reuse: auth.Reuse(ending.Reuse), ReuseOf: auth.ReuseOfToken,
	})
	p.VHosts[name] = vhost
	return nil
}

// people are those who may log in, by the configuration of the moment.
type people struct {
	accounts  []account.Account
	providers *oidc.Providers
	off       bool // the configuration has no portal any more
}

// peopleOf turns the accounts and providers of a configuration into those of the portal.
func peopleOf(c *config.Config, log *zap.Logger) *people {
	all := &people{accounts: make([]account.Account, len(c.Portal.Users))}
	for n, u := range c.Portal.Users {
		hash, _ := passhash.Parse(u.Hash) // config has checked it; the zero Hash fits no password
		all.accounts[n] = account.Account{
			Name: u.Name, Display: u.Display, Email: u.Email, Hash: hash, Rooms: u.Rooms, Affiliation: auth.Affiliation(u.Affiliation),
			Groups: u.Groups, Disabled: u.Disabled,
		}
	}
	if len(c.Portal.Providers) > 0 {
		all.providers = oidc.New(oidc.Options{PublicURL: c.Portal.PublicURL, Providers: providers(c), Log: log})
	}
	return all
}

// providers turns the providers of a configuration into those of package oidc.
func providers(c *config.Config) (all []oidc.Provider) {
	for _, p := range c.Portal.Providers {
		to := oidc.Provider{
			Name: p.Name, Title: p.Title, Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: p.ClientSecret.Reveal(), Scopes: p.Scopes,
			IDClaim: p.IDClaim, NameClaim: p.NameClaim, DisplayClaim: p.DisplayClaim, Leeway: p.Leeway,
		}
		for _, r := range p.Rules {
			to.Rules = append(to.Rules, oidc.Rule{
				Claim: r.Claim, Value: r.Value, Affiliation: auth.Affiliation(r.Affiliation), Rooms: r.Rooms, Tenant: r.Tenant, Features: r.Features,
			})
		}
		all = append(all, to)
	}
	return all
}

// entrance is the portal of a running usher. Any goroutine may call its methods.
type entrance struct {
	*portal.Portal
	u     *serving
	heard *rate.Limiter // bounds the lines of strangers in the audit log

	mu      sync.Mutex
	keys    *signing.Keys // nil if the portal signs with a shared secret
	keyFile string
	people  *people
	changed map[string]auth.Room // rooms to be looked at again
	left    map[string]time.Time // ids of tokens with bearers who have left a room and not come back, and when they were seen last
	reload  bool                 // sessions of people who are gone or changed are to be ended
	some    alarm.Bell           // rings when anything of these is to be done
}

// newEntrance returns the portal of a usher, or nil if its configuration has none.
func newEntrance(u *serving) (*entrance, error) {
	c := u.began.Portal
	if c.Listen == "" {
		return nil, nil
	}
	e := &entrance{
		u: u, heard: rate.NewLimiter(strangersPerSecond, strangersAtOnce), some: alarm.NewBell(),
		changed: make(map[string]auth.Room), left: make(map[string]time.Time),
	}
	if err := e.use(u.began); err != nil {
		return nil, err
	}
	o, err := e.options()
	if err != nil {
		return nil, err
	}
	if e.Portal, err = portal.New(o); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	if c.Sign == config.SignKey && u.began.Store.Shared() {
		u.log.Info("every usher with this store needs the same keys of the portal: copy the file to the others", zap.String("file", e.keyFile))
	}
	return e, nil
}

// options turns the configuration into the options of package portal.
func (e *entrance) options() (portal.Options, error) {
	c := e.u.began.Portal
	accounts := account.Options{Accounts: e.accounts, Closed: e.off, Log: e.u.log}
	if c.UsersURL != "" {
		var err error
		if accounts.Service, err = account.NewService(c.UsersURL, c.UsersSecret.Reveal()); err != nil {
			return portal.Options{}, fmt.Errorf("portal.users_url %w", err)
		}
	}
	return portal.Options{
		PublicURL: c.PublicURL, MeetURLs: c.MeetURLs, Store: e.u.portalStore, Accounts: account.New(accounts), Providers: e.providers,
		Mint: e.mint, Rooms: e, Revoke: e.revoke, Inside: e.inside, Called: e.called, TokenTTL: c.TokenTTL, Session: c.Session,
		UntilHostLeft: c.UntilHostLeft, Proxies: c.Proxies, JWKS: e.publishes, Now: time.Now, Log: e.u.log,
	}, nil
}

// run serves the portal, and tells it what happens, until ctx ends.
func (e *entrance) run(ctx context.Context) {
	if e == nil {
		return
	}
	var done sync.WaitGroup
	defer done.Wait()
	done.Go(func() { e.tell(ctx) })
	defer e.Wait()
	c := e.u.began.Portal
	web.Run(ctx, web.Options{
		Name: "the portal", Key: "portal.listen", Listen: c.Listen, Handler: e.Portal, CertFile: c.CertFile, KeyFile: c.KeyFile,
		MaxConnections: portal.Connections, Proxies: c.Proxies, Log: e.u.log,
	})
}

// use takes over the accounts, the providers and the key of a configuration. After an error they are as they were. If it has no portal any
// more, nobody is logged in from now on: what it says of accounts is not read then, so they would count until the next start.
func (e *entrance) use(c *config.Config) error {
	if e == nil {
		return nil
	}
	if c.Portal.Listen == "" {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.people, e.reload = &people{off: true}, true
		e.some.Ring()
		return nil
	}
	now := peopleOf(c, e.u.log)
	var all *signing.Keys
	var file string
	if c.Portal.Sign == config.SignKey {
		var err error
		if file, err = c.PortalKeyFile(e.u.environ); err == nil && file != e.keyFile {
			all, err = signing.Open(file, time.Now)
		}
		if err != nil {
			return fmt.Errorf("portal.key_file: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if file != e.keyFile {
		if e.keys, e.keyFile = all, file; all != nil {
			all.Failed = func(err error) { e.u.log.Error("the portal's keys cannot be read again", zap.Error(err)) }
		}
	}
	e.people, e.reload = now, true
	e.some.Ring()
	return nil
}

func (e *entrance) accounts() []account.Account {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.people.accounts
}

func (e *entrance) off() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.people.off
}

func (e *entrance) providers() *oidc.Providers {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.people.providers
}

// publishes returns the JWK Set for others who verify tokens; it is empty if the portal has no key of its own.
func (e *entrance) publishes() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys == nil {
		return []byte(`{"keys":[]}`)
	}
	return e.keys.Public()
}

// portalStore returns where the portal keeps sessions, and false while this usher stands by.
func (u *serving) portalStore() (store.Store, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.store, u.usher != nil
}

// activates says that this usher has become the active one: accounts may have changed since the last one ended.
func (e *entrance) activates() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reload = true
	e.some.Ring()
}

const (
	// comesBack is how long a host may be in no room before they count as gone: a page that is loaded again leaves first, as does somebody on
	// the way into a breakout room.
	comesBack = 10 * time.Second
	// sweepEvery is the interval at which sessions of changed accounts are looked for again: the store may have been away at the change.
	sweepEvery = time.Minute
	// leftAtMost bounds the hosts who may come back. Beyond it sessions end by their time.
	leftAtMost = 10000
)

// report takes a report of the component. It never blocks.
func (e *entrance) report(r component.Report) {
	if e == nil {
		return
	}
	room := auth.Room{JID: r.Room, Name: r.Name, Tenant: r.Tenant}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.What {
	case component.HostArrived, component.HostLeft, component.RoomOpened, component.RoomEnded:
		e.changed[room.String()] = room
	case component.Joined:
		delete(e.left, r.JTI)
		e.Came(r.JTI)
		return
	case component.Left:
		if r.JTI != "" && len(e.left) < leftAtMost && e.u.began.Portal.UntilHostLeft {
			e.left[r.JTI] = r.At
		}
		return
	default:
		return
	}
	e.some.Ring()
}

// tell tells the portal what has happened, until ctx ends.
func (e *entrance) tell(ctx context.Context) {
	tick, sweep := time.NewTicker(comesBack/5), time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.tellLeft(ctx, time.Now())
			continue
		case <-sweep.C:
			e.Reloaded(ctx)
			e.Missing(ctx)
			continue
		case <-e.some:
		}
		e.mu.Lock()
		changed, reload := e.changed, e.reload
		e.changed, e.reload = make(map[string]auth.Room), false
		e.mu.Unlock()
		for _, room := range changed {
			e.Changed(room)
		}
		if reload {
			e.Reloaded(ctx)
		}
	}
}

// tellLeft tells the portal of hosts who have not come back. They may be on the way into a breakout room, there, or on the way back.
func (e *entrance) tellLeft(ctx context.Context, now time.Time) {
	c := e.u.component()
	e.mu.Lock()
	if c == nil {
		clear(e.left) // another usher knows who is where
	}
	pending := slices.Collect(maps.Keys(e.left))
	e.mu.Unlock()
	for _, jti := range pending {
		seen := e.isInside(ctx, c, jti, now)
		e.mu.Lock()
		at, still := e.left[jti] // or else they have come back meanwhile
		over := still && !seen && now.Sub(at) >= comesBack
		switch {
		case over:
			delete(e.left, jti)
		case still && seen:
			e.left[jti] = now
		}
		e.mu.Unlock()
		if over {
			e.Left(jti)
		}
	}
}

// isInside reports whether somebody is in a room by a token, or was let in a moment ago. Somebody in a breakout room has their
// right in the main room; as long as there are breakout rooms, those who have left keep it, too.
func (e *entrance) isInside(ctx context.Context, c *component.Component, jti string, now time.Time) bool {
	all, _ := c.Grants("") // fails for rooms alone
	return slices.ContainsFunc(all, func(g component.LiveGrant) bool {
		return g.JTI == jti && (now.Sub(g.At) < comesBack || e.isSeen(ctx, c, g))
	})
}

// isSeen reports whether somebody is in the room of their right, or in a breakout room.
func (e *entrance) isSeen(ctx context.Context, c *component.Component, g component.LiveGrant) bool {
	breakout := e.u.began.Rooms.Breakout
	return slices.ContainsFunc(c.Rooms(), func(r component.RoomSummary) bool {
		if !r.Room.Equal(g.Room) && (breakout.Equal(jid.JID{}) || !r.Room.Domain().Equal(breakout)) {
			return false
		}
		v, err := c.Room(ctx, r.Room.String())
		return err == nil && slices.ContainsFunc(v.Occupants, func(o component.Occupant) bool { return o.Inside && o.Who.Equal(g.Who) })
	})
}

// activeComponent returns the Component, if this usher is the active one.
func (u *serving) activeComponent() (*component.Component, error) {
	if c := u.component(); c != nil {
		return c, nil
	}
	return nil, store.ErrStandby
}

// address returns the address of a room.
func (e *entrance) address(room auth.Room) string {
	c, _ := e.u.inForce()
	return roomOfClaim(room.Claim(), c)
}

// State implements portal.Rooms.
func (e *entrance) State(ctx context.Context, room auth.Room) (portal.RoomState, error) {
	c, err := e.u.activeComponent()
	if err != nil {
		return portal.RoomState{}, err
	}
	v, err := c.Room(ctx, e.address(room))
	if errors.Is(err, component.ErrNoRoom) {
		return portal.RoomState{}, nil
	}
	return stateOf(v.RoomSummary), err
}

// List implements portal.Rooms.
func (e *entrance) List(context.Context) ([]portal.Listed, error) {
	c, err := e.u.activeComponent()
	if err != nil {
		return nil, err
	}
	conf, _ := e.u.inForce()
	return portalRooms(c.Rooms(), conf.Rooms.Services[0]), nil
}

// portalRooms returns the rooms that the portal has: those of the MUC service of address. Lobbies and breakout rooms are on others.
func portalRooms(rooms []component.RoomSummary, service jid.JID) []portal.Listed {
	all := make([]portal.Listed, 0, len(rooms))
	for _, r := range rooms {
		if r.Name != "" && r.Room.Domain().Equal(service) {
			all = append(all, portal.Listed{Room: auth.Room{Name: r.Name, Tenant: r.Tenant}, RoomState: stateOf(r)})
		}
	}
	return all
}

func stateOf(r component.RoomSummary) portal.RoomState {
	return portal.RoomState{Open: r.Open, HostInside: r.HostInside, Locked: r.Locked, Waiting: r.Waiting, Since: r.Since}
}

// End implements portal.Rooms.
func (e *entrance) End(ctx context.Context, room auth.Room, reason string) error {
	c, err := e.u.activeComponent()
	if err != nil {
		return err
	}
	return steered(c.EndRoom(ctx, e.address(room), reason))
}

// Lock implements portal.Rooms.
func (e *entrance) Lock(ctx context.Context, room auth.Room, lock bool) error {
	c, err := e.u.activeComponent()
	if err != nil {
		return err
	}
	return steered(c.LockRoom(ctx, e.address(room), lock))
}

// steered returns an error of the component as the portal knows it.
func steered(err error) error {
	if errors.Is(err, component.ErrNoRoom) {
		return portal.ErrNotOpen
	}
	return err
}

// revoke takes tokens of the portal back. A token of the portal ends within a day.
func (e *entrance) revoke(ctx context.Context, jti []string, why string) error {
	c, err := e.u.activeComponent()
	if err != nil {
		return err
	}
	for _, id := range jti {
		_, err := c.Revoke(ctx, auth.Revocation{JTI: id, Until: time.Now().Add(signing.Longest + time.Hour), Reason: why})
		if err != nil {
			return err
		}
	}
	return nil
}

// inside returns those of these tokens by which somebody is admitted to a room.
func (e *entrance) inside(_ context.Context, jti []string) ([]string, error) {
	c, err := e.u.activeComponent()
	if err != nil {
		return nil, err
	}
	all, err := c.Grants("")
	if err != nil {
		return nil, err
	}
	admitted := make(map[string]bool, len(all))
	for _, g := range all {
		admitted[g.JTI] = true
	}
	return slices.DeleteFunc(slices.Clone(jti), func(id string) bool { return !admitted[id] }), nil
}

// mint makes the token of somebody who has logged in.
func (e *entrance) mint(ctx context.Context, m portal.Mint) (string, error) {
	c, p := e.u.inForce()
	s, err := e.signature(c)
	if err != nil {
		return "", err
	}
	who, now := m.Person, time.Now()
	claims := s.claims(api.MintRequest{
		Room: m.Room.Claim(), Affiliation: string(who.Affiliation), ID: who.ID, Name: cmp.Or(who.Display, who.Name), Email: who.Email, Avatar: who.Avatar,
	})
	dated(&claims, now, m.TTL)
	if claims.ID, claims.Features = m.ID, who.Features; len(who.Groups) > 0 {
		claims.Group = who.Groups[0] // Jitsi's context.group has one
	}
	if s.issuer.ReuseOf == config.ReuseOfSub && !s.issuer.DomainVerification {
		claims.Subject = who.ID // the domain would make all of them the same person
	}
	minted, err := s.mint(ctx, c, p, claims, now)
	if err != nil {
		e.u.log.Error("a token for somebody who has logged in cannot be made", zap.String("who", token.ForLog(who.ID)), zap.Error(err))
		return "", err
	}
	e.u.listeners.metrics.Minted()
	return minted.Token, nil
}

// signature returns as who the portal signs tokens.
func (e *entrance) signature(c *config.Config) (signature, error) {
	if c.Portal.Sign != config.SignKey {
		return secretSignature(c, c.Portal.VHost.String(), c.Portal.Issuer)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys == nil {
		return signature{}, errors.New("the portal has no key: look for portal.key_file in the log")
	}
	kid, key := e.keys.Current()
	for _, v := range c.VHosts {
		if v.Domain.Equal(c.Portal.VHost) {
			return signature{v, ownIssuer, token.MintOptions{Key: key, Algorithm: jwa.EdDSA, KeyID: kid}}, nil
		}
	}
	return signature{}, fmt.Errorf("portal.vhost: %s is not in vhosts", c.Portal.VHost)
}

// Lines in the audit log about strangers: how many a second, and at once.
const strangersPerSecond, strangersAtOnce = 5, 100

// called takes a request to the portal. It never blocks. The audit log has those by which somebody has logged in or out, or has changed
// something, and those that were refused; of strangers not more than it can take.
func (e *entrance) called(c portal.Call) {
	if by := loginBy(c); by != "" {
		e.u.listeners.metrics.LoggedIn(by, loginResult(c.Status))
	}
	if c.Who == "" && !e.heard.Allow() { // package portal bounds those of one network
		return
	}
	e.u.listeners.audit.Call(audit.Call{
		At: c.At, Method: c.Method, Path: c.Path, Room: c.Room, Who: c.Who, Remote: c.Remote, Status: c.Status, Took: c.Took,
	})
}

// loginBy returns with what a request has tried to log in; empty if it has not.
func loginBy(c portal.Call) metrics.LoginBy {
	switch {
	case c.Method == http.MethodPost && c.Path == "/login":
		return metrics.ByPassword
	case c.Path == "/login/callback/{provider}":
		return metrics.ByProvider
	}
	return ""
}

// loginResult returns what became of an attempt to log in that was answered so.
func loginResult(status int) metrics.LoginResult {
	switch {
	case status < http.StatusBadRequest:
		return metrics.LoginOK
	case status == http.StatusTooManyRequests:
		return metrics.LoginLimited
	case status >= http.StatusInternalServerError:
		return metrics.LoginFailed
	}
	return metrics.LoginRefused
}

// login exchanges a password for a token, for the API.
func (e *entrance) login(ctx context.Context, r api.LoginRequest) (api.LoggedIn, error) {
	done, err := e.Enter(ctx, portal.Login{
		Attempt: account.Attempt{Name: r.Username, Password: r.Password, From: r.Remote, Device: r.Device},
		Room:    r.Room, TTL: r.TTL, Affiliation: auth.Affiliation(r.Affiliation),
	})
	result, err := loginError(err)
	e.u.listeners.metrics.LoggedIn(metrics.ByAPI, result)
	if err != nil {
		return api.LoggedIn{}, err
	}
	return api.LoggedIn{
		Token: done.Token, JTI: done.JTI, Room: done.Room, Rooms: done.Rooms, Display: done.Display, Affiliation: string(done.Affiliation),
		Expires: done.Expires, URL: done.URL, Device: done.Device,
	}, nil
}

// loginError returns what became of an attempt to log in, and its error as the API knows it.
func loginError(err error) (metrics.LoginResult, error) {
	var many *account.TooManyError
	switch {
	case err == nil:
		return metrics.LoginOK, nil
	case errors.Is(err, account.ErrRefused):
		return metrics.LoginRefused, api.ErrLogin
	case errors.Is(err, portal.ErrNotRoom):
		return metrics.LoginRefused, api.ErrNotRoom
	case errors.Is(err, portal.ErrRoom):
		return metrics.LoginRefused, api.RequestError(err.Error())
	case errors.As(err, &many):
		return metrics.LoginLimited, &api.TooManyError{After: many.After}
	case errors.Is(err, account.ErrBusy), errors.Is(err, account.ErrUnavailable):
		return metrics.LoginFailed, api.ErrLater
	}
	return metrics.LoginFailed, err
}
