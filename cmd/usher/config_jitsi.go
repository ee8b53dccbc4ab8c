package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
)

func configJitsi() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "jitsi",
		Short: "Print the lines that jitsi-meet needs of the portal",
		Long: `Print what the web page's config.js must say, so that people log in at the portal: tokenAuthUrl, where "I am the host" leads,
tokenLogoutUrl, and tokenAuthUrlAutoRedirect, by which somebody who is logged in needs no click. The lines belong at the end of the file.
A comment has the variable of docker-jitsi-meet. If a config.js is among the sources (sources.meet), usher warns of what it says otherwise.`,
		Example: `  usher config jitsi -c usher.yaml
  usher config jitsi -c usher.yaml >> /etc/jitsi/meet/meet.example.com-config.js`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(files, os.Environ(), new(keys.Cache))
			if err != nil {
				return err
			}
			lines, err := c.JitsiLines()
			if err != nil {
				return err
			}
			for _, f := range c.CompareMeet() {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n%9s-> %s\n", f.Source, f.Text, "", f.Mend)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), lines)
			return err
		},
	}
	configFlag(cmd, &files)
	return cmd
}
