package store

import (
	"path/filepath"
	"testing"
)

// NewPath returns a path at which there is no store yet.
func NewPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "usher.db")
}
