package metrics_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/metrics"
)

// TestMetrics has one of everything, and reads each metric that an operator may ask for.
func TestMetrics(t *testing.T) {
	text := scrape(t, everything(t))
	for _, want := range []struct {
		value  float64
		name   string
		labels []string
	}{
		{1, "usher_active", nil},
		{1, "usher_connected", nil},
		{1000, "usher_connection_start_time_seconds", nil},
		{1, "usher_connection_info", []string{"domain", "focus.example.com", "address", "127.0.0.1:5347", "server", "Prosody 13.0.5"}},
		{1, "usher_jicofo_up", nil},
		{1, "usher_module_takes", []string{"service", "conference.example.com"}},
		{1, "usher_module_tells", []string{"service", "conference.example.com"}},
		{0, "usher_module_takes", []string{"service", "breakout.example.com"}},
		{0, "usher_module_tells", []string{"service", "breakout.example.com"}},
		{2, "usher_module_gaps_total", nil},
		{1, "usher_reconnects_total", nil},
		{2, "usher_received_stanzas_total", nil},
		{3, "usher_sent_stanzas_total", nil},
		{4, "usher_received_bytes_total", nil},
		{5, "usher_sent_bytes_total", nil},
		{6, "usher_requests_queued", nil},
		{7, "usher_requests_running", nil},
		{8, "usher_requests_slow", nil},
		{9, "usher_requests_held", nil},
		{12, "usher_grants", nil},
		{15, "usher_events_total", []string{"event", "panic"}},
		{0, "usher_events_total", []string{"event", "not-answered"}},
		{1, "usher_people_waiting", []string{"host", "inside"}},
		{2, "usher_people_waiting", []string{"host", "absent"}},
		{0, "usher_longest_wait_seconds", []string{"host", "inside"}}, // the room had gone
		{1, "usher_rooms", []string{"host", "inside"}},
		{0, "usher_rooms", []string{"host", "absent"}},
		{1, "usher_rooms_locked", nil},
		{1, "usher_occupants", []string{"as", "host"}},
		{2, "usher_occupants", []string{"as", "member"}},
		{3, "usher_occupants", []string{"as", "guest"}},
		{100, "usher_store_used_bytes", []string{"kind", "session"}},
		{1000, "usher_store_limit_bytes", []string{"kind", "session"}},
		{2, "usher_store_records", []string{"kind", "session"}},
		{1, "usher_store_operation_duration_seconds", []string{"op", "put"}},
		{1, "usher_store_errors_total", []string{"op", "get"}},
		{0, "usher_store_errors_total", []string{"op", "put"}},
		{2, "usher_keys", []string{"source", "https://keys.example.com/set"}},
		{2000, "usher_keys_fetched_timestamp_seconds", []string{"source", "https://keys.example.com/set"}},
		{3000, "usher_keys_end_timestamp_seconds", []string{"source", "https://keys.example.com/set"}},
		{1, "usher_keys_last_fetch_failed", []string{"source", "https://keys.example.com/set"}},
		{1, "usher_key_fetches_total", []string{"source", "https://keys.example.com/set", "result", "ok"}},
		{1, "usher_key_fetch_duration_seconds", nil},
		{17, "usher_audit_dropped_lines_total", nil},
		{18, "usher_webhook_messages_queued", []string{"hook", "hook"}},
		{19, "usher_webhook_sent_messages_total", []string{"hook", "hook"}},
		{20, "usher_webhook_failed_attempts_total", []string{"hook", "hook"}},
		{21, "usher_webhook_dead_messages_total", []string{"hook", "hook"}},
		{1, "usher_webhook_stopped", []string{"hook", "hook"}},
		{1, "usher_config_reloads_total", []string{"result", "ok"}},
		{0, "usher_config_reloads_total", []string{"result", "failed"}},
		{1, "usher_config_last_reload_successful", nil},
		{1, "usher_api_requests_total", []string{"method", "GET", "path", "/rooms/{room}", "status", "200"}},
		{1, "usher_api_request_duration_seconds", nil},
		{1, "usher_decisions_total", []string{"verdict", "allow", "reason", "host", "class", "admitted", "vhost", "meet.example.com", "tenant", "acme", "repeated", "no"}},
		{1, "usher_decide_duration_seconds", nil},
		{1, "usher_apply_duration_seconds", nil},
		{1, "usher_answer_duration_seconds", []string{"verdict", "allow"}},
		{1, "usher_let_in_after_host_seconds", nil},
		{1, "usher_room_events_total", []string{"event", "host-arrived"}},
		{0, "usher_room_events_total", []string{"event", "revoked"}},
	} {
		if got := value(t, text, want.name, want.labels...); got != want.value {
			t.Errorf("%s%q is %v; want %v", want.name, want.labels, got, want.value)
		}
	}
	if got := value(t, text, "usher_longest_wait_seconds", "host", "absent"); got < 3600 || got > 3700 {
		t.Errorf("the longest wait is %v s; want about an hour", got)
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds", "process_resident_memory_bytes", "usher_build_info"} {
		if families(t, text)[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestStandby has nothing to say of rooms and the connection while another usher is the active one.
func TestStandby(t *testing.T) {
	text := scrape(t, metrics.New(metrics.Options{Active: func() metrics.Component { return nil }}))
	if got := value(t, text, "usher_active"); got != 0 {
		t.Errorf("usher_active is %v", got)
	}
	for _, name := range []string{"usher_connected", "usher_rooms", "usher_people_waiting", "usher_keys", "usher_audit_dropped_lines_total"} {
		if families(t, text)[name] != nil {
			t.Errorf("there is a %s", name)
		}
	}
}

// TestReloads tells of the configuration in force.
func TestReloads(t *testing.T) {
	m := metrics.New(metrics.Options{})
	m.Reloaded(errors.New("line 3: no such key"))
	text := scrape(t, m)
	if ok, n := value(t, text, "usher_config_last_reload_successful"), value(t, text, "usher_config_reloads_total", "result", "failed"); ok != 0 || n != 1 {
		t.Errorf("after a failure: %v, %v", ok, n)
	}
	m.Reloaded(nil)
	if ok := value(t, scrape(t, m), "usher_config_last_reload_successful"); ok != 1 {
		t.Errorf("after a success: %v", ok)
	}
}

// TestEvents compares the events that are exported with those that there are: one that is new is exported as well.
func TestEvents(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../counters.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, n := scrape(t, everything(t)), 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, is := node.(*ast.ValueSpec)
		if !is || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Event") {
			return true
		}
		event, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if n++; value(t, text, "usher_events_total", "event", event) < 0 {
			t.Errorf("usher_events_total has no event %q", event)
		}
		return true
	})
	if n < 5 {
		t.Errorf("counters.go has %d events", n)
	}
}

// TestLabelsAreBounded has clients invent tenants, virtual hosts and reasons, and the program routes and sources, thousands of each. The
// number of series stays within what the lists allow, invented tenants take no place from real ones, and nothing panics.
func TestLabelsAreBounded(t *testing.T) {
	m := metrics.New(metrics.Options{})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				evil := fmt.Sprintf("%d-%d\xff\n\"}{\\", g, i)
				m.Report(component.Report{What: component.Decided, Tenant: evil, VHost: evil, Reason: auth.Reason(evil), Verdict: auth.Verdict(i % 2)})
				m.Report(component.Report{What: component.Decided, Tenant: evil + strings.Repeat("x", 8000), VHost: "meet.example.com", Reason: auth.ReasonTokenSignature})
				m.Called("GET", "/"+evil, i, 0)
				m.Fetched("https://"+evil, 0, nil)
			}
		})
	}
	all.Wait()
	for i := range 150 {
		m.Report(component.Report{What: component.Decided, Tenant: fmt.Sprint("real", i), VHost: "meet.example.com", Verdict: auth.Allow, Reason: auth.ReasonHost})
	}
	text := scrape(t, m)
	if n, most := strings.Count(text, "\n"), 3000; n > most {
		t.Errorf("a scrape has %d lines; want at most %d", n, most)
	}
	for i, want := range map[int]float64{0: 1, 99: 1, 100: -1, 149: -1} {
		got := value(t, text, "usher_decisions_total", "verdict", "allow", "reason", "host", "class", "admitted", "vhost", "meet.example.com", "tenant", fmt.Sprint("real", i), "repeated", "no")
		if got != want {
			t.Errorf("the real tenant %d has the value %v; want %v", i, got, want)
		}
	}
	if got := value(t, text, "usher_decisions_total", "verdict", "allow", "reason", "host", "class", "admitted", "vhost", "meet.example.com", "tenant", "other", "repeated", "no"); got != 50 {
		t.Errorf("%v decisions are for tenants beyond the hundred", got)
	}
	if got := value(t, text, "usher_decisions_total", "verdict", "deny", "reason", "token-signature", "class", "token", "vhost", "meet.example.com", "tenant", "other", "repeated", "no"); got != 20_000 {
		t.Errorf("%v refusals are for invented tenants; want all 20,000", got)
	}
	for name, f := range families(t, text) {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if len(l.GetValue()) > 103 {
					t.Errorf("%s has a label of %d bytes", name, len(l.GetValue()))
				}
			}
		}
	}
}

// TestSeriesOfTenants has refused clients ask for every real tenant at every virtual host, for every reason. There are no more series than
// a Prometheus bears, and every decision is counted.
func TestSeriesOfTenants(t *testing.T) {
	m := metrics.New(metrics.Options{})
	n := 0.0
	report := func(r component.Report) {
		n++
		r.What = component.Decided
		m.Report(r)
	}
	for tenant := range 100 {
		report(component.Report{Tenant: fmt.Sprint(tenant), Verdict: auth.Allow, Reason: auth.ReasonHost, VHost: "0"})
	}
	for _, row := range auth.Reasons {
		for vhost := range 4 {
			for tenant := range 100 {
				for _, again := range []bool{false, true} {
					report(component.Report{Tenant: fmt.Sprint(tenant), Verdict: row.Verdict, Reason: row.Reason, VHost: fmt.Sprint(vhost), Again: again})
				}
			}
		}
	}
	f := families(t, scrape(t, m))["usher_decisions_total"]
	if most := 5000 + len(auth.Reasons)*4*2; len(f.GetMetric()) > most {
		t.Errorf("there are %d series; want at most %d", len(f.GetMetric()), most)
	}
	for _, metric := range f.GetMetric() {
		n -= metric.GetCounter().GetValue()
	}
	if n != 0 {
		t.Errorf("%v decisions are not counted", n)
	}
}

// TestNothingPrivate fills every text of a report that is not meant as a label, and finds none of them.
func TestNothingPrivate(t *testing.T) {
	const planted = "planted-c1a7"
	r := component.Report{Who: jid.MustParse(planted + "@meet.example.com/x"), Room: jid.MustParse(planted + "@conference.example.com"), Steps: []auth.Step{}}
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.Kind() == reflect.String && name != "What" && name != "VHost" && name != "Tenant" {
			f.SetString(planted)
		}
	}
	m := everything(t)
	for _, what := range []component.What{component.Decided, component.RoomEnded, component.Joined} {
		r.What = what
		m.Report(r)
	}
	m.Store("put", 0, errors.New(planted))
	m.Fetched("https://keys.example.com/set", 0, errors.New(planted))
	m.Reloaded(errors.New(planted))
	if text := scrape(t, m); strings.Contains(text, planted) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, planted) {
				t.Errorf("a metric shows it: %s", line)
			}
		}
	}
}

// BenchmarkReport measures what counting a decision costs.
func BenchmarkReport(b *testing.B) {
	m := metrics.New(metrics.Options{})
	r := component.Report{
		What: component.Decided, VHost: "meet.example.com", Tenant: "acme", Verdict: auth.Allow, Reason: auth.ReasonHost,
		Took: 30 * time.Millisecond, Decide: 10 * time.Millisecond, Apply: 20 * time.Millisecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Report(r)
	}
}
