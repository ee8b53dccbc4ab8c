package webhook

import "github.com/xmpp-usher/usher/component"

// For the tests of package webhook_test.
const (
	Every      = every
	Grace      = grace
	MaxQueued  = maxQueued
	MaxReports = maxReports
	Life       = life
	Kept       = kept
	Parallel   = parallel
	Down       = down
	DrainTime  = drainTime
)

// Sign is sign.
func Sign(secrets []Secret, id, timestamp string, body []byte) string {
	return sign(secrets, id, timestamp, body)
}

// Covers is Hook.covers.
func (h Hook) Covers(tenant, name string) bool { return h.covers(tenant, name) }

// Body is body.
func Body(r component.Report, breakout string) (Type, []byte, error) {
	b, err := body(typeOf(r), r, breakout)
	return typeOf(r), b, err
}
