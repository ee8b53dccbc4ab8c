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

// memoryOverhead is the bytes that a record uses in memory beside its key and value, measured with 300,000 records.
const memoryOverhead = 200

// Memory returns a store that forgets all when the process ends.
func Memory(o Options) Store {
	o = o.orDefaults(MaxMemory)
	m := &memory{o: o, records: map[Kind]map[string]Record{}, accounts: accounts(o), feed: newFeed()}
	for _, k := range kinds {
		m.records[k] = map[string]Record{}
	}
	return m
}

type memory struct {
	*feed
	o Options

	mu       sync.RWMutex
	closed   bool
	records  map[Kind]map[string]Record // the values are never written to
	accounts map[Kind]*account
}

// memorySize returns the bytes that a record uses.
func memorySize(r Record) int64 { return int64(len(r.Key)+len(r.Value)) + memoryOverhead }

// Put implements Store.
func (m *memory) Put(ctx context.Context, records ...Record) error {
	if err := beginPut(ctx, records); err != nil {
		return err
	}
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.put(now, records...)
}

// put is Put for a caller that holds mu.
func (m *memory) put(now time.Time, records ...Record) error {
	if m.closed {
		return ErrClosed
	}
	added := map[Kind]int64{}
	for _, r := range records {
		if _, there := m.records[r.Kind][r.Key]; !there && now.Before(r.End) {
			added[r.Kind] += memorySize(r)
		}
	}
	for k, n := range added {
		if a := m.accounts[k]; a.due(n, now) {
			m.sweep(k, now)
		}
		if !m.accounts[k].fits(n) {
			return &FullError{Kind: k}
		}
	}
	for _, r := range records {
		m.take(r.Kind, r.Key)
		if !now.Before(r.End) {
			continue
		}
		r.Key, r.Value, r.End = strings.Clone(r.Key), bytes.Clone(r.Value), r.End.Round(0).UTC()
		m.records[r.Kind][r.Key] = r
		m.accounts[r.Kind].add(memorySize(r))
	}
	for k := range added {
		m.accounts[k].warn(m.o)
	}
	return nil
}

// Add implements Store.
func (m *memory) Add(ctx context.Context, r Record) (Record, bool, error) {
	if err := beginPut(ctx, []Record{r}); err != nil {
		return Record{}, false, err
	}
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if there, is := m.records[r.Kind][r.Key]; is && now.Before(there.End) {
		there.Value = bytes.Clone(there.Value)
		return there, false, nil
	}
	err := m.put(now, r)
	return Record{}, err == nil, err
}

// Swap implements Store.
func (m *memory) Swap(ctx context.Context, old, new Record) (bool, error) {
	if err := beginSwap(ctx, old, new); err != nil {
		return false, err
	}
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, ErrClosed
	}
	if there, is := m.records[old.Kind][old.Key]; !is || !now.Before(there.End) || !bytes.Equal(there.Value, old.Value) {
		return false, nil
	}
	err := m.put(now, new)
	return err == nil, err
}

// take deletes a record, if there is one. The caller holds mu.
func (m *memory) take(k Kind, key string) {
	if r, there := m.records[k][key]; there {
		m.accounts[k].less(memorySize(r))
		delete(m.records[k], key)
	}
}

// sweep deletes the ended records of a kind. The caller holds mu.
func (m *memory) sweep(k Kind, now time.Time) {
	looked := len(m.records[k])
	for key, r := range m.records[k] {
		if !now.Before(r.End) {
			m.take(k, key)
		}
	}
	m.accounts[k].swept(m.accounts[k].bytes, looked, now)
}

// sizes implements sized.
func (m *memory) sizes() []Size {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return sizesOf(m.accounts)
}

// none implements sized.
func (m *memory) none(k Kind) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return !m.closed && len(m.records[k]) == 0
}

// Get implements Store.
func (m *memory) Get(ctx context.Context, k Kind, key string) (Record, error) {
	if err := begin(ctx, k); err != nil {
		return Record{}, err
	}
	now := m.o.Now()
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
		m.take(k, key)
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

// live returns the records of a kind that have not ended, in order.
func (m *memory) live(ctx context.Context, k Kind) ([]Record, error) {
	if err := begin(ctx, k); err != nil {
		return nil, err
	}
	now := m.o.Now()
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
	m.feed.close()
	return nil
}
