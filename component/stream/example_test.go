package stream_test

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/component/stream"
)

// Connect, ask the server what it is, and leave.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := stream.Dial(ctx, "127.0.0.1:5347", jid.MustParse("focus.meet.example.com"), []byte("secret"))
	if err != nil {
		fmt.Println(err, stream.Hint(err, jid.MustParse("focus.meet.example.com")))
		return
	}
	var g errgroup.Group
	g.Go(s.Transmit)
	g.Go(func() error {
		return s.Receive(func(st stream.Stanza) {
			if !s.Answer(st) {
				fmt.Println("not an answer:", st.Start.Name.Local, "from", st.Attr("from"))
			}
		}, func(p any) { panic(p) })
	})

	var info disco.Info
	err = s.IQ(ctx, stanza.IQ{Type: stanza.GetIQ, To: jid.MustParse("meet.example.com")}, disco.InfoQuery{}.TokenReader(), &info)
	fmt.Println(info.Identity, err)

	s.Finish(ctx)
	fmt.Println(g.Wait())
}
