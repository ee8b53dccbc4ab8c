package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// .ci/test runs a failed test again only in CI, and only where a second run can say anything.
func TestFailedTestsRunAgain(t *testing.T) {
	t.Parallel()
	const fails = "--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\nFAIL\nFAIL\texample.com/a\t0.1s\nok  \texample.com/b\t0.1s\nFAIL\n"
	for _, test := range []struct {
		name, ci     string
		first, again string
		ok           bool
	}{
		{"passes", "true", "", "not run", true},
		{"passes the second time", "true", fails, "", true},
		{"fails twice", "true", fails, "--- FAIL: TestA (0.00s)\nFAIL\nFAIL\texample.com/a\t0.1s\n", false},
		{"outside CI", "", fails, "", false},
		{"race", "true", "WARNING: DATA RACE\n" + fails, "", false},
		{"panic", "true", "panic: nil map\n" + fails, "", false},
		{"leak", "true", "goleak: Errors on successful test run: found unexpected goroutines:\nFAIL\texample.com/c\t0.1s\n" + fails, "", false},
		{"build", "true", "FAIL\texample.com/c [build failed]\nFAIL\n" + fails, "", false},
		{"crash of the race detector", "true", "ThreadSanitizer: CHECK failed: tsan_rtl.cpp:282\nFAIL\texample.com/a\t5.0s\n", "", true},
		{"many", "true", strings.Repeat(fails, 4), "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("first", test.first)
			write("again", test.again)
			// What stands for go fails if it has something to print.
			write("go", "cd "+dir+"\ncase \"$*\" in\n"+
				"'test -race ./...') cat first; test ! -s first ;;\n"+
				"'test -race -run ^TestA$ example.com/a' | 'test -race -run ^.*$ example.com/a') cat again; test ! -s again ;;\n"+
				"*) echo \"asked for $*\"; exit 9 ;;\nesac\n")
			cmd := exec.CommandContext(t.Context(), "../../.ci/test", filepath.Join(dir, "log"), "-race", "./...")
			cmd.Env = append(os.Environ(), "CI="+test.ci, "GO=sh "+filepath.Join(dir, "go"))
			out, err := cmd.CombinedOutput()
			if ok := err == nil; ok != test.ok {
				t.Errorf("passes: %t, and printed:\n%s", ok, out)
			}
			if test.first != "" && test.ok != strings.Contains(string(out), "passed when run again") {
				t.Errorf("printed:\n%s", out)
			}
		})
	}
}
