package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/adopt"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// statusToDo is the exit status of an adopt that has found something to do, and has not done it.
const statusToDo = 2

// adoption is one call of "usher adopt".
type adoption struct {
	apply, undo, restart, withoutHosts    bool
	root, folder, program, authentication string
	trusted                               []string

	out, err io.Writer
	// patience is how long Prosody may take to start, until the doctor can reach it.
	patience time.Duration
	// run runs a program of the machine. Its output goes to out.
	run func(ctx context.Context, dir string, out io.Writer, args ...string) error
}

func adoptCommand() *cobra.Command {
	a := adoption{run: runProgram, patience: time.Minute}
	cmd := &cobra.Command{
		Use:   "adopt [FOLDER]",
		Short: "Put usher into a Jitsi that is there already",
		Long: `Put usher into a Jitsi that is there already: that of Debian's packages, or docker-jitsi-meet, if FOLDER or the present folder is its
folder. Without --apply nothing is changed: adopt prints what it would change and why, file by file, as unified diffs. Secrets are masked.

What it changes is what the README says. Debian: it makes /etc/usher/usher.yaml ("usher config import prosody"), the secret that usher and
Prosody share, usher's lines and module for Prosody, and the line that includes them; in jicofo.conf it adds lines at the end; in the web
page's config.js it makes conferenceRequestUrl a comment. docker-jitsi-meet: it makes the folder usher, usher.yml, usher's lines and module
in the mounted folders, and adds lines to .env. An usher.yaml with keys in it stays as it is.

--apply writes all that. Files that exist keep their owner and mode, and a backup with the date is left beside each. At the end adopt asks
"prosodyctl check config", where there is one, and makes the checks of "usher doctor" that need no running server. Nothing is restarted
without --restart: adopt prints the commands, and with --restart it runs them, and then all checks of the doctor.

--undo puts everything back, byte for byte, also after an --apply that was interrupted. If somebody has changed one of the files since, it
changes nothing, and says which file that is and how to go on. What has been changed is kept in adopt.json, beside usher.yaml.

If nobody could open a room afterwards, because neither tokens nor accounts make anybody a host, --apply refuses, and says what to do
first. --without-hosts makes the changes all the same.

After an upgrade of Jitsi, or a change of Prosody's files, run adopt again: it says what has to be written anew.

Exit status: 0 if nothing is to do or everything is done, 1 if usher refuses or fails or a check fails, 2 if something is to do
(without --apply).`,
		Example: `  usher adopt
  usher adopt --apply --restart
  usher adopt ~/docker-jitsi-meet
  usher adopt --undo --restart`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.out, a.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if len(args) > 0 {
				a.folder = args[0]
			}
			return a.adopt(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&a.apply, "apply", false, "make the changes")
	f.BoolVar(&a.undo, "undo", false, "put everything back as it was before --apply")
	f.BoolVar(&a.restart, "restart", false, "with --apply or --undo: restart what has to be restarted")
	f.BoolVar(&a.withoutHosts, "without-hosts", false, "make the changes even if nobody can open a room afterwards")
	f.StringVar(&a.root, "root", "", "the `folder` that stands for /, such as an image's; no program is run then")
	f.StringSliceVar(&a.trusted, "trusted", nil, "`domain` of a virtual host where everybody with a password is a host")
	f.StringVar(&a.authentication, "authentication", "", "as of \"usher config prosody\": how people log in")
	return cmd
}

// adopt runs the command.
func (a *adoption) adopt(ctx context.Context) error {
	if err := a.misuse(); err != nil {
		return err
	}
	o, err := a.options(ctx)
	if err != nil {
		return err
	}
	if a.undo {
		return a.putBack(ctx, o)
	}
	p, err := adopt.New(o)
	if err != nil {
		return err
	}
	if a.apply && p.Refusal != nil {
		return p.Refusal
	}
	a.say(p)
	switch {
	case p.Refusal != nil:
		fmt.Fprintln(a.out, "\nNothing was changed. --apply refuses, as the first lines say.")
		return failure{status: statusFailed}
	case len(p.Changes) == 0 && !p.Interrupted:
		fmt.Fprintln(a.out, "Nothing is to do.")
	case !a.apply:
		fmt.Fprintln(a.out, "\nNothing was changed. To make these changes: usher adopt --apply")
		a.left(ctx, p)
		return failure{status: statusToDo}
	default:
		if err := p.Apply(); err != nil {
			return fmt.Errorf("%w\nFiles that were written already are put back by: usher adopt --undo", err)
		}
		fmt.Fprintf(a.out, "\n%d files are written. To put everything back: usher adopt --undo\n", len(p.Changes))
	}
	return a.examine(ctx, o)
}

// misuse returns an error if the flags contradict each other.
func (a *adoption) misuse() error {
	switch {
	case a.apply && a.undo:
		return misused("--apply and --undo contradict each other")
	case a.restart && !a.apply && !a.undo:
		return misused("--restart is for --apply and --undo")
	case a.restart && a.root != "":
		return misused("--restart is for the running machine, so not for --root")
	case a.authentication != "" && !slices.Contains(authentications, a.authentication):
		return misused("--authentication must be %s", strings.Join(authentications, ", "))
	}
	return nil
}

// options returns the options of package adopt.
func (a *adoption) options(ctx context.Context) (adopt.Options, error) {
	o := adopt.Options{
		Trusted: a.trusted, Authentication: a.authentication, Environ: configEnviron(os.Environ()), WithoutHosts: a.withoutHosts,
		Checks: []config.Check{newIssuers(new(keys.Cache)).add},
	}
	if a.root != "" {
		root, err := filepath.Abs(a.root)
		if err == nil {
			root, err = filepath.EvalSymlinks(root)
		}
		if err != nil {
			return o, err
		}
		o.Root = root
	}
	if err := a.findDocker(&o); err != nil || o.Docker == "" {
		return o, err
	}
	var err error
	if o.Program = a.program; o.Program == "" {
		o.Program, err = os.Executable()
	}
	if o.Root == "" {
		o.Image = func() (map[string][]byte, error) { return a.image(ctx, o.Docker) }
	}
	return o, err
}

// findDocker looks for docker-jitsi-meet in the folder that was named, below the root if there is one, or else in the present folder.
func (a *adoption) findDocker(o *adopt.Options) error {
	folder := a.folder
	if o.Root != "" && folder == "" {
		return nil
	}
	if o.Root == "" || !filepath.IsAbs(folder) {
		var err error
		if folder, err = filepath.Abs(folder); err != nil {
			return err
		}
	}
	switch {
	case adopt.IsDocker(o.Root, folder):
		o.Docker = folder
	case a.folder != "":
		return fmt.Errorf("%s is not the folder of docker-jitsi-meet: it has no docker-compose.yml with Jitsi's image of Prosody", a.folder)
	}
	return nil
}

// image copies Prosody's files out of the container. They lie in memory there, where "docker compose cp" does not see them.
func (a *adoption) image(ctx context.Context, folder string) (map[string][]byte, error) {
	var packed bytes.Buffer
	err := a.run(ctx, folder, &packed, "docker", "compose", "exec", "-T", "prosody", "tar", "-cC", "/run/prosody/config", "--exclude=./certs", ".")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for r := tar.NewReader(&packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		name := filepath.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) || h.Size > config.MaxSize {
			continue
		}
		if files[name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

// say prints what was found, and what is to change.
func (a *adoption) say(p *adopt.Plan) {
	if p.Refusal != nil {
		fmt.Fprintf(a.out, "refused: %s\n\n", printable.Lines(p.Refusal.Error()))
	}
	fmt.Fprintf(a.out, "Found: %s\n", strings.Join(p.Found, ", "))
	if p.Interrupted {
		fmt.Fprintln(a.out, "An earlier \"usher adopt --apply\" was interrupted. --apply goes on from there, --undo puts everything back.")
	}
	for _, c := range p.Changes {
		fmt.Fprintf(a.out, "\n%s: %s.\n%s", c.File, c.Why, tabbed(c.Diff()))
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(a.out, "warning:", w)
	}
	for _, text := range p.ByHand {
		fmt.Fprintln(a.out, "By hand:", text)
	}
}

// left prints what is to do after the changes.
func (a *adoption) left(ctx context.Context, p *adopt.Plan) {
	commands := slices.Concat(p.Restart, p.Start)
	if p.Prosody != "" && a.root == "" && a.unit(ctx) {
		commands = asUnit(p) // usher serve as root would make files that the unit's user cannot write
	}
	fmt.Fprintln(a.out, "After that, in this order (or with --restart):")
	for _, c := range commands {
		fmt.Fprintln(a.out, " ", c)
	}
}

// examine looks at the files as they are now, and restarts if that was asked for.
func (a *adoption) examine(ctx context.Context, o adopt.Options) error {
	p, err := adopt.New(o)
	if err != nil {
		return err
	}
	t := tally{write: (&textReport{w: a.out}).write}
	if len(p.Changes) > 0 {
		t.report(doctor.Check{Code: "file", Status: doctor.Fail, Says: p.Changes[0].File + " is not as it should be", Mend: "usher adopt"})
	}
	if p.Prosody != "" && o.Root == "" {
		a.prosodyctl(ctx, &t)
	}
	hints := 0
	for _, f := range p.Findings {
		if f.Level == config.Hint {
			hints++
			continue
		}
		t.report(fileCheck(f))
	}
	if len(p.Findings) == hints {
		t.report(doctor.Check{Code: "file", Status: doctor.OK, Says: "Prosody's files make the gate"})
	}
	switch {
	case a.restart:
		err = a.restarted(ctx, p)
	case a.apply:
		a.left(ctx, p)
	}
	if t.failed && err == nil {
		err = failure{status: statusFailed}
	}
	return errors.Join(err, t.unwritten)
}

// prosodyctl has Prosody check its own files, where it is installed.
func (a *adoption) prosodyctl(ctx context.Context, t *tally) {
	if _, err := exec.LookPath("prosodyctl"); err != nil {
		return
	}
	var says bytes.Buffer
	if err := a.run(ctx, "", &says, "prosodyctl", "check", "config"); err != nil {
		_, _ = says.WriteTo(a.out)
		t.report(doctor.Check{Code: "file", Of: "prosodyctl check config", Status: doctor.Warn, Says: "finds something in Prosody's files: see above"})
		return
	}
	t.report(doctor.Check{Code: "file", Of: "prosodyctl check config", Status: doctor.OK, Says: "finds nothing wrong"})
}

// restarted runs the commands that put the changes into effect, and has the doctor examine everything. Where usher is a unit of systemd,
// it is stopped for that, and started afterwards.
func (a *adoption) restarted(ctx context.Context, p *adopt.Plan) error {
	commands := slices.Concat(p.Restart, p.Start)
	switch debian := p.Prosody != ""; {
	case debian && a.unit(ctx):
		commands = asUnit(p)
	case debian:
		commands = p.Restart
		defer fmt.Fprintln(a.out, "Now start usher:", p.Start[0])
	}
	failed, examined := a.commands(ctx, commands)
	if failed != nil {
		return failed
	}
	return examined
}

// commands runs commands. One that fails does not keep the next ones from being run, because they start again what an earlier one has
// stopped; but then nothing is examined. examined is the failure of the doctor, who has said why.
func (a *adoption) commands(ctx context.Context, all []adopt.Command) (failed, examined error) {
	for _, c := range all {
		if c.Doctor && failed != nil {
			continue
		}
		switch err := a.command(ctx, c); {
		case err == nil:
		case c.Doctor:
			examined = failure{status: statusFailed}
		case c.Else != "":
			fmt.Fprintf(a.out, "warning: %v\n%9s-> %s\n", err, "", c.Else)
		default:
			failed = errors.Join(failed, err)
		}
	}
	return failed, examined
}

// asUnit returns the commands that put a plan into effect where usher is a unit of systemd.
func asUnit(p *adopt.Plan) []adopt.Command {
	return slices.Concat([]adopt.Command{{Args: []string{"systemctl", "stop", "usher"}}}, p.Restart,
		[]adopt.Command{{Args: []string{"systemctl", "start", "usher"}}})
}

// unit reports whether usher is a unit of systemd.
func (a *adoption) unit(ctx context.Context) bool {
	return a.run(ctx, "", io.Discard, "systemctl", "cat", "usher.service") == nil
}

// command runs one command, and says so.
func (a *adoption) command(ctx context.Context, c adopt.Command) error {
	fmt.Fprintln(a.out, "+", c)
	args := slices.Clone(c.Args)
	if args[0] == "usher" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args[0] = self
	}
	run := a.run
	if c.Doctor {
		run = a.patiently
	}
	if err := run(ctx, c.Dir, a.out, args...); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// unreached is a line of the doctor that cannot reach the server.
var unreached = regexp.MustCompile(`(?m)^fail +port `)

// patiently runs the doctor. As long as the server that has just been started cannot be reached, it does so again.
func (a *adoption) patiently(ctx context.Context, dir string, out io.Writer, args ...string) error {
	patience, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	for {
		var says bytes.Buffer
		err := a.run(ctx, dir, &says, args...)
		if err != nil && unreached.Match(says.Bytes()) {
			select {
			case <-time.After(time.Second):
				continue
			case <-patience.Done():
			}
		}
		_, _ = says.WriteTo(out)
		return err
	}
}

// putBack undoes an adoption.
func (a *adoption) putBack(ctx context.Context, o adopt.Options) error {
	was, err := adopt.Undo(o)
	if err != nil {
		return err
	}
	if !was {
		fmt.Fprintln(a.out, "Nothing is to undo.")
		return nil
	}
	fmt.Fprintln(a.out, "Everything is as it was before.")
	commands := adopt.UndoCommands(o)
	switch {
	case !a.restart:
		fmt.Fprintln(a.out, "Stop usher. After that, in this order (or with --restart):")
	case o.Docker == "" && a.unit(ctx):
		commands = append([]adopt.Command{{Args: []string{"systemctl", "stop", "usher"}}}, commands...)
	}
	if a.restart {
		failed, _ := a.commands(ctx, commands)
		return failed
	}
	for _, c := range commands {
		fmt.Fprintln(a.out, " ", c)
	}
	return nil
}

// runProgram runs a program. What it says on standard error is part of its output only if it fails.
func runProgram(ctx context.Context, dir string, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var says bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, &says
	err := cmd.Run()
	if text := strings.TrimSpace(says.String()); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, printable.Lines(text))
	}
	return err
}

// tabbed is printable for a text with tabs, as files have them.
func tabbed(s string) string {
	parts := strings.Split(s, "\t")
	for i := range parts {
		parts[i] = printable.Lines(parts[i])
	}
	return strings.Join(parts, "\t")
}
