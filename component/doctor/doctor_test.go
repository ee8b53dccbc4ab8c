package doctor_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = "focus.meet.example.com"
	service = "conference.meet.example.com"
	jicofo  = "focus@auth.meet.example.com"
)

var secret = strings.Repeat("k4", 20)

// whole is the demo's configuration and what the doctor can examine beside it: nothing is wrong with it.
func whole(t *testing.T) string {
	t.Helper()
	demo, err := os.ReadFile("../../cmd/usher/demo/prosody.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	return `modules_enabled = { "roster", "saslauth", "disco", "ping", "version", "time" }` + "\n" +
		strings.NewReplacer("{component.secret}", secret, `admins = { "focus@`+domain+`" }`, `admins = { "focus@`+domain+`", "`+jicofo+`" }`).Replace(string(demo)) + `
VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"
Component "lobby.meet.example.com" "muc"
Component "breakout.meet.example.com" "muc"
`
}

// withModule is the same where the module keeps strangers out, and usher switches the lobby on.
func withModule(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../../config/prosody/module")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("plugin_paths = { %q }\n", folder) + strings.NewReplacer(
		"muc_room_default_members_only = true", `modules_enabled = { "muc_affiliated_only" }`,
		`admins = { "focus@`+domain+`", `, `admins = { "focus@`+domain+`", "`+domain+`", `,
	).Replace(whole(t))
}

// patient is a private Prosody, and what the doctor is told about it.
type patient struct {
	*prosodytest.Server
	t *testing.T
	o doctor.Options
	// secret is what the server has.
	secret string
	// on are called when the check is reported.
	on map[string]func()
}

// admit starts a Prosody with the configuration, in which old is replaced by new.
func admit(t *testing.T, module bool, old, new string) *patient {
	t.Helper()
	config := whole(t)
	if module {
		config = withModule(t)
	}
	if !strings.Contains(config, old) {
		t.Fatalf("%q is not in the configuration", old)
	}
	p := &patient{t: t, secret: secret, on: make(map[string]func())}
	if old == secret {
		p.secret = new
	}
	p.Server = prosodytest.Start(t, prosodytest.Options{
		Config: strings.ReplaceAll(config, old, new),
		Users:  map[string]string{jicofo: "pass"},
	})
	p.o = doctor.Options{
		Server: p.ComponentAddr, Domain: jid.MustParse(domain), Secret: []byte(p.secret),
		Services: []jid.JID{jid.MustParse(service)},
		VHosts:   []jid.JID{jid.MustParse("meet.example.com"), jid.MustParse("guest.meet.example.com")},
		Lobby:    jid.MustParse("lobby.meet.example.com"), Breakout: jid.MustParse("breakout.meet.example.com"),
		Jicofo: jid.MustParse(jicofo),
		Module: module, Autostart: module,
		Issuers:   []doctor.Issuer{{Name: "my_app", Secrets: []int{40}}},
		Sources:   []doctor.Source{listed([]auth.Key{{ID: "k1"}, {}}, nil)},
		Leeway:    time.Minute,
		Changelog: filepath.Join(t.TempDir(), "changelog.gz"),
	}
	// Debian's 0.12 has the fixes; a 13.0.1 that was unpacked somewhere has not.
	if strings.HasPrefix(p.Version(), "0.12.") {
		changelog(t, p.o.Changelog, "prosody ("+p.Version()+"-1+deb12u1) bookworm-security; urgency=medium\n\n  * CVE-2026-43506 fix\n  * CVE-2026-43507 fix\n")
	}
	return p
}

// advisory is the status of the check "version".
func (p *patient) advisory() doctor.Status {
	if strings.HasPrefix(p.Version(), "13.0.") && p.Version() < "13.0.5" {
		return doctor.Warn
	}
	return doctor.OK
}

func changelog(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// listed is a source of keys that has these.
func listed(keys []auth.Key, err error, skipped ...error) doctor.Source {
	return doctor.Source{Name: "my_app", Check: func(context.Context) ([]auth.Key, []error, error) { return keys, skipped, err }}
}

// What there is of Jicofo.
const (
	online  = ""       // as it should be
	unseen  = "unseen" // we are not subscribed to its presence
	offline = "offline"
	absent  = "absent"
)

// jicofo has Jicofo log in, and its presence shown to us.
func (p *patient) jicofo(state string) {
	p.t.Helper()
	if state == absent {
		return
	}
	c := p.Client(p.t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "focus", Password: "pass", Resource: "focus"})
	if state != unseen {
		usher := p.Component(p.t, domain, p.secret)
		usher.Sends(`<presence type='subscribe' from='` + domain + `' to='` + jicofo + `'/>`)
		usher.Receives(`<presence type='unavailable' from='` + jicofo + `'/>`) // it has been received
		c.Sends(`<presence type='subscribed' to='` + domain + `'/>`)
		usher.Receives(`<presence type='subscribed' from='` + jicofo + `'/>`)
		if err := usher.Close(); err != nil {
			p.t.Error(err)
		}
	}
	if state == offline {
		if err := c.Close(); err != nil {
			p.t.Error(err)
		}
		return
	}
	c.Sends(`<presence/>`)
	if err := c.Sync(p.t.Context()); err != nil {
		p.t.Error(err)
	}
}

// rival connects as we do.
func (p *patient) rival() { p.Component(p.t, domain, p.secret) }

// examined runs the doctor.
func (p *patient) examined() []doctor.Check {
	p.t.Helper()
	var all []doctor.Check
	err := doctor.Run(p.t.Context(), p.o, func(c doctor.Check) {
		all = append(all, c)
		if f := p.on[c.Code]; f != nil {
			f()
		}
	})
	if err != nil {
		p.t.Error(err)
	}
	return all
}

// order is what is examined, in order.
var order = strings.Fields(`secret app-secret keys port handshake conflict answers vhost guest-vhost version clock service creation
	room-create room-owner room-jicofo room-switch room-born room-configure room-stranger room-member room-moderators room-withdraw room-end
	lobby lobby-room lobby-gate breakout jicofo stays`)

// after are the checks that follow a check.
func after(code string) string {
	return strings.Join(order[slices.Index(order, code)+1:], " ")
}

// found compares the whole table with what is expected: everything ok, but what is named.
func (p *patient) found(got []doctor.Check, want map[doctor.Status]string) {
	p.t.Helper()
	var table, wanted []string
	for _, c := range got {
		code := c.Code
		if c.Of == "guest.meet.example.com" {
			code = "guest-vhost"
		}
		table = append(table, string(c.Status)+" "+code)
		if (c.Status == doctor.OK || c.Status == doctor.Skip) && c.Mend != "" {
			p.t.Errorf("%+v mends what is not broken", c)
		}
	}
	for _, code := range order {
		status := doctor.OK
		switch code {
		case "version":
			status = p.advisory()
		case "room-switch": // only where usher switches the lobby on
			if skipped := strings.Contains(" "+want[doctor.Skip]+" ", " room-switch "); !p.o.Autostart && !skipped {
				continue
			}
		case "lobby-gate":
			if !p.o.Module {
				status = doctor.Warn
			}
		}
		for s, codes := range want {
			if slices.Contains(strings.Fields(codes), code) {
				status = s
			}
		}
		wanted = append(wanted, string(status)+" "+code)
	}
	if !slices.Equal(table, wanted) {
		p.t.Errorf("got\n%s\nwant\n%s\n%+v", strings.Join(table, "\n"), strings.Join(wanted, "\n"), got)
	}
}

// clean checks that no room of the doctor's is left.
func (p *patient) clean() {
	p.t.Helper()
	rooms := regexp.MustCompile(`usher-doctor-[a-z2-7]+@[a-z.]+`).FindAllString(p.Log(), -1)
	if len(rooms) == 0 {
		return
	}
	slices.Sort(rooms)
	rooms = slices.Compact(rooms)
	usher := p.Component(p.t, domain, p.secret)
	for _, room := range rooms {
		answer, err := usher.IQ(p.t.Context(), "get", room, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
		if err != nil || !slices.Contains([]string{"item-not-found", "gone"}, answer.ErrorCondition()) {
			p.t.Errorf("%s is left: %s %v", room, answer, err)
		}
	}
	if err := usher.Close(); err != nil {
		p.t.Error(err)
	}
}

// Of a right setup nothing is said but ok, and nothing is left of the examination.
func TestRight(t *testing.T) {
	for _, module := range []bool{false, true} {
		right(t, module)
	}
}

func right(t *testing.T, module bool) {
	t.Helper()
	p := admit(t, module, "", "")
	p.jicofo(online)
	got := p.examined()
	p.found(got, nil)
	p.clean()
	if i := slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "jicofo" }); got[i].Says != `Jicofo is online as "focus"` {
		t.Error(got[i])
	}
	// Twice, for whatever the first examination may have changed.
	p.found(p.examined(), nil)
}

// Each fault alone is named as what it is, with what mends it, and disturbs no other check.
func TestFaults(t *testing.T) {
	const rest = "room-owner room-jicofo room-switch room-born room-configure room-stranger room-member room-moderators room-withdraw room-end"
	for name, tt := range map[string]struct {
		module   bool
		old, new string
		change   func(*patient)
		jicofo   string
		want     map[doctor.Status]string
		// says and mend are a part of what is said of a check that is not ok.
		says, mend string
	}{
		"nothing listens": {
			change: func(p *patient) { p.Server.Stop() },
			want:   map[doctor.Status]string{"fail": "port", "skip": after("port")},
			says:   "connection refused", mend: "component_ports = { ",
		},
		"wrong secret": {
			change: func(p *patient) { p.o.Secret = []byte(strings.Repeat("other", 10)) },
			want:   map[doctor.Status]string{"fail": "handshake", "skip": after("handshake")},
			says:   "refuses the secret", mend: "component_secret =",
		},
		"no component": {
			old: `Component "focus.meet.example.com"`, new: `Component "other.meet.example.com"`, jicofo: absent,
			want: map[doctor.Status]string{"fail": "handshake", "skip": after("handshake")},
			says: "no component focus.meet.example.com", mend: `Component "focus.meet.example.com"`,
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
			change: func(p *patient) { p.o.Watch = time.Minute; p.on["jicofo"] = p.rival },
			want:   map[doctor.Status]string{"fail": "stays"},
			says:   "two ushers would fight", mend: "run one usher only",
		},
		"kick_old": { // whoever was there is displaced, and the examination goes on
			old: `Component "focus.meet.example.com"`, new: `Component "focus.meet.example.com"; component_conflict_resolve = "kick_old"`,
			change: func(p *patient) { p.rival() },
		},
		"no such vhost": {
			old: `VirtualHost "guest.meet.example.com"`, new: `VirtualHost "guests.meet.example.com"`,
			want: map[doctor.Status]string{"fail": "guest-vhost"},
			says: "does not serve", mend: `VirtualHost "guest.meet.example.com"`,
		},
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
		"anybody creates rooms": {
			old: "restrict_room_creation = true", new: "restrict_room_creation = false",
			want: map[doctor.Status]string{"fail": "creation"},
			says: "anybody may create rooms", mend: `restrict_room_creation = true below Component "conference.meet.example.com" "muc"`,
		},
		"nothing is said of who creates rooms": {
			old: "restrict_room_creation = true", new: "",
			want: map[doctor.Status]string{"fail": "creation"},
			says: "anybody may create rooms", mend: `restrict_room_creation = true below Component "conference.meet.example.com" "muc"`,
		},
		"anybody creates rooms, and usher is no admin": {
			old:  `restrict_room_creation = true                   -- only admins create rooms,` + "\n" + `  admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`,
			want: map[doctor.Status]string{"fail": "creation room-owner", "skip": "room-jicofo room-switch"},
			says: "owns only the rooms that it created", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below`,
		},
		"the parent's people create rooms": { // which cannot be seen, and the check says so
			old: "restrict_room_creation = true", new: `restrict_room_creation = "local"`,
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
			says: "stays when the last one has left", mend: "muc_room_default_persistent = false",
		},
		"usher is no admin": {
			old: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`, new: "",
			want: map[doctor.Status]string{"fail": "room-create", "skip": rest},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below Component "conference.meet.example.com" "muc"`,
		},
		"another is admin": {
			old: `admins = { "focus@focus.meet.example.com", `, new: `admins = { `,
			want: map[doctor.Status]string{"fail": "room-create", "skip": rest},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com"`,
		},
		"admins own no rooms": {
			old: "component_admins_as_room_owners = true", new: "component_admins_as_room_owners = false",
			want: map[doctor.Status]string{"fail": "room-owner", "skip": "room-jicofo room-switch"},
			says: "owns only the rooms that it created", mend: "component_admins_as_room_owners = true in the global section",
		},
		"the module is not loaded": {
			module: true, old: `modules_enabled = { "muc_affiliated_only" }`, new: "",
			want: map[doctor.Status]string{"fail": "room-stranger"},
			says: "mod_muc_affiliated_only is not loaded on conference.meet.example.com: anybody can enter",
			mend: `modules_enabled = { "muc_affiliated_only" } below Component "conference.meet.example.com" "muc"`,
		},
		"the module is not found": {
			module: true, old: `plugin_paths = {`, new: `elsewhere = {`,
			want: map[doctor.Status]string{"fail": "room-stranger"},
			says: "mod_muc_affiliated_only is not loaded", mend: "plugin_paths",
		},
		"the module is on another service": {
			module: true, old: `modules_enabled = { "muc_affiliated_only" }`,
			new:  "Component \"breakout.meet.example.com\" \"muc\"\n  modules_enabled = { \"muc_affiliated_only\" }\nComponent \"conference.meet.example.com\" \"muc\"",
			want: map[doctor.Status]string{"fail": "room-stranger"},
			says: "mod_muc_affiliated_only is not loaded", mend: "modules_enabled",
		},
		"the lobby begins switched on": {
			module: true, old: `modules_enabled = { "muc_affiliated_only" }`, new: `modules_enabled = { "muc_affiliated_only" }; muc_room_default_members_only = true`,
			want: map[doctor.Status]string{"warn": "room-born"},
			says: "has the lobby switched on", mend: "muc_room_default_members_only = false below Component",
		},
		"usher cannot switch the lobby on": {
			module: true, old: `"focus@` + domain + `", "` + domain + `", `, new: `"focus@` + domain + `", `,
			want: map[doctor.Status]string{"fail": "room-switch"},
			says: "focus.meet.example.com does not own the rooms",
			mend: `admins = { "focus@focus.meet.example.com", "focus.meet.example.com", "focus@auth.meet.example.com" } below`,
		},
		"the module recommends itself": {
			want: map[doctor.Status]string{"warn": "lobby-gate"},
			says: "whoever has no display name is refused", mend: "rooms.enforcement: module",
		},
		"no lobby": {
			old: `Component "lobby.meet.example.com" "muc"`, new: "",
			want: map[doctor.Status]string{"fail": "lobby", "skip": "lobby-room lobby-gate"},
			says: "no such MUC service", mend: `Component "lobby.meet.example.com" "muc"`,
		},
		"no breakout rooms": {
			old: `Component "breakout.meet.example.com" "muc"`, new: "",
			want: map[doctor.Status]string{"fail": "breakout"},
			says: "no such MUC service", mend: `Component "breakout.meet.example.com" "muc"`,
		},
		"Jicofo's presence is not shown": {
			jicofo: unseen,
			want:   map[doctor.Status]string{"fail": "jicofo"},
			says:   "may not see", mend: "prosodyctl mod_roster_command subscribe focus.meet.example.com focus@auth.meet.example.com",
		},
		"Jicofo is offline": {
			jicofo: offline,
			want:   map[doctor.Status]string{"fail": "jicofo"},
			says:   "not online", mend: "start Jicofo",
		},
		"Jicofo is no admin": {
			old: `, "focus@auth.meet.example.com" }`, new: " }",
			want: map[doctor.Status]string{"fail": "room-jicofo"},
			says: "may not create rooms", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below Component`,
		},
		"Jicofo has no account": {
			change: func(p *patient) { p.o.Jicofo = jid.MustParse("other@auth.meet.example.com") },
			want:   map[doctor.Status]string{"fail": "room-jicofo jicofo"},
			says:   "no such account", mend: "prosodyctl register other auth.meet.example.com PASSWORD",
		},
		"Jicofo is elsewhere": {
			change: func(p *patient) { p.o.Jicofo = jid.MustParse("focus@nowhere.example.com") },
			want:   map[doctor.Status]string{"fail": "room-jicofo jicofo"},
			says:   "is refused", mend: `VirtualHost "nowhere.example.com"`,
		},
		"the keys cannot be had": {
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
		"a short component secret": {
			old: secret, new: "twelve bytes",
			want: map[doctor.Status]string{"warn": "secret"},
			says: "has 12 bytes", mend: "openssl rand -hex 32",
		},
		"a short shared secret": {
			change: func(p *patient) { p.o.Issuers[0].Secrets = []int{40, 8} },
			want:   map[doctor.Status]string{"warn": "app-secret"},
			says:   "has 8 bytes", mend: "openssl rand -hex 32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := admit(t, tt.module, tt.old, tt.new)
			p.jicofo(tt.jicofo)
			if tt.change != nil {
				tt.change(p)
			}
			got := p.examined()
			p.found(got, tt.want)
			if tt.says != "" && !slices.ContainsFunc(got, func(c doctor.Check) bool {
				return c.Status != doctor.OK && strings.Contains(c.Says, tt.says) && strings.Contains(c.Mend, tt.mend)
			}) {
				t.Errorf("nothing says %q, to be mended by %q: %+v", tt.says, tt.mend, got)
			}
			p.clean()
		})
	}
}
