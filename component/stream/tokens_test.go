package stream

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// read returns all tokens up to the end or the first error.
func read(d *xml.Decoder) (all []xml.Token, end error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return all, err
		}
		if start, ok := tok.(xml.StartElement); ok && len(start.Attr) == 0 {
			start.Attr = nil
			tok = start
		}
		all = append(all, xml.CopyToken(tok))
	}
}

// FuzzTokens compares what is read of a stanza with what encoding/xml reads of it: the same tokens up to the same end or fault.
func FuzzTokens(f *testing.F) {
	for _, s := range []string{
		told, presence,
		"<iq type=\"set\" id='1'\tfrom = 'a&amp;b&lt;&gt;&quot;&apos;'\n><a  /> \n<b:c xmlns:b='urn:b' b:d='e' xml:lang='de'/>Zo\u00eb &lt;3</iq >",
		"<a xmlns='urn:a'><b xmlns=''><c xmlns='urn:c'/></b><d xmlns:x='urn:x'><x:e x:f=''/></d><x:e/></a>",
		"<a>&#x41;&#0;</a>", "<a b='&#xA;&#65;'/>", "<a>&nbsp;</a>", "<a>&amp</a>", "<a>&;</a>", "<a b='&'/>", "<a>&amp;lt;</a>",
		"<a>]]></a>", "<a>]]&gt;</a>", "<a b=']]>'/>", "<a>\r\n</a>", "<a b='\r'/>", "<a>\x01</a>", "<a>\xff</a>", "<a>\ufffd</a>", "<a>\ufffe</a>", "<a b='\uffff'/>", "<a>\x7f\U0010ffff</a>", "<a>\xed\xa0\x80</a>",
		"<a b='<'/>", "<a b=c/>", "<a b/>", "<a b='c' b='d'/>", "<a b='c'd='e'/>", "<a / >", "<a/b>", "<a b=''/><c/>", "</a>", "<a></b>", "<x:a></y:a>", "<a><b></a></b>", "<a",
		"<:a/>", "<a:/>", "<a:b:c/>", "<a::b/>", "<a:-/>", "<-/>", "<1/>", "<\u00e9/>", "<a\u00e9='1'/>", "<a \u00e9='1'/>", "<a.-1_/>", "<a\x80/>", "< a/>", "<>", "<", "</", "</ a>", "<a></a b>",
		"text", " <a/> ", "<a><!-- --></a>", "<a><![CDATA[b]]></a>", "<a><?php ?></a>", "<?xml version='1.0' encoding='x'?><a/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
		"<a xmlns:xml='x' xmlns:xmlns='y' xmlns:b=''><xml:c b:d='' xmlns:d=''/></a>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		was := bytes.Clone(raw)
		got, end := read(xml.NewTokenDecoder(&tokens{rest: raw}))
		want, oracle := read(xml.NewDecoder(bytes.NewReader(raw)))
		if !reflect.DeepEqual(got, want) || errors.Is(end, io.EOF) != errors.Is(oracle, io.EOF) {
			t.Errorf("%q: got %q, %v; want %q, %v", raw, got, end, want, oracle)
		}
		if !bytes.Equal(raw, was) {
			t.Errorf("%q became %q", was, raw)
		}
	})
}

// What servers write, with its entities, is read without encoding/xml.
func TestUsualTokens(t *testing.T) {
	for _, raw := range []string{
		told, presence,
		`<iq xmlns:x='urn:x' id="1"><x:a b='&lt;&gt;&amp;&apos;&quot;' xml:lang='de'>Zoë &amp; Bob ]]</x:a></iq>`,
		strings.Repeat("<a>", MaxDepth) + strings.Repeat("</a>", MaxDepth),
	} {
		r := &tokens{rest: []byte(raw)}
		if _, err := read(xml.NewTokenDecoder(r)); !errors.Is(err, io.EOF) || r.other != nil {
			t.Errorf("%s: %v, by encoding/xml: %t", raw, err, r.other != nil)
		}
	}
}
