package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// leastPassword is how many characters a new password has at least (NIST SP 800-63B §5.1.1.1).
const leastPassword = 8

// newPassword asks for a new password of an account, and returns its hash. At a terminal it asks twice, and nobody sees it; otherwise the
// password is the only line of the input. It is never an argument, because others can see those, and shells keep them.
func newPassword(cmd *cobra.Command, name string) (passhash.Hash, error) {
	password, err := askPassword(cmd.InOrStdin(), cmd.ErrOrStderr(), name)
	if err != nil {
		return passhash.Hash{}, err
	}
	switch {
	case passhash.Known(password):
		return passhash.Hash{}, errors.New("this password is one that anybody tries first: choose another one")
	case name != "" && strings.EqualFold(password, name):
		return passhash.Hash{}, errors.New("the password is the name: choose another one")
	case password != "" && utf8.RuneCountInString(password) < leastPassword:
		return passhash.Hash{}, fmt.Errorf("the password has fewer than %d characters: choose a longer one", leastPassword)
	}
	h, err := passhash.New(password)
	if err != nil {
		return passhash.Hash{}, fmt.Errorf("the password %w", err)
	}
	return h, nil
}

func askPassword(in io.Reader, w io.Writer, name string) (string, error) {
	if f, isFile := in.(*os.File); isFile && isTerminal(f) {
		return typedPassword(f, w, name)
	}
	return linePassword(in)
}

// linePassword reads a password from an input that is no terminal.
func linePassword(in io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(in, passhash.MaxPassword+3)) // with the end of the line, and one byte too many
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	password, end, _ := strings.Cut(string(text), "\n")
	if end != "" {
		return "", errors.New("the input has more than one line: write the password, and nothing else")
	}
	return strings.TrimSuffix(password, "\r"), nil
}

// typedPassword asks for a password at a terminal, which shows nothing of it. A signal that ends usher meanwhile leaves the terminal as it
// was.
func typedPassword(f *os.File, w io.Writer, name string) (string, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP) // Ctrl+C is a key now
	defer signal.Stop(signals)
	before, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(f.Fd()), before) }()
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := typedTwice(term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{f, w}, ""), name)
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		return l.text, l.err
	case <-signals: // the reader stays behind: usher ends now
		return "", errors.New("interrupted: nothing was changed")
	}
}

// typedTwice asks for a password, and again.
func typedTwice(t *term.Terminal, name string) (string, error) {
	prompt := "New password: "
	if name != "" {
		prompt = "New password of " + printable.Text(name) + ": "
	}
	first, err := t.ReadPassword(prompt)
	again := ""
	if err == nil {
		again, err = t.ReadPassword("Again: ")
	}
	switch {
	case errors.Is(err, io.EOF): // Ctrl+C, Ctrl+D
		return "", errors.New("interrupted: nothing was changed")
	case err != nil:
		return "", fmt.Errorf("reading the password: %w", err)
	case first != again:
		return "", errors.New("these are two different passwords: nothing was changed")
	}
	return first, nil
}
