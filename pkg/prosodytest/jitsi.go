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

// JitsiOptions describe a server as it is under a Jitsi Meet, for [JitsiConfig]. The zero value is the gate of a stock
// server: rooms that are members-only from the first moment on, created by usher or Jicofo alone. All virtual hosts have
// stream management (XEP-0198). All hosts are named after Domain:
//
//	meet.example.com             virtual host: token users
//	guest.meet.example.com       virtual host: guests
//	auth.meet.example.com        virtual host with passwords: Jicofo (focus) and the observer
//	conference.meet.example.com  MUC service
//	lobby.meet.example.com       MUC service, if Lobby
//	breakout.meet.example.com    MUC service, if Breakout
//	focus.meet.example.com       component (XEP-0114)
type JitsiOptions struct {
	Domain   string // empty means meet.example.com
	Secret   string // of the component; empty means "secret"
	Password string // of Jicofo and the observer; empty means "secret"

	// Auth and GuestAuth are the providers of authentication of the main virtual host and of that of guests. Empty means
	// Prosody's "anonymous". "token" and "jitsi-anonymous" are Jitsi's, for which lua/mod_auth_token.lua and
	// lua/mod_auth_jitsi-anonymous.lua stand in; they are read from PluginPaths if they are there.
	Auth, GuestAuth string

	// AppID and AppSecret are those of the provider "token", which verifies HS256. AllowEmptyToken has it let in those
	// without a token.
	AppID, AppSecret string
	AllowEmptyToken  bool

	// MeetingID loads lua/mod_prosodytest_meeting_id.lua on the MUC services of main and breakout rooms, a stand-in for
	// Jitsi's muc_meeting_id: nobody enters before the focus, nobody changes what it is, and a kick takes the affiliation.
	// It loads what Permissions loads, too.
	MeetingID bool

	// Mapper loads lua/mod_prosodytest_domain_mapper.lua, a stand-in for Jitsi's muc_domain_mapper: to clients and Jicofo a
	// tenant's room [acme]room@conference.meet.example.com is room@conference.acme.meet.example.com.
	Mapper bool

	// Permissions loads lua/mod_prosodytest_permissions.lua on the main MUC service, a stand-in for Jitsi's
	// jitsi_permissions: the own presence tells moderators what they may, unless their token does.
	Permissions bool

	// Metadata adds the component metadata.meet.example.com by lua/mod_prosodytest_metadata.lua, a stand-in for Jitsi's
	// room_metadata_component: everybody is sent what Jitsi's modules have written down of the room.
	Metadata bool

	// Hibernation is how long a session that can be resumed outlives its connection, in whole seconds. Zero means as long as
	// in docker-jitsi-meet: 60 seconds, and 15 for Jicofo.
	Hibernation time.Duration

	// Open rooms are not members-only from the start. This is what Jitsi installs have.
	Open bool

	// NotSubscribed leaves the component without the subscription to Jicofo's presence that an installer gives it with
	// "prosodyctl mod_roster_command subscribe focus.meet.example.com focus@auth.meet.example.com".
	NotSubscribed bool

	// Lobby loads lua/mod_prosodytest_lobby.lua on the main virtual host, a stand-in for Jitsi's muc_lobby_rooms.
	Lobby bool

	// NoDisplayNameCheck has the lobby let in those without a nickname as in XEP-0172. Jitsi has no option for this. Modules
	// that make a lobby may say so of a room (room._data.lobby_skip_display_name_check); here one says so of all rooms.
	NoDisplayNameCheck bool

	// Breakout loads lua/mod_prosodytest_breakout.lua on the main virtual host, a stand-in for Jitsi's
	// muc_breakout_rooms.
	Breakout bool

	// HideAll loads lua/mod_prosodytest_hide_all.lua, a stand-in for Jitsi's muc_hide_all, on all MUC services: a room
	// says nothing of itself (disco#info) to those outside.
	HideAll bool

	// Modules are loaded on the main MUC service, too; Prosody looks for them in the folders PluginPaths first.
	Modules     []string
	PluginPaths []string

	// Conference is more Lua for the main MUC service, such as options of Modules. It may say again, and otherwise, what
	// is said here. What comes before all hosts is Global.
	Conference, Global string
}

func (o JitsiOptions) domain() string { return cmp.Or(o.Domain, "meet.example.com") }

// Options are those of the server: [JitsiConfig], and the accounts of Jicofo and the observer.
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

// JitsiConfig is the configuration for such a server. Admins of the MUC services are Jicofo (focus@auth.…), usher in rooms
// (focus@focus.…) and as its bare domain (focus.…), and the observer (observer@auth.…).
func JitsiConfig(o JitsiOptions) string {
	domain := o.domain()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	list := func(all []string) string {
		for i := range all {
			all[i] = quote(all[i])
		}
		return "{ " + strings.Join(all, ", ") + " }"
	}
	muc := func(prefix string, modules ...string) {
		if o.HideAll {
			modules = append(modules, "prosodytest_hide_all")
		}
		line("Component %s %q", quote(prefix+"."+domain), "muc")
		line("storage = %q", "memory")
		line("muc_room_cache_size = 10000") // as Jitsi has it; beyond it, no room is created
		line("%s", gate.OnlyAdmins.Line())
		line("%s", gate.PublicJIDs.Line())
		line("%s", gate.NoLocking.Line())
		line("admins = %s", list([]string{"focus@auth." + domain, "focus@focus." + domain, "focus." + domain, "observer@auth." + domain}))
		line("modules_enabled = %s", list(modules))
	}

	line("%s", gate.AdminsOwn.Line())
	if len(o.PluginPaths) > 0 {
		line("plugin_paths = %s", list(slices.Clone(o.PluginPaths)))
	}
	if !o.NotSubscribed {
		line("prosodytest_subscriptions = { [%s] = { %s } }", quote("focus@auth."+domain), quote("focus."+domain))
	}
	line("muc_mapper_domain_base = %s", quote(domain))
	line("%s", o.Global)

	// Old counters of sessions are of no use without the disk, and there is one session for each user at most.
	line("storage = { smacks_h = %q }", "memory")
	vhost := func(name, authentication string, hibernation time.Duration, modules ...string) {
		line("VirtualHost %s", quote(name))
		line("authentication = %s", quote(authentication))
		line("modules_enabled = %s", list(append(modules, "smacks")))
		line("smacks_hibernation_time = %d", int(cmp.Or(o.Hibernation, hibernation).Seconds()))
		line("smacks_max_unacked_stanzas = 5")
		line("smacks_max_old_sessions = 1")
	}

	var modules []string // of the main virtual host, on top of the global ones
	if o.Lobby {
		modules = append(modules, "prosodytest_lobby")
	}
	if o.Breakout {
		modules = append(modules, "prosodytest_breakout")
	}
	if o.Metadata {
		modules = append(modules, "prosodytest_identity")
	}
	vhost(domain, cmp.Or(o.Auth, "anonymous"), 60*time.Second, modules...)
	line("admins = %s", list([]string{"focus@auth." + domain})) // to Jitsi's modules there, usher is anybody
	if o.AppID != "" || o.AppSecret != "" {
		line("app_id = %s", quote(o.AppID))
		line("app_secret = %s", quote(o.AppSecret))
	}
	line("allow_empty_token = %t", o.AllowEmptyToken)
	line("main_muc = %s", quote("conference."+domain))
	if o.Lobby {
		line("lobby_muc = %s", quote("lobby."+domain))
		line("prosodytest_lobby_skip_display_name_check = %t", o.NoDisplayNameCheck)
	}
	if o.Breakout {
		line("breakout_rooms_muc = %s", quote("breakout."+domain))
	}
	vhost("guest."+domain, cmp.Or(o.GuestAuth, "anonymous"), 60*time.Second)
	vhost("auth."+domain, "internal_hashed", 15*time.Second)

	modules = slices.Clone(o.Modules)
	if o.Permissions {
		modules = append(modules, "prosodytest_permissions")
	}
	var meetingID []string
	if o.MeetingID {
		meetingID = append(meetingID, "prosodytest_meeting_id")
	}
	if o.Mapper {
		modules = append(modules, "prosodytest_domain_mapper")
	}
	muc("conference", append(modules, meetingID...)...)
	line("%s = %t", gate.MembersOnly.Name, !o.Open)
	line("%s", o.Conference)
	if o.Lobby {
		muc("lobby")
	}
	if o.Breakout {
		muc("breakout", meetingID...)
	}
	if o.Metadata {
		line("Component %s %q", quote("metadata."+domain), "prosodytest_metadata")
		line("muc_component = %s", quote("conference."+domain))
		if o.Breakout {
			line("breakout_rooms_component = %s", quote("breakout."+domain))
		}
	}
	line("Component %s", quote("focus."+domain))
	line("component_secret = %s", quote(cmp.Or(o.Secret, "secret")))
	return b.String()
}

// AddBreakout asks the breakout service for a new room, as Jitsi's client does for a moderator, and takes the new list of
// rooms that the service sends. It returns the address of the room. The name must be new.
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
		// The breakout service has ignored the message, and Prosody says that nobody has taken it.
		err = fmt.Errorf("%s refuses a new breakout room: %s", service, answer.ErrorCondition())
	}
	return room, err
}

type breakoutRoom struct {
	JID  string
	Name string
}

// breakoutRooms are the rooms in a message of a breakout service.
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
