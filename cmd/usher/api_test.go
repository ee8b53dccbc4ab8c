package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/pkg/token"
)

// configured returns a usher with the configuration of testdata, which does not run.
func configured(t testing.TB, file string) *serving {
	t.Helper()
	staged(t)
	c, p, err := load([]string{file}, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	return &serving{began: c, current: c, policy: p}
}

// What the API mints is what was asked for, and usher lets its bearer in; usher token explain says the same.
func TestAPIMint(t *testing.T) {
	u := configured(t, "usher.yaml")
	later, ends := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(2*time.Hour).Truncate(time.Second)
	for name, tt := range map[string]struct {
		asked   api.MintRequest
		address string
		at      string
		sub     string
		as      string
	}{
		"host":         {asked: api.MintRequest{Room: "standup", Affiliation: "owner"}, address: "standup", sub: "meet.example.com", as: "owner"},
		"member":       {asked: api.MintRequest{Room: "standup", Affiliation: "member", Name: "Juliet", Email: "j@example.com", ID: "u1", Avatar: "https://x/y.png", TTL: 60}, address: "standup", sub: "meet.example.com", as: "member"},
		"by default":   {asked: api.MintRequest{Room: "standup"}, address: "standup", sub: "meet.example.com", as: "owner"},
		"of a tenant":  {asked: api.MintRequest{Room: "[acme]standup"}, address: "[acme]standup", sub: "acme", as: "owner"},
		"with a space": {asked: api.MintRequest{Room: "my room"}, address: "my%20room", sub: "meet.example.com", as: "owner"},
		"encoded":      {asked: api.MintRequest{Room: "team-%2541"}, address: "team-%2541", sub: "meet.example.com", as: "owner"},
		"every room":   {asked: api.MintRequest{Room: "*", VHost: "meet.example.com", Issuer: "my_app"}, address: "anything", sub: "*", as: "owner"},
		"later":        {asked: api.MintRequest{Room: "standup", NotBefore: &later, RoomEnds: &ends, MaxOccupants: 3}, address: "standup", at: "90m", sub: "meet.example.com", as: "owner"},
		"one machine":  {asked: api.MintRequest{Room: "standup", OneTime: true}, address: "standup", sub: "meet.example.com", as: "owner"},
	} {
		minted, err := u.mint(t.Context(), tt.asked)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		secrets.PlantTokens(minted.Token)
		parsed, err := token.Parse(minted.Token)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parsed.Claims(token.ClaimMap{})
		if err != nil {
			t.Fatal(err)
		}
		want := token.User{ID: tt.asked.ID, Name: tt.asked.Name, Email: tt.asked.Email, Avatar: tt.asked.Avatar, Affiliation: tt.asked.Affiliation}
		if c.User != want || c.Room != tt.asked.Room || c.Subject != tt.sub || c.ID == "" || c.ID != minted.JTI || c.OneTime != tt.asked.OneTime ||
			c.MaxOccupants != tt.asked.MaxOccupants || c.Features != nil || c.Moderator != nil || !c.Expires.Equal(minted.Expires.Truncate(time.Second)) || minted.Affiliation != tt.as {
			t.Errorf("%s: %+v of %+v", name, c, minted)
		}
		if valid := c.Expires.Sub(c.IssuedAt); tt.asked.NotBefore == nil && valid != tt.asked.Valid() {
			t.Errorf("%s: valid for %s", name, valid)
		}
		args := []string{"token", "explain", "-c", "usher.yaml", "--host-present", "--room", tt.address, "-"}
		if tt.at != "" {
			args = append(args, "--at", tt.at)
		}
		if r := command(t, minted.Token, args...); r.status != 0 || !strings.Contains(r.stdout, "Affiliation in the room: "+tt.as) {
			t.Errorf("%s: explain %d: %s%s", name, r.status, r.stdout, r.stderr)
		}
	}
}

// What cannot be minted is the fault of the request, and says why.
func TestAPIMintRefused(t *testing.T) {
	u := configured(t, "usher.yaml")
	past := time.Now().Add(-time.Minute)
	for want, asked := range map[string]api.MintRequest{
		"there is no issuer on elsewhere.example.com":                                    {Room: "standup", VHost: "elsewhere.example.com"},
		"there is no issuer with the name portal on partners.meet.example.com for which": {Room: "standup", VHost: "partners.meet.example.com", Issuer: "portal"}, // it has a key of its own
		"there is no issuer with the name eve for which usher can sign":                  {Room: "standup", Issuer: "eve"},
		"room_ends: that is over":                                                        {Room: "standup", RoomEnds: &past},
		"mint: ":                                                                         {Room: "standup", Name: strings.Repeat("x", 9000)},
	} {
		minted, err := u.mint(t.Context(), asked)
		var fault api.RequestError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) || minted.Token != "" {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// An issuer that accepts no token for every room.
	for n := range u.policy.VHosts["meet.example.com"].Issuers {
		u.policy.VHosts["meet.example.com"].Issuers[n].NoWildcard = true
	}
	if _, err := u.mint(t.Context(), api.MintRequest{Room: "*"}); err == nil || !strings.Contains(err.Error(), "usher would refuse this token") {
		t.Errorf("%v", err)
	}
}

// The API explains as usher token explain does.
func TestAPIExplain(t *testing.T) {
	u := configured(t, "usher.yaml")
	minted, err := u.mint(t.Context(), api.MintRequest{Room: "standup", Affiliation: "member"})
	if err != nil {
		t.Fatal(err)
	}
	inside := true
	for _, given := range []string{minted.Token, "https://meet.example.com/standup#jwt=%22" + minted.Token + "%22", "Bearer " + minted.Token} {
		e, err := u.explain(t.Context(), api.ExplainRequest{Room: "standup@conference.meet.example.com", Token: given, HostPresent: &inside})
		if err != nil || e.Verdict != "allow" || e.JTI != minted.JTI || len(e.Steps) == 0 {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if e, err := u.explain(t.Context(), api.ExplainRequest{Room: "board@conference.meet.example.com", Token: minted.Token}); err != nil || e.Verdict != "deny" || e.Reason != "room-mismatch" {
		t.Errorf("%+v, %v", e, err)
	}
	for want, asked := range map[string]api.ExplainRequest{
		"from: ": {Room: "standup", From: "a b@x"}, "token: ": {Room: "standup", Token: "https://meet.example.com/standup"},
	} {
		var fault api.RequestError
		if _, err := u.explain(t.Context(), asked); !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzAPIMint(f *testing.F) {
	for _, room := range []string{"standup", "[acme]x", "*", "my room", "%2A", "café"} {
		f.Add(room, "Juliet", "u1", int64(60))
	}
	f.Add("standup", "\x00\xff", "\u202e", int64(315360000))
	here, err := os.Getwd()
	if err != nil {
		f.Fatal(err)
	}
	u := configured(f, "usher.yaml")
	f.Chdir(here) // where the fuzzer's processes begin
	f.Fuzz(func(t *testing.T, room, name, id string, ttl int64) {
		if ttl < 0 || ttl > 315360000 {
			return
		}
		minted, err := u.mint(t.Context(), api.MintRequest{Room: room, Name: name, ID: id, TTL: ttl})
		var fault api.RequestError
		if err != nil && !errors.As(err, &fault) {
			t.Fatal(err)
		}
		if err == nil && minted.Room != room {
			t.Fatalf("minted for %q", minted.Room)
		}
	})
}
