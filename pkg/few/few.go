// Package few has maps of few entries each, for a program that has very many of them.
package few

import (
	"slices"
	"strings"
)

// Map maps texts to values. Each of very many maps has few entries, so it takes as little memory as possible: it is a slice in the order of
// the keys, over which callers may range. Put and Delete move the entries behind, so a map may have some thousands at the most. The zero Map
// is empty and ready. It is not safe for more than one goroutine.
type Map[V any] []Entry[V]

// Entry is an entry of a Map.
type Entry[V any] struct {
	Key   string
	Value V
}

// Get returns the value of a key, and whether there is one.
func (m Map[V]) Get(key string) (value V, is bool) {
	if at, is := m.find(key); is {
		return m[at].Value, true
	}
	return value, false
}

// Put gives a key a value.
func (m *Map[V]) Put(key string, value V) {
	at, is := m.find(key)
	if is {
		(*m)[at].Value = value
		return
	}
	*m = slices.Insert(WithSpace(*m), at, Entry[V]{key, value})
}

// Delete deletes a key and its value, if they are there.
func (m *Map[V]) Delete(key string) {
	if at, is := m.find(key); is {
		*m = slices.Delete(*m, at, at+1)
	}
}

func (m Map[V]) find(key string) (at int, is bool) {
	return slices.BinarySearchFunc(m, key, func(e Entry[V], key string) int { return strings.Compare(e.Key, key) })
}

// WithSpace returns a slice with space for one more element, and for few others: append would double it.
func WithSpace[T any](all []T) []T {
	if n := len(all); n == cap(all) {
		all = append(make([]T, 0, n+n/4+2), all...)
	}
	return all
}
