package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// jsError says where a script is not understood, and why.
type jsError struct {
	line int
	text string
}

func (e jsError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// jsValue is the value of a key: a text, or the script that makes it; "" for nothing.
type jsValue struct {
	text string
	line int
}

// readJavaScript returns the values that a script gives to keys: as properties in an object, {key: value}, or of one, object.key =
// value, whatever the object. The last value of a key counts. But an empty value in a block, such as that of an if, takes none
// away, because the block may not be run. The error is a jsError; the values before its place are returned.
func readJavaScript(script string, keys ...string) (map[string]jsValue, error) {
	tokens, err := jsTokens(script)
	values := map[string]jsValue{}
	blocks := []bool{} // for each open bracket, whether it begins a block
	for i, t := range tokens {
		switch {
		case t.is("{"):
			blocks = append(blocks, i == 0 || !tokens[i-1].expects())
		case t.is("(", "["):
			blocks = append(blocks, false)
		case t.is("}", ")", "]") && len(blocks) > 0:
			blocks = blocks[:len(blocks)-1]
		}
		if t.kind != jsName && t.kind != jsString || !slices.Contains(keys, t.text) {
			continue
		}
		at := func(n int) jsToken {
			if i+n < 0 || i+n >= len(tokens) {
				return jsToken{}
			}
			return tokens[i+n]
		}
		var v jsValue
		switch {
		case at(-1).is("{", ",") && at(1).is(":"):
			v = jsExpression(script, tokens[i+2:], false)
		case at(-1).is(".", "?.") && at(1).assigns():
			v = jsExpression(script, tokens[i+2:], true)
		case at(-1).is("[") && at(1).is("]") && at(2).assigns():
			v = jsExpression(script, tokens[i+3:], true)
		default:
			continue
		}
		v.line = t.line
		if v.text != "" || !slices.Contains(blocks, true) {
			values[t.text] = v
		}
	}
	return values, err
}

// jsExpression returns the value of the expression at the beginning of the tokens, which is that of a statement or of a property.
func jsExpression(script string, tokens []jsToken, statement bool) jsValue {
	// No address has so many words. Without a limit, many expressions without an end would each be read to the end of the script.
	const most = 1000
	end, depth := 0, 0
	for ; end < min(len(tokens), most); end++ {
		t := tokens[end]
		if depth == 0 && (t.is("}", ")", "]", ";") || t.is(",") && !statement) {
			break
		}
		// A statement ends with its line if it can (ECMA-262 §12.10).
		if statement && depth == 0 && end > 0 && t.line > tokens[end-1].end && !tokens[end-1].expects() && !t.continues() {
			break
		}
		switch {
		case t.is("(", "[", "{"):
			depth++
		case t.is(")", "]", "}"):
			depth--
		}
	}
	tokens = tokens[:end]
	constant := ""
	for i, t := range tokens {
		switch {
		case i%2 == 0 && t.kind == jsString:
			constant += t.text
		case i%2 == 1 && t.is("+"):
		case len(tokens) == 1 && t.kind == jsName && slices.Contains([]string{"undefined", "null", "false"}, t.text):
			return jsValue{}
		default:
			return jsValue{text: strings.Join(strings.Fields(script[tokens[0].from:tokens[len(tokens)-1].to]), " ")}
		}
	}
	return jsValue{text: constant}
}

// jsToken is a word of a script: a name or number, a text (with its value), a regular expression, or a sign.
type jsToken struct {
	kind      jsKind
	text      string
	from, to  int // in the script
	line, end int // the first and the last
}

type jsKind int

const (
	jsNone jsKind = iota
	jsName
	jsString
	jsOther // a template with expressions, or a regular expression
	jsSign
)

func (t jsToken) is(signs ...string) bool { return t.kind == jsSign && slices.Contains(signs, t.text) }

func (t jsToken) assigns() bool { return t.is("=", "||=", "??=", "&&=", "+=") }

// expects reports whether an expression must follow, so that { begins an object and / a regular expression.
func (t jsToken) expects() bool {
	if t.kind == jsName {
		return slices.Contains([]string{"return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "instanceof"}, t.text)
	}
	return t.kind == jsSign && !t.is(")", "]", "}", ";", "=>", "{", "++", "--")
}

// continues reports whether a token at the beginning of a line continues the expression of the line before.
func (t jsToken) continues() bool { return t.kind == jsSign && !t.is("{", "}", "++", "--", "!", "~") }

// jsSigns are the signs of JavaScript with several characters, the longer ones first.
var jsSigns = strings.Fields(">>>= ... === !== **= <<= >>= >>> &&= ||= ??= => == != <= >= && || ?? ?. ++ -- += -= *= /= %= &= |= ^= ** << >>")

// jsTokens cuts a script into its words, without comments (ECMA-262 §12).
func jsTokens(script string) (tokens []jsToken, err error) {
	line := 1
	for i := 0; i < len(script); {
		last := jsToken{kind: jsSign, text: ";"}
		if len(tokens) > 0 {
			last = tokens[len(tokens)-1]
		}
		n, without := jsBlank(script[i:], i == 0)
		t := jsToken{kind: jsNone}
		if n == 0 && without == "" {
			n, t, without = jsWord(script[i:], last)
		}
		if without != "" {
			return tokens, jsError{line, without + " without an end"}
		}
		t.from, t.to, t.line = i, i+n, line
		line += strings.Count(script[i:i+n], "\n")
		if t.end = line; t.kind != jsNone {
			tokens = append(tokens, t)
		}
		i += n
	}
	return tokens, nil
}

// jsBlank returns the length of the space or comment at the beginning of a script; 0 if there is none. without names a comment
// without an end.
func jsBlank(rest string, first bool) (n int, without string) {
	switch {
	case strings.ContainsRune(" \t\r\n", rune(rest[0])):
		return 1, ""
	case strings.HasPrefix(rest, "\ufeff"):
		return len("\ufeff"), ""
	case strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "<!--"), strings.HasPrefix(rest, "#!") && first:
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return n, ""
		}
		return len(rest), ""
	case strings.HasPrefix(rest, "/*"):
		n := strings.Index(rest[2:], "*/")
		if n < 0 {
			return 0, "a comment"
		}
		return n + 4, ""
	}
	return 0, ""
}

// jsWord returns the word at the beginning of a script, after the word last, and its length. without names a word without an end.
func jsWord(rest string, last jsToken) (n int, t jsToken, without string) {
	switch c := rest[0]; {
	case c == '"', c == '\'', c == '`':
		if n = jsQuoted(rest); n == 0 {
			return 0, t, "a text"
		}
		if c == '`' && strings.Contains(rest[:n], "${") {
			return n, jsToken{kind: jsOther, text: rest[:n]}, ""
		}
		return n, jsToken{kind: jsString, text: jsUnquoted(rest[1 : n-1])}, ""
	case c == '/' && (last.expects() || last.is(";", "{")):
		if n = jsRegexp(rest); n == 0 {
			return 0, t, "a regular expression"
		}
		return n, jsToken{kind: jsOther, text: rest[:n]}, ""
	case jsInName(rest) > 0:
		for more := jsInName(rest); more > 0; more = jsInName(rest[n:]) {
			n += more
		}
		return n, jsToken{kind: jsName, text: rest[:n]}, ""
	}
	text := rest[:1]
	for _, sign := range jsSigns {
		if strings.HasPrefix(rest, sign) {
			text = sign
			break
		}
	}
	return len(text), jsToken{kind: jsSign, text: text}, ""
}

// jsInName returns the length of the first character if it can be part of a name or number, otherwise 0.
func jsInName(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == '_' || r == '$' || r == '#' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || n > 1 {
		return n
	}
	return 0
}

// jsQuoted returns the length of the text at the beginning of s with its quotes; 0 if it has no end. In ${…} of a template there
// may be texts as well.
func jsQuoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == s[0]:
			return i + 1
		case s[i] == '\n' && s[0] != '`':
			return 0
		case s[0] == '`' && strings.HasPrefix(s[i:], "${"):
			depth := 0
			for i++; i < len(s); i++ {
				if c := s[i]; c == '{' {
					depth++
				} else if c == '}' {
					if depth--; depth == 0 {
						break
					}
				} else if c == '"' || c == '\'' || c == '`' {
					n := jsQuoted(s[i:])
					if n == 0 {
						return 0
					}
					i += n - 1
				}
			}
		}
	}
	return 0
}

// jsUnquoted returns the value of a text. An escape stands for the character after it. The escapes with another meaning are part of no
// address.
func jsUnquoted(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' { // the text goes on in the next line
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// jsRegexp returns the length of the regular expression at the beginning of s; 0 if it has no end.
func jsRegexp(s string) int {
	class := false
	for i := 1; i < len(s) && s[i] != '\n'; i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '[':
			class = true
		case c == ']':
			class = false
		case c == '/' && !class:
			return i + 1 // its flags count as a name, which does no harm
		}
	}
	return 0
}
