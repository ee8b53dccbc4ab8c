package prosodytest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/config/gate"
)

// JitsiOptions describe a server as it runs under a Jitsi Meet, for [JitsiConfig]. The zero value is the gate of a stock
// server: only usher and Jicofo create rooms, and rooms are members-only from the start. All virtual hosts have stream
// management (XEP-0198). All hosts are named after Domain:
//
//	meet.example.com             virtual host: token users
//	guest.meet.example.com       virtual host: guests
//	auth.meet.example.com        virtual host with passwords: Jicofo (focus) and the observer
//	conference.meet.example.com  MUC service
//	lobby.meet.example.com       MUC service, if Lobby
//	breakout.meet.example.com    MUC service, if Breakout
//	metadata.meet.example.com    component, if Metadata
//	focus.meet.example.com       component (XEP-0114), or Jitsi's, if ClientProxy
type JitsiOptions struct {
	Domain   string // empty means meet.example.com
	Secret   string // of the component; empty means "secret"
	Password string // of Jicofo and the observer; empty means "secret"

	// Auth and GuestAuth are the providers of authentication of the main virtual host and of the guests'. Empty means
	// Prosody's "anonymous". "token" and "jitsi-anonymous" are Jitsi's: the modules in PluginPaths if they are there,
	// otherwise the stand-ins lua/mod_auth_token.lua and lua/mod_auth_jitsi-anonymous.lua.
	Auth, GuestAuth string

	// AppID and AppSecret are for the provider "token", which verifies HS256. AllowEmptyToken makes it accept connections
	// without a token.
	AppID, AppSecret string
	AllowEmptyToken  bool

	// MeetingID loads lua/mod_prosodytest_meeting_id.lua on the MUC services of main and breakout rooms, a stand-in for
	// Jitsi's muc_meeting_id: nobody enters before the focus, nobody changes the focus's affiliation, and a kick takes the
	// affiliation. It also loads the module of Permissions.
	MeetingID bool

	// Mapper loads lua/mod_prosodytest_domain_mapper.lua, a stand-in for Jitsi's muc_domain_mapper: clients and Jicofo see
	// a tenant's room [acme]room@conference.meet.example.com as room@conference.acme.meet.example.com.
	Mapper bool

	// Permissions loads lua/mod_prosodytest_permissions.lua on the main MUC service, a stand-in for Jitsi's
	// jitsi_permissions: a moderator's own presence lists the moderator's permissions, unless the token does.
	Permissions bool

	// Jibri loads lua/mod_prosodytest_jibri.lua on the virtual hosts of people, a stand-in for Jitsi's filter_iq_jibri: recordings and
	// streams are refused to people without the feature.
	Jibri bool

	// Metadata adds the component metadata.meet.example.com by lua/mod_prosodytest_metadata.lua, a stand-in for Jitsi's
	// room_metadata_component: it sends every occupant what Jitsi's modules have recorded about the room.
	Metadata bool

	// Hibernation is how long a resumable session outlives its connection, in whole seconds. Zero means as long as in
	// docker-jitsi-meet: 60 seconds, and 15 for Jicofo.
	Hibernation time.Duration

	// Open rooms are not members-only from the start, as in Jitsi installs.
	Open bool

	// NotSubscribed leaves out the component's subscription to Jicofo's presence, which an installer makes with
	// "prosodyctl mod_roster_command subscribe focus.meet.example.com focus@auth.meet.example.com".
	NotSubscribed bool

	// ClientProxy makes focus.meet.example.com what it is without usher: lua/mod_prosodytest_client_proxy.lua, a stand-in for
	// Jitsi's client_proxy, passes the requests of clients on to Jicofo.
	ClientProxy bool

	// Lobby loads lua/mod_prosodytest_lobby.lua on the main virtual host, a stand-in for Jitsi's muc_lobby_rooms.
	Lobby bool

	// NoDisplayNameCheck makes the lobby accept clients without a nickname (XEP-0172). Jitsi has no option for this; a module
	// that creates a lobby may set it for one room (room._data.lobby_skip_display_name_check). Here it is set for all rooms.
	NoDisplayNameCheck bool

	// Breakout loads lua/mod_prosodytest_breakout.lua on the main virtual host, a stand-in for Jitsi's
	// muc_breakout_rooms.
	Breakout bool

	// HideAll loads lua/mod_prosodytest_hide_all.lua, a stand-in for Jitsi's muc_hide_all, on all MUC services: a room
	// answers disco#info only to its occupants.
	HideAll bool

	// Modules are additional modules of the main MUC service, BreakoutModules those of the breakout service. PluginPaths are
	// folders in which Prosody looks for modules first.
	Modules, BreakoutModules []string
	PluginPaths              []string

	// Conference is additional Lua for the main MUC service, such as options of Modules; it may override the options above.
	// Global is additional Lua before all hosts.
	Conference, Global string
}

func (o JitsiOptions) domain() string { return cmp.Or(o.Domain, "meet.example.com") }

// Options are the server's options: [JitsiConfig], and the accounts of Jicofo and the observer.
func (o JitsiOptions) Options() Options {
	password := cmp.Or(o.Password, "secret")
	return Options{Config: JitsiConfig(o), Users: map[string]string{
		"focus@auth." + o.domain():    password,
		"observer@auth." + o.domain(): password,
	}}
}

// Jicofo are the options of a Jicofo on such a server.
func (o JitsiOptions) Jicofo() JicofoOptions {
	j := JicofoOptions{
		Host: "auth." + o.domain(), User: "focus", Password: cmp.Or(o.Password, "secret"),
		Proxy: "focus." + o.domain(), Service: "conference." + o.domain(),
	}
	if o.Breakout {
		j.Breakout = "breakout." + o.domain()
	}
	return j
}

// Observer are the options of an observer on such a server.
func (o JitsiOptions) Observer() ObserverOptions {
	return ObserverOptions{Host: "auth." + o.domain(), User: "observer", Password: cmp.Or(o.Password, "secret")}
}

// JitsiConfig is the configuration of such a server. Admins of the MUC services are Jicofo (focus@auth.…), usher in rooms
// (focus@focus.…) and as its bare domain (focus.…), and the observer (observer@auth.…).
func JitsiConfig(o JitsiOptions) string {
	c := jitsiConfig{JitsiOptions: o}
	c.global()
	c.virtualHosts()
	c.services()
	c.components()
	return c.String()
}

// jitsiConfig writes the configuration of a server with these options.
type jitsiConfig struct {
	JitsiOptions
	strings.Builder
}

func (c *jitsiConfig) line(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// host is the name of a host below the domain.
func (c *jitsiConfig) host(prefix string) string { return prefix + "." + c.domain() }

func (c *jitsiConfig) global() {
	c.line("%s", gate.AdminsOwn.Line())
	if len(c.PluginPaths) > 0 {
		c.line("plugin_paths = %s", gate.List(c.PluginPaths...))
	}
	if !c.NotSubscribed {
		c.line("prosodytest_subscriptions = { [%s] = { %s } }", gate.Quote("focus@"+c.host("auth")), gate.Quote(c.host("focus")))
	}
	c.line("muc_mapper_domain_base = %s", gate.Quote(c.domain()))
	c.line("%s", c.Global)

	// No test needs the counters of old sessions on disk, nor more than one old session of a user.
	c.line("storage = { smacks_h = %q }", "memory")
	c.line("smacks_max_old_sessions = 1")
}

func (c *jitsiConfig) virtualHosts() {
	modules := enabled{
		{c.Lobby, "prosodytest_lobby"},
		{c.Breakout, "prosodytest_breakout"},
		{c.Metadata, "prosodytest_identity"},
		{c.Jibri, "prosodytest_jibri"},
	}.list()
	c.virtualHost(c.domain(), cmp.Or(c.Auth, "anonymous"), 60*time.Second, modules)
	c.line("admins = %s", gate.List("focus@"+c.host("auth"))) // usher is no admin here: Jitsi's modules treat it as anybody
	if c.AppID != "" || c.AppSecret != "" {
		c.line("app_id = %s", gate.Quote(c.AppID))
		c.line("app_secret = %s", gate.Quote(c.AppSecret))
	}
	c.line("allow_empty_token = %t", c.AllowEmptyToken)
	c.line("main_muc = %s", gate.Quote(c.host("conference")))
	if c.Lobby {
		c.line("lobby_muc = %s", gate.Quote(c.host("lobby")))
		c.line("prosodytest_lobby_skip_display_name_check = %t", c.NoDisplayNameCheck)
	}
	if c.Breakout {
		c.line("breakout_rooms_muc = %s", gate.Quote(c.host("breakout")))
	}
	c.virtualHost(c.host("guest"), cmp.Or(c.GuestAuth, "anonymous"), 60*time.Second, enabled{{c.Jibri, "prosodytest_jibri"}}.list())
	c.virtualHost(c.host("auth"), "internal_hashed", 15*time.Second, nil)
}

// virtualHost begins a virtual host. The modules are loaded beside the global ones.
func (c *jitsiConfig) virtualHost(name, authentication string, hibernation time.Duration, modules []string) {
	c.line("VirtualHost %s", gate.Quote(name))
	c.line("authentication = %s", gate.Quote(authentication))
	c.line("modules_enabled = %s", gate.List(append(modules, "smacks")...))
	c.line("smacks_hibernation_time = %d", int(cmp.Or(c.Hibernation, hibernation).Seconds()))
	c.line("smacks_max_unacked_stanzas = 5")
}

func (c *jitsiConfig) services() {
	modules := slices.Concat(c.Modules, enabled{
		{c.Permissions, "prosodytest_permissions"},
		{c.Mapper, "prosodytest_domain_mapper"},
		{c.MeetingID, "prosodytest_meeting_id"},
	}.list())
	c.service("conference", modules)
	c.line("%s = %t", gate.MembersOnly.Name, !c.Open)
	c.line("%s", c.Conference)
	if c.Lobby {
		c.service("lobby", nil)
	}
	if c.Breakout {
		c.service("breakout", append(enabled{{c.MeetingID, "prosodytest_meeting_id"}}.list(), c.BreakoutModules...))
	}
}

// service begins a MUC service.
func (c *jitsiConfig) service(prefix string, modules []string) {
	modules = append(modules, enabled{{c.HideAll, "prosodytest_hide_all"}}.list()...)
	c.line("Component %s %q", gate.Quote(c.host(prefix)), "muc")
	c.line("storage = %q", "memory")
	c.line("muc_room_cache_size = 10000") // as in Jitsi; the service creates no more rooms than this
	for _, o := range []gate.Option{gate.OnlyAdmins, gate.PublicJIDs, gate.NoLocking} {
		c.line("%s", o.Line())
	}
	c.line("admins = %s", gate.List("focus@"+c.host("auth"), "focus@"+c.host("focus"), c.host("focus"), "observer@"+c.host("auth")))
	c.line("modules_enabled = %s", gate.List(modules...))
}

func (c *jitsiConfig) components() {
	if c.Metadata {
		c.line("Component %s %q", gate.Quote(c.host("metadata")), "prosodytest_metadata")
		c.line("muc_component = %s", gate.Quote(c.host("conference")))
		if c.Breakout {
			c.line("breakout_rooms_component = %s", gate.Quote(c.host("breakout")))
		}
	}
	if c.ClientProxy {
		c.line("Component %s %q", gate.Quote(c.host("focus")), "prosodytest_client_proxy")
		c.line("target_address = %s", gate.Quote("focus@"+c.host("auth")))
		return
	}
	c.line("Component %s", gate.Quote(c.host("focus")))
	c.line("component_secret = %s", gate.Quote(cmp.Or(c.Secret, "secret")))
}

// enabled are modules, each with the condition on which it is loaded.
type enabled []struct {
	on   bool
	name string
}

func (e enabled) list() []string {
	var names []string
	for _, module := range e {
		if module.on {
			names = append(names, module.name)
		}
	}
	return names
}

// AddBreakout asks the breakout service for a new room, as Jitsi's client does for a moderator, and takes the list of rooms
// that the service then sends. It returns the address of the room. No other breakout room may have this name.
func (c *Client) AddBreakout(ctx context.Context, service, name string) (room string, err error) {
	add := Stanza{Name: "message", Attr: map[string]string{"to": service}, Children: []Stanza{{
		Name: "breakout_rooms", NS: nsClient, Attr: map[string]string{"type": "features/breakout-rooms/add", "subject": name},
	}}}
	if err := c.Send(add.String()); err != nil {
		return "", err
	}
	answer, err := c.Await(ctx, func(s Stanza) bool {
		if s.Name != "message" || s.Attr["from"] != service {
			return false
		}
		if s.Attr["type"] == "error" {
			return true
		}
		for _, r := range breakoutRooms(s) {
			if r.Name == name {
				room = r.JID
			}
		}
		return room != ""
	})
	if err == nil && room == "" {
		// The breakout service has ignored the message, and Prosody has returned it.
		err = fmt.Errorf("%s refuses a new breakout room: %s", service, answer.ErrorCondition())
	}
	return room, err
}

type breakoutRoom struct {
	JID  string
	Name string
}

// breakoutRooms returns the rooms that a message of a breakout service lists.
func breakoutRooms(s Stanza) map[string]breakoutRoom {
	var update struct {
		Type, Event string
		Rooms       map[string]breakoutRoom
	}
	_ = json.Unmarshal([]byte(s.Child("json-message", nsJitmeet).Text), &update)
	if update.Type != "breakout_rooms" || update.Event != "features/breakout-rooms/update" {
		return nil
	}
	return update.Rooms
}
