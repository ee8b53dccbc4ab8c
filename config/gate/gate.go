// Package gate is the one table of what a stock Prosody must say for usher to decide who enters its rooms, and of what makes
// that useless.
//
// Package config writes the lines from it and compares Prosody's files with it. Package component/doctor names its lines as the
// remedy, and the demo and the tests start their servers with them. README.md in this folder is made from it (go generate
// ./config/gate). It imports nothing of usher, so that all of them can use it.
package gate

import "fmt"

//go:generate go test -run TestReadme -update .

// Option is an option of Prosody that must have one value.
type Option struct {
	// Name is its name, Module the Lua module of Prosody that reads it.
	Name, Module string
	// Value is what it must be.
	Value bool
	// Why says what it does, as a comment beside the line.
	Why string
	// Open says what happens without it, if the gate is open then. If Open is empty, usher cannot work as it should without it.
	Open string
	// Default tells that Value is the server's default, so that the option need not be set.
	Default bool
	// Exact tells that no text and no number stands for Value.
	Exact bool
	// Source says where that can be read.
	Source string
}

// Line returns the line that sets the option, in Prosody's language.
func (o Option) Line() string { return fmt.Sprintf("%s = %t", o.Name, o.Value) }

// Choice is an option of Prosody that must have one text.
type Choice struct {
	// Name is its name, Value what it must be, Why what it does, Source where that can be read.
	Name, Value, Why, Source string
}

// Line returns the line that sets the option, in Prosody's language.
func (c Choice) Line() string { return c.Name + " = " + Quote(c.Value) }

// KickOld is for usher's own component, where several ushers share a store. The connection of an usher that is frozen, or of a machine that
// has vanished, stays open for a long time; with kick_new, the default, no other usher could connect meanwhile. Without a shared store
// two ushers that run at once would displace each other.
var KickOld = Choice{
	Name: "component_conflict_resolve", Value: "kick_old",
	Why:    "a standby takes the place of an usher that is frozen",
	Source: "plugins/mod_component.lua",
}

// Module is the name of usher's own module for Prosody, mod_usher, and ModuleAlias the name that it had before, which still loads it:
// see package config/prosody/module.
const (
	Module      = "usher"
	ModuleAlias = "muc_affiliated_only"
)

// TellsTo is the option of a MUC service by which usher's module knows usher: the domain of usher's component. Without it the module
// keeps out strangers, and that is all.
func TellsTo(domain string) Choice {
	return Choice{
		Name: "usher_component", Value: domain,
		Why:    "usher hears what happens, and gives affiliations",
		Source: "mod_usher.lua, which comes with usher",
	}
}

// The options.
var (
	// AdminsOwn is for all hosts. The others are for one MUC service.
	AdminsOwn = Option{
		Name: "component_admins_as_room_owners", Module: "muc", Value: true,
		Why:    "Prosody 13: without it usher owns no room",
		Source: "Prosody 13, plugins/muc/mod_muc.lua",
	}

	// OnlyAdmins is for every MUC service that usher has to do with. To Prosody 13 "true" and 1 are neither true nor false, and
	// then all users of the parent domain create rooms.
	OnlyAdmins = Option{
		Name: "restrict_room_creation", Module: "muc", Value: true, Exact: true,
		Why:    "only admins create rooms",
		Open:   "anybody can create rooms",
		Source: "plugins/muc/mod_muc.lua",
	}

	MembersOnly = Option{
		Name: "muc_room_default_members_only", Module: "muc", Value: true,
		Why:    "nobody enters without an affiliation",
		Open:   "anybody can enter a room that has just been created",
		Source: "plugins/muc/mod_muc.lua, members_only.lib.lua",
	}

	// LobbyOff takes the place of MembersOnly where usher's module keeps people out (rooms.enforcement: module).
	LobbyOff = Option{
		Name: "muc_room_default_members_only", Module: "muc", Value: false, Default: true,
		Why:    "the switch of the lobby, which begins switched off",
		Source: "jitsi-meet, mod_muc_lobby_rooms.lua",
	}

	PublicJIDs = Option{
		Name: "muc_room_default_public_jids", Module: "muc", Value: true,
		Why:    "clients know each other by their real JIDs",
		Source: "plugins/muc/mod_muc.lua, whois.lib.lua",
	}

	NoLocking = Option{
		Name: "muc_room_locking", Module: "muc", Value: false,
		Why:    "usher configures each room before anybody is let in",
		Source: "plugins/muc/lock.lib.lua",
	}

	// NotPersistent does not bind Jitsi's plugins, which keep lobbies and the main rooms of breakout rooms so.
	NotPersistent = Option{
		Name: "muc_room_allow_persistent", Module: "muc", Value: false,
		Why:    "no room outlives the people in it",
		Source: "plugins/muc/persistent.lib.lua",
	}

	// NoRegistration: people outside can register in a room, and are its members by that (XEP-0045 §7.10).
	NoRegistration = Option{
		Name: "allow_unaffiliated_register", Module: "muc", Value: false, Default: true,
		Why:    "nobody becomes a member by registering",
		Open:   "anybody can register in a room, and enter as a member",
		Source: "plugins/muc/register.lib.lua",
	}

	// EndsEmpty is not among the lines, because NotPersistent says the same with more force. The doctor names it.
	EndsEmpty = Option{
		Name: "muc_room_default_persistent", Module: "muc", Value: false, Default: true,
		Why:    "a room ends when the last occupant leaves",
		Source: "plugins/muc/mod_muc.lua, persistent.lib.lua",
	}
)

// Rooms returns the options of a MUC service that usher guards. With module, usher's module keeps people out.
func Rooms(module bool) []Option {
	closed := MembersOnly
	if module {
		closed = LobbyOff
	}
	return []Option{OnlyAdmins, closed, PublicJIDs, NoLocking, NotPersistent, NoRegistration}
}

// Breakout returns the options of the MUC service of Jitsi's breakout rooms.
func Breakout() []Option { return []Option{OnlyAdmins, NotPersistent, NoRegistration} }

// Lobby returns the options of the MUC service of Jitsi's lobbies.
func Lobby() []Option { return []Option{OnlyAdmins} }
