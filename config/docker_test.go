package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// dockerEnviron is an environment with docker-jitsi-meet's variables, among usher's own; what is given more counts.
func dockerEnviron(more ...string) []string {
	return append([]string{
		"USHER_SOURCES_DOCKER=environment", "USHER_XMPP_SECRET=" + secretA,
		"XMPP_DOMAIN=meet.example.com", "JWT_APP_ID=my_app", "JWT_APP_SECRET=" + secretB,
	}, more...)
}

func loadDocker(t *testing.T, more ...string) *config.Config {
	t.Helper()
	c, err := config.Load(nil, dockerEnviron(more...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// setting returns the setting of a key, or none.
func setting(c *config.Config, key string) (config.Setting, bool) {
	i := slices.IndexFunc(c.Settings, func(s config.Setting) bool { return s.Key == key })
	if i < 0 {
		return config.Setting{}, false
	}
	return c.Settings[i], true
}

// lines returns all settings, one a line.
func lines(c *config.Config) string {
	var b strings.Builder
	for _, s := range c.Settings {
		b.WriteString(s.Key + ": " + s.Value() + " # " + s.Origin + "\n")
	}
	return b.String()
}

var (
	jwt    = []string{"ENABLE_AUTH=1", "AUTH_TYPE=jwt"}
	guests = append(slices.Clone(jwt), "ENABLE_GUESTS=1")
)

// probes are, for every variable that sets a key, a value that it does not have by default, and what must be set for it
// to count.
var probes = map[string]struct {
	value string
	with  []string
}{
	"XMPP_DOMAIN":                       {value: "other.example.com"},
	"XMPP_SERVER":                       {value: "xmpp.meet.jitsi"},
	"XMPP_MUC_DOMAIN":                   {value: "rooms.example.com"},
	"XMPP_GUEST_DOMAIN":                 {"visitors.example.com", guests},
	"XMPP_AUTH_DOMAIN":                  {value: "login.example.com"},
	"XMPP_HIDDEN_DOMAIN":                {"recorder.example.com", []string{"ENABLE_RECORDING=1"}},
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
			main, guest, hidden := "meet.example.com", "guest.meet.example.com", "hidden.meet.example.com"
			for name, domain := range map[string]*string{
				"XMPP_DOMAIN": &main, "XMPP_GUEST_DOMAIN": &guest, "XMPP_HIDDEN_DOMAIN": &hidden,
			} {
				if v.Name == name {
					*domain = probe.value
				}
			}
			key := strings.NewReplacer("MAIN", main, "GUEST", guest, "HIDDEN", hidden).Replace(v.Key)
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

// checkIgnored checks a variable that usher does not act on.
func checkIgnored(t *testing.T, v config.DockerVariable) {
	before, after := loadDocker(t, guests...), loadDocker(t, append(slices.Clone(guests), v.Name+"=1")...)
	if got, want := lines(after), lines(before); got != want {
		t.Errorf("it changes\n%s\nto\n%s", want, got)
	}
	more := func(c *config.Config) []config.Problem {
		return slices.DeleteFunc(slices.Clone(c.Notes), func(n config.Problem) bool { return slices.Contains(before.Notes, n) })
	}
	if notes := more(after); len(notes) != 1 || !strings.Contains(notes[0].String(), v.Name+" ("+v.Note+")") {
		t.Errorf("notes %v do not say %s (%s)", notes, v.Name, v.Note)
	}
	if v.Note == "" {
		t.Error("nothing says why")
	}
	if notes := more(loadDocker(t, append(slices.Clone(guests), v.Name+"=")...)); len(notes) > 0 {
		t.Errorf("empty it is not set, but there are notes %v", notes)
	}
}

// TestDockerKinds checks all ways in which docker-jitsi-meet lets people log in.
func TestDockerKinds(t *testing.T) {
	for _, auth := range []string{"", "0", "1", "true"} {
		for by, with := range map[string]config.Kind{
			"": config.KindTrusted, "internal": config.KindTrusted, "ldap": config.KindTrusted, "jwt": config.KindToken,
			"matrix": "", "hybrid_matrix_token": "", "JWT": "",
		} {
			for _, guest := range []string{"", "0", "1"} {
				t.Run(auth+","+by+","+guest, func(t *testing.T) {
					c, err := config.Load(nil, dockerEnviron("ENABLE_AUTH="+auth, "AUTH_TYPE="+by, "ENABLE_GUESTS="+guest))
					var want []config.Kind
					switch on := auth == "1" || auth == "true"; {
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

// TestDockerProblems checks that what is wrong with a variable is told with its name.
func TestDockerProblems(t *testing.T) {
	for _, test := range []struct{ variable, source string }{
		{"JWT_APP_SECRET=", "docker JWT_APP_SECRET"},
		{"JWT_APP_SECRET=short", "docker JWT_APP_SECRET"},
		{"JWT_APP_ID=", "docker JWT_APP_ID"},
		{"JWT_SIGN_TYPE=none", "docker JWT_SIGN_TYPE"},
		{"JWT_ALLOW_EMPTY=maybe", "docker JWT_ALLOW_EMPTY"},
		{"ENABLE_AUTH=yes", "docker ENABLE_AUTH"},
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

// TestDockerFile checks that a .env file says the same as the environment, and that only the file is asked then.
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
