package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// end is the end of the records of these tests, which no store changes.
var end = time.Now().Add(time.Hour).Round(0).UTC()

func grant(key, value string) Record {
	return Record{Kind: KindGrant, Key: key, Value: []byte(value), End: end}
}

// killed returns a copy of a store's files as they are now, as if its process had been killed.
func (s *bolt) killed(t testing.TB) (path string) {
	t.Helper()
	path = NewPath(t)
	s.writing.Lock() // in the middle of a checkpoint they would be of two moments
	defer s.writing.Unlock()
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	for _, end := range []string{"", "-journal"} {
		content, err := os.ReadFile(s.path + end)
		if err == nil {
			err = os.WriteFile(path+end, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// values returns the values of all records of a kind.
func values(t testing.TB, s Store, k Kind) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r, err := range s.All(t.Context(), k) {
		if _, twice := all[r.Key]; err != nil || twice || r.Kind != k || !r.End.Equal(end) {
			t.Fatalf("All: %+v, %v", r, err)
		}
		all[r.Key] = string(r.Value)
	}
	return all
}

// opens opens a store that was killed, and returns its grants.
func opens(t testing.TB, path string) map[string]string {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := values(t, s, KindGrant)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-journal"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a closed store leaves its journal: %v", err)
	}
	return all
}

// slow keeps the journal from being written into the file by time.
func (s *bolt) slow() *bolt {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.due.Stop()
	s.journal.due = time.AfterFunc(24*time.Hour, func() {})
	return s
}

func mustPut(t testing.TB, s Store, records ...Record) {
	t.Helper()
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
}

// TestJournal: grants and sessions wait for no disk, are there at once, and outlive the process. What must last takes them along.
func TestJournal(t *testing.T) {
	s := opened(t, Options{}).slow()
	before := s.transaction(t)
	mustPut(t, s, grant("a", "1"), Record{Kind: KindSession, Key: "s", Value: []byte("of a"), End: end})
	mustPut(t, s, grant("b", "1"))
	mustPut(t, s, grant("b", "2"), grant("c", "1"))
	if err := s.Delete(t.Context(), KindGrant, "a", "nobody"); err != nil {
		t.Fatal(err)
	}
	if n := s.transaction(t) - before; n != 0 {
		t.Errorf("they waited for the disk %d times", n)
	}
	want := map[string]string{"b": "2", "c": "1"}
	has := func(what string, got map[string]string) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: the grants are %q; want %q", what, got, want)
		}
	}
	has("at once", values(t, s, KindGrant))
	if r, err := s.Get(t.Context(), KindSession, "s"); err != nil || string(r.Value) != "of a" {
		t.Errorf("Get = %+v, %v", r, err)
	}
	if _, err := s.Get(t.Context(), KindGrant, "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a deleted grant: %v", err)
	}
	has("killed", opens(t, s.killed(t)))
	for what, lasts := range map[string]func() error{
		"revocation": func() error { return s.Put(t.Context(), Record{Kind: KindRevocation, Key: "x", End: end}) },
		"logout":     func() error { return s.Delete(t.Context(), KindSession, "s") },
		"one-time token": func() error {
			_, _, err := s.Add(t.Context(), Record{Kind: KindUsed, Key: "x", End: end})
			return err
		},
	} {
		mustPut(t, s, grant("b", what))
		want["b"] = what
		before := s.transaction(t)
		if err := lasts(); err != nil {
			t.Fatal(err)
		}
		if n := s.transaction(t) - before; n != 1 {
			t.Errorf("%s: %d writes", what, n)
		}
		has(what, values(t, s, KindGrant))
		if content, err := os.ReadFile(s.journal.path); err != nil || len(content) > 0 {
			t.Errorf("%s: the journal still has %d bytes, %v", what, len(content), err)
		}
	}
	mustPut(t, s, grant("d", "1"))
	want["d"] = "1"
	has("killed again", opens(t, s.killed(t)))
	if info, err := os.Stat(s.journal.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal has mode %v, %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	has("closed", opens(t, s.path))
}

// TestJournalInTime: what is in the journal is soon in the file, although nothing else is written.
func TestJournalInTime(t *testing.T) {
	warned := make(chan struct{}) // when the file has it, and is nearly full
	s := opened(t, Options{MaxBytes: 64, Warn: func(Kind, int64, int64) { close(warned) }})
	s.journal.mu.Lock()
	s.journal.left[KindGrant] = 1000
	s.journal.mu.Unlock()
	mustPut(t, s, grant("a", "1"))
	select {
	case <-warned:
	case <-time.After(time.Minute):
		t.Fatal("it stays in the journal")
	}
	if got := opens(t, s.killed(t)); got["a"] != "1" {
		t.Errorf("the file has %q", got)
	}
}

// TestJournalWhileMoving: while a checkpoint is under way, changes wait for nothing, and count after what it writes, also if it fails and
// the process is then killed.
func TestJournalWhileMoving(t *testing.T) {
	for name, fails := range map[string]error{"written": nil, "failed": errors.New("bad sector")} {
		t.Run(name, func(t *testing.T) {
			var told []error
			s := opened(t, Options{Late: func(err error) { told = append(told, err) }}).slow()
			mustPut(t, s, grant("a", "1"), grant("b", "1"), grant("c", "1"))
			for range 2 {
				moving, goOn := make(chan struct{}), make(chan struct{})
				ended := make(chan error)
				go func() {
					ended <- s.write(func(*writer) error {
						close(moving)
						<-goOn
						return fails
					})
				}()
				<-moving
				mustPut(t, s, grant("a", "2"))
				if err := s.Delete(t.Context(), KindGrant, "b"); err != nil {
					t.Fatal(err)
				}
				want := map[string]string{"a": "2", "c": "1"}
				if got := values(t, s, KindGrant); !maps.Equal(got, want) {
					t.Errorf("meanwhile the grants are %q", got)
				}
				close(goOn)
				if err := <-ended; (err == nil) != (fails == nil) {
					t.Fatal(err)
				}
				if got := values(t, s, KindGrant); !maps.Equal(got, want) {
					t.Errorf("afterwards the grants are %q", got)
				}
				if got := opens(t, s.killed(t)); !maps.Equal(got, want) {
					t.Errorf("after a restart the grants are %q", got)
				}
			}
			if fails == nil != (len(told) == 0) || len(told) > 1 || len(told) == 1 && !strings.Contains(told[0].Error(), s.path) {
				t.Errorf("told of %v", told)
			}
			s.checkpoint()
			if got := opens(t, s.killed(t)); !maps.Equal(got, map[string]string{"a": "2", "c": "1"}) {
				t.Errorf("at last the grants are %q", got)
			}
		})
	}
}

// TestJournalBounded: the journal does not grow beyond its bounds, whether the file takes what it has or not.
func TestJournalBounded(t *testing.T) {
	s := opened(t, Options{}).slow()
	large := strings.Repeat("v", MaxValue)
	for n := range 3 * journalMax / MaxValue {
		mustPut(t, s, grant(fmt.Sprint(n), large))
	}
	content, err := os.ReadFile(s.journal.path)
	if err != nil || len(content) > journalMax {
		t.Errorf("the journal has %d bytes, %v", len(content), err)
	}
	if n := len(values(t, s, KindGrant)); n != 3*journalMax/MaxValue {
		t.Errorf("there are %d grants", n)
	}
	// A kind has no more records than may be in the file.
	s = opened(t, Options{MaxBytes: 64 << 10}).slow()
	for n := 0; err == nil; n++ {
		err = s.Put(t.Context(), grant(fmt.Sprint(n), "value"))
	}
	if a := s.accounts[KindGrant]; !errors.Is(err, ErrFull) || a.bytes > a.of || a.bytes < a.of/2 || len(s.journal.waits.items) > 0 {
		t.Errorf("Put: %v, with %+v", err, a)
	}
}

// TestTorn: a journal that is torn, at whichever byte, has all entries before. One that is damaged in the middle is refused.
func TestTorn(t *testing.T) {
	s := opened(t, Options{}).slow()
	var sizes []int
	for n := range 4 {
		mustPut(t, s, grant(fmt.Sprint("grant ", n), "value"), grant("last", fmt.Sprint(n)))
		sizes = append(sizes, int(s.journal.size))
	}
	path := s.killed(t)
	whole, err := os.ReadFile(path + "-journal")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	number := s.journal.number
	if len(whole) != sizes[3] {
		t.Fatalf("the journal has %d bytes", len(whole))
	}
	for at := range len(whole) {
		before, _ := slices.BinarySearch(sizes, at+1)
		for name, torn := range map[string][]byte{
			"cut off": whole[:at], "zeros": append(bytes.Clone(whole[:at]), make([]byte, len(whole)-at)...), "more": append(bytes.Clone(whole[:at]), "garbage"...),
		} {
			items, err := readJournal(torn, number)
			if err != nil || len(items) != 2*before {
				t.Fatalf("%s at byte %d: %d changes, %v; want %d", name, at, len(items), err, 2*before)
			}
		}
		_, err := readJournal(flipped(whole, 8*at+at%8), number)
		if inLast := at >= sizes[2]; (err == nil) != inLast {
			t.Fatalf("a changed bit in byte %d: %v", at, err)
		}
	}
	for cut, want := range map[int]string{len(whole): "3", len(whole) - 1: "2", sizes[0]: "0", sizes[0] - 1: "", 0: ""} {
		path := NewPath(t)
		if err := errors.Join(os.WriteFile(path, file, 0o600), os.WriteFile(path+"-journal", whole[:cut], 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := opens(t, path)["last"]; got != want {
			t.Errorf("cut off at byte %d the last is %q; want %q", cut, got, want)
		}
	}
	damaged := flipped(whole, 8*20)
	if err := os.WriteFile(path+"-journal", damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), path+"-journal, is damaged") || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a damaged journal: %v", err)
	}
	for path, want := range map[string][]byte{path: file, path + "-journal": damaged} {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, want) {
			t.Errorf("%s was written to: %v", path, err)
		}
	}
	if err := os.Remove(path + "-journal"); err != nil {
		t.Fatal(err)
	}
	if got := opens(t, path); len(got) > 0 {
		t.Errorf("without the journal there is %q", got)
	}
}

// TestUnwritten: blocks of a journal that a machine without power has not written, and so are zeros, do not keep usher from starting, wherever
// they are. What comes before them counts.
func TestUnwritten(t *testing.T) {
	const number, block = 1<<63 + 5, 4096
	var whole []byte
	var ends []int
	for n := 0; len(whole) < 5*block; n++ {
		whole = appendEntry(whole, number, itemsOf(time.Unix(0, 0), grant(fmt.Sprint(n), strings.Repeat("v", n%700))))
		ends = append(ends, len(whole))
	}
	for from := 0; from < len(whole); from += block {
		for to := from + block; to <= len(whole); to += block {
			zeros := bytes.Clone(whole)
			clear(zeros[from:to])
			want, _ := slices.BinarySearch(ends, from+1)
			if items, err := readJournal(zeros, number); err != nil || len(items) != want {
				t.Errorf("zeros from byte %d to %d: %d changes, %v; want %d", from, to, len(items), err, want)
			}
		}
	}
}

// TestJournalOfAnother: a journal beside another file than its own, such as one that a backup has replaced, changes nothing.
func TestJournalOfAnother(t *testing.T) {
	s := opened(t, Options{}).slow()
	mustPut(t, s, grant("a", "1"))
	backup := s.killed(t) // without a change of the file
	s.checkpoint()
	mustPut(t, s, grant("a", "2"))
	late := s.killed(t)
	other := opened(t, Options{}).slow()
	mustPut(t, other, grant("b", "1"))
	for name, files := range map[string]struct {
		file, journal string
		want          map[string]string
	}{
		"a later file":   {late, backup, map[string]string{"a": "1"}},
		"another store":  {late, other.killed(t), map[string]string{"a": "1"}},
		"no file at all": {"", late, map[string]string{}},
		"its own":        {late, late, map[string]string{"a": "2"}},
	} {
		path := NewPath(t)
		for from, to := range map[string]string{files.file: path, files.journal + "-journal": path + "-journal"} {
			if from == "" {
				continue
			}
			content, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := opens(t, path); !maps.Equal(got, files.want) {
			t.Errorf("%s: the grants are %q; want %q", name, got, files.want)
		}
	}
}

// TestJournalNoFile: a journal that cannot be opened stops the start.
func TestJournalNoFile(t *testing.T) {
	path := NewPath(t)
	if err := os.Mkdir(path+"-journal", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), path+"-journal") {
		t.Errorf("the error is %v", err)
	}
}

// TestJournalModel: whatever is done, whenever the process is killed or the journal cannot be written, a store has what Memory has and
// answers what Memory answers.
func TestJournalModel(t *testing.T) {
	keys := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	kinds := []Kind{KindGrant, KindSession, KindRevocation}
	someKinds := rapid.SampledFrom(kinds)
	rapid.Check(t, func(rt *rapid.T) {
		now := end.Add(-time.Hour)
		o := Options{Now: func() time.Time { return now }}
		oracle := Memory(o)
		s := opened(t, o).slow()
		// both does something with both stores. It returns what it is told.
		both := func(do func(s Store) (string, error)) {
			rt.Helper()
			want, err := do(oracle)
			got, other := do(s)
			if err := errors.Join(err, other); err != nil {
				rt.Fatal(err)
			}
			if got != want {
				rt.Fatalf("got %s; want %s", got, want)
			}
		}
		record := func(rt *rapid.T) Record {
			r := Record{Kind: someKinds.Draw(rt, "kind"), Key: keys.Draw(rt, "key"), Value: []byte(rapid.StringN(0, 3, 9).Draw(rt, "value"))}
			r.End = now.Add(rapid.SampledFrom([]time.Duration{-time.Minute, 0, time.Minute, time.Hour, time.Hour}).Draw(rt, "end"))
			return r
		}
		opens := func(path string) {
			next, err := Open(path, o)
			if err != nil {
				rt.Fatal(err)
			}
			s = next.(*bolt).slow()
		}
		closes := func() {
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		}
		// changed changes the journal.
		changed := func(do func(j *journal)) {
			s.journal.mu.Lock()
			defer s.journal.mu.Unlock()
			do(s.journal)
		}
		reopened := func(flag int) {
			changed(func(j *journal) {
				file, err := os.OpenFile(j.path, flag, 0)
				if err = errors.Join(err, j.file.Close()); err != nil {
					rt.Fatal(err)
				}
				j.file = file
			})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				records := rapid.SliceOfN(rapid.Custom(record), 1, 3).Draw(rt, "records")
				both(func(s Store) (string, error) { return "", s.Put(t.Context(), records...) })
			},
			"add": func(rt *rapid.T) {
				r := record(rt)
				both(func(s Store) (string, error) {
					there, added, err := s.Add(t.Context(), r)
					return fmt.Sprintf("%q %v, added %t", there.Value, there.End, added), err
				})
			},
			"swap": func(rt *rapid.T) {
				r, old := record(rt), Record{Value: []byte("another")}
				if rapid.IntRange(0, 3).Draw(rt, "of another") > 0 {
					old, _ = oracle.Get(t.Context(), r.Kind, r.Key)
				}
				old.Kind, old.Key = r.Kind, r.Key
				both(func(s Store) (string, error) {
					swapped, err := s.Swap(t.Context(), old, r)
					return fmt.Sprintf("swapped %t", swapped), err
				})
			},
			"get": func(rt *rapid.T) {
				k, key := someKinds.Draw(rt, "kind"), keys.Draw(rt, "key")
				both(func(s Store) (string, error) {
					r, err := s.Get(t.Context(), k, key)
					if errors.Is(err, ErrNotFound) {
						return "nothing", nil
					}
					return fmt.Sprintf("%q %v", r.Value, r.End), err
				})
			},
			"delete": func(rt *rapid.T) {
				k, gone := someKinds.Draw(rt, "kind"), rapid.SliceOfN(keys, 0, 3).Draw(rt, "keys")
				both(func(s Store) (string, error) { return "", s.Delete(t.Context(), k, gone...) })
			},
			"checkpoint": func(*rapid.T) { s.checkpoint() },
			"failed checkpoint": func(*rapid.T) {
				if err := s.write(func(*writer) error { return errors.New("bad sector") }); err == nil {
					rt.Fatal("no error")
				}
			},
			"killed": func(*rapid.T) {
				path := s.killed(t)
				closes()
				opens(path)
			},
			"stopped":     func(*rapid.T) { closes(); opens(s.path) },
			"time passes": func(*rapid.T) { now = now.Add(40 * time.Second) },
			// The next changes are written into the file.
			"no room": func(*rapid.T) { changed(func(j *journal) { clear(j.left) }) },
			// A disk that is full takes a part of an entry.
			"torn": func(rt *rapid.T) {
				entry := appendEntry(nil, s.journal.number, itemsOf(time.Unix(0, 0), grant("a", strings.Repeat("v", 99))))
				part := entry[:rapid.IntRange(1, len(entry)-1).Draw(rt, "part")]
				changed(func(j *journal) { _, _ = j.file.WriteAt(part, j.size) })
			},
			"the journal cannot be written": func(*rapid.T) { reopened(os.O_RDONLY) },
			"the journal can be written":    func(*rapid.T) { reopened(os.O_RDWR) },
			"": func(*rapid.T) {
				for _, k := range kinds {
					both(func(s Store) (string, error) {
						all := map[string]string{}
						for r, err := range s.All(t.Context(), k) {
							if _, twice := all[r.Key]; err != nil || twice {
								return "", fmt.Errorf("%s %q: %w", k, r.Key, err)
							}
							all[r.Key] = fmt.Sprintf("%q %v", r.Value, r.End)
						}
						return fmt.Sprint(k, all), nil
					})
				}
			},
		})
		closes()
	})
}

// TestNoneAfterAnother: what another usher has written, after this one has read the file and while it waited for its end, is there. Both
// may read the file at once.
func TestNoneAfterAnother(t *testing.T) {
	path := NewPath(t)
	mustOpen := func() *bolt {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s.(*bolt)
	}
	if err := mustOpen().Close(); err != nil {
		t.Fatal(err)
	}
	waits := newBolt(path, Options{})
	if err := waits.whole(); err != nil {
		t.Fatal(err)
	}
	another := mustOpen()
	mustPut(t, another, Record{Kind: KindRevocation, Key: "a", End: end})
	if err := another.Close(); err != nil {
		t.Fatal(err)
	}
	if err := waits.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := waits.Get(t.Context(), KindRevocation, "a"); err != nil {
		t.Errorf("Get of a revocation: %v", err)
	}
	if err := waits.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzJournal reads journals that the fuzzer makes. What is read is what an entry has, and nothing that is written is lost.
func FuzzJournal(f *testing.F) {
	const number = 1<<63 + 5
	items := itemsOf(time.Unix(0, 0), grant("key", "value"), Record{Kind: KindSession, Key: "s", End: end}, grant("ended", ""))
	items[2].value = nil
	one := appendEntry(nil, number, items)
	f.Add(one)
	f.Add(appendEntry(one, number+1, items[2:]))
	f.Add(appendEntry(bytes.Clone(one), number-1, items[:1]))
	f.Add(append(bytes.Clone(one), one[:20]...))
	f.Add(append(make([]byte, 30), one...))
	f.Add(appendEntry(nil, number, []item{{recordKey{"unknown", "key"}, nil}}))
	f.Add(appendEntry(nil, number, []item{{recordKey{KindGrant, "key"}, []byte("without a checksum")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		read, err := readJournal(b, number)
		if err != nil {
			if read != nil {
				t.Fatalf("%v, and %d changes", err, len(read))
			}
			return
		}
		for _, i := range read {
			if known(i.kind) != nil || i.key == "" || len(i.key) > MaxKey || len(i.value) > sumLen+endLen+MaxValue {
				t.Fatalf("a change of %q %q", i.kind, i.key)
			}
		}
		again, err := readJournal(appendEntry(nil, number, read), number)
		if err != nil || !slices.EqualFunc(again, read, func(a, b item) bool { return a.recordKey == b.recordKey && bytes.Equal(a.value, b.value) }) {
			t.Fatalf("%d changes are read again as %d, %v", len(read), len(again), err)
		}
	})
}

// TestNone: an empty kind is known without a look into the file, and only as long as it is empty.
func TestNone(t *testing.T) {
	s := opened(t, Options{})
	for range 2 {
		if !s.none(KindRevocation) {
			t.Error("there is a revocation")
		}
		mustPut(t, s, Record{Kind: KindRevocation, Key: "a", Value: []byte("1"), End: end})
		if _, err := s.Get(t.Context(), KindRevocation, "a"); err != nil || s.none(KindRevocation) {
			t.Errorf("Get: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), KindRevocation, "nobody"); !errors.Is(err, ErrClosed) {
			t.Errorf("Get of a closed store: %v", err)
		}
		next, err := Open(s.path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s = next.(*bolt)
		if s.none(KindRevocation) {
			t.Error("a revocation is lost")
		}
		if err := s.Delete(t.Context(), KindRevocation, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
