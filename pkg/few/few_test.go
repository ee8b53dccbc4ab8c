package few

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A Map does what Go's map does, in the order of its keys.
func TestMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Map[int]
		model := map[string]int{}
		key := rapid.StringMatching("[ab]{0,3}")
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), rapid.Int().Draw(t, "value")
				m.Put(k, v)
				model[k] = v
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				m.Delete(k)
				delete(model, k)
			},
			"get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				want, there := model[k]
				if got, is := m.Get(k); got != want || is != there {
					t.Fatalf("%q is %d, %t; want %d, %t", k, got, is, want, there)
				}
			},
			"": func(t *rapid.T) {
				var keys []string
				for _, e := range m {
					keys = append(keys, e.Key)
					if model[e.Key] != e.Value {
						t.Fatalf("%q is %d, want %d", e.Key, e.Value, model[e.Key])
					}
				}
				if !slices.Equal(keys, slices.Sorted(maps.Keys(model))) {
					t.Fatalf("the keys are %q, want those of %v", keys, model)
				}
			},
		})
	})
}

// A Map has little space that it does not use, and does not keep what was deleted.
func TestSpace(t *testing.T) {
	var m Map[*int]
	for _, key := range []string{"c", "a", "d", "b", "j", "i", "h", "g", "f", "e", "k"} {
		m.Put(key, new(int))
		if n := len(m); cap(m) > n+n/4+2 {
			t.Errorf("%d entries have space for %d", n, cap(m))
		}
	}
	m.Delete("k")
	if left := m[:len(m)+1][len(m)]; left != (Entry[*int]{}) {
		t.Errorf("kept is %v", left)
	}
}
