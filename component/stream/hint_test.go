package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/component/stream"
)

// Where nobody listens, or somebody who does not speak as a component's server does, the hint says so; for an error that nobody knows,
// there is none.
func TestHint(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	domain := jid.MustParse("focus.meet.example.com")
	_, refused := stream.Dial(t.Context(), l.Addr().String(), domain, []byte("secret"))
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1)) // the dial is over
			cancel()                          // so that it takes CloseTimeout, and not ten seconds
			<-t.Context().Done()
		}
	}()
	_, silent := stream.Dial(ctx, l.Addr().String(), domain, []byte("secret"))
	for _, tt := range []struct {
		err  error
		want string
	}{
		{refused, "nothing listens there"},
		{silent, "is xmpp.server its component port (component_ports, 5347 unless set)?"},
		{fmt.Errorf("handshake: %w", xmppstream.HostUnknown), "Component \"focus.meet.example.com\""},
		{errors.New("else"), ""},
	} {
		if got := stream.Hint(tt.err, domain); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%v: %q", tt.err, got)
		}
	}
}
