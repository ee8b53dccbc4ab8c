package config

import (
	"strings"
	"testing"
	"time"
)

// TestExpiration checks that durations are read as MiroTalk reads them.
func TestExpiration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "2 days": 48 * time.Hour, "7D": 168 * time.Hour, "1.5h": 90 * time.Minute, ".5m": 30 * time.Second, "120": 120 * time.Millisecond, "1w": 168 * time.Hour,
		"1y": 365 * 24 * time.Hour, "90 mins": 90 * time.Minute, "1 hr": time.Hour, "30 secs": 30 * time.Second, "500 msecs": 500 * time.Millisecond, "1 hour": time.Hour,
		"2 hrs": 2 * time.Hour, "1 minute": time.Minute, "5 milliseconds": 5 * time.Millisecond,
	} {
		if got, ok := parseExpiration(text); !ok || got != want {
			t.Errorf("%s is %s, %v; want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "h", "-1h", "1x", "1 month", "1h 30m", "1e9h", "99999999999999999999y", "NaN", "1 ho"} {
		if got, ok := parseExpiration(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

// FuzzHostUsers checks that no HOST_USERS makes its reader panic, that what it takes is complete, and that no fault has a password in it.
func FuzzHostUsers(f *testing.F) {
	for _, seed := range []string{"", "a:b", "a:b:c:*", "alice:correct horse:Alice:Room 1,[x*|bob:hunter2hunter2", "a:b:c:d:e|:|::", "\xff:\xff:|ß:longer than that::İ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		users, faults := parseHostUsers(text)
		if len(users)+len(faults) != strings.Count(text, "|")+1 {
			t.Fatalf("%q has %d accounts and %d faults", text, len(users), len(faults))
		}
		for _, u := range users {
			l := newLoader("")
			for _, pattern := range u.rooms {
				l.checkRoomPattern("rooms/0", pattern)
			}
			if u.name == "" || u.password == "" {
				t.Fatalf("%q is incomplete", u.name)
			}
		}
		for entry := range strings.SplitSeq(text, "|") {
			parts := strings.Split(entry, ":")
			if len(parts) < 2 || len(parts[1]) < 12 || strings.Contains(parts[0], parts[1]) {
				continue
			}
			if said := strings.Join(faults, "\n"); !strings.Contains("write user:password:display:room1,room2|…", parts[1]) && strings.Contains(said, parts[1]) &&
				!strings.Contains(strings.ReplaceAll(text, parts[1], ""), parts[1]) && strings.Count(text, parts[1]) == 1 {
				t.Fatalf("a fault has a password in it: %s", said)
			}
		}
		parseExpiration(text)
	})
}
