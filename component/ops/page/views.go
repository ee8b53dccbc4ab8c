package page

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
)

const (
	// pageSize is how many rooms or entries one answer has at most, and maxPeople how many people of a room.
	pageSize, maxPeople = 100, 200
	// roomWithin is how long it may take to look into a room.
	roomWithin = 5 * time.Second
)

type room struct {
	Room       string     `json:"room"`
	Name       string     `json:"name"`
	Tenant     string     `json:"tenant,omitempty"`
	Open       bool       `json:"open"`
	HostInside bool       `json:"hostInside"`
	Locked     bool       `json:"locked"`
	Since      *time.Time `json:"since,omitempty"`
	Hosts      int        `json:"hosts"`
	Members    int        `json:"members"`
	Guests     int        `json:"guests"`
	Waiting    int        `json:"waiting"`
}

func roomOf(r component.RoomSummary) room {
	return room{
		Room: r.Room.String(), Name: r.Name, Tenant: r.Tenant, Open: r.Open, HostInside: r.HostInside, Locked: r.Locked,
		Since: moment(r.Since), Hosts: r.Hosts, Members: r.Members, Guests: r.Guests, Waiting: r.Waiting,
	}
}

// serveRooms answers with a part of the list of rooms: those with the text q in their address, from number from on, n of them.
func (p *page) serveRooms(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	list, version := p.current()
	total := len(list)
	if text := folded(q.Get("q")); text != "" {
		var found []component.RoomSummary
		for _, r := range list {
			if strings.Contains(folded(r.Room.String()+" "+r.Name+" "+r.Tenant), text) {
				found = append(found, r)
			}
		}
		list = found
	}
	matching := len(list)
	from := min(number(q, "from", 0), matching)
	rooms := make([]room, 0, pageSize)
	for _, r := range list[from:min(from+min(number(q, "n", pageSize), pageSize), matching)] {
		rooms = append(rooms, roomOf(r))
	}
	reply(w, map[string]any{"version": version, "total": total, "matching": matching, "from": from, "rooms": rooms})
}

// number returns a parameter that counts something.
func number(q url.Values, name string, otherwise int) int {
	if n, err := strconv.Atoi(q.Get(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

// folded is a text as it is searched.
func folded(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

type occupant struct {
	Who         string     `json:"who"`
	As          string     `json:"as"`
	Affiliation string     `json:"affiliation,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	JTI         string     `json:"jti,omitempty"`
	User        string     `json:"user,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	Inside      bool       `json:"inside"`
}

type waiter struct {
	Who    string     `json:"who"`
	Since  *time.Time `json:"since,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

type roomView struct {
	room
	Rule      string     `json:"rule"`
	Number    int        `json:"number"`
	Ends      *time.Time `json:"ends,omitempty"`
	Occupants []occupant `json:"occupants"`
	Waits     []waiter   `json:"waits"`
	More      int        `json:"more,omitempty"` // people left out
}

// serveRoom answers with one room and the people in it and before it.
func (p *page) serveRoom(w http.ResponseWriter, r *http.Request) {
	source := p.o.Active()
	if source == nil {
		http.Error(w, "This usher stands by. The active one knows the rooms.", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), roomWithin)
	defer cancel()
	v, err := source.Room(ctx, r.URL.Query().Get("address"))
	switch {
	case errors.Is(err, component.ErrNoRoom), errors.Is(err, component.ErrRoom):
		http.Error(w, "Nobody is in this room now, and nobody waits for it.", http.StatusNotFound)
	case err != nil: // the error is for the log
		http.Error(w, "usher could not look into this room. It tries again.", http.StatusServiceUnavailable)
	default:
		reply(w, viewOf(v))
	}
}

func viewOf(v component.RoomView) roomView {
	view := roomView{
		room: roomOf(v.RoomSummary), Rule: v.Text, Number: v.RuleNumber, Ends: moment(v.Ends),
		Occupants: []occupant{}, Waits: []waiter{},
		More: max(0, len(v.Occupants)-maxPeople) + max(0, len(v.Waits)-maxPeople),
	}
	for _, o := range v.Occupants[:min(len(v.Occupants), maxPeople)] {
		view.Occupants = append(view.Occupants, occupant{
			Who: o.Who.String(), As: o.As, Affiliation: string(o.Affiliation), Issuer: o.Issuer, JTI: o.JTI, User: o.User,
			Since: moment(o.Since), Inside: o.Inside,
		})
	}
	for _, o := range v.Waits[:min(len(v.Waits), maxPeople)] {
		view.Waits = append(view.Waits, waiter{Who: o.Who.String(), Since: moment(o.Since), Reason: string(o.Reason)})
	}
	return view
}

// entry is something that happened, as one row of the page.
type entry struct {
	ID          string    `json:"id"`
	What        string    `json:"what"`
	At          time.Time `json:"at"`
	Room        string    `json:"room,omitempty"`
	Name        string    `json:"name,omitempty"`
	Tenant      string    `json:"tenant,omitempty"`
	Who         string    `json:"who,omitempty"` // bare
	User        string    `json:"user,omitempty"`
	Verdict     string    `json:"verdict,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Affiliation string    `json:"affiliation,omitempty"`
	Again       bool      `json:"again,omitempty"`
	Text        string    `json:"text,omitempty"`
}

func entries(h *history.History, all []history.Entry) []entry {
	rows := make([]entry, 0, len(all))
	for _, e := range all {
		row := entry{
			ID: h.Name(e.Number), What: string(e.What), At: e.At, Room: e.Room.String(), Name: e.Name, Tenant: e.Tenant,
			Who: e.Who.Bare().String(), User: e.User, Text: e.Text,
		}
		if e.What == component.Decided {
			row.Verdict, row.Reason = e.Verdict.String(), string(e.Reason)
			row.Affiliation, row.Again = string(e.Affiliation), e.Again
		}
		rows = append(rows, row)
	}
	return rows
}

// shown reports whether the page has a row for an entry. The coming and going of people shows in their room.
func shown(e history.Entry) bool { return e.What != component.Joined && e.What != component.Left }

// serveDecisions answers with the last entries, the newest first: those of the kind show with the text q, n of them.
func (p *page) serveDecisions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	kind, text := q.Get("show"), folded(q.Get("q"))
	newest := p.o.History.Newest()
	all := p.o.History.Last(min(number(q, "n", pageSize), pageSize), func(e history.Entry) bool {
		return e.Number <= newest && shown(e) && isOf(e, kind) && (text == "" || strings.Contains(searched(e), text))
	})
	reply(w, map[string]any{"entries": entries(p.o.History, all), "newest": p.o.History.Name(newest)})
}

// isOf reports whether an entry is of a kind that the page offers. page.js has the same kinds.
func isOf(e history.Entry, kind string) bool {
	switch kind {
	case "decisions":
		return e.What == component.Decided
	case "allow", "wait", "deny":
		return e.What == component.Decided && e.Verdict.String() == kind
	case "events":
		return e.What != component.Decided
	}
	return true
}

// searched is the text of an entry in which the page searches. page.js searches in the same.
func searched(e history.Entry) string {
	return folded(strings.Join([]string{
		e.Room.String(), e.Name, e.Tenant, e.Who.Bare().String(), e.User, string(e.Reason), string(e.What), e.Text}, " "))
}

// explanation is everything about one entry.
type explanation struct {
	entry
	Doc    string      `json:"doc,omitempty"` // what the reason means, and what to do
	Do     string      `json:"do,omitempty"`
	VHost  string      `json:"vhost,omitempty"`
	Issuer string      `json:"issuer,omitempty"`
	JTI    string      `json:"jti,omitempty"`
	Took   float64     `json:"took,omitempty"` // milliseconds
	Waited float64     `json:"waited,omitempty"`
	Steps  []auth.Step `json:"steps"`
}

// serveExplanation answers with everything about the entry with the name of.
func (p *page) serveExplanation(w http.ResponseWriter, r *http.Request) {
	h := p.o.History
	e, ok := h.Get(h.Number(r.URL.Query().Get("of")))
	if !ok {
		http.Error(w, "usher no longer keeps this entry. Its log and audit log may have it.", http.StatusNotFound)
		return
	}
	x := explanation{
		entry: entries(h, []history.Entry{e})[0], VHost: e.VHost, Issuer: e.Issuer, JTI: e.JTI, Steps: e.Steps,
		Took: milliseconds(e.Took), Waited: milliseconds(e.Waited),
	}
	if x.Steps == nil {
		x.Steps = []auth.Step{}
	}
	if e.What == component.Decided {
		x.Doc, x.Do = e.Reason.Doc(), e.Reason.Row().Do
	}
	reply(w, x)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
