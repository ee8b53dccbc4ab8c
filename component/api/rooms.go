package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// Room is what a list of rooms says of one.
type Room struct {
	Room       string    `json:"room" doc:"The room's address."`
	Name       string    `json:"name" doc:"Its name, without the tenant."`
	Tenant     string    `json:"tenant,omitempty"`
	Open       bool      `json:"open" doc:"False if people only wait for it."`
	HostInside bool      `json:"host_inside"`
	Locked     bool      `json:"locked"`
	Since      time.Time `json:"since,omitzero" doc:"When usher first knew of it."`
	Hosts      int       `json:"hosts"`
	Members    int       `json:"members"`
	Guests     int       `json:"guests"`
	Waiting    int       `json:"waiting"`
}

// RoomView is one room and the people who are inside, or wait.
type RoomView struct {
	Room
	RuleNumber int        `json:"rule_number" doc:"The number of its rule in rooms.rules, from 0; -1 if none fits."`
	Rule       string     `json:"rule" doc:"Its rule in words."`
	Ends       time.Time  `json:"ends,omitzero" doc:"When the room ends, if that is known."`
	Occupants  []Occupant `json:"occupants"`
	Waits      []Waiter   `json:"waits"`
}

// Occupant is somebody who was let in.
type Occupant struct {
	ID          string    `json:"id" doc:"The bare JID."`
	As          string    `json:"as" doc:"What they count as: host, member, guest, service or lobby."`
	Affiliation string    `json:"affiliation,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	JTI         string    `json:"jti,omitempty"`
	User        string    `json:"user,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Inside      bool      `json:"inside" doc:"False for somebody who may enter, and has not been seen inside."`
}

// Waiter is somebody who waits to be let in.
type Waiter struct {
	ID     string    `json:"id" doc:"The bare JID."`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason"`
}

// roomList is the answer that lists rooms.
type roomList struct {
	Rooms []Room `json:"rooms"`
}

// InRoom is what the operations on one room are asked.
type InRoom struct {
	Room string `path:"room" maxLength:"3071" doc:"The room's address, or its name if usher guards one MUC service."`
}

// Because is what the operations are asked that people notice.
type Because struct {
	Reason string `query:"reason" maxLength:"200" doc:"Why, for the people in the room."`
}

// none is an answer without a body.
type none struct{}

func (s *server) roomOperations(api huma.API) {
	huma.Register(api, operation("list-rooms", http.MethodGet, "/rooms", "List the rooms that are open, or for which people wait", ScopeRoomsRead), s.listRooms)
	huma.Register(api, operation("get-room", http.MethodGet, "/rooms/{room}", "Say who is inside a room, who waits, and which rule holds", ScopeRoomsRead, http.StatusNotFound), s.getRoom)
	huma.Register(api, operation("end-room", http.MethodDelete, "/rooms/{room}", "End a room: put everybody out", ScopeRoomsWrite, http.StatusNotFound), s.endRoom)
	huma.Register(api, operation("remove-occupant", http.MethodDelete, "/rooms/{room}/occupants/{id}", "Put somebody out of a room", ScopeRoomsWrite, http.StatusNotFound), s.removeOccupant)
	huma.Register(api, operation("lock-room", http.MethodPost, "/rooms/{room}/lock", "Refuse newcomers, except for hosts, until the room ends or is unlocked", ScopeRoomsWrite, http.StatusNotFound), s.lockRoom(true))
	huma.Register(api, operation("unlock-room", http.MethodDelete, "/rooms/{room}/lock", "Let newcomers in again", ScopeRoomsWrite, http.StatusNotFound), s.lockRoom(false))
}

// room returns the active usher, and the room that is meant, if the key of the call covers it.
func (s *server) room(ctx context.Context, named string) (Usher, auth.Room, error) {
	u, err := s.active()
	if err != nil {
		return nil, auth.Room{}, s.fault(err)
	}
	room, err := s.roomOf(ctx, u, named)
	return u, room, err
}

func (s *server) roomOf(ctx context.Context, u Usher, named string) (room auth.Room, err error) {
	if LooksLikeToken(named) {
		return room, s.fault(errToken)
	}
	address, err := u.Address(named)
	if err == nil {
		room, err = auth.ParseRoom(address.String())
	}
	if err != nil {
		return room, s.fault(err)
	}
	callOf(ctx).Room = room.JID.String()
	if key := keyOf(ctx); !key.covers(room) {
		return room, problem(http.StatusForbidden, "the key %s is not for this room, but for %s", key.Name, listed(key.Rooms))
	}
	return room, nil
}

// parsed returns the room with an address that usher knows; zero if it cannot be read, which no limited key covers.
func parsed(address jid.JID) auth.Room {
	room, _ := auth.ParseRoom(address.String())
	return room
}

func (s *server) listRooms(ctx context.Context, _ *struct{}) (*struct{ Body roomList }, error) {
	u, err := s.active()
	if err != nil {
		return nil, s.fault(err)
	}
	list := roomList{Rooms: []Room{}}
	for _, r := range u.Rooms() {
		if keyOf(ctx).sees(u, auth.Room{JID: r.Room, Tenant: r.Tenant, Name: r.Name}) {
			list.Rooms = append(list.Rooms, summary(r))
		}
	}
	return &struct{ Body roomList }{list}, nil
}

func summary(r component.RoomSummary) Room {
	return Room{
		Room: printable.Text(r.Room.String()), Name: printable.Text(r.Name), Tenant: printable.Text(r.Tenant), Open: r.Open, HostInside: r.HostInside, Locked: r.Locked,
		Since: r.Since, Hosts: r.Hosts, Members: r.Members, Guests: r.Guests, Waiting: r.Waiting,
	}
}

func (s *server) getRoom(ctx context.Context, in *InRoom) (*struct{ Body RoomView }, error) {
	u, room, err := s.room(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	v, err := u.Room(ctx, room.JID.String())
	if err != nil {
		return nil, s.fault(err)
	}
	view := RoomView{
		Room: summary(v.RoomSummary), RuleNumber: v.RuleNumber, Rule: printable.Text(v.Text), Ends: dated(v.Ends),
		Occupants: make([]Occupant, len(v.Occupants)), Waits: make([]Waiter, len(v.Waits)),
	}
	for i, o := range v.Occupants {
		view.Occupants[i] = Occupant{
			ID: printable.Text(o.Who.String()), As: o.As, Affiliation: o.Affiliation,
			Issuer: printable.Text(o.Issuer), JTI: printable.Text(o.JTI), User: printable.Text(o.User), Since: o.Since, Inside: o.Inside,
		}
	}
	for i, w := range v.Waits {
		view.Waits[i] = Waiter{printable.Text(w.Who.String()), w.Since, string(w.Reason)}
	}
	return &struct{ Body RoomView }{view}, nil
}

func (s *server) endRoom(ctx context.Context, in *struct {
	InRoom
	Because
}) (*none, error) {
	u, room, err := s.room(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	if LooksLikeToken(in.Reason) {
		return nil, s.fault(errToken)
	}
	return &none{}, s.fault(u.EndRoom(ctx, room.JID.String(), printable.Text(in.Reason)))
}

func (s *server) removeOccupant(ctx context.Context, in *struct {
	InRoom
	ID  string `path:"id" maxLength:"3071" doc:"The bare JID."`
	Bar bool   `query:"bar" doc:"Keep the person out, as rooms.after_kick with bar does."`
	Because
}) (*none, error) {
	u, room, err := s.room(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	if LooksLikeToken(in.ID) || LooksLikeToken(in.Reason) {
		return nil, s.fault(errToken)
	}
	who, ok := person(in.ID)
	if !ok {
		return nil, problem(http.StatusUnprocessableEntity, "the id of an occupant is a bare JID, such as romeo@meet.example.com: GET %s/rooms/{room} lists them", Base)
	}
	callOf(ctx).Who = who.String()
	return &none{}, s.fault(u.RemoveOccupant(ctx, room.JID.String(), who.String(), printable.Text(in.Reason), in.Bar))
}

// person returns the bare JID of somebody; false if it is none. The server may have one that RFC 7622 refuses: it knows RFC 6122, of which
// appendix A.5 says what no name has.
func person(id string) (who jid.JID, ok bool) {
	who, err := jid.Parse(id)
	if err != nil {
		raw, _ := jid.ParseUnsafe(id)
		if id != printable.Text(id) || strings.ContainsAny(raw.Localpart(), " \"&'/:<>@") {
			return who, false
		}
		who = raw.JID
	}
	return who, who.Localpart() != "" && who.Domainpart() != "" && who.Resourcepart() == ""
}

func (s *server) lockRoom(lock bool) func(context.Context, *InRoom) (*none, error) {
	return func(ctx context.Context, in *InRoom) (*none, error) {
		u, room, err := s.room(ctx, in.Room)
		if err != nil {
			return nil, err
		}
		return &none{}, s.fault(u.LockRoom(ctx, room.JID.String(), lock))
	}
}
