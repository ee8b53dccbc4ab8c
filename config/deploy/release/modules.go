package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

// The list of modules in the program, in the format CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/), made from what Go's linker
// has written into the program: what is really in it. cyclonedx-gomod makes the same, and brings a hundred modules.

type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Ref     string `json:"bom-ref"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// list writes the list of modules, beside the program and into the archive.
func (r *release) list() error {
	program, err := os.ReadFile(filepath.Join(r.stage, "usher"))
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(modules(r.built, r.arch, sha256.Sum256(program), r.at), "", "  ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	for _, name := range []string{filepath.Join(r.stage, "usher.cdx.json"), filepath.Join(r.out, fmt.Sprintf("usher_%s_linux_%s.cdx.json", r.version, r.arch))} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// modules returns the list of modules of a program with this hash.
func modules(built *debug.BuildInfo, arch string, sum [sha256.Size]byte, at time.Time) bom {
	usher := module("application", built.Main.Path, built.Main.Version)
	usher.PURL += "?goos=linux&goarch=" + arch
	usher.Ref = usher.PURL
	usher.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	components := []component{module("library", "std", strings.TrimPrefix(built.GoVersion, "go"))}
	for _, m := range built.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := module("library", m.Path, m.Version)
		// Go's sum of a module's files (golang.org/x/mod/sumdb/dirhash, h1), in hexadecimal digits, as cyclonedx-gomod has it.
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(raw) == sha256.Size {
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(raw)}}
		}
		components = append(components, c)
	}
	all := dependency{Ref: usher.Ref}
	for _, c := range components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	return bom{
		Format: "CycloneDX", Spec: "1.5", Serial: serial(sum), Version: 1,
		Metadata:   metadata{at.UTC().Format(time.RFC3339), usher},
		Components: components, Dependencies: []dependency{all},
	}
}

func module(kind, path, version string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Ref: purl, Type: kind, Name: path, Version: version, PURL: purl}
}

// serial returns a UUID (RFC 9562, version 8) that follows from the program, so that the list is always the same.
func serial(sum [sha256.Size]byte) string {
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licences writes the licences of all modules in the program into one file, as most of them ask for, and Debian's file about them.
func (r *release) licences() error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	var all strings.Builder
	fmt.Fprintf(&all, "The program usher contains parts of these modules of Go.\n\n")
	if err := licence(&all, "Go, and its standard library", strings.TrimSpace(string(out))); err != nil {
		return err
	}
	for _, m := range r.built.Deps {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", m.Path).Output()
		if err != nil {
			return fmt.Errorf("go list -m %s: %w", m.Path, err)
		}
		if err := licence(&all, m.Path+" "+m.Version, strings.TrimSpace(string(dir))); err != nil {
			return err
		}
	}
	copyright := `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: usher
Source: https://github.com/xmpp-usher/usher
Comment: The licences of the modules that the program contains are in licences.txt.gz.

Files: *
Copyright: 2026 the usher authors
License: Apache-2.0
 On Debian systems, the licence is in /usr/share/common-licenses/Apache-2.0.
`
	if err := os.WriteFile(filepath.Join(r.stage, "deploy", "debian", "copyright"), []byte(copyright), 0o644); err != nil {
		return err
	}
	return writeCompressed(filepath.Join(r.stage, "licences.txt.gz"), []byte(all.String()))
}

// licence appends the licence files of a folder.
func licence(all *strings.Builder, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(all, "---- %s: %s ----\n\n%s\n", name, e.Name(), text)
	}
	if !found {
		return fmt.Errorf("%s: no file with a licence in %s", name, dir)
	}
	return nil
}
