package metrics_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/metrics"
	"github.com/xmpp-usher/usher/muc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usher is an active usher.
type usher struct {
	status component.Status
	stats  component.Snapshot
	rooms  []component.RoomSummary
	waits  map[string][]component.Waiter // by room
}

func (u usher) Status() component.Status       { return u.status }
func (u usher) Stats() component.Snapshot      { return u.stats }
func (u usher) Rooms() []component.RoomSummary { return u.rooms }
func (u usher) Room(_ context.Context, address string) (component.RoomView, error) {
	if u.waits[address] == nil {
		return component.RoomView{}, errors.New("no such room")
	}
	return component.RoomView{Waits: u.waits[address]}, nil
}

// everything returns Metrics of an usher that has all there can be, so that each metric is there.
func everything(t testing.TB) *metrics.Metrics {
	t.Helper()
	red, blue := jid.MustParse("red@conference.example.com"), jid.MustParse("blue@conference.example.com")
	u := usher{
		status: component.Status{
			Connected: true, Since: time.Unix(1000, 0), Server: "Prosody 13.0.5", Address: "127.0.0.1:5347", Domain: "focus.example.com",
			Reconnects: 1, StanzasIn: 2, StanzasOut: 3, BytesIn: 4, BytesOut: 5, Queued: 6, UnderWay: 7, Slow: 8, Held: 9, Waiting: 10,
			Rooms: 11, Grants: 12, Hosts: 13, Occupants: 14, Behind: "jicofo", Jicofo: "online",
			Modules: []muc.ToldStatus{
				{Domain: "breakout.example.com"},
				{Domain: "conference.example.com", Version: "1", Takes: true, Tells: true, Rooms: 11, Gaps: 2},
			},
		},
		stats: component.Snapshot{Events: map[component.Event]int64{component.EventPanic: 15}},
		rooms: []component.RoomSummary{
			{Room: red, Open: true, HostInside: true, Locked: true, Hosts: 1, Members: 2, Guests: 3, Waiting: 1},
			{Room: blue, Waiting: 2},
		},
		waits: map[string][]component.Waiter{blue.String(): {{Since: time.Now().Add(-time.Hour)}, {Since: time.Now()}}},
	}
	m := metrics.New(metrics.Options{
		Version: "v1.2.3",
		Active:  func() metrics.Component { return u },
		Store: func() []store.Size {
			return []store.Size{{Kind: store.KindSession, Bytes: 100, Limit: 1000, Records: 2}}
		},
		Keys: func() []keys.Status {
			return []keys.Status{{Source: "https://keys.example.com/set", Fetched: time.Unix(2000, 0), Until: time.Unix(3000, 0), Keys: 2, Err: errors.New("status 503")}}
		},
		Audit: func() metrics.Audit { return metrics.Audit{Dropped: 17} },
		Webhooks: func() []metrics.Webhook {
			return []metrics.Webhook{{Name: "hook", Queued: 18, Sent: 19, Failed: 20, Dead: 21, Stopped: true}}
		},
	})
	m.Report(component.Report{
		What: component.Decided, VHost: "meet.example.com", Tenant: "acme", Verdict: auth.Allow, Reason: auth.ReasonHost,
		Took: 30 * time.Millisecond, Decide: 10 * time.Millisecond, Apply: 20 * time.Millisecond, Waited: time.Second,
	})
	m.Report(component.Report{What: component.HostArrived})
	m.Store("put", time.Millisecond, nil)
	m.Store("get", time.Millisecond, errors.New("away"))
	m.Fetched("https://keys.example.com/set", time.Millisecond, nil)
	m.Reloaded(nil)
	m.Called(http.MethodGet, "/rooms/{room}", 200, time.Millisecond)
	m.LoggedIn(metrics.ByPassword, metrics.LoginRefused)
	m.Minted()
	return m
}

// scrape returns what Prometheus reads.
func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// families returns the metrics of a scrape by name.
func families(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// value returns the value of a metric with exactly these labels, or -1.
func value(t testing.TB, text, name string, labels ...string) float64 {
	t.Helper()
	f := families(t, text)[name]
	if f == nil {
		return -1
	}
	for _, m := range f.GetMetric() {
		if len(m.GetLabel())*2 != len(labels) {
			continue
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && label(m, labels[i]) == labels[i+1]
		}
		if !fits {
			continue
		}
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			return m.GetCounter().GetValue()
		case dto.MetricType_HISTOGRAM:
			return float64(m.GetHistogram().GetSampleCount())
		default:
			return m.GetGauge().GetValue()
		}
	}
	return -1
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
