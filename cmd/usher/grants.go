package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/component/api"
)

func grantsCommand() *cobra.Command {
	var to socketFlags
	var room string
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "List who is let into which room, by which token, until when",
		Long: `List who is let into which room, as what, by which issuer's token (jti), and until when, as the running usher has it. Some may not
have joined yet. People let in from the lobby by a moderator are not listed, as usher gave them nothing; nor are admins of the MUC
service, who need nothing. People in a breakout room are listed in its main room. UNTIL is when the token ends, and "out at" when
usher removes them.`,
		Example: `  usher grants
  usher grants --room standup --json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := to.client(os.Environ())
			if err != nil {
				return err
			}
			all, err := c.Grants(cmd.Context(), room)
			switch {
			case err != nil:
				return c.explain(err)
			case to.json:
				return writeJSON(cmd.OutOrStdout(), struct {
					Grants []api.Grant `json:"grants"`
				}{all})
			case len(all) == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "Nobody is let in.")
				return nil
			}
			grantTable(cmd.OutOrStdout(), all)
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&room, "room", "", "`address` of the only room to list, or its name if usher guards one\nMUC service")
	to.add(cmd)
	return cmd
}
