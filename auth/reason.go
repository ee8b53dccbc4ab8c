package auth

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

	ReasonRequestMalformed Reason = "request-malformed"
	ReasonTooManyRequests  Reason = "too-many-requests"
	ReasonRoomUnavailable  Reason = "room-unavailable"
	ReasonFocusUnavailable Reason = "focus-unavailable"
	ReasonFocusRefused     Reason = "focus-refused"
	ReasonStoreUnavailable Reason = "store-unavailable"
	ReasonStopping         Reason = "stopping"
)

// Explanation is one row of the table of reasons.
type Explanation struct {
	Reason Reason
	// Doc tells an operator what happened.
	Doc string
	// Text tells the person at the door, in words. It contains no claim values.
	Text string
}

// Reasons is the closed list with its documentation, in the order in which an operator would look for them. It must not be
// changed.
var Reasons = []Explanation{
	{ReasonHost, "Let in as a host: owner or admin by token, or a user of a trusted virtual host.", "Welcome."},
	{ReasonMember, "Let in as a member by token.", "Welcome."},
	{ReasonGuest, "Let in without a token of their own.", "Welcome."},
	{ReasonService, "A recorder, gateway or other client of a service virtual host.", "Welcome."},
	{ReasonBreakout, "Let into a breakout room of a main room where they hold a grant.", "Welcome."},

	{ReasonHostAbsent, "Has to wait: no host is inside, or the room is not open yet.",
		"The conference has not started yet because no host has arrived."},

	{ReasonRoomUnknown, "The room's address is malformed or not on a MUC service of rooms.services.",
		"There is no such room here."},
	{ReasonVHostUnknown, "The sender's domain is not under vhosts in the configuration.",
		"People from your server are not admitted here."},
	{ReasonTokenMalformed, "The token is not a well-formed compact JWS with strict JSON, or over 8 kB.",
		"Your invitation cannot be read. Please ask for a new link."},
	{ReasonTokenIssuer, "No issuer of this virtual host accepts the token's iss.",
		"Your invitation comes from somebody whom this server does not know."},
	{ReasonTokenAlgorithm, "The token's alg is not one that the configuration allows for its issuer.",
		"Your invitation is signed in a way that this server does not accept."},
	{ReasonTokenSignature, "No key of the issuer verifies the token's signature.",
		"Your invitation is not genuine, or was signed with an old key. Please ask for a new link."},
	{ReasonTokenClaims, "A claim that decides something has a wrong type or value, or a required one is missing.",
		"Your invitation is incomplete or contradicts itself. Please ask for a new link."},
	{ReasonTokenExpired, "The token's exp has passed, leeway included.",
		"Your invitation has expired. Please ask for a new link."},
	{ReasonTokenNotYetValid, "The token's nbf lies in the future, leeway included, or its iat by more than a day.",
		"Your invitation is not valid yet. Please come back later."},
	{ReasonTokenAudience, "The token's aud names none of the accepted audiences.",
		"Your invitation was made for another service."},
	{ReasonKeysUnavailable, "The issuer's keys could not be had, so nothing could be verified.",
		"Your invitation cannot be verified at the moment."},
	{ReasonSessionInvalid, "The session id is unknown, over, of another machine or for another room, or no longer backed by the configuration.",
		"Your session is over."},
	{ReasonRoomMismatch, "The token's room claim does not cover this room, or a breakout room is not of a room that the sender was let into.",
		"Your invitation is for another room."},
	{ReasonTenantMismatch, "The token's sub is neither this domain or tenant nor *, or the room is not of the issuer's tenant.",
		"Your invitation is for another organisation."},
	{ReasonTokenRequired, "No token, and the virtual host does not let people in without one.",
		"You need an invitation or a login for this room."},
	{ReasonRoomRemoved, "A breakout room that a moderator has removed, or that never was.",
		"This breakout room is not there any more."},
	{ReasonBanned, "An owner or admin inside has banned the sender from the room.",
		"You have been removed from this conference."},

	{ReasonRequestMalformed, "The stanza is not a well-formed conference request, or too large or too deep.",
		"The request was not understood."},
	{ReasonTooManyRequests, "The sender asks faster than it is answered.",
		"Too many requests at once. Please wait a moment."},
	{ReasonRoomUnavailable, "The server did not do what makes the decision true in the room.",
		"The room cannot be opened at the moment."},
	{ReasonFocusUnavailable, "No Jicofo is online, none answered in time, or it is not ready yet.",
		"The conference cannot be started at the moment."},
	{ReasonFocusRefused, "Jicofo refused what usher admitted; its error is passed on.",
		"The conference could not be started."},
	{ReasonStoreUnavailable, "Sessions, grants or held requests could not be read or written, so nobody new is admitted.",
		"You cannot be let in at the moment."},
	{ReasonStopping, "usher is stopping, or was restarted, before it had decided; the client asks again.",
		"The service is restarting."},
}

var explanations = func() map[Reason]Explanation {
	m := make(map[Reason]Explanation, len(Reasons))
	for _, e := range Reasons {
		m[e.Reason] = e
	}
	return m
}()

// Text returns the sentence for the person, or a general one for a Reason that is not in the list.
func (r Reason) Text() string {
	if e, ok := explanations[r]; ok {
		return e.Text
	}
	return "You cannot enter this room."
}

// Doc returns the sentence for the operator, or "" for a Reason that is not in the list.
func (r Reason) Doc() string { return explanations[r].Doc }
