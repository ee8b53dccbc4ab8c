package token

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This is JSON (RFC 8259) as strictly as I-JSON (RFC 7493) wants it, which encoding/json cannot be told to be: it
// keeps the last of two members with one name, takes names in any case, and puts U+FFFD for what it cannot read, so
// that two different tokens come to name one room.

// maxDepth is how many objects and arrays may stand inside each other. Jitsi's own claims need three.
const maxDepth = 16

// object is a JSON object: its members in the order of the text; no two names differ only in case.
type object []member

type member struct {
	name  string
	value any // nil, bool, number, string, []any or object
}

// number is a JSON number as it was written.
type number string

// get returns the member of that very name.
func (o object) get(name string) (value any, present bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// child returns the object of that name, empty if there is none.
func (o object) child(name string) object {
	value, _ := o.get(name)
	child, _ := value.(object)
	return child
}

// spells tells whether o writes names as they are, where it has them. strings.EqualFold folds as encoding/json does.
func (o object) spells(names []string) bool {
	for _, m := range o {
		for _, name := range names {
			if m.name != name && strings.EqualFold(m.name, name) {
				return false
			}
		}
	}
	return true
}

var (
	errSyntax    = errors.New("not JSON")
	errUTF8      = errors.New("not UTF-8")
	errCharacter = errors.New("a character that may not be in a string")
	errDepth     = errors.New("nested too deep")
	errDuplicate = errors.New("a name that occurs twice")
	errNoObject  = errors.New("not an object")
	errTrailing  = errors.New("something after the object")
)

// parseObject reads text as one object and nothing else.
func parseObject(text string) (object, error) {
	if !utf8.ValidString(text) {
		return nil, errUTF8
	}
	p := parser{rest: text}
	value, err := p.value(maxDepth)
	if err != nil {
		return nil, err
	}
	o, isObject := value.(object)
	if !isObject {
		return nil, errNoObject
	}
	p.skipSpace()
	if p.rest != "" {
		return nil, errTrailing
	}
	return o, nil
}

type parser struct {
	rest string // what is still to be read
}

// value reads any value that holds at most depth levels.
func (p *parser) value(depth int) (any, error) {
	switch {
	case p.take("{"):
		return p.object(depth)
	case p.take("["):
		return p.array(depth)
	case p.take(`"`):
		return p.string()
	case p.take("true"):
		return true, nil
	case p.take("false"):
		return false, nil
	case p.take("null"):
		return nil, nil
	}
	return p.number()
}

// object reads what follows a "{".
func (p *parser) object(depth int) (object, error) {
	if depth == 0 {
		return nil, errDepth
	}
	var o object
	names := map[string]bool{}
	for !p.take("}") {
		if len(o) > 0 && !p.take(",") {
			return nil, errSyntax
		}
		if !p.take(`"`) {
			return nil, errSyntax
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		folded := fold(name)
		if names[folded] {
			return nil, errDuplicate
		}
		names[folded] = true
		if !p.take(":") {
			return nil, errSyntax
		}
		value, err := p.value(depth - 1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, value})
	}
	return o, nil
}

// array reads what follows a "[".
func (p *parser) array(depth int) ([]any, error) {
	if depth == 0 {
		return nil, errDepth
	}
	elements := []any{}
	for !p.take("]") {
		if len(elements) > 0 && !p.take(",") {
			return nil, errSyntax
		}
		value, err := p.value(depth - 1)
		if err != nil {
			return nil, err
		}
		elements = append(elements, value)
	}
	return elements, nil
}

// string reads what follows a quotation mark.
func (p *parser) string() (string, error) {
	var text strings.Builder
	for {
		end := strings.IndexFunc(p.rest, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' })
		if end < 0 {
			return "", errSyntax
		}
		text.WriteString(p.rest[:end])
		last := p.rest[end]
		p.rest = p.rest[end+1:]
		switch last {
		case '"':
			return text.String(), nil
		case '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			text.WriteRune(r)
		default:
			return "", errCharacter
		}
	}
}

// escape reads what follows a backslash (RFC 8259 §7).
func (p *parser) escape() (rune, error) {
	if p.rest == "" {
		return 0, errSyntax
	}
	letter := p.rest[0]
	p.rest = p.rest[1:]
	switch letter {
	case '"', '\\', '/':
		return rune(letter), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return p.unicode()
	}
	return 0, errSyntax
}

// unicode reads what follows \u, and the second half if that is a surrogate. Half a pair is no character, and U+0000
// ends the string for every reader written in C.
func (p *parser) unicode() (rune, error) {
	r, err := p.hex()
	if err != nil {
		return 0, err
	}
	if utf16.IsSurrogate(r) {
		var found bool
		if p.rest, found = strings.CutPrefix(p.rest, `\u`); !found {
			return 0, errCharacter
		}
		low, err := p.hex()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r == unicode.ReplacementChar {
			return 0, errCharacter
		}
	}
	if r == 0 {
		return 0, errCharacter
	}
	return r, nil
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (rune, error) {
	if len(p.rest) < 4 {
		return 0, errSyntax
	}
	r, err := strconv.ParseUint(p.rest[:4], 16, 16)
	if err != nil {
		return 0, errSyntax
	}
	p.rest = p.rest[4:]
	return rune(r), nil
}

func (p *parser) number() (number, error) {
	text := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "+-.0123456789eE"))]
	// Made of these characters, what is JSON can only be a number.
	if !json.Valid([]byte(text)) {
		return "", errSyntax
	}
	p.rest = p.rest[len(text):]
	return number(text), nil
}

// take skips space, and text if that comes next. It returns whether it did.
func (p *parser) take(text string) (found bool) {
	p.skipSpace()
	p.rest, found = strings.CutPrefix(p.rest, text)
	return found
}

func (p *parser) skipSpace() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
}

// fold returns one form for all names that are equal but for case: each letter becomes the last of its case
// variants, so that k, K and the Kelvin sign are one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for next := unicode.SimpleFold(r); next > r; next = unicode.SimpleFold(r) {
			r = next
		}
		return r
	}, name)
}
