package prosody

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

const (
	maxTokens   = 300_000
	maxNesting  = 200 // of brackets, blocks and expressions
	maxOperands = 100 // of one chain of ..
)

// TypographicQuotes are the quotes that word processors and web pages write instead of " and '.
const TypographicQuotes = doubleQuotes + singleQuotes

const (
	doubleQuotes = "“”„‟«»″＂"
	singleQuotes = "‘’‚‛‹›′＇´"
)

// source is a file's text with its tokens.
type source struct {
	name   string
	text   string
	lines  []int // offsets
	tokens []token
}

type token struct {
	ast.Token
	raw   string
	after ast.Position // the scanner's
	space bool         // there is some before it
}

func (t token) String() string {
	if t.Type == parse.TString {
		return "a string" // its text may be a secret
	}
	return t.raw
}

func (t token) name() bool { return t.Type == parse.TIdent }

func (t token) startsValue() bool {
	return t.name() || t.Type == parse.TString || t.Type == parse.TNumber ||
		slices.Contains([]string{"{", "true", "false", "nil", "function", "not"}, t.raw)
}

func (t token) endsValue() bool {
	return t.name() || t.Type == parse.TString || t.Type == parse.TNumber ||
		slices.Contains([]string{"}", ")", "]", "true", "false", "nil", "..."}, t.raw)
}

// compile makes a program of a file's text. gopher-lua's scanner reads the text before its parser. So usher can describe common mistakes
// in words, and does not read in gopher-lua's way what newer Lua understands differently.
func compile(text, name string) (proto *lua.FunctionProto, problem *Problem) {
	// To Lua each of these is one end of a line (llex.c, inclinenumber).
	s := source{name: name, text: strings.NewReplacer("\r\n", "\n", "\n\r", "\n", "\r", "\n").Replace(text), lines: []int{0, 0}}
	for i, c := range []byte(s.text) {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			if p, ok := v.(Problem); ok {
				problem = &p
			} else {
				problem = &Problem{At: Position{File: name}, Text: "usher cannot read this file as Lua"}
			}
		}
	}()
	s.scan()
	stmts, err := parse.Parse(strings.NewReader(s.text), name)
	var syntax *parse.Error
	switch {
	case errors.As(err, &syntax):
		s.explain(syntax)
	case err != nil || stmts == nil:
		s.fail(0, "usher cannot read this file as Lua")
	}
	s.rewrite(reflect.ValueOf(stmts), 0)
	if proto, err = lua.Compile(stmts, name); err != nil {
		line := 0
		var reason *lua.CompileError
		if errors.As(err, &reason) {
			line, err = reason.Line, errors.New(reason.Message)
		}
		s.fail(line, "usher cannot evaluate this (%v)", err)
	}
	return proto, nil
}

// fail panics with a Problem, for compile.
func (s *source) fail(line int, format string, args ...any) {
	panic(Problem{At: Position{File: s.name, Line: line}, Text: fmt.Sprintf(format, args...)})
}

func (s *source) offset(p ast.Position) int {
	if p.Line < 0 || p.Line >= len(s.lines) {
		return len(s.text)
	}
	return min(s.lines[p.Line]+p.Column, len(s.text))
}

// scan cuts the text into tokens.
func (s *source) scan() {
	if strings.HasPrefix(s.text, "\ufeff") { // Lua skips it in files, but Prosody passes a text (lauxlib.c, skipcomment)
		s.fail(1, "the file begins with a byte order mark, on which Prosody stops: save it as UTF-8 without BOM")
	}
	var open brackets
	scanner, lexer, last := parse.NewScanner(strings.NewReader(s.text), s.name), new(parse.Lexer), 0
	for {
		t, err := scanner.Scan(lexer)
		start := max(s.offset(t.Pos)-1, 0)
		if err != nil {
			s.explainToken(t, s.text[min(start, len(s.text)):])
		}
		if t.Type == parse.EOF {
			break
		}
		next := token{Token: t, after: scanner.Pos, space: start > last || len(s.tokens) == 0}
		last = s.offset(scanner.Pos)
		next.raw = s.text[start:last]
		if len(s.tokens) >= maxTokens {
			s.fail(t.Pos.Line, "the file is too large")
		}
		s.check(next)
		open.follow(s, next)
		s.tokens = append(s.tokens, next)
	}
	if len(open) > 0 {
		o := open[len(open)-1]
		s.fail(o.Pos.Line, "the %s in this line is never closed: a %s is missing", o.raw, closing[o.raw])
	}
}

// check refuses texts and numbers that are none of Lua 5.4's. The token is the next one.
func (s *source) check(next token) {
	before := s.before(len(s.tokens))
	switch {
	case next.Type == parse.TString && next.raw[0] != '[':
		s.escapes(next)
	case next.Type == parse.TNumber:
		_, asFloat := strconv.ParseFloat(next.raw, 64)
		_, asInt := strconv.ParseUint(next.raw, 0, 53)
		if asFloat != nil && asInt != nil {
			s.fail(next.Pos.Line, "%s is no number; a text needs quotes around it", next.raw)
		}
	case next.Type == parse.TIdent && !next.space && before.Type == parse.TNumber:
		s.fail(next.Pos.Line, "%s%s is no number; a text needs quotes around it", before.raw, next.raw)
	}
}

// brackets are those that are open, the innermost last.
type brackets []token

// follow opens or closes a bracket, if the token is one.
func (open *brackets) follow(s *source, next token) {
	all, line := *open, next.Pos.Line
	switch next.raw {
	case "(", "[", "{":
		if all = append(all, next); len(all) > maxNesting {
			s.fail(line, "brackets nest deeper than %d here", maxNesting)
		}
	case ")", "]", "}":
		if len(all) == 0 {
			s.fail(line, "this %s closes nothing: remove it, or open it before", next.raw)
		}
		o := all[len(all)-1]
		if all = all[:len(all)-1]; closing[o.raw] != next.raw {
			s.fail(line, "%s here cannot close the %s of line %d: a %s is missing before it", next.raw, o.raw, o.Pos.Line, closing[o.raw])
		}
	}
	*open = all
}

var closing = map[string]string{"(": ")", "[": "]", "{": "}"}

// before returns the token before the i-th, or a semicolon at the beginning.
func (s *source) before(i int) token {
	if i == 0 {
		return token{raw: ";"}
	}
	return s.tokens[i-1]
}

// escapes refuses escapes that gopher-lua reads differently from Lua 5.4.
func (s *source) escapes(t token) {
	line := t.Pos.Line
	for rest := t.raw; ; {
		i := strings.IndexByte(rest, '\\')
		if i < 0 {
			return
		}
		line += strings.Count(rest[:i], "\n")
		c := rest[i+1]
		switch {
		case strings.IndexByte("xuz", c) >= 0:
			s.fail(line, `\%c in a string is newer Lua than usher evaluates: write the character itself`, c)
		case '0' <= c && c <= '9':
			digits := rest[i+1 : min(i+4, len(rest))]
			if n, err := strconv.Atoi(digits); err == nil && n > 255 {
				s.fail(line, `\%s in this string is no byte: write at most \255`, digits)
			}
		case strings.IndexByte("abfnrtv\\\"'\n", c) < 0:
			s.fail(line, `\ in a string needs one of the letters that Lua knows after it: for a single \, write \\`)
		}
		if c == '\n' {
			line++
		}
		rest = rest[i+2:]
	}
}

// explainToken says why the scanner stopped at a token.
func (s *source) explainToken(t ast.Token, rest string) {
	line := t.Pos.Line
	if line < 0 {
		line = len(s.lines) - 1
	}
	r, _ := utf8.DecodeRuneInString(rest)
	switch {
	case t.Type == parse.TString && r == '[', r == '-':
		s.fail(line, "the long string or comment that begins here is never closed: as many = between ]] are missing as between [[")
	case t.Type == parse.TString:
		s.fail(line, "a %c is missing: the string in this line has no end", r)
	case t.Type == parse.TNumber:
		s.fail(line, "this is no number; a text needs quotes around it")
	case strings.ContainsRune(doubleQuotes, r):
		s.fail(line, "the quote %c is typographic, as word processors and web pages write it: type \" instead", r)
	case strings.ContainsRune(singleQuotes+"`", r):
		s.fail(line, "the quote %c is none of Lua's: type \" or ' instead", r)
	case strings.ContainsRune("–—‒―−‐‑", r):
		s.fail(line, "the dash %c is typographic, as word processors and web pages write it: type - instead, and -- for a comment", r)
	case r == utf8.RuneError:
		s.fail(line, "there is a byte that is no UTF-8: save the file as UTF-8")
	case r > 127 && unicode.IsSpace(r) || unicode.Is(unicode.Cf, r):
		s.fail(line, "there is an invisible character (U+%04X, perhaps copied from a web page): type a plain space in its place", r)
	case r == '!' && strings.HasPrefix(rest, "!="):
		s.fail(line, "!= is no operator of Lua: write ~=")
	case r == '!':
		s.fail(line, "! is no operator of Lua: write not")
	case strings.HasPrefix(rest, "&&"), strings.HasPrefix(rest, "||"):
		s.fail(line, "%s is no operator of Lua: write and, or", rest[:2])
	case r == '&', r == '|', r == '~':
		s.fail(line, "%c is an operator of newer Lua than usher evaluates: write the value itself", r)
	case !unicode.IsPrint(r):
		s.fail(line, "there is a control character (U+%04X): remove it", r)
	}
	s.fail(line, "%c (U+%04X) cannot stand here: a text needs quotes around it, a comment -- before it", r, r)
}

// explain describes a syntax error in words. The parser stops at the first token that it cannot use.
func (s *source) explain(syntax *parse.Error) {
	i := slices.IndexFunc(s.tokens, func(t token) bool { return t.after == syntax.Pos })
	switch {
	case strings.HasPrefix(syntax.Message, "ambiguous"):
		s.fail(syntax.Pos.Line, "a ( at the beginning of a line after a call: put a ; before it, or move it to the line before")
	case syntax.Pos.Line == parse.EOF:
		if block := s.openBlock(); block.Pos.Line > 0 {
			s.fail(block.Pos.Line, "the %s in this line is never closed: an end is missing", block.raw)
		}
		last := s.before(len(s.tokens))
		s.fail(last.Pos.Line, "the file ends where more is expected, after %s", last)
	case i < 0:
		s.fail(syntax.Pos.Line, "this is not Lua as Prosody reads it")
	}
	t, before, next := s.tokens[i], s.before(i), token{}
	if i+1 < len(s.tokens) {
		next = s.tokens[i+1]
	}
	line, first := t.Pos.Line, before.Pos.Line < t.Pos.Line
	switch {
	case t.raw == "#" && (first || before.endsValue() || before.raw == ";" || before.raw == ","):
		s.fail(line, "a comment begins with -- in Lua, not with #")
	case t.raw == "/" && (next.raw == "/" || next.raw == "*") && !next.space:
		s.fail(line, "a comment begins with -- in Lua, not with /%s", next.raw)
	case t.raw == "/" && before.raw == "/" && s.before(i-1).Pos.Line < before.Pos.Line:
		s.fail(line, "a comment begins with -- in Lua, not with //")
	case t.raw == "/" && before.raw == "/":
		s.fail(line, "// is an operator of newer Lua than usher evaluates; a comment begins with --")
	case t.raw == "<" && before.name() && (next.raw == "const" || next.raw == "close"):
		s.fail(line, "<%s> is newer Lua than usher evaluates: leave it out", next.raw)
	case t.raw == before.raw && (t.raw == "<" || t.raw == ">"):
		s.fail(line, "%s%[1]s is an operator of newer Lua than usher evaluates: write the value itself", t.raw)
	case before.name() && t.raw == "==":
		s.fail(line, "to set an option, write one =, not ==")
	case before.name() && s.before(i-1).raw == ":", before.raw == ":" && !t.name():
		s.fail(before.Pos.Line, "to set an option, write = where the : is")
	case s.inTable(i) && t.startsValue() && before.endsValue() && first:
		s.fail(before.Pos.Line, "a comma is missing at the end of this line")
	case s.inTable(i) && t.startsValue() && before.endsValue():
		s.fail(line, "a comma is missing before %s", t)
	case before.name() && !first && (t.startsValue() || t.raw == "-"):
		s.fail(line, "a = is missing after %s", before)
	case before.name() && first:
		s.fail(before.Pos.Line, "%s stands alone: to set an option, write %[1]s = and a value", before)
	case before.raw == "=", before.raw == ",":
		s.fail(line, "a value is missing before %s", t)
	case i == 0:
		s.fail(line, "the file cannot begin with %s", t)
	}
	s.fail(line, "%s cannot stand after %s", t, before)
}

// inTable reports whether the innermost open bracket before a token is a brace.
func (s *source) inTable(i int) bool {
	var open []string
	for _, t := range s.tokens[:i] {
		switch t.raw {
		case "(", "[", "{":
			open = append(open, t.raw)
		case ")", "]", "}":
			open = open[:len(open)-1]
		}
	}
	return len(open) > 0 && open[len(open)-1] == "{"
}

// openBlock returns the word of the innermost block that is not closed.
func (s *source) openBlock() token {
	var open []token
	for _, t := range s.tokens {
		switch t.raw {
		case "function", "if", "repeat", "do":
			open = append(open, t)
		case "end", "until":
			open = open[:max(len(open)-1, 0)]
		}
	}
	if len(open) == 0 {
		return token{}
	}
	return open[len(open)-1]
}

// rewrite replaces expressions that can make something large in one instruction by calls of our own operators. It refuses trees so deep
// that the compiler, which follows them down, might not return. v is a part of the syntax tree.
func (s *source) rewrite(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			s.rewrite(v.Elem(), depth)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			s.rewrite(v.Field(i), depth)
		}
	case reflect.Slice:
		for i := range v.Len() {
			s.rewrite(v.Index(i), depth)
		}
	case reflect.Interface: // of a statement or an expression
		if v.IsNil() {
			return
		}
		node := v.Interface().(ast.PositionHolder)
		if depth++; depth > maxNesting {
			s.fail(node.Line(), "expressions or blocks nest deeper than %d here: write this in several steps", maxNesting)
		}
		if join, ok := node.(*ast.StringConcatOpExpr); ok {
			v.Set(reflect.ValueOf(s.join(join, depth)))
			return
		}
		s.rewrite(v.Elem(), depth)
		switch expr := node.(type) {
		case *ast.StringExpr:
			if len(expr.Value) > maxText {
				s.fail(expr.Line(), "the string that begins here is longer than %d bytes", maxText)
			}
		case *ast.TableExpr:
			v.Set(reflect.ValueOf(operator("{}", expr, expr)))
		case *ast.UnaryLenOpExpr:
			v.Set(reflect.ValueOf(operator("#", expr, expr.Expr)))
		}
	}
}

// join returns a .. b .. c, which is a .. (b .. c) to the parser, as one call.
func (s *source) join(expr *ast.StringConcatOpExpr, depth int) ast.Expr {
	var operands []ast.Expr
	var names []string
	for rest := ast.Expr(expr); rest != nil; {
		operand := rest
		if both, ok := rest.(*ast.StringConcatOpExpr); ok {
			operand, rest = both.Lhs, both.Rhs
		} else {
			rest = nil
		}
		if len(operands) >= maxOperands {
			s.fail(expr.Line(), "more than %d texts are joined here: join them in several steps", maxOperands)
		}
		operands, names = append(operands, operand), append(names, describe(operand))
	}
	s.rewrite(reflect.ValueOf(operands), depth)
	return operator("..", expr, append([]ast.Expr{&ast.StringExpr{Value: strings.Join(names, "\n")}}, operands...)...)
}

func operator(name string, in ast.Expr, args ...ast.Expr) ast.Expr {
	f := &ast.IdentExpr{Value: name}
	call := &ast.FuncCallExpr{Func: f, Args: args, AdjustRet: true}
	for _, node := range append([]ast.Expr{f, call}, args...) {
		if node.Line() == 0 {
			node.SetLine(in.Line())
			node.SetLastLine(max(in.Line(), in.LastLine()))
		}
	}
	return call
}

// describe names an expression in a message.
func describe(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.IdentExpr:
		return expr.Value
	case *ast.AttrGetExpr:
		if k, ok := expr.Key.(*ast.StringExpr); ok {
			return strings.ReplaceAll(k.Value, "\n", " ")
		}
	case *ast.FuncCallExpr:
		return "the result of a function"
	}
	return "a value"
}
