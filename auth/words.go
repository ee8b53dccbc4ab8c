package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Words returns sentences that say who may create rooms, who may enter and who waits, virtual host by virtual host. An operator
// reads them in the log at the start and in "usher config check".
func (p Policy) Words() []string {
	a := New(p)
	p = a.policy
	out := []string{
		fmt.Sprintf("Only people let in by usher, or by an owner inside, can enter rooms on %s.", strings.Join(p.Services, ", ")),
		fmt.Sprintf("Hosts get the affiliation %s.", p.HostAffiliation),
	}
	everywhere := RoomRule{WaitForHost: p.WaitForHost}
	if len(p.Rules) > 0 && p.Rules[0].fitsAll() {
		everywhere = p.Rules[0].fill(everywhere) // no room is without it
	}
	for _, domain := range slices.Sorted(maps.Keys(p.VHosts)) {
		out = append(out, domain+": "+p.VHosts[domain].words(everywhere))
	}
	if len(p.GuestRooms) > 0 && everywhere.Guests != GuestsDeny {
		out = append(out, fmt.Sprintf("Rooms named %s need no host: guests may open them.", strings.Join(p.GuestRooms, ", ")))
	}
	for n, r := range p.Rules {
		out = append(out, r.words(n == 0))
	}
	out = append(out, p.Login.words())
	if p.Sessions != nil {
		out = append(out, "A person who came in by token or password gets a session for the same machine, room and end, a day at most. A request with its id counts as one with the token.")
	}
	if p.Breakout != "" {
		out = append(out, fmt.Sprintf("People let into a main room can enter its breakout rooms on %s, with the rights that they have in the main room.", p.Breakout))
	}
	if p.Lobby {
		out = append(out, p.lobbyWords())
	}
	return append(out, "Everybody else is refused.")
}

// fitsAll reports whether the rule is about all rooms.
func (r *Rule) fitsAll() bool { return r.Match == "*" && r.Tenant == wildcard }

// words says what the rule says, and nothing about what it leaves to the policy; first says that no rule goes before it.
func (r Rule) words(first bool) string {
	s := r.says()
	if len(s) == 0 {
		s = []string{"as all other rooms"}
	}
	switch {
	case r.fitsAll() && first:
		return fmt.Sprintf("All rooms: %s.", strings.Join(s, "; "))
	case r.fitsAll():
		return fmt.Sprintf("All other rooms: %s.", strings.Join(s, "; "))
	}
	of := ""
	switch r.Tenant {
	case "":
	case wildcard:
		of = " of every tenant and of none"
	default:
		of = " of the tenant " + r.Tenant
	}
	return fmt.Sprintf("Rooms named %s%s: %s.", r.Match, of, strings.Join(s, "; "))
}

// RuleInWords says what holds in a room.
func (a *Authorizer) RuleInWords(r RoomRule) string {
	all := Rule{
		WaitForHost: r.WaitForHost, Guests: r.Guests, MaxOccupants: r.MaxOccupants, Hours: r.Hours, MaxDuration: r.MaxDuration,
		OnHostLeft: r.OnHostLeft, FirstIsHost: r.FirstIsHost, HostGrace: r.HostGrace, Features: r.Features,
	}
	if a.policy.Lobby {
		all.LobbyAutostart, all.LobbyBypass, all.HasLobbyBypass = &r.LobbyAutostart, r.LobbyBypass, true
	}
	s := all.says()
	if r.GuestRoom {
		s = append(s, "guests may open the room")
	}
	text := strings.Join(s, "; ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// says returns what the rule says, one by one.
func (r Rule) says() []string {
	var s []string
	say := func(said bool, format string, args ...any) {
		if said {
			s = append(s, fmt.Sprintf(format, args...))
		}
	}
	say(r.WaitForHost == GuestsWait, "guests wait until a host is inside")
	say(r.WaitForHost == MembersWait, "guests and members wait until a host is inside")
	say(r.WaitForHost == NobodyWaits, "nobody waits for a host")
	say(r.Guests == GuestsDeny, "guests are refused")
	say(r.FirstIsHost == FirstToken, "who comes first with a token is host")
	say(r.MaxOccupants > 0, "%d people at most, and hosts", r.MaxOccupants)
	if r.Hours != nil {
		say(true, "open %s", r.Hours)
	}
	say(r.MaxDuration > 0, "the room ends %s after the first has been let in", plainly(r.MaxDuration))
	grace := ""
	if r.HostGrace > 0 {
		grace = plainly(r.HostGrace) + " "
	}
	say(r.OnHostLeft == LeftKeep, "who waits for a host no longer does once one has been inside")
	say(r.OnHostLeft == LeftEnd, "the room ends %safter the last host has left", grace)
	say((r.OnHostLeft == LeftLock || r.OnHostLeft == "") && r.HostGrace > 0, "newcomers wait again %safter the last host has left", grace)
	if r.LobbyAutostart != nil {
		say(*r.LobbyAutostart, "the first host turns the lobby on")
		say(!*r.LobbyAutostart, "no host turns the lobby on by coming")
	}
	if r.HasLobbyBypass {
		say(true, "where a lobby is on, %s", lobbyWords(r.LobbyBypass))
	}
	for _, feature := range slices.Sorted(maps.Keys(r.Features)) {
		say(r.Features[feature] == FeatureOwners, "%s for hosts only", feature)
		say(r.Features[feature] == FeatureNever, "%s for nobody", feature)
	}
	return s
}

func (l Login) words() string {
	switch l {
	case LoginNone:
		return "There is no login: people who need a token and have none are refused with a text."
	case LoginPassword:
		return "There is a login, by password: people who need a token and have none are asked to log in."
	case LoginURL:
		return "There is a login, the web page's tokenAuthUrl: people who need a token and have none are asked to log in."
	default:
		return "usher does not know whether there is a login, so it asks people who need a token and have none to log in; if there is none, set login: none."
	}
}

// plainly returns a duration without zeros at its end: 2h for 2h0m0s.
func plainly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// lobbyWords says who knocks at a lobby and who passes it.
func lobbyWords(bypass []Affiliation) string {
	switch hosts, members := slices.Contains(bypass, Owner), slices.Contains(bypass, Member); {
	case hosts && members:
		return "guests knock, hosts and members pass"
	case hosts:
		return "guests and members knock, hosts pass"
	case members:
		return "guests knock, members pass, and hosts knock if one is inside"
	default:
		return "guests and members knock, and hosts if one is inside"
	}
}

func (p Policy) lobbyWords() string {
	s := "Where a lobby is on, " + lobbyWords(p.LobbyBypass) + "; a token may say otherwise."
	if p.LobbyAutostart {
		return s + " The first host turns it on, unless the token says otherwise."
	}
	return s + " Hosts turn it on, or their token does."
}

// words says who may do what. The rule is what holds in all rooms, as far as it says something.
func (v VHost) words(everywhere RoomRule) string {
	var s []string
	switch v.Kind {
	case KindTrusted:
		return "everybody who logged in with a password is a host, creates rooms and enters."
	case KindService:
		return "recorders and gateways enter open rooms as members, create nothing, and never count as hosts."
	}
	for _, i := range v.Issuers {
		s = append(s, i.words(&v, everywhere.WaitForHost))
	}
	switch {
	case v.Kind == KindGuest && len(v.Issuers) == 0:
		s = append(s, "everybody is a guest, and usher ignores tokens"+guestWords(everywhere))
	case v.Kind == KindGuest || v.AllowEmptyToken:
		s = append(s, "Without a token people are guests"+guestWords(everywhere))
	default:
		s = append(s, "Without a token nobody enters.")
	}
	for i := range s[1:] {
		s[i+1] = strings.ToUpper(s[i+1][:1]) + s[i+1][1:]
	}
	return strings.Join(s, " ")
}

func (i Issuer) words(v *VHost, wait WaitForHost) string {
	role := "is a member unless the token says owner or admin"
	if byDefault, _ := i.byDefault(v); byDefault.Host() {
		role = "is a host unless the token says member"
	}
	if !i.Claims.Affiliation.IsZero() {
		role = "is what the token says at " + i.Claims.Affiliation.Describe("context.user.affiliation") + ", and a member if it says nothing there"
	}
	members := "members may enter and create at any time"
	if wait == MembersWait {
		members = "members wait until a host is inside"
	}
	var algorithms, must []string
	for _, alg := range i.Algorithms {
		algorithms = append(algorithms, alg.String())
	}
	if i.RequireRoom {
		must = append(must, "name the room"+at(i.Claims.Room, "room"))
	}
	if i.RequireExp {
		must = append(must, "have an end")
	}
	if i.DomainVerification {
		must = append(must, "name the domain or tenant"+at(i.Claims.Tenant, "sub"))
	}
	s := fmt.Sprintf("a person with a token of %s (%s) %s. Hosts create rooms and enter; %s.", i.Name, strings.Join(algorithms, ", "), role, members)
	if i.Tenant != "" {
		s += fmt.Sprintf(" It opens rooms of the tenant %s only.", i.Tenant)
	}
	switch {
	case len(must) > 0:
	case i.Tenant != "":
		return s + " A token need not name a room or an end."
	default:
		return s + " A token need not name a room, a tenant or an end: it opens every room."
	}
	return s + " The token must " + strings.Join(must, ", ") + "."
}

// at says where a claim is that is not at Jitsi's own place.
func at(c token.Claim, jitsi string) string {
	if c.IsZero() {
		return ""
	}
	return " at " + c.Describe(jitsi)
}

// guestWords ends a sentence about guests. Where all of them are refused, the rule says so.
func guestWords(everywhere RoomRule) string {
	switch {
	case everywhere.Guests == GuestsDeny:
		return "."
	case everywhere.WaitForHost == NobodyWaits:
		return ": guests enter open rooms and create none."
	}
	return ": guests wait until a host is inside and create nothing."
}
