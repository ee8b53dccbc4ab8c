package prosody

import (
	"errors"
	"fmt"

	lua "github.com/yuin/gopher-lua"
)

// listOption returns an option that is a table, as Prosody 13 gives it to the program (config_option_proxy_mt).
func (r *reading) listOption(L *lua.LState, section *Section, name string) lua.LValue {
	r.spend(L, 2*stepTable)
	option, meta := L.NewUserData(), L.NewTable()
	add := func(L *lua.LState) int {
		r.addTo(L, section, name)
		L.Push(option)
		return 1
	}
	methods := map[string]lua.LGFunction{
		"append": add,
		"value":  func(L *lua.LState) int { L.Push(r.tableOf(L, section, name)); return 1 },
		"values": func(L *lua.LState) int { L.Push(r.values(L, r.tableOf(L, section, name))); return 1 },
	}
	meta.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
		method := methods[toText(L.Get(2))]
		if method == nil {
			r.raise(L, "%s is an option, which has only :append, :value and :values: write %[1]s:value()", name)
		}
		L.Push(L.NewFunction(method))
		return 1
	}))
	meta.RawSetString("__call", L.NewFunction(func(L *lua.LState) int {
		if L.Get(2).Type() != lua.LTTable {
			r.raise(L, "a = is missing after %s", name)
		}
		return add(L)
	}))
	option.Metatable = meta
	return option
}

// tableOf returns the table of an option.
func (r *reading) tableOf(L *lua.LState, section *Section, name string) *lua.LTable {
	s := r.settings[section][name]
	if s == nil {
		r.raise(L, "%s is not set any more", name)
	}
	t, ok := s.value.(*lua.LTable)
	if !ok {
		r.raise(L, "%s is no list any more", name)
	}
	return t
}

// addTo adds the second argument, a table, to an option.
func (r *reading) addTo(L *lua.LState, section *Section, name string) {
	more, ok := L.Get(2).(*lua.LTable)
	if !ok {
		r.raise(L, "what is added to %s must be a list in braces, but it is %s", name, article(L.Get(2)))
	}
	t := r.tableOf(L, section, name)
	r.scan(L)
	if more.RawGet(lua.LNumber(1)) != lua.LNil {
		for i, n := 1, border(more); i <= n; i++ {
			r.spend(L, 2)
			t.RawSet(lua.LNumber(border(t)+1), more.RawGet(lua.LNumber(i)))
		}
	} else {
		for k, v := more.Next(lua.LNil); k != lua.LNil; k, v = more.Next(k) {
			r.spend(L, 2)
			t.RawSet(k, v)
		}
	}
	r.set(L, section, name, t)
}

// values returns a function that gives the entries of a table one by one.
func (r *reading) values(L *lua.LState, t *lua.LTable) *lua.LFunction {
	keys := r.keys(L, t)
	return L.NewFunction(func(L *lua.LState) int {
		if len(keys) == 0 {
			return 0
		}
		L.Push(t.RawGet(keys[0]))
		keys = keys[1:]
		return 1
	})
}

// keys returns the keys of a table, in the order in which they were first set.
func (r *reading) keys(L *lua.LState, t *lua.LTable) []lua.LValue {
	r.scan(L)
	var keys []lua.LValue
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		r.spend(L, 1)
		keys = append(keys, k)
	}
	return keys
}

// convert returns the value of an option, as [Option] has it, after the program has ended.
func (r *reading) convert(L *lua.LState, v lua.LValue) (value any, err error) {
	defer func() {
		if recover() != nil { // the budget
			value, err = nil, errors.New("is too large")
		}
	}()
	return r.value(L, v, 0)
}

// value returns a value of the program, which is in so many tables.
func (r *reading) value(L *lua.LState, v lua.LValue, depth int) (any, error) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		if v != v {
			return nil, errors.New("is no number: a division by 0, perhaps")
		}
		return float64(v), nil
	case *lua.LUserData:
		return nil, errors.New("is set to another option, which Prosody refuses: write :value() after that")
	case *lua.LTable:
		if depth >= maxTables {
			return nil, fmt.Errorf("has tables in tables more than %d deep, or one that contains itself", maxTables)
		}
		r.spend(L, 1)
		if v.RawGet(lua.LNumber(1)) != lua.LNil {
			return r.list(L, v, depth)
		}
		return r.entries(L, v, depth)
	}
	return nil, fmt.Errorf("is or contains a %s: write local before a function that only the configuration uses", v.Type())
}

// list returns a table that is a list.
func (r *reading) list(L *lua.LState, t *lua.LTable, depth int) (any, error) {
	list := []any{}
	for i := 1; t.RawGet(lua.LNumber(i)) != lua.LNil; i++ {
		r.spend(L, 1)
		entry, err := r.value(L, t.RawGet(lua.LNumber(i)), depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, entry)
	}
	return list, nil
}

// entries returns a table with names; an empty list if it is empty.
func (r *reading) entries(L *lua.LState, t *lua.LTable, depth int) (any, error) {
	keys := r.keys(L, t)
	if len(keys) == 0 {
		return []any{}, nil
	}
	entries := map[string]any{}
	for _, k := range keys {
		if k.Type() != lua.LTString && k.Type() != lua.LTNumber {
			return nil, fmt.Errorf("has an entry with a name that is a %s", k.Type())
		}
		entry, err := r.value(L, t.RawGet(k), depth+1)
		if err != nil {
			return nil, err
		}
		entries[k.String()] = entry
	}
	return entries, nil
}
