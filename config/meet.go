package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// Meet is what a configuration of the web page (jitsi-meet's config.js) says, as far as it is of interest to usher.
type Meet struct {
	File string
	// ConferenceRequestURL is where clients send their conference requests by HTTP, instead of by XMPP to usher.
	ConferenceRequestURL MeetValue
	// TokenAuthURL is where the page sends people to log in.
	TokenAuthURL MeetValue
}

// MeetValue is the value of a key of config.js; zero where there is none.
type MeetValue struct {
	// Text is the value, if it is a constant text, and else the JavaScript that makes it. Source is where it stands.
	Text, Source string
}

// meetFolder is where Debian's packages keep the web page's configurations, one for each domain.
const meetFolder = "/etc/jitsi/meet"

// readMeet reads the web page's configurations. What cannot be understood of them is warned of: it is for browsers to run.
func (l *loader) readMeet(files []string, at place) (all []Meet) {
	for _, name := range files {
		content, ok := l.open(name, at)
		if !ok {
			continue
		}
		from := func(line int) place {
			return place{source: fmt.Sprintf("meet %s:%d", shown(name), line), layer: layerMeet, file: name, line: line}
		}
		values, err := readJavaScript(string(content), "conferenceRequestUrl", "tokenAuthUrl")
		if bad := (jsError{}); errors.As(err, &bad) {
			l.warnings = append(l.warnings, Problem{Source: from(bad.line).source, at: from(bad.line),
				Text: "is not understood from here on (" + bad.text + "), so what it says is not known"})
		}
		m := Meet{File: name}
		if v := values["conferenceRequestUrl"]; v.text != "" {
			m.ConferenceRequestURL = MeetValue{v.text, from(v.line).source}
			f := m.findings()[0]
			l.warnings = append(l.warnings, Problem{Source: f.Source, Text: f.Text + ": " + f.Mend, at: from(v.line)})
		}
		login := tokenAuthURL{known: err == nil, at: place{source: "meet " + shown(name), layer: layerMeet, file: name}}
		if v := values["tokenAuthUrl"]; v.text != "" {
			m.TokenAuthURL = MeetValue{v.text, from(v.line).source}
			login = tokenAuthURL{set: true, known: true, at: from(v.line)}
		}
		l.tokenAuthURL = append(l.tokenAuthURL, login)
		all = append(all, m)
	}
	return all
}

// findMeet returns the configurations of the web page that are in a folder for the virtual hosts of Prosody's configuration.
func (l *loader) findMeet(folder string) (files []string) {
	if l.prosody == nil || folder == "" {
		return nil
	}
	for _, host := range l.prosody.whole.Hosts {
		file := filepath.Join(folder, filepath.Base(host.Name)+"-config.js")
		if _, err := smallfile.Read(file, maxSource); err == nil && !host.Component {
			files = append(files, file)
		}
	}
	return files
}

func (m Meet) findings() []Finding {
	if m.ConferenceRequestURL.Text == "" {
		return nil
	}
	return []Finding{{Defeats, m.ConferenceRequestURL.Source,
		fmt.Sprintf("conferenceRequestUrl is set (%s): the web page sends its requests to Jicofo by HTTP, past usher, so that nobody is given an affiliation",
			m.ConferenceRequestURL.Text),
		"take conferenceRequestUrl out of this file (docker: without JAAS_APP_ID, and out of custom-config.js)"}}
}

// CompareMeet tells what the web page's configurations say that usher cannot work with. There are none unless sources.meet
// names them.
func (c *Config) CompareMeet() []Finding {
	var all []Finding
	for _, m := range c.Meet {
		all = append(all, m.findings()...)
	}
	return all
}

// jsError is where a script is not understood, and why.
type jsError struct {
	line int
	text string
}

func (e jsError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// jsValue is what a script sets a key to: a text, or the script that makes it; "" for nothing.
type jsValue struct {
	text string
	line int
}

// readJavaScript returns what a script sets keys to: as properties in an object, {key: value}, or of one, object.key = value.
// Which object that is, is not looked at. Of several values the last counts, but one that may not come to be, in a block
// such as that of an if, takes none away. The error is a jsError; what comes before its place is returned.
func readJavaScript(script string, keys ...string) (map[string]jsValue, error) {
	tokens, err := jsTokens(script)
	values := map[string]jsValue{}
	blocks := []bool{} // of each bracket that is open: whether it is that of a block
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

// jsExpression returns the value of the expression that begins with the tokens: of a statement, or else of a property.
func jsExpression(script string, tokens []jsToken, statement bool) jsValue {
	// No address has so many words. Each of many expressions without an end would be read up to the end of the script.
	const most = 1000
	end, depth := 0, 0
	for ; end < min(len(tokens), most); end++ {
		t := tokens[end]
		if depth == 0 && (t.is("}", ")", "]", ";") || t.is(",") && !statement) {
			break
		}
		// A statement ends with its line, where it could (ECMA-262 §12.10).
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

// continues reports whether a token at the beginning of a line goes on with the expression of the line before.
func (t jsToken) continues() bool { return t.kind == jsSign && !t.is("{", "}", "++", "--", "!", "~") }

// signs are those of JavaScript that have several characters, the longer ones first.
var jsSigns = strings.Fields(">>>= ... === !== **= <<= >>= >>> &&= ||= ??= => == != <= >= && || ?? ?. ++ -- += -= *= /= %= &= |= ^= ** << >>")

// jsTokens cuts a script into its words, without comments (ECMA-262 §12).
func jsTokens(script string) (tokens []jsToken, err error) {
	line := 1
	last := func() jsToken {
		if len(tokens) == 0 {
			return jsToken{kind: jsSign, text: ";"}
		}
		return tokens[len(tokens)-1]
	}
	for i := 0; i < len(script); {
		rest, from, first := script[i:], i, line
		kind, text := jsSign, ""
		switch c := rest[0]; {
		case c == '\n':
			line++
			i++
			continue
		case c == ' ', c == '\t', c == '\r', strings.HasPrefix(rest, "\ufeff"):
			i++
			if c == '\xef' {
				i += 2
			}
			continue
		case strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "<!--"), strings.HasPrefix(rest, "#!") && i == 0:
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				i += n
			} else {
				i = len(script)
			}
			continue
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return tokens, jsError{line, "a comment without an end"}
			}
			i += n + 4
			line += strings.Count(script[from:i], "\n")
			continue
		case c == '"', c == '\'', c == '`':
			n := jsQuoted(rest)
			if n == 0 {
				return tokens, jsError{line, "a text without an end"}
			}
			i += n
			kind, text = jsString, jsUnquoted(rest[1:n-1])
			if c == '`' && strings.Contains(rest[:n], "${") {
				kind, text = jsOther, rest[:n]
			}
		case c == '/' && (last().expects() || last().is(";", "{")):
			n := jsRegexp(rest)
			if n == 0 {
				return tokens, jsError{line, "a regular expression without an end"}
			}
			i += n
			kind, text = jsOther, rest[:n]
		case jsInName(rest) > 0:
			for n := jsInName(script[i:]); n > 0; n = jsInName(script[i:]) {
				i += n
			}
			kind, text = jsName, script[from:i]
		default:
			text = rest[:1]
			for _, sign := range jsSigns {
				if strings.HasPrefix(rest, sign) {
					text = sign
					break
				}
			}
			i += len(text)
		}
		line += strings.Count(script[from:i], "\n")
		tokens = append(tokens, jsToken{kind, text, from, i, first, line})
	}
	return tokens, nil
}

// jsInName is the length of the first character if it can be part of a name or number, else 0.
func jsInName(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == '_' || r == '$' || r == '#' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || n > 1 {
		return n
	}
	return 0
}

// jsQuoted is the length of the text at the beginning of s with its quotes, 0 if it has no end. What is in ${…} of a template
// may have texts in it, too.
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

// jsUnquoted is the value of a text: escapes stand for the character after them, but for those that have a meaning and are no
// part of any address.
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

// jsRegexp is the length of the regular expression at the beginning of s, 0 if it has no end.
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
			return i + 1 // its flags are a name, which does no harm
		}
	}
	return 0
}
