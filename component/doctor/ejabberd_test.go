package doctor_test

import (
	"slices"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// onEjabberd is an ejabberd with the gate of operators, in which old is replaced by new.
func onEjabberd(t *testing.T, old, new string) *patient {
	t.Helper()
	p := &patient{t: t, secret: secret, on: make(map[string]func())}
	p.Server = ejabberdtest.Start(t, ejabberdtest.Options{Configure: func(s *prosodytest.Server) string {
		config := gate.Server{
			Domain: domain, Secret: secret, Service: service,
			VHosts: []gate.VHost{{Domain: "meet.example.com", Authentication: "anonymous"}, {Domain: "guest.meet.example.com", Authentication: "anonymous"}},
		}.YAML(s.ComponentAddr)
		if !strings.Contains(config, old) {
			t.Fatalf("%q is not in the configuration", old)
		}
		return strings.ReplaceAll(config, old, new)
	}})
	p.o = doctor.Options{
		Server: p.ComponentAddr, Domain: jid.MustParse(domain), Secret: []byte(secret), Services: []jid.JID{jid.MustParse(service)},
		VHosts: []jid.JID{jid.MustParse("meet.example.com"), jid.MustParse("guest.meet.example.com")},
	}
	return p
}

// Beside ejabberd every check says what is true there. Its remedies are lines of ejabberd's.
func TestEjabberd(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		old, new string
		change   func(*patient)
		found    string // the checks that are not ok, in order
		says     string // of the first of them
		mend     string
	}{
		"right": {},
		"anybody creates rooms": {
			old: "access_create: usher_creates", new: "access_create: all", found: "fail creation",
			says: "anybody may create rooms", mend: "access_create: a rule",
		},
		"usher creates no rooms": {
			old: "access_create: usher_creates", new: "access_create: none", found: "fail room-create", says: "usher may not create rooms",
			mend: `access_admin and access_create below mod_muc must allow "focus@` + domain + `"`,
		},
		"open at first": {
			old: "members_only: true", new: "members_only: false", found: "fail room-born", says: "open to everybody",
			mend: "members_only: true in default_room_options below mod_muc",
		},
		"persistent": {
			old: "access_persistent: usher", new: "access_persistent: all", found: "warn room-persistent", says: "an owner can make a room persistent",
			mend: "access_persistent: a rule that allows usher only below mod_muc",
		},
		"no virtual host": {
			change: func(p *patient) { p.o.VHosts = append(p.o.VHosts, jid.MustParse("no.example.com")) },
			found:  "fail vhost", says: "does not serve this virtual host", mend: `"no.example.com" in hosts of ejabberd.yml`,
		},
		"no rooms": {
			change: func(p *patient) { p.o.Services = []jid.JID{jid.MustParse("meet.example.com")} },
			found:  "fail service", says: "no MUC service", mend: `"meet.example.com" in hosts of mod_muc`,
		},
		"no clock": {old: "mod_time: {}", new: "mod_last: {}", found: "warn clock", says: "cannot be seen", mend: "mod_time: {}"},
		"wrong secret": {
			change: func(p *patient) { p.o.Secret = []byte(strings.Repeat("other", 10)) },
			found:  "fail handshake", says: "refuses the secret", mend: "usher config ejabberd",
		},
		"another component": {
			old: `"` + domain + `":`, new: `"other.meet.example.com":`, found: "fail handshake",
			says: "refuses the secret", mend: "usher config ejabberd", // ejabberd does not say that it knows no such component
		},
		"usher runs": {
			change: func(p *patient) { p.rival() }, found: "fail answers", says: "another component is connected by this name", mend: "stop the running usher",
		},
		"beside Jicofo": {
			change: func(p *patient) { p.o.Jicofo = jid.MustParse(jicofo) }, found: "warn version", says: "not tested with Jicofo",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := onEjabberd(t, f.old, f.new)
			if f.change != nil {
				f.change(p)
			}
			got := p.examined()
			var found []string
			for _, c := range got {
				if c.Status == doctor.Fail || c.Status == doctor.Warn {
					found = append(found, string(c.Status)+" "+c.Code)
				}
				if strings.Contains(c.Mend, "Component") && c.Code != "handshake" {
					t.Errorf("mended by a line of Prosody's: %+v", c)
				}
			}
			first := slices.IndexFunc(got, func(c doctor.Check) bool { return c.Status == doctor.Fail || c.Status == doctor.Warn })
			if list := strings.Join(found, ", "); list != f.found && (f.found != "warn version" || !strings.HasPrefix(list, f.found)) {
				t.Errorf("found %q, want %q: %+v", list, f.found, got)
			} else if first >= 0 && (!strings.Contains(got[first].Says, f.says) || !strings.Contains(got[first].Mend, f.mend)) {
				t.Errorf("got %+v", got[first])
			}
			if v := slices.IndexFunc(got, func(c doctor.Check) bool { return c.Code == "version" }); v >= 0 && got[v].Status == doctor.OK && !strings.Contains(got[v].Says, "ejabberd "+p.Version()) {
				t.Errorf("got %+v", got[v])
			}
		})
	}
}
