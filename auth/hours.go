package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hours are the times at which a room is open: on some days of the week, from one time of day until another.
type Hours struct {
	// Days are the days on which the room opens; none means every day.
	Days []time.Weekday
	// From and Until are times after midnight, by the clock on the wall; Until is at most 24 h. If Until is not after From, it
	// belongs to the next day.
	From, Until time.Duration
	// Zone is where the clock hangs; nil means UTC.
	Zone *time.Location
}

const (
	day = 24 * time.Hour
	// farthest is further from UTC than the clock of any zone.
	farthest = 26 * time.Hour
	// ahead is how many days Open looks ahead. Two weeks, because a change of clocks can leave a day of the week out.
	ahead = 15
)

// Open reports whether the room is open at a time. If it is not, opens is when it opens next. If it is, closes is when it closes;
// zero means never.
//
// Where clocks are put forward, what would begin or end within the hour left out does so as that hour is over. Where they are put
// back and a time comes twice, the first one counts.
func (h Hours) Open(at time.Time) (open bool, opens, closes time.Time) {
	y, m, d := at.In(h.zone()).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	// The day before yesterday, because a day may have been left out at the date line.
	for n := -2; n <= ahead; n++ {
		from, until := h.on(today.AddDate(0, 0, n))
		switch {
		case !from.Before(until): // not a day of Days, or left out
		case open && from.After(closes):
			return open, time.Time{}, closes
		case open:
			closes = until
		case at.Before(from):
			return false, from, time.Time{}
		case at.Before(until):
			open, closes = true, until
		}
	}
	if open && closes.Sub(at) > (ahead-2)*day {
		closes = time.Time{} // each day begins before the last one ends
	}
	return open, time.Time{}, closes
}

// on returns when the room opens and closes on a day, given as its midnight in UTC; both are zero if it does not open then.
func (h Hours) on(midnight time.Time) (from, until time.Time) {
	if len(h.Days) > 0 && !slices.Contains(h.Days, midnight.Weekday()) {
		return time.Time{}, time.Time{}
	}
	end := h.Until
	if end <= h.From {
		end += day
	}
	return reached(midnight.Add(h.From), h.zone()), reached(midnight.Add(end), h.zone())
}

// reached returns the first moment at which the zone's clock shows that time, given in UTC, or a later one.
func reached(shown time.Time, zone *time.Location) time.Time {
	for at := shown.Add(-farthest).In(zone); ; {
		_, offset := at.Zone()
		_, change := at.ZoneBounds()
		t := latestOf(at, shown.Add(-time.Duration(offset)*time.Second))
		if change.IsZero() || t.Before(change) {
			return t.In(zone)
		}
		at = change
	}
}

// words returns a time at the zone's clock, for people.
func (h Hours) words(at time.Time) string {
	return fmt.Sprintf("%s (%s)", at.In(h.zone()).Format("Monday, 2 January, at 15:04"), h.zone())
}

// String returns the hours for operators.
func (h Hours) String() string {
	days := make([]string, 0, len(h.Days))
	for _, d := range h.Days {
		days = append(days, strings.ToLower(d.String()[:3]))
	}
	if len(days) == 0 {
		days = append(days, "every day")
	}
	return fmt.Sprintf("%s, %s to %s (%s)", strings.Join(days, ", "), clock(h.From), clock(h.Until), h.zone())
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

func (h Hours) zone() *time.Location {
	if h.Zone == nil {
		return time.UTC
	}
	return h.Zone
}

func latestOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
