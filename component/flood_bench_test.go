package component_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// BenchmarkFlood measures how long guests wait for the answer who ask for rooms that have a host, a hundred a second, "idle", and
// while one sender asks ten times as often as all of them, "rate", or has sent 20,000 requests at once, "burst". Flood and idle
// have turns of the same length; "ratio" is that of each two turns. All are medians of the turns. "direct" is the same with the
// flood sent to Jicofo itself, which refuses it: what Prosody alone makes of such a flood. "answered/s" is what the flooder gets.
func BenchmarkFlood(b *testing.B) {
	const rate, turn, rounds = 100, 2 * time.Second, 5
	for _, scene := range []struct {
		name   string
		direct bool
		burst  int // of requests at once; 0 for ten times the rate of the others
	}{{"rate", false, 0}, {"burst", false, 20_000}, {"direct-rate", true, 0}, {"direct-burst", true, 20_000}} {
		b.Run(scene.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			i := startInstall(b)
			others := i.open(b, "other", 20)
			to, payload := domain, request("flooded@elsewhere.example.com", "", "") // refused at once
			if scene.direct {
				to, payload = i.jicofo.JID(), "<login-url xmlns='http://jitsi.org/protocol/focus'/>"
			}
			var idle, flooded, ratio []quantiles
			var answered, sent int
			var took time.Duration
			for range b.N {
				for range rounds {
					i1 := quantilesOf(i.paced(b, rate, turn, others, i.guest))
					f := i.flood(b, to, payload)
					began := time.Now()
					stop := f.begin(b, rate*10, scene.burst)
					i2 := quantilesOf(i.paced(b, rate, turn, others, i.guest))
					stop()
					answered, sent, took = answered+f.end(b), sent+f.sent, took+time.Since(began)
					idle, flooded, ratio = append(idle, i1), append(flooded, i2), append(ratio, quantiles{i2[0] / i1[0], i2[1] / i1[1]})
				}
			}
			middle(idle).report(b, "idle-")
			middle(flooded).report(b, "flood-")
			for n, q := range []string{"p50", "p99"} {
				b.ReportMetric(middle(ratio)[n], "ratio-"+q)
			}
			b.ReportMetric(float64(answered)/took.Seconds(), "answered/s")
			if answered != sent {
				b.Errorf("%d of %d requests were answered", answered, sent)
			}
		})
	}
}

// flood is one sender with many requests.
type flood struct {
	client      *prosodytest.Client
	to, payload string
	sent        int
}

func (i *install) flood(b *testing.B, to, payload string) *flood {
	b.Helper()
	return &flood{client: i.Client(b, prosodytest.ClientOptions{Host: "guest.meet.example.com"}), to: to, payload: payload}
}

// begin sends so many requests a second, or at once, until it is stopped.
func (f *flood) begin(b *testing.B, rate, burst int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	some := func(n int) {
		var all strings.Builder
		for range n {
			f.sent++
			fmt.Fprintf(&all, "<iq type='set' id='f%d' to='%s'>%s</iq>", f.sent, f.to, f.payload)
		}
		if err := f.client.Send(all.String()); err != nil {
			b.Error(err)
		}
	}
	sending.Go(func() {
		if burst > 0 {
			for range burst / 100 {
				some(100)
			}
			return
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-tick.C:
				some(rate / 100)
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); sending.Wait() }
}

// end waits for the answers, and returns how many there were.
func (f *flood) end(b *testing.B) (answered int) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for answered < f.sent {
		s, err := f.client.Next(ctx)
		if err != nil {
			b.Errorf("after %d of %d answers: %v", answered, f.sent, err)
			return answered
		}
		if s.Name == "iq" {
			answered++
		}
	}
	return answered
}
