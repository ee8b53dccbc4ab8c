package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// lockTimeout is how long Open waits for an usher that is about to end.
	lockTimeout = 3 * time.Second
	// batchDelay is how long a Put waits for others to share its sync of the disk with. It is small beside the sync.
	batchDelay = time.Millisecond
	// chunk is how many records All reads at a time.
	chunk = 256
)

// The bucket of usher holds a bucket for each kind, and the format of it all, so that another program's bbolt file is not taken
// for ours. In the bucket of a kind a key has the end of its record (seconds since 1970 in 8 bytes, nanoseconds in 4), then
// its value. The bucket's sequence number counts its records.
var (
	usherBucket = []byte("usher")
	formatKey   = []byte("format")
	format      = []byte("1")
)

const endLen = 12

var errDamaged = errors.New("a record is damaged")

// Open opens the store in a file, and makes the file if there is none or it is empty. Its errors are for whoever runs usher: they name
// the path, and say what to do.
func Open(path string, o Options) (_ Store, err error) {
	// bbolt panics over, or faults on, a damaged page.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil { // with a key in it, perhaps
			err = damaged(path, errors.New("its pages do not fit together"))
		}
	}()
	o = o.orDefaults()
	s := &bolt{path: path, now: o.Now, limit: o.Limit, sweeps: map[Kind]*sweep{}}
	for _, k := range kinds {
		s.sweeps[k] = &sweep{}
	}
	if err := whole(path); err != nil {
		return nil, err
	}
	// Which pages are free is found out again each time, by going through those that are not: what is not written down is not
	// damaged, and each Put writes less.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	if err != nil {
		return nil, openError(path, err)
	}
	db.MaxBatchDelay = batchDelay
	s.db = db
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// whole tells whether there is nothing at the path, or a store of usher that can be read from end to end. Otherwise a damaged
// page would be found in the middle of some later Put, in a goroutine of bbolt's own, where a panic ends usher. (tx.Check is no
// help: it has such a goroutine, too.)
func whole(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return openError(path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("store %s: this is no file; name a file, in a folder that usher may write into", path)
	case info.Size() == 0:
		return nil
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout, NoStatistics: true})
	if err != nil {
		return openError(path, err)
	}
	defer db.Close() // it was only read
	return db.View(func(tx *bbolt.Tx) error { return read(path, tx) })
}

// read reads all that is in a file.
func read(path string, tx *bbolt.Tx) error {
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	if tx.Size() > info.Size() {
		return damaged(path, fmt.Errorf("%d bytes of %d are there", info.Size(), tx.Size()))
	}
	first, value := tx.Cursor().First()
	switch {
	case first == nil: // made, and not yet used
		return nil
	case value != nil || !bytes.Equal(first, usherBucket):
		return fmt.Errorf("store %s: this file belongs to another program; name another path", path)
	}
	all := tx.Bucket(usherBucket)
	if found := all.Get(formatKey); !bytes.Equal(found, format) {
		return fmt.Errorf("store %s: written by another version of usher, in format %.20q where this one knows %q; run that version, or "+
			"move the file away", path, found, format)
	}
	err = all.ForEachBucket(func(kind []byte) error {
		b := all.Bucket(kind)
		if b == nil {
			return errDamaged
		}
		var found uint64
		var last []byte
		err := b.ForEach(func(key, value []byte) error {
			// Lengths are looked at before bytes, which may be out of the file. That each key is found again says that the pages
			// above it are right.
			if len(key) > MaxKey || len(value) > endLen+MaxValue || bytes.Compare(last, key) >= 0 || b.Get(key) == nil {
				return errDamaged
			}
			found++
			last = key
			_, err := decode(key, value)
			return err
		})
		if err == nil && found != b.Sequence() {
			err = fmt.Errorf("%d records of %d are there", found, b.Sequence())
		}
		return err
	})
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("store %s: not a store of usher, or damaged (%w); put a backup in its place, or move it away: usher then "+
		"begins a new one, and people show their tokens again", path, err)
}

// openError puts in words why a file could not be opened.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("store %s: another usher uses it; stop that one, or give each a file of its own", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store %s: there is no folder %s; make it, and let usher write into it", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("store %s: usher may not read and write it (%w); make the file, and the folder, its own", path, err)
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("store %s: cannot be opened: %w", path, err)
	}
	return damaged(path, err)
}

type bolt struct {
	path   string
	now    func() time.Time
	limit  int
	db     *bbolt.DB
	sweeps map[Kind]*sweep // only touched in a transaction that writes, of which there is one at a time
}

// prepare sees to it that all buckets are there, and that the file can be written.
func (s *bolt) prepare() error {
	return s.said(s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(usherBucket)
		if err != nil {
			return err
		}
		for _, k := range kinds {
			if _, err := b.CreateBucketIfNotExists([]byte(k)); err != nil {
				return err
			}
		}
		return b.Put(formatKey, format)
	}))
}

// said puts an error of bbolt in words.
func (s *bolt) said(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}

func bucket(tx *bbolt.Tx, k Kind) *bbolt.Bucket { return tx.Bucket(usherBucket).Bucket([]byte(k)) }

// Put implements Store.
func (s *bolt) Put(ctx context.Context, k Kind, r Record) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	if err := fit(r); err != nil {
		return err
	}
	now := s.now()
	if !now.Before(r.End) {
		return s.Delete(ctx, k, r.Key)
	}
	key, value := []byte(r.Key), encode(r)
	var full bool
	// A function that fails makes bbolt do its whole batch again, so being full is no failure to it.
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		full = false
		b := bucket(tx, k)
		if b.Get(key) == nil {
			count := int(b.Sequence())
			if s.sweeps[k].due(count, s.limit, now) {
				var err error
				if count, err = s.sweep(b, now); err != nil {
					return err
				}
				s.sweeps[k].done(count, now)
			}
			if full = count >= s.limit; full {
				return b.SetSequence(uint64(count))
			}
			if err := b.SetSequence(uint64(count) + 1); err != nil {
				return err
			}
		}
		return b.Put(key, value)
	})
	if err == nil && full {
		return ErrFull
	}
	return s.said(err)
}

// sweep takes away the records that have ended, and returns how many are left.
func (s *bolt) sweep(b *bbolt.Bucket, now time.Time) (int, error) {
	var ended [][]byte // a cursor that deletes skips records
	left := 0
	err := b.ForEach(func(key, value []byte) error {
		r, err := decode(key, value)
		if err != nil {
			return err
		}
		if now.Before(r.End) {
			left++
		} else {
			ended = append(ended, key)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range ended {
		if err := b.Delete(key); err != nil {
			return 0, err
		}
	}
	return left, nil
}

// Get implements Store.
func (s *bolt) Get(ctx context.Context, k Kind, key string) (Record, error) {
	if err := begin(ctx, k); err != nil {
		return Record{}, err
	}
	var r Record
	there := false
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		value := bucket(tx, k).Get([]byte(key))
		if value == nil {
			return nil
		}
		there = true
		r, err = decode([]byte(key), value)
		return err
	})
	if err != nil {
		return Record{}, s.said(err)
	}
	if !there || !s.now().Before(r.End) {
		return Record{}, ErrNotFound
	}
	return r, nil
}

// Delete implements Store.
func (s *bolt) Delete(ctx context.Context, k Kind, keys ...string) error {
	if err := begin(ctx, k); err != nil {
		return err
	}
	// To find nothing is cheap; to write that down would not be.
	any := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		for _, key := range keys {
			any = any || bucket(tx, k).Get([]byte(key)) != nil
		}
		return nil
	})
	if err != nil || !any {
		return s.said(err)
	}
	return s.said(s.db.Batch(func(tx *bbolt.Tx) error {
		b := bucket(tx, k)
		count := b.Sequence()
		for _, key := range keys {
			if b.Get([]byte(key)) == nil {
				continue
			}
			count--
			if err := b.Delete([]byte(key)); err != nil {
				return err
			}
		}
		return b.SetSequence(count)
	}))
}

// All implements Store. It holds no transaction while it yields: a Put in the same goroutine would wait for that for ever, once the
// file has to grow.
func (s *bolt) All(ctx context.Context, k Kind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var from []byte
		for {
			records, next, err := s.some(ctx, k, from)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			from = next
		}
	}
}

// some looks at up to chunk records from a key on. It returns those whose end has not passed, and where to go on; nil at the
// end.
func (s *bolt) some(ctx context.Context, k Kind, from []byte) (records []Record, next []byte, err error) {
	if err := begin(ctx, k); err != nil {
		return nil, nil, err
	}
	now := s.now()
	err = s.db.View(func(tx *bbolt.Tx) error {
		c := bucket(tx, k).Cursor()
		key, value := c.Seek(from)
		for n := 0; key != nil && n < chunk; n++ {
			r, err := decode(key, value)
			if err != nil {
				return err
			}
			if now.Before(r.End) {
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
func (s *bolt) Close() error { return s.said(s.db.Close()) }

func encode(r Record) []byte {
	b := make([]byte, 0, endLen+len(r.Value))
	b = binary.BigEndian.AppendUint64(b, uint64(r.End.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.End.Nanosecond()))
	return append(b, r.Value...)
}

// decode copies what it returns, for bbolt's bytes are gone with the transaction.
func decode(key, value []byte) (Record, error) {
	if len(value) < endLen {
		return Record{}, errDamaged
	}
	return Record{
		Key:   string(key),
		Value: bytes.Clone(value[endLen:]),
		End:   time.Unix(int64(binary.BigEndian.Uint64(value)), int64(binary.BigEndian.Uint32(value[8:]))).UTC(),
	}, nil
}
