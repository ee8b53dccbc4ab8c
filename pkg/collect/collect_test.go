package collect

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercent(t *testing.T) {
	for alive, want := range map[uint64]int{0: most, 1 << 20: most, 6 << 20: 400, 24 << 20: 100, 96 << 20: 25, 1 << 40: least} {
		if got := percent(alive); got != want {
			t.Errorf("%d MB alive: %d %%, want %d %%", alive>>20, got, want)
		}
	}
}

// It holds for the whole process, so this is a process of its own.
func TestPace(t *testing.T) {
	const env = "COLLECT_TEST"
	if os.Getenv(env) == "" {
		for _, gogc := range []string{"", "77"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestPace$")
			cmd.Env = append(os.Environ(), env+"=1", "GOGC="+gogc)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("GOGC=%s: %v\n%s", gogc, err, out)
			}
		}
		return
	}
	gogc := func() int {
		now := debug.SetGCPercent(most)
		debug.SetGCPercent(now)
		return now
	}
	before := gogc()
	Pace()
	if os.Getenv("GOGC") != "" {
		if got := gogc(); got != before {
			t.Errorf("GOGC of the environment is not kept: %d", got)
		}
		return
	}
	follows := func(want func(int) bool) {
		for range 1000 {
			runtime.GC()
			if want(gogc()) {
				return
			}
		}
		t.Errorf("GOGC is %d", gogc())
	}
	follows(func(now int) bool { return now == most })
	kept := make([]byte, 100<<20)
	follows(func(now int) bool { return now < 60 })
	runtime.KeepAlive(kept)
	follows(func(now int) bool { return now == most })
}
