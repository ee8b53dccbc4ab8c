package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
)

// Component is what each scrape asks of the active usher. None of it may block; component.Component is one.
type Component interface {
	Status() component.Status
	Stats() component.Snapshot
	Rooms() []component.RoomSummary
	Room(ctx context.Context, address string) (component.RoomView, error)
}

// Audit is what the audit log counts.
type Audit struct {
	// Dropped is how many lines are missing, because they came faster than they could be written, or could not be written at all.
	Dropped int64
}

// Webhook is what one webhook counts.
type Webhook struct {
	Name string // as configured
	// Queued is how many messages wait to be sent. Sent is how many its server took, Failed how many attempts failed, and Dead how many
	// messages were given up.
	Queued, Sent, Failed, Dead int64
	// Stopped says that its server wants no more (410 Gone).
	Stopped bool
}

// Options is what Metrics ask. Each func is called at each scrape, by any goroutine, and must not block. One that is nil has nothing to
// say.
type Options struct {
	// Version is usher's.
	Version string
	// Active returns the active usher, or nil (not a nil pointer in it) while this process stands by.
	Active func() Component
	// Store returns how much room the store takes; see store.Sizes.
	Store func() []store.Size
	// Keys returns the state of the sources of keys that are servers; see keys.Cache.
	Keys     func() []keys.Status
	Audit    func() Audit
	Webhooks func() []Webhook
}

// mostAsked caps the rooms that are asked for who has waited longest.
const mostAsked = 1000

// events are the events of usher_events_total.
var events = []component.Event{
	component.EventLogout, component.EventNotUnderstood, component.EventNotAnswered, component.EventUnasked, component.EventPanic,
	component.EventSessionsFull, component.EventGrantsFull, component.EventPutOut,
}

// scraped collects what is true at the time of the scrape.
type scraped struct{ o Options }

// desc describes a metric of scraped.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	active = desc("usher_active", "Whether this usher is the active one (1), or stands by for another (0).")

	connected   = desc("usher_connected", "Whether usher is connected to the XMPP server.")
	connectedAt = desc("usher_connection_start_time_seconds", "Since when usher is connected, or is not; missing before the first connection.")
	connection  = desc("usher_connection_info", "The connection: always 1. The label server is the XMPP server's software, once it is known.", "domain", "address", "server")
	jicofo      = desc("usher_jicofo_up", "Whether the Jicofo behind usher answers; missing where usher is the focus itself.")
	moduleTakes = desc("usher_module_takes", "Whether usher's module in Prosody takes what usher gives, by MUC service. Missing where there is to be no module.", "service")
	moduleTells = desc("usher_module_tells", "Whether usher's module in Prosody tells of all rooms, so that usher asks nothing, by MUC service. Missing where there is "+
		"to be no module, and where usher is the focus itself.", "service")
	moduleGaps = desc("usher_module_gaps_total", "How often something that usher's module told was lost, so that usher has asked for all again.")
	reconnects = desc("usher_reconnects_total", "How often usher has connected again.")
	stanzasIn  = desc("usher_received_stanzas_total", "Stanzas that came from the XMPP server.")
	stanzasOut = desc("usher_sent_stanzas_total", "Stanzas that were sent to the XMPP server.")
	bytesIn    = desc("usher_received_bytes_total", "Bytes that came from the XMPP server.")
	bytesOut   = desc("usher_sent_bytes_total", "Bytes that were sent to the XMPP server.")

	queued  = desc("usher_requests_queued", "Requests that wait for their turn to be decided.")
	running = desc("usher_requests_running", "Requests that are being decided.")
	slow    = desc("usher_requests_slow", "Requests that are being decided and have been for long.")
	held    = desc("usher_requests_held", "Requests that are held until a host comes.")

	waiting     = desc("usher_people_waiting", "People who wait to be let in, by whether a host is in the room.", "host")
	longestWait = desc("usher_longest_wait_seconds", "How long the person has waited who waits longest, by whether a host is in the room.", "host")
	rooms       = desc("usher_rooms", "Rooms that are open, by whether a host is inside.", "host")
	locked      = desc("usher_rooms_locked", "Rooms that are open and locked.")
	occupants   = desc("usher_occupants", "People in rooms, by what they are there: host, member or guest.", "as")
	grants      = desc("usher_grants", "Rights to be in a room that usher has given and not taken back.")
	counted     = desc("usher_events_total", "What usher counts beside decisions, by event.", "event")

	storeBytes   = desc("usher_store_used_bytes", "Bytes that the store uses, by the kind of records. Missing for a Redis.", "kind")
	storeLimit   = desc("usher_store_limit_bytes", "Bytes that the store may use, by the kind of records. Missing for a Redis.", "kind")
	storeRecords = desc("usher_store_records", "Records in the store, by kind: sessions, grants, held requests and others. Missing for a Redis.", "kind")

	keysKnown   = desc("usher_keys", "Keys that usher has of a server that publishes them.", "source")
	keysFetched = desc("usher_keys_fetched_timestamp_seconds", "When keys were last fetched; missing before the first time.", "source")
	keysEnd     = desc("usher_keys_end_timestamp_seconds", "From when on keys count no more, unless they are fetched again.", "source")
	keysFailed  = desc("usher_keys_last_fetch_failed", "Whether the last fetch of keys failed.", "source")

	auditDropped = desc("usher_audit_dropped_lines_total", "Lines that are missing in the audit log, because they could not be written, or not fast enough.")

	hookQueued  = desc("usher_webhook_messages_queued", "Messages of a webhook that wait to be sent.", "hook")
	hookSent    = desc("usher_webhook_sent_messages_total", "Messages of a webhook that its server took.", "hook")
	hookFailed  = desc("usher_webhook_failed_attempts_total", "Attempts to send a message of a webhook that failed; most are tried again.", "hook")
	hookDead    = desc("usher_webhook_dead_messages_total", "Messages of a webhook that were given up.", "hook")
	hookStopped = desc("usher_webhook_stopped", "Whether a webhook is stopped, because its server wants no more.", "hook")
)

// Describe implements prometheus.Collector.
func (s *scraped) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		active, connected, connectedAt, connection, jicofo, moduleTakes, moduleTells, moduleGaps, reconnects, stanzasIn, stanzasOut, bytesIn, bytesOut, queued, running, slow, held,
		waiting, longestWait, rooms, locked, occupants, grants, counted, storeBytes, storeLimit, storeRecords, keysKnown, keysFetched, keysEnd,
		keysFailed, auditDropped, hookQueued, hookSent, hookFailed, hookDead, hookStopped,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scraped) Collect(to chan<- prometheus.Metric) {
	t := told{to}
	var c Component
	if s.o.Active != nil {
		c = s.o.Active()
	}
	t.gauge(active, truth(c != nil))
	if c != nil {
		t.connection(c.Status())
		t.rooms(c)
		t.events(c.Stats())
	}
	if s.o.Store != nil {
		t.store(s.o.Store())
	}
	if s.o.Keys != nil {
		t.keys(s.o.Keys())
	}
	if s.o.Audit != nil {
		t.counter(auditDropped, s.o.Audit().Dropped)
	}
	if s.o.Webhooks != nil {
		t.webhooks(s.o.Webhooks())
	}
}

// told takes what a scrape collects.
type told struct{ to chan<- prometheus.Metric }

func (t told) gauge(d *prometheus.Desc, value float64, labels ...string) {
	t.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (t told) counter(d *prometheus.Desc, value int64, labels ...string) {
	t.to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (t told) time(d *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		t.gauge(d, float64(at.UnixMilli())/1000, labels...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (t told) connection(s component.Status) {
	t.gauge(connected, truth(s.Connected))
	t.time(connectedAt, s.Since)
	t.gauge(connection, 1, label(s.Domain), label(s.Address), label(s.Server))
	if s.Behind != "" {
		t.gauge(jicofo, truth(s.Jicofo == "online"))
	}
	t.modules(s)
	t.counter(reconnects, s.Reconnects)
	t.counter(stanzasIn, s.StanzasIn)
	t.counter(stanzasOut, s.StanzasOut)
	t.counter(bytesIn, s.BytesIn)
	t.counter(bytesOut, s.BytesOut)
	t.gauge(queued, float64(s.Queued))
	t.gauge(running, float64(s.UnderWay))
	t.gauge(slow, float64(s.Slow))
	t.gauge(held, float64(s.Held))
	t.gauge(grants, float64(s.Grants))
}

// modules tells how usher's module stands in Prosody.
func (t told) modules(s component.Status) {
	gaps, seen := 0, map[string]bool{}
	for _, m := range s.Modules {
		service := label(m.Domain)
		if gaps += m.Gaps; seen[service] || len(seen) == most {
			continue
		}
		seen[service] = true
		t.gauge(moduleTakes, truth(m.Takes), service)
		if s.Behind != "" {
			t.gauge(moduleTells, truth(m.Tells), service)
		}
	}
	t.counter(moduleGaps, int64(gaps))
}

// rooms tells what is true of all rooms together.
func (t told) rooms(c Component) {
	var open, waits [2]int // without and with a host inside
	var longest [2]time.Duration
	var closed, hosts, members, guests, asked int
	now := time.Now()
	for _, r := range c.Rooms() {
		inside := int(truth(r.HostInside))
		if r.Open {
			open[inside]++
			closed += int(truth(r.Locked))
		}
		hosts, members, guests = hosts+r.Hosts, members+r.Members, guests+r.Guests
		if waits[inside] += r.Waiting; r.Waiting > 0 && asked < mostAsked {
			asked++
			longest[inside] = max(longest[inside], waitedLongest(c, r, now))
		}
	}
	for inside, host := range []string{"absent", "inside"} {
		t.gauge(rooms, float64(open[inside]), host)
		t.gauge(waiting, float64(waits[inside]), host)
		t.gauge(longestWait, longest[inside].Seconds(), host)
	}
	t.gauge(locked, float64(closed))
	t.gauge(occupants, float64(hosts), "host")
	t.gauge(occupants, float64(members), "member")
	t.gauge(occupants, float64(guests), "guest")
}

// waitedLongest returns how long the person has waited who waits longest for a room.
func waitedLongest(c Component, r component.RoomSummary, now time.Time) (longest time.Duration) {
	view, err := c.Room(context.Background(), r.Room.String())
	if err != nil {
		return 0 // the room is gone by now
	}
	for _, w := range view.Waits {
		longest = max(longest, now.Sub(w.Since))
	}
	return longest
}

func (t told) events(s component.Snapshot) {
	for _, e := range events {
		t.counter(counted, s.Events[e], string(e))
	}
}

func (t told) store(all []store.Size) {
	for _, s := range all {
		t.gauge(storeBytes, float64(s.Bytes), string(s.Kind))
		t.gauge(storeLimit, float64(s.Limit), string(s.Kind))
		t.gauge(storeRecords, float64(s.Records), string(s.Kind))
	}
}

func (t told) keys(all []keys.Status) {
	seen := map[string]bool{}
	for _, s := range all {
		source := label(s.Source)
		if seen[source] || len(seen) == most {
			continue
		}
		seen[source] = true
		t.gauge(keysKnown, float64(s.Keys), source)
		t.time(keysFetched, s.Fetched, source)
		t.time(keysEnd, s.Until, source)
		t.gauge(keysFailed, truth(s.Err != nil), source)
	}
}

func (t told) webhooks(all []Webhook) {
	seen := map[string]bool{}
	for _, w := range all {
		hook := label(w.Name)
		if seen[hook] || len(seen) == most {
			continue
		}
		seen[hook] = true
		t.gauge(hookQueued, float64(w.Queued), hook)
		t.counter(hookSent, w.Sent, hook)
		t.counter(hookFailed, w.Failed, hook)
		t.counter(hookDead, w.Dead, hook)
		t.gauge(hookStopped, truth(w.Stopped), hook)
	}
}
