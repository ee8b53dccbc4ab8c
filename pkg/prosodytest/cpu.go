package prosodytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPUTime returns the CPU time that a process has used so far, to the nanosecond: the sum of its threads (proc(5): schedstat). Neither
// Prosody nor Go ends threads. It needs Linux.
func CPUTime(pid int) (used time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(threads) == 0 {
		err = fmt.Errorf("this kernel does not tell what the threads of process %d use", pid)
	}
	for _, file := range threads {
		stat, readErr := os.ReadFile(file)
		if readErr != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(stat), " ")
		ns, parseErr := strconv.ParseInt(first, 10, 64)
		if parseErr != nil {
			return 0, fmt.Errorf("%s: %w", file, parseErr)
		}
		used += time.Duration(ns)
	}
	return used, err
}

// PID is the process id of a server that runs, and 0 otherwise.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}
