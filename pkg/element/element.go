// Package element builds and reads the small XML elements of XMPP, which are mostly a name and some attributes.
//
// Elements are xml.TokenReaders, as mellium.im/xmpp and mellium.im/xmlstream take them:
//
//	iq.Wrap(element.New(nsOwner, "query", element.New("", "destroy")))
//
// An element without a namespace of its own is written into that of its parent.
package element

import (
	"encoding/xml"

	"mellium.im/xmlstream"
)

// New returns an element with the children, and without attributes.
func New(space, local string, children ...xml.TokenReader) xml.TokenReader {
	return xmlstream.Wrap(xmlstream.MultiReader(children...), xml.StartElement{Name: xml.Name{Space: space, Local: local}})
}

// Empty returns an element with the attributes, and without children.
func Empty(space, local string, attrs ...xml.Attr) xml.TokenReader {
	return xmlstream.Wrap(nil, xml.StartElement{Name: xml.Name{Space: space, Local: local}, Attr: attrs})
}

// Text returns an element that contains only the text.
func Text(space, local, text string) xml.TokenReader {
	return New(space, local, xmlstream.Token(xml.CharData(text)))
}

// NewAttr returns an attribute without a namespace, as all attributes of XMPP are but for xml:lang.
func NewAttr(local, value string) xml.Attr {
	return xml.Attr{Name: xml.Name{Local: local}, Value: value}
}

// Attr returns the value of the first attribute with that name and without a namespace, or "" if there is none. The namespace
// counts: a client may put x:from beside the from that the server stamps.
func Attr(start xml.StartElement, local string) string {
	for _, a := range start.Attr {
		if a.Name.Local == local && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}
