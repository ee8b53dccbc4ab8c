package auth_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth"
)

// Every constant of type Reason has one row, and every row says all that it must.
func TestReasons(t *testing.T) {
	rows := map[auth.Reason]auth.ReasonRow{}
	for _, row := range auth.Reasons {
		if _, twice := rows[row.Reason]; twice {
			t.Errorf("%s stands twice", row.Reason)
		}
		rows[row.Reason] = row
		if row.Doc == "" || row.Text == "" || row.Class == "" {
			t.Errorf("%s: no doc, text or class", row.Reason)
		}
		if (row.Do == "") != (row.Verdict == auth.Allow) {
			t.Errorf("%s: what the operator does about it: %q", row.Reason, row.Do)
		}
		if row.Reason.Row() != row || row.Reason.Text() != row.Text || row.Reason.Doc() != row.Doc {
			t.Errorf("%s: found another row", row.Reason)
		}
	}
	for _, r := range reasonConstants(t) {
		if _, ok := rows[r]; !ok {
			t.Errorf("%s has no row in the table of reasons", r)
		}
		delete(rows, r)
	}
	for r := range rows {
		t.Errorf("%s is in the table and is no constant", r)
	}
	if row := auth.Reason("made-up").Row(); row.Outcome != auth.Refused || row.Verdict != auth.Deny || row.Text == "" {
		t.Errorf("a reason that is not in the list: %+v", row)
	}
}

// reasonConstants reads the constants of type Reason from the source.
func reasonConstants(t *testing.T) []auth.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []auth.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, auth.Reason(value))
		}
		return true
	})
	return reasons
}

// An outcome follows from the reason, but only the verdict opens the door, and no login is promised where there is none.
func TestOutcome(t *testing.T) {
	for _, row := range auth.Reasons {
		d := auth.Decision{Verdict: row.Verdict, Reason: row.Reason}
		if d.Outcome() != row.Outcome || (row.Outcome == auth.Joins) != (row.Verdict == auth.Allow) {
			t.Errorf("%s: %d", row.Reason, d.Outcome())
		}
		for _, v := range []auth.Verdict{auth.Deny, auth.Wait, auth.Verdict(7)} {
			if d.Verdict = v; d.Outcome() == auth.Joins {
				t.Errorf("%s, %s: the client joins", row.Reason, v)
			}
		}
		d.NoLogin = true
		if d.Outcome() == auth.NeedsLogin {
			t.Errorf("%s: a login is offered, and there is none", row.Reason)
		}
	}
	if d := (auth.Decision{}); d.Outcome() != auth.Refused {
		t.Error("the zero decision does not refuse")
	}
}
