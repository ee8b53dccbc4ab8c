package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestSameByEnvironment checks that file and environment can say the same.
func TestSameByEnvironment(t *testing.T) {
	stage(t)
	file, err := config.Load([]string{"good-design.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	environment, err := config.Load(nil, []string{
		"PATH=/bin", "HOME", "USHER=1", "USHER_LOG_FORMAT=console", // the last one counts
		"USHER_XMPP_SERVER=127.0.0.1:5347",
		"USHER_XMPP_DOMAIN=focus.meet.example.com",
		"USHER_XMPP_SECRET=0f8e4c1b6a2d7935e0c4b8a1f6d2937c",
		"USHER_XMPP_SECRET_FILE=", // not set
		"USHER_ROOMS_SERVICES=conference.meet.example.com,muc.example.net",
		"USHER_ROOMS_WAIT_FOR_HOST=members",
		"USHER_ROOMS_GUEST_ROOMS=open-*, lobby-?",
		"USHER_ROOMS_HOST_AFFILIATION=admin",
		"USHER_VHOSTS=Meet.Example.COM,partners.meet.example.com, guest.meet.example.com,secure.example.com,recorder.meet.example.com",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_KIND=token",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ALLOW_EMPTY_TOKEN=true",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_DEFAULT_AFFILIATION=member",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_APP_ID=my_app",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRETS=" + secretA + "," + secretB,
		"USHER_VHOSTS_MEET_EXAMPLE_COM_LEEWAY=0s",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_KIND=token",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_APP_ID=portal",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_ACCEPTED_ISSUERS=portal,gateway",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_ALGORITHMS=EdDSA,ES256",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_PUBLIC_KEY_FILES=portal.pem",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_REQUIRE_ROOM=false",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_REQUIRE_EXP=false",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_DOMAIN_VERIFICATION=false",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_NO_WILDCARD=true",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_0_LEEWAY=60s",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_1_APP_ID=007",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_1_ACCEPTED_ISSUERS=portal",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_1_APP_SECRET_FILE=short.secret",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_1_ALLOW_SHORT_SECRET=true",
		"USHER_VHOSTS_GUEST_MEET_EXAMPLE_COM_KIND=guest",
		"USHER_VHOSTS_SECURE_EXAMPLE_COM_KIND=trusted",
		"USHER_VHOSTS_RECORDER_MEET_EXAMPLE_COM_KIND=service",
		"USHER_LOG_LEVEL=debug",
		"USHER_LOG_FORMAT=json",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := reveal(environment), reveal(file); got != want {
		t.Errorf("environment says\n%s\nfile says\n%s", got, want)
	}
}

// TestDefaults checks every value that the least configuration leaves out.
func TestDefaults(t *testing.T) {
	c, err := config.Load(nil, least)
	if err != nil {
		t.Fatal(err)
	}
	want := `server = 127.0.0.1:5347
domain = focus.meet.example.com
secret = ` + secretA + `
rooms = {[conference.meet.example.com]   guests [] owner members-only 5s 10s 1m0s {false 0s} []}
lobby = {never [owner member]}
jicofo = { false false}
sessions = true
login = 
store = false 0MiB
vhost = meet.example.com
  kind = token
  allow_empty_token = false
  default_affiliation = owner
  issuer = my_app
    secret = ` + secretB + `
     = {AppID:my_app AcceptedIssuers:[my_app] AcceptedAudiences:[*] Algorithms:[HS256] AppSecrets:[] PublicKeyFiles:[] ` +
		`JWKSFile: JWKSURL: ASAPKeyServer: CacheKeysURL: KeysMaxStale:24h0m0s Claims:{Affiliation:{Path: Values:map[]} ` +
		`ID:{Path: Values:map[]} Name:{Path: Values:map[]} Group:{Path: Values:map[]} Room:{Path: Values:map[]} ` +
		`Tenant:{Path: Values:map[]}} DefaultAffiliation: Tenant: ` +
		`RequireRoom:true RequireExp:true DomainVerification:true NoWildcard:false Leeway:10s OneTime:false Ending:{OnExpiry:keep ExpiryGrace:0s Reuse:allow ReuseOf:token}}
log = {info console}
`
	if got := reveal(c); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestOverride checks that the environment overrides the file, key by key.
func TestOverride(t *testing.T) {
	stage(t)
	c, err := config.Load([]string{"good-design.yaml"}, []string{
		"USHER_XMPP_SERVER=localhost:15347",
		"USHER_ROOMS_SERVICES=muc.example.org",
		"USHER_VHOSTS=late.example.com,meet.example.com",
		"USHER_VHOSTS_LATE_EXAMPLE_COM_KIND=guest",
		"USHER_VHOSTS_PARTNERS_MEET_EXAMPLE_COM_ISSUERS_1_APP_ID=other",
		"USHER_VHOSTS_GUEST_MEET_EXAMPLE_COM_KIND=trusted",
	})
	if err != nil {
		t.Fatal(err)
	}
	var domains []string
	for _, v := range c.VHosts {
		domains = append(domains, v.Domain.String())
	}
	if want := []string{"meet.example.com", "partners.meet.example.com", "guest.meet.example.com", "secure.example.com",
		"recorder.meet.example.com", "late.example.com"}; !slices.Equal(domains, want) {
		t.Errorf("vhosts %v, want %v", domains, want)
	}
	if c.XMPP.Server != "localhost:15347" || len(c.Rooms.Services) != 1 || c.VHosts[2].Kind != config.KindTrusted {
		t.Errorf("the environment did not override the file: %+v", c)
	}
	if i := c.VHosts[1].Issuers[1]; i.AppID != "other" || i.AcceptedIssuers[0] != "portal" {
		t.Errorf("issuer 1 is %+v", i)
	}
}

// environmentProblems are environments, over a file or none, and the problems that they have.
var environmentProblems = []struct {
	name, file string
	set        []string // over least, if there is no file
	want       []string
}{
	{"nothing", "", []string{"-"}, []string{
		"environment: xmpp.domain: is missing: usher's own address, as in the server's Component line; set USHER_XMPP_DOMAIN",
		"environment: xmpp.secret_file: is missing: a file with the component's secret, as the server has it (or secret: itself); set USHER_XMPP_SECRET_FILE",
		"environment: rooms.services: is missing: name the MUC services to guard, such as [conference.meet.example.com]; set USHER_ROOMS_SERVICES",
		"environment: vhosts: is missing: name at least one virtual host with people who may ask for a room; set USHER_VHOSTS",
	}},
	{"typing mistakes", "", []string{
		"USHER_XMPP_SEVER=127.0.0.1:5347",
		"USHER_VHOSTS_MEET_EXAMPLE_ORG_KIND=token",
		"USHER_VHOSTS_OTHER_EXAMPLE_ORG_KIND=token",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_0_APPID=my_app",
		"USHER_SOMETHING=",
	}, []string{
		"environment USHER_SOMETHING: is not a variable of usher",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_0_APPID: is not a variable of usher; did you mean USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_0_APP_ID?",
		"environment USHER_VHOSTS_MEET_EXAMPLE_ORG_KIND: is not a variable of usher; did you mean USHER_VHOSTS_MEET_EXAMPLE_COM_KIND?",
		"environment USHER_VHOSTS_OTHER_EXAMPLE_ORG_KIND: is not a variable of usher, or not one of a known vhost: name the vhost in the file or in USHER_VHOSTS",
		"environment USHER_XMPP_SEVER: is not a variable of usher; did you mean USHER_XMPP_SERVER?",
	}},
	{"values", "", []string{
		"USHER_XMPP_SECRET=changeme",
		"USHER_ROOMS_BREAKOUT=breakout.meet.example.com",
		"USHER_JICOFO_JID=focus@auth.meet.example.com",
		"USHER_ROOMS_SERVICES=conference.meet.example.com,a b",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ALLOW_EMPTY_TOKEN=1",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRET_FILE=app.secret",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_LEEWAY=10",
	}, []string{
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_ALLOW_EMPTY_TOKEN: vhosts.meet.example.com.allow_empty_token: is neither true nor false",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_LEEWAY: vhosts.meet.example.com.leeway: is no duration: write it with its unit, such as 10s; the longest unit is h",
		"environment USHER_XMPP_SECRET: xmpp.secret: is an example that everybody knows: make one with: openssl rand -hex 32",
		`environment USHER_ROOMS_SERVICES: rooms.services[1]: "a b" is no domain (disallowed rune U+0020)`,
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRET_FILE: vhosts.meet.example.com.app_secret_file: contradicts vhosts.meet.example.com.app_secret (environment USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRET): keep one of them",
	}},
	{"vhosts", "", []string{
		"USHER_VHOSTS=meet.example.com,meet-example.com,a b",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ALLOW_EMPTY_TOKEN=",
	}, []string{
		`environment USHER_VHOSTS: vhosts.a b: "a b" is no domain (disallowed rune U+0020)`,
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_ALLOW_EMPTY_TOKEN: is ambiguous, because it stands for both vhosts.meet.example.com.allow_empty_token and vhosts.meet-example.com.allow_empty_token: set them in the file",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_APP_ID: is ambiguous, because it stands for both vhosts.meet.example.com.app_id and vhosts.meet-example.com.app_id: set them in the file",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRET: is ambiguous, because it stands for both vhosts.meet.example.com.app_secret and vhosts.meet-example.com.app_secret: set them in the file",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_KIND: is ambiguous, because it stands for both vhosts.meet.example.com.kind and vhosts.meet-example.com.kind: set them in the file",
		"environment: vhosts.meet.example.com.kind: is missing: it must be token, guest, trusted or service; set USHER_VHOSTS_MEET_EXAMPLE_COM_KIND",
		"environment: vhosts.meet-example.com.kind: is missing: it must be token, guest, trusted or service; set USHER_VHOSTS_MEET_EXAMPLE_COM_KIND",
	}},
	{"over a file", "good-least.yaml", []string{
		"USHER_XMPP_SECRET=" + secretA,
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_0_APP_ID=b",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_2_APP_ID=c",
	}, []string{
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_2_APP_ID: vhosts.meet.example.com.issuers[2]: is there, but vhosts.meet.example.com.issuers[1] is not: number them from 0 on",
		"environment USHER_XMPP_SECRET: xmpp.secret: contradicts xmpp.secret_file (good-least.yaml:3): keep one of them",
		"environment USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_0_APP_ID: vhosts.meet.example.com.issuers: contradicts vhosts.meet.example.com.app_id (good-least.yaml:9): an issuer stands either on the vhost itself or in the list issuers",
	}},
	{"file problems first", "domains2.yaml", []string{"USHER_LOG_LEVEL=loud"}, []string{
		`domains2.yaml:2: xmpp.server: ":5347" is no host:port: write it like 127.0.0.1:5347`,
		"domains2.yaml:3: xmpp.domain: conference.meet.example.com is rooms.services[0] (domains2.yaml:6) already: usher needs a domain of its own, that of the server's Component line",
		"domains2.yaml:7: vhosts: is missing: name at least one virtual host with people who may ask for a room",
		`environment USHER_LOG_LEVEL: log.level: "loud" is not known: it must be debug, info, warn or error`,
	}},
	{"no such file", "nowhere.yaml", nil, []string{"nowhere.yaml: cannot be read: no such file or directory"}},
	{"a folder", ".", nil, []string{".: cannot be read: it is a folder, not a file"}},
}

func TestEnvironmentProblems(t *testing.T) {
	stage(t)
	for _, test := range environmentProblems {
		t.Run(test.name, func(t *testing.T) {
			environ := test.set
			if test.file == "" && environ[0] != "-" {
				environ = slices.Concat(least, test.set)
			}
			c, err := config.Load(named(test.file), environ)
			got, _ := texts(t, c, err)
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestKubernetes checks that usher ignores the variables that Kubernetes makes for services called usher and usher-web, and no others.
func TestKubernetes(t *testing.T) {
	_, err := config.Load(nil, slices.Concat(least, []string{
		"USHER_SERVICE_HOST=10.0.0.7", "USHER_SERVICE_PORT=8080", "USHER_SERVICE_PORT_HTTP=8080",
		"USHER_PORT=tcp://10.0.0.7:8080", "USHER_PORT_8080_TCP=tcp://10.0.0.7:8080", "USHER_PORT_8080_TCP_PROTO=tcp",
		"USHER_PORT_8080_TCP_PORT=8080", "USHER_PORT_8080_TCP_ADDR=10.0.0.7", "USHER_WEB_SERVICE_HOST=10.0.0.8",
	}))
	if err != nil {
		t.Error(err)
	}
	for _, entry := range []string{"USHER_PORT=8080", "USHER_XMPP_PORT=5347", "USHER_HOST=_SERVICE_HOST="} {
		if _, err := config.Load(nil, append(slices.Clone(least), entry)); err == nil {
			t.Errorf("%s passed", entry)
		}
	}
}

// TestWorldReadable checks the warnings about secrets in files that everybody can read.
func TestWorldReadable(t *testing.T) {
	stage(t)
	chmod := func(name string) {
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	chmod("good-least.yaml") // has no secret itself
	chmod("app.secret")
	chmod("good-design.yaml")
	for file, want := range map[string]string{
		"good-least.yaml": "file app.secret (named by good-least.yaml:10): vhosts.meet.example.com.app_secret_file: " +
			"contains a secret, and everybody on this machine can read it: chmod 640 it",
		"good-design.yaml": "good-design.yaml: contains a secret, and everybody on this machine can read it: chmod 640 it",
	} {
		c, err := config.Load(named(file), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := texts(t, c, nil); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestFileNames checks from which folder relative names of files count.
func TestFileNames(t *testing.T) {
	stage(t)
	here := folder(t)
	t.Chdir(t.TempDir())
	c, err := config.Load(named(filepath.Join(here, "good-design.yaml")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.VHosts[1].Issuers[0].PublicKeyFiles[0], filepath.Join(here, "portal.pem"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestTooLarge checks that usher reads no file that cannot be a secret.
func TestTooLarge(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "large", make([]byte, 1<<20))
	c, err := config.Load(nil, slices.Concat(least[:1], least[2:], []string{"USHER_XMPP_SECRET_FILE=large"}))
	got, _ := texts(t, c, err)
	if len(got) != 1 || !strings.HasSuffix(got[0], "cannot be read: it has more than 64 kB, the most that usher reads of such a file") {
		t.Error(got)
	}
}

// TestFocusByEnvironment checks that the environment can say all that has to do with Jicofo.
func TestFocusByEnvironment(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.db", nil)
	if err := os.Chmod("usher.db", 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(nil, append([]string{
		"USHER_ROOMS_LOBBY=lobby.meet.example.com", "USHER_ROOMS_BREAKOUT=breakout.meet.example.com",
		"USHER_ROOMS_ENFORCEMENT=members-only", "USHER_ROOMS_GUARD_INTERVAL=1s", "USHER_ROOMS_WAIT_HOLD=2s", "USHER_ROOMS_WAIT_HOLD_JITSI=3s",
		"USHER_LOBBY_AUTOSTART=host", "USHER_LOBBY_BYPASS=member, owner",
		"USHER_JICOFO_JID=focus@auth.meet.example.com", "USHER_JICOFO_FORWARD_TOKEN=true", "USHER_JICOFO_ENFORCE_ROLES=on",
		"USHER_SESSIONS=off", "USHER_LOGIN=url", "USHER_STORE_PATH=usher.db", "USHER_STORE_MAX_SIZE=64MiB",
	}, least...))
	if err != nil {
		t.Fatal(err)
	}
	got := reveal(c)
	for _, line := range []string{
		"rooms = {[conference.meet.example.com] breakout.meet.example.com lobby.meet.example.com guests [] owner members-only 1s 2s 3s {false 0s} []}",
		"lobby = {host [member owner]}", "jicofo = {focus@auth.meet.example.com true true}", "sessions = false", "login = url", "store = usher.db false 64MiB",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("nothing says %s:\n%s", line, got)
		}
	}
	// If members-only is written on purpose, no warning mentions the module.
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Text, "everybody on this machine can read it") {
		t.Errorf("warnings %v", c.Warnings)
	}
}
