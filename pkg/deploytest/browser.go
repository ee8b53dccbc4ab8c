package deploytest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Browser is Debian's Chromium with one page, driven through testdata/node/browse.mjs. It belongs to one goroutine.
type Browser struct {
	t       testing.TB
	in      io.Writer
	answers *bufio.Scanner
}

// BrowserOptions say how the page is looked at. The zero value is a window of 1280 by 900 pixels, light, in English.
type BrowserOptions struct {
	Scheme string `json:"scheme,omitempty"` // light or dark
	Width  int    `json:"width,omitempty"`  // pixels
	Height int    `json:"height,omitempty"`
	Motion string `json:"motion,omitempty"` // "reduce": the person wants nothing to move
	Locale string `json:"locale,omitempty"` // the person's language, as in de-DE

	NoScript bool `json:"noScript,omitempty"` // pages run no script
}

// browserWithin is how long a browser may be open. It waits for less than that for what a test wants to see.
const browserWithin = 5 * time.Minute

// Browse opens a page in a browser of its own, which ends with the test. Like [Need], it skips the test where DEPLOYTEST is not 1.
func Browse(t testing.TB, url string, o BrowserOptions) *Browser {
	t.Helper()
	Need(t, "chromium", "node")
	node := filepath.Join(root(), "testdata", "node")
	if _, err := os.Stat(filepath.Join(node, "node_modules", "playwright-core")); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserWithin)
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
	b := &Browser{t: t, in: in, answers: bufio.NewScanner(out)}
	b.answers.Buffer(nil, 4<<20)
	t.Cleanup(func() {
		in.Close() // it ends with its input
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		cancel()
	})
	b.Do("open", "url", url)
	return b
}

// root is the folder of the module. Tests may have changed to another one.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Do gives a command of browse.mjs with its arguments, name by name, and returns the answer. It fails the test if there is none.
func (b *Browser) Do(command string, arguments ...any) any {
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

// See waits until an element shows a text, and returns the whole text of the element. The empty text is any.
func (b *Browser) See(css, text string) string {
	b.t.Helper()
	return b.Do("see", "css", css, "text", text).(string)
}

// Gone waits until no element shows a text.
func (b *Browser) Gone(css, text string) {
	b.t.Helper()
	b.Do("gone", "css", css, "text", text)
}

// Click clicks on the first such element.
func (b *Browser) Click(css string) {
	b.t.Helper()
	b.Do("click", "css", css)
}

// Press presses keys, one after the other, by the names of KeyboardEvent.key.
func (b *Browser) Press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.Do("press", "key", key)
	}
}

// Count returns how many such elements show.
func (b *Browser) Count(css string) int {
	b.t.Helper()
	return int(b.Do("count", "css", css).(float64))
}

// Run runs an expression of JavaScript in the page, and returns its value as encoding/json decodes it.
func (b *Browser) Run(script string) any {
	b.t.Helper()
	return b.Do("run", "script", script)
}

// Shot takes a picture of what shows, for people to look at: bin/screenshots/<name>.png.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	folder := filepath.Join(root(), "bin", "screenshots")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.Do("shot", "file", filepath.Join(folder, name+".png"))
}

// Complaints returns what the page has complained about: errors of its script, what its policy has refused, and everything that it
// wanted from another machine. Requests that could not be made are none: the server may be gone on purpose.
func (b *Browser) Complaints() (all []string) {
	b.t.Helper()
	for _, line := range b.Do("log").([]any) {
		all = append(all, line.(string))
	}
	return all
}
