// Package focus speaks http://jitsi.org/protocol/focus, by which clients ask to enter a conference.
//
// It is a codec and a table, and does no I/O: [Parse] reads a conference request, [Reply] turns a decision into the
// answer that makes a Jitsi client do the right thing. The protocol has no specification. What is cited here is the
// code at its two ends: ConferenceIq in jitsi-xmpp-extensions, and modules/xmpp/moderator.js in lib-jitsi-meet.
package focus

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
)

const (
	// NS is the namespace of the protocol.
	NS = "http://jitsi.org/protocol/focus"
	// NSReason is the namespace of the reason code in usher's errors.
	NSReason = "urn:usher:0"
)

// Conference is the request: the attributes of <conference/>, none of them trusted.
type Conference struct {
	Room       string
	Token      string
	SessionID  string
	MachineUID string
}

// Name is the qualified name of the payload that Parse reads.
var Name = xml.Name{Space: NS, Local: "conference"}

// Parse reads the conference element that begins with start from r, up to its end. Properties and unknown children are
// passed over. An error means that this is not a conference request; it is for the log and quotes nothing of it.
func Parse(start xml.StartElement, r xml.TokenReader) (Conference, error) {
	var c Conference
	if start.Name != Name {
		return c, errors.New("not a conference element")
	}
	seen := map[string]bool{}
	for _, a := range start.Attr {
		if a.Name.Space != "" {
			continue
		}
		if seen[a.Name.Local] {
			return c, errors.New("an attribute stands twice")
		}
		seen[a.Name.Local] = true
		switch a.Name.Local {
		case "room":
			c.Room = a.Value
		case "token":
			c.Token = a.Value
		case "session-id":
			c.SessionID = a.Value
		case "machine-uid":
			c.MachineUID = a.Value
		}
	}
	if c.Room == "" {
		return c, errors.New("no room attribute")
	}
	for depth := 1; depth > 0; {
		tok, err := r.Token()
		if err != nil && !(errors.Is(err, io.EOF) && tok != nil) {
			return c, fmt.Errorf("conference element: %w", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 1 && strings.TrimSpace(string(t)) != "" {
				return c, errors.New("text where only elements may be")
			}
		}
	}
	return c, nil
}

// outcome is what a client can be told: the rows of the table.
type outcome uint8

const (
	ready         outcome = iota // it joins the room
	notReady                     // it asks again after 1, 2, 4 … s, silently
	notAuthorized                // it shows "waiting for the host", asks again every 5 s, and offers the login
	sessionOver                  // it drops its session id and asks again
	refused                      // it shows the text and stops
	malformed                    // it stops
	tooMany                      // it stops
)

// told is the table: what a client is told for which decision.
func told(d auth.Decision) outcome {
	if d.Verdict == auth.Allow {
		return ready
	}
	switch d.Reason {
	case auth.ReasonHostAbsent, auth.ReasonTokenRequired:
		return notAuthorized
	case auth.ReasonSessionInvalid:
		return sessionOver
	case auth.ReasonKeysUnavailable, auth.ReasonRoomUnavailable, auth.ReasonStopping:
		return notReady
	case auth.ReasonRequestMalformed:
		return malformed
	case auth.ReasonTooManyRequests:
		return tooMany
	default:
		return refused
	}
}

// Reply returns the answer to the IQ that carried c. Its addresses are those of iq, swapped.
func Reply(iq stanza.IQ, c Conference, d auth.Decision) xml.TokenReader {
	switch told(d) {
	case ready:
		return iq.Result(conference(c, true, d.Identity))
	case notReady:
		return iq.Result(conference(c, false, ""))
	case notAuthorized:
		// moderator.js: only not-authorized opens the dialog with the login.
		return failure(iq, d.Reason, stanza.Auth, stanza.NotAuthorized, nil)
	case sessionOver:
		return failure(iq, d.Reason, stanza.Modify, stanza.NotAcceptable, element(NS, "session-invalid"))
	case malformed:
		return failure(iq, d.Reason, stanza.Modify, stanza.BadRequest, nil)
	case tooMany:
		return failure(iq, d.Reason, stanza.Wait, stanza.ResourceConstraint, nil)
	default:
		// moderator.js: a reservation-error makes the client show the text instead of a general failure.
		return failure(iq, d.Reason, stanza.Auth, stanza.Forbidden, element(NS, "reservation-error", attr("error-code", "403")))
	}
}

func conference(c Conference, ready bool, identity string) xml.TokenReader {
	attrs := []xml.Attr{attr("room", c.Room), attr("ready", fmt.Sprint(ready))}
	if identity != "" {
		attrs = append(attrs, attr("identity", identity))
	}
	// "authentication" makes the client offer a login to those who came without one.
	property := element("", "property", attr("name", "authentication"), attr("value", "true"))
	return xmlstream.Wrap(property, xml.StartElement{Name: Name, Attr: attrs})
}

func failure(iq stanza.IQ, r auth.Reason, typ stanza.ErrorType, condition stanza.Condition, child xml.TokenReader) xml.TokenReader {
	reason := element(NSReason, "reason", attr("code", string(r)))
	if child != nil {
		reason = xmlstream.MultiReader(child, reason)
	}
	e := stanza.Error{Type: typ, Condition: condition, Text: map[string]string{"": r.Text()}}
	iq.To, iq.From, iq.Type = iq.From, iq.To, stanza.ErrorIQ
	return iq.Wrap(e.Wrap(reason))
}

func element(space, local string, attrs ...xml.Attr) xml.TokenReader {
	return xmlstream.Wrap(nil, xml.StartElement{Name: xml.Name{Space: space, Local: local}, Attr: attrs})
}

func attr(local, value string) xml.Attr {
	return xml.Attr{Name: xml.Name{Local: local}, Value: value}
}
