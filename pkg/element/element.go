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
	"errors"
	"io"

	"mellium.im/xmlstream"
)

// Wrap returns an element with the start tag and the children. Those that are nil are left out.
func Wrap(start xml.StartElement, children ...xml.TokenReader) xml.TokenReader {
	return &element{start: start, children: children}
}

// New returns an element with the children, and without attributes.
func New(space, local string, children ...xml.TokenReader) xml.TokenReader {
	return Wrap(xml.StartElement{Name: xml.Name{Space: space, Local: local}}, children...)
}

// Empty returns an element with the attributes, and without children.
func Empty(space, local string, attrs ...xml.Attr) xml.TokenReader {
	return Wrap(xml.StartElement{Name: xml.Name{Space: space, Local: local}, Attr: attrs})
}

// Text returns an element that contains only the text.
func Text(space, local, text string) xml.TokenReader {
	return New(space, local, xmlstream.Token(xml.CharData(text)))
}

// element reads what xmlstream.Wrap does. That has six allocations, and each stanza has several elements.
type element struct {
	start        xml.StartElement
	children     []xml.TokenReader
	begun, ended bool
}

// Token implements xml.TokenReader.
func (e *element) Token() (xml.Token, error) {
	switch {
	case e.ended:
		return nil, io.EOF
	case !e.begun:
		e.begun = true
		return e.start, nil
	}
	for len(e.children) > 0 {
		var tok xml.Token
		err := io.EOF
		if e.children[0] != nil {
			tok, err = e.children[0].Token()
		}
		if errors.Is(err, io.EOF) {
			e.children, err = e.children[1:], nil
			if tok == nil {
				continue
			}
		}
		return tok, err
	}
	e.ended = true
	return e.start.End(), nil
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
