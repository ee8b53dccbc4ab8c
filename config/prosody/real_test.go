package prosody

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// dumpScript loads a configuration with Prosody's own core/configmanager.lua and prints what it holds as JSON.
const dumpScript = `
local source, file = arg[1], arg[2];
package.path = source.."/?.lua;"..package.path;
package.cpath = source.."/?.so;"..package.cpath;
if not pcall(require, "prosody.loader") then pcall(require, "loader"); end
local ok, config = pcall(require, "prosody.core.configmanager");
if not ok then config = require "core.configmanager"; end
if config.set_credentials_directory then
	config.set_credentials_directory(os.getenv("CREDENTIALS_DIRECTORY"));
	config.set_credential_fallback_mode("error");
end
local ok, level, err = config.load(file);
if not ok then io.stderr:write(tostring(err), "\n"); os.exit(3); end
local function quote(s)
	return '"' .. s:gsub('[^%w %.,:;/_-]', function (c) return ("\\u%04x"):format(c:byte()); end) .. '"';
end
local function dump(v)
	local t = type(v);
	if t == "string" then return quote(v); end
	if t == "number" then
		if v == math.huge then return '{"number":"inf"}'; end
		return ("%.17g"):format(v);
	end
	if t == "boolean" then return tostring(v); end
	if t ~= "table" then return '{"unknown":"'..t..'"}'; end
	local out = {};
	if v[1] ~= nil or next(v) == nil then
		for i = 1, #v do out[i] = dump(v[i]); end
		return "["..table.concat(out, ",").."]";
	end
	for k, e in pairs(v) do out[#out+1] = quote(tostring(k))..":"..dump(e); end
	return "{"..table.concat(out, ",").."}";
end
local out = {};
for host, options in pairs(config.getconfig()) do
	local section = {};
	for k, v in pairs(options) do
		if type(k) == "string" then section[#section+1] = quote(k)..":"..dump(v); end
	end
	out[#out+1] = quote(host)..":{"..table.concat(section, ",").."}";
end
print("{"..table.concat(out, ",").."}");
`

// realProsody is a Prosody on this machine.
type realProsody struct {
	lua, source string
	is13        bool
}

func findProsody(t *testing.T) realProsody {
	t.Helper()
	var p realProsody
	p.lua, p.source = prosodytest.Source(t)
	manager, err := os.ReadFile(filepath.Join(p.source, "core", "configmanager.lua"))
	if err != nil {
		t.Fatal(err)
	}
	p.is13 = bytes.Contains(manager, []byte("FileContents"))
	return p
}

// read returns what Prosody makes of the configuration, or an error if Prosody refuses it.
func (p realProsody) read(t *testing.T, file string, env []string) (map[string]map[string]any, error) {
	t.Helper()
	cmd := exec.Command(p.lua, "-", p.source, file)
	cmd.Stdin = strings.NewReader(dumpScript)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if cmd.ProcessState.ExitCode() == 3 {
		return nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var sections map[string]map[string]any
	if err := json.Unmarshal(output, &sections); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return sections, nil
}

// asProsody returns what Read found in Prosody's form, with the options that mark hosts and components.
func asProsody(c *Configuration) map[string]map[string]any {
	plain := func(s *Section) map[string]any {
		options := make(map[string]any)
		for name, o := range s.Options {
			options[name] = latin1(o.Value)
		}
		return options
	}
	sections := map[string]map[string]any{"*": plain(c.Global)}
	for _, s := range c.Hosts {
		options := plain(s)
		if _, ok := options["component_module"]; s.Component && !ok {
			options["component_module"] = s.Module
			if _, ok := options["load_global_modules"]; !ok {
				options["load_global_modules"] = false
			}
		} else {
			options["defined"] = true
		}
		sections[s.Name] = options
	}
	return sections
}

// latin1 turns each byte of texts into a character, as dumpScript does, because texts may be any bytes.
func latin1(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsInf(v, 0) {
			return map[string]any{"number": "inf"} // JSON has no such number
		}
	case string:
		runes := make([]rune, len(v))
		for i := range len(v) {
			runes[i] = rune(v[i])
		}
		return string(runes)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = latin1(v[i])
		}
		return list
	case map[string]any:
		named := make(map[string]any)
		for k, e := range v {
			named[latin1(k).(string)] = latin1(e)
		}
		return named
	}
	return v
}

// TestReadsAsProsodyReads gives the configurations of testdata/real to Prosody and to Read. Each is a txtar-like file:
// "-- name --" begins a file of it, and the first is the main one. A line "-- 13" before means that 0.12 refuses it or reads it
// differently, "-- refused" that Prosody refuses it.
func TestReadsAsProsodyReads(t *testing.T) {
	prosody := findProsody(t)
	cases, err := filepath.Glob("testdata/real/*.txt")
	if err != nil || len(cases) < 20 {
		t.Fatalf("%d configurations, %v", len(cases), err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			head, files := split(string(content))
			only13, refused := strings.Contains(head, "-- 13"), strings.Contains(head, "-- refused")
			// Prosody fails to warn, and so to start, in files with a path longer than Lua shows (LUA_IDSIZE, 60).
			root, err := os.MkdirTemp("", "u")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(root)
			for _, f := range files {
				path := filepath.Join(root, f.name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env := map[string]string{"DOMAIN": "meet.example.com", "EMPTY": "", "CREDENTIALS_DIRECTORY": filepath.Join(root, "credentials")}
			got, gotErr := Read(Source{FS: os.DirFS("/"), Names: []string{filepath.Join(root, files[0].name)[1:]}, Getenv: func(name string) (string, bool) {
				value, ok := env[name]
				return value, ok
			}})
			var variables []string
			for name, value := range env {
				variables = append(variables, name+"="+value)
			}
			want, wantErr := prosody.read(t, filepath.Join(root, files[0].name), variables)
			if gotErr == nil && only13 != (len(got.NeedsProsody13) > 0) {
				t.Errorf("needs 13: %v, want %v", got.NeedsProsody13, only13)
			}
			if only13 && !prosody.is13 {
				if wantErr == nil && reflect.DeepEqual(asProsody(got), want) {
					t.Error("0.12 reads this as 13 does")
				}
				return
			}
			if (gotErr != nil) != refused || (wantErr != nil) != refused {
				t.Fatalf("got %v, Prosody has %v, refused should be %v", gotErr, wantErr, refused)
			}
			if !refused && !reflect.DeepEqual(asProsody(got), want) {
				t.Errorf("got  %v\nwant %v", asProsody(got), want)
			}
		})
	}
}

type namedText struct{ name, text string }

// split cuts a txtar-like file into its files.
func split(content string) (head string, files []namedText) {
	parts := regexp.MustCompile(`(?m)^-- (\S+\.\S+) --\n`).Split(content, -1)
	names := regexp.MustCompile(`(?m)^-- (\S+\.\S+) --\n`).FindAllStringSubmatch(content, -1)
	for i, name := range names {
		files = append(files, namedText{name[1], parts[i+1]})
	}
	return parts[0], files
}
