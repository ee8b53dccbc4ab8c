package component_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/audit"
	"github.com/xmpp-usher/usher/component/webhook"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestAuditAndWebhooks has a guest wait for a host beside a real server, and come in. The audit log has each decision, and a hook gets each
// event, those of the room in order. No secret is in either.
func TestAuditAndWebhooks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies, types []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m struct{ Type string }
		_ = json.Unmarshal(body, &m)
		mu.Lock()
		defer mu.Unlock()
		bodies, types = append(bodies, string(body)), append(types, m.Type)
	}))
	defer hook.Close()
	told := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(types)
	}
	signs, err := webhook.ParseSecrets("whsec_Q0hJQ0tFTi1TVFJJUFMtT0YtQ0hJLTI0")
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{{Name: "hook", URL: hook.URL, Secrets: signs, Timeout: patience}}})
	if err != nil {
		t.Fatal(err)
	}
	prosodytest.Need(t) // otherwise the log would stay open
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.Open(audit.Options{To: path})
	if err != nil {
		t.Fatal(err)
	}
	g := own.start(t, setup{config: config, options: func(o *component.Options) {
		o.Report = func(r component.Report) {
			log.Report(r)
			hooks.Report(r)
		}
		o.Explain = true
	}})
	ctx, stop := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() { hooks.Run(ctx, g.store) })
	defer sending.Wait()
	defer stop()

	host, guest, stranger := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("meet.example.com")
	guest.must("the first answer", guest.asks(room, ""), absent)
	held := guest.answerTo(request(room, "", "")) // which makes no second event
	tok := mint(t, nil)
	stranger.must("a bad token", stranger.asks(room, tok[:len(tok)-4]+"AAAA"), "forbidden token-signature")
	host.enters(room, tok)
	if got := outcome(<-held); got != "ready" {
		t.Fatalf("the guest is told %s", got)
	}
	guest.joins(room)
	guest.leaves(room)
	host.leaves(room)
	g.eventually("the hook knows that the room is over", func() bool { return slices.Contains(told(), "room-ended") })
	stop()
	sending.Wait()
	g.halt()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}

	order := slices.DeleteFunc(told(), func(t string) bool { return strings.HasPrefix(t, "occupant-") })
	want := []string{"waiting", "refused", "admitted", "room-opened", "host-arrived", "admitted", "host-left", "room-ended"}
	sorted := func(all []string) []string { return slices.Sorted(slices.Values(all)) }
	if order[0] != "waiting" || order[len(order)-1] != "room-ended" || !slices.Equal(sorted(order), sorted(want)) {
		t.Errorf("the hook was told %v; want %v", order, want)
	}
	for _, each := range []string{"occupant-joined", "occupant-left"} {
		if n := len(slices.DeleteFunc(told(), func(t string) bool { return t != each })); n != 2 {
			t.Errorf("the hook was told %s %d times", each, n)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for part, n := range map[string]int{
		`"verdict":"wait","reason":"host-absent"`: 1, `"reason":"token-signature"`: 1, `"reason":"host","affiliation":"owner"`: 1, `"reason":"guest"`: 1,
		`"vhost":"guest.meet.example.com"`: 2, `"room":"` + room + `"`: 4,
	} {
		if got := strings.Count(string(text), part); got != n {
			t.Errorf("the audit log has %s %d times; want %d:\n%s", part, got, n, text)
		}
	}
	g.secrets.Check(t, "the audit log", string(text))
	for _, body := range bodies {
		g.secrets.Check(t, "a webhook", body)
	}
}
