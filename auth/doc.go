// Package auth decides who may enter a conference room, and as what.
//
// It decides and does nothing else: it has no network, no stanzas, no logger, no clock. The caller hands a [Request] (the sender,
// the room, the token, the time) to [Authorizer.Authorize] and always gets a [Decision]: there is no error to overlook, and the
// zero Decision denies. The rules are in policy.go, from top to bottom in the order in which they apply; the first that matches
// decides. README.md explains them, and has the table of reasons.
//
// The rules get what they need from outside in four ways: keys from a [KeySource], sessions from [Sessions], what was taken back
// from [Refusals], and the state of the room from the function that the caller passes to Authorize.
//
// What only the running usher can count is in the decision for the caller: seats ([RoomRule]), the one use of a one-time token, who
// comes first where nobody is host yet, and the ends of rooms and rights. [Proof] names what let somebody in.
//
// A [Session] stands for the token or password that once let somebody in. In Jicofo a session id opens every room to the machine
// that got it. Here the rules judge it as they would judge the token, at the time of the request and by the policy of that time,
// so it never yields more.
//
// Each issuer of a virtual host has its own keys, algorithms, places of claims ([token.ClaimMap]) and tenant. The token's iss
// selects the candidates, first those that name it, then those that accept any. The issuer is the candidate with the verifying
// key; from then on only its own settings count.
//
// The same code explains itself: [Authorizer.Explain] returns, beside the decision, every rule with what it expected and found.
package auth
