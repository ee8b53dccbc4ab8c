package stream

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// conn is a connection to a server that sends what the test says, and takes all that is written.
type conn struct {
	net.Conn
	sends   io.Reader
	written int // bytes
}

func (c *conn) Read(b []byte) (int, error)       { return c.sends.Read(b) }
func (c *conn) Write(b []byte) (int, error)      { c.written += len(b); return len(b), nil }
func (c *conn) Close() error                     { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

const header = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' id='a>b' xmlns='jabber:component:accept'>"

// elements cuts a stream into elements, "" where one was too large or too deep, and returns why it ended.
func elements(r io.Reader) (all []string, end error) {
	w := newWire(&conn{sends: r})
	for {
		b, err := w.next()
		switch {
		case errors.Is(err, ErrTooLarge), errors.Is(err, ErrTooDeep):
			all = append(all, "")
		case err != nil:
			return all, err
		default:
			all = append(all, string(b))
		}
	}
}

func TestWire(t *testing.T) {
	deep := strings.Repeat("<a>", MaxDepth+1) + strings.Repeat("</a>", MaxDepth+1)
	just := strings.Repeat("<a>", MaxDepth) + strings.Repeat("</a>", MaxDepth)
	large := "<a b='" + strings.Repeat("x", MaxStanza) + "'/>"
	for name, tt := range map[string]struct {
		stream string // after the header
		want   []string
		end    error
	}{
		"empty":              {"</stream:stream>", nil, io.EOF},
		"stanzas":            {"<a/><b>c</b> \n<d><e/><f></f></d></stream:stream>", []string{"<a/>", "<b>c</b>", " \n<d><e/><f></f></d>"}, io.EOF},
		"brackets in quotes": {"<a b='>' c=\"</a>'/>\"><d e='/'/></a></stream:stream>", []string{"<a b='>' c=\"</a>'/>\"><d e='/'/></a>"}, io.EOF},
		"odd names":          {"<a:b:c/><-><.></-></.></stream:stream>", []string{"<a:b:c/>", "<-><.></-></.>"}, io.EOF},
		"too deep":           {deep + "<a/></stream:stream>", []string{"", "<a/>"}, io.EOF},
		"just not too deep":  {just + "</stream:stream>", []string{just}, io.EOF},
		"too large":          {large + "<a/></stream:stream>", []string{"", "<a/>"}, io.EOF},
		"text":               {"<a/>text<b/>", []string{"<a/>"}, errRestricted},
		"comment":            {"<a/><!-- --><b/>", []string{"<a/>"}, errRestricted},
		"comment within":     {"<a><!-- --></a>", nil, errRestricted},
		"declaration":        {"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", nil, errRestricted},
		"instruction":        {"<a><?php ?></a>", nil, errRestricted},
		"cut off":            {"<a><b>", nil, io.ErrUnexpectedEOF},
		"cut off in a tag":   {"<a b='", nil, io.ErrUnexpectedEOF},
		"cut off between":    {"<a/>", []string{"<a/>"}, io.ErrUnexpectedEOF},
		"end tag of nothing": {"<a></a></b>", []string{"<a></a>"}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			stream := header + tt.stream
			// However the network cuts the stream into pieces, the elements are the same.
			cuts := []io.Reader{strings.NewReader(stream), iotest.HalfReader(strings.NewReader(stream))}
			if len(stream) < MaxStanza { // a megabyte by single bytes takes seconds
				cuts = append(cuts, iotest.OneByteReader(strings.NewReader(stream)))
			}
			for _, r := range cuts {
				got, end := elements(r)
				if want := append([]string{header}, tt.want...); !slices.Equal(got, want) || !errors.Is(end, tt.end) {
					t.Errorf("got %.200q, %v; want %.200q, %v", got, end, want, tt.end)
				}
			}
		})
	}
}

// Read, which the negotiation of the stream uses, never returns bytes of two elements at once.
func TestWireRead(t *testing.T) {
	w := newWire(&conn{sends: strings.NewReader(header + "<handshake/><a/><b/></stream:stream>")})
	var got []string
	p := make([]byte, 4096)
	for {
		n, err := w.Read(p)
		if err != nil {
			break
		}
		got = append(got, string(p[:n]))
	}
	if want := []string{header, "<handshake/>", "<a/>", "<b/>"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// The list of who is in a room is read, whatever nicks 600 people have taken.
func TestWireReadsLists(t *testing.T) {
	item := "<item affiliation='member' role='participant' jid='" + strings.Repeat("x", 100) + "' nick='" + strings.Repeat("&apos;", 1023) + "'/>"
	list := "<iq><query>" + strings.Repeat(item, 600) + "</query></iq>"
	if all, _ := elements(strings.NewReader(header + list)); len(all) != 2 || all[1] != list {
		t.Error("it is not read")
	}
}

// A stanza without an end keeps no more than its limit in memory.
func TestWireIsBounded(t *testing.T) {
	w := newWire(&conn{sends: io.MultiReader(strings.NewReader(header+"<a>"), io.LimitReader(endless('x'), 4*MaxStanza))})
	for {
		if _, err := w.next(); err != nil {
			break
		}
	}
	if cap(w.buf) > 2*MaxStanza {
		t.Errorf("%d bytes kept", cap(w.buf))
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}
