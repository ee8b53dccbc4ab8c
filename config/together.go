package config

import (
	"slices"
	"strconv"

	"mellium.im/xmpp/jid"
)

// compareDomains records domains that are used for two things.
func (l *loader) compareDomains(c *Config) {
	uses := map[string]string{} // by domain: the path that uses it
	for i, service := range c.Rooms.Services {
		if _, again := uses[service.String()]; !again {
			uses[service.String()] = join("rooms/services", strconv.Itoa(i))
		}
	}
	use := func(domain jid.JID, at, what string) {
		if domain.String() == "" {
			return
		}
		if other, taken := uses[domain.String()]; taken {
			l.fault(at, "%s is %s (%s) already: %s", domain, typed(other), l.place(other).source, what)
			return
		}
		uses[domain.String()] = at
	}
	delete(uses, "")
	use(c.Rooms.Breakout, "rooms/breakout", "breakout rooms have a service of their own")
	use(c.Rooms.Lobby, "rooms/lobby", "lobbies have a service of their own")
	use(c.XMPP.Domain, "xmpp/domain", "usher needs a domain of its own, that of the server's Component line")
	for _, domain := range l.vhosts {
		use(domain, join("vhosts", domain.String()), "a vhost is where people log in, and nothing else")
	}
}

// compareFocus records what contradicts being the focus, or standing in front of one, and what needs a lobby.
func (l *loader) compareFocus(c *Config) {
	if l.garbled { // it may say what all this depends on
		return
	}
	relay, lobby := l.given("jicofo/jid"), l.given("rooms/lobby")
	if relay && c.Jicofo.JID.Domain().Equal(c.XMPP.Domain) && c.XMPP.Domain.String() != "" {
		l.fault("jicofo/jid", "is at usher's own domain: name the JID that Jicofo logs in with, such as focus@auth.meet.example.com")
	}
	if !relay {
		l.idle("has no effect without jicofo.jid, because usher is the focus itself: take it out, or name Jicofo", "jicofo/forward_token", "jicofo/enforce_roles")
		if l.given("rooms/breakout") {
			l.warn("rooms/breakout", "Jicofo opens breakout rooms, and there is none (jicofo.jid): nobody is let into them")
		}
	}
	if !lobby {
		paths := []string{"lobby/autostart", "lobby/bypass"}
		for i := range c.Rooms.Rules {
			paths = append(paths, l.givenOf(join(join(rules, strconv.Itoa(i)), "lobby"), "autostart", "bypass")...)
		}
		l.idle("has no effect without rooms.lobby: take it out, or name the service of Jitsi's lobbies there", paths...)
	}
	module := c.Rooms.Enforcement == Module
	switch {
	case !relay:
		l.idle("has no effect without jicofo.jid, because usher is inside every room and hears of changes: take it out", "rooms/guard_interval")
	case module && !c.Jicofo.EnforceRoles:
		l.idle("has no effect with enforcement: module, because there is nothing to look at: take it out", "rooms/guard_interval")
	}
	if !module && lobby && !l.given("rooms/enforcement") {
		l.warn("rooms/lobby", "with rooms.enforcement members-only, clients show the lobby as switched on in every room, and Jitsi's "+
			"lobby plugin refuses people without a display name: better write enforcement: module (or members-only, if that is meant)")
	}
}

// idle records keys that are set and have no effect.
func (l *loader) idle(why string, paths ...string) {
	for _, at := range paths {
		if l.given(at) {
			l.fault(at, "%s", why)
		}
	}
}

// Hostless says why nobody could ever open a room; "" if somebody can.
func (c *Config) Hostless() string {
	host := func(v VHost) bool { return v.Kind == KindTrusted || c.TakesTokens(v) }
	if len(c.VHosts) == 0 || len(c.Rooms.GuestRooms) > 0 || slices.ContainsFunc(c.VHosts, host) {
		return ""
	}
	so := "nobody can open a room"
	if c.Rooms.someWait() {
		so = "everybody will wait for ever"
	}
	return "no virtual host has people who can be hosts (kind token or trusted): " + so
}

// findHosts warns if nobody could ever open a room.
func (l *loader) findHosts(c *Config) {
	if why := c.Hostless(); why != "" {
		l.warn("vhosts", "%s. Let hosts log in at usher's portal "+
			`(README, "Hosts log in"), or let guests open rooms: rooms.guest_rooms: ["*"]`, why)
	}
}
