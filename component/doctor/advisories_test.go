package doctor

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAdvisories(t *testing.T) {
	for version, want := range map[string]string{
		"0.10.2":   "CVE-2021-32918 CVE-2021-32921 CVE-2022-0217 CVE-2026-43506 CVE-2026-43507",
		"0.11.9":   "CVE-2021-37601 CVE-2022-0217 CVE-2026-43506 CVE-2026-43507",
		"0.11.10":  "CVE-2022-0217 CVE-2026-43506 CVE-2026-43507",
		"0.11.12":  "CVE-2026-43506 CVE-2026-43507",
		"0.12.5":   "CVE-2026-43506 CVE-2026-43507",
		"0.12.6":   "",
		"0.12.10":  "",
		"13.0.0":   "CVE-2026-43506 CVE-2026-43507",
		"13.0.4":   "CVE-2026-43506 CVE-2026-43507",
		"13.0.5":   "",
		"13.1.0":   "",
		"130.0.1":  "",
		"13.0.1.0": "CVE-2026-43506 CVE-2026-43507",
	} {
		open, released := advisories(version)
		var ids []string
		for _, a := range open {
			ids = append(ids, a.id)
		}
		if got := strings.Join(ids, " "); got != want || !released {
			t.Errorf("%s: got %s %t, want %s", version, got, released, want)
		}
	}
	for _, version := range []string{"", "13", "0.11", "trunk nightly build 1234", "hg:0123456789ab", "0.12.3-1", "13.0.", "-1.0", "99999999999999999999.1", "１３.０"} {
		if open, released := advisories(version); released || len(open) > 0 {
			t.Errorf("%q: %v", version, open)
		}
	}
	for _, a := range known {
		_, ok := numbers(a.fixed)
		_, since := numbers(a.since)
		if !ok || a.since != "" && !since {
			t.Errorf("%+v names no released version", a)
		}
	}
}

func TestMended(t *testing.T) {
	file := filepath.Join(t.TempDir(), "changelog.gz")
	both := []string{"CVE-2026-43506", "CVE-2026-43507"}
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"both":             {"prosody (0.12.3-1+deb12u1) x; urgency=medium\n  * CVE-2026-43506 fix\n  * CVE-2026-43507 fix\n", true},
		"in two releases":  {"prosody (0.12.3-1+deb12u2) x\n  * CVE-2026-43506\nprosody (0.12.3-1+deb12u1) x\n  * CVE-2026-43507\n", true},
		"with an epoch":    {"prosody (1:0.12.3-1) x\n  * CVE-2026-43506, CVE-2026-43507\n", true},
		"one":              {"prosody (0.12.3-1+deb12u1) x\n  * CVE-2026-43506 fix\n", false},
		"another version":  {"prosody (0.12.4-1) x\n  * CVE-2026-43506 CVE-2026-43507\nprosody (0.12.3-1) x\n", false},
		"a longer version": {"prosody (0.12.30-1) x\n  * CVE-2026-43506 CVE-2026-43507\n", false},
		"another program":  {"prosody-modules (0.12.3-1) x\n  * CVE-2026-43506 CVE-2026-43507\n", false},
		"nothing":          {"", false},
		"a line too long":  {"prosody (0.12.3-1) x\n" + strings.Repeat("x", 1<<20) + "\n  * CVE-2026-43506 CVE-2026-43507\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			z := gzip.NewWriter(f)
			if _, err := io.WriteString(z, tt.text); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if got := mended(file, "0.12.3", both); got != tt.want {
				t.Error(got)
			}
		})
	}
	if err := os.WriteFile(file, []byte("prosody (0.12.3-1) CVE-2026-43506 CVE-2026-43507"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mended(file, "0.12.3", both) || mended(file+".none", "0.12.3", both) {
		t.Error("what is no changelog proves something")
	}
}

// Every code is one of its own, and needs only what comes before it.
func TestTable(t *testing.T) {
	var before []string
	for _, group := range checks {
		for _, c := range group.checks {
			if slices.Contains(before, c.code) {
				t.Errorf("%s twice", c.code)
			}
			for _, need := range c.needs {
				if !slices.Contains(before, need) {
					t.Errorf("%s needs %s, which does not come before", c.code, need)
				}
			}
			before = append(before, c.code)
		}
	}
}
