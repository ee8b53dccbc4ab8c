package webhook_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/webhook"
	"github.com/xmpp-usher/usher/pkg/secrettest"
)

// patience is ample on a busy machine.
const patience = time.Minute

// receiver is a real HTTP server that answers as its handler says, and tells what it was sent.
type receiver struct {
	*httptest.Server
	got chan *http.Request // with a body that was verified
}

// receive starts a receiver. The handler gets the number of the request, from 1.
func receive(t *testing.T, start func(http.Handler) *httptest.Server, handle func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	e := &receiver{got: make(chan *http.Request, 100)}
	n := 0
	e.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || !json.Valid(body) {
			t.Errorf("%s %v %q, %v", r.Method, r.Header, body, err)
		}
		if err := verify(vectorSecret, r.Header, body, time.Now()); err != nil {
			t.Error(err)
		}
		n++ // one event at a time
		e.got <- r
		handle(n, w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *receiver) hook(t *testing.T) webhook.Hook {
	h := hook(t, "real")
	h.URL, h.Timeout = e.URL+"/path?query", patience
	return h
}

// next waits for a request.
func (e *receiver) next(t *testing.T) *http.Request {
	t.Helper()
	select {
	case r := <-e.got:
		return r
	case <-time.After(patience):
		t.Fatal("no request comes")
		return nil
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

// begin runs an Outbox with a client, and reports one event.
func begin(t *testing.T, c *http.Client, h webhook.Hook) (*webhook.Outbox, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	b, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{h}, Client: c, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, b, store.Memory(store.Options{}))
	b.Report(report("a", "1"))
	return b, logs
}

func failedOnce(t *testing.T, b *webhook.Outbox, logs *observer.ObservedLogs, says string) {
	t.Helper()
	eventually(t, "a request fails", func() bool { return b.Stats()[0].Failed > 0 && logs.Len() > 0 })
	if text := fmt.Sprint(logs.All()[0].ContextMap()); !strings.Contains(text, says) {
		t.Errorf("the log says %s; want %q", text, says)
	}
}

func sentOnce(t *testing.T, b *webhook.Outbox) {
	t.Helper()
	eventually(t, "the event is sent", func() bool { return b.Stats()[0].Sent == 1 && b.Stats()[0].Queued == 0 })
}

func TestTLS(t *testing.T) {
	e := receive(t, httptest.NewTLSServer, func(_ int, w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) })
	b, _ := begin(t, e.Client(), e.hook(t))
	if r := e.next(t); r.TLS == nil || r.URL.Path != "/path" || r.URL.RawQuery != "query" || r.Header.Get("User-Agent") != "usher" {
		t.Errorf("%+v", r)
	}
	sentOnce(t, b)
	// usher's own client trusts only those that the machine trusts.
	b, logs := begin(t, nil, e.hook(t))
	failedOnce(t, b, logs, "certificate")
	if len(e.got) > 0 {
		t.Error("an unknown server was told something")
	}
}

func TestRedirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		e := receive(t, httptest.NewServer, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				http.Redirect(w, r, other.URL, status)
			}
		})
		b, logs := begin(t, e.Client(), e.hook(t))
		failedOnce(t, b, logs, fmt.Sprint("it answers ", status, ", and redirects are not followed"))
		sentOnce(t, b)
		if first, second := e.next(t), e.next(t); first.Header.Get("webhook-id") != second.Header.Get("webhook-id") {
			t.Error("the second attempt has another id")
		}
	}
}

func TestTimeout(t *testing.T) {
	e := receive(t, httptest.NewServer, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done() // until usher has had enough
		}
	})
	h := e.hook(t)
	h.Timeout = 100 * time.Millisecond
	b, logs := begin(t, nil, h)
	failedOnce(t, b, logs, "no answer in 100ms")
	e.next(t)
	e.next(t)
}

// TestHugeAnswers: what a hook says beside the status holds nothing up, however long it is, and however slowly it comes.
func TestHugeAnswers(t *testing.T) {
	for name, handle := range map[string]func(w http.ResponseWriter, r *http.Request){
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
		"slow": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"long": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 10<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			e := receive(t, httptest.NewServer, func(_ int, w http.ResponseWriter, r *http.Request) { handle(w, r) })
			b, _ := begin(t, nil, e.hook(t))
			e.next(t)
			sentOnce(t, b)
			if st := b.Stats()[0]; st.Failed > 0 {
				t.Errorf("%+v", st)
			}
		})
	}
	t.Run("header", func(t *testing.T) {
		e := receive(t, httptest.NewServer, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			}
		})
		b, logs := begin(t, nil, e.hook(t))
		failedOnce(t, b, logs, "header")
		sentOnce(t, b)
	})
}

// TestSecrets: nothing of a hook's URL but scheme and host, and nothing of its secret, is in the log or in an error, also if the server
// says it.
func TestSecrets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // says what it was asked for, in the place of a status
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			first, _ := r.ReadString('\n')
			for line := first; err == nil && strings.TrimSpace(line) != ""; line, err = r.ReadString('\n') {
				if strings.HasPrefix(line, "Authorization") {
					first = line + first
				}
			}
			fmt.Fprintf(c, "%s\x1b[31m\r\n\r\n", strings.ReplaceAll(strings.TrimSpace(first), "\r\n", " "))
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	var s secrettest.Secrets
	s.Plant("the URL", "pathpathpath", "queryvalue", "passwordword", "username", "username:passwordword")
	s.Plant("the secret", vectorSecret, vectorSecret[6:])
	for _, address := range []string{l.Addr().String(), closed.Addr().String(), "127.0.0.1:1"} {
		h := hook(t, "real")
		h.URL = "http://username:passwordword@" + address + "/pathpathpath?key=queryvalue"
		b, logs := begin(t, nil, h)
		failedOnce(t, b, logs, "http://"+address)
		for _, entry := range logs.All() {
			text := fmt.Sprint(entry.Message, entry.ContextMap())
			if s.Check(t, "the log", text); strings.Contains(text, "\x1b") {
				t.Errorf("%q", text)
			}
		}
		s.Check(t, "Stats", fmt.Sprintf("%+v", b.Stats()))
	}
}
