package stream

import (
	"bytes"
	"encoding/xml"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// tokens reads what servers usually write: names in ASCII, and no entities but the five of XML. The first other thing, and all that
// follows, is left to encoding/xml, so that tokens accepts and refuses what that does. Both read raw tokens: the Decoder that reads
// from here finds out whether tags match, and which namespaces they are in. encoding/xml alone takes twice as long, which was
// a fifth of the time that usher spent on a join.
type tokens struct {
	rest  []byte
	ends  xml.Name     // of an element without content, of which the start has been read
	other *xml.Decoder // reads the rest; nil while that is as usual
}

// Token implements xml.TokenReader.
func (t *tokens) Token() (xml.Token, error) {
	if t.other == nil {
		if tok := t.usual(); tok != nil {
			return tok, nil
		}
		if len(t.rest) == 0 {
			return nil, io.EOF
		}
		t.other = xml.NewDecoder(bytes.NewReader(t.rest))
	}
	return t.other.RawToken()
}

// usual returns the next token, and nil if there is none, or encoding/xml must read it.
func (t *tokens) usual() xml.Token {
	switch b := t.rest; {
	case t.ends.Local != "":
		end := xml.EndElement{Name: t.ends}
		t.ends = xml.Name{}
		return end
	case len(b) < 2:
		return nil
	case b[0] != '<':
		return t.text()
	case b[1] == '/':
		return t.end()
	default:
		return t.start()
	}
}

func (t *tokens) text() xml.Token {
	n := bytes.IndexByte(t.rest, '<')
	if n < 0 {
		return nil
	}
	text, ok := unescaped(t.rest[:n:n])
	if !ok || bytes.Contains(t.rest[:n], []byte("]]>")) { // the latter must not stand in a text (XML §2.4)
		return nil
	}
	t.rest = t.rest[n:]
	return xml.CharData(text)
}

func (t *tokens) end() xml.Token {
	name, b := cutName(t.rest[2:])
	if b = trimSpace(b); name.Local == "" || len(b) == 0 || b[0] != '>' {
		return nil
	}
	t.rest = b[1:]
	return xml.EndElement{Name: name}
}

func (t *tokens) start() xml.Token {
	name, b := cutName(t.rest[1:])
	var few [8]xml.Attr
	attrs := few[:0]
	for name.Local != "" {
		b = trimSpace(b)
		switch {
		case len(b) > 0 && b[0] == '>':
			t.rest = b[1:]
			return xml.StartElement{Name: name, Attr: slices.Clone(attrs)}
		case len(b) > 1 && b[0] == '/' && b[1] == '>':
			t.rest, t.ends = b[2:], name
			return xml.StartElement{Name: name, Attr: slices.Clone(attrs)}
		}
		a, rest, ok := cutAttr(b)
		if !ok {
			return nil
		}
		attrs, b = append(attrs, a), rest
	}
	return nil
}

// cutAttr cuts an attribute off.
func cutAttr(b []byte) (a xml.Attr, rest []byte, ok bool) {
	a.Name, b = cutName(b)
	if b = trimSpace(b); a.Name.Local == "" || len(b) == 0 || b[0] != '=' {
		return a, nil, false
	}
	if b = trimSpace(b[1:]); len(b) == 0 || b[0] != '\'' && b[0] != '"' {
		return a, nil, false
	}
	n := bytes.IndexByte(b[1:], b[0])
	if n < 0 {
		return a, nil, false
	}
	value, ok := unescaped(b[1 : 1+n])
	a.Value = string(value)
	return a, b[n+2:], ok
}

// cutName cuts a name off. It is empty if it is not one of ASCII, with at most one prefix.
func cutName(b []byte) (name xml.Name, rest []byte) {
	n := 0
	for n < len(b) && inName(b[n], n == 0) {
		n++
	}
	if n == len(b) || b[n] >= utf8.RuneSelf {
		return name, nil
	}
	name, known := usualNames[string(b[:n])]
	if !known {
		name = splitName(string(b[:n]))
	}
	return name, b[n:]
}

// splitName splits a name at its prefix. The result is empty if there is more than one.
func splitName(s string) (name xml.Name) {
	prefix, local, prefixed := strings.Cut(s, ":")
	switch {
	case !prefixed:
		name.Local = prefix
	case prefix != "" && local != "" && !strings.Contains(local, ":"):
		name.Space, name.Local = prefix, local
	}
	return name
}

// usualNames are the names of which nearly all stanzas consist. They are made only once: of a stanza that usher's module tells, they were
// 14 of 48 allocations.
var usualNames = func() map[string]xml.Name {
	names := make(map[string]xml.Name)
	for name := range strings.FieldsSeq(`affiliation boot conference focusjid from id iq item jid joined left machine-uid message n name nick
		occupant-id presence property ready role room session-id status told to token type value x xml:lang xmlns`) {
		names[name] = splitName(name)
	}
	return names
}()

func inName(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':' || !first && (c >= '0' && c <= '9' || c == '-' || c == '.')
}

// trimSpace is bytes.TrimLeft for what XML calls white space.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// entities are those that every XML parser knows (XML §4.6).
var entities = map[string]byte{"lt": '<', "gt": '>', "amp": '&', "apos": '\'', "quot": '"'}

// unescaped returns a text without its entities; false if something in it is unusual.
func unescaped(b []byte) (text []byte, ok bool) {
	escaped := false
	for i := 0; i < len(b); {
		c, n := rune(b[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRune(b[i:])
		}
		switch i += n; {
		case c == '&':
			escaped = true
		case c < ' ' && c != '\t' && c != '\n', c == '<', c == utf8.RuneError, c == '\uFFFE', c == '\uFFFF':
			return nil, false
		}
	}
	if !escaped {
		return b, true
	}
	for {
		before, after, escaped := bytes.Cut(b, []byte("&"))
		text = append(text, before...)
		if !escaped {
			return text, true
		}
		name, after, ended := bytes.Cut(after, []byte(";"))
		c, known := entities[string(name)]
		if !known || !ended {
			return nil, false
		}
		text, b = append(text, c), after
	}
}
