package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/portal/signing"
)

// portalConfig is a usher.yaml with a portal that signs with a key of its own.
const portalConfig = `
xmpp: {domain: focus.meet.example.com, secret: the-component-secret-0123456789-0123}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: shop, app_secret: the-app-secret-0123456789-0123456789}}
portal: {listen: "127.0.0.1:8087", public_url: "https://login.example.com", meet_urls: ["https://meet.example.com"], sign: key, key_file: keys.json}
`

// TestKey rotates and lists the keys of a portal.
func TestKey(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", portalConfig)
	for _, args := range [][]string{{"list"}, {"rotate"}} {
		r := command(t, "", append(append([]string{"key"}, args...), "-c", "usher.yaml")...)
		if r.status != statusFailed || !strings.Contains(r.stderr, filepath.Join(workingDir(t), "keys.json")+" does not exist: usher serve makes it") {
			t.Errorf("%v without a file: %+v", args, r)
		}
	}
	began := time.Now().Add(-time.Hour)
	keys, err := signing.Open("keys.json", func() time.Time { return began })
	if err != nil {
		t.Fatal(err)
	}
	first, _ := keys.Current()
	r := command(t, "", "key", "rotate", "-c", "usher.yaml")
	if r.status != 0 || !strings.HasPrefix(r.stdout, "A new key is published now, and signs from ") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "key", "rotate", "-c", "usher.yaml"); r.status != statusFailed || !strings.Contains(r.stderr, "a new key is there already") {
		t.Errorf("again: %+v", r)
	}
	r = command(t, "", "key", "list", "--key-file", "keys.json")
	lines := strings.Split(r.stdout, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], first) || !strings.HasSuffix(lines[1], "  signs") || !strings.HasSuffix(lines[2], "  published") {
		t.Errorf("%+v", r)
	}
	var listed struct{ Keys []listedSigningKey }
	if r := command(t, "", "key", "list", "--json", "-c", "usher.yaml"); json.Unmarshal([]byte(r.stdout), &listed) != nil || len(listed.Keys) != 2 || listed.Keys[0].ID != first {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "key", "rotate", "--now", "-c", "usher.yaml"); r.status != 0 || !strings.HasPrefix(r.stdout, "A new key signs now.") {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile("keys.json"); err != nil || strings.Contains(string(text), first) {
		t.Error("the old key is still there")
	}

	edit(t, "usher.yaml", "sign: key, key_file: keys.json", "sign: app_secret")
	if r := command(t, "", "key", "list", "-c", "usher.yaml"); r.status != statusFailed || !strings.Contains(r.stderr, "it signs with the app_secret of shop (portal.sign)") {
		t.Errorf("%+v", r)
	}
	edit(t, "usher.yaml", `listen: "127.0.0.1:8087"`, "listen: off")
	if r := command(t, "", "key", "list", "-c", "usher.yaml"); r.status == 0 {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "key", "list"); r.status != statusUsage || !strings.Contains(r.stderr, "which file?") {
		t.Errorf("%+v", r)
	}
}
