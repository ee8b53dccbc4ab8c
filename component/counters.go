package component

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
)

// Event is something that Component counts and that is no decision. The list is closed; each text differs from every auth.Reason.
type Event string

const (
	// EventLogout is the end of a session at its client's request.
	EventLogout Event = "logout"
	// EventNotUnderstood is an IQ that was answered with service-unavailable, because usher does not know its payload.
	EventNotUnderstood Event = "service-unavailable"
	// EventNotAnswered is a request beyond all bounds of the queue: it gets no answer.
	EventNotAnswered Event = "not-answered"
	// EventUnasked is an error stanza that answers nothing that usher asked.
	EventUnasked Event = "unasked-error"
	// EventPanic is a panic, which ended the request or stanza that caused it and nothing else.
	EventPanic Event = "panic"
	// EventSessionsFull and EventGrantsFull are admissions without a session, or without a written grant, because the store was full.
	EventSessionsFull Event = "sessions-full"
	EventGrantsFull   Event = "grants-full"
	// EventPutOut is somebody that usher has put out of a room, because their right has ended or was taken back.
	EventPutOut Event = "put-out"
)

// Snapshot is a copy of what a Component has counted since it was made. It changes no more, and belongs to the caller.
type Snapshot struct {
	// Reasons counts decisions by their reason. Stanzas that were dropped because they cannot be read count as
	// auth.ReasonRequestMalformed.
	Reasons map[auth.Reason]int64
	// Events counts everything else.
	Events map[Event]int64
}

// Stats returns what has been counted so far. Any goroutine may call it.
func (c *Component) Stats() Snapshot { return c.counts.snapshot() }

// counters count decisions and events. Their zero value is ready for use by any goroutine.
type counters struct {
	mu      sync.Mutex
	reasons map[auth.Reason]int64
	events  map[Event]int64
}

func (c *counters) decided(r auth.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reasons == nil {
		c.reasons = make(map[auth.Reason]int64)
	}
	c.reasons[r]++
}

func (c *counters) happened(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.events == nil {
		c.events = make(map[Event]int64)
	}
	c.events[e]++
}

func (c *counters) snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Snapshot{Reasons: make(map[auth.Reason]int64), Events: make(map[Event]int64)}
	maps.Copy(s.Reasons, c.reasons)
	maps.Copy(s.Events, c.events)
	return s
}

// fields returns the counters as fields of a log line, sorted by name.
func (s Snapshot) fields() []zap.Field {
	var f []zap.Field
	for r, n := range s.Reasons {
		f = append(f, zap.Int64(string(r), n))
	}
	for e, n := range s.Events {
		f = append(f, zap.Int64(string(e), n))
	}
	slices.SortFunc(f, func(a, b zap.Field) int { return strings.Compare(a.Key, b.Key) })
	return f
}
