package stream

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"slices"
	"testing"

	"mellium.im/xmlstream"
)

// reader reads tokens.
func reader(toks []xml.Token) xml.TokenReader {
	return xmlstream.ReaderFunc(func() (xml.Token, error) {
		if len(toks) == 0 {
			return nil, io.EOF
		}
		tok := toks[0]
		toks = toks[1:]
		return tok, nil
	})
}

// stanzaOf returns the tokens of the first element, as far as a stanza can have them, with texts in one piece. An element has no
// declarations of namespaces, and is in the one that it was declared for.
func stanzaOf(d *xml.Decoder) (all []xml.Token, ok bool) {
	for depth := 0; ; {
		tok, err := d.Token()
		if err != nil {
			return nil, false
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; !isPlain(t.Name.Local) || t.Name.Space == "" {
				return nil, false
			}
			plain := xml.StartElement{Name: t.Name}
			for _, a := range t.Attr {
				switch {
				case a.Name.Local == "xmlns", a.Name.Space == "xmlns":
				case !isPlain(a.Name.Local), a.Name.Space != "" && a.Name.Space != nsXML, slices.Contains(plain.Attr, a):
					return nil, false
				default:
					plain.Attr = append(plain.Attr, a)
				}
			}
			all = append(all, plain)
		case xml.EndElement:
			depth--
			all = append(all, t)
		case xml.CharData:
			if depth == 0 {
				continue
			}
			if last, after := all[len(all)-1].(xml.CharData); after {
				all[len(all)-1] = append(last, t...)
			} else {
				all = append(all, t.Copy())
			}
		default:
			return nil, false
		}
		if depth == 0 {
			return all, true
		}
	}
}

// FuzzEncode writes elements: encoding/xml reads them as they were, and none of their prefixes ends the stream.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		told, presence,
		`<a xmlns='urn:a' b='&quot;&lt;&#9;' xml:lang='de'><b/><c></c>Zoë &amp; "Bob" ]]&gt;<d xmlns='urn:&#34;&amp;'>&#13;&#10; </d></a>`,
		"<a xmlns='urn:a'>\ufffd<b c='\ufffd'> </b>\t</a>", "<a xmlns='urn:a'><a><a/><a/></a></a>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		want, ok := stanzaOf(xml.NewDecoder(bytes.NewReader(raw)))
		if !ok {
			t.Skip()
		}
		var e encoder
		if err := e.encode(want[0].(xml.StartElement), reader(want[1:])); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		got, ok := stanzaOf(xml.NewDecoder(bytes.NewReader(e.out)))
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q; got %q, want %q", raw, e.out, got, want)
		}
		for n := range e.out {
			if s := (scanner{}); n > 0 {
				if read, err := s.scan(e.out[:n]); err != nil || s.done || read != n {
					t.Fatalf("%q ends after %d bytes: %v", e.out, read, err)
				}
			}
		}
	})
}

// What is no stanza is refused, and what is refused leaves nothing behind.
func TestEncodeRefuses(t *testing.T) {
	root := xml.StartElement{Name: xml.Name{Local: "message"}}
	of := func(local string, attrs ...xml.Attr) xml.StartElement {
		return xml.StartElement{Name: xml.Name{Local: local}, Attr: attrs}
	}
	for name, toks := range map[string][]xml.Token{
		"an end too few":         {of("a"), of("a").End()},
		"another end":            {of("a"), of("b").End(), root.End()},
		"an end elsewhere":       {xml.EndElement{Name: xml.Name{Space: "urn:a", Local: "message"}}},
		"a name of two":          {of("a b"), of("a b").End(), root.End()},
		"a name with a prefix":   {of("a:b"), of("a:b").End(), root.End()},
		"no name":                {of(""), of("").End(), root.End()},
		"a name of an attribute": {of("a", xml.Attr{Name: xml.Name{Local: "b='' c"}}), of("a").End(), root.End()},
		"a foreign attribute":    {of("a", xml.Attr{Name: xml.Name{Space: "urn:b", Local: "b"}}), of("a").End(), root.End()},
		"a comment":              {xml.Comment("a"), root.End()},
		"a declaration":          {xml.Directive("DOCTYPE a"), root.End()},
		"an instruction":         {xml.ProcInst{Target: "a"}, root.End()},
	} {
		var e encoder
		err := e.encode(root, reader(toks))
		if err == nil {
			t.Errorf("%s: %s", name, e.out)
		}
		if few := name == "an end too few"; few != errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		if err := e.encode(root, reader([]xml.Token{root.End()})); err != nil || string(e.out) != "<message/>" {
			t.Errorf("after %s: %s, %v", name, e.out, err)
		}
	}
}

// An element without content is one tag.
func TestEncodeEmpty(t *testing.T) {
	a, b := xml.StartElement{Name: xml.Name{Local: "a"}}, xml.StartElement{Name: xml.Name{Space: "urn:b", Local: "b"}}
	var e encoder
	if err := e.encode(a, reader([]xml.Token{b, xml.CharData{}, b.End(), b, a, a.End(), b.End(), xml.CharData("c"), a.End(), b})); err != nil {
		t.Fatal(err)
	}
	if want := `<a><b xmlns="urn:b"/><b xmlns="urn:b"><a/></b>c</a>`; string(e.out) != want {
		t.Errorf("got %s, want %s", e.out, want)
	}
}
