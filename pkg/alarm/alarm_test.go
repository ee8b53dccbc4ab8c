package alarm_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xmpp-usher/usher/pkg/alarm"
)

func TestSleep(t *testing.T) {
	const least = 10 * time.Millisecond
	for name, tt := range map[string]struct {
		until time.Duration // 0 for never
		rings time.Duration // 0 for before; negative for never
		ends  time.Duration // of the context
		want  time.Duration
	}{
		"at its time":           {until: 2 * least, rings: -1, ends: time.Hour, want: 2 * least},
		"its time is over":      {until: -time.Hour, rings: -1, ends: time.Hour, want: least},
		"far away":              {until: time.Hour, rings: -1, ends: time.Hour, want: alarm.AtMost},
		"never":                 {rings: -1, ends: time.Hour, want: time.Hour},
		"rung":                  {rings: time.Minute, ends: time.Hour, want: time.Minute},
		"rung before":           {ends: time.Hour},
		"its context ends":      {until: time.Hour, rings: -1, ends: time.Millisecond, want: time.Millisecond},
		"never, and then ended": {rings: -1, ends: time.Minute, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, now, until := alarm.New(least), time.Now(), time.Time{}
				if tt.until != 0 {
					until = now.Add(tt.until)
				}
				switch {
				case tt.rings == 0:
					a.Ring()
					a.Ring() // one is enough
				case tt.rings > 0:
					time.AfterFunc(tt.rings, a.Ring)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.ends)
				defer cancel()
				a.Sleep(ctx, now, until)
				if took := time.Since(now); took != tt.want {
					t.Errorf("slept for %s, want %s", took, tt.want)
				}
			})
		})
	}
}
