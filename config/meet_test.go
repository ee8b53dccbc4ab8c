package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// meetYAML is a usher.yaml with the web page's configurations among its sources.
const meetYAML = `
sources: {meet: [config.js]}
xmpp: {domain: focus.meet.example.com, secret: 0123456789abcdef0123456789abcdef}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: a, app_secret: 0123456789abcdef0123456789abcdef}}
`

// meetScripts are configurations of the web page, with the conferenceRequestUrl that usher finds, and where.
var meetScripts = map[string]struct{ script, want, source string }{
	"as Debian has it, commented out": {`
/* eslint-disable comma-dangle */
var subdir = '<!--# echo var="subdir" default="" -->';
if (subdir.startsWith('<!--')) {
    subdir = '';
}
var config = {
    hosts: { domain: 'meet.example.com' },
    // conferenceRequestUrl:
    //     'https://meet.example.com/' + subdir + 'conference-request/v1',
    /* conferenceRequestUrl: 'x', */
    bosh: 'https://meet.example.com/' + subdir + 'http-bind',
};`, "", ""},
	"in the object": {"var config = {\n  hosts: {},\n  conferenceRequestUrl: 'https://meet.example.com/conference-request/v1',\n  bosh: 'x' };",
		"https://meet.example.com/conference-request/v1", ":3"},
	"the last in the object":   {"var config = { conferenceRequestUrl: 'x' };", "x", ":1"},
	"quoted":                   {`var config = { "a": 1, "conferenceRequestUrl": "https:\/\/x\/y" }`, "https://x/y", ":1"},
	"made of parts":            {"config = {\nconferenceRequestUrl:\n  'https://x/' + subdir +\n   'v1', b: 1}", "'https://x/' + subdir + 'v1'", ":2"},
	"made of constant parts":   {"config = {conferenceRequestUrl: 'https://' + \"x\" + `/v1`}", "https://x/v1", ":1"},
	"a template":               {"config = {conferenceRequestUrl: `https://${host}/v1`}", "`https://${host}/v1`", ":1"},
	"a template in a template": {"config = {a: `${b({c: `}'`})}`, conferenceRequestUrl: 'x'}", "x", ":1"},
	"as docker writes it": {`config.bosh = 'https://8x8.vc/app/http-bind';
config.conferenceRequestUrl = 'https://8x8.vc/app/conference-request/v1';

config.hiddenDomain = 'recorder.8x8.vc';`, "https://8x8.vc/app/conference-request/v1", ":2"},
	"by brackets":              {`config["conferenceRequestUrl"] = 'x';`, "x", ":1"},
	"without a semicolon":      {"config.conferenceRequestUrl = 'x'\nconfig.a = 'y'\n", "x", ":1"},
	"over two lines":           {"config.conferenceRequestUrl = 'x'\n  + 'y'\nconfig.a = 'z'", "xy", ":1"},
	"by a call":                {"config.conferenceRequestUrl = url('a', {b: 1})\n", "url('a', {b: 1})", ":1"},
	"in another way":           {"Object.assign(config, { conferenceRequestUrl: 'x' })", "x", ":1"},
	"in an if":                 {"if (a) {\n config.conferenceRequestUrl = 'x';\n}", "x", ":2"},
	"taken back":               {"config.conferenceRequestUrl = 'x';\nconfig.conferenceRequestUrl = '';", "", ""},
	"taken back as undefined":  {"var config = { conferenceRequestUrl: 'x' };\nconfig.conferenceRequestUrl = undefined\n", "", ""},
	"taken back in an if":      {"config.conferenceRequestUrl = 'x';\nif (a) { config.conferenceRequestUrl = ''; }", "x", ":1"},
	"changed":                  {"config.conferenceRequestUrl = 'x';\nconfig.conferenceRequestUrl = 'y';", "y", ":2"},
	"empty":                    {"var config = { conferenceRequestUrl: '' };", "", ""},
	"null":                     {"var config = { conferenceRequestUrl: null };", "", ""},
	"in a text":                {`var a = "config.conferenceRequestUrl = 'x'", b = 'conferenceRequestUrl: \'x\'';`, "", ""},
	"in a comment of HTML":     {"<!-- config.conferenceRequestUrl = 'x'\n", "", ""},
	"in a regular expression":  {`var a = /'/; config.b = /[/'"]/g; config.conferenceRequestUrl = 'x'; c = 4 / 2 / 1;`, "x", ":1"},
	"read":                     {"if (config.conferenceRequestUrl === 'x') { a = config.conferenceRequestUrl; }", "", ""},
	"a label":                  {"x ? conferenceRequestUrl : 'y';", "", ""},
	"a longer name":            {"config.conferenceRequestUrls = 'x'; config.myconferenceRequestUrl = 'x';", "", ""},
	"after lines of Windows":   {"var config = {\r\n // a\r\n conferenceRequestUrl: 'x'\r\n};", "x", ":3"},
	"a text over lines":        {"a = 'b\\\nc';\nconfig.conferenceRequestUrl = 'x';", "x", ":3"},
	"nothing":                  {"", "", ""},
	"what is no JavaScript":    {"<html lang='en'>", "", ""},
	"a beginning and no more":  {"config.conferenceRequestUrl", "", ""},
	"a beginning and a sign":   {"config.conferenceRequestUrl =", "", ""},
	"what follows is not read": {"config.conferenceRequestUrl = 'x'; a = 'b", "x", ":1"},
}

// usher finds a conferenceRequestUrl that counts, with its line, and none that does not count.
func TestMeet(t *testing.T) {
	for name, tt := range meetScripts {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "usher.yaml", []byte(meetYAML))
			write(t, "config.js", []byte(tt.script))
			c, err := config.Load([]string{"usher.yaml"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := c.Meet[0].ConferenceRequestURL
			if want := "meet config.js" + tt.source; got.Text != tt.want || tt.want != "" && got.Source != want || tt.want == "" && got != (config.MeetValue{}) {
				t.Errorf("got %+v, want %q in %s", got, tt.want, want)
			}
			_, warnings := texts(t, c, nil)
			told := strings.Join(warnings, "\n")
			if strings.Contains(told, "past usher") != (tt.want != "") || strings.Contains(told, "is not understood") != strings.HasPrefix(name, "what follows") {
				t.Errorf("warned %q", warnings)
			}
			if f := c.CompareMeet(); len(f) > 1 || len(f) == 1 != (tt.want != "") || len(f) == 1 && (f[0].Level != config.Defeats || f[0].Source != got.Source || !strings.Contains(f[0].Text, tt.want)) {
				t.Errorf("found %+v", f)
			}
		})
	}
}

// A file that is named must exist. The environment can name several.
func TestMeetFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", []byte(meetYAML))
	if _, err := config.Load([]string{"usher.yaml"}, nil); err == nil || !strings.Contains(err.Error(), "config.js cannot be read: no such file or directory") {
		t.Errorf("without the file: %v", err)
	}
	write(t, "a.js", []byte("config.conferenceRequestUrl = 'x'"))
	write(t, "b.js", []byte("config.conferenceRequestUrl = 'y'"))
	c, err := config.Load([]string{"usher.yaml"}, []string{"USHER_SOURCES_MEET=a.js, b.js"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Meet) != 2 || c.Meet[1].ConferenceRequestURL.Source != "meet b.js:1" || len(c.CompareMeet()) != 2 || len(c.Warnings) < 2 {
		t.Errorf("%+v, warned %v", c.Meet, c.Warnings)
	}
	if files := strings.Join(c.Files, " "); !strings.Contains(files, "a.js b.js") {
		t.Errorf("read %s", files)
	}
}

// An import finds the web page's configuration in the folder of Debian's packages, names it, and warns of what does not work with usher.
func TestImportMeet(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "meet.example.com-config.js")
	prosody := config.Import{Prosody: []string{"../testdata/vhosts/debian-tokens/prosody.cfg.lua"}, MeetFolder: folder}
	imported := func() string {
		yaml, err := prosody.YAML()
		if err != nil {
			t.Fatal(err)
		}
		return string(yaml)
	}
	if strings.Contains(imported(), "config.js") {
		t.Error("names what is not there")
	}
	write(t, file, []byte("var config = {\n  conferenceRequestUrl: 'https://meet.example.com/conference-request/v1' };"))
	yaml := imported()
	if !strings.Contains(yaml, "\nsources:\n  meet: ["+file+"]") || !strings.Contains(yaml, "# Note: meet "+file+":2: conferenceRequestUrl is set") {
		t.Errorf("imported\n%s", yaml)
	}
	if os.Getuid() != 0 { // root reads everything
		if err := os.Chmod(file, 0); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(imported(), "config.js") {
			t.Error("names what nobody can read")
		}
	}
}

// FuzzMeet checks that no script makes the reader panic, and that the script has what it finds.
func FuzzMeet(f *testing.F) {
	for _, script := range []string{"var config = { conferenceRequestUrl: 'x' };", "config.conferenceRequestUrl = `a${b}`", "/a/.b = '\\'", "conferenceRequestUrl:", "a = {[", "]})"} {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script string) {
		values, err := config.ReadJavaScript(script, "conferenceRequestUrl")
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Error(err)
		}
		for key, line := range values {
			if !strings.Contains(script, key) || line < 1 || line > 1+strings.Count(script, "\n") {
				t.Errorf("%s in line %d", key, line)
			}
		}
	})
}
