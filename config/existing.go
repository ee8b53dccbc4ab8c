package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
)

// linesMark begins the lines of [Config.ProsodyLines]. By it usher tells its own file from Prosody's others.
const linesMark = `-- What usher needs of Prosody 0.12 or 13, as "usher config prosody"`

// IsLines reports whether a text is one of [Config.ProsodyLines].
func IsLines(text string) bool { return strings.HasPrefix(text, linesMark) }

// LinesFile is the file for [Config.ProsodyLines]. It is not in conf.d, because Prosody reads that in no certain order.
const LinesFile = "/etc/prosody/usher.cfg.lua"

// existing is what Prosody's files say: as they are (whole), and without usher's own lines (rest). usher's lines follow from the rest
// and from usher.yaml. If usher read them with the rest, it would take its own last words for the operator's. It would not change
// the authentication of a virtual host again that it has changed before, and an option that it has set would set its keys.
type existing struct {
	files       []string // the main files, as absolute names
	whole, rest *prosody.Configuration
}

// readExisting evaluates Prosody's main files. If that is not possible it records why, and returns nil.
func (l *loader) readExisting(files []string, environ []string) *existing {
	e := &existing{files: absolute(files)}
	if e.whole = l.evaluate(e.files, nil, environ); e.whole == nil {
		return nil
	}
	if e.rest = e.whole; e.own() {
		e.rest = l.evaluate(e.files, e.replaced(""), environ)
	}
	if e.rest == nil {
		return nil
	}
	return e
}

// evaluate evaluates Prosody's main files, some of them with the texts given instead of their own. If that is not possible it
// records why, and returns nil.
func (l *loader) evaluate(files []string, texts map[string]string, environ []string) *prosody.Configuration {
	source := prosody.Source{FS: os.DirFS("/"), Getenv: lookup(environ), Texts: texts, Mark: linesMark}
	for _, file := range files {
		source.Names = append(source.Names, nameInFS(file))
	}
	c, err := prosody.Read(source)
	if c != nil {
		for _, file := range c.Files {
			l.files = append(l.files, "/"+file)
		}
	}
	for _, err := range flatten(err) {
		var p prosody.Problem
		if !errors.As(err, &p) {
			p.Text = err.Error()
		}
		l.garble(placeIn(filepath.Dir(files[0]), p.At), p.Text)
	}
	if err != nil {
		l.files = append(l.files, files...) // so that a mended file is noticed
		return nil
	}
	return c
}

// nameInFS returns an absolute name as os.DirFS("/") has it.
func nameInFS(file string) string { return strings.TrimPrefix(filepath.ToSlash(file), "/") }

// placeIn returns the place of a position in Prosody's files. Names of files count from a folder.
func placeIn(folder string, at prosody.Position) place {
	file := at.File
	if !strings.HasPrefix(file, "/") {
		file = filepath.Join(folder, file)
	}
	source := "prosody " + at.String()
	if at.Line == 0 {
		source = "prosody " + at.File
	}
	return place{source: source, layer: layerProsody, file: file, line: at.Line}
}

// own reports whether a file with usher's lines is among the files.
func (e *existing) own() bool { return len(e.whole.Marked) > 0 }

// replaced returns usher's own files with another text.
func (e *existing) replaced(text string) map[string]string {
	texts := map[string]string{}
	for _, name := range e.whole.Marked {
		texts[name] = text
	}
	return texts
}

// linesFile returns where usher's lines can go if no file has them yet: beside the first of the files.
func (e *existing) linesFile() string {
	return filepath.Join(filepath.Dir(e.files[0]), filepath.Base(LinesFile))
}

// with returns what the files say with these lines in the place of usher's present ones, or at the end if there are none.
func (e *existing) with(lines string, environ []string) (*prosody.Configuration, error) {
	files, texts := e.files, e.replaced(lines)
	if !e.own() {
		file := e.linesFile()
		files, texts = append(slices.Clone(files), file), map[string]string{nameInFS(file): lines}
	}
	l := newLoader("")
	c := l.evaluate(files, texts, environ)
	if c == nil {
		return nil, l.failed()
	}
	return c, nil
}

// stale finds what usher's own lines lose. Their lists are copies of those that the files had when the lines were written, and they
// win over the present ones. fresh, the files with the lines of now, tells what the lines leave out on purpose.
func (e *existing) stale(g *comparison, fresh *prosody.Configuration) {
	if !e.own() {
		return
	}
	e.staleIn(g, "for all hosts", e.rest.Global, e.whole.Global, fresh.Global)
	for _, s := range e.rest.Hosts {
		e.staleIn(g, s.Name, s, e.whole.Host(s.Name), fresh.Host(s.Name))
	}
}

// staleIn finds what usher's lines lose of a section: rest is it without them, whole with them, and fresh with those of now.
func (e *existing) staleIn(g *comparison, where string, rest, whole, fresh *prosody.Section) {
	for _, name := range slices.Sorted(maps.Keys(rest.Options)) {
		o := rest.Options[name]
		by, _ := whole.Own(name)
		_, list := o.Value.([]any)
		if _, wins := by.Value.([]any); !list && !wins { // a text counts as a list of one, but only where a list can be
			continue
		}
		what, is, wanted := "entry of "+name, ownList(whole, name), ownList(fresh, name)
		if name == "modules_enabled" { // less those that are disabled
			what, is, wanted = "module", moduleNames(whole), moduleNames(fresh)
		}
		for _, element := range ownList(rest, name) {
			if slices.Contains(is, element) || !slices.Contains(wanted, element) {
				continue
			}
			at := by.At
			if name == "modules_enabled" && slices.Contains(ownList(whole, name), element) {
				off, _ := whole.Option("modules_disabled")
				at = off.At
			}
			g.find(Missing, o.At, rewrite("/"+e.whole.Marked[0]),
				"%s: the %s %s is lost: usher's lines win, and their list is older and does not have it (%s)", where, what, element, at)
		}
	}
}

// same reports whether two configurations mean the same to Prosody.
func same(a, b *prosody.Configuration) bool {
	alike := func(a, b *prosody.Section) bool {
		return b != nil && a.Component == b.Component && a.Module == b.Module &&
			maps.EqualFunc(a.Options, b.Options, func(a, b prosody.Option) bool { return reflect.DeepEqual(a.Value, b.Value) })
	}
	if len(a.Hosts) != len(b.Hosts) || !alike(a.Global, b.Global) {
		return false
	}
	for _, s := range a.Hosts {
		if !alike(s, b.Host(s.Name)) {
			return false
		}
	}
	return true
}

// unread finds that usher's lines are not among the files, which explains most of what is missing then. If somebody has written
// such lines by hand, there is usher's component, or usher is an admin of rooms.
func (e *existing) unread(g *comparison) {
	s := e.whole.Host(g.c.XMPP.Domain.String())
	if name := near(g.c.XMPP.Domain.String(), e.whole, g.c.unused(isOwn)); s == nil && name != "" {
		s = e.whole.Host(name) // xmpp.domain is misspelled
	}
	if e.own() || s != nil && s.Component && s.Module == "component" || slices.ContainsFunc(g.c.Rooms.Services, func(service jid.JID) bool {
		return slices.Contains(adminsOf(e.whole.Host(service.String())), g.c.Focus())
	}) {
		return
	}
	at, main, file := prosody.Position{}, e.files[0], e.linesFile()
	if e.inDocker() {
		g.find(Missing, at, "GLOBAL_CONFIG='"+DockerGlobalConfig+"'", "usher's lines are not read: %s does not include them, which GLOBAL_CONFIG in .env must say; "+
			"\"usher config prosody\" prints them", main)
		return
	}
	g.find(Missing, at, "Include "+gate.Quote(file), "usher's lines are not read: the last line of %s must be this one; \"usher config prosody "+
		"--output %s\" writes them", main, file)
}

// rewrite returns the remedy for lines that are not up to date.
func rewrite(file string) string {
	return "write the lines again: usher config prosody -c … --output " + file + ", and restart Prosody"
}

// moduleNames returns the modules that Prosody loads for a section.
func moduleNames(s *prosody.Section) (names []string) {
	for _, m := range s.Modules() {
		names = append(names, m.Name)
	}
	return names
}

// section returns what is set for a virtual host or component without usher's lines; nil if nothing is.
func (e *existing) section(domain string) *prosody.Section {
	if e == nil {
		return nil
	}
	return e.rest.Host(domain)
}

// existing returns what Prosody's files say: these files, or those that the configuration names (prosody.files,
// sources.prosody). It is nil if there are none. The error is a *[Problems].
func (c *Config) existing(environ []string, files ...string) (*existing, error) {
	if len(files) == 0 && len(c.prosodyFiles) == 0 {
		return c.prosody, nil
	}
	if len(files) == 0 {
		files = c.prosodyFiles
	}
	l := newLoader("")
	e := l.readExisting(files, environ)
	if e == nil {
		return nil, l.failed()
	}
	return e, nil
}

// replaces reports whether the lines for Prosody replace lists that Jitsi, or the operator, has in Prosody's files.
func (c *Config) replaces() bool {
	return c.Jicofo.JID.String() != "" || c.Rooms.Breakout.String() != "" || c.Rooms.Lobby.String() != "" || c.Rooms.Enforcement == Module
}

// unknown is the error of lines that cannot be made, because Prosody's files are not known or, though named, cannot be read (err).
func unknown(err error) error {
	const docker = `docker-jitsi-meet makes its files in the container, in memory, which docker compose cp does not see. Copy them out, and name
usher/prosody/prosody.cfg.lua (deploy/README.md, "You run docker-jitsi-meet"):

docker compose exec -T prosody tar -cC /run/prosody/config --exclude=./certs . | tar -xC usher/prosody`
	if err != nil {
		return fmt.Errorf("%w\nThe lines for Prosody need what its files say.\n\n%s", err, docker)
	}
	return errors.New(`the lines for Prosody replace lists of its files (admins, modules_enabled, plugin_paths), and usher does not ` +
		`know what these files say. Name Prosody's main file in usher.yaml. It sets nothing there:

prosody:
  files: [/etc/prosody/prosody.cfg.lua]

` + docker)
}
