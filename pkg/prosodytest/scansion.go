package prosodytest

import (
	"context"
	"strings"
)

const anything = "{scansion:any}"

// Sends writes a stanza, and fails the test if that fails.
func (c *Client) Sends(xml string) {
	c.t.Helper()
	if err := c.Send(xml); err != nil {
		c.t.Fatalf("%s sends: %v", c.jid, err)
	}
}

// Receives takes the first stanza that matches the pattern, and waits for one if none has come yet. If none comes in time, the
// test fails and shows what came instead.
//
// A pattern is a stanza, as in scansion: a stanza matches if it has the pattern's elements, attributes and text. It may have
// more, unless an element of the pattern has the attribute scansion:strict='true': this element and those in it then match
// exactly. The value {scansion:any} matches any value of an attribute, or any text but an empty one. Children may come in any
// order. A pattern without a namespace is in jabber:client.
func (c *Client) Receives(pattern string) Stanza {
	c.t.Helper()
	p, ctx, cancel := c.expects(pattern)
	defer cancel()
	s, err := c.Await(ctx, p.matches)
	if err != nil {
		c.t.Fatalf("%s expected:\n%s\nbut: %v\nreceived:\n%s", c.jid, indent(p), err, Tail(indent(c.Drain()...)))
	}
	return s
}

// ReceivesNot fails the test if a stanza that matches the pattern is waiting, or is on its way from the server now (see
// [Client.Sync]).
func (c *Client) ReceivesNot(pattern string) {
	c.t.Helper()
	p, ctx, cancel := c.expects(pattern)
	defer cancel()
	if err := c.Sync(ctx); err != nil {
		c.t.Fatalf("%s: %v", c.jid, err)
	}
	for _, s := range c.waiting() {
		if p.matches(s) {
			c.t.Fatalf("%s did not expect:\n%s\nbut received:\n%s", c.jid, indent(p), Tail(indent(s)))
		}
	}
}

// expects parses a pattern, and returns the time that a client has to wait for what it matches.
func (c *Client) expects(pattern string) (Stanza, context.Context, context.CancelFunc) {
	c.t.Helper()
	p, err := parse(pattern, nsClient)
	if err != nil {
		c.t.Fatalf("pattern: %v\n%s", err, pattern)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	return p, ctx, cancel
}

func (c *Client) waiting() []Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Stanza(nil), c.queue...)
}

func indent(all ...Stanza) string {
	if len(all) == 0 {
		return "    (nothing)"
	}
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("    ")
		s.write(&b, nsClient, "\n    ")
	}
	return b.String()
}

// Matches reports whether s matches the pattern, by the rules of [Client.Receives].
func (s Stanza) Matches(pattern string) (bool, error) {
	p, err := parse(pattern, nsClient)
	return err == nil && p.matches(s), err
}

func (s Stanza) matches(actual Stanza) bool { return match(s, actual, false) }

func match(pattern, actual Stanza, strict bool) bool {
	if v, ok := pattern.Attr["scansion:strict"]; ok {
		strict = v == "true"
	}
	if pattern.Name != actual.Name || pattern.NS != actual.NS {
		return false
	}
	wanted := 0
	for name, value := range pattern.Attr {
		if strings.HasPrefix(name, "scansion:") {
			continue
		}
		wanted++
		got, ok := actual.Attr[name]
		if !ok || value != anything && value != got {
			return false
		}
	}
	switch {
	case pattern.Text == anything:
		if actual.Text == "" {
			return false
		}
	case pattern.Text != "" || strict:
		if pattern.Text != actual.Text {
			return false
		}
	}
	if strict && (len(actual.Attr) != wanted || len(actual.Children) != len(pattern.Children)) {
		return false
	}
	used := make([]bool, len(actual.Children))
	return assign(pattern.Children, actual.Children, used, strict)
}

// assign reports whether each pattern can have a matching child of its own. It backtracks, because a general pattern may first
// take the only child that fits a more special one.
func assign(patterns, children []Stanza, used []bool, strict bool) bool {
	if len(patterns) == 0 {
		return true
	}
	for i, c := range children {
		if used[i] || !match(patterns[0], c, strict) {
			continue
		}
		used[i] = true
		if assign(patterns[1:], children, used, strict) {
			return true
		}
		used[i] = false
	}
	return false
}
