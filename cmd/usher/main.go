// Command usher stands at the door of XMPP conference rooms: it lets people in by their tokens.
//
// Each command has its file; wire.go turns a configuration into what the packages below take.
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

// Exit statuses. Zero means that all is well, or allow.
const (
	statusFailed = 1 // or deny
	statusWait   = 2
	statusUsage  = 3 // the question itself was not understood
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit status. A command that stays ends with the context, too.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	understood := false // whether cobra found command, flags and arguments to be in order
	root := group("usher", "Let people into XMPP conference rooms by their tokens",
		configGroup(), demo(), examine(), serve(), tokenGroup(), version())
	root.Long = `usher is an XMPP component (XEP-0114) that stands at the door of conference rooms on a stock server: it
decides by token and virtual host who may enter a room, who opens it, and who waits for the host.

New here? "usher demo" shows all of it on this machine, in a few seconds.`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	cmd, err := root.ExecuteContextC(ctx)
	status := failure{statusFailed, err}
	if !understood {
		status.status = statusUsage
	}
	var problems *config.Problems
	switch errors.As(err, &status); {
	case err == nil:
		return 0
	case status.err == nil: // all was said
	case errors.As(err, &problems):
		fmt.Fprintln(stderr, err)
	case status.status == statusUsage:
		fmt.Fprintf(stderr, "usher: %v\nSee: %s --help\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(stderr, "usher: %v\n", err)
	}
	return status.status
}

// failure is an error with the exit status that it leads to; that of other errors is statusFailed. Without an error in
// it nothing is printed.
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

// misused is the failure of a command line that cannot be what was meant.
func misused(format string, args ...any) error {
	return failure{statusUsage, fmt.Errorf(format, args...)}
}

// arguments refuses more than so many, without repeating them: one may be a token.
func arguments(most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) <= most:
			return nil
		case most == 0:
			return misused("%s takes no argument", cmd.CommandPath())
		default:
			return misused("too many arguments for %s", cmd.CommandPath())
		}
	}
}

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			if len(args[0]) > 20 { // it may be a token in the wrong place, which nobody else is to read
				return misused("no such command")
			}
			hint := ""
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "; did you mean " + like[0] + "?"
			}
			return misused("no such command: %q%s", args[0], hint)
		},
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(commands...)
	return cmd
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM; its cause is component.ErrTakenAway if that is
// SIGINT, with which people end what they do not start again. At the second signal hurry is called, if it is not nil. The next
// one ends the process at once. What comes within 200 ms is no next signal, but the same once more: timeout(1) and others send
// theirs both to the process and to its group.
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
		same := func() (over bool) {
			for late := time.After(200 * time.Millisecond); ; {
				select {
				case <-signals:
				case <-late:
					return false
				case <-stopped:
					return true
				}
			}
		}
		if same() || hurry == nil {
			return
		}
		select {
		case <-signals:
			hurry()
			same()
		case <-stopped:
		}
	}()
	return ctx, sync.OnceFunc(func() { end(nil); close(stopped); <-done })
}
