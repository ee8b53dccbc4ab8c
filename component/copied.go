package component

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"slices"

	"go.uber.org/zap"
	"mellium.im/xmlstream"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

// copied is an element with everything in it, as tokens, so that it can be passed on. It is built anew from what was understood:
// encoding/xml does not write what it read (CVE-2020-29509), so prefixes, and names that it would change, are refused.
type copied []xml.Token

// maxCopied is how many tokens are passed on.
const maxCopied = 256

var errNotCopied = errors.New("an element that cannot be passed on")

// UnmarshalXML implements xml.Unmarshaler.
func (c *copied) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	*c = nil
	for depth, tok := 0, xml.Token(start); ; {
		switch t := tok.(type) {
		case xml.StartElement:
			depth++
			if t.Name.Space == "" || !focus.PlainName(t.Name.Local) { // without a namespace it would be written into that of its parent
				return errNotCopied
			}
			plain := xml.StartElement{Name: t.Name}
			for _, a := range t.Attr {
				switch {
				case a.Name.Space == "" && a.Name.Local == "xmlns":
				case a.Name.Space == "" && focus.PlainName(a.Name.Local) && !slices.ContainsFunc(plain.Attr, func(b xml.Attr) bool { return a.Name == b.Name }):
					plain.Attr = append(plain.Attr, a)
				default:
					return errNotCopied
				}
			}
			*c = append(*c, plain)
		case xml.EndElement:
			depth--
			*c = append(*c, t)
		case xml.CharData:
			*c = append(*c, t.Copy())
		default:
			return errNotCopied
		}
		if depth == 0 {
			return nil
		}
		if len(*c) > maxCopied {
			return errNotCopied
		}
		var err error
		if tok, err = d.Token(); err != nil {
			return err
		}
	}
}

// TokenReader returns the element.
func (c copied) TokenReader() xml.TokenReader {
	i := 0
	return xmlstream.ReaderFunc(func() (xml.Token, error) {
		if i == len(c) {
			return nil, io.EOF
		}
		i++
		return c[i-1], nil
	})
}

// pass passes on an IQ in one of Jicofo's namespaces that is no conference request, such as login-url, and its answer.
func (c *Component) pass(ctx context.Context, to *relay, in incoming, payload xml.StartElement, d *xml.Decoder) error {
	iq := in.iq
	var asked, answer copied
	err := asked.UnmarshalXML(d, payload)
	if err == nil {
		err = stream.End(d)
	}
	if err != nil {
		c.malformed(iq, "iq", err)
		return nil
	}
	err = to.ask(ctx, iq, asked.TokenReader, &answer)
	var refused stanza.Error
	switch {
	case errors.As(err, &refused):
		return c.Send(iq.Error(refused))
	case errors.Is(err, errNotForwarded):
		c.malformed(iq, "iq", err)
		return nil
	case errors.Is(err, errNoFocus):
		// As mod_client_proxy.lua answers.
		return c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
	case err != nil:
		c.say(zap.WarnLevel, "an IQ for Jicofo was not answered", string(auth.ReasonFocusUnavailable), iq.From,
			zap.Stringer("from", iq.From), zap.String("payload", payload.Name.Local), zap.Error(err))
		return c.Send(iq.Error(stanza.Error{Type: stanza.Wait, Condition: stanza.RemoteServerTimeout}))
	case len(answer) == 0:
		return c.Send(iq.Result(nil))
	}
	return c.Send(iq.Result(answer.TokenReader()))
}
