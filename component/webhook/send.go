package webhook

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"
)

// client returns the client that sends requests.
func client(of *http.Client) *http.Client {
	c := &http.Client{}
	if of != nil {
		*c = *of
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes, t.DisableCompression = parallel, 64<<10, true
		c.Transport = t
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// dispatch starts requests as they are due, until ctx ends. start runs a function that ends when its context does.
func (b *Outbox) dispatch(ctx context.Context, start func(func(context.Context))) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-b.due:
		case <-t.C:
		case <-ctx.Done():
			return
		}
		t.Reset(b.launch(start))
	}
}

// launch starts the requests that are due, and returns how long until the next may be.
func (b *Outbox) launch(start func(func(context.Context))) time.Duration {
	next := time.Hour
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.o.Now()
	for _, h := range b.hooks {
		for {
			e, wait := h.take(now)
			if wait > 0 {
				next = min(next, wait)
			}
			if e == nil {
				break
			}
			conf := h.conf
			start(func(ctx context.Context) { b.answered(h, e, b.send(ctx, conf, e)) })
		}
	}
	return next
}

// answer is what became of a request.
type answer struct {
	err   error // nil: the hook has the event
	gone  bool
	after time.Duration // the hook asks to be left alone that long
}

// drain bounds what is read of an answer, and the time for it. Nobody needs the answer; it is read so that the connection can be used
// again.
const (
	drain     = 16 << 10
	drainTime = time.Second
)

// send sends an event once.
func (b *Outbox) send(ctx context.Context, h Hook, e *event) answer {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(e.body))
	if err != nil {
		return answer{err: errors.New("its url cannot be used")}
	}
	timestamp := strconv.FormatInt(b.o.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "usher")
	req.Header.Set("webhook-id", e.id)
	req.Header.Set("webhook-timestamp", timestamp)
	req.Header.Set("webhook-signature", sign(h.Secrets, e.id, timestamp, e.body))
	resp, err := b.client.Do(req)
	if err != nil {
		return answer{err: h.clean(ctx, err)}
	}
	late := time.AfterFunc(drainTime, cancel)
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, drain)
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 2:
		return answer{}
	case resp.StatusCode/100 == 3:
		return answer{err: fmt.Errorf("it answers %d, and redirects are not followed; correct its url", resp.StatusCode)}
	}
	return answer{err: fmt.Errorf("it answers %d", resp.StatusCode), gone: resp.StatusCode == http.StatusGone, after: b.retryAfter(resp)}
}

// retryAfter returns how long a hook wants to be left alone, an hour at most (RFC 9110 §10.2.3).
func (b *Outbox) retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, lastPause)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(b.o.Now()), lastPause))
	}
	return 0
}

// maxError bounds an error in the log.
const maxError = 200

// clean takes what may be secret out of the error of a request: the library quotes the URL and what the server says.
func (h Hook) clean(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in %v", h.Timeout)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	text := err.Error()
	for _, secret := range h.secrets() {
		text = strings.ReplaceAll(text, secret, "…")
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	return errors.New(strings.ToValidUTF8(text[:min(len(text), maxError)], ""))
}

// secrets are the parts of the URL that nobody is told.
func (h Hook) secrets() (all []string) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil
	}
	password, _ := u.User.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password)) // as the library sends it
	candidates := []string{h.URL, u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery, u.User.String(), u.User.Username(), password, basic}
	candidates = append(candidates, strings.Split(u.Path, "/")...)
	candidates = append(candidates, strings.Split(u.EscapedPath(), "/")...)
	for _, values := range u.Query() {
		candidates = append(candidates, values...)
	}
	for _, c := range candidates {
		if len(c) > 3 { // a shorter one is no secret, and its letters may be anywhere
			all = append(all, c)
		}
	}
	return all
}

// answered notes what became of a request, and lets the next event of the room go.
func (b *Outbox) answered(h *hook, e *event, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.due.Ring()
	now := b.o.Now()
	h.flying--
	e.flying = false
	l := h.lanes[e.room]
	switch {
	case a.err == nil:
		b.worked(h, now)
		h.stats.Sent++
		b.over(h, e)
	case a.gone:
		h.stats.Failed++
		h.gone = true
		b.o.Log.Error("webhook is gone (410): it gets nothing until the configuration changes", h.fields()...)
		for _, each := range append([]*event(nil), h.order...) {
			if !each.over && !each.flying {
				b.bury(h, each, now)
			}
		}
	case a.err == context.Canceled: // usher stops
	default:
		b.failed(h, e, l, a, now)
	}
	if len(l.events) > 0 {
		heap.Push(&h.due, l)
	}
}

// worked notes that the hook has taken an event. After it was down, all events are due: their pauses may be long.
func (b *Outbox) worked(h *hook, now time.Time) {
	if h.failures >= down {
		b.o.Log.Info("webhook works again", h.fields()...)
		h.hurry(now)
	}
	h.failures = 0
}

// failed notes that a request has failed.
func (b *Outbox) failed(h *hook, e *event, l *lane, a answer, now time.Time) {
	h.stats.Failed++
	if h.failures++; h.failures == 1 || h.failures == down {
		b.o.Log.Warn("webhook failed, and is tried again", append(h.fields(), zap.Error(a.err), zap.Int("in a row", h.failures))...)
	}
	if now.Sub(e.at) >= life || h.gone {
		b.bury(h, e, now)
		l.next = now
		return
	}
	l.failures++
	l.next = now.Add(max(backoff(l.failures), a.after))
}

func (h *hook) fields() []zap.Field {
	return []zap.Field{zap.String("hook", h.name), zap.String("url", h.conf.where())}
}

// over removes an event, here and from the store.
func (b *Outbox) over(h *hook, e *event) {
	h.remove(e)
	b.done = append(b.done, e.key())
	b.wake.Ring()
}

// buryEvery is the interval at which dead events are told in the log.
const buryEvery = time.Minute

// bury drops an event.
func (b *Outbox) bury(h *hook, e *event, now time.Time) {
	b.over(h, e)
	b.dead(h, 1, now)
}

// dead counts dead events.
func (b *Outbox) dead(h *hook, n int64, now time.Time) {
	h.stats.Dead += n
	if h.buried += n; now.Sub(h.told) >= buryEvery {
		b.o.Log.Error("webhook: events were dropped, because it did not take them", append(h.fields(), zap.Int64("events", h.buried))...)
		h.buried, h.told = 0, now
	}
}
