package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// lockTimeout is the time that Open gives another usher to end, unless the Options say otherwise.
	lockTimeout = 3 * time.Second
	// chunk is the number of records that All reads at a time.
	chunk = 256
	// fileOverhead is the bytes that a page has for a record beside its key and value, and a little more.
	fileOverhead = 32
)

// The bucket "usher" holds a bucket for each kind, and the format, so that usher recognises another program's bbolt file. In the
// bucket of a kind a key maps to a CRC-32C of the key and of what follows it, the end of the record (seconds since 1970 in 8
// bytes, nanoseconds in 4), and the record's value. The bucket's sequence number counts its records, and that of "usher" is the number
// of the journal. Formats 2 to 4 had fewer kinds, and format 1 had no CRC.
var (
	usherBucket    = []byte("usher")
	formatKey      = []byte("format") // comes before the names of all kinds: earlier versions look no further than the first key
	format         = []byte("5")
	formatUnsummed = []byte("1")
	readable       = [][]byte{format, []byte("4"), []byte("3"), []byte("2"), formatUnsummed}
)

const sumLen, endLen = 4, 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("a record is damaged")

// Open opens the store in a file. It creates the file if there is none or it is empty, and converts a file of an earlier version.
// Errors are for the operator: they name the path, and say what to do.
func Open(path string, o Options) (Store, error) {
	s := newBolt(path, o)
	if err := s.whole(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func newBolt(path string, o Options) *bolt {
	o = o.orDefaults(MaxBytes)
	return &bolt{path: path, o: o, accounts: accounts(o), feed: newFeed()}
}

// open opens a file that is whole.
func (s *bolt) open() error {
	// NoFreelistSync: bbolt finds the free pages again at each start, from the pages in use. A list that is not in the file cannot
	// be damaged, and each Put writes less.
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
			Timeout: s.o.Patience, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		})
		return err
	})
	if err != nil {
		return openError(s.path, err)
	}
	if err := s.prepare(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	for _, a := range s.accounts {
		a.warn(s.o)
	}
	s.counted()
	s.journal.moved(true, s.left())
	return nil
}

// guard runs f, and turns a panic and an unreadable page into an error: bbolt maps the file into memory.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil { // the value is not told, because it may contain a key
			err = errors.New("its pages cannot be read, or do not fit together")
		}
	}()
	return f()
}

// whole returns an error unless the path is free, or is a store of usher in which every page and every record is right. It counts
// the bytes of the records.
func (s *bolt) whole() error {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return openError(s.path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("store %s: not a regular file; name a file, in a folder that usher may write into", s.path)
	case info.Size() == 0:
		return nil
	}
	// bbolt.Open takes the lock, so that nobody writes the file meanwhile. It reads nothing but the headers.
	var file *os.File
	opened := func(name string, flag int, mode fs.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	return guard(func() error {
		db, err := bbolt.Open(s.path, 0, &bbolt.Options{ReadOnly: true, Timeout: s.o.Patience, NoStatistics: true, OpenFile: opened})
		if err != nil {
			return openError(s.path, err)
		}
		defer db.Close() // it was only read
		if info, err = file.Stat(); err != nil {
			return openError(s.path, err)
		}
		err = s.read(file, info.Size(), db.Info().PageSize)
		var unread *fs.PathError
		switch {
		case errors.As(err, &unread):
			return openError(s.path, err)
		case err != nil && !errors.As(err, &foreign{}):
			return damaged(s.path, err)
		}
		return err
	})
}

// foreign is the error of a file that is not damaged but not for this usher.
type foreign struct{ error }

// read checks the whole file.
func (s *bolt) read(file io.ReaderAt, length int64, pageSize int) error {
	return checkPages(file, length, pageSize, func(p *pages, e entry) error {
		if !e.bucket || !bytes.Equal(e.key, usherBucket) {
			return foreign{fmt.Errorf("store %s: this file belongs to another program; name another path", s.path)}
		}
		var wrote []byte // the format
		var found []entry
		_, err := p.bucket(e.value, func(e entry) error {
			if !e.bucket && bytes.Equal(e.key, formatKey) {
				wrote = e.value
			} else {
				found = append(found, e)
			}
			return nil
		})
		if err == nil {
			err = s.knows(wrote)
		}
		for _, e := range found {
			if err == nil && (!e.bucket || known(Kind(e.key)) != nil) {
				err = errDamaged
			}
			if err == nil {
				err = s.readKind(p, e, wrote)
			}
		}
		return err
	})
}

// knows returns an error unless this version of usher can read a format.
func (s *bolt) knows(wrote []byte) error {
	if slices.ContainsFunc(readable, func(f []byte) bool { return bytes.Equal(f, wrote) }) {
		return nil
	}
	return foreign{fmt.Errorf("store %s: written by another version of usher, in format %.20q, and this one reads %q; run that version, or "+
		"move the file away", s.path, wrote, format)}
}

// readKind checks the records of a kind and counts their bytes.
func (s *bolt) readKind(p *pages, e entry, wrote []byte) error {
	a := s.accounts[Kind(e.key)]
	a.bytes, a.records = 0, 0
	count, err := p.bucket(e.value, func(e entry) error {
		if e.bucket || len(e.key) > MaxKey {
			return errDamaged
		}
		if bytes.Equal(wrote, formatUnsummed) {
			e.value = summed(e.key, e.value)
		}
		r, err := decode(e.key, e.value)
		if err != nil || len(r.Value) > MaxValue {
			return errDamaged
		}
		a.add(fileSize(e.key, e.value))
		return nil
	})
	if err == nil && uint64(a.records) != count {
		err = fmt.Errorf("%d records of %d are there", a.records, count)
	}
	a.swept(a.bytes, int(a.records), time.Time{})
	return err
}

func damaged(path string, err error) error {
	return fmt.Errorf("store %s: not a store of usher, or damaged (%w); put a backup in its place, or move it away: usher then "+
		"creates a new one, and people need their tokens again", path, err)
}

// openError says why a file could not be opened, and what to do.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("store %s: %w; to have one usher only, stop that one", path, ErrInUse)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store %s: there is no folder %s; create it, and let usher write into it", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("store %s: usher may not read and write it (%w); let usher own the file and the folder", path, err)
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("store %s: cannot be opened: %w", path, err)
	}
	return damaged(path, err)
}

type bolt struct {
	*feed
	path string
	o    Options
	db   *bbolt.DB

	journal *journal
	closing sync.Once

	mu    sync.Mutex
	next  *group // the changes that wait for the group before them
	taken []Size // as of the last group

	writing  sync.Mutex // for the group that is being written
	accounts map[Kind]*account
	unmapped time.Time // when unmap was called last
	late     bool      // the last checkpoint could not be written
}

// prepare creates missing buckets, converts records to the format of this version, writes what the journal has, and so tries that the
// file can be written.
func (s *bolt) prepare() error {
	var number uint64
	err := s.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(usherBucket); b != nil {
			number = b.Sequence()
		}
		return nil
	})
	if err != nil {
		return s.said(err)
	}
	var lacks []item
	if s.journal, lacks, err = openJournal(s.path, number); err != nil {
		return err
	}
	number = firstNumber()
	err = guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(usherBucket)
			if err != nil {
				return err
			}
			unsummed := bytes.Equal(b.Get(formatKey), formatUnsummed)
			for _, k := range kinds {
				records, err := b.CreateBucketIfNotExists([]byte(k))
				if err != nil {
					return err
				}
				s.accounts[k].records = int64(records.Sequence()) // another usher may have written the file since whole read it
				if unsummed {
					if err := rewrite(records); err != nil {
						return err
					}
				}
			}
			w := &writer{bolt: s, tx: tx}
			for _, i := range lacks {
				if err := w.set(i); err != nil {
					return err
				}
			}
			return errors.Join(b.Put(formatKey, format), b.SetSequence(number))
		})
	})
	if err == nil {
		err = s.journal.begins(number, s.checkpoint)
	}
	if err != nil {
		return s.said(errors.Join(err, s.journal.file.Close()))
	}
	return nil
}

// rewrite gives the records of a bucket the checksums that format 1 lacks.
func rewrite(b *bbolt.Bucket) error {
	var all [][2][]byte // a bucket must not change while ForEach goes through it
	err := b.ForEach(func(key, value []byte) error {
		all = append(all, [2][]byte{key, summed(key, value)})
		return nil
	})
	for _, r := range all {
		err = errors.Join(err, b.Put(r[0], r[1]))
	}
	return err
}

// said turns an error of bbolt into one of this package.
func (s *bolt) said(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case noRoom(err):
		err = &FullError{Err: err}
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}

func bucket(tx *bbolt.Tx, k Kind) *bbolt.Bucket { return tx.Bucket(usherBucket).Bucket([]byte(k)) }

// group holds changes that share a sync of the disk: they came while the group before was written. The first of them writes all. So a
// change that comes alone is written at once, and of many that come together each waits for two syncs at most.
type group struct {
	changes []*change
	done    chan struct{} // closed when they are written
}

// change is done wholly or, if do returns an error, not at all. A FullError does not stop the other changes of the group.
type change struct {
	do  func(*writer) error
	err error
}

// writer is a transaction that writes.
type writer struct {
	*bolt
	tx      *bbolt.Tx
	changed bool
}

// write returns when a change is written.
func (s *bolt) write(do func(*writer) error) error {
	c := &change{do: do}
	s.mu.Lock()
	g := s.next
	if g != nil {
		g.changes = append(g.changes, c)
		s.mu.Unlock()
		<-g.done
		return c.err
	}
	g = &group{changes: []*change{c}, done: make(chan struct{})}
	s.next = g
	s.mu.Unlock()
	s.commit(g)
	return c.err
}

// errUnchanged rolls back a transaction that has nothing to write.
var errUnchanged = errors.New("nothing has changed")

// commit writes a group once the one before it is written, and with it all that the journal has.
func (s *bolt) commit(g *group) {
	defer close(g.done)
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()

	moves, number := s.journal.move()
	err := s.transact(moves, number, g.changes)
	if noRoom(err) && moves != nil && s.transact(moves.gone(), 0, nil) == nil { // which may have made room
		err = s.transact(moves, number, g.changes)
	}
	s.journal.moved(err == nil, s.left())
	if err != nil {
		for _, c := range g.changes {
			c.err = s.said(err)
		}
		if moves != nil && !s.late && !errors.Is(err, berrors.ErrDatabaseNotOpen) {
			s.late = true
			s.o.Late(s.said(err))
		}
		return
	}
	if moves != nil {
		s.late = false
	}
	for _, a := range s.accounts {
		a.warn(s.o)
	}
	s.counted()
	s.unmapInTime()
}

// transact writes what the journal had, and then other changes. With that the file has all of the journal before this number; 0 means
// that it lacks some. The caller holds writing.
func (s *bolt) transact(had *changed, number uint64, changes []*change) error {
	before := map[Kind]account{}
	for k, a := range s.accounts {
		before[k] = *a
	}
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			w := &writer{bolt: s, tx: tx}
			if err := w.setAll(had); err != nil {
				return err
			}
			for _, c := range changes {
				if c.err = c.do(w); c.err != nil && !errors.Is(c.err, ErrFull) {
					return c.err
				}
			}
			if had == nil && !w.changed {
				return errUnchanged
			}
			if number == 0 {
				return nil
			}
			return tx.Bucket(usherBucket).SetSequence(number)
		})
	})
	if err == nil || errors.Is(err, errUnchanged) {
		return nil
	}
	for k := range before {
		*s.accounts[k] = before[k]
	}
	return err
}

// checkpoint writes what the journal has.
func (s *bolt) checkpoint() {
	_ = s.write(func(*writer) error { return nil }) // commit tells of an error, and it is tried again
}

// left returns the bytes that each kind has left. The caller holds writing, or is alone.
func (s *bolt) left() map[Kind]int64 {
	left := make(map[Kind]int64)
	for k, a := range s.accounts {
		left[k] = a.of - a.bytes
	}
	return left
}

// unmapEvery is how long pages of the file that bbolt has read count as memory of the process.
const unmapEvery = 10 * time.Second

// unmapInTime has the pages unmapped that bbolt has read. It maps the whole file, and reads all over it in order to write: without this the
// process's memory (RSS) has the file once more, beside the kernel's copy. The caller holds writing.
func (s *bolt) unmapInTime() {
	if time.Since(s.unmapped) < unmapEvery {
		return
	}
	s.unmapped = time.Now()
	time.AfterFunc(unmapEvery, s.unmap)
}

// unmap unmaps all pages of the file; they are mapped again when they are read. It does nothing when the store is closed.
func (s *bolt) unmap() {
	_ = s.view(func(tx *bbolt.Tx) error { // during which bbolt does not map the file anew
		forget(s.db.Info().Data, uintptr(tx.Size()))
		return nil
	})
}

// counted notes the sizes for sizes, which does not wait for the disk. The caller holds writing, or is alone.
func (s *bolt) counted() {
	taken := sizesOf(s.accounts)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = taken
}

// none implements sized. It knows that only of kinds that the file has when a Put is done.
func (s *bolt) none(k Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !brief(k) && slices.ContainsFunc(s.taken, func(of Size) bool { return of.Kind == k && of.Records == 0 })
}

// sizes implements sized.
func (s *bolt) sizes() []Size {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// Put implements Store.
func (s *bolt) Put(ctx context.Context, records ...Record) error {
	if err := beginPut(ctx, records); err != nil {
		return err
	}
	now := s.o.Now()
	items := itemsOf(now, records...)
	if s.journal.take(items) {
		return nil
	}
	return s.write(func(w *writer) error { return w.putAll(now, items) })
}

// itemsOf returns the changes that put records.
func itemsOf(now time.Time, records ...Record) []item {
	items := make([]item, len(records))
	for n, r := range records {
		items[n].recordKey = recordKey{r.Kind, r.Key}
		if now.Before(r.End) {
			items[n].value = encode(r)
		}
	}
	return items
}

// putAll puts records if there is room.
func (w *writer) putAll(now time.Time, items []item) error {
	added := map[Kind]int64{}
	for _, i := range items {
		if i.value != nil && bucket(w.tx, i.kind).Get([]byte(i.key)) == nil {
			added[i.kind] += fileSize(i.key, i.value)
		}
	}
	for k, n := range added {
		if err := w.sweepFor(k, n, now); err != nil {
			return err
		}
		if !w.accounts[k].fits(n) {
			return &FullError{Kind: k}
		}
	}
	for _, i := range items {
		if err := w.set(i); err != nil {
			return err
		}
	}
	return nil
}

// setAll makes changes that are known to have room.
func (w *writer) setAll(all *changed) error {
	if all == nil {
		return nil
	}
	for k, n := range all.bytes {
		if err := w.sweepFor(k, n, w.o.Now()); err != nil {
			return err
		}
	}
	for key, value := range all.items {
		if err := w.set(item{key, value}); err != nil {
			return err
		}
	}
	return nil
}

// Add implements Store.
func (s *bolt) Add(ctx context.Context, r Record) (there Record, added bool, err error) {
	if err := beginPut(ctx, []Record{r}); err != nil {
		return Record{}, false, err
	}
	now := s.o.Now()
	items := itemsOf(now, r)
	err = s.write(func(w *writer) error {
		was, is, err := w.live(now, r.Kind, r.Key)
		if there, added = was, !is; err != nil || is {
			return err
		}
		return w.putAll(now, items)
	})
	if err != nil {
		return Record{}, false, err
	}
	return there, added, nil
}

// Swap implements Store.
func (s *bolt) Swap(ctx context.Context, old, new Record) (swapped bool, err error) {
	if err := beginSwap(ctx, old, new); err != nil {
		return false, err
	}
	now := s.o.Now()
	items := itemsOf(now, new)
	err = s.write(func(w *writer) error {
		there, is, err := w.live(now, old.Kind, old.Key)
		if swapped = is && bytes.Equal(there.Value, old.Value); err != nil || !swapped {
			return err
		}
		return w.putAll(now, items)
	})
	return swapped && err == nil, err
}

// live returns the record of a key, and reports whether there is one that has not ended.
func (w *writer) live(now time.Time, k Kind, key string) (Record, bool, error) {
	value := bucket(w.tx, k).Get([]byte(key))
	if value == nil {
		return Record{}, false, nil
	}
	r, err := copied(k, key, value)
	if err != nil || !now.Before(r.End) {
		return Record{}, false, err
	}
	return r, true, nil
}

// set makes a change of a record.
func (w *writer) set(i item) error {
	if i.value == nil {
		return w.take(i.kind, []byte(i.key))
	}
	return w.put(i.kind, []byte(i.key), i.value)
}

// put puts a record in the place of an earlier one.
func (w *writer) put(k Kind, key, value []byte) error {
	b, a := bucket(w.tx, k), w.accounts[k]
	if was := b.Get(key); was != nil {
		a.less(fileSize(key, was))
	} else if err := b.SetSequence(b.Sequence() + 1); err != nil {
		return err
	}
	a.add(fileSize(key, value))
	w.changed = true
	return b.Put(key, value)
}

// take deletes a record, if there is one.
func (w *writer) take(k Kind, key []byte) error {
	b := bucket(w.tx, k)
	was := b.Get(key)
	if was == nil {
		return nil
	}
	w.accounts[k].less(fileSize(key, was))
	w.changed = true
	if err := b.SetSequence(b.Sequence() - 1); err != nil {
		return err
	}
	return b.Delete(key)
}

// sweepFor sweeps a kind if that is due before n bytes are added.
func (w *writer) sweepFor(k Kind, n int64, now time.Time) error {
	if !w.accounts[k].due(n, now) {
		return nil
	}
	return w.sweep(k, now)
}

// sweep deletes the ended records of a kind.
func (w *writer) sweep(k Kind, now time.Time) error {
	var ended [][]byte // a cursor that deletes skips records
	records := 0
	err := bucket(w.tx, k).ForEach(func(key, value []byte) error {
		records++
		if len(value) < sumLen+endLen {
			return errDamaged
		}
		if !now.Before(endOf(value)) {
			ended = append(ended, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range ended {
		if err := w.take(k, key); err != nil {
			return err
		}
	}
	a := w.accounts[k]
	a.swept(a.bytes, records, now)
	return nil
}

// view runs a transaction that reads.
func (s *bolt) view(read func(*bbolt.Tx) error) error {
	return guard(func() error { return s.db.View(read) })
}

// Get implements Store.
func (s *bolt) Get(ctx context.Context, k Kind, key string) (Record, error) {
	if err := begin(ctx, k); err != nil {
		return Record{}, err
	}
	var r Record
	var err error
	value, there := s.journal.get(recordKey{k, key})
	switch {
	case there && value != nil:
		r, err = copied(k, key, value)
	case !there && !s.none(k):
		err = s.view(func(tx *bbolt.Tx) (err error) {
			if value = bucket(tx, k).Get([]byte(key)); value != nil {
				r, err = copied(k, key, value)
			}
			return err
		})
	}
	if err != nil {
		return Record{}, s.said(err)
	}
	if value == nil || !s.o.Now().Before(r.End) {
		return Record{}, ErrNotFound
	}
	return r, nil
}

// Delete implements Store.
func (s *bolt) Delete(ctx context.Context, k Kind, keys ...string) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	items := make([]item, len(keys))
	for n, key := range keys {
		items[n].recordKey = recordKey{k, key}
	}
	if s.journal.take(items) {
		return nil
	}
	return s.write(func(w *writer) error {
		for _, i := range items {
			if err := w.set(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// All implements Store. It holds no transaction while it yields: once the file has to grow, a Put in the same goroutine would wait
// for that transaction for ever.
func (s *bolt) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		newer := s.journal.all(k)
		var from []byte
		for {
			records, next, err := s.some(ctx, k, from, newer)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			if from = next; from == nil {
				break
			}
		}
		for _, key := range slices.Sorted(maps.Keys(newer)) {
			value := newer[key]
			if value == nil || !s.o.Now().Before(endOf(value)) {
				continue
			}
			err := begin(ctx, k)
			var r Record
			if err == nil {
				r, err = copied(k, key, value)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// some reads up to chunk records from a key on, but for those in without. It returns those that have not ended, and the key to go on
// with, or nil at the end.
func (s *bolt) some(ctx context.Context, k Kind, from []byte, without map[string][]byte) (records []Record, next []byte, err error) {
	if err := begin(ctx, k); err != nil {
		return nil, nil, err
	}
	now := s.o.Now()
	err = s.view(func(tx *bbolt.Tx) error {
		c := bucket(tx, k).Cursor()
		key, value := c.Seek(from)
		for n := 0; key != nil && n < chunk; n++ {
			r, err := copied(k, string(key), value)
			if err != nil {
				return err
			}
			if _, is := without[r.Key]; !is && now.Before(r.End) {
				records = append(records, r)
			}
			key, value = c.Next()
		}
		next = bytes.Clone(key)
		return nil
	})
	return records, next, s.said(err)
}

// Close implements Store.
func (s *bolt) Close() error {
	s.feed.close()
	var err error
	s.closing.Do(func() {
		s.journal.ends()
		err = s.write(func(*writer) error { return nil })
		// The journal is removed while the file is still locked.
		err = errors.Join(err, s.journal.close(), s.said(s.db.Close()))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken = nil
	})
	return err
}

// fileSize returns the bytes that a record uses in the file. After a split, pages are half full. When many records have ended, bbolt
// writes all pages of their kind again before it frees the old ones. See TestFileSize.
func fileSize[K text](key K, value []byte) int64 {
	return int64(len(key)+len(value)+fileOverhead) * 5 / 2
}

func encode(r Record) []byte {
	b := make([]byte, 0, sumLen+endLen+len(r.Value))
	b = append(b, make([]byte, sumLen)...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.End.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.End.Nanosecond()))
	b = append(b, r.Value...)
	binary.BigEndian.PutUint32(b, sum(r.Key, b[sumLen:]))
	return b
}

// summed converts a value of format 1 to format 2.
func summed(key, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, sum(key, value)), value...)
}

// text is how a key is at hand.
type text interface{ string | []byte }

func sum[K text](key K, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, rest)
}

// decode returns the record of a key, without the key.
func decode[K text](key K, value []byte) (Record, error) {
	if len(value) < sumLen+endLen || binary.BigEndian.Uint32(value) != sum(key, value[sumLen:]) {
		return Record{}, errDamaged
	}
	return Record{Value: value[sumLen+endLen:], End: endOf(value)}, nil
}

func endOf(value []byte) time.Time {
	end := value[sumLen:]
	return time.Unix(int64(binary.BigEndian.Uint64(end)), int64(binary.BigEndian.Uint32(end[8:]))).UTC()
}

// copied decodes a record that outlives the transaction.
func copied(k Kind, key string, value []byte) (Record, error) {
	r, err := decode(key, value)
	r.Kind, r.Key, r.Value = k, key, bytes.Clone(r.Value)
	return r, err
}

// noRoom reports whether an error says that the disk is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
