package prosodytest

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// stream is an XML stream on some transport. Only one goroutine at a time may call open and next; any may call the others.
type stream interface {
	// open begins the stream, or begins it anew after authentication, and returns its id.
	open() (id string, err error)
	// next returns the next element of the stream, or io.EOF at its orderly end.
	next() (Stanza, error)
	// send writes any bytes, valid or not.
	send(s string) error
	// end closes our side of the stream. The other side then closes its own.
	end() error
	// drop closes the connection at once, which also ends a waiting next.
	drop()
}

// tcp is a stream as in RFC 6120 §4, for clients and for components.
type tcp struct {
	conn    net.Conn
	r       *bufio.Reader
	d       *xml.Decoder
	ns, to  string
	timeout time.Duration
}

func dialTCP(ctx context.Context, addr, ns, to string, timeout time.Duration) (*tcp, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &tcp{conn: conn, r: bufio.NewReader(conn), ns: ns, to: to, timeout: timeout}, nil
}

func (s *tcp) open() (string, error) {
	// Because s.r is an io.ByteReader, the decoder reads no further than the element that it returns.
	s.d = xml.NewDecoder(s.r)
	if err := s.send(fmt.Sprintf("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s' to='%s' version='1.0'>",
		s.ns, nsStreams, escaper.Replace(s.to))); err != nil {
		return "", err
	}
	for {
		t, err := s.d.Token()
		if err != nil {
			return "", err
		}
		if start, ok := t.(xml.StartElement); ok {
			if start.Name.Space != nsStreams || start.Name.Local != "stream" {
				return "", fmt.Errorf("the stream begins with <%s>", start.Name.Local)
			}
			for _, a := range start.Attr {
				if a.Name.Local == "id" {
					return a.Value, nil
				}
			}
			return "", nil
		}
	}
}

func (s *tcp) next() (Stanza, error) {
	for {
		t, err := s.d.Token()
		if err != nil {
			return Stanza{}, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return readElement(s.d, t, nsClient)
		case xml.EndElement:
			return Stanza{}, io.EOF
		}
	}
}

func (s *tcp) send(x string) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.timeout))
	_, err := io.WriteString(s.conn, x)
	return err
}

func (s *tcp) end() error { return s.send("</stream:stream>") }
func (s *tcp) drop()      { _ = s.conn.Close() }

// ws is a stream as in RFC 7395: each message holds one element, which is a document of its own.
type ws struct {
	conn    *websocket.Conn
	to      string
	timeout time.Duration
}

// webSocketClient keeps no idle connections: their goroutines would outlive the test.
var webSocketClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func dialWebSocket(ctx context.Context, url, to string, timeout time.Duration) (*ws, error) {
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: webSocketClient, Subprotocols: []string{"xmpp"}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return &ws{conn: conn, to: to, timeout: timeout}, nil
}

func (s *ws) open() (string, error) {
	if err := s.write(fmt.Sprintf("<open xmlns='%s' to='%s' version='1.0'/>", nsFraming, escaper.Replace(s.to))); err != nil {
		return "", err
	}
	_, data, err := s.conn.Read(context.Background())
	if err != nil {
		return "", err
	}
	st, err := parse(string(data), nsClient)
	if err != nil {
		return "", err
	}
	if st.Name != "open" || st.NS != nsFraming {
		return "", fmt.Errorf("the stream begins with %s", st)
	}
	return st.Attr["id"], nil
}

func (s *ws) next() (Stanza, error) {
	_, data, err := s.conn.Read(context.Background()) // ended by drop
	if err != nil {
		return Stanza{}, err
	}
	st, err := parse(string(data), nsClient)
	if err == nil && st.Name == "close" && st.NS == nsFraming {
		err = io.EOF
	}
	return st, err
}

func (s *ws) send(x string) error {
	for _, frame := range frames(x) {
		if err := s.write(frame); err != nil {
			return err
		}
	}
	return nil
}

func (s *ws) write(frame string) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, []byte(frame))
}

func (s *ws) end() error { return s.write(fmt.Sprintf("<close xmlns='%s'/>", nsFraming)) }
func (s *ws) drop()      { _ = s.conn.CloseNow() }

// frames splits x into its elements, and gives each the namespace that a TCP stream would have declared. Text that is not
// XML stays as it is, because some tests send such text.
func frames(x string) []string {
	d := xml.NewDecoder(strings.NewReader(x))
	var all []string
	var frame strings.Builder
	for depth, from := 0, int64(0); ; from = d.InputOffset() {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) && depth == 0 {
			return all
		}
		if err != nil {
			return []string{x}
		}
		raw := x[from:d.InputOffset()]
		switch t := t.(type) {
		case xml.StartElement:
			if depth == 0 && t.Name.Space == "" && !declares(t) {
				name := len("<") + len(t.Name.Local)
				raw = raw[:name] + " xmlns='" + nsClient + "'" + raw[name:]
			}
			depth++
		case xml.EndElement:
			depth--
		default:
			if depth == 0 {
				raw = "" // text between elements
			}
		}
		frame.WriteString(raw)
		if depth == 0 && frame.Len() > 0 {
			all = append(all, frame.String())
			frame.Reset()
		}
	}
}

func declares(start xml.StartElement) bool {
	for _, a := range start.Attr {
		if a.Name.Space == "" && a.Name.Local == "xmlns" {
			return true
		}
	}
	return false
}
