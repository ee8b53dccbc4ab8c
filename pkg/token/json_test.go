package token

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseObject(t *testing.T) {
	nested := func(depth int) string {
		return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}"
	}
	for text, want := range map[string]error{
		`{}`:                                nil,
		` { } `:                             nil,
		`{"a":1,"b":[],"c":[1,"x",null]}`:   nil,
		`{"a":"\"\\\/\b\f\n\r\t\u00e9😀"}`:   nil,
		`{"a":"\ud83d\ude00"}`:              nil,
		`{"a":-0.5e+10,"b":1E5,"c":0}`:      nil,
		`{"":1}`:                            nil,
		`{"a":{"A":1},"b":{"a":1}}`:         nil,
		nested(maxDepth):                    nil,
		nested(maxDepth + 1):                errDepth,
		strings.Repeat(`{"a":`, maxDepth+1): errDepth,
		``:                                  errSyntax,
		` `:                                 errSyntax,
		`{`:                                 errSyntax,
		`{"a"`:                              errSyntax,
		`{"a":`:                             errSyntax,
		`{"a":1`:                            errSyntax,
		`{"a":1,`:                           errSyntax,
		`{"a":1,}`:                          errSyntax,
		`{,}`:                               errSyntax,
		`{"a" 1}`:                           errSyntax,
		`{"a":1 "b":2}`:                     errSyntax,
		`{a:1}`:                             errSyntax,
		`{1:1}`:                             errSyntax,
		`{"a":[1,]}`:                        errSyntax,
		`{"a":[,1]}`:                        errSyntax,
		`{"a":[1 2]}`:                       errSyntax,
		`{"a":[1}`:                          errSyntax,
		`{"a":tru}`:                         errSyntax,
		`{"a":truefalse}`:                   errSyntax,
		`{"a":True}`:                        errSyntax,
		`{"a":+1}`:                          errSyntax,
		`{"a":.5}`:                          errSyntax,
		`{"a":1.}`:                          errSyntax,
		`{"a":01}`:                          errSyntax,
		`{"a":1e}`:                          errSyntax,
		`{"a":1-1}`:                         errSyntax,
		`{"a":0x1}`:                         errSyntax,
		`{"a":Infinity}`:                    errSyntax,
		`{"a":"}`:                           errSyntax,
		`{"a":"\`:                           errSyntax,
		`{"a":"\x41"}`:                      errSyntax,
		`{"a":"\u00"}`:                      errSyntax,
		`{"a":"\u+041"}`:                    errSyntax,
		`{"a":"\u0_41"}`:                    errSyntax,
		`{"a":"\ud83d\u"}`:                  errSyntax,
		"{\"a\":\"\x1f\"}":                  errCharacter,
		"{\"a\":\"\x00\"}":                  errCharacter,
		`{"a":"\u0000"}`:                    errCharacter,
		`{"\u0000":1}`:                      errCharacter,
		`{"a":"\ud83d"}`:                    errCharacter,
		`{"a":"\ud83dx"}`:                   errCharacter,
		`{"a":"\ude00\ud83d"}`:              errCharacter,
		`{"a":"\ud83d\u0041"}`:              errCharacter,
		"{\"a\":\"\xff\"}":                  errUTF8,
		"{\"a\":\"\xed\xa0\x80\"}":          errUTF8,
		"\xef\xbb\xbf{}":                    errSyntax,
		"{\u00a0}":                          errSyntax,
		"{\v}":                              errSyntax,
		`{} {}`:                             errTrailing,
		`{}x`:                               errTrailing,
		"{}\x00":                            errTrailing,
		`[]`:                                errNoObject,
		`"a"`:                               errNoObject,
		`1`:                                 errNoObject,
		`null`:                              errNoObject,
		`{"a":1,"a":1}`:                     errDuplicate,
		`{"a":1,"\u0061":1}`:                errDuplicate,
		`{"a":1,"A":1}`:                     errDuplicate,
		`{"k":1,"` + "\u212A" + `":1}`:      errDuplicate,
		`{"s":1,"` + "\u017F" + `":1}`:      errDuplicate,
		`{"σ":1,"ς":1}`:                     errDuplicate,
		`{"x":{"a":1,"a":1}}`:               errDuplicate,
		`{"x":[{"a":1,"a":1}]}`:             errDuplicate,
	} {
		_, err := parseObject(text)
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
		if err == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q: encoding/json says that this is no JSON", text)
		}
	}
}

// fold must find equal exactly what strings.EqualFold does, which object.spells goes by, and encoding/json as well.
func TestFoldIsEqualFold(t *testing.T) {
	for r := rune(1); r <= 0x1FFFF; r++ {
		if 0xD800 <= r && r <= 0xDFFF {
			continue
		}
		if s := string(r); !strings.EqualFold(s, fold(s)) {
			t.Errorf("%U folds to %q", r, fold(s))
		}
	}
	for _, orbit := range [][]string{{"k", "K", "\u212A"}, {"s", "S", "\u017F"}, {"σ", "Σ", "ς"}, {"ǆ", "ǅ", "Ǆ"}} {
		for _, letter := range orbit {
			if fold(letter) != fold(orbit[0]) {
				t.Errorf("%s and %s fold apart", letter, orbit[0])
			}
		}
	}
}
