package adopt

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

const (
	appSecret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	password  = "the-password-of-jicofo"
)

// tree are the files of a machine, by their names. A name with an arrow behind it is a symbolic link.
type tree map[string]string

// debian is Jitsi as Debian's packages configure it, shortened, with the links that Jitsi's installer makes.
func debian() tree {
	return tree{
		"etc/prosody/prosody.cfg.lua": "admins = { }\nmodules_enabled = { \"roster\"; \"saslauth\"; \"disco\" }\nauthentication = \"internal_hashed\"\n" +
			"Include \"conf.d/*.cfg.lua\"",
		"etc/prosody/conf.d/meet.example.com.cfg.lua ->": "/etc/prosody/conf.avail/meet.example.com.cfg.lua",
		"etc/prosody/conf.avail/meet.example.com.cfg.lua": `plugin_paths = { "/usr/share/jitsi-meet/prosody-plugins/" }
VirtualHost "meet.example.com"
    authentication = "token"
    app_id = "my_app"
    app_secret = "` + appSecret + `"
    modules_enabled = { "bosh"; "websocket"; "smacks"; "muc_lobby_rooms" }
    lobby_muc = "lobby.meet.example.com"
    main_muc = "conference.meet.example.com"
VirtualHost "guest.meet.example.com"
    authentication = "jitsi-anonymous"
VirtualHost "auth.meet.example.com"
    authentication = "internal_hashed"
Component "conference.meet.example.com" "muc"
    modules_enabled = { "muc_meeting_id"; "token_verification" }
    admins = { "focus@auth.meet.example.com" }
Component "lobby.meet.example.com" "muc"
    restrict_room_creation = true
Component "focus.meet.example.com" "client_proxy"
    target_address = "focus@auth.meet.example.com"
`,
		"etc/jitsi/jicofo/jicofo.conf": "jicofo {\n  authentication: { enabled: true, type: JWT }\n  xmpp: { client: {\n    client-proxy: \"focus.meet.example.com\"\n" +
			"    password: \"" + password + "\"\n  } }\n}\n",
		"etc/jitsi/meet/meet.example.com-config.js": "var config = {\n    hosts: { domain: 'meet.example.com' },\n" +
			"    conferenceRequestUrl: 'https://meet.example.com/' + subdir + 'conference-request/v1',\n    lang: 'en'\n};\n",
		"usr/local/README": "nothing\n",
	}
}

// grow writes a tree into a folder.
func grow(t interface {
	Helper()
	Fatal(...any)
}, root string, files tree) {
	t.Helper()
	for name, content := range files {
		name, link := strings.CutSuffix(name, " ->")
		name = filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if link && err == nil {
			err = os.Symlink(content, name)
		} else if err == nil {
			err = os.WriteFile(name, []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// pictured returns everything below a folder: the mode, owner and content of each name.
func pictured(t interface {
	Helper()
	Fatal(...any)
}, root string) tree {
	t.Helper()
	all := tree{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		stat, err := os.Lstat(path)
		if err != nil {
			return err
		}
		says := stat.Mode().String()
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			says += " " + target
		case e.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			says += fmt.Sprintf(" %s\n%s", stat.ModTime().UTC().Format(time.RFC3339Nano), content)
		}
		all[name] = says
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differs returns the names that are not the same in two pictures.
func differs(a, b tree) (names []string) {
	for name := range a {
		if a[name] != b[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestDebian adopts a Jitsi of Debian: the dry run writes nothing and shows no secret, the second run has nothing to do, and the undo puts
// everything back, with modes and times.
func TestDebian(t *testing.T) {
	root := t.TempDir()
	grow(t, root, debian())
	before := pictured(t, root)
	o := Options{Root: root}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if d := differs(before, pictured(t, root)); len(d) > 0 {
		t.Errorf("the plan has changed %v", d)
	}
	var files []string
	diff := ""
	for _, c := range p.Changes {
		files = append(files, c.File)
		diff += c.Diff()
	}
	want := []string{
		"/etc/usher/usher.yaml", "/etc/usher/component.secret", "/usr/local/lib/prosody/modules/mod_usher.lua",
		"/usr/local/lib/prosody/modules/mod_muc_affiliated_only.lua", "/etc/prosody/usher.cfg.lua", "/etc/prosody/prosody.cfg.lua", "/etc/jitsi/jicofo/jicofo.conf", "/etc/jitsi/meet/meet.example.com-config.js",
	}
	if !slices.Equal(files, want) {
		t.Errorf("changes %v", files)
	}
	if !strings.Contains(diff, " lines of usher's own)") || strings.Contains(diff, "module:hook") {
		t.Errorf("the diff has usher's module:\n%s", diff)
	}
	secret := p.Config.XMPP.Secret.Reveal()
	for _, s := range []string{appSecret, password, secret, "usher-adopt-"} {
		if strings.Contains(diff, s) {
			t.Errorf("the diff has %q:\n%s", s, diff)
		}
	}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	again, err := New(o)
	if err != nil || len(again.Changes) > 0 || again.Interrupted {
		t.Errorf("the second run: %v", err)
	}
	for name, mode := range map[string]fs.FileMode{"component.secret": 0o640, "usher.yaml": 0o640, "adopt.json": 0o600} {
		if stat, err := os.Stat(filepath.Join(root, "etc/usher", name)); err != nil || stat.Mode() != mode {
			t.Errorf("%s: %v, %v", name, stat.Mode(), err)
		}
	}
	for _, name := range []string{"etc/prosody/prosody.cfg.lua", "etc/jitsi/jicofo/jicofo.conf"} {
		if found, _ := filepath.Glob(filepath.Join(root, name+".before-usher-2*")); len(found) != 1 {
			t.Errorf("backups of %s: %v", name, found)
		}
	}
	if was, err := Undo(o); !was || err != nil {
		t.Fatal(was, err)
	}
	after := pictured(t, root)
	if d := differs(before, after); len(d) > 0 {
		t.Errorf("after the undo these differ: %v", d)
	}
	if was, err := Undo(o); was || err != nil {
		t.Error(was, err)
	}
}

// TestRenewed adopts a Jitsi with the lines and the module of an earlier usher. Both are renewed, and nothing else is changed. An undo takes
// the module away, whichever version it has by then.
func TestRenewed(t *testing.T) {
	root := t.TempDir()
	grow(t, root, debian())
	before := pictured(t, root)
	o := Options{Root: root}
	adopted := func() []string {
		t.Helper()
		p, err := New(o)
		if err == nil {
			err = p.Apply()
		}
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for _, c := range p.Changes {
			files = append(files, c.File)
		}
		return files
	}
	adopted()
	modules, lines := filepath.Join(root, "usr/local/lib/prosody/modules"), filepath.Join(root, config.LinesFile)
	now, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	older := regexp.MustCompile(`(?m)^  usher_component.*\n`).ReplaceAllString(strings.ReplaceAll(string(now), `"usher" }`, `"muc_affiliated_only" }`), "")
	if older == string(now) || !strings.Contains(older, `"muc_affiliated_only" }`) {
		t.Fatalf("these lines do not load the module:\n%s", now)
	}
	const was = "-- mod_muc_affiliated_only, which comes with usher: an earlier one\n"
	if err := errors.Join(
		os.WriteFile(lines, []byte(older), 0o640), os.Remove(filepath.Join(modules, "mod_usher.lua")),
		os.WriteFile(filepath.Join(modules, "mod_muc_affiliated_only.lua"), []byte(was), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	want := []string{"/usr/local/lib/prosody/modules/mod_usher.lua", "/usr/local/lib/prosody/modules/mod_muc_affiliated_only.lua", config.LinesFile}
	if got := adopted(); !slices.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	if again, err := os.ReadFile(lines); err != nil || string(again) != string(now) {
		t.Errorf("%v\n%s", err, again)
	}
	for _, f := range module.Files() {
		if again, err := os.ReadFile(filepath.Join(modules, f.Name)); err != nil || !bytes.Equal(again, f.Source) {
			t.Errorf("%s: %v\n%s", f.Name, err, again)
		}
	}
	// The lines may have been somebody's work. The module is nobody's: a package has renewed it, and will again.
	var undoable *Undoable
	if _, err := Undo(o); !errors.As(err, &undoable) || len(undoable.Files) != 1 || !strings.Contains(undoable.Files[0], config.LinesFile) {
		t.Fatal(err)
	}
	backups, _ := filepath.Glob(lines + ".before-usher-*")
	for _, name := range append(backups, lines) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(modules, "mod_usher.lua"), []byte("-- mod_usher, which comes with usher: a later one\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if was, err := Undo(o); !was || err != nil {
		t.Fatal(was, err)
	}
	if d := differs(before, pictured(t, root)); len(d) > 0 {
		t.Errorf("after the undo these differ: %v", d)
	}
}

// TestOwner checks that a file that exists keeps its owner and mode, and that usher's lines get the group of Prosody's main file.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	root := t.TempDir()
	grow(t, root, debian())
	main, jicofo := filepath.Join(root, prosodyMain), filepath.Join(root, jicofoConf)
	if err := errors.Join(os.Chown(main, 0, 4711), os.Chown(jicofo, 4712, 4713), os.Chmod(jicofo, 0o604)); err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Root: root})
	if err == nil {
		err = p.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]owner{
		prosodyMain: {mode: 0o640, uid: 0, gid: 4711}, "/etc/prosody/usher.cfg.lua": {mode: 0o640, uid: 0, gid: 4711}, jicofoConf: {mode: 0o604, uid: 4712, gid: 4713},
	} {
		got, err := root2(root).ownerOf(name)
		if got.at = (time.Time{}); got != want || err != nil {
			t.Errorf("%s: %+v, want %+v (%v)", name, got, want, err)
		}
	}
}

func root2(name string) root { return root(name) }

// TestRefused checks that what cannot be adopted is refused with its place, before anything is written.
func TestRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "more.cfg.lua")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(tree)
		want   []string
	}{
		"no Jitsi": {func(f tree) { delete(f, "etc/prosody/prosody.cfg.lua") }, []string{"no Jitsi was found: /etc/prosody/prosody.cfg.lua"}},
		"Prosody alone": {func(f tree) {
			delete(f, "etc/prosody/conf.avail/meet.example.com.cfg.lua")
			f["etc/prosody/prosody.cfg.lua"] = "VirtualHost \"example.com\"\nComponent \"rooms.example.com\" \"muc\"\n"
		}, []string{"If this Prosody serves no Jitsi, adopt is not for it"}},
		"a fault in Prosody's files": {func(f tree) { f["etc/prosody/prosody.cfg.lua"] += "\nadmins = { \"a\"" },
			[]string{"prosody prosody.cfg.lua:5: the { in this line is never closed"}},
		"an example for a secret": {func(f tree) { replace(f, "etc/prosody/conf.avail/meet.example.com.cfg.lua", appSecret, "changeme") },
			[]string{"prosody conf.d/meet.example.com.cfg.lua:5: vhosts.meet.example.com.app_secret: is an example", "write /etc/usher/usher.yaml yourself"}},
		"somebody else's file": {func(f tree) { f["etc/prosody/usher.cfg.lua"] = "admins = { }\n" },
			[]string{"/etc/prosody/usher.cfg.lua was not written by usher: move it away"}},
		"another module of the name": {func(f tree) { f["usr/local/lib/prosody/modules/mod_usher.lua"] = "-- mine\n" },
			[]string{"/usr/local/lib/prosody/modules/mod_usher.lua exists and is not usher's"}},
		"somebody else's module": {func(f tree) { f["usr/local/lib/prosody/modules/mod_muc_affiliated_only.lua"] = "-- mine\n" },
			[]string{"/usr/local/lib/prosody/modules/mod_muc_affiliated_only.lua exists and is not usher's"}},
		"jicofo.conf": {func(f tree) { f["etc/jitsi/jicofo/jicofo.conf"] = "# x\njicofo {\n  a = 1\n" },
			[]string{"/etc/jitsi/jicofo/jicofo.conf:2: this brace is never closed"}},
		"Jicofo's former option": {func(f tree) {
			f["etc/jitsi/jicofo/sip-communicator.properties"] = "a=b\norg.jitsi.jicofo.auth.URL=XMPP:meet.example.com\n"
		},
			[]string{"/etc/jitsi/jicofo/sip-communicator.properties:2: this wins over /etc/jitsi/jicofo/jicofo.conf"}},
		"an option of Java": {func(f tree) {
			f["etc/jitsi/jicofo/config"] = "JAVA_SYS_PROPS=\"-Djicofo.authentication.enabled=true\"\n"
		},
			[]string{"/etc/jitsi/jicofo/config:1: this wins over"}},
		"config.js on one line": {func(f tree) {
			f["etc/jitsi/meet/meet.example.com-config.js"] = "\nvar config = { conferenceRequestUrl: 'https://x', a: 1 };\n"
		}, []string{"/etc/jitsi/meet/meet.example.com-config.js:2: conferenceRequestUrl must go"}},
		"a faulty usher.yaml": {func(f tree) { f["etc/usher/usher.yaml"] = "xmpp:\n  domian: focus.meet.example.com\n" },
			[]string{"/etc/usher/usher.yaml:2: xmpp.domian: "}},
		"lines that are not enough": {func(f tree) {
			f["etc/prosody/prosody.cfg.lua"] += "\nhost_user_role = \"prosody:admin\"\n"
			replace(f, "etc/prosody/conf.avail/meet.example.com.cfg.lua", `Component "lobby`, `host_user_role = "prosody:admin"`+"\n"+`Component "lobby`)
		}, []string{"usher's lines would not be enough", "host_user_role"}},
		"an Include that leads out of the root": {func(f tree) {
			f["etc/prosody/prosody.cfg.lua"] += "\nInclude \"" + outside + "\"\n"
		}, []string{"with --root, usher cannot tell where it lies"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := debian()
			test.change(files)
			grow(t, root, files)
			before := pictured(t, root)
			p, err := New(Options{Root: root})
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("%v, %v", p != nil, err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "usher-adopt-") || strings.Contains(err.Error(), appSecret) {
				t.Error(err)
			}
			if d := differs(before, pictured(t, root)); len(d) > 0 {
				t.Errorf("changed: %v", d)
			}
		})
	}
}

func replace(f tree, name, old, new string) { f[name] = strings.Replace(f[name], old, new, 1) }

// anonymous makes the tree one without tokens: all people are guests, as Jitsi's installer leaves it.
func anonymous(f tree) {
	const file = "etc/prosody/conf.avail/meet.example.com.cfg.lua"
	replace(f, file, `authentication = "token"`, `authentication = "jitsi-anonymous"`)
	replace(f, file, `    app_id = "my_app"`+"\n"+`    app_secret = "`+appSecret+`"`+"\n", "")
	replace(f, file, `"token_verification"`, `"muc_domain_mapper"`)
}

// TestHostless checks that a Jitsi where nobody can be a host is not adopted before the operator has said who opens rooms, or wants it so.
func TestHostless(t *testing.T) {
	root := t.TempDir()
	files := debian()
	anonymous(files)
	grow(t, root, files)
	before := pictured(t, root)
	p, err := New(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Apply()
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal != p.Refusal {
		t.Fatal(err)
	}
	for _, want := range []string{"everybody will wait for ever", "usher adopt --apply --without-hosts", `README, "Hosts log in"`, `guest_rooms: ["*"]`, usherYAML} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if d := differs(before, pictured(t, root)); len(d) > 0 {
		t.Errorf("changed: %v", d)
	}

	if p, err = New(Options{Root: root, WithoutHosts: true}); err == nil {
		err = p.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
	if p, err = New(Options{Root: root}); err != nil || p.Refusal == nil || strings.Contains(p.Refusal.Error(), "--without-hosts") {
		t.Fatalf("usher.yaml is there now: %v, %v", err, p.Refusal)
	}
	own, err := os.ReadFile(filepath.Join(root, usherYAML))
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range [][2]string{
		{"rooms:\n", "rooms:\n  guest_rooms: [\"*\"]\n"},
		{"  meet.example.com:\n    kind: guest", "  meet.example.com:\n    allow_empty_token: true\n    app_id: usher\n    app_secret: " + appSecret + "\n    kind: token"},
	} {
		text := strings.Replace(string(own), open[0], open[1], 1)
		if text == string(own) {
			t.Fatalf("%q is not in\n%s", open[0], own)
		}
		if err := os.WriteFile(filepath.Join(root, usherYAML), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if p, err = New(Options{Root: root}); err == nil {
			err = p.Apply()
		}
		if err != nil {
			t.Errorf("%s: %v", open[1], err)
		}
	}
}

// TestOperatorsYAML checks that an usher.yaml with keys stays as it is, that one with nothing but comments counts as none, and that lines
// with another way to log in, which an operator has chosen, stay.
func TestOperatorsYAML(t *testing.T) {
	root := t.TempDir()
	files := debian()
	files["etc/usher/usher.yaml"] = "# usher's package has installed this.\n"
	grow(t, root, files)
	if err := os.Chmod(filepath.Join(root, usherYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	o := Options{Root: root, Authentication: "token"}
	for range 2 {
		p, err := New(o)
		if err == nil {
			err = p.Apply()
		}
		if err != nil {
			t.Fatal(err)
		}
		own, err := os.ReadFile(filepath.Join(root, usherYAML))
		if err != nil || !bytes.Contains(own, []byte("app_id: my_app")) {
			t.Fatalf("%v\n%s", err, own)
		}
		if stat, err := os.Stat(filepath.Join(root, usherYAML)); err != nil || stat.Mode().Perm() != 0o640 {
			t.Errorf("it has secrets now: %v, %v", stat.Mode(), err)
		}
		o.Authentication = ""
	}
	lines, err := os.ReadFile(filepath.Join(root, "etc/prosody/usher.cfg.lua"))
	if err != nil || !bytes.Contains(lines, []byte(`authentication stays "token"`)) {
		t.Errorf("%v\n%s", err, lines)
	}
	// The operator changes a key, and then the lines follow.
	own, _ := os.ReadFile(filepath.Join(root, usherYAML))
	changed := strings.Replace(string(own), "enforcement: module", "enforcement: members-only", 1)
	if err := os.WriteFile(filepath.Join(root, usherYAML), []byte(changed), 0o640); err != nil {
		t.Fatal(err)
	}
	p, err := New(o)
	if err != nil || len(p.Changes) != 1 || p.Changes[0].File != "/etc/prosody/usher.cfg.lua" || !strings.Contains(p.Changes[0].Diff(), "+  muc_room_default_members_only = true") {
		t.Fatal("not usher's lines alone", err)
	}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	// The edited usher.yaml stands against an undo; once it is away, everything goes back.
	var undoable *Undoable
	if _, err := Undo(o); !errors.As(err, &undoable) || len(undoable.Files) != 1 || !strings.Contains(err.Error(), "/etc/usher/usher.yaml: ") {
		t.Fatal(err)
	}
}

// TestInclude checks where the line that includes usher's lines ends up.
func TestInclude(t *testing.T) {
	const include = "Include \"/etc/prosody/usher.cfg.lua\"\n"
	for _, test := range [][2]string{
		{"a = 1\n", "a = 1\n\n" + include},
		{"a = 1", "a = 1\n\n" + include},
		{"a = 1\n" + include + "-- a comment\n\n", "a = 1\n" + include + "-- a comment\n\n"},
		{"a = 1\n  " + include + "b = 2\n", "a = 1\nb = 2\n\n" + include},
	} {
		got := includedLast(test[0])
		if got != test[1] || includedLast(got) != got {
			t.Errorf("%q: %q", test[0], got)
		}
	}
}

// TestFollow checks that links count from the root, and never lead out of it.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, tree{"a/file": "", "b ->": "/a", "c ->": "../../../../a/file", "loop ->": "loop", "a/up ->": "../b/file"})
	for name, want := range map[string]string{
		"/b/file": "/a/file", "/c": "/a/file", "/a/up": "/a/file", "/../../b/new/x": "/a/new/x", "/nothing/b": "/nothing/b",
	} {
		if got, err := root(dir).follow(name); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := root(dir).follow("/loop/x"); err == nil {
		t.Error("a loop has an end")
	}
}

// errKilled is what happens at a step at which a process is killed.
var errKilled = errors.New("killed")

// killer returns a step that kills at the n-th change of the disk.
func killer(n int) func() error {
	return func() error {
		if n--; n < 0 {
			return errKilled
		}
		return nil
	}
}

func init() { _ = flag.Set("rapid.checks", "40") } // by default: each plan evaluates Prosody's files several times

// TestModel applies, undoes, edits, removes and kills at random. Whatever the order is: a file is whole, an undo without edits puts
// everything back byte for byte, an undo that refuses changes nothing and goes on after what it advises, what somebody has written is never
// lost, and an apply leaves nothing to do.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp(memory(), "adopt-model-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(root)
		files := debian()
		if rapid.Bool().Draw(rt, "a package was there") {
			files["etc/usher/usher.yaml"] = "# nothing\n"
		}
		grow(rt, root, files)
		m := &model{root: root, before: pictured(rt, root)}
		for range rapid.IntRange(2, 6).Draw(rt, "actions") { // each plan evaluates Prosody's files
			rapid.SampledFrom([]func(*rapid.T){m.apply, m.undo, m.edit}).Draw(rt, "action")(rt)
			m.check(rt)
		}
	})
}

// memory is a folder in memory, where writing to the disk costs nothing; "" for the usual one.
func memory() string {
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// autoOwner is what usher's Jicofo must not have.
const autoOwner = "jicofo { conference { enable-auto-owner = true } }\n"

// TestAdvice checks that nobody loses what they have written by doing what an undo advises, and that the next undo goes through: somebody
// edits a file that was adopted, the next apply is killed at any of its steps, and somebody edits the file again, or does not.
func TestAdvice(t *testing.T) {
	for _, again := range []bool{false, true} {
		for n, killed := 0, true; killed; n++ {
			dir := t.TempDir()
			grow(t, dir, debian())
			path, texts := filepath.Join(dir, jicofoConf), []string{"# first\n" + autoOwner}
			edit := func(text string) {
				t.Helper()
				content, err := os.ReadFile(path)
				if err = errors.Join(err, os.WriteFile(path, append(content, text...), 0o640)); err != nil {
					t.Fatal(err)
				}
			}
			apply := func(step func() error) (killed bool) {
				t.Helper()
				p, err := New(Options{Root: dir, step: step})
				if err == nil {
					err = p.Apply()
				}
				if killed = errors.Is(err, errKilled); err != nil && !killed {
					t.Fatal(err)
				}
				return killed
			}
			apply(nil)
			edit(texts[0])
			killed = apply(killer(n))
			if again {
				texts = append(texts, "# second\n")
				edit(texts[1])
			}
			var undoable *Undoable
			_, err := Undo(Options{Root: dir})
			if errors.As(err, &undoable) {
				m := &model{root: dir}
				for _, advice := range undoable.Files {
					m.obey(t, advice)
				}
				_, err = Undo(Options{Root: dir})
			}
			if err != nil {
				t.Errorf("killed at step %d: %v", n, err)
			}
			all := pictured(t, dir)
			for _, text := range texts {
				if !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(says string) bool { return strings.Contains(says, text) }) {
					t.Errorf("killed at step %d, edited again %t: %q is lost; the undo said %v", n, again, text, undoable)
				}
			}
		}
	}
}

// model is the state of TestModel.
type model struct {
	root   string
	before tree // as it was before the adoption
	// edited says that somebody has edited since then; texts are what they wrote, and stands in no file that they overwrote.
	edited bool
	texts  map[string]string
	edits  int
}

func (m *model) options(rt *rapid.T) Options {
	n := rapid.IntRange(0, 60).Draw(rt, "killed at the step")
	if n > 45 {
		return Options{Root: m.root}
	}
	return Options{Root: m.root, step: killer(n)}
}

func (m *model) apply(rt *rapid.T) {
	o := m.options(rt)
	p, err := New(o)
	var refusal *Refusal
	_, removed := os.Stat(filepath.Join(m.root, "etc/prosody/prosody.cfg.lua"))
	if errors.As(err, &refusal) && (m.edited || removed != nil) {
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	switch err := p.Apply(); {
	case errors.Is(err, errKilled):
		return
	case err != nil:
		rt.Fatal(err)
	}
	p, err = New(Options{Root: m.root})
	if err != nil || len(p.Changes) > 0 || p.Interrupted {
		rt.Fatalf("after an apply something is to do: %v", err)
	}
}

func (m *model) undo(rt *rapid.T) {
	o := m.options(rt)
	now := pictured(rt, m.root)
	_, err := Undo(o)
	var undoable *Undoable
	switch {
	case errors.Is(err, errKilled):
		return
	case errors.As(err, &undoable):
		if !m.edited {
			rt.Fatalf("nobody has edited anything: %v", err)
		}
		for _, name := range differs(now, pictured(rt, m.root)) {
			if !strings.HasSuffix(name, ".usher-part") && !strings.HasPrefix(now[name], "d") { // it sweeps
				rt.Fatalf("an undo that refuses has changed %s", name)
			}
		}
		if !rapid.Bool().Draw(rt, "does what it advises") {
			return
		}
		for _, advice := range undoable.Files {
			m.obey(rt, advice)
		}
		if _, err := Undo(Options{Root: m.root}); err != nil {
			rt.Fatalf("after what it advises: %v", err)
		}
	case err != nil:
		rt.Fatal(err)
	}
	after := pictured(rt, m.root)
	if d := differs(m.before, after); !m.edited && len(d) > 0 {
		rt.Fatalf("an undo has left %v", d)
	}
	for name := range after {
		if strings.Contains(name, ".usher-part") || strings.HasSuffix(name, journalIn) {
			rt.Fatalf("an undo has left %s", name)
		}
	}
	m.before, m.edited = after, false
}

// restored and moved are parts of what an undo advises about a file.
var (
	restored = regexp.MustCompile(`cp -p (\S+) (\S+)$`)
	moved    = regexp.MustCompile(`^  (\S+): .*Move it away`)
)

// obey has somebody do what an undo advises, and no more.
func (m *model) obey(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, advice string) {
	m.edits++
	aside := func(name string, do func(from, to string) error) {
		path := filepath.Join(m.root, name)
		if err := do(path, fmt.Sprintf("%s.before-usher-mine-%d", path, m.edits)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if cp := restored.FindStringSubmatch(advice); cp != nil {
		if strings.Contains(advice, "Keep a copy of it") {
			aside(cp[2], copyFile)
		}
		if err := copyFile(filepath.Join(m.root, cp[1]), filepath.Join(m.root, cp[2])); err != nil {
			t.Fatalf("%s: %v", advice, err)
		}
	} else if mv := moved.FindStringSubmatch(advice); mv != nil {
		aside(mv[1], os.Rename)
	} else {
		t.Fatalf("it says nothing that one could do: %s", advice)
	}
}

// copyFile is cp -p, but for the owner.
func copyFile(from, to string) error {
	stat, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(to, content, 0o600), os.Chmod(to, stat.Mode()), os.Chtimes(to, stat.ModTime(), stat.ModTime()))
}

// edit has somebody write into a file, or remove it.
func (m *model) edit(rt *rapid.T) {
	name := rapid.SampledFrom([]string{"etc/prosody/prosody.cfg.lua", "etc/jitsi/jicofo/jicofo.conf", "etc/usher/usher.yaml", "etc/prosody/usher.cfg.lua"}).Draw(rt, "file")
	path := filepath.Join(m.root, name)
	content, err := os.ReadFile(path)
	if err != nil {
		return // somebody who writes usher's files by hand is another story
	}
	if rapid.IntRange(0, 4).Draw(rt, "removes it") == 0 {
		if err := os.Remove(path); err != nil {
			rt.Fatal(err)
		}
		delete(m.texts, name)
		m.edited = true
		return
	}
	comment := "-- "
	if name != "etc/prosody/prosody.cfg.lua" && name != "etc/prosody/usher.cfg.lua" {
		comment = "# "
	}
	m.edits++
	text := fmt.Sprintf("%sedit %d\n", comment, m.edits)
	if rapid.Bool().Draw(rt, "against usher") { // so that the next apply changes the file again
		text += map[string]string{
			"etc/prosody/prosody.cfg.lua": fmt.Sprintf("edit = %d\n", m.edits), "etc/jitsi/jicofo/jicofo.conf": autoOwner,
		}[name]
	}
	if err := os.WriteFile(path, append(content, text...), 0o640); err != nil {
		rt.Fatal(err)
	}
	if m.texts == nil {
		m.texts = map[string]string{}
	}
	m.texts[name], m.edited = text, true
}

// check looks for what somebody has written, and at files that are not whole.
func (m *model) check(rt *rapid.T) {
	now := pictured(rt, m.root)
	for name, text := range m.texts {
		found := false
		for is, says := range now {
			found = found || (is == name || strings.HasPrefix(is, name+".before-usher-")) && strings.Contains(says, text)
		}
		if !found {
			rt.Fatalf("%s: %q is lost", name, text)
		}
	}
}

// TestLock checks that of two adoptions at once the second one writes nothing.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, debian())
	p, err := New(Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := disk{root: root(dir)}.lock(p.journal)
	if err != nil {
		t.Fatal(err)
	}
	before := pictured(t, dir)
	for what, do := range map[string]func() error{"apply": p.Apply, "undo": func() error { _, err := Undo(p.o); return err }} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "another \"usher adopt\" is changing these files") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if d := differs(before, pictured(t, dir)); len(d) > 0 {
		t.Errorf("changed: %v", d)
	}
	unlock()
	if err := p.Apply(); err != nil {
		t.Error(err)
	}
}

// TestChanged checks that a file that has changed since the plan was made is not written, nor any other.
func TestChanged(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, debian())
	p, err := New(Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, jicofoConf), []byte("jicofo { }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := pictured(t, dir)
	if err := p.Apply(); err == nil || !strings.Contains(err.Error(), jicofoConf+" has changed since") {
		t.Error(err)
	}
	if d := differs(before, pictured(t, dir)); len(d) > 0 {
		t.Errorf("changed: %v", d)
	}
}

// TestLinks checks that a file that is a link is changed where it really is, and that a link in the place of usher's incomplete file leads
// to no other.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	files := debian()
	files["srv/jicofo.conf"] = files["etc/jitsi/jicofo/jicofo.conf"]
	delete(files, "etc/jitsi/jicofo/jicofo.conf")
	files["etc/jitsi/jicofo/jicofo.conf ->"] = "/srv/jicofo.conf"
	victim := filepath.Join(t.TempDir(), "victim")
	files["srv/.jicofo.conf.usher-part ->"] = victim
	grow(t, dir, files)
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Root: dir})
	if err == nil {
		err = p.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(filepath.Join(dir, "srv/jicofo.conf"))
	if err != nil || !bytes.Contains(is, []byte("enable-auto-owner = false")) {
		t.Errorf("%v\n%s", err, is)
	}
	if content, _ := os.ReadFile(victim); string(content) != "precious" {
		t.Errorf("%q", content)
	}
	if target, err := os.Readlink(filepath.Join(dir, jicofoConf)); target != "/srv/jicofo.conf" {
		t.Error(target, err)
	}
}

// TestElsewhere checks what is left to people where Jicofo is on another machine.
func TestElsewhere(t *testing.T) {
	dir := t.TempDir()
	files := debian()
	delete(files, "etc/jitsi/jicofo/jicofo.conf")
	grow(t, dir, files)
	p, err := New(Options{Root: dir})
	if err != nil || len(p.ByHand) != 1 || !strings.Contains(p.ByHand[0], `jicofo.xmpp.client.client-proxy = "focus.meet.example.com"`) {
		t.Error(err)
	}
}

// TestStage checks that the copies of a process that was killed are removed by the next one, and those of one at work are not.
func TestStage(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	dir := t.TempDir()
	grow(t, dir, debian())
	working, err := newStage(root(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer working.end()
	killed, fresh := filepath.Join(temporary, "usher-adopt-1"), filepath.Join(temporary, "usher-adopt-2")
	long := time.Now().Add(-time.Hour)
	if err := errors.Join(os.MkdirAll(killed+"/etc", 0o700), os.Mkdir(fresh, 0o700), os.Chtimes(killed, long, long), os.Chtimes(working.dir, long, long)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Root: dir}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(temporary + "/*")
	slices.Sort(left)
	want := []string{fresh, working.dir}
	slices.Sort(want)
	if !slices.Equal(left, want) || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}
