package auth

import (
	"context"
	"errors"
	"time"
)

// Session is what a session id stands for: the token, or the password, by which somebody was let in once. It never means
// more than that did: the same room, the same tenant, the same end, and only on the same machine.
type Session struct {
	// Machine is what the client called its machine when the session began.
	Machine string
	// VHost is the virtual host on which the token or the password counted, Issuer the issuer of the token there; empty
	// for a password.
	VHost, Issuer string
	// Room, Subject and Tenant are the claims as the token had them. For a password, Room is the room that was asked for.
	Room, Subject, Tenant string
	// Affiliation is what was asked for, Identity who it was.
	Affiliation Affiliation
	Identity    string
	// LobbyBypass is what the token said of it.
	LobbyBypass bool
	// Token tells which token it was, for the log.
	Token TokenRef
	// Expires is when the session ends.
	Expires time.Time
}

// ErrNoSession means that no live session has the id.
var ErrNoSession = errors.New("no such session")

// Sessions finds sessions by their ids.
type Sessions interface {
	// Session returns the live session of the id. The error is ErrNoSession if there is none; any other means that it
	// cannot be told now.
	Session(ctx context.Context, id string) (Session, error)
}
