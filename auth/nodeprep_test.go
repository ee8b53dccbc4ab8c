package auth_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// nodeprepScript prepares each line of a file as Prosody prepares the node of an address, once and then again as the next server
// would. It prints an empty line for a node that is refused.
const nodeprepScript = `
local source, file = arg[1], arg[2];
package.cpath = source.."/?.so;"..package.cpath;
local nodeprep = require "util.encodings".stringprep.nodeprep;
for node in io.lines(file) do
	local once = nodeprep(node);
	local twice = once and nodeprep(once);
	print(once == twice and once or "");
end
`

// assigned reports whether a code point is a character. Unassigned and private-use code points are in no name.
func assigned(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf)
}

// alike reports whether a code point is an ideograph of China, Japan or Korea of which a neighbour is tried instead: they are most of Unicode,
// and have neither case nor composition.
func alike(r rune) bool { return unicode.Is(unicode.Unified_Ideograph, r) && r%32 != 0 }

// TestReadAsProsodyReads asks Prosody's own Nodeprep about all code points in several places. A raw name is a room exactly if
// Prosody prepares it to the node that usher uses, and claims can have the name.
func TestReadAsProsodyReads(t *testing.T) {
	lua, source := prosodytest.Source(t)
	type name struct{ raw, ours, room string }
	var names []name // those that mellium takes; the others are no rooms, whatever Prosody does
	refused := 0
	at := jid.MustParse(service)
	try := func(raw string) {
		room, err := auth.ParseRoom(raw + "@" + service)
		switch j, no := at.WithLocal(raw); {
		case no == nil:
			names = append(names, name{raw, j.Localpart(), room.JID.Localpart()})
		case err == nil:
			t.Errorf("%+q is a room, but no address", raw)
		default:
			refused++
		}
	}
	var some, marks []rune // letters and digits, without the many that are all alike
	for r := rune(1); r <= unicode.MaxRune; r++ {
		s := string(r)
		if unicode.Is(unicode.Cs, r) {
			continue // not in UTF-8
		}
		if !assigned(r) {
			if room, err := auth.ParseRoom("a" + s + "@" + service); err == nil {
				t.Errorf("%+q is a room", room)
			}
			continue
		}
		try("a" + s + "b")
		try(s)
		if unicode.In(r, unicode.Han, unicode.Hangul, unicode.Tangut, unicode.Yi) {
			continue
		}
		try(s + "1")
		try("\u05d0" + s + "\u05d0")       // in Hebrew
		try("\u06cc" + s + "\u062e")       // between letters that join, where PRECIS takes U+200C
		try("\u0915\u094d" + s + "\u0937") // after a virama, where PRECIS takes both joiners
		try(s + "a\u0323")
		try("a" + s + "\u0323") // around a mark that normalization composes, and puts elsewhere
		switch {
		case unicode.Is(unicode.M, r):
			marks = append(marks, r)
		case unicode.In(r, unicode.L, unicode.N):
			some = append(some, r)
		}
	}
	random := rand.New(rand.NewPCG(9, 7))
	for range 30_000 {
		raw := "a"
		for range 1 + random.IntN(3) {
			raw += string(some[random.IntN(len(some))])
			for range random.IntN(3) {
				raw += string(marks[random.IntN(len(marks))])
			}
		}
		try(raw)
	}
	for n := 28; n < 34; n++ { // x/text puts U+034F after 30 marks
		try("a" + strings.Repeat("\u0323", n) + "\u0301")
		try("a" + strings.Repeat("\u0358", n) + "\u0301")
	}

	var file strings.Builder
	for _, name := range names {
		file.WriteString(name.raw + "\n")
	}
	path := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(lua, "-", source, path)
	cmd.Stdin = strings.NewReader(nodeprepScript)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(answers) != len(names) {
		t.Fatalf("%d answers to %d names", len(answers), len(names))
	}
	rooms, differ, wrong := 0, 0, 0
	for i, name := range names {
		want := name.ours
		if answers[i] != name.ours {
			differ++
			want = ""
		} else if name.room != "" {
			rooms++
		} else if _, err := auth.CanonicalName(name.ours); err != nil || name.ours[0] == '[' { // which begins a tenant
			want = ""
		}
		if name.room != want {
			if wrong++; wrong > 20 {
				t.Fatal("and more")
			}
			t.Errorf("%+q: Prosody has %+q, mellium %+q, ParseRoom %+q", name.raw, answers[i], name.ours, name.room)
		}
	}
	t.Logf("%d rooms, %d names that Prosody reads otherwise, %d that are no addresses", rooms, differ, refused)
	if rooms < 300_000 || differ < 5_000 {
		t.Error("too few to tell")
	}
}

// TestEncodedNames checks every character in jitsi-meet's percent-encoded spelling, which is plain ASCII for the server: the spelling
// is a room exactly if claims can have the name.
func TestEncodedNames(t *testing.T) {
	named := 0
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if !assigned(r) || alike(r) || r == '%' { // which would begin another layer
			continue
		}
		want, err := auth.CanonicalName("a" + string(r) + "b")
		var address []byte
		for _, b := range []byte("a" + string(r) + "b") {
			address = fmt.Appendf(address, "%%%02x", b)
		}
		room, got := auth.ParseRoom(string(address) + "@" + service)
		if (got == nil) != (err == nil) || room.Name != want || err == nil && room.JID.Localpart() != string(address) {
			t.Fatalf("%U: %s is %+v, %v; want %+q, %v", r, address, room, got, want, err)
		}
		if err != nil {
			continue
		}
		named++
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("%U is part of the name %+q", r, want)
		}
	}
	if named < 40_000 {
		t.Errorf("only %d names", named)
	}
}
