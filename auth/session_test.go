package auth_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
)

func TestSessions(t *testing.T) {
	const guest, trusted = "g@guest.example.com/x", "t@trusted.example.com/x"
	asOwner := auth.Decision{
		Verdict: auth.Allow, Reason: auth.ReasonHost, Affiliation: auth.Owner, MayCreate: true, SessionID: sid,
		Identity: "u1", Expires: now.Add(time.Hour), Token: auth.TokenRef{Issuer: "my_app", ID: "j1", Key: origin},
		Proof: kept().Proof,
	}
	asMember, byPassword := asOwner, asOwner
	asMember.Reason, asMember.Affiliation = auth.ReasonMember, auth.Member
	byPassword.Identity, byPassword.Token = "t@trusted.example.com", auth.TokenRef{}
	byPassword.Proof = auth.Proof{VHost: "trusted.example.com", Account: "t@trusted.example.com"}
	trustedUser := byPassword
	trustedUser.Expires = time.Time{}
	invalid := auth.Decision{Reason: auth.ReasonSessionInvalid}

	for name, tt := range map[string]struct {
		policy  func(*auth.Policy)
		session func(*auth.Session)
		err     error // of the store
		from    string
		room    string
		machine string // default: the session's; "-" none
		sid     string // default: the session's
		at      time.Duration
		state   auth.RoomState
		want    auth.Decision
	}{
		"from the same virtual host": {from: "u2@meet.example.com/y", want: asOwner},
		"from a guest's connection":  {from: guest, want: asOwner},
		"of a member":                {session: member, from: guest, want: asMember},
		"hosts are admins":           {policy: func(p *auth.Policy) { p.HostAffiliation = auth.Admin }, from: guest, want: with(asOwner, func(d *auth.Decision) { d.Affiliation = auth.Admin })},
		"of a member who waits":      {policy: membersWait, session: member, from: guest, state: noHost, want: auth.Decision{Verdict: auth.Wait, Reason: auth.ReasonHostAbsent}},
		"of a member who has waited": {policy: membersWait, session: member, from: guest, state: hostInside, want: with(asMember, func(d *auth.Decision) { d.MayCreate, d.NeedsHost = false, true })},
		"by default, which is member now": {policy: func(p *auth.Policy) {
			v := p.VHosts["meet.example.com"]
			defaultMember(&v)
			p.VHosts["meet.example.com"] = v
		}, session: func(s *auth.Session) { s.ByDefault = true }, from: guest, want: asMember},
		"by default, which is member by the issuer now": {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].DefaultAffiliation = auth.Member },
			session: func(s *auth.Session) { s.ByDefault = true }, from: guest, want: asMember},
		"by default, of an issuer who has affiliations now": {policy: func(p *auth.Policy) { mapsAffiliation(t)(&p.VHosts["meet.example.com"].Issuers[0]) },
			session: func(s *auth.Session) { s.ByDefault = true }, from: guest, want: asMember},
		"the room in capitals":                       {from: guest, room: "StandUp@" + service, want: asOwner},
		"on a service vhost":                         {from: "r@recorder.example.com/x", state: noHost, want: auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonService, Affiliation: auth.Member}},
		"vhost unknown":                              {from: "eve@elsewhere.example/x", want: auth.Decision{Reason: auth.ReasonVHostUnknown}},
		"for every room":                             {session: func(s *auth.Session) { s.Room = "*" }, from: guest, room: "retro@" + service, want: asOwner},
		"a tenant's":                                 {session: func(s *auth.Session) { s.Subject = "acme" }, from: guest, room: "[acme]standup@" + service, want: asOwner},
		"a moment before its end":                    {from: guest, at: time.Hour - time.Nanosecond, want: asOwner},
		"at its end":                                 {from: guest, at: time.Hour, want: invalid},
		"after its end":                              {from: guest, at: time.Hour + time.Minute, want: invalid},
		"without an end":                             {session: func(s *auth.Session) { s.Expires = time.Time{} }, from: guest, want: invalid},
		"unknown":                                    {from: guest, sid: "other", want: invalid},
		"unknown, of nobody":                         {from: "u@meet.example.com/x", sid: "other", want: invalid},
		"of a secret that is taken out":              {session: func(s *auth.Session) { s.Token.Key = "the old one's" }, from: guest, want: invalid},
		"of no known secret":                         {session: func(s *auth.Session) { s.Token.Key = "" }, from: guest, want: invalid},
		"another machine":                            {from: guest, machine: "another-machine", want: invalid},
		"no machine":                                 {from: guest, machine: "-", want: invalid},
		"no machine on either side":                  {session: func(s *auth.Session) { s.Machine = "" }, from: guest, machine: "-", want: invalid},
		"another room":                               {from: guest, room: "retro@" + service, want: invalid},
		"the room of a tenant":                       {from: guest, room: "[acme]standup@" + service, want: invalid},
		"no room any more required":                  {session: func(s *auth.Session) { s.Room = "" }, from: guest, want: invalid},
		"no affiliation":                             {session: func(s *auth.Session) { s.Affiliation = auth.None }, from: guest, want: invalid},
		"no such affiliation":                        {session: func(s *auth.Session) { s.Affiliation = "outcast" }, from: guest, want: invalid},
		"issuer gone":                                {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].Name = "renamed" }, from: guest, want: invalid},
		"vhost of the issuer gone":                   {policy: func(p *auth.Policy) { delete(p.VHosts, "meet.example.com") }, from: guest, want: invalid},
		"issuer of another vhost":                    {session: func(s *auth.Session) { s.VHost = "guest.example.com" }, from: guest, want: invalid},
		"no wildcard any more":                       {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].NoWildcard = true }, session: func(s *auth.Session) { s.Room = "*" }, from: guest, want: invalid},
		"issuer of a tenant now":                     {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].Tenant = "acme" }, from: guest, want: invalid},
		"of an earlier version":                      {session: func(s *auth.Session) { s.Proof = auth.Proof{} }, from: guest, want: invalid},
		"that names a password's proof":              {session: func(s *auth.Session) { s.Proof = auth.Proof{Account: "a@trusted.example.com"} }, from: guest, want: invalid},
		"of an earlier version, from a trusted user": {session: func(s *auth.Session) { password(s); s.Proof = auth.Proof{} }, from: trusted, want: invalid},
		"of a password, of an earlier version":       {session: func(s *auth.Session) { password(s); s.Proof = auth.Proof{} }, from: guest, want: invalid},
		"used up":                                    {session: func(s *auth.Session) { s.OneTime = true }, from: guest, want: with(asOwner, func(d *auth.Decision) { d.OneTime = true })},
		"used up, of an issuer with one_time": {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].OneTime = true }, session: func(s *auth.Session) { s.OneTime = true },
			from: guest, want: with(asOwner, func(d *auth.Decision) { d.OneTime = true })},
		"not used up, of an issuer with one_time now": {policy: func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].OneTime = true }, from: guest, want: invalid},
		"store out of reach":                          {err: errors.New("no answer"), from: guest, want: auth.Decision{Reason: auth.ReasonStoreUnavailable}},
		"store out of reach, trusted":                 {err: errors.New("no answer"), from: trusted, want: auth.Decision{Reason: auth.ReasonStoreUnavailable}},
		"sessions off":                                {policy: func(p *auth.Policy) { p.Sessions = nil }, from: guest, want: invalid},

		"password, from a guest's connection": {session: password, from: guest, want: byPassword},
		"password, another room":              {session: password, from: guest, room: "retro@" + service, want: invalid},
		"password, another service":           {policy: func(p *auth.Policy) { p.Services = append(p.Services, "conference.example.com") }, session: password, from: guest, room: "standup@conference.example.com", want: invalid},
		"password, every room":                {session: func(s *auth.Session) { password(s); s.Room = "*" }, from: guest, want: invalid},
		"password, room of a tenant":          {session: password, from: guest, room: "[acme]standup@" + service, want: invalid},
		"password, vhost not trusted any more": {policy: func(p *auth.Policy) {
			p.VHosts["trusted.example.com"] = auth.VHost{Kind: auth.KindGuest}
		}, session: password, from: guest, want: invalid},
		"password, vhost gone":      {policy: func(p *auth.Policy) { delete(p.VHosts, "trusted.example.com") }, session: password, from: guest, want: invalid},
		"a token's session as none": {session: func(s *auth.Session) { s.Issuer = "" }, from: guest, want: invalid},
		"password, from its user":   {session: password, from: trusted, want: with(trustedUser, func(d *auth.Decision) { d.SessionID = sid })},
		"password, another machine": {session: password, from: trusted, machine: "another-machine", want: invalid},
		"password, another user": {session: password, from: "u@trusted.example.com/x", want: with(trustedUser, func(d *auth.Decision) {
			s := kept()
			password(&s)
			d.SessionID, d.Identity, s.Identity, s.Expires = "", "u@trusted.example.com", "u@trusted.example.com", now.Add(24*time.Hour)
			d.Proof.Account, s.Proof.Account = "u@trusted.example.com", "u@trusted.example.com"
			d.Session = &s
		})},
		"a member's, and a password": {session: member, from: trusted, want: with(trustedUser, func(d *auth.Decision) {
			s := kept()
			password(&s)
			s.Expires = now.Add(24 * time.Hour)
			d.SessionID, d.Session = "", &s
		})},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := kept(), policy(t)
			if tt.session != nil {
				tt.session(&s)
			}
			p.Sessions = store{map[string]auth.Session{sid: s}, tt.err}
			if tt.policy != nil {
				tt.policy(&p)
			}
			req := auth.Request{At: now.Add(tt.at), From: jid.MustParse(tt.from), Room: or(tt.room, "standup@"+service), SessionID: or(tt.sid, sid), MachineUID: or(tt.machine, machine)}
			if req.MachineUID == "-" {
				req.MachineUID = ""
			}
			d := decided(t, auth.New(p), req, tt.state)
			if (d.Err != nil) != (d.Reason == auth.ReasonSessionInvalid || d.Reason == auth.ReasonStoreUnavailable) {
				t.Errorf("%s with the error %v", d.Reason, d.Err)
			}
			d.Room, d.Err, d.Rule = auth.Room{}, nil, auth.RoomRule{}
			if d.Verdict != auth.Allow {
				d = auth.Decision{Verdict: d.Verdict, Reason: d.Reason}
			}
			if !reflect.DeepEqual(d, tt.want) {
				t.Errorf("got  %+v %+v\nwant %+v %+v", d, d.Session, tt.want, tt.want.Session)
			}
		})
	}
}

// What a new session stands for, and which requests get one.
func TestSessionsAreGiven(t *testing.T) {
	yes, no := true, false
	fresh := kept()
	fresh.Token.ID = ""
	fresh.Expires = now.Add(time.Hour + 10*time.Second) // with the leeway
	given := func(change func(*auth.Session)) *auth.Session {
		s := fresh
		if change != nil {
			change(&s)
		}
		return &s
	}
	noExp := func(p *auth.Policy) { p.VHosts["meet.example.com"].Issuers[0].RequireExp = false }
	endless := func(c *token.Claims) { owner(c); c.Expires = time.Time{} }
	for name, tt := range map[string]struct {
		policy  func(*auth.Policy)
		claims  func(*token.Claims)
		from    string
		room    string
		machine string
		live    *auth.Session // has the id in the request
		err     error
		state   auth.RoomState
		want    *auth.Session
		kept    bool
	}{
		"a host's":   {claims: owner, want: given(nil)},
		"a member's": {claims: nothing, want: given(member)},
		"by default": {claims: affiliation(""), want: given(func(s *auth.Session) { s.ByDefault = true })},
		"hosts are admins, the session asks for owner": {policy: func(p *auth.Policy) { p.HostAffiliation = auth.Admin }, claims: owner, want: given(nil)},
		"all claims": {claims: func(c *token.Claims) {
			owner(c)
			c.Room, c.Subject, c.Tenant, c.ID, c.RoomLobby, c.User.LobbyBypass = "*", "*", "acme", "j", &yes, &no
			c.MaxOccupants, c.OneTime, c.RoomEnds = 7, true, now.Add(30*time.Minute)
		}, want: given(func(s *auth.Session) {
			s.Room, s.Subject, s.Tenant, s.Token.ID, s.LobbyOn, s.LobbyKnock = "*", "*", "acme", "j", true, true
			s.MaxOccupants, s.OneTime, s.Ends, s.Expires = 7, true, now.Add(30*time.Minute), now.Add(30*time.Minute)
		})},
		"the other way round": {claims: func(c *token.Claims) {
			owner(c)
			c.RoomLobby, c.User.LobbyBypass = &no, &yes
		}, want: given(func(s *auth.Session) { s.LobbyOff, s.LobbyBypass = true, true })},
		"a day at most":    {claims: func(c *token.Claims) { owner(c); c.Expires = now.Add(48 * time.Hour) }, want: given(tomorrow)},
		"without an end":   {policy: noExp, claims: endless, want: given(tomorrow)},
		"a trusted user's": {from: "t@trusted.example.com/x", want: given(func(s *auth.Session) { password(s); tomorrow(s) })},
		"a trusted user's, room of a tenant": {from: "t@trusted.example.com/x", room: "Standup@conference.acme.meet.example.com",
			want: given(func(s *auth.Session) { password(s); tomorrow(s); s.Room = "[acme]standup" })},

		"no machine":         {claims: owner, machine: "-"},
		"too long a machine": {claims: owner, machine: strings.Repeat("x", 257)},
		"sessions off":       {policy: func(p *auth.Policy) { p.Sessions = nil }, claims: owner},
		"guests have none":   {from: "g@guest.example.com/x", state: hostInside},
		"services have none": {from: "r@recorder.example.com/x", state: noHost},
		"none in a breakout": {claims: owner, room: "uuid@" + breakout, state: auth.RoomState{HasGrant: true}},

		"the same token":                        {claims: owner, live: given(nil), kept: true},
		"the same token, without an end":        {policy: noExp, claims: endless, live: given(nil), kept: true},
		"the same password":                     {from: "t@trusted.example.com/x", live: given(password), kept: true},
		"a token that lasts longer":             {claims: owner, live: given(func(s *auth.Session) { s.Expires = now.Add(time.Minute) }), want: given(nil)},
		"a token that lasts shorter":            {claims: owner, live: given(tomorrow), want: given(nil)},
		"over":                                  {claims: owner, live: given(func(s *auth.Session) { s.Expires = now }), want: given(nil)},
		"of another machine":                    {claims: owner, live: given(func(s *auth.Session) { s.Machine = "another" }), want: given(nil)},
		"of another token with the same claims": {claims: owner, live: given(func(s *auth.Session) { s.Proof.Token = "another" }), want: given(nil)},
		"of another token":                      {claims: owner, live: given(func(s *auth.Session) { s.Token.ID = "j2" }), want: given(nil)},
		"of another issuer":                     {claims: owner, live: given(func(s *auth.Session) { s.Issuer = "other" }), want: given(nil)},
		"of another vhost":                      {claims: owner, live: given(func(s *auth.Session) { s.VHost = "other.example.com" }), want: given(nil)},
		"of another room":                       {claims: owner, live: given(func(s *auth.Session) { s.Room = "retro" }), want: given(nil)},
		"of another affiliation":                {claims: nothing, live: given(nil), want: given(member)},
		"the token decides, store or not":       {claims: owner, err: errors.New("no answer"), want: given(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			p.Breakout = breakout
			st := store{err: tt.err, live: map[string]auth.Session{}}
			req := auth.Request{At: now, From: jid.MustParse(or(tt.from, "u@meet.example.com/x")), Room: or(tt.room, "standup@"+service), MachineUID: or(tt.machine, machine)}
			if req.MachineUID == "-" {
				req.MachineUID = ""
			}
			if tt.live != nil || tt.err != nil {
				req.SessionID = sid
			}
			if tt.live != nil {
				st.live[sid] = *tt.live
			}
			p.Sessions = st
			if tt.policy != nil {
				tt.policy(&p)
			}
			if tt.claims != nil {
				c := good()
				tt.claims(&c)
				req.Token = mint(t, tt.claims)
				proof := proofOf(c, req.Token)
				if tt.want != nil {
					tt.want.Proof = proof
				}
				if live, ok := st.live[sid]; ok && live.Proof.Token != "another" {
					live.Proof = proof
					st.live[sid] = live
				}
			}
			d := decided(t, auth.New(p), req, tt.state)
			if d.Verdict != auth.Allow || (d.SessionID == sid) != tt.kept || !reflect.DeepEqual(d.Session, tt.want) {
				t.Errorf("got  %s %s, %q, %+v\nwant %t, %+v", d.Verdict, d.Reason, d.SessionID, d.Session, tt.kept, tt.want)
			}
		})
	}
}

func TestBreakouts(t *testing.T) {
	const room = "0b5e2b0e-5b3e-4a5e-9d6b-3c1c6a8c3a57@" + breakout
	holds, allowed := auth.RoomState{HasGrant: true}, auth.ReasonBreakout
	for name, tt := range map[string]struct {
		policy func(*auth.Policy)
		from   string
		room   string
		token  string
		claims func(*token.Claims)
		sid    string
		state  auth.RoomState
		reason auth.Reason
	}{
		"host":                                   {claims: owner, state: holds, reason: allowed},
		"member":                                 {claims: nothing, state: holds, reason: allowed},
		"guest":                                  {from: "g@guest.example.com/x", state: holds, reason: allowed},
		"trusted":                                {from: "t@trusted.example.com/x", state: holds, reason: allowed},
		"by session":                             {from: "g@guest.example.com/x", sid: sid, state: holds, reason: allowed},
		"by session of a password":               {from: "g@guest.example.com/x", sid: "sid-of-password", state: holds, reason: allowed},
		"nothing shown, but let in":              {state: holds, reason: allowed},
		"a tenant's token":                       {claims: func(c *token.Claims) { c.Subject = "acme" }, state: holds, reason: allowed},
		"host without a main room":               {claims: owner, state: hostInside, reason: auth.ReasonRoomMismatch},
		"wildcard without a main room":           {claims: func(c *token.Claims) { owner(c); c.Room = "*" }, reason: auth.ReasonRoomMismatch},
		"trusted without a main room":            {from: "t@trusted.example.com/x", reason: auth.ReasonRoomMismatch},
		"service without a main room":            {from: "r@recorder.example.com/x", reason: auth.ReasonRoomMismatch},
		"session without a main room":            {from: "g@guest.example.com/x", sid: sid, reason: auth.ReasonRoomMismatch},
		"nobody waits":                           {policy: nobodyWaits, from: "g@guest.example.com/x", reason: auth.ReasonRoomMismatch},
		"bad token":                              {token: "garbage", state: holds, reason: auth.ReasonTokenMalformed},
		"expired":                                {claims: func(c *token.Claims) { c.Expires = now.Add(-time.Hour) }, state: holds, reason: auth.ReasonTokenExpired},
		"affiliation that is none":               {claims: affiliation("outcast"), state: holds, reason: auth.ReasonTokenClaims},
		"dead session":                           {from: "g@guest.example.com/x", sid: "dead", state: holds, reason: auth.ReasonSessionInvalid},
		"vhost unknown":                          {from: "eve@elsewhere.example/x", state: holds, reason: auth.ReasonVHostUnknown},
		"no breakout service":                    {policy: func(p *auth.Policy) { p.Breakout = "" }, claims: owner, state: holds, reason: auth.ReasonRoomUnknown},
		"is no tenant's room of another service": {policy: func(p *auth.Policy) { p.Services = append(p.Services, "breakout.example.com") }, claims: owner, state: holds, reason: allowed},
		"look-alike":                             {room: "uuid@x" + breakout, claims: owner, state: holds, reason: auth.ReasonRoomUnknown},
		"malformed":                              {room: breakout, claims: owner, state: holds, reason: auth.ReasonRoomUnknown},
		"a main room is none":                    {room: "retro@" + service, claims: owner, state: holds, reason: auth.ReasonRoomMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			s, pw, p := kept(), kept(), policy(t)
			password(&pw)
			p.Breakout, p.Sessions = breakout, store{live: map[string]auth.Session{sid: s, "sid-of-password": pw}}
			if tt.policy != nil {
				tt.policy(&p)
			}
			req := auth.Request{At: now, From: jid.MustParse(or(tt.from, "u@meet.example.com/x")), Room: or(tt.room, room), Token: tt.token, SessionID: tt.sid, MachineUID: machine}
			if tt.claims != nil {
				req.Token = mint(t, tt.claims)
			}
			d := decided(t, auth.New(p), req, tt.state)
			if d.Reason != tt.reason || (d.Verdict == auth.Allow) != (tt.reason == allowed) {
				t.Fatalf("got %s %s (%v), want %s", d.Verdict, d.Reason, d.Err, tt.reason)
			}
			if tt.reason == allowed && (!d.Breakout || d.Affiliation != auth.None || d.MayCreate || d.NeedsHost || d.StartLobby || d.Session != nil || d.SessionID != tt.sid) {
				t.Errorf("got %+v", d)
			}
			if ends := tt.claims != nil || tt.sid != ""; tt.reason == allowed && d.Expires.IsZero() == ends {
				t.Errorf("ends at %s", d.Expires)
			}
		})
	}
}

func TestLobby(t *testing.T) {
	yes, no := true, false
	quiet := auth.RoomState{Exists: true, Lobby: true}
	lobby := auth.RoomState{Exists: true, HostPresent: true, Lobby: true}
	everybody := []auth.Affiliation{auth.Owner, auth.Member}
	claims := func(base func(*token.Claims), bypass, room *bool) func(*token.Claims) {
		return func(c *token.Claims) { base(c); c.User.LobbyBypass, c.RoomLobby = bypass, room }
	}
	const guest, trusted = "g@guest.example.com/x", "t@trusted.example.com/x"
	for name, tt := range map[string]struct {
		bypass    []auth.Affiliation
		autostart bool
		policy    func(*auth.Policy)
		from      string
		room      string
		claims    func(*token.Claims)
		session   func(*auth.Session) // in the request, instead of a token
		state     auth.RoomState

		affiliation auth.Affiliation
		waits       bool
		create      bool
		needsHost   bool
		start       bool
		asked       bool
	}{
		// Rule 7.
		"owner passes":               {bypass: everybody, claims: owner, state: lobby, affiliation: auth.Owner, create: true},
		"admin passes with owners":   {bypass: everybody[:1], claims: affiliation("admin"), state: lobby, affiliation: auth.Admin, create: true},
		"trusted user passes":        {bypass: everybody[:1], from: trusted, state: lobby, affiliation: auth.Owner, create: true},
		"owner knocks":               {bypass: everybody[1:], claims: owner, state: lobby, needsHost: true, asked: true},
		"admin knocks":               {claims: affiliation("admin"), state: lobby, needsHost: true, asked: true},
		"trusted user knocks":        {from: trusted, state: lobby, needsHost: true, asked: true},
		"nobody inside to open":      {claims: owner, state: quiet, affiliation: auth.Owner, create: true, asked: true},
		"no lobby at work":           {claims: owner, state: hostInside, affiliation: auth.Owner, create: true, asked: true},
		"no room yet":                {claims: owner, state: noRoom, affiliation: auth.Owner, create: true, asked: true},
		"a lobby that its room left": {claims: owner, state: auth.RoomState{Lobby: true, HostPresent: true}, affiliation: auth.Owner, create: true, asked: true},
		"token lets the owner pass":  {claims: claims(owner, &yes, nil), state: lobby, affiliation: auth.Owner, create: true},
		"token has the owner knock":  {bypass: everybody, claims: claims(owner, &no, nil), state: lobby, needsHost: true, asked: true},
		"session of one who passes":  {from: guest, session: func(s *auth.Session) { s.LobbyBypass = true }, state: lobby, affiliation: auth.Owner, create: true},
		"session of one who knocks":  {bypass: everybody, from: guest, session: func(s *auth.Session) { s.LobbyKnock = true }, state: lobby, needsHost: true, asked: true},
		"session":                    {bypass: everybody, from: guest, session: func(*auth.Session) {}, state: lobby, affiliation: auth.Owner, create: true},

		"host starts it":                     {bypass: everybody, autostart: true, claims: owner, affiliation: auth.Owner, create: true, start: true},
		"trusted user starts it":             {bypass: everybody, autostart: true, from: trusted, affiliation: auth.Owner, create: true, start: true},
		"token starts it":                    {bypass: everybody, claims: claims(owner, nil, &yes), affiliation: auth.Owner, create: true, start: true},
		"token does not":                     {bypass: everybody, autostart: true, claims: claims(owner, nil, &no), affiliation: auth.Owner, create: true},
		"session starts it":                  {bypass: everybody, from: guest, session: func(s *auth.Session) { s.LobbyOn = true }, affiliation: auth.Owner, create: true, start: true},
		"session starts it as all do":        {bypass: everybody, autostart: true, from: guest, session: func(*auth.Session) {}, affiliation: auth.Owner, create: true, start: true},
		"session does not":                   {bypass: everybody, autostart: true, from: guest, session: func(s *auth.Session) { s.LobbyOff = true }, affiliation: auth.Owner, create: true},
		"who knocks does not start it":       {autostart: true, claims: owner, state: lobby, needsHost: true, asked: true},
		"a member does not start it":         {bypass: everybody, autostart: true, claims: claims(nothing, nil, &yes), affiliation: auth.Member, create: true},
		"no lobby service, nothing to start": {policy: noLobby, autostart: true, claims: claims(owner, nil, &yes), affiliation: auth.Owner, create: true},

		// Rules 8 and 9.
		"guest knocks":                   {bypass: everybody, from: guest, state: lobby, needsHost: true, asked: true},
		"guest enters, lobby off":        {bypass: everybody, from: guest, state: hostInside, affiliation: auth.Member, needsHost: true, asked: true},
		"guest waits first":              {bypass: everybody, from: guest, state: quiet, waits: true, asked: true},
		"guest knocks, nobody waits":     {policy: nobodyWaits, from: guest, state: quiet, asked: true},
		"guest knocks in a guest room":   {policy: guestRooms, from: guest, room: "open-mic@" + service, state: quiet, asked: true},
		"guest opens a guest room":       {policy: guestRooms, from: guest, room: "open-mic@" + service, affiliation: auth.Member, create: true, asked: true},
		"member passes":                  {bypass: everybody[1:], claims: nothing, state: lobby, affiliation: auth.Member, create: true},
		"member knocks":                  {bypass: everybody[:1], claims: nothing, state: lobby, asked: true},
		"member knocks, nobody inside":   {claims: nothing, state: quiet, asked: true},
		"member, no lobby at work":       {claims: nothing, state: noHost, affiliation: auth.Member, create: true, asked: true},
		"member, lobby of no room":       {claims: nothing, state: auth.RoomState{Lobby: true}, affiliation: auth.Member, create: true, asked: true},
		"member who waited knocks":       {policy: membersWait, claims: nothing, state: lobby, needsHost: true, asked: true},
		"token lets the member pass":     {claims: claims(nothing, &yes, nil), state: lobby, affiliation: auth.Member, create: true},
		"token has the member knock":     {bypass: everybody, claims: claims(nothing, &no, nil), state: lobby, asked: true},
		"session lets the member pass":   {from: guest, session: func(s *auth.Session) { member(s); s.LobbyBypass = true }, state: lobby, affiliation: auth.Member, create: true},
		"session has the member knock":   {bypass: everybody, from: guest, session: func(s *auth.Session) { member(s); s.LobbyKnock = true }, state: lobby, asked: true},
		"session of a member":            {bypass: everybody[:1], from: guest, session: member, state: lobby, asked: true},
		"recorder passes":                {from: "r@recorder.example.com/x", state: lobby, asked: true, affiliation: auth.Member},
		"no lobby service, nothing asks": {policy: noLobby, claims: nothing, state: lobby, affiliation: auth.Member, create: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			p.Lobby, p.LobbyBypass, p.LobbyAutostart = true, tt.bypass, tt.autostart
			if tt.policy != nil {
				tt.policy(&p)
			}
			req := auth.Request{At: now, From: jid.MustParse(or(tt.from, "u@meet.example.com/x")), Room: or(tt.room, "standup@"+service), MachineUID: machine}
			if tt.claims != nil {
				req.Token = mint(t, tt.claims)
			}
			s := kept()
			if tt.session != nil {
				tt.session(&s)
				req.SessionID = sid
			}
			p.Sessions = store{live: map[string]auth.Session{sid: s}}
			a := auth.New(p)
			asked := false
			a.Authorize(t.Context(), req, func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
				asked = true
				return tt.state, nil
			})
			want := auth.Allow
			if tt.waits {
				want = auth.Wait
			}
			d := decided(t, a, req, tt.state)
			if d.Verdict != want || d.Affiliation != tt.affiliation || d.MayCreate != tt.create || d.NeedsHost != tt.needsHost || d.StartLobby != tt.start || asked != tt.asked {
				t.Errorf("%s %s: affiliation %q, create %t, needs host %t, start %t, asked %t", d.Verdict, d.Reason, d.Affiliation, d.MayCreate, d.NeedsHost, d.StartLobby, asked)
			}
			// A person who knocks gets a session, too.
			if given := tt.claims != nil || tt.from == trusted; (d.Session != nil) != given {
				t.Errorf("the session is %+v", d.Session)
			}
		})
	}
}

// If a rule needs the room and the room does not answer, nobody is let in.
func TestLobbyAndBreakoutsOutOfReach(t *testing.T) {
	p := policy(t)
	p.Lobby, p.Breakout = true, breakout
	a := auth.New(p)
	for name, req := range map[string]auth.Request{
		"host":     {Token: mint(t, owner), Room: "standup@" + service},
		"member":   {Token: mint(t, nil), Room: "standup@" + service},
		"breakout": {Token: mint(t, owner), Room: "uuid@" + breakout},
	} {
		req.At, req.From = now, jid.MustParse("u@meet.example.com/x")
		d, steps := a.Explain(t.Context(), req, func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
			return auth.RoomState{Exists: true, HostPresent: true, HasGrant: true}, errors.New("no answer")
		})
		if d.Verdict != auth.Deny || d.Reason != auth.ReasonRoomUnavailable || d.Err == nil || steps[len(steps)-1].OK {
			t.Errorf("%s: %+v %+v", name, d, steps[len(steps)-1])
		}
	}
}

// A decision turned into a refusal gives nothing.
func TestDeniedGivesNothing(t *testing.T) {
	full := auth.Decision{Verdict: auth.Allow, Affiliation: auth.Owner, MayCreate: true, NeedsHost: true, Breakout: true, StartLobby: true, SessionID: sid, Session: &auth.Session{},
		Text: "Welcome.", RemoveAt: now, OneTime: true, Reuse: auth.ReuseReplace, ReuseOf: auth.ReuseOfSubject, Ends: now, FirstHost: true,
		Features: map[string]bool{"recording": true}, User: token.User{ID: "u"}, Group: "g"}
	for _, d := range []auth.Decision{full.Denied(auth.ReasonFocusRefused, nil), full.Waiting(auth.ReasonHostAbsent)} {
		want := auth.Decision{Verdict: d.Verdict, Reason: d.Reason}
		if d.Verdict == auth.Allow || !reflect.DeepEqual(d, want) {
			t.Errorf("got %+v", d)
		}
	}
}

// A session never yields more than the token that it came from. With it nobody enters another room, gets another affiliation, passes
// another lobby or stays longer than with the token at the same moment and under the same policy. On another machine it yields
// nothing. Policies change between the two requests.
func TestSessionsYieldNoMoreThanTheirToken(t *testing.T) {
	i := issuer(t)
	outcomes := map[string]int{}
	checkAll(t, outcomes, []string{"allow host", "allow member", "wait host-absent", "deny session-invalid"}, func(t *rapid.T) {
		some := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
		maybe := func(label string) *bool { return rapid.Ptr(rapid.Bool(), true).Draw(t, label) }
		draw := func() auth.Policy {
			p := auth.Policy{
				Services:        []string{service, "conference.example.com"},
				WaitForHost:     auth.WaitForHost(some("wait", "guests", "members", "never")),
				HostAffiliation: auth.Affiliation(some("host", "owner", "admin")),
				Lobby:           flag("lobby"), LobbyAutostart: flag("autostart"),
				LobbyBypass: rapid.SliceOfDistinct(rapid.SampledFrom([]auth.Affiliation{auth.Owner, auth.Member}), rapid.ID).Draw(t, "bypass"),
			}
			own := i
			own.Tenant = some("issuer tenant", "", "", "", "acme")
			own.RequireRoom, own.RequireExp, own.DomainVerification = flag("room"), flag("exp"), flag("domain")
			own.NoWildcard = rapid.IntRange(0, 3).Draw(t, "no wildcard") == 0
			own.OneTime = rapid.IntRange(0, 3).Draw(t, "one time") == 0
			own.OnExpiry, own.ExpiryGrace = auth.OnExpiry(some("expiry", "", "keep", "remove")), time.Duration(rapid.IntRange(0, 2).Draw(t, "grace"))*time.Minute
			own.Reuse = auth.Reuse(some("reuse", "", "replace", "refuse"))
			if flag("rule") {
				who := rapid.SampledFrom([]auth.FeatureRule{auth.FeatureOwners, auth.FeatureNever, auth.FeatureOfToken})
				p.Rules = []auth.Rule{{
					Match: some("match", "*", "standup"), Tenant: some("tenant", "", "*"), MaxOccupants: rapid.IntRange(0, 3).Draw(t, "most"),
					WaitForHost: auth.WaitForHost(some("rule wait", "", "guests", "members", "never")), FirstIsHost: auth.FirstIsHost(some("first", "", "token")),
					OnHostLeft: auth.OnHostLeft(some("left", "", "keep", "end")), Guests: auth.Guests(some("guests", "", "deny")),
					Features: rapid.MapOf(rapid.SampledFrom([]string{"recording", "flip"}), who).Draw(t, "rule features"),
				}}
				if rapid.IntRange(0, 3).Draw(t, "hours") == 0 {
					p.Rules[0].Hours = &auth.Hours{From: 11 * time.Hour, Until: 20 * time.Hour}
				}
			}
			p.VHosts = map[string]auth.VHost{
				"meet.example.com":  {Kind: auth.KindToken, AllowEmptyToken: flag("empty"), DefaultAffiliation: auth.Affiliation(some("default", "owner", "member")), Issuers: []auth.Issuer{own}},
				"guest.example.com": {Kind: auth.KindGuest},
			}
			return p
		}
		rooms := []string{"standup@" + service, "retro@" + service, "[acme]standup@" + service, "standup@conference.acme.meet.example.com", "standup@conference.example.com", "Standup@" + service}
		c := token.Claims{
			Issuer: "my_app", Audience: []string{"jitsi"}, ID: some("jti", "", "j"),
			Subject: some("sub", "", "*", "acme", "meet.example.com", "meet.example.com"), Room: some("room claim", "", "*", "standup", "standup", "[acme]standup", "retro"),
			Tenant: some("tenant", "", "acme"), RoomLobby: maybe("room lobby"),
			User: token.User{ID: "u1", Affiliation: some("affiliation", "", "owner", "admin", "member"), LobbyBypass: maybe("lobby bypass")},
		}
		if flag("features") {
			c.Features = rapid.MapOf(rapid.SampledFrom([]string{"recording", "flip"}), rapid.Bool()).Draw(t, "features said")
		}
		c.OneTime, c.MaxOccupants = rapid.IntRange(0, 3).Draw(t, "one time") == 0, rapid.IntRange(0, 3).Draw(t, "claimed most")
		if minutes := rapid.IntRange(0, 2000).Draw(t, "ends"); minutes > 1000 {
			c.RoomEnds = now.Add(time.Duration(minutes-1000) * time.Minute)
		}
		if minutes := rapid.IntRange(0, 2000).Draw(t, "exp"); minutes > 0 {
			c.Expires = now.Add(time.Duration(minutes) * time.Minute)
		}
		compact, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: secret})
		if err != nil {
			t.Fatal(err)
		}
		in := func() auth.Look {
			return looking(auth.RoomState{Exists: flag("exists"), HostPresent: flag("host inside"), Lobby: flag("lobby at work"), Opened: flag("opened")})
		}

		// The first request earns a session.
		first := auth.Request{At: now, From: jid.MustParse("u@meet.example.com/x"), Room: rapid.SampledFrom(rooms).Draw(t, "first room"), Token: compact, MachineUID: machine}
		p := draw()
		p.Sessions = store{}
		earned := auth.New(p).Authorize(t.Context(), first, in())
		if earned.Session == nil {
			if earned.Verdict == auth.Allow {
				t.Fatalf("no session for %+v", earned)
			}
			t.Skip("refused")
		}

		// Later requests have its id, on the same machine or another, for this room or another, in time or late.
		for range 10 {
			if flag("reload") {
				p = draw()
			}
			p.Sessions = store{live: map[string]auth.Session{sid: *earned.Session}}
			a := auth.New(p)
			later := auth.Request{
				At: now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "later")) * time.Minute), From: jid.MustParse("g@" + some("from", "guest.example.com", "meet.example.com") + "/y"),
				Room: rapid.SampledFrom(rooms).Draw(t, "room"), SessionID: sid, MachineUID: some("machine", machine, machine, machine, "another", ""),
			}
			look := in()
			got := a.Authorize(t.Context(), later, look)
			withToken := later
			withToken.From, withToken.Token, withToken.SessionID = first.From, compact, ""
			most := a.Authorize(t.Context(), withToken, look)

			outcomes[got.Verdict.String()+" "+string(got.Reason)]++
			switch {
			case got.Verdict == auth.Deny:
				if got.Reason != auth.ReasonSessionInvalid && most.Verdict == auth.Allow {
					t.Fatalf("refused with %s (%v), by token %s", got.Reason, got.Err, most.Reason)
				}
				usedUp := earned.Session.OneTime || !p.VHosts["meet.example.com"].Issuers[0].OneTime
				if usedUp && most.Verdict == auth.Allow && later.MachineUID == machine && later.At.Before(earned.Session.Expires) {
					t.Fatalf("refused (%v), although the token would do: %+v", got.Err, most)
				}
			case later.MachineUID != machine:
				t.Fatalf("on another machine: %+v", got)
			case !later.At.Before(earned.Session.Expires):
				t.Fatalf("after its end: %+v", got)
			case got.Session != nil:
				t.Fatalf("a session begets another: %+v", got.Session)
			case most.Verdict == auth.Deny && most.Reason == auth.ReasonTokenClaims && c.Expires.IsZero():
				// A reload requires an end, which the token lacks and the session has.
			case got.Verdict > most.Verdict:
				t.Fatalf("%s %s by session, %s %s by token", got.Verdict, got.Reason, most.Verdict, most.Reason)
			case got.Verdict == auth.Allow:
				if got.Affiliation != most.Affiliation || got.MayCreate != most.MayCreate || got.NeedsHost != most.NeedsHost || got.StartLobby != most.StartLobby || got.Identity != most.Identity || got.Token != most.Token ||
					got.Proof != most.Proof || most.OneTime && !got.OneTime || got.FirstHost != most.FirstHost || got.Reuse != most.Reuse || !got.Ends.Equal(most.Ends) || !reflect.DeepEqual(got.Rule, most.Rule) ||
					!reflect.DeepEqual(got.Features, most.Features) {
					t.Fatalf("by session %+v\nby token   %+v", got, most)
				}
				if got.Expires.IsZero() || !most.Expires.IsZero() && got.Expires.After(most.Expires) || got.Expires.After(now.Add(24*time.Hour)) {
					t.Fatalf("ends %s by session, %s by token", got.Expires, most.Expires)
				}
				if !most.RemoveAt.IsZero() && (got.RemoveAt.IsZero() || got.RemoveAt.After(most.RemoveAt)) {
					t.Fatalf("put out at %s by session, %s by token", got.RemoveAt, most.RemoveAt)
				}
			}
		}
	})
}
