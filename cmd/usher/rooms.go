package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/pkg/printable"
)

func roomsCommand() *cobra.Command {
	var to socketFlags
	cmd := &cobra.Command{
		Use:   "rooms [ROOM]",
		Short: "List the open rooms, or the people of one; lock or end a room",
		Long: `List the rooms that are open, or for which people wait. With a room, list who is inside and who waits. A room is named by its address,
or by its name if usher guards one MUC service. In front of Jicofo the answer may be as old as rooms.guard_interval.`,
		Example: `  usher rooms
  usher rooms standup --json
  usher rooms lock standup
  usher rooms end standup --reason "The hour is over."
  usher rooms remove standup romeo@meet.example.com --bar`,
		Args: arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := to.client(os.Environ())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return c.explain(showRoom(cmd, c, args[0], to.json))
			}
			all, err := c.Rooms(cmd.Context())
			switch {
			case err != nil:
				return c.explain(err)
			case to.json:
				return writeJSON(cmd.OutOrStdout(), struct {
					Rooms []api.Room `json:"rooms"`
				}{all})
			case len(all) == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "No room is open, and nobody waits.")
				return nil
			}
			roomTable(cmd.OutOrStdout(), all)
			return nil
		},
	}
	to.add(cmd)
	cmd.AddCommand(endRoom(), removeOccupant(),
		lockRoom("lock", "Refuse newcomers, except for hosts, until the room ends or is unlocked", "%s is locked: only hosts can enter.\n", true),
		lockRoom("unlock", "Let newcomers in again", "%s is unlocked.\n", false))
	return cmd
}

// onRoom returns a command that does something to a room, which its first argument names. It has these flags, and those of the socket.
func onRoom(use, short string, others int, done string, flags *pflag.FlagSet, do func(ctx context.Context, c api.Client, args []string) error) *cobra.Command {
	var to socketFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Args: arguments(1 + others),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1+others {
				return misused("missing: usher rooms %s", use)
			}
			c, err := to.client(os.Environ())
			if err != nil {
				return err
			}
			if err := do(cmd.Context(), c.Client, args); err != nil {
				return c.explain(err)
			}
			if to.json {
				return writeJSON(cmd.OutOrStdout(), struct {
					Room string `json:"room"`
				}{args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), done, printable.Lines(args[len(args)-1]))
			return err
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(flags)
	to.add(cmd)
	return cmd
}

func endRoom() *cobra.Command {
	var reason string
	flags := new(pflag.FlagSet)
	flags.StringVar(&reason, "reason", "", "`text` for the people inside")
	return onRoom("end ROOM", "End a room: put everybody out", 0, "%s has ended.\n", flags, func(ctx context.Context, c api.Client, args []string) error {
		return c.EndRoom(ctx, args[0], reason)
	})
}

func removeOccupant() *cobra.Command {
	var reason string
	var bar bool
	flags := &pflag.FlagSet{SortFlags: false}
	flags.BoolVar(&bar, "bar", false, "keep the person out until the room ends. A guest has no name to know\nthem by, and may come again")
	flags.StringVar(&reason, "reason", "", "`text` for the people inside")
	cmd := onRoom("remove ROOM JID", "Put somebody out of a room", 1, "%s is put out.\n", flags, func(ctx context.Context, c api.Client, args []string) error {
		return c.RemoveOccupant(ctx, args[0], args[1], reason, bar)
	})
	cmd.Long = `Put somebody out of a room. "usher rooms ROOM" lists the JIDs. Without --bar the person may ask again.`
	return cmd
}

func lockRoom(verb, short, done string, lock bool) *cobra.Command {
	return onRoom(verb+" ROOM", short, 0, done, new(pflag.FlagSet), func(ctx context.Context, c api.Client, args []string) error {
		return c.LockRoom(ctx, args[0], lock)
	})
}

func showRoom(cmd *cobra.Command, c socketClient, name string, asJSON bool) error {
	room, err := c.Room(cmd.Context(), name)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if asJSON {
		return writeJSON(w, room)
	}
	roomTable(w, []api.Room{room.Room})
	fmt.Fprintf(w, "\nRule: %s\n", printable.Lines(room.Rule))
	if !room.Ends.IsZero() {
		fmt.Fprintf(w, "Ends: %s\n", at(room.Ends))
	}
	if len(room.Occupants) > 0 {
		fmt.Fprintln(w)
		rows := make([][]string, len(room.Occupants))
		for i, o := range room.Occupants {
			rows[i] = []string{o.ID, o.As, o.Affiliation, yes(o.Inside), o.Issuer, o.JTI, o.User, at(o.Since)}
		}
		listTable(w, "WHO IS AS INSIDE ISSUER JTI USER SINCE", rows)
	}
	if len(room.Waits) > 0 {
		fmt.Fprintln(w)
		rows := make([][]string, len(room.Waits))
		for i, o := range room.Waits {
			rows[i] = []string{o.ID, o.Reason, at(o.Since)}
		}
		listTable(w, "WAITING REASON SINCE", rows)
	}
	return nil
}

func roomTable(w io.Writer, all []api.Room) {
	rows := make([][]string, len(all))
	for i, r := range all {
		rows[i] = []string{r.Room, yes(r.Open), yes(r.HostInside), yes(r.Locked), strconv.Itoa(r.Hosts), strconv.Itoa(r.Members), strconv.Itoa(r.Guests), strconv.Itoa(r.Waiting), at(r.Since)}
	}
	listTable(w, "ROOM OPEN HOST LOCKED HOSTS MEMBERS GUESTS WAITING SINCE", rows)
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
