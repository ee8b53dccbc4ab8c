package element_test

import (
	"encoding/xml"
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
