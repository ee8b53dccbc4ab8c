package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// browser is Chromium, driven through testdata/node/browse.mjs.
type browser struct {
	t       *testing.T
	in      io.Writer
	answers *bufio.Scanner
}

type look struct {
	Scheme string `json:"scheme,omitempty"` // light or dark
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	Motion string `json:"motion,omitempty"` // "reduce"
}

const node = "../../../testdata/node"

// browse opens a page in a browser of its own.
func browse(t *testing.T, url string, l look) *browser {
	t.Helper()
	deploytest.Need(t, "chromium", "node")
	if _, err := os.Stat(filepath.Join(node, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	options, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	cmd := exec.CommandContext(ctx, "node", "browse.mjs", string(options))
	cmd.Dir, cmd.Stderr = node, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, in: in, answers: bufio.NewScanner(out)}
	b.answers.Buffer(nil, 1<<20)
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		cancel()
	})
	b.do("open", "url", url)
	return b
}

// do gives a command with its arguments, name by name, and returns the answer.
func (b *browser) do(command string, arguments ...any) any {
	b.t.Helper()
	line := map[string]any{"do": command}
	for n := 0; n < len(arguments); n += 2 {
		line[arguments[n].(string)] = arguments[n+1]
	}
	text, err := json.Marshal(line)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, '\n')); err != nil {
		b.t.Fatal(err)
	}
	if !b.answers.Scan() {
		b.t.Fatalf("%s: the browser has ended: %v", text, b.answers.Err())
	}
	var answer struct {
		Value any
		Error string
	}
	if err := json.Unmarshal(b.answers.Bytes(), &answer); err != nil {
		b.t.Fatal(err)
	}
	if answer.Error != "" {
		b.t.Fatalf("%s: %s", text, answer.Error)
	}
	return answer.Value
}

// see waits for an element with a text.
func (b *browser) see(css, text string) string {
	b.t.Helper()
	return b.do("see", "css", css, "text", text).(string)
}

func (b *browser) count(css string) int {
	b.t.Helper()
	return int(b.do("count", "css", css).(float64))
}

// run runs a script in the page and returns its value.
func (b *browser) run(script string) any {
	b.t.Helper()
	return b.do("run", "script", script)
}

// shot takes a picture for people to look at: bin/screenshots/<name>.png.
func (b *browser) shot(name string) {
	b.t.Helper()
	folder, err := filepath.Abs("../../../bin/screenshots")
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.do("shot", "file", filepath.Join(folder, name+".png"))
}

// quiet fails the test if the page has complained.
func (b *browser) quiet() {
	b.t.Helper()
	for _, line := range b.do("log").([]any) {
		if !strings.Contains(line.(string), "Failed to load resource") && !strings.Contains(line.(string), "ERR_") { // while usher is away
			b.t.Error(line)
		}
	}
}
