package auth

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Kind is what a virtual host says about the people on it.
type Kind string

const (
	// KindToken: people show a token, or come in as guests if AllowEmptyToken says so.
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

// Login is a way to get in for somebody who needs a token and has none.
type Login string

const (
	LoginNone     Login = "none"     // there is none
	LoginPassword Login = "password" // an account, whose password the client asks for
	LoginURL      Login = "url"      // a page that gives tokens
)

// VHost is one virtual host of the server, and how people on it are treated.
type VHost struct {
	Kind Kind
	// AllowEmptyToken lets people without a token in as guests. For KindToken.
	AllowEmptyToken bool
	// DefaultAffiliation is what a valid token gets that asks for nothing, Owner or Member, unless its issuer has a default of
	// its own or maps the affiliation: then it is Member.
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
	// Sessions finds the sessions that were given; if it is nil none is live and none is given.
	Sessions Sessions
	// Breakout is the domain of the breakout service, empty if there is none.
	Breakout string
	// Lobby tells that there is a lobby service.
	Lobby bool
	// LobbyBypass are those who pass a lobby that is at work: Owner, which stands for admins, too, and Member. What a
	// token says goes before it.
	LobbyBypass []Affiliation
	// Login is the login that can be offered to those who need a token and have none; empty if it is not known, which counts
	// as one.
	Login Login
	// LobbyAutostart has hosts turn the lobby on as they come, unless their token says otherwise.
	LobbyAutostart bool
}

// decide holds the rules of admission. They are asked from top to bottom and the first that matches decides, so the order
// is part of the policy. Every rule tells t what it expected and found, and is silent otherwise: no rule sends, logs or
// remembers anything.
func (a *Authorizer) decide(ctx context.Context, req Request, look Look, t *trace) Decision {
	d := Decision{NoLogin: a.NoLogin()}

	// 1. The room is one of ours.
	room, err := a.parseRoom(req.Room)
	breakout := a.IsBreakout(room)
	ours := err == nil && (breakout || a.services[room.Service()])
	t.found("room", a.ours(), req.Room, ours)
	if !ours {
		return d.Denied(ReasonRoomUnknown, err)
	}
	d.Room = room

	// 2. The sender's domain says what kind of person this is. The server stamped it.
	vhost, ok := a.policy.VHosts[req.From.Domainpart()]
	ok = ok && req.From.Localpart() != "" // a server is nobody to let in
	t.found("vhost", "a virtual host of the configuration", req.From.Domainpart(), ok)
	if !ok {
		return d.Denied(ReasonVHostUnknown, nil)
	}

	// 3. A token must be good. A bad token is refused; it never counts as no token,
	// so its bearer is not let in as a guest.
	var issuer *Issuer
	var claims *token.Claims
	if req.Token != "" && len(vhost.Issuers) > 0 {
		var reason Reason
		issuer, claims, reason, err = a.verify(ctx, &d, req, vhost.Issuers, t)
		if reason != "" {
			return d.Denied(reason, err)
		}
	} else if req.Token != "" {
		t.found("token", "nothing: this virtual host has no issuers", "a token, not looked at", true)
	}

	// 4. A session stands for the token or the password that it came from, on whichever virtual host it is shown: in
	// Jitsi's role upgrade (lib-jitsi-meet authenticateAndUpgradeRole) a second connection logs in and gets it, and the
	// guest's own connection shows it. Where a token is shown beside it, the token decides. What records or dials in for
	// others is what its virtual host says, and no session makes it a host.
	var credential *Session
	switch {
	case req.SessionID == "":
	case claims != nil:
		t.found("session", "nothing: the token decides", "a session id beside a token", true)
	case vhost.Kind == KindService:
		t.found("session", "nothing: this virtual host says all", "a session id, not looked at", true)
	default:
		var reason Reason
		credential, reason, err = a.session(ctx, req, room, breakout, t)
		if reason != "" {
			return d.Denied(reason, err)
		}
		d.Identity, d.Expires, d.Token = credential.Identity, credential.Expires, credential.Token
		d.SessionID = req.SessionID
	}

	// 5. The token must be for this room. A breakout room's name is a random UUID, which no token names: what counts
	// is a right to one of the main rooms.
	if claims != nil {
		if !breakout {
			if reason, err := covers(issuer, claims, room, req.From.Domainpart(), t); reason != "" {
				return d.Denied(reason, err)
			}
		}
		affiliation, by, err := requested(issuer, claims, &vhost)
		if err != nil {
			t.found("affiliation", "owner, admin or member", describe(err), false)
			return d.Denied(ReasonTokenClaims, err)
		}
		t.affiliation(affiliation, by)
		d.Identity = claims.User.ID
		credential = ofToken(req, issuer, claims, affiliation, d)
	}
	if breakout {
		state, err := look(ctx, req, room)
		if err != nil {
			t.found("breakout room", "an answer from the room", "none", false)
			return d.Denied(ReasonRoomUnavailable, err)
		}
		t.found("breakout room", "a person who was let into a main room", state.held(), state.HasGrant)
		if !state.HasGrant {
			return d.Denied(ReasonRoomMismatch, errors.New("breakout room: the sender holds no grant in a main room"))
		}
		d.Breakout = true
		return d.allowed(ReasonBreakout, None)
	}

	// 6. Without a token, the virtual host says who this is. A password decides as a token does, whatever the session
	// is that comes with it.
	guest := false
	switch {
	case claims != nil:
	case vhost.Kind == KindTrusted:
		d.Identity, d.Expires, d.Token, d.SessionID = req.From.Bare().String(), time.Time{}, TokenRef{}, ""
		credential = ofPassword(req, room)
		t.found("nothing shown", "a token, or a virtual host that needs none", "trusted: a host", true)
	case credential != nil:
	case vhost.Kind == KindService:
		t.found("nothing shown", "a token, or a virtual host that needs none", "service: let in", true)
		// A recorder opens no room, neither here nor by way of Jicofo.
		state, err := look(ctx, req, room)
		if err != nil {
			t.found("room open", "an answer from the room", "none", false)
			return d.Denied(ReasonRoomUnavailable, err)
		}
		t.found("room open", state.expected(false), state.String(), state.Exists)
		if !state.Exists {
			return d.Waiting(ReasonHostAbsent)
		}
		return d.allowed(ReasonService, Member)
	case vhost.Kind == KindGuest || vhost.AllowEmptyToken:
		guest = true
		t.found("nothing shown", "a token, or a virtual host that needs none", "a guest", true)
	default:
		t.found("nothing shown", "a token, or a virtual host that needs none", "no token", false)
		return d.Denied(ReasonTokenRequired, nil)
	}
	if credential != nil && d.SessionID == "" {
		d.SessionID, d.Session = a.sessionOf(ctx, req, credential)
	}

	// 7. A host enters, and opens the room if need be. A lobby may have hosts knock, but only if there is one inside to
	// open to them.
	if !guest && credential.Affiliation.Host() {
		affiliation := credential.Affiliation
		if affiliation == Owner {
			affiliation = a.policy.HostAffiliation
		}
		t.found("host", "owner or admin", string(affiliation), true)
		if a.knocks(credential, Owner) {
			state, err := look(ctx, req, room)
			if err != nil {
				t.found("lobby", "an answer from the room", "none", false)
				return d.Denied(ReasonRoomUnavailable, err)
			}
			t.found("lobby", "no lobby, or nobody inside to open", state.lobby(), true)
			if state.lobbyAtWork() && state.HostPresent {
				d.NeedsHost = true
				return d.allowed(ReasonHost, None)
			}
		}
		d.MayCreate = true
		d.StartLobby = a.policy.Lobby && (credential.LobbyOn || a.policy.LobbyAutostart && !credential.LobbyOff)
		return d.allowed(ReasonHost, affiliation)
	}

	// 8. Everybody else needs a host inside, as far as wait_for_host says. A guest opens no room but those that
	// are meant for guests.
	waits := a.policy.WaitForHost == MembersWait || guest && a.policy.WaitForHost == GuestsWait
	d.MayCreate = !waits && !guest
	if a.guestRoom(room) {
		waits, d.MayCreate = false, true
	}
	d.NeedsHost = waits
	knocks := a.knocks(credential, Member)
	var state RoomState
	if waits || !d.MayCreate || knocks {
		if state, err = look(ctx, req, room); err != nil {
			t.found("host inside", "an answer from the room", "none", false)
			return d.Denied(ReasonRoomUnavailable, err)
		}
	}
	if waits || !d.MayCreate {
		ok := state.Exists && (state.HostPresent || !waits)
		t.found("host inside", state.expected(waits), state.String(), ok)
		if !ok {
			return d.Waiting(ReasonHostAbsent)
		}
	} else {
		t.found("host inside", "nothing: this person need not wait", "", true)
	}

	// 9. A lobby that is at work decides about guests, and about members who do not pass it: without an affiliation they
	// knock.
	// 10. Guests become members, too, because the room is members-only, and never more.
	affiliation := Member
	if knocks {
		t.found("lobby", "the lobby to decide, if one is at work", state.lobby(), true)
		if state.lobbyAtWork() {
			affiliation, d.MayCreate = None, false
		}
	}
	if guest {
		return d.allowed(ReasonGuest, affiliation)
	}
	return d.allowed(ReasonMember, affiliation)
}

// ours says in words which rooms are ours.
func (a *Authorizer) ours() string {
	if a.policy.Breakout != "" {
		return "a room on a guarded MUC service or the breakout service"
	}
	return "a room on a guarded MUC service"
}

// knocks reports whether a lobby that is at work holds this person up, who would enter as Owner or as Member; nil is a
// guest. What an issuer says goes before what the policy says, and a no is meant as much as a yes.
func (a *Authorizer) knocks(credential *Session, as Affiliation) bool {
	switch {
	case !a.policy.Lobby:
		return false
	case credential == nil || credential.LobbyKnock:
		return true
	default:
		return !credential.LobbyBypass && !slices.Contains(a.policy.LobbyBypass, as)
	}
}

// guestRoom reports whether guests may open the room. Only rooms without a tenant are meant: a pattern says nothing of
// other people's rooms.
func (a *Authorizer) guestRoom(room Room) bool {
	for _, pattern := range a.policy.GuestRooms {
		if ok, _ := path.Match(pattern, room.Name); ok && room.Tenant == "" {
			return true
		}
	}
	return false
}

func (s RoomState) expected(needsHost bool) string {
	if needsHost {
		return "a host in the room"
	}
	return "a room that somebody opened"
}

// String says what the state is in words, for explanations.
func (s RoomState) String() string {
	switch {
	case !s.Exists:
		return "the room is not open"
	case s.HostPresent:
		return "a host is inside"
	default:
		return "the room is open, no host is inside"
	}
}

// lobbyAtWork reports whether a person without an affiliation knocks at a lobby. The lobby of a room that has ended is none: the
// server makes the next room without.
func (s RoomState) lobbyAtWork() bool { return s.Exists && s.Lobby }

func (s RoomState) lobby() string {
	if !s.lobbyAtWork() {
		return "no lobby at work"
	}
	if s.HostPresent {
		return "a lobby at work, a host is inside"
	}
	return "a lobby at work, no host is inside"
}

func (s RoomState) held() string {
	if s.HasGrant {
		return "a grant in a main room"
	}
	return "no grant in any main room"
}
