package mirotalk

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What the parameters of a link mean to jitsi-meet, and what does not count.
func TestOverrides(t *testing.T) {
	for _, tt := range []struct {
		query string
		named bool
		want  string
	}{
		{"", false, ""},
		{"audio=0&video=1", false, "config.startWithAudioMuted=true&config.startWithVideoMuted=false"},
		{"audio=TRUE&video=false", false, "config.startWithAudioMuted=false&config.startWithVideoMuted=true"},
		{"screen=1&hide=1", false, "config.startScreenSharing=true&config.disableSelfView=true"},
		{"screen=0&hide=no&chat=1&notify=0&avatar=false&roomPassword=x&duration=00:30:00&isPresenter=1", false, ""},
		{"name=Juliet+Capulet", false, "userInfo.displayName=%22Juliet%20Capulet%22&config.prejoinConfig.enabled=false"},
		{"name=a%22%26config.x%3D1%23", false, "userInfo.displayName=%22a%5C%22%5Cu0026config.x%3D1%23%22&config.prejoinConfig.enabled=false"},
		{"name=random", false, ""},
		{"name=Juliet", true, "config.prejoinConfig.enabled=false"},
	} {
		q, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := Fragment(Overrides(q, tt.named)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.query, got, tt.want)
		}
	}
}

func TestLasting(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "2 days": 2 * day, "10m": 10 * time.Minute, "90S": 90 * time.Second, "1.5h": time.Hour, "120": 120 * time.Millisecond, "1y": year, "999999999999w": Longest,
		"": 0, "0s": 0, "-1h": 0, "1 fortnight": 0, "h": 0, "1h30m": 0, "0x10s": 0, "9999999999999s": 0,
	} {
		if got, ok := Lasting(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"00:30:00": 30 * time.Minute, "1:00:01": time.Hour + time.Second, "unlimited": 0, "00:00:00": 0, "00:60:00": 0, "30": 0, "": 0, "-1:00:00": 0,
	} {
		if got, ok := Duration(text); got != want || ok != (want > 0) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// However a link is written, it sets nothing else, and each value is JSON behind one = and without what ends it.
func FuzzOverrides(f *testing.F) {
	for _, query := range []string{"audio=0&name=x", "name=%26config.p2p.enabled=1", "name=%00%ff", "hide=1&hide=0", "screen=true&name=\u2028"} {
		f.Add(query, false)
	}
	known := " config.startWithAudioMuted config.startWithVideoMuted config.startScreenSharing config.disableSelfView userInfo.displayName config.prejoinConfig.enabled "
	f.Fuzz(func(t *testing.T, query string, named bool) {
		q, _ := url.ParseQuery(query)
		fragment := Fragment(Overrides(q, named))
		if fragment == "" {
			return
		}
		for part := range strings.SplitSeq(fragment, "&") {
			key, value, _ := strings.Cut(part, "=")
			text, err := url.PathUnescape(value)
			if err != nil || !json.Valid([]byte(text)) || !strings.Contains(known, " "+key+" ") || strings.ContainsAny(value, "#=+\"' ") {
				t.Fatalf("%q: %q", query, fragment)
			}
		}
	})
}
