package auth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// Every missing claim that the issuer requires is reported in the same words, in the step and in the detail for the log.
func TestExplainAbsentClaims(t *testing.T) {
	claims := map[string]string{"iss": `"my_app"`, "aud": `"jitsi"`, "sub": `"meet.example.com"`, "room": `"standup"`, "exp": fmt.Sprint(now.Add(time.Hour).Unix())}
	without := func(names ...string) string {
		var members []string
		for name, value := range claims {
			if !slices.Contains(names, name) {
				members = append(members, fmt.Sprintf("%q:%s", name, value))
			}
		}
		return signed(t, jwa.HS256, secret, "{"+strings.Join(members, ",")+"}")
	}
	for name, row := range map[string]struct {
		token  string
		change func(*auth.Issuer)
		reason auth.Reason
		rule   string // the step that failed
		detail string
	}{
		"iss":  {token: without("iss"), reason: auth.ReasonTokenIssuer, rule: "issuer", detail: "iss: required, absent"},
		"exp":  {token: without("exp"), reason: auth.ReasonTokenClaims, rule: "end", detail: "exp: required, absent"},
		"aud":  {token: without("aud"), reason: auth.ReasonTokenAudience, rule: "audience", detail: "aud: required, absent"},
		"room": {token: without("room"), reason: auth.ReasonTokenClaims, rule: "room claim", detail: "room: required, absent"},
		"sub":  {token: without("sub"), reason: auth.ReasonTenantMismatch, rule: "sub", detail: "sub: required, absent"},
		"room, no wildcard": {token: without("room"), change: func(i *auth.Issuer) { i.RequireRoom, i.NoWildcard = false, true },
			reason: auth.ReasonRoomMismatch, rule: "room claim", detail: "room: required, absent"},
		"room at another place": {token: without(), change: func(i *auth.Issuer) { i.Claims.Room = tokentest.Claim(t, "meeting", nil) },
			reason: auth.ReasonTokenClaims, rule: "room claim", detail: "claims.room: required, absent"},
		"tenant at another place": {token: without(), change: func(i *auth.Issuer) { i.Claims.Tenant = tokentest.Claim(t, "org", nil) },
			reason: auth.ReasonTenantMismatch, rule: "claims.tenant", detail: "claims.tenant: required, absent"},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			if row.change != nil {
				row.change(&p.VHosts["meet.example.com"].Issuers[0])
			}
			d, steps := explained(t, p, row.token)
			last := steps[len(steps)-1]
			if d.Reason != row.reason || d.Err == nil || d.Err.Error() != row.detail || last.Rule != row.rule || last.Found != "required, absent" || last.OK {
				t.Errorf("got %s (%v), the last step is %+v", d.Reason, d.Err, last)
			}
		})
	}

	t.Run("all", func(t *testing.T) {
		_, steps := explained(t, policy(t), without("exp", "aud", "room", "sub"))
		want := auth.Step{Rule: "claims", Expected: "all that this issuer's tokens must have", OK: true, Note: true,
			Found: "exp: required, absent; aud: required, absent; room: required, absent; sub: required, absent"}
		if !slices.Contains(steps, want) {
			t.Errorf("not told at once: %+v", steps)
		}
	})
	t.Run("iss of another type", func(t *testing.T) {
		d, steps := explained(t, policy(t), signed(t, jwa.HS256, secret, `{"iss":1,EXP}`))
		if d.Reason != auth.ReasonTokenIssuer || strings.Contains(fmt.Sprint(d.Err, steps), "absent") {
			t.Errorf("got %v, %+v", d.Err, steps)
		}
	})
	t.Run("kid", func(t *testing.T) {
		p := policy(t)
		p.VHosts["meet.example.com"].Issuers[0].Keys = source{}
		d, _ := explained(t, p, without())
		if d.Reason != auth.ReasonTokenSignature || !strings.Contains(d.Err.Error(), "kid: required, absent") {
			t.Errorf("got %s (%v)", d.Reason, d.Err)
		}
	})
}

// Claims that are named like a role and decide nothing are listed, and odd claims that decide nothing are noted.
func TestExplainNotes(t *testing.T) {
	p := policy(t)
	const payload = `{"iss":"my_app","sub":"meet.example.com","room":"standup",EXP,"affiliation":"owner","role":"visitor","iat":%d,` +
		`"context":{"moderator":true,"affiliation":"owner","user":{"name":["a"]},"features":{"recording":1}}}`
	for _, ahead := range []time.Duration{0, 10 * time.Second, time.Minute, 24 * time.Hour} {
		d, steps := explained(t, p, signed(t, jwa.HS256, secret, fmt.Sprintf(payload, now.Add(ahead).Unix())))
		if d.Verdict != auth.Allow {
			t.Fatalf("got %s (%v)", d.Reason, d.Err)
		}
		notes := []string{
			"context.features.*: counts as false, want true or false",
			"context.user.name: passed over, want a string or a number",
		}
		want := []auth.Step{
			{Rule: "claims not read", Expected: "a role at context.user.affiliation, context.user.moderator or moderator",
				Found: `affiliation ("owner"), role ("visitor"), context.moderator (true), context.affiliation ("owner")`},
			{Rule: "claims", Expected: "claims that can be read", Found: notes[0]},
			{Rule: "claims", Expected: "claims that can be read", Found: notes[1]},
		}
		if ahead > 10*time.Second {
			notes = append(notes, fmt.Sprintf("iat: in %s; the issuer's clock is ahead, or this one is behind", ahead))
			want = append(want, auth.Step{Rule: "begin", Expected: "iat in the past",
				Found: now.Add(ahead).Format(time.RFC3339) + "; now it is 2026-06-01T12:00:00Z; the issuer's clock is ahead, or this one is behind"})
		}
		for i := range want {
			want[i].OK, want[i].Note = true, true
		}
		got := slices.DeleteFunc(slices.Clone(steps), func(s auth.Step) bool { return !s.Note })
		if !slices.Equal(got, want) || !slices.Equal(d.Notes, notes) {
			t.Errorf("%s ahead: got %+v, %q", ahead, got, d.Notes)
		}
	}
	d, _ := explained(t, p, signed(t, jwa.HS256, secret, fmt.Sprintf(payload, now.Add(25*time.Hour).Unix())))
	if d.Reason != auth.ReasonTokenNotYetValid || d.Err.Error() != "iat: in 25h0m0s, which is more than any clock is ahead" {
		t.Errorf("got %s (%v)", d.Reason, d.Err)
	}
}

// The operator sees a word that is no affiliation, and what to do about it.
func TestExplainUnknownAffiliation(t *testing.T) {
	d, steps := explained(t, policy(t), mint(t, affiliation("super\x1buser")))
	last := steps[len(steps)-1]
	const want = `unusable claims: context.user.affiliation: want owner, admin, member, moderator or teacher, found "super` + "\ufffd" + `user"; ` +
		"a claim map (claims.affiliation_values) can say what else means one of them"
	if d.Reason != auth.ReasonTokenClaims || d.Err.Error() != want || last.Rule != "affiliation" || last.Found != want {
		t.Errorf("got %s (%v), %+v", d.Reason, d.Err, last)
	}
	p := policy(t)
	p.VHosts["meet.example.com"].Issuers[0].Claims.Affiliation = tokentest.Claim(t, "role", nil)
	d, _ = explained(t, p, signed(t, jwa.HS256, secret, `{"iss":"my_app","sub":"*","room":"standup",EXP,"role":"visitor"}`))
	if d.Reason != auth.ReasonTokenClaims || !strings.Contains(d.Err.Error(), `role: want owner, admin, member, moderator or teacher, found "visitor"; a claim map`) {
		t.Errorf("got %s (%v)", d.Reason, d.Err)
	}
}

// Every time in a decision, and in its session, has a form in JSON.
func TestTimesCanBeWrittenDown(t *testing.T) {
	for _, exp := range []string{"253402300799", "253402300799.999", "0", "1780318800.5"} {
		p := policy(t)
		p.Sessions = store{}
		i := &p.VHosts["meet.example.com"].Issuers[0]
		i.Leeway = time.Minute
		req := asking("meet.example.com", signed(t, jwa.HS256, secret, `{"iss":"my_app","sub":"*","room":"standup","aud":"jitsi","exp":`+exp+`}`))
		req.MachineUID = "machine"
		d := auth.New(p).Authorize(t.Context(), req, looking(noRoom))
		if _, err := json.Marshal(d.Expires); err != nil {
			t.Errorf("exp %s: %v", exp, err)
		}
		if d.Session != nil {
			if _, err := json.Marshal(d.Session); err != nil {
				t.Errorf("exp %s: %v", exp, err)
			}
		}
		if (d.Verdict == auth.Allow) != (exp != "0") || (d.Session == nil) != (exp == "0") {
			t.Errorf("exp %s: %s (%v), %+v", exp, d.Reason, d.Err, d.Session)
		}
	}
}

// Texts of a token are cut and cleaned for the log, whatever the issuer or a stranger wrote.
func TestTokenRefIsForTheLog(t *testing.T) {
	odd := "a\x1b[2J\n" + strings.Repeat("ü", 100)
	want := token.ForLog(odd)
	p := policy(t)
	p.VHosts["meet.example.com"].Issuers[0].Accepted = []string{"*"}
	c := good()
	c.Issuer, c.ID = odd, odd
	for key, verdict := range map[string]auth.Verdict{string(secret): auth.Allow, "another secret, of a stranger, too": auth.Deny} {
		compact, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(key), KeyID: odd})
		if err != nil {
			t.Fatal(err)
		}
		d := auth.New(p).Authorize(t.Context(), asking("meet.example.com", compact), looking(noRoom))
		if d.Verdict != verdict || d.Token.ID != want || d.Token.KeyID != want || verdict == auth.Allow && d.Token.Issuer != want {
			t.Errorf("%s: %+q", d.Reason, d.Token)
		}
	}
}

// A decision that is explained again, because the client asks again, has the same steps, whether or not the token was seen before.
func TestExplainAgain(t *testing.T) {
	for name, compact := range map[string]string{"good": mint(t, nil), "over": mint(t, func(c *token.Claims) { c.Expires = now.Add(-time.Hour) })} {
		req := asking("meet.example.com", compact)
		look := looking(auth.RoomState{Exists: true, HostPresent: true})
		_, want := auth.New(policy(t)).Explain(t.Context(), req, look)
		a := auth.New(policy(t))
		a.Authorize(t.Context(), req, look)
		for n := range 3 {
			if _, got := a.Explain(t.Context(), req, look); !slices.Equal(got, want) {
				t.Errorf("%s, explanation %d: %+v, want %+v", name, n, got, want)
			}
		}
	}
}

// Into a locked room only hosts come, also where nobody has to wait for one.
func TestLocked(t *testing.T) {
	member := mint(t, func(c *token.Claims) { c.User.Affiliation = "member" })
	for name, e := range map[string]struct {
		vhost, token string
		change       func(*auth.Policy)
		state        auth.RoomState
		want         auth.Reason
	}{
		"a host":                    {"meet.example.com", mint(t, func(c *token.Claims) { c.User.Affiliation = "owner" }), nil, auth.RoomState{Exists: true}, auth.ReasonHost},
		"a member":                  {"meet.example.com", member, nil, auth.RoomState{Exists: true, HostPresent: true}, auth.ReasonRoomLocked},
		"a guest":                   {"guest.example.com", "", nil, auth.RoomState{Exists: true, HostPresent: true}, auth.ReasonRoomLocked},
		"a guest without a host":    {"guest.example.com", "", nil, auth.RoomState{Exists: true}, auth.ReasonRoomLocked},
		"a recorder":                {"recorder.example.com", "", nil, auth.RoomState{Exists: true, HostPresent: true}, auth.ReasonRoomLocked},
		"a bad token":               {"meet.example.com", member + "x", nil, auth.RoomState{}, auth.ReasonTokenSignature},
		"the first is no host":      {"meet.example.com", member, firstIsHost, auth.RoomState{Exists: true}, auth.ReasonRoomLocked},
		"who is host by being that": {"meet.example.com", member, firstIsHost, auth.RoomState{Exists: true, First: true, IsFirst: true}, auth.ReasonHost},
	} {
		p := policy(t)
		if e.change != nil {
			e.change(&p)
		}
		req := asking(e.vhost, e.token)
		req.Locked = true
		d, steps := auth.New(p).Explain(t.Context(), req, looking(e.state))
		if d.Reason != e.want {
			t.Errorf("%s: %s %v, want %s", name, d.Reason, d.Err, e.want)
		}
		if last := steps[len(steps)-1]; d.Reason == auth.ReasonRoomLocked && (last.Rule != "locked" || last.OK || d.Affiliation != auth.None) {
			t.Errorf("%s: the last step is %+v", name, last)
		}
	}
}

func firstIsHost(p *auth.Policy) { p.Rules = []auth.Rule{{Match: "*", FirstIsHost: auth.FirstToken}} }
