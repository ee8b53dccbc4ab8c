package main

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

func apiGroup() *cobra.Command {
	key := group("key", "Make, list and remove the keys of programs that call the API", addKey(), listKeys(), removeKey())
	return group("api", "Keys for programs that call usher's API", key)
}

// keysFileFlags are the flags by which a command finds the file with the keys of the API.
type keysFileFlags struct {
	file  string
	files []string
}

func (f *keysFileFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "keys-file", "", "`file` with the keys (default: api.keys_file of the configuration)")
	configFlag(cmd, &f.files)
}

// find returns the file with the keys, and whether usher listens for calls of the API, as far as is known.
func (f *keysFileFlags) find(environ []string) (file string, listens bool, err error) {
	listens = true
	if file = f.file; file == "" {
		if len(f.files) == 0 {
			return "", false, misused("which file? Name usher's configuration with -c usher.yaml, or the file itself with --keys-file")
		}
		c, _, err := load(f.files, environ, new(keys.Cache))
		if err != nil {
			return "", false, fmt.Errorf("%w\nThe configuration is read for api.keys_file only. To do without it: --keys-file FILE", err)
		}
		file, listens = c.API.KeysFile, c.API.Listen != ""
	}
	// A link stays a link.
	if end, err := filepath.EvalSymlinks(file); err == nil {
		file = end
	}
	return file, listens, nil
}

// readKeys returns the content of a file with keys of the API, and the keys. A file that does not exist has none.
func readKeys(file string) ([]byte, []config.APIKey, error) {
	content, err := smallfile.Read(file, config.MaxAPIKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	all, err := config.ParseAPIKeys(file, content)
	return content, all, err
}

// changeKeys changes a file with keys of the API, while nobody else does.
func changeKeys(file string, change func(content []byte, all []config.APIKey) ([]byte, error)) error {
	return changeFile(file, config.MaxAPIKeys, func(content []byte) ([]byte, error) {
		all, err := config.ParseAPIKeys(file, content)
		if err != nil {
			return nil, err
		}
		content, err = change(content, all)
		return content, inFile(file, err, keyFlags)
	})
}

// folderOf opens the folder in which a file is changed.
func folderOf(file string) (*os.File, error) {
	name := filepath.Dir(file)
	folder, err := os.Open(name)
	if err == nil {
		return folder, nil
	}
	mend := "mend that"
	if errors.Is(err, fs.ErrNotExist) {
		mend = "make the folder first"
	}
	return nil, fmt.Errorf("%s cannot be written, because of its folder %s: %w. Either %s, or name another file", file, name, errors.Unwrap(err), mend)
}

// changeFile gives a file another content, while nobody else does: its folder is locked. A file that does not exist is made.
func changeFile(file string, most int, change func(content []byte) ([]byte, error)) error {
	folder, err := folderOf(file)
	if err != nil {
		return err
	}
	defer folder.Close() // which unlocks it
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", folder.Name(), err)
	}
	content, err := smallfile.Read(file, most)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if content, err = change(content); err != nil {
		return err
	}
	return replaceFile(file, string(content), []string{file, folder.Name()})
}

// inFile says of an error of a change which file it is about, or which flags: those of the keys of what was to be added.
func inFile(file string, err error, flags map[string]string) error {
	if problems, ok := errors.AsType[*config.Problems](err); ok {
		return failure{statusUsage, errors.New(asFlags(problems, flags))}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// keyFlags are the flags of usher api key add by what they say of a key.
var keyFlags = map[string]string{"name": "NAME", "scopes": "--scope", "rooms": "--rooms", "max_ttl": "--max-ttl", "expires": "--expires"}

func addKey() *cobra.Command {
	var in keysFileFlags
	var k config.APIKey
	var expires string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a key, and print it once",
		Long: `Make a key with which a program may call usher's API, print it, and write its hash into the file of api.keys_file. usher does not know
the key itself, so it cannot be shown again. A running usher takes the new file at once.

The program sends it as "Authorization: Bearer KEY". Scopes say what it is for:
  tokens          mint tokens
  explain         ask why a token is let in or refused
  rooms:read      see rooms, with occupants and people who wait
  rooms:write     end and lock rooms, put people out
  grants:read     see who is let in by which token
  revocations     take tokens back, and end that
  links           make links that work once
  decisions:read  see decisions, and follow them`,
		Example: `  usher api key add portal --scope tokens,links --rooms 'class-*' --max-ttl 2h -c usher.yaml
  usher api key add monitor --scope rooms:read,decisions:read --expires 2027-06-30 --keys-file /etc/usher/api-keys.yaml`,
		Args: named("a key"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			k.Name = args[0]
			if err := notEmpty(cmd.Flags(), "rooms", "max-ttl", "expires"); err != nil {
				return err
			}
			if k.Expires, err = endOf(expires); err != nil {
				return err
			}
			return printKey(cmd, in, k)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringSliceVar(&k.Scopes, "scope", nil, "what it is for: `scopes` with commas between them")
	cmd.Flags().StringSliceVar(&k.Rooms, "rooms", nil, "the only rooms that it is for: `patterns` of names with commas between them (default: all)")
	cmd.Flags().DurationVar(&k.MaxTTL, "max-ttl", 0, "how long a token lasts at most that it mints (default: no limit)")
	cmd.Flags().StringVar(&expires, "expires", "", "`time` when it ends: 2027-06-30, or 2027-06-30T12:00:00Z (default: never)")
	in.add(cmd)
	return cmd
}

// notEmpty fails if a flag is given that says nothing, such as with a variable of a script that was not set: the key would be for more
// than was meant.
func notEmpty(flags *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f := flags.Lookup(name); f.Changed && slices.Contains([]string{"", "[]", "0s"}, f.Value.String()) {
			return misused("--%s is empty: say what it limits, or leave it out", name)
		}
	}
	return nil
}

// printKey makes a key, and prints it.
func printKey(cmd *cobra.Command, in keysFileFlags, k config.APIKey) error {
	file, listens, err := in.find(os.Environ())
	if err != nil {
		return err
	}
	secret, err := addKeyTo(file, k)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), secret)
	fmt.Fprintf(cmd.ErrOrStderr(), "%s has its hash now. This is the only time that the key is shown.\n", file)
	if !listens {
		fmt.Fprintln(cmd.ErrOrStderr(), "api.listen is off, so nobody can call the API yet.")
	}
	return nil
}

// named accepts one argument: the name of something.
func named(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return misused("which one? Write the name of %s: %s", what, cmd.UseLine())
		}
		return arguments(1)(cmd, args)
	}
}

// endOf reads the time when a key ends; empty for never.
func endOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if end, err := time.Parse(layout, text); err == nil {
			if !end.After(time.Now()) {
				return end, misused("--expires: %s is over", text)
			}
			return end, nil
		}
	}
	return time.Time{}, misused("--expires: %q is no time: write it like 2027-06-30 or 2027-06-30T12:00:00Z", text)
}

// addKeyTo makes a key, writes its hash into a file, and returns it.
func addKeyTo(file string, k config.APIKey) (secret string, err error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	secret = "usher_" + k.Name + "_" + base64.RawURLEncoding.EncodeToString(random[:])
	k.Hash = sha256.Sum256([]byte(secret))
	err = changeKeys(file, func(content []byte, all []config.APIKey) ([]byte, error) {
		if slices.ContainsFunc(all, func(other config.APIKey) bool { return other.Name == k.Name }) {
			return nil, fmt.Errorf("there is a key of the name %s already: choose another name, or remove it first", k.Name)
		}
		return config.AddAPIKey(content, k)
	})
	return secret, err
}

// asFlags says what is wrong with a row of a list, by the flags that said so.
func asFlags(problems *config.Problems, flags map[string]string) string {
	var all []string
	for _, p := range problems.List {
		_, key, _ := strings.Cut(p.Key, "[0].")
		name, _, _ := strings.Cut(key, "[")
		all = append(all, flags[name]+": "+p.Text)
	}
	return strings.Join(all, "\n")
}

func listKeys() *cobra.Command {
	var in keysFileFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the keys, and what they are for",
		Long:    `List the keys of the API: their names, what they are for, and when they end. The keys themselves are not known.`,
		Example: `  usher api key list -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, _, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			_, all, err := readKeys(file)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), struct {
					Keys []listedKey `json:"keys"`
				}{listed(all)})
			case len(all) == 0:
				fmt.Fprintf(cmd.OutOrStdout(), "%s has no key.\n", file)
				return nil
			}
			rows := make([][]string, len(all))
			for i, k := range all {
				ttl := ""
				if k.MaxTTL > 0 {
					ttl = config.PlainDuration(k.MaxTTL)
				}
				rows[i] = []string{k.Name, strings.Join(k.Scopes, ","), cmp.Or(strings.Join(k.Rooms, ","), "all"), ttl, cmp.Or(at(k.Expires), "never")}
			}
			listTable(cmd.OutOrStdout(), "NAME SCOPES ROOMS MAX-TTL EXPIRES", rows)
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// listedKey is a key of the API for programs.
type listedKey struct {
	Name    string     `json:"name"`
	Scopes  []string   `json:"scopes"`
	Rooms   []string   `json:"rooms,omitempty"`
	MaxTTL  int64      `json:"max_ttl_seconds,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
}

func listed(all []config.APIKey) []listedKey {
	to := []listedKey{}
	for _, k := range all {
		one := listedKey{Name: k.Name, Scopes: k.Scopes, Rooms: k.Rooms, MaxTTL: int64(k.MaxTTL / time.Second)}
		if !k.Expires.IsZero() {
			one.Expires = &k.Expires
		}
		to = append(to, one)
	}
	return to
}

func removeKey() *cobra.Command {
	var in keysFileFlags
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a key",
		Long:    `Remove a key of the API. A running usher refuses it from then on.`,
		Example: `  usher api key remove portal -c usher.yaml`,
		Args:    named("a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, _, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			err = changeKeys(file, func(content []byte, all []config.APIKey) ([]byte, error) {
				var names []string
				for _, k := range all {
					names = append(names, k.Name)
				}
				if slices.Contains(names, args[0]) {
					return config.RemoveAPIKey(content, args[0])
				}
				if len(args[0]) > longestWord { // perhaps the key itself
					return nil, errors.New("there is no key of that name")
				}
				hint := ""
				if meant := config.Closest(args[0], names); meant != "" {
					hint = "; did you mean " + meant + "?"
				}
				return nil, fmt.Errorf("there is no key of the name %q%s", args[0], hint)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The key %s is removed.\n", args[0])
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	return cmd
}
