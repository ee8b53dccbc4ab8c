package config

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Setting is one key of the effective configuration.
type Setting struct {
	// Key is the key in full, such as vhosts.meet.example.com.app_id.
	Key string
	// Origin is where the value comes from: "usher.yaml:3", "prosody conf.d/meet.cfg.lua:14", "docker JWT_APP_ID",
	// "environment USHER_LOG_LEVEL", or "default".
	Origin string

	path  string
	value any // as decoded; of a secret a Secret, or several
}

// Value returns the value as text, on one line; a secret as "******".
func (s Setting) Value() string {
	if text, ok := s.value.(string); ok && text != "" && !strings.ContainsAny(text, "\r\n") {
		return text
	}
	if _, ok := s.value.(Secret); ok {
		return masked
	}
	text, _ := yaml.Marshal(s.node(false))
	return strings.TrimSuffix(string(text), "\n")
}

func (s Setting) secret() bool {
	_, one := s.value.(Secret)
	_, several := s.value.([]Secret)
	return one || several
}

// node returns the value as YAML.
func (s Setting) node(reveal bool) *yaml.Node {
	value := s.value
	text := Secret.String
	if reveal {
		text = Secret.Reveal
	}
	switch v := value.(type) {
	case time.Duration:
		value = PlainDuration(v)
	case Size:
		value = v.String()
	case Secret:
		value = text(v)
	case []Secret:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = text(v[i])
		}
		value = texts
	}
	// Texts become nodes one by one, because yaml.Node.Encode fails for a list with a text that begins with a new line.
	switch v := value.(type) {
	case string:
		return scalarNode(v)
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, text := range v {
			list.Content = append(list.Content, scalarNode(text))
		}
		return list
	case map[string]string:
		entries := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			entries.Content = append(entries.Content, scalarNode(name), scalarNode(v[name]))
		}
		return entries
	}
	var node yaml.Node
	_ = node.Encode(value) // true or false: nothing can fail
	return &node
}

// PlainDuration writes a duration without the zeros that its String method adds: 24h and not 24h0m0s.
func PlainDuration(d time.Duration) string {
	text := d.String()
	if rest, ok := strings.CutSuffix(text, "m0s"); ok {
		text = rest + "m"
	}
	if rest, ok := strings.CutSuffix(text, "h0m"); ok {
		text = rest + "h"
	}
	return text
}

const byDefault = "default"

// settings returns the effective configuration, in the order of the table. It leaves out keys without effect, such as the leeway
// of a virtual host without tokens.
func (l *loader) settings(c *Config) []Setting {
	var all []Setting
	vhosts := map[string]VHost{}
	for _, v := range c.VHosts {
		vhosts[join("vhosts", v.Domain.String())] = v
	}
	var walk func(path string, s *shape)
	walk = func(path string, s *shape) {
		switch s.form {
		case formSection:
			for _, name := range s.order {
				key := join(path, name)
				if v, ok := vhosts[path]; ok && !l.applies(v, path, name) || !l.goes(c, key) {
					continue
				}
				walk(key, s.keys[name])
			}
		case formVHosts:
			for _, domain := range l.vhosts {
				walk(join(path, domain.String()), s.each)
			}
		case formSections:
			for i := range l.count(path) {
				walk(join(path, strconv.Itoa(i)), s.each)
			}
		default:
			if setting, ok := l.setting(path); ok {
				all = append(all, setting)
			}
		}
	}
	walk("", table)
	return all
}

// applies reports whether a key has an effect on a virtual host.
func (l *loader) applies(v VHost, path, name string) bool {
	if l.given(join(path, name)) || name == "kind" {
		return true
	}
	switch name {
	case "allow_empty_token":
		return v.Kind == KindToken
	}
	if slices.Contains(ofTokens, name) {
		return len(v.Issuers) > 0
	}
	return len(v.Issuers) > 0 && !l.given(join(path, "issuers"))
}

// goes reports whether a key has an effect, given that there is a Jicofo and a lobby, or not.
func (l *loader) goes(c *Config, path string) bool {
	relay := l.given("jicofo/jid")
	switch {
	case l.given(path):
		return true
	case path == "rooms/guard_interval":
		return relay && (c.Rooms.Enforcement == MembersOnly || c.Jicofo.EnforceRoles)
	case parent(path) == "jicofo":
		return relay
	case parent(path) == "lobby":
		return l.given("rooms/lobby")
	case parent(parent(path)) == rules && (last(path) == "on_host_left" || last(path) == "host_grace"):
		wait := cmp.Or(l.viper.GetString(join(parent(path), "wait_for_host")), string(c.Rooms.WaitForHost))
		left := OnHostLeft(l.viper.GetString(join(parent(path), "on_host_left")))
		return left == LeftEnd || wait != string(WaitNever) && (last(path) == "on_host_left" || left != LeftKeep)
	case last(path) == "expiry_grace":
		return l.viper.GetString(join(parent(path), "on_expiry")) == string(ExpiryRemove)
	case last(path) == "token_reuse_of":
		return l.viper.GetString(join(parent(path), "token_reuse")) != string(ReuseAllow)
	case parent(path) == "store" && path != "store/path" && path != "store/max_size":
		return c.Store.Shared()
	case strings.HasPrefix(path, "portal/") && path != portalListen:
		return c.Portal.Listen != ""
	case path == "ops/pprof":
		return c.Ops.Listen != ""
	case parent(path) == "api" && path != "api/listen":
		return c.API.Listen != ""
	case parent(path) == "audit" && path != "audit/to":
		return c.Audit.To != "" && c.Audit.To != AuditStderr && c.Audit.To != AuditJournal
	case path == "rooms/wait_hold", path == "rooms/wait_hold_jitsi":
		return c.Rooms.someWait()
	}
	return true
}

// setting returns the value of a key, set or by default. It reports false if there is none.
func (l *loader) setting(path string) (Setting, bool) {
	name := last(path)
	setting := Setting{Key: typed(path), path: path, Origin: byDefault, value: l.viper.Get(path)}
	switch name {
	case "secret", "app_secret", "client_secret", "users_secret", "password_hash":
		if text, ok := setting.value.(string); ok {
			setting.value = NewSecret(text)
		}
	case "url":
		if text, ok := setting.value.(string); ok && strings.HasPrefix(path, "webhooks/") {
			setting.value = withoutPath(text)
		} else if ok { // that of the store
			setting.value = withoutPassword(text)
		}
	case "app_secrets":
		var secrets []Secret
		for _, text := range l.viper.GetStringSlice(path) {
			secrets = append(secrets, NewSecret(text))
		}
		setting.value = secrets
	}
	switch {
	case l.given(path):
		setting.Origin = l.place(path).source
	case l.effective[path] != nil:
		setting.value = l.effective[path]
	case name == "keys_max_stale":
		section := parent(path) + "/"
		if !l.given(section+"jwks_url") && !l.given(section+"asap_key_server") && !l.given(section+"cache_keys_url") {
			return setting, false
		}
	case name == "app_secrets": // an empty list, not nil
		return setting, false
	case name == "allow_short_secret": // of no interest where every secret is long enough
		return setting, false
	}
	return setting, setting.value != nil
}

// YAML returns the effective configuration as a usher.yaml for people to read. Its secrets are masked.
func (c *Config) YAML() []byte {
	return render(c.Settings, func(Setting) string { return "" }, false)
}

// Import names sources to make a usher.yaml of.
type Import struct {
	// Prosody are files of Prosody's configuration, Docker is a .env file of docker-jitsi-meet or of MiroTalk, or "environment" for
	// docker-jitsi-meet's variables in Environ.
	Prosody []string
	Docker  string
	// Environ is the environment, as of [os.Environ].
	Environ []string
	// Trusted are virtual hosts of Prosody with people who are hosts because they have a password.
	Trusted []string
	// Checks look at the issuers, as in [Load].
	Checks []Check
	// MeetFolder is the folder with the web page's configurations, DOMAIN-config.js, for an import of Prosody. Empty means the one of
	// Debian's packages.
	MeetFolder string
}

// YAML returns what the sources say as a usher.yaml that takes their place. Each key has a comment that says where it comes from, and
// secrets are written as found. Problems are comments at the beginning: what is missing is still to be added. The error is a
// *[Problems]: a source cannot be read, or Trusted names a virtual host that does not exist, or where nobody needs a password.
func (i Import) YAML() ([]byte, error) {
	l := newLoader("")
	l.checks, l.imports = i.Checks, true
	l.nowhere = place{source: "usher.yaml"} // the file to come
	at := place{source: "command line", layer: layerCommand}
	if len(i.Prosody) > 0 {
		l.places["sources/prosody"] = at
		l.viper.Set("sources/prosody", i.Prosody)
		// The lines for Prosody need these files as well, also what is not imported.
		l.places["prosody/files"] = place{source: "sets nothing: the lines for Prosody are made from it", layer: layerCommand}
		l.viper.Set("prosody/files", absolute(i.Prosody))
		l.meetFolder = cmp.Or(i.MeetFolder, meetFolder)
	}
	if i.Docker == inEnvironment {
		l.places["sources/docker"] = at
		l.viper.Set("sources/docker", i.Docker)
	} else if i.Docker != "" {
		l.nameEnv(i.Docker, at)
	}
	for _, domain := range i.Trusted {
		if path := l.addVHost(domain, at); path != "" {
			l.places[path+"/kind"] = at
			l.viper.Set(path+"/kind", string(KindTrusted))
		}
	}
	c := l.finish(nil, i.Environ)
	if l.garbled {
		return nil, l.failed()
	}
	if untrusted := l.untrusted(i.Trusted, at); len(untrusted) > 0 {
		return nil, &Problems{List: untrusted, Files: l.files}
	}
	var b strings.Builder
	b.WriteString("# usher's configuration, as found; behind each key stands where. What the keys mean: usher.example.yaml.\n")
	found := slices.DeleteFunc(c.Settings, func(s Setting) bool {
		// The login follows from the rest, except from docker-jitsi-meet's variables, which the result does not name.
		return s.Origin == byDefault || strings.HasPrefix(s.path, "sources/") && s.path != "sources/meet" ||
			s.path == "login" && l.place("login").layer != layerDocker
	})
	if slices.ContainsFunc(found, Setting.secret) {
		b.WriteString("# It has secrets in it: nobody else may read it (chmod 640), or they go into files (secret_file, app_secret_file).\n")
	}
	for _, p := range inOrder(l.problems) {
		fmt.Fprintf(&b, "# To do: %s\n", p)
	}
	for _, p := range slices.Concat(inOrder(l.warnings), l.notes) {
		fmt.Fprintf(&b, "# Note: %s\n", p)
	}
	b.WriteByte('\n')
	b.Write(render(found, func(s Setting) string { return s.Origin }, true))
	return []byte(b.String()), nil
}

// untrusted returns a problem for each domain that is no virtual host of Prosody's files, or where people need no password.
func (l *loader) untrusted(domains []string, at place) (all []Problem) {
	var hosts []string
	if l.prosody != nil {
		for _, host := range l.prosody.whole.Hosts {
			if !host.Component {
				hosts = append(hosts, host.Name)
			}
		}
	}
	there := "has these: " + strings.Join(hosts, ", ")
	if len(hosts) == 0 {
		there = "has none"
	}
	for _, name := range domains {
		domain, err := parseDomain(name)
		if err != nil || !slices.Contains(hosts, domain.String()) {
			all = append(all, Problem{Source: at.source, Text: fmt.Sprintf("--trusted %s: Prosody's configuration has no "+
				"VirtualHost of that name; it %s", name, there), at: at})
			continue
		}
		kind := typed(join(join("vhosts", domain.String()), "kind"))
		for _, p := range l.problems {
			if p.Key == kind {
				all = append(all, p)
			}
		}
	}
	return all
}

// absolute returns the absolute names of files.
func absolute(files []string) []string {
	all := make([]string, len(files))
	for i, file := range files {
		all[i] = file
		if name, err := filepath.Abs(file); err == nil {
			all[i] = name
		}
	}
	return all
}

// render writes settings as YAML, with a comment behind each.
func render(settings []Setting, comment func(Setting) string, reveal bool) []byte {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}
	var section func(path string) *yaml.Node
	section = func(path string) *yaml.Node {
		if node, ok := sections[path]; ok {
			return node
		}
		node := &yaml.Node{Kind: yaml.MappingNode}
		sections[path] = node
		up, name := parent(path), last(path)
		above := section(up)
		if isSections(up) {
			above.Kind = yaml.SequenceNode
			above.Content = append(above.Content, node)
		} else {
			above.Content = append(above.Content, scalarNode(name), node)
		}
		return node
	}
	for _, s := range settings {
		in, name := section(parent(s.path)), last(s.path)
		value := s.node(reveal)
		value.LineComment = comment(s)
		in.Content = append(in.Content, scalarNode(name), value)
	}
	var b strings.Builder
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	_ = encoder.Encode(root)
	return []byte(b.String())
}

func scalarNode(text string) *yaml.Node {
	var node yaml.Node
	node.SetString(text)
	if node.Style == yaml.LiteralStyle { // several lines, which have no place for a comment
		node.Style = yaml.DoubleQuotedStyle
	}
	return &node
}
