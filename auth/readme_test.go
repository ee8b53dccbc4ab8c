package auth_test

import (
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
)

var update = flag.Bool("update", false, "write the tables of README.md anew")

// again says whether a client of Jitsi asks again by itself (lib-jitsi-meet modules/xmpp/moderator.js).
var again = map[auth.Outcome]string{
	auth.Refused:      "no",
	auth.Joins:        "no: it joins",
	auth.NotReady:     "yes, after 1, 2, 4 … s",
	auth.WaitsForHost: "yes, every 5 s; it says that it waits for the host",
	auth.NeedsLogin:   "yes, every 5 s, and offers the login; with `login: none` as `tenant-mismatch`: no",
	auth.SessionOver:  "yes, at once, without the session",
	auth.RoomGone:     "no: it offers to join again, which leads to the main room",
	auth.BadRequest:   "no",
	auth.SlowDown:     "no",
	auth.FocusError:   "as for Jicofo's error",
}

// README.md has the table of reasons as the code has it; "go generate ./auth" writes it.
func TestReadme(t *testing.T) {
	var reasons, answers strings.Builder
	reasons.WriteString("| code | verdict | class | level | what happened | what you do |\n|---|---|---|---|---|---|\n")
	answers.WriteString("| code | stanza | asks again | text for the person |\n|---|---|---|---|\n")
	levels := map[auth.Level]string{auth.LevelInfo: "info", auth.LevelWarn: "warn"}
	for _, row := range auth.Reasons {
		if again[row.Outcome] == "" || levels[row.Level] == "" {
			t.Errorf("%s: no words for its outcome or level", row.Reason)
		}
		if asks := strings.HasPrefix(again[row.Outcome], "yes, ") && row.Outcome != auth.SessionOver; asks != row.Outcome.AsksAgain() {
			t.Errorf("%s: %q, but AsksAgain is %t", row.Reason, again[row.Outcome], row.Outcome.AsksAgain())
		}
		fmt.Fprintf(&reasons, "| `%s` | %s | %s | %s | %s | %s |\n", row.Reason, row.Verdict, row.Class, levels[row.Level], row.Doc, row.Do)
		text := row.Text
		if row.Outcome == auth.Joins || row.Outcome == auth.NotReady { // results, which have no text
			text = ""
		}
		fmt.Fprintf(&answers, "| `%s` | %s | %s | %s |\n", row.Reason, told(t, row), again[row.Outcome], text)
	}

	old := readAll(t, "README.md")
	want := between(t, between(t, old, "reasons", reasons.String()), "answers", answers.String())
	switch {
	case want == old:
	case *update:
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("README.md is not what reason.go says: run go generate ./auth")
	}
}

// told describes the stanza that component/focus makes for a reason.
func told(t *testing.T, row auth.ReasonRow) string {
	t.Helper()
	reply := focus.Reply(stanza.IQ{}, focus.Conference{}, auth.Decision{Verdict: row.Verdict, Reason: row.Reason}, "", nil)
	var iq struct {
		Conference *struct {
			Ready string `xml:"ready,attr"`
		} `xml:"conference"`
		Error struct {
			Type     string `xml:"type,attr"`
			Children []struct {
				XMLName xml.Name
			} `xml:",any"`
		} `xml:"error"`
	}
	if err := xml.NewTokenDecoder(reply).Decode(&iq); err != nil {
		t.Fatal(err)
	}
	if iq.Conference != nil {
		return fmt.Sprintf("result, `ready='%s'`", iq.Conference.Ready)
	}
	if row.Outcome == auth.FocusError {
		return "Jicofo's own error"
	}
	s := fmt.Sprintf("error `%s`/`%s`", iq.Error.Type, iq.Error.Children[0].XMLName.Local)
	for _, child := range iq.Error.Children {
		if child.XMLName.Space == focus.NS {
			s += " with `<" + child.XMLName.Local + "/>`"
		}
	}
	return s
}

// between returns the document with a text between the markers of that name.
func between(t *testing.T, document, name, text string) string {
	t.Helper()
	begin, end := "<!-- begin: "+name+" -->\n", "<!-- end: "+name+" -->"
	head, rest, ok := strings.Cut(document, begin)
	_, tail, also := strings.Cut(rest, end)
	if !ok || !also {
		t.Fatalf("no markers for %s", name)
	}
	return head + begin + text + end + tail
}
