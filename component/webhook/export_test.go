package webhook

import (
	"bytes"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
)

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

// Reread writes an event and reads it again.
func Reread(t *testing.T, hook string, seq uint64, id, room string, at time.Time, body []byte) {
	e := &event{hook: hook, seq: seq, id: id, room: room, at: at, body: body}
	got, err := parse(e.record())
	if err != nil || got.hook != hook || got.seq != seq || got.id != id || got.room != room || !got.at.Equal(at) || !bytes.Equal(got.body, body) || got.key() != e.key() {
		t.Errorf("%+v became %+v, %v", e, got, err)
	}
}

// Parse reports whether a record is read as an event.
func Parse(r store.Record) bool {
	_, err := parse(r)
	return err == nil
}
