package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseFolded(t *testing.T) {
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
		nested(MaxDepth):                    nil,
		nested(MaxDepth + 1):                ErrDepth,
		strings.Repeat(`{"a":`, MaxDepth+1): ErrDepth,
		``:                                  ErrSyntax,
		` `:                                 ErrSyntax,
		`{`:                                 ErrSyntax,
		`{"a"`:                              ErrSyntax,
		`{"a":`:                             ErrSyntax,
		`{"a":1`:                            ErrSyntax,
		`{"a":1,`:                           ErrSyntax,
		`{"a":1,}`:                          ErrSyntax,
		`{,}`:                               ErrSyntax,
		`{"a" 1}`:                           ErrSyntax,
		`{"a":1 "b":2}`:                     ErrSyntax,
		`{a:1}`:                             ErrSyntax,
		`{1:1}`:                             ErrSyntax,
		`{"a":[1,]}`:                        ErrSyntax,
		`{"a":[,1]}`:                        ErrSyntax,
		`{"a":[1 2]}`:                       ErrSyntax,
		`{"a":[1}`:                          ErrSyntax,
		`{"a":tru}`:                         ErrSyntax,
		`{"a":truefalse}`:                   ErrSyntax,
		`{"a":True}`:                        ErrSyntax,
		`{"a":+1}`:                          ErrSyntax,
		`{"a":.5}`:                          ErrSyntax,
		`{"a":1.}`:                          ErrSyntax,
		`{"a":01}`:                          ErrSyntax,
		`{"a":1e}`:                          ErrSyntax,
		`{"a":1-1}`:                         ErrSyntax,
		`{"a":0x1}`:                         ErrSyntax,
		`{"a":Infinity}`:                    ErrSyntax,
		`{"a":"}`:                           ErrSyntax,
		`{"a":"\`:                           ErrSyntax,
		`{"a":"\x41"}`:                      ErrSyntax,
		`{"a":"\u00"}`:                      ErrSyntax,
		`{"a":"\u+041"}`:                    ErrSyntax,
		`{"a":"\u0_41"}`:                    ErrSyntax,
		`{"a":"\ud83d\u"}`:                  ErrSyntax,
		"{\"a\":\"\x1f\"}":                  ErrCharacter,
		"{\"a\":\"\x00\"}":                  ErrCharacter,
		`{"a":"\u0000"}`:                    ErrCharacter,
		`{"\u0000":1}`:                      ErrCharacter,
		`{"a":"\ud83d"}`:                    ErrCharacter,
		`{"a":"\ud83dx"}`:                   ErrCharacter,
		`{"a":"\ude00\ud83d"}`:              ErrCharacter,
		`{"a":"\ud83d\u0041"}`:              ErrCharacter,
		"{\"a\":\"\xff\"}":                  ErrUTF8,
		"{\"a\":\"\xed\xa0\x80\"}":          ErrUTF8,
		"\xef\xbb\xbf{}":                    ErrSyntax,
		"{\u00a0}":                          ErrSyntax,
		"{\v}":                              ErrSyntax,
		`{} {}`:                             ErrTrailing,
		`{}x`:                               ErrTrailing,
		"{}\x00":                            ErrTrailing,
		`[]`:                                ErrNoObject,
		`"a"`:                               ErrNoObject,
		`1`:                                 ErrNoObject,
		`null`:                              ErrNoObject,
		`{"a":1,"a":1}`:                     ErrDuplicate,
		`{"a":1,"\u0061":1}`:                ErrDuplicate,
		`{"a":1,"A":1}`:                     ErrDuplicate,
		`{"k":1,"` + "\u212A" + `":1}`:      ErrDuplicate,
		`{"s":1,"` + "\u017F" + `":1}`:      ErrDuplicate,
		`{"σ":1,"ς":1}`:                     ErrDuplicate,
		`{"x":{"a":1,"a":1}}`:               ErrDuplicate,
		`{"x":[{"a":1,"a":1}]}`:             ErrDuplicate,
	} {
		_, err := ParseFolded(text)
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
		if err == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q: encoding/json says that this is no JSON", text)
		}
	}
}

// Parse differs only in names that differ in case.
func TestParse(t *testing.T) {
	for text, want := range map[string]error{
		`{"a":1,"A":2}`:         nil,
		`{"a":1,"a":2}`:         ErrDuplicate,
		`{"a":1,"\u0061":2}`:    ErrDuplicate,
		`{"a":[{"b":1,"b":1}]}`: ErrDuplicate,
		`{"a":1`:                ErrSyntax,
	} {
		if _, err := Parse(text); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
}

func TestObject(t *testing.T) {
	o, err := Parse(`{"b":{"c":"d"},"a":1.50,"e":null}`)
	if err != nil {
		t.Fatal(err)
	}
	if text, isText := o.Child("b").Text("c"); text != "d" || !isText {
		t.Errorf("b.c: %q, %t", text, isText)
	}
	if _, isText := o.Text("a"); isText || o[1] != (Member{"a", Number("1.50")}) {
		t.Errorf("a: %+v", o[1])
	}
	if value, present := o.Get("e"); value != nil || !present {
		t.Errorf("e: %v, %t", value, present)
	}
	if o.Child("a") != nil || o.Child("z") != nil {
		t.Error("an object where there is none")
	}
	if o.Spells([]string{"A"}) || !o.Spells([]string{"a", "z"}) {
		t.Error("names in another case are not told")
	}
}

// fold must find equal exactly what strings.EqualFold does, which Object.Spells goes by, and encoding/json as well.
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
