package main

import (
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
)

func examine() *cobra.Command {
	var files []string
	var asJSON bool
	var watch time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the running XMPP server, and say what to mend in its configuration",
		Long: `Connect to the XMPP server as usher does, ask it about everything that usher needs, make a room, have Jicofo open another where
usher stands before one, try them out and end them again. Where Prosody's files, or the web page's, are among the sources of
the configuration, they are looked at first. Each check is one line: ok, warn, fail, or skip where another check failed so
that this one can say nothing. If the server cannot be asked at all, one line names all that were skipped. Below one that is not
ok stands the line of configuration, or the command, that mends it.

A component has one connection. Stop the running usher first: Prosody refuses a second one ("conflict"), and nothing is
examined. Where Prosody has component_conflict_resolve = "kick_old" it is the running usher that loses its connection, and
comes back after a quarter of a minute. In the meantime nobody is admitted; clients are told to ask again.

What happens only now and then, such as a second usher that connects, is seen with --watch.

Exit status: 0 if no check failed, 1 if one did.`,
		Example: `  usher doctor -c usher.yaml
  usher doctor -c usher.yaml --watch 2m --json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch < 0 {
				return misused("--watch cannot be negative")
			}
			remote := new(keys.Cache)
			c, p, err := load(files, os.Environ(), remote)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context(), nil)
			defer stop()
			o := examination(c, p, remote)
			o.Watch = watch
			text := &textReport{w: cmd.OutOrStdout()}
			write, end := text.write, text.end
			if asJSON {
				write = func(c doctor.Check) error { return writeCheckJSON(cmd.OutOrStdout(), c) }
				end = func() error { return nil }
			}
			failed := 0
			var unwritten error
			report := func(c doctor.Check) {
				if c.Status == doctor.Fail {
					failed++
				}
				unwritten = errors.Join(unwritten, write(c))
			}
			findings, err := c.CompareProsody(os.Environ())
			if err != nil { // what the server really does can be seen all the same
				report(doctor.Check{Code: "file", Of: "prosody", Status: doctor.Warn, Says: err.Error()})
			}
			for _, f := range append(findings, c.CompareMeet()...) {
				if f.Level != config.Hint { // which can neither hold nor fail
					report(fileCheck(f))
				}
			}
			if err := doctor.Run(ctx, o, report); err != nil {
				return errors.New("interrupted")
			}
			unwritten = errors.Join(unwritten, end())
			if failed > 0 && unwritten == nil {
				return failure{status: statusFailed} // the lines have said it
			}
			return unwritten
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	cmd.Flags().DurationVar(&watch, "watch", time.Second, "how long to stay connected at the end")
	return cmd
}

// fileCheck is what is found in Prosody's files, where they are among the sources. What the server really does the other
// checks tell.
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
	// silent tells that the server can be asked nothing. What is skipped then is one line, at the end: why, and the codes.
	silent bool
	why    string
	codes  []string
}

func (r *textReport) write(c doctor.Check) error {
	if r.silent && c.Status == doctor.Skip {
		r.why = c.Says
		if !slices.Contains(r.codes, c.Code) { // of several virtual hosts, or services
			r.codes = append(r.codes, c.Code)
		}
		return nil
	}
	r.silent = r.silent || c.Connects() && c.Status == doctor.Fail
	return writeCheck(r.w, c)
}

// end writes what is left to write.
func (r *textReport) end() error {
	if len(r.codes) == 0 {
		return nil
	}
	return writeCheck(r.w, doctor.Check{Status: doctor.Skip, Says: r.why + ": " + strings.Join(r.codes, ", ")})
}

// writeCheck writes a check for people. Some of its words may be the server's or an issuer's; none may steer a terminal.
func writeCheck(w io.Writer, c doctor.Check) error {
	line := func(s string) string { return strings.ReplaceAll(printable(s), "\n", " ") }
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
