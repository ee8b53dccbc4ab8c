package metrics_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/deploytest"

	dto "github.com/prometheus/client_model/go"
)

const alertsFile, dashboardFile = "../../../config/deploy/alerts.yml", "../../../config/deploy/grafana.json"

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// alerts returns the alerts that are deployed.
func alerts(t *testing.T) []alert {
	t.Helper()
	content, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Groups[0].Rules
}

// dashboard returns the expressions of the dashboard, by panel.
func dashboard(t *testing.T) map[string][]string {
	t.Helper()
	content, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	type panel struct {
		ID          int
		Title, Type string
		Targets     []struct{ Expr, LegendFormat string }
	}
	var file struct {
		Panels      []panel
		Annotations struct {
			List []struct{ Name, Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	all, ids := map[string][]string{}, map[int]bool{}
	for _, p := range file.Panels {
		if ids[p.ID] || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d (%s) has the number of another one, or shows nothing", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], target.Expr)
			legends(t, p.Title, target.Expr, target.LegendFormat)
		}
	}
	for _, a := range file.Annotations.List {
		all[a.Name] = append(all[a.Name], a.Expr)
	}
	for _, v := range file.Templating.List {
		if metric, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ", "); ok {
			all["variable "+v.Name] = append(all["variable "+v.Name], metric)
		}
	}
	return all
}

// legends finds out whether each label that a legend shows is left by the expression, where that names what is left.
func legends(t *testing.T, title, expr, legend string) {
	t.Helper()
	by := regexp.MustCompile(`^\w+ by \(([^)]*)\)|by \(le, (\w+)\)`).FindStringSubmatch(expr)
	if by == nil {
		return
	}
	left := append(strings.Split(by[1], ", "), by[2])
	for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		if !slices.Contains(left, l[1]) {
			t.Errorf("%s: the legend has the label %s, and %s leaves %q", title, l[1], expr, left)
		}
	}
}

// selector is a metric that an expression asks for, with what it wants of its labels.
type selector struct {
	metric   string
	matchers [][3]string // label, operator, value
}

var (
	grouping  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	ranged    = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\w+`)
	selecting = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(\s*\()?`)
	matching  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")`)
)

// operators are words of PromQL that are neither functions nor metrics.
var operators = []string{"and", "or", "unless", "bool"}

// selectors returns what an expression asks for, and the labels by which it groups. promtool reads the rest of it.
func selectors(expr string) (all []selector, groups []string) {
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(g[2], ",") {
			if name = strings.TrimSpace(name); name != "" {
				groups = append(groups, name)
			}
		}
	}
	expr = ranged.ReplaceAllString(grouping.ReplaceAllString(expr, " "), "")
	for _, m := range selecting.FindAllStringSubmatch(expr, -1) {
		if m[3] != "" || slices.Contains(operators, m[1]) || slices.Contains([]string{"sum", "max", "min"}, m[1]) {
			continue
		}
		s := selector{metric: m[1]}
		for _, l := range matching.FindAllStringSubmatch(m[2], -1) {
			s.matchers = append(s.matchers, [3]string{l[1], l[2], strings.Trim(l[3], `"`)})
		}
		all = append(all, s)
	}
	return all, groups
}

// exported knows which metrics and labels there are.
type exported map[string]*dto.MetricFamily

// labels returns the labels of a metric, with those that Prometheus adds, and whether there is such a metric.
func (e exported) labels(metric string) (labels map[string]map[string]bool, ok bool) {
	labels = map[string]map[string]bool{"job": nil, "instance": nil}
	if metric == "up" { // Prometheus' own
		return labels, true
	}
	f := e[metric]
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base := e[strings.TrimSuffix(metric, suffix)]; f == nil && base != nil && base.GetType() == dto.MetricType_HISTOGRAM {
			f = base
			if suffix == "_bucket" {
				labels["le"] = nil
			}
		}
	}
	if f == nil {
		return nil, false
	}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if labels[l.GetName()] == nil {
				labels[l.GetName()] = map[string]bool{}
			}
			labels[l.GetName()][l.GetValue()] = true
		}
	}
	return labels, true
}

// reporter hears what is wrong, as a testing.T does.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// heard counts what is wrong.
type heard int

func (*heard) Helper()                 {}
func (h *heard) Errorf(string, ...any) { *h++ }

// open are the labels with values that the test's usher does not have all.
var open = []string{"vhost", "service", "tenant", "source", "hook", "path", "method", "status", "kind"}

// check finds what an expression asks for that is not exported.
func (e exported) check(t reporter, where, expr string) {
	t.Helper()
	all, groups := selectors(expr)
	known := map[string]bool{}
	for _, s := range all {
		labels, ok := e.labels(s.metric)
		if !ok {
			t.Errorf("%s: there is no metric %s", where, s.metric)
			continue
		}
		for name := range labels {
			known[name] = true
		}
		for _, m := range s.matchers {
			values, ok := labels[m[0]]
			switch {
			case !ok:
				t.Errorf("%s: %s has no label %s", where, s.metric, m[0])
			case values != nil && !slices.Contains(open, m[0]):
				for value := range strings.SplitSeq(m[2], "|") {
					if !values[value] && !possible(m[0], value) {
						t.Errorf("%s: the label %s of %s is never %q", where, m[0], s.metric, value)
					}
				}
			}
		}
	}
	if len(all) == 0 {
		t.Errorf("%s: %s asks for nothing", where, expr)
	}
	for _, name := range groups {
		if !known[name] {
			t.Errorf("%s: groups by the label %s, which nothing in %s has", where, name, expr)
		}
	}
}

// possible reports whether a label of usher_decisions_total may have a value.
func possible(label, value string) bool {
	for _, row := range auth.Reasons {
		if label == "reason" && string(row.Reason) == value || label == "class" && string(row.Class) == value ||
			label == "verdict" && row.Verdict.String() == value {
			return true
		}
	}
	return label == "repeated" && (value == "yes" || value == "no") || label == "result" && (value == "ok" || value == "failed")
}

// TestDeployedExpressions holds each expression of alerts and dashboard against what is really exported. Each metric of usher's is in one
// of them.
func TestDeployedExpressions(t *testing.T) {
	e := exported(families(t, scrape(t, everything(t))))
	shown := map[string]bool{}
	note := func(expr string) {
		all, _ := selectors(expr)
		for _, s := range all {
			shown[s.metric] = true
		}
	}
	for _, a := range alerts(t) {
		e.check(t, a.Alert, a.Expr)
		note(a.Expr)
	}
	for title, exprs := range dashboard(t) {
		for _, expr := range exprs {
			e.check(t, title, expr)
			note(expr)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if strings.HasPrefix(name, "usher_") && !shown[name] && !shown[name+"_bucket"] && name != "usher_key_fetch_duration_seconds" {
			t.Errorf("neither an alert nor a panel shows %s", name)
		}
	}
}

// TestExpressionsAreRead holds the reader of expressions itself: it finds what is wrong.
func TestExpressionsAreRead(t *testing.T) {
	e := exported(families(t, scrape(t, everything(t))))
	for expr, wrong := range map[string]bool{
		`usher_connected`: false,
		`sum by (job, reason) (rate(usher_decisions_total{class="server"}[5m])) > 0.5`:           false,
		`histogram_quantile(0.9, sum by (le) (rate(usher_decide_duration_seconds_bucket[5m])))`:  false,
		`up{job="usher"} == 0 unless on (job, instance) usher_active{job=~"a|b"} offset 5m == 1`: false,
		`usher_conected`:                              true,
		`usher_connected{room="x"}`:                   true,
		`sum by (room) (usher_connected)`:             true,
		`usher_events_total{event="panick"}`:          true,
		`usher_decisions_total{class=~"token|serve"}`: true,
		`usher_decisions_total_bucket`:                true,
	} {
		var faults heard
		if e.check(&faults, "test", expr); (faults > 0) != wrong {
			t.Errorf("%s: %d faults are found", expr, faults)
		}
	}
}

// TestAlertsSay holds that each alert says how bad it is, what is wrong and what to do, with labels that are there.
func TestAlertsSay(t *testing.T) {
	names := map[string]bool{}
	for _, a := range alerts(t) {
		if names[a.Alert] || !strings.HasPrefix(a.Alert, "Usher") {
			t.Errorf("the name %q is taken, or does not say of what it is", a.Alert)
		}
		names[a.Alert] = true
		if severity := a.Labels["severity"]; !slices.Contains([]string{"critical", "warning", "info"}, severity) {
			t.Errorf("%s: severity %q", a.Alert, severity)
		}
		if len(a.Annotations["summary"]) < 20 || len(a.Annotations["description"]) < 20 || len(a.Annotations) != 2 {
			t.Errorf("%s: annotations %q", a.Alert, a.Annotations)
		}
		by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(a.Expr)
		for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(a.Annotations["summary"], -1) {
			if by != nil && !slices.Contains(strings.Split(by[1], ", "), l[1]) {
				t.Errorf("%s: the summary has the label %s, and only %s is left", a.Alert, l[1], by[1])
			}
		}
	}
}

// promtool runs promtool, and returns what it says.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	program, err := deploytest.Program("promtool")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("usher_")) && args[1] == "metrics" {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPromtoolMetrics has Prometheus' own tool look at names, help and types.
func TestPromtoolMetrics(t *testing.T) {
	deploytest.Need(t, "promtool")
	promtool(t, scrape(t, everything(t)), "check", "metrics")
}

// TestPromtoolRules has it read the alerts, and the expressions of the dashboard as if they were rules.
func TestPromtoolRules(t *testing.T) {
	deploytest.Need(t, "promtool")
	promtool(t, "", "check", "rules", alertsFile)
	type rule struct{ Record, Expr string }
	var rules []rule
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "usher", "$instance", ".*")
	for _, exprs := range dashboard(t) {
		for _, expr := range exprs {
			rules = append(rules, rule{fmt.Sprint("dashboard:", len(rules)), variables.Replace(expr)})
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	writeYAML(t, file, map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	promtool(t, "", "check", "rules", file)
}

func writeYAML(t *testing.T, file string, v any) {
	t.Helper()
	content, err := yaml.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cases have series by which each alert fires at the end of three hours, or, for its neighbour below, does not. A series goes on as in
// promtool's tests: "0+2x180" begins with 0 and grows by 2 each minute.
var cases = []struct {
	alert  string
	fires  bool
	series map[string]string
}{
	{"UsherDown", true, map[string]string{`up{job="usher"}`: "1x176 0x4"}},
	{"UsherDown", false, map[string]string{`up{job="usher"}`: "1x179 0", `up{job="another"}`: "0x180"}},
	{"UsherNoneActive", true, map[string]string{`usher_active{job="usher", instance="a"}`: "0x180", `usher_active{job="usher", instance="b"}`: "1x176 0x4"}},
	{"UsherNoneActive", false, map[string]string{`usher_active{job="usher", instance="a"}`: "0x180", `usher_active{job="usher", instance="b"}`: "1x180"}},
	{"UsherNotConnected", true, map[string]string{`usher_active{instance="a"}`: "1x180", `usher_connected{instance="a"}`: "1x176 0x4"}},
	{"UsherNotConnected", false, map[string]string{`usher_active{instance="a"}`: "0x180", `usher_connected{instance="a"}`: "0x180"}},
	{"UsherConnectionUnstable", true, map[string]string{`usher_reconnects_total`: "0+1x180"}},
	{"UsherConnectionUnstable", false, map[string]string{`usher_reconnects_total`: "0x160 1x20"}},
	{"UsherRestarting", true, map[string]string{`process_start_time_seconds{job="usher"}`: "0x160 1x5 2x5 3x5 4x5"}},
	{"UsherRestarting", false, map[string]string{`process_start_time_seconds{job="usher"}`: "0x160 1x20"}},
	{"UsherJicofoDown", true, map[string]string{`usher_jicofo_up`: "1x175 0x5"}},
	{"UsherJicofoDown", false, map[string]string{`usher_jicofo_up`: "1x180"}},
	{"UsherModuleMissing", true, map[string]string{`usher_connected`: "1x180", `usher_module_takes{service="a"}`: "1x180", `usher_module_takes{service="b"}`: "1x160 0x20"}},
	{"UsherModuleMissing", false, map[string]string{`usher_connected`: "1x160 0x20", `usher_module_takes{service="a"}`: "1x160 0x20"}},
	{"UsherModuleSilent", true, map[string]string{`usher_module_takes{service="a"}`: "1x180", `usher_module_tells{service="a"}`: "1x160 0x20"}},
	{"UsherModuleSilent", false, map[string]string{`usher_module_takes{service="a"}`: "0x180", `usher_module_tells{service="a"}`: "0x180"}},
	{"UsherModuleGaps", true, map[string]string{`usher_module_gaps_total`: "0x160 0+1x20"}},
	{"UsherModuleGaps", false, map[string]string{`usher_module_gaps_total`: "0x160 1x20"}},
	{"UsherCannotAdmit", true, map[string]string{`usher_decisions_total{class="server", reason="room-unavailable"}`: "0x160 0+2x20"}},
	{"UsherCannotAdmit", false, map[string]string{`usher_decisions_total{class="server", reason="stopping"}`: "0+2x180"}},
	{"UsherManyRefusals", true, map[string]string{
		`usher_decisions_total{job="usher", instance="a", verdict="deny", class="token", reason="token-signature", repeated="no"}`: "0+3x180",
		`usher_decisions_total{job="usher", instance="a", verdict="allow", class="admitted", reason="host", repeated="no"}`:        "0+3x180",
	}},
	{"UsherManyRefusals", false, map[string]string{
		`usher_decisions_total{job="usher", instance="a", verdict="deny", class="token", reason="token-expired", repeated="no"}`: "0+3x180",
		`usher_decisions_total{job="usher", instance="a", verdict="allow", class="admitted", reason="host", repeated="no"}`:      "0+30x180",
	}},
	{"UsherManyRefusals", false, map[string]string{ // one client that asks again and again
		`usher_decisions_total{job="usher", instance="a", verdict="deny", class="token", reason="token-expired", repeated="yes"}`: "0+30x180",
		`usher_decisions_total{job="usher", instance="a", verdict="deny", class="token", reason="token-expired", repeated="no"}`:  "0+1x180",
	}},
	{"UsherFlood", true, map[string]string{`usher_decisions_total{class="load", reason="too-many-requests"}`: "0+100x180"}},
	{"UsherFlood", false, map[string]string{`usher_decisions_total{class="load", reason="too-many-requests"}`: "0+1x180"}},
	{"UsherNotAnswered", true, map[string]string{`usher_events_total{event="not-answered"}`: "0x170 1x10"}},
	{"UsherNotAnswered", false, map[string]string{`usher_events_total{event="not-answered"}`: "7x180", `usher_events_total{event="logout"}`: "0+1x180"}},
	{"UsherQueueLong", true, map[string]string{`usher_requests_queued`: "0x170 600x10"}},
	{"UsherQueueLong", false, map[string]string{`usher_requests_queued`: "600x170 0x10"}},
	{"UsherSlow", true, map[string]string{`usher_answer_duration_seconds_bucket{verdict="allow", le="5"}`: "0x180", `usher_answer_duration_seconds_bucket{verdict="allow", le="10"}`: "0+1x180", `usher_answer_duration_seconds_bucket{verdict="allow", le="+Inf"}`: "0+1x180"}},
	{"UsherSlow", false, map[string]string{`usher_answer_duration_seconds_bucket{verdict="wait", le="5"}`: "0x180", `usher_answer_duration_seconds_bucket{verdict="wait", le="+Inf"}`: "0+1x180"}},
	{"UsherWaitDespiteHost", true, map[string]string{`usher_longest_wait_seconds{host="inside"}`: "0x160 0+60x20"}},
	{"UsherWaitDespiteHost", false, map[string]string{`usher_longest_wait_seconds{host="absent"}`: "0+60x180", `usher_longest_wait_seconds{host="inside"}`: "3x180"}},
	{"UsherLetInLate", true, map[string]string{`usher_let_in_after_host_seconds_bucket{le="5"}`: "0x180", `usher_let_in_after_host_seconds_bucket{le="10"}`: "0+1x180", `usher_let_in_after_host_seconds_bucket{le="+Inf"}`: "0+1x180"}},
	{"UsherLetInLate", false, map[string]string{`usher_let_in_after_host_seconds_bucket{le="5"}`: "0+1x180", `usher_let_in_after_host_seconds_bucket{le="+Inf"}`: "0+1x180"}},
	{"UsherLongWait", true, map[string]string{`usher_longest_wait_seconds{host="absent"}`: "0x100 0+60x80"}},
	{"UsherLongWait", false, map[string]string{`usher_longest_wait_seconds{host="absent"}`: "0x160 0+60x20"}},
	{"UsherStoreFails", true, map[string]string{`usher_store_errors_total{op="get"}`: "0x170 0+10x10"}},
	{"UsherStoreFails", false, map[string]string{`usher_store_errors_total{op="get"}`: "1000x180"}},
	{"UsherStoreSlow", true, map[string]string{`usher_store_operation_duration_seconds_bucket{op="put", le="0.5"}`: "0x180", `usher_store_operation_duration_seconds_bucket{op="put", le="1"}`: "0+1x180", `usher_store_operation_duration_seconds_bucket{op="put", le="+Inf"}`: "0+1x180"}},
	{"UsherStoreSlow", false, map[string]string{`usher_store_operation_duration_seconds_bucket{op="all", le="0.5"}`: "0x180", `usher_store_operation_duration_seconds_bucket{op="all", le="+Inf"}`: "0+1x180"}},
	{"UsherStoreNearlyFull", true, map[string]string{`usher_store_used_bytes{kind="session"}`: "90x180", `usher_store_limit_bytes{kind="session"}`: "100x180"}},
	{"UsherStoreNearlyFull", false, map[string]string{`usher_store_used_bytes{kind="session"}`: "80x180", `usher_store_limit_bytes{kind="session"}`: "100x180"}},
	{"UsherKeysOld", true, map[string]string{
		`usher_keys_last_fetch_failed{source="s"}`: "0x100 1x80", `usher_keys_fetched_timestamp_seconds{source="s"}`: "60x180", `usher_key_fetches_total{source="s", result="failed"}`: "0x100 0+1x80",
	}},
	{"UsherKeysOld", false, map[string]string{ // nobody has needed them for hours
		`usher_keys_last_fetch_failed{source="s"}`: "0x180", `usher_keys_fetched_timestamp_seconds{source="s"}`: "60x180", `usher_key_fetches_total{source="s", result="failed"}`: "0x180",
	}},
	{"UsherKeysGone", true, map[string]string{
		`usher_keys_last_fetch_failed{source="s"}`: "1x180", `usher_keys_end_timestamp_seconds{source="s"}`: "6000x180", `usher_key_fetches_total{source="s", result="failed"}`: "0+1x180",
	}},
	{"UsherKeysGone", false, map[string]string{
		`usher_keys_last_fetch_failed{source="s"}`: "1x180", `usher_keys_end_timestamp_seconds{source="s"}`: "60000x180", `usher_key_fetches_total{source="s", result="failed"}`: "0+1x180",
	}},
	{"UsherReloadFailed", true, map[string]string{`usher_config_last_reload_successful`: "1x170 0x10"}},
	{"UsherReloadFailed", false, map[string]string{`usher_config_last_reload_successful`: "0x170 1x10"}},
	{"UsherPanic", true, map[string]string{`usher_events_total{event="panic"}`: "0x170 1x10"}},
	{"UsherPanic", false, map[string]string{`usher_events_total{event="panic"}`: "1x180"}},
	{"UsherFilesNearlyUsedUp", true, map[string]string{`process_open_fds{job="usher"}`: "900x180", `process_max_fds{job="usher"}`: "1024x180"}},
	{"UsherFilesNearlyUsedUp", false, map[string]string{`process_open_fds{job="usher"}`: "90x180", `process_max_fds{job="usher"}`: "1024x180"}},
	{"UsherAuditIncomplete", true, map[string]string{`usher_audit_dropped_lines_total`: "0x170 5x10"}},
	{"UsherAuditIncomplete", false, map[string]string{`usher_audit_dropped_lines_total`: "5x180"}},
	{"UsherWebhookDead", true, map[string]string{`usher_webhook_dead_messages_total{hook="h"}`: "0x170 1x10"}},
	{"UsherWebhookDead", false, map[string]string{`usher_webhook_dead_messages_total{hook="h"}`: "1x180"}},
	{"UsherWebhookBehind", true, map[string]string{`usher_webhook_messages_queued{hook="h"}`: "0x100 2000x80"}},
	{"UsherWebhookBehind", false, map[string]string{`usher_webhook_messages_queued{hook="h"}`: "0x175 2000x5"}},
	{"UsherWebhookStopped", true, map[string]string{`usher_webhook_stopped{hook="h"}`: "0x170 1x10"}},
	{"UsherWebhookStopped", false, map[string]string{`usher_webhook_stopped{hook="h"}`: "0x180"}},
	{"UsherApiFails", true, map[string]string{`usher_api_requests_total{status="500", path="/tokens"}`: "0+2x180"}},
	{"UsherApiFails", false, map[string]string{`usher_api_requests_total{status="503", path="/tokens"}`: "0+2x180", `usher_api_requests_total{status="200", path="/tokens"}`: "0+2x180"}},
	{"UsherApiRefused", true, map[string]string{`usher_api_requests_total{status="401"}`: "0+20x180"}},
	{"UsherLoginsFail", true, map[string]string{`usher_logins_total{by="provider", result="failed"}`: "0+1x180"}},
	{"UsherLoginsFail", false, map[string]string{`usher_logins_total{by="provider", result="failed"}`: "7x180", `usher_logins_total{by="password", result="refused"}`: "0+1x180"}},
	{"UsherManyWrongPasswords", true, map[string]string{`usher_logins_total{by="password", result="refused"}`: "0+10x180", `usher_logins_total{by="password", result="limited"}`: "0+10x180"}},
	{"UsherManyWrongPasswords", false, map[string]string{`usher_logins_total{by="password", result="refused"}`: "0+1x180", `usher_logins_total{by="password", result="ok"}`: "0+100x180"}},
	{"UsherApiRefused", false, map[string]string{`usher_api_requests_total{status="401"}`: "0+1x180", `usher_api_requests_total{status="200"}`: "0+900x180"}},
}

// TestPromtoolAlerts has promtool play three hours for each alert: with one site it fires, with a similar one it does not.
func TestPromtoolAlerts(t *testing.T) {
	type sample struct {
		Labels string
		Value  float64
	}
	type expected struct {
		Expr       string
		EvalTime   string   `yaml:"eval_time"`
		ExpSamples []sample `yaml:"exp_samples"`
	}
	type series struct{ Series, Values string }
	type test struct {
		Name, Interval string
		InputSeries    []series   `yaml:"input_series"`
		PromqlExprTest []expected `yaml:"promql_expr_test"`
	}
	var tests []test
	played := map[string]map[bool]bool{}
	for i, c := range cases {
		if played[c.alert] == nil {
			played[c.alert] = map[bool]bool{}
		}
		played[c.alert][c.fires] = true
		want := expected{Expr: fmt.Sprintf(`sum(ALERTS{alertname=%q, alertstate="firing"})`, c.alert), EvalTime: "180m"}
		if c.fires {
			want.ExpSamples = []sample{{"{}", 1}}
		}
		one := test{Name: fmt.Sprint(c.alert, " ", i), Interval: "1m", PromqlExprTest: []expected{want}}
		for _, name := range slices.Sorted(maps.Keys(c.series)) {
			one.InputSeries = append(one.InputSeries, series{name, c.series[name]})
		}
		tests = append(tests, one)
	}
	for _, a := range alerts(t) {
		if !played[a.Alert][true] || !played[a.Alert][false] {
			t.Errorf("there is no site with which %s fires, or none with which it does not", a.Alert)
		}
	}
	deploytest.Need(t, "promtool")
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	writeYAML(t, file, map[string]any{"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": tests})
	promtool(t, "", "test", "rules", file)
}
