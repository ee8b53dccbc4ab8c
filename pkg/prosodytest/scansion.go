package prosodytest

import (
	"context"
	"strings"
)

const anything = "{scansion:any}"

// Sends writes a stanza. It fails the test if it cannot.
func (c *Client) Sends(xml string) {
	c.t.Helper()
	if err := c.Send(xml); err != nil {
		c.t.Fatalf("%s sends: %v", c.jid, err)
	}
}

// Receives takes the first stanza that fits the pattern, and waits for it if need be. If it does not come in time, the
// test fails and shows what came instead.
//
// A pattern is a stanza, as in scansion: its elements, attributes and text must be there. What the stanza has beside them
// does not matter, unless an element of the pattern has the attribute scansion:strict='true', which forbids it for that
// element and those in it. The value {scansion:any}, of an attribute or as text, means anything, but something. Children
// may come in any order. A pattern without a namespace is in jabber:client.
func (c *Client) Receives(pattern string) Stanza {
	c.t.Helper()
	p, err := parse(pattern, nsClient)
	if err != nil {
		c.t.Fatalf("pattern: %v\n%s", err, pattern)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	s, err := c.Await(ctx, p.matches)
	if err != nil {
		c.t.Fatalf("%s expected:\n%s\nbut: %v\nreceived:\n%s", c.jid, indent(p), err, Tail(indent(c.Drain()...)))
	}
	return s
}

// ReceivesNot fails the test if a stanza waits that fits the pattern, or comes with what the server has for the client
// now (see [Client.Sync]).
func (c *Client) ReceivesNot(pattern string) {
	c.t.Helper()
	p, err := parse(pattern, nsClient)
	if err != nil {
		c.t.Fatalf("pattern: %v\n%s", err, pattern)
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
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

// Matches says whether s fits the pattern, by the rules of [Client.Receives].
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

// assign finds a child of its own for each pattern. A general pattern may have to give way to a more special one, hence
// the second thoughts.
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
