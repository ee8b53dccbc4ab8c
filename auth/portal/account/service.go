package account

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// Service is an external user service, as MiroTalk SFU asks it (app/src/Server.js: isAuthPeer, getUserAllowedRooms, isRoomAllowedForUser).
// It gets questions by POST, in JSON, with api_secret_key in each:
//
//   - BASE/user/isAuth {email, username, password}: true or {"message": true} lets the person in
//   - BASE/user/roomsAllowed {email, username, password}: {"message": ["room1", …]} or the list alone; ["*"] for all rooms without a tenant
//   - BASE/user/isRoomAllowed {email, username, room}: true or {"message": true} lets the person open the room
//
// Both email and username are the name that was typed. Names of rooms are in lower case, as Jitsi's are. Anything else than these answers
// lets nobody in.
type Service struct {
	base    *url.URL
	secret  string
	version string
	client  *http.Client
}

const (
	// serviceTimeout is that of one question, as in MiroTalk SFU.
	serviceTimeout = 5 * time.Second
	// maxAnswer is the limit of an answer in bytes, and maxServiceRooms that of a list.
	maxAnswer, maxServiceRooms = 64 << 10, 1000
)

// NewService returns the service at an address such as https://users.example.com/api/v1. It must be https; http only to this machine. The
// error says what is wrong, as the end of a sentence. Nothing is asked.
func NewService(address, secret string) (*Service, error) {
	base, err := url.Parse(address)
	switch {
	case err != nil || base.Hostname() == "":
		return nil, errors.New("is no address: want something like https://users.example.com/api/v1")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("must be an address without user name, query and fragment: usher sends the secret in the body")
	case base.Scheme != "https" && (base.Scheme != "http" || !thisMachine(base.Hostname())):
		return nil, errors.New("must begin with https:// (http:// only to this machine: 127.0.0.1, [::1] or localhost), because usher sends passwords there")
	}
	return &Service{
		base: base, secret: secret, version: version(base.String(), secret),
		client: &http.Client{
			Timeout: serviceTimeout,
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				TLSHandshakeTimeout:    serviceTimeout,
				MaxResponseHeaderBytes: maxAnswer,
				MaxConnsPerHost:        maxAsking,
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        10 * time.Second,
			},
			// A password goes to the configured address and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func thisMachine(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// question is what the service is asked.
type question struct {
	Email    string `json:"email"`
	Username string `json:"username"`
	Password string `json:"password,omitempty"`
	Room     string `json:"room,omitempty"`
	Secret   string `json:"api_secret_key"`
}

// askService logs somebody in at the user service.
func (d *Directory) askService(ctx context.Context, name, password string, known bool) (p Person, why string, err error) {
	leave, err := d.asking.enter(ctx, 1, known)
	if err != nil {
		return Person{}, "", err
	}
	defer leave()
	ask := question{Email: name, Username: name, Password: password}
	switch right, err := d.service.yes(ctx, "isAuth", ask); {
	case err != nil:
		if status, is := errors.AsType[statusError](err); is && status.denies() && ctx.Err() == nil {
			_ = d.unavailable(ctx, err) // which logs it
			return Person{}, fmt.Sprintf("the user service answers %s", status), errDenied
		}
		return Person{}, "", d.unavailable(ctx, err)
	case !right:
		return Person{}, "the user service says no", ErrRefused
	}
	rooms, err := d.service.rooms(ctx, ask)
	if err != nil {
		return Person{}, "", d.unavailable(ctx, err)
	}
	p = Person{ID: remote + name, Name: name, Display: name, Rooms: rooms, Affiliation: auth.Owner, Version: d.service.version}
	if strings.Contains(name, "@") {
		p.Email = name
	}
	return p, "", nil
}

// statusError is an answer with a status that is not one of success.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("HTTP status %d", int(s)) }

// denies reports whether the status may be what a service says to a wrong password, or to a name that it does not know.
func (s statusError) denies() bool {
	return s/100 == 4 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests
}

// errDenied is ErrUnavailable for an answer that may mean a wrong password. It counts as a failure: otherwise passwords could be tried
// without end.
var errDenied = errors.New("the user service may have said no")

// unavailable logs why the service gave no answer that counts, and returns what the caller is told.
func (d *Directory) unavailable(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if d.complains.AllowN(d.now(), 1) { // anybody can try to log in, and nothing is counted then
		d.log.Warn("the user service gave no answer that counts", zap.String("service", d.service.base.Redacted()), zap.Error(err))
	}
	return ErrUnavailable
}

// roomAllowed reports whether somebody may open a room.
func (s *Service) roomAllowed(ctx context.Context, name string, room auth.Room) (bool, error) {
	return s.yes(ctx, "isRoomAllowed", question{Email: name, Username: name, Room: room.String()})
}

// yes asks what has yes or no for an answer. A no is all that is JSON and no yes: services say it in many ways.
func (s *Service) yes(ctx context.Context, path string, q question) (bool, error) {
	answer, status, err := s.ask(ctx, path, q)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return message(answer) == true, nil
}

// rooms asks for the rooms of somebody, and returns patterns that fit these rooms and no other.
func (s *Service) rooms(ctx context.Context, q question) ([]string, error) {
	answer, _, err := s.ask(ctx, "roomsAllowed", q)
	if err != nil {
		return nil, fmt.Errorf("roomsAllowed: %w", err)
	}
	switch list := message(answer).(type) {
	case nil:
		return nil, nil
	case []any:
		return roomPatterns(list)
	}
	return nil, errors.New("roomsAllowed: the answer has no list of rooms")
}

// message returns what an answer says: its member "message", or all of it if it is no object.
func message(answer any) any {
	if o, is := answer.(strictjson.Object); is {
		answer, _ = o.Get("message")
	}
	return answer
}

// roomPatterns returns patterns for a list of names. "*" is all rooms; in other names it is a character like others, as it is to MiroTalk
// SFU.
func roomPatterns(list []any) ([]string, error) {
	if len(list) > maxServiceRooms {
		return nil, fmt.Errorf("roomsAllowed: the list has more than %d rooms", maxServiceRooms)
	}
	var patterns []string
	for i, one := range list {
		text, isText := one.(string)
		if text == "*" {
			patterns = append(patterns, text)
			continue
		}
		room, err := auth.ParseRoomName(strings.TrimSpace(text))
		if !isText || err != nil {
			return nil, fmt.Errorf("roomsAllowed: entry %d of the list is no name of a room", i+1)
		}
		patterns = append(patterns, pattern(room))
	}
	return patterns, nil
}

// pattern returns the pattern that fits one room only.
func pattern(room auth.Room) string {
	literal := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)
	if room.Tenant == "" {
		return literal.Replace(room.Name)
	}
	return "[" + room.Tenant + "]" + literal.Replace(room.Name)
}

// ask asks the service once, and returns its answer and the status, which is 0 if there is none. Errors quote nothing of the answer.
func (s *Service) ask(ctx context.Context, path string, q question) (answer any, status int, err error) {
	q.Secret = s.secret
	body, err := json.Marshal(q)
	if err != nil {
		return nil, 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base.JoinPath("user", path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "usher")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, 0, plain(err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, response.StatusCode, statusError(response.StatusCode)
	}
	answer, err = readAnswer(response.Body)
	return answer, response.StatusCode, err
}

// plain returns an error of net/http without the address, which the log says already, and without what the server sent.
func plain(err error) error {
	var network *net.OpError
	switch timeout, is := errors.AsType[net.Error](err); {
	case is && timeout.Timeout():
		return fmt.Errorf("no whole answer within %s", serviceTimeout)
	case errors.As(err, &network):
		return network
	}
	return errors.New("the answer is cut off, not HTTP, or its certificate does not count")
}

// readAnswer reads any one JSON value.
func readAnswer(body io.Reader) (any, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d kB", maxAnswer>>10)
	}
	o, err := strictjson.Parse(`{"answer":` + string(text) + `}`)
	if err != nil || len(o) != 1 {
		return nil, errors.New("the answer is not JSON")
	}
	return o[0].Value, nil
}
