package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

func TestReopen(t *testing.T) {
	path, clock := store.NewPath(t), storetest.NewClock()
	o := store.Options{Now: clock.Now}
	s := open(t, path, o)
	for n := range 100 {
		put(t, s, store.KindGrant, n%10, clock.Now().Add(time.Duration(n/10+1)*time.Minute))
	}
	put(t, s, store.KindSession, 100, clock.Now().Add(time.Hour))
	o.MaxBytes = 2000 // less than the store has
	for n := range 12 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, o)
		if got := count(t, s, store.KindGrant); got != 9*max(10-n, 0) {
			t.Errorf("after %d minutes there are %d grants", n, got)
		}
		err := s.Put(t.Context(), store.Record{Kind: store.KindSession, Key: "101", End: clock.Now().Add(time.Hour)})
		if !errors.Is(err, store.ErrFull) {
			t.Errorf("what was there does not count: %v", err)
		}
		clock.Forward(time.Minute)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

// TestEndedMakesRoom: a file (and so the memory) is as large as its live records, and ended ones do not make it grow.
func TestEndedMakesRoom(t *testing.T) {
	path, clock := store.NewPath(t), storetest.NewClock()
	s := open(t, path, store.Options{Now: clock.Now})
	var early, late int64
	for n := range 30 {
		put(t, s, store.KindHeld, 1000, clock.Now().Add(time.Minute))
		clock.Forward(time.Minute)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if late = info.Size(); n == 5 {
			early = late
		}
	}
	if late > early {
		t.Errorf("the file grew from %d to %d bytes, though never more than 1000 records lived", early, late)
	}
}

// TestFileSize: the counted bytes of the records are what they use in the file, or a little more, whatever comes and goes.
func TestFileSize(t *testing.T) {
	path, clock := store.NewPath(t), storetest.NewClock()
	const most = 8 << 20
	s := open(t, path, store.Options{Now: clock.Now, MaxBytes: most})
	random := rand.New(rand.NewPCG(3, 3))
	for round := range 3 {
		for _, k := range []store.Kind{store.KindSession, store.KindGrant, store.KindHeld, store.KindWebhook, store.KindLogin, store.KindUsed} {
			for n, full := 0, false; !full; n++ {
				var some []store.Record
				for range 50 {
					r := store.Record{Kind: k, Key: fmt.Sprintf("%08x %0*d", random.Uint32(), random.IntN(120), n)}
					r.Value = make([]byte, random.IntN(700))
					r.End = clock.Now().Add(time.Duration(1+random.IntN(3)) * time.Minute)
					some = append(some, r)
				}
				err := s.Put(t.Context(), some...)
				if full = errors.Is(err, store.ErrFull); err != nil && !full {
					t.Fatal(err)
				}
			}
		}
		db, used := reopened(t, s, path)
		if used > most || used < most/2 {
			t.Errorf("in round %d %d bytes of the file are in use, and at most %d may be", round, used, most)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, store.Options{Now: clock.Now, MaxBytes: most})
		clock.Forward(time.Minute)
	}
}

// TestFormer: a file of an earlier version, with fewer kinds or records without checksums, becomes one of this version.
func TestFormer(t *testing.T) {
	for _, format := range []string{"1", "2", "3", "4"} {
		t.Run(format, func(t *testing.T) { former(t, format) })
	}
}

// TestLatter: an earlier version finds the format of a file in its first key, and says which version wrote it.
func TestLatter(t *testing.T) {
	path := store.NewPath(t)
	if err := open(t, path, store.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		if key, value := tx.Bucket([]byte("usher")).Cursor().First(); string(key) != "format" || string(value) != "5" {
			t.Errorf("the first key is %q, with %q", key, value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func former(t *testing.T, format string) {
	path := store.NewPath(t)
	end := time.Now().Add(time.Hour).UTC()
	former := func(tx *bbolt.Tx) error {
		all, err := tx.CreateBucket([]byte("usher"))
		if err != nil {
			return err
		}
		b, err := all.CreateBucket([]byte("grant"))
		if err != nil {
			return err
		}
		for n := range 2000 {
			value := binary.BigEndian.AppendUint64(nil, uint64(end.Unix()))
			value = binary.BigEndian.AppendUint32(value, uint32(end.Nanosecond()))
			key, value := fmt.Appendf(nil, "%04d", n), fmt.Appendf(value, "value %d", n)
			if format != "1" {
				sum := crc32.Checksum(append(bytes.Clone(key), value...), crc32.MakeTable(crc32.Castagnoli))
				value = append(binary.BigEndian.AppendUint32(nil, sum), value...)
			}
			if err := b.Put(key, value); err != nil {
				return err
			}
		}
		return errors.Join(all.Put([]byte("format"), []byte(format)), b.SetSequence(2000))
	}
	db, err := bbolt.Open(path, 0o600, nil) // with a list of free pages
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(former), db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s := open(t, path, store.Options{})
		n := 0
		for r, err := range s.All(t.Context(), store.KindGrant) {
			if err != nil || r.Key != fmt.Sprintf("%04d", n) || string(r.Value) != fmt.Sprintf("value %d", n) || !r.End.Equal(end) {
				t.Fatalf("the %d. record is %+v, %v", n, r, err)
			}
			n++
		}
		put(t, s, store.KindSession, 10, end)
		if err := s.Close(); n != 2000 || err != nil {
			t.Fatalf("there are %d records; %v", n, err)
		}
	}
	db, _ = reopened(t, open(t, path, store.Options{}), path)
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("usher"))
		if f := string(b.Get([]byte("format"))); f != "5" || len(b.Bucket([]byte("grant")).Get([]byte("0000"))) != 4+12+len("value 0") {
			t.Errorf("the file has format %s", f)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSecondUsher(t *testing.T) {
	path := store.NewPath(t)
	open(t, path, store.Options{})
	_, err := store.Open(path, store.Options{Patience: time.Millisecond})
	wantError(t, err, path, "another usher uses it")
	if !errors.Is(err, store.ErrInUse) {
		t.Error("it is not ErrInUse")
	}
}

// TestNextUsher: an usher that starts while the last one ends waits for it.
func TestNextUsher(t *testing.T) {
	path := store.NewPath(t)
	s := open(t, path, store.Options{})
	put(t, s, store.KindGrant, 1, time.Now().Add(time.Hour))
	opening := make(chan struct{})
	go func() {
		<-opening
		s.Close()
	}()
	close(opening)
	if n := count(t, open(t, path, store.Options{}), store.KindGrant); n != 1 {
		t.Errorf("the next one finds %d grants", n)
	}
}

func TestNoSuchPlace(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		filepath.Join(folder, "missing", "usher.db"): "there is no folder " + filepath.Join(folder, "missing"),
		filepath.Join(file, "usher.db"):              "cannot be opened",
		folder:                                       "not a regular file",
		os.DevNull:                                   "not a regular file",
	} {
		_, err := store.Open(path, store.Options{})
		wantError(t, err, path, words)
	}
}

// TestEmptyFile: an empty file becomes a store. It has nothing to lose, and is what remains if the machine stops at the very start.
func TestEmptyFile(t *testing.T) {
	path := store.NewPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, open(t, path, store.Options{}), store.KindGrant, 1, time.Now().Add(time.Hour))
}

// TestNotOurs: a file that is damaged or another program's is an error, and stays as it is.
func TestNotOurs(t *testing.T) {
	ours := written(t, 2000)
	// other returns a bbolt file; usher returns one with usher's bucket, and withGrant one with a grant in it.
	other := func(write func(tx *bbolt.Tx) error) []byte {
		path := filepath.Join(t.TempDir(), "other.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(write), db.Close()); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	usher := func(write func(all *bbolt.Bucket) error) []byte {
		return other(func(tx *bbolt.Tx) error {
			all, err := tx.CreateBucket([]byte("usher"))
			if err != nil {
				return err
			}
			return write(all)
		})
	}
	withGrant := func(format string, key, value []byte, count uint64) []byte {
		return usher(func(all *bbolt.Bucket) error {
			b, err := all.CreateBucket([]byte("grant"))
			if err != nil {
				return err
			}
			return errors.Join(all.Put([]byte("format"), []byte(format)), b.Put(key, value), b.SetSequence(count))
		})
	}
	zeroed := func(from, to int) []byte {
		b := bytes.Clone(ours)
		clear(b[from:to])
		return b
	}
	page := os.Getpagesize()
	for name, test := range map[string]struct {
		content []byte
		words   string
	}{
		"one byte":       {[]byte("x"), "damaged"},
		"text":           {bytes.Repeat([]byte("usher: a file\n"), 1000), "damaged"},
		"zeros":          {make([]byte, 1<<16), "damaged"},
		"sqlite":         {append([]byte("SQLite format 3\x00"), make([]byte, 1<<14)...), "damaged"},
		"half":           {ours[:len(ours)/2], "pages of"},
		"a page":         {ours[:page], "damaged"},
		"two pages":      {ours[:2*page], "damaged"},
		"three pages":    {ours[:3*page], "damaged"},
		"both headers":   {zeroed(0, 2*page), "damaged"},
		"all but header": {zeroed(2*page, len(ours)), "damaged"},
		"another's bbolt": {other(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("raft"))
			return err
		}), "another program"},
		"another format": {usher(func(all *bbolt.Bucket) error { return all.Put([]byte("format"), []byte("6")) }), "another version"},
		"no format":      {usher(func(*bbolt.Bucket) error { return nil }), "another version"},
		"a record for a bucket": {usher(func(all *bbolt.Bucket) error {
			return errors.Join(all.Put([]byte("format"), []byte("1")), all.Put([]byte("grant"), []byte("1")))
		}), "damaged"},
		"a wrong checksum":   {withGrant("2", []byte("key"), make([]byte, 20), 1), "damaged"},
		"a record too many":  {withGrant("1", []byte("key"), make([]byte, 20), 0), "1 records of 0"},
		"a record too few":   {withGrant("1", []byte("key"), make([]byte, 20), 2), "1 records of 2"},
		"a record too short": {withGrant("1", []byte("key"), make([]byte, 11), 1), "damaged"},
		"a record too long":  {withGrant("1", []byte("key"), make([]byte, store.MaxValue+13), 1), "damaged"},
		"a key too long":     {withGrant("1", make([]byte, store.MaxKey+1), make([]byte, 20), 1), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := store.NewPath(t)
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(path, store.Options{})
			t.Log(err)
			wantError(t, err, path, test.words)
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, test.content) {
				t.Errorf("the file was written to: %v", err)
			}
		})
	}
}

// TestPagesLost: if any page is lost, a store does not open, or still has all records (free pages hold nothing, and one of the two
// headers is enough but for the last change). It never panics.
func TestPagesLost(t *testing.T) {
	ours, path := written(t, 2000), store.NewPath(t)
	random := rand.New(rand.NewPCG(1, 2))
	refused, above := 0, false
	for at := 0; at < len(ours); at += os.Getpagesize() {
		for _, how := range []string{"zero", "random", "other", "key above"} {
			b := bytes.Clone(ours)
			page := b[at:min(at+os.Getpagesize(), len(b))]
			switch how {
			case "zero":
				clear(page)
			case "random":
				for i := range page {
					page[i] = byte(random.Uint32())
				}
			case "other":
				from := random.IntN(len(b)/len(page)) * len(page)
				copy(page, ours[from:])
			case "key above":
				// A branch page (flag 1) begins with 16 bytes, and has 16 for each element: where its key is, from there on,
				// and the key's length.
				if flags, n := binary.NativeEndian.Uint16(page[8:]), binary.NativeEndian.Uint16(page[10:]); flags != 1 || n < 2 {
					continue
				}
				const second = 32
				at, length := binary.NativeEndian.Uint32(page[second:]), binary.NativeEndian.Uint32(page[second+4:])
				page[second+at+length-1]++
			}
			os.Remove(path) // a refused file may keep its lock until the process ends
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(path, store.Options{})
			if err != nil {
				refused++
				above = above || how == "key above"
				continue
			}
			if got := count(t, s, store.KindSession); got != 2000 && at >= 2*os.Getpagesize() {
				t.Errorf("page %d %s: %d records are left", at/os.Getpagesize(), how, got)
			}
			put(t, s, store.KindHeld, 1, time.Now().Add(time.Hour))
			if err := s.Close(); err != nil {
				t.Errorf("page %d %s: Close: %v", at/os.Getpagesize(), how, err)
			}
		}
	}
	if refused == 0 || !above {
		t.Error("nothing that was lost was noticed")
	}
}
