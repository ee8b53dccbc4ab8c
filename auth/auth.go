package auth

import (
	"cmp"
	"context"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Request is one person's wish to enter one room: what the conference IQ said, and its sender.
type Request struct {
	// At is the time of the decision. Nothing in this package asks a clock.
	At time.Time
	// From is the sender's full JID as the server stamped it, never anything that the client wrote itself.
	From jid.JID
	// Room is the room's address as the client wrote it: not yet parsed, not yet trusted.
	Room string
	// Token is the compact JWS, or empty.
	Token string
	// SessionID is the session that an earlier admission was given, or empty.
	SessionID string
	// MachineUID is what the client calls its machine. Only a session is bound to it.
	MachineUID string
	// Locked says that an operator has locked the room. Only hosts enter it.
	Locked bool
}

// RoomState is what the rules need to know of a room at the time of the decision.
type RoomState struct {
	// Exists says whether somebody has opened the room.
	Exists bool
	// HostPresent says whether a host is inside: a moderator who is neither usher itself nor the focus, of a virtual host
	// that is not for services; see [Authorizer.CountsAsHost]. A host in a breakout room is also inside its main room. A host
	// who left is gone.
	HostPresent bool
	// Lobby says whether a lobby is at work for the room. The rules read it only if the policy has a lobby.
	Lobby bool
	// HasGrant says, of a breakout room, whether the sender holds a live grant in some main room.
	HasGrant bool
	// Opened says that a host has been inside this conference, and that newcomers are still let in although none is now: as long as
	// the conference lasts (LeftKeep), or until RoomRule.HostGrace is over (LeftLock). The rules read it only there.
	Opened bool
	// First says that somebody is host by FirstToken, inside, on the way, or expected back; IsFirst says that this is the sender,
	// or somebody at the sender's machine.
	First, IsFirst bool
}

// Look asks the room for its state, on behalf of the sender. Authorize calls it at most once, and only if a rule depends on it,
// so that a host without a lobby in the way costs no question. An error means that the room could not be asked now; nobody is
// let in on a guess.
type Look func(ctx context.Context, req Request, room Room) (RoomState, error)

// Verdict is the outcome of a decision. The zero value is Deny.
type Verdict uint8

const (
	// Deny means no. Asking again does not help until something changes.
	Deny Verdict = iota
	// Wait means not yet: the person may ask again and will be let in once a host is inside.
	Wait
	// Allow means yes, with the affiliation in the decision.
	Allow
)

// String returns the word that logs, labels and explanations use.
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Wait:
		return "wait"
	default:
		return "deny"
	}
}

// Affiliation is one of the affiliations of XEP-0045 §5.2 that usher gives. The zero value is none.
type Affiliation string

const (
	None   Affiliation = ""
	Member Affiliation = "member"
	Admin  Affiliation = "admin"
	Owner  Affiliation = "owner"
)

// Host reports whether the affiliation makes a host: a host may open a room, and guests wait until one is inside.
func (a Affiliation) Host() bool { return a == Owner || a == Admin }

// Decision is all that follows from a request. Its zero value denies. It is a value: nothing has been sent, set or
// logged when it is returned.
type Decision struct {
	Verdict Verdict
	// Reason is why, from the closed list in reason.go. The log, the metrics and the client get it.
	Reason Reason
	// Err is the detail for the log, never for the client. It holds no token and no claim values but an unknown affiliation,
	// cut and cleaned.
	Err error
	// Notes are for the log: what is odd about the token and decided nothing. They hold no claim values.
	Notes []string

	// Room is the room in canonical form; zero if the address was refused.
	Room Room
	// Affiliation is what the person must have in the room before the answer leaves, if allowed. None gives nothing and
	// takes nothing away: the lobby decides, or the main room of a breakout room, and people let in by a moderator stay.
	Affiliation Affiliation
	// MayCreate says whether the room is created for this person if it does not exist. It is false for breakout rooms: Jicofo
	// creates them, and the server lets it create only those that the main room knows.
	MayCreate bool
	// NeedsHost says that the person is let in only because a host is inside: the caller takes the right back if the host has
	// left in between.
	NeedsHost bool
	// Breakout says that the room is a breakout room. The caller makes sure that the room names a main room in which the
	// sender holds a grant; the rules know only that the sender holds one somewhere.
	Breakout bool
	// StartLobby says that a host wants the lobby of the room on.
	StartLobby bool
	// SessionID is the live session that stands for the person's token or password; empty if there is none. The client gets it.
	SessionID string
	// Session is what a new session would stand for. It is nil if no new session is given: the person has one, is a guest or
	// a service, asks for a breakout room or does not name the machine, or sessions are off.
	Session *Session
	// Identity names the person to the client's own user interface: the token's user id, or the bare JID of a user who logged
	// in with a password. Empty for guests.
	Identity string
	// Expires is when the right ends because the token or the session does, leeway included; zero if it does not end.
	Expires time.Time
	// Token names the token, for the log.
	Token TokenRef
	// Features are what the person may do inside beside talking, as far as Jitsi's plugins refuse it: what the token, or the session's
	// token, said and the room's rule leaves. Nil means that neither says anything: then the role decides, in Jitsi's plugins. User
	// has the token's id, name, email, avatar and hidden-from-recorder, and Group its group, where it said them in texts that can be sent on; a session
	// has neither. All are zero for a breakout room, where what the main room has set stays. The map must not be changed.
	Features map[string]bool
	User     token.User
	Group    string
	// NoLogin says that there is no login to offer to somebody who needs a token and has none.
	NoLogin bool
	// Text is what the person reads instead of the reason's text; empty if the reason says it all. See Told.
	Text string

	// Proof names what let the person in; zero for guests and services.
	Proof Proof
	// RemoveAt is when the person is put out of the room because the right has ended; zero if they stay.
	RemoveAt time.Time
	// OneTime says that the token lets in one machine. The caller uses it up for the request's machine before it gives anything.
	// Proof.VHost, Issuer and ID name the token, and until Expires nobody else may use it. A session has used its token up.
	OneTime bool
	// Reuse says what happens if the same is in the room already, ReuseOf what counts as the same. Empty means ReuseAllow.
	Reuse   Reuse
	ReuseOf ReuseOf
	// Rule is what holds in the room for this person; zero for a breakout room.
	Rule RoomRule
	// Ends is when the room ends because the token of this host says so; zero if it says nothing.
	Ends time.Time
	// FirstHost says that the person is host only because no host is inside. The caller makes sure that only one becomes host so.
	FirstHost bool
}

// Told returns what the person reads.
func (d Decision) Told() string { return cmp.Or(d.Text, d.Reason.Text()) }

// Outcome returns what the client is told. Only the verdict opens the door, whatever the reason is.
func (d Decision) Outcome() Outcome {
	switch o := d.Reason.Row().Outcome; {
	case d.Verdict == Allow:
		return Joins
	case o == Joins, o == NeedsLogin && d.NoLogin:
		return Refused
	default:
		return o
	}
}

// Denied returns the decision turned into a refusal. The caller uses it when the room does not take the right.
func (d Decision) Denied(r Reason, err error) Decision {
	d.Verdict, d.Reason, d.Err = Deny, r, err
	d.Affiliation, d.MayCreate, d.NeedsHost = None, false, false
	d.Breakout, d.StartLobby, d.SessionID, d.Session = false, false, "", nil
	d.Text, d.RemoveAt, d.Ends = "", time.Time{}, time.Time{}
	d.OneTime, d.FirstHost, d.Reuse, d.ReuseOf = false, false, "", ""
	d.unsaid()
	return d
}

// Waiting returns the decision turned into "not yet".
func (d Decision) Waiting(r Reason) Decision {
	d = d.Denied(r, nil)
	d.Verdict = Wait
	return d
}

func (d Decision) allowed(r Reason, a Affiliation, t *trace) Decision {
	d.Verdict, d.Reason, d.Affiliation = Allow, r, a
	d.Features = d.Rule.narrow(d.Features, a.Host())
	t.features(d)
	return d
}

// TokenRef names a token without giving it away. Its texts are as token.ForLog returns them.
type TokenRef struct {
	Issuer string // iss, once the signature has been verified
	ID     string // jti
	KeyID  string // kid
	Key    string // the Origin of the key that verified it
}
