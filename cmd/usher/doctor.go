package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/printable"
)

func examine() *cobra.Command {
	var files []string
	var asJSON bool
	var watch time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the running XMPP server, and say what to mend",
		Long: `Connect to the XMPP server as usher does, and ask it about everything that usher needs. Make a room, try it out and end it. In
front of Jicofo, have Jicofo open another room. Where usher's module for Prosody is loaded, or is to be, say of which version it is, and whether
it tells usher what happens. If the configuration has Prosody's files or the web page's among its sources, doctor
looks at them first. It also asks the shared store, the OpenID providers of the portal, and whether the portal answers at
portal.public_url, which says most while usher runs.

Each check is one line: ok, warn, fail, or skip if it can say nothing, mostly because another check failed. If the server cannot be
reached, one line names everything that was skipped. Below a line that is not ok stands the line of configuration, or the command, that
mends it.

A component has one connection, so stop all ushers of this domain first, the one that stands by as well. If one answers on its socket
(admin.socket), or holds the lease in the shared store, doctor does not connect. If it cannot know of a running usher, Prosody refuses the
second connection ("conflict"), and doctor examines nothing. Where Prosody has component_conflict_resolve = "kick_old", the running usher
loses its connection instead, and comes back after a quarter of a minute. Meanwhile nobody is admitted; clients are told to ask again.

--watch finds what happens only now and then, such as a second usher that connects.

Exit status: 0 if no check failed, 1 if one did.`,
		Example: `  usher doctor -c usher.yaml
  usher doctor -c usher.yaml --watch 2m --json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch < 0 {
				return misused("--watch cannot be negative")
			}
			text := &textReport{w: cmd.OutOrStdout()}
			t := tally{write: text.write}
			if asJSON {
				t.write = func(c doctor.Check) error { return writeCheckJSON(cmd.OutOrStdout(), c) }
			}
			if err := runDoctor(cmd.Context(), files, watch, t.report); err != nil {
				return err
			}
			t.unwritten = errors.Join(t.unwritten, text.end())
			if t.failed && t.unwritten == nil {
				return failure{status: statusFailed} // the lines have said it
			}
			return t.unwritten
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().DurationVar(&watch, "watch", time.Second, "how long to stay connected at the end")
	return cmd
}

// tally writes checks, and remembers whether one failed.
type tally struct {
	write     func(doctor.Check) error
	failed    bool
	unwritten error // why some could not be written
}

func (t *tally) report(c doctor.Check) {
	t.failed = t.failed || c.Status == doctor.Fail
	t.unwritten = errors.Join(t.unwritten, t.write(c))
}

// runDoctor reports what is found in the files among the sources, and then at the running server.
func runDoctor(ctx context.Context, files []string, watch time.Duration, report func(doctor.Check)) error {
	remote := new(keys.Cache)
	c, p, err := load(files, os.Environ(), remote)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx, nil)
	defer stop()
	findings, err := c.CompareProsody(os.Environ())
	if err != nil { // the server can be examined all the same
		report(doctor.Check{Code: "file", Of: "prosody", Status: doctor.Warn, Says: err.Error()})
	}
	for _, f := range append(findings, c.CompareMeet()...) {
		if f.Level != config.Hint { // a hint neither holds nor fails
			report(fileCheck(f))
		}
	}
	examineShared(ctx, c, report)
	examineProviders(ctx, c, report)
	runs := runningUsher(ctx, c, os.Environ())
	examinePortal(ctx, c, runs != "", report)
	if runs != "" {
		report(doctor.Check{Code: "conflict", Status: doctor.Fail, Says: runs + ", so the server was not examined",
			Mend: "stop all ushers of this domain, the one that stands by as well, during the examination"})
		return nil
	}
	o := examination(c, p, remote)
	o.Watch = watch
	if err := doctor.Run(ctx, o, report); err != nil {
		return errors.New("interrupted")
	}
	return nil
}

// fileCheck is the check of a finding in the files among the sources. What the server really does is for the other checks.
func fileCheck(f config.Finding) doctor.Check {
	status := doctor.Warn
	if f.Level == config.Defeats {
		status = doctor.Fail
	}
	return doctor.Check{Code: "file", Of: f.Source, Status: status, Says: f.Text, Mend: f.Mend}
}

func writeCheckJSON(w io.Writer, c doctor.Check) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(c)
}

// textReport writes checks for people, each as soon as it is made.
type textReport struct {
	w io.Writer
	// silent says that the server cannot be asked anything. All skipped checks are then one line at the end: why, and the codes.
	silent bool
	why    string
	codes  []string
}

func (r *textReport) write(c doctor.Check) error {
	if r.silent && c.Status == doctor.Skip {
		r.why = c.Says
		if !slices.Contains(r.codes, c.Code) { // there may be several virtual hosts or services
			r.codes = append(r.codes, c.Code)
		}
		return nil
	}
	r.silent = r.silent || c.Connects() && c.Status == doctor.Fail
	return writeCheck(r.w, c)
}

// end writes the line about skipped checks, if there were any.
func (r *textReport) end() error {
	if len(r.codes) == 0 {
		return nil
	}
	return writeCheck(r.w, doctor.Check{Status: doctor.Skip, Says: r.why + ": " + strings.Join(r.codes, ", ")})
}

// writeCheck writes a check for people. Some words may come from the server or an issuer, so nothing may steer a terminal.
func writeCheck(w io.Writer, c doctor.Check) error {
	line := func(s string) string { return strings.ReplaceAll(printable.Lines(s), "\n", " ") }
	says := line(c.Says)
	if c.Of != "" {
		says = line(c.Of) + ": " + says
	}
	if c.Mend != "" {
		says += fmt.Sprintf("\n%23s-> %s", "", line(c.Mend))
	}
	_, err := fmt.Fprintf(w, "%-4s  %-15s  %s\n", c.Status, c.Code, says)
	return err
}
