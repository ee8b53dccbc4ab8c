package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/text/secure/precis"

	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// User is an account of the portal.
type User struct {
	// Name is what they log in with, as they write it. Names are compared by PRECIS UsernameCaseMapped (RFC 8265 §3.3).
	Name string
	// Hash is the hash of the password, as of package passhash.
	Hash string
	// Display is the name that others read, and Email their address; both may be empty.
	Display, Email string
	// Rooms are patterns of the rooms that they may open, as of auth.MatchRoom; at least one.
	Rooms []string
	// Affiliation is what they become there: [Owner], the default, [Admin] or [Member].
	Affiliation Affiliation
	// Groups may be empty.
	Groups []string
	// Disabled keeps them out.
	Disabled bool
	// Source is where the account begins: "users.yaml:2".
	Source string
}

// MaxUsers is the limit of a file with accounts in bytes.
const MaxUsers = 8 << 20

// userKeys are the keys of an account. They stand in usher.yaml below portal.users, and in the file that portal.users_file names.
var userKeys = []key{
	{name: "users.name", unset: "required", example: "alice",
		means: "The name to log in with. Upper and lower case are the same."},
	{name: "users.password_hash", unset: "required", example: `"$argon2id$v=19$m=19456,t=2,p=1$EZZDvrIqY8lQ0cQm6sE4hw$DO4krpuLkMVGZPI7Yv0xbw7Hya6bvT8qYIEmd6SVKbk"`,
		means: "The hash of the password: argon2id or bcrypt. `usher user add` makes it. Nobody else may read this file."},
	{name: "users.display_name", unset: "the name", example: "Alice Example",
		means: "The name that others read in the room."},
	{name: "users.email", unset: "none", example: "alice@example.com",
		means: "Their address, for the token."},
	{name: "users.rooms", unset: "required", example: `["class-*"]`,
		means: "The rooms that they may open, as patterns of names: `*` alone is for all rooms without a tenant, `[acme]*` for those of a tenant, and `[*]*` " +
			"for all."},
	{name: "users.affiliation", def: "owner", example: "admin",
		means: "What they become there: `owner` or `admin`, a host, or `member`, who is none."},
	{name: "users.groups", unset: "none", example: "[teachers]",
		means: "Their groups. The first stands in the token."},
	{name: "users.disabled", def: "false", example: "true",
		means: "true keeps them out, and ends what they have."},
}

// portalUserKeys are the rows of userKeys for usher.yaml.
func portalUserKeys() []key {
	rows := slices.Clone(userKeys)
	for i := range rows {
		rows[i].name = "portal." + rows[i].name
	}
	return rows
}

type rawUsers struct {
	Users map[int]rawUser `mapstructure:"users"`
}

type rawUser struct {
	Name         string   `mapstructure:"name"`
	PasswordHash string   `mapstructure:"password_hash"`
	DisplayName  string   `mapstructure:"display_name"`
	Email        string   `mapstructure:"email"`
	Rooms        []string `mapstructure:"rooms"`
	Affiliation  string   `mapstructure:"affiliation"`
	Groups       []string `mapstructure:"groups"`
	Disabled     bool     `mapstructure:"disabled"`
}

// readUsers adds the accounts in the file of this name. It belongs to the configuration even if it does not exist yet.
func (l *loader) readUsers(name string, p *Portal) {
	const at = "portal/users_file"
	if name == "" {
		l.fault(at, "is empty: name a file")
		return
	}
	file := l.resolve(name)
	l.files = append(l.files, file)
	content, err := smallfile.Read(file, MaxUsers)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if l.given(at) {
			l.warn(at, "%s does not exist, so nobody is in it: usher user add NAME makes it", file)
		}
		return
	case err != nil:
		l.fault(at, "%s cannot be read: %s", file, why(err))
		return
	}
	more, of := parseUsers(file, content, p.Users)
	l.problems = append(l.problems, of.problems...)
	l.warnings = append(l.warnings, of.warnings...)
	p.Users = append(p.Users, more...)
	switch {
	case permits(file, 0o002):
		l.warn(at, "%s can be changed by everybody on this machine, who could make themselves hosts: chmod 640 it", file)
	case permits(file, 0o004):
		l.warn(at, "%s has hashes of passwords in it, and everybody on this machine can read it: chmod 640 it", file)
	}
}

// ParseUsers reads a file with accounts. The error, if any, is a *[Problems].
func ParseUsers(file string, content []byte) ([]User, error) {
	users, l := parseUsers(file, content, nil)
	if len(l.problems) > 0 {
		return nil, &Problems{List: inOrder(l.problems), Files: []string{file}}
	}
	return users, nil
}

func parseUsers(file string, content []byte, before []User) (all []User, l *loader) {
	l = newLoader(file)
	l.root = usersTable
	l.readFile(content)
	if l.garbled {
		return nil, l
	}
	var r rawUsers
	l.decodeTo(&r)
	return l.buildUsers("users", r.Users, before), l
}

// buildUsers makes the accounts in the list at a path, after those before it.
func (l *loader) buildUsers(at string, r map[int]rawUser, before []User) (all []User) {
	named := map[string]string{} // by name as it is compared: where it is
	for _, u := range before {
		named[userKey(u.Name)] = u.Source
	}
	for i := range l.count(at) {
		here := join(at, strconv.Itoa(i))
		u := l.buildUser(here, r[i])
		if first, again := named[userKey(u.Name)]; again && !l.faulty[here+"/name"] {
			l.fault(here+"/name", "%q is that of another account, too (%s): give each a name of its own", u.Name, first)
		}
		named[userKey(u.Name)] = u.Source
		all = append(all, u)
	}
	return all
}

// userKey returns a name as it is compared; "" if it is none.
func userKey(name string) string {
	compared, err := precis.UsernameCaseMapped.CompareKey(name)
	if err != nil {
		return ""
	}
	return compared
}

// buildUser makes the account that stands at a path.
func (l *loader) buildUser(at string, r rawUser) User {
	u := User{Name: r.Name, Hash: r.PasswordHash, Display: r.DisplayName, Email: r.Email, Rooms: r.Rooms, Groups: r.Groups, Disabled: r.Disabled,
		Affiliation: oneOf(l, at+"/affiliation", Affiliation(r.Affiliation), Owner, Admin, Member), Source: l.place(at).source}
	switch name := at + "/name"; {
	case !l.given(name):
		l.missing(name, "the name to log in with")
	case userKey(u.Name) == "" || len(u.Name) > longestUser:
		l.fault(name, "%q is no name to log in with: write letters and digits without spaces between them, %d bytes at most", u.Name, longestUser)
	}
	l.checkHash(at+"/password_hash", u.Hash)
	l.checkRooms(at+"/rooms", u.Rooms)
	for i, group := range u.Groups {
		if group == "" {
			l.fault(join(at+"/groups", strconv.Itoa(i)), "is empty: write a group, or take it out")
		}
	}
	if email := at + "/email"; l.given(email) && !strings.Contains(u.Email, "@") {
		l.fault(email, "%q is no address: write it like alice@example.com, or take it out", u.Email)
	}
	return u
}

// longestUser is how many bytes the name of an account can have.
const longestUser = 256

// checkHash records what is wrong with the hash of a password at a path. The words contain nothing of it.
func (l *loader) checkHash(at, hash string) {
	if !l.given(at) || hash == "" {
		l.missing(at, "the hash of the password (usher user add and usher user passwd write it)")
		return
	}
	if _, err := passhash.Parse(hash); err != nil { // the error contains nothing of it
		l.fault(at, "%s", err)
	}
}

// hashed returns the hash of a password that stands in plain in a source. It is the same with each start, and for all ushers with this
// source, unless it is to be written down.
func (l *loader) hashed(name, password string) (string, error) {
	if l.imports {
		h, err := passhash.New(password)
		return h.String(), err
	}
	h, err := passhash.Derive(password, name)
	return h.String(), err
}

// PutUser returns the content of a file with accounts in which this one stands, in the place of the one of its name if there is one.
// Comments stay, except on lines that go. The error, if any, is a *[Problems] of the account, with its keys below users[0].
func PutUser(content []byte, u User) ([]byte, error) {
	row := userRow(u)
	only, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		scalarNode("users"), {Kind: yaml.SequenceNode, Content: []*yaml.Node{row}}}})
	if err == nil {
		_, err = ParseUsers("", only)
	}
	if err != nil {
		return nil, err
	}
	return withUsers(content, func(list *yaml.Node) {
		for _, n := range list.Content {
			if userKey(valueIn(n, "name")) == userKey(u.Name) {
				replaceRow(n, row)
				return
			}
		}
		list.Content = append(list.Content, row)
	})
}

// RemoveUser returns the content of a file with accounts without the one of this name. Other comments stay.
func RemoveUser(content []byte, name string) ([]byte, error) {
	return withUsers(content, func(list *yaml.Node) {
		list.Content = slices.DeleteFunc(list.Content, func(n *yaml.Node) bool { return userKey(valueIn(n, "name")) == userKey(name) })
	})
}

func withUsers(content []byte, change func(list *yaml.Node)) ([]byte, error) {
	return withList(content, "users", change, func(content []byte) error { _, err := ParseUsers("", content); return err })
}

// userRow writes an account as YAML.
func userRow(u User) *yaml.Node {
	row := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value any) {
		row.Content = append(row.Content, scalarNode(name), Setting{value: value}.node(true))
	}
	add("name", u.Name)
	add("password_hash", u.Hash)
	for _, text := range [][2]string{{"display_name", u.Display}, {"email", u.Email}} {
		if text[1] != "" {
			add(text[0], text[1])
		}
	}
	add("rooms", u.Rooms)
	if u.Affiliation != "" && u.Affiliation != Owner {
		add("affiliation", string(u.Affiliation))
	}
	if len(u.Groups) > 0 {
		add("groups", u.Groups)
	}
	if u.Disabled {
		add("disabled", true)
	}
	return row
}

// replaceRow gives a section the keys and values of another. Comments beside keys that stay do so, too.
func replaceRow(row, with *yaml.Node) {
	old := row.Content
	row.Content = nil
	for i := 0; i+1 < len(with.Content); i += 2 {
		name, value := with.Content[i], with.Content[i+1]
		for n := 0; n+1 < len(old); n += 2 {
			if old[n].Value == name.Value {
				name = old[n]
				value.HeadComment, value.LineComment, value.FootComment = old[n+1].HeadComment, old[n+1].LineComment, old[n+1].FootComment
			}
		}
		row.Content = append(row.Content, name, value)
	}
}

// valueIn returns the value of a key in a section of YAML; "" if it is not there.
func valueIn(section *yaml.Node, name string) string {
	for i := 0; i+1 < len(section.Content); i += 2 {
		if section.Content[i].Value == name {
			return section.Content[i+1].Value
		}
	}
	return ""
}

// String returns the account without its hash.
func (u User) String() string {
	return fmt.Sprintf("%s (%s)", u.Name, u.Source)
}
