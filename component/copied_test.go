package component

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"mellium.im/xmlstream"

	"github.com/xmpp-usher/usher/component/stream"
)

// copiedFrom reads what is passed on of an element.
func copiedFrom(raw []byte) (copied, error) {
	start, d, err := stream.Open(raw)
	if err != nil {
		return nil, err
	}
	var c copied
	return c, c.UnmarshalXML(d, start)
}

// What may be passed on, and what may not.
func TestCopied(t *testing.T) {
	t.Parallel()
	ns := "xmlns='http://jitsi.org/protocol/focus'"
	for in, taken := range map[string]bool{
		"<login-url " + ns + " room='r@x' machine-uid='u' popup='true'/>":                            true,
		"<x " + ns + "><y a='&lt;&amp;&quot;&apos;'>&lt;text&gt;</y><z xmlns='urn:z'>\u20ac</z></x>": true,
		"<x " + ns + ">" + strings.Repeat("<y/>", 10_000) + "</x>":                                   false,
		"<x " + ns + ">" + strings.Repeat("<y/>", maxCopied/2-1) + "</x>":                            true,
		"<p:x xmlns:p='http://jitsi.org/protocol/focus'/>":                                           false,
		"<x " + ns + " xmlns:p='urn:p' p:a='1'/>":                                                    false,
		"<x " + ns + " xmlns:p='urn:p'><p:y/></x>":                                                   false,
		"<x " + ns + " xml:lang='en'/>":                                                              false,
		"<x " + ns + " a='1' a='2'/>":                                                                false,
		"<x " + ns + "><?php evil?></x>":                                                             false,
		"<x " + ns + "><!-- comment --></x>":                                                         false,
		"<x " + ns + "><!DOCTYPE x></x>":                                                             false,
		"<x " + ns + "><y xmlns=''/></x>":                                                            false,
		"<x " + ns + "><:y/></x>":                                                                    false,
		"<x " + ns + "><y:/></x>":                                                                    false,
		"<p:1 xmlns:q='urn:q'/>":                                                                     false,
		"<x " + ns + " :a='1'/>":                                                                     false,
		"<x " + ns + "><unclosed></x>":                                                               false,
		"<x " + ns + "><y>" + strings.Repeat("<z>", stream.MaxDepth) + strings.Repeat("</z>", stream.MaxDepth) + "</y></x>": true,
	} {
		c, err := copiedFrom([]byte(in))
		if (err == nil) != taken {
			t.Errorf("%.200s: %v, %v", in, c, err)
		}
	}
}

// FuzzCopied checks that whatever is taken is, encoded and decoded again, the same: that nobody further on sees something else
// than what was looked at here (CVE-2020-29509 and CVE-2022-25235 were this).
func FuzzCopied(f *testing.F) {
	for _, s := range []string{
		"<login-url xmlns='http://jitsi.org/protocol/focus' room='r@x' machine-uid='u'/>",
		"<x xmlns='urn:x'><y xmlns='urn:y' a='&lt;&#13;&#10;&#9;'>]]&gt;<z/>&#13;</y>text</x>",
		"<x xmlns='urn:x'><![CDATA[<y/>]]><y xmlns=''/></x>",
		"<p:x xmlns:p='urn:x' p:a='1'/>", "<:x xmlns='urn:x'/>", "<x xmlns='urn:x' :a='1' a:='2'/>", "<x: xmlns='urn:x'></x:>",
		"<x xmlns='urn:x' xmlns='urn:y'/>", "<x xmlns='xml' xmlnsx='1' xml='2'/>", "<x xmlns='urn:x'><xml:y/><xmlns:z/></x>",
		"<x xmlns='http://www.w3.org/2000/xmlns/'/>", "<x xmlns='http://www.w3.org/XML/1998/namespace'><y/></x>",
		"<x xmlns='&#xFFFD;\"&apos;&gt;'/>", "<x xmlns='urn:x' \u00e9='\u20ac'/>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := copiedFrom(raw)
		if err != nil {
			return
		}
		var out bytes.Buffer
		enc := xml.NewEncoder(&out)
		// As it is sent: in a stanza.
		_, err = xmlstream.Copy(enc, xmlstream.Wrap(c.TokenReader(), xml.StartElement{Name: xml.Name{Local: "iq"}}))
		if err == nil {
			err = enc.Flush()
		}
		if err != nil {
			t.Fatalf("%v is taken, and cannot be sent: %v", c, err)
		}
		// It is one stanza for those who see only the angle brackets, too.
		s, _ := testStream(out.Bytes())
		var stanzas [][]byte
		end := s.Receive(func(st stream.Stanza) {
			if st.Fault == nil {
				stanzas = append(stanzas, bytes.Clone(st.Raw))
			}
		}, func(p any) { panic(p) })
		if len(stanzas) != 1 || !bytes.Equal(stanzas[0], out.Bytes()) || !errors.Is(end, io.ErrUnexpectedEOF) {
			t.Fatalf("%s is not one stanza: %v", out.Bytes(), end)
		}
		_, d, err := stream.Open(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		start, err := stream.Payload(d)
		if err != nil {
			t.Fatal(err)
		}
		var again copied
		if err := again.UnmarshalXML(d, start); err != nil {
			t.Fatalf("%s is not taken again: %v", out.Bytes(), err)
		}
		if !reflect.DeepEqual(merged(c), merged(again)) {
			t.Errorf("%q\nbecame %q\nby way of %s", merged(c), merged(again), out.Bytes())
		}
		if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

// merged are the tokens with texts that follow each other made one, and none empty.
func merged(c copied) []xml.Token {
	var all []xml.Token
	for _, tok := range c {
		if text, ok := tok.(xml.CharData); ok {
			if len(text) == 0 {
				continue
			}
			if n := len(all); n > 0 {
				if before, ok := all[n-1].(xml.CharData); ok {
					all[n-1] = append(before.Copy(), text...)
					continue
				}
			}
		}
		all = append(all, tok)
	}
	return all
}
