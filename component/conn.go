package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// maxHeard is how many presences a Conn keeps for Await; older ones are dropped.
const maxHeard = 1 << 10

// Conn is a connection as the component on which nothing is admitted: for whoever wants to look at the server as usher
// sees it. Requests that come meanwhile are told to come again.
//
// It is a muc.Session by what it takes from the stream. It is usable while Run runs, by any goroutine; Await by one at a
// time.
type Conn struct {
	*stream

	inbox sync.Mutex
	heard []Presence
	more  chan struct{} // has an entry if something came that Await has not looked at
	why   error         // set before the stream's ended is closed
}

// Presence is a presence stanza that came.
type Presence struct {
	From, To jid.JID
	// Type is empty for an available presence (RFC 6121 §4.7.1).
	Type string
	// Err is the error of a presence of type error.
	Err *stanza.Error
	// Items and Codes are what a room says in muc#user (XEP-0045 §17.3).
	Items []muc.Item
	Codes []string
}

// Has tells whether the room gave the status code.
func (p Presence) Has(code string) bool { return slices.Contains(p.Codes, code) }

// Dial connects to the server's component port and does the handshake of XEP-0114, for which it takes ten seconds at
// most. What to do about its error, [Hint] may know. Whoever gets a Conn runs it.
func Dial(ctx context.Context, server string, domain jid.JID, secret []byte) (*Conn, error) {
	s, err := dial(ctx, server, domain, secret)
	if err != nil {
		return nil, err
	}
	return &Conn{stream: s, more: make(chan struct{}, 1)}, nil
}

// Run reads and writes until ctx ends, then closes the stream in good order, after everything that was handed over, and
// returns nil. If the stream ends before, it returns why.
func (c *Conn) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		err := c.write()
		if err != nil {
			c.wire.Close()
		}
		return err
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			c.finish(ctx)
		case <-c.ended:
			c.close()
		}
		return nil
	})
	g.Go(func() error {
		defer close(c.ended)
		c.why = c.read()
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(c.why, err)
}

// Ended is closed when the stream has ended; Err then tells why.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// Err tells why the stream ended, and is nil as long as it has not. A stream error of the server is one of mellium's
// package stream, such as Conflict.
func (c *Conn) Err() error {
	select {
	case <-c.ended:
		return c.why
	default:
		return nil
	}
}

// Await returns the first presence for which match is true, and takes it out of what was heard.
func (c *Conn) Await(ctx context.Context, match func(Presence) bool) (Presence, error) {
	for {
		c.inbox.Lock()
		if i := slices.IndexFunc(c.heard, match); i >= 0 {
			p := c.heard[i]
			c.heard = slices.Delete(c.heard, i, i+1)
			c.inbox.Unlock()
			return p, nil
		}
		c.inbox.Unlock()
		select {
		case <-c.more:
		case <-c.ended:
			return Presence{}, errDisconnected
		case <-ctx.Done():
			return Presence{}, fmt.Errorf("no presence came: %w", ctx.Err())
		}
	}
}

func (c *Conn) read() error {
	for {
		raw, err := c.wire.next()
		switch {
		case errors.Is(err, errTooLarge), errors.Is(err, errTooDeep):
			continue
		case err != nil:
			return streamEnd(err)
		}
		if err := c.stanza(raw); err != nil {
			return err
		}
	}
}

// stanza takes in one stanza. What cannot be decoded is dropped; an error means that the server ends the stream.
func (c *Conn) stanza(raw []byte) error {
	d := decoder(raw)
	start, err := firstElement(d)
	if err != nil {
		return nil
	}
	if err := streamError(start, d); err != nil {
		return err
	}
	from, err := jid.ParseUnsafe(element.Attr(start, "from"))
	if err != nil {
		return nil
	}
	to, err := jid.ParseUnsafe(element.Attr(start, "to"))
	if err != nil || to.Domainpart() != c.domain.String() {
		return nil
	}
	switch start.Name.Local {
	case "presence":
		if p, err := hear(start, d); err == nil {
			p.From, p.To = from.JID, to.JID
			c.hears(p)
		}
	case "iq":
		iq := stanza.IQ{ID: element.Attr(start, "id"), Type: stanza.IQType(element.Attr(start, "type")), From: from.JID, To: to.JID}
		switch iq.Type {
		case stanza.ResultIQ, stanza.ErrorIQ:
			c.answered(element.Attr(start, "from"), iq.ID, iq.Type, raw)
		case stanza.GetIQ, stanza.SetIQ:
			// Whether the answer can be sent shows in what our user does.
			switch payload, err := onlyChild(d); {
			case err == nil && payload.Name.Space == ping.NS:
				_ = c.Send(iq.Result(nil))
			case err == nil && payload.Name != focus.Name:
				// As Jicofo's questions to our occupants (disco#info), which it waits for.
				_ = c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
			default:
				_ = c.Send(focus.Reply(iq, focus.Conference{}, auth.Decision{}.Denied(auth.ReasonStopping, nil), "", nil))
			}
		}
	}
	return nil
}

func (c *Conn) hears(p Presence) {
	c.inbox.Lock()
	if len(c.heard) == maxHeard {
		c.heard = slices.Delete(c.heard, 0, 1)
	}
	c.heard = append(c.heard, p)
	c.inbox.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// hear decodes a presence but for its addresses. Speed is of no concern here, as it is in package muc.
func hear(start xml.StartElement, d *xml.Decoder) (Presence, error) {
	var x struct {
		Type  string        `xml:"type,attr"`
		Error *stanza.Error `xml:"error"`
		User  struct {
			Items  []muc.Item `xml:"item"`
			Status []struct {
				Code string `xml:"code,attr"`
			} `xml:"status"`
		} `xml:"http://jabber.org/protocol/muc#user x"`
	}
	if err := d.DecodeElement(&x, &start); err != nil {
		return Presence{}, err
	}
	p := Presence{Type: x.Type, Err: x.Error, Items: x.User.Items}
	for _, s := range x.User.Status {
		p.Codes = append(p.Codes, s.Code)
	}
	return p, nil
}
