package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// MintRequest asks for a token.
type MintRequest struct {
	Room         string     `json:"room" minLength:"1" maxLength:"3071" doc:"The room's name, [tenant]name, or its address. * is for every room, with a key for all rooms."`
	VHost        string     `json:"vhost,omitempty" maxLength:"255" doc:"The virtual host on which the token counts. Default: the first with an issuer that has a shared secret."`
	Issuer       string     `json:"issuer,omitempty" maxLength:"255" doc:"The issuer's name there (app_id). Default: the first that has a shared secret."`
	Affiliation  string     `json:"affiliation,omitempty" enum:"owner,admin,member" doc:"What the person becomes. Default: default_affiliation of the configuration, which makes a host unless it says otherwise."`
	ID           string     `json:"id,omitempty" maxLength:"500" doc:"The person's id (context.user.id), by which tokens can be taken back."`
	Name         string     `json:"name,omitempty" maxLength:"500" doc:"The person's name."`
	Email        string     `json:"email,omitempty" maxLength:"500"`
	Avatar       string     `json:"avatar,omitempty" maxLength:"2000" doc:"The address of a picture."`
	TTL          int64      `json:"ttl,omitempty" minimum:"1" maximum:"315360000" doc:"How many seconds the token is valid, from now or from not_before. Default 3600."`
	NotBefore    *time.Time `json:"not_before,omitempty" doc:"From when it is valid."`
	OneTime      bool       `json:"one_time,omitempty" doc:"It lets in one machine only."`
	MaxOccupants int        `json:"max_occupants,omitempty" minimum:"1" maximum:"2147483647" doc:"How many people the room takes at most."`
	RoomEnds     *time.Time `json:"room_ends,omitempty" doc:"When the room ends."`
}

// defaultTTL is how long a token is valid that says nothing else.
const defaultTTL = time.Hour

// Valid returns how long the token is valid.
func (r MintRequest) Valid() time.Duration {
	if r.TTL == 0 {
		return defaultTTL
	}
	return time.Duration(r.TTL) * time.Second
}

// Ends returns when the token ends if it is minted now.
func (r MintRequest) Ends(now time.Time) time.Time {
	if r.NotBefore != nil && r.NotBefore.After(now) {
		now = *r.NotBefore
	}
	return now.Add(r.Valid())
}

// Minted is a token.
type Minted struct {
	Token       string    `json:"token"`
	JTI         string    `json:"jti" doc:"By this id the token can be taken back."`
	Issuer      string    `json:"issuer"`
	VHost       string    `json:"vhost"`
	Room        string    `json:"room" doc:"As the token has it."`
	Affiliation string    `json:"affiliation" doc:"What usher makes of its bearer today."`
	Expires     time.Time `json:"expires"`
	URL         string    `json:"url,omitempty" doc:"Where a browser enters the room with the token, if api.meet_url is set. Everybody who has it has the token."`
}

// ExplainRequest asks what would be decided.
type ExplainRequest struct {
	Room        string     `json:"room" minLength:"1" maxLength:"3071" doc:"The room's address, or its name if usher guards one MUC service."`
	Token       string     `json:"token,omitempty" maxLength:"16384" doc:"The token, or a link with one. Without it: somebody who has none."`
	From        string     `json:"from,omitempty" maxLength:"3071" doc:"The JID that asks, or a virtual host. Default: somebody on the first with tokens."`
	HostPresent *bool      `json:"host_present,omitempty" doc:"Whether a host is inside. Default: as it is."`
	At          *time.Time `json:"at,omitempty" doc:"The time of the request. Default: now."`
}

// Explanation says rule by rule what was expected and found, and what is decided.
type Explanation struct {
	At          time.Time   `json:"at"`
	From        string      `json:"from"`
	Room        string      `json:"room"`
	Steps       []auth.Step `json:"steps"`
	Verdict     string      `json:"verdict"`
	Reason      auth.Reason `json:"reason"`
	Doc         string      `json:"doc"`
	Detail      string      `json:"detail,omitempty" doc:"What the log says in addition to the reason."`
	Told        string      `json:"told,omitempty" doc:"The text for the person."`
	Affiliation string      `json:"affiliation,omitempty" doc:"In the room, for allow."`
	Expires     *time.Time  `json:"expires,omitempty" doc:"When the right ends."`
	RemoveAt    *time.Time  `json:"remove_at,omitempty" doc:"When the person is put out."`
	RoomEnds    *time.Time  `json:"room_ends,omitempty" doc:"When the room ends, by the token of a host."`
	// Issuer, User and JTI are what "usher revoke" needs; empty without a token with a good signature.
	Issuer   string `json:"issuer,omitempty"`
	User     string `json:"user,omitempty"`
	JTI      string `json:"jti,omitempty"`
	NotAsked string `json:"not_asked,omitempty" doc:"What only the running usher knows."`
}

func (s *server) tokenOperations(api huma.API) {
	mint := operation("mint-token", http.MethodPost, "/tokens", "Make a token", ScopeTokens, http.StatusNotFound)
	mint.DefaultStatus = http.StatusCreated
	mint.Description += " usher signs it with the shared secret of an issuer of its configuration."
	huma.Register(api, mint, s.mintToken)
	huma.Register(api, operation("explain", http.MethodPost, "/tokens/explain", "Say step by step why somebody is let in, or is not", ScopeExplain, http.StatusNotFound), s.explain)
}

func (s *server) mintToken(ctx context.Context, in *struct{ Body MintRequest }) (*struct{ Body Minted }, error) {
	asked, err := s.allowed(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	minted, err := s.mint(ctx, asked)
	if err != nil {
		return nil, s.fault(err)
	}
	callOf(ctx).Who = printable.Text("jti=" + minted.JTI)
	return &struct{ Body Minted }{minted}, nil
}

// mint makes a token that the key of the call may make.
func (s *server) mint(ctx context.Context, asked MintRequest) (Minted, error) {
	if s.Mint == nil {
		return Minted{}, RequestError("this usher mints no tokens")
	}
	minted, err := s.Mint(ctx, asked)
	if err == nil && s.MeetURL != "" && asked.Room != everyRoom {
		minted.URL = s.roomURL(minted.Room, minted.Token)
	}
	return minted, err
}

// everyRoom is the claim for every room.
const everyRoom = "*"

// allowed returns what is asked for with the room in its one spelling, so that what is checked here is what the token says. It fails
// unless the key of the call may have such a token minted.
func (s *server) allowed(ctx context.Context, asked MintRequest) (MintRequest, error) {
	key := keyOf(ctx)
	u, err := s.active()
	if err != nil {
		return asked, s.fault(err)
	}
	for _, text := range []string{asked.Room, asked.VHost, asked.Issuer, asked.ID, asked.Name, asked.Email, asked.Avatar} {
		if LooksLikeToken(text) {
			return asked, s.fault(errToken)
		}
	}
	if asked.Room == everyRoom {
		callOf(ctx).Room = everyRoom
		if !key.everywhere() {
			return asked, problem(http.StatusForbidden, "the key %s is not for every room, but for %s", key.Name, listed(key.Rooms))
		}
		return inTime(key, asked, s.Now())
	}
	if asked.Room, err = s.claim(ctx, u, asked.Room); err != nil {
		return asked, err
	}
	return inTime(key, asked, s.Now())
}

// claim returns a room as a token spells it. It fails unless the key of the call is for the room.
func (s *server) claim(ctx context.Context, u Usher, named string) (claim string, err error) {
	var room auth.Room
	if strings.Contains(named, "@") {
		if room, err = s.roomOf(ctx, u, named); err != nil {
			return "", err
		}
	} else if room, err = auth.ParseRoomName(named); err != nil {
		return "", problem(http.StatusUnprocessableEntity, "body.room: %v: write the name of a room, or [tenant]name", err)
	}
	callOf(ctx).Room = printable.Text(room.String())
	if key := keyOf(ctx); !key.covers(room) {
		return "", problem(http.StatusForbidden, "the key %s is not for this room, but for %s", key.Name, listed(key.Rooms))
	}
	if claim = room.Claim(); claim == "" {
		return "", problem(http.StatusUnprocessableEntity, "body.room: no token can name this room")
	}
	return claim, nil
}

// inTime returns what is asked for with how long it is valid. It fails if that is longer than the key may have.
func inTime(key *Key, asked MintRequest, now time.Time) (MintRequest, error) {
	if asked.TTL == 0 {
		asked.TTL = int64(defaultTTL / time.Second)
		if longest := int64(key.MaxTTL / time.Second); longest > 0 {
			asked.TTL = min(asked.TTL, longest)
		}
	}
	end := asked.Ends(now)
	if end.After(lastDate) {
		return asked, problem(http.StatusUnprocessableEntity, "this token would end after the year 9999, which no token can")
	}
	if key.MaxTTL > 0 && end.After(now.Add(key.MaxTTL)) {
		return asked, problem(http.StatusForbidden, "the key %s makes tokens that end within %s: this one would end at %s", key.Name, key.MaxTTL, end.UTC().Format(time.RFC3339))
	}
	return asked, nil
}

func (s *server) explain(ctx context.Context, in *struct{ Body ExplainRequest }) (*struct{ Body Explanation }, error) {
	asked := in.Body
	if LooksLikeToken(asked.From) {
		return nil, s.fault(errToken)
	}
	if asked.At != nil && (asked.At.UTC().Year() < 1 || asked.At.After(lastDate)) {
		return nil, problem(http.StatusUnprocessableEntity, "body.at: is before the year 1 or after the year 9999 in UTC: say when, or leave it out")
	}
	u, room, err := s.room(ctx, asked.Room)
	if err != nil {
		return nil, err
	}
	if s.Explain == nil {
		return nil, s.fault(RequestError("this usher explains nothing"))
	}
	asked.Room = room.JID.String()
	if asked.HostPresent == nil {
		view, err := u.Room(ctx, asked.Room)
		if err != nil && !errors.Is(err, component.ErrNoRoom) {
			return nil, s.fault(err)
		}
		asked.HostPresent = &view.HostInside
	}
	e, err := s.Explain(ctx, asked)
	if err != nil {
		return nil, s.fault(err)
	}
	for _, text := range []*string{&e.From, &e.Room, &e.Detail, &e.Told, &e.Issuer, &e.User, &e.JTI} {
		*text = printable.Text(*text)
	}
	e.Steps = steps(e.Steps)
	return &struct{ Body Explanation }{e}, nil
}

// roomURL returns where a browser enters a room with a token. The room is as a token spells it.
func (s *server) roomURL(claim, token string) string {
	page := s.roomPage(claim)
	if page == "" {
		return ""
	}
	// jitsi-meet reads values behind the # as JSON (react/features/base/util/parseURLParams.ts). There they are sent to no server.
	return page + "#jwt=%22" + url.QueryEscape(token) + "%22"
}

// roomPage returns the page of a room, which is as a token spells it; empty if it cannot be read.
func (s *server) roomPage(claim string) string {
	room, err := auth.ParseRoomName(claim)
	if err != nil {
		return ""
	}
	path := "/" + url.PathEscape(room.Name)
	if room.Tenant != "" {
		path = "/" + url.PathEscape(room.Tenant) + path // jitsi-meet, react/features/base/util/uri.ts: a path of two is tenant and room
	}
	return s.MeetURL + path
}
