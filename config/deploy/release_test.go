package deploy_test

import (
	"archive/tar"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// TestReproducible makes the release twice, in different folders: all files are the same, and the checksums are theirs.
func TestReproducible(t *testing.T) {
	deploytest.Need(t, "git", "sha256sum")
	first, err := released()
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second")
	if err := makeRelease(second); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the release:\n%s", sums)
	for _, folder := range []string{first, second} {
		check := exec.Command("sha256sum", "--check", "--strict", filepath.Join(first, "SHA256SUMS"))
		check.Dir = folder
		if said, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, said)
		}
	}
	entries, err := os.ReadDir(first)
	if err != nil || len(entries) != 2*3+1 { // a package, an archive and a list of modules for each of two architectures
		t.Errorf("%v %v", entries, err)
	}
}

// TestArchive checks the files of the archive, and that the program is static and knows its version.
func TestArchive(t *testing.T) {
	deploytest.Need(t, "file", "tar")
	var names []string
	for _, arch := range []string{"amd64", "arm64"} {
		f, err := os.Open(found(t, "usher_*_linux_"+arch+".tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			_, name, _ := strings.Cut(h.Name, "/")
			names = append(names, arch+"/"+name)
		}
	}
	for _, want := range []string{
		"amd64/usher", "arm64/usher", "amd64/LICENSE", "amd64/licences.txt.gz", "amd64/README.md", "amd64/CHANGELOG.md", "amd64/usher.cdx.json",
		"amd64/man/usher.1.gz", "amd64/man/usher-serve.1.gz", "amd64/completions/usher.bash", "amd64/completions/_usher",
		"amd64/completions/usher.fish", "amd64/examples/usher.example.yaml", "amd64/deploy/README.md", "amd64/deploy/docker/Dockerfile",
		"amd64/deploy/debian/usher.service",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("the archive lacks %s", want)
		}
	}
	folder := unpacked(t)
	program := filepath.Join(folder, "usher")
	if kind := output(t, "file", program); !strings.Contains(kind, "statically linked") {
		t.Error(kind)
	}
	if said := output(t, program, "--version"); !strings.Contains(said, "commit ") || !strings.Contains(said, runtime.Version()) {
		t.Error(said)
	}
	examineModules(t, folder)
}

// examineModules compares the list of modules with what Go has written into the program.
func examineModules(t *testing.T, folder string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "usher.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		BomFormat, SpecVersion, SerialNumber string
		Metadata                             struct {
			Component struct{ Name, Version, PURL string }
		}
		Components   []struct{ Name, Version, PURL string }
		Dependencies []struct{ DependsOn []string }
	}
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	built, err := buildinfo.ReadFile(filepath.Join(folder, "usher"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + strings.TrimPrefix(built.GoVersion, "go")}
	for _, m := range built.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	var got []string
	for _, c := range list.Components {
		got = append(got, c.Name+" "+c.Version)
	}
	if !slices.Equal(got, want) || len(list.Dependencies) != 1 || len(list.Dependencies[0].DependsOn) != len(want) {
		t.Errorf("the list has %v", got)
	}
	if list.BomFormat != "CycloneDX" || list.SpecVersion != "1.5" || !strings.HasPrefix(list.SerialNumber, "urn:uuid:") ||
		list.Metadata.Component.Version != built.Main.Version {
		t.Errorf("%+v", list)
	}
	licences := output(t, "zcat", filepath.Join(folder, "licences.txt.gz"))
	for _, m := range built.Deps {
		if !strings.Contains(licences, "---- "+m.Path+" "+m.Version+": ") {
			t.Errorf("no licence of %s", m.Path)
		}
	}
}
