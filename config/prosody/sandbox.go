package prosody

import (
	"context"
	"errors"
	"math"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// What a configuration may cost, in steps. A deployment of a thousand hosts needs about fifty thousand. A step is one instruction of
// the machine. Functions that do more work cost more steps, so that a step takes no more than about a microsecond and a hundred
// bytes.
const (
	budget    = 2_000_000
	maxText   = 64 << 10
	stepTable = 50
	maxUnpack = 1000
)

func init() {
	// gopher-lua has these for all machines of a process, and only this package uses it. An entry beyond an array's end would fill
	// the array with nil up to there, and the functions below need no long arrays. Prosody's Lua has no table named arg.
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

// spend pays for work beyond one instruction.
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

// denied are the functions of Lua that usher does not offer.
var denied = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(`_G io require dofile load loadfile loadstring debug coroutine package module
		getfenv setfenv getmetatable setmetatable rawget rawset rawequal rawlen collectgarbage xpcall newproxy utf8 bit32 prosody`) {
		names[name] = true
	}
	return names
}()

// library returns one of Lua's own functions or tables, or nil if Lua has none of this name.
func (r *reading) library(L *lua.LState, name string) lua.LValue {
	if denied[name] {
		r.deny(L, name)
	}
	return r.libs.RawGetString(name)
}

func (r *reading) deny(L *lua.LState, name string) {
	r.refuse(L, "%s is not available: usher evaluates the configuration, but lets it touch nothing; write the value itself", name)
}

// open returns a machine that cannot reach anything outside of it.
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
	add(L, r.libs, map[string]lua.LGFunction{
		"ipairs": r.ipairs, "next": r.next, "pairs": r.pairs, "unpack": r.unpack,
		"print":    func(*lua.LState) int { return 0 },
		"tostring": func(L *lua.LState) int { return r.text(L, toText(L.CheckAny(1))) },
	})
	r.libs.RawSetString("table", add(L, L.NewTable(), map[string]lua.LGFunction{
		"concat": r.tableConcat, "insert": r.tableInsert, "remove": r.tableRemove, "sort": r.tableSort, "unpack": r.unpack,
	}))
	r.openOS(L)
	r.openMath(L)
	r.openString(L)
	r.openOperators()
	return L
}

// add adds functions to a table, and returns it.
func add(L *lua.LState, to *lua.LTable, functions map[string]lua.LGFunction) *lua.LTable {
	for name, f := range functions {
		to.RawSetString(name, L.NewFunction(f))
	}
	return to
}

// denyOthers has a library refuse all functions that it does not have.
func (r *reading) denyOthers(L *lua.LState, lib *lua.LTable, name string) {
	meta := L.NewTable()
	meta.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
		r.deny(L, name+"."+toText(L.Get(2)))
		return 0
	}))
	lib.Metatable = meta
}

func (r *reading) openOS(L *lua.LState) {
	os := add(L, L.NewTable(), map[string]lua.LGFunction{
		"getenv": func(L *lua.LState) int { L.Push(r.getenv(L.CheckString(1))); return 1 },
	})
	r.denyOthers(L, os, "os")
	r.libs.RawSetString("os", os)
}

func (r *reading) openMath(L *lua.LState) {
	lib := r.libs.RawGetString(lua.MathLibName).(*lua.LTable)
	for _, name := range []string{"random", "randomseed"} { // a configuration must say the same each time
		lib.RawSetString(name, lua.LNil)
	}
	lib.RawSetString("huge", lua.LNumber(math.Inf(1)))
	r.denyOthers(L, lib, "math")
}
