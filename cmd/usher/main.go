// Command usher decides who may enter XMPP conference rooms, by their tokens.
//
// Each command has its own file. wire.go turns the configuration into the options of the packages below.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/config"
)

// The exit statuses of commands. Zero means success, or allow.
const (
	statusFailed = 1 // or deny
	statusWait   = 2
	statusUsage  = 3 // the command line, or the question, cannot be understood
	// statusMisconfigured is that of a serve that cannot use its configuration: EX_CONFIG of sysexits.h.
	statusMisconfigured = 78
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit status. A command that keeps running ends with the context.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	understood := false // cobra accepted command, flags and arguments
	root := commands()
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	cmd, err := oneDash(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	status := failure{statusFailed, err}
	if !understood {
		status.status = statusUsage
	}
	var problems *config.Problems
	switch errors.As(err, &status); {
	case err == nil:
		return 0
	case status.err == nil: // the command has said everything
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, err)
	case status.status == statusUsage:
		fmt.Fprintf(stderr, "usher: %v\nSee: %s --help\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(stderr, "usher: %v\n", err)
	}
	return status.status
}

// commands returns usher's command line.
func commands() *cobra.Command {
	root := group("usher", "Let people into XMPP conference rooms by their tokens",
		adoptCommand(), apiGroup(), completion(), configGroup(), demo(), examine(), grantsCommand(), health(), keyGroup(), man(),
		revocationsCommand(), revokeCommand(), roomsCommand(), rulesGroup(), serve(), tokenGroup(), userGroup(), version())
	root.Long = `usher is an XMPP component (XEP-0114) beside a stock server. It decides by token and virtual host who may enter a
conference room, who opens it, and who waits for the host.

New here? "usher demo" shows everything on this machine, in a few seconds.`
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(unknownFlag)
	root.SetHelpCommand(help())
	return root
}

// failure is an error with an exit status. Other errors have statusFailed. If err is nil, run prints nothing.
type failure struct {
	status int
	err    error
}

func (f failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f failure) Unwrap() error { return f.err }

// misused returns the failure of a command line that makes no sense.
func misused(format string, args ...any) error {
	return failure{statusUsage, fmt.Errorf(format, args...)}
}

// arguments refuses more than most arguments. It does not repeat them, because one may be a token.
func arguments(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) <= most:
			return nil
		case most == 0:
			return misused("%s takes no argument", cmd.CommandPath())
		default:
			return misused("too many arguments for %s%s", cmd.CommandPath(), subcommandHint(cmd, args[0]))
		}
	}
}

// group returns a command that only has subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// again is how long a second signal counts as the first one repeated: timeout(1) and others signal both the process and its
// group.
const again = 200 * time.Millisecond

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. Its cause is component.ErrTakenAway after SIGINT,
// which people send to a process that they do not start again. The second signal calls hurry, unless it is nil. The third one
// ends the process at once. The caller must call stop.
func untilSignal(ctx context.Context, hurry func()) (_ context.Context, stop func()) {
	ctx, end := context.WithCancelCause(ctx)
	signals, stopped, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(done)
		defer signal.Stop(signals)
		select {
		case s := <-signals:
			if s == os.Interrupt {
				end(component.ErrTakenAway)
			}
			end(nil)
		case <-ctx.Done():
		}
		if !ignored(signals, stopped) || hurry == nil {
			return
		}
		select {
		case <-signals:
			hurry()
			ignored(signals, stopped)
		case <-stopped:
		}
	}()
	return ctx, sync.OnceFunc(func() { end(nil); close(stopped); <-done })
}

// ignored drops the signals that arrive within the time of again. It reports whether that time passed, and not stopped first.
func ignored(signals <-chan os.Signal, stopped <-chan struct{}) bool {
	for late := time.After(again); ; {
		select {
		case <-signals:
		case <-late:
			return true
		case <-stopped:
			return false
		}
	}
}
