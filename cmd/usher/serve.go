package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component"
)

func serve() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Connect to the XMPP server and answer those who ask to enter",
		Long: `Connect to the XMPP server and answer those who ask to enter, until SIGINT or SIGTERM. What is under way is
then finished. To restart usher, send SIGTERM, as systemd and Docker do: requests that wait for an answer are left in the
store, and the next usher answers them as soon as it is connected. To take usher away, send SIGINT (Ctrl-C): usher
answers them first, as it does when the store does not outlive it. With a second signal usher waits for nothing any more, and leaves
in the store what has no answer; a third ends it at once.

A connection that fails is made again, for ever. The log is on standard error and begins with the policy in words.

When a file of the configuration changes, or on SIGHUP, the configuration is read again: secrets, keys, issuers, virtual
hosts, rules, MUC services and the log's level then change as one, without a break. If it has problems they are logged and
all stays as it was. Other keys change by a restart only, and the log says so.`,
		Example: `  usher serve -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			watcher, err := fsnotify.NewWatcher()
			if err != nil {
				return fmt.Errorf("watching the configuration files: %w", err)
			}
			defer watcher.Close()
			r := &reloader{files: files, remote: new(keys.Cache), watcher: watcher}
			c, p, err := r.load()
			if err != nil {
				return err
			}
			log, level, err := logger(c.Log, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			log.Info("usher " + release())
			announce(log, c, p)
			store, err := kept(c, os.Environ(), log)
			if err != nil {
				return err
			}
			defer store.Close()
			log.Info(stored(c, os.Environ()))
			usher, err := component.New(options(c, p, store, log))
			if err != nil {
				return err
			}
			// What is alive fits into a few megabytes, which would have the collector run at every few hundred
			// requests. GOGC in the environment counts instead.
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(400)
			}
			ctx, stop := untilSignal(cmd.Context(), usher.Hurry)
			defer stop()
			g, ctx := errgroup.WithContext(ctx)
			r.current, r.usher, r.store, r.level, r.log = c, usher, store, level, log
			g.Go(func() error { return r.run(ctx) })
			g.Go(func() error { return usher.Run(ctx) })
			return g.Wait()
		},
	}
	configFlag(cmd, &files)
	return cmd
}
