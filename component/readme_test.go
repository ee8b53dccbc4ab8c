package component

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/pkg/element"
	"github.com/xmpp-usher/usher/pkg/token"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// canonical is XML without what means nothing: quotes, the order of attributes, space between elements. An element without a
// namespace has that of its parent.
func canonical(t *testing.T, r xml.TokenReader) string {
	t.Helper()
	var out strings.Builder
	spaces := []string{""}
	for {
		tok, err := r.Token()
		switch tok := tok.(type) {
		case xml.StartElement:
			space := cmp.Or(tok.Name.Space, spaces[len(spaces)-1])
			spaces = append(spaces, space)
			attrs := slices.DeleteFunc(slices.Clone(tok.Attr), func(a xml.Attr) bool { return a.Name.Local == "xmlns" })
			slices.SortFunc(attrs, func(a, b xml.Attr) int { return cmp.Compare(a.Name.Local, b.Name.Local) })
			fmt.Fprintf(&out, "<{%s}%s %v>\n", space, tok.Name.Local, attrs)
		case xml.EndElement:
			spaces = spaces[:len(spaces)-1]
			fmt.Fprintf(&out, "</%s>\n", tok.Name.Local)
		case xml.CharData:
			if text := strings.TrimSpace(string(tok)); text != "" {
				fmt.Fprintln(&out, text)
			}
		}
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// asks is the IQ that an example answers.
func asks(answer xml.StartElement) stanza.IQ {
	return stanza.IQ{
		ID: element.Attr(answer, "id"), Type: stanza.SetIQ,
		From: jid.MustParse(element.Attr(answer, "to")), To: jid.MustParse(element.Attr(answer, "from")),
	}
}

// The README's examples are what usher reads, and what it writes.
func TestReadmeExamples(t *testing.T) {
	kinds := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```xml\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		raw := block[1]
		iq, d, err := stream.Open([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := stream.Payload(d)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		kind := element.Attr(iq, "type") + " " + payload.Name.Local
		var writes xml.TokenReader
		switch kind {
		case "set conference":
			c, err := focus.Parse(payload, d)
			if err != nil || c.Token == "" && c.SessionID == "" || c.MachineUID == "" || c.Patient() || len(c.Token) > token.MaxSize {
				t.Errorf("%s: %+v, %v", raw, c, err)
			}
		case "set logout":
			if id, err := focus.ParseLogout(payload, d); err != nil || id == "" {
				t.Errorf("%s: %v", raw, err)
			}
		case "result logout":
			writes = focus.LoggedOut(asks(iq))
		case "result conference":
			decision := auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonHost, Identity: element.Attr(payload, "identity")}
			if kind += " " + element.Attr(payload, "ready"); kind == "result conference false" {
				decision = decision.Denied(auth.ReasonRoomUnavailable, nil)
			}
			writes = focus.Reply(asks(iq), focus.Conference{Room: element.Attr(payload, "room")}, decision, element.Attr(payload, "session-id"), nil)
		case "error error":
			reason := auth.Reason(regexp.MustCompile(`code='([a-z-]+)'/>`).FindStringSubmatch(raw)[1])
			kind += " " + string(reason)
			writes = focus.Reply(asks(iq), focus.Conference{}, auth.Decision{}.Denied(reason, nil), "", nil)
		}
		kinds[kind]++
		if writes != nil {
			if got, want := canonical(t, writes), canonical(t, xml.NewDecoder(strings.NewReader(raw))); got != want {
				t.Errorf("the README has\n%s\nusher writes\n%s", want, got)
			}
		}
	}
	for _, kind := range []string{"set conference", "set logout", "result logout", "result conference true", "result conference false",
		"error error host-absent", "error error token-expired", "error error session-invalid", "error error too-many-requests"} {
		if kinds[kind] == 0 {
			t.Errorf("no example of %s", kind)
		}
	}
}

// The README's table has the condition of every reason that is an error.
func TestReadmeErrors(t *testing.T) {
	_, table, _ := strings.Cut(readme(t), "| Condition | `reason` | Ask again |\n")
	conditions := map[string]string{} // by reason
	for line := range strings.Lines(table) {
		columns := strings.Split(line, "|")
		if len(columns) != 5 {
			break
		}
		for _, reason := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(columns[2], -1) {
			conditions[reason[1]] = columns[1]
		}
	}
	asked := stanza.IQ{ID: "1", Type: stanza.SetIQ, From: jid.MustParse("u@meet.example.com/r"), To: ours}
	for _, e := range auth.Reasons {
		for _, noLogin := range []bool{false, true} {
			reply := canonical(t, focus.Reply(asked, focus.Conference{}, auth.Decision{NoLogin: noLogin}.Denied(e.Reason, nil), "", nil))
			found := regexp.MustCompile(`<{}error .*>\n<{.*}([a-z-]+) `).FindStringSubmatch(reply)
			in, known := conditions[string(e.Reason)]
			switch {
			case found == nil && known:
				t.Errorf("%s is no error", e.Reason)
			case found == nil || strings.Contains(in, "Jicofo's"):
			case known && !strings.Contains(in, "`"+found[1]+"`"):
				t.Errorf("%s is %s, not %s", e.Reason, found[1], in)
			case !known && found[1] != "forbidden":
				t.Errorf("%s is %s, and not in the table", e.Reason, found[1])
			}
		}
	}
	for reason := range conditions {
		if auth.Reason(reason).Doc() == "" {
			t.Errorf("there is no reason %s", reason)
		}
	}
}

// The numbers in the README are those in the code.
func TestReadmeNumbers(t *testing.T) {
	text := strings.Join(strings.Fields(readme(t)), " ")
	for _, want := range []string{
		fmt.Sprintf("up to %d s more", afterHold/time.Second),
		fmt.Sprintf("a request can take %d s", relayedTimeout/time.Second),
		fmt.Sprintf("More than %d that wait", maxPerSender),
		fmt.Sprintf("It holds %d requests of one account", heldPerSender),
		fmt.Sprintf("at most %d kB. Who you are", maxRequest>>10),
		fmt.Sprintf("in compact form, at most %d kB", token.MaxSize>>10),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the README lacks: %s", want)
		}
	}
}

// The README's way to spell a room gives one that usher takes.
func TestReadmeSpelling(t *testing.T) {
	found := regexp.MustCompile("(?s)\"(Café[^\"]*)\" becomes `([^`]*)`").FindStringSubmatch(readme(t))
	if found == nil {
		t.Fatal("no example")
	}
	room, err := auth.ParseRoom(found[2] + "@conference.meet.example.com")
	name, nameErr := auth.CanonicalName(found[1])
	if err != nil || nameErr != nil || room.Name != name || room.JID.Localpart() != found[2] {
		t.Errorf("%s is %q (%v), %s is %q (%v)", found[2], room.Name, err, found[1], name, nameErr)
	}
}
