package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/collect"
)

func serve() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Connect to the XMPP server, and answer people who ask to enter",
		Long: `Connect to the XMPP server, and answer people who ask to enter, until SIGINT or SIGTERM. Requests under way are
finished first. A lost connection is made again, for ever. The log goes to standard error, and begins with the rules in words.

To restart usher, send SIGTERM, as systemd and Docker do: requests that wait for an answer stay in the store, and the next usher
answers them as soon as it is connected. To take usher away, send SIGINT (Ctrl-C): usher answers them first. With store.path: memory
it always does. After a second signal usher waits for nothing, and leaves unanswered requests in the store. A third signal ends it
at once.

When a file of the configuration changes, or on SIGHUP, usher reads the configuration again. Secrets, keys, issuers, virtual hosts,
rules, MUC services, webhooks, keys of the API, the portal's accounts and providers, and the log level then change together, without a
break. If the configuration has problems, usher logs them and changes nothing, but for keys of the API and accounts of the portal: these
change if their own files have no problem. Other keys need a restart; the log names them.

A second usher for the same xmpp.domain stands by, and takes over when the first one ends or is killed. On several machines that takes
a store.url that they share; two on one machine can share the file of store.path.

Under systemd (Type=notify) usher says when it is ready, reads its configuration again, and stops, and it gives signs of life to the
watchdog. If the configuration has problems at the start, the exit status is 78.`,
		Example: `  usher serve -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServe(cmd.Context(), files, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &files)
	return cmd
}

// runServe runs usher until a signal comes or the context ends.
func runServe(ctx context.Context, files []string, stderr io.Writer) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the configuration files: %w", err)
	}
	defer watcher.Close()
	r := &reloader{files: files, remote: new(keys.Cache), watcher: watcher}
	c, p, err := r.load()
	if err != nil {
		return misconfigured(err)
	}
	log, level, err := logger(c.Log, stderr)
	if err != nil {
		return err
	}
	log.Info("usher " + release())
	announce(log, c, p)
	u, err := newServing(c, p, os.Environ(), r.remote, log)
	if err != nil {
		return err
	}
	defer u.close()
	r.started = c
	r.current, r.policy, r.use, r.level, r.log, r.tell = c, p, u.use, level, log, u.listeners.metrics.Reloaded
	collect.Pace()
	ctx, stop := untilSignal(ctx, u.hurry)
	defer stop()
	defer u.supervise(ctx)()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.run(ctx) })
	g.Go(func() error { return u.serveAll(ctx) })
	return g.Wait()
}
