package prosody

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestOptions(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // of lines
	}{
		{"global", "a = 1\nb = 'x'\nc = true\nd = { 'l', 2 }\ne = { k = 'v' }\nf = {}",
			[]string{"/a=1 at prosody.cfg.lua:1", "/b=x at prosody.cfg.lua:2", "/c=true at prosody.cfg.lua:3",
				"/d=[l 2] at prosody.cfg.lua:4", "/e=map[k:v] at prosody.cfg.lua:5", "/f=[] at prosody.cfg.lua:6"}},
		{"a table over several lines", "\nports = {\n  5222,\n  5223,\n}\n", []string{"/ports=[5222 5223] at prosody.cfg.lua:2"}},
		{"ports as names", "ssl = { [5281] = 'x' }", []string{"/ssl=map[5281:x] at prosody.cfg.lua:1"}},
		{"host", "VirtualHost 'A.Example'\na = 1\nVirtualHost 'b.example'\na = 2",
			[]string{"a.example/a=1 at prosody.cfg.lua:2", "b.example/a=2 at prosody.cfg.lua:4"}},
		{"host with a table returns to global", "VirtualHost 'a.example' {\n a = 1,\n b = 2 }\nc = 3",
			[]string{"a.example/a=1 at prosody.cfg.lua:1", "a.example/b=2 at prosody.cfg.lua:1", "/c=3 at prosody.cfg.lua:4"}},
		{"host opened again", "Host 'a.example' a = 1\nHost 'b.example' b = 1\nhost 'a.example' c = 1",
			[]string{"a.example/a=1 at prosody.cfg.lua:1", "b.example/b=1 at prosody.cfg.lua:2", "a.example/c=1 at prosody.cfg.lua:3"}},
		{"component", "Component 'c.example' 'muc' { a = 1 }\nb = 2\ncomponent 'd.example'\nc = 3",
			[]string{"c.example/a=1 at prosody.cfg.lua:1", "/b=2 at prosody.cfg.lua:2", "d.example/c=3 at prosody.cfg.lua:4"}},
		{"nil unsets", "a = 1\na = nil", nil},
		{"variable", "a = ENV_DOMAIN; b = os.getenv('DOMAIN')\nc = ENV_NOT_SET",
			[]string{"/a=meet.example.com at prosody.cfg.lua:1", "/b=meet.example.com at prosody.cfg.lua:1"}},
		{"a table filled later", "local l = {}\na = l\nl[1] = 'x'", []string{"/a=[x] at prosody.cfg.lua:2"}},
		{"append", "a = { 1 }\na:append{ 2 }\na { 3 }\nb = #a:value()", []string{"/a=[1 2 3] at prosody.cfg.lua:3", "/b=3 at prosody.cfg.lua:4"}},
		{"read", "a = 'x'\nb = a .. 'y' .. 1", []string{"/a=x at prosody.cfg.lua:1", "/b=xy1 at prosody.cfg.lua:2"}},
		{"Lua's own", "a = Lua.string.rep('x', 3)", []string{"/a=xxx at prosody.cfg.lua:1"}},
		{"a long list", "local l = {}\nfor i = 1, 1000 do l[#l+1] = i end\na = #l\nlocal n = 0\nfor _ in ipairs(l) do n = n + 1 end\nb = n\ntable.remove(l, 1)\ntable.insert(l, 1, 7)\ntable.sort(l)\nc = l[1] + l[1000]",
			[]string{"/a=1000 at prosody.cfg.lua:3", "/b=1000 at prosody.cfg.lua:6", "/c=1002 at prosody.cfg.lua:10"}},
		{"ipairs stops where the list does", "local n = 0\nfor _ in ipairs { 1, 2, nil, 4, k = 5 } do n = n + 1 end\na = n", []string{"/a=2 at prosody.cfg.lua:3"}},
		{"a caught error", "a = pcall(error, 'x')\nb = pcall(Include, 'missing.lua')", []string{"/a=false at prosody.cfg.lua:1", "/b=false at prosody.cfg.lua:2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := readText(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got := lines(c)
			for _, line := range tt.want {
				if !strings.Contains("\n"+strings.Join(got, "\n")+"\n", "\n"+line+"\n") {
					t.Errorf("there is no %s", line)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSections(t *testing.T) {
	c, err := readText("VirtualHost 'MEET.example.com'\nComponent 'conference.meet.example.com' 'muc'\nComponent 'focus.meet.example.com'\nVirtualHost 'bücher.example'")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Hosts {
		got = append(got, fmt.Sprint(s.Name, s.Component, s.Module, s.At))
	}
	want := []string{"meet.example.com false prosody.cfg.lua:1", "conference.meet.example.com true muc prosody.cfg.lua:2",
		"focus.meet.example.com true component prosody.cfg.lua:3", "bücher.example false prosody.cfg.lua:4"}
	for i := range want {
		want[i] = strings.Join(strings.Fields(want[i]), "")
		got[i] = strings.Join(strings.Fields(got[i]), "")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.Host("Meet.Example.COM") != c.Hosts[0] || c.Host("other.example.com") != nil || c.Host("") != nil {
		t.Error("Host finds the wrong section")
	}
}

// TestOwnInclude checks that a file can have an Include of its own, and that nothing is uncertain then. By it docker-jitsi-meet's
// GLOBAL_CONFIG has Prosody read a file after everything that a wildcard finds.
func TestOwnInclude(t *testing.T) {
	c, err := read(files(
		"etc/prosody/prosody.cfg.lua", `local include = Include; Include = function(file) include(file); `+
			`if file:find("*", 1, true) then include("usher.cfg.lua") end end`+"\nx = 0\nInclude 'conf.d/*.cfg.lua'",
		"etc/prosody/conf.d/meet.cfg.lua", "x = 1\nadmins = { 'a' }\nVirtualHost 'a.example'\nInclude 'more/*.lua'\ny = 1",
		"etc/prosody/conf.d/zz.cfg.lua", "z = 1",
		"etc/prosody/conf.d/more/x.lua", "x = 2",
		"etc/prosody/usher.cfg.lua", "x = 3\nadmins = { 'b' }\nVirtualHost 'a.example'\ny = 3",
	))
	if err != nil {
		t.Fatal(err)
	}
	got := lines(c)
	slices.Sort(got)
	if want := []string{"/admins=[b] at usher.cfg.lua:2", "/x=3 at usher.cfg.lua:1", "/z=1 at conf.d/zz.cfg.lua:1",
		"a.example/y=3 at usher.cfg.lua:4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(c.Warnings) > 0 || len(c.NeedsProsody13) > 0 {
		t.Errorf("warnings %v, needs 13: %v", c.Warnings, c.NeedsProsody13)
	}
}

func TestInclude(t *testing.T) {
	tree := files(
		"etc/prosody/prosody.cfg.lua", "VirtualHost 'a.example'\nInclude 'conf.d/*.cfg.lua'\nx = 1\nInclude '/opt/more.lua'\ninclude './conf.d/../one.lua'",
		"etc/prosody/conf.d/b.cfg.lua", "order = 'b'\nVirtualHost 'b.example'\ny = 2",
		"etc/prosody/conf.d/a.cfg.lua", "order = 'a'\nz = FileLine 'secret.txt'",
		"etc/prosody/conf.d/.hidden.cfg.lua", "error('read')",
		"etc/prosody/conf.d/a.cfg.lua~", "error('read')",
		"etc/prosody/conf.d/secret.txt", "s3cret\n",
		"opt/more.lua", "more = FileContents 'more.txt'\nnone = Credential 'c'\nInclude 'none/*.lua'",
		"opt/more.txt", "m\n", "opt/none/x.txt", "",
		"run/credentials/c", "credential",
		"etc/prosody/one.lua", "ls = FileLines 'conf.d/secret.txt'",
	)
	c, err := read(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/order=b at conf.d/b.cfg.lua:1", "b.example/y=2 at conf.d/b.cfg.lua:3", "/z=s3cret at conf.d/a.cfg.lua:2",
		"a.example/x=1 at prosody.cfg.lua:3", "/more=m\n at /opt/more.lua:1", "/none=credential at /opt/more.lua:2", "/ls=[s3cret] at one.lua:1"}
	got := lines(c)
	for _, line := range want {
		if !strings.Contains(strings.Join(got, "|")+"|", line+"|") {
			t.Errorf("there is no %q in %q", line, got)
		}
	}
	wantFiles := []string{"etc/prosody/prosody.cfg.lua", "etc/prosody/conf.d/", "etc/prosody/conf.d/a.cfg.lua", "etc/prosody/conf.d/secret.txt",
		"etc/prosody/conf.d/b.cfg.lua", "opt/more.lua", "opt/more.txt", "run/credentials/c", "opt/none/", "etc/prosody/one.lua"}
	if !reflect.DeepEqual(c.Files, wantFiles) {
		t.Errorf("got %q, want %q", c.Files, wantFiles)
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0].Error(), "conf.d/b.cfg.lua:1: order is set differently at conf.d/a.cfg.lua:1") {
		t.Errorf("got %v", c.Warnings)
	}
	if want := []Position{{"conf.d/a.cfg.lua", 2}, {"/opt/more.lua", 1}, {"/opt/more.lua", 2}, {"one.lua", 1}}; !reflect.DeepEqual(c.NeedsProsody13, want) {
		t.Errorf("got %v, want %v", c.NeedsProsody13, want)
	}
}

// TestLastWord sets an option in files that a wildcard finds, in the order of the folder, and in files that are included by
// name, and checks that usher warns only of an uncertain order.
func TestLastWord(t *testing.T) {
	const wild, named = "Include 'conf.d/*.lua'\n", "Include '/etc/prosody/usher.lua'\n"
	for _, tt := range []struct {
		name, main, a, b, last string
		want                   string // the option that is not certain, or none
	}{
		{"two files differ", wild, "x = 1", "x = 2", "", "/x conf.d/b.lua:1 conf.d/a.lua:1"},
		{"the same in a host", wild, "VirtualHost 'a.example'\nx = 1", "VirtualHost 'a.example'\nx = 2", "",
			"a.example/x conf.d/b.lua:2 conf.d/a.lua:2"},
		{"different hosts", wild, "VirtualHost 'a.example' x = 1", "VirtualHost 'b.example' x = 2", "", ""},
		{"two files agree", wild, "x = { 1 }", "x = { 1 }", "", ""},
		{"twice in the last", wild, "x = 1", "x = 2\nx = 3", "", "/x conf.d/b.lua:2 conf.d/a.lua:1"},
		{"a named file is last", wild + named, "x = 1", "x = 2", "x = 3", ""},
		{"a named file is last, and says what the first said", wild + named, "x = 1", "x = 2", "x = 1", ""},
		{"a named file is last, and says something else", wild + named, "x = 1", "x = 2", "y = 3", "/x conf.d/b.lua:1 conf.d/a.lua:1"},
		{"a named file is first", named + wild, "x = 1", "x = 2", "x = 3", "/x conf.d/b.lua:1 conf.d/a.lua:1"},
		{"the main file is last", wild + "x = 3", "x = 1", "x = 2", "", ""},
		{"another wildcard is last", wild + "Include 'ush*.lua'", "x = 1", "x = 2", "x = 3", ""},
		{"one of them includes the named file", wild, "x = 1", named, "x = 3", "/x usher.lua:1 conf.d/a.lua:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := read(files("etc/prosody/prosody.cfg.lua", tt.main, "etc/prosody/conf.d/a.lua", tt.a, "etc/prosody/conf.d/b.lua", tt.b,
				"etc/prosody/usher.lua", tt.last))
			if err != nil {
				t.Fatal(err)
			}
			got, warned := "", ""
			for _, u := range c.Unsure {
				got += fmt.Sprintf("%s/%s %s %s", u.Section.Name, u.Option, u.At, u.Other)
			}
			for _, w := range c.Warnings {
				if strings.Contains(w.Text, "not certain") {
					warned += w.At.String()
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if (warned != "") != (tt.want != "") || !strings.Contains(tt.want, warned) {
				t.Errorf("warnings %v", c.Warnings)
			}
		})
	}
}

// TestMarkedFiles reads a configuration with other texts than the file system has.
func TestMarkedFiles(t *testing.T) {
	tree := files("etc/prosody/prosody.cfg.lua", "Include 'conf.d/*.lua'\nInclude 'usher.lua'\nInclude 'usher.lua'\nz = 1",
		"etc/prosody/conf.d/zz.lua", "-- ours, older\nx = 1", "etc/prosody/conf.d/a.lua", "--[[ -- ours ]] y = 1",
		"etc/prosody/usher.lua", "-- ours\nx = 2")
	all := func(texts map[string]string, names ...string) *Configuration {
		c, err := Read(Source{FS: tree, Names: append([]string{"etc/prosody/prosody.cfg.lua"}, names...), Texts: texts, Mark: "-- ours"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := all(nil)
	if want := []string{"etc/prosody/conf.d/zz.lua", "etc/prosody/usher.lua"}; !reflect.DeepEqual(c.Marked, want) {
		t.Errorf("marked %q, want %q", c.Marked, want)
	}
	if o, _ := c.Global.Own("x"); o.Value != 2.0 {
		t.Errorf("got %q", lines(c))
	}
	without := all(map[string]string{"etc/prosody/conf.d/zz.lua": "", "etc/prosody/usher.lua": ""})
	if got := lines(without); len(got) != 2 || len(without.Marked) > 0 || len(without.Files) != len(c.Files) {
		t.Errorf("got %q in %q", got, without.Files)
	}
	added := all(map[string]string{"etc/prosody/new.lua": "x = 3"}, "etc/prosody/new.lua")
	if o, _ := added.Global.Own("x"); o.Value != 3.0 || o.At != (Position{"new.lua", 1}) {
		t.Errorf("got %q", lines(added))
	}
}

// TestProblemsInIncludedFiles checks that a problem has its own place, and not that of the Include.
func TestProblemsInIncludedFiles(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1\nb = = 2":         "conf.d/x.lua:2: a value is missing before =",
		"\nlocal t = nil + 1":    "conf.d/x.lua:2: Lua stops here: cannot perform add operation between nil and number",
		"\nerror('no', 0)":       "conf.d/x.lua:2: Lua stops here: no",
		"\n\nInclude 'none.lua'": "conf.d/x.lua:3: cannot read conf.d/none.lua: file does not exist",
	} {
		_, err := read(files("etc/prosody/prosody.cfg.lua", "x = 1\nInclude 'conf.d/*.lua'", "etc/prosody/conf.d/x.lua", text))
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// An option that one file sets twice does not depend on the order of files.
	twice := files("etc/prosody/prosody.cfg.lua", "Include '*.lua~'", "etc/prosody/x.lua~", "a = 1\na = 2")
	if c, err := read(twice); err != nil || len(c.Warnings) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
	// The same warning comes once, however often the line runs.
	if c, err := readText("for i = 1, 9 do a = i end"); err != nil || len(c.Warnings) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestSeveralMainFiles(t *testing.T) {
	c, err := Read(Source{FS: files("a/x.lua", "g = 1\nVirtualHost 'a.example'", "b/y.lua", "h = 2\nVirtualHost 'a.example' { i = 3 }"), Names: []string{"a/x.lua", "b/y.lua"}})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := c.Global.Own("h"); o.At != (Position{"/b/y.lua", 1}) || len(c.Hosts) != 1 || len(c.Hosts[0].Options) != 1 {
		t.Errorf("got %q", lines(c))
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ text, want string }{
		{"a = 1\n\na = 1", "prosody.cfg.lua:3: a was set in line 1 already"},
		{"VirtualHost 'a.example'\na = 1\nVirtualHost 'a.example'\na = 1", "prosody.cfg.lua:4: a was set in line 2"},
		{"a = 1\nVirtualHost 'a.example'\na = 1", ""},
		{"authentication = internal_hashed", "prosody.cfg.lua:1: authentication is not set, because internal_hashed is nothing here: a text needs quotes"},
		{"a = ENV_NOT_SET", ""},
		{"modules_enabled = { 'a', b, 'c' }", "prosody.cfg.lua:1: modules_enabled has nothing as its entry 2"},
		{"a = { b, 'c' }", "prosody.cfg.lua:1: a has nothing as its entry 1"},
		{"https_certificate = { [80] = 'c' }", ""},
		{"Component 'a.example' 'muc' { 'muc_mam' }", "prosody.cfg.lua:1: an entry without a name does nothing"},
	}
	for _, tt := range tests {
		c, err := readText(tt.text)
		switch {
		case err != nil:
			t.Errorf("%s: %v", tt.text, err)
		case tt.want == "" && len(c.Warnings) > 0, tt.want != "" && (len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0].Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.text, c.Warnings, tt.want)
		}
	}
}

// problems are what people get wrong, and what programs do that usher does not.
var problems = []struct {
	text string
	line int
	want string
}{
	// syntax
	{"\na = “x”", 2, "the quote “ is typographic"},
	{"a = ‘x’", 1, "the quote ‘ is none of Lua's"},
	{"a = «x»", 1, "the quote « is typographic"},
	{"– a comment", 1, "the dash – is typographic"},
	{"— a comment", 1, "the dash — is typographic"},
	{"a = 1\n\u00a0b = 2", 2, "invisible character (U+00A0"},
	{"\ufeffa = 1", 1, "byte order mark"},
	{"a = 1\n// x\n", 2, "a comment begins with -- in Lua, not with //"},
	{"a = 1 // x", 1, "// is an operator of newer Lua than usher evaluates; a comment begins with --"},
	{"/* x */", 1, "not with /*"},
	{"# x", 1, "not with #"},
	{"a = 1 # x", 1, "not with #"},
	{"a = {\n 1, # x\n}", 2, "a comment begins with --"},
	{"a = 'x\nb = 1", 1, "a ' is missing: the string in this line has no end"},
	{"a = 'x", 1, "a ' is missing"},
	{"\na = [[x", 2, "never closed"},
	{"--[[ x", 1, "never closed"},
	{"a 1", 1, "a = is missing after a"},
	{"a true", 1, "a = is missing after a"},
	{"a = {\n 'x'\n 'y'\n}", 2, "a comma is missing at the end of this line"},
	{"a = { 'x' b = 'y' }", 1, "a comma is missing before b"},
	{"a = {\n1, 2\nb = 3", 1, "the { in this line is never closed: a } is missing"},
	{"a = 1 }", 1, "this } closes nothing"},
	{"a = (1}", 1, "cannot close the ( of line 1"},
	{"a : 1", 1, "write = where the : is"},
	{"a: 'x'", 1, "write = where the : is"},
	{"a == 1", 1, "write one =, not =="},
	{"a\nb = 1", 1, "a stands alone"},
	{"a", 1, "the file ends where more is expected, after a"},
	{"a =\n\nb = 1", 3, "cannot stand after b"},
	{"a = = 1", 1, "a value is missing before ="},
	{"if a then\nb = 1\n", 1, "the if in this line is never closed: an end is missing"},
	{"a = 10MB", 1, "10MB is no number"},
	{"a = 5 ~= 3 and 1 ~ 2", 1, "newer Lua"},
	{"a = 1 & 2", 1, "& is an operator of newer Lua"},
	{"a = 1 << 2", 1, "<< is an operator of newer Lua"},
	{"local a <const> = 1", 1, "<const> is newer Lua"},
	{"a = '\\x41'", 1, `\x in a string is newer Lua`},
	{"a = 'C:\\dir'", 1, `for a single \, write \\`},
	{"a = 1 != 2", 1, "write ~="},
	{"a = 1 && 2", 1, "write and"},
	{"a = \xff", 1, "no UTF-8"},
	{"a = 1\x00", 1, "control character"},
	{"a = 1 @ 2", 1, "@ (U+0040) cannot stand here"},
	// options and hosts
	{"admins { 'x' }", 1, "admins is no function of Prosody's: to set an option, write admins = "},
	{"log 'x'", 1, "log is no function of Prosody's"},
	{"a = {}\na 'x'", 2, "a = is missing after a"},
	{"a = 'x' .. ENV_NOT_SET", 1, "ENV_NOT_SET is nil here, and .. needs a text"},
	{"a = b.c", 1, "b is not set here"},
	{"VirtualHost ''", 1, "is no domain"},
	{"VirtualHost 'a@b.example'", 1, "is no domain"},
	{"VirtualHost 'a b'", 1, "is no domain"},
	{"VirtualHost '*'", 1, "is no domain"},
	{"VirtualHost(nil)", 1, "must have a name"},
	{"VirtualHost 'a.example' 'muc'", 1, "takes no module"},
	{"VirtualHost 'a.example' (5)", 1, "only options in braces"},
	{"Component 'a.example' 'muc' (5)", 1, "only options in braces"},
	{"VirtualHost 'a.example'\nComponent 'A.example' 'muc'", 2, "clashes with the VirtualHost of this name, see prosody.cfg.lua:1"},
	{"Component 'a.example' 'muc'\nVirtualHost 'a.example'", 2, "clashes with the Component"},
	{"a = 1\nf = function() end", 2, "f is or contains a function"},
	{"a = { x = { print } }", 1, "a is or contains a function"},
	{"local t = {} t.t = t\na = t", 2, "one that contains itself"},
	{"a = {" + strings.Repeat("{", 16) + strings.Repeat("}", 16) + "}", 1, "more than 16 deep"},
	{"a = 0/0", 1, "no number"},
	{"modules_enabled = 'x'", 1, "modules_enabled is no list"},
	{"a = { 1 } b = a", 1, "set to another option"},
	{"Include = 1", 1, "Include is a word of Prosody's"},
	{"Include = nil", 1, "Include is a word of Prosody's"},
	{"FileLine = function() end", 1, "FileLine is a word of Prosody's"},
	{"Include = function(file) Include(file) x = 1 end\nInclude 'x.lua'", 1, "too deep"},
	{"component_module = 'muc'", 1, "not for configurations to set"},
	{"error('so it is', 0)", 1, "so it is"},
	{"\nerror{}", 2, "ends itself here"},
	{"assert(false, 'no')", 1, "no"},
	{"a = nil + 1", 1, "Lua stops here"},
	// files
	{"Include 'none.lua'", 1, "cannot read none.lua"},
	{"Include 'none/*.lua'", 1, "cannot read the folder none of"},
	{"Include '*/x*.lua'", 1, "A wildcard can only stand in the last part"},
	{"Include '*/'", 1, "names a folder"},
	{"\nInclude 'prosody.cfg.lua'", 2, "includes itself"},
	{"Include '../../../../..'", 1, "no name of a file"},
	{"a = FileContents 'none'", 1, "cannot read none"},
	{"a = FileContents 'folder'", 1, "it is a folder"},
	{"a = FileLine 'folder/empty'", 1, "is empty"},
	{"RunScript 'x.lua'", 1, "RunScript runs a program"},
	// what is not available
	{"local f = io.open('/etc/passwd')", 1, "io is not available: usher evaluates the configuration, but lets it touch nothing"},
	{"os.execute('x')", 1, "os.execute is not available"},
	{"\nrequire 'x'", 2, "require is not available"},
	{"pcall(require, 'x')", 1, "require is not available"},
	{"local a = Lua.debug", 1, "debug is not available"},
	{"setmetatable({}, {})", 1, "setmetatable is not available"},
	{"a = math.random()", 1, "math.random is not available"},
	{"a = ('x'):gsub('x*', '-')", 1, "also matches nothing at all"},
	{"for w in ('x,y'):gmatch('[^,]*') do end", 1, "also matches nothing at all"},
	{"a = ('x'):find('%f[x]')", 1, "%f in a pattern is newer Lua"},
	{"a = string.char(300)", 1, "300 is no byte"},
	{"a = _G.x", 1, "_G is not available"},
}

// TestProblems checks the place and text of each problem.
func TestProblems(t *testing.T) {
	for _, tt := range problems {
		t.Run(tt.text[:min(len(tt.text), 40)], func(t *testing.T) {
			tree := files("etc/prosody/prosody.cfg.lua", tt.text, "etc/prosody/folder/empty", "")
			_, err := read(tree)
			var p Problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v", err)
			}
			if p.At != (Position{"prosody.cfg.lua", tt.line}) || !strings.Contains(p.Text, tt.want) {
				t.Errorf("got %v, want line %d and %q", err, tt.line, tt.want)
			}
		})
	}
}

const endless, long, nested = "does not come to an end", "a text longer than 65536 bytes", "nest"

// hostile are programs that would run or grow without end, or break the machine.
var hostile = []struct{ name, text, want string }{
	{"loop", "while true do end", endless},
	{"caught loop", "while true do pcall(function() while true do end end) end", endless},
	{"caught once", "pcall(function() while true do end end)", endless},
	{"loop in a table's order", "table.sort({ 1, 2, 3 }, function() while true do end end)", endless},
	{"loop in a replacement", "('x'):gsub('x', function() while true do end end)", endless},
	{"recursion", "local function f() return 1 + f() end f()", "too deep in this line"},
	{"tail recursion", "local function f() return f() end f()", endless},
	{"doubling", "local s = 'x' while true do s = s .. s end", long},
	{"many long texts", "local t, s = {}, ('x'):rep(60000) for i = 1, 1e9 do t[i] = s .. i end", endless},
	{"rep", "a = ('x'):rep(1e9)", long},
	{"rep of nothing", "a = (''):rep(1e9)", long},
	{"rep with separator", "a = (''):rep(1e9, 'xx')", long},
	{"concat", "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1000) end a = table.concat(t)", long},
	{"format", "a = ('%999999999d'):format(1)", "does not understand this format"},
	{"format of long texts", "local s = ('x'):rep(60000) a = ('%s%s%s%s%s'):format(s, s, s, s, s)", long},
	{"format by argument", "a = ('%*d'):format(9, 9)", "does not understand"},
	{"replacement", "local s = ('x'):rep(60000) a = s:gsub('x', s)", endless},
	{"replacement by captures", "local s = ('x'):rep(2000) a = s:gsub('x', ('%0'):rep(30000))", "may"},
	{"replacement by function", "local s = ('x'):rep(60000) a = ('x'):rep(100):gsub('x', function() return s end)", long},
	{"backtracking", "a = ('a'):rep(60):match(('a?'):rep(40) .. ('a'):rep(60) .. 'b')", "pattern may take too long"},
	{"backtracking by lists", "a = ('a'):rep(1000):find('.-.-.-.-b')", "pattern may take too long"},
	{"balance", "a = ('('):rep(60000):find('%b()')", "pattern may take too long"},
	{"many matches", "for i = 1, 1e9 do local f = ('x'):rep(1000):gmatch('x') end", endless},
	{"far entries", "local t = {} for i = 1, 1e9 do t[i] = {} t[i][200] = 1 end", endless},
	{"far entry", "local t = {} t[60000000] = 1 t[1e300] = 1 t[-1] = 1 a = 1 error('reached')", "reached"},
	{"insert afar", "table.insert({}, 1e9, 1)", "cannot put an entry"},
	{"unpack", "local t = { unpack({}, 1, 1e9) }", "unpack gives more than"},
	{"unpack all", "local t = { unpack({}, -9e18, 9e18) }", "unpack gives more than"},
	{"many values", "local function f(...) return f(1, 2, 3, 4, 5, 6, 7, 8, ...) end f()", ""},
	{"removed entries", "local t = {} for i = 1, 60000 do t['k' .. i] = 1 t['k' .. i] = nil end while true do next(t) end", endless},
	{"many tables", "for i = 1, 50000 do local t = {} end", endless},
	{"many costly patterns", "local s = ('x'):rep(1000) for i = 1, 100 do s:find('x*y') end", endless},
	{"caught at the very end", "return pcall(require, 'x')", "not available"},
	{"tables", "local t while true do t = { t } end", endless},
	{"closures", "local f while true do local g = f f = function() return g end end", endless},
	{"deep value", "local t = {} local u = t for i = 1, 1000 do u[1] = {} u = u[1] end a = t", "more than 16 deep"},
	{"wide value", "local t = { 1 } for i = 1, 14 do t = { t, t, t, t, t, t, t, t } end a = t", "too large"},
	{"brackets", "a = " + strings.Repeat("(", 500_000), nested},
	{"braces", "a = " + strings.Repeat("{", 500_000), nested},
	{"nots", "a = " + strings.Repeat("not ", 20_000) + "1", nested},
	{"minus", "a = " + strings.Repeat("- ", 25_000) + "1", nested},
	{"powers", "a = 1" + strings.Repeat("^1", 12_000), nested},
	{"sums", "a = 1" + strings.Repeat("+1", 12_000), nested},
	{"joins", "a = 1" + strings.Repeat(" ..1", 12_000), "texts are joined here"},
	{"calls", "f" + strings.Repeat("()", 14_000), nested},
	{"fields", "a = b" + strings.Repeat(".c", 12_000), nested},
	{"blocks", strings.Repeat("do ", 200_000) + strings.Repeat("end ", 200_000), ""},
	{"elseifs", "if a then " + strings.Repeat("elseif a then ", 5_000) + "end", nested},
	{"functions", strings.Repeat("f = function() ", 3_000) + strings.Repeat("end ", 3_000), nested},
	{"tokens", strings.Repeat(";", 1_000_000), "the file is too large"},
	{"a large file", strings.Repeat(" ", maxFile+1), "more than 1 MB"},
	{"a long string", "a = '" + strings.Repeat("x", 70_000) + "'", "longer than"},
	{"many locals", strings.Repeat("local x = 1 ", 300), "cannot evaluate this"},
	{"a nil name", "local t = {} t[nil] = 1", "nil"},
	{"a name that is no number", "local t = {} t[0/0] = 1 t[0/0] = 2 for k in pairs(t) do end a = t", ""},
	{"a chain of includes", "Include 'deep/1.lua'", "more than 16 deep"},
	{"a cycle", "Include 'cycle.lua'", "includes itself"},
	{"own string functions", "string.rep = nil string.format = error local s = ('x'):rep(1)", "Lua stops here"},
	{"a method of nothing", "a = (nil):x()", "Lua stops here"},
	{"error in an error", "error(setmetatable)", "not available"},
	{"overflow in a handler", "local function f() pcall(f) error('x') end f()", ""},
}

// TestHostile checks that each hostile program ends, with a problem.
func TestHostile(t *testing.T) {
	tree := files("etc/prosody/cycle.lua", "Include 'prosody.cfg.lua'")
	for i := range 20 {
		tree[fmt.Sprintf("etc/prosody/deep/%d.lua", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "Include '%d.lua'", i+1)}
	}
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			tree := tree
			tree["etc/prosody/prosody.cfg.lua"] = &fstest.MapFile{Data: []byte(tt.text)}
			_, err := read(tree)
			var p Problem
			if !errors.As(err, &p) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if p.At.File == "" {
				t.Errorf("%v has no place", err)
			}
		})
	}
}

// No message has a text that may be a secret without its quotes.
func TestSecretsWithoutQuotes(t *testing.T) {
	for _, value := range []string{
		"c2b1a0f9e8d7c6b5", "9c2b1a0f9e8d7c6b5", "c2b1a0f9e8d7c6b5 a4f3e2d1c0b9a8f7", "c2b1a0f9e8d7c6b5, a4f3e2d1c0b9a8f7", "'x'c2b1a0f9e8d7c6b5",
		"c2b1a0f9e8d7c6b5 'x'", "c2b1a0f9e8d7c6b5 .. 'x'", "c2b1a0f9e8d7c6b5.a4f3e2d1c0b9a8f7", "c2b1a0f9e8d7c6b5+a4f3e2d1c0b9a8f7==", "c2b1a0f9e8d7c6b5(1)",
	} {
		for _, set := range []string{"app_secret = ", "Component 'c.example' component_secret=", "ldap = { password = ", "_G['app_secret'] = "} {
			c, err := readText("a = 1\n" + set + value + "\n}")
			text := fmt.Sprint(err)
			if err == nil {
				text = fmt.Sprint(c.Warnings)
			}
			for secret := range strings.FieldsFuncSeq(value, func(r rune) bool { return !strings.ContainsRune("abcdef0123456789", r) }) {
				if len(secret) > 8 && strings.Contains(text, secret) {
					t.Errorf("%s%s: %s", set, value, text)
				}
			}
		}
	}
	_, err := readText("muc_secret_rooms = true\nmodules_enabled = { \"a\" b }")
	if err == nil || !strings.Contains(err.Error(), "a comma is missing before b") {
		t.Errorf("%v", err)
	}
}
