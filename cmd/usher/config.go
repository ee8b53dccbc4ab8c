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
	return group("config", "Look at the configuration", configCheck(), configShow(), configProsody(), configImport(), configModules())
}

func configCheck() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a configuration, or in words what it means",
		Long: `Say everything that is wrong with a configuration, one problem a line, and exit with status 1; or say in words who
may create rooms, who may enter and who waits, and exit with status 0. Nothing is connected to.`,
		Example: `  usher config check -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "usher is %s and connects to %s.\n", c.XMPP.Domain, c.XMPP.Server)
			for _, sentence := range p.Words() {
				fmt.Fprintln(out, sentence)
			}
			fmt.Fprintln(out, stored(c, os.Environ()))
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

// writeGate says whether Prosody's files, where they are known, make the gate.
func writeGate(w io.Writer, c *config.Config) {
	if len(c.ProsodyFiles()) == 0 {
		return
	}
	findings, err := c.CompareProsody(os.Environ())
	if err != nil {
		fmt.Fprintf(w, "warning: nothing can be said of Prosody's files: %v\n", err)
		return
	}
	levels := map[config.FindingLevel]int{}
	first := config.Finding{}
	for _, f := range findings {
		levels[f.Level]++
		if first.Level == "" && f.Level != config.Hint {
			first = f
		}
	}
	if levels[config.Defeats]+levels[config.Missing] == 0 {
		fmt.Fprintln(w, "Prosody's files make the gate.")
		return
	}
	fmt.Fprintf(w, "warning: Prosody's files do not make the gate (defeats: %d, missing: %d): \"usher config prosody\" prints the lines "+
		"that they need. First: %s: %s\n", levels[config.Defeats], levels[config.Missing], first.Source, first.Text)
	if first.Mend != "" {
		fmt.Fprintf(w, "%9s-> %s\n", "", first.Mend)
	}
}

func configShow() *cobra.Command {
	var files []string
	var origin bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the effective configuration, and where each value is from",
		Long: `Print the configuration as it counts once all its sources are put together, with secrets masked: as a usher.yaml, or
with --origin as a list of keys, values and where each value is from. Of several sources the later counts: defaults,
Prosody's files, docker-jitsi-meet's variables, usher.yaml, usher's own variables.`,
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
	cmd.Flags().BoolVar(&origin, "origin", false, "say where each value is from")
	return cmd
}

func configProsody() *cobra.Command {
	var files []string
	var folder, output, authentication string
	var check bool
	cmd := &cobra.Command{
		Use:   "prosody [FILE...]",
		Short: "Print the lines that Prosody needs, or what a configuration of it lacks",
		Long: `Print the lines that Prosody, 0.12 or 13, needs for this configuration. They contain the component's secret. They are made
from what Prosody's files say already (sources.prosody, or prosody.files): lists keep what they have, and how people log in
changes only where it must. Beside Jitsi, usher prints nothing if it does not know these files.

The lines belong into a file of their own, which the very last line of prosody.cfg.lua includes by its name:

  Include "` + config.LinesFile + `"

not into conf.d, for Prosody does not sort what Include "conf.d/*.cfg.lua" finds, and not into Jitsi's own file, which a
package upgrade writes anew. With --output they are written there at once, or nothing is if something is wrong, or if
that file has something else in it.

With --check, say what Prosody would make of its files with these lines, before they are written: one finding a line. If Prosody
does not read these lines yet, or reads older ones, it says so.

  defeats   with this line, or without it, the gate is open, or somebody else decides, too
  missing   without this line usher cannot work as it should
  hint      what cannot be seen in these files, or is worth knowing

With FILE..., say the same of these files as they are: prosody.cfg.lua, or the files that Prosody reads one after the other,
usher's last. With --check, too, these files count and not those that the configuration names.

--authentication changes how people log in that are not asked for a password. With jitsi-anonymous each token is verified once
and not twice, and the features in tokens have no effect. Give it each time.

With --module, write usher's module for Prosody into a folder instead, which is made: rooms.enforcement: module needs it. The
lines load it; where Prosody's files are not known, the lines for it alone are printed. A file of its name that is something else is left alone.

Exit status: 0 if nothing defeats the gate or is missing, 1 otherwise.`,
		Example: `  usher config prosody -c usher.yaml --check
  usher config prosody -c usher.yaml --output ` + config.LinesFile + `
  usher config prosody -c usher.yaml /etc/prosody/prosody.cfg.lua
  usher config prosody -c usher.yaml --module ` + config.ModuleFolder,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, against []string) error {
			changed := cmd.Flags().Changed
			switch {
			case changed("module") && (folder == "" || len(against) > 0 || check || changed("output") || changed("authentication")):
				return misused("--module takes a folder to write to, and goes with nothing else")
			case changed("output") && (output == "" || len(against) > 0 || check):
				return misused("--output takes a file to write to, and no files to compare with")
			case changed("authentication") && authentication != config.ProviderJitsi && authentication != config.ProviderAnonymous:
				return misused("--authentication must be %s or %s", config.ProviderJitsi, config.ProviderAnonymous)
			case changed("authentication") && len(against) > 0 && !check:
				return misused("--authentication is for lines that are printed: it does not change what these files say")
			}
			c, _, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			out, lines := cmd.OutOrStdout(), config.Lines{Environ: os.Environ(), Authentication: authentication}
			switch {
			case changed("module"):
				return writeModule(out, c, folder)
			case check:
				findings, err := c.CheckLines(lines, against...)
				if err != nil {
					return err
				}
				pending, err := c.LinesPending(lines, against...)
				if err != nil {
					return err
				}
				holds := strings.TrimSpace("With usher's lines, Prosody keeps out everybody that usher has not let in.\n" + pending)
				return writeFindings(out, findings, holds)
			case len(against) > 0:
				findings, err := c.CompareProsody(os.Environ(), against...)
				if err != nil {
					return err
				}
				return writeFindings(out, findings, "Prosody's configuration makes the gate.")
			}
			if changed("output") {
				if lines.File, err = filepath.Abs(output); err != nil {
					return err
				}
			}
			text, err := c.ProsodyLines(lines)
			if err != nil {
				return err
			}
			if changed("output") {
				return writeLines(out, lines.File, text, c.ProsodyFiles())
			}
			_, err = io.WriteString(out, text)
			return err
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().StringVar(&folder, "module", "", "write usher's module for Prosody into this `folder`")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the lines into this `file`, which only its group may read, too")
	cmd.Flags().StringVar(&authentication, "authentication", "", "`provider` by which people log in: jitsi-anonymous or anonymous")
	cmd.Flags().BoolVar(&check, "check", false, "say what Prosody makes of its files with the lines, without writing them")
	return cmd
}

// writeLines writes the lines for Prosody into a file, all or nothing: where they were included and are half there, the gate
// would be open. Any other file than one with such lines is left alone: it may be Jitsi's. Prosody must be able to read it, so it gets the group of the file before, or else of Prosody's own file.
func writeLines(w io.Writer, name, lines string, prosody []string) error {
	switch is, err := smallfile.Read(name, 1<<20); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--output: %w", err)
	case len(is) > 0 && !config.IsLines(string(is)):
		return fmt.Errorf("%s is not what usher has written there: name a file of its own, or remove this one", name)
	}
	var like os.FileInfo
	for _, file := range append([]string{name}, append(prosody, filepath.Dir(name))...) {
		var err error
		if like, err = os.Stat(file); err == nil {
			break
		}
	}
	part, err := os.CreateTemp(filepath.Dir(name), ".usher-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // which is gone if all went well
	_, err = part.WriteString(lines)
	if owner, ok := like.Sys().(*syscall.Stat_t); ok && err == nil {
		if err = part.Chown(-1, int(owner.Gid)); err != nil {
			err = fmt.Errorf("the group of %s cannot be given to it, so Prosody could not read it: %w", like.Name(), err)
		}
	}
	err = errors.Join(err, part.Chmod(0o640), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		return err
	}
	if strings.Contains(lines, config.DockerGlobalConfig) {
		_, err = fmt.Fprintf(w, "%s is written. Its head says how docker-jitsi-meet's Prosody comes to read it.\n", name)
		return err
	}
	_, err = fmt.Fprintf(w, "%s is written. The very last line of prosody.cfg.lua includes it:\n  Include %q\n", name, name)
	return err
}

// writeModule writes usher's module into a folder, and says what else it takes.
func writeModule(w io.Writer, c *config.Config, folder string) error {
	folder, err := filepath.Abs(folder) // Prosody looks from where its own configuration is
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
		_, err = fmt.Fprintf(w, "-- %s is written. These lines load it, beside rooms.enforcement: module in usher.yaml.\n%s", file, lines)
		return err
	}
	fmt.Fprintf(w, "%s is written. ", file)
	if c.Rooms.Enforcement != config.Module {
		fmt.Fprint(w, "Set rooms.enforcement: module in usher.yaml. ")
	}
	fmt.Fprintln(w, "The lines that \"usher config prosody --output\" writes load it.")
	if lines != "" {
		fmt.Fprintf(w, "Prosody does not look into this folder: write the module into %s instead, or set in Prosody's own file, and write the lines after that:\n  %s",
			config.ModuleFolder, lines)
	}
	return nil
}

// writeFindings says what a configuration of Prosody lacks, and fails if the gate is not one. Otherwise it says what holds.
func writeFindings(w io.Writer, findings []config.Finding, holds string) error {
	open := 0
	for _, f := range findings {
		if f.Level != config.Hint {
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

func configImport() *cobra.Command {
	var trusted []string
	prosody := &cobra.Command{
		Use:   "prosody FILE",
		Short: "Write a usher.yaml from Prosody's configuration",
		Long: `Write a usher.yaml with what Prosody's configuration says, on standard output: with comments that say in which file and
line each value was found, and with its secrets. What is missing stands at its beginning.

Virtual hosts whose people log in with a password are left out unless --trusted names them, for these people are hosts.`,
		Example: `  usher config import prosody /etc/prosody/prosody.cfg.lua > usher.yaml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return importFrom(cmd, config.Import{Prosody: files, Trusted: trusted})
		},
	}
	prosody.Flags().StringSliceVar(&trusted, "trusted", nil, "`domain` of a virtual host whose people, with a password, are hosts")
	env := &cobra.Command{
		Use:     "env FILE",
		Short:   "Write a usher.yaml from the variables of docker-jitsi-meet",
		Long:    envLong(),
		Example: `  usher config import env .env > usher.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return importFrom(cmd, config.Import{Docker: files[0], Environ: os.Environ()})
		},
	}
	return group("import", "Write a usher.yaml from what is there already", prosody, env)
}

// importFrom writes what an import found.
func importFrom(cmd *cobra.Command, i config.Import) error {
	i.Checks = []config.Check{newIssuers(new(keys.Cache)).add}
	yaml, err := i.YAML()
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(yaml)
	return err
}

// envLong is the help of "usher config import env", with the list of all variables.
func envLong() string {
	var b strings.Builder
	b.WriteString(`Write a usher.yaml with what the variables of docker-jitsi-meet say, on standard output: those of a .env file, or with
"environment" for FILE those of the environment. It has comments that say which variable each value is from, and
the secrets. What is missing stands at its beginning.

These variables set a key. MAIN, GUEST, HIDDEN and AUTH are the virtual hosts that XMPP_DOMAIN, XMPP_GUEST_DOMAIN,
XMPP_HIDDEN_DOMAIN and XMPP_AUTH_DOMAIN name; modules are what "usher config modules" says of each:

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
	_ = w.Flush() // to memory
	b.WriteString(`
These do not. Those that are set are named in the log, and so are those that usher does not know and that begin with XMPP_,
JWT_, ENABLE_, GLOBAL_, PROSODY_, JICOFO_ or VISITORS_:

`)
	for _, v := range config.DockerVariables {
		if v.Key == "" {
			fmt.Fprintf(w, "  %s\t%s\n", v.Name, v.Note)
		}
	}
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func configModules() *cobra.Command {
	return &cobra.Command{
		Use:   "modules [NAME...]",
		Short: "Say what becomes of Prosody's modules beside usher",
		Long: `Say of each module of Prosody that usher knows, or of those named, what becomes of it: of those of Jitsi, of
jitsi-contrib/prosody-plugins, of docker-jitsi-meet's templates and of Prosody itself.

  mapped       usher does its work by the keys that are named, at least as strictly, or says what it allows more; "usher config
               import" sets them, and the lines of "usher config prosody" disable the module
  rival        it decides beside usher, which has nothing like it; the lines disable it
  harmless     it stays: nobody gets in or gets more by it, but it may refuse or delay
  usher's own  it comes with usher

A module that is not known may do anything: it is named when it is loaded where usher guards rooms. Nothing is read or
connected to.

Exit status: 0, or 1 if a module that was named is not known.`,
		Example: `  usher config modules
  usher config modules token_affiliation muc_wait_for_host`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			return writeModules(cmd.OutOrStdout(), names)
		},
	}
}

// writeModules says what becomes of modules; of all that are known if none is named.
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
