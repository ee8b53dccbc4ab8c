package prosodytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ObserverOptions are the account of an observer. Its bare JID must be among the admins of the MUC services that it is to
// look at (admins, and component_admins_as_room_owners).
type ObserverOptions struct {
	Host, User, Password string
	Resource             string // empty leaves it to the server
}

// Observer looks at rooms from outside, without being in them: an ordinary client that is an admin of the MUC service. It
// sees what the server knows, and nothing of what usher thinks. Any goroutine may use it.
type Observer struct{ client *Client }

// RoomView is what a room was at one moment.
type RoomView struct {
	Exists      bool
	MembersOnly bool
	Occupants   []Occupant // sorted by nick; each occupant's first JID, if it has several

	// Affiliations is the list of those with an affiliation (owner, admin, member, outcast) by bare JID, whether they are
	// inside or not. Admins of the service are owners everywhere without being on the list.
	Affiliations map[string]string
}

// Occupant is somebody in a room.
type Occupant struct {
	Nick        string
	JID         string // the real one, full
	Role        string // moderator, participant or visitor
	Affiliation string // owner, admin, member or none
}

// Occupant is the one with this real JID, full or bare, or the zero Occupant.
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
	return &Observer{s.Client(t, o.client())}
}

// DialObserver connects an observer. The context bounds this only. The caller closes it.
func (s *Server) DialObserver(ctx context.Context, o ObserverOptions) (*Observer, error) {
	c, err := s.Dial(ctx, o.client())
	if err != nil {
		return nil, err
	}
	return &Observer{c}, nil
}

func (o ObserverOptions) client() ClientOptions {
	return ClientOptions{Host: o.Host, User: o.User, Password: o.Password, Resource: o.Resource}
}

// Close disconnects.
func (o *Observer) Close() error { return o.client.Close() }

// Room looks at a room. All is asked in one breath, and Prosody answers it before it turns to anybody else, so what is seen
// belongs together. A room that does not exist is no error.
func (o *Observer) Room(ctx context.Context, room string) (RoomView, error) {
	type question struct {
		typ, name string // of the list; none for the configuration form
		answer    *waiter
	}
	var questions []question
	var all strings.Builder
	ask := func(typ, name, payload string) {
		xml, answer := o.client.request("get", room, payload)
		questions = append(questions, question{typ, name, answer})
		all.WriteString(xml)
	}
	ask("", "", "<query xmlns='"+nsMUCOwner+"'/>")
	for _, role := range []string{"moderator", "participant", "visitor"} {
		ask("role", role, "<query xmlns='"+nsMUCAdmin+"'><item role='"+role+"'/></query>")
	}
	for _, affiliation := range []string{"owner", "admin", "member", "outcast"} {
		ask("affiliation", affiliation, "<query xmlns='"+nsMUCAdmin+"'><item affiliation='"+affiliation+"'/></query>")
	}
	if err := o.client.Send(all.String()); err != nil {
		return RoomView{}, err
	}

	view := RoomView{Exists: true, Affiliations: map[string]string{}}
	var errs []error
	for _, q := range questions {
		answer, err := o.client.result(ctx, q.answer)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case slices.Contains([]string{"item-not-found", "gone"}, answer.ErrorCondition()):
			// Prosody says "gone" of a persistent room that was destroyed (muc_tombstones), such as one that had breakout
			// rooms.
			view.Exists = false
			continue
		case answer.Attr["type"] != "result":
			errs = append(errs, fmt.Errorf("asking %s for its %s %s: %s", room, q.name, q.typ, answer.ErrorCondition()))
			continue
		}
		if q.typ == "" {
			view.MembersOnly = isTrue(formField(answer, "muc#roomconfig_membersonly"))
		}
		for _, item := range answer.Child("query", nsMUCAdmin).Children {
			switch q.typ {
			case "role":
				view.Occupants = append(view.Occupants, Occupant{
					Nick: item.Attr["nick"], JID: item.Attr["jid"], Role: item.Attr["role"], Affiliation: item.Attr["affiliation"],
				})
			case "affiliation":
				view.Affiliations[item.Attr["jid"]] = item.Attr["affiliation"]
			}
		}
	}
	if err := errors.Join(errs...); err != nil || !view.Exists {
		return RoomView{}, err
	}
	slices.SortFunc(view.Occupants, func(a, b Occupant) int { return strings.Compare(a.Nick, b.Nick) })
	return view, nil
}

// String is the view in one line for the log of a test.
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

// formField is the first value of a field in a stanza's data form (XEP-0004).
func formField(s Stanza, name string) string {
	for _, f := range s.Find("x", nsData).Children {
		if f.Name == "field" && f.Attr["var"] == name {
			return f.Child("value", nsData).Text
		}
	}
	return ""
}

func isTrue(s string) bool { return s == "1" || s == "true" }
