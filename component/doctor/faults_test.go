package doctor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// fault is one thing that is wrong with a whole installation, and what the doctor reports of it.
type fault struct {
	module, jitsi bool
	old, new      string // a part of the configuration, and what stands there instead
	change        func(*patient)
	jicofo        func(*prosodytest.JicofoOptions)
	behaves       prosodytest.JicofoBehavior
	offline       bool // there is no Jicofo
	want          map[doctor.Status]string
	// says and mend are a part of the report of a check that is not ok.
	says, mend string
}

// Checks that cannot be made.
const (
	inOurs = "room-configure room-stranger room-member room-moderators room-persistent room-withdraw room-end" // without a room of usher's
	rest   = "room-jicofo room-owner room-switch room-born jicofo-auth jicofo-owner " + inOurs                 // without the service
	unseen = "jicofo-auth jicofo-owner"                                                                        // with a Jicofo that opens no room
)

// soon makes Jicofo leave a room that usher cannot end.
func soon(o *prosodytest.JicofoOptions) { o.InitialTimeout = time.Second }

// found checks that each fault alone is named as what it is, with what mends it, and disturbs no other check.
func found(t *testing.T, faults map[string]fault) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.found(t)
		})
	}
}

func (f fault) found(t *testing.T) {
	t.Helper()
	p := admit(t, f.module, f.jitsi, f.old, f.new)
	if !f.offline {
		p.jicofo(func(o *prosodytest.JicofoOptions) {
			if f.jicofo != nil {
				f.jicofo(o)
			}
		}).Behave(f.behaves)
	}
	if f.change != nil {
		f.change(p)
	}
	if strings.Contains(f.want["fail"], "room-jicofo") {
		p.o.Opening = 3 * time.Second // there is no answer to wait for
	}
	got := p.examined()
	p.found(got, f.want)
	if f.says != "" && !slices.ContainsFunc(got, func(c doctor.Check) bool {
		return c.Status != doctor.OK && strings.Contains(c.Says, f.says) && strings.Contains(c.Mend, f.mend)
	}) {
		t.Errorf("nothing says %q, to be mended by %q: %+v", f.says, f.mend, got)
	}
	p.clean()
}

func TestConnectionFaults(t *testing.T) {
	found(t, map[string]fault{
		"nothing listens": {
			change: func(p *patient) { p.Server.Stop() },
			want:   map[doctor.Status]string{"fail": "port", "skip": after("port")},
			says:   "connection refused", mend: "see whether Prosody is running (systemctl status prosody), and start it; if it is running: component_ports = { ",
		},
		"wrong secret": {
			change: func(p *patient) { p.o.Secret = []byte(strings.Repeat("other", 10)) },
			want:   map[doctor.Status]string{"fail": "handshake", "skip": after("handshake")},
			says:   "refuses the secret",
			mend:   `write Prosody's lines again (usher config prosody --output FILE), and restart Prosody: component_secret below Component "focus.meet.example.com" must be`,
		},
		"no component": {
			old: `Component "focus.meet.example.com"`, new: `Component "other.meet.example.com"`,
			want: map[doctor.Status]string{"fail": "handshake", "skip": after("handshake")},
			says: "no component focus.meet.example.com",
			mend: `(usher config prosody --output FILE), and restart Prosody: they have Component "focus.meet.example.com"`,
		},
		"usher runs": {
			change: func(p *patient) { p.Component(p.t, domain, secret) },
			want:   map[doctor.Status]string{"fail": "conflict", "skip": after("conflict")},
			says:   "another component is connected", mend: "stop the running usher",
		},
		"a rival at once": {
			old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com"; component_conflict_resolve = "kick_old"`,
			change: func(p *patient) { p.on["clock"] = p.rival },
			want:   map[doctor.Status]string{"fail": "stays", "skip": strings.TrimSuffix(after("clock"), " stays")},
			says:   "not examined, because the server is gone",
		},
		"a rival later": {
			old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com"; component_conflict_resolve = "kick_old"`,
			change: func(p *patient) { p.o.Watch = time.Minute; p.on["breakout"] = p.rival },
			want:   map[doctor.Status]string{"fail": "stays"},
			says:   "two ushers would fight", mend: "run one usher only",
		},
		"kick_old": { // the one that was there is displaced, and the examination goes on
			old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com"; component_conflict_resolve = "kick_old"`,
			change: func(p *patient) { p.rival() },
		},
		"a standby": {
			old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com"; component_conflict_resolve = "kick_old"`,
			change: func(p *patient) { p.o.Shared = true },
		},
		"a standby that could not take over": {
			change: func(p *patient) { p.o.Shared = true },
			want:   map[doctor.Status]string{"fail": "standby"},
			says:   "the server refuses a second connection", mend: `component_conflict_resolve = "kick_old"`,
		},
		"a short component secret": {
			old: secret, new: "twelve bytes",
			want: map[doctor.Status]string{"warn": "secret"},
			says: "has 12 bytes", mend: "openssl rand -hex 32",
		},
	})
}

func TestServerFaults(t *testing.T) {
	found(t, map[string]fault{
		"no such vhost": {
			old: `VirtualHost "guest.meet.example.com"`, new: `VirtualHost "guests.meet.example.com"`,
			want: map[doctor.Status]string{"fail": "guest-vhost"},
			says: "does not serve", mend: `VirtualHost "guest.meet.example.com"`,
		},
		"the version is not shown": {
			old: `"version", "time"`, new: `"time"`,
			want: map[doctor.Status]string{"warn": "version"},
			says: "version cannot be seen", mend: `"version" in modules_enabled`,
		},
		"a changelog without the fix": {
			change: func(p *patient) {
				changelog(p.t, p.o.Changelog, "prosody ("+p.Version()+"-1) unstable\n\n  * CVE-2026-43507 fix\n")
			},
			want: map[doctor.Status]string{"warn": "version"},
			says: "CVE-2026-43506, CVE-2026-43507", mend: "upgrade Prosody to ",
		},
		"a clock is a little wrong": {
			change: func(p *patient) { p.o.Now = func() time.Time { return time.Now().Add(30 * time.Second) } },
			want:   map[doctor.Status]string{"warn": "clock"},
			says:   "differ by", mend: "time server",
		},
		"a clock is an hour late": {
			change: func(p *patient) { p.o.Now = func() time.Time { return time.Now().Add(-time.Hour) } },
			want:   map[doctor.Status]string{"fail": "clock"},
			says:   "differ by", mend: "time server",
		},
		"the clock is not shown": {
			old: `"version", "time"`, new: `"version"`,
			want: map[doctor.Status]string{"warn": "clock"},
			says: "cannot be seen", mend: `"time" in modules_enabled`,
		},
		"the keys cannot be fetched": {
			change: func(p *patient) { p.o.Sources[0] = listed(nil, errors.New("https://keys.example.com: 503")) },
			want:   map[doctor.Status]string{"fail": "keys"},
			says:   "https://keys.example.com: 503", mend: "jwks_url",
		},
		"a key is left out": {
			change: func(p *patient) {
				p.o.Sources[0] = listed([]auth.Key{{}}, nil, errors.New(`kid "k2": an RSA key of 1024 bits`))
			},
			want: map[doctor.Status]string{"warn": "keys"},
			says: `1 key is ready; left out: kid "k2"`,
		},
		"the keys are not listed": {
			change: func(p *patient) { p.o.Sources[0] = listed(nil, nil); p.o.Sources[0].Unlisted = true },
			want:   map[doctor.Status]string{},
		},
		"a short shared secret": {
			change: func(p *patient) { p.o.Issuers[0].Secrets = []int{40, 8} },
			want:   map[doctor.Status]string{"warn": "app-secret"},
			says:   "has 8 bytes", mend: "openssl rand -hex 32",
		},
	})
}

func TestRightsFaults(t *testing.T) {
	found(t, map[string]fault{
		"anybody creates rooms": {
			old: "restrict_room_creation = true", new: "restrict_room_creation = false",
			want: map[doctor.Status]string{"fail": "creation"},
			says: "anybody may create rooms", mend: `restrict_room_creation = true below Component "conference.meet.example.com" "muc"`,
		},
		"no line says who creates rooms": {
			old: "restrict_room_creation = true", new: "",
			want: map[doctor.Status]string{"fail": "creation"},
			says: "anybody may create rooms", mend: `restrict_room_creation = true below Component "conference.meet.example.com" "muc"`,
		},
		"anybody creates rooms, and usher is no admin": {
			old:  `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } -- usher, in rooms` + "\n  restrict_room_creation = true",
			want: map[doctor.Status]string{"fail": "creation room-owner", "skip": "jicofo-owner"}, jicofo: soon,
			says: "usher does not own the rooms that Jicofo opens (forbidden)", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below`,
		},
		"anybody creates rooms, usher is no admin, and Jicofo is away": {
			old:  `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } -- usher, in rooms` + "\n  restrict_room_creation = true",
			want: map[doctor.Status]string{"fail": "creation jicofo room-owner", "warn": "room-jicofo", "skip": unseen}, offline: true,
			says: "owns only the rooms that it created", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below`,
		},
		"the parent's people create rooms": { // which cannot be seen, and the check says so
			old: "restrict_room_creation = true", new: `restrict_room_creation = "local"`,
		},
		"nobody is admin": {
			old: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`, new: "",
			want: map[doctor.Status]string{"fail": "room-create room-jicofo", "skip": "room-owner room-born " + unseen + " " + inOurs},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below Component "conference.meet.example.com" "muc"`,
		},
		"another is admin": {
			old: `admins = { "focus@focus.meet.example.com", `, new: `admins = { `, jicofo: soon,
			want: map[doctor.Status]string{"fail": "room-create room-owner", "skip": "room-born jicofo-owner " + inOurs},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com"`,
		},
		"admins own no rooms": {
			old: "component_admins_as_room_owners = true", new: "component_admins_as_room_owners = false", jicofo: soon,
			want: map[doctor.Status]string{"fail": "room-owner", "skip": "jicofo-owner"},
			says: "usher does not own the rooms that Jicofo opens (forbidden)", mend: "component_admins_as_room_owners = true in the global section",
		},
		"admins own no rooms, and Jicofo is away": {
			old: "component_admins_as_room_owners = true", new: "component_admins_as_room_owners = false", offline: true,
			want: map[doctor.Status]string{"fail": "jicofo room-owner", "warn": "room-jicofo", "skip": unseen},
			says: "owns only the rooms that it created", mend: "component_admins_as_room_owners = true in the global section",
		},
		"usher cannot switch the lobby on": {
			module: true, old: `"focus@` + domain + `", "` + domain + `", `, new: `"focus@` + domain + `", `,
			want: map[doctor.Status]string{"fail": "room-switch"},
			says: "focus.meet.example.com does not own the rooms",
			mend: `admins = { "focus@focus.meet.example.com", "focus.meet.example.com", "focus@auth.meet.example.com" } below`,
		},
	})
}

func TestRoomFaults(t *testing.T) {
	found(t, map[string]fault{
		"no MUC service": {
			old: `Component "conference.meet.example.com"`, new: `Component "rooms.meet.example.com"`,
			want: map[doctor.Status]string{"fail": "service", "skip": "creation room-create " + rest},
			says: "no such MUC service", mend: `Component "conference.meet.example.com" "muc"`,
		},
		"the service is none": {
			change: func(p *patient) { p.o.Services = p.o.VHosts[:1] },
			want:   map[doctor.Status]string{"fail": "service", "skip": "creation room-create " + rest},
			says:   "no MUC service", mend: `Component "meet.example.com" "muc"`,
		},
		"rooms are born open": {
			old: "muc_room_default_members_only = true", new: "",
			want: map[doctor.Status]string{"fail": "room-born"},
			says: "open to everybody", mend: `muc_room_default_members_only = true below Component "conference.meet.example.com" "muc"`,
		},
		"rooms are born locked": { // usher unlocks them before anybody is told
			old: "muc_room_locking = false", new: "muc_room_locking = true",
		},
		"rooms are born with hidden JIDs": { // and show them when usher has configured them
			old: "muc_room_default_public_jids = true", new: "",
		},
		"rooms are born persistent": {
			old: "muc_room_locking = false", new: "muc_room_locking = false; muc_room_default_persistent = true",
			want: map[doctor.Status]string{"warn": "room-end"},
			says: "stays when its last occupant has left", mend: "muc_room_default_persistent = false",
		},
		"another module refuses members": {
			old: "muc_room_default_members_only = true", new: `muc_room_default_members_only = true; modules_enabled = { "refuses" }`,
			want: map[doctor.Status]string{"fail": "room-member", "warn": "room-stranger jicofo-owner", "skip": "room-withdraw"},
			says: "a member cannot enter (not-allowed)",
		},
		"the module is not loaded": {
			module: true, old: `modules_enabled = { "usher" }`, new: "",
			want: map[doctor.Status]string{"fail": "room-stranger", "skip": "module"},
			says: "mod_usher is not loaded on conference.meet.example.com: anybody can enter",
			mend: `add "usher" to modules_enabled below Component "conference.meet.example.com" "muc"`,
		},
		"the module is not found": {
			module: true, old: `plugin_paths = {`, new: `elsewhere = {`,
			want: map[doctor.Status]string{"fail": "room-stranger", "skip": "module", "warn": "breakout-module"},
			says: "mod_usher is not loaded", mend: "plugin_paths",
		},
		"the module is on the other service": {
			module: true, old: `modules_enabled = { "usher" }; usher_component = "focus.meet.example.com"`,
			want: map[doctor.Status]string{"fail": "room-stranger", "skip": "module"},
			says: "mod_usher is not loaded", mend: "modules_enabled",
		},
		"the module does not know usher": {
			module: true, old: `; usher_component = "focus.meet.example.com"`, new: "",
			want: map[doctor.Status]string{"warn": "module breakout-module"},
			says: "usher's module does not know usher (service-unavailable): it is older than this usher, or usher_component is not focus.meet.example.com",
			mend: `usher_component = "focus.meet.example.com" below Component "conference.meet.example.com" "muc"`,
		},
		"the module knows another usher": {
			module: true, old: `usher_component = "focus.meet.example.com"`, new: `usher_component = "focus.example.com"`,
			want: map[doctor.Status]string{"warn": "module breakout-module"},
			says: "usher_component is not focus.meet.example.com", mend: "usher config prosody --output FILE and --module DIR",
		},
		"the module by its former name": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "muc_affiliated_only" }`,
		},
		"the module is older": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher", "prosodytest_usher" }; prosodytest_usher = "0"`,
			want: map[doctor.Status]string{"warn": "module"},
			says: `usher's module has version "0", which is older than this usher: it knows 1`, mend: "write usher's module again",
		},
		"the module has no version": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher", "prosodytest_usher" }; prosodytest_usher = "x"`,
			want: map[doctor.Status]string{"warn": "module"},
			says: `usher's module has version "x", which is older than this usher: it knows 1`, mend: "write usher's module again",
		},
		"the module is newer": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher", "prosodytest_usher" }; prosodytest_usher = "2"`,
			want: map[doctor.Status]string{"warn": "module"},
			says: "usher's module has version 2, which is newer than this usher: it knows 1", mend: "upgrade usher",
		},
		"the module does not answer": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher", "prosodytest_usher" }; prosodytest_usher = "silent"`,
			want: map[doctor.Status]string{"warn": "module"},
			says: "usher's module does not answer usher (no answer)", mend: "restart Prosody",
		},
		"the module does not tell": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher", "prosodytest_usher" }; prosodytest_usher = "1"`,
			change: func(p *patient) { p.o.Telling = time.Second },
			want:   map[doctor.Status]string{"warn": "module"},
			says:   "usher's module, version 1, does not tell of all rooms within 1s", mend: "restart Prosody",
		},
		"the lobby begins switched on": {
			module: true, old: `modules_enabled = { "usher" }`, new: `modules_enabled = { "usher" }; muc_room_default_members_only = true`,
			want: map[doctor.Status]string{"warn": "room-born"},
			says: "has the lobby switched on", mend: "muc_room_default_members_only = false below Component",
		},
		"the module recommends itself": {
			want: map[doctor.Status]string{"warn": "lobby-gate"},
			says: "refuses everybody without a display name", mend: "rooms.enforcement: module",
		},
		"no lobby": {
			old: `Component "lobby.meet.example.com" "muc"`, new: "",
			want: map[doctor.Status]string{"fail": "lobby", "skip": "lobby-room"},
			says: "no such MUC service", mend: `Component "lobby.meet.example.com" "muc"`,
		},
		"no breakout rooms": {
			old: `Component "breakout.meet.example.com" "muc"`, new: "",
			want: map[doctor.Status]string{"fail": "breakout"},
			says: "no such MUC service", mend: `Component "breakout.meet.example.com" "muc"`,
		},
	})
}

func TestJicofoFaults(t *testing.T) {
	found(t, map[string]fault{
		"Jicofo's presence is not shown": {
			old: "prosodytest_subscriptions", new: "no_subscriptions",
			want: map[doctor.Status]string{"fail": "jicofo", "skip": unseen},
			says: "may not see", mend: "stop Jicofo and Prosody, then: prosodyctl mod_roster_command subscribe focus.meet.example.com focus@auth.meet.example.com",
		},
		"Jicofo shows its presence to everybody who asks": {
			old: "prosodytest_subscriptions", new: "no_subscriptions", jicofo: func(o *prosodytest.JicofoOptions) { o.AcceptSubscriptions = true },
		},
		"Jicofo is offline": {
			offline: true,
			want:    map[doctor.Status]string{"fail": "jicofo", "skip": unseen},
			says:    "not online, and did not come within 100ms", mend: "start Jicofo",
		},
		"Jicofo is offline, beside Jitsi's plugins": { // what they hide of it is no fault
			module: true, jitsi: true, offline: true,
			want: map[doctor.Status]string{"fail": "jicofo", "warn": "room-jicofo room-owner", "skip": unseen},
			says: "shows only while it is online",
		},
		"Jicofo is no admin": {
			old: `, "focus@auth.meet.example.com" }`, new: " }",
			want: map[doctor.Status]string{"fail": "room-jicofo", "skip": unseen},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below Component`,
		},
		"Jicofo is no admin, beside Jitsi's plugins": {
			jitsi: true, old: `, "focus@auth.meet.example.com" }`, new: " }",
			want: map[doctor.Status]string{"fail": "room-jicofo", "warn": "room-owner", "skip": unseen},
			says: "it cannot enter rooms", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below Component`,
		},
		"Jicofo has no account": {
			change: func(p *patient) { p.o.Jicofo = jid.MustParse("other@auth.meet.example.com") },
			want:   map[doctor.Status]string{"fail": "room-jicofo jicofo", "skip": unseen},
			says:   "no such account", mend: "prosodyctl register other auth.meet.example.com PASSWORD",
		},
		"Jicofo is elsewhere": {
			change: func(p *patient) { p.o.Jicofo = jid.MustParse("focus@nowhere.example.com") },
			want:   map[doctor.Status]string{"fail": "room-jicofo jicofo", "skip": unseen},
			says:   "is refused", mend: `VirtualHost "nowhere.example.com"`,
		},
		"Jicofo does not answer": {
			behaves: prosodytest.JicofoBehavior{Silent: true},
			want:    map[doctor.Status]string{"fail": "room-jicofo", "skip": unseen},
			says:    "does not answer", mend: "Jicofo's log",
		},
		"Jicofo refuses": {
			behaves: prosodytest.JicofoBehavior{Error: "internal-server-error"},
			want:    map[doctor.Status]string{"fail": "room-jicofo", "skip": unseen},
			says:    "does not open a room (internal-server-error)", mend: "Jicofo's log",
		},
		"Jicofo is not ready": {
			behaves: prosodytest.JicofoBehavior{NotReady: true},
			want:    map[doctor.Status]string{"fail": "room-jicofo", "skip": "jicofo-owner"},
			says:    "is not ready", mend: "Jicofo's log",
		},
		"Jicofo authenticates people": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "meet.example.com" },
			want:   map[doctor.Status]string{"fail": "jicofo-auth", "skip": "jicofo-owner"},
			says:   "makes them owners", mend: "JICOFO_ENABLE_AUTH=0), and restart Jicofo; or jicofo.enforce_roles: true",
		},
		"Jicofo authenticates people, and usher takes ownership back": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "meet.example.com" },
			change: func(p *patient) { p.o.EnforceRoles = true },
			want:   map[doctor.Status]string{"warn": "jicofo-auth", "skip": "jicofo-owner"},
			says:   "usher takes ownership back", mend: "JICOFO_ENABLE_AUTH=0",
		},
		"Jicofo authenticates others": {
			jitsi: true, jicofo: func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "users.example.com" },
			want: map[doctor.Status]string{"fail": "jicofo-auth", "warn": "room-jicofo room-owner", "skip": "jicofo-owner"},
			says: "opens no room for people of meet.example.com", mend: "JICOFO_ENABLE_AUTH=0",
		},
		"Jicofo elects an owner": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			want:   map[doctor.Status]string{"fail": "jicofo-owner"},
			says:   "makes the first newcomer an owner", mend: "ENABLE_AUTO_OWNER=0), and restart Jicofo; or jicofo.enforce_roles: true",
		},
		"Jicofo elects an owner, beside Jitsi's plugins": {
			module: true, jitsi: true, jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			want: map[doctor.Status]string{"fail": "jicofo-owner"},
			says: "makes the first newcomer an owner", mend: "ENABLE_AUTO_OWNER=0",
		},
		"Jicofo elects an owner, and usher takes ownership back": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			change: func(p *patient) { p.o.EnforceRoles = true },
			want:   map[doctor.Status]string{"warn": "jicofo-owner"},
			says:   "usher takes ownership back", mend: "ENABLE_AUTO_OWNER=0",
		},
	})
}
