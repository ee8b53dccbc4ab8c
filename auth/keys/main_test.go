package keys_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets time pass on the clock of a synctest bubble, where it costs none.
func pass(d time.Duration) { <-time.After(d) }
