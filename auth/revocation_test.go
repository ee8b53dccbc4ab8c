package auth_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

func TestRevocationCovers(t *testing.T) {
	proof := auth.Proof{VHost: "meet.example.com", Issuer: "my_app", ID: "j", Subject: "s", User: "u", IssuedAt: now.Unix(), Token: "fingerprint"}
	room := roomOf(t, "standup@"+service)
	for name, tt := range map[string]struct {
		revocation auth.Revocation
		proof      func(*auth.Proof)
		want       bool
	}{
		"nothing":               {auth.Revocation{}, nil, false},
		"only a time":           {auth.Revocation{Before: now.Add(time.Hour)}, nil, false},
		"only a room":           {auth.Revocation{Room: room.JID.String()}, nil, false},
		"jti":                   {auth.Revocation{JTI: "j"}, nil, true},
		"another jti":           {auth.Revocation{JTI: "J"}, nil, false},
		"a jti, token has none": {auth.Revocation{JTI: "j"}, func(p *auth.Proof) { p.ID = "" }, false},
		"sub":                   {auth.Revocation{Subject: "s"}, nil, true},
		"another sub":           {auth.Revocation{Subject: "u"}, nil, false},
		"user":                  {auth.Revocation{User: "u"}, nil, true},
		"another user":          {auth.Revocation{User: "s"}, nil, false},
		"issuer":                {auth.Revocation{Issuer: "my_app"}, nil, true},
		"another issuer":        {auth.Revocation{Issuer: "other"}, nil, false},
		"all":                   {auth.Revocation{JTI: "j", Subject: "s", User: "u", Issuer: "my_app"}, nil, true},
		"all but one":           {auth.Revocation{JTI: "j", Subject: "s", User: "u", Issuer: "other"}, nil, false},
		"all but the first":     {auth.Revocation{JTI: "k", Subject: "s", User: "u", Issuer: "my_app"}, nil, false},
		"in the room":           {auth.Revocation{JTI: "j", Room: "standup@" + service}, nil, true},
		"in another room":       {auth.Revocation{JTI: "j", Room: "retro@" + service}, nil, false},
		"in a tenant's room":    {auth.Revocation{JTI: "j", Room: "[acme]standup@" + service}, nil, false},
		"issued before":         {auth.Revocation{JTI: "j", Before: now.Add(time.Second)}, nil, true},
		"clocks differ":         {auth.Revocation{JTI: "j", Before: now.Add(-5*time.Minute + time.Second)}, nil, true},
		"issued later":          {auth.Revocation{JTI: "j", Before: now.Add(-5 * time.Minute)}, nil, false},
		"no iat, whenever":      {auth.Revocation{JTI: "j", Before: time.Unix(-3600, 0)}, func(p *auth.Proof) { p.IssuedAt = 0 }, true},
		"no iat":                {auth.Revocation{JTI: "j", Before: now.Add(-time.Hour)}, func(p *auth.Proof) { p.IssuedAt = 0 }, true},
		"a password":            {auth.Revocation{Issuer: "my_app"}, func(p *auth.Proof) { p.Token, p.Account = "", "a@trusted.example.com" }, false},
		"nothing was shown":     {auth.Revocation{Subject: "s"}, func(p *auth.Proof) { *p = auth.Proof{} }, false},
		"empty for all of it":   {auth.Revocation{Before: now}, func(p *auth.Proof) { p.ID, p.Subject, p.User, p.Issuer = "", "", "", "" }, false},
	} {
		p := proof
		if tt.proof != nil {
			tt.proof(&p)
		}
		if got := tt.revocation.Covers(p, room); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// The proof of a token has what the token says, and names a person only where sub does.
func TestProof(t *testing.T) {
	tenantElsewhere := func(t *testing.T) func(*auth.Issuer) {
		return func(i *auth.Issuer) { i.Claims.Tenant = tokentest.Claim(t, "org", nil) }
	}
	for name, tt := range map[string]struct {
		issuer func(*auth.Issuer)
		claims string // beside the usual ones
		room   string
		want   auth.Proof
		person string
	}{
		"all of it":               {claims: `"sub":"meet.example.com","jti":"j","iat":1780315100.5,"context":{"user":{"id":"juliet"}}`, want: auth.Proof{ID: "j", Subject: "meet.example.com", User: "juliet", IssuedAt: 1780315100}},
		"numbers":                 {claims: `"sub":"meet.example.com","jti":7,"context":{"user":{"id":8}}`, want: auth.Proof{ID: "7", Subject: "meet.example.com", User: "8"}},
		"a person":                {issuer: noDomain, claims: `"sub":"juliet"`, want: auth.Proof{Subject: "juliet"}, person: "juliet"},
		"any tenant":              {issuer: noDomain, claims: `"sub":"*"`, want: auth.Proof{Subject: "*"}},
		"the domain":              {issuer: noDomain, claims: `"sub":"meet.example.com"`, want: auth.Proof{Subject: "meet.example.com"}},
		"the domain, in capitals": {issuer: noDomain, claims: `"sub":"Meet.Example.COM"`, want: auth.Proof{Subject: "Meet.Example.COM"}},
		"the tenant":              {issuer: noDomain, room: "[acme]standup@" + service, claims: `"sub":"acme"`, want: auth.Proof{Subject: "acme"}},
		"the token's tenant":      {issuer: noDomain, claims: `"sub":"acme","context":{"tenant":"acme"}`, want: auth.Proof{Subject: "acme"}},
		"the issuer's tenant":     {issuer: func(i *auth.Issuer) { noDomain(i); i.Tenant = "acme" }, room: "[acme]standup@" + service, claims: `"sub":"Acme"`, want: auth.Proof{Subject: "Acme"}},
		"the domain, verified":    {claims: `"sub":"*"`, want: auth.Proof{Subject: "*"}},
		"nobody":                  {issuer: noDomain, want: auth.Proof{}},
		"the tenant is elsewhere": {issuer: tenantElsewhere(t), claims: `"sub":"juliet","org":"meet.example.com"`, want: auth.Proof{Subject: "juliet"}, person: "juliet"},
		"no sub there":            {issuer: tenantElsewhere(t), claims: `"org":"meet.example.com"`, want: auth.Proof{}},
		"an odd sub there":        {issuer: tenantElsewhere(t), claims: `"sub":["juliet"],"org":"meet.example.com"`, want: auth.Proof{}},
		"the user is elsewhere":   {issuer: func(i *auth.Issuer) { i.Claims.ID = tokentest.Claim(t, "uid", nil) }, claims: `"sub":"*","uid":"juliet","context":{"user":{"id":"romeo"}}`, want: auth.Proof{Subject: "*", User: "juliet"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			p.Sessions = store{}
			if tt.issuer != nil {
				tt.issuer(&p.VHosts["meet.example.com"].Issuers[0])
			}
			payload := `{"iss":"my_app","room":"*",EXP`
			if tt.claims != "" {
				payload += "," + tt.claims
			}
			req := asking("meet.example.com", signed(t, "HS256", secret, payload+"}"))
			req.Room = or(tt.room, req.Room)
			d := decided(t, auth.New(p), req, noRoom)
			if d.Verdict != auth.Allow {
				t.Fatalf("%s: %v", d.Reason, d.Err)
			}
			want := tt.want
			want.VHost, want.Issuer, want.Token, want.Personal = "meet.example.com", "my_app", proofOf(token.Claims{}, req.Token).Token, tt.person != ""
			if d.Proof != want || d.Proof.Person() != tt.person {
				t.Errorf("got  %+v\nwant %+v", d.Proof, want)
			}

			// A session has the same proof, there and then.
			if want.Personal = false; d.Session.Proof != want {
				t.Errorf("the session has %+v", d.Session.Proof)
			}
			p.Sessions = store{live: map[string]auth.Session{sid: *d.Session}}
			later := req
			later.Token, later.SessionID, later.From = "", sid, jid.MustParse("g@guest.example.com/x")
			if again := decided(t, auth.New(p), later, noRoom); again.Verdict != auth.Allow || again.Proof != d.Proof {
				t.Errorf("by session %+v (%v), by token %+v", again.Proof, again.Err, d.Proof)
			}
		})
	}
}

// In a breakout room, too, sub is no person if it is the issuer's tenant.
func TestProofInBreakouts(t *testing.T) {
	p := policy(t)
	p.Breakout = breakout
	i := &p.VHosts["meet.example.com"].Issuers[0]
	i.DomainVerification, i.Tenant = false, "acme"
	for sub, person := range map[string]string{"acme": "", "juliet": "juliet"} {
		req := asking("meet.example.com", mint(t, func(c *token.Claims) { c.Subject = sub }))
		req.Room = "uuid@" + breakout
		if d := decided(t, auth.New(p), req, auth.RoomState{HasGrant: true}); d.Verdict != auth.Allow || d.Proof.Person() != person {
			t.Errorf("%s: %s, %+v", sub, d.Reason, d.Proof)
		}
	}
}

func TestProofOfOthers(t *testing.T) {
	p := policy(t)
	for from, want := range map[string]auth.Proof{
		"t@trusted.example.com/x":  {VHost: "trusted.example.com", Account: "t@trusted.example.com"},
		"g@guest.example.com/x":    {},
		"r@recorder.example.com/x": {},
	} {
		d := decided(t, auth.New(p), auth.Request{At: now, From: jid.MustParse(from), Room: "standup@" + service}, hostInside)
		if d.Verdict != auth.Allow || d.Proof != want || d.Proof.Person() != "" {
			t.Errorf("%s: %+v", from, d.Proof)
		}
	}
}

// A proof is written down with the names of its fields alone, and reads back as it was.
func TestProofInJSON(t *testing.T) {
	if b, err := json.Marshal(auth.Proof{}); err != nil || string(b) != "{}" {
		t.Errorf("got %s, %v", b, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string { return rapid.String().Draw(t, label) }
		p := auth.Proof{
			VHost: text("vhost"), Issuer: text("issuer"), ID: text("jti"), Subject: text("sub"), User: text("user"), Personal: rapid.Bool().Draw(t, "personal"),
			IssuedAt: rapid.Int64().Draw(t, "iat"), Token: text("token"), Account: text("account"),
		}
		b, err := json.Marshal(p)
		var read auth.Proof
		if err != nil || json.Unmarshal(b, &read) != nil || read != p {
			t.Fatalf("got %+v, %v", read, err)
		}
	})
}

// Revoked is revoked: nobody enters with a token that a revocation covers, nor with its session, whatever else the request says.
// And nobody else is refused for it.
func TestRevokedTokensOpenNothing(t *testing.T) {
	i := issuer(t)
	i.DomainVerification, i.RequireRoom, i.RequireExp = false, false, false
	outcomes := map[string]int{}
	reached := []string{"token member", "token token-revoked", "session member", "session session-invalid", "both token-revoked"}
	checkAll(t, outcomes, reached, func(t *rapid.T) {
		some := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		p := auth.Policy{Services: []string{service}, VHosts: map[string]auth.VHost{
			"meet.example.com":    {Kind: auth.KindToken, AllowEmptyToken: true, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{i}},
			"guest.example.com":   {Kind: auth.KindGuest},
			"trusted.example.com": {Kind: auth.KindTrusted},
		}}
		var all []auth.Revocation
		for range rapid.IntRange(0, 2).Draw(t, "revocations") {
			r := auth.Revocation{
				JTI: some("revoked jti", "", "a", "b"), Subject: some("revoked sub", "", "", "s"), User: some("revoked user", "", "", "u"), Issuer: some("revoked issuer", "", "", "my_app"),
				Room: some("revoked room", "", "", "standup@"+service, "retro@"+service),
			}
			if rapid.Bool().Draw(t, "before") {
				r.Before = now.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "minutes")) * time.Minute)
			}
			all = append(all, r)
		}
		covered := func(proof auth.Proof, room auth.Room) bool {
			for _, r := range all {
				if r.Covers(proof, room) {
					return true
				}
			}
			return false
		}
		p.Refusals = refusals{revoked: covered}
		c := good()
		c.ID, c.Subject, c.User.ID, c.Room = some("jti", "", "a", "b"), some("sub", "", "s"), some("user", "", "u"), "*"
		if rapid.Bool().Draw(t, "iat") {
			c.IssuedAt = now.Add(time.Duration(rapid.IntRange(-20, 0).Draw(t, "age")) * time.Minute)
		}
		compact, err := token.Mint(c, token.MintOptions{Algorithm: "HS256", Key: secret})
		if err != nil {
			t.Fatal(err)
		}

		// The session was earned before anything was revoked.
		before := p
		before.Refusals, before.Sessions = nil, store{}
		req := auth.Request{At: now, From: jid.MustParse("u@meet.example.com/x"), Room: "retro@" + service, MachineUID: machine, Token: compact}
		earned := auth.New(before).Authorize(t.Context(), req, looking(noRoom))
		if earned.Session == nil {
			t.Fatalf("no session: %+v", earned)
		}
		p.Sessions = store{live: map[string]auth.Session{sid: *earned.Session}}
		a := auth.New(p)

		req.Room = some("room", "standup", "retro") + "@" + service
		room, _ := auth.ParseRoom(req.Room)
		proof := earned.Proof
		by := some("by", "token", "session", "both")
		if by == "session" {
			req.Token, req.From = "", jid.MustParse("g@"+some("from", "guest", "meet")+".example.com/x")
		}
		if by != "token" {
			req.SessionID = sid
		}
		d := a.Authorize(t.Context(), req, looking(hostInside))
		want := auth.ReasonTokenRevoked
		if by == "session" {
			want = auth.ReasonSessionInvalid
		}
		outcomes[strings.Join([]string{by, string(d.Reason)}, " ")]++
		if revoked := covered(proof, room); revoked != (d.Verdict != auth.Allow) || revoked && d.Reason != want {
			t.Fatalf("revoked: %t, by %s: %s (%v)\n%+v\n%+v", revoked, by, d.Reason, d.Err, proof, all)
		}
	})
}
