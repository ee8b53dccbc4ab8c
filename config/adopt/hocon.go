package adopt

import (
	"slices"
	"strings"
)

// option is what jicofo.conf must say.
type option struct {
	path, value string
	// accepts are other ways to write the value (HOCON, "Conversion of … to boolean").
	accepts []string
	why     string
}

func (o option) line() string { return o.path + " = " + o.value }

// jicofoWanted returns the options by which Jicofo leaves the decision to usher (config/gate/README.md, "Jicofo").
func jicofoWanted(domain string) []option {
	off := []string{"false", "no", "off"}
	return []option{
		{"jicofo.conference.enable-auto-owner", "false", off, "usher makes the owners"},
		{"jicofo.authentication.enabled", "false", off, "usher decides who opens a room"},
		{"jicofo.xmpp.client.client-proxy", `"` + domain + `"`, []string{domain}, "Jicofo believes usher who asks"},
	}
}

// The lines around usher's own in a file that is not its own.
const (
	ownBegins = `# usher's lines ("usher adopt") begin here. What stands above, and is repeated here, no longer counts.`
	ownEnds   = "# usher's lines end here."
)

// fault is what is wrong at a line.
type fault struct {
	line int
	text string
}

// jicofoSaying returns a jicofo.conf that says what is wanted. In HOCON the last value of a path counts, however it is written; so usher's
// lines at the end of the root object are enough, and nothing else in the file is touched. A file that says it already stays as it is.
func jicofoSaying(text string, wanted []option) (string, *fault) {
	rest := withoutOwn(text)
	h := readHOCON(rest)
	if h.fault != nil {
		return "", h.fault
	}
	var lines []string
	for _, w := range wanted {
		value, set := h.values[w.path]
		if h.certain && set && (value == w.value || slices.Contains(w.accepts, value)) {
			continue
		}
		lines = append(lines, h.indent+w.line()+" # "+w.why+"\n")
	}
	if len(lines) == 0 {
		return rest, nil
	}
	before, after := rest[:h.end], rest[h.end:]
	if before != "" && !strings.HasSuffix(before, "\n") {
		before += "\n"
	}
	return before + h.indent + ownBegins + "\n" + strings.Join(lines, "") + h.indent + ownEnds + "\n" + after, nil
}

// withoutOwn returns a text without usher's lines.
func withoutOwn(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch t := strings.TrimSpace(line); {
		case t == ownBegins:
			inside = true
		case inside && t == ownEnds:
			inside = false
		case !inside:
			b.WriteString(line)
		}
	}
	if inside { // the end is gone: these lines are no longer usher's
		return text
	}
	return b.String()
}

// hocon is what is read of a HOCON file (github.com/lightbend/config, HOCON.md).
type hocon struct {
	// values are the texts of simple values by their paths. They are all that count if certain; it is false if the file includes others.
	values  map[string]string
	certain bool
	// end is the offset at which the root object ends: that of the file, or of its last brace. indent is for lines there.
	end    int
	indent string
	fault  *fault

	tokens []hoconToken
	at     int
	size   int // of the file
}

// hoconToken is a word of the file: a sign, a new line, or a text. Comments are left out.
type hoconToken struct {
	kind     byte // one of {}[],:=\n, + for +=, " for a quoted text, a for another, $ for a substitution
	text     string
	from, to int
	line     int
}

// readHOCON reads a file as far as usher needs it.
func readHOCON(text string) *hocon {
	h := &hocon{values: map[string]string{}, certain: true, end: len(text), size: len(text)}
	if h.cut(text); h.fault != nil {
		return h
	}
	h.lines()
	if h.peek().kind == '{' {
		open := h.next()
		h.object("", open)
		if h.fault == nil {
			h.end, h.indent = h.tokens[h.at-1].from, "  "
			if start := strings.LastIndexByte(text[:h.end], '\n') + 1; strings.TrimSpace(text[start:h.end]) == "" {
				h.end = start // usher's lines are lines of their own, before that of the brace
			}
		}
		if h.lines(); h.fault == nil && h.at < len(h.tokens) {
			h.fail(h.peek(), "something follows the object in braces, which Jicofo does not understand")
		}
		return h
	}
	h.fields("", hoconToken{})
	return h
}

func (h *hocon) fail(at hoconToken, text string) {
	if h.fault == nil {
		h.fault = &fault{at.line, text}
	}
}

// peek returns the next token; at the end one of kind 0.
func (h *hocon) peek() hoconToken {
	if h.at < len(h.tokens) {
		return h.tokens[h.at]
	}
	end := hoconToken{from: h.size, to: h.size, line: 1}
	if len(h.tokens) > 0 {
		end.line = h.tokens[len(h.tokens)-1].line
	}
	return end
}

func (h *hocon) next() hoconToken {
	t := h.peek()
	if h.at < len(h.tokens) {
		h.at++
	}
	return t
}

// lines skips new lines.
func (h *hocon) lines() {
	for h.peek().kind == '\n' {
		h.at++
	}
}

// object reads the fields of an object behind its brace, and the closing brace.
func (h *hocon) object(path string, open hoconToken) {
	if h.fields(path, open); h.fault != nil {
		return
	}
	if h.peek().kind != '}' {
		h.fail(open, "this brace is never closed")
		return
	}
	h.next()
}

// fields reads fields until a closing brace, or the end.
func (h *hocon) fields(path string, open hoconToken) {
	for h.fault == nil {
		switch t := h.peek(); t.kind {
		case '\n', ',':
			h.next()
		case 0:
			return
		case '}':
			if open.kind == 0 {
				h.fail(t, "this brace closes nothing")
			}
			return
		case '"', 'a':
			h.field(path)
		default:
			h.fail(t, "a name is expected here")
		}
	}
}

// field reads one field: a path, and its value.
func (h *hocon) field(path string) {
	first := h.peek()
	if first.kind == 'a' && strings.HasPrefix(first.text+" ", "include ") {
		for t := h.peek(); t.kind != '\n' && t.kind != 0 && t.kind != '}' && t.kind != ','; t = h.peek() {
			h.next()
		}
		h.certain = false
		return
	}
	key := ""
	for t := h.peek(); t.kind == '"' || t.kind == 'a'; t = h.peek() {
		key += h.next().text
	}
	full := strings.TrimSpace(key)
	if path != "" {
		full = path + "." + full
	}
	switch t := h.peek(); t.kind {
	case '{':
		h.value(full, false)
	case ':', '=', '+':
		h.next()
		h.lines()
		h.value(full, t.kind == '+')
	default:
		h.fail(first, "this name has no value")
	}
}

// value reads the value of a path: parts that are put together, up to the end of the line or a comma.
func (h *hocon) value(path string, adds bool) {
	var parts []string
	objects, simple := 0, true
	for start := h.at; h.fault == nil; {
		switch t := h.peek(); t.kind {
		case '{':
			h.next()
			objects++
			h.object(path, t)
			continue
		case '[':
			h.list()
			simple = false
			continue
		case '"', 'a':
			parts = append(parts, h.next().text)
			continue
		case '$':
			h.next()
			simple, h.certain = false, false
			continue
		default:
			if h.at == start {
				h.fail(t, "a value is expected here")
			}
		}
		break
	}
	if objects > 0 && len(parts) == 0 {
		return
	}
	for name := range h.values { // what the path had before is gone
		if strings.HasPrefix(name, path+".") {
			delete(h.values, name)
		}
	}
	delete(h.values, path)
	if simple && !adds && objects == 0 {
		h.values[path] = strings.TrimSpace(strings.Join(parts, ""))
	}
}

// list skips a list.
func (h *hocon) list() {
	open := h.next()
	for depth := 1; depth > 0; {
		switch t := h.next(); t.kind {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case 0:
			h.fail(open, "this bracket is never closed")
			return
		}
	}
}

// cut cuts a text into tokens.
func (h *hocon) cut(text string) {
	line := 1
	for i := 0; i < len(text) && h.fault == nil; {
		n, kind := 1, byte(0)
		word := ""
		switch c := text[i]; {
		case c == '\n':
			kind = '\n'
		case strings.IndexByte(" \t\r", c) >= 0, strings.HasPrefix(text[i:], "\ufeff"):
			if c == 0xEF {
				n = len("\ufeff")
			}
		case c == '#' || strings.HasPrefix(text[i:], "//"):
			if n = strings.IndexByte(text[i:], '\n'); n < 0 {
				n = len(text) - i
			}
		case strings.HasPrefix(text[i:], "+="):
			n, kind = 2, '+'
		case strings.IndexByte("{}[],:=", c) >= 0:
			kind = c
		case c == '"':
			n, word = hoconQuoted(text[i:])
			kind = '"'
		case strings.HasPrefix(text[i:], "${"):
			n, kind = strings.IndexByte(text[i:], '}')+1, '$'
		default:
			n, kind = hoconPlain(text[i:]), 'a'
			word = text[i : i+n]
		}
		if n <= 0 {
			h.fault = &fault{line, "a text or a substitution begins here, and does not end"}
			return
		}
		if kind != 0 {
			h.tokens = append(h.tokens, hoconToken{kind, word, i, i + n, line})
		}
		line += strings.Count(text[i:i+n], "\n")
		i += n
	}
}

// hoconQuoted returns the length of the quoted text at the beginning, and its value; 0 if it has no end. A text in three quotes may go
// over lines.
func hoconQuoted(text string) (int, string) {
	const three = `"""`
	if strings.HasPrefix(text, three) {
		n := strings.Index(text[3:], three)
		if n < 0 {
			return 0, ""
		}
		end := 3 + n + 3
		for end < len(text) && text[end] == '"' { // quotes more than three belong to the text
			end++
		}
		return end, text[3 : end-3]
	}
	for i := 1; i < len(text) && text[i] != '\n'; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1, text[1:i]
		}
	}
	return 0, ""
}

// hoconPlain returns the length of the text without quotes at the beginning. Spaces in it belong to it.
func hoconPlain(text string) int {
	for i := range len(text) {
		if strings.IndexByte("\n{}[],:=+#\"$", text[i]) >= 0 && i > 0 || strings.HasPrefix(text[i:], "//") {
			return i
		}
	}
	return len(text)
}
