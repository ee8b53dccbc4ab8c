package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/mirotalk"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// The calls of MiroTalk SFU's REST API (app/src/Server.js and app/api there), for scripts that were written for it. Their names, status
// codes and short texts are MiroTalk's. What they do is not always: auth/portal/README.md has a row for each difference.

// foreign is a call of MiroTalk's.
type foreign struct {
	pattern string
	scope   Scope // empty for a call without a key
	says    string
	// success is whether errors have success as well; hides is whether a call without a key that counts gets the same answer as one that
	// asks for nothing.
	success, hides bool
	do             func(context.Context, Usher, miroBody) (any, error)
}

// What MiroTalk's errors are called.
const saysError, saysMessage = "error", "message"

// Texts that scripts compare.
const (
	miroDisabled   = "This endpoint has been disabled. Please contact the administrator for further information."
	miroNoKey      = "Unauthorized!"
	miroHidden     = "Unauthorized"
	miroNoRoom     = "Room not found"
	miroEnded      = "Meeting ended"
	miroNoPassword = "Missing username or password"
	miroRefused    = "unauthorized"
)

// mirotalkCalls are all of MiroTalk's calls.
func (s *server) mirotalkCalls() []foreign {
	return []foreign{
		{pattern: "POST " + Base + "/token", scope: ScopeTokens, says: saysError, do: s.miroToken},
		{pattern: "POST " + Base + "/join", scope: ScopeLinks, says: saysError, do: s.miroJoin},
		{pattern: "POST " + Base + "/meeting", scope: ScopeLinks, says: saysError, do: s.miroMeeting},
		{pattern: "GET " + Base + "/meetings", scope: ScopeRoomsRead, says: saysError, do: s.miroMeetings},
		{pattern: "GET " + Base + "/stats", scope: ScopeRoomsRead, says: saysError, success: true, do: s.miroStats},
		{pattern: "DELETE " + Base + "/meeting/{room}", scope: ScopeRoomsWrite, says: saysError, success: true, do: s.miroEnd},
		{pattern: "POST /isRoomActive", scope: ScopeRoomsRead, says: saysMessage, hides: true, do: s.miroActive},
		{pattern: "POST /login", says: saysMessage, do: s.miroLogin},
	}
}

// mirotalk adds MiroTalk's calls.
func (s *server) mirotalk(mux *http.ServeMux) {
	for _, f := range s.mirotalkCalls() {
		mux.HandleFunc(f.pattern, func(w http.ResponseWriter, r *http.Request) {
			if said, err := s.foreign(f, r); err != nil {
				s.miroFault(w, f, err)
			} else {
				writeJSON(w, http.StatusOK, said)
			}
		})
	}
}

// miroError is an answer of MiroTalk's that says no.
type miroError struct {
	status int
	text   string
}

func (e *miroError) Error() string { return e.text }

// foreign answers a call.
func (s *server) foreign(f foreign, r *http.Request) (any, error) {
	ctx := r.Context()
	if f.scope != "" {
		key, err := s.rawKey(f, r)
		if err != nil {
			return nil, err
		}
		ctx = context.WithValue(ctx, keyName{}, key)
	}
	u, err := s.active()
	if err != nil {
		return nil, err
	}
	body, err := readMiro(r)
	if err != nil {
		return nil, err
	}
	return f.do(ctx, u, body)
}

// rawKey returns the key of a call: that of the header authorization, as MiroTalk has it, without a scheme.
func (s *server) rawKey(f foreign, r *http.Request) (*Key, error) {
	var presented string
	if all := r.Header.Values("Authorization"); len(all) == 1 {
		presented = strings.TrimSpace(all[0])
		if scheme, rest, ok := strings.Cut(presented, " "); ok && strings.EqualFold(scheme, "Bearer") {
			presented = strings.TrimSpace(rest)
		}
	}
	key, refused := s.counts(callOf(r.Context()), presented, f.scope)
	switch {
	case refused == nil:
		return key, nil
	case refused.status == http.StatusTooManyRequests:
		return nil, huma.ErrorWithHeaders(problem(refused.status, "%s", refused.text), http.Header{"Retry-After": {"1"}})
	case refused.status == http.StatusForbidden:
		return nil, &miroError{http.StatusForbidden, miroDisabled}
	case f.hides:
		return nil, &miroError{http.StatusBadRequest, miroHidden}
	}
	return nil, &miroError{http.StatusForbidden, miroNoKey}
}

// miroFault answers with an error, as MiroTalk says it.
func (s *server) miroFault(w http.ResponseWriter, f foreign, err error) {
	said := make(map[string]any)
	if f.success {
		said["success"] = false
	}
	status, text := s.miroStatus(w, f, err)
	said[f.says] = text
	writeJSON(w, status, said)
}

// miroStatus returns the status and the text of an error, and sets its headers.
func (s *server) miroStatus(w http.ResponseWriter, f foreign, err error) (int, string) {
	var mine *miroError
	var many *TooManyError
	var headers huma.HeadersError
	switch {
	case errors.As(err, &mine):
		return mine.status, mine.text
	case errors.Is(err, ErrLogin):
		return http.StatusUnauthorized, miroRefused
	case errors.As(err, &many):
		w.Header().Set("Retry-After", strconv.Itoa(many.seconds()))
		return http.StatusTooManyRequests, tooManyLogins(many.After)
	}
	err = s.loginFault(err)
	if errors.As(err, &headers) {
		for name, values := range headers.GetHeaders() {
			w.Header()[name] = values
		}
	}
	var p *huma.ErrorModel
	if !errors.As(err, &p) {
		return http.StatusInternalServerError, "this is a bug of usher; its log has more"
	}
	if p.Status == http.StatusUnprocessableEntity { // which MiroTalk does not know
		return http.StatusBadRequest, p.Detail
	}
	return p.Status, p.Detail
}

// tooManyLogins is what MiroTalk says to too many wrong passwords.
func tooManyLogins(after time.Duration) string {
	minutes, s := max(1, int(math.Ceil(after.Minutes()))), "s"
	if minutes == 1 {
		s = ""
	}
	return fmt.Sprintf("Too many login attempts. Please try again after %d minute%s.", minutes, s)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // scripts cut links out of an answer as it stands
	_ = e.Encode(v)        // fails if the client has gone
}

// miroToken checks a password, and mints a token.
func (s *server) miroToken(ctx context.Context, u Usher, b miroBody) (any, error) {
	done, err := s.miroEnter(ctx, u, b, b.text("room"), 0)
	if err != nil {
		return nil, err
	}
	return map[string]any{"token": done.Token}, nil
}

// miroEnter checks the password of a body, and mints a token for a room that is valid for no longer than most, if that is not 0.
func (s *server) miroEnter(ctx context.Context, u Usher, b miroBody, room string, most time.Duration) (LoggedIn, error) {
	key := keyOf(ctx)
	asked, err := b.loginRequest(most, key.MaxTTL)
	if err != nil {
		return LoggedIn{}, err
	}
	switch {
	case room != "":
		if asked.Room, err = s.claim(ctx, u, room); err != nil {
			return LoggedIn{}, err
		}
	case !key.everywhere():
		return LoggedIn{}, &miroError{http.StatusBadRequest, "room: name it, because the key is not for every room"}
	}
	asked.Device = s.devices.of(key, asked.Username)
	done, err := s.enter(ctx, asked)
	if err != nil {
		return LoggedIn{}, err
	}
	s.devices.keep(key, asked.Username, done.Device)
	if done.Token == "" {
		return LoggedIn{}, &miroError{http.StatusBadRequest, "room: name it, because a token is for one room, and the account has not just one"}
	}
	return done, nil
}

// devices are what logins by the key of a script brought. So the script is a device that is known: strangers who try passwords at the
// portal's page cannot keep it out. They are forgotten with the process; then the next login is as the first.
type devices struct {
	mu    sync.Mutex
	known map[[2]string]string // by the names of key and account
}

// maxDevices is how many are remembered.
const maxDevices = 4096

func (d *devices) of(key *Key, username string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[[2]string{key.Name, username}]
}

func (d *devices) keep(key *Key, username, device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) >= maxDevices {
		d.known = make(map[[2]string]string)
	}
	d.known[[2]string{key.Name, username}] = device
}

// miroJoin makes a link into a room, with a token if a password is given.
func (s *server) miroJoin(ctx context.Context, u Usher, b miroBody) (any, error) {
	room := b.text("room")
	if room == "" {
		room = randomRoom(keyOf(ctx))
	}
	claim, err := s.claim(ctx, u, room)
	if err != nil {
		return nil, err
	}
	link := s.roomPage(claim)
	token, named := b.child("token")
	if named {
		if !keyOf(ctx).may(ScopeTokens) {
			return nil, &miroError{http.StatusForbidden, miroDisabled}
		}
		stays, _ := mirotalk.Duration(b.text("duration"))
		done, err := s.miroEnter(ctx, u, token, claim, stays)
		if err != nil {
			return nil, err
		}
		link = done.URL
	} else if err := s.hasMeet(); err != nil {
		return nil, err
	}
	between := "#"
	if strings.Contains(link, "#") {
		between = "&"
	}
	return map[string]any{"join": link + between + mirotalk.Fragment(mirotalk.Overrides(b.media(), named))}, nil
}

// hasMeet returns an error if nobody knows where jitsi-meet is.
func (s *server) hasMeet() error {
	if s.MeetURL == "" {
		return RequestError("this usher makes no links: set api.meet_url (where people reach jitsi-meet)")
	}
	return nil
}

// miroMeeting makes a link into a new room.
func (s *server) miroMeeting(ctx context.Context, u Usher, _ miroBody) (any, error) {
	claim, err := s.claim(ctx, u, randomRoom(keyOf(ctx)))
	if err == nil {
		err = s.hasMeet()
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"meeting": s.roomPage(claim)}, nil
}

// randomRoom returns the name of a room that nobody else knows, and that the key is for, if one of its patterns leaves room for that.
func randomRoom(key *Key) string {
	name := strings.ToLower(rand.Text())
	if key.everywhere() {
		return name
	}
	for _, pattern := range key.Rooms {
		tenant, rest := "", pattern
		if before, after, ok := strings.Cut(pattern, "]"); ok {
			if tenant, rest = before+"]", after; tenant == "[*]" {
				tenant = ""
			}
		}
		room, err := auth.ParseRoomName(tenant + strings.Replace(rest, "*", name, 1))
		if err == nil && strings.Contains(rest, "*") && key.covers(room) {
			return room.Claim()
		}
	}
	return name
}

// miroPeer is somebody in a room. usher does not see media, devices or browsers.
type miroPeer struct {
	Name      string `json:"name"`
	Presenter bool   `json:"presenter"`
}

type miroRoom struct {
	RoomID string     `json:"roomId"`
	Peers  []miroPeer `json:"peers"`
}

// miroRooms returns the rooms that are open and that the key of a call is for.
func miroRooms(ctx context.Context, u Usher) []component.RoomSummary {
	return slices.DeleteFunc(slices.Clone(u.Rooms()), func(r component.RoomSummary) bool {
		return !r.Open || !keyOf(ctx).sees(u, auth.Room{JID: r.Room, Tenant: r.Tenant, Name: r.Name})
	})
}

func (s *server) miroMeetings(ctx context.Context, u Usher, _ miroBody) (any, error) {
	all := []miroRoom{}
	for _, r := range miroRooms(ctx, u) {
		v, err := u.Room(ctx, r.Room.String())
		if errors.Is(err, component.ErrNoRoom) { // it has ended meanwhile
			continue
		} else if err != nil {
			return nil, err
		}
		room := miroRoom{RoomID: printable.Text(r.Room.Localpart()), Peers: []miroPeer{}}
		for _, o := range v.Occupants {
			if o.Inside && o.As != "service" {
				name := o.User
				if name == "" {
					name = o.Who.Localpart()
				}
				room.Peers = append(room.Peers, miroPeer{printable.Text(name), o.As == "host"})
			}
		}
		all = append(all, room)
	}
	return map[string]any{"meetings": all}, nil
}

// miroStats counts rooms and people. MiroTalk's documentation says totalPeers, and its code totalUsers.
func (s *server) miroStats(ctx context.Context, u Usher, _ miroBody) (any, error) {
	rooms, people := 0, 0
	for _, r := range miroRooms(ctx, u) {
		rooms++
		people += r.Hosts + r.Members + r.Guests
	}
	return map[string]any{
		"success": true, "timestamp": s.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "totalRooms": rooms, "totalUsers": people, "totalPeers": people,
	}, nil
}

// miroEnd ends a room.
func (s *server) miroEnd(ctx context.Context, u Usher, b miroBody) (any, error) {
	room, err := s.roomOf(ctx, u, b.path)
	if err == nil {
		err = u.EndRoom(ctx, room.JID.String(), "")
	}
	var p *huma.ErrorModel
	if errors.Is(err, component.ErrNoRoom) || errors.As(err, &p) && p.Status == http.StatusNotFound {
		return nil, &miroError{http.StatusNotFound, miroNoRoom}
	} else if err != nil {
		return nil, err
	}
	return map[string]any{"success": true, "message": miroEnded, "room": printable.Text(b.path)}, nil
}

// miroActive says whether a room is open.
func (s *server) miroActive(ctx context.Context, u Usher, b miroBody) (any, error) {
	named := b.text("roomId")
	if named == "" {
		return nil, &miroError{http.StatusBadRequest, miroHidden}
	}
	room, err := s.roomOf(ctx, u, named)
	var p *huma.ErrorModel
	if errors.As(err, &p) && p.Status == http.StatusNotFound { // which is no room
		return map[string]any{"message": false}, nil
	} else if err != nil {
		return nil, err
	}
	open := slices.ContainsFunc(u.Rooms(), func(r component.RoomSummary) bool { return r.Open && r.Room.Equal(room.JID) })
	return map[string]any{"message": open}, nil
}

// miroLogin checks a password, and mints a token if the room is known.
func (s *server) miroLogin(ctx context.Context, _ Usher, b miroBody) (any, error) {
	asked, err := b.loginRequest()
	if err != nil {
		return nil, err
	}
	asked.Room, asked.Affiliation = b.text("room"), "" // all that the account may be
	done, err := s.enter(ctx, asked)
	if err != nil {
		return nil, err
	}
	return map[string]any{"message": done.Token, "displayname": done.Display, "allowedRooms": done.Rooms}, nil
}
