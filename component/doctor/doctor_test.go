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
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("plugin_paths = { %q }\n", folder) + `modules_enabled = { "roster", "saslauth", "disco", "ping", "version", "time" }
prosodytest_subscriptions = { ["` + jicofo + `"] = { "` + domain + `" } }
` + strings.NewReplacer("{component.secret}", secret, `admins = { "focus@`+domain+`" }`, `admins = { "focus@`+domain+`", "`+jicofo+`" }`).Replace(string(demo)) + `
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
	return strings.NewReplacer(
		"plugin_paths = { ", fmt.Sprintf("plugin_paths = { %q, ", folder),
		"muc_room_default_members_only = true", `modules_enabled = { "muc_affiliated_only" }`,
		`admins = { "focus@`+domain+`", `, `admins = { "focus@`+domain+`", "`+domain+`", `,
	).Replace(whole(t))
}

// asJitsi loads stand-ins for the plugins of Jitsi that are in the doctor's way: muc_meeting_id, which lets nobody change the
// affiliation of a JID with the node focus, and the lobby, which refuses everybody without a display name in a members-only
// room.
func asJitsi(config string) string {
	muc, module, _ := strings.Cut(config, `modules_enabled = { "muc_affiliated_only" }`)
	if module == "" {
		muc, module, _ = strings.Cut(config, "muc_room_default_members_only = true")
		module = `modules_enabled = { "prosodytest_meeting_id" }; muc_room_default_members_only = true` + module
	} else {
		module = `modules_enabled = { "prosodytest_meeting_id", "muc_affiliated_only" }` + module
	}
	return `muc_mapper_domain_base = "meet.example.com"` + "\n" + strings.Replace(muc+module, `VirtualHost "meet.example.com"`, `VirtualHost "meet.example.com"
  modules_enabled = { "prosodytest_lobby" }
  main_muc = "`+service+`"
  lobby_muc = "lobby.meet.example.com"
`, 1)
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
func admit(t *testing.T, module, jitsi bool, old, new string) *patient {
	t.Helper()
	config := whole(t)
	if module {
		config = withModule(t)
	}
	if jitsi {
		config = asJitsi(config)
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
		// The stand-in for Jicofo has made its owner before it answers the next question.
		Electing: 100 * time.Millisecond,
		// One that is to be there is online before the doctor comes.
		Starting: 100 * time.Millisecond,
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

// jicofo has a Jicofo log in that is as it should be, but for what change does.
func (p *patient) jicofo(change ...func(*prosodytest.JicofoOptions)) *prosodytest.Jicofo {
	p.t.Helper()
	o := jicofoOptions()
	for _, f := range change {
		f(&o)
	}
	return p.Jicofo(p.t, o)
}

func jicofoOptions() prosodytest.JicofoOptions {
	return prosodytest.JicofoOptions{
		Host: "auth.meet.example.com", User: "focus", Password: "pass", Resource: "focus", Proxy: domain, Service: service, Breakout: "breakout.meet.example.com",
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
var order = strings.Fields(`secret app-secret keys port handshake conflict answers vhost guest-vhost version clock jicofo service creation
	room-create room-jicofo room-owner room-switch room-born jicofo-auth jicofo-owner room-configure room-stranger room-member room-moderators
	room-persistent room-withdraw room-end lobby lobby-room lobby-gate breakout stays`)

// after are the checks that follow a check, and can say nothing without the server.
func after(code string) string {
	return strings.Replace(strings.Join(order[slices.Index(order, code)+1:], " "), " lobby-gate", "", 1)
}

// found compares the whole table with what is expected: everything ok, but what is named.
func (p *patient) found(got []doctor.Check, want map[doctor.Status]string) {
	p.t.Helper()
	var table, wanted []string
	for _, c := range got {
		code := c.Code
		if code == "clean" {
			continue
		}
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
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for _, room := range rooms {
		for left := true; left; {
			answer, err := usher.IQ(p.t.Context(), "get", room, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
			left = err != nil || !slices.Contains([]string{"item-not-found", "gone"}, answer.ErrorCondition())
			select {
			case <-tick.C: // what Jicofo has opened, and usher cannot end, it leaves after a while
			case <-deadline:
				p.t.Fatalf("%s is left: %s %v", room, answer, err)
			}
		}
	}
	if err := usher.Close(); err != nil {
		p.t.Error(err)
	}
}

// Of a right setup nothing is said but ok, and nothing is left of the examination.
func TestRight(t *testing.T) {
	for name, tt := range map[string]struct{ module, jitsi bool }{
		"members-only": {}, "module": {module: true}, "Jitsi, members-only": {jitsi: true}, "Jitsi, module": {module: true, jitsi: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			right(t, tt.module, tt.jitsi)
		})
	}
}

func right(t *testing.T, module, jitsi bool) {
	t.Helper()
	p := admit(t, module, jitsi, "", "")
	j := p.jicofo()
	got := p.examined()
	p.found(got, nil)
	p.clean()
	if rooms := j.Rooms(); len(rooms) > 0 {
		t.Errorf("Jicofo is still in %v", rooms)
	}
	if asked := j.Requests(); len(asked) == 0 || !strings.HasSuffix(asked[0].User, "@meet.example.com/doctor") || asked[0].Token != "" {
		t.Errorf("Jicofo was asked %+v", asked)
	}
	if i := slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "jicofo" }); got[i].Says != `Jicofo is online as "focus"` {
		t.Error(got[i])
	}
	// Twice, for whatever the first examination may have changed.
	p.found(p.examined(), nil)
}

// Where owners can make rooms persistent that is said, as far as it can be seen.
func TestPersistent(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "muc_room_allow_persistent = false", "")
	p.jicofo()
	got := p.examined()
	seen := strings.HasPrefix(p.Version(), "0.")
	p.found(got, map[doctor.Status]string{map[bool]doctor.Status{true: doctor.Warn, false: doctor.OK}[seen]: "room-persistent"})
	c := got[slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "room-persistent" })]
	if want := `muc_room_allow_persistent = false below Component "conference.meet.example.com" "muc"`; seen && c.Mend != want || !seen && !strings.Contains(c.Says, "look yourself") {
		t.Errorf("%+v", c)
	}
	p.clean()
}

// Each fault alone is named as what it is, with what mends it, and disturbs no other check.
func TestFaults(t *testing.T) {
	const (
		inOurs = "room-configure room-stranger room-member room-moderators room-persistent room-withdraw room-end"
		rest   = "room-jicofo room-owner room-switch room-born jicofo-auth jicofo-owner " + inOurs
		unseen = "jicofo-auth jicofo-owner" // what is not known of a Jicofo that opens no room
	)
	soon := func(o *prosodytest.JicofoOptions) { o.InitialTimeout = time.Second } // leaves a room that usher cannot end
	for name, tt := range map[string]struct {
		module, jitsi bool
		old, new      string
		change        func(*patient)
		jicofo        func(*prosodytest.JicofoOptions)
		behaves       prosodytest.JicofoBehavior
		offline       bool // there is no Jicofo
		want          map[doctor.Status]string
		// says and mend are a part of what is said of a check that is not ok.
		says, mend string
	}{
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
			want: map[doctor.Status]string{"fail": "creation room-owner", "skip": "jicofo-owner"}, jicofo: soon,
			says: "usher does not own the rooms that Jicofo opens (forbidden)", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below`,
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
		"anybody creates rooms, usher is no admin, and Jicofo is away": {
			old:  `restrict_room_creation = true                   -- only admins create rooms,` + "\n" + `  admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" }`,
			want: map[doctor.Status]string{"fail": "creation jicofo room-owner", "warn": "room-jicofo", "skip": unseen}, offline: true,
			says: "owns only the rooms that it created", mend: `admins = { "focus@focus.meet.example.com", "focus@auth.meet.example.com" } below`,
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
		"another module refuses members": {
			old: "muc_room_default_members_only = true", new: `muc_room_default_members_only = true; modules_enabled = { "refuses" }`,
			want: map[doctor.Status]string{"fail": "room-member", "warn": "room-stranger jicofo-owner", "skip": "room-withdraw"},
			says: "a member cannot enter (not-allowed)",
		},
		"the module is not loaded": {
			module: true, old: `modules_enabled = { "muc_affiliated_only" }`, new: "",
			want: map[doctor.Status]string{"fail": "room-stranger"},
			says: "mod_muc_affiliated_only is not loaded on conference.meet.example.com: anybody can enter",
			mend: `add "muc_affiliated_only" to modules_enabled below Component "conference.meet.example.com" "muc"`,
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
			says: "is seen only while it is online",
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
			says:   "makes owners of them", mend: "JICOFO_ENABLE_AUTH=0), and restart Jicofo; or jicofo.enforce_roles: true",
		},
		"Jicofo authenticates people, and usher puts them back": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "meet.example.com" },
			change: func(p *patient) { p.o.EnforceRoles = true },
			want:   map[doctor.Status]string{"warn": "jicofo-auth", "skip": "jicofo-owner"},
			says:   "usher puts them back", mend: "JICOFO_ENABLE_AUTH=0",
		},
		"Jicofo authenticates others": {
			jitsi: true, jicofo: func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "users.example.com" },
			want: map[doctor.Status]string{"fail": "jicofo-auth", "warn": "room-jicofo room-owner", "skip": "jicofo-owner"},
			says: "opens no room for people of meet.example.com", mend: "JICOFO_ENABLE_AUTH=0",
		},
		"Jicofo elects an owner": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			want:   map[doctor.Status]string{"fail": "jicofo-owner"},
			says:   "makes an owner", mend: "ENABLE_AUTO_OWNER=0), and restart Jicofo; or jicofo.enforce_roles: true",
		},
		"Jicofo elects an owner, beside Jitsi's plugins": {
			module: true, jitsi: true, jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			want: map[doctor.Status]string{"fail": "jicofo-owner"},
			says: "makes an owner", mend: "ENABLE_AUTO_OWNER=0",
		},
		"Jicofo elects an owner, and usher puts them back": {
			jicofo: func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
			change: func(p *patient) { p.o.EnforceRoles = true },
			want:   map[doctor.Status]string{"warn": "jicofo-owner"},
			says:   "usher puts them back", mend: "ENABLE_AUTO_OWNER=0",
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
			p := admit(t, tt.module, tt.jitsi, tt.old, tt.new)
			if !tt.offline {
				p.jicofo(func(o *prosodytest.JicofoOptions) {
					if tt.jicofo != nil {
						tt.jicofo(o)
					}
				}).Behave(tt.behaves)
			}
			if tt.change != nil {
				tt.change(p)
			}
			if strings.Contains(tt.want["fail"], "room-jicofo") {
				p.o.Opening = 3 * time.Second // there is no answer to wait for
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
