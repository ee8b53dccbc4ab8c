package deploytest

import (
	"slices"
	"testing"
)

func TestNeed(t *testing.T) {
	t.Setenv("DEPLOYTEST", "")
	skipped := false
	t.Run("without DEPLOYTEST", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Need(t, "no-such-program")
	})
	if !skipped {
		t.Error("not skipped")
	}
	t.Setenv("DEPLOYTEST", "1")
	Need(t, "sh", "chroot") // Debian has chroot in /usr/sbin
	if got := missing([]string{"sh", "no-such-program"}); !slices.Equal(got, []string{"no-such-program"}) {
		t.Errorf("missing %v", got)
	}
}
