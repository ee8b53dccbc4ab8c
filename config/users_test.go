package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestUserFaults checks that what is wrong in a file with accounts has its file and line.
func TestUserFaults(t *testing.T) {
	inFolder(t, "usher.yaml", portalBase+"portal: {"+portalKeys+"}\n", "users.yaml", "users:\n  - name: Alice\n    password: sesame\n    rooms: [a]\n  - name: bob\n    password_hash: $2y$05$"+
		strings.Repeat("x", 53)+"\n")
	c, err := config.Load([]string{"usher.yaml"}, nil)
	problems, _ := texts(t, c, err)
	compareTexts(t, problems, []string{
		"users.yaml:2: users[0].password_hash: is missing", `users.yaml:2: users[0].name: "Alice" is that of another account, too (usher.yaml:4)`,
		"users.yaml:3: users[0].password: is not a known key; did you mean password_hash?", "users.yaml:5: users[1].rooms: is missing", "users.yaml:6: users[1].password_hash: is a bcrypt hash of cost 5",
	})
	if !slices.Contains(err.(*config.Problems).Files, "users.yaml") {
		t.Error("a mended file would not be noticed")
	}
	if _, err := config.ParseUsers("users.yaml", []byte("users:\n\t- a")); err == nil || !strings.HasPrefix(err.Error(), "users.yaml:2: is not YAML") {
		t.Errorf("got %v", err)
	}
}

// TestPutUser checks that a file with accounts keeps its comments when one is added, changed and removed.
func TestPutUser(t *testing.T) {
	const content = `# ours
users:
  # the head
  - name: alice # since May
    password_hash: "` + hash + `" # as htpasswd made it
    rooms: [a]
    groups: [g]
  - {name: bob, password_hash: "` + hash + `", rooms: ["*"]} # the caretaker
# the end
`
	const other = "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	put := func(content string, u config.User) string {
		t.Helper()
		made, err := config.PutUser([]byte(content), u)
		if err != nil {
			t.Fatal(err)
		}
		return string(made)
	}
	changed := put(content, config.User{Name: "ALICE", Hash: other, Rooms: []string{"a", "b"}, Affiliation: config.Admin, Disabled: true, Display: "Alice: A", Email: "a@example.com"})
	for _, want := range []string{"# ours\n", "# the head\n", "name: ALICE # since May\n", "password_hash: " + other + " # as htpasswd made it\n", "rooms: [a, b]\n",
		"affiliation: admin\n", "disabled: true\n", "# the caretaker", "# the end\n"} {
		if !strings.Contains(changed, want) {
			t.Errorf("%q is missing in\n%s", want, changed)
		}
	}
	if strings.Contains(changed, "groups") {
		t.Errorf("groups are still there:\n%s", changed)
	}
	more := put(changed, config.User{Name: "carol", Hash: hash, Rooms: []string{"*"}})
	users, err := config.ParseUsers("users.yaml", []byte(more))
	if err != nil || len(users) != 3 || users[0].Display != "Alice: A" || !users[0].Disabled || users[2].Name != "carol" || users[2].Affiliation != config.Owner {
		t.Errorf("%v, %v of\n%s", users, err, more)
	}
	less, err := config.RemoveUser([]byte(more), "Alice")
	if err != nil || strings.Contains(string(less), "ALICE") || !strings.Contains(string(less), "# the caretaker") {
		t.Errorf("%v, %s", err, less)
	}
	if made := put("", config.User{Name: "dave", Hash: hash, Rooms: []string{"*"}}); !strings.HasPrefix(made, "users:\n  - name: dave\n") {
		t.Errorf("a new file is\n%s", made)
	}
	for _, u := range []config.User{{Name: "e", Hash: hash}, {Name: "e", Hash: "x", Rooms: []string{"*"}}, {Name: "e e", Hash: hash, Rooms: []string{"*"}}} {
		if _, err := config.PutUser([]byte(content), u); err == nil || !strings.Contains(err.Error(), "users[0]") {
			t.Errorf("%v is taken: %v", u, err)
		}
	}
}
