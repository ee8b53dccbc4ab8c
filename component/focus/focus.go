// Package focus speaks http://jitsi.org/protocol/focus, the protocol in which clients ask to enter a conference.
//
// It is a codec and does no I/O: [Parse] reads a conference request, [Forward] writes it again for Jicofo, [Answer] is what Jicofo
// answers, and [Reply] turns a decision into the answer that makes a Jitsi client do the right thing. The protocol has no
// specification. The comments cite the code at its two ends: ConferenceIq in jitsi-xmpp-extensions, and modules/xmpp/moderator.js
// in lib-jitsi-meet.
package focus

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// NS is the namespace of the protocol.
	NS = "http://jitsi.org/protocol/focus"
	// NSReason is the namespace of the reason code in usher's errors.
	NSReason = "urn:usher:0"
)

// Conference is the request: the attributes of <conference/>. None of them is trusted.
type Conference struct {
	Room       string
	Token      string
	SessionID  string
	MachineUID string
	// Properties are the client's wishes for the conference. Jicofo reads them.
	Properties []Property
}

// Property is one of the settings in a conference request or its answer, such as startAudioMuted.
type Property struct{ Name, Value string }

// Patient reports whether the request is one of lib-jitsi-meet, which waits for the answer without a time limit (moderator.js). It
// sends a machine-uid and properties. Jigasi gives up after a while; it sends no machine-uid, and at most properties of visitors
// (JvbConference.java, inviteFocus).
func (c Conference) Patient() bool {
	return slices.ContainsFunc(c.Properties, func(p Property) bool { return c.MachineUID != "" || p.Name == "rtcstatsEnabled" })
}

const (
	// maxProperties caps the properties, and the attributes of an answer, that are kept; maxLength caps their names and values in
	// bytes. Real ones are few and short.
	maxProperties = 64
	maxLength     = 1 << 10
)

// Name is the qualified name of the payload that Parse reads.
var Name = xml.Name{Space: NS, Local: "conference"}

// Parse reads the conference element that begins with start from r, up to its end. It passes over unknown children, and over
// properties that are too many, too long or unclear. An error means that this is not a conference request. It is for the log and
// quotes nothing of the request.
func Parse(start xml.StartElement, r xml.TokenReader) (Conference, error) {
	var c Conference
	if start.Name != Name {
		return c, errors.New("not a conference element")
	}
	attrs, err := plainAttrs(start)
	if err != nil {
		return c, err
	}
	for _, a := range attrs {
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
	c.Properties, err = children(r)
	if err != nil {
		return c, fmt.Errorf("conference element: %w", err)
	}
	return c, nil
}

// plainAttrs returns the attributes of an element without those of a namespace. It also leaves out declarations of namespaces, which
// encoding/xml keeps among the attributes: written again, they would put the element into another namespace.
func plainAttrs(start xml.StartElement) ([]xml.Attr, error) {
	attrs := make([]xml.Attr, 0, len(start.Attr))
	seen := map[string]bool{}
	for _, a := range start.Attr {
		if a.Name.Space != "" || a.Name.Local == "xmlns" {
			continue
		}
		if seen[a.Name.Local] {
			return nil, errors.New("an attribute stands twice")
		}
		seen[a.Name.Local] = true
		attrs = append(attrs, a)
	}
	return attrs, nil
}

// children reads up to the end of an element that has begun, and returns the properties directly below it.
func children(r xml.TokenReader) ([]Property, error) {
	var properties []Property
	for depth := 1; depth > 0; {
		tok, err := r.Token()
		if err != nil && !(errors.Is(err, io.EOF) && tok != nil) {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth == 1 && t.Name == (xml.Name{Space: NS, Local: "property"}) && len(properties) < maxProperties {
				if p, ok := property(t); ok {
					properties = append(properties, p)
				}
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 1 && strings.TrimSpace(string(t)) != "" {
				return nil, errors.New("text where only elements may be")
			}
		}
	}
	return properties, nil
}

func property(start xml.StartElement) (Property, bool) {
	var p Property
	attrs, err := plainAttrs(start)
	for _, a := range attrs {
		switch a.Name.Local {
		case "name":
			p.Name = a.Value
		case "value":
			p.Value = a.Value
		}
	}
	return p, err == nil && p.Name != "" && len(p.Name) <= maxLength && len(p.Value) <= maxLength
}

// Forward returns the conference element that Jicofo gets for an admitted request. The room is a bare JID. The element is built from
// what Parse has read (ConferenceIq), so no unknown attribute gets through. The session id never does, because sessions are usher's
// own. token says whether the token goes along; Jicofo reads it, unverified, to tell visitors from participants.
func Forward(c Conference, room string, token bool) xml.TokenReader {
	attrs := []xml.Attr{element.NewAttr("room", room)}
	if c.MachineUID != "" {
		attrs = append(attrs, element.NewAttr("machine-uid", c.MachineUID))
	}
	if token && c.Token != "" {
		attrs = append(attrs, element.NewAttr("token", c.Token))
	}
	return element.Wrap(xml.StartElement{Name: Name, Attr: attrs}, propertyElements(c.Properties)...)
}

// Answer is the part of Jicofo's answer to a conference request that is passed on.
type Answer struct {
	// Ready says that Jicofo has created the room and is in it.
	Ready bool
	// Attrs are the attributes without a namespace (focusjid, vnode, identity, and future ones) but room, ready and session-id, which
	// usher sets. There are at most 64, and names and values have at most 1 kB each; others are dropped.
	Attrs []xml.Attr
	// Properties are for example sipGatewayEnabled and visitors-supported, within the same bounds.
	Properties []Property
}

// UnmarshalXML implements xml.Unmarshaler for the conference element of a result. It fails for any other element.
func (a *Answer) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	*a = Answer{}
	if start.Name != Name {
		return errors.New("not a conference element")
	}
	attrs, err := plainAttrs(start)
	if err != nil {
		return fmt.Errorf("conference element: %w", err)
	}
	for _, attr := range attrs {
		switch name := attr.Name.Local; {
		case name == "ready":
			// ConferenceIq writes a Java Boolean.
			a.Ready = attr.Value == "true"
		case name == "room", name == "session-id":
		case attributeName(name) && len(attr.Value) <= maxLength && len(a.Attrs) < maxProperties:
			a.Attrs = append(a.Attrs, attr)
		}
	}
	if a.Properties, err = children(d); err != nil {
		return fmt.Errorf("conference element: %w", err)
	}
	return nil
}

// Authenticates reports whether Jicofo authenticates people itself (ConferenceIqHandler.kt), and so makes owners of them.
func (a *Answer) Authenticates() bool {
	return slices.Contains(a.Properties, Property{Name: "authentication", Value: "true"})
}

// Redirects reports whether Jicofo sends the client to another node, for visitors (moderator.js: vnode).
func (a *Answer) Redirects() bool {
	return slices.ContainsFunc(a.Attrs, func(attr xml.Attr) bool { return attr.Name.Local == "vnode" && attr.Value != "" })
}

// attributeName reports whether an attribute of this name can be passed on. xmlns cannot: it would change what the element means.
func attributeName(name string) bool {
	return PlainName(name) && name != "xmlns" && len(name) <= maxLength
}

// PlainName reports whether a name of an element or attribute can be written as it stands: ASCII, without colons, as all names that
// Jicofo knows. XML allows more. But encoding/xml accepts names that are none, and makes some by taking a prefix off; the server
// would end the stream at such a name (Namespaces in XML §3).
func PlainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '.') {
			return false
		}
	}
	return name != ""
}

// LogoutName is the qualified name of the payload that ParseLogout reads.
var LogoutName = xml.Name{Space: NS, Local: "logout"}

// ParseLogout reads the logout element that begins with start from r, up to its end, and returns the id of the session to end
// (LogoutIq; moderator.js, logout). The error is for the log and quotes nothing of the element.
func ParseLogout(start xml.StartElement, r xml.TokenReader) (sessionID string, err error) {
	if start.Name != LogoutName {
		return "", errors.New("not a logout element")
	}
	attrs, err := plainAttrs(start)
	if err != nil {
		return "", err
	}
	for _, a := range attrs {
		if a.Name.Local == "session-id" {
			sessionID = a.Value
		}
	}
	if sessionID == "" {
		return "", errors.New("no session-id attribute")
	}
	if _, err := children(r); err != nil {
		return "", fmt.Errorf("logout element: %w", err)
	}
	return sessionID, nil
}

// LoggedOut returns the answer to the IQ that carried a logout element, once the session has ended. It names no address to go to. For
// an unknown session the answer is Reply's for ReasonSessionInvalid, as Jicofo does it.
func LoggedOut(iq stanza.IQ) xml.TokenReader { return result(iq, element.New(NS, "logout")) }

// AsksAgain reports whether a client asks again by itself when it is told the decision.
func AsksAgain(d auth.Decision) bool { return d.Outcome().AsksAgain() }

// Reply returns the answer to the IQ that carried c. Its addresses are those of iq, swapped, and the room is spelled as
// the client did.
//
// sessionID is the session that the client is to keep; only a client that is let in is told. said is Jicofo's answer,
// nil where Jicofo was not asked. All of it is passed on but what usher says itself; whether Jicofo is ready is part of the
// decision already. Where Jicofo refused, the stanza.Error in d.Err is passed on.
func Reply(iq stanza.IQ, c Conference, d auth.Decision, sessionID string, said *Answer) xml.TokenReader {
	switch outcome := d.Outcome(); outcome {
	case auth.Joins:
		return result(iq, conference(c, true, sessionID, d, said))
	case auth.NotReady:
		// moderator.js: the client asks again after 1, 2, 4 … s.
		if d.Reason != auth.ReasonFocusUnavailable {
			said = nil
		}
		d.Identity = ""
		return result(iq, conference(c, false, "", d, said))
	case auth.FocusError:
		e := stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}
		errors.As(d.Err, &e)
		return failed(iq, d.Reason, passable(e), nil)
	default:
		f := failures[outcome]
		var child xml.TokenReader
		if f.child.Name.Local != "" {
			child = element.Wrap(f.child)
		}
		e := stanza.Error{Type: f.typ, Condition: f.condition, Text: map[string]string{"": d.Told()}}
		return failed(iq, d.Reason, e, child)
	}
}

// failure is how an error stands in the stanza. The child is a second child beside the reason code, where there is one.
type failure struct {
	typ       stanza.ErrorType
	condition stanza.Condition
	child     xml.StartElement
}

// failures are the errors that usher makes itself. TestReply goes through all outcomes.
var failures = map[auth.Outcome]failure{
	// moderator.js: a reservation-error makes the client show the text instead of a general failure.
	auth.Refused: {stanza.Auth, stanza.Forbidden, xml.StartElement{
		Name: xml.Name{Space: NS, Local: "reservation-error"}, Attr: []xml.Attr{element.NewAttr("error-code", "403")}}},
	// moderator.js: only not-authorized opens the dialog that says that the host is missing, with the login in it; the client
	// asks again every 5 s.
	auth.WaitsForHost: {typ: stanza.Auth, condition: stanza.NotAuthorized},
	auth.NeedsLogin:   {typ: stanza.Auth, condition: stanza.NotAuthorized},
	auth.SessionOver:  {stanza.Modify, stanza.NotAcceptable, xml.StartElement{Name: xml.Name{Space: NS, Local: "session-invalid"}}},
	// jitsi-meet base/conference/middleware.any.ts, CONFERENCE_REQUEST_FAILED: the page is that of the main room, and the client
	// loads it again. With a reservation-error it would show the text, and the person would be nowhere.
	auth.RoomGone:   {typ: stanza.Cancel, condition: stanza.ItemNotFound},
	auth.BadRequest: {typ: stanza.Modify, condition: stanza.BadRequest},
	auth.SlowDown:   {typ: stanza.Wait, condition: stanza.ResourceConstraint},
}

func conference(c Conference, ready bool, sessionID string, d auth.Decision, said *Answer) xml.TokenReader {
	if said == nil {
		said = &Answer{}
	}
	attrs := make([]xml.Attr, 0, 4+len(said.Attrs))
	attrs = append(attrs, element.NewAttr("room", c.Room), element.NewAttr("ready", strconv.FormatBool(ready)))
	if sessionID != "" {
		attrs = append(attrs, element.NewAttr("session-id", sessionID))
	}
	if d.Identity != "" {
		attrs = append(attrs, element.NewAttr("identity", d.Identity))
	}
	for _, a := range said.Attrs {
		if a.Name.Local != "identity" || d.Identity == "" {
			attrs = append(attrs, element.NewAttr(a.Name.Local, a.Value))
		}
	}
	// "authentication" makes the client offer a login (jitsi-meet ProfileTab.tsx). Jicofo does not know whether there is one: its own
	// authentication is off.
	properties := make([]Property, 0, 1+len(said.Properties))
	if !d.NoLogin {
		properties = append(properties, Property{"authentication", "true"})
	}
	for _, p := range said.Properties {
		if p.Name != "authentication" {
			properties = append(properties, p)
		}
	}
	return element.Wrap(xml.StartElement{Name: Name, Attr: attrs}, propertyElements(properties)...)
}

func propertyElements(properties []Property) []xml.TokenReader {
	elements := make([]xml.TokenReader, len(properties))
	for i, p := range properties {
		// Without a namespace of its own, the element gets that of its parent.
		elements[i] = element.Empty("", "property", element.NewAttr("name", p.Name), element.NewAttr("value", p.Value))
	}
	return elements
}

func result(iq stanza.IQ, payload xml.TokenReader) xml.TokenReader {
	iq.To, iq.From, iq.Type = iq.From, iq.To, stanza.ResultIQ
	return element.Wrap(iq.StartElement(), payload)
}

func failed(iq stanza.IQ, r auth.Reason, e stanza.Error, child xml.TokenReader) xml.TokenReader {
	reason := element.Empty(NSReason, "reason", element.NewAttr("code", string(r)))
	if child != nil {
		reason = xmlstream.MultiReader(child, reason)
	}
	iq.To, iq.From, iq.Type = iq.From, iq.To, stanza.ErrorIQ
	return iq.Wrap(e.Wrap(reason))
}

// passable returns the part of a foreign error that is passed on: type and condition if RFC 6120 §8.3 knows them, and one text, or
// the text of the reason.
func passable(e stanza.Error) stanza.Error {
	out := stanza.Error{Type: e.Type, Condition: e.Condition}
	if !slices.Contains(errorTypes, e.Type) {
		out.Type = stanza.Cancel
	}
	if !slices.Contains(conditions, e.Condition) {
		out.Condition = stanza.UndefinedCondition
	}
	text := e.Text[""]
	if text == "" && len(e.Text) > 0 {
		text = e.Text[slices.Min(slices.Collect(maps.Keys(e.Text)))]
	}
	if text == "" || len(text) > maxLength {
		text = auth.ReasonFocusRefused.Text()
	}
	out.Text = map[string]string{"": text}
	return out
}

var (
	errorTypes = []stanza.ErrorType{stanza.Auth, stanza.Cancel, stanza.Continue, stanza.Modify, stanza.Wait}
	conditions = []stanza.Condition{
		stanza.BadRequest, stanza.Conflict, stanza.FeatureNotImplemented, stanza.Forbidden, stanza.Gone,
		stanza.InternalServerError, stanza.ItemNotFound, stanza.JIDMalformed, stanza.NotAcceptable, stanza.NotAllowed,
		stanza.NotAuthorized, stanza.PolicyViolation, stanza.RecipientUnavailable, stanza.Redirect,
		stanza.RegistrationRequired, stanza.RemoteServerNotFound, stanza.RemoteServerTimeout, stanza.ResourceConstraint,
		stanza.ServiceUnavailable, stanza.SubscriptionRequired, stanza.UndefinedCondition, stanza.UnexpectedRequest,
	}
)
