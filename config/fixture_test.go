package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody"
)

// Two good secrets, which no output may have.
const (
	secretA = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	secretB = "00112233445566778899aabbccddeeff"
)

// guarded is a usher.yaml with all kinds of virtual hosts, and plain a Prosody's configuration without anything for usher.
const (
	guarded = `xmpp: {domain: focus.meet.example.com, secret: ` + secretA + `}
rooms: {services: [conference.meet.example.com]}
jicofo: {jid: focus@auth.meet.example.com}
vhosts:
  meet.example.com: {kind: token, app_id: my_app, app_secret: ` + secretB + `}
  guest.meet.example.com: {kind: guest}
  staff.meet.example.com: {kind: trusted}
  recorder.meet.example.com: {kind: service}
prosody: {files: [existing.cfg.lua]}
`
	plain = `authentication = "internal_hashed"
modules_enabled = { "roster", "saslauth", "disco" }
VirtualHost "meet.example.com"
VirtualHost "auth.meet.example.com"
VirtualHost "staff.meet.example.com"
Component "conference.meet.example.com" "muc"
`
)

// prosodyFile is a Prosody's configuration with one virtual host of people with a token.
const prosodyFile = `component_ports = { 5348 }
VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "prosody_app"
  app_secret = "` + secretB + `"
  asap_accepted_audiences = { "prosody" }
Component "conference.meet.example.com" "muc"
Component "focus.meet.example.com"
  component_secret = "` + secretA + `"
`

// fromProsody is a usher.yaml that leaves everything to Prosody's configuration.
const fromProsody = "sources:\n  prosody: [prosody.cfg.lua]\n"

// least is the smallest environment that needs no file.
var least = []string{
	"USHER_XMPP_DOMAIN=focus.meet.example.com",
	"USHER_XMPP_SECRET=" + secretA,
	"USHER_ROOMS_SERVICES=conference.meet.example.com",
	"USHER_VHOSTS=meet.example.com",
	"USHER_VHOSTS_MEET_EXAMPLE_COM_KIND=token",
	"USHER_VHOSTS_MEET_EXAMPLE_COM_APP_ID=my_app",
	"USHER_VHOSTS_MEET_EXAMPLE_COM_APP_SECRET=" + secretB,
}

// ours is what usher.yaml adds to Prosody's files.
const ours = "xmpp: {secret: " + secretA + "}\nrooms: {enforcement: module}\n"

// debian is Prosody as Jitsi's Debian package configures it, shortened. usher's lines must lose nothing that Jitsi needs.
var debian = []string{
	"prosody.cfg.lua", `admins = { "root@meet.example.com" }
modules_enabled = { "roster", "saslauth", "tls", "disco" }
modules_disabled = { "s2s" }
authentication = "internal_hashed"
Include "conf.d/*.cfg.lua"
`,
	"conf.d/meet.example.com.cfg.lua", `plugin_paths = { "/usr/share/jitsi-meet/prosody-plugins/" }
muc_mapper_domain_base = "meet.example.com"
VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "my_app"
  app_secret = "` + secretB + `"
  modules_enabled = { "bosh", "websocket", "smacks", "muc_lobby_rooms", "muc_breakout_rooms" }
  lobby_muc = "lobby.meet.example.com"
  breakout_rooms_muc = "breakout.meet.example.com"
  main_muc = "conference.meet.example.com"
VirtualHost "guest.meet.example.com"
  authentication = "jitsi-anonymous"
VirtualHost "auth.meet.example.com"
  modules_enabled = { "limits_exception" }
Component "conference.meet.example.com" "muc"
  storage = "memory"
  modules_enabled = { "muc_hide_all", "muc_meeting_id", "muc_domain_mapper", "token_verification", "token_affiliation" }
  modules_disabled = { "muc_mam" }
  token_verification_allowlist = { "guest.meet.example.com" }
  admins = { "focus@auth.meet.example.com", "jvb@auth.meet.example.com" }
  muc_room_locking = false
Component "breakout.meet.example.com" "muc"
  modules_enabled = { "muc_hide_all", "muc_meeting_id", "muc_domain_mapper" }
  admins = { "focus@auth.meet.example.com" }
Component "lobby.meet.example.com" "muc"
  modules_enabled = { "muc_hide_all" }
Component "focus.meet.example.com" "client_proxy"
  target_address = "focus@auth.meet.example.com"
`,
}

// image is the mark of docker-jitsi-meet's Prosody.
const image = `plugin_paths = { "/prosody-plugins-custom", "/prosody-plugins/", "/prosody-plugins-contrib" }` + "\n"

// stage puts the files of testdata/config, where nobody else may read them, into the folder that the test runs in.
func stage(t *testing.T) (names []string) {
	t.Helper()
	folder := filepath.Join("..", "testdata", "config")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, entry.Name()), content)
		names = append(names, entry.Name())
	}
	t.Chdir(to)
	return names
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// inFolder goes to a new folder with these files, given by name and text.
func inFolder(t *testing.T, pairs ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for i := 0; i < len(pairs); i += 2 {
		write(t, pairs[i], []byte(pairs[i+1]))
	}
}

// inDebian goes to a new folder with the files of debian, and more.
func inDebian(t *testing.T, more ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("conf.d", 0o700); err != nil {
		t.Fatal(err)
	}
	files := slices.Concat(debian, more)
	for i := 0; i < len(files); i += 2 {
		write(t, files[i], []byte(files[i+1]))
	}
}

func load(t *testing.T, files ...string) *config.Config {
	t.Helper()
	c, err := config.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func loadGuarded(t *testing.T) *config.Config {
	t.Helper()
	inFolder(t, "usher.yaml", guarded, "existing.cfg.lua", plain)
	c, err := config.Load([]string{"usher.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dockerEnviron returns an environment with docker-jitsi-meet's variables and usher's own. more wins over them.
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

// folder returns the working folder, which must not change meanwhile.
func folder(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return here
}

// evaluated returns what Prosody makes of its files.
func evaluated(t *testing.T) *prosody.Configuration {
	t.Helper()
	p, err := prosody.Read(prosody.Source{FS: os.DirFS(folder(t)), Names: []string{"prosody.cfg.lua"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unknowing returns a usher.yaml without the files of Prosody.
func unknowing(file string) string {
	return regexp.MustCompile(`(?m)^prosody: .*\n`).ReplaceAllString(file, "")
}

// linesOf returns the lines for Prosody.
func linesOf(t interface {
	Fatalf(format string, args ...any)
}, c *config.Config) string {
	lines, err := c.ProsodyLines(config.Lines{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return lines
}

// compare returns the findings about a Prosody's configuration, without the hints about Jicofo's configuration, about what a way to
// log in costs, about accounts that cannot log in any more, and about display names in Jitsi's lobby.
func compare(t *testing.T, c *config.Config, text string) []config.Finding {
	t.Helper()
	write(t, "prosody.cfg.lua", []byte(text))
	findings, err := c.CompareProsody(nil, "prosody.cfg.lua")
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return slices.DeleteFunc(findings, func(f config.Finding) bool {
		return f.Source == "jicofo.conf" || strings.Contains(f.Text, "with authentication = ") ||
			strings.Contains(f.Text, "can no longer log in") ||
			f.Level == config.Hint && strings.Contains(f.Text, "without a display name")
	})
}

// wrong returns the findings that are more than hints.
func wrong(findings []config.Finding) []config.Finding {
	return slices.DeleteFunc(findings, func(f config.Finding) bool { return f.Level == config.Hint })
}

// texts returns the problems of an error of Load, and the warnings of a Config, one a line.
func texts(t *testing.T, c *config.Config, err error) (problems, warnings []string) {
	t.Helper()
	if err != nil {
		var p *config.Problems
		if !errors.As(err, &p) || len(p.List) == 0 || c != nil {
			t.Fatalf("Load returned %v, %T", c, err)
		}
		for _, problem := range p.List {
			problems = append(problems, problem.String())
		}
		return problems, nil
	}
	for _, warning := range c.Warnings {
		warnings = append(warnings, warning.String())
	}
	return nil, warnings
}

// compareTexts compares problems with their beginnings, in any order.
func compareTexts(t *testing.T, got, want []string) {
	t.Helper()
	for _, w := range want {
		i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
		if i < 0 {
			t.Errorf("nothing says\n\t%s", w)
			continue
		}
		got = slices.Delete(slices.Clone(got), i, i+1)
	}
	for _, g := range got {
		t.Errorf("not wanted:\n\t%s", g)
	}
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

// luaText returns a text for between Lua's quotes.
func luaText(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		b.WriteString(`\` + string([]byte{'0' + c/100, '0' + c/10%10, '0' + c%10}))
	}
	return b.String()
}

func luaList(names []string) string {
	quoted := make([]string, len(names))
	for i := range names {
		quoted[i] = `"` + names[i] + `"`
	}
	return strings.Join(quoted, ", ")
}

// reveal returns everything that a Config says, one value on each line, secrets included.
func reveal(c *config.Config) string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s = %v\n", key, value) }
	line("server", c.XMPP.Server)
	line("domain", c.XMPP.Domain)
	line("secret", c.XMPP.Secret.Reveal())
	rooms := c.Rooms
	rooms.Rules = nil
	line("rooms", rooms)
	for _, r := range c.Rooms.Rules {
		hours := r.Hours
		r.Hours, r.Source = nil, ""
		line("rule", fmt.Sprintf("%+v", r))
		if hours != nil {
			line("  hours", fmt.Sprintf("%v %s-%s %s", hours.Days, hours.From, hours.Until, hours.Zone))
		}
	}
	line("lobby", c.Lobby)
	line("jicofo", c.Jicofo)
	line("sessions", c.Sessions)
	line("login", c.Login)
	line("store", strings.Join(strings.Fields(fmt.Sprintln(c.Store.Path, c.Store.Memory, c.Store.MaxSize, c.Store.URL.Reveal(), c.Store.Password.Reveal(), string(c.Store.CA), c.Store.Prefix)), " "))
	for _, v := range c.VHosts {
		line("vhost", v.Domain)
		line("  kind", v.Kind)
		line("  allow_empty_token", v.AllowEmptyToken)
		line("  default_affiliation", v.DefaultAffiliation)
		for _, i := range v.Issuers {
			line("  issuer", i.AppID)
			for _, secret := range i.AppSecrets {
				line("    secret", secret.Reveal())
			}
			i.AppSecrets = nil
			line("    ", fmt.Sprintf("%+v", i))
		}
	}
	line("log", c.Log)
	return b.String()
}

var defaultLine = regexp.MustCompile(`(?m)^( *)# ([a-z_]+: (?:\[.*\]|[a-z0-9.:-]+))$`)

// uncommented returns the example with the defaults that it shows in comments.
func uncommented(example []byte) []byte {
	return defaultLine.ReplaceAll(example, []byte("$1$2"))
}

// named returns the list of files with that name; none if it is empty.
func named(file string) []string {
	if file == "" {
		return nil
	}
	return []string{file}
}
