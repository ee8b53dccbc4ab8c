package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// APIKey is a key with which a program may call the API. Of the key itself only the hash is known.
type APIKey struct {
	// Name is letters, digits, dots, dashes and underscores. Never empty.
	Name string
	// Hash is the SHA-256 of the key.
	Hash [32]byte
	// Scopes are some of [APIScopes]; at least one.
	Scopes []string
	// Rooms are patterns, as of [path.Match], of the names of rooms that the key is for; empty for all.
	Rooms []string
	// MaxTTL is how long a token lasts at most that the key mints; 0 for no limit.
	MaxTTL time.Duration
	// Expires is when the key ends; zero for never.
	Expires time.Time
}

// MaxAPIKeys is the limit of a file with keys of the API in bytes.
const MaxAPIKeys = 1 << 20

// APIScopes are what a key of the API may be for.
var APIScopes = []string{"tokens", "explain", "rooms:read", "rooms:write", "grants:read", "revocations", "links", "decisions:read"}

// apiKeyRows is the table of keys of the file that api.keys_file names.
var apiKeyRows = []key{
	{name: "keys.name", unset: "required", example: "portal",
		means: "The name of the key, for the audit log."},
	{name: "keys.sha256", unset: "required", example: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		means: "The SHA-256 of the key, in hexadecimal digits. The key itself stands nowhere."},
	{name: "keys.scopes", unset: "required", example: "[tokens, links]",
		means: "What it is for: " + inCode(APIScopes) + "."},
	{name: "keys.rooms", unset: "all", example: `["class-*"]`,
		means: "The rooms that it is for, as patterns of names: `*` stands for any characters, `?` for one. `[acme]*` is for the rooms of a tenant, and `[*]*` for " +
			"all rooms; without brackets, rooms without a tenant."},
	{name: "keys.max_ttl", unset: "no limit", example: "2h",
		means: "How long a token lasts at most that it mints. Only with `tokens` or `links`."},
	{name: "keys.expires", unset: "never", example: `"2027-06-30T00:00:00Z"`,
		means: "When it ends."},
}

type rawAPIKeys struct {
	Keys map[int]rawAPIKey `mapstructure:"keys"`
}

type rawAPIKey struct {
	Name    string        `mapstructure:"name"`
	SHA256  string        `mapstructure:"sha256"`
	Scopes  []string      `mapstructure:"scopes"`
	Rooms   []string      `mapstructure:"rooms"`
	MaxTTL  time.Duration `mapstructure:"max_ttl"`
	Expires string        `mapstructure:"expires"`
}

// readAPIKeys returns the keys in the file of this name. It belongs to the configuration even if it does not exist yet.
func (l *loader) readAPIKeys(name string) []APIKey {
	const at = "api/keys_file"
	if name == "" {
		l.fault(at, "is empty: name a file")
		return nil
	}
	file := l.resolve(name)
	l.files = append(l.files, file)
	content, err := smallfile.Read(file, MaxAPIKeys)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.warn(at, "%s does not exist, so nobody can call the API: usher api key add NAME --scope SCOPE makes it", file)
		return nil
	case err != nil:
		l.fault(at, "%s cannot be read: %s", file, why(err))
		return nil
	}
	keys, of := parseAPIKeys(file, content)
	l.problems = append(l.problems, of.problems...)
	l.warnings = append(l.warnings, of.warnings...)
	if len(keys) == 0 && len(of.problems) == 0 {
		l.warn(at, "%s has no key in it, so nobody can call the API: usher api key add NAME --scope SCOPE adds one", file)
	}
	return keys
}

// ParseAPIKeys reads a file with keys of the API. The error, if any, is a *[Problems].
func ParseAPIKeys(file string, content []byte) ([]APIKey, error) {
	keys, l := parseAPIKeys(file, content)
	if len(l.problems) > 0 {
		return nil, &Problems{List: inOrder(l.problems), Files: []string{file}}
	}
	return keys, nil
}

func parseAPIKeys(file string, content []byte) (all []APIKey, l *loader) {
	l = newLoader(file)
	l.root = apiKeysTable
	l.readFile(content)
	if l.garbled {
		return nil, l
	}
	var r rawAPIKeys
	l.decodeTo(&r)
	for i := range l.count("keys") {
		all = append(all, l.buildAPIKey(join("keys", strconv.Itoa(i)), r.Keys[i], all))
	}
	return all, l
}

// buildAPIKey makes the key that stands at a path, after those before it.
func (l *loader) buildAPIKey(at string, r rawAPIKey, before []APIKey) APIKey {
	k := APIKey{Name: r.Name, Scopes: r.Scopes, Rooms: r.Rooms, MaxTTL: r.MaxTTL}
	l.checkName(at+"/name", r.Name, "the name of this key")
	sum, err := hex.DecodeString(r.SHA256)
	switch hash := at + "/sha256"; {
	case !l.given(hash):
		l.missing(hash, "the SHA-256 of the key (usher api key add writes it)")
	case err != nil || copy(k.Hash[:], sum) != len(k.Hash) || len(sum) != len(k.Hash):
		l.fault(hash, "is no SHA-256, which has 64 hexadecimal digits (usher api key add writes it; the key itself does not belong here)")
	}
	for i, b := range before {
		if r.Name != "" && b.Name == r.Name {
			l.fault(at+"/name", "is that of keys[%d], too (%s): give each a name of its own", i, l.place(fmt.Sprintf("keys/%d/name", i)).source)
		}
		if b.Hash == k.Hash && !l.faulty[at+"/sha256"] {
			l.fault(at+"/sha256", "is that of keys[%d], too (%s): each key needs a hash of its own", i, l.place(fmt.Sprintf("keys/%d/sha256", i)).source)
		}
	}
	l.checkScopes(at, k)
	for i, pattern := range k.Rooms {
		l.checkRoomPattern(join(at+"/rooms", strconv.Itoa(i)), pattern)
	}
	if rooms := at + "/rooms"; l.given(rooms) && len(k.Rooms) == 0 {
		l.fault(rooms, "is empty, so this key would be for no room: take it out for all rooms")
	}
	if expires := at + "/expires"; l.given(expires) {
		if k.Expires, err = time.Parse(time.RFC3339, r.Expires); err != nil {
			l.fault(expires, `%q is no time: write it like "2027-06-30T00:00:00Z"`, r.Expires)
		}
	}
	return k
}

// checkScopes records what is wrong with what a key is for.
func (l *loader) checkScopes(at string, k APIKey) {
	if scopes := at + "/scopes"; len(k.Scopes) == 0 && !l.faulty[scopes] {
		l.missing(scopes, "what this key is for, such as [tokens]")
	}
	for i, scope := range k.Scopes {
		here := join(at+"/scopes", strconv.Itoa(i))
		if oneOf(l, here, scope, APIScopes...); slices.Contains(k.Scopes[:i], scope) {
			l.fault(here, "names %s again: once is enough", scope)
		}
	}
	ttl := at + "/max_ttl"
	switch mints := slices.Contains(k.Scopes, "tokens") || slices.Contains(k.Scopes, "links"); {
	case !l.given(ttl):
	case !mints:
		l.fault(ttl, "has no effect without the scope tokens or links: take it out")
	case k.MaxTTL < time.Second || k.MaxTTL > 87600*time.Hour:
		l.fault(ttl, "is %s, but must be between 1s and 87600h; for no limit, take it out", PlainDuration(k.MaxTTL))
	}
}

// AddAPIKey returns the content of a file with keys of the API, with one more. Comments stay. The error, if any, is a *[Problems] of the
// key, with the keys of the file below keys[0].
func AddAPIKey(content []byte, k APIKey) ([]byte, error) {
	alone := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value any) {
		alone.Content = append(alone.Content, scalarNode(name), Setting{value: value}.node(false))
	}
	add("name", k.Name)
	add("sha256", hex.EncodeToString(k.Hash[:]))
	add("scopes", k.Scopes)
	if len(k.Rooms) > 0 {
		add("rooms", k.Rooms)
	}
	if k.MaxTTL != 0 {
		add("max_ttl", k.MaxTTL)
	}
	if !k.Expires.IsZero() {
		add("expires", k.Expires.UTC().Format(time.RFC3339))
	}
	only, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		scalarNode("keys"), {Kind: yaml.SequenceNode, Content: []*yaml.Node{alone}}}})
	if err == nil {
		_, err = ParseAPIKeys("", only)
	}
	if err != nil {
		return nil, err
	}
	return withAPIKeys(content, func(list *yaml.Node) { list.Content = append(list.Content, alone) })
}

// RemoveAPIKey returns the content of a file with keys of the API without the one of this name. Other comments stay.
func RemoveAPIKey(content []byte, name string) ([]byte, error) {
	return withAPIKeys(content, func(list *yaml.Node) {
		list.Content = slices.DeleteFunc(list.Content, func(n *yaml.Node) bool { return valueIn(n, "name") == name })
	})
}

func withAPIKeys(content []byte, change func(list *yaml.Node)) ([]byte, error) {
	return withList(content, "keys", change, func(content []byte) error { _, err := ParseAPIKeys("", content); return err })
}

// withList returns the content of a valid file with one list, of this name, in which a function has changed the list. check says whether
// the content is valid.
func withList(content []byte, name string, change func(list *yaml.Node), check func([]byte) error) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return nil, err
	}
	var above []byte // comments of a file with nothing else
	if document.Kind == 0 {
		above = content
		document = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode { // null
		*root = yaml.Node{Kind: yaml.MappingNode}
	}
	if len(root.Content) == 0 {
		root.Content = []*yaml.Node{scalarNode(name), {Kind: yaml.SequenceNode}}
	}
	list := root.Content[1] // there is no other key
	if list.Kind != yaml.SequenceNode {
		*list = yaml.Node{Kind: yaml.SequenceNode, HeadComment: list.HeadComment, FootComment: list.FootComment}
	}
	root.Style, list.Style = 0, 0 // one entry a line
	change(list)
	if key := root.Content[0]; len(list.Content) == 0 && key.LineComment != "" { // the encoder would write [] on a line of its own, which is no YAML
		key.HeadComment = strings.TrimPrefix(key.HeadComment+"\n"+key.LineComment, "\n")
		key.LineComment = ""
	}
	var b bytes.Buffer
	b.Write(above)
	if len(above) > 0 && above[len(above)-1] != '\n' {
		b.WriteByte('\n')
	}
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return nil, err
	}
	if check(b.Bytes()) != nil {
		return nil, errByHand
	}
	return b.Bytes(), nil
}

// errByHand means that a file with a list is in an unusual form, such as UTF-16.
var errByHand = errors.New("it is written in a way that usher cannot change: save it as UTF-8, or begin a new one")
