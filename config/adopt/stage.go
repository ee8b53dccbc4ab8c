package adopt

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// stage is a copy of the files that matter, in a folder that nobody else can look into. Package config reads them there, with the
// changes of the plan. Names of files in them lead to the copies: in comes with each file that is copied, out with each text that
// leaves the stage.
type stage struct {
	root root
	dir  string
	held *os.File // dir, locked as long as the stage is in use
}

// newStage makes an empty stage, and removes those that were left because their process was killed: they have secrets in them.
func newStage(r root) (*stage, error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "usher-adopt-*"))
	for _, dir := range left {
		stat, err := os.Lstat(dir)
		// A stage is locked within a moment after it is made.
		if err != nil || !stat.IsDir() || time.Since(stat.ModTime()) < time.Minute || stat.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		if held, err := hold(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = held.Close()
		}
	}
	dir, err := os.MkdirTemp("", "usher-adopt-")
	if err != nil {
		return nil, err
	}
	held, err := hold(dir)
	return &stage{r, dir, held}, err
}

// end removes the stage.
func (s *stage) end() {
	_ = os.RemoveAll(s.dir)
	_ = s.held.Close()
}

// at returns the name of the copy of a file.
func (s *stage) at(name string) string { return filepath.Join(s.dir, name) }

// staged are names of files in texts that the stage has copies of.
var staged = regexp.MustCompile(`(^|["'\s\[,:=])(/etc/(?:prosody|jitsi|usher)/)`)

// in returns a text with the names of copies in the place of names of files.
func (s *stage) in(name string, content []byte) []byte {
	if ext := filepath.Ext(name); ext != ".lua" && ext != ".yaml" {
		return content
	}
	return staged.ReplaceAll(content, []byte("${1}"+s.dir+"${2}"))
}

// out returns a text with the names of files in the place of names of copies. Package config shows names below the present folder without it.
func (s *stage) out(text string) string {
	text = strings.ReplaceAll(text, s.dir, "")
	if here, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(here, s.dir); err == nil && filepath.IsLocal(short) {
			text = strings.ReplaceAll(text, short+"/", "/")
		}
	}
	return text
}

// shown returns an error with the names of files in the place of names of copies.
func (s *stage) shown(err error) error {
	var r *Refusal
	var p *config.Problems
	switch {
	case errors.As(err, &r):
		out := &Refusal{}
		for _, reason := range r.Reasons {
			out.Reasons = append(out.Reasons, s.out(reason))
		}
		return out
	case errors.As(err, &p):
		return &Refusal{strings.Split(s.out(err.Error()), "\n")}
	}
	text := s.out(err.Error())
	if errors.Is(err, fs.ErrPermission) {
		text += ": run adopt as root"
	}
	return errors.New(text)
}

// put writes a copy.
func (s *stage) put(name string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(s.at(name)), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(s.at(name), s.in(name, content), 0o600); err != nil {
		return err
	}
	return os.Chmod(s.at(name), mode|0o600) // package config warns of secrets that everybody can read
}

// copy copies a folder with all that is in it. Links are followed; what is skipped by name, and what is neither a file nor a folder, stays
// out.
func (s *stage) copy(name string, skip ...string) error { return s.copyTo(name, name, 0, skip) }

func (s *stage) copyTo(from, to string, depth int, skip []string) error {
	from, err := s.root.follow(from)
	if err != nil {
		return err
	}
	stat, err := os.Stat(s.root.at(from))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case depth > 8:
		return fmt.Errorf("%s: folders nest too deep", from)
	case stat.Size() > maxCopy && filepath.Ext(from) != ".lua": // no configuration
		return nil
	case stat.Mode().IsRegular():
		content, err := smallfile.Read(s.root.at(from), maxCopy)
		if err != nil {
			return err
		}
		return s.put(to, content, stat.Mode().Perm())
	case !stat.IsDir():
		return nil
	}
	if err := os.MkdirAll(s.at(to), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.root.at(from))
	for _, e := range entries {
		if !slices.Contains(skip, e.Name()) && !strings.Contains(e.Name(), ".before-usher-") && err == nil {
			err = s.copyTo(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), depth+1, skip)
		}
	}
	return err
}

// maxCopy is the limit of a file among those of a configuration, as for package config.
const maxCopy = 8 << 20

// draft is a plan that is being made.
type draft struct {
	o     Options
	root  root
	stage *stage
	plan  *Plan
	// load are the files of the configuration in the stage, as for config.Load.
	load []string
	// meet are the web page's configurations, by the names in the stage.
	meet []string
}

func newDraft(o Options) (*draft, error) {
	r := rootOf(o.Root)
	s, err := newStage(r)
	if err != nil {
		return nil, err
	}
	d := &draft{o: o, root: r, stage: s, plan: &Plan{o: o}}
	if d.plan.journal, err = journalOf(o); err != nil {
		s.end()
		return nil, err
	}
	return d, nil
}

// interrupted looks whether an earlier Apply was interrupted.
func (d *draft) interrupted() error {
	j, err := readJournal(d.root, d.plan.journal)
	d.plan.Interrupted = err == nil && j != nil && !j.Applied
	return err
}

// present returns what a file has now: in the plan, or on the disk; nil if it is not there. name is returned with its links followed.
func (d *draft) present(name string) (_ string, content []byte, err error) {
	if name, err = d.root.follow(name); err != nil {
		return name, nil, err
	}
	for _, c := range d.plan.Changes {
		if c.File == name {
			return name, c.New, nil
		}
	}
	content, err = d.root.content(name)
	return name, content, err
}

// put plans a file. The change is that of the first put of the file, with the content of the last one. The file is also written to the
// stage.
func (d *draft) put(c Change) error {
	alias := c.File
	file, err := d.root.follow(c.File)
	if err != nil {
		return err
	}
	c.File = file
	if i := slices.IndexFunc(d.plan.Changes, func(o Change) bool { return o.File == file }); i >= 0 {
		d.plan.Changes[i].New = c.New
	} else {
		if c.Old, err = d.root.content(file); err != nil {
			return err
		}
		c.mode = cmp.Or(c.mode, 0o640)
		d.plan.Changes = append(d.plan.Changes, c)
	}
	if c.New == nil {
		return os.RemoveAll(d.stage.at(alias))
	}
	mode := c.mode
	if stat, err := os.Stat(d.stage.at(alias)); err == nil {
		mode = stat.Mode().Perm()
	}
	return d.stage.put(alias, c.New, mode)
}

// folder plans a folder.
func (d *draft) folder(name string, mode fs.FileMode) error {
	name, err := d.root.follow(name)
	d.plan.folders = append(d.plan.folders, folder{name, mode})
	return errors.Join(err, os.MkdirAll(d.stage.at(name), 0o700))
}

// read loads the configuration in the stage. The name of a socket must be short, and that of its copy may be too long.
func (d *draft) read(environ ...string) (*config.Config, error) {
	socket := "USHER_ADMIN_SOCKET=" + d.stage.at("usher.sock")
	return config.Load(d.load, slices.Concat(d.o.Environ, environ, []string{socket}), d.o.Checks...)
}

// lines are the options of the lines for Prosody. file is where they go to.
func (d *draft) lines(file, authentication string) config.Lines {
	return config.Lines{Environ: d.o.Environ, Authentication: authentication, File: file}
}

// linesFor returns usher's lines for Prosody. Lines that are there already stay, whichever way to log in was chosen for them.
func (d *draft) linesFor(c *config.Config, file string) (string, error) {
	_, now, err := d.present(file)
	if err != nil {
		return "", err
	}
	if len(now) > 0 && !config.IsLines(string(now)) {
		return "", refuse("%s was not written by usher: move it away", file)
	}
	choices := []string{d.o.Authentication}
	if d.o.Authentication == "" {
		choices = []string{"", config.ProviderJitsi, config.ProviderAnonymous, config.ProviderToken}
	}
	for _, choice := range choices {
		text, err := c.ProsodyLines(d.lines(file, choice))
		if err != nil {
			return "", err
		}
		if text = d.stage.out(text); text == string(now) {
			return text, nil
		}
	}
	text, err := c.ProsodyLines(d.lines(file, d.o.Authentication))
	return d.stage.out(text), err
}

// page takes the web page's requests by HTTP out of its configuration: they would go past usher.
func (d *draft) page() error {
	var reasons []string
	for range 20 { // a file may set it more than once
		c, err := d.read("USHER_SOURCES_MEET=" + strings.Join(d.meet, ","))
		if err != nil || len(d.meet) == 0 {
			return err
		}
		i := slices.IndexFunc(c.Meet, func(m config.Meet) bool { return m.ConferenceRequestURL.Text != "" })
		if i < 0 {
			return nil
		}
		file, line := d.stage.out(c.Meet[i].File), lineOf(c.Meet[i].ConferenceRequestURL.Source)
		_, text, err := d.present(file)
		if err != nil {
			return err
		}
		changed, why := withoutRequestURL(string(text), line)
		if why != "" {
			reasons = append(reasons, fmt.Sprintf("%s:%d: conferenceRequestUrl must go, because such requests reach Jicofo without usher; usher cannot "+
				"take it out itself (%s). Take it out by hand", file, line, why))
			return &Refusal{reasons}
		}
		if err := d.put(Change{File: file, New: []byte(changed),
			Why: "Requests by HTTP reach Jicofo without usher, and nobody gets in by them"}); err != nil {
			return err
		}
	}
	return refuse("the web page's configuration sets conferenceRequestUrl too often: take it out by hand")
}

// judge refuses what usher would not make safe, and keeps the other findings.
func (d *draft) judge() error {
	c, err := d.read("USHER_SOURCES_MEET=" + strings.Join(d.meet, ","))
	if err != nil {
		return err
	}
	d.plan.Config = c
	findings, err := c.CompareProsody(d.o.Environ)
	if err != nil {
		return err
	}
	d.plan.Findings = append(findings, c.CompareMeet()...)
	var reasons []string
	for _, f := range d.plan.Findings {
		if f.Opens() {
			reasons = append(reasons, fmt.Sprintf("%s: %s -> %s", f.Source, f.Text, f.Mend))
		}
	}
	if len(reasons) > 0 {
		return &Refusal{append([]string{"usher's lines would not be enough, so nothing is changed. Mend this first:"}, reasons...)}
	}
	return d.outside(c)
}

// outside refuses files that are not below the root.
func (d *draft) outside(c *config.Config) error {
	if d.root == "/" {
		return nil
	}
	// As a source, Prosody's files are listed with all that they include.
	all, err := d.read("USHER_SOURCES_PROSODY=" + strings.Join(c.ProsodyFiles(), ","))
	if err != nil {
		return err
	}
	for _, file := range all.Files {
		if filepath.IsAbs(file) && !strings.HasPrefix(file, d.stage.dir+"/") && !strings.HasPrefix(file, string(d.root)+"/") && file != "/" {
			return refuse("%s belongs to the configuration, and is none of the files in /etc/prosody, /etc/jitsi and /etc/usher: with --root, usher "+
				"cannot tell where it lies", file)
		}
	}
	return nil
}
