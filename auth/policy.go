package auth

import (
	"context"
	"path"

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

// VHost is one virtual host of the server, and how people on it are treated.
type VHost struct {
	Kind Kind
	// AllowEmptyToken lets people without a token in as guests. For KindToken.
	AllowEmptyToken bool
	// DefaultAffiliation is what a valid token gets that asks for nothing, Owner or Member, unless its issuer maps the
	// affiliation: then it is Member.
	DefaultAffiliation Affiliation
	// Issuers are those whose tokens count here.
	Issuers []Issuer
}

// Policy is the configuration of the decision. It must not be changed once an Authorizer has it.
type Policy struct {
	// Services are the domains of the guarded MUC services.
	Services []string
	// VHosts are the virtual hosts by domain. Whoever comes from another domain is refused.
	VHosts map[string]VHost
	// WaitForHost says who waits; GuestsWait if empty.
	WaitForHost WaitForHost
	// GuestRooms are patterns (path.Match) of the names of rooms that guests may open without a host.
	GuestRooms []string
	// HostAffiliation is what hosts get: Owner, or Admin, who moderates but cannot change the room's configuration.
	// Owner if empty.
	HostAffiliation Affiliation
}

// decide holds the rules of admission. They are asked from top to bottom and the first that matches decides, so the order
// is part of the policy. Every rule tells t what it expected and found, and is silent otherwise: no rule sends, logs or
// remembers anything.
func (a *Authorizer) decide(ctx context.Context, req Request, look Look, t *trace) Decision {
	d := Decision{}

	// 1. The room is one of ours.
	room, err := a.parseRoom(req.Room)
	if err != nil || !a.services[room.Service()] {
		t.found("room", "a room on a guarded MUC service", req.Room, false)
		return d.Denied(ReasonRoomUnknown, err)
	}
	d.Room = room
	t.found("room", "a room on a guarded MUC service", req.Room, true)

	// 2. The sender's domain says what kind of person this is. The server stamped it.
	vhost, ok := a.policy.VHosts[req.From.Domainpart()]
	ok = ok && req.From.Localpart() != "" // a server is nobody to let in
	t.found("vhost", "a virtual host of the configuration", req.From.Domainpart(), ok)
	if !ok {
		return d.Denied(ReasonVHostUnknown, nil)
	}

	// 3. A token must be good. One that is not never counts as none: whoever shows a bad token is refused, not
	// let in as a guest.
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

	// 4. A session stands for the token it came from. This version gives none, so none is live.
	if claims == nil && req.SessionID != "" {
		t.found("session", "no session id, or one of a live session", "an unknown session id", false)
		return d.Denied(ReasonSessionInvalid, nil)
	}

	// 5. The token must be for this room.
	affiliation := None
	if claims != nil {
		if reason, err := covers(issuer, claims, room, req.From.Domainpart(), t); reason != "" {
			return d.Denied(reason, err)
		}
		if affiliation, err = requested(issuer, claims, vhost.DefaultAffiliation); err != nil {
			t.found("affiliation", "owner, admin or member", "something else", false)
			return d.Denied(ReasonTokenClaims, err)
		}
		t.found("affiliation", "owner, admin or member", string(affiliation), true)
		d.Identity = claims.User.ID
	}

	// 6. Without a token, the virtual host says who this is.
	guest := false
	if claims == nil {
		switch {
		case vhost.Kind == KindTrusted:
			affiliation = Owner
			d.Identity = req.From.Bare().String()
			t.found("nothing shown", "a token, or a virtual host that needs none", "trusted: a host", true)
		case vhost.Kind == KindService:
			t.found("nothing shown", "a token, or a virtual host that needs none", "service: let in", true)
			return d.allowed(ReasonService, Member)
		case vhost.Kind == KindGuest || vhost.AllowEmptyToken:
			guest = true
			t.found("nothing shown", "a token, or a virtual host that needs none", "a guest", true)
		default:
			t.found("nothing shown", "a token, or a virtual host that needs none", "no token", false)
			return d.Denied(ReasonTokenRequired, nil)
		}
	}

	// 7. A host enters, and opens the room if need be.
	if affiliation.Host() {
		d.MayCreate = true
		if affiliation == Owner {
			affiliation = a.policy.HostAffiliation
		}
		t.found("host", "owner or admin", string(affiliation), true)
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
	if waits || !d.MayCreate {
		state, err := look(ctx, room)
		if err != nil {
			t.found("host inside", "an answer from the room", "none", false)
			return d.Denied(ReasonRoomUnavailable, err)
		}
		if ok := state.Exists && (state.HostPresent || !waits); !ok {
			t.found("host inside", state.expected(waits), state.String(), false)
			return d.Waiting(ReasonHostAbsent)
		}
		t.found("host inside", state.expected(waits), state.String(), true)
	} else {
		t.found("host inside", "nothing: this person need not wait", "", true)
	}

	// 9. (A room with a lobby will let the lobby decide about guests.)

	// 10. Guests become members, too, because the room is members-only, and never more.
	if guest {
		return d.allowed(ReasonGuest, Member)
	}
	return d.allowed(ReasonMember, Member)
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
