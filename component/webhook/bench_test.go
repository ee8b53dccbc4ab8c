package webhook_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/webhook"
)

// BenchmarkReport measures what the one who reports waits: with a hook that wants nothing of it, and with one that does.
func BenchmarkReport(b *testing.B) {
	for _, wants := range []bool{false, true} {
		b.Run(fmt.Sprintf("wanted=%t", wants), func(b *testing.B) {
			h := hook(b, "one")
			if !wants {
				h.Events, h.Rooms = []webhook.Type{webhook.OccupantJoined}, []string{"other-*", "[acme]*"}
			}
			o := outbox(b, nil, h)
			r := report("standup", "1")
			for n := 0; b.Loop(); n++ {
				if n%webhook.MaxReports == 0 {
					o = outbox(b, nil, h) // so that none is dropped
				}
				o.Report(r)
			}
		})
	}
}

// BenchmarkOutbox measures the CPU time of an event from the report to the answer, with the store and a real HTTP server in this process.
// The server's part is in it. Times 1,000 it is the share of a CPU at 1,000 events a second.
func BenchmarkOutbox(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	for name, s := range map[string]func() store.Store{
		"memory": func() store.Store { return store.Memory(store.Options{}) },
		"bolt": func() store.Store {
			s, err := store.Open(filepath.Join(b.TempDir(), "usher.db"), store.Options{})
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
	} {
		b.Run(name, func(b *testing.B) {
			h := hook(b, "one")
			h.URL = server.URL
			kept := s()
			defer kept.Close()
			o := outbox(b, nil, h)
			stop := run(b, o, kept)
			defer stop()
			before, n := cpu(b), 0
			for ; b.Loop(); n++ {
				o.Report(report(fmt.Sprint("room", n%100), "text"))
				for int64(n)-o.Stats()[0].Sent > 2000 {
					runtime.Gosched()
				}
			}
			for o.Stats()[0].Sent < int64(n) {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

// cpu returns the CPU time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
