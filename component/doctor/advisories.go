package doctor

import (
	"bufio"
	"compress/gzip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// advisory is a publicly known fault of released Prosody versions.
type advisory struct {
	id string
	// since is the first version with the fault; empty for all. fixed is the first without it.
	since, fixed string
}

// known are the advisories that usher knows, from the records of the CVE programme and Prosody's own advisories. A fault that
// was mended in several lines of versions has an entry for each.
var known = []advisory{
	{"CVE-2021-32918", "", "0.11.9"},        // anybody can use up the server's memory
	{"CVE-2021-32921", "", "0.11.9"},        // the time to compare secrets depends on them
	{"CVE-2021-37601", "0.11.0", "0.11.10"}, // anybody can read affiliation lists
	{"CVE-2022-0217", "", "0.11.12"},        // XML entities are expanded
	{"CVE-2026-43506", "", "0.12.6"},        // connections without login can use up the server's memory
	{"CVE-2026-43506", "13.0.0", "13.0.5"},
	{"CVE-2026-43507", "", "0.12.6"}, // XML can use up the server's memory
	{"CVE-2026-43507", "13.0.0", "13.0.5"},
}

// advisories returns those that concern a version, and whether it is a released version.
func advisories(version string) (open []advisory, released bool) {
	v, released := numbers(version)
	if !released {
		return nil, false
	}
	for _, a := range known {
		since, _ := numbers(a.since)
		fixed, _ := numbers(a.fixed)
		if slices.Compare(v, since) >= 0 && slices.Compare(v, fixed) < 0 {
			open = append(open, a)
		}
	}
	return open, true
}

var release = regexp.MustCompile(`^[0-9]+(\.[0-9]+){2,3}$`)

// numbers returns the numbers of a released version. Others ("trunk nightly build 1000", "hg:...") cannot be compared.
func numbers(version string) ([]int, bool) {
	if !release.MatchString(version) {
		return nil, false
	}
	var all []int
	for _, s := range strings.Split(version, ".") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, false
		}
		all = append(all, n)
	}
	return all, true
}

// changelogHead is the first line of a Debian changelog: name, upstream version and the distribution's version.
var changelogHead = regexp.MustCompile(`^prosody \((?:[0-9]+:)?([0-9.]+)[^)]*\)`)

// mended reports whether the distribution's changelog belongs to the version, and names every one of the faults. A server that
// somebody has installed beside the package usually has another version; then the file proves nothing.
func mended(changelog, version string, ids []string) bool {
	f, err := os.Open(changelog)
	if err != nil {
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return false
	}
	lines := bufio.NewScanner(z)
	missing := make(map[string]bool)
	for _, id := range ids {
		missing[id] = true
	}
	for first := true; lines.Scan(); first = false {
		if first {
			head := changelogHead.FindStringSubmatch(lines.Text())
			if head == nil || head[1] != version {
				return false
			}
		}
		for _, id := range ids {
			if strings.Contains(lines.Text(), id) {
				delete(missing, id)
			}
		}
	}
	return lines.Err() == nil && len(missing) == 0
}
