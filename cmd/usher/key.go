package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal/signing"
	"github.com/xmpp-usher/usher/config"
)

func keyGroup() *cobra.Command {
	return group("key", "Rotate and list the keys by which the portal signs tokens", listSigningKeys(), rotateKey())
}

// signingFlags are the flags by which a command finds the file with the keys of the portal.
type signingFlags struct {
	file  string
	files []string
}

func (f *signingFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "key-file", "", "`file` with the keys (default: portal.key_file of the configuration)")
	configFlag(cmd, &f.files)
}

// find returns the file with the keys.
func (f *signingFlags) find(environ []string) (string, error) {
	if f.file != "" {
		return f.file, nil
	}
	if len(f.files) == 0 {
		return "", misused("which file? Name usher's configuration with -c usher.yaml, or the file itself with --key-file")
	}
	c, _, err := load(f.files, environ, new(keys.Cache))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w\nThe configuration is read for portal.key_file only. To do without it: --key-file FILE", err)
	case c.Portal.Listen == "":
		return "", errors.New("there is no portal, because portal.listen is off; to name a file with keys: --key-file FILE")
	case c.Portal.Sign != config.SignKey:
		return "", fmt.Errorf("the portal has no key of its own: it signs with the app_secret of %s (portal.sign). To have others for a while, "+
			"list two in app_secrets", c.Portal.Issuer)
	}
	return c.PortalKeyFile(environ)
}

// noKeys explains that a file with keys does not exist.
func noKeys(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: usher serve makes it at its first start. It may be in the folder of another user: run this as usher's user, or "+
			"name the file with --key-file", file)
	}
	return err
}

func rotateKey() *cobra.Command {
	var in signingFlags
	var now bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Add a key by which the portal signs from ten minutes later on",
		Long: `Add a key to the file of portal.key_file. It is published at once, and signs from ten minutes later on, so that others who verify tokens
of the portal by its JWK Set have it by then. The key before it counts until its last token has ended. A running usher takes the new file
at once.

With --now, because somebody else may have got the keys: the new key signs at once, and all others go. Tokens signed by them are refused
from then on, so people who want to enter a room log in again.`,
		Example: `  usher key rotate -c usher.yaml
  usher key rotate --key-file /var/lib/usher/portal-keys.json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			at, said := time.Now(), ""
			if now {
				err, said = signing.Replace(file, at), "A new key signs now. Tokens that others have signed do not count any more."
			} else {
				err, said = signing.Rotate(file, at), "A new key is published now, and signs from "+at.Add(signing.Overlap).UTC().Format(time.RFC3339)+" on."
			}
			if err != nil {
				return noKeys(file, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), said)
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&now, "now", false, "replace all keys at once")
	in.add(cmd)
	return cmd
}

func listSigningKeys() *cobra.Command {
	var in signingFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the keys by which the portal signs",
		Long:    `List the keys of the portal by their ids: from when each signs, and whether its tokens count. The keys themselves are not shown.`,
		Example: `  usher key list -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			all, err := signing.List(file, time.Now())
			if err != nil {
				return noKeys(file, err)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), struct {
					Keys []listedSigningKey `json:"keys"`
				}{listedSigning(all)})
			}
			rows := make([][]string, len(all))
			for n, k := range listedSigning(all) {
				rows[n] = []string{k.ID, at(all[n].From), k.State}
			}
			listTable(cmd.OutOrStdout(), "KEY SIGNS-FROM STATE", rows)
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// listedSigningKey is a key of the portal for programs.
type listedSigningKey struct {
	ID    string     `json:"kid"`
	From  *time.Time `json:"signs_from,omitempty"`
	State string     `json:"state"`
}

// listedSigning returns keys with their states in words.
func listedSigning(all []signing.Listed) []listedSigningKey {
	to := make([]listedSigningKey, len(all))
	signs := false
	for n, k := range all {
		to[n] = listedSigningKey{ID: k.ID}
		if !k.From.IsZero() {
			to[n].From = &k.From
		}
		switch {
		case k.Signs:
			to[n].State, signs = "signs", true
		case signs:
			to[n].State = "published"
		case k.Counts:
			to[n].State = "counts"
		default:
			to[n].State = "over"
		}
	}
	return to
}
