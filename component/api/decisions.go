package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
	"github.com/xmpp-usher/usher/pkg/printable"
)

// Decision is what usher decided about somebody.
type Decision struct {
	Number       uint64      `json:"number" doc:"Numbers grow by time. They begin anew with each start of usher."`
	At           time.Time   `json:"at"`
	Room         string      `json:"room,omitempty"`
	Who          string      `json:"who,omitempty" doc:"The bare JID."`
	VHost        string      `json:"vhost,omitempty"`
	Verdict      string      `json:"verdict" enum:"allow,deny,wait"`
	Reason       string      `json:"reason"`
	Affiliation  string      `json:"affiliation,omitempty"`
	Issuer       string      `json:"issuer,omitempty"`
	JTI          string      `json:"jti,omitempty"`
	User         string      `json:"user,omitempty"`
	Milliseconds float64     `json:"ms" doc:"From the request to the answer."`
	Told         string      `json:"told,omitempty" doc:"The text that the person read."`
	Steps        []auth.Step `json:"steps,omitempty" doc:"Rule by rule, what was expected and found."`
}

// decisionList is a page of decisions.
type decisionList struct {
	Decisions []Decision `json:"decisions"`
	Next      uint64     `json:"next,omitempty" doc:"The value of before for the next page; absent on the last one."`
}

// missed says that some decisions are not in a stream.
type missed struct {
	Missed uint64 `json:"missed" doc:"How many reports were gone before the client came to them. Some may be about other rooms."`
}

// Filter says which decisions somebody wants.
type Filter struct {
	Room    string `query:"room" maxLength:"3071" doc:"Only those about this room: its address, or its name if usher guards one MUC service."`
	Verdict string `query:"verdict" enum:"allow,deny,wait"`
	Reason  string `query:"reason" maxLength:"40"`
}

func (s *server) decisionOperations(api huma.API) {
	list := operation("list-decisions", http.MethodGet, "/decisions", "List what was decided, the newest first", ScopeDecisions, http.StatusNotFound)
	list.Description += " usher keeps the latest ones in memory; the audit log has all. People who wait and are told so again are left out."
	huma.Register(api, list, s.listDecisions)
	stream := operation("stream-decisions", http.MethodGet, "/decisions/stream", "Hear what is decided, as server-sent events", ScopeDecisions, http.StatusNotFound)
	stream.Description += " Events have the type `decision`, with a Decision, or `missed`, with the number of those that were lost because the client was slow. " +
		"A client that connects again sends Last-Event-ID, and gets what it has not seen."
	stream.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"text/event-stream": {
		Schema: &huma.Schema{Type: huma.TypeString, Description: "Server-sent events."},
	}}}}
	huma.Register(api, stream, s.streamDecisions)
}

// matcher returns which entries the key may see and the filter lets through.
func (s *server) matcher(ctx context.Context, f Filter) (func(history.Entry) bool, error) {
	u, err := s.active()
	if err == nil && s.History == nil {
		err = RequestError("this usher keeps no decisions")
	}
	if err != nil {
		return nil, s.fault(err)
	}
	key, room := keyOf(ctx), auth.Room{}
	if f.Room != "" {
		if room, err = s.roomOf(ctx, u, f.Room); err != nil {
			return nil, err
		}
	}
	return func(e history.Entry) bool {
		return e.What == component.Decided &&
			key.sees(u, auth.Room{JID: e.Room, Tenant: e.Tenant, Name: e.Name}) &&
			(f.Room == "" || e.Room.Equal(room.JID)) &&
			(f.Verdict == "" || e.Verdict.String() == f.Verdict) &&
			(f.Reason == "" || string(e.Reason) == f.Reason)
	}, nil
}

func (s *server) listDecisions(ctx context.Context, in *struct {
	Filter
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many at most."`
	Before uint64 `query:"before" doc:"Only those with smaller numbers: next of the page before."`
}) (*struct{ Body decisionList }, error) {
	match, err := s.matcher(ctx, in.Filter)
	if err != nil {
		return nil, err
	}
	found := s.History.Last(in.Limit+1, func(e history.Entry) bool { return (in.Before == 0 || e.Number < in.Before) && match(e) })
	list := decisionList{Decisions: []Decision{}}
	if len(found) > in.Limit {
		found = found[:in.Limit]
		list.Next = found[in.Limit-1].Number
	}
	for _, e := range found {
		list.Decisions = append(list.Decisions, decision(e))
	}
	return &struct{ Body decisionList }{list}, nil
}

func decision(e history.Entry) Decision {
	return Decision{
		Number: e.Number, At: e.At, Room: printable.Text(e.Room.String()), Who: printable.Text(e.Who.Bare().String()), VHost: e.VHost,
		Verdict: e.Verdict.String(), Reason: string(e.Reason), Affiliation: string(e.Affiliation),
		Issuer: printable.Text(e.Issuer), JTI: printable.Text(e.JTI), User: printable.Text(e.User),
		Milliseconds: float64(e.Took.Microseconds()) / 1000, Told: printable.Text(e.Text), Steps: steps(e.Steps),
	}
}

// steps returns steps with texts that are printable: they hold claims of tokens.
func steps(all []auth.Step) []auth.Step {
	shown := make([]auth.Step, len(all))
	for i, s := range all {
		s.Expected, s.Found = printable.Text(s.Expected), printable.Text(s.Found)
		shown[i] = s
	}
	return shown
}

const (
	// aliveEvery is the interval of comments in a stream without events: proxies cut connections that are silent for a minute.
	aliveEvery = 15 * time.Second
	// eventWithin is how long a client may take to receive an event.
	eventWithin = 10 * time.Second
)

func (s *server) streamDecisions(ctx context.Context, in *struct {
	Filter
	After string `query:"after" maxLength:"40" doc:"The id of the last event that was seen. Without it: new ones only."`
	Last  string `header:"Last-Event-ID" maxLength:"40" doc:"As after, sent by browsers that connect again."`
}) (*huma.StreamResponse, error) {
	match, err := s.matcher(ctx, in.Filter)
	if err != nil {
		return nil, err
	}
	key := *keyOf(ctx)
	if !s.streams.begin(key.Name) {
		return nil, problem(http.StatusTooManyRequests, "too many streams are open: %d for each key, and %d in all", maxStreamsOfKey, maxStreams)
	}
	after := s.History.Newest()
	if last := in.Last; last != "" || in.After != "" {
		if last == "" {
			last = in.After
		}
		after = s.History.Number(last)
	}
	s.begun(ctx, Base+"/decisions/stream")
	return &huma.StreamResponse{Body: func(out huma.Context) {
		defer s.streams.end(key.Name)
		s.stream(out, key, after, match)
	}}, nil
}

// event is an entry, and how many were missed before it.
type event struct {
	history.Entry
	missed uint64
}

// stream writes what is decided until the client goes, the key ends, or this usher is not the active one any more.
func (s *server) stream(out huma.Context, key Key, after uint64, match func(history.Entry) bool) {
	ctx, cancel := context.WithCancel(out.Context())
	events, done := make(chan event), make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		var lost uint64
		for e, missed := range s.History.Follow(ctx, after) {
			if lost += missed; lost == 0 && !match(e) {
				continue
			}
			select {
			case events <- event{e, lost}:
				lost = 0
			case <-ctx.Done():
			}
		}
	}()
	out.SetHeader("Content-Type", "text/event-stream")
	out.SetHeader("X-Accel-Buffering", "no") // nginx would keep events back
	w := out.BodyWriter().(http.ResponseWriter)
	control := http.NewResponseController(w)
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for text := ": usher\n\n"; ; {
		_ = control.SetWriteDeadline(time.Now().Add(eventWithin)) // which tests cannot
		if _, err := w.Write([]byte(text)); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			text = ": alive\n\n"
		case e := <-events:
			text = s.written(e, match)
		}
		if s.Active() == nil || !s.stillCounts(&key) {
			return
		}
	}
}

// stillCounts reports whether a key may go on reading a stream.
func (s *server) stillCounts(key *Key) bool {
	return s.local || slices.ContainsFunc(s.Keys(), func(k Key) bool {
		return k.Name == key.Name && k.Hash == key.Hash && !k.expired(s.Now()) && slices.Contains(k.Scopes, ScopeDecisions) && slices.Equal(k.Rooms, key.Rooms)
	})
}

// written returns an event as it is sent.
func (s *server) written(e event, match func(history.Entry) bool) (text string) {
	add := func(id, what string, of any) {
		b, _ := json.Marshal(of) // which has no type that fails
		text += fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, what, b)
	}
	if e.missed > 0 {
		add("", "missed", missed{e.missed})
	}
	if match(e.Entry) {
		add("id: "+s.History.Name(e.Number)+"\n", "decision", decision(e.Entry))
	}
	return text
}
