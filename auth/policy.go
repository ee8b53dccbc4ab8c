package auth

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Kind is what a virtual host says about the people on it.
type Kind string

const (
	// KindToken: people show a token. Without one they are guests if AllowEmptyToken says so.
	KindToken Kind = "token"
	// KindGuest: guests. A token counts only if the virtual host has an issuer of its own.
	KindGuest Kind = "guest"
	// KindTrusted: the server checked a password; such people are hosts.
	KindTrusted Kind = "trusted"
	// KindService: recorders and gateways; let in, never counted as host.
	KindService Kind = "service"
)

// WaitForHost says who waits until a host is inside.
type WaitForHost string

const (
	GuestsWait  WaitForHost = "guests"  // people without a token
	MembersWait WaitForHost = "members" // also token holders who are not hosts
	NobodyWaits WaitForHost = "never"
)

// Login is how somebody who needs a token and has none can get in.
type Login string

const (
	LoginNone     Login = "none"     // no login
	LoginPassword Login = "password" // an account: the client asks for its password
	LoginURL      Login = "url"      // a page that gives tokens
)

// VHost is one virtual host of the server, and how people on it are treated.
type VHost struct {
	Kind Kind
	// AllowEmptyToken lets people without a token in as guests. For KindToken.
	AllowEmptyToken bool
	// DefaultAffiliation is for a valid token that asks for nothing: Owner or Member. An issuer's own default goes before it; an
	// issuer that maps the affiliation makes such a token's bearer a Member.
	DefaultAffiliation Affiliation
	// Issuers sign the tokens that count here.
	Issuers []Issuer
}

// Policy is the configuration of the decision. It must not be changed once an Authorizer has it.
type Policy struct {
	// Services are the domains of the guarded MUC services.
	Services []string
	// VHosts are the virtual hosts by domain. People of other domains are refused.
	VHosts map[string]VHost
	// WaitForHost says who waits; GuestsWait if empty.
	WaitForHost WaitForHost
	// GuestRooms are patterns (path.Match) of the names of rooms that guests may open without a host.
	GuestRooms []string
	// HostAffiliation is what hosts get: Owner, or Admin, who moderates but cannot change the room's configuration.
	// Owner if empty.
	HostAffiliation Affiliation
	// Sessions finds the sessions that were given. Nil means that there are no sessions.
	Sessions Sessions
	// Breakout is the domain of the breakout service, empty if there is none.
	Breakout string
	// Lobby says that there is a lobby service.
	Lobby bool
	// LobbyBypass lists who passes a lobby that is at work: Owner, which includes admins, and Member. What a token says
	// goes before it.
	LobbyBypass []Affiliation
	// Login is the login for people who need a token and have none. Empty means unknown, which counts as a login.
	Login Login
	// LobbyAutostart turns the lobby on as a host comes, unless the host's token says otherwise.
	LobbyAutostart bool
	// Rules say what holds in some rooms; the first that fits a room counts.
	Rules []Rule
	// Refusals knows what was taken back; nil means that nothing was.
	Refusals Refusals
	// AfterKick says what a kick or ban means for the person's next request. The rules do not read it: Refusals follows it.
	AfterKick AfterKick
}

// AfterKick says what happens to somebody who was put out of a room by a moderator.
type AfterKick struct {
	Then Kick
	// Wait is how long KickWait keeps the person out.
	Wait time.Duration
}

// Kick is a kind of AfterKick; empty means KickAsk.
type Kick string

const (
	KickAsk  Kick = "ask"  // the person may ask again at once
	KickWait Kick = "wait" // after a while
	KickBar  Kick = "bar"  // not as long as the room lasts
)

// refusal is why a rule says no. nil means that it says nothing.
type refusal struct {
	reason Reason
	err    error // for the log
}

func refuse(r Reason, detail string) *refusal { return &refusal{r, errors.New(detail)} }

func (d Decision) refused(no *refusal) Decision { return d.Denied(no.reason, no.err) }

// decide holds the rules of admission. It asks them from top to bottom and the first that matches decides, so the order is
// part of the policy. Every rule tells t what it expected and found (explain.go) and does nothing else: no rule sends, logs or
// remembers anything.
func (a *Authorizer) decide(ctx context.Context, req Request, look Look, t *trace) Decision {
	d := Decision{NoLogin: a.NoLogin()}

	// 1. The room is on a guarded MUC service, or on the breakout service.
	room, err := a.parseRoom(req.Room)
	breakout := a.IsBreakout(room)
	ours := err == nil && (breakout || a.services[room.Service()])
	t.room(req, a.HasBreakouts(), ours)
	if !ours {
		return d.Denied(ReasonRoomUnknown, err)
	}
	d.Room = room

	// 2. The sender's domain is a configured virtual host, and says what kind of person this is. The server stamped the
	// domain. A bare domain cannot enter.
	vhost, known := a.policy.VHosts[req.From.Domainpart()], a.Knows(req.From)
	t.vhost(req, known)
	if !known {
		return d.Denied(ReasonVHostUnknown, nil)
	}

	// 3. A token must be good, and not taken back. A bad token never counts as no token: otherwise its bearer would enter as a
	// guest. A virtual host without issuers ignores tokens.
	var issuer *Issuer
	var claims *token.Claims
	var no *refusal
	switch {
	case req.Token == "":
	case len(vhost.Issuers) == 0:
		t.tokenIgnored()
	default:
		if issuer, claims, no = a.verify(ctx, &d, req, vhost.Issuers, t); no != nil {
			return d.refused(no)
		}
		if no = a.revoked(ctx, d, ReasonTokenRevoked, t); no != nil {
			return d.refused(no)
		}
	}

	// 4. A session stands for the token or the password that it came from, on whichever virtual host the client uses it. In
	// Jitsi's role upgrade (lib-jitsi-meet authenticateAndUpgradeRole) a second connection logs in and gets the session, and
	// the guest's own connection sends its id. A token decides before a session. On a service virtual host no session counts:
	// a recorder or gateway never becomes a host.
	var credential *Session
	switch {
	case req.SessionID == "":
	case claims != nil:
		t.sessionIgnored("the token decides", "a session id beside a token")
	case vhost.Kind == KindService:
		t.sessionIgnored("sessions do not count on this virtual host", "a session id, ignored")
	default:
		if credential, issuer, no = a.session(ctx, req, room, breakout, t); no != nil {
			return d.refused(no)
		}
		d.Identity, d.Expires, d.Token = credential.Identity, credential.Expires, credential.Token
		d.SessionID, d.Proof, d.OneTime = req.SessionID, credential.Proof, credential.OneTime
		d.Features = credential.features()
		if no = a.revoked(ctx, d, ReasonSessionInvalid, t); no != nil {
			return d.refused(no)
		}
	}

	// 5. The token must be for this room and tenant, and its affiliation one that usher knows. A one-time token must be one that
	// can be told apart, and its bearer's machine too.
	if claims != nil {
		if !breakout {
			if no = covers(issuer, claims, room, req.From.Domainpart(), t); no != nil {
				return d.refused(no)
			}
		}
		affiliation, by, err := requested(issuer, claims, &vhost)
		t.affiliation(affiliation, by, err)
		if err != nil {
			return d.Denied(ReasonTokenClaims, err)
		}
		if d.OneTime = issuer.OneTime || claims.OneTime; d.OneTime && !breakout {
			if no = usableOnce(req, claims, t); no != nil {
				return d.refused(no)
			}
		}
		d.Identity = claims.User.ID
		d.said(claims)
		credential = ofToken(req, issuer, claims, affiliation, d)
	}

	// Rules that depend on the room ask it, once. Without an answer nobody is let in.
	var answer *RoomState
	ask := func(rule string) (RoomState, *refusal) {
		if answer != nil {
			return *answer, nil
		}
		state, err := look(ctx, req, room)
		if err != nil {
			t.noAnswer(rule)
			return RoomState{}, &refusal{ReasonRoomUnavailable, err}
		}
		answer = &state
		return state, nil
	}

	// Still 5, for breakout rooms: the name is a random UUID, which no token names, so a grant in a main room opens it.
	if breakout {
		state, no := ask("breakout room")
		if no != nil {
			return d.refused(no)
		}
		t.breakout(state)
		if !state.HasGrant {
			return d.Denied(ReasonRoomMismatch, errors.New("breakout room: the sender holds no grant in a main room"))
		}
		d.Breakout, d.OneTime = true, false
		d.unsaid()
		return d.allowed(ReasonBreakout, None, t)
	}

	// Still 5: the room must be open, by the hours of its rule. They hold for everybody, hosts and services too.
	rule, number := a.RuleFor(room)
	t.rule(a.policy.Rules, number)
	if open, opens := rule.openAt(req.At, t); !open {
		return d.closed(rule.Hours, opens)
	}
	d.Rule = rule

	// 6. Without a token the virtual host says who this is. A password decides as a token does, before any session. A service
	// enters a room that is open, and opens none, neither here nor through Jicofo.
	guest := false
	switch {
	case claims != nil:
	case vhost.Kind == KindTrusted:
		d.Identity, d.Expires, d.Token, d.SessionID, d.OneTime = req.From.Bare().String(), time.Time{}, TokenRef{}, "", false
		credential, issuer = ofPassword(req, room), nil
		d.Proof = credential.Proof
		d.unsaid()
		t.noToken("trusted: a host", true)
	case credential != nil:
	case vhost.Kind == KindService:
		t.noToken("service: let in", true)
		if no = locked(req, t); no != nil {
			return d.refused(no)
		}
		state, no := ask("room open")
		if no != nil {
			return d.refused(no)
		}
		t.roomOpen(state)
		if !state.Exists {
			return d.Waiting(ReasonHostAbsent)
		}
		return d.allowed(ReasonService, Member, t)
	case (vhost.Kind == KindGuest || vhost.AllowEmptyToken) && rule.Guests == GuestsDeny:
		t.noToken("a guest, in a room that takes none", false)
		return d.Denied(ReasonTokenRequired, nil)
	case vhost.Kind == KindGuest || vhost.AllowEmptyToken:
		guest = true
		t.noToken("a guest", true)
	default:
		t.noToken("no token", false)
		return d.Denied(ReasonTokenRequired, nil)
	}
	// Still 6: somebody who was put out of the room stays out, as far as after_kick says; guests have no name to know them by. What
	// the token says of the room narrows what the rule gives.
	if !guest {
		if no = a.barred(ctx, d, t); no != nil {
			return d.refused(no)
		}
		if no = over(credential, req.At, t); no != nil {
			return d.refused(no)
		}
		d.Rule = rule.narrowed(credential.MaxOccupants)
		d.byIssuer(issuer)
		if d.SessionID == "" {
			d.SessionID, d.Session = a.sessionOf(ctx, req, credential)
		}
	}

	t.limits(d.Rule)

	// 7. A host enters, and opens the room if need be. Among equals, who comes first with a token is host. A lobby may make hosts
	// knock, but only if a host is inside who can let them in.
	host := !guest && credential.Affiliation.Host()
	if !guest && !host && rule.FirstIsHost == FirstToken {
		state, no := ask("first is host")
		if no != nil {
			return d.refused(no)
		}
		t.first(state)
		d.FirstHost = state.IsFirst || !state.HostPresent && !state.First && !req.Locked
	}
	if host || d.FirstHost {
		affiliation := a.policy.HostAffiliation
		if credential.Affiliation == Admin {
			affiliation = Admin
		}
		t.host(affiliation)
		if rule.knocks(a.policy.Lobby, credential, Owner) {
			state, no := ask("lobby")
			if no != nil {
				return d.refused(no)
			}
			t.lobbyForHost(state)
			if state.lobbyAtWork() && state.HostPresent {
				d.NeedsHost = true
				return d.allowed(ReasonHost, None, t)
			}
		}
		d.MayCreate, d.Ends = true, credential.Ends
		d.StartLobby = a.policy.Lobby && (credential.LobbyOn || rule.LobbyAutostart && !credential.LobbyOff)
		return d.allowed(ReasonHost, affiliation, t)
	}

	// Still 7: nobody else enters a room that an operator has locked, also nobody who was inside.
	if no = locked(req, t); no != nil {
		return d.refused(no)
	}

	// 8. Everybody else waits for a host, as far as wait_for_host says. A guest opens no room but those of guest_rooms.
	// A rule may let people in although the host has left. If their token says when the room ends, only their own right ends then.
	if !guest {
		d.Expires, d.RemoveAt = earliest(d.Expires, credential.Ends), earliest(d.RemoveAt, credential.Ends)
	}
	waits := rule.WaitForHost == MembersWait || guest && rule.WaitForHost == GuestsWait
	d.MayCreate = !waits && !guest
	if rule.GuestRoom {
		waits, d.MayCreate = false, true
	}
	d.NeedsHost = waits && !rule.outlastsHost()
	knocks := rule.knocks(a.policy.Lobby, credential, Member)
	var state RoomState
	if waits || !d.MayCreate || knocks {
		if state, no = ask("host inside"); no != nil {
			return d.refused(no)
		}
	}
	if waits || !d.MayCreate {
		mayEnter := state.Exists && (state.HostPresent || state.Opened && rule.outlastsHost() || !waits)
		t.hostInside(state, waits, mayEnter)
		if !mayEnter {
			return d.Waiting(ReasonHostAbsent)
		}
	} else {
		t.needNotWait()
	}

	// 9. A lobby that is at work decides about guests, and about members who do not pass it: without an affiliation they
	// knock.
	// 10. Everybody else becomes a member, guests too because the room is members-only, and never more.
	affiliation := Member
	if knocks {
		t.lobby(state)
		if state.lobbyAtWork() {
			affiliation, d.MayCreate = None, false
		}
	}
	if guest {
		return d.allowed(ReasonGuest, affiliation, t)
	}
	return d.allowed(ReasonMember, affiliation, t)
}

// guestRoom reports whether guests may open the room. A pattern matches only rooms without a tenant: it says nothing about a
// tenant's rooms.
func (a *Authorizer) guestRoom(room Room) bool {
	for _, pattern := range a.policy.GuestRooms {
		if ok, _ := path.Match(pattern, room.Name); ok && room.Tenant == "" {
			return true
		}
	}
	return false
}

// lobbyAtWork reports whether a person without an affiliation knocks at a lobby. A lobby ends with its room: the server makes
// the next room without one.
func (s RoomState) lobbyAtWork() bool { return s.Exists && s.Lobby }
