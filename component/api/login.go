package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/pkg/printable"
)

// LoginRequest is a try to log in with a password.
type LoginRequest struct {
	Username, Password string
	// Room is the room to enter, as its name or [tenant]name. Empty means the account's room, if it has just one.
	Room string
	// Affiliation is the most that the token gives: owner, admin or member. Empty means as much as the account has. No account gets
	// more than it has.
	Affiliation string
	// TTL is how long the token is wanted; 0 means as long as usual. It is never valid for longer than the portal's tokens are.
	TTL time.Duration
	// Device is what an earlier login of the account brought as LoggedIn.Device; empty for nothing.
	Device string
	// Remote is the address of the caller; not valid on the socket.
	Remote netip.Addr
}

// LoggedIn is what a right password brings.
type LoggedIn struct {
	Token       string    `json:"token,omitempty" doc:"None if no room was named, and the account has not just one: ask again with one of its rooms."`
	JTI         string    `json:"jti,omitempty" doc:"By this id the token can be taken back."`
	Room        string    `json:"room,omitempty" doc:"As the token has it."`
	Rooms       []string  `json:"rooms" doc:"The rooms that the account may open: names, and patterns as in auth.MatchRoom."`
	Display     string    `json:"display_name"`
	Affiliation string    `json:"affiliation,omitempty" doc:"What the token makes of its bearer."`
	Expires     time.Time `json:"expires,omitzero" doc:"When the token ends."`
	URL         string    `json:"url,omitempty" doc:"Where a browser enters the room with the token. Everybody who has it has the token."`
	Device      string    `json:"device,omitempty" doc:"To be kept, and sent with the next login: then wrong passwords of others do not slow it down. It opens nothing."`
}

var (
	// ErrLogin is the one answer to names that nobody has, wrong passwords and accounts that are off, so that nobody learns which it is.
	ErrLogin = errors.New("the name or the password is wrong")
	// ErrNotRoom means that the password is right, and that the account is not for this room.
	ErrNotRoom = errors.New("this account is not for this room: ask without a room, and the answer names those that it may open")
	// ErrLater means that nobody can check the password now. Strangers can cause that, so it is not logged for each of them.
	ErrLater = errors.New("the password cannot be checked at the moment")
)

// TooManyError means that there were too many wrong passwords.
type TooManyError struct {
	After time.Duration // when to try again
}

func (e *TooManyError) Error() string {
	return "too many wrong passwords: try again in " + strconv.Itoa(e.seconds()) + " s"
}

// seconds returns After for the header Retry-After (RFC 9110 §10.2.3), which knows no parts of a second.
func (e *TooManyError) seconds() int { return max(1, int(math.Ceil(e.After.Seconds()))) }

// loginBody is what the operation is asked.
type loginBody struct {
	Username    string `json:"username" minLength:"1" maxLength:"500"`
	Password    string `json:"password" minLength:"1" maxLength:"1024"`
	Room        string `json:"room,omitempty" maxLength:"3071" doc:"The room's name, or [tenant]name. Default: the account's room, if it has just one."`
	Affiliation string `json:"affiliation,omitempty" enum:"owner,admin,member" doc:"The most that the token gives. Default: as much as the account has."`
	Device      string `json:"device,omitempty" maxLength:"200" doc:"As an earlier answer had it."`
	TTL         int64  `json:"ttl,omitempty" minimum:"1" maximum:"86400" doc:"How many seconds the token is valid, at most portal.token_ttl, which is the default."`
}

// maxLogin is how long the body may be of a login, which needs no key.
const maxLogin = 8 << 10

func (s *server) loginOperation(api huma.API) {
	o := operation("login", http.MethodPost, "/login", "Exchange a password for a token, and for the list of rooms of its account", "",
		http.StatusNotFound, http.StatusUnprocessableEntity)
	o.Description = "Needs no key, but the name and password of an account of the portal. Wrong passwords are slowed down: 429 with Retry-After. " +
		"The token ends with the account."
	o.MaxBodyBytes = maxLogin
	o.Metadata[withoutKey], o.Security = true, []map[string][]string{{}}
	huma.Register(api, o, s.login)
}

func (s *server) login(ctx context.Context, in *struct{ Body loginBody }) (*struct{ Body LoggedIn }, error) {
	b := in.Body
	done, err := s.enter(ctx, LoginRequest{
		Username: b.Username, Password: b.Password, Room: b.Room, Affiliation: b.Affiliation, Device: b.Device,
		TTL: time.Duration(b.TTL) * time.Second,
	})
	if err != nil {
		return nil, s.loginFault(err)
	}
	return &struct{ Body LoggedIn }{done}, nil
}

// errNoLogin is for an usher without a portal.
var errNoLogin = problem(http.StatusNotFound, "nobody logs in to this usher: set portal.listen")

// enter logs somebody in, for the call of a context.
func (s *server) enter(ctx context.Context, r LoginRequest) (LoggedIn, error) {
	c := callOf(ctx)
	c.Room = harmless(r.Room)
	switch {
	case s.Login == nil:
		return LoggedIn{}, errNoLogin
	case LooksLikeToken(r.Room), LooksLikeToken(r.Username):
		return LoggedIn{}, errToken
	case s.Active() == nil:
		return LoggedIn{}, errStandsBy
	}
	r.Remote, _ = netip.ParseAddr(c.Remote)
	done, err := s.Login(ctx, r)
	if err != nil {
		return LoggedIn{}, err
	}
	if done.Rooms == nil {
		done.Rooms = []string{}
	}
	c.Room = printable.Text(done.Room)
	c.Who = harmless("name=" + r.Username)
	if done.JTI != "" {
		c.Who += printable.Text(" jti=" + done.JTI)
	}
	c.heard, c.asked = true, true // the audit log has every login that was right
	return done, nil
}

// loginRetry is how many seconds a client waits that nobody could answer.
const loginRetry = "5"

// loginFault returns the answer to a login that failed.
func (s *server) loginFault(err error) error {
	var many *TooManyError
	switch {
	case errors.Is(err, ErrLogin):
		return problem(http.StatusUnauthorized, "%v", ErrLogin)
	case errors.Is(err, ErrNotRoom):
		return problem(http.StatusForbidden, "%v", ErrNotRoom)
	case errors.As(err, &many):
		return huma.ErrorWithHeaders(problem(http.StatusTooManyRequests, "%v", many), http.Header{"Retry-After": {strconv.Itoa(many.seconds())}})
	}
	if errors.Is(err, ErrLater) {
		err = problem(http.StatusServiceUnavailable, "%v: try again in %s s", ErrLater, loginRetry)
	}
	err = s.fault(err)
	var answered huma.StatusError
	if errors.As(err, &answered) && answered.GetStatus() == http.StatusServiceUnavailable {
		return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {loginRetry}})
	}
	return err
}
