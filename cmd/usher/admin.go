package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// What the commands have in common that talk to the running usher, and usher's part of that.

// usualSocket is where the socket is if usher runs as a service of systemd with RuntimeDirectory=usher.
const usualSocket = "/run/usher/usher.sock"

// answerCommands answers commands on the socket of the configuration until ctx ends, also while this usher stands by.
func (u *serving) answerCommands(ctx context.Context) {
	path := u.began.Socket(u.environ)
	if path == "" {
		u.log.Info("there is no socket for usher rooms, usher grants, usher revoke and usher revocations: set admin.socket to have one")
		return
	}
	s := api.Server{Path: path, Options: u.apiOptions()}
	s.Run(ctx)
}

// active returns the usher that is the active one, or nil while this process stands by.
func (u *serving) active() api.Usher {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.usher == nil {
		return nil // not a nil *component.Component
	}
	return u.usher
}

// socketFlags are the flags by which a command finds the running usher.
type socketFlags struct {
	path  string
	files []string
	json  bool
}

func (f *socketFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "socket", "", "`path` of the running usher's socket (default: admin.socket of the\nconfiguration, else $RUNTIME_DIRECTORY/usher.sock, else "+usualSocket+")")
	configFlag(cmd, &f.files)
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
}

// client returns the way to the running usher.
func (f *socketFlags) client(environ []string) (socketClient, error) {
	if f.path != "" {
		return socketClient{Client: api.Client{Path: f.path}}, nil
	}
	var c config.Config
	if len(f.files) > 0 {
		read, _, err := load(f.files, environ, new(keys.Cache))
		if err != nil {
			return socketClient{}, fmt.Errorf("%w\nThe configuration is read for admin.socket only. To do without it: --socket PATH", err)
		}
		c = *read
	}
	if path := c.Socket(environ); path != "" {
		return socketClient{Client: api.Client{Path: path}}, nil
	}
	return socketClient{Client: api.Client{Path: usualSocket}, guessed: true}, nil
}

// socketClient is a client, and whether its path is a guess.
type socketClient struct {
	api.Client
	guessed bool
}

// explain adds to an error what somebody can do who has not named the socket.
func (c socketClient) explain(err error) error {
	var refused *api.RefusedError
	if err == nil || !c.guessed || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("%w\nusher has a socket if admin.socket names one, or if systemd gives it a RuntimeDirectory. To name it: --socket PATH, or -c usher.yaml", err)
}

// writeJSON writes an answer for programs.
func writeJSON(w io.Writer, what any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(what)
}

// listTable writes rows for people, with a head. Texts of tokens and rooms cannot harm the terminal, nor fill it.
func listTable(w io.Writer, head string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = cut(strings.ReplaceAll(printable.Lines(cell), "\n", string(unicode.ReplacementChar))); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	t.Flush()
}

// longestCell is how long a cell of a table is at most: room for an address, for a tenant's rooms too, and for the jti of any issuer
// seen so far. It is cut visibly: a part of a jti revokes nothing.
const longestCell = 160

func cut(text string) string {
	if all := []rune(text); len(all) > longestCell {
		return string(all[:longestCell-1]) + "…"
	}
	return text
}

// at is a time as people read it in a table; empty for the zero time.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// grantTable writes who is let in.
func grantTable(w io.Writer, all []api.Grant) {
	rows := make([][]string, len(all))
	for i, g := range all {
		until := at(g.Expires)
		if !g.RemoveAt.IsZero() {
			until = "out at " + at(g.RemoveAt)
		}
		rows[i] = []string{g.Room, g.Who, g.Affiliation, g.Issuer, g.JTI, g.User, at(g.At), until}
	}
	listTable(w, "ROOM WHO AS ISSUER JTI USER SINCE UNTIL", rows)
}
