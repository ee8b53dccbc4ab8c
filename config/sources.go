package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// setting is a value that a source beneath usher.yaml gives to a key.
type setting struct {
	path  string
	value any // of the type to which the key's shape parses
	at    place
}

// vhost returns the virtual host that the setting is for, or "".
func (s setting) vhost() string {
	rest, ok := strings.CutPrefix(s.path, "vhosts/")
	if !ok {
		return ""
	}
	domain, _, _ := strings.Cut(rest, "/")
	return domain
}

// guests reports whether the setting lets people of a virtual host in without a token or a password.
func (s setting) guests() bool {
	return s.vhost() != "" && (last(s.path) == "kind" && s.value == string(KindGuest) || last(s.path) == "allow_empty_token" && s.value == true)
}

// readSources returns what the sources beneath usher.yaml say. The first setting of a key wins.
func (l *loader) readSources(variables map[string]string, environ []string) []setting {
	l.openMiroTalk(variables, environ)
	docker, at := l.source("sources/docker", variables)
	files, _ := l.source("sources/prosody", variables)
	var settings []setting
	if len(docker) > 0 {
		settings = l.readDocker(docker[0], at, environ)
	}
	if len(files) > 0 {
		settings = append(settings, l.readProsody(files, environ)...)
	}
	meet, at := l.source("sources/meet", variables)
	if found := l.findMeet(l.meetFolder); len(meet) == 0 && len(found) > 0 {
		meet, at = found, place{source: "found there", layer: layerCommand}
		l.places["sources/meet"] = at
		l.viper.Set("sources/meet", meet)
	}
	l.meet = l.readMeet(meet, at)
	return settings
}

// source returns the files that a key of sources names. It looks for the key's variable itself, because the environment can be read
// only when the vhosts of the sources are known. Names count from the folder of the file that has them.
func (l *loader) source(path string, variables map[string]string) (files []string, at place) {
	if set := l.viper.Get(path); set != nil {
		files, at = slices.Clone(l.viper.GetStringSlice(path)), l.places[path]
	}
	if value := variables[variable(path)]; value != "" && at.layer != layerCommand {
		files, at = strings.Split(value, ","), fromVariable(variable(path))
	}
	for i, name := range files {
		files[i] = strings.TrimSpace(name)
		if at.layer == layerFile && name != inEnvironment {
			files[i] = l.resolve(name)
		}
	}
	return files, at
}

// open returns the content of a source.
func (l *loader) open(name string, at place) (content []byte, ok bool) {
	l.files = append(l.files, name)
	content, err := smallfile.Read(name, maxSource)
	if err != nil {
		l.garble(at, name+" cannot be read: "+why(err))
	}
	return content, err == nil
}

// either are keys that say the same in different ways. If one of them is set, a source beneath does not count by another.
var either = [][]string{
	{"secret", "secret_file"},
	{"users_secret", "users_secret_file"},
	{"client_secret", "client_secret_file"},
	{"app_secret", "app_secret_file", "app_secrets", "public_key_files", "jwks_file", "jwks_url", "asap_key_server",
		"cache_keys_url"},
}

// fill sets what the sources say and nobody above them has set.
func (l *loader) fill(settings []setting) {
	lobby := l.given("rooms/lobby") || slices.ContainsFunc(settings, func(s setting) bool { return s.path == "rooms/lobby" })
	for _, s := range settings {
		if l.settled(s) || parent(s.path) == "lobby" && !lobby {
			continue
		}
		l.places[s.path] = s.at
		l.viper.Set(s.path, s.value)
		if list := listAround(s.path); list != "" {
			l.places[parent(s.path)], l.places[list] = s.at, s.at
		}
	}
}

// listAround returns the path of the list of sections that a path is in an entry of; "" if there is none.
func listAround(path string) string {
	if list := parent(parent(path)); list != "" && isSections(list) {
		return list
	}
	return ""
}

// settled reports whether a layer above the source of a setting decides about it.
func (l *loader) settled(s setting) bool {
	above := func(path string) bool { return l.given(path) && l.place(path).layer != s.at.layer }
	section, key := parent(s.path), last(s.path)
	if above(s.path) || l.given(s.path) {
		return true
	}
	if list := listAround(s.path); list != "" && above(list) { // the entries of two layers are not one list
		return true
	}
	for _, keys := range either {
		if (slices.Contains(keys, key) || key == "algorithms") &&
			slices.ContainsFunc(keys, func(other string) bool { return above(join(section, other)) }) {
			return true
		}
	}
	if s.vhost() == "" || key == "kind" {
		return false
	}
	// Somebody who wrote a list of issuers, or another kind of vhost, did not mean the source's issuer beside it.
	kind := join(section, "kind")
	return above(join(section, "issuers")) && slices.Contains(issuerKeys, key) || above(kind) && l.viper.GetString(kind) != string(KindToken)
}

// shown returns a file's name for people: relative to the present folder, if the file is below.
func shown(name string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(name) {
		return name
	}
	if relative, err := filepath.Rel(here, name); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return name
}
