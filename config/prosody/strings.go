package prosody

import (
	"fmt"
	"regexp"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/pm"
)

// openString makes the library string of functions that pay for their work.
func (r *reading) openString(L *lua.LState) {
	lib := r.libs.RawGetString(lua.StringLibName).(*lua.LTable)
	for _, name := range []string{"byte", "reverse"} {
		whole := lib.RawGetString(name).(*lua.LFunction).GFunction
		lib.RawSetString(name, L.NewFunction(func(L *lua.LState) int {
			if text, ok := L.Get(1).(lua.LString); ok {
				r.spendText(L, len(text))
			}
			return whole(L)
		}))
	}
	for _, name := range []string{"dump", "gfind"} {
		lib.RawSetString(name, lua.LNil)
	}
	patterns := map[string]lua.LGFunction{}
	for _, name := range []string{"find", "match", "gsub"} {
		patterns[name] = lib.RawGetString(name).(*lua.LFunction).GFunction
	}
	gmatch := lib.RawGetString("gmatch").(*lua.LFunction)
	add(L, lib, map[string]lua.LGFunction{
		// Letters beyond ASCII have no case in Prosody's Lua, but in gopher-lua they have.
		"upper":  func(L *lua.LState) int { return r.text(L, changeCase(L.CheckString(1), 'a')) },
		"lower":  func(L *lua.LState) int { return r.text(L, changeCase(L.CheckString(1), 'A')) },
		"char":   r.char,
		"find":   func(L *lua.LState) int { r.pattern(L, lua.LVAsBool(L.Get(4))); return patterns["find"](L) },
		"match":  func(L *lua.LState) int { r.pattern(L, false); return patterns["match"](L) },
		"gmatch": func(L *lua.LState) int { return r.gmatch(L, gmatch) },
		"gsub":   func(L *lua.LState) int { return r.gsub(L, patterns["gsub"]) },
		"format": r.format,
		"rep":    r.rep,
	})
}

func (r *reading) char(L *lua.LState) int {
	text := make([]byte, L.GetTop())
	for i := range text {
		c := L.CheckInt(i + 1)
		if c != int(byte(c)) {
			r.raise(L, "%d is no byte, and string.char needs bytes", c)
		}
		text[i] = byte(c)
	}
	return r.text(L, string(text))
}

func (r *reading) gmatch(L *lua.LState, gmatch *lua.LFunction) int {
	r.pattern(L, false)
	r.matchesNothing(L)
	args := []lua.LValue{gmatch, L.Get(1), L.Get(2)}
	L.SetTop(0)
	for _, arg := range args {
		L.Push(arg)
	}
	L.Call(2, lua.MultRet)
	return L.GetTop()
}

func (r *reading) rep(L *lua.LState) int {
	text, n, sep := L.CheckString(1), L.CheckInt(2), L.OptString(3, "")
	if n <= 0 {
		return r.text(L, "")
	}
	if n > maxText+1 || (len(text)+len(sep))*n > 2*maxText {
		r.spendText(L, maxText+1)
	}
	return r.text(L, strings.TrimSuffix(strings.Repeat(text+sep, n), sep))
}

// changeCase gives the 26 letters from first on the other case.
func changeCase(text string, first byte) string {
	changed := []byte(text)
	for i, c := range changed {
		if c-first < 26 {
			changed[i] ^= 'a' ^ 'A'
		}
	}
	return string(changed)
}

// pattern pays for the worst case of matching a pattern. Each repetition in it may try each length of the rest of the text. So there
// are as many ways as the repetitions can divide the text among them.
func (r *reading) pattern(L *lua.LState, plain bool) {
	text, pattern := L.CheckString(1), L.CheckString(2)
	n := float64(len(text) + 1)
	ways := n
	if !plain {
		if i := len(strings.TrimRight(pattern, "%")); (len(pattern)-i)%2 == 1 {
			r.raise(L, "this pattern ends with a %%: write %%%% for a plain one")
		}
		if strings.Contains(pattern, "%f") {
			r.refuse(L, "%%f in a pattern is newer Lua than usher evaluates: write this without it")
		}
		if strings.HasPrefix(pattern, "^") {
			ways = 1
		}
		repetitions := 0
		for _, c := range []byte(pattern) {
			if strings.IndexByte("*+-?", c) >= 0 {
				repetitions++
				ways *= (n + float64(repetitions)) / float64(repetitions)
			}
		}
		if strings.Contains(pattern, "%b") || strings.ContainsAny(pattern, "0123456789") {
			ways *= n
		}
	}
	if ways = n + ways/16 + float64(len(pattern)); ways > budget/2 {
		r.refuse(L, "this pattern may take too long on a text of %d bytes", len(text))
	}
	r.spend(L, int(ways))
}

// matchesNothing refuses a pattern that matches the empty text, for functions that search again and again. Since Lua 5.4 it does not
// match at the end of another match, but in gopher-lua it does.
func (r *reading) matchesNothing(L *lua.LState) {
	pattern := L.CheckString(2)
	if found, err := pm.Find(pattern, nil, 0, 1); err == nil && len(found) > 0 && !strings.HasPrefix(pattern, "^") {
		r.refuse(L, "this pattern also matches nothing at all, and there usher differs from Prosody's Lua: write + instead of *")
	}
}

func (r *reading) gsub(L *lua.LState, gsub lua.LGFunction) int {
	text := L.CheckString(1)
	r.pattern(L, false)
	r.spend(L, len(text)*len(text)/1024) // it copies the whole text at each replacement
	replacement := L.Get(3)
	if replacement != lua.LString("") {
		r.matchesNothing(L)
	}
	switch with := replacement.(type) {
	case lua.LString:
		size := (len(text) + 1) * (len(with) + strings.Count(string(with), "%")*len(text))
		if size > 64*maxText {
			r.refuse(L, "this replacement may make a text longer than %d bytes", maxText)
		}
		r.spend(L, size/64)
	case *lua.LTable, *lua.LFunction:
		L.Replace(3, r.counted(L, with))
	}
	n := gsub(L)
	if s, ok := L.Get(-2).(lua.LString); ok && n == 2 {
		r.spendText(L, len(s))
	}
	return n
}

// counted returns a function for gsub that gives the replacements of a table or function, and pays for them.
func (r *reading) counted(L *lua.LState, with lua.LValue) *lua.LFunction {
	total := 0
	return L.NewFunction(func(L *lua.LState) int {
		if t, ok := with.(*lua.LTable); ok {
			L.SetTop(1)
			L.Push(t.RawGet(L.Get(1)))
		} else {
			L.Insert(with, 1)
			L.Call(L.GetTop()-1, 1)
		}
		if s, ok := L.Get(-1).(lua.LString); ok {
			if total += len(s); total > 2*maxText {
				r.spendText(L, total)
			}
			r.spend(L, len(s)/64)
		}
		return 1
	})
}

var directive = regexp.MustCompile(`%(?:%|[-+ #0]*[0-9]{0,2}(?:\.[0-9]{0,2})?([a-zA-Z]))`)

func (r *reading) format(L *lua.LState) int {
	layout := L.CheckString(1)
	var args []any
	size := len(layout)
	layout = directive.ReplaceAllStringFunc(layout, func(d string) string {
		kind := d[len(d)-1]
		if kind == '%' {
			return d
		}
		if len(args)+2 > L.GetTop() {
			r.raise(L, "string.format has no value for %s", d)
		}
		v := L.Get(len(args) + 2)
		size += 100
		switch kind {
		case 's', 'q':
			text := toText(v)
			size += 2 * len(text)
			args = append(args, text)
		case 'd', 'i', 'u', 'c', 'x', 'X', 'o':
			args = append(args, int64(L.CheckNumber(len(args)+2)))
			if kind == 'i' || kind == 'u' {
				d = d[:len(d)-1] + "d"
			}
		case 'e', 'E', 'f', 'g', 'G':
			size += 400
			args = append(args, float64(L.CheckNumber(len(args)+2)))
		default:
			r.raise(L, "string.format does not know %s", d)
		}
		if size > 4*maxText {
			r.spendText(L, size)
		}
		return d
	})
	if strings.Contains(directive.ReplaceAllString(layout, ""), "%") {
		r.raise(L, "string.format does not understand this format: write %%%% for a plain %%")
	}
	r.spend(L, size/64)
	return r.text(L, fmt.Sprintf(layout, args...))
}
