package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xmpp-usher/usher/config"
)

// What somebody reads who has misspelled a command or a flag: the nearest one. No text repeats a word that is long enough for a token or
// a secret in the wrong place.

// longestWord is how many characters a word of the command line has at most to be repeated.
const longestWord = 20

// unknownCommand returns the failure of a word that is no subcommand of cmd.
func unknownCommand(cmd *cobra.Command, word string) error {
	if len(word) > longestWord {
		return misused("no such command")
	}
	hint := ""
	if meant := nearestCommand(cmd, word); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	return misused("no such command: %q%s", word, hint)
}

// subcommandHint asks whether a word after a command that takes arguments was meant to be one of its subcommands.
func subcommandHint(cmd *cobra.Command, word string) string {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if meant := config.Closest(strings.ToLower(word), names); meant != "" && len(word) <= longestWord {
		return "; did you mean " + meant + "?"
	}
	return ""
}

// nearestCommand returns which command was meant by a word after cmd: one of its subcommands by its name, or another one in full.
func nearestCommand(cmd *cobra.Command, word string) string {
	var here, paths []string
	elsewhere := map[string]string{} // by name: the whole command
	for _, c := range cmd.Commands() {
		here = append(here, c.Name())
	}
	var walk func(*cobra.Command)
	walk = func(above *cobra.Command) {
		for _, c := range above.Commands() {
			if _, known := elsewhere[c.Name()]; !known && c.IsAvailableCommand() {
				elsewhere[c.Name()] = c.CommandPath()
				paths = append(paths, c.Name())
			}
			walk(c)
		}
	}
	walk(cmd.Root())
	if meant := config.Closest(strings.ToLower(word), here); meant != "" {
		return meant
	}
	return elsewhere[config.Closest(strings.ToLower(word), paths)]
}

// unknownFlag adds to the error of a flag that cmd does not have which one was probably meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	name, dashes := unknown.GetSpecifiedName(), "--"
	if group, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "="); group != "" {
		dashes = "-"
		if len(group) > 1 && nearestFlag(cmd, group) != "" { // perhaps it was meant to have two dashes
			name = group
		}
	}
	if len(name) > longestWord {
		return misused("no such flag")
	}
	hint := ""
	if meant := nearestFlag(cmd, name); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	return misused("no such flag: %s%s%s", dashes, name, hint)
}

// nearestFlag returns which flag of a command was meant, with its dashes, or "".
func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	short := ""
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		names = append(names, f.Name)
		if f.Shorthand != "" && strings.EqualFold(f.Shorthand, name) {
			short = "-" + f.Shorthand
		}
	})
	if short != "" { // -C for -c, --c for -c
		return short
	}
	if len(name) == 1 {
		return ""
	}
	if meant := config.Closest(strings.ToLower(strings.ReplaceAll(name, "_", "-")), names); meant != "" {
		return "--" + meant
	}
	return ""
}

// oneDash returns the failure of a flag with one dash that was meant with two, as -config, which would name the file "onfig", and the
// command.
func oneDash(root *cobra.Command, args []string) (*cobra.Command, error) {
	cmd, _, err := root.Find(args)
	if err != nil {
		return cmd, nil // running it fails
	}
	cmd.InitDefaultHelpFlag()
	for _, arg := range args {
		if arg == "--" {
			break
		}
		word, one := strings.CutPrefix(arg, "-")
		if word, _, _ = strings.Cut(word, "="); one && len(word) > 1 && cmd.Flags().Lookup(word) != nil {
			return cmd, misused("no such flag: -%s; did you mean --%[1]s?", word)
		}
	}
	return cmd, nil
}

// help is cobra's command, but for its answer to a command that does not exist.
func help() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(about, append(rest, "")[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
