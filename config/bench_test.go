package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// BenchmarkManyVHosts loads 50,000 virtual hosts: with ten times as many it takes ten times as long.
func BenchmarkManyVHosts(b *testing.B) {
	for _, n := range []int{5_000, 50_000} {
		var text strings.Builder
		text.WriteString("xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\nvhosts:\n")
		for i := range n {
			fmt.Fprintf(&text, "  v%d.example.com: {kind: token, app_id: app%[1]d, app_secret: %s}\n", i, secretB)
		}
		file := filepath.Join(b.TempDir(), "usher.yaml")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c, err := config.Load([]string{file}, []string{"USHER_LOG_LEVEL=warn", "USHER_VHOSTS_V1_EXAMPLE_COM_KIND=token"}); err != nil || len(c.VHosts) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad loads what Prosody has: 200 files with five virtual hosts each.
func BenchmarkLoad(b *testing.B) {
	const files, each = 200, 5
	folder := b.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "conf.d"), 0o700); err != nil {
		b.Fatal(err)
	}
	put("prosody.cfg.lua", "Include \"conf.d/*.cfg.lua\"\n"+
		"Component \"conference.meet.example.com\" \"muc\"\n"+
		"Component \"focus.meet.example.com\"\n  component_secret = \""+secretA+"\"\n")
	put("usher.yaml", fromProsody)
	for i := range files {
		var text strings.Builder
		for j := range each {
			fmt.Fprintf(&text, "VirtualHost \"v%d-%d.example.com\"\n  authentication = \"token\"\n  app_id = \"app%d-%d\"\n  app_secret = \"%s\"\n",
				i, j, i, j, secretB)
		}
		put(fmt.Sprintf("conf.d/v%03d.cfg.lua", i), text.String())
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := config.Load([]string{filepath.Join(folder, "usher.yaml")}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if len(c.VHosts) != files*each {
			b.Fatalf("%d virtual hosts", len(c.VHosts))
		}
	}
}
