package audit

//go:generate go test -run ^TestReadme$ . -update

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/component"
)

// field is a field of a line. Its value is text, unless literal has a number or a boolean.
type field struct{ name, text, literal string }

// fields are those of a line.
type fields []field

// add adds a text, unless it is empty.
func (f *fields) add(name, text string) {
	if text != "" {
		*f = append(*f, field{name: name, text: clip(text)})
	}
}

// ms adds a duration in milliseconds.
func (f *fields) ms(name string, d time.Duration) {
	*f = append(*f, field{name: name, literal: strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64)})
}

// maxText bounds a text in bytes, so that a line stays below 64 kB and fits into a datagram of the journal.
const maxText = 3 << 10

func clip(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func begin(at time.Time, what string) fields {
	return fields{{name: "time", text: at.UTC().Format("2006-01-02T15:04:05.000000Z07:00")}, {name: "what", text: what}}
}

// decision returns the fields of a decision.
func decision(r component.Report) []field {
	f := begin(r.At, "decision")
	f.add("room", bare(r.Room))
	f.add("who", bare(r.Who))
	f.add("vhost", r.VHost)
	f.add("issuer", r.Issuer)
	f.add("jti", r.JTI)
	f.add("user", r.User)
	f.add("verdict", r.Verdict.String())
	f.add("reason", string(r.Reason))
	f.add("affiliation", string(r.Affiliation))
	f.ms("ms", r.Took)
	if r.Again {
		f = append(f, field{name: "again", literal: "true"})
	}
	return f
}

func bare(j jid.JID) string {
	if j.Equal(jid.JID{}) {
		return ""
	}
	return j.Bare().String()
}

// call returns the fields of a call of the API.
func call(c Call) []field {
	f := begin(c.At, "call")
	f.add("key", c.Key)
	f.add("method", c.Method)
	f.add("path", c.Path)
	f.add("room", c.Room)
	f.add("who", c.Who)
	f.add("remote", c.Remote)
	f = append(f, field{name: "status", literal: strconv.Itoa(c.Status)})
	f.ms("ms", c.Took)
	return f
}

// lost returns the fields of the line that tells of dropped ones.
func lost(at time.Time, n int64) []field {
	return append(begin(at, "dropped"), field{name: "lines", literal: strconv.FormatInt(n, 10)})
}

// line returns the line of a file: a JSON object and a newline.
func line(all []field) []byte {
	return append(object(all), '\n')
}

func object(all []field) []byte {
	b := append(make([]byte, 0, 512), '{')
	for n, f := range all {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, f.name), ':')
		if f.literal != "" {
			b = append(b, f.literal...)
		} else {
			b = appendText(b, f.text)
		}
	}
	return append(b, '}')
}

// appendText appends a text as JSON. What cannot be printed is escaped, also where JSON would not need it: programs differ in what ends a
// line (U+0085, U+2028), and a terminal obeys some characters. (encoding/json escapes only some of these.)
func appendText(b []byte, text string) []byte {
	b = append(b, '"')
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case r < utf8.RuneSelf && r >= ' ' && r != 0x7f || r >= utf8.RuneSelf && unicode.IsPrint(r):
			b = append(b, text[at:at+size]...)
		case r > 0xffff:
			r -= 0x10000
			b = escape(escape(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
		default:
			b = escape(b, r)
		}
		at += size
	}
	return append(b, '"')
}

func escape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// datagram returns a line as the journal takes it (systemd's JOURNAL_NATIVE_PROTOCOL.md): the JSON object as the message, and its fields
// as fields of the journal, such as USHER_ROOM.
func datagram(all []field) []byte {
	b := []byte("PRIORITY=6\nSYSLOG_IDENTIFIER=usher\n")
	b = appendField(b, "MESSAGE", string(object(all)))
	for _, f := range all {
		if f.name != "time" {
			b = appendField(b, "USHER_"+strings.ToUpper(f.name), f.text+f.literal)
		}
	}
	return b
}

// appendField appends a field of the journal. A value with a newline is preceded by its length.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	return append(append(b, value...), '\n')
}
