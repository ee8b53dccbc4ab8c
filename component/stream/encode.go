package stream

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// encoder writes a stanza, token after token. It writes less than encoding/xml does: an element without content is one tag, and quotes in
// texts stay as they are. XML asks for no more (XML §2.4), and Prosody's parser, expat, stops at each entity: in the JSON of a context
// they took it longer than all else.
type encoder struct {
	out   []byte
	names []xml.Name // of the elements that have begun
	inTag bool       // the last start tag still lacks its end, because the element may be empty
}

// encode writes the element that has begun with start, and the rest of which comes from r.
func (e *encoder) encode(start xml.StartElement, r xml.TokenReader) error {
	e.out, e.names, e.inTag = e.out[:0], e.names[:0], false
	if err := e.start(start); err != nil {
		return err
	}
	for len(e.names) > 0 {
		tok, err := r.Token()
		if tok == nil && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := e.token(tok); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) token(tok xml.Token) error {
	switch t := tok.(type) {
	case xml.StartElement:
		return e.start(t)
	case xml.EndElement:
		return e.end(t.Name)
	case xml.CharData:
		if len(t) > 0 {
			e.endTag()
			e.out = appendEscaped(e.out, t, false)
		}
		return nil
	}
	return fmt.Errorf("a %T in a stanza", tok) // RFC 6120 §11.1
}

func (e *encoder) start(t xml.StartElement) error {
	if !isPlain(t.Name.Local) {
		return errName
	}
	e.endTag()
	e.out = append(append(e.out, '<'), t.Name.Local...)
	if t.Name.Space != "" {
		e.attr("xmlns", t.Name.Space)
	}
	for _, a := range t.Attr {
		if !isPlain(a.Name.Local) {
			return errName
		}
		switch a.Name.Space {
		case "":
			e.attr(a.Name.Local, a.Value)
		case nsXML:
			e.attr("xml:"+a.Name.Local, a.Value)
		default: // no stanza needs one
			return errName
		}
	}
	e.names, e.inTag = append(e.names, t.Name), true
	return nil
}

func (e *encoder) attr(name, value string) {
	e.out = append(append(append(e.out, ' '), name...), '=', '"')
	e.out = append(appendEscaped(e.out, value, true), '"')
}

func (e *encoder) end(name xml.Name) error {
	last := len(e.names) - 1
	if e.names[last] != name {
		return errors.New("an end tag without its start tag")
	}
	if e.names = e.names[:last]; e.inTag {
		e.out, e.inTag = append(e.out, '/', '>'), false
		return nil
	}
	e.out = append(append(append(e.out, '<', '/'), name.Local...), '>')
	return nil
}

// endTag ends a start tag, because something follows in the element.
func (e *encoder) endTag() {
	if e.inTag {
		e.out, e.inTag = append(e.out, '>'), false
	}
}

const nsXML = "http://www.w3.org/XML/1998/namespace"

var errName = errors.New("a name that cannot be written")

// isPlain reports whether a name can be written as it stands, without a prefix.
func isPlain(name string) bool {
	for i := range len(name) {
		if name[i] == ':' || !inName(name[i], i == 0) {
			return false
		}
	}
	return name != ""
}

// appendEscaped appends a text, or the value of an attribute. What cannot stand in XML (XML §2.2) is replaced, as encoding/xml does.
func appendEscaped[T text](out []byte, s T, isValue bool) []byte {
	done := 0
	for i := 0; i < len(s); {
		if !special[s[i]] {
			i++
			continue
		}
		n, as := 1, ""
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			var r rune
			if r, n = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))])); r == utf8.RuneError || r == '\uFFFE' || r == '\uFFFF' {
				as = "\uFFFD"
			}
		case c != '"' || isValue:
			if as = escapes[c]; as == "" {
				as = "\uFFFD"
			}
		}
		if as != "" {
			out = append(append(out, s[done:i]...), as...)
			done = i + n
		}
		i += n
	}
	return append(out, s[done:]...)
}

// escapes are what is written instead of characters; ">" because of "]]>".
var escapes = [utf8.RuneSelf]string{'&': "&amp;", '<': "&lt;", '>': "&gt;", '"': "&#34;", '\t': "&#x9;", '\n': "&#xA;", '\r': "&#xD;"}

// special are the bytes that appendEscaped must look at more closely.
var special = func() (is [256]bool) {
	for c := range is {
		is[c] = c < ' ' || c >= utf8.RuneSelf || escapes[c] != ""
	}
	return is
}()

// text is how a text is at hand.
type text interface{ string | xml.CharData }
