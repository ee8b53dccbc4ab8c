package prosodytest

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// A process that works uses CPU time, as much as getrusage says.
func TestCPUTime(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	const work, tick = 200 * time.Millisecond, 20 * time.Millisecond // what runs is added up at each tick of the kernel, 10 ms at most
	usage := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	from := usage()
	for usage()-from < work {
	}
	after, err := CPUTime(os.Getpid())
	least, most := work-2*tick, usage()-from+2*tick
	if used := after - before; err != nil || used < least || used > most {
		t.Errorf("used %s (%v), want %s to %s", used, err, least, most)
	}
	if _, err := CPUTime(0); err == nil {
		t.Error("process 0 has used something")
	}
}
