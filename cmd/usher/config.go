package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func configGroup() *cobra.Command {
	return group("config", "Look at the configuration", configCheck())
}

func configCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a configuration, or in words what it means",
		Long: `Say everything that is wrong with a configuration, one problem a line, and exit with status 1; or say in words who
may create rooms, who may enter and who waits, and exit with status 0. Nothing is connected to.`,
		Example: `  usher config check -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := load(file, os.Environ())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "usher is %s and connects to %s.\n", c.XMPP.Domain, c.XMPP.Server)
			for _, sentence := range p.Words() {
				fmt.Fprintln(out, sentence)
			}
			for _, w := range c.Warnings {
				fmt.Fprintln(out, "warning:", w)
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}
