package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
)

// usher is an Usher that does as it is told.
type usher struct {
	mu     sync.Mutex
	grants []component.LiveGrant
	asked  string // the latest question
	all    []auth.Revocation
	err    error
	rooms  []component.RoomSummary
	view   component.RoomView
}

func (u *usher) is(err error, asked string, args ...any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = fmt.Sprintf(asked, args...)
	return errors.Join(u.err, err)
}

func (u *usher) Grants(room string) ([]component.LiveGrant, error) {
	return u.grants, u.is(nil, "grants %q", room)
}

func (u *usher) Revoke(_ context.Context, r auth.Revocation) (component.Revoked, error) {
	err := u.is(nil, "revoke %+v", r)
	r.ID, r.At = "ID", noon
	return component.Revoked{Revocation: r, Out: u.grants[:1], Spared: u.grants[1:]}, err
}

func (u *usher) Revocations(context.Context) ([]auth.Revocation, error) {
	return u.all, u.is(nil, "revocations")
}

func (u *usher) Issuers() []string { return []string{"my_app", "portal"} }

func (u *usher) Unrevoke(_ context.Context, id string) error { return u.is(nil, "unrevoke %s", id) }

var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

func newUsher() *usher {
	room := jid.MustParse("standup@conference.meet.example.com")
	return &usher{
		grants: []component.LiveGrant{
			{Room: room, Who: jid.MustParse("romeo@meet.example.com"), Affiliation: "owner", Reason: auth.ReasonHost, Issuer: "my_app",
				JTI: "j1", User: "u1", At: noon, Expires: noon.Add(time.Hour), RemoveAt: noon.Add(2 * time.Hour)},
			{Room: room, Who: jid.MustParse("juliet@guest.example.com"), Affiliation: "member", Reason: auth.ReasonGuest, At: noon},
		},
		all: []auth.Revocation{{ID: "ID", JTI: "j1", At: noon, Room: room.String(), Reason: "lost <phone>"}},
	}
}

var guarded = auth.New(auth.Policy{Services: []string{"conference.meet.example.com"}})

// Address is as in a component that guards one MUC service.
func (u *usher) Address(room string) (jid.JID, error) {
	if !strings.Contains(room, "@") {
		room += "@conference.meet.example.com"
	}
	j, err := guarded.Room(room)
	if err != nil || j.Domainpart() != "conference.meet.example.com" {
		return j, fmt.Errorf("%w: %v", component.ErrRoom, err)
	}
	return j, nil
}

func (u *usher) Rooms() []component.RoomSummary { return u.rooms }

func (u *usher) Room(_ context.Context, address string) (component.RoomView, error) {
	return u.view, u.is(nil, "room %s", address)
}

func (u *usher) EndRoom(_ context.Context, address, reason string) error {
	return u.is(nil, "end %s %q", address, reason)
}

func (u *usher) RemoveOccupant(_ context.Context, address, who, reason string, bar bool) error {
	return u.is(nil, "remove %s from %s %q %t", who, address, reason, bar)
}

func (u *usher) LockRoom(_ context.Context, address string, lock bool) error {
	return u.is(nil, "lock %s %t", address, lock)
}
