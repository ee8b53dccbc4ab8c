package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

// userConfig is a usher.yaml with a portal, for the folder of the test.
const userConfig = `xmpp: {domain: focus.meet.example.com, secret: 00112233445566778899aabbccddeeff}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: ffeeddccbbaa99887766554433221100}}
portal:
  listen: 127.0.0.1:8087
  public_url: http://127.0.0.1:8087
  meet_urls: [https://meet.example.com]
  users_file: users.yaml
  users:
    - {name: Fixed, password_hash: "` + exampleHash + `", rooms: ["*"], disabled: true}
`

// user runs a usher user command with the configuration of the folder.
func user(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	r := command(t, stdin, append(append([]string{"user"}, args...), "-c", "usher.yaml")...)
	if password := strings.TrimSpace(stdin); len(password) > 5 && strings.Contains(r.stdout+r.stderr, password) {
		t.Errorf("%v says the password: %+v", args, r)
	}
	return r
}

// accounts returns the accounts of a file.
func accounts(t *testing.T, file string) map[string]config.User {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := config.ParseUsers(file, content)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]config.User{}
	for _, u := range all {
		of[u.Name] = u
	}
	return of
}

// knows reports whether an account has a password.
func knows(t *testing.T, u config.User, password string) bool {
	t.Helper()
	h, err := passhash.Parse(u.Hash)
	if err != nil {
		t.Fatalf("%s: %v", u.Name, err)
	}
	return h.Matches(password)
}

// TestUsers adds, changes, lists and removes accounts.
func TestUsers(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", userConfig)
	write(t, "users.yaml", "# Ours.\nusers:\n  # of the old portal\n  - {name: old, password_hash: \""+exampleHash+"\", rooms: [x]} # until spring\n# The end.\n")
	const first, second = "p:a|ss<w>ürd", "correct horse battery staple"
	if r := user(t, first+"\n", "add", "Alice", "--rooms", "class-*,[acme]*", "--groups", "a,b", "--affiliation", "admin", "--display-name", "Alice E.", "--email", "alice@example.com"); r.status != 0 || r.stdout != "users.yaml has the account Alice now.\n" || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	is := accounts(t, "users.yaml")["Alice"]
	if !knows(t, is, first) || knows(t, is, first+"\n") || is.Affiliation != config.Admin || len(is.Rooms) != 2 || len(is.Groups) != 2 || is.Display != "Alice E." || is.Email != "alice@example.com" {
		t.Errorf("%+v", is)
	}
	content, err := os.ReadFile("users.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"# Ours.", "# of the old portal", "# until spring", "# The end."} {
		if !strings.Contains(string(content), kept) {
			t.Errorf("the comment %q is gone from\n%s", kept, content)
		}
	}
	if stat, err := os.Stat("users.yaml"); err != nil || stat.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}

	// A password from another system ends its line otherwise. Upper and lower case of a name are the same.
	if r := user(t, second+"\r\n", "passwd", "ALICE"); r.stdout != "Alice has another password now.\n" {
		t.Errorf("%+v", r)
	}
	if is := accounts(t, "users.yaml")["Alice"]; !knows(t, is, second) || len(is.Groups) != 2 {
		t.Errorf("%+v", is)
	}
	for _, want := range []string{"Alice is disabled.\n", "Alice is disabled already.\n"} {
		if r := user(t, "", "disable", "alice"); r.stdout != want {
			t.Errorf("%+v", r)
		}
	}
	const table = "NAME   DISPLAY-NAME  ROOMS            AFFILIATION  GROUPS  STATE     SOURCE\n" +
		"Fixed  -             *                owner        -       disabled  usher.yaml:10\n" +
		"old    -             x                owner        -       enabled   users.yaml:4\n" +
		"Alice  Alice E.      class-*,[acme]*  admin        a,b     disabled  users.yaml:5\n"
	if r := user(t, "", "list"); r.stdout != table {
		t.Errorf("%s", r.stdout)
	}
	if r := user(t, "", "enable", "alice"); r.stdout != "Alice is enabled.\n" {
		t.Errorf("%+v", r)
	}
	var list struct{ Users []map[string]any }
	r := command(t, "", "user", "list", "--json", "--users-file", "users.yaml")
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list.Users) != 2 || list.Users[1]["email"] != "alice@example.com" || list.Users[1]["disabled"] != false {
		t.Errorf("%+v: %v", r, err)
	}
	if strings.Contains(r.stdout, "argon2id") {
		t.Errorf("the list has hashes: %s", r.stdout)
	}
	if r := user(t, "", "remove", "old"); r.stdout != "The account old is removed.\n" || len(accounts(t, "users.yaml")) != 1 {
		t.Errorf("%+v", r)
	}
	// usher reads what was written.
	if c, err := config.Load([]string{"usher.yaml"}, nil); err != nil || len(c.Portal.Users) != 2 || c.Portal.Users[1].Name != "Alice" {
		t.Errorf("usher reads other accounts: %v", err)
	}
}

// TestUserFaults says what is wrong, and changes nothing.
func TestUserFaults(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", userConfig)
	const good = "correct horse battery staple"
	if r := user(t, good, "add", "alice", "--rooms", "*"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	before, err := os.ReadFile("users.yaml")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 30)
	for _, tt := range []struct {
		args   []string
		stdin  string
		status int
		want   string
	}{
		{[]string{"add", "ALICE", "--rooms", "x"}, good, statusFailed, "usher: users.yaml: there is an account of the name alice already: usher user passwd gives it another password\n"},
		{[]string{"add", "fixed", "--rooms", "x"}, good, statusFailed, "usher: Fixed stands in usher.yaml:10 already: choose another name, or remove it there\n"},
		{[]string{"add", "bob"}, good, statusUsage, "usher: --rooms: is missing"},
		{[]string{"add", "bob", "--rooms", ""}, good, statusUsage, "usher: --rooms is empty"},
		{[]string{"add", "bob", "--rooms", "X*"}, good, statusUsage, "usher: --rooms: \"X*\" matches no room"},
		{[]string{"add", "bob b", "--rooms", "x"}, good, statusUsage, "usher: NAME: \"bob b\" is no name to log in with"},
		{[]string{"add", "bob", "--rooms", "x", "--affiliation", "boss"}, good, statusUsage, "usher: --affiliation: \"boss\" is not known"},
		{[]string{"add", "bob", "--rooms", "x", "--email", "bob"}, good, statusUsage, "usher: --email: "},
		{[]string{"add", "bob", good, "--rooms", "x"}, "", statusUsage, "usher: too many arguments for usher user add\n"},
		{[]string{"add"}, good, statusUsage, "usher: which one? Write the name of an account: usher user add NAME"},
		{[]string{"add", "bob", "--rooms", "x"}, "", statusFailed, "usher: the password is empty\n"},
		{[]string{"add", "bob", "--rooms", "x"}, "\n", statusFailed, "usher: the password is empty\n"},
		{[]string{"add", "bob", "--rooms", "x"}, good + "\n" + good + "\n", statusFailed, "usher: the input has more than one line"},
		{[]string{"add", "bob", "--rooms", "x"}, "short\n", statusFailed, "usher: the password has fewer than 8 characters"},
		{[]string{"add", "bob", "--rooms", "x"}, "ChangeMe\n", statusFailed, "usher: this password is one that anybody tries first"},
		{[]string{"add", "bob.example", "--rooms", "x"}, "Bob.Example\n", statusFailed, "usher: the password is the name"},
		{[]string{"add", "bob", "--rooms", "x"}, strings.Repeat("x", passhash.MaxPassword+1), statusFailed, "usher: the password is longer than 1024 bytes"},
		{[]string{"add", "bob", "--rooms", "x"}, "not \xff UTF-8", statusFailed, "usher: the password is not UTF-8"},
		{[]string{"passwd", "fixed"}, good, statusFailed, "usher: Fixed stands in usher.yaml:10, and this command changes only users.yaml: change it there (usher user hash makes the hash of a password)\n"},
		{[]string{"disable", "fixed"}, "", statusFailed, "usher: Fixed stands in usher.yaml:10"},
		{[]string{"remove", "FIXED"}, "", statusFailed, "usher: Fixed stands in usher.yaml:10"},
		{[]string{"passwd", "alic"}, good, statusFailed, "usher: users.yaml: there is no account of the name \"alic\"; did you mean alice?\n"},
		{[]string{"enable", "аlice"}, "", statusFailed, "usher: users.yaml: there is no account of the name"}, // Cyrillic а
		{[]string{"remove", long}, "", statusFailed, "usher: users.yaml: there is no account of that name\n"},
	} {
		if r := user(t, tt.stdin, tt.args...); r.status != tt.status || !strings.HasPrefix(r.stderr, tt.want) || r.stdout != "" || strings.Contains(r.stderr, long) {
			t.Errorf("%v: %+v\nwant %s", tt.args, r, tt.want)
		}
	}
	if after, err := os.ReadFile("users.yaml"); err != nil || string(after) != string(before) {
		t.Errorf("the file has changed: %s, %v", after, err)
	}
	if r := command(t, "", "user", "list"); r.status != statusUsage || !strings.Contains(r.stderr, "which file?") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{"add", "bob", "--rooms", "x"}, {"remove", "bob"}} {
		r := command(t, "", append([]string{"user", "--users-file", "none/users.yaml"}, args...)...) // it fails before it asks for a password
		if r.status != statusFailed || r.stderr != "usher: none/users.yaml cannot be written, because of its folder none: no such file or directory. "+
			"Either make the folder first, or name another file\n" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	write(t, "broken.yaml", "users:\n  - {name: alice}\n")
	if r := command(t, good, "user", "passwd", "alice", "--users-file", "broken.yaml"); r.status != statusFailed || !strings.HasPrefix(r.stderr, "broken.yaml:2: users[0].") {
		t.Errorf("%+v", r)
	}
}

// TestFirstUser makes accounts where there is no file yet, or an empty one, while others do the same.
func TestFirstUser(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", strings.Replace(userConfig, "listen: 127.0.0.1:8087", "listen: off", 1))
	if r := user(t, "", "list"); r.stdout != "users.yaml has no account.\n" {
		t.Errorf("%+v", r)
	}
	r := user(t, "correct horse", "add", "alice", "--rooms", "*")
	if r.status != 0 || r.stderr != "portal.listen is off, so nobody can log in yet.\n" {
		t.Errorf("%+v", r)
	}
	for _, content := range []string{"", "# Ours.", "users:\n", "users: []\n", "{}\n"} {
		write(t, "some.yaml", content)
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			all.Go(func() {
				if r := command(t, "correct horse", "user", "add", name, "--rooms", "*", "--users-file", "some.yaml"); r.status != 0 {
					t.Errorf("%q: %+v", content, r)
				}
			})
		}
		all.Wait()
		if is := accounts(t, "some.yaml"); len(is) != 3 || !knows(t, is["b"], "correct horse") {
			t.Errorf("%q has become %v", content, is)
		}
	}
}

// TestUserHash prints a hash that usher reads.
func TestUserHash(t *testing.T) {
	r := command(t, "p:a|ss<w>ürd\n", "user", "hash")
	h, err := passhash.Parse(strings.TrimSpace(r.stdout))
	if r.status != 0 || r.stderr != "" || err != nil || !h.Matches("p:a|ss<w>ürd") {
		t.Errorf("%+v, %v", r, err)
	}
	if r := command(t, "admin\n", "user", "hash"); r.status != statusFailed || r.stdout != "" {
		t.Errorf("%+v", r)
	}
}

// terminal is a pseudo-terminal: the end of the person, and that of the program.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	var number, locked uint32
	for request, value := range map[uintptr]*uint32{syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close(); person.Close() })
	return person, program
}

// TestPasswordPrompt types passwords at a terminal: it shows none of them.
func TestPasswordPrompt(t *testing.T) {
	const good, wrong = "correct horse battery stäple", "correct hörse"
	for _, tt := range []struct{ first, again, want string }{
		{good + "\r", good + "\r", ""},
		{"x\x7f" + good + "\r", good + "\r", ""}, // with the key that deletes
		{good + "\r", wrong + "\r", "these are two different passwords: nothing was changed"},
		{"short\r", "short\r", "the password has fewer than 8 characters: choose a longer one"},
		{good + "\r", good + "\x03", "interrupted: nothing was changed"}, // Ctrl+C
		{good + "\r" + good + "\r", "", ""},                              // before it is asked for
	} {
		person, program := terminal(t)
		before, err := term.GetState(int(program.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		go func() {
			cmd := userGroup()
			cmd.SetIn(program)
			cmd.SetErr(program)
			h, err := newPassword(cmd, "alice")
			if after, bad := term.GetState(int(program.Fd())); bad != nil || !reflect.DeepEqual(before, after) {
				t.Errorf("the terminal is left another way: %v", bad)
			}
			if err == nil && !h.Matches(good) {
				err = fmt.Errorf("another password: %s", h)
			}
			answer <- err
			fmt.Fprint(program, "END")
		}()
		said := readUntil(t, person, "New password of alice: ")
		fmt.Fprint(person, tt.first)
		said += readUntil(t, person, "Again: ")
		fmt.Fprint(person, tt.again)
		said += readUntil(t, person, "END")
		if got := <-answer; tt.want == "" && got != nil || tt.want != "" && (got == nil || got.Error() != tt.want) {
			t.Errorf("%q, %q: %v, want %s", tt.first, tt.again, got, tt.want)
		}
		for _, secret := range []string{"horse", "hörse", "short", "stäple"} {
			if strings.Contains(said, secret) {
				t.Errorf("the terminal shows %q", said)
			}
		}
	}
}

// readUntil returns what a terminal shows, up to a text.
func readUntil(t *testing.T, f *os.File, text string) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		var said strings.Builder
		var one [1]byte // what comes after the text is for the next call
		for !strings.HasSuffix(said.String(), text) {
			if _, err := f.Read(one[:]); err != nil {
				break
			}
			said.Write(one[:])
		}
		found <- said.String()
	}()
	select {
	case said := <-found:
		return said
	case <-time.After(time.Minute):
		t.Fatalf("the terminal does not show %q", text)
		return ""
	}
}
