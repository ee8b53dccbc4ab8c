// Command release makes what is published of a version: for each architecture a Debian package, an archive, and a list of all modules
// in it (CycloneDX), and the checksums of all of them.
//
//	go run ./config/deploy/release [-o bin/release] [-arch amd64,arm64]
//
// It runs in the folder of the repository, and builds from a clone: what is not committed is not in the release. The version is that of
// Go's tools: the tag of the commit, or its time and hash. The same commit gives the same bytes, in any folder and at any time: paths are
// trimmed, and all times are those of the commit.
package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

func main() {
	out := flag.String("o", "bin/release", "the `folder` to write to; what is in it is removed")
	archs := flag.String("arch", "amd64,arm64", "the architectures, with `commas` between them")
	flag.Parse()
	if err := run(*out, strings.Split(*archs, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(out string, archs []string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "usher-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil {
		return err
	}
	// Go's tools learn the commit from a clone only, not from a worktree (go.dev/issue/58218).
	source := filepath.Join(work, "source")
	if err := command("", nil, "git", "clone", "--quiet", ".", source); err != nil {
		return err
	}
	if err := os.Chdir(source); err != nil {
		return err
	}
	nfpm := filepath.Join(work, "nfpm")
	if err := command("", nil, "go", "build", "-modfile=config/deploy/tools/go.mod", "-o", nfpm, "github.com/goreleaser/nfpm/v2/cmd/nfpm"); err != nil {
		return err
	}
	here := filepath.Join(work, "usher")
	if err := compile(here, runtime.GOOS, runtime.GOARCH); err != nil {
		return err
	}
	for _, arch := range archs {
		r := release{arch: arch, out: out, nfpm: nfpm, here: here, stage: filepath.Join(work, arch)}
		for _, step := range []func() error{r.build, r.document, r.collect, r.list, r.archive, r.packageDebian} {
			if err := step(); err != nil {
				return fmt.Errorf("%s: %w", arch, err)
			}
		}
	}
	return checksums(out)
}

// release is the release for one architecture.
type release struct {
	arch, out string
	nfpm      string // the program
	here      string // usher for this machine
	stage     string // the folder in which the files are put together
	built     *debug.BuildInfo
	version   string    // without "v"
	at        time.Time // of the commit
}

// command runs a program in a folder, with these variables as well. Its output is shown only if it fails.
func command(dir string, environ []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environ...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said)
	}
	return nil
}

// compile makes usher for a system. The program needs nothing else where it runs.
func compile(program, system, arch string) error {
	return command("", []string{"GOOS=" + system, "GOARCH=" + arch, "CGO_ENABLED=0"},
		"go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", program, "./cmd/usher")
}

// build makes the program, and learns its version.
func (r *release) build() error {
	program := filepath.Join(r.stage, "usher")
	err := compile(program, "linux", r.arch)
	if err != nil {
		return err
	}
	if r.built, err = buildinfo.ReadFile(program); err != nil {
		return err
	}
	for _, s := range r.built.Settings {
		if s.Key == "vcs.time" {
			r.at, err = time.Parse(time.RFC3339, s.Value)
		}
	}
	if err != nil || r.at.IsZero() {
		return fmt.Errorf("the program does not know its commit: build it in a git checkout (%v)", err)
	}
	r.version = strings.TrimPrefix(r.built.Main.Version, "v")
	return nil
}

// environ is the environment of programs that write times.
func (r *release) environ() []string {
	return []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.at.Unix())}
}

// document makes the manual pages and the completions.
func (r *release) document() error {
	pages := filepath.Join(r.stage, "man")
	if err := command("", r.environ(), r.here, "man", pages); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(pages, "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := errors.Join(compress(name, name+".gz"), os.Remove(name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(r.stage, "completions"), 0o755); err != nil {
		return err
	}
	for shell, file := range map[string]string{"bash": "usher.bash", "zsh": "_usher", "fish": "usher.fish"} {
		lines, err := exec.Command(r.here, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("completions for %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(r.stage, "completions", file), lines, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// collect copies the files of the repository that belong to a release.
func (r *release) collect() error {
	for _, pattern := range []string{"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"} {
		if err := r.copy(pattern, "."); err != nil {
			return err
		}
	}
	for pattern, folder := range map[string]string{
		"config/usher.example.yaml": "examples",
		"config/deploy/*.*":         "deploy",
		"config/deploy/docker/*":    "deploy/docker",
		"config/deploy/debian/*":    "deploy/debian",
	} {
		if err := r.copy(pattern, folder); err != nil {
			return err
		}
	}
	return r.licences()
}

// copy copies the files of a pattern, but for programs, into a folder of the release.
func (r *release) copy(pattern, folder string) error {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		return fmt.Errorf("%s: no file (%v)", pattern, err)
	}
	to := filepath.Join(r.stage, folder)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if filepath.Ext(name) == ".go" {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(name)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
