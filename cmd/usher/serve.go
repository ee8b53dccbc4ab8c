package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/component"
)

func serve() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Connect to the XMPP server and answer those who ask to enter",
		Long: `Connect to the XMPP server and answer those who ask to enter, until SIGINT or SIGTERM. What is under way is
then finished; a second signal ends usher at once.

A connection that fails is made again, for ever. The log is on standard error and begins with the policy in words.`,
		Example: `  usher serve -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := load(files, os.Environ())
			if err != nil {
				return err
			}
			log, err := logger(c.Log, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			for _, n := range c.Notes {
				log.Info(n.String())
			}
			for _, w := range c.Warnings {
				log.Warn(w.String())
			}
			log.Info("usher " + release())
			for _, sentence := range p.Words() {
				log.Info(sentence)
			}
			usher, err := component.New(options(c, p, log))
			if err != nil {
				return err
			}
			// What is alive fits into a few megabytes, which would have the collector run at every few hundred
			// requests. GOGC in the environment counts instead.
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(400)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return usher.Run(ctx)
		},
	}
	configFlag(cmd, &files)
	return cmd
}
