package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/token"
)

func revokeCommand() *cobra.Command {
	var to socketFlags
	var r api.Revocation
	var before string
	var lasts days
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Take tokens back: refuse them from now on, and put out people inside",
		Long: `Take tokens back. From now on usher refuses them, and the sessions of people who logged in by them, and removes people who are inside
by them from their rooms. All ushers that share a store do so.

Say which tokens by --jti, --sub, --user or --issuer; a token is taken back if it has all that you give. In Jitsi's own tokens sub is the
tenant or the domain, not a person.

--before spares tokens that were issued later (iat). The issuer's clock may be wrong, so five minutes are added. A token without iat
is taken back, whatever the time. The answer lists people who are spared that way. A day alone begins at midnight in the time zone of
this machine, which is often UTC; other times need their zone. Without --before, --user and --issuer also refuse tokens made later.

"usher token explain" shows the jti, user and issuer of a link or token.

usher keeps a revocation until it ends (--for) or is lifted (usher revocations --lift). Give --for the lifetime of your tokens.`,
		Example: `  usher revoke --jti 7f3a2c
  usher revoke --user u1 --issuer my_app --for 7d --reason "account closed"
  usher revoke --issuer my_app --before now --room standup`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// An empty value is a variable of a script that was not set, and would take back more than was meant.
			for _, name := range []string{"jti", "sub", "user", "issuer", "before", "room"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
					return misused("--%s is empty: leave it out, or say what it is", name)
				}
			}
			if err := completeRevocation(&r, before, time.Duration(lasts), cmd.Flags().Changed("for"), time.Now()); err != nil {
				return err
			}
			c, err := to.client(os.Environ())
			if err != nil {
				return err
			}
			done, err := c.Revoke(cmd.Context(), r)
			if err != nil {
				return unrevoked(c.explain(err))
			}
			if to.json {
				return writeJSON(cmd.OutOrStdout(), done)
			}
			writeRevoked(cmd.OutOrStdout(), done)
			if done.Warning != "" {
				return fmt.Errorf("%s; repeat the command", done.Warning)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&r.JTI, "jti", "", "`id` of one token")
	f.StringVar(&r.Sub, "sub", "", "`subject` of the tokens")
	f.StringVar(&r.User, "user", "", "`id` of their user (context.user.id)")
	f.StringVar(&r.Issuer, "issuer", "", "`app_id` of their issuer")
	f.StringVar(&before, "before", "", "spare tokens issued after this `time`: now, 2030-01-31, 2030-01-31T09:00:00Z, or -20m")
	f.StringVar(&r.Room, "room", "", "`address` of the only room in which they are taken back, or its name\nif usher guards one MUC service")
	f.Var(&lasts, "for", "how long they are taken back, such as 24h or 7d (default: until lifted)")
	f.StringVar(&r.Reason, "reason", "", "`text` for the list of revocations")
	to.add(cmd)
	return cmd
}

// days is the value of a flag for a duration that may have days.
type days time.Duration

func (d *days) Set(s string) error {
	long, err := duration(s)
	if err != nil {
		return errDuration
	}
	*d = days(long)
	return nil
}

func (d *days) String() string {
	if *d == 0 {
		return "" // shows no default
	}
	return config.PlainDuration(time.Duration(*d))
}

func (*days) Type() string { return "duration" }

// unrevoked adds to the error of a revocation whether anything was taken back.
func unrevoked(err error) error {
	var refused *api.RefusedError
	if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError {
		return fmt.Errorf("%w\nNothing was taken back", err)
	}
	return fmt.Errorf("%w\nNothing was taken back, as far as is known: repeat the command", err)
}

// completeRevocation makes a revocation of what the flags say.
func completeRevocation(r *api.Revocation, before string, lasts time.Duration, ends bool, now time.Time) (err error) {
	if r.JTI == "" && r.Sub == "" && r.User == "" && r.Issuer == "" {
		return misused("say which tokens: --jti, --sub, --user or --issuer")
	}
	for _, text := range []string{r.JTI, r.Sub, r.User, r.Issuer, r.Room, r.Reason} {
		if api.LooksLikeToken(text) {
			return misused("that looks like a token, or a link with one: give its jti instead, which usher token explain shows")
		}
	}
	switch {
	case ends && lasts <= 0:
		return misused("--for %s: write how long, such as 24h or 7d", lasts)
	case ends:
		r.Until = now.Add(lasts)
	}
	if before != "" {
		if r.Before, err = pastMoment(before, now); err != nil {
			return misused("--before %s: %w", token.ForLog(before), err)
		}
	}
	return nil
}

// pastMoment reads a time as moment does, also "now" and the beginning of a day, by this machine's zone.
func pastMoment(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return day, nil
	}
	t, err := moment(s, now)
	if d, notDuration := duration(s); notDuration == nil && d > 0 {
		return t, fmt.Errorf("that lies in the future; for %s ago write -%s", s, strings.TrimPrefix(s, "+"))
	}
	if err != nil && !errors.Is(err, errNoZone) {
		return t, errors.New("write now, a day such as 2030-01-31, a time such as 2030-01-31T09:00:00Z, or -20m for twenty minutes ago")
	}
	return t, err
}

// writeRevoked says what was done.
func writeRevoked(w io.Writer, done api.Revoked) {
	r := done.Revocation
	where, until := "in all rooms", "until it is lifted"
	if r.Room != "" {
		where = "in " + printable.Lines(r.Room)
	}
	if !r.Until.IsZero() {
		until = "until " + at(r.Until)
	}
	fmt.Fprintf(w, "Taken back %s, %s: tokens with %s\n", where, until, printable.Lines(claimsOf(r)))
	if !r.Before.IsZero() {
		fmt.Fprintf(w, "issued until %s: five minutes are added for clocks, and tokens without iat are taken back, too\n", at(done.Refuses))
	}
	fmt.Fprintf(w, "To lift it: usher revocations --lift %s\n\n", printable.Lines(r.ID))
	for _, note := range done.Notes {
		fmt.Fprintf(w, "warning: %s\n", printable.Lines(note))
	}
	if len(done.Notes) > 0 {
		fmt.Fprintln(w)
	}
	if len(done.Out) == 0 {
		fmt.Fprintln(w, "Nobody is let in by such a token here.")
	} else {
		fmt.Fprintln(w, "Put out:")
		grantTable(w, done.Out)
	}
	if len(done.Spared) > 0 {
		fmt.Fprintln(w, "\nSpared, because their tokens were issued later:")
		grantTable(w, done.Spared)
	}
}
