package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/viper"
	"mellium.im/xmpp/jid"
)

// Load reads the configuration from a file, from environment variables as of [os.Environ], or from both; the
// environment overrides the file. An empty file name means that there is no file. Variables that do not begin with
// USHER_ are of no concern; neither are those that Kubernetes makes for a service called usher.
//
// The error, if any, is a *[Problems] and has everything that is wrong. A file that is no YAML is reported alone.
func Load(file string, environ []string) (*Config, error) {
	l := newLoader(file)
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			l.problem(place{source: file}, "", "cannot be read: "+why(err))
			return nil, &Problems{l.problems}
		}
		if !l.readFile(content) {
			return nil, &Problems{l.problems}
		}
	}
	return l.finish(environ)
}

// finish reads the environment over the file, and makes the Config.
func (l *loader) finish(environ []string) (*Config, error) {
	l.readEnvironment(environ)
	c := l.build(l.decode())
	if len(l.problems) > 0 {
		return nil, &Problems{inOrder(l.problems)}
	}
	c.Warnings = inOrder(l.warnings)
	return c, nil
}

// loader is one call of Load.
type loader struct {
	file   string // "" for none
	viper  *viper.Viper
	places map[string]place // by path: where what was set, sections included
	vhosts []jid.JID        // in the order of appearance

	problems []Problem
	warnings []Problem
	faulty   map[string]bool // the paths that have a problem

	secretInFile bool // the configuration file itself has a secret
	badVHost     bool // a vhost was left out, for its name is no domain
}

// place is where something was written.
type place struct {
	source string
	line   int
}

func newLoader(file string) *loader {
	return &loader{
		file:   file,
		viper:  viper.NewWithOptions(viper.KeyDelimiter("/")),
		places: map[string]place{},
		faulty: map[string]bool{},
	}
}

// at returns the place in the file that a line is.
func (l *loader) at(line int) place {
	return place{fmt.Sprintf("%s:%d", l.file, line), line}
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
		return place{"environment", afterFile}
	}
	return place{l.file, 0}
}

// given reports whether the operator set a path, rightly or wrongly.
func (l *loader) given(path string) bool {
	_, ok := l.places[path]
	return ok
}

// problem records a problem at a place.
func (l *loader) problem(at place, key, text string) {
	l.problems = append(l.problems, Problem{at.source, key, text, at.line})
}

// fault records a problem with what a path was set to. Only the first counts: the others follow from it.
func (l *loader) fault(path, format string, args ...any) {
	if l.faulty[path] {
		return
	}
	l.faulty[path] = true
	l.problem(l.place(path), typed(path), fmt.Sprintf(format, args...))
}

// missing records that a path must be set and is not.
func (l *loader) missing(path, what string) {
	for p := path; ; p = parent(p) {
		if l.faulty[p] { // then it may well be there, but could not be read
			return
		}
		if p == "" {
			break
		}
	}
	at := l.place(path)
	if at.line == afterFile {
		at.source = "environment"
		what += "; set " + variable(path)
	}
	l.faulty[path] = true
	l.problem(at, typed(path), "is missing: "+what)
}

// warn records a warning about what a path was set to.
func (l *loader) warn(path, format string, args ...any) {
	at := l.place(path)
	l.warnings = append(l.warnings, Problem{at.source, typed(path), fmt.Sprintf(format, args...), at.line})
}

// set sets a path to a value, which must be right for its shape.
func (l *loader) set(path string, s *shape, value string) {
	v, fault := s.parse(value)
	if fault != "" {
		l.fault(path, "%s", fault)
		return
	}
	l.viper.Set(path, v)
}

// addVHost takes note of a vhost and returns its path, or "" if the name is no domain.
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
	l.defaults("", table)
	var r raw
	if err := l.viper.UnmarshalExact(&r); err != nil {
		// Every key and value was checked against the table before it was set. The error is kept back, for it may
		// quote a secret.
		panic("config: the table of keys and the decoder disagree")
	}
	return &r
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

// maxFile is how many bytes a file named by the configuration may have: far more than any key needs.
const maxFile = 64 << 10

// readNamed returns the content of a file that a path names, and the place to report problems with it; its name is
// resolved against the folder of the configuration file. What stands in the file has its place in front.
func (l *loader) readNamed(path, name string) (content []byte, resolved string, ok bool) {
	resolved = name
	if !filepath.IsAbs(name) {
		resolved = filepath.Join(filepath.Dir(l.file), name)
	}
	by := l.place(path)
	l.places[path] = place{fmt.Sprintf("file %s (named by %s)", resolved, by.source), by.line}
	// Asked before opening, for opening a pipe would wait for its other end.
	stat, err := os.Stat(resolved)
	switch {
	case name == "":
		l.fault(path, "is empty: name a file")
	case errors.Is(err, fs.ErrNotExist):
		l.fault(path, "does not exist")
	case err != nil:
		l.fault(path, "cannot be read: %s", why(err))
	case !stat.Mode().IsRegular():
		l.fault(path, "is not a regular file")
	case stat.Size() > maxFile:
		l.fault(path, "has %d bytes, too many for what it should be", stat.Size())
	default:
		content, err = os.ReadFile(resolved)
		if err != nil {
			l.fault(path, "cannot be read: %s", why(err))
			break
		}
		return content, resolved, true
	}
	return nil, resolved, false
}

// worldReadable reports whether everybody on this machine can read a file.
func worldReadable(file string) bool {
	stat, err := os.Stat(file)
	return err == nil && stat.Mode().Perm()&0o004 != 0
}

// why returns what went wrong with a file, without its name.
func why(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
