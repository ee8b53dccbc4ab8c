package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

func configGroup() *cobra.Command {
	return group("config", "Examine the configuration, or make one", configCheck(), configShow(), configProsody(), configEjabberd(), configJitsi(), configImport(), configModules())
}

func configCheck() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a configuration, or what it means",
		Long: `Print everything that is wrong with a configuration, one problem a line. If nothing is wrong, print in words who may
create rooms, who may enter and who waits. This command connects to nothing.

Exit status: 0 if the configuration is valid, 1 if not.`,
		Example: `  usher config check -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "usher is %s and connects to %s.\n", c.XMPP.Domain, c.XMPP.Server)
			for _, sentence := range words(c, p) {
				fmt.Fprintln(out, sentence)
			}
			fmt.Fprintln(out, storeInWords(c, os.Environ()))
			for _, n := range c.Notes {
				fmt.Fprintln(out, "note:", n)
			}
			for _, w := range c.Warnings {
				fmt.Fprintln(out, "warning:", w)
			}
			writeGate(out, c)
			return nil
		},
	}
	configFlag(cmd, &files)
	return cmd
}

// writeGate says whether Prosody's files make the gate. It says nothing if the files are not known.
func writeGate(w io.Writer, c *config.Config) {
	if len(c.ProsodyFiles()) == 0 {
		return
	}
	findings, err := c.CompareProsody(os.Environ())
	if err != nil {
		fmt.Fprintf(w, "warning: could not compare Prosody's files: %v\n", err)
		return
	}
	if err := writeDoubts(w, c, config.Lines{Environ: os.Environ()}); err != nil {
		fmt.Fprintf(w, "warning: usher's lines do not fit Prosody's files: %v\n", err)
	}
	levels := map[config.FindingLevel]int{}
	first := config.Finding{}
	for _, f := range findings {
		levels[f.Level]++
		if f.Level == config.Warning && !f.Unguarded() { // not among the doubts
			fmt.Fprintf(w, "warning: %s: %s\n%9s-> %s\n", f.Source, f.Text, "", f.Mend)
		}
		if first.Level == "" && f.Opens() {
			first = f
		}
	}
	if levels[config.Defeats]+levels[config.Missing] == 0 {
		fmt.Fprintln(w, within("Prosody's files make the gate", c, findings))
		return
	}
	fmt.Fprintf(w, "warning: Prosody's files do not make the gate (defeats: %d, missing: %d): \"usher config prosody\" prints the lines "+
		"that they need. First: %s: %s\n", levels[config.Defeats], levels[config.Missing], first.Source, first.Text)
	if first.Mend != "" {
		fmt.Fprintf(w, "%9s-> %s\n", "", first.Mend)
	}
}

// writeDoubts says what is probably not meant beside Prosody's files.
func writeDoubts(w io.Writer, c *config.Config, lines config.Lines) error {
	doubts, err := c.Doubts(lines)
	for _, d := range doubts {
		lead := "warning"
		if d.Level == config.Hint {
			lead = "note"
		}
		fmt.Fprintf(w, "%s: %s: %s\n", lead, d.Source, d.Text)
	}
	return err
}

func configShow() *cobra.Command {
	var files []string
	var origin bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the effective configuration, and where each value comes from",
		Long: `Print the configuration that results from all its sources, with secrets masked. The output is a usher.yaml or, with
--origin, a list of keys, values and where each value comes from. The sources are, and the later one counts: defaults, Prosody's files,
docker-jitsi-meet's variables, MiroTalk's, usher.yaml, usher's own variables.`,
		Example: `  usher config show -c usher.yaml --origin
  usher config show -c /etc/prosody/prosody.cfg.lua -c usher.yaml`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			if !origin {
				_, err = cmd.OutOrStdout().Write(c.YAML())
				return err
			}
			for _, s := range c.Settings {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  (%s)\n", s.Key, s.Value(), s.Origin); err != nil {
					return err
				}
			}
			return nil
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	return cmd
}

func configProsody() *cobra.Command {
	var p prosodyCommand
	cmd := &cobra.Command{
		Use:   "prosody [FILE...]",
		Short: "Print the lines that Prosody needs, or what its configuration lacks",
		Long: `Print the lines that Prosody, 0.12 or 13, needs for this configuration. They contain the component's secret. usher makes
them from Prosody's files (sources.prosody, or prosody.files): lists keep their entries, and how people log in changes only where it
must. Beside Jitsi, usher prints nothing if it does not know these files.

The lines belong into a file of their own. The very last line of prosody.cfg.lua includes it by its name:

  Include "` + config.LinesFile + `"

Do not put it into conf.d, because Prosody does not sort what Include "conf.d/*.cfg.lua" finds. Do not write into Jitsi's own file,
because a package upgrade writes it anew. With --output usher writes the file at once. If something is wrong, or if the file has
anything else in it, usher leaves it as it is.

With --check, say what Prosody would make of its files with these lines, before they are written. Each finding is one line. If Prosody
does not read these lines yet, or reads older ones, usher says so.

  defeats   with this line, or without it, the gate is open, or somebody else decides, too
  missing   without this line usher cannot work as it should
  warning   probably not meant: a name that may be misspelled, or a MUC service that usher does not guard
  hint      something that these files do not show, or that is worth knowing

With FILE..., say the same about these files as they are: prosody.cfg.lua, or the files that Prosody reads one after the other, usher's
last. With --check, too, these files count, and not those of the configuration.

--authentication changes how people without a password log in. With rooms.enforcement: module, jitsi-anonymous takes the place of Jitsi's
token: each token is verified once, by usher, and usher's module puts its features into the session. token keeps token, which verifies
each token again, in Prosody's one thread: 1.3 ms (HS256) or 5 ms (RS256) a join. Without the module token stays, because nobody else
sets features. Give it each time.

With --module, write usher's module for Prosody, mod_usher.lua, into a folder, which is made if it is missing. rooms.enforcement: module needs
the module, and the lines load it. muc_affiliated_only, its earlier name, still works. If Prosody's files are not known, usher prints the
lines for the module alone. usher does not overwrite a file of the same name that is not its own.

Exit status: 0 if nothing defeats the gate or is missing, 1 otherwise.`,
		Example: `  usher config prosody -c usher.yaml --check
  usher config prosody -c usher.yaml --output ` + config.LinesFile + `
  usher config prosody -c usher.yaml /etc/prosody/prosody.cfg.lua
  usher config prosody -c usher.yaml --module ` + config.ModuleFolder,
		Args: cobra.ArbitraryArgs,
		RunE: p.run,
	}
	configFlag(cmd, &p.files)
	cmd.Flags().StringVar(&p.folder, "module", "", "write usher's module for Prosody into this `folder`")
	cmd.Flags().StringVarP(&p.output, "output", "o", "", "write the lines into this `file`, readable by its group, too")
	cmd.Flags().StringVar(&p.authentication, "authentication", "", "`provider` by which people log in: jitsi-anonymous, anonymous or token")
	cmd.Flags().BoolVar(&p.check, "check", false, "say what Prosody makes of its files with the lines, without writing them")
	return cmd
}

// prosodyCommand has the flags of "usher config prosody".
type prosodyCommand struct {
	files                          []string
	folder, output, authentication string
	check                          bool
}

// run runs the command. against are Prosody's files to compare with.
func (p *prosodyCommand) run(cmd *cobra.Command, against []string) error {
	changed, out := cmd.Flags().Changed, cmd.OutOrStdout()
	if err := p.misuse(changed, against); err != nil {
		return err
	}
	c, _, err := load(p.files, os.Environ(), new(keys.Cache))
	if err != nil {
		return err
	}
	lines := config.Lines{Environ: os.Environ(), Authentication: p.authentication}
	switch {
	case changed("module"):
		return writeModule(out, c, p.folder)
	case p.check:
		return checkLines(out, c, lines, against)
	case len(against) > 0:
		findings, err := c.CompareProsody(os.Environ(), against...)
		if err != nil {
			return err
		}
		return writeFindings(out, findings, within("Prosody's configuration makes the gate", c, findings))
	case changed("output"):
		if lines.File, err = filepath.Abs(p.output); err != nil {
			return err
		}
	}
	text, err := c.ProsodyLines(lines)
	if err != nil {
		return err
	}
	if err := writeDoubts(cmd.ErrOrStderr(), c, lines); err != nil {
		return err
	}
	if changed("output") {
		if err := writeLines(lines.File, text, config.IsLines, c.ProsodyFiles()); err != nil {
			return err
		}
		if strings.Contains(text, config.DockerGlobalConfig) {
			_, err := fmt.Fprintf(out, "%s is written. Its head says how docker-jitsi-meet's Prosody comes to read it.\n", lines.File)
			return err
		}
		_, err := fmt.Fprintf(out, "%s is written. The very last line of prosody.cfg.lua must include it:\n  Include %q\n", lines.File, lines.File)
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// misuse returns an error if the flags contradict each other.
func (p *prosodyCommand) misuse(changed func(flag string) bool, against []string) error {
	switch {
	case changed("module") && (p.folder == "" || len(against) > 0 || p.check || changed("output") || changed("authentication")):
		return misused("--module takes a folder to write to, and no other flag or file")
	case changed("output") && (p.output == "" || len(against) > 0 || p.check):
		return misused("--output takes a file to write to, and no files to compare with")
	case changed("authentication") && !slices.Contains(authentications, p.authentication):
		return misused("--authentication must be %s", strings.Join(authentications, ", "))
	case changed("authentication") && len(against) > 0 && !p.check:
		return misused("--authentication is for printing lines: it does not change what these files say")
	}
	return nil
}

// authentications are what --authentication may be.
var authentications = []string{config.ProviderJitsi, config.ProviderAnonymous, config.ProviderToken}

// checkLines says what Prosody would make of its files with usher's lines.
func checkLines(w io.Writer, c *config.Config, lines config.Lines, against []string) error {
	findings, err := c.CheckLines(lines, against...)
	if err != nil {
		return err
	}
	pending, err := c.LinesPending(lines, against...)
	if err != nil {
		return err
	}
	holds := within("With usher's lines, Prosody keeps out everybody that usher has not let in", c, findings)
	return writeFindings(w, findings, strings.TrimSpace(holds+"\n"+pending))
}

// within makes a sentence that the gate holds. If usher may not guard all rooms, the sentence names the services for which that is true.
func within(holds string, c *config.Config, findings []config.Finding) string {
	if !slices.ContainsFunc(findings, func(f config.Finding) bool { return f.Unguarded() }) {
		return holds + "."
	}
	var services []string
	for _, service := range c.Rooms.Services {
		services = append(services, service.String())
	}
	return fmt.Sprintf("%s, but only for rooms on %s: see the warnings.", holds, strings.Join(services, ", "))
}

// writeLines writes the lines for a server into a file, all or nothing: with half of them, the gate would be open. It leaves a file
// alone that has anything but such lines, because that may be somebody else's. files are the main files of the server.
func writeLines(name, lines string, own func(text string) bool, files []string) error {
	switch is, err := smallfile.Read(name, 1<<20); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--output: %w", err)
	case len(is) > 0 && !own(string(is)):
		return fmt.Errorf("%s was not written by usher: name another file, or remove this one", name)
	}
	return replaceFile(name, lines, append([]string{name}, append(files, filepath.Dir(name))...))
}

// replaceFile writes a file whole or not at all. Its readers must be able to read it, so it gets the group of the first of these files
// that exists.
func replaceFile(name, content string, like []string) error {
	var group os.FileInfo
	for _, file := range like {
		var err error
		if group, err = os.Stat(file); err == nil {
			break
		}
	}
	part, err := os.CreateTemp(filepath.Dir(name), ".usher-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // is gone already if all went well
	_, err = part.WriteString(content)
	if owner, ok := group.Sys().(*syscall.Stat_t); ok && err == nil {
		if err = part.Chown(-1, int(owner.Gid)); err != nil {
			err = fmt.Errorf("could not give %s the group of %s, so its readers could not read it: %w", name, group.Name(), err)
		}
	}
	err = errors.Join(err, part.Chmod(0o640), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	return err
}

// writeModule writes usher's module into a folder, and says what else is needed.
func writeModule(w io.Writer, c *config.Config, folder string) error {
	folder, err := filepath.Abs(folder) // Prosody counts relative names from its own configuration
	if err != nil {
		return err
	}
	lines, known, err := c.ModuleLines(os.Environ(), folder)
	if err != nil {
		return err
	}
	file, err := module.Write(folder)
	if err != nil {
		return err
	}
	if !known {
		_, err = fmt.Fprintf(w, "-- %s is written. These lines load it; usher.yaml needs rooms.enforcement: module.\n%s", file, lines)
		return err
	}
	fmt.Fprintf(w, "%s is written. ", file)
	if c.Rooms.Enforcement != config.Module {
		fmt.Fprint(w, "Set rooms.enforcement: module in usher.yaml. ")
	}
	fmt.Fprintln(w, "The lines that \"usher config prosody --output\" writes load it.")
	if lines != "" {
		fmt.Fprintf(w, "Prosody does not look into this folder. Write the module into %s instead, or set this in Prosody's "+
			"global section, above the first VirtualHost, before you write the lines:\n  %s", config.ModuleFolder, lines)
	}
	return nil
}

// writeFindings prints what a configuration of Prosody lacks, and fails if the gate is open. Otherwise it prints holds.
func writeFindings(w io.Writer, findings []config.Finding, holds string) error {
	open := 0
	for _, f := range findings {
		if f.Opens() {
			open++
		}
		fmt.Fprintf(w, "%-7s  %s: %s\n", f.Level, f.Source, f.Text)
		if f.Mend != "" {
			fmt.Fprintf(w, "%9s-> %s\n", "", f.Mend)
		}
	}
	if open > 0 {
		return failure{status: statusFailed}
	}
	_, err := fmt.Fprintln(w, holds)
	return err
}

func configEjabberd() *cobra.Command {
	var files []string
	var output string
	cmd := &cobra.Command{
		Use:   "ejabberd",
		Short: "Print the lines that ejabberd needs",
		Long: `Print the lines that ejabberd, 23.01 or later, needs for this configuration. They contain the component's secret. usher is the
focus itself there: it works beside ejabberd without Jicofo, lobbies and breakout rooms.

The lines belong into a file of their own. The last line of ejabberd.yml includes it:

  include_config_file: ` + config.EjabberdFile + `

Virtual hosts of the kinds token and guest become anonymous, and get modules of their own. ejabberd does not start if its own files list
these hosts, too. Virtual hosts of the other kinds stay as they are. usher does not read ejabberd's files: "usher doctor" asks the running
server. With --output usher writes the file at once, unless it has anything else in it.`,
		Example: `  usher config ejabberd -c usher.yaml
  usher config ejabberd -c usher.yaml --output ` + config.EjabberdFile,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("output") && output == "" {
				return misused("--output takes a file to write to")
			}
			c, _, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			lines, err := c.EjabberdLines()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output == "" {
				_, err = io.WriteString(out, lines)
				return err
			}
			file, err := filepath.Abs(output)
			if err != nil {
				return err
			}
			if err := writeLines(file, lines, config.IsEjabberdLines, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "%s is written. The last line of ejabberd.yml must include it:\n  include_config_file: %s\n", file, file)
			return err
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the lines into this `file`, readable by its group, too")
	return cmd
}

func configImport() *cobra.Command {
	var trusted []string
	prosody := &cobra.Command{
		Use:   "prosody FILE",
		Short: "Write a usher.yaml from Prosody's configuration",
		Long: `Write a usher.yaml from Prosody's configuration to standard output. Comments say in which file and line each value was
found. It contains the secrets. Its first lines say what is still to do.

Virtual hosts with passwords are left out unless --trusted names them, because everybody who logs in there would be a host.`,
		Example: `  usher config import prosody /etc/prosody/prosody.cfg.lua > usher.yaml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return importFrom(cmd, config.Import{Prosody: files, Trusted: trusted})
		},
	}
	prosody.Flags().StringSliceVar(&trusted, "trusted", nil, "`domain` of a virtual host where everybody with a password is a host")
	env := &cobra.Command{
		Use:     "env FILE",
		Short:   "Write a usher.yaml from the variables of docker-jitsi-meet or MiroTalk",
		Long:    envLong(),
		Example: `  usher config import env .env > usher.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return importFrom(cmd, config.Import{Docker: files[0], Environ: os.Environ()})
		},
	}
	return group("import", "Write a usher.yaml from an existing configuration", prosody, env)
}

// importFrom prints the usher.yaml of an import.
func importFrom(cmd *cobra.Command, i config.Import) error {
	i.Checks = []config.Check{newIssuers(new(keys.Cache)).add}
	yaml, err := i.YAML()
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(yaml)
	return err
}

// envLong returns the help of "usher config import env", with the list of all variables.
func envLong() string {
	var b strings.Builder
	b.WriteString(`Write a usher.yaml from the variables of docker-jitsi-meet to standard output. The variables are those of a .env file
or, if FILE is "environment", those of the environment. A .env file of MiroTalk is known by its HOST_ variables. Comments say which variable each value comes from. It contains the secrets. Its
first lines say what is still to do.

These variables set a key. MAIN, GUEST, HIDDEN and AUTH are the virtual hosts that XMPP_DOMAIN, XMPP_GUEST_DOMAIN,
XMPP_HIDDEN_DOMAIN and XMPP_AUTH_DOMAIN name. Modules set the keys that "usher config modules" prints:

`)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range config.DockerVariables {
		if v.Key == "" {
			continue
		}
		note := v.Note
		if v.Default != "" {
			note = strings.TrimPrefix(note+"; default "+v.Default, "; ")
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", v.Name, v.Key, note)
	}
	_ = w.Flush() // into memory
	b.WriteString(`
These set none. The log names those that are set. It also names variables that usher does not know and that begin with XMPP_, JWT_,
ENABLE_, GLOBAL_, PROSODY_, JICOFO_ or VISITORS_:

`)
	for _, v := range config.DockerVariables {
		if v.Key == "" {
			fmt.Fprintf(w, "  %s\t%s\n", v.Name, v.Note)
		}
	}
	_ = w.Flush()
	b.WriteString(`
Of the variables of MiroTalk SFU, these set a key. PORTAL is the virtual host of the portal. Passwords become hashes:

`)
	for _, v := range config.MiroTalkVariables {
		if v.Key != "" {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", v.Name, v.Key, v.Note)
		}
	}
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func configModules() *cobra.Command {
	return &cobra.Command{
		Use:   "modules [NAME...]",
		Short: "Say what becomes of Prosody's modules beside usher",
		Long: `Say what becomes of the modules of Prosody beside usher: of all that usher knows, or of those named here. usher knows the
modules of Jitsi, of jitsi-contrib/prosody-plugins, of docker-jitsi-meet's templates and of Prosody itself.

  mapped       usher does its work, by the keys that are named. usher is at least as strict, or says what it allows more. "usher
               config import" sets the keys, and the lines of "usher config prosody" disable the module
  rival        it decides beside usher, and usher has nothing like it; the lines disable it
  harmless     it stays: nobody gets in or gets more by it, but it may refuse or delay
  usher's own  it comes with usher

An unknown module may do anything. usher names it if it is loaded where usher guards rooms. This command reads no files, and connects
to nothing.

Exit status: 0, or 1 if usher does not know a module that was named.`,
		Example: `  usher config modules
  usher config modules token_affiliation muc_wait_for_host`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			return writeModules(cmd.OutOrStdout(), names)
		},
	}
}

// writeModules says what becomes of these modules, or of all known ones if none is named.
func writeModules(w io.Writer, names []string) error {
	known := config.Modules()
	if len(names) == 0 {
		for _, m := range known {
			writeModuleRow(w, m)
		}
		return nil
	}
	unknown := false
	for _, name := range names {
		name = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "mod_"), ".lua")
		i := slices.IndexFunc(known, func(m config.ProsodyModule) bool { return m.Name == name })
		if i < 0 {
			unknown = true
			fmt.Fprintln(w, config.UnknownModule(name))
			continue
		}
		writeModuleRow(w, known[i])
	}
	if unknown {
		return failure{status: statusFailed}
	}
	return nil
}

// writeModuleRow says what becomes of one module.
func writeModuleRow(w io.Writer, m config.ProsodyModule) {
	fmt.Fprintf(w, "%-32s %s", m.Name, m.Verdict)
	if becomes := m.Becomes(); becomes != "" {
		fmt.Fprintf(w, " -> %s", becomes)
	}
	fmt.Fprintf(w, "\n    %s: %s.\n", m.Stands, m.Does)
	say := func(lead, note, wider string) {
		if note = strings.TrimSuffix(note, "."); note != "" {
			if !strings.HasPrefix(note, "usher") {
				note = strings.ToUpper(note[:1]) + note[1:]
			}
			fmt.Fprintf(w, "    %s%s.\n", lead, note)
		}
		if wider != "" {
			fmt.Fprintf(w, "    %susher allows more: %s.\n", lead, wider)
		}
	}
	say("", m.Note, m.Wider)
	if m.Open != "" {
		fmt.Fprintf(w, "    With rooms.enforcement module it is a rival: it %s.\n", m.Open)
	}
	for _, o := range m.Options {
		lead := "With " + o.Name
		for _, k := range o.Sets {
			lead += " -> " + k.String()
		}
		say(lead+". ", o.Note, o.Wider)
	}
}
