package adopt

import (
	"fmt"
	"strings"
)

// withoutRequestURL returns a config.js of the web page in which the line with conferenceRequestUrl is a comment. why says why that
// cannot be done safely: the line must set that key, and nothing else, from its beginning to its end.
func withoutRequestURL(text string, number int) (_, why string) {
	lines := strings.SplitAfter(text, "\n")
	if number < 1 || number > len(lines) {
		return "", "the line is not there"
	}
	line := lines[number-1]
	set := strings.TrimLeft(line, " \t")
	set = strings.TrimPrefix(set, "config.")
	rest, ok := strings.CutPrefix(set, "conferenceRequestUrl")
	if !ok {
		return "", "the line has something before it"
	}
	if rest = strings.TrimLeft(rest, " \t"); rest == "" || rest[0] != ':' && rest[0] != '=' {
		return "", "the line is not understood"
	}
	if why = wholeValue(rest[1:]); why != "" {
		return "", why
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	lines[number-1] = indent + "// usher: " + strings.TrimLeft(line, " \t")
	return strings.Join(lines, ""), ""
}

// wholeValue says why what follows on a line is not a value with the comma or semicolon that ends it; "" if it is.
func wholeValue(rest string) (why string) {
	var last byte
	depth := 0
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			continue
		case strings.HasPrefix(rest[i:], "//"):
			i = len(rest)
			continue
		case c == '/' || c == '`':
			return "the line has a comment, a template or a regular expression in its value"
		case last == ';' || last == ',' && depth == 0:
			return "something follows on the same line"
		case c == '"' || c == '\'':
			n := 1
			for i+n < len(rest) && rest[i+n] != c {
				if rest[i+n] == '\\' {
					n++
				}
				n++
			}
			i, last = i+n, c
			if i >= len(rest) {
				return "a text goes on in the next line"
			}
			continue
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		}
		last = rest[i]
		if depth < 0 {
			return "the line closes a bracket of a line before"
		}
	}
	if depth != 0 || last != ',' && last != ';' {
		return "the value may go on in the next line"
	}
	return ""
}

// variable is a line that a .env file must have.
type variable struct {
	name, value string
	// holds reports whether a present value is as good.
	holds func(value string) bool
	// adds makes the new value of a present one; nil if the present one does not matter.
	adds func(value string) string
}

// saying returns a .env file that has these variables. The last line of a name counts, so usher's lines are at the end, and nothing else
// is touched. values are those of the file without usher's lines. faulty is the name of a variable that cannot be written.
func saying(rest string, values map[string]string, wanted []variable) (_, faulty string) {
	var lines []string
	for _, w := range wanted {
		now, set := values[w.name]
		if set && w.holds(now) {
			continue
		}
		value := w.value
		if now != "" && w.adds != nil {
			value = w.adds(now)
		}
		if strings.ContainsAny(value, " \t\n#\"$\\*(") {
			if strings.Contains(value, "'") {
				return "", w.name
			}
			value = "'" + value + "'"
		}
		lines = append(lines, fmt.Sprintf("%s=%s\n", w.name, value))
	}
	if len(lines) == 0 {
		return rest, ""
	}
	if rest != "" && !strings.HasSuffix(rest, "\n") {
		rest += "\n"
	}
	return rest + ownBegins + "\n" + strings.Join(lines, "") + ownEnds + "\n", ""
}
