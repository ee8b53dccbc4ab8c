// Package adopt puts usher into a Jitsi that is there already: Debian's packages, or docker-jitsi-meet. It decides nothing itself. The
// files that it makes and changes are those of the README, and what stands in them comes from package config.
//
// A [Plan] is made first, in a copy of the files (the stage), and package config judges there whether Prosody would then keep out
// everybody that usher has not let in. So what cannot be adopted is refused before anything is written. [Plan.Apply] writes a
// journal first, then backups, then the files, each whole or not at all. [Undo] puts everything back by the journal, also after a
// kill in the middle.
package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/config"
)

// Options say what to adopt.
type Options struct {
	// Root is the folder that stands for /; empty for /.
	Root string
	// Docker is the folder of docker-jitsi-meet, below Root; empty for Debian's files.
	Docker string
	// Trusted are virtual hosts with people who are hosts because they have a password, as of [config.Import].
	Trusted []string
	// Authentication is that of [config.Lines].
	Authentication string
	// Environ is the environment, as of [os.Environ].
	Environ []string
	// Checks look at the issuers, as in [config.Load].
	Checks []config.Check
	// Program is usher itself, a static program for the container; only with Docker.
	Program string
	// Image returns Prosody's files as docker-jitsi-meet's image has made them, by their names; only with Docker. If it fails, those that
	// are in the folder already count.
	Image func() (map[string][]byte, error)
	// WithoutHosts says that Apply makes the changes also if nobody could open a room afterwards.
	WithoutHosts bool
	// Now is the clock of the backups' names; nil for the machine's.
	Now func() time.Time

	step func() error // for tests: see disk
}

// Plan is what an adoption would do.
type Plan struct {
	// Found says what was found, one file a line.
	Found []string
	// Changes are the files to change, in the order in which they are written; none if nothing is to do.
	Changes []Change
	// Config is usher's configuration after the changes. Files is how to name it on usher's command line.
	Config *config.Config
	Files  []string
	// Warnings are those of the configuration.
	Warnings []string
	// Findings are what Prosody's files and the web page's have, after the changes, that an operator should know.
	Findings []config.Finding
	// Refusal is why Apply refuses: nobody could open a room afterwards. Nil if it does not, or because of Options.WithoutHosts.
	Refusal *Refusal
	// Interrupted says that an earlier Apply was interrupted.
	Interrupted bool
	// Prosody is the main file of Prosody's configuration, where "prosodyctl check config" can look at it; empty with Docker.
	Prosody string
	// Restart are the commands that put the changes into effect, and Start those that start usher after the doctor's examination.
	Restart, Start []Command
	// ByHand says what usher cannot do itself, one sentence an entry.
	ByHand []string

	o       Options
	journal string
	folders []folder
}

// Command is a program to run, with its arguments.
type Command struct {
	Args []string
	// Dir is the folder to run it in; empty for any.
	Dir string
	// Doctor says that it is the examination of the running server: it may fail.
	Doctor bool
	// Else, if not empty, says what to do if it fails. It matters little then.
	Else string
}

// String returns the command as one types it.
func (c Command) String() string { return strings.Join(c.Args, " ") }

// folder is a folder that is needed.
type folder struct {
	name string
	mode fs.FileMode
}

// Refusal is the error of an adoption that usher does not begin.
type Refusal struct {
	// Reasons say what stands against it, each with its file and line, and what to do.
	Reasons []string
}

// Error implements error.
func (r *Refusal) Error() string { return strings.Join(r.Reasons, "\n") }

// refuse returns a refusal.
func refuse(format string, args ...any) error {
	return &Refusal{[]string{fmt.Sprintf(format, args...)}}
}

// IsDocker reports whether a folder below a root is that of docker-jitsi-meet: it has a docker-compose.yml with its image of Prosody.
func IsDocker(in, folder string) bool {
	content, err := rootOf(in).content(filepath.Join(folder, dockerCompose))
	return err == nil && imageOfProsody.Match(content)
}

// imageOfProsody is the line of docker-jitsi-meet's image, with or without a registry and a variable for it.
var imageOfProsody = regexp.MustCompile(`(?m)^\s*image:.*\bjitsi\b.*/prosody\b`)

func rootOf(name string) root {
	if name == "" {
		return "/"
	}
	return root(name)
}

// New makes the plan of an adoption. It writes nothing but a temporary folder, which is gone when it returns. The error is a [*Refusal]
// if usher cannot adopt what it finds.
func New(o Options) (*Plan, error) {
	d, err := newDraft(o)
	if err != nil {
		return nil, err
	}
	defer d.stage.end()
	if err := d.interrupted(); err != nil {
		return nil, err
	}
	if o.Docker != "" {
		err = d.docker()
	} else {
		err = d.debian()
	}
	if err == nil {
		err = d.judge()
	}
	if err != nil {
		return nil, d.stage.shown(err)
	}
	d.finish()
	d.hostless()
	return d.plan, nil
}

// hostless refuses to shut everybody out of a Jitsi that was open: nobody could open a room, so all newcomers would wait for ever.
func (d *draft) hostless() {
	why := d.plan.Config.Hostless()
	if why == "" || d.o.WithoutHosts {
		return
	}
	own := d.plan.Files[len(d.plan.Files)-1]
	reasons := []string{fmt.Sprintf("nobody could open a room any more, so usher does not begin: %s. First say who opens rooms:", why)}
	if slices.ContainsFunc(d.plan.Changes, func(c Change) bool { return c.File == own && c.New != nil }) {
		reasons = append(reasons, fmt.Sprintf("- Have %s written: usher adopt --apply --without-hosts. Jitsi goes on as it is until it is restarted.", own))
	}
	d.plan.Refusal = &Refusal{append(reasons,
		fmt.Sprintf("- If hosts are to log in, and guests wait for them: begin with README, \"Hosts log in\". Its two lines for a Jitsi without tokens "+
			"go into %s.", own),
		fmt.Sprintf("- If guests are among themselves: write guest_rooms: [\"*\"] below rooms in %s.", own),
		"- Then: usher adopt --apply --restart")}
}

// finish leaves out what changes nothing, and puts the files in their order.
func (d *draft) finish() {
	d.plan.Changes = slices.DeleteFunc(d.plan.Changes, Change.nothing)
	for i := range d.plan.Changes {
		d.plan.Changes[i].secrets = d.secrets()
	}
	for _, w := range d.plan.Config.Warnings {
		d.plan.Warnings = append(d.plan.Warnings, d.stage.out(w.String()))
	}
	for i, f := range d.plan.Findings {
		f.Source, f.Text, f.Mend = d.stage.out(f.Source), d.stage.out(f.Text), d.stage.out(f.Mend)
		d.plan.Findings[i] = f
	}
}

// secrets returns the secrets of the configuration.
func (d *draft) secrets() (all []string) {
	c := d.plan.Config
	all = append(all, c.XMPP.Secret.Reveal(), c.Store.URL.Reveal(), c.Store.Password.Reveal())
	for _, v := range c.VHosts {
		for _, i := range v.Issuers {
			for _, s := range i.AppSecrets {
				all = append(all, s.Reveal())
			}
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// journalIn is the name of the journal in usher's folder.
const journalIn = "adopt.json"

// Apply makes the changes. If it fails, or is interrupted, Undo puts back what it has written, and a new plan goes on from there. The
// error is Refusal if there is one; nothing is written then.
func (p *Plan) Apply() error {
	if p.Refusal != nil {
		return p.Refusal
	}
	r := rootOf(p.o.Root)
	w := disk{r, p.o.step}
	unlock, err := w.lock(p.journal)
	if err != nil {
		return err
	}
	defer unlock()
	if err := w.sweep(p.journal); err != nil {
		return err
	}
	for _, c := range p.Changes {
		switch now, err := r.content(c.File); {
		case err != nil:
			return err
		case digest(now) != digest(c.Old):
			return fmt.Errorf("%s has changed since usher looked at it, so nothing was written: try again", c.File)
		}
	}
	j, err := readJournal(r, p.journal)
	if err != nil {
		return err
	}
	if j == nil {
		j = new(journal)
	}
	return p.apply(w, j)
}

// apply writes the journal, then folders and backups, then the files.
func (p *Plan) apply(w disk, j *journal) error {
	backups, err := p.record(w, j)
	if err != nil {
		return err
	}
	folders := p.missing(w.root)
	for _, f := range folders {
		j.Folders = append(j.Folders, f.name)
	}
	j.Applied = false
	if err := w.save(j, p.journal, p.ownerOfNew(w.root, filepath.Dir(p.journal), 0o750)); err != nil {
		return err
	}
	for _, f := range folders {
		if err := w.mkdir(f.name, p.ownerOfNew(w.root, f.name, f.mode)); err != nil {
			return err
		}
	}
	for i, c := range p.Changes {
		if err := w.backUp(c, backups[i]); err != nil {
			return err
		}
	}
	for _, c := range p.Changes {
		if err := p.change(w, c); err != nil {
			return err
		}
	}
	j.Applied = true
	return w.save(j, p.journal, p.ownerOfNew(w.root, filepath.Dir(p.journal), 0o750))
}

// record notes the changes in the journal, and returns the names of their backups, "" for none.
func (p *Plan) record(w disk, j *journal) ([]string, error) {
	now := time.Now
	if p.o.Now != nil {
		now = p.o.Now
	}
	backups := make([]string, len(p.Changes))
	for i, c := range p.Changes {
		name, err := w.unused(fmt.Sprintf("%s.before-usher-%s", c.File, now().Format("20060102-150405")))
		if err != nil {
			return nil, err
		}
		if backups[i], err = w.record(j, c, name); err != nil {
			return nil, err
		}
	}
	return backups, nil
}

// unused returns a name that no file has: this one, or with a number behind it.
func (d disk) unused(name string) (string, error) {
	for n, try := 2, name; ; n++ {
		switch _, err := os.Lstat(d.root.at(try)); {
		case errors.Is(err, fs.ErrNotExist):
			return try, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

// missing returns the folders that are not there, the outer ones first.
func (p *Plan) missing(r root) (all []folder) {
	add := func(f folder) {
		if _, err := os.Stat(r.at(f.name)); err != nil && !slices.ContainsFunc(all, func(o folder) bool { return o.name == f.name }) {
			all = append(all, f)
		}
	}
	need := slices.Clone(p.folders)
	for _, c := range p.Changes {
		if c.New != nil {
			need = append(need, folder{filepath.Dir(c.File), 0o755})
		}
	}
	for _, f := range need {
		parts := strings.Split(strings.Trim(f.name, "/"), "/")
		for i := range parts[:len(parts)-1] {
			add(folder{"/" + strings.Join(parts[:i+1], "/"), 0o755})
		}
		add(f)
	}
	return all
}

// dockerUser is the user, and the group, of the containers of docker-jitsi-meet, usher's among them (config/deploy/docker-compose.usher.yml).
const dockerUser = 1000

// ownerOfNew returns the owner of something new: the group of its folder. With Docker it is the user and the group of the nearest folder
// that is there, because the containers' user must read what usher writes; root stands for that user.
func (p *Plan) ownerOfNew(r root, name string, mode fs.FileMode) owner {
	o := owner{uid: -1, gid: -1, mode: mode}
	above := filepath.Dir(name)
	found, err := r.ownerOf(above)
	if p.o.Docker == "" {
		if err == nil {
			o.gid = found.gid
		}
		return o
	}
	for ; err != nil && above != "/"; found, err = r.ownerOf(above) {
		above = filepath.Dir(above)
	}
	if err != nil {
		return o
	}
	if o.uid, o.gid = found.uid, found.gid; o.uid == 0 && os.Geteuid() == 0 {
		o.uid, o.gid = dockerUser, dockerUser
	}
	return o
}

// backUp copies a file, with its owner, mode and time. A backup that is there already is complete.
func (d disk) backUp(c Change, backup string) error {
	if backup == "" {
		return nil
	}
	if there, err := d.root.content(backup); err != nil || digest(there) == digest(c.Old) {
		return err
	}
	o, err := d.root.ownerOf(c.File)
	if err != nil {
		return err
	}
	return d.write(backup, c.Old, o)
}

// change writes or removes one file. A file that exists keeps its owner and mode, unless it is usher's own.
func (p *Plan) change(w disk, c Change) error {
	if c.New == nil {
		return w.remove(c.File)
	}
	o := p.ownerOfNew(w.root, c.File, c.mode)
	if c.like != "" {
		like, err := w.root.ownerOf(c.like)
		if err != nil {
			return err
		}
		o.gid = like.gid
	}
	if c.Old != nil && !c.own {
		var err error
		if o, err = w.root.ownerOf(c.File); err != nil {
			return err
		}
		o.at = time.Time{}
	}
	return w.write(c.File, c.New, o)
}

// Undo puts back everything that Apply has changed, byte for byte. It reports whether there was anything. The error is an [*Undoable],
// and nothing was changed, if files are no longer as Apply has left them. If it is interrupted, it can be called again.
func Undo(o Options) (bool, error) {
	d := disk{rootOf(o.Root), o.step}
	file, err := journalOf(o)
	if err != nil {
		return false, err
	}
	unlock, err := d.lock(file)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := d.sweep(file); err != nil {
		return false, err
	}
	j, err := readJournal(d.root, file)
	if j == nil || err != nil {
		return false, err
	}
	return true, d.undo(j, file)
}

// journalOf returns the name of the journal.
func journalOf(o Options) (string, error) {
	folder := usherFolder
	if o.Docker != "" {
		folder = filepath.Join(o.Docker, "usher")
	}
	folder, err := rootOf(o.Root).follow(folder)
	return filepath.Join(folder, journalIn), err
}

// UndoCommands returns the commands that put an Undo into effect.
func UndoCommands(o Options) []Command {
	if o.Docker != "" {
		return []Command{{Args: []string{"docker", "compose", "up", "-d", "--remove-orphans"}, Dir: rootOf(o.Root).at(o.Docker)}}
	}
	return []Command{{Args: []string{"systemctl", "stop", "jicofo", "prosody"}}, {Args: []string{"systemctl", "start", "prosody", "jicofo"}}}
}
