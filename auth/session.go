package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// sessionLife caps the life of a session, as Jicofo does (jicofo.authentication.authentication-lifetime).
const sessionLife = 24 * time.Hour

// maxMachine caps machine-uid in bytes, because the store keeps it. Jitsi's has 32. A client with a longer one gets no session.
const maxMachine = 256

// Session is what a session id stands for: the token, or the password, that once let somebody in. It never means more than that
// did: the same room, the same tenant, the same end, and only on the same machine.
type Session struct {
	// Machine is the machine-uid of the request that began the session.
	Machine string
	// VHost is the virtual host on which the token or the password counted, Issuer the issuer of the token there; empty
	// for a password.
	VHost, Issuer string
	// Room, Subject and Tenant are the claims as the token had them. For a password, Room is the requested room (Room.String) and
	// Subject its MUC service.
	Room, Subject, Tenant string
	// Affiliation is what the token or the password asked for, Identity the person.
	Affiliation Affiliation
	Identity    string
	// ByDefault says that the token asked for no affiliation: then the configured default of today counts.
	ByDefault bool
	// What the token said about the lobby; all are false if it said nothing. context.user.lobby_bypass was true (passes) or
	// false (knocks); context.room.lobby was true (on) or false (off).
	LobbyBypass, LobbyKnock, LobbyOn, LobbyOff bool
	// MaxOccupants, Ends and OneTime are how the token narrowed its right; zero if it did not. OneTime is also true if the issuer
	// said so.
	MaxOccupants int
	Ends         time.Time
	OneTime      bool
	// Features are context.features in JSON, with the names in order; empty if the token said nothing, or if an earlier version of
	// usher has written the session, which kept none.
	Features string `json:",omitempty"`
	// Token names the token, for the log.
	Token TokenRef
	// Proof names the token or the password.
	Proof Proof
	// Expires is when the session ends.
	Expires time.Time
}

// ErrNoSession means that no live session has the id.
var ErrNoSession = errors.New("no such session")

// Sessions finds sessions by their ids.
type Sessions interface {
	// Session returns the live session of the id. The error is ErrNoSession if there is none; any other error means that the
	// store cannot be asked now.
	Session(ctx context.Context, id string) (Session, error)
}

// session returns the live session that the request names, and the issuer of its token, nil if it came from a password. Whatever is wrong with it, the reason is ReasonSessionInvalid: the
// client then drops the id and asks again without it (lib-jitsi-meet modules/xmpp/moderator.js).
func (a *Authorizer) session(ctx context.Context, req Request, room Room, breakout bool, t *trace) (*Session, *Issuer, *refusal) {
	s, err := a.lookUp(ctx, req)
	var issuer *Issuer
	var wrong string
	switch {
	case errors.Is(err, ErrNoSession):
		wrong = "no live session has this id"
	case err != nil:
		t.session("no answer from the store", false)
		return nil, nil, &refusal{ReasonStoreUnavailable, err}
	case req.MachineUID == "" || subtle.ConstantTimeCompare([]byte(s.Machine), []byte(req.MachineUID)) == 0:
		wrong = "a session of another machine"
	case s.Affiliation != Member && !s.Affiliation.Host():
		wrong = "a session without an affiliation"
	default:
		issuer, wrong = a.backing(s)
	}
	byPassword := issuer == nil
	switch {
	case wrong != "":
	case byPassword && s.Proof.Account == "", !byPassword && s.Proof.Token == "":
		// usher has written down what a session came from only since there are revocations. Such a session could not be revoked.
		wrong = "a session of an earlier version of usher"
	case byPassword && !breakout && (s.Room != room.String() || s.Subject != room.Service()):
		wrong = "a session for another room"
	case !byPassword && issuer.OneTime && !s.OneTime:
		wrong = "a session by a token of an issuer with one_time now, which has not been used up"
	}
	if wrong != "" {
		t.session(wrong, false)
		return nil, nil, refuse(ReasonSessionInvalid, "session: "+wrong)
	}
	t.session("as expected", true)
	if byPassword {
		return s, nil, nil
	}
	s.Proof.Personal = issuer.personal(s.Proof, s.Tenant, room)
	if breakout {
		return s, issuer, nil
	}
	claims := token.Claims{Room: s.Room, Subject: s.Subject, Tenant: s.Tenant}
	if no := covers(issuer, &claims, room, s.VHost, t); no != nil {
		return nil, nil, &refusal{ReasonSessionInvalid, no.err}
	}
	if s.ByDefault {
		vhost := a.policy.VHosts[s.VHost]
		s.Affiliation, _, _ = requested(issuer, &token.Claims{}, &vhost) // which cannot fail
	}
	return s, issuer, nil
}

// backing returns the issuer of the token that the session came from, nil if it came from a password. wrong says why the token
// or the password no longer counts; it is empty if it does.
func (a *Authorizer) backing(s *Session) (_ *Issuer, wrong string) {
	vhost := a.policy.VHosts[s.VHost]
	i := slices.IndexFunc(vhost.Issuers, func(i Issuer) bool { return i.Name == s.Issuer })
	switch {
	case s.Issuer == "" && vhost.Kind != KindTrusted:
		return nil, "a session by a password, on a virtual host that is no longer trusted"
	case s.Issuer == "":
		return nil, ""
	case i < 0:
		return nil, "a session by a token of an issuer that is no longer configured"
	case !vhost.Issuers[i].Keys.Counts(s.Token.Key):
		return nil, "a session by a token that was signed with a secret or key which is no longer configured"
	}
	return &vhost.Issuers[i], ""
}

// lookUp returns the session with the request's id. If it is over the error is ErrNoSession.
func (a *Authorizer) lookUp(ctx context.Context, req Request) (*Session, error) {
	if a.policy.Sessions == nil {
		return nil, ErrNoSession
	}
	s, err := a.policy.Sessions.Session(ctx, req.SessionID)
	if err == nil && !req.At.Before(s.Expires) {
		err = ErrNoSession
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// ofToken returns the session of a verified token; d has the token's end.
func ofToken(req Request, i *Issuer, c *token.Claims, asked Affiliation, d Decision) *Session {
	is := func(claim *bool, value bool) bool { return claim != nil && *claim == value }
	s := &Session{
		Machine: req.MachineUID, VHost: req.From.Domainpart(), Issuer: i.Name,
		Room: c.Room, Subject: c.Subject, Tenant: c.Tenant,
		Affiliation: asked, Identity: d.Identity,
		ByDefault:   c.User.Affiliation == "" && c.User.Moderator == nil && c.Moderator == nil,
		LobbyBypass: is(c.User.LobbyBypass, true), LobbyKnock: is(c.User.LobbyBypass, false),
		LobbyOn: is(c.RoomLobby, true), LobbyOff: is(c.RoomLobby, false),
		MaxOccupants: c.MaxOccupants, Ends: c.RoomEnds, OneTime: d.OneTime,
		Features: written(d.Features),
		Token:    d.Token, Proof: d.Proof,
		Expires: earliest(req.At.Add(sessionLife), earliest(d.Expires, c.RoomEnds)),
	}
	s.Proof.Personal = false // which depends on the room
	return s
}

// ofPassword returns the session of a user who logged in with a password.
func ofPassword(req Request, room Room) *Session {
	return &Session{
		Machine: req.MachineUID, VHost: req.From.Domainpart(),
		Room: room.String(), Subject: room.Service(),
		Affiliation: Owner, Identity: req.From.Bare().String(),
		Proof:   Proof{VHost: req.From.Domainpart(), Account: req.From.Bare().String()},
		Expires: req.At.Add(sessionLife),
	}
}

// sessionOf returns the request's session id if that live session stands for the same as the credential. Otherwise it returns
// what a new session will stand for. It returns neither if no session is possible.
func (a *Authorizer) sessionOf(ctx context.Context, req Request, credential *Session) (id string, fresh *Session) {
	if a.policy.Sessions == nil || req.MachineUID == "" || len(req.MachineUID) > maxMachine {
		return "", nil
	}
	if req.SessionID != "" {
		if s, err := a.lookUp(ctx, req); err == nil && s.lastsAs(*credential, req.At) {
			return req.SessionID, nil
		}
	}
	return "", credential
}

// lastsAs reports whether a session stands for the same as a new one would, with the same end. A session that ends only because
// of sessionLife need not be renewed before that.
func (s Session) lastsAs(fresh Session, at time.Time) bool {
	if capped := fresh.Expires.Equal(at.Add(sessionLife)); !capped && !s.Expires.Equal(fresh.Expires) {
		return false
	}
	s.Expires = fresh.Expires
	return s == fresh
}
