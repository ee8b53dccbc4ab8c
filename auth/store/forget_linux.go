package store

import "syscall"

// forget unmaps pages of a file that is mapped to be read and shared. Nothing is lost: the kernel has the file (madvise(2), MADV_DONTNEED).
func forget(start, length uintptr) {
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, start, length, syscall.MADV_DONTNEED) // after an error they stay mapped
}
