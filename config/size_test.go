package config

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"8MiB": 8 << 20, "1GiB": 1 << 30, "1024MiB": 1 << 30, "1536 MiB": 3 << 29, "1048575GiB": 1048575 << 30, "0MiB": 0,
	} {
		got, ok := parseSize(text)
		if !ok || got != want {
			t.Errorf("%s is %d, %t; want %d", text, got, ok, want)
		}
		if again, ok := parseSize(got.String()); !ok || again != want {
			t.Errorf("%s is written as %s", text, got)
		}
	}
	for _, text := range []string{"", "1", "MiB", "1MB", "1.5GiB", "-1GiB", "1048577GiB", "99999999999999999999MiB", "1GiBMiB", "0x1MiB", "1e3MiB"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("%s is %d", text, got)
		}
	}
}
