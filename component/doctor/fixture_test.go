package doctor_test

import (
	"compress/gzip"
	"context"
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
	"github.com/xmpp-usher/usher/config/gate"
	usher "github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = "focus.meet.example.com"
	service = "conference.meet.example.com"
	jicofo  = "focus@auth.meet.example.com"
)

var secret = strings.Repeat("k4", 20)

// whole is a gate, and what else the doctor can examine. Nothing is wrong with it.
func whole(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("plugin_paths = { %q }\n", folder) + `modules_enabled = { "roster", "saslauth", "disco", "ping", "version", "time" }
prosodytest_subscriptions = { ["` + jicofo + `"] = { "` + domain + `" } }
` + gate.Server{
		Domain: domain, Secret: secret, Service: service, Admins: []string{jicofo},
		VHosts: []gate.VHost{
			{Domain: "meet.example.com", Authentication: "anonymous"},
			{Domain: "guest.meet.example.com", Authentication: "anonymous"},
			{Domain: "recorder.meet.example.com", Authentication: "anonymous"},
			{Domain: "users.example.com"},
		},
	}.Lua() + `
VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"
Component "lobby.meet.example.com" "muc"
Component "breakout.meet.example.com" "muc"
`
}

// withModule is whole with the module that keeps strangers out, and with usher as the one that switches the lobby on.
func withModule(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs("../../config/prosody/module")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"plugin_paths = { ", fmt.Sprintf("plugin_paths = { %q, ", folder),
		"muc_room_default_members_only = true", `modules_enabled = { "usher" }; usher_component = "`+domain+`"`,
		`admins = { "focus@`+domain+`", `, `admins = { "focus@`+domain+`", "`+domain+`", `,
		`Component "breakout.meet.example.com" "muc"`, `Component "breakout.meet.example.com" "muc"
  modules_enabled = {"usher"}; usher_component = "`+domain+`"`,
	).Replace(whole(t))
}

// asJitsi loads stand-ins for the plugins of Jitsi that are in the doctor's way. muc_meeting_id lets nobody change the affiliation
// of a JID with the node focus. The lobby refuses everybody without a display name in a members-only room.
func asJitsi(config string) string {
	muc, module, _ := strings.Cut(config, `modules_enabled = { "usher" }`)
	if module == "" {
		muc, module, _ = strings.Cut(config, "muc_room_default_members_only = true")
		module = `modules_enabled = { "prosodytest_meeting_id" }; muc_room_default_members_only = true` + module
	} else {
		module = `modules_enabled = { "prosodytest_meeting_id", "usher" }` + module
	}
	return `muc_mapper_domain_base = "meet.example.com"` + "\n" + strings.Replace(muc+module, `VirtualHost "meet.example.com"`, `VirtualHost "meet.example.com"
  modules_enabled = { "prosodytest_lobby" }
  main_muc = "`+service+`"
  lobby_muc = "lobby.meet.example.com"
`, 1)
}

// patient is a private Prosody, and the options with which the doctor examines it.
type patient struct {
	*prosodytest.Server
	t *testing.T
	o doctor.Options
	// secret is the server's.
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
		Module: module, ModuleVersion: usher.Version, Autostart: module,
		Issuers:   []doctor.Issuer{{Name: "my_app", Secrets: []int{40}}},
		Sources:   []doctor.Source{listed([]auth.Key{{ID: "k1"}, {}}, nil)},
		Leeway:    time.Minute,
		Changelog: filepath.Join(t.TempDir(), "changelog.gz"),
		// The stand-in for Jicofo makes its owner before it answers the next question.
		Electing: 100 * time.Millisecond,
		// A Jicofo that the test starts is online before the doctor comes.
		Starting: 100 * time.Millisecond,
	}
	// Debian's 0.12 has the fixes. A 13.0.1 that was unpacked somewhere does not.
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

// listed is a source of keys that has these keys.
func listed(keys []auth.Key, err error, skipped ...error) doctor.Source {
	return doctor.Source{Name: "my_app", Check: func(context.Context) ([]auth.Key, []error, error) { return keys, skipped, err }}
}

// jicofo makes a Jicofo log in. It is as it should be, except for what change does.
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

// order are the checks, in order.
var order = strings.Fields(`secret app-secret keys port handshake conflict answers vhost guest-vhost version clock jicofo service creation
	room-create room-jicofo room-owner room-switch room-born jicofo-auth jicofo-owner room-configure room-stranger room-member room-moderators
	room-persistent room-withdraw room-end lobby lobby-room lobby-gate breakout module breakout-module stays`)

// after are the checks that follow a check and need the server.
func after(code string) string {
	return strings.Replace(strings.Join(order[slices.Index(order, code)+1:], " "), " lobby-gate", "", 1)
}

// found compares all checks with what is expected: ok, except those that want names.
func (p *patient) found(got []doctor.Check, want map[doctor.Status]string) {
	p.t.Helper()
	var table, wanted []string
	for _, c := range got {
		code := c.Code
		if code == "clean" {
			continue
		}
		switch {
		case c.Of == "guest.meet.example.com":
			code = "guest-vhost"
		case code == "module" && c.Of == "breakout.meet.example.com":
			code = "breakout-module"
		}
		table = append(table, string(c.Status)+" "+code)
		if (c.Status == doctor.OK || c.Status == doctor.Skip) && c.Mend != "" {
			p.t.Errorf("%+v mends what is not broken", c)
		}
	}
	for _, code := range append(slices.Clip(order), "standby") {
		status := doctor.OK
		switch code {
		case "version":
			status = p.advisory()
		case "module", "breakout-module": // said only if the module is there, or is to be
			if !p.o.Module {
				continue
			}
		case "room-switch": // made only if usher switches the lobby on
			if skipped := strings.Contains(" "+want[doctor.Skip]+" ", " room-switch "); !p.o.Autostart && !skipped {
				continue
			}
		case "standby":
			if !p.o.Shared {
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
			case <-tick.C: // Jicofo leaves after a while what it has opened and usher cannot end
			case <-deadline:
				p.t.Fatalf("%s is left: %s %v", room, answer, err)
			}
		}
	}
	if err := usher.Close(); err != nil {
		p.t.Error(err)
	}
}
