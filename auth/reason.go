package auth

//go:generate go test -run ^TestReadme$ . -update

// Reason says why a request was decided as it was. The list is closed: it is the log field, the metric label and the
// code in the answer to the client, so operators search and count by it.
type Reason string

const (
	ReasonHost     Reason = "host"
	ReasonMember   Reason = "member"
	ReasonGuest    Reason = "guest"
	ReasonService  Reason = "service"
	ReasonBreakout Reason = "breakout"

	ReasonHostAbsent Reason = "host-absent"

	ReasonRoomUnknown      Reason = "room-unknown"
	ReasonVHostUnknown     Reason = "vhost-unknown"
	ReasonTokenMalformed   Reason = "token-malformed"
	ReasonTokenIssuer      Reason = "token-issuer"
	ReasonTokenAlgorithm   Reason = "token-algorithm"
	ReasonTokenSignature   Reason = "token-signature"
	ReasonTokenClaims      Reason = "token-claims"
	ReasonTokenExpired     Reason = "token-expired"
	ReasonTokenNotYetValid Reason = "token-not-yet-valid"
	ReasonTokenAudience    Reason = "token-audience"
	ReasonKeysUnavailable  Reason = "keys-unavailable"
	ReasonSessionInvalid   Reason = "session-invalid"
	ReasonRoomMismatch     Reason = "room-mismatch"
	ReasonTenantMismatch   Reason = "tenant-mismatch"
	ReasonTokenRequired    Reason = "token-required"
	ReasonRoomRemoved      Reason = "room-removed"
	ReasonBanned           Reason = "banned"
	ReasonTokenRevoked     Reason = "token-revoked"
	ReasonTokenUsed        Reason = "token-used"
	ReasonBarred           Reason = "barred"
	ReasonRoomFull         Reason = "room-full"
	ReasonRoomClosed       Reason = "room-closed"
	ReasonRoomLocked       Reason = "room-locked"

	ReasonRequestMalformed Reason = "request-malformed"
	ReasonTooManyRequests  Reason = "too-many-requests"
	ReasonRoomUnavailable  Reason = "room-unavailable"
	ReasonFocusUnavailable Reason = "focus-unavailable"
	ReasonFocusRefused     Reason = "focus-refused"
	ReasonStoreUnavailable Reason = "store-unavailable"
	ReasonStopping         Reason = "stopping"
)

// Outcome is what the client is told, and so what it does next. The door through which the request came turns it into an
// answer: for XMPP, component/focus.
type Outcome uint8

const (
	// Refused: the client shows the reason's text and stops.
	Refused Outcome = iota
	// Joins: the client enters the room.
	Joins
	// NotReady: the client asks again by itself after a short while and shows nothing.
	NotReady
	// WaitsForHost: the client says that it waits for the host, and asks again every few seconds.
	WaitsForHost
	// NeedsLogin: as WaitsForHost, because the login is offered there. Where there is no login it is Refused: otherwise the
	// client would wait for ever, in the middle of a conference.
	NeedsLogin
	// SessionOver: the client drops its session id and asks again without it.
	SessionOver
	// RoomGone: the client offers to join again, which leads to the main room.
	RoomGone
	// BadRequest: the client stops.
	BadRequest
	// SlowDown: the client stops; the person may try again later.
	SlowDown
	// FocusError: the client does what Jicofo's own error makes it do.
	FocusError
)

// AsksAgain reports whether a client with this outcome repeats its request as it is, without being asked by the person.
func (o Outcome) AsksAgain() bool { return o == NotReady || o == WaitsForHost || o == NeedsLogin }

// Class groups reasons for metrics, by what an operator would look at first.
type Class string

const (
	ClassAdmitted Class = "admitted" // somebody was let in
	ClassPerson   Class = "person"   // who the sender is, or is not
	ClassToken    Class = "token"    // the token, or the room that it is for
	ClassRoom     Class = "room"     // the room: its name, or who is inside
	ClassRequest  Class = "request"  // the stanza
	ClassLoad     Class = "load"     // too many requests
	ClassServer   Class = "server"   // Prosody, Jicofo, a key server, the store or usher
)

// Level is how loudly a decision is logged.
type Level uint8

const (
	// LevelInfo: the decision is part of normal operation.
	LevelInfo Level = iota
	// LevelWarn: something that the decision needs does not work; an operator should look at it.
	LevelWarn
)

// ReasonRow is one row of the table of reasons. A door, a log and a metric read from it what they need, and none of them
// has a list of reasons of its own.
type ReasonRow struct {
	Reason  Reason
	Verdict Verdict // the verdict that the reason goes with
	Outcome Outcome // what the client is told
	Class   Class
	Level   Level
	// Doc tells an operator what happened.
	Doc string
	// Do tells an operator what to do about it; empty where nothing is to be done.
	Do string
	// Text tells the person at the door, in words. It contains no claim values.
	Text string
}

// Reasons is the table: the closed list of reasons, with all that is said or done about each. It must not be changed. The rows
// have no field names, so that the compiler refuses a row with a column missing; TestReasons names a reason without a row.
var Reasons = []ReasonRow{
	{ReasonHost, Allow, Joins, ClassAdmitted, LevelInfo,
		"Let in as a host: owner or admin by token, or a user of a trusted virtual host.", "", "Welcome."},
	{ReasonMember, Allow, Joins, ClassAdmitted, LevelInfo,
		"Let in as a member by token.", "", "Welcome."},
	{ReasonGuest, Allow, Joins, ClassAdmitted, LevelInfo,
		"Let in as a guest, without a token.", "", "Welcome."},
	{ReasonService, Allow, Joins, ClassAdmitted, LevelInfo,
		"Let in as a recorder, gateway or other client of a service virtual host.", "", "Welcome."},
	{ReasonBreakout, Allow, Joins, ClassAdmitted, LevelInfo,
		"Let into a breakout room, by a grant in the main room.", "", "Welcome."},

	{ReasonHostAbsent, Wait, WaitsForHost, ClassRoom, LevelInfo,
		"Has to wait: no host is inside, or the room is not open yet.",
		"Nothing: a host opens the room. `rooms.wait_for_host` says who waits, `rooms.guest_rooms` where nobody does.",
		"The conference has not started yet because no host has arrived."},

	{ReasonRoomUnknown, Deny, Refused, ClassRoom, LevelInfo,
		"The room's address is malformed or not on a MUC service of rooms.services.",
		"Compare the room in the log with `rooms.services` and `rooms.breakout`.",
		"There is no such room here."},
	{ReasonVHostUnknown, Deny, Refused, ClassPerson, LevelInfo,
		"The sender's domain is not under vhosts in the configuration.",
		"Name the domain under `vhosts` if its people shall enter.",
		"People from your server are not admitted here."},
	{ReasonTokenMalformed, Deny, Refused, ClassToken, LevelInfo,
		"The token is not a well-formed compact JWS with strict JSON, or over 8 kB.",
		"Ask the issuer to mend what `usher token explain` shows; see that no link is cut off.",
		"Your invitation cannot be read. Please ask for a new link."},
	{ReasonTokenIssuer, Deny, Refused, ClassToken, LevelInfo,
		"No issuer of this virtual host accepts the token's iss.",
		"Compare `iss` with `app_id` and `accepted_issuers` of the virtual host.",
		"This server does not know who issued your invitation."},
	{ReasonTokenAlgorithm, Deny, Refused, ClassToken, LevelInfo,
		"The token's alg is not one that the configuration allows for its issuer.",
		"Add it to `algorithms` of the issuer if the issuer means to sign so.",
		"Your invitation is signed in a way that this server does not accept."},
	{ReasonTokenSignature, Deny, Refused, ClassToken, LevelInfo,
		"No key of the issuer verifies the token's signature.",
		"Compare the secret or the keys on both sides, and the `kid` in the log with the keys' names.",
		"Your invitation is not genuine, or was signed with an old key. Please ask for a new link."},
	{ReasonTokenClaims, Deny, Refused, ClassToken, LevelInfo,
		"A claim that decides something has a wrong type or value, or a required one is missing.",
		"Ask the issuer to mend the claim that the log names, or see `claims`, `require_room` and `require_exp`.",
		"Your invitation is incomplete or contradicts itself. Please ask for a new link."},
	{ReasonTokenExpired, Deny, Refused, ClassToken, LevelInfo,
		"The token's exp has passed, leeway included, or its context.room.ends.",
		"Nothing, for an old link. For new ones, compare the clocks, or have the issuer give them a longer life.",
		"Your invitation has expired. Please ask for a new link."},
	{ReasonTokenNotYetValid, Deny, Refused, ClassToken, LevelInfo,
		"The token's nbf lies in the future, leeway included, or its iat by more than a day.",
		"Compare the clocks of the issuer and of usher.",
		"Your invitation is not valid yet. Please come back later."},
	{ReasonTokenAudience, Deny, Refused, ClassToken, LevelInfo,
		"The token's aud names none of the accepted audiences.",
		"Compare `aud` with `accepted_audiences` of the issuer.",
		"Your invitation was made for another service."},
	{ReasonKeysUnavailable, Deny, NotReady, ClassServer, LevelWarn,
		"The issuer's keys could not be fetched, so nothing could be verified.",
		"See that usher reaches the key server; the log has its address and the error.",
		"Your invitation cannot be verified at the moment."},
	{ReasonSessionInvalid, Deny, SessionOver, ClassPerson, LevelInfo,
		"The session id is unknown, over, of another machine or for another room, or no longer backed by the configuration.",
		"Nothing: the client asks again without the session.",
		"Your session is over."},
	{ReasonRoomMismatch, Deny, Refused, ClassToken, LevelInfo,
		"The token's room claim does not cover this room, or a breakout room belongs to no room that the sender was let into.",
		"Nothing, for a link to another room. Otherwise compare the token's `room` with the room in the log.",
		"Your invitation is for another room."},
	{ReasonTenantMismatch, Deny, Refused, ClassToken, LevelInfo,
		"The token's sub is neither this domain or tenant nor *, or the room is not of the issuer's tenant.",
		"Compare `sub` with the domain or tenant; see `domain_verification` and `tenant` of the issuer.",
		"Your invitation is for another organisation."},
	{ReasonTokenRequired, Deny, NeedsLogin, ClassPerson, LevelInfo,
		"No token, and the virtual host does not let people in without one.",
		"Nothing, or set `allow_empty_token`. Set `login: none` if nobody can log in.",
		"You need an invitation or a login for this room."},
	{ReasonRoomRemoved, Deny, RoomGone, ClassRoom, LevelInfo,
		"A breakout room that a moderator has removed, or that never was.",
		"Nothing.",
		"This breakout room is not there any more."},
	{ReasonBanned, Deny, Refused, ClassPerson, LevelInfo,
		"An owner or admin inside has banned the sender from the room.",
		"Nothing: an owner of the room can lift the ban.",
		"You have been removed from this conference."},
	{ReasonTokenRevoked, Deny, Refused, ClassToken, LevelInfo,
		"The token was taken back with usher revoke.",
		"Nothing; `usher revocations` lists what was taken back.",
		"Your invitation has been withdrawn."},
	{ReasonTokenUsed, Deny, Refused, ClassToken, LevelInfo,
		"A one-time token that has let in another machine, or a token or person in the room already where token_reuse is refuse.",
		"Nothing, or see `one_time` and `token_reuse` of the issuer.",
		"Your invitation has been used already. Please ask for a new link."},
	{ReasonBarred, Deny, Refused, ClassPerson, LevelInfo,
		"A moderator has removed the person from the room, and rooms.after_kick keeps them out.",
		"Nothing: the bar ends by itself; see `rooms.after_kick`.",
		"You have been removed from this conference and cannot come back now."},
	{ReasonRoomFull, Deny, Refused, ClassRoom, LevelInfo,
		"The room has as many people as max_occupants of its rule, or of the token, allows.",
		"Nothing, or raise `max_occupants` of the rule; hosts always enter.",
		"This room is full. Please come back later."},
	{ReasonRoomClosed, Deny, Refused, ClassRoom, LevelInfo,
		"The room is closed now, by hours of its rule.",
		"Nothing, or see `hours` of the rule; `usher rules explain` says which rule fits.",
		"This room is closed at the moment."},
	{ReasonRoomLocked, Deny, Refused, ClassRoom, LevelInfo,
		"An operator has locked the room, and lets in hosts only.",
		"Nothing: it is locked until it ends, or is unlocked with the API.",
		"This room is locked. Ask the host to open it."},

	{ReasonRequestMalformed, Deny, BadRequest, ClassRequest, LevelInfo,
		"The stanza is not a well-formed conference request, or too large or too deep.",
		"Mend the client, if it is yours.",
		"The request was not understood."},
	{ReasonTooManyRequests, Deny, SlowDown, ClassLoad, LevelInfo,
		"The sender asks faster than usher answers.",
		"See who asks so often; the log names the sender.",
		"Too many requests at once. Please wait a moment."},
	{ReasonRoomUnavailable, Deny, NotReady, ClassServer, LevelWarn,
		"Prosody did not do what makes the decision true in the room.",
		"Run `usher doctor`; the log has Prosody's error.",
		"The room cannot be opened at the moment."},
	{ReasonFocusUnavailable, Deny, NotReady, ClassServer, LevelWarn,
		"No Jicofo is online, none answered in time, or it is not ready yet.",
		"See that Jicofo runs and is connected, and that `jicofo.jid` is its address.",
		"The conference cannot be started at the moment."},
	{ReasonFocusRefused, Deny, FocusError, ClassServer, LevelWarn,
		"Jicofo refused a request that usher had admitted; the client gets Jicofo's error.",
		"Look into Jicofo's log; its own authentication must be off.",
		"The conference could not be started."},
	{ReasonStoreUnavailable, Deny, NotReady, ClassServer, LevelWarn,
		"Sessions, grants or held requests could not be read or written, so nobody new is admitted.",
		"See that the store's disk has room and can be written; the log has the error.",
		"You cannot be let in at the moment."},
	// Not NotReady: such a client asks again in a second, and while no usher is connected Prosody answers it with
	// remote-server-timeout, after which it never asks again (lib-jitsi-meet modules/xmpp/moderator.js).
	{ReasonStopping, Deny, WaitsForHost, ClassServer, LevelInfo,
		"usher is stopping, or was restarted, before it had decided; the client asks again.",
		"Nothing.",
		"The service is restarting."},
}

var reasonRows = func() map[Reason]ReasonRow {
	m := make(map[Reason]ReasonRow, len(Reasons))
	for _, row := range Reasons {
		m[row.Reason] = row
	}
	return m
}()

// Row returns the reason's row of the table. A Reason that is not in the table refuses, with a general text.
func (r Reason) Row() ReasonRow {
	if row, ok := reasonRows[r]; ok {
		return row
	}
	return ReasonRow{Reason: r, Verdict: Deny, Outcome: Refused, Level: LevelInfo, Text: "You cannot enter this room."}
}

// Text returns the sentence for the person.
func (r Reason) Text() string { return r.Row().Text }

// Doc returns the sentence for the operator, or "" for a Reason that is not in the table.
func (r Reason) Doc() string { return r.Row().Doc }
