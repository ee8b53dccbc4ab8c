package auth

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Guests says whether people without a token enter a room, as far as their virtual host lets them.
type Guests string

const (
	GuestsAllow Guests = "allow"
	GuestsDeny  Guests = "deny"
)

// OnHostLeft says what becomes of a room when its last host has left.
type OnHostLeft string

const (
	// LeftLock: newcomers wait for a host again, those inside stay.
	LeftLock OnHostLeft = "lock"
	// LeftKeep: once a host has been in the conference, newcomers are let in as long as it lasts.
	LeftKeep OnHostLeft = "keep"
	// LeftEnd: the room ends.
	LeftEnd OnHostLeft = "end"
)

// FirstIsHost says whether somebody becomes host by coming first.
type FirstIsHost string

const (
	FirstNever FirstIsHost = "never"
	FirstToken FirstIsHost = "token" // who comes with a token while no host is inside
)

// Rule says what holds in some rooms. What it leaves at zero is as in the Policy.
type Rule struct {
	// Match is a pattern (path.Match) of canonical room names without the tenant. Here * and ? also match a slash, so that no
	// name slips past a rule.
	Match string
	// Tenant is the tenant of the rooms; empty means rooms without a tenant, "*" rooms of any tenant and of none.
	Tenant string

	WaitForHost  WaitForHost
	Guests       Guests
	MaxOccupants int // 0: no limit
	Hours        *Hours
	MaxDuration  time.Duration // 0: no limit
	OnHostLeft   OnHostLeft
	FirstIsHost  FirstIsHost
	// HostGrace is how long after the last host left newcomers are still let in (LeftLock), or the room goes on (LeftEnd).
	HostGrace time.Duration
	// LobbyAutostart is as Policy.LobbyAutostart; nil says nothing.
	LobbyAutostart *bool
	// LobbyBypass is as Policy.LobbyBypass, if HasLobbyBypass is set.
	LobbyBypass    []Affiliation
	HasLobbyBypass bool
	// Features say who has which feature; the token decides about the others.
	Features map[string]FeatureRule
}

// RoomRule is what holds in one room. Its zero value limits nothing.
type RoomRule struct {
	WaitForHost  WaitForHost
	Guests       Guests
	MaxOccupants int // 0: no limit
	Hours        *Hours
	MaxDuration  time.Duration // 0: no limit
	OnHostLeft   OnHostLeft
	FirstIsHost  FirstIsHost
	HostGrace    time.Duration
	// LobbyAutostart and LobbyBypass are as in Policy.
	LobbyAutostart bool
	LobbyBypass    []Affiliation
	// GuestRoom says that guests may open the room without a host.
	GuestRoom bool
	// Features are as in Rule. The map must not be changed.
	Features map[string]FeatureRule
}

// RuleFor returns what holds in a room: the first of Policy.Rules that fits, filled up from the policy. The number is that of the
// rule, -1 if none fits.
//
// None fits a breakout room: its name is a random UUID, and who may be in the main room may be in it.
func (a *Authorizer) RuleFor(room Room) (RoomRule, int) {
	p := &a.policy
	holds := RoomRule{
		WaitForHost: p.WaitForHost, Guests: GuestsAllow, OnHostLeft: LeftLock, FirstIsHost: FirstNever,
		LobbyAutostart: p.LobbyAutostart, LobbyBypass: p.LobbyBypass, GuestRoom: a.guestRoom(room),
	}
	if a.IsBreakout(room) {
		return holds, -1
	}
	for n := range p.Rules {
		if r := &p.Rules[n]; r.fits(room) {
			return r.fill(holds), n
		}
	}
	return holds, -1
}

// fill returns what holds where the rule fits.
func (r *Rule) fill(holds RoomRule) RoomRule {
	if r.WaitForHost != "" {
		holds.WaitForHost = r.WaitForHost
		// A rule that makes guests wait means it, whatever the list of guest rooms says.
		holds.GuestRoom = holds.GuestRoom && r.WaitForHost == NobodyWaits
	}
	if r.Guests != "" {
		holds.Guests = r.Guests
	}
	if r.OnHostLeft != "" {
		holds.OnHostLeft = r.OnHostLeft
	}
	if r.FirstIsHost != "" {
		holds.FirstIsHost = r.FirstIsHost
	}
	if r.LobbyAutostart != nil {
		holds.LobbyAutostart = *r.LobbyAutostart
	}
	if r.HasLobbyBypass {
		holds.LobbyBypass = r.LobbyBypass
	}
	holds.Features = r.Features
	holds.MaxOccupants, holds.Hours, holds.MaxDuration, holds.HostGrace = r.MaxOccupants, r.Hours, r.MaxDuration, r.HostGrace
	return holds
}

// fits reports whether the rule is about the room.
func (r *Rule) fits(room Room) bool {
	if r.Tenant != wildcard && r.Tenant != room.Tenant && !sameName(r.Tenant, room.Tenant) {
		return false
	}
	// No name has a control character, so the stand-in for the slash is in no other.
	const slash, other = "/", "\x00"
	ok, _ := path.Match(strings.ReplaceAll(r.Match, slash, other), strings.ReplaceAll(room.Name, slash, other))
	return ok
}

// openAt reports whether the hours let anybody in, and if not, when they do.
func (r RoomRule) openAt(at time.Time, t *trace) (open bool, opens time.Time) {
	if r.Hours == nil {
		return true, opens
	}
	open, opens, closes := r.Hours.Open(at)
	t.hours(r.Hours, open, opens, closes)
	return open, opens
}

// locked refuses somebody who is no host, in a room that an operator has locked.
func locked(req Request, t *trace) *refusal {
	if !req.Locked {
		return nil
	}
	t.locked()
	return refuse(ReasonRoomLocked, "locked by an operator")
}

// closed returns the refusal in a room that is closed until a time, zero if for ever.
func (d Decision) closed(h *Hours, opens time.Time) Decision {
	d = d.Denied(ReasonRoomClosed, nil)
	if !opens.IsZero() {
		d.Text = "This room is closed. It opens on " + h.words(opens) + "."
	}
	return d
}

// knocks reports whether a lobby that is at work, if there is one, holds up a person who would enter as Owner or as Member; a nil
// credential is a guest. What the token says goes before the rule, a no as well as a yes.
func (r RoomRule) knocks(lobby bool, credential *Session, as Affiliation) bool {
	switch {
	case !lobby:
		return false
	case credential == nil || credential.LobbyKnock:
		return true
	default:
		return !credential.LobbyBypass && !slices.Contains(r.LobbyBypass, as)
	}
}

// over refuses somebody with a token by which the room has ended. No leeway applies: a room that has ended must not be opened again.
func over(credential *Session, at time.Time, t *trace) *refusal {
	if credential.Ends.IsZero() {
		return nil
	}
	ok := at.Before(credential.Ends)
	t.time("room's end", "context.room.ends in the future", credential.Ends, at, ok)
	if !ok {
		return &refusal{ReasonTokenExpired, fmt.Errorf("context.room.ends: %s ago", at.Sub(credential.Ends).Round(time.Second))}
	}
	return nil
}

// byIssuer sets what the issuer of the token, or of the session's token, says about its use and its end. A password has none.
func (d *Decision) byIssuer(i *Issuer) {
	if i == nil {
		return
	}
	d.Reuse, d.ReuseOf = i.Reuse, i.ReuseOf
	if i.OnExpiry == Remove && !d.Expires.IsZero() {
		d.RemoveAt = d.Expires.Add(i.ExpiryGrace)
	}
}

// earliest returns the earlier of two times; zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// narrowed returns what holds for somebody with a token that allows at most so many people in the room; 0 says nothing. A token
// never widens what the rule gives.
func (r RoomRule) narrowed(maxOccupants int) RoomRule {
	if maxOccupants > 0 && (r.MaxOccupants == 0 || maxOccupants < r.MaxOccupants) {
		r.MaxOccupants = maxOccupants
	}
	return r
}

// outlastsHost reports whether newcomers may be let in although the host has left.
func (r RoomRule) outlastsHost() bool {
	return r.OnHostLeft == LeftKeep || r.OnHostLeft == LeftLock && r.HostGrace > 0
}

// Shadowed returns the rules that never hold because one before them fits the same rooms, each with the number of that one. It
// finds only what it can prove: it may miss a rule that several others hide together, but names none that can hold.
func Shadowed(rules []Rule) map[int]int {
	hidden := map[int]int{}
	for n := range rules {
		for before := range n {
			if rules[before].fitsAllOf(&rules[n]) {
				hidden[n] = before
				break
			}
		}
	}
	return hidden
}

// fitsAllOf reports whether r surely fits all rooms that other fits.
func (r *Rule) fitsAllOf(other *Rule) bool {
	tenant, err := CanonicalName(other.Tenant)
	sameTenant := r.Tenant == other.Tenant || err == nil && sameName(r.Tenant, tenant)
	return (r.Tenant == wildcard || sameTenant) && matchesAllOf(pieces(r.Match), pieces(other.Match))
}

// pieces cuts a pattern into *, ?, classes and characters. An escaped character becomes itself, so a star that stands for itself
// is `\*`.
func pieces(pattern string) []string {
	var out []string
	for pattern != "" {
		n := 0
		switch pattern[0] {
		case '\\':
			_, n = utf8.DecodeRuneInString(pattern[1:])
			n++
			if plain(pattern[1:n]) {
				pattern, n = pattern[1:], n-1
			}
		case '[':
			for n = 1; n < len(pattern) && pattern[n-1] != ']'; n++ {
				if pattern[n] == '\\' {
					n++
				}
			}
			n = min(n, len(pattern))
		default:
			_, n = utf8.DecodeRuneInString(pattern)
		}
		out = append(out, pattern[:n])
		pattern = pattern[n:]
	}
	return out
}

// matchesAllOf reports whether a pattern surely matches every name that other matches, by walking through both: * takes any pieces
// of other, ? any but *, and everything else only its like. Where it does not fit, only the last * takes more: what an earlier one
// could take, the last can take as well. So it takes no longer than both lengths multiplied.
func matchesAllOf(pattern, other []string) bool {
	var rest, taken []string // behind the last *, and what it has not taken
	star := false
	for len(other) > 0 {
		switch {
		case len(pattern) > 0 && pattern[0] == "*":
			pattern = pattern[1:]
			rest, taken, star = pattern, other, true
		case len(pattern) > 0 && (pattern[0] == "?" && other[0] != "*" || pattern[0] == other[0]):
			pattern, other = pattern[1:], other[1:]
		case star:
			taken = taken[1:]
			pattern, other = rest, taken
		default:
			return false
		}
	}
	return !slices.ContainsFunc(pattern, func(piece string) bool { return piece != "*" })
}
