package gate

import "slices"

// A Defeat is what makes the gate useless although every [Option] is right.
type Defeat struct {
	// Option is the option of Prosody that does it, Module the Lua module that reads it.
	Option, Module string
	// Set says in words to what it is set then.
	Set string
	// On says where.
	On Place
	// Means says what happens, after the name of the host.
	Means string
	// Instead is the line to write.
	Instead string
	// Source says where that can be read.
	Source string
	// Is reports whether a value, as Lua has it, defeats the gate: a text, a number, true or false, a list []any, or a table
	// map[string]any. It is nil where more than one option decides.
	Is func(value any) bool
}

// Place is a kind of host.
type Place string

// The kinds of hosts.
const (
	OnMUC     Place = "MUC service"
	OnTrusted Place = "virtual host of kind trusted"
	OnAccount Place = "virtual host of kind trusted or service"
	OnService Place = "virtual host of kind service"
)

// createsRooms is what people who are no admins can do by a role.
const createsRooms = "lets people create rooms, or own them, who are no admins"

// Roles are the options by which Prosody 13 takes people for admins of a MUC service who are not among its admins, or lets
// others do what admins do.
var Roles = []Defeat{
	role("host_user_role"),
	role("server_user_role"),
	role("public_user_role"),
	{
		Option: "add_permissions", Module: "authz_internal", On: OnMUC, Means: createsRooms, Instead: "add_permissions = { }",
		Set:    "muc:create-room, muc:automatic-ownership or " + Module + ":enter-open-rooms for another role than prosody:admin and prosody:operator",
		Source: "Prosody 13, plugins/mod_authz_internal.lua, plugins/muc/mod_muc.lua",
		Is:     permits,
	},
}

func role(option string) Defeat {
	return Defeat{
		Option: option, Module: "authz_internal", On: OnMUC, Means: createsRooms, Instead: option + ` = "prosody:guest"`,
		Set:    "a role that is none of prosody:guest, prosody:registered and prosody:member",
		Source: "Prosody 13, plugins/mod_authz_internal.lua",
		Is: func(value any) bool {
			return !slices.Contains([]any{"prosody:guest", "prosody:registered", "prosody:member"}, value)
		},
	}
}

// permits reports whether add_permissions gives a role of people who are no admins what only admins may do.
func permits(value any) bool {
	byRole, _ := value.(map[string]any)
	for role, permissions := range byRole {
		if role == "prosody:admin" || role == "prosody:operator" {
			continue
		}
		list, ok := permissions.([]any)
		if !ok {
			list = []any{permissions}
		}
		if slices.ContainsFunc(list, func(p any) bool {
			return slices.Contains([]any{
				"muc:create-room", "muc:automatic-ownership", Module + ":enter-open-rooms", ModuleAlias + ":enter-open-rooms",
			}, p)
		}) {
			return true
		}
	}
	return false
}

// Checked is the line of a virtual host on which Prosody asks for a password.
const Checked = `authentication = "internal_hashed"`

// MatrixProviders are the providers of authentication that ask a Matrix server whether somebody is in a room there
// (jitsi-contrib mod_auth_hybrid_matrix_token.lua, prosody-auth-matrix-user-verification).
var MatrixProviders = []string{"hybrid_matrix_token", "matrix_user_verification"}

// Providers are what lets anybody log in on a virtual host with people that usher admits because Prosody knows them.
var Providers = []Defeat{
	{
		Option: "authentication", On: OnAccount, Set: "anonymous or jitsi-anonymous", Means: "asks for no password", Instead: Checked,
		Source: "plugins/mod_auth_anonymous.lua; jitsi-meet, mod_auth_jitsi-anonymous.lua",
		Is:     func(value any) bool { return value == "anonymous" || value == "jitsi-anonymous" },
	},
	{
		// The owner of a token need not be a host, but everybody on this kind of virtual host is.
		Option: "authentication", On: OnTrusted, Set: "token, or a provider that asks a Matrix server", Means: "asks for no password", Instead: Checked,
		Source: "jitsi-meet, mod_auth_token.lua; jitsi-contrib, mod_auth_hybrid_matrix_token.lua",
		Is: func(value any) bool {
			provider, ok := value.(string)
			return ok && (provider == "token" || slices.Contains(MatrixProviders, provider))
		},
	},
	{
		Option: "authentication", On: OnAccount, Set: "insecure", Means: "takes any password", Instead: Checked,
		Source: "plugins/mod_auth_insecure.lua",
		Is:     func(value any) bool { return value == "insecure" },
	},
}

// What lets anybody log in there beside the provider.
var (
	EmptyToken = Defeat{
		Option: "allow_empty_token", Module: "auth_token", On: OnService, Set: `true, with authentication = "token"`,
		Means: "people log in without a token", Instead: "allow_empty_token = false",
		Source: "jitsi-meet, mod_auth_token.lua, token/util.lib.lua",
	}
	Registration = Defeat{
		Option: "allow_registration", Module: "register", On: OnAccount, Set: "true, or the module register_ibr is loaded",
		Means: "anybody can register an account", Instead: "allow_registration = false",
		Source: "plugins/mod_register.lua, mod_register_ibr.lua; with mod_invites_register.lua only if registration_invite_only = false",
	}
)

// Defeats returns all of them.
func Defeats() []Defeat {
	return slices.Concat(Roles, Providers, []Defeat{EmptyToken, Registration})
}

// JicofoSetting is what Jicofo's own configuration must say beside usher.
type JicofoSetting struct {
	// Conf is the line of jicofo.conf, Docker that of docker-jitsi-meet's .env, which is empty where the image sets it itself.
	Conf, Docker string
	// Otherwise says what Jicofo does without it, Mend what to do about that.
	Otherwise, Mend string
}

// The settings of Jicofo (jicofo, reference.conf; docker-jitsi-meet, jicofo/rootfs/defaults/jicofo.conf).
var (
	NoAutoOwner = JicofoSetting{
		Conf: "jicofo.conference.enable-auto-owner = false", Docker: "ENABLE_AUTO_OWNER=0",
		Otherwise: "Jicofo makes the first person in a room its owner",
		Mend:      "jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0)",
	}
	NoJicofoAuth = JicofoSetting{
		Conf: "jicofo.authentication.enabled = false", Docker: "JICOFO_ENABLE_AUTH=0",
		Otherwise: "Jicofo decides as well who opens a room",
		Mend:      "take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)",
	}
)

// ClientProxy is the setting by which Jicofo believes usher, at this domain, who asks.
func ClientProxy(domain string) JicofoSetting {
	return JicofoSetting{
		Conf:      "jicofo.xmpp.client.client-proxy = " + Quote(domain),
		Otherwise: "Jicofo does not believe usher who asks",
	}
}
