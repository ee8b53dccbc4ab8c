package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/webhook"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

// request is what an endpoint was sent.
type request struct {
	hook string
	id   string
	room string
	n    string // which report it tells
	at   time.Time
	body string
	ok   bool // the answer was 2xx, and the sender has got it
}

// endpoint is an HTTP server without a network, for tests with a clock of their own (testing/synctest).
type endpoint struct {
	// answer returns the status and the time that it takes; a status of 0 means that the connection fails.
	answer func(r request) (status int, takes time.Duration)
	header http.Header // of answers

	mu  sync.Mutex
	got []request
	err error // a request that is none of Standard Webhooks, or too many at a time
	now map[string]int
}

// RoundTrip implements http.RoundTripper. The host of the URL is the name of the hook.
func (e *endpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	r := request{hook: req.URL.Host, id: req.Header.Get("webhook-id"), at: time.Now(), body: string(body)}
	var m struct {
		Type, Timestamp string
		Data            struct {
			RoomJID string `json:"room_jid"`
			Text    string
		}
	}
	err := errors.Join(verify(vectorSecret, req.Header, body, time.Now()), json.Unmarshal(body, &m))
	r.room, r.n = m.Data.RoomJID, m.Data.Text
	e.mu.Lock()
	if e.now == nil {
		e.now = map[string]int{}
	}
	e.now[r.hook]++
	if e.now[r.hook] > webhook.Parallel {
		err = errors.Join(err, fmt.Errorf("%d requests at a time", e.now[r.hook]))
	}
	e.err = errors.Join(e.err, err)
	status, takes := 200, time.Duration(0)
	if e.answer != nil {
		status, takes = e.answer(r)
	}
	e.mu.Unlock()
	t := time.NewTimer(takes)
	defer t.Stop()
	select {
	case <-t.C:
	case <-req.Context().Done():
		status, err = 0, req.Context().Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now[r.hook]--
	r.ok = status/100 == 2
	e.got = append(e.got, r)
	if status == 0 {
		if err == nil {
			err = errors.New("connection refused")
		}
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: e.header.Clone(), Body: io.NopCloser(bytes.NewReader([]byte("ok"))), Request: req}, nil
}

// set changes what the answers depend on.
func (e *endpoint) set(to *bool, value bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	*to = value
}

// requests returns what the endpoint was sent for a hook.
func (e *endpoint) requests(hook string) (all []request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.got {
		if r.hook == hook {
			all = append(all, r)
		}
	}
	return all
}

// told returns which reports a hook has got, in order and with repetitions.
func (e *endpoint) told(hook string) (all []string) {
	for _, r := range e.requests(hook) {
		if r.ok {
			all = append(all, r.n)
		}
	}
	return all
}

func secrets(t testing.TB, text string) []webhook.Secret {
	t.Helper()
	all, err := webhook.ParseSecrets(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hook returns a hook of an endpoint.
func hook(t testing.TB, name string) webhook.Hook {
	t.Helper()
	return webhook.Hook{Name: name, URL: "https://" + name + "/path", Secrets: secrets(t, vectorSecret)}
}

// outbox returns an Outbox for an endpoint.
func outbox(t testing.TB, e http.RoundTripper, hooks ...webhook.Hook) *webhook.Outbox {
	t.Helper()
	return logging(t, zap.NewNop(), e, hooks...)
}

func logging(t testing.TB, log *zap.Logger, e http.RoundTripper, hooks ...webhook.Hook) *webhook.Outbox {
	t.Helper()
	b, err := webhook.New(webhook.Options{Hooks: hooks, Client: &http.Client{Transport: e}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs an Outbox until the test calls stop, or ends.
func run(t testing.TB, b *webhook.Outbox, s store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { b.Run(ctx, s) })
	stop = func() {
		cancel()
		all.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// report is something that happens in a room; n finds it again.
func report(room, n string) component.Report {
	return component.Report{
		What: component.Joined, At: time.Now(), Room: jid.MustParse(room + "@conference.example.com"), Name: room,
		Who: jid.MustParse("juliet@example.com/balcony"), VHost: "example.com", Text: n,
	}
}

func decided(v auth.Verdict, again bool) component.Report {
	r := report("standup", v.String())
	r.What, r.Verdict, r.Again = component.Decided, v, again
	return r
}

// left returns the number of events in a store.
func left(t testing.TB, s store.Store) (n int) {
	t.Helper()
	for _, err := range s.All(t.Context(), store.KindWebhook) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func wantTold(t testing.TB, e *endpoint, hook string, want ...string) {
	t.Helper()
	if got := e.told(hook); !slices.Equal(got, want) {
		t.Errorf("%s was told %v; want %v", hook, got, want)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		t.Error(e.err)
	}
}

// child turns this process into the child process of a test, and then does not return. It does nothing in any other process.
var child = func() {}

// sent is the body of a request, as far as tests need it.
type sent struct {
	Type, Timestamp string
	Data            struct {
		RoomName string `json:"room_name"`
		Text     string
	}
}

func unmarshal(t testing.TB, body string) (s sent) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}
