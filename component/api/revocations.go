package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/printable"
)

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
)

// revocationRequest is what somebody wants to take back.
type revocationRequest struct {
	JTI    string     `json:"jti,omitempty" doc:"The id of one token."`
	Sub    string     `json:"sub,omitempty" doc:"The subject of tokens. In Jitsi's own tokens that is the tenant or the domain, not a person."`
	User   string     `json:"user,omitempty" doc:"The id of their user (context.user.id)."`
	Issuer string     `json:"issuer,omitempty" doc:"The name of their issuer (app_id)."`
	Before *time.Time `json:"before,omitempty" doc:"Spare tokens issued more than five minutes after this time."`
	Until  *time.Time `json:"until,omitempty" doc:"When the revocation ends. Without it, when it is lifted."`
	Room   string     `json:"room,omitempty" doc:"The only room in which they are taken back: its address, or its name if usher guards one MUC service."`
	Reason string     `json:"reason,omitempty" doc:"For the list of revocations."`
}

func (s *server) grantOperation(api huma.API) {
	huma.Register(api, operation("list-grants", http.MethodGet, "/grants", "List who is let into which room, by which token, until when", ScopeGrantsRead, http.StatusNotFound), s.listGrants)
}

func (s *server) revocationOperations(api huma.API) {
	huma.Register(api, operation("list-revocations", http.MethodGet, "/revocations", "List which tokens are taken back, the oldest first", ScopeRevocations), s.listRevocations)
	post := operation("revoke", http.MethodPost, "/revocations", "Take tokens back: refuse them from now on, and put out people inside", ScopeRevocations, http.StatusBadRequest)
	post.Description += " A token is taken back if it has all that is given. A key that is for some rooms must name one of them."
	huma.Register(api, post, s.revoke)
	huma.Register(api, operation("lift-revocation", http.MethodDelete, "/revocations/{id}", "End a revocation: its tokens count again", ScopeRevocations, http.StatusNotFound), s.lift)
}

func (s *server) listGrants(ctx context.Context, in *struct {
	Room string `query:"room" maxLength:"3071" doc:"Only this room: its address, or its name if usher guards one MUC service."`
}) (*struct{ Body grants }, error) {
	u, err := s.active()
	if err != nil {
		return nil, s.fault(err)
	}
	room := ""
	if in.Room != "" {
		of, err := s.roomOf(ctx, u, in.Room)
		if err != nil {
			return nil, err
		}
		room = of.JID.String()
	}
	all, err := u.Grants(room)
	if err != nil {
		return nil, s.fault(err)
	}
	return &struct{ Body grants }{grants{shown(keyOf(ctx).grants(all))}}, nil
}

// grants returns those of the grants that the key may see.
func (k *Key) grants(all []component.LiveGrant) []component.LiveGrant {
	if k.everywhere() {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(g component.LiveGrant) bool { return !k.covers(parsed(g.Room)) })
}

// lifts reports whether the key may see and lift a revocation.
func (k *Key) lifts(r auth.Revocation) bool {
	if k.everywhere() {
		return true
	}
	room, err := auth.ParseRoom(r.Room)
	return err == nil && k.covers(room)
}

func (s *server) listRevocations(ctx context.Context, _ *struct{}) (*struct{ Body revocations }, error) {
	u, err := s.active()
	if err != nil {
		return nil, s.fault(err)
	}
	all, err := u.Revocations(ctx)
	if err != nil && !errors.Is(err, store.ErrUnreadableRevocation) {
		return nil, s.fault(err)
	}
	list := revocations{Revocations: []Revocation{}, Warning: printableError(err)}
	for _, one := range all {
		if keyOf(ctx).lifts(one) {
			list.Revocations = append(list.Revocations, written(one))
		}
	}
	return &struct{ Body revocations }{list}, nil
}

func (s *server) revoke(ctx context.Context, in *struct{ Body revocationRequest }) (*struct{ Body Revoked }, error) {
	asked := in.Body
	for _, text := range []string{asked.JTI, asked.Sub, asked.User, asked.Issuer, asked.Room, asked.Reason} {
		if LooksLikeToken(text) {
			return nil, s.fault(errToken)
		}
	}
	r := auth.Revocation{JTI: asked.JTI, Subject: asked.Sub, User: asked.User, Issuer: asked.Issuer, Room: asked.Room, Reason: asked.Reason}
	for _, t := range []struct{ from, to *time.Time }{{asked.Before, &r.Before}, {asked.Until, &r.Until}} {
		if t.from == nil {
			continue
		}
		if *t.to = *t.from; t.to.IsZero() || t.to.After(lastDate.AddDate(-1, 0, 0)) {
			return nil, problem(http.StatusUnprocessableEntity, "a time is zero, or too far away: leave it out, or say when")
		}
	}
	u, err := s.active()
	if err != nil {
		return nil, s.fault(err)
	}
	callOf(ctx).Who = printable.Text(strings.Join(r.Words(), ", "))
	key := keyOf(ctx)
	switch {
	case r.Room != "" && !key.everywhere():
		room, err := s.roomOf(ctx, u, r.Room)
		if err != nil {
			return nil, err
		}
		r.Room = room.JID.String()
	case !key.everywhere():
		return nil, problem(http.StatusForbidden, "the key %s is for %s only: name one of these rooms", key.Name, listed(key.Rooms))
	}
	done, err := u.Revoke(ctx, r)
	if err != nil && !errors.Is(err, store.ErrUntold) {
		return nil, s.fault(err)
	}
	callOf(ctx).Room = done.Revocation.Room
	return &struct{ Body Revoked }{Revoked{
		Revocation: written(done.Revocation), Out: shown(done.Out), Spared: shown(done.Spared), Warning: printableError(err),
		Refuses: done.Revocation.Refuses(), Notes: notes(done.Revocation, u.Issuers()),
	}}, nil
}

func (s *server) lift(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"100"`
}) (*none, error) {
	u, err := s.active()
	if err != nil {
		return nil, s.fault(err)
	}
	if !keyOf(ctx).everywhere() {
		all, err := u.Revocations(ctx)
		if err != nil && !errors.Is(err, store.ErrUnreadableRevocation) {
			return nil, s.fault(err)
		}
		if !slices.ContainsFunc(all, func(r auth.Revocation) bool { return r.ID == in.ID && keyOf(ctx).lifts(r) }) {
			return nil, s.fault(store.ErrNoRevocation)
		}
	}
	return &none{}, s.fault(u.Unrevoke(ctx, in.ID))
}

// listed writes patterns for a sentence.
func listed(patterns []string) string { return strings.Join(patterns, ", ") }

// notes says what is probably not meant by a revocation, beside these issuers.
func notes(r auth.Revocation, issuers []string) (all []string) {
	if r.Issuer != "" && !slices.Contains(issuers, r.Issuer) {
		has := "it has none"
		if len(issuers) > 0 {
			has = "it has " + strings.Join(issuers[:min(len(issuers), mostNamed)], ", ")
		}
		all = append(all, printable.Text(fmt.Sprintf("no issuer of the configuration has the name %s (app_id); %s. Lift this revocation if it is a mistake",
			r.Issuer, has)))
	}
	if r.Before.After(r.At) {
		all = append(all, "the time lies in the future, so tokens that are issued until then are refused, too")
	}
	return all
}

// mostNamed is how many issuers a note names.
const mostNamed = 10

// shown returns grants as the API has them.
func shown(all []component.LiveGrant) []Grant {
	list := make([]Grant, len(all))
	for i, g := range all {
		list[i] = Grant{
			Room: printable.Text(g.Room.String()), Who: printable.Text(g.Who.String()), Affiliation: g.Affiliation, Reason: string(g.Reason),
			Issuer: printable.Text(g.Issuer), JTI: printable.Text(g.JTI), User: printable.Text(g.User), At: g.At, Expires: dated(g.Expires), RemoveAt: dated(g.RemoveAt),
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

func printableError(err error) string {
	if err == nil {
		return ""
	}
	return printable.Text(err.Error())
}

// lastDate is the last time that JSON can have (RFC 3339 §1).
var lastDate = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// dated returns a time that JSON can have. Tokens may end in the last second of it, and leeway is added to that.
func dated(t time.Time) time.Time {
	if t.After(lastDate) {
		return lastDate
	}
	return t
}
