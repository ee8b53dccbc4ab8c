package stream

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	xmppstream "mellium.im/xmpp/stream"
)

// No stanza ends the stream, whatever is wrong with it: it comes with a fault, or is lost if the handler panics at it.
func TestReceive(t *testing.T) {
	s := testStream("<iq id='1'/>" +
		"<iq id='2' a=b/>" + // no XML
		"<a:b:c/>" + // no name for encoding/xml
		"<iq id='3'>" + strings.Repeat("<a>", MaxDepth) + strings.Repeat("</a>", MaxDepth) + "</iq>" +
		"<iq id='4'>" + strings.Repeat("x", MaxStanza) + "</iq>" +
		"<presence id='panic'/>" +
		"<message id='5'/>" +
		"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error><iq id='6'/>")
	var got []string
	var faults []error
	end := s.Receive(func(st Stanza) {
		if st.Attr("id") == "panic" {
			panic("at your service")
		}
		got = append(got, st.Start.Name.Local+st.Attr("id"))
		faults = append(faults, st.Fault)
	}, func(p any) { got = append(got, p.(string)) })

	if want := []string{"iq1", "", "", "iq3", "iq4", "at your service", "message5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, bad := range []bool{false, true, true, true, true, false} {
		if (faults[i] != nil) != bad {
			t.Errorf("stanza %d: fault %v", i, faults[i])
		}
	}
	if !errors.Is(faults[3], ErrTooDeep) || !errors.Is(faults[4], ErrTooLarge) {
		t.Errorf("faults %v, %v", faults[3], faults[4])
	}
	if !errors.Is(end, xmppstream.Conflict) || !errors.Is(s.Err(), xmppstream.Conflict) {
		t.Errorf("ended with %v, %v", end, s.Err())
	}
	<-s.Ended()
}

// Err is nil as long as the stream goes on, and then says why it ended.
func TestWhyItEnds(t *testing.T) {
	for sends, want := range map[string]string{
		"</stream:stream>": "the server closed the stream",
		"<iq>":             "reading from the server: unexpected EOF",
		"":                 "reading from the server: unexpected EOF",
		"<iq/><!-- -->":    "reading from the server: XML that RFC 6120 §11.1 forbids between or in stanzas",
	} {
		s := testStream(sends)
		if err := s.Err(); err != nil {
			t.Errorf("%s: before: %v", sends, err)
		}
		if end := s.Receive(func(Stanza) {}, func(any) {}); end == nil || end.Error() != want || s.Err() != end {
			t.Errorf("%s: %v, %v", sends, end, s.Err())
		}
	}
}

// An IQ has one payload, with nothing but white space around it.
func TestPayload(t *testing.T) {
	for raw, want := range map[string]string{
		"<iq><a/></iq>":              "a",
		"<iq> \n<a><b/></a> </iq>":   "a",
		"<iq/>":                      "an IQ without a payload",
		"<iq></iq>":                  "an IQ without a payload",
		"<iq>text<a/></iq>":          "text before the payload of an IQ",
		"<iq><a/>text</iq>":          "text after the payload of an IQ",
		"<iq><a/><b/></iq>":          "more than one payload in an IQ",
		"<iq><a/></iq><iq><b/></iq>": "more than one payload in an IQ",
	} {
		_, d, err := Open([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := Payload(d)
		if err == nil {
			if err = d.Skip(); err == nil {
				err = End(d)
			}
		}
		got := payload.Name.Local
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

// FuzzReceive feeds the stream raw bytes, as if the server had sent them: it ends with them, no stanza is longer than its limit,
// and each is what the server sent, without a byte more or less.
func FuzzReceive(f *testing.F) {
	for _, s := range []string{
		"<iq type='set' id='1' from='u@guest.example.com/r' to='focus.meet.example.com'><a/></iq>",
		"<a b='>' c=\"</a>'/>\"><d e='/'/></a> \n<a:b:c/><-/></stream:stream>",
		"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		"<a><!-- --></a>", "<a><?php ?></a>", "text", "</a>", "<presence/><message/><iq/><iq type='\U0010ffff'/>",
		strings.Repeat("<a>", MaxDepth+1) + strings.Repeat("</a>", MaxDepth+1),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s := testStream(in)
		var all bytes.Buffer
		end := s.Receive(func(st Stanza) {
			if len(st.Raw) > MaxStanza {
				t.Errorf("a stanza of %d bytes", len(st.Raw))
			}
			if (st.Start.Name.Local == "") && st.Fault == nil {
				t.Errorf("no start tag and no fault: %q", st.Raw)
			}
			all.Write(st.Raw)
		}, func(p any) { t.Errorf("panic: %v", p) })
		if end == nil {
			t.Error("the stream ended without an error")
		}
		if !strings.HasPrefix(in, all.String()) {
			t.Errorf("%q became %q", in, all.String())
		}
	})
}
