package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mistakes are names as somebody types them who presses a key too little, one too many, or two in the wrong order.
func mistakes(name string) []string {
	middle := len(name) / 2
	return []string{
		name[:middle] + name[middle+1:],
		name[:middle] + name[middle:middle+1] + name[middle:],
		name[:middle-1] + name[middle:middle+1] + name[middle-1:middle] + name[middle+1:],
	}
}

// TestNearest misspells each command, and each flag of each command.
func TestNearest(t *testing.T) {
	var walk func(*cobra.Command)
	tried := 0
	ask := func(c *cobra.Command, wrong, meant string) {
		tried++
		r := command(t, "", append(strings.Fields(strings.TrimPrefix(c.CommandPath(), "usher")), strings.Fields(wrong)...)...)
		if want := "; did you mean " + meant + "?\n"; r.status != statusUsage || !strings.Contains(r.stderr, want) || r.stdout != "" {
			t.Errorf("%s %s: status %d, %q, and no %q", c.CommandPath(), wrong, r.status, r.stderr, want)
		}
	}
	walk = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, wrong := range mistakes(f.Name) {
				// Names of three letters have too many neighbours, and froom is as near to room as to from.
				if wrong != f.Name && len(f.Name) > 3 && wrong != "froom" {
					ask(c, "--"+wrong, "--"+f.Name)
				}
			}
			if f.Name != "help" && f.Shorthand != "" {
				ask(c, "-"+strings.ToUpper(f.Shorthand), "-"+f.Shorthand)
			}
		})
		for _, below := range c.Commands() {
			for _, wrong := range mistakes(below.Name()) {
				if wrong != below.Name() {
					ask(c, wrong+" something", below.Name()) // "usher rooms lok" asks for the room lok
				}
			}
			walk(below)
		}
	}
	walk(commands())
	if tried < 200 {
		t.Errorf("only %d misspelled words were tried", tried)
	}
}

// TestMistyped checks what somebody reads who has mistyped a command line in another way.
func TestMistyped(t *testing.T) {
	long := strings.Repeat("s3", 20)
	for _, tt := range []struct{ args, want string }{
		{"mint", `no such command: "mint"; did you mean usher token mint?`},
		{"Serve", `no such command: "Serve"; did you mean serve?`},
		{"help tokn", `no such command: "tokn"; did you mean token?`},
		{"help token mnt", `no such command: "mnt"; did you mean mint?`},
		{"serve -config usher.yaml", "no such flag: -config; did you mean --config?"},
		{"serve -help", "no such flag: -help; did you mean --help?"},
		{"doctor -wach 3s", "no such flag: -wach; did you mean --watch?"},
		{"doctor -watch=3s", "no such flag: -watch; did you mean --watch?"},
		{"serve --c usher.yaml", "no such flag: --c; did you mean -c?"},
		{"token mint --app_id a", "no such flag: --app_id; did you mean --app-id?"},
		{"token mint --secret-fiel=" + long, "no such flag: --secret-fiel; did you mean --secret-file?"},
		{"serve --zzzz", "no such flag: --zzzz"},
		{"serve -z", "no such flag: -z"},
		{"token mint -" + long, "no such flag: -s"},
		{"token mint --" + long, "no such flag"},
		{"token " + long, "no such command"},
		{"zzzz", `no such command: "zzzz"`},
	} {
		r := command(t, "", strings.Fields(tt.args)...)
		if line, _, _ := strings.Cut(r.stderr, "\n"); r.status != statusUsage || line != "usher: "+tt.want || strings.Contains(r.stderr, long) {
			t.Errorf("%s: status %d, %q; want %q", tt.args, r.status, r.stderr, tt.want)
		}
	}
}

// TestVersionFlag checks that both ways to ask for the version have one answer.
func TestVersionFlag(t *testing.T) {
	flag, cmd := command(t, "", "--version"), command(t, "", "version")
	if flag != cmd || flag.status != 0 || !strings.HasPrefix(flag.stdout, "usher ") {
		t.Errorf("%+v, %+v", flag, cmd)
	}
}
