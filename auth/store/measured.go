package store

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Ops are the names of the methods that [Measured] observes.
var Ops = []string{"put", "add", "swap", "get", "delete", "all", "append", "follow"}

// Measured returns the store, and tells observe of each call: which of Ops, how long the store took, and its error.
//
//   - A record that is not there is no error, and nor is a caller that gives up. One for which time runs out is, because the store may
//     be away.
//   - The time that a caller of All spends on the records does not count.
//   - Follow is observed when it has begun, or could not, and again for each error that it yields.
//
// observe is called by the goroutine that calls the store, before it goes on. It must not block.
//
// If the store is a [Checker], so is what Measured returns; its checks are not observed.
func Measured(s Store, observe func(op string, took time.Duration, err error)) Store {
	m := measured{s, observe}
	if c, ok := s.(Checker); ok {
		return measuredChecker{m, c}
	}
	return m
}

type measured struct {
	Store
	observe func(op string, took time.Duration, err error)
}

// measuredChecker is a measured store on a server that usher does not configure.
type measuredChecker struct {
	measured
	checker Checker
}

// Check implements Checker.
func (m measuredChecker) Check(ctx context.Context) ([]string, error) { return m.checker.Check(ctx) }

// sizes and none implement sized.
func (m measured) sizes() []Size    { return Sizes(m.Store) }
func (m measured) none(k Kind) bool { return none(m.Store, k) }

// observed tells of a call that began at that time.
func (m measured) observed(op string, began time.Time, err error) {
	m.tell(op, time.Since(began), err)
}

// tell tells of a call, and of its error if it is one of the store.
func (m measured) tell(op string, took time.Duration, err error) {
	if errors.Is(err, ErrNotFound) || errors.Is(err, context.Canceled) {
		err = nil
	}
	m.observe(op, took, err)
}

func (m measured) Put(ctx context.Context, records ...Record) error {
	began := time.Now()
	err := m.Store.Put(ctx, records...)
	m.observed("put", began, err)
	return err
}

func (m measured) Add(ctx context.Context, r Record) (there Record, added bool, err error) {
	began := time.Now()
	there, added, err = m.Store.Add(ctx, r)
	m.observed("add", began, err)
	return there, added, err
}

func (m measured) Swap(ctx context.Context, old, new Record) (swapped bool, err error) {
	began := time.Now()
	swapped, err = m.Store.Swap(ctx, old, new)
	m.observed("swap", began, err)
	return swapped, err
}

func (m measured) Get(ctx context.Context, k Kind, key string) (Record, error) {
	began := time.Now()
	r, err := m.Store.Get(ctx, k, key)
	m.observed("get", began, err)
	return r, err
}

func (m measured) Delete(ctx context.Context, k Kind, keys ...string) error {
	began := time.Now()
	err := m.Store.Delete(ctx, k, keys...)
	m.observed("delete", began, err)
	return err
}

func (m measured) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var took time.Duration
		var failed error
		began := time.Now()
		for r, err := range m.Store.All(ctx, k) {
			took += time.Since(began)
			failed = err
			goOn := yield(r, err)
			began = time.Now()
			if !goOn {
				break
			}
		}
		m.tell("all", took+time.Since(began), failed)
	}
}

func (m measured) Append(ctx context.Context, e Event) error {
	began := time.Now()
	err := m.Store.Append(ctx, e)
	m.observed("append", began, err)
	return err
}

func (m measured) Follow(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		began, first := time.Now(), true
		for e, err := range m.Store.Follow(ctx) {
			switch {
			case first:
				m.observed("follow", began, err)
			case err != nil:
				m.tell("follow", 0, err)
			}
			first = false
			if !yield(e, err) {
				return
			}
		}
	}
}

// Size is how much room a kind of records takes.
type Size struct {
	Kind Kind
	// Bytes is the room that its records take, and Limit the room that it may take. Records that have ended in the last seconds, or
	// while nothing new came, may still count, and changes of the last second may not.
	Bytes, Limit int64
	// Records is the number of records, counted the same way.
	Records int64
}

// sized is a store that knows how much room it takes, and so what it has nothing of.
type sized interface {
	sizes() []Size
	// none reports whether there are certainly no records of a kind.
	none(k Kind) bool
}

// none reports whether a store knows without looking that it has no records of a kind. A decision asks several times for revocations and
// bars, and mostly there are none: then no keys are made to ask for.
func none(s Store, k Kind) bool {
	is, ok := s.(sized)
	return ok && is.none(k)
}

// Sizes returns how much room each kind of records takes, sorted by kind. It returns nothing for a Redis: its memory is its own affair.
// It is cheap. Any goroutine may call it.
func Sizes(s Store) []Size {
	if s, ok := s.(sized); ok {
		return s.sizes()
	}
	return nil
}

// sizesOf returns the sizes of accounts. The caller holds the lock that guards them.
func sizesOf(accounts map[Kind]*account) []Size {
	all := make([]Size, 0, len(kinds))
	for _, k := range kinds {
		a := accounts[k]
		all = append(all, Size{Kind: k, Bytes: a.bytes, Limit: a.of, Records: a.records})
	}
	return all
}
