package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

func userGroup() *cobra.Command {
	return group("user", "Add, change, list and remove people who log in at the portal",
		addUser(), passwdUser(), listUsers(), ableUser("disable", true), ableUser("enable", false), removeUser(), hashPassword())
}

// usersFileFlags are the flags by which a command finds the file with the accounts of the portal.
type usersFileFlags struct {
	file  string
	files []string
}

func (f *usersFileFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "users-file", "", "`file` with the accounts (default: portal.users_file of the configuration)")
	configFlag(cmd, &f.files)
}

// usersFile is a file with accounts, and what else is known of people who log in.
type usersFile struct {
	name  string
	fixed []config.User // accounts that stand elsewhere
	off   bool          // nobody can log in now
}

// find returns the file with the accounts.
func (f *usersFileFlags) find(environ []string) (usersFile, error) {
	u := usersFile{name: f.file}
	if u.name == "" {
		if len(f.files) == 0 {
			return u, misused("which file? Name usher's configuration with -c usher.yaml, or the file itself with --users-file")
		}
		c, _, err := load(f.files, environ, new(keys.Cache))
		if err != nil {
			return u, fmt.Errorf("%w\nThe configuration is read for portal.users_file and portal.users only. To do without it: --users-file FILE", err)
		}
		u.name, u.off = c.Portal.UsersFile, c.Portal.Listen == ""
		u.fixed = slices.DeleteFunc(slices.Clone(c.Portal.Users), func(one config.User) bool {
			file, _, _ := cutLast(one.Source, ":")
			return file == u.name
		})
	}
	// A link stays a link.
	if end, err := filepath.EvalSymlinks(u.name); err == nil {
		u.name = end
	}
	return u, nil
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// read returns the accounts of the file. A file that does not exist has none.
func (u usersFile) read() ([]config.User, error) {
	content, err := smallfile.Read(u.name, config.MaxUsers)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return config.ParseUsers(u.name, content)
}

// change changes the account of a name, while nobody else changes the file.
func (u usersFile) change(name string, change func(content []byte, is config.User) ([]byte, error)) error {
	return changeFile(u.name, config.MaxUsers, func(content []byte) ([]byte, error) {
		all, err := config.ParseUsers(u.name, content)
		if err != nil {
			return nil, err
		}
		is, err := u.named(name, all)
		if err != nil {
			return nil, err
		}
		content, err = change(content, is)
		return content, inFile(u.name, err, userFlags)
	})
}

// userFlags are the flags of usher user add by what they say of an account.
var userFlags = map[string]string{
	"name": "NAME", "password_hash": "the password", "display_name": "--display-name", "email": "--email", "rooms": "--rooms",
	"affiliation": "--affiliation", "groups": "--groups",
}

// named returns the account of a name among those of the file.
func (u usersFile) named(name string, all []config.User) (config.User, error) {
	if is, ok := find(name, all); ok {
		return is, nil
	}
	if is, ok := find(name, u.fixed); ok {
		return is, fmt.Errorf("%s stands in %s, and this command changes only %s: change it there (usher user hash makes the hash of a password)",
			is.Name, is.Source, u.name)
	}
	if len(name) > longestWord { // perhaps a password
		return config.User{}, fmt.Errorf("%s: there is no account of that name", u.name)
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	hint := ""
	if meant := config.Closest(name, names); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	return config.User{}, fmt.Errorf("%s: there is no account of the name %q%s", u.name, name, hint)
}

// find returns the account that a name means.
func find(name string, all []config.User) (config.User, bool) {
	means, err := account.Canonical(name)
	if err != nil {
		return config.User{}, false
	}
	for _, one := range all {
		if is, err := account.Canonical(one.Name); err == nil && is == means {
			return one, true
		}
	}
	return config.User{}, false
}

func addUser() *cobra.Command {
	var in usersFileFlags
	var u config.User
	var affiliation string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add somebody who logs in at the portal",
		Long: `Add an account to the file of portal.users_file. usher asks for the password, or reads it from its input: one line. It is never an
argument, where others could see it. The file gets its hash (argon2id). A running usher takes the new file at once.`,
		Example: `  usher user add alice --rooms '*' -c usher.yaml
  usher user add bob --rooms 'class-*,[acme]*' --display-name 'Bob B.' --affiliation admin -c usher.yaml < password.txt`,
		Args: named("an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			u.Name, u.Affiliation = args[0], config.Affiliation(affiliation)
			if err := notEmpty(cmd.Flags(), "rooms", "groups", "affiliation", "email"); err != nil {
				return err
			}
			return putNewUser(cmd, in, u)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringSliceVar(&u.Rooms, "rooms", nil, "the rooms that they may open: `patterns` of names with commas between them;\n"+
		"* for all without a tenant, [*]* for all")
	cmd.Flags().StringVar(&affiliation, "affiliation", "owner", "what they are there: owner, admin or member")
	cmd.Flags().StringVar(&u.Display, "display-name", "", "the `name` that others see (default: NAME)")
	cmd.Flags().StringVar(&u.Email, "email", "", "their `address`")
	cmd.Flags().StringSliceVar(&u.Groups, "groups", nil, "their `groups` with commas between them")
	in.add(cmd)
	return cmd
}

// putNewUser asks for a password, and adds an account. What is wrong with the flags is said before anybody types a password.
func putNewUser(cmd *cobra.Command, in usersFileFlags, u config.User) error {
	file, err := in.find(os.Environ())
	if err != nil {
		return err
	}
	u.Hash = exampleHash
	if _, err := config.PutUser(nil, u); err != nil {
		return inFile(file.name, err, userFlags)
	}
	folder, err := folderOf(file.name)
	if err != nil {
		return err
	}
	_ = folder.Close()
	all, err := file.read()
	if err == nil {
		err = file.free(u.Name, all)
	}
	if err != nil {
		return err
	}
	hash, err := newPassword(cmd, u.Name)
	if err != nil {
		return err
	}
	u.Hash = hash.String()
	err = changeFile(file.name, config.MaxUsers, func(content []byte) ([]byte, error) {
		all, err := config.ParseUsers(file.name, content)
		if err == nil {
			err = file.free(u.Name, all)
		}
		if err != nil {
			return nil, err
		}
		content, err = config.PutUser(content, u)
		return content, inFile(file.name, err, userFlags)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s has the account %s now.\n", file.name, u.Name)
	if file.off {
		fmt.Fprintln(cmd.ErrOrStderr(), "portal.listen is off, so nobody can log in yet.")
	}
	return nil
}

// exampleHash stands for a hash while the rest of an account is checked.
const exampleHash = "$argon2id$v=19$m=19456,t=2,p=1$EZZDvrIqY8lQ0cQm6sE4hw$DO4krpuLkMVGZPI7Yv0xbw7Hya6bvT8qYIEmd6SVKbk"

// free returns an error if a name is somebody's already.
func (u usersFile) free(name string, all []config.User) error {
	is, taken := find(name, all)
	if taken {
		return fmt.Errorf("%s: there is an account of the name %s already: usher user passwd gives it another password", u.name, is.Name)
	}
	if is, taken = find(name, u.fixed); taken {
		return fmt.Errorf("%s stands in %s already: choose another name, or remove it there", is.Name, is.Source)
	}
	return nil
}

func passwdUser() *cobra.Command {
	var in usersFileFlags
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give an account another password",
		Long: `Give an account another password. usher asks for it, or reads it from its input: one line. A running usher ends what the account has
at once: who is logged in must log in again, and tokens are taken back.`,
		Example: `  usher user passwd alice -c usher.yaml`,
		Args:    named("an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			all, err := file.read()
			if err != nil {
				return err
			}
			is, err := file.named(args[0], all) // before anybody types a password
			if err != nil {
				return err
			}
			hash, err := newPassword(cmd, is.Name)
			if err != nil {
				return err
			}
			err = file.change(args[0], func(content []byte, is config.User) ([]byte, error) {
				is.Hash = hash.String()
				return config.PutUser(content, is)
			})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has another password now.\n", is.Name)
			}
			return err
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	return cmd
}

// ableUser returns the command that disables an account, or enables it.
func ableUser(name string, disabled bool) *cobra.Command {
	var in usersFileFlags
	cmd := &cobra.Command{
		Use:     name + " NAME",
		Short:   "Keep an account out, without removing it",
		Long:    `Disable an account. A running usher ends what it has at once: it is logged out, and its tokens are taken back.`,
		Example: `  usher user ` + name + ` alice -c usher.yaml`,
		Args:    named("an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			is := config.User{}
			err = file.change(args[0], func(content []byte, found config.User) ([]byte, error) {
				is, found.Disabled = found, disabled
				return config.PutUser(content, found)
			})
			switch {
			case err != nil:
				return err
			case is.Disabled == disabled:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %sd already.\n", is.Name, name)
			default:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %sd.\n", is.Name, name)
			}
			return nil
		},
	}
	if !disabled {
		cmd.Short, cmd.Long = "Let a disabled account in again", `Enable an account that was disabled. Its password is the one that it had.`
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	return cmd
}

func removeUser() *cobra.Command {
	var in usersFileFlags
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove an account",
		Long:    `Remove an account. A running usher ends what it has at once: it is logged out, and its tokens are taken back.`,
		Example: `  usher user remove alice -c usher.yaml`,
		Args:    named("an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			is := ""
			err = file.change(args[0], func(content []byte, found config.User) ([]byte, error) {
				is = found.Name
				return config.RemoveUser(content, is)
			})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "The account %s is removed.\n", is)
			}
			return err
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	return cmd
}

func listUsers() *cobra.Command {
	var in usersFileFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the accounts, and what they may open",
		Long: `List the accounts of the portal: those of portal.users_file, and those that stand in the configuration itself. Neither passwords nor
their hashes are shown.`,
		Example: `  usher user list -c usher.yaml`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := in.find(os.Environ())
			if err != nil {
				return err
			}
			all, err := file.read()
			all = append(slices.Clone(file.fixed), all...)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), struct {
					Users []listedUser `json:"users"`
				}{listedUsers(all)})
			case len(all) == 0:
				fmt.Fprintf(cmd.OutOrStdout(), "%s has no account.\n", file.name)
				return nil
			}
			rows := make([][]string, len(all))
			for i, u := range all {
				state := "enabled"
				if u.Disabled {
					state = "disabled"
				}
				rows[i] = []string{u.Name, u.Display, strings.Join(u.Rooms, ","), string(cmp.Or(u.Affiliation, config.Owner)), strings.Join(u.Groups, ","), state, u.Source}
			}
			listTable(cmd.OutOrStdout(), "NAME DISPLAY-NAME ROOMS AFFILIATION GROUPS STATE SOURCE", rows)
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	in.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

// listedUser is an account for programs.
type listedUser struct {
	Name        string   `json:"name"`
	DisplayName string   `json:"display_name,omitempty"`
	Email       string   `json:"email,omitempty"`
	Rooms       []string `json:"rooms"`
	Affiliation string   `json:"affiliation"`
	Groups      []string `json:"groups,omitempty"`
	Disabled    bool     `json:"disabled"`
	Source      string   `json:"source"`
}

func listedUsers(all []config.User) []listedUser {
	to := []listedUser{}
	for _, u := range all {
		to = append(to, listedUser{u.Name, u.Display, u.Email, append([]string{}, u.Rooms...), string(cmp.Or(u.Affiliation, config.Owner)), u.Groups, u.Disabled, u.Source})
	}
	return to
}

func hashPassword() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Print the hash of a password, for portal.users",
		Long: `Print the hash of a password, for an account that stands in usher.yaml itself (portal.users), or that another program writes. usher asks
for the password, or reads it from its input: one line.`,
		Example: `  usher user hash`,
		Args:    arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			hash, err := newPassword(cmd, "")
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), hash)
			}
			return err
		},
	}
}
