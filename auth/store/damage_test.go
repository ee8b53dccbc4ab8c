package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// damagesEnv sets how many of each kind of damage TestDamaged tries.
const damagesEnv = "STORE_TEST_DAMAGES"

// sample returns the file of a store with records of all kinds and sizes. Its trees have branch pages above branch pages, overflow
// pages, and free pages in between; a few held requests are kept inside the page above.
func sample(t testing.TB, many bool) []byte {
	t.Helper()
	path := NewPath(t)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	var all []Record
	add := func(k Kind, n, key, value int) {
		for range n {
			r := Record{Kind: k, Key: fmt.Sprintf("%08x", random.Uint32()), End: time.Now().Add(time.Hour)}
			r.Key += strings.Repeat("k", random.IntN(key))
			r.Value = make([]byte, random.IntN(value))
			all = append(all, r)
		}
	}
	n := 10
	if many {
		n = 300
	}
	add(KindSession, n, 60, 400)
	add(KindGrant, n, MaxKey/4, 1000)
	if many {
		add(KindHeld, n/10, 100, MaxValue)
	} else {
		add(KindHeld, 2, 10, 100)
	}
	for len(all) > 0 {
		some := all[:min(20, len(all))]
		all = all[len(some):]
		if err := s.Put(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), some[0].Kind, some[0].Key); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// layout has the places in a file that are worth damaging.
type layout struct {
	b        []byte
	size     int
	end      uint64
	pages    []int // where those in use begin that are not headers
	branches []int // where the elements of branch pages are
	leaves   []int // where the elements of leaf pages are
	buckets  []int // where the buckets are: usher's, then those of the kinds
	of       map[Kind]int
}

func layoutOf(t testing.TB, b []byte) *layout {
	t.Helper()
	l := &layout{b: b, size: os.Getpagesize(), of: map[Kind]int{}}
	var p *pages
	var buckets []entry
	var kind func(e entry) error
	kind = func(e entry) error {
		if e.bucket {
			buckets = append(buckets, e)
			_, err := p.bucket(e.value, kind)
			return err
		}
		return nil
	}
	err := checkPages(bytes.NewReader(b), int64(len(b)), l.size, func(its *pages, e entry) error { p = its; return kind(e) })
	if err != nil {
		t.Fatal(err)
	}
	l.end = p.end
	for id := uint64(2); id < p.end; id++ {
		at := int(id) * l.size
		if !p.seen[id] || order.Uint64(b[at:]) != id {
			continue
		}
		l.pages = append(l.pages, at)
		for n := range int(order.Uint16(b[at+10:])) {
			e := at + headLen + n*elementLen
			if order.Uint16(b[at+8:]) == branchPage {
				l.branches = append(l.branches, e)
			} else {
				l.leaves = append(l.leaves, e)
			}
		}
	}
	for _, each := range buckets {
		for _, at := range l.pages { // the same bytes may be in a page that is free
			page := b[at:][:(int(order.Uint32(b[at+12:]))+1)*l.size]
			if in := bytes.Index(page, append(bytes.Clone(each.key), each.value[:bucketLen]...)); in >= 0 {
				in += at + len(each.key)
				l.buckets, l.of[Kind(each.key)] = append(l.buckets, in), in
				break
			}
		}
	}
	return l
}

// some picks one.
func some(of []int, at uint64) int { return of[at%uint64(len(of))] }

// put16, put32 and put64 put a number at a place, and return the file.
func (l *layout) put16(at int, n uint16) []byte { order.PutUint16(l.b[at:], n); return l.b }
func (l *layout) put32(at int, n uint32) []byte { order.PutUint32(l.b[at:], n); return l.b }
func (l *layout) put64(at int, n uint64) []byte { order.PutUint64(l.b[at:], n); return l.b }

// head changes one of the headers, or both, with the right checksum.
func (l *layout) head(at uint64, change func(meta []byte)) {
	for n := range 2 {
		if at%3 == uint64(n) {
			continue
		}
		m := l.b[n*l.size+headLen:][:metaLen]
		change(m)
		sum := fnv.New64a()
		sum.Write(m[:metaLen-8])
		order.PutUint64(m[metaLen-8:], sum.Sum64())
	}
}

// damages are ways to damage a file, each at a place and with a value of its choice.
var damages = []struct {
	name string
	do   func(l *layout, at, value uint64) []byte
}{
	{"a byte", func(l *layout, at, value uint64) []byte {
		l.b[at%(l.end*uint64(l.size))] ^= byte(value%255 + 1)
		return l.b
	}},
	{"a bit of a page's own bytes", func(l *layout, at, value uint64) []byte {
		l.b[some(l.pages, at)+int(value/8%headLen)] ^= 1 << (value % 8)
		return l.b
	}},
	{"number of entries", func(l *layout, at, value uint64) []byte { return l.put16(some(l.pages, at)+10, uint16(value)) }},
	{"few entries", func(l *layout, at, value uint64) []byte { return l.put16(some(l.pages, at)+10, uint16(value%3)) }},
	{"pages that follow", func(l *layout, at, value uint64) []byte { return l.put32(some(l.pages, at)+12, uint32(value)) }},
	{"few pages that follow", func(l *layout, at, value uint64) []byte { return l.put32(some(l.pages, at)+12, uint32(value%5)) }},
	{"kind of page", func(l *layout, at, value uint64) []byte {
		return l.put16(some(l.pages, at)+8, []uint16{0, branchPage, leafPage, 3, 4, freePage}[value%6])
	}},
	{"a bit of a branch", func(l *layout, at, value uint64) []byte {
		l.b[some(l.branches, at)+int(value/8%elementLen)] ^= 1 << (value % 8)
		return l.b
	}},
	{"a bit of an entry", func(l *layout, at, value uint64) []byte {
		l.b[some(l.leaves, at)+int(value/8%elementLen)] ^= 1 << (value % 8)
		return l.b
	}},
	{"a branch to a page of another", func(l *layout, at, value uint64) []byte { // so two refer to it
		return l.put64(some(l.branches, at)+8, uint64(some(l.pages, value)/l.size))
	}},
	{"a branch to a header", func(l *layout, at, value uint64) []byte { return l.put64(some(l.branches, at)+8, value%2) }},
	{"a branch beyond the end", func(l *layout, at, value uint64) []byte { return l.put64(some(l.branches, at)+8, l.end+value%1000) }},
	{"a branch far beyond the end", func(l *layout, at, value uint64) []byte { return l.put64(some(l.branches, at)+8, l.end+value) }},
	{"a branch's key", func(l *layout, at, value uint64) []byte {
		e := some(l.branches, at)
		pos, key := order.Uint32(l.b[e:]), order.Uint32(l.b[e+4:])
		l.b[e+int(pos)+int(value/8)%int(key)] ^= 1 << (value % 8)
		return l.b
	}},
	{"a bucket's page of another", func(l *layout, at, value uint64) []byte {
		return l.put64(some(l.buckets, at), uint64(some(l.pages, value)/l.size))
	}},
	{"a bucket's page beyond the end", func(l *layout, at, value uint64) []byte {
		return l.put64(some(l.buckets, at), []uint64{0, 1, l.end, l.end + value}[value%4])
	}},
	{"a bucket's number", func(l *layout, at, value uint64) []byte { return l.put64(some(l.buckets, at)+8, value) }},
	{"two pages swapped", func(l *layout, at, value uint64) []byte {
		a, b := l.b[some(l.pages, at):][:l.size], l.b[some(l.pages, value):][:l.size]
		was := bytes.Clone(a)
		copy(a, b)
		copy(b, was)
		if at%2 == 0 {
			first, second := order.Uint64(a), order.Uint64(b)
			order.PutUint64(a, second)
			order.PutUint64(b, first)
		}
		return l.b
	}},
	{"a page twice", func(l *layout, at, value uint64) []byte {
		a := l.b[some(l.pages, at):][:l.size]
		copy(a, l.b[some(l.pages, value):][:l.size])
		if at%2 == 0 {
			order.PutUint64(a, uint64(some(l.pages, at)/l.size))
		}
		return l.b
	}},
	{"a page of nothing", func(l *layout, at, value uint64) []byte {
		clear(l.b[some(l.pages, at)+int(value)%l.size:][:headLen])
		return l.b
	}},
	{"cut off", func(l *layout, at, _ uint64) []byte { return l.b[:at%uint64(len(l.b))] }},
	{"cut off at a page", func(l *layout, at, _ uint64) []byte { return l.b[:at%l.end*uint64(l.size)] }},
	{"another root", func(l *layout, at, value uint64) []byte {
		l.head(at, func(m []byte) { order.PutUint64(m[16:], []uint64{value, value % l.end}[value%2]) })
		return l.b
	}},
	{"another list of free pages", func(l *layout, at, value uint64) []byte {
		l.head(at, func(m []byte) { order.PutUint64(m[32:], []uint64{value, value % l.end}[value%2]) })
		return l.b
	}},
	{"another end", func(l *layout, at, value uint64) []byte {
		l.head(at, func(m []byte) { order.PutUint64(m[40:], []uint64{value, value % l.end}[value%2]) })
		return l.b
	}},
	{"another transaction", func(l *layout, at, value uint64) []byte {
		l.head(at, func(m []byte) { order.PutUint64(m[48:], value) })
		return l.b
	}},
	{"another size of pages", func(l *layout, at, value uint64) []byte {
		l.head(at, func(m []byte) {
			order.PutUint32(m[8:], []uint32{0, 1, 1 << 10, 1 << 13, 1 << 31, uint32(value)}[value%6])
		})
		return l.b
	}},
	{"a header", func(l *layout, at, value uint64) []byte {
		l.b[int(at%2)*l.size+headLen+int(value/8%metaLen)] ^= 1 << (value % 8)
		return l.b
	}},
	{"two bytes", func(l *layout, at, value uint64) []byte {
		l.b[at%(l.end*uint64(l.size))] ^= byte(at%255 + 1)
		l.b[value%(l.end*uint64(l.size))] ^= byte(value%255 + 1)
		return l.b
	}},
}

// survives opens a damaged file. Either that is an error which says what to do, and nothing is written; or everything that a store
// does works, again and again. A panic in any goroutine ends the test.
func survives(t testing.TB, path string, damaged []byte) (refused bool) {
	t.Helper()
	os.Remove(path)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") && !strings.Contains(err.Error(), "move the file away") &&
			!strings.Contains(err.Error(), "name another path") {
			t.Errorf("the error does not say what to do: %v", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
			t.Errorf("a file that was refused was written: %v", err)
		}
		return true
	}
	ctx := context.Background()
	for round := range 2 {
		for _, k := range kinds {
			var all []Record
			for r, err := range s.All(ctx, k) {
				if err != nil {
					t.Errorf("All: %v", err)
				}
				all = append(all, r)
			}
			var wait sync.WaitGroup
			for n := range 8 {
				wait.Go(func() {
					var more []Record
					for m := range 12 {
						r := Record{Kind: k, Key: fmt.Sprintf("%d-%d-%d", round, n, m), Value: make([]byte, 100*m), End: time.Now().Add(time.Hour)}
						r.Key = strings.Repeat(string(rune('0'+m)), 20*m) + r.Key
						more = append(more, r)
					}
					if err := s.Put(ctx, more...); err != nil {
						t.Errorf("Put: %v", err)
					}
				})
			}
			wait.Wait()
			// Every other record goes, so that pages are joined; the others change.
			var gone []string
			var left []Record
			for n, r := range all {
				if n%2 == round {
					gone = append(gone, r.Key)
				} else {
					left = append(left, r)
				}
			}
			if err := s.Put(ctx, left...); err != nil {
				t.Errorf("Put: %v", err)
			}
			for _, r := range all {
				if _, err := s.Get(ctx, k, r.Key); err != nil {
					t.Errorf("Get: %v", err)
				}
			}
			if err := s.Delete(ctx, k, gone...); err != nil {
				t.Errorf("Delete: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s, err = Open(path, Options{}); err != nil {
			t.Fatalf("a store that was used does not open again: %v", err)
		}
	}
	for _, k := range kinds {
		var all []string
		for r, err := range s.All(ctx, k) {
			if err != nil {
				t.Errorf("All: %v", err)
			}
			all = append(all, r.Key)
		}
		if err := s.Delete(ctx, k, all...); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return false
}

// TestDamaged: whatever is damaged, a store is refused with an error, or works.
func TestDamaged(t *testing.T) {
	times := fromEnv(t, 2)
	for name, many := range map[string]bool{"few": false, "many": true} {
		whole := sample(t, many)
		if survives(t, NewPath(t), whole) {
			t.Fatal("a store that is whole is refused")
		}
		for n, d := range damages {
			t.Run(name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				path, random := NewPath(t), rand.New(rand.NewPCG(2, uint64(n)))
				refused := 0
				for range times {
					l := layoutOf(t, bytes.Clone(whole))
					if len(l.branches) == 0 && strings.Contains(d.name, "branch") {
						t.Skip("it has no branches")
					}
					at, value := random.Uint64(), random.Uint64()
					damaged := d.do(l, at, value)
					if survives(t, path, damaged) {
						refused++
					}
					if t.Failed() {
						t.Fatalf("at %d with %d", at, value)
					}
				}
				t.Logf("%d of %d were refused", refused, times)
			})
		}
	}
}

func fromEnv(t *testing.T, n int) int {
	if text := os.Getenv(damagesEnv); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestWhole: an undamaged store is never refused, whatever was put and deleted in which order.
func TestWhole(t *testing.T) {
	for n := range fromEnv(t, 3) {
		random := rand.New(rand.NewPCG(4, uint64(n)))
		path := NewPath(t)
		there := map[Kind][]string{}
		for range 8 {
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatalf("seed %d: %v", n, err)
			}
			most, grows := 1+random.IntN(MaxKey), random.IntN(4) > 0
			for range 1 + random.IntN(20) {
				k := kinds[random.IntN(len(kinds))]
				if grows || len(there[k]) == 0 {
					var some []Record
					for range 1 + random.IntN(60) {
						r := Record{Kind: k, Key: strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(most)), End: time.Now().Add(time.Hour)}
						if r.Key = fmt.Sprint(r.Key, random.IntN(100)); len(r.Key) > MaxKey {
							r.Key = r.Key[:MaxKey]
						}
						r.Value = make([]byte, random.IntN(1+random.IntN(MaxValue)))
						there[k] = append(there[k], r.Key)
						some = append(some, r)
					}
					if err := s.Put(t.Context(), some...); err != nil {
						t.Fatal(err)
					}
					continue
				}
				// Whole stretches, or here and there.
				sort.Strings(there[k])
				from := random.IntN(len(there[k]))
				to := from + random.IntN(len(there[k])-from+1)
				gone := there[k][from:to:to]
				if random.IntN(2) == 0 {
					random.Shuffle(len(there[k]), func(i, j int) { there[k][i], there[k][j] = there[k][j], there[k][i] })
				}
				if err := s.Delete(t.Context(), k, gone...); err != nil {
					t.Fatal(err)
				}
				there[k] = append(there[k][:from:from], there[k][to:]...)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// FuzzDamaged damages a store in two ways that the fuzzer chooses.
func FuzzDamaged(f *testing.F) {
	for n := range damages {
		f.Add(uint8(n), uint64(1<<40+n), uint64(3*n), uint8(n+1), uint64(5*n), uint64(n))
	}
	whole := sample(f, true)
	f.Fuzz(func(t *testing.T, what uint8, at, value uint64, also uint8, alsoAt, alsoValue uint64) {
		l := layoutOf(t, bytes.Clone(whole))
		l.b = damages[int(what)%len(damages)].do(l, at, value)
		if also > 0 && len(l.b) == len(whole) {
			l.b = damages[int(also-1)%len(damages)].do(l, alsoAt, alsoValue)
		}
		survives(t, NewPath(t), l.b)
	})
}

// TestReferredTwice: Open finds a page that two buckets or branches refer to, and one beyond the end.
func TestReferredTwice(t *testing.T) {
	whole := sample(t, true)
	path := NewPath(t)
	for name, test := range map[string]struct {
		do    func(l *layout)
		words string
	}{
		"two buckets":               {func(l *layout) { copy(l.b[l.of[KindSession]:][:8], l.b[l.of[KindGrant]:][:8]) }, "is referenced twice"},
		"two branches":              {func(l *layout) { copy(l.b[l.branches[0]+8:][:8], l.b[l.branches[1]+8:][:8]) }, "does not begin with its key"},
		"a bucket beyond the end":   {func(l *layout) { order.PutUint64(l.b[l.of[KindGrant]:], l.end) }, "is not in the file"},
		"a branch beyond the end":   {func(l *layout) { order.PutUint64(l.b[l.branches[0]+8:], l.end) }, "is not in the file"},
		"pages beyond the end":      {func(l *layout) { order.PutUint32(l.b[l.pages[len(l.pages)-1]+12:], 1<<20) }, "goes beyond the end"},
		"a page that is its parent": {func(l *layout) { order.PutUint64(l.b[l.branches[0]+8:], uint64(l.branches[0]/l.size)) }, "is referenced twice"},
	} {
		t.Run(name, func(t *testing.T) {
			l := layoutOf(t, bytes.Clone(whole))
			test.do(l)
			if err := os.WriteFile(path, l.b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), test.words) || !strings.Contains(err.Error(), path) {
				t.Errorf("the error is %v; want %q", err, test.words)
			}
		})
	}
}

// TestSummed: Open finds a record with a changed bit, wherever the bit is.
func TestSummed(t *testing.T) {
	path := NewPath(t)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Kind: KindSession, Key: "the key", Value: []byte(`{"Affiliation":"member"}`), End: time.Now().Add(time.Hour)}
	if err := errors.Join(s.Put(t.Context(), r), s.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stored := append([]byte(r.Key), encode(r)...)
	if !bytes.Contains(whole, stored) {
		t.Fatal("the record is not in the file")
	}
	for bit := range 8 * len(stored) {
		b := bytes.ReplaceAll(whole, stored, flipped(stored, bit)) // pages that were free before, too
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
}

func flipped(b []byte, bit int) []byte {
	b = bytes.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
