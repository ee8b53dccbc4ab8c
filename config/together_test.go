package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config"
)

// TestTogether checks that usher reports all mistakes of a configuration at once: those that only a Check knows, those below a wrong
// name, and contradictions.
func TestTogether(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "bom.secret", []byte("\ufeff"+secretA))
	write(t, "utf16.secret", []byte("\xff\xfe0\x008\x00"))
	write(t, "usher.yaml", []byte(`xmpp:
  domain: focus.meet.example.com
  secret_file: bom.secret
  secret: changeme
rooms:
  services: [conference.meet.example.com]
vhosts:
  "not a domain":
    kind: tokken
    app_id: a
    app_secret_file: nowhere.secret
  meet.example.com:
    kind: token
    app_id: b
    app_secret_file: utf16.secret
    jwks_url: http://elsewhere.example.com
    claims:
      affiliation_values: {teacher: visitor, "a/b": "", student: [x]}
    issuers:
      - app_id: c
        app_secret: tooshort
        default_affiliation: admin
      - app_id: d
        app_secret: `+secretA+`
        default_affiliation: member
        claims: {affiliation: role}
`))
	var seen []string
	check := func(vhost jid.JID, i config.Issuer) []config.Fault {
		seen = append(seen, strings.TrimSpace(vhost.String()+" "+i.AppID+" "+string(i.DefaultAffiliation)))
		if i.AppID != "b" {
			return nil
		}
		return []config.Fault{
			{Key: "jwks_url", Text: "want https"}, {Key: "jwks_url", Text: "follows from the first"},
			{Key: "app_secret_file", Text: "is reported already"},
			{Key: "claims/affiliation_values", Entry: "teacher", Text: "visitor is no affiliation"},
			{Key: "claims/affiliation_values", Entry: "a/b", Text: "means nothing"},
			{Key: "algorithms", Text: "no key fits"},
		}
	}
	c, err := config.Load([]string{"usher.yaml"}, nil, check)
	got, _ := texts(t, c, err)
	want := []string{
		"file bom.secret (named by usher.yaml:3): xmpp.secret_file: begins with a byte order mark",
		"usher.yaml:4: xmpp.secret: contradicts xmpp.secret_file (usher.yaml:3)",
		"usher.yaml:4: xmpp.secret: is an example that everybody knows",
		`usher.yaml:8: vhosts.not a domain: "not a domain" is no domain`,
		`usher.yaml:9: vhosts.not a domain.kind: "tokken" is not known: it must be token, guest, trusted or service (did you mean token?)`,
		"file nowhere.secret (named by usher.yaml:11): vhosts.not a domain.app_secret_file: does not exist",
		"usher.yaml:12: vhosts.meet.example.com.algorithms: no key fits",
		"file utf16.secret (named by usher.yaml:15): vhosts.meet.example.com.app_secret_file: is a text in UTF-16",
		"usher.yaml:16: vhosts.meet.example.com.jwks_url: contradicts vhosts.meet.example.com.app_secret_file",
		"usher.yaml:16: vhosts.meet.example.com.jwks_url: want https",
		"usher.yaml:18: vhosts.meet.example.com.claims.affiliation_values.student: takes a single value",
		"usher.yaml:18: vhosts.meet.example.com.claims.affiliation_values.teacher: visitor is no affiliation",
		"usher.yaml:18: vhosts.meet.example.com.claims.affiliation_values.a∕b: means nothing",
		"usher.yaml:19: vhosts.meet.example.com.issuers: contradicts vhosts.meet.example.com.app_id (usher.yaml:14)",
		"usher.yaml:21: vhosts.meet.example.com.issuers[0].app_secret: has 8 bytes",
		`usher.yaml:22: vhosts.meet.example.com.issuers[0].default_affiliation: "admin" is not known: it must be owner or member`,
		"usher.yaml:25: vhosts.meet.example.com.issuers[1].default_affiliation: has no effect beside vhosts.meet.example.com.issuers[1].claims.affiliation",
	}
	compareTexts(t, got, want)
	if want := []string{"meet.example.com b", "meet.example.com c admin", "meet.example.com d member", "a"}; !slices.Equal(seen, want) {
		t.Errorf("checked %q, want %q", seen, want)
	}
}

// TestTogetherWithSources checks that usher reports the other problems if a source cannot be read, and calls nothing missing then.
func TestTogetherWithSources(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "prosody.cfg.lua", []byte("VirtualHost “meet.example.com”\n"))
	write(t, "jitsi.env", []byte("JWT_APP_ID\n"))
	write(t, "usher.yaml", []byte("xmpp: {secret: changeme}\nlobby: {autostart: host}\n"))
	c, err := config.Load([]string{"prosody.cfg.lua", "jitsi.env", "usher.yaml"}, []string{"USHER_LOG_LEVEL=loud", "USHER_VHOSTS_A_APP_ID=x"})
	got, _ := texts(t, c, err)
	compareTexts(t, got, []string{
		"usher.yaml:1: xmpp.secret: is an example", "docker jitsi.env:1: is no variable", "prosody prosody.cfg.lua:1: the quote “ is typographic",
		`environment USHER_LOG_LEVEL: log.level: "loud"`,
	})
	write(t, "usher.yaml", []byte("xmpp: {secret: [\n"))
	c, err = config.Load([]string{"prosody.cfg.lua", "usher.yaml"}, nil)
	got, _ = texts(t, c, err)
	compareTexts(t, got, []string{"usher.yaml:1: is not YAML", "prosody prosody.cfg.lua:1: the quote “ is typographic"})
}

// TestPasted checks what word processors and web pages make of a usher.yaml.
func TestPasted(t *testing.T) {
	t.Chdir(t.TempDir())
	const rest = "rooms: {services: [conference.meet.example.com]}\nvhosts: {meet.example.com: {kind: guest}}\n"
	for name, test := range map[string]struct {
		yaml string
		want []string
	}{
		"quotes": {"xmpp:\n  domain: “focus.meet.example.com”\n  secret: ‘" + secretA + "’\n" + rest, []string{
			"usher.yaml:2: xmpp.domain: begins with a typographic quote: “ is none of YAML's",
			"usher.yaml:3: xmpp.secret: begins with a typographic quote: ‘ is none of YAML's"}},
		"only the last one": {"xmpp:\n  domain: focus.meet.example.com”\n  secret: " + secretA + "“\n" + rest, []string{
			"usher.yaml:2: xmpp.domain: ends with a typographic quote: ”", "usher.yaml:3: xmpp.secret: ends with a typographic quote: “"}},
		"German and French, in a list": {"xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [„conference.meet.example.com“, «a.example.com»]}\n" +
			"vhosts: {meet.example.com: {kind: guest}}\n", []string{
			"usher.yaml:2: rooms.services[0]: begins with a typographic quote: „", "usher.yaml:2: rooms.services[1]: begins with a typographic quote: «"}},
		"of a key": {"“xmpp”:\n  domain: focus.meet.example.com\n  secret: changeme\n" + rest, []string{
			"usher.yaml:1: has a key that begins with a typographic quote: “", "usher.yaml:3: xmpp.secret: is an example"}},
		"of a vhost": {"xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\nvhosts:\n  ‘meet.example.com’: {kind: gest}\n", []string{
			"usher.yaml:4: vhosts: has a key that begins with a typographic quote: ‘", `usher.yaml:4: vhosts.meet.example.com.kind: "gest"`}},
		"of a table": {"xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\nvhosts:\n" +
			"  meet.example.com: {kind: token, app_id: a, app_secret: " + secretB + ", claims: {affiliation_values: {“a”: owner, b: ‘member’}}}\n", []string{
			"usher.yaml:4: vhosts.meet.example.com.claims.affiliation_values.“a”: begins with a typographic quote",
			"usher.yaml:4: vhosts.meet.example.com.claims.affiliation_values.b: begins with a typographic quote"}},
		"one of each": {"xmpp:\n  domain: \"focus.meet.example.com”\n  secret: x\n", []string{
			"usher.yaml:2: is not YAML: found unexpected end of stream; in this line, ” is none of YAML's"}},
		"a space that does not break": {"xmpp:\n  domain: focus.meet.example.com\n  secret:\u00a0" + secretA + "\n" + rest, []string{
			"usher.yaml:3: is not YAML: could not find expected ':'; in this line, U+00A0, perhaps copied from a web page"}},
		"a section of such spaces": {"xmpp:\n\u00a0\u00a0domain: focus.meet.example.com\n\u00a0\u00a0secret: " + secretA + "\n" + rest, []string{
			"usher.yaml:2: has a key that has an invisible character in it: U+00A0", "usher.yaml:2: domain: is not a known key; does it belong in xmpp?",
			"usher.yaml:3: has a key that has an invisible character in it: U+00A0", "usher.yaml:3: secret: is not a known key; does it belong in xmpp?",
			"usher.yaml:1: xmpp.domain: is missing", "usher.yaml:1: xmpp.secret_file: is missing"}},
		"such a space before a comment": {"xmpp:\n  domain: focus.meet.example.com\u00a0# mine\n  secret: " + secretA + "\n" + rest, []string{
			"usher.yaml:2: xmpp.domain: has an invisible character in it: U+00A0"}},
		"an invisible end": {"xmpp:\n  domain: focus.meet.example.com\u200b\n  secret: " + secretA + "\n" + rest, []string{
			"usher.yaml:2: xmpp.domain: begins or ends with an invisible character: U+200B"}},
		"a tab": {"xmpp:\n  domain: focus.meet.example.com\n\tsecret: x\n", []string{
			"usher.yaml:3: is not YAML: a tab cannot indent a line: type spaces instead"}},
		"a byte order mark": {"\ufeffxmpp:\n  domain: focus.meet.example.com\n  secret: " + secretA + "\n" + rest, nil},
		"another one further down": {"xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\n" + rest + "\ufefflog: {level: info}\n", []string{
			"usher.yaml:4: has a key that has an invisible character in it: U+FEFF"}},
		"meant": {"xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\nvhosts:\n" +
			"  meet.example.com: {kind: token, app_id: \"“a”\", app_secret: '\u00a0" + secretB + "', accepted_issuers: [don’t, می\u200cخواهم]}\n", nil},
	} {
		write(t, "usher.yaml", []byte(test.yaml))
		c, err := config.Load([]string{"usher.yaml"}, nil)
		got, _ := texts(t, c, err)
		t.Run(name, func(t *testing.T) { compareTexts(t, got, test.want) })
	}
}

// TestNoFile names things without content or end wherever a file can be named.
func TestNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("folder", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "huge", nil)
	if err := os.Truncate("huge", 1<<40); err != nil {
		t.Fatal(err)
	}
	ends := []string{"", ".env", ".cfg.lua", "-config.js"} // they tell usher what a file is
	for _, end := range ends {
		for old, name := range map[string]string{"/dev/zero": "zero", "huge": "huge", "folder": "folder"} {
			if old != name+end {
				if err := os.Symlink(old, name+end); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := syscall.Mkfifo("pipe"+end, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"zero": "it is a device, not a file", "pipe": "it is a pipe, which can be read only once", "folder": "it is a folder, not a file",
		"huge": "it has more than ",
	} {
		issuer := "vhosts: {meet.example.com: {kind: token, app_id: a, %s}}\n"
		for what, yaml := range map[string]string{
			"secret": "xmpp: {secret_file: " + name + "}\n", "issuer's secret": fmt.Sprintf(issuer, "app_secret_file: "+name),
			"key": fmt.Sprintf(issuer, "public_key_files: ["+name+"]"), "JWK Set": fmt.Sprintf(issuer, "jwks_file: "+name),
			"docker": "sources: {docker: " + name + ".env}\n", "Prosody": "sources: {prosody: [" + name + ".cfg.lua]}\n",
			"meet": "sources: {meet: [" + name + "-config.js]}\n", "usher.yaml": "",
		} {
			if what == "key" && name == "folder" {
				continue // which is one of keys
			}
			files := []string{"usher.yaml"}
			if write(t, "usher.yaml", []byte(yaml)); yaml == "" {
				files = []string{name}
			}
			_, err := config.Load(files, nil)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s as %s: %v, want %s", name, what, err, want)
			}
		}
	}
	// usher looks through Debian's folder of the web page's configurations.
	write(t, "prosody.cfg.lua", []byte("VirtualHost \"pipe\"\nVirtualHost \"zero\"\n"))
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (config.Import{Prosody: []string{"prosody.cfg.lua"}, MeetFolder: here}).YAML(); err != nil {
		t.Error(err)
	}
}

// TestImportTogether checks that the to-do list of an import has what a Check finds, and names no host that does not exist.
func TestImportTogether(t *testing.T) {
	inFolder(t, "prosody.cfg.lua", "VirtualHost \"staff.meet.example.com\" authentication = \"internal_hashed\"\n"+prosodyFile)
	check := func(jid.JID, config.Issuer) []config.Fault {
		return []config.Fault{{Key: "algorithms", Text: "no key fits"}}
	}
	i := config.Import{Prosody: []string{"prosody.cfg.lua"}, Trusted: []string{"STAFF.meet.example.com"}, Checks: []config.Check{check}}
	yaml, err := i.YAML()
	if err != nil || !strings.Contains(string(yaml), "kind: trusted") || !strings.Contains(string(yaml), "# To do: ") || !strings.Contains(string(yaml), "no key fits") {
		t.Errorf("%v\n%s", err, yaml)
	}
	i.Trusted = []string{"meet.example.com"}
	if yaml, err := i.YAML(); err == nil || len(yaml) > 0 || !strings.Contains(err.Error(), "nobody needs a password: everybody would be a host") {
		t.Errorf("anonymous people are trusted: %v\n%s", err, yaml)
	}
	for _, name := range []string{"staf.meet.example.com", "conference.meet.example.com", "a b", ""} {
		i.Trusted = []string{"staff.meet.example.com", name}
		yaml, err := i.YAML()
		if err == nil || len(yaml) > 0 || !strings.Contains(err.Error(), "--trusted "+name+": ") || !strings.Contains(err.Error(), "staff.meet.example.com") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v\n%s", name, err, yaml)
		}
	}
}

// TestIssuersDefault checks that an issuer in the list has the affiliation that it names, also by the environment.
func TestIssuersDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", []byte(`xmpp: {domain: focus.meet.example.com, secret: `+secretA+`}
rooms: {services: [conference.meet.example.com]}
vhosts:
  meet.example.com:
    kind: token
    default_affiliation: owner
    issuers:
      - {app_id: a, app_secret: `+secretB+`, default_affiliation: member}
      - {app_id: b, app_secret: `+secretB+`}
      - {app_id: c, app_secret: `+secretB+`}
`))
	c, err := config.Load([]string{"usher.yaml"}, []string{"USHER_VHOSTS_MEET_EXAMPLE_COM_ISSUERS_2_DEFAULT_AFFILIATION=member"})
	if err != nil {
		t.Fatal(err)
	}
	var got []config.Affiliation
	for _, i := range c.VHosts[0].Issuers {
		got = append(got, i.DefaultAffiliation)
	}
	if want := []config.Affiliation{config.Member, "", config.Member}; !slices.Equal(got, want) || c.VHosts[0].DefaultAffiliation != config.Owner {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(string(c.YAML()), "        default_affiliation: member\n      - app_id: b") {
		t.Errorf("not shown:\n%s", c.YAML())
	}
}
