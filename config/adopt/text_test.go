package adopt

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestJicofoConf checks what becomes of a jicofo.conf, in the ways that HOCON can be written.
func TestJicofoConf(t *testing.T) {
	const (
		begin = ownBegins + "\n"
		owner = "jicofo.conference.enable-auto-owner = false # usher makes the owners\n"
		auth  = "jicofo.authentication.enabled = false # usher decides who opens a room\n"
		proxy = "jicofo.xmpp.client.client-proxy = \"focus.meet.example.com\" # Jicofo believes usher who asks\n"
		end   = ownEnds + "\n"
		all   = begin + owner + auth + proxy + end
	)
	for name, test := range map[string]struct{ text, want, fault string }{
		"empty":                {text: "", want: all},
		"an empty object":      {text: "jicofo { }\n", want: "jicofo { }\n" + all},
		"no line end":          {text: "jicofo { }", want: "jicofo { }\n" + all},
		"a comment at the end": {text: "a = 1 // {\n# }", want: "a = 1 // {\n# }\n" + all},
		"all of it": {
			text: "jicofo {\n conference { enable-auto-owner = false }, authentication: { enabled: false }\n xmpp.client { client-proxy: \"focus.meet.example.com\" } }",
			want: "jicofo {\n conference { enable-auto-owner = false }, authentication: { enabled: false }\n xmpp.client { client-proxy: \"focus.meet.example.com\" } }"},
		"other words":              {text: "jicofo.conference.enable-auto-owner=no\n\"jicofo\".authentication = { enabled = off }\njicofo{xmpp{client{client-proxy=focus.meet.example.com}}}\n", want: "jicofo.conference.enable-auto-owner=no\n\"jicofo\".authentication = { enabled = off }\njicofo{xmpp{client{client-proxy=focus.meet.example.com}}}\n"},
		"the last one counts":      {text: "jicofo.authentication.enabled = false\njicofo { authentication { enabled = true } }\n", want: "jicofo.authentication.enabled = false\njicofo { authentication { enabled = true } }\n" + all},
		"objects are merged":       {text: "jicofo { authentication { enabled = false } }\njicofo { authentication { type = JWT } }\n" + owner + proxy, want: "jicofo { authentication { enabled = false } }\njicofo { authentication { type = JWT } }\n" + owner + proxy},
		"a text ends an object":    {text: "jicofo { authentication { enabled = false } }\njicofo.authentication = x\n" + owner + proxy, want: "jicofo { authentication { enabled = false } }\njicofo.authentication = x\n" + owner + proxy + begin + auth + end},
		"a substitution":           {text: owner + auth + "jicofo.xmpp = ${x}\n", want: owner + auth + "jicofo.xmpp = ${x}\n" + all},
		"an include":               {text: owner + auth + proxy + "include \"more.conf\"\n", want: owner + auth + proxy + "include \"more.conf\"\n" + all},
		"braces around all":        {text: "{\n  jicofo { a = [1, {b: 2}], c += 3 }\n}\n# end\n", want: "{\n  jicofo { a = [1, {b: 2}], c += 3 }\n" + indented(all) + "}\n# end\n"},
		"braces on one line":       {text: "{ jicofo { a = \"\"\"}\n\"\"\" } }", want: "{ jicofo { a = \"\"\"}\n\"\"\" } \n" + indented(all) + "}"},
		"usher's lines of old":     {text: "a = 1\n" + begin + owner + end, want: "a = 1\n" + all},
		"a value in the next line": {text: "a =\n  1\n", want: "a =\n  1\n" + all},
		"a quoted brace":           {text: "a = \"}\" b \"{\"\n", want: "a = \"}\" b \"{\"\n" + all},

		"a brace too few":       {text: "a {\n b = 1\n", fault: "1: this brace is never closed"},
		"a brace too many":      {text: "a { }\n}\n", fault: "2: this brace closes nothing"},
		"a bracket too few":     {text: "\na = [ 1\n", fault: "2: this bracket is never closed"},
		"a text without an end": {text: "a = \"b\nc = 1\n", fault: "1: a text or a substitution begins here, and does not end"},
		"three quotes":          {text: "a = \"\"\"b\nc = 1\n", fault: "1: a text or a substitution begins here, and does not end"},
		"no value":              {text: "b = 1\na =", fault: "2: a value is expected here"},
		"no value, no sign":     {text: "a\n", fault: "1: this name has no value"},
		"more after the braces": {text: "{ }\na = 1\n", fault: "2: something follows the object in braces, which Jicofo does not understand"},
	} {
		t.Run(name, func(t *testing.T) {
			got, fault := jicofoSaying(test.text, jicofoWanted("focus.meet.example.com"))
			if fault != nil || test.fault != "" {
				if fault == nil || shownFault(*fault) != test.fault {
					t.Errorf("%+v, want %s", fault, test.fault)
				}
				return
			}
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if again, _ := jicofoSaying(got, jicofoWanted("focus.meet.example.com")); again != got {
				t.Errorf("again\n%s", again)
			}
		})
	}
}

func shownFault(f fault) string { return string(rune('0'+f.line)) + ": " + f.text }

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// FuzzJicofoConf checks that usher's lines are found again in every file to which they were added, and that nothing else of it changes.
func FuzzJicofoConf(f *testing.F) {
	for _, seed := range []string{"jicofo { }\n", "{ a = [1]\n}", "a = \"\"\"x\"\"\"\ninclude \"y\"\n", "a.b : c, d += ${e}", ownBegins + "\n" + ownEnds} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, fault := jicofoSaying(text, jicofoWanted("focus.meet.example.com"))
		if fault != nil {
			return
		}
		again, fault := jicofoSaying(got, jicofoWanted("focus.meet.example.com"))
		if again != got || fault != nil {
			t.Errorf("first\n%q\nthen\n%q, %v", got, again, fault)
		}
		rest := strings.Join(strings.Fields(withoutOwn(text)), "")
		if left := strings.Join(strings.Fields(withoutOwn(got)), ""); left != rest {
			t.Errorf("%q has become %q", rest, left)
		}
	})
}

// TestRequestURL checks which lines of config.js usher makes comments, and why it leaves others to people.
func TestRequestURL(t *testing.T) {
	for line, why := range map[string]string{
		"    conferenceRequestUrl: 'https://x/' + sub + \"y\",\n": "",
		"\tconferenceRequestUrl : `x`,\n":                         "the line has a comment, a template or a regular expression in its value",
		"config.conferenceRequestUrl = 'https://x';\n":            "",
		"conferenceRequestUrl: f('a', [1, 2]), // why\n":          "",
		"conferenceRequestUrl: 'x'\n":                             "the value may go on in the next line",
		"conferenceRequestUrl: 'x' +\n":                           "the value may go on in the next line",
		"conferenceRequestUrl: f('a',\n":                          "the value may go on in the next line",
		"conferenceRequestUrl: 'x', a: 1,\n":                      "something follows on the same line",
		"conferenceRequestUrl: 'x' },\n":                          "the line closes a bracket of a line before",
		"var config = { conferenceRequestUrl: 'x',\n":             "the line has something before it",
		"conferenceRequestUrl: /* x */ 'x',\n":                    "the line has a comment, a template or a regular expression in its value",
		"conferenceRequestUrl: 'x\\\n":                            "a text goes on in the next line",
		"conferenceRequestUrls: 'x',\n":                           "the line is not understood",
	} {
		got, said := withoutRequestURL("a\n"+line+"b\n", 2)
		if said != why {
			t.Errorf("%q: %q, want %q", line, said, why)
			continue
		}
		trimmed := strings.TrimLeft(line, " \t")
		want := "a\n" + line[:len(line)-len(trimmed)] + "// usher: " + trimmed + "b\n"
		if why == "" && got != want {
			t.Errorf("%q", got)
		}
	}
}

// TestDotenv checks the lines for .env, beside those that are there.
func TestDotenv(t *testing.T) {
	const global = "GLOBAL_CONFIG='" + config.DockerGlobalConfig + "'\n"
	wanted := dockerWanted("docker-compose.yml", ":")
	for name, test := range map[string]struct{ text, want, faulty string }{
		"nothing": {text: "", want: ownBegins + "\nENABLE_AUTO_OWNER=0\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=docker-compose.yml:usher.yml\n" + global + ownEnds + "\n"},
		"switches that are off": {text: "ENABLE_AUTO_OWNER=false\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=docker-compose.yml:jibri.yml",
			want: "ENABLE_AUTO_OWNER=false\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=docker-compose.yml:jibri.yml\n" + ownBegins + "\nCOMPOSE_FILE=docker-compose.yml:jibri.yml:usher.yml\n" + global + ownEnds + "\n"},
		"lines for Prosody": {text: "ENABLE_AUTO_OWNER=0\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=usher.yml\nGLOBAL_CONFIG=\"a = 1\"\n",
			want: "ENABLE_AUTO_OWNER=0\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=usher.yml\nGLOBAL_CONFIG=\"a = 1\"\n" + ownBegins + "\nGLOBAL_CONFIG='a = 1\\n" + config.DockerGlobalConfig + "'\n" + ownEnds + "\n"},
		"a single quote": {text: "GLOBAL_CONFIG=\"a = 'b'\"\n", faulty: "GLOBAL_CONFIG"},
		"all of it": {text: "ENABLE_AUTO_OWNER=0\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=a.yml:usher.yml\n" + global,
			want: "ENABLE_AUTO_OWNER=0\nJICOFO_ENABLE_AUTH=0\nCOMPOSE_FILE=a.yml:usher.yml\n" + global},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := config.Dotenv(test.text)
			if err != nil {
				t.Fatal(err)
			}
			got, faulty := saying(test.text, values, wanted)
			if faulty != test.faulty || faulty == "" && got != test.want {
				t.Errorf("%q\n%s", faulty, got)
			}
			// Compose reads what was meant.
			if values, err := config.Dotenv(got); faulty == "" && (err != nil || !strings.HasSuffix(values["GLOBAL_CONFIG"], config.DockerGlobalConfig)) {
				t.Errorf("%v, %v", values, err)
			}
			if withoutOwn(got) != test.text && faulty == "" && !strings.HasPrefix(got, test.text) {
				t.Errorf("something else has changed:\n%s", got)
			}
		})
	}
}

// TestVeil checks what a diff does not show.
func TestVeil(t *testing.T) {
	for line, want := range map[string]string{
		" JWT_APP_SECRET='abc'":               " JWT_APP_SECRET=******",
		"+  component_secret = \"abc\"":       "+  component_secret = ******",
		"-      password: \"abc\",":           "-      password: ******",
		" external_service_secret = \"a b\";": " external_service_secret = ******",
		" [\"turn_credential\"] = 'a'":        " [\"turn_credential\"] = ******",
		"+  secret_file: component.secret":    "+  secret_file: component.secret",
		"+    allow_short_secret: true":       "+    allow_short_secret: true",
		"+# Write lobby.bypass: [] for that":  "+# Write lobby.bypass: [] for that",
		" JIBRI_PASS=a":                       " JIBRI_PASS=******",
		"+ x = \"known\"":                     "+ x = \"******\"",
		" authentication = \"token\"":         " authentication = \"token\"",
	} {
		if got := veil(line+"\n", []string{"known"}); got != want+"\n" {
			t.Errorf("%q: %q", line, got)
		}
	}
}
