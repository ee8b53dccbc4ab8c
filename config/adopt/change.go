package adopt

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// Change is a file that an adoption makes, changes or removes.
type Change struct {
	// File is its absolute name below the root, with all symbolic links followed.
	File string
	// Why says what the change is for, in one sentence.
	Why string
	// Old and New are the contents before and after; nil where the file is not there.
	Old, New []byte

	mode    fs.FileMode // of a new file
	like    string      // the file or folder that gives a new file its owner
	own     bool        // it is usher's own, so it gets mode and owner as if it were new: a package's usher.yaml has no secrets yet
	secrets []string    // what no diff may show
	veiled  string      // stands for the content in the diff, if that is not for people: a secret, a program
}

// assigned is a line that gives a value to a name that may be a secret's, in any of the languages here.
var assigned = regexp.MustCompile(`(?i)^([ +-].*?(?:secret|passw|\bpass\b|_pass\b|credential|auth_token|api_?key|private_?key)[\w.-]*["']?\]?\s*[:=]\s*)(\S.*)$`)

// plain is a value that is no secret: a number or a switch, or the name of a file.
var plain = regexp.MustCompile(`^(?:true|false|[0-9]+)[;,]?$`)

// Diff returns the change as a unified diff, without secrets.
func (c Change) Diff() string {
	from, to := c.File, c.File
	if c.Old == nil {
		from = "/dev/null"
	}
	if c.New == nil {
		to = "/dev/null"
	}
	if c.veiled != "" {
		return fmt.Sprintf("--- %s\n+++ %s\n(%s)\n", from, to, c.veiled)
	}
	return veil(udiff.Unified(from, to, string(c.Old), string(c.New)), c.secrets)
}

// veil takes secrets out of a diff: those that are known, and what is given to names that sound like one. The lines around a change
// may have secrets that are not usher's.
func veil(diff string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			diff = strings.ReplaceAll(diff, s, masked)
		}
	}
	var b strings.Builder
	for line := range strings.Lines(diff) {
		if m := assigned.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil && !plain.MatchString(m[2]) && !namesFile.MatchString(m[1]) {
			line = m[1] + masked + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

const masked = "******"

// namesFile matches what stands before the value of a key with the name of a file.
var namesFile = regexp.MustCompile(`(?i)_file\s*[:=]\s*$`)

// nothing reports whether the change changes nothing.
func (c Change) nothing() bool {
	return (c.Old == nil) == (c.New == nil) && bytes.Equal(c.Old, c.New)
}
