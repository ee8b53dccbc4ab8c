package stream_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/component/stream"
)

// Where nobody listens, the hint says so; for an error that nobody knows, there is none.
func TestHint(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, refused := stream.Dial(t.Context(), l.Addr().String(), jid.MustParse("focus.meet.example.com"), []byte("secret"))
	for _, tt := range []struct {
		err  error
		want string
	}{
		{refused, "nothing listens there"},
		{fmt.Errorf("handshake: %w", xmppstream.HostUnknown), "Component \"<xmpp.domain>\""},
		{errors.New("else"), ""},
	} {
		if got := stream.Hint(tt.err); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%v: %q", tt.err, got)
		}
	}
}
