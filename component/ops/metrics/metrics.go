// Package metrics counts what usher does, in the format of Prometheus.
//
// Names and help follow Prometheus' conventions; promtool reads them in the tests. Two kinds of metrics are here: what usher tells as it
// happens (metrics.go) is counted at once, and what is true at the moment (scrape.go) is asked for at each scrape.
//
// # Labels
//
// Clients choose rooms, tenants and tokens, so no label has a text of theirs as it comes. Each label has few values:
//
//   - verdict, reason, class, op, kind, event, result, by, host and as are closed lists;
//   - vhost is one of the configuration's, or empty, and service is one of its MUC services;
//   - tenant is one of the first 100 tenants with rooms into which somebody was let in. All others count as "other", so that refused
//     clients cannot use up the hundred. There are about 5,000 series with a tenant at most. Without a tenant it is empty;
//   - source (of keys), hook (of webhooks), method and path (of the API) come from the configuration and the program, and are cut off at
//     100 as well.
//
// No label and no help has a token, a secret, a JID, or the name of a room.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/printable"
)

//go:generate go test -run ^TestReadme$ . -update

// most is how many values a label has that is no closed list, and longest how many characters such a value has.
const most, longest = 100, 100

// mostSeries caps the series of decisions by tenant: clients choose the tenant that they are refused for, and in part the reason.
const mostSeries = 5000

// other is the value of a label that stands for all that have no place of their own.
const other = "other"

// Metrics counts. Any goroutine may call its methods; none blocks.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	reasons  map[auth.Reason]bool

	vhosts, tenants, sources, calls few

	decisions  *prometheus.CounterVec
	counted    decided
	happened   *prometheus.CounterVec
	decide     prometheus.Histogram
	apply      prometheus.Histogram
	answered   *prometheus.HistogramVec
	afterHost  prometheus.Histogram
	storeTook  *prometheus.HistogramVec
	storeErrs  *prometheus.CounterVec
	fetches    *prometheus.CounterVec
	fetchTook  prometheus.Histogram
	apiCalls   *prometheus.CounterVec
	apiTook    prometheus.Histogram
	logins     *prometheus.CounterVec
	minted     prometheus.Counter
	reloads    *prometheus.CounterVec
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
}

// New returns Metrics. It starts nothing.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewPedanticRegistry(), reasons: make(map[auth.Reason]bool)}
	for _, row := range auth.Reasons {
		m.reasons[row.Reason] = true
	}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 8})
	m.people()
	m.surroundings()
	m.portal()
	m.program(o.Version)
	m.registry.MustRegister(
		&scraped{o}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.decisions, m.happened, m.decide, m.apply, m.answered, m.afterHost, m.storeTook, m.storeErrs, m.fetches, m.fetchTook, m.apiCalls,
		m.apiTook, m.logins, m.minted, m.reloads, m.reloadOK, m.reloadTime,
	)
	return m
}

// people makes the metrics of decisions.
func (m *Metrics) people() {
	m.decisions = counters("usher_decisions_total", "Decisions about requests to enter a room. Of a client that asks again for the same, "+
		`repeated is "yes"; a client that waits asks every few seconds.`, "verdict", "reason", "class", "vhost", "tenant", "repeated")
	m.happened = counters("usher_room_events_total", "What happened in rooms, by event.", "event")
	for _, what := range happenings {
		m.happened.WithLabelValues(string(what))
	}
	m.decide = histogram("usher_decide_duration_seconds", "Time that the rules took to decide a request, with what they ask of rooms, keys and store.",
		.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
	m.apply = histogram("usher_apply_duration_seconds", "Time that it took to make a decision true in the room, where somebody was to be let in.",
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
	m.answered = histograms("usher_answer_duration_seconds", "Time from a request to its answer, by verdict. Requests that were held for a host count from the host's arrival, or "+
		"the whole time if none came.", []string{"verdict"}, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 90)
	for _, v := range []auth.Verdict{auth.Deny, auth.Wait, auth.Allow} {
		m.answered.WithLabelValues(v.String())
	}
	m.afterHost = histogram("usher_let_in_after_host_seconds", "Time from the arrival of a host until somebody who had waited for one was let in.",
		.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
}

// happenings are the events of usher_room_events_total.
var happenings = []component.What{
	component.HostArrived, component.HostLeft, component.RoomOpened, component.RoomEnded, component.Joined, component.Left,
	component.Expired, component.RevokedOut,
}

// surroundings makes the metrics of what usher depends on.
func (m *Metrics) surroundings() {
	m.storeTook = histograms("usher_store_operation_duration_seconds", "Time that the store took for an operation.", []string{"op"},
		.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5)
	m.storeErrs = counters("usher_store_errors_total", "Operations of the store that failed.", "op")
	for _, op := range store.Ops {
		m.storeTook.WithLabelValues(op)
		m.storeErrs.WithLabelValues(op)
	}
	m.fetches = counters("usher_key_fetches_total", "Fetches of keys from a server, by source and result.", "source", "result")
	m.fetchTook = histogram("usher_key_fetch_duration_seconds", "Time that a fetch of keys took.", .01, .025, .05, .1, .25, .5, 1, 2.5, 5)
	m.apiCalls = counters("usher_api_requests_total", "Requests to the HTTP API, by method, path and status.", "method", "path", "status")
	m.apiTook = histogram("usher_api_request_duration_seconds", "Time that a request to the HTTP API took.",
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
}

// portal makes the metrics of hosts who log in.
func (m *Metrics) portal() {
	m.logins = counters("usher_logins_total", "Attempts to log in as a host, by what with, and result: ok; refused, for a wrong password and for people that no rule gives a room; "+
		"limited, after too many wrong passwords; failed, where usher, the user service or the provider could not tell.", "by", "result")
	for _, by := range []LoginBy{ByPassword, ByProvider, ByAPI} {
		for _, r := range []LoginResult{LoginOK, LoginRefused, LoginLimited, LoginFailed} {
			m.logins.WithLabelValues(string(by), string(r))
		}
	}
	m.minted = prometheus.NewCounter(prometheus.CounterOpts{Name: "usher_portal_minted_tokens_total", Help: "Tokens that the portal has made for hosts who log in."})
}

// LoginBy says with what somebody has tried to log in.
type LoginBy string

// What people log in with.
const (
	ByPassword LoginBy = "password" // at the portal
	ByProvider LoginBy = "provider" // of OpenID Connect
	ByAPI      LoginBy = "api"      // a password, for a token from the API
)

// LoginResult says what became of an attempt to log in.
type LoginResult string

// What becomes of attempts to log in.
const (
	LoginOK      LoginResult = "ok"
	LoginRefused LoginResult = "refused"
	LoginLimited LoginResult = "limited"
	LoginFailed  LoginResult = "failed"
)

// LoggedIn counts an attempt to log in.
func (m *Metrics) LoggedIn(by LoginBy, r LoginResult) {
	m.logins.WithLabelValues(string(by), string(r)).Inc()
}

// Minted counts a token that the portal has made.
func (m *Metrics) Minted() { m.minted.Inc() }

// program makes the metrics of usher itself.
func (m *Metrics) program(version string) {
	m.reloads = counters("usher_config_reloads_total", "Reloads of the configuration while usher runs, by result.", "result")
	m.reloadOK = gauge("usher_config_last_reload_successful", "Whether the last reload of the configuration was successful; 1 before the first.")
	m.reloadTime = gauge("usher_config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")
	m.reloads.WithLabelValues(failed)
	m.reloads.WithLabelValues(done)
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "usher_build_info", Help: "The running usher: always 1."}, []string{"version", "go_version"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(build)
}

// done and failed are the values of the label result.
const done, failed = "ok", "failed"

func result(err error) string {
	if err != nil {
		return failed
	}
	return done
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Report counts a report of the component.
func (m *Metrics) Report(r component.Report) {
	if r.What != component.Decided {
		m.happened.WithLabelValues(string(r.What)).Inc()
		return
	}
	reason, class := string(r.Reason), string(r.Reason.Row().Class)
	if !m.reasons[r.Reason] {
		reason, class = other, ""
	}
	m.counted.counter(m.decisions, labels{
		r.Verdict.String(), reason, class, m.vhosts.value(r.VHost, true), m.tenants.value(r.Tenant, r.Verdict == auth.Allow), repeated(r.Again),
	}).Inc()
	m.answered.WithLabelValues(r.Verdict.String()).Observe(r.Took.Seconds())
	if r.Decide > 0 {
		m.decide.Observe(r.Decide.Seconds())
	}
	if r.Apply > 0 {
		m.apply.Observe(r.Apply.Seconds())
	}
	if r.Waited > 0 {
		m.afterHost.Observe(r.Waited.Seconds())
	}
}

func repeated(again bool) string {
	if again {
		return "yes"
	}
	return "no"
}

// labels are those of a decision.
type labels struct{ verdict, reason, class, vhost, tenant, repeated string }

// decided are the counters of decisions. The zero value is ready for use.
type decided struct {
	mu  sync.RWMutex
	all map[labels]prometheus.Counter
}

// counter returns the counter with these labels, or when there are too many the one for all other tenants.
func (d *decided) counter(of *prometheus.CounterVec, l labels) prometheus.Counter {
	d.mu.RLock()
	c, n := d.all[l], len(d.all)
	d.mu.RUnlock()
	switch {
	case c != nil:
		return c
	case n >= mostSeries && l.tenant != "" && l.tenant != other:
		l.tenant = other
		return d.counter(of, l)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = make(map[labels]prometheus.Counter)
	}
	c = of.WithLabelValues(l.verdict, l.reason, l.class, l.vhost, l.tenant, l.repeated)
	d.all[l] = c
	return c
}

// Store counts an operation of the store; see store.Measured.
func (m *Metrics) Store(op string, took time.Duration, err error) {
	m.storeTook.WithLabelValues(op).Observe(took.Seconds())
	if err != nil {
		m.storeErrs.WithLabelValues(op).Inc()
	}
}

// Fetched counts a fetch of keys; see keys.Cache.
func (m *Metrics) Fetched(source string, took time.Duration, err error) {
	m.fetches.WithLabelValues(m.sources.value(source, true), result(err)).Inc()
	m.fetchTook.Observe(took.Seconds())
}

// Reloaded counts a reload of the configuration. An error means that the previous one is still in force.
func (m *Metrics) Reloaded(err error) {
	m.reloads.WithLabelValues(result(err)).Inc()
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}

// Called counts a request to the HTTP API. The path is the pattern of the route, such as /rooms/{room}.
func (m *Metrics) Called(method, path string, status int, took time.Duration) {
	route := m.calls.value(method+" "+path, true)
	method, path, known := strings.Cut(route, " ")
	if !known {
		path = other
	}
	code := other
	if status >= 100 && status < 600 {
		code = strconv.Itoa(status)
	}
	m.apiCalls.WithLabelValues(method, path, code).Inc()
	m.apiTook.Observe(took.Seconds())
}

// few are the values of a label that is no closed list: the first that come. The zero value is ready for use.
type few struct {
	mu  sync.RWMutex
	all map[string]string // by the text as it came
}

// value returns the value for a text: one of its own if it has one, or may have one and there is a place left.
func (f *few) value(text string, may bool) string {
	if text == "" {
		return ""
	}
	f.mu.RLock()
	v, ok := f.all[text]
	full := len(f.all) >= most
	f.mu.RUnlock()
	switch {
	case ok:
		return v
	case !may || full:
		return other
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.all[text]; ok {
		return v
	}
	if len(f.all) >= most {
		return other
	}
	if f.all == nil {
		f.all = make(map[string]string, most)
	}
	v = label(text)
	f.all[strings.Clone(text)] = v
	return v
}

// label returns a text as a label may have it: one that is no UTF-8 would make usher panic.
func label(text string) string { return printable.Cut(text, longest, "") }

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func histograms(name, help string, labels []string, buckets ...float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}
