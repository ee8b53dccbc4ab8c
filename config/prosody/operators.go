package prosody

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// openOperators makes the functions of {…}, #x and x .. y. The compiler puts calls of them into the program (source.rewrite), and no
// program can write their names.
func (r *reading) openOperators() {
	r.operators = map[string]lua.LGFunction{
		"{}": func(L *lua.LState) int { r.spend(L, stepTable); L.SetTop(1); return 1 },
		"#":  r.length,
		"..": r.concat,
	}
}

// length is the operator #.
func (r *reading) length(L *lua.LState) int {
	switch v := L.Get(1).(type) {
	case lua.LString:
		L.Push(lua.LNumber(len(v)))
	case *lua.LTable:
		L.Push(lua.LNumber(border(v)))
	case *lua.LUserData:
		r.raise(L, "# does not count the entries of an option in Prosody 13: write #…:value()")
	default:
		r.raise(L, "# needs a text or a table, but here is %s; a comment begins with --", article(v))
	}
	return 1
}

// concat is the operator .. for any number of texts. The first argument has their names, for messages.
func (r *reading) concat(L *lua.LState) int {
	names := strings.Split(L.CheckString(1), "\n")
	parts, size := make([]string, 0, len(names)), 0
	for i, name := range names {
		v := L.Get(i + 2)
		if v.Type() != lua.LTString && v.Type() != lua.LTNumber {
			r.raise(L, "%s is %s here, and .. needs a text", name, article(v))
		}
		parts = append(parts, v.String())
		size += len(parts[i])
	}
	r.spendText(L, size)
	return r.text(L, strings.Join(parts, ""))
}
