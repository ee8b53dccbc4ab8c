// Package printable makes texts that strangers have written safe for a log, a page, a label and a terminal: characters that do not print,
// and bytes that are no UTF-8, become U+FFFD.
package printable

import (
	"strings"
	"unicode"
)

// Text returns a text of one line.
func Text(text string) string { return strings.Map(one, text) }

// Lines returns a text of several lines: Text, but line feeds stay.
func Lines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return one(r)
	}, text)
}

// Cut returns Text of at most this many characters. Where some are left out, it ends with more.
func Cut(text string, most int, more string) string {
	n := 0
	for at := range text {
		if n++; n > most {
			return Text(text[:at]) + more
		}
	}
	return Text(text)
}

func one(r rune) rune {
	if !unicode.IsPrint(r) {
		return unicode.ReplacementChar
	}
	return r
}
