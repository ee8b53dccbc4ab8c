package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/smallfile"
	"github.com/xmpp-usher/usher/pkg/token"
)

// mintSecret is the environment variable with the secret to sign with. There is no flag for it: a command line is read
// by everybody on the machine.
const mintSecret = "USHER_MINT_SECRET"

func tokenGroup() *cobra.Command {
	return group("token", "Make tokens, and ask why one is let in or not", tokenMint(), tokenExplain())
}

func tokenMint() *cobra.Command {
	var (
		c                     token.Claims
		secretFile, keyFile   string
		algorithm, kid, begin string
		ttl                   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Make a token",
		Long: `Make a token and write it, and nothing else, to standard output.

It is signed with a shared secret, from --secret-file or the environment variable ` + mintSecret + `, or with the private key
in --key-file. A secret is no flag, because others on the machine can read command lines. Without --affiliation,
default_affiliation counts: the issuer's, or else the virtual host's.`,
		Example: `  usher token mint --app-id my_app --secret-file app.secret --room standup --sub meet.example.com --affiliation owner
  usher token mint --app-id portal --key-file portal.key --room '*' --sub '*' --name Juliet --ttl 8h`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			if err := complete(cmd, &c, ttl, begin, now); err != nil {
				return err
			}
			key, fitting, err := signingKey(secretFile, keyFile)
			if err != nil {
				return err
			}
			o := token.MintOptions{Key: key, Algorithm: fitting[0], KeyID: kid}
			if algorithm != "" {
				o.Algorithm = jwa.SignatureAlgorithm(algorithm)
				if !slices.Contains(fitting, o.Algorithm) {
					return misused("--algorithm %s does not fit the key, which signs with %s", algorithm, names(fitting))
				}
			}
			compact, err := token.Mint(c, o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), compact)
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.Issuer, "app-id", "", "`name` of the issuer, as in the configuration: the claim iss")
	f.StringVar(&secretFile, "secret-file", "", "`file` with the secret shared with usher")
	f.StringVar(&keyFile, "key-file", "", "PEM `file` with the private key")
	f.StringVar(&c.Room, "room", "", "`name` of the room, without its domain; * for every room")
	f.StringVar(&c.Subject, "sub", "", "`domain` or tenant that the token is for; * for any")
	f.StringSliceVar(&c.Audience, "aud", []string{"jitsi"}, "`audience`; several with commas")
	f.StringVar(&c.User.Affiliation, "affiliation", "", "`what` the person becomes: owner, admin or member")
	f.StringVar(&c.User.Name, "name", "", "the person's `name`")
	f.StringVar(&c.User.Email, "email", "", "the person's e-mail `address`")
	f.StringVar(&c.User.ID, "id", "", "the person's `id` with the issuer")
	f.DurationVar(&ttl, "ttl", time.Hour, "how long it is good, from now or from --not-before")
	f.StringVar(&begin, "not-before", "", "`time` from which it is good, such as 2030-01-31T09:00:00Z, or 20m from now")
	f.StringVar(&algorithm, "algorithm", "", "signature `algorithm` (default HS256, RS256, ES256 or EdDSA, by the key)")
	f.StringVar(&kid, "kid", "", "`id` of the key, for the token's header")
	return cmd
}

// complete adds to the claims what the flags say of times, and an id; it refuses what no usher would let in.
func complete(cmd *cobra.Command, c *token.Claims, ttl time.Duration, begin string, now time.Time) error {
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
		return misused("--app-id is empty: no usher accepts a token of nobody")
	case strings.Contains(c.Room, "@"):
		return misused("--room %s: the name of the room alone is meant, %s", c.Room, c.Room[:strings.Index(c.Room, "@")])
	case ttl < time.Second:
		return misused("--ttl %s: the token would be of no use; say for how long it is good, such as 1h", ttl)
	case !slices.Contains([]string{"", "owner", "admin", "member", "moderator", "teacher"}, c.User.Affiliation):
		return misused("--affiliation %s: it must be owner, admin or member", c.User.Affiliation)
	}
	c.ID, c.IssuedAt, c.Expires = rand.Text(), now, now.Add(ttl)
	if begin != "" {
		var err error
		if c.NotBefore, err = moment(begin, now); err != nil {
			return misused("--not-before %s: %w", begin, err)
		}
		if c.NotBefore.After(now) {
			c.Expires = c.NotBefore.Add(ttl)
		}
	}
	return nil
}

// moment reads a time, or a duration from now.
func moment(s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if d, notDuration := time.ParseDuration(s); notDuration == nil {
		t, err = now.Add(d), nil
	}
	switch year := t.UTC().Year(); {
	case err != nil:
		return time.Time{}, errors.New("write a time such as 2030-01-31T09:00:00Z, or a duration from now such as 20m")
	case year < 1970 || year > 9999:
		return time.Time{}, errors.New("the times of tokens are those from 1970 to 9999")
	}
	return t, nil
}

// signingKey returns the one key that was named, with the algorithms that it can sign with, the usual one first.
func signingKey(secretFile, keyFile string) (any, []jwa.SignatureAlgorithm, error) {
	secret := os.Getenv(mintSecret)
	switch {
	case secretFile != "" && keyFile != "":
		return nil, nil, misused("--secret-file and --key-file: a token has one signature, keep one of them")
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
		// The line break that editors add is not part of it, as in the configuration.
		content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
		return sharedSecret("--secret-file "+secretFile, content)
	case secret != "":
		return sharedSecret("environment "+mintSecret, []byte(secret))
	}
	return nil, nil, misused("nothing to sign with: name the shared secret's file with --secret-file (or put the secret "+
		"into the environment as %s), or the private key's with --key-file", mintSecret)
}

func sharedSecret(source string, secret []byte) (any, []jwa.SignatureAlgorithm, error) {
	switch {
	case len(secret) == 0:
		return nil, nil, fmt.Errorf("%s: the secret is empty; make one with: openssl rand -hex 32", source)
	case bytes.Contains(secret, []byte("-----BEGIN")):
		return nil, nil, fmt.Errorf("%s: is a key in PEM, which is no shared secret; a private key is named with --key-file", source)
	}
	return secret, []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512}, nil
}
