// Package account says who logs in at the portal with a password, and what they may do: accounts of usher's own configuration, and those
// of an external user service.
//
// Passwords stand nowhere but in the request: accounts have hashes (package passhash), and neither logs nor errors have passwords, nor
// names that are no account's, because people type their password into the wrong field.
//
// Trying passwords is slow and costs the machine little. Failures are counted, for each account and each network, and each takes longer
// to wait out than the one before; a device on which somebody has logged in before is counted by itself, so that strangers keep nobody
// out. Hashes are computed a few at a time. A name that is no account's takes the same work and the same limits as one that is.
package account

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/secure/precis"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

// Person is somebody who has logged in, and what they may do. Providers of OpenID Connect make them, too.
type Person struct {
	// ID is stable, and no other source has it: "account:NAME" for an account, "service:NAME" for the user service, and
	// "PROVIDER:SUBJECT" for a provider, which must not be named account or service.
	ID string
	// Name is the name of the login, in canonical form for accounts. Display is the name that others see; it may be empty.
	Name, Display, Email, Avatar string
	// Rooms are patterns, as of [auth.MatchRoom]: "class-*", "[acme]*", "*" for rooms without a tenant, "[*]*" for all. None: no room.
	Rooms []string
	// Affiliation is owner, admin or member.
	Affiliation auth.Affiliation
	Groups      []string
	// Features are those of the token; nil if it says nothing of them.
	Features map[string]bool
	// Version changes when the account's password, rooms, affiliation or groups change; "" for providers. It tells nothing of the password.
	Version string
}

// May reports whether the person may open a room. For people of the user service, see also [Directory.Allowed].
func (p Person) May(room auth.Room) bool {
	return slices.ContainsFunc(p.Rooms, func(pattern string) bool { return auth.MatchRoom(pattern, room) })
}

// Account is somebody who logs in with a password that usher knows the hash of.
type Account struct {
	Name, Display, Email string
	Hash                 passhash.Hash
	// Rooms are as those of [Person].
	Rooms []string
	// Affiliation is owner, admin or member; none counts as member.
	Affiliation auth.Affiliation
	Groups      []string
	// Disabled accounts cannot log in, and sessions of theirs end.
	Disabled bool
}

// Canonical returns the one form of an account's name, in which names are compared: as PRECIS has it for user names (RFC 8265 §3.3), in
// lower case and without differences of width. It fails for names that are none, such as one with a space.
func Canonical(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("longer than %d bytes", maxName)
	}
	return precis.UsernameCaseMapped.CompareKey(name)
}

// maxName is the limit of a name in bytes.
const maxName = 256

// The sources of people.
const local, remote = "account:", "service:"

// person returns the person who has an account. The name is canonical.
func (a Account) person(name string) Person {
	p := Person{
		ID: local + name, Name: name, Display: a.Display, Email: a.Email,
		Rooms: slices.Clone(a.Rooms), Affiliation: a.Affiliation, Groups: slices.Clone(a.Groups),
	}
	if p.Affiliation == auth.None {
		p.Affiliation = auth.Member // a token that says nothing may be an owner's
	}
	p.Version = version(a.Hash.String(), p.Rooms, p.Affiliation, p.Groups)
	return p
}

// version returns a short text that changes with any of these, and from which none can be found: the hash of a password has a salt of
// its own.
func version(of ...any) string {
	text, err := json.Marshal(of)
	if err != nil {
		panic(err) // texts and lists of them
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// What a login can end with, beside a [Person].
var (
	// ErrRefused means that the name or the password is wrong, or the account disabled. Nobody is told which.
	ErrRefused = errors.New("wrong name or password")
	// ErrBusy means that too many logins are being checked at this moment. Nothing was counted.
	ErrBusy = errors.New("too many logins at once")
	// ErrUnavailable means that the user service gave no answer that counts, or that nobody may log in now.
	ErrUnavailable = errors.New("nobody can be asked now who knows the account")
)

// TooManyError means that too many logins have failed for the account, or from the network. Nothing was checked.
type TooManyError struct {
	After time.Duration // until the next attempt is heard
}

func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many failed logins: try again in %s", e.After.Round(time.Second))
}

// from reports whether p came from a source.
func (p Person) from(source string) bool { return strings.HasPrefix(p.ID, source) }
