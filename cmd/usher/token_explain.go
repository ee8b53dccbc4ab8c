package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/token"
)

func tokenExplain() *cobra.Command {
	var e explainCommand
	cmd := &cobra.Command{
		Use:   "explain [TOKEN | -]",
		Short: "Say step by step why somebody is let in, or is not",
		Long: `Say for one request what every rule expects and finds, and what usher decides. The same code decides real requests. This
command connects to no XMPP server: --host-present says whether a host is inside.

Give the token as an argument, or with - on standard input, where others on the machine cannot read it. You may paste a link with ?jwt=,
or a header with "Bearer" before the token. Without a token, usher explains what happens to a person who has none.

A line begins with "ok" for a rule that is met, with "NO" for the rule that refuses, and with "!" for a note.

Exit status: 0 allow, 1 deny, 2 wait, 3 if the question cannot be answered, as with an invalid configuration.`,
		Example: `  usher token explain -c usher.yaml --room standup TOKEN
  usher token explain -c usher.yaml --room standup@conference.meet.example.com --from guest.meet.example.com --host-present`,
		Args: arguments(1),
		RunE: e.run,
	}
	configFlag(cmd, &e.files)
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&e.room, "room", "", "`address` of the room, or its name if usher guards one MUC service")
	f.StringVar(&e.from, "from", "", "`JID` that asks, or a virtual host (default somebody on the first with tokens)")
	f.BoolVar(&e.host, "host-present", false, "a host is inside the room")
	f.StringVar(&e.at, "at", "", "`time` of the request, such as 2030-01-31T09:00:00Z, or -20m from now (default now)")
	f.BoolVar(&e.asJSON, "json", false, "answer in JSON")
	return cmd
}

// explainCommand has the flags of "usher token explain".
type explainCommand struct {
	files          []string
	room, from, at string
	host, asJSON   bool
}

// run runs the command. Its exit status is the verdict.
func (e *explainCommand) run(cmd *cobra.Command, args []string) error {
	c, p, err := load(e.files, os.Environ(), new(keys.Cache))
	if err != nil {
		return failure{statusUsage, err}
	}
	req, err := e.request(c, cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	decision, steps := auth.New(p).Explain(cmd.Context(), req, hostInside(e.host))
	if err := writeExplanation(cmd.OutOrStdout(), newExplanation(req, decision, steps), e.asJSON); err != nil {
		return err
	}
	switch decision.Verdict {
	case auth.Allow:
		return nil
	case auth.Wait:
		return failure{status: statusWait}
	default:
		return failure{status: statusFailed}
	}
}

// hostInside is the look at a room that is not asked.
func hostInside(host bool) auth.Look {
	return func(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
		return auth.RoomState{Exists: host, HostPresent: host}, nil
	}
}

// request returns the request that the flags and the argument describe.
func (e *explainCommand) request(c *config.Config, stdin io.Reader, args []string) (auth.Request, error) {
	req := auth.Request{At: time.Now(), MachineUID: explainMachine}
	var err error
	if e.at != "" {
		if req.At, err = moment(e.at, req.At); err != nil {
			return req, misused("--at %s: %w", e.at, err)
		}
	}
	if req.Room, err = roomAddress(c, e.room); err != nil {
		return req, err
	}
	if req.From, err = sender(c, e.from); err != nil {
		return req, misused("--from %s: %w", e.from, err)
	}
	req.Token, err = tokenArgument(stdin, args)
	return req, err
}

// explainMachine is what the client calls its machine, as Jitsi's clients do. The name decides nothing here: an explanation has no
// sessions, and uses no token up.
const explainMachine = "explain"

// roomAddress returns the address of a room. It adds the MUC service to a name, if there is only one.
func roomAddress(c *config.Config, room string) (string, error) {
	switch {
	case room == "":
		return "", misused("missing: --room, the room that somebody wants to enter")
	case strings.Contains(room, "@"):
		return room, nil
	case len(c.Rooms.Services) > 1:
		return "", misused("--room %s is ambiguous, because usher guards several MUC services; write %[1]s@%s", room, c.Rooms.Services[0])
	}
	return room + "@" + c.Rooms.Services[0].String(), nil
}

// sender returns the JID that asks: by default one on the first virtual host of kind token.
func sender(c *config.Config, from string) (jid.JID, error) {
	if from == "" {
		first := slices.IndexFunc(c.VHosts, func(v config.VHost) bool { return v.Kind == config.KindToken })
		from = c.VHosts[max(first, 0)].Domain.String()
	}
	if !strings.Contains(from, "@") {
		from = "somebody@" + from + "/explain"
	}
	j, err := jid.Parse(from)
	if err != nil {
		return j, fmt.Errorf("%w; write a JID such as somebody@%s", err, c.VHosts[0].Domain)
	}
	return j, nil
}

func tokenArgument(stdin io.Reader, args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	text := args[0]
	if text == "-" {
		content, err := io.ReadAll(io.LimitReader(stdin, maxPasted+1))
		switch {
		case err != nil:
			return "", fmt.Errorf("reading the token: %w", err)
		case len(content) > maxPasted:
			return "", misused("standard input is longer than %d bytes: a token has at most %d", maxPasted, token.MaxSize)
		}
		text = string(content)
	}
	return pasted(text)
}

// maxPasted is the limit of standard input in bytes. It is far above that of tokens, so that a token that is too long is refused
// with its true size.
const maxPasted = 1 << 20

// pasted returns the token in a pasted text: the token alone, a link of jitsi-meet, or an HTTP header, with white space around it.
// Errors contain no part of the text.
func pasted(text string) (string, error) {
	trim := func(s string) string {
		return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) })
	}
	if text = trim(text); text == "" {
		return "", misused("the token is empty; to ask for a person who has none, leave the argument out")
	}
	for _, prefix := range []string{"Authorization:", "Bearer "} {
		if len(text) > len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			text = trim(text[len(prefix):])
		}
	}
	if !strings.ContainsAny(text, "?#=/") {
		return text, nil
	}
	// jitsi-meet looks for jwt behind the # first (react/features/base/jwt/functions.ts, parseJWTFromURLParams).
	link, fragment, _ := strings.Cut(text, "#")
	_, query, _ := strings.Cut(link, "?")
	for _, parameters := range []string{fragment, query, link} {
		values, _ := url.ParseQuery(parameters)                           // the part that can be read
		if jwt := strings.Trim(trim(values.Get("jwt")), `"`); jwt != "" { // behind the # it is JSON
			return jwt, nil
		}
	}
	if strings.Contains(text, "://") {
		return "", misused("the link has no jwt=: people who follow it have no token")
	}
	return text, nil
}

// newExplanation returns the answer to a request.
func newExplanation(req auth.Request, d auth.Decision, steps []auth.Step) api.Explanation {
	e := api.Explanation{
		At: req.At.UTC().Truncate(time.Second), From: req.From.String(), Room: req.Room, Steps: steps,
		Verdict: d.Verdict.String(), Reason: d.Reason, Doc: d.Reason.Doc(), Affiliation: string(d.Affiliation),
		Issuer: d.Proof.Issuer, User: d.Proof.User, JTI: d.Proof.ID,
	}
	if d.Err != nil {
		e.Detail = d.Err.Error()
	}
	if d.Verdict != auth.Allow {
		e.Told = d.Told()
		return e
	}
	e.Expires, e.RemoveAt, e.RoomEnds = known(d.Expires), known(d.RemoveAt), known(d.Ends)
	if d.Proof.Token != "" {
		e.NotAsked = notAsked(steps)
	}
	return e
}

// notAsked says what is not known without the running usher about somebody who comes with a token.
func notAsked(steps []auth.Step) string {
	what := "whether the token is revoked, seats, kicks"
	if slices.ContainsFunc(steps, func(s auth.Step) bool { return s.Rule == "one time" }) {
		what = "whether the token is revoked or used, whether the client names its machine, seats, kicks"
	}
	return what + ". Only the running usher knows"
}

// taken names the token for "usher revoke"; empty if that is not possible.
func taken(e api.Explanation) string {
	var flags []string
	for _, f := range [][2]string{{"jti", e.JTI}, {"user", e.User}, {"issuer", e.Issuer}} {
		if f[1] != "" {
			flags = append(flags, f[0]+"="+f[1])
		}
	}
	return strings.Join(flags, " ")
}

// known returns a time in UTC, nil if it is zero. Tokens may end in the last second that JSON can have, and leeway is added to that.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	if t = t.UTC(); t.Year() > 9999 {
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return &t
}

// writeExplanation writes an explanation for people, or for programs.
func writeExplanation(w io.Writer, e api.Explanation, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s asks for %s at %s.\n\n", e.From, e.Room, e.At.Format(time.RFC3339))
	for _, s := range e.Steps {
		mark := "ok"
		switch {
		case !s.OK:
			mark = "NO"
		case s.Note:
			mark = "!"
		}
		fmt.Fprintf(&b, "%-2s  %-18s  expected  %s\n", mark, s.Rule, s.Expected)
		if s.Found != "" {
			fmt.Fprintf(&b, "%24sfound     %s\n", "", s.Found)
		}
	}
	fmt.Fprintf(&b, "\n%s: %s\n%s\n", e.Verdict, e.Reason, e.Doc)
	if e.Detail != "" {
		fmt.Fprintf(&b, "Detail: %s\n", e.Detail)
	}
	if e.Affiliation != "" {
		fmt.Fprintf(&b, "Affiliation in the room: %s\n", e.Affiliation)
	}
	for _, end := range []struct {
		what string
		at   *time.Time
	}{{"Until", e.Expires}, {"Put out of the room", e.RemoveAt}, {"The room ends", e.RoomEnds}} {
		if end.at != nil {
			fmt.Fprintf(&b, "%s: %s\n", end.what, end.at.Format(time.RFC3339))
		}
	}
	if e.Told != "" {
		fmt.Fprintf(&b, "The person reads: %s\n", e.Told)
	}
	if e.NotAsked != "" {
		fmt.Fprintf(&b, "Not asked: %s.\n", e.NotAsked)
	}
	if taken := taken(e); taken != "" {
		fmt.Fprintf(&b, "The token, for usher revoke: %s\n", taken)
	}
	_, err := io.WriteString(w, printable.Lines(b.String()))
	return err
}
