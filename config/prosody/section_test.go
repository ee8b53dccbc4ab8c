package prosody

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestTypedOptions(t *testing.T) {
	values := map[string]func(s *Section) (any, bool, error){
		"string": func(s *Section) (any, bool, error) { v, _, ok, err := s.String("o"); return v, ok, err },
		"bool":   func(s *Section) (any, bool, error) { v, _, ok, err := s.Bool("o"); return v, ok, err },
		"number": func(s *Section) (any, bool, error) { v, _, ok, err := s.Number("o"); return v, ok, err },
		"list": func(s *Section) (any, bool, error) {
			v, _, ok, err := s.Strings("o")
			return strings.Join(v, ","), ok, err
		},
	}
	// What Prosody's get_option_… gives; "" if it is not set, and an error where Prosody logs one.
	tests := []struct{ kind, text, want string }{
		{"string", `"x"`, "x"}, {"string", "5222", "5222"}, {"string", "true", "true"}, {"string", `{ "x" }`, "x"},
		{"string", "{}", ""}, {"string", `{ "x", "y" }`, "error"}, {"string", `{ k = "x" }`, "error"}, {"string", "nil", ""},
		{"bool", "true", "true"}, {"bool", "false", "false"}, {"bool", `"true"`, "true"}, {"bool", `"false"`, "false"},
		{"bool", "1", "true"}, {"bool", "0", "false"}, {"bool", `"yes"`, "error"}, {"bool", `"1"`, "error"}, {"bool", "{ true }", "true"},
		{"number", "3600*24", "86400"}, {"number", `" 10 "`, "10"}, {"number", `"0x10"`, "16"}, {"number", `"1e3"`, "1000"},
		{"number", `"10s"`, "error"}, {"number", "true", "error"}, {"number", `"inf"`, "error"}, {"number", `"1_0"`, "error"},
		{"list", `{ "a", "b" }`, "a,b"}, {"list", `"a"`, "a"}, {"list", "{}", "set"}, {"list", "{ 1 }", "error"},
		{"list", "{ a = true }", "error"}, {"list", "5", "error"},
	}
	for _, tt := range tests {
		for _, scope := range []string{"", "VirtualHost 'a.example' o = 1 o = nil "} {
			c, err := readText("\no = " + tt.text + "\n" + scope)
			if err != nil {
				t.Fatal(err)
			}
			section := c.Global
			if scope != "" {
				section = c.Hosts[0]
			}
			value, ok, err := values[tt.kind](section)
			got := fmt.Sprint(value)
			switch {
			case err != nil:
				got = "error"
				if p, isProblem := err.(Problem); !isProblem || p.At != (Position{"prosody.cfg.lua", 2}) {
					t.Errorf("%s: the error is %v", tt.text, err)
				}
			case !ok:
				got = ""
			case got == "":
				got = "set"
			}
			if got != tt.want {
				t.Errorf("%s of %s: got %q (%v), want %q", tt.kind, tt.text, got, err, tt.want)
			}
		}
	}
}

func TestModules(t *testing.T) {
	c, err := readText(`modules_enabled = { "roster", "tls", "ping", "tls" }
modules_disabled = { "ping" }
VirtualHost "a.example"
	modules_enabled = { "own", "ping" }
	modules_disabled = { "roster" }
VirtualHost "b.example"
Component "c.example" "muc"
	modules_enabled = { "muc_mam" }`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"a.example": {"tls:1", "own:4", "ping:4"},
		"b.example": {"roster:1", "tls:1"},
		"c.example": {"tls:1", "muc_mam:8"},
	}
	for _, s := range c.Hosts {
		var got []string
		for _, m := range s.Modules() {
			got = append(got, fmt.Sprintf("%s:%d", m.Name, m.At.Line))
		}
		if !reflect.DeepEqual(got, want[s.Name]) {
			t.Errorf("%s: got %v, want %v", s.Name, got, want[s.Name])
		}
	}
}
