package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the lines by which a shell completes usher's commands",
		Long: `Print the lines by which bash, zsh or fish completes usher's commands and flags when you press Tab. Debian's package has installed
them already.`,
		Example: `  usher completion bash > /etc/bash_completion.d/usher
  usher completion zsh > "${fpath[1]}/_usher"
  usher completion fish > ~/.config/fish/completions/usher.fish`,
		Args:      arguments(1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || !slices.Contains(shells, args[0]) {
				return misused("name a shell: bash, zsh or fish")
			}
			switch out := cmd.OutOrStdout(); args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(out)
			default:
				return cmd.Root().GenFishCompletion(out, true)
			}
		},
	}
}

// man returns the command that packages are made with.
func man() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a folder, one for each command",
		Hidden: true,
		Args:   arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused("name a folder")
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("making the folder: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			// The date is that of SOURCE_DATE_EPOCH, if the environment has it (reproducible-builds.org).
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "usher", Manual: "usher's commands"}, args[0])
		},
	}
}
