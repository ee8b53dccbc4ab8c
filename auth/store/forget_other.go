//go:build !linux

package store

// forget does nothing: other kernels do it, or do not, as they like.
func forget(_, _ uintptr) {}
