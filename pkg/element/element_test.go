package element_test

import (
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"mellium.im/xmlstream"

	"github.com/xmpp-usher/usher/pkg/element"
)

func TestWritten(t *testing.T) {
	for want, r := range map[string]xml.TokenReader{
		`<ping xmlns="urn:xmpp:ping"></ping>`:                            element.New("urn:xmpp:ping", "ping"),
		`<query xmlns="urn:x"><destroy></destroy><a></a></query>`:        element.New("urn:x", "query", element.New("", "destroy"), element.New("", "a")),
		`<item affiliation="none" jid="&#39;&lt;"></item>`:               element.Empty("", "item", element.NewAttr("affiliation", "none"), element.NewAttr("jid", "'<")),
		`<nick xmlns="http://jabber.org/protocol/nick">a &amp; b</nick>`: element.Text("http://jabber.org/protocol/nick", "nick", "a & b"),
		`<password></password>`:                                          element.Text("", "password", ""),
	} {
		var out strings.Builder
		e := xml.NewEncoder(&out)
		if _, err := xmlstream.Copy(e, r); err != nil {
			t.Fatal(err)
		}
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("got %s, want %s", out.String(), want)
		}
	}
}

// The children are read to their end, however they tell it, and an error of one is an error of the element.
func TestWrap(t *testing.T) {
	a := xml.StartElement{Name: xml.Name{Local: "a"}}
	last := func(tok xml.Token, err error) xml.TokenReader {
		return xmlstream.ReaderFunc(func() (xml.Token, error) {
			defer func() { tok, err = nil, io.EOF }()
			return tok, err
		})
	}
	r := element.Wrap(a, nil, last(xml.CharData("b"), io.EOF), nil, last(xml.CharData("c"), nil), last(nil, io.EOF))
	for n, want := range []xml.Token{a, xml.CharData("b"), xml.CharData("c"), a.End()} {
		if got, err := r.Token(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("token %d: %v, %v", n, got, err)
		}
	}
	for range 2 {
		if got, err := r.Token(); got != nil || !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v, %v", got, err)
		}
	}
	fault := errors.New("a fault")
	r = element.Wrap(a, last(nil, fault))
	if _, err := r.Token(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Token(); !errors.Is(err, fault) {
		t.Errorf("an element with a fault: %v", err)
	}
}

// An attribute of a namespace is none of ours, wherever it stands.
func TestAttr(t *testing.T) {
	tok, err := xml.NewDecoder(strings.NewReader("<a xmlns:x='urn:x' x:from='eve' from='juliet' x:to='eve' type=''/>")).Token()
	if err != nil {
		t.Fatal(err)
	}
	start := tok.(xml.StartElement)
	for local, want := range map[string]string{"from": "juliet", "to": "", "type": "", "id": ""} {
		if got := element.Attr(start, local); got != want {
			t.Errorf("%s: %q, want %q", local, got, want)
		}
	}
}
