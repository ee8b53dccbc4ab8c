package prosodytest

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
)

// Namespaces of RFC 6120, 6121 and 7395, of XEP-0004, 0030, 0045, 0114, 0198 and 0199, and of Jitsi.
const (
	nsClient    = "jabber:client"
	nsComponent = "jabber:component:accept"
	nsStreams   = "http://etherx.jabber.org/streams"
	nsStanzas   = "urn:ietf:params:xml:ns:xmpp-stanzas"
	nsSASL      = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsBind      = "urn:ietf:params:xml:ns:xmpp-bind"
	nsFraming   = "urn:ietf:params:xml:ns:xmpp-framing"
	nsMUC       = "http://jabber.org/protocol/muc"
	nsMUCUser   = "http://jabber.org/protocol/muc#user"
	nsMUCAdmin  = "http://jabber.org/protocol/muc#admin"
	nsMUCOwner  = "http://jabber.org/protocol/muc#owner"
	nsData      = "jabber:x:data"
	nsRoster    = "jabber:iq:roster"
	nsPing      = "urn:xmpp:ping"
	nsDiscoInfo = "http://jabber.org/protocol/disco#info"
	nsSM        = "urn:xmpp:sm:3"
	nsFocus     = "http://jitsi.org/protocol/focus"
	nsJitmeet   = "http://jitsi.org/jitmeet"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
)

// Stanza is an XML element: a stanza or a part of one.
type Stanza struct {
	Name     string            // local name
	NS       string            // namespace; "jabber:client" also for stanzas on component streams
	Attr     map[string]string // by local name, without xmlns; xml:lang is "xml:lang"
	Children []Stanza
	Text     string // the character data directly in the element, without surrounding space
}

// IsZero reports whether this is no element: the result of a [Stanza.Child] that has found none.
func (s Stanza) IsZero() bool { return s.Name == "" }

// Child returns the first child with this name and namespace; empty means any. Without such a child it returns the zero
// Stanza, so that calls can be chained.
func (s Stanza) Child(name, ns string) Stanza {
	for _, c := range s.Children {
		if (name == "" || c.Name == name) && (ns == "" || c.NS == ns) {
			return c
		}
	}
	return Stanza{}
}

// Find returns the first element with this name and namespace in s, at any depth, in document order.
func (s Stanza) Find(name, ns string) Stanza {
	for _, c := range s.Children {
		if (name == "" || c.Name == name) && (ns == "" || c.NS == ns) {
			return c
		}
		if found := c.Find(name, ns); !found.IsZero() {
			return found
		}
	}
	return Stanza{}
}

// ErrorCondition is the condition of a stanza of type error (RFC 6120 §8.3.3), such as "forbidden", or empty.
func (s Stanza) ErrorCondition() string {
	for _, c := range s.errorElement().Children {
		if c.NS == nsStanzas && c.Name != "text" {
			return c.Name
		}
	}
	return ""
}

// ErrorText is the text of a stanza of type error, or empty.
func (s Stanza) ErrorText() string { return s.errorElement().Child("text", nsStanzas).Text }

func (s Stanza) errorElement() Stanza {
	if s.Attr["type"] != "error" {
		return Stanza{}
	}
	return s.Child("error", nsClient)
}

// HasStatus reports whether a room's presence or message has this status code (XEP-0045 §15.6), such as "110" for the
// receiver's own presence.
func (s Stanza) HasStatus(code string) bool {
	for _, c := range s.Child("x", nsMUCUser).Children {
		if c.Name == "status" && c.Attr["code"] == code {
			return true
		}
	}
	return false
}

// String is the element as XML on one line.
func (s Stanza) String() string {
	var b strings.Builder
	s.write(&b, "", "")
	return b.String()
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;")

// write declares the namespace if it differs from outer, the parent's. If eol is not empty, each child gets a line of its own,
// which eol begins.
func (s Stanza) write(b *strings.Builder, outer, eol string) {
	b.WriteString("<" + s.Name)
	if s.NS != outer {
		b.WriteString(" xmlns='" + escaper.Replace(s.NS) + "'")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Attr)) {
		b.WriteString(" " + name + "='" + escaper.Replace(s.Attr[name]) + "'")
	}
	if len(s.Children) == 0 && s.Text == "" {
		b.WriteString("/>")
		return
	}
	b.WriteString(">" + escaper.Replace(s.Text))
	inner := eol
	if eol != "" {
		inner += "  "
	}
	for _, c := range s.Children {
		b.WriteString(inner)
		c.write(b, s.NS, inner)
	}
	if len(s.Children) > 0 {
		b.WriteString(eol)
	}
	b.WriteString("</" + s.Name + ">")
}

// parse reads one element. Elements without a namespace get ns.
func parse(s, ns string) (Stanza, error) {
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		t, err := d.Token()
		if err != nil {
			return Stanza{}, err
		}
		if start, ok := t.(xml.StartElement); ok {
			st, err := readElement(d, start, ns)
			if err != nil {
				return Stanza{}, err
			}
			for {
				t, err := d.Token()
				if errors.Is(err, io.EOF) {
					return st, nil
				}
				if err != nil {
					return Stanza{}, err
				}
				if _, ok := t.(xml.StartElement); ok {
					return Stanza{}, errors.New("more than one element")
				}
			}
		}
	}
}

// readElement reads the rest of the element that start begins. Elements without a namespace get ns.
func readElement(d *xml.Decoder, start xml.StartElement, ns string) (Stanza, error) {
	s := Stanza{Name: start.Name.Local, NS: start.Name.Space}
	switch s.NS {
	case "":
		s.NS = ns
	case nsComponent:
		s.NS = nsClient
	case "stream": // undeclared, in a pattern
		s.NS = nsStreams
	}
	s.Attr = readAttributes(start)
	var text strings.Builder
	for {
		t, err := d.Token()
		if err != nil {
			return Stanza{}, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			c, err := readElement(d, t, ns)
			if err != nil {
				return Stanza{}, err
			}
			s.Children = append(s.Children, c)
		case xml.EndElement:
			s.Text = strings.TrimSpace(text.String())
			return s, nil
		case xml.CharData:
			text.Write(t)
		}
	}
}

// readAttributes returns the attributes that do not declare a namespace, or nil.
func readAttributes(start xml.StartElement) map[string]string {
	var all map[string]string
	for _, a := range start.Attr {
		name := a.Name.Local
		switch a.Name.Space {
		case "xmlns":
			continue
		case "":
			if name == "xmlns" {
				continue
			}
		case nsXML:
			name = "xml:" + name
		case "scansion":
			name = "scansion:" + name
		}
		if all == nil {
			all = make(map[string]string, len(start.Attr))
		}
		all[name] = a.Value
	}
	return all
}

// reply is the result of an IQ, from its receiver to its sender.
func reply(iq Stanza, payload ...Stanza) Stanza {
	return Stanza{Name: "iq", NS: nsClient, Children: payload, Attr: map[string]string{
		"type": "result", "id": iq.Attr["id"], "to": iq.Attr["from"], "from": iq.Attr["to"],
	}}
}

func errorReply(iq Stanza, typ, condition, text string) Stanza {
	e := Stanza{Name: "error", NS: nsClient, Attr: map[string]string{"type": typ}, Children: []Stanza{{Name: condition, NS: nsStanzas}}}
	if text != "" {
		e.Children = append(e.Children, Stanza{Name: "text", NS: nsStanzas, Text: text})
	}
	r := reply(iq, e)
	r.Attr["type"] = "error"
	return r
}
