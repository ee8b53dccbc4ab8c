package auth_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/xmpp-usher/usher/auth"
)

// Names with their canonical forms, where "" means refused: by CanonicalName, and as the localpart of a room's address, which has
// narrower rules (RFC 7622 §3.3).
var roomNames = []struct{ what, name, canonical, inAddress string }{
	{"plain", "rooma", "rooma", "rooma"},
	{"case", "RoomA", "rooma", "rooma"},
	{"punctuation", "a-b_c.d+e!", "a-b_c.d+e!", "a-b_c.d+e!"},
	{"dot at the end", "rooma.", "rooma.", "rooma."},
	{"nothing", "", "", ""},

	{"encoded", "%72oom%61", "rooma", "rooma"},
	{"encoded twice is decoded once", "room%2561", "room%61", "room%61"},
	{"encoded in lower and upper case", "caf%c3%a9 caf%C3%A9", "café café", ""},
	{"encoded case", "%52oomA", "rooma", "rooma"},
	{"not encoded", "100%", "100%", "100%"},
	{"not encoded either", "%zz%7", "%zz%7", "%zz%7"},
	{"plus is no space", "a+b", "a+b", "a+b"},
	{"encoded half a character", "%c3", "", ""},
	{"encoded NUL", "a%00b", "", ""},
	{"encoded line break", "a%0Ab", "", ""},

	{"space", "my room", "my room", ""},
	{"encoded space", "My%20Room", "my room", "my room"},
	{"no-break space", "my\u00a0room", "my room", ""},
	{"space before", " rooma", "", ""},
	{"space after", "rooma ", "", ""},
	{"encoded space after", "rooma%20", "", ""},
	{"spaces alone", "%20%20", "", ""},
	{"wide space after", "rooma\u3000", "", ""},

	{"composed", "café", "café", "café"},
	{"decomposed", "cafe\u0301", "café", "café"},
	{"compatible", "ｒｏｏｍａ", "rooma", "rooma"},
	{"ligature", "ﬁ", "fi", ""},
	{"one sign for two letters", "™", "tm", ""},
	{"roman numeral", "Ⅷ", "viii", ""},
	{"Kelvin", "\u212aelvin", "kelvin", "kelvin"},
	{"Ångström", "\u212bngstr\u00f6m", "ångström", "ångström"},
	{"long s", "ſ", "s", ""},
	{"sharp s", "straße", "straße", ""},
	{"great sharp s", "STRA\u1e9eE", "straße", ""},
	{"no sharp s", "strasse", "strasse", "strasse"},
	{"final sigma", "ς", "ς", ""},
	{"sigma", "Σ", "σ", "σ"},
	{"sigma at the end of a word", "ΟΔΟΣ ΣΟΦΙΑΣ", "οδος σοφιας", ""},
	{"sigma at the end, as servers have it", "ΟΔΟΣ", "οδος", "οδοσ"}, // by PRECIS and Nodeprep, which know no final one
	{"sigma at the end, encoded", "%CE%9F%CE%94%CE%9F%CE%A3", "οδος", "οδος"},
	{"sigma before a sign within words", "ΟΣ.ΟΣ.Σ", "οσ.οσ.ς", "οσ.οσ.σ"},
	{"Turkish dotted capital", "\u0130", "i\u0307", "i\u0307"},
	{"Turkish dotless", "\u0131", "\u0131", "\u0131"},
	{"ASCII I in any locale", "I", "i", "i"},
	{"Cyrillic look-alike", "r\u043e\u043ema", "r\u043e\u043ema", "r\u043e\u043ema"},

	{"emoji", "😀", "😀", ""},
	{"encoded emoji", "%F0%9F%98%80", "😀", "😀"},
	{"joined emoji", "👨\u200d👩", "👨\u200d👩", ""},
	{"joined emoji, encoded", "%F0%9F%91%A8%E2%80%8D%F0%9F%91%A9", "👨\u200d👩", "👨\u200d👩"},
	{"red heart", "❤\ufe0f", "❤\ufe0f", ""},
	{"red heart, encoded", "%E2%9D%A4%EF%B8%8F", "❤\ufe0f", "❤\ufe0f"},
	{"black heart is another room", "%E2%9D%A4", "❤", "❤"},
	{"keycap", "1\ufe0f\u20e3", "1\ufe0f\u20e3", ""},
	{"flag of Wales", "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", ""},
	{"Persian", "می\u200cخواهم", "می\u200cخواهم", ""},
	{"Persian, encoded", "%D9%85%DB%8C%E2%80%8C%D8%AE%D9%88%D8%A7%D9%87%D9%85", "می\u200cخواهم", "می\u200cخواهم"},
	{"Persian after a letter that does not join", "کار\u200cها", "کار\u200cها", ""},
	{"Hindi", "क्\u200dष", "क्\u200dष", ""}, // which PRECIS takes, and Nodeprep deletes
	{"zero-width joiner", "a\u200db", "a\u200db", ""},
	{"zero-width joiner, encoded", "a%e2%80%8db", "a\u200db", "a\u200db"},
	{"zero-width joiner alone", "\u200d", "", ""},
	{"encoded zero-width joiner alone", "%e2%80%8d", "", ""},
	{"space before a joiner at the end", "rooma%20%e2%80%8d", "", ""},
	{"31 marks", "a" + strings.Repeat("\u0358", 31), "", ""},
	{"Georgian capital", "\u1c90", "\u10d0", ""}, // PRECIS folds it, Nodeprep does not know it
	{"N'Ko, then a digit", "\u07ca1", "\u07ca1", ""},
	{"zero-width space", "a\u200bb", "", ""},
	{"right-to-left mark", "rooma\u200f", "", ""},
	{"right-to-left override", "\u202eamoor", "", ""},
	{"encoded right-to-left mark", "rooma%E2%80%8F", "", ""},
	{"Hebrew", "חדר", "חדר", "חדר"},
	{"soft hyphen", "a\u00adb", "", ""},
	{"byte order mark", "\ufeffrooma", "", ""},
	{"NUL", "a\x00b", "", ""},
	{"escape", "a\x1bb", "", ""},
	{"C1", "a\u0085b", "", ""},
	{"private use", "\ue000", "", ""},
	{"unassigned", "\u0378", "", ""},
	{"invalid UTF-8", "a\xff", "", ""},

	{"another domain", "rooma@conference.x", "rooma@conference.x", ""},
	{"slash", "t/rooma", "t/rooma", ""},
	{"encoded slash", "t%2Frooma", "t/rooma", "t/rooma"},
	{"quote", "a\"b", "a\"b", ""},
	{"1023 bytes", strings.Repeat("a", 1023), strings.Repeat("a", 1023), strings.Repeat("a", 1023)},
	{"1024 bytes", strings.Repeat("a", 1024), strings.Repeat("a", 1024), ""},
}

func TestCanonicalName(t *testing.T) {
	for _, tt := range roomNames {
		t.Run(tt.what, func(t *testing.T) {
			got, err := auth.CanonicalName(tt.name)
			if got != tt.canonical || (err != nil) != (tt.canonical == "") {
				t.Errorf("CanonicalName(%+q) = %+q, %v; want %+q", tt.name, got, err, tt.canonical)
			}
			room, err := auth.ParseRoom(tt.name + "@conference.example.com")
			if room.Name != tt.inAddress || (err != nil) != (tt.inAddress == "") {
				t.Errorf("ParseRoom: %+q, %v; want %+q", room.Name, err, tt.inAddress)
			}
		})
	}
}

// TestFoldedLikeJitsiMeet compares CanonicalName with JavaScript for all code points that a name may have: alone, at the end of a
// word, and around a sigma, because its neighbours make it final.
func TestFoldedLikeJitsiMeet(t *testing.T) {
	const cased = "\u0561"
	// Unicode has changed these since version 15, which Go has.
	changed := map[rune]bool{0x295: true, 0x2E4: true, 0x1171E: true}
	fold, flags := readFold(t)
	compared, wrong := 0, 0
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if changed[r] || alike(r) || !unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r) {
			continue // controls, private use and what is not assigned: no room has it in its name
		}
		s := string(r)
		alone, differs := fold[r]
		if !differs {
			alone = s
		}
		sigma := func(flag string) string {
			final := !strings.Contains(flags[r], flag)
			if flag == "C" || flag == "D" {
				final = !final
			}
			if final {
				return "ς"
			}
			return "σ"
		}
		names := [][2]string{{s, alone}, {cased + s, cased + alone}}
		if strings.Contains(norm.NFKC.String(s), "Σ") {
			names[1][1] = cased + strings.ReplaceAll(alone, "σ", "ς")
		} else {
			names = append(names, [][2]string{
				{cased + "Σ" + s, cased + sigma("A") + alone},
				{cased + "Σ" + s + cased, cased + sigma("B") + alone + cased},
				{s + "Σ", alone + sigma("C")},
				{cased + s + "Σ", cased + alone + sigma("D")},
			}...)
		}
		for _, name := range names {
			got, err := auth.CanonicalName(name[0])
			if err != nil {
				continue // a space at an end, a character that must stand beside others, or one that no name has
			}
			compared++
			if got != name[1] {
				if wrong++; wrong > 20 {
					t.Fatal("and more")
				}
				t.Errorf("%U in %+q: got %+q, JavaScript has %+q", r, name[0], got, name[1])
			}
		}
	}
	if compared < 200_000 {
		t.Errorf("only %d names were compared", compared)
	}
}

// readFold reads testdata/fold.txt. The file says how JavaScript wrote it.
func readFold(t *testing.T) (fold, flags map[rune]string) {
	t.Helper()
	point := func(text string) rune {
		n, err := strconv.ParseUint(text, 16, 21)
		if err != nil {
			t.Fatal(err)
		}
		return rune(n)
	}
	fold, flags = make(map[rune]string), make(map[rune]string)
	for line := range strings.Lines(readAll(t, "testdata/fold.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if from, to, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			var text []rune
			for _, each := range strings.Fields(to) {
				text = append(text, point(each))
			}
			fold[point(from)] = string(text)
			continue
		}
		fields := strings.Fields(line)
		first, last, _ := strings.Cut(fields[0], "..")
		for r := point(first); r <= point(last); r++ {
			flags[r] = fields[1]
		}
	}
	return fold, flags
}

func TestParseRoom(t *testing.T) {
	for address, want := range map[string]auth.Room{
		"rooma@conference.example.com":                   {Name: "rooma"},
		"[t]rooma@conference.example.com":                {Name: "rooma", Tenant: "t"},
		"[My%20Team]Room%61@conference.example.com":      {Name: "rooma", Tenant: "my team"},
		"[t][u]rooma@conference.example.com":             {Name: "[u]rooma", Tenant: "t"},
		"a]b@conference.example.com":                     {Name: "a]b"},
		"%5bt%5drooma@conference.example.com":            {Name: "[t]rooma"}, // a room of no tenant, whatever it looks like
		"rooma@CONFERENCE.Example.com":                   {Name: "rooma"},
		"rooma@conference.example.com.":                  {Name: "rooma"},
		"[]rooma@conference.example.com":                 {},
		"[t]@conference.example.com":                     {},
		"[]@conference.example.com":                      {},
		"[t@conference.example.com":                      {},
		"[%20]rooma@conference.example.com":              {},
		"[t]%20rooma@conference.example.com":             {},
		"":                                               {},
		"@":                                              {},
		"rooma":                                          {},
		"rooma@":                                         {},
		"rooma@.":                                        {},
		"rooma@..":                                       {},
		"rooma@conference.example.com..":                 {},
		"@conference.example.com":                        {},
		"conference.example.com":                         {},
		"rooma@conference.example.com/":                  {},
		"rooma@conference.example.com/focus":             {},
		"rooma@conference.example.com/x@y":               {},
		"rooma@other@conference.example.com":             {},
		"rooma@conference.example.com ":                  {},
		" rooma@conference.example.com":                  {},
		"rooma@conference example.com":                   {},
		"rooma@conference.example.com\x00":               {},
		"rooma@" + strings.Repeat("a", 1024) + ".com":    {},
		strings.Repeat("a", 1<<20) + "@conference.x.com": {},
	} {
		room, err := auth.ParseRoom(address)
		if room.Name != want.Name || room.Tenant != want.Tenant || (err != nil) != (want.Name == "") {
			t.Errorf("ParseRoom(%.60q) = %+v, %v", address, room, err)
		}
		if err == nil && room.Service() != "conference.example.com" {
			t.Errorf("%q: service %q", address, room.Service())
		}
	}
}

// FuzzCanonicalName checks that a canonical name is one name: it is stable, and has no hidden spelling.
func FuzzCanonicalName(f *testing.F) {
	for _, tt := range roomNames {
		if len(tt.name) < 100 {
			f.Add(tt.name)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := auth.CanonicalName(s)
		if err != nil {
			if name != "" {
				t.Errorf("%+q and %v", name, err)
			}
			return
		}
		hidden := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\ufeff' }
		switch {
		case name == "" || name != strings.TrimSpace(name):
			t.Errorf("%+q is empty or has a space at its end", name)
		case strings.ContainsFunc(name, hidden):
			t.Errorf("%+q has characters that nobody sees", name)
		case !norm.NFKC.IsNormalString(name):
			t.Errorf("%+q is not normal", name)
		}
		if again, err := auth.CanonicalName(name); !strings.Contains(name, "%") && (again != name || err != nil) {
			t.Errorf("%+q becomes %+q, %v", name, again, err)
		}
		if upper, err := auth.CanonicalName(strings.ToUpper(s)); ascii(s) && (upper != name || err != nil) {
			t.Errorf("%q is %q, and in upper case %q, %v", s, name, upper, err)
		}
	})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) && !strings.Contains(s, "%")
}

// FuzzParseRoom checks that an accepted address means one room to every reader.
func FuzzParseRoom(f *testing.F) {
	for _, tt := range roomNames {
		if len(tt.name) < 100 {
			f.Add(tt.name+"@conference.example.com", "[t]"+tt.name+"@conference.example.com")
		}
	}
	f.Fuzz(func(t *testing.T, address, other string) {
		room, err := auth.ParseRoom(address)
		if err != nil {
			if room.Name != "" || room.Tenant != "" || room.JID.String() != "" {
				t.Errorf("%+v and %v", room, err)
			}
			return
		}
		local, domain, _ := strings.Cut(room.JID.String(), "@")
		switch {
		case room.JID.Resourcepart() != "" || !room.JID.Equal(room.JID.Bare()):
			t.Errorf("%s is not bare", room.JID)
		case room.Service() != domain || room.JID.Localpart() != local || local == "":
			t.Errorf("%s has the service %q", room.JID, room.Service())
		case room.Name == "" || room.Tenant == "" != !strings.HasPrefix(local, "["):
			t.Errorf("%s is %q of %q", room.JID, room.Name, room.Tenant)
		}
		if again, err := auth.ParseRoom(room.JID.String()); err != nil || again.Name != room.Name || again.Tenant != room.Tenant || !again.JID.Equal(room.JID) {
			t.Errorf("%s becomes %+v, %v", room.JID, again, err)
		}
		if o, err := auth.ParseRoom(other); err == nil && o.JID.Equal(room.JID) && (o.Name != room.Name || o.Tenant != room.Tenant) {
			t.Errorf("%s is both %+v and %+v", room.JID, o, room)
		}
	})
}
