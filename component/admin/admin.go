// Package admin lets an operator see who is let in, and take rights back, while usher runs.
//
// [Handler] is an HTTP API with JSON. [Server] offers it on a local socket to its user and group, and [Client]
// talks to that. Neither checks who asks.
//
//	GET    /v1/usher             a Status: whether this usher is the active one
//	GET    /v1/grants?room=ROOM  {"grants": [Grant, …]}, of all rooms without room
//	GET    /v1/revocations       {"revocations": [Revocation, …], "warning": TEXT}
//	POST   /v1/revocations       takes a Revocation without id and at, returns a Revoked
//	DELETE /v1/revocations/ID    ends a revocation
//
// Errors are {"error": TEXT}: 400 for a question that makes no sense, 404 for what is not there, 503 while this usher stands by or
// its store does not answer. Tokens, secrets and session ids are in no answer.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// Usher is what the API acts on: a *component.Component.
type Usher interface {
	Grants(room string) ([]component.LiveGrant, error)
	Revoke(ctx context.Context, r auth.Revocation) (component.Revoked, error)
	Revocations(ctx context.Context) ([]auth.Revocation, error)
	Unrevoke(ctx context.Context, id string) error
	Issuers() []string
}

// Status is what an usher says of itself.
type Status struct {
	Active  bool   `json:"active"` // otherwise it stands by for another one
	Domain  string `json:"domain"` // of its component
	Version string `json:"version"`
}

// Grant is the right of somebody to be in a room. Its texts are printable.
type Grant struct {
	Room        string `json:"room"`
	Who         string `json:"who"` // bare JID
	Affiliation string `json:"affiliation"`
	Reason      string `json:"reason,omitempty"` // why it was given
	// Issuer, JTI and User name the token; they are empty for people without one.
	Issuer   string    `json:"issuer,omitempty"`
	JTI      string    `json:"jti,omitempty"`
	User     string    `json:"user,omitempty"`
	At       time.Time `json:"at"`                 // when it was given
	Expires  time.Time `json:"expires,omitzero"`   // when the right ends; zero for a right without end
	RemoveAt time.Time `json:"remove_at,omitzero"` // when usher puts the person out; zero if they may stay
}

// Revocation says which tokens are taken back: see auth.Revocation.
type Revocation struct {
	ID     string    `json:"id,omitempty"`
	JTI    string    `json:"jti,omitempty"`
	Sub    string    `json:"sub,omitempty"`
	User   string    `json:"user,omitempty"`
	Issuer string    `json:"issuer,omitempty"`
	Before time.Time `json:"before,omitzero"`
	At     time.Time `json:"at,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Room   string    `json:"room,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Revoked is what became of a revocation: see component.Revoked.
type Revoked struct {
	Revocation Revocation `json:"revocation"`
	Out        []Grant    `json:"out"`
	Spared     []Grant    `json:"spared"`
	Warning    string     `json:"warning,omitempty"`
	// Refuses is until when tokens must have been issued to be taken back: some minutes after Before; zero if all are.
	Refuses time.Time `json:"refuses,omitzero"`
	// Notes say what is probably not meant.
	Notes []string `json:"notes,omitempty"`
}

// The answers that are lists.
type (
	grants struct {
		Grants []Grant `json:"grants"`
	}
	revocations struct {
		Revocations []Revocation `json:"revocations"`
		Warning     string       `json:"warning,omitempty"` // why some are missing
	}
	fault struct {
		Error string `json:"error"`
	}
)

const (
	// versionHeader is in each answer, by which an usher is known.
	versionHeader = "Usher-Version"
	// maxRequest is how long a request may be, in bytes. The longest claims fit into a token, which has 8 kB.
	maxRequest = 40 << 10
)

// errStandsBy is what an usher says that is not the active one.
var errStandsBy = errors.New("this usher stands by for another one, and knows nobody; ask the usher that is active")

// errToken is the answer to a token in the place of one of its claims. Tokens are to be written nowhere.
var errToken = errors.New("this looks like a token, or a link with one, but a claim of it is asked for: usher token explain shows them")

// Handler is the API. active returns the usher that is the active one, and nil while this one stands by. status is asked for Domain and
// Version.
func Handler(active func() Usher, status Status) http.Handler {
	mux := http.NewServeMux()
	on := func(pattern string, handle func(u Usher, r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			u := active()
			if u == nil {
				answer(w, nil, errStandsBy)
				return
			}
			body, err := handle(u, r)
			answer(w, body, err)
		})
	}
	mux.HandleFunc("GET /v1/usher", func(w http.ResponseWriter, _ *http.Request) {
		is := status
		is.Active = active() != nil
		answer(w, is, nil)
	})
	on("GET /v1/grants", func(u Usher, r *http.Request) (any, error) {
		all, err := u.Grants(r.URL.Query().Get("room"))
		return grants{shown(all)}, err
	})
	on("GET /v1/revocations", func(u Usher, r *http.Request) (any, error) {
		all, err := u.Revocations(r.Context())
		if err != nil && !errors.Is(err, store.ErrUnreadableRevocation) {
			return nil, err
		}
		list := revocations{Revocations: make([]Revocation, len(all)), Warning: printableError(err)}
		for i, one := range all {
			list.Revocations[i] = written(one)
		}
		return list, nil
	})
	on("POST /v1/revocations", revoke)
	on("DELETE /v1/revocations/{id}", func(u Usher, r *http.Request) (any, error) {
		return struct{}{}, u.Unrevoke(r.Context(), r.PathValue("id"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, errNoSuchPath) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(versionHeader, status.Version)
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		mux.ServeHTTP(w, r)
	})
}

// Faults of a question.
var (
	errNoSuchPath = errors.New("this usher has no such path, or not with this method")
	errUnreadable = errors.New("the body must be one JSON object with jti, sub, user, issuer, before, until, room and reason, and nothing else")
	errEmpty      = errors.New("a field of the body is empty: leave it out, or say what it is")
	errTooLong    = errors.New("the body is too long")
)

func revoke(u Usher, r *http.Request) (any, error) {
	asked, err := read(r.Body)
	if err != nil {
		return nil, err
	}
	for _, text := range []string{asked.JTI, asked.Sub, asked.User, asked.Issuer, asked.Room, asked.Reason} {
		if LooksLikeToken(text) {
			return nil, errToken
		}
	}
	done, err := u.Revoke(r.Context(), auth.Revocation{
		JTI: asked.JTI, Subject: asked.Sub, User: asked.User, Issuer: asked.Issuer,
		Before: asked.Before, Until: asked.Until, Room: asked.Room, Reason: asked.Reason,
	})
	if err != nil && !errors.Is(err, store.ErrUntold) {
		return nil, err
	}
	return Revoked{
		Revocation: written(done.Revocation), Out: shown(done.Out), Spared: shown(done.Spared), Warning: printableError(err),
		Refuses: done.Revocation.Refuses(), Notes: notes(done.Revocation, u.Issuers()),
	}, nil
}

// notes says what is probably not meant by a revocation, beside these issuers.
func notes(r auth.Revocation, issuers []string) (all []string) {
	if r.Issuer != "" && !slices.Contains(issuers, r.Issuer) {
		has := "it has none"
		if len(issuers) > 0 {
			has = "it has " + strings.Join(issuers[:min(len(issuers), mostNamed)], ", ")
		}
		all = append(all, printable(fmt.Sprintf("no issuer of the configuration has the name %s (app_id); %s. Lift this revocation if it is a mistake",
			r.Issuer, has)))
	}
	if r.Before.After(r.At) {
		all = append(all, "the time lies in the future, so tokens that are issued until then are refused, too")
	}
	return all
}

// mostNamed is how many issuers a note names.
const mostNamed = 10

// read reads a revocation. It takes no name twice, in no other spelling, and none that it does not know: otherwise a mistake could take
// back more than was meant.
func read(body io.Reader) (asked Revocation, err error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return asked, errTooLong
	}
	object, err := strictjson.Parse(string(text))
	if err != nil {
		return asked, errUnreadable
	}
	texts := map[string]*string{
		"jti": &asked.JTI, "sub": &asked.Sub, "user": &asked.User, "issuer": &asked.Issuer, "room": &asked.Room, "reason": &asked.Reason,
	}
	times := map[string]*time.Time{"before": &asked.Before, "until": &asked.Until}
	for _, m := range object {
		value, isText := m.Value.(string)
		switch {
		case isText && value == "" && m.Name != "reason":
			return asked, errEmpty
		case isText && texts[m.Name] != nil:
			*texts[m.Name] = value
		case isText && times[m.Name] != nil:
			if *times[m.Name], err = time.Parse(time.RFC3339Nano, value); err != nil || times[m.Name].IsZero() {
				return asked, errUnreadable
			}
		default:
			return asked, errUnreadable
		}
	}
	return asked, nil
}

// LooksLikeToken reports whether a text has something like a compact token in it (RFC 7515 §7.1), as the link of an invitation does, or
// is such a link.
func LooksLikeToken(text string) bool { return compact.MatchString(text) || link.MatchString(text) }

var (
	compact = regexp.MustCompile(`(^|[^A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	link    = regexp.MustCompile(`(?i)[?#&]jwt=`) // jitsi-meet, react/features/base/jwt/functions.ts, parseJWTFromURLParams
)

// shown returns grants as the API has them.
func shown(all []component.LiveGrant) []Grant {
	list := make([]Grant, len(all))
	for i, g := range all {
		list[i] = Grant{
			Room: printable(g.Room.String()), Who: printable(g.Who.String()), Affiliation: g.Affiliation, Reason: string(g.Reason),
			Issuer: printable(g.Issuer), JTI: printable(g.JTI), User: printable(g.User), At: g.At, Expires: g.Expires, RemoveAt: g.RemoveAt,
		}
	}
	return list
}

// written returns a revocation as the API has it.
func written(r auth.Revocation) Revocation {
	return Revocation{
		ID: r.ID, JTI: r.JTI, Sub: r.Subject, User: r.User, Issuer: r.Issuer,
		Before: r.Before, At: r.At, Until: r.Until, Room: r.Room, Reason: r.Reason,
	}
}

// answer writes the body as JSON, or the error.
func answer(w http.ResponseWriter, body any, err error) {
	status := http.StatusOK
	if err != nil {
		body = fault{printableError(err)}
		switch {
		case errors.Is(err, errNoSuchPath), errors.Is(err, store.ErrNoRevocation):
			status = http.StatusNotFound
		case errors.Is(err, errTooLong):
			status = http.StatusRequestEntityTooLarge
		case errors.Is(err, errUnreadable), errors.Is(err, errEmpty), errors.Is(err, errToken), errors.Is(err, store.ErrRevocation),
			errors.Is(err, component.ErrRoom):
			status = http.StatusBadRequest
		default:
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails if the client has gone
}

func printableError(err error) string {
	if err == nil {
		return ""
	}
	return printable(err.Error())
}

// printable replaces characters that do not print, as token.ForLog does, but cuts nothing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
