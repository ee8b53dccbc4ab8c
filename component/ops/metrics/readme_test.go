package metrics_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of README.md anew")

// TestReadme holds the table of metrics in README.md; "go generate ./component/ops/metrics" writes it.
func TestReadme(t *testing.T) {
	const file, begin, end = "../README.md", "<!-- metrics -->\n", "<!-- end of metrics -->"
	all := families(t, scrape(t, everything(t)))
	table := "| metric | type | labels | |\n|---|---|---|---|\n"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(name, "usher_") {
			continue
		}
		var labels []string
		for _, l := range all[name].GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(all[name].GetType().String()), strings.Join(labels, ", "), all[name].GetHelp())
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", file)
	}
	switch want := head + begin + table + end + tail; {
	case want == string(old):
	case *update:
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what is exported: run go generate ./component/ops/metrics", file)
	}
}
