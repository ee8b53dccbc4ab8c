package main

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// TestDoctorStore checks what the doctor says of a Redis that several ushers share: one that keeps everything, one that may lose it, and
// one that is away.
func TestDoctorStore(t *testing.T) {
	staged(t)
	examine := func(config string, away bool) (checks []doctor.Check) {
		t.Helper()
		server := redistest.Start(t, redistest.Options{Config: config})
		if away {
			server.Stop()
		}
		c, _, err := load([]string{"usher.yaml"}, []string{"USHER_STORE_URL=" + server.URL()}, new(keys.Cache))
		if err != nil {
			t.Fatal(err)
		}
		examineShared(t.Context(), c, func(c doctor.Check) { checks = append(checks, c) })
		return checks
	}
	const keeps = "appendonly yes\nmaxmemory-policy noeviction"
	for name, test := range map[string]struct {
		config string
		away   bool
		want   doctor.Status
		says   string
	}{
		"keeps everything": {keeps, false, doctor.OK, "keeps what ushers share"},
		"evicts":           {keeps + "\nmaxmemory 64mb\nmaxmemory-policy allkeys-lru", false, doctor.Warn, "allkeys-lru"},
		"away":             {keeps, true, doctor.Fail, "cannot be reached"},
	} {
		checks := examine(test.config, test.away)
		if len(checks) != 1 || checks[0].Code != "store" || checks[0].Status != test.want || !strings.Contains(checks[0].Says, test.says) {
			t.Errorf("%s: %+v", name, checks)
		}
	}
}
