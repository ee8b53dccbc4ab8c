package webhook

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/store"
)

const (
	// together is the number of records that are written at once.
	together = 250
	// retry is the pause before the store is asked again after an error.
	retry = time.Second
)

// load reads the events of the store that are not known.
func (b *Outbox) load(ctx context.Context, s store.Store) error {
	b.mu.Lock()
	b.renewed = false
	b.mu.Unlock()
	var all []*event
	unreadable := 0
	for r, err := range s.All(ctx, store.KindWebhook) {
		if err != nil {
			b.mu.Lock()
			b.renewed = true
			b.mu.Unlock()
			return err
		}
		e, err := parse(r)
		if err != nil {
			unreadable++
			continue
		}
		b.seq = max(b.seq, e.seq)
		all = append(all, e)
	}
	if unreadable > 0 {
		b.o.Log.Error("webhooks: events in the store cannot be read, and are not sent", zap.Int("events", unreadable))
	}
	slices.SortFunc(all, func(a, b *event) int { return cmp.Compare(a.seq, b.seq) })
	b.add(b.unknown(all))
	return nil
}

// unknown returns the events that neither wait nor are over.
func (b *Outbox) unknown(all []*event) []*event {
	b.mu.Lock()
	defer b.mu.Unlock()
	over := map[string]bool{}
	for _, key := range b.done {
		over[key] = true
	}
	return slices.DeleteFunc(all, func(e *event) bool {
		h := b.hook(e.hook)
		return h == nil || h.has(e) || over[e.key()]
	})
}

// hook returns the hook of a name; nil if there is none. The caller holds mu.
func (b *Outbox) hook(name string) *hook {
	for _, h := range b.hooks {
		if h.name == name {
			return h
		}
	}
	return nil
}

// add adds events that are in the store.
func (b *Outbox) add(all []*event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.o.Now()
	for _, e := range all {
		h := b.hook(e.hook)
		if h == nil { // the configuration has changed
			continue
		}
		if h.add(e, now); h.gone {
			b.bury(h, e, now)
		}
		for h.queued > maxQueued {
			b.bury(h, h.oldest(), now)
		}
	}
	b.due.Ring()
}

// keep writes new events to the store, and deletes from it those that are over, until ctx ends.
func (b *Outbox) keep(ctx context.Context, s store.Store) {
	told := false
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, every) {
			return
		}
		err := b.flush(ctx, s)
		switch {
		case err == nil:
			told = false
			continue
		case !told && ctx.Err() == nil:
			b.o.Log.Warn("webhooks: the store does not take events; they wait", zap.Error(err))
			told = true
		}
		b.wake.Ring()
		if !pause(ctx, retry) {
			return
		}
	}
}

// flush writes all new events, and deletes all that are over.
func (b *Outbox) flush(ctx context.Context, s store.Store) error {
	b.mu.Lock()
	renewed := b.renewed
	b.mu.Unlock()
	if renewed {
		if err := b.load(ctx, s); err != nil {
			return err
		}
	}
	b.convert()
	for len(b.fresh) > 0 {
		some := b.fresh[:min(len(b.fresh), together)]
		if err := b.put(ctx, s, some); err != nil {
			return err
		}
		b.add(some)
		b.fresh = b.fresh[len(some):]
	}
	b.fresh = nil
	return b.delete(ctx, s)
}

// convert makes events of reports.
func (b *Outbox) convert() {
	if len(b.fresh) >= maxReports {
		return
	}
	b.mu.Lock()
	reports := b.reports
	b.reports = nil
	b.mu.Unlock()
	for _, r := range reports {
		e := event{id: "msg_" + rand.Text(), room: r.Room.Bare().String(), at: r.At}
		var err error
		if e.body, err = body(r.kind, r.Report, b.o.Breakout); err != nil {
			continue // it is texts and numbers, so this cannot be
		}
		for _, h := range r.to {
			b.seq++
			its := e
			its.hook, its.seq = h.name, b.seq
			b.fresh = append(b.fresh, &its)
		}
	}
}

// put writes events to the store. If their share of it is full, the oldest events make room.
func (b *Outbox) put(ctx context.Context, s store.Store, events []*event) error {
	records := make([]store.Record, len(events))
	for n, e := range events {
		records[n] = e.record()
	}
	err := s.Put(ctx, records...)
	for own(err) && b.makeRoom(len(events)) {
		if err := b.delete(ctx, s); err != nil {
			return err
		}
		err = s.Put(ctx, records...)
	}
	return err
}

// own reports whether an error says that the share of these events is full, and not the disk.
func own(err error) bool {
	var full *store.FullError
	return errors.As(err, &full) && full.Kind == store.KindWebhook
}

// makeRoom drops the oldest events of the hook with the most. It reports whether there was one.
func (b *Outbox) makeRoom(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.hooks) == 0 {
		return false
	}
	h := slices.MaxFunc(b.hooks, func(a, b *hook) int { return a.queued - b.queued })
	dropped := false
	for range n {
		e := h.oldest()
		if e == nil {
			break
		}
		b.bury(h, e, b.o.Now())
		dropped = true
	}
	return dropped
}

// delete deletes from the store what is over.
func (b *Outbox) delete(ctx context.Context, s store.Store) error {
	for {
		b.mu.Lock()
		some := slices.Clone(b.done[:min(len(b.done), together)])
		b.mu.Unlock()
		if len(some) == 0 {
			return nil
		}
		if err := s.Delete(ctx, store.KindWebhook, some...); err != nil {
			return err
		}
		b.mu.Lock()
		b.done = b.done[len(some):]
		b.mu.Unlock()
	}
}
