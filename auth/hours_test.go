package auth_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

var weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}

func TestHours(t *testing.T) {
	const h, m = time.Hour, time.Minute
	office := auth.Hours{Days: weekdays, From: 8 * h, Until: 18 * h, Zone: zone(t, "Europe/Berlin")}
	night := auth.Hours{Days: []time.Weekday{time.Friday}, From: 22 * h, Until: 4 * h, Zone: zone(t, "Europe/Berlin")}
	always := auth.Hours{From: 0, Until: 24 * h, Zone: zone(t, "Europe/Berlin")}
	sundays := func(from, until time.Duration) auth.Hours {
		return auth.Hours{Days: []time.Weekday{time.Sunday}, From: from, Until: until, Zone: zone(t, "Europe/Berlin")}
	}
	for name, tt := range map[string]struct {
		hours         auth.Hours
		at            string
		opens, closes string // one of them, or none if it is open for ever
	}{
		"a working day":             {hours: office, at: "2026-11-26T12:00:00Z", closes: "2026-11-26T17:00:00Z"},
		"its first moment":          {hours: office, at: "2026-11-26T07:00:00Z", closes: "2026-11-26T17:00:00Z"},
		"a moment before":           {hours: office, at: "2026-11-26T06:59:59.999Z", opens: "2026-11-26T07:00:00Z"},
		"its end":                   {hours: office, at: "2026-11-26T17:00:00Z", opens: "2026-11-27T07:00:00Z"},
		"a moment before its end":   {hours: office, at: "2026-11-26T16:59:59.999Z", closes: "2026-11-26T17:00:00Z"},
		"over the weekend":          {hours: office, at: "2026-11-27T17:00:00Z", opens: "2026-11-30T07:00:00Z"},
		"over a change of clocks":   {hours: office, at: "2026-03-27T17:00:00Z", opens: "2026-03-30T06:00:00Z"},
		"another day at the clock":  {hours: office, at: "2026-11-29T23:30:00Z", opens: "2026-11-30T07:00:00Z"},
		"night, before midnight":    {hours: night, at: "2026-11-27T22:00:00Z", closes: "2026-11-28T03:00:00Z"},
		"night, after midnight":     {hours: night, at: "2026-11-28T02:00:00Z", closes: "2026-11-28T03:00:00Z"},
		"night, the next evening":   {hours: night, at: "2026-11-28T22:00:00Z", opens: "2026-12-04T21:00:00Z"},
		"night, the morning before": {hours: night, at: "2026-11-27T02:00:00Z", opens: "2026-11-27T21:00:00Z"},
		"always":                    {hours: always, at: "2026-03-29T01:00:00Z"},
		"from midnight to midnight": {hours: auth.Hours{Days: weekdays, Until: 24 * h}, at: "2026-11-24T12:00:00Z", closes: "2026-11-28T00:00:00Z"},
		"a whole day from nine":     {hours: auth.Hours{Days: []time.Weekday{time.Monday}, From: 9 * h, Until: 9 * h}, at: "2026-12-01T08:59:00Z", closes: "2026-12-01T09:00:00Z"},
		"no zone is UTC":            {hours: auth.Hours{From: 8 * h, Until: 9 * h}, at: "2026-11-26T08:30:00Z", closes: "2026-11-26T09:00:00Z"},

		// Berlin goes from 2:00 to 3:00 on 2026-03-29, at 1:00 UTC, and from 3:00 to 2:00 on 2026-10-25, at 1:00 UTC.
		"begins in the hour left out":     {hours: sundays(2*h+30*m, 5*h), at: "2026-03-29T00:59:59Z", opens: "2026-03-29T01:00:00Z"},
		"ends in the hour left out":       {hours: sundays(h, 2*h+30*m), at: "2026-03-29T00:30:00Z", closes: "2026-03-29T01:00:00Z"},
		"only in the hour left out":       {hours: sundays(2*h+15*m, 2*h+45*m), at: "2026-03-28T12:00:00Z", opens: "2026-04-05T00:15:00Z"},
		"begins in the hour that is two":  {hours: sundays(2*h+30*m, 5*h), at: "2026-10-25T00:29:00Z", opens: "2026-10-25T00:30:00Z"},
		"does not begin a second time":    {hours: sundays(2*h+30*m, 5*h), at: "2026-10-25T01:15:00Z", closes: "2026-10-25T04:00:00Z"},
		"ends in the hour that is two":    {hours: sundays(h, 2*h+30*m), at: "2026-10-25T00:29:00Z", closes: "2026-10-25T00:30:00Z"},
		"is over the second time":         {hours: sundays(h, 2*h+30*m), at: "2026-10-25T01:15:00Z", opens: "2026-11-01T00:00:00Z"},
		"a day that the date line skips":  {hours: auth.Hours{Days: []time.Weekday{time.Friday}, From: 8 * h, Until: 18 * h, Zone: zone(t, "Pacific/Apia")}, at: "2011-12-30T12:00:00Z", opens: "2012-01-05T18:00:00Z"},
		"a night into a day that is none": {hours: auth.Hours{Days: []time.Weekday{time.Thursday}, From: 22 * h, Until: 4 * h, Zone: zone(t, "Pacific/Apia")}, at: "2011-12-30T09:00:00Z", closes: "2011-12-30T10:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			parse := func(s string) (at time.Time) {
				if s != "" {
					var err error
					if at, err = time.Parse(time.RFC3339, s); err != nil {
						t.Fatal(err)
					}
				}
				return at
			}
			open, opens, closes := tt.hours.Open(parse(tt.at))
			if open != (tt.opens == "") || !opens.Equal(parse(tt.opens)) || !closes.Equal(parse(tt.closes)) {
				t.Errorf("got %t, opens %s, closes %s", open, opens.UTC(), closes.UTC())
			}
		})
	}
}

// Hours hold as somebody would say who looks at the clock on the wall every minute, whatever the zone does with its clock.
func TestHoursByTheClock(t *testing.T) {
	zones := []*time.Location{nil}
	for _, name := range []string{
		"Europe/Berlin", "America/New_York", "America/St_Johns", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu",
		"Africa/Casablanca", "Pacific/Chatham", "Pacific/Apia", "America/Sao_Paulo",
	} {
		zones = append(zones, zone(t, name))
	}
	// Around these, clocks of some of the zones change.
	changes := []time.Time{
		time.Date(2011, 12, 30, 0, 0, 0, 0, time.UTC), time.Date(2018, 11, 4, 3, 0, 0, 0, time.UTC), time.Date(2019, 2, 17, 2, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 4, 4, 15, 0, 0, 0, time.UTC),
		time.Date(2026, 10, 4, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC),
	}
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		minutes := func(label string, most int) time.Duration {
			steps := rapid.SampledFrom([]int{1, 15, 30}).Draw(t, "step")
			return time.Duration(rapid.IntRange(0, most/steps).Draw(t, label)*steps) * time.Minute
		}
		h := auth.Hours{
			Days: rapid.SliceOfDistinct(rapid.Map(rapid.IntRange(0, 6), func(n int) time.Weekday { return time.Weekday(n) }), rapid.ID[time.Weekday]).Draw(t, "days"),
			From: minutes("from", 24*60-1), Until: minutes("until", 24*60), Zone: rapid.SampledFrom(zones).Draw(t, "zone"),
		}
		at := rapid.SampledFrom(changes).Draw(t, "change").Add(time.Duration(rapid.IntRange(-3*24*60, 3*24*60).Draw(t, "minutes")) * time.Minute)
		wantOpen, wantOpens, wantCloses := byTheClock(h, at)
		open, opens, closes := h.Open(at)
		if open != wantOpen || !opens.Equal(wantOpens) || !closes.Equal(wantCloses) {
			t.Fatalf("%s at %s: got %t, opens %s, closes %s; want %t, %s, %s", h, at, open, opens.UTC(), closes.UTC(), wantOpen, wantOpens, wantCloses)
		}
		switch {
		case !open:
			outcomes["closed"]++
		case closes.IsZero():
			outcomes["always"]++
		default:
			outcomes["open"]++
		}
	})
	for _, o := range []string{"closed", "open"} {
		if outcomes[o] == 0 {
			t.Errorf("never %s: %v", o, outcomes)
		}
	}
}

// byTheClock is Hours.Open by looking at the clock every minute.
func byTheClock(h auth.Hours, at time.Time) (open bool, opens, closes time.Time) {
	if h.Zone == nil {
		h.Zone = time.UTC
	}
	const before, after = 4, 20
	// shown returns what the clock shows, in minutes since 1970 by its own date.
	shown := func(t time.Time) int {
		t = t.In(h.Zone)
		y, m, d := t.Date()
		return int(time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, time.UTC).Unix() / 60)
	}
	begin := at.Add(-before * 24 * time.Hour)
	n := (before + after) * 24 * 60
	// first[k] is the first minute at which the clock shows k, or something later.
	first := map[int]int{}
	highest := shown(begin)
	for i := range n {
		for s := shown(begin.Add(time.Duration(i) * time.Minute)); highest < s; {
			highest++
			first[highest] = i
		}
	}
	isOpen := make([]bool, n)
	y, m, d := begin.In(h.Zone).Date()
	for k := range before + after - 2 {
		midnight := time.Date(y, m, d+1+k, 0, 0, 0, 0, time.UTC)
		if len(h.Days) > 0 && !slices.Contains(h.Days, midnight.Weekday()) {
			continue
		}
		until := h.Until
		if until <= h.From {
			until += 24 * time.Hour
		}
		from, to := first[int(midnight.Add(h.From).Unix()/60)], first[int(midnight.Add(until).Unix()/60)]
		for i := from; i < to; i++ {
			isOpen[i] = true
		}
	}
	now := before * 24 * 60
	next := now
	for next < n && isOpen[next] == isOpen[now] {
		next++
	}
	change := begin.Add(time.Duration(next) * time.Minute)
	switch {
	case !isOpen[now]:
		return false, change, time.Time{}
	case next > now+13*24*60:
		return true, time.Time{}, time.Time{}
	}
	return true, time.Time{}, change
}
