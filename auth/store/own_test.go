package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
)

// TestOwn has two components share a store: each has grants, held requests and the like of its own, and the rest is common.
func TestOwn(t *testing.T) {
	kept, ctx := store.Memory(store.Options{}), t.Context()
	one, two := store.Own(kept, "focus.one.example"), store.Own(kept, "focus.two.example")
	own := []store.Kind{store.KindGrant, store.KindHeld, store.KindBar, store.KindSeat, store.KindRoom, store.KindWebhook}
	common := []store.Kind{store.KindSession, store.KindRevocation, store.KindUsed, store.KindLease}
	record := func(k store.Kind, value string) store.Record {
		return store.Record{Kind: k, Key: "key", Value: []byte(value), End: time.Now().Add(time.Hour)}
	}
	keys := func(s store.Store, k store.Kind) (all []string) {
		for r, err := range s.All(ctx, k) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r.Key+"="+string(r.Value))
		}
		return all
	}
	for _, k := range slices.Concat(own, common) {
		alone := slices.Contains(own, k)
		if err := one.Put(ctx, record(k, "1")); err != nil {
			t.Fatal(err)
		}
		there, added, err := two.Add(ctx, record(k, "2"))
		if err != nil || added != alone || !added && (there.Key != "key" || string(there.Value) != "1") {
			t.Errorf("%s: Add returns %+v, %t, %v", k, there, added, err)
		}
		if got, err := one.Get(ctx, k, "key"); err != nil || got.Key != "key" || string(got.Value) != "1" {
			t.Errorf("%s: Get returns %+v, %v", k, got, err)
		}
		if got := keys(one, k); !slices.Equal(got, []string{"key=1"}) {
			t.Errorf("%s: All yields %v", k, got)
		}
		if swapped, err := two.Swap(ctx, record(k, "1"), record(k, "3")); err != nil || swapped == alone {
			t.Errorf("%s: Swap returns %t, %v", k, swapped, err)
		}
		if err := two.Delete(ctx, k, "key"); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Get(ctx, k, "key"); errors.Is(err, store.ErrNotFound) == alone {
			t.Errorf("%s: after Delete by the other one Get returns %v", k, err)
		}
	}
	if err := one.Put(ctx, store.Record{Kind: store.KindGrant, Value: []byte("1"), End: time.Now().Add(time.Hour)}); err == nil {
		t.Error("a record without a key is put")
	}
}
