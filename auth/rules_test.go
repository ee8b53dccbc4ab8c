package auth_test

import (
	"context"
	"errors"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/token"
)

func roomOf(t testing.TB, address string) auth.Room {
	t.Helper()
	room, err := auth.ParseRoom(address)
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// The first rule that fits a room holds in it, and the policy says what the rule does not.
func TestRuleFor(t *testing.T) {
	yes, no := true, false
	hours := &auth.Hours{}
	whole := auth.Rule{
		Match: "class-*", WaitForHost: auth.MembersWait, Guests: auth.GuestsDeny, MaxOccupants: 30, Hours: hours, MaxDuration: 2 * time.Hour,
		OnHostLeft: auth.LeftEnd, FirstIsHost: auth.FirstToken, HostGrace: 5 * time.Minute,
		LobbyAutostart: &yes, LobbyBypass: []auth.Affiliation{auth.Owner}, HasLobbyBypass: true,
		Features: map[string]auth.FeatureRule{"recording": auth.FeatureNever},
	}
	bare := auth.RoomRule{
		WaitForHost: auth.GuestsWait, Guests: auth.GuestsAllow, OnHostLeft: auth.LeftLock, FirstIsHost: auth.FirstNever,
		LobbyBypass: []auth.Affiliation{auth.Owner, auth.Member},
	}
	filled := auth.RoomRule{
		WaitForHost: auth.MembersWait, Guests: auth.GuestsDeny, MaxOccupants: 30, Hours: hours, MaxDuration: 2 * time.Hour,
		OnHostLeft: auth.LeftEnd, FirstIsHost: auth.FirstToken, HostGrace: 5 * time.Minute,
		LobbyAutostart: true, LobbyBypass: []auth.Affiliation{auth.Owner},
		Features: map[string]auth.FeatureRule{"recording": auth.FeatureNever},
	}
	change := func(r auth.RoomRule, change func(*auth.RoomRule)) auth.RoomRule { change(&r); return r }
	p := policy(t)
	p.Breakout = breakout
	p.LobbyBypass = []auth.Affiliation{auth.Owner, auth.Member}
	p.GuestRooms = []string{"open-*", "class-open", "strict-open", "lax-*"}
	p.Rules = []auth.Rule{
		whole,
		{Match: "class-*", Tenant: "*", MaxOccupants: 2},
		{Match: "x-*", Tenant: "ACME", MaxOccupants: 3},
		{Match: "strict-*", WaitForHost: auth.GuestsWait},
		{Match: "free-*", WaitForHost: auth.NobodyWaits, HasLobbyBypass: true, LobbyAutostart: &no},
		{Match: "open-*", MaxOccupants: 5},
		{Match: "?"},
		{Match: "[", MaxOccupants: 1}, // which fits nothing
		{Match: "lax-*", WaitForHost: auth.NobodyWaits},
	}
	for address, want := range map[string]struct {
		rule   auth.RoomRule
		number int
	}{
		"class-7@" + service:               {filled, 0},
		"Class%2D7@" + service:             {filled, 0},
		"class-a%2fb@" + service:           {filled, 0}, // a slash does not help out of a rule
		"class-@" + service:                {filled, 0},
		"my-class-7@" + service:            {bare, -1},
		"[acme]class-7@" + service:         {change(bare, func(r *auth.RoomRule) { r.MaxOccupants = 2 }), 1},
		"[acme]x-1@" + service:             {change(bare, func(r *auth.RoomRule) { r.MaxOccupants = 3 }), 2},
		"[other]x-1@" + service:            {bare, -1},
		"x-1@" + service:                   {bare, -1},
		"strict-open@" + service:           {bare, 3}, // no guest room any more
		"class-open@" + service:            {filled, 0},
		"free-1@" + service:                {change(bare, func(r *auth.RoomRule) { r.WaitForHost, r.LobbyBypass = auth.NobodyWaits, nil }), 4},
		"lax-1@" + service:                 {change(bare, func(r *auth.RoomRule) { r.WaitForHost, r.GuestRoom = auth.NobodyWaits, true }), 8},
		"open-mic@" + service:              {change(bare, func(r *auth.RoomRule) { r.MaxOccupants, r.GuestRoom = 5, true }), 5},
		"[acme]open-mic@" + service:        {bare, -1},
		"%2f@" + service:                   {bare, 6},
		"%c3%bc@" + service:                {bare, 6},
		"ab@" + service:                    {bare, -1},
		"class-7@" + breakout:              {bare, -1},
		"[acme]class-a%2fb@" + service:     {change(bare, func(r *auth.RoomRule) { r.MaxOccupants = 2 }), 1},
		"class-7@conference.other.example": {filled, 0},
	} {
		rule, number := auth.New(p).RuleFor(roomOf(t, address))
		if number != want.number || !reflect.DeepEqual(rule, want.rule) {
			t.Errorf("%s: number %d, %+v\nwant %d, %+v", address, number, rule, want.number, want.rule)
		}
	}
	p.LobbyAutostart, p.WaitForHost = true, auth.NobodyWaits
	for address, want := range map[string]bool{"free-1@" + service: false, "ab@" + service: true} {
		rule, _ := auth.New(p).RuleFor(roomOf(t, address))
		if rule.LobbyAutostart != want || rule.WaitForHost != auth.NobodyWaits {
			t.Errorf("%s: %+v", address, rule)
		}
	}
}

// refusals refuse proofs and rooms of a test.
type refusals struct {
	revoked func(auth.Proof, auth.Room) bool
	barred  func(auth.Proof, auth.Room) bool
	until   time.Time
	err     error
}

func (r refusals) Revoked(_ context.Context, p auth.Proof, room auth.Room) (bool, error) {
	return r.revoked != nil && r.revoked(p, room), r.err
}

func (r refusals) Barred(_ context.Context, p auth.Proof, room auth.Room) (time.Time, bool, error) {
	if r.barred == nil {
		return time.Time{}, false, nil
	}
	return r.until, r.barred(p, room), r.err
}

// TestRoomRules has one row for each thing that a rule, a token or a refusal can say, and one for what it leaves alone.
func TestRoomRules(t *testing.T) {
	const guest, trusted, recorder = "g@guest.example.com/x", "t@trusted.example.com/x", "r@recorder.example.com/x"
	quietLobby := auth.RoomState{Exists: true, Lobby: true}
	openedRoom := auth.RoomState{Exists: true, Opened: true}
	yes, no := true, false
	closed := &auth.Hours{Days: []time.Weekday{time.Tuesday}, From: 8 * time.Hour, Until: 18 * time.Hour, Zone: zone(t, "Europe/Berlin")} // now is a Monday
	open := &auth.Hours{Days: []time.Weekday{time.Monday}, From: 8 * time.Hour, Until: 18 * time.Hour, Zone: zone(t, "Europe/Berlin")}
	rule := func(change func(*auth.Rule)) func(*auth.Policy) {
		return func(p *auth.Policy) {
			r := auth.Rule{Match: "standup"}
			change(&r)
			p.Rules = []auth.Rule{r}
		}
	}
	issuing := func(change func(*auth.Issuer)) func(*auth.Policy) {
		return func(p *auth.Policy) { change(&p.VHosts["meet.example.com"].Issuers[0]) }
	}
	both := func(changes ...func(*auth.Policy)) func(*auth.Policy) {
		return func(p *auth.Policy) {
			for _, change := range changes {
				change(p)
			}
		}
	}
	refusing := func(r refusals) func(*auth.Policy) { return func(p *auth.Policy) { p.Refusals = r } }
	revoking := func(want func(auth.Proof) bool) func(*auth.Policy) {
		return refusing(refusals{revoked: func(p auth.Proof, room auth.Room) bool {
			return room.JID.String() == "standup@"+service && want(p)
		}})
	}
	barring := func(want func(auth.Proof) bool) func(*auth.Policy) {
		return refusing(refusals{barred: func(p auth.Proof, room auth.Room) bool {
			return room.JID.String() == "standup@"+service && want(p)
		}})
	}
	everybody := func(auth.Proof) bool { return true }
	withLobby := func(p *auth.Policy) { p.Lobby, p.LobbyBypass = true, []auth.Affiliation{auth.Owner, auth.Member} }
	const closedText = "This room is closed. It opens on Tuesday, 2 June, at 08:00 (Europe/Berlin)."
	closing := rule(func(r *auth.Rule) { r.Hours = closed })
	first := rule(func(r *auth.Rule) { r.FirstIsHost = auth.FirstToken })
	keep := rule(func(r *auth.Rule) { r.OnHostLeft = auth.LeftKeep })
	grace := rule(func(r *auth.Rule) { r.HostGrace = time.Minute })
	ending := rule(func(r *auth.Rule) { r.OnHostLeft, r.HostGrace = auth.LeftEnd, time.Minute })
	ends := func(base func(*token.Claims), after time.Duration) func(*token.Claims) {
		return func(c *token.Claims) { base(c); c.RoomEnds = now.Add(after) }
	}
	oneTime := func(base func(*token.Claims)) func(*token.Claims) {
		return func(c *token.Claims) { base(c); c.OneTime, c.ID = true, "j" }
	}
	remove := issuing(func(i *auth.Issuer) { i.OnExpiry, i.ExpiryGrace = auth.Remove, time.Minute })
	exp := now.Add(time.Hour + 10*time.Second)

	host := auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonHost, Affiliation: auth.Owner, MayCreate: true, Expires: exp}
	asMember := auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonMember, Affiliation: auth.Member, MayCreate: true, Expires: exp}
	asGuest := auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonGuest, Affiliation: auth.Member, NeedsHost: true}
	waits := auth.Decision{Verdict: auth.Wait, Reason: auth.ReasonHostAbsent}
	firstHost := with(host, func(d *auth.Decision) { d.FirstHost = true })
	denied := func(r auth.Reason) auth.Decision { return auth.Decision{Reason: r} }

	for name, tt := range map[string]struct {
		policy  func(*auth.Policy)
		claims  func(*token.Claims)
		session func(*auth.Session) // in the request, instead of a token
		from    string
		machine string // "-": none
		state   auth.RoomState
		want    auth.Decision
		told    string
	}{
		// Rule 3: revoked tokens.
		"revoked":                        {policy: revoking(everybody), claims: owner, want: denied(auth.ReasonTokenRevoked)},
		"revoked, in another room":       {policy: refusing(refusals{revoked: func(_ auth.Proof, room auth.Room) bool { return room.Name != "standup" }}), claims: owner, want: host},
		"revoked by its jti":             {policy: revoking(func(p auth.Proof) bool { return p.ID == "j" }), claims: func(c *token.Claims) { owner(c); c.ID = "j" }, want: denied(auth.ReasonTokenRevoked)},
		"revoked by its iat":             {policy: revoking(func(p auth.Proof) bool { return p.IssuedAt == now.Unix()-60 }), claims: func(c *token.Claims) { owner(c); c.IssuedAt = now.Add(-time.Minute) }, want: denied(auth.ReasonTokenRevoked)},
		"another one revoked":            {policy: revoking(func(p auth.Proof) bool { return p.User != "u1" }), claims: owner, want: host},
		"an expired one is asked first":  {policy: revoking(everybody), claims: func(c *token.Claims) { c.Expires = now.Add(-time.Hour) }, want: denied(auth.ReasonTokenExpired)},
		"revoked before its room counts": {policy: both(revoking(everybody), closing), claims: func(c *token.Claims) { c.Room = "retro" }, want: denied(auth.ReasonTokenRevoked)},
		"nobody knows what is revoked":   {policy: refusing(refusals{err: errors.New("no answer")}), claims: owner, want: denied(auth.ReasonStoreUnavailable)},
		"guests have nothing to revoke":  {policy: both(revoking(everybody), refusing(refusals{err: errors.New("no answer")})), from: guest, state: hostInside, want: asGuest},
		"nor have passwords":             {policy: revoking(everybody), from: trusted, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},

		// Rule 4: sessions of revoked tokens.
		"session of a revoked token":         {policy: revoking(func(p auth.Proof) bool { return p.ID == "j1" }), session: func(*auth.Session) {}, from: guest, want: denied(auth.ReasonSessionInvalid)},
		"session, nobody knows":              {policy: refusing(refusals{err: errors.New("no answer")}), session: func(*auth.Session) {}, from: guest, want: denied(auth.ReasonStoreUnavailable)},
		"session of a token that is good":    {policy: revoking(func(p auth.Proof) bool { return p.ID != "j1" }), session: func(*auth.Session) {}, from: guest, want: with(host, func(d *auth.Decision) { d.Expires = now.Add(time.Hour) })},
		"session of a password, not revoked": {policy: revoking(everybody), session: password, from: guest, want: with(host, func(d *auth.Decision) { d.Expires = now.Add(time.Hour) })},

		// Rule 5: one-time tokens, hours, ends.
		"one time":                        {claims: oneTime(owner), want: with(host, func(d *auth.Decision) { d.OneTime = true })},
		"one time by the issuer":          {policy: issuing(func(i *auth.Issuer) { i.OneTime = true }), claims: func(c *token.Claims) { owner(c); c.ID = "j" }, want: with(host, func(d *auth.Decision) { d.OneTime = true })},
		"one time without jti":            {claims: func(c *token.Claims) { owner(c); c.OneTime = true }, want: denied(auth.ReasonTokenClaims)},
		"one time without exp":            {policy: issuing(func(i *auth.Issuer) { i.RequireExp = false }), claims: func(c *token.Claims) { oneTime(owner)(c); c.Expires = time.Time{} }, want: denied(auth.ReasonTokenClaims)},
		"one time without a machine":      {claims: oneTime(owner), machine: "-", want: denied(auth.ReasonTokenClaims)},
		"one time, machine too long":      {claims: oneTime(owner), machine: strings.Repeat("m", 257), want: denied(auth.ReasonTokenClaims)},
		"session of a one-time token":     {session: func(s *auth.Session) { s.OneTime = true }, from: guest, want: with(host, func(d *auth.Decision) { d.OneTime, d.Expires = true, now.Add(time.Hour) })},
		"a password has no room's end":    {session: func(s *auth.Session) { s.Ends = now.Add(-time.Minute) }, from: trusted, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"a password is not one time":      {session: func(s *auth.Session) { s.OneTime = true }, from: trusted, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"closed to hosts":                 {policy: closing, claims: owner, want: denied(auth.ReasonRoomClosed), told: closedText},
		"closed to trusted users":         {policy: closing, from: trusted, want: denied(auth.ReasonRoomClosed), told: closedText},
		"closed to sessions":              {policy: closing, session: func(*auth.Session) {}, from: guest, want: denied(auth.ReasonRoomClosed), told: closedText},
		"closed to guests":                {policy: closing, from: guest, state: hostInside, want: denied(auth.ReasonRoomClosed), told: closedText},
		"closed to services":              {policy: closing, from: recorder, state: hostInside, want: denied(auth.ReasonRoomClosed), told: closedText},
		"closed, and another room's":      {policy: closing, claims: func(c *token.Claims) { c.Room = "retro" }, want: denied(auth.ReasonRoomMismatch)},
		"open":                            {policy: rule(func(r *auth.Rule) { r.Hours = open }), claims: owner, want: host},
		"closed, another room's hours":    {policy: func(p *auth.Policy) { p.Rules = []auth.Rule{{Match: "retro", Hours: closed}} }, claims: owner, want: host},
		"host, the room ends":             {claims: ends(owner, time.Minute), want: with(host, func(d *auth.Decision) { d.Ends = now.Add(time.Minute) })},
		"host, the room ended":            {claims: ends(owner, 0), want: denied(auth.ReasonTokenExpired)},
		"member, the room ends":           {claims: ends(nothing, time.Minute), want: with(asMember, func(d *auth.Decision) { d.Expires, d.RemoveAt = now.Add(time.Minute), now.Add(time.Minute) })},
		"member, the room ended":          {claims: ends(nothing, -time.Minute), want: denied(auth.ReasonTokenExpired)},
		"member, the room ends later":     {claims: ends(nothing, 2*time.Hour), want: with(asMember, func(d *auth.Decision) { d.RemoveAt = now.Add(2 * time.Hour) })},
		"first host, the room ends":       {policy: first, claims: ends(nothing, time.Minute), state: noHost, want: with(firstHost, func(d *auth.Decision) { d.Ends = now.Add(time.Minute) })},
		"session of a host's, room ends":  {session: func(s *auth.Session) { s.Ends = now.Add(time.Minute) }, from: guest, want: with(host, func(d *auth.Decision) { d.Ends, d.Expires = now.Add(time.Minute), now.Add(time.Hour) })},
		"session of a host's, room ended": {session: func(s *auth.Session) { s.Ends = now }, from: guest, want: denied(auth.ReasonTokenExpired)},
		"session of a member's, room ends": {session: func(s *auth.Session) { member(s); s.Ends = now.Add(time.Minute) }, from: guest,
			want: with(asMember, func(d *auth.Decision) { d.Expires, d.RemoveAt = now.Add(time.Minute), now.Add(time.Minute) })},
		"removed as the token ends":          {policy: remove, claims: nothing, want: with(asMember, func(d *auth.Decision) { d.RemoveAt = exp.Add(time.Minute) })},
		"removed as the token ends, a host":  {policy: remove, claims: owner, want: with(host, func(d *auth.Decision) { d.RemoveAt = exp.Add(time.Minute) })},
		"removed as the session ends":        {policy: remove, session: func(*auth.Session) {}, from: guest, want: with(host, func(d *auth.Decision) { d.Expires, d.RemoveAt = now.Add(time.Hour), now.Add(time.Hour+time.Minute) })},
		"no end, no removal":                 {policy: both(remove, issuing(func(i *auth.Issuer) { i.RequireExp = false })), claims: func(c *token.Claims) { owner(c); c.Expires = time.Time{} }, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"removed as the room ends, sooner":   {policy: remove, claims: ends(nothing, time.Minute), want: with(asMember, func(d *auth.Decision) { d.Expires, d.RemoveAt = now.Add(time.Minute), now.Add(time.Minute) })},
		"a password does not end":            {policy: remove, session: func(*auth.Session) {}, from: trusted, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"a password's session ends no right": {policy: remove, session: password, from: guest, want: with(host, func(d *auth.Decision) { d.Expires = now.Add(time.Hour) })},
		"reuse": {policy: issuing(func(i *auth.Issuer) { i.Reuse, i.ReuseOf = auth.ReuseReplace, auth.ReuseOfSubject }), claims: nothing,
			want: with(asMember, func(d *auth.Decision) { d.Reuse, d.ReuseOf = auth.ReuseReplace, auth.ReuseOfSubject })},
		"reuse is not of passwords": {policy: issuing(func(i *auth.Issuer) { i.Reuse = auth.ReuseRefuse }), session: func(*auth.Session) {}, from: trusted,
			want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"reuse by session": {policy: issuing(func(i *auth.Issuer) { i.Reuse = auth.ReuseRefuse }), session: func(*auth.Session) {}, from: guest,
			want: with(host, func(d *auth.Decision) { d.Reuse, d.Expires = auth.ReuseRefuse, now.Add(time.Hour) })},

		// Rule 6: guests, and people who were put out.
		"no guests": {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), from: guest, state: hostInside, want: denied(auth.ReasonTokenRequired)},
		"no guests without a token": {policy: both(rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), func(p *auth.Policy) {
			v := p.VHosts["meet.example.com"]
			v.AllowEmptyToken = true
			p.VHosts["meet.example.com"] = v
		}), state: hostInside, want: denied(auth.ReasonTokenRequired)},
		"guests by rule":               {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsAllow }), from: guest, state: hostInside, want: asGuest},
		"guests by rule, not by vhost": {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsAllow }), state: hostInside, want: denied(auth.ReasonTokenRequired)},
		"no guests, a member":          {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), claims: nothing, want: asMember},
		"no guests, a session":         {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), session: func(*auth.Session) {}, from: guest, want: with(host, func(d *auth.Decision) { d.Expires = now.Add(time.Hour) })},
		"no guests, a recorder":        {policy: rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), from: recorder, state: noHost, want: auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonService, Affiliation: auth.Member}},
		"no guests, in a guest room":   {policy: both(rule(func(r *auth.Rule) { r.Guests = auth.GuestsDeny }), func(p *auth.Policy) { p.GuestRooms = []string{"*"} }), from: guest, want: denied(auth.ReasonTokenRequired)},
		"barred":                       {policy: barring(everybody), claims: owner, want: denied(auth.ReasonBarred)},
		"barred by the account": {policy: barring(func(p auth.Proof) bool {
			return p.Account == "t@trusted.example.com" && p.VHost == "trusted.example.com"
		}), from: trusted, want: denied(auth.ReasonBarred)},
		"barred by the account, a session":     {policy: barring(func(p auth.Proof) bool { return p.Account == "t@trusted.example.com" }), session: password, from: guest, want: denied(auth.ReasonBarred)},
		"barred by the session":                {policy: barring(func(p auth.Proof) bool { return p.Token == "fingerprint" }), session: func(*auth.Session) {}, from: guest, want: denied(auth.ReasonBarred)},
		"session barred, logged in":            {policy: barring(func(p auth.Proof) bool { return p.Token != "" }), session: func(*auth.Session) {}, from: trusted, want: with(host, func(d *auth.Decision) { d.Expires = time.Time{} })},
		"another one barred":                   {policy: barring(func(p auth.Proof) bool { return p.User != "u1" }), claims: owner, want: host},
		"barred from another room":             {policy: refusing(refusals{barred: func(_ auth.Proof, room auth.Room) bool { return room.Name != "standup" }}), claims: owner, want: host},
		"a room closed to the barred":          {policy: both(barring(everybody), closing), claims: owner, want: denied(auth.ReasonRoomClosed), told: closedText},
		"nobody knows who is barred":           {policy: refusing(refusals{barred: func(auth.Proof, auth.Room) bool { return false }, err: errors.New("no answer")}), from: trusted, want: denied(auth.ReasonStoreUnavailable)},
		"guests have no name to bar":           {policy: barring(everybody), from: guest, state: hostInside, want: asGuest},
		"recorders are not barred":             {policy: barring(everybody), from: recorder, state: noHost, want: auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonService, Affiliation: auth.Member}},
		"barred, and of another room":          {policy: barring(everybody), claims: func(c *token.Claims) { c.Room = "retro" }, want: denied(auth.ReasonRoomMismatch)},
		"barred with a wait, whatever is left": {policy: refusing(refusals{barred: func(auth.Proof, auth.Room) bool { return true }, until: now.Add(time.Minute)}), claims: nothing, want: denied(auth.ReasonBarred)},

		// Rule 7: who comes first.
		"first with a token":             {policy: first, claims: nothing, state: noRoom, want: firstHost},
		"first, the room is open":        {policy: first, claims: nothing, state: noHost, want: firstHost},
		"first after the host has left":  {policy: both(first, func(p *auth.Policy) { p.Rules[0].OnHostLeft = auth.LeftKeep }), claims: nothing, state: openedRoom, want: firstHost},
		"not the first":                  {policy: first, claims: nothing, state: hostInside, want: asMember},
		"another is first, on the way":   {policy: first, claims: nothing, state: auth.RoomState{First: true}, want: asMember},
		"another is first, members wait": {policy: both(first, membersWait), claims: nothing, state: auth.RoomState{First: true}, want: waits},
		"the first asks again":           {policy: first, claims: nothing, state: auth.RoomState{Exists: true, HostPresent: true, First: true, IsFirst: true}, want: firstHost},
		"the first comes back":           {policy: first, claims: nothing, state: auth.RoomState{Exists: true, First: true, IsFirst: true}, want: firstHost},
		"not the first, members wait":    {policy: both(first, membersWait), claims: nothing, state: hostInside, want: with(asMember, func(d *auth.Decision) { d.MayCreate, d.NeedsHost = false, true })},
		"first, members wait":            {policy: both(first, membersWait), claims: nothing, state: noRoom, want: firstHost},
		"first, not a moderator":         {policy: first, claims: func(c *token.Claims) { c.User.Affiliation = ""; c.User.Moderator = &no }, state: noRoom, want: firstHost},
		"first, hosts are admins":        {policy: both(first, func(p *auth.Policy) { p.HostAffiliation = auth.Admin }), claims: nothing, state: noRoom, want: with(firstHost, func(d *auth.Decision) { d.Affiliation = auth.Admin })},
		"first by session":               {policy: first, session: member, from: guest, state: noRoom, want: with(firstHost, func(d *auth.Decision) { d.Expires = now.Add(time.Hour) })},
		"a host need not be first":       {policy: first, claims: owner, state: hostInside, want: host},
		"an admin is no owner by it":     {policy: first, claims: affiliation("admin"), state: noRoom, want: with(host, func(d *auth.Decision) { d.Affiliation = auth.Admin })},
		"a guest is not first":           {policy: first, from: guest, state: noHost, want: waits},
		"a recorder is not first":        {policy: first, from: recorder, state: noHost, want: auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonService, Affiliation: auth.Member}},
		"first is no host elsewhere":     {policy: func(p *auth.Policy) { p.Rules = []auth.Rule{{Match: "retro", FirstIsHost: auth.FirstToken}} }, claims: nothing, state: noRoom, want: asMember},
		"first, never":                   {policy: rule(func(r *auth.Rule) { r.FirstIsHost = auth.FirstNever }), claims: nothing, state: noRoom, want: asMember},
		"first passes a lobby":           {policy: both(first, withLobby, func(p *auth.Policy) { p.LobbyBypass = nil }), claims: nothing, state: quietLobby, want: firstHost},
		"first starts the lobby":         {policy: both(first, withLobby, func(p *auth.Policy) { p.LobbyAutostart = true }), claims: nothing, state: noRoom, want: with(firstHost, func(d *auth.Decision) { d.StartLobby = true })},
		"lobby by rule":                  {policy: both(rule(func(r *auth.Rule) { r.LobbyAutostart = &yes }), withLobby), claims: owner, want: with(host, func(d *auth.Decision) { d.StartLobby = true })},
		"lobby by rule, the token's no":  {policy: both(rule(func(r *auth.Rule) { r.LobbyAutostart = &yes }), withLobby), claims: func(c *token.Claims) { owner(c); c.RoomLobby = &no }, want: host},
		"no lobby by rule":               {policy: both(rule(func(r *auth.Rule) { r.LobbyAutostart = &no }), withLobby, func(p *auth.Policy) { p.LobbyAutostart = true }), claims: owner, want: host},
		"lobby by rule, but no service":  {policy: rule(func(r *auth.Rule) { r.LobbyAutostart = &yes }), claims: owner, want: host},
		"hosts knock by rule":            {policy: both(rule(func(r *auth.Rule) { r.HasLobbyBypass = true }), withLobby), claims: ends(owner, time.Minute), state: auth.RoomState{Exists: true, HostPresent: true, Lobby: true}, want: with(host, func(d *auth.Decision) { d.Affiliation, d.MayCreate, d.NeedsHost = auth.None, false, true })},
		"members knock by rule":          {policy: both(rule(func(r *auth.Rule) { r.HasLobbyBypass, r.LobbyBypass = true, []auth.Affiliation{auth.Owner} }), withLobby), claims: nothing, state: quietLobby, want: with(asMember, func(d *auth.Decision) { d.Affiliation, d.MayCreate = auth.None, false })},
		"members pass by rule":           {policy: both(rule(func(r *auth.Rule) { r.HasLobbyBypass, r.LobbyBypass = true, []auth.Affiliation{auth.Member} }), withLobby, func(p *auth.Policy) { p.LobbyBypass = nil }), claims: nothing, state: quietLobby, want: asMember},
		"a rule that says nothing of it": {policy: both(rule(func(r *auth.Rule) { r.MaxOccupants = 1 }), withLobby), claims: nothing, state: quietLobby, want: asMember},

		// Rule 8: waiting, and rooms that outlast their hosts.
		"members wait by rule":                     {policy: rule(func(r *auth.Rule) { r.WaitForHost = auth.MembersWait }), claims: nothing, state: noHost, want: waits},
		"members do not wait by rule":              {policy: both(membersWait, rule(func(r *auth.Rule) { r.WaitForHost = auth.GuestsWait })), claims: nothing, state: noHost, want: asMember},
		"guests do not wait by rule":               {policy: rule(func(r *auth.Rule) { r.WaitForHost = auth.NobodyWaits }), from: guest, state: noHost, want: with(asGuest, func(d *auth.Decision) { d.NeedsHost = false })},
		"guests open no room by rule":              {policy: rule(func(r *auth.Rule) { r.WaitForHost = auth.NobodyWaits }), from: guest, state: noRoom, want: waits},
		"guests wait by rule, in a guest room":     {policy: both(rule(func(r *auth.Rule) { r.WaitForHost = auth.GuestsWait }), func(p *auth.Policy) { p.GuestRooms = []string{"*"} }), from: guest, state: noHost, want: waits},
		"a guest room with a rule":                 {policy: both(rule(func(r *auth.Rule) { r.MaxOccupants = 7 }), func(p *auth.Policy) { p.GuestRooms = []string{"*"} }), from: guest, state: noRoom, want: with(asGuest, func(d *auth.Decision) { d.NeedsHost, d.MayCreate = false, true })},
		"kept open":                                {policy: keep, from: guest, state: openedRoom, want: with(asGuest, func(d *auth.Decision) { d.NeedsHost = false })},
		"kept open, no host yet":                   {policy: keep, from: guest, state: noHost, want: waits},
		"kept open, host inside":                   {policy: keep, from: guest, state: hostInside, want: with(asGuest, func(d *auth.Decision) { d.NeedsHost = false })},
		"kept open, and gone":                      {policy: keep, from: guest, state: auth.RoomState{Opened: true}, want: waits},
		"grace":                                    {policy: grace, from: guest, state: openedRoom, want: with(asGuest, func(d *auth.Decision) { d.NeedsHost = false })},
		"grace over":                               {policy: grace, from: guest, state: noHost, want: waits},
		"no grace":                                 {policy: rule(func(r *auth.Rule) { r.OnHostLeft = auth.LeftLock }), from: guest, state: openedRoom, want: waits},
		"no rule, no grace":                        {from: guest, state: openedRoom, want: waits},
		"a room that ends lets nobody in meantime": {policy: ending, from: guest, state: openedRoom, want: waits},
		"a room that ends, host inside":            {policy: ending, from: guest, state: hostInside, want: asGuest},
		"a member in grace": {policy: both(grace, func(p *auth.Policy) { p.Rules[0].WaitForHost = auth.MembersWait }), claims: nothing, state: openedRoom,
			want: with(asMember, func(d *auth.Decision) { d.MayCreate = false })},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy(t)
			if tt.policy != nil {
				tt.policy(&p)
			}
			req := auth.Request{At: now, From: jid.MustParse(or(tt.from, "u@meet.example.com/x")), Room: "standup@" + service, MachineUID: or(tt.machine, machine)}
			if req.MachineUID == "-" {
				req.MachineUID = ""
			}
			if tt.claims != nil {
				req.Token = mint(t, tt.claims)
			}
			if tt.session != nil {
				s := kept()
				tt.session(&s)
				req.SessionID, p.Sessions = sid, store{live: map[string]auth.Session{sid: s}}
			}
			d := decided(t, auth.New(p), req, tt.state)
			if d.Told() != or(tt.told, d.Reason.Text()) || (d.Text == "") != (tt.told == "") {
				t.Errorf("the person reads %q", d.Told())
			}
			got := auth.Decision{
				Verdict: d.Verdict, Reason: d.Reason, Affiliation: d.Affiliation, MayCreate: d.MayCreate, NeedsHost: d.NeedsHost, StartLobby: d.StartLobby,
				RemoveAt: d.RemoveAt, OneTime: d.OneTime, Reuse: d.Reuse, ReuseOf: d.ReuseOf, Ends: d.Ends, FirstHost: d.FirstHost,
			}
			if d.Verdict == auth.Allow {
				got.Expires = d.Expires
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v (%v)\nwant %+v", got, d.Err, tt.want)
			}
			if d.Verdict == auth.Allow {
				if rule, _ := auth.New(p).RuleFor(d.Room); !reflect.DeepEqual(d.Rule, rule) {
					t.Errorf("the rule is %+v, want %+v", d.Rule, rule)
				}
			}
		})
	}
}

// Rules are for main rooms: hours, ends, one-time use and bars do not hold in breakout rooms, which a grant in the main room opens.
func TestRulesAndBreakouts(t *testing.T) {
	p := policy(t)
	p.Breakout = breakout
	p.Rules = []auth.Rule{{Match: "*", Tenant: "*", Hours: &auth.Hours{Days: []time.Weekday{time.Tuesday}, Until: 24 * time.Hour}, Guests: auth.GuestsDeny, FirstIsHost: auth.FirstToken}}
	p.Refusals = refusals{barred: func(auth.Proof, auth.Room) bool { return true }}
	for from, claims := range map[string]func(*token.Claims){
		"g@guest.example.com/x":    nil,
		"u@meet.example.com/x":     func(c *token.Claims) { c.OneTime, c.RoomEnds = true, now.Add(-time.Minute) },
		"u@meet.example.com/y":     owner,
		"r@recorder.example.com/x": nil,
	} {
		req := auth.Request{At: now, From: jid.MustParse(from), Room: "uuid@" + breakout, MachineUID: machine}
		if claims != nil {
			req.Token = mint(t, claims)
		}
		d := decided(t, auth.New(p), req, auth.RoomState{HasGrant: true})
		if d.Verdict != auth.Allow || d.Reason != auth.ReasonBreakout || d.OneTime || d.FirstHost || !reflect.DeepEqual(d.Rule, auth.RoomRule{}) {
			t.Errorf("%s: %+v", from, d)
		}
	}
	// But a revoked token opens none.
	p.Refusals = refusals{revoked: func(auth.Proof, auth.Room) bool { return true }}
	req := auth.Request{At: now, From: jid.MustParse("u@meet.example.com/x"), Room: "uuid@" + breakout, Token: mint(t, owner)}
	if d := decided(t, auth.New(p), req, auth.RoomState{HasGrant: true}); d.Reason != auth.ReasonTokenRevoked {
		t.Errorf("got %+v", d)
	}
}

// What a token says narrows what the rule gives, and widens nothing: with the claims nobody gets in where they would not without,
// and there are at most as many people, for at most as long.
func TestClaimsOnlyNarrow(t *testing.T) {
	outcomes := map[string]int{}
	i := issuer(t)
	hours := &auth.Hours{Days: []time.Weekday{time.Monday}, From: 9 * time.Hour, Until: 18 * time.Hour}
	checkAll(t, outcomes, []string{"allow", "wait", "deny"}, func(t *rapid.T) {
		rule := auth.Rule{
			Match: rapid.SampledFrom([]string{"*", "standup", "retro"}).Draw(t, "match"), MaxOccupants: rapid.IntRange(0, 5).Draw(t, "most"),
			MaxDuration: time.Duration(rapid.IntRange(0, 3).Draw(t, "duration")) * time.Hour,
			WaitForHost: rapid.SampledFrom([]auth.WaitForHost{"", auth.GuestsWait, auth.MembersWait, auth.NobodyWaits}).Draw(t, "wait"),
			FirstIsHost: rapid.SampledFrom([]auth.FirstIsHost{"", auth.FirstNever, auth.FirstToken}).Draw(t, "first"),
			OnHostLeft:  rapid.SampledFrom([]auth.OnHostLeft{"", auth.LeftLock, auth.LeftKeep, auth.LeftEnd}).Draw(t, "left"),
		}
		if rapid.Bool().Draw(t, "hours") {
			rule.Hours = hours
		}
		own := i
		own.OneTime = rapid.Bool().Draw(t, "one time")
		own.OnExpiry = rapid.SampledFrom([]auth.OnExpiry{"", auth.Keep, auth.Remove}).Draw(t, "expiry")
		a := auth.New(auth.Policy{
			Services: []string{service}, Rules: []auth.Rule{rule},
			VHosts: map[string]auth.VHost{"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Member, Issuers: []auth.Issuer{own}}},
		})
		c := good()
		c.ID = rapid.SampledFrom([]string{"", "j", "j"}).Draw(t, "jti")
		c.User.Affiliation = rapid.SampledFrom([]string{"", "owner", "member"}).Draw(t, "affiliation")
		look := looking(auth.RoomState{Exists: rapid.Bool().Draw(t, "exists"), HostPresent: rapid.Bool().Draw(t, "host"), Opened: rapid.Bool().Draw(t, "opened")})
		req := auth.Request{At: now.Add(time.Duration(rapid.IntRange(-300, 50).Draw(t, "at")) * time.Minute), From: jid.MustParse("u@meet.example.com/x"), Room: "standup@" + service, MachineUID: machine}
		decide := func(c token.Claims) auth.Decision {
			compact, err := token.Mint(c, token.MintOptions{Algorithm: "HS256", Key: secret})
			if err != nil {
				t.Fatal(err)
			}
			req.Token = compact
			return a.Authorize(context.Background(), req, look)
		}
		plain := decide(c)
		c.MaxOccupants = rapid.IntRange(0, 7).Draw(t, "claimed most")
		c.OneTime = rapid.Bool().Draw(t, "claimed one time")
		if rapid.Bool().Draw(t, "claimed end") {
			c.RoomEnds = now.Add(time.Duration(rapid.IntRange(-300, 120).Draw(t, "ends")) * time.Minute)
		}
		d := decide(c)
		outcomes[d.Verdict.String()]++

		sooner := func(a, b time.Time) bool { return b.IsZero() || !a.IsZero() && !a.After(b) }
		switch {
		case d.Verdict > plain.Verdict:
			t.Fatalf("%s, without the claims %s", d.Reason, plain.Reason)
		case d.Verdict != auth.Allow:
			return
		case d.Affiliation != plain.Affiliation, d.MayCreate != plain.MayCreate, d.FirstHost != plain.FirstHost, d.NeedsHost != plain.NeedsHost:
			t.Fatalf("with the claims %+v\nwithout         %+v", d, plain)
		case d.Rule.MaxOccupants > plain.Rule.MaxOccupants && plain.Rule.MaxOccupants > 0, d.Rule.MaxOccupants == 0 && (plain.Rule.MaxOccupants > 0 || c.MaxOccupants > 0),
			c.MaxOccupants > 0 && d.Rule.MaxOccupants > c.MaxOccupants:
			t.Fatalf("%d people by the rule, %d by the token, %d by both", plain.Rule.MaxOccupants, c.MaxOccupants, d.Rule.MaxOccupants)
		case d.Rule.MaxDuration != plain.Rule.MaxDuration, d.OneTime != (own.OneTime || c.OneTime):
			t.Fatalf("got %+v", d)
		case !sooner(d.Expires, plain.Expires), !sooner(d.RemoveAt, plain.RemoveAt), !sooner(d.Ends, plain.Ends):
			t.Fatalf("with the claims until %s, %s, %s; without %s, %s, %s", d.Expires, d.RemoveAt, d.Ends, plain.Expires, plain.RemoveAt, plain.Ends)
		case !c.RoomEnds.IsZero() && !req.At.Before(c.RoomEnds):
			t.Fatalf("let in at %s, the room ended at %s", req.At, c.RoomEnds)
		case !c.RoomEnds.IsZero() && !d.Affiliation.Host() && (d.Expires.After(c.RoomEnds) || d.RemoveAt.IsZero() || d.RemoveAt.After(c.RoomEnds)):
			t.Fatalf("a member until %s, %s, the room until %s", d.Expires, d.RemoveAt, c.RoomEnds)
		case !c.RoomEnds.IsZero() && d.Affiliation.Host() && !d.Ends.Equal(c.RoomEnds):
			t.Fatalf("the room ends at %s, not %s", d.Ends, c.RoomEnds)
		}
	})
}

func TestShadowed(t *testing.T) {
	rules := func(patterns ...string) (rules []auth.Rule) {
		for _, p := range patterns {
			tenant, match, _ := strings.Cut(p, "/")
			rules = append(rules, auth.Rule{Tenant: tenant, Match: match})
		}
		return rules
	}
	for name, tt := range map[string]struct {
		rules []auth.Rule
		want  map[int]int
	}{
		"none":                        {rules(), map[int]int{}},
		"one":                         {rules("/*"), map[int]int{}},
		"the same twice":              {rules("/a", "/a", "/a"), map[int]int{1: 0, 2: 0}},
		"all before some":             {rules("/*", "/a-*", "/[ab]", "/?", `/\*`), map[int]int{1: 0, 2: 0, 3: 0, 4: 0}},
		"some before all":             {rules("/a-*", "/*"), map[int]int{}},
		"a prefix":                    {rules("/class-*", "/class-7*", "/class-*-b", "/class", "/clas*"), map[int]int{1: 0, 2: 0}},
		"a suffix":                    {rules("/*-b", "/a-b", "/a-*-b", "/a-b-c"), map[int]int{1: 0, 2: 0}},
		"stars in a row":              {rules("/a**b", "/a*b"), map[int]int{1: 0}},
		"one character":               {rules("/a?", "/a[bc]", "/ab", "/a*", "/a", "/abc"), map[int]int{1: 0, 2: 0, 4: 3, 5: 3}},
		"the same class":              {rules("/[a-c]x", "/[a-c]x", "/[ac]x"), map[int]int{1: 0}},
		"an escaped letter":           {rules(`/\a`, "/a"), map[int]int{1: 0}},
		"an escaped star is no star":  {rules(`/\*`, "/a", `/\*`), map[int]int{2: 0}},
		"tenants":                     {rules("acme/*", "/*", "other/a", "acme/a", "ACME/b"), map[int]int{3: 0, 4: 0}},
		"every tenant":                {rules("*/*", "/a", "acme/a"), map[int]int{1: 0, 2: 0}},
		"every tenant after one":      {rules("acme/*", "*/*"), map[int]int{}},
		"hidden by the first of them": {rules("/a*", "/ab*", "/abc"), map[int]int{1: 0, 2: 0}},
	} {
		if got := auth.Shadowed(tt.rules); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Patterns with many stars take no time.
func TestShadowedIsQuick(t *testing.T) {
	rules := []auth.Rule{
		{Match: strings.Repeat("*a", 20) + "*b"}, {Match: strings.Repeat("a", 200) + "c"},
		{Match: strings.Repeat("*?", 20) + "c"}, {Match: strings.Repeat("a", 100) + "[bc]"}, {Match: strings.Repeat("a", 100) + "c"},
	}
	if got := auth.Shadowed(rules); len(got) != 1 || got[4] != 2 {
		t.Errorf("hidden are %v", got)
	}
}

// A rule that is called hidden fits no room that the one that hides it does not fit.
func TestShadowedIsSound(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			for range rapid.IntRange(1, 4).Draw(t, "n") {
				b.WriteString(rapid.SampledFrom([]string{"a", "b", "-", "*", "?", "[ab]", "[^a]", "[a-z]", `\a`, `\*`, `[\]a]`, "ü"}).Draw(t, "piece"))
			}
			return b.String()
		})
		var rules []auth.Rule
		for range 4 {
			rules = append(rules, auth.Rule{Match: pattern.Draw(t, "pattern"), Tenant: rapid.SampledFrom([]string{"", "*", "acme", "ACME", "b"}).Draw(t, "tenant")})
		}
		p := policy(&testing.T{})
		p.VHosts = nil
		hidden := auth.Shadowed(rules)
		for n, by := range hidden {
			if by >= n {
				t.Fatalf("%d is hidden by %d", n, by)
			}
			found++
		}
		p.Rules = rules
		a := auth.New(p)
		for range 30 {
			name := rapid.StringOfN(rapid.SampledFrom([]rune("ab-cü*/]z")), 1, 5, -1).Draw(t, "name")
			room := auth.Room{JID: jid.MustParse("x@" + service), Name: name, Tenant: rapid.SampledFrom([]string{"", "acme", "b"}).Draw(t, "of")}
			if _, n := a.RuleFor(room); n >= 0 {
				if by, is := hidden[n]; is {
					t.Fatalf("number %d (%q, tenant %q) holds in %s, and is called hidden by number %d (%q, tenant %q)", n, rules[n].Match, rules[n].Tenant, room, by, rules[by].Match, rules[by].Tenant)
				}
			}
		}
	})
	if found == 0 {
		t.Error("no rule was hidden")
	}
}

// But for the slash, rules match as path.Match does.
func TestRulesMatchAsPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune(`ab*?[]^-\ü`)), 1, 6, -1).Draw(t, "pattern")
		name := rapid.StringOfN(rapid.SampledFrom([]rune("ab-ü")), 1, 4, -1).Draw(t, "name")
		want, _ := path.Match(pattern, name)
		a := auth.New(auth.Policy{Rules: []auth.Rule{{Match: pattern}}})
		if _, n := a.RuleFor(auth.Room{Name: name}); (n == 0) != want {
			t.Fatalf("%q, %q: %d", pattern, name, n)
		}
	})
}

// The steps of an explanation name the rule and its hours.
func TestExplainRules(t *testing.T) {
	p := policy(t)
	p.Rules = []auth.Rule{
		{Match: "retro"},
		{Match: "stand*", Tenant: "*", FirstIsHost: auth.FirstToken, Hours: &auth.Hours{Days: weekdays, From: 9*time.Hour + 30*time.Minute, Until: 18 * time.Hour, Zone: zone(t, "Europe/Berlin")}},
	}
	claims := func(c *token.Claims) {
		c.RoomEnds, c.OneTime, c.ID, c.MaxOccupants = now.Add(time.Minute), true, "j", 7
	}
	for name, tt := range map[string]struct {
		at   time.Time
		want []auth.Step
	}{
		"open": {now, []auth.Step{
			{Rule: "revoked", Expected: "a token that was not taken back", Found: "not asked: this needs the store of the running usher", OK: true},
			{Rule: "one time", Expected: "jti, exp and a machine-uid", Found: "as expected", OK: true},
			{Rule: "room rule", Expected: "the first of rooms.rules that fits, or none", Found: `rooms.rules[1]: match "stand*", tenant "*"`, OK: true},
			{Rule: "hours", Expected: "mon, tue, wed, thu, fri, 09:30 to 18:00 (Europe/Berlin)", Found: "open until Monday, 1 June, at 18:00 (Europe/Berlin)", OK: true},
			{Rule: "room's end", Expected: "context.room.ends in the future", Found: "2026-06-01T12:01:00Z; now it is 2026-06-01T12:00:00Z", OK: true},
			{Rule: "limits", Expected: "what the rule gives, narrowed by the token", Found: "7 people", OK: true},
			{Rule: "first is host", Expected: "no host in the room, to become one with this token", Found: "the room is not open", OK: true},
		}},
		"closed": {now.Add(-6 * time.Hour), []auth.Step{
			{Rule: "hours", Expected: "mon, tue, wed, thu, fri, 09:30 to 18:00 (Europe/Berlin)", Found: "closed until Monday, 1 June, at 09:30 (Europe/Berlin)"},
		}},
	} {
		req := asking("meet.example.com", mint(t, claims))
		req.At = tt.at
		_, steps := auth.New(p).Explain(t.Context(), req, looking(noRoom))
		for _, want := range tt.want {
			if !slices.Contains(steps, want) {
				t.Errorf("%s: no %+v in\n%+v", name, want, steps)
			}
		}
	}
	p.Rules = p.Rules[:1]
	if _, steps := explained(t, p, mint(t, nil)); !slices.Contains(steps, auth.Step{Rule: "room rule", Expected: "the first of rooms.rules that fits, or none", Found: "none", OK: true}) {
		t.Errorf("not said that no rule fits: %+v", steps)
	}
	p.Rules = nil
	if _, steps := explained(t, p, mint(t, nil)); slices.ContainsFunc(steps, func(s auth.Step) bool { return s.Rule == "room rule" }) {
		t.Errorf("a step about rules where there are none: %+v", steps)
	}
	for name, tt := range map[string]struct {
		refusals auth.Refusals
		want     auth.Step
	}{
		"taken back": {refusals{revoked: func(auth.Proof, auth.Room) bool { return true }}, auth.Step{Rule: "revoked", Expected: "a token that was not taken back", Found: "taken back"}},
		"not":        {refusals{}, auth.Step{Rule: "revoked", Expected: "a token that was not taken back", Found: "as expected", OK: true}},
		"no answer":  {refusals{err: errors.New("x")}, auth.Step{Rule: "revoked", Expected: "a token that was not taken back", Found: "no answer from the store"}},
		"not barred": {refusals{}, auth.Step{Rule: "barred", Expected: "a person who was not removed from this room", Found: "as expected", OK: true}},
		"barred": {refusals{barred: func(auth.Proof, auth.Room) bool { return true }},
			auth.Step{Rule: "barred", Expected: "a person who was not removed from this room", Found: "removed, and kept out until the room ends"}},
		"barred a while": {refusals{barred: func(auth.Proof, auth.Room) bool { return true }, until: now.Add(time.Minute)},
			auth.Step{Rule: "barred", Expected: "a person who was not removed from this room", Found: "removed, and kept out until 2026-06-01T12:01:00Z"}},
	} {
		p.Refusals = tt.refusals
		if _, steps := explained(t, p, mint(t, nil)); !slices.Contains(steps, tt.want) {
			t.Errorf("%s: %+v", name, steps)
		}
	}
}
