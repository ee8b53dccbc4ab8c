package config

import (
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

const (
	mib Size = 1 << 20
	gib Size = 1 << 30
)

// String writes a size as it is read: 512MiB.
func (s Size) String() string {
	if s%gib == 0 && s != 0 {
		return strconv.FormatInt(int64(s/gib), 10) + "GiB"
	}
	return strconv.FormatInt(int64(s/mib), 10) + "MiB"
}

// parseSize reads a whole number of MiB or GiB.
func parseSize(text string) (_ Size, ok bool) {
	unit := mib
	number, found := strings.CutSuffix(text, "MiB")
	if !found {
		unit = gib
		number, found = strings.CutSuffix(text, "GiB")
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 20)
	return Size(n) * unit, found && err == nil
}
