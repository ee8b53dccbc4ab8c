package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/page"
)

const (
	// maxShown is how many rooms a page shows, and seenWithin how long it waits for what is said of them.
	maxShown   = 200
	seenWithin = 3 * time.Second
)

// wild are the characters of patterns that mean others (path.Match).
const wild = `*?[\`

// exactly returns the rooms that patterns name, without those that fit several.
func exactly(patterns []string) (all []auth.Room) {
	for _, pattern := range patterns {
		name := pattern
		if strings.HasPrefix(pattern, "[") {
			_, name, _ = strings.Cut(pattern[1:], "]")
			if tenant, _, _ := strings.Cut(pattern[1:], "]"); strings.ContainsAny(tenant, wild) {
				continue
			}
		}
		if strings.ContainsAny(name, wild) {
			continue
		}
		room, err := auth.ParseRoomName(pattern)
		if err == nil && room.Claim() != "" && auth.MatchRoom(pattern, room) {
			all = append(all, room)
		}
	}
	return all
}

// rooms is the page with the person's rooms.
func (p *Portal) rooms(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	s, person, ok := v.member(ctx)
	if !ok {
		return
	}
	said := page.Text(v.r.URL.Query().Get("said"))
	if !slices.Contains(saying, said) {
		said = ""
	}
	v.showRooms(ctx, http.StatusOK, s, person, said)
}

// saying is what the page of rooms may say on account of its address.
var saying = []page.Text{page.Locked, page.Unlocked, page.Ended, page.NotOpen}

// showRooms shows the person's rooms, see rows.
func (v *visit) showRooms(ctx context.Context, status int, s session, person account.Person, said page.Text) {
	exact := exactly(person.Rooms)
	own := slices.Clone(exact)
	for _, claim := range s.Opened {
		if room, err := auth.ParseRoomName(claim); err == nil && person.May(room) && !slices.ContainsFunc(own, func(r auth.Room) bool { return nameOf(r) == nameOf(room) }) {
			own = append(own, room)
		}
	}
	shown := page.Rooms{
		Person: firstOf(person.Display, person.Name), Rooms: v.rows(ctx, own, person), Any: len(exact) < len(person.Rooms),
		Patterns: typed(person.Rooms), Text: said,
	}
	if shown.Any {
		shown.Random = randomFor(person)
	}
	v.pages.Rooms(v.w, v.r, status, shown)
}

// typed returns those of a person's patterns that fit several rooms, as the person types such a name: without the tenant that homed adds.
// It returns none if any name will do.
func typed(patterns []string) (all []string) {
	for _, pattern := range patterns {
		name := pattern
		if rest, ok := strings.CutPrefix(pattern, "["); ok {
			tenant, after, _ := strings.Cut(rest, "]")
			if tenant == "*" || !strings.ContainsAny(tenant, wild) {
				name = after
			}
		}
		switch {
		case name == "*":
			return nil
		case len(exactly([]string{pattern})) == 0 && !slices.Contains(all, name):
			all = append(all, name)
		}
	}
	return all
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// randomFor returns a name for a new room of a person; empty if their patterns leave no place for one.
func randomFor(person account.Person) string {
	for _, pattern := range person.Rooms {
		pattern = strings.TrimPrefix(pattern, "[*]")
		name := strings.Replace(pattern, "*", randomRoom(), 1)
		if room, err := auth.ParseRoomName(name); err == nil && name != pattern && person.May(room) {
			return name
		}
	}
	return ""
}

// rows returns the rows of the page: the person's own rooms, which are those that their patterns name and those that they have opened, and
// then all others that are open or waited for and that they may open. Without an answer in time all are shown as not open.
func (v *visit) rows(ctx context.Context, own []auth.Room, person account.Person) []page.Room {
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	listed, err := v.Rooms.List(ctx)
	if err != nil {
		v.Log.Debug("the open rooms could not be asked for", zap.Error(err))
	}
	var mine, others []Listed
	at := make(map[named]int, len(own))
	for n, room := range own {
		at[nameOf(room)], mine = n, append(mine, Listed{Room: room})
	}
	for _, l := range listed {
		if n, is := at[nameOf(l.Room)]; is {
			mine[n].RoomState = l.RoomState
		} else if person.May(l.Room) && v.leadsTo(l.Room) {
			others = append(others, l)
		}
	}
	rows := make([]page.Room, 0, maxShown)
	for _, l := range bounded(mine, others) {
		rows = append(rows, page.Room{
			Name: l.Room.Name, Tenant: l.Room.Tenant, Value: l.Room.Claim(), Open: l.Open, HostInside: l.HostInside, Locked: l.Locked,
			Waiting: l.Waiting, Since: l.Since, Guest: v.PublicURL + waitPath(l.Room), Steer: l.Open && person.Affiliation.Host(),
		})
	}
	return rows
}

// leadsTo reports whether an address on jitsi-meet leads to a room.
func (v *visit) leadsTo(room auth.Room) bool {
	claim := room.Claim()
	if claim == "" {
		return false
	}
	_, err := v.reachable(newTrip(v.MeetURLs[0], "", claim))
	return err == nil
}

// bounded returns as many rooms as a page shows, those in which people wait first. Strangers make names of rooms by waiting, so others
// than the person's own take half of the page at most if the person has rooms for the rest.
func bounded(mine, others []Listed) []Listed {
	first := func(a, b Listed) int { return min(b.Waiting, 1) - min(a.Waiting, 1) }
	slices.SortStableFunc(mine, first)
	slices.SortStableFunc(others, first)
	others = others[:min(len(others), max(maxShown-len(mine), maxShown/2))]
	return append(mine[:min(len(mine), maxShown-len(others))], others...)
}

// ordered returns the form by which somebody who is logged in does something. If there is none it answers, and reports false.
func (v *visit) ordered(ctx context.Context) (s session, person account.Person, form url.Values, ok bool) {
	v.deed = true
	if s, person, ok = v.member(ctx); ok {
		form, ok = v.form()
	}
	return s, person, form, ok
}

// open takes the form that opens a room.
func (p *Portal) open(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	s, person, form, ok := v.ordered(ctx)
	if !ok {
		return
	}
	t, err := v.trip(url.Values{"room": {strings.TrimSpace(form.Get("room"))}, "meet": {form.Get("meet")}})
	if err != nil || t.room.Name == "" {
		v.showRooms(ctx, http.StatusBadRequest, s, person, badText(err))
		return
	}
	v.handOver(ctx, s, person, v.homed(t, person))
}

// homed returns the trip into the room of that name with a tenant, if the person may open that one only: people do not type tenants.
func (v *visit) homed(t trip, person account.Person) trip {
	if t.tenant != "" || person.May(t.room) {
		return t
	}
	for _, pattern := range person.Rooms {
		tenant, _, ok := strings.Cut(strings.TrimPrefix(pattern, "["), "]")
		if !ok || strings.ContainsAny(tenant, wild) {
			continue
		}
		if with, err := v.roomTrip(t.meet, tenant, encode(t.name)); err == nil && person.May(with.room) {
			return with
		}
	}
	return t
}

// steering is what can be done with a room that is open.
type steering struct {
	do   func(ctx context.Context, rooms Rooms, room auth.Room) error
	said page.Text
}

var (
	steerLock = steering{func(ctx context.Context, rooms Rooms, room auth.Room) error { return rooms.Lock(ctx, room, true) }, page.Locked}

	steerUnlock = steering{func(ctx context.Context, rooms Rooms, room auth.Room) error { return rooms.Lock(ctx, room, false) }, page.Unlocked}

	steerEnd = steering{func(ctx context.Context, rooms Rooms, room auth.Room) error { return rooms.End(ctx, room, "") }, page.Ended}
)

// steer returns what takes a form that does something with a room. Only people do that who would be hosts in it.
func (p *Portal) steer(how steering) func(*visit) {
	return func(v *visit) {
		ctx, cancel := v.within()
		defer cancel()
		s, person, form, ok := v.ordered(ctx)
		if !ok {
			return
		}
		t, err := v.trip(url.Values{"room": {form.Get("room")}})
		if err != nil || t.room.Name == "" {
			v.showRooms(ctx, http.StatusBadRequest, s, person, page.BadRoom)
			return
		}
		may, err := v.allowed(ctx, person, t.room)
		switch {
		case err != nil:
			v.unavailable(err)
		case !may || !person.Affiliation.Host():
			v.showRooms(ctx, http.StatusForbidden, s, person, page.NotYours)
		default:
			v.steered(how.do(ctx, p.Rooms, t.room), t.room, how.said)
		}
	}
}

func (v *visit) steered(err error, room auth.Room, said page.Text) {
	switch {
	case errors.Is(err, ErrNotOpen):
		said = page.NotOpen
	case err != nil:
		v.later(err, "something could not be done with a room")
		return
	}
	v.looks.forget(room)
	v.to("/rooms?said=" + url.QueryEscape(string(said)))
}
