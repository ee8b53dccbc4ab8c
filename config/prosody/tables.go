package prosody

import (
	"math"
	"slices"
	"sort"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// article returns the type of a value with its article, for a message.
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

// border returns the length of a table: the last entry before a nil.
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

// scan pays for a search through a table. gopher-lua keeps the keys of entries that are gone, at most one for each step so far.
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

// hole returns the place of a nil in a list that goes on after it, or 0.
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
