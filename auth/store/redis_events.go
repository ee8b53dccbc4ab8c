package store

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Events are entries of one stream at the server, with the fields w (What) and k (Key). Its first entry has an empty What. So a stream
// that the server has lost and begun again differs from an old one: the number of entries that were ever added does not fit.

// streamScript returns the last id of the stream KEYS[1], the number of entries that were ever added, and up to ARGV[2] entries after
// the id ARGV[1]. With an empty id it returns no entries, and begins the stream if there is none. Without a stream it returns nil.
var streamScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	if ARGV[1] ~= '' then
		return false
	end
	redis.call('XADD', KEYS[1], '*', 'w', '', 'k', '')
end
local last, added, entries
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
	if info[i] == 'last-generated-id' then last = info[i + 1] end
	if info[i] == 'entries-added' then added = info[i + 1] end
end
if ARGV[1] == '' then
	entries = {}
else
	entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
end
return {last, added, entries}
`)

// place is a place in the stream.
type place struct {
	id    string // of the last entry before it
	added int64  // the number of entries that were ever added up to there
}

// before reports whether an id of the stream is lower than another. An id is two numbers with a hyphen in between.
func before(a, b string) bool {
	number := func(id string) (ms, n uint64) {
		first, second, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(first, 10, 64)
		n, _ = strconv.ParseUint(second, 10, 64)
		return ms, n
	}
	ams, an := number(a)
	bms, bn := number(b)
	return ams < bms || ams == bms && an < bn
}

func (s *server) stream() string { return s.prefix + "events" }

// Append implements Store.
func (s *server) Append(ctx context.Context, e Event) error {
	if err := beginAppend(ctx, e); err != nil {
		return err
	}
	return s.call(ctx, func(ctx context.Context, c *redis.Client) error {
		return c.XAdd(ctx, &redis.XAddArgs{Stream: s.stream(), MaxLen: keptEvents, Approx: true, Values: []any{"w", e.What, "k", e.Key}}).Err()
	})
}

// againAfter is the pause before Follow tries again to reach the server.
const againAfter = 100 * time.Millisecond

// Follow implements Store.
func (s *server) Follow(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var at place
		begin := func() bool {
			return s.until(ctx, func(ctx context.Context, c *redis.Client) (err error) {
				at, _, _, err = s.read(ctx, c, place{})
				return err
			})
		}
		if !begin() || !yield(Event{}, nil) {
			return
		}
		for {
			var events []Event
			var missed bool
			going := s.until(ctx, func(ctx context.Context, c *redis.Client) (err error) {
				// What comes is read by the script, which sees at once whether something is missing.
				wait := redis.NewXStreamSliceCmd(ctx, "xread", "count", 1, "block", s.block.Milliseconds(), "streams", s.stream(), at.id)
				if err := c.Process(ctx, wait); err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
				next, some, lost, err := s.read(ctx, c, at)
				if err == nil {
					at, events, missed = next, some, lost
				}
				return err
			})
			if !going {
				return
			}
			if missed {
				if !begin() || !yield(Event{}, errMissed) {
					return
				}
				continue
			}
			for _, e := range events {
				if ctx.Err() != nil || s.over() || !yield(e, nil) {
					return
				}
			}
		}
	}
}

// over reports whether the store is closed.
func (s *server) over() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// until runs do until it succeeds. It reports false, at once, when ctx is done or the store is closed.
func (s *server) until(ctx context.Context, do func(ctx context.Context, c *redis.Client) error) bool {
	for ctx.Err() == nil {
		if s.begin(&s.follows) != nil {
			return false
		}
		done := make(chan error, 1)
		go func() { // the library does not end a command early
			defer s.follows.Done()
			done <- s.run(context.WithoutCancel(ctx), do)
		}()
		var again <-chan time.Time
		for waiting := true; waiting; {
			select {
			case err := <-done:
				if err == nil {
					return ctx.Err() == nil
				}
				again = time.After(againAfter)
			case <-again:
				waiting = false
			case <-ctx.Done():
				return false
			case <-s.closing:
				return false
			}
		}
	}
	return false
}

// read reads the events from a place on, and returns the place after them. It reports whether events were lost. From the zero place it
// reads nothing, and returns the end of the stream.
func (s *server) read(ctx context.Context, c *redis.Client, at place) (next place, events []Event, lost bool, err error) {
	const most = 1000
	answer, err := streamScript.Run(ctx, c, []string{s.stream()}, at.id, most).Slice()
	if errors.Is(err, redis.Nil) {
		return at, nil, true, nil
	}
	if err != nil {
		return at, nil, false, err
	}
	if len(answer) != 3 {
		return at, nil, false, errTooOld
	}
	last, isID := answer[0].(string)
	added, isCount := answer[1].(int64) // Redis 7
	entries, isList := answer[2].([]any)
	if !isID || !isCount || !isList {
		return at, nil, false, errTooOld
	}
	if at.id == "" {
		return place{last, added}, nil, false, nil
	}
	next = at
	for _, entry := range entries {
		id, e, is := eventOf(entry)
		if !is {
			return at, nil, false, errTooOld
		}
		next = place{id, next.added + 1}
		if e.What != "" {
			events = append(events, e)
		}
	}
	if len(entries) == most {
		return next, events, false, nil // the next read sees whether something is missing
	}
	return next, events, before(last, at.id) || added != next.added, nil
}

// eventOf reads an entry: its id, and a list of fields and their values.
func eventOf(entry any) (id string, e Event, is bool) {
	pair, _ := entry.([]any)
	if len(pair) != 2 {
		return "", Event{}, false
	}
	id, is = pair[0].(string)
	fields, _ := pair[1].([]any)
	for n := 0; n+1 < len(fields); n += 2 {
		value, _ := fields[n+1].(string)
		switch fields[n] {
		case "w":
			e.What = value
		case "k":
			e.Key = value
		}
	}
	return id, e, is
}
