package printable_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/pkg/printable"
)

func TestTexts(t *testing.T) {
	for _, tt := range []struct{ text, one, lines, cut string }{
		{"", "", "", ""},
		{"café", "café", "café", "café"},
		{"a\nb", "a\ufffdb", "a\nb", "a\ufffdb"},
		{"\x1b[2J", "\ufffd[2J", "\ufffd[2J", "\ufffd[2J"},
		{"\u202ex\u200b\r", "\ufffdx\ufffd\ufffd", "\ufffdx\ufffd\ufffd", "\ufffdx\ufffd\ufffd"}, // written from right to left, and no width
		{"\xff\xc3", "\ufffd\ufffd", "\ufffd\ufffd", "\ufffd\ufffd"},
		{"abcde", "abcde", "abcde", "abcd…"},
		{"äöüß\xff", "äöüß\ufffd", "äöüß\ufffd", "äöüß…"},
	} {
		if one, lines, cut := printable.Text(tt.text), printable.Lines(tt.text), printable.Cut(tt.text, 4, "…"); one != tt.one || lines != tt.lines || cut != tt.cut {
			t.Errorf("%q: %q, %q, %q", tt.text, one, lines, cut)
		}
	}
}

func TestAlwaysPrintable(t *testing.T) {
	bad := func(r rune) bool { return !unicode.IsPrint(r) }
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		most := rapid.IntRange(0, 20).Draw(t, "most")
		one, lines, cut := printable.Text(text), printable.Lines(text), printable.Cut(text, most, "")
		for _, s := range []string{one, strings.ReplaceAll(lines, "\n", ""), cut} {
			if !utf8.ValidString(s) || strings.IndexFunc(s, bad) >= 0 {
				t.Fatalf("%q", s)
			}
		}
		if n := utf8.RuneCountInString(cut); n != min(most, utf8.RuneCountInString(text)) || !strings.HasPrefix(one, cut) {
			t.Fatalf("%q is cut to %q", text, cut)
		}
	})
}
