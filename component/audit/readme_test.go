package audit_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/audit"
)

var update = flag.Bool("update", false, "write the examples of README.md anew")

// README.md has lines as the code writes them; "go generate ./component/audit" writes it.
func TestReadme(t *testing.T) {
	guest := component.Report{
		What: component.Decided, At: at.Add(time.Second), Room: jid.MustParse("standup@conference.example.com"),
		Who: jid.MustParse("4f1c0b2e@guest.example.com/x"), VHost: "guest.example.com", Verdict: auth.Wait, Reason: auth.ReasonHostAbsent,
		Took: 3200 * time.Microsecond,
	}
	text := "\n```json\n" + string(audit.Decision(decision())) + string(audit.Decision(guest)) + string(audit.CallLine(apiCall())) + "```\n\n"
	old, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- examples: go generate ./component/audit -->\n", "<!-- end of examples -->"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks are missing")
	}
	want := before + begin + text + end + after
	switch {
	case want == string(old):
	case *update:
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error(`README.md is out of date; run "go generate ./component/audit"`)
	}
}
