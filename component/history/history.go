// Package history keeps the last reports of a component, for the live page and the API, and hands new ones to those who follow.
//
// It keeps them in memory, the oldest first to go. What must not get lost is the business of packages audit and webhook.
package history

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/alarm"
)

// Entry is a report with its number. Numbers begin at 1 in each History and grow by one. An Entry must not be changed.
type Entry struct {
	Number uint64
	component.Report
}

// History keeps the last reports, and hands new ones to followers. Any goroutine may call its methods; none of them waits for a
// follower.
type History struct {
	id string // of this History, in the names of its entries

	mu        sync.Mutex
	entries   []*Entry // a ring: the entry with number n is at (n-1) % len
	last      uint64   // the number of the newest entry, 0 if there is none
	followers map[alarm.Bell]bool
	tallies   [tallies]Tally // a ring by minute
}

// New returns a History that keeps size reports, at least one. It starts nothing.
func New(size int) *History {
	return &History{
		id:      strconv.FormatUint(rand.Uint64(), 36),
		entries: make([]*Entry, max(size, 1)), followers: make(map[alarm.Bell]bool),
	}
}

// Add takes a report in. It leaves out what people are told again while they wait: clients ask every few seconds, and a full
// waiting room would push everything else out.
func (h *History) Add(r component.Report) {
	if r.What == component.Decided && r.Again && r.Verdict == auth.Wait {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.entries[h.slot(h.last)] = &Entry{Number: h.last, Report: r}
	h.count(r)
	for wake := range h.followers {
		wake.Ring()
	}
}

func (h *History) slot(number uint64) int { return int((number - 1) % uint64(len(h.entries))) }

// oldest is the number of the oldest entry that is kept, or of the next one if there is none.
func (h *History) oldest() uint64 {
	if size := uint64(len(h.entries)); h.last > size {
		return h.last - size + 1
	}
	return 1
}

// Newest returns the number of the newest entry, 0 if there is none yet.
func (h *History) Newest() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Last returns at most n entries that match, the newest first. A nil match is met by all.
func (h *History) Last(n int, match func(Entry) bool) []Entry {
	h.mu.Lock()
	kept := make([]*Entry, 0, min(h.last, uint64(len(h.entries))))
	for number := h.last; number >= h.oldest() && number > 0; number-- {
		kept = append(kept, h.entries[h.slot(number)])
	}
	h.mu.Unlock()
	var found []Entry // match is not ours: it runs without the lock
	for _, e := range kept {
		if len(found) == n {
			break
		}
		if match == nil || match(*e) {
			found = append(found, *e)
		}
	}
	return found
}

// Get returns the entry with a number. It reports false if there is none yet, or none any more.
func (h *History) Get(number uint64) (Entry, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number == 0 || number > h.last || number < h.oldest() {
		return Entry{}, false
	}
	return *h.entries[h.slot(number)], true
}

// Name names an entry beyond this process, as the id of a server-sent event: after a restart of usher, the same number is of another
// entry.
func (h *History) Name(number uint64) string { return fmt.Sprintf("%s-%d", h.id, number) }

// Number returns the number of the entry with a name. For a name that is not of this History it returns 0: Follow then begins with the
// oldest.
func (h *History) Number(name string) uint64 {
	id, digits, _ := strings.Cut(name, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	if id != h.id || err != nil || number > h.Newest() {
		return 0
	}
	return number
}

// Follow hands out the entries with larger numbers than after, the oldest first, and then each new one, until ctx ends or the loop is
// left. With after = 0 it begins with the oldest entry that is kept, with [History.Newest] it hands out new ones only.
//
// The second value is how many entries were missed right before this one, because they were gone before the follower came to them.
func (h *History) Follow(ctx context.Context, after uint64) iter.Seq2[Entry, uint64] {
	return func(yield func(Entry, uint64) bool) {
		wake := alarm.NewBell()
		h.mu.Lock()
		h.followers[wake] = true
		if after == 0 {
			after = h.oldest() - 1
		}
		h.mu.Unlock()
		defer func() {
			h.mu.Lock()
			delete(h.followers, wake)
			h.mu.Unlock()
		}()
		for next := after + 1; ctx.Err() == nil; {
			e, missed := h.next(next)
			if e == nil {
				select {
				case <-wake:
				case <-ctx.Done():
				}
				continue
			}
			if !yield(*e, missed) {
				return
			}
			next = e.Number + 1
		}
	}
}

// next returns the entry with a number or, if it is gone, the oldest one and how many are missing before it; nil if it is still to come.
func (h *History) next(number uint64) (*Entry, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > h.last {
		return nil, 0
	}
	from := max(number, h.oldest())
	return h.entries[h.slot(from)], from - number
}

// tallies is for how many minutes tallies are kept.
const tallies = 60

// Tally is how many people were let in, refused, and told to wait in one minute. People who are told again to wait are not counted
// again.
type Tally struct {
	Minute                    time.Time
	Admitted, Refused, Waited int
}

// count counts a decision. Decisions of an earlier minute than the newest one count in their own, as long as it is kept.
func (h *History) count(r component.Report) {
	if r.What != component.Decided {
		return
	}
	minute := r.At.Truncate(time.Minute)
	t := &h.tallies[minuteSlot(minute)]
	switch {
	case minute.Before(t.Minute):
		return
	case minute.After(t.Minute):
		*t = Tally{Minute: minute}
	}
	switch r.Verdict {
	case auth.Allow:
		t.Admitted++
	case auth.Wait:
		t.Waited++
	case auth.Deny:
		t.Refused++
	}
}

func minuteSlot(minute time.Time) int {
	return int(((minute.Unix()/60)%tallies + tallies) % tallies)
}

// Tallies returns the last hour up to now, minute by minute, the oldest first.
func (h *History) Tallies(now time.Time) []Tally {
	all := make([]Tally, tallies)
	first := now.Truncate(time.Minute).Add(-(tallies - 1) * time.Minute)
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := range all {
		minute := first.Add(time.Duration(n) * time.Minute)
		all[n].Minute = minute
		if t := h.tallies[minuteSlot(minute)]; t.Minute.Equal(minute) {
			all[n] = t
		}
	}
	return all
}
