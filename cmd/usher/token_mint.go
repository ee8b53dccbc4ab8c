package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/smallfile"
	"github.com/xmpp-usher/usher/pkg/token"
)

// mintSecret is the environment variable with the secret to sign with. There is no flag for it, because everybody on the machine
// can read command lines.
const mintSecret = "USHER_MINT_SECRET"

func tokenGroup() *cobra.Command {
	return group("token", "Make tokens, and explain why one is let in or refused", tokenMint(), tokenExplain())
}

func tokenMint() *cobra.Command {
	var m mintCommand
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Make a token",
		Long: `Make a token, and write it to standard output. Nothing else is written there.

usher signs it with a shared secret, from --secret-file or the environment variable ` + mintSecret + `, or with the private key in
--key-file. No flag takes a secret, because others on the machine can read command lines. Without --affiliation, default_affiliation
counts: the issuer's, or the virtual host's if the issuer has none.`,
		Example: `  usher token mint --app-id my_app --secret-file app.secret --room standup --sub meet.example.com --affiliation owner
  usher token mint --app-id portal --key-file portal.key --room '*' --sub '*' --name Juliet --ttl 8h`,
		Args: arguments(0),
		RunE: m.run,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&m.claims.Issuer, "app-id", "", "`name` of the issuer, as in the configuration: the claim iss")
	f.StringVar(&m.secretFile, "secret-file", "", "`file` with the secret shared with usher")
	f.StringVar(&m.keyFile, "key-file", "", "PEM `file` with the private key")
	f.StringVar(&m.claims.Room, "room", "", "`name` of the room, without its domain; * for every room")
	f.StringVar(&m.claims.Subject, "sub", "", "`domain` or tenant that the token is for; * for any")
	f.StringSliceVar(&m.claims.Audience, "aud", []string{"jitsi"}, "`audience`; several with commas")
	f.StringVar(&m.claims.User.Affiliation, "affiliation", "", "`what` the person becomes: owner, admin or member")
	f.StringVar(&m.claims.User.Name, "name", "", "the person's `name`")
	f.StringVar(&m.claims.User.Email, "email", "", "the person's e-mail `address`")
	f.StringVar(&m.claims.User.ID, "id", "", "the person's `id` with the issuer")
	f.DurationVar(&m.ttl, "ttl", time.Hour, "how long the token is valid, from now or from --not-before")
	f.StringVar(&m.begin, "not-before", "", "`time` from which it is valid, such as 2030-01-31T09:00:00Z, or 20m from now")
	f.BoolVar(&m.claims.OneTime, "one-time", false, "the token lets in one machine only")
	f.IntVar(&m.claims.MaxOccupants, "max-occupants", 0, "how many `people` the room takes at most")
	f.StringVar(&m.ends, "room-ends", "", "`time` at which the room ends, such as 2030-01-31T10:00:00Z, or 90m from now")
	f.StringVar(&m.algorithm, "algorithm", "", "signature `algorithm` (default HS256, RS256, ES256 or EdDSA, by the key)")
	f.StringVar(&m.kid, "kid", "", "`id` of the key, for the token's header")
	return cmd
}

// mintCommand has the flags of "usher token mint".
type mintCommand struct {
	claims              token.Claims
	secretFile, keyFile string
	algorithm, kid      string
	begin, ends         string
	ttl                 time.Duration
}

// run runs the command.
func (m *mintCommand) run(cmd *cobra.Command, _ []string) error {
	if err := m.complete(cmd, time.Now()); err != nil {
		return err
	}
	key, fitting, err := signingKey(m.secretFile, m.keyFile)
	if err != nil {
		return err
	}
	o := token.MintOptions{Key: key, Algorithm: fitting[0], KeyID: m.kid}
	if m.algorithm != "" {
		o.Algorithm = jwa.SignatureAlgorithm(m.algorithm)
		if !slices.Contains(fitting, o.Algorithm) {
			return misused("--algorithm %s does not fit the key, which signs with %s", m.algorithm, names(fitting))
		}
	}
	compact, err := token.Mint(m.claims, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), compact)
	return err
}

// complete adds an id and the times of the flags to the claims. It refuses a token that no usher would accept.
func (m *mintCommand) complete(cmd *cobra.Command, now time.Time) error {
	c := &m.claims
	var missing []string
	for _, name := range []string{"app-id", "room", "sub"} {
		if !cmd.Flags().Changed(name) {
			missing = append(missing, fmt.Sprintf("--%s (%s)", name, cmd.Flag(name).Usage))
		}
	}
	switch {
	case len(missing) > 0:
		return misused("missing: %s", strings.NewReplacer("`", "").Replace(strings.Join(missing, ", ")))
	case c.Issuer == "":
		return misused("--app-id is empty: usher accepts no token without an issuer")
	case strings.Contains(c.Room, "@"):
		return misused("--room %s: write the name of the room alone, %s", c.Room, c.Room[:strings.Index(c.Room, "@")])
	case m.ttl < time.Second:
		return misused("--ttl %s is too short: write for how long the token is valid, such as 1h", m.ttl)
	case !slices.Contains([]string{"", "owner", "admin", "member", "moderator", "teacher"}, c.User.Affiliation):
		return misused("--affiliation %s: it must be owner, admin or member", c.User.Affiliation)
	case cmd.Flags().Changed("max-occupants") && (c.MaxOccupants < 1 || c.MaxOccupants > math.MaxInt32):
		return misused("--max-occupants %d: write a number of at least 1", c.MaxOccupants)
	}
	var err error
	if m.begin != "" {
		if c.NotBefore, err = moment(m.begin, now); err != nil {
			return misused("--not-before %s: %w", m.begin, err)
		}
	}
	dated(c, now, m.ttl)
	if m.ends != "" {
		if c.RoomEnds, err = moment(m.ends, now); err != nil {
			return misused("--room-ends %s: %w", m.ends, err)
		}
		if !c.RoomEnds.After(now) {
			return misused("--room-ends %s: %w", m.ends, errOver)
		}
	}
	return nil
}

var errOver = errors.New("that is over, so usher would not let anybody in")

// dated gives the claims of a new token an id, and the times at which it was made and ends. It is valid for ttl from now on, or from
// NotBefore if that is later.
func dated(c *token.Claims, now time.Time, ttl time.Duration) {
	c.ID, c.IssuedAt, c.Expires = rand.Text(), now, now.Add(ttl)
	if c.NotBefore.After(now) {
		c.Expires = c.NotBefore.Add(ttl)
	}
}

// moment reads a time, or a duration from now.
func moment(s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04Z07:00", s)
	}
	if d, notDuration := duration(s); notDuration == nil {
		t, err = now.Add(d), nil
	}
	switch year := t.UTC().Year(); {
	case err != nil && withoutZone(s):
		return time.Time{}, errNoZone
	case err != nil:
		return time.Time{}, errors.New("write a time such as 2030-01-31T09:00:00Z, or a duration from now such as 20m")
	case year < 1970 || year > 9999:
		return time.Time{}, errors.New("the times of tokens lie between 1970 and 9999")
	}
	return t, nil
}

// errNoZone is the error of moment for a time on the clock of an unknown place.
var errNoZone = errors.New("the day or the time zone is missing: write 2030-01-31T09:00:00Z for UTC, or 2030-01-31T09:00:00+01:00")

// withoutZone reports whether a text is a time without a day or a zone.
func withoutZone(s string) bool {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04", time.TimeOnly, "15:04"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

// duration reads a duration as time.ParseDuration does, which may begin with whole days of 24 hours: 7d, -1d12h.
func duration(s string) (time.Duration, error) {
	sign, rest := "", s
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		sign, rest = s[:1], s[1:]
	}
	days, rest, has := strings.Cut(rest, "d")
	if !has {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16) // some 180 years, which a time.Duration can hold
	if err != nil {
		return 0, errDuration
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil || d < 0 || d >= 24*time.Hour {
			return 0, errDuration
		}
	}
	if d += time.Duration(n) * 24 * time.Hour; sign == "-" {
		d = -d
	}
	return d, nil
}

var errDuration = errors.New("write how long, such as 24h or 7d")

// signingKey returns the key that the flags or the environment name, and the algorithms that it can sign with, the usual one
// first.
func signingKey(secretFile, keyFile string) (any, []jwa.SignatureAlgorithm, error) {
	secret := os.Getenv(mintSecret)
	switch {
	case secretFile != "" && keyFile != "":
		return nil, nil, misused("--secret-file and --key-file exclude each other: a token has one signature")
	case keyFile != "":
		pem, err := smallfile.Read(keyFile, 1<<20)
		if err != nil {
			return nil, nil, fmt.Errorf("--key-file: %w", err)
		}
		key, algorithms, err := keys.ParsePrivate(pem)
		if err != nil {
			return nil, nil, fmt.Errorf("--key-file %s: %w", keyFile, err)
		}
		return key, algorithms, nil
	case secretFile != "":
		content, err := smallfile.Read(secretFile, 64<<10)
		if err != nil {
			return nil, nil, fmt.Errorf("--secret-file: %w", err)
		}
		// The line break that editors add is not part of the secret, as in the configuration.
		content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
		return sharedSecret("--secret-file "+secretFile, content)
	case secret != "":
		return sharedSecret("environment "+mintSecret, []byte(secret))
	}
	return nil, nil, misused("there is nothing to sign with: name the file of the shared secret with --secret-file (or put the secret "+
		"into the environment variable %s), or the file of the private key with --key-file", mintSecret)
}

func sharedSecret(source string, secret []byte) (any, []jwa.SignatureAlgorithm, error) {
	switch {
	case len(secret) == 0:
		return nil, nil, fmt.Errorf("%s: the secret is empty; make one with: openssl rand -hex 32", source)
	case bytes.Contains(secret, []byte("-----BEGIN")):
		return nil, nil, fmt.Errorf("%s: this is a PEM key, not a shared secret; name a private key with --key-file", source)
	}
	return secret, []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512}, nil
}
