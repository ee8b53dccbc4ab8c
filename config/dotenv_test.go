package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseDotenv(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    map[string]assignment
		wrong   []mistake
	}{
		"nothing":  {"", nil, nil},
		"comments": {"# a\n\n  # b=c\n", nil, nil},
		"plain":    {"A=1\nexport B = two words \r\nC=", map[string]assignment{"A": {"1", 1}, "B": {"two words", 2}, "C": {"", 3}}, nil},
		"the last": {"A=1\nA=2", map[string]assignment{"A": {"2", 2}}, nil},
		"BOM":      {"\ufeffA=1", map[string]assignment{"A": {"1", 1}}, nil},
		"comment behind": {"A=1 # one\nB=a#b\nC=\t# none\nD=a\t# tab", map[string]assignment{
			"A": {"1", 1}, "B": {"a#b", 2}, "C": {"", 3}, "D": {"a", 4}}, nil},
		"single quotes": {`A='$B "#" \n' # c`, map[string]assignment{"A": {`$B "#" \n`, 1}}, nil},
		"double quotes": {`A="a \"b\" \\n \n # \$B"`, map[string]assignment{"A": {"a \"b\" \\n \n # $B", 1}}, nil},
		"over lines":    {"A='1\n2'\nB=3", map[string]assignment{"A": {"1\n2", 1}, "B": {"3", 3}}, nil},
		"references": {"A=1\nB=$A${A}$C${C}-${C:-x}${C-y}${A:-z}$$A\nC=\nD=${C:-x}${C-y}", map[string]assignment{
			"A": {"1", 1}, "B": {"11-xy1$A", 2}, "C": {"", 3}, "D": {"x", 4}}, nil},
		"a dollar alone":     {"A=a$ 5$", map[string]assignment{"A": {"a$ 5$", 1}}, nil},
		"equals sign":        {"A=b=c==", map[string]assignment{"A": {"b=c==", 1}}, nil},
		"colon":              {"A: secret\nB=1", map[string]assignment{"B": {"1", 2}}, []mistake{{1, "is no variable: write NAME=value"}}},
		"no name":            {"=secret", nil, []mistake{{1, "is no variable: write NAME=value"}}},
		"a space in a name":  {"A B=secret", nil, []mistake{{1, "is no variable: write NAME=value"}}},
		"open quote":         {"B=1\nA='secret\nC=2", map[string]assignment{"B": {"1", 1}, "C": {"2", 3}}, []mistake{{2, "has a quote that is not closed"}}},
		"behind a quote":     {"A='secret'secret", nil, []mistake{{1, "has something behind its closing quote: take it out, or put it into the quotes"}}},
		"escaped end":        {`A="secret\"`, nil, []mistake{{1, "has a quote that is not closed"}}},
		"another expression": {"A=${B:?secret}", nil, []mistake{{1, "has a ${ that is none of ${NAME}, ${NAME-default} and ${NAME:-default}: put a value with a plain $ in single quotes"}}},
		"growing": {"A=" + strings.Repeat("x", 40000) + "\nB=$A$A", map[string]assignment{"A": {strings.Repeat("x", 40000), 1}},
			[]mistake{{2, "is too long once the variables in it are replaced"}}},
		"growing in one line": {"A=" + strings.Repeat("x", 60000) + "\nB=" + strings.Repeat("$A", 100_000), map[string]assignment{"A": {strings.Repeat("x", 60000), 1}},
			[]mistake{{2, "is too long once the variables in it are replaced"}}},
		"growing together": {"A=" + strings.Repeat("x", 60000) + strings.Repeat("\nB=$A", 100), map[string]assignment{
			"A": {strings.Repeat("x", 60000), 1}, "B": {strings.Repeat("x", 60000), 69}},
			[]mistake{{70, "is too much: the values up to here are too long once the variables in them are replaced"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, wrong := parseDotenv(test.content, true)
			if !maps.Equal(got, test.want) || !slices.Equal(wrong, test.wrong) {
				t.Errorf("got %v, %v", got, wrong)
			}
		})
	}
}

// FuzzDotenv checks that no file makes the parser panic or grow, and that no problem quotes the file.
func FuzzDotenv(f *testing.F) {
	f.Add("A=1\nexport B='x y' # c\nC=\"a\\n${B:-x}$A\"\n")
	f.Add("JWT_APP_SECRET='a$b'\nPUBLIC_URL=https://meet.example.com:${HTTPS_PORT}\n")
	f.Add("A=$A$A\nA=$A$A\nB=\"\\\\\\$\"\n=\n'\n")
	f.Fuzz(func(t *testing.T, content string) {
		for _, expanded := range []bool{true, false} {
			checkDotenv(t, content, expanded)
		}
	})
}

func checkDotenv(t *testing.T, content string, expanded bool) {
	t.Helper()
	variables, mistakes := parseDotenv(content, expanded)
	lines := strings.Count(content, "\n") + 1
	for name, v := range variables {
		if name == "" || v.line < 1 || v.line > lines || len(v.value) > max(maxValue, len(content)) {
			t.Fatalf("%q is %d bytes at line %d of %d", name, len(v.value), v.line, lines)
		}
	}
	for _, m := range mistakes {
		if m.line < 1 || m.line > lines || len(m.text) > 150 {
			t.Fatalf("mistake %+v of %d lines", m, lines)
		}
	}
}

// TestPlainDotenv checks that a .env file of MiroTalk is read as the package dotenv of Node.js reads it: a password may have a $ in it.
func TestPlainDotenv(t *testing.T) {
	content := "A=x$B${C}$$ # not this\nB='$A'\nC=\"a\\n$A\\$b\"\nD=p#q\n"
	got, wrong := parseDotenv(content, false)
	want := map[string]assignment{"A": {"x$B${C}$$", 1}, "B": {"$A", 2}, "C": {"a\n$A\\$b", 3}, "D": {"p#q", 4}}
	if !maps.Equal(got, want) || len(wrong) > 0 {
		t.Errorf("got %v, %v, want %v", got, wrong, want)
	}
}
