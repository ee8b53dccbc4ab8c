// Package mirotalk reads what links and calls of MiroTalk SFU say (app/src/ServerApi.js and public/js/Room.js there), and says it as
// jitsi-meet does.
package mirotalk

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Override is a setting of jitsi-meet for one visit. It stands behind the # of an address.
type Override struct {
	Key   string
	Value string // JSON
}

// Overrides returns what the parameters of a link mean for jitsi-meet: audio, video, screen, hide and name. A parameter that is absent
// leaves the choice to the person, as a link of MiroTalk does. With named the person's name comes from elsewhere, and the link's one
// does not count.
//
// jitsi-meet has nothing like chat (opened at the start), notify (the invitation at the start), avatar and roomPassword; a duration is
// for the token. They are left out.
func Overrides(q url.Values, named bool) []Override {
	var all []Override
	add := func(key string, value any) {
		b, _ := json.Marshal(value) // of a text or a bool it never fails
		all = append(all, Override{key, string(b)})
	}
	// All of these may be overridden: jitsi-meet, react/features/base/config/configWhitelist.ts.
	if v := q.Get("audio"); v != "" {
		add("config.startWithAudioMuted", !Yes(v))
	}
	if v := q.Get("video"); v != "" {
		add("config.startWithVideoMuted", !Yes(v))
	}
	if Yes(q.Get("screen")) {
		add("config.startScreenSharing", true)
	}
	if Yes(q.Get("hide")) {
		add("config.disableSelfView", true)
	}
	name := strings.TrimSpace(q.Get("name"))
	if name != "" && !named && name != "random" {
		add("userInfo.displayName", name) // jitsi-meet, react/features/base/settings/middleware.any.ts
		named = true
	}
	if named { // a person with a name enters at once
		add("config.prejoinConfig.enabled", false)
	}
	return all
}

// Yes reports whether MiroTalk takes a text for true.
func Yes(text string) bool { return text == "1" || strings.EqualFold(text, "true") }

// Fragment returns the overrides as they stand in an address, without the #.
func Fragment(all []Override) string {
	texts := make([]string, len(all))
	for i, o := range all {
		// jitsi-meet decodes with decodeURIComponent, to which + is no space (react/features/base/util/parseURLParams.ts).
		texts[i] = o.Key + "=" + strings.ReplaceAll(url.QueryEscape(o.Value), "+", "%20")
	}
	return strings.Join(texts, "&")
}

var (
	lasting = regexp.MustCompile(`^\s*([0-9]{1,12})(?:\.[0-9]{1,6})?\s*([A-Za-z]*)\s*$`)
	clock   = regexp.MustCompile(`^([0-9]{1,2}):([0-5][0-9]):([0-5][0-9])$`)
)

// units are those of npm's package ms, by which jsonwebtoken reads how long a token is valid.
var units = map[string]time.Duration{
	"": time.Millisecond, "ms": time.Millisecond, "msec": time.Millisecond, "msecs": time.Millisecond, "millisecond": time.Millisecond, "milliseconds": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hrs": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": day, "day": day, "days": day, "w": 7 * day, "week": 7 * day, "weeks": 7 * day, "y": year, "yr": year, "yrs": year, "year": year, "years": year,
}

const day, year = 24 * time.Hour, 365*24*time.Hour + 6*time.Hour

// Longest is the longest time that Lasting returns: longer ones are cut to it.
const Longest = year

// Lasting reads how long a token is to be valid, such as "1h" or "2 days". A text without a unit has milliseconds, as in npm's package
// ms. Parts of a unit are left out. ok is false if it cannot be read, or is nothing.
func Lasting(text string) (d time.Duration, ok bool) {
	m := lasting.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	unit, known := units[strings.ToLower(m[2])]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if !known || err != nil || n == 0 {
		return 0, false
	}
	if n > int64(Longest/unit) {
		return Longest, true
	}
	return time.Duration(n) * unit, true
}

// Duration reads how long a link lets somebody stay: hours, minutes and seconds, such as "00:30:00". ok is false for "unlimited", and for
// all that MiroTalk does not read either.
func Duration(text string) (d time.Duration, ok bool) {
	m := clock.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		n, _ := strconv.Atoi(m[i+1]) // of two digits it never fails
		d += time.Duration(n) * unit
	}
	return d, d > 0
}
