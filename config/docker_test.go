package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

var (
	jwt    = []string{"ENABLE_AUTH=1", "AUTH_TYPE=jwt"}
	guests = append(slices.Clone(jwt), "ENABLE_GUESTS=1")
)

// probes has a value for every variable that sets a key, which is not its default, and what must be set for it to count.
var probes = map[string]struct {
	value string
	with  []string
}{
	"XMPP_DOMAIN":                       {value: "other.example.com"},
	"XMPP_SERVER":                       {value: "prosody.example.com"},
	"XMPP_MUC_DOMAIN":                   {value: "rooms.example.com"},
	"XMPP_GUEST_DOMAIN":                 {"visitors.example.com", guests},
	"XMPP_AUTH_DOMAIN":                  {value: "login.example.com"},
	"XMPP_HIDDEN_DOMAIN":                {"recorder.example.com", []string{"ENABLE_RECORDING=1"}},
	"XMPP_RECORDER_DOMAIN":              {"recorder.example.com", []string{"ENABLE_RECORDING=1"}},
	"ENABLE_JAAS_COMPONENTS":            {value: "1"},
	"JIGASI_XMPP_PASSWORD":              {"jigasis", jwt},
	"ENABLE_AUTH":                       {"0", jwt},
	"ENABLE_GUESTS":                     {"1", jwt},
	"AUTH_TYPE":                         {"ldap", jwt},
	"PROSODY_AUTH_TYPE":                 {"internal", jwt},
	"PROSODY_GUEST_AUTH_TYPE":           {"token", guests},
	"JWT_APP_ID":                        {"other_app", jwt},
	"JWT_APP_SECRET":                    {secretA + secretB, jwt},
	"JWT_ACCEPTED_ISSUERS":              {"one, two", jwt},
	"JWT_ACCEPTED_AUDIENCES":            {"one,two", jwt},
	"JWT_ASAP_KEYSERVER":                {"https://keys.example.com", jwt},
	"JWT_SIGN_TYPE":                     {"HS384", append([]string{"JWT_APP_SECRET=" + secretA + secretB}, jwt...)},
	"JWT_ALLOW_EMPTY":                   {"1", jwt},
	"JWT_ENABLE_DOMAIN_VERIFICATION":    {"true", jwt},
	"WAIT_FOR_HOST_DISABLE_AUTO_OWNERS": {"true", append([]string{"XMPP_MUC_MODULES=muc_wait_for_host"}, jwt...)},
	"TOKEN_AUTH_URL":                    {"https://login.example.com/{room}", jwt},
	"ENABLE_LOBBY":                      {value: "false"},
	"ENABLE_BREAKOUT_ROOMS":             {value: "0"},
	"ENABLE_RECORDING":                  {value: "1"},
	"ENABLE_TRANSCRIPTIONS":             {value: "1"},
}

// TestDockerVariables checks that the list of variables is true: each with a key sets that key and is its origin, each
// without sets nothing and is named in a note.
func TestDockerVariables(t *testing.T) {
	listed := map[string]bool{}
	for _, v := range config.DockerVariables {
		if listed[v.Name] {
			t.Errorf("%s is listed twice", v.Name)
		}
		listed[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			switch v.Key {
			case "":
				checkIgnored(t, v)
				return
			case "modules": // TestModulesMean has them
				return
			}
			probe, ok := probes[v.Name]
			if !ok {
				t.Fatal("it has a key and no probe")
			}
			before := loadDocker(t, probe.with...)
			after := loadDocker(t, append(slices.Clone(probe.with), v.Name+"="+probe.value)...)
			main, guest, hidden, login := "meet.example.com", "guest.meet.jitsi", "hidden.meet.jitsi", "auth.meet.jitsi"
			for name, domain := range map[string]*string{
				"XMPP_DOMAIN": &main, "XMPP_GUEST_DOMAIN": &guest, "XMPP_HIDDEN_DOMAIN": &hidden, "XMPP_RECORDER_DOMAIN": &hidden,
			} {
				if v.Name == name {
					*domain = probe.value
				}
			}
			key := strings.NewReplacer("MAIN", main, "GUEST", guest, "HIDDEN", hidden, "AUTH", login).Replace(v.Key)
			if strings.Count(v.Key, ".") == 1 && strings.HasPrefix(v.Key, "vhosts.") { // the virtual host itself
				if _, there := setting(before, key+".kind"); there {
					t.Errorf("%s is there without it", key)
				}
				if _, there := setting(after, key+".kind"); !there {
					t.Errorf("%s is not there:\n%s", key, lines(after))
				}
				return
			}
			was, wasThere := setting(before, key)
			is, isThere := setting(after, key)
			switch {
			case !wasThere && !isThere:
				t.Fatalf("%s is not there:\n%s", key, lines(after))
			case wasThere && isThere && was.Value() == is.Value() && reveal(before) == reveal(after):
				t.Errorf("%s is still %s", key, is.Value())
			case isThere && is.Origin != "docker "+v.Name:
				t.Errorf("%s is from %q", key, is.Origin)
			case !isThere && was.Origin != "docker default of "+v.Name:
				t.Errorf("%s, which it takes away, was from %q", key, was.Origin)
			}
		})
	}
	for name := range probes {
		if !listed[name] {
			t.Errorf("%s is not listed", name)
		}
	}
}

// checkIgnored checks a variable that usher does not act on. A note names it if it is set. If it must be off, a warning names it while
// it is on.
func checkIgnored(t *testing.T, v config.DockerVariable) {
	before, after := loadDocker(t, guests...), loadDocker(t, append(slices.Clone(guests), v.Name+"=1")...)
	if got, want := lines(after), lines(before); got != want {
		t.Errorf("it changes\n%s\nto\n%s", want, got)
	}
	more := func(c *config.Config) []config.Problem {
		return slices.DeleteFunc(slices.Clone(c.Notes), func(n config.Problem) bool { return slices.Contains(before.Notes, n) })
	}
	if v.Note == "" {
		t.Error("nothing says why")
	}
	if v.Name == "ENABLE_AUTO_OWNER" || v.Name == "JICOFO_ENABLE_AUTH" {
		off := loadDocker(t, append(slices.Clone(guests), v.Name+"=0")...)
		for c, warned := range map[*config.Config]bool{before: true, after: true, off: false} {
			if got := slices.ContainsFunc(c.Warnings, func(p config.Problem) bool { return strings.HasSuffix(p.String(), "Set "+v.Name+"=0") }); got != warned {
				t.Errorf("warnings %v", c.Warnings)
			}
		}
		if notes := more(off); len(notes) > 0 {
			t.Errorf("it is as it should be, but there are notes %v", notes)
		}
		return
	}
	if notes := more(after); len(notes) != 1 || !strings.Contains(notes[0].String(), v.Name+" ("+v.Note+")") {
		t.Errorf("notes %v do not say %s (%s)", notes, v.Name, v.Note)
	}
	if notes := more(loadDocker(t, append(slices.Clone(guests), v.Name+"=")...)); len(notes) > 0 {
		t.Errorf("empty it is not set, but there are notes %v", notes)
	}
}

// TestDockerDomains checks that each domain is that of docker-jitsi-meet's templates: fixed, unless its own variable is set or it is
// named after XMPP_DOMAIN.
func TestDockerDomains(t *testing.T) {
	with := append(slices.Clone(guests), "ENABLE_RECORDING=1")
	domains := func(t *testing.T, environ ...string) string {
		t.Helper()
		c, err := config.Load(nil, append([]string{"USHER_SOURCES_DOCKER=environment", "USHER_XMPP_SECRET=" + secretA,
			"JWT_APP_ID=my_app", "JWT_APP_SECRET=" + secretB}, append(slices.Clone(with), environ...)...))
		if err != nil {
			t.Fatal(err)
		}
		got := []string{c.XMPP.Server, c.XMPP.Domain.String(), c.Jicofo.JID.String(), c.Rooms.Services[0].String(), c.Rooms.Lobby.String(),
			c.Rooms.Breakout.String()}
		for _, kind := range []config.Kind{config.KindToken, config.KindGuest, config.KindService} {
			i := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Kind == kind })
			got = append(got, c.VHosts[i].Domain.String())
		}
		return strings.Join(got, " ")
	}
	for _, test := range []struct{ environ, want string }{
		{"", "xmpp.meet.jitsi:5347 focus.meet.jitsi focus@auth.meet.jitsi muc.meet.jitsi lobby.meet.jitsi breakout.meet.jitsi meet.jitsi guest.meet.jitsi hidden.meet.jitsi"},
		{"XMPP_DOMAIN=a.example", "xmpp.meet.jitsi:5347 focus.a.example focus@auth.meet.jitsi muc.meet.jitsi lobby.a.example breakout.a.example a.example guest.meet.jitsi hidden.meet.jitsi"},
		{"XMPP_SERVER=prosody XMPP_MUC_DOMAIN=b.example XMPP_GUEST_DOMAIN=c.example XMPP_AUTH_DOMAIN=d.example XMPP_HIDDEN_DOMAIN=e.example",
			"prosody:5347 focus.meet.jitsi focus@d.example b.example lobby.meet.jitsi breakout.meet.jitsi meet.jitsi c.example e.example"},
		{"XMPP_DOMAIN=A.example XMPP_MUC_DOMAIN=B.Example XMPP_GUEST_DOMAIN=C.example XMPP_AUTH_DOMAIN=D.example XMPP_HIDDEN_DOMAIN=E.example",
			"xmpp.meet.jitsi:5347 focus.a.example focus@d.example b.example lobby.a.example breakout.a.example a.example c.example e.example"},
		{"XMPP_SERVER=fd00::1", "[fd00::1]:5347 focus.meet.jitsi focus@auth.meet.jitsi muc.meet.jitsi lobby.meet.jitsi breakout.meet.jitsi meet.jitsi guest.meet.jitsi hidden.meet.jitsi"},
	} {
		if got := domains(t, strings.Fields(test.environ)...); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.environ, got, test.want)
		}
	}
}

// TestDockerServices checks who enters as a service: recorders and transcribers on the hidden domain, Jigasi on Jicofo's domain if
// nobody is anonymous, and the gateways of JaaS. The kind "" means that there is no such virtual host.
func TestDockerServices(t *testing.T) {
	on, off := []string{"ENABLE_AUTH=1"}, []string{"ENABLE_AUTH=0"}
	for _, test := range []struct {
		name    string
		environ []string
		domain  string
		want    config.Kind
		origin  string
		warn    string
	}{
		{name: "recorders", environ: append(on, "ENABLE_RECORDING=1"), domain: "hidden.meet.jitsi", want: config.KindService,
			origin: "docker ENABLE_RECORDING"},
		{name: "transcribers", environ: append(off, "ENABLE_TRANSCRIPTIONS=true"), domain: "hidden.meet.jitsi", want: config.KindService,
			origin: "docker ENABLE_TRANSCRIPTIONS"},
		{name: "no recorders", environ: on, domain: "hidden.meet.jitsi"},
		{name: "older name", environ: append(on, "ENABLE_RECORDING=1", "XMPP_RECORDER_DOMAIN=old.example"), domain: "old.example",
			want: config.KindService, origin: "docker ENABLE_RECORDING", warn: "docker XMPP_RECORDER_DOMAIN: set XMPP_HIDDEN_DOMAIN to the same"},
		{name: "both names", environ: append(on, "ENABLE_RECORDING=1", "XMPP_RECORDER_DOMAIN=old.example", "XMPP_HIDDEN_DOMAIN=new.example"),
			domain: "new.example", want: config.KindService, origin: "docker ENABLE_RECORDING"},
		{name: "both names, the older", environ: append(on, "ENABLE_RECORDING=1", "XMPP_RECORDER_DOMAIN=old.example",
			"XMPP_HIDDEN_DOMAIN=new.example"), domain: "old.example"},
		{name: "older name, empty newer", environ: append(on, "ENABLE_RECORDING=1", "XMPP_RECORDER_DOMAIN=old.example", "XMPP_HIDDEN_DOMAIN="),
			domain: "old.example", want: config.KindService, origin: "docker ENABLE_RECORDING", warn: "docker XMPP_RECORDER_DOMAIN"},
		{name: "older name, no recorders", environ: append(on, "XMPP_RECORDER_DOMAIN=old.example"), domain: "old.example"},
		{name: "phones", environ: append(on, "JIGASI_XMPP_PASSWORD=x"), domain: "auth.meet.jitsi", want: config.KindService,
			origin: "docker JIGASI_XMPP_PASSWORD"},
		{name: "phones elsewhere", environ: append(on, "JIGASI_XMPP_PASSWORD=x", "XMPP_AUTH_DOMAIN=auth.example"), domain: "auth.example",
			want: config.KindService, origin: "docker JIGASI_XMPP_PASSWORD"},
		{name: "phones as guests", environ: append(on, "ENABLE_GUESTS=1", "JIGASI_XMPP_PASSWORD=x"), domain: "auth.meet.jitsi"},
		{name: "phones where all are guests", environ: append(off, "JIGASI_XMPP_PASSWORD=x"), domain: "auth.meet.jitsi"},
		{name: "no phones", environ: on, domain: "auth.meet.jitsi"},
		{name: "JaaS", environ: append(off, "ENABLE_JAAS_COMPONENTS=1"), domain: "jigasi.meet.jitsi", want: config.KindService,
			origin: "docker ENABLE_JAAS_COMPONENTS"},
		{name: "no JaaS", environ: append(on, "ENABLE_JAAS_COMPONENTS=0"), domain: "jigasi.meet.jitsi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := loadDocker(t, append(test.environ, "ENABLE_AUTO_OWNER=0", "JICOFO_ENABLE_AUTH=0")...)
			var got config.Kind
			for _, v := range c.VHosts {
				if v.Domain.String() == test.domain {
					got = v.Kind
				}
			}
			if s, _ := setting(c, "vhosts."+test.domain+".kind"); got != test.want || s.Origin != test.origin {
				t.Errorf("%s is %q from %q, want %q from %q", test.domain, got, s.Origin, test.want, test.origin)
			}
			warned := slices.ContainsFunc(c.Warnings, func(p config.Problem) bool { return strings.Contains(p.String(), "XMPP_RECORDER_DOMAIN") })
			if warned != (test.warn != "") {
				t.Errorf("warnings %v", c.Warnings)
			}
			for _, w := range c.Warnings {
				if strings.Contains(w.String(), "XMPP_RECORDER_DOMAIN") && !strings.HasPrefix(w.String(), test.warn) {
					t.Errorf("warning %s, want %s", w, test.warn)
				}
			}
		})
	}
}

// TestDockerFlags checks that a flag is on if it is for docker-jitsi-meet's templates (github.com/jitsi/tpl, toBool, with the
// default before it), and that a warning names an odd one.
func TestDockerFlags(t *testing.T) {
	for value, want := range map[string]struct{ on, odd bool }{
		"0": {}, "f": {}, "F": {}, "false": {}, "False": {}, "FALSE": {}, `"0"`: {}, "'false'": {}, `""`: {}, "''": {},
		"1": {on: true}, "t": {on: true}, "T": {on: true}, "true": {on: true}, "True": {on: true}, "TRUE": {on: true}, `"1"`: {on: true},
		"'true'": {on: true},
		"yes":    {true, true}, "no": {true, true}, "off": {true, true}, "maybe": {true, true}, "tRUE": {true, true}, " ": {true, true}, "2": {true, true},
	} {
		c := loadDocker(t, append(slices.Clone(jwt), "ENABLE_AUTO_OWNER=0", "JICOFO_ENABLE_AUTH=0", "JWT_ALLOW_EMPTY="+value, "ENABLE_LOBBY="+value)...)
		if got := c.VHosts[0].AllowEmptyToken; got != want.on {
			t.Errorf("JWT_ALLOW_EMPTY=%s is %t", value, got)
		}
		if got := c.Rooms.Lobby.String() != ""; got != want.on {
			t.Errorf("ENABLE_LOBBY=%s is %t", value, got)
		}
		odd := 0
		for _, w := range c.Warnings {
			if strings.HasSuffix(w.String(), ": write 0 or 1") {
				odd++
			}
		}
		if want.odd != (odd == 2) || !want.odd && odd > 0 {
			t.Errorf("%s: warnings %v", value, c.Warnings)
		}
	}
}

// TestDockerJicofo checks the warnings about what Jicofo decides, which it does by default (jicofo/rootfs/defaults/jicofo.conf).
func TestDockerJicofo(t *testing.T) {
	const owner, login = "ENABLE_AUTO_OWNER=0", "JICOFO_ENABLE_AUTH=0"
	for _, test := range []struct {
		environ string
		want    []string
	}{
		{"", []string{owner}},
		{"ENABLE_AUTH=1", []string{owner, login}},
		{"ENABLE_AUTH=0 JICOFO_ENABLE_AUTH=1", []string{owner, login}},
		{"ENABLE_AUTH=1 JICOFO_ENABLE_AUTH=0", []string{owner}},
		{"ENABLE_AUTH=1 JICOFO_ENABLE_AUTH=", []string{owner, login}},
		{"ENABLE_AUTO_OWNER=", []string{owner}},
		{"ENABLE_AUTO_OWNER=true", []string{owner}},
		{"ENABLE_AUTO_OWNER=no ENABLE_AUTH=0", []string{owner}},
		{"ENABLE_AUTO_OWNER=0 ENABLE_AUTH=1 JICOFO_ENABLE_AUTH=false", nil},
		{"ENABLE_AUTO_OWNER=false", nil},
	} {
		c := loadDocker(t, strings.Fields(test.environ)...)
		var got []string
		for _, w := range c.Warnings {
			if _, set, ok := strings.Cut(w.String(), ". Set "); ok {
				got = append(got, set)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: told to set %v, want %v", test.environ, got, test.want)
		}
	}
}

// TestDockerUnknown checks that a note names an unknown variable that may have to do with who enters, and no variable that is known
// to have nothing to do with it.
func TestDockerUnknown(t *testing.T) {
	const note = "usher does not know these variables, so look whether they have to do with who may enter: "
	for _, test := range []struct {
		environ []string
		want    string // behind note; none for ""
	}{
		{environ: []string{"XMPP_NEW=1", "JWT_NEW=1", "ENABLE_NEW=1", "GLOBAL_NEW=1", "PROSODY_NEW=1", "JICOFO_NEW=1", "VISITORS_NEW=1"},
			want: "ENABLE_NEW, GLOBAL_NEW, JICOFO_NEW, JWT_NEW, PROSODY_NEW, VISITORS_NEW, XMPP_NEW"},
		{environ: []string{"ENABLE_NEW=", "HOME=/", "NEW_ENABLE_X=1", "JVB_NEW=1", "enable_new=1", "CONFIG=/srv"}},
		{environ: slices.Collect(func(yield func(string) bool) {
			for _, name := range config.DockerElsewhere {
				if !yield(name + "=1") {
					return
				}
			}
		})},
		{environ: []string{"GLOBAL_CONFIG=" + config.DockerGlobalConfig}},
	} {
		c := loadDocker(t, append(slices.Clone(guests), test.environ...)...)
		var notes []string
		if test.want != "" {
			notes = []string{"docker: " + note + test.want}
		}
		var got []string
		for _, n := range c.Notes {
			if strings.HasPrefix(n.String(), "docker: ") { // those of no single variable
				got = append(got, n.String())
			}
		}
		if !slices.Equal(got, notes) {
			t.Errorf("%v: notes %q, want %q", test.environ, got, notes)
		}
	}
	for _, name := range config.DockerElsewhere {
		if slices.ContainsFunc(config.DockerVariables, func(v config.DockerVariable) bool { return v.Name == name }) {
			t.Errorf("%s is listed twice", name)
		}
		if !slices.ContainsFunc(config.DockerPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			t.Errorf("of %s nothing would be said anyway", name)
		}
	}
}

// TestDockerKinds checks all ways in which docker-jitsi-meet lets people log in.
func TestDockerKinds(t *testing.T) {
	for _, auth := range []string{"", "0", "1", "true", "yes"} {
		for by, with := range map[string]config.Kind{
			"": config.KindTrusted, "internal": config.KindTrusted, "ldap": config.KindTrusted, "jwt": config.KindToken,
			"matrix": "", "hybrid_matrix_token": "", "JWT": "",
		} {
			for _, guest := range []string{"", "0", "1"} {
				t.Run(auth+","+by+","+guest, func(t *testing.T) {
					c, err := config.Load(nil, dockerEnviron("ENABLE_AUTH="+auth, "AUTH_TYPE="+by, "ENABLE_GUESTS="+guest))
					var want []config.Kind
					switch on := auth != "" && auth != "0"; {
					case !on:
						want = []config.Kind{config.KindGuest}
					case with == "":
						problems, _ := texts(t, c, err)
						if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, "docker AUTH_TYPE") }) {
							t.Errorf("problems %q say nothing of AUTH_TYPE", problems)
						}
						return
					case guest == "1":
						want = []config.Kind{with, config.KindGuest}
					default:
						want = []config.Kind{with}
					}
					if err != nil {
						t.Fatal(err)
					}
					var got []config.Kind
					for _, v := range c.VHosts {
						got = append(got, v.Kind)
					}
					if !slices.Equal(got, want) || c.VHosts[0].Domain.String() != "meet.example.com" {
						t.Errorf("kinds %v, want %v", got, want)
					}
				})
			}
		}
	}
}

// TestDockerProblems checks that a problem with a variable has its name.
func TestDockerProblems(t *testing.T) {
	for _, test := range []struct{ variable, source string }{
		{"JWT_APP_SECRET=", "docker JWT_APP_SECRET"},
		{"JWT_APP_SECRET=short", "docker JWT_APP_SECRET"},
		{"JWT_APP_ID=", "docker JWT_APP_ID"},
		{"JWT_SIGN_TYPE=none", "docker JWT_SIGN_TYPE"},
		{"XMPP_SERVER=host:5222", "docker XMPP_SERVER"},
		{"PROSODY_GUEST_AUTH_TYPE=odd", "docker PROSODY_GUEST_AUTH_TYPE"},
		{"XMPP_DOMAIN=a b", "docker XMPP_DOMAIN"},
		{"XMPP_MUC_DOMAIN=a@b", "docker XMPP_MUC_DOMAIN"},
	} {
		t.Run(test.variable, func(t *testing.T) {
			_, err := config.Load(nil, dockerEnviron(append(slices.Clone(guests), test.variable)...))
			var problems *config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("it is taken: %v", err)
			}
			if !slices.ContainsFunc(problems.List, func(p config.Problem) bool { return p.Source == test.source }) {
				t.Errorf("nothing names %s:\n%v", test.source, err)
			}
		})
	}
}

// TestDockerFile checks that a .env file means the same as the environment, and that usher reads only the file then.
func TestDockerFile(t *testing.T) {
	t.Chdir(t.TempDir())
	var file []string
	for _, entry := range dockerEnviron(guests...) {
		if !strings.HasPrefix(entry, "USHER_") {
			file = append(file, entry)
		}
	}
	write(t, "jitsi.env", []byte(strings.Join(file, "\n")+"\n"))
	c, err := config.Load([]string{"jitsi.env"}, []string{"USHER_XMPP_SECRET=" + secretA, "JWT_APP_ID=not_asked"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := reveal(c), reveal(loadDocker(t, guests...)); got != want {
		t.Errorf("the file says\n%s\nthe environment says\n%s", got, want)
	}
	if s, _ := setting(c, "vhosts.meet.example.com.app_id"); s.Origin != "docker jitsi.env:2 JWT_APP_ID" {
		t.Errorf("app_id is from %q", s.Origin)
	}
}
