package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestMigrating holds config/MIGRATING.md against the tables by which usher reads what operators have: each variable of
// docker-jitsi-meet and of MiroTalk with its default and key, and each module that is disabled beside usher with the keys that it becomes.
func TestMigrating(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "MIGRATING.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string // the cells of all tables
	for line := range strings.Lines(string(content)) {
		if cells := strings.Split(strings.Trim(line, "| \n"), "|"); len(cells) > 1 && strings.HasPrefix(line, "|") {
			rows = append(rows, cells)
		}
	}
	// row finds the row that begins with the name, and fails the test if there is not exactly one.
	row := func(name string) string {
		var found []string
		for _, cells := range rows {
			if strings.Contains(cells[0], "`"+name+"`") {
				found = append(found, strings.Join(cells[1:], "|"))
			}
		}
		if len(found) != 1 {
			t.Errorf("%s stands in %d rows", name, len(found))
		}
		return strings.Join(found, "|")
	}
	for _, v := range slices.Concat(config.DockerVariables, config.MiroTalkVariables) {
		says := row(v.Name)
		if v.Key != "" && (!strings.Contains(says, v.Key) || !strings.Contains(says, v.Default)) {
			t.Errorf("%s sets %q, default %q; the row says %s", v.Name, v.Key, v.Default, says)
		}
	}
	for _, m := range config.Modules() {
		if m.Verdict != config.Mapped && m.Verdict != config.Rival {
			continue
		}
		says := row(m.Name)
		for _, k := range m.Sets {
			if key := strings.TrimPrefix(k.String(), "vhosts.*."); !strings.Contains(says, "`"+key+"`") {
				t.Errorf("the module %s sets %s; the row says %s", m.Name, key, says)
			}
		}
		for _, o := range m.Options {
			if !strings.Contains(string(content), "`"+o.Name+"`") {
				t.Errorf("%s, an option of %s, is missing", o.Name, m.Name)
			}
		}
	}
}
