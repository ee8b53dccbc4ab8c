package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/component/api"
)

func revocationsCommand() *cobra.Command {
	var to socketFlags
	var lift string
	cmd := &cobra.Command{
		Use:   "revocations",
		Short: "List the tokens that are taken back, or end a revocation",
		Long: `List which tokens were taken back by "usher revoke", the oldest first. With --lift, end one of these revocations: its tokens and
sessions count again, unless another revocation fits them, too. People who were put out may ask again.

BEFORE is the time that was given: tokens issued up to five minutes later are refused as well.`,
		Example: `  usher revocations
  usher revocations --lift ABCDEFGHIJKLMNOPQRSTUVWXYZ`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := to.client(os.Environ())
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("lift") {
				return c.explain(liftRevocation(cmd, c, lift, to.json))
			}
			all, warning, err := c.Revocations(cmd.Context())
			if err != nil {
				return c.explain(err)
			}
			if to.json {
				return writeJSON(cmd.OutOrStdout(), struct {
					Revocations []api.Revocation `json:"revocations"`
					Warning     string           `json:"warning,omitempty"`
				}{all, warning})
			}
			if len(all) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "No token is taken back.")
			} else {
				revocationTable(cmd.OutOrStdout(), all)
			}
			if warning != "" {
				return fmt.Errorf("some revocations cannot be listed: %s", warning)
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&lift, "lift", "", "`id` of the revocation to end")
	to.add(cmd)
	return cmd
}

// liftRevocation ends a revocation.
func liftRevocation(cmd *cobra.Command, c socketClient, id string, asJSON bool) error {
	if id == "" || api.LooksLikeToken(id) {
		return misused(`--lift wants the id of a revocation: "usher revocations" lists them`)
	}
	before, _, err := c.Revocations(cmd.Context())
	if err != nil {
		return err
	}
	if err := c.Lift(cmd.Context(), id); err != nil {
		return err
	}
	others := alsoFit(before, id)
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), struct {
			Lifted string           `json:"lifted"`
			Others []api.Revocation `json:"others,omitempty"`
		}{id, others})
	}
	if len(others) == 0 {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "The revocation has ended. Its tokens and sessions count again, each until its own end.")
		return err
	}
	fmt.Fprint(cmd.OutOrStdout(), "The revocation has ended. Its tokens and sessions count again, unless these revocations fit them, too:\n\n")
	revocationTable(cmd.OutOrStdout(), others)
	return nil
}

// alsoFit returns the other revocations that fit tokens of the one with this id, or may do so.
func alsoFit(all []api.Revocation, id string) []api.Revocation {
	lifted := slices.IndexFunc(all, func(r api.Revocation) bool { return r.ID == id })
	if lifted < 0 {
		return nil
	}
	clash := func(a, b string) bool { return a != "" && b != "" && a != b }
	l := all[lifted]
	return slices.DeleteFunc(slices.Clone(all), func(r api.Revocation) bool {
		same := r.JTI != "" && r.JTI == l.JTI || r.Sub != "" && r.Sub == l.Sub || r.User != "" && r.User == l.User || r.Issuer != "" && r.Issuer == l.Issuer
		return r.ID == id || !same || clash(r.JTI, l.JTI) || clash(r.Sub, l.Sub) || clash(r.User, l.User) || clash(r.Issuer, l.Issuer) || clash(r.Room, l.Room)
	})
}

func revocationTable(w io.Writer, all []api.Revocation) {
	rows := make([][]string, len(all))
	for i, r := range all {
		rows[i] = []string{r.ID, claimsOf(r), r.Room, at(r.Before), at(r.At), at(r.Until), r.Reason}
	}
	listTable(w, "ID TOKENS ROOM BEFORE SINCE UNTIL REASON", rows)
}

// claimsOf names the claims that the tokens of a revocation have.
func claimsOf(r api.Revocation) string {
	var all []string
	for _, c := range [][2]string{{"jti", r.JTI}, {"sub", r.Sub}, {"user", r.User}, {"issuer", r.Issuer}} {
		if c[1] != "" {
			all = append(all, c[0]+"="+c[1])
		}
	}
	return strings.Join(all, " ")
}
