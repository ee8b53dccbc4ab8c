package doctor

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
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

// maxHeard is how many presences a conn keeps for await. When there are more, the domain that has sent most of them loses its oldest,
// so that nobody who sends many can push out what a room or Jicofo says.
const maxHeard = 1 << 10

// conn is a connection as the component that admits nobody: it sees the server as usher does. A client that sends a request
// meanwhile is told to ask again.
//
// It is usable by any goroutine while run runs; await only by one at a time.
type conn struct {
	*stream.Stream
	domain jid.JID

	told  *muc.Told  // what usher's module tells
	tells alarm.Bell // rings when it has told of all rooms

	inbox  sync.Mutex
	heard  []presence
	of     map[string]int // how many of heard each domain has sent
	wanted func(presence) bool
	found  chan presence // takes the first presence that is wanted; nil if nobody waits
}

// presence is a presence stanza that came.
type presence struct {
	from, to jid.JID
	id       string
	typ      string        // empty for an available presence (RFC 6121 §4.7.1)
	err      *stanza.Error // that of a presence of type error
	// items and codes are what a room says in muc#user (XEP-0045 §17.3).
	items []muc.Item
	codes []string
}

// has reports whether the room gave the status code.
func (p presence) has(code string) bool { return slices.Contains(p.codes, code) }

// dial connects; the caller then runs the conn. stream.Hint may know what to do about the error.
func dial(ctx context.Context, server string, domain jid.JID, secret []byte) (*conn, error) {
	s, err := stream.Dial(ctx, server, domain, secret)
	if err != nil {
		return nil, err
	}
	c := &conn{Stream: s, domain: domain, of: make(map[string]int), tells: alarm.NewBell()}
	c.told = muc.NewTold(muc.ToldOptions{
		Session: s, From: address(domain, muc.Nick, "").Bare(), Mirror: true,
		News: func(n muc.News) {
			if n.Kind == muc.NewsTells {
				c.tells.Ring()
			}
		},
		Warn: func(jid.JID, string, error) {}, // the doctor says what follows from it
	})
	return c, nil
}

// run reads and writes until ctx ends, then writes what is queued, closes the stream in good order, and returns nil. If the
// stream ends before, it returns why.
func (c *conn) run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		err := c.Transmit()
		if err != nil {
			c.Close()
		}
		return err
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stream.CloseTimeout)
			defer cancel()
			c.Finish(ctx)
		case <-c.Ended():
			c.Close()
		}
		return nil
	})
	g.Go(func() error {
		_ = c.Receive(c.take, func(p any) { panic(p) }) // Err has its error
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(c.Err(), err)
}

// await returns the first presence for which match is true, and takes it out of those that were heard.
func (c *conn) await(ctx context.Context, match func(presence) bool) (presence, error) {
	found := make(chan presence, 1)
	c.inbox.Lock()
	if i := slices.IndexFunc(c.heard, match); i >= 0 {
		found <- c.forget(i)
	} else {
		c.wanted, c.found = match, found
	}
	c.inbox.Unlock()
	var err error
	select {
	case p := <-found:
		return p, nil
	case <-c.Ended():
		err = stream.ErrDisconnected
	case <-ctx.Done():
		err = fmt.Errorf("no presence came: %w", ctx.Err())
	}
	c.inbox.Lock()
	c.wanted, c.found = nil, nil
	c.inbox.Unlock()
	select {
	case p := <-found: // meanwhile
		return p, nil
	default:
		return presence{}, err
	}
}

// forget takes out a presence that was heard. The caller holds inbox.
func (c *conn) forget(i int) presence {
	p := c.heard[i]
	c.heard = slices.Delete(c.heard, i, i+1)
	if domain := p.from.Domainpart(); c.of[domain] > 1 {
		c.of[domain]--
	} else {
		delete(c.of, domain)
	}
	return p
}

// take handles one stanza. What cannot be decoded, or is not for our domain, is dropped.
func (c *conn) take(st stream.Stanza) {
	if st.Fault != nil {
		return
	}
	from, err := jid.ParseUnsafe(st.Attr("from"))
	if err != nil {
		return
	}
	to, err := jid.ParseUnsafe(st.Attr("to"))
	if err != nil || to.Domainpart() != c.domain.String() {
		return
	}
	switch st.Start.Name.Local {
	case "presence":
		if p, err := decodePresence(st.Start, st.Body); err == nil {
			p.from, p.to, p.id = from.JID, to.JID, st.Attr("id")
			c.hear(p)
		}
	case "message":
		_, _ = c.told.Hear(from.JID, st.Start, st.Body) // what it cannot read, it misses
	case "iq":
		if c.Answer(st) {
			return
		}
		switch iq := (stanza.IQ{ID: st.Attr("id"), Type: stanza.IQType(st.Attr("type")), From: from.JID, To: to.JID}); iq.Type {
		case stanza.GetIQ, stanza.SetIQ:
			_ = c.Send(reply(iq, st.Body)) // if the stream is ending, the examination shows it
		}
	}
}

// reply is the answer to an IQ of type get or set. body reads its payload.
func reply(iq stanza.IQ, body *xml.Decoder) xml.TokenReader {
	switch payload, err := stream.Payload(body); {
	case err == nil && payload.Name.Space == ping.NS:
		return iq.Result(nil)
	case err == nil && payload.Name != focus.Name:
		// Jicofo asks our occupants disco#info, and waits for the answer.
		return iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable})
	default:
		return focus.Reply(iq, focus.Conference{}, auth.Decision{}.Denied(auth.ReasonStopping, nil), "", nil)
	}
}

// hear gives a presence to await, or keeps it.
func (c *conn) hear(p presence) {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	if c.found != nil && c.wanted(p) {
		c.found <- p
		c.wanted, c.found = nil, nil
		return
	}
	c.heard = append(c.heard, p)
	c.of[p.from.Domainpart()]++
	if len(c.heard) <= maxHeard {
		return
	}
	most := ""
	for domain, n := range c.of {
		if n > c.of[most] {
			most = domain
		}
	}
	c.forget(slices.IndexFunc(c.heard, func(p presence) bool { return p.from.Domainpart() == most }))
}

// decodePresence decodes a presence without its addresses. Speed does not matter here, as it does in package muc.
func decodePresence(start xml.StartElement, d *xml.Decoder) (presence, error) {
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
		return presence{}, err
	}
	p := presence{typ: x.Type, err: x.Error, items: x.User.Items}
	for _, s := range x.User.Status {
		p.codes = append(p.codes, s.Code)
	}
	return p, nil
}
