// Package strictjson reads JSON (RFC 8259) as strictly as I-JSON (RFC 7493) wants it. encoding/json cannot be told to: it keeps
// the last of two members of one name, takes names in any case, and puts U+FFFD for what it cannot read. Then two programs read
// one text as two things: a token for two rooms, or a set of keys that is not the set that somebody else has checked.
//
// Refused are: text that is not UTF-8, names that occur twice in one object, U+0000 and half surrogates in a string, nesting
// deeper than [MaxDepth], and anything before or after the one object. Errors quote nothing of the text.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how many objects and arrays may stand inside each other. Jitsi's claims and JWK Sets need three.
const MaxDepth = 16

// Object is a JSON object: its members in the order of the text.
type Object []Member

// Member is one member of an object.
type Member struct {
	Name  string
	Value any // nil, bool, Number, string, []any or Object
}

// Number is a JSON number as it was written.
type Number string

// Get returns the value of the member of that very name.
func (o Object) Get(name string) (value any, present bool) {
	for _, m := range o {
		if m.Name == name {
			return m.Value, true
		}
	}
	return nil, false
}

// Child returns the object of that name, empty if there is none.
func (o Object) Child(name string) Object {
	value, _ := o.Get(name)
	child, _ := value.(Object)
	return child
}

// Text returns the string of that name. isText is false if there is none, or no string.
func (o Object) Text(name string) (text string, isText bool) {
	value, _ := o.Get(name)
	text, isText = value.(string)
	return text, isText
}

// Spells reports whether o has no name that differs from one of these only in case. strings.EqualFold folds as encoding/json
// does.
func (o Object) Spells(names []string) bool {
	for _, m := range o {
		for _, name := range names {
			if m.Name != name && strings.EqualFold(m.Name, name) {
				return false
			}
		}
	}
	return true
}

// What is wrong with a text.
var (
	ErrSyntax    = errors.New("not JSON")
	ErrUTF8      = errors.New("not JSON: not UTF-8")
	ErrCharacter = errors.New("not strict JSON: a character that may not be in a string")
	ErrDepth     = fmt.Errorf("JSON nested deeper than %d", MaxDepth)
	ErrDuplicate = errors.New("JSON with a name twice in one object")
	ErrNoObject  = errors.New("not a JSON object")
	ErrTrailing  = errors.New("not JSON: something after the object")
)

// Parse reads a text as one object and nothing else.
func Parse(text string) (Object, error) { return parse(parser{rest: text}) }

// ParseFolded is Parse for a text that a reader may read without regard to case, as encoding/json does: it refuses also two
// names in one object that differ only in case.
func ParseFolded(text string) (Object, error) { return parse(parser{rest: text, folds: true}) }

func parse(p parser) (Object, error) {
	if !utf8.ValidString(p.rest) {
		return nil, ErrUTF8
	}
	value, err := p.value(MaxDepth)
	if err != nil {
		return nil, err
	}
	o, isObject := value.(Object)
	if !isObject {
		return nil, ErrNoObject
	}
	p.skipSpace()
	if p.rest != "" {
		return nil, ErrTrailing
	}
	return o, nil
}

type parser struct {
	rest  string // what is still to be read
	folds bool   // names that differ only in case are one
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
func (p *parser) object(depth int) (Object, error) {
	if depth == 0 {
		return nil, ErrDepth
	}
	var o Object
	names := map[string]bool{}
	for !p.take("}") {
		if len(o) > 0 && !p.take(",") {
			return nil, ErrSyntax
		}
		if !p.take(`"`) {
			return nil, ErrSyntax
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		same := name
		if p.folds {
			same = fold(name)
		}
		if names[same] {
			return nil, ErrDuplicate
		}
		names[same] = true
		if !p.take(":") {
			return nil, ErrSyntax
		}
		value, err := p.value(depth - 1)
		if err != nil {
			return nil, err
		}
		o = append(o, Member{name, value})
	}
	return o, nil
}

// array reads what follows a "[".
func (p *parser) array(depth int) ([]any, error) {
	if depth == 0 {
		return nil, ErrDepth
	}
	elements := []any{}
	for !p.take("]") {
		if len(elements) > 0 && !p.take(",") {
			return nil, ErrSyntax
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
			return "", ErrSyntax
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
			return "", ErrCharacter
		}
	}
}

// escape reads what follows a backslash (RFC 8259 §7).
func (p *parser) escape() (rune, error) {
	if p.rest == "" {
		return 0, ErrSyntax
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
	return 0, ErrSyntax
}

// unicode reads what follows \u, and the second half of a surrogate pair. Half a pair is no character, and U+0000 ends the
// string for every reader written in C.
func (p *parser) unicode() (rune, error) {
	r, err := p.hex()
	if err != nil {
		return 0, err
	}
	if utf16.IsSurrogate(r) {
		var found bool
		if p.rest, found = strings.CutPrefix(p.rest, `\u`); !found {
			return 0, ErrCharacter
		}
		low, err := p.hex()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r == unicode.ReplacementChar {
			return 0, ErrCharacter
		}
	}
	if r == 0 {
		return 0, ErrCharacter
	}
	return r, nil
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (rune, error) {
	if len(p.rest) < 4 {
		return 0, ErrSyntax
	}
	r, err := strconv.ParseUint(p.rest[:4], 16, 16)
	if err != nil {
		return 0, ErrSyntax
	}
	p.rest = p.rest[4:]
	return rune(r), nil
}

func (p *parser) number() (Number, error) {
	text := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "+-.0123456789eE"))]
	// Made of these characters, what is JSON can only be a number.
	if !json.Valid([]byte(text)) {
		return "", ErrSyntax
	}
	p.rest = p.rest[len(text):]
	return Number(text), nil
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
