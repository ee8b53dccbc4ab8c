package store

import (
	"context"
	"iter"
	"strings"
)

// Own returns the store as the usher of one shard uses it. A shard is a server of several that share a store, each with an usher of its
// own. Sessions, those of the portal, revocations and one-time tokens are common to all shards. Grants, held requests, bars, seats, events for
// webhooks, and what is known of rooms are the shard's alone. An usher that starts takes over what it finds of these, and crosses out what
// has no room any more.
//
// The name of a shard has no space in it.
func Own(s Store, shard string) Store { return owned{s, shard + " "} }

type owned struct {
	Store
	prefix string
}

// sizes and none implement sized: the room is the shared store's, and what that has none of, the shard has none of.
func (o owned) sizes() []Size    { return Sizes(o.Store) }
func (o owned) none(k Kind) bool { return none(o.Store, k) }

// key returns the key of the shared store.
func (o owned) key(k Kind, key string) string {
	switch k {
	case KindGrant, KindHeld, KindBar, KindSeat, KindRoom, KindWebhook:
		if key != "" { // which is an error
			return o.prefix + key
		}
	}
	return key
}

func (o owned) record(r Record) Record {
	r.Key = o.key(r.Kind, r.Key)
	return r
}

// mine returns a record of the shared store as the shard knows it.
func (o owned) mine(r Record, key string) Record {
	if r.Key != "" {
		r.Key = key
	}
	return r
}

func (o owned) Put(ctx context.Context, records ...Record) error {
	all := make([]Record, len(records))
	for i, r := range records {
		all[i] = o.record(r)
	}
	return o.Store.Put(ctx, all...)
}

func (o owned) Add(ctx context.Context, r Record) (there Record, added bool, err error) {
	there, added, err = o.Store.Add(ctx, o.record(r))
	return o.mine(there, r.Key), added, err
}

func (o owned) Swap(ctx context.Context, old, new Record) (swapped bool, err error) {
	return o.Store.Swap(ctx, o.record(old), o.record(new))
}

func (o owned) Get(ctx context.Context, k Kind, key string) (Record, error) {
	r, err := o.Store.Get(ctx, k, o.key(k, key))
	return o.mine(r, key), err
}

func (o owned) Delete(ctx context.Context, k Kind, keys ...string) error {
	all := make([]string, len(keys))
	for i, key := range keys {
		all[i] = o.key(k, key)
	}
	return o.Store.Delete(ctx, k, all...)
}

func (o owned) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	if o.key(k, "x") == "x" {
		return o.Store.All(ctx, k)
	}
	return func(yield func(Record, error) bool) {
		for r, err := range o.Store.All(ctx, k) {
			key, mine := strings.CutPrefix(r.Key, o.prefix)
			if err == nil && !mine {
				continue
			}
			if !yield(o.mine(r, key), err) {
				return
			}
		}
	}
}
