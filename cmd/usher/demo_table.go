package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// jsonRows writes each row as one line of JSON.
type jsonRows struct{ w io.Writer }

func (j jsonRows) row(r row) error {
	enc := json.NewEncoder(j.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// table writes rows for people, in at most 120 columns. It shows what was expected only where something else happened.
type table struct {
	w      io.Writer
	colour bool
	begun  bool
}

func newTable(w io.Writer) *table {
	f, _ := w.(*os.File)
	return &table{w: w, colour: f != nil && isTerminal(f) && os.Getenv("NO_COLOR") == ""}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

const (
	width   = 113
	columns = "%-23s  %-22s  %-12s  %-30s  %*s  "
	happens = 30 // the width of what happened
	spends  = 5  // that of the time, from which a longer word before it takes some
)

func (t *table) row(r row) error {
	var b strings.Builder
	if !t.begun {
		t.begun = true
		head := fmt.Sprintf(columns, "who", "virtual host", "token", "what happened", spends, "ms") + "as expected"
		b.WriteString(strings.TrimSpace(head) + "\n")
		b.WriteString(strings.Repeat("─", width) + "\n")
	}
	if r.before != "" {
		b.WriteString(t.paint(dim, "    ("+r.before+")") + "\n")
	}
	mark := t.paint(green, "yes")
	if !r.OK {
		mark = t.paint(red, "NO")
	}
	fmt.Fprintf(&b, columns+"%s\n", r.Who, r.VHost, r.Token, r.Happened, spends-max(0, len(r.Happened)-happens), fmt.Sprintf("%.1f", r.MS), mark)
	if !r.OK {
		b.WriteString(t.paint(red, "    expected "+r.Expected) + "\n")
	}
	if r.Said != "" {
		b.WriteString(t.paint(dim, "    "+r.Said) + "\n")
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// The colours, as SGR parameters (ECMA-48 §8.3.117).
const (
	dim   = "2"
	red   = "1;31"
	green = "32"
)

func (t *table) paint(colour, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[m"
}
