package prosodytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ObserverOptions are the account of an observer. Its bare JID must be among the admins of the MUC services that it looks at
// (admins, and component_admins_as_room_owners).
type ObserverOptions struct {
	Host, User, Password string
	Resource             string // if empty, the server chooses one
}

// Observer looks at rooms without being in them: beside Prosody it is an ordinary client that is an admin of the MUC service. It sees
// what the server knows, not what usher knows. Any goroutine may use it.
type Observer struct {
	client *Client // nil if look is not
	look   func(ctx context.Context, room string) (RoomView, error)
}

// NewObserver returns an observer that looks in another way, for a [Program] that tells an admin outside less.
func NewObserver(look func(ctx context.Context, room string) (RoomView, error)) *Observer {
	return &Observer{look: look}
}

// RoomView is the state of a room at one moment.
type RoomView struct {
	Exists      bool
	MembersOnly bool
	Occupants   []Occupant // sorted by nick; an occupant with several JIDs has its first one here

	// Affiliations are the affiliations (owner, admin, member, outcast) by bare JID, of people inside and outside. It does
	// not list admins of the service, who are owners of every room.
	Affiliations map[string]string
}

// Occupant is somebody in a room.
type Occupant struct {
	Nick        string
	JID         string // the full real JID
	Role        string // moderator, participant or visitor
	Affiliation string // owner, admin, member or none
}

// Occupant returns the occupant with this real JID, full or bare, or the zero Occupant.
func (v RoomView) Occupant(jid string) Occupant {
	for _, o := range v.Occupants {
		if o.JID == jid || bare(o.JID) == jid {
			return o
		}
	}
	return Occupant{}
}

// Observe connects an observer for the time of the test, as [Server.DialObserver] does.
func (s *Server) Observe(t TB, o ObserverOptions) *Observer {
	t.Helper()
	return &Observer{client: s.Client(t, o.client())}
}

// DialObserver connects an observer. The context bounds connecting only. The caller closes the observer.
func (s *Server) DialObserver(ctx context.Context, o ObserverOptions) (*Observer, error) {
	c, err := s.Dial(ctx, o.client())
	if err != nil {
		return nil, err
	}
	return &Observer{client: c}, nil
}

func (o ObserverOptions) client() ClientOptions {
	return ClientOptions{Host: o.Host, User: o.User, Password: o.Password, Resource: o.Resource}
}

// Close disconnects.
func (o *Observer) Close() error {
	if o.client == nil {
		return nil
	}
	return o.client.Close()
}

// Room looks at a room. It sends all its questions at once, and Prosody answers them before it turns to another client, so
// the answers belong to the same moment. A room that does not exist is not an error.
func (o *Observer) Room(ctx context.Context, room string) (RoomView, error) {
	if o.look != nil {
		return o.look(ctx, room)
	}
	questions := []question{{payload: "<query xmlns='" + nsMUCOwner + "'/>"}}
	for _, role := range []string{"moderator", "participant", "visitor"} {
		questions = append(questions, listQuestion("role", role))
	}
	for _, affiliation := range []string{"owner", "admin", "member", "outcast"} {
		questions = append(questions, listQuestion("affiliation", affiliation))
	}
	var all strings.Builder
	for i := range questions {
		var xml string
		xml, questions[i].answer = o.client.request("get", room, questions[i].payload)
		all.WriteString(xml)
	}
	if err := o.client.Send(all.String()); err != nil {
		return RoomView{}, err
	}

	view := RoomView{Exists: true, Affiliations: map[string]string{}}
	var errs []error
	for _, q := range questions {
		answer, err := o.client.result(ctx, q.answer)
		if err == nil {
			err = view.add(q, answer)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("asking %s for its %s: %w", room, q, err))
		}
	}
	if err := errors.Join(errs...); err != nil || !view.Exists {
		return RoomView{}, err
	}
	slices.SortFunc(view.Occupants, func(a, b Occupant) int { return strings.Compare(a.Nick, b.Nick) })
	return view, nil
}

// question is one IQ to a room: for a list by role or by affiliation, or without a kind for the configuration form.
type question struct {
	kind, value string
	payload     string
	answer      *waiter
}

func listQuestion(kind, value string) question {
	return question{kind: kind, value: value, payload: "<query xmlns='" + nsMUCAdmin + "'><item " + kind + "='" + value + "'/></query>"}
}

func (q question) String() string {
	if q.kind == "" {
		return "configuration form"
	}
	return q.kind + " " + q.value
}

// add adds the answer to a question.
func (v *RoomView) add(q question, answer Stanza) error {
	switch condition := answer.ErrorCondition(); {
	case condition == "item-not-found", condition == "gone":
		// Prosody answers "gone" for a persistent room that was destroyed (muc_tombstones), such as one that had breakout rooms.
		v.Exists = false
		return nil
	case answer.Attr["type"] != "result":
		return errors.New(condition)
	}
	items := answer.Child("query", nsMUCAdmin).Children
	switch q.kind {
	case "":
		v.MembersOnly = isTrue(formField(answer, "muc#roomconfig_membersonly"))
	case "role":
		for _, item := range items {
			v.Occupants = append(v.Occupants, Occupant{
				Nick: item.Attr["nick"], JID: item.Attr["jid"], Role: item.Attr["role"], Affiliation: item.Attr["affiliation"],
			})
		}
	case "affiliation":
		for _, item := range items {
			v.Affiliations[item.Attr["jid"]] = item.Attr["affiliation"]
		}
	}
	return nil
}

// String is the view in one line, for the log of a test.
func (v RoomView) String() string {
	if !v.Exists {
		return "no room"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "members-only: %t; occupants:", v.MembersOnly)
	for _, o := range v.Occupants {
		fmt.Fprintf(&b, " %s (%s, %s, %s)", o.Nick, o.JID, o.Role, o.Affiliation)
	}
	b.WriteString("; affiliations:")
	for _, jid := range slices.Sorted(maps.Keys(v.Affiliations)) {
		fmt.Fprintf(&b, " %s %s", jid, v.Affiliations[jid])
	}
	return b.String()
}

// formField returns the first value of a field in a stanza's data form (XEP-0004).
func formField(s Stanza, name string) string {
	for _, f := range s.Find("x", nsData).Children {
		if f.Name == "field" && f.Attr["var"] == name {
			return f.Child("value", nsData).Text
		}
	}
	return ""
}

func isTrue(s string) bool { return s == "1" || s == "true" }
