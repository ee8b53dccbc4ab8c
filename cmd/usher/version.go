package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  usher version`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionText())
			return err
		},
	}
}

// versionText is the version for people.
func versionText() string {
	return fmt.Sprintf("usher %s (%s%s %s/%s)", release(), commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit returns the commit of the program and a comma, or "" where Go's tools did not know it.
func commit() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			return "commit " + s.Value[:min(12, len(s.Value))] + ", "
		}
	}
	return ""
}

// release returns the version that Go's tools put into the program, from the tag or the commit.
func release() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}
