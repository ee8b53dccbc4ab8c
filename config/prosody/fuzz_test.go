package prosody

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"
)

// FuzzRead checks that no configuration makes Read panic or run for ever, that it reads the same twice, and that an
// error has a place. The seeds are the configurations of testdata/real, and testdata/fuzz.
func FuzzRead(f *testing.F) {
	cases, err := filepath.Glob("testdata/real/*.txt")
	if err != nil || len(cases) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range cases {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		_, files := split(string(content))
		f.Add(files[0].text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tree := files("etc/prosody/prosody.cfg.lua", text, "etc/prosody/conf.d/a.cfg.lua", text)
		first, err := read(tree)
		second, again := read(tree)
		if err == nil && !reflect.DeepEqual(first.Warnings, second.Warnings) {
			t.Fatalf("read twice: %v, %v", first.Warnings, second.Warnings)
		}
		if fmt.Sprint(err) != fmt.Sprint(again) {
			t.Fatalf("read twice: %v, %v", err, again)
		}
		var p Problem
		if err != nil && (!errors.As(err, &p) || p.At.File == "" || p.Text == "") {
			t.Fatalf("a problem without a place: %v", err)
		}
	})
}

// BenchmarkRead reads 1,000 virtual hosts, each with two components, from 200 files.
func BenchmarkRead(b *testing.B) {
	tree := fstest.MapFS{"etc/prosody/prosody.cfg.lua": {Data: []byte("modules_enabled = { 'roster', 'tls' }\nInclude 'conf.d/*.cfg.lua'")}}
	for i := range 200 {
		var text []byte
		for j := range 5 {
			text = fmt.Appendf(text, `
local name = "h%d-%d.example.com"
VirtualHost (name)
  authentication = "token"
  app_id = "app"
  app_secret = "secret"
  allow_empty_token = false
  modules_enabled = { "bosh", "websocket", "ping" }
  c2s_require_encryption = false
Component ("conference." .. name) "muc"
  storage = "memory"
  modules_enabled = { "muc_mam" }
  admins = { "focus@auth." .. name }
Component ("focus." .. name) { component_secret = "secret" }
`, i, j)
		}
		tree[fmt.Sprintf("etc/prosody/conf.d/%03d.cfg.lua", i)] = &fstest.MapFile{Data: text}
	}
	b.ReportAllocs()
	for b.Loop() {
		c, err := read(tree)
		if err != nil || len(c.Hosts) != 3000 {
			b.Fatal(err)
		}
	}
}
