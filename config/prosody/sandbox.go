package prosody

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/pm"
)

// What a configuration may cost. A deployment of a thousand hosts spends some fifty thousand. A step is an instruction
// of the machine; what does more than an instruction's work costs more steps, so that a step stands for no more than
// about a microsecond and a hundred bytes.
const (
	budget    = 2_000_000
	maxText   = 64 << 10
	stepTable = 50
	maxUnpack = 1000
)

func init() {
	// gopher-lua has these for all machines of a process; this package is the only one to use it. An entry beyond an
	// array's end would fill the array up to it with nil, and the functions below do without long arrays. The table
	// named arg is not in Prosody's Lua.
	lua.MaxArrayIndex = 256
	lua.CompatVarArg = false
}

// meter is the context of the machine, which asks Done before each instruction.
type meter struct{ r *reading }

func (m meter) Deadline() (time.Time, bool) { return time.Time{}, false }
func (m meter) Value(any) any               { return nil }

func (m meter) Err() error {
	if m.r.fatal == nil {
		return nil
	}
	return errors.New(m.r.fatal.Error())
}

func (m meter) Done() <-chan struct{} {
	if m.r.spent++; m.r.spent > budget && m.r.fatal == nil {
		m.r.exhausted()
	}
	return m.r.done
}

var _ context.Context = meter{}

func (r *reading) exhausted() {
	r.stop(Problem{At: r.at(r.machine), Text: "the configuration does not come to an end: usher stopped in this line"})
}

// spend pays for work that is more than an instruction's.
func (r *reading) spend(L *lua.LState, steps int) {
	if r.spent += steps; steps < 0 || r.spent > budget {
		r.exhausted()
	}
	if r.fatal != nil {
		L.Error(lua.LString(r.fatal.Error()), 0)
	}
}

// spendText pays for a text before it is made.
func (r *reading) spendText(L *lua.LState, size int) {
	if size < 0 || size > maxText {
		r.refuse(L, "a text longer than %d bytes is made in this line", maxText)
	}
	r.spend(L, 1+size/64)
}

func (r *reading) text(L *lua.LState, text string) int {
	r.spendText(L, len(text))
	L.Push(lua.LString(text))
	return 1
}

// denied are the functions of Lua that usher has not.
var denied = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(`_G io require dofile load loadfile loadstring debug coroutine package module
		getfenv setfenv getmetatable setmetatable rawget rawset rawequal rawlen collectgarbage xpcall newproxy utf8 bit32 prosody`) {
		names[name] = true
	}
	return names
}()

// library is one of Lua's own functions or tables, or nil if Lua has none of this name.
func (r *reading) library(L *lua.LState, name string) lua.LValue {
	if denied[name] {
		r.deny(L, name)
	}
	return r.libs.RawGetString(name)
}

func (r *reading) deny(L *lua.LState, name string) {
	r.refuse(L, "%s is not at hand: usher evaluates the configuration, but lets it touch nothing; write the value itself", name)
}

// open is a machine without anything that reaches out of it.
func (r *reading) open() *lua.LState {
	L := lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: 160, RegistrySize: 32 << 10})
	r.machine, r.done = L, make(chan struct{})
	L.SetContext(meter{r})
	for name, open := range map[string]lua.LGFunction{"": lua.OpenBase, lua.StringLibName: lua.OpenString, lua.MathLibName: lua.OpenMath} {
		L.Push(L.NewFunction(open))
		L.Push(lua.LString(name))
		L.Call(1, 0)
	}
	all := L.Get(lua.GlobalsIndex).(*lua.LTable)
	r.libs = L.NewTable()
	for _, name := range []string{"assert", "error", "pcall", "select", "tonumber", "type", lua.StringLibName, lua.MathLibName} {
		r.libs.RawSetString(name, all.RawGetString(name))
	}
	r.libs.RawSetString("_VERSION", lua.LString("Lua 5.4"))
	add := func(to *lua.LTable, functions map[string]lua.LGFunction) *lua.LTable {
		for name, f := range functions {
			to.RawSetString(name, L.NewFunction(f))
		}
		return to
	}
	add(r.libs, map[string]lua.LGFunction{
		"ipairs": r.ipairs, "next": r.next, "pairs": r.pairs, "unpack": r.unpack,
		"print":    func(*lua.LState) int { return 0 },
		"tostring": func(L *lua.LState) int { return r.text(L, toText(L.CheckAny(1))) },
	})
	r.libs.RawSetString("table", add(L.NewTable(), map[string]lua.LGFunction{
		"concat": r.tableConcat, "insert": r.tableInsert, "remove": r.tableRemove, "sort": r.tableSort, "unpack": r.unpack,
	}))
	outside := func(lib string) *lua.LTable {
		meta := L.NewTable()
		meta.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
			r.deny(L, lib+"."+toText(L.Get(2)))
			return 0
		}))
		return meta
	}
	os := add(L.NewTable(), map[string]lua.LGFunction{
		"getenv": func(L *lua.LState) int { L.Push(r.getenv(L.CheckString(1))); return 1 },
	})
	os.Metatable = outside("os")
	r.libs.RawSetString("os", os)
	mathLib := r.libs.RawGetString(lua.MathLibName).(*lua.LTable)
	for _, name := range []string{"random", "randomseed"} { // a configuration says the same each time it is read
		mathLib.RawSetString(name, lua.LNil)
	}
	mathLib.RawSetString("huge", lua.LNumber(math.Inf(1)))
	mathLib.Metatable = outside("math")
	str := r.libs.RawGetString(lua.StringLibName).(*lua.LTable)
	// Letters beyond ASCII have no case in Prosody's Lua, but in gopher-lua they have.
	add(str, map[string]lua.LGFunction{
		"upper": func(L *lua.LState) int { return r.text(L, changeCase(L.CheckString(1), 'a')) },
		"char": func(L *lua.LState) int {
			text := make([]byte, L.GetTop())
			for i := range text {
				c := L.CheckInt(i + 1)
				if c != int(byte(c)) {
					r.raise(L, "%d is no byte, as string.char needs them", c)
				}
				text[i] = byte(c)
			}
			return r.text(L, string(text))
		},
		"lower": func(L *lua.LState) int { return r.text(L, changeCase(L.CheckString(1), 'A')) },
	})
	for _, name := range []string{"byte", "reverse"} {
		whole := str.RawGetString(name).(*lua.LFunction).GFunction
		str.RawSetString(name, L.NewFunction(func(L *lua.LState) int {
			if text, ok := L.Get(1).(lua.LString); ok {
				r.spendText(L, len(text))
			}
			return whole(L)
		}))
	}
	for _, name := range []string{"dump", "gfind"} {
		str.RawSetString(name, lua.LNil)
	}
	patterns := map[string]lua.LGFunction{}
	for _, name := range []string{"find", "match", "gmatch", "gsub"} {
		patterns[name] = str.RawGetString(name).(*lua.LFunction).GFunction
	}
	gmatch := str.RawGetString("gmatch").(*lua.LFunction)
	add(str, map[string]lua.LGFunction{
		"find":  func(L *lua.LState) int { r.pattern(L, lua.LVAsBool(L.Get(4))); return patterns["find"](L) },
		"match": func(L *lua.LState) int { r.pattern(L, false); return patterns["match"](L) },
		"gmatch": func(L *lua.LState) int {
			r.pattern(L, false)
			r.matchesNothing(L)
			args := []lua.LValue{gmatch, L.Get(1), L.Get(2)}
			L.SetTop(0)
			for _, arg := range args {
				L.Push(arg)
			}
			L.Call(2, lua.MultRet)
			return L.GetTop()
		},
		"gsub":   func(L *lua.LState) int { return r.gsub(L, patterns["gsub"]) },
		"format": r.format,
		"rep": func(L *lua.LState) int {
			text, n, sep := L.CheckString(1), L.CheckInt(2), L.OptString(3, "")
			if n <= 0 {
				return r.text(L, "")
			}
			if n > maxText+1 || (len(text)+len(sep))*n > 2*maxText {
				r.spendText(L, maxText+1)
			}
			return r.text(L, strings.TrimSuffix(strings.Repeat(text+sep, n), sep))
		},
	})
	// What the compiler makes of {…}, #x and x .. y; no program can write these names.
	r.operators = map[string]lua.LGFunction{
		"{}": func(L *lua.LState) int { r.spend(L, stepTable); L.SetTop(1); return 1 },
		"#": func(L *lua.LState) int {
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
		},
		"..": func(L *lua.LState) int {
			names := strings.Split(L.CheckString(1), "\n")
			parts, size := make([]string, 0, len(names)), 0
			for i, name := range names {
				v := L.Get(i + 2)
				if v.Type() != lua.LTString && v.Type() != lua.LTNumber {
					r.raise(L, "%s is %s here, where .. needs a text", name, article(v))
				}
				parts = append(parts, v.String())
				size += len(parts[i])
			}
			r.spendText(L, size)
			return r.text(L, strings.Join(parts, ""))
		},
	}
	return L
}

// changeCase gives the letters from first on, of which there are 26, the other case.
func changeCase(text string, first byte) string {
	changed := []byte(text)
	for i, c := range changed {
		if c-first < 26 {
			changed[i] ^= 'a' ^ 'A'
		}
	}
	return string(changed)
}

func article(v lua.LValue) string {
	if v == lua.LNil {
		return "nil"
	}
	return "a " + v.Type().String()
}

// toText is Lua's tostring, without addresses in memory.
func toText(v lua.LValue) string {
	switch v.Type() {
	case lua.LTTable, lua.LTFunction, lua.LTUserData:
		return v.Type().String()
	}
	return v.String()
}

// border is the length of a table: the last entry before a nil.
func border(t *lua.LTable) int {
	n := t.Len()
	if n < lua.MaxArrayIndex-1 {
		return n
	}
	return n + sort.Search(budget, func(i int) bool { return t.RawGet(lua.LNumber(n+i+1)) == lua.LNil })
}

func (r *reading) ipairs(L *lua.LState) int {
	t, i := L.CheckTable(1), 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		i++
		v := t.RawGet(lua.LNumber(i))
		if v == lua.LNil {
			return 0
		}
		L.Push(lua.LNumber(i))
		L.Push(v)
		return 2
	}))
	r.spend(L, 10)
	return 1
}

// scan pays for a search through a table, in which gopher-lua keeps the keys of entries that are gone: no more of them
// than steps were spent.
func (r *reading) scan(L *lua.LState) { r.spend(L, 1+r.spent/256) }

func (r *reading) next(L *lua.LState) int {
	t := L.CheckTable(1)
	r.scan(L)
	k, v := t.Next(L.Get(2))
	L.Push(k)
	L.Push(v)
	return 2
}

func (r *reading) pairs(L *lua.LState) int {
	t := L.CheckTable(1)
	keys := r.keys(L, t)
	L.Push(L.NewFunction(func(L *lua.LState) int {
		for len(keys) > 0 {
			k := keys[0]
			keys = keys[1:]
			if v := t.RawGet(k); v != lua.LNil {
				L.Push(k)
				L.Push(v)
				return 2
			}
		}
		return 0
	}))
	return 1
}

func (r *reading) unpack(L *lua.LState) int {
	t := L.CheckTable(1)
	from := L.OptInt(2, 1)
	to := L.OptInt(3, border(t))
	if from > to {
		return 0
	}
	if to-from < 0 || to-from >= maxUnpack {
		r.raise(L, "unpack gives more than %d values here", maxUnpack)
	}
	r.spend(L, to-from+1)
	for i := from; i <= to; i++ {
		L.Push(t.RawGet(lua.LNumber(i)))
	}
	return to - from + 1
}

func (r *reading) tableConcat(L *lua.LState) int {
	t, sep := L.CheckTable(1), L.OptString(2, "")
	from, to := L.OptInt(3, 1), L.OptInt(4, border(t))
	var b strings.Builder
	for i := from; i <= to; i++ {
		r.spend(L, 1)
		v := t.RawGet(lua.LNumber(i))
		if v.Type() != lua.LTString && v.Type() != lua.LTNumber {
			r.raise(L, "entry %d is %s, where table.concat needs texts", i, article(v))
		}
		if b.WriteString(v.String()); i < to {
			b.WriteString(sep)
		}
		if b.Len() > maxText {
			r.spendText(L, b.Len())
		}
	}
	return r.text(L, b.String())
}

func (r *reading) tableInsert(L *lua.LState) int {
	t := L.CheckTable(1)
	n := border(t) + 1
	at, v := n, L.Get(2)
	if L.GetTop() > 2 {
		at, v = L.CheckInt(2), L.Get(3)
	}
	if at < 1 || at > n {
		r.raise(L, "table.insert cannot put an entry at %d: the list has %d", at, n-1)
	}
	r.spend(L, 1+(n-at)/8)
	for i := n; i > at; i-- {
		t.RawSet(lua.LNumber(i), t.RawGet(lua.LNumber(i-1)))
	}
	t.RawSet(lua.LNumber(at), v)
	return 0
}

func (r *reading) tableRemove(L *lua.LState) int {
	t := L.CheckTable(1)
	n := border(t)
	at := L.OptInt(2, n)
	if at < 1 || at > n {
		L.Push(lua.LNil)
		return 1
	}
	L.Push(t.RawGet(lua.LNumber(at)))
	r.spend(L, 1+(n-at)/8)
	for i := at; i < n; i++ {
		t.RawSet(lua.LNumber(i), t.RawGet(lua.LNumber(i+1)))
	}
	t.RawSet(lua.LNumber(n), lua.LNil)
	return 1
}

func (r *reading) tableSort(L *lua.LState) int {
	t, before := L.CheckTable(1), L.OptFunction(2, nil)
	values := make([]lua.LValue, border(t))
	r.spend(L, 16*len(values))
	for i := range values {
		values[i] = t.RawGet(lua.LNumber(i + 1))
	}
	slices.SortFunc(values, func(a, b lua.LValue) int {
		less := func(a, b lua.LValue) bool {
			if before == nil {
				return L.LessThan(a, b)
			}
			L.Push(before)
			L.Push(a)
			L.Push(b)
			L.Call(2, 1)
			defer L.Pop(1)
			return lua.LVAsBool(L.Get(-1))
		}
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return 0
	})
	for i, v := range values {
		t.RawSet(lua.LNumber(i+1), v)
	}
	return 0
}

// pattern pays for the worst that matching a pattern can take: each repetition in it may try each length of what is
// left of the text, so there are as many ways as the repetitions can share the text out.
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

// matchesNothing refuses a pattern that matches the empty text where it is searched again and again: since Lua 5.4 that
// does not match at the end of another match, but in gopher-lua it does.
func (r *reading) matchesNothing(L *lua.LState) {
	pattern := L.CheckString(2)
	if found, err := pm.Find(pattern, nil, 0, 1); err == nil && len(found) > 0 && !strings.HasPrefix(pattern, "^") {
		r.refuse(L, "this pattern also matches nothing at all, which usher evaluates otherwise than Prosody's Lua: write + instead of *")
	}
}

func (r *reading) gsub(L *lua.LState, gsub lua.LGFunction) int {
	text := L.CheckString(1)
	r.pattern(L, false)
	r.spend(L, len(text)*len(text)/1024) // it copies the whole text at each replacement
	total := 0
	count := func(v lua.LValue) {
		if s, ok := v.(lua.LString); ok {
			if total += len(s); total > 2*maxText {
				r.spendText(L, total)
			}
			r.spend(L, len(s)/64)
		}
	}
	replacement := L.Get(3)
	if replacement != lua.LString("") {
		r.matchesNothing(L)
	}
	switch with := replacement.(type) {
	case lua.LString:
		if size := (len(text) + 1) * (len(with) + strings.Count(string(with), "%")*len(text)); size > 64*maxText {
			r.refuse(L, "this replacement may make a text longer than %d bytes", maxText)
		} else {
			r.spend(L, size/64)
		}
	case *lua.LTable, *lua.LFunction:
		replacement = L.NewFunction(func(L *lua.LState) int {
			if t, ok := with.(*lua.LTable); ok {
				L.SetTop(1)
				L.Push(t.RawGet(L.Get(1)))
			} else {
				L.Insert(with, 1)
				L.Call(L.GetTop()-1, 1)
			}
			count(L.Get(-1))
			return 1
		})
	}
	L.Replace(3, replacement)
	n := gsub(L)
	if s, ok := L.Get(-2).(lua.LString); ok && n == 2 {
		r.spendText(L, len(s))
	}
	return n
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

// hole is the place of a nil in a list that goes on after it, or 0.
func hole(value lua.LValue) int {
	t, ok := value.(*lua.LTable)
	if !ok || t.RawGetInt(1) == lua.LNil && t.RawGetInt(2) == lua.LNil { // such as one with ports for names
		return 0
	}
	n := 1
	for t.RawGet(lua.LNumber(n)) != lua.LNil {
		n++
	}
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		if i, ok := k.(lua.LNumber); ok && float64(i) > float64(n) && float64(i) == math.Trunc(float64(i)) {
			return n
		}
	}
	return 0
}
