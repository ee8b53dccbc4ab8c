package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/viper"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// Load reads the configuration from files, and from environment variables as of [os.Environ]. A file with a name that ends in
// .lua is Prosody's configuration, one that ends in .env has the variables of docker-jitsi-meet or of MiroTalk, which usher tells by their
// names, and any other is usher's own. There
// can be one of usher's own; without one, the environment has to say everything. The package documentation says which layer wins.
//
// The error, if any, is a *[Problems] with everything that is wrong. If usher's own file is not YAML, nothing else in it is checked.
// If a source cannot be read, missing keys are not reported, because they may stand there.
//
// The checks see each issuer, even if the configuration has other problems.
func Load(files []string, environ []string, checks ...Check) (*Config, error) {
	l := newLoader("")
	l.checks = checks
	for _, file := range files {
		l.nameFile(file)
	}
	if l.file != "" {
		content, err := smallfile.Read(l.file, MaxSize)
		if err != nil {
			l.garble(place{source: l.file, file: l.file}, "cannot be read: "+why(err))
		} else {
			l.readFile(content)
		}
	}
	return l.result(l.finish(environ, environ))
}

// nameFile records a file of the command line.
func (l *loader) nameFile(file string) {
	at := place{source: "command line", layer: layerCommand}
	switch {
	case strings.HasSuffix(file, ".lua"):
		l.places["sources/prosody"] = at
		l.viper.Set("sources/prosody", append(l.viper.GetStringSlice("sources/prosody"), file))
	case strings.HasSuffix(file, ".env"):
		l.nameEnv(file, at)
	case l.file != "":
		l.problem(at, "", file+isSecond)
	default:
		l.file = file
		l.files = append(l.files, file)
	}
}

// isSecond is what is wrong with a file of the command line if one of its kind stands there already.
const isSecond = " is a second file of its kind: name one only"

// nameEnv records a .env file of the command line.
func (l *loader) nameEnv(file string, at place) {
	content, _ := smallfile.Read(file, maxSource) // the source says why it cannot be read
	miroTalk, docker := envKinds(string(content))
	for path, is := range map[string]bool{"sources/mirotalk": miroTalk, "sources/docker": docker} {
		switch {
		case is && l.given(path):
			l.problem(at, "", file+isSecond)
		case is:
			l.places[path] = at
			l.viper.Set(path, file)
		}
	}
}

// finish reads the sources beneath the file and usher's variables above it, and makes the Config, which is valid if there are no
// problems.
func (l *loader) finish(own, environ []string) *Config {
	variables := ownVariables(own)
	l.credentials, _ = lookup(environ)("CREDENTIALS_DIRECTORY")
	lost := l.garbled // usher's own file
	beneath := l.readSources(variables, environ)
	if lost {
		return nil
	}
	for _, s := range beneath {
		if domain := s.vhost(); domain != "" {
			l.addVHost(domain, s.at)
		}
	}
	l.readEnvironment(variables)
	l.fill(l.readMiroTalk(beneath))
	l.fill(beneath)
	l.unsaid(beneath)
	c := l.build(l.decode())
	c.Settings = l.settings(c)
	c.Files = l.files
	c.Warnings = inOrder(l.warnings)
	c.Notes = l.notes
	c.prosody = l.prosody
	c.Meet = l.meet
	c.prosodyFiles = l.buildProsody(variables)
	return c
}

// result returns what Load returns.
func (l *loader) result(c *Config) (*Config, error) {
	if len(l.problems) > 0 {
		return nil, l.failed()
	}
	return c, nil
}

// failed returns all problems as an error.
func (l *loader) failed() *Problems {
	// Warnings about single keys would only hide the problems.
	about := slices.DeleteFunc(slices.Clone(l.warnings), func(w Problem) bool { return w.Key != "" })
	return &Problems{List: inOrder(l.problems), Warnings: inOrder(about), Files: l.files}
}

// loader is one call of Load.
type loader struct {
	file    string // "" for none
	root    *shape // what may stand in it
	nowhere place  // the place of what is missing if there is no file
	viper   *viper.Viper
	places  map[string]place // by path: where it was set, sections included
	vhosts  []jid.JID        // in the order of appearance
	files   []string         // all that were read

	problems []Problem
	warnings []Problem
	notes    []Problem
	faulty   map[string]bool // the paths that have a problem
	garbled  bool            // a file could not be read at all, so usher does not know what is missing
	checks   []Check

	effective map[string]any   // by path: defaults that follow from other keys
	secretIn  map[string]place // the files that have a secret, by name
	misnamed  []string         // the names of vhosts in the file that are no domains, as in their paths
	badVHost  bool             // a vhost was left out, with a problem: its name is no domain, or it asks a Matrix server
	spokenOf  map[string]bool  // the modules of Prosody that a note names

	authentications []authenticated
	prosody         *existing // nil if Prosody is no source
	docker          bool      // whether docker-jitsi-meet's variables are a source
	dockerVHosts    []string  // the virtual hosts that these variables make, the main one first
	imports         bool      // whether the result is to be written down
	miroTalk        *miroTalk // nil if its variables are no source
	meet            []Meet
	tokenAuthURL    []tokenAuthURL // by source
	credentials     string         // the folder of systemd's LoadCredential=; "" for none
	meetFolder      string         // the folder for configurations of the web page that nobody names; "" for none
}

// place is where something was written.
type place struct {
	source string // its name for people
	layer  layer
	file   string // the file's name; empty in the environment
	line   int    // 0 for the whole file
}

// layer is a kind of place. Problems are reported in this order.
type layer int

const (
	layerFile layer = iota
	layerMiroTalk
	layerDocker
	layerProsody
	layerMeet
	layerEnvironment
	layerCommand
)

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.layer, q.layer), cmp.Compare(p.file, q.file), cmp.Compare(p.line, q.line))
}

func newLoader(file string) *loader {
	return &loader{
		file:      file,
		root:      table,
		nowhere:   place{source: "environment", layer: layerEnvironment},
		viper:     viper.NewWithOptions(viper.KeyDelimiter("/")),
		places:    map[string]place{},
		faulty:    map[string]bool{},
		effective: map[string]any{},
		secretIn:  map[string]place{},
		spokenOf:  map[string]bool{},
	}
}

// at returns the place of a line of the file.
func (l *loader) at(line int) place {
	return place{source: fmt.Sprintf("%s:%d", l.file, line), file: l.file, line: line}
}

// place returns where a path was set, or else the innermost section around it.
func (l *loader) place(path string) place {
	for path != "" {
		if p, ok := l.places[path]; ok {
			return p
		}
		path = parent(path)
	}
	if l.file == "" {
		return l.nowhere
	}
	return place{source: l.file, file: l.file}
}

// given reports whether the operator set a path, rightly or wrongly.
func (l *loader) given(path string) bool {
	_, ok := l.places[path]
	return ok
}

// problem records a problem at a place.
func (l *loader) problem(at place, key, text string) {
	l.problems = append(l.problems, Problem{at.source, key, text, at})
}

// garble records that a file could not be read at all. A key that is missing then may stand in it.
func (l *loader) garble(at place, text string) {
	l.garbled = true
	l.problem(at, "", text)
}

// fault records a problem with the value of a path. Only the first counts, because the others follow from it.
func (l *loader) fault(path, format string, args ...any) {
	if l.faulty[path] {
		return
	}
	l.faulty[path] = true
	l.problem(l.place(path), typed(path), fmt.Sprintf(format, args...))
}

// missing records that a path must be set and is not.
func (l *loader) missing(path, what string) {
	if l.garbled {
		return
	}
	for p := path; ; p = parent(p) {
		if l.faulty[p] { // it may be there, but could not be read
			return
		}
		if p == "" {
			break
		}
	}
	at := l.place(path)
	if at.layer == layerEnvironment {
		at.source = "environment"
		what += "; set " + variable(path)
	}
	l.faulty[path] = true
	l.problem(at, typed(path), "is missing: "+what)
}

// warnAt records a warning about a place, and note a note.
func (l *loader) warnAt(at place, text string) {
	l.warnings = append(l.warnings, Problem{Source: at.source, Text: text, at: at})
}

func (l *loader) note(at place, text string) {
	l.notes = append(l.notes, Problem{Source: at.source, Text: text, at: at})
}

// warn records a warning about the value of a path.
func (l *loader) warn(path, format string, args ...any) {
	at := l.place(path)
	l.warnings = append(l.warnings, Problem{at.source, typed(path), fmt.Sprintf(format, args...), at})
}

// set sets a path to a value, and records a problem if it does not have the path's shape.
func (l *loader) set(path string, s *shape, value string) {
	v, fault := s.parse(value)
	if fault != "" {
		l.fault(path, "%s", fault)
		return
	}
	l.viper.Set(path, v)
}

// addVHost records a vhost and returns its path, or "" if the name is no domain.
func (l *loader) addVHost(name string, at place) string {
	domain, err := parseDomain(name)
	if err != nil {
		l.problem(at, "vhosts."+name, err.Error())
		l.badVHost = true
		return ""
	}
	path := join("vhosts", domain.String())
	if !l.given(path) {
		l.places[path] = at
		l.vhosts = append(l.vhosts, domain)
	}
	return path
}

// decode merges what was set over the defaults.
func (l *loader) decode() *raw {
	var r raw
	l.decodeTo(&r)
	return &r
}

// decodeTo is decode for a file with any table of keys.
func (l *loader) decodeTo(r any) {
	l.defaults("", l.root)
	if err := l.viper.UnmarshalExact(r); err != nil {
		// Every key and value was checked against the table before it was set. The error may quote a secret, so nobody sees it.
		panic("config: the table of keys and the decoder disagree")
	}
}

// defaults sets the defaults below a path.
func (l *loader) defaults(path string, s *shape) {
	switch s.form {
	case formSection:
		for name, key := range s.keys {
			l.defaults(join(path, name), key)
		}
	case formVHosts:
		for _, domain := range l.vhosts {
			l.defaults(join(path, domain.String()), s.each)
		}
		for _, name := range l.misnamed {
			l.defaults(join(path, name), s.each)
		}
	case formSections:
		for i := range l.count(path) {
			l.defaults(join(path, fmt.Sprint(i)), s.each)
		}
	default:
		if s.def != "" {
			v, _ := s.parse(s.def)
			l.viper.SetDefault(path, v)
		}
	}
}

// count returns how many sections the list at a path has.
func (l *loader) count(path string) int {
	n := 0
	for l.given(join(path, fmt.Sprint(n))) {
		n++
	}
	return n
}

// parseDomain parses a domain, such as that of a vhost, into its canonical form.
func parseDomain(name string) (jid.JID, error) {
	if name == "" {
		return jid.JID{}, errors.New("is empty where a domain is needed")
	}
	domain, err := jid.Parse(name)
	switch {
	case err != nil:
		return jid.JID{}, fmt.Errorf("%q is no domain (%s)", name, strings.TrimPrefix(err.Error(), "idna: "))
	case !domain.Equal(domain.Domain()):
		return jid.JID{}, fmt.Errorf("%q is an address where a domain is needed: leave out all but %s", name, domain.Domain())
	case strings.Contains(domain.String(), ".."), strings.HasPrefix(domain.String(), "."):
		return jid.JID{}, fmt.Errorf("%q is no domain (empty part between dots)", name)
	}
	return domain, nil
}

// MaxSize is the limit of usher's own file in bytes, ample for 50,000 virtual hosts. All other files that [Load] reads have lower limits.
const MaxSize = 8 << 20

// maxSource, maxKeys and maxSecret are the limits of other files in bytes, far more than they need: of a source that is not
// Prosody's, of a file with keys (as in package auth/keys), and of one with a secret.
const maxSource, maxKeys, maxSecret = 1 << 20, 1 << 20, 64 << 10

// readNamed returns the content of a file that a path names, of at most so many bytes, and its name, resolved against the folder of
// the configuration file. From then on the place of the path is that file.
func (l *loader) readNamed(path, name string, most int) (content []byte, resolved string, ok bool) {
	resolved = l.resolve(name)
	by := l.place(path)
	l.places[path] = place{fmt.Sprintf("file %s (named by %s)", resolved, by.source), by.layer, by.file, by.line}
	l.files = append(l.files, resolved)
	if name == "" {
		l.fault(path, "is empty: name a file")
		return nil, resolved, false
	}
	switch content, err := smallfile.Read(resolved, most); {
	case errors.Is(err, fs.ErrNotExist):
		l.fault(path, "does not exist")
	case err != nil:
		l.fault(path, "cannot be read: %s", why(err))
	default:
		return content, resolved, true
	}
	return nil, resolved, false
}

// resolve returns the name of a file that the configuration names. Names count from the folder of the configuration file.
func (l *loader) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(l.file), name)
}

// worldReadable reports whether everybody on this machine can read a file.
func worldReadable(file string) bool { return permits(file, 0o004) }

// permits reports whether a file has one of these permissions.
func permits(file string, mode fs.FileMode) bool {
	stat, err := os.Stat(file)
	return err == nil && stat.Mode().Perm()&mode != 0
}

// why returns what went wrong with a file, without its name.
func why(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
