package config

import (
	"fmt"
	"slices"
	"strings"

	"mellium.im/xmpp/jid"
)

// enabled is a module that a source enables.
type enabled struct {
	name string
	on   section
	// off reports whether it is disabled there again. A module that usher's own lines have disabled still means what it meant:
	// otherwise people would become more than they were.
	off bool
	// option reports whether an option is set for it, and is not false, and where.
	option func(name string) (at place, ok bool)
	at     place
}

// section says what a module is enabled for.
type section int

const (
	onRooms  section = iota // a MUC service that is guarded
	onBeside                // one of breakout rooms or lobbies
	onPeople                // a virtual host, or all of them
)

// acts reports whether the module does its work there.
func (e enabled) acts(m ProsodyModule) bool {
	if m.Stands == OnMUC {
		return e.on == onRooms
	}
	return e.on == onPeople
}

// readModules adds to the settings of a source what the modules mean that it enables. It notes what differs with usher, and the
// modules that usher does not know. It is the one way from modules to keys.
func (l *loader) readModules(found []enabled, settings []setting) []setting {
	s := moduleSettings{settings: settings}
	for _, set := range settings {
		if set.vhost() != "" && last(set.path) == "kind" && set.value == string(KindToken) {
			s.tokens = append(s.tokens, parent(set.path))
		}
	}
	var stay []string
	var from place
	for _, m := range modules {
		i := slices.IndexFunc(found, func(e enabled) bool { return e.name == m.Name && e.acts(m) && (m.gone() || !e.off) })
		if i < 0 {
			continue
		}
		at := found[i].at
		note, wider := s.add(m, found[i])
		if !l.first(m.Name) {
			continue
		}
		l.noteModule(m, note, at)
		if m.Verdict == Harmless && note != "" {
			if stay = append(stay, fmt.Sprintf("%s (%s)", m.Name, note)); from.source == "" {
				from = at
			}
		}
		if wider != "" {
			l.warnAt(at, fmt.Sprintf("usher allows more than the module %s: %s", m.Name, wider))
		}
	}
	if len(stay) > 0 {
		l.note(from, "these modules stay and count beside usher: "+strings.Join(stay, ", "))
	}
	for _, e := range found {
		if _, known := moduleNamed(e.name); !known && e.on != onPeople && !e.off && l.first(e.name) {
			l.note(e.at, UnknownModule(e.name))
		}
	}
	return s.settings
}

// moduleSettings are the settings of a source, to which modules add theirs.
type moduleSettings struct {
	settings []setting
	tokens   []string // the paths of the virtual hosts with tokens
}

// add adds the keys of a module and of its options that are set, and returns what is to be said of them.
func (s *moduleSettings) add(m ProsodyModule, e enabled) (note, wider string) {
	s.set(m.Sets, e.at)
	note, wider = m.Note, m.Wider
	for _, o := range m.Options {
		at, ok := e.option(o.Name)
		if !ok {
			continue
		}
		s.set(o.Sets, at)
		note = strings.TrimSpace(note + " " + o.Note)
		if o.Wider != "" {
			wider = strings.TrimPrefix(wider+"; "+o.Wider, "; ")
		}
	}
	return note, wider
}

// set adds keys. A key with a star is set for each virtual host with tokens.
func (s *moduleSettings) set(keys []ModuleKey, at place) {
	for _, k := range keys {
		key, starred := strings.CutPrefix(k.Key, "vhosts.*.")
		if !starred {
			s.settings = append(s.settings, setting{strings.ReplaceAll(k.Key, ".", "/"), k.Value, at})
			continue
		}
		for _, path := range s.tokens {
			s.settings = append(s.settings, setting{join(path, key), k.Value, at})
		}
	}
}

// noteModule notes a module that goes, with what is different with usher.
func (l *loader) noteModule(m ProsodyModule, note string, at place) {
	switch {
	case m.Verdict == Rival:
		l.note(at, strings.TrimSpace(fmt.Sprintf("the module %s is not for use beside usher, because it %s. %s", m.Name, m.Does, note)))
	case m.Verdict == Mapped && note != "":
		l.note(at, fmt.Sprintf("usher does the work of the module %s. %s", m.Name, note))
	}
}

// first reports whether nothing has been said of a module yet. Several sources may name it.
func (l *loader) first(name string) bool {
	if l.spokenOf[name] {
		return false
	}
	l.spokenOf[name] = true
	return true
}

// unsaid notes what differs from Jitsi if neither a module nor the operator says how it is to be.
func (l *loader) unsaid(beneath []setting) {
	say := func(key, text string, about func(s setting) bool) {
		counts := func(s setting) bool { return about(s) && l.places[s.path] == s.at }
		if i := slices.IndexFunc(beneath, counts); i >= 0 && !l.given(key) {
			l.note(beneath[i].at, text)
		}
	}
	others := slices.ContainsFunc(l.vhosts, func(domain jid.JID) bool {
		kind := Kind(l.viper.GetString(join("vhosts", domain.String()) + "/kind"))
		return kind == KindToken || kind == KindTrusted
	})
	say("lobby/bypass", "hosts and members pass a lobby that is on, and only guests knock: at Jitsi's lobby all of them knock. Write "+
		"lobby.bypass: [] for that, or [owner, member] if they are to pass",
		func(s setting) bool { return s.path == "rooms/lobby" && others })
	say("rooms/wait_for_host", "guests wait until a host is inside: in Jitsi without the module muc_wait_for_host they do not. "+
		`Write rooms.wait_for_host: guests if they are to wait, never if an open room is enough, or rooms.guest_rooms: ["*"] if they may open rooms, too`,
		setting.guests)
}

// admitted warns of guests that Jitsi's token_verification refuses and usher lets in. It refuses people without a token if the
// domain is verified, unless a list of exceptions has the virtual host (jitsi-meet token/util.lib.lua, verify_room).
func (l *loader) admitted(guests string, at place) {
	l.warnAt(at, fmt.Sprintf("usher allows more than the module token_verification: guests of %s enter when a host is inside. There they "+
		"are refused, because they have no token, unless token_verification_allowlist names that domain", guests))
}
