package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// TestRulesServed checks that a running usher goes by the rules of usher.yaml, and by changed ones as soon as they are in force.
func TestRulesServed(t *testing.T) {
	server := served(t, componentSecret)
	away := strings.ToLower(time.Now().UTC().AddDate(0, 0, 3).Weekday().String()[:3])
	const services = "  services: [conference.meet.example.com]\n"
	plain := strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr)
	if !strings.Contains(plain, services) {
		t.Fatal("the demo's usher.yaml has no line to add the rules to:\n" + plain)
	}
	ruled := strings.Replace(plain, services, services+fmt.Sprintf(`  rules:
    - {match: "closed-*", hours: {days: [%s], zone: UTC}}
    - {match: "inner-*", guests: deny}
    - {match: "small-*", wait_for_host: never, max_occupants: 1}
    - {match: "equals-*", wait_for_host: members, first_is_host: token}
    - {match: "hosted-*", wait_for_host: members}
`, away), 1)
	r := startReloading(t, server, ruled)
	people := map[string]*prosodytest.Client{}
	ask := func(who, room, attr, want string) {
		t.Helper()
		if people[who] == nil {
			host := demoScene.tokens
			if who == "guest" {
				host = demoScene.guests
			}
			people[who] = server.Client(t, prosodytest.ClientOptions{Host: host})
		}
		got, err := asksFrom(t.Context(), people[who], "machine of "+who, room+"@"+demoScene.service, attr)
		if err != nil || got != want {
			t.Errorf("%s in %s: got %s, %v; want %s", who, room, got, err, want)
		}
	}
	member := func(id string) string {
		t.Helper()
		compact, err := token.Mint(token.Claims{
			Issuer: demoScene.issuer, Audience: []string{"jitsi"}, Subject: demoScene.tokens, Room: "*", ID: id,
			Expires: time.Now().Add(time.Hour), User: token.User{Affiliation: "member"},
		}, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(appSecret)})
		if err != nil {
			t.Fatal(err)
		}
		return "token='" + compact + "'"
	}
	host, first, second := tokenOf(t, appSecret), member("1"), member("2")

	ask("host", "closed-1", host, "room-closed")
	ask("host", "inner-1", host, "ready")
	ask("guest", "inner-1", "", "token-required")
	ask("first", "small-1", first, "ready")
	ask("second", "small-1", second, "room-full")
	ask("host", "small-1", host, "ready")
	ask("first", "equals-1", first, "ready")
	ask("first", "hosted-1", first, "host-absent")

	r.replaces("usher.yaml", plain)
	ask("host", "closed-1", host, "ready")
	ask("first", "hosted-1", first, "ready")
	silent(t, r.log.String())
	if t.Failed() {
		t.Log(prosodytest.Tail(r.log.String()))
	}
}
