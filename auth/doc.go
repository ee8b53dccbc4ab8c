// Package auth decides who may enter a conference room, and as what.
//
// It is the one place of the decision and nothing else: no network, no stanzas, no logger, no clock. The caller hands
// a [Request] (who asks for which room, with which token, at what time) to [Authorizer.Authorize] and gets a
// [Decision], always: there is no error to overlook, and the zero Decision denies. The rules are in policy.go, from top
// to bottom in the order in which they apply; the first that matches decides.
//
// What the rules need from outside comes through three small doors: keys through [KeySource], sessions through [Sessions],
// and what goes on in the room through the function that the caller passes to Authorize.
//
// A [Session] stands for the token or password that somebody was once let in by. In Jicofo the id of one, on the machine
// that it was given to, opens every room; here it is judged by the same rules as the token would be, at the time of the
// request and by the policy of that time, and so never yields more.
//
// Each issuer of a virtual host has its own keys, algorithms, places of claims ([token.ClaimMap]) and tenant. It is found by
// the token's iss, those that name it before those that take any, and is the one with the verifying key; from then on only
// what belongs to that issuer counts.
//
// The same code explains itself: [Authorizer.Explain] returns, beside the decision, every rule with what it expected and what it
// found.
package auth
