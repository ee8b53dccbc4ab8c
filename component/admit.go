package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/disco/info"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
)

// admit decides one conference request and makes the decision true in the room. Only then may it be told.
func (c *Component) admit(ctx context.Context, req auth.Request) auth.Decision {
	d := c.policy.Load().Authorize(ctx, req, func(ctx context.Context, _ auth.Request, room auth.Room) (auth.RoomState, error) {
		exists, host, err := c.rooms.State(ctx, room.JID)
		return auth.RoomState{Exists: exists, HostPresent: host}, err
	})
	if d.Verdict != auth.Allow {
		return d
	}
	room, who := d.Room.JID, req.From.Bare()
	err := c.rooms.Open(ctx, room, d.MayCreate)
	if err == nil {
		err = c.rooms.Grant(ctx, room, who, string(d.Affiliation), d.Expires)
	}
	switch {
	case errors.Is(err, muc.ErrOutcast):
		return d.Denied(auth.ReasonBanned, nil)
	case errors.Is(err, muc.ErrAbsent) && !d.MayCreate:
		return d.Waiting(auth.ReasonHostAbsent)
	case err != nil:
		// What the server did of it, if anything, must not stay.
		c.rooms.Withdraw(room, who)
		return d.Denied(auth.ReasonRoomUnavailable, err)
	case d.NeedsHost && !c.rooms.HostPresent(room):
		// The host left between the decision and now. Everything that the server did before the answer to the
		// grant has been seen by now, so this is how it was when the affiliation was given.
		c.rooms.Withdraw(room, who)
		return d.Waiting(auth.ReasonHostAbsent)
	}
	return d
}

// conference answers a conference request.
func (c *Component) conference(ctx context.Context, iq stanza.IQ, payload xml.StartElement, d *xml.Decoder) {
	began := time.Now()
	var decision auth.Decision
	conf, err := focus.Parse(payload, d)
	if err == nil {
		err = endOfStanza(d)
	}
	switch {
	case err != nil:
		decision = decision.Denied(auth.ReasonRequestMalformed, err)
	case c.stopping.Load():
		decision = decision.Denied(auth.ReasonStopping, nil)
	default:
		decision = c.admit(ctx, auth.Request{
			At: began, From: iq.From, Room: conf.Room,
			Token: conf.Token, SessionID: conf.SessionID, MachineUID: conf.MachineUID,
		})
	}
	if err := c.Send(focus.Reply(iq, conf, decision, "", nil)); err != nil && decision.Verdict == auth.Allow {
		decision = decision.Denied(auth.ReasonRoomUnavailable, err)
	}
	c.decided(iq, decision, time.Since(began))
}

// decided counts and logs a decision, once, after the fact.
func (c *Component) decided(iq stanza.IQ, d auth.Decision, took time.Duration) {
	c.counts.add(string(d.Reason))
	fields := []zap.Field{
		zap.Stringer("verdict", d.Verdict),
		zap.String("reason", string(d.Reason)),
		zap.String("room", d.Room.JID.String()),
		zap.String("from", iq.From.String()),
		zap.Duration("took", took),
	}
	if d.Verdict == auth.Allow {
		fields = append(fields, zap.String("affiliation", string(d.Affiliation)))
	}
	for _, f := range []struct{ key, value string }{{"iss", d.Token.Issuer}, {"jti", d.Token.ID}, {"kid", d.Token.KeyID}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.key, f.value))
		}
	}
	if d.Err != nil {
		fields = append(fields, zap.Error(d.Err), hint(d.Err))
	}
	if d.Reason == auth.ReasonRoomUnavailable || d.Reason == auth.ReasonKeysUnavailable {
		c.o.Log.Warn("request", fields...)
		return
	}
	c.o.Log.Info("request", fields...)
}

// request answers one IQ of type get or set. It is what workers do.
func (c *Component) request(ctx context.Context, iq stanza.IQ, raw []byte) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p, "request")
			_ = c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.InternalServerError}))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, c.requestTimeout)
	defer cancel()

	d := decoder(raw)
	if _, err := firstElement(d); err != nil {
		c.malformed(iq, "iq", err)
		return
	}
	payload, err := onlyChild(d)
	if err != nil {
		c.malformed(iq, "iq", err)
		return
	}
	ours := iq.To.Equal(c.o.Domain)
	switch {
	case ours && iq.Type == stanza.SetIQ && payload.Name == focus.Name:
		c.conference(ctx, iq, payload, d)
		return
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: disco.NSInfo, Local: "query"} && attrOf(payload, "node") == "":
		err = c.Send(iq.Result(discoInfo.TokenReader()))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: disco.NSItems, Local: "query"} && attrOf(payload, "node") == "":
		err = c.Send(iq.Result(disco.ItemsQuery{}.TokenReader()))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: ping.NS, Local: "ping"}:
		err = c.Send(iq.Result(nil))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: version.NS, Local: "query"}:
		err = c.Send(iq.Result(version.Query{Name: "usher", Version: c.o.Version}.TokenReader()))
	default:
		// RFC 6120 §8.4: an IQ of type get or set that is not understood.
		c.counts.add("service-unavailable")
		err = c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
	}
	if err != nil {
		c.o.Log.Warn("an answer could not be sent", zap.Stringer("to", iq.From), zap.Error(err))
	}
}

// discoInfo is what we are (XEP-0030) and what we understand.
var discoInfo = disco.Info{
	Identity: []info.Identity{{Category: "component", Type: "generic", Name: "usher"}},
	Features: []info.Feature{{Var: disco.NSInfo}, {Var: disco.NSItems}, {Var: ping.NS}, {Var: version.NS}, {Var: focus.NS}},
}

// refuse answers a request that is not even looked at.
func (c *Component) refuse(iq stanza.IQ, reason auth.Reason, err error) {
	d := auth.Decision{}.Denied(reason, err)
	if err := c.Send(focus.Reply(iq, focus.Conference{}, d, "", nil)); err != nil {
		c.o.Log.Warn("an answer could not be sent", zap.Stringer("to", iq.From), zap.Error(err))
	}
	c.decided(iq, d, 0)
}

// malformed counts and logs what could not be understood, and answers it where RFC 6120 §8.2.3 wants an answer: an IQ of
// type get or set.
func (c *Component) malformed(iq stanza.IQ, what string, err error) {
	if iq.Type == stanza.GetIQ || iq.Type == stanza.SetIQ {
		c.refuse(iq, auth.ReasonRequestMalformed, err)
		return
	}
	c.counts.add(string(auth.ReasonRequestMalformed))
	c.o.Log.Info("stanza dropped", zap.String("reason", string(auth.ReasonRequestMalformed)), zap.String("stanza", what), zap.Error(err))
}

// onlyChild returns the start of an IQ's one payload (RFC 6120 §8.2.3). Text before it is refused.
func onlyChild(d *xml.Decoder) (xml.StartElement, error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			return t.Copy(), nil
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return xml.StartElement{}, errors.New("text before the payload of an IQ")
			}
		default:
			return xml.StartElement{}, errors.New("an IQ without a payload")
		}
	}
}

// endOfStanza reads what follows the payload up to the end of the stanza, and refuses everything but white space.
func endOfStanza(d *xml.Decoder) error {
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return errors.New("text after the payload of an IQ")
			}
		default:
			return fmt.Errorf("more than one payload in an IQ")
		}
	}
}
