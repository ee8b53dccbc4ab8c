package auth_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
)

func TestPolicy(t *testing.T) {
	yes, no := true, false
	for name, tt := range map[string]struct {
		policy func(*auth.Policy)
		vhost  func(*auth.VHost)
		issuer func(*auth.Issuer)

		from   string // default: somebody on the token vhost
		room   string // default: standup
		token  string
		claims func(*token.Claims) // mints a token from good claims
		sid    string
		state  auth.RoomState

		want        auth.Verdict
		reason      auth.Reason
		affiliation auth.Affiliation
		create      bool
		needsHost   bool
	}{
		// Rule 1.
		"room malformed":              {room: "@@", reason: auth.ReasonRoomUnknown},
		"room with a resource":        {room: "standup@" + service + "/nick", reason: auth.ReasonRoomUnknown},
		"room without a name":         {room: service, reason: auth.ReasonRoomUnknown},
		"room of two addresses":       {room: "a@b@" + service, reason: auth.ReasonRoomUnknown},
		"room with a joiner":          {room: "stand\u200dup@" + service, reason: auth.ReasonRoomUnknown},
		"service not guarded":         {room: "standup@conference.elsewhere.example", reason: auth.ReasonRoomUnknown},
		"look-alike service":          {room: "standup@xconference.meet.example.com", reason: auth.ReasonRoomUnknown},
		"room servers disagree about": {room: "straße@" + service, reason: auth.ReasonRoomUnknown},
		"room in capitals is the room": {room: "StandUp@Conference.Meet.Example.com", claims: owner,
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},

		// Rule 2.
		"vhost unknown":             {from: "eve@elsewhere.example/x", claims: owner, reason: auth.ReasonVHostUnknown},
		"vhost look-alike":          {from: "eve@meet.example.com.evil.example/x", claims: owner, reason: auth.ReasonVHostUnknown},
		"subdomain is not the host": {from: "eve@x.meet.example.com/x", reason: auth.ReasonVHostUnknown},

		"vhost itself": {from: "meet.example.com", reason: auth.ReasonVHostUnknown},

		// Rule 3.
		"garbage":               {token: "garbage", reason: auth.ReasonTokenMalformed},
		"bad token is no guest": {vhost: allowEmpty, token: "garbage", state: hostInside, reason: auth.ReasonTokenMalformed},
		"issuer unknown":        {claims: func(c *token.Claims) { c.Issuer = "other" }, reason: auth.ReasonTokenIssuer},
		"issuer absent":         {claims: func(c *token.Claims) { c.Issuer = "" }, reason: auth.ReasonTokenIssuer},
		"issuer absent, any accepted": {issuer: func(i *auth.Issuer) { i.Accepted = []string{"*"} },
			claims: func(c *token.Claims) { c.Issuer = "" }, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"algorithm not allowed": {issuer: func(i *auth.Issuer) { i.Algorithms = []jwa.SignatureAlgorithm{jwa.HS512} },
			claims: owner, reason: auth.ReasonTokenAlgorithm},
		"wrong key": {issuer: func(i *auth.Issuer) {
			i.Keys = source{keys: []auth.Key{{Algorithms: i.Algorithms, Material: []byte("another")}}}
		},
			claims: owner, reason: auth.ReasonTokenSignature},
		"no key": {issuer: func(i *auth.Issuer) { i.Keys = source{} }, claims: owner, reason: auth.ReasonTokenSignature},
		"key of another algorithm": {issuer: func(i *auth.Issuer) {
			i.Keys = source{keys: []auth.Key{{Algorithms: []jwa.SignatureAlgorithm{jwa.HS512}, Material: secret}}}
		}, claims: owner, reason: auth.ReasonTokenSignature},
		"keys out of reach": {issuer: func(i *auth.Issuer) { i.Keys = source{err: errors.New("down")} },
			claims: owner, reason: auth.ReasonKeysUnavailable},
		"expired":                    {claims: func(c *token.Claims) { c.Expires = now.Add(-time.Minute) }, reason: auth.ReasonTokenExpired},
		"expired at the last moment": {claims: func(c *token.Claims) { c.Expires = now.Add(-10 * time.Second) }, reason: auth.ReasonTokenExpired},
		"a second before that": {claims: func(c *token.Claims) { c.Expires = now.Add(-9 * time.Second) },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"expired and forged is forged": {issuer: func(i *auth.Issuer) { i.Keys = source{} },
			claims: func(c *token.Claims) { c.Expires = now.Add(-time.Minute) }, reason: auth.ReasonTokenSignature},
		"no end": {claims: func(c *token.Claims) { c.Expires = time.Time{} }, reason: auth.ReasonTokenClaims},
		"no end, none required": {issuer: func(i *auth.Issuer) { i.RequireExp = false }, claims: func(c *token.Claims) { c.Expires = time.Time{} },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"begins later": {claims: func(c *token.Claims) { c.NotBefore = now.Add(11 * time.Second) }, reason: auth.ReasonTokenNotYetValid},
		"begins within the leeway": {claims: func(c *token.Claims) { c.NotBefore = now.Add(10 * time.Second) },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"made in an hour": {claims: func(c *token.Claims) { c.IssuedAt = now.Add(time.Hour) },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"made in a day": {claims: func(c *token.Claims) { c.IssuedAt = now.Add(24 * time.Hour) },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"made in more than a day": {claims: func(c *token.Claims) { c.IssuedAt = now.Add(24*time.Hour + time.Second) }, reason: auth.ReasonTokenNotYetValid},
		"begins after its end":    {claims: func(c *token.Claims) { c.NotBefore = now.Add(2 * time.Hour) }, reason: auth.ReasonTokenNotYetValid},
		"audience":                {issuer: jitsi, claims: nothing, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"one audience of several": {issuer: jitsi, claims: func(c *token.Claims) { c.Audience = []string{"x", "jitsi"} },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"other audience":        {issuer: jitsi, claims: func(c *token.Claims) { c.Audience = []string{"us"} }, reason: auth.ReasonTokenAudience},
		"no audience":           {issuer: jitsi, claims: func(c *token.Claims) { c.Audience = nil }, reason: auth.ReasonTokenAudience},
		"audience * is not any": {issuer: jitsi, claims: func(c *token.Claims) { c.Audience = []string{"*"} }, reason: auth.ReasonTokenAudience},
		"token on a guest vhost is not looked at": {from: "g@guest.example.com/x", token: "garbage", state: hostInside,
			want: auth.Allow, reason: auth.ReasonGuest, affiliation: auth.Member, needsHost: true},
		"token on a trusted vhost is not looked at": {from: "t@trusted.example.com/x", token: "garbage",
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},

		// Rule 4.
		"session of nobody": {sid: "a0c1-session-id", reason: auth.ReasonSessionInvalid},
		"session id on a service vhost is not looked at": {from: "r@recorder.example.com/x", sid: "a0c1-session-id", state: noHost, want: auth.Allow, reason: auth.ReasonService, affiliation: auth.Member},
		"session of nobody, from a trusted user":         {from: "t@trusted.example.com/x", sid: "a0c1-session-id", reason: auth.ReasonSessionInvalid},
		"session of nobody, from a guest":                {from: "g@guest.example.com/x", sid: "a0c1-session-id", state: hostInside, reason: auth.ReasonSessionInvalid},
		"a token goes before a session":                  {sid: "a0c1-session-id", claims: nothing, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},

		// Rule 5.
		"another room":  {claims: func(c *token.Claims) { c.Room = "retro" }, reason: auth.ReasonRoomMismatch},
		"no room claim": {claims: func(c *token.Claims) { c.Room = "" }, reason: auth.ReasonTokenClaims},
		"no room claim, none required": {issuer: func(i *auth.Issuer) { i.RequireRoom = false }, claims: func(c *token.Claims) { c.Room = "" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"any room":               {claims: func(c *token.Claims) { c.Room = "*" }, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"any room, not accepted": {issuer: func(i *auth.Issuer) { i.NoWildcard = true }, claims: func(c *token.Claims) { c.Room = "*" }, reason: auth.ReasonRoomMismatch},
		"no room, not accepted":  {issuer: func(i *auth.Issuer) { i.NoWildcard, i.RequireRoom = true, false }, claims: func(c *token.Claims) { c.Room = "" }, reason: auth.ReasonRoomMismatch},
		"a tenant's room by domain": {room: "standup@conference.acme.meet.example.com", claims: func(c *token.Claims) { c.Subject = "acme" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"issuer's tenant": {issuer: func(i *auth.Issuer) { i.Tenant = "ACME"; i.DomainVerification = false }, room: "[acme]standup@" + service, claims: nothing,
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"issuer's tenant, any room of it": {issuer: func(i *auth.Issuer) { i.Tenant = "acme" }, room: "[acme]standup@" + service,
			claims: func(c *token.Claims) { c.Room, c.Subject = "*", "*" }, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"issuer's tenant, token of another": {issuer: func(i *auth.Issuer) { i.Tenant = "acme" }, room: "[acme]standup@" + service, claims: nothing, reason: auth.ReasonTenantMismatch},
		"issuer of another tenant": {issuer: func(i *auth.Issuer) { i.Tenant = "evil" }, room: "[acme]standup@" + service,
			claims: func(c *token.Claims) { c.Subject = "*" }, reason: auth.ReasonTenantMismatch},
		"issuer of a tenant, room of none":        {issuer: func(i *auth.Issuer) { i.Tenant = "acme" }, claims: nothing, reason: auth.ReasonTenantMismatch},
		"issuer's tenant, another room":           {issuer: func(i *auth.Issuer) { i.Tenant = "acme" }, room: "[acme]retro@" + service, claims: nothing, reason: auth.ReasonRoomMismatch},
		"any sub, not accepted":                   {issuer: func(i *auth.Issuer) { i.NoWildcard = true }, claims: func(c *token.Claims) { c.Subject = "*" }, reason: auth.ReasonTenantMismatch},
		"a pattern is no name":                    {claims: func(c *token.Claims) { c.Room = ".*" }, reason: auth.ReasonRoomMismatch},
		"a pattern said to be one":                {claims: func(c *token.Claims) { c.Room = ".*"; c.RoomRegex = true }, reason: auth.ReasonRoomMismatch},
		"what decodes to a wildcard is a name":    {claims: func(c *token.Claims) { c.Room = "%2A" }, reason: auth.ReasonRoomMismatch},
		"what normalises to a wildcard is a name": {claims: func(c *token.Claims) { c.Room = "\uff0a" }, reason: auth.ReasonRoomMismatch},
		"nor does it get past no_wildcard":        {issuer: func(i *auth.Issuer) { i.NoWildcard = true }, claims: func(c *token.Claims) { c.Room = "\uff0a" }, reason: auth.ReasonRoomMismatch},
		"a tenant's wildcard is a name":           {issuer: noDomain, room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Room = "[evil]*" }, reason: auth.ReasonRoomMismatch},
		"a tenant's wildcard opens no plain room": {issuer: noDomain, claims: func(c *token.Claims) { c.Room = "[evil]*" }, reason: auth.ReasonRoomMismatch},
		"what normalises to any sub is a name":    {claims: func(c *token.Claims) { c.Subject = "\uff0a" }, reason: auth.ReasonTenantMismatch},
		"another domain":                          {claims: func(c *token.Claims) { c.Subject = "other.example" }, reason: auth.ReasonTenantMismatch},
		"no sub":                                  {claims: func(c *token.Claims) { c.Subject = "" }, reason: auth.ReasonTenantMismatch},
		"any sub":                                 {claims: func(c *token.Claims) { c.Subject = "*" }, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"sub not looked at": {issuer: noDomain, claims: func(c *token.Claims) { c.Subject = "" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"tenant by sub": {room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Subject = "ACME" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"another tenant by sub":   {room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Subject = "evil" }, reason: auth.ReasonTenantMismatch},
		"the domain is no tenant": {room: "[acme]standup@" + service, claims: nothing, reason: auth.ReasonTenantMismatch},
		"tenant in the room claim": {issuer: noDomain, room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Room = "[acme]standup"; c.Subject = "" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"another tenant in the room claim":  {issuer: noDomain, room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Room = "[evil]standup" }, reason: auth.ReasonRoomMismatch},
		"tenant's token for the plain room": {claims: func(c *token.Claims) { c.Room = "[acme]standup" }, reason: auth.ReasonRoomMismatch},
		"bare name opens no tenant's room":  {issuer: noDomain, room: "[acme]standup@" + service, claims: nothing, reason: auth.ReasonRoomMismatch},
		"bare name with the tenant beside it": {issuer: noDomain, room: "[acme]standup@" + service, claims: func(c *token.Claims) { c.Tenant = "acme" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"percent-encoded": {room: "%c3%bcn%c3%af@" + service, claims: func(c *token.Claims) { c.Room = "Ünï" },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"encoded twice is another room": {room: "%2561@" + service, claims: func(c *token.Claims) { c.Room = "a" }, reason: auth.ReasonRoomMismatch},

		// Affiliation.
		"owner":               {claims: owner, want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"admin":               {claims: affiliation("admin"), want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Admin, create: true},
		"moderator":           {claims: affiliation("moderator"), want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"teacher":             {claims: affiliation("teacher"), want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"member":              {claims: nothing, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"no such affiliation": {claims: affiliation("outcast"), reason: auth.ReasonTokenClaims},
		"owner with a space":  {claims: affiliation("owner "), reason: auth.ReasonTokenClaims},
		"moderator true": {claims: func(c *token.Claims) { c.User.Affiliation = ""; c.User.Moderator = &yes }, vhost: defaultMember,
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"moderator true at the top": {claims: func(c *token.Claims) { c.User.Affiliation = ""; c.Moderator = &yes }, vhost: defaultMember,
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"moderator false": {claims: func(c *token.Claims) { c.User.Affiliation = ""; c.User.Moderator = &no },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"asks for nothing":              {claims: affiliation(""), want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"asks for nothing, gets member": {claims: affiliation(""), vhost: defaultMember, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"asks for nothing, gets member by the issuer": {issuer: ofItsOwn(auth.Member), claims: affiliation(""),
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"asks for nothing, gets owner by the issuer": {issuer: ofItsOwn(auth.Owner), vhost: defaultMember, claims: affiliation(""),
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"asks for more than the issuer gives": {issuer: ofItsOwn(auth.Member), claims: owner, want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"not a moderator, whatever the issuer gives": {issuer: ofItsOwn(auth.Owner), claims: func(c *token.Claims) { c.User.Affiliation = ""; c.User.Moderator = &no },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"says nothing where the issuer has affiliations, whatever it gives": {issuer: func(i *auth.Issuer) { mapsAffiliation(t)(i); ofItsOwn(auth.Owner)(i) }, claims: affiliation(""),
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"says nothing where the issuer has affiliations": {issuer: mapsAffiliation(t), claims: affiliation(""),
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"moderator beside that place": {issuer: mapsAffiliation(t), claims: func(c *token.Claims) { c.User.Affiliation = ""; c.User.Moderator, c.Moderator = &yes, &yes },
			want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"by the issuer's table": {issuer: mapsAffiliation(t), claims: affiliation("chair"), want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Admin, create: true},
		"owner is not in it":    {issuer: mapsAffiliation(t), claims: owner, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, create: true},
		"hosts are admins": {policy: func(p *auth.Policy) { p.HostAffiliation = auth.Admin }, claims: owner,
			want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Admin, create: true},

		// Rule 6.
		"no token":               {reason: auth.ReasonTokenRequired},
		"trusted":                {from: "t@trusted.example.com/x", want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"service":                {from: "r@recorder.example.com/x", state: noHost, want: auth.Allow, reason: auth.ReasonService, affiliation: auth.Member},
		"service, room not open": {from: "r@recorder.example.com/x", state: noRoom, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"empty allowed":          {vhost: allowEmpty, state: hostInside, want: auth.Allow, reason: auth.ReasonGuest, affiliation: auth.Member, needsHost: true},

		// Rules 8 and 10.
		"guest, no room":                            {from: "g@guest.example.com/x", state: noRoom, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"guest, no host":                            {from: "g@guest.example.com/x", state: noHost, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"guest, host inside":                        {from: "g@guest.example.com/x", state: hostInside, want: auth.Allow, reason: auth.ReasonGuest, affiliation: auth.Member, needsHost: true},
		"empty token waits, too":                    {vhost: allowEmpty, state: noHost, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"member waits":                              {policy: membersWait, claims: nothing, state: noHost, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"member waited":                             {policy: membersWait, claims: nothing, state: hostInside, want: auth.Allow, reason: auth.ReasonMember, affiliation: auth.Member, needsHost: true},
		"owner does not wait":                       {policy: membersWait, claims: owner, state: noRoom, want: auth.Allow, reason: auth.ReasonHost, affiliation: auth.Owner, create: true},
		"nobody waits, room open":                   {policy: nobodyWaits, from: "g@guest.example.com/x", state: noHost, want: auth.Allow, reason: auth.ReasonGuest, affiliation: auth.Member},
		"nobody waits, guests still create nothing": {policy: nobodyWaits, from: "g@guest.example.com/x", state: noRoom, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"guest room": {policy: guestRooms, from: "g@guest.example.com/x", room: "open-mic@" + service, state: noRoom,
			want: auth.Allow, reason: auth.ReasonGuest, affiliation: auth.Member, create: true},
		"not a guest room":                 {policy: guestRooms, from: "g@guest.example.com/x", state: noRoom, want: auth.Wait, reason: auth.ReasonHostAbsent},
		"a tenant's room is no guest room": {policy: guestRooms, from: "g@guest.example.com/x", room: "[acme]open-mic@" + service, state: noRoom, want: auth.Wait, reason: auth.ReasonHostAbsent},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			v := p.VHosts["meet.example.com"]
			if tt.issuer != nil {
				tt.issuer(&v.Issuers[0])
			}
			if tt.vhost != nil {
				tt.vhost(&v)
			}
			p.VHosts["meet.example.com"] = v
			if tt.policy != nil {
				tt.policy(&p)
			}
			req := auth.Request{At: now, From: jid.MustParse(or(tt.from, "u@meet.example.com/x")), Room: or(tt.room, "standup@"+service), Token: tt.token, SessionID: tt.sid}
			if tt.claims != nil {
				req.Token = mint(t, tt.claims)
			}
			d := decided(t, auth.New(p), req, tt.state)
			if d.Verdict != tt.want || d.Reason != tt.reason {
				t.Fatalf("got %s %s (%v), want %s %s", d.Verdict, d.Reason, d.Err, tt.want, tt.reason)
			}
			if d.Affiliation != tt.affiliation || d.MayCreate != tt.create || d.NeedsHost != tt.needsHost {
				t.Errorf("got affiliation %q, create %t, needs host %t; want %q, %t, %t", d.Affiliation, d.MayCreate, d.NeedsHost, tt.affiliation, tt.create, tt.needsHost)
			}
			if d.Session != nil || d.SessionID != "" || d.Breakout || d.StartLobby {
				t.Errorf("without sessions, breakout rooms and a lobby: %+v", d)
			}
		})
	}
}

// A room that does not answer lets nobody in on a guess.
func TestRoomOutOfReach(t *testing.T) {
	a := auth.New(policy(t))
	req := auth.Request{At: now, From: jid.MustParse("g@guest.example.com/x"), Room: "standup@" + service}
	for name, look := range map[string]auth.Look{
		"none": nil,
		"error": func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
			return hostInside, errors.New("no answer")
		},
	} {
		service := auth.Request{At: now, From: jid.MustParse("r@recorder.example.com/x"), Room: "standup@" + service}
		if d := a.Authorize(t.Context(), service, look); d.Verdict != auth.Deny || d.Reason != auth.ReasonRoomUnavailable {
			t.Errorf("service, %s: got %+v", name, d)
		}
		if d := a.Authorize(t.Context(), req, look); d.Verdict != auth.Deny || d.Reason != auth.ReasonRoomUnavailable || d.Err == nil {
			t.Errorf("%s: got %+v", name, d)
		}
	}
}

// A decision about a host asks the room nothing.
func TestHostsAreNotLookedFor(t *testing.T) {
	a := auth.New(policy(t))
	req := auth.Request{At: now, From: jid.MustParse("u@meet.example.com/x"), Room: "standup@" + service, Token: mint(t, owner)}
	if d := a.Authorize(t.Context(), req, func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
		t.Error("asked")
		return noRoom, nil
	}); d.Verdict != auth.Allow {
		t.Errorf("got %+v", d)
	}
}

// The zero decision, the result of a forgotten assignment, lets nobody in.
func TestZeroDecisionDenies(t *testing.T) {
	if d := (auth.Decision{}); d.Verdict != auth.Deny || d.Verdict.String() != "deny" {
		t.Errorf("got %v", d.Verdict)
	}
}

// The Authorizer forgets a token in time, and does not remember it beyond the token's own end.
func TestRememberedTokens(t *testing.T) {
	asked := 0
	p := policy(t)
	p.VHosts["meet.example.com"].Issuers[0].Keys = source{keys: []auth.Key{{Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Material: secret}}, asked: &asked}
	a := auth.New(p)
	req := auth.Request{From: jid.MustParse("u@meet.example.com/x"), Room: "standup@" + service,
		Token: mint(t, func(c *token.Claims) { c.Expires = now.Add(5 * time.Minute) })}
	for _, step := range []struct {
		after  time.Duration
		asked  int
		reason auth.Reason
	}{
		{0, 1, auth.ReasonMember}, {time.Second, 1, auth.ReasonMember}, {time.Minute, 1, auth.ReasonMember},
		{time.Minute + time.Second, 2, auth.ReasonMember}, {5*time.Minute + 9*time.Second, 3, auth.ReasonMember}, {5*time.Minute + 10*time.Second, 3, auth.ReasonTokenExpired},
	} {
		req.At = now.Add(step.after)
		if d := a.Authorize(t.Context(), req, nil); d.Reason != step.reason || asked != step.asked {
			t.Errorf("after %s: %s, keys asked %d times; want %s, %d", step.after, d.Reason, asked, step.reason, step.asked)
		}
	}
}

// The same token on another virtual host, with other issuers, is another token.
func TestTokensAreRememberedByVHost(t *testing.T) {
	p := policy(t)
	other := issuer(t)
	other.Keys = source{}
	p.VHosts["other.example.com"] = auth.VHost{Kind: auth.KindToken, Issuers: []auth.Issuer{other}}
	a := auth.New(p)
	tok := mint(t, func(c *token.Claims) { c.Subject = "*" })
	for from, want := range map[string]auth.Verdict{"u@meet.example.com/x": auth.Allow, "u@other.example.com/x": auth.Deny} {
		for range 2 {
			if d := a.Authorize(t.Context(), auth.Request{At: now, From: jid.MustParse(from), Room: "standup@" + service, Token: tok}, nil); d.Verdict != want {
				t.Errorf("%s: %s %s", from, d.Verdict, d.Reason)
			}
		}
	}
}

func TestIssuersByName(t *testing.T) {
	p := policy(t)
	named, anyone := issuer(t), issuer(t)
	anyone.Name, anyone.Accepted, anyone.Keys = "anyone", []string{"*"}, source{}
	v := p.VHosts["meet.example.com"]
	v.Issuers = []auth.Issuer{anyone, named}
	p.VHosts["meet.example.com"] = v
	d := auth.New(p).Authorize(t.Context(), auth.Request{At: now, From: jid.MustParse("u@meet.example.com/x"), Room: "standup@" + service, Token: mint(t, nil)}, nil)
	if d.Verdict != auth.Allow || d.Token.Issuer != "my_app" {
		t.Errorf("got %+v", d)
	}
}

func TestWords(t *testing.T) {
	p := policy(t)
	p.VHosts["open.example.com"] = auth.VHost{Kind: auth.KindToken, AllowEmptyToken: true, DefaultAffiliation: auth.Member, Issuers: []auth.Issuer{issuer(t)}}
	p.GuestRooms = []string{"open-*"}
	want := strings.TrimSpace(readAll(t, filepath.Join("testdata", "words.txt")))
	if got := strings.Join(p.Words(), "\n"); got != want {
		t.Errorf("got:\n%s\n\nwant:\n%s", got, want)
	}

	p.Sessions, p.Breakout, p.Lobby, p.LobbyAutostart = store{}, breakout, true, true
	lines := p.Words()
	p.LobbyAutostart = false
	for _, p.LobbyBypass = range [][]auth.Affiliation{{auth.Owner}, {auth.Member}, {auth.Owner, auth.Member}} {
		words := p.Words()
		lines = append(lines, words[len(words)-2])
	}
	if got, want := strings.Join(lines, "\n"), strings.TrimSpace(readAll(t, filepath.Join("testdata", "words-lobby.txt"))); got != want {
		t.Errorf("got:\n%s\n\nwant:\n%s", got, want)
	}
	p.Sessions, p.Breakout, p.Lobby = nil, "", false
	for _, w := range []auth.WaitForHost{auth.MembersWait, auth.NobodyWaits} {
		p.WaitForHost = w
		if strings.Join(p.Words(), "\n") == want {
			t.Errorf("wait_for_host %s says the same as guests", w)
		}
	}
	logins := map[string]bool{}
	for _, p.Login = range []auth.Login{"", auth.LoginNone, auth.LoginPassword, auth.LoginURL} {
		words := p.Words()
		logins[words[len(words)-2]] = true
	}
	if len(logins) != 4 {
		t.Errorf("logins: %v", logins)
	}
}

// Each rule has a sentence with what it says, and nothing else.
func TestWordsOfRules(t *testing.T) {
	yes, no := true, false
	p := policy(t)
	before := len(p.Words())
	p.Rules = []auth.Rule{
		{Match: "class-*", WaitForHost: auth.MembersWait, Guests: auth.GuestsDeny, MaxOccupants: 30, MaxDuration: 2 * time.Hour,
			Hours:      &auth.Hours{Days: weekdays, From: 8 * time.Hour, Until: 18 * time.Hour, Zone: zone(t, "Europe/Berlin")},
			OnHostLeft: auth.LeftEnd, HostGrace: 5 * time.Minute, FirstIsHost: auth.FirstToken, LobbyAutostart: &yes, HasLobbyBypass: true},
		{Match: "a", Tenant: "acme", WaitForHost: auth.NobodyWaits, OnHostLeft: auth.LeftKeep, HostGrace: time.Minute, LobbyAutostart: &no},
		{Match: "b", Tenant: "*", WaitForHost: auth.GuestsWait, HostGrace: time.Minute, HasLobbyBypass: true, LobbyBypass: []auth.Affiliation{auth.Owner}},
		{Match: "c", OnHostLeft: auth.LeftEnd, Guests: auth.GuestsAllow, FirstIsHost: auth.FirstNever},
		{Match: "*", OnHostLeft: auth.LeftLock, Hours: &auth.Hours{Until: 24 * time.Hour}},
		{Match: "d"},
		{Match: "e", Features: map[string]auth.FeatureRule{"recording": auth.FeatureOwners, "livestreaming": auth.FeatureNever, "flip": auth.FeatureOfToken}},
	}
	words := p.Words()
	got := strings.Join(words[len(words)-len(p.Rules)-2:len(words)-2], "\n")
	if want := strings.TrimSpace(readAll(t, filepath.Join("testdata", "words-rules.txt"))); got != want || len(words) != before+len(p.Rules) {
		t.Errorf("got:\n%s\n\nwant:\n%s", got, want)
	}
}

// A rule for all rooms holds for the guests of every virtual host, so nothing else is said of them. A rule before it makes it one for the
// others.
func TestWordsOfAllRooms(t *testing.T) {
	p := policy(t)
	p.VHosts["open.example.com"] = auth.VHost{Kind: auth.KindToken, AllowEmptyToken: true, DefaultAffiliation: auth.Member, Issuers: []auth.Issuer{issuer(t)}}
	p.GuestRooms = []string{"open-*"}
	said := func(rules ...auth.Rule) string {
		p.Rules = rules
		return strings.Join(p.Words(), "\n")
	}
	const guestsWait, guestsOpen, guestsEnter = "guests wait until", "guests may open them", "guests enter open rooms and create none"
	deny := auth.Rule{Match: "*", Tenant: "*", Guests: auth.GuestsDeny}
	if got := said(deny); !strings.Contains(got, "\nAll rooms: guests are refused.\n") || !strings.Contains(got, "Without a token people are guests.\n") ||
		strings.Contains(got, guestsWait) || strings.Contains(got, guestsOpen) {
		t.Errorf("guests are refused: got:\n%s", got)
	}
	if got := said(auth.Rule{Match: "open"}, deny); !strings.Contains(got, "\nAll other rooms: guests are refused.\n") || !strings.Contains(got, guestsWait) {
		t.Errorf("guests are refused in most rooms: got:\n%s", got)
	}
	if got := said(auth.Rule{Match: "*", Tenant: "*", WaitForHost: auth.NobodyWaits}); strings.Contains(got, guestsWait) || !strings.Contains(got, guestsEnter) {
		t.Errorf("nobody waits: got:\n%s", got)
	}
	if got := said(auth.Rule{Match: "*", Guests: auth.GuestsDeny}); !strings.Contains(got, "\nRooms named *: guests are refused.\n") || !strings.Contains(got, guestsWait) {
		t.Errorf("guests are refused in rooms without a tenant: got:\n%s", got)
	}
}

// Every decision says that there is no login, exactly if the policy says so.
func TestNoLogin(t *testing.T) {
	for _, login := range []auth.Login{"", auth.LoginNone, auth.LoginPassword, auth.LoginURL} {
		p := policy(t)
		p.Login = login
		a := auth.New(p)
		for _, from := range []string{"u@meet.example.com/r", "t@trusted.example.com/r", "g@guest.example.com/r", "x@nowhere.example.org/r"} {
			for _, token := range []string{"", "bad"} {
				d := a.Authorize(t.Context(), auth.Request{At: now, From: jid.MustParse(from), Room: "standup@conference.meet.example.com", Token: token}, nil)
				if d.NoLogin != (login == auth.LoginNone) || d.Waiting(auth.ReasonHostAbsent).NoLogin != d.NoLogin {
					t.Errorf("login %q, %s, %s: %t", login, from, d.Reason, d.NoLogin)
				}
			}
		}
	}
}
