package store

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory returns a store that forgets all when the process ends.
func Memory(o Options) Store {
	o = o.orDefaults()
	m := &memory{now: o.Now, limit: o.Limit, records: map[Kind]map[string]Record{}, sweeps: map[Kind]*sweep{}}
	for _, k := range kinds {
		m.records[k], m.sweeps[k] = map[string]Record{}, &sweep{}
	}
	return m
}

type memory struct {
	now   func() time.Time
	limit int

	mu      sync.RWMutex
	closed  bool
	records map[Kind]map[string]Record // the values are never written to
	sweeps  map[Kind]*sweep
}

// Put implements Store.
func (m *memory) Put(ctx context.Context, k Kind, r Record) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	if err := fit(r); err != nil {
		return err
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	records := m.records[k]
	if !now.Before(r.End) {
		delete(records, r.Key)
		return nil
	}
	if _, there := records[r.Key]; !there {
		if s := m.sweeps[k]; s.due(len(records), m.limit, now) {
			for key, each := range records {
				if !now.Before(each.End) {
					delete(records, key)
				}
			}
			s.done(len(records), now)
		}
		if len(records) >= m.limit {
			return ErrFull
		}
	}
	key := strings.Clone(r.Key)
	records[key] = Record{Key: key, Value: bytes.Clone(r.Value), End: r.End.Round(0).UTC()}
	return nil
}

// Get implements Store.
func (m *memory) Get(ctx context.Context, k Kind, key string) (Record, error) {
	if err := begin(ctx, k); err != nil {
		return Record{}, err
	}
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return Record{}, ErrClosed
	}
	r, there := m.records[k][key]
	if !there || !now.Before(r.End) {
		return Record{}, ErrNotFound
	}
	r.Value = bytes.Clone(r.Value)
	return r, nil
}

// Delete implements Store.
func (m *memory) Delete(ctx context.Context, k Kind, keys ...string) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for _, key := range keys {
		delete(m.records[k], key)
	}
	return nil
}

// All implements Store.
func (m *memory) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		records, err := m.live(ctx, k)
		for _, r := range records {
			if err = ctx.Err(); err != nil {
				break
			}
			r.Value = bytes.Clone(r.Value)
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// live returns the records of a kind whose end has not passed, in order.
func (m *memory) live(ctx context.Context, k Kind) ([]Record, error) {
	if err := begin(ctx, k); err != nil {
		return nil, err
	}
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	records := make([]Record, 0, len(m.records[k]))
	for _, r := range m.records[k] {
		if now.Before(r.End) {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return records, nil
}

// Close implements Store.
func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.records = true, nil
	return nil
}
