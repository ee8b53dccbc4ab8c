package config

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmpp/jid"
)

// buildRooms makes the Rooms.
func (l *loader) buildRooms(r *raw) Rooms {
	rooms := Rooms{
		Services:        l.buildServices(r.Rooms.Services),
		WaitForHost:     oneOf(l, "rooms/wait_for_host", WaitForHost(r.Rooms.WaitForHost), WaitGuests, WaitMembers, WaitNever),
		GuestRooms:      r.Rooms.GuestRooms,
		HostAffiliation: oneOf(l, "rooms/host_affiliation", Affiliation(r.Rooms.HostAffiliation), Owner, Admin),
		Enforcement:     oneOf(l, "rooms/enforcement", Enforcement(r.Rooms.Enforcement), MembersOnly, Module),
		GuardInterval:   r.Rooms.GuardInterval,
		WaitHold:        r.Rooms.WaitHold,
		WaitHoldJitsi:   r.Rooms.WaitHoldJitsi,
	}
	if l.given("rooms/breakout") {
		rooms.Breakout = l.domain("rooms/breakout", r.Rooms.Breakout)
	}
	if l.given("rooms/lobby") {
		rooms.Lobby = l.domain("rooms/lobby", r.Rooms.Lobby)
	}
	if d := rooms.GuardInterval; d < time.Second || d > 5*time.Minute {
		l.fault("rooms/guard_interval", "is %s, but must be between 1s and 5m", PlainDuration(d))
	}
	for i, pattern := range rooms.GuestRooms {
		l.checkPattern(join("rooms/guest_rooms", strconv.Itoa(i)), pattern)
	}
	rooms.AfterKick = l.buildAfterKick("rooms/after_kick", r.Rooms.AfterKick)
	rooms.Rules = l.buildRules(r.Rooms.Rules, rooms)
	l.checkHold("rooms/wait_hold", rooms.WaitHold, rooms)
	l.checkHold("rooms/wait_hold_jitsi", rooms.WaitHoldJitsi, rooms)
	return rooms
}

// buildServices returns the MUC services that usher guards.
func (l *loader) buildServices(names []string) (services []jid.JID) {
	named := map[string]bool{}
	for i, name := range names {
		at := join("rooms/services", strconv.Itoa(i))
		service := l.domain(at, name)
		if service.String() != "" && named[service.String()] {
			l.fault(at, "names %s again: once is enough", service)
		}
		named[service.String()] = true
		services = append(services, service)
	}
	if len(services) == 0 {
		l.missing("rooms/services", "name the MUC services to guard, such as [conference.meet.example.com]")
	}
	return services
}

// checkHold records what is wrong with how long a request is held.
func (l *loader) checkHold(at string, d time.Duration, rooms Rooms) {
	if d < 0 || d > 90*time.Second {
		l.fault(at, "is %s, but must be between 0s (requests are not held) and 90s", PlainDuration(d))
	} else if d > 0 && !rooms.someWait() && l.given(at) {
		l.fault(at, "has no effect with wait_for_host: never, where nobody waits: take it out")
	}
}

// someWait reports whether there are rooms in which people wait for a host.
func (r Rooms) someWait() bool {
	return r.WaitForHost != WaitNever ||
		slices.ContainsFunc(r.Rules, func(rule Rule) bool { return rule.WaitForHost != "" && rule.WaitForHost != WaitNever })
}

// checkPattern records a pattern of rooms that matches no room.
func (l *loader) checkPattern(at, pattern string) {
	named := pattern // as auth.CanonicalName has the names that it is compared with
	if decoded, err := url.PathUnescape(pattern); err == nil {
		named = decoded
	}
	named = canonical(named)
	_, err := path.Match(pattern, "")
	switch {
	case err != nil:
		l.fault(at, `%q is no pattern: * stands for any characters, ? for one, [a-z] for one of a range`, pattern)
	case pattern == "":
		l.fault(at, "is empty, so matches no room")
	case strings.ContainsAny(pattern, "@/"):
		l.fault(at, "%q matches no room: a pattern is for a room's name, the part before the @", pattern)
	case pattern != named:
		l.fault(at, "%q matches no room: names are compared decoded, in lower case and in Unicode's form NFKC; write %q", pattern, named)
	}
}

func (l *loader) buildLobby(r *raw) Lobby {
	return Lobby{
		Autostart: oneOf(l, "lobby/autostart", LobbyAutostart(r.Lobby.Autostart), AutostartHost, AutostartNever),
		Bypass:    l.buildBypass("lobby/bypass", r.Lobby.Bypass),
	}
}

// buildBypass returns who passes a lobby, as the list at a path says.
func (l *loader) buildBypass(at string, names []string) (bypass []Affiliation) {
	for i, name := range names {
		here := join(at, strconv.Itoa(i))
		affiliation := oneOf(l, here, Affiliation(name), Owner, Member)
		if slices.Contains(bypass, affiliation) {
			l.fault(here, "names %s again: once is enough", affiliation)
		} else if !l.faulty[here] {
			bypass = append(bypass, affiliation)
		}
	}
	return bypass
}
