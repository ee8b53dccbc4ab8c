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
	return fmt.Sprintf("usher %s (%s %s/%s)", release(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// release returns the version that Go's tools put into the program, from the tag or the commit.
func release() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}
