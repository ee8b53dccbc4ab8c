package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/pkg/printable"
)

// Client asks the usher behind a socket.
type Client struct {
	Path string
}

// askWithin is how long usher may take to answer a command.
const askWithin = 30 * time.Second

// maxAnswer is how much of an answer is read: a grant has some 400 bytes.
const maxAnswer = 256 << 20

// RefusedError is usher's answer to a question that it could not, or would not, answer.
type RefusedError struct {
	Status int // of HTTP
	Text   string
}

func (e *RefusedError) Error() string { return e.Text }

// Status asks what the usher is.
func (c Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, Base+"/usher", nil, &s)
}

// Grants returns who is let into a room, or into all rooms if room is empty.
func (c Client) Grants(ctx context.Context, room string) ([]Grant, error) {
	path := Base + "/grants"
	if room != "" {
		path += "?" + url.Values{"room": {room}}.Encode()
	}
	var list grants
	err := c.ask(ctx, http.MethodGet, path, nil, &list)
	return list.Grants, err
}

// Revocations returns what is taken back, the oldest first. The warning says why some are missing.
func (c Client) Revocations(ctx context.Context) (all []Revocation, warning string, err error) {
	var list revocations
	err = c.ask(ctx, http.MethodGet, Base+"/revocations", nil, &list)
	return list.Revocations, list.Warning, err
}

// Revoke takes tokens back.
func (c Client) Revoke(ctx context.Context, r Revocation) (done Revoked, err error) {
	return done, c.ask(ctx, http.MethodPost, Base+"/revocations", r, &done)
}

// Lift ends a revocation.
func (c Client) Lift(ctx context.Context, id string) error {
	return c.ask(ctx, http.MethodDelete, Base+"/revocations/"+url.PathEscape(id), nil, nil)
}

// Rooms returns the rooms that are open, or for which people wait.
func (c Client) Rooms(ctx context.Context) ([]Room, error) {
	var list roomList
	err := c.ask(ctx, http.MethodGet, Base+"/rooms", nil, &list)
	return list.Rooms, err
}

// Room returns a room, and who is inside or waits.
func (c Client) Room(ctx context.Context, room string) (v RoomView, err error) {
	return v, c.ask(ctx, http.MethodGet, roomPath(room), nil, &v)
}

// EndRoom ends a room. The people inside read the reason, if it is not empty.
func (c Client) EndRoom(ctx context.Context, room, reason string) error {
	return c.ask(ctx, http.MethodDelete, roomPath(room)+"?"+url.Values{"reason": {reason}}.Encode(), nil, nil)
}

// RemoveOccupant puts somebody out of a room, and with bar keeps them out.
func (c Client) RemoveOccupant(ctx context.Context, room, who, reason string, bar bool) error {
	query := url.Values{"reason": {reason}, "bar": {strconv.FormatBool(bar)}}
	return c.ask(ctx, http.MethodDelete, roomPath(room)+"/occupants/"+url.PathEscape(who)+"?"+query.Encode(), nil, nil)
}

// LockRoom locks a room, or unlocks it.
func (c Client) LockRoom(ctx context.Context, room string, lock bool) error {
	method := http.MethodPost
	if !lock {
		method = http.MethodDelete
	}
	return c.ask(ctx, method, roomPath(room)+"/lock", nil, nil)
}

func roomPath(room string) string { return Base + "/rooms/" + url.PathEscape(room) }

// ask sends a request and decodes the answer. The error says what to do.
func (c Client) ask(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var sends io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sends = bytes.NewReader(b)
	}
	// The host is not looked up: the connection is the socket.
	req, err := http.NewRequestWithContext(ctx, method, "http://usher"+path, sends)
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.Path)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	got, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return c.explained(err)
	}
	defer got.Body.Close()
	said, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("usher's answer on %s broke off: %w", c.Path, unwrapped(err))
	}
	if _, isUsher := got.Header[versionHeader]; !isUsher {
		return fmt.Errorf("something listens on %s that is no usher: name usher's socket with --socket", c.Path)
	}
	wrongVersion := fmt.Errorf("the usher behind %s has another version, %s: use the usher command of that version, or restart it",
		c.Path, printable.Text(got.Header.Get(versionHeader)))
	if got.StatusCode >= http.StatusMultipleChoices {
		var p huma.ErrorModel
		if err := json.Unmarshal(said, &p); err != nil || p.Detail == "" || p.Detail == errNoSuchPath.Error() {
			return wrongVersion
		}
		return &RefusedError{got.StatusCode, p.Detail}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(said, into); err != nil {
		return wrongVersion
	}
	return nil
}

// explained says what to do about a connection that fails.
func (c Client) explained(err error) error {
	err = unwrapped(err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no usher runs with the socket %s: %w", c.Path, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the usher of the socket %s runs no more: start usher serve: %w", c.Path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the socket %s is for usher's user and group only: run this command as that user, as root, or as a member of that group: %w", c.Path, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the usher behind %s does not answer: %w", c.Path, err)
	}
	return fmt.Errorf("could not ask the usher behind %s: %w", c.Path, err)
}

// unwrapped removes from an error what is said already, such as the made-up host.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err
}
