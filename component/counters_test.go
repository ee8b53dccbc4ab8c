package component

import (
	"reflect"
	"slices"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
)

// A snapshot keeps reasons apart from events, and is the caller's own: neither later counts nor what the caller does to it are seen
// on the other side.
func TestStats(t *testing.T) {
	c := testComponent(t)
	if s := c.Stats(); s.Reasons == nil || s.Events == nil || len(s.Reasons)+len(s.Events) != 0 {
		t.Fatalf("at first: %v", s)
	}
	c.counts.decided(auth.ReasonHost)
	c.counts.decided(auth.ReasonHost)
	c.counts.happened(EventLogout)
	first := c.Stats()
	want := Snapshot{Reasons: map[auth.Reason]int64{auth.ReasonHost: 2}, Events: map[Event]int64{EventLogout: 1}}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("got %v, want %v", first, want)
	}
	c.counts.decided(auth.ReasonGuest)
	c.counts.happened(EventLogout)
	if !reflect.DeepEqual(first, want) {
		t.Errorf("a snapshot has changed: %v", first)
	}
	clear(first.Reasons)
	first.Events[EventPanic] = 7
	want = Snapshot{Reasons: map[auth.Reason]int64{auth.ReasonHost: 2, auth.ReasonGuest: 1}, Events: map[Event]int64{EventLogout: 2}}
	got := c.Stats()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var keys []string
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range got.fields() {
		keys = append(keys, f.Key)
		f.AddTo(enc)
	}
	if !slices.Equal(keys, []string{"guest", "host", "logout"}) || enc.Fields["host"] != int64(2) {
		t.Errorf("the log has %v, %v", keys, enc.Fields)
	}
}

// Reasons and events share the lines of the log, so no event may be called as a reason is.
func TestEventsAreNoReasons(t *testing.T) {
	for _, e := range []Event{EventLogout, EventNotUnderstood, EventNotAnswered, EventUnasked, EventPanic, EventSessionsFull, EventGrantsFull, EventPutOut} {
		if auth.Reason(e).Doc() != "" {
			t.Errorf("%s is a reason, too", e)
		}
	}
}

// A full store is counted by what is missing.
func TestFullIsCounted(t *testing.T) {
	var c counters
	l := newLedger(nil, testComponent(t).o.Log, &c)
	l.without(store.KindSession, nil)
	l.without(store.KindGrant, nil)
	l.without(store.KindGrant, nil)
	if got := c.snapshot().Events; got[EventSessionsFull] != 1 || got[EventGrantsFull] != 2 {
		t.Errorf("got %v", got)
	}
}
